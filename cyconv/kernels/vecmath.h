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

typedef uint32_t modular_f32 __attribute__((vector_size(CYCONV_VECTOR_BYTES)));
typedef uint64_t modular_f64 __attribute__((vector_size(CYCONV_VECTOR_BYTES)));

#define T float
#define BITS int32_t
#define SUFFIX f32
#define ROUNDER 12582912.0f /* 1.5 * 2^23: adding it leaves the rounded integer in the low bits */
#define MANTISSA 23
#define BIAS 127
#define LOWEST (-105.0f)
#define SMALLEST (-87.0f)
#define HIGHEST 89.0f
#define SMALLEST_NORMAL 1.17549435e-38f
#define LN2_HIGH 0.693359375f
#define LN2_LOW (-2.12194440e-4f)
#define TANH_ONE 10.0f
#define POLYNOMIAL(r)                                                                                                   \
    ((((T)0.0013926213466332443 * r + (T)0.0083632029718575549) * r + (T)0.0416665544376856859) * r +                   \
     (T)0.1666657684597399631) * r + (T)0.5
#define ATANH_SERIES(z) ((((T)(1.0 / 9) * z + (T)(1.0 / 7)) * z + (T)(1.0 / 5)) * z + (T)(1.0 / 3)) * z
#include "vecmath.h"
#undef T
#undef BITS
#undef SUFFIX
#undef ROUNDER
#undef MANTISSA
#undef BIAS
#undef LOWEST
#undef SMALLEST
#undef HIGHEST
#undef SMALLEST_NORMAL
#undef LN2_HIGH
#undef LN2_LOW
#undef TANH_ONE
#undef POLYNOMIAL
#undef ATANH_SERIES

#define T double
#define BITS int64_t
#define SUFFIX f64
#define ROUNDER 6755399441055744.0
#define MANTISSA 52
#define BIAS 1023
#define LOWEST (-746.0)
#define SMALLEST (-708.0)
#define HIGHEST 710.0
#define SMALLEST_NORMAL 2.2250738585072014e-308
#define LN2_HIGH 6.93145751953125e-1
#define LN2_LOW 1.42860682030941723212e-6
#define TANH_ONE 20.0
#define POLYNOMIAL(r)                                                                                                   \
    ((((((((2.51004241570050668e-8 * r + 2.76201387197339956e-7) * r + 2.75572683786841929e-6) * r +                   \
          2.48015211901977277e-5) * r + 1.98412698631059687e-4) * r + 1.38888889172817933e-3) * r +                     \
       8.33333333333005135e-3) * r + 4.16666666666239915e-2) * r + 1.66666666666666675e-1) * r + 0.5
#define ATANH_SERIES(z)                                                                                                 \
    ((((((((((1.0 / 21 * z + 1.0 / 19) * z + 1.0 / 17) * z + 1.0 / 15) * z + 1.0 / 13) * z + 1.0 / 11) * z +           \
         1.0 / 9) * z + 1.0 / 7) * z + 1.0 / 5) * z + 1.0 / 3) * z)
#include "vecmath.h"
#undef T
#undef BITS
#undef SUFFIX
#undef ROUNDER
#undef MANTISSA
#undef BIAS
#undef LOWEST
#undef SMALLEST
#undef HIGHEST
#undef SMALLEST_NORMAL
#undef LN2_HIGH
#undef LN2_LOW
#undef TANH_ONE
#undef POLYNOMIAL
#undef ATANH_SERIES

#endif
#else /* the template */

#define NAME(x) CYCONV_JOIN(x, SUFFIX)
#define LANES ((int)(CYCONV_VECTOR_BYTES / sizeof(T)))
#define VEC NAME(vec)
#define IVEC NAME(ivec)
#define MODULAR NAME(modular)

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

/* The larger of two numbers; b where one is NaN, on some processors. */
CYCONV_INLINE VEC NAME(maximum)(VEC a, VEC b)
{
#if defined(__AVX512F__)
    return sizeof(T) == 4 ? (VEC)_mm512_max_ps((__m512)a, (__m512)b) : (VEC)_mm512_max_pd((__m512d)a, (__m512d)b);
#elif defined(__AVX__)
    return sizeof(T) == 4 ? (VEC)_mm256_max_ps((__m256)a, (__m256)b) : (VEC)_mm256_max_pd((__m256d)a, (__m256d)b);
#elif defined(__SSE2__)
    return sizeof(T) == 4 ? (VEC)_mm_max_ps((__m128)a, (__m128)b) : (VEC)_mm_max_pd((__m128d)a, (__m128d)b);
#else
    return NAME(pick)(a > b, a, b);
#endif
}
CYCONV_INLINE VEC NAME(maximum_or_nan)(VEC a, VEC b)
{
    return NAME(pick)(a != a, a, NAME(maximum)(a, b)); /* NaN in b comes through the maximum */
}

/* Where the vector begins that computes element i of n and following: the last of several reaches back instead of out. */
CYCONV_INLINE ptrdiff_t NAME(step_back)(ptrdiff_t i, ptrdiff_t n) { return i && i + LANES > n ? n - LANES : i; }

/* a - b, and 2^n. Of numbers out of their range they give anything, which is not used: unsigned, since the overflow of
 * signed integers may do anything at all. */
CYCONV_INLINE IVEC NAME(difference)(IVEC a, IVEC b) { return (IVEC)((MODULAR)a - (MODULAR)b); }
CYCONV_INLINE VEC NAME(power_of_two)(IVEC n) { return (VEC)(((MODULAR)n + BIAS) << MANTISSA); }

/* x = n ln 2 + r; *high * *low = 2^n; returns exp(r) - 1. x must lie in [LOWEST, HIGHEST] or be NaN. */
CYCONV_INLINE VEC NAME(reduced)(VEC x, VEC *high, VEC *low)
{
    VEC shifted = x * (T)1.44269504088896340736 + ROUNDER;
    IVEC n = NAME(difference)((IVEC)shifted, (IVEC)((VEC){0} + ROUNDER));
    VEC whole = shifted - ROUNDER;
    VEC r = (x - whole * LN2_HIGH) - whole * LN2_LOW;
    IVEC half = n >> 1;
    *high = NAME(power_of_two)(half);
    *low = NAME(power_of_two)(n - half);
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

/* exp(x + more), |more| <= 0.06, where that is a normal number, or NaN. n goes straight into the exponent: of the bits of
 * ROUNDER + n only those of n are left. */
CYCONV_INLINE VEC NAME(exp_normal)(VEC x, VEC more)
{
    VEC shifted = x * (T)1.44269504088896340736 + ROUNDER;
    VEC whole = shifted - ROUNDER;
    VEC r = (x - whole * LN2_HIGH) - whole * LN2_LOW + more;
    VEC e = r + r * r * (POLYNOMIAL(r)) + 1;
    return (VEC)((MODULAR)e + ((MODULAR)shifted << MANTISSA));
}

/* exp(x) for x <= 0 (or NaN), and 0 where it would be denormal: one factor 2^n does, and nothing overflows. */
CYCONV_INLINE VEC NAME(exp_below)(VEC x) { return NAME(pick)(x < SMALLEST, (VEC){0}, NAME(exp_normal)(x, (VEC){0})); }

/* Natural logarithm: x = 2^n m with m in [sqrt(1/2), sqrt(2)), log m = 2 atanh((m - 1)/(m + 1)). What is denormal counts
 * as zero. */
CYCONV_INLINE VEC NAME(log_vec)(VEC x)
{
    const VEC infinity = (VEC){0} + (T)__builtin_inf();
    IVEC bits = (IVEC)x, root = (IVEC)((VEC){0} + (T)0.70710678118654752440);
    IVEC n = NAME(difference)(bits, root) >> MANTISSA;
    VEC m = (VEC)((MODULAR)bits - ((MODULAR)n << MANTISSA)), exponent, z, square;
    for (int i = 0; i < LANES; i++)
        exponent[i] = (T)n[i];
    z = (m - 1) / (m + 1);
    square = z * z;
    z = z + z;
    z = z + z * (ATANH_SERIES(square)) + exponent * (T)0.69314718055994530942;
    z = NAME(pick)(x < SMALLEST_NORMAL, NAME(pick)(x < 0, infinity - infinity, -infinity), z);
    return NAME(pick)((x < infinity) | (x < 0), z, x); /* infinity and NaN are what they were */
}

/* exp(-|x|) */
CYCONV_INLINE VEC NAME(exp_minus)(VEC x)
{
    return NAME(exp_below)((VEC)((IVEC)x | ((IVEC){0} + (BITS)(1ull << (8 * sizeof(T) - 1)))));
}

/* log(1 + x) for 0 <= x <= 1: what the rounding of 1 + x loses is added again, divided by the derivative's place */
CYCONV_INLINE VEC NAME(log1p_unit)(VEC x)
{
    VEC one_more = x + 1;
    return NAME(log_vec)(one_more) + (x - (one_more - 1)) / one_more;
}

CYCONV_INLINE VEC NAME(sigmoid_vec)(VEC x)
{
    VEC e = NAME(exp_minus)(x);
    return NAME(pick)(x < 0, e, (VEC){0} + 1) / (e + 1);
}
CYCONV_INLINE VEC NAME(relu_vec)(VEC x) { return NAME(pick)(x < 0, (VEC){0}, x); } /* NaN is not below zero */
/* A vector that is loaded whole. A load of the lanes of a mask alone waits for the mask: a quarter of a large ReLU's time. */
CYCONV_INLINE VEC NAME(loaded)(VEC v)
{
#if defined(__AVX512F__)
    __asm__("" : "+v"(v));
#endif
    return v;
}
/* y: the output, or for the ReLU its input, which tells the same. */
CYCONV_INLINE VEC NAME(relu_gradient)(VEC dy, VEC y) { return NAME(pick)(y <= 0, (VEC){0}, NAME(loaded)(dy)); }
CYCONV_INLINE VEC NAME(sum)(VEC a, VEC b) { return a + b; }
CYCONV_INLINE VEC NAME(rectified_sum)(VEC a, VEC b) { return NAME(relu_vec)(a + b); }
CYCONV_INLINE VEC NAME(sigmoid_gradient)(VEC dy, VEC y) { return dy * (y * (1 - y)); }
CYCONV_INLINE VEC NAME(tanh_gradient)(VEC dy, VEC y) { return dy * (1 - y * y); }

/* to[i] = the function's value for i < n. What is written is no other array, but for the gradient of the ReLU: done twice,
 * it is the same. The first vector lies where the array does,
 * the others on whole cache lines of `to` (a store across two lines costs two), the last reaches back over the one before
 * it; a short array goes through a part vector. An element's value is the same in each of them. */
#undef OVER_ARRAY
#define OVER_ARRAY(to, whole, part)                                                                                     \
    ptrdiff_t i = 0;                                                                                                    \
    if (n < LANES) {                                                                                                    \
        NAME(store_part)(to, part, n);                                                                                  \
        return;                                                                                                         \
    }                                                                                                                   \
    NAME(store)(to, whole);                                                                                             \
    for (i = LANES - (ptrdiff_t)((uintptr_t)to % CYCONV_VECTOR_BYTES / sizeof(T)); i + LANES <= n; i += LANES)          \
        NAME(store)(to + i, whole);                                                                                     \
    if (i < n) {                                                                                                        \
        i = n - LANES;                                                                                                  \
        NAME(store)(to + i, whole);                                                                                     \
    }
#define FUNCTION(name, f)                                                                                               \
    static __attribute__((noinline, unused)) void NAME(name)(T *restrict y, const T *restrict x, ptrdiff_t n)           \
    {                                                                                                                   \
        OVER_ARRAY(y, f(NAME(load)(x + i)), f(NAME(load_part)(x, n)))                                                   \
    }
#define GRADIENT(name, f)                                                                                               \
    static __attribute__((noinline, unused)) void NAME(name)(T *dx, const T *dy, const T *y, ptrdiff_t n)  \
                                                                                                                         \
    {                                                                                                                   \
        OVER_ARRAY(dx, f(NAME(load)(dy + i), NAME(load)(y + i)), f(NAME(load_part)(dy, n), NAME(load_part)(y, n)))      \
    }
/* z = x + y; with `output` not NULL 0 where that is not above 0. z may be x: no element is written twice. */
static __attribute__((noinline, unused)) void NAME(join_gradients)(T *z, const T *x, const T *y, const T *output,
                                                                   ptrdiff_t n)
{
    ptrdiff_t i = 0;
    if (output) {
        for (; i + LANES <= n; i += LANES)
            NAME(store)(z + i, NAME(relu_gradient)(NAME(load)(x + i) + NAME(load)(y + i), NAME(load)(output + i)));
        if (i < n) {
            VEC sum = NAME(load_part)(x + i, n - i) + NAME(load_part)(y + i, n - i);
            NAME(store_part)(z + i, NAME(relu_gradient)(sum, NAME(load_part)(output + i, n - i)), n - i);
        }
        return;
    }
    for (; i + LANES <= n; i += LANES)
        NAME(store)(z + i, NAME(load)(x + i) + NAME(load)(y + i));
    if (i < n)
        NAME(store_part)(z + i, NAME(load_part)(x + i, n - i) + NAME(load_part)(y + i, n - i), n - i);
}
FUNCTION(relu, NAME(relu_vec))
FUNCTION(exp, NAME(exp_vec))
FUNCTION(tanh, NAME(tanh_vec))
FUNCTION(sigmoid, NAME(sigmoid_vec))
GRADIENT(relu_backward, NAME(relu_gradient))
GRADIENT(add, NAME(sum))
GRADIENT(add_relu, NAME(rectified_sum))
GRADIENT(tanh_backward, NAME(tanh_gradient))
GRADIENT(sigmoid_backward, NAME(sigmoid_gradient))
#undef FUNCTION
#undef GRADIENT

#undef NAME
#undef LANES
#undef VEC
#undef IVEC
#undef MODULAR
#endif
