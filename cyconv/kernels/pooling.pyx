"""Maximum and average pooling, forward; of three dimensions, of which signals and images are special cases.

Planes (NCHW): a window is joined down its rows first, whole rows of the plane at a time, into a row buffer whose
margins hold the neutral element (so that padding is no special case), then across its columns. 2 x 2 windows at
stride 2, the common case, and windows of whole planes are one pass without buffers. Channels-last: the channels of a
pixel are the vector, windows are clipped. Planes with windows of any kind, or with few of them in a row, are turned: as
many planes as a vector has lanes become the channels of pixels. Where the places of maxima are asked for, see
pool_shape.find_taps.

A *task* is some planes or some rows of pixels, cut by geometry alone. No two tasks write the same element.
"""

from cython.parallel cimport prange, threadid
from libc.math cimport INFINITY
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy, memset

from cyconv.kernels._kernel cimport NO_MEMORY, Pooling
from cyconv.kernels._workspace cimport Block, borrow, give
from cyconv.kernels.pool cimport (
    best_in_run,
    best_pixels,
    coded_pairs,
    integer_at,
    max_columns,
    max_pairs,
    max_pixels,
    max_planes,
    max_rows,
    max_spans,
    narrow,
    pool_block,
    sum_columns,
    sum_pairs,
    sum_pixels,
    sum_planes,
    sum_rows,
    sum_spans,
)
from cyconv.kernels.pool_axis cimport Axis, factors, index
from cyconv.kernels.pool_shape cimport Shape, close_shape, find_taps, narrow_pairs, open_shape, scratch_length, turned
from cyconv.kernels.simd cimport LANES_f32, flush_denormals, lanes, real, restore_denormals, transpose

cdef enum:
    TASK = 16384  # input elements of a task: a few microseconds of work, and enough tasks to share out
    CHANNEL_BLOCK = 256  # where there are fewer rows of pixels than tasks are wanted
    FEW_ROWS = 16
    ROWS_TURNED = 64  # joined rows that are turned together ...
    SHORTEST_TURNED = 24  # ... of at least so many pixels; of fewer, whole planes are better turned
    LONGEST_TURNED = 2048  # ... and at most so many: half of a second-level cache


# One call: the arrays' sizes, and how they are cut into tasks
cdef struct Call:
    index images, channels, planes, task, tasks, blocks
    bint average, last
    index turned  # planes at a time
    bint by_rows  # rows of windows are joined, then turned
    index per_thread  # elements of scratch memory
    int64_t* places  # where maxima stand, or their tap codes; both NULL: nobody asks
    uint8_t* codes


cdef class Pool(Pooling):
    """Pooling of one geometry, ready to run on arrays of either dtype and memory order."""

    cdef Shape shape

    def __init__(self, input, output, kernel, stride, padding, dilation, average=None):
        """A number (or pair) for each dimension; ``kernel`` None: adaptive windows; ``average``: see three_axes."""
        open_shape(&self.shape, input, output, kernel, stride, padding, dilation, average)

    def __dealloc__(self):
        close_shape(&self.shape)

    def finds_places(self, bint last):
        """Whether ``maximum`` can say where the maxima stand in this memory order."""
        return bool(last or self.shape.kernel or self.shape.whole or turned(&self.shape, True) > 0)

    def finds_codes(self, bint last):
        """Whether ``coded`` can say by which taps."""
        return bool(self.shape.coded and self.finds_places(last))

    def goes_back(self, bint last):
        """Whether ``pooling_gradient`` needs no places for the gradient of the maxima."""
        return bool(self.finds_codes(last) or (not last and self.shape.whole))

    cdef int maximum_at(self, bint single, void* out, int64_t* places, const void* x, index images, index channels,
                        bint last, int threads) noexcept nogil:
        return forward_of(&self.shape, single, False, out, places, NULL, x, images, channels, last, threads)

    cdef int coded_at(self, bint single, void* out, uint8_t* codes, const void* x, index images, index channels,
                      bint last, int threads) noexcept nogil:
        # ``out`` may be NULL: codes only.
        return forward_of(&self.shape, single, False, out, NULL, codes, x, images, channels, last, threads)

    cdef int average_at(self, bint single, void* out, const void* x, index images, index channels, bint last,
                        int threads) noexcept nogil:
        return forward_of(&self.shape, single, True, out, NULL, NULL, x, images, channels, last, threads)


cdef int forward_of(const Shape* s, bint single, bint average, void* out, int64_t* places, uint8_t* codes,
                    const void* x, index images, index channels, bint last, int threads) noexcept nogil:
    cdef Call c
    c.images, c.channels, c.last, c.average, c.places, c.codes = images, channels, last, average, places, codes
    if single:
        return forward[float](s, &c, <float*>out, <const float*>x, threads)
    return forward[double](s, &c, <double*>out, <const double*>x, threads)


cdef void cut(const Shape* s, Call* c, index vector, bint straight) noexcept nogil:
    """Tasks of some planes, or of some rows of output pixels, where these are few also of blocks of channels.
    ``vector``: elements of one; ``straight``: pairs go by the walk over them, without scratch memory, however narrow
    rows are."""
    cdef index rows = c.images * s.slices.windows * s.rows.windows, cost
    cdef bint named = c.places != NULL or c.codes != NULL
    c.planes, c.blocks, c.turned, c.by_rows = c.images * c.channels, 1, 0, False
    if c.last:
        cost = s.area // max(s.slices.windows * s.rows.windows, 1)
        if rows < FEW_ROWS:
            c.blocks = max((c.channels + CHANNEL_BLOCK - 1) // CHANNEL_BLOCK, 1)
        c.task = max(1, TASK // max(cost * max(c.channels, 1), 1))
        c.tasks = (rows + c.task - 1) // c.task * c.blocks
        c.per_thread = 2 * (c.channels + LANES_f32) if named else 0
        return
    c.task = max(1, TASK // s.area)
    c.turned = turned(s, named) * vector
    if (s.whole and (c.codes == NULL or (s.flat and c.planes < vector))) or (s.same and not named):
        c.turned = c.per_thread = 0
    elif (not named and (not s.kernel or s.columns.stride > 2)
          and SHORTEST_TURNED <= s.columns.length <= LONGEST_TURNED and s.columns.windows <= s.columns.length):
        c.turned, c.by_rows = 0, True
        c.task = max(c.task, ROWS_TURNED // max(s.slices.windows * s.rows.windows, 1))
        c.per_thread = ROWS_TURNED * (row_pitch(s) + s.columns.length + s.columns.windows + 1) + 2 * s.most_rows + 16
    elif c.turned and (c.planes >= vector or not s.kernel) and not (s.pairs and straight):
        c.turned = c.turned if c.planes >= c.turned else vector
        c.task = (c.task + c.turned - 1) // c.turned * c.turned
        c.per_thread = (s.area + 3 * s.out_area) * c.turned
    else:
        c.turned = c.per_thread = 0
        if named:
            c.per_thread = scratch_length(s)
        elif not s.pairs:
            c.per_thread = 2 * s.buffer + 2 * s.most_rows + 16
    c.tasks = (c.planes + c.task - 1) // c.task


cdef int forward(const Shape* s, Call* c, real* out, const real* x, int threads) noexcept nogil:
    cdef index i, per_thread
    cdef Block memory = Block(NULL, 0)
    cdef char* private = NULL
    # Rows of fewer windows waste too much of the work that a vector of taps takes.
    cut(s, c, lanes(x), c.places == NULL and (c.codes == NULL or s.columns.windows > lanes(x) // 4
                                              or narrow_pairs(s, lanes(x))))
    if threads > c.tasks:
        threads = <int>max(c.tasks, 1)
    per_thread = (c.per_thread * sizeof(real) + 4095) // 4096 * 4096
    if per_thread:
        if borrow(&memory, per_thread * threads):
            return NO_MEMORY
        private = <char*>memory.data
    if threads == 1:
        for i in range(c.tasks):
            forward_task(s, c, out, x, <real*>private, i)
    else:
        for i in prange(c.tasks, schedule="static", num_threads=threads):
            forward_task(s, c, out, x, <real*>(private + threadid() * per_thread), i)
    give(&memory)
    return 0


cdef void forward_task(const Shape* s, const Call* c, real* out, const real* x, real* scratch,
                       index task) noexcept nogil:
    cdef index first, end, block
    cdef const real* x_end = x + c.planes * s.area
    cdef uint64_t mode = 0
    if c.average:  # maxima only compare
        mode = flush_denormals()
    first = task // c.blocks * c.task
    if c.last:
        end = min(first + c.task, c.images * s.slices.windows * s.rows.windows)
        block = task % c.blocks * CHANNEL_BLOCK if c.blocks > 1 else 0
        pixel_rows(s, c, out, <real*>NULL, x, x_end, scratch, first, end, block,
                   min(CHANNEL_BLOCK, c.channels - block) if c.blocks > 1 else c.channels)
    else:
        plane_task(s, c, out, x, x_end, scratch, first, min(first + c.task, c.planes))
    if c.average:
        restore_denormals(mode)


cdef void plane_task(const Shape* s, const Call* c, real* out, const real* x, const real* x_end, real* scratch,
                     index first, index end) noexcept nogil:
    """Planes ``first`` to ``end``."""
    cdef index plane, i
    cdef real ignored
    if c.turned:
        plane = first
        while plane < end:
            turned_planes(s, c, out, x, scratch, plane, min(end - plane, c.turned))
            plane += c.turned
    elif s.whole and c.per_thread == 0 and (c.places != NULL or c.codes != NULL):
        for plane in range(first, end):
            i = best_in_run(x + plane * s.area, x_end, s.area, &ignored if out == NULL else out + plane)
            if c.places != NULL:
                c.places[plane] = i
            else:
                c.codes[plane] = <uint8_t>i
    elif s.pairs and c.codes != NULL:
        pair_planes(s, c, out, x, x_end, first, end)
    elif c.places != NULL or c.codes != NULL:
        for i in range(s.at_best):
            scratch[i] = <real>-INFINITY
        for plane in range(first, end):
            placed_plane(s, c, out, plane, x, scratch)
    elif s.same:
        memcpy(out + first * s.area, x + first * s.area, (end - first) * s.area * sizeof(real))
    elif s.whole and c.average:
        sum_planes(out + first, x + first * s.area, x_end, s.area, end - first, whole_factor(s, x))
    elif s.whole:
        max_planes(out + first, x + first * s.area, x_end, s.area, end - first)
    elif s.pairs:
        pair_planes(s, c, out, x, x_end, first, end)
    elif c.by_rows:
        joined_rows(s, c, out, x, x_end, scratch, first, end)
    else:
        planes(s, c, out, x, x_end, scratch, first, end)


cdef void turned_planes(const Shape* s, const Call* c, real* out, const real* x, real* scratch, index plane,
                        index many) noexcept nogil:
    """``many`` planes as the channels of one image."""
    cdef index vector = c.turned, i, n = many * s.out_area
    cdef real* pooled = scratch + s.area * vector
    cdef real* names = pooled + s.out_area * vector
    cdef real* flat = names + s.out_area * vector
    cdef bint named = c.places != NULL or c.codes != NULL
    cdef Call t = c[0]
    t.images, t.channels, t.planes, t.last = 1, vector, vector, True
    if many < vector:
        memset(scratch, 0, s.area * vector * sizeof(real))
    transpose(x + plane * s.area, s.area, many, s.area, scratch, vector)
    pixel_rows(s, &t, pooled, names if named else <real*>NULL, <const real*>scratch,
               <const real*>scratch + s.area * vector, flat, 0, s.slices.windows * s.rows.windows, 0, vector)
    if out != NULL:
        transpose(<const real*>pooled, vector, s.out_area, many, out + plane * s.out_area, s.out_area)
    if named:
        # As real numbers the names only move.
        transpose(<const real*>names, vector, s.out_area, many, flat, s.out_area)
    if c.codes != NULL:
        narrow(c.codes + plane * s.out_area, <const real*>flat, n)
    elif c.places != NULL:
        for i in range(n):
            c.places[plane * s.out_area + i] = integer_at(<const real*>flat, i)


cdef inline real whole_factor(const Shape* s, const real* like) noexcept nogil:
    """The factor of the first window."""
    return <real>(s.slices.factor[0] * s.rows.factor[0] * s.columns.factor[0])


cdef void pair_planes(const Shape* s, const Call* c, real* out, const real* x, const real* x_end, index first,
                      index end) noexcept nogil:
    cdef index plane = first, rows = s.rows.windows, width = s.columns.length
    cdef real* out_end = out + end * s.out_area
    cdef real factor = whole_factor(s, x)
    if s.rows.length == 2 * rows:
        # The rows of all planes follow each other without a gap.
        rows *= end - first
        end = min(end, first + 1)
    for plane in range(first, end):
        if c.average:
            sum_pairs(out + plane * s.out_area, out_end, x + plane * s.area, x_end, width, rows, s.columns.windows,
                      factor)
        elif c.codes != NULL:
            coded_pairs(NULL if out == NULL else out + plane * s.out_area, out_end, c.codes + plane * s.out_area,
                        x + plane * s.area, x_end, width, rows, s.columns.windows)
        else:
            max_pairs(out + plane * s.out_area, out_end, x + plane * s.area, x_end, width, rows, s.columns.windows)


cdef index window_rows(const Shape* s, index slice, index p, index* rows) noexcept nogil:
    """Where the rows begin that row p of the windows at ``slice`` meets; returns how many there are."""
    cdef index k, _r, n = 0, at
    for k in range(s.slices.count[slice]):
        at = ((s.slices.first[slice] + k * s.slices.dilation) * s.rows.length + s.rows.first[p]) * s.columns.length
        for _r in range(s.rows.count[p]):
            rows[n] = at
            n += 1
            at += s.rows.dilation * s.columns.length
    return n


cdef void planes(const Shape* s, const Call* c, real* out, const real* x, const real* x_end, real* lines, index first,
                 index end) noexcept nogil:
    """Join the rows of each window into a row buffer with neutral margins, then its columns.

    The columns are one row behind, in two buffers by turns: a vector that is loaded across two that were just stored
    would wait until both have reached the cache.
    """
    cdef index* rows = <index*>((<size_t>(lines + 2 * s.buffer) + 15) // 16 * 16)
    cdef index per_plane = s.slices.windows * s.rows.windows, i, n, plane, row, slice
    cdef real neutral = <real>(0 if c.average else -INFINITY)
    cdef real* out_end = out + end * s.out_area
    cdef real* line
    cdef real factor = 0, next_factor = 0
    for i in range(2 * s.buffer):
        lines[i] = neutral
    row = slice = 0
    plane = first
    for i in range(first * per_plane, end * per_plane + 1):
        if i < end * per_plane:
            n = window_rows(s, slice, row, rows)
            line = lines + i % 2 * s.buffer + s.margin_before
            if c.average:
                sum_rows(line, x + plane * s.area, x_end, rows, n, s.columns.length)
                next_factor = <real>(s.slices.factor[slice] * s.rows.factor[row])
            else:
                max_rows(line, x + plane * s.area, x_end, rows, n, s.columns.length)
            row += 1
            if row == s.rows.windows:
                row = 0
                slice += 1
                if slice == s.slices.windows:
                    slice = 0
                    plane += 1
        if i > first * per_plane:
            columns(s, c, out + (i - 1) * s.columns.windows, out_end, lines + (i - 1) % 2 * s.buffer, factor)
        factor = next_factor


cdef inline index row_pitch(const Shape* s) noexcept nogil:
    """Of joined rows, and the vectors that are written behind them."""
    return s.columns.length + 2 * LANES_f32


cdef void joined_rows(const Shape* s, const Call* c, real* out, const real* x, const real* x_end, real* lines,
                      index first, index end) noexcept nogil:
    """Columns of any kind: join the rows of each window, then turn many such rows, whose pixels are joined as those of
    channels, and turn the results back."""
    cdef index pitch = row_pitch(s), i, n, per_plane = s.slices.windows * s.rows.windows, many = 0, at
    cdef real* factor = lines + ROWS_TURNED * pitch
    cdef real* turned_lines = factor + ROWS_TURNED
    cdef index* rows = <index*>((<size_t>(turned_lines + ROWS_TURNED * (s.columns.length + s.columns.windows)) + 15)
                                // 16 * 16)
    for i in range(first * per_plane, end * per_plane):
        at = i % per_plane
        n = window_rows(s, at // s.rows.windows, at % s.rows.windows, rows)
        if c.average:
            sum_rows(lines + many * pitch, x + i // per_plane * s.area, x_end, rows, n, s.columns.length)
            factor[many] = <real>(s.slices.factor[at // s.rows.windows] * s.rows.factor[at % s.rows.windows])
        else:
            max_rows(lines + many * pitch, x + i // per_plane * s.area, x_end, rows, n, s.columns.length)
        many += 1
        if many == ROWS_TURNED or i == end * per_plane - 1:
            turned_rows(s, c, out + (i + 1 - many) * s.columns.windows, lines, factor, turned_lines, many)
            many = 0


cdef void turned_rows(const Shape* s, const Call* c, real* out, const real* lines, const real* factor, real* pixels,
                      index many) noexcept nogil:
    """``many`` joined rows as the channels of one row of pixels."""
    cdef index q, i, n = s.columns.windows
    cdef real* pooled = pixels + ROWS_TURNED * s.columns.length
    cdef const real* source
    cdef pool_block b
    b.slices = b.rows = 1
    b.slice_step = b.row_step = 0
    b.column_step = s.columns.dilation * ROWS_TURNED
    transpose(lines, row_pitch(s), many, s.columns.length, pixels, ROWS_TURNED)
    for q in range(n):
        b.columns = s.columns.count[q]
        source = pixels + s.columns.first[q] * ROWS_TURNED
        if c.average:
            sum_pixels(pooled + q * ROWS_TURNED, pooled + n * ROWS_TURNED, source, <const real*>pooled, &b, many,
                       factors(&s.columns, lines)[q])
            for i in range(many):
                pooled[q * ROWS_TURNED + i] *= factor[i]
        else:
            max_pixels(pooled + q * ROWS_TURNED, pooled + n * ROWS_TURNED, source, <const real*>pooled, &b, many)
    transpose(<const real*>pooled, ROWS_TURNED, n, many, out, n)


cdef inline void columns(const Shape* s, const Call* c, real* out, const real* out_end, const real* line,
                         real factor) noexcept nogil:
    """One row of outputs from joined rows of the input."""
    cdef const Axis* a = &s.columns
    if s.kernel:
        if c.average:
            sum_columns(out, out_end, line, a.windows, a.taps, a.stride, a.dilation, factors(a, line), factor)
        else:
            max_columns(out, out_end, line, a.windows, a.taps, a.stride, a.dilation)
    elif c.average:
        sum_spans(out, line, a.windows, a.first, a.count, a.dilation, factors(a, line), factor)
    else:
        max_spans(out, line, a.windows, a.first, a.count, a.dilation)


cdef inline const index* names_step(const Shape* s, const Call* c) noexcept nogil:
    """How the names of taps grow: tap codes or places."""
    if c.codes != NULL:
        return s.code_step
    return s.place_step


cdef void placed_plane(const Shape* s, const Call* c, real* out, index plane, const real* x,
                       real* scratch) noexcept nogil:
    """Maxima of a volume and where they stand."""
    cdef index slice, p, q, place, corner, loaded, n = s.columns.windows, at = plane * s.out_area
    cdef const index* step = names_step(s, c)
    cdef real* code
    x += plane * s.area
    for slice in range(s.slices.windows):
        loaded = 0
        for p in range(s.rows.windows):
            code = scratch + s.at_code + p % 2 * s.length
            find_taps(s, x, scratch, code, slice, p, step, &loaded)
            if out != NULL:
                memcpy(out + at, scratch + s.at_best, n * sizeof(real))
            if c.codes != NULL:
                narrow(c.codes + at, <const real*>code, n)
            else:
                corner = (slice * s.slices.stride - s.slices.low) * s.rows.length + p * s.rows.stride - s.rows.low
                corner = corner * s.columns.length - s.columns.low
                for q in range(n):
                    place = integer_at(<const real*>code, q)
                    c.places[at + q] = corner + q * s.columns.stride + place if place >= 0 else -1
            at += n


cdef void pixel_rows(const Shape* s, const Call* call, real* out, real* names, const real* x, const real* x_end,
                     real* scratch, index first, index end, index block, index n) noexcept nogil:
    """Channels-last: output rows ``first`` to ``end``, counted through all images; ``n`` channels from ``block``.

    ``names``: NULL, or an array for places or tap codes in which they need not become integers of their own size yet.
    """
    cdef index channels = call.channels, line, p, q, image, slice, c, place, name, width = s.columns.length
    cdef index at = first * s.columns.windows * channels + block
    cdef const index* step = names_step(s, call)
    cdef bint named = call.places != NULL or call.codes != NULL
    cdef bint whole = n % lanes(x) == 0  # vectors, which may go to their place at once
    cdef real* out_end = out + end * s.columns.windows * channels
    cdef real* where
    cdef real* best
    cdef const real* source
    cdef real factor
    cdef pool_block b
    b.slice_step = s.slices.dilation * s.rows.length * width * channels
    b.row_step = s.rows.dilation * width * channels
    b.column_step = s.columns.dilation * channels
    for line in range(first, end):
        p = line % s.rows.windows
        slice = line // s.rows.windows % s.slices.windows
        image = line // (s.rows.windows * s.slices.windows)
        b.slices, b.rows = s.slices.count[slice], s.rows.count[p]
        factor = <real>(s.slices.factor[slice] * s.rows.factor[p])
        for q in range(s.columns.windows):
            b.columns = s.columns.count[q]
            place = (s.slices.first[slice] * s.rows.length + s.rows.first[p]) * width + s.columns.first[q]
            source = x + (image * s.area + place) * channels + block
            if named:
                name = place
                if call.codes != NULL:
                    name = s.slices.tap[slice] * step[0] + s.rows.tap[p] * step[1] + s.columns.tap[q]
                if b.slices * b.rows * b.columns == 0:
                    name = -1
                where = scratch + n + LANES_f32 if names == NULL else names + at
                best = <real*>NULL if out == NULL else out + at if whole else scratch
                best_pixels(best, where, source, x_end, &b, n, name, step[0], step[1], step[2])
                if out != NULL and not whole:
                    memcpy(out + at, scratch, n * sizeof(real))
                if names == NULL and call.codes != NULL:
                    narrow(call.codes + at, <const real*>where, n)
                elif names == NULL:
                    for c in range(n):
                        call.places[at + c] = integer_at(<const real*>where, c)
            elif call.average:
                sum_pixels(out + at, out_end, source, x_end, &b, n, factor * factors(&s.columns, x)[q])
            else:
                max_pixels(out + at, out_end, source, x_end, &b, n)
            at += channels
