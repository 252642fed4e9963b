/* Gradients of pooling, planes: what a row of pixels takes from the rows of windows that it belongs to.
 *
 * Rows of gradients lie in rows of one length, between margins of zeros, so that no window is missing. A pixel of phase k
 * (k, k + stride, ... of its row) meets windows by some taps of each row of windows; both phases of stride 2 are summed
 * side by side and stored alternately. As in pool.h, a vector may be written beyond the end of its row, not of `end`.
 */
#ifndef T /* the first time: once for each element type */
#ifndef CYCONV_POOL_TAKE_H
#define CYCONV_POOL_TAKE_H
#include "pool.h"

/* The rows of windows that rows of pixels belong to: see Axis. Those from `low` lie `length` apart, the first window of
 * the first one at `margin`. */
typedef struct {
    const int32_t *window, *belongs, *meets, *met;
    ptrdiff_t step, low, length, margin, code;
} pool_rows;

/* The windows of one row of pixels: `rows` rows of windows, row m at row[m]; and of phase k the taps first[k] to
 * first[k + 1]: tap t meets window start[k] - shift[t] + i in place i. Of maxima the tap codes: row_code[m] + tap[t].
 * `three`: stride 2, 3 taps, dilation 1. */
typedef struct {
    ptrdiff_t rows, stride, three;
    ptrdiff_t *row, *row_code;
    const ptrdiff_t *first, *start, *shift, *tap;
} pool_taking;

#define T float
#define BITS int32_t
#define SUFFIX f32
#include "pool_take.h"
#undef T
#undef BITS
#undef SUFFIX

#define T double
#define BITS int64_t
#define SUFFIX f64
#include "pool_take.h"
#undef T
#undef BITS
#undef SUFFIX

#endif
#else /* the template */

#define NAME(x) CYCONV_JOIN(x, SUFFIX)
#define LANES ((int)(CYCONV_VECTOR_BYTES / sizeof(T)))
#define VEC NAME(vec)
#define IVEC NAME(ivec)

/* n elements to p, whole vectors below `end`. */
CYCONV_INLINE void NAME(put)(T *p, const T *end, VEC v, ptrdiff_t n)
{
    if (p + LANES <= end)
        NAME(store)(p, v);
    else if (n > 0)
        NAME(store_part)(p, v, NAME(least)(n, LANES));
}

/* sum[v] = what the pixels of phase k in the places from i take, `vectors` vectors of them. */
CYCONV_INLINE void NAME(take_block)(const int vectors, const int chosen, VEC *sum, const uint8_t *code, const T *g,
                                    const pool_taking *t, ptrdiff_t k, ptrdiff_t i)
{
    const ptrdiff_t rows = t->rows, first = t->first[k], end = t->first[k + 1];
    CYCONV_UNROLL
    for (int v = 0; v < vectors; v++)
        sum[v] = (VEC){0};
    for (ptrdiff_t m = 0; m < rows; m++)
        for (ptrdiff_t s = first; s < end; s++) {
            ptrdiff_t at = t->row[m] + t->start[k] - t->shift[s] + i;
            BITS mine = chosen ? (BITS)(t->row_code[m] + t->tap[s]) : 0;
            CYCONV_UNROLL
            for (int v = 0; v < vectors; v++) {
                VEC x = NAME(load)(g + at + v * LANES);
                sum[v] = chosen ? NAME(add_chosen)(sum[v], x, code + at + v * LANES, LANES, mine) : sum[v] + x;
            }
        }
}
CYCONV_INLINE void NAME(put_pairs)(T *to, const T *end, VEC a, VEC b, ptrdiff_t n)
{
    NAME(put)(to, end, NAME(pairs)(a, b, 0), n);
    if (n > LANES)
        NAME(put)(to + LANES, end, NAME(pairs)(a, b, 1), n - LANES);
}

/* Stride 2 and 3 taps: the pixels of one phase, the inner ones, meet the middle of a window, the others two windows, the
 * end of one and the begin of the next. The inner ones come first if `inner`, and then belong to the first of these. */
CYCONV_INLINE void NAME(take_three)(const int rows, const int inner, const int chosen, T *to, const T *end,
                                    const uint8_t *code, const T *g, const pool_taking *t, ptrdiff_t n)
{
    /* Copies: what is stored could be what the pointers lead to. */
    ptrdiff_t low[2], outer = t->start[inner] - 1;
    BITS name[2] = {0, 0};
    CYCONV_UNROLL
    for (int m = 0; m < rows; m++) {
        low[m] = t->row[m] + outer;
        if (chosen)
            name[m] = (BITS)t->row_code[m];
    }
    /* Whole vectors as long as they end below `end`: of most rows, all but the last one. */
    ptrdiff_t whole = NAME(least)(n + 1, end - to) / (2 * LANES) * LANES, i = 0;
    for (; i < n - n / 2; i += LANES) {
        VEC middle = {0}, ends = {0};
        CYCONV_UNROLL
        for (int m = 0; m < rows; m++) {
            const T *p = g + low[m] + i;
            const uint8_t *c = chosen ? code + low[m] + i : code; /* averages have none: no offset to NULL */
            VEC a = NAME(load)(p), b = NAME(load)(p + 1);
            if (chosen) {
                ends = NAME(add_chosen)(ends, b, c + 1, LANES, name[m]);
                ends = NAME(add_chosen)(ends, a, c, LANES, name[m] + 2);
                middle = NAME(add_chosen)(middle, inner ? a : b, c + !inner, LANES, name[m] + 1);
            } else {
                ends += b;
                ends += a;
                middle += inner ? a : b;
            }
        }
        VEC even = inner ? middle : ends, odd = inner ? ends : middle;
        if (i < whole) {
            NAME(store)(to + 2 * i, NAME(pairs)(even, odd, 0));
            NAME(store)(to + 2 * i + LANES, NAME(pairs)(even, odd, 1));
        } else {
            NAME(put_pairs)(to + 2 * i, end, even, odd, n - 2 * i);
        }
    }
}
CYCONV_INLINE void NAME(take_two)(const int chosen, T *to, const T *end, const uint8_t *code, const T *g,
                                  const pool_taking *t, ptrdiff_t n)
{
    if (t->three && (t->rows == 1 || t->rows == 2)) {
        int inner = t->first[1] - t->first[0] == 1;
        if (t->rows == 1 && inner)
            NAME(take_three)(1, 1, chosen, to, end, code, g, t, n);
        else if (t->rows == 1)
            NAME(take_three)(1, 0, chosen, to, end, code, g, t, n);
        else if (inner)
            NAME(take_three)(2, 1, chosen, to, end, code, g, t, n);
        else
            NAME(take_three)(2, 0, chosen, to, end, code, g, t, n);
        return;
    }
    if (t->rows == 1 && t->first[1] == 1 && t->first[2] == 2) {
        /* Each pixel belongs to one window: with the numbers at hand, 1.6 times as fast in rows of 1024. */
        ptrdiff_t low = t->row[0] + t->start[0] - t->shift[0], high = t->row[0] + t->start[1] - t->shift[1];
        BITS even = chosen ? (BITS)(t->row_code[0] + t->tap[0]) : 0, odd = chosen ? (BITS)(t->row_code[0] + t->tap[1]) : 0;
        for (ptrdiff_t j = 0; j < n; j += 2 * LANES) {
            VEC a = NAME(load)(g + low + j / 2), b = NAME(load)(g + high + j / 2);
            if (chosen) {
                a = NAME(add_chosen)((VEC){0}, a, code + low + j / 2, LANES, even);
                b = NAME(add_chosen)((VEC){0}, b, code + high + j / 2, LANES, odd);
            }
            NAME(put_pairs)(to + j, end, a, b, n - j);
        }
        return;
    }
    for (ptrdiff_t j = 0; j < n; j += 2 * LANES) {
        VEC a, b;
        NAME(take_block)(1, chosen, &a, code, g, t, 0, j / 2);
        NAME(take_block)(1, chosen, &b, code, g, t, 1, j / 2);
        NAME(put_pairs)(to + j, end, a, b, n - j);
    }
}

/* n places of phase k. */
CYCONV_INLINE void NAME(take_one)(const int chosen, T *to, const T *end, const uint8_t *code, const T *g,
                                  const pool_taking *t, ptrdiff_t k, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i += 3 * LANES) {
        VEC sum[3];
        if (n - i > 2 * LANES)
            NAME(take_block)(3, chosen, sum, code, g, t, k, i);
        else if (n - i > LANES)
            NAME(take_block)(2, chosen, sum, code, g, t, k, i);
        else
            NAME(take_block)(1, chosen, sum, code, g, t, k, i);
        CYCONV_UNROLL
        for (int v = 0; v < 3; v++)
            if (n - i > v * LANES)
                NAME(put)(to + i + v * LANES, end, sum[v], n - i - v * LANES);
    }
}

/* A row of n pixels; `line` has room for the pixels of one phase. */
CYCONV_INLINE void NAME(take_row)(const int chosen, T *to, const T *end, const uint8_t *code, const T *g,
                                  const pool_taking *t, T *line, ptrdiff_t n)
{
    if (t->stride == 1) {
        NAME(take_one)(chosen, to, end, code, g, t, 0, n);
    } else if (t->stride == 2) {
        NAME(take_two)(chosen, to, end, code, g, t, n);
    } else {
        for (ptrdiff_t k = 0; k < t->stride && k < n; k++) {
            ptrdiff_t many = (n - k + t->stride - 1) / t->stride;
            NAME(take_one)(chosen, line, line + many, code, g, t, k, many);
            for (ptrdiff_t i = 0; i < many; i++)
                to[k + i * t->stride] = line[i];
        }
    }
}

/* A row of n gradients, in whole vectors. */
static __attribute__((noinline, unused)) void NAME(lay_row)(T *to, const T *from, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i += LANES)
        NAME(store)(to + i, i + LANES <= n ? NAME(load)(from + i) : NAME(load_part)(from + i, n - i));
}

/* The gradient of maxima: rows `first` to `last` of n pixels each. */
static __attribute__((noinline, unused)) void NAME(take_maxima)(T *to, const T *end, const uint8_t *code, const T *g,
                                                                pool_taking *t, const pool_rows *r, T *line,
                                                                ptrdiff_t n, ptrdiff_t first, ptrdiff_t last)
{
    for (ptrdiff_t i = first; i < last; i++, to += n) {
        ptrdiff_t at = (r->window[i] - r->low) * r->length + r->margin;
        t->rows = r->belongs[i];
        for (ptrdiff_t m = 0; m < t->rows; m++, at += r->step * r->length) {
            t->row[m] = at;
            t->row_code[m] = r->met[r->meets[i] + m] * r->code;
        }
        NAME(take_row)(1, to, end, code, g, t, line, n);
    }
}

#undef NAME
#undef LANES
#undef VEC
#undef IVEC
#endif
