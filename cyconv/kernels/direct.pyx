"""Direct convolution: the register tile walked over blocks of output pixels.

One engine serves the forward pass, the input gradient and transposed convolution; `_plan.py` says which source pixel
every tap of every phase reads, and this file knows only steps, offsets and pointers.

A *task* is one image, one block of output pixels, one group and some blocks of output channels. It copies the source
rows that it needs into a private padded buffer (so that the tile meets no edge), computes [pixel][channel] results into
a private scratch, and writes them out transposed (NCHW) or as they are (channels-last). Nothing that one thread writes
is read by another, and every output is summed by one task in one order: the number of threads changes no bit.
"""

from cython.parallel cimport prange, threadid
from libc.math cimport INFINITY
from libc.stdint cimport int32_t, uint64_t
from libc.string cimport memset

from cyconv.kernels._kernel cimport NO_MEMORY, Convolution, four, set_edges, three, two
from cyconv.kernels._workspace cimport Block, borrow, discard, give, zeroed
from cyconv.kernels.direct_parts cimport (
    Phase,
    Shape,
    Weights,
    at_depth,
    count_inside,
    first_inside,
    interleave,
    pack_block,
    patch_place,
    spread_plane,
    write_block,
    write_patches,
)
from cyconv.kernels.shares cimport Share, next_task, share_out
from cyconv.kernels.simd cimport (
    CYCONV_TILE_PIXELS,
    CYCONV_VECTOR_BYTES,
    LANES_f32,
    LANES_f64,
    PAIR_CHANNELS,
    PAIR_VECTORS,
    PIXEL_CHANNELS,
    PIXEL_VECTORS,
    cold,
    copy_row,
    fetch,
    fetching_tile,
    flush_denormals,
    lanes,
    pair_tile,
    pixel_tile,
    real,
    rectify,
    restore_denormals,
    tile,
    transpose,
)
from cyconv.kernels.source cimport (
    Source,
    block_size,
    channel_start,
    channel_step,
    column_place,
    copy_block,
    index,
    lay_out,
    meets,
    set_grid,
    slice_step,
    source_depth,
)

DEF NEAR_BYTES = 512 << 10  # of weights that stay in a second-level cache
# What the plan needs to know of the instruction set.
TILE_PIXELS = CYCONV_TILE_PIXELS
LANES = {"f": LANES_f32, "d": LANES_f64}
MOST_PIXEL_CHANNELS = PIXEL_CHANNELS
MOST_PAIR_CHANNELS = PAIR_CHANNELS


cdef class Walk(Convolution):
    """A convolution of one geometry, dtype and memory order, ready to run on arrays of that kind."""

    cdef Shape shape
    cdef Phase* phases
    cdef index weight_out, weight_in, weight_slice, weight_group  # element strides of the weight array
    cdef bint weight_rows  # the weight array is [out][reduction], rows contiguous, in the order of the table
    cdef bint single  # float

    def __cinit__(self):
        self.phases = NULL
        self.shape.depth_phases = NULL
        self.shape.source.edges.places = NULL

    def __init__(self, *, str dtype, source, out, depth, index groups, bint channels_last, step, out_step, phases,
                 block, index task_blocks, index reduction, bint packed, bint tap_major, bint pixel_vectors,
                 bint paired, bint rectified, weight_strides, bint weight_rows, edges, grid):
        """``source``, ``out``: (channels, depth, height, width); ``depth``: (slices, step, first, dilation, divisor);
        ``phases``: (row, column, ((row displacement, column displacement, tap of the weight array), ...)) each;
        ``edges``: as set_edges takes them; ``grid``: of the output, as set_grid takes it."""
        cdef Shape* s = &self.shape
        cdef index width = LANES[dtype]
        cdef index itemsize = 4 if dtype == "f" else 8, most
        cold()
        self.single = dtype == "f"
        four(source, &s.source.channels, &s.source.depth, &s.source.height, &s.source.width)
        three(depth[:3], &s.source.slices, &s.source.depth_step, &s.source.depth_first)
        two(depth[3:], &s.source.depth_dilation, &s.source.depth_divisor)
        s.source.channels_last, s.source.packed = channels_last, packed
        set_edges(&s.source.edges, edges)
        four(out, &s.out_channels, &s.out_depth, &s.out_height, &s.out_width)
        s.groups, s.rectified = groups, rectified
        s.spread = set_grid(&s.grid, grid)
        s.source.group_channels, s.group_out = s.source.channels // groups, s.out_channels // groups
        s.group_in = s.source.group_channels * s.source.slices
        two(step, &s.step_row, &s.step_column)
        two(out_step, &s.out_step_row, &s.out_step_column)
        two(block, &s.block_rows, &s.block_columns)
        s.reduction = reduction
        s.pixel_vectors, s.paired, s.tap_major = pixel_vectors, paired, tap_major
        if pixel_vectors:
            most = PAIR_CHANNELS if paired else PIXEL_CHANNELS
            s.channel_blocks = (s.group_out + most - 1) // most
            s.block_channels = (s.group_out + s.channel_blocks - 1) // s.channel_blocks
            s.padded_channels = s.group_out
        else:
            s.block_channels = 2 * width
            s.padded_channels = (s.group_out + width - 1) // width * width
        s.channel_blocks = (s.group_out + s.block_channels - 1) // s.block_channels
        s.task_blocks = task_blocks
        s.task_groups = (s.channel_blocks + task_blocks - 1) // task_blocks
        s.row_blocks = (s.out_height + s.block_rows - 1) // s.block_rows
        s.column_blocks = (s.out_width + s.block_columns - 1) // s.block_columns
        four(weight_strides, &self.weight_out, &self.weight_in, &self.weight_slice, &self.weight_group)
        self.weight_rows = weight_rows
        # At stride 2 the pixels of neighbouring windows come to lie side by side.
        s.source.split = pixel_vectors and s.step_column == 2
        self.lay_out_source(phases, itemsize)
        self.fill_tables(phases)
        self.packed_size = groups * s.padded_channels * s.taps * s.group_in
        # Vectors over pixels go straight to the output where there is one phase, or two are brought together.
        straight = paired or (pixel_vectors and s.phases == 1 and s.source.depth_divisor == 1 and not s.spread)
        if s.spread and paired:  # vectors of pixels over the end of a row
            s.scratch = 2 * width * PAIR_VECTORS * PAIR_CHANNELS
        else:
            pixels = s.block_rows * s.block_columns
            s.scratch = 0 if straight else pixels * s.block_channels * (2 if s.spread else 1)
        # A vector of pixels may begin in the last row of the block and end behind it.
        self.thread_bytes = ((s.scratch + block_size(&s.source) + 2 * width) * itemsize + 4095) // 4096 * 4096

    cdef lay_out_source(self, phases, index itemsize):
        """Where rows, pixels and channels of a source block lie."""
        cdef Shape* s = &self.shape
        cold()
        rows = [tap[0] for phase in phases for tap in phase[2]] or [0]
        columns = [tap[1] for phase in phases for tap in phase[2]] or [0]
        s.first_row, s.first_column = min(rows), min(columns)
        s.source.rows = (s.block_rows // s.out_step_row - 1) * s.step_row + max(rows) - min(rows) + 1
        s.source.columns = (s.block_columns // s.out_step_column - 1) * s.step_column + max(columns) - min(columns) + 1
        if s.spread and s.paired:
            s.source.columns = PAIR_VECTORS * (CYCONV_VECTOR_BYTES // itemsize)  # of one tile at a time
        lay_out(&s.source, itemsize)

    cdef fill_tables(self, phases):
        cdef Shape* s = &self.shape
        cdef Phase* phase
        cdef index c, k, t
        cold()
        order, in_step = self.order_slices(), self.weight_in if self.weight_rows else self.weight_out
        s.phases = len(phases)
        s.taps = 0
        self.phases = <Phase*>zeroed(s.phases, sizeof(Phase))
        if self.phases == NULL:
            raise MemoryError("cyconv: no memory for the tap tables")
        for p, (row, column, taps) in enumerate(phases):
            phase = &self.phases[p]
            phase.row, phase.column = row, column
            phase.weights = s.taps * s.group_in
            phase.taps = len(taps) * s.group_in
            s.taps += len(taps)
            # One allocation: table, order, displacements.
            phase.table = <int32_t*>zeroed(2 * phase.taps + 2 * len(taps) + 1, sizeof(int32_t))
            if phase.table == NULL:
                raise MemoryError("cyconv: no memory for the tap tables")
            phase.order = phase.table + phase.taps
            phase.displacement = phase.order + phase.taps
            for i, (tap_row, tap_column, tap) in enumerate(taps):
                phase.displacement[2 * i], phase.displacement[2 * i + 1] = tap_row, tap_column
                t = i * s.group_in if s.tap_major else i
                for c, k in order:
                    phase.table[t] = (c * channel_step(&s.source) + k * slice_step(&s.source)
                                      + (tap_row - s.first_row) * s.source.pitch
                                      + column_place(&s.source, tap_column - s.first_column))
                    # Of rows: where the weight stands; otherwise which of [reduction channel][tap] it is.
                    phase.order[t] = c * in_step + k * self.weight_slice + tap
                    t += 1 if s.tap_major else len(taps)

    cdef order_slices(self):
        """Return (channel, slice) in the order of the reduction: slices that the same output depths take together.

        Output depth d takes slice k where d * step + first + k * dilation can be divided by the divisor: with a
        divisor of D (and a step of 1), each slice for one remainder of d by D.
        """
        cdef Source* s = &self.shape.source
        cold()
        slices, channels, divisor = range(s.slices), range(s.group_channels), range(s.depth_divisor)
        self.shape.depth_phases = <index*>zeroed(s.depth_divisor + 1, sizeof(index))
        if self.shape.depth_phases == NULL:
            raise MemoryError("cyconv: no memory for the tap tables")
        if s.depth_divisor == 1:
            self.shape.depth_phases[1] = s.slices
            return [(c, k) for c in channels for k in slices]
        groups = [[k for k in slices if meets(s, d, k)] for d in divisor]
        for d in divisor:
            self.shape.depth_phases[d + 1] = self.shape.depth_phases[d] + len(groups[d])
        return [(c, k) for group in groups for c in channels for k in group]

    def __dealloc__(self):
        cdef index p
        discard(self.shape.depth_phases)
        discard(self.shape.source.edges.places)
        if self.phases != NULL:
            for p in range(self.shape.phases):
                discard(self.phases[p].table)
            discard(self.phases)

    cdef int order(self, void* packed, const void* weight, int threads) noexcept nogil:
        if self.single:
            return pack_weights[float](self, <float*>packed, <const float*>weight, threads)
        return pack_weights[double](self, <double*>packed, <const double*>weight, threads)

    cdef int execute(self, void* out, const void* source, const void* packed, const void* bias, index images,
                     int threads) noexcept nogil:
        if self.single:
            return run_walk[float](self, <float*>out, <const float*>source, <const float*>packed, <const float*>bias,
                                   images, threads)
        return run_walk[double](self, <double*>out, <const double*>source, <const double*>packed, <const double*>bias,
                                images, threads)


cdef int pack_weights(Walk walk, real* packed, const real* weight, int threads) noexcept nogil:
    cdef Shape* s = &walk.shape
    cdef Phase* phases = walk.phases
    cdef index blocks = s.groups * s.channel_blocks, i
    cdef Weights w = Weights(walk.weight_out, walk.weight_in, walk.weight_group, walk.weight_rows)
    # Columns are transposed in a place of their own first.
    cdef index room = 0 if w.rows or w.out == 1 else s.source.group_channels * w.out * s.block_channels
    cdef index per_thread = (room * <index>sizeof(real) + 4095) // 4096 * 4096
    if threads > blocks:
        threads = <int>max(blocks, 1)
    cdef Block memory = Block(NULL, 0)
    if per_thread and borrow(&memory, threads * per_thread):
        return NO_MEMORY
    cdef char* private = <char*>memory.data
    if threads == 1:
        for i in range(blocks):
            pack_block(s, phases, &w, weight, packed, <real*>private, i)
    else:
        for i in prange(blocks, schedule="static", num_threads=threads):
            pack_block(s, phases, &w, weight, packed, <real*>(private + threadid() * per_thread), i)
    give(&memory)
    return 0


cdef int run_walk(Walk walk, real* out, const real* source, const real* packed, const real* bias, index images,
                  int threads) noexcept nogil:
    cdef Shape s = walk.shape
    cdef Phase* phases = walk.phases
    cdef index i, k
    cdef index tasks = images * s.row_blocks * s.column_blocks * s.groups * s.task_groups
    cdef index padded = s.groups * s.padded_channels, per_thread = walk.thread_bytes
    if threads > tasks:
        threads = <int>max(tasks, 1)
    cdef index start_bytes = (padded * sizeof(real) + 63) // 64 * 64
    cdef Block memory
    if borrow(&memory, start_bytes + threads * (per_thread + 64) + 4096):
        return NO_MEMORY
    cdef real* start = <real*>memory.data
    cdef Share* shares = <Share*>(<char*>memory.data + start_bytes)
    cdef index held = -1
    cdef char* private = <char*>memory.data + (start_bytes + threads * 64 + 4095) // 4096 * 4096
    s.images = images
    memset(start, 0, padded * sizeof(real))
    if bias != NULL:
        for i in range(s.groups):
            for k in range(s.group_out):
                start[i * s.padded_channels + k] = bias[i * s.group_out + k]
    if threads == 1:
        for i in range(tasks):
            run_task(&s, phases, out, source, packed, start, <real*>private, &held, i)
    else:
        # Tasks of a block of pixels follow each other. In turn, each thread takes a part of the weights for all pixels.
        share_out(shares, tasks, threads, walk.packed_size * <index>sizeof(real) > NEAR_BYTES)
        for i in prange(threads, schedule="static", num_threads=threads):
            run_share(&s, phases, out, source, packed, start, <real*>(private + i * per_thread), shares, threads,
                      <int>i)
    give(&memory)
    return 0


cdef void run_share(const Shape* s, const Phase* phases, real* out, const real* source, const real* packed,
                    const real* start, real* scratch, Share* shares, int threads, int own) noexcept nogil:
    """What one thread does; ``held``: which source block its private memory holds."""
    cdef index held = -1, task = next_task(shares, threads, own)
    while task >= 0:
        run_task(s, phases, out, source, packed, start, scratch, &held, task)
        task = next_task(shares, threads, own)


cdef void run_task(const Shape* s, const Phase* phases, real* out, const real* source, const real* packed,
                   const real* start, real* scratch, index* held, index task) noexcept nogil:
    cdef index task_group = task % s.task_groups, block = task // s.task_groups
    cdef index group = block % s.groups
    cdef index column = block // s.groups % s.column_blocks * s.block_columns
    cdef index row = block // s.groups // s.column_blocks % s.row_blocks * s.block_rows
    cdef index image = block // s.groups // s.column_blocks // s.row_blocks
    cdef index source_row = row // s.out_step_row * s.step_row + s.first_row
    cdef index source_column = column // s.out_step_column * s.step_column + s.first_column
    cdef index rows = min(s.block_rows, s.out_height - row), columns = min(s.block_columns, s.out_width - column)
    cdef index b, first, have, channels, last = min(s.channel_blocks, (task_group + 1) * s.task_blocks)
    cdef const real* weights
    cdef const real* bias
    cdef real* copy = scratch + s.scratch
    cdef const real* origin
    cdef uint64_t mode = flush_denormals()
    cdef index volume = s.source.channels * s.source.depth * s.source.height * s.source.width
    cdef index depth = image % s.out_depth, area = s.out_height * s.out_width
    image //= s.out_depth
    source = channel_start(&s.source, source + image * volume, group * s.source.group_channels)
    if not s.spread:
        out += (image * s.out_channels * s.out_depth + depth * (s.out_channels if s.source.channels_last else 1)) * area
    if not s.source.packed or (s.spread and s.paired):
        # Without padding there is such a depth.
        origin = (source + source_depth(&s.source, depth, 0) * s.source.height * s.source.pitch
                  + source_row * s.source.pitch + source_column * s.source.pixel)
    else:
        origin = copy
        if held[0] != block:
            copy_block(&s.source, source, s.source.group_channels, copy, depth, source_row, source_column)
            held[0] = block
    if s.spread and s.paired:
        first = task_group * s.task_blocks * s.block_channels
        compute_patches(s, phases, origin, packed + (group * s.group_out + first) * s.taps * s.group_in,
                        start + group * s.group_out + first, min(s.group_out, last * s.block_channels) - first, scratch,
                        out + (image * s.out_channels + group * s.group_out + first)
                        * (s.grid.depth * s.grid.height * s.grid.width), column, columns)
    elif s.spread:
        compute_spread(s, phases, origin, packed, start, scratch,
                       out + image * s.out_channels * (s.grid.depth * s.grid.height * s.grid.width), group,
                       task_group * s.task_blocks, last, column, columns)
    elif s.paired:
        first = task_group * s.task_blocks * s.block_channels
        compute_pairs(s, phases, origin, packed + (group * s.group_out + first) * s.taps * s.group_in,
                      start + group * s.group_out + first, min(s.group_out, last * s.block_channels) - first,
                      out + (group * s.group_out + first) * s.out_depth * area + row * s.out_width + column, depth,
                      rows, columns)
    elif s.pixel_vectors and s.scratch == 0:
        first = task_group * s.task_blocks * s.block_channels
        compute_rows(s, &phases[0], origin, packed + (group * s.group_out + first) * s.taps * s.group_in,
                     start + group * s.group_out + first, min(s.group_out, last * s.block_channels) - first,
                     out + (group * s.group_out + first) * s.out_depth * area + row * s.out_width + column, row,
                     rows, columns)
    else:
        for b in range(task_group * s.task_blocks, last):
            first = b * s.block_channels
            have = min(s.block_channels, s.group_out - first)
            channels = min(s.block_channels, s.padded_channels - first)
            weights = packed + (group * s.padded_channels + first) * s.taps * s.group_in
            bias = start + group * s.padded_channels + first
            if s.pixel_vectors:
                compute_phase_rows(s, phases, origin, weights, bias, <int>channels, scratch,
                                   out + (group * s.group_out + first) * s.out_depth * area + row * s.out_width
                                   + column, depth, rows, columns)
                continue
            compute_block(s, phases, origin, weights, bias, <int>(channels // lanes(source)), scratch, depth, row,
                          column, rows, columns)
            write_block(s, scratch, out, group * s.group_out + first, have, channels, row, column, rows, columns)
    restore_denormals(mode)


cdef void compute_spread(const Shape* s, const Phase* phase, const real* origin, const real* packed,
                         const real* start, real* scratch, real* out, index group, index begin, index end,
                         index column, index columns) noexcept nogil:
    """Some blocks of output channels for a stretch of the grid, side by side in scratch, and from there to the planes
    of the output."""
    cdef Shape plane = s[0]  # of the stretch
    cdef index b, k, first, have, channels, volume = s.grid.depth * s.grid.height * s.grid.width
    cdef real* results = scratch
    cdef const real* weights
    cdef const real* bias
    plane.out_depth, plane.out_height, plane.out_width = 1, 1, columns
    for b in range(begin, end):
        first = b * s.block_channels
        have = min(s.block_channels, s.group_out - first)
        channels = min(s.block_channels, s.padded_channels - first)
        weights = packed + (group * s.padded_channels + first) * s.group_in
        bias = start + group * s.padded_channels + first
        if s.pixel_vectors:
            compute_rows(&plane, phase, origin, weights, bias, have, results, 0, 1, columns)
        else:
            compute_block(&plane, phase, origin, weights, bias, <int>(channels // lanes(origin)), scratch, 0, 0,
                          column, 1, columns)
            results = scratch + s.block_columns * s.block_channels
            if s.rectified:
                rectify(scratch, columns * channels)
            transpose(<const real*>scratch, channels, columns, have, results, columns)
        for k in range(have):
            spread_plane(&s.grid, <const real*>results + k * columns,
                         0 if s.rectified and bias[k] < 0 else bias[k],
                         out + (group * s.group_out + first + k) * volume, column, columns)


cdef void compute_block(const Shape* s, const Phase* phases, const real* origin, const real* weights,
                        const real* start, int vectors, real* scratch, index depth, index row, index column,
                        index rows, index columns) noexcept nogil:
    """All phases of a block of output pixels for one block of output channels, into scratch [row][column][channel]."""
    cdef index width = lanes(origin), channels = vectors * width, p, t, length
    cdef Phase part
    cdef const Phase* phase = &part
    cdef index phase_rows, phase_columns
    cdef real* to
    for p in range(s.phases):
        part = at_depth(s, &phases[p], depth)
        phase_rows = (rows - phase.row + s.out_step_row - 1) // s.out_step_row
        phase_columns = (columns - phase.column + s.out_step_column - 1) // s.out_step_column
        if phase_rows <= 0 or phase_columns <= 0:
            continue
        if s.tap_major:
            compute_taps(s, phase, origin, weights, start, vectors, scratch, row, column, rows, columns)
            continue
        to = scratch + (phase.row * columns + phase.column) * channels
        t = 0
        while True:
            length = min(s.reduction, phase.taps - t)
            compute_phase(s, origin, phase.table + t, length, weights + (phase.weights + t) * channels,
                          start if t == 0 else NULL, vectors, to, phase_rows, phase_columns, columns)
            t += length
            if t >= phase.taps:
                break


cdef void compute_phase(const Shape* s, const real* origin, const int32_t* table, index length, const real* weights,
                        const real* start, int vectors, real* to, index rows, index columns,
                        index out_columns) noexcept nogil:
    """One stretch of the reduction for the pixels of a phase, cut evenly into tiles; no start: add to what is there."""
    cdef index channels = vectors * lanes(origin)
    cdef index ldo = s.out_step_column * channels, out_second = s.out_step_row * out_columns * channels
    cdef index step = s.step_column * s.source.pixel, second = s.step_row * s.source.pitch
    # Narrow maps: two rows make one tile.
    cdef int most = CYCONV_TILE_PIXELS
    cdef int pairs = 2 if rows > 1 and (vectors == 1 or 2 * columns <= most) else 1
    cdef index pieces = (columns + most - 1) // most
    cdef index i = 0, j, left, pixels
    cdef int height
    cdef const real* q
    cdef real* o
    # Planes that are read where they lie: the pixels of every channel come from a place of their own, perhaps far away.
    cdef bint far = rows == 1 and start != NULL and step == 1 and s.taps == 1 and not s.source.packed
    while i < rows:
        height = <int>min(pairs, rows - i)
        left = columns
        q = origin + i * second
        o = to + i * out_second
        for j in range(pieces):
            pixels = (left + pieces - j - 1) // (pieces - j)
            if far:
                fetching_tile(<int>pixels, vectors, q, step, table, length, weights, channels, start, 0, o, ldo,
                              2 * most)
            elif start != NULL:
                tile(height, <int>pixels, vectors, q, step, second, table, length, weights, channels, start, 0, o, ldo,
                     out_second)
            else:
                tile(height, <int>pixels, vectors, q, step, second, table, length, weights, channels, <const real*>o,
                     ldo, o, ldo, out_second)
            left -= pixels
            q += pixels * step
            o += pixels * ldo
        i += height


cdef void compute_taps(const Shape* s, const Phase* phase, const real* origin, const real* weights, const real* start,
                       int vectors, real* scratch, index row, index column, index rows, index columns) noexcept nogil:
    """One tap after the other, each for the output pixels whose window it meets inside the image: none of the padding
    is multiplied, which is half of the work where the dilation or a small map makes padding large."""
    cdef index channels = vectors * lanes(origin), i, j, t, tap, length, top, bottom, left, right, at
    for i in range(rows * columns):
        for j in range(channels):
            scratch[i * channels + j] = start[j]
    for tap in range(phase.taps // s.group_in):
        at = row * s.step_row + phase.displacement[2 * tap]
        top = first_inside(at, s.step_row)
        bottom = count_inside(at, s.step_row, s.source.height, rows)
        at = column * s.step_column + phase.displacement[2 * tap + 1]
        left = first_inside(at, s.step_column)
        right = count_inside(at, s.step_column, s.source.width, columns)
        if top >= bottom or left >= right:
            continue
        t = 0
        while t < s.group_in:
            length = min(s.reduction, s.group_in - t)
            compute_phase(s, origin + top * s.step_row * s.source.pitch + left * s.step_column * s.source.pixel,
                          phase.table + tap * s.group_in + t, length, weights + (tap * s.group_in + t) * channels,
                          <const real*>NULL, vectors, scratch + (top * columns + left) * channels, bottom - top,
                          right - left, columns)
            t += length


cdef void compute_rows(const Shape* s, const Phase* phase, const real* origin, const real* weights, const real* bias,
                       index channels, real* out, index row, index rows, index columns) noexcept nogil:
    """A block of output pixels from ``row`` on, vectors over pixels, straight into the planes of the output.

    All channels of one tile of pixels first: the pixels under its windows stay in the first-level cache. Where the taps
    follow each other, it takes those from the first to the last that one of its rows meets inside the image.
    """
    cdef index width = lanes(origin), i = 0, j = 0, k, count, above, begin = 0, end = phase.taps
    cdef int group = PIXEL_VECTORS(<int>min(s.block_channels, channels))
    # The last block of channels may be narrower, and its tile wider: what is surplus is computed twice.
    cdef index start[8]
    cdef index to[8]
    cdef index stored = min(width, columns), second = s.step_row * s.source.pitch
    while i < rows:
        count, above = 0, i
        while count < group and i < rows:
            # The last vector of a row ends with the row: what it shares with the one before is computed twice.
            k = min(j, columns - stored)
            start[count] = i * second + k
            to[count] = i * s.out_width + k
            count += 1
            j += width
            if j >= columns:
                i, j = i + 1, 0
        for k in range(count, 8):
            start[k], to[k] = start[count - 1], to[count - 1]
        if s.tap_major:
            # An end at the start of a row is that of the row before.
            k = (row + (i if j > 0 else i - 1)) * s.step_row
            end = phase.taps // s.group_in
            while end > 0 and not meets_rows(s, phase, end - 1, (row + above) * s.step_row, k):
                end -= 1
            begin = 0
            while begin < end and not meets_rows(s, phase, begin, (row + above) * s.step_row, k):
                begin += 1
            begin, end = begin * s.group_in, end * s.group_in
        compute_vectors(s, phase, begin, end, origin, origin + (i * second + j if i < rows else 0), start, weights,
                        bias, channels, out, to, stored)


cdef inline bint meets_rows(const Shape* s, const Phase* phase, index tap, index first, index last) noexcept nogil:
    """Whether a tap meets the image between the windows that begin in two rows."""
    cdef index down = phase.displacement[2 * tap]
    return last + down >= 0 and first + down < s.source.height


cdef void compute_vectors(const Shape* s, const Phase* phase, index begin, index end, const real* origin,
                          const real* ahead, const index* start, const real* weights, const real* bias,
                          index channels, real* out, const index* to, index stored) noexcept nogil:
    """One tile of pixels, by some of the products; ``ahead``: what the next one will read, fetched meanwhile line after
    line."""
    cdef index plane = s.out_depth * s.out_height * s.out_width, k = 0, width = lanes(origin)
    cdef real floor = 0 if s.rectified else -INFINITY
    cdef int some
    while k < channels:
        some = <int>min(s.block_channels, channels - k)
        pixel_tile(some, origin, ahead, start, phase.table + begin, end - begin,
                   weights + k * phase.taps + begin * some, bias + k, floor, out + k * plane, plane, to, stored)
        k += some
        ahead += width


cdef void compute_pairs(const Shape* s, const Phase* phases, const real* origin, const real* weights, const real* bias,
                        index channels, real* out, index depth, index rows, index columns) noexcept nogil:
    """A block of output pixels, vectors over pixels, two phases of each row together: straight into the output.

    All channels of one tile of pixels first, as in compute_rows; an even number of ``columns``.
    """
    cdef index width = lanes(origin), half = columns // 2, stored = min(width, half), p, i, j, k, v, count, some
    cdef index area = s.out_depth * s.out_height * s.out_width
    cdef index start[PAIR_VECTORS]
    cdef index plane[PAIR_VECTORS]
    cdef real* to[PAIR_VECTORS]
    cdef const real* w
    cdef Phase even, odd
    for p in range(s.out_step_row):
        even, odd = at_depth(s, &phases[2 * p], depth), at_depth(s, &phases[2 * p + 1], depth)
        i = j = 0
        while p + i * s.out_step_row < rows:
            count = 0
            while count < PAIR_VECTORS and p + i * s.out_step_row < rows:
                # As there, the last vector of a row ends with the row.
                k = min(j, half - stored)
                start[count] = i * s.source.pitch + k
                to[count] = out + (p + i * s.out_step_row) * s.out_width + 2 * k
                count += 1
                j += width
                if j >= half:
                    i, j = i + 1, 0
            for k in range(PAIR_VECTORS):
                plane[k] = area
                if k >= count:
                    start[k], to[k] = start[count - 1], to[count - 1]
            k, w = 0, weights
            while k < channels:
                some = min(s.block_channels, channels - k)
                compute_pair(s, &even, &odd, some, origin, start, w, bias + k, to, plane, stored)
                for v in range(PAIR_VECTORS):
                    to[v] += some * area
                w += some * s.taps * s.group_in
                k += some


cdef inline void compute_pair(const Shape* s, const Phase* even, const Phase* odd, index channels, const real* origin,
                              const index* start, const real* weights, const real* bias, real** to,
                              const index* plane, index stored) noexcept nogil:
    """One tile of pixels of two phases, for a block of channels."""
    pair_tile(<int>channels, origin, start, even.table, odd.table, even.taps, weights + even.weights * channels,
              weights + odd.weights * channels, bias, <real>(0 if s.rectified else -INFINITY), to, plane, stored)


cdef void compute_patches(const Shape* s, const Phase* phases, const real* source, const real* weights,
                          const real* bias, index channels, real* scratch, real* out, index column,
                          index columns) noexcept nogil:
    """A stretch of source pixels, each of which makes a patch of output pixels of its own: vectors over pixels, two
    phases at once, straight into the output.

    Vectors know no rows: those over the end of one go to scratch first. The pixels of a tile are copied: as they lie,
    half of the loads would be of two cache lines, and channels meet in few sets of the cache.
    """
    cdef index width = lanes(source), volume = s.grid.depth * s.grid.height * s.grid.width
    cdef index i, j = 0, k, c, p, count, some, shift, asked, calls
    cdef index place[PAIR_VECTORS]  # in a channel of the output; -1 where a row ends before the vector does
    cdef index at[PAIR_VECTORS]  # pixel of the stretch
    cdef index start[PAIR_VECTORS]
    cdef index plane[PAIR_VECTORS]
    cdef real* to[PAIR_VECTORS]
    cdef real* copy = scratch + s.scratch
    cdef const real* w
    cdef Phase odd
    calls = (channels + s.block_channels - 1) // s.block_channels * s.phases // 2
    while j < columns:
        count = 0
        for i in range(PAIR_VECTORS):
            # The last vector of the stretch ends with it.
            at[i], start[i] = min(j, columns - width), i * width
            place[i] = patch_place(&s.grid, column + at[i], width)
            count += j < columns
            j += width
        for c in range(s.source.group_channels):
            for i in range(PAIR_VECTORS):
                copy_row(copy + c * s.source.plane + i * width, source + c * s.source.width + at[i], width)
        k, asked, w = 0, 0, weights
        while k < channels:
            some = min(s.block_channels, channels - k)
            for p in range(0, s.phases, 2):
                shift = phases[p].row * s.grid.width
                for i in range(PAIR_VECTORS):
                    if place[i] < 0:
                        to[i], plane[i] = scratch + 2 * i * width, 2 * width * PAIR_VECTORS
                    else:
                        to[i], plane[i] = out + k * volume + place[i] + shift, volume
                odd = phases[p + 1]
                odd.table = phases[p].table  # all tables are the same
                compute_pair(s, &phases[p], &odd, some, <const real*>copy, start, w, bias + k, to, plane, width)
                for i in range(count):
                    if place[i] < 0:
                        for c in range(some):
                            write_patches(&s.grid, <const real*>to[i] + c * plane[i], out + (k + c) * volume + shift,
                                          column + at[i], width)
                # What the next tile reads: some channels at a time.
                c = min(s.source.group_channels, asked + (s.source.group_channels + calls - 1) // calls)
                while asked < c and j < columns:
                    fetch(source + asked * s.source.width + j, (PAIR_VECTORS + 1) * CYCONV_VECTOR_BYTES)
                    asked += 1
            w += some * s.taps * s.group_in
            k += some


cdef void compute_phase_rows(const Shape* s, const Phase* phases, const real* origin, const real* weights,
                             const real* bias, int channels, real* scratch, real* out, index depth, index rows,
                             index columns) noexcept nogil:
    """A block of output pixels of a few channels, vectors over the pixels of a phase: into [phase][channel][pixel] of
    scratch, and from there to the planes of the output, where the phases lie between each other."""
    cdef Shape plane = s[0]  # of a phase
    cdef Phase part
    cdef index section = channels * (s.block_rows // s.out_step_row) * (s.block_columns // s.out_step_column)
    cdef index across = min(s.out_step_column, s.out_width), p, c, r, length
    plane.out_depth = 1
    for p in range(s.phases):
        part = at_depth(s, &phases[p], depth)
        plane.out_height = (rows - part.row + s.out_step_row - 1) // s.out_step_row
        plane.out_width = (columns - part.column + s.out_step_column - 1) // s.out_step_column
        if plane.out_height > 0 and plane.out_width > 0:
            compute_rows(&plane, &part, origin, weights + part.weights * channels, bias, channels,
                         scratch + p * section, 0, plane.out_height, plane.out_width)
    for c in range(channels):
        for r in range(rows):
            p = r % s.out_step_row
            length = (rows - p + s.out_step_row - 1) // s.out_step_row  # rows of the phase
            interleave(scratch + p * across * section, section, c * length + r // s.out_step_row, across,
                       s.out_step_column, columns, out + (c * s.out_depth * s.out_height + r) * s.out_width)
