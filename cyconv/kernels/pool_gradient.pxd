"""What the gradients of pooling take from pool_gradient.h; integers beside real numbers as in pool.pxd."""

from libc.stdint cimport int32_t, int64_t, uint8_t

from cyconv.kernels.pool cimport pool_block
from cyconv.kernels.pool_axis cimport index
from cyconv.kernels.simd cimport real

cdef extern from "pool_gradient.h" nogil:
    ctypedef struct pool_phase:
        const index* shift
        index taps

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
    void fill_planes_f32(float* dx, const float* dx_end, const float* dy, index area, index n, float factor) noexcept
    void fill_planes_f64(double* dx, const double* dx_end, const double* dy, index area, index n,
                         double factor) noexcept
    void take_sums_f32(float* to, const float* end, const float* g, const index* start, index stride,
                       const pool_phase* f, float* line, index line_length, index n) noexcept
    void take_sums_f64(double* to, const double* end, const double* g, const index* start, index stride,
                       const pool_phase* f, double* line, index line_length, index n) noexcept
    void scatter_planes_f32(float* dx, const float* dy, const uint8_t* code, const int32_t* start, const int32_t* place,
                            index area, index n, index planes) noexcept
    void scatter_planes_f64(double* dx, const double* dy, const uint8_t* code, const int32_t* start,
                            const int32_t* place, index area, index n, index planes) noexcept
    void take_means_f32(float* to, const float* end, const float* g, pool_taking* t, const pool_rows* r, float* line,
                        index n, index first, index last) noexcept
    void take_means_f64(double* to, const double* end, const double* g, pool_taking* t, const pool_rows* r,
                        double* line, index n, index first, index last) noexcept
    void take_maxima_f32(float* to, const float* end, const uint8_t* code, const float* g, pool_taking* t,
                         const pool_rows* r, float* line, index n, index first, index last) noexcept
    void take_maxima_f64(double* to, const double* end, const uint8_t* code, const double* g, pool_taking* t,
                         const pool_rows* r, double* line, index n, index first, index last) noexcept
    void lay_row_f32(float* to, const float* source, index n, index margin, index length) noexcept
    void lay_row_f64(double* to, const double* source, index n, index margin, index length) noexcept
    void scatter_row_f32(float* dx, const float* dy, const uint8_t* code, const int32_t* start, const int32_t* place,
                         index channels, index many, index n) noexcept
    void scatter_row_f64(double* dx, const double* dy, const uint8_t* code, const int32_t* start, const int32_t* place,
                         index channels, index many, index n) noexcept
    void add_rows_f32(float* to, const float* end, const float* g, const index* row, index rows, index n) noexcept
    void add_rows_f64(double* to, const double* end, const double* g, const index* row, index rows, index n) noexcept
    void scale_rows_f32(float* to, const float* dy, const index* row, const float* weight, index n, const float* factor,
                        index width, index margin, index length) noexcept
    void scale_rows_f64(double* to, const double* dy, const index* row, const double* weight, index n,
                        const double* factor, index width, index margin, index length) noexcept
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


cdef inline void fill_planes(real* dx, const real* dx_end, const real* dy, index area, index n,
                             real factor) noexcept nogil:
    if real is float:
        fill_planes_f32(dx, dx_end, dy, area, n, factor)
    else:
        fill_planes_f64(dx, dx_end, dy, area, n, factor)


cdef inline void take_sums(real* to, const real* end, const real* g, const index* start, index stride,
                           const pool_phase* f, real* line, index line_length, index n) noexcept nogil:
    if real is float:
        take_sums_f32(to, end, g, start, stride, f, line, line_length, n)
    else:
        take_sums_f64(to, end, g, start, stride, f, line, line_length, n)


cdef inline void scatter_planes(real* dx, const real* dy, const uint8_t* code, const int32_t* start,
                                const int32_t* place, index area, index n, index planes) noexcept nogil:
    if real is float:
        scatter_planes_f32(dx, dy, code, start, place, area, n, planes)
    else:
        scatter_planes_f64(dx, dy, code, start, place, area, n, planes)


cdef inline void take_means(real* to, const real* end, const real* g, pool_taking* t, const pool_rows* r, real* line,
                            index n, index first, index last) noexcept nogil:
    if real is float:
        take_means_f32(to, end, g, t, r, line, n, first, last)
    else:
        take_means_f64(to, end, g, t, r, line, n, first, last)


cdef inline void take_maxima(real* to, const real* end, const uint8_t* code, const real* g, pool_taking* t,
                             const pool_rows* r, real* line, index n, index first, index last) noexcept nogil:
    if real is float:
        take_maxima_f32(to, end, code, g, t, r, line, n, first, last)
    else:
        take_maxima_f64(to, end, code, g, t, r, line, n, first, last)


cdef inline void lay_row(real* to, const real* source, index n, index margin, index length) noexcept nogil:
    if real is float:
        lay_row_f32(to, source, n, margin, length)
    else:
        lay_row_f64(to, source, n, margin, length)


cdef inline void scatter_row(real* dx, const real* dy, const uint8_t* code, const int32_t* start, const int32_t* place,
                             index channels, index many, index n) noexcept nogil:
    if real is float:
        scatter_row_f32(dx, dy, code, start, place, channels, many, n)
    else:
        scatter_row_f64(dx, dy, code, start, place, channels, many, n)


cdef inline void add_rows(real* to, const real* end, const real* g, const index* row, index rows,
                          index n) noexcept nogil:
    if real is float:
        add_rows_f32(to, end, g, row, rows, n)
    else:
        add_rows_f64(to, end, g, row, rows, n)


cdef inline void scale_rows(real* to, const real* dy, const index* row, const real* weight, index n, const real* factor,
                            index width, index margin, index length) noexcept nogil:
    if real is float:
        scale_rows_f32(to, dy, row, weight, n, factor, width, margin, length)
    else:
        scale_rows_f64(to, dy, row, weight, n, factor, width, margin, length)


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
