/* Template, included by depthwise_gradient.h once for each element type T. */
#define NAME(x) CYCONV_JOIN(x, SUFFIX)
#define VEC NAME(vec)
#define LANES ((ptrdiff_t)(CYCONV_VECTOR_BYTES / sizeof(T)))

/* Rows of windows that share the loads of the pixels under them; what is left at the end goes by 3 and by 1: zeros
 * instead of missing rows of the gradient would meet pixels that may be infinite. With 16 registers, seven rows would
 * not stay in them. */
#if CYCONV_TILE_PIXELS == 14
#define GRADIENT_ROWS 7
#else
#define GRADIENT_ROWS 3
#endif

/* Sums of kernel rows first .. first + rows over one vector of windows of `count` rows. line[i]: input row i under the
 * windows, or zeros; grad: their first row of the gradient of the output. */
CYCONV_INLINE void NAME(gradient_piece)(const int kernel, const int stride, const int count, const int first,
                                        const int rows, const int whole, const T *const *line, ptrdiff_t column,
                                        const NAME(inside) * inside, const T *grad, ptrdiff_t out_width,
                                        NAME(inside) lanes, VEC *acc, VEC *bias)
{
    VEC d[GRADIENT_ROWS], sum = {0};
    CYCONV_UNROLL
    for (int o = 0; o < count; o++) {
        d[o] = NAME(load_row)(grad + o * out_width, whole, lanes);
        sum += d[o];
    }
    if (first == 0)
        *bias += sum;
    CYCONV_UNROLL
    for (int i = first; i < first + rows + (count - 1) * stride; i++) {
        const T *q = line[i] + column;
        VEC odd = {0};
        /* One vector of pixels at a time: all sums and the rows of the gradient fill the registers. */
        CYCONV_UNROLL
        for (int s = 0; s < kernel; s++) {
            VEC v;
            if (stride == 1) {
                v = NAME(load_row)(q + s, whole, inside[s]);
            } else if (s % 2 == 0) {
                VEC a = NAME(load_row)(q + s, whole, inside[s]);
                VEC b = NAME(load_row)(q + s + LANES, whole, inside[s + 1]);
                v = NAME(every_second)(a, b, 0);
                odd = NAME(every_second)(a, b, 1);
            } else {
                v = odd;
            }
            CYCONV_UNROLL
            for (int o = 0; o < count; o++) {
                int r = i - o * stride - first;
                if (r >= 0 && r < rows)
                    acc[r * kernel + s] += d[o] * v;
            }
        }
    }
}

/* Which lanes of the loads of a vector of windows lie inside, and which of the windows themselves. */
typedef struct {
    NAME(inside) taps[8], windows;
} NAME(edge);

CYCONV_INLINE NAME(edge) NAME(edge_at)(const int kernel, const int stride, ptrdiff_t at, ptrdiff_t left,
                                       ptrdiff_t width, ptrdiff_t out_width)
{
    NAME(edge) edge;
    ptrdiff_t column = at * stride - left, end = out_width * stride - left;
    for (int s = 0; s < TAP_LOADS(kernel, stride); s++) {
        /* Pixels behind the last window meet zeros of the gradient, but may be infinite. */
        ptrdiff_t tap = stride == 1 ? s : s / 2 * 2, behind = end + tap < width ? end + tap : width;
        edge.taps[s] = NAME(lanes_inside)(column + tap + (stride == 1 ? 0 : s % 2 * LANES), behind);
    }
    edge.windows = NAME(lanes_inside)(at, out_width);
    return edge;
}

/* One group of kernel rows over all columns of a block of rows; the sums stay in registers meanwhile. */
CYCONV_INLINE void NAME(gradient_block)(const int kernel, const int stride, const int count, const int first,
                                        const T *const *line, const T *grad, ptrdiff_t width, ptrdiff_t left,
                                        ptrdiff_t out_width, const NAME(edge) * begin, const NAME(edge) * end,
                                        VEC *sums, VEC *bias)
{
    const int group = PLANE_GROUP(kernel), rows = kernel - first < group ? kernel - first : group;
    VEC acc[21], b = *bias;
    const ptrdiff_t last = (out_width - 1) / LANES * LANES;
    CYCONV_UNROLL
    for (int i = 0; i < rows * kernel; i++)
        acc[i] = sums[first * kernel + i];
    /* One copy of the unrolled piece for the edges and one for the interior: they are large. */
    for (ptrdiff_t q = 0, column = -left; q < out_width; q += LANES, column += stride * LANES) {
        if (q > 0 && q < last && column >= 0 && column + stride * LANES + kernel <= width) {
            NAME(gradient_piece)(kernel, stride, count, first, rows, 1, line, column, end->taps, grad + q, out_width,
                                 end->windows, acc, &b);
        } else {
            NAME(edge) other;
            const NAME(edge) *edge = q == 0 ? begin : q == last ? end : &other;
            if (edge == &other)
                other = NAME(edge_at)(kernel, stride, q, left, width, out_width);
            NAME(gradient_piece)(kernel, stride, count, first, rows, 0, line, column, edge->taps, grad + q, out_width,
                                 edge->windows, acc, &b);
        }
    }
    CYCONV_UNROLL
    for (int i = 0; i < rows * kernel; i++)
        sums[first * kernel + i] = acc[i];
    *bias = b;
}

/* All kernel rows over `count` rows of windows, the first of which begins at input row `row` of plane x. */
CYCONV_INLINE void NAME(gradient_band)(const int kernel, const int stride, const int count, const T *x,
                                       const T *zeros, ptrdiff_t row, ptrdiff_t height, ptrdiff_t width,
                                       ptrdiff_t left, const T *grad, ptrdiff_t out_width, const NAME(edge) * begin,
                                       const NAME(edge) * end, VEC *sums)
{
    const T *line[(GRADIENT_ROWS - 1) * 2 + 7];
    CYCONV_UNROLL
    for (int i = 0; i < (count - 1) * stride + kernel; i++)
        line[i] = row + i >= 0 && row + i < height ? x + (row + i) * width : zeros;
    CYCONV_UNROLL
    for (int r = 0; r < kernel; r += PLANE_GROUP(kernel))
        NAME(gradient_block)(kernel, stride, count, r, line, grad, width, left, out_width, begin, end, sums,
                             sums + kernel * kernel);
}

/* The sum of the lanes of each of n vectors. */
CYCONV_INLINE void NAME(add_lanes)(const VEC *sums, int n, T *to)
{
    for (int i = 0; i < n; i += LANES) {
        VEC v[LANES];
        CYCONV_UNROLL
        for (int j = 0; j < LANES; j++)
            v[j] = i + j < n ? sums[i + j] : (VEC){0};
        /* Each round halves the vectors; their order in the last one is that of a transposed block. */
        CYCONV_UNROLL
        for (int half = LANES / 2; half > 0; half /= 2) {
            CYCONV_UNROLL
            for (int j = 0; j < half; j++)
                v[j] = NAME(pairs)(v[j], v[j + half], 0) + NAME(pairs)(v[j], v[j + half], 1);
        }
        NAME(store_part)(to + i, v[0], n - i < LANES ? n - i : LANES);
    }
}

#define GRADIENT_ARGUMENTS                                                                                              \
    const T *grad, const T *x, const T *zeros, ptrdiff_t height, ptrdiff_t width, ptrdiff_t top, ptrdiff_t left,        \
        ptrdiff_t out_height, ptrdiff_t out_width, ptrdiff_t channels, ptrdiff_t each, ptrdiff_t images,                \
        ptrdiff_t begin, ptrdiff_t end, T *sums, T *weights, T *bias

/* Output channels begin .. end. Each plane is added up by itself, and the planes of all images then. */
CYCONV_INLINE void NAME(gradient_planes_body)(const int kernel, const int stride, GRADIENT_ARGUMENTS)
{
    const int taps = kernel * kernel;
    const NAME(edge) first = NAME(edge_at)(kernel, stride, 0, left, width, out_width);
    const NAME(edge) last =
        NAME(edge_at)(kernel, stride, (out_width - 1) / LANES * LANES, left, width, out_width);
    VEC *total = (VEC *)sums;
    T result[LANES + 49];
    for (ptrdiff_t i = 0; i < (end - begin) * (taps + 1); i++)
        total[i] = (VEC){0};
    for (ptrdiff_t image = 0; image < images; image++) {
        for (ptrdiff_t channel = begin; channel < end; channel++) {
            const T *from = x + (image * (channels / each) + channel / each) * height * width;
            const T *back = grad + (image * channels + channel) * out_height * out_width;
            VEC part[50], *to = total + (channel - begin) * (taps + 1);
            CYCONV_UNROLL
            for (int i = 0; i < taps + 1; i++)
                part[i] = (VEC){0};
            for (ptrdiff_t p = 0, count; p < out_height; p += count) {
                ptrdiff_t rest = out_height - p, row = p * stride - top;
                count = rest >= GRADIENT_ROWS ? GRADIENT_ROWS : rest >= 3 ? 3 : 1;
                fetch_ahead(from + p * stride * width, count * stride * width * (ptrdiff_t)sizeof(T));
                fetch_ahead(back + p * out_width, count * out_width * (ptrdiff_t)sizeof(T));
#define BAND(n)                                                                                                         \
    NAME(gradient_band)(kernel, stride, n, from, zeros, row, height, width, left, back + p * out_width, out_width,      \
                        &first, &last, part)
                if (count == GRADIENT_ROWS)
                    BAND(GRADIENT_ROWS);
                else if (GRADIENT_ROWS > 3 && count == 3)
                    BAND(3);
                else
                    BAND(1);
#undef BAND
            }
            CYCONV_UNROLL
            for (int i = 0; i < taps + 1; i++)
                to[i] += part[i];
        }
    }
    for (ptrdiff_t channel = begin; channel < end; channel++) {
        NAME(add_lanes)(total + (channel - begin) * (taps + 1), taps + 1, result);
        for (int i = 0; i < taps; i++)
            weights[channel * taps + i] = result[i];
        if (bias)
            bias[channel] = result[taps];
    }
}

#define GRADIENT(kernel, stride)                                                                                        \
    static __attribute__((noinline, unused)) void NAME(gradient_planes_##kernel##_##stride)(GRADIENT_ARGUMENTS)         \
    {                                                                                                                   \
        NAME(gradient_planes_body)(kernel, stride, grad, x, zeros, height, width, top, left, out_height, out_width,     \
                                   channels, each, images, begin, end, sums, weights, bias);                            \
    }
GRADIENT(3, 1)
GRADIENT(3, 2)
GRADIENT(5, 1)
GRADIENT(5, 2)
GRADIENT(7, 1)
GRADIENT(7, 2)

/* zeros: as many as a row of input is long; sums: kernel * kernel + 1 vectors for each channel; bias: or NULL. */
static __attribute__((unused)) void NAME(gradient_planes)(int kernel, int stride, GRADIENT_ARGUMENTS)
{
#define CASE(k, s)                                                                                                      \
    if (kernel == k && stride == s)                                                                                     \
        NAME(gradient_planes_##k##_##s)(grad, x, zeros, height, width, top, left, out_height, out_width, channels,      \
                                        each, images, begin, end, sums, weights, bias);
    CASE(3, 1) CASE(3, 2) CASE(5, 1) CASE(5, 2) CASE(7, 1) CASE(7, 2)
#undef CASE
}

/* Channels-last: sums of rows x columns taps over a row of n windows for one vector of channels, added to `sums`
 * ([tap][LANES], kernel rows `sums_row` apart). Pixels of the private rows lie LANES apart. */
CYCONV_INLINE void NAME(strip_body)(const int rows, const int columns, const T *grad, ptrdiff_t grad_step,
                                    ptrdiff_t next, ptrdiff_t n, const T *const *line, ptrdiff_t step,
                                    ptrdiff_t column, T *sums, ptrdiff_t sums_row)
{
    VEC acc[25];
    CYCONV_UNROLL
    for (int i = 0; i < rows * columns; i++)
        acc[i] = (VEC){0};
    for (ptrdiff_t q = 0; q < n; q++) {
        VEC d = NAME(load)(grad);
        __builtin_prefetch(grad + next);
        CYCONV_UNROLL
        for (int r = 0; r < rows; r++) {
            const T *p = line[r] + q * step;
            CYCONV_UNROLL
            for (int s = 0; s < columns; s++)
                acc[r * columns + s] += d * NAME(load)(p + s * column);
        }
        grad += grad_step;
    }
    CYCONV_UNROLL
    for (int i = 0; i < rows * columns; i++) {
        T *to = sums + i / columns * sums_row + i % columns * LANES;
        NAME(store)(to, NAME(load)(to) + acc[i]);
    }
}

#define STRIP_ARGUMENTS                                                                                                 \
    const T *grad, ptrdiff_t grad_step, ptrdiff_t next, ptrdiff_t n, const T *const *line, ptrdiff_t step,              \
        ptrdiff_t column, T *sums, ptrdiff_t sums_row
#define STRIP(name, rows, columns, distance)                                                                            \
    static __attribute__((noinline, unused)) void NAME(strip_##name)(STRIP_ARGUMENTS)                                   \
    {                                                                                                                   \
        NAME(strip_body)(rows, columns, grad, grad_step, next, n, line, step, distance, sums, sums_row);                \
    }
STRIP(3x3, STRIP_GROUP(3), 3, LANES)
STRIP(5x5, STRIP_GROUP(5), 5, LANES)
STRIP(7x7, STRIP_GROUP(7), 7, LANES)
STRIP(1, 1, 1, column)
STRIP(2, 1, 2, column)
STRIP(3, 1, 3, column)
STRIP(4, 1, 4, column)
STRIP(5, 1, 5, column)
STRIP(6, 1, 6, column)
STRIP(7, 1, 7, column)
STRIP(8, 1, 8, column)

/* All taps of a kernel. line: a pointer for each of its rows. */
static __attribute__((unused)) void NAME(gradient_strip)(ptrdiff_t rows, ptrdiff_t columns, STRIP_ARGUMENTS)
{
    static void (*const single[GRADIENT_COLUMNS])(STRIP_ARGUMENTS) = {NAME(strip_1), NAME(strip_2), NAME(strip_3),
                                                                      NAME(strip_4), NAME(strip_5), NAME(strip_6),
                                                                      NAME(strip_7), NAME(strip_8)};
    ptrdiff_t r = 0;
#define CASE(k)                                                                                                         \
    if (columns == k && column == LANES)                                                                                \
        for (; r + STRIP_GROUP(k) <= rows; r += STRIP_GROUP(k))                                                         \
            NAME(strip_##k##x##k)(grad, grad_step, next, n, line + r, step, column, sums + r * sums_row, sums_row);
    CASE(3) CASE(5) CASE(7)
#undef CASE
    for (; r < rows; r++)
        for (ptrdiff_t s = 0; s < columns; s += GRADIENT_COLUMNS) {
            const T *from = line[r] + s * column;
            ptrdiff_t some = columns - s < GRADIENT_COLUMNS ? columns - s : GRADIENT_COLUMNS;
            single[some - 1](grad, grad_step, next, n, &from, step, column, sums + r * sums_row + s * LANES, sums_row);
        }
}

/* sum += the sum of n vectors. */
static __attribute__((noinline, unused)) void NAME(add_strip)(const T *grad, ptrdiff_t grad_step, ptrdiff_t n, T *sum)
{
    VEC acc[4] = {{0}};
    ptrdiff_t q = 0;
    for (; q + 4 <= n; q += 4)
        for (int i = 0; i < 4; i++)
            acc[i] += NAME(load)(grad + (q + i) * grad_step);
    for (; q < n; q++)
        acc[0] += NAME(load)(grad + q * grad_step);
    NAME(store)(sum, NAME(load)(sum) + ((acc[0] + acc[1]) + (acc[2] + acc[3])));
}

/* Channels first .. first + have of n pixels into [vector of channels][pixel][LANES], vectors `plane` apart; missing
 * channels are zeros. next: how far away that is which will be read next. */
static __attribute__((noinline, unused)) void NAME(gather_strip)(const T *x, ptrdiff_t channels, ptrdiff_t have,
                                                                 ptrdiff_t n, ptrdiff_t next, T *to, ptrdiff_t plane)
{
    ptrdiff_t whole = have / LANES;
    for (ptrdiff_t i = 0; i < n; i++) {
        for (ptrdiff_t v = 0; v < whole; v++) {
            NAME(store)(to + v * plane, NAME(load)(x + v * LANES));
            __builtin_prefetch(x + v * LANES + next);
        }
        if (whole * LANES < have)
            NAME(store)(to + whole * plane, NAME(load_part)(x + whole * LANES, have - whole * LANES));
        x += channels;
        to += LANES;
    }
}

#undef GRADIENT
#undef GRADIENT_ARGUMENTS
#undef GRADIENT_ROWS
#undef STRIP
#undef STRIP_ARGUMENTS
#undef NAME
#undef VEC
#undef LANES
