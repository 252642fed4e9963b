"""What this machine can do at best: the yardsticks of the benchmarks."""

from cython.parallel cimport prange
from libc.string cimport memcpy

cimport numpy as cnp

from cyconv.kernels.simd cimport CYCONV_TILE_PIXELS, LANES_f32, LANES_f64, burn_f32, burn_f64

cnp.import_array()

VECTOR_BYTES = 4 * LANES_f32


def multiply_add(str dtype, Py_ssize_t rounds, int threads):
    """Run multiply-adds on registers in every thread; returns the number of floating-point operations."""
    cdef Py_ssize_t chains = 24 if CYCONV_TILE_PIXELS == 14 else 12
    cdef Py_ssize_t _round
    cdef double total = 0
    cdef bint single = dtype == "f"
    with nogil:
        for _round in prange(threads, schedule="static", num_threads=threads):
            if single:
                total += burn_f32(rounds, 0.5)
            else:
                total += burn_f64(rounds, 0.5)
    if total < 0:
        raise ArithmeticError("sums of positive numbers are positive")
    return 2 * threads * rounds * chains * (LANES_f32 if single else LANES_f64)


def copy(cnp.ndarray to, cnp.ndarray source, int threads):
    """Copy bytes of ``source`` to ``to`` in ``threads`` equal parts."""
    cdef Py_ssize_t part = cnp.PyArray_NBYTES(source) // threads, i
    cdef char* a = <char*>cnp.PyArray_DATA(to)
    cdef char* b = <char*>cnp.PyArray_DATA(source)
    with nogil:
        for i in prange(threads, schedule="static", num_threads=threads):
            memcpy(a + i * part, b + i * part, part)
