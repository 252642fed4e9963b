"""Aligned memory that goes back to a pool when its owner goes away: fresh pages cost more than many a layer does.

Any thread may take from it and give back, with or without the interpreter's lock.
"""

from libc.stdlib cimport calloc, free
from libc.string cimport memset

cimport numpy as cnp

cnp.import_array()

cdef extern from "stdlib.h" nogil:
    int posix_memalign(void** pointer, size_t alignment, size_t size)

cdef extern from *:
    """
    #if defined(__linux__)
    #include <sys/mman.h>
    #define CYCONV_HUGE(p, n) madvise(p, n, MADV_HUGEPAGE)
    #else
    #define CYCONV_HUGE(p, n) ((void)0)
    #endif
    """
    void CYCONV_HUGE(void* p, size_t n) nogil

cdef extern from "memory.h" nogil:
    void memory_lent(void* p, Py_ssize_t nbytes, Py_ssize_t room) noexcept
    void memory_kept(void* p, Py_ssize_t room) noexcept
    void memory_count(Py_ssize_t n) noexcept
    Py_ssize_t memory_counted() noexcept
    Py_ssize_t memory_fail(Py_ssize_t n, bint lasting) noexcept
    bint memory_fails() noexcept

cdef extern from "lock.h" nogil:
    void lock_take() noexcept
    void lock_give() noexcept
    int unlock_after_fork() noexcept

unlock_after_fork()

DEF SLOTS = 64
# NumPy's NPY_MAXDIMS.
DEF MOST_AXES = 64
# Arrays from this size on come from the pool. Left to the C library, those of a training step, which come and go in
# another order than one by one, leave holes that cost up to a third of the peak.
cdef Py_ssize_t POOLED_BYTES = 1 << 20
cdef Py_ssize_t HUGE_PAGE = 1 << 21
# Blocks that were given back. More than this many bytes are not kept.
cdef Py_ssize_t keep_limit = 256 << 20
cdef void* kept[SLOTS]
cdef Py_ssize_t kept_bytes[SLOTS]
cdef Py_ssize_t kept_since[SLOTS]
cdef Py_ssize_t gifts = 0
cdef Py_ssize_t kept_total = 0
memset(kept, 0, sizeof(kept))


# Blocks of the pool's arrays begin at different cache lines of a page: an output, an input and weights that all began
# at the first would meet in the same sets of the cache.
DEF STAGGER = 4096
cdef Py_ssize_t stagger = 0


cdef class Workspace:
    """A block of at least ``nbytes`` bytes at ``data``; contents undefined."""

    def __dealloc__(self):
        cdef Block block = Block(self.data, self.nbytes)
        if self.pooled:
            give(&block)
        else:
            discard(self.data)


cdef void* zeroed(size_t n, size_t size) noexcept nogil:
    """Return new memory for ``n`` things of ``size`` bytes, all zeros, or NULL; `discard` takes it back."""
    cdef void* data = NULL if memory_fails() else calloc(n, size)
    if data != NULL:
        memory_count(1)
    return data


cdef void* aligned(size_t nbytes, size_t alignment) noexcept nogil:
    """Return new memory, or NULL; `discard` takes it back."""
    cdef void* data = NULL
    if memory_fails() or posix_memalign(&data, alignment, nbytes) != 0:
        return NULL
    memory_count(1)
    return data


cdef void discard(void* data) noexcept nogil:
    if data != NULL:
        memory_count(-1)
        free(data)


cdef void give(Block* block) noexcept nogil:
    """Return a block to the pool; NULL is none. Where it is full, the block that waited longest goes."""
    global kept_total, gifts
    cdef int i, place = -1, oldest
    cdef void* data = block.data
    if data == NULL:
        return
    while block.nbytes <= keep_limit:
        place = oldest = -1
        lock_take()
        for i in range(SLOTS):
            if kept[i] == NULL:
                place = i
            elif oldest < 0 or kept_since[i] < kept_since[oldest]:
                oldest = i
        if place >= 0 and kept_total + block.nbytes <= keep_limit:
            kept[place], kept_bytes[place], kept_since[place] = data, block.nbytes, gifts
            kept_total += block.nbytes
            gifts += 1
            memory_kept(data, block.nbytes)
            lock_give()
            return
        data = kept[oldest]
        kept[oldest] = NULL
        kept_total -= kept_bytes[oldest]
        lock_give()
        discard(data)
        data = block.data
    discard(data)


cdef bint kept_block(Block* block, Py_ssize_t nbytes, Py_ssize_t most, bint replace) noexcept nogil:
    """Take the smallest block of the pool of ``nbytes`` to ``most`` bytes; False where there is none.

    ``replace``: then free the block that the new one will stand in for.
    """
    global kept_total
    cdef int i, best = -1
    cdef bint fits
    cdef void* too_small = NULL
    lock_take()
    for i in range(SLOTS):
        if kept[i] != NULL and kept_bytes[i] >= nbytes and (best < 0 or kept_bytes[i] < kept_bytes[best]):
            best = i
    fits = best >= 0 and kept_bytes[best] <= most
    if fits:
        block.data, block.nbytes = kept[best], kept_bytes[best]
    else:
        best = outgrown(nbytes) if replace else -1
        if best >= 0:
            too_small = kept[best]
    if best >= 0:
        kept_total -= kept_bytes[best]
        kept[best] = NULL
    lock_give()
    discard(too_small)
    return fits


cdef int outgrown(Py_ssize_t nbytes) noexcept nogil:
    """The largest of the large blocks that are too small, or -1.

    A larger one takes its place, and will serve those that this one served: a pool of one block for each size that was
    ever wished for would hold several times what is in use at any time.
    """
    cdef int i, best = -1
    for i in range(SLOTS):
        if HUGE_PAGE <= kept_bytes[i] and kept[i] != NULL and 4 * kept_bytes[i] >= nbytes > kept_bytes[i]:
            if best < 0 or kept_bytes[i] > kept_bytes[best]:
                best = i
    return best


cdef int borrow(Block* block, Py_ssize_t nbytes) noexcept nogil:
    """Take a block from the pool, or a new one; returns something other than 0 when there is none to be had."""
    nbytes = max(nbytes, 64)
    # A block much larger than the wish would be missing where it fits.
    if not kept_block(block, nbytes, 4 * nbytes + (1 << 16), True):
        if new_block(block, nbytes, HUGE_PAGE if nbytes >= HUGE_PAGE else 4096 if nbytes >= 4096 else 64):
            return -1
    memory_lent(block.data, nbytes, block.nbytes)
    return 0


cdef int new_block(Block* block, Py_ssize_t nbytes, size_t alignment) noexcept nogil:
    nbytes = (nbytes + alignment - 1) // alignment * alignment
    block.data = aligned(nbytes, alignment)
    if block.data == NULL:
        return -1
    block.nbytes = nbytes
    if nbytes >= HUGE_PAGE:
        CYCONV_HUGE(block.data, nbytes)
    return 0


cdef Workspace take(Py_ssize_t nbytes):
    """Return a block from the pool, or a new one; MemoryError when there is none to be had."""
    cdef Workspace workspace = Workspace.__new__(Workspace)
    cdef Block block
    if borrow(&block, nbytes):
        raise MemoryError(f"cyconv: no {nbytes} bytes for the workspace of a kernel")
    workspace.data, workspace.nbytes, workspace.pooled = block.data, block.nbytes, True
    return workspace


def array(cnp.npy_intp length, str dtype):
    """Return a new 1-D array of ``length`` elements, "f" or "d", in a block of the pool; contents undefined."""
    cdef Workspace block = take(length * (4 if dtype == "f" else 8))
    cdef int typenum = cnp.NPY_FLOAT if dtype == "f" else cnp.NPY_DOUBLE
    cdef cnp.ndarray result = cnp.PyArray_SimpleNewFromData(1, &length, typenum, block.data)
    cnp.set_array_base(result, block)
    return result


def empty(tuple shape, str dtype):
    """Return a new C-contiguous array that begins at a cache line; ``dtype``: "f", "d", "l" (int64) or "B" (uint8).

    Large ones come from the pool: the C library would give and take fresh pages for them on every call, which the
    system fills with zeros first.
    """
    global stagger
    cdef cnp.npy_intp dims[MOST_AXES]
    cdef int ndim = len(shape), i
    cdef int typenum = cnp.NPY_FLOAT
    cdef Py_ssize_t nbytes = 4
    cdef Workspace block
    cdef Block memory
    cdef char* data
    if ndim > MOST_AXES:
        raise ValueError(f"an array has at most {MOST_AXES} dimensions, not {ndim}")
    if dtype == "B":
        typenum, nbytes = cnp.NPY_UINT8, 1
    elif dtype != "f":
        typenum, nbytes = cnp.NPY_DOUBLE if dtype == "d" else cnp.NPY_INT64, 8
    for i in range(ndim):
        dims[i] = shape[i]
        nbytes *= dims[i]
    if nbytes >= POOLED_BYTES:
        block = Workspace.__new__(Workspace)
        nbytes += STAGGER
        # An array may stay for long: it takes no block that is much larger, and whole huge pages only where the last of
        # them is a small part.
        if not kept_block(&memory, nbytes, nbytes + nbytes // 8, False):
            if new_block(&memory, nbytes, HUGE_PAGE if nbytes >= 16 * HUGE_PAGE else 4096):
                raise MemoryError(f"cyconv: no {nbytes} bytes for an array of shape {shape}")
        memory_lent(memory.data, nbytes, memory.nbytes)
        block.data, block.nbytes, block.pooled = memory.data, memory.nbytes, True
        stagger = (stagger + 5 * 64) % STAGGER
        data = <char*>block.data + stagger
    else:
        block = Workspace.__new__(Workspace)
        block.data = aligned(max(nbytes, 64), 64)
        if block.data == NULL:
            raise MemoryError(f"cyconv: no {nbytes} bytes for an array of shape {shape}")
        block.nbytes = nbytes
        memory_lent(block.data, nbytes, max(nbytes, 64))
        data = <char*>block.data
    cdef cnp.ndarray result = cnp.PyArray_SimpleNewFromData(ndim, dims, typenum, data)
    cnp.set_array_base(result, block)
    return result


def empty_last(tuple shape, str dtype):
    """Return a new (N, C, *spatial) array in channels-last memory; otherwise as ``empty``."""
    cdef cnp.ndarray result = empty(shape, dtype)
    cdef cnp.npy_intp* strides = cnp.PyArray_STRIDES(result)
    cdef cnp.npy_intp step = cnp.PyArray_ITEMSIZE(result)
    cdef int i, axis, ndim = cnp.PyArray_NDIM(result)
    for i in range(ndim):
        axis = 1 if i == 0 else 0 if i == ndim - 1 else ndim - i
        strides[axis] = step
        step *= max(cnp.PyArray_DIM(result, axis), 1)
    cnp.PyArray_UpdateFlags(result, cnp.NPY_ARRAY_C_CONTIGUOUS | cnp.NPY_ARRAY_F_CONTIGUOUS)
    return result


def is_channels_last(cnp.ndarray x):
    """Whether (N, C, *spatial) ``x`` lies in memory as (N, *spatial, C), and not also as a C-contiguous array."""
    cdef int i, axis, ndim = cnp.PyArray_NDIM(x)
    cdef cnp.npy_intp step = cnp.PyArray_ITEMSIZE(x)
    if ndim < 3 or cnp.PyArray_IS_C_CONTIGUOUS(x):
        return False
    for i in range(ndim):
        axis = 1 if i == 0 else 0 if i == ndim - 1 else ndim - i
        # The step along an axis of one place means nothing.
        if cnp.PyArray_DIM(x, axis) != 1 and cnp.PyArray_STRIDE(x, axis) != step:
            return False
        step *= cnp.PyArray_DIM(x, axis)
    return True


def release_kept():
    """Give the pool's memory back to the system; returns the number of bytes."""
    global kept_total
    cdef void* data
    cdef Py_ssize_t total = 0
    cdef int i
    for i in range(SLOTS):
        lock_take()
        data = kept[i]
        if data != NULL:
            total += kept_bytes[i]
            kept_total -= kept_bytes[i]
            kept[i] = NULL
        lock_give()
        discard(data)
    return total


def fail_allocation(Py_ssize_t n, bint lasting=False):
    """Let the ``n``-th allocation from here fail, for tests; 0: none. ``lasting``: and all that follow it.

    The kernels' tables, workspaces and results are allocations; what the pool has at hand is none. Returns how many
    were left until the one that was to fail: 0 after it has.
    """
    return memory_fail(n, lasting)


def live_blocks():
    """Return the number of blocks of memory that kernels, their results and the pool hold at present."""
    return memory_counted()
