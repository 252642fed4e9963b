/* The vector parts of pooling, channels-last: the channels of a pixel are the vector. */
#ifndef T /* the first time: once for each element type */
#ifndef CYCONV_POOL_PIXELS_H
#define CYCONV_POOL_PIXELS_H
#include "pool.h"

/* Vectors of channels that one pass over a window's pixels takes: half of the registers, a value and its NaNs each. */
#define CYCONV_PIXEL_VECTORS (CYCONV_TILE_PIXELS == 14 ? 8 : 4)

/* The pixels of one window, channels-last: how many along each axis, and how far apart. */
typedef struct {
    ptrdiff_t slices, rows, columns, slice_step, row_step, column_step;
} pool_block;

/* Each pixel p of window b whose first is x. */
#define BLOCK_PIXELS(b, x, p) \
    for (ptrdiff_t t = 0; t < (b)->slices; t++) \
        for (ptrdiff_t r = 0; r < (b)->rows; r++) \
            for (const T *p = (x) + t * (b)->slice_step + r * (b)->row_step, *end = p + (b)->columns * (b)->column_step; \
                 p != end; p += (b)->column_step)

#define T float
#define BITS int32_t
#define SUFFIX f32
#include "pool_pixels.h"
#undef T
#undef BITS
#undef SUFFIX

#define T double
#define BITS int64_t
#define SUFFIX f64
#include "pool_pixels.h"
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

/* The last pixel of a window whose first is x. */
CYCONV_INLINE const T *NAME(last_pixel)(const T *x, const pool_block *b)
{
    return x + (b->slices - 1) * b->slice_step + (b->rows - 1) * b->row_step + (b->columns - 1) * b->column_step;
}

/* `vectors` vectors of channels of one output pixel; a constant after inlining. */
CYCONV_INLINE void NAME(join_pixels_block)(const int op, const int vectors, T *out, const T *x, const pool_block *b,
                                           T factor)
{
    NAME(state) v[2 * CYCONV_PIXEL_VECTORS];
    CYCONV_UNROLL
    for (int k = 0; k < vectors; k++)
        v[k] = NAME(begin)(op);
    BLOCK_PIXELS(b, x, p)
    {
        CYCONV_UNROLL
        for (int k = 0; k < vectors; k++)
            NAME(join)(op, &v[k], NAME(load)(p + k * LANES));
    }
    CYCONV_UNROLL
    for (int k = 0; k < vectors; k++)
        NAME(store)(out + k * LANES, NAME(end)(op, v[k]) * (op == CYCONV_SUM ? factor : 1));
}

/* Channels-last: all n channels of one output pixel from the pixels of its window. */
CYCONV_INLINE void NAME(join_pixels)(const int op, T *out, const T *out_end, const T *x, const T *x_end,
                                     const pool_block *b, ptrdiff_t n, T factor)
{
    const T *last = NAME(last_pixel)(x, b);
    ptrdiff_t c = 0;
    if (op == CYCONV_SUM) /* which needs one register each */
        for (; c + 2 * CYCONV_PIXEL_VECTORS * LANES <= n; c += 2 * CYCONV_PIXEL_VECTORS * LANES)
            NAME(join_pixels_block)(op, 2 * CYCONV_PIXEL_VECTORS, out + c, x + c, b, factor);
    for (; c + CYCONV_PIXEL_VECTORS * LANES <= n; c += CYCONV_PIXEL_VECTORS * LANES)
        NAME(join_pixels_block)(op, CYCONV_PIXEL_VECTORS, out + c, x + c, b, factor);
    for (; c + 2 * LANES <= n; c += 2 * LANES)
        NAME(join_pixels_block)(op, 2, out + c, x + c, b, factor);
    for (; c < n; c += LANES) {
        ptrdiff_t left = NAME(least)(n - c, LANES);
        NAME(state) v = NAME(begin)(op);
        if (last + c + LANES <= x_end) {
            BLOCK_PIXELS(b, x + c, p)
                NAME(join)(op, &v, NAME(load)(p));
        } else {
            BLOCK_PIXELS(b, x + c, p)
                NAME(join)(op, &v, NAME(load_part)(p, left));
        }
        NAME(store_below)(out + c, out_end, NAME(end)(op, v) * (op == CYCONV_SUM ? factor : 1), left);
    }
}
static __attribute__((noinline, unused)) void NAME(max_pixels)(T *out, const T *out_end, const T *x, const T *x_end,
                                                               const pool_block *b, ptrdiff_t n)
{
    NAME(join_pixels)(CYCONV_MAXIMUM, out, out_end, x, x_end, b, n, 1);
}
static __attribute__((noinline, unused)) void NAME(sum_pixels)(T *out, const T *out_end, const T *x, const T *x_end,
                                                               const pool_block *b, ptrdiff_t n, T factor)
{
    NAME(join_pixels)(CYCONV_SUM, out, out_end, x, x_end, b, n, factor);
}

/* Channels-last: maximum and its place for all channels of one output pixel; best (unless it is 0) and place have room
 * for whole vectors. Places count pixels: `first` is that of x, and `step` how they grow. */
static __attribute__((noinline, unused)) void NAME(best_pixels_or_nan)(T *best, BITS *place, const T *x, const T *x_end,
                                                                       const pool_block *b, ptrdiff_t n,
                                                                       ptrdiff_t first, ptrdiff_t slice_places,
                                                                       ptrdiff_t row_places, ptrdiff_t column_places)
{
    const T *last = NAME(last_pixel)(x, b);
    for (ptrdiff_t c = 0; c < n; c += LANES) {
        ptrdiff_t left = NAME(least)(n - c, LANES);
        NAME(choice) best_of = NAME(choose_from)((IVEC){0} + (BITS)first);
        int whole = last + c + LANES <= x_end;
        for (ptrdiff_t t = 0; t < b->slices; t++)
            for (ptrdiff_t r = 0; r < b->rows; r++) {
                const T *p = x + t * b->slice_step + r * b->row_step + c;
                ptrdiff_t where = first + t * slice_places + r * row_places;
                for (ptrdiff_t s = 0; s < b->columns; s++, p += b->column_step, where += column_places)
                    NAME(choose)(&best_of, whole ? NAME(load)(p) : NAME(load_part)(p, left), (BITS)where);
            }
        NAME(chosen)(&best_of);
        if (best)
            NAME(store)(best + c, best_of.top);
        *(NAME(uivec) *)(place + c) = best_of.tap;
    }
}
CYCONV_INLINE IVEC NAME(best_pixels_block)(const int vectors, T *best, BITS *place, const T *x, const pool_block *b,
                                           ptrdiff_t first, ptrdiff_t slice_places, ptrdiff_t row_places,
                                           ptrdiff_t column_places)
{
    NAME(quick) v[4];
    IVEC nan = {0};
    CYCONV_UNROLL
    for (int k = 0; k < vectors; k++) {
        v[k].top = (VEC){0} + NEUTRAL(CYCONV_MAXIMUM);
        v[k].sum = (VEC){0};
        v[k].tap = (IVEC){0} + (BITS)first;
    }
    for (ptrdiff_t t = 0; t < b->slices; t++)
        for (ptrdiff_t r = 0; r < b->rows; r++) {
            const T *p = x + t * b->slice_step + r * b->row_step;
            ptrdiff_t where = first + t * slice_places + r * row_places;
            for (ptrdiff_t s = 0; s < b->columns; s++, p += b->column_step, where += column_places) {
                CYCONV_UNROLL
                for (int k = 0; k < vectors; k++)
                    NAME(choose_quickly)(&v[k], NAME(load)(p + k * LANES), (BITS)where);
            }
        }
    CYCONV_UNROLL
    for (int k = 0; k < vectors; k++) {
        nan |= v[k].sum != v[k].sum;
        if (best)
            NAME(store)(best + k * LANES, v[k].top);
        *(NAME(uivec) *)(place + k * LANES) = v[k].tap;
    }
    return nan;
}
static __attribute__((noinline, unused)) void NAME(best_pixels)(T *best, BITS *place, const T *x, const T *x_end,
                                                                const pool_block *b, ptrdiff_t n, ptrdiff_t first,
                                                                ptrdiff_t slice_places, ptrdiff_t row_places,
                                                                ptrdiff_t column_places)
{
    IVEC nan = {0};
    ptrdiff_t c = 0;
    for (; c + 4 * LANES <= n; c += 4 * LANES)
        nan |= NAME(best_pixels_block)(4, best ? best + c : 0, place + c, x + c, b, first, slice_places, row_places,
                                       column_places);
    /* The rest, too, where what lies behind it can be read (as it happens, a NaN there costs time, no more). */
    for (; c + LANES <= n || (c < n && NAME(last_pixel)(x, b) + c + LANES <= x_end); c += LANES)
        nan |= NAME(best_pixels_block)(1, best ? best + c : 0, place + c, x + c, b, first, slice_places, row_places,
                                       column_places);
    if (NAME(any)(nan))
        c = 0;
    if (c < n)
        NAME(best_pixels_or_nan)(best ? best + c : 0, place + c, x + c, x_end, b, n - c, first, slice_places, row_places,
                                 column_places);
}

#undef NAME
#undef LANES
#undef VEC
#undef IVEC
#undef NEUTRAL
#endif
