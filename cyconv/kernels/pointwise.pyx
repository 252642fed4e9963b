"""Functions of one element: activations and their gradients, dropout.

Arrays are flat stretches of memory: the caller has brought all of them into one memory order. They are cut into chunks
of a fixed length; an element's value does not depend on the chunk it falls into.
"""

from cython.parallel cimport prange
from libc.stdint cimport uint8_t, uint64_t

cimport numpy as cnp

from cyconv.kernels.simd cimport flush_denormals, real, restore_denormals

cnp.import_array()

ctypedef Py_ssize_t index

cdef extern from "vecmath.h" nogil:
    void relu_f32(float* y, const float* x, Py_ssize_t n) noexcept
    void relu_f64(double* y, const double* x, Py_ssize_t n) noexcept
    void exp_f32(float* y, const float* x, Py_ssize_t n) noexcept
    void exp_f64(double* y, const double* x, Py_ssize_t n) noexcept
    void tanh_f32(float* y, const float* x, Py_ssize_t n) noexcept
    void tanh_f64(double* y, const double* x, Py_ssize_t n) noexcept
    void sigmoid_f32(float* y, const float* x, Py_ssize_t n) noexcept
    void sigmoid_f64(double* y, const double* x, Py_ssize_t n) noexcept
    void relu_backward_f32(float* dx, const float* dy, const float* x, Py_ssize_t n) noexcept
    void relu_backward_f64(double* dx, const double* dy, const double* x, Py_ssize_t n) noexcept
    void add_f32(float* z, const float* x, const float* y, Py_ssize_t n) noexcept
    void add_f64(double* z, const double* x, const double* y, Py_ssize_t n) noexcept
    void add_relu_f32(float* z, const float* x, const float* y, Py_ssize_t n) noexcept
    void add_relu_f64(double* z, const double* x, const double* y, Py_ssize_t n) noexcept
    void join_gradients_f32(float* z, const float* x, const float* y, const float* output, Py_ssize_t n) noexcept
    void join_gradients_f64(double* z, const double* x, const double* y, const double* output, Py_ssize_t n) noexcept
    void tanh_backward_f32(float* dx, const float* dy, const float* y, Py_ssize_t n) noexcept
    void tanh_backward_f64(double* dx, const double* dy, const double* y, Py_ssize_t n) noexcept
    void sigmoid_backward_f32(float* dx, const float* dy, const float* y, Py_ssize_t n) noexcept
    void sigmoid_backward_f64(double* dx, const double* dy, const double* y, Py_ssize_t n) noexcept

# Elements of a chunk: two or three streams of it stay in the first-level cache, and a thread has enough to do.
cdef enum:
    CHUNK = 8192

ctypedef enum Function:
    RELU
    EXP
    TANH
    SIGMOID
    ADD
    ADD_RELU

# A function of x; and one of two arrays, a sum or a gradient: dx from dy and the output (for the ReLU: from either).
ctypedef void (*apply_t)(void* y, const void* x, index n) noexcept nogil
ctypedef void (*combine_t)(void* z, const void* x, const void* y, index n) noexcept nogil

cdef apply_t functions[4][2]
functions[<int>RELU] = [<apply_t>relu_f32, <apply_t>relu_f64]
functions[<int>EXP] = [<apply_t>exp_f32, <apply_t>exp_f64]
functions[<int>TANH] = [<apply_t>tanh_f32, <apply_t>tanh_f64]
functions[<int>SIGMOID] = [<apply_t>sigmoid_f32, <apply_t>sigmoid_f64]

cdef combine_t combinations[6][2]
combinations[<int>RELU] = [<combine_t>relu_backward_f32, <combine_t>relu_backward_f64]
combinations[<int>ADD] = [<combine_t>add_f32, <combine_t>add_f64]
combinations[<int>ADD_RELU] = [<combine_t>add_relu_f32, <combine_t>add_relu_f64]
combinations[<int>TANH] = [<combine_t>tanh_backward_f32, <combine_t>tanh_backward_f64]
combinations[<int>SIGMOID] = [<combine_t>sigmoid_backward_f32, <combine_t>sigmoid_backward_f64]


def relu(cnp.ndarray y, cnp.ndarray x, int threads):
    """y = max(x, 0); NaN passes."""
    apply(RELU, y, x, threads)


def exp(cnp.ndarray y, cnp.ndarray x, int threads):
    """y = exp(x)."""
    apply(EXP, y, x, threads)


def tanh(cnp.ndarray y, cnp.ndarray x, int threads):
    """y = tanh(x)."""
    apply(TANH, y, x, threads)


def sigmoid(cnp.ndarray y, cnp.ndarray x, int threads):
    """y = 1 / (1 + exp(-x))."""
    apply(SIGMOID, y, x, threads)


def relu_backward(cnp.ndarray dx, cnp.ndarray dy, cnp.ndarray x, int threads):
    """dx = 0 where x <= 0, else dy; ``x`` may be the output as well."""
    combine(RELU, dx, dy, x, threads)


def add(cnp.ndarray z, cnp.ndarray x, cnp.ndarray y, bint rectified, int threads):
    """z = x + y, or max(x + y, 0) if ``rectified``; NaN passes."""
    combine(ADD_RELU if rectified else ADD, z, x, y, threads)


def join_gradients(cnp.ndarray z, cnp.ndarray x, cnp.ndarray y, output, int threads):
    """z = x + y, where ``output``, if it is not None, is above 0, else 0; z may be x."""
    cdef void* passed = NULL if output is None else cnp.PyArray_DATA(output)
    if cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT:
        run_join[float](<float*>cnp.PyArray_DATA(z), <const float*>cnp.PyArray_DATA(x),
                        <const float*>cnp.PyArray_DATA(y), <const float*>passed, cnp.PyArray_SIZE(x), threads)
    else:
        run_join[double](<double*>cnp.PyArray_DATA(z), <const double*>cnp.PyArray_DATA(x),
                         <const double*>cnp.PyArray_DATA(y), <const double*>passed, cnp.PyArray_SIZE(x), threads)


cdef int run_join(real* z, const real* x, const real* y, const real* output, index n, int threads) except -1:
    cdef index chunks = (n + CHUNK - 1) // CHUNK, i
    with nogil:
        if threads == 1 or chunks < 2:
            join_chunk(z, x, y, output, 0, n)
        else:
            for i in prange(chunks, schedule="static", num_threads=threads):
                join_chunk(z, x, y, output, i * CHUNK, min(<index>CHUNK, n - i * CHUNK))
    return 0


cdef void join_chunk(real* z, const real* x, const real* y, const real* output, index at, index n) noexcept nogil:
    cdef const real* passed = NULL
    if output != NULL:
        passed = output + at
    if real is float:
        join_gradients_f32(z + at, x + at, y + at, passed, n)
    else:
        join_gradients_f64(z + at, x + at, y + at, passed, n)


def tanh_backward(cnp.ndarray dx, cnp.ndarray dy, cnp.ndarray y, int threads):
    """dx = dy (1 - y^2)."""
    combine(TANH, dx, dy, y, threads)


def sigmoid_backward(cnp.ndarray dx, cnp.ndarray dy, cnp.ndarray y, int threads):
    """dx = dy y (1 - y)."""
    combine(SIGMOID, dx, dy, y, threads)


cdef int apply(Function function, cnp.ndarray y, cnp.ndarray x, int threads) except -1:
    cdef int double_ = cnp.PyArray_TYPE(x) == cnp.NPY_DOUBLE
    cdef apply_t f = functions[<int>function][double_]
    cdef char* to = <char*>cnp.PyArray_DATA(y)
    cdef const char* source = <const char*>cnp.PyArray_DATA(x)
    cdef index n = cnp.PyArray_SIZE(x), size = 8 if double_ else 4, chunks = (n + CHUNK - 1) // CHUNK, i
    # The ReLU only compares: with denormals flushed a tiny negative number would not be below zero.
    cdef bint flush = function != RELU
    with nogil:
        if threads == 1 or chunks < 2:
            apply_chunk(f, to, source, n, flush)
        else:
            for i in prange(chunks, schedule="static", num_threads=threads):
                apply_chunk(f, to + i * CHUNK * size, source + i * CHUNK * size, min(CHUNK, n - i * CHUNK), flush)
    return 0


cdef void apply_chunk(apply_t f, void* y, const void* x, index n, bint flush) noexcept nogil:
    cdef uint64_t mode
    if not flush:
        f(y, x, n)
        return
    mode = flush_denormals()
    f(y, x, n)
    restore_denormals(mode)


cdef int combine(Function function, cnp.ndarray z, cnp.ndarray x, cnp.ndarray y, int threads) except -1:
    # A function of two arrays, element by element: a sum, or a gradient of what is at hand of forward.
    cdef int double_ = cnp.PyArray_TYPE(y) == cnp.NPY_DOUBLE
    cdef combine_t f = combinations[<int>function][double_]
    cdef char* to = <char*>cnp.PyArray_DATA(z)
    cdef const char* first = <const char*>cnp.PyArray_DATA(x)
    cdef const char* second = <const char*>cnp.PyArray_DATA(y)
    cdef index n = cnp.PyArray_SIZE(y), size = 8 if double_ else 4, chunks = (n + CHUNK - 1) // CHUNK, i, at
    cdef bint flush = function == TANH or function == SIGMOID
    with nogil:
        if threads == 1 or chunks < 2:
            combine_chunk(f, to, first, second, n, flush)
        else:
            for i in prange(chunks, schedule="static", num_threads=threads):
                at = i * CHUNK * size
                combine_chunk(f, to + at, first + at, second + at, min(CHUNK, n - i * CHUNK), flush)
    return 0


cdef void combine_chunk(combine_t f, void* z, const void* x, const void* y, index n, bint flush) noexcept nogil:
    cdef uint64_t mode
    if not flush:
        f(z, x, y, n)
        return
    mode = flush_denormals()
    f(z, x, y, n)
    restore_denormals(mode)


cdef struct Keep:
    # what stays becomes x scale + shift, what does not becomes fill
    double scale, shift, fill


def keep(cnp.ndarray y, cnp.ndarray x, cnp.ndarray mask, double scale, double shift, double fill, int threads):
    """y = x scale + shift where mask (bool) is set, else fill."""
    cdef const uint8_t* chosen = <const uint8_t*>cnp.PyArray_DATA(mask)
    cdef Keep k = Keep(scale, shift, fill)
    if cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT:
        run_keep[float](<float*>cnp.PyArray_DATA(y), <const float*>cnp.PyArray_DATA(x), chosen, k,
                        cnp.PyArray_SIZE(x), threads)
    else:
        run_keep[double](<double*>cnp.PyArray_DATA(y), <const double*>cnp.PyArray_DATA(x), chosen, k,
                         cnp.PyArray_SIZE(x), threads)


cdef int run_keep(real* y, const real* x, const uint8_t* mask, Keep k, index n, int threads) except -1:
    cdef index chunks = (n + CHUNK - 1) // CHUNK, i
    with nogil:
        if threads == 1 or chunks < 2:
            keep_chunk(y, x, mask, k, n)
        else:
            for i in prange(chunks, schedule="static", num_threads=threads):
                keep_chunk(y + i * CHUNK, x + i * CHUNK, mask + i * CHUNK, k, min(<index>CHUNK, n - i * CHUNK))
    return 0


cdef void keep_chunk(real* y, const real* x, const uint8_t* mask, Keep k, index n) noexcept nogil:
    cdef uint64_t mode = flush_denormals()
    cdef index i
    cdef real scale = <real>k.scale, shift = <real>k.shift, fill = <real>k.fill
    for i in range(n):
        y[i] = x[i] * scale + shift if mask[i] else fill
    restore_denormals(mode)


def keep_channels(cnp.ndarray y, cnp.ndarray x, cnp.ndarray mask, double scale, double shift, double fill,
                  index outer, index channels, index space, bint last, int threads):
    """The same with a mask of [outer][channels]; x is [outer][channels][space], or [outer][space][channels] if last."""
    cdef const uint8_t* chosen = <const uint8_t*>cnp.PyArray_DATA(mask)
    cdef Keep k = Keep(scale, shift, fill)
    if cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT:
        run_channels[float](<float*>cnp.PyArray_DATA(y), <const float*>cnp.PyArray_DATA(x), chosen, k, outer, channels,
                            space, last, threads)
    else:
        run_channels[double](<double*>cnp.PyArray_DATA(y), <const double*>cnp.PyArray_DATA(x), chosen, k, outer,
                             channels, space, last, threads)


cdef int run_channels(real* y, const real* x, const uint8_t* mask, Keep k, index outer, index channels, index space,
                      bint last, int threads) except -1:
    # Tasks are runs of stretches that share a channel or, where channels lie side by side, of pixels.
    cdef index length = channels if last else space, rows = outer * (space if last else channels)
    cdef index each = max(<index>1, CHUNK // length), tasks = (rows + each - 1) // each, i
    with nogil:
        for i in prange(tasks, schedule="static", num_threads=threads):
            rows_of_channels(y, x, mask, k, i * each, min(rows, (i + 1) * each), length, space if last else 0)
    return 0


cdef void rows_of_channels(real* y, const real* x, const uint8_t* mask, Keep k, index first, index end, index n,
                           index pixels) noexcept nogil:
    """Rows of n elements; ``pixels``: so many of them have one row of the mask, or 0 where each has one value of it."""
    cdef uint64_t mode
    cdef index row, i
    cdef real scale = <real>k.scale, shift = <real>k.shift, fill = <real>k.fill
    for row in range(first, end):
        if pixels:
            keep_chunk(y + row * n, x + row * n, mask + row // pixels * n, k, n)
            continue
        mode = flush_denormals()
        if mask[row]:
            for i in range(row * n, row * n + n):
                y[i] = x[i] * scale + shift
        else:
            for i in range(row * n, row * n + n):
                y[i] = fill
        restore_denormals(mode)
