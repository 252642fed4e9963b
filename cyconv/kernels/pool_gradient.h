/* The vector parts of the gradients of pooling: what each pixel takes from the windows that it belongs to.
 *
 * Gradients of averages, and channels-last those of maxima, are gathered: a pixel adds up what it takes from its
 * windows, and is written once. Other gradients of maxima are scattered, window by window. As in pool.h, a vector may be
 * written beyond the end of its row, where what follows is written afterwards, but not beyond `dx_end`.
 */
#ifndef T /* the first time: once for each element type */
#ifndef CYCONV_POOL_GRADIENT_H
#define CYCONV_POOL_GRADIENT_H
#include "pool_pairs.h"
#include "pool_pixels.h"
#include "pool_take.h"

/* The taps of one phase of an axis: pixels that are as far from a stride's begin. Tap t meets window i - shift[t] in
 * place i. */
typedef struct {
    const ptrdiff_t *shift;
    ptrdiff_t taps;
} pool_phase;

/* Channels-last: the windows of one pixel, how far apart they are, and by which taps it meets them. */
typedef struct {
    ptrdiff_t slices, rows, columns, slice_step, row_step, column_step, slice_code, row_code;
    const int32_t *slice_tap, *row_tap, *column_tap;
} pool_meeting;

#define T float
#define BITS int32_t
#define SUFFIX f32
#include "pool_gradient.h"
#undef T
#undef BITS
#undef SUFFIX

#define T double
#define BITS int64_t
#define SUFFIX f64
#include "pool_gradient.h"
#undef T
#undef BITS
#undef SUFFIX

#endif
#else /* the template */

#define NAME(x) CYCONV_JOIN(x, SUFFIX)
#define LANES ((int)(CYCONV_VECTOR_BYTES / sizeof(T)))
#define VEC NAME(vec)
#define IVEC NAME(ivec)

/* n planes of `area` elements, plane i filled with dy[i] * factor. */
static __attribute__((noinline, unused)) void NAME(fill_planes)(T *dx, const T *dx_end, const T *dy, ptrdiff_t area,
                                                                ptrdiff_t n, T factor)
{
    for (ptrdiff_t i = 0; i < n; i++, dx += area) {
        VEC v = (VEC){0} + dy[i] * factor;
        if (dx + area + LANES <= dx_end) {
            for (ptrdiff_t j = 0; j < area; j += LANES)
                NAME(store)(dx + j, v);
        } else {
            for (ptrdiff_t j = 0; j < area; j += LANES)
                NAME(store_part)(dx + j, v, NAME(least)(area - j, LANES));
        }
    }
}

/* to[i] = sum over taps t of g[start + i - shift[t]]: what the pixels of one phase take. Whole vectors go up to `end`. */
CYCONV_INLINE void NAME(take_phase_of)(T *to, const T *end, const T *g, const pool_phase *f, const ptrdiff_t taps,
                                       ptrdiff_t width)
{
    for (ptrdiff_t i = 0; i < width; i += LANES) {
        VEC sum = {0};
        for (ptrdiff_t t = 0; t < taps; t++)
            sum += NAME(load)(g + i - f->shift[t]);
        NAME(put)(to + i, end, sum, width - i);
    }
}
CYCONV_INLINE void NAME(take_phase)(T *to, const T *end, const T *g, const pool_phase *f, ptrdiff_t width)
{
    if (f->taps == 3)
        NAME(take_phase_of)(to, end, g, f, 3, width);
    else if (f->taps == 2)
        NAME(take_phase_of)(to, end, g, f, 2, width);
    else
        NAME(take_phase_of)(to, end, g, f, f->taps, width);
}

/* Two phases of a row of n pixels, in lines `length` apart, alternately. */
CYCONV_INLINE void NAME(join_phases)(T *to, const T *end, const T *line, ptrdiff_t length, ptrdiff_t n)
{
    for (ptrdiff_t j = 0; j < n; j += 2 * LANES) {
        VEC a = NAME(load)(line + j / 2), b = NAME(load)(line + length + j / 2);
        NAME(put)(to + j, end, NAME(pairs)(a, b, 0), n - j);
        if (n - j > LANES)
            NAME(put)(to + j + LANES, end, NAME(pairs)(a, b, 1), n - j - LANES);
    }
}

/* A row of n pixels of `stride` phases, phase k of them at places start[k], start[k] + 1, ... with the taps f[k]; `line`
 * has room for two phases, `line_length` apart. */
static __attribute__((noinline, unused)) void NAME(take_sums)(T *to, const T *end, const T *g, const ptrdiff_t *start,
                                                              ptrdiff_t stride, const pool_phase *f, T *line,
                                                              ptrdiff_t line_length, ptrdiff_t n)
{
    if (stride == 1) {
        NAME(take_phase)(to, end, g + start[0], f, n);
    } else if (stride == 2) {
        for (int k = 0; k < 2; k++)
            NAME(take_phase)(line + k * line_length, line + (k + 1) * line_length, g + start[k], f + k, (n + 1) / 2);
        NAME(join_phases)(to, end, line, line_length, n);
    } else {
        for (ptrdiff_t k = 0; k < stride && k < n; k++) {
            ptrdiff_t many = (n - k + stride - 1) / stride;
            NAME(take_phase)(line, line + many, g + start[k], f + k, many);
            for (ptrdiff_t i = 0; i < many; i++)
                to[k + i * stride] = line[i];
        }
    }
}

/* For n windows that begin at the pixels start[q], and `many` of `channels` channels of each: dx at the tap, which
 * stands place[code] pixels behind that, += dy, where there is a tap (NO_CODE: 255). */
static __attribute__((noinline, unused)) void NAME(scatter_row)(T *restrict dx, const T *restrict dy,
                                                                const uint8_t *restrict code,
                                                                const int32_t *restrict start,
                                                                const int32_t *restrict place, ptrdiff_t channels,
                                                                ptrdiff_t many, ptrdiff_t n)
{
    if (channels == 1) {
        for (ptrdiff_t q = 0; q < n; q++)
            if (code[q] != 255)
                dx[(ptrdiff_t)start[q] + place[code[q]]] += dy[q];
        return;
    }
    for (ptrdiff_t q = 0; q < n; q++, dy += channels, code += channels) {
        T *to = dx + start[q] * channels;
        for (ptrdiff_t c = 0; c < many; c++)
            if (code[c] != 255)
                to[place[code[c]] * channels + c] += dy[c];
    }
}

/* The same for planes of `area` pixels and n windows each, one after the other, which are cleared first: few at a time,
 * so that they are at hand. */
static __attribute__((noinline, unused)) void NAME(scatter_planes)(T *restrict dx, const T *restrict dy,
                                                                   const uint8_t *restrict code,
                                                                   const int32_t *restrict start,
                                                                   const int32_t *restrict place, ptrdiff_t area,
                                                                   ptrdiff_t n, ptrdiff_t planes)
{
    const ptrdiff_t some = area < 4096 ? 4096 / area : 1;
    for (ptrdiff_t first = 0; first < planes; first += some) {
        ptrdiff_t many = NAME(least)(some, planes - first);
        memset(dx, 0, many * area * sizeof(T));
        for (; many; many--, dx += area, dy += n, code += n)
            for (ptrdiff_t q = 0; q < n; q++)
                if (code[q] != 255)
                    dx[(ptrdiff_t)start[q] + place[code[q]]] += dy[q];
    }
}

/* to[i] = sum over rows of g[row[k] + i] */
CYCONV_INLINE void NAME(add_rows_of)(T *to, const T *end, const T *g, const ptrdiff_t *row, const ptrdiff_t rows,
                                     ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i += LANES) {
        VEC sum = {0};
        for (ptrdiff_t k = 0; k < rows; k++)
            sum += NAME(load)(g + row[k] + i);
        NAME(put)(to + i, end, sum, n - i);
    }
}

static __attribute__((noinline, unused)) void NAME(add_rows)(T *to, const T *end, const T *g, const ptrdiff_t *row,
                                                             ptrdiff_t rows, ptrdiff_t n)
{
    if (rows == 3)
        NAME(add_rows_of)(to, end, g, row, 3, n);
    else if (rows == 2)
        NAME(add_rows_of)(to, end, g, row, 2, n);
    else
        NAME(add_rows_of)(to, end, g, row, rows, n);
}

/* to[q] = factor[q] * sum over k < n of weight[k] dy[row[k] + q], between margins as lay_row's. */
static __attribute__((noinline, unused)) void NAME(scale_rows)(T *restrict to, const T *restrict dy,
                                                               const ptrdiff_t *row, const T *weight, ptrdiff_t n,
                                                               const T *restrict factor, ptrdiff_t width,
                                                               ptrdiff_t margin, ptrdiff_t length)
{
    NAME(lay_margins)(to, width, margin, length);
    for (ptrdiff_t q = 0; q < width; q += LANES) {
        ptrdiff_t left = NAME(least)(width - q, LANES);
        VEC scale = NAME(load_part)(factor + q, left), sum = {0};
        for (ptrdiff_t k = 0; k < n; k++)
            sum += NAME(load_part)(dy + row[k] + q, left) * (scale * weight[k]);
        NAME(store)(to + margin + q, sum);
    }
}

/* ------------------------------------------------------------------------------------------------ channels-last */

/* One pixel's n channels: the gradients of its windows, times the product of the factors of their slice, row and column;
 * those of neighbouring windows are step[0], step[1] and step[2] apart. */
CYCONV_INLINE void NAME(mean_pixels_block)(const int vectors, T *dx, const T *dy, const pool_block *b, const T *slice,
                                           const T *row, const T *column, const ptrdiff_t *step)
{
    VEC sum[CYCONV_PIXEL_VECTORS];
    CYCONV_UNROLL
    for (int k = 0; k < vectors; k++)
        sum[k] = (VEC){0};
    for (ptrdiff_t t = 0; t < b->slices; t++)
        for (ptrdiff_t r = 0; r < b->rows; r++) {
            const T *p = dy + t * b->slice_step + r * b->row_step;
            T factor = slice[t * step[0]] * row[r * step[1]];
            for (ptrdiff_t s = 0; s < b->columns; s++, p += b->column_step) {
                T each = factor * column[s * step[2]];
                CYCONV_UNROLL
                for (int k = 0; k < vectors; k++)
                    sum[k] += NAME(load)(p + k * LANES) * each;
            }
        }
    CYCONV_UNROLL
    for (int k = 0; k < vectors; k++)
        NAME(store)(dx + k * LANES, sum[k]);
}
static __attribute__((noinline, unused)) void NAME(mean_pixels)(T *dx, const T *dy, const pool_block *b,
                                                                const T *slice, const T *row, const T *column,
                                                                const ptrdiff_t *step, ptrdiff_t n)
{
    ptrdiff_t c = 0;
    for (; c + CYCONV_PIXEL_VECTORS * LANES <= n; c += CYCONV_PIXEL_VECTORS * LANES)
        NAME(mean_pixels_block)(CYCONV_PIXEL_VECTORS, dx + c, dy + c, b, slice, row, column, step);
    for (; c + 2 * LANES <= n; c += 2 * LANES)
        NAME(mean_pixels_block)(2, dx + c, dy + c, b, slice, row, column, step);
    for (; c + LANES <= n; c += LANES)
        NAME(mean_pixels_block)(1, dx + c, dy + c, b, slice, row, column, step);
    if (c == n)
        return;
    VEC sum = {0};
    for (ptrdiff_t t = 0; t < b->slices; t++)
        for (ptrdiff_t r = 0; r < b->rows; r++) {
            const T *p = dy + t * b->slice_step + r * b->row_step + c;
            T factor = slice[t * step[0]] * row[r * step[1]];
            for (ptrdiff_t s = 0; s < b->columns; s++, p += b->column_step)
                sum += NAME(load_part)(p, n - c) * (factor * column[s * step[2]]);
        }
    NAME(store_part)(dx + c, sum, n - c);
}

/* One pixel's channels of the gradient of maxima: those of its windows whose tap it is. `vectors` whole vectors, or one
 * of n elements. */
CYCONV_INLINE void NAME(chosen_block)(const int vectors, T *dx, const T *dy, const uint8_t *code, const pool_meeting *m,
                                      ptrdiff_t n)
{
    VEC sum[4];
    CYCONV_UNROLL
    for (int k = 0; k < vectors; k++)
        sum[k] = (VEC){0};
    for (ptrdiff_t t = 0; t < m->slices; t++)
        for (ptrdiff_t r = 0; r < m->rows; r++) {
            ptrdiff_t at = t * m->slice_step + r * m->row_step;
            BITS first = (BITS)(m->slice_tap[t] * m->slice_code + m->row_tap[r] * m->row_code);
            for (ptrdiff_t s = 0; s < m->columns; s++, at += m->column_step) {
                BITS mine = first + m->column_tap[s];
                CYCONV_UNROLL
                for (int k = 0; k < vectors; k++) {
                    const T *p = dy + at + k * LANES;
                    sum[k] = NAME(add_chosen)(sum[k], n < LANES ? NAME(load_part)(p, n) : NAME(load)(p),
                                              code + at + k * LANES, n, mine);
                }
            }
        }
    CYCONV_UNROLL
    for (int k = 0; k < vectors; k++)
        if (n < LANES)
            NAME(store_part)(dx, sum[k], n);
        else
            NAME(store)(dx + k * LANES, sum[k]);
}
static __attribute__((noinline, unused)) void NAME(chosen_pixels)(T *dx, const T *dy, const uint8_t *code,
                                                                  const pool_meeting *m, ptrdiff_t n)
{
    ptrdiff_t c = 0;
    for (; c + 4 * LANES <= n; c += 4 * LANES)
        NAME(chosen_block)(4, dx + c, dy + c, code + c, m, LANES);
    for (; c + 2 * LANES <= n; c += 2 * LANES)
        NAME(chosen_block)(2, dx + c, dy + c, code + c, m, LANES);
    for (; c + LANES <= n; c += LANES)
        NAME(chosen_block)(1, dx + c, dy + c, code + c, m, LANES);
    if (c < n)
        NAME(chosen_block)(1, dx + c, dy + c, code + c, m, n - c);
}

#undef NAME
#undef LANES
#undef VEC
#undef IVEC
#endif
