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

/* Those of one row of two vectors, which fetch scalars that lie ahead. */
#define FETCHING(r, c, v)                                                                                               \
    static __attribute__((noinline, unused)) void NAME(fetching_gradient_##c)(GRID_ARGUMENTS, ptrdiff_t ahead)          \
    {                                                                                                                   \
        NAME(tile_body)(r, c, v, 2, a, step, second, table, n, b, ldb, init, ldi, out, ldo, out_second, ahead);         \
    }
#define ENTRY(r, c, v) [c - 1] = NAME(fetching_gradient_##c),
TILE_WHOLE(FETCHING, 1, 2)
static void (*const NAME(fetching_gradients)[CYCONV_TILE_PIXELS])(GRID_ARGUMENTS, ptrdiff_t ahead) = {
    TILE_WHOLE(ENTRY, 1, 2)};

/* The register tile of simd.h, those of GRID_ROWS rows, and those that fetch; `ahead`: from the scalars to those that a
 * later tile will read, or 0. */
CYCONV_INLINE void NAME(gradient_tile)(int rows, int columns, int vectors, GRID_ARGUMENTS, ptrdiff_t ahead)
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
    if (ahead != 0 && rows == 1 && vectors == 2)
        NAME(fetching_gradients)[columns - 1](a, step, second, table, n, b, ldb, init, ldi, out, ldo, out_second, ahead);
    else
        NAME(tile)(rows, columns, vectors, a, step, second, table, n, b, ldb, init, ldi, out, ldo, out_second);
}

#undef GRID
#undef FETCHING
#undef ENTRY
#undef GRID_ARGUMENTS
#undef NAME
#undef VEC
#undef LANES
