"""Padding of an array of any number of axes, and its gradient: rows copied, edges from where an index map says.

The caller gives the axes in the order of memory, neighbouring axes without padding joined, and the last of them as a
*block* of contiguous elements: 1 for images that are padded along their rows, the channels for channels-last ones.
A row of the output is the last axis of the others; the rest of them count rows. What a place of the padding repeats is
listed for each axis: the places before the first that is inside, and behind the last; no list stands for a value.

Both directions write each row of their result once. In the gradient a row is the sum of the rows that repeat it, in
the order of their places, so that the number of threads changes no bit.
"""

from cython.parallel cimport prange
from libc.stdint cimport int32_t
from libc.string cimport memcpy, memset

cimport numpy as cnp

from cyconv.kernels._workspace cimport discard, zeroed
from cyconv.kernels.simd cimport copy_row, real

cnp.import_array()

ctypedef Py_ssize_t index

# Elements of the result that a task writes, at least: what fetching a task costs is little beside it.
DEF TASK_ELEMENTS = 16384
DEF MOST_AXES = 32


cdef struct Axis:
    index length, out_length
    index before, inside, behind  # places of the output: padding, pixels of the input, padding
    index first  # the first of these pixels
    int32_t* places  # of both paddings; NULL: they hold a value
    int32_t* tables  # where all three lists begin
    # The gradient: the places of the output that read pixel i are readers[heads[i]] .. readers[heads[i + 1] - 1]
    int32_t* heads
    int32_t* readers


cdef class Pad:
    """Padding of one geometry and memory order, ready to run on arrays of that kind."""

    cdef Axis* axes
    cdef int count
    cdef index block, rows, out_rows

    def __cinit__(self):
        self.axes = NULL

    def __init__(self, axes, index block):
        """``axes``: (length, places before, first pixel inside, pixels inside, places behind, what these places
        repeat) each."""
        cdef Axis* a
        cdef index i, j
        self.count, self.block = len(axes), block
        if self.count > MOST_AXES:
            raise ValueError("cyconv: padding of more than 32 axes")
        self.axes = <Axis*>zeroed(self.count, sizeof(Axis))
        if self.axes == NULL:
            raise MemoryError("cyconv: no memory for the axes of a padding")
        self.rows = self.out_rows = 1
        for i, (length, before, first, inside, behind, repeated) in enumerate(axes):
            a = &self.axes[i]
            a.length, a.before, a.first, a.inside, a.behind = length, before, first, inside, behind
            a.out_length = a.before + a.inside + a.behind
            if i < self.count - 1:
                self.rows *= a.length
                self.out_rows *= a.out_length
            # One allocation: places, heads, readers.
            a.tables = <int32_t*>zeroed(2 * len(repeated) + a.length + 1 + a.inside, sizeof(int32_t))
            if a.tables == NULL:
                raise MemoryError("cyconv: no memory for the places of a padding")
            a.heads = a.tables + len(repeated)
            a.readers = a.heads + a.length + 1
            if repeated:
                a.places = a.tables
            for j, place in enumerate(repeated):
                a.places[j] = place
            list_readers(a)

    def __dealloc__(self):
        cdef int i
        if self.axes != NULL:
            for i in range(self.count):
                discard(self.axes[i].tables)
            discard(self.axes)

    def run(self, cnp.ndarray out, cnp.ndarray source, double value, int threads):
        """Fill ``out``, in the same memory order as ``source``."""
        if cnp.PyArray_TYPE(out) == cnp.NPY_FLOAT:
            run_pad[float](self, <float*>cnp.PyArray_DATA(out), <const float*>cnp.PyArray_DATA(source), <float>value,
                           threads)
        else:
            run_pad[double](self, <double*>cnp.PyArray_DATA(out), <const double*>cnp.PyArray_DATA(source), value,
                            threads)

    def backward(self, cnp.ndarray grad_source, cnp.ndarray grad_out, int threads):
        """Fill ``grad_source``, in the same memory order as ``grad_out``."""
        if cnp.PyArray_TYPE(grad_source) == cnp.NPY_FLOAT:
            run_gradient[float](self, <float*>cnp.PyArray_DATA(grad_source), <const float*>cnp.PyArray_DATA(grad_out),
                                threads)
        else:
            run_gradient[double](self, <double*>cnp.PyArray_DATA(grad_source),
                                 <const double*>cnp.PyArray_DATA(grad_out), threads)


cdef void list_readers(Axis* a) noexcept:
    """Fill in heads and readers: which places of the output read each pixel, in their order."""
    cdef index begin = a.before if a.places == NULL else 0, j, at
    cdef index end = a.before + a.inside if a.places == NULL else a.out_length
    for j in range(begin, end):
        a.heads[source_place(a, j) + 1] += 1
    for j in range(a.length):
        a.heads[j + 1] += a.heads[j]
    # Filled from behind, each end moves to where its readers begin, which is where those before end.
    for j in range(end - 1, begin - 1, -1):
        at = source_place(a, j)
        a.heads[at + 1] -= 1
        a.readers[a.heads[at + 1]] = <int32_t>j
    for j in range(a.length):
        a.heads[j] = a.heads[j + 1]
    a.heads[a.length] = <int32_t>(end - begin)


cdef inline index source_place(const Axis* a, index i) noexcept nogil:
    """The pixel of the input that stands at place ``i`` of the output, or -1."""
    if a.before <= i < a.before + a.inside:
        return a.first + i - a.before
    if a.places == NULL:
        return -1
    return a.places[i if i < a.before else i - a.inside]


cdef inline index task_rows(index row) noexcept nogil:
    """Rows of so many elements that make a task."""
    return max(1, TASK_ELEMENTS // max(row, 1))


cdef int run_pad(Pad plan, real* out, const real* source, real value, int threads) except -1:
    cdef const Axis* axes = plan.axes
    cdef int count = plan.count
    cdef index block = plan.block, rows = plan.out_rows
    cdef index each = task_rows(axes[count - 1].out_length * block), tasks = (rows + each - 1) // each, i
    with nogil:
        if threads == 1 or tasks == 1:
            for i in range(tasks):
                pad_rows(axes, count, block, out, source, value, i * each, min(rows, (i + 1) * each))
        else:
            for i in prange(tasks, schedule="static", num_threads=threads):
                pad_rows(axes, count, block, out, source, value, i * each, min(rows, (i + 1) * each))
    return 0


cdef void pad_rows(const Axis* axes, int count, index block, real* out, const real* source, real value, index begin,
                   index end) noexcept nogil:
    """Rows begin to end of the output."""
    cdef const Axis* last = &axes[count - 1]
    cdef index row, rest, at, from_row, stride, size = last.out_length * block
    cdef int i
    out += begin * size
    for row in range(begin, end):
        rest, from_row, stride = row, 0, 1
        for i in range(count - 2, -1, -1):
            at = source_place(&axes[i], rest % axes[i].out_length)
            rest = rest // axes[i].out_length
            if at < 0:
                from_row = -1
                break
            from_row += at * stride
            stride *= axes[i].length
        if from_row < 0:
            fill(out, value, size)
        else:
            pad_row(last, block, out, source + from_row * last.length * block, value)
        out += size


cdef inline void fill(real* to, real value, index n) noexcept nogil:
    cdef index i
    for i in range(n):
        to[i] = value


cdef inline void pad_row(const Axis* a, index block, real* to, const real* row, real value) noexcept nogil:
    """One row: its pixels, and at both ends what the padding holds."""
    cdef real* inner = to + a.before * block
    cdef real* behind = inner + a.inside * block
    copy(inner, row + a.first * block, a.inside * block)
    if a.places == NULL:
        fill(to, value, a.before * block)
        fill(behind, value, a.behind * block)
    else:
        edge(a.places, a.before, block, to, row)
        edge(a.places + a.before, a.behind, block, behind, row)


cdef inline void copy(real* to, const real* row, index n) noexcept nogil:
    """Short rows are not worth a call."""
    if n <= 128:
        copy_row(to, row, n)
    else:
        memcpy(to, row, n * sizeof(real))


cdef inline void edge(const int32_t* places, index n, index block, real* to, const real* row) noexcept nogil:
    cdef index j
    if block == 1:
        for j in range(n):
            to[j] = row[places[j]]
        return
    for j in range(n):
        memcpy(to + j * block, row + places[j] * block, block * sizeof(real))


# ------------------------------------------------------------------------------------------------------------ gradient

cdef int run_gradient(Pad plan, real* grad_source, const real* grad_out, int threads) except -1:
    cdef const Axis* axes = plan.axes
    cdef int count = plan.count
    cdef index block = plan.block, rows = plan.rows
    cdef index each = task_rows(axes[count - 1].length * block), tasks = (rows + each - 1) // each, i
    with nogil:
        if threads == 1 or tasks == 1:
            for i in range(tasks):
                gradient_rows(axes, count, block, grad_source, grad_out, i * each, min(rows, (i + 1) * each))
        else:
            for i in prange(tasks, schedule="static", num_threads=threads):
                gradient_rows(axes, count, block, grad_source, grad_out, i * each, min(rows, (i + 1) * each))
    return 0


cdef void gradient_rows(const Axis* axes, int count, index block, real* grad_source, const real* grad_out, index begin,
                        index end) noexcept nogil:
    """Rows begin to end of the input: each the sum of the rows of the output that read it, over all axes."""
    cdef const Axis* last = &axes[count - 1]
    cdef index pixel[MOST_AXES]
    cdef index reader[MOST_AXES]
    cdef index row, rest, at, size = last.length * block
    cdef int i, outer = count - 1
    cdef bint first, more
    grad_source += begin * size
    for row in range(begin, end):
        rest = row
        more = True
        for i in range(outer - 1, -1, -1):
            pixel[i] = rest % axes[i].length
            rest = rest // axes[i].length
            reader[i] = axes[i].heads[pixel[i]]
            more = more and reader[i] < axes[i].heads[pixel[i] + 1]
        if not more:
            memset(grad_source, 0, size * sizeof(real))
        first = True
        while more:
            at = 0
            for i in range(outer):
                at = at * axes[i].out_length + axes[i].readers[reader[i]]
            gradient_row(last, block, grad_source, grad_out + at * last.out_length * block, first)
            first = False
            # The next combination of readers, that of the last axis changing fastest.
            more = False
            for i in range(outer - 1, -1, -1):
                reader[i] += 1
                if reader[i] < axes[i].heads[pixel[i] + 1]:
                    more = True
                    break
                reader[i] = axes[i].heads[pixel[i]]
        grad_source += size


cdef inline void gradient_row(const Axis* a, index block, real* to, const real* row, bint first) noexcept nogil:
    """Add one row of the output's gradient to one of the input's, which it is the ``first`` to reach or not."""
    cdef index i, n = a.inside * block, skip = a.first * block
    cdef const real* inner = row + a.before * block
    if first:
        memset(to, 0, skip * sizeof(real))
        copy(to + skip, inner, n)
        memset(to + skip + n, 0, (a.length * block - skip - n) * sizeof(real))
    else:
        for i in range(n):
            to[skip + i] += inner[i]
    if a.places != NULL:
        add_edge(a.places, a.before, block, to, row)
        add_edge(a.places + a.before, a.behind, block, to, inner + n)


cdef inline void add_edge(const int32_t* places, index n, index block, real* to, const real* row) noexcept nogil:
    cdef index i, j
    for j in range(n):
        for i in range(block):
            to[places[j] * block + i] += row[j * block + i]
