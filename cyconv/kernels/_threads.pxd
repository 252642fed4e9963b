cdef int meet(int threads, double work) noexcept nogil
