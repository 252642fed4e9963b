"""The OpenMP runtime that the kernels were linked with, if any, and its team of threads."""

from cython.parallel cimport parallel, threadid

cdef extern from "team.h" nogil:
    ctypedef struct team_meeting:
        int moved

    bint team_slept() noexcept
    bint team_first(team_meeting* m) noexcept
    void team_meet(team_meeting* m, int rank, int threads) noexcept

cdef extern from *:
    """
    #ifdef _OPENMP
    #include <omp.h>
    #define CYCONV_OPENMP _OPENMP
    #define CYCONV_TEAM() omp_get_num_threads()
    #else
    #define CYCONV_OPENMP 0
    #define CYCONV_TEAM() 1
    #endif
    #if defined(__clang__)
    #define CYCONV_FORK_SAFE 1 /* libomp makes a new pool in the child */
    #else
    #define CYCONV_FORK_SAFE 0 /* libgomp's pool is lost in the child: a parallel region would wait for it for ever */
    #endif
    """
    int CYCONV_OPENMP
    int CYCONV_FORK_SAFE
    int CYCONV_TEAM() nogil noexcept
    const char* __VERSION__

OPENMP = CYCONV_OPENMP
FORK_SAFE = bool(CYCONV_FORK_SAFE)
COMPILER = __VERSION__.decode()


cdef int meet(int threads) noexcept nogil:
    """Wake the calling thread's team if it may sleep, each thread on a processor of its own (see team.h).

    Returns the number of threads that had to move.
    """
    cdef team_meeting meeting
    if not team_slept():
        return 0
    team_first(&meeting)
    with parallel(num_threads=threads):
        # As many as the runtime gave: inside of a region of the caller's it is this one thread, who need not wait.
        team_meet(&meeting, threadid(), CYCONV_TEAM())
    return meeting.moved


def gather(int threads):
    """The same for Python."""
    cdef int moved
    with nogil:
        moved = meet(threads)
    return moved
