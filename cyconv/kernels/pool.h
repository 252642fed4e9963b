/* The vector parts of pooling: rows of windows in planes (NCHW), pixels of channels (channels-last).
 *
 * `op` is MAXIMUM or SUM and a constant wherever these are inlined. Reads stay below `x_end`, writes below `out_end`:
 * a vector that would cross is done in part. Before these, a vector may read and write beyond the end of its row:
 * whoever calls goes through memory upwards, and what was overwritten is written afterwards.
 */
#ifndef T /* the first time: once for each element type */
#ifndef CYCONV_POOL_H
#define CYCONV_POOL_H
#include "vecmath.h"

enum { CYCONV_MAXIMUM, CYCONV_SUM };

/* Vectors of channels that one pass over a window's pixels takes: half of the registers, a value and its NaNs each. */
#define CYCONV_PIXEL_VECTORS (CYCONV_TILE_PIXELS == 14 ? 8 : 4)

#define T float
#define BITS int32_t
#define SUFFIX f32
#include "pool.h"
#undef T
#undef BITS
#undef SUFFIX

#define T double
#define BITS int64_t
#define SUFFIX f64
#include "pool.h"
#undef T
#undef BITS
#undef SUFFIX

#endif
#else /* the template */

#define NAME(x) CYCONV_JOIN(x, SUFFIX)
#define LANES ((int)(CYCONV_VECTOR_BYTES / sizeof(T)))
#define VEC NAME(vec)
#define IVEC NAME(ivec)
#define NEUTRAL(op) ((op) == CYCONV_MAXIMUM ? (T)-__builtin_inf() : (T)0)

typedef BITS NAME(uivec) __attribute__((vector_size(CYCONV_VECTOR_BYTES), aligned(sizeof(T)), may_alias));

/* A maximum or sum on its way. NaN is noted beside the maximum: the processors' maximum may lose it. */
typedef struct {
    VEC value;
    IVEC nan;
} NAME(state);

CYCONV_INLINE NAME(state) NAME(begin)(const int op)
{
    NAME(state) s = {(VEC){0} + NEUTRAL(op), (IVEC){0}};
    return s;
}
CYCONV_INLINE void NAME(join)(const int op, NAME(state) * s, VEC v)
{
    if (op == CYCONV_SUM) {
        s->value += v;
    } else {
        s->value = NAME(maximum)(s->value, v);
        s->nan |= v != v;
    }
}
CYCONV_INLINE VEC NAME(end)(const int op, NAME(state) s)
{
    return op == CYCONV_SUM ? s.value : NAME(pick)(s.nan, (VEC){0} + (T)__builtin_nan(""), s.value);
}

CYCONV_INLINE VEC NAME(load_below)(const T *p, const T *end, ptrdiff_t n, T fill)
{
    return p + LANES <= end ? NAME(load)(p) : NAME(load_filled)(p, n, fill);
}
CYCONV_INLINE void NAME(store_below)(T *p, const T *end, VEC v, ptrdiff_t n)
{
    if (p + LANES <= end)
        NAME(store)(p, v);
    else
        NAME(store_part)(p, v, n < end - p ? n : end - p);
}
CYCONV_INLINE ptrdiff_t NAME(least)(ptrdiff_t a, ptrdiff_t b) { return a < b ? a : b; }

/* to[j] = op over `rows` rows, `pitch` apart, for j < n; behind it one vector of the neutral element. */
CYCONV_INLINE void NAME(join_rows)(const int op, T *to, const T *x, const T *x_end, ptrdiff_t pitch, ptrdiff_t rows,
                                   ptrdiff_t n)
{
    for (ptrdiff_t j = 0; j < n; j += LANES) {
        NAME(state) v = NAME(begin)(op);
        ptrdiff_t left = NAME(least)(n - j, LANES);
        if (x + (rows - 1) * pitch + j + LANES <= x_end) {
            for (ptrdiff_t r = 0; r < rows; r++)
                NAME(join)(op, &v, NAME(load)(x + r * pitch + j));
        } else {
            for (ptrdiff_t r = 0; r < rows; r++)
                NAME(join)(op, &v, NAME(load_filled)(x + r * pitch + j, left, NEUTRAL(op)));
        }
        NAME(store)(to + j, NAME(end)(op, v));
    }
    NAME(store)(to + n, (VEC){0} + NEUTRAL(op));
}

/* out[q] = op over s < taps of row[q * stride + s * dilation], for q < n; sums times scale[q] * factor. */
CYCONV_INLINE void NAME(join_columns_in)(const int op, const int stride, T *out, const T *out_end, const T *row,
                                         ptrdiff_t n, ptrdiff_t taps, ptrdiff_t dilation, const T *scale, T factor)
{
    for (ptrdiff_t i = 0; i < n; i += LANES) {
        ptrdiff_t q = NAME(step_back)(i, n);
        NAME(state) v = NAME(begin)(op);
        const T *p = row + q * stride;
        for (ptrdiff_t s = 0; s < taps; s++, p += dilation)
            NAME(join)(op, &v, stride == 1 ? NAME(load)(p)
                                           : NAME(every_second)(NAME(load)(p), NAME(load)(p + LANES), 0));
        VEC result = NAME(end)(op, v);
        if (op == CYCONV_SUM)
            result *= NAME(load)(scale + q) * factor;
        NAME(store_below)(out + q, out_end, result, n - q);
    }
}
CYCONV_INLINE void NAME(join_columns)(const int op, T *out, const T *out_end, const T *row, ptrdiff_t n, ptrdiff_t taps,
                                      ptrdiff_t stride, ptrdiff_t dilation, const T *scale, T factor)
{
    if (stride == 1) {
        NAME(join_columns_in)(op, 1, out, out_end, row, n, taps, dilation, scale, factor);
        return;
    }
    if (stride == 2) {
        NAME(join_columns_in)(op, 2, out, out_end, row, n, taps, dilation, scale, factor);
        return;
    }
    for (ptrdiff_t q = 0; q < n; q++) {
        const T *p = row + q * stride;
        T v = NEUTRAL(op);
        for (ptrdiff_t s = 0; s < taps; s++, p += dilation)
            if (op == CYCONV_SUM)
                v += *p;
            else
                v = (*p > v) | (*p != *p) ? *p : v;
        out[q] = op == CYCONV_SUM ? v * (scale[q] * factor) : v;
    }
}

static __attribute__((noinline, unused)) void NAME(max_rows)(T *to, const T *x, const T *x_end, ptrdiff_t pitch,
                                                             ptrdiff_t rows, ptrdiff_t n)
{
    NAME(join_rows)(CYCONV_MAXIMUM, to, x, x_end, pitch, rows, n);
}
static __attribute__((noinline, unused)) void NAME(sum_rows)(T *to, const T *x, const T *x_end, ptrdiff_t pitch,
                                                             ptrdiff_t rows, ptrdiff_t n)
{
    NAME(join_rows)(CYCONV_SUM, to, x, x_end, pitch, rows, n);
}
static __attribute__((noinline, unused)) void NAME(max_columns)(T *out, const T *out_end, const T *row, ptrdiff_t n,
                                                                ptrdiff_t taps, ptrdiff_t stride, ptrdiff_t dilation)
{
    NAME(join_columns)(CYCONV_MAXIMUM, out, out_end, row, n, taps, stride, dilation, 0, 1);
}
static __attribute__((noinline, unused)) void NAME(sum_columns)(T *out, const T *out_end, const T *row, ptrdiff_t n,
                                                                ptrdiff_t taps, ptrdiff_t stride, ptrdiff_t dilation,
                                                                const T *scale, T factor)
{
    NAME(join_columns)(CYCONV_SUM, out, out_end, row, n, taps, stride, dilation, scale, factor);
}

/* One row of 2 x 2 windows at stride 2: joined down the columns first, then the even with the odd columns. */
CYCONV_INLINE void NAME(join_pairs)(const int op, T *out, const T *out_end, const T *x, const T *x_end, ptrdiff_t pitch,
                                    ptrdiff_t n, T factor)
{
    for (ptrdiff_t i = 0; i < n; i += LANES) {
        ptrdiff_t q = NAME(step_back)(i, n);
        const T *a = x + 2 * q, *b = a + pitch;
        ptrdiff_t left = 2 * NAME(least)(n - q, LANES);
        VEC v[4];
        if (b + 2 * LANES <= x_end) {
            v[0] = NAME(load)(a);
            v[1] = NAME(load)(b);
            /* A row of one vector: whatever the upper half is, nobody reads it. */
            v[2] = left <= LANES ? v[0] : NAME(load)(a + LANES);
            v[3] = left <= LANES ? v[1] : NAME(load)(b + LANES);
        } else {
            ptrdiff_t first = NAME(least)(left, LANES), rest = left - first;
            v[0] = NAME(load_part)(a, first);
            v[1] = NAME(load_part)(b, first);
            v[2] = NAME(load_part)(a + first, rest);
            v[3] = NAME(load_part)(b + first, rest);
        }
        VEC low, high;
        if (op == CYCONV_SUM) {
            low = v[0] + v[1];
            high = v[2] + v[3];
            low = (NAME(every_second)(low, high, 0) + NAME(every_second)(low, high, 1)) * factor;
        } else {
            low = NAME(maximum_or_nan)(v[0], v[1]);
            high = NAME(maximum_or_nan)(v[2], v[3]);
            low = NAME(maximum_or_nan)(NAME(every_second)(low, high, 0), NAME(every_second)(low, high, 1));
        }
        NAME(store_below)(out + q, out_end, low, n - q);
    }
}

/* `rows` rows of such windows, out rows n apart, source rows 2 pitch apart. */
static __attribute__((noinline, unused)) void NAME(max_pairs)(T *out, const T *out_end, const T *x, const T *x_end,
                                                              ptrdiff_t pitch, ptrdiff_t rows, ptrdiff_t n)
{
    for (ptrdiff_t p = 0; p < rows; p++)
        NAME(join_pairs)(CYCONV_MAXIMUM, out + p * n, out_end, x + 2 * p * pitch, x_end, pitch, n, 1);
}
static __attribute__((noinline, unused)) void NAME(sum_pairs)(T *out, const T *out_end, const T *x, const T *x_end,
                                                              ptrdiff_t pitch, ptrdiff_t rows, ptrdiff_t n, T factor)
{
    for (ptrdiff_t p = 0; p < rows; p++)
        NAME(join_pairs)(CYCONV_SUM, out + p * n, out_end, x + 2 * p * pitch, x_end, pitch, n, factor);
}

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

/* One row of a plane into `stride` rows of every stride-th element, so that each tap of neighbouring windows is a
 * stretch of memory: element j + pad goes to phase (j + pad) % stride, `length` apart, place (j + pad) / stride. */
static __attribute__((noinline, unused)) void NAME(split_row)(T *to, ptrdiff_t length, const T *x, ptrdiff_t width,
                                                              ptrdiff_t pad, ptrdiff_t stride)
{
    if (stride == 1) {
        memcpy(to + pad, x, width * sizeof(T));
        return;
    }
    if (stride == 2) {
        T *first = to + (pad & 1) * length + pad / 2, *second = to + (~pad & 1) * length + (pad + 1) / 2;
        NAME(split_pairs)(first, second, x, width);
        return;
    }
    ptrdiff_t phase = pad % stride, place = pad / stride;
    for (ptrdiff_t j = 0; j < width; j++) {
        to[phase * length + place] = x[j];
        if (++phase == stride) {
            phase = 0;
            place++;
        }
    }
}

/* A maximum on its way and the tap where it stands; of NaNs the last one beside it, so that each step waits for no more
 * than one maximum of the step before it. */
typedef struct {
    VEC top;
    IVEC tap, nan;
} NAME(choice);

CYCONV_INLINE NAME(choice) NAME(choose_from)(IVEC tap)
{
    NAME(choice) c = {(VEC){0} + NEUTRAL(CYCONV_MAXIMUM), tap, (IVEC){0} - 1};
    return c;
}
CYCONV_INLINE void NAME(choose)(NAME(choice) * c, VEC v, BITS tap)
{
    IVEC larger = v > c->top, nan = v != v;
    c->tap = (larger & tap) | (~larger & c->tap);
    c->nan = (nan & tap) | (~nan & c->nan);
    c->top = NAME(maximum)(c->top, v);
}
CYCONV_INLINE void NAME(chosen)(NAME(choice) * c)
{
    IVEC nan = c->nan >= 0;
    c->tap = (nan & c->nan) | (~nan & c->tap);
    c->top = NAME(pick)(nan, (VEC){0} + (T)__builtin_nan(""), c->top);
}

/* Maximum and its tap for a row of windows over split rows: row r of the taps at rows[r], tap s of a row at taps[s].
 * A tap is given by its number t in names[t]; names[first] is the one that wins where nothing is larger than -inf, first
 * being the row's first tap and first_column[q] what is to be added for window q, or -1 if it meets no pixel.
 * best, name and first_column have room for whole vectors. */
CYCONV_INLINE void NAME(best_taps_of)(T *best, BITS *name, const T *base, const BITS *first_column, const BITS *names,
                                      const ptrdiff_t *rows, ptrdiff_t row_first, ptrdiff_t row_last,
                                      const ptrdiff_t *taps, const ptrdiff_t tap_count, ptrdiff_t n)
{
    for (ptrdiff_t q = 0; q < n; q += LANES) {
        IVEC which = *(const NAME(uivec) *)(first_column + q);
        which = row_first < row_last ? which + ((which >= 0) & names[row_first * tap_count]) : which | -1;
        NAME(choice) c = NAME(choose_from)(which);
        for (ptrdiff_t r = row_first; r < row_last; r++) {
            const T *row = base + rows[r] + q;
            for (ptrdiff_t s = 0; s < tap_count; s++)
                NAME(choose)(&c, NAME(load)(row + taps[s]), names[r * tap_count + s]);
        }
        NAME(chosen)(&c);
        NAME(store)(best + q, c.top);
        *(NAME(uivec) *)(name + q) = c.tap;
    }
}
static __attribute__((noinline, unused)) void NAME(best_taps)(T *best, BITS *name, const T *base,
                                                              const BITS *first_column, const BITS *names,
                                                              const ptrdiff_t *rows, ptrdiff_t row_first,
                                                              ptrdiff_t row_last, const ptrdiff_t *taps,
                                                              ptrdiff_t tap_count, ptrdiff_t n)
{
    if (tap_count == 3)
        NAME(best_taps_of)(best, name, base, first_column, names, rows, row_first, row_last, taps, 3, n);
    else if (tap_count == 2)
        NAME(best_taps_of)(best, name, base, first_column, names, rows, row_first, row_last, taps, 2, n);
    else
        NAME(best_taps_of)(best, name, base, first_column, names, rows, row_first, row_last, taps, tap_count, n);
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

/* `vectors` vectors of channels of one output pixel; a constant after inlining. */
CYCONV_INLINE void NAME(join_pixels_block)(const int op, const int vectors, T *out, const T *x, ptrdiff_t rows,
                                           ptrdiff_t row_step, ptrdiff_t columns, ptrdiff_t column_step, T factor)
{
    NAME(state) v[CYCONV_PIXEL_VECTORS];
    CYCONV_UNROLL
    for (int k = 0; k < vectors; k++)
        v[k] = NAME(begin)(op);
    for (ptrdiff_t r = 0; r < rows; r++)
        for (ptrdiff_t s = 0; s < columns; s++) {
            const T *p = x + r * row_step + s * column_step;
            CYCONV_UNROLL
            for (int k = 0; k < vectors; k++)
                NAME(join)(op, &v[k], NAME(load)(p + k * LANES));
        }
    CYCONV_UNROLL
    for (int k = 0; k < vectors; k++)
        NAME(store)(out + k * LANES, NAME(end)(op, v[k]) * (op == CYCONV_SUM ? factor : 1));
}

/* Channels-last: all channels of one output pixel from rows x columns input pixels. */
CYCONV_INLINE void NAME(join_pixels)(const int op, T *out, const T *out_end, const T *x, const T *x_end, ptrdiff_t rows,
                                     ptrdiff_t row_step, ptrdiff_t columns, ptrdiff_t column_step, ptrdiff_t n, T factor)
{
    const T *last = x + (rows - 1) * row_step + (columns - 1) * column_step;
    ptrdiff_t c = 0;
    for (; c + CYCONV_PIXEL_VECTORS * LANES <= n; c += CYCONV_PIXEL_VECTORS * LANES)
        NAME(join_pixels_block)(op, CYCONV_PIXEL_VECTORS, out + c, x + c, rows, row_step, columns, column_step, factor);
    for (; c + 2 * LANES <= n; c += 2 * LANES)
        NAME(join_pixels_block)(op, 2, out + c, x + c, rows, row_step, columns, column_step, factor);
    for (; c < n; c += LANES) {
        ptrdiff_t left = NAME(least)(n - c, LANES);
        NAME(state) v = NAME(begin)(op);
        int whole = last + c + LANES <= x_end;
        for (ptrdiff_t r = 0; r < rows; r++)
            for (ptrdiff_t s = 0; s < columns; s++) {
                const T *p = x + r * row_step + s * column_step + c;
                NAME(join)(op, &v, whole ? NAME(load)(p) : NAME(load_part)(p, left));
            }
        NAME(store_below)(out + c, out_end, NAME(end)(op, v) * (op == CYCONV_SUM ? factor : 1), left);
    }
}
static __attribute__((noinline, unused)) void NAME(max_pixels)(T *out, const T *out_end, const T *x, const T *x_end,
                                                               ptrdiff_t rows, ptrdiff_t row_step, ptrdiff_t columns,
                                                               ptrdiff_t column_step, ptrdiff_t n)
{
    NAME(join_pixels)(CYCONV_MAXIMUM, out, out_end, x, x_end, rows, row_step, columns, column_step, n, 1);
}
static __attribute__((noinline, unused)) void NAME(sum_pixels)(T *out, const T *out_end, const T *x, const T *x_end,
                                                               ptrdiff_t rows, ptrdiff_t row_step, ptrdiff_t columns,
                                                               ptrdiff_t column_step, ptrdiff_t n, T factor)
{
    NAME(join_pixels)(CYCONV_SUM, out, out_end, x, x_end, rows, row_step, columns, column_step, n, factor);
}

/* Channels-last: maximum and its place for all channels of one output pixel; best and place have room for whole vectors.
 * `first` is the place of the first pixel, in pixels. */
static __attribute__((noinline, unused)) void NAME(best_pixels)(T *best, BITS *place, const T *x, const T *x_end,
                                                                ptrdiff_t rows, ptrdiff_t row_step, ptrdiff_t columns,
                                                                ptrdiff_t column_step, ptrdiff_t n, ptrdiff_t first)
{
    const T *last = x + (rows - 1) * row_step + (columns - 1) * column_step;
    for (ptrdiff_t c = 0; c < n; c += LANES) {
        ptrdiff_t left = NAME(least)(n - c, LANES);
        NAME(choice) best_of = NAME(choose_from)((IVEC){0} + (BITS)first);
        int whole = last + c + LANES <= x_end;
        for (ptrdiff_t r = 0; r < rows; r++)
            for (ptrdiff_t s = 0; s < columns; s++) {
                const T *p = x + r * row_step + s * column_step + c;
                ptrdiff_t where = first + (r * row_step + s * column_step) / n;
                NAME(choose)(&best_of, whole ? NAME(load)(p) : NAME(load_part)(p, left), (BITS)where);
            }
        NAME(chosen)(&best_of);
        NAME(store)(best + c, best_of.top);
        *(NAME(uivec) *)(place + c) = best_of.tap;
    }
}

/* The gradient of one output pixel, channels-last: find the tap of each channel, add its gradient there. */
CYCONV_INLINE void NAME(scatter_vector)(T *dx, const T *dy, const T *x, ptrdiff_t rows, ptrdiff_t row_step,
                                        ptrdiff_t columns, ptrdiff_t column_step, ptrdiff_t part)
{
    VEC g = part == LANES ? NAME(load)(dy) : NAME(load_part)(dy, part);
    NAME(choice) c = NAME(choose_from)((IVEC){0});
    BITS tap = 0;
    for (ptrdiff_t r = 0; r < rows; r++)
        for (ptrdiff_t s = 0; s < columns; s++, tap++) {
            const T *p = x + r * row_step + s * column_step;
            NAME(choose)(&c, part == LANES ? NAME(load)(p) : NAME(load_part)(p, part), tap);
        }
    NAME(chosen)(&c);
    tap = 0;
    for (ptrdiff_t r = 0; r < rows; r++)
        for (ptrdiff_t s = 0; s < columns; s++, tap++) {
            T *p = dx + r * row_step + s * column_step;
            VEC share = (VEC)((c.tap == tap) & (IVEC)g);
            if (part == LANES)
                NAME(store)(p, NAME(load)(p) + share);
            else
                NAME(store_part)(p, NAME(load_part)(p, part) + share, part);
        }
}
static __attribute__((noinline, unused)) void NAME(scatter_pixels)(T *dx, const T *dy, const T *x, ptrdiff_t rows,
                                                                   ptrdiff_t row_step, ptrdiff_t columns,
                                                                   ptrdiff_t column_step, ptrdiff_t n)
{
    ptrdiff_t c = 0;
    for (; c + LANES <= n; c += LANES)
        NAME(scatter_vector)(dx + c, dy + c, x + c, rows, row_step, columns, column_step, LANES);
    if (c < n)
        NAME(scatter_vector)(dx + c, dy + c, x + c, rows, row_step, columns, column_step, n - c);
}

/* to[i] += from[i] * factor */
static __attribute__((noinline, unused)) void NAME(add_scaled)(T *restrict to, const T *restrict from, T factor,
                                                               ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i++)
        to[i] += from[i] * factor;
}

/* to[0], to[2], ... from even, to[1], to[3], ... from odd, for n elements in all; whole vectors are read. */
static __attribute__((noinline, unused)) void NAME(merge_row)(T *to, const T *even, const T *odd, ptrdiff_t n)
{
    for (ptrdiff_t j = 0; j < n; j += 2 * LANES) {
        VEC a = NAME(load)(even + j / 2), b = NAME(load)(odd + j / 2);
        NAME(store_pairs)(to + j, to + n, a, b, n - j);
    }
}

/* to[i] = sum over k < rows, t < taps of g[row[k] + i - shift[t]] for i < n: what the pixels of one phase of an input row
 * take from the windows that they belong to. Whole vectors are read, and written where `whole` says so. */
static __attribute__((noinline, unused)) void NAME(take_row)(T *to, int whole, const T *g, const ptrdiff_t *row,
                                                             ptrdiff_t rows, const ptrdiff_t *shift, ptrdiff_t taps,
                                                             ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i += LANES) {
        VEC sum = {0};
        for (ptrdiff_t k = 0; k < rows; k++) {
            const T *p = g + row[k] + i;
            for (ptrdiff_t t = 0; t < taps; t++)
                sum += NAME(load)(p - shift[t]);
        }
        if (whole || i + LANES <= n)
            NAME(store)(to + i, sum);
        else
            NAME(store_part)(to + i, sum, n - i);
    }
}

#undef NAME
#undef LANES
#undef VEC
#undef IVEC
#undef NEUTRAL
#endif
