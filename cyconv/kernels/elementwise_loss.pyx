"""Losses of single elements and their gradients, from the table in losses.h.

Arrays are flat stretches of memory, in one memory order, cut into chunks of a fixed length. A weight is such an array
too, or the values of some neighbouring axes: value ``i // inner % length`` belongs to element i. Losses are added up in
double precision within a chunk, and the chunks' sums in their order.
"""

from cython.parallel cimport prange
from libc.stdint cimport uint64_t
from libc.string cimport memcpy

cimport numpy as cnp

from cyconv.kernels._workspace cimport Workspace, take
from cyconv.kernels.simd cimport flush_denormals, real, restore_denormals

cnp.import_array()

ctypedef Py_ssize_t index

cdef extern from "losses.h" nogil:
    ctypedef void (*loss_values_t)(void* losses, const void* x, const void* t, const void* w, const void* q, index n,
                                   double p) noexcept nogil
    ctypedef void (*loss_slopes_t)(void* dx, void* dt, const void* g, double factor, const void* x, const void* t,
                                   const void* w, const void* q, index n, double p) noexcept nogil
    ctypedef struct loss_row:
        const char* name
        loss_values_t values[2]
        loss_slopes_t slopes[2]
    const loss_row losses[1]
    int LOSS_COUNT
    int probabilities_f32(const float* x, index n) noexcept
    int probabilities_f64(const double* x, index n) noexcept
    double wide_sum_f32(const float* x, index n) noexcept
    double wide_sum_f64(const double* x, index n) noexcept

# Elements of a chunk, as in pointwise.pyx, and of a piece of it: the losses and weights of a piece stay on the stack.
cdef enum:
    CHUNK = 8192
    PIECE = 512

#: Number of each loss in the table.
NUMBERS = {losses[k].name.decode(): k for k in range(LOSS_COUNT)}


cdef struct Weight:
    const char* values  # or NULL
    index length, inner


cdef struct Terms:
    const char* x
    const char* t
    Weight w
    Weight q
    index size  # of an element in bytes
    bint limited  # x and t are probabilities
    double p


cdef Weight weight_of(given) except *:
    cdef Weight w
    w.values, w.length, w.inner = NULL, 0, 0
    if given is not None:
        w.values = <const char*>cnp.PyArray_DATA(given[0])
        w.length, w.inner = cnp.PyArray_SIZE(given[0]), given[1]
    return w


cdef Terms terms_of(cnp.ndarray x, cnp.ndarray target, weight, positive, bint limited, double p) except *:
    cdef Terms s
    s.x, s.t = <const char*>cnp.PyArray_DATA(x), <const char*>cnp.PyArray_DATA(target)
    s.w, s.q = weight_of(weight), weight_of(positive)
    s.size = cnp.PyArray_ITEMSIZE(x)
    s.limited, s.p = limited, p
    return s


def values(int number, each, cnp.ndarray x, cnp.ndarray target, weight, positive, bint limited, double p, int threads):
    """Return (sum of the losses, whether all is legal); ``each``: None, or an array for the losses.

    ``weight`` and ``positive``, factors of elements and of positive targets: None, or (contiguous array in the dtype of
    x, number of neighbours that share a value). ``limited``: x and target must be in [0, 1]. ``p``: the parameter.
    """
    cdef Terms s = terms_of(x, target, weight, positive, limited, p)
    cdef int double_ = cnp.PyArray_TYPE(x) == cnp.NPY_DOUBLE, legal = 1
    cdef loss_values_t f = losses[number].values[double_]
    cdef char* to = NULL if each is None else <char*>cnp.PyArray_DATA(each)
    cdef index n = cnp.PyArray_SIZE(x), chunks = (n + CHUNK - 1) // CHUNK, i
    cdef Workspace memory = take(chunks * (sizeof(double) + sizeof(int)))
    cdef double* partial = <double*>memory.data
    cdef int* right = <int*>(partial + chunks)
    cdef double total = 0
    with nogil:
        if threads == 1 or chunks < 2:
            for i in range(chunks):
                values_chunk(f, &s, to, i * CHUNK, min(<index>CHUNK, n - i * CHUNK), partial + i, right + i)
        else:
            for i in prange(chunks, schedule="static", num_threads=threads):
                values_chunk(f, &s, to, i * CHUNK, min(<index>CHUNK, n - i * CHUNK), partial + i, right + i)
        for i in range(chunks):
            total += partial[i]
            legal &= right[i]
    return total, bool(legal)


def slopes(int number, cnp.ndarray dx, dtarget, gradients, double factor, cnp.ndarray x, cnp.ndarray target, weight,
           positive, bint limited, double p, int threads):
    """dx and ``dtarget``, an array or None: derivatives times factor, and times ``gradients`` if that is not None.

    Returns whether all is legal. The other arguments are those of `values`.
    """
    cdef Terms s = terms_of(x, target, weight, positive, limited, p)
    cdef int double_ = cnp.PyArray_TYPE(x) == cnp.NPY_DOUBLE, legal = 1
    cdef loss_slopes_t f = losses[number].slopes[double_]
    cdef char* to = <char*>cnp.PyArray_DATA(dx)
    cdef char* other = NULL if dtarget is None else <char*>cnp.PyArray_DATA(dtarget)
    cdef const char* each = NULL if gradients is None else <const char*>cnp.PyArray_DATA(gradients)
    cdef index n = cnp.PyArray_SIZE(x), chunks = (n + CHUNK - 1) // CHUNK, i
    cdef Workspace memory = take(chunks * sizeof(int))
    cdef int* right = <int*>memory.data
    with nogil:
        if threads == 1 or chunks < 2:
            for i in range(chunks):
                slopes_chunk(f, &s, to, other, each, factor, i * CHUNK, min(<index>CHUNK, n - i * CHUNK), right + i)
        else:
            for i in prange(chunks, schedule="static", num_threads=threads):
                slopes_chunk(f, &s, to, other, each, factor, i * CHUNK, min(<index>CHUNK, n - i * CHUNK), right + i)
        for i in range(chunks):
            legal &= right[i]
    return bool(legal)


cdef inline const void* weights(const Weight* w, index size, index at, index n, void* scratch) noexcept nogil:
    """Return the weights of elements at ``at`` and following; where they must be spread out, in ``scratch``."""
    cdef index i, k, run
    if w.values == NULL:
        return NULL
    k, i = at // w.inner % w.length, at % w.inner
    if w.inner == 1 and k + n <= w.length:
        return w.values + k * size
    at = 0
    while at < n:
        if w.inner == 1:
            run = min(n - at, w.length - k)
            memcpy(<char*>scratch + at * size, w.values + k * size, run * size)
            k = 0
        else:
            run = min(n - at, w.inner - i)
            if size == 4:
                fill[float](<float*>scratch + at, (<const float*>w.values)[k], run)
            else:
                fill[double](<double*>scratch + at, (<const double*>w.values)[k], run)
            i = 0
            k = k + 1 if k + 1 < w.length else 0
        at += run
    return scratch


cdef inline void fill(real* to, real value, index n) noexcept nogil:
    cdef index i
    for i in range(n):
        to[i] = value


cdef inline int legal_piece(const Terms* s, index at, index n) noexcept nogil:
    if not s.limited:
        return 1
    if s.size == 4:
        return (probabilities_f32(<const float*>s.x + at, n) and probabilities_f32(<const float*>s.t + at, n))
    return probabilities_f64(<const double*>s.x + at, n) and probabilities_f64(<const double*>s.t + at, n)


cdef void values_chunk(loss_values_t f, const Terms* s, char* to, index first, index n, double* partial,
                       int* right) noexcept nogil:
    cdef double scratch[3][PIECE]
    cdef index at = first, end = first + n, few
    cdef char* here
    cdef double total = 0
    cdef int legal = 1
    cdef uint64_t mode = flush_denormals()
    while at < end:
        few = min(<index>PIECE, end - at)
        here = <char*>scratch[0] if to == NULL else to + at * s.size
        legal &= legal_piece(s, at, few)
        f(here, s.x + at * s.size, s.t + at * s.size, weights(&s.w, s.size, at, few, scratch[1]),
          weights(&s.q, s.size, at, few, scratch[2]), few, s.p)
        if to == NULL:
            total += wide_sum_f32(<float*>here, few) if s.size == 4 else wide_sum_f64(<double*>here, few)
        at += few
    restore_denormals(mode)
    partial[0] = total
    right[0] = legal


cdef void slopes_chunk(loss_slopes_t f, const Terms* s, char* dx, char* dtarget, const char* gradients, double factor,
                       index first, index n, int* right) noexcept nogil:
    cdef double scratch[2][PIECE]
    cdef index at = first, end = first + n, few, byte
    cdef int legal = 1
    cdef uint64_t mode = flush_denormals()
    while at < end:
        few = min(<index>PIECE, end - at)
        byte = at * s.size
        legal &= legal_piece(s, at, few)
        f(dx + byte, dtarget + byte if dtarget != NULL else NULL, gradients + byte if gradients != NULL else NULL,
          factor, s.x + byte, s.t + byte, weights(&s.w, s.size, at, few, scratch[0]),
          weights(&s.q, s.size, at, few, scratch[1]), few, s.p)
        at += few
    restore_denormals(mode)
    right[0] = legal
