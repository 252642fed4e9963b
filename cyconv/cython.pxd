"""Convolution and pooling for Cython, on raw pointers and without the interpreter's lock: see docs/cython.md.

    from cyconv.cython cimport ConvGeometry, ConvPlan, conv_geometry, conv_plan, conv_forward

Arrays are C-contiguous (batch, channels, *spatial), or channels-last (batch, *spatial, channels) where the geometry
says so, of `float` or `double` as its dtype says; weights are (out_channels, in_channels / groups, *kernel) in both.
An output must not overlap an input. What is `nogil` and returns an int returns a status; threads: how many at most, 0
for as many as `cyconv.get_num_threads()` says. Structs and signatures stay; methods are added at the end only.
"""

from libc.stdint cimport int64_t

cdef enum:  # dtype
    CYCONV_FLOAT32 = 0
    CYCONV_FLOAT64 = 1

cdef enum:  # algorithm: what the algorithms of cyconv.functional are called
    CYCONV_AUTO = 0
    CYCONV_DIRECT = 1
    CYCONV_WINOGRAD_F2 = 2
    CYCONV_WINOGRAD_F4 = 3
    CYCONV_DEPTHWISE = 4
    CYCONV_IM2COL = 5

cdef enum:  # kind of pooling
    CYCONV_MAX = 0
    CYCONV_AVERAGE = 1

cdef enum:  # status
    CYCONV_OK = 0
    CYCONV_BAD_GEOMETRY = 1  # conv_plan and pool_plan raise what is wrong with it
    CYCONV_NO_MEMORY = 2
    CYCONV_BAD_POINTER = 3  # NULL where there must be an array, or not aligned as its dtype
    CYCONV_BAD_INDEX = 4  # indices of maxima point outside the input; what was to be written is undefined
    CYCONV_INTERRUPTED = 5  # an exception came while a geometry was planned; Python code raises it next


cdef struct ConvGeometry:
    Py_ssize_t rank  # number of spatial dimensions, 1 to 3: of the arrays below, so many count
    Py_ssize_t batch, in_channels, out_channels, groups
    Py_ssize_t input[3]
    Py_ssize_t kernel[3]
    Py_ssize_t stride[3]
    Py_ssize_t dilation[3]
    Py_ssize_t padding[3][2]  # zeros before and behind
    Py_ssize_t dtype, channels_last, algorithm
    Py_ssize_t keep_weights  # 1: they will be packed once and used often, which counts when the algorithm is chosen


cdef struct PoolGeometry:
    Py_ssize_t rank
    Py_ssize_t batch, channels
    Py_ssize_t input[3]
    Py_ssize_t kernel[3]
    Py_ssize_t stride[3]  # 0: as the kernel
    Py_ssize_t dilation[3]
    Py_ssize_t padding[3][2]
    Py_ssize_t ceil_mode
    Py_ssize_t kind
    Py_ssize_t count_include_pad, divisor_override  # of averages; a divisor of 0: the number of places
    Py_ssize_t dtype, channels_last


# Geometries of a rank with everything at its default: strides, dilations, channels, groups and batch 1, no padding.
# input, kernel and (of pooling) kind are 0 and still to be set, and the rest as it is wanted.
cdef ConvGeometry conv_geometry(Py_ssize_t rank) noexcept nogil
cdef PoolGeometry pool_geometry(Py_ssize_t rank) noexcept nogil

# What a status means in words, and as an exception (nothing is raised for CYCONV_OK).
cdef const char* status_message(int status) noexcept nogil
cdef int check_status(int status) except -1


# ----------------------------------------------------------------------------------------- plans: made once, used often

cdef class ConvPlan:
    """A convolution that was checked and planned by `conv_plan`, which alone makes it. Several threads may use it at a
    time."""

    # Spatial sizes of the output, as many as the rank.
    cdef int output(self, Py_ssize_t* size) noexcept nogil
    # bias: NULL or out_channels numbers.
    cdef int forward(self, void* y, const void* x, const void* weight, const void* bias, int threads) noexcept nogil
    cdef int input_gradient(self, void* dx, const void* dy, const void* weight, int threads) noexcept nogil
    # db: NULL or room for out_channels numbers.
    cdef int weight_gradient(self, void* dw, void* db, const void* dy, const void* x, int threads) noexcept nogil
    # The forward pass with weights that were brought into the order of its kernel before: packed has packed_bytes()
    # bytes and may be copied, but belongs to plans of the same geometry on this machine.
    cdef Py_ssize_t packed_bytes(self) noexcept nogil
    cdef int pack(self, void* packed, const void* weight, int threads) noexcept nogil
    cdef int forward_packed(self, void* y, const void* x, const void* packed, const void* bias,
                            int threads) noexcept nogil


cdef class PoolPlan:
    """Pooling that was checked and planned by `pool_plan`, which alone makes it. Threads may share it."""

    cdef int output(self, Py_ssize_t* size) noexcept nogil
    # indices: NULL, or (of maxima) room for where in its plane or volume each maximum stands, -1 for none.
    cdef int forward(self, void* y, int64_t* indices, const void* x, int threads) noexcept nogil
    # Maxima: x, or the indices of the forward pass. Averages: neither is read.
    cdef int backward(self, void* dx, const void* dy, const void* x, const int64_t* indices,
                      int threads) noexcept nogil


# ValueError, TypeError or MemoryError: as of cyconv.functional.
cdef ConvPlan conv_plan(const ConvGeometry* geometry)
cdef PoolPlan pool_plan(const PoolGeometry* geometry)


# ------------------------------------------------------------- one call: the plan of a geometry is made and kept inside

cdef int conv_output(const ConvGeometry* geometry, Py_ssize_t* size) noexcept nogil
cdef int conv_forward(const ConvGeometry* geometry, void* y, const void* x, const void* weight, const void* bias,
                      int threads) noexcept nogil
cdef int conv_input_gradient(const ConvGeometry* geometry, void* dx, const void* dy, const void* weight,
                             int threads) noexcept nogil
cdef int conv_weight_gradient(const ConvGeometry* geometry, void* dw, void* db, const void* dy, const void* x,
                              int threads) noexcept nogil
cdef int pool_output(const PoolGeometry* geometry, Py_ssize_t* size) noexcept nogil
cdef int pool_forward(const PoolGeometry* geometry, void* y, int64_t* indices, const void* x,
                      int threads) noexcept nogil
cdef int pool_backward(const PoolGeometry* geometry, void* dx, const void* dy, const void* x, const int64_t* indices,
                       int threads) noexcept nogil
