/* What the machine can do: its FMA peak, how fast it copies, and the time in which one core hands a cache line to
   another.
   Compiled by machine.py with -O2 -march=native when there is a C compiler; nothing of cyconv is in here. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if defined(__AVX512F__)
#define BYTES 64
#elif defined(__AVX__)
#define BYTES 32
#else
#define BYTES 16
#endif
#define CHAINS 12 /* more than latency x throughput (4 x 2), few enough to stay in the 16 registers of AVX2 */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}

/* The barrier after each step keeps the chains in registers and the loop from being folded. */
#define DEFINE_CHAINS(T)                                                                            \
    typedef T vec_##T __attribute__((vector_size(BYTES)));                                          \
    static void chains_##T(long steps, T *out)                                                      \
    {                                                                                               \
        vec_##T a[CHAINS], m = {0}, c = {0};                                                        \
        m += (T)0.999, c += (T)0.001;                                                               \
        _Pragma("GCC unroll 12") for (int i = 0; i < CHAINS; i++) a[i] = c * (T)i;                  \
        for (long s = 0; s < steps; s++)                                                            \
            _Pragma("GCC unroll 12") for (int i = 0; i < CHAINS; i++) {                             \
                a[i] = a[i] * m + c;                                                                \
                KEEP(a[i]);                                                                         \
            }                                                                                       \
        _Pragma("GCC unroll 12") for (int i = 1; i < CHAINS; i++) a[0] += a[i];                     \
        *out = a[0][0];                                                                             \
    }
#if defined(__x86_64__)
#define KEEP(v) __asm__ volatile("" : "+x"(v))
#else
#define KEEP(v) __asm__ volatile("" : "+w"(v))
#endif
DEFINE_CHAINS(float)
DEFINE_CHAINS(double)

struct worker {
    pthread_t id;
    int is_double;
    double seconds, flops, start, stop;
    atomic_int *waiting;
};

static void *work(void *arg)
{
    struct worker *w = arg;
    float f;
    double d;
    const long steps = 20000;
    const double lanes = BYTES / (w->is_double ? sizeof d : sizeof f);
    atomic_fetch_sub(w->waiting, 1);
    while (atomic_load(w->waiting) > 0) { }
    w->start = now();
    do {
        if (w->is_double) chains_double(steps, &d); else chains_float(steps, &f);
        w->flops += 2.0 * CHAINS * steps * lanes;
        w->stop = now();
    } while (w->stop - w->start < w->seconds);
    return 0;
}

/* FLOP/s of `threads` (up to 64) cores that do nothing but multiply and add for `seconds`; 0 where no thread starts. */
double fma_peak(int threads, double seconds, int is_double)
{
    struct worker w[64];
    atomic_int waiting;
    int started = 0;
    double rate = 0;
    if (threads < 1 || threads > 64) return 0;
    atomic_init(&waiting, threads);
    for (int i = 0; i < threads; i++) {
        w[i] = (struct worker){.is_double = is_double, .seconds = seconds, .waiting = &waiting};
        if (pthread_create(&w[i].id, 0, work, &w[i])) atomic_fetch_sub(&waiting, 1), w[i].seconds = -1;
        else started++;
    }
    for (int i = 0; i < threads; i++)
        if (w[i].seconds >= 0) {
            pthread_join(w[i].id, 0);
            rate += w[i].flops / (w[i].stop - w[i].start);
        }
    return started == threads ? rate : 0;
}

struct copier {
    pthread_t id;
    size_t bytes; /* of each of the two arrays */
    double seconds, moved, start, stop;
    atomic_int *waiting;
};

static void *copy(void *arg)
{
    struct copier *c = arg;
    const size_t size = (c->bytes + 4095) & ~(size_t)4095;
    char *from = aligned_alloc(4096, size), *to = aligned_alloc(4096, size);
    const long copies = 1 + (1 << 20) / (long)(c->bytes + 1); /* between two looks at the clock */
    if (from && to) memset(from, 1, size), memset(to, 2, size); /* so that the pages are there */
    atomic_fetch_sub(c->waiting, 1);
    while (atomic_load(c->waiting) > 0) { }
    c->start = c->stop = now();
    if (from && to) do {
        for (long i = 0; i < copies; i++) {
            memcpy(to, from, c->bytes);
            __asm__ volatile("" : : "r"(to), "r"(from) : "memory");
        }
        c->moved += 2.0 * copies * c->bytes;
        c->stop = now();
    } while (c->stop - c->start < c->seconds);
    free(from);
    free(to);
    return 0;
}

/* Bytes read and written in a second by `threads` (up to 64) cores that copy for `seconds`, each between two arrays of
   its own that all together have `bytes`; 0 where that cannot be measured. */
double copy_rate(int threads, double seconds, double bytes)
{
    struct copier c[64];
    atomic_int waiting;
    int started = 0;
    double rate = 0;
    if (threads < 1 || threads > 64 || bytes < 128.0 * threads) return 0;
    atomic_init(&waiting, threads);
    for (int i = 0; i < threads; i++) {
        c[i] = (struct copier){.bytes = (size_t)(bytes / (2 * threads)), .seconds = seconds, .waiting = &waiting};
        if (pthread_create(&c[i].id, 0, copy, &c[i])) atomic_fetch_sub(&waiting, 1), c[i].seconds = -1;
        else started++;
    }
    for (int i = 0; i < threads; i++)
        if (c[i].seconds >= 0) {
            pthread_join(c[i].id, 0);
            if (c[i].moved > 0) rate += c[i].moved / (c[i].stop - c[i].start);
            else started = 0;
        }
    return started == threads ? rate : 0;
}

static atomic_int ball; /* odd: for the other thread; even: come back; negative: the end */

static void *answer(void *arg)
{
    (void)arg;
    for (int i = 1;; i += 2) {
        int seen;
        while ((seen = atomic_load_explicit(&ball, memory_order_acquire)) != i)
            if (seen < 0) return 0;
        atomic_store_explicit(&ball, i + 1, memory_order_release);
    }
}

static int pass(int from, int rounds)
{
    for (int i = from; i < from + 2 * rounds; i += 2) {
        atomic_store_explicit(&ball, i + 1, memory_order_release);
        while (atomic_load_explicit(&ball, memory_order_acquire) != i + 2) { }
    }
    return from + 2 * rounds;
}

/* Nanoseconds, one way, for a cache line to go from one core to another; needs two cores. Batches of 16 rounds until
   `seconds` are over: where both threads are put on one core, each round takes a time slice. */
double handover(double seconds)
{
    pthread_t other;
    double start, spent;
    int first, last;
    atomic_store(&ball, 0);
    if (pthread_create(&other, 0, answer, 0)) return 0;
    first = last = pass(0, 16); /* the other thread is awake after these */
    start = now();
    do last = pass(last, 16);
    while ((spent = now() - start) < seconds);
    atomic_store(&ball, -1);
    pthread_join(other, 0);
    return spent / (last - first) * 1e9;
}
