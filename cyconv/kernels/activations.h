/* Activations: for each a function and its gradient on one vector, here and nowhere else; ACTIVATIONS lists their names,
 * and the loops, the tables that kernels look into and the names that Python sees are made from it.
 *
 *     VEC <name>_of(VEC x, const T *p)                   p: two parameters
 *     VEC <name>_gradient(VEC dy, VEC x, const T *p)     dy times the derivative at x
 *
 * Exponentials are of numbers <= 0, so nothing overflows. Where a factor goes to 0 while x goes to infinity, x is bounded
 * at a place where the factor is 0 already: the limit comes out, and no NaN.
 */
#ifndef T /* the first time: once for each element type */
#ifndef CYCONV_ACTIVATIONS_H
#define CYCONV_ACTIVATIONS_H
#include "vecmath.h"

#define ACTIVATIONS(X)                                                                                                  \
    X(elu) X(gelu) X(gelu_tanh) X(hardsigmoid) X(hardswish) X(hardtanh) X(leaky_relu) X(mish) X(silu) X(softplus)       \
    X(softsign)

/* TAIL: (x + CENTER) exp(x^2 / 2) (1 - Phi(x)), Phi the distribution function of the normal distribution, for 0 <= x <= BOUND
 * with t = (x - CENTER) / (x + CENTER): interpolated at the Chebyshev nodes, relative error 2e-8 and 2e-16. BOUND: the
 * largest x whose exp(-x^2 / 2) is normal; 1 - Phi(x) is denormal there. */
#define T float
#define BITS int32_t
#define SUFFIX f32
#define BOUND 13.1f
#define CENTER 3.75f
#define FAR 120.0f
#define EXPM1_LOWEST (-80.0f) /* exp(x) - 1 is -1 long before */
#define LOW_BITS 0xfff
#define TAIL(t)                                                                                                         \
    (((((((0.000449114215f * t + 0.00052097171f) * t - 0.00416602515f) * t + 0.00119446018f) * t + 0.0374900063f) * t   \
       - 0.151520037f) * t + 0.352939953f) * t - 0.588188309f) * t + 0.750294068f
#include "activations.h"
#undef T
#undef BITS
#undef SUFFIX
#undef BOUND
#undef CENTER
#undef FAR
#undef EXPM1_LOWEST
#undef LOW_BITS
#undef TAIL

#define T double
#define BITS int64_t
#define SUFFIX f64
#define BOUND 37.6
#define CENTER 4.0
#define FAR 800.0
#define EXPM1_LOWEST (-80.0)
#define LOW_BITS 0x7ffffff
#define TAIL(t)                                                                                                         \
    ((((((((((((((((((((2.2843001397772528e-9 * t + 1.1999785075350017e-8) * t + 7.1807117385524265e-9) * t             \
      - 7.6125156586552215e-8) * t - 1.4366828275232568e-7) * t + 2.6620994917888495e-7) * t + 1.0113164693443508e-6)   \
      * t - 6.2824624882516109e-7) * t - 5.9147211820146383e-6) * t + 7.1680658617502826e-7) * t                        \
      + 3.5142884105609672e-5) * t - 1.9084600143897562e-6) * t - 0.00023109456445893374) * t                           \
      + 0.00013334436867677005) * t + 0.0016308184117947899) * t - 0.0034796923747091297) * t - 0.007540188963607782)   \
      * t + 0.060396574891379234) * t - 0.18652185795975531) * t + 0.38713740074220463) * t - 0.60789664197189119)      \
      * t + 0.75528513041575153
#include "activations.h"
#undef T
#undef BITS
#undef SUFFIX
#undef BOUND
#undef CENTER
#undef FAR
#undef EXPM1_LOWEST
#undef LOW_BITS
#undef TAIL

typedef void (*activation_t)(void *y, const void *x, ptrdiff_t n, const void *p);
typedef void (*activation_gradient_t)(void *dx, const void *dy, const void *x, ptrdiff_t n, const void *p);
typedef struct {
    const char *name;
    activation_t of[2]; /* float, double */
    activation_gradient_t gradient[2];
} activation_row;
static const activation_row activations[] = {
#define ROW(name)                                                                                                       \
    {#name,                                                                                                             \
     {(activation_t)name##_array_f32, (activation_t)name##_array_f64},                                                  \
     {(activation_gradient_t)name##_backward_f32, (activation_gradient_t)name##_backward_f64}},
    ACTIVATIONS(ROW)
#undef ROW
};
#define ACTIVATION_COUNT ((int)(sizeof(activations) / sizeof(activations[0])))

#endif
#else /* the template */

#define NAME(x) CYCONV_JOIN(x, SUFFIX)
#define LANES ((int)(CYCONV_VECTOR_BYTES / sizeof(T)))
#define VEC NAME(vec)
#define IVEC NAME(ivec)
#define SIGN ((IVEC){0} + (BITS)(1ull << (8 * sizeof(T) - 1)))
#define UNIT(name) CYCONV_INLINE VEC NAME(name##_of)(VEC x, const T *p)
#define SLOPE(name) CYCONV_INLINE VEC NAME(name##_gradient)(VEC dy, VEC x, const T *p)

CYCONV_INLINE VEC NAME(between)(VEC x, T low, T high)
{
    x = NAME(pick)(x < low, (VEC){0} + low, x);
    return NAME(pick)(x > high, (VEC){0} + high, x);
}

/* exp(x) - 1 for x <= 0, as exact near 0 as anywhere */
CYCONV_INLINE VEC NAME(expm1_below)(VEC x)
{
    VEC high, low, e, scale;
    e = NAME(reduced)(NAME(pick)(x < EXPM1_LOWEST, (VEC){0} + EXPM1_LOWEST, x), &high, &low);
    scale = high * low;
    return scale * e + (scale - 1);
}

/* alpha (exp(x) - 1) scale for x <= 0, else x scale; p: alpha, scale */
UNIT(elu) { return NAME(pick)(x > 0, x, p[0] * NAME(expm1_below)(NAME(pick)(x > 0, (VEC){0}, x))) * p[1]; }
SLOPE(elu) { return dy * NAME(pick)(x > 0, (VEC){0} + 1, p[0] * NAME(exp_minus)(x)) * p[1]; }

/* x where x > 0, else p[0] x */
UNIT(leaky_relu) { return NAME(pick)(x > 0, x, x * p[0]); }
SLOPE(leaky_relu) { return NAME(pick)(x > 0, dy, dy * p[0]); }

/* x, at least p[0] and at most p[1] */
UNIT(hardtanh) { return NAME(between)(x, p[0], p[1]); }
SLOPE(hardtanh) { return NAME(pick)((x <= p[0]) | (x >= p[1]), (VEC){0}, dy); }

/* (x + 3) / 6 between 0 and 1 */
UNIT(hardsigmoid) { return (NAME(between)(x, -3, 3) + 3) / 6; }
SLOPE(hardsigmoid) { return NAME(pick)((x <= -3) | (x >= 3), (VEC){0}, dy / 6); }

UNIT(hardswish) { return NAME(pick)(x >= 3, x, NAME(between)(x, -3, 3) * ((NAME(between)(x, -3, 3) + 3) / 6)); }
SLOPE(hardswish)
{
    return NAME(pick)(x <= -3, (VEC){0}, NAME(pick)(x >= 3, dy, dy * (x / 3 + (T)0.5)));
}

UNIT(silu)
{
    VEC b = NAME(at_least)((VEC)((IVEC)x | SIGN), -FAR), e = NAME(exp_below)(b);
    return NAME(at_least)(x, 0) + b * (e / (1 + e)); /* x sigmoid(x) = max(x, 0) - |x| sigmoid(-|x|), on both sides */
}
SLOPE(silu)
{
    /* With e = exp(-|x|): s = sigmoid(x) is 1 / (1 + e) or e / (1 + e), and 1 - s without cancellation the other. */
    VEC e = NAME(exp_minus)(x), one = (VEC){0} + 1, part = one / (1 + e);
    VEC s = NAME(pick)(x < 0, e * part, part), t = NAME(pick)(x < 0, part, e * part);
    return dy * (s * (1 + NAME(between)(x, -FAR, FAR) * t));
}

/* x tanh(log(1 + exp(x))) = x a / b; with e = exp(-|x|): a = e^2 + 2 e, b = a + 2 for x <= 0; multiplied by e^2 else */
UNIT(mish)
{
    VEC e = NAME(exp_minus)(x), a = NAME(pick)(x > 0, 1 + 2 * e, e * (e + 2));
    VEC b = a + 2 * NAME(pick)(x > 0, e * e, (VEC){0} + 1);
    return NAME(pick)(x < -FAR, (VEC){0} - FAR, x) * (a / b);
}
SLOPE(mish)
{
    VEC e = NAME(exp_minus)(x), a = NAME(pick)(x > 0, 1 + 2 * e, e * (e + 2));
    VEC b = a + 2 * NAME(pick)(x > 0, e * e, (VEC){0} + 1);
    VEC c = 4 * e * NAME(pick)(x > 0, e, (VEC){0} + 1) * (1 + e) / (b * b); /* (1 - (a / b)^2) times sigmoid(x) */
    return dy * (a / b + NAME(between)(x, -FAR, FAR) * c);
}

/* log(1 + exp(beta x)) / beta, or x where beta x > threshold; p: beta, threshold */
UNIT(softplus)
{
    VEC z = x * p[0];
    return NAME(pick)(z > p[1], x, (NAME(pick)(z < 0, (VEC){0}, z) + NAME(log1p_unit)(NAME(exp_minus)(z))) / p[0]);
}
SLOPE(softplus)
{
    VEC z = x * p[0];
    return NAME(pick)(z > p[1], dy, dy * NAME(sigmoid_vec)(z));
}

CYCONV_INLINE VEC NAME(softsign_divisor)(VEC x) { return 1 + (VEC)((IVEC)x & ~SIGN); }
UNIT(softsign)
{
    const T most = (T)1e30;
    x = NAME(between)(x, -most, most);
    return x / NAME(softsign_divisor)(x);
}
SLOPE(softsign)
{
    VEC d = 1 / NAME(softsign_divisor)(x);
    return dy * (d * d);
}

/* exp(-b^2 / 2) for |b| <= BOUND. The square is taken in two parts: rounded it would cost b^2 / 2 units of the last place. */
CYCONV_INLINE VEC NAME(bell)(VEC b)
{
    VEC half = b * (T)-0.5, high, low;
#if defined(__AVX512F__)
    high = half * b;
    low = sizeof(T) == 4 ? (VEC)_mm512_fmsub_ps((__m512)half, (__m512)b, (__m512)high)
                         : (VEC)_mm512_fmsub_pd((__m512d)half, (__m512d)b, (__m512d)high);
#elif defined(__AVX2__) && defined(__FMA__)
    high = half * b;
    low = sizeof(T) == 4 ? (VEC)_mm256_fmsub_ps((__m256)half, (__m256)b, (__m256)high)
                         : (VEC)_mm256_fmsub_pd((__m256d)half, (__m256d)b, (__m256d)high);
#else
    high = (VEC)((IVEC)b & ~((IVEC){0} + (BITS)LOW_BITS)); /* its square is exact */
    low = (b - high) * (b + high) * (T)-0.5;               /* at most 0.06 */
    high = high * high * (T)-0.5;
#endif
    return NAME(exp_normal)(high, low);
}
/* 1 - Phi(|x|), *size = -|x|, bounded, *density = exp(-x^2 / 2) */
CYCONV_INLINE VEC NAME(normal_tail)(VEC x, VEC *size, VEC *density)
{
    VEC b = NAME(at_least)((VEC)((IVEC)x | SIGN), -BOUND), inverse = 1 / (CENTER - b), t = 1 - 2 * CENTER * inverse;
    *size = b;
    *density = NAME(bell)(b);
    return (TAIL(t)) * inverse * *density;
}
/* x Phi(x) = max(x, 0) - |x| (1 - Phi(|x|)), on both sides */
UNIT(gelu)
{
    VEC size, density, tail = NAME(normal_tail)(x, &size, &density);
    return NAME(at_least)(x, 0) + size * tail;
}
SLOPE(gelu)
{
    VEC size, density, tail = NAME(normal_tail)(x, &size, &density);
    VEC below = tail + size * density * (T)0.39894228040143267794; /* the derivative at -|x| */
    return dy * NAME(pick)(x > 0, 1 - below, below);
}

/* x (1 + tanh(u)) / 2 = x sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3) */
UNIT(gelu_tanh)
{
    VEC b = NAME(at_least)((VEC)((IVEC)x | SIGN), -BOUND);
    VEC e = NAME(exp_below)(b * ((T)1.5957691216057307118 + (T)0.071354816272600246 * (b * b)));
    return NAME(at_least)(x, 0) + b * (e / (1 + e)); /* as gelu */
}
SLOPE(gelu_tanh)
{
    VEC z = NAME(between)(x, -BOUND, BOUND);
    VEC u = z * ((T)1.5957691216057307118 + (T)0.071354816272600246 * (z * z));
    VEC s = NAME(sigmoid_vec)(u), t = NAME(sigmoid_vec)(-u);
    return dy * (s * (1 + z * t * ((T)1.5957691216057307118 + (T)0.214064448817800738 * (z * z))));
}

/* What each element adds to the gradient of prelu's weight: dy x where x is not above 0. Not in the loop that adds them up:
 * with -fno-trapping-math and AVX2, gcc 12 gets a sum of selected products wrong. */
static __attribute__((noinline, unused)) void NAME(prelu_terms)(T *restrict to, const T *restrict dy, const T *restrict x,
                                                                ptrdiff_t n)
{
    ptrdiff_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        VEC v = NAME(load)(x + i);
        NAME(store)(to + i, NAME(pick)(v > 0, (VEC){0}, NAME(load)(dy + i) * v));
    }
    if (i < n) {
        VEC v = NAME(load_part)(x + i, n - i);
        NAME(store_part)(to + i, NAME(pick)(v > 0, (VEC){0}, NAME(load_part)(dy + i, n - i) * v), n - i);
    }
}

#define LOOPS(name)                                                                                                     \
    static __attribute__((noinline, unused)) void NAME(name##_array)(T *restrict y, const T *restrict x, ptrdiff_t n,   \
                                                                     const T *p)                                        \
    {                                                                                                                   \
        OVER_ARRAY(y, NAME(name##_of)(NAME(load)(x + i), p), NAME(name##_of)(NAME(load_part)(x, n), p))                 \
    }                                                                                                                   \
    static __attribute__((noinline, unused)) void NAME(name##_backward)(T *restrict dx, const T *restrict dy,           \
                                                                        const T *restrict x, ptrdiff_t n, const T *p)   \
    {                                                                                                                   \
        OVER_ARRAY(dx, NAME(name##_gradient)(NAME(load)(dy + i), NAME(load)(x + i), p),                                 \
                   NAME(name##_gradient)(NAME(load_part)(dy, n), NAME(load_part)(x, n), p))                             \
    }
ACTIVATIONS(LOOPS)

#undef LOOPS
#undef UNIT
#undef SLOPE
#undef SIGN
#undef NAME
#undef LANES
#undef VEC
#undef IVEC
#endif
