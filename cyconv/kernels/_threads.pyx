"""The OpenMP runtime that the kernels were linked with, if any, and its team of threads."""

from cython.parallel cimport parallel, threadid

cdef extern from "team.h" nogil:
    ctypedef struct team_meeting:
        int moved

    int team_due(int threads, double work) noexcept
    int team_beside(int left, int threads, double work) noexcept
    int team_size(int threads, double work) noexcept
    bint team_first(team_meeting* m) noexcept
    void team_meet(team_meeting* m, int rank, int threads) noexcept
    void team_met(const team_meeting* m) noexcept

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


cdef int gathered(int threads) noexcept nogil:
    """Wake the calling thread's team, each thread on a processor of its own (see team.h).

    Returns the number of threads that had to move.
    """
    cdef team_meeting meeting
    team_first(&meeting)
    with parallel(num_threads=threads):
        # As many as the runtime gave: inside of a region of the caller's it is this one thread, who need not wait.
        team_meet(&meeting, threadid(), CYCONV_TEAM())
    team_met(&meeting)
    return meeting.moved


cdef int meet(int threads, double work) noexcept nogil:
    """Return how many of the threads to use for so many operations, awake.

    They are fewer where threads of other libraries keep processors busy.
    """
    cdef int due = team_due(threads, work)
    if due > 0:
        gathered(due)
    return team_size(threads, work)


def team(int threads, double work):
    """The same for Python."""
    with nogil:
        threads = meet(threads, work)
    return threads


def beside(int left, int threads, double work):
    """Return how many of the threads to use where those of other libraries leave so many processors (0: all)."""
    return team_beside(left, threads, work)


def gather(int threads):
    """Wake the calling thread's team if it may sleep, and return the number of threads that had to move."""
    cdef int due, moved = 0
    with nogil:
        due = team_due(threads, 0)
        if due > 0:
            moved = gathered(due)
    return moved
