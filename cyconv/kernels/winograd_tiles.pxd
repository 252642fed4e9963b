"""The tiles of Winograd's algorithm: how a convolution is cut, and the source pixels of a block, transformed."""

from libc.string cimport memset

from cyconv.kernels._kernel cimport Edges, four, set_edges, three, two
from cyconv.kernels.simd cimport cold, copy_row, fetch, lanes, real, transpose
from cyconv.kernels.source cimport index, place

cdef extern from "winograd.h" nogil:
    void winograd_input_f32(int m, int er, int ec, const float* x, index row, index column, index tiles, float* to,
                            index plane) noexcept
    void winograd_input_f64(int m, int er, int ec, const double* x, index row, index column, index tiles, double* to,
                            index plane) noexcept
    void winograd_places_input_f32(int m, int er, int ec, const float* x, index row, index column, index step,
                                   index tiles, float* to, index plane, const index* above, const index* wide) noexcept
    void winograd_places_input_f64(int m, int er, int ec, const double* x, index row, index column, index step,
                                   index tiles, double* to, index plane, const index* above,
                                   const index* wide) noexcept
    void winograd_spread_input_f32(int m, int er, int ec, const float* x, index row, index column, index late_row,
                                   index late_column, index step, index tiles, float* to, index plane,
                                   const index* above, const index* wide) noexcept
    void winograd_spread_input_f64(int m, int er, int ec, const double* x, index row, index column, index late_row,
                                   index late_column, index step, index tiles, double* to, index plane,
                                   const index* above, const index* wide) noexcept
    void winograd_gather_f32(const float* x, const float* ahead, index plane, index rows, index columns, index first,
                             index last, index left, index width, float* to, index pitch) noexcept
    void winograd_gather_f64(const double* x, const double* ahead, index plane, index rows, index columns, index first,
                             index last, index left, index width, double* to, index pitch) noexcept

# Elements along an axis of a tile, at most.
DEF EDGE = 9
# Source rows ahead of that which is brought into order, asked for meanwhile: too short and too far apart to be foreseen
# by the processor. 2 to 10 % of the time of 16 images.
DEF FETCHED = 2
# Bytes of the rows of pixels that are copied, and then transformed at once.
DEF NEAR_BYTES = 16384


cdef struct Shape:
    index groups
    index channels, depth, height, width  # of the source; channels of one group
    index out_channels, out_depth, out_height, out_width
    bint channels_last, rectified
    int m  # output pixels along the edge of a tile
    int edge_row, edge_column  # transformed elements along each edge: m + r - 1, or 1; 2 m + 1 at stride 2
    index m_row, m_column, elements  # of one tile: output rows and columns, transformed elements
    index weight_columns, weight_elements  # of the transformed weights: fewer at stride 2
    index stride_depth, stride_row, stride_column
    bint strided  # a stride of 2 in height or width
    bint dense  # last tiles may leave elements out: forward and for the input gradient, without dilation
    bint spread  # the input gradient of such a convolution: a tile of 2 m pixels comes from m + 1
    index late_row, late_column  # 1: its pixels of one tap stand behind those of two, and come from one further on
    # Source rows and columns from one tile to the next, and under the last one beside those
    index from_row, from_column, over_row, over_column
    index kernel_slices, kernel_rows, kernel_columns
    index r_row, r_column  # taps of a piece
    index piece_rows, piece_columns, pieces  # slices are counted in the last
    index dilation_depth, dilation_row, dilation_column
    index first_depth, first_row, first_column  # source pixel of output pixel (0, 0, 0): minus the padding
    # Blocks of tiles: images, rows and columns of tiles of each phase in one, and how many blocks there are
    index block_images, block_rows, block_columns, tile_rows, tile_columns
    index row_blocks, column_blocks
    index tiles  # of a whole block
    index in_vectors  # vectors of input channels
    index terms  # input channels of all pieces
    index vectors, channel_blocks, task_blocks, task_groups  # of output channels
    # Elements of the private arrays, and distances in them
    index copy_pitch, copy_plane, copy_size
    index v_plane, m_plane, scratch_size
    index images  # one for each depth of the output
    Edges edges
    bint swapped  # weights lie as [reduction channel][output channel], taps in reverse: the input gradient


cdef struct Ahead:
    # Memory that will be needed, asked for little by little meanwhile: stretches of so many bytes
    const char* at
    index size, stretches, step, done


cdef inline void ask_for_images(Ahead* ahead, const void* first, index itemsize, bint channels_last, index images,
                                index channels, index all, index row, index rows, index height,
                                index width) noexcept nogil:
    """Rows of ``channels`` of ``all`` channels, of images that begin at ``first``."""
    cdef index area = height * width
    ahead.done = 0
    rows = min(rows, height - row)
    if channels_last:
        ahead.size, ahead.stretches, ahead.step = rows * width * all, images, all * area
        row *= all
    elif rows == height:
        ahead.size, ahead.stretches, ahead.step = channels * area, images, all * area
    else:
        ahead.size, ahead.stretches, ahead.step = rows * width, channels, area
    ahead.at = <const char*>first + row * width * itemsize
    ahead.size *= itemsize
    ahead.step *= itemsize


cdef inline index lines_of(const Ahead* ahead) noexcept nogil:
    return ahead.stretches * ((ahead.size + 63) // 64)


cdef inline void ask(Ahead* ahead, index lines) noexcept nogil:
    """Ask for so many cache lines more, or all that are left."""
    cdef index n
    while lines > 0 and ahead.stretches > 0:
        n = min(lines, (ahead.size - ahead.done + 63) // 64)
        fetch(ahead.at + ahead.done, 64 * n)
        lines -= n
        ahead.done += 64 * n
        if ahead.done >= ahead.size:
            ahead.at += ahead.step
            ahead.stretches -= 1
            ahead.done = 0


cdef inline int lay_out(Shape* s, index width, source, out, index groups, kernel, bint channels_last, first, int m,
                        piece, pieces, stride, dilation, block, edges, late=None) except -1:
    """Fill in all sizes; ``width``: elements of a vector. The other arguments are those of the kernels."""
    cold()
    four(source, &s.channels, &s.depth, &s.height, &s.width)
    four(out, &s.out_channels, &s.out_depth, &s.out_height, &s.out_width)
    s.groups, s.channels, s.out_channels = groups, s.channels // groups, s.out_channels // groups
    s.channels_last = channels_last
    three(kernel, &s.kernel_slices, &s.kernel_rows, &s.kernel_columns)
    two(piece, &s.r_row, &s.r_column)
    two(pieces, &s.piece_rows, &s.piece_columns)
    s.pieces = s.kernel_slices * s.piece_rows * s.piece_columns
    s.m = m
    three(stride, &s.stride_depth, &s.stride_row, &s.stride_column)
    s.strided = s.stride_row > 1 or s.stride_column > 1
    s.spread = late is not None
    s.late_row = s.late_column = 0
    if s.spread:
        two(late, &s.late_row, &s.late_column)
    s.m_row = 1 if s.r_row == 1 else m * s.stride_row if s.spread else m
    s.m_column = 1 if s.r_column == 1 else m * s.stride_column if s.spread else m
    if s.spread:
        s.from_row, s.from_column = s.m_row // s.stride_row, s.m_column // s.stride_column
        s.over_row, s.over_column = s.stride_row - 1, s.stride_column - 1
    else:
        s.from_row, s.from_column = s.m_row * s.stride_row, s.m_column * s.stride_column
        s.over_row = s.r_row * s.piece_rows - s.stride_row
        s.over_column = s.r_column * s.piece_columns - s.stride_column
    s.edge_row = <int>edge_of(m, s.r_row, s.stride_row)
    s.edge_column = <int>edge_of(m, s.r_column, s.stride_column)
    s.elements = s.edge_row * s.edge_column
    s.weight_columns = weights_of(m, s.edge_column)
    s.weight_elements = weights_of(m, s.edge_row) * s.weight_columns
    three(dilation, &s.dilation_depth, &s.dilation_row, &s.dilation_column)
    s.dense = s.dilation_row == s.dilation_column == 1
    three(first, &s.first_depth, &s.first_row, &s.first_column)
    three(block, &s.block_images, &s.block_rows, &s.block_columns)
    s.tile_rows = (s.out_height + s.m_row * s.dilation_row - 1) // (s.m_row * s.dilation_row)
    s.tile_columns = (s.out_width + s.m_column * s.dilation_column - 1) // (s.m_column * s.dilation_column)
    s.row_blocks = (s.tile_rows + s.block_rows - 1) // s.block_rows
    s.column_blocks = (s.tile_columns + s.block_columns - 1) // s.block_columns
    s.tiles = s.block_images * s.block_rows * s.block_columns * s.dilation_row * s.dilation_column
    s.in_vectors = (s.channels + width - 1) // width
    s.terms = s.pieces * s.channels
    s.vectors = (s.out_channels + width - 1) // width
    s.channel_blocks = (s.vectors + 1) // 2
    s.copy_pitch = copied_columns(s, s.block_columns) * width
    s.copy_plane = copied_rows(s, s.block_rows) * s.copy_pitch
    # One vector more than needed between the elements: powers of two would fall into one set of the cache.
    s.v_plane = s.pieces * s.in_vectors * s.tiles * width + width
    return set_edges(&s.edges, edges)


cdef inline index edge_of(index m, index r, index stride) noexcept nogil:
    """Elements of a tile along an axis."""
    return 1 if r == 1 else m + r - 1 if stride == 1 else 2 * m + 1


cdef inline index weights_of(index m, index edge) noexcept nogil:
    """Transformed weights along an axis: at stride 2 all pixels at odd places meet the same."""
    return m + 2 if edge == 2 * m + 1 else edge


cdef inline index weight_of(const Shape* s, index xi) noexcept nogil:
    """Which of the transformed weights element xi of a tile meets."""
    cdef index i = xi // s.edge_column, j = xi % s.edge_column
    if s.edge_row == 2 * s.m + 1:
        i = s.m + 1 if i % 2 else i // 2
    if s.edge_column == 2 * s.m + 1:
        j = s.m + 1 if j % 2 else j // 2
    return i * s.weight_columns + j


cdef inline index copied_rows(const Shape* s, index tiles) noexcept nogil:
    """Source rows under so many rows of tiles."""
    return (tiles * s.from_row + s.over_row) * s.dilation_row


cdef inline index copied_columns(const Shape* s, index tiles) noexcept nogil:
    return (tiles * s.from_column + s.over_column) * s.dilation_column


cdef inline index source_depth(const Shape* s, index depth, index slice) noexcept nogil:
    """Depth of the source that an output depth reads by its slice number ``slice``."""
    if s.spread and s.stride_depth > 1:
        return (depth + s.first_depth) // s.stride_depth - slice
    return depth * s.stride_depth + s.first_depth + slice * s.dilation_depth


cdef inline index slices_at(const Shape* s, index image) noexcept nogil:
    """Slices of the kernel that an output depth takes: in an input gradient of stride S, from one on each S-th."""
    if s.spread and s.stride_depth > 1:
        return (s.kernel_slices - first_slice(s, image) + s.stride_depth - 1) // s.stride_depth
    return s.kernel_slices


cdef inline index first_slice(const Shape* s, index image) noexcept nogil:
    """The first of them, which reads the depth furthest on."""
    return (image % s.out_depth + s.first_depth) % s.stride_depth


cdef inline index slice_place(const Shape* s, index slice) noexcept nogil:
    """Where the weights of a slice of the kernel stand in an input gradient of stride 2: one after the other those that
    the same depths take; with a stride of 1 in depth from the last one to the first."""
    cdef index before = 0, i
    if s.stride_depth == 1:
        return s.kernel_slices - 1 - slice
    for i in range(slice % s.stride_depth):
        before += (s.kernel_slices - i + s.stride_depth - 1) // s.stride_depth
    return before + slice // s.stride_depth


cdef inline void count_places(const Shape* s, index tile_row, index tile_column, index tile_rows, index tile_columns,
                              index* high, index* wide) noexcept nogil:
    """How many rows of tiles of a block, of all phases, need each row of elements; how many columns each column."""
    cdef index i
    count_along(s, s.edge_row, s.m_row, s.late_row, tile_rows, s.out_height - tile_row * s.m_row, high)
    count_along(s, s.edge_column, s.m_column, s.late_column, tile_columns, s.out_width - tile_column * s.m_column, wide)
    for i in range(s.edge_row):
        high[i] *= s.dilation_row * s.dilation_column


cdef inline void count_along(const Shape* s, int edge, index most, index late, index tiles, index outputs,
                             index* counts) noexcept nogil:
    """The same along an axis, ``most`` outputs in a tile and so many to its end.

    The last tile leaves out what only outputs behind the last one would take: the point at infinity, which only the
    last output of a tile takes, in a gradient at stride 2 the last that meets two taps; and at stride 2 pixels at odd
    places.
    """
    cdef index have = outputs - (tiles - 1) * most, i
    cdef bint needed
    for i in range(edge):
        counts[i] = tiles
        if not s.dense or edge == 1 or have >= most:
            continue
        if s.spread:
            needed = most - 1 - late < have if i == 2 * s.m else i % 2 == 0 or i - 1 + late < have
        else:
            needed = i < edge - 1 and (edge != 2 * s.m + 1 or i % 2 == 0 or i < 2 * have)
        if not needed:
            counts[i] -= 1


cdef inline void gather_source(const Shape* s, const real* source, real* copy, index image, index slice, index tile_row,
                               index tile_column, index tile_rows, index tile_columns, index first,
                               index last) noexcept nogil:
    """[channel vector][row][column][channel] of the source pixels of a block under one slice of the kernel.

    Vectors of channels from ``first`` to before ``last``; outside what the padding holds, zeros in missing channels.
    """
    gather_rows(s, source, copy, image, slice, tile_row, tile_column, 0, copied_rows(s, tile_rows), tile_columns, first,
                last)


cdef inline void gather_rows(const Shape* s, const real* source, real* copy, index image, index slice, index tile_row,
                             index tile_column, index begin, index end, index tile_columns, index first,
                             index last) noexcept nogil:
    """The same of some of its rows."""
    cdef index width = lanes(source), area = s.height * s.width, channels = s.groups * s.channels
    cdef index row = tile_row * s.from_row * s.dilation_row + s.first_row + begin
    cdef index column = tile_column * s.from_column * s.dilation_column + s.first_column
    cdef index rows = end - begin, columns = copied_columns(s, tile_columns)
    cdef index depth = place(&s.edges.depth, source_depth(s, image % s.out_depth, slice), s.depth)
    cdef index left = min(max(-column, 0), columns), right = max(min(columns, s.width - column), left)
    # Distances of neighbouring pixels and channels.
    cdef index pixel = channels if s.channels_last else 1, plane = 1 if s.channels_last else s.depth * area
    cdef index c, r, j, at, have
    cdef bint edges = s.edges.places != NULL
    cdef real* to
    cdef const real* line
    cdef const real* ahead
    # Rows of the block inside the image, of which whole rows are one stretch of pixels.
    cdef index inside = min(max(-row, 0), rows), outside = max(min(rows, s.height - row), inside)
    cdef bint flat = (not s.channels_last and not edges and depth >= 0 and right - left == s.width
                      and (outside - inside) * s.width >= width)
    source += image // s.out_depth * channels * s.depth * area + depth * area * pixel
    copy += begin * s.copy_pitch
    for c in range(first, last):
        have = min(width, s.channels - c * width)
        if flat and have == width:
            to = copy + (c - first) * s.copy_plane
            line = source + (row + inside) * s.width + c * width * plane
            ahead = line + width * plane if (c + 2) * width <= s.channels else NULL
            if real is float:
                winograd_gather_f32(line, ahead, plane, rows, columns, inside, outside, left, s.width, to,
                                    s.copy_pitch)
            else:
                winograd_gather_f64(line, ahead, plane, rows, columns, inside, outside, left, s.width, to,
                                    s.copy_pitch)
            continue
        for r in range(rows):
            to = copy + (c - first) * s.copy_plane + r * s.copy_pitch
            at = place(&s.edges.row, row + r, s.height)
            if depth < 0 or at < 0 or (right <= left and not edges):
                memset(to, 0, columns * width * sizeof(real))
                continue
            if have < width:
                memset(to, 0, columns * width * sizeof(real))
            memset(to, 0, left * width * sizeof(real))
            line = source + (at * s.width + column + left) * pixel + c * width * plane
            ahead = line + FETCHED * s.width * pixel
            if s.channels_last:
                if at + FETCHED < s.height:
                    for j in range(right - left):
                        fetch(ahead + j * pixel, width * sizeof(real))
                for j in range(right - left):
                    copy_row(to + (left + j) * width, line + j * pixel, have)
            else:
                if at + FETCHED < s.height:
                    for j in range(have):
                        fetch(ahead + j * plane, (right - left) * sizeof(real))
                transpose(line, plane, have, right - left, to + left * width, width)
            memset(to + right * width, 0, (columns - right) * width * sizeof(real))
            if edges:
                gather_edges(s, line - (column + left) * pixel, to, column, columns, left, right, have)


cdef inline void gather_edges(const Shape* s, const real* line, real* to, index column, index columns, index left,
                              index right, index have) noexcept nogil:
    """The columns of a row of a block that lie in the padding, from the pixels of the row that they repeat."""
    cdef index width = lanes(line), j = 0, k, at
    cdef index step = 1 if s.channels_last else s.depth * s.height * s.width
    cdef index pixel = s.groups * s.channels if s.channels_last else 1
    while j < columns:
        if left <= j < right:
            j = right
            continue
        at = place(&s.edges.column, column + j, s.width)
        if at >= 0:
            for k in range(have):
                to[j * width + k] = line[at * pixel + k * step]
        j += 1


cdef inline void transform_input(const Shape* s, const real* copy, real* v, index slice, index rows,
                                 index columns, index first, index last) noexcept nogil:
    """V[xi][piece][channel vector][phase][tile][channel] of one image of a block, the pieces of one slice."""
    cdef index width = lanes(copy), c, i, j
    cdef const real* corner
    for i in range(s.piece_rows):
        for j in range(s.piece_columns):
            corner = copy + i * s.r_row * s.dilation_row * s.copy_pitch + j * s.r_column * s.dilation_column * width
            for c in range(first, last):
                transform_phases(s, corner + (c - first) * s.copy_plane,
                                 v + (((slice * s.piece_rows + i) * s.piece_columns + j) * s.in_vectors
                                      + c) * s.tiles * width, rows, columns)


cdef inline void transform_phases(const Shape* s, const real* corner, real* to, index rows,
                                  index columns) noexcept nogil:
    """One vector of channels under one piece of the kernel."""
    cdef index width = lanes(corner), row = s.dilation_row * s.copy_pitch, column = s.dilation_column * width, r, y, x
    cdef const real* line
    for y in range(s.dilation_row):
        for x in range(s.dilation_column):
            for r in range(rows):
                line = corner + y * s.copy_pitch + x * width + r * s.m_row * row
                if real is float:
                    winograd_input_f32(s.m, s.edge_row, s.edge_column, line, row, column, columns, to, s.v_plane)
                else:
                    winograd_input_f64(s.m, s.edge_row, s.edge_column, line, row, column, columns, to, s.v_plane)
                to += columns * width


cdef inline index near_rows(const Shape* s, index rows, index row_bytes) noexcept nogil:
    """How many of so many rows of tiles are brought from one form into the next at a time: what lies between stays in
    the nearest cache."""
    return max(<index>1, min(rows, NEAR_BYTES // row_bytes))


cdef inline void transform_dense(const Shape* s, const real* copy, real* v, index image, index slice, index begin,
                                 index end, index columns, const index* high, const index* wide) noexcept nogil:
    """The same without dilation, of one vector of channels and some rows of tiles: element xi of image ``image`` of a
    block has high[i] rows of wide[j] tiles, one after the other and after those of the images before."""
    cdef index width = lanes(copy), i, j, r, row = s.from_row * s.copy_pitch, step = s.from_column * width
    cdef index above[EDGE]
    cdef const real* corner
    cdef real* to
    for r in range(begin, end):
        # What lies behind high[i] or wide[j] is overwritten by the next tiles, or is room that nobody reads.
        for i in range(s.edge_row):
            above[i] = image * high[i] + r
        for i in range(s.piece_rows):
            for j in range(s.piece_columns):
                corner = copy + i * s.r_row * s.copy_pitch + j * s.r_column * width + r * row
                to = v + ((slice * s.piece_rows + i) * s.piece_columns + j) * s.in_vectors * s.tiles * width
                if s.spread:
                    if real is float:
                        winograd_spread_input_f32(s.m, s.edge_row, s.edge_column, corner, s.copy_pitch, width,
                                                  s.late_row * s.copy_pitch, s.late_column * width, step, columns, to,
                                                  s.v_plane, above, wide)
                    else:
                        winograd_spread_input_f64(s.m, s.edge_row, s.edge_column, corner, s.copy_pitch, width,
                                                  s.late_row * s.copy_pitch, s.late_column * width, step, columns, to,
                                                  s.v_plane, above, wide)
                elif real is float:
                    winograd_places_input_f32(s.m, s.edge_row, s.edge_column, corner, s.copy_pitch, width, step,
                                              columns, to, s.v_plane, above, wide)
                else:
                    winograd_places_input_f64(s.m, s.edge_row, s.edge_column, corner, s.copy_pitch, width, step,
                                              columns, to, s.v_plane, above, wide)
