/* Local response normalisation of a tile: rows of channels, vectors go along the row.
 *
 * d = k + a (the sum of x^2 over `size` channels, `before` of them before the own), y = x d^-beta. Windows are added up
 * anew for each channel: a running sum would keep the rounding errors of all channels before.
 */
#ifndef T /* the first time: once for each element type */
#ifndef CYCONV_RESPONSE_H
#define CYCONV_RESPONSE_H
#include "vecmath.h"

#define T float
#define BITS int32_t
#define SUFFIX f32
#include "response.h"
#undef T
#undef BITS
#undef SUFFIX

#define T double
#define BITS int64_t
#define SUFFIX f64
#include "response.h"
#undef T
#undef BITS
#undef SUFFIX

#endif
#else /* the template */

#define NAME(x) CYCONV_JOIN(x, SUFFIX)
#define LANES ((int)(CYCONV_VECTOR_BYTES / sizeof(T)))
#define VEC NAME(vec)

CYCONV_INLINE VEC NAME(load_some)(const T *p, ptrdiff_t n) { return n >= LANES ? NAME(load)(p) : NAME(load_part)(p, n); }
CYCONV_INLINE void NAME(store_some)(T *p, VEC v, ptrdiff_t n)
{
    if (n >= LANES)
        NAME(store)(p, v);
    else
        NAME(store_part)(p, v, n);
}

/* d of one vector: column i of channel c */
CYCONV_INLINE VEC NAME(divisor)(const T *x, ptrdiff_t channels, ptrdiff_t pitch, ptrdiff_t c, ptrdiff_t i, ptrdiff_t n,
                                ptrdiff_t size, ptrdiff_t before, T a, T k)
{
    const ptrdiff_t first = c < before ? 0 : c - before, end = c - before + size;
    VEC total = {0};
    for (ptrdiff_t j = first; j < end && j < channels; j++) {
        VEC v = NAME(load_some)(x + j * pitch + i, n - i);
        total += v * v;
    }
    return total * a + k;
}

CYCONV_INLINE VEC NAME(power)(VEC d, T exponent) { return NAME(exp_vec)(NAME(log_vec)(d) * exponent); }

/* y and x: channels of n elements, a pitch apart */
static __attribute__((noinline, unused)) void NAME(response)(T *y, ptrdiff_t y_pitch, const T *x, ptrdiff_t pitch,
                                                             ptrdiff_t channels, ptrdiff_t n, ptrdiff_t size,
                                                             ptrdiff_t before, T a, T beta, T k)
{
    for (ptrdiff_t c = 0; c < channels; c++)
        for (ptrdiff_t i = 0; i < n; i += LANES) {
            VEC d = NAME(divisor)(x, channels, pitch, c, i, n, size, before, a, k);
            VEC v = NAME(load_some)(x + c * pitch + i, n - i) * NAME(power)(d, -beta);
            NAME(store_some)(y + c * y_pitch + i, v, n - i);
        }
}

/* dx = dy d^-beta - 2 a beta x (the sum of dy x d^(-beta - 1) over the channels in whose windows x is); scratch: channels
 * of n elements. dx may be dy. */
static __attribute__((noinline, unused)) void NAME(response_gradient)(T *dx, ptrdiff_t dx_pitch, const T *dy, const T *x,
                                                                      ptrdiff_t pitch, ptrdiff_t channels, ptrdiff_t n,
                                                                      ptrdiff_t size, ptrdiff_t before, T a, T beta, T k,
                                                                      T *scratch)
{
    const ptrdiff_t after = size - 1 - before;
    for (ptrdiff_t c = 0; c < channels; c++)
        for (ptrdiff_t i = 0; i < n; i += LANES) {
            VEC d = NAME(divisor)(x, channels, pitch, c, i, n, size, before, a, k);
            VEC g = NAME(load_some)(dy + c * pitch + i, n - i) * NAME(power)(d, -beta);
            NAME(store_some)(dx + c * dx_pitch + i, g, n - i);
            NAME(store_some)(scratch + c * n + i, g * NAME(load_some)(x + c * pitch + i, n - i) / d, n - i);
        }
    for (ptrdiff_t c = 0; c < channels; c++)
        for (ptrdiff_t i = 0; i < n; i += LANES) {
            VEC total = {0};
            for (ptrdiff_t j = c < after ? 0 : c - after; j <= c + before && j < channels; j++)
                total += NAME(load_some)(scratch + j * n + i, n - i);
            NAME(store_some)(dx + c * dx_pitch + i,
                             NAME(load_some)(dx + c * dx_pitch + i, n - i) -
                                 NAME(load_some)(x + c * pitch + i, n - i) * total * (2 * a * beta),
                             n - i);
        }
}

#undef NAME
#undef LANES
#undef VEC
#endif
