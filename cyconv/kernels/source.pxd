"""The block of source pixels that a task works on: a private padded copy, or the array itself without padding."""

from libc.string cimport memcpy, memset

from cyconv.kernels._kernel cimport Axis, Edges
from cyconv.kernels.simd cimport clear_row, copy_row, fetch, fetch_ahead, real, split_pairs

cdef extern from "grid.h" nogil:
    void thin_row_f32(float* to, const float* source, Py_ssize_t n, Py_ssize_t step) noexcept
    void thin_row_f64(double* to, const double* source, Py_ssize_t n, Py_ssize_t step) noexcept

ctypedef Py_ssize_t index

# Rows up to this many elements are called narrow.
DEF NARROW = 128


cdef inline index place(const Axis* a, index i, index length) noexcept nogil:
    """The pixel of an axis of ``length`` pixels that stands at place ``i``; -1 for zero."""
    if i < 0:
        return a.places[a.low + i] if i >= -a.low else -1
    if i >= length:
        return a.places[a.low + i - length] if i - length < a.high else -1
    return i


cdef struct Grid:
    # Every step-th pixel of each axis of a volume, as one row: what a kernel of one tap and that stride meets.
    index pixels, rows, columns  # all; rows and columns of one depth
    index step_depth, step_row, step_column
    index depth, height, width  # of the volume


cdef struct Source:
    index channels, depth, height, width  # of the array
    index group_channels
    # A three-dimensional kernel of `slices` slices is a flat one of slices x channels channels: slice k of the output
    # at depth d reads depth (d * depth_step + depth_first + k * depth_dilation) / depth_divisor of the source, where
    # that is whole, and zeros if there is no such depth.
    index slices, depth_step, depth_first, depth_dilation, depth_divisor
    bint channels_last
    bint packed  # copied into a private block; else the array is read where it lies
    bint split  # rows of the block hold the columns at even places first, then those at odd places
    bint thinned  # the block holds pixels of the grid only, those from its column on: a single row
    Grid grid
    index rows, columns  # of the block
    index pitch, plane, pixel  # distance of its rows, channels, pixels, in elements
    Edges edges


cdef inline int set_grid(Grid* g, numbers) except -1:
    """Take (depths, rows, columns), their steps and the size of the volume; return whether there are any."""
    if numbers is None:
        return False
    pixels, (g.step_depth, g.step_row, g.step_column), (g.depth, g.height, g.width) = numbers
    depths, g.rows, g.columns = pixels
    g.pixels = depths * g.rows * g.columns
    return True


cdef inline void lay_out(Source* s, index itemsize) noexcept:
    """Fill in pitch, plane and pixel."""
    cdef index line = 64 // itemsize
    if not s.packed:
        s.pixel = s.channels if s.channels_last else 1
        s.pitch = s.width * s.pixel
        s.plane = 1 if s.channels_last else s.depth * s.height * s.width
    elif s.channels_last:
        s.pixel, s.plane = s.group_channels, 1
        s.pitch = s.columns * s.pixel
    else:
        s.pixel, s.pitch = 1, s.columns + (s.columns % 2 if s.split else 0)
        # An odd number of cache lines between channels: powers of two would all fall into one set of the cache.
        s.plane = ((s.rows * s.pitch + line - 1) // line | 1) * line


cdef inline index block_size(const Source* s) noexcept nogil:
    """Elements of a private block."""
    if not s.packed:
        return 0
    return s.slices * (s.rows * s.pitch if s.channels_last else s.group_channels * s.plane)


cdef inline index channel_step(const Source* s) noexcept nogil:
    """Distance of channels in the block, in elements."""
    return s.plane if s.channels_last else s.slices * s.plane


cdef inline index column_place(const Source* s, index column) noexcept nogil:
    """Where a column of the block lies in its row."""
    return column % 2 * (s.pitch // 2) + column // 2 if s.split else column * s.pixel


cdef inline index slice_step(const Source* s) noexcept nogil:
    """Distance of the slices of a channel in the block."""
    return s.rows * s.pitch if s.channels_last else s.plane


cdef inline bint meets(const Source* s, index out_depth, index slice) noexcept nogil:
    """Whether a slice of the kernel reads a whole depth of the source, inside or not."""
    return (out_depth * s.depth_step + s.depth_first + slice * s.depth_dilation) % s.depth_divisor == 0


cdef inline index source_depth(const Source* s, index out_depth, index slice) noexcept nogil:
    """Depth of the source that a slice of the kernel reads, or -1."""
    cdef index z = out_depth * s.depth_step + s.depth_first + slice * s.depth_dilation
    return place(&s.edges.depth, z // s.depth_divisor, s.depth) if meets(s, out_depth, slice) else -1


cdef inline const real* channel_start(const Source* s, const real* image, index channel) noexcept nogil:
    """First pixel of ``channel`` of an image."""
    return image + channel * (1 if s.channels_last else s.depth * s.height * s.width)


cdef inline void copy_block(const Source* s, const real* source, index channels, real* copy, index out_depth, index row,
                            index column) noexcept nogil:
    """Copy ``channels`` channels of the block whose first pixel is (row, column); zeros outside of the image. Slices
    that read between two depths are left out."""
    cdef index k, c, z, area = s.height * s.width
    if s.thinned:
        for c in range(channels):
            copy_thinned(&s.grid, source + c * s.depth * area, copy + c * s.plane, column,
                         min(s.columns, s.grid.pixels - column), s.depth * area if c + 1 < channels else 0)
        return
    for k in range(s.slices):
        if not meets(s, out_depth, k):
            continue
        z = source_depth(s, out_depth, k)
        if s.channels_last:
            copy_slice(s, NULL if z < 0 else source + z * area * s.channels, channels, copy + k * slice_step(s), row,
                       column)
        else:
            for c in range(channels):
                copy_plane(s, NULL if z < 0 else source + (c * s.depth + z) * area,
                           copy + (c * s.slices + k) * s.plane, row, column)


cdef inline void copy_thinned(const Grid* g, const real* source, real* to, index first, index count,
                              index next_channel) noexcept nogil:
    """``count`` pixels of the grid from ``first`` on, of one channel; those of the next one are fetched meanwhile: no
    processor foresees rows that lie apart."""
    cdef index j = first % g.columns, row = first // g.columns % g.rows, depth = first // g.columns // g.rows, n
    cdef const real* line
    while count > 0:
        n = min(g.columns - j, count)
        line = source + (depth * g.step_depth * g.height + row * g.step_row) * g.width + j * g.step_column
        fetch(line + next_channel, ((n - 1) * g.step_column + 1) * sizeof(real))
        if real is float:
            thin_row_f32(to, line, n, g.step_column)
        else:
            thin_row_f64(to, line, n, g.step_column)
        to += n
        count -= n
        j = 0
        row += 1
        if row == g.rows:
            row, depth = 0, depth + 1


cdef inline void copy_plane(const Source* s, const real* source, real* to, index row, index column) noexcept nogil:
    """One plane of a block; NULL: zeros."""
    if s.edges.places != NULL:
        copy_plane_with_edges(s, source, to, row, column)
        return
    # Columns [left, right) of the block lie inside the image.
    cdef index left = min(max(-column, 0), s.columns)
    cdef index right = max(min(s.columns, s.width - column), left), r, c
    cdef index first = max(row, 0), last = min(row + s.rows, s.height)
    if source == NULL or right <= left or last <= first:
        memset(to, 0, s.rows * s.pitch * sizeof(real))
        return
    if s.split:
        memset(to, 0, (first - row) * s.pitch * sizeof(real))
        memset(to + (last - row) * s.pitch, 0, (row + s.rows - last) * s.pitch * sizeof(real))
        to += (first - row) * s.pitch
        for r in range(first, last):
            fetch_ahead(source + r * s.width + column + left, (right - left) * sizeof(real))
            for c in range(left):
                to[column_place(s, c)] = 0
            for c in range(right, s.pitch):
                to[column_place(s, c)] = 0
            split_pairs(to + column_place(s, left), to + column_place(s, left + 1),
                        source + r * s.width + column + left, right - left)
            to += s.pitch
        return
    if right - left == s.columns == s.width == s.pitch:
        # Whole rows are one stretch.
        memset(to, 0, (first - row) * s.pitch * sizeof(real))
        memcpy(to + (first - row) * s.pitch, source + first * s.width, (last - first) * s.pitch * sizeof(real))
        memset(to + (last - row) * s.pitch, 0, (row + s.rows - last) * s.pitch * sizeof(real))
        return
    if s.pitch <= NARROW:
        memset(to, 0, (first - row) * s.pitch * sizeof(real))
        memset(to + (last - row) * s.pitch, 0, (row + s.rows - last) * s.pitch * sizeof(real))
        to += (first - row) * s.pitch
        for r in range(first, last):
            fetch_ahead(source + r * s.width + column + left, (right - left) * sizeof(real))
            clear_row(to, left)
            copy_row(to + left, source + r * s.width + column + left, right - left)
            clear_row(to + right, s.pitch - right)
            to += s.pitch
        return
    for r in range(row, row + s.rows):
        if 0 <= r < s.height:
            fetch_ahead(source + r * s.width + column + left, (right - left) * sizeof(real))
            memset(to, 0, left * sizeof(real))
            copy_row(to + left, source + r * s.width + column + left, right - left)
            memset(to + right, 0, (s.columns - right) * sizeof(real))
        else:
            memset(to, 0, s.columns * sizeof(real))
        to += s.pitch


cdef inline void copy_plane_with_edges(const Source* s, const real* source, real* to, index row,
                                       index column) noexcept nogil:
    """One plane of a block whose padding repeats pixels of the image."""
    cdef index left = min(max(-column, 0), s.columns)
    cdef index right = max(min(s.columns, s.width - column), left), r, j, at
    cdef const real* line
    if s.split:
        memset(to, 0, s.rows * s.pitch * sizeof(real))
    for r in range(row, row + s.rows):
        at = place(&s.edges.row, r, s.height)
        if source == NULL or at < 0:
            memset(to, 0, s.columns * sizeof(real))
        else:
            line = source + at * s.width
            fetch_ahead(line + column + left, (right - left) * sizeof(real))
            if s.split:
                split_pairs(to + column_place(s, left), to + column_place(s, left + 1), line + column + left,
                            right - left)
            else:
                copy_row(to + left, line + column + left, right - left)
            for j in range(left):
                at = place(&s.edges.column, column + j, s.width)
                to[column_place(s, j)] = line[at] if at >= 0 else 0
            for j in range(right, s.columns):
                at = place(&s.edges.column, column + j, s.width)
                to[column_place(s, j)] = line[at] if at >= 0 else 0
        to += s.pitch


cdef inline void lay_out_plane(Source* s, index height, index width, index rows, index columns) noexcept:
    """A source of single planes, and as block the whole of one with all padding that windows meet."""
    s.depth = s.group_channels = s.slices = s.depth_step = s.depth_divisor = 1
    s.height, s.width, s.packed = height, width, True
    s.rows, s.columns = rows, columns
    s.pitch, s.pixel = s.columns, 1
    s.plane = s.rows * s.pitch


cdef inline void copy_slice(const Source* s, const real* source, index channels, real* to, index row,
                            index column) noexcept nogil:
    """One slice of a channels-last block; NULL: zeros."""
    cdef index left = min(max(-column, 0), s.columns), gap = s.pixel
    cdef index right = max(min(s.columns, s.width - column), left), r, j, at
    cdef const real* line
    for r in range(row, row + s.rows):
        at = place(&s.edges.row, r, s.height)
        if source != NULL and at >= 0 and s.edges.places != NULL:
            line = source + at * s.width * s.channels
            for j in range(s.columns):
                if left <= j < right and channels == s.channels:
                    continue
                at = place(&s.edges.column, column + j, s.width)
                if at < 0:
                    memset(to + j * gap, 0, channels * sizeof(real))
                else:
                    memcpy(to + j * gap, line + at * s.channels, channels * sizeof(real))
            if channels == s.channels:
                memcpy(to + left * gap, line + (column + left) * gap, (right - left) * gap * sizeof(real))
        elif source != NULL and at >= 0 and right > left:
            memset(to, 0, left * gap * sizeof(real))
            line = source + (at * s.width + column + left) * s.channels
            if channels == s.channels:
                memcpy(to + left * gap, line, (right - left) * channels * sizeof(real))
            else:
                for j in range(right - left):
                    memcpy(to + (left + j) * gap, line + j * s.channels, channels * sizeof(real))
            memset(to + right * gap, 0, (s.columns - right) * gap * sizeof(real))
        else:
            memset(to, 0, s.columns * gap * sizeof(real))
        to += s.pitch
