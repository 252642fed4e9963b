"""Maximum and average pooling, forward and backward.

Planes (NCHW): a window is joined down its rows first, whole rows of the plane at a time, into a row buffer whose
margins hold the neutral element (so that padding is no special case), then across its columns. The gradient of maxima
finds the winning taps again: input rows are split by the stride into a ring of padded buffers, where each tap of
neighbouring windows is a stretch of memory. Forward and backward together, that is faster than to write down places in
forward (measured: 3 x 3 by 1.1, 2 x 2 by 4): 2 x 2 windows at stride 2, the common case, are one pass without buffers.
Channels-last: the channels of a pixel are the vector, windows are clipped.

A *task* is some planes or some rows of pixels, cut by geometry alone. No two tasks write the same element.
"""

from cython.parallel cimport prange, threadid
from libc.math cimport INFINITY
from libc.stdint cimport int32_t, int64_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from cyconv.kernels._kernel cimport NO_MEMORY, Pooling
from cyconv.kernels._workspace cimport Block, borrow, give
from cyconv.kernels.pool cimport (
    add_scaled,
    best_pixels,
    best_taps,
    index,
    integer_at,
    max_columns,
    max_pairs,
    max_pairs_backward,
    max_pixels,
    max_rows,
    merge_row,
    scatter_pixels,
    scatter_row,
    split_row,
    sum_columns,
    sum_pairs,
    sum_pixels,
    sum_rows,
    take_row,
)
from cyconv.kernels.simd cimport LANES_f32, flush_denormals, real, restore_denormals

# Input elements of a task: a few microseconds of work, and enough tasks to share out.
cdef enum:
    TASK = 16384
    CHANNEL_BLOCK = 64


cdef struct Shape:
    index height, width, out_height, out_width
    index kernel_rows, kernel_columns, stride_row, stride_column, pad_row, pad_column, dilation_row, dilation_column
    bint pairs  # 2 x 2 windows at stride 2 within the input
    index padded_out  # out_width in whole vectors
    index buffer  # length of the row buffer
    index ring, phase  # split input rows: how many, length of one phase
    index depth, margin, length  # rows of windows that meet one input row: how many, zeros before them, length of all
    # Where things stand in the scratch memory, in elements; after them kernel_rows indices. Maxima: the ring of split
    # rows, maxima of one row, places of two. Averages: two rows of gradients, the ring of them spread out, columns.
    index at_best, at_place, at_spread, at_columns, scratch
    # One call
    index images, channels, planes, task_planes, task_rows, channel_block


cdef class Pool(Pooling):
    """Pooling of one geometry, ready to run on arrays of either dtype and memory order."""

    cdef Shape shape
    cdef index* tap_place  # of each column tap in a split row
    # Of each tap in the flat plane, from where the window begins; of each output column the first tap that meets the
    # input, or -1
    cdef int32_t* tap_shift32
    cdef int64_t* tap_shift64
    cdef int32_t* first_tap32
    cdef int64_t* first_tap64
    # Column taps by the parity of their offset (stride 2; at stride 1 all are even): where each half begins, and how
    # many windows before the one that begins at a column the tap finds it
    cdef index half_first[3]
    cdef index* half_shift
    # Averages: one over the places of a window, as a factor for its row times a factor for its column
    cdef double* row_factor
    cdef double* column_factor
    cdef float* column_factor32

    def __init__(self, input, output, kernel, stride, padding, dilation, row_counts=None, column_counts=None):
        """Two numbers for each argument; ``padding`` the low ones; counts: places of a window by its row and column."""
        cdef Shape* s = &self.shape
        s.height, s.width = input
        s.out_height, s.out_width = output
        s.kernel_rows, s.kernel_columns = kernel
        s.stride_row, s.stride_column = stride
        s.pad_row, s.pad_column = padding
        s.dilation_row, s.dilation_column = dilation
        s.pairs = (kernel == (2, 2) and stride == (2, 2) and padding == (0, 0) and dilation == (1, 1)
                   and 2 * s.out_height <= s.height and 2 * s.out_width <= s.width)
        self.lay_out()
        self.fill_tables()
        if row_counts is not None:
            for r in range(s.out_height):
                self.row_factor[r] = 1.0 / row_counts[r]
            for q in range(s.out_width):
                self.column_factor[q] = 1.0 / column_counts[q]
                self.column_factor32[q] = <float>self.column_factor[q]

    cdef lay_out(self):
        """Lengths of all buffers; vectors are counted as those of float, the longest."""
        cdef Shape* s = &self.shape
        cdef index vector = LANES_f32, reach = (s.kernel_columns - 1) * s.dilation_column
        cdef index in_phase = (s.pad_column + s.width - 1) // s.stride_column + 1
        s.padded_out = (s.out_width + vector - 1) // vector * vector
        s.buffer = max(s.pad_column + s.width + vector, s.padded_out * s.stride_column + reach + 2 * vector)
        s.phase = max(in_phase + 2 * vector, s.padded_out + reach // s.stride_column + 1)
        span = (s.kernel_rows - 1) * s.dilation_row + 1
        # Rings have room for rows that are written ahead of their use: see plane_backward.
        s.ring = span + s.stride_row
        s.depth = (span - 1) // s.stride_row + 1 + 2
        s.margin = reach // s.stride_column
        # A ring of averages holds rows of the input's width.
        s.length = s.margin + max(max(s.padded_out, in_phase + vector), s.width) + vector
        s.at_best = s.ring * s.stride_column * s.phase
        s.at_place = s.at_best + s.padded_out
        s.at_spread = 2 * s.length
        s.at_columns = s.at_spread + s.depth * s.length
        s.scratch = max(s.at_place + 2 * s.padded_out, s.at_columns + max(2 * s.phase, s.buffer))

    cdef fill_tables(self):
        cdef Shape* s = &self.shape
        cdef index r, c, f, q, first, last, half, at = 0
        self.tap_place = <index*>calloc(s.kernel_columns, sizeof(index))
        self.tap_shift32 = <int32_t*>calloc(s.kernel_rows * s.kernel_columns, sizeof(int32_t))
        self.tap_shift64 = <int64_t*>calloc(s.kernel_rows * s.kernel_columns, sizeof(int64_t))
        self.half_shift = <index*>calloc(s.kernel_columns, sizeof(index))
        self.first_tap32 = <int32_t*>calloc(s.padded_out, sizeof(int32_t))
        self.first_tap64 = <int64_t*>calloc(s.padded_out, sizeof(int64_t))
        self.row_factor = <double*>calloc(s.out_height, sizeof(double))
        self.column_factor = <double*>calloc(s.padded_out, sizeof(double))
        self.column_factor32 = <float*>calloc(s.padded_out, sizeof(float))
        if (self.tap_place == NULL or self.tap_shift32 == NULL or self.tap_shift64 == NULL
                or self.half_shift == NULL or self.first_tap32 == NULL or self.first_tap64 == NULL
                or self.row_factor == NULL or self.column_factor == NULL or self.column_factor32 == NULL):
            raise MemoryError("cyconv: no memory for the tables of a pooling layer")
        for c in range(s.kernel_columns):
            f = c * s.dilation_column
            self.tap_place[c] = f % s.stride_column * s.phase + f // s.stride_column
            for r in range(s.kernel_rows):
                self.tap_shift64[r * s.kernel_columns + c] = r * s.dilation_row * s.width + f
                self.tap_shift32[r * s.kernel_columns + c] = <int32_t>(r * s.dilation_row * s.width + f)
        for half in range(2):
            self.half_first[half] = at
            for c in range(s.kernel_columns):
                if c * s.dilation_column % min(s.stride_column, 2) == half:
                    self.half_shift[at] = c * s.dilation_column // min(s.stride_column, 2)
                    at += 1
        self.half_first[2] = at
        for q in range(s.out_width):
            clip(q * s.stride_column - s.pad_column, s.width, s.kernel_columns, s.dilation_column, &first, &last)
            self.first_tap64[q] = first * s.dilation_column if first < last else -1
            self.first_tap32[q] = <int32_t>self.first_tap64[q]

    def __dealloc__(self):
        free(self.tap_place)
        free(self.tap_shift32)
        free(self.tap_shift64)
        free(self.half_shift)
        free(self.first_tap32)
        free(self.first_tap64)
        free(self.row_factor)
        free(self.column_factor)
        free(self.column_factor32)

    cdef int maximum_at(self, bint single, void* out, int64_t* places, const void* x, index images, index channels,
                        bint last, int threads) noexcept nogil:
        if single:
            return forward[float](self, False, <float*>out, places, <const float*>x, images, channels, last, threads)
        return forward[double](self, False, <double*>out, places, <const double*>x, images, channels, last, threads)

    cdef int average_at(self, bint single, void* out, const void* x, index images, index channels, bint last,
                        int threads) noexcept nogil:
        if single:
            return forward[float](self, True, <float*>out, NULL, <const float*>x, images, channels, last, threads)
        return forward[double](self, True, <double*>out, NULL, <const double*>x, images, channels, last, threads)

    cdef int maximum_backward_at(self, bint single, void* dx, const void* dy, const void* x, const int64_t* places,
                                 index images, index channels, bint last, int threads) noexcept nogil:
        if single:
            return backward[float](self, False, <float*>dx, <const float*>dy, <const float*>x, places, images, channels,
                                   last, threads)
        return backward[double](self, False, <double*>dx, <const double*>dy, <const double*>x, places, images, channels,
                                last, threads)

    cdef int average_backward_at(self, bint single, void* dx, const void* dy, index images, index channels, bint last,
                                 int threads) noexcept nogil:
        if single:
            return backward[float](self, True, <float*>dx, <const float*>dy, NULL, NULL, images, channels, last,
                                   threads)
        return backward[double](self, True, <double*>dx, <const double*>dy, NULL, NULL, images, channels, last, threads)


cdef inline void clip(index start, index size, index taps, index dilation, index* first, index* last) noexcept nogil:
    """Which taps first <= t < last of a window that begins at ``start`` meet an axis of ``size`` pixels."""
    first[0] = (-start + dilation - 1) // dilation if start < 0 else 0
    last[0] = min(taps, (size - start + dilation - 1) // dilation) if size > start else 0
    if last[0] < first[0]:
        last[0] = first[0]


cdef int forward(Pool pool, bint average, real* out, int64_t* places, const real* x, index images, index channels,
                 bint last, int threads) noexcept nogil:
    cdef Shape s = pool.shape
    cdef index tasks, i, per_thread = 0
    cdef Block memory = Block(NULL, 0)
    cdef char* private = NULL
    s.images, s.channels, s.planes = images, channels, images * channels
    s.task_planes = max(1, TASK // (s.height * s.width))
    s.task_rows = max(1, TASK // (s.stride_row * s.width * max(channels, 1)))
    if last:
        tasks = (images * s.out_height + s.task_rows - 1) // s.task_rows
        per_thread = 2 * (channels + LANES_f32) if places != NULL else 0
    else:
        tasks = (s.planes + s.task_planes - 1) // s.task_planes
        per_thread = scratch_length(&s) if places != NULL else 2 * s.buffer if not s.pairs else 0
    if threads > tasks:
        threads = <int>max(tasks, 1)
    per_thread = (per_thread * sizeof(real) + 4095) // 4096 * 4096
    if per_thread:
        if borrow(&memory, per_thread * threads):
            return NO_MEMORY
        private = <char*>memory.data
    if threads == 1:
        for i in range(tasks):
            forward_task(pool, &s, average, out, places, x, last, private, i)
    else:
        for i in prange(tasks, schedule="static", num_threads=threads):
            forward_task(pool, &s, average, out, places, x, last, private + threadid() * per_thread, i)
    give(&memory)
    return 0


cdef inline index scratch_length(const Shape* s) noexcept nogil:
    """Elements of all scratch memory, the indices behind it included."""
    return s.scratch + 2 * s.kernel_rows + 16


cdef inline index* indices_in(const Shape* s, const real* scratch) noexcept nogil:
    """As many indices as the kernel has rows."""
    return <index*>((<size_t>(scratch + s.scratch) + 15) // 16 * 16)


cdef inline const real* column_factors(Pool pool, const real* like) noexcept nogil:
    return <const real*>pool.column_factor32 if real is float else <const real*>pool.column_factor


cdef inline const real* first_taps(Pool pool, const real* like) noexcept nogil:
    return <const real*>pool.first_tap32 if real is float else <const real*>pool.first_tap64


cdef inline const real* tap_shifts(Pool pool, const real* like) noexcept nogil:
    return <const real*>pool.tap_shift32 if real is float else <const real*>pool.tap_shift64


cdef void forward_task(Pool pool, const Shape* s, bint average, real* out, int64_t* places, const real* x, bint last,
                       char* private, index task) noexcept nogil:
    cdef index first, end, area = s.height * s.width, out_area = s.out_height * s.out_width, plane
    cdef const real* x_end = x + s.planes * area
    cdef uint64_t mode = 0
    if average:  # maxima only compare
        mode = flush_denormals()
    if last:
        first = task * s.task_rows
        end = min(first + s.task_rows, s.images * s.out_height)
        pixel_rows(pool, s, average, out, places, x, x_end, <real*>private, first, end)
    else:
        first = task * s.task_planes
        end = min(first + s.task_planes, s.planes)
        if places != NULL:
            clear_scratch(s, average, <real*>private)
            for plane in range(first, end):
                placed_plane(pool, s, out + plane * out_area, places + plane * out_area, x + plane * area,
                             <real*>private)
        elif s.pairs:
            pair_planes(pool, s, average, out, x, x_end, first, end)
        else:
            planes(pool, s, average, out, x, x_end, <real*>private, first, end)
    if average:
        restore_denormals(mode)


cdef void pair_planes(Pool pool, const Shape* s, bint average, real* out, const real* x, const real* x_end, index first,
                      index end) noexcept nogil:
    cdef index area = s.height * s.width, out_area = s.out_height * s.out_width, plane = first, rows = s.out_height
    cdef real* out_end = out + end * out_area
    cdef real factor = <real>(pool.row_factor[0] * pool.column_factor[0])
    if s.height == 2 * s.out_height:
        # The rows of all planes follow each other without a gap.
        rows *= end - first
        end = min(end, first + 1)
    for plane in range(first, end):
        if average:
            sum_pairs(out + plane * out_area, out_end, x + plane * area, x_end, s.width, rows, s.out_width, factor)
        else:
            max_pairs(out + plane * out_area, out_end, x + plane * area, x_end, s.width, rows, s.out_width)


cdef void planes(Pool pool, const Shape* s, bint average, real* out, const real* x, const real* x_end, real* lines,
                 index first, index end) noexcept nogil:
    """Join the rows of each window into a row buffer with neutral margins, then its columns.

    The columns are one row behind, in two buffers by turns: a vector that is loaded across two that were just stored
    would wait until both have reached the cache.
    """
    cdef index area = s.height * s.width, pitch = s.dilation_row * s.width
    cdef index i, p, top, bottom, start
    cdef real neutral = <real>(0 if average else -INFINITY)
    cdef real* out_end = out + end * s.out_height * s.out_width
    cdef real* line
    cdef const real* source
    for i in range(2 * s.buffer):
        lines[i] = neutral
    for i in range(first * s.out_height, end * s.out_height + 1):
        if i < end * s.out_height:
            start = i % s.out_height * s.stride_row - s.pad_row
            clip(start, s.height, s.kernel_rows, s.dilation_row, &top, &bottom)
            source = x + i // s.out_height * area + (start + top * s.dilation_row) * s.width
            line = lines + i % 2 * s.buffer + s.pad_column
            if average:
                sum_rows(line, source, x_end, pitch, bottom - top, s.width)
            else:
                max_rows(line, source, x_end, pitch, bottom - top, s.width)
        if i > first * s.out_height:
            p = i - 1
            line = lines + p % 2 * s.buffer
            if average:
                sum_columns(out + p * s.out_width, out_end, <const real*>line, s.out_width, s.kernel_columns,
                            s.stride_column, s.dilation_column, column_factors(pool, lines),
                            <real>pool.row_factor[p % s.out_height])
            else:
                max_columns(out + p * s.out_width, out_end, <const real*>line, s.out_width, s.kernel_columns,
                            s.stride_column, s.dilation_column)


cdef void clear_scratch(const Shape* s, bint average, real* scratch) noexcept nogil:
    """Fill what rows will not overwrite: margins of -inf around input rows, of zero around gradients."""
    cdef index i
    if average:
        memset(scratch, 0, s.scratch * sizeof(real))
    else:
        for i in range(s.at_best):
            scratch[i] = <real>-INFINITY


cdef void find_taps(Pool pool, const Shape* s, const real* x, real* scratch, index p, index* loaded) noexcept nogil:
    """Maxima and winning taps of row p of the windows of a plane; ``loaded``: input rows that are split already.

    One row of windows ahead, that is: see planes.
    """
    cdef index slot = s.stride_column * s.phase, start = p * s.stride_row - s.pad_row, row, r, top, bottom
    cdef index ahead = min(start + s.ring, s.height)  # the next row of windows' too
    cdef index* rows = indices_in(s, scratch)
    clip(start, s.height, s.kernel_rows, s.dilation_row, &top, &bottom)
    row = max(loaded[0], start, 0)
    if row < ahead:
        r = row % s.ring
        while row < ahead:
            split_row(scratch + r * slot, s.phase, x + row * s.width, s.width, s.pad_column, s.stride_column)
            row += 1
            r = r + 1 if r + 1 < s.ring else 0
    loaded[0] = ahead
    # Divisions cost as much as vectors of a row here, so there is but one.
    row = (start + top * s.dilation_row) % s.ring
    for r in range(top, bottom):
        rows[r] = row * slot
        row += s.dilation_row
        while row >= s.ring:
            row -= s.ring
    best_taps(scratch + s.at_best, scratch + s.at_place + p % 2 * s.padded_out, <const real*>scratch,
              first_taps(pool, scratch), tap_shifts(pool, scratch), rows, top, bottom, pool.tap_place, s.kernel_columns,
              s.out_width)


cdef void placed_plane(Pool pool, const Shape* s, real* out, int64_t* places, const real* x,
                       real* scratch) noexcept nogil:
    """Maxima of a plane and where they stand."""
    cdef index p, q, place, corner, loaded = 0
    for p in range(s.out_height):
        find_taps(pool, s, x, scratch, p, &loaded)
        memcpy(out + p * s.out_width, scratch + s.at_best, s.out_width * sizeof(real))
        corner = (p * s.stride_row - s.pad_row) * s.width - s.pad_column
        for q in range(s.out_width):
            place = integer_at(<const real*>scratch + s.at_place + p % 2 * s.padded_out, q)
            places[p * s.out_width + q] = corner + q * s.stride_column + place if place >= 0 else -1


cdef void pixel_rows(Pool pool, const Shape* s, bint average, real* out, int64_t* places, const real* x,
                     const real* x_end, real* scratch, index first, index end) noexcept nogil:
    """Channels-last: output rows ``first`` to ``end``, counted through all images."""
    cdef index n = s.channels, line, p, q, image, top, bottom, left, right, row, column, c, place
    cdef index row_step = s.dilation_row * s.width * n, column_step = s.dilation_column * n
    cdef real* to = out + first * s.out_width * n
    cdef real* out_end = out + end * s.out_width * n
    cdef real* where = scratch + n + LANES_f32
    cdef const real* source
    for line in range(first, end):
        image = line // s.out_height
        p = line % s.out_height
        row = p * s.stride_row - s.pad_row
        clip(row, s.height, s.kernel_rows, s.dilation_row, &top, &bottom)
        for q in range(s.out_width):
            column = q * s.stride_column - s.pad_column
            clip(column, s.width, s.kernel_columns, s.dilation_column, &left, &right)
            source = x + ((image * s.height + row + top * s.dilation_row) * s.width + column
                          + left * s.dilation_column) * n
            if places != NULL:
                place = -1
                if top < bottom and left < right:
                    place = (row + top * s.dilation_row) * s.width + column + left * s.dilation_column
                best_pixels(scratch, where, source, x_end, bottom - top, row_step, right - left, column_step, n, place)
                memcpy(to, scratch, n * sizeof(real))
                for c in range(n):
                    places[to - out + c] = integer_at(<const real*>where, c)
            elif average:
                sum_pixels(to, out_end, source, x_end, bottom - top, row_step, right - left, column_step, n,
                           <real>(pool.row_factor[p] * pool.column_factor[q]))
            else:
                max_pixels(to, out_end, source, x_end, bottom - top, row_step, right - left, column_step, n)
            to += n


cdef int backward(Pool pool, bint average, real* dx, const real* dy, const real* x, const int64_t* places, index images,
                  index channels, bint last, int threads) noexcept nogil:
    """Returns how many places were no place of the plane."""
    cdef Shape s = pool.shape
    cdef index tasks, i, per_thread = 0, blocks
    cdef Block memory = Block(NULL, 0)
    cdef char* private = NULL
    cdef int wrong = 0
    s.images, s.channels, s.planes = images, channels, images * channels
    s.task_planes = max(1, TASK // (s.height * s.width))
    # Gradients of one image meet: what may be shared out is the channels, and for few images it has to be.
    s.channel_block = max(channels, 1) if images >= 16 else CHANNEL_BLOCK
    if last:
        blocks = (channels + s.channel_block - 1) // s.channel_block
        tasks = images * blocks
    else:
        tasks = (s.planes + s.task_planes - 1) // s.task_planes
        if places == NULL and (average or not s.pairs):
            per_thread = scratch_length(&s)
    if threads > tasks:
        threads = <int>max(tasks, 1)
    per_thread = (per_thread * sizeof(real) + 4095) // 4096 * 4096
    if per_thread:
        if borrow(&memory, per_thread * threads):
            return NO_MEMORY
        private = <char*>memory.data
    if threads == 1:
        for i in range(tasks):
            wrong += backward_task(pool, &s, average, dx, dy, x, places, last, private, i)
    else:
        for i in prange(tasks, schedule="static", num_threads=threads):
            wrong += backward_task(pool, &s, average, dx, dy, x, places, last, private + threadid() * per_thread, i)
    give(&memory)
    return wrong


cdef int backward_task(Pool pool, const Shape* s, bint average, real* dx, const real* dy, const real* x,
                       const int64_t* places, bint last, char* private, index task) noexcept nogil:
    cdef index first, end, plane, area = s.height * s.width, out_area = s.out_height * s.out_width, blocks, image, block
    cdef int wrong = 0
    cdef uint64_t mode = flush_denormals() if average else 0
    if last:
        blocks = (s.channels + s.channel_block - 1) // s.channel_block
        image = task // blocks
        block = task % blocks * s.channel_block
        wrong = pixels_backward(pool, s, average, dx, dy, x, places, image, block,
                                min(s.channel_block, s.channels - block))
    else:
        first = task * s.task_planes
        end = min(first + s.task_planes, s.planes)
        if places != NULL:
            memset(dx + first * area, 0, (end - first) * area * sizeof(real))
            for plane in range(first, end):
                wrong += scatter(dx + plane * area, dy + plane * out_area, places + plane * out_area, out_area, area,
                                 1, 1)
        elif s.pairs and not average:
            pair_planes_backward(s, dx, dy, x, first, end)
        else:
            clear_scratch(s, average, <real*>private)
            for plane in range(first, end):
                if average:
                    average_backward(pool, s, dx + plane * area, dx + end * area, dy + plane * out_area, <real*>private)
                else:
                    maximum_backward(pool, s, dx + plane * area, dy + plane * out_area, x + plane * area,
                                     <real*>private)
    if average:
        restore_denormals(mode)
    return wrong


cdef void pair_planes_backward(const Shape* s, real* dx, const real* dy, const real* x, index first,
                               index end) noexcept nogil:
    cdef index area = s.height * s.width, out_area = s.out_height * s.out_width, plane = first, rows = s.out_height
    cdef index rest = area - 2 * rows * s.width
    cdef real* dx_end = dx + end * area
    cdef const real* dy_end = dy + s.planes * out_area
    cdef const real* x_end = x + s.planes * area
    if rest == 0:
        # The rows of all planes follow each other without a gap.
        rows *= end - first
        end = min(end, first + 1)
    for plane in range(first, end):
        max_pairs_backward(dx + plane * area, dx_end, dy + plane * out_area, dy_end, x + plane * area, x_end, s.width,
                           rows, s.out_width)
        if rest:
            memset(dx + (plane + 1) * area - rest, 0, rest * sizeof(real))


cdef int scatter(real* dx, const real* dy, const int64_t* places, index n, index area, index step,
                 index channels) noexcept nogil:
    """dx[place] += dy for n pixels of ``channels`` channels each, pixels ``step`` apart; counts impossible places."""
    cdef index i, c
    cdef int64_t place
    cdef int wrong = 0
    for i in range(n):
        for c in range(channels):
            place = places[i * step + c]
            if 0 <= place < area:
                dx[place * step + c] += dy[i * step + c]
            elif place != -1:  # the window met no pixel
                wrong = 1
    return wrong


cdef void maximum_backward(Pool pool, const Shape* s, real* dx, const real* dy, const real* x,
                           real* scratch) noexcept nogil:
    """Add each gradient where its maximum stood; one row after that was found."""
    cdef index p, row, loaded = 0
    memset(dx, 0, s.height * s.width * sizeof(real))
    for p in range(s.out_height + 1):
        if p < s.out_height:
            find_taps(pool, s, x, scratch, p, &loaded)
        if p > 0:
            row = p - 1
            scatter_row(dx + (row * s.stride_row - s.pad_row) * s.width - s.pad_column, dy + row * s.out_width,
                        <const real*>scratch + s.at_place + row % 2 * s.padded_out, s.stride_column, s.out_width)


cdef void average_backward(Pool pool, const Shape* s, real* dx, const real* dx_end, const real* dy,
                           real* scratch) noexcept nogil:
    """Row by row of the windows: scale the gradients, spread them out over the input's columns, then add up what each
    input row takes, once no later window meets it. Each step takes up what was stored a row before: see planes.
    """
    cdef index p, step, done = 0, limit
    for step in range(s.out_height + 2):
        if step < s.out_height:
            scale_row(pool, s, scratch + step % 2 * s.length + s.margin, dy + step * s.out_width,
                      <real>pool.row_factor[step])
        if 0 < step <= s.out_height:
            spread_row(pool, s, scratch, step - 1)
        p = step - 2
        if p < 0:
            continue
        limit = s.height if p == s.out_height - 1 else min(s.height, (p + 1) * s.stride_row - s.pad_row)
        while done < limit:
            write_row(s, dx + done * s.width, dx_end, scratch, done)
            done += 1


cdef inline void scale_row(Pool pool, const Shape* s, real* to, const real* dy, real factor) noexcept nogil:
    cdef const real* factors = column_factors(pool, dy)
    cdef index q
    for q in range(s.out_width):
        to[q] = dy[q] * (factors[q] * factor)


cdef void spread_row(Pool pool, const Shape* s, real* scratch, index p) noexcept nogil:
    """What each column of the input takes from row p of the windows."""
    cdef index half, first, q, c, row = p % 2 * s.length + s.margin
    cdef real* to = scratch + s.at_spread + p % s.depth * s.length
    cdef real* columns = scratch + s.at_columns
    cdef real* halves[2]
    if s.stride_column == 1:
        take_row(to, True, <const real*>scratch + s.pad_column, &row, 1, pool.half_shift, s.kernel_columns, s.width)
    elif s.stride_column == 2:
        for half in range(2):
            # From the first column of this parity that is not in the padding.
            halves[half] = columns + half * s.phase
            first = pool.half_first[half]
            take_row(halves[half], True, <const real*>scratch + (s.pad_column + 1 - half) // 2, &row, 1,
                     pool.half_shift + first, pool.half_first[half + 1] - first, (s.width + 1) // 2)
        half = s.pad_column % 2
        merge_row(to, <const real*>halves[half], <const real*>halves[1 - half], s.width)
    else:
        memset(columns, 0, s.buffer * sizeof(real))
        for q in range(s.out_width):
            for c in range(s.kernel_columns):
                columns[q * s.stride_column + c * s.dilation_column] += scratch[row + q]
        memcpy(to, columns + s.pad_column, s.width * sizeof(real))


cdef void write_row(const Shape* s, real* dx, const real* dx_end, real* scratch, index row) noexcept nogil:
    """Add up what an input row takes from the rows of windows that it belongs to."""
    cdef index* places = indices_in(s, scratch)
    cdef index r, p, count = 0, zero = 0, place
    cdef bint whole = dx + s.width + LANES_f32 <= dx_end  # what is written behind the row is the next one's
    p = min((row + s.pad_row) // s.stride_row, s.out_height - 1)
    place = p % s.depth
    r = row + s.pad_row - p * s.stride_row  # of the dilated kernel
    while p >= 0 and r <= (s.kernel_rows - 1) * s.dilation_row:
        if s.dilation_row == 1 or r % s.dilation_row == 0:
            places[count] = place * s.length
            count += 1
        p -= 1
        r += s.stride_row
        place = place - 1 if place else s.depth - 1
    take_row(dx, whole, <const real*>scratch + s.at_spread, places, count, &zero, 1, s.width)


cdef int pixels_backward(Pool pool, const Shape* s, bint average, real* dx, const real* dy, const real* x,
                         const int64_t* places, index image, index block, index n) noexcept nogil:
    """Channels-last: ``n`` channels from ``block`` of one image."""
    cdef index area = s.height * s.width, out_area = s.out_height * s.out_width, channels = s.channels
    cdef index p, q, i, r, c, row, column, top, bottom, left, right
    cdef index row_step = s.dilation_row * s.width * channels, column_step = s.dilation_column * channels
    cdef const real* gradient
    dx += image * area * channels + block
    dy += image * out_area * channels + block
    if n == channels:
        memset(dx, 0, area * channels * sizeof(real))
    else:
        for i in range(area):
            memset(dx + i * channels, 0, n * sizeof(real))
    if places != NULL:
        return scatter(dx, dy, places + image * out_area * channels + block, out_area, area, channels, n)
    for p in range(s.out_height):
        row = p * s.stride_row - s.pad_row
        clip(row, s.height, s.kernel_rows, s.dilation_row, &top, &bottom)
        for q in range(s.out_width):
            column = q * s.stride_column - s.pad_column
            clip(column, s.width, s.kernel_columns, s.dilation_column, &left, &right)
            gradient = dy + (p * s.out_width + q) * channels
            i = ((row + top * s.dilation_row) * s.width + column + left * s.dilation_column) * channels
            if not average:
                scatter_pixels(dx + i, gradient, x + image * area * channels + block + i, bottom - top, row_step,
                               right - left, column_step, n)
                continue
            for r in range(bottom - top):
                for c in range(right - left):
                    add_scaled(dx + i + r * row_step + c * column_step, gradient,
                               <real>(pool.row_factor[p] * pool.column_factor[q]), n)
    return 0
