/* Losses of one element: for each its value and its two derivatives on one vector, here and nowhere else; LOSSES lists
 * their names, and the loops and the table that the kernel looks into are made from it.
 *
 *     VEC <name>_of(VEC x, VEC t, VEC q, T p)        x: input, t: target, q: weight of positive targets, p: a parameter
 *     VEC <name>_slope(VEC x, VEC t, VEC q, T p)     derivative with respect to x
 *     VEC <name>_target(VEC x, VEC t, VEC q, T p)    derivative with respect to t
 */
#ifndef T /* the first time: once for each element type */
#ifndef CYCONV_LOSSES_H
#define CYCONV_LOSSES_H
#include "vecmath.h"

#define LOSSES(X)                                                                                                       \
    X(squared) X(absolute) X(smooth) X(huber) X(binary) X(binary_logits) X(divergence) X(divergence_log)

#define T float
#define BITS int32_t
#define SUFFIX f32
#include "losses.h"
#undef T
#undef BITS
#undef SUFFIX

#define T double
#define BITS int64_t
#define SUFFIX f64
#include "losses.h"
#undef T
#undef BITS
#undef SUFFIX

/* w, q and (for derivatives) dt and g may be NULL. */
typedef void (*loss_values_t)(void *losses, const void *x, const void *t, const void *w, const void *q, ptrdiff_t n,
                              double p);
typedef void (*loss_slopes_t)(void *dx, void *dt, const void *g, double factor, const void *x, const void *t,
                              const void *w, const void *q, ptrdiff_t n, double p);
typedef struct {
    const char *name;
    loss_values_t values[2]; /* float, double */
    loss_slopes_t slopes[2];
} loss_row;
static const loss_row losses[] = {
#define ROW(name)                                                                                                       \
    {#name,                                                                                                             \
     {(loss_values_t)name##_values_f32, (loss_values_t)name##_values_f64},                                              \
     {(loss_slopes_t)name##_slopes_f32, (loss_slopes_t)name##_slopes_f64}},
    LOSSES(ROW)
#undef ROW
};
#define LOSS_COUNT ((int)(sizeof(losses) / sizeof(losses[0])))

#endif
#else /* the template */

#define NAME(x) CYCONV_JOIN(x, SUFFIX)
#define LANES ((int)(CYCONV_VECTOR_BYTES / sizeof(T)))
#define VEC NAME(vec)
#define IVEC NAME(ivec)
#define SIGN ((IVEC){0} + (BITS)(1ull << (8 * sizeof(T) - 1)))
#define LOSS(name) CYCONV_INLINE VEC NAME(name##_of)(VEC x, VEC t, VEC q, T p)
#define SLOPE(name) CYCONV_INLINE VEC NAME(name##_slope)(VEC x, VEC t, VEC q, T p)
#define TARGET(name) CYCONV_INLINE VEC NAME(name##_target)(VEC x, VEC t, VEC q, T p)
/* Losses of a distance: the other derivative is that with the two exchanged. */
#define EXCHANGED(name) TARGET(name) { return NAME(name##_slope)(t, x, q, p); }

CYCONV_INLINE VEC NAME(size_of)(VEC x) { return (VEC)((IVEC)x & ~SIGN); }
CYCONV_INLINE VEC NAME(sign_of)(VEC x) /* 0 at 0, NaN for NaN */
{
    return NAME(pick)((x > 0) | (x < 0), (VEC)((IVEC)((VEC){0} + 1) | ((IVEC)x & SIGN)), x);
}

LOSS(squared) { return (x - t) * (x - t); }
SLOPE(squared) { return 2 * (x - t); }
EXCHANGED(squared)

LOSS(absolute) { return NAME(size_of)(x - t); }
SLOPE(absolute) { return NAME(sign_of)(x - t); }
EXCHANGED(absolute)

/* p: where the square ends, above 0 */
LOSS(smooth)
{
    VEC d = NAME(size_of)(x - t);
    return NAME(pick)(d < p, d * d * ((T)0.5 / p), d - (T)0.5 * p);
}
SLOPE(smooth)
{
    VEC d = x - t;
    return NAME(pick)(NAME(size_of)(d) < p, d / p, NAME(sign_of)(d));
}
EXCHANGED(smooth)

LOSS(huber)
{
    VEC d = NAME(size_of)(x - t);
    return NAME(pick)(d <= p, (T)0.5 * d * d, p * (d - (T)0.5 * p));
}
SLOPE(huber)
{
    VEC d = x - t;
    d = NAME(pick)(d < -p, (VEC){0} - p, d);
    return NAME(pick)(d > p, (VEC){0} + p, d);
}
EXCHANGED(huber)

/* log x and log(1 - x), at least -100; what the rounding of 1 - x loses is added again */
CYCONV_INLINE VEC NAME(bounded_log)(VEC x)
{
    x = NAME(log_vec)(x);
    return NAME(pick)(x < -100, (VEC){0} - 100, x);
}
CYCONV_INLINE VEC NAME(bounded_log_rest)(VEC x)
{
    VEC rest = 1 - x, lost = (1 - rest) - x;
    lost = NAME(log_vec)(rest) + lost / NAME(pick)(rest == 0, (VEC){0} + 1, rest);
    return NAME(pick)(lost < -100, (VEC){0} - 100, lost);
}
LOSS(binary) { return (t - 1) * NAME(bounded_log_rest)(x) - t * NAME(bounded_log)(x); }
SLOPE(binary)
{
    VEC product = (1 - x) * x;
    return (x - t) / NAME(pick)(product < (T)1e-12, (VEC){0} + (T)1e-12, product);
}
TARGET(binary) { return NAME(bounded_log_rest)(x) - NAME(bounded_log)(x); }

/* With s = sigmoid(x): -log s = max(-x, 0) + log(1 + exp(-|x|)), and -log(1 - s) is that of -x. */
LOSS(binary_logits)
{
    VEC rest = NAME(log1p_unit)(NAME(exp_minus)(x));
    VEC yes = NAME(pick)(x < 0, -x, (VEC){0}) + rest, no = NAME(pick)(x > 0, x, (VEC){0}) + rest;
    yes = (q * t) * yes + (1 - t) * no;
    return NAME(pick)(x == x, yes, x);
}
SLOPE(binary_logits) { return (1 - t) * NAME(sigmoid_vec)(x) - (q * t) * NAME(sigmoid_vec)(-x); }
TARGET(binary_logits)
{
    VEC rest = NAME(log1p_unit)(NAME(exp_minus)(x));
    VEC yes = NAME(pick)(x < 0, -x, (VEC){0}) + rest, no = NAME(pick)(x > 0, x, (VEC){0}) + rest;
    return NAME(pick)(x == x, q * yes - no, x);
}

/* t (log t - x), where 0 log 0 is 0 */
LOSS(divergence) { return NAME(pick)(t == 0, (VEC){0}, t * NAME(log_vec)(t)) - t * x; }
SLOPE(divergence) { return -t; }
TARGET(divergence) { return NAME(log_vec)(t) + 1 - x; }

LOSS(divergence_log) { return NAME(exp_vec)(t) * (t - x); }
SLOPE(divergence_log) { return -NAME(exp_vec)(t); }
TARGET(divergence_log) { return NAME(exp_vec)(t) * (t - x + 1); }

#define VALUE_AT(name, LOAD)                                                                                            \
    VEC v = NAME(name##_of)(LOAD(x), LOAD(t), q ? LOAD(q) : (VEC){0} + 1, (T)p);                                        \
    if (w)                                                                                                              \
        v *= LOAD(w);
#define SLOPES_AT(name, LOAD)                                                                                           \
    VEC a = LOAD(x), b = LOAD(t), c = q ? LOAD(q) : (VEC){0} + 1, scale = (VEC){0} + (T)factor;                         \
    if (g)                                                                                                              \
        scale *= LOAD(g);                                                                                               \
    if (w)                                                                                                              \
        scale *= LOAD(w);
#define WHOLE(from) NAME(load)(from + i)
#define PART(from) NAME(load_part)(from + i, n - i)
#define LOOPS(name)                                                                                                     \
    static __attribute__((noinline, unused)) void NAME(name##_values)(                                                  \
        T *restrict losses, const T *restrict x, const T *restrict t, const T *restrict w, const T *restrict q,         \
        ptrdiff_t n, double p)                                                                                          \
    {                                                                                                                   \
        ptrdiff_t i = 0;                                                                                                \
        for (; i + LANES <= n; i += LANES) {                                                                            \
            VALUE_AT(name, WHOLE)                                                                                       \
            NAME(store)(losses + i, v);                                                                                 \
        }                                                                                                               \
        if (i < n) {                                                                                                    \
            VALUE_AT(name, PART)                                                                                        \
            NAME(store_part)(losses + i, v, n - i);                                                                     \
        }                                                                                                               \
    }                                                                                                                   \
    static __attribute__((noinline, unused)) void NAME(name##_slopes)(                                                  \
        T *restrict dx, T *restrict dt, const T *restrict g, double factor, const T *restrict x, const T *restrict t,   \
        const T *restrict w, const T *restrict q, ptrdiff_t n, double p)                                                \
    {                                                                                                                   \
        ptrdiff_t i = 0;                                                                                                \
        for (; i + LANES <= n; i += LANES) {                                                                            \
            SLOPES_AT(name, WHOLE)                                                                                      \
            NAME(store)(dx + i, scale * NAME(name##_slope)(a, b, c, (T)p));                                             \
            if (dt)                                                                                                     \
                NAME(store)(dt + i, scale * NAME(name##_target)(a, b, c, (T)p));                                        \
        }                                                                                                               \
        if (i < n) {                                                                                                    \
            SLOPES_AT(name, PART)                                                                                       \
            NAME(store_part)(dx + i, scale * NAME(name##_slope)(a, b, c, (T)p), n - i);                                 \
            if (dt)                                                                                                     \
                NAME(store_part)(dt + i, scale * NAME(name##_target)(a, b, c, (T)p), n - i);                            \
        }                                                                                                               \
    }
LOSSES(LOOPS)

/* Whether all of x are in [0, 1]. */
static __attribute__((noinline, unused)) int NAME(probabilities)(const T *x, ptrdiff_t n)
{
    IVEC inside = ~(IVEC){0};
    ptrdiff_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        VEC v = NAME(load)(x + i);
        inside &= (v >= 0) & (v <= 1);
    }
    if (i < n) {
        VEC v = NAME(load_part)(x + i, n - i);
        inside &= (v >= 0) & (v <= 1);
    }
    for (i = 0; i < LANES; i++)
        if (!inside[i])
            return 0;
    return 1;
}

/* The sum in double precision, in the order of 16 sums side by side. */
static __attribute__((noinline, unused)) double NAME(wide_sum)(const T *x, ptrdiff_t n)
{
    double sums[16] = {0};
    ptrdiff_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (int k = 0; k < 16; k++)
            sums[k] += x[i + k];
    for (; i < n; i++)
        sums[i % 16] += x[i];
    for (int k = 8; k > 0; k /= 2)
        for (int j = 0; j < k; j++)
            sums[j] += sums[j + k];
    return sums[0];
}

#undef LOOPS
#undef VALUE_AT
#undef SLOPES_AT
#undef WHOLE
#undef PART
#undef LOSS
#undef SLOPE
#undef TARGET
#undef EXCHANGED
#undef SIGN
#undef NAME
#undef LANES
#undef VEC
#undef IVEC
#endif
