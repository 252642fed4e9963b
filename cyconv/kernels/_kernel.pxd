"""What the kernels of every instruction set have in common: the C functions by which they are called.

A caller that holds a kernel of any instruction set calls it through these, without the interpreter's lock, on raw
pointers to C-contiguous or channels-last arrays. They check nothing and return 0, or NO_MEMORY.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t

ctypedef Py_ssize_t index

cdef enum:
    NO_MEMORY = -1


# Numbers out of a plan's tuples: here once, since the code is long and every geometry needs it.
cdef int two(numbers, index* a, index* b) except -1
cdef int three(numbers, index* a, index* b, index* c) except -1
cdef int four(numbers, index* a, index* b, index* c, index* d) except -1


cdef struct Axis:
    # Where the padding of an axis takes its pixels from: `low` places before the first pixel, `high` behind the last.
    # Padding of zeros has none.
    index low, high
    const int32_t* places


cdef struct Edges:
    Axis depth, row, column
    int32_t* places  # of all three; NULL: zeros. Belongs to the object that called set_edges


cdef int set_edges(Edges* e, edges) except -1


cdef class Convolution:
    """A forward pass, or an input gradient: ``out`` from ``source`` and weights in the kernel's own order."""

    cdef readonly index packed_size  # elements of the packed weights
    cdef readonly index thread_bytes  # private memory of each thread

    cdef int order(self, void* packed, const void* weight, int threads) noexcept nogil
    cdef int execute(self, void* out, const void* source, const void* packed, const void* bias, index images,
                     int threads) noexcept nogil


cdef class GradientOfWeights:
    cdef readonly index thread_bytes  # private memory of each thread

    cdef int execute(self, void* grad_weight, void* grad_bias, const void* grad_out, const void* source, index images,
                     int threads) noexcept nogil


cdef class Pooling:
    """``single``: float, else double; ``last``: channels-last."""

    cdef int maximum_at(self, bint single, void* out, int64_t* places, const void* x, index images, index channels,
                        bint last, int threads) noexcept nogil
    cdef int average_at(self, bint single, void* out, const void* x, index images, index channels, bint last,
                        int threads) noexcept nogil
    # Returns a positive number if ``places`` point outside the plane.
    cdef int maximum_backward_at(self, bint single, void* dx, const void* dy, const void* x, const int64_t* places,
                                 index images, index channels, bint last, int threads) noexcept nogil
    cdef int average_backward_at(self, bint single, void* dx, const void* dy, index images, index channels, bint last,
                                 int threads) noexcept nogil
    # Codes of taps: see pool_shape.
    cdef int coded_at(self, bint single, void* out, uint8_t* codes, const void* x, index images, index channels,
                      bint last, int threads) noexcept nogil
    cdef int coded_backward_at(self, bint single, void* dx, const void* dy, const uint8_t* codes, index images,
                               index channels, bint last, int threads) noexcept nogil
