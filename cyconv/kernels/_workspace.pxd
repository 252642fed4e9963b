cdef class Workspace:
    cdef void* data
    cdef Py_ssize_t nbytes


cdef Workspace take(Py_ssize_t nbytes)
