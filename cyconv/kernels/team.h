/* Threads of a team that wakes up, each on a processor of its own.
 *
 * The runtime's threads fall asleep a few milliseconds after their last parallel region. Linux may wake them on the
 * processor of the thread that woke them, although others are idle: in virtual machines it regularly does, as a halted
 * virtual processor counts as not available. Both then spin, each for a whole time slice, at the end of every region:
 * 4 ms for a convolution of 10 microseconds, until the load is balanced. So a team that may have slept meets first:
 * who finds its processor taken moves to a free one, once, by way of its affinity mask, which is as before in the end.
 */
#ifndef CYCONV_TEAM_H
#define CYCONV_TEAM_H

#if defined(_OPENMP) && defined(__linux__)
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <sched.h>
#include <stdint.h>
#include <time.h>

#define TEAM_CPUS CPU_SETSIZE
/* A team that worked so shortly before still spins; in seconds. */
#define TEAM_AWAKE 1e-3
/* How long to wait for it before the processor is offered to it; and in all. */
#define TEAM_OFFER 5e-6
#define TEAM_PATIENCE 2e-3

/* glibc declares it for sources that define _GNU_SOURCE before their first header only. */
extern int sched_getcpu(void);
extern int sched_setaffinity(pid_t, size_t, const cpu_set_t *);
extern int sched_getaffinity(pid_t, size_t, cpu_set_t *);

typedef struct {
    int arrived, moved;
    uint64_t taken[TEAM_CPUS / 64];
} team_meeting;

static inline double team_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Whether this thread's team may be asleep; asked once for every parallel region, or call of several. */
static inline int team_slept(void)
{
    static __thread double last;
    double now = team_now(), before = last;
    last = now;
    return now - before > TEAM_AWAKE;
}

/* Whether the processor was free, and is now taken. */
static inline int team_claim(team_meeting *m, int cpu)
{
    uint64_t bit = 1ull << (cpu & 63);
    if (cpu < 0 || cpu >= TEAM_CPUS)
        return 1;
    return !(__atomic_fetch_or(&m->taken[cpu / 64], bit, __ATOMIC_RELAXED) & bit);
}

static inline void team_move(team_meeting *m)
{
    /* A mask as words: the macros for sets of processors need _GNU_SOURCE too. */
    uint64_t allowed[TEAM_CPUS / 64] = {0}, one[TEAM_CPUS / 64] = {0};
    if (sched_getaffinity(0, sizeof allowed, (cpu_set_t *)allowed) != 0)
        return;
    for (int cpu = 0; cpu < TEAM_CPUS; cpu++)
        if ((allowed[cpu / 64] >> (cpu & 63) & 1) && team_claim(m, cpu)) {
            one[cpu / 64] = 1ull << (cpu & 63);
            if (sched_setaffinity(0, sizeof one, (cpu_set_t *)one) == 0) {
                sched_setaffinity(0, sizeof allowed, (cpu_set_t *)allowed);
                __atomic_fetch_add(&m->moved, 1, __ATOMIC_RELAXED);
            }
            return;
        }
}

/* What each thread of the region does; the first has claimed its processor before. */
static inline void team_meet(team_meeting *m, int rank, int threads)
{
    double start, spun;
    if (rank != 0) {
        if (!team_claim(m, sched_getcpu()))
            team_move(m);
        __atomic_fetch_add(&m->arrived, 1, __ATOMIC_RELEASE);
        return;
    }
    start = spun = team_now();
    while (__atomic_load_n(&m->arrived, __ATOMIC_ACQUIRE) < threads - 1) {
        double now = team_now();
        if (now - start > TEAM_PATIENCE)
            return;
        if (now - spun > TEAM_OFFER) {
            sched_yield();
            spun = team_now();
        }
    }
}

static inline int team_first(team_meeting *m)
{
    *m = (team_meeting){0};
    return team_claim(m, sched_getcpu());
}
#else
typedef struct {
    int moved;
} team_meeting;
static inline int team_slept(void) { return 0; }
static inline int team_first(team_meeting *m) { return m->moved = 0; }
static inline void team_meet(team_meeting *m, int rank, int threads) { (void)m, (void)rank, (void)threads; }
#endif
#endif
