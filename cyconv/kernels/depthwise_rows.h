/* Template, included by depthwise.h once for each element type T. */
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

/* Elements 0, 2, 4, ... of two vectors. */
CYCONV_INLINE VEC NAME(every_second)(VEC a, VEC b)
{
#if defined(__clang__)
    VEC r;
    CYCONV_UNROLL
    for (int i = 0; i < LANES; i++)
        r[i] = i < LANES / 2 ? a[2 * i] : b[2 * i - LANES];
    return r;
#else
    NAME(ivec) mask;
    CYCONV_UNROLL
    for (int i = 0; i < LANES; i++)
        mask[i] = 2 * i;
    return __builtin_shuffle(a, b, mask);
#endif
}

/* `rows` output rows (at most DEPTHWISE_ROWS) x one vector of columns, beginning with (p, q). Kernel, stride and
 * `interior` (all pixels under all windows lie inside) are constants after inlining. */
CYCONV_INLINE void NAME(depthwise_rows)(const int kernel, const int stride, const int interior, const T *x,
                                        ptrdiff_t height, ptrdiff_t width, const VEC *w, T bias, T floor, ptrdiff_t row,
                                        ptrdiff_t column, T *y, ptrdiff_t out_width, int rows, ptrdiff_t stored)
{
    VEC acc[DEPTHWISE_ROWS];
    NAME(inside) low[7], high[7]; /* of the first and, for stride 2, the second vector of each kernel column */
    CYCONV_UNROLL
    for (int i = 0; i < DEPTHWISE_ROWS; i++)
        acc[i] = (VEC){0};
    CYCONV_UNROLL
    for (int s = 0; s < kernel; s++)
        if (!interior) {
            low[s] = NAME(lanes_inside)(column + s, width);
            high[s] = NAME(lanes_inside)(column + s + LANES, width);
        }
    CYCONV_UNROLL
    for (int i = 0; i < (DEPTHWISE_ROWS - 1) * stride + kernel; i++) {
        if (!interior && (row + i < 0 || row + i >= height || i > (rows - 1) * stride + kernel - 1))
            continue;
        const T *line = x + (row + i) * width;
        CYCONV_UNROLL
        for (int s = 0; s < kernel; s++) {
            const T *q = line + column + s;
            VEC v = interior ? NAME(load)(q) : NAME(load_inside)(q, low[s]);
            if (stride == 2)
                v = NAME(every_second)(v, interior ? NAME(load)(q + LANES) : NAME(load_inside)(q + LANES, high[s]));
            CYCONV_UNROLL
            for (int o = 0; o < DEPTHWISE_ROWS; o++)
                if (i - o * stride >= 0 && i - o * stride < kernel)
                    acc[o] += w[(i - o * stride) * kernel + s] * v;
        }
    }
    CYCONV_UNROLL
    for (int o = 0; o < DEPTHWISE_ROWS; o++) {
        if (!interior && o >= rows)
            break;
        VEC sum = NAME(at_least)(acc[o] + bias, floor);
        if (interior || stored == LANES)
            NAME(store)(y + o * out_width, sum);
        else
            NAME(store_part)(y + o * out_width, sum, stored);
    }
}

#define PLANE(kernel, stride)                                                                                           \
    static __attribute__((noinline, unused)) void NAME(depthwise_plane_##kernel##_##stride)(                            \
        const T *x, ptrdiff_t height, ptrdiff_t width, const T *weights, T bias, T floor, ptrdiff_t top,                \
        ptrdiff_t left, T *y, ptrdiff_t out_height, ptrdiff_t out_width)                                                \
    {                                                                                                                   \
        ptrdiff_t stored = out_width < LANES ? out_width : LANES;                                                       \
        VEC w[kernel * kernel];                                                                                         \
        for (int i = 0; i < kernel * kernel; i++)                                                                       \
            w[i] = (VEC){0} + weights[i];                                                                               \
        for (ptrdiff_t p = 0; p < out_height; p += DEPTHWISE_ROWS) {                                                    \
            int rows = out_height - p < DEPTHWISE_ROWS ? (int)(out_height - p) : DEPTHWISE_ROWS;                        \
            ptrdiff_t row = p * stride - top;                                                                           \
            int whole = rows == DEPTHWISE_ROWS && row >= 0 &&                                                           \
                        row + (DEPTHWISE_ROWS - 1) * stride + kernel <= height && stored == LANES;                      \
            for (ptrdiff_t q = 0; q < out_width; q += LANES) {                                                          \
                /* The last vector ends with the row; what it shares with the one before is computed twice. */          \
                ptrdiff_t at = q + stored <= out_width ? q : out_width - stored, column = at * stride - left;           \
                if (whole && column >= 0 && column + stride * LANES + kernel - 1 <= width)                              \
                    NAME(depthwise_rows)(kernel, stride, 1, x, height, width, w, bias, floor, row, column,              \
                                         y + p * out_width + at, out_width, rows, stored);                              \
                else                                                                                                    \
                    NAME(depthwise_rows)(kernel, stride, 0, x, height, width, w, bias, floor, row, column,              \
                                         y + p * out_width + at, out_width, rows, stored);                              \
            }                                                                                                           \
        }                                                                                                               \
    }
PLANE(3, 1)
PLANE(3, 2)
PLANE(5, 1)
PLANE(5, 2)
PLANE(7, 1)
PLANE(7, 2)

static __attribute__((unused)) void NAME(depthwise_plane)(int kernel, int stride, const T *x, ptrdiff_t height,
                                                          ptrdiff_t width, const T *w, T bias, T floor, ptrdiff_t top,
                                                          ptrdiff_t left, T *y, ptrdiff_t out_height,
                                                          ptrdiff_t out_width)
{
#define CASE(k, s)                                                                                                      \
    if (kernel == k && stride == s)                                                                                     \
        NAME(depthwise_plane_##k##_##s)(x, height, width, w, bias, floor, top, left, y, out_height, out_width);
    CASE(3, 1) CASE(3, 2) CASE(5, 1) CASE(5, 2) CASE(7, 1) CASE(7, 2)
#undef CASE
}

/* A strip of 8 output pixels of one row x one vector of channels, all pixels of which lie inside. x: pixel under the
 * first tap; every pixel is loaded once for all windows that share it. Kernel columns and stride are constants. */
CYCONV_INLINE void NAME(depthwise_strip)(const int kernel, const int stride, const T *x, ptrdiff_t row,
                                         ptrdiff_t channels, const T *w, ptrdiff_t rows, VEC bias, T floor, T *y)
{
    VEC acc[8];
    CYCONV_UNROLL
    for (int i = 0; i < 8; i++)
        acc[i] = (VEC){0};
    for (ptrdiff_t r = 0; r < rows; r++) {
        const T *q = x + r * row;
        VEC u[7];
        CYCONV_UNROLL
        for (int s = 0; s < kernel; s++)
            u[s] = NAME(load)(w + (r * kernel + s) * channels);
        CYCONV_UNROLL
        for (int j = 0; j < 7 * stride + kernel; j++) {
            VEC v = NAME(load)(q + j * channels);
            CYCONV_UNROLL
            for (int i = 0; i < 8; i++)
                if (j - i * stride >= 0 && j - i * stride < kernel)
                    acc[i] += u[j - i * stride] * v;
        }
    }
    CYCONV_UNROLL
    for (int i = 0; i < 8; i++)
        NAME(store)(y + i * channels, NAME(at_least)(acc[i] + bias, floor));
}

/* The same for any kernel, stride and dilation: `column` between taps, `step` between the pixels of outputs. */
CYCONV_INLINE void NAME(depthwise_any_strip)(const int pixels, const T *x, ptrdiff_t row, ptrdiff_t column,
                                             ptrdiff_t step, const T *w, ptrdiff_t ldw, ptrdiff_t rows,
                                             ptrdiff_t columns, ptrdiff_t w_row, VEC bias, T floor, T *y, ptrdiff_t ldy,
                                             ptrdiff_t part)
{
    VEC acc[8];
    CYCONV_UNROLL
    for (int i = 0; i < pixels; i++)
        acc[i] = (VEC){0};
    for (ptrdiff_t r = 0; r < rows; r++) {
        const T *q = x + r * row;
        const T *u = w + r * w_row;
        for (ptrdiff_t s = 0; s < columns; s++) {
            VEC v = part == LANES ? NAME(load)(u) : NAME(load_part)(u, part);
            CYCONV_UNROLL
            for (int i = 0; i < pixels; i++)
                acc[i] += v * (part == LANES ? NAME(load)(q + i * step) : NAME(load_part)(q + i * step, part));
            q += column;
            u += ldw;
        }
    }
    CYCONV_UNROLL
    for (int i = 0; i < pixels; i++) {
        VEC sum = NAME(at_least)(acc[i] + bias, floor);
        if (part == LANES)
            NAME(store)(y + i * ldy, sum);
        else
            NAME(store_part)(y + i * ldy, sum, part);
    }
}

/* A strip of 8 pixels x as many whole vectors as there are channels; `columns` = all columns of the kernel. */
static __attribute__((noinline, unused)) void NAME(depthwise_strip_8)(int stride, ptrdiff_t dilation, const T *x,
                                                                      ptrdiff_t row, ptrdiff_t channels, const T *w,
                                                                      ptrdiff_t rows, ptrdiff_t columns, const T *bias,
                                                                      T floor, T *y)
{
#define EACH(call)                                                                                                      \
    for (ptrdiff_t c = 0; c + LANES <= channels; c += LANES)                                                            \
        call;
#define CASE(k, s)                                                                                                      \
    if (columns == k && stride == s && dilation == 1) {                                                                 \
        EACH(NAME(depthwise_strip)(k, s, x + c, row, channels, w + c, rows, NAME(load)(bias + c), floor, y + c))        \
        return;                                                                                                         \
    }
    CASE(3, 1) CASE(3, 2) CASE(5, 1) CASE(5, 2) CASE(7, 1) CASE(7, 2)
    EACH(NAME(depthwise_any_strip)(8, x + c, row, dilation * channels, stride * channels, w + c, channels, rows, columns,
                                   columns * channels, NAME(load)(bias + c), floor, y + c, channels, LANES))
#undef CASE
#undef EACH
}

static __attribute__((noinline, unused)) void NAME(depthwise_strip_1)(const T *x, ptrdiff_t row, ptrdiff_t column,
                                                                      const T *w, ptrdiff_t ldw, ptrdiff_t rows,
                                                                      ptrdiff_t columns, ptrdiff_t w_row, const T *bias,
                                                                      T floor, T *y, ptrdiff_t part)
{
    VEC b = NAME(load_part)(bias, part);
    if (part == LANES)
        NAME(depthwise_any_strip)(1, x, row, column, 0, w, ldw, rows, columns, w_row, b, floor, y, 0, LANES);
    else
        NAME(depthwise_any_strip)(1, x, row, column, 0, w, ldw, rows, columns, w_row, b, floor, y, 0, part);
}

#undef PLANE
#undef NAME
#undef VEC
#undef LANES
