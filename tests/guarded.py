"""Arrays beside a page that nobody may touch: one byte too far, read or written, ends the process."""

from __future__ import annotations

import ctypes
import mmap
from types import SimpleNamespace
from typing import Any

import numpy as np
from conv_cases import DTYPES, ORDERS, awkward, memory_order, suits

from cyconv import _settings
from cyconv import functional as F
from cyconv.functional import _conv_direct, _conv_im2col, _linear

_NO_ACCESS = 0  # PROT_NONE
_libc = ctypes.CDLL(None, use_errno=True)


def empty(shape: tuple[int, ...], dtype: Any, at_end: bool) -> np.ndarray:
    """Return a C-contiguous array that ends (or begins) where a protected page begins (or ends)."""
    dtype, page = np.dtype(dtype), mmap.PAGESIZE
    nbytes = int(np.prod(shape)) * dtype.itemsize
    room = -(-max(nbytes, 1) // page) * page
    memory = mmap.mmap(-1, room + 2 * page)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for guard in (address, address + page + room):
        if _libc.mprotect(ctypes.c_void_p(guard), ctypes.c_size_t(page), _NO_ACCESS):
            raise OSError(ctypes.get_errno(), "mprotect")
    start = page + room - nbytes if at_end else page
    return np.ndarray(shape, dtype, buffer=memory, offset=start)


def copy(x: np.ndarray, at_end: bool) -> np.ndarray:
    """Return a copy of ``x`` in protected memory, in its memory order."""
    if x.ndim > 2 and memory_order(x) == "channels-last":
        return np.moveaxis(copy(np.moveaxis(x, -3, -1), at_end), -1, -3)
    result = empty(x.shape, x.dtype, at_end)
    result[...] = x
    return result


def protect_results(at_end: bool) -> None:
    """Let every result of convolutions and products be protected too."""

    def of_order(shape: tuple[int, ...], dtype: Any, last: bool = False) -> np.ndarray:
        if not last:
            return empty(shape, dtype, at_end)
        return np.moveaxis(empty((shape[0], *shape[2:], shape[1]), dtype, at_end), -1, 1)

    def plain(shape: Any, dtype: Any) -> np.ndarray:
        return empty(shape if isinstance(shape, tuple) else (shape,), dtype, at_end)

    for module in (_conv_direct, _conv_im2col, _linear):
        module.np = SimpleNamespace(**{**vars(np), "empty": plain})  # type: ignore[attr-defined]
        if hasattr(module, "empty"):
            module.empty = of_order  # type: ignore[attr-defined]


def convolutions(algorithm: str, at_end: bool) -> None:
    """Run all awkward cases forward and backward."""
    for dtype in DTYPES:
        for name, case in awkward(dtype).items():
            for order in (order for order in ORDERS if suits(case, algorithm, order)):
                print(name, case, dtype, order, flush=True)
                x, weight, bias, grad = (v if v is None else copy(v, at_end) for v in case.arrays(dtype, order))
                F.conv2d(x, weight, bias, *case.how, algorithm=algorithm)
                F.conv2d_backward(grad, x, weight, bias, *case.how, algorithm=algorithm)


def products(at_end: bool) -> None:
    """Run fully connected layers of all small sizes, and of some that are cut."""
    sizes = [(n, c, k) for n in (0, 1, 2, 7, 15) for c in (1, 3, 16, 17) for k in (1, 2, 15, 16, 17, 33)]
    for dtype in DTYPES:
        for n, c, k in [*sizes, (60, 1030, 5), (113, 5, 70), (3, 2049, 40)]:
            print("linear", n, c, k, dtype, flush=True)
            x, weight, bias, grad = (copy(np.ones(shape, dtype), at_end) for shape in ((n, c), (k, c), (k,), (n, k)))
            F.linear(x, weight, bias)
            F.linear_backward(grad, x, weight, bias)


def run(what: str, at_end: bool) -> None:
    """Print each case before it runs, and "done"."""
    _settings.SERIAL_WORK = 0
    protect_results(at_end)
    products(at_end) if what == "linear" else convolutions(what, at_end)
    print("done")
