"""Weight and bias gradient of a depthwise convolution.

    grad_weight[c, tap] = sum over images and output pixels of  grad_out[c, pixel] x source[c, pixel x step + tap]

Planes: a task is some channels, all images of them. Channels-last: a task is a chunk of the output rows of all images
and a block of channels; chunks are cut by geometry, and their sums are added in their order. So the number of threads
changes no bit.
"""

from cython.parallel cimport prange, threadid
from libc.stdint cimport uint64_t
from libc.string cimport memcpy, memset

from cyconv.kernels._kernel cimport NO_MEMORY, GradientOfWeights, set_edges, three, two
from cyconv.kernels._workspace cimport Block, borrow, discard, give
from cyconv.kernels.simd cimport (
    LANES_f32,
    LANES_f64,
    cold,
    flush_denormals,
    lanes,
    real,
    restore_denormals,
    transpose,
)
from cyconv.kernels.source cimport Source, copy_plane, index, lay_out_plane, place

cdef extern from "depthwise_gradient.h" nogil:
    void gradient_planes_f32(int kernel, int stride, const float* grad, const float* x, const float* zeros,
                             index height, index width, index top, index left, index out_height, index out_width,
                             index channels, index each, index images, index begin, index end, float* sums,
                             float* weights, float* bias) noexcept
    void gradient_planes_f64(int kernel, int stride, const double* grad, const double* x, const double* zeros,
                             index height, index width, index top, index left, index out_height, index out_width,
                             index channels, index each, index images, index begin, index end, double* sums,
                             double* weights, double* bias) noexcept
    void gradient_strip_f32(index rows, index columns, const float* grad, index grad_step, index next, index n,
                            const float* const* line, index step, index column, float* sums, index sums_row) noexcept
    void gradient_strip_f64(index rows, index columns, const double* grad, index grad_step, index next, index n,
                            const double* const* line, index step, index column, double* sums,
                            index sums_row) noexcept
    void add_strip_f32(const float* grad, index grad_step, index n, float* sum) noexcept
    void add_strip_f64(const double* grad, index grad_step, index n, double* sum) noexcept
    void gather_strip_f32(const float* x, index channels, index have, index n, index next, float* to,
                          index plane) noexcept
    void gather_strip_f64(const double* x, index channels, index have, index n, index next, double* to,
                          index plane) noexcept


cdef struct Shape:
    index channels, height, width
    index out_channels, out_height, out_width
    index kernel_rows, kernel_columns, stride_row, stride_column, dilation_row, dilation_column, top, left
    bint channels_last
    index images
    index task_channels, chunks  # of planes: no chunks; channels-last: channels in whole vectors
    # Channels-last: the ring of rows, [vector of channels][row][pixel][lane]
    index ring, pitch, lines  # its rows and their length; lines: sums of a vector of channels, with that of the bias
    Source source  # its edges; of planes, the padded copy that a task makes where these repeat pixels
    index room  # elements of the padded planes of a task


cdef class DepthwiseGradient(GradientOfWeights):
    """Weight gradient of one geometry, dtype and memory order, ready to run on arrays of that kind.

    Planes: square kernels of 3, 5, 7, strides 1 and 2, no dilation. Channels-last: any, one output for each channel.
    """

    cdef Shape shape
    cdef bint single  # float

    def __cinit__(self):
        self.shape.source.edges.places = NULL

    def __init__(self, *, str dtype, source, out, kernel, stride, dilation, first, bint channels_last,
                 index task_channels, index chunks, edges):
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
        s.channels_last, s.chunks = channels_last, chunks
        s.lines = s.kernel_rows * s.kernel_columns + 1
        s.task_channels = task_channels
        set_edges(&s.source.edges, edges)
        lay_out_plane(&s.source, s.height, s.width, (s.out_height - 1) * s.stride_row + s.kernel_rows,
                      (s.out_width - 1) * s.stride_column + s.kernel_columns)
        s.room = 0
        if channels_last:
            s.task_channels = (task_channels + width - 1) // width * width
            s.ring = (s.kernel_rows - 1) * s.dilation_row + 1
            s.pitch = ((s.out_width - 1) * s.stride_column + (s.kernel_columns - 1) * s.dilation_column + 1) * width
            # Rows of the ring, and one row of the gradient for channels that fill no vector.
            size = s.task_channels * s.ring * s.pitch // width + s.out_width * width
        else:
            size = s.task_channels * s.lines * width
            if s.source.edges.places != NULL:
                # A vector may begin in the last row and end behind it. Then the sums of one image.
                s.room = (s.task_channels // (s.out_channels // s.channels) + 2) * s.source.plane + 64
                size += s.room + s.task_channels * s.lines
        self.thread_bytes = (size * itemsize + s.kernel_rows * sizeof(void*) + 4095) // 4096 * 4096

    def __dealloc__(self):
        discard(self.shape.source.edges.places)

    cdef int execute(self, void* grad_weight, void* grad_bias, const void* grad_out, const void* source, index images,
                     int threads) noexcept nogil:
        if self.single:
            return run_gradient[float](self, <float*>grad_weight, <float*>grad_bias, <const float*>grad_out,
                                       <const float*>source, images, threads)
        return run_gradient[double](self, <double*>grad_weight, <double*>grad_bias, <const double*>grad_out,
                                    <const double*>source, images, threads)


cdef int run_gradient(DepthwiseGradient plan, real* grad_weight, real* grad_bias, const real* grad_out,
                      const real* source, index images, int threads) noexcept nogil:
    cdef Shape s = plan.shape
    cdef index width = lanes(source), i, per_thread = plan.thread_bytes
    s.images = images
    cdef index blocks = (s.out_channels + s.task_channels - 1) // s.task_channels
    cdef index vectors = (s.out_channels + width - 1) // width
    cdef index tasks = blocks * s.chunks
    # Shared: a row of zeros, or the sums of all chunks.
    cdef index shared = vectors * width * s.lines * s.chunks if s.channels_last else max(s.width, s.source.columns)
    shared = (shared * sizeof(real) + 4095) // 4096 * 4096
    if threads > tasks:
        threads = <int>max(tasks, 1)
    cdef Block memory
    if borrow(&memory, shared + threads * per_thread):
        return NO_MEMORY
    cdef real* sums = <real*>memory.data
    cdef char* private = <char*>memory.data + shared
    memset(sums, 0, shared)
    if threads == 1:
        for i in range(tasks):
            run_task(&s, grad_weight, grad_bias, grad_out, source, sums, <real*>private, i)
    else:
        for i in prange(tasks, schedule="dynamic", num_threads=threads):
            run_task(&s, grad_weight, grad_bias, grad_out, source, sums,
                     <real*>(private + threadid() * per_thread), i)
    if s.channels_last:
        write_sums(&s, sums, vectors, grad_weight, grad_bias)
    give(&memory)
    return 0


cdef void run_task(const Shape* s, real* grad_weight, real* grad_bias, const real* grad_out, const real* source,
                   real* sums, real* private, index task) noexcept nogil:
    cdef uint64_t mode = flush_denormals()
    if s.channels_last:
        sum_rows(s, grad_out, source, sums, private, task, grad_bias != NULL)
    else:
        sum_planes(s, grad_weight, grad_bias, grad_out, source, sums, private, task)
    restore_denormals(mode)


cdef void sum_planes(const Shape* s, real* grad_weight, real* grad_bias, const real* grad_out, const real* source,
                     const real* zeros, real* private, index task) noexcept nogil:
    cdef index begin = task * s.task_channels, end = min(s.out_channels, (task + 1) * s.task_channels)
    cdef index each = s.out_channels // s.channels, taps = s.lines - 1, image, plane, i
    cdef real* copy = private + s.task_channels * s.lines * lanes(source)
    cdef real* one = copy + s.room
    cdef Shape padded
    if s.room == 0 or s.images == 0:
        add_planes(s, grad_weight, grad_bias, grad_out, source, zeros, private, begin, end)
        return
    padded = s[0]
    padded.height, padded.width, padded.top, padded.left, padded.images = s.source.rows, s.source.columns, 0, 0, 1
    for image in range(s.images):
        for plane in range(begin // each, (end - 1) // each + 1):
            copy_plane(&s.source, source + (image * s.channels + plane) * s.height * s.width,
                       copy + (plane - begin // each) * s.source.plane, -s.top, -s.left)
        add_planes(&padded, one - begin * taps, one + s.task_channels * taps - begin,
                   grad_out + image * s.out_channels * s.out_height * s.out_width,
                   <const real*>copy - begin // each * s.source.plane, zeros, private, begin, end)
        if image == 0:
            memcpy(grad_weight + begin * taps, one, (end - begin) * taps * sizeof(real))
        else:
            for i in range((end - begin) * taps):
                grad_weight[begin * taps + i] += one[i]
        if grad_bias != NULL:
            for i in range(end - begin):
                grad_bias[begin + i] = (grad_bias[begin + i] if image > 0 else 0) + one[s.task_channels * taps + i]


cdef void add_planes(const Shape* s, real* grad_weight, real* grad_bias, const real* grad_out, const real* source,
                     const real* zeros, real* private, index begin, index end) noexcept nogil:
    """The sums of output channels begin .. end over all images."""
    cdef int kernel = <int>s.kernel_rows, stride = <int>s.stride_row
    cdef index each = s.out_channels // s.channels
    if real is float:
        gradient_planes_f32(kernel, stride, grad_out, source, zeros, s.height, s.width, s.top, s.left, s.out_height,
                            s.out_width, s.out_channels, each, s.images, begin, end, private, grad_weight, grad_bias)
    else:
        gradient_planes_f64(kernel, stride, grad_out, source, zeros, s.height, s.width, s.top, s.left, s.out_height,
                            s.out_width, s.out_channels, each, s.images, begin, end, private, grad_weight, grad_bias)


cdef void sum_rows(const Shape* s, const real* grad_out, const real* source, real* sums, real* private, index task,
                   bint bias) noexcept nogil:
    """One chunk of output rows for one block of channels."""
    cdef index width = lanes(source), chunk = task % s.chunks, c = task // s.chunks * s.task_channels
    cdef index have = min(s.task_channels, s.channels - c), vectors = (have + width - 1) // width, v
    cdef index all_vectors = (s.channels + width - 1) // width
    cdef real* mine = sums + (chunk * all_vectors * width + c) * s.lines
    cdef real* ring = private
    cdef real* narrow = private + s.task_channels * s.ring * s.pitch // width  # gradient of the last channels
    cdef const real** line = <const real**>(narrow + s.out_width * width)
    cdef index units = s.images * s.out_height, unit, image = -1, ready = 0, row, r, channels
    cdef const real* gradient
    for unit in range(chunk * units // s.chunks, (chunk + 1) * units // s.chunks):
        row = unit % s.out_height * s.stride_row - s.top
        if unit // s.out_height != image:
            image, ready = unit // s.out_height, row
        # Rows that are skipped by a stride longer than the kernel are not read.
        ready = max(ready, row)
        while ready < row + s.ring:
            load_row(s, source + image * s.height * s.width * s.channels + c, have, ready, ring)
            ready += 1
        for v in range(vectors):
            for r in range(s.kernel_rows):
                line[r] = ring + (v * s.ring + slot(s, row + r * s.dilation_row)) * s.pitch
            gradient = grad_out + unit * s.out_width * s.channels + c + v * width
            channels = s.channels
            if have - v * width < width:
                gather(gradient, s.channels, have - v * width, s.out_width, narrow)
                gradient, channels = narrow, width
            sum_strip(s, gradient, channels, line, mine + v * width * s.lines, bias)


cdef inline index slot(const Shape* s, index row) noexcept nogil:
    """Where in the ring a row lies; rows above the image have negative numbers."""
    return (row + s.top) % s.ring


cdef void load_row(const Shape* s, const real* source, index have, index row, real* ring) noexcept nogil:
    """Input row ``row`` of some channels into its slot; outside of the image what the padding holds."""
    cdef index width = lanes(source), vectors = (have + width - 1) // width, v, plane = s.ring * s.pitch
    cdef index pixels = s.pitch // width, first = min(max(s.left, 0), pixels)
    cdef index last = max(first, min(pixels, s.width + s.left))
    cdef index at = place(&s.source.edges.row, row, s.height), j, column
    cdef real* to = ring + slot(s, row) * s.pitch
    cdef const real* q = source + (at * s.width + first - s.left) * s.channels
    if at < 0:
        first = last = 0
    for v in range(vectors):
        memset(to + v * plane, 0, first * width * sizeof(real))
        memset(to + v * plane + last * width, 0, (pixels - last) * width * sizeof(real))
    if real is float:
        gather_strip_f32(q, s.channels, have, last - first, s.width * s.channels, to + first * width, plane)
    else:
        gather_strip_f64(q, s.channels, have, last - first, s.width * s.channels, to + first * width, plane)
    if at < 0 or s.source.edges.places == NULL:
        return
    for j in range(pixels):
        column = -1 if first <= j < last else place(&s.source.edges.column, j - s.left, s.width)
        if column < 0:
            continue
        q = source + (at * s.width + column) * s.channels
        for v in range(vectors):
            memcpy(to + v * plane + j * width, q + v * width, min(width, have - v * width) * sizeof(real))


cdef inline void gather(const real* grad, index channels, index have, index n, real* to) noexcept nogil:
    """A row of the gradient for fewer channels than a vector has."""
    if real is float:
        gather_strip_f32(grad, channels, have, n, 0, to, 0)
    else:
        gather_strip_f64(grad, channels, have, n, 0, to, 0)


cdef inline void sum_strip(const Shape* s, const real* grad, index step, const real** line, real* sums,
                           bint bias) noexcept nogil:
    """All taps of one row of windows for one vector of channels."""
    cdef index width = lanes(grad), columns = s.kernel_columns, pixel = s.stride_column * width
    cdef index next = s.out_width * step
    if real is float:
        gradient_strip_f32(s.kernel_rows, columns, grad, step, next, s.out_width, line, pixel,
                           s.dilation_column * width, sums, columns * width)
        if bias:
            add_strip_f32(grad, step, s.out_width, sums + (s.lines - 1) * width)
    else:
        gradient_strip_f64(s.kernel_rows, columns, grad, step, next, s.out_width, line, pixel,
                           s.dilation_column * width, sums, columns * width)
        if bias:
            add_strip_f64(grad, step, s.out_width, sums + (s.lines - 1) * width)


cdef void write_sums(const Shape* s, real* sums, index vectors, real* grad_weight, real* grad_bias) noexcept nogil:
    """Add the chunks in their order and bring the sums to [channel][tap]."""
    cdef index width = lanes(sums), size = vectors * width * s.lines, taps = s.lines - 1, chunk, i, v, have
    cdef real* part
    for chunk in range(1, s.chunks):
        part = sums + chunk * size
        for i in range(size):
            sums[i] += part[i]
    for v in range(vectors):
        have = min(width, s.channels - v * width)
        part = sums + v * width * s.lines
        transpose(<const real*>part, width, taps, have, grad_weight + v * width * taps, taps)
        if grad_bias != NULL:
            for i in range(have):
                grad_bias[v * width + i] = part[taps * width + i]
