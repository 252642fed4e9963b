"""Steps of optimisers, in place, from the loops in updates.h, of many parameters at a time.

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
    bint double_
    index first, n  # its first chunk among those of all parameters; elements
    double f[9]  # the method's factors, in the order of its loop
    # parameters, gradient, and what is kept: NULL where the method does without
    char* p
    char* grad
    char* kept[3]


cdef char* data_of(array) except? NULL:
    return NULL if array is None else <char*>cnp.PyArray_DATA(array)


def sgd(list jobs, factors, int threads):
    """``jobs``: (p, grad, velocity) for each parameter; ``factors``: sign, decay, keep, take, along the gradient, along
    the velocity."""
    run(SGD, jobs, factors, threads)


def adam(list jobs, factors, int threads):
    """``jobs``: (p, grad, mean, square, most); ``factors``: sign, decay, shrink, take1, keep2, take2, rate, scale,
    eps."""
    run(ADAM, jobs, factors, threads)


def rmsprop(list jobs, factors, int threads):
    """``jobs``: (p, grad, square, mean, velocity); ``factors``: sign, decay, keep, take, rate, momentum, eps."""
    run(RMSPROP, jobs, factors, threads)


def adagrad(list jobs, factors, int threads):
    """``jobs``: (p, grad, total); ``factors``: sign, decay, rate, eps."""
    run(ADAGRAD, jobs, factors, threads)


cdef int run(Method method, list jobs, tuple factors, int threads) except -1:
    """All parameters at once: their chunks are dealt out together."""
    cdef index count = len(jobs), i, k, chunks = 0
    cdef Workspace memory = take((count + 1) * sizeof(Step))
    cdef Step* steps = <Step*>memory.data
    cdef Step* s
    for i in range(count):
        job = <tuple>jobs[i]
        s = steps + i
        s.method, s.first, s.n = method, chunks, cnp.PyArray_SIZE(job[0])
        s.double_ = cnp.PyArray_TYPE(job[0]) == cnp.NPY_DOUBLE
        s.p, s.grad = data_of(job[0]), data_of(job[1])
        for k in range(3):
            s.kept[k] = data_of(job[2 + k]) if 2 + k < len(job) else NULL
        for k in range(len(factors)):
            s.f[k] = factors[k]
        chunks += (s.n + CHUNK - 1) // CHUNK
    with nogil:
        if threads == 1:
            for i in range(chunks):
                one_chunk(steps, count, i)
        else:
            for i in prange(chunks, schedule="static", num_threads=threads):
                one_chunk(steps, count, i)
    return 0


cdef void one_chunk(const Step* steps, index count, index chunk) noexcept nogil:
    cdef index low = 0, high = count, middle
    cdef const Step* s
    while high - low > 1:  # the last parameter that begins at this chunk or before; those without elements have none
        middle = (low + high) // 2
        if steps[middle].first <= chunk:
            low = middle
        else:
            high = middle
    s = steps + low
    chunk = (chunk - s.first) * CHUNK
    if s.double_:
        step[double](s, chunk, min(<index>CHUNK, s.n - chunk), NULL)
    else:
        step[float](s, chunk, min(<index>CHUNK, s.n - chunk), NULL)


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
