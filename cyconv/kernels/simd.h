/* The vector type of the instruction set, loads and stores of part vectors, and the register tile.
 *
 * Every kernel source is compiled once for each instruction set (see setup.py); this header takes what the
 * compiler was told about the CPU and defines, for float (suffix _f32) and double (_f64):
 *
 *   LANES_f32, LANES_f64        elements of one vector
 *   transpose_xxx               (rows, columns) block to (columns, rows)
 *   tile_xxx                    THE register tile (tile.h)
 *
 * GNU vector extensions (gcc and clang) rather than intrinsics: one text serves SSE2, AVX2, AVX-512 and NEON.
 * Plain loops over a C array would not do: the compilers spill the accumulators (41 % of peak instead of 95 %).
 */
#ifndef CYCONV_SIMD_H
#define CYCONV_SIMD_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
#define CYCONV_VECTOR_BYTES 64
#define CYCONV_TILE_PIXELS 14 /* 14 x 2 accumulators + 2 weights + 1 pixel = 31 of 32 registers */
#elif defined(__AVX2__)
#define CYCONV_VECTOR_BYTES 32
#define CYCONV_TILE_PIXELS 6 /* 6 x 2 + 2 + 1 = 15 of 16 registers */
#elif defined(__aarch64__)
#define CYCONV_VECTOR_BYTES 16
#define CYCONV_TILE_PIXELS 14
#else
#define CYCONV_VECTOR_BYTES 16
#define CYCONV_TILE_PIXELS 6
#endif

/* The pixel-vector tile: up to PIXEL_CHANNELS output channels x PIXEL_VECTORS(channels) vectors of pixels. */
#if CYCONV_TILE_PIXELS == 14
#define PIXEL_CHANNELS 8
/* 8 x 3 accumulators + 3 pixels + 1 weight = 28 of 32 registers; 6 x 4 + 4 + 1 = 29. */
#define PIXEL_VECTORS(channels) ((channels) <= 2 ? 8 : (channels) <= 6 ? 4 : 3)
/* Two phases of pixels that alternate: 2 x 4 x 3 accumulators + 2 x 3 pixels + 1 weight = 31. */
#define PAIR_CHANNELS 4
#else
#define PAIR_CHANNELS 0 /* too few registers */
#define PIXEL_CHANNELS 6
#define PIXEL_VECTORS(channels) ((channels) == 1 ? 8 : (channels) == 2 ? 4 : 2) /* 6 x 2 + 2 + 1 = 15 of 16 */
#endif

#define PAIR_VECTORS 3

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "cyconv supports little-endian machines only"
#endif

#define LANES_f32 (CYCONV_VECTOR_BYTES / 4)
#define LANES_f64 (CYCONV_VECTOR_BYTES / 8)

#define CYCONV_INLINE static inline __attribute__((always_inline, unused))

#if defined(CYCONV_SMALL)
#define CYCONV_UNROLL
#elif defined(__clang__)
#define CYCONV_UNROLL _Pragma("clang loop unroll(full)")
#else
#define CYCONV_UNROLL _Pragma("GCC unroll 64")
#endif

/* What calls this runs once for each geometry, not for each call: the compiler makes it small instead of fast. */
static __attribute__((cold, noinline, unused)) void cold(void) { __asm__ __volatile__(""); }

/* Flush-to-zero and denormals-are-zero while a kernel runs: denormal operands cost up to a hundred cycles each. */
#if defined(__SSE2__)
#include <immintrin.h>
CYCONV_INLINE uint64_t flush_denormals(void)
{
    unsigned int before = _mm_getcsr();
    _mm_setcsr(before | 0x8040u);
    return before;
}
CYCONV_INLINE void restore_denormals(uint64_t before) { _mm_setcsr((unsigned int)before); }
#elif defined(__aarch64__)
CYCONV_INLINE uint64_t flush_denormals(void)
{
    uint64_t before;
    __asm__ __volatile__("mrs %0, fpcr" : "=r"(before));
    __asm__ __volatile__("msr fpcr, %0" : : "r"(before | (1ull << 24)));
    return before;
}
CYCONV_INLINE void restore_denormals(uint64_t before) { __asm__ __volatile__("msr fpcr, %0" : : "r"(before)); }
#else
CYCONV_INLINE uint64_t flush_denormals(void) { return 0; }
CYCONV_INLINE void restore_denormals(uint64_t before) { (void)before; }
#endif

/* Ask for memory that will be read soon; beyond the end of an array it does no harm. */
CYCONV_INLINE void fetch(const void *p, ptrdiff_t bytes)
{
    for (ptrdiff_t i = 0; i < bytes; i += 64)
        __builtin_prefetch((const char *)p + i);
}

/* The same for an array that is read on and on: what lies some way on. */
#define FETCH_AHEAD 8192
CYCONV_INLINE void fetch_ahead(const void *p, ptrdiff_t bytes) { fetch((const char *)p + FETCH_AHEAD, bytes); }

#define CYCONV_JOIN_(a, b) a##_##b
#define CYCONV_JOIN(a, b) CYCONV_JOIN_(a, b)

#define T float
#define BITS int32_t
#define SUFFIX f32
#include "tile.h"
#undef T
#undef BITS
#undef SUFFIX

#define T double
#define BITS int64_t
#define SUFFIX f64
#include "tile.h"
#undef T
#undef BITS
#undef SUFFIX

#endif
