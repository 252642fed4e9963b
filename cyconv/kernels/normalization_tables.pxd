"""What normalisation multiplies each channel by, and adds: tables of one row for each factor; columns of slabs."""

from libc.math cimport sqrt
from libc.stdint cimport uintptr_t

from cyconv.kernels.normalization_shape cimport Job, Shape
from cyconv.kernels.simd cimport real

ctypedef Py_ssize_t index


cdef inline index head_of(const Job* j, index block, index itemsize) noexcept nogil:
    cdef index beyond = (<uintptr_t>j.out // itemsize + block * j.s.block) % (64 // itemsize)
    return min(j.s.block, (64 // itemsize - beyond) % (64 // itemsize)) % j.s.width


cdef inline void tabulate_forward(const Job* j, real* typed, index block, index group, index head) noexcept nogil:
    """What forward multiplies each channel of a group by, and adds, turned by `head` places:

    y = (x - center) scale + shift, where center is the mean rounded to the type of x, so that a large mean cancels
    before anything is multiplied.
    """
    cdef const Shape* s = &j.s
    cdef index size = s.outer * s.pitch, first = group * s.members, fold = s.fold if s.last else 1, c, f, at
    cdef real* table = <real*>j.tables + block * s.pitch
    cdef double mean = j.mean[block * s.groups + group], r = 1 / sqrt(j.variance[block * s.groups + group] + j.eps)
    cdef double scale, shift
    cdef real center = <real>mean
    for c in range(first, first + s.members):
        scale = r if j.weight == NULL else r * (<const real*>j.weight)[c]
        shift = (0 if j.bias == NULL else (<const real*>j.bias)[c]) - (mean - <double>center) * scale
        for f in range(fold):
            at = f * s.channels + c - head
            if at < 0:
                at += s.width
            table[at], table[size + at], table[2 * size + at] = center, <real>scale, <real>shift


cdef inline void tabulate(const Job* j, real* typed, index block, index group) noexcept nogil:
    """The tables as the application needs them. Backward: with n elements in the group, P the sum of dy weight and Q
    that of dy weight (x - mean) over them, and r = 1 / sqrt(variance + eps),

        dx = r (dy weight - P / n - (x - mean) r^2 Q / n) = scale dy + b (x - center) + c.

    Forward's part has been there for the sums, unless it must be turned. The sums become those of dy and of
    dy (x - mean) r, the gradients of bias and weight.
    """
    cdef const Shape* s = &j.s
    cdef index size = s.outer * s.pitch, first = group * s.members, fold = s.fold if s.last else 1, c, f, at
    cdef real* table = <real*>j.tables + block * s.pitch
    cdef double mean = j.mean[block * s.groups + group], weight, n = <double>(s.samples * s.space * s.members)
    cdef double r = 1 / sqrt(j.variance[block * s.groups + group] + j.eps)
    cdef double away = mean - <double>(<real>mean), p = 0, q = 0, b = 0, shift = 0
    cdef index head = head_of(j, block, sizeof(real)) if s.last else 0
    cdef double* sums = j.sums + 2 * block * s.channels if j.sums != NULL else NULL
    if j.dy == NULL or sums == NULL or head:
        tabulate_forward(j, typed, block, group, head)
    if j.dy == NULL:
        return
    if sums != NULL and not j.given:
        for c in range(first, first + s.members):
            weight = 1 if j.weight == NULL else (<const real*>j.weight)[c]
            p += weight * sums[2 * c]
            q += weight * (sums[2 * c + 1] - away * sums[2 * c])
        b = -r * r * r * q / n
        shift = -r * p / n - b * away
    for c in range(first, first + s.members):
        if sums != NULL:
            sums[2 * c + 1] = (sums[2 * c + 1] - away * sums[2 * c]) * r
        for f in range(fold):
            at = f * s.channels + c - head
            if at < 0:
                at += s.width
            table[3 * size + at], table[4 * size + at] = <real>b, <real>shift


cdef inline void spread(const Job* j, real* typed, index first, index end, index count, real* tables) noexcept nogil:
    """What the first `count` tables have for a channel to each of its columns."""
    cdef index space = j.s.space, n = (end - first) * space, c, i, k
    cdef real value
    for i in range(count):
        for c in range(first, end):
            value = (<const real*>j.tables)[i * j.s.pitch + c]
            for k in range((c - first) * space, (c - first + 1) * space):
                tables[i * n + k] = value


cdef inline void gather_columns(const Job* j, index c, const double* mean, const double* square) noexcept nogil:
    """Mean and variance of a channel from those of its columns, of as many elements each."""
    cdef double center = 0, total = 0, samples = <double>j.s.samples
    cdef index k
    for k in range(j.s.space):
        center += mean[k]
    center /= j.s.space
    for k in range(j.s.space):
        total += square[k] + samples * (mean[k] - center) * (mean[k] - center)
    j.mean[c] = center
    j.variance[c] = total / (samples * j.s.space)
