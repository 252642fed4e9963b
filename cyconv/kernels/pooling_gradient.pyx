"""Gradients of maximum and average pooling.

Planes (NCHW), maxima: the winning taps are searched for again, row by row of the windows, and each gradient is added
where its maximum stood. That is faster than to read the places that forward wrote down (measured: 3 x 3 by 1.1, 2 x 2
by 4). Averages are gathered: gradients are scaled, spread out over the columns of the input, and rows of these added
up, when no later row of windows meets a row of pixels. Channels-last: the channels of a pixel are the vector.

A *task* is some planes, some rows of pixels, or some channels of an image, cut by geometry alone. No two tasks write
the same element, and each element's sum has one order.
"""

from cython.parallel cimport prange, threadid
from libc.math cimport INFINITY
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memset

from cyconv.kernels._kernel cimport NO_MEMORY, Pooling
from cyconv.kernels._workspace cimport Block, borrow, give
from cyconv.kernels.pool cimport best_in_run, best_pixels, pool_block
from cyconv.kernels.pool_axis cimport Axis, factors, index
from cyconv.kernels.pool_gradient cimport (
    add_rows,
    chosen_pixels,
    fill_planes,
    max_pairs_backward,
    mean_pairs_backward,
    mean_pixels,
    pool_phase,
    pool_windows,
    scale_rows,
    scatter_pixels,
    scatter_row,
    take_sums,
)
from cyconv.kernels.pool_shape cimport Shape, close_shape, find_taps, indices_in, open_shape, scratch_length
from cyconv.kernels.simd cimport LANES_f32, flush_denormals, real, restore_denormals

cdef enum:
    TASK = 16384  # input elements of a task: a few microseconds of work, and enough tasks to share out
    CHANNEL_BLOCK = 64  # gradients of one image meet: what may be shared out is the channels
    MOST_PHASES = 64  # MOST_STRIDE of pool_shape


cdef struct Call:
    index images, channels, planes, task, tasks, blocks
    bint average, last
    index per_thread  # elements of scratch memory
    index pitch  # channels-last maxima: of one pixel's places


cdef class PoolGradient(Pooling):
    """The gradient of pooling of one geometry, ready to run on arrays of either dtype and memory order."""

    cdef Shape shape

    def __init__(self, input, output, kernel, stride, padding, dilation, average=None):
        """As ``pooling.Pool``."""
        open_shape(&self.shape, input, output, kernel, stride, padding, dilation, average)

    def __dealloc__(self):
        close_shape(&self.shape)

    # Of maxima: only if ``Pool.finds_places``, and always by ``x``.
    cdef int maximum_backward_at(self, bint single, void* dx, const void* dy, const void* x, const int64_t* places,
                                 index images, index channels, bint last, int threads) noexcept nogil:
        if single:
            return backward[float](&self.shape, False, <float*>dx, <const float*>dy, <const float*>x, images, channels,
                                   last, threads)
        return backward[double](&self.shape, False, <double*>dx, <const double*>dy, <const double*>x, images, channels,
                                last, threads)

    cdef int average_backward_at(self, bint single, void* dx, const void* dy, index images, index channels, bint last,
                                 int threads) noexcept nogil:
        if single:
            return backward[float](&self.shape, True, <float*>dx, <const float*>dy, NULL, images, channels, last,
                                   threads)
        return backward[double](&self.shape, True, <double*>dx, <const double*>dy, NULL, images, channels, last,
                                threads)


cdef void cut(const Shape* s, Call* c) noexcept nogil:
    cdef index rows = c.images * s.slices.length * s.rows.length
    c.planes, c.blocks, c.pitch = c.images * c.channels, 1, 0
    if not c.last:
        c.task = max(1, TASK // s.area)
        c.tasks = (c.planes + c.task - 1) // c.task
        if s.pairs or s.whole:
            c.per_thread = 0
        elif s.kernel:
            c.per_thread = scratch_length(s) + s.slices.most * 2 + s.slices.windows
        else:
            c.per_thread = s.columns.length
    elif c.average:
        c.task = max(1, TASK // max(s.columns.length * c.channels, 1))
        c.tasks = (rows + c.task - 1) // c.task
        c.per_thread = 0
    else:
        c.blocks = max((c.channels + CHANNEL_BLOCK - 1) // CHANNEL_BLOCK, 1)
        c.task = 1
        c.tasks = c.images * c.blocks
        c.pitch = (min(c.channels, <index>CHANNEL_BLOCK) + LANES_f32 - 1) // LANES_f32 * LANES_f32
        c.per_thread = s.depth * s.columns.windows * c.pitch + 4 * s.depth + 16


cdef int backward(const Shape* s, bint average, real* dx, const real* dy, const real* x, index images, index channels,
                  bint last, int threads) noexcept nogil:
    cdef Call c
    cdef index i, per_thread
    cdef Block memory = Block(NULL, 0)
    cdef char* private = NULL
    c.images, c.channels, c.last, c.average = images, channels, last, average
    cut(s, &c)
    if threads > c.tasks:
        threads = <int>max(c.tasks, 1)
    per_thread = (c.per_thread * sizeof(real) + 4095) // 4096 * 4096
    if per_thread:
        if borrow(&memory, per_thread * threads):
            return NO_MEMORY
        private = <char*>memory.data
    if threads == 1:
        for i in range(c.tasks):
            backward_task(s, &c, dx, dy, x, <real*>private, i)
    else:
        for i in prange(c.tasks, schedule="static", num_threads=threads):
            backward_task(s, &c, dx, dy, x, <real*>(private + threadid() * per_thread), i)
    give(&memory)
    return 0


cdef void backward_task(const Shape* s, const Call* c, real* dx, const real* dy, const real* x, real* scratch,
                        index task) noexcept nogil:
    cdef index first = task * c.task, end, plane
    cdef uint64_t mode = flush_denormals() if c.average else 0
    if c.last:
        if c.average:
            mean_rows(s, c, dx, dy, first, min(first + c.task, c.images * s.slices.length * s.rows.length))
        else:
            chosen_block(s, c, dx, dy, x, scratch, task // c.blocks, task % c.blocks * CHANNEL_BLOCK)
    else:
        end = min(first + c.task, c.planes)
        if s.whole and c.average:
            fill_planes(dx + first * s.area, dx + end * s.area, dy + first, s.area, end - first, first_factor(s, dx))
        elif s.whole:
            whole_planes(s, c, dx, dy, x, first, end)
        elif s.pairs:
            pair_planes(s, c, dx, dy, x, first, end)
        elif not s.kernel:
            for plane in range(first, end):
                span_plane(s, dx + plane * s.area, dy + plane * s.out_area, scratch)
        else:
            clear_scratch(s, c, scratch)
            for plane in range(first, end):
                if c.average:
                    mean_plane(s, dx + plane * s.area, dx + end * s.area, dy + plane * s.out_area, scratch)
                else:
                    chosen_plane(s, dx + plane * s.area, dy + plane * s.out_area, x + plane * s.area, scratch)
    if c.average:
        restore_denormals(mode)


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
        else:
            max_pairs_backward(dx + plane * area, dx_end, dy + plane * s.out_area, dy_end, x + plane * area,
                               x + c.planes * area, width, rows, s.columns.windows)
        if rest:
            memset(dx + (plane + 1) * area - rest, 0, rest * sizeof(real))


cdef void clear_scratch(const Shape* s, const Call* c, real* scratch) noexcept nogil:
    """Fill what rows will not overwrite: margins of -inf around split rows, of zero around gradients."""
    cdef index i
    if not c.average:
        for i in range(s.at_best):
            scratch[i] = <real>-INFINITY
    memset(scratch + s.at_gradient, 0, (s.scratch - s.at_gradient) * sizeof(real))
    memset(scratch + s.at_code, 0, (s.at_gradient - s.at_code) * sizeof(real))


cdef inline index phases(const Shape* s, pool_phase* f) noexcept nogil:
    """The taps of each phase; returns how many phases there are."""
    cdef index k
    for k in range(s.columns.stride):
        f[k].shift = s.phase_shift + s.phase_first[k]
        f[k].taps = s.phase_first[k + 1] - s.phase_first[k]
    return s.columns.stride


# -------------------------------------------------------------------------------------------------- maxima, planes


cdef void chosen_plane(const Shape* s, real* dx, const real* dy, const real* x, real* scratch) noexcept nogil:
    """Add each gradient of a volume where its maximum stood; one row of windows after that was found: see find_taps."""
    cdef index slice, step, p, loaded, n = s.columns.windows, corner
    memset(dx, 0, s.area * sizeof(real))
    for slice in range(s.slices.windows):
        loaded = 0
        for step in range(s.rows.windows + 1):
            if step < s.rows.windows:
                find_taps(s, x, scratch, scratch + s.at_code + step % 2 * s.length, slice, step, &loaded)
            if step > 0:
                p = step - 1
                corner = (slice * s.slices.stride - s.slices.low) * s.rows.length + p * s.rows.stride - s.rows.low
                scatter_row(dx + corner * s.columns.length - s.columns.low, dy + (slice * s.rows.windows + p) * n,
                            <const real*>scratch + s.at_code + p % 2 * s.length, s.columns.stride, n)


# ------------------------------------------------------------------------------------------------ averages, planes


cdef void mean_plane(const Shape* s, real* dx, const real* dx_end, const real* dy, real* scratch) noexcept nogil:
    """The gradient of one volume's averages, slice by slice; row by row of the windows: add up and scale the gradients,
    spread them out over the columns, then add up what each row of pixels takes, once no later window meets it. Each
    step takes up what was stored a row before: see find_taps.
    """
    cdef index k, step, p, done, limit
    cdef real* rows = scratch + s.at_gradient
    cdef real* spread = scratch + s.at_spread
    cdef pool_phase f[MOST_PHASES]
    phases(s, f)
    for k in range(s.slices.length):
        done = 0
        for step in range(s.rows.windows + 2):
            if step < s.rows.windows:
                scaled_row(s, rows + step % s.depth * s.length + s.margin, dy, k, step, scratch)
            if 0 < step <= s.rows.windows:
                p = (step - 1) % s.depth * s.length
                take_sums(spread + p, spread + p + s.length, <const real*>rows + p + s.margin, s.phase_start,
                          s.columns.stride, f, scratch + s.at_line, s.length, s.columns.length)
            p = step - 2
            if p < 0:
                continue
            limit = s.rows.length
            if p < s.rows.windows - 1:
                limit = min(limit, (p + 1) * s.rows.stride - s.rows.low)
            while done < limit:
                mean_row(s, dx + (k * s.rows.length + done) * s.columns.length, dx_end, scratch, done)
                done += 1


cdef void scaled_row(const Shape* s, real* to, const real* dy, index plane, index p, real* scratch) noexcept nogil:
    """Row p of the gradients of all windows that meet a slice, scaled."""
    cdef index* rows = indices_in(s, scratch)
    cdef real* weights = scratch + scratch_length(s)
    cdef index k, n = s.slices.belongs[plane], slice = s.slices.window[plane]
    if n == 0:
        memset(to, 0, s.columns.windows * sizeof(real))
        return
    for k in range(n):
        rows[k] = (slice * s.rows.windows + p) * s.columns.windows
        weights[k] = <real>(s.slices.factor[slice] * s.rows.factor[p])
        slice += s.slices.window_step
    scale_rows(to, dy, rows, <const real*>weights, n, factors(&s.columns, dy), s.columns.windows)


cdef void mean_row(const Shape* s, real* dx, const real* dx_end, real* scratch, index row) noexcept nogil:
    """Add up what a row of pixels takes from the rows of windows that it belongs to."""
    cdef index* places = indices_in(s, scratch)
    cdef index k, p = s.rows.window[row], n = s.rows.belongs[row]
    for k in range(n):
        places[k] = p % s.depth * s.length
        p += s.rows.window_step
    add_rows(dx, dx_end, <const real*>scratch + s.at_spread, places, n, s.columns.length)


cdef void span_plane(const Shape* s, real* dx, const real* dy, real* line) noexcept nogil:
    """The gradient of one volume's averages over windows of any kind: each row of gradients as the columns take it,
    added to all rows of its windows."""
    cdef index slice, p, q, k, r, j, _j, i, width = s.columns.length
    cdef const real* scale = factors(&s.columns, dy)
    cdef real* to
    cdef real factor, g
    memset(dx, 0, s.area * sizeof(real))
    for slice in range(s.slices.windows):
        for p in range(s.rows.windows):
            factor = <real>(s.slices.factor[slice] * s.rows.factor[p])
            memset(line, 0, width * sizeof(real))
            for q in range(s.columns.windows):
                g = dy[q] * (scale[q] * factor)
                i = s.columns.first[q]
                for _j in range(s.columns.count[q]):
                    line[i] += g
                    i += s.columns.dilation
            dy += s.columns.windows
            for k in range(s.slices.count[slice]):
                for r in range(s.rows.count[p]):
                    to = dx + ((s.slices.first[slice] + k * s.slices.dilation) * s.rows.length + s.rows.first[p]
                               + r * s.rows.dilation) * width
                    for j in range(width):
                        to[j] += line[j]


# --------------------------------------------------------------------------------------------------- channels-last


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


cdef void chosen_block(const Shape* s, const Call* c, real* dx, const real* dy, const real* x, real* scratch,
                       index image, index block) noexcept nogil:
    """Maxima: some channels of one image, window by window along its depth, row by row of these."""
    cdef index channels = c.channels, n = min(<index>CHANNEL_BLOCK, channels - block), slice, step, done, limit, i, k
    cdef index plane = s.rows.length * s.columns.length
    cdef const real* x_end = x + c.planes * s.area
    dx += image * s.area * channels + block
    dy += image * s.out_area * channels + block
    x += image * s.area * channels + block
    for k in range(s.slices.length):
        if s.slices.belongs[k] == 0:
            for i in range(plane):
                memset(dx + (k * plane + i) * channels, 0, n * sizeof(real))
    if scattered(s):
        scatter_block(s, c, dx, dy, x, n)
        return
    for slice in range(s.slices.windows):
        done = 0
        for step in range(s.rows.windows):
            find_places(s, c, scratch + step % s.depth * s.columns.windows * c.pitch, x, x_end, slice, step, n)
            limit = s.rows.length
            if step < s.rows.windows - 1:
                limit = min(limit, (step + 1) * s.rows.stride - s.rows.low) if s.regular else s.rows.first[step + 1]
            while done < limit:
                chosen_pixel_row(s, c, dx, dy, scratch, slice, done, n)
                done += 1


cdef inline bint scattered(const Shape* s) noexcept nogil:
    """Whether no pixel is in two windows: to add to each of a window's pixels is faster then (measured, 2 x 2 at stride
    2: 0.75 of the time of gathering; 3 x 3 at stride 2: 1.1)."""
    return s.kernel and (s.slices.taps * s.rows.taps * s.columns.taps
                         <= s.slices.stride * s.rows.stride * s.columns.stride)


cdef void scatter_block(const Shape* s, const Call* c, real* dx, const real* dy, const real* x,
                        index n) noexcept nogil:
    """Maxima: ``n`` channels of one image, window by window."""
    cdef index slice, p, q, i, channels = c.channels, width = s.columns.length
    cdef pool_block b
    b.slice_step = s.slices.dilation * s.rows.length * width * channels
    b.row_step = s.rows.dilation * width * channels
    b.column_step = s.columns.dilation * channels
    for i in range(s.area):
        memset(dx + i * channels, 0, n * sizeof(real))
    for slice in range(s.slices.windows):
        for p in range(s.rows.windows):
            b.slices, b.rows = s.slices.count[slice], s.rows.count[p]
            for q in range(s.columns.windows):
                b.columns = s.columns.count[q]
                i = ((s.slices.first[slice] * s.rows.length + s.rows.first[p]) * width + s.columns.first[q]) * channels
                scatter_pixels(dx + i, dy, x + i, &b, n)
                dy += channels


cdef void find_places(const Shape* s, const Call* c, real* place, const real* x, const real* x_end, index slice,
                      index p, index n) noexcept nogil:
    """Where in the volume the maxima of a row of windows stand."""
    cdef index q, first, width = s.columns.length
    cdef pool_block b
    b.slices, b.rows = s.slices.count[slice], s.rows.count[p]
    b.slice_step = s.slices.dilation * s.rows.length * width * c.channels
    b.row_step = s.rows.dilation * width * c.channels
    b.column_step = s.columns.dilation * c.channels
    for q in range(s.columns.windows):
        b.columns = s.columns.count[q]
        first = (s.slices.first[slice] * s.rows.length + s.rows.first[p]) * width + s.columns.first[q]
        best_pixels(<real*>NULL, place + q * c.pitch, x + first * c.channels, x_end, &b, n,
                    first if b.slices * b.rows * b.columns else -1, s.slices.dilation * s.rows.length * width,
                    s.rows.dilation * width, s.columns.dilation)


cdef void chosen_pixel_row(const Shape* s, const Call* c, real* dx, const real* dy, real* scratch, index slice,
                           index row, index n) noexcept nogil:
    """What one row of pixels of each slice takes from the windows at ``slice``."""
    cdef index places = s.depth * s.columns.windows * c.pitch
    cdef index* gradients = <index*>((<size_t>(scratch + places) + 15) // 16 * 16)
    cdef index* found = gradients + s.depth
    cdef index i, j, k, p = s.rows.window[row], plane, mine, width = s.columns.windows
    cdef const Axis* a = &s.columns
    cdef pool_windows w
    w.rows, w.dy, w.place = s.rows.belongs[row], gradients, found
    w.dy_step, w.place_step = a.window_step * c.channels, a.window_step * c.pitch
    for i in range(w.rows):
        gradients[i] = (slice * s.rows.windows + p) * width * c.channels
        found[i] = p % s.depth * width * c.pitch
        p += s.rows.window_step
    for k in range(s.slices.count[slice]):
        plane = s.slices.first[slice] + k * s.slices.dilation
        mine = (plane * s.rows.length + row) * a.length
        for j in range(a.length):
            w.columns = a.belongs[j]
            chosen_pixels(dx + (mine + j) * c.channels, s.slices.window[plane] != slice,
                          dy + a.window[j] * c.channels, <const real*>scratch + a.window[j] * c.pitch, &w, mine + j, n)
