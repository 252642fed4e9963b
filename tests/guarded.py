"""Arrays beside a page that nobody may touch: one byte too far, read or written, ends the process."""

from __future__ import annotations

import ctypes
import itertools
import mmap
from typing import Any

import numpy as np
import transposed_cases
from conv_cases import DTYPES, MODES, ORDERS, awkward, in_modes, in_order, memory_order, suits, target

from cyconv import _plan, _settings
from cyconv import functional as F
from cyconv.functional import (
    _activation,
    _conv_direct,
    _conv_im2col,
    _conv_winograd,
    _dropout,
    _interpolate,
    _linear,
    _loss,
    _padding,
    _pool,
)

_NO_ACCESS, _READ_ONLY = 0, 1  # PROT_NONE, PROT_READ
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


def constant(x: np.ndarray, at_end: bool) -> np.ndarray:
    """Return the same in pages that nobody may write to: one byte written, even what stood there, ends the process."""
    result = copy(x, at_end)
    first = result.ctypes.data // mmap.PAGESIZE * mmap.PAGESIZE
    nbytes = result.ctypes.data + result.nbytes - first
    if result.nbytes and _libc.mprotect(ctypes.c_void_p(first), ctypes.c_size_t(nbytes), _READ_ONLY):
        raise OSError(ctypes.get_errno(), "mprotect")
    return result


def protect_results(at_end: bool) -> None:
    """Let every result of convolutions and products be protected too."""

    def of_order(shape: tuple[int, ...], dtype: Any, last: bool = False) -> np.ndarray:
        if not last:
            return empty(shape, dtype, at_end)
        return np.moveaxis(empty((shape[0], *shape[2:], shape[1]), dtype, at_end), -1, 1)

    class Numpy:
        """NumPy, but for its two ways to a new array."""

        def __getattr__(self, name: str) -> Any:
            return getattr(np, name)

        def empty(self, shape: Any, dtype: Any) -> np.ndarray:
            return empty(shape if isinstance(shape, tuple) else (shape,), dtype, at_end)

        def empty_like(self, x: np.ndarray, dtype: Any = None) -> np.ndarray:
            return copy(np.empty_like(x, dtype=dtype), at_end)

    for module in (
        _activation,
        _conv_direct,
        _conv_im2col,
        _conv_winograd,
        _dropout,
        _interpolate,
        _linear,
        _loss,
        _pool,
    ):
        module.np = Numpy()  # type: ignore[attr-defined]
        if hasattr(module, "empty"):
            module.empty = of_order  # type: ignore[attr-defined]

    def of_axes(shape: tuple[int, ...], dtype: Any, order: tuple[int, ...]) -> np.ndarray:
        return empty(tuple(shape[axis] for axis in order), dtype, at_end).transpose(np.argsort(order))

    _padding._empty = of_axes


def convolutions(algorithm: str, at_end: bool, cases: Any = awkward) -> None:
    """Run all awkward cases forward and backward, by Winograd the weight gradient too."""
    if algorithm.startswith("winograd"):
        m = int(algorithm[-1])
        _plan.weight_gradient_tile = lambda g, *_: 0 if _plan.winograd_gradient_obstacle(g, m) else m
    for dtype in DTYPES:
        for name, case in cases(dtype).items():
            for order in (order for order in ORDERS if suits(case, algorithm, order)):
                print(name, case, dtype, order, flush=True)
                x, weight, bias, grad = (v if v is None else constant(v, at_end) for v in case.arrays(dtype, order))
                F.conv2d(x, weight, bias, *case.how, algorithm=algorithm)
                F.conv2d_backward(grad, x, weight, bias, *case.how, algorithm=algorithm)


def modes(at_end: bool) -> None:
    """Run all awkward cases with padding that repeats pixels, by each algorithm in turn, and transposed ones."""
    for algorithm in ("direct", "im2col", "depthwise", "winograd_f2", "winograd_f4"):
        convolutions(algorithm, at_end, lambda dtype: in_modes(awkward(dtype)))
    transposed(at_end, transposed_cases.in_modes)


def padding(at_end: bool) -> None:
    """Pad arrays of small sizes."""
    widths = [(1, 2), (2, 1, 1, 0), (-1, 1, 2, -2), (0, 0, 1, 1), (1, 1, 1, 1, 1, 1)]
    for dtype, order, c, size in itertools.product(DTYPES, ORDERS, (2, 3, 17), ((3, 4), (5, 16), (4, 33), (3, 200))):
        x = copy(in_order(np.ones((2, c, *size), dtype), order), at_end)
        for mode, pad in itertools.product(("constant", *MODES), widths):
            print("pad", x.shape, dtype, order, mode, pad, flush=True)
            F.pad_backward(copy(F.pad(x, pad, mode), at_end), x, pad, mode)


def transposed(at_end: bool, table: Any = transposed_cases.table) -> None:
    """Run all transposed convolutions that hurt, forward and backward."""
    for dtype, order in itertools.product(DTYPES, ORDERS):
        for name, (x, weight, how) in table(dtype).items():
            print("transposed", name, dtype, order, flush=True)
            groups, function = how.get("groups", 1), f"conv_transpose{len(weight) - 2}d"
            given = [constant(a, at_end) for a in transposed_cases.arrays(x, weight, groups, True, dtype, order)]
            y = getattr(F, function)(*given, **how)
            getattr(F, f"{function}_backward")(y, *given, **how)


def strided(at_end: bool) -> None:
    """Run transposed convolutions of kernels as large as the stride, and those of 3 taps and stride 2 by Winograd, that
    read constants only."""
    vector = target("float32").lanes
    channels = [(1, 1), (vector - 1, 2 * vector + 1), (vector + 1, vector), (129, 3), (2, 3 * vector + 1)]
    sizes = [(1, 1), (2, 3), (1, vector + 1), (3, vector - 1), (4, 2 * vector), (7, 3 * vector + 1)]
    ways: list[tuple[int, dict[str, Any]]] = [(2, {"stride": 2}), (2, {"stride": 2, "output_padding": 1})]
    ways += [
        (3, {"stride": 2, "padding": padding, "output_padding": 1, "algorithm": algorithm})
        for padding, algorithm in itertools.product((0, 1), ("winograd_f2", "winograd_f4"))
    ]
    for dtype, order, (c, k), size, (edge, how) in itertools.product(DTYPES, ORDERS, channels, sizes, ways):
        x, weight, bias = transposed_cases.arrays((2, c, *size), (c, k, edge, edge), 1, True, dtype, order)
        given = [constant(a, at_end) for a in (x, weight, bias)]
        print("strided", c, k, size, dtype, order, edge, how, flush=True)
        y = F.conv_transpose2d(*given, **how)
        F.conv_transpose2d_backward(constant(y, at_end), *given, **how)


def products(at_end: bool) -> None:
    """Run fully connected layers of all small sizes, and of some that are cut."""
    sizes = [(n, c, k) for n in (0, 1, 2, 7, 15) for c in (1, 3, 16, 17) for k in (1, 2, 15, 16, 17, 33)]
    for dtype in DTYPES:
        for n, c, k in [*sizes, (60, 1030, 5), (113, 5, 70), (3, 2049, 40)]:
            print("linear", n, c, k, dtype, flush=True)
            x, weight, bias, grad = (copy(np.ones(shape, dtype), at_end) for shape in ((n, c), (k, c), (k,), (n, k)))
            F.linear(x, weight, bias)
            F.linear_backward(grad, x, weight, bias)


def windows(at_end: bool) -> None:
    """Run pools over planes around the size of a vector."""
    sizes = [(1, 1), (2, 3), (5, 7), (4, 8), (3, 15), (3, 16), (4, 17), (9, 33), (2, 67)]
    options = [(2, 2, 0), (3, 2, 1), (3, 1, 1), (2, 3, 0), ((1, 3), (1, 2), (0, 1)), (5, 5, 2)]
    for dtype, order, c, size, (kernel, stride, padding) in itertools.product(
        DTYPES, ORDERS, (1, 3, 17), sizes, options
    ):
        x = copy(in_order(np.ones((2, c, *size), dtype), order), at_end)
        for ceil_mode in (False, True):
            print("pool", x.shape, dtype, order, kernel, stride, padding, ceil_mode, flush=True)
            try:
                y, indices = F.max_pool2d(x, kernel, stride, padding, 1, ceil_mode, True)
            except ValueError as error:
                if "does not fit" in str(error):
                    continue
                raise
            F.max_pool2d_backward(
                copy(y, at_end), x, kernel, stride, padding, 1, ceil_mode, indices=copy(indices, at_end)
            )
            F.max_pool2d_backward(copy(y, at_end), x, kernel, stride, padding, 1, ceil_mode)
            F.avg_pool2d_backward(
                copy(F.avg_pool2d(x, kernel, stride, padding, ceil_mode), at_end), x, kernel, stride, padding, ceil_mode
            )


def resizing(at_end: bool) -> None:
    """Interpolate rows around the size of a vector, and pixels of few and of many channels."""
    sizes = [((1, 1), (2, 3)), ((5, 7), (10, 14)), ((3, 16), (6, 32)), ((4, 17), (3, 9)), ((2, 33), (4, 67))]
    sizes += [((2, 67), (2, 33)), ((6, 4), (2, 31)), ((3, 8), (7, 1))]
    modes: list[dict[str, Any]] = [{"mode": mode} for mode in ("nearest", "bilinear", "bicubic", "area")]
    modes.append({"mode": "bilinear", "antialias": True})
    for dtype, order, c, (size, result), mode in itertools.product(DTYPES, ORDERS, (1, 3, 16, 17, 35), sizes, modes):
        x = copy(in_order(np.ones((2, c, *size), dtype), order), at_end)
        print("interpolate", x.shape, dtype, order, result, mode, flush=True)
        y = F.interpolate(x, result, **mode)
        F.interpolate_backward(copy(y, at_end), x, result, **mode)
    for dtype, order, c in itertools.product(DTYPES, ORDERS, (1, 17)):
        x = copy(in_order(np.ones((2, c, 2, 3, 5), dtype), order), at_end)
        print("interpolate", x.shape, dtype, order, flush=True)
        F.interpolate_backward(
            copy(F.interpolate(x, scale_factor=2, mode="trilinear"), at_end), x, None, 2, "trilinear"
        )


def pointwise(at_end: bool) -> None:
    """Run activations, dropout and losses over rows around the size of a vector."""
    for dtype, n in itertools.product(DTYPES, (0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 63, 65)):
        x = copy(np.linspace(-2, 2, 3 * n, dtype=dtype).reshape(3, n), at_end)
        for name in ("relu", "sigmoid", "tanh", "softmax", "log_softmax"):
            print(name, x.shape, dtype, flush=True)
            for dim in (0, 1) if "soft" in name else (None,):
                where = () if dim is None else (dim,)
                y = getattr(F, name)(x, *where)
                getattr(F, f"{name}_backward")(x, x, *where)
                getattr(F, f"{name}_backward")(x, None, *where, output=copy(y, at_end))
        print("dropout, mse_loss", x.shape, dtype, flush=True)
        y, mask = F.dropout(x, 0.5, True, rng=0, return_mask=True)
        F.dropout_backward(x, x, 0.5, True, mask=copy(mask, at_end))
        one = np.ones((), dtype)
        for reduction in ("mean", "sum", "none") if n else ():
            grad = x if reduction == "none" else one
            F.mse_loss(x, x, reduction)
            F.mse_loss_backward(grad, x, x, reduction)
            target = copy(np.arange(3) % n, at_end)
            print("cross_entropy", x.shape, dtype, reduction, flush=True)
            grad = copy(np.ones(3, dtype), at_end) if reduction == "none" else one
            for values in (target, copy(np.full((3, n), 1 / n, dtype), at_end)):
                F.cross_entropy(x, values, None, -100, reduction)
                F.cross_entropy_backward(grad, x, values, None, -100, reduction)
            F.nll_loss(x, target, None, -100, reduction)
            F.nll_loss_backward(grad, x, target, None, -100, reduction)


def run(what: str, at_end: bool) -> None:
    """Print each case before it runs, and "done"."""
    _settings.SERIAL_WORK = 0
    protect_results(at_end)
    others = {
        "linear": products,
        "pooling": windows,
        "pointwise": pointwise,
        "transposed": transposed,
        "strided": strided,
        "resizing": resizing,
    }
    others |= {"modes": modes, "padding": padding}
    others[what](at_end) if what in others else convolutions(what, at_end)
    print("done")
