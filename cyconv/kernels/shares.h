/* Tasks shared out among threads: each takes those of its own in turn, and then what others have left.
 *
 * What a thread reads and writes call after call stays in the caches near it: handing out task after task to whoever comes
 * first loses that, which costs most where cores are far apart. Which thread runs a task changes no result. */
#ifndef CYCONV_SHARES_H
#define CYCONV_SHARES_H

#include <stddef.h>

typedef struct {
    ptrdiff_t next, last, step;
    char rest[64 - 3 * sizeof(ptrdiff_t)]; /* a cache line each */
} Share;

/* In turn: every threads-th task to the same one, else stretches of neighbours. */
static inline void share_out(Share *shares, ptrdiff_t tasks, int threads, int in_turn)
{
    for (int i = 0; i < threads; i++) {
        shares[i].step = in_turn ? threads : 1;
        shares[i].next = in_turn ? i : tasks / threads * i + (i < tasks % threads ? i : tasks % threads);
        shares[i].last = in_turn ? tasks : shares[i].next + tasks / threads + (i < tasks % threads);
    }
}

/* What thread `own` will take next if nobody else does, or -1: to ask for its memory. */
static inline ptrdiff_t likely_task(const Share *shares, int own)
{
    ptrdiff_t task = __atomic_load_n(&shares[own].next, __ATOMIC_RELAXED);
    return task < shares[own].last ? task : -1;
}

/* The next task of thread `own`, or -1. */
static inline ptrdiff_t next_task(Share *shares, int threads, int own)
{
    for (int i = 0; i < threads; i++) {
        Share *share = &shares[(own + i) % threads];
        if (__atomic_load_n(&share->next, __ATOMIC_RELAXED) < share->last) {
            ptrdiff_t task = __atomic_fetch_add(&share->next, share->step, __ATOMIC_RELAXED);
            if (task < share->last)
                return task;
        }
    }
    return -1;
}

#endif
