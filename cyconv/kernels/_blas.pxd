"""Products of matrices by SciPy's BLAS, and the hold on its threads while ours run."""

from scipy.linalg.cython_blas cimport dgemm, sgemm

from cyconv.kernels.simd cimport real

cdef bint controlled
cdef void hold() noexcept nogil
cdef void release() noexcept nogil
cdef int mute() noexcept nogil
cdef void unmute(int before) noexcept nogil


cdef inline void gemm(char turn_a, char turn_b, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, const real* a,
                      Py_ssize_t lda, const real* b, Py_ssize_t ldb, real beta, real* c,
                      Py_ssize_t ldc) noexcept nogil:
    """c = a b + beta c in BLAS's terms: columns are contiguous, "T" turns an operand; sizes must fit into an int."""
    cdef int im = <int>m, in_ = <int>n, ik = <int>k, ia = <int>lda, ib = <int>ldb, ic = <int>ldc
    cdef real alpha = 1
    if real is float:
        sgemm(&turn_a, &turn_b, &im, &in_, &ik, &alpha, <float*>a, &ia, <float*>b, &ib, &beta, c, &ic)
    else:
        dgemm(&turn_a, &turn_b, &im, &in_, &ik, &alpha, <double*>a, &ia, <double*>b, &ib, &beta, c, &ic)
