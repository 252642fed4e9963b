"""One pooling operation as its kernels see it: three axes, lengths of buffers, where things stand in them; and the
search for the winning taps of a row of windows.

A *tap code* is the number of a window's tap, in row-major order through all taps of the largest window: a byte, 255 for
windows that meet no pixel.
"""

from libc.stdint cimport int32_t, int64_t, uint32_t
from libc.math cimport INFINITY

from cyconv.kernels._workspace cimport discard, zeroed
from cyconv.kernels.pool cimport best_taps, split_row
from cyconv.kernels.pool_axis cimport Axis, free_axis, index, three_axes
from cyconv.kernels.simd cimport CYCONV_VECTOR_BYTES, LANES_f32, cold, real

# What the split rows are laid out for. Larger windows go through the tables of their axes.
cdef enum:
    MOST_TAPS = 4096
    MOST_STRIDE = 64
    MOST_SCRATCH = 1 << 24
    NO_CODE = 255
    MOST_MEETINGS = 1 << 20  # pixels of all windows along an axis: the tables of gradients by tap codes
    # Bytes of as many planes as a vector has lanes, where these are turned into channels: a second-level cache
    MOST_TURNED = 1 << 20
    NARROW = 8  # rows of fewer windows waste too much of a vector, and of the work that a row takes
    NARROW_NAMED = 16  # the same where maxima are looked for with their taps
    AT_ONCE = 4  # vectors of planes that are turned together, where they take a quarter of that cache


cdef struct Shape:
    Axis slices, rows, columns
    index area, out_area  # pixels of a volume
    index most_rows  # rows of pixels that the largest window meets
    bint regular  # windows are a kernel at every stride
    bint kernel  # ... small enough for buffers made for it
    bint pairs  # 2 x 2 windows at stride 2 within the input, of single slices
    bint whole  # one window, of all pixels
    bint flat  # ... whose taps are the pixels
    bint same  # every pixel is a window
    bint coded  # tap codes are bytes
    # The joined rows of a window, with margins (or without, where there is no kernel)
    index buffer, margin_before
    # Split rows: how many of each slice, length of one phase, of one row; windows of a row in whole vectors
    index ring, phase, slot, padded_out
    # Rows of windows that meet one row of pixels: how many, places before each, length of all
    index depth, margin, length
    # How tap codes and places in the volume grow from tap to tap, of slices, rows and columns
    index code_step[3]
    index place_step[3]
    # Where things stand in the scratch memory, in elements; behind it 2 * most_rows indices
    index at_best, at_code, scratch
    # Of each column tap where it stands in a split row; and by phase: shifts, taps, begins
    index* tap_place
    index* phase_shift
    index* phase_tap
    index* phase_first
    index* phase_start
    # Of each window of a row: the tap that meets its first pixel, or -1
    int32_t* first_column32
    int64_t* first_column64


cdef inline int open_shape(Shape* s, input, output, kernel, stride, padding, dilation, average) except -1:
    cdef Axis axes[3]
    cdef Axis* a
    cdef bint covered = True, paired
    cold()
    for i in range(3):
        axes[i].first = axes[i].window = NULL
        axes[i].factor = NULL
        axes[i].factor32 = NULL
        axes[i].met = NULL
        axes[i].most = axes[i].window_step = axes[i].reach = axes[i].meetings = axes[i].crowd = 0
    try:
        three_axes(axes, input, output, kernel, stride, padding, dilation, average)
    finally:
        # Also when memory has run out: close_shape gives back what there is.
        s.slices, s.rows, s.columns = axes[0], axes[1], axes[2]
    s.area = s.slices.length * s.rows.length * s.columns.length
    s.out_area = s.slices.windows * s.rows.windows * s.columns.windows
    s.most_rows = max(s.slices.most * s.rows.most, 1)
    paired = kernel is not None and s.slices.length == 1
    for i in range(3):
        a = &axes[i]
        covered = covered and a.windows == 1 and a.count[0] == a.length and (a.dilation == 1 or a.length == 1)
        if i > 0:
            paired = (paired and a.taps == 2 and a.stride == 2 and a.low == 0 and a.dilation == 1
                      and 2 * a.windows <= a.length)
    s.pairs, s.whole, s.same = paired, covered, True
    s.coded, s.flat = True, covered
    for i in range(3):
        a = &axes[i]
        s.same = s.same and a.length == a.windows and a.reach == 1 and a.low == 0 and a.factor[0] == 1
        s.flat = s.flat and a.reach == a.length
        s.coded = s.coded and a.reach < NO_CODE and a.meetings <= MOST_MEETINGS
    s.coded = s.coded and s.slices.reach * s.rows.reach * s.columns.reach < NO_CODE and spans(s) < 2147483647.0
    s.code_step[0], s.code_step[1], s.code_step[2] = s.rows.reach * s.columns.reach, s.columns.reach, 1
    s.place_step[2] = s.columns.dilation
    s.place_step[1] = s.rows.dilation * s.columns.length
    s.place_step[0] = s.slices.dilation * s.rows.length * s.columns.length
    s.regular = kernel is not None
    s.kernel = s.regular and suits(s)
    s.margin_before = s.columns.low if s.kernel else 0
    s.buffer = s.columns.length + 2 * LANES_f32
    s.depth = s.rows.windows
    if s.kernel:
        lay_out(s)
        fill_tables(s)
    return 0


cdef inline double spans(const Shape* s) noexcept:
    """How far a place may be from where its window begins, or from where the volume does."""
    cdef double depth = <double>(s.slices.reach - 1) * s.slices.dilation
    cdef double rows = depth * s.rows.length + <double>(s.rows.reach - 1) * s.rows.dilation
    return <double>s.area + rows * s.columns.length + <double>(s.columns.reach - 1) * s.columns.dilation


cdef inline void close_shape(Shape* s) noexcept:
    free_axis(&s.slices)
    free_axis(&s.rows)
    free_axis(&s.columns)
    discard(s.tap_place)
    discard(s.first_column64)
    discard(s.first_column32)


cdef inline bint suits(const Shape* s) noexcept:
    """Whether buffers made for this kernel would be small, and codes of its taps short."""
    cdef double taps = <double>s.slices.taps * s.rows.taps * s.columns.taps
    cdef double reach = <double>(s.columns.taps - 1) * s.columns.dilation + 1
    cdef double span = <double>(s.rows.taps - 1) * s.rows.dilation + 1
    cdef double depth = <double>(s.slices.taps - 1) * s.slices.dilation + 1
    cdef double width = reach + s.columns.length + s.columns.low + 4 * LANES_f32
    cdef double code = (depth * s.rows.length + span) * s.columns.length + reach
    return (taps <= MOST_TAPS and s.columns.stride <= MOST_STRIDE and code < 2147483647.0
            and (span + s.rows.stride) * s.slices.taps * (width + 4 * LANES_f32 * s.columns.stride) < MOST_SCRATCH
            and (span / s.rows.stride + 3) * 4 * width < MOST_SCRATCH)


cdef inline void lay_out(Shape* s) noexcept:
    """Lengths of all buffers; vectors are counted as those of float, the longest."""
    cdef Axis* c = &s.columns
    cdef index vector = LANES_f32, reach = (c.taps - 1) * c.dilation, span = (s.rows.taps - 1) * s.rows.dilation + 1
    cdef index in_phase = (c.low + c.length - 1) // c.stride + 1
    s.padded_out = (c.windows + vector - 1) // vector * vector
    s.buffer = max(c.low + c.length + vector, s.padded_out * c.stride + reach + 2 * vector)
    s.phase = max(in_phase + 2 * vector, s.padded_out + reach // c.stride + 1)
    s.slot = c.stride * s.phase
    # Rings have room for rows that are written ahead of their use: see find_taps.
    s.ring = span + s.rows.stride
    s.depth = (span - 1) // s.rows.stride + 1 + 2
    s.margin = reach // c.stride
    s.length = s.margin + max(max(s.padded_out, in_phase + vector), c.length) + 2 * vector
    s.at_best = s.slices.taps * s.ring * s.slot
    s.at_code = s.at_best + s.padded_out
    s.scratch = s.at_code + 2 * s.length


cdef inline int fill_tables(Shape* s) except -1:
    cdef Axis* a = &s.columns
    cdef index c, f, q, at = 0
    s.tap_place = <index*>zeroed(3 * a.taps + 2 * a.stride + 1, sizeof(index))
    s.first_column32 = <int32_t*>zeroed(s.padded_out, sizeof(int32_t))
    s.first_column64 = <int64_t*>zeroed(s.padded_out, sizeof(int64_t))
    if s.tap_place == NULL or s.first_column32 == NULL or s.first_column64 == NULL:
        raise MemoryError("cyconv: no memory for the tables of a pooling layer")
    s.phase_shift = s.tap_place + a.taps
    s.phase_tap = s.phase_shift + a.taps
    s.phase_start = s.phase_tap + a.taps
    s.phase_first = s.phase_start + a.stride
    for c in range(a.taps):
        s.tap_place[c] = c * a.dilation % a.stride * s.phase + c * a.dilation // a.stride
    # Phase f: the pixels f, f + stride, ... of a row, and the taps that can meet them.
    for f in range(a.stride):
        s.phase_start[f] = (f + a.low) // a.stride
        s.phase_first[f] = at
        for c in range(a.taps):
            if c * a.dilation % a.stride == (f + a.low) % a.stride:
                s.phase_shift[at] = c * a.dilation // a.stride
                s.phase_tap[at] = c
                at += 1
    s.phase_first[a.stride] = at
    for q in range(a.windows):
        s.first_column64[q] = a.tap[q] if a.count[q] else -1
        s.first_column32[q] = <int32_t>s.first_column64[q]
    return 0


cdef inline index scratch_length(const Shape* s) noexcept nogil:
    """Elements of all scratch memory, the indices behind it included."""
    return s.scratch + 4 * s.most_rows + 2 * s.depth * 2 + 16


cdef inline index* indices_in(const Shape* s, const real* scratch) noexcept nogil:
    """Twice as many indices as a window has rows, or as windows have a row."""
    return <index*>((<size_t>(scratch + s.scratch) + 15) // 16 * 16)


cdef inline const real* first_columns(const Shape* s, const real* like) noexcept nogil:
    return <const real*>s.first_column32 if real is float else <const real*>s.first_column64


cdef inline bint narrow_pairs(const Shape* s, index vector) noexcept nogil:
    """Whether rows of 2 x 2 windows are parts of a vector that go many at once: see pool_pairs.h."""
    return (s.pairs and s.columns.windows < vector and vector % s.columns.windows == 0
            and s.rows.length == 2 * s.rows.windows and s.columns.length == 2 * s.columns.windows)


cdef inline index turned(const Shape* s, bint named) noexcept nogil:
    """How many vectors of planes are pooled together, turned into the channels of pixels; 0: none."""
    cdef index size = (s.area + 3 * s.out_area) * CYCONV_VECTOR_BYTES
    if (s.kernel and s.columns.windows >= (NARROW_NAMED if named else NARROW)) or size > MOST_TURNED:
        return 0
    return AT_ONCE if size * AT_ONCE <= MOST_TURNED // 4 else 1


cdef inline void find_taps(const Shape* s, const real* x, real* scratch, real* code, index slice, index p,
                           const index* step, index* loaded) noexcept nogil:
    """Maxima (in the scratch memory) and winning taps of row p of the windows at ``slice``; the names of taps grow by
    ``step`` from 0. ``loaded``: rows that are split already.

    One row of windows ahead, that is: a vector that is loaded across two that were just stored would wait until both
    have reached the cache.
    """
    cdef const Axis* a = &s.rows
    cdef index start = p * a.stride - a.low, row, k, r, _r, at, n = 0, count = s.slices.count[slice]
    cdef index ahead = min(start + s.ring, a.length)  # the next row of windows' too
    cdef index* rows = indices_in(s, scratch)
    cdef index* names = rows + s.most_rows
    cdef const real* volume = x + s.slices.first[slice] * a.length * s.columns.length
    row = max(loaded[0], start, 0)
    if row < ahead:
        r = <uint32_t>row % <uint32_t>s.ring
        while row < ahead:
            for k in range(count):
                split_row(scratch + (k * s.ring + r) * s.slot, s.phase,
                          volume + (k * s.slices.dilation * a.length + row) * s.columns.length, s.columns.length,
                          s.columns.low, s.columns.stride)
            row += 1
            r = r + 1 if r + 1 < s.ring else 0
    loaded[0] = ahead
    # A division costs as much as vectors of a row here, so that there is but one, of short numbers.
    cdef index place = <uint32_t>a.first[p] % <uint32_t>s.ring
    for k in range(count):
        row = place
        at = (s.slices.tap[slice] + k) * step[0] + a.tap[p] * step[1]
        for _r in range(a.count[p]):
            rows[n] = (k * s.ring + row) * s.slot
            names[n] = at
            n += 1
            at += step[1]
            row += a.dilation
            while row >= s.ring:
                row -= s.ring
    best_taps(scratch + s.at_best, code, <const real*>scratch, first_columns(s, scratch), rows, names, n, s.tap_place,
              s.columns.taps, step[2], s.columns.windows)
