/* One deliberate fault of each kind, compiled with the flags of a check: a check that does not find its own is none. */
#include <limits.h>
#include <stdint.h>
#include <stdlib.h>

/* Where the compiler cannot see it. */
static volatile int one = 1;

/* AddressSanitizer, memcheck: a number behind the end of an array. */
int overflow(void)
{
    int *numbers = malloc(4 * sizeof(int)), sum = 0;
    for (int i = 0; i < 4; i++)
        numbers[i] = i;
    for (int i = 0; i < 4 + one; i++)
        sum += numbers[i];
    free(numbers);
    return sum;
}

/* UndefinedBehaviorSanitizer: a sum that does not fit. */
int undefined(void) { return INT_MAX - 1 + 2 * one; }

/* memcheck: a branch on what nobody wrote. */
int uninitialised(void)
{
    int *numbers = malloc(4 * sizeof(int)), result;
    numbers[0] = 0;
    result = numbers[one] > 0 ? 1 : 2;
    free(numbers);
    return result;
}

/* ThreadSanitizer: threads that add to one number. */
int race(void)
{
    int sum = 0;
    int *shared = &sum;
#pragma omp parallel for num_threads(4)
    for (int i = 0; i < 4000; i++)
        *(volatile int *)shared += 1;
    return sum;
}

/* ThreadSanitizer: what it must not report: threads that write, and read after the end of the region. */
int no_race(void)
{
    static int parts[4000];
    int sum = 0;
#pragma omp parallel for num_threads(4) schedule(dynamic, 16)
    for (int i = 0; i < 4000; i++)
        parts[i] = i;
#pragma omp parallel for num_threads(4) reduction(+ : sum)
    for (int i = 0; i < 4000; i++)
        sum += parts[3999 - i];
    return sum - 7998000;
}
