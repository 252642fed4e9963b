/* Elementary functions on vectors, and the loops over arrays that use them.
 *
 * exp is 2^n exp(r) with n = round(x / ln 2) and |r| <= ln 2 / 2; exp(r) - 1 = r + r^2 q(r), q interpolated at the
 * Chebyshev nodes (relative error of exp(r): 1e-8 with degree 4, 2e-17 with degree 9). n is applied in two halves, so
 * that the ends of the range come out as infinity and zero by themselves.
 */
#ifndef T /* the first time: once for each element type */
#ifndef CYCONV_VECMATH_H
#define CYCONV_VECMATH_H
#include "simd.h"

#define T float
#define BITS int32_t
#define SUFFIX f32
#define ROUNDER 12582912.0f /* 1.5 * 2^23: adding it leaves the rounded integer in the low bits */
#define MANTISSA 23
#define BIAS 127
#define LOWEST (-105.0f)
#define HIGHEST 89.0f
#define LN2_HIGH 0.693359375f
#define LN2_LOW (-2.12194440e-4f)
#define TANH_ONE 10.0f
#define POLYNOMIAL(r)                                                                                                   \
    ((((T)0.0013926213466332443 * r + (T)0.0083632029718575549) * r + (T)0.0416665544376856859) * r +                   \
     (T)0.1666657684597399631) * r + (T)0.5
#include "vecmath.h"
#undef T
#undef BITS
#undef SUFFIX
#undef ROUNDER
#undef MANTISSA
#undef BIAS
#undef LOWEST
#undef HIGHEST
#undef LN2_HIGH
#undef LN2_LOW
#undef TANH_ONE
#undef POLYNOMIAL

#define T double
#define BITS int64_t
#define SUFFIX f64
#define ROUNDER 6755399441055744.0
#define MANTISSA 52
#define BIAS 1023
#define LOWEST (-746.0)
#define HIGHEST 710.0
#define LN2_HIGH 6.93145751953125e-1
#define LN2_LOW 1.42860682030941723212e-6
#define TANH_ONE 20.0
#define POLYNOMIAL(r)                                                                                                   \
    ((((((((2.51004241570050668e-8 * r + 2.76201387197339956e-7) * r + 2.75572683786841929e-6) * r +                   \
          2.48015211901977277e-5) * r + 1.98412698631059687e-4) * r + 1.38888889172817933e-3) * r +                     \
       8.33333333333005135e-3) * r + 4.16666666666239915e-2) * r + 1.66666666666666675e-1) * r + 0.5
#include "vecmath.h"
#undef T
#undef BITS
#undef SUFFIX
#undef ROUNDER
#undef MANTISSA
#undef BIAS
#undef LOWEST
#undef HIGHEST
#undef LN2_HIGH
#undef LN2_LOW
#undef TANH_ONE
#undef POLYNOMIAL

#endif
#else /* the template */

#define NAME(x) CYCONV_JOIN(x, SUFFIX)
#define LANES ((int)(CYCONV_VECTOR_BYTES / sizeof(T)))
#define VEC NAME(vec)
#define IVEC NAME(ivec)

CYCONV_INLINE VEC NAME(pick)(IVEC mask, VEC a, VEC b) { return (VEC)((mask & (IVEC)a) | (~mask & (IVEC)b)); }

/* The first n elements at p, the others `fill`. */
CYCONV_INLINE VEC NAME(load_filled)(const T *p, ptrdiff_t n, T fill)
{
    IVEC lane;
    CYCONV_UNROLL
    for (int i = 0; i < LANES; i++)
        lane[i] = i;
    return NAME(pick)(lane < (BITS)n, NAME(load_part)(p, n), (VEC){0} + fill);
}

/* Where v takes the place of the best so far: it is larger, or NaN. (The last NaN wins, the first of equals: torch's rule.) */
CYCONV_INLINE IVEC NAME(better)(VEC best, VEC v) { return (v > best) | (v != v); }

/* Where the vector begins that computes element i of n and following: the last of several reaches back instead of out. */
CYCONV_INLINE ptrdiff_t NAME(step_back)(ptrdiff_t i, ptrdiff_t n) { return i && i + LANES > n ? n - LANES : i; }

/* x = n ln 2 + r; *high * *low = 2^n; returns exp(r) - 1. x must lie in [LOWEST, HIGHEST] or be NaN. */
CYCONV_INLINE VEC NAME(reduced)(VEC x, VEC *high, VEC *low)
{
    VEC shifted = x * (T)1.44269504088896340736 + ROUNDER;
    IVEC n = (IVEC)shifted - (IVEC)((VEC){0} + ROUNDER);
    VEC whole = shifted - ROUNDER;
    VEC r = (x - whole * LN2_HIGH) - whole * LN2_LOW;
    IVEC half = n >> 1;
    *high = (VEC)((half + BIAS) << MANTISSA);
    *low = (VEC)((n - half + BIAS) << MANTISSA);
    return r + r * r * (POLYNOMIAL(r));
}

CYCONV_INLINE VEC NAME(exp_vec)(VEC x)
{
    VEC high, low, e;
    VEC floor = (VEC){0} + LOWEST, ceiling = (VEC){0} + HIGHEST;
    x = NAME(pick)(x < floor, floor, x);
    x = NAME(pick)(x > ceiling, ceiling, x);
    e = NAME(reduced)(x, &high, &low);
    return ((e + 1) * high) * low;
}

/* With m = exp(2|x|) - 1, tanh = m / (m + 2): no cancellation near zero, as 2^n (e + 1) - 1 = 2^n e + (2^n - 1). */
CYCONV_INLINE VEC NAME(tanh_vec)(VEC x)
{
    VEC high, low, e, m, scale;
    IVEC sign = (IVEC){0} + (BITS)(1ull << (8 * sizeof(T) - 1));
    VEC ceiling = (VEC){0} + TANH_ONE;
    VEC size = (VEC)((IVEC)x & ~sign);
    size = NAME(pick)(size > ceiling, ceiling, size);
    e = NAME(reduced)(size + size, &high, &low);
    scale = high * low;
    m = scale * e + (scale - 1);
    return (VEC)((IVEC)(m / (m + 2)) | ((IVEC)x & sign));
}

CYCONV_INLINE VEC NAME(sigmoid_vec)(VEC x)
{
    IVEC sign = (IVEC){0} + (BITS)(1ull << (8 * sizeof(T) - 1));
    VEC one = (VEC){0} + 1, e = NAME(exp_vec)((VEC)((IVEC)x | sign));
    return NAME(pick)(x < 0, e, one) / (e + 1);
}

/* y[i] = f(x[i]) for n elements: a short array through a part vector, the tail by a last vector that overlaps. */
#define EACH(name, f)                                                                                                   \
    static __attribute__((noinline, unused)) void NAME(name)(T *y, const T *x, ptrdiff_t n)                             \
    {                                                                                                                   \
        if (n < LANES) {                                                                                                \
            NAME(store_part)(y, f(NAME(load_part)(x, n)), n);                                                           \
            return;                                                                                                     \
        }                                                                                                               \
        for (ptrdiff_t i = 0; i < n; i += LANES) {                                                                      \
            ptrdiff_t at = i + LANES <= n ? i : n - LANES;                                                              \
            NAME(store)(y + at, f(NAME(load)(x + at)));                                                                 \
        }                                                                                                               \
    }
EACH(exp, NAME(exp_vec))
EACH(tanh, NAME(tanh_vec))
EACH(sigmoid, NAME(sigmoid_vec))
#undef EACH

static __attribute__((noinline, unused)) void NAME(relu)(T *restrict y, const T *restrict x, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i++)
        y[i] = x[i] < 0 ? 0 : x[i]; /* NaN is not below zero */
}

/* x: the input of the ReLU, or its output, which tells the same. */
static __attribute__((noinline, unused)) void NAME(relu_backward)(T *restrict dx, const T *restrict dy,
                                                                  const T *restrict x, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i++)
        dx[i] = x[i] <= 0 ? 0 : dy[i];
}

static __attribute__((noinline, unused)) void NAME(sigmoid_backward)(T *restrict dx, const T *restrict dy,
                                                                     const T *restrict y, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i++)
        dx[i] = dy[i] * (y[i] * (1 - y[i]));
}

static __attribute__((noinline, unused)) void NAME(tanh_backward)(T *restrict dx, const T *restrict dy,
                                                                  const T *restrict y, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i++)
        dx[i] = dy[i] * (1 - y[i] * y[i]);
}

#undef NAME
#undef LANES
#undef VEC
#undef IVEC
#endif
