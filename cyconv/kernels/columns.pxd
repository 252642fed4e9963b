"""The columns of im2col.pyx: copied from the source (im2col), and added back to it (col2im).

A column holds the source pixels that one output pixel reads, for those in the padding what it holds. Columns of a
block of output pixels lie [c][r][s][pixel] for NCHW and [pixel][r][s][c] for channels-last arrays.
"""

from libc.string cimport memcpy, memset

from cyconv.kernels._kernel cimport Edges
from cyconv.kernels.simd cimport real
from cyconv.kernels.source cimport index, place


cdef struct Cut:
    index pixels, blocks  # output pixels of a block, blocks of an image
    index channels, chunks  # input channels of a chunk, chunks of a group
    index outs, parts  # output channels of one product, products of a group
    index pitch  # elements between the columns of one tap and the next (NCHW)


cdef struct Shape:
    index channels, height, width
    index out_channels, out_height, out_width
    index rows, columns, taps  # of the kernel
    index stride_row, stride_column, top, left, dilation_row, dilation_column
    index groups, group_in, group_out
    index area, out_area, length  # length: terms of a sum, taps x channels of a group
    bint channels_last
    bint direct  # the source itself is the matrix
    bint reordered  # weights are brought into the order [k][r][s][c]
    bint shifted  # NCHW: the columns of a tap are the plane, shifted
    Edges edges


cdef inline index at_source(const Shape* s, index image, index channel) noexcept nogil:
    return image * s.channels * s.area + channel * (1 if s.channels_last else s.area)


cdef inline index at_out(const Shape* s, index image, index channel, index pixel) noexcept nogil:
    return (image * s.out_channels * s.out_area
            + (pixel * s.out_channels + channel if s.channels_last else channel * s.out_area + pixel))


cdef inline index clamp(index value, index low, index high) noexcept nogil:
    return low if value < low else high if value > high else value


cdef inline index first_inside(index across, index stride) noexcept nogil:
    """The first place i at which i stride + across is not negative."""
    return (stride - 1 - across) // stride if across < 0 else 0


cdef inline index end_inside(index across, index stride, index width) noexcept nogil:
    """One past the last place i at which i stride + across is below width."""
    return (width - 1 - across) // stride + 1 if across < width else 0


cdef inline void clear_strays(const Shape* s, real* to, index across, index first, index count) noexcept nogil:
    """Zero where a shift along the plane wrapped into a neighbouring row."""
    cdef index width = s.out_width, low = 0 if across < 0 else max(width - across, 0)
    cdef index high = min(-across, width) if across < 0 else width, row = -(first % width), i
    while row < count:
        for i in range(max(row + low, 0), min(row + high, count)):
            to[i] = 0
        row += width


cdef inline void gather_shifted(const Shape* s, const real* plane, real* to, index down, index across, index first,
                                index count) noexcept nogil:
    """Columns of one tap where output and source rows are equally long and the stride is 1: one copy."""
    cdef index offset = first + down * s.width + across
    cdef index low = clamp(-offset, 0, count), high = clamp(s.area - offset, low, count)
    memset(to, 0, low * sizeof(real))
    memcpy(to + low, plane + offset + low, (high - low) * sizeof(real))
    memset(to + high, 0, (count - high) * sizeof(real))
    if across != 0:
        clear_strays(s, to, across, first, count)


cdef inline void scatter_shifted(const Shape* s, real* columns, real* plane, index down, index across, index first,
                                 index count) noexcept nogil:
    cdef index offset = first + down * s.width + across, i
    cdef index low = clamp(-offset, 0, count), high = clamp(s.area - offset, low, count)
    if across != 0:
        clear_strays(s, columns, across, first, count)
    plane += offset
    for i in range(low, high):
        plane[i] += columns[i]


cdef inline void gather_edges(const Shape* s, const real* line, real* to, index across, index first, index begin,
                              index end, index stop) noexcept nogil:
    """Places first to begin and end to stop of a row: those that lie in the padding."""
    cdef index i = first, at
    while i < stop:
        if begin <= i < end:
            i = end
            continue
        at = place(&s.edges.column, i * s.stride_column + across, s.width)
        to[i - first] = line[at] if at >= 0 else 0
        i += 1


cdef inline void gather_tap(const Shape* s, const real* plane, real* to, index down, index across, index first,
                            index count) noexcept nogil:
    """Columns of one tap, row by row."""
    cdef index low = first_inside(across, s.stride_column), high = end_inside(across, s.stride_column, s.width)
    cdef index p = first // s.out_width, q = first % s.out_width, row, begin, end, stop, i
    cdef const real* line
    while count > 0:
        stop = min(s.out_width, q + count)
        row = p * s.stride_row + down
        begin, end = clamp(low, q, stop), clamp(high, q, stop)
        row = place(&s.edges.row, row, s.height)
        if end <= begin or row < 0:
            begin = end = stop
        line = plane + row * s.width + across
        if row >= 0 and s.edges.places != NULL:
            gather_edges(s, line - across, to, across, q, begin, end, stop)
        else:
            for i in range(q, begin):
                to[i - q] = 0
            for i in range(end, stop):
                to[i - q] = 0
        if s.stride_column == 1:
            memcpy(to + begin - q, line + begin, (end - begin) * sizeof(real))
        elif s.stride_column == 2:
            for i in range(begin, end):
                to[i - q] = line[2 * i]
        else:
            for i in range(begin, end):
                to[i - q] = line[i * s.stride_column]
        to += stop - q
        count -= stop - q
        q = 0
        p += 1


cdef inline void scatter_tap(const Shape* s, const real* columns, real* plane, index down, index across, index first,
                             index count) noexcept nogil:
    cdef index low = first_inside(across, s.stride_column), high = end_inside(across, s.stride_column, s.width)
    cdef index p = first // s.out_width, q = first % s.out_width, row, stop, i
    cdef real* line
    while count > 0:
        stop = min(s.out_width, q + count)
        row = p * s.stride_row + down
        if 0 <= row < s.height:
            line = plane + row * s.width + across
            if s.stride_column == 1:
                for i in range(clamp(low, q, stop), clamp(high, q, stop)):
                    line[i] += columns[i - q]
            else:
                for i in range(clamp(low, q, stop), clamp(high, q, stop)):
                    line[i * s.stride_column] += columns[i - q]
        columns += stop - q
        count -= stop - q
        q = 0
        p += 1


cdef inline void gather_last(const Shape* s, const real* source, index channels, index first, index count,
                             real* to) noexcept nogil:
    """[pixel][r][s][channel], channels contiguous on both sides."""
    cdef index p = first // s.out_width, q = first % s.out_width, _, r, t, row, column, low, high, at
    # All channels of neighbouring taps are one stretch of memory.
    cdef bint whole = channels == s.channels and s.dilation_column == 1
    cdef const real* line
    for _ in range(count):
        column = q * s.stride_column - s.left
        # Taps [low, high) lie inside the row.
        low = min(first_inside(column, s.dilation_column), s.columns)
        high = clamp(end_inside(column, s.dilation_column, s.width), low, s.columns)
        for r in range(s.rows):
            row = place(&s.edges.row, p * s.stride_row + r * s.dilation_row - s.top, s.height)
            if row < 0:
                memset(to, 0, s.columns * channels * sizeof(real))
            else:
                line = source + (row * s.width + column) * s.channels
                memset(to, 0, low * channels * sizeof(real))
                if whole:
                    memcpy(to + low * channels, line + low * channels, (high - low) * channels * sizeof(real))
                else:
                    for t in range(low, high):
                        memcpy(to + t * channels, line + t * s.dilation_column * s.channels, channels * sizeof(real))
                memset(to + high * channels, 0, (s.columns - high) * channels * sizeof(real))
                if s.edges.places != NULL:
                    for t in range(s.columns):
                        at = -1 if low <= t < high else place(&s.edges.column, column + t * s.dilation_column, s.width)
                        if at >= 0:
                            memcpy(to + t * channels, line + (at - column) * s.channels, channels * sizeof(real))
            to += s.columns * channels
        q += 1
        if q == s.out_width:
            q = 0
            p += 1


cdef inline void scatter_last(const Shape* s, const real* columns, real* to, index channels, index first,
                              index count) noexcept nogil:
    cdef index p = first // s.out_width, q = first % s.out_width, _, r, t, c, row, column, low, high
    cdef bint whole = channels == s.channels and s.dilation_column == 1
    cdef real* pixel
    for _ in range(count):
        column = q * s.stride_column - s.left
        low = min(first_inside(column, s.dilation_column), s.columns)
        high = clamp(end_inside(column, s.dilation_column, s.width), low, s.columns)
        for r in range(s.rows):
            row = p * s.stride_row + r * s.dilation_row - s.top
            if 0 <= row < s.height:
                pixel = to + (row * s.width + column) * s.channels
                if whole:
                    for c in range(low * channels, high * channels):
                        pixel[c] += columns[c]
                else:
                    for t in range(low, high):
                        for c in range(channels):
                            pixel[t * s.dilation_column * s.channels + c] += columns[t * channels + c]
            columns += s.columns * channels
        q += 1
        if q == s.out_width:
            q = 0
            p += 1


cdef inline const real* gather(const Shape* s, const Cut* cut, const real* source, index image, index channel,
                               index channels, index first, index count, real* buffer, index* ld) noexcept nogil:
    """Return the matrix of columns of ``count`` output pixels, ``channels`` channels, and its leading dimension."""
    cdef index _, r, t
    cdef real* to = buffer
    source += at_source(s, image, channel)
    if s.direct:
        ld[0] = s.channels if s.channels_last else s.area
        return source + (first * s.channels if s.channels_last else first)
    if s.channels_last:
        ld[0] = channels * s.taps
        gather_last(s, source, channels, first, count, buffer)
        return buffer
    ld[0] = cut.pitch
    for _ in range(channels):
        for r in range(s.rows):
            for t in range(s.columns):
                if s.shifted:
                    gather_shifted(s, source, to, r * s.dilation_row - s.top, t * s.dilation_column - s.left, first,
                                   count)
                else:
                    gather_tap(s, source, to, r * s.dilation_row - s.top, t * s.dilation_column - s.left, first, count)
                to += cut.pitch
        source += s.area
    return buffer


cdef inline void scatter(const Shape* s, const Cut* cut, real* matrix, real* to, index channels, index first,
                         index count) noexcept nogil:
    """Add columns to the source pixels that they stand for: the adjoint of `gather`."""
    cdef index _, r, t
    if s.channels_last:
        scatter_last(s, <const real*>matrix, to, channels, first, count)
        return
    for _ in range(channels):
        for r in range(s.rows):
            for t in range(s.columns):
                if s.shifted:
                    scatter_shifted(s, matrix, to, r * s.dilation_row - s.top, t * s.dilation_column - s.left, first,
                                    count)
                else:
                    scatter_tap(s, <const real*>matrix, to, r * s.dilation_row - s.top,
                                t * s.dilation_column - s.left, first, count)
                matrix += cut.pitch
        to += s.area
