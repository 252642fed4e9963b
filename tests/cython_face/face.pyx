# cython: language_level=3
"""What tests/test_cython_face.py is compiled against the installed package with: every function of the face, called
without the interpreter's lock on the addresses that Python gives."""

from cython.parallel cimport prange
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc

from cyconv.cython cimport (
    CYCONV_BAD_GEOMETRY,
    CYCONV_BAD_INDEX,
    CYCONV_BAD_POINTER,
    CYCONV_INTERRUPTED,
    CYCONV_NO_MEMORY,
    CYCONV_OK,
    ConvGeometry,
    ConvPlan,
    PoolGeometry,
    PoolPlan,
    check_status,
    conv_forward,
    conv_geometry,
    conv_input_gradient,
    conv_output,
    conv_plan,
    conv_weight_gradient,
    pool_backward,
    pool_forward,
    pool_geometry,
    pool_output,
    pool_plan,
    status_message,
)

cdef extern from *:
    """
    #ifdef _OPENMP
    #include <omp.h>
    static int regions_inside(int levels)
    {
        int before = omp_get_max_active_levels();
        omp_set_max_active_levels(levels);
        return before;
    }
    #else
    static int regions_inside(int levels) { (void)levels; return 1; }
    #endif
    """
    int regions_inside(int levels) nogil

OK, BAD_GEOMETRY, NO_MEMORY = CYCONV_OK, CYCONV_BAD_GEOMETRY, CYCONV_NO_MEMORY
BAD_POINTER, BAD_INDEX, INTERRUPTED = CYCONV_BAD_POINTER, CYCONV_BAD_INDEX, CYCONV_INTERRUPTED


cdef ConvGeometry conv_of(dict numbers):
    cdef ConvGeometry g = conv_geometry(numbers["rank"])
    cdef int i
    for name, value in numbers.items():
        if name == "batch": g.batch = value
        elif name == "in_channels": g.in_channels = value
        elif name == "out_channels": g.out_channels = value
        elif name == "groups": g.groups = value
        elif name == "dtype": g.dtype = value
        elif name == "channels_last": g.channels_last = value
        elif name == "algorithm": g.algorithm = value
        elif name == "keep_weights": g.keep_weights = value
        elif name != "rank":
            for i in range(len(value)):
                if name == "input": g.input[i] = value[i]
                elif name == "kernel": g.kernel[i] = value[i]
                elif name == "stride": g.stride[i] = value[i]
                elif name == "dilation": g.dilation[i] = value[i]
                elif name == "padding": g.padding[i][0], g.padding[i][1] = value[i]
                else: raise KeyError(name)
    return g


cdef PoolGeometry pool_of(dict numbers):
    cdef PoolGeometry g = pool_geometry(numbers["rank"])
    cdef int i
    for name, value in numbers.items():
        if name == "batch": g.batch = value
        elif name == "channels": g.channels = value
        elif name == "dtype": g.dtype = value
        elif name == "channels_last": g.channels_last = value
        elif name == "ceil_mode": g.ceil_mode = value
        elif name == "kind": g.kind = value
        elif name == "count_include_pad": g.count_include_pad = value
        elif name == "divisor_override": g.divisor_override = value
        elif name != "rank":
            for i in range(len(value)):
                if name == "input": g.input[i] = value[i]
                elif name == "kernel": g.kernel[i] = value[i]
                elif name == "stride": g.stride[i] = value[i]
                elif name == "dilation": g.dilation[i] = value[i]
                elif name == "padding": g.padding[i][0], g.padding[i][1] = value[i]
                else: raise KeyError(name)
    return g


def active_levels(int levels):
    """Let parallel regions be parallel inside of that many others less one; return what it was before."""
    return regions_inside(levels)


def message(int status):
    return status_message(status).decode()


def check(int status):
    check_status(status)


# -------------------------------------------------------------------------------------------------------- one call each

def output(dict numbers):
    cdef ConvGeometry g = conv_of(numbers)
    cdef Py_ssize_t size[3]
    cdef int status
    with nogil:
        status = conv_output(&g, size)
    return status, tuple([size[i] for i in range(g.rank)]) if status == CYCONV_OK else None


def forward(dict numbers, size_t y, size_t x, size_t weight, size_t bias, int threads):
    cdef ConvGeometry g = conv_of(numbers)
    cdef int status
    with nogil:
        status = conv_forward(&g, <void*>y, <void*>x, <void*>weight, <void*>bias, threads)
    return status


def input_gradient(dict numbers, size_t dx, size_t dy, size_t weight, int threads):
    cdef ConvGeometry g = conv_of(numbers)
    cdef int status
    with nogil:
        status = conv_input_gradient(&g, <void*>dx, <void*>dy, <void*>weight, threads)
    return status


def weight_gradient(dict numbers, size_t dw, size_t db, size_t dy, size_t x, int threads):
    cdef ConvGeometry g = conv_of(numbers)
    cdef int status
    with nogil:
        status = conv_weight_gradient(&g, <void*>dw, <void*>db, <void*>dy, <void*>x, threads)
    return status


def pooled_output(dict numbers):
    cdef PoolGeometry g = pool_of(numbers)
    cdef Py_ssize_t size[3]
    cdef int status
    with nogil:
        status = pool_output(&g, size)
    return status, tuple([size[i] for i in range(g.rank)]) if status == CYCONV_OK else None


def pooled(dict numbers, size_t y, size_t indices, size_t x, int threads):
    cdef PoolGeometry g = pool_of(numbers)
    cdef int status
    with nogil:
        status = pool_forward(&g, <void*>y, <int64_t*>indices, <void*>x, threads)
    return status


def pooled_backward(dict numbers, size_t dx, size_t dy, size_t x, size_t indices, int threads):
    cdef PoolGeometry g = pool_of(numbers)
    cdef int status
    with nogil:
        status = pool_backward(&g, <void*>dx, <void*>dy, <void*>x, <int64_t*>indices, threads)
    return status


def without_geometry():
    cdef ConvGeometry conv = conv_of({"rank": 1, "input": (3,), "kernel": (3,)})
    cdef PoolGeometry pool = pool_of({"rank": 1, "input": (3,), "kernel": (3,)})
    cdef int status[5]
    with nogil:
        status[3] = conv_output(&conv, NULL)
        status[4] = pool_output(&pool, NULL)
        status[0] = conv_forward(NULL, NULL, NULL, NULL, NULL, 1)
        status[1] = pool_forward(NULL, NULL, NULL, NULL, 1)
        status[2] = conv_output(NULL, NULL)
    return tuple([status[i] for i in range(5)])


# ---------------------------------------------------------------------------------------------------------------- plans

def plan_of(dict numbers):
    """A plan, seen from Python."""
    cdef ConvGeometry g = conv_of(numbers)
    return conv_plan(&g)


def pool_plan_of(dict numbers):
    cdef PoolGeometry g = pool_of(numbers)
    return pool_plan(&g)


def plan_without_geometry():
    return conv_plan(NULL)


def pool_plan_without_geometry():
    return pool_plan(NULL)


cdef class Planned:
    """A ConvPlan with Python methods."""

    cdef ConvPlan plan

    def __init__(self, dict numbers):
        cdef ConvGeometry g = conv_of(numbers)
        self.plan = conv_plan(&g)

    def forward(self, size_t y, size_t x, size_t weight, size_t bias, int threads):
        cdef int status
        with nogil:
            status = self.plan.forward(<void*>y, <void*>x, <void*>weight, <void*>bias, threads)
        return status

    def packed_bytes(self):
        return self.plan.packed_bytes()

    def pack(self, size_t packed, size_t weight, int threads):
        cdef int status
        with nogil:
            status = self.plan.pack(<void*>packed, <void*>weight, threads)
        return status

    def forward_packed(self, size_t y, size_t x, size_t packed, size_t bias, int threads):
        cdef int status
        with nogil:
            status = self.plan.forward_packed(<void*>y, <void*>x, <void*>packed, <void*>bias, threads)
        return status

    def input_gradient(self, size_t dx, size_t dy, size_t weight, int threads):
        cdef int status
        with nogil:
            status = self.plan.input_gradient(<void*>dx, <void*>dy, <void*>weight, threads)
        return status

    def weight_gradient(self, size_t dw, size_t db, size_t dy, size_t x, int threads):
        cdef int status
        with nogil:
            status = self.plan.weight_gradient(<void*>dw, <void*>db, <void*>dy, <void*>x, threads)
        return status

    def many(self, size_t y, size_t y_bytes, size_t x, size_t x_bytes, size_t weight, int n, int workers, int each=1):
        """n forward passes at a time, each of an image of its own and asked to be done by `each` threads; the worst
        status."""
        cdef int i, worst = 0
        cdef int* status = <int*>malloc(n * sizeof(int))
        for i in prange(n, nogil=True, num_threads=workers, schedule="dynamic"):
            status[i] = self.plan.forward(<void*>(y + i * y_bytes), <void*>(x + i * x_bytes), <void*>weight, NULL, each)
        for i in range(n):
            worst = max(worst, status[i])
        free(status)
        return worst

    def repeat(self, size_t y, size_t x, size_t packed, size_t bias, int n):
        """n forward passes in a row."""
        cdef int i, status = 0
        with nogil:
            for i in range(n):
                status = self.plan.forward_packed(<void*>y, <void*>x, <void*>packed, <void*>bias, 1)
        return status

    def repeat_fresh(self, size_t y, size_t x, size_t weight, size_t bias, int n):
        """The same, with weights that are packed on every call."""
        cdef int i, status = 0
        with nogil:
            for i in range(n):
                status = self.plan.forward(<void*>y, <void*>x, <void*>weight, <void*>bias, 1)
        return status


def repeat(dict numbers, size_t y, size_t x, size_t weight, size_t bias, int n):
    """n forward passes in a row, each with a geometry."""
    cdef ConvGeometry g = conv_of(numbers)
    cdef int i, status = 0
    with nogil:
        for i in range(n):
            status = conv_forward(&g, <void*>y, <void*>x, <void*>weight, <void*>bias, 1)
    return status


def sizes_in_parallel(dict numbers, int n, int workers):
    """Outputs of the geometries whose input is 1, 2, ... longer, all new, asked for by several threads at a time."""
    cdef ConvGeometry g = conv_of(numbers)
    cdef ConvGeometry* all = <ConvGeometry*>malloc(n * sizeof(ConvGeometry))
    cdef Py_ssize_t* size = <Py_ssize_t*>malloc(3 * n * sizeof(Py_ssize_t))
    cdef int i
    for i in range(n):
        all[i] = g
        all[i].input[0] += i
    for i in prange(n, nogil=True, num_threads=workers, schedule="static"):
        if conv_output(&all[i], size + 3 * i) != 0:
            size[3 * i] = -1
    found = [size[3 * i] for i in range(n)]
    free(all)
    free(size)
    return found


cdef class PoolPlanned:
    """A PoolPlan with Python methods."""

    cdef PoolPlan plan

    def __init__(self, dict numbers):
        cdef PoolGeometry g = pool_of(numbers)
        self.plan = pool_plan(&g)

    def forward(self, size_t y, size_t indices, size_t x, int threads):
        cdef int status
        with nogil:
            status = self.plan.forward(<void*>y, <int64_t*>indices, <void*>x, threads)
        return status

    def backward(self, size_t dx, size_t dy, size_t x, size_t indices, int threads):
        cdef int status
        with nogil:
            status = self.plan.backward(<void*>dx, <void*>dy, <void*>x, <int64_t*>indices, threads)
        return status
