"""What the kernels take from normalization.h, where each function is described; the fused forms pick by type."""

from cyconv.kernels.simd cimport real

ctypedef Py_ssize_t index

cdef extern from "normalization.h" nogil:
    void merge_moments(double* count, double* mean, double* square, double more, double mean2, double square2) noexcept
    void stretch_moments_f32(const float* x, index count, index step, index length, double* mean,
                             double* square) noexcept
    void stretch_moments_f64(const double* x, index count, index step, index length, double* mean,
                             double* square) noexcept
    void stretch_products_f32(const float* dy, const float* x, index count, index step, index length, float center,
                              float scale, float shift, float floor, double* sum, double* product) noexcept
    void stretch_products_f64(const double* dy, const double* x, index count, index step, index length, double center,
                              double scale, double shift, double floor, double* sum, double* product) noexcept
    void stretch_affine_f32(float* y, const float* x, const float* other, index count, index step, index n,
                            float center,
                            float scale, float shift, float floor) noexcept
    void stretch_affine_f64(double* y, const double* x, const double* other, index count, index step, index n,
                            double center,
                            double scale, double shift, double floor) noexcept
    void stretch_gradient_f32(float* dx, const float* dy, const float* x, index count, index step, index n,
                              float center,
                              float scale, float shift, float floor, float b, float c) noexcept
    void stretch_gradient_f64(double* dx, const double* dy, const double* x, index count, index step, index n,
                              double center,
                              double scale, double shift, double floor, double b, double c) noexcept
    void column_moments_f32(double* mean, double* square, double count, const float* x, index rows, index width,
                            index n, float* scratch) noexcept
    void column_moments_f64(double* mean, double* square, double count, const double* x, index rows, index width,
                            index n, double* scratch) noexcept
    void column_products_f32(double* sum, double* product, const float* dy, const float* x, const float* center,
                             const float* scale, const float* shift, float floor, index rows, index width, index n,
                             float* scratch) noexcept
    void column_products_f64(double* sum, double* product, const double* dy, const double* x, const double* center,
                             const double* scale, const double* shift, double floor, index rows, index width, index n,
                             double* scratch) noexcept
    void column_affine_f32(float* y, const float* x, const float* other, index rows, index n, const float* center,
                           const float* scale, const float* shift, float floor) noexcept
    void column_affine_f64(double* y, const double* x, const double* other, index rows, index n, const double* center,
                           const double* scale, const double* shift, double floor) noexcept
    void column_gradient_f32(float* dx, const float* dy, const float* x, index rows, index n, const float* center,
                             const float* scale, const float* shift, float floor, const float* b,
                             const float* c) noexcept
    void column_gradient_f64(double* dx, const double* dy, const double* x, index rows, index n, const double* center,
                             const double* scale, const double* shift, double floor, const double* b,
                             const double* c) noexcept
    void element_affine_f32(float* y, const float* x, index n, float center, float scale, float shift,
                            const float* weight, const float* bias) noexcept
    void element_affine_f64(double* y, const double* x, index n, double center, double scale, double shift,
                            const double* weight, const double* bias) noexcept
    void element_products_f32(const float* dy, const float* x, const float* weight, index n, float center, double* sum,
                              double* product) noexcept
    void element_products_f64(const double* dy, const double* x, const double* weight, index n, double center,
                              double* sum, double* product) noexcept
    void element_gradient_f32(float* dx, const float* dy, const float* x, const float* weight, index n, float center,
                              float a, float b, float c) noexcept
    void element_gradient_f64(double* dx, const double* dy, const double* x, const double* weight, index n,
                              double center, double a, double b, double c) noexcept
    void element_sums_f32(float* dweight, float* dbias, const float* dy, const float* x, index rows, index step,
                          index n, const float* of_row) noexcept
    void element_sums_f64(double* dweight, double* dbias, const double* dy, const double* x, index rows, index step,
                          index n, const double* of_row) noexcept


cdef inline void stretch_moments(const real* x, index count, index step, index length, double* mean,
                                 double* square) noexcept nogil:
    """Mean, and sum of squares about it, of `count` stretches of `length` elements, `step` apart."""
    if real is float:
        stretch_moments_f32(x, count, step, length, mean, square)
    else:
        stretch_moments_f64(x, count, step, length, mean, square)


cdef inline void stretch_products(const real* dy, const real* x, index count, index step, index length, real center,
                                  real scale, real shift, real floor, double* sum, double* product) noexcept nogil:
    """Add the sums of dy and of dy (x - center), dy counting as 0 where (x - center) scale + shift <= floor."""
    if real is float:
        stretch_products_f32(dy, x, count, step, length, center, scale, shift, floor, sum, product)
    else:
        stretch_products_f64(dy, x, count, step, length, center, scale, shift, floor, sum, product)


cdef inline void stretch_affine(real* y, const real* x, const real* other, index count, index step, index n,
                                real center, real scale, real shift, real floor) noexcept nogil:
    """Of `count` stretches of n elements, `step` apart: y = max((x - center) scale + shift + other, floor); other may
    be NULL."""
    if real is float:
        stretch_affine_f32(y, x, other, count, step, n, center, scale, shift, floor)
    else:
        stretch_affine_f64(y, x, other, count, step, n, center, scale, shift, floor)


cdef inline void stretch_gradient(real* dx, const real* dy, const real* x, index count, index step, index n,
                                  real center, real scale, real shift, real floor, real b, real c) noexcept nogil:
    """Of such stretches: dx = scale dy + b (x - center) + c, dy counting as 0 where (x - center) scale + shift <=
    floor."""
    if real is float:
        stretch_gradient_f32(dx, dy, x, count, step, n, center, scale, shift, floor, b, c)
    else:
        stretch_gradient_f64(dx, dy, x, count, step, n, center, scale, shift, floor, b, c)


cdef inline void column_moments(double* mean, double* square, double count, const real* x, index rows, index width,
                                index n, real* scratch) noexcept nogil:
    """Merge `rows` more rows into mean and sum of squares of `count`, column by column; scratch: three rows."""
    if real is float:
        column_moments_f32(mean, square, count, x, rows, width, n, scratch)
    else:
        column_moments_f64(mean, square, count, x, rows, width, n, scratch)


cdef inline void column_products(double* sum, double* product, const real* dy, const real* x, const real* center,
                                 const real* scale, const real* shift, real floor, index rows, index width, index n,
                                 real* scratch) noexcept nogil:
    """Add the sums of dy and of dy (x - center) over each column, as `stretch_products`; scratch: two rows."""
    if real is float:
        column_products_f32(sum, product, dy, x, center, scale, shift, floor, rows, width, n, scratch)
    else:
        column_products_f64(sum, product, dy, x, center, scale, shift, floor, rows, width, n, scratch)


cdef inline void column_affine(real* y, const real* x, const real* other, index rows, index n, const real* center,
                               const real* scale, const real* shift, real floor) noexcept nogil:
    """y = max((x - center) scale + shift + other, floor), each of center, scale, shift a row; other may be NULL."""
    if real is float:
        column_affine_f32(y, x, other, rows, n, center, scale, shift, floor)
    else:
        column_affine_f64(y, x, other, rows, n, center, scale, shift, floor)


cdef inline void column_gradient(real* dx, const real* dy, const real* x, index rows, index n, const real* center,
                                 const real* scale, const real* shift, real floor, const real* b,
                                 const real* c) noexcept nogil:
    """dx = scale dy + b (x - center) + c, each of these a row; dy as in `stretch_gradient`."""
    if real is float:
        column_gradient_f32(dx, dy, x, rows, n, center, scale, shift, floor, b, c)
    else:
        column_gradient_f64(dx, dy, x, rows, n, center, scale, shift, floor, b, c)


cdef inline void element_affine(real* y, const real* x, index n, real center, real scale, real shift,
                                const real* weight, const real* bias) noexcept nogil:
    """y = ((x - center) scale + shift) weight + bias, the last two for each element."""
    if real is float:
        element_affine_f32(y, x, n, center, scale, shift, weight, bias)
    else:
        element_affine_f64(y, x, n, center, scale, shift, weight, bias)


cdef inline void element_products(const real* dy, const real* x, const real* weight, index n, real center, double* sum,
                                  double* product) noexcept nogil:
    """Add the sums of dy weight and of dy weight (x - center)."""
    if real is float:
        element_products_f32(dy, x, weight, n, center, sum, product)
    else:
        element_products_f64(dy, x, weight, n, center, sum, product)


cdef inline void element_gradient(real* dx, const real* dy, const real* x, const real* weight, index n, real center,
                                  real a, real b, real c) noexcept nogil:
    """dx = a dy weight + b (x - center) + c"""
    if real is float:
        element_gradient_f32(dx, dy, x, weight, n, center, a, b, c)
    else:
        element_gradient_f64(dx, dy, x, weight, n, center, a, b, c)


cdef inline void element_sums(real* dweight, real* dbias, const real* dy, const real* x, index rows, index step,
                              index n, const real* of_row) noexcept nogil:
    """dbias += dy and dweight += dy ((x - center) scale + shift) of up to four rows."""
    if real is float:
        element_sums_f32(dweight, dbias, dy, x, rows, step, n, of_row)
    else:
        element_sums_f64(dweight, dbias, dy, x, rows, step, n, of_row)
