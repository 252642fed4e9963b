/* Template, included by depthwise.h once for each element type T: input gradients of strides.
 *
 * Row v = h + top of the result meets row r of the kernel at the source row (v - r) / stride, where that is whole. At
 * stride 2, even v take the even rows of the kernel and odd v the odd ones; columns likewise. Nothing is multiplied
 * with the zeros that a stride puts between pixels.
 */
#define NAME(x) CYCONV_JOIN(x, SUFFIX)
#define VEC NAME(vec)
#define LANES ((ptrdiff_t)(CYCONV_VECTOR_BYTES / sizeof(T)))

/* Pairs of result rows: 4 of them are 16 accumulators, which leave room for the weights of a 3 x 3 kernel. */
#define SPREAD_ROWS (CYCONV_TILE_PIXELS == 14 ? 4 : 2)
/* Source rows, or columns, that one pair of results meets. */
#define SPREAD_REACH(kernel) (((kernel) + 1) / 2)

/* SPREAD_ROWS pairs of rows x one vector of pairs of columns, the first of which is source column `column`. line[i]:
 * source row, or zeros; to[i]: where a result row begins at these columns, or NULL where there is no such row. */
CYCONV_INLINE void NAME(spread_piece)(const int kernel, const int whole, const T *const *line, ptrdiff_t column,
                                      const NAME(inside) * inside, const VEC *w, VEC bias, T floor, T *const *to,
                                      ptrdiff_t at, NAME(inside) low, NAME(inside) high)
{
    const int reach = SPREAD_REACH(kernel);
    VEC acc[SPREAD_ROWS * 4];
    CYCONV_UNROLL
    for (int i = 0; i < SPREAD_ROWS * 4; i++)
        acc[i] = bias;
    CYCONV_UNROLL
    for (int m = 0; m < SPREAD_ROWS + reach - 1; m++) {
        VEC v[4];
        CYCONV_UNROLL
        for (int j = 0; j < reach; j++)
            v[j] = NAME(load_row)(line[m] + column - j, whole, inside[j]);
        CYCONV_UNROLL
        for (int s = 0; s < kernel; s++) {
            CYCONV_UNROLL
            for (int i = 0; i < SPREAD_ROWS * 2; i++) {
                int r = (i / 2 + reach - 1 - m) * 2 + i % 2;
                if (r >= 0 && r < kernel)
                    acc[i * 2 + s % 2] += w[r * kernel + s] * v[s / 2];
            }
        }
    }
    CYCONV_UNROLL
    for (int i = 0; i < SPREAD_ROWS * 2; i++) {
        VEC even = NAME(at_least)(acc[2 * i], floor), odd = NAME(at_least)(acc[2 * i + 1], floor);
        if (!to[i])
            continue;
        if (whole) {
            NAME(store)(to[i] + at, NAME(pairs)(even, odd, 0));
            NAME(store)(to[i] + at + LANES, NAME(pairs)(even, odd, 1));
        } else {
            NAME(store_inside)(to[i] + at, NAME(pairs)(even, odd, 0), low);
            NAME(store_inside)(to[i] + at + LANES, NAME(pairs)(even, odd, 1), high);
        }
    }
}

#define SPREAD_ARGUMENTS                                                                                                \
    const T *x, const T *zeros, ptrdiff_t height, ptrdiff_t width, const T *weights, const T *bias, T floor,            \
        ptrdiff_t top, ptrdiff_t left, T *y, ptrdiff_t out_height, ptrdiff_t out_width, ptrdiff_t channels,             \
        ptrdiff_t each, ptrdiff_t begin, ptrdiff_t end

CYCONV_INLINE void NAME(spread_planes_body)(const int kernel, SPREAD_ARGUMENTS)
{
    const int reach = SPREAD_REACH(kernel);
    for (ptrdiff_t plane = begin; plane < end; plane++) {
        const T *from = x + plane / each * height * width, *weight = weights + plane % channels * kernel * kernel;
        T *out = y + plane * out_height * out_width;
        VEC w[49], start = (VEC){0} + bias[plane % channels];
        CYCONV_UNROLL
        for (int i = 0; i < kernel * kernel; i++)
            w[i] = (VEC){0} + weight[i];
        for (ptrdiff_t p = top / 2; 2 * p - top < out_height; p += SPREAD_ROWS) {
            const T *line[SPREAD_ROWS + 3];
            T *to[SPREAD_ROWS * 2];
            CYCONV_UNROLL
            for (int i = 0; i < SPREAD_ROWS + reach - 1; i++) {
                ptrdiff_t row = p - (reach - 1) + i;
                line[i] = row >= 0 && row < height ? from + row * width : zeros;
            }
            CYCONV_UNROLL
            for (int i = 0; i < SPREAD_ROWS * 2; i++) {
                ptrdiff_t row = 2 * p - top + i;
                to[i] = row >= 0 && row < out_height ? out + row * out_width : NULL;
            }
            NAME(fetch_ahead)(from + p * width, SPREAD_ROWS * width, out + (2 * p - top) * out_width,
                              SPREAD_ROWS * 2 * out_width);
            for (ptrdiff_t column = left / 2; 2 * column - left < out_width; column += LANES) {
                ptrdiff_t at = 2 * column - left;
                NAME(inside) inside[4], low, high;
                if (column - reach + 1 >= 0 && column + LANES <= width && at >= 0 && at + 2 * LANES <= out_width) {
                    NAME(spread_piece)(kernel, 1, line, column, inside, w, start, floor, to, at, low, high);
                    continue;
                }
                CYCONV_UNROLL
                for (int j = 0; j < reach; j++)
                    inside[j] = NAME(lanes_inside)(column - j, width);
                low = NAME(lanes_inside)(at, out_width);
                high = NAME(lanes_inside)(at + LANES, out_width);
                NAME(spread_piece)(kernel, 0, line, column, inside, w, start, floor, to, at, low, high);
            }
        }
    }
}

#define SPREAD(kernel)                                                                                                  \
    static __attribute__((noinline, unused)) void NAME(spread_planes_##kernel)(SPREAD_ARGUMENTS)                        \
    {                                                                                                                   \
        NAME(spread_planes_body)(kernel, x, zeros, height, width, weights, bias, floor, top, left, y, out_height,       \
                                 out_width, channels, each, begin, end);                                                      \
    }
SPREAD(3)
SPREAD(5)
SPREAD(7)

/* Result planes begin .. end (of all images; `channels` in one, `each` from one source plane) at stride 2. zeros: as many as a source row is long. */
static __attribute__((unused)) void NAME(spread_planes)(int kernel, SPREAD_ARGUMENTS)
{
#define CASE(k)                                                                                                         \
    if (kernel == k)                                                                                                    \
        NAME(spread_planes_##k)(x, zeros, height, width, weights, bias, floor, top, left, y, out_height, out_width,     \
                                channels, each, begin, end);
    CASE(3) CASE(5) CASE(7)
#undef CASE
}

/* Channels-last: 8 (or 1) pixels of one row that meet the same taps, `ldy` apart, x neighbouring pixels; all channels. */
static __attribute__((noinline, unused)) void NAME(spread_pixels)(int pixels, const T *x, ptrdiff_t row,
                                                                  ptrdiff_t column, ptrdiff_t channels, const T *w,
                                                                  ptrdiff_t ldw, ptrdiff_t rows, ptrdiff_t columns,
                                                                  ptrdiff_t w_row, const T *bias, T floor, T *y,
                                                                  ptrdiff_t ldy)
{
    ptrdiff_t c = 0;
    for (; c + LANES <= channels; c += LANES) {
        VEC b = NAME(load)(bias + c);
        if (pixels == 8)
            NAME(depthwise_any_strip)(8, x + c, row, column, channels, w + c, ldw, rows, columns, w_row, b, floor,
                                      y + c, ldy, LANES);
        else
            NAME(depthwise_any_strip)(1, x + c, row, column, channels, w + c, ldw, rows, columns, w_row, b, floor,
                                      y + c, ldy, LANES);
    }
    if (c < channels)
        for (int i = 0; i < pixels; i++)
            NAME(depthwise_any_strip)(1, x + i * channels + c, row, column, channels, w + c, ldw, rows, columns, w_row,
                                      NAME(load_part)(bias + c, channels - c), floor, y + i * ldy + c, ldy,
                                      channels - c);
}

#undef SPREAD
#undef SPREAD_ARGUMENTS
#undef SPREAD_ROWS
#undef SPREAD_REACH
#undef NAME
#undef VEC
#undef LANES
