/* Template, included by simd.h once for each element type T (with its integer twin BITS and its name SUFFIX).
 *
 * The register tile.  For i < rows and j < 2 (or 1) vectors
 *
 *     out[i][j] = init[i][j] + sum over t < n of  a[i-th element at table[t]] * b[t][j-th vector]
 *
 * with the sums held in registers.  In the *K-vector* form the scalars a are input pixels, found through a flat table
 * of taps, and b streams packed weights: b[t] = weights of 2 vectors of output channels.  The table knows kernel size,
 * dilation, padding phase, channel stride and memory order; the tile knows none of them.  The weight gradient is the
 * same tile with pixels as the reduction, a product of matrices the same tile with a table of equal steps.
 */
#define NAME(x) CYCONV_JOIN(x, SUFFIX)
#define LANES ((int)(CYCONV_VECTOR_BYTES / sizeof(T)))
#define VEC NAME(vec)

typedef T VEC __attribute__((vector_size(CYCONV_VECTOR_BYTES)));
typedef T NAME(uvec) __attribute__((vector_size(CYCONV_VECTOR_BYTES), aligned(sizeof(T)), may_alias));
typedef BITS NAME(ivec) __attribute__((vector_size(CYCONV_VECTOR_BYTES)));

CYCONV_INLINE VEC NAME(load)(const T *p) { return *(const NAME(uvec) *)p; }
CYCONV_INLINE void NAME(store)(T *p, VEC v) { *(NAME(uvec) *)p = v; }

/* rows = row_pairs x columns scalars: `columns` at distance `step` from each other, and the same again at distance
 * `second` when row_pairs is 2 (two rows of a narrow map make one full tile). `far`: ask for the scalars `ahead` behind
 * those of each step, which a later tile will read. 1: they lie side by side; and for later weights. 2: each lies in a row
 * of its own, along which the steps go: the rows take turns, and each line of them is asked for once, by one of 16 steps.
 * (Asked for all at once between two tiles, they would keep the next one waiting.) Constants after inlining. */
CYCONV_INLINE void NAME(tile_body)(const int rows, const int columns, const int vectors, const int far, const T *a,
                                   ptrdiff_t step, ptrdiff_t second, const int32_t *table, ptrdiff_t n, const T *b,
                                   ptrdiff_t ldb, const T *init, ptrdiff_t ldi, T *out, ptrdiff_t ldo,
                                   ptrdiff_t out_second, ptrdiff_t ahead)
{
    VEC acc[2 * CYCONV_TILE_PIXELS];
    CYCONV_UNROLL
    for (int i = 0; i < rows * columns * vectors; i++)
        acc[i] = (VEC){0};
    for (ptrdiff_t t = 0; t < n; t++) {
        const T *q = a + table[t];
        VEC w[2];
        CYCONV_UNROLL
        for (int j = 0; j < vectors; j++)
            w[j] = NAME(load)(b + j * LANES);
        /* One vector has a load for each product: more of them cost time, which near weights do not give back. */
        if (far == 2) {
            const int turn = (int)sizeof(T) / 4;
            CYCONV_UNROLL
            for (int i = 0; i < turn; i++)
                __builtin_prefetch(q + ahead + ((t * turn + i) & 15) * step, 0, 2);
        } else if (far && (vectors > 1 || ahead)) {
            CYCONV_UNROLL
            for (int i = 0; i < columns * (int)sizeof(T); i += 64)
                __builtin_prefetch((const char *)(q + ahead) + i);
            CYCONV_UNROLL
            for (int i = 0; i < vectors * CYCONV_VECTOR_BYTES; i += 64)
                __builtin_prefetch((const char *)b + FETCH_AHEAD + i);
        }
        b += ldb;
        CYCONV_UNROLL
        for (int r = 0; r < rows; r++) {
            const T *qr = q + r * second;
            CYCONV_UNROLL
            for (int i = 0; i < columns; i++) {
                /* One vector: a load for each product, so addresses must come cheaply. Left to itself, the compiler keeps
                 * one for each column, most of them in memory. */
                if (vectors == 1 && i > 0 && i % 3 == 0) {
                    qr += 3 * step;
                    __asm__("" : "+r"(qr));
                }
                T s = qr[(vectors == 1 ? i % 3 : i) * step];
                CYCONV_UNROLL
                for (int j = 0; j < vectors; j++)
                    acc[(r * columns + i) * vectors + j] += s * w[j];
            }
        }
    }
    CYCONV_UNROLL
    for (int r = 0; r < rows; r++) {
        CYCONV_UNROLL
        for (int i = 0; i < columns; i++) {
            CYCONV_UNROLL
            for (int j = 0; j < vectors; j++)
                NAME(store)(out + r * out_second + i * ldo + j * LANES,
                            acc[(r * columns + i) * vectors + j] +
                                NAME(load)(init + r * (ldi ? out_second : 0) + i * ldi + j * LANES));
        }
    }
}

#define TILE_ARGUMENTS                                                                                                  \
    const T *a, ptrdiff_t step, ptrdiff_t second, const int32_t *table, ptrdiff_t n, const T *b, ptrdiff_t ldb,         \
        const T *init, ptrdiff_t ldi, T *out, ptrdiff_t ldo, ptrdiff_t out_second
typedef void (*NAME(tile_function))(TILE_ARGUMENTS);

#define TILE(r, c, v)                                                                                                   \
    static __attribute__((noinline, unused)) void CYCONV_JOIN(NAME(tile_##r##_##c), v)(TILE_ARGUMENTS)                  \
    {                                                                                                                   \
        NAME(tile_body)(r, c, v, 0, a, step, second, table, n, b, ldb, init, ldi, out, ldo, out_second, 0);             \
    }
#define FETCHING_TILE(r, c, v)                                                                                          \
    static __attribute__((noinline, unused)) void CYCONV_JOIN(NAME(fetching_tile_##c), v)(TILE_ARGUMENTS, ptrdiff_t ahead) \
    {                                                                                                                   \
        NAME(tile_body)(r, c, v, 1, a, step, second, table, n, b, ldb, init, ldi, out, ldo, out_second, ahead);         \
    }
#define FUNCTION(r, c, v) CYCONV_JOIN(NAME(tile_##r##_##c), v)

#if CYCONV_TILE_PIXELS == 14
#define TILE_HALF(each, r, v)                                                                                           \
    each(r, 1, v) each(r, 2, v) each(r, 3, v) each(r, 4, v) each(r, 5, v) each(r, 6, v) each(r, 7, v)
#define TILE_WHOLE(each, r, v)                                                                                          \
    TILE_HALF(each, r, v) each(r, 8, v) each(r, 9, v) each(r, 10, v) each(r, 11, v) each(r, 12, v) each(r, 13, v)       \
    each(r, 14, v)
#else
#define TILE_HALF(each, r, v) each(r, 1, v) each(r, 2, v) each(r, 3, v)
#define TILE_WHOLE(each, r, v) TILE_HALF(each, r, v) each(r, 4, v) each(r, 5, v) each(r, 6, v)
#endif

TILE_WHOLE(TILE, 1, 2)
TILE_HALF(TILE, 2, 2)
TILE_WHOLE(TILE, 1, 1)
TILE_WHOLE(TILE, 2, 1)

#define ENTRY(r, c, v) [r - 1][v - 1][c - 1] = FUNCTION(r, c, v),
static const NAME(tile_function) NAME(tiles)[2][2][CYCONV_TILE_PIXELS] __attribute__((unused)) = {
    TILE_WHOLE(ENTRY, 1, 2) TILE_HALF(ENTRY, 2, 2) TILE_WHOLE(ENTRY, 1, 1) TILE_WHOLE(ENTRY, 2, 1)};

/* rows 1 or 2, columns 1 .. CYCONV_TILE_PIXELS (half of that for 2 rows of 2 vectors), vectors 1 or 2. */
CYCONV_INLINE void NAME(tile)(int rows, int columns, int vectors, TILE_ARGUMENTS)
{
    NAME(tiles)[rows - 1][vectors - 1][columns - 1](a, step, second, table, n, b, ldb, init, ldi, out, ldo, out_second);
}

/* The same for one row, where weights, or pixels, come from far away. */
typedef void (*NAME(fetching_tile_function))(TILE_ARGUMENTS, ptrdiff_t ahead);
TILE_WHOLE(FETCHING_TILE, 1, 1)
TILE_WHOLE(FETCHING_TILE, 1, 2)
#define FETCHING_ENTRY(r, c, v) [v - 1][c - 1] = CYCONV_JOIN(NAME(fetching_tile_##c), v),
static const NAME(fetching_tile_function) NAME(fetching_tiles)[2][CYCONV_TILE_PIXELS] __attribute__((unused)) = {
    TILE_WHOLE(FETCHING_ENTRY, 1, 1) TILE_WHOLE(FETCHING_ENTRY, 1, 2)};

CYCONV_INLINE void NAME(fetching_tile)(int columns, int vectors, const T *a, ptrdiff_t step, const int32_t *table,
                                       ptrdiff_t n, const T *b, ptrdiff_t ldb, const T *init, ptrdiff_t ldi, T *out,
                                       ptrdiff_t ldo, ptrdiff_t ahead)
{
    NAME(fetching_tiles)[vectors - 1][columns - 1](a, step, 0, table, n, b, ldb, init, ldi, out, ldo, 0, ahead);
}

/* max(v, floor), NaN passing. */
CYCONV_INLINE VEC NAME(at_least)(VEC v, T floor)
{
    VEC least = (VEC){0} + floor;
    /* x86: of a NaN and a number the second operand comes back. */
#if defined(__AVX512F__)
    return sizeof(T) == 4 ? (VEC)_mm512_max_ps((__m512)least, (__m512)v) : (VEC)_mm512_max_pd((__m512d)least, (__m512d)v);
#elif defined(__AVX2__)
    return sizeof(T) == 4 ? (VEC)_mm256_max_ps((__m256)least, (__m256)v) : (VEC)_mm256_max_pd((__m256d)least, (__m256d)v);
#elif defined(__SSE2__)
    return sizeof(T) == 4 ? (VEC)_mm_max_ps((__m128)least, (__m128)v) : (VEC)_mm_max_pd((__m128d)least, (__m128d)v);
#else
    NAME(ivec) below = v < floor;
    return (VEC)(((NAME(ivec))v & ~below) | ((NAME(ivec))least & below));
#endif
}

/* Load the first n <= LANES elements, zeros behind them. */
CYCONV_INLINE VEC NAME(load_part)(const T *p, ptrdiff_t n)
{
#if defined(__AVX512F__)
    if (sizeof(T) == 4)
        return (VEC)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
    return (VEC)_mm512_maskz_loadu_pd((__mmask8)((1u << n) - 1), p);
#else
    VEC v = {0};
    for (ptrdiff_t i = 0; i < n; i++)
        v[i] = p[i];
    return v;
#endif
}

/* Store the first n <= LANES elements of v. */
CYCONV_INLINE void NAME(store_part)(T *p, VEC v, ptrdiff_t n)
{
#if defined(__AVX512F__)
    if (sizeof(T) == 4)
        _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), (__m512)v);
    else
        _mm512_mask_storeu_pd(p, (__mmask8)((1u << n) - 1), (__m512d)v);
#else
    for (ptrdiff_t i = 0; i < n; i++)
        p[i] = v[i];
#endif
}

/* n zeros; calling memset for a few costs as much as a short row. */
CYCONV_INLINE void NAME(clear_row)(T *to, ptrdiff_t n)
{
    VEC zero = {0};
    for (; n > LANES; n -= LANES, to += LANES)
        NAME(store)(to, zero);
    if (n > 0)
        NAME(store_part)(to, zero, n);
}

/* A row of n elements; calling memcpy for it costs as much as copying 64. The last vector overlaps the one before. */
CYCONV_INLINE void NAME(copy_row)(T *to, const T *from, ptrdiff_t n)
{
    if (n < LANES) {
        NAME(store_part)(to, NAME(load_part)(from, n), n);
        return;
    }
    for (ptrdiff_t i = 0; i < n - LANES; i += LANES)
        NAME(store)(to + i, NAME(load)(from + i));
    NAME(store)(to + n - LANES, NAME(load)(from + n - LANES));
}

/* Elements odd, odd + 2, odd + 4, ... of two vectors. */
CYCONV_INLINE VEC NAME(every_second)(VEC a, VEC b, const int odd)
{
#if defined(__clang__)
    VEC r;
    CYCONV_UNROLL
    for (int i = 0; i < LANES; i++)
        r[i] = i < LANES / 2 ? a[2 * i + odd] : b[2 * i + odd - LANES];
    return r;
#else
    NAME(ivec) mask;
    CYCONV_UNROLL
    for (int i = 0; i < LANES; i++)
        mask[i] = 2 * i + odd;
    return __builtin_shuffle(a, b, mask);
#endif
}

/* A row of n elements in two halves: those at even places to `even`, the others to `odd`. */
CYCONV_INLINE void NAME(split_pairs)(T *even, T *odd, const T *from, ptrdiff_t n)
{
    ptrdiff_t i = 0;
    while (i + 2 * LANES <= n) {
        VEC a = NAME(load)(from + i), b = NAME(load)(from + i + LANES);
        NAME(store)(even + i / 2, NAME(every_second)(a, b, 0));
        NAME(store)(odd + i / 2, NAME(every_second)(a, b, 1));
        i += 2 * LANES;
        /* The last pair of vectors ends with the row, or one element before: both begin at an even place. */
        if (i < n - 1 && i + 2 * LANES > n)
            i = (n - 2 * LANES) / 2 * 2;
    }
#if defined(__AVX512F__)
    if (i < n) {
        ptrdiff_t left = n - i, low = left < LANES ? left : LANES;
        VEC a = NAME(load_part)(from + i, low), b = NAME(load_part)(from + i + low, left - low);
        NAME(store_part)(even + i / 2, NAME(every_second)(a, b, 0), (left + 1) / 2);
        NAME(store_part)(odd + i / 2, NAME(every_second)(a, b, 1), left / 2);
    }
#else
    for (; i < n; i++)
        *(i % 2 ? odd + i / 2 : even + i / 2) = from[i];
#endif
}

/* The pixel-vector form.  For k < channels and j < vectors
 *
 *     out[k * plane + to[j] + lane] = bias[k] + sum over t < n of  w[t * channels + k] x[table[t] + from[j] + lane]
 *
 * then max(., floor): 0 for a ReLU, -infinity for none; NaN passes. `width` lanes of each vector are stored. */
CYCONV_INLINE void NAME(pixel_tile_body)(const int channels, const int vectors, const T *x, const T *ahead,
                                         const ptrdiff_t *from, const int32_t *table, ptrdiff_t n, const T *w,
                                         const T *bias, T floor, T *out, ptrdiff_t plane, const ptrdiff_t *to,
                                         ptrdiff_t width)
{
    VEC acc[24]; /* at most, for any number of channels */
    const T *base[8];
    CYCONV_UNROLL
    for (int j = 0; j < vectors; j++)
        base[j] = x + from[j];
    CYCONV_UNROLL
    for (int i = 0; i < channels * vectors; i++)
        acc[i] = (VEC){0} + bias[i / vectors];
    for (ptrdiff_t t = 0; t < n; t++) {
        ptrdiff_t at = table[t];
        VEC v[8];
        __builtin_prefetch(ahead + at);
        CYCONV_UNROLL
        for (int j = 0; j < vectors; j++)
            v[j] = NAME(load)(base[j] + at);
        CYCONV_UNROLL
        for (int k = 0; k < channels; k++) {
            T s = w[k];
            CYCONV_UNROLL
            for (int j = 0; j < vectors; j++)
                acc[k * vectors + j] += s * v[j];
        }
        w += channels;
    }
    if (width == LANES) {
        CYCONV_UNROLL
        for (int i = 0; i < channels * vectors; i++)
            NAME(store)(out + i / vectors * plane + to[i % vectors], NAME(at_least)(acc[i], floor));
    } else {
        CYCONV_UNROLL
        for (int i = 0; i < channels * vectors; i++)
            NAME(store_part)(out + i / vectors * plane + to[i % vectors], NAME(at_least)(acc[i], floor), width);
    }
}

#define PIXEL_ARGUMENTS                                                                                                 \
    const T *x, const T *ahead, const ptrdiff_t *from, const int32_t *table, ptrdiff_t n, const T *w, const T *bias,    \
        T floor, T *out, ptrdiff_t plane, const ptrdiff_t *to, ptrdiff_t width
#define PIXEL_TILE(k)                                                                                                   \
    static __attribute__((noinline, unused)) void NAME(pixel_tile_##k)(PIXEL_ARGUMENTS)                                 \
    {                                                                                                                   \
        NAME(pixel_tile_body)(k, PIXEL_VECTORS(k), x, ahead, from, table, n, w, bias, floor, out, plane, to, width);           \
    }
PIXEL_TILE(1)
PIXEL_TILE(2)
PIXEL_TILE(3)
PIXEL_TILE(4)
PIXEL_TILE(5)
PIXEL_TILE(6)
#if PIXEL_CHANNELS == 8
PIXEL_TILE(7)
PIXEL_TILE(8)
#endif
CYCONV_INLINE void NAME(pixel_tile)(int channels, PIXEL_ARGUMENTS)
{
    static void (*const tiles[PIXEL_CHANNELS])(PIXEL_ARGUMENTS) = {
        NAME(pixel_tile_1), NAME(pixel_tile_2), NAME(pixel_tile_3), NAME(pixel_tile_4), NAME(pixel_tile_5),
        NAME(pixel_tile_6),
#if PIXEL_CHANNELS == 8
        NAME(pixel_tile_7), NAME(pixel_tile_8),
#endif
    };
    tiles[channels - 1](x, ahead, from, table, n, w, bias, floor, out, plane, to, width);
}

/* Elements i of a and b alternately: the low half of the pairs, then the high half. log2(LANES) rounds of it transpose. */
CYCONV_INLINE VEC NAME(pairs)(VEC a, VEC b, const int high)
{
    NAME(ivec) mask;
    CYCONV_UNROLL
    for (int i = 0; i < LANES; i++)
        mask[i] = (i & 1) * LANES + i / 2 + high * (LANES / 2);
#if defined(__clang__)
    VEC r;
    CYCONV_UNROLL
    for (int i = 0; i < LANES; i++)
        r[i] = mask[i] < LANES ? a[mask[i]] : b[mask[i] - LANES];
    return r;
#else
    return __builtin_shuffle(a, b, mask);
#endif
}

#if PAIR_CHANNELS
/* Two of these at once, of pixels that stand alternately in the output: those of a row of a transposed convolution of
 * stride 2, whose even places (a) and odd places (b) have taps and weights of their own, as many.
 *
 *     to[j][k * plane[j] + 2 lane + phase] = bias[k] + sum over t < n of w_phase[t * channels + k]
 *                                                                    x[table_phase[t] + from[j] + lane]
 *
 * shared: both have one table, and load its pixels once. */
CYCONV_INLINE void NAME(pair_tile_body)(const int channels, const int shared, const T *x,
                                        const ptrdiff_t *from, const int32_t *table_a, const int32_t *table_b,
                                        ptrdiff_t n, const T *w_a, const T *w_b, const T *bias, T floor,
                                        T *const *to, const ptrdiff_t *plane, ptrdiff_t width)
{
    VEC a[PAIR_CHANNELS * PAIR_VECTORS], b[PAIR_CHANNELS * PAIR_VECTORS];
    const T *base[PAIR_VECTORS];
    CYCONV_UNROLL
    for (int j = 0; j < PAIR_VECTORS; j++)
        base[j] = x + from[j];
    CYCONV_UNROLL
    for (int i = 0; i < channels * PAIR_VECTORS; i++) {
        T *line = to[i % PAIR_VECTORS] + i / PAIR_VECTORS * plane[i % PAIR_VECTORS];
        a[i] = b[i] = (VEC){0} + bias[i / PAIR_VECTORS];
        __builtin_prefetch(line, 1);
        __builtin_prefetch(line + LANES, 1);
    }
    for (ptrdiff_t t = 0; t < n; t++) {
        ptrdiff_t at_a = table_a[t], at_b = shared ? 0 : table_b[t];
        VEC u[PAIR_VECTORS], v[PAIR_VECTORS];
        CYCONV_UNROLL
        for (int j = 0; j < PAIR_VECTORS; j++) {
            u[j] = NAME(load)(base[j] + at_a);
            v[j] = shared ? u[j] : NAME(load)(base[j] + at_b);
        }
        CYCONV_UNROLL
        for (int k = 0; k < channels; k++) {
            T r = w_a[k], s = w_b[k];
            CYCONV_UNROLL
            for (int j = 0; j < PAIR_VECTORS; j++) {
                a[k * PAIR_VECTORS + j] += r * u[j];
                b[k * PAIR_VECTORS + j] += s * v[j];
            }
        }
        w_a += channels;
        w_b += channels;
    }
    CYCONV_UNROLL
    for (int i = 0; i < channels * PAIR_VECTORS; i++) {
        T *line = to[i % PAIR_VECTORS] + i / PAIR_VECTORS * plane[i % PAIR_VECTORS];
        VEC u = NAME(at_least)(a[i], floor), v = NAME(at_least)(b[i], floor);
        if (width == LANES) {
            NAME(store)(line, NAME(pairs)(u, v, 0));
            NAME(store)(line + LANES, NAME(pairs)(u, v, 1));
        } else {
            ptrdiff_t low = 2 * width < LANES ? 2 * width : LANES;
            NAME(store_part)(line, NAME(pairs)(u, v, 0), low);
            NAME(store_part)(line + low, NAME(pairs)(u, v, 1), 2 * width - low);
        }
    }
}

#define PAIR_ARGUMENTS                                                                                                  \
    const T *x, const ptrdiff_t *from, const int32_t *table_a, const int32_t *table_b, ptrdiff_t n, const T *w_a,       \
        const T *w_b, const T *bias, T floor, T *const *to, const ptrdiff_t *plane, ptrdiff_t width
#define PAIR_TILE(k, shared)                                                                                            \
    static __attribute__((noinline, unused)) void NAME(pair_tile_##k##_##shared)(PAIR_ARGUMENTS)                        \
    {                                                                                                                   \
        NAME(pair_tile_body)(k, shared, x, from, table_a, table_b, n, w_a, w_b, bias, floor, to, plane, width);         \
    }
PAIR_TILE(1, 0)
PAIR_TILE(2, 0)
PAIR_TILE(3, 0)
PAIR_TILE(4, 0)
PAIR_TILE(1, 1)
PAIR_TILE(2, 1)
PAIR_TILE(3, 1)
PAIR_TILE(4, 1)
#undef PAIR_TILE
#endif
/* channels 1 .. PAIR_CHANNELS, of which some instruction sets have none; one table twice is shared. */
CYCONV_INLINE void NAME(pair_tile)(int channels, const T *x, const ptrdiff_t *from, const int32_t *table_a,
                                   const int32_t *table_b, ptrdiff_t n, const T *w_a, const T *w_b, const T *bias,
                                   T floor, T *const *to, const ptrdiff_t *plane, ptrdiff_t width)
{
#if PAIR_CHANNELS
    static void (*const tiles[2][PAIR_CHANNELS])(PAIR_ARGUMENTS) = {
        {NAME(pair_tile_1_0), NAME(pair_tile_2_0), NAME(pair_tile_3_0), NAME(pair_tile_4_0)},
        {NAME(pair_tile_1_1), NAME(pair_tile_2_1), NAME(pair_tile_3_1), NAME(pair_tile_4_1)}};
    tiles[table_a == table_b][channels - 1](x, from, table_a, table_b, n, w_a, w_b, bias, floor, to, plane, width);
#undef PAIR_ARGUMENTS
#endif
}

/* columns of LANES x LANES elements: in-register transpose. */
CYCONV_INLINE void NAME(transpose_registers)(VEC *v)
{
#if defined(__AVX512F__)
    /* Shuffles inside of 128 bits, and then of 128 bits each, take half the time of those of single elements. */
    if (sizeof(T) == 4) {
        __m512 w[16], *u = (__m512 *)v;
        CYCONV_UNROLL
        for (int g = 0; g < 16; g += 4) {
            __m512d a = (__m512d)_mm512_unpacklo_ps(u[g], u[g + 1]), b = (__m512d)_mm512_unpackhi_ps(u[g], u[g + 1]);
            __m512d c = (__m512d)_mm512_unpacklo_ps(u[g + 2], u[g + 3]);
            __m512d d = (__m512d)_mm512_unpackhi_ps(u[g + 2], u[g + 3]);
            w[g] = (__m512)_mm512_unpacklo_pd(a, c);
            w[g + 1] = (__m512)_mm512_unpackhi_pd(a, c);
            w[g + 2] = (__m512)_mm512_unpacklo_pd(b, d);
            w[g + 3] = (__m512)_mm512_unpackhi_pd(b, d);
        }
        CYCONV_UNROLL
        for (int j = 0; j < 4; j++) {
            __m512 a = _mm512_shuffle_f32x4(w[j], w[4 + j], 0x44), b = _mm512_shuffle_f32x4(w[j], w[4 + j], 0xee);
            __m512 c = _mm512_shuffle_f32x4(w[8 + j], w[12 + j], 0x44);
            __m512 d = _mm512_shuffle_f32x4(w[8 + j], w[12 + j], 0xee);
            u[j] = _mm512_shuffle_f32x4(a, c, 0x88);
            u[4 + j] = _mm512_shuffle_f32x4(a, c, 0xdd);
            u[8 + j] = _mm512_shuffle_f32x4(b, d, 0x88);
            u[12 + j] = _mm512_shuffle_f32x4(b, d, 0xdd);
        }
        return;
    }
#endif
    CYCONV_UNROLL
    for (int round = 1; round < LANES; round *= 2) {
        VEC next[LANES];
        CYCONV_UNROLL
        for (int i = 0; i < LANES / 2; i++) {
            next[2 * i] = NAME(pairs)(v[i], v[i + LANES / 2], 0);
            next[2 * i + 1] = NAME(pairs)(v[i], v[i + LANES / 2], 1);
        }
        CYCONV_UNROLL
        for (int i = 0; i < LANES; i++)
            v[i] = next[i];
    }
}

/* to[j * ldt + i] = from[i * ldf + j] for i < rows, j < columns. */
static __attribute__((noinline, unused)) void NAME(transpose)(const T *from, ptrdiff_t ldf, ptrdiff_t rows,
                                                              ptrdiff_t columns, T *to, ptrdiff_t ldt)
{
    for (ptrdiff_t y = 0; y < columns; y += LANES) {
        /* The last blocks overlap those before, where there are any. */
        ptrdiff_t j = y > 0 && y > columns - LANES ? columns - LANES : y;
        ptrdiff_t wide = columns - j < LANES ? columns - j : LANES;
        for (ptrdiff_t x = 0; x < rows; x += LANES) {
            ptrdiff_t i = x > 0 && x > rows - LANES ? rows - LANES : x;
            ptrdiff_t high = rows - i < LANES ? rows - i : LANES;
            VEC v[LANES];
            if (wide == LANES && high == LANES) {
                CYCONV_UNROLL
                for (int r = 0; r < LANES; r++)
                    v[r] = NAME(load)(from + (i + r) * ldf + j);
                NAME(transpose_registers)(v);
                CYCONV_UNROLL
                for (int r = 0; r < LANES; r++)
                    NAME(store)(to + (j + r) * ldt + i, v[r]);
            }
#if defined(__AVX512F__)
            else if (high == LANES) {
                /* The taps of a small kernel: few columns of many rows. */
                CYCONV_UNROLL
                for (int r = 0; r < LANES; r++)
                    v[r] = NAME(load_part)(from + (i + r) * ldf + j, wide);
                NAME(transpose_registers)(v);
                CYCONV_UNROLL
                for (int r = 0; r < LANES; r++)
                    if (r < wide)
                        NAME(store)(to + (j + r) * ldt + i, v[r]);
            } else {
                /* Narrow maps are all remainder: part loads and stores instead of single elements. */
                for (int r = 0; r < LANES; r++)
                    v[r] = r < high ? NAME(load_part)(from + (i + r) * ldf + j, wide) : (VEC){0};
                NAME(transpose_registers)(v);
                for (int r = 0; r < wide; r++)
                    NAME(store_part)(to + (j + r) * ldt + i, v[r], high);
            }
#else
            else
                for (ptrdiff_t c = 0; c < wide; c++)
                    for (ptrdiff_t r = 0; r < high; r++)
                        to[(j + c) * ldt + i + r] = from[(i + r) * ldf + j + c];
#endif
        }
    }
}

/* to += the sum of n pixels of 1 or 2 vectors of channels, which is added up by itself first. */
static __attribute__((noinline, unused)) void NAME(add_pixels)(const T *pixels, ptrdiff_t n, ptrdiff_t ld, T *to)
{
    for (ptrdiff_t k = 0; k < ld; k += LANES) {
        VEC acc[4] = {{0}};
        ptrdiff_t i = 0;
        for (; i + 4 <= n; i += 4) {
            CYCONV_UNROLL
            for (int j = 0; j < 4; j++)
                acc[j] += NAME(load)(pixels + (i + j) * ld + k);
        }
        for (; i < n; i++)
            acc[0] += NAME(load)(pixels + i * ld + k);
        NAME(store)(to + k, NAME(load)(to + k) + ((acc[0] + acc[1]) + (acc[2] + acc[3])));
    }
}

/* x[i] = max(x[i], 0), NaN passing. */
static __attribute__((noinline, unused)) void NAME(rectify)(T *x, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i++)
        x[i] = x[i] < 0 ? 0 : x[i];
}

/* Multiply-adds on registers only, `n` rounds of FMA_CHAINS vectors: what the arithmetic units can do at best. */
#define FMA_CHAINS (CYCONV_TILE_PIXELS == 14 ? 24 : 12)
static __attribute__((noinline, unused)) T NAME(burn)(ptrdiff_t n, T factor)
{
    VEC acc[FMA_CHAINS], f, sum;
    for (int j = 0; j < LANES; j++)
        f[j] = factor;
    CYCONV_UNROLL
    for (int i = 0; i < FMA_CHAINS; i++)
        acc[i] = f + (T)i;
    for (ptrdiff_t t = 0; t < n; t++) {
        CYCONV_UNROLL
        for (int i = 0; i < FMA_CHAINS; i++)
            acc[i] = acc[i] * f + f;
    }
    sum = acc[0];
    CYCONV_UNROLL
    for (int i = 1; i < FMA_CHAINS; i++)
        sum += acc[i];
    return sum[0];
}

#undef TILE
#undef FETCHING_TILE
#undef FETCHING_ENTRY
#undef TILE_ARGUMENTS
#undef PIXEL_TILE
#undef PIXEL_ARGUMENTS
#undef FUNCTION
#undef ENTRY
#undef FMA_CHAINS
#undef NAME
#undef LANES
#undef VEC
