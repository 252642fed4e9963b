cdef struct Block:
    void* data
    Py_ssize_t nbytes


cdef class Workspace:
    cdef void* data
    cdef Py_ssize_t nbytes
    cdef bint pooled  # goes back to the pool


cdef Workspace take(Py_ssize_t nbytes)

# The same without the interpreter's lock, and without an object that gives the block back.
cdef int borrow(Block* block, Py_ssize_t nbytes) noexcept nogil
cdef void give(Block* block) noexcept nogil

# Memory of a size that stays: tables. NULL where there is none to be had; never from the pool.
cdef void* zeroed(size_t n, size_t size) noexcept nogil
cdef void discard(void* data) noexcept nogil
