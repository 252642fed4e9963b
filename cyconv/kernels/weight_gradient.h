/* What the weight gradient needs beside the register tile of simd.h: tiles of more than two rows of a kernel. */
#ifndef CYCONV_WEIGHT_GRADIENT_H
#define CYCONV_WEIGHT_GRADIENT_H

#include "simd.h"

/* Rows of a kernel that one tile takes, all columns of which it takes too; 0 where there is no such tile. */
#if CYCONV_TILE_PIXELS == 14
#define GRID_ROWS(columns, vectors) ((columns) == 3 ? 3 : (columns) == 5 && (vectors) == 1 ? 5 : 0)
#else
#define GRID_ROWS(columns, vectors) ((columns) == 3 && (vectors) == 1 ? 3 : 0)
#endif

/* Ask for memory that will be read some time from now: into the second-level cache. */
CYCONV_INLINE void fetch_later(const void *p, ptrdiff_t bytes)
{
    for (ptrdiff_t i = 0; i < bytes; i += 64)
        __builtin_prefetch((const char *)p + i, 0, 2);
}

#define T float
#define SUFFIX f32
#include "weight_gradient_tile.h"
#undef T
#undef SUFFIX

#define T double
#define SUFFIX f64
#include "weight_gradient_tile.h"
#undef T
#undef SUFFIX

#endif
