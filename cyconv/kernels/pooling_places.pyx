"""Maxima of windows of any kind with their places, and what is done by places: the gradient, and the way back.

A place is where a pixel stands in its flattened plane or volume. Windows are tables of the axes (adaptive pooling, and
kernels too large for buffers of their own) or drawn for each plane (fractional pooling). A *task* is some planes, in
channels-last order some channels of an image; no two tasks write the same element.
"""

from cython.parallel cimport prange
from libc.math cimport INFINITY
from libc.stdint cimport int32_t, int64_t
from libc.string cimport memset

cimport numpy as cnp

from cyconv.kernels._kernel cimport NO_MEMORY, Pooling
from cyconv.kernels._workspace cimport Block, borrow, give
from cyconv.kernels.pool_axis cimport Axis, index
from cyconv.kernels.pool_shape cimport Shape, close_shape, open_shape
from cyconv.kernels.simd cimport real

cnp.import_array()

cdef enum:
    TASK = 16384  # elements of a task
    CHANNEL_BLOCK = 64  # channels-last: of few images, so that there is something to share out
    MANY_IMAGES = 8


# The windows of one call along one axis: window p of plane n begins at first[n * own + p]
cdef struct Span:
    index length, windows, own, dilation
    const int32_t* first
    const int32_t* count  # or, where it is NULL, `size` of all
    index size


cdef struct Spans:
    Span axis[3]
    index area, out_area


cdef class Windows(Pooling):
    """The windows of one geometry, ready to run on arrays of either dtype and memory order."""

    cdef Shape shape
    cdef Pooling finder

    def __init__(self, input, output, kernel, stride, padding, dilation, Pooling finder=None):
        """As ``pooling.Pool``; ``finder``: what finds the places for a gradient, if it is not this."""
        self.finder = finder
        open_shape(&self.shape, input, output, kernel, stride, padding, dilation, None)

    def __dealloc__(self):
        close_shape(&self.shape)

    cdef int maximum_at(self, bint single, void* out, int64_t* places, const void* x, index images, index channels,
                        bint last, int threads) noexcept nogil:
        # Places are always wanted: without them ``pooling.Pool`` is faster.
        cdef Spans s
        of_axis(&s.axis[0], &self.shape.slices)
        of_axis(&s.axis[1], &self.shape.rows)
        of_axis(&s.axis[2], &self.shape.columns)
        run(&s, single, out, places, x, images, channels, last, threads)
        return 0

    cdef int maximum_backward_at(self, bint single, void* dx, const void* dy, const void* x, const int64_t* places,
                                 index images, index channels, bint last, int threads) noexcept nogil:
        cdef Block memory = Block(NULL, 0)
        cdef index n = images * channels * self.shape.out_area
        cdef int status
        if places == NULL:
            # As many places, and maxima that nobody wants.
            if borrow(&memory, n * (sizeof(int64_t) + sizeof(double))):
                return NO_MEMORY
            places = <const int64_t*>memory.data
            if self.finder is None:
                self.maximum_at(single, <int64_t*>memory.data + n, <int64_t*>memory.data, x, images, channels, last,
                                threads)
            elif self.finder.maximum_at(single, <int64_t*>memory.data + n, <int64_t*>memory.data, x, images, channels,
                                        last, threads):
                give(&memory)
                return NO_MEMORY
        if single:
            status = by_places[float](ADD, <float*>dx, <const float*>dy, places, self.shape.area, self.shape.out_area,
                                      images, channels, last, threads)
        else:
            status = by_places[double](ADD, <double*>dx, <const double*>dy, places, self.shape.area,
                                       self.shape.out_area, images, channels, last, threads)
        give(&memory)
        return status


cdef void of_axis(Span* s, const Axis* a) noexcept nogil:
    s.length, s.windows, s.own, s.dilation = a.length, a.windows, 0, a.dilation
    s.first, s.count, s.size = a.first, a.count, 0


def maximum_from(cnp.ndarray out, cnp.ndarray indices, cnp.ndarray x, input, kernel, starts, index images,
                 index channels, bint last, int threads):
    """The same for windows of one size that begin at ``starts``: for each axis an int32 array (planes, windows)."""
    cdef Spans s
    cdef cnp.ndarray table
    cdef void* to = cnp.PyArray_DATA(out)
    cdef void* places = cnp.PyArray_DATA(indices)
    cdef const void* source = cnp.PyArray_DATA(x)
    cdef bint single = cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT
    for i in range(3):
        table = starts[i]
        s.axis[i].length, s.axis[i].size, s.axis[i].dilation = input[i], kernel[i], 1
        s.axis[i].windows = s.axis[i].own = cnp.PyArray_DIM(table, 1)
        s.axis[i].first, s.axis[i].count = <const int32_t*>cnp.PyArray_DATA(table), NULL
    with nogil:
        run(&s, single, to, <int64_t*>places, source, images, channels, last, threads)


cdef void run(Spans* s, bint single, void* out, int64_t* places, const void* x, index images, index channels, bint last,
              int threads) noexcept nogil:
    s.area = s.axis[0].length * s.axis[1].length * s.axis[2].length
    s.out_area = s.axis[0].windows * s.axis[1].windows * s.axis[2].windows
    if single:
        maxima[float](s, <float*>out, places, <const float*>x, images, channels, last, threads)
    else:
        maxima[double](s, <double*>out, places, <const double*>x, images, channels, last, threads)


cdef void maxima(const Spans* s, real* out, int64_t* places, const real* x, index images, index channels, bint last,
                 int threads) noexcept nogil:
    cdef index planes = images * channels, task = max(1, TASK // s.area), i
    cdef index tasks = (planes + task - 1) // task, step = channels if last else 1
    if threads == 1 or tasks < 2:
        maxima_of(s, out, places, x, 0, planes, step)
    else:
        for i in prange(tasks, schedule="static", num_threads=threads):
            maxima_of(s, out, places, x, i * task, min((i + 1) * task, planes), step)


cdef void maxima_of(const Spans* s, real* out, int64_t* places, const real* x, index first, index end,
                    index step) noexcept nogil:
    """Planes ``first`` to ``end``, whose pixels are ``step`` apart."""
    cdef index plane, t, p, q, at
    cdef const real* source
    cdef real best
    for plane in range(first, end):
        source = x + (plane * s.area if step == 1 else plane // step * s.area * step + plane % step)
        at = plane * s.out_area if step == 1 else plane // step * s.out_area * step + plane % step
        for t in range(s.axis[0].windows):
            for p in range(s.axis[1].windows):
                for q in range(s.axis[2].windows):
                    best = <real>-INFINITY
                    places[at] = largest(s, source, step, plane, t, p, q, &best)
                    out[at] = best
                    at += step


cdef inline index counted(const Span* s, index p) noexcept nogil:
    return s.size if s.count == NULL else <index>s.count[p]


cdef inline int64_t largest(const Spans* s, const real* x, index step, index plane, index t, index p, index q,
                            real* value) noexcept nogil:
    """The largest pixel of a window: the first of equals, the last of NaNs; -1 where it has none."""
    cdef const Span* a = &s.axis[0]
    cdef const Span* b = &s.axis[1]
    cdef const Span* c = &s.axis[2]
    cdef index depth = counted(a, t), rows = counted(b, p), columns = counted(c, q), i, j, _k, row, place
    cdef int64_t found = -1, better
    cdef real best = value[0], v
    if depth * rows * columns == 0:
        return -1
    found = (a.first[plane * a.own + t] * b.length + b.first[plane * b.own + p]) * c.length + c.first[plane * c.own + q]
    for i in range(depth):
        for j in range(rows):
            row = (a.first[plane * a.own + t] + i * a.dilation) * b.length + b.first[plane * b.own + p] + j * b.dilation
            place = row * c.length + c.first[plane * c.own + q]
            for _k in range(columns):
                v = x[place * step]
                # No branch: whether a number is the largest so far nobody can foresee.
                better = -<int64_t>((v > best) | (v != v))
                best = v if better else best
                found ^= (found ^ place) & better
                place += c.dilation
    value[0] = best
    return found


# -------------------------------------------------------------------------------------------------------- by places


cdef enum:
    ADD, PUT, TAKE


def add_at(cnp.ndarray dx, cnp.ndarray dy, cnp.ndarray indices, index area, index out_area, index images,
           index channels, bint last, int threads):
    """dx[place] += dy for all planes, dx cleared first; returns how many tasks met a place that is none (-1 is left
    out)."""
    return of_arrays(ADD, dx, dy, indices, area, out_area, images, channels, last, threads)


def put_at(cnp.ndarray out, cnp.ndarray x, cnp.ndarray indices, index area, index in_area, index images,
           index channels, bint last, int threads):
    """out[place] = x for all planes, out cleared first; returns how many tasks met a place that is none."""
    return of_arrays(PUT, out, x, indices, area, in_area, images, channels, last, threads)


def take_at(cnp.ndarray dx, cnp.ndarray dy, cnp.ndarray indices, index area, index in_area, index images,
            index channels, bint last, int threads):
    """dx = dy[place] for all planes; returns how many tasks met a place that is none."""
    return of_arrays(TAKE, dx, dy, indices, area, in_area, images, channels, last, threads)


cdef int of_arrays(int what, cnp.ndarray to, cnp.ndarray source, cnp.ndarray indices, index area, index n,
                   index images, index channels, bint last, int threads):
    cdef const int64_t* places = <const int64_t*>cnp.PyArray_DATA(indices)
    cdef void* target = cnp.PyArray_DATA(to)
    cdef const void* x = cnp.PyArray_DATA(source)
    cdef bint single = cnp.PyArray_TYPE(source) == cnp.NPY_FLOAT
    cdef int wrong
    with nogil:
        if single:
            wrong = by_places[float](what, <float*>target, <const float*>x, places, area, n, images, channels, last,
                                     threads)
        else:
            wrong = by_places[double](what, <double*>target, <const double*>x, places, area, n, images, channels, last,
                                      threads)
    return wrong


cdef int by_places(int what, real* to, const real* source, const int64_t* places, index area, index n, index images,
                   index channels, bint last, int threads) noexcept nogil:
    """``area``: pixels of the planes that places are in; ``n``: pixels of the others."""
    # Whole images are cleared in one go.
    cdef index width = channels if images >= MANY_IMAGES else CHANNEL_BLOCK, tasks, i
    cdef int wrong = 0
    tasks = images * ((channels + width - 1) // max(width, 1)) if last else images * channels
    if threads == 1 or tasks < 2:
        for i in range(tasks):
            wrong += places_task(what, to, source, places, area, n, channels, last, width, i)
    else:
        for i in prange(tasks, schedule="static", num_threads=threads):
            wrong += places_task(what, to, source, places, area, n, channels, last, width, i)
    return wrong


cdef int places_task(int what, real* to, const real* source, const int64_t* places, index area, index n,
                     index channels, bint last, index width, index task) noexcept nogil:
    cdef index blocks, block = 0, step = 1, many = 1, i, at, big
    at, big = task * n, task * area
    if last:
        blocks = (channels + width - 1) // width
        block = task % blocks * width
        step, many = channels, min(width, channels - block)
        at, big = task // blocks * n * channels + block, task // blocks * area * channels + block
    places += at
    if what == TAKE:
        return takes(to + at, source + big, places, area, n, step, many)
    if many == step:
        memset(to + big, 0, area * step * sizeof(real))
    else:
        for i in range(area):
            memset(to + big + i * step, 0, many * sizeof(real))
    return puts(what == ADD, to + big, source + at, places, area, n, step, many)


cdef int puts(bint add, real* to, const real* source, const int64_t* places, index area, index n, index step,
              index many) noexcept nogil:
    cdef index i, c
    cdef int64_t place
    cdef int wrong = 0
    for i in range(n):
        for c in range(many):
            place = places[i * step + c]
            if 0 <= place < area:
                if add:
                    to[place * step + c] += source[i * step + c]
                else:
                    to[place * step + c] = source[i * step + c]
            elif place != -1 or not add:  # -1: the window met no pixel
                wrong = 1
    return wrong


cdef int takes(real* to, const real* source, const int64_t* places, index area, index n, index step,
               index many) noexcept nogil:
    cdef index i, c
    cdef int64_t place
    cdef int wrong = 0
    for i in range(n):
        for c in range(many):
            place = places[i * step + c]
            if 0 <= place < area:
                to[i * step + c] = source[place * step + c]
            else:
                wrong = 1
    return wrong
