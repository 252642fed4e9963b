/* Template, included by depthwise.h once for each element type T. */
#define NAME(x) CYCONV_JOIN(x, SUFFIX)
#define VEC NAME(vec)
#define LANES ((ptrdiff_t)(CYCONV_VECTOR_BYTES / sizeof(T)))

/* DEPTHWISE_ROWS output rows x one vector of columns, of which `rows` and `stored` are wanted. line[i]: input row i under
 * the windows, or a row of zeros. Kernel, stride, `whole` (all lanes lie inside) and `narrow` (half a vector is wanted,
 * which at stride 2 comes from one vector) are constants after inlining: no branch stands between the products. */
CYCONV_INLINE void NAME(depthwise_rows)(const int kernel, const int stride, const int whole, const int narrow,
                                        const T *const *line, const T *zeros, ptrdiff_t column, const NAME(inside) * inside, const VEC *w, VEC bias, T floor,
                                        T *y, ptrdiff_t out_width, int rows, ptrdiff_t stored)
{
    VEC acc[DEPTHWISE_ROWS];
    CYCONV_UNROLL
    for (int i = 0; i < DEPTHWISE_ROWS; i++)
        acc[i] = bias;
    CYCONV_UNROLL
    for (int i = 0; i < (DEPTHWISE_ROWS - 1) * stride + kernel; i++) {
        /* Pays where a row is worth seven taps: with fewer, the compiler's arrangement of the registers suffers more. */
        if (kernel == 7 && stride == 1 && line[i] == zeros)
            continue;
        const T *q = line[i] + column;
        VEC v[8];
        if (stride == 1) {
            CYCONV_UNROLL
            for (int s = 0; s < kernel; s++)
                v[s] = NAME(load_row)(q + s, whole, inside[s]);
        } else {
            CYCONV_UNROLL
            for (int s = 0; s < kernel; s += 2) {
                VEC a = NAME(load_row)(q + s, whole, inside[s]);
                VEC b = narrow ? a : NAME(load_row)(q + s + LANES, whole, inside[s + 1]);
                v[s] = NAME(every_second)(a, b, 0);
                v[s + 1] = NAME(every_second)(a, b, 1);
            }
        }
        CYCONV_UNROLL
        for (int s = 0; s < kernel; s++) {
            CYCONV_UNROLL
            for (int o = 0; o < DEPTHWISE_ROWS; o++)
                if (i - o * stride >= 0 && i - o * stride < kernel)
                    acc[o] += w[(i - o * stride) * kernel + s] * v[s];
        }
    }
    if (rows == DEPTHWISE_ROWS && stored == LANES) {
        CYCONV_UNROLL
        for (int o = 0; o < DEPTHWISE_ROWS; o++)
            NAME(store)(y + o * out_width, NAME(at_least)(acc[o], floor));
        return;
    }
    CYCONV_UNROLL
    for (int o = 0; o < DEPTHWISE_ROWS; o++)
        if (o < rows)
            NAME(store_part)(y + o * out_width, NAME(at_least)(acc[o], floor), stored);
}

#define PLANES_ARGUMENTS                                                                                                \
    const T *x, const T *zeros, ptrdiff_t height, ptrdiff_t width, const T *weights, const T *bias, T floor,            \
        ptrdiff_t top, ptrdiff_t left, T *y, ptrdiff_t out_height, ptrdiff_t out_width, ptrdiff_t channels,             \
        ptrdiff_t each, int far, ptrdiff_t begin, ptrdiff_t end

/* Output planes begin .. end (of all images; `channels` in one, `each` from one input plane) by pieces of DEPTHWISE_ROWS
 * rows x one vector. The last vector of a row ends with the row: what it shares with the one before is computed twice.
 * `far`: the results go to memory beyond the caches, which is asked for ahead. */
CYCONV_INLINE void NAME(depthwise_planes_body)(const int kernel, const int stride, PLANES_ARGUMENTS)
{
    const int rows_under = (DEPTHWISE_ROWS - 1) * stride + kernel;
    ptrdiff_t stored = out_width < LANES ? out_width : LANES;
    NAME(inside) first[8], last[8], other[8];
    NAME(lanes_of_taps)(kernel, stride, -left, width, first);
    NAME(lanes_of_taps)(kernel, stride, (out_width - stored) * stride - left, width, last);
    for (ptrdiff_t plane = begin; plane < end; plane++) {
        ptrdiff_t channel = plane % channels;
        const T *from = x + plane / each * height * width, *weight = weights + channel * kernel * kernel;
        T *to = y + plane * out_height * out_width;
        VEC w[49], start = (VEC){0} + bias[channel];
        CYCONV_UNROLL
        for (int i = 0; i < kernel * kernel; i++)
            w[i] = (VEC){0} + weight[i];
        for (ptrdiff_t p = 0; p < out_height; p += DEPTHWISE_ROWS) {
            int rows = out_height - p < DEPTHWISE_ROWS ? (int)(out_height - p) : DEPTHWISE_ROWS;
            const T *line[(DEPTHWISE_ROWS - 1) * 2 + 7];
            NAME(fetch_ahead)(from + p * stride * width, rows * stride * width, to, far ? rows * out_width : 0);
            CYCONV_UNROLL
            for (int i = 0; i < rows_under; i++) {
                ptrdiff_t row = p * stride - top + i;
                line[i] = row >= 0 && row < height ? from + row * width : zeros;
            }
            for (ptrdiff_t q = 0; q < out_width; q += LANES) {
                ptrdiff_t at = q + stored <= out_width ? q : out_width - stored, column = at * stride - left;
                const NAME(inside) *inside = q == 0 ? first : at == out_width - stored ? last : other;
                if (column >= 0 && column + stride * LANES + kernel <= width) {
                    NAME(depthwise_rows)(kernel, stride, 1, 0, line, zeros, column, inside, w, start, floor, to + at, out_width,
                                         rows, stored);
                    continue;
                }
                if (inside == other)
                    NAME(lanes_of_taps)(kernel, stride, column, width, other);
                if (stride == 2 && 2 * stored <= LANES)
                    NAME(depthwise_rows)(kernel, stride, 0, 1, line, zeros, column, inside, w, start, floor, to + at,
                                         out_width, rows, stored);
                else
                    NAME(depthwise_rows)(kernel, stride, 0, 0, line, zeros, column, inside, w, start, floor, to + at,
                                         out_width, rows, stored);
            }
            to += rows * out_width;
        }
    }
}

#define PLANES(kernel, stride)                                                                                          \
    static __attribute__((noinline, unused)) void NAME(depthwise_planes_##kernel##_##stride)(PLANES_ARGUMENTS)          \
    {                                                                                                                   \
        NAME(depthwise_planes_body)(kernel, stride, x, zeros, height, width, weights, bias, floor, top, left, y,        \
                                    out_height, out_width, channels, each, far, begin, end);                            \
    }
PLANES(3, 1)
PLANES(3, 2)
PLANES(5, 1)
PLANES(5, 2)
PLANES(7, 1)
PLANES(7, 2)

/* zeros: at least as many as a row is long. */
static __attribute__((unused)) void NAME(depthwise_planes)(int kernel, int stride, PLANES_ARGUMENTS)
{
#define CASE(k, s)                                                                                                      \
    if (kernel == k && stride == s)                                                                                     \
        NAME(depthwise_planes_##k##_##s)(x, zeros, height, width, weights, bias, floor, top, left, y, out_height,       \
                                         out_width, channels, each, far, begin, end);
    CASE(3, 1) CASE(3, 2) CASE(5, 1) CASE(5, 2) CASE(7, 1) CASE(7, 2)
#undef CASE
}

#undef PLANES
#undef PLANES_ARGUMENTS
#undef NAME
#undef VEC
#undef LANES
