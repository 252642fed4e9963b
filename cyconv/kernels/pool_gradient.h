/* The vector parts of the gradients of pooling: what each pixel takes from the windows that it belongs to.
 *
 * Gradients of averages, and channels-last those of maxima whose windows overlap, are gathered: a pixel adds up
 * what it takes from its windows, and is written once. Other gradients of maxima are scattered, window by window. As in pool.h, a vector may be written beyond the
 * end of its row, where what follows is written afterwards, but not beyond `dx_end`.
 */
#ifndef T /* the first time: once for each element type */
#ifndef CYCONV_POOL_GRADIENT_H
#define CYCONV_POOL_GRADIENT_H
#include "pool_pixels.h"

/* The taps of one phase of an axis: pixels that are as far from a stride's begin. Tap t meets window i - shift[t] in
 * place i. */
typedef struct {
    const ptrdiff_t *shift;
    ptrdiff_t taps;
} pool_phase;

/* Channels-last: the windows of one pixel, `rows` x `columns`, of a gradient and of the places of its maxima. */
typedef struct {
    const ptrdiff_t *dy, *place; /* of each row: where it begins */
    ptrdiff_t rows, columns, dy_step, place_step;
} pool_windows;

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

/* Both halves of a and b alternating, to 2 LANES elements below `end`, `n` of which count. */
CYCONV_INLINE void NAME(store_pairs)(T *p, const T *end, VEC a, VEC b, ptrdiff_t n)
{
    NAME(store_below)(p, end, NAME(pairs)(a, b, 0), NAME(least)(n, LANES));
    if (n > LANES)
        NAME(store_below)(p + LANES, end, NAME(pairs)(a, b, 1), n - LANES);
}

/* The gradient of one row of 2 x 2 windows at stride 2, which meet each pixel once: each of the four takes all or nothing. */
CYCONV_INLINE void NAME(pair_row_backward)(T *dx, const T *dx_end, const T *dy, const T *dy_end, const T *x,
                                           const T *x_end, ptrdiff_t width, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i += LANES) {
        ptrdiff_t q = NAME(step_back)(i, n), left = 2 * NAME(least)(n - q, LANES);
        const T *top = x + 2 * q, *bottom = top + width;
        VEC v[4], best, g = NAME(load_below)(dy + q, dy_end, n - q, 0);
        if (bottom + 2 * LANES <= x_end) {
            v[0] = NAME(load)(top);
            v[1] = left <= LANES ? v[0] : NAME(load)(top + LANES);
            v[2] = NAME(load)(bottom);
            v[3] = left <= LANES ? v[2] : NAME(load)(bottom + LANES);
        } else {
            ptrdiff_t first = NAME(least)(left, LANES), rest = left - first;
            v[0] = NAME(load_part)(top, first);
            v[1] = NAME(load_part)(top + first, rest);
            v[2] = NAME(load_part)(bottom, first);
            v[3] = NAME(load_part)(bottom + first, rest);
        }
        VEC a = NAME(every_second)(v[0], v[1], 0), b = NAME(every_second)(v[0], v[1], 1);
        VEC c = NAME(every_second)(v[2], v[3], 0), d = NAME(every_second)(v[2], v[3], 1);
        IVEC second = NAME(better)(a, b);
        best = NAME(pick)(second, b, a);
        IVEC third = NAME(better)(best, c);
        best = NAME(pick)(third, c, best);
        IVEC fourth = NAME(better)(best, d);
        a = (VEC)((IVEC)g & ~(second | third | fourth));
        b = (VEC)((IVEC)g & second & ~(third | fourth));
        c = (VEC)((IVEC)g & third & ~fourth);
        d = (VEC)((IVEC)g & fourth);
        /* The upper row first: where there is but one vector, it may reach into the lower row. */
        NAME(store_pairs)(dx + 2 * q, dx_end, a, b, left);
        NAME(store_pairs)(dx + width + 2 * q, dx_end, c, d, left);
    }
    for (ptrdiff_t j = 2 * n; j < width; j++)
        dx[j] = dx[width + j] = 0;
}

/* `rows` rows of such windows, following each other in all three arrays. */
static __attribute__((noinline, unused)) void NAME(max_pairs_backward)(T *dx, const T *dx_end, const T *dy,
                                                                       const T *dy_end, const T *x, const T *x_end,
                                                                       ptrdiff_t width, ptrdiff_t rows, ptrdiff_t n)
{
    for (ptrdiff_t p = 0; p < rows; p++)
        NAME(pair_row_backward)(dx + 2 * p * width, dx_end, dy + p * n, dy_end, x + 2 * p * width, x_end, width, n);
}


/* The gradient of means of 2 x 2 windows at stride 2: each pixel takes its share of one. */
static __attribute__((noinline, unused)) void NAME(mean_pairs_backward)(T *dx, const T *dx_end, const T *dy,
                                                                        const T *dy_end, ptrdiff_t width,
                                                                        ptrdiff_t rows, ptrdiff_t n, T factor)
{
    for (ptrdiff_t p = 0; p < rows; p++, dx += 2 * width, dy += n) {
        for (ptrdiff_t i = 0; i < n; i += LANES) {
            ptrdiff_t q = NAME(step_back)(i, n), left = 2 * NAME(least)(n - q, LANES);
            VEC g = NAME(load_below)(dy + q, dy_end, n - q, 0) * factor;
            NAME(store_pairs)(dx + 2 * q, dx_end, g, g, left);
            NAME(store_pairs)(dx + width + 2 * q, dx_end, g, g, left);
        }
        for (ptrdiff_t j = 2 * n; j < width; j++)
            dx[j] = dx[width + j] = 0;
    }
}

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

/* n elements to p, whole vectors below `end`. */
CYCONV_INLINE void NAME(put)(T *p, const T *end, VEC v, ptrdiff_t n)
{
    if (p + LANES <= end)
        NAME(store)(p, v);
    else if (n > 0)
        NAME(store_part)(p, v, NAME(least)(n, LANES));
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
        for (ptrdiff_t j = 0; j < n; j += 2 * LANES) {
            VEC a = NAME(load)(line + j / 2), b = NAME(load)(line + line_length + j / 2);
            NAME(put)(to + j, end, NAME(pairs)(a, b, 0), n - j);
            if (n - j > LANES)
                NAME(put)(to + j + LANES, end, NAME(pairs)(a, b, 1), n - j - LANES);
        }
    } else {
        for (ptrdiff_t k = 0; k < stride && k < n; k++) {
            ptrdiff_t many = (n - k + stride - 1) / stride;
            NAME(take_phase)(line, line + many, g + start[k], f + k, many);
            for (ptrdiff_t i = 0; i < many; i++)
                to[k + i * stride] = line[i];
        }
    }
}

/* dx[q * stride + place[q]] += dy[q], unless place[q] is negative. */
static __attribute__((noinline, unused)) void NAME(scatter_row)(T *restrict dx, const T *restrict dy,
                                                                const BITS *restrict place, ptrdiff_t stride,
                                                                ptrdiff_t n)
{
    for (ptrdiff_t q = 0; q < n; q++, dx += stride)
        if (place[q] >= 0)
            dx[place[q]] += dy[q];
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

/* to[q] = factor[q] * sum over k < n of weight[k] dy[row[k] + q] */
static __attribute__((noinline, unused)) void NAME(scale_rows)(T *restrict to, const T *restrict dy,
                                                               const ptrdiff_t *row, const T *weight, ptrdiff_t n,
                                                               const T *restrict factor, ptrdiff_t width)
{
    const T *p = dy + row[0];
    for (ptrdiff_t q = 0; q < width; q++)
        to[q] = p[q] * (factor[q] * weight[0]);
    for (ptrdiff_t k = 1; k < n; k++) {
        p = dy + row[k];
        for (ptrdiff_t q = 0; q < width; q++)
            to[q] += p[q] * (factor[q] * weight[k]);
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

/* One pixel's n channels of the gradient of maxima: those of its windows whose maximum is in place `mine`. */
CYCONV_INLINE void NAME(chosen_block)(const int vectors, T *dx, int add, const T *dy, const BITS *place,
                                      const pool_windows *w, BITS mine)
{
    VEC sum[4];
    CYCONV_UNROLL
    for (int k = 0; k < vectors; k++)
        sum[k] = add ? NAME(load)(dx + k * LANES) : (VEC){0};
    for (ptrdiff_t r = 0; r < w->rows; r++) {
        const T *g = dy + w->dy[r];
        const BITS *c = place + w->place[r];
        for (ptrdiff_t s = 0; s < w->columns; s++, g += w->dy_step, c += w->place_step) {
            CYCONV_UNROLL
            for (int k = 0; k < vectors; k++) {
                IVEC here = *(const NAME(uivec) *)(c + k * LANES) == mine;
                sum[k] += (VEC)(here & (IVEC)NAME(load)(g + k * LANES));
            }
        }
    }
    CYCONV_UNROLL
    for (int k = 0; k < vectors; k++)
        NAME(store)(dx + k * LANES, sum[k]);
}
static __attribute__((noinline, unused)) void NAME(chosen_pixels)(T *dx, int add, const T *dy, const BITS *place,
                                                                  const pool_windows *w, ptrdiff_t mine, ptrdiff_t n)
{
    ptrdiff_t c = 0;
    for (; c + 4 * LANES <= n; c += 4 * LANES)
        NAME(chosen_block)(4, dx + c, add, dy + c, place + c, w, (BITS)mine);
    for (; c + LANES <= n; c += LANES)
        NAME(chosen_block)(1, dx + c, add, dy + c, place + c, w, (BITS)mine);
    if (c == n)
        return;
    VEC sum = {0};
    if (add)
        sum = NAME(load_part)(dx + c, n - c);
    for (ptrdiff_t r = 0; r < w->rows; r++)
        for (ptrdiff_t s = 0; s < w->columns; s++) {
            IVEC here = *(const NAME(uivec) *)(place + w->place[r] + s * w->place_step + c) == (BITS)mine;
            sum += (VEC)(here & (IVEC)NAME(load_part)(dy + w->dy[r] + s * w->dy_step + c, n - c));
        }
    NAME(store_part)(dx + c, sum, n - c);
}

/* The gradient of one window whose first pixel is x: find the tap of each channel, add its gradient there. */
CYCONV_INLINE void NAME(scatter_vector)(T *dx, const T *dy, const T *x, const pool_block *b, ptrdiff_t part)
{
    VEC g = part == LANES ? NAME(load)(dy) : NAME(load_part)(dy, part);
    NAME(choice) c = NAME(choose_from)((IVEC){0});
    BITS tap = 0;
    BLOCK_PIXELS(b, x, p)
    {
        NAME(choose)(&c, part == LANES ? NAME(load)(p) : NAME(load_part)(p, part), tap);
        tap++;
    }
    NAME(chosen)(&c);
    tap = 0;
    BLOCK_PIXELS(b, x, p)
    {
        T *to = dx + (p - x);
        VEC share = (VEC)((c.tap == tap) & (IVEC)g);
        if (part == LANES)
            NAME(store)(to, NAME(load)(to) + share);
        else
            NAME(store_part)(to, NAME(load_part)(to, part) + share, part);
        tap++;
    }
}
static __attribute__((noinline, unused)) void NAME(scatter_pixels)(T *dx, const T *dy, const T *x, const pool_block *b,
                                                                   ptrdiff_t n)
{
    ptrdiff_t c = 0;
    for (; c + LANES <= n; c += LANES)
        NAME(scatter_vector)(dx + c, dy + c, x + c, b, LANES);
    if (c < n)
        NAME(scatter_vector)(dx + c, dy + c, x + c, b, n - c);
}

#undef NAME
#undef LANES
#undef VEC
#undef IVEC
#endif
