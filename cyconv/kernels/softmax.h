/* The vector parts of softmax and cross-entropy, once for classes side by side in memory (*row*: one sample) and once
 * for samples side by side (*column*: classes `stride` apart, vectors over samples).
 *
 * The maximum is taken off first, so that nothing overflows; a NaN among the classes is the maximum and makes all NaN.
 */
#ifndef T /* the first time: once for each element type */
#ifndef CYCONV_SOFTMAX_H
#define CYCONV_SOFTMAX_H
#include "vecmath.h"

#define T float
#define BITS int32_t
#define SUFFIX f32
#include "softmax.h"
#undef T
#undef BITS
#undef SUFFIX

#define T double
#define BITS int64_t
#define SUFFIX f64
#include "softmax.h"
#undef T
#undef BITS
#undef SUFFIX

#endif
#else /* the template */

#define NAME(x) CYCONV_JOIN(x, SUFFIX)
#define LANES ((int)(CYCONV_VECTOR_BYTES / sizeof(T)))
#define VEC NAME(vec)
#define IVEC NAME(ivec)
#define LOWEST_MAXIMUM ((VEC){0} - (T)__builtin_inf())
/* Sums in two levels, so that their error grows with the square root of their length. */
#define STRETCH 128

/* The upper half of the first 2n lanes beside the lower: what folds a vector in a few steps. */
CYCONV_INLINE VEC NAME(half_of)(VEC v, int n)
{
    IVEC place;
    CYCONV_UNROLL
    for (int i = 0; i < LANES; i++)
        place[i] = (i + n) % LANES;
#if defined(__clang__)
    VEC turned;
    for (int i = 0; i < LANES; i++)
        turned[i] = v[place[i]];
    return turned;
#else
    return __builtin_shuffle(v, place);
#endif
}

CYCONV_INLINE T NAME(sum_of)(VEC v)
{
    CYCONV_UNROLL
    for (int n = LANES / 2; n > 0; n /= 2)
        v += NAME(half_of)(v, n);
    return v[0];
}

CYCONV_INLINE T NAME(max_of)(VEC v)
{
    CYCONV_UNROLL
    for (int n = LANES / 2; n > 0; n /= 2) {
        VEC other = NAME(half_of)(v, n);
        v = NAME(pick)(NAME(better)(v, other), other, v);
    }
    return v[0];
}

/* Returns the sum of exp(x - max x), *top = max x; y, unless NULL, gets the exponentials. */
static __attribute__((noinline, unused)) T NAME(row_exp)(T *y, const T *x, ptrdiff_t n, T *top)
{
    const T lowest = -(T)__builtin_inf();
    VEC best = LOWEST_MAXIMUM, total = {0}, part = {0};
    ptrdiff_t i, whole = n - n % LANES;
    for (i = 0; i < whole; i += LANES) {
        VEC v = NAME(load)(x + i);
        best = NAME(pick)(NAME(better)(best, v), v, best);
    }
    VEC rest = NAME(load_filled)(x + whole, n - whole, lowest);
    best = NAME(pick)(NAME(better)(best, rest), rest, best);
    T m = NAME(max_of)(best);
    *top = m;
    for (i = 0; i < whole; i += LANES) {
        VEC e = NAME(exp_below)(NAME(load)(x + i) - m);
        if (y)
            NAME(store)(y + i, e);
        part += e;
        if (i / LANES % STRETCH == STRETCH - 1) {
            total += part;
            part = (VEC){0};
        }
    }
    if (whole < n) {
        VEC e = NAME(exp_below)(rest - m); /* zero where there is no class */
        if (y)
            NAME(store_part)(y + whole, e, n - whole);
        part += e;
    }
    return NAME(sum_of)(total + part);
}

/* y = exp(x - top) * factor */
static __attribute__((noinline, unused)) void NAME(row_exp_scaled)(T *y, const T *x, ptrdiff_t n, T top, T factor)
{
    ptrdiff_t i = 0;
    for (; i + LANES <= n; i += LANES)
        NAME(store)(y + i, NAME(exp_below)(NAME(load)(x + i) - top) * factor);
    if (i < n)
        NAME(store_part)(y + i, NAME(exp_below)(NAME(load_filled)(x + i, n - i, top) - top) * factor, n - i);
}

static __attribute__((noinline, unused)) void NAME(row_scale)(T *y, ptrdiff_t n, T factor)
{
    for (ptrdiff_t i = 0; i < n; i++)
        y[i] *= factor;
}

static __attribute__((noinline, unused)) void NAME(row_shift)(T *restrict y, const T *restrict x, ptrdiff_t n, T top,
                                                              T logarithm)
{
    for (ptrdiff_t i = 0; i < n; i++)
        y[i] = (x[i] - top) - logarithm;
}

/* For `samples` columns: top = max over classes, sum = sum of exp(x - top); y, unless NULL, gets the exponentials. */
static __attribute__((noinline, unused)) void NAME(column_exp)(T *y, const T *x, ptrdiff_t classes, ptrdiff_t stride,
                                                               ptrdiff_t samples, T *top, T *sum)
{
    for (ptrdiff_t i = 0; i < samples; i += LANES) {
        ptrdiff_t j = NAME(step_back)(i, samples), left = samples - j;
        int whole = left >= LANES;
        VEC best = LOWEST_MAXIMUM, total = {0}, part = {0};
        for (ptrdiff_t c = 0; c < classes; c++) {
            const T *p = x + c * stride + j;
            VEC v = whole ? NAME(load)(p) : NAME(load_part)(p, left);
            best = NAME(pick)(NAME(better)(best, v), v, best);
        }
        for (ptrdiff_t c = 0; c < classes; c++) {
            const T *p = x + c * stride + j;
            VEC e = NAME(exp_below)((whole ? NAME(load)(p) : NAME(load_part)(p, left)) - best);
            if (y && whole)
                NAME(store)(y + c * stride + j, e);
            else if (y)
                NAME(store_part)(y + c * stride + j, e, left);
            part += e;
            if (c % STRETCH == STRETCH - 1) {
                total += part;
                part = (VEC){0};
            }
        }
        total += part;
        if (whole) {
            NAME(store)(top + j, best);
            NAME(store)(sum + j, total);
        } else {
            NAME(store_part)(top + j, best, left);
            NAME(store_part)(sum + j, total, left);
        }
    }
}

/* y = exp(x - top) * factor, top and factor for each sample. */
static __attribute__((noinline, unused)) void NAME(column_exp_scaled)(T *y, const T *x, ptrdiff_t classes,
                                                                      ptrdiff_t stride, ptrdiff_t samples, const T *top,
                                                                      const T *factor)
{
    for (ptrdiff_t c = 0; c < classes; c++, x += stride, y += stride) {
        ptrdiff_t j = 0;
        for (; j + LANES <= samples; j += LANES)
            NAME(store)(y + j, NAME(exp_below)(NAME(load)(x + j) - NAME(load)(top + j)) * NAME(load)(factor + j));
        if (j < samples) {
            ptrdiff_t left = samples - j;
            VEC v = NAME(load_part)(x + j, left) - NAME(load_part)(top + j, left);
            NAME(store_part)(y + j, NAME(exp_below)(v) * NAME(load_part)(factor + j, left), left);
        }
    }
}

static __attribute__((noinline, unused)) void NAME(column_scale)(T *restrict y, ptrdiff_t classes, ptrdiff_t stride,
                                                                 ptrdiff_t samples, const T *restrict factor)
{
    for (ptrdiff_t c = 0; c < classes; c++, y += stride)
        for (ptrdiff_t j = 0; j < samples; j++)
            y[j] *= factor[j];
}

/* y = x - top - log(sum) */
static __attribute__((noinline, unused)) void NAME(column_shift)(T *restrict y, const T *restrict x, ptrdiff_t classes,
                                                                 ptrdiff_t stride, ptrdiff_t samples,
                                                                 const T *restrict top, T *restrict sum)
{
    for (ptrdiff_t j = 0; j < samples; j += LANES) {
        ptrdiff_t left = samples - j < LANES ? samples - j : LANES;
        NAME(store_part)(sum + j, NAME(log_vec)(NAME(load_filled)(sum + j, left, 1)), left);
    }
    for (ptrdiff_t c = 0; c < classes; c++, x += stride, y += stride)
        for (ptrdiff_t j = 0; j < samples; j++)
            y[j] = (x[j] - top[j]) - sum[j];
}

/* dx = y (dy - sum of y dy), or for logarithms dy - exp(y) sum of dy. */
static __attribute__((noinline, unused)) void NAME(row_backward)(const int logarithm, T *restrict dx,
                                                                 const T *restrict dy, const T *restrict y, ptrdiff_t n)
{
    VEC part = {0}, total = {0};
    T sum = 0;
    ptrdiff_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        VEC g = NAME(load)(dy + i);
        part += logarithm ? g : g * NAME(load)(y + i);
        if (i / LANES % STRETCH == STRETCH - 1) {
            total += part;
            part = (VEC){0};
        }
    }
    if (i < n) {
        VEC g = NAME(load_part)(dy + i, n - i);
        part += logarithm ? g : g * NAME(load_part)(y + i, n - i);
    }
    sum = NAME(sum_of)(total + part);
    for (i = 0; i + LANES <= n; i += LANES) {
        VEC g = NAME(load)(dy + i), v = NAME(load)(y + i);
        NAME(store)(dx + i, logarithm ? g - NAME(exp_vec)(v) * sum : v * (g - sum));
    }
    if (i < n) {
        VEC g = NAME(load_part)(dy + i, n - i), v = NAME(load_part)(y + i, n - i);
        NAME(store_part)(dx + i, logarithm ? g - NAME(exp_vec)(v) * sum : v * (g - sum), n - i);
    }
}

static __attribute__((noinline, unused)) void NAME(column_backward)(const int logarithm, T *restrict dx,
                                                                    const T *restrict dy, const T *restrict y,
                                                                    ptrdiff_t classes, ptrdiff_t stride,
                                                                    ptrdiff_t samples)
{
    for (ptrdiff_t i = 0; i < samples; i += LANES) {
        ptrdiff_t j = NAME(step_back)(i, samples), left = samples - j;
        int whole = left >= LANES;
        VEC total = {0}, part = {0};
        for (ptrdiff_t c = 0; c < classes; c++) {
            ptrdiff_t at = c * stride + j;
            VEC g = whole ? NAME(load)(dy + at) : NAME(load_part)(dy + at, left);
            part += logarithm ? g : g * (whole ? NAME(load)(y + at) : NAME(load_part)(y + at, left));
            if (c % STRETCH == STRETCH - 1) {
                total += part;
                part = (VEC){0};
            }
        }
        total += part;
        for (ptrdiff_t c = 0; c < classes; c++) {
            ptrdiff_t at = c * stride + j;
            VEC g = whole ? NAME(load)(dy + at) : NAME(load_part)(dy + at, left);
            VEC v = whole ? NAME(load)(y + at) : NAME(load_part)(y + at, left);
            v = logarithm ? g - NAME(exp_vec)(v) * total : v * (g - total);
            if (whole)
                NAME(store)(dx + at, v);
            else
                NAME(store_part)(dx + at, v, left);
        }
    }
}

#undef NAME
#undef LANES
#undef VEC
#undef IVEC
#undef LOWEST_MAXIMUM
#undef STRETCH
#endif
