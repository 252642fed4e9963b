/* Template, included by winograd.h once for each element type T. m: output edge of a tile; r: edge of the kernel;
 * edge = m + r - 1, 4 or 6: the number of points, which alone decides the transform of the input. */
#define NAME(x) CYCONV_JOIN(x, SUFFIX)
#define VEC NAME(vec)
#define LANES ((ptrdiff_t)(CYCONV_VECTOR_BYTES / sizeof(T)))

/* Bᵀ d, in place on d[0], d[step], ... */
CYCONV_INLINE void NAME(transform_input_line)(const int edge, VEC *d, const int step)
{
    VEC d0 = d[0], d1 = d[step], d2 = d[2 * step], d3 = d[3 * step];
    if (edge == 4) {
        d[0] = d2 - d0;
        d[step] = d1 + d2;
        d[2 * step] = d2 - d1;
        d[3 * step] = d3 - d1;
    } else {
        const T a = WINOGRAD_A, b = WINOGRAD_B, a2 = WINOGRAD_A2, b2 = WINOGRAD_B2;
        const T sum = WINOGRAD_A2 + WINOGRAD_B2, product = WINOGRAD_A2 * WINOGRAD_B2;
        VEC d4 = d[4 * step], d5 = d[5 * step];
        VEC even_a = d4 - b2 * d2, odd_a = a * (d3 - b2 * d1);
        VEC even_b = d4 - a2 * d2, odd_b = b * (d3 - a2 * d1);
        d[0] = product * d0 + (d4 - sum * d2);
        d[step] = even_a + odd_a;
        d[2 * step] = even_a - odd_a;
        d[3 * step] = even_b + odd_b;
        d[4 * step] = even_b - odd_b;
        d[5 * step] = product * d1 + (d5 - sum * d3);
    }
}

/* Aᵀ y, from edge elements to m. */
CYCONV_INLINE void NAME(transform_output_line)(const int m, const int edge, VEC *y, const int step)
{
    VEC y0 = y[0], y1 = y[step], y2 = y[2 * step], y3 = y[3 * step];
    if (edge == 4) {
        y[0] = y0 + (y1 + y2);
        y[step] = (y1 - y2) + y3;
    } else {
        const T a = WINOGRAD_A, b = WINOGRAD_B, a2 = WINOGRAD_A2, b2 = WINOGRAD_B2;
        const T a3 = WINOGRAD_A2 * WINOGRAD_A, b3 = WINOGRAD_B2 * WINOGRAD_B;
        VEC y4 = y[4 * step], y5 = y[5 * step];
        VEC even_a = y1 + y2, odd_a = y1 - y2, even_b = y3 + y4, odd_b = y3 - y4;
        y[0] = y0 + (even_a + even_b);
        y[step] = a * odd_a + b * odd_b;
        if (m == 4) {
            y[2 * step] = a2 * even_a + b2 * even_b;
            y[3 * step] = a3 * odd_a + b3 * odd_b;
        }
        y[(m - 1) * step] += y5;
    }
}

/* G g, from r elements to edge; out must not overlap g. */
CYCONV_INLINE void NAME(transform_weight_line)(const int r, const int edge, const VEC *g, const int step, VEC *out,
                                               const int out_step)
{
    VEC g0 = g[0], g1 = g[step], g2 = g[2 * step];
    if (edge == 4) {
        const T half = 0.5;
        VEC even = half * (g0 + g2), odd = half * g1;
        out[0] = -g0;
        out[out_step] = even + odd;
        out[2 * out_step] = even - odd;
        out[3 * out_step] = g2;
    } else {
        /* Products of the differences of the points. */
        const T at_0 = 1 / (WINOGRAD_A2 * WINOGRAD_B2);
        const T at_a = 1 / (2 * WINOGRAD_A2 * (WINOGRAD_A2 - WINOGRAD_B2));
        const T at_b = 1 / (2 * WINOGRAD_B2 * (WINOGRAD_B2 - WINOGRAD_A2));
        const T a = WINOGRAD_A * at_a, a2 = WINOGRAD_A2 * at_a, b = WINOGRAD_B * at_b, b2 = WINOGRAD_B2 * at_b;
        VEC even_a = at_a * g0 + a2 * g2, odd_a = a * g1, even_b = at_b * g0 + b2 * g2, odd_b = b * g1;
        if (r == 5) {
            const T square_a = WINOGRAD_A2, square_b = WINOGRAD_B2;
            even_a += (a2 * square_a) * g[4 * step];
            odd_a += (a * square_a) * g[3 * step];
            even_b += (b2 * square_b) * g[4 * step];
            odd_b += (b * square_b) * g[3 * step];
        }
        out[0] = at_0 * g0;
        out[out_step] = even_a + odd_a;
        out[2 * out_step] = even_a - odd_a;
        out[3 * out_step] = even_b + odd_b;
        out[4 * out_step] = even_b - odd_b;
        out[5 * out_step] = g[(r - 1) * step];
    }
}

/* One tile, one vector of channels: edge x edge pixels at `row` and `column` distance to V[xi], xi at `plane`. */
CYCONV_INLINE void NAME(input_tile)(const int edge, const T *from, ptrdiff_t row, ptrdiff_t column, T *to,
                                    ptrdiff_t plane)
{
    VEC d[36];
    CYCONV_UNROLL
    for (int j = 0; j < edge; j++) {
        CYCONV_UNROLL
        for (int i = 0; i < edge; i++)
            d[i * edge + j] = NAME(load)(from + i * row + j * column);
        NAME(transform_input_line)(edge, d + j, edge);
    }
    CYCONV_UNROLL
    for (int i = 0; i < edge; i++) {
        NAME(transform_input_line)(edge, d + i * edge, 1);
        CYCONV_UNROLL
        for (int j = 0; j < edge; j++)
            NAME(store)(to + (i * edge + j) * plane, d[i * edge + j]);
    }
}

/* One tile, one vector of channels: M[xi] to m x m pixels, with bias and, down to `floor`, a ReLU. */
CYCONV_INLINE void NAME(output_tile)(const int m, const int edge, const T *from, ptrdiff_t plane, VEC bias, T floor,
                                     T *to, ptrdiff_t row, ptrdiff_t column)
{
    VEC y[36];
    CYCONV_UNROLL
    for (int j = 0; j < edge; j++) {
        CYCONV_UNROLL
        for (int i = 0; i < edge; i++)
            y[i * edge + j] = NAME(load)(from + (i * edge + j) * plane);
        NAME(transform_output_line)(m, edge, y + j, edge);
    }
    CYCONV_UNROLL
    for (int i = 0; i < m; i++) {
        NAME(transform_output_line)(m, edge, y + i * edge, 1);
        CYCONV_UNROLL
        for (int j = 0; j < m; j++) {
            VEC v = NAME(at_least)(y[i * edge + j] + bias, floor);
            NAME(store)(to + i * row + j * column, v);
        }
    }
}

/* One vector of output channels of one input channel: r x r taps at distance `tap` to U[xi], xi at `plane`. */
CYCONV_INLINE void NAME(weight_tile)(const int r, const int edge, const T *from, ptrdiff_t tap, T *to, ptrdiff_t plane)
{
    VEC g[25], half[30], u[36];
    CYCONV_UNROLL
    for (int i = 0; i < r * r; i++)
        g[i] = NAME(load)(from + i * tap);
    CYCONV_UNROLL
    for (int j = 0; j < r; j++)
        NAME(transform_weight_line)(r, edge, g + j, r, half + j, r);
    CYCONV_UNROLL
    for (int i = 0; i < edge; i++)
        NAME(transform_weight_line)(r, edge, half + i * r, 1, u + i * edge, 1);
    CYCONV_UNROLL
    for (int i = 0; i < edge * edge; i++)
        NAME(store)(to + i * plane, u[i]);
}

/* The three for runs of tiles; m and r are constants in each branch. `column`: distance of neighbouring pixels. */
static __attribute__((noinline, unused)) void NAME(winograd_input)(int m, int r, const T *from, ptrdiff_t row,
                                                                   ptrdiff_t column, ptrdiff_t tiles, T *to,
                                                                   ptrdiff_t plane)
{
    for (ptrdiff_t t = 0; t < tiles; t++) {
        if (m + r == 5)
            NAME(input_tile)(4, from, row, column, to, plane);
        else
            NAME(input_tile)(6, from, row, column, to, plane);
        from += m * column;
        to += LANES;
    }
}

static __attribute__((noinline, unused)) void NAME(winograd_output)(int m, int r, const T *from, ptrdiff_t ld,
                                                                    ptrdiff_t plane, ptrdiff_t tiles, int vectors,
                                                                    const T *bias, T floor, T *to, ptrdiff_t row,
                                                                    ptrdiff_t column)
{
    for (ptrdiff_t t = 0; t < tiles; t++) {
        for (int v = 0; v < vectors; v++) {
            VEC b = NAME(load)(bias + v * LANES);
            const T *q = from + v * LANES;
            if (m == 4)
                NAME(output_tile)(4, 6, q, plane, b, floor, to + v * LANES, row, column);
            else if (r == 5)
                NAME(output_tile)(2, 6, q, plane, b, floor, to + v * LANES, row, column);
            else
                NAME(output_tile)(2, 4, q, plane, b, floor, to + v * LANES, row, column);
        }
        from += ld;
        to += m * column;
    }
}

static __attribute__((noinline, unused)) void NAME(winograd_weights)(int m, int r, const T *from, ptrdiff_t channels,
                                                                     int vectors, T *to, ptrdiff_t plane)
{
    ptrdiff_t ld = vectors * LANES;
    for (ptrdiff_t c = 0; c < channels; c++) {
        for (int v = 0; v < vectors; v++) {
            if (r == 5)
                NAME(weight_tile)(5, 6, from + v * LANES, ld, to + v * LANES, plane);
            else if (m == 4)
                NAME(weight_tile)(3, 6, from + v * LANES, ld, to + v * LANES, plane);
            else
                NAME(weight_tile)(3, 4, from + v * LANES, ld, to + v * LANES, plane);
        }
        from += r * r * ld;
        to += ld;
    }
}

#undef NAME
#undef VEC
#undef LANES
