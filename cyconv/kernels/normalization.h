/* The vector parts of normalisation: sums, sums of squares and of products about a center, and what is made of them.
 *
 * *stretch*: the elements of one mean lie side by side, in one stretch of memory or in several, `step` apart.
 * *columns*: rows of `width` elements, a mean for each column; vectors go along the row.
 * *elements*: one stretch with a weight for each element, as layer_norm has it.
 *
 * A chunk's sums are taken in its own type: of a few thousand elements in four vectors, or of a few hundred rows. The
 * center is near their mean, so squares about it cancel nothing. What chunks have in common is added up in double.
 */
#ifndef T /* the first time: once for each element type */
#ifndef CYCONV_NORMALIZATION_H
#define CYCONV_NORMALIZATION_H
#include "vecmath.h"

/* Mean and sum of squares about it of *count elements; with `more` others they become those of all together
 * (Chan, Golub & LeVeque 1983). */
CYCONV_INLINE void merge_moments(double *count, double *mean, double *square, double more, double mean2, double square2)
{
    double total = *count + more, share, difference = mean2 - *mean;
    if (more == 0)
        return;
    share = more / total;
    *mean += difference * share;
    *square += square2 + difference * difference * (*count * share);
    *count = total;
}

#define T float
#define BITS int32_t
#define SUFFIX f32
#include "normalization.h"
#undef T
#undef BITS
#undef SUFFIX

#define T double
#define BITS int64_t
#define SUFFIX f64
#include "normalization.h"
#undef T
#undef BITS
#undef SUFFIX

#endif
#else /* the template */

#define NAME(x) CYCONV_JOIN(x, SUFFIX)
#define LANES ((int)(CYCONV_VECTOR_BYTES / sizeof(T)))
#define VEC NAME(vec)
#define IVEC NAME(ivec)
#define KERNEL static __attribute__((noinline, unused)) void

/* Lanes before the n-th as they are, zero in the others. */
CYCONV_INLINE VEC NAME(first_lanes)(VEC v, ptrdiff_t n)
{
    IVEC lane;
    CYCONV_UNROLL
    for (int i = 0; i < LANES; i++)
        lane[i] = i;
    return (VEC)((lane < (BITS)n) & (IVEC)v);
}

CYCONV_INLINE double NAME(sum_lanes)(VEC v)
{
    T lanes[LANES];
    NAME(store)(lanes, v);
    CYCONV_UNROLL
    for (int half = LANES / 2; half > 0; half /= 2) {
        CYCONV_UNROLL
        for (int i = 0; i < half; i++)
            lanes[i] += lanes[i + half];
    }
    return lanes[0];
}

CYCONV_INLINE double NAME(sum_four)(const VEC *v) { return NAME(sum_lanes)((v[0] + v[1]) + (v[2] + v[3])); }

/* How far before its turn a stretch is asked for: processors foresee what lies in one stretch, not where the next begins.
 * So many stretches as are 2 kB. */
#define FAR_AHEAD(count, step, length) ((count) > 1 ? (step) * (1 + 512 / (length)) : 0)

/* STEP(k, i): sum k takes the vector at element i; PART(i, n): sum 1 takes the n elements at i. Of short stretches four
 * are taken side by side. */
#define OVER_STRETCHES(STEP, PART)                                                                                      \
    ptrdiff_t s = 0;                                                                                                    \
    if (length < 4 * LANES)                                                                                             \
        for (; s + 4 <= count; s += 4) {                                                                                \
            ptrdiff_t i = s * step, end = i + length;                                                                   \
            for (; i + LANES <= end; i += LANES) {                                                                      \
                STEP(0, i)                                                                                              \
                STEP(1, i + step)                                                                                       \
                STEP(2, i + 2 * step)                                                                                   \
                STEP(3, i + 3 * step)                                                                                   \
            }                                                                                                           \
            for (int k = 0; i < end && k < 4; k++) {                                                                    \
                PART(i + k * step, end - i)                                                                             \
            }                                                                                                           \
        }                                                                                                               \
    for (; s < count; s++) {                                                                                            \
        ptrdiff_t i = s * step, end = i + length;                                                                       \
        for (; i + 4 * LANES <= end; i += 4 * LANES) {                                                                  \
            STEP(0, i)                                                                                                  \
            STEP(1, i + LANES)                                                                                          \
            STEP(2, i + 2 * LANES)                                                                                      \
            STEP(3, i + 3 * LANES)                                                                                      \
        }                                                                                                               \
        for (; i + LANES <= end; i += LANES) {                                                                          \
            STEP(0, i)                                                                                                  \
        }                                                                                                               \
        if (i < end) {                                                                                                  \
            PART(i, end - i)                                                                                            \
        }                                                                                                               \
    }

/* The mean of the stretches and the sum of squares about it: two passes, the second from the first-level cache. What the
 * center misses of the mean the second one finds: the center is rounded to T, the mean is not. */
KERNEL NAME(stretch_moments)(const T *x, ptrdiff_t count, ptrdiff_t step, ptrdiff_t length, double *mean, double *square)
{
    VEC a[4] = {{0}}, b[4] = {{0}}, c[4] = {{0}};
    const double n = (double)count * (double)length;
    const ptrdiff_t ahead = count == 1 ? length : count * step; /* where the next chunk will be */
    const ptrdiff_t far = FAR_AHEAD(count, step, length);
#define STEP(k, at)                                                                                                     \
    a[k] += NAME(load)(x + (at));                                                                                       \
    __builtin_prefetch(x + (at) + far);
#define PART(at, n)                                                                                                     \
    a[1] += NAME(load_part)(x + (at), n);                                                                               \
    __builtin_prefetch(x + (at) + far);
    {
        OVER_STRETCHES(STEP, PART)
    }
#undef STEP
#undef PART
    const T center = (T)(NAME(sum_four)(a) / n);
#define STEP(k, at)                                                                                                     \
    {                                                                                                                   \
        VEC d = NAME(load)(x + (at)) - center;                                                                          \
        __builtin_prefetch(x + (at) + ahead);                                                                           \
        b[k] += d;                                                                                                      \
        c[k] += d * d;                                                                                                  \
    }
#define PART(at, n)                                                                                                     \
    {                                                                                                                   \
        VEC d = NAME(first_lanes)(NAME(load_part)(x + (at), n) - center, n);                                            \
        b[1] += d;                                                                                                      \
        c[1] += d * d;                                                                                                  \
    }
    {
        OVER_STRETCHES(STEP, PART)
    }
#undef STEP
#undef PART
    const double missing = NAME(sum_four)(b);
    *mean = center + missing / n;
    *square = NAME(sum_four)(c) - missing * missing / n;
}

/* What of a gradient comes through the ReLU behind: nothing where forward's value was not above `floor`. With d = x - center
 * the value is that of forward to the last bit. `floor` is 0, or NaN where there is no ReLU: nothing is below. */
#define PASSED(g, d, scale, shift) NAME(pick)((d) * (scale) + (shift) <= floor, (VEC){0}, NAME(loaded)(g))

/* The sums of dy and of dy (x - center) are added to *a and *b. */
KERNEL NAME(stretch_products)(const T *dy, const T *x, ptrdiff_t count, ptrdiff_t step, ptrdiff_t length, T center,
                              T scale, T shift, T floor, double *sum, double *product)
{
    VEC a[4] = {{0}}, b[4] = {{0}};
    const ptrdiff_t far = FAR_AHEAD(count, step, length);
#define STEP(k, at)                                                                                                     \
    {                                                                                                                   \
        VEC d = NAME(load)(x + (at)) - center, g = PASSED(NAME(load)(dy + (at)), d, scale, shift);                      \
        __builtin_prefetch(x + (at) + far);                                                                             \
        __builtin_prefetch(dy + (at) + far);                                                                            \
        a[k] += g;                                                                                                      \
        b[k] += g * d;                                                                                                  \
    }
#define PART(at, n)                                                                                                     \
    {                                                                                                                   \
        VEC d = NAME(load_part)(x + (at), n) - center, g = PASSED(NAME(load_part)(dy + (at), n), d, scale, shift);      \
        __builtin_prefetch(x + (at) + far);                                                                             \
        __builtin_prefetch(dy + (at) + far);                                                                            \
        a[1] += g;                                                                                                      \
        b[1] += NAME(first_lanes)(g * d, n);                                                                            \
    }
    OVER_STRETCHES(STEP, PART)
#undef STEP
#undef PART
    *sum += NAME(sum_four)(a);
    *product += NAME(sum_four)(b);
}

/* out = a whole or a part vector of VALUE(LOAD), for all i < n. */
#define OVER_ELEMENTS(out, VALUE)                                                                                       \
    {                                                                                                                   \
        ptrdiff_t i = 0;                                                                                                \
        for (; i + LANES <= n; i += LANES)                                                                              \
            NAME(store)(out + i, VALUE(WHOLE));                                                                         \
        if (i < n)                                                                                                      \
            NAME(store_part)(out + i, VALUE(PART), n - i);                                                              \
    }
#define WHOLE(p) NAME(load)((p) + i)
#define PART(p) NAME(load_part)((p) + i, n - i)

/* The same of `count` stretches of n, `step` apart, with the places of the next ones in `out` asked for. */
#define OVER_EACH(out, VALUE)                                                                                           \
    {                                                                                                                   \
        const ptrdiff_t far = FAR_AHEAD(count, step, n);                                                                \
        for (ptrdiff_t s = 0; s < count; s++) {                                                                         \
            ptrdiff_t i = s * step;                                                                                     \
            const ptrdiff_t end = i + n;                                                                                \
            for (; i + LANES <= end; i += LANES) {                                                                      \
                __builtin_prefetch(out + i + far, 1);                                                                   \
                NAME(store)(out + i, VALUE(WHOLE));                                                                     \
            }                                                                                                           \
            if (i < end) {                                                                                              \
                __builtin_prefetch(out + i + far, 1);                                                                   \
                NAME(store_part)(out + i, VALUE(PART_OF), end - i);                                                     \
            }                                                                                                           \
        }                                                                                                               \
    }
#define PART_OF(p) NAME(load_part)((p) + i, end - i)

/* y = (x - center) scale + shift, and `other` if it is not NULL; not below `floor`: 0 where a ReLU comes next, else
 * -infinity */
KERNEL NAME(stretch_affine)(T *restrict y, const T *restrict x, const T *restrict other, ptrdiff_t count, ptrdiff_t step,
                            ptrdiff_t n, T center, T scale, T shift, T floor)
{
    if (other) {
#define VALUE(LOAD) NAME(at_least)(((LOAD(x) - center) * scale + shift) + LOAD(other), floor)
        OVER_EACH(y, VALUE)
#undef VALUE
        return;
    }
#define VALUE(LOAD) NAME(at_least)((LOAD(x) - center) * scale + shift, floor)
    OVER_EACH(y, VALUE)
#undef VALUE
}

/* dx = scale dy + (b (x - center) + c); dx may be dy */
KERNEL NAME(stretch_gradient)(T *dx, const T *dy, const T *x, ptrdiff_t count, ptrdiff_t step, ptrdiff_t n, T center,
                              T scale, T shift, T floor, T b, T c)
{
#define VALUE(LOAD) (PASSED(LOAD(dy), LOAD(x) - center, scale, shift) * scale + ((LOAD(x) - center) * b + c))
    OVER_EACH(dx, VALUE)
#undef VALUE
}
#undef OVER_EACH
#undef PART_OF

/* FIRST(LOAD), then ROW(LOAD, r) for up to eight rows, then LAST(LOAD, STORE): for each vector of columns. */
#define STORE_WHOLE(p, v) NAME(store)((p) + i, v)
#define STORE_PART(p, v) NAME(store_part)((p) + i, v, n - i)
#define OVER_COLUMNS(FIRST, ROW, LAST)                                                                                \
    {                                                                                                                   \
        ptrdiff_t i = 0;                                                                                                \
        if (rows == 8) {                                                                                                \
            for (; i + LANES <= n; i += LANES) {                                                                        \
                FIRST(WHOLE)                                                                                            \
                CYCONV_UNROLL                                                                                           \
                for (ptrdiff_t r = 0; r < 8; r++) {                                                                     \
                    ROW(WHOLE, STORE_WHOLE)                                                                             \
                }                                                                                                       \
                LAST(STORE_WHOLE)                                                                                       \
            }                                                                                                           \
        }                                                                                                               \
        for (; i + LANES <= n; i += LANES) {                                                                            \
            FIRST(WHOLE)                                                                                                \
            for (ptrdiff_t r = 0; r < rows; r++) {                                                                      \
                ROW(WHOLE, STORE_WHOLE)                                                                                 \
            }                                                                                                           \
            LAST(STORE_WHOLE)                                                                                           \
        }                                                                                                               \
        if (i < n) {                                                                                                    \
            FIRST(PART)                                                                                                 \
            for (ptrdiff_t r = 0; r < rows; r++) {                                                                      \
                ROW(PART, STORE_PART)                                                                                   \
            }                                                                                                           \
            LAST(STORE_PART)                                                                                            \
        }                                                                                                               \
    }

/* sum += the rows */
CYCONV_INLINE void NAME(column_sums)(T *sum, const T *x, ptrdiff_t rows, ptrdiff_t width, ptrdiff_t n)
{
#define FIRST(LOAD) VEC a = LOAD(sum);
#define ROW(LOAD, STORE) a += LOAD(x + r * width);
#define LAST(STORE) STORE(sum, a);
    OVER_COLUMNS(FIRST, ROW, LAST)
#undef FIRST
#undef ROW
#undef LAST
}

CYCONV_INLINE void NAME(column_squares)(T *sum, T *square, const T *center, const T *x, ptrdiff_t rows, ptrdiff_t width,
                                        ptrdiff_t n)
{
#define FIRST(LOAD) VEC a = LOAD(sum), b = LOAD(square), c = LOAD(center);
#define ROW(LOAD, STORE)                                                                                                \
    VEC d = LOAD(x + r * width) - c;                                                                                    \
    a += d;                                                                                                             \
    b += d * d;
#define LAST(STORE)                                                                                                     \
    STORE(sum, a);                                                                                                      \
    STORE(square, b);
    OVER_COLUMNS(FIRST, ROW, LAST)
#undef FIRST
#undef ROW
#undef LAST
}

/* Mean and sum of squares of `rows` more rows of each column, of which `count` are in mean and square already. The first
 * n columns of a row of `width`; scratch: three rows of n. */
KERNEL NAME(column_moments)(double *mean, double *square, double count, const T *x, ptrdiff_t rows, ptrdiff_t width,
                            ptrdiff_t n, T *scratch)
{
    T *center = scratch, *sum = scratch + n, *squares = scratch + 2 * n;
    const T whole = (T)(1 / (double)rows);
    const double total = count + (double)rows, share = (double)rows / total, factor = count * share;
    const double each = 1 / (double)rows; /* divisions, two of each column, would take as long as the sums */
    memset(sum, 0, n * sizeof(T));
    memset(squares, 0, n * sizeof(T));
    for (ptrdiff_t r = 0; r < rows; r += 8)
        NAME(column_sums)(sum, x + r * width, rows - r < 8 ? rows - r : 8, width, n);
    for (ptrdiff_t j = 0; j < n; j++) {
        center[j] = sum[j] * whole;
        sum[j] = 0;
    }
    for (ptrdiff_t r = 0; r < rows; r += 8)
        NAME(column_squares)(sum, squares, center, x + r * width, rows - r < 8 ? rows - r : 8, width, n);
    for (ptrdiff_t j = 0; j < n; j++) {
        double missing = sum[j], difference = center[j] + missing * each;
        difference = count == 0 ? difference : difference - mean[j];
        mean[j] = count == 0 ? difference : mean[j] + difference * share;
        square[j] = (count == 0 ? 0 : square[j]) + (squares[j] - missing * missing * each) +
                    difference * difference * factor;
    }
}

/* The sums of dy and of dy (x - center) over each column are added to `sum` and `product`; scratch: two rows of n. */
KERNEL NAME(column_products)(double *sum, double *product, const T *dy, const T *x, const T *center, const T *scale,
                             const T *shift, T floor, ptrdiff_t all, ptrdiff_t width, ptrdiff_t n, T *scratch)
{
    T *sums = scratch, *products = scratch + n;
    memset(sums, 0, n * sizeof(T));
    memset(products, 0, n * sizeof(T));
    for (ptrdiff_t first = 0; first < all; first += 8) {
        const ptrdiff_t rows = all - first < 8 ? all - first : 8, at = first * width;
#define FIRST(LOAD) VEC a = LOAD(sums), b = LOAD(products), c = LOAD(center), e = LOAD(scale), f = LOAD(shift);
#define ROW(LOAD, STORE)                                                                                                \
    VEC d = LOAD(x + at + r * width) - c, g = PASSED(LOAD(dy + at + r * width), d, e, f);                               \
    a += g;                                                                                                             \
    b += g * d;
#define LAST(STORE)                                                                                                     \
    STORE(sums, a);                                                                                                     \
    STORE(products, b);
        OVER_COLUMNS(FIRST, ROW, LAST)
#undef FIRST
#undef ROW
#undef LAST
    }
    for (ptrdiff_t j = 0; j < n; j++) {
        sum[j] += sums[j];
        product[j] += products[j];
    }
}

/* Of rows that follow each other: four vectors are computed before they are stored. Between stores, loads of tables would
 * wait for stores whose addresses end alike (25 % of the time of large arrays). */
#define WHOLE_AT(p, i) NAME(load)((p) + (i))
#define PART_AT(p, i) NAME(load_part)((p) + (i), n - (i))
#define OVER_ROWS(out, VALUE, NEXT)                                                                                           \
    for (ptrdiff_t row = 0; row < rows; row++, x += n, out += n) {                                                      \
        ptrdiff_t i = 0;                                                                                                \
        for (; i + 4 * LANES <= n; i += 4 * LANES) {                                                                    \
            const VEC v0 = VALUE(WHOLE_AT, i), v1 = VALUE(WHOLE_AT, i + LANES),                                       \
                      v2 = VALUE(WHOLE_AT, i + 2 * LANES), v3 = VALUE(WHOLE_AT, i + 3 * LANES);                         \
            NAME(store)(out + i, v0);                                                                                   \
            NAME(store)(out + i + LANES, v1);                                                                           \
            NAME(store)(out + i + 2 * LANES, v2);                                                                       \
            NAME(store)(out + i + 3 * LANES, v3);                                                                       \
        }                                                                                                               \
        for (; i + LANES <= n; i += LANES)                                                                              \
            NAME(store)(out + i, VALUE(WHOLE_AT, i));                                                                             \
        if (i < n)                                                                                                      \
            NAME(store_part)(out + i, VALUE(PART_AT, i), n - i);                                                            \
        NEXT;                                                                                                           \
    }

/* y = (x - center) scale + shift, each of these a row of n, and `other` if it is not NULL; not below `floor` */
KERNEL NAME(column_affine)(T *restrict y, const T *restrict x, const T *restrict other, ptrdiff_t rows, ptrdiff_t n,
                           const T *restrict center, const T *restrict scale, const T *restrict shift, T floor)
{
    if (other) {
#define VALUE(LOAD, i)                                                                                                  \
    NAME(at_least)(((LOAD(x, i) - LOAD(center, i)) * LOAD(scale, i) + LOAD(shift, i)) + LOAD(other, i), floor)
        OVER_ROWS(y, VALUE, other += n)
#undef VALUE
        return;
    }
#define VALUE(LOAD, i) NAME(at_least)((LOAD(x, i) - LOAD(center, i)) * LOAD(scale, i) + LOAD(shift, i), floor)
    OVER_ROWS(y, VALUE, )
#undef VALUE
}

/* dx = scale dy + (b (x - center) + c); dx may be dy */
KERNEL NAME(column_gradient)(T *dx, const T *dy, const T *x, ptrdiff_t rows, ptrdiff_t n, const T *restrict center,
                             const T *restrict scale, const T *restrict shift, T floor, const T *restrict b,
                             const T *restrict c)
{
#define VALUE(LOAD, i)                                                                                                  \
    (PASSED(LOAD(dy, i), LOAD(x, i) - LOAD(center, i), LOAD(scale, i), LOAD(shift, i)) * LOAD(scale, i) +               \
     ((LOAD(x, i) - LOAD(center, i)) * LOAD(b, i) + LOAD(c, i)))
    OVER_ROWS(dx, VALUE, dy += n)
#undef VALUE
}

/* y = ((x - center) scale + shift) weight + bias; without a bias zeros are given for it, without a weight ones */
KERNEL NAME(element_affine)(T *restrict y, const T *restrict x, ptrdiff_t n, T center, T scale, T shift,
                            const T *restrict weight, const T *restrict bias)
{
#define VALUE(LOAD) (((LOAD(x) - center) * scale + shift) * LOAD(weight) + LOAD(bias))
    OVER_ELEMENTS(y, VALUE)
#undef VALUE
}

/* The sums of dy weight and of dy weight (x - center) are added to *sum and *product. */
KERNEL NAME(element_products)(const T *dy, const T *x, const T *weight, ptrdiff_t length, T center, double *sum,
                              double *product)
{
    const ptrdiff_t count = 1, step = 0;
    VEC a[4] = {{0}}, b[4] = {{0}};
#define STEP(k, at)                                                                                                     \
    {                                                                                                                   \
        VEC g = NAME(load)(dy + (at)) * NAME(load)(weight + (at));                                                        \
        a[k] += g;                                                                                                      \
        b[k] += g * (NAME(load)(x + (at)) - center);                                                                    \
    }
#undef PART
#define PART(at, n)                                                                                                     \
    {                                                                                                                   \
        VEC g = NAME(load_part)(dy + at, n) * NAME(load_part)(weight + at, n);                                          \
        a[1] += g;                                                                                                      \
        b[1] += NAME(first_lanes)(g * (NAME(load_part)(x + at, n) - center), n);                                        \
    }
    OVER_STRETCHES(STEP, PART)
#undef STEP
#undef PART
    *sum += NAME(sum_four)(a);
    *product += NAME(sum_four)(b);
}

#define PART(p) NAME(load_part)((p) + i, n - i)
/* dx = a dy weight + (b (x - center) + c) */
KERNEL NAME(element_gradient)(T *restrict dx, const T *restrict dy, const T *restrict x, const T *restrict weight,
                              ptrdiff_t n, T center, T a, T b, T c)
{
#define VALUE(LOAD) (LOAD(dy) * LOAD(weight) * a + ((LOAD(x) - center) * b + c))
    OVER_ELEMENTS(dx, VALUE)
#undef VALUE
}

/* dbias += dy and dweight += dy ((x - center) scale + shift), what forward multiplied the weight by, of up to four rows a
 * `step` apart, each with its own (center, scale, shift) in `of_row` */
KERNEL NAME(element_sums)(T *restrict dweight, T *restrict dbias, const T *restrict dy, const T *restrict x, ptrdiff_t rows,
                          ptrdiff_t step, ptrdiff_t n, const T *restrict of_row)
{
    ptrdiff_t i = 0;
#define ROWS(LOAD, STORE, count)                                                                                        \
    VEC w = LOAD(dweight), b = LOAD(dbias);                                                                             \
    for (ptrdiff_t r = 0; r < count; r++) {                                                                             \
        VEC g = LOAD(dy + r * step);                                                                                    \
        b += g;                                                                                                         \
        w += g * ((LOAD(x + r * step) - of_row[3 * r]) * of_row[3 * r + 1] + of_row[3 * r + 2]);                        \
    }                                                                                                                   \
    STORE(dweight, w);                                                                                                  \
    STORE(dbias, b);
    if (rows == 4)
        for (; i + LANES <= n; i += LANES) {
            ROWS(WHOLE, STORE_WHOLE, 4)
        }
    for (; i + LANES <= n; i += LANES) {
        ROWS(WHOLE, STORE_WHOLE, rows)
    }
    if (i < n) {
        ROWS(PART, STORE_PART, rows)
    }
#undef ROWS
}

#undef PASSED
#undef OVER_STRETCHES
#undef FAR_AHEAD
#undef OVER_ELEMENTS
#undef OVER_COLUMNS
#undef STORE_WHOLE
#undef STORE_PART
#undef OVER_ROWS
#undef WHOLE_AT
#undef PART_AT
#undef WHOLE
#undef PART
#undef KERNEL
#undef NAME
#undef LANES
#undef VEC
#undef IVEC
#endif
