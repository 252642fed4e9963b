/* Template, included by depthwise.h and depthwise_gradient.h once for each element type T: rows of planes are read and
 * written where they lie, by masked vectors at their edges. */
#define NAME(x) CYCONV_JOIN(x, SUFFIX)
#define VEC NAME(vec)
#define LANES ((ptrdiff_t)(CYCONV_VECTOR_BYTES / sizeof(T)))

/* Which lanes of a vector that begins at `column` lie inside a row of `width`; and a load of those, zeros elsewhere.
 * Lanes outside are not touched, so the vector may begin before the array or end behind it. */
#if defined(__AVX512F__)
typedef uint32_t NAME(inside);
#elif defined(__AVX2__)
typedef NAME(ivec) NAME(inside);
#else
typedef struct {
    ptrdiff_t low, high;
} NAME(inside);
#endif

CYCONV_INLINE NAME(inside) NAME(lanes_inside)(ptrdiff_t column, ptrdiff_t width)
{
    ptrdiff_t low = column < 0 ? -column : 0;
    ptrdiff_t high = width - column < LANES ? width - column : LANES;
    if (low > LANES)
        low = LANES;
    if (high < low)
        high = low;
#if defined(__AVX512F__)
    return ((1u << high) - 1) & ~((1u << low) - 1);
#elif defined(__AVX2__)
    NAME(ivec) mask;
    for (int i = 0; i < LANES; i++)
        mask[i] = i >= low && i < high ? -1 : 0;
    return mask;
#else
    return (NAME(inside)){low, high};
#endif
}

CYCONV_INLINE VEC NAME(load_inside)(const T *p, NAME(inside) lanes)
{
#if defined(__AVX512F__)
    if (sizeof(T) == 4)
        return (VEC)_mm512_maskz_loadu_ps((__mmask16)lanes, p);
    return (VEC)_mm512_maskz_loadu_pd((__mmask8)lanes, p);
#elif defined(__AVX2__)
    if (sizeof(T) == 4)
        return (VEC)_mm256_maskload_ps((const float *)p, (__m256i)lanes);
    return (VEC)_mm256_maskload_pd((const double *)p, (__m256i)lanes);
#else
    VEC v = {0};
    if (lanes.low == 0 && lanes.high == LANES)
        return NAME(load)(p);
    for (ptrdiff_t i = lanes.low; i < lanes.high; i++)
        v[i] = p[i];
    return v;
#endif
}

/* Store the lanes that lie inside. */
CYCONV_INLINE void NAME(store_inside)(T *p, VEC v, NAME(inside) lanes)
{
#if defined(__AVX512F__)
    if (sizeof(T) == 4)
        _mm512_mask_storeu_ps(p, (__mmask16)lanes, (__m512)v);
    else
        _mm512_mask_storeu_pd(p, (__mmask8)lanes, (__m512d)v);
#elif defined(__AVX2__)
    if (sizeof(T) == 4)
        _mm256_maskstore_ps((float *)p, (__m256i)lanes, (__m256)v);
    else
        _mm256_maskstore_pd((double *)p, (__m256i)lanes, (__m256d)v);
#else
    for (ptrdiff_t i = lanes.low; i < lanes.high; i++)
        p[i] = v[i];
#endif
}

/* Pixels of one row under tap s of LANES windows; those at stride 2 come in pairs of taps from two loads. */
#define TAP_LOADS(kernel, stride) ((stride) == 1 ? (kernel) : ((kernel) + 1) / 2 * 2)
CYCONV_INLINE VEC NAME(load_row)(const T *p, const int whole, NAME(inside) lanes)
{
    return whole ? NAME(load)(p) : NAME(load_inside)(p, lanes);
}

/* Planes follow each other in memory, but are read in pieces of rows, which the processor does not foresee. */
#define FETCH_BYTES 8192
CYCONV_INLINE void NAME(fetch_ahead)(const T *x, ptrdiff_t read, T *y, ptrdiff_t written)
{
    const char *from = (const char *)x + FETCH_BYTES, *to = (const char *)y + FETCH_BYTES;
    for (ptrdiff_t i = 0; i < read * (ptrdiff_t)sizeof(T); i += 64)
        __builtin_prefetch(from + i, 0, 3);
    for (ptrdiff_t i = 0; i < written * (ptrdiff_t)sizeof(T); i += 64)
        __builtin_prefetch(to + i, 1, 3);
}

CYCONV_INLINE void NAME(lanes_of_taps)(const int kernel, const int stride, ptrdiff_t column, ptrdiff_t width,
                                       NAME(inside) * inside)
{
    for (int s = 0; s < TAP_LOADS(kernel, stride); s++)
        inside[s] = NAME(lanes_inside)(column + (stride == 1 ? s : s / 2 * 2 + s % 2 * LANES), width);
}

#undef NAME
#undef VEC
#undef LANES
