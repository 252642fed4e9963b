/* The vector parts of the gradients of pooling: what each pixel takes from the windows that it belongs to.
 *
 * Gradients of averages, and channels-last those of maxima, are gathered: a pixel adds up what it takes from its
 * windows, and is written once. Other gradients of maxima are scattered, window by window. As in pool.h, a vector may be
 * written beyond the end of its row, where what follows is written afterwards, but not beyond `dx_end`.
 */
#ifndef T /* the first time: once for each element type */
#ifndef CYCONV_POOL_GRADIENT_H
#define CYCONV_POOL_GRADIENT_H
#include "pool_means.h"
#include "pool_pairs.h"
#include "pool_pixels.h"

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
