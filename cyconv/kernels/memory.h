/* What happens to memory besides being taken and given back: tests count it, let it fail, and watch it.
 *
 * A block of the pool looks alive to the tools that watch memory, so they are told: ASan and valgrind that what was
 * given back is out of bounds and that what was lent out holds nothing yet. A build with CYCONV_CHECKED fills it: every
 * byte 0xff is NaN in both types, and -1 in tables.
 */
#ifndef CYCONV_MEMORY_H
#define CYCONV_MEMORY_H

#include <stddef.h>
#include <string.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CYCONV_ADDRESS_SANITIZER
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define CYCONV_ADDRESS_SANITIZER
#endif
#if defined(CYCONV_ADDRESS_SANITIZER)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif
#if defined(CYCONV_CHECKED) && defined(__has_include)
#if __has_include(<valgrind/memcheck.h>)
#include <valgrind/memcheck.h>
#endif
#endif
#if !defined(VALGRIND_MAKE_MEM_UNDEFINED)
#define VALGRIND_MAKE_MEM_UNDEFINED(p, n) ((void)(p), (void)(n))
#define VALGRIND_MAKE_MEM_NOACCESS(p, n) ((void)(p), (void)(n))
#endif

/* `bytes` of a block of `room` bytes go to a new owner. */
static inline void memory_lent(void *p, ptrdiff_t bytes, ptrdiff_t room)
{
    ASAN_UNPOISON_MEMORY_REGION(p, room);
    VALGRIND_MAKE_MEM_UNDEFINED(p, bytes);
#if defined(CYCONV_CHECKED)
    memset(p, 0xff, bytes);
    VALGRIND_MAKE_MEM_UNDEFINED(p, bytes);
#endif
    if (room > bytes) {
        ASAN_POISON_MEMORY_REGION((char *)p + bytes, room - bytes);
        VALGRIND_MAKE_MEM_NOACCESS((char *)p + bytes, room - bytes);
    }
}

/* Nobody's, until it is lent out again or freed. */
static inline void memory_kept(void *p, ptrdiff_t room)
{
    ASAN_POISON_MEMORY_REGION(p, room);
    VALGRIND_MAKE_MEM_NOACCESS(p, room);
}

/* Blocks that were taken from the C library and not freed yet. */
static ptrdiff_t memory_blocks;
/* How many allocations from here the one is that fails: 0 for none. `memory_lasting`: those after it fail, too. */
static ptrdiff_t memory_left;
static int memory_lasting;

static inline void memory_count(ptrdiff_t n) { __atomic_add_fetch(&memory_blocks, n, __ATOMIC_RELAXED); }
static inline ptrdiff_t memory_counted(void) { return __atomic_load_n(&memory_blocks, __ATOMIC_RELAXED); }

static inline ptrdiff_t memory_fail(ptrdiff_t n, int lasting)
{
    memory_lasting = lasting;
    return __atomic_exchange_n(&memory_left, n, __ATOMIC_RELAXED);
}

/* Whether this allocation is to fail. */
static inline int memory_fails(void)
{
    if (__builtin_expect(__atomic_load_n(&memory_left, __ATOMIC_RELAXED) == 0, 1))
        return 0;
    ptrdiff_t left = __atomic_sub_fetch(&memory_left, 1, __ATOMIC_RELAXED);
    if (left == 0 && memory_lasting)
        __atomic_store_n(&memory_left, 1, __ATOMIC_RELAXED);
    return left == 0;
}
#endif
