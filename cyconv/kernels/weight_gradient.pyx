"""Weight and bias gradient of a convolution: the register tile with output pixels as the reduction.

    grad_weight[k, c, tap] = sum over images and output pixels of  grad_out[k, pixel] x source[c, pixel x step + tap]

The vectors are output channels (grad_out transposed to [pixel][channel] in a private buffer), the scalars are
neighbouring channels of the source, or, where there are few, the columns of two rows of the kernel. A task owns its
sums: some output channels x some input channels over one chunk of the images. Chunks are cut by geometry and added in
their order, so the number of threads changes no bit.
"""

from cython.parallel cimport prange, threadid
from libc.stdint cimport int32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from cyconv.kernels._kernel cimport NO_MEMORY, GradientOfWeights
from cyconv.kernels._workspace cimport Block, borrow, give
from cyconv.kernels.simd cimport (
    CYCONV_TILE_PIXELS,
    LANES_f32,
    LANES_f64,
    add_pixels,
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
    set_edges,
    slice_step,
)

cdef extern from "weight_gradient.h" nogil:
    int GRID_ROWS(index columns, int vectors) noexcept
    void gradient_tile_f32(int rows, int columns, int vectors, const float* a, index step, index second,
                           const int32_t* table, index n, const float* b, index ldb, const float* init, index ldi,
                           float* out, index ldo, index out_second) noexcept
    void gradient_tile_f64(int rows, int columns, int vectors, const double* a, index step, index second,
                           const int32_t* table, index n, const double* b, index ldb, const double* init, index ldi,
                           double* out, index ldo, index out_second) noexcept


cdef struct Piece:
    # One tile of the sums of a task
    index offset, second  # first scalar in the source block, and the other row of scalars from there
    index out, out_second  # likewise in the sums, in lines of channels
    int rows, columns


cdef struct Shape:
    Source source
    index out_channels, out_depth, out_height, out_width
    index groups, group_in, group_out, taps  # taps: of all slices of the kernel
    index step_row, step_column, first_row, first_column
    index block_rows, block_columns, row_blocks, column_blocks  # of the output
    index vectors, channel_blocks
    index task_channels, channel_tasks  # input channels of a task
    index chunks, images
    index step, out_step  # from scalar to scalar of a tile: in the source block, in lines of the sums
    bint along_kernel  # the scalars of a tile are columns of the kernel, not channels
    index lines  # of the sums of one block of output channels: one for each weight, and one for the bias


cdef class WeightGradient(GradientOfWeights):
    """Weight gradient of one geometry, dtype and memory order, ready to run on arrays of that kind."""

    cdef Shape shape
    cdef int32_t* table
    cdef Piece* pieces
    cdef index piece_count
    cdef bint single  # float

    def __cinit__(self):
        self.table = NULL
        self.pieces = NULL
        self.shape.source.edges.places = NULL

    def __init__(self, *, str dtype, source, out, depth, kernel, index groups, bint channels_last, step, dilation,
                 first, block, index task_channels, index chunks, bint packed, edges):
        """``first``: displacement of the first tap (minus the low padding); ``block``: output rows and columns;
        ``edges``: as set_edges takes them."""
        cdef Shape* s = &self.shape
        cdef index width = LANES_f32 if dtype == "f" else LANES_f64
        cdef index itemsize = 4 if dtype == "f" else 8
        self.single = dtype == "f"
        s.source.channels, s.source.depth, s.source.height, s.source.width = source
        s.source.slices, s.source.depth_step, s.source.depth_first = depth[:3]
        s.source.depth_dilation, s.source.depth_divisor = depth[3:]
        s.source.channels_last, s.source.packed = channels_last, packed
        set_edges(&s.source.edges, edges)
        s.out_channels, s.out_depth, s.out_height, s.out_width = out
        s.groups = groups
        s.group_in, s.group_out = s.source.channels // groups, s.out_channels // groups
        s.source.group_channels = min(task_channels, s.group_in)
        s.taps = s.source.slices * kernel[0] * kernel[1]
        s.step_row, s.step_column = step
        s.first_row, s.first_column = first
        s.block_rows, s.block_columns = block
        s.row_blocks = (s.out_height + s.block_rows - 1) // s.block_rows
        s.column_blocks = (s.out_width + s.block_columns - 1) // s.block_columns
        s.vectors = (s.group_out + width - 1) // width
        s.channel_blocks = (s.vectors + 1) // 2
        s.task_channels = s.source.group_channels
        s.channel_tasks = (s.group_in + s.task_channels - 1) // s.task_channels
        s.chunks = chunks
        s.source.rows = (s.block_rows - 1) * s.step_row + dilation[0] * (kernel[0] - 1) + 1
        s.source.columns = (s.block_columns - 1) * s.step_column + dilation[1] * (kernel[1] - 1) + 1
        lay_out(&s.source, itemsize)
        s.lines = s.group_in * s.taps + 1
        pixels = s.block_rows * s.block_columns
        self.thread_bytes = ((pixels * 2 * width + block_size(&s.source) + width) * itemsize + 4095) // 4096 * 4096
        self.fill_table()
        self.cut_pieces(kernel, dilation)

    cdef fill_table(self):
        """Where the source pixel of each output pixel of a block lies, for the first tap and channel."""
        cdef Shape* s = &self.shape
        cdef index i, j
        self.table = <int32_t*>calloc(s.block_rows * s.block_columns, sizeof(int32_t))
        if self.table == NULL:
            raise MemoryError("cyconv: no memory for the pixel table")
        for i in range(s.block_rows):
            for j in range(s.block_columns):
                self.table[i * s.block_columns + j] = (i * s.step_row * s.source.pitch
                                                       + j * s.step_column * s.source.pixel)

    cdef cut_pieces(self, kernel, dilation):
        """Cut [channel][tap] sums of a task into tiles, along channels or along the columns of the kernel."""
        cdef Shape* s = &self.shape
        row, column = dilation[0] * s.source.pitch, dilation[1] * s.source.pixel
        height, width = kernel
        most = CYCONV_TILE_PIXELS
        narrow = s.vectors == 1
        # Two rows of scalars fill a tile of one vector, or one of two vectors when they are short; or whole kernels do.
        pairs = 2 if height > 1 and (narrow or 2 * width <= most) else 1
        grid = GRID_ROWS(width, 1 if narrow else 2)
        across = -(-s.task_channels // most)
        s.along_kernel = min(width, most) * (grid if height >= grid > pairs else pairs) > s.task_channels / across
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
            for tap in range(height * width):
                at = behind + tap // width * row + tap % width * column
                for c, columns in even_cut(s.task_channels, most):
                    found.append((at + c * channel_step(&s.source), 0, c * s.taps + first + tap, 0, 1, columns))
        self.piece_count = len(found)
        self.pieces = <Piece*>calloc(self.piece_count, sizeof(Piece))
        if self.pieces == NULL:
            raise MemoryError("cyconv: no memory for the tiles of a weight gradient")
        for i, (offset, second, out, out_second, rows, columns) in enumerate(found):
            self.pieces[i] = Piece(offset, second, out, out_second, rows, columns)

    def __dealloc__(self):
        free(self.table)
        free(self.pieces)
        free(self.shape.source.edges.places)

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
    cdef index tasks = s.chunks * s.groups * s.channel_blocks * s.channel_tasks
    cdef index blocks = s.groups * s.channel_blocks
    cdef index sums_size = s.groups * s.vectors * width * s.lines  # of one chunk
    if threads > tasks:
        threads = <int>tasks
    cdef index sums_bytes = (s.chunks * sums_size * sizeof(real) + 4095) // 4096 * 4096
    cdef Block memory
    if borrow(&memory, sums_bytes + threads * plan.thread_bytes):
        return NO_MEMORY
    cdef real* sums = <real*>memory.data
    cdef char* private = <char*>memory.data + sums_bytes
    if threads == 1:
        for i in range(tasks):
            run_task(&s, plan.table, plan.pieces, plan.piece_count, sums, sums_size, grad_out, source,
                     <real*>private, i, grad_bias != NULL)
        for i in range(blocks):
            write_block(&s, sums, sums_size, grad_weight, grad_bias, i)
    else:
        for i in prange(tasks, schedule="dynamic", num_threads=threads):
            run_task(&s, plan.table, plan.pieces, plan.piece_count, sums, sums_size, grad_out, source,
                     <real*>(private + threadid() * plan.thread_bytes), i, grad_bias != NULL)
        for i in prange(blocks, schedule="dynamic", num_threads=threads):
            write_block(&s, sums, sums_size, grad_weight, grad_bias, i)
    give(&memory)
    return 0


cdef void run_task(const Shape* s, const int32_t* table, const Piece* pieces, index piece_count, real* sums,
                   index sums_size, const real* grad_out, const real* source, real* private, index task,
                   bint with_bias) noexcept nogil:
    cdef index width = lanes(source)
    cdef index part = task % s.channel_tasks, block = task // s.channel_tasks % s.channel_blocks
    cdef index group = task // s.channel_tasks // s.channel_blocks % s.groups
    cdef index chunk = task // s.channel_tasks // s.channel_blocks // s.groups
    cdef int vectors = <int>min(2, s.vectors - 2 * block)
    cdef index ld = vectors * width, first = part * s.task_channels
    cdef index channels = min(s.task_channels, s.group_in - first)
    cdef index have = min(ld, s.group_out - 2 * block * width)
    cdef real* mine = sums + chunk * sums_size + (group * s.vectors + 2 * block) * width * s.lines
    cdef real* bias = mine + (s.lines - 1) * ld
    cdef real* to = mine + first * s.taps * ld
    cdef real* gradient = private
    cdef real* copy = private + s.block_rows * s.block_columns * 2 * width
    cdef index units = s.images * s.row_blocks * s.column_blocks
    cdef index unit, image, row, column, rows, columns, i
    cdef index volume = s.source.channels * s.source.depth * s.source.height * s.source.width
    cdef const real* origin
    cdef const Piece* p
    cdef uint64_t mode = flush_denormals()
    memset(to, 0, channels * s.taps * ld * sizeof(real))
    if part == 0:
        memset(bias, 0, ld * sizeof(real))
    for unit in range(chunk * units // s.chunks, (chunk + 1) * units // s.chunks):
        column = unit % s.column_blocks * s.block_columns
        row = unit // s.column_blocks % s.row_blocks * s.block_rows
        image = unit // s.column_blocks // s.row_blocks
        rows, columns = min(s.block_rows, s.out_height - row), min(s.block_columns, s.out_width - column)
        gather_gradient(s, grad_out, gradient, image, group * s.group_out + 2 * block * width, have, ld, row, column,
                        rows, columns)
        origin = channel_start(&s.source, source + image // s.out_depth * volume, group * s.group_in + first)
        row, column = row * s.step_row + s.first_row, column * s.step_column + s.first_column
        if s.source.packed:
            copy_block(&s.source, origin, channels, copy, image % s.out_depth, row, column)
            origin = copy
        else:
            origin += row * s.source.pitch + column * s.source.pixel
        for i in range(piece_count):
            p = &pieces[i]
            if p.out < channels * s.taps:
                tile(p.rows, piece_columns(s, p, channels), vectors, origin + p.offset, s.step, p.second, table,
                     rows * columns, <const real*>gradient, ld, <const real*>(to + p.out * ld), s.out_step * ld,
                     to + p.out * ld, s.out_step * ld, p.out_second * ld)
        if part == 0 and with_bias:
            add_pixels(gradient, rows * columns, ld, bias)
    restore_denormals(mode)


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
                      index ldo, index out_second) noexcept nogil:
    """The register tile, of two rows of scalars or of those of a whole kernel."""
    if real is float:
        gradient_tile_f32(rows, columns, vectors, a, step, second, table, n, b, ldb, init, ldi, out, ldo, out_second)
    else:
        gradient_tile_f64(rows, columns, vectors, a, step, second, table, n, b, ldb, init, ldi, out, ldo, out_second)


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
