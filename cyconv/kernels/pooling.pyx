"""Maximum and average pooling, forward and backward.

Planes (NCHW): a window is joined down its rows first, whole rows of the plane at a time, into a row buffer whose
margins hold the neutral element (so that padding is no special case), then across its columns. Gradients of maxima
find the winning tap again: rows are split by the stride into a ring of padded buffers, where every tap of neighbouring
windows is a stretch of memory. That costs less than remembering the taps: 2 x 2 windows at stride 2, the common case,
are one pass without any buffer. Channels-last: the channels of a pixel are the vector, windows are clipped.

A *task* is some planes or some rows of pixels, cut by geometry alone. No two tasks write the same element.
"""

from cython.parallel cimport prange, threadid
from libc.math cimport INFINITY
from libc.stdint cimport int32_t, int64_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

cimport numpy as cnp

from cyconv.kernels._workspace cimport Workspace, take
from cyconv.kernels.simd cimport LANES_f32, flush_denormals, real, restore_denormals

cnp.import_array()

ctypedef Py_ssize_t index

cdef extern from "pool.h" nogil:
    void max_rows_f32(float* to, const float* x, const float* x_end, index pitch, index rows, index n) noexcept
    void max_rows_f64(double* to, const double* x, const double* x_end, index pitch, index rows, index n) noexcept
    void sum_rows_f32(float* to, const float* x, const float* x_end, index pitch, index rows, index n) noexcept
    void sum_rows_f64(double* to, const double* x, const double* x_end, index pitch, index rows, index n) noexcept
    void max_columns_f32(float* out, const float* out_end, const float* row, index n, index taps, index stride,
                         index dilation) noexcept
    void max_columns_f64(double* out, const double* out_end, const double* row, index n, index taps, index stride,
                         index dilation) noexcept
    void sum_columns_f32(float* out, const float* out_end, const float* row, index n, index taps, index stride,
                         index dilation, const float* scale, float factor) noexcept
    void sum_columns_f64(double* out, const double* out_end, const double* row, index n, index taps, index stride,
                         index dilation, const double* scale, double factor) noexcept
    void max_pairs_f32(float* out, const float* out_end, const float* x, const float* x_end, index pitch, index rows,
                       index n) noexcept
    void max_pairs_f64(double* out, const double* out_end, const double* x, const double* x_end, index pitch,
                       index rows, index n) noexcept
    void sum_pairs_f32(float* out, const float* out_end, const float* x, const float* x_end, index pitch, index rows,
                       index n, float factor) noexcept
    void sum_pairs_f64(double* out, const double* out_end, const double* x, const double* x_end, index pitch,
                       index rows, index n, double factor) noexcept
    void max_pairs_backward_f32(float* dx, const float* dx_end, const float* dy, const float* dy_end, const float* x,
                                const float* x_end, index width, index n) noexcept
    void max_pairs_backward_f64(double* dx, const double* dx_end, const double* dy, const double* dy_end,
                                const double* x, const double* x_end, index width, index n) noexcept
    void split_row_f32(float* to, index length, const float* x, index width, index pad, index stride) noexcept
    void split_row_f64(double* to, index length, const double* x, index width, index pad, index stride) noexcept
    void best_taps_f32(float* best, int32_t* code, const float* base, const index* rows, index row_first,
                       index row_last, const index* taps, index tap_count, index n) noexcept
    void best_taps_f64(double* best, int64_t* code, const double* base, const index* rows, index row_first,
                       index row_last, const index* taps, index tap_count, index n) noexcept
    void max_pixels_f32(float* out, const float* out_end, const float* x, const float* x_end, index rows,
                        index row_step, index columns, index column_step, index n) noexcept
    void max_pixels_f64(double* out, const double* out_end, const double* x, const double* x_end, index rows,
                        index row_step, index columns, index column_step, index n) noexcept
    void sum_pixels_f32(float* out, const float* out_end, const float* x, const float* x_end, index rows,
                        index row_step, index columns, index column_step, index n, float factor) noexcept
    void sum_pixels_f64(double* out, const double* out_end, const double* x, const double* x_end, index rows,
                        index row_step, index columns, index column_step, index n, double factor) noexcept
    void best_pixels_f32(float* best, int32_t* code, const float* x, const float* x_end, index rows, index row_step,
                         index columns, index column_step, index n, index first, index row_taps) noexcept
    void best_pixels_f64(double* best, int64_t* code, const double* x, const double* x_end, index rows, index row_step,
                         index columns, index column_step, index n, index first, index row_taps) noexcept
    void add_scaled_f32(float* to, const float* source, float factor, index n) noexcept
    void add_scaled_f64(double* to, const double* source, double factor, index n) noexcept


# Input elements of a task: a few microseconds of work, and enough tasks to share out.
cdef enum:
    TASK = 16384
    CHANNEL_BLOCK = 64


cdef struct Shape:
    index height, width, out_height, out_width
    index kernel_rows, kernel_columns, stride_row, stride_column, pad_row, pad_column, dilation_row, dilation_column
    bint pairs  # 2 x 2 windows at stride 2 within the input
    # Planes: lengths of the row buffer and of one phase of a split row; rows of the ring of split rows
    index buffer, phase, ring, padded_out
    # One call
    index images, channels, planes, task_planes, task_rows, channel_block


cdef class Pool:
    """Pooling of one geometry, ready to run on arrays of either dtype and memory order."""

    cdef Shape shape
    cdef index* tap_place  # of each column tap in a split row
    cdef index* tap_shift  # of each tap in the flat plane
    cdef index* first_tap  # of each output column: the first that meets the input, or -1
    # Averages: one over the places of a window, as a factor for its row times a factor for its column
    cdef double* row_factor
    cdef double* column_factor
    cdef float* column_factor32

    def __init__(self, input, output, kernel, stride, padding, dilation, row_counts=None, column_counts=None):
        """Two numbers for each argument; ``padding`` the low ones; counts: places of a window by its row and column."""
        cdef Shape* s = &self.shape
        cdef index s_, r, q, first, last
        s.height, s.width = input
        s.out_height, s.out_width = output
        s.kernel_rows, s.kernel_columns = kernel
        s.stride_row, s.stride_column = stride
        s.pad_row, s.pad_column = padding
        s.dilation_row, s.dilation_column = dilation
        s.pairs = (kernel == (2, 2) and stride == (2, 2) and padding == (0, 0) and dilation == (1, 1)
                   and 2 * s.out_height <= s.height and 2 * s.out_width <= s.width)
        reach = (s.kernel_columns - 1) * s.dilation_column
        vector = LANES_f32  # double has fewer
        s.padded_out = (s.out_width + vector - 1) // vector * vector
        s.buffer = max(s.pad_column + s.width + vector, s.padded_out * s.stride_column + reach + 2 * vector)
        s.phase = max((s.pad_column + s.width) // s.stride_column + 1 + vector,
                      s.padded_out + reach // s.stride_column + 1)
        s.ring = (s.kernel_rows - 1) * s.dilation_row + 1
        self.tap_place = <index*>calloc(s.kernel_columns, sizeof(index))
        self.tap_shift = <index*>calloc(s.kernel_rows * s.kernel_columns, sizeof(index))
        self.first_tap = <index*>calloc(s.out_width, sizeof(index))
        self.row_factor = <double*>calloc(s.out_height, sizeof(double))
        self.column_factor = <double*>calloc(s.padded_out, sizeof(double))
        self.column_factor32 = <float*>calloc(s.padded_out, sizeof(float))
        if (self.tap_place == NULL or self.tap_shift == NULL or self.first_tap == NULL or self.row_factor == NULL
                or self.column_factor == NULL or self.column_factor32 == NULL):
            raise MemoryError("cyconv: no memory for the tables of a pooling layer")
        for s_ in range(s.kernel_columns):
            r = s_ * s.dilation_column
            self.tap_place[s_] = r % s.stride_column * s.phase + r // s.stride_column
            for r in range(s.kernel_rows):
                self.tap_shift[r * s.kernel_columns + s_] = r * s.dilation_row * s.width + s_ * s.dilation_column
        for q in range(s.out_width):
            clip(q * s.stride_column - s.pad_column, s.width, s.kernel_columns, s.dilation_column, &first, &last)
            self.first_tap[q] = first if first < last else -1
        if row_counts is not None:
            for r in range(s.out_height):
                self.row_factor[r] = 1.0 / row_counts[r]
            for q in range(s.out_width):
                self.column_factor[q] = 1.0 / column_counts[q]
                self.column_factor32[q] = <float>self.column_factor[q]

    def __dealloc__(self):
        free(self.tap_place)
        free(self.tap_shift)
        free(self.first_tap)
        free(self.row_factor)
        free(self.column_factor)
        free(self.column_factor32)

    def maximum(self, cnp.ndarray out, indices, cnp.ndarray x, index images, index channels, bint last, int threads):
        """out = maxima of x's windows; indices: None, or an int64 array for where they stand; last: channels-last."""
        cdef void* places = NULL if indices is None else cnp.PyArray_DATA(indices)
        if cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT:
            forward[float](self, False, <float*>cnp.PyArray_DATA(out), <int64_t*>places,
                           <const float*>cnp.PyArray_DATA(x), images, channels, last, threads)
        else:
            forward[double](self, False, <double*>cnp.PyArray_DATA(out), <int64_t*>places,
                            <const double*>cnp.PyArray_DATA(x), images, channels, last, threads)

    def average(self, cnp.ndarray out, cnp.ndarray x, index images, index channels, bint last, int threads):
        """out = sums of x's windows times the factors of their row and column."""
        if cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT:
            forward[float](self, True, <float*>cnp.PyArray_DATA(out), NULL, <const float*>cnp.PyArray_DATA(x), images,
                           channels, last, threads)
        else:
            forward[double](self, True, <double*>cnp.PyArray_DATA(out), NULL, <const double*>cnp.PyArray_DATA(x),
                            images, channels, last, threads)

    def maximum_backward(self, cnp.ndarray dx, cnp.ndarray dy, x, indices, index images, index channels, bint last,
                         int threads):
        """dx = dy added up where the maxima stood, by ``indices``, or by ``x`` where they are None.

        Returns a number other than 0 if ``indices`` point outside the plane.
        """
        cdef void* source = NULL if x is None else cnp.PyArray_DATA(x)
        cdef void* places = NULL if indices is None else cnp.PyArray_DATA(indices)
        if cnp.PyArray_TYPE(dy) == cnp.NPY_FLOAT:
            return backward[float](self, False, <float*>cnp.PyArray_DATA(dx), <const float*>cnp.PyArray_DATA(dy),
                                   <const float*>source, <const int64_t*>places, images, channels, last, threads)
        return backward[double](self, False, <double*>cnp.PyArray_DATA(dx), <const double*>cnp.PyArray_DATA(dy),
                                <const double*>source, <const int64_t*>places, images, channels, last, threads)

    def average_backward(self, cnp.ndarray dx, cnp.ndarray dy, index images, index channels, bint last, int threads):
        """dx = dy times its window's factors, added to all pixels of the window."""
        if cnp.PyArray_TYPE(dy) == cnp.NPY_FLOAT:
            backward[float](self, True, <float*>cnp.PyArray_DATA(dx), <const float*>cnp.PyArray_DATA(dy), NULL, NULL,
                            images, channels, last, threads)
        else:
            backward[double](self, True, <double*>cnp.PyArray_DATA(dx), <const double*>cnp.PyArray_DATA(dy), NULL, NULL,
                             images, channels, last, threads)


cdef inline void clip(index start, index size, index taps, index dilation, index* first, index* last) noexcept nogil:
    """Which taps first <= t < last of a window that begins at ``start`` meet an axis of ``size`` pixels."""
    first[0] = (-start + dilation - 1) // dilation if start < 0 else 0
    last[0] = min(taps, (size - start + dilation - 1) // dilation) if size > start else 0
    if last[0] < first[0]:
        last[0] = first[0]


cdef int forward(Pool pool, bint average, real* out, int64_t* places, const real* x, index images, index channels,
                 bint last, int threads) except -1:
    cdef Shape s = pool.shape
    cdef index tasks, i, per_thread = 0
    cdef Workspace memory
    cdef char* private = NULL
    s.images, s.channels, s.planes = images, channels, images * channels
    s.task_planes = max(1, TASK // (s.height * s.width))
    s.task_rows = max(1, TASK // (s.stride_row * s.width * max(channels, 1)))
    if last:
        tasks = (images * s.out_height + s.task_rows - 1) // s.task_rows
        per_thread = 2 * (channels + LANES_f32) if places != NULL else 0
    else:
        tasks = (s.planes + s.task_planes - 1) // s.task_planes
        per_thread = scratch_length(&s) if places != NULL else s.buffer if not s.pairs else 0
    if threads > tasks:
        threads = <int>max(tasks, 1)
    per_thread = (per_thread * sizeof(real) + 4095) // 4096 * 4096
    if per_thread:
        memory = take(per_thread * threads)
        private = <char*>memory.data
    with nogil:
        if threads == 1:
            for i in range(tasks):
                forward_task(pool, &s, average, out, places, x, last, private, i)
        else:
            for i in prange(tasks, schedule="static", num_threads=threads):
                forward_task(pool, &s, average, out, places, x, last, private + threadid() * per_thread, i)
    return 0


cdef index scratch_length(const Shape* s) noexcept nogil:
    """Elements of what finding the taps of a plane needs: ring, maxima, their taps, places of the ring's rows."""
    return s.ring * s.stride_column * s.phase + 2 * s.padded_out + 2 * s.kernel_rows + 16


cdef void forward_task(Pool pool, const Shape* s, bint average, real* out, int64_t* places, const real* x, bint last,
                       char* private, index task) noexcept nogil:
    cdef index first, end, area = s.height * s.width, out_area = s.out_height * s.out_width, plane
    cdef const real* x_end = x + s.planes * area
    cdef uint64_t mode = 0
    if average:  # maxima only compare
        mode = flush_denormals()
    if last:
        first = task * s.task_rows
        end = min(first + s.task_rows, s.images * s.out_height)
        pixel_rows(pool, s, average, out, places, x, x_end, <real*>private, first, end)
    else:
        first = task * s.task_planes
        end = min(first + s.task_planes, s.planes)
        if places != NULL:
            for plane in range(first, end):
                tapped_plane(pool, s, out + plane * out_area, places + plane * out_area, NULL, NULL,
                             x + plane * area, <real*>private)
        elif s.pairs:
            pair_planes(pool, s, average, out, x, x_end, first, end)
        else:
            planes(pool, s, average, out, x, x_end, <real*>private, first, end)
    if average:
        restore_denormals(mode)


cdef void pair_planes(Pool pool, const Shape* s, bint average, real* out, const real* x, const real* x_end, index first,
                      index end) noexcept nogil:
    cdef index area = s.height * s.width, out_area = s.out_height * s.out_width, plane = first, rows = s.out_height
    cdef real* out_end = out + end * out_area
    cdef real factor = <real>(pool.row_factor[0] * pool.column_factor[0])
    if s.height == 2 * s.out_height:
        # The rows of all planes follow each other without a gap.
        rows *= end - first
        end = min(end, first + 1)
    for plane in range(first, end):
        if real is float:
            if average:
                sum_pairs_f32(out + plane * out_area, out_end, x + plane * area, x_end, s.width, rows, s.out_width,
                              factor)
            else:
                max_pairs_f32(out + plane * out_area, out_end, x + plane * area, x_end, s.width, rows, s.out_width)
        else:
            if average:
                sum_pairs_f64(out + plane * out_area, out_end, x + plane * area, x_end, s.width, rows, s.out_width,
                              factor)
            else:
                max_pairs_f64(out + plane * out_area, out_end, x + plane * area, x_end, s.width, rows, s.out_width)


cdef void planes(Pool pool, const Shape* s, bint average, real* out, const real* x, const real* x_end, real* row,
                 index first, index end) noexcept nogil:
    """Join the rows of each window into a row buffer with neutral margins, then its columns."""
    cdef index area = s.height * s.width, out_area = s.out_height * s.out_width
    cdef index plane, p, i, top, bottom, start, pitch = s.dilation_row * s.width
    cdef real neutral = <real>(0 if average else -INFINITY)
    cdef real* to
    cdef real* out_end = out + end * out_area
    cdef real* line = row + s.pad_column
    cdef const real* source
    for i in range(s.buffer):
        row[i] = neutral
    for plane in range(first, end):
        for p in range(s.out_height):
            start = p * s.stride_row - s.pad_row
            clip(start, s.height, s.kernel_rows, s.dilation_row, &top, &bottom)
            source = x + plane * area + (start + top * s.dilation_row) * s.width
            to = out + plane * out_area + p * s.out_width
            if real is float:
                if average:
                    sum_rows_f32(line, source, x_end, pitch, bottom - top, s.width)
                    sum_columns_f32(to, out_end, row, s.out_width, s.kernel_columns, s.stride_column, s.dilation_column,
                                    pool.column_factor32, <float>pool.row_factor[p])
                else:
                    max_rows_f32(line, source, x_end, pitch, bottom - top, s.width)
                    max_columns_f32(to, out_end, row, s.out_width, s.kernel_columns, s.stride_column, s.dilation_column)
            else:
                if average:
                    sum_rows_f64(line, source, x_end, pitch, bottom - top, s.width)
                    sum_columns_f64(to, out_end, row, s.out_width, s.kernel_columns, s.stride_column, s.dilation_column,
                                    pool.column_factor, pool.row_factor[p])
                else:
                    max_rows_f64(line, source, x_end, pitch, bottom - top, s.width)
                    max_columns_f64(to, out_end, row, s.out_width, s.kernel_columns, s.stride_column, s.dilation_column)


cdef inline index tap_at(const real* code, index q) noexcept nogil:
    """Taps stand where numbers of the same size would."""
    return (<const int32_t*>code)[q] if real is float else <index>(<const int64_t*>code)[q]


cdef inline void set_tap(real* code, index q, index tap) noexcept nogil:
    if real is float:
        (<int32_t*>code)[q] = <int32_t>tap
    else:
        (<int64_t*>code)[q] = tap


cdef void tapped_plane(Pool pool, const Shape* s, real* out, int64_t* places, real* dx, const real* dy, const real* x,
                       real* ring) noexcept nogil:
    """Find the winning tap of each window of a plane; write maxima and places, or (places NULL) add dy to dx there."""
    cdef index slot = s.stride_column * s.phase, loaded = -s.pad_row, p, q, r, row, start, top, bottom, tap, corner
    cdef real* best = ring + s.ring * slot
    cdef real* code = best + s.padded_out
    cdef index* rows = <index*>((<Py_ssize_t>(code + s.padded_out) + 15) // 16 * 16)
    cdef real neutral = <real>-INFINITY
    for p in range(s.ring * slot):
        ring[p] = neutral
    for p in range(s.out_height):
        start = p * s.stride_row - s.pad_row
        clip(start, s.height, s.kernel_rows, s.dilation_row, &top, &bottom)
        for row in range(max(loaded, start, 0), min(start + s.ring, s.height)):
            if real is float:
                split_row_f32(ring + row % s.ring * slot, s.phase, x + row * s.width, s.width, s.pad_column,
                              s.stride_column)
            else:
                split_row_f64(ring + row % s.ring * slot, s.phase, x + row * s.width, s.width, s.pad_column,
                              s.stride_column)
        loaded = start + s.ring
        for r in range(top, bottom):
            rows[r] = (start + r * s.dilation_row) % s.ring * slot
        for q in range(s.out_width):
            set_tap(code, q,
                    top * s.kernel_columns + pool.first_tap[q] if pool.first_tap[q] >= 0 and top < bottom else -1)
        if real is float:
            best_taps_f32(best, <int32_t*>code, ring, rows, top, bottom, pool.tap_place, s.kernel_columns, s.out_width)
        else:
            best_taps_f64(best, <int64_t*>code, ring, rows, top, bottom, pool.tap_place, s.kernel_columns, s.out_width)
        for q in range(s.out_width):
            tap = tap_at(code, q)
            corner = start * s.width + q * s.stride_column - s.pad_column
            if places != NULL:
                out[p * s.out_width + q] = best[q]
                places[p * s.out_width + q] = corner + pool.tap_shift[tap] if tap >= 0 else -1
            elif tap >= 0:
                dx[corner + pool.tap_shift[tap]] += dy[p * s.out_width + q]


cdef void pixel_rows(Pool pool, const Shape* s, bint average, real* out, int64_t* places, const real* x,
                     const real* x_end, real* scratch, index first, index end) noexcept nogil:
    """Channels-last: output rows ``first`` to ``end``, counted through all images."""
    cdef index n = s.channels, line, p, q, image, top, bottom, left, right, row, column, c, tap
    cdef index row_step = s.dilation_row * s.width * n, column_step = s.dilation_column * n
    cdef real* to = out + first * s.out_width * n
    cdef real* out_end = out + end * s.out_width * n
    cdef real* code = scratch + n + LANES_f32
    cdef const real* source
    cdef int64_t* place
    for line in range(first, end):
        image = line // s.out_height
        p = line % s.out_height
        row = p * s.stride_row - s.pad_row
        clip(row, s.height, s.kernel_rows, s.dilation_row, &top, &bottom)
        for q in range(s.out_width):
            column = q * s.stride_column - s.pad_column
            clip(column, s.width, s.kernel_columns, s.dilation_column, &left, &right)
            source = x + ((image * s.height + row + top * s.dilation_row) * s.width + column
                          + left * s.dilation_column) * n
            if places != NULL:
                tap = top * s.kernel_columns + left if top < bottom and left < right else -1
                if real is float:
                    best_pixels_f32(scratch, <int32_t*>code, source, x_end, bottom - top, row_step, right - left,
                                    column_step, n, tap, s.kernel_columns)
                else:
                    best_pixels_f64(scratch, <int64_t*>code, source, x_end, bottom - top, row_step, right - left,
                                    column_step, n, tap, s.kernel_columns)
                place = places + (to - out)
                for c in range(n):
                    to[c] = scratch[c]
                    tap = tap_at(code, c)
                    place[c] = row * s.width + column + pool.tap_shift[tap] if tap >= 0 else -1
            elif real is float:
                if average:
                    sum_pixels_f32(to, out_end, source, x_end, bottom - top, row_step, right - left, column_step, n,
                                   <float>(pool.row_factor[p] * pool.column_factor[q]))
                else:
                    max_pixels_f32(to, out_end, source, x_end, bottom - top, row_step, right - left, column_step, n)
            else:
                if average:
                    sum_pixels_f64(to, out_end, source, x_end, bottom - top, row_step, right - left, column_step, n,
                                   pool.row_factor[p] * pool.column_factor[q])
                else:
                    max_pixels_f64(to, out_end, source, x_end, bottom - top, row_step, right - left, column_step, n)
            to += n


cdef int backward(Pool pool, bint average, real* dx, const real* dy, const real* x, const int64_t* places, index images,
                  index channels, bint last, int threads) except -1:
    """Returns how many places were no place of the plane."""
    cdef Shape s = pool.shape
    cdef index tasks, i, per_thread, blocks
    cdef Workspace memory
    cdef char* private
    cdef int wrong = 0
    s.images, s.channels, s.planes = images, channels, images * channels
    s.task_planes = max(1, TASK // (s.height * s.width))
    # Gradients of one image meet: what may be shared out is the channels, and for few images it has to be.
    s.channel_block = max(channels, 1) if images >= 16 else CHANNEL_BLOCK
    if last:
        blocks = (channels + s.channel_block - 1) // s.channel_block
        tasks = images * blocks
        per_thread = 2 * (s.channel_block + LANES_f32)
    else:
        tasks = (s.planes + s.task_planes - 1) // s.task_planes
        per_thread = s.buffer if average else scratch_length(&s)
    if threads > tasks:
        threads = <int>max(tasks, 1)
    per_thread = (per_thread * sizeof(real) + 4095) // 4096 * 4096
    memory = take(per_thread * threads)
    private = <char*>memory.data
    with nogil:
        if threads == 1:
            for i in range(tasks):
                wrong += backward_task(pool, &s, average, dx, dy, x, places, last, private, i)
        else:
            for i in prange(tasks, schedule="static", num_threads=threads):
                wrong += backward_task(pool, &s, average, dx, dy, x, places, last, private + threadid() * per_thread, i)
    return wrong


cdef int backward_task(Pool pool, const Shape* s, bint average, real* dx, const real* dy, const real* x,
                       const int64_t* places, bint last, char* private, index task) noexcept nogil:
    cdef index first, end, plane, area = s.height * s.width, out_area = s.out_height * s.out_width, blocks, image, block
    cdef int wrong = 0
    cdef uint64_t mode = flush_denormals() if average else 0
    if last:
        blocks = (s.channels + s.channel_block - 1) // s.channel_block
        image = task // blocks
        block = task % blocks * s.channel_block
        wrong = pixels_backward(pool, s, average, dx, dy, x, places, <real*>private, image, block,
                                min(s.channel_block, s.channels - block))
    else:
        first = task * s.task_planes
        end = min(first + s.task_planes, s.planes)
        if s.pairs and not average and places == NULL:
            pair_planes_backward(s, dx, dy, x, first, end)
        else:
            memset(dx + first * area, 0, (end - first) * area * sizeof(real))
            for plane in range(first, end):
                if average:
                    average_plane_backward(pool, s, dx + plane * area, dy + plane * out_area, <real*>private)
                elif places != NULL:
                    wrong += scatter(dx + plane * area, dy + plane * out_area, places + plane * out_area, out_area,
                                     area, 1, 1)
                else:
                    tapped_plane(pool, s, <real*>NULL, NULL, dx + plane * area, dy + plane * out_area, x + plane * area,
                                 <real*>private)
    if average:
        restore_denormals(mode)
    return wrong


cdef void pair_planes_backward(const Shape* s, real* dx, const real* dy, const real* x, index first,
                               index end) noexcept nogil:
    cdef index area = s.height * s.width, out_area = s.out_height * s.out_width, plane, p, rest
    cdef real* dx_end = dx + end * area
    cdef const real* dy_end = dy + s.planes * out_area
    cdef const real* x_end = x + s.planes * area
    cdef index at
    for plane in range(first, end):
        for p in range(s.out_height):
            at = plane * area + 2 * p * s.width
            if real is float:
                max_pairs_backward_f32(dx + at, dx_end, dy + plane * out_area + p * s.out_width, dy_end, x + at, x_end,
                                       s.width, s.out_width)
            else:
                max_pairs_backward_f64(dx + at, dx_end, dy + plane * out_area + p * s.out_width, dy_end, x + at, x_end,
                                       s.width, s.out_width)
        rest = area - 2 * s.out_height * s.width
        memset(dx + (plane + 1) * area - rest, 0, rest * sizeof(real))


cdef int scatter(real* dx, const real* dy, const int64_t* places, index n, index area, index step,
                 index channels) noexcept nogil:
    """dx[place] += dy for n pixels of ``channels`` channels each, pixels ``step`` apart; counts impossible places."""
    cdef index i, c
    cdef int64_t place
    cdef int wrong = 0
    for i in range(n):
        for c in range(channels):
            place = places[i * step + c]
            if 0 <= place < area:
                dx[place * step + c] += dy[i * step + c]
            elif place != -1:  # the window met no pixel
                wrong = 1
    return wrong


cdef void average_plane_backward(Pool pool, const Shape* s, real* dx, const real* dy, real* row) noexcept nogil:
    """Spread each row of gradients over the columns of its windows, then add that to the windows' rows."""
    cdef index p, q, r, c, top, bottom, start
    cdef real g
    cdef real* line = row + s.pad_column
    for p in range(s.out_height):
        memset(row, 0, s.buffer * sizeof(real))
        for q in range(s.out_width):
            g = dy[p * s.out_width + q] * <real>pool.column_factor[q]
            for c in range(s.kernel_columns):
                row[q * s.stride_column + c * s.dilation_column] += g
        start = p * s.stride_row - s.pad_row
        clip(start, s.height, s.kernel_rows, s.dilation_row, &top, &bottom)
        for r in range(top, bottom):
            if real is float:
                add_scaled_f32(dx + (start + r * s.dilation_row) * s.width, line, <float>pool.row_factor[p], s.width)
            else:
                add_scaled_f64(dx + (start + r * s.dilation_row) * s.width, line, pool.row_factor[p], s.width)


cdef int pixels_backward(Pool pool, const Shape* s, bint average, real* dx, const real* dy, const real* x,
                         const int64_t* places, real* scratch, index image, index block, index n) noexcept nogil:
    """Channels-last: ``n`` channels from ``block`` of one image."""
    cdef index area = s.height * s.width, out_area = s.out_height * s.out_width, channels = s.channels
    cdef index p, q, i, r, c, row, column, top, bottom, left, right, tap
    cdef index row_step = s.dilation_row * s.width * channels, column_step = s.dilation_column * channels
    cdef const real* x_end = x + s.planes * area  # without x nobody asks
    cdef real* code = scratch + s.channel_block + LANES_f32
    cdef const real* source
    cdef real* to
    cdef const real* gradient
    dx += image * area * channels + block
    dy += image * out_area * channels + block
    if n == channels:
        memset(dx, 0, area * channels * sizeof(real))
    else:
        for i in range(area):
            memset(dx + i * channels, 0, n * sizeof(real))
    if places != NULL:
        return scatter(dx, dy, places + image * out_area * channels + block, out_area, area, channels, n)
    for p in range(s.out_height):
        row = p * s.stride_row - s.pad_row
        clip(row, s.height, s.kernel_rows, s.dilation_row, &top, &bottom)
        for q in range(s.out_width):
            column = q * s.stride_column - s.pad_column
            clip(column, s.width, s.kernel_columns, s.dilation_column, &left, &right)
            gradient = dy + (p * s.out_width + q) * channels
            i = ((row + top * s.dilation_row) * s.width + column + left * s.dilation_column) * channels
            if average:
                for r in range(bottom - top):
                    for c in range(right - left):
                        to = dx + i + r * row_step + c * column_step
                        if real is float:
                            add_scaled_f32(to, gradient, <float>(pool.row_factor[p] * pool.column_factor[q]), n)
                        else:
                            add_scaled_f64(to, gradient, pool.row_factor[p] * pool.column_factor[q], n)
                continue
            source = x + image * area * channels + block + i
            if top == bottom or left == right:
                continue
            tap = top * s.kernel_columns + left
            if real is float:
                best_pixels_f32(scratch, <int32_t*>code, source, x_end, bottom - top, row_step, right - left,
                                column_step, n, tap, s.kernel_columns)
            else:
                best_pixels_f64(scratch, <int64_t*>code, source, x_end, bottom - top, row_step, right - left,
                                column_step, n, tap, s.kernel_columns)
            to = dx + (row * s.width + column) * channels
            for c in range(n):
                to[pool.tap_shift[tap_at(code, c)] * channels + c] += gradient[c]
    return 0
