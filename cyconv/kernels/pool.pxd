"""What pooling takes from pool.h, pool_pairs.h and pool_pixels.h; integers beside reals have their size, go by type."""

from libc.stdint cimport int32_t, int64_t, uint8_t

from cyconv.kernels.pool_axis cimport index
from cyconv.kernels.simd cimport real

cdef extern from "pool_pairs.h" nogil:
    void max_pairs_f32(float* out, const float* out_end, const float* x, const float* x_end, index pitch, index rows,
                       index n) noexcept
    void max_pairs_f64(double* out, const double* out_end, const double* x, const double* x_end, index pitch,
                       index rows, index n) noexcept
    void coded_pairs_f32(float* out, const float* out_end, uint8_t* code, const float* x, const float* x_end,
                         index pitch, index rows, index n) noexcept
    void coded_pairs_f64(double* out, const double* out_end, uint8_t* code, const double* x, const double* x_end,
                         index pitch, index rows, index n) noexcept
    void sum_pairs_f32(float* out, const float* out_end, const float* x, const float* x_end, index pitch, index rows,
                       index n, float factor) noexcept
    void sum_pairs_f64(double* out, const double* out_end, const double* x, const double* x_end, index pitch,
                       index rows, index n, double factor) noexcept

cdef extern from "pool_pixels.h" nogil:
    ctypedef struct pool_block:
        index slices, rows, columns, slice_step, row_step, column_step

    void max_rows_f32(float* to, const float* x, const float* x_end, const index* row, index n, index width) noexcept
    void max_rows_f64(double* to, const double* x, const double* x_end, const index* row, index n, index width) noexcept
    void sum_rows_f32(float* to, const float* x, const float* x_end, const index* row, index n, index width) noexcept
    void sum_rows_f64(double* to, const double* x, const double* x_end, const index* row, index n, index width) noexcept
    void max_columns_f32(float* out, const float* out_end, const float* row, index n, index taps, index stride,
                         index dilation) noexcept
    void max_columns_f64(double* out, const double* out_end, const double* row, index n, index taps, index stride,
                         index dilation) noexcept
    void sum_columns_f32(float* out, const float* out_end, const float* row, index n, index taps, index stride,
                         index dilation, const float* scale, float factor) noexcept
    void sum_columns_f64(double* out, const double* out_end, const double* row, index n, index taps, index stride,
                         index dilation, const double* scale, double factor) noexcept
    void max_spans_f32(float* out, const float* row, index n, const int32_t* first, const int32_t* count,
                       index dilation) noexcept
    void max_spans_f64(double* out, const double* row, index n, const int32_t* first, const int32_t* count,
                       index dilation) noexcept
    void sum_spans_f32(float* out, const float* row, index n, const int32_t* first, const int32_t* count,
                       index dilation, const float* scale, float factor) noexcept
    void sum_spans_f64(double* out, const double* row, index n, const int32_t* first, const int32_t* count,
                       index dilation, const double* scale, double factor) noexcept
    void max_planes_f32(float* out, const float* x, const float* x_end, index area, index n) noexcept
    void max_planes_f64(double* out, const double* x, const double* x_end, index area, index n) noexcept
    void sum_planes_f32(float* out, const float* x, const float* x_end, index area, index n, float factor) noexcept
    void sum_planes_f64(double* out, const double* x, const double* x_end, index area, index n, double factor) noexcept
    index best_in_run_f32(const float* p, const float* x_end, index n, float* best) noexcept
    index best_in_run_f64(const double* p, const double* x_end, index n, double* best) noexcept
    void narrow_f32(uint8_t* to, const int32_t* name, index n) noexcept
    void narrow_f64(uint8_t* to, const int64_t* name, index n) noexcept
    void split_row_f32(float* to, index length, const float* x, index width, index pad, index stride) noexcept
    void split_row_f64(double* to, index length, const double* x, index width, index pad, index stride) noexcept
    void best_taps_f32(float* best, int32_t* to, const float* base, const int32_t* first_column, const index* row,
                       const index* name, index n, const index* tap, index taps, index step, index windows) noexcept
    void best_taps_f64(double* best, int64_t* to, const double* base, const int64_t* first_column, const index* row,
                       const index* name, index n, const index* tap, index taps, index step, index windows) noexcept
    void max_pixels_f32(float* out, const float* out_end, const float* x, const float* x_end, const pool_block* b,
                        index n) noexcept
    void max_pixels_f64(double* out, const double* out_end, const double* x, const double* x_end, const pool_block* b,
                        index n) noexcept
    void sum_pixels_f32(float* out, const float* out_end, const float* x, const float* x_end, const pool_block* b,
                        index n, float factor) noexcept
    void sum_pixels_f64(double* out, const double* out_end, const double* x, const double* x_end, const pool_block* b,
                        index n, double factor) noexcept
    void best_pixels_f32(float* best, int32_t* place, const float* x, const float* x_end, const pool_block* b, index n,
                         index first, index slice_places, index row_places, index column_places) noexcept
    void best_pixels_f64(double* best, int64_t* place, const double* x, const double* x_end, const pool_block* b,
                         index n, index first, index slice_places, index row_places, index column_places) noexcept


cdef inline index integer_at(const real* p, index i) noexcept nogil:
    return (<const int32_t*>p)[i] if real is float else <index>(<const int64_t*>p)[i]


cdef inline void set_integer(real* p, index i, index value) noexcept nogil:
    if real is float:
        (<int32_t*>p)[i] = <int32_t>value
    else:
        (<int64_t*>p)[i] = value


cdef inline void max_rows(real* to, const real* x, const real* x_end, const index* row, index n,
                          index width) noexcept nogil:
    if real is float:
        max_rows_f32(to, x, x_end, row, n, width)
    else:
        max_rows_f64(to, x, x_end, row, n, width)


cdef inline void sum_rows(real* to, const real* x, const real* x_end, const index* row, index n,
                          index width) noexcept nogil:
    if real is float:
        sum_rows_f32(to, x, x_end, row, n, width)
    else:
        sum_rows_f64(to, x, x_end, row, n, width)


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


cdef inline void max_spans(real* out, const real* row, index n, const int32_t* first, const int32_t* count,
                           index dilation) noexcept nogil:
    if real is float:
        max_spans_f32(out, row, n, first, count, dilation)
    else:
        max_spans_f64(out, row, n, first, count, dilation)


cdef inline void sum_spans(real* out, const real* row, index n, const int32_t* first, const int32_t* count,
                           index dilation, const real* scale, real factor) noexcept nogil:
    if real is float:
        sum_spans_f32(out, row, n, first, count, dilation, scale, factor)
    else:
        sum_spans_f64(out, row, n, first, count, dilation, scale, factor)


cdef inline void max_planes(real* out, const real* x, const real* x_end, index area, index n) noexcept nogil:
    if real is float:
        max_planes_f32(out, x, x_end, area, n)
    else:
        max_planes_f64(out, x, x_end, area, n)


cdef inline void sum_planes(real* out, const real* x, const real* x_end, index area, index n,
                            real factor) noexcept nogil:
    if real is float:
        sum_planes_f32(out, x, x_end, area, n, factor)
    else:
        sum_planes_f64(out, x, x_end, area, n, factor)


cdef inline index best_in_run(const real* p, const real* x_end, index n, real* best) noexcept nogil:
    if real is float:
        return best_in_run_f32(p, x_end, n, best)
    else:
        return best_in_run_f64(p, x_end, n, best)


cdef inline void max_pairs(real* out, const real* out_end, const real* x, const real* x_end, index pitch, index rows,
                           index n) noexcept nogil:
    if real is float:
        max_pairs_f32(out, out_end, x, x_end, pitch, rows, n)
    else:
        max_pairs_f64(out, out_end, x, x_end, pitch, rows, n)


cdef inline void coded_pairs(real* out, const real* out_end, uint8_t* code, const real* x, const real* x_end,
                             index pitch, index rows, index n) noexcept nogil:
    if real is float:
        coded_pairs_f32(out, out_end, code, x, x_end, pitch, rows, n)
    else:
        coded_pairs_f64(out, out_end, code, x, x_end, pitch, rows, n)


cdef inline void narrow(uint8_t* to, const real* name, index n) noexcept nogil:
    if real is float:
        narrow_f32(to, <const int32_t*>name, n)
    else:
        narrow_f64(to, <const int64_t*>name, n)


cdef inline void sum_pairs(real* out, const real* out_end, const real* x, const real* x_end, index pitch, index rows,
                           index n, real factor) noexcept nogil:
    if real is float:
        sum_pairs_f32(out, out_end, x, x_end, pitch, rows, n, factor)
    else:
        sum_pairs_f64(out, out_end, x, x_end, pitch, rows, n, factor)


cdef inline void split_row(real* to, index length, const real* x, index width, index pad, index stride) noexcept nogil:
    if real is float:
        split_row_f32(to, length, x, width, pad, stride)
    else:
        split_row_f64(to, length, x, width, pad, stride)


cdef inline void best_taps(real* best, real* to, const real* base, const real* first_column, const index* row,
                           const index* name, index n, const index* tap, index taps, index step,
                           index windows) noexcept nogil:
    if real is float:
        best_taps_f32(best, <int32_t*>to, base, <const int32_t*>first_column, row, name, n, tap, taps, step, windows)
    else:
        best_taps_f64(best, <int64_t*>to, base, <const int64_t*>first_column, row, name, n, tap, taps, step, windows)


cdef inline void max_pixels(real* out, const real* out_end, const real* x, const real* x_end, const pool_block* b,
                            index n) noexcept nogil:
    if real is float:
        max_pixels_f32(out, out_end, x, x_end, b, n)
    else:
        max_pixels_f64(out, out_end, x, x_end, b, n)


cdef inline void sum_pixels(real* out, const real* out_end, const real* x, const real* x_end, const pool_block* b,
                            index n, real factor) noexcept nogil:
    if real is float:
        sum_pixels_f32(out, out_end, x, x_end, b, n, factor)
    else:
        sum_pixels_f64(out, out_end, x, x_end, b, n, factor)


cdef inline void best_pixels(real* best, real* place, const real* x, const real* x_end, const pool_block* b, index n,
                             index first, index slice_places, index row_places, index column_places) noexcept nogil:
    if real is float:
        best_pixels_f32(best, <int32_t*>place, x, x_end, b, n, first, slice_places, row_places, column_places)
    else:
        best_pixels_f64(best, <int64_t*>place, x, x_end, b, n, first, slice_places, row_places, column_places)
