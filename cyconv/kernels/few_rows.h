/* Products of matrices of which one side is short: a matrix that is read once is not worth packing. */
#ifndef T /* the first time: once for each element type */
#ifndef CYCONV_FEW_ROWS_H
#define CYCONV_FEW_ROWS_H
#include "simd.h"

#define T float
#define SUFFIX f32
#include "few_rows.h"
#undef T
#undef SUFFIX

#define T double
#define SUFFIX f64
#include "few_rows.h"
#undef T
#undef SUFFIX

#endif
#else /* the template */

#define NAME(x) CYCONV_JOIN(x, SUFFIX)
#define LANES ((int)(CYCONV_VECTOR_BYTES / sizeof(T)))
#define VEC NAME(vec)

/* Rows of w that are read side by side. More of them, a power of two apart, would share a set of the cache. */
#define ROWS 4
/* Bytes: processors foresee where a row goes on only up to the end of a page. */
#define AHEAD 2048

/* out[i] = bias[i] + sum over t < n of x[t] w[i * n + t] for i < rows <= LANES: inner products with rows of a matrix,
 * vectors along the reduction. */
static __attribute__((noinline, unused)) void NAME(inner_products)(const T *x, const T *w, ptrdiff_t n, ptrdiff_t rows,
                                                                   const T *bias, T *out)
{
    VEC all[LANES] = {{0}};
    for (ptrdiff_t first = 0; first < rows; first += ROWS) {
        VEC even[ROWS], odd[ROWS], v, u;
        const T *row[ROWS];
        ptrdiff_t t = 0;
        CYCONV_UNROLL
        for (int i = 0; i < ROWS; i++) {
            even[i] = odd[i] = (VEC){0};
            row[i] = w + (first + i < rows ? first + i : rows - 1) * n;
        }
        for (; t + 2 * LANES <= n; t += 2 * LANES) {
            v = NAME(load)(x + t);
            u = NAME(load)(x + t + LANES);
            CYCONV_UNROLL
            for (int i = 0; i < ROWS; i++) {
                even[i] += v * NAME(load)(row[i] + t);
                odd[i] += u * NAME(load)(row[i] + t + LANES);
                for (int far = 0; far < 2 * CYCONV_VECTOR_BYTES; far += 64)
                    __builtin_prefetch((const char *)(row[i] + t) + AHEAD + far);
            }
        }
        for (; t < n; t += LANES) {
            v = NAME(load_part)(x + t, n - t < LANES ? n - t : LANES);
            CYCONV_UNROLL
            for (int i = 0; i < ROWS; i++)
                even[i] += v * NAME(load_part)(row[i] + t, n - t < LANES ? n - t : LANES);
        }
        CYCONV_UNROLL
        for (int i = 0; i < ROWS; i++)
            if (first + i < LANES)
                all[first + i] = even[i] + odd[i];
    }
    NAME(transpose_registers)(all);
    CYCONV_UNROLL
    for (int half = LANES / 2; half > 0; half /= 2) {
        CYCONV_UNROLL
        for (int i = 0; i < half; i++)
            all[i] += all[i + half];
    }
    if (bias)
        all[0] += NAME(load_part)(bias, rows);
    NAME(store_part)(out, all[0], rows);
}
#undef ROWS
#undef AHEAD

/* out[j] (+)= sum over k < terms of a[k * step] b[k * ldb + j] for j < n. `ahead`: elements to the rows of b that come
 * next, or 0. */
CYCONV_INLINE void NAME(add_terms_of)(const int terms, const int first, T *out, const T *a, ptrdiff_t step, const T *b,
                                      ptrdiff_t ldb, ptrdiff_t n, ptrdiff_t ahead)
{
    ptrdiff_t j = 0;
    T factor[4];
    CYCONV_UNROLL
    for (int k = 0; k < terms; k++)
        factor[k] = a[k * step];
    for (; j + LANES <= n; j += LANES) {
        VEC sum = first ? NAME(load)(b + j) * factor[0] : NAME(load)(out + j) + NAME(load)(b + j) * factor[0];
        CYCONV_UNROLL
        for (int k = 1; k < terms; k++)
            sum += NAME(load)(b + k * ldb + j) * factor[k];
        if (ahead) {
            CYCONV_UNROLL
            for (int k = 0; k < terms; k++)
                __builtin_prefetch(b + k * ldb + j + ahead);
        }
        NAME(store)(out + j, sum);
    }
    if (j < n) {
        VEC sum = NAME(load_part)(b + j, n - j) * factor[0];
        if (!first)
            sum += NAME(load_part)(out + j, n - j);
        CYCONV_UNROLL
        for (int k = 1; k < terms; k++)
            sum += NAME(load_part)(b + k * ldb + j, n - j) * factor[k];
        NAME(store_part)(out + j, sum, n - j);
    }
}

/* out[i * ldo + j] = sum over t < length of a[i * row_step + t * table_step] b[t * ldb + j], for i < rows, j < n: either
 * rows or length are few, and n elements of a few rows stay in the first-level cache. */
static __attribute__((noinline, unused)) void NAME(few_products)(T *out, ptrdiff_t ldo, const T *a, ptrdiff_t row_step,
                                                                 ptrdiff_t table_step, const T *b, ptrdiff_t ldb,
                                                                 ptrdiff_t rows, ptrdiff_t length, ptrdiff_t n)
{
    for (ptrdiff_t t = 0; t < length;) {
        ptrdiff_t left = length - t, step = left >= 4 ? 4 : left >= 2 ? 2 : 1;
        const T *terms = b + t * ldb;
        for (ptrdiff_t i = 0; i < rows; i++) {
            const T *factors = a + i * row_step + t * table_step;
            T *to = out + i * ldo;
#define ADD(many, first, ahead) NAME(add_terms_of)(many, first, to, factors, table_step, terms, ldb, n, ahead)
            if (step == 4 && t == 0)
                ADD(4, 1, left >= 8 && i == 0 ? 4 * ldb : 0);
            else if (step == 4)
                ADD(4, 0, left >= 8 && i == 0 ? 4 * ldb : 0);
            else if (step == 2 && t == 0)
                ADD(2, 1, 0);
            else if (step == 2)
                ADD(2, 0, 0);
            else if (t == 0)
                ADD(1, 1, 0);
            else
                ADD(1, 0, 0);
#undef ADD
        }
        t += step;
    }
}

#undef NAME
#undef LANES
#undef VEC
#endif
