"""Products of matrices on the register tile: the fully connected layer and both of its gradients.

    out[i, j] = bias[j] + sum over t of  a[i, t] b[t, j]

The scalars are elements of ``a`` (either axis may be the contiguous one), the vectors are rows of a panel of ``b``, two
vectors wide, which the task that uses it copies (and transposes, where b lies transposed) into a private buffer. Where
a has few rows or few terms, packing b would take longer than the product, and b is read where it lies.
"""

from cython.parallel cimport prange, threadid
from libc.stdint cimport int32_t, uint64_t
from libc.string cimport memcpy, memset

cimport numpy as cnp

from cyconv.kernels._workspace cimport Workspace, take
from cyconv.kernels.simd cimport (
    CYCONV_TILE_PIXELS,
    flush_denormals,
    lanes,
    real,
    rectify,
    restore_denormals,
    tile,
    transpose,
)

cnp.import_array()

ctypedef Py_ssize_t index

cdef extern from "few_rows.h" nogil:
    void inner_products_f32(const float* x, const float* w, index n, index rows, const float* bias, float* out) noexcept
    void inner_products_f64(const double* x, const double* w, index n, index rows, const double* bias,
                            double* out) noexcept
    void few_products_f32(float* out, index ldo, const float* a, index row_step, index table_step, const float* b,
                          index ldb, index rows, index length, index n) noexcept
    void few_products_f64(double* out, index ldo, const double* a, index row_step, index table_step, const double* b,
                          index ldb, index rows, index length, index n) noexcept

# A stretch of the reduction: its panel of b (two vectors wide) stays in the second-level cache, its table in the first.
DEF STRETCH = 1024
# Rows of a task: several tiles share a panel, and a matrix of many rows gives many tasks.
DEF TASK_ROWS = 56
# With up to this many rows of a, a transposed b is read where it lies: packing it costs as much as 8 rows bring back.
DEF FEW_ROWS = 8
# Columns of a task where b is not transposed and not packed: they stay in the first-level cache.
DEF FEW_COLUMNS = 512


cdef struct Product:
    index rows, columns, length
    index row_step, table_step  # of a, in elements
    index stretch  # terms of the reduction that are taken at once
    index ldb
    bint b_transposed  # b lies as [column][t]
    index panels, row_tasks
    bint rectified


def product(cnp.ndarray out, cnp.ndarray a, cnp.ndarray b, bias, bint a_transposed, bint b_transposed,
            bint rectified, int threads):
    """out (rows, columns) = a b + bias, then ReLU if ``rectified``; all C-contiguous.

    ``a``: (rows, length), or (length, rows) if ``a_transposed``; ``b``: (length, columns), or (columns, length).
    """
    cdef Product p
    cdef void* bias_data = NULL if bias is None else cnp.PyArray_DATA(bias)
    p.rows, p.columns = cnp.PyArray_DIM(out, 0), cnp.PyArray_DIM(out, 1)
    p.length = cnp.PyArray_DIM(a, 0 if a_transposed else 1)
    p.row_step = 1 if a_transposed else p.length
    p.table_step = p.rows if a_transposed else 1
    p.b_transposed, p.rectified = b_transposed, rectified
    p.ldb = p.length if b_transposed else p.columns
    if b_transposed and not a_transposed and p.rows <= FEW_ROWS:
        if cnp.PyArray_TYPE(out) == cnp.NPY_FLOAT:
            run_few_rows[float](&p, <float*>cnp.PyArray_DATA(out), <const float*>cnp.PyArray_DATA(a),
                                <const float*>cnp.PyArray_DATA(b), <const float*>bias_data, threads)
        else:
            run_few_rows[double](&p, <double*>cnp.PyArray_DATA(out), <const double*>cnp.PyArray_DATA(a),
                                 <const double*>cnp.PyArray_DATA(b), <const double*>bias_data, threads)
    elif not b_transposed and bias is None and not rectified and 0 < p.length and (
            p.rows <= FEW_ROWS or p.length <= FEW_ROWS):
        if cnp.PyArray_TYPE(out) == cnp.NPY_FLOAT:
            run_few_products[float](&p, <float*>cnp.PyArray_DATA(out), <const float*>cnp.PyArray_DATA(a),
                                    <const float*>cnp.PyArray_DATA(b), threads)
        else:
            run_few_products[double](&p, <double*>cnp.PyArray_DATA(out), <const double*>cnp.PyArray_DATA(a),
                                     <const double*>cnp.PyArray_DATA(b), threads)
    elif cnp.PyArray_TYPE(out) == cnp.NPY_FLOAT:
        run_product[float](&p, <float*>cnp.PyArray_DATA(out), <const float*>cnp.PyArray_DATA(a),
                           <const float*>cnp.PyArray_DATA(b), <const float*>bias_data, threads)
    else:
        run_product[double](&p, <double*>cnp.PyArray_DATA(out), <const double*>cnp.PyArray_DATA(a),
                            <const double*>cnp.PyArray_DATA(b), <const double*>bias_data, threads)


cdef int run_few_rows(const Product* p, real* out, const real* a, const real* b, const real* bias,
                      int threads) except -1:
    cdef index width = lanes(a), blocks = (p.columns + width - 1) // width, i
    if threads > blocks:
        threads = <int>max(blocks, 1)
    with nogil:
        if threads == 1:
            for i in range(blocks):
                few_rows(p, out, a, b, bias, i * width)
        else:
            for i in prange(blocks, schedule="static", num_threads=threads):
                few_rows(p, out, a, b, bias, i * width)
    return 0


cdef void few_rows(const Product* p, real* out, const real* a, const real* b, const real* bias,
                   index column) noexcept nogil:
    """One vector of columns of the product, by inner products with rows of the transposed b."""
    cdef index columns = min(lanes(a), p.columns - column), i
    cdef const real* start = NULL if bias == NULL else bias + column
    cdef uint64_t mode = flush_denormals()
    for i in range(p.rows):
        if real is float:
            inner_products_f32(a + i * p.length, b + column * p.length, p.length, columns, start,
                               out + i * p.columns + column)
        else:
            inner_products_f64(a + i * p.length, b + column * p.length, p.length, columns, start,
                               out + i * p.columns + column)
        if p.rectified:
            rectify(out + i * p.columns + column, columns)
    restore_denormals(mode)


cdef int run_few_products(Product* p, real* out, const real* a, const real* b, int threads) except -1:
    cdef index tasks, i
    p.panels = (p.columns + FEW_COLUMNS - 1) // FEW_COLUMNS
    p.row_tasks = max((p.rows + TASK_ROWS - 1) // TASK_ROWS, 1)
    tasks = p.panels * p.row_tasks
    if threads > tasks:
        threads = <int>max(tasks, 1)
    with nogil:
        if threads == 1:
            for i in range(tasks):
                few_products(p, out, a, b, i)
        else:
            for i in prange(tasks, schedule="static", num_threads=threads):
                few_products(p, out, a, b, i)
    return 0


cdef void few_products(const Product* p, real* out, const real* a, const real* b, index task) noexcept nogil:
    """Some columns of some rows; those of the same rows follow each other."""
    cdef index row = task // p.panels * TASK_ROWS, column = task % p.panels * FEW_COLUMNS
    cdef index rows = min(TASK_ROWS, p.rows - row), columns = min(FEW_COLUMNS, p.columns - column)
    cdef uint64_t mode = flush_denormals()
    out += row * p.columns + column
    a += row * p.row_step
    b += column
    if real is float:
        few_products_f32(out, p.columns, a, p.row_step, p.table_step, b, p.ldb, rows, p.length, columns)
    else:
        few_products_f64(out, p.columns, a, p.row_step, p.table_step, b, p.ldb, rows, p.length, columns)
    restore_denormals(mode)


cdef int run_product(Product* p, real* out, const real* a, const real* b, const real* bias, int threads) except -1:
    cdef index width = 2 * lanes(a), i
    p.panels = (p.columns + width - 1) // width
    p.row_tasks = max((p.rows + TASK_ROWS - 1) // TASK_ROWS, 1)
    cdef index tasks = p.panels * p.row_tasks
    if threads > tasks:
        threads = <int>max(tasks, 1)
    cdef index stretch
    # Short enough for offsets of 32 bits.
    p.stretch = stretch = min(p.length, max(min(<index>STRETCH, (2**31 - 1) // max(p.table_step, 1)), 1))
    cdef index table_bytes = (stretch * sizeof(int32_t) + 63) // 64 * 64
    # Private: a panel of b, the start of the sums, and the results of a task.
    cdef index per_thread = ((stretch + 1 + TASK_ROWS) * width * sizeof(real) + 4095) // 4096 * 4096
    cdef Workspace memory = take(table_bytes + 4096 + threads * per_thread)
    cdef int32_t* table = <int32_t*>memory.data
    cdef char* private = <char*>memory.data + (table_bytes + 4095) // 4096 * 4096
    with nogil:
        for i in range(stretch):
            table[i] = <int32_t>(i * p.table_step)
        if threads == 1:
            for i in range(tasks):
                run_task(p, out, a, b, bias, table, <real*>private, i)
        else:
            for i in prange(tasks, schedule="dynamic", num_threads=threads):
                run_task(p, out, a, b, bias, table, <real*>(private + threadid() * per_thread), i)
    return 0


cdef void run_task(const Product* p, real* out, const real* a, const real* b, const real* bias, const int32_t* table,
                   real* private, index task) noexcept nogil:
    cdef index width = 2 * lanes(a), column = task // p.row_tasks * width, row = task % p.row_tasks * TASK_ROWS
    cdef index columns = min(width, p.columns - column), rows = min(TASK_ROWS, p.rows - row)
    cdef int vectors = 1 if columns <= width // 2 else 2
    cdef index ld = vectors * (width // 2), t = 0, n, i, k, left, pieces
    cdef index most = CYCONV_TILE_PIXELS
    cdef real* start = private
    cdef real* panel = private + width
    cdef real* sums = panel + p.stretch * width
    cdef real* o
    cdef const real* q
    cdef uint64_t mode = flush_denormals()
    memset(start, 0, width * sizeof(real))
    if bias != NULL:
        memcpy(start, bias + column, columns * sizeof(real))
    while True:
        n = min(p.stretch, p.length - t)
        gather_panel(p, b, panel, t, n, column, columns, ld)
        q = a + row * p.row_step + t * p.table_step
        o = sums
        left = rows
        while left > 0:
            pieces = (left + most - 1) // most
            i = (left + pieces - 1) // pieces
            if t == 0:
                tile(1, <int>i, vectors, q, p.row_step, 0, table, n, <const real*>panel, ld, <const real*>start, 0, o,
                     ld, 0)
            else:
                tile(1, <int>i, vectors, q, p.row_step, 0, table, n, <const real*>panel, ld, <const real*>o, ld, o,
                     ld, 0)
            q += i * p.row_step
            o += i * ld
            left -= i
        t += n
        if t >= p.length:
            break
    for i in range(rows):
        o = out + (row + i) * p.columns + column
        if p.rectified:
            for k in range(columns):
                o[k] = 0 if sums[i * ld + k] < 0 else sums[i * ld + k]
        else:
            memcpy(o, sums + i * ld, columns * sizeof(real))
    restore_denormals(mode)


cdef void gather_panel(const Product* p, const real* b, real* panel, index t, index n, index column, index columns,
                       index ld) noexcept nogil:
    """b[t : t + n, column : column + columns] as rows of ``ld``, zeros beyond."""
    cdef index i
    if columns < ld:
        memset(panel, 0, n * ld * sizeof(real))
    if p.b_transposed:
        transpose(b + column * p.ldb + t, p.ldb, columns, n, panel, ld)
    else:
        for i in range(n):
            memcpy(panel + i * ld, b + (t + i) * p.ldb + column, columns * sizeof(real))
