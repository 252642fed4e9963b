/* Template, included by weight_gradient.h once for each element type T. */
#define NAME(x) CYCONV_JOIN(x, SUFFIX)
#define VEC NAME(vec)
#define LANES ((ptrdiff_t)(CYCONV_VECTOR_BYTES / sizeof(T)))

#define GRID_ARGUMENTS                                                                                                  \
    const T *a, ptrdiff_t step, ptrdiff_t second, const int32_t *table, ptrdiff_t n, const T *b, ptrdiff_t ldb,         \
        const T *init, ptrdiff_t ldi, T *out, ptrdiff_t ldo, ptrdiff_t out_second
#define GRID(r, c, v)                                                                                                   \
    static __attribute__((noinline, unused)) void NAME(grid_##r##_##c##_##v)(GRID_ARGUMENTS)                            \
    {                                                                                                                   \
        NAME(tile_body)(r, c, v, 0, a, step, second, table, n, b, ldb, init, ldi, out, ldo, out_second, 0);              \
    }
GRID(3, 3, 1)
#if CYCONV_TILE_PIXELS == 14
GRID(3, 3, 2)
GRID(5, 5, 1)
#endif

/* The register tile of simd.h, and those of GRID_ROWS rows. */
CYCONV_INLINE void NAME(gradient_tile)(int rows, int columns, int vectors, GRID_ARGUMENTS)
{
#define CASE(r, c, v)                                                                                                   \
    if (rows == r && columns == c && vectors == v) {                                                                    \
        NAME(grid_##r##_##c##_##v)(a, step, second, table, n, b, ldb, init, ldi, out, ldo, out_second);                 \
        return;                                                                                                         \
    }
    CASE(3, 3, 1)
#if CYCONV_TILE_PIXELS == 14
    CASE(3, 3, 2) CASE(5, 5, 1)
#endif
#undef CASE
    NAME(tile)(rows, columns, vectors, a, step, second, table, n, b, ldb, init, ldi, out, ldo, out_second);
}

#undef GRID
#undef GRID_ARGUMENTS
#undef NAME
#undef VEC
#undef LANES
