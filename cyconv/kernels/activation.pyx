"""Activations with parameters, from the table in activations.h, and the one whose parameter is learned.

Arrays are flat stretches of memory, cut into chunks of a fixed length, as in pointwise.pyx; those of `prelu` are
[outer][channels][inner].
"""

from cython.parallel cimport prange
from libc.stdint cimport uint64_t
from libc.string cimport memset

cimport numpy as cnp

from cyconv.kernels._workspace cimport Workspace, take
from cyconv.kernels.simd cimport flush_denormals, real, restore_denormals

cnp.import_array()

ctypedef Py_ssize_t index

cdef extern from "activations.h" nogil:
    ctypedef void (*activation_t)(void* y, const void* x, index n, const void* p) noexcept nogil
    ctypedef void (*activation_gradient_t)(void* dx, const void* dy, const void* x, index n,
                                           const void* p) noexcept nogil
    ctypedef struct activation_row:
        const char* name
        activation_t of[2]
        activation_gradient_t gradient[2]
    void prelu_terms_f32(float* to, const float* dy, const float* x, index n) noexcept
    void prelu_terms_f64(double* to, const double* dy, const double* x, index n) noexcept
    const activation_row activations[1]
    int ACTIVATION_COUNT

# Elements of a chunk, as in pointwise.pyx, and blocks of rows of channels.
cdef enum:
    CHUNK = 8192
    BLOCKS = 32
    FEW = 512  # terms that are computed before they are added up

#: Number of each activation in the table.
NUMBERS = {activations[k].name.decode(): k for k in range(ACTIVATION_COUNT)}


cdef union Parameters:
    float single[2]
    double twice[2]


cdef Parameters parameters(bint double_, double first, double second) noexcept:
    cdef Parameters p
    if double_:
        p.twice[0], p.twice[1] = first, second
    else:
        p.single[0], p.single[1] = <float>first, <float>second
    return p


def apply(int number, cnp.ndarray y, cnp.ndarray x, double first, double second, int threads):
    """y = the activation of x, with two parameters."""
    cdef int double_ = cnp.PyArray_TYPE(x) == cnp.NPY_DOUBLE
    cdef activation_t f = activations[number].of[double_]
    cdef Parameters p = parameters(double_, first, second)
    cdef char* to = <char*>cnp.PyArray_DATA(y)
    cdef const char* source = <const char*>cnp.PyArray_DATA(x)
    cdef index n = cnp.PyArray_SIZE(x), size = 8 if double_ else 4, chunks = (n + CHUNK - 1) // CHUNK, i
    with nogil:
        if threads == 1 or chunks < 2:
            apply_chunk(f, to, source, n, &p)
        else:
            for i in prange(chunks, schedule="static", num_threads=threads):
                apply_chunk(f, to + i * CHUNK * size, source + i * CHUNK * size, min(<index>CHUNK, n - i * CHUNK), &p)


cdef void apply_chunk(activation_t f, void* y, const void* x, index n, const void* p) noexcept nogil:
    cdef uint64_t mode = flush_denormals()
    f(y, x, n, p)
    restore_denormals(mode)


def differentiate(int number, cnp.ndarray dx, cnp.ndarray dy, cnp.ndarray x, double first, double second, int threads):
    """dx = dy times the activation's derivative at x."""
    cdef int double_ = cnp.PyArray_TYPE(x) == cnp.NPY_DOUBLE
    cdef activation_gradient_t f = activations[number].gradient[double_]
    cdef Parameters p = parameters(double_, first, second)
    cdef char* to = <char*>cnp.PyArray_DATA(dx)
    cdef const char* gradient = <const char*>cnp.PyArray_DATA(dy)
    cdef const char* source = <const char*>cnp.PyArray_DATA(x)
    cdef index n = cnp.PyArray_SIZE(x), size = 8 if double_ else 4, chunks = (n + CHUNK - 1) // CHUNK, i, at
    with nogil:
        if threads == 1 or chunks < 2:
            differentiate_chunk(f, to, gradient, source, n, &p)
        else:
            for i in prange(chunks, schedule="static", num_threads=threads):
                at = i * CHUNK * size
                differentiate_chunk(f, to + at, gradient + at, source + at, min(<index>CHUNK, n - i * CHUNK), &p)


cdef void differentiate_chunk(activation_gradient_t f, void* dx, const void* dy, const void* x, index n,
                              const void* p) noexcept nogil:
    cdef uint64_t mode = flush_denormals()
    f(dx, dy, x, n, p)
    restore_denormals(mode)


# ------------------------------------------------------------------------------------------------------------- prelu


def prelu(cnp.ndarray y, cnp.ndarray x, cnp.ndarray weight, index outer, index channels, index inner, int threads):
    """y = x where x > 0, else x times its channel's weight."""
    if cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT:
        run_prelu[float](<float*>cnp.PyArray_DATA(y), NULL, NULL, <const float*>cnp.PyArray_DATA(x),
                         <const float*>cnp.PyArray_DATA(weight), outer, channels, inner, threads)
    else:
        run_prelu[double](<double*>cnp.PyArray_DATA(y), NULL, NULL, <const double*>cnp.PyArray_DATA(x),
                          <const double*>cnp.PyArray_DATA(weight), outer, channels, inner, threads)


def prelu_backward(cnp.ndarray dx, cnp.ndarray dweight, cnp.ndarray dy, cnp.ndarray x, cnp.ndarray weight, index outer,
                   index channels, index inner, int threads):
    """dx, and dweight of float64: the sum of dy x over the elements of a channel that are not above 0."""
    if cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT:
        run_prelu[float](<float*>cnp.PyArray_DATA(dx), <double*>cnp.PyArray_DATA(dweight),
                         <const float*>cnp.PyArray_DATA(dy), <const float*>cnp.PyArray_DATA(x),
                         <const float*>cnp.PyArray_DATA(weight), outer, channels, inner, threads)
    else:
        run_prelu[double](<double*>cnp.PyArray_DATA(dx), <double*>cnp.PyArray_DATA(dweight),
                          <const double*>cnp.PyArray_DATA(dy), <const double*>cnp.PyArray_DATA(x),
                          <const double*>cnp.PyArray_DATA(weight), outer, channels, inner, threads)


cdef int run_prelu(real* out, double* dweight, const real* dy, const real* x, const real* weight, index outer,
                   index channels, index inner, int threads) except -1:
    # Stretches of one channel are cut into pieces; where channels lie side by side, rows of them into blocks.
    cdef bint columns = inner == 1 and channels > 1
    cdef index pieces = (inner + CHUNK - 1) // CHUNK
    cdef index each = (outer + BLOCKS - 1) // BLOCKS, tasks = outer * channels * pieces, i, k
    cdef index sums = channels if columns else 1
    if columns:
        tasks = (outer + each - 1) // each
    cdef Workspace memory = take(tasks * sums * sizeof(double) if dy != NULL else 0)
    cdef double* partial = <double*>memory.data
    with nogil:
        for i in prange(tasks, schedule="static", num_threads=threads):
            if columns:
                prelu_rows(out, partial + i * channels, dy, x, weight, i * each, min(outer, (i + 1) * each), channels)
            else:
                prelu_piece(out, partial + i, dy, x, weight[i // pieces % channels],
                            i // pieces * inner + i % pieces * CHUNK, min(<index>CHUNK, inner - i % pieces * CHUNK))
        if dy != NULL:
            for i in range(tasks):
                for k in range(sums):
                    dweight[k if columns else i // pieces % channels] += partial[i * sums + k]
    return 0


cdef inline void terms(real* to, const real* dy, const real* x, index n) noexcept nogil:
    if real is float:
        prelu_terms_f32(to, dy, x, n)
    else:
        prelu_terms_f64(to, dy, x, n)


cdef inline double sum_of(const real* values, index n) noexcept nogil:
    cdef double sums[8]
    cdef index i, k, whole = n - n % 8
    for k in range(8):
        sums[k] = 0
    for i in range(0, whole, 8):
        for k in range(8):  # eight sums side by side: what a compiler may make a vector of
            sums[k] += values[i + k]
    for i in range(whole, n):
        sums[i - whole] += values[i]
    return ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]))


cdef void prelu_piece(real* out, double* partial, const real* dy, const real* x, real weight, index at,
                      index n) noexcept nogil:
    cdef uint64_t mode = flush_denormals()
    cdef real each[FEW]
    cdef double total = 0
    cdef index i, k, few
    out += at
    x += at
    if dy == NULL:
        for i in range(n):
            out[i] = x[i] if x[i] > 0 else x[i] * weight
    else:
        dy += at
        for i in range(n):
            out[i] = dy[i] if x[i] > 0 else dy[i] * weight
        for k in range((n + FEW - 1) // FEW):
            few = min(<index>FEW, n - k * FEW)
            terms(each, dy + k * FEW, x + k * FEW, few)
            total += sum_of(each, few)
        partial[0] = total
    restore_denormals(mode)


cdef void prelu_rows(real* out, double* partial, const real* dy, const real* x, const real* weight, index first,
                     index end, index n) noexcept nogil:
    cdef uint64_t mode = flush_denormals()
    cdef real each[FEW]
    cdef index j, k, row, i, few
    if dy != NULL:
        memset(partial, 0, n * sizeof(double))
    for k in range(first, end):
        row = k * n
        if dy == NULL:
            for i in range(n):
                out[row + i] = x[row + i] if x[row + i] > 0 else x[row + i] * weight[i]
        else:
            for i in range(n):
                out[row + i] = dy[row + i] if x[row + i] > 0 else dy[row + i] * weight[i]
            for j in range((n + FEW - 1) // FEW):
                few = min(<index>FEW, n - j * FEW)
                terms(each, dy + row + j * FEW, x + row + j * FEW, few)
                for i in range(few):
                    partial[j * FEW + i] += each[i]
    restore_denormals(mode)
