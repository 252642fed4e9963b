"""The windows of images as columns, and columns added up to images again: unfold and fold.

    columns[n, c, tap, place] = image[n, c, place * stride + tap * dilation - padding]

A row of outputs meets a row of the image for each tap: along it, elements are copied (or added) one by one at stride 1,
every stride-th otherwise. A *task* is some rows of the planes of an image: for unfold rows of outputs, one tap after
the other, so that the columns are written in long stretches; for fold rows of the image, to which one tap after the
other is added while they are near. So every element is written by one task and summed in one order, and the number of
threads changes no bit.

Channels-last images: a task is some channels of an image, which are brought to planes of their own and back.
"""

from cython.parallel cimport prange, threadid
from libc.stdint cimport uint64_t
from libc.string cimport memcpy, memset

cimport numpy as cnp

from cyconv.kernels._workspace cimport Block, borrow, discard, give, zeroed
from cyconv.kernels.simd cimport LANES_f32, copy_row, flush_denormals, real, restore_denormals, transpose

cnp.import_array()

ctypedef Py_ssize_t index

cdef enum:
    # Elements of the image or the outputs in a task: what a second-level cache holds beside others.
    TASK = 16384
    # Rows up to this many elements are copied by vectors: calling memcpy costs as much.
    NARROW = 128
    # Elements of the planes of a task of a channels-last image.
    PLANES = 262144


cdef struct Reach:
    # Of a tap along the columns: its distance from where a window begins, and which outputs find it inside
    index at, begin, stop


cdef struct Shape:
    index channels
    index size[3]
    index out[3]
    index kernel[3]
    index stride[3]
    index dilation[3]
    index low[3]  # padding before
    index taps, plane, places  # of the kernel, the image, the outputs
    Reach* reach  # of each column of the kernel
    # Of one call
    bint last
    index images, rows, row_tasks, block_channels, blocks


cdef class Windows:
    """The windows of one geometry, ready for arrays of either dtype and memory order."""

    cdef Shape shape

    def __cinit__(self):
        self.shape.reach = NULL

    def __dealloc__(self):
        discard(self.shape.reach)

    def __init__(self, index channels, size, out, kernel, stride, dilation, low):
        """Three numbers for each of the others: depth, height, width."""
        cdef Shape* s = &self.shape
        cdef int i
        s.channels, s.taps, s.plane, s.places = channels, 1, 1, 1
        for i in range(3):
            s.size[i], s.out[i], s.kernel[i], s.stride[i] = size[i], out[i], kernel[i], stride[i]
            s.dilation[i], s.low[i] = dilation[i], low[i]
            s.taps *= s.kernel[i]
            s.plane *= s.size[i]
            s.places *= s.out[i]
        s.reach = <Reach*>zeroed(s.kernel[2], sizeof(Reach))
        if s.reach == NULL:
            raise MemoryError("cyconv: no memory for the tables of windows")
        for i in range(s.kernel[2]):
            find_reach(s, i)

    def unfold(self, cnp.ndarray columns, cnp.ndarray image, index images, bint last, int threads):
        """Fill ``columns``, (images, channels * taps, places); last: the image is channels-last."""
        cdef bint single = cnp.PyArray_TYPE(image) == cnp.NPY_FLOAT
        cdef void* to = cnp.PyArray_DATA(columns)
        cdef void* source = cnp.PyArray_DATA(image)
        cdef int status
        with nogil:
            if single:
                status = run[float](&self.shape, <float*>to, <float*>source, images, last, False, threads)
            else:
                status = run[double](&self.shape, <double*>to, <double*>source, images, last, False, threads)
        if status:
            raise MemoryError("cyconv: no memory for the planes of a channels-last image")

    def fold(self, cnp.ndarray image, cnp.ndarray columns, index images, bint last, int threads):
        """Fill ``image`` with the sums of the columns; last: it is channels-last."""
        cdef bint single = cnp.PyArray_TYPE(image) == cnp.NPY_FLOAT
        cdef void* to = cnp.PyArray_DATA(image)
        cdef void* source = cnp.PyArray_DATA(columns)
        cdef int status
        with nogil:
            if single:
                status = run[float](&self.shape, <float*>source, <float*>to, images, last, True, threads)
            else:
                status = run[double](&self.shape, <double*>source, <double*>to, images, last, True, threads)
        if status:
            raise MemoryError("cyconv: no memory for the planes of a channels-last image")


cdef int run(const Shape* windows, real* columns, real* image, index images, bint last, bint back,
             int threads) noexcept nogil:
    """Columns from images, or back."""
    cdef Shape s = windows[0]
    cdef index rows = s.size[0] * s.size[1] if back else s.out[0] * s.out[1], tasks, i, per_thread = 0
    cdef Block memory = Block(NULL, 0)
    s.images, s.last, s.rows, s.block_channels = images, last, rows, 1
    if last:
        s.block_channels = max(1, min(s.channels, LANES_f32, PLANES // max(s.plane, 1)))
        per_thread = (s.block_channels * s.plane * sizeof(real) + 4095) // 4096 * 4096
    else:
        s.rows = min(rows, max(1, TASK // (s.size[2] if back else s.out[2])))
    s.blocks = (s.channels + s.block_channels - 1) // s.block_channels
    s.row_tasks = (rows + s.rows - 1) // s.rows
    tasks = images * s.blocks * s.row_tasks
    threads = <int>max(1, min(<index>threads, tasks))
    if per_thread and borrow(&memory, threads * per_thread):
        return -1
    if threads == 1:
        for i in range(tasks):
            run_task(&s, columns, image, back, <real*>memory.data, i)
    else:
        for i in prange(tasks, schedule="static", num_threads=threads):
            run_task(&s, columns, image, back, <real*>(<char*>memory.data + threadid() * per_thread), i)
    give(&memory)
    return 0


cdef void run_task(const Shape* s, real* columns, real* image, bint back, real* planes, index task) noexcept nogil:
    cdef index first = task % s.row_tasks * s.rows, block = task // s.row_tasks % s.blocks, c
    cdef index channel = block * s.block_channels, channels = min(s.block_channels, s.channels - channel)
    cdef index end = min(first + s.rows, s.size[0] * s.size[1] if back else s.out[0] * s.out[1])
    cdef uint64_t mode = flush_denormals() if back else 0
    image += task // s.row_tasks // s.blocks * s.channels * s.plane + channel * (1 if s.last else s.plane)
    columns += (task // s.row_tasks // s.blocks * s.channels + channel) * s.taps * s.places
    if not s.last:
        planes = image
    elif not back:
        transpose(<const real*>image, s.channels, s.plane, channels, planes, s.plane)
    for c in range(channels):
        if back:
            fold_rows(s, planes + c * s.plane, columns + c * s.taps * s.places, first, end)
        else:
            unfold_rows(s, columns + c * s.taps * s.places, planes + c * s.plane, first, end)
    if s.last and back:
        transpose(<const real*>planes, s.plane, channels, s.plane, image, s.channels)
    if back:
        restore_denormals(mode)


cdef void find_reach(const Shape* s, index column) noexcept:
    cdef Reach* reach = s.reach + column
    cdef index stride = s.stride[2], at = column * s.dilation[2] - s.low[2]
    reach.at = at
    reach.begin = min(0 if at >= 0 else (stride - 1 - at) // stride, s.out[2])
    reach.stop = max(0 if at >= s.size[2] else min(s.out[2], (s.size[2] - at + stride - 1) // stride), reach.begin)


cdef void unfold_rows(const Shape* s, real* columns, const real* plane, index first, index end) noexcept nogil:
    """Rows ``first`` to ``end`` of outputs of all taps of one channel."""
    cdef index t, r, c, i, z, h, p
    cdef const Reach* reach
    cdef real* to
    for t in range(s.kernel[0]):
        for r in range(s.kernel[1]):
            for c in range(s.kernel[2]):
                reach = s.reach + c
                to = columns + ((t * s.kernel[1] + r) * s.kernel[2] + c) * s.places
                # Divisions cost as much as a short row: there is none in the loop.
                p = first % s.out[1]
                z = first // s.out[1] * s.stride[0] + t * s.dilation[0] - s.low[0]
                h = p * s.stride[1] + r * s.dilation[1] - s.low[1]
                for i in range(first, end):
                    if 0 <= z < s.size[0] and 0 <= h < s.size[1]:
                        take_row(to + i * s.out[2], plane + (z * s.size[1] + h) * s.size[2] + reach.at, s.stride[2],
                                 reach.begin, reach.stop, s.out[2])
                    else:
                        memset(to + i * s.out[2], 0, s.out[2] * sizeof(real))
                    p += 1
                    h += s.stride[1]
                    if p == s.out[1]:
                        p = 0
                        h = r * s.dilation[1] - s.low[1]
                        z += s.stride[0]


cdef inline void take_row(real* to, const real* line, index stride, index begin, index stop, index n) noexcept nogil:
    """to[i] = line[i * stride] for begin <= i < stop, zeros elsewhere."""
    cdef index i
    for i in range(begin):
        to[i] = 0
    if stride == 1 and stop - begin > NARROW:
        memcpy(to + begin, line + begin, (stop - begin) * sizeof(real))
    elif stride == 1:
        copy_row(to + begin, line + begin, stop - begin)
    elif stride == 2:
        for i in range(begin, stop):
            to[i] = line[2 * i]
    else:
        for i in range(begin, stop):
            to[i] = line[stride * i]
    for i in range(stop, n):
        to[i] = 0


cdef void fold_rows(const Shape* s, real* plane, const real* columns, index first, index end) noexcept nogil:
    """Rows ``first`` to ``end`` of one channel of the image: one tap after the other, in their order.

    Not row after row: a row that is read again as soon as it was written, but a pixel further on, would wait for that.
    """
    cdef index t, r, c, z, p, top, slice, low, high, shift
    cdef const Reach* reach
    cdef const real* line
    memset(plane + first * s.size[2], 0, (end - first) * s.size[2] * sizeof(real))
    for t in range(s.kernel[0]):
        for r in range(s.kernel[1]):
            shift = s.low[1] - r * s.dilation[1]
            for c in range(s.kernel[2]):
                reach = s.reach + c
                line = columns + ((t * s.kernel[1] + r) * s.kernel[2] + c) * s.places
                for slice in range(first // s.size[1], (end - 1) // s.size[1] + 1):
                    z = met(slice + s.low[0] - t * s.dilation[0], s.stride[0], s.out[0])
                    if z < 0:
                        continue
                    top = slice * s.size[1]
                    low = max(first - top, 0) + shift
                    high = min(end - top, s.size[1]) + shift
                    low = 0 if low <= 0 else (low + s.stride[1] - 1) // s.stride[1]
                    high = 0 if high <= 0 else min((high + s.stride[1] - 1) // s.stride[1], s.out[1])
                    for p in range(low, high):
                        add_row(plane + (top + p * s.stride[1] - shift) * s.size[2] + reach.at,
                                line + (z * s.out[1] + p) * s.out[2], s.stride[2], reach.begin, reach.stop)


cdef inline index met(index at, index stride, index places) noexcept nogil:
    """The output whose window begins at ``at``, or -1. (Without a division where there is no stride.)"""
    if at < 0:
        return -1
    if stride > 1:
        if at % stride != 0:
            return -1
        at //= stride
    return at if at < places else -1


cdef inline void add_row(real* to, const real* line, index stride, index begin, index stop) noexcept nogil:
    """to[i * stride] += line[i] for begin <= i < stop."""
    cdef index i
    if stride == 1:
        for i in range(begin, stop):
            to[i] += line[i]
    elif stride == 2:
        for i in range(begin, stop):
            to[2 * i] += line[i]
    else:
        for i in range(begin, stop):
            to[stride * i] += line[i]
