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

/* TAIL: (1 + x) exp(x^2 / 2) (1 - Phi(x)), Phi the distribution function of the normal distribution, for x >= 0 with
 * t = (x - 4) / (x + 4): interpolated at the Chebyshev nodes, relative error 3e-9 and 1e-16. BOUND: 1 - Phi is 0 there. */
#define T float
#define BITS int32_t
#define SUFFIX f32
#define BOUND 15.0f
#define FAR 120.0f
#define EXPM1_LOWEST (-80.0f) /* exp(x) - 1 is -1 long before */
#define LOW_BITS 0xfff
#define TAIL(t)                                                                                                         \
    (((((((((-7.43745442e-5f * t - 6.67371849e-5f) * t + 0.000690844856f) * t - 0.000299918761f) * t - 0.00500214085f)  \
      * t + 0.0179394495f) * t - 0.0321978154f) * t + 0.0286000328f) * t + 0.0139996366f) * t - 0.0967034680f)          \
      * t + 0.472053206f
#include "activations.h"
#undef T
#undef BITS
#undef SUFFIX
#undef BOUND
#undef FAR
#undef EXPM1_LOWEST
#undef LOW_BITS
#undef TAIL

#define T double
#define BITS int64_t
#define SUFFIX f64
#define BOUND 40.0
#define FAR 800.0
#define EXPM1_LOWEST (-80.0)
#define LOW_BITS 0x7ffffff
#define TAIL(t)                                                                                                         \
    ((((((((((((((((((((4.0933167070731332e-9 * t + 1.2137444761040163e-8) * t - 1.7847860498818010e-8) * t - 1.0250746632823001e-7)\
      * t + 9.8944714504506005e-10) * t + 5.4461101815570768e-7) * t + 4.0389420925725711e-7) * t - 2.6089272249411356e-6)\
      * t - 3.4316509973460790e-6) * t + 1.3625498468244153e-5) * t + 2.1249841558138296e-5) * t - 8.7852882702820504e-5)\
      * t - 9.4430212874829043e-5) * t + 0.00069489706392685231) * t - 0.00028562310204568726) * t - 0.0050023785879243372)\
      * t + 0.017936097479830533) * t - 0.032197837428202312) * t + 0.028600364053551367) * t + 0.013999634724426912)   \
      * t - 0.096703477326525880) * t + 0.47205320650984468
#include "activations.h"
#undef T
#undef BITS
#undef SUFFIX
#undef BOUND
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

UNIT(silu) { return NAME(pick)(x < -FAR, (VEC){0} - FAR, x) * NAME(sigmoid_vec)(x); }
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

/* Phi(x), *density = exp(-x^2 / 2). x^2 is taken in two parts: rounded it would cost x^2 / 2 units of the last place. */
CYCONV_INLINE VEC NAME(normal)(VEC x, VEC *density)
{
    VEC a = (VEC)((IVEC)x & ~SIGN), bound = (VEC){0} + BOUND, high, rest, inverse, t, tail;
    a = NAME(pick)(a > bound, bound, a);
    high = (VEC)((IVEC)a & ~((IVEC){0} + (BITS)LOW_BITS));
    rest = (a - high) * (a + high) * (T)-0.5; /* at most 0.06: a few terms of its exponential's series */
    *density = NAME(exp_below)(high * high * (T)-0.5) *
               ((((rest * (T)(1.0 / 24) + (T)(1.0 / 6)) * rest + (T)0.5) * rest + 1) * rest + 1);
    inverse = 1 / ((a + 4) * (1 + a)); /* one division for two */
    t = (a - 4) * (1 + a) * inverse;
    tail = (TAIL(t)) * ((a + 4) * inverse) * *density;
    return NAME(pick)(x > 0, 1 - tail, tail);
}
UNIT(gelu)
{
    VEC density, share = NAME(normal)(x, &density);
    return NAME(pick)(x < -BOUND, (VEC){0} - BOUND, x) * share;
}
SLOPE(gelu)
{
    VEC density, share = NAME(normal)(x, &density);
    return dy * (share + NAME(between)(x, -BOUND, BOUND) * density * (T)0.39894228040143267794);
}

/* x (1 + tanh(u)) / 2 = x sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3) */
UNIT(gelu_tanh)
{
    VEC z = NAME(between)(x, -BOUND, BOUND);
    VEC s = NAME(sigmoid_vec)(z * ((T)1.5957691216057307118 + (T)0.071354816272600246 * (z * z)));
    return NAME(pick)(x < -BOUND, z, x) * s;
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
