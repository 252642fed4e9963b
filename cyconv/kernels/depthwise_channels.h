/* Template, included by depthwise.h once for each element type T: vectors over channels.
 *
 * A strip of output pixels shares every load of the weights, and each pixel is loaded once for all windows that it lies
 * in: 8 pixels of a 7 x 7 kernel are 56 products of 21 loads, whatever the width of the map.  Channels-last images are
 * read where they lie; planes come here in blocks of one vector of channels, transposed into private memory and back,
 * which costs about as much as 9 products for each pixel in and out.
 */
#define NAME(x) CYCONV_JOIN(x, SUFFIX)
#define VEC NAME(vec)
#define LANES ((ptrdiff_t)(CYCONV_VECTOR_BYTES / sizeof(T)))

/* A strip of output pixels of one row x one vector of channels. x: under the first tap of the first pixel; `row`,
 * `pixel`, `tap`: steps. Columns low .. high of those under the strip lie inside, and `stored` pixels are wanted: all, if
 * `whole`. Pixels, kernel columns, stride and `whole` are constants after inlining. */
CYCONV_INLINE void NAME(channel_strip)(const int pixels, const int kernel, const int stride, const int whole, const T *x,
                                       ptrdiff_t row, ptrdiff_t pixel, const T *w, ptrdiff_t tap, ptrdiff_t rows,
                                       ptrdiff_t low, ptrdiff_t high, VEC bias, T floor, T *y, ptrdiff_t ldy,
                                       ptrdiff_t stored)
{
    VEC acc[STRIP_PIXELS];
    CYCONV_UNROLL
    for (int i = 0; i < pixels; i++)
        acc[i] = bias;
    for (ptrdiff_t r = 0; r < rows; r++) {
        const T *q = x + r * row;
        VEC u[7];
        CYCONV_UNROLL
        for (int s = 0; s < kernel; s++)
            u[s] = NAME(load)(w + (r * kernel + s) * tap);
        CYCONV_UNROLL
        for (int j = 0; j < (pixels - 1) * stride + kernel; j++) {
            if (!whole && (j < low || j >= high))
                continue;
            VEC v = NAME(load)(q + j * pixel);
            CYCONV_UNROLL
            for (int i = 0; i < pixels; i++)
                if (j - i * stride >= 0 && j - i * stride < kernel)
                    acc[i] += u[j - i * stride] * v;
        }
    }
    CYCONV_UNROLL
    for (int i = 0; i < pixels; i++)
        if (whole || i < stored)
            NAME(store)(y + i * ldy, NAME(at_least)(acc[i], floor));
}

/* x: under the first tap of the first pixel of a row of `width`, where that has `left` pixels of padding; `channels`:
 * at least a vector; the last vector ends with them, and the last strip with the row: what they share with those before
 * is computed twice. `rows`: of the kernel that lie inside, `row` apart. */
#define ROW_ARGUMENTS                                                                                                   \
    const T *x, ptrdiff_t row, ptrdiff_t width, ptrdiff_t left, ptrdiff_t channels, const T *w, ptrdiff_t rows,         \
        const T *bias, T floor, T *y, ptrdiff_t out_width

CYCONV_INLINE void NAME(channel_row_body)(const int pixels, const int kernel, const int stride, ROW_ARGUMENTS)
{
    const int columns = (pixels - 1) * stride + kernel;
    ptrdiff_t stored = out_width < pixels ? out_width : pixels;
    for (ptrdiff_t q = 0; q < out_width; q += pixels) {
        ptrdiff_t at = q + stored <= out_width ? q : out_width - stored, column = at * stride - left;
        ptrdiff_t low = column < 0 ? -column : 0, high = width - column;
        const T *corner = x + column * channels;
        T *to = y + at * channels;
        for (ptrdiff_t k = 0; k < channels; k += LANES) {
            ptrdiff_t c = k + LANES <= channels ? k : channels - LANES;
            VEC start = NAME(load)(bias + c);
            if (low == 0 && high >= columns && stored == pixels)
                NAME(channel_strip)(pixels, kernel, stride, 1, corner + c, row, channels, w + c, channels, rows, low,
                                    high, start, floor, to + c, channels, stored);
            else
                NAME(channel_strip)(pixels, kernel, stride, 0, corner + c, row, channels, w + c, channels, rows, low,
                                    high, start, floor, to + c, channels, stored);
        }
    }
}

#define ROW(p, k, s)                                                                                                    \
    static __attribute__((noinline, unused)) void NAME(channel_row_##p##_##k##_##s)(ROW_ARGUMENTS)                      \
    {                                                                                                                   \
        NAME(channel_row_body)(p, k, s, x, row, width, left, channels, w, rows, bias, floor, y, out_width);             \
    }
#if STRIP_PIXELS == 14
#define STRIPS 4
#define ROWS(k, s) ROW(4, k, s) ROW(7, k, s) ROW(8, k, s) ROW(14, k, s)
#define LONGEST(k, s) NAME(channel_row_14_##k##_##s)
#else
#define STRIPS 3
#define ROWS(k, s) ROW(4, k, s) ROW(7, k, s) ROW(8, k, s)
#define LONGEST(k, s)
#endif
ROWS(3, 1) ROWS(3, 2) ROWS(5, 1) ROWS(5, 2) ROWS(7, 1) ROWS(7, 2)
#undef ROW
#undef ROWS

typedef void (*NAME(channel_row))(ROW_ARGUMENTS);

/* The walk along a row of a kernel of 3, 5 or 7 columns at stride 1 or 2, by the strips that cost least: those of 14
 * pixels take a tenth less for each than those of 7 or 8. */
CYCONV_INLINE NAME(channel_row) NAME(find_channel_row)(ptrdiff_t kernel, ptrdiff_t stride, ptrdiff_t out_width)
{
#define ENTRY(k, s)                                                                                                     \
    {NAME(channel_row_4_##k##_##s), NAME(channel_row_7_##k##_##s), NAME(channel_row_8_##k##_##s), LONGEST(k, s)}
    static const NAME(channel_row) found[3][2][STRIPS] = {
        {ENTRY(3, 1), ENTRY(3, 2)}, {ENTRY(5, 1), ENTRY(5, 2)}, {ENTRY(7, 1), ENTRY(7, 2)}};
#undef ENTRY
    static const ptrdiff_t pixels[4] = {4, 7, 8, 14}, price[4] = {12, 11, 11, 10};
    ptrdiff_t best = 0, least = PTRDIFF_MAX;
    for (ptrdiff_t i = 0; i < STRIPS; i++) {
        ptrdiff_t cost = (out_width + pixels[i] - 1) / pixels[i] * pixels[i] * price[i];
        if (cost < least)
            least = cost, best = i;
    }
    return found[kernel / 2 - 1][stride - 1][best];
}

static __attribute__((noinline, unused)) void NAME(depthwise_channel_row)(ptrdiff_t kernel, ptrdiff_t stride,
                                                                          ROW_ARGUMENTS)
{
    NAME(find_channel_row)(kernel, stride, out_width)(x, row, width, left, channels, w, rows, bias, floor, y, out_width);
}

/* Pixels have .. need (or some more) of LANES planes of n pixels, to [pixel][plane]; returns how many are there now.
 * The last vector of pixels ends with the plane. */
static __attribute__((noinline, unused)) ptrdiff_t NAME(gather_planes)(const T *const *planes, ptrdiff_t have,
                                                                       ptrdiff_t need, ptrdiff_t n, T *to)
{
    for (; have < need; have += LANES) {
        ptrdiff_t at = have + LANES <= n ? have : n - LANES;
        VEC v[LANES];
        if (n < LANES) {
            for (int i = 0; i < LANES; i++)
                v[i] = NAME(load_part)(planes[i], n);
            NAME(transpose_registers)(v);
            for (int i = 0; i < n; i++)
                NAME(store)(to + i * LANES, v[i]);
            continue;
        }
        CYCONV_UNROLL
        for (int i = 0; i < LANES; i++)
            v[i] = NAME(load)(planes[i] + at);
        NAME(transpose_registers)(v);
        CYCONV_UNROLL
        for (int i = 0; i < LANES; i++)
            NAME(store)(to + (at + i) * LANES, v[i]);
    }
    return have;
}

/* n pixels of [pixel][plane] to the first `count` of LANES planes, `plane` apart. */
static __attribute__((noinline, unused)) void NAME(scatter_planes)(const T *from, ptrdiff_t n, T *to, ptrdiff_t plane,
                                                                   ptrdiff_t count)
{
    for (ptrdiff_t have = 0; have < n; have += LANES) {
        ptrdiff_t at = have + LANES <= n ? have : n < LANES ? 0 : n - LANES;
        VEC v[LANES];
        if (n < LANES) {
            for (int i = 0; i < LANES; i++)
                v[i] = i < n ? NAME(load)(from + i * LANES) : (VEC){0};
            NAME(transpose_registers)(v);
            for (int i = 0; i < count; i++)
                NAME(store_part)(to + i * plane, v[i], n);
            continue;
        }
        CYCONV_UNROLL
        for (int i = 0; i < LANES; i++)
            v[i] = NAME(load)(from + (at + i) * LANES);
        NAME(transpose_registers)(v);
        if (count == LANES) {
            CYCONV_UNROLL
            for (int i = 0; i < LANES; i++)
                NAME(store)(to + i * plane + at, v[i]);
        } else
            for (int i = 0; i < count; i++)
                NAME(store)(to + i * plane + at, v[i]);
    }
}

/* Rows `first` .. `last` of the LANES output planes from `channel` on (`channels` in one image, `each` from one input
 * plane). x, y: the image; w: [tap][LANES]; bias: of LANES channels. The pixels under the rows are brought to
 * `private`, as far as the next `chunk` rows need them, and these rows behind them. */
static __attribute__((unused)) void NAME(depthwise_block)(ptrdiff_t kernel, ptrdiff_t stride, const T *x,
                                                          ptrdiff_t height, ptrdiff_t width, const T *w, const T *bias,
                                                          T floor, ptrdiff_t top, ptrdiff_t left, T *y,
                                                          ptrdiff_t out_height, ptrdiff_t out_width, ptrdiff_t channels,
                                                          ptrdiff_t each, ptrdiff_t channel, ptrdiff_t first,
                                                          ptrdiff_t last, ptrdiff_t chunk, T *private)
{
    NAME(channel_row) walk = NAME(find_channel_row)(kernel, stride, out_width);
    ptrdiff_t count = channels - channel < LANES ? channels - channel : LANES, have = 0;
    ptrdiff_t low = first * stride - top, high = (last - 1) * stride - top + kernel;
    low = low < 0 ? 0 : low < height ? low : height;
    high = high < low ? low : high < height ? high : height;
    const T *planes[LANES];
    /* Lanes without a channel repeat the last one, and are not stored. */
    for (ptrdiff_t i = 0; i < LANES; i++)
        planes[i] = x + ((channel + (i < count ? i : count - 1)) / each * height + low) * width;
    T *results = private + (high - low) * width * LANES;
    for (ptrdiff_t begin = first; begin < last; begin += chunk) {
        ptrdiff_t end = begin + chunk < last ? begin + chunk : last, under = (end - 1) * stride - top + kernel;
        under = under < low ? low : under < high ? under : high;
        have = NAME(gather_planes)(planes, have, (under - low) * width, (high - low) * width, private);
        for (ptrdiff_t p = begin; p < end; p++) {
            ptrdiff_t row = p * stride - top, inside = row < 0 ? -row : 0;
            ptrdiff_t rows = (height - row < kernel ? height - row : kernel) - inside;
            walk(private + (row + inside - low) * width * LANES, width * LANES, width, left, LANES,
                 w + inside * kernel * LANES, rows < 0 ? 0 : rows, bias, floor, results + (p - begin) * out_width * LANES,
                 out_width);
        }
        NAME(scatter_planes)(results, (end - begin) * out_width, y + (channel * out_height + begin) * out_width,
                             out_height * out_width, count);
    }
}

/* A strip for any kernel, stride and dilation, all windows of which lie inside: `column` between taps, `step` between
 * the pixels of outputs. */
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
static __attribute__((noinline, unused)) void NAME(depthwise_strip_8)(ptrdiff_t stride, ptrdiff_t dilation, const T *x,
                                                                      ptrdiff_t row, ptrdiff_t channels, const T *w,
                                                                      ptrdiff_t rows, ptrdiff_t columns, const T *bias,
                                                                      T floor, T *y)
{
    for (ptrdiff_t c = 0; c + LANES <= channels; c += LANES)
        NAME(depthwise_any_strip)(8, x + c, row, dilation * channels, stride * channels, w + c, channels, rows, columns,
                                  columns * channels, NAME(load)(bias + c), floor, y + c, channels, LANES);
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

#undef ROW_ARGUMENTS
#undef STRIPS
#undef LONGEST
#undef NAME
#undef VEC
#undef LANES
