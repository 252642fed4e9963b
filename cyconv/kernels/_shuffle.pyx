"""Elements of several streams dealt out by turns, and back: pixel and channel shuffle. They are moved only."""

from cython.parallel cimport prange
from libc.stdint cimport int32_t, int64_t

cimport numpy as cnp

cnp.import_array()

ctypedef Py_ssize_t index

cdef extern from "shuffle.h" nogil:
    void deal_4(int32_t* wide, int32_t* narrow, const int64_t* at, index count, index n, int split) noexcept
    void deal_8(int64_t* wide, int64_t* narrow, const int64_t* at, index count, index n, int split) noexcept

# Elements that a task moves, about.
cdef enum:
    TASK = 8192


cdef struct Rows:
    char* wide
    char* narrow
    const int64_t* at
    index count, n
    bint split
    index middle, inner  # how many
    index outer_step, middle_step, inner_step
    index size  # bytes of an element


def deal(cnp.ndarray wide, cnp.ndarray narrow, cnp.ndarray at, index n, bint split, tuple shape, tuple steps,
         int threads):
    """wide[row][l][k] = stream k of the row [l], n elements of it; ``split``: the other way.

    Rows are counted through ``shape`` (outer, middle, inner); the first element of stream k lies ``at[k]`` (int64)
    elements behind where ``narrow`` has the row: ``steps`` apart in the three directions.
    """
    cdef Rows r
    cdef index rows = shape[0] * shape[1] * shape[2], each, tasks, i
    r.wide, r.narrow = <char*>cnp.PyArray_DATA(wide), <char*>cnp.PyArray_DATA(narrow)
    r.at, r.count, r.n, r.split = <const int64_t*>cnp.PyArray_DATA(at), cnp.PyArray_SIZE(at), n, split
    r.middle, r.inner = shape[1], shape[2]
    r.outer_step, r.middle_step, r.inner_step = steps
    r.size = cnp.PyArray_ITEMSIZE(wide)
    each = max(<index>1, TASK // max(<index>1, r.count * n))
    tasks = (rows + each - 1) // each
    with nogil:
        if threads == 1:
            deal_rows(&r, 0, rows)
        else:
            for i in prange(tasks, schedule="static", num_threads=threads):
                deal_rows(&r, i * each, min(rows, (i + 1) * each))


cdef void deal_rows(const Rows* r, index first, index end) noexcept nogil:
    cdef index row, at
    for row in range(first, end):
        at = (row // (r.middle * r.inner) * r.outer_step + row // r.inner % r.middle * r.middle_step
              + row % r.inner * r.inner_step)
        if r.size == 4:
            deal_4(<int32_t*>r.wide + row * r.count * r.n, <int32_t*>r.narrow + at, r.at, r.count, r.n, r.split)
        else:
            deal_8(<int64_t*>r.wide + row * r.count * r.n, <int64_t*>r.narrow + at, r.at, r.count, r.n, r.split)
