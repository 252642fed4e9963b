"""Steps of optimisers, in place, from the loops in updates.h.

Arrays are flat stretches of memory in one memory order, cut into chunks of a fixed length, as in pointwise.pyx.
"""

from cython.parallel cimport prange
from libc.stdint cimport uint64_t

cimport numpy as cnp

from cyconv.kernels._workspace cimport Workspace, take
from cyconv.kernels.simd cimport flush_denormals, real, restore_denormals

cnp.import_array()

ctypedef Py_ssize_t index

cdef extern from "updates.h" nogil:
    void sgd_f32(float* p, const float* grad, float* v, index n, float sign, float decay, float keep, float taken,
                 float along_g, float along_v) noexcept
    void sgd_f64(double* p, const double* grad, double* v, index n, double sign, double decay, double keep,
                 double taken, double along_g, double along_v) noexcept
    void adam_f32(float* p, const float* grad, float* m, float* v, float* most, index n, float sign, float decay,
                  float shrink, float take1, float keep2, float take2, float rate, float scale, float eps) noexcept
    void adam_f64(double* p, const double* grad, double* m, double* v, double* most, index n, double sign, double decay,
                  double shrink, double take1, double keep2, double take2, double rate, double scale,
                  double eps) noexcept
    void rmsprop_f32(float* p, const float* grad, float* v, float* mean, float* velocity, index n, float sign,
                     float decay, float keep, float taken, float rate, float momentum, float eps) noexcept
    void rmsprop_f64(double* p, const double* grad, double* v, double* mean, double* velocity, index n, double sign,
                     double decay, double keep, double taken, double rate, double momentum, double eps) noexcept
    void adagrad_f32(float* p, const float* grad, float* total, index n, float sign, float decay, float rate,
                     float eps) noexcept
    void adagrad_f64(double* p, const double* grad, double* total, index n, double sign, double decay, double rate,
                     double eps) noexcept
    double sum_squares_f32(const float* x, index n) noexcept
    double sum_squares_f64(const double* x, index n) noexcept

cdef enum:
    CHUNK = 8192

ctypedef enum Method:
    SGD
    ADAM
    RMSPROP
    ADAGRAD


cdef struct Step:
    Method method
    double f[9]  # the method's factors, in the order of its loop
    # parameters, gradient, and what is kept: NULL where the method does without
    char* p
    char* grad
    char* kept[3]


cdef char* data_of(array) except? NULL:
    return NULL if array is None else <char*>cnp.PyArray_DATA(array)


def sgd(cnp.ndarray p, cnp.ndarray grad, velocity, factors, int threads):
    """``factors``: sign, decay, keep, take, along the gradient, along the velocity."""
    run(SGD, p, grad, (velocity,), factors, threads)


def adam(cnp.ndarray p, cnp.ndarray grad, mean, square, most, factors, int threads):
    """``factors``: sign, decay, shrink, take1, keep2, take2, rate, scale, eps."""
    run(ADAM, p, grad, (mean, square, most), factors, threads)


def rmsprop(cnp.ndarray p, cnp.ndarray grad, square, mean, velocity, factors, int threads):
    """``factors``: sign, decay, keep, take, rate, momentum, eps."""
    run(RMSPROP, p, grad, (square, mean, velocity), factors, threads)


def adagrad(cnp.ndarray p, cnp.ndarray grad, total, factors, int threads):
    """``factors``: sign, decay, rate, eps."""
    run(ADAGRAD, p, grad, (total,), factors, threads)


cdef int run(Method method, cnp.ndarray p, cnp.ndarray grad, tuple kept, tuple factors, int threads) except -1:
    cdef Step s
    cdef index n = cnp.PyArray_SIZE(p), chunks = (n + CHUNK - 1) // CHUNK, i
    cdef bint double_ = cnp.PyArray_TYPE(p) == cnp.NPY_DOUBLE
    s.method = method
    s.p, s.grad = data_of(p), data_of(grad)
    for i in range(3):
        s.kept[i] = data_of(kept[i]) if i < len(kept) else NULL
    for i in range(len(factors)):
        s.f[i] = factors[i]
    with nogil:
        if double_:
            for i in prange(chunks, schedule="static", num_threads=threads):
                step[double](&s, i * CHUNK, min(<index>CHUNK, n - i * CHUNK), <double*>s.p)
        else:
            for i in prange(chunks, schedule="static", num_threads=threads):
                step[float](&s, i * CHUNK, min(<index>CHUNK, n - i * CHUNK), <float*>s.p)
    return 0


cdef inline real* part(char* array, index first, real* model) noexcept nogil:
    return <real*>array + first if array != NULL else NULL


cdef void step(const Step* s, index first, index n, real* model) noexcept nogil:
    """The method's loop over a chunk; ``model`` says of which type the arrays are."""
    cdef uint64_t mode = flush_denormals()
    cdef real* p = part(s.p, first, model)
    cdef real* g = part(s.grad, first, model)
    cdef real* a = part(s.kept[0], first, model)
    cdef real* b = part(s.kept[1], first, model)
    cdef real* c = part(s.kept[2], first, model)
    cdef double* f = <double*>s.f
    if s.method == SGD:
        if real is float:
            sgd_f32(p, g, a, n, f[0], f[1], f[2], f[3], f[4], f[5])
        else:
            sgd_f64(p, g, a, n, f[0], f[1], f[2], f[3], f[4], f[5])
    elif s.method == ADAM:
        if real is float:
            adam_f32(p, g, a, b, c, n, f[0], f[1], f[2], f[3], f[4], f[5], f[6], f[7], f[8])
        else:
            adam_f64(p, g, a, b, c, n, f[0], f[1], f[2], f[3], f[4], f[5], f[6], f[7], f[8])
    elif s.method == RMSPROP:
        if real is float:
            rmsprop_f32(p, g, a, b, c, n, f[0], f[1], f[2], f[3], f[4], f[5], f[6])
        else:
            rmsprop_f64(p, g, a, b, c, n, f[0], f[1], f[2], f[3], f[4], f[5], f[6])
    elif real is float:
        adagrad_f32(p, g, a, n, f[0], f[1], f[2], f[3])
    else:
        adagrad_f64(p, g, a, n, f[0], f[1], f[2], f[3])
    restore_denormals(mode)


def sum_squares(cnp.ndarray x, int threads):
    """Return the sum of x^2 in double precision, chunk by chunk."""
    cdef bint double_ = cnp.PyArray_TYPE(x) == cnp.NPY_DOUBLE
    cdef index n = cnp.PyArray_SIZE(x), chunks = (n + CHUNK - 1) // CHUNK, i
    cdef char* data = data_of(x)
    cdef Workspace memory = take(chunks * sizeof(double))
    cdef double* partial = <double*>memory.data
    cdef double total = 0
    with nogil:
        for i in prange(chunks, schedule="static", num_threads=threads):
            if double_:
                partial[i] = sum_squares_f64(<double*>data + i * CHUNK, min(<index>CHUNK, n - i * CHUNK))
            else:
                partial[i] = sum_squares_f32(<float*>data + i * CHUNK, min(<index>CHUNK, n - i * CHUNK))
        for i in range(chunks):
            total += partial[i]
    return total
