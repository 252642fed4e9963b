"""What a direct convolution is made of, and its weights in the order in which the register tile streams them."""

from libc.stdint cimport int32_t
from libc.string cimport memcpy, memset

from cyconv.kernels.simd cimport CYCONV_VECTOR_BYTES, copy_row, fetch, lanes, real, rectify, transpose
from cyconv.kernels.source cimport Grid, Source, index

cdef extern from "grid.h" nogil:
    void fill_row_f32(float* to, index n, float value) noexcept
    void fill_row_f64(double* to, index n, double value) noexcept
    void spread_row_f32(float* to, const float* source, index n, index step, index length, float fill) noexcept
    void spread_row_f64(double* to, const double* source, index n, index step, index length, double fill) noexcept

# Reduction channels that are fetched ahead: they stand too far apart for the processor to foresee.
DEF PACK_AHEAD = 3
# Weights of one output channel that are transposed at a time on their way to the order of taps.
DEF PACK_STRETCH = 64


cdef struct Phase:
    index row, column  # first output row and column
    index taps  # length of the reduction: taps x channels of a group
    index weights  # first of its rows in a block of packed weights
    int32_t* table  # where each tap of each channel lies in the source block
    int32_t* displacement  # row and column that each tap is away, in source pixels
    int32_t* order  # which row of the weight array (channel stride and tap) each of them takes


cdef struct Shape:
    Source source
    index out_channels, out_depth, out_height, out_width
    index groups, group_in, group_out  # group_in: slices of input channels
    # Output pixel i of a phase reads source pixel i * step + displacement of the tap
    index step_row, step_column
    # and stands at out_step * i + phase.row
    index out_step_row, out_step_column
    index phases, taps  # taps: of all phases together
    index first_row, first_column  # smallest displacement of any tap
    index block_rows, block_columns  # of the output
    # Output channels of a group: width of a block, number of blocks, blocks in one task; padded to whole vectors
    index block_channels, channel_blocks, task_blocks, padded_channels
    # One tap after the other, each only where it meets the image; with vectors over pixels, those that rows meet there
    bint tap_major
    bint pixel_vectors  # vectors over pixels instead of over output channels
    bint paired  # these, and two phases at once, whose pixels alternate in the rows of the output
    # The output holds the results at the pixels of the grid only, and the bias elsewhere; paired, a patch of results at
    # each of them
    bint spread
    Grid grid
    index scratch  # elements of the results of one block
    index reduction  # longest sum in one go: what keeps the weights of a block in the second-level cache
    bint rectified
    index images
    index row_blocks, column_blocks, task_groups
    # Phases of the depth: output depth d takes slices depth_phases[d % divisor] up to the next entry, in their order
    index* depth_phases


cdef struct Weights:
    index out, into, group  # from an output channel, an input channel, a group to the next
    bint rows


cdef inline Phase at_depth(const Shape* s, const Phase* phase, index depth) noexcept nogil:
    """The taps of a phase that an output depth takes."""
    cdef Phase part = phase[0]
    cdef const index* first = s.depth_phases + depth % s.source.depth_divisor
    cdef index slice = phase.taps // s.source.slices
    if s.source.depth_divisor > 1:
        part.table += first[0] * slice
        part.weights += first[0] * slice
        part.taps = (first[1] - first[0]) * slice
    return part


cdef inline index first_inside(index start, index step) noexcept nogil:
    """First i with start + i * step >= 0."""
    return 0 if start >= 0 else (step - 1 - start) // step


cdef inline index count_inside(index start, index step, index length, index most) noexcept nogil:
    """Number of i with start + i * step < length, at most ``most``."""
    return 0 if start >= length else min(most, (length - start + step - 1) // step)


cdef inline void pack_block(const Shape* s, const Phase* phases, const Weights* w, const real* weight, real* packed,
                            real* private, index block) noexcept nogil:
    """One block of output channels: [reduction][channel], missing channels zero."""
    cdef index group = block // s.channel_blocks, first = block % s.channel_blocks * s.block_channels
    cdef index channels = min(s.block_channels, s.padded_channels - first), length = s.taps * s.group_in
    cdef index have = min(channels, s.group_out - first)
    cdef real* to = packed + (group * s.padded_channels + first) * length
    cdef const real* source = weight + group * w.group + first * w.out
    cdef index p, t
    cdef const int32_t* order
    if have < channels:
        memset(to, 0, length * channels * sizeof(real))
    if w.rows and s.tap_major:
        pack_taps(s, source, w.out, have, channels, to)
    elif w.rows:
        transpose(source, w.out, have, length, to, channels)
    elif w.out == 1:
        for p in range(s.phases):
            order = phases[p].order
            for t in range(phases[p].taps):
                memcpy(to, source + order[t] * w.into, have * sizeof(real))
                to += channels
    else:
        pack_columns(s, phases, w, source, private, have, channels, to)


cdef inline void pack_columns(const Shape* s, const Phase* phases, const Weights* w, const real* source, real* private,
                              index have, index channels, real* to) noexcept nogil:
    """The same from weights in which the taps of an output channel follow each other: element for element, they would
    be read with a step. private: [reduction channel][tap][channel]."""
    cdef index c, p, t
    cdef const int32_t* order
    if have < channels:
        memset(private, 0, s.source.group_channels * w.out * channels * sizeof(real))
    for c in range(s.source.group_channels):
        fetch(source + (c + PACK_AHEAD) * w.into, have * w.out * <index>sizeof(real))
        transpose(source + c * w.into, w.out, have, w.out, private + c * w.out * channels, channels)
    for p in range(s.phases):
        order = phases[p].order
        if channels == s.block_channels == 2 * lanes(source):
            for t in range(phases[p].taps):
                memcpy(to, private + order[t] * channels, 2 * CYCONV_VECTOR_BYTES)  # a size that the compiler knows
                to += channels
        else:
            for t in range(phases[p].taps):
                memcpy(to, private + order[t] * channels, channels * sizeof(real))
                to += channels


cdef inline void pack_taps(const Shape* s, const real* source, index weight_out, index have, index channels,
                           real* to) noexcept nogil:
    """[tap][input channel][channel] from rows of [input channel][tap]."""
    cdef real rows[PACK_STRETCH * 32]
    cdef index length = s.taps * s.group_in, t = 0, n, i
    if have < channels:
        memset(rows, 0, sizeof(rows))
    while t < length:
        n = min(PACK_STRETCH, length - t)
        transpose(source + t, weight_out, have, n, rows, channels)
        for i in range(t, t + n):
            memcpy(to + (i % s.taps * s.group_in + i // s.taps) * channels, rows + (i - t) * channels,
                   channels * sizeof(real))
        t += n


cdef inline void interleave(const real* source, index section, index line, index phases, index step, index columns,
                            real* to) noexcept nogil:
    """Row ``line`` of each of the phases of a row, into every ``step``-th pixel of the row."""
    cdef index p, j, length = (columns + step - 1) // step, half = columns // step
    cdef const real* even = source + line * length
    cdef const real* odd
    if step == 2 and phases == 2:
        odd = source + section + line * half
        for j in range(half):
            to[2 * j] = even[j]
            to[2 * j + 1] = odd[j]
        if half < length:
            to[2 * half] = even[half]
        return
    for p in range(min(phases, columns)):
        length = (columns - p + step - 1) // step
        even = source + p * section + line * length
        for j in range(length):
            to[p + j * step] = even[j]


cdef inline void spread_plane(const Grid* g, const real* source, real fill, real* out, index first,
                              index count) noexcept nogil:
    """``count`` results from pixel ``first`` of the grid on to their places in one channel, ``fill`` to the places
    behind each, up to the next of the grid or the end of the volume."""
    cdef index j = first % g.columns, row = first // g.columns % g.rows, depth = first // g.columns // g.rows
    cdef index n, lines, z, r, below, back, wide, depths = g.pixels // g.columns // g.rows
    cdef real* to
    while count > 0:
        # Some whole rows of a depth, or a part of one.
        n = min(g.columns - j, count)
        lines = min(g.rows - row, count // g.columns) if n == g.columns else 1
        wide = (g.width if j + n == g.columns else (j + n) * g.step_column) - j * g.step_column
        below = (g.height if row + lines == g.rows else (row + lines) * g.step_row) - row * g.step_row
        back = (g.depth if depth + 1 == depths else (depth + 1) * g.step_depth) - depth * g.step_depth
        to = out + (depth * g.step_depth * g.height + row * g.step_row) * g.width + j * g.step_column
        for z in range(back):
            if wide == g.width:
                fill_row(to + z * g.height * g.width, below * wide, fill)
                continue
            for r in range(below):
                fill_row(to + (z * g.height + r) * g.width, wide, fill)
        for r in range(lines):
            if real is float:
                spread_row_f32(to + r * g.step_row * g.width, source, n, g.step_column, wide, fill)
            else:
                spread_row_f64(to + r * g.step_row * g.width, source, n, g.step_column, wide, fill)
            source += n
        count -= n * lines
        j, row = 0, row + lines
        if row == g.rows:
            row, depth = 0, depth + 1


cdef inline index patch_place(const Grid* g, index pixel, index count) noexcept nogil:
    """Where the first row of the patches of ``count`` pixels begins, in a channel; -1 where they are not in one row."""
    cdef index column = pixel % g.columns, row = pixel // g.columns % g.rows, depth = pixel // g.columns // g.rows
    if column + count > g.columns:
        return -1
    return (depth * g.step_depth * g.height + row * g.step_row) * g.width + column * g.step_column


cdef inline void write_patches(const Grid* g, const real* source, real* out, index pixel, index count) noexcept nogil:
    """A row of the patches of each of ``count`` pixels to its place in one channel."""
    cdef index n
    while count > 0:
        n = min(count, g.columns - pixel % g.columns)
        copy_row(out + patch_place(g, pixel, n), source, n * g.step_column)
        source += n * g.step_column
        pixel += n
        count -= n


cdef inline void fill_row(real* to, index n, real value) noexcept nogil:
    """n times the same."""
    if real is float:
        fill_row_f32(to, n, value)
    else:
        fill_row_f64(to, n, value)


cdef inline void write_block(const Shape* s, real* scratch, real* out, index channel, index channels, index ld,
                             index row, index column, index rows, index columns) noexcept nogil:
    """Bring scratch [pixel][channel] of a block to where it belongs, through the ReLU if there is one."""
    cdef index r, j, area = s.out_depth * s.out_height * s.out_width  # of a channel
    cdef real* to
    if s.rectified:
        rectify(scratch, rows * columns * ld)
    if s.source.channels_last:
        for r in range(rows):
            to = out + ((row + r) * s.out_width + column) * s.out_channels + channel
            for j in range(columns):
                memcpy(to + j * s.out_channels, scratch + (r * columns + j) * ld, channels * sizeof(real))
    elif columns == s.out_width:
        # Whole rows: the pixels of a plane are one stretch.
        transpose(<const real*>scratch, ld, rows * columns, channels, out + channel * area + row * columns, area)
    else:
        for r in range(rows):
            transpose(<const real*>scratch + r * columns * ld, ld, columns, channels,
                      out + channel * area + (row + r) * s.out_width + column, area)
