/* Threads of a team that wakes up, each on a processor of its own.
 *
 * The runtime's threads fall asleep a few milliseconds after their last parallel region. Linux may wake them on the
 * processor of the thread that woke them, although others are idle: in virtual machines it regularly does, as a halted
 * virtual processor counts as not available. Both then spin, each for a whole time slice, at the end of every region:
 * 4 ms for a convolution of 10 microseconds, until the load is balanced. So a team that may have slept meets first:
 * who finds its processor taken moves to a free one, once, by way of its affinity mask, which is as before in the end.
 *
 * Idle threads of other libraries keep processors, too: OpenBLAS's spin for up to 0.1 s after a product and never yield,
 * and neither do those of this runtime. Where one of theirs and one of ours share a processor, each waits for the other's
 * time slice: 4 ms for a product and 4 ms for a convolution of 0.1 ms each, for as long as the two take turns. So when a
 * thread came late to the meeting, and threads that are not of the team took the time of whole processors since the
 * meeting before, those processors are left to them, and ours sleep, until their owners' time has been seen to end.
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
/* No thread that is only woken comes so late. */
#define TEAM_LATE 1e-3
/* How long the processors' time is watched: the time of threads that run is known as of the last tick, 1 to 10 ms ago. */
#define TEAM_WATCH 1e-2
/* What one core computes in a time slice, about: in operations, 2000 of what a parallel region must be worth. */
#define TEAM_SLICE 8e8

/* glibc declares it for sources that define _GNU_SOURCE before their first header only. */
extern int sched_getcpu(void);
extern int sched_setaffinity(pid_t, size_t, const cpu_set_t *);
extern int sched_getaffinity(pid_t, size_t, cpu_set_t *);

typedef struct {
    int arrived, moved, late;
    int64_t spent; /* by the team's other threads since their last meeting; in nanoseconds */
    uint64_t taken[TEAM_CPUS / 64];
} team_meeting;

/* What a thread knows of its team and of others; processor times are of the whole process, and of the thread. */
typedef struct {
    double asked, since, process, own;
    int left; /* how many processors others leave; 0 if all */
    int used; /* the largest team since */
} team_view;

static inline double team_clock(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static inline double team_now(void) { return team_clock(CLOCK_MONOTONIC); }

static inline team_view *team_mine(void)
{
    static __thread team_view view;
    return &view;
}

/* How many processors others have left since the last time that this was asked, if any were taken. */
static inline void team_watch(team_view *v, double now, double spent)
{
    double process = team_clock(CLOCK_PROCESS_CPUTIME_ID), own = team_clock(CLOCK_THREAD_CPUTIME_ID);
    double others = (process - v->process) - (own - v->own) - spent;
    int taken = v->since > 0 ? (int)(others / (now - v->since) + 0.5) : 0, cpus = 0;
    uint64_t allowed[TEAM_CPUS / 64] = {0};
    v->since = now, v->process = process, v->own = own, v->left = v->used = 0;
    if (taken < 1 || sched_getaffinity(0, sizeof allowed, (cpu_set_t *)allowed) != 0)
        return;
    for (int i = 0; i < TEAM_CPUS / 64; i++)
        cpus += __builtin_popcountll(allowed[i]);
    v->left = cpus > taken ? cpus - taken : 1;
}

/* How many threads to use where others leave so many processors: on one that it shares, a thread waits for a time slice,
 * and then has half of it. */
static inline int team_beside(int left, int threads, double work)
{
    if (!left || left >= threads || work / left > TEAM_SLICE + 2 * work / threads)
        return threads;
    return left;
}

static inline int team_size(int threads, double work)
{
    team_view *v = team_mine();
    int size = team_beside(v->left, threads, work);
    v->used = size > v->used ? size : v->used;
    return size;
}

/* How many threads must meet first, as they may be asleep or others may have left; asked once for every parallel region,
 * or call of several. */
static inline int team_due(int threads, double work)
{
    team_view *v = team_mine();
    double now = team_now();
    int slept = now - v->asked > TEAM_AWAKE;
    v->asked = now;
    if (v->left && now - v->since > TEAM_WATCH) {
        if (v->used > 1) /* they have to say how much of the time was theirs */
            return v->used;
        team_watch(v, now, 0);
        slept |= !v->left;
    }
    threads = team_size(threads, work);
    return slept && threads > 1 ? threads : 0;
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
    static __thread double spent;
    double start, spun;
    if (rank != 0) {
        double before = spent;
        spent = team_clock(CLOCK_THREAD_CPUTIME_ID);
        __atomic_fetch_add(&m->spent, (int64_t)(1e9 * (spent - before)), __ATOMIC_RELAXED);
        if (!team_claim(m, sched_getcpu()))
            team_move(m);
        __atomic_fetch_add(&m->arrived, 1, __ATOMIC_RELEASE);
        return;
    }
    start = spun = team_now();
    while (__atomic_load_n(&m->arrived, __ATOMIC_ACQUIRE) < threads - 1) {
        double now = team_now();
        m->late = now - start > TEAM_LATE;
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

/* Behind the region. */
static inline void team_met(const team_meeting *m)
{
    team_view *v = team_mine();
    int beside = v->left != 0;
    team_watch(v, team_now(), 1e-9 * (double)m->spent);
    if (!beside && !m->late)
        v->left = 0;
}
#else
typedef struct {
    int moved;
} team_meeting;
static inline int team_due(int threads, double work) { return (void)threads, (void)work, 0; }
static inline int team_beside(int left, int threads, double work) { return (void)left, (void)work, threads; }
static inline int team_size(int threads, double work) { return team_beside(0, threads, work); }
static inline int team_first(team_meeting *m) { return m->moved = 0; }
static inline void team_met(const team_meeting *m) { (void)m; }
static inline void team_meet(team_meeting *m, int rank, int threads) { (void)m, (void)rank, (void)threads; }
#endif
#endif
