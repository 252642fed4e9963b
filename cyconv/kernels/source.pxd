"""The block of source pixels that a task works on: a private padded copy, or the array itself where nothing is padded."""

from libc.string cimport memcpy, memset

from cyconv.kernels.simd cimport real

ctypedef Py_ssize_t index


cdef struct Source:
    index channels, height, width  # of the array
    index group_channels
    bint channels_last
    bint packed  # copied into a private block; else the array is read where it lies
    index rows, columns  # of the block
    index pitch, plane, pixel  # distance of its rows, channels, pixels, in elements


cdef inline void lay_out(Source* s, index itemsize) noexcept:
    """Fill in pitch, plane and pixel."""
    cdef index line = 64 // itemsize
    if not s.packed:
        s.pixel = s.channels if s.channels_last else 1
        s.pitch = s.width * s.pixel
        s.plane = 1 if s.channels_last else s.height * s.width
    elif s.channels_last:
        s.pixel, s.plane = s.group_channels, 1
        s.pitch = s.columns * s.pixel
    else:
        s.pixel, s.pitch = 1, s.columns
        # An odd number of cache lines between channels: powers of two would all fall into one set of the cache.
        s.plane = ((s.rows * s.pitch + line - 1) // line | 1) * line


cdef inline index block_size(const Source* s) noexcept nogil:
    """Elements of a private block."""
    return 0 if not s.packed else s.rows * s.pitch if s.channels_last else s.group_channels * s.plane


cdef inline const real* channel_start(const Source* s, const real* image, index channel) noexcept nogil:
    """First pixel of ``channel`` of an image."""
    return image + channel * (1 if s.channels_last else s.height * s.width)


cdef inline void copy_block(const Source* s, const real* source, index channels, real* copy, index row,
                            index column) noexcept nogil:
    """Copy ``channels`` channels of the block whose first pixel is (row, column); zeros outside of the image."""
    # Columns [left, right) of the block lie inside the image.
    cdef index left = min(max(-column, 0), s.columns)
    cdef index right = max(min(s.columns, s.width - column), left)
    cdef index c, r, j, gap
    cdef const real* line
    cdef real* to
    if s.channels_last:
        gap = s.pixel
        for r in range(row, row + s.rows):
            if 0 <= r < s.height and right > left:
                memset(copy, 0, left * gap * sizeof(real))
                line = source + (r * s.width + column + left) * s.channels
                if channels == s.channels:
                    memcpy(copy + left * gap, line, (right - left) * channels * sizeof(real))
                else:
                    for j in range(right - left):
                        memcpy(copy + (left + j) * gap, line + j * s.channels, channels * sizeof(real))
                memset(copy + right * gap, 0, (s.columns - right) * gap * sizeof(real))
            else:
                memset(copy, 0, s.columns * gap * sizeof(real))
            copy += s.pitch
        return
    for c in range(channels):
        to = copy + c * s.plane
        for r in range(row, row + s.rows):
            if 0 <= r < s.height and right > left:
                memset(to, 0, left * sizeof(real))
                memcpy(to + left, source + (c * s.height + r) * s.width + column + left, (right - left) * sizeof(real))
                memset(to + right, 0, (s.columns - right) * sizeof(real))
            else:
                memset(to, 0, s.columns * sizeof(real))
            to += s.pitch
