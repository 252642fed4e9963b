"""Layer normalisation: each row is normalised by itself, with a weight and a bias for each of its elements.

A row's statistics and sums are taken in chunks that are merged in their order. The gradients of weight and bias are
sums over rows: of short rows in blocks of rows, each with sums of its own, which are added in the order of the blocks;
of long ones in pieces of all rows, which share nothing.
"""

from cython.parallel cimport prange
from libc.math cimport sqrt
from libc.stdint cimport uint64_t
from libc.string cimport memset

cimport numpy as cnp

from cyconv.kernels._workspace cimport Workspace, take
from cyconv.kernels.normalization_parts cimport (
    element_affine,
    element_gradient,
    element_products,
    element_sums,
    merge_moments,
    stretch_moments,
)
from cyconv.kernels.simd cimport flush_denormals, real, restore_denormals

cnp.import_array()

ctypedef Py_ssize_t index

cdef enum:
    CHUNK = 4096  # elements of which one sum is taken: the second pass finds them in the first-level cache
    BLOCKS = 32  # of rows, at most
    FEWEST = 16  # rows of a block: each block's sums are cleared and added, at the cost of a row or two
    LONG = 8192  # elements of a row that is cut into pieces: more would need too much memory for each block's sums
    TOGETHER = 4  # rows: sums are loaded and stored once for all of them
    STEP = 16  # times so many rows have their sums taken in the type of x; those of all rows are in double


cdef struct Rows:
    index rows, length
    const void* x
    const void* dy
    const void* weight  # of each element
    double* mean  # of each row
    double* variance
    double eps


def normalize(y, cnp.ndarray x, cnp.ndarray mean, cnp.ndarray variance, cnp.ndarray weight, cnp.ndarray bias,
              double eps, index rows, index length, int threads):
    """y = (x - mean) / sqrt(variance + eps) weight + bias; no y: the statistics alone, (rows,) of float64.

    Weight and bias are (length,) in the type of x. No size is 0.
    """
    cdef Rows r = Rows(rows, length, cnp.PyArray_DATA(x), NULL, cnp.PyArray_DATA(weight),
                       <double*>cnp.PyArray_DATA(mean), <double*>cnp.PyArray_DATA(variance), eps)
    cdef void* out = NULL if y is None else cnp.PyArray_DATA(y)
    if cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT:
        forward[float](&r, <float*>out, <const float*>cnp.PyArray_DATA(bias), threads)
    else:
        forward[double](&r, <double*>out, <const double*>cnp.PyArray_DATA(bias), threads)


cdef int forward(const Rows* r, real* y, const real* bias, int threads) except -1:
    cdef index each = max(<index>1, CHUNK // r.length), tasks = (r.rows + each - 1) // each, i
    with nogil:
        for i in prange(tasks, schedule="static", num_threads=threads):
            forward_rows(r, y, bias, i * each, min(r.rows, (i + 1) * each))
    return 0


cdef void forward_rows(const Rows* r, real* y, const real* bias, index first, index end) noexcept nogil:
    cdef uint64_t mode = flush_denormals()
    cdef const real* x
    cdef const real* weight = <const real*>r.weight
    cdef index row, k, n
    cdef double count, mean, square, part_mean = 0, part_square = 0, scale
    for row in range(first, end):
        x = <const real*>r.x + row * r.length
        count = mean = square = 0
        for k in range((r.length + CHUNK - 1) // CHUNK):
            n = min(<index>CHUNK, r.length - k * CHUNK)
            stretch_moments(x + k * CHUNK, 1, 0, n, &part_mean, &part_square)
            merge_moments(&count, &mean, &square, <double>n, part_mean, part_square)
        r.mean[row] = mean
        r.variance[row] = square / count
        if y == NULL:
            continue
        scale = 1 / sqrt(square / count + r.eps)
        # The center is the mean in the type of x, so that a large mean cancels first; the rest of it is in the shift.
        element_affine(y + row * r.length, x, r.length, <real>mean, <real>scale,
                       <real>((<double><real>mean - mean) * scale), weight, bias)
    restore_denormals(mode)


def normalize_backward(dx, cnp.ndarray dweight, cnp.ndarray dbias, bint parameters, cnp.ndarray dy, cnp.ndarray x,
                       cnp.ndarray mean, cnp.ndarray variance, cnp.ndarray weight, double eps, index rows, index length,
                       int threads):
    """dx, an array or None; with ``parameters`` also dweight and dbias, (length,) of float64."""
    cdef Rows r = Rows(rows, length, cnp.PyArray_DATA(x), cnp.PyArray_DATA(dy), cnp.PyArray_DATA(weight),
                       <double*>cnp.PyArray_DATA(mean), <double*>cnp.PyArray_DATA(variance), eps)
    cdef void* out = NULL if dx is None else cnp.PyArray_DATA(dx)
    cdef double* sums_w = <double*>cnp.PyArray_DATA(dweight) if parameters else NULL
    cdef double* sums_b = <double*>cnp.PyArray_DATA(dbias) if parameters else NULL
    if cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT:
        backward[float](&r, <float*>out, sums_w, sums_b, threads)
    else:
        backward[double](&r, <double*>out, sums_w, sums_b, threads)


cdef int backward(const Rows* r, real* dx, double* dweight, double* dbias, int threads) except -1:
    cdef index blocks = min(<index>BLOCKS, (r.rows + FEWEST - 1) // FEWEST), each = (r.rows + blocks - 1) // blocks
    cdef index n = r.length, i, k
    cdef bint pieces = dweight != NULL and n > LONG, own = dweight != NULL and not pieces
    cdef index parts = (n + CHUNK - 1) // CHUNK if pieces else 0
    cdef Workspace wide = take(blocks * 2 * n * sizeof(double) if own else 0)
    cdef Workspace narrow = take((blocks * 2 * n if own else parts * 2 * CHUNK) * sizeof(real))
    cdef double* total = <double*>wide.data
    cdef real* scratch = <real*>narrow.data
    with nogil:
        for i in prange(blocks, schedule="static", num_threads=threads):
            backward_rows(r, dx, i * each, min(r.rows, (i + 1) * each), total + i * 2 * n if own else NULL,
                          scratch + i * 2 * n if own else NULL)
        for i in prange(parts, schedule="static", num_threads=threads):
            piece_of_rows(r, dweight, dbias, i * CHUNK, min(<index>CHUNK, n - i * CHUNK), scratch + i * 2 * CHUNK)
        if own:
            for i in range(blocks):
                for k in range(n):
                    dweight[k] += total[i * 2 * n + k]
                    dbias[k] += total[i * 2 * n + n + k]
    return 0


cdef void backward_rows(const Rows* r, real* dx, index first, index end, double* total, real* sums) noexcept nogil:
    """dx = a dy weight + b (x - center) + c, as in normalization.pyx; and unless NULL, the sums of a block of rows."""
    cdef uint64_t mode = flush_denormals()
    cdef index row, group, begin, stop, n = r.length
    if total != NULL:
        memset(total, 0, 2 * n * sizeof(double))
        memset(sums, 0, 2 * n * sizeof(real))
    for group in range((end - first + TOGETHER - 1) // TOGETHER):
        begin = first + group * TOGETHER
        stop = min(begin + TOGETHER, end)
        if dx != NULL:
            for row in range(begin, stop):
                gradient_of_row(r, dx, row)
        if total != NULL:
            add_rows(r, begin, stop, 0, n, sums)  # while the rows are in the cache
            if group % STEP == STEP - 1 or stop == end:
                add_up(total, sums, n)
                add_up(total + n, sums + n, n)
    restore_denormals(mode)


cdef inline void gradient_of_row(const Rows* r, real* dx, index row) noexcept nogil:
    cdef index n = r.length, k, at
    cdef const real* x = <const real*>r.x + row * n
    cdef const real* dy = <const real*>r.dy + row * n
    cdef const real* weight = <const real*>r.weight
    cdef real center = <real>r.mean[row]
    cdef double away = r.mean[row] - <double>center, scale = 1 / sqrt(r.variance[row] + r.eps), p = 0, q = 0, b
    for k in range((n + CHUNK - 1) // CHUNK):
        at = k * CHUNK
        element_products(dy + at, x + at, weight + at, min(<index>CHUNK, n - at), center, &p, &q)
    b = -scale * scale * scale * (q - away * p) / n
    element_gradient(dx + row * n, dy, x, weight, n, center, <real>scale, <real>b, <real>(-scale * p / n - b * away))


cdef inline void add_rows(const Rows* r, index first, index end, index at, index n, real* sums) noexcept nogil:
    """Add n elements of at most four rows to the sums of weights, and behind them those of biases."""
    cdef real of_row[3 * TOGETHER]
    cdef index k, row
    cdef double scale
    for k in range(end - first):
        row = first + k
        scale = 1 / sqrt(r.variance[row] + r.eps)
        of_row[3 * k] = <real>r.mean[row]
        of_row[3 * k + 1] = <real>scale
        of_row[3 * k + 2] = <real>((<double>of_row[3 * k] - r.mean[row]) * scale)
    element_sums(sums, sums + n, <const real*>r.dy + first * r.length + at, <const real*>r.x + first * r.length + at,
                 end - first, r.length, n, <const real*>of_row)


cdef inline void add_up(double* total, real* sums, index n) noexcept nogil:
    """Add sums of some rows to those of all, and begin new ones."""
    cdef index k
    for k in range(n):
        total[k] += sums[k]
        sums[k] = 0


cdef void piece_of_rows(const Rows* r, double* dweight, double* dbias, index at, index n, real* sums) noexcept nogil:
    cdef uint64_t mode = flush_denormals()
    cdef index group, groups = (r.rows + TOGETHER - 1) // TOGETHER
    memset(sums, 0, 2 * n * sizeof(real))
    for group in range(groups):
        add_rows(r, group * TOGETHER, min(group * TOGETHER + TOGETHER, r.rows), at, n, sums)
        if group % STEP == STEP - 1 or group == groups - 1:
            add_up(dweight + at, sums, n)
            add_up(dbias + at, sums + n, n)
    restore_denormals(mode)
