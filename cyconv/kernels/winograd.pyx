"""Convolution of stride 1 or 2 by Winograd's algorithms F(2x2, 3x3), F(4x4, 3x3) and F(2x2, 5x5).

For each block of tiles: the source pixels are brought to [channel vector][row][column][channel] with their padding,
each tile is transformed to its elements xi, and for each block of output channels the register tile multiplies

    M[xi][tile][k] = sum over c of  V[xi][c][tile] U[xi][c][k]        (U: transformed weights, made beforehand)

and M is transformed back, straight to the output. All of it is private to the task; a task of other output channels
on the same thread finds V still there. F(2, 3) does 2.25 times fewer multiplications than the sum itself, F(4, 3) 4
times, F(2, 5) 2.8 times; a map that is no multiple of 2 or 4 wastes part of its last tiles.

Other kernels are cut into *pieces* of that size, missing taps being zero: a piece is an input channel of its own, which
reads pixels further on (V[xi][piece, c][tile]), and so is a slice of a three-dimensional kernel. Along an axis in which
the kernel has one tap, a tile is one pixel high or wide, and nothing is transformed.

A dilated convolution is many of them side by side: the pixels whose row and column leave the same remainders when
divided by the dilation (a *phase*) meet only each other. A block holds the tiles of all its phases.

At stride 2 pixels at even places meet two taps of three, those at odd places the third (winograd.h): of the 81 elements
of a tile of 4x4 outputs, 25 are transformed in both directions, 40 in one, and 16 are pixels as they are. Elements at
odd places share their weights, 36 for each pair of channels.

Without dilation, elements that only outputs behind the last one would take are left out, at stride 1 those of the
point at infinity: V[xi] and M[xi] hold the tiles that have element xi, without gaps. Along an axis of 7 outputs there
are 11 elements instead of 12.

The input gradient at stride 2 goes the same way: of its pixels along an axis every second one meets two taps, as the
outputs of a convolution of two taps, of which F(4, 2) makes 4 from 5 pixels, and those between meet the third. A tile
of 8x8 of them is made of the same 81 products, by the same weights, from 5x5 pixels of the gradient of the output.
"""

from cython.parallel cimport prange, threadid
from libc.math cimport INFINITY
from libc.stdint cimport int32_t, uint64_t
from libc.string cimport memcpy, memset

from cyconv.kernels._kernel cimport NO_MEMORY, Convolution
from cyconv.kernels._workspace cimport Block, borrow, discard, give, zeroed
from cyconv.kernels.shares cimport Share, likely_task, next_task, share_out
from cyconv.kernels.simd cimport (
    CYCONV_TILE_PIXELS,
    LANES_f32,
    LANES_f64,
    cold,
    copy_row,
    fetch,
    fetching_tile,
    flush_denormals,
    lanes,
    real,
    restore_denormals,
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
    first_slice,
    gather_rows,
    gather_source,
    lay_out,
    lines_of,
    near_rows,
    slice_place,
    slices_at,
    transform_dense,
    transform_input,
    weight_of,
)

cdef extern from "winograd.h" nogil:
    void winograd_output_f32(int m, int er, int ec, const float* x, index ld, index plane, index tiles, int vectors,
                             const float* bias, float floor, float* to, index row, index column, const index* above,
                             const index* wide) noexcept
    void winograd_output_f64(int m, int er, int ec, const double* x, index ld, index plane, index tiles, int vectors,
                             const double* bias, double floor, double* to, index row, index column, const index* above,
                             const index* wide) noexcept
    void winograd_spread_output_f32(int m, int er, int ec, const float* x, index ld, index plane, index tiles,
                                    int vectors, const float* bias, float floor, float* to, index row, index column,
                                    index late_row, index late_column, const index* above, const index* wide) noexcept
    void winograd_spread_output_f64(int m, int er, int ec, const double* x, index ld, index plane, index tiles,
                                    int vectors, const double* bias, double floor, double* to, index row, index column,
                                    index late_row, index late_column, const index* above, const index* wide) noexcept
    void winograd_weights_f32(int m, int er, int ec, const float* x, index channels, int vectors, float* to,
                              index plane) noexcept
    void winograd_weights_f64(int m, int er, int ec, const double* x, index channels, int vectors, double* to,
                              index plane) noexcept


# Elements along an axis of a tile, and in all, at most.
DEF EDGE = 9
DEF ELEMENTS = 81


cdef class Winograd(Convolution):
    """A convolution of one geometry, dtype and memory order, ready to run on arrays of that kind."""

    cdef Shape shape
    cdef int32_t* table
    cdef int32_t in_turn[ELEMENTS]  # elements of a tile, those that meet the same weights one after the other
    cdef bint single  # float

    def __cinit__(self):
        self.table = NULL
        self.shape.edges.places = NULL

    def __init__(self, *, str dtype, source, out, index groups, kernel, bint channels_last, first, int m, piece, pieces,
                 stride, dilation, block, edges, bint rectified, bint swapped, late):
        """``source``, ``out``: (channels, depth, height, width); ``first``: source pixel of output pixel (0, 0, 0);
        ``piece``: (rows, columns) of taps in a piece; ``block``: images, rows and columns of tiles of a phase;
        ``edges``: as set_edges takes them; ``late``: None, or of an input gradient at stride 2 for rows and for columns
        whether output pixel 0 meets two taps."""
        cdef Shape* s = &self.shape
        cdef index width = LANES_f32 if dtype == "f" else LANES_f64
        cdef index itemsize = 4 if dtype == "f" else 8
        cdef index c, xi
        cold()
        self.single = dtype == "f"
        s.rectified, s.swapped = rectified, swapped
        lay_out(s, width, source, out, groups, kernel, channels_last, first, m, piece, pieces, stride, dilation,
                block, edges, late)
        s.copy_size = s.copy_plane if s.dense else s.in_vectors * s.copy_plane
        s.m_plane = s.tiles * 2 * width + width
        s.scratch_size = s.tiles // s.block_images * s.m_row * s.m_column * 2 * width
        self.packed_size = groups * group_weights(s, width)
        self.thread_bytes = ((s.copy_size + s.elements * (s.v_plane + s.m_plane) + s.scratch_size) * itemsize
                             + 4095) // 4096 * 4096
        self.table = <int32_t*>zeroed(s.terms, sizeof(int32_t))
        if self.table == NULL:
            raise MemoryError("cyconv: no memory for the channel table")
        for c in range(s.terms):
            self.table[c] = ((c // s.channels * s.in_vectors + c % s.channels // width) * s.tiles * width
                             + c % s.channels % width)
        for c, xi in enumerate(sorted(range(s.elements), key=self.weight_of)):
            self.in_turn[c] = xi

    def weight_of(self, index xi):
        """Return the place of the transformed weights that element xi of a tile meets."""
        return weight_of(&self.shape, xi)

    def __dealloc__(self):
        discard(self.table)
        discard(self.shape.edges.places)

    cdef int order(self, void* packed, const void* weight, int threads) noexcept nogil:
        if self.single:
            return transform_weights[float](&self.shape, <float*>packed, <const float*>weight, threads)
        return transform_weights[double](&self.shape, <double*>packed, <const double*>weight, threads)

    cdef int execute(self, void* out, const void* source, const void* packed, const void* bias, index images,
                     int threads) noexcept nogil:
        if self.single:
            return run_winograd[float](self, <float*>out, <const float*>source, <const float*>packed,
                                       <const float*>bias, images, threads)
        return run_winograd[double](self, <double*>out, <const double*>source, <const double*>packed,
                                    <const double*>bias, images, threads)


cdef inline index group_weights(const Shape* s, index width) noexcept nogil:
    """Elements of the transformed weights of one group."""
    return s.weight_elements * (s.vectors * width * s.terms + s.channel_blocks * width)


# Input channels whose taps are brought into order at a time, on their way to the transform.
DEF WEIGHT_CHANNELS = 16


cdef int transform_weights(const Shape* s, real* packed, const real* weight, int threads) noexcept nogil:
    cdef index blocks = s.groups * s.channel_blocks, i, width = 2 * lanes(weight)
    cdef index taps = s.kernel_slices * s.kernel_rows * s.kernel_columns
    cdef index room = (taps + s.r_row * s.r_column) * WEIGHT_CHANNELS * width
    cdef index per_thread = (room * sizeof(real) + 4095) // 4096 * 4096
    if threads > blocks:
        threads = <int>blocks
    cdef Block memory
    if borrow(&memory, threads * per_thread):
        return NO_MEMORY
    cdef char* private = <char*>memory.data
    if threads == 1:
        for i in range(blocks):
            transform_weight_block(s, weight, packed, <real*>private, i)
    else:
        for i in prange(blocks, schedule="dynamic", num_threads=threads):
            transform_weight_block(s, weight, packed, <real*>(private + threadid() * per_thread), i)
    give(&memory)
    return 0


cdef void transform_weight_block(const Shape* s, const real* weight, real* packed, real* ordered,
                                 index task) noexcept nogil:
    """U[xi][piece, c][k] of one block of two vectors of output channels; a vector more than needed from xi to xi."""
    cdef index width = lanes(weight), group = task // s.channel_blocks, block = task % s.channel_blocks
    cdef index first = 2 * block * width
    cdef int vectors = <int>min(2, s.vectors - 2 * block)
    cdef index taps = s.kernel_slices * s.kernel_rows * s.kernel_columns
    cdef index ld = vectors * width, have = min(ld, s.out_channels - first), c, n, i, piece, at
    cdef real* to = packed + group * group_weights(s, width) + s.weight_elements * (first * s.terms + block * width)
    cdef real* cut = ordered + WEIGHT_CHANNELS * taps * ld
    cdef bint whole = s.pieces == 1 and s.r_row == s.kernel_rows and s.r_column == s.kernel_columns
    cdef uint64_t mode = flush_denormals()
    weight += group * s.channels * s.out_channels * taps
    memset(ordered, 0, WEIGHT_CHANNELS * taps * ld * sizeof(real))
    for c in range(0, s.channels, WEIGHT_CHANNELS):
        n = min(WEIGHT_CHANNELS, s.channels - c)
        if s.swapped:
            for i in range(n):  # the taps in reverse; the next channels stand too far away to be foreseen
                fetch(weight + ((c + i + 3) * s.out_channels + first) * taps, have * taps * <index>sizeof(real))
                transpose(weight + ((c + i) * s.out_channels + first) * taps, taps, have, taps,
                          ordered + ((i + 1) * taps - 1) * ld, -ld)
        else:
            transpose(weight + (first * s.channels + c) * taps, s.channels * taps, have, n * taps, ordered, ld)
        for piece in range(s.pieces):
            if not whole:
                cut_piece(s, ordered, cut, piece, n, ld)
            at = piece
            if s.spread:  # a slice each, in reverse
                at = slice_place(s, s.kernel_slices - 1 - piece)
            transform_piece(s, ordered if whole else cut, n, vectors, to + (at * s.channels + c) * ld)
    restore_denormals(mode)


cdef void cut_piece(const Shape* s, const real* ordered, real* cut, index piece, index channels,
                    index ld) noexcept nogil:
    """The taps of one piece of a kernel, [channel][tap][k]; those beyond the kernel are zero."""
    cdef index column = piece % s.piece_columns * s.r_column
    cdef index row = piece // s.piece_columns % s.piece_rows * s.r_row
    cdef index slice = piece // s.piece_columns // s.piece_rows, c, i, j
    for c in range(channels):
        for i in range(row, row + s.r_row):
            for j in range(column, column + s.r_column):
                if i < s.kernel_rows and j < s.kernel_columns:
                    memcpy(cut, ordered + (((c * s.kernel_slices + slice) * s.kernel_rows + i) * s.kernel_columns
                                           + j) * ld, ld * sizeof(real))
                else:
                    memset(cut, 0, ld * sizeof(real))
                cut += ld


cdef void transform_piece(const Shape* s, const real* taps, index channels, int vectors, real* to) noexcept nogil:
    cdef index width = lanes(taps), plane = s.terms * vectors * width + width
    if real is float:
        winograd_weights_f32(s.m, s.edge_row, s.edge_column, taps, channels, vectors, to, plane)
    else:
        winograd_weights_f64(s.m, s.edge_row, s.edge_column, taps, channels, vectors, to, plane)


cdef int run_winograd(Winograd plan, real* out, const real* source, const real* packed, const real* bias,
                      index images, int threads) noexcept nogil:
    cdef Shape s = plan.shape
    cdef index width = lanes(source), i, padded = s.groups * s.vectors * width, per_thread = plan.thread_bytes
    cdef index image_blocks = (images + s.block_images - 1) // s.block_images
    cdef index tasks = image_blocks * s.row_blocks * s.column_blocks * s.groups
    cdef bint whole = s.tile_rows % s.block_rows == 0 and images % s.block_images == 0 and tasks % threads == 0
    # As much for each thread, or many: else output channels are cut too, and each part transforms the pixels anew.
    if whole or tasks >= 8 * threads:
        s.task_groups = 1
    else:
        s.task_groups = min(s.channel_blocks, (4 * threads + tasks - 1) // max(tasks, 1))
    s.task_blocks = (s.channel_blocks + s.task_groups - 1) // s.task_groups
    s.task_groups = (s.channel_blocks + s.task_blocks - 1) // s.task_blocks
    tasks *= s.task_groups
    if threads > tasks:
        threads = <int>max(tasks, 1)
    cdef index start_bytes = (padded * sizeof(real) + 63) // 64 * 64
    cdef index shared_bytes = (start_bytes + threads * sizeof(Share) + 4095) // 4096 * 4096
    cdef Block memory
    if borrow(&memory, shared_bytes + threads * per_thread):
        return NO_MEMORY
    cdef real* start = <real*>memory.data
    cdef Share* shares = <Share*>(<char*>memory.data + start_bytes)
    cdef char* private = <char*>memory.data + shared_bytes
    s.images = images
    memset(start, 0, padded * sizeof(real))
    if bias != NULL:
        for i in range(s.groups):
            memcpy(start + i * s.vectors * width, bias + i * s.out_channels, s.out_channels * sizeof(real))
    share_out(shares, tasks, threads, False)
    if threads == 1:
        run_share(&s, plan.table, plan.in_turn, out, source, packed, start, <real*>private, shares, 1, 0)
    else:
        for i in prange(threads, schedule="static", num_threads=threads):
            run_share(&s, plan.table, plan.in_turn, out, source, packed, start, <real*>(private + i * per_thread),
                      shares, threads, <int>i)
    give(&memory)
    return 0


cdef void run_share(const Shape* s, const int32_t* table, const int32_t* order, real* out, const real* source,
                    const real* packed, const real* start, real* private, Share* shares, int threads,
                    int own) noexcept nogil:
    """What one thread does; ``held``: which block's V its private memory holds."""
    cdef index held = -1, task = next_task(shares, threads, own)
    while task >= 0:
        run_task(s, table, order, out, source, packed, start, private, &held, task, likely_task(shares, own))
        task = next_task(shares, threads, own)


cdef void run_task(const Shape* s, const int32_t* table, const int32_t* order, real* out, const real* source,
                   const real* packed, const real* start, real* private, index* held, index task,
                   index following) noexcept nogil:
    cdef index task_group = task % s.task_groups, block = task // s.task_groups
    cdef index group = block % s.groups, place = block // s.groups
    cdef index column = place % s.column_blocks * s.block_columns
    cdef index row = place // s.column_blocks % s.row_blocks * s.block_rows
    cdef index image = place // s.column_blocks // s.row_blocks * s.block_images
    cdef index images = min(s.block_images, s.images - image)
    cdef index rows = min(s.block_rows, s.tile_rows - row), columns = min(s.block_columns, s.tile_columns - column)
    cdef index width = lanes(source), i, b
    cdef index high[EDGE]
    cdef index wide[EDGE]
    cdef index last = min(s.channel_blocks, (task_group + 1) * s.task_blocks)
    cdef real* copy = private
    cdef real* v = copy + s.copy_size
    cdef real* product = v + s.elements * s.v_plane
    cdef real* scratch = product + s.elements * s.m_plane
    cdef uint64_t mode = flush_denormals()
    cdef Ahead coming, leaving
    coming.stretches = leaving.stretches = 0
    if following >= 0 and following // s.task_groups != block:
        ask_for_source(s, source, following // s.task_groups, &coming)
    packed += group * group_weights(s, width)
    start += group * s.vectors * width
    source += group * s.channels * (1 if s.channels_last else s.depth * s.height * s.width)
    out += group * s.out_channels * (1 if s.channels_last else s.out_depth * s.out_height * s.out_width)
    count_places(s, row, column, rows, columns, high, wide)
    if held[0] != block:
        transform_block(s, source, copy, v, image, images, row, column, rows, columns, high, wide)
        held[0] = block
    for b in range(task_group * s.task_blocks, last):
        ask_for_output(s, out, image, images, row, rows, b, &leaving)
        multiply(s, table, order, v, packed + s.weight_elements * b * width * (2 * s.terms + 1),
                 <int>min(2, s.vectors - 2 * b), product, image, images, high, wide, &coming, &leaving)
        for i in range(images):
            write_block(s, product, out, image + i, i, start + 2 * b * width, scratch, b, row, column, rows, columns,
                        high, wide)
    restore_denormals(mode)


cdef void ask_for_source(const Shape* s, const real* source, index block, Ahead* ahead) noexcept nogil:
    """Whole rows of the source of a block."""
    cdef index group = block % s.groups, place = block // s.groups, channels = s.groups * s.channels
    cdef index row = place // s.column_blocks % s.row_blocks * s.block_rows * s.from_row * s.dilation_row
    cdef index image = place // s.column_blocks // s.row_blocks * s.block_images
    if s.column_blocks > 1 or s.depth > 1 or s.out_depth > 1:
        return
    row = min(max(row + s.first_row, 0), s.height - 1)
    source += image * channels * s.height * s.width
    source += group * s.channels * (1 if s.channels_last else s.height * s.width)
    ask_for_images(ahead, source, sizeof(real), s.channels_last, min(s.block_images, s.images - image), s.channels,
                   channels, row, copied_rows(s, s.block_rows), s.height, s.width)


cdef void ask_for_output(const Shape* s, const real* out, index image, index images, index row, index rows,
                         index block, Ahead* ahead) noexcept nogil:
    """The output of a block of tiles and of channels."""
    cdef index width = lanes(out), first = 2 * block * width, all = s.groups * s.out_channels
    cdef index area = s.out_height * s.out_width
    if s.column_blocks > 1 or s.out_depth > 1:
        return
    out += image * all * area + first * (1 if s.channels_last else area)
    ask_for_images(ahead, out, sizeof(real), s.channels_last, images, min(2 * width, s.out_channels - first), all,
                   row * s.m_row * s.dilation_row, rows * s.m_row * s.dilation_row, s.out_height, s.out_width)


cdef void transform_block(const Shape* s, const real* source, real* copy, real* v, index image, index images, index row,
                          index column, index rows, index columns, const index* high, const index* wide) noexcept nogil:
    """V of a block."""
    cdef index width = lanes(source), tiles = rows * columns * s.dilation_row * s.dilation_column, c, i, k
    if not s.dense:
        for i in range(images):
            for k in range(s.kernel_slices):
                gather_source(s, source, copy, image + i, k, row, column, rows, columns, 0, s.in_vectors)
                transform_input(s, copy, v + i * tiles * width, k, rows, columns, 0, s.in_vectors)
        return
    # One vector of channels and few rows at a time, while their pixels are near.
    cdef index most = near_rows(s, rows, s.from_row * s.copy_pitch * <index>sizeof(real)), r, end, copied
    for c in range(s.in_vectors):
        for i in range(images):
            for k in range(slices_at(s, image)):
                copied = r = 0
                while r < rows:
                    end = min(rows, r + most)
                    gather_rows(s, source, copy, image + i, k, row, column, copied, copied_rows(s, end), columns, c,
                                c + 1)
                    copied = copied_rows(s, end)
                    transform_dense(s, copy, v + c * s.tiles * width, i, k, r, end, columns, high, wide)
                    r = end


cdef void multiply(const Shape* s, const int32_t* table, const int32_t* order, const real* v, const real* weights,
                   int vectors, real* product, index image, index images, const index* high,
                   const index* wide, Ahead* coming, Ahead* leaving) noexcept nogil:
    """M[xi][tile][k] of one block of output channels. Meanwhile what is next to be read and written is asked for."""
    # All images of a block take the same slices.
    cdef index first = slice_place(s, first_slice(s, image)) * s.channels if s.spread and s.stride_depth > 1 else 0
    cdef index terms = s.terms // s.kernel_slices * slices_at(s, image)
    cdef index width = lanes(v), ld = vectors * width, e, xi, done, n, i
    cdef index most = CYCONV_TILE_PIXELS, tiles = 0, pieces = 0, size = 0, longer = 0
    cdef real zeros[32]
    cdef index times = s.elements * ((s.tiles + most - 1) // most)
    cdef index lines_in = (lines_of(coming) + times - 1) // times, lines_out = (lines_of(leaving) + times - 1) // times
    for i in range(ld):
        zeros[i] = 0
    for e in range(s.elements):
        xi = order[e]
        n = images * high[<int>xi // s.edge_column] * wide[<int>xi % s.edge_column]
        if n != tiles:  # mostly all have as many
            tiles = n
            pieces = (tiles + most - 1) // most
            size = tiles // max(pieces, 1)
            longer = tiles - pieces * size
        done = 0
        for i in range(pieces):
            n = size + (i < longer)
            fetching_tile(<int>n, vectors, v + xi * s.v_plane + done * width, width, table, terms,
                          weights + weight_of(s, xi) * (s.terms * ld + width) + first * ld, ld, <const real*>zeros, 0,
                          product + xi * s.m_plane + done * ld, ld, 0)
            ask(leaving, lines_out)
            ask(coming, lines_in)
            done += n


cdef void write_block(const Shape* s, const real* product, real* out, index image, index of_block, const real* bias,
                      real* scratch, index block, index row, index column, index rows, index columns,
                      const index* row_counts, const index* column_counts) noexcept nogil:
    """Transform one image of a block, number ``of_block`` in it, back and bring it to where it belongs."""
    cdef index width = lanes(product), first = 2 * block * width, r, j
    cdef int vectors = <int>min(2, s.vectors - 2 * block)
    cdef index ld = vectors * width, channels = min(ld, s.out_channels - first), all = s.groups * s.out_channels
    cdef index high = s.m_row * s.dilation_row, wide = s.m_column * s.dilation_column
    cdef index plane = s.out_height * s.out_width, area = s.out_depth * plane
    cdef index top = row * high, left = column * wide
    cdef index height = min(rows * high, s.out_height - top), across = min(columns * wide, s.out_width - left)
    # Whole rows follow each other without gaps: what tiles hold behind their ends is overwritten by the next ones. Not
    # in an input gradient of stride 2, whose tiles do not write their rows in order.
    cdef bint flat = across == s.out_width and s.dense and not s.spread
    cdef index pitch = (across if flat else columns * wide) * ld
    cdef real floor = 0 if s.rectified else -INFINITY
    cdef index most = near_rows(s, rows, s.m_row * pitch * <index>sizeof(real)), end
    if flat and not s.channels_last:
        out += image // s.out_depth * all * area + image % s.out_depth * plane + first * area + top * s.out_width
        r = 0
        while r < rows:
            end = min(rows, r + most)
            transform_back(s, product, of_block, bias, floor, scratch, pitch, vectors, r, end, columns, row_counts,
                           column_counts)
            transpose(<const real*>scratch, ld, (min(end * high, height) - r * high) * across, channels,
                      out + r * high * across, area)
            r = end
        return
    if s.dense:
        transform_back(s, product, of_block, bias, floor, scratch, pitch, vectors, 0, rows, columns, row_counts,
                       column_counts)
    else:
        transform_phases_back(s, product + of_block * rows * columns * s.dilation_row * s.dilation_column * ld, bias,
                              floor, scratch, pitch, vectors, rows, columns)
    out += image // s.out_depth * all * area + image % s.out_depth * plane * (all if s.channels_last else 1)
    if s.channels_last:
        for r in range(height):
            for j in range(across):
                copy_row(out + ((top + r) * s.out_width + left + j) * all + first, scratch + r * pitch + j * ld,
                         channels)
    elif across == s.out_width and pitch == across * ld:  # whole rows, though not in order
        transpose(<const real*>scratch, ld, height * across, channels, out + first * area + top * s.out_width, area)
    else:
        for r in range(height):
            transpose(<const real*>scratch + r * pitch, ld, across, channels,
                      out + first * area + (top + r) * s.out_width + left, area)


cdef void transform_back(const Shape* s, const real* product, index image, const real* bias, real floor, real* to,
                         index pitch, int vectors, index begin, index end, index columns, const index* high,
                         const index* wide) noexcept nogil:
    """M of some rows of tiles of one image of a block to pixels."""
    cdef index ld = vectors * lanes(product), r, i
    cdef index above[EDGE]
    for r in range(begin, end):
        for i in range(s.edge_row):
            above[i] = image * high[i] + r
        transform_row_back(s, product, columns, vectors, bias, floor, to + (r - begin) * s.m_row * pitch, pitch, ld,
                           above, wide)


cdef void transform_phases_back(const Shape* s, const real* product, const real* bias, real floor, real* to,
                                index pitch, int vectors, index rows, index columns) noexcept nogil:
    """The same of a dilated convolution, in which every tile has all elements."""
    cdef index ld = vectors * lanes(product), r, y, x
    cdef index none[EDGE]
    memset(none, 0, sizeof(none))
    for y in range(s.dilation_row):
        for x in range(s.dilation_column):
            for r in range(rows):
                transform_row_back(s, product, columns, vectors, bias, floor,
                                   to + (r * s.m_row * s.dilation_row + y) * pitch + x * ld, s.dilation_row * pitch,
                                   s.dilation_column * ld, none, none)
                product += columns * ld


cdef inline void transform_row_back(const Shape* s, const real* product, index columns, int vectors, const real* bias,
                                    real floor, real* to, index row, index column, const index* above,
                                    const index* wide) noexcept nogil:
    """A row of tiles to pixels at distances ``row`` and ``column``; element xi follows above[i] * wide[j] others."""
    cdef index ld = vectors * lanes(product)
    if s.spread:
        if real is float:
            winograd_spread_output_f32(s.m, s.edge_row, s.edge_column, product, ld, s.m_plane, columns, vectors, bias,
                                       floor, to, row, column, s.late_row * row, s.late_column * column, above, wide)
        else:
            winograd_spread_output_f64(s.m, s.edge_row, s.edge_column, product, ld, s.m_plane, columns, vectors, bias,
                                       floor, to, row, column, s.late_row * row, s.late_column * column, above, wide)
    elif real is float:
        winograd_output_f32(s.m, s.edge_row, s.edge_column, product, ld, s.m_plane, columns, vectors, bias, floor, to,
                            row, column, above, wide)
    else:
        winograd_output_f64(s.m, s.edge_row, s.edge_column, product, ld, s.m_plane, columns, vectors, bias, floor, to,
                            row, column, above, wide)
