/* Weight gradient of a depthwise convolution: as many sums as a kernel has taps, over all pixels of a channel.
 *
 * Planes (NCHW): vectors over the pixels of a row, added up over their lanes at the end.  Pixels outside are lanes of a
 * masked load, rows outside a row of zeros.
 * Channels-last: vectors over channels; the rows under a row of windows lie in a private padded ring.
 */
#ifndef CYCONV_DEPTHWISE_GRADIENT_H
#define CYCONV_DEPTHWISE_GRADIENT_H

#include "simd.h"

/* Rows of a kernel whose sums fit the registers beside the pixels: over planes, and channels-last. */
#if CYCONV_TILE_PIXELS == 14
#define PLANE_GROUP(kernel) ((kernel) == 7 ? 2 : 3)
#define STRIP_GROUP(kernel) ((kernel) == 5 ? 5 : 3)
#else
#define PLANE_GROUP(kernel) ((kernel) == 3 ? 3 : (kernel) == 5 ? 2 : 1)
#define STRIP_GROUP(kernel) ((kernel) == 3 ? 3 : (kernel) == 5 ? 2 : 1)
#endif
/* Columns of a kernel that a tile of one row takes at most. */
#define GRADIENT_COLUMNS 8

#define T float
#define SUFFIX f32
#include "depthwise_edges.h"
#include "depthwise_gradient_rows.h"
#undef T
#undef SUFFIX

#define T double
#define SUFFIX f64
#include "depthwise_edges.h"
#include "depthwise_gradient_rows.h"
#undef T
#undef SUFFIX

#endif
