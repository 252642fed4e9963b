"""What the pooling kernels take from pool.h; integers beside real numbers have their size and go by their type."""

from libc.stdint cimport int32_t, int64_t

from cyconv.kernels.simd cimport real

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
                                const float* x_end, index width, index rows, index n) noexcept
    void max_pairs_backward_f64(double* dx, const double* dx_end, const double* dy, const double* dy_end,
                                const double* x, const double* x_end, index width, index rows, index n) noexcept
    void split_row_f32(float* to, index length, const float* x, index width, index pad, index stride) noexcept
    void split_row_f64(double* to, index length, const double* x, index width, index pad, index stride) noexcept
    void merge_row_f32(float* to, const float* even, const float* odd, index n) noexcept
    void merge_row_f64(double* to, const double* even, const double* odd, index n) noexcept
    void best_taps_f32(float* best, int32_t* name, const float* base, const int32_t* first_column,
                       const int32_t* names, const index* rows, index row_first, index row_last, const index* taps,
                       index tap_count, index n) noexcept
    void best_taps_f64(double* best, int64_t* name, const double* base, const int64_t* first_column,
                       const int64_t* names, const index* rows, index row_first, index row_last, const index* taps,
                       index tap_count, index n) noexcept
    void scatter_row_f32(float* dx, const float* dy, const int32_t* place, index stride, index n) noexcept
    void scatter_row_f64(double* dx, const double* dy, const int64_t* place, index stride, index n) noexcept
    void take_row_f32(float* to, int whole, const float* g, const index* row, index rows, const index* shift,
                      index taps, index n) noexcept
    void take_row_f64(double* to, int whole, const double* g, const index* row, index rows, const index* shift,
                      index taps, index n) noexcept
    void max_pixels_f32(float* out, const float* out_end, const float* x, const float* x_end, index rows,
                        index row_step, index columns, index column_step, index n) noexcept
    void max_pixels_f64(double* out, const double* out_end, const double* x, const double* x_end, index rows,
                        index row_step, index columns, index column_step, index n) noexcept
    void sum_pixels_f32(float* out, const float* out_end, const float* x, const float* x_end, index rows,
                        index row_step, index columns, index column_step, index n, float factor) noexcept
    void sum_pixels_f64(double* out, const double* out_end, const double* x, const double* x_end, index rows,
                        index row_step, index columns, index column_step, index n, double factor) noexcept
    void best_pixels_f32(float* best, int32_t* place, const float* x, const float* x_end, index rows, index row_step,
                         index columns, index column_step, index n, index first) noexcept
    void best_pixels_f64(double* best, int64_t* place, const double* x, const double* x_end, index rows, index row_step,
                         index columns, index column_step, index n, index first) noexcept
    void scatter_pixels_f32(float* dx, const float* dy, const float* x, index rows, index row_step, index columns,
                            index column_step, index n) noexcept
    void scatter_pixels_f64(double* dx, const double* dy, const double* x, index rows, index row_step, index columns,
                            index column_step, index n) noexcept
    void add_scaled_f32(float* to, const float* source, float factor, index n) noexcept
    void add_scaled_f64(double* to, const double* source, double factor, index n) noexcept


cdef inline index integer_at(const real* p, index i) noexcept nogil:
    return (<const int32_t*>p)[i] if real is float else <index>(<const int64_t*>p)[i]


cdef inline void max_rows(real* to, const real* x, const real* x_end, index pitch, index rows, index n) noexcept nogil:
    if real is float:
        max_rows_f32(to, x, x_end, pitch, rows, n)
    else:
        max_rows_f64(to, x, x_end, pitch, rows, n)


cdef inline void sum_rows(real* to, const real* x, const real* x_end, index pitch, index rows, index n) noexcept nogil:
    if real is float:
        sum_rows_f32(to, x, x_end, pitch, rows, n)
    else:
        sum_rows_f64(to, x, x_end, pitch, rows, n)


cdef inline void max_columns(real* out, const real* out_end, const real* row, index n, index taps, index stride,
                             index dilation) noexcept nogil:
    if real is float:
        max_columns_f32(out, out_end, row, n, taps, stride, dilation)
    else:
        max_columns_f64(out, out_end, row, n, taps, stride, dilation)


cdef inline void sum_columns(real* out, const real* out_end, const real* row, index n, index taps, index stride,
                             index dilation, const real* scale, real factor) noexcept nogil:
    if real is float:
        sum_columns_f32(out, out_end, row, n, taps, stride, dilation, scale, factor)
    else:
        sum_columns_f64(out, out_end, row, n, taps, stride, dilation, scale, factor)


cdef inline void max_pairs(real* out, const real* out_end, const real* x, const real* x_end, index pitch, index rows,
                           index n) noexcept nogil:
    if real is float:
        max_pairs_f32(out, out_end, x, x_end, pitch, rows, n)
    else:
        max_pairs_f64(out, out_end, x, x_end, pitch, rows, n)


cdef inline void sum_pairs(real* out, const real* out_end, const real* x, const real* x_end, index pitch, index rows,
                           index n, real factor) noexcept nogil:
    if real is float:
        sum_pairs_f32(out, out_end, x, x_end, pitch, rows, n, factor)
    else:
        sum_pairs_f64(out, out_end, x, x_end, pitch, rows, n, factor)


cdef inline void max_pairs_backward(real* dx, const real* dx_end, const real* dy, const real* dy_end, const real* x,
                                    const real* x_end, index width, index rows, index n) noexcept nogil:
    if real is float:
        max_pairs_backward_f32(dx, dx_end, dy, dy_end, x, x_end, width, rows, n)
    else:
        max_pairs_backward_f64(dx, dx_end, dy, dy_end, x, x_end, width, rows, n)


cdef inline void split_row(real* to, index length, const real* x, index width, index pad, index stride) noexcept nogil:
    if real is float:
        split_row_f32(to, length, x, width, pad, stride)
    else:
        split_row_f64(to, length, x, width, pad, stride)


cdef inline void merge_row(real* to, const real* even, const real* odd, index n) noexcept nogil:
    if real is float:
        merge_row_f32(to, even, odd, n)
    else:
        merge_row_f64(to, even, odd, n)


cdef inline void best_taps(real* best, real* name, const real* base, const real* first_column, const real* names,
                           const index* rows, index row_first, index row_last, const index* taps, index tap_count,
                           index n) noexcept nogil:
    if real is float:
        best_taps_f32(best, <int32_t*>name, base, <const int32_t*>first_column, <const int32_t*>names, rows, row_first,
                      row_last, taps, tap_count, n)
    else:
        best_taps_f64(best, <int64_t*>name, base, <const int64_t*>first_column, <const int64_t*>names, rows, row_first,
                      row_last, taps, tap_count, n)


cdef inline void scatter_row(real* dx, const real* dy, const real* place, index stride, index n) noexcept nogil:
    if real is float:
        scatter_row_f32(dx, dy, <const int32_t*>place, stride, n)
    else:
        scatter_row_f64(dx, dy, <const int64_t*>place, stride, n)


cdef inline void take_row(real* to, int whole, const real* g, const index* row, index rows, const index* shift,
                          index taps, index n) noexcept nogil:
    if real is float:
        take_row_f32(to, whole, g, row, rows, shift, taps, n)
    else:
        take_row_f64(to, whole, g, row, rows, shift, taps, n)


cdef inline void max_pixels(real* out, const real* out_end, const real* x, const real* x_end, index rows,
                            index row_step, index columns, index column_step, index n) noexcept nogil:
    if real is float:
        max_pixels_f32(out, out_end, x, x_end, rows, row_step, columns, column_step, n)
    else:
        max_pixels_f64(out, out_end, x, x_end, rows, row_step, columns, column_step, n)


cdef inline void sum_pixels(real* out, const real* out_end, const real* x, const real* x_end, index rows,
                            index row_step, index columns, index column_step, index n, real factor) noexcept nogil:
    if real is float:
        sum_pixels_f32(out, out_end, x, x_end, rows, row_step, columns, column_step, n, factor)
    else:
        sum_pixels_f64(out, out_end, x, x_end, rows, row_step, columns, column_step, n, factor)


cdef inline void best_pixels(real* best, real* place, const real* x, const real* x_end, index rows, index row_step,
                             index columns, index column_step, index n, index first) noexcept nogil:
    if real is float:
        best_pixels_f32(best, <int32_t*>place, x, x_end, rows, row_step, columns, column_step, n, first)
    else:
        best_pixels_f64(best, <int64_t*>place, x, x_end, rows, row_step, columns, column_step, n, first)


cdef inline void scatter_pixels(real* dx, const real* dy, const real* x, index rows, index row_step, index columns,
                                index column_step, index n) noexcept nogil:
    if real is float:
        scatter_pixels_f32(dx, dy, x, rows, row_step, columns, column_step, n)
    else:
        scatter_pixels_f64(dx, dy, x, rows, row_step, columns, column_step, n)


cdef inline void add_scaled(real* to, const real* source, real factor, index n) noexcept nogil:
    if real is float:
        add_scaled_f32(to, source, factor, n)
    else:
        add_scaled_f64(to, source, factor, n)
