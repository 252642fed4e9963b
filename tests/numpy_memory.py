"""An allocator for NumPy that fails when it is told to (NEP 49), without compiling anything."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

from numpy._core import _multiarray_umath

_size, _pointer = ctypes.c_size_t, ctypes.c_void_p
_Malloc = ctypes.PYFUNCTYPE(_pointer, _pointer, _size)
_Calloc = ctypes.PYFUNCTYPE(_pointer, _pointer, _size, _size)


class _Handler(ctypes.Structure):
    """NumPy's PyDataMem_Handler."""

    _fields_ = [
        ("name", ctypes.c_char * 127),
        ("version", ctypes.c_uint8),
        ("ctx", _pointer),
        ("malloc", _Malloc),
        ("calloc", _Calloc),
        ("realloc", _pointer),
        ("free", _pointer),
    ]


_KIND = b"mem_handler"  # capsules hold a pointer to their name
_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype, _new_capsule.argtypes = ctypes.py_object, [_pointer, ctypes.c_char_p, _pointer]
_open_capsule = ctypes.pythonapi.PyCapsule_GetPointer
_open_capsule.restype, _open_capsule.argtypes = _pointer, [ctypes.py_object, ctypes.c_char_p]
_interface = ctypes.cast(_open_capsule(_multiarray_umath._ARRAY_API, None), ctypes.POINTER(_pointer))
#: Their places in NumPy's C interface.
_set_handler = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)(_interface[304])
_get_handler = ctypes.PYFUNCTYPE(ctypes.py_object)(_interface[305])
_usual = _Handler.from_address(_open_capsule(_get_handler(), _KIND))

#: How many allocations from here the one is that fails, 0: none; and whether those after it fail, too.
_left, _lasting = 0, False


def _fails() -> bool:
    global _left
    if _left == 0:
        return False
    _left -= 1
    if _left == 0 and _lasting:
        _left = 1
        return True
    return _left == 0


# Arrays free their memory by it, so it stays for as long as the process. NumPy frees while exceptions are on their way,
# which Python code would lose, so it does that by itself.
_handler = _Handler(
    b"failing",
    1,
    None,
    _Malloc(lambda ctx, n: None if _fails() else _usual.malloc(None, n)),
    _Calloc(lambda ctx, n, each: None if _fails() else _usual.calloc(None, n, each)),
    _usual.realloc,
    _usual.free,
)
_capsule = _new_capsule(ctypes.addressof(_handler), _KIND, None)


def fail_allocation(n: int, lasting: bool = False) -> int:
    """Let NumPy's ``n``-th allocation of an array's memory from here fail; return how many were left."""
    global _left, _lasting
    before, _left, _lasting = _left, n, lasting
    return before


@contextmanager
def watched() -> Iterator[None]:
    """Inside, NumPy takes the memory of its arrays here."""
    before = _set_handler(_capsule)
    try:
        yield
    finally:
        fail_allocation(0)
        _set_handler(before)
