/* Rows of every step-th pixel of a volume, which a kernel of one tap and a stride meets: together, and apart again. */
#ifndef CYCONV_GRID_H
#define CYCONV_GRID_H

#include "simd.h"

#define T float
#define SUFFIX f32
#include "grid_rows.h"
#undef T
#undef SUFFIX

#define T double
#define SUFFIX f64
#include "grid_rows.h"
#undef T
#undef SUFFIX

#endif
