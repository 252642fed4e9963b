/* A lock for a handful of instructions, held by threads that may not have the interpreter's.
 *
 * A fork while another thread holds it leaves it held in the child, where that thread is gone: `unlock_after_fork`
 * sets it free there.
 */
#ifndef CYCONV_LOCK_H
#define CYCONV_LOCK_H

#include <pthread.h>
#include <sched.h>

static volatile char lock_held;

static inline void lock_take(void)
{
    for (int tries = 0; __atomic_test_and_set(&lock_held, __ATOMIC_ACQUIRE); tries++)
        if (tries % 64 == 63)
            sched_yield(); /* its holder may have lost the processor */
}

static inline void lock_give(void)
{
    __atomic_clear(&lock_held, __ATOMIC_RELEASE);
}

static inline int unlock_after_fork(void)
{
    return pthread_atfork(NULL, NULL, lock_give);
}
#endif
