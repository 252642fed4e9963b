"""Convolution as a product of matrices: im2col, then BLAS.

The source pixels that each output pixel reads are copied side by side ("columns"), and the convolution of a group
becomes the product of its weights (K, L = C R S) and columns (L, P Q). The two gradients are the other two products
of the same three matrices: the input gradient is summed from columns (col2im), the weight gradient is made of them.

    forward           out     = weight   columns
    input gradient    columns = weight^T grad_out, added to the source pixels they came from
    weight gradient   grad    = grad_out columns^T, summed over images

Columns never stand in memory as a whole: a task makes those of a block of output pixels and of a chunk of input
channels in a private buffer within the workspace, multiplies, and goes on. They lie [c][r][s][pixel] for NCHW and
[pixel][r][s][c] for channels-last arrays, so that copying goes along contiguous memory in both; for the latter the
weights are brought into the order [k][r][s][c] first. A 1x1 kernel at stride 1 without padding needs no columns: the
source is the matrix.

Tasks are cut by geometry alone, every element is summed by one task in one order (or in partial sums added in order),
and BLAS itself runs on one thread: the number of threads changes no bit.
"""

from cython.parallel cimport prange, threadid
from libc.stdint cimport uint64_t
from libc.string cimport memcpy, memset

from cyconv.kernels._blas cimport controlled, gemm, hold, mute, release, unmute
from cyconv.kernels._kernel cimport NO_MEMORY, Convolution, GradientOfWeights, set_edges, three, two
from cyconv.kernels._workspace cimport Block, borrow, discard, give
from cyconv.kernels.columns cimport Cut, Shape, at_out, at_source, gather, scatter
from cyconv.kernels.simd cimport cold, flush_denormals, real, restore_denormals, transpose
from cyconv.kernels.source cimport index

# Columns that are read right after they were written should still be in the second-level cache.
CACHE = 512 << 10
# Terms of one product. BLAS copies blocks of about this many terms; longer ones only push the output out of the cache.
DEPTH = 640
# Output pixels and channels, terms below which BLAS's own copy of the other operand shows.
FEWEST_PIXELS = 256
FEWEST_CHANNELS = 128
FEWEST_TERMS = 192
# Tasks at least, where the work can be cut so: threads have something to share at batch 1.
cdef index TASKS = 8
# Partial sums of the weight gradient.
cdef index MOST_SUMS = 8
# Channels of a bias gradient that are summed at a time.
DEF CHANNELS = 64


def evenly(index total, index most, index step=1):
    """Return the size of the fewest equal pieces of ``total``, at most ``most``; in steps of ``step`` where it can."""
    cdef index pieces, size
    cold()
    most = max(most, 1)
    pieces = max((total + most - 1) // most, 1)
    size = max((total + pieces - 1) // pieces, 1)
    if pieces > 1 and most >= step:
        size = min((size + step - 1) // step * step, most // step * step)
    return size


def pitch_of(index pixels):
    """Return the distance of rows of ``pixels``: an odd number of cache lines, lest rows share one set of the cache."""
    return pixels if pixels < 64 else ((pixels + 15) // 16 | 1) * 16


def fitted(index channels, index pixels, index taps, index room):
    """Return (channels, pixels), halved until columns of them fit into ``room`` elements, pixels first down to some."""
    cold()
    while channels * taps * pitch_of(pixels) > room and channels * pixels > 1:
        if pixels > 64 or channels == 1:
            pixels = evenly(pixels, pixels // 2, 8)
        else:
            channels = evenly(channels, channels // 2)
    return channels, pixels


def forward_cut(index group_in, index group_out, index groups, index taps, index out_area, bint direct, index room,
                index cache):
    """Return (input channels, output pixels, output channels) of one product of the forward pass."""
    cdef index channels, pixels, blocks, outs
    cold()
    if direct:
        channels, pixels = group_in, out_area
    else:
        channels = evenly(group_in, max(DEPTH // taps, 1))
        pixels = evenly(out_area, max(cache // (channels * taps), FEWEST_PIXELS), 8)
        channels, pixels = fitted(channels, pixels, taps, room)
    wanted = max(TASKS // groups, 1)
    pixels = evenly(out_area, min(pixels, max(out_area // wanted, FEWEST_PIXELS)), 8)
    blocks = (out_area + pixels - 1) // pixels
    outs = evenly(group_out, max(group_out * blocks // wanted, FEWEST_CHANNELS), 8) if blocks < wanted else group_out
    return channels, pixels, outs


def gradient_cut(index group_in, index group_out, index groups, index taps, index out_area, bint direct, index room,
                 index cache):
    """Return (input channels, output pixels, output channels) of one product of either gradient."""
    cdef index channels, pixels, wanted = max(TASKS // groups, 1)
    cold()
    channels = evenly(group_in, max(min(DEPTH // taps, max(group_in // wanted, FEWEST_TERMS // taps)), 1))
    if direct:
        # Blocks of pixels are tasks as well as chunks of channels are, so that these may be larger.
        channels = evenly(group_in, max(2 * FEWEST_TERMS, channels))
        pixels = max(out_area * channels // group_in // wanted, FEWEST_PIXELS)
    else:
        pixels = evenly(out_area, max(cache // (channels * taps), FEWEST_PIXELS), 8)
        channels, pixels = fitted(channels, pixels, taps, room)
    return channels, evenly(out_area, pixels, 8), group_out


cdef class Columns:
    """A convolution of one geometry, dtype and memory order, ready to run on arrays of that kind."""

    cdef Shape shape
    cdef Cut forward_cut, gradient_cut
    cdef index room  # elements of the workspace
    cdef bint single  # float
    cdef readonly index thread_bytes  # private memory of each thread
    cdef readonly index block_pixels  # output pixels whose columns stand in memory at a time in the forward pass

    def __cinit__(self):
        self.shape.edges.places = NULL

    def __init__(self, *, str dtype, source, out, kernel, stride, padding, dilation, index groups, bint channels_last,
                 edges, index workspace):
        """``edges``: as set_edges takes them."""
        cdef Shape* s = &self.shape
        cdef index itemsize = 4 if dtype == "f" else 8
        cold()
        self.single = dtype == "f"
        three(source, &s.channels, &s.height, &s.width)
        three(out, &s.out_channels, &s.out_height, &s.out_width)
        two(kernel, &s.rows, &s.columns)
        two(stride, &s.stride_row, &s.stride_column)
        two(dilation, &s.dilation_row, &s.dilation_column)
        s.top, s.left = padding[0][0], padding[1][0]
        s.groups, s.channels_last = groups, channels_last
        s.group_in, s.group_out = s.channels // groups, s.out_channels // groups
        s.taps = s.rows * s.columns
        s.area, s.out_area, s.length = s.height * s.width, s.out_height * s.out_width, s.taps * s.group_in
        if max(s.area, s.out_area, s.length, s.channels, s.out_channels) > 2**31 - 1:
            raise MemoryError("im2col: BLAS takes no matrix with rows of more than 2**31 - 1 elements")
        s.direct = (s.taps == 1 and s.stride_row == 1 and s.stride_column == 1 and s.top == 0 and s.left == 0
                    and s.out_height == s.height and s.out_width == s.width)
        s.reordered = channels_last and s.taps > 1
        set_edges(&s.edges, edges)
        s.shifted = s.stride_row == 1 and s.stride_column == 1 and s.out_width == s.width and edges is None
        self.room = max((workspace - 64) // itemsize, 1)
        sizes = (s.group_in, s.group_out, groups, s.taps, s.out_area, s.direct, self.room,
                 min(self.room, <index>CACHE // itemsize))
        channels, pixels, outs = forward_cut(*sizes)
        lay_out(&self.forward_cut, s, channels, pixels, outs)
        channels, pixels, outs = gradient_cut(*sizes)
        lay_out(&self.gradient_cut, s, channels, pixels, outs)
        elements = max(self.forward_cut.channels * self.forward_cut.pitch,
                       self.gradient_cut.channels * self.gradient_cut.pitch) * s.taps
        self.thread_bytes = 0 if s.direct else (elements * itemsize + 63) // 64 * 64
        self.block_pixels = self.forward_cut.pixels

    def __dealloc__(self):
        discard(self.shape.edges.places)

    def walks(self):
        """Return (forward pass, input gradient, gradient of the weights)."""
        return Forward(self), InputGradient(self), WeightGradient(self)


cdef class Forward(Convolution):
    """The forward pass; weights are read as they are."""

    cdef Columns columns

    def __init__(self, Columns columns):
        self.columns = columns
        self.packed_size = columns.shape.out_channels * columns.shape.length
        self.thread_bytes = columns.thread_bytes

    cdef int order(self, void* packed, const void* weight, int threads) noexcept nogil:
        memcpy(packed, weight, self.packed_size * (sizeof(float) if self.columns.single else sizeof(double)))
        return 0

    cdef int execute(self, void* out, const void* source, const void* packed, const void* bias, index images,
                     int threads) noexcept nogil:
        if self.columns.single:
            return run_forward[float](self.columns, <float*>out, <const float*>source, <const float*>packed,
                                      <const float*>bias, images, threads)
        return run_forward[double](self.columns, <double*>out, <const double*>source, <const double*>packed,
                                   <const double*>bias, images, threads)


cdef class InputGradient(Forward):
    """The gradient of the source; there is no bias."""

    cdef int execute(self, void* out, const void* source, const void* packed, const void* bias, index images,
                     int threads) noexcept nogil:
        if self.columns.single:
            return run_input[float](self.columns, <float*>out, <const float*>source, <const float*>packed, images,
                                    threads)
        return run_input[double](self.columns, <double*>out, <const double*>source, <const double*>packed, images,
                                 threads)


cdef class WeightGradient(GradientOfWeights):
    """The gradients of weights and bias, summed over all images."""

    cdef Columns columns

    def __init__(self, Columns columns):
        self.columns = columns
        self.thread_bytes = columns.thread_bytes

    cdef int execute(self, void* grad_weight, void* grad_bias, const void* grad_out, const void* source, index images,
                     int threads) noexcept nogil:
        if self.columns.single:
            return run_weight[float](self.columns, <float*>grad_weight, <float*>grad_bias, <const float*>grad_out,
                                     <const float*>source, images, threads)
        return run_weight[double](self.columns, <double*>grad_weight, <double*>grad_bias, <const double*>grad_out,
                                  <const double*>source, images, threads)


cdef void lay_out(Cut* cut, const Shape* s, index channels, index pixels, index outs) noexcept:
    cut.channels, cut.pixels, cut.outs = channels, pixels, outs
    cut.chunks = (s.group_in + channels - 1) // channels
    cut.blocks = (s.out_area + pixels - 1) // pixels
    cut.parts = (s.group_out + outs - 1) // outs
    cut.pitch = pixels if s.channels_last else pitch_of(pixels)


# ------------------------------------------------------------------------------------------------------------- forward

cdef int run_forward(Columns columns, real* out, const real* source, const real* weight, const real* bias,
                     index images, int threads) noexcept nogil:
    cdef Shape s = columns.shape
    cdef Cut cut = columns.forward_cut
    cdef index blocks = images * s.groups * cut.blocks, per_thread = columns.thread_bytes + 64, i, shares = 1
    cdef index shared = (s.out_channels * s.length * sizeof(real) + 4095) // 4096 * 4096 if s.reordered else 0
    cdef Block memory
    cdef real* ordered
    cdef char* private
    threads = threads if controlled else 1
    # Few blocks: several threads make the same columns and share the output channels. The products stay the same ones.
    if threads > 1 and blocks < 4 * threads and blocks % threads:
        shares = min(cut.parts, <index>threads)
    threads = <int>max(min(<index>threads, blocks * shares), 1)
    if borrow(&memory, shared + threads * per_thread):
        return NO_MEMORY
    ordered, private = <real*>memory.data, <char*>memory.data + shared
    hold()
    if s.reordered:
        reorder(&s, &cut, weight, ordered, False, threads)
        weight = ordered
    if threads == 1:
        for i in range(blocks * shares):
            forward_task(&s, &cut, out, source, weight, bias, <real*>private, i, shares)
    else:
        for i in prange(blocks * shares, schedule="dynamic", num_threads=threads):
            forward_task(&s, &cut, out, source, weight, bias, <real*>(private + threadid() * per_thread), i,
                         shares)
    release()
    give(&memory)
    return 0


cdef void forward_task(const Shape* s, const Cut* cut, real* out, const real* source, const real* weight,
                       const real* bias, real* buffer, index task, index shares) noexcept nogil:
    """All products of a block of output pixels for a share of its output channels."""
    cdef index share = task % shares, block = task // shares
    cdef index first = block % cut.blocks * cut.pixels, count = min(cut.pixels, s.out_area - first)
    cdef index group = block // cut.blocks % s.groups, image = block // cut.blocks // s.groups
    cdef index chunk, part, channel, channels, terms, k, outs, ld
    cdef const real* matrix
    cdef real* to
    cdef uint64_t mode = flush_denormals()
    cdef int blas = mute()
    for chunk in range(cut.chunks):
        channel = chunk * cut.channels
        channels = min(cut.channels, s.group_in - channel)
        terms = channels * s.taps
        matrix = gather(s, cut, source, image, group * s.group_in + channel, channels, first, count, buffer, &ld)
        for part in range(cut.parts * share // shares, cut.parts * (share + 1) // shares):
            k = group * s.group_out + part * cut.outs
            outs = min(cut.outs, s.group_out - part * cut.outs)
            to = out + at_out(s, image, k, first)
            if chunk == 0 and bias != NULL:
                lay_bias(s, to, bias + k, outs, count)
            multiply_forward(s, matrix, ld, weight + k * s.length + channel * s.taps, to, outs, count, terms,
                             <real>(1 if chunk > 0 or bias != NULL else 0))
    unmute(blas)
    restore_denormals(mode)


cdef inline void multiply_forward(const Shape* s, const real* matrix, index ld, const real* weight, real* to,
                                  index outs, index count, index terms, real beta) noexcept nogil:
    if s.channels_last:
        gemm(c"T", c"N", outs, count, terms, weight, s.length, matrix, ld, beta, to, s.out_channels)
    else:
        gemm(c"N", c"N", count, outs, terms, matrix, ld, weight, s.length, beta, to, s.out_area)


cdef void lay_bias(const Shape* s, real* to, const real* bias, index outs, index count) noexcept nogil:
    cdef index i, k
    if s.channels_last:
        for i in range(count):
            memcpy(to + i * s.out_channels, bias, outs * sizeof(real))
    else:
        for k in range(outs):
            for i in range(count):
                to[k * s.out_area + i] = bias[k]


# ------------------------------------------------------------------------------------------------------ input gradient

cdef int run_input(Columns columns, real* grad_source, const real* grad_out, const real* weight, index images,
                   int threads) noexcept nogil:
    cdef Shape s = columns.shape
    cdef Cut cut = columns.gradient_cut
    cdef index tasks = images * s.groups * cut.chunks, per_thread = columns.thread_bytes + 64, i
    cdef index shared = (s.out_channels * s.length * sizeof(real) + 4095) // 4096 * 4096 if s.reordered else 0
    cdef Block memory
    cdef real* ordered
    cdef char* private
    if s.direct:
        # Every product is a piece of the result: blocks of pixels do not meet.
        tasks *= cut.blocks
    threads = <int>max(min(<index>threads, tasks), 1) if controlled else 1
    if borrow(&memory, shared + threads * per_thread):
        return NO_MEMORY
    ordered, private = <real*>memory.data, <char*>memory.data + shared
    hold()
    if s.reordered:
        reorder(&s, &cut, weight, ordered, False, threads)
        weight = ordered
    if threads == 1:
        for i in range(tasks):
            input_task(&s, &cut, grad_source, grad_out, weight, <real*>private, i)
    else:
        for i in prange(tasks, schedule="dynamic", num_threads=threads):
            input_task(&s, &cut, grad_source, grad_out, weight, <real*>(private + threadid() * per_thread), i)
    release()
    give(&memory)
    return 0


cdef void input_task(const Shape* s, const Cut* cut, real* grad_source, const real* grad_out, const real* weight,
                     real* buffer, index task) noexcept nogil:
    """A chunk of input channels of one image (or, where no columns are needed, a block of it): nobody else's."""
    cdef index begin = task % cut.blocks if s.direct else 0, end = begin + 1 if s.direct else cut.blocks
    cdef index unit = task // cut.blocks if s.direct else task
    cdef index chunk = unit % cut.chunks, group = unit // cut.chunks % s.groups, image = unit // cut.chunks // s.groups
    cdef index channel = chunk * cut.channels, channels = min(cut.channels, s.group_in - channel)
    cdef index terms = channels * s.taps, block, first, count, ld
    cdef real* to = grad_source + at_source(s, image, group * s.group_in + channel)
    cdef real* matrix = buffer
    cdef const real* rows
    cdef uint64_t mode = flush_denormals()
    cdef int blas = mute()
    weight += group * s.group_out * s.length + channel * s.taps
    ld = terms if s.channels_last else cut.pitch
    if s.direct:
        ld = s.channels if s.channels_last else s.area
    else:
        clear(s, to, channels)
    for block in range(begin, end):
        first = block * cut.pixels
        count = min(cut.pixels, s.out_area - first)
        rows = grad_out + at_out(s, image, group * s.group_out, first)
        if s.direct:
            matrix = to + (first * s.channels if s.channels_last else first)
        if s.channels_last:
            gemm(c"N", c"N", terms, count, s.group_out, weight, s.length, rows, s.out_channels, <real>0, matrix, ld)
        else:
            gemm(c"N", c"T", count, terms, s.group_out, rows, s.out_area, weight, s.length, <real>0, matrix, ld)
        if not s.direct:
            scatter(s, cut, matrix, to, channels, first, count)
    unmute(blas)
    restore_denormals(mode)


cdef void clear(const Shape* s, real* to, index channels) noexcept nogil:
    """Set the channels of one image to zero."""
    cdef index i
    if s.channels_last and channels < s.channels:
        for i in range(s.area):
            memset(to + i * s.channels, 0, channels * sizeof(real))
    else:
        memset(to, 0, channels * s.area * sizeof(real))


# ----------------------------------------------------------------------------------------------------- weight gradient

cdef int run_weight(Columns columns, real* grad_weight, real* grad_bias, const real* grad_out, const real* source,
                    index images, int threads) noexcept nogil:
    cdef Shape s = columns.shape
    cdef Cut cut = columns.gradient_cut
    cdef index size = s.out_channels * s.length, chunks = s.groups * cut.chunks, per_thread = columns.thread_bytes + 64
    # Few chunks of channels: the sum over pixels is cut too, as far as the partial sums fit into the workspace.
    cdef index sums = min(MOST_SUMS, images * cut.blocks, columns.room // size)
    cdef index shared, i
    cdef Block memory
    cdef real* partial = grad_weight
    cdef char* private
    sums = 1 if chunks >= TASKS else max(min(sums, (2 * TASKS + chunks - 1) // chunks), 1)
    shared = (sums * size * sizeof(real) + 4095) // 4096 * 4096 if sums > 1 or s.reordered else 0
    threads = <int>min(<index>threads, chunks * sums) if controlled else 1
    if borrow(&memory, shared + threads * per_thread):
        return NO_MEMORY
    private = <char*>memory.data + shared
    if shared:
        partial = <real*>memory.data
    hold()
    if threads == 1:
        for i in range(chunks * sums):
            weight_task(&s, &cut, partial, grad_out, source, <real*>private, images, sums, i)
    else:
        for i in prange(chunks * sums, schedule="dynamic", num_threads=threads):
            weight_task(&s, &cut, partial, grad_out, source, <real*>(private + threadid() * per_thread),
                        images, sums, i)
    if sums > 1:
        add_up(partial, grad_weight if not s.reordered else partial, size, sums)
    if s.reordered:
        reorder(&s, &cut, <const real*>partial, grad_weight, True, threads)
    if grad_bias != NULL:
        sum_channels(&s, grad_bias, grad_out, images)
    release()
    give(&memory)
    return 0


cdef void weight_task(const Shape* s, const Cut* cut, real* partial, const real* grad_out, const real* source,
                      real* buffer, index images, index sums, index task) noexcept nogil:
    """One partial sum, over a stretch of images and pixel blocks, for a chunk of input channels."""
    cdef index part = task % sums, chunk = task // sums % cut.chunks, group = task // sums // cut.chunks
    cdef index channel = chunk * cut.channels, channels = min(cut.channels, s.group_in - channel)
    cdef index terms = channels * s.taps, units = images * cut.blocks, unit, image, first, count, ld, k
    cdef const real* matrix
    cdef const real* rows
    cdef real* to = partial + part * s.out_channels * s.length + group * s.group_out * s.length + channel * s.taps
    cdef real beta = 0
    cdef uint64_t mode = flush_denormals()
    cdef int blas = mute()
    for unit in range(units * part // sums, units * (part + 1) // sums):
        image, first = unit // cut.blocks, unit % cut.blocks * cut.pixels
        count = min(cut.pixels, s.out_area - first)
        matrix = gather(s, cut, source, image, group * s.group_in + channel, channels, first, count, buffer, &ld)
        rows = grad_out + at_out(s, image, group * s.group_out, first)
        if s.channels_last:
            gemm(c"N", c"T", terms, s.group_out, count, matrix, ld, rows, s.out_channels, beta, to, s.length)
        else:
            gemm(c"T", c"N", terms, s.group_out, count, matrix, ld, rows, s.out_area, beta, to, s.length)
        beta = 1
    if units == 0:
        for k in range(s.group_out):
            memset(to + k * s.length, 0, terms * sizeof(real))
    unmute(blas)
    restore_denormals(mode)


cdef void sum_channels(const Shape* s, real* total, const real* grad_out, index images) noexcept nogil:
    """The sum over images and pixels of each channel, in double: rows of channels, or eight of a plane side by side."""
    cdef index k, i, j, n, step = CHANNELS if s.channels_last else 1
    cdef double sums[CHANNELS]
    cdef const real* row
    for k from 0 <= k < s.out_channels by step:
        n = min(step, s.out_channels - k)
        for j in range(CHANNELS):
            sums[j] = 0
        for i in range(images):
            row = grad_out + at_out(s, i, k, 0)
            if s.channels_last:
                add_rows(sums, row, s.out_area, s.out_channels, n)
            else:
                add_rows(sums, row, s.out_area // 8, 8, 8)
                for j in range(s.out_area // 8 * 8, s.out_area):
                    sums[j % 8] += row[j]
        if s.channels_last:
            for j in range(n):
                total[k + j] = <real>sums[j]
        else:
            total[k] = <real>(((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7])))


cdef inline void add_rows(double* sums, const real* row, index rows, index pitch, index n) noexcept nogil:
    cdef index i, j
    for i in range(rows):
        for j in range(n):
            sums[j] += row[i * pitch + j]


cdef void add_up(const real* partial, real* total, index size, index sums) noexcept nogil:
    """total = sum of the partial sums, in their order; ``total`` may be the first of them."""
    cdef index i, j, first, last
    cdef const real* other
    for first from 0 <= first < size by 4096:
        last = min(first + 4096, size)
        if total != partial:
            memcpy(total + first, partial + first, (last - first) * sizeof(real))
        for j in range(1, sums):
            other = partial + j * size
            for i in range(first, last):
                total[i] += other[i]


# ------------------------------------------------------------------------------------------------------------- weights

cdef int reorder(const Shape* s, const Cut* cut, const real* weight, real* to, bint back,
                 int threads) noexcept nogil:
    """Weights [k][c][tap] to [k][chunk][tap][c of the chunk], or back."""
    cdef index k
    if threads == 1:
        for k in range(s.out_channels):
            reorder_row(s, cut, weight + k * s.length, to + k * s.length, back)
    else:
        for k in prange(s.out_channels, schedule="static", num_threads=threads):
            reorder_row(s, cut, weight + k * s.length, to + k * s.length, back)
    return 0


cdef void reorder_row(const Shape* s, const Cut* cut, const real* weight, real* to, bint back) noexcept nogil:
    cdef index chunk, channels, offset
    for chunk in range(cut.chunks):
        channels = min(cut.channels, s.group_in - chunk * cut.channels)
        offset = chunk * cut.channels * s.taps
        if back:
            transpose(weight + offset, channels, s.taps, channels, to + offset, s.taps)
        else:
            transpose(weight + offset, s.taps, channels, s.taps, to + offset, channels)
