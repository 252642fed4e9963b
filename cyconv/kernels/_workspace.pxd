cdef class Workspace:
    cdef void* data
    cdef Py_ssize_t nbytes
    cdef bint pooled  # goes back to the pool


cdef Workspace take(Py_ssize_t nbytes)
