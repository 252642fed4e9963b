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

/* step(n) for n = LANES / 2, ..., 2, 1 */
#define FOLD(step)                                                                                                      \
    if (LANES > 8)                                                                                                      \
        step(8);                                                                                                        \
    if (LANES > 4)                                                                                                      \
        step(4);                                                                                                        \
    if (LANES > 2)                                                                                                      \
        step(2);                                                                                                        \
    step(1);
#define ADD_HALF(n) v += NAME(half_of)(v, n)
#define BETTER_HALF(n) other = NAME(half_of)(v, n), v = NAME(pick)(NAME(better)(v, other), other, v)
CYCONV_INLINE T NAME(sum_of)(VEC v)
{
    FOLD(ADD_HALF)
    return v[0];
}

CYCONV_INLINE T NAME(max_of)(VEC v)
{
    VEC other;
    FOLD(BETTER_HALF)
    return v[0];
}
#undef FOLD
#undef ADD_HALF
#undef BETTER_HALF

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

/* Short rows: a few classes side by side. The rows of LANES samples become vectors, which are folded together: what is left
 * of each sample is a lane of one vector. What a sample's classes have in common is spread to as many numbers again; so all
 * else goes over the numbers as they lie, whatever sample they belong to. */

/* Of two vectors with a group of 2 `half` lanes for each sample: the lower half of each group, or the `upper`, those of a
 * and b in turn. */
CYCONV_INLINE VEC NAME(halves_of)(VEC a, VEC b, const int half, const int upper)
{
    IVEC place;
    CYCONV_UNROLL
    for (int i = 0; i < LANES; i++)
        place[i] = i / (2 * half) * 2 * half + i % half + upper * half + (i / half % 2 ? LANES : 0);
#if defined(__clang__)
    VEC turned;
    for (int i = 0; i < LANES; i++)
        turned[i] = place[i] < LANES ? a[place[i]] : b[place[i] - LANES];
    return turned;
#else
    return __builtin_shuffle(a, b, place);
#endif
}

CYCONV_INLINE void NAME(fold_rows)(VEC *v, const int half)
{
    CYCONV_UNROLL
    for (int i = 0; i < half; i++)
        v[i] = NAME(halves_of)(v[i], v[i + half], half, 0) + NAME(halves_of)(v[i], v[i + half], half, 1);
}

/* Lane k is the sum of row k, or of its products with the row of z unless that is NULL. */
CYCONV_INLINE VEC NAME(row_sums)(const T *x, const T *z, ptrdiff_t classes, const int rows)
{
    VEC v[LANES] = {{0}};
    ptrdiff_t c = 0;
    for (; c + LANES <= classes; c += LANES) {
        CYCONV_UNROLL
        for (int i = 0; i < rows; i++) {
            VEC w = NAME(load)(x + i * classes + c);
            v[i] += z ? w * NAME(load)(z + i * classes + c) : w;
        }
    }
    if (c < classes) {
        CYCONV_UNROLL
        for (int i = 0; i < rows; i++) {
            VEC w = NAME(load_part)(x + i * classes + c, classes - c);
            v[i] += z ? w * NAME(load_part)(z + i * classes + c, classes - c) : w;
        }
    }
    if (LANES > 8)
        NAME(fold_rows)(v, 8);
    if (LANES > 4)
        NAME(fold_rows)(v, 4);
    if (LANES > 2)
        NAME(fold_rows)(v, 2);
    NAME(fold_rows)(v, 1);
    return v[0];
}

/* wide = what row_sums gives for each sample, as many times as there are classes; with room for a vector behind it. */
CYCONV_INLINE void NAME(spread_sums)(T *wide, const T *x, const T *z, ptrdiff_t classes, ptrdiff_t samples)
{
    T found[LANES];
    for (ptrdiff_t k = 0, many; k < samples; k += many) {
        many = samples - k < LANES ? 1 : LANES;
        NAME(store)(found, many == 1 ? NAME(row_sums)(x + k * classes, z ? z + k * classes : NULL, classes, 1)
                                     : NAME(row_sums)(x + k * classes, z ? z + k * classes : NULL, classes, LANES));
        for (ptrdiff_t i = 0; i < many; i++)
            for (ptrdiff_t c = 0; c < classes; c += LANES)
                NAME(store)(wide + (k + i) * classes + c, (VEC){0} + found[i]);
    }
}

/* For all i < n, a whole or a part vector at a time. */
#define OVER_NUMBERS(VALUE)                                                                                             \
    {                                                                                                                   \
        ptrdiff_t i = 0;                                                                                                \
        for (; i + LANES <= n; i += LANES)                                                                              \
            NAME(store)(dx + i, VALUE(WHOLE));                                                                          \
        if (i < n)                                                                                                      \
            NAME(store_part)(dx + i, VALUE(PART), n - i);                                                               \
    }
#define WHOLE(p) NAME(load)((p) + i)
#define PART(p) NAME(load_part)((p) + i, n - i)

/* dx = y (dy - sum of y dy), or for logarithms dy - exp(y) sum of dy; wide: room for as many numbers, and one vector. */
static __attribute__((noinline, unused)) void NAME(short_backward)(const int logarithm, T *restrict dx,
                                                                   const T *restrict dy, const T *restrict y,
                                                                   ptrdiff_t classes, ptrdiff_t samples,
                                                                   T *restrict wide)
{
    const ptrdiff_t n = samples * classes;
    if (logarithm) {
        NAME(spread_sums)(wide, dy, NULL, classes, samples);
#define VALUE(LOAD) (LOAD(dy) - NAME(exp_vec)(LOAD(y)) * LOAD(wide))
        OVER_NUMBERS(VALUE)
#undef VALUE
        return;
    }
    NAME(spread_sums)(wide, dy, y, classes, samples);
#define VALUE(LOAD) (LOAD(y) * (LOAD(dy) - LOAD(wide)))
    OVER_NUMBERS(VALUE)
#undef VALUE
}
#undef OVER_NUMBERS
#undef WHOLE
#undef PART

/* Columns are worked on in strips of this many vectors: so much of each class is read in one go, and what a strip of all
 * classes reads stays in the cache for the passes that follow. */
#define STRIP 4

/* top = max over classes, sum = sum of exp(x - top), of `width` vectors of samples; y, unless NULL, gets the exponentials.
 * `left`: samples that are there, fewer than a vector where width is 0. */
CYCONV_INLINE void NAME(strip_exp)(const int width, T *y, const T *x, ptrdiff_t classes, ptrdiff_t stride, ptrdiff_t left,
                                   VEC *top, VEC *sum)
{
    const int n = width ? width : 1;
    VEC part[STRIP];
    CYCONV_UNROLL
    for (int k = 0; k < n; k++) {
        top[k] = LOWEST_MAXIMUM;
        sum[k] = part[k] = (VEC){0};
    }
    for (ptrdiff_t c = 0; c < classes; c++) {
        CYCONV_UNROLL
        for (int k = 0; k < n; k++) {
            VEC v = width ? NAME(load)(x + c * stride + k * LANES) : NAME(load_part)(x + c * stride, left);
            top[k] = NAME(pick)(NAME(better)(top[k], v), v, top[k]);
        }
    }
    for (ptrdiff_t c = 0; c < classes; c++) {
        CYCONV_UNROLL
        for (int k = 0; k < n; k++) {
            VEC v = width ? NAME(load)(x + c * stride + k * LANES) : NAME(load_part)(x + c * stride, left);
            v = NAME(exp_below)(v - top[k]);
            if (y && width)
                NAME(store)(y + c * stride + k * LANES, v);
            else if (y)
                NAME(store_part)(y + c * stride, v, left);
            part[k] += v;
        }
        if (c % STRETCH == STRETCH - 1) {
            CYCONV_UNROLL
            for (int k = 0; k < n; k++) {
                sum[k] += part[k];
                part[k] = (VEC){0};
            }
        }
    }
    CYCONV_UNROLL
    for (int k = 0; k < n; k++)
        sum[k] += part[k];
}

/* One strip of softmax, or of its logarithm. */
CYCONV_INLINE void NAME(strip_softmax)(const int width, const int logarithm, T *y, const T *x, ptrdiff_t classes,
                                       ptrdiff_t stride, ptrdiff_t left)
{
    const int n = width ? width : 1;
    VEC top[STRIP], sum[STRIP];
    NAME(strip_exp)(width, logarithm ? NULL : y, x, classes, stride, left, top, sum);
    CYCONV_UNROLL
    for (int k = 0; k < n; k++)
        sum[k] = logarithm ? NAME(log_vec)(sum[k]) : 1 / sum[k];
    for (ptrdiff_t c = 0; c < classes; c++) {
        CYCONV_UNROLL
        for (int k = 0; k < n; k++) {
            const T *from = (logarithm ? x : y) + c * stride + k * LANES;
            VEC v = width ? NAME(load)(from) : NAME(load_part)(from, left);
            v = logarithm ? (v - top[k]) - sum[k] : v * sum[k];
            if (width)
                NAME(store)(y + c * stride + k * LANES, v);
            else
                NAME(store_part)(y + c * stride, v, left);
        }
    }
}

/* What a strip does, over all samples: whole strips, whole vectors, and the rest. An element's value is the same in each. */
#define OVER_SAMPLES(whole, one, part)                                                                                  \
    ptrdiff_t j = 0;                                                                                                    \
    for (; j + STRIP * LANES <= samples; j += STRIP * LANES) {                                                          \
        whole;                                                                                                          \
    }                                                                                                                   \
    for (; j + LANES <= samples; j += LANES) {                                                                          \
        one;                                                                                                            \
    }                                                                                                                   \
    if (j < samples) {                                                                                                  \
        part;                                                                                                           \
    }

/* y = softmax of x over the classes, or its logarithm, for `samples` columns. */
static __attribute__((noinline, unused)) void NAME(column_softmax)(int logarithm, T *y, const T *x, ptrdiff_t classes,
                                                                   ptrdiff_t stride, ptrdiff_t samples)
{
    if (logarithm) {
        OVER_SAMPLES(NAME(strip_softmax)(STRIP, 1, y + j, x + j, classes, stride, 0),
                     NAME(strip_softmax)(1, 1, y + j, x + j, classes, stride, 0),
                     NAME(strip_softmax)(0, 1, y + j, x + j, classes, stride, samples - j))
    } else {
        OVER_SAMPLES(NAME(strip_softmax)(STRIP, 0, y + j, x + j, classes, stride, 0),
                     NAME(strip_softmax)(1, 0, y + j, x + j, classes, stride, 0),
                     NAME(strip_softmax)(0, 0, y + j, x + j, classes, stride, samples - j))
    }
}

/* For `samples` columns: top = max over classes, sum = sum of exp(x - top); y, unless NULL, gets the exponentials. */
static __attribute__((noinline, unused)) void NAME(column_exp)(T *y, const T *x, ptrdiff_t classes, ptrdiff_t stride,
                                                               ptrdiff_t samples, T *top, T *sum)
{
    VEC best[STRIP], total[STRIP];
    OVER_SAMPLES(
        NAME(strip_exp)(STRIP, y ? y + j : NULL, x + j, classes, stride, 0, best, total);
        for (int k = 0; k < STRIP; k++) {
            NAME(store)(top + j + k * LANES, best[k]);
            NAME(store)(sum + j + k * LANES, total[k]);
        },
        NAME(strip_exp)(1, y ? y + j : NULL, x + j, classes, stride, 0, best, total);
        NAME(store)(top + j, best[0]);
        NAME(store)(sum + j, total[0]),
        NAME(strip_exp)(0, y ? y + j : NULL, x + j, classes, stride, samples - j, best, total);
        NAME(store_part)(top + j, best[0], samples - j);
        NAME(store_part)(sum + j, total[0], samples - j))
}

/* y *= factor, one for each sample. */
static __attribute__((noinline, unused)) void NAME(column_scale)(T *y, ptrdiff_t classes, ptrdiff_t stride,
                                                                 ptrdiff_t samples, const T *factor)
{
    for (ptrdiff_t c = 0; c < classes; c++, y += stride) {
        ptrdiff_t j = 0;
        for (; j + LANES <= samples; j += LANES)
            NAME(store)(y + j, NAME(load)(y + j) * NAME(load)(factor + j));
        if (j < samples) {
            ptrdiff_t left = samples - j;
            NAME(store_part)(y + j, NAME(load_part)(y + j, left) * NAME(load_part)(factor + j, left), left);
        }
    }
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

CYCONV_INLINE void NAME(strip_backward)(const int width, const int logarithm, T *dx, const T *dy, const T *y,
                                        ptrdiff_t classes, ptrdiff_t stride, ptrdiff_t left)
{
    const int n = width ? width : 1;
    VEC total[STRIP], part[STRIP];
    CYCONV_UNROLL
    for (int k = 0; k < n; k++)
        total[k] = part[k] = (VEC){0};
    for (ptrdiff_t c = 0; c < classes; c++) {
        CYCONV_UNROLL
        for (int k = 0; k < n; k++) {
            ptrdiff_t at = c * stride + k * LANES;
            VEC g = width ? NAME(load)(dy + at) : NAME(load_part)(dy + at, left);
            part[k] += logarithm ? g : g * (width ? NAME(load)(y + at) : NAME(load_part)(y + at, left));
        }
        if (c % STRETCH == STRETCH - 1) {
            CYCONV_UNROLL
            for (int k = 0; k < n; k++) {
                total[k] += part[k];
                part[k] = (VEC){0};
            }
        }
    }
    CYCONV_UNROLL
    for (int k = 0; k < n; k++)
        total[k] += part[k];
    for (ptrdiff_t c = 0; c < classes; c++) {
        CYCONV_UNROLL
        for (int k = 0; k < n; k++) {
            ptrdiff_t at = c * stride + k * LANES;
            VEC g = width ? NAME(load)(dy + at) : NAME(load_part)(dy + at, left);
            VEC v = width ? NAME(load)(y + at) : NAME(load_part)(y + at, left);
            v = logarithm ? g - NAME(exp_vec)(v) * total[k] : v * (g - total[k]);
            if (width)
                NAME(store)(dx + at, v);
            else
                NAME(store_part)(dx + at, v, left);
        }
    }
}

static __attribute__((noinline, unused)) void NAME(column_backward)(int logarithm, T *dx, const T *dy, const T *y,
                                                                    ptrdiff_t classes, ptrdiff_t stride,
                                                                    ptrdiff_t samples)
{
    if (logarithm) {
        OVER_SAMPLES(NAME(strip_backward)(STRIP, 1, dx + j, dy + j, y + j, classes, stride, 0),
                     NAME(strip_backward)(1, 1, dx + j, dy + j, y + j, classes, stride, 0),
                     NAME(strip_backward)(0, 1, dx + j, dy + j, y + j, classes, stride, samples - j))
    } else {
        OVER_SAMPLES(NAME(strip_backward)(STRIP, 0, dx + j, dy + j, y + j, classes, stride, 0),
                     NAME(strip_backward)(1, 0, dx + j, dy + j, y + j, classes, stride, 0),
                     NAME(strip_backward)(0, 0, dx + j, dy + j, y + j, classes, stride, samples - j))
    }
}

#undef OVER_SAMPLES
#undef STRIP
#undef NAME
#undef LANES
#undef VEC
#undef IVEC
#undef LOWEST_MAXIMUM
#undef STRETCH
#endif
