/* Winograd's transforms F(2x2, 3x3), F(4x4, 3x3) and F(2x2, 5x5), and those of stride 2, one vector of channels at a
 * time, for float and double.
 *
 * A. Lavin, S. Gray, "Fast Algorithms for Convolutional Neural Networks", 2015.  With interpolation points p_i:
 *
 *     y = Aᵀ [(G g Gᵀ) . (Bᵀ d B)] A      A[i, j] = p_i^j      G[i, j] = p_i^j / prod over k of (p_i - p_k)
 *     B: column i holds the coefficients of prod over k != i of (x - p_k)
 *
 * Points: 0, ±1, infinity for F(2, 3); 0, ±11/16, ±3/2, infinity for F(4, 3) and F(2, 5), whose error is a quarter of that of the
 * usual ±1, ±2 (measured: 2e-6 instead of 8e-6 of the largest result at 128 channels).  Points in pairs ±p share the
 * even and the odd part of each polynomial.
 */
#ifndef CYCONV_WINOGRAD_H
#define CYCONV_WINOGRAD_H

#include "simd.h"

#define WINOGRAD_A (11.0 / 16)
#define WINOGRAD_B (3.0 / 2)
#define WINOGRAD_A2 (WINOGRAD_A * WINOGRAD_A)
#define WINOGRAD_B2 (WINOGRAD_B * WINOGRAD_B)
/* At stride 2. */
#define WINOGRAD_SA (1.0 / 2)
#define WINOGRAD_SB (5.0 / 4)
#define WINOGRAD_SA2 (WINOGRAD_SA * WINOGRAD_SA)
#define WINOGRAD_SB2 (WINOGRAD_SB * WINOGRAD_SB)

#define T float
#define SUFFIX f32
#include "winograd_transforms.h"
#undef T
#undef SUFFIX

#define T double
#define SUFFIX f64
#include "winograd_transforms.h"
#undef T
#undef SUFFIX

#endif
