"""What the gradients of pooling take from pool_gradient.h; integers beside real numbers as in pool.pxd."""

from libc.stdint cimport int32_t, int64_t, uint8_t

from cyconv.kernels.pool cimport pool_block
from cyconv.kernels.pool_axis cimport index
from cyconv.kernels.simd cimport real

cdef extern from "pool_gradient.h" nogil:
    ctypedef struct pool_rows:
        const int32_t* window
        const int32_t* belongs
        const int32_t* meets
        const int32_t* met
        index step, low, length, margin, code

    ctypedef struct pool_taking:
        index rows, stride, three
        index* row
        index* row_code
        const index* first
        const index* start
        const index* shift
        const index* tap

    ctypedef struct pool_means:
        index slices, row_step, column_step, windows, width, crowd, margin, pitch, laid
        const index* slice
        const int32_t* row
        const int32_t* rows
        const int32_t* column
        const int32_t* columns

    ctypedef struct pool_meeting:
        index slices, rows, columns, slice_step, row_step, column_step, slice_code, row_code
        const int32_t* slice_tap
        const int32_t* row_tap
        const int32_t* column_tap

    void max_pairs_backward_f32(float* dx, const float* dx_end, const float* dy, const float* dy_end, const float* x,
                                const float* x_end, index width, index rows, index n) noexcept
    void max_pairs_backward_f64(double* dx, const double* dx_end, const double* dy, const double* dy_end,
                                const double* x, const double* x_end, index width, index rows, index n) noexcept
    void coded_pairs_backward_f32(float* dx, const float* dx_end, const float* dy, const float* dy_end,
                                  const uint8_t* code, index width, index rows, index n) noexcept
    void coded_pairs_backward_f64(double* dx, const double* dx_end, const double* dy, const double* dy_end,
                                  const uint8_t* code, index width, index rows, index n) noexcept
    void mean_pairs_backward_f32(float* dx, const float* dx_end, const float* dy, const float* dy_end, index width,
                                 index rows, index n, float factor) noexcept
    void mean_pairs_backward_f64(double* dx, const double* dx_end, const double* dy, const double* dy_end, index width,
                                 index rows, index n, double factor) noexcept
    void pair_pixels_f32(float* dx, const float* dx_end, const float* dy, const float* dy_end, const uint8_t* code,
                         bint lower, index channels, index n, float factor) noexcept
    void pair_pixels_f64(double* dx, const double* dx_end, const double* dy, const double* dy_end, const uint8_t* code,
                         bint lower, index channels, index n, double factor) noexcept
    void fill_planes_f32(float* dx, const float* dx_end, const float* dy, index area, index n, float factor) noexcept
    void fill_planes_f64(double* dx, const double* dx_end, const double* dy, index area, index n,
                         double factor) noexcept
    void scatter_planes_f32(float* dx, const float* dy, const uint8_t* code, const int32_t* start, const int32_t* place,
                            index area, index n, index planes) noexcept
    void scatter_planes_f64(double* dx, const double* dy, const uint8_t* code, const int32_t* start,
                            const int32_t* place, index area, index n, index planes) noexcept
    void take_maxima_f32(float* to, const float* end, const uint8_t* code, const float* g, pool_taking* t,
                         const pool_rows* r, float* line, index n, index first, index last) noexcept
    void take_maxima_f64(double* to, const double* end, const uint8_t* code, const double* g, pool_taking* t,
                         const pool_rows* r, double* line, index n, index first, index last) noexcept
    void mean_slice_f32(float* dx, const float* end, const float* dy, const pool_means* s, const float* by_slice,
                        const float* by_row, const float* by_column, pool_taking* t, float* laid, float* line,
                        index rows) noexcept
    void mean_slice_f64(double* dx, const double* end, const double* dy, const pool_means* s, const double* by_slice,
                        const double* by_row, const double* by_column, pool_taking* t, double* laid, double* line,
                        index rows) noexcept
    void lay_row_f32(float* to, const float* source, index n) noexcept
    void lay_row_f64(double* to, const double* source, index n) noexcept
    void scatter_row_f32(float* dx, const float* dy, const uint8_t* code, const int32_t* start, const int32_t* place,
                         index channels, index many, index n) noexcept
    void scatter_row_f64(double* dx, const double* dy, const uint8_t* code, const int32_t* start, const int32_t* place,
                         index channels, index many, index n) noexcept
    void mean_pixels_f32(float* dx, const float* dy, const pool_block* b, const float* slice, const float* row,
                         const float* column, const index* step, index n) noexcept
    void mean_pixels_f64(double* dx, const double* dy, const pool_block* b, const double* slice, const double* row,
                         const double* column, const index* step, index n) noexcept
    void chosen_pixels_f32(float* dx, const float* dy, const uint8_t* code, const pool_meeting* m, index n) noexcept
    void chosen_pixels_f64(double* dx, const double* dy, const uint8_t* code, const pool_meeting* m, index n) noexcept


cdef inline void max_pairs_backward(real* dx, const real* dx_end, const real* dy, const real* dy_end, const real* x,
                                    const real* x_end, index width, index rows, index n) noexcept nogil:
    if real is float:
        max_pairs_backward_f32(dx, dx_end, dy, dy_end, x, x_end, width, rows, n)
    else:
        max_pairs_backward_f64(dx, dx_end, dy, dy_end, x, x_end, width, rows, n)


cdef inline void coded_pairs_backward(real* dx, const real* dx_end, const real* dy, const real* dy_end,
                                      const uint8_t* code, index width, index rows, index n) noexcept nogil:
    if real is float:
        coded_pairs_backward_f32(dx, dx_end, dy, dy_end, code, width, rows, n)
    else:
        coded_pairs_backward_f64(dx, dx_end, dy, dy_end, code, width, rows, n)


cdef inline void mean_pairs_backward(real* dx, const real* dx_end, const real* dy, const real* dy_end, index width,
                                     index rows, index n, real factor) noexcept nogil:
    if real is float:
        mean_pairs_backward_f32(dx, dx_end, dy, dy_end, width, rows, n, factor)
    else:
        mean_pairs_backward_f64(dx, dx_end, dy, dy_end, width, rows, n, factor)


cdef inline void pair_pixels(real* dx, const real* dx_end, const real* dy, const real* dy_end, const uint8_t* code,
                             bint lower, index channels, index n, real factor) noexcept nogil:
    if real is float:
        pair_pixels_f32(dx, dx_end, dy, dy_end, code, lower, channels, n, factor)
    else:
        pair_pixels_f64(dx, dx_end, dy, dy_end, code, lower, channels, n, factor)


cdef inline void fill_planes(real* dx, const real* dx_end, const real* dy, index area, index n,
                             real factor) noexcept nogil:
    if real is float:
        fill_planes_f32(dx, dx_end, dy, area, n, factor)
    else:
        fill_planes_f64(dx, dx_end, dy, area, n, factor)


cdef inline void scatter_planes(real* dx, const real* dy, const uint8_t* code, const int32_t* start,
                                const int32_t* place, index area, index n, index planes) noexcept nogil:
    if real is float:
        scatter_planes_f32(dx, dy, code, start, place, area, n, planes)
    else:
        scatter_planes_f64(dx, dy, code, start, place, area, n, planes)


cdef inline void take_maxima(real* to, const real* end, const uint8_t* code, const real* g, pool_taking* t,
                             const pool_rows* r, real* line, index n, index first, index last) noexcept nogil:
    if real is float:
        take_maxima_f32(to, end, code, g, t, r, line, n, first, last)
    else:
        take_maxima_f64(to, end, code, g, t, r, line, n, first, last)


cdef inline void mean_slice(real* dx, const real* end, const real* dy, const pool_means* s, const real* by_slice,
                            const real* by_row, const real* by_column, pool_taking* t, real* laid, real* line,
                            index rows) noexcept nogil:
    if real is float:
        mean_slice_f32(dx, end, dy, s, by_slice, by_row, by_column, t, laid, line, rows)
    else:
        mean_slice_f64(dx, end, dy, s, by_slice, by_row, by_column, t, laid, line, rows)


cdef inline void lay_row(real* to, const real* source, index n) noexcept nogil:
    if real is float:
        lay_row_f32(to, source, n)
    else:
        lay_row_f64(to, source, n)


cdef inline void scatter_row(real* dx, const real* dy, const uint8_t* code, const int32_t* start, const int32_t* place,
                             index channels, index many, index n) noexcept nogil:
    if real is float:
        scatter_row_f32(dx, dy, code, start, place, channels, many, n)
    else:
        scatter_row_f64(dx, dy, code, start, place, channels, many, n)


cdef inline void mean_pixels(real* dx, const real* dy, const pool_block* b, const real* slice, const real* row,
                             const real* column, const index* step, index n) noexcept nogil:
    if real is float:
        mean_pixels_f32(dx, dy, b, slice, row, column, step, n)
    else:
        mean_pixels_f64(dx, dy, b, slice, row, column, step, n)


cdef inline void chosen_pixels(real* dx, const real* dy, const uint8_t* code, const pool_meeting* m,
                               index n) noexcept nogil:
    if real is float:
        chosen_pixels_f32(dx, dy, code, m, n)
    else:
        chosen_pixels_f64(dx, dy, code, m, n)
