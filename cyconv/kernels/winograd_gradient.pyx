"""Weight and bias gradient of a convolution of stride 1 or 2 by Winograd's algorithm: the forward pass, transposed.

The forward pass is y = Aᵀ [(G g Gᵀ) . (Bᵀ d B)] A for each tile (winograd.h). The gradient of g is, summed over tiles,

    dg = Gᵀ [sum over tiles of (A dy Aᵀ) . (Bᵀ d B)] G

Of each block of tiles the source pixels become V[xi][piece, c][tile] as in the forward pass, the gradient of the output
becomes W[xi][tile][k], and for each element xi the register tile adds their products, tiles being the reduction, to

    S[xi][piece, c][k] += sum over tiles of  V[xi][piece, c][tile] W[xi][tile][k]

which is transformed back once, in the end. At stride 2 elements that meet the same weight (winograd.pyx) add to the
same sums. A task owns its sums: some input channels x some output channels over one chunk of the blocks. Each sum adds
the tiles of a block, then the blocks of a chunk, then the chunks, in their order; chunks are cut by geometry, and how
channels are shared between tasks changes no sum. V and W are private, and made again for each task that needs them:
written by one core and read by another they would cost more. So are the sums of a single chunk, which are cut until
they stay in a cache: they are read and written for each block.
"""

from cython.parallel cimport prange, threadid
from libc.stdint cimport int32_t, uint64_t
from libc.string cimport memcpy, memset

from cyconv.kernels._kernel cimport NO_MEMORY, GradientOfWeights
from cyconv.kernels._workspace cimport Block, borrow, discard, give, zeroed
from cyconv.kernels.shares cimport Share, likely_task, next_task, share_out
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
    tile,
    transpose,
)
from cyconv.kernels.source cimport index
from cyconv.kernels.winograd_tiles cimport (
    Ahead,
    Shape,
    ask,
    ask_for_images,
    copied_rows,
    count_places,
    gather_source,
    lay_out,
    lines_of,
    transform_input,
    weight_of,
)

cdef extern from "winograd.h" nogil:
    void winograd_gradient_f32(int m, int er, int ec, const float* x, index row, index column, index tiles, int vectors,
                               float* to, index plane) noexcept
    void winograd_gradient_f64(int m, int er, int ec, const double* x, index row, index column, index tiles,
                               int vectors, double* to, index plane) noexcept
    void winograd_even_input_f32(int m, int er, int ec, const float* x, index row, index column, index step,
                                 index tiles, float* to, index plane, const index* above, const index* wide) noexcept
    void winograd_even_input_f64(int m, int er, int ec, const double* x, index row, index column, index step,
                                 index tiles, double* to, index plane, const index* above, const index* wide) noexcept
    void winograd_strided_gradient_f32(int m, int er, int ec, const float* x, index row, index column, index tiles,
                                       int vectors, float* to, index plane, const index* above,
                                       const index* wide) noexcept
    void winograd_strided_gradient_f64(int m, int er, int ec, const double* x, index row, index column, index tiles,
                                       int vectors, double* to, index plane, const index* above,
                                       const index* wide) noexcept
    void winograd_sums_f32(int m, int er, int ec, const float* x, index plane, index chunk, index chunks,
                           index channels, int vectors, float* to) noexcept
    void winograd_sums_f64(int m, int er, int ec, const double* x, index plane, index chunk, index chunks,
                           index channels, int vectors, double* to) noexcept

# What transforming an element of a tile costs, in multiply-adds.
DEF TRANSFORM = 11
# Elements along an axis of a tile, and in all, at most.
DEF EDGE = 9
DEF ELEMENTS = 81
# Bytes of the sums of a task that has them for itself, if one vector of channels and a block of others take no more.
DEF PART_BYTES = 4 << 20


cdef struct Cut:
    index units, chunks  # blocks of tiles in all images; stretches of them with sums of their own
    index parts_in, parts_out  # parts of the vectors of input channels, and of the blocks of output channels
    index chunk_size, bias_size  # elements of the sums of a chunk, for one group
    index w_plane, w_size
    index copied, private_sums  # elements of the private arrays before, and of, the sums of a task that are its own
    index images
    int32_t in_turn[ELEMENTS]  # elements of a tile, those that meet the same weights one after the other


cdef struct Part:
    # Of the channels of a group: what a task takes, and whose sums lie in the array of sums
    index first, last, block, end  # vectors of input channels, blocks of output channels
    index from_channel, channels, from_block


cdef class WinogradGradient(GradientOfWeights):
    """Weight gradient of one geometry, dtype and memory order, ready to run on arrays of that kind."""

    cdef Shape shape
    cdef Cut cut
    cdef int32_t* table
    cdef bint single  # float
    cdef readonly index shared_bytes

    def __cinit__(self):
        self.table = NULL
        self.shape.edges.places = NULL

    def __init__(self, *, str dtype, source, out, index groups, kernel, bint channels_last, first, int m, piece, pieces,
                 stride, dilation, block, edges, index chunks):
        """The arguments are those of the forward pass; ``chunks``: of blocks, each with sums of its own."""
        cdef Shape* s = &self.shape
        cdef Cut* cut = &self.cut
        cdef index width = LANES_f32 if dtype == "f" else LANES_f64
        cdef index itemsize = 4 if dtype == "f" else 8
        cdef index t, copied, xi
        cold()
        self.single = dtype == "f"
        lay_out(s, width, source, out, groups, kernel, channels_last, first, m, piece, pieces, stride, dilation,
                block, edges)
        s.dense = s.strided  # at stride 1 all tiles have all elements
        # One vector of the source, or two of the gradient.
        s.scratch_size = s.tiles // s.block_images * s.m_row * s.m_column * 2 * width
        s.copy_size = max(s.copy_plane, s.scratch_size)
        cut.chunks = chunks
        cut.w_plane = s.vectors * width * s.tiles + width
        cut.w_size = s.elements * cut.w_plane
        cut.chunk_size = s.weight_elements * (s.vectors * width * s.terms + s.channel_blocks * width)
        cut.bias_size = s.vectors * width
        copied = cut.copied = max(s.copy_size + s.elements * s.v_plane + cut.w_size, writing_room(s, width))
        shared = groups * chunks * cut.bias_size
        if chunks > 1:
            cut.private_sums = 0
            shared += groups * chunks * cut.chunk_size
        else:
            cut.private_sums = min(cut.chunk_size, max(PART_BYTES // itemsize, part_size(s, width, 1, 1)))
        for t, xi in enumerate(sorted(range(s.elements), key=self.weight_of)):
            cut.in_turn[t] = xi
        self.thread_bytes = ((copied + cut.private_sums) * itemsize + 4095) // 4096 * 4096
        self.shared_bytes = (shared * itemsize + 4095) // 4096 * 4096
        self.table = <int32_t*>zeroed(s.tiles, sizeof(int32_t))
        if self.table == NULL:
            raise MemoryError("cyconv: no memory for the tile table")
        for t in range(s.tiles):
            self.table[t] = t * width

    def weight_of(self, index xi):
        """Return the place of the sums to which element xi of a tile adds."""
        return weight_of(&self.shape, xi)

    def __dealloc__(self):
        discard(self.table)
        discard(self.shape.edges.places)

    cdef int execute(self, void* grad_weight, void* grad_bias, const void* grad_out, const void* source, index images,
                     int threads) noexcept nogil:
        if self.single:
            return run_gradient[float](self, <float*>grad_weight, <float*>grad_bias, <const float*>grad_out,
                                       <const float*>source, images, threads)
        return run_gradient[double](self, <double*>grad_weight, <double*>grad_bias, <const double*>grad_out,
                                    <const double*>source, images, threads)


# Input channels whose sums are transformed back at a time.
DEF WEIGHT_CHANNELS = 16


cdef index writing_room(const Shape* s, index width) noexcept nogil:
    """Elements of the private arrays in which the taps of some channels are brought into order."""
    return (s.kernel_slices * s.kernel_rows * s.kernel_columns + s.r_row * s.r_column) * WEIGHT_CHANNELS * 2 * width


cdef index part_size(const Shape* s, index width, index in_vectors, index blocks) noexcept nogil:
    """Elements of the sums of so many vectors of input channels and blocks of output channels."""
    cdef index terms = s.pieces * min(in_vectors * width, s.channels)
    return s.weight_elements * (min(2 * blocks, s.vectors) * width * terms + blocks * width)


cdef void share(const Shape* s, Cut* cut, index width, int threads) noexcept nogil:
    """Cut the channels so that each thread has a part of a chunk at least, private sums fit into their place, and the
    last to finish finishes first."""
    cdef index i, o, c, k, rounds
    cdef double cost, least = -1
    cut.parts_in, cut.parts_out = s.in_vectors, s.channel_blocks
    for o in range(1, s.channel_blocks + 1):
        k = (s.channel_blocks + o - 1) // o
        for i in range(1, s.in_vectors + 1):
            c = (s.in_vectors + i - 1) // i
            if cut.private_sums and part_size(s, width, c, k) > cut.private_sums:
                continue
            rounds = (s.groups * cut.chunks * i * o + threads - 1) // threads
            cost = <double>rounds * (s.pieces * c * 2 * k * width + TRANSFORM * (s.pieces * c + 2 * k))
            if least < 0 or cost < least:
                least = cost
                cut.parts_in, cut.parts_out = i, o
            if i >= threads:
                break
        # Smaller parts only where larger ones have no place.
        if o >= threads and least >= 0:
            break


cdef int run_gradient(WinogradGradient plan, real* grad_weight, real* grad_bias, const real* grad_out,
                      const real* source, index images, int threads) noexcept nogil:
    cdef Shape s = plan.shape
    cdef Cut cut = plan.cut
    cdef index width = lanes(source), i, k, chunk, per_thread = plan.thread_bytes
    cdef index writes = s.groups * s.channel_blocks * ((s.channels + WEIGHT_CHANNELS - 1) // WEIGHT_CHANNELS), group
    cut.images = images
    cut.units = (images + s.block_images - 1) // s.block_images * s.row_blocks * s.column_blocks
    share(&s, &cut, width, threads)
    cdef index tasks = s.groups * cut.chunks * cut.parts_in * cut.parts_out
    cdef Block memory
    cdef index shares_bytes = (threads * sizeof(Share) + 4095) // 4096 * 4096
    if borrow(&memory, plan.shared_bytes + shares_bytes + threads * per_thread):
        return NO_MEMORY
    cdef real* sums = <real*>memory.data  # of several chunks; those of a single one are private
    cdef real* bias = sums + (s.groups * cut.chunks * cut.chunk_size if cut.chunks > 1 else 0)
    cdef Share* shares = <Share*>(<char*>memory.data + plan.shared_bytes)
    cdef char* private = <char*>memory.data + plan.shared_bytes + shares_bytes
    share_out(shares, tasks, threads, False)
    if threads == 1:
        run_share(&s, &cut, plan.table, sums, bias, grad_weight, grad_out, source, <real*>private, shares, 1, 0)
    else:
        for i in prange(threads, schedule="static", num_threads=threads):
            run_share(&s, &cut, plan.table, sums, bias, grad_weight, grad_out, source,
                      <real*>(private + i * per_thread), shares, threads, <int>i)
    if cut.chunks > 1:
        if threads == 1:
            for i in range(writes):
                write_task(&s, &cut, sums, grad_weight, <real*>private, i)
        else:
            for i in prange(writes, schedule="static", num_threads=threads):
                write_task(&s, &cut, sums, grad_weight, <real*>(private + threadid() * per_thread), i)
    if grad_bias != NULL:
        for group in range(s.groups):
            for k in range(s.out_channels):
                for chunk in range(1, cut.chunks):
                    bias[k] += bias[chunk * cut.bias_size + k]
                grad_bias[group * s.out_channels + k] = bias[k]
            bias += cut.chunks * cut.bias_size
    give(&memory)
    return 0


cdef void run_share(const Shape* s, const Cut* cut, const int32_t* table, real* sums, real* bias, real* grad_weight,
                    const real* grad_out, const real* source, real* private, Share* shares, int threads,
                    int own) noexcept nogil:
    """What one thread does."""
    cdef index task = next_task(shares, threads, own)
    while task >= 0:
        run_task(s, cut, table, sums, bias, grad_weight, grad_out, source, private, task, likely_task(shares, own))
        task = next_task(shares, threads, own)


cdef void run_task(const Shape* s, const Cut* cut, const int32_t* table, real* sums, real* bias, real* grad_weight,
                   const real* grad_out, const real* source, real* private, index task, index following) noexcept nogil:
    cdef index parts = cut.parts_in * cut.parts_out, part = task % parts
    cdef index chunk = task // parts % cut.chunks, group = task // parts // cut.chunks
    cdef index part_in = part % cut.parts_in, part_out = part // cut.parts_in
    cdef Part p
    cdef index begin = chunk * cut.units // cut.chunks, stop = (chunk + 1) * cut.units // cut.chunks
    cdef index width = lanes(source), unit, row, column, image, images, rows, columns, i, tiles, b, c
    cdef index high[EDGE]
    cdef index wide[EDGE]
    cdef real* copy = private
    cdef real* v = copy + s.copy_size
    cdef real* w = v + s.elements * s.v_plane
    cdef uint64_t mode = flush_denormals()
    cdef Ahead coming, gradient
    cdef index after
    source += group * s.channels * (1 if s.channels_last else s.depth * s.height * s.width)
    grad_out += group * s.out_channels * (1 if s.channels_last else s.out_depth * s.out_height * s.out_width)
    grad_weight += group * s.out_channels * s.channels * s.kernel_slices * s.kernel_rows * s.kernel_columns
    bias += (group * cut.chunks + chunk) * cut.bias_size
    p.first, p.last = part_in * s.in_vectors // cut.parts_in, (part_in + 1) * s.in_vectors // cut.parts_in
    p.block, p.end = part_out * s.channel_blocks // cut.parts_out, (part_out + 1) * s.channel_blocks // cut.parts_out
    if cut.chunks == 1:
        sums = private + cut.copied
        p.from_channel, p.from_block = p.first * width, p.block
        p.channels = min(p.last * width, s.channels) - p.from_channel
    else:
        sums += (group * cut.chunks + chunk) * cut.chunk_size
        p.from_channel, p.channels, p.from_block = 0, s.channels, 0
    if part_in == 0:
        memset(bias + 2 * p.block * width, 0, (min(2 * p.end, s.vectors) - 2 * p.block) * width * sizeof(real))
    if begin == stop:
        clear_sums(s, &p, sums)
    for unit in range(begin, stop):
        column = unit % s.column_blocks * s.block_columns
        row = unit // s.column_blocks % s.row_blocks * s.block_rows
        image = unit // s.column_blocks // s.row_blocks * s.block_images
        images = min(s.block_images, cut.images - image)
        rows, columns = min(s.block_rows, s.tile_rows - row), min(s.block_columns, s.tile_columns - column)
        tiles = rows * columns * s.dilation_row * s.dilation_column
        count_places(s, row, column, rows, columns, high, wide)
        for i in range(images):
            bring_source(s, &p, source, copy, v, image + i, i, row, column, rows, columns, high, wide)
            for b in range(p.block, p.end):
                gather_gradient(s, grad_out, copy, image + i, b, row, column, rows, columns)
                if part_in == 0:
                    add_pixels(<const real*>copy, tiles * s.m_row * s.m_column, min(2, s.vectors - 2 * b) * width,
                               bias + 2 * b * width)
                transform_gradient(s, cut, copy, w, i, b, rows, columns, high, wide)
        # What comes next: the next block, or the first one of the next task, which is of these channels or others.
        after = unit + 1
        if after == stop:
            after = -1 if following < 0 else following // parts % cut.chunks * cut.units // cut.chunks
        ask_for_unit(s, cut, &p, source, grad_out, after, &coming, &gradient)
        add_products(s, cut, &p, table, v, w, sums, images, high, wide, unit == begin, &coming, &gradient)
    if cut.chunks == 1:
        for b in range(p.block, p.end):
            for c in range(p.first * width, min(p.last * width, s.channels), WEIGHT_CHANNELS):
                write_sums(s, cut, &p, sums, grad_weight, private, b, c, min(p.last * width, s.channels))
    restore_denormals(mode)


cdef void ask_for_unit(const Shape* s, const Cut* cut, const Part* part, const real* source, const real* grad_out,
                       index unit, Ahead* coming, Ahead* gradient) noexcept nogil:
    """Whole rows of the source and of the gradient under a block of tiles; -1: of none."""
    cdef index width = lanes(source), block_row = unit // s.column_blocks % s.row_blocks * s.block_rows
    cdef index image = unit // s.column_blocks // s.row_blocks * s.block_images, first
    cdef index images = min(s.block_images, cut.images - image), row
    coming.stretches = gradient.stretches = 0
    if unit < 0 or s.column_blocks > 1 or s.depth > 1 or s.out_depth > 1:
        return
    row = min(max(block_row * s.from_row * s.dilation_row + s.first_row, 0), s.height - 1)
    first = part.first * width
    ask_for_images(coming, source + image * s.groups * s.channels * s.height * s.width
                   + first * (1 if s.channels_last else s.height * s.width), sizeof(real), s.channels_last, images,
                   min(part.last * width, s.channels) - first, s.groups * s.channels, row,
                   copied_rows(s, s.block_rows), s.height, s.width)
    row, first = block_row * s.m_row * s.dilation_row, 2 * part.block * width
    ask_for_images(gradient, grad_out + image * s.groups * s.out_channels * s.out_height * s.out_width
                   + first * (1 if s.channels_last else s.out_height * s.out_width), sizeof(real), s.channels_last,
                   images, min(2 * part.end * width, s.out_channels) - first, s.groups * s.out_channels, row,
                   s.block_rows * s.m_row * s.dilation_row, s.out_height, s.out_width)


cdef void clear_sums(const Shape* s, const Part* part, real* sums) noexcept nogil:
    """Zero the sums of a part of the channels: there are no tiles."""
    cdef index width = lanes(sums), b, xi, p, ld
    cdef index have = min(part.last * width, s.channels) - part.first * width
    for b in range(part.block, part.end):
        ld = min(2, s.vectors - 2 * b) * width
        for xi in range(s.weight_elements):
            for p in range(s.pieces):
                memset(sums_at(s, part, sums, b, xi, p, part.first * width), 0, have * ld * sizeof(real))


cdef inline real* sums_at(const Shape* s, const Part* part, real* sums, index block, index xi, index piece,
                          index channel) noexcept nogil:
    """S[xi][piece, c] of one block of output channels; a vector more than needed from xi to xi."""
    cdef index width = lanes(sums), ld = min(2, s.vectors - 2 * block) * width, terms = s.pieces * part.channels
    return (sums + s.weight_elements * (block - part.from_block) * width * (2 * terms + 1)
            + xi * (terms * ld + width) + (piece * part.channels + channel - part.from_channel) * ld)


cdef void bring_source(const Shape* s, const Part* part, const real* source, real* copy, real* v, index image,
                       index of_block, index row, index column, index rows, index columns, const index* high,
                       const index* wide) noexcept nogil:
    """V of one image, number ``of_block`` of a block, vector by vector of channels, so that the pixels stay near."""
    cdef index width = lanes(source), k, c, done = of_block * rows * columns * s.dilation_row * s.dilation_column
    for k in range(s.kernel_slices):
        for c in range(part.first, part.last):
            gather_source(s, source, copy, image, k, row, column, rows, columns, c, c + 1)
            if s.strided:
                transform_strided(s, copy, v + c * s.tiles * width, of_block, k, rows, columns, high, wide)
            else:
                transform_input(s, copy, v + done * width, k, rows, columns, c, c + 1)


cdef void transform_strided(const Shape* s, const real* copy, real* v, index image, index slice, index rows,
                            index columns, const index* high, const index* wide) noexcept nogil:
    """V of one vector of channels at stride 2, as in a forward pass (winograd_tiles.pxd)."""
    cdef index width = lanes(copy), i, j, r, row = s.from_row * s.copy_pitch, step = s.from_column * width
    cdef index above[EDGE]
    cdef const real* corner
    cdef real* to
    for r in range(rows):
        for i in range(s.edge_row):
            above[i] = image * high[i] + r
        for i in range(s.piece_rows):
            for j in range(s.piece_columns):
                corner = copy + i * s.r_row * s.copy_pitch + j * s.r_column * width + r * row
                to = v + ((slice * s.piece_rows + i) * s.piece_columns + j) * s.in_vectors * s.tiles * width
                if real is float:
                    winograd_even_input_f32(s.m, s.edge_row, s.edge_column, corner, s.copy_pitch, width, step, columns,
                                            to, s.v_plane, above, wide)
                else:
                    winograd_even_input_f64(s.m, s.edge_row, s.edge_column, corner, s.copy_pitch, width, step, columns,
                                            to, s.v_plane, above, wide)


cdef void gather_gradient(const Shape* s, const real* grad_out, real* to, index image, index block, index row,
                          index column, index rows, index columns) noexcept nogil:
    """[row][column][channel] of the output gradient under a block of tiles; zeros outside and in missing channels."""
    cdef index width = lanes(grad_out), first = 2 * block * width, ld = min(2, s.vectors - 2 * block) * width, r, j
    cdef index have = min(ld, s.out_channels - first), plane = s.out_height * s.out_width, area = s.out_depth * plane
    cdef index high = s.m_row * s.dilation_row, wide = s.m_column * s.dilation_column
    cdef index pitch = columns * wide * ld, top = row * high, left = column * wide, all = s.groups * s.out_channels
    cdef index height = min(rows * high, s.out_height - top), across = min(columns * wide, s.out_width - left)
    cdef const real* line
    grad_out += image // s.out_depth * all * area + image % s.out_depth * plane * (all if s.channels_last else 1)
    if have < ld or across < columns * wide:
        memset(to, 0, rows * high * pitch * sizeof(real))
    else:
        memset(to + height * pitch, 0, (rows * high - height) * pitch * sizeof(real))
    if s.channels_last:
        for r in range(height):
            line = grad_out + ((top + r) * s.out_width + left) * all + first
            for j in range(across):
                memcpy(to + r * pitch + j * ld, line + j * all, have * sizeof(real))
    elif across == s.out_width and across == columns * wide:
        transpose(grad_out + first * area + top * s.out_width, area, have, height * across, to, ld)
    else:
        for r in range(height):
            transpose(grad_out + first * area + (top + r) * s.out_width + left, area, have, across, to + r * pitch, ld)


cdef void transform_gradient(const Shape* s, const Cut* cut, const real* copy, real* w, index image, index block,
                             index rows, index columns, const index* high, const index* wide) noexcept nogil:
    """W[xi][block][tile][k] of one image, number ``image`` of a block, behind those before it."""
    cdef index width = lanes(copy), r, y, x, i
    cdef int vectors = <int>min(2, s.vectors - 2 * block)
    cdef index ld = vectors * width, pitch = columns * s.m_column * s.dilation_column * ld
    cdef index above[EDGE]
    cdef const real* line
    w += 2 * block * width * s.tiles
    if s.strided:
        for r in range(rows):
            line = copy + r * s.m_row * pitch
            for i in range(s.edge_row):
                above[i] = image * high[i] + r
            if real is float:
                winograd_strided_gradient_f32(s.m, s.edge_row, s.edge_column, line, pitch, ld, columns, vectors, w,
                                              cut.w_plane, above, wide)
            else:
                winograd_strided_gradient_f64(s.m, s.edge_row, s.edge_column, line, pitch, ld, columns, vectors, w,
                                              cut.w_plane, above, wide)
        return
    w += image * rows * columns * s.dilation_row * s.dilation_column * ld
    for y in range(s.dilation_row):
        for x in range(s.dilation_column):
            for r in range(rows):
                line = copy + (r * s.m_row * s.dilation_row + y) * pitch + x * ld
                if real is float:
                    winograd_gradient_f32(s.m, s.edge_row, s.edge_column, line, s.dilation_row * pitch,
                                          s.dilation_column * ld, columns, vectors, w, cut.w_plane)
                else:
                    winograd_gradient_f64(s.m, s.edge_row, s.edge_column, line, s.dilation_row * pitch,
                                          s.dilation_column * ld, columns, vectors, w, cut.w_plane)
                w += columns * ld


cdef void add_products(const Shape* s, const Cut* cut, const Part* part, const int32_t* table, const real* v,
                       const real* w, real* sums, index images, const index* high, const index* wide,
                       bint first_block, Ahead* coming, Ahead* gradient) noexcept nogil:
    """S[xi][piece, c][k] of a part of the channels, plus the products of a block of tiles; of the first one, plus
    nothing. Meanwhile the pixels of the next block are asked for."""
    cdef index width = lanes(v), most = CYCONV_TILE_PIXELS, weight = -1
    cdef index e, xi, b, p, c, ld, i, n, done, have, cuts, tiles
    cdef int vectors
    cdef bint fresh
    cdef real zeros[32]
    cdef const real* scalars
    cdef real* to
    cdef index times = s.elements * (part.end - part.block) * s.pieces * (part.last - part.first)
    cdef index lines_in = (lines_of(coming) + times - 1) // times
    cdef index lines_out = (lines_of(gradient) + times - 1) // times
    for i in range(2 * width):
        zeros[i] = 0
    for e in range(s.elements):
        xi = cut.in_turn[e]
        tiles = images * high[xi // s.edge_column] * wide[xi % s.edge_column]
        fresh = first_block and weight_of(s, xi) != weight
        weight = weight_of(s, xi)
        for b in range(part.block, part.end):
            vectors = <int>min(2, s.vectors - 2 * b)
            ld = vectors * width
            for p in range(s.pieces):
                for c in range(part.first, part.last):
                    have = min(width, s.channels - c * width)
                    scalars = v + xi * s.v_plane + (p * s.in_vectors + c) * s.tiles * width
                    to = sums_at(s, part, sums, b, weight, p, c * width)
                    cuts = (have + most - 1) // most
                    done = 0
                    for i in range(cuts):
                        n = (have - done + cuts - i - 1) // (cuts - i)
                        tile(1, <int>n, vectors, scalars + done, 1, 0, table, tiles,
                             w + xi * cut.w_plane + 2 * b * width * s.tiles, ld,
                             <const real*>zeros if fresh else <const real*>to, 0 if fresh else ld, to, ld, 0)
                        to += n * ld
                        done += n
                    ask(coming, lines_in)
                    ask(gradient, lines_out)


cdef void write_task(const Shape* s, const Cut* cut, real* sums, real* grad_weight, real* private,
                     index task) noexcept nogil:
    """Add the chunks of some input channels and a block of output channels of one group."""
    cdef index pieces = (s.channels + WEIGHT_CHANNELS - 1) // WEIGHT_CHANNELS, block = task // pieces
    cdef index group = block // s.channel_blocks, taps = s.kernel_slices * s.kernel_rows * s.kernel_columns
    cdef Part all = Part(0, s.in_vectors, 0, s.channel_blocks, 0, s.channels, 0)
    cdef uint64_t mode = flush_denormals()
    write_sums(s, cut, &all, sums + group * cut.chunks * cut.chunk_size,
               grad_weight + group * s.out_channels * s.channels * taps, private, block % s.channel_blocks,
               task % pieces * WEIGHT_CHANNELS, s.channels)
    restore_denormals(mode)


cdef void write_sums(const Shape* s, const Cut* cut, const Part* part, real* sums, real* grad_weight, real* private,
                     index block, index channel, index end) noexcept nogil:
    """Transform the sums of some input channels before ``end`` and a block of output channels to where they belong."""
    cdef index width = lanes(sums), taps = s.kernel_slices * s.kernel_rows * s.kernel_columns, piece
    cdef int vectors = <int>min(2, s.vectors - 2 * block)
    cdef index ld = vectors * width, have = min(ld, s.out_channels - 2 * block * width)
    cdef index channels = min(WEIGHT_CHANNELS, end - channel), plane = s.pieces * part.channels * ld + width
    cdef real* ordered = private
    cdef real* whole = ordered + WEIGHT_CHANNELS * taps * 2 * width
    cdef const real* at
    for piece in range(s.pieces):
        at = sums_at(s, part, sums, block, 0, piece, channel)
        if real is float:
            winograd_sums_f32(s.m, s.edge_row, s.edge_column, at, plane, cut.chunk_size, cut.chunks, channels, vectors,
                              whole)
        else:
            winograd_sums_f64(s.m, s.edge_row, s.edge_column, at, plane, cut.chunk_size, cut.chunks, channels, vectors,
                              whole)
        paste_piece(s, whole, ordered, piece, channels, ld)
    transpose(<const real*>ordered, ld, channels * taps, have,
              grad_weight + (2 * block * width * s.channels + channel) * taps, s.channels * taps)


cdef void paste_piece(const Shape* s, const real* whole, real* ordered, index piece, index channels,
                      index ld) noexcept nogil:
    """The taps of one piece to their places in the kernel, [channel][tap][k]; those beyond it are left out."""
    cdef index column = piece % s.piece_columns * s.r_column
    cdef index row = piece // s.piece_columns % s.piece_rows * s.r_row
    cdef index slice = piece // s.piece_columns // s.piece_rows, c, i, j
    for c in range(channels):
        for i in range(row, row + s.r_row):
            for j in range(column, column + s.r_column):
                if i < s.kernel_rows and j < s.kernel_columns:
                    memcpy(ordered + (((c * s.kernel_slices + slice) * s.kernel_rows + i) * s.kernel_columns + j) * ld,
                           whole, ld * sizeof(real))
                whole += ld
