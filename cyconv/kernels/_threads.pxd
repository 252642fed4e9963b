cdef int meet(int threads) noexcept nogil
