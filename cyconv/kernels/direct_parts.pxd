"""What a direct convolution is made of, and its weights in the order in which the register tile streams them."""

from libc.stdint cimport int32_t
from libc.string cimport memcpy, memset

from cyconv.kernels.simd cimport CYCONV_VECTOR_BYTES, fetch, lanes, real, transpose
from cyconv.kernels.source cimport Source, index

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
