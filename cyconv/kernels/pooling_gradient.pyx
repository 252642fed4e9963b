"""Gradients of maximum and average pooling.

Maxima go by tap codes (see pool_shape): those that the forward pass wrote down, or found first. A pixel takes the
gradients of those of its windows whose code is its tap; vectors are neighbouring pixels of a phase of a row (NCHW) or
the channels of a pixel. Where there are few windows, or vectors would be idle, each gradient is added where its maximum
stood, into a plane that was just cleared. 2 x 2 windows at stride 2 have a pass of their own, without codes, too.

Averages of planes: for each row of pixels the rows of its windows are scaled and added up, then spread out over its
columns; see pool_means.h. Few windows of any kind: see pooling.

A *task* is some planes, some rows of pixels, or an image, cut by geometry alone. No two tasks write the same element,
and each element's sum has one order.
"""

from cython.parallel cimport prange, threadid
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.string cimport memcpy, memmove, memset

from cyconv.kernels._kernel cimport NO_MEMORY, Pooling
from cyconv.kernels._workspace cimport Block, borrow, discard, give, zeroed
from cyconv.kernels.pool cimport best_in_run, pool_block
from cyconv.kernels.pool_axis cimport Axis, factors, find_met, index
from cyconv.kernels.pool_gradient cimport (
    chosen_pixels,
    coded_pairs_backward,
    fill_planes,
    lay_row,
    max_pairs_backward,
    mean_pairs_backward,
    mean_pixels,
    mean_slice,
    pair_pixels,
    pool_means,
    pool_meeting,
    pool_rows,
    pool_taking,
    scatter_planes,
    scatter_row,
    take_maxima,
)
from cyconv.kernels.pool_shape cimport (
    NARROW,
    NO_CODE,
    Shape,
    close_shape,
    narrow_pairs,
    open_shape,
    turned,
)
from cyconv.kernels.simd cimport LANES_f32, flush_denormals, lanes, real, restore_denormals, transpose

cdef enum:
    TASK = 16384  # input elements of a task: a few microseconds of work, and enough tasks to share out
    # Channels-last maxima are scattered rather than gathered where vectors would be idle for the most part, or where
    # there are that many times fewer windows than pixels
    FEW_CHANNELS = 8
    FEW_WINDOWS = 5
    LONG = 128  # windows of a row from which planes are gathered rather than scattered
    SHORT = 28  # the same of 3 taps at stride 2, which have a loop of their own
    CHANNEL_BLOCK = 64  # scattered gradients of one image meet: what may be shared out is the channels
    MANY_IMAGES = 8
    RING = 4096  # elements of a ring of rows: half of a first-level cache for the gradients, and half for their codes
    FLAT_WINDOWS = 4096  # as many windows of narrow rows are scattered through a table of all


cdef struct Call:
    index images, channels, planes, task, tasks
    bint average, last
    index turned  # planes at a time
    index width  # channels of a task, where an image is cut
    index per_thread  # elements of scratch memory
    const uint8_t* codes  # of maxima; NULL: by x
    const int32_t* tap_place
    const int32_t* start  # of all windows of a plane, or NULL


cdef class PoolGradient(Pooling):
    """The gradient of pooling of one geometry, ready to run on arrays of either dtype and memory order.

    ``finder``: the forward pass, which finds tap codes where none are given; of maxima only.
    """

    cdef Shape shape
    cdef Pooling finder
    cdef int32_t* tap_place  # of each code: where in the volume, from where the window begins
    cdef int32_t* start  # of each window: where in the volume it begins; only where rows of windows are short

    def __init__(self, input, output, kernel, stride, padding, dilation, average=None, Pooling finder=None):
        """As ``pooling.Pool``."""
        cdef Shape* s = &self.shape
        cdef index i, j, k, n = 0
        open_shape(s, input, output, kernel, stride, padding, dilation, average)
        self.finder = finder
        if finder is None or not s.coded:
            return
        find_met(&s.slices)
        find_met(&s.rows)
        find_met(&s.columns)
        self.tap_place = <int32_t*>zeroed(NO_CODE + 1, sizeof(int32_t))
        if self.tap_place == NULL:
            raise MemoryError("cyconv: no memory for the tables of a pooling layer")
        for i in range(s.slices.reach):
            for j in range(s.rows.reach):
                for k in range(s.columns.reach):
                    self.tap_place[n] = <int32_t>(i * s.place_step[0] + j * s.place_step[1] + k * s.place_step[2])
                    n += 1
        if s.columns.windows < 2 * LANES_f32 and s.out_area <= FLAT_WINDOWS:
            self.find_starts()

    cdef int find_starts(self) except -1:
        cdef Shape* s = &self.shape
        cdef index i, j, k, n = 0
        self.start = <int32_t*>zeroed(s.out_area + 1, sizeof(int32_t))
        if self.start == NULL:
            raise MemoryError("cyconv: no memory for the tables of a pooling layer")
        for i in range(s.slices.windows):
            for j in range(s.rows.windows):
                for k in range(s.columns.windows):
                    self.start[n] = <int32_t>((s.slices.start[i] * s.rows.length + s.rows.start[j]) * s.columns.length
                                              + s.columns.start[k])
                    n += 1
        return 0

    def __dealloc__(self):
        discard(self.tap_place)
        discard(self.start)
        close_shape(&self.shape)

    # Of maxima: only if ``Pool.goes_back``, and always by ``x``.
    cdef int maximum_backward_at(self, bint single, void* dx, const void* dy, const void* x, const int64_t* places,
                                 index images, index channels, bint last, int threads) noexcept nogil:
        cdef Block memory = Block(NULL, 0)
        cdef int status
        # Pairs of narrow rows are better found many planes at a time.
        if not last and (self.shape.whole or (self.shape.pairs and self.shape.columns.windows >= NARROW)):
            return self.by(single, False, dx, dy, x, NULL, images, channels, last, threads)
        if borrow(&memory, images * channels * self.shape.out_area):
            return NO_MEMORY
        status = self.finder.coded_at(single, NULL, <uint8_t*>memory.data, x, images, channels, last, threads)
        if status == 0:
            status = self.by(single, False, dx, dy, x, <const uint8_t*>memory.data, images, channels, last, threads)
        give(&memory)
        return status

    cdef int coded_backward_at(self, bint single, void* dx, const void* dy, const uint8_t* codes, index images,
                               index channels, bint last, int threads) noexcept nogil:
        return self.by(single, False, dx, dy, NULL, codes, images, channels, last, threads)

    cdef int average_backward_at(self, bint single, void* dx, const void* dy, index images, index channels, bint last,
                                 int threads) noexcept nogil:
        return self.by(single, True, dx, dy, NULL, NULL, images, channels, last, threads)

    cdef int by(self, bint single, bint average, void* dx, const void* dy, const void* x, const uint8_t* codes,
                index images, index channels, bint last, int threads) noexcept nogil:
        cdef Call c
        c.images, c.channels, c.last, c.average, c.codes = images, channels, last, average, codes
        c.tap_place, c.start = self.tap_place, self.start
        if single:
            return backward[float](&self.shape, &c, <float*>dx, <const float*>dy, <const float*>x, threads)
        return backward[double](&self.shape, &c, <double*>dx, <const double*>dy, <const double*>x, threads)


cdef inline bint gathered(const Shape* s, const Call* c) noexcept nogil:
    """Planes of maxima: whether rows of pixels take from rows of windows (of 512: half the time; of 56: twice)."""
    return (c.codes != NULL and s.kernel and s.slices.length == 1 and s.area < FEW_WINDOWS * s.out_area
            and s.columns.windows >= (SHORT if s.columns.taps == 3 and s.columns.stride == 2 else LONG))


cdef inline bint scattered(const Shape* s, const Call* c) noexcept nogil:
    """Channels-last maxima: whether a task is (some channels of) an image, which is cleared and added to."""
    return c.channels < FEW_CHANNELS or s.area >= FEW_WINDOWS * s.out_area


cdef void cut(const Shape* s, Call* c, index vector) noexcept nogil:
    """``vector``: elements of one."""
    cdef index rows = c.images * s.slices.length * s.rows.length
    c.planes, c.turned, c.per_thread = c.images * c.channels, 0, 0
    c.width = c.channels if c.images >= MANY_IMAGES else min(CHANNEL_BLOCK, c.channels)
    if not c.last:
        c.task = max(1, TASK // s.area)
        if c.average and not s.pairs and not s.whole and not s.same:
            c.turned = turned(s, False) * vector if s.area < FEW_WINDOWS * s.out_area else 0
            if c.turned and (c.planes >= vector or not s.kernel):
                c.turned = c.turned if c.planes >= c.turned else vector
                c.task = (c.task + c.turned - 1) // c.turned * c.turned
                c.per_thread = (s.area + s.out_area) * c.turned
                c.tasks = (c.planes + c.task - 1) // c.task
                return
            c.turned = 0
            c.per_thread = (laid_rows(s) + 1) * ring_pitch(s) + 3 * s.slices.crowd + 32
        elif gathered(s, c):
            c.per_thread = ring_length(s)
        c.tasks = (c.planes + c.task - 1) // c.task
    elif c.average or s.pairs or not scattered(s, c):
        c.task = max(1, TASK // max(s.columns.length * c.channels, 1))
        c.tasks = (rows + c.task - 1) // c.task
    else:
        c.task = 1
        c.tasks = c.images * ((c.channels + c.width - 1) // max(c.width, 1))


cdef int backward(const Shape* s, Call* c, real* dx, const real* dy, const real* x, int threads) noexcept nogil:
    cdef index i, per_thread
    cdef Block memory = Block(NULL, 0)
    cdef char* private = NULL
    cut(s, c, lanes(dy))
    if threads > c.tasks:
        threads = <int>max(c.tasks, 1)
    per_thread = (c.per_thread * sizeof(real) + 4095) // 4096 * 4096
    if per_thread:
        if borrow(&memory, per_thread * threads):
            return NO_MEMORY
        private = <char*>memory.data
    if threads == 1:
        for i in range(c.tasks):
            backward_task(s, c, dx, dy, x, <real*>private, i)
    else:
        for i in prange(c.tasks, schedule="static", num_threads=threads):
            backward_task(s, c, dx, dy, x, <real*>(private + threadid() * per_thread), i)
    give(&memory)
    return 0


cdef void backward_task(const Shape* s, const Call* c, real* dx, const real* dy, const real* x, real* scratch,
                        index task) noexcept nogil:
    cdef index first = task * c.task, rows = c.images * s.slices.length * s.rows.length
    cdef uint64_t mode = flush_denormals() if c.average else 0
    if not c.last and c.average:
        mean_planes(s, c, dx, dy, scratch, first, min(first + c.task, c.planes))
    elif not c.last:
        max_planes(s, c, dx, dy, x, scratch, first, min(first + c.task, c.planes))
    elif s.pairs:
        pair_rows(s, c, dx, dy, first, min(first + c.task, rows))
    elif c.average:
        mean_rows(s, c, dx, dy, first, min(first + c.task, rows))
    elif scattered(s, c):
        scatter_image(s, c, dx, dy, task)
    else:
        chosen_rows(s, c, dx, dy, first, min(first + c.task, rows))
    if c.average:
        restore_denormals(mode)


cdef void max_planes(const Shape* s, const Call* c, real* dx, const real* dy, const real* x, real* scratch,
                     index first, index end) noexcept nogil:
    cdef index plane
    if s.whole and c.codes == NULL:
        whole_planes(s, c, dx, dy, x, first, end)
    elif s.pairs and (c.codes == NULL or s.columns.windows >= lanes(dy) // 2 or narrow_pairs(s, lanes(dy))):
        pair_planes(s, c, dx, dy, x, first, end)
    elif gathered(s, c):
        memset(scratch, 0, ring_rows(s) * ring_pitch(s) * sizeof(real))
        for plane in range(first, end):
            gather_plane(s, c, dx, dx + end * s.area, dy, plane, scratch)
    elif c.start != NULL:
        plane = first * s.out_area
        scatter_planes(dx + first * s.area, dy + plane, c.codes + plane, c.start, c.tap_place, s.area, s.out_area,
                       end - first)
    else:
        for plane in range(first, end):
            scatter_plane(s, c, dx, dy, plane)


cdef void mean_planes(const Shape* s, const Call* c, real* dx, const real* dy, real* scratch, index first,
                      index end) noexcept nogil:
    cdef index plane
    if s.same:
        memcpy(dx + first * s.area, dy + first * s.area, (end - first) * s.area * sizeof(real))
    elif s.whole:
        fill_planes(dx + first * s.area, dx + end * s.area, dy + first, s.area, end - first, first_factor(s, dx))
    elif s.pairs:
        pair_planes(s, c, dx, dy, <const real*>NULL, first, end)
    elif c.turned:
        plane = first
        while plane < end:
            turned_planes(s, c, dx, dy, scratch, plane, min(end - plane, c.turned))
            plane += c.turned
    else:
        memset(scratch, 0, laid_rows(s) * ring_pitch(s) * sizeof(real))
        for plane in range(first, end):
            mean_plane(s, dx + plane * s.area, dx + end * s.area, dy + plane * s.out_area, scratch)


cdef void turned_planes(const Shape* s, const Call* c, real* dx, const real* dy, real* scratch, index plane,
                        index many) noexcept nogil:
    """``many`` planes as the channels of one image."""
    cdef index vector = c.turned
    cdef real* gradient = scratch + s.area * vector
    cdef Call t = c[0]
    t.images, t.channels = 1, vector
    if many < vector:
        memset(gradient, 0, s.out_area * vector * sizeof(real))
    transpose(dy + plane * s.out_area, s.out_area, many, s.out_area, gradient, vector)
    mean_rows(s, &t, scratch, <const real*>gradient, 0, s.slices.length * s.rows.length)
    transpose(<const real*>scratch, vector, s.area, many, dx + plane * s.area, s.area)


cdef inline real first_factor(const Shape* s, const real* like) noexcept nogil:
    return <real>(s.slices.factor[0] * s.rows.factor[0] * s.columns.factor[0])


cdef void whole_planes(const Shape* s, const Call* c, real* dx, const real* dy, const real* x, index first,
                       index end) noexcept nogil:
    """One window of all pixels: its gradient where the maximum stands, zero elsewhere."""
    cdef index plane
    cdef real best
    memset(dx + first * s.area, 0, (end - first) * s.area * sizeof(real))
    for plane in range(first, end):
        dx[plane * s.area + best_in_run(x + plane * s.area, x + c.planes * s.area, s.area, &best)] = dy[plane]


cdef void pair_planes(const Shape* s, const Call* c, real* dx, const real* dy, const real* x, index first,
                      index end) noexcept nogil:
    cdef index area = s.area, plane = first, rows = s.rows.windows, width = s.columns.length
    cdef index rest = area - 2 * rows * width
    cdef real* dx_end = dx + end * area
    cdef const real* dy_end = dy + c.planes * s.out_area
    if rest == 0:
        # The rows of all planes follow each other without a gap.
        rows *= end - first
        end = min(end, first + 1)
    for plane in range(first, end):
        if c.average:
            mean_pairs_backward(dx + plane * area, dx_end, dy + plane * s.out_area, dy_end, width, rows,
                                s.columns.windows, first_factor(s, dx))
        elif c.codes != NULL:
            coded_pairs_backward(dx + plane * area, dx_end, dy + plane * s.out_area, dy_end,
                                 c.codes + plane * s.out_area, width, rows, s.columns.windows)
        else:
            max_pairs_backward(dx + plane * area, dx_end, dy + plane * s.out_area, dy_end, x + plane * area,
                               x + c.planes * area, width, rows, s.columns.windows)
        if rest:
            memset(dx + (plane + 1) * area - rest, 0, rest * sizeof(real))


# ---------------------------------------------------------------------------------------------------- row after row


cdef inline index ring_rows(const Shape* s) noexcept nogil:
    """Rows of windows that are at hand while rows of pixels take from them."""
    return s.depth + min(s.rows.windows, RING // s.length)


cdef inline index ring_margin(const Shape* s) noexcept nogil:
    """Whole cache lines, so that half of what is loaded lies in one."""
    return (s.margin + LANES_f32 - 1) // LANES_f32 * LANES_f32 if s.kernel else 0


cdef inline index ring_pitch(const Shape* s) noexcept nogil:
    return ((s.length if s.kernel else s.columns.windows) + 2 * LANES_f32 - 1) // LANES_f32 * LANES_f32


cdef inline index ring_length(const Shape* s) noexcept nogil:
    """Elements of the scratch memory of taken_plane."""
    return (2 * ring_rows(s) + 1) * ring_pitch(s) + 4 * s.depth + 64


cdef inline void set_taps(const Shape* s, pool_taking* t, index* rows, index* codes) noexcept nogil:
    """By which taps the pixels of a row meet windows; their rows are still to come."""
    t.row, t.row_code = rows, codes
    t.first, t.start, t.shift, t.tap = s.phase_first, s.phase_start, s.phase_shift, s.phase_tap
    t.stride, t.three = s.columns.stride, s.columns.taps == 3 and s.columns.stride == 2 and s.columns.dilation == 1


cdef void gather_plane(const Shape* s, const Call* c, real* dx, const real* dx_end, const real* dy, index plane,
                       real* scratch) noexcept nogil:
    """Maxima, row by row of the pixels: what they take from the rows of windows that they belong to.

    Gradients and codes of these lie between margins in rows of one length; what stands in a margin has no gradient,
    whatever its code. As many rows at once as there is room for: see find_taps.
    """
    cdef index most = ring_rows(s), margin = ring_margin(s), pitch = ring_pitch(s), n = s.columns.windows
    cdef index done = 0, i = 0, end, kept, width = s.columns.length
    cdef real* gradients = scratch
    cdef real* line = gradients + most * pitch
    cdef index* places = <index*>((<size_t>(line + pitch) + 15) // 16 * 16)
    cdef uint8_t* codes = <uint8_t*>(places + 2 * s.depth)
    cdef pool_taking t
    cdef pool_rows r
    set_taps(s, &t, places, places + s.depth)
    r.window, r.belongs, r.meets, r.met = s.rows.window, s.rows.belongs, s.rows.meets, s.rows.met
    r.step, r.low, r.length, r.margin, r.code = s.rows.window_step, 0, pitch, margin, s.code_step[1]
    dx += plane * s.area
    dy += plane * s.out_area
    while i < s.rows.length:
        if last_window(s, i) >= done:
            kept = max(done - s.rows.window[i], 0)
            memmove(gradients, gradients + (done - kept - r.low) * pitch, kept * pitch * sizeof(real))
            memmove(codes, codes + (done - kept - r.low) * pitch, kept * pitch)
            r.low = s.rows.window[i]
            done = r.low + kept
            while done < min(r.low + most, s.rows.windows):
                end = (done - r.low) * pitch
                memcpy(codes + end + margin, c.codes + plane * s.out_area + done * n, n)
                lay_row(gradients + end + margin, dy + done * n, n)
                done += 1
        end = i + 1
        while end < s.rows.length and last_window(s, end) < done:
            end += 1
        take_maxima(dx + i * width, dx_end, <const uint8_t*>codes, <const real*>gradients, &t, &r, line, width, i, end)
        i = end


cdef inline index last_window(const Shape* s, index row) noexcept nogil:
    """The last row of windows that a row of pixels belongs to."""
    return s.rows.window[row] + (s.rows.belongs[row] - 1) * s.rows.window_step


# ---------------------------------------------------------------------------------------------------------- maxima


cdef void scatter_plane(const Shape* s, const Call* c, real* dx, const real* dy, index plane) noexcept nogil:
    """Add each gradient of a volume where its maximum stood."""
    cdef index slice, p, row, n = s.columns.windows
    cdef const uint8_t* codes = c.codes + plane * s.out_area
    dx += plane * s.area
    dy += plane * s.out_area
    memset(dx, 0, s.area * sizeof(real))
    for slice in range(s.slices.windows):
        for p in range(s.rows.windows):
            row = s.slices.start[slice] * s.rows.length + s.rows.start[p]
            scatter_row(dx + row * s.columns.length, dy, codes, s.columns.start, c.tap_place, 1, 1, n)
            dy += n
            codes += n


cdef void scatter_image(const Shape* s, const Call* c, real* dx, const real* dy, index task) noexcept nogil:
    """The same, channels-last: some channels of an image."""
    cdef index channels = c.channels, blocks = (channels + c.width - 1) // c.width, slice, p, row, i
    cdef index block = task % blocks * c.width, many = min(c.width, channels - block), n = s.columns.windows * channels
    cdef const uint8_t* codes = c.codes + task // blocks * s.out_area * channels + block
    dx += task // blocks * s.area * channels + block
    dy += task // blocks * s.out_area * channels + block
    if many == channels:
        memset(dx, 0, s.area * channels * sizeof(real))
    else:
        for i in range(s.area):
            memset(dx + i * channels, 0, many * sizeof(real))
    for slice in range(s.slices.windows):
        for p in range(s.rows.windows):
            row = s.slices.start[slice] * s.rows.length + s.rows.start[p]
            scatter_row(dx + row * s.columns.length * channels, dy, codes, s.columns.start, c.tap_place, channels, many,
                        s.columns.windows)
            dy += n
            codes += n


cdef void chosen_rows(const Shape* s, const Call* c, real* dx, const real* dy, index first, index end) noexcept nogil:
    """Channels-last: rows ``first`` to ``end`` of the input's pixels, counted through all images."""
    cdef index channels = c.channels, line, row, slice, image, j, width = s.columns.windows, base
    cdef const Axis* a = &s.columns
    cdef pool_meeting m
    m.slice_step = s.slices.window_step * s.rows.windows * width * channels
    m.row_step = s.rows.window_step * width * channels
    m.column_step = a.window_step * channels
    m.slice_code, m.row_code = s.code_step[0], s.code_step[1]
    dx += first * a.length * channels
    for line in range(first, end):
        row = line % s.rows.length
        slice = line // s.rows.length % s.slices.length
        image = line // (s.rows.length * s.slices.length)
        m.slices, m.rows = s.slices.belongs[slice], s.rows.belongs[row]
        m.slice_tap = s.slices.met + s.slices.meets[slice]
        m.row_tap = s.rows.met + s.rows.meets[row]
        base = ((image * s.slices.windows + s.slices.window[slice]) * s.rows.windows + s.rows.window[row]) * width
        for j in range(a.length):
            m.columns, m.column_tap = a.belongs[j], a.met + a.meets[j]
            chosen_pixels(dx, dy + (base + a.window[j]) * channels, c.codes + (base + a.window[j]) * channels, &m,
                          channels)
            dx += channels


# ------------------------------------------------------------------------------------------------ averages, planes


cdef inline index laid_rows(const Shape* s) noexcept nogil:
    return max(min(s.rows.length, RING // ring_pitch(s)), 1)


cdef void mean_plane(const Shape* s, real* dx, const real* dx_end, const real* dy, real* scratch) noexcept nogil:
    """The gradient of one volume's averages, slice by slice."""
    cdef index pitch = ring_pitch(s), plane, slice, k, first = 0
    cdef real* line = scratch + laid_rows(s) * pitch
    cdef index* slices = <index*>((<size_t>(line + pitch) + 15) // 16 * 16)
    cdef real* by_slice = <real*>(slices + s.slices.crowd + 1)
    cdef bint by_taps = s.kernel and s.columns.stride <= 2
    cdef pool_means m
    cdef pool_taking t
    m.row_step, m.column_step, m.windows = s.rows.window_step, s.columns.window_step, s.columns.windows
    m.width, m.crowd, m.margin, m.pitch, m.laid = s.columns.length, s.columns.crowd, ring_margin(s), pitch, laid_rows(s)
    m.slice, m.row, m.rows = slices, s.rows.window, s.rows.belongs
    m.column, m.columns = s.columns.window, s.columns.belongs
    if by_taps:
        # All windows of a row of pixels are one row, which is laid anew for each.
        set_taps(s, &t, &first, &first)
        t.rows = 1
    for plane in range(s.slices.length):
        m.slices, slice = s.slices.belongs[plane], s.slices.window[plane]
        for k in range(m.slices):
            slices[k] = slice * s.rows.windows * s.columns.windows
            by_slice[k] = factors(&s.slices, dy)[slice]
            slice += s.slices.window_step
        mean_slice(dx, dx_end, dy, &m, <const real*>by_slice, factors(&s.rows, dy), factors(&s.columns, dy),
                   &t if by_taps else NULL, scratch, line, s.rows.length)
        dx += s.rows.length * s.columns.length


# --------------------------------------------------------------------------------------------------- channels-last


cdef void pair_rows(const Shape* s, const Call* c, real* dx, const real* dy, index first, index end) noexcept nogil:
    """2 x 2 windows at stride 2: rows ``first`` to ``end`` of the input's pixels, counted through all images."""
    cdef index line, row, at, pitch = s.columns.length * c.channels, n = s.columns.windows
    cdef const uint8_t* codes
    cdef real* dx_end = dx + end * pitch
    cdef const real* dy_end = dy + c.planes * s.out_area
    for line in range(first, end):
        row = line % s.rows.length
        if row >= 2 * s.rows.windows:
            memset(dx + line * pitch, 0, pitch * sizeof(real))
            continue
        at = (line // s.rows.length * s.rows.windows + row // 2) * n * c.channels
        codes = c.codes
        if codes != NULL:
            codes += at
        pair_pixels(dx + line * pitch, dx_end, dy + at, dy_end, codes, row & 1, c.channels, n, first_factor(s, dx))
        if 2 * n < s.columns.length:
            memset(dx + line * pitch + 2 * n * c.channels, 0, (s.columns.length - 2 * n) * c.channels * sizeof(real))


cdef void mean_rows(const Shape* s, const Call* c, real* dx, const real* dy, index first, index end) noexcept nogil:
    """Averages: rows ``first`` to ``end`` of the input's pixels, counted through all images."""
    cdef index channels = c.channels, line, row, slice, image, j, width = s.columns.windows
    cdef index steps[3]
    cdef const real* by_slice = factors(&s.slices, dy)
    cdef const real* by_row = factors(&s.rows, dy)
    cdef const real* by_column = factors(&s.columns, dy)
    cdef const Axis* a = &s.columns
    cdef pool_block b
    cdef index base
    steps[0], steps[1], steps[2] = s.slices.window_step, s.rows.window_step, s.columns.window_step
    b.slice_step = steps[0] * s.rows.windows * width * channels
    b.row_step = steps[1] * width * channels
    b.column_step = steps[2] * channels
    dx += first * a.length * channels
    for line in range(first, end):
        row = line % s.rows.length
        slice = line // s.rows.length % s.slices.length
        image = line // (s.rows.length * s.slices.length)
        b.slices, b.rows = s.slices.belongs[slice], s.rows.belongs[row]
        base = ((image * s.slices.windows + s.slices.window[slice]) * s.rows.windows + s.rows.window[row]) * width
        for j in range(a.length):
            b.columns = a.belongs[j]
            mean_pixels(dx, dy + (base + a.window[j]) * channels, &b, by_slice + s.slices.window[slice],
                        by_row + s.rows.window[row], by_column + a.window[j], steps, channels)
            dx += channels
