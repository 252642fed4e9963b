/* The gradient of averages, planes: the rows of windows that a row of pixels belongs to are added up first, scaled, as
 * narrow as they are; then its pixels take from that one row. Rows of the same windows are copies.
 *
 * Columns take by taps (see pool_take.h), or through a table of their windows, which may be of any kind.
 */
#ifndef T /* the first time: once for each element type */
#ifndef CYCONV_POOL_MEANS_H
#define CYCONV_POOL_MEANS_H
#include "pool_take.h"

/* One slice of pixels: the slices of windows that it belongs to, slice k at slice[k]; the windows of each row and of each
 * column (see Axis), at most `crowd` of a column; where laid rows have their windows, how far apart they are, how many. */
typedef struct {
    ptrdiff_t slices, row_step, column_step, windows, width, crowd, margin, pitch, laid;
    const ptrdiff_t *slice;
    const int32_t *row, *rows, *column, *columns;
} pool_means;

#define T float
#define BITS int32_t
#define SUFFIX f32
#include "pool_means.h"
#undef T
#undef BITS
#undef SUFFIX

#define T double
#define BITS int64_t
#define SUFFIX f64
#include "pool_means.h"
#undef T
#undef BITS
#undef SUFFIX

#endif
#else /* the template */

#define NAME(x) CYCONV_JOIN(x, SUFFIX)
#define LANES ((int)(CYCONV_VECTOR_BYTES / sizeof(T)))
#define VEC NAME(vec)
#define IVEC NAME(ivec)

/* to[q] (+)= by_column[q] * sum over k < n of by_row[k] g[row[k] + q] for `width` windows, in whole vectors. n is a
 * constant: what all of a row have in common stays in registers. */
CYCONV_INLINE void NAME(add_scaled)(const int n, const int first, T *to, const T *g, const ptrdiff_t *row, const T *by_row,
                                    const T *by_column, ptrdiff_t width)
{
    const T *from[4];
    T scale[4];
    CYCONV_UNROLL
    for (int k = 0; k < n; k++) {
        from[k] = g + row[k];
        scale[k] = by_row[k];
    }
    ptrdiff_t q = 0;
    for (; q + LANES <= width; q += LANES) {
        VEC sum = {0};
        CYCONV_UNROLL
        for (int k = 0; k < n; k++)
            sum += NAME(load)(from[k] + q) * scale[k];
        sum *= NAME(load)(by_column + q);
        NAME(store)(to + q, first ? sum : NAME(load)(to + q) + sum);
    }
    if (q < width) {
        VEC sum = {0};
        CYCONV_UNROLL
        for (int k = 0; k < n; k++)
            sum += NAME(load_part)(from[k] + q, width - q) * scale[k];
        sum *= NAME(load_part)(by_column + q, width - q);
        NAME(store)(to + q, first ? sum : NAME(load)(to + q) + sum);
    }
}

/* The gradients of all windows of row i of the pixels, scaled: by slices, rows and columns. */
CYCONV_INLINE void NAME(lay_sum)(T *to, const T *dy, const pool_means *s, const T *by_slice, const T *by_row,
                                 const T *by_column, ptrdiff_t i)
{
    const ptrdiff_t width = s->windows, rows = s->rows[i];
    ptrdiff_t row[4], n = 0, done = 0;
    T scale[4];
    if (rows * s->slices == 0)
        NAME(add_scaled)(0, 1, to, dy, row, scale, by_column, width);
    for (ptrdiff_t k = 0; k < s->slices; k++)
        for (ptrdiff_t m = 0, p = s->row[i]; m < rows; m++, p += s->row_step) {
            row[n] = s->slice[k] + p * width;
            scale[n++] = by_slice[k] * by_row[p];
            if (n < 4 && done + n < rows * s->slices)
                continue;
            if (done)
                for (int e = 0; e < n; e++)
                    NAME(add_scaled)(1, 0, to, dy, row + e, scale + e, by_column, width);
            else if (n == 1)
                NAME(add_scaled)(1, 1, to, dy, row, scale, by_column, width);
            else if (n == 2)
                NAME(add_scaled)(2, 1, to, dy, row, scale, by_column, width);
            else if (n == 3)
                NAME(add_scaled)(3, 1, to, dy, row, scale, by_column, width);
            else
                NAME(add_scaled)(4, 1, to, dy, row, scale, by_column, width);
            done += n;
            n = 0;
        }
}

/* A row of pixels through the table of the windows of its columns. */
CYCONV_INLINE void NAME(take_by_table)(T *to, const T *end, const T *g, const pool_means *s)
{
    const int32_t *column = s->column, *columns = s->columns;
    const ptrdiff_t n = s->width, step = s->column_step;
#if defined(__AVX512F__) && defined(__AVX512VL__)
    const int in_register = s->windows <= LANES;
    const VEC all = NAME(load)(g); /* behind the windows there are zeros */
    for (ptrdiff_t j = 0; j < n; j += LANES) {
        VEC sum = {0};
        if (sizeof(T) == 4) {
            __mmask16 here = (__mmask16)(n - j >= LANES ? 0xffff : (1u << (n - j)) - 1);
            __m512i at = _mm512_maskz_loadu_epi32(here, column + j), many = _mm512_maskz_loadu_epi32(here, columns + j);
            for (ptrdiff_t m = 0; m < s->crowd; m++) {
                __mmask16 mine = _mm512_cmpgt_epi32_mask(many, _mm512_set1_epi32((int)m));
                __m512 x = in_register ? _mm512_permutexvar_ps(at, (__m512)all)
                                       : _mm512_mask_i32gather_ps(_mm512_setzero_ps(), mine, at, g, 4);
                sum = (VEC)_mm512_mask_add_ps((__m512)sum, mine, (__m512)sum, x);
                at = _mm512_add_epi32(at, _mm512_set1_epi32((int)step));
            }
        } else {
            __mmask8 here = (__mmask8)(n - j >= LANES ? 0xff : (1u << (n - j)) - 1);
            __m256i at = _mm256_maskz_loadu_epi32(here, column + j), many = _mm256_maskz_loadu_epi32(here, columns + j);
            for (ptrdiff_t m = 0; m < s->crowd; m++) {
                __mmask8 mine = _mm256_cmpgt_epi32_mask(many, _mm256_set1_epi32((int)m));
                __m512d x = in_register ? _mm512_permutexvar_pd(_mm512_cvtepi32_epi64(at), (__m512d)all)
                                        : _mm512_mask_i32gather_pd(_mm512_setzero_pd(), mine, at, g, 8);
                sum = (VEC)_mm512_mask_add_pd((__m512d)sum, mine, (__m512d)sum, x);
                at = _mm256_add_epi32(at, _mm256_set1_epi32((int)step));
            }
        }
        NAME(put)(to + j, end, sum, n - j);
    }
#else
    (void)end;
    for (ptrdiff_t j = 0; j < n; j++) {
        const T *p = g + column[j];
        T sum = 0;
        for (int32_t m = 0; m < columns[j]; m++, p += step)
            sum += *p;
        to[j] = sum;
    }
#endif
}

/* All rows of one slice of pixels. `t`: its rows are still to come; or NULL: by tables. So many rows are laid before any
 * is taken from (see find_taps), between zeros that stand there already. */
static __attribute__((noinline, unused)) void NAME(mean_slice)(T *dx, const T *end, const T *dy, const pool_means *s,
                                                               const T *by_slice, const T *by_row, const T *by_column,
                                                               pool_taking *t, T *laid, T *line, ptrdiff_t rows)
{
#define AS_BEFORE(i) ((i) > 0 && s->row[i] == s->row[(i) - 1] && s->rows[i] == s->rows[(i) - 1])
    for (ptrdiff_t i = 0, next; i < rows; i = next) {
        T *to = laid;
        for (next = i; next < rows; next++)
            if (!AS_BEFORE(next)) {
                if (to == laid + s->laid * s->pitch)
                    break;
                NAME(lay_sum)(to + s->margin, dy, s, by_slice, by_row, by_column, next);
                to += s->pitch;
            }
        const T *g = laid + s->margin;
        for (ptrdiff_t k = i; k < next; k++) {
            T *row = dx + k * s->width;
            if (AS_BEFORE(k)) {
                NAME(copy_row)(row, row - s->width, s->width);
            } else {
                if (t)
                    NAME(take_row)(0, row, end, 0, g, t, line, s->width);
                else
                    NAME(take_by_table)(row, end, g, s);
                g += s->pitch;
            }
        }
    }
#undef AS_BEFORE
}

#undef NAME
#undef LANES
#undef VEC
#undef IVEC
#endif
