"""The OpenMP runtime that the kernels were linked with, if any."""

cdef extern from *:
    """
    #ifdef _OPENMP
    #include <omp.h>
    #define CYCONV_OPENMP _OPENMP
    #else
    #define CYCONV_OPENMP 0
    #endif
    #if defined(__clang__)
    #define CYCONV_FORK_SAFE 1 /* libomp makes a new pool in the child */
    #else
    #define CYCONV_FORK_SAFE 0 /* libgomp's pool is lost in the child: a parallel region would wait for it for ever */
    #endif
    """
    int CYCONV_OPENMP
    int CYCONV_FORK_SAFE
    const char* __VERSION__

OPENMP = CYCONV_OPENMP
FORK_SAFE = bool(CYCONV_FORK_SAFE)
COMPILER = __VERSION__.decode()
