"""The same functions for Python: arrays instead of pointers, MemoryError instead of a number."""

from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.string cimport memset

cimport numpy as cnp

from cyconv.kernels._workspace cimport zeroed

cnp.import_array()


cdef inline void* data(array):
    return NULL if array is None else cnp.PyArray_DATA(array)


cdef int check(int status) except? -1:
    if status == NO_MEMORY:
        raise MemoryError("cyconv: no memory for the workspace of a kernel")
    return status


cdef int two(numbers, index* a, index* b) except -1:
    a[0], b[0] = numbers
    return 0


cdef int three(numbers, index* a, index* b, index* c) except -1:
    a[0], b[0], c[0] = numbers
    return 0


cdef int four(numbers, index* a, index* b, index* c, index* d) except -1:
    a[0], b[0], c[0], d[0] = numbers
    return 0


cdef int set_edges(Edges* e, edges) except -1:
    """Take over the plan's ((places before, places behind), ...) of depth, rows and columns; None: zeros."""
    cdef Axis* axes[3]
    cdef index axis, i = 0
    memset(e, 0, sizeof(Edges))
    if edges is None:
        return 0
    axes[0], axes[1], axes[2] = &e.depth, &e.row, &e.column
    for low, high in edges:
        i += len(low) + len(high)
    e.places = <int32_t*>zeroed(i + 1, sizeof(int32_t))
    if e.places == NULL:
        raise MemoryError("cyconv: no memory for the places of the padding")
    i = 0
    for axis in range(3):
        low, high = edges[axis]
        axes[axis].low, axes[axis].high, axes[axis].places = len(low), len(high), e.places + i
        for found in (*low, *high):
            e.places[i] = found
            i += 1
    return 0


cdef class Convolution:
    """A convolution of one geometry, dtype and memory order; each instruction set has subclasses."""

    cdef int order(self, void* packed, const void* weight, int threads) noexcept nogil:
        return NO_MEMORY

    cdef int execute(self, void* out, const void* source, const void* packed, const void* bias, index images,
                     int threads) noexcept nogil:
        return NO_MEMORY

    def pack(self, cnp.ndarray weight, cnp.ndarray packed, int threads):
        """Bring ``weight`` (C-contiguous) into the order in which the kernel reads it; ``packed``: 1-D, packed_size."""
        cdef void* to = cnp.PyArray_DATA(packed)
        cdef const void* source = cnp.PyArray_DATA(weight)
        cdef int status
        with nogil:
            status = self.order(to, source, threads)
        check(status)

    def run(self, cnp.ndarray out, cnp.ndarray source, cnp.ndarray packed, bias, index images, int threads):
        """Convolve ``images`` images of ``source`` into ``out``; ``bias``: None or ``out_channels`` numbers."""
        cdef void* to = cnp.PyArray_DATA(out)
        cdef const void* x = cnp.PyArray_DATA(source)
        cdef const void* weights = cnp.PyArray_DATA(packed)
        cdef const void* start = data(bias)
        cdef int status
        with nogil:
            status = self.execute(to, x, weights, start, images, threads)
        check(status)


cdef class GradientOfWeights:
    """A weight gradient of one geometry, dtype and memory order; each instruction set has subclasses."""

    cdef int execute(self, void* grad_weight, void* grad_bias, const void* grad_out, const void* source, index images,
                     int threads) noexcept nogil:
        return NO_MEMORY

    def run(self, cnp.ndarray grad_weight, grad_bias, cnp.ndarray grad_out, cnp.ndarray source, index images,
            int threads):
        """Fill ``grad_weight`` (C-contiguous) and, unless it is None, ``grad_bias``."""
        cdef void* to = cnp.PyArray_DATA(grad_weight)
        cdef void* bias = data(grad_bias)
        cdef const void* dy = cnp.PyArray_DATA(grad_out)
        cdef const void* x = cnp.PyArray_DATA(source)
        cdef int status
        with nogil:
            status = self.execute(to, bias, dy, x, images, threads)
        check(status)


cdef class Pooling:
    """Pooling of one geometry, for either dtype and memory order; each instruction set has subclasses."""

    cdef int maximum_at(self, bint single, void* out, int64_t* places, const void* x, index images, index channels,
                        bint last, int threads) noexcept nogil:
        return NO_MEMORY

    cdef int average_at(self, bint single, void* out, const void* x, index images, index channels, bint last,
                        int threads) noexcept nogil:
        return NO_MEMORY

    cdef int maximum_backward_at(self, bint single, void* dx, const void* dy, const void* x, const int64_t* places,
                                 index images, index channels, bint last, int threads) noexcept nogil:
        return NO_MEMORY

    cdef int average_backward_at(self, bint single, void* dx, const void* dy, index images, index channels, bint last,
                                 int threads) noexcept nogil:
        return NO_MEMORY

    cdef int coded_at(self, bint single, void* out, uint8_t* codes, const void* x, index images, index channels,
                      bint last, int threads) noexcept nogil:
        return NO_MEMORY

    cdef int coded_backward_at(self, bint single, void* dx, const void* dy, const uint8_t* codes, index images,
                               index channels, bint last, int threads) noexcept nogil:
        return NO_MEMORY

    def maximum(self, cnp.ndarray out, indices, cnp.ndarray x, index images, index channels, bint last, int threads):
        """out = maxima of x's windows; indices: None, or an int64 array for where they stand; last: channels-last."""
        cdef bint single = cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT
        cdef void* to = cnp.PyArray_DATA(out)
        cdef void* places = data(indices)
        cdef const void* source = cnp.PyArray_DATA(x)
        cdef int status
        with nogil:
            status = self.maximum_at(single, to, <int64_t*>places, source, images, channels, last, threads)
        check(status)

    def coded(self, cnp.ndarray out, cnp.ndarray codes, cnp.ndarray x, index images, index channels, bint last,
              int threads):
        """out = maxima of x's windows; codes: a uint8 array for the taps where they stand."""
        cdef bint single = cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT
        cdef void* to = cnp.PyArray_DATA(out)
        cdef void* taps = cnp.PyArray_DATA(codes)
        cdef const void* source = cnp.PyArray_DATA(x)
        cdef int status
        with nogil:
            status = self.coded_at(single, to, <uint8_t*>taps, source, images, channels, last, threads)
        check(status)

    def average(self, cnp.ndarray out, cnp.ndarray x, index images, index channels, bint last, int threads):
        """out = sums of x's windows times the factors of their slice, row and column."""
        cdef bint single = cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT
        cdef void* to = cnp.PyArray_DATA(out)
        cdef const void* source = cnp.PyArray_DATA(x)
        cdef int status
        with nogil:
            status = self.average_at(single, to, source, images, channels, last, threads)
        check(status)

    def maximum_backward(self, cnp.ndarray dx, cnp.ndarray dy, x, indices, index images, index channels, bint last,
                         int threads):
        """dx = dy added up where the maxima stood, by ``indices``, or by ``x`` where they are None.

        Returns a number other than 0 if ``indices`` point outside the plane.
        """
        cdef bint single = cnp.PyArray_TYPE(dy) == cnp.NPY_FLOAT
        cdef void* to = cnp.PyArray_DATA(dx)
        cdef void* source = data(x)
        cdef void* places = data(indices)
        cdef const void* grad = cnp.PyArray_DATA(dy)
        cdef int status
        with nogil:
            status = self.maximum_backward_at(single, to, grad, source, <const int64_t*>places, images, channels, last,
                                              threads)
        return check(status)

    def coded_backward(self, cnp.ndarray dx, cnp.ndarray dy, cnp.ndarray codes, index images, index channels, bint last,
                       int threads):
        """dx = dy added up where the maxima stood, by the codes of ``coded``."""
        cdef bint single = cnp.PyArray_TYPE(dy) == cnp.NPY_FLOAT
        cdef void* to = cnp.PyArray_DATA(dx)
        cdef const void* grad = cnp.PyArray_DATA(dy)
        cdef const void* taps = cnp.PyArray_DATA(codes)
        cdef int status
        with nogil:
            status = self.coded_backward_at(single, to, grad, <const uint8_t*>taps, images, channels, last, threads)
        check(status)

    def average_backward(self, cnp.ndarray dx, cnp.ndarray dy, index images, index channels, bint last, int threads):
        """dx = dy times its window's factors, added to all pixels of the window."""
        cdef bint single = cnp.PyArray_TYPE(dy) == cnp.NPY_FLOAT
        cdef void* to = cnp.PyArray_DATA(dx)
        cdef const void* grad = cnp.PyArray_DATA(dy)
        cdef int status
        with nogil:
            status = self.average_backward_at(single, to, grad, images, channels, last, threads)
        check(status)
