/* The vector parts of pooling: rows of windows in planes (NCHW). Pixels of channels (channels-last) are in
 * pool_pixels.h, 2 x 2 windows at stride 2 in pool_pairs.h, gradients in pool_gradient.h.
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

/* to[j] = op over n rows of `width` elements, row[k] elements from x, ascending; behind it one vector of the neutral
 * element. */
CYCONV_INLINE void NAME(join_rows_of)(const int op, T *to, const T *x, const T *x_end, const ptrdiff_t *row,
                                      const ptrdiff_t n, ptrdiff_t width, const int ahead)
{
    for (ptrdiff_t j = 0; j < width; j += LANES) {
        NAME(state) v = NAME(begin)(op);
        ptrdiff_t left = NAME(least)(width - j, LANES);
        if (n == 0 || x + row[n - 1] + j + LANES <= x_end) {
            for (ptrdiff_t k = 0; k < n; k++) {
                NAME(join)(op, &v, NAME(load)(x + row[k] + j));
                if (ahead) /* of many short rows processors do not foresee which they will be asked for */
                    __builtin_prefetch((const char *)(x + row[k] + j) + 2048);
            }
        } else {
            for (ptrdiff_t k = 0; k < n; k++)
                NAME(join)(op, &v, NAME(load_filled)(x + row[k] + j, left, NEUTRAL(op)));
        }
        NAME(store)(to + j, NAME(end)(op, v));
    }
    NAME(store)(to + width, (VEC){0} + NEUTRAL(op));
}
CYCONV_INLINE void NAME(join_rows)(const int op, T *to, const T *x, const T *x_end, const ptrdiff_t *row, ptrdiff_t n,
                                   ptrdiff_t width)
{
    if (n == 3)
        NAME(join_rows_of)(op, to, x, x_end, row, 3, width, 0);
    else if (n == 2)
        NAME(join_rows_of)(op, to, x, x_end, row, 2, width, 0);
    else
        NAME(join_rows_of)(op, to, x, x_end, row, n, width, 1);
}

/* out[q] = op over s < taps of row[q * stride + s * dilation], for q < n; sums times scale[q] * factor. */
CYCONV_INLINE void NAME(join_columns_in)(const int op, const int stride, T *out, const T *out_end, const T *row,
                                         ptrdiff_t n, const ptrdiff_t taps, ptrdiff_t dilation, const T *scale,
                                         T factor)
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
            result *= (n < LANES ? NAME(load_part)(scale + q, n) : NAME(load)(scale + q)) * factor;
        NAME(store_below)(out + q, out_end, result, n - q);
    }
}
CYCONV_INLINE void NAME(join_columns)(const int op, T *out, const T *out_end, const T *row, ptrdiff_t n, ptrdiff_t taps,
                                      ptrdiff_t stride, ptrdiff_t dilation, const T *scale, T factor)
{
    if (stride <= 2) {
        if (stride == 1 && taps == 3)
            NAME(join_columns_in)(op, 1, out, out_end, row, n, 3, dilation, scale, factor);
        else if (stride == 1)
            NAME(join_columns_in)(op, 1, out, out_end, row, n, taps, dilation, scale, factor);
        else if (taps == 3)
            NAME(join_columns_in)(op, 2, out, out_end, row, n, 3, dilation, scale, factor);
        else
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

static __attribute__((noinline, unused)) void NAME(max_rows)(T *to, const T *x, const T *x_end, const ptrdiff_t *row,
                                                             ptrdiff_t n, ptrdiff_t width)
{
    NAME(join_rows)(CYCONV_MAXIMUM, to, x, x_end, row, n, width);
}
static __attribute__((noinline, unused)) void NAME(sum_rows)(T *to, const T *x, const T *x_end, const ptrdiff_t *row,
                                                             ptrdiff_t n, ptrdiff_t width)
{
    NAME(join_rows)(CYCONV_SUM, to, x, x_end, row, n, width);
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

/* Scalars: one element more. */
CYCONV_INLINE T NAME(join_one)(const int op, T v, T x)
{
    return op == CYCONV_SUM ? v + x : (x > v) | (x != x) ? x : v;
}

/* out[q] = op over count[q] elements of row from first[q], `dilation` apart; sums times scale[q] * factor. */
CYCONV_INLINE void NAME(join_spans)(const int op, T *out, const T *row, ptrdiff_t n, const int32_t *first,
                                    const int32_t *count, ptrdiff_t dilation, const T *scale, T factor)
{
    for (ptrdiff_t q = 0; q < n; q++) {
        const T *p = row + first[q];
        T v = NEUTRAL(op);
        for (ptrdiff_t s = 0; s < count[q]; s++, p += dilation)
            v = NAME(join_one)(op, v, *p);
        out[q] = op == CYCONV_SUM ? v * (scale[q] * factor) : v;
    }
}
static __attribute__((noinline, unused)) void NAME(max_spans)(T *out, const T *row, ptrdiff_t n, const int32_t *first,
                                                              const int32_t *count, ptrdiff_t dilation)
{
    NAME(join_spans)(CYCONV_MAXIMUM, out, row, n, first, count, dilation, 0, 1);
}
static __attribute__((noinline, unused)) void NAME(sum_spans)(T *out, const T *row, ptrdiff_t n, const int32_t *first,
                                                              const int32_t *count, ptrdiff_t dilation, const T *scale,
                                                              T factor)
{
    NAME(join_spans)(CYCONV_SUM, out, row, n, first, count, dilation, scale, factor);
}

/* One vector whose lanes, joined, are op over n elements. Long sums are cut: an error grows with the length of a part. */
CYCONV_INLINE VEC NAME(join_run)(const int op, const T *p, const T *x_end, ptrdiff_t n)
{
    enum { AT_ONCE = 4, PART = 256 * AT_ONCE };
    NAME(state) total = NAME(begin)(op), v[AT_ONCE];
    ptrdiff_t i = 0, vectors = n / LANES;
    while (vectors >= AT_ONCE) {
        ptrdiff_t part = vectors < PART ? vectors / AT_ONCE * AT_ONCE : PART;
        vectors -= part;
        CYCONV_UNROLL
        for (int k = 0; k < AT_ONCE; k++)
            v[k] = NAME(begin)(op);
        for (; part; part -= AT_ONCE, i += AT_ONCE * LANES) {
            CYCONV_UNROLL
            for (int k = 0; k < AT_ONCE; k++)
                NAME(join)(op, &v[k], NAME(load)(p + i + k * LANES));
        }
        CYCONV_UNROLL
        for (int k = 0; k < AT_ONCE; k++)
            NAME(join)(op, &total, NAME(end)(op, v[k]));
    }
    for (; vectors; vectors--, i += LANES)
        NAME(join)(op, &total, NAME(load)(p + i));
    if (i < n) {
        IVEC lane;
        CYCONV_UNROLL
        for (int k = 0; k < LANES; k++)
            lane[k] = k;
        VEC rest = p + i + LANES <= x_end ? NAME(load)(p + i) : NAME(load_part)(p + i, n - i);
        /* Another plane's elements do not count. */
        NAME(join)(op, &total, NAME(pick)(lane < (BITS)(n - i), rest, (VEC){0} + NEUTRAL(op)));
    }
    return NAME(end)(op, total);
}

/* out[i] = op over plane i of `area` elements, for i < n; sums times `factor`. As many planes as a vector has lanes, so
 * that their vectors are joined pairwise into one. */
CYCONV_INLINE void NAME(join_planes)(const int op, T *out, const T *x, const T *x_end, ptrdiff_t area, ptrdiff_t n,
                                     T factor)
{
    for (ptrdiff_t i = 0; i < n; i += LANES) {
        VEC v[LANES];
        ptrdiff_t many = NAME(least)(n - i, LANES);
        for (int k = 0; k < LANES; k++)
            v[k] = k < many ? NAME(join_run)(op, x + (i + k) * area, x_end, area) : (VEC){0};
        CYCONV_UNROLL
        for (int half = LANES / 2; half; half /= 2) {
            CYCONV_UNROLL
            for (int k = 0; k < half; k++) {
                VEC a = NAME(every_second)(v[2 * k], v[2 * k + 1], 0), b = NAME(every_second)(v[2 * k], v[2 * k + 1], 1);
                v[k] = op == CYCONV_SUM ? a + b : NAME(maximum_or_nan)(a, b);
            }
        }
        NAME(store_part)(out + i, op == CYCONV_SUM ? v[0] * factor : v[0], many);
    }
}
static __attribute__((noinline, unused)) void NAME(max_planes)(T *out, const T *x, const T *x_end, ptrdiff_t area,
                                                               ptrdiff_t n)
{
    NAME(join_planes)(CYCONV_MAXIMUM, out, x, x_end, area, n, 1);
}
static __attribute__((noinline, unused)) void NAME(sum_planes)(T *out, const T *x, const T *x_end, ptrdiff_t area,
                                                               ptrdiff_t n, T factor)
{
    NAME(join_planes)(CYCONV_SUM, out, x, x_end, area, n, factor);
}

/* Tap codes are bytes in memory, integers as wide as T in registers. n: how many of a vector there are. */
CYCONV_INLINE void NAME(store_codes)(uint8_t *p, IVEC code, ptrdiff_t n)
{
#if defined(__AVX512F__)
    if (sizeof(T) == 4)
        _mm512_mask_cvtepi32_storeu_epi8(p, n >= LANES ? 0xffff : (1u << n) - 1, (__m512i)code);
    else
        _mm512_mask_cvtepi64_storeu_epi8(p, n >= LANES ? 0xff : (1u << n) - 1, (__m512i)code);
#else
    for (int k = 0; k < LANES && k < n; k++)
        p[k] = (uint8_t)code[k];
#endif
}
CYCONV_INLINE IVEC NAME(load_codes)(const uint8_t *p, ptrdiff_t n)
{
#if defined(__AVX512BW__)
    __m128i bytes = _mm_maskz_loadu_epi8(n >= LANES ? (1u << LANES) - 1 : (1u << n) - 1, p);
    return (IVEC)(sizeof(T) == 4 ? _mm512_cvtepu8_epi32(bytes) : _mm512_cvtepu8_epi64(bytes));
#else
    uint8_t part[16];
    if (n < LANES) {
        for (int k = 0; k < LANES; k++)
            part[k] = k < n ? p[k] : 255;
        p = part;
    }
#if defined(__AVX2__)
    int32_t four;
    memcpy(&four, p, 4);
    return (IVEC)(sizeof(T) == 4 ? _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p))
                                 : _mm256_cvtepu8_epi64(_mm_cvtsi32_si128(four)));
#else
    IVEC code;
    CYCONV_UNROLL
    for (int k = 0; k < LANES; k++)
        code[k] = p[k];
    return code;
#endif
#endif
}

/* sum + g in the first n lanes where the code is `mine` */
CYCONV_INLINE VEC NAME(add_chosen)(VEC sum, VEC g, const uint8_t *code, ptrdiff_t n, BITS mine)
{
#if defined(__AVX512BW__) && defined(__AVX512VL__)
    /* Bytes are compared as they are. */
    const unsigned all = (1u << LANES) - 1, some = n >= LANES ? all : (1u << n) - 1;
    __m128i c = n < LANES       ? _mm_maskz_loadu_epi8((__mmask16)some, code)
                : sizeof(T) == 4 ? _mm_loadu_si128((const __m128i *)code)
                                 : _mm_loadl_epi64((const __m128i *)code);
    unsigned chosen = _mm_cmpeq_epi8_mask(c, _mm_set1_epi8((char)mine)) & some;
    return sizeof(T) == 4 ? (VEC)_mm512_mask_add_ps((__m512)sum, (__mmask16)chosen, (__m512)sum, (__m512)g)
                          : (VEC)_mm512_mask_add_pd((__m512d)sum, (__mmask8)chosen, (__m512d)sum, (__m512d)g);
#else
    return sum + (VEC)((NAME(load_codes)(code, n) == mine) & (IVEC)g);
#endif
}

/* n names of taps as bytes. */
static __attribute__((noinline, unused)) void NAME(narrow)(uint8_t *to, const BITS *name, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i += LANES)
        NAME(store_codes)(to + i, *(const NAME(uivec) *)(name + i), n - i);
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
        ptrdiff_t whole = width / (2 * LANES) * (2 * LANES), rest = width - whole;
        NAME(split_pairs)(first, second, x, whole);
        if (rest) { /* what follows in both phases is margin, and -inf as before */
            VEC a = NAME(load_filled)(x + whole, NAME(least)(rest, LANES), NEUTRAL(CYCONV_MAXIMUM));
            VEC b = (VEC){0} + NEUTRAL(CYCONV_MAXIMUM);
            if (rest > LANES)
                b = NAME(load_filled)(x + whole + LANES, rest - LANES, NEUTRAL(CYCONV_MAXIMUM));
            NAME(store)(first + whole / 2, NAME(every_second)(a, b, 0));
            NAME(store)(second + whole / 2, NAME(every_second)(a, b, 1));
        }
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

/* The same for numbers alone: the sum of all tells by a NaN that there was one (or infinities of both signs), and then
 * the search is done again with care. Sums have units of their own in most processors. */
typedef struct {
    VEC top, sum;
    IVEC tap;
} NAME(quick);

CYCONV_INLINE void NAME(choose_quickly)(NAME(quick) * c, VEC v, BITS tap)
{
    IVEC larger = v > c->top;
    c->tap = (larger & tap) | (~larger & c->tap);
    c->top = NAME(maximum)(c->top, v);
    c->sum += v;
}
CYCONV_INLINE int NAME(any)(IVEC mask)
{
#if defined(__AVX512DQ__)
    return _mm512_movepi32_mask((__m512i)mask) != 0;
#elif defined(__AVX__)
    return _mm256_movemask_ps((__m256)mask) != 0;
#elif defined(__SSE2__)
    return _mm_movemask_ps((__m128)mask) != 0;
#else
    BITS all = 0;
    for (int i = 0; i < LANES; i++)
        all |= mask[i];
    return all != 0;
#endif
}

/* Maximum and its tap for a row of windows over n split rows: row k at row[k], its tap s at tap[s] behind that, called
 * name[k] + s * step. first_column[q] is the first tap of window q that meets a column, or -1: the first pixel wins
 * where nothing is larger than -inf. best, name and first_column have room for whole vectors. */
CYCONV_INLINE IVEC NAME(first_tap)(const BITS *first_column, const ptrdiff_t *name, ptrdiff_t n, ptrdiff_t step)
{
    IVEC which = *(const NAME(uivec) *)first_column;
    IVEC named = which * (BITS)step + (BITS)(n > 0 ? name[0] : 0);
    return n > 0 ? named | (which < 0) : which | -1;
}
static __attribute__((noinline, unused)) void NAME(best_taps_or_nan)(T *best, BITS *to, const T *base,
                                                                     const BITS *first_column, const ptrdiff_t *row,
                                                                     const ptrdiff_t *name, ptrdiff_t n,
                                                                     const ptrdiff_t *tap, ptrdiff_t taps,
                                                                     ptrdiff_t step, ptrdiff_t windows)
{
    for (ptrdiff_t q = 0; q < windows; q += LANES) {
        NAME(choice) c = NAME(choose_from)(NAME(first_tap)(first_column + q, name, n, step));
        for (ptrdiff_t k = 0; k < n; k++)
            for (ptrdiff_t s = 0; s < taps; s++)
                NAME(choose)(&c, NAME(load)(base + row[k] + q + tap[s]), (BITS)(name[k] + s * step));
        NAME(chosen)(&c);
        NAME(store)(best + q, c.top);
        *(NAME(uivec) *)(to + q) = c.tap;
    }
}
CYCONV_INLINE void NAME(best_taps_of)(T *best, BITS *to, const T *base, const BITS *first_column, const ptrdiff_t *row,
                                      const ptrdiff_t *name, ptrdiff_t n, const ptrdiff_t *tap, const ptrdiff_t taps,
                                      ptrdiff_t step, ptrdiff_t windows)
{
    IVEC nan = {0};
    for (ptrdiff_t q = 0; q < windows; q += LANES) {
        NAME(quick) c = {(VEC){0} + NEUTRAL(CYCONV_MAXIMUM), (VEC){0},
                         NAME(first_tap)(first_column + q, name, n, step)};
        for (ptrdiff_t k = 0; k < n; k++) {
            const T *p = base + row[k] + q;
            for (ptrdiff_t s = 0; s < taps; s++)
                NAME(choose_quickly)(&c, NAME(load)(p + tap[s]), (BITS)(name[k] + s * step));
        }
        nan |= c.sum != c.sum;
        NAME(store)(best + q, c.top);
        *(NAME(uivec) *)(to + q) = c.tap;
    }
    if (NAME(any)(nan))
        NAME(best_taps_or_nan)(best, to, base, first_column, row, name, n, tap, taps, step, windows);
}
static __attribute__((noinline, unused)) void NAME(best_taps)(T *best, BITS *to, const T *base,
                                                              const BITS *first_column, const ptrdiff_t *row,
                                                              const ptrdiff_t *name, ptrdiff_t n, const ptrdiff_t *tap,
                                                              ptrdiff_t taps, ptrdiff_t step, ptrdiff_t windows)
{
    if (taps == 3 && n == 3)
        NAME(best_taps_of)(best, to, base, first_column, row, name, 3, tap, 3, step, windows);
    else if (taps == 3)
        NAME(best_taps_of)(best, to, base, first_column, row, name, n, tap, 3, step, windows);
    else if (taps == 2)
        NAME(best_taps_of)(best, to, base, first_column, row, name, n, tap, 2, step, windows);
    else
        NAME(best_taps_of)(best, to, base, first_column, row, name, n, tap, taps, step, windows);
}

/* Where in n elements the maximum stands: the first of equals, the last of NaNs. */
static __attribute__((noinline, unused)) ptrdiff_t NAME(best_in_run)(const T *p, const T *x_end, ptrdiff_t n, T *best)
{
    VEC v = NAME(join_run)(CYCONV_MAXIMUM, p, x_end, n);
    T top;
    ptrdiff_t i = 0;
    CYCONV_UNROLL
    for (int half = LANES / 2; half; half /= 2)
        v = NAME(maximum_or_nan)(NAME(every_second)(v, v, 0), NAME(every_second)(v, v, 1));
    top = v[0];
    if (top != top) {
        for (i = n - 1; p[i] == p[i]; i--)
            ;
    } else {
        for (; i + LANES <= n && !NAME(any)(NAME(load)(p + i) == top); i += LANES)
            ;
#if defined(__AVX512DQ__)
        if (i + LANES <= n) {
            __m512i here = (__m512i)(NAME(load)(p + i) == top);
            i += __builtin_ctz(sizeof(T) == 4 ? _mm512_movepi32_mask(here) : _mm512_movepi64_mask(here));
        }
#endif
        for (; p[i] != top; i++)
            ;
    }
    *best = p[i];
    return i;
}

#undef NAME
#undef LANES
#undef VEC
#undef IVEC
#undef NEUTRAL
#endif
