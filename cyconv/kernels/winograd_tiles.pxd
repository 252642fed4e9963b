"""The tiles of Winograd's algorithm: how a convolution is cut, and the source pixels of a block, transformed."""

from libc.string cimport memcpy, memset

from cyconv.kernels.simd cimport lanes, real, transpose
from cyconv.kernels.source cimport index

cdef extern from "winograd.h" nogil:
    void winograd_input_f32(int m, int er, int ec, const float* x, index row, index column, index tiles, float* to,
                            index plane) noexcept
    void winograd_input_f64(int m, int er, int ec, const double* x, index row, index column, index tiles, double* to,
                            index plane) noexcept


cdef struct Shape:
    index groups
    index channels, depth, height, width  # of the source; channels of one group
    index out_channels, out_depth, out_height, out_width
    bint channels_last, rectified
    int m  # output pixels along the edge of a tile
    int edge_row, edge_column  # transformed elements along each edge: m + r - 1, or 1
    index m_row, m_column, elements  # of one tile
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
    bint swapped  # weights lie as [reduction channel][output channel], taps in reverse: the input gradient


cdef inline int lay_out(Shape* s, index width, source, out, index groups, kernel, bint channels_last, first, int m,
                        piece, pieces, dilation, block) except -1:
    """Fill in all sizes; ``width``: elements of a vector. The other arguments are those of the kernels."""
    s.channels, s.depth, s.height, s.width = source
    s.out_channels, s.out_depth, s.out_height, s.out_width = out
    s.groups, s.channels, s.out_channels = groups, s.channels // groups, s.out_channels // groups
    s.channels_last = channels_last
    s.kernel_slices, s.kernel_rows, s.kernel_columns = kernel
    s.r_row, s.r_column = piece
    s.piece_rows, s.piece_columns = pieces
    s.pieces = s.kernel_slices * s.piece_rows * s.piece_columns
    s.m = m
    s.m_row = 1 if s.r_row == 1 else m
    s.m_column = 1 if s.r_column == 1 else m
    s.edge_row, s.edge_column = <int>(s.m_row + s.r_row - 1), <int>(s.m_column + s.r_column - 1)
    s.elements = s.edge_row * s.edge_column
    s.dilation_depth, s.dilation_row, s.dilation_column = dilation
    s.first_depth, s.first_row, s.first_column = first
    s.block_images, s.block_rows, s.block_columns = block
    s.tile_rows = (s.out_height + s.m_row * s.dilation_row - 1) // (s.m_row * s.dilation_row)
    s.tile_columns = (s.out_width + s.m_column * s.dilation_column - 1) // (s.m_column * s.dilation_column)
    s.row_blocks = (s.tile_rows + s.block_rows - 1) // s.block_rows
    s.column_blocks = (s.tile_columns + s.block_columns - 1) // s.block_columns
    s.tiles = s.block_images * s.block_rows * s.block_columns * s.dilation_row * s.dilation_column
    s.in_vectors = (s.channels + width - 1) // width
    s.terms = s.pieces * s.channels
    s.vectors = (s.out_channels + width - 1) // width
    s.channel_blocks = (s.vectors + 1) // 2
    s.copy_pitch = (s.block_columns * s.m_column + s.r_column * s.piece_columns - 1) * s.dilation_column * width
    s.copy_plane = (s.block_rows * s.m_row + s.r_row * s.piece_rows - 1) * s.dilation_row * s.copy_pitch
    # One vector more than needed between the elements: powers of two would fall into one set of the cache.
    s.v_plane = s.pieces * s.in_vectors * s.tiles * width + width
    return 0


cdef inline void gather_source(const Shape* s, const real* source, real* copy, index image, index slice, index tile_row,
                               index tile_column, index tile_rows, index tile_columns, index first,
                               index last) noexcept nogil:
    """[channel vector][row][column][channel] of the source pixels of a block under one slice of the kernel.

    Vectors of channels from ``first`` to before ``last``; zeros outside and in missing channels.
    """
    cdef index width = lanes(source), area = s.height * s.width, channels = s.groups * s.channels
    cdef index row = tile_row * s.m_row * s.dilation_row + s.first_row
    cdef index column = tile_column * s.m_column * s.dilation_column + s.first_column
    cdef index rows = (tile_rows * s.m_row + s.r_row * s.piece_rows - 1) * s.dilation_row
    cdef index columns = (tile_columns * s.m_column + s.r_column * s.piece_columns - 1) * s.dilation_column
    cdef index depth = image % s.out_depth + s.first_depth + slice * s.dilation_depth
    cdef bint outside = depth < 0 or depth >= s.depth
    cdef index left = min(max(-column, 0), columns), right = max(min(columns, s.width - column), left)
    cdef index c, r, j, have
    cdef real* to
    source += image // s.out_depth * channels * s.depth * area + depth * area * (channels if s.channels_last else 1)
    for c in range(first, last):
        have = min(width, s.channels - c * width)
        for r in range(rows):
            to = copy + (c - first) * s.copy_plane + r * s.copy_pitch
            if outside or row + r < 0 or row + r >= s.height or right <= left:
                memset(to, 0, columns * width * sizeof(real))
                continue
            if have < width:
                memset(to, 0, columns * width * sizeof(real))
            memset(to, 0, left * width * sizeof(real))
            if s.channels_last:
                for j in range(left, right):
                    memcpy(to + j * width, source + ((row + r) * s.width + column + j) * channels + c * width,
                           have * sizeof(real))
            else:
                transpose(source + c * width * s.depth * area + (row + r) * s.width + column + left, s.depth * area,
                          have, right - left, to + left * width, width)
            memset(to + right * width, 0, (columns - right) * width * sizeof(real))


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
