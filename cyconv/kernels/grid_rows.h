/* Template, included by grid.h once for each element type T. */
#define NAME(x) CYCONV_JOIN(x, SUFFIX)
#define VEC NAME(vec)
#define LANES ((ptrdiff_t)(CYCONV_VECTOR_BYTES / sizeof(T)))

/* to[i] = from[i * step] for i < n, where nothing behind the last is read. */
static __attribute__((noinline, unused)) void NAME(thin_row)(T *to, const T *from, ptrdiff_t n, ptrdiff_t step)
{
    ptrdiff_t i = 0;
    if (step == 1) {
        NAME(copy_row)(to, from, n);
        return;
    }
    if (step == 2) {
        for (; i + LANES < n; i += LANES)
            NAME(store)(to + i, NAME(every_second)(NAME(load)(from + 2 * i), NAME(load)(from + 2 * i + LANES), 0));
#if defined(__AVX512F__)
        ptrdiff_t left = 2 * (n - i) - 1, low = left < LANES ? left : LANES;
        VEC a = NAME(load_part)(from + 2 * i, low), b = NAME(load_part)(from + 2 * i + low, left - low);
        NAME(store_part)(to + i, NAME(every_second)(a, b, 0), n - i);
        return;
#endif
    }
    for (; i < n; i++)
        to[i] = from[i * step];
}

/* n times `value`; the last vector overlaps the one before. */
static __attribute__((noinline, unused)) void NAME(fill_row)(T *to, ptrdiff_t n, T value)
{
    VEC v = (VEC){0} + value;
    if (n < LANES) {
        NAME(store_part)(to, v, n);
        return;
    }
    for (ptrdiff_t i = 0; i < n - LANES; i += LANES)
        NAME(store)(to + i, v);
    NAME(store)(to + n - LANES, v);
}

/* The way back: from[i] to to[i * step] for i < n, among `length` elements that hold `fill`. Whole vectors of both, where
 * every second is written: stores of single elements are slow. */
static __attribute__((noinline, unused)) void NAME(spread_row)(T *to, const T *from, ptrdiff_t n, ptrdiff_t step,
                                                               ptrdiff_t length, T fill)
{
    ptrdiff_t i = 0;
    if (step == 1) {
        NAME(copy_row)(to, from, n);
        return;
    }
    if (step == 2) {
        VEC other = (VEC){0} + fill;
        for (; i + LANES <= n && 2 * (i + LANES) <= length; i += LANES) {
            VEC v = NAME(load)(from + i);
            NAME(store)(to + 2 * i, NAME(pairs)(v, other, 0));
            NAME(store)(to + 2 * i + LANES, NAME(pairs)(v, other, 1));
        }
#if defined(__AVX512F__)
        if (i < n) {
            ptrdiff_t most = length < 2 * n ? length : 2 * n, left = most - 2 * i, low = left < LANES ? left : LANES;
            VEC v = NAME(load_part)(from + i, n - i);
            NAME(store_part)(to + 2 * i, NAME(pairs)(v, other, 0), low);
            NAME(store_part)(to + 2 * i + low, NAME(pairs)(v, other, 1), left - low);
            i = n;
        }
#endif
    }
    for (; i < n; i++)
        to[i * step] = from[i];
}

#undef NAME
#undef VEC
#undef LANES
