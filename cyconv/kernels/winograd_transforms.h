/* Template, included by winograd.h once for each element type T. m: output edge of a tile; r: edge of the kernel;
 * edge = m + r - 1, 4 or 6: the number of points, which alone decides the transform of the input. Along an axis in which
 * the kernel has one tap, m, r and edge are 1 and nothing is transformed. Along an axis of stride 2, edge = 2 m + 1,
 * 5 or 9: transformed elements at even places, pixels between them (winograd.h). `spread`: its input gradient, which
 * makes 2 m pixels of m + 1. */
#define NAME(x) CYCONV_JOIN(x, SUFFIX)
#define VEC NAME(vec)
#define LANES ((ptrdiff_t)(CYCONV_VECTOR_BYTES / sizeof(T)))

/* Taps of the kernel along an axis, and elements to which they are transformed: fewer than those of the input at stride
 * 2, where all pixels of odd places meet the one tap between the others. */
CYCONV_INLINE int NAME(taps_of)(const int m, const int edge)
{
    return edge == 1 ? 1 : edge % 2 ? 3 : edge - m + 1;
}
CYCONV_INLINE int NAME(weights_of)(const int m, const int edge) { return edge > 1 && edge % 2 ? m + 2 : edge; }

/* Bᵀ d, in place on d[0], d[step], ... */
CYCONV_INLINE void NAME(transform_input_line)(const int edge, VEC *d, const int step)
{
    if (edge == 5) {
        VEC d2 = d[2 * step];
        d[0] -= d2;
        d[4 * step] -= d2;
        return;
    }
    if (edge == 9) {
        const T a = WINOGRAD_SA, b = WINOGRAD_SB, a2 = WINOGRAD_SA2, b2 = WINOGRAD_SB2;
        const T sum = WINOGRAD_SA2 + WINOGRAD_SB2, product = WINOGRAD_SA2 * WINOGRAD_SB2;
        VEC e0 = d[0], e1 = d[2 * step], e2 = d[4 * step], e3 = d[6 * step];
        VEC even_a = a * (e2 - b2 * e0), odd_a = e3 - b2 * e1;
        VEC even_b = b * (e2 - a2 * e0), odd_b = e3 - a2 * e1;
        d[0] = odd_a + even_a;
        d[2 * step] = odd_a - even_a;
        d[4 * step] = odd_b + even_b;
        d[6 * step] = odd_b - even_b;
        d[8 * step] = product * e0 + (d[8 * step] - sum * e2);
        return;
    }
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

/* The input gradient at stride 2, in place: the m pixels that meet two taps at even places, those between them as they
 * are. */
CYCONV_INLINE void NAME(transform_spread_line)(const int edge, VEC *y, const int step)
{
    VEC y0 = y[0], y2 = y[2 * step], y4 = y[4 * step];
    if (edge == 5) {
        y[0] = y0 + y2;
        y[2 * step] = y2 + y4;
    } else {
        const T a = WINOGRAD_SA, b = WINOGRAD_SB, a2 = WINOGRAD_SA2, b2 = WINOGRAD_SB2;
        const T a3 = WINOGRAD_SA2 * WINOGRAD_SA, b3 = WINOGRAD_SB2 * WINOGRAD_SB;
        VEC y6 = y[6 * step];
        VEC even_a = y0 + y2, odd_a = y0 - y2, even_b = y4 + y6, odd_b = y4 - y6;
        y[0] = even_a + even_b;
        y[2 * step] = a * odd_a + b * odd_b;
        y[4 * step] = a2 * even_a + b2 * even_b;
        y[6 * step] = y[8 * step] + (a3 * odd_a + b3 * odd_b);
    }
}

/* Aᵀ y, from edge elements to m. */
CYCONV_INLINE void NAME(transform_output_line)(const int m, const int edge, VEC *y, const int step)
{
    VEC y0 = y[0], y1 = y[step], y2 = y[2 * step], y3 = y[3 * step];
    if (edge == 5) {
        y[0] = y0 + (y1 + y2);
        y[step] = y2 + (y3 + y[4 * step]);
    } else if (edge == 9) {
        const T a = WINOGRAD_SA, b = WINOGRAD_SB, a2 = WINOGRAD_SA2, b2 = WINOGRAD_SB2;
        const T a3 = WINOGRAD_SA2 * WINOGRAD_SA, b3 = WINOGRAD_SB2 * WINOGRAD_SB;
        VEC y4 = y[4 * step], y6 = y[6 * step];
        VEC even_a = y0 + y2, odd_a = y0 - y2, even_b = y4 + y6, odd_b = y4 - y6;
        y[0] = y1 + (even_a + even_b);
        y[step] = y3 + (a * odd_a + b * odd_b);
        y[2 * step] = y[5 * step] + (a2 * even_a + b2 * even_b);
        y[3 * step] = (y[7 * step] + y[8 * step]) + (a3 * odd_a + b3 * odd_b);
    } else if (edge == 4) {
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
    if (edge == 5) {
        out[0] = g0;
        out[out_step] = g0 + g2;
        out[2 * out_step] = g2;
        out[3 * out_step] = g1;
    } else if (edge == 9) {
        const T at_a = 1 / (2 * WINOGRAD_SA * (WINOGRAD_SA2 - WINOGRAD_SB2));
        const T at_b = 1 / (2 * WINOGRAD_SB * (WINOGRAD_SB2 - WINOGRAD_SA2));
        const T a = WINOGRAD_SA * at_a, b = WINOGRAD_SB * at_b;
        VEC even_a = at_a * g0, odd_a = a * g2, even_b = at_b * g0, odd_b = b * g2;
        out[0] = odd_a + even_a;
        out[out_step] = odd_a - even_a;
        out[2 * out_step] = odd_b + even_b;
        out[3 * out_step] = odd_b - even_b;
        out[4 * out_step] = g2;
        out[5 * out_step] = g1;
    } else if (edge == 4) {
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

/* From the first pixel under a tile to that of element i: in a `spread` tile those at odd places stand `late` further on
 * than the number of the pair. */
CYCONV_INLINE ptrdiff_t NAME(pixel_of)(const int spread, const int i, ptrdiff_t step, ptrdiff_t late)
{
    return spread ? i / 2 * step + (i % 2 ? late : 0) : i * step;
}

/* One tile, one vector of channels: er x ec pixels at `row` and `column` distance to V[xi], xi at `plane`, or where
 * `places` says. */
CYCONV_INLINE void NAME(input_tile)(const int spread, const int er, const int ec, const T *from, ptrdiff_t row,
                                    ptrdiff_t column, ptrdiff_t late_row, ptrdiff_t late_column, T *to, ptrdiff_t plane,
                                    const ptrdiff_t *places)
{
    VEC d[81];
    CYCONV_UNROLL
    for (int j = 0; j < ec; j++) {
        CYCONV_UNROLL
        for (int i = 0; i < er; i++)
            d[i * ec + j] = NAME(load)(from + NAME(pixel_of)(spread, i, row, late_row) +
                                       NAME(pixel_of)(spread, j, column, late_column));
        if (er > 1)
            NAME(transform_input_line)(er, d + j, ec);
    }
    CYCONV_UNROLL
    for (int i = 0; i < er; i++) {
        if (ec > 1)
            NAME(transform_input_line)(ec, d + i * ec, 1);
        CYCONV_UNROLL
        for (int j = 0; j < ec; j++)
            NAME(store)(to + (places ? places[i * ec + j] : (i * ec + j) * plane), d[i * ec + j]);
    }
}

/* One tile, one vector of channels: M[xi] to m x m pixels, with bias and, down to `floor`, a ReLU. */
CYCONV_INLINE void NAME(output_tile)(const int m, const int er, const int ec, const T *from, const ptrdiff_t *places,
                                     VEC bias, T floor, T *to, ptrdiff_t row, ptrdiff_t column)
{
    const int mr = er > 1 ? m : 1, mc = ec > 1 ? m : 1;
    VEC y[81];
    CYCONV_UNROLL
    for (int j = 0; j < ec; j++) {
        CYCONV_UNROLL
        for (int i = 0; i < er; i++)
            y[i * ec + j] = NAME(load)(from + places[i * ec + j]);
        if (er > 1)
            NAME(transform_output_line)(m, er, y + j, ec);
    }
    CYCONV_UNROLL
    for (int i = 0; i < mr; i++) {
        if (ec > 1)
            NAME(transform_output_line)(m, ec, y + i * ec, 1);
        CYCONV_UNROLL
        for (int j = 0; j < mc; j++)
            NAME(store)(to + i * row + j * column, NAME(at_least)(y[i * ec + j] + bias, floor));
    }
}

/* One tile, one vector of input channels of the gradient at stride 2: M[xi] to 2 m x 2 m pixels; those that meet one tap
 * stand at the even places of their axis, or `late` further on, the others beside them. */
CYCONV_INLINE void NAME(spread_tile)(const int m, const int er, const int ec, const T *from, const ptrdiff_t *places,
                                     VEC bias, T floor, T *to, ptrdiff_t row, ptrdiff_t column, ptrdiff_t late_row,
                                     ptrdiff_t late_column)
{
    const int mr = er > 1 ? 2 * m : 1, mc = ec > 1 ? 2 * m : 1;
    VEC y[81];
    CYCONV_UNROLL
    for (int j = 0; j < ec; j++) {
        CYCONV_UNROLL
        for (int i = 0; i < er; i++)
            y[i * ec + j] = NAME(load)(from + places[i * ec + j]);
        if (er > 1)
            NAME(transform_spread_line)(er, y + j, ec);
    }
    CYCONV_UNROLL
    for (int i = 0; i < mr; i++) {
        T *line = to + i / 2 * 2 * row + (er == 1 ? 0 : i % 2 ? late_row : row - late_row);
        if (ec > 1)
            NAME(transform_spread_line)(ec, y + i * ec, 1);
        CYCONV_UNROLL
        for (int j = 0; j < mc; j++)
            NAME(store)(line + j / 2 * 2 * column + (ec == 1 ? 0 : j % 2 ? late_column : column - late_column),
                        NAME(at_least)(y[i * ec + j] + bias, floor));
    }
}

/* One vector of output channels of one input channel: the taps at distance `tap` to U[xi], xi at `plane`. */
CYCONV_INLINE void NAME(weight_tile)(const int m, const int er, const int ec, const T *from, ptrdiff_t tap, T *to,
                                     ptrdiff_t plane)
{
    const int rr = NAME(taps_of)(m, er), rc = NAME(taps_of)(m, ec), ur = NAME(weights_of)(m, er);
    const int uc = NAME(weights_of)(m, ec);
    VEC g[25], half[30], u[36];
    CYCONV_UNROLL
    for (int i = 0; i < rr * rc; i++)
        g[i] = NAME(load)(from + i * tap);
    CYCONV_UNROLL
    for (int j = 0; j < rc; j++) {
        if (er > 1)
            NAME(transform_weight_line)(rr, er, g + j, rc, half + j, rc);
        else
            half[j] = g[j];
    }
    CYCONV_UNROLL
    for (int i = 0; i < ur; i++) {
        if (ec > 1)
            NAME(transform_weight_line)(rc, ec, half + i * rc, 1, u + i * uc, 1);
        else
            u[i] = half[i];
    }
    CYCONV_UNROLL
    for (int i = 0; i < ur * uc; i++)
        NAME(store)(to + i * plane, u[i]);
}

/* A y, from m elements to edge: the transpose of transform_output_line; out must not overlap y. */
CYCONV_INLINE void NAME(transform_gradient_line)(const int m, const int edge, const VEC *y, const int step, VEC *out,
                                                 const int out_step)
{
    VEC y0 = y[0], y1 = y[step];
    if (edge == 5) {
        out[0] = out[out_step] = y0;
        out[2 * out_step] = y0 + y1;
        out[3 * out_step] = out[4 * out_step] = y1;
        return;
    }
    if (edge == 9) {
        const T a = WINOGRAD_SA, b = WINOGRAD_SB, a2 = WINOGRAD_SA2, b2 = WINOGRAD_SB2;
        const T a3 = WINOGRAD_SA2 * WINOGRAD_SA, b3 = WINOGRAD_SB2 * WINOGRAD_SB;
        VEC y2 = y[2 * step], y3 = y[3 * step];
        VEC even_a = y0 + a2 * y2, odd_a = a * y1 + a3 * y3, even_b = y0 + b2 * y2, odd_b = b * y1 + b3 * y3;
        out[0] = even_a + odd_a;
        out[2 * out_step] = even_a - odd_a;
        out[4 * out_step] = even_b + odd_b;
        out[6 * out_step] = even_b - odd_b;
        out[out_step] = y0;
        out[3 * out_step] = y1;
        out[5 * out_step] = y2;
        out[7 * out_step] = out[8 * out_step] = y3;
        return;
    }
    out[0] = y0;
    if (edge == 4) {
        out[out_step] = y0 + y1;
        out[2 * out_step] = y0 - y1;
        out[3 * out_step] = y1;
    } else {
        const T a = WINOGRAD_A, b = WINOGRAD_B, a2 = WINOGRAD_A2, b2 = WINOGRAD_B2;
        const T a3 = WINOGRAD_A2 * WINOGRAD_A, b3 = WINOGRAD_B2 * WINOGRAD_B;
        VEC even_a = y0, odd_a = a * y1, even_b = y0, odd_b = b * y1;
        if (m == 4) {
            even_a += a2 * y[2 * step];
            odd_a += a3 * y[3 * step];
            even_b += b2 * y[2 * step];
            odd_b += b3 * y[3 * step];
        }
        out[out_step] = even_a + odd_a;
        out[2 * out_step] = even_a - odd_a;
        out[3 * out_step] = even_b + odd_b;
        out[4 * out_step] = even_b - odd_b;
        out[5 * out_step] = y[(m - 1) * step];
    }
}

/* Gᵀ u, in place, from edge elements to r: the transpose of transform_weight_line. */
CYCONV_INLINE void NAME(transform_sums_line)(const int r, const int edge, VEC *u, const int step)
{
    if (edge == 5) {
        VEC u1 = u[step], u2 = u[2 * step];
        u[0] += u1;
        u[step] = u[3 * step];
        u[2 * step] = u1 + u2;
        return;
    }
    if (edge == 9) {
        /* As in transform_weight_line. */
        const T at_a = 1 / (2 * WINOGRAD_SA * (WINOGRAD_SA2 - WINOGRAD_SB2));
        const T at_b = 1 / (2 * WINOGRAD_SB * (WINOGRAD_SB2 - WINOGRAD_SA2));
        const T a = WINOGRAD_SA * at_a, b = WINOGRAD_SB * at_b;
        VEC plus_a = u[0] + u[step], minus_a = u[0] - u[step];
        VEC plus_b = u[2 * step] + u[3 * step], minus_b = u[2 * step] - u[3 * step];
        u[0] = at_a * minus_a + at_b * minus_b;
        u[step] = u[5 * step];
        u[2 * step] = u[4 * step] + (a * plus_a + b * plus_b);
        return;
    }
    VEC u0 = u[0], even_a = u[step] + u[2 * step], odd_a = u[step] - u[2 * step], u3 = u[3 * step];
    if (edge == 4) {
        const T half = 0.5;
        u[0] = half * even_a - u0;
        u[step] = half * odd_a;
        u[2 * step] = half * even_a + u3;
    } else {
        /* As in transform_weight_line. */
        const T at_0 = 1 / (WINOGRAD_A2 * WINOGRAD_B2);
        const T at_a = 1 / (2 * WINOGRAD_A2 * (WINOGRAD_A2 - WINOGRAD_B2));
        const T at_b = 1 / (2 * WINOGRAD_B2 * (WINOGRAD_B2 - WINOGRAD_A2));
        const T a = WINOGRAD_A * at_a, a2 = WINOGRAD_A2 * at_a, b = WINOGRAD_B * at_b, b2 = WINOGRAD_B2 * at_b;
        VEC even_b = u3 + u[4 * step], odd_b = u3 - u[4 * step], u5 = u[5 * step];
        u[0] = at_0 * u0 + (at_a * even_a + at_b * even_b);
        u[step] = a * odd_a + b * odd_b;
        u[2 * step] = a2 * even_a + b2 * even_b;
        if (r == 5) {
            const T square_a = WINOGRAD_A2, square_b = WINOGRAD_B2;
            u[3 * step] = (a * square_a) * odd_a + (b * square_b) * odd_b;
            u[4 * step] = (a2 * square_a) * even_a + (b2 * square_b) * even_b;
        }
        u[(r - 1) * step] += u5;
    }
}

/* One tile, one vector of output channels: m x m pixels of the gradient to W[xi], xi at `plane`, or where `places`
 * says. */
CYCONV_INLINE void NAME(gradient_tile)(const int m, const int er, const int ec, const T *from, ptrdiff_t row,
                                       ptrdiff_t column, T *to, ptrdiff_t plane, const ptrdiff_t *places)
{
    const int mr = er > 1 ? m : 1, mc = ec > 1 ? m : 1;
    VEC y[16], half[36], w[81];
    CYCONV_UNROLL
    for (int j = 0; j < mc; j++) {
        CYCONV_UNROLL
        for (int i = 0; i < mr; i++)
            y[i * mc + j] = NAME(load)(from + i * row + j * column);
        if (er > 1)
            NAME(transform_gradient_line)(m, er, y + j, mc, half + j, mc);
        else
            half[j] = y[j];
    }
    CYCONV_UNROLL
    for (int i = 0; i < er; i++) {
        if (ec > 1)
            NAME(transform_gradient_line)(m, ec, half + i * mc, 1, w + i * ec, 1);
        else
            w[i] = half[i];
        CYCONV_UNROLL
        for (int j = 0; j < ec; j++)
            NAME(store)(to + (places ? places[i * ec + j] : (i * ec + j) * plane), w[i * ec + j]);
    }
}

/* One vector of output channels of one input channel: the sums at xi, those of all chunks added in their order, to the
 * taps at distance `tap`. */
CYCONV_INLINE void NAME(sums_tile)(const int m, const int er, const int ec, const T *from, ptrdiff_t plane,
                                   ptrdiff_t chunk, ptrdiff_t chunks, T *to, ptrdiff_t tap)
{
    const int rr = NAME(taps_of)(m, er), rc = NAME(taps_of)(m, ec), ur = NAME(weights_of)(m, er);
    const int uc = NAME(weights_of)(m, ec);
    VEC u[36];
    CYCONV_UNROLL
    for (int j = 0; j < uc; j++) {
        CYCONV_UNROLL
        for (int i = 0; i < ur; i++) {
            u[i * uc + j] = NAME(load)(from + (i * uc + j) * plane);
            for (ptrdiff_t c = 1; c < chunks; c++)
                u[i * uc + j] += NAME(load)(from + (i * uc + j) * plane + c * chunk);
        }
        if (er > 1)
            NAME(transform_sums_line)(rr, er, u + j, uc);
    }
    CYCONV_UNROLL
    for (int i = 0; i < rr; i++) {
        if (ec > 1)
            NAME(transform_sums_line)(rc, ec, u + i * uc, 1);
        CYCONV_UNROLL
        for (int j = 0; j < rc; j++)
            NAME(store)(to + (i * rc + j) * tap, u[i * uc + j]);
    }
}

/* All tiles that there are, as (m, er, ec). */
#define TILES(each)                                                                                                     \
    each(2, 4, 4) each(2, 1, 4) each(2, 4, 1) each(2, 6, 6) each(2, 1, 6) each(2, 6, 1) each(4, 6, 6) each(4, 1, 6)     \
        each(4, 6, 1)
/* Those with an axis of stride 2. */
#define STRIDED_TILES(each)                                                                                             \
    each(2, 5, 5) each(2, 1, 5) each(2, 5, 1) each(2, 4, 5) each(2, 5, 4) each(4, 9, 9) each(4, 1, 9) each(4, 9, 1)     \
        each(4, 6, 9) each(4, 9, 6)
/* Those of stride 2 in each axis that has more than one tap, and 1 in the other. */
#define EVENLY_STRIDED_TILES(each) each(2, 5, 5) each(2, 1, 5) each(2, 5, 1) each(4, 9, 9) each(4, 1, 9) each(4, 9, 1)

/* All of them for runs of tiles, m and edges constants in each branch. `column`: distance of neighbouring pixels. */
static __attribute__((noinline, unused)) void NAME(winograd_input)(int m, int er, int ec, const T *from, ptrdiff_t row,
                                                                   ptrdiff_t column, ptrdiff_t tiles, T *to,
                                                                   ptrdiff_t plane)
{
    ptrdiff_t step = (ec > 1 ? m : 1) * column;
#define EACH(a, b, c)                                                                                                   \
    if (m == a && er == b && ec == c)                                                                                   \
        for (ptrdiff_t t = 0; t < tiles; t++)                                                                           \
            NAME(input_tile)(0, b, c, from + t * step, row, column, 0, 0, to + t * LANES, plane, NULL);
    TILES(EACH)
#undef EACH
}

/* One vector of channels of a block, as [row][column][channel]: `rows` rows of `columns` pixels, of which [first, last)
 * hold whole rows of the image, `width` pixels from column `left` on; zeros around them. The image's rows follow each
 * other, so that its pixels are transposed by whole vectors, over the ends of rows. Meanwhile `ahead` is fetched, where
 * the next vector of channels lies, if it is not NULL. (last - first) * width >= LANES. */
static __attribute__((noinline, unused)) void NAME(winograd_gather)(const T *from, const T *ahead, ptrdiff_t plane,
                                                                    ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t first,
                                                                    ptrdiff_t last, ptrdiff_t left, ptrdiff_t width,
                                                                    T *to, ptrdiff_t pitch)
{
    ptrdiff_t n = (last - first) * width, skip = pitch - width * LANES;
    const VEC zero = {0};
    for (ptrdiff_t r = 0; r < rows; r++) {
        T *line = to + r * pitch;
        ptrdiff_t inside = r >= first && r < last;
        for (ptrdiff_t j = 0; j < (inside ? left : columns); j++)
            NAME(store)(line + j * LANES, zero);
        for (ptrdiff_t j = left + width; inside && j < columns; j++)
            NAME(store)(line + j * LANES, zero);
    }
    to += first * pitch + left * LANES;
    for (ptrdiff_t i = 0; i < n; i += LANES) {
        /* The last vectors overlap those before. */
        ptrdiff_t at = i < n - LANES ? i : n - LANES, r = at / width, c = at % width;
        T *p = to + r * pitch + c * LANES;
        VEC v[LANES];
        CYCONV_UNROLL
        for (int k = 0; k < LANES; k++) {
            v[k] = NAME(load)(from + k * plane + at);
            if (ahead)
                __builtin_prefetch(ahead + k * plane + at);
        }
        NAME(transpose_registers)(v);
        CYCONV_UNROLL
        for (int k = 0; k < LANES; k++) {
            NAME(store)(p, v[k]);
            c++;
            p += LANES + (c == width ? skip : 0);
            c = c == width ? 0 : c;
        }
    }
}

/* places[xi] = xi * plane + size * above[row of xi] * wide[column of xi]: xi has wide[j] tiles in each row of them. */
CYCONV_INLINE void NAME(find_places)(const int er, const int ec, ptrdiff_t plane, const ptrdiff_t *above,
                                     const ptrdiff_t *wide, ptrdiff_t size, ptrdiff_t *places)
{
    for (int i = 0; i < er; i++)
        for (int j = 0; j < ec; j++)
            places[i * ec + j] = (i * ec + j) * plane + above[i] * wide[j] * size;
}

static __attribute__((noinline, unused)) void
NAME(winograd_places_input)(int m, int er, int ec, const T *from, ptrdiff_t row, ptrdiff_t column, ptrdiff_t step,
                            ptrdiff_t tiles, T *to, ptrdiff_t plane, const ptrdiff_t *above, const ptrdiff_t *wide)
{
    ptrdiff_t places[81];
    NAME(find_places)(er, ec, plane, above, wide, LANES, places);
#define EACH(a, b, c)                                                                                                   \
    if (m == a && er == b && ec == c)                                                                                   \
        for (ptrdiff_t t = 0; t < tiles; t++)                                                                           \
            NAME(input_tile)(0, b, c, from + t * step, row, column, 0, 0, to + t * LANES, plane, places);
    TILES(EACH)
    STRIDED_TILES(EACH)
#undef EACH
}

/* The same for the tiles that gradients have: a module holds what it calls only. */
static __attribute__((noinline, unused)) void
NAME(winograd_even_input)(int m, int er, int ec, const T *from, ptrdiff_t row, ptrdiff_t column, ptrdiff_t step,
                          ptrdiff_t tiles, T *to, ptrdiff_t plane, const ptrdiff_t *above, const ptrdiff_t *wide)
{
    ptrdiff_t places[81];
    NAME(find_places)(er, ec, plane, above, wide, LANES, places);
#define EACH(a, b, c)                                                                                                   \
    if (m == a && er == b && ec == c)                                                                                   \
        for (ptrdiff_t t = 0; t < tiles; t++)                                                                           \
            NAME(input_tile)(0, b, c, from + t * step, row, column, 0, 0, to + t * LANES, plane, places);
    EVENLY_STRIDED_TILES(EACH)
#undef EACH
}

/* The same under the pixels of an input gradient, `late` of each axis 0 or the distance of its pixels. */
static __attribute__((noinline, unused)) void
NAME(winograd_spread_input)(int m, int er, int ec, const T *from, ptrdiff_t row, ptrdiff_t column, ptrdiff_t late_row,
                            ptrdiff_t late_column, ptrdiff_t step, ptrdiff_t tiles, T *to, ptrdiff_t plane,
                            const ptrdiff_t *above, const ptrdiff_t *wide)
{
    ptrdiff_t places[81];
    NAME(find_places)(er, ec, plane, above, wide, LANES, places);
#define EACH(a, b, c)                                                                                                   \
    if (m == a && er == b && ec == c)                                                                                   \
        for (ptrdiff_t t = 0; t < tiles; t++)                                                                           \
            NAME(input_tile)(1, b, c, from + t * step, row, column, late_row, late_column, to + t * LANES, plane,       \
                             places);
    EVENLY_STRIDED_TILES(EACH)
#undef EACH
}

/* The last tile first: what of it lies behind the end of a row may fall on the first pixels of the next. */
static __attribute__((noinline, unused)) void
NAME(winograd_output)(int m, int er, int ec, const T *from, ptrdiff_t ld, ptrdiff_t plane, ptrdiff_t tiles, int vectors,
                      const T *bias, T floor, T *to, ptrdiff_t row, ptrdiff_t column, const ptrdiff_t *above,
                      const ptrdiff_t *wide)
{
    ptrdiff_t step = (ec > 1 ? m : 1) * column, places[81];
    NAME(find_places)(er, ec, plane, above, wide, ld, places);
#define EACH(a, b, c)                                                                                                   \
    if (m == a && er == b && ec == c)                                                                                   \
        for (ptrdiff_t t = tiles - 1; t >= 0; t--)                                                                      \
            for (ptrdiff_t v = 0; v < vectors * LANES; v += LANES)                                                      \
                NAME(output_tile)(a, b, c, from + t * ld + v, places, NAME(load)(bias + v), floor, to + t * step + v,   \
                                  row, column);
    TILES(EACH)
    STRIDED_TILES(EACH)
#undef EACH
}

static __attribute__((noinline, unused)) void
NAME(winograd_spread_output)(int m, int er, int ec, const T *from, ptrdiff_t ld, ptrdiff_t plane, ptrdiff_t tiles,
                             int vectors, const T *bias, T floor, T *to, ptrdiff_t row, ptrdiff_t column,
                             ptrdiff_t late_row, ptrdiff_t late_column, const ptrdiff_t *above, const ptrdiff_t *wide)
{
    ptrdiff_t step = (ec > 1 ? 2 * m : 1) * column, places[81];
    NAME(find_places)(er, ec, plane, above, wide, ld, places);
#define EACH(a, b, c)                                                                                                   \
    if (m == a && er == b && ec == c)                                                                                   \
        for (ptrdiff_t t = 0; t < tiles; t++)                                                                           \
            for (ptrdiff_t v = 0; v < vectors * LANES; v += LANES)                                                      \
                NAME(spread_tile)(a, b, c, from + t * ld + v, places, NAME(load)(bias + v), floor, to + t * step + v,   \
                                  row, column, late_row, late_column);
    EVENLY_STRIDED_TILES(EACH)
#undef EACH
}

static __attribute__((noinline, unused)) void NAME(winograd_weights)(int m, int er, int ec, const T *from,
                                                                     ptrdiff_t channels, int vectors, T *to,
                                                                     ptrdiff_t plane)
{
    ptrdiff_t ld = vectors * LANES;
#define EACH(a, b, c)                                                                                                   \
    if (m == a && er == b && ec == c) {                                                                                 \
        const int taps = NAME(taps_of)(a, b) * NAME(taps_of)(a, c);                                                     \
        for (ptrdiff_t i = 0; i < channels; i++)                                                                        \
            for (ptrdiff_t v = 0; v < ld; v += LANES)                                                                   \
                NAME(weight_tile)(a, b, c, from + i * taps * ld + v, ld, to + i * ld + v, plane);                       \
    }
    TILES(EACH)
    STRIDED_TILES(EACH)
#undef EACH
}

static __attribute__((noinline, unused)) void NAME(winograd_gradient)(int m, int er, int ec, const T *from,
                                                                      ptrdiff_t row, ptrdiff_t column, ptrdiff_t tiles,
                                                                      int vectors, T *to, ptrdiff_t plane)
{
    ptrdiff_t step = (ec > 1 ? m : 1) * column, ld = vectors * LANES;
#define EACH(a, b, c)                                                                                                   \
    if (m == a && er == b && ec == c)                                                                                   \
        for (ptrdiff_t t = 0; t < tiles; t++)                                                                           \
            for (ptrdiff_t v = 0; v < ld; v += LANES)                                                                   \
                NAME(gradient_tile)(a, b, c, from + t * step + v, row, column, to + t * ld + v, plane, NULL);
    TILES(EACH)
#undef EACH
}

static __attribute__((noinline, unused)) void
NAME(winograd_strided_gradient)(int m, int er, int ec, const T *from, ptrdiff_t row, ptrdiff_t column, ptrdiff_t tiles,
                                int vectors, T *to, ptrdiff_t plane, const ptrdiff_t *above, const ptrdiff_t *wide)
{
    ptrdiff_t step = (ec > 1 ? m : 1) * column, ld = vectors * LANES, places[81];
    NAME(find_places)(er, ec, plane, above, wide, ld, places);
#define EACH(a, b, c)                                                                                                   \
    if (m == a && er == b && ec == c)                                                                                   \
        for (ptrdiff_t t = 0; t < tiles; t++)                                                                           \
            for (ptrdiff_t v = 0; v < ld; v += LANES)                                                                   \
                NAME(gradient_tile)(a, b, c, from + t * step + v, row, column, to + t * ld + v, plane, places);
    EVENLY_STRIDED_TILES(EACH)
#undef EACH
}

static __attribute__((noinline, unused)) void NAME(winograd_sums)(int m, int er, int ec, const T *from, ptrdiff_t plane,
                                                                  ptrdiff_t chunk, ptrdiff_t chunks, ptrdiff_t channels,
                                                                  int vectors, T *to)
{
    ptrdiff_t ld = vectors * LANES;
#define EACH(a, b, c)                                                                                                   \
    if (m == a && er == b && ec == c) {                                                                                 \
        const int taps = NAME(taps_of)(a, b) * NAME(taps_of)(a, c);                                                     \
        for (ptrdiff_t i = 0; i < channels; i++)                                                                        \
            for (ptrdiff_t v = 0; v < ld; v += LANES)                                                                   \
                NAME(sums_tile)(a, b, c, from + i * ld + v, plane, chunk, chunks, to + i * taps * ld + v, ld);           \
    }
    TILES(EACH)
    EVENLY_STRIDED_TILES(EACH)
#undef EACH
}

#undef TILES
#undef STRIDED_TILES
#undef EVENLY_STRIDED_TILES
#undef NAME
#undef VEC
#undef LANES
