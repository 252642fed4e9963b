/* Depthwise convolution: one kernel for each channel.
 *
 * Planes (NCHW), bound by memory where kernels are small and rows long: vectors over the pixels of a row; a few output
 * rows share every load.  Pixels outside are lanes of a masked load, rows outside are left out; nothing is copied.
 * Channels-last: vectors over channels; a strip of output pixels shares every load of the weights.  Planes with large
 * kernels or short rows go that way too, in blocks of channels that are transposed into private memory and back.
 */
#ifndef CYCONV_DEPTHWISE_H
#define CYCONV_DEPTHWISE_H

#include "simd.h"

#define DEPTHWISE_ROWS 7
/* Output pixels of the longest strip: beside their sums, 7 weights and a pixel fit the registers. */
#if CYCONV_TILE_PIXELS == 14
#define STRIP_PIXELS 14
#else
#define STRIP_PIXELS 8
#endif

#define T float
#define SUFFIX f32
#include "depthwise_edges.h"
#include "depthwise_rows.h"
#include "depthwise_channels.h"
#include "depthwise_spread.h"
#undef T
#undef SUFFIX

#define T double
#define SUFFIX f64
#include "depthwise_edges.h"
#include "depthwise_rows.h"
#include "depthwise_channels.h"
#include "depthwise_spread.h"
#undef T
#undef SUFFIX

#endif
