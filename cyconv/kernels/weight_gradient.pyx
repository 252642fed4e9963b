"""Weight and bias gradient of a convolution: the register tile with output pixels as the reduction.

    grad_weight[k, c, tap] = sum over images and output pixels of  grad_out[k, pixel] x source[c, pixel x step + tap]

The vectors are output channels (grad_out transposed to [pixel][channel] in a private buffer), the scalars are
neighbouring channels of the source, or, where there are few, the columns of two rows of the kernel. A task owns its
sums: some blocks of output channels x some input channels over one chunk of the units. Chunks are cut by geometry and
added in their order, so the number of threads changes no bit.

A *unit* is a block of output pixels of one image, or the pixels of several small images: what one tile sums in one go.
Where much of the padding would be multiplied, each tap takes only the output pixels that it meets inside the image, and
the source is read where it lies.
"""

from cython.parallel cimport prange
from libc.stdint cimport int32_t, uint64_t
from libc.string cimport memcpy, memset

from cyconv.kernels._kernel cimport NO_MEMORY, GradientOfWeights, four, set_edges, three, two
from cyconv.kernels._workspace cimport Block, borrow, discard, give, zeroed
from cyconv.kernels.shares cimport Share, next_task, share_out
from cyconv.kernels.simd cimport (
    CYCONV_TILE_PIXELS,
    LANES_f32,
    LANES_f64,
    add_pixels,
    cold,
    flush_denormals,
    lanes,
    real,
    restore_denormals,
    transpose,
)
from cyconv.kernels.source cimport (
    Source,
    block_size,
    channel_start,
    channel_step,
    copy_block,
    index,
    lay_out,
    set_grid,
    slice_step,
)

cdef extern from "weight_gradient.h" nogil:
    int GRID_ROWS(index columns, int vectors) noexcept
    void fetch_later(const void* p, index nbytes) noexcept
    void gradient_tile_f32(int rows, int columns, int vectors, const float* a, index step, index second,
                           const int32_t* table, index n, const float* b, index ldb, const float* init, index ldi,
                           float* out, index ldo, index out_second, index ahead) noexcept
    void gradient_tile_f64(int rows, int columns, int vectors, const double* a, index step, index second,
                           const int32_t* table, index n, const double* b, index ldb, const double* init, index ldi,
                           double* out, index ldo, index out_second, index ahead) noexcept


# Elements of the longest vector.
DEF MOST_LANES = 16


cdef struct Piece:
    # One tile of the sums of a task
    index offset, second  # first scalar in the source block, and the other row of scalars from there
    index out, out_second  # likewise in the sums, in lines of channels
    int rows, columns


cdef struct Reach:
    index first, last  # output rows or columns whose window meets the image with one tap


cdef struct Unit:
    index image, row, column  # of the output
    index images, rows, columns


cdef struct Shape:
    Source source
    index out_channels, out_depth, out_height, out_width
    index groups, group_in, group_out, taps  # taps: of all slices of the kernel
    index step_row, step_column, first_row, first_column
    index block_rows, block_columns, row_blocks, column_blocks  # of the output
    index block_images, image_step  # images of a unit; from one to the next in the source block
    index vectors, channel_blocks, task_blocks, block_tasks  # blocks of output channels, and of those in a task
    index task_channels, channel_tasks  # input channels of a task
    index chunks, images
    index kernel_rows, kernel_columns, dilation_row, dilation_column
    bint inside  # each tap takes only the output pixels that it meets inside the image
    index step, out_step  # from scalar to scalar of a tile: in the source block, in lines of the sums
    bint along_kernel  # the scalars of a tile are columns of the kernel, not channels
    index lines  # of the sums of one block of output channels: one for each weight, and one for the bias


cdef class WeightGradient(GradientOfWeights):
    """Weight gradient of one geometry, dtype and memory order, ready to run on arrays of that kind."""

    cdef Shape shape
    cdef int32_t* table
    cdef Reach* reach  # of the rows of the kernel, then of its columns
    cdef Piece* pieces
    cdef index piece_count
    cdef bint single  # float

    def __cinit__(self):
        self.table = NULL
        self.reach = NULL
        self.pieces = NULL
        self.shape.source.edges.places = NULL

    def __init__(self, *, str dtype, source, out, depth, kernel, index groups, bint channels_last, step, dilation,
                 first, block, index block_images, index task_channels, index task_blocks, index chunks, bint packed,
                 reach, edges, grid):
        """``first``: displacement of the first tap (minus the low padding); ``block``: output rows and columns;
        ``reach``: None, or for each row and for each column of the kernel the (first, last) output rows or columns
        that it meets inside the image, then to be read where that lies; ``edges``: as set_edges takes them;
        ``grid``: of the source, as set_grid takes it."""
        cdef Shape* s = &self.shape
        cdef index width = LANES_f32 if dtype == "f" else LANES_f64
        cdef index itemsize = 4 if dtype == "f" else 8
        cold()
        self.single = dtype == "f"
        four(source, &s.source.channels, &s.source.depth, &s.source.height, &s.source.width)
        three(depth[:3], &s.source.slices, &s.source.depth_step, &s.source.depth_first)
        two(depth[3:], &s.source.depth_dilation, &s.source.depth_divisor)
        s.source.channels_last, s.source.packed = channels_last, packed
        set_edges(&s.source.edges, edges)
        s.source.thinned = set_grid(&s.source.grid, grid)
        four(out, &s.out_channels, &s.out_depth, &s.out_height, &s.out_width)
        two(kernel, &s.kernel_rows, &s.kernel_columns)
        two(dilation, &s.dilation_row, &s.dilation_column)
        s.groups = groups
        s.group_in, s.group_out = s.source.channels // groups, s.out_channels // groups
        s.source.group_channels = min(task_channels, s.group_in)
        s.taps = s.source.slices * s.kernel_rows * s.kernel_columns
        two(step, &s.step_row, &s.step_column)
        two(first, &s.first_row, &s.first_column)
        two(block, &s.block_rows, &s.block_columns)
        s.row_blocks = (s.out_height + s.block_rows - 1) // s.block_rows
        s.column_blocks = (s.out_width + s.block_columns - 1) // s.block_columns
        s.vectors = (s.group_out + width - 1) // width
        s.channel_blocks = (s.vectors + 1) // 2
        s.task_blocks = min(task_blocks, s.channel_blocks)
        s.block_tasks = (s.channel_blocks + s.task_blocks - 1) // s.task_blocks
        s.task_channels = s.source.group_channels
        s.channel_tasks = (s.group_in + s.task_channels - 1) // s.task_channels
        s.chunks = chunks
        s.inside = reach is not None
        s.block_images = block_images
        s.source.rows = (s.block_rows - 1) * s.step_row + s.dilation_row * (s.kernel_rows - 1) + 1
        s.source.columns = ((s.block_columns - 1) * s.step_column + s.dilation_column * (s.kernel_columns - 1)
                            + 1)
        lay_out(&s.source, itemsize)
        s.image_step = block_size(&s.source) if packed else s.source.channels * s.source.height * s.source.width
        s.lines = s.group_in * s.taps + 1
        # The gradient, that of the columns that a tap meets, and the source.
        pixels = s.block_images * s.block_rows * s.block_columns * (2 if s.inside else 1)
        source_size = s.block_images * block_size(&s.source)
        self.thread_bytes = ((pixels * 2 * width + source_size + width) * itemsize + 4095) // 4096 * 4096
        if s.inside:
            self.fill_reach(reach)
        self.fill_table()
        self.cut_pieces(kernel, dilation)

    cdef fill_reach(self, reach):
        cdef Shape* s = &self.shape
        cold()
        self.reach = <Reach*>zeroed(s.kernel_rows + s.kernel_columns, sizeof(Reach))
        if self.reach == NULL:
            raise MemoryError("cyconv: no memory for the reach of the taps")
        for i, (begin, end) in enumerate([*reach[0], *reach[1]]):
            self.reach[i] = Reach(begin, end)

    cdef fill_table(self):
        """Where the source pixel of each output pixel of a unit lies, for the first tap and channel; where taps take
        their own columns, for each column of the kernel, from the first that it takes."""
        cdef Shape* s = &self.shape
        cdef index size = s.block_images * s.block_rows * s.block_columns, image, i, j, k, columns
        cdef index tables = s.kernel_columns if s.inside else 1
        cdef int32_t* to
        self.table = <int32_t*>zeroed(tables * size, sizeof(int32_t))
        if self.table == NULL:
            raise MemoryError("cyconv: no memory for the pixel table")
        for k in range(tables):
            columns = s.block_columns
            if s.inside:
                columns = max(0, self.reach[s.kernel_rows + k].last - self.reach[s.kernel_rows + k].first)
            to = self.table + k * size
            for image in range(s.block_images):
                for i in range(s.block_rows):
                    for j in range(columns):
                        to[0] = (image * s.image_step + i * s.step_row * s.source.pitch
                                 + j * s.step_column * s.source.pixel)
                        to += 1

    cdef cut_pieces(self, kernel, dilation):
        """Cut [channel][tap] sums of a task into tiles, along channels or along the columns of the kernel."""
        cdef Shape* s = &self.shape
        cold()
        row, column = dilation[0] * s.source.pitch, dilation[1] * s.source.pixel
        height, width = kernel
        most = CYCONV_TILE_PIXELS
        narrow = s.vectors == 1
        # Two rows of scalars fill a tile of one vector, or one of two vectors when they are short; or whole kernels do.
        pairs = 2 if height > 1 and (narrow or 2 * width <= most) else 1
        grid = GRID_ROWS(width, 1 if narrow else 2)
        across = -(-s.task_channels // most)
        along = min(width, most) * (grid if height >= grid > pairs else pairs) > s.task_channels / across
        s.along_kernel = along and not s.inside
        found = []
        s.step = column if s.along_kernel else channel_step(&s.source)
        s.out_step = 1 if s.along_kernel else s.taps
        for k in range(s.source.slices):
            behind, first = k * slice_step(&s.source), k * height * width
            if s.along_kernel:
                for c in range(s.task_channels):
                    at = behind + c * channel_step(&s.source)
                    r = 0
                    while r < height:
                        rows = grid if height - r >= grid > pairs else min(pairs, height - r)
                        for j, columns in even_cut(width, most):
                            found.append((at + r * row + j * column, row, c * s.taps + first + r * width + j, width,
                                          rows, columns))
                        r += rows
                continue
            # All taps of some channels before the next: they read the same rows.
            for c, columns in even_cut(s.task_channels, most):
                for tap in range(1 if s.inside else height * width):
                    at = behind + tap // width * row + tap % width * column
                    found.append((at + c * channel_step(&s.source), 0, c * s.taps + first + tap, 0, 1, columns))
        self.piece_count = len(found)
        self.pieces = <Piece*>zeroed(self.piece_count, sizeof(Piece))
        if self.pieces == NULL:
            raise MemoryError("cyconv: no memory for the tiles of a weight gradient")
        for i, (offset, second, out, out_second, rows, columns) in enumerate(found):
            self.pieces[i] = Piece(offset, second, out, out_second, rows, columns)

    def __dealloc__(self):
        discard(self.table)
        discard(self.reach)
        discard(self.pieces)
        discard(self.shape.source.edges.places)

    cdef int execute(self, void* grad_weight, void* grad_bias, const void* grad_out, const void* source, index images,
                     int threads) noexcept nogil:
        if self.single:
            return run_gradient[float](self, <float*>grad_weight, <float*>grad_bias, <const float*>grad_out,
                                       <const float*>source, images, threads)
        return run_gradient[double](self, <double*>grad_weight, <double*>grad_bias, <const double*>grad_out,
                                    <const double*>source, images, threads)


def even_cut(total, most):
    """Yield (start, size) of the fewest stretches of at most ``most``, as even as can be."""
    pieces = -(-total // most)
    start = 0
    for i in range(pieces):
        size = (total - start) // (pieces - i)
        yield start, size
        start += size


cdef int run_gradient(WeightGradient plan, real* grad_weight, real* grad_bias, const real* grad_out,
                      const real* source, index images, int threads) noexcept nogil:
    cdef Shape s = plan.shape
    cdef index width = lanes(source), i
    s.images = images
    cdef index tasks = s.chunks * s.groups * s.block_tasks * s.channel_tasks
    cdef index blocks = s.groups * s.channel_blocks
    cdef index sums_size = s.groups * s.vectors * width * s.lines  # of one chunk
    if threads > tasks:
        threads = <int>tasks
    cdef index sums_bytes = (s.chunks * sums_size * sizeof(real) + 4095) // 4096 * 4096
    cdef Block memory
    cdef index shares_bytes = (threads * sizeof(Share) + 4095) // 4096 * 4096
    if borrow(&memory, sums_bytes + shares_bytes + threads * plan.thread_bytes):
        return NO_MEMORY
    cdef real* sums = <real*>memory.data
    cdef Share* shares = <Share*>(<char*>memory.data + sums_bytes)
    cdef char* private = <char*>memory.data + (sums_bytes + shares_bytes)
    if threads == 1:
        for i in range(tasks):
            run_task(&s, plan.table, plan.reach, plan.pieces, plan.piece_count, sums, sums_size, grad_out, source,
                     <real*>private, i, grad_bias != NULL)
        for i in range(blocks):
            write_block(&s, sums, sums_size, grad_weight, grad_bias, i)
    else:
        share_out(shares, tasks, threads, False)
        for i in prange(threads, schedule="static", num_threads=threads):
            run_share(&s, plan.table, plan.reach, plan.pieces, plan.piece_count, sums, sums_size, grad_out, source,
                      <real*>(private + i * plan.thread_bytes), shares, threads, <int>i, grad_bias != NULL)
        # In stretches as above: mostly each thread its own sums.
        for i in prange(blocks, schedule="static", num_threads=threads):
            write_block(&s, sums, sums_size, grad_weight, grad_bias, i)
    give(&memory)
    return 0


cdef inline Unit unit_at(const Shape* s, index unit) noexcept nogil:
    cdef Unit u
    u.column = unit % s.column_blocks * s.block_columns
    u.row = unit // s.column_blocks % s.row_blocks * s.block_rows
    u.image = unit // s.column_blocks // s.row_blocks * s.block_images
    u.images = min(s.block_images, s.images - u.image)
    u.rows, u.columns = min(s.block_rows, s.out_height - u.row), min(s.block_columns, s.out_width - u.column)
    return u


cdef void run_share(const Shape* s, const int32_t* table, const Reach* reach, const Piece* pieces, index piece_count,
                    real* sums, index sums_size, const real* grad_out, const real* source, real* private,
                    Share* shares, int threads, int own, bint with_bias) noexcept nogil:
    """What one thread does."""
    cdef index task = next_task(shares, threads, own)
    while task >= 0:
        run_task(s, table, reach, pieces, piece_count, sums, sums_size, grad_out, source, private, task, with_bias)
        task = next_task(shares, threads, own)


cdef void run_task(const Shape* s, const int32_t* table, const Reach* reach, const Piece* pieces, index piece_count,
                   real* sums, index sums_size, const real* grad_out, const real* source, real* private, index task,
                   bint with_bias) noexcept nogil:
    cdef index width = lanes(source)
    cdef index part = task % s.channel_tasks, first_block = task // s.channel_tasks % s.block_tasks * s.task_blocks
    cdef index group = task // s.channel_tasks // s.block_tasks % s.groups
    cdef index chunk = task // s.channel_tasks // s.block_tasks // s.groups
    cdef index last_block = min(s.channel_blocks, first_block + s.task_blocks), first = part * s.task_channels
    cdef index channels = min(s.task_channels, s.group_in - first), channel = group * s.group_in + first
    cdef index units = (s.images + s.block_images - 1) // s.block_images * s.row_blocks * s.column_blocks
    cdef index begin = chunk * units // s.chunks, end = (chunk + 1) * units // s.chunks, unit, block, ld
    cdef real* copy = private + s.block_images * s.block_rows * s.block_columns * 2 * width * (2 if s.inside else 1)
    cdef real* to
    cdef const real* origin
    cdef Unit u, then
    cdef uint64_t mode = flush_denormals()
    sums += chunk * sums_size + group * s.vectors * width * s.lines
    for block in range(first_block, last_block):
        ld = block_channels(s, block) * width
        to = sums + 2 * block * width * s.lines
        # The tiles of the first unit begin with zeros; a tap may have none there if it takes only what is inside.
        if s.inside or begin == end:
            memset(to + first * s.taps * ld, 0, channels * s.taps * ld * sizeof(real))
        if part == 0:
            memset(to + (s.lines - 1) * ld, 0, ld * sizeof(real))
    for unit in range(begin, end):
        u = unit_at(s, unit)
        origin = source_of_unit(s, &u, source, channel, channels, copy)
        for block in range(first_block, last_block):
            then = u
            if block + 1 == last_block:
                # Nothing comes after the last one.
                then = unit_at(s, min(unit + 1, units - 1))
            run_unit(s, &u, &then, table, reach, pieces, piece_count, sums + 2 * block * width * s.lines, grad_out,
                     origin, unit == begin, block + 1 == last_block and unit + 1 < end, private, group, block,
                     block + 1 if block + 1 < last_block else first_block, first, channels, part == 0 and with_bias)
    restore_denormals(mode)


cdef inline index block_channels(const Shape* s, index block) noexcept nogil:
    """Vectors of a block of output channels."""
    return min(2, s.vectors - 2 * block)


cdef inline index inside_image(const Shape* s, const Unit* u) noexcept nogil:
    """From the start of a channel to the first source pixel of a unit that is read where it lies."""
    return ((u.row * s.step_row + s.first_row) * s.source.pitch
            + (u.column * s.step_column + s.first_column) * s.source.pixel)


cdef const real* source_of_unit(const Shape* s, const Unit* u, const real* source, index channel, index channels,
                                real* copy) noexcept nogil:
    """First source pixel of a unit: of the array itself, or of a copy; in padding where taps are inside."""
    cdef index volume = s.source.channels * s.source.depth * s.source.height * s.source.width, i, image
    cdef index row = u.row * s.step_row + s.first_row, column = u.column * s.step_column + s.first_column
    if not s.source.packed:
        return channel_start(&s.source, source + u.image // s.out_depth * volume, channel) + inside_image(s, u)
    for i in range(u.images):
        image = u.image + i
        copy_block(&s.source, channel_start(&s.source, source + image // s.out_depth * volume, channel), channels,
                   copy + i * s.image_step, image % s.out_depth, row, column)
    return copy


cdef void run_unit(const Shape* s, const Unit* u, const Unit* then, const int32_t* table, const Reach* reach,
                   const Piece* pieces, index piece_count, real* sums, const real* grad_out, const real* origin,
                   bint fresh, bint source_ahead, real* gradient, index group, index block, index next_block,
                   index first, index channels, bint with_bias) noexcept nogil:
    """One unit for one block of output channels; meanwhile what the next one will read is fetched.

    ``fresh``: there are no sums to add to."""
    cdef index width = lanes(origin), out_channel = group * s.group_out + 2 * block * width
    cdef index ld = block_channels(s, block) * width, have = min(ld, s.group_out - 2 * block * width)
    cdef index area = u.rows * u.columns, pixels = u.images * area, i, begin, end, ahead = 0
    cdef index next_channel = group * s.group_out + 2 * next_block * width
    cdef index next_have = min(2 * width, s.group_out - 2 * next_block * width)
    cdef real* to = sums + first * s.taps * ld
    cdef real zeros[2 * MOST_LANES]
    cdef const Piece* p
    memset(zeros, 0, sizeof(zeros))
    for i in range(u.images):
        gather_gradient(s, grad_out, gradient + i * area * ld, u.image + i, out_channel, have, ld, u.row, u.column,
                        u.rows, u.columns)
    if s.inside:
        inside_taps(s, u, table, reach, pieces, piece_count, gradient, origin, ld, to, channels)
    else:
        begin = 0
        if source_ahead and not s.source.packed:
            ahead = (then.image - u.image) * s.image_step + inside_image(s, then) - inside_image(s, u)
        for i in range(piece_count):
            p = &pieces[i]
            if p.out >= channels * s.taps:
                continue
            tile(p.rows, piece_columns(s, p, channels), <int>(ld // width), origin + p.offset, s.step, p.second, table,
                 pixels, <const real*>gradient, ld,
                 <const real*>zeros if fresh else <const real*>(to + p.out * ld), 0 if fresh else s.out_step * ld,
                 to + p.out * ld, s.out_step * ld, p.out_second * ld, ahead)
            end = (i + 1) * next_have // piece_count
            if end > begin:
                fetch_gradient(s, then, grad_out, next_channel + begin, end - begin)
                begin = end
    if with_bias:
        add_pixels(gradient, pixels, ld, sums + (s.lines - 1) * ld)


cdef void fetch_gradient(const Shape* s, const Unit* u, const real* grad_out, index channel,
                         index channels) noexcept nogil:
    """Fetch what gather_gradient will read. The pixels of a block are one stretch of a plane."""
    cdef index area = s.out_height * s.out_width, i, k, image
    if s.source.channels_last:
        return
    for i in range(u.images):
        image = u.image + i
        for k in range(channel, channel + channels):
            fetch_later(grad_out + u.row * s.out_width + u.column
                        + ((image // s.out_depth * s.out_channels + k) * s.out_depth + image % s.out_depth) * area,
                        u.rows * u.columns * <index>sizeof(real))


cdef void inside_taps(const Shape* s, const Unit* u, const int32_t* table, const Reach* reach, const Piece* pieces,
                      index piece_count, real* gradient, const real* origin, index ld, real* to,
                      index channels) noexcept nogil:
    """All taps of a unit of one image, each over the output pixels that it meets inside the image."""
    cdef index size = s.block_rows * s.block_columns, i, j, k, r, top, bottom, wide
    cdef real* compact = gradient + size * 2 * lanes(origin)
    cdef real* line
    cdef const real* part
    cdef const Reach* rows
    cdef const Reach* columns
    cdef const Piece* p
    for j in range(s.kernel_columns):
        columns = reach + s.kernel_rows + j
        wide = columns.last - columns.first
        if wide <= 0:
            continue
        line = gradient
        if wide < u.columns:
            line = compact
            for r in range(u.rows):
                memcpy(compact + r * wide * ld, gradient + (r * u.columns + columns.first) * ld,
                       wide * ld * sizeof(real))
        for k in range(piece_count):
            p = &pieces[k]
            if p.out >= channels * s.taps:
                continue
            for i in range(s.kernel_rows):
                rows = reach + i
                top, bottom = max(rows.first, u.row), min(rows.last, u.row + u.rows)
                if top >= bottom:
                    continue
                part = (origin + p.offset
                        + ((top - u.row) * s.step_row + i * s.dilation_row) * s.source.pitch
                        + (columns.first * s.step_column + j * s.dilation_column) * s.source.pixel)
                r = p.out + i * s.kernel_columns + j
                tile(1, piece_columns(s, p, channels), <int>(ld // lanes(origin)), part, s.step, 0, table + j * size,
                     (bottom - top) * wide, <const real*>line + (top - u.row) * wide * ld, ld,
                     <const real*>(to + r * ld), s.out_step * ld, to + r * ld, s.out_step * ld, 0, 0)


cdef inline int piece_columns(const Shape* s, const Piece* p, index channels) noexcept nogil:
    """Columns of a tile; a last task with fewer channels cuts the tiles that run along channels."""
    if s.along_kernel:
        return p.columns
    return <int>min(p.columns, channels - p.out // s.taps)


cdef void gather_gradient(const Shape* s, const real* grad_out, real* to, index image, index channel, index have,
                          index ld, index row, index column, index rows, index columns) noexcept nogil:
    """grad_out of a block as [pixel][channel], missing channels zero."""
    cdef index area = s.out_depth * s.out_height * s.out_width, r, j  # of a channel
    cdef const real* line
    if have < ld:
        memset(to, 0, rows * columns * ld * sizeof(real))
    grad_out += (image // s.out_depth * s.out_channels * area
                 + image % s.out_depth * s.out_height * s.out_width * (s.out_channels if s.source.channels_last else 1))
    if s.source.channels_last:
        for r in range(rows):
            line = grad_out + ((row + r) * s.out_width + column) * s.out_channels + channel
            for j in range(columns):
                memcpy(to + (r * columns + j) * ld, line + j * s.out_channels, have * sizeof(real))
    elif columns == s.out_width:
        transpose(grad_out + channel * area + row * columns, area, have, rows * columns, to, ld)
    else:
        for r in range(rows):
            transpose(grad_out + channel * area + (row + r) * s.out_width + column, area, have, columns,
                      to + r * columns * ld, ld)


cdef inline void tile(int rows, int columns, int vectors, const real* a, index step, index second,
                      const int32_t* table, index n, const real* b, index ldb, const real* init, index ldi, real* out,
                      index ldo, index out_second, index ahead) noexcept nogil:
    """The register tile, of two rows of scalars or of those of a whole kernel; ``ahead``: from the scalars to those
    that are fetched meanwhile."""
    if real is float:
        gradient_tile_f32(rows, columns, vectors, a, step, second, table, n, b, ldb, init, ldi, out, ldo, out_second,
                          ahead)
    else:
        gradient_tile_f64(rows, columns, vectors, a, step, second, table, n, b, ldb, init, ldi, out, ldo, out_second,
                          ahead)


cdef void write_block(const Shape* s, real* sums, index sums_size, real* grad_weight, real* grad_bias,
                      index block) noexcept nogil:
    """Add the chunks of one block of output channels in their order and bring the sums to [channel][weight]."""
    cdef index width = lanes(sums), group = block // s.channel_blocks, first = block % s.channel_blocks * 2
    cdef index ld = min(2, s.vectors - first) * width, have = min(ld, s.group_out - first * width)
    cdef index channel = group * s.group_out + first * width, i, k, chunk, weights = s.lines - 1
    cdef real* total = sums + (group * s.vectors + first) * width * s.lines
    cdef real* part
    for chunk in range(1, s.chunks):
        part = total + chunk * sums_size
        for i in range(s.lines * ld):
            total[i] += part[i]
    transpose(<const real*>total, ld, weights, have, grad_weight + channel * weights, weights)
    if grad_bias != NULL:
        for k in range(have):
            grad_bias[channel + k] = total[weights * ld + k]
