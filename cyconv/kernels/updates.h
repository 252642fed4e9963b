/* One step of each optimiser for n parameters: every array is read once and written once. Plain loops, which compilers
 * turn into vectors; what an optimiser can do without is a separate loop, what is a factor of 0 or 1 is multiplied.
 *
 * g is the gradient times `sign` (-1 to climb) plus `decay` times the parameter.
 */
#ifndef T /* the first time: once for each element type */
#ifndef CYCONV_UPDATES_H
#define CYCONV_UPDATES_H
#include "simd.h"
#include <math.h>

#define T float
#define SUFFIX f32
#define ROOT __builtin_sqrtf
#include "updates.h"
#undef T
#undef SUFFIX
#undef ROOT

#define T double
#define SUFFIX f64
#define ROOT __builtin_sqrt
#include "updates.h"
#undef T
#undef SUFFIX
#undef ROOT

#endif
#else /* the template */

#define NAME(x) CYCONV_JOIN(x, SUFFIX)
#define UPDATE(name) static __attribute__((noinline, unused)) void NAME(name)
#define EACH for (ptrdiff_t i = 0; i < n; i++)

/* v = keep v + take g; p -= along_g g + along_v v. v may be NULL. */
UPDATE(sgd)(T *restrict p, const T *restrict grad, T *restrict v, ptrdiff_t n, T sign, T decay, T keep, T take,
            T along_g, T along_v)
{
    if (!v) {
        EACH
            p[i] -= along_g * (sign * grad[i] + decay * p[i]);
        return;
    }
    EACH {
        T g = sign * grad[i] + decay * p[i], velocity = keep * v[i] + take * g;
        v[i] = velocity;
        p[i] -= along_g * g + along_v * velocity;
    }
}

/* m += take1 (g - m); v = keep2 v + take2 g^2; p = shrink p - rate m / (sqrt(v) scale + eps). With `most` not NULL that is
 * what v has been at most, and takes the place of v. */
UPDATE(adam)(T *restrict p, const T *restrict grad, T *restrict m, T *restrict v, T *restrict most, ptrdiff_t n, T sign,
             T decay, T shrink, T take1, T keep2, T take2, T rate, T scale, T eps)
{
    if (!most) {
        EACH {
            T g = sign * grad[i] + decay * p[i], mean = m[i] + take1 * (g - m[i]), square = keep2 * v[i] + take2 * g * g;
            m[i] = mean;
            v[i] = square;
            p[i] = shrink * p[i] - rate * mean / (ROOT(square) * scale + eps);
        }
        return;
    }
    EACH {
        T g = sign * grad[i] + decay * p[i], mean = m[i] + take1 * (g - m[i]), square = keep2 * v[i] + take2 * g * g;
        T largest = square > most[i] ? square : most[i];
        m[i] = mean;
        v[i] = square;
        most[i] = largest;
        p[i] = shrink * p[i] - rate * mean / (ROOT(largest) * scale + eps);
    }
}

/* v = keep v + take g^2; step = g / (sqrt(v) + eps), p -= rate step. `mean`, or NULL: mean += take (g - mean), and its
 * square is taken off v. `velocity`, or NULL: velocity = momentum velocity + step, and takes the place of the step. */
UPDATE(rmsprop)(T *restrict p, const T *restrict grad, T *restrict v, T *restrict mean, T *restrict velocity, ptrdiff_t n,
                T sign, T decay, T keep, T take, T rate, T momentum, T eps)
{
    if (!mean && !velocity) {
        EACH {
            T g = sign * grad[i] + decay * p[i], square = keep * v[i] + take * g * g;
            v[i] = square;
            p[i] -= rate * g / (ROOT(square) + eps);
        }
    } else if (!mean) {
        EACH {
            T g = sign * grad[i] + decay * p[i], square = keep * v[i] + take * g * g;
            T step = momentum * velocity[i] + g / (ROOT(square) + eps);
            v[i] = square;
            velocity[i] = step;
            p[i] -= rate * step;
        }
    } else if (!velocity) {
        EACH {
            T g = sign * grad[i] + decay * p[i], square = keep * v[i] + take * g * g, center = mean[i] + take * (g - mean[i]);
            v[i] = square;
            mean[i] = center;
            p[i] -= rate * g / (ROOT(square - center * center) + eps);
        }
    } else {
        EACH {
            T g = sign * grad[i] + decay * p[i], square = keep * v[i] + take * g * g, center = mean[i] + take * (g - mean[i]);
            T step = momentum * velocity[i] + g / (ROOT(square - center * center) + eps);
            v[i] = square;
            mean[i] = center;
            velocity[i] = step;
            p[i] -= rate * step;
        }
    }
}

/* total += g^2; p -= rate g / (sqrt(total) + eps) */
UPDATE(adagrad)(T *restrict p, const T *restrict grad, T *restrict total, ptrdiff_t n, T sign, T decay, T rate, T eps)
{
    EACH {
        T g = sign * grad[i] + decay * p[i], square = total[i] + g * g;
        total[i] = square;
        p[i] -= rate * g / (ROOT(square) + eps);
    }
}

/* The sum of squares in double precision, in the order of 16 sums side by side. */
static __attribute__((noinline, unused)) double NAME(sum_squares)(const T *x, ptrdiff_t n)
{
    double sums[16] = {0};
    ptrdiff_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (int k = 0; k < 16; k++)
            sums[k] += (double)x[i + k] * x[i + k];
    for (; i < n; i++)
        sums[i % 16] += (double)x[i] * x[i];
    for (int k = 8; k > 0; k /= 2)
        for (int j = 0; j < k; j++)
            sums[j] += sums[j + k];
    return sums[0];
}

#undef EACH
#undef UPDATE
#undef NAME
#endif
