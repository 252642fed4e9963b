/* Depthwise convolution: one kernel for each channel, bound by memory, so nothing is copied and nothing is padded.
 *
 * Planes (NCHW): vectors over the pixels of a row; a few output rows share every load.  Pixels outside are lanes of a
 * masked load, rows outside are left out.
 * Channels-last: vectors over channels; a strip of output pixels shares every load of the weights.
 */
#ifndef CYCONV_DEPTHWISE_H
#define CYCONV_DEPTHWISE_H

#include "simd.h"

#define DEPTHWISE_ROWS 7

#define T float
#define SUFFIX f32
#include "depthwise_edges.h"
#include "depthwise_rows.h"
#include "depthwise_spread.h"
#undef T
#undef SUFFIX

#define T double
#define SUFFIX f64
#include "depthwise_edges.h"
#include "depthwise_rows.h"
#include "depthwise_spread.h"
#undef T
#undef SUFFIX

#endif
