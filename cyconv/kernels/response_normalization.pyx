"""Local response normalisation, over neighbouring channels.

An array is [outer][channels][inner]; tiles of pixels are worked on, all channels of them. Where inner is 1, channels
lie side by side: a tile is transposed on its way in and out, so that vectors go along pixels in either memory order.
"""

from cython.parallel cimport prange
from libc.stdint cimport uint64_t

cimport numpy as cnp

from cyconv.kernels._workspace cimport Workspace, take
from cyconv.kernels.simd cimport flush_denormals, real, restore_denormals, transpose

cnp.import_array()

ctypedef Py_ssize_t index

cdef extern from "response.h" nogil:
    void response_f32(float* y, index y_pitch, const float* x, index pitch, index channels, index n, index size,
                      index before, float a, float beta, float k) noexcept
    void response_f64(double* y, index y_pitch, const double* x, index pitch, index channels, index n, index size,
                      index before, double a, double beta, double k) noexcept
    void response_gradient_f32(float* dx, index dx_pitch, const float* dy, const float* x, index pitch, index channels,
                               index n, index size, index before, float a, float beta, float k, float* scratch) noexcept
    void response_gradient_f64(double* dx, index dx_pitch, const double* dy, const double* x, index pitch,
                               index channels, index n, index size, index before, double a, double beta, double k,
                               double* scratch) noexcept

cdef enum:
    PIXELS = 64  # of a tile: with 256 channels it fits into the second-level cache
    TASKS = 64  # at most: each has memory of its own


cdef struct Case:
    index size, outer, channels, inner
    double a, beta, k


def normalize(cnp.ndarray y, cnp.ndarray x, index size, double alpha, double beta, double k, index outer,
              index channels, index inner, int threads):
    """y = x / (k + alpha / size * the sum of x^2 over `size` channels)^beta; no extent is 0."""
    run(cnp.PyArray_DATA(y), NULL, x, Case(size, outer, channels, inner, alpha / size, beta, k), threads)


def normalize_backward(cnp.ndarray dx, cnp.ndarray dy, cnp.ndarray x, index size, double alpha, double beta, double k,
                       index outer, index channels, index inner, int threads):
    """dx from dy and x."""
    run(cnp.PyArray_DATA(dx), cnp.PyArray_DATA(dy), x, Case(size, outer, channels, inner, alpha / size, beta, k),
        threads)


cdef int run(void* out, const void* dy, cnp.ndarray x, Case c, int threads) except -1:
    if cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT:
        run_tiles[float](<float*>out, <const float*>dy, <const float*>cnp.PyArray_DATA(x), c, threads)
    else:
        run_tiles[double](<double*>out, <const double*>dy, <const double*>cnp.PyArray_DATA(x), c, threads)
    return 0


cdef int run_tiles(real* out, const real* dy, const real* x, Case case, int threads) except -1:
    cdef Case c = case
    cdef index extent = c.outer if c.inner == 1 else c.inner, row = (extent + PIXELS - 1) // PIXELS
    cdef index tiles = row if c.inner == 1 else c.outer * row, tasks = min(<index>TASKS, tiles)
    cdef index each = (tiles + tasks - 1) // tasks, room = 3 * c.channels * PIXELS, i
    cdef Workspace memory = take(tasks * room * sizeof(real))
    cdef real* scratch = <real*>memory.data
    with nogil:
        for i in prange(tasks, schedule="static", num_threads=threads):
            some_tiles(&c, out, dy, x, i * each, min(tiles, (i + 1) * each), row, scratch + i * room)
    return 0


cdef void some_tiles(const Case* c, real* out, const real* dy, const real* x, index first, index end, index row,
                     real* scratch) noexcept nogil:
    cdef uint64_t mode = flush_denormals()
    cdef index tile, at, n, size = c.channels * PIXELS
    cdef real* inside = scratch + 2 * size
    for tile in range(first, end):
        if c.inner == 1:
            at = tile * PIXELS * c.channels
            n = min(<index>PIXELS, c.outer - tile * PIXELS)
            transpose(x + at, c.channels, n, c.channels, scratch, PIXELS)
            if dy != NULL:
                transpose(dy + at, c.channels, n, c.channels, scratch + size, PIXELS)
                one_tile(c, scratch + size, PIXELS, <const real*>(scratch + size), <const real*>scratch, PIXELS, n,
                         inside)
            else:
                one_tile(c, scratch + size, PIXELS, NULL, <const real*>scratch, PIXELS, n, inside)
            transpose(<const real*>(scratch + size), PIXELS, c.channels, n, out + at, c.channels)
        else:
            at = tile // row * c.channels * c.inner + tile % row * PIXELS
            n = min(<index>PIXELS, c.inner - tile % row * PIXELS)
            one_tile(c, out + at, c.inner, NULL if dy == NULL else dy + at, x + at, c.inner, n, inside)
    restore_denormals(mode)


cdef inline void one_tile(const Case* c, real* out, index out_pitch, const real* dy, const real* x, index pitch,
                          index n, real* scratch) noexcept nogil:
    cdef index before = c.size // 2
    if real is float:
        if dy == NULL:
            response_f32(out, out_pitch, x, pitch, c.channels, n, c.size, before, <float>c.a, <float>c.beta, <float>c.k)
        else:
            response_gradient_f32(out, out_pitch, dy, x, pitch, c.channels, n, c.size, before, <float>c.a,
                                  <float>c.beta, <float>c.k, scratch)
    else:
        if dy == NULL:
            response_f64(out, out_pitch, x, pitch, c.channels, n, c.size, before, c.a, c.beta, c.k)
        else:
            response_gradient_f64(out, out_pitch, dy, x, pitch, c.channels, n, c.size, before, c.a, c.beta, c.k,
                                  scratch)
