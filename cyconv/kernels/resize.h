/* The vector parts of interpolation: rows joined with weights, and elements of a row joined along it.
 *
 * Vectors are stored whole where that stays below `out_end`: what follows is written afterwards, as whoever calls goes
 * through memory upwards. */
#ifndef T /* the first time: once for each element type */
#ifndef CYCONV_RESIZE_H
#define CYCONV_RESIZE_H
#include "simd.h"

/* Whether a vector of elements can be picked from one or two others by places that are only known at run time. */
#if defined(__AVX512F__) || defined(__AVX2__)
#define CYCONV_PICKS 1
#else
#define CYCONV_PICKS 0
#endif

#define T float
#define BITS int32_t
#define SUFFIX f32
#include "resize.h"
#undef T
#undef BITS
#undef SUFFIX

#define T double
#define BITS int64_t
#define SUFFIX f64
#include "resize.h"
#undef T
#undef BITS
#undef SUFFIX

#endif
#else /* the template */

#define NAME(x) CYCONV_JOIN(x, SUFFIX)
#define LANES ((int)(CYCONV_VECTOR_BYTES / sizeof(T)))
#define VEC NAME(vec)

CYCONV_INLINE void NAME(put)(T *p, const T *end, VEC v, ptrdiff_t n)
{
    if (p + LANES <= end)
        NAME(store)(p, v);
    else
        NAME(store_part)(p, v, n < LANES ? n : LANES);
}

/* Reads never cross the end of a row: the part that is left is loaded as such. */
CYCONV_INLINE VEC NAME(get)(const T *p, ptrdiff_t n) { return n >= LANES ? NAME(load)(p) : NAME(load_part)(p, n); }

/* out[j] = sum over k < rows of weight[k] * row[k][j], for j < n; a constant number of rows after inlining. */
CYCONV_INLINE void NAME(join_few)(const int rows, T *out, const T *out_end, const T *const *row, const T *weight,
                                  ptrdiff_t n)
{
    ptrdiff_t j = 0;
    for (; j + 2 * LANES <= n; j += 2 * LANES) {
        VEC a = NAME(load)(row[0] + j) * weight[0], b = NAME(load)(row[0] + j + LANES) * weight[0];
        CYCONV_UNROLL
        for (int k = 1; k < rows; k++) {
            a += NAME(load)(row[k] + j) * weight[k];
            b += NAME(load)(row[k] + j + LANES) * weight[k];
        }
        /* Of several short rows processors do not foresee which they will be asked for. */
        CYCONV_UNROLL
        for (int k = 0; k < rows; k++) {
            CYCONV_UNROLL
            for (int i = 0; i < 2 * CYCONV_VECTOR_BYTES; i += 64)
                __builtin_prefetch((const char *)(row[k] + j) + 2048 + i);
        }
        NAME(store)(out + j, a);
        NAME(store)(out + j + LANES, b);
    }
    for (; j < n; j += LANES) {
        VEC a = NAME(get)(row[0] + j, n - j) * weight[0];
        CYCONV_UNROLL
        for (int k = 1; k < rows; k++)
            a += NAME(get)(row[k] + j, n - j) * weight[k];
        NAME(put)(out + j, out_end, a, n - j);
    }
}
static __attribute__((noinline, unused)) void NAME(join_lines)(T *out, const T *out_end, const T *const *row,
                                                               const T *weight, ptrdiff_t rows, ptrdiff_t n)
{
    if (rows == 2) {
        NAME(join_few)(2, out, out_end, row, weight, n);
        return;
    }
    if (rows == 4) {
        NAME(join_few)(4, out, out_end, row, weight, n);
        return;
    }
    ptrdiff_t j = 0;
    for (; j + 4 * LANES <= n; j += 4 * LANES) {
        VEC v[4] = {{0}};
        for (ptrdiff_t k = 0; k < rows; k++) {
            CYCONV_UNROLL
            for (int i = 0; i < 4; i++)
                v[i] += NAME(load)(row[k] + j + i * LANES) * weight[k];
        }
        CYCONV_UNROLL
        for (int i = 0; i < 4; i++)
            NAME(store)(out + j + i * LANES, v[i]);
    }
    for (; j < n; j += LANES) {
        VEC a = {0};
        for (ptrdiff_t k = 0; k < rows; k++)
            a += NAME(get)(row[k] + j, n - j) * weight[k];
        NAME(put)(out + j, out_end, a, n - j);
    }
}

/* Elements first, first + 2, ... of a and b behind each other. */
CYCONV_INLINE VEC NAME(every_other)(VEC a, VEC b, const int first)
{
#if defined(__clang__)
    VEC v;
    for (int i = 0; i < LANES; i++)
        v[i] = 2 * i + first < LANES ? a[2 * i + first] : b[2 * i + first - LANES];
    return v;
#else
    typedef BITS places __attribute__((vector_size(CYCONV_VECTOR_BYTES)));
    places place;
    CYCONV_UNROLL
    for (int i = 0; i < LANES; i++)
        place[i] = 2 * i + first;
    return __builtin_shuffle(a, b, place);
#endif
}

/* out[q] = factor * sum over k < rows of weight[k] * (row[k][2 q] + row[k][2 q + 1]), for q < n, n >= LANES: the last vector
 * may overlap the one before. */
CYCONV_INLINE void NAME(halve_few)(const ptrdiff_t rows, T *out, const T *const *row, const T *weight, T factor,
                                   ptrdiff_t n)
{
    for (ptrdiff_t q = 0; q < n; q += LANES) {
        q = q + LANES <= n ? q : n - LANES;
        VEC a = {0}, b = {0};
        for (ptrdiff_t k = 0; k < rows; k++) {
            a += NAME(load)(row[k] + 2 * q) * weight[k];
            b += NAME(load)(row[k] + 2 * q + LANES) * weight[k];
            __builtin_prefetch((const char *)(row[k] + 2 * q) + 2048); /* as in join_few */
            __builtin_prefetch((const char *)(row[k] + 2 * q + LANES) + 2048);
        }
        NAME(store)(out + q, (NAME(every_other)(a, b, 0) + NAME(every_other)(a, b, 1)) * factor);
    }
}
static __attribute__((noinline, unused)) void NAME(halve_lines)(T *out, const T *const *row, const T *weight,
                                                                ptrdiff_t rows, T factor, ptrdiff_t n)
{
    if (rows == 2)
        NAME(halve_few)(2, out, row, weight, factor, n);
    else
        NAME(halve_few)(rows, out, row, weight, factor, n);
}

/* Channels-last: out[q] = sum over t < count[q] of weight[q][t] * x[place[q][t]], where each is a pixel of n channels;
 * tables have `taps` columns. */
CYCONV_INLINE void NAME(join_pixel_row_of)(const int fixed, T *out, const T *out_end, const T *x, const T *x_end,
                                           ptrdiff_t pixels, const int32_t *count, const int32_t *place,
                                           const T *weight, ptrdiff_t taps, ptrdiff_t n)
{
    for (ptrdiff_t q = 0; q < pixels; q++, out += n, place += taps, weight += taps) {
        ptrdiff_t many = fixed ? fixed : count[q], c = 0;
        for (; c < n; c += LANES) {
            VEC a = {0};
            ptrdiff_t left = n - c;
            /* A vector that begins in this pixel may end in another, but not behind the last of the array. */
            const T *last = x_end - LANES - c;
            CYCONV_UNROLL
            for (ptrdiff_t t = 0; t < many; t++) {
                const T *p = x + place[t] * n;
                VEC v = p <= last ? NAME(load)(p + c) : NAME(get)(p + c, left);
                a = t || !fixed ? a + v * weight[t] : v * weight[t];
            }
            NAME(put)(out + c, out_end, a, left);
        }
    }
}
static __attribute__((noinline, unused)) void NAME(join_pixel_row)(T *out, const T *out_end, const T *x, const T *x_end,
                                                                   ptrdiff_t pixels, const int32_t *count,
                                                                   const int32_t *place, const T *weight,
                                                                   ptrdiff_t taps, int even, ptrdiff_t n)
{
    if (even && taps == 2)
        NAME(join_pixel_row_of)(2, out, out_end, x, x_end, pixels, count, place, weight, taps, n);
    else if (even && taps == 4)
        NAME(join_pixel_row_of)(4, out, out_end, x, x_end, pixels, count, place, weight, taps, n);
    else
        NAME(join_pixel_row_of)(0, out, out_end, x, x_end, pixels, count, place, weight, taps, n);
}

/* Channels-last: out[q] = x[place[q]], pixels of n channels. */
static __attribute__((noinline, unused)) void NAME(copy_pixel_row)(T *out, const T *out_end, const T *x, const T *x_end,
                                                                   ptrdiff_t pixels, const int32_t *place, ptrdiff_t n)
{
    for (ptrdiff_t q = 0; q < pixels; q++, out += n) {
        const T *p = x + place[q] * n;
        ptrdiff_t c = 0;
        for (; c + 2 * LANES <= n; c += 2 * LANES) {
            VEC a = NAME(load)(p + c), b = NAME(load)(p + c + LANES);
            NAME(store)(out + c, a);
            NAME(store)(out + c + LANES, b);
        }
        for (; c < n; c += LANES) {
            VEC v = p + c + LANES <= x_end ? NAME(load)(p + c) : NAME(get)(p + c, n - c);
            NAME(put)(out + c, out_end, v, n - c);
        }
    }
}

/* Channels-last, all axes at once: each of `pixels` output pixels is the sum of lines x taps input pixels, with the
 * product of the line's weight and the tap's. */
CYCONV_INLINE void NAME(join_block)(const int lines, const int taps, T *out, const T *out_end, const T *const *line,
                                    const T *line_weight, const T *x_end, ptrdiff_t pixels, const int32_t *place,
                                    const T *weight, ptrdiff_t n)
{
    for (ptrdiff_t q = 0; q < pixels; q++, out += n, place += taps, weight += taps) {
        const T *p[8];
        T w[8];
        ptrdiff_t c = 0;
        CYCONV_UNROLL
        for (int i = 0; i < lines; i++) {
            CYCONV_UNROLL
            for (int t = 0; t < taps; t++) {
                p[i * taps + t] = line[i] + place[t] * n;
                w[i * taps + t] = line_weight[i] * weight[t];
            }
        }
        for (; c + 2 * LANES <= n; c += 2 * LANES) {
            VEC a = NAME(load)(p[0] + c) * w[0], b = NAME(load)(p[0] + c + LANES) * w[0];
            CYCONV_UNROLL
            for (int k = 1; k < lines * taps; k++) {
                a += NAME(load)(p[k] + c) * w[k];
                b += NAME(load)(p[k] + c + LANES) * w[k];
            }
            NAME(store)(out + c, a);
            NAME(store)(out + c + LANES, b);
        }
        for (; c < n; c += LANES) {
            VEC a = {0};
            CYCONV_UNROLL
            for (int k = 0; k < lines * taps; k++) {
                VEC v = p[k] + c + LANES <= x_end ? NAME(load)(p[k] + c) : NAME(get)(p[k] + c, n - c);
                a += v * w[k];
            }
            NAME(put)(out + c, out_end, a, n - c);
        }
    }
}
static __attribute__((noinline, unused)) void NAME(join_pixels)(T *out, const T *out_end, const T *const *line,
                                                                const T *line_weight, ptrdiff_t lines, const T *x_end,
                                                                ptrdiff_t pixels, const int32_t *place,
                                                                const T *weight, ptrdiff_t taps, ptrdiff_t n)
{
    (void)taps; /* 2 */
    if (lines == 1)
        NAME(join_block)(1, 2, out, out_end, line, line_weight, x_end, pixels, place, weight, n);
    else if (lines == 2)
        NAME(join_block)(2, 2, out, out_end, line, line_weight, x_end, pixels, place, weight, n);
    else
        NAME(join_block)(4, 2, out, out_end, line, line_weight, x_end, pixels, place, weight, n);
}

/* A plane's row: out[q] = sum over t < count[q] of weight[q][t] * x[place[q][t]], element by element. */
static __attribute__((noinline, unused)) void NAME(join_row)(T *out, const T *x, ptrdiff_t n, const int32_t *count,
                                                             const int32_t *place, const T *weight, ptrdiff_t taps)
{
    for (ptrdiff_t q = 0; q < n; q++, place += taps, weight += taps) {
        T sum = 0;
        for (ptrdiff_t t = 0; t < count[q]; t++)
            sum += weight[t] * x[place[t]];
        out[q] = sum;
    }
}
static __attribute__((noinline, unused)) void NAME(copy_places)(T *out, const T *x, ptrdiff_t n, const int32_t *place)
{
    for (ptrdiff_t q = 0; q < n; q++)
        out[q] = x[place[q]];
}

#if CYCONV_PICKS
/* Lane i of the result is element lane[i] of a, or of a and b behind each other. For double on AVX2 a lane holds the
 * places of both halves. */
CYCONV_INLINE VEC NAME(pick_one)(VEC a, VEC lane)
{
#if defined(__AVX512F__)
    if (sizeof(T) == 4)
        return (VEC)_mm512_permutexvar_ps((__m512i)lane, (__m512)a);
    return (VEC)_mm512_permutexvar_pd((__m512i)lane, (__m512d)a);
#else
    return (VEC)_mm256_permutevar8x32_ps((__m256)a, (__m256i)lane);
#endif
}
CYCONV_INLINE VEC NAME(pick_two)(VEC a, VEC b, VEC lane)
{
#if defined(__AVX512F__)
    if (sizeof(T) == 4)
        return (VEC)_mm512_permutex2var_ps((__m512)a, (__m512i)lane, (__m512)b);
    return (VEC)_mm512_permutex2var_pd((__m512d)a, (__m512i)lane, (__m512d)b);
#else
    __m256i from = (__m256i)lane;
    return (VEC)_mm256_blendv_ps(_mm256_permutevar8x32_ps((__m256)a, from), _mm256_permutevar8x32_ps((__m256)b, from),
                                 (__m256)_mm256_slli_epi32(from, 28));
#endif
}

/* A plane's row by vectors: tap t of vector v picks lanes of the one or two vectors at x + base[v][t]. Without weights,
 * elements are moved only. The last vector is one of n - LANES, or a part where there is no whole one. */
CYCONV_INLINE void NAME(pick_row_of)(const int taps, const int two, const int moves, T *out, const T *out_end,
                                     const T *x, ptrdiff_t n, const int32_t *base, const T *lane, const T *weight,
                                     ptrdiff_t many)
{
    ptrdiff_t count = taps ? taps : many;
    for (ptrdiff_t q = 0; q < n; q += LANES, base += count) {
        VEC sum = {0};
        CYCONV_UNROLL
        for (ptrdiff_t t = 0; t < count; t++, lane += LANES) {
            VEC v = NAME(load)(x + base[t]);
            v = two ? NAME(pick_two)(v, NAME(load)(x + base[t] + LANES), NAME(load)(lane))
                    : NAME(pick_one)(v, NAME(load)(lane));
            if (moves) {
                sum = v;
            } else {
                sum += v * NAME(load)(weight);
                weight += LANES;
            }
        }
        NAME(put)(out + q, out_end, sum, n - q);
    }
}
#define CYCONV_PICK(taps, two, moves) \
    NAME(pick_row_of)(taps, two, moves, out, out_end, x, n, base, lane, weight, many)
static __attribute__((noinline, unused)) void NAME(pick_row)(T *out, const T *out_end, const T *x, ptrdiff_t n,
                                                             const int32_t *base, const T *lane, const T *weight,
                                                             ptrdiff_t many, int two, int moves)
{
    if (moves) {
        if (two)
            CYCONV_PICK(1, 1, 1);
        else
            CYCONV_PICK(1, 0, 1);
    } else if (many == 2) {
        if (two)
            CYCONV_PICK(2, 1, 0);
        else
            CYCONV_PICK(2, 0, 0);
    } else if (many == 4) {
        if (two)
            CYCONV_PICK(4, 1, 0);
        else
            CYCONV_PICK(4, 0, 0);
    } else if (two) {
        CYCONV_PICK(0, 1, 0);
    } else {
        CYCONV_PICK(0, 0, 0);
    }
}
#undef CYCONV_PICK
#else
static __attribute__((unused)) void NAME(pick_row)(T *out, const T *out_end, const T *x, ptrdiff_t n,
                                                   const int32_t *base, const T *lane, const T *weight, ptrdiff_t many,
                                                   int two, int moves)
{
    (void)out, (void)out_end, (void)x, (void)n, (void)base, (void)lane, (void)weight, (void)many, (void)two, (void)moves;
}
#endif

#undef NAME
#undef LANES
#undef VEC
#endif
