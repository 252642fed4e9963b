/* Elements of several streams dealt out by turns, wide[l * count + k] = stream k [l], and back: a transpose whose rows, the
 * streams, lie anywhere. Blocks of one vector of 16 bytes squared, which every processor has; memory is slower anyway.
 */
#ifndef T /* the first time: once for each size of an element */
#ifndef CYCONV_SHUFFLE_H
#define CYCONV_SHUFFLE_H
#include <stddef.h>
#include <stdint.h>

#define SHUFFLE_JOIN_(a, b) a##_##b
#define SHUFFLE_JOIN(a, b) SHUFFLE_JOIN_(a, b)
#if defined(__clang__)
#define SHUFFLED(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLED(a, b, ...) __builtin_shuffle(a, b, (VEC){__VA_ARGS__})
#endif

#define T int32_t
#define SUFFIX 4
#define BLOCK 4
#include "shuffle.h"
#undef T
#undef SUFFIX
#undef BLOCK

#define T int64_t
#define SUFFIX 8
#define BLOCK 2
#include "shuffle.h"
#undef T
#undef SUFFIX
#undef BLOCK

#endif
#else /* the template */

#define NAME(x) SHUFFLE_JOIN(x, SUFFIX)
#define VEC NAME(words)
typedef T VEC __attribute__((vector_size(16)));
typedef T NAME(unaligned) __attribute__((vector_size(16), aligned(sizeof(T)), may_alias));
#define LOAD(p) (*(const NAME(unaligned) *)(p))
#define STORE(p, v) (*(NAME(unaligned) *)(p) = (v))

static inline void NAME(turn)(VEC *v)
{
#if BLOCK == 4
    const VEC a = SHUFFLED(v[0], v[1], 0, 4, 1, 5), b = SHUFFLED(v[0], v[1], 2, 6, 3, 7);
    const VEC c = SHUFFLED(v[2], v[3], 0, 4, 1, 5), d = SHUFFLED(v[2], v[3], 2, 6, 3, 7);
    v[0] = SHUFFLED(a, c, 0, 1, 4, 5), v[1] = SHUFFLED(a, c, 2, 3, 6, 7);
    v[2] = SHUFFLED(b, d, 0, 1, 4, 5), v[3] = SHUFFLED(b, d, 2, 3, 6, 7);
#else
    const VEC a = v[0];
    v[0] = SHUFFLED(a, v[1], 0, 2), v[1] = SHUFFLED(a, v[1], 1, 3);
#endif
}

/* Stream k begins at narrow + at[k] and has n elements; `split`: from wide to them, else from them to wide. */
static void NAME(deal)(T *wide, T *narrow, const int64_t *at, ptrdiff_t count, ptrdiff_t n, int split)
{
    ptrdiff_t k = 0;
    for (; k + BLOCK <= count; k += BLOCK) {
        ptrdiff_t l = 0;
        for (; l + BLOCK <= n; l += BLOCK) {
            VEC v[BLOCK];
            for (int i = 0; i < BLOCK; i++)
                v[i] = split ? LOAD(wide + (l + i) * count + k) : LOAD(narrow + at[k + i] + l);
            NAME(turn)(v);
            for (int i = 0; i < BLOCK; i++) {
                if (split)
                    STORE(narrow + at[k + i] + l, v[i]);
                else
                    STORE(wide + (l + i) * count + k, v[i]);
            }
        }
        for (; l < n; l++)
            for (int i = 0; i < BLOCK; i++) {
                T *one = wide + l * count + k + i, *other = narrow + at[k + i] + l;
                if (split)
                    *other = *one;
                else
                    *one = *other;
            }
    }
#if BLOCK == 4
    if (count == 2) { /* pairs */
        T *first = narrow + at[0], *second = narrow + at[1];
        ptrdiff_t l = 0;
        for (; l + 4 <= n; l += 4) {
            const VEC a = split ? LOAD(wide + 2 * l) : LOAD(first + l), b = split ? LOAD(wide + 2 * l + 4) : LOAD(second + l);
            if (split) {
                STORE(first + l, SHUFFLED(a, b, 0, 2, 4, 6));
                STORE(second + l, SHUFFLED(a, b, 1, 3, 5, 7));
            } else {
                STORE(wide + 2 * l, SHUFFLED(a, b, 0, 4, 1, 5));
                STORE(wide + 2 * l + 4, SHUFFLED(a, b, 2, 6, 3, 7));
            }
        }
        wide += 2 * l, narrow += l, n -= l;
    }
#endif
    for (; k < count; k++)
        for (ptrdiff_t l = 0; l < n; l++) {
            if (split)
                narrow[at[k] + l] = wide[l * count + k];
            else
                wide[l * count + k] = narrow[at[k] + l];
        }
}

#undef LOAD
#undef STORE
#undef NAME
#undef VEC
#endif
