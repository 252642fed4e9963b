"""Tasks shared out among threads: see shares.h."""

cdef extern from "shares.h" nogil:
    ctypedef struct Share:
        pass
    void share_out(Share* shares, Py_ssize_t tasks, int threads, bint in_turn) noexcept
    Py_ssize_t next_task(Share* shares, int threads, int own) noexcept
    Py_ssize_t likely_task(const Share* shares, int own) noexcept
