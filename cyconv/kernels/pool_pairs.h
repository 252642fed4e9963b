/* The vector parts of pooling: 2 x 2 windows at stride 2 in planes (NCHW), forward and backward.
 *
 * Rows of windows that fill a vector, or the better part of it, go row by row. Narrow ones, of 1, 2, 4, ... windows,
 * where rows and planes follow each other without a gap, go many at once: the even and the odd columns of four vectors
 * are joined, then every second row of them, all by shuffles of constants.
 */
#ifndef T /* the first time: once for each element type */
#ifndef CYCONV_POOL_PAIRS_H
#define CYCONV_POOL_PAIRS_H
#include "pool.h"

#define T float
#define BITS int32_t
#define SUFFIX f32
#include "pool_pairs.h"
#undef T
#undef BITS
#undef SUFFIX

#define T double
#define BITS int64_t
#define SUFFIX f64
#include "pool_pairs.h"
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

/* Elements mask[i] of a and b behind it; a mask of constants. */
#if defined(__clang__)
#define SHUFFLED(r, a, b, mask) \
    CYCONV_UNROLL \
    for (int i = 0; i < LANES; i++) \
        r[i] = mask[i] < LANES ? (a)[mask[i]] : (b)[mask[i] - LANES];
#else
#define SHUFFLED(r, a, b, mask) r = __builtin_shuffle(a, b, mask);
#endif

/* Of groups of n elements every second one of a and b, from the first one or from the second. */
CYCONV_INLINE VEC NAME(every_second_group)(VEC a, VEC b, const int odd, const int n)
{
    VEC r;
    IVEC mask;
    CYCONV_UNROLL
    for (int i = 0; i < LANES; i++)
        mask[i] = i / n * 2 * n + odd * n + i % n;
    SHUFFLED(r, a, b, mask)
    return r;
}

/* Groups of n elements of a and b alternately: the low half of all, then the high half. */
CYCONV_INLINE VEC NAME(alternate_groups)(VEC a, VEC b, const int high, const int n)
{
    VEC r;
    IVEC mask;
    CYCONV_UNROLL
    for (int i = 0; i < LANES; i++) {
        int group = i / n + high * (LANES / n); /* of both; every second one is b's */
        mask[i] = group % 2 * LANES + group / 2 * n + i % n;
    }
    SHUFFLED(r, a, b, mask)
    return r;
}

/* Whether rows of n windows of planes of `pitch` columns go many at once. */
CYCONV_INLINE int NAME(narrow_pairs)(ptrdiff_t pitch, ptrdiff_t rows, ptrdiff_t n)
{
    return pitch == 2 * n && n < LANES && LANES % n == 0 && rows * n >= LANES;
}

/* The maxima (sums times `factor`) of `many` windows in rows of n; of maxima, unless code is NULL, which of the four they
 * are (then out may be NULL). The last vector reaches back. */
CYCONV_INLINE void NAME(join_narrow_of)(const int op, const int n, T *out, uint8_t *code, const T *x, ptrdiff_t many,
                                        T factor)
{
    for (ptrdiff_t i = 0; i < many; i += LANES) {
        ptrdiff_t q = NAME(step_back)(i, many);
        VEC v[4], row[2];
        IVEC which[2];
        CYCONV_UNROLL
        for (int k = 0; k < 4; k++)
            v[k] = NAME(load)(x + 4 * q + k * LANES);
        CYCONV_UNROLL
        for (int k = 0; k < 2; k++) { /* half of the rows, upper and lower ones alternately */
            VEC a = NAME(every_second)(v[2 * k], v[2 * k + 1], 0), b = NAME(every_second)(v[2 * k], v[2 * k + 1], 1);
            which[k] = NAME(better)(a, b);
            row[k] = op == CYCONV_SUM ? a + b : code ? NAME(pick)(which[k], b, a) : NAME(maximum_or_nan)(a, b);
        }
        VEC up = NAME(every_second_group)(row[0], row[1], 0, n), low = NAME(every_second_group)(row[0], row[1], 1, n);
        if (op == CYCONV_SUM) {
            NAME(store)(out + q, (up + low) * factor);
        } else if (!code) {
            NAME(store)(out + q, NAME(maximum_or_nan)(up, low));
        } else {
            IVEC up_which = (IVEC)NAME(every_second_group)((VEC)which[0], (VEC)which[1], 0, n);
            IVEC low_which = (IVEC)NAME(every_second_group)((VEC)which[0], (VEC)which[1], 1, n);
            IVEC lower = NAME(better)(up, low);
            if (out)
                NAME(store)(out + q, NAME(pick)(lower, low, up));
            NAME(store_codes)(code + q, (lower & (2 - low_which)) | (~lower & -up_which), LANES);
        }
    }
}
CYCONV_INLINE void NAME(join_narrow)(const int op, T *out, uint8_t *code, const T *x, ptrdiff_t many, ptrdiff_t n,
                                     T factor)
{
    if (n == 1)
        NAME(join_narrow_of)(op, 1, out, code, x, many, factor);
    else if (n == 2)
        NAME(join_narrow_of)(op, LANES > 2 ? 2 : 1, out, code, x, many, factor);
    else if (n == 4)
        NAME(join_narrow_of)(op, LANES > 4 ? 4 : 1, out, code, x, many, factor);
    else
        NAME(join_narrow_of)(op, LANES > 8 ? 8 : 1, out, code, x, many, factor);
}

/* Back: each of the four pixels of a window takes what is its own of g: `codes` tell whose the maximum was, or NULL: all
 * take g. */
CYCONV_INLINE void NAME(spread_narrow_of)(const int n, T *dx, const T *dy, const uint8_t *codes, ptrdiff_t many,
                                          T factor)
{
    for (ptrdiff_t i = 0; i < many; i += LANES) {
        ptrdiff_t q = NAME(step_back)(i, many);
        VEC g = NAME(load)(dy + q), row[2][2];
        IVEC which = {0};
        if (codes)
            which = NAME(load_codes)(codes + q, LANES);
        else
            g *= factor;
        CYCONV_UNROLL
        for (int r = 0; r < 2; r++) {
            VEC a = codes ? (VEC)((IVEC)g & (which == 2 * r)) : g, b = codes ? (VEC)((IVEC)g & (which == 2 * r + 1)) : g;
            row[r][0] = NAME(pairs)(a, b, 0);
            row[r][1] = NAME(pairs)(a, b, 1);
        }
        CYCONV_UNROLL
        for (int k = 0; k < 4; k++)
            NAME(store)(dx + 4 * q + k * LANES, NAME(alternate_groups)(row[0][k / 2], row[1][k / 2], k % 2, 2 * n));
    }
}
CYCONV_INLINE void NAME(spread_narrow)(T *dx, const T *dy, const uint8_t *codes, ptrdiff_t many, ptrdiff_t n, T factor)
{
    if (n == 1)
        NAME(spread_narrow_of)(1, dx, dy, codes, many, factor);
    else if (n == 2)
        NAME(spread_narrow_of)(LANES > 2 ? 2 : 1, dx, dy, codes, many, factor);
    else if (n == 4)
        NAME(spread_narrow_of)(LANES > 4 ? 4 : 1, dx, dy, codes, many, factor);
    else
        NAME(spread_narrow_of)(LANES > 8 ? 8 : 1, dx, dy, codes, many, factor);
}

/* Two neighbouring vectors (or what there is of them, `left` elements) of a row, and below them of the next one. */
CYCONV_INLINE void NAME(load_pairs)(VEC *v, const T *top, ptrdiff_t pitch, const T *x_end, ptrdiff_t left)
{
    const T *bottom = top + pitch;
    if (bottom + 2 * LANES <= x_end) {
        /* A row of one vector: whatever the second one is, nobody reads it. */
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
}

/* One row of 2 x 2 windows at stride 2: joined down the columns first, then the even with the odd columns. */
CYCONV_INLINE void NAME(join_pairs)(const int op, T *out, const T *out_end, const T *x, const T *x_end, ptrdiff_t pitch,
                                    ptrdiff_t n, T factor)
{
    for (ptrdiff_t i = 0; i < n; i += LANES) {
        ptrdiff_t q = NAME(step_back)(i, n);
        VEC v[4], low, high;
        NAME(load_pairs)(v, x + 2 * q, pitch, x_end, 2 * NAME(least)(n - q, LANES));
        if (op == CYCONV_SUM) {
            low = v[0] + v[2];
            high = v[1] + v[3];
            low = (NAME(every_second)(low, high, 0) + NAME(every_second)(low, high, 1)) * factor;
        } else {
            low = NAME(maximum_or_nan)(v[0], v[2]);
            high = NAME(maximum_or_nan)(v[1], v[3]);
            low = NAME(maximum_or_nan)(NAME(every_second)(low, high, 0), NAME(every_second)(low, high, 1));
        }
        NAME(store_below)(out + q, out_end, low, n - q);
    }
}

/* `rows` rows of such windows, out rows n apart, source rows 2 pitch apart. */
static __attribute__((noinline, unused)) void NAME(max_pairs)(T *out, const T *out_end, const T *x, const T *x_end,
                                                              ptrdiff_t pitch, ptrdiff_t rows, ptrdiff_t n)
{
    if (NAME(narrow_pairs)(pitch, rows, n)) {
        NAME(join_narrow)(CYCONV_MAXIMUM, out, 0, x, rows * n, n, 1);
        return;
    }
    for (ptrdiff_t p = 0; p < rows; p++)
        NAME(join_pairs)(CYCONV_MAXIMUM, out + p * n, out_end, x + 2 * p * pitch, x_end, pitch, n, 1);
}
static __attribute__((noinline, unused)) void NAME(sum_pairs)(T *out, const T *out_end, const T *x, const T *x_end,
                                                              ptrdiff_t pitch, ptrdiff_t rows, ptrdiff_t n, T factor)
{
    if (NAME(narrow_pairs)(pitch, rows, n)) {
        NAME(join_narrow)(CYCONV_SUM, out, 0, x, rows * n, n, factor);
        return;
    }
    for (ptrdiff_t p = 0; p < rows; p++)
        NAME(join_pairs)(CYCONV_SUM, out + p * n, out_end, x + 2 * p * pitch, x_end, pitch, n, factor);
}

/* Maxima (unless out is NULL) of `rows` rows of 2 x 2 windows at stride 2, and which of the four they are; arrays as
 * of max_pairs. */
static __attribute__((noinline, unused)) void NAME(coded_pairs)(T *out, const T *out_end, uint8_t *code, const T *x,
                                                                const T *x_end, ptrdiff_t pitch, ptrdiff_t rows,
                                                                ptrdiff_t n)
{
    if (NAME(narrow_pairs)(pitch, rows, n)) {
        NAME(join_narrow)(CYCONV_MAXIMUM, out, code, x, rows * n, n, 1);
        return;
    }
    const uint8_t *code_end = code + rows * n;
    for (ptrdiff_t p = 0; p < rows; p++, code += n, x += 2 * pitch)
        for (ptrdiff_t i = 0; i < n; i += LANES) {
            ptrdiff_t q = NAME(step_back)(i, n);
            VEC v[4], best, next;
            NAME(load_pairs)(v, x + 2 * q, pitch, x_end, 2 * NAME(least)(n - q, LANES));
            best = NAME(every_second)(v[0], v[1], 0);
            next = NAME(every_second)(v[0], v[1], 1);
            IVEC larger = NAME(better)(best, next), which = larger & 1;
            best = NAME(pick)(larger, next, best);
            CYCONV_UNROLL
            for (int k = 2; k < 4; k++) {
                next = NAME(every_second)(v[2], v[3], k - 2);
                larger = NAME(better)(best, next);
                which = (larger & k) | (~larger & which);
                best = NAME(pick)(larger, next, best);
            }
            if (out)
                NAME(store_below)(out + p * n + q, out_end, best, n - q);
            /* As in store_below: what is surplus comes to lie where the next row will, and a masked store takes five
             * times as long as all the rest. */
            NAME(store_codes)(code + q, which, code_end - (code + q) >= LANES ? LANES : n - q);
        }
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
        VEC v[4], best, g = NAME(load_below)(dy + q, dy_end, n - q, 0);
        NAME(load_pairs)(v, x + 2 * q, width, x_end, left);
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

/* The same by tap codes. */
static __attribute__((noinline, unused)) void NAME(coded_pairs_backward)(T *dx, const T *dx_end, const T *dy,
                                                                         const T *dy_end, const uint8_t *code,
                                                                         ptrdiff_t width, ptrdiff_t rows, ptrdiff_t n)
{
    if (NAME(narrow_pairs)(width, rows, n)) {
        NAME(spread_narrow)(dx, dy, code, rows * n, n, 1);
        return;
    }
    for (ptrdiff_t p = 0; p < rows; p++, dx += 2 * width, dy += n, code += n) {
        for (ptrdiff_t i = 0; i < n; i += LANES) {
            ptrdiff_t q = NAME(step_back)(i, n), left = 2 * NAME(least)(n - q, LANES);
            IVEC which = NAME(load_codes)(code + q, n - q), g = (IVEC)NAME(load_below)(dy + q, dy_end, n - q, 0);
            NAME(store_pairs)(dx + 2 * q, dx_end, (VEC)(g & (which == 0)), (VEC)(g & (which == 1)), left);
            NAME(store_pairs)(dx + width + 2 * q, dx_end, (VEC)(g & (which == 2)), (VEC)(g & (which == 3)), left);
        }
        for (ptrdiff_t j = 2 * n; j < width; j++)
            dx[j] = dx[width + j] = 0;
    }
}

/* The gradient of means of 2 x 2 windows at stride 2: each pixel takes its share of one. */
static __attribute__((noinline, unused)) void NAME(mean_pairs_backward)(T *dx, const T *dx_end, const T *dy,
                                                                        const T *dy_end, ptrdiff_t width,
                                                                        ptrdiff_t rows, ptrdiff_t n, T factor)
{
    if (NAME(narrow_pairs)(width, rows, n)) {
        NAME(spread_narrow)(dx, dy, 0, rows * n, n, factor);
        return;
    }
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

/* Channels-last: the gradient of one row of pixels, the upper (0) or lower (1) one of a row of n such windows, by tap codes
 * or (if that is NULL) of means. Vectors go on into the next pixel, which is written afterwards, up to `dx_end`. */
CYCONV_INLINE void NAME(pair_pixels_of)(const int coded, T *dx, const T *dx_end, const T *dy, const T *dy_end,
                                        const uint8_t *code, int lower, ptrdiff_t channels, ptrdiff_t n, T factor)
{
    ptrdiff_t q = 0; /* the next window */
#if defined(__AVX512BW__) && defined(__AVX512VL__)
    if (sizeof(T) == 4 && 2 * channels <= LANES) {
        /* Few channels: both pixels of a row of a window in one vector. */
        IVEC lane, mine = (IVEC){0} + 2 * lower;
        CYCONV_UNROLL
        for (int k = 0; k < LANES; k++)
            lane[k] = k;
        IVEC second = lane >= (BITS)channels;
        lane -= second & (BITS)channels;
        mine -= second;
        for (; q < n && dy + LANES <= dy_end && dx + LANES <= dx_end; q++, dx += 2 * channels, dy += channels) {
            __m512 g = _mm512_permutexvar_ps((__m512i)lane, (__m512)(NAME(load)(dy) * factor));
            if (coded) {
                __m512i c = _mm512_permutexvar_epi32((__m512i)lane, (__m512i)NAME(load_codes)(code, LANES));
                g = _mm512_maskz_mov_ps(_mm512_cmpeq_epi32_mask(c, (__m512i)mine), g);
                code += channels;
            }
            NAME(store)(dx, (VEC)g);
        }
    }
#endif
    for (; q < n; q++, dx += 2 * channels, dy += channels, code += coded ? channels : 0)
        for (int side = 0; side < 2; side++) {
            T *to = dx + side * channels;
            for (ptrdiff_t c = 0; c < channels; c += LANES) {
                ptrdiff_t left = NAME(least)(channels - c, LANES);
                if (dy + c + LANES > dy_end || to + c + LANES > dx_end) {
                    for (ptrdiff_t i = c; i < c + left; i++)
                        to[i] = !coded ? dy[i] * factor : code[i] == 2 * lower + side ? dy[i] : 0;
                } else {
                    VEC g = NAME(load)(dy + c);
                    NAME(store)(to + c, coded ? NAME(add_chosen)((VEC){0}, g, code + c, LANES, 2 * lower + side)
                                              : g * factor);
                }
            }
        }
}
static __attribute__((noinline, unused)) void NAME(pair_pixels)(T *dx, const T *dx_end, const T *dy, const T *dy_end,
                                                                const uint8_t *code, int lower, ptrdiff_t channels,
                                                                ptrdiff_t n, T factor)
{
    if (code)
        NAME(pair_pixels_of)(1, dx, dx_end, dy, dy_end, code, lower, channels, n, 1);
    else
        NAME(pair_pixels_of)(0, dx, dx_end, dy, dy_end, code, lower, channels, n, factor);
}

#undef NAME
#undef LANES
#undef VEC
#undef IVEC
#undef NEUTRAL
#undef SHUFFLED
#endif
