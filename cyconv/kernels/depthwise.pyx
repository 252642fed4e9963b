"""Depthwise convolution: every channel with a kernel of its own.

Nine multiply-adds for each pixel that is read and written: memory decides. So nothing is copied: planes are read where
they lie by masked loads at their edges, channels-last images by whole vectors of channels. Planes with larger kernels,
or rows that fill no vector, are transposed in blocks of one vector of channels, and go the channels-last way (see
depthwise.h). Where the padding repeats pixels, a task makes a padded copy of its planes, and of channels-last images
the outputs at the edges are summed tap by tap.
"""

from cython.parallel cimport prange, threadid
from libc.math cimport INFINITY
from libc.stdint cimport uint64_t
from libc.string cimport memcpy, memset

from cyconv.kernels._kernel cimport NO_MEMORY, Convolution, set_edges, three, two
from cyconv.kernels._workspace cimport Block, borrow, discard, give, zeroed
from cyconv.kernels.simd cimport (
    LANES_f32,
    LANES_f64,
    cold,
    flush_denormals,
    lanes,
    real,
    rectify,
    restore_denormals,
    transpose,
)
from cyconv.kernels.source cimport Source, copy_plane, index, lay_out_plane, place

cdef extern from "depthwise.h" nogil:
    void depthwise_planes_f32(int kernel, int stride, const float* x, const float* zeros, index height, index width,
                              const float* w, const float* bias, float floor, index top, index left, float* y,
                              index out_height, index out_width, index channels, index each, bint far, index begin,
                              index end) noexcept
    void depthwise_planes_f64(int kernel, int stride, const double* x, const double* zeros, index height, index width,
                              const double* w, const double* bias, double floor, index top, index left, double* y,
                              index out_height, index out_width, index channels, index each, bint far, index begin,
                              index end) noexcept
    void depthwise_block_f32(index kernel, index stride, const float* x, index height, index width, const float* w,
                             const float* bias, float floor, index top, index left, float* y, index out_height,
                             index out_width, index channels, index each, index channel, index first, index last,
                             index chunk, float* private) noexcept
    void depthwise_block_f64(index kernel, index stride, const double* x, index height, index width, const double* w,
                             const double* bias, double floor, index top, index left, double* y, index out_height,
                             index out_width, index channels, index each, index channel, index first, index last,
                             index chunk, double* private) noexcept
    void depthwise_channel_row_f32(index kernel, index stride, const float* x, index row, index width, index left,
                                   index channels, const float* w, index rows, const float* bias, float floor,
                                   float* y, index out_width) noexcept
    void depthwise_channel_row_f64(index kernel, index stride, const double* x, index row, index width, index left,
                                   index channels, const double* w, index rows, const double* bias, double floor,
                                   double* y, index out_width) noexcept
    void depthwise_strip_8_f32(index stride, index dilation, const float* x, index row, index channels,
                               const float* w, index rows, index columns, const float* bias, float floor,
                               float* y) noexcept
    void depthwise_strip_8_f64(index stride, index dilation, const double* x, index row, index channels,
                               const double* w, index rows, index columns, const double* bias, double floor,
                               double* y) noexcept
    void depthwise_strip_1_f32(const float* x, index row, index column, const float* w, index ldw, index rows,
                               index columns, index w_row, const float* bias, float floor, float* y,
                               index part) noexcept
    void depthwise_strip_1_f64(const double* x, index row, index column, const double* w, index ldw, index rows,
                               index columns, index w_row, const double* bias, double floor, double* y,
                               index part) noexcept
    void spread_planes_f32(int kernel, const float* x, const float* zeros, index height, index width, const float* w,
                           const float* bias, float floor, index top, index left, float* y, index out_height,
                           index out_width, index channels, index each, index begin, index end) noexcept
    void spread_planes_f64(int kernel, const double* x, const double* zeros, index height, index width,
                           const double* w, const double* bias, double floor, index top, index left, double* y,
                           index out_height, index out_width, index channels, index each, index begin,
                           index end) noexcept
    void spread_pixels_f32(int pixels, const float* x, index row, index column, index channels, const float* w,
                           index ldw, index rows, index columns, index w_row, const float* bias, float floor, float* y,
                           index ldy) noexcept
    void spread_pixels_f64(int pixels, const double* x, index row, index column, index channels, const double* w,
                           index ldw, index rows, index columns, index w_row, const double* bias, double floor,
                           double* y, index ldy) noexcept


DEF BUNCH_PIXELS = 4096
# Results of more bytes than this lie beyond the caches.
DEF FAR_BYTES = 8 << 20
# Output pixels that a block of planes computes in one go: the results, and the pixels under them, stay nearby.
DEF CHUNK_PIXELS = 256


cdef struct Shape:
    index channels, height, width
    index out_channels, out_height, out_width
    index kernel_rows, kernel_columns, stride_row, stride_column, dilation_row, dilation_column, top, left
    bint channels_last, rectified
    index images
    # Planes in blocks of one vector of channels: rows of a task (0: plane by plane), and what they make
    index block_rows, bands, blocks, chunk, private
    # Channels-last input gradients of strides: how each row and column of the result is reached; else NULL
    bint spread
    const Reach* rows
    const Reach* columns
    Source source  # its edges; of planes, the padded copy
    index bunch  # units of a task
    index room  # elements of the padded copies of a task


cdef struct Reach:
    # Taps tap, tap + step, ... meet the pixels at, at - back, ... of the source; `count` of them lie inside. `alike`:
    # so do those of the seven results behind it, a stride apart, with pixels next to each other
    index tap, count, at, step, back
    bint alike


cdef class Depthwise(Convolution):
    """A depthwise convolution of one geometry, dtype and memory order, ready to run on arrays of that kind.

    Planes: square kernels of 3, 5, 7, strides 1 and 2, no dilation; with ``block_rows``, that many output rows of one
    vector of channels at a time. Channels-last: any, one output for each channel.
    ``spread``: the input gradient of a convolution with a stride (2, for planes) instead, from ``source``, which has
    the shape of the convolution's output, to ``out``.
    """

    cdef Shape shape
    cdef Reach* reached
    cdef bint single  # float

    def __cinit__(self):
        self.reached = NULL
        self.shape.source.edges.places = NULL

    def __init__(self, *, str dtype, source, out, kernel, stride, dilation, first, bint channels_last, bint rectified,
                 edges, bint spread=False, index block_rows=0):
        cdef Shape* s = &self.shape
        cdef index width = LANES_f32 if dtype == "f" else LANES_f64
        cdef index itemsize = 4 if dtype == "f" else 8
        cold()
        self.single = dtype == "f"
        three(source, &s.channels, &s.height, &s.width)
        three(out, &s.out_channels, &s.out_height, &s.out_width)
        two(kernel, &s.kernel_rows, &s.kernel_columns)
        two(stride, &s.stride_row, &s.stride_column)
        two(dilation, &s.dilation_row, &s.dilation_column)
        two(first, &s.top, &s.left)
        s.top, s.left = -s.top, -s.left
        s.channels_last, s.rectified = channels_last, rectified
        self.packed_size = s.out_channels * s.kernel_rows * s.kernel_columns
        s.block_rows = block_rows
        if block_rows > 0:
            s.bands = (s.out_height + block_rows - 1) // block_rows
            s.blocks = (s.out_channels + width - 1) // width
            s.chunk = min(block_rows, max(1, CHUNK_PIXELS // max(s.out_width, 1)))
            s.private = width * (min(s.height, (block_rows - 1) * s.stride_row + s.kernel_rows) * s.width
                                 + s.chunk * s.out_width)
            self.packed_size = s.blocks * width * s.kernel_rows * s.kernel_columns
        s.spread = spread
        set_edges(&s.source.edges, edges)
        lay_out_plane(&s.source, s.height, s.width, (s.out_height - 1) * s.stride_row + s.kernel_rows,
                      (s.out_width - 1) * s.stride_column + s.kernel_columns)
        # Small planes go in bunches: changing the rounding mode and fetching a task cost as much as a 7 x 7 plane.
        s.bunch = 1 if channels_last else max(1, BUNCH_PIXELS // (s.out_height * s.out_width))
        s.room = 0
        if s.source.edges.places != NULL and not channels_last:
            # The input planes of a bunch of output planes; a vector may begin in the last row and end behind it.
            s.room = s.private = (s.bunch // (s.out_channels // s.channels) + 2) * s.source.plane + 64
        self.thread_bytes = (s.private * itemsize + 4095) // 4096 * 4096
        if spread and channels_last:
            self.reached = <Reach*>zeroed(s.out_height + s.out_width, sizeof(Reach))
            if self.reached == NULL:
                raise MemoryError("cyconv: no memory for the tables of an input gradient")
            s.rows, s.columns = self.reached, self.reached + s.out_height
            fill_reach(self.reached, s.out_height, s.top, s.dilation_row, s.stride_row, s.kernel_rows, s.height)
            fill_reach(self.reached + s.out_height, s.out_width, s.left, s.dilation_column, s.stride_column,
                       s.kernel_columns, s.width)

    def __dealloc__(self):
        discard(self.reached)
        discard(self.shape.source.edges.places)

    cdef int order(self, void* packed, const void* weight, int threads) noexcept nogil:
        if self.single:
            pack_weights[float](&self.shape, <const float*>weight, <float*>packed)
        else:
            pack_weights[double](&self.shape, <const double*>weight, <double*>packed)
        return 0

    cdef int execute(self, void* out, const void* source, const void* packed, const void* bias, index images,
                     int threads) noexcept nogil:
        if self.single:
            return run_depthwise[float](self, <float*>out, <const float*>source, <const float*>packed,
                                        <const float*>bias, images, threads)
        return run_depthwise[double](self, <double*>out, <const double*>source, <const double*>packed,
                                     <const double*>bias, images, threads)


cdef void fill_reach(Reach* reach, index length, index low, index dilation, index stride, index taps,
                     index source) noexcept:
    """Pixel i of the result meets tap t at the source pixel (i + low - t dilation) / stride, where that is whole."""
    cdef index i, j, t, at
    for i in range(length):
        reach[i].step, reach[i].back = 1, 0
        for t in range(taps):
            at = i + low - t * dilation
            if at % stride != 0 or at < 0 or at // stride >= source:
                continue
            if reach[i].count == 0:
                reach[i].tap, reach[i].at = t, at // stride
            elif reach[i].count == 1:
                reach[i].step, reach[i].back = t - reach[i].tap, reach[i].at - at // stride
            reach[i].count += 1
    for i in range(length - 7 * stride):
        reach[i].alike = True
        for j in range(1, 8):
            reach[i].alike &= (reach[i + j * stride].count == reach[i].count
                               and reach[i + j * stride].tap == reach[i].tap
                               and reach[i + j * stride].at == reach[i].at + (j if reach[i].count > 0 else 0))


cdef void pack_weights(const Shape* s, const real* weight, real* packed) noexcept nogil:
    """[tap][channel] for channels-last, by blocks of one vector of channels for planes that go by such blocks."""
    cdef index taps = s.kernel_rows * s.kernel_columns, channels = s.out_channels, width = lanes(weight), block, have
    if s.channels_last:
        transpose(weight, taps, channels, taps, packed, channels)
        return
    if s.block_rows == 0:
        memcpy(packed, weight, channels * taps * sizeof(real))
        return
    for block in range(s.blocks):
        have = min(width, channels - block * width)
        if have < width:
            memset(packed, 0, taps * width * sizeof(real))
        transpose(weight, taps, have, taps, packed, width)
        weight += have * taps
        packed += width * taps


cdef int run_depthwise(Depthwise plan, real* out, const real* source, const real* weights, const real* bias,
                       index images, int threads) noexcept nogil:
    cdef Shape shape = plan.shape
    cdef const Shape* s = &shape
    shape.images = images
    # What a task computes: rows of channels-last images, planes, bands of blocks of planes. Small ones go in bunches:
    # changing the rounding mode and fetching a task cost as much as a 7 x 7 plane.
    cdef index units = images * (s.out_height if s.channels_last else s.out_channels), bunch = s.bunch, i
    cdef index padded = s.out_channels, longest = max(s.width, s.source.columns)
    if s.block_rows > 0:
        padded = s.blocks * lanes(out)
        units = images * s.blocks * s.bands
        bunch = max(1, BUNCH_PIXELS // (lanes(out) * s.block_rows * s.out_width))
    cdef index tasks = (units + bunch - 1) // bunch
    if threads > tasks:
        threads = <int>max(tasks, 1)
    cdef index chunk = max(1, tasks // (8 * threads))
    cdef index start_bytes = ((padded + longest) * sizeof(real) + 4095) // 4096 * 4096
    cdef index private_bytes = (s.private * sizeof(real) + 4095) // 4096 * 4096
    cdef Block memory
    if borrow(&memory, start_bytes + threads * private_bytes):
        return NO_MEMORY
    cdef real* start = <real*>memory.data
    cdef real* zeros = start + padded
    cdef char* private = <char*>memory.data + start_bytes
    memset(start, 0, (padded + longest) * sizeof(real))
    if bias != NULL:
        memcpy(start, bias, s.out_channels * sizeof(real))
    if threads == 1:
        for i in range(tasks):
            run_task(s, out, source, weights, start, zeros, <real*>private, i * bunch, min(units, (i + 1) * bunch))
    else:
        for i in prange(tasks, schedule="dynamic", chunksize=chunk, num_threads=threads):
            run_task(s, out, source, weights, start, zeros, <real*>(private + threadid() * private_bytes),
                     i * bunch, min(units, (i + 1) * bunch))
    give(&memory)
    return 0


cdef void run_task(const Shape* s, real* out, const real* source, const real* weights, const real* bias,
                   const real* zeros, real* private, index first, index last) noexcept nogil:
    cdef uint64_t mode = flush_denormals()
    cdef index unit, plane, each = s.out_channels // s.channels
    cdef Shape padded
    if s.channels_last:
        for unit in range(first, last):
            if s.spread:
                spread_row(s, out + unit * s.out_width * s.out_channels,
                           source + unit // s.out_height * s.height * s.width * s.channels, weights, bias,
                           unit % s.out_height)
                continue
            run_row(s, out + unit * s.out_width * s.out_channels,
                    source + unit // s.out_height * s.height * s.width * s.channels, weights, bias, unit % s.out_height)
    elif s.block_rows > 0:
        for unit in range(first, last):
            run_block(s, out, source, weights, bias, private, unit)
    elif s.room > 0:
        for plane in range(first // each, (last - 1) // each + 1):
            copy_plane(&s.source, source + plane * s.height * s.width,
                       private + (plane - first // each) * s.source.plane, -s.top, -s.left)
        padded = s[0]
        padded.height, padded.width, padded.top, padded.left = s.source.rows, s.source.columns, 0, 0
        run_planes(&padded, out, <const real*>private - first // each * s.source.plane, weights, bias, zeros, first,
                   last)
    else:
        run_planes(s, out, source, weights, bias, zeros, first, last)
    restore_denormals(mode)


cdef void run_block(const Shape* s, real* y, const real* x, const real* w, const real* bias, real* private,
                    index unit) noexcept nogil:
    """A band of rows of one vector of channels of an image."""
    cdef real floor = 0 if s.rectified else -INFINITY
    cdef index first = unit % s.bands * s.block_rows, last = min(s.out_height, first + s.block_rows)
    cdef index channel = unit // s.bands % s.blocks * lanes(x), image = unit // s.bands // s.blocks
    cdef index each = s.out_channels // s.channels
    x += image * s.channels * s.height * s.width
    y += image * s.out_channels * s.out_height * s.out_width
    w += channel * s.kernel_rows * s.kernel_columns
    bias += channel
    if real is float:
        depthwise_block_f32(s.kernel_columns, s.stride_column, x, s.height, s.width, w, bias, floor, s.top, s.left, y,
                            s.out_height, s.out_width, s.out_channels, each, channel, first, last, s.chunk, private)
    else:
        depthwise_block_f64(s.kernel_columns, s.stride_column, x, s.height, s.width, w, bias, floor, s.top, s.left, y,
                            s.out_height, s.out_width, s.out_channels, each, channel, first, last, s.chunk, private)


cdef void run_planes(const Shape* s, real* y, const real* x, const real* w, const real* bias, const real* zeros,
                     index first, index last) noexcept nogil:
    cdef real floor = 0 if s.rectified else -INFINITY
    cdef int kernel = <int>s.kernel_rows, stride = <int>s.stride_row
    cdef index each = s.out_channels // s.channels
    # Asking for the place of results costs a tenth where they lie nearby, or where as much is read for each as at
    # stride 2, and saves a tenth where not.
    cdef bint far = stride == 1 and s.images * s.out_channels * s.out_height * s.out_width * sizeof(real) > FAR_BYTES
    if s.spread:
        if real is float:
            spread_planes_f32(kernel, x, zeros, s.height, s.width, w, bias, floor, s.top, s.left, y, s.out_height,
                              s.out_width, s.out_channels, each, first, last)
        else:
            spread_planes_f64(kernel, x, zeros, s.height, s.width, w, bias, floor, s.top, s.left, y, s.out_height,
                              s.out_width, s.out_channels, each, first, last)
        return
    if real is float:
        depthwise_planes_f32(kernel, stride, x, zeros, s.height, s.width, w, bias, floor, s.top, s.left, y,
                             s.out_height, s.out_width, s.out_channels, each, far, first, last)
    else:
        depthwise_planes_f64(kernel, stride, x, zeros, s.height, s.width, w, bias, floor, s.top, s.left, y,
                             s.out_height, s.out_width, s.out_channels, each, far, first, last)


cdef inline index first_tap(index start, index dilation) noexcept nogil:
    """First tap of a window that begins at ``start`` that lies at 0 or behind."""
    return 0 if start >= 0 else (dilation - 1 - start) // dilation


cdef inline index taps_inside(index start, index dilation, index taps, index length) noexcept nogil:
    """Number of the first tap behind the end."""
    return 0 if start >= length else min(taps, (length - start + dilation - 1) // dilation)


cdef void run_row(const Shape* s, real* y, const real* x, const real* w, const real* bias, index p) noexcept nogil:
    """One row of a channels-last image."""
    cdef index width = lanes(x), channels = s.channels, taps = s.kernel_columns
    cdef index row = p * s.stride_row - s.top
    cdef index r0 = first_tap(row, s.dilation_row)
    cdef index rows = max(taps_inside(row, s.dilation_row, s.kernel_rows, s.height) - r0, 0)
    cdef index step = s.stride_column * channels, row_step = s.dilation_row * s.width * channels
    cdef index column_step = s.dilation_column * channels
    cdef index q = 0, column, s0, columns, c, v, part
    cdef const real* corner
    cdef real floor = 0 if s.rectified else -INFINITY
    if s.source.edges.places != NULL and rows < s.kernel_rows:
        edge_pixels(s, y, x, w, bias, row, True)
        return
    if channels >= width and taps in (3, 5, 7) and s.stride_column <= 2 and s.dilation_column == 1:
        corner = x + (row + r0 * s.dilation_row) * s.width * channels
        if real is float:
            depthwise_channel_row_f32(taps, s.stride_column, corner, row_step, s.width, s.left, channels,
                                      w + r0 * taps * channels, rows, bias, floor, y, s.out_width)
        else:
            depthwise_channel_row_f64(taps, s.stride_column, corner, row_step, s.width, s.left, channels,
                                      w + r0 * taps * channels, rows, bias, floor, y, s.out_width)
        if s.source.edges.places != NULL:
            edge_pixels(s, y, x, w, bias, row, False)
        return
    while q < s.out_width:
        column = q * s.stride_column - s.left
        s0 = first_tap(column, s.dilation_column)
        columns = max(taps_inside(column, s.dilation_column, taps, s.width) - s0, 0)
        if s.source.edges.places != NULL and columns < taps:
            edge_pixel(s, y + q * channels, x, w, bias, row, column)
            q += 1
            continue
        corner = x + ((row + r0 * s.dilation_row) * s.width + column + s0 * s.dilation_column) * channels
        # Eight pixels at a time where all their windows lie inside.
        if (columns == taps and q + 8 <= s.out_width
                and column + 7 * s.stride_column + (taps - 1) * s.dilation_column < s.width):
            if real is float:
                depthwise_strip_8_f32(s.stride_column, s.dilation_column, corner, row_step, channels,
                                      w + r0 * taps * channels, rows, taps, bias, floor, y + q * channels)
            else:
                depthwise_strip_8_f64(s.stride_column, s.dilation_column, corner, row_step, channels,
                                      w + r0 * taps * channels, rows, taps, bias, floor, y + q * channels)
            c = channels // width * width
            if c < channels:
                for part in range(8):
                    one_pixel(s, corner + part * step + c, row_step, column_step, w + r0 * taps * channels + c, rows,
                              columns, bias + c, floor, y + (q + part) * channels + c, channels - c)
            q += 8
            continue
        for v in range((channels + width - 1) // width):
            c = v * width
            one_pixel(s, corner + c, row_step, column_step, w + (r0 * taps + s0) * channels + c, rows, columns,
                      bias + c, floor, y + q * channels + c, min(width, channels - c))
        q += 1


cdef void edge_pixels(const Shape* s, real* y, const real* x, const real* w, const real* bias, index row,
                      bint whole) noexcept nogil:
    """The output pixels of a row whose windows begin at ``row`` and meet padding at its ends; ``whole``: all."""
    cdef index q, column, last = (s.kernel_columns - 1) * s.dilation_column
    for q in range(s.out_width):
        column = q * s.stride_column - s.left
        if whole or column < 0 or column + last >= s.width:
            edge_pixel(s, y + q * s.channels, x, w, bias, row, column)


cdef void edge_pixel(const Shape* s, real* y, const real* x, const real* w, const real* bias, index row,
                     index column) noexcept nogil:
    """One output pixel of a channels-last image whose window begins at (row, column) and meets padding."""
    cdef index channels = s.channels, r, t, c, i, j
    cdef const real* pixel
    cdef const real* weight
    memcpy(y, bias, channels * sizeof(real))
    for r in range(s.kernel_rows):
        i = place(&s.source.edges.row, row + r * s.dilation_row, s.height)
        for t in range(s.kernel_columns):
            j = place(&s.source.edges.column, column + t * s.dilation_column, s.width)
            if i < 0 or j < 0:
                continue
            pixel = x + (i * s.width + j) * channels
            weight = w + (r * s.kernel_columns + t) * channels
            for c in range(channels):
                y[c] += pixel[c] * weight[c]
    if s.rectified:
        rectify(y, channels)


cdef inline void one_pixel(const Shape* s, const real* x, index row, index column, const real* w, index rows,
                           index columns, const real* bias, real floor, real* y, index part) noexcept nogil:
    cdef index taps = s.kernel_columns * s.channels
    if real is float:
        depthwise_strip_1_f32(x, row, column, w, s.channels, rows, columns, taps, bias, floor, y, part)
    else:
        depthwise_strip_1_f64(x, row, column, w, s.channels, rows, columns, taps, bias, floor, y, part)


cdef void spread_row(const Shape* s, real* y, const real* x, const real* w, const real* bias, index h) noexcept nogil:
    """One row of a channels-last input gradient: pixels a stride apart meet the same taps."""
    cdef index channels = s.channels, stride = s.stride_column, block = 0, phase, i, column
    cdef const Reach* row = &s.rows[h]
    cdef const Reach* first
    while block < s.out_width:
        for phase in range(min(stride, s.out_width - block)):
            column = block + phase
            first = &s.columns[column]
            # Eight pixels at a time where all meet the same taps inside.
            if first.alike:
                spread(s, 8, x, w, row, first, bias, y + column * channels)
                continue
            for i in range(8):
                if column + i * stride < s.out_width:
                    spread(s, 1, x, w, row, &s.columns[column + i * stride], bias, y + (column + i * stride) * channels)
        block += 8 * stride


cdef inline void spread(const Shape* s, int pixels, const real* x, const real* w, const Reach* row,
                        const Reach* column, const real* bias, real* y) noexcept nogil:
    cdef index channels = s.channels, row_step = -row.back * s.width * channels, column_step = -column.back * channels
    cdef index taps = row.step * s.kernel_columns * channels, ldw = column.step * channels
    cdef real floor = 0 if s.rectified else -INFINITY
    cdef const real* corner = x + (row.at * s.width + column.at) * channels
    cdef const real* weights = w + (row.tap * s.kernel_columns + column.tap) * channels
    if real is float:
        spread_pixels_f32(pixels, corner, row_step, column_step, channels, weights, ldw, row.count, column.count, taps,
                          bias, floor, y, s.stride_column * channels)
    else:
        spread_pixels_f64(pixels, corner, row_step, column_step, channels, weights, ldw, row.count, column.count, taps,
                          bias, floor, y, s.stride_column * channels)
