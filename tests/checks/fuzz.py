"""Calls of ``cyconv.functional`` made of bytes: each computes what the oracle computes, or is refused by name.

    python tests/checks/fuzz.py --calls 100000             bytes from a generator (--seed)
    python tests/checks/fuzz.py --calls 100000 --guided    bytes from atheris, which looks for new paths in cyconv
    python tests/checks/fuzz.py --replay                   the corpus beside this file (as the tests do)

The guided run begins with the corpus and writes it anew, with what found new paths. A failure prints its bytes in
hexadecimal: ``--replay HEX`` repeats it. Each run ends with how many calls were computed, how many of these were
compared with the oracle, and how many were refused.
"""

from __future__ import annotations

import argparse
import mmap
import os
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

CORPUS = Path(__file__).with_name("corpus.txt")
#: A value where a number is expected, now and then.
HOSTILE: tuple[Any, ...] = (-1, 0, 1.5, 2**31, 2**32, 2**55, 2**63, -(2**63), None, "x", True, (), (1, 2, 3, 4), [[1]])
HOSTILE += (float("nan"), float("inf"), 1j, object())
SMALL = 60_000  # elements up to which the oracle, which is slow, has its say


class Bytes:
    """Choices made of bytes; when they are used up, the first of each choice is made."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def below(self, n: int) -> int:
        if self._at >= len(self._data):
            return 0
        self._at += 1
        return self._data[self._at - 1] % n

    def length(self, usual: int) -> int:
        """Return a length, or a number of channels: 1 to ``usual``, or in one of eight cases up to 64 more.

        Walks along a row differ by where vectors, strips, windows and their ends meet; algorithms by the channels.
        """
        choice = self.below(256)
        return 1 + choice % usual if choice < 224 else usual + 2 * (choice - 223)

    def of(self, *choices: Any) -> Any:
        return choices[self.below(len(choices))]

    def number(self, low: int, high: int) -> Any:
        """Return an int from low to high, or in one of 64 cases something else."""
        if self.below(64) == 63:
            return self.of(*HOSTILE)
        return low + self.below(high - low + 1)

    def numbers(self, rank: int, low: int, high: int) -> Any:
        """Return one number, or one for each axis."""
        return self.number(low, high) if self.below(2) else tuple(self.number(low, high) for _ in range(rank))

    def array(self, shape: Sequence[int], dtype: Any, positive: bool = False) -> np.ndarray:
        """Return values in one of several memory orders; in one of 64 cases another dtype, rank or axis."""
        odd = self.below(64)
        if odd == 63:
            return self.of(np.ones(shape, np.int32), np.ones((1, *shape), dtype), np.ones((0, *shape[1:]), dtype), None)
        rng = np.random.default_rng(self.below(256))
        x = rng.random(shape) + 0.1 if positive else rng.standard_normal(shape)
        order, x = self.below(6), x.astype(dtype)
        if order == 1 and x.ndim > 2:
            return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
        if order == 2:
            return np.asfortranarray(x)
        if order == 3 and x.ndim:
            return np.repeat(x, 2, 0)[::2]
        if order == 4 and x.ndim:
            return np.ascontiguousarray(x[..., ::-1])[..., ::-1]
        return x


def _images(b: Bytes, rank: int, dtype: Any, channels: int) -> np.ndarray:
    usual = (40, 14, 7)[rank - 1]
    space = [b.length(usual) for _ in range(rank)]
    longest = space.index(max(space))  # one axis alone is long: results are to stay small enough to be compared
    space = [n if i == longest else (n - 1) % usual + 1 for i, n in enumerate(space)]
    return b.array([*([b.below(4)] if b.below(8) else []), channels, *space], dtype)


def _padding(b: Bytes, rank: int, largest: int) -> Any:
    kind = b.below(8)
    if kind < 3:
        return b.of("same", "same_lower", "valid")
    if kind == 3:
        return tuple((b.number(0, largest), b.number(0, largest)) for _ in range(rank))
    return b.numbers(rank, 0, largest)


def convolution(b: Bytes, dtype: Any) -> tuple[str, dict[str, Any]]:
    rank, transposed, groups = 1 + b.below(3), b.below(2), b.of(1, 1, 2, 3, 4)
    c, k = groups * b.length(9), groups * b.length(20)
    kernel = [1 + b.below(5) for _ in range(rank)]
    how = {"stride": b.numbers(rank, 1, 3), "padding": _padding(b, rank, 3), "dilation": b.numbers(rank, 1, 3)}
    how |= {"groups": groups if b.below(32) else b.number(1, 4)}
    how |= {"padding_mode": b.of("zeros", "zeros", "reflect", "replicate", "circular")}
    how |= {"algorithm": b.of("auto", "direct", "im2col", "winograd_f2", "winograd_f4", "depthwise")}
    shape = (c, k // groups, *kernel) if transposed else (k, c // groups, *kernel)
    arrays = {"input": _images(b, rank, dtype, c), "weight": b.array(shape, dtype)}
    arrays["bias"] = b.array((k,), dtype) if b.below(2) else None
    if transposed:
        how["output_padding"] = b.numbers(rank, 0, 2)
    return f"conv{'_transpose' if transposed else ''}{rank}d", arrays | how


def pooling(b: Bytes, dtype: Any) -> tuple[str, dict[str, Any]]:
    rank = 1 + b.below(3)
    x = _images(b, rank, dtype, 1 + b.below(20))
    kind = b.of("max_pool", "avg_pool", "lp_pool", "adaptive_avg_pool", "adaptive_max_pool", "global_avg_pool")
    if kind.startswith("adaptive"):
        return f"{kind}{rank}d", {"input": x, "output_size": b.numbers(rank, 1, 9)}
    if kind.startswith("global"):
        return f"{kind}{rank}d", {"input": x}
    how = {"kernel_size": b.numbers(rank, 1, 4), "stride": b.of(None, b.numbers(rank, 1, 4))}
    how |= {"padding": _padding(b, rank, 2), "dilation": b.numbers(rank, 1, 2), "ceil_mode": bool(b.below(2))}
    if kind == "avg_pool":
        how |= {"count_include_pad": bool(b.below(2)), "divisor_override": b.of(None, None, b.number(1, 5))}
    if kind == "lp_pool":
        how["norm_type"] = b.of(1.0, 2.0, 3.0)
        x = np.abs(x) + 1 if x is not None else x  # powers of negative numbers are a matter of taste
    return f"{kind}{rank}d", {"input": x, **how}


def windows(b: Bytes, dtype: Any) -> tuple[str, dict[str, Any]]:
    rank = 1 + b.below(3)
    x = _images(b, rank, dtype, 1 + b.below(6))
    how = {"kernel_size": tuple(b.number(1, 3) for _ in range(rank)), "dilation": b.numbers(rank, 1, 2)}
    return "unfold", {"input": x, **how, "padding": b.numbers(rank, 0, 2), "stride": b.numbers(rank, 1, 3)}


def padding(b: Bytes, dtype: Any) -> tuple[str, dict[str, Any]]:
    rank = 1 + b.below(3)
    widths = tuple(b.number(-2, 3) for _ in range(2 * rank))
    return "pad", {"input": _images(b, rank, dtype, 1 + b.below(6)), "pad": widths} | {
        "mode": b.of("constant", "reflect", "replicate", "circular")
    }


def resizing(b: Bytes, dtype: Any) -> tuple[str, dict[str, Any]]:
    rank = 1 + b.below(3)
    mode = b.of("nearest", "area", "nearest-exact", ("linear", "bilinear", "trilinear")[rank - 1], "bicubic")
    x = b.array([1 + b.below(2), 1 + b.below(20), *(1 + b.below(9) for _ in range(rank - 1)), b.length(9)], dtype)
    how: dict[str, Any] = {"size": b.numbers(rank, 1, 12)} if b.below(2) else {"scale_factor": b.of(0.5, 1.3, 2, 3.7)}
    how["align_corners"] = b.of(True, False) if mode[-6:] in ("linear", "bicubic"[-6:]) else None
    return "interpolate", {"input": x, "mode": mode, **how}


def normalisation(b: Bytes, dtype: Any) -> tuple[str, dict[str, Any]]:
    rank, groups = 1 + b.below(2), 1 + b.below(3)
    channels = groups * (1 + b.below(9))
    x = b.array([2 + b.below(4), channels, *(2 + b.below(6) for _ in range(rank))], dtype)
    if x is not None:  # values apart: those of sets with next to no variance lose digits in any implementation
        x = x / 4 + 3 * sum(np.arange(n, dtype=x.dtype).reshape(-1, *(1,) * i) for i, n in enumerate(x.shape[::-1]))
    kind = b.of("batch_norm", "group_norm", "instance_norm", "layer_norm", "local_response_norm")
    if kind == "local_response_norm":
        return kind, {"input": x, "size": b.number(1, 5)}
    if kind == "layer_norm":
        shape = x.shape[-1 - b.below(2) :] if x is not None else (3,)
        return kind, {"input": x, "normalized_shape": shape, "weight": b.array(shape, dtype)}
    of_channels = {"weight": b.array((channels,), dtype), "bias": b.array((channels,), dtype)}
    if kind == "group_norm":
        return kind, {"input": x, "num_groups": b.of(groups, b.number(1, 4)), **of_channels}
    switch = {"training": True} if kind == "batch_norm" else {"use_input_stats": True}
    return kind, {"input": x, "running_mean": None, "running_var": None, **of_channels, **switch}


def pointwise(b: Bytes, dtype: Any) -> tuple[str, dict[str, Any]]:
    x = b.array([b.below(5) for _ in range(b.below(5))], dtype)
    kind = b.of("relu", "relu6", "leaky_relu", "elu", "selu", "gelu", "silu", "mish", "hardswish", "hardsigmoid")
    kind = b.of(kind, "hardtanh", "softplus", "softsign", "sigmoid", "tanh", "softmax", "log_softmax", "flatten")
    return kind, {"input": x} | ({"dim": b.number(-3, 2)} if "softmax" in kind else {})


def dense(b: Bytes, dtype: Any) -> tuple[str, dict[str, Any]]:
    features, outputs = 1 + b.below(40), 1 + b.below(40)
    x = b.array([*(b.below(9) for _ in range(b.below(3))), features], dtype)
    bias = b.array((outputs,), dtype) if b.below(2) else None
    return "linear", {"input": x, "weight": b.array((outputs, features), dtype), "bias": bias}


def loss(b: Bytes, dtype: Any) -> tuple[str, dict[str, Any]]:
    n, classes, space = 1 + b.below(5), 1 + b.below(9), [1 + b.below(4) for _ in range(b.below(3))]
    reduction = b.of("mean", "sum", "none")
    x = b.array([n, classes, *space], dtype)
    if b.below(2):
        other = b.array([n, classes, *space], dtype)
        return b.of("mse_loss", "l1_loss", "huber_loss", "smooth_l1_loss"), {
            "input": x, "target": other, "reduction": reduction,
        }  # fmt: skip
    target = np.random.default_rng(b.below(256)).integers(0, classes + (b.below(16) == 15), (n, *space))
    weight = b.array((classes,), dtype, positive=True) if b.below(2) else None
    return "cross_entropy", {"input": x, "target": target, "weight": weight, "reduction": reduction} | {
        "label_smoothing": b.of(0.0, 0.1)
    }


FAMILIES: tuple[Callable[[Bytes, Any], tuple[str, dict[str, Any]]], ...] = (
    convolution, convolution, convolution, pooling, pooling, windows, padding, resizing, normalisation, pointwise,
    dense, loss,
)  # fmt: skip
ARRAYS = ("input", "weight", "bias")
ENDINGS = ("computed", "compared", "refused")
counts: Counter[str] = Counter()


def run(data: bytes) -> None:
    """Make one call, and its backward pass, of bytes; AssertionError if either is wrong."""
    from tolerances import tolerance

    from cyconv import functional as F
    from cyconv import reference

    b = Bytes(data)
    dtype = b.of(np.float32, np.float64)
    name, arguments = b.of(*FAMILIES)(b, dtype)
    try:
        result = getattr(F, name)(**arguments)
    except (ValueError, TypeError, MemoryError) as error:
        if not str(error).startswith((f"{name}: ", "cyconv: no ", "Unable to allocate")):
            raise AssertionError(f"{name} is refused without its name: {error!r}") from error
        counts["refused"] += 1
        return
    counts["computed"] += 1
    gradient = np.random.default_rng(1).standard_normal(result.shape).astype(result.dtype)
    back = getattr(F, f"{name}_backward")(gradient if result.ndim else dtype(0.5), **arguments)
    if max(result.size, *(np.size(arguments[key]) for key in ARRAYS if arguments.get(key) is not None)) > SMALL:
        return
    counts["compared"] += 1
    plain = {key: value for key, value in arguments.items() if key != "algorithm"}
    largest = {"conv": "winograd_f4", "batc": "normalization", "grou": "normalization", "inst": "normalization"}
    algorithm = largest.get(name[:4], "normalization" if "norm" in name else "direct")
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = getattr(reference, name)(**plain)
        expected_back = getattr(reference, f"{name}_backward")(gradient if result.ndim else dtype(0.5), **plain)
    slack = _rounded_input(name, plain, gradient, [expected, *expected_back]) if algorithm == "normalization" else None
    # Of an operation on a handful of values the largest may be near 0, where their difference is not.
    scale = max((float(np.abs(a[np.isfinite(a)]).max(initial=0)) for a in (expected, gradient)), default=0) + 1e-3
    for i, (what, actual, wanted) in enumerate(_pairs(result, back, expected, expected_back)):
        assert actual.shape == wanted.shape, f"{name}, {what}: shape {actual.shape} instead of {wanted.shape}"
        assert actual.dtype == wanted.dtype, f"{name}, {what}: {actual.dtype} instead of {wanted.dtype}"
        both = np.isfinite(wanted)
        assert (both == np.isfinite(actual)).all(), f"{name}, {what}: infinite in other places"
        error = np.abs(actual[both].astype(float) - wanted[both]).max(initial=0)
        size = max(scale, float(np.abs(wanted[both]).max(initial=0)))
        limit = tolerance(algorithm, dtype) * size + (slack[i] if slack else 0)
        assert error <= limit, f"{name}, {what}: error {error:.3g} of {size:.3g}"


def _rounded_input(
    name: str, arguments: dict[str, Any], gradient: np.ndarray, expected: list[np.ndarray]
) -> list[float]:
    """By how much each result of a normalization differs when its input is rounded up or down to the next number.

    Where a mean is many times the deviation, this is more than the table of tolerances has: no kernel can know the
    input better than its dtype does.
    """
    from cyconv import reference

    x = arguments["input"]
    up = np.random.default_rng(2).integers(0, 2, np.shape(x), dtype=bool)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        moved = {**arguments, "input": np.nextafter(x, np.where(up, np.inf, -np.inf).astype(x.dtype))}
        results = getattr(reference, name)(**moved), *getattr(reference, f"{name}_backward")(gradient, **moved)
        differences = [np.abs(np.subtract(a, b, dtype=float)) for a, b in zip(results, expected, strict=True)]
    return [float(difference[np.isfinite(difference)].max(initial=0)) for difference in differences]


def _pairs(result: Any, back: Any, expected: Any, expected_back: Any) -> Iterable[tuple[str, np.ndarray, np.ndarray]]:
    yield "output", np.asarray(result), np.asarray(expected)
    for i, pair in enumerate(zip(back, expected_back, strict=True)):
        yield f"gradient {i}", *map(np.asarray, pair)


def corpus() -> list[bytes]:
    return [bytes.fromhex(line) for line in CORPUS.read_text().split()] if CORPUS.is_file() else []


def run_or_show(data: bytes) -> None:
    """Run, and print the bytes where that fails."""
    try:
        run(data)
    except BaseException:
        print(f"failed on the bytes {data.hex()}", flush=True)
        raise


def _guided(calls: int) -> int:
    """Let atheris choose the bytes, in a child, which libFuzzer ends in its own way; return the child's status."""
    shared = np.frombuffer(mmap.mmap(-1, 8 * len(ENDINGS)), np.int64)  # what the child counts, the parent prints

    def run_and_count(data: bytes) -> None:
        run_or_show(data)
        shared[:] = [counts[ending] for ending in ENDINGS]

    with tempfile.TemporaryDirectory() as folder:
        known, found = Path(folder, "known"), Path(folder, "found")
        known.mkdir()
        found.mkdir()
        for i, data in enumerate(corpus()):
            (known / str(i)).write_bytes(data)
        child = os.fork()
        if child == 0:
            try:
                folders = [f"-artifact_prefix={folder}/", str(found), str(known)]
                _let_atheris_choose([f"-runs={calls}", "-max_len=96", *folders], run_and_count)
            finally:
                os._exit(1)  # behind an exception: the folder is the parent's to remove
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        everything = {path.read_bytes() for path in found.iterdir()} | set(corpus())
        CORPUS.write_text("".join(f"{data.hex()}\n" for data in sorted(everything) if data))
    counts.update(dict(zip(ENDINGS, shared.tolist(), strict=True)))
    return status


def _let_atheris_choose(arguments: list[str], run_one: Callable[[bytes], None]) -> None:
    import atheris

    with atheris.instrument_imports(include=["cyconv"]):
        import cyconv.functional  # noqa: F401
    atheris.Setup([sys.argv[0], "-rss_limit_mb=4096", *arguments], run_one)
    atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--guided", action="store_true")
    parser.add_argument("--replay", nargs="*", metavar="HEX", help="these bytes, or the whole corpus")
    how = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parents[1]))
    if how.guided:
        status = _guided(how.calls)
        print(dict(counts), flush=True)
        raise SystemExit(status)
    if how.replay is not None:
        for data in [bytes.fromhex(text) for text in how.replay] or corpus():
            run_or_show(data)
    else:
        rng = np.random.default_rng(how.seed)
        for _ in range(how.calls):
            run_or_show(rng.bytes(96))
    print(dict(counts))


if __name__ == "__main__":
    main()
