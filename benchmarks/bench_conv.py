"""asv: convolution, forward and backward, per algorithm, on layers of real networks."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from . import machine, oracle
from .layers import CALL, by_label
from .peers import ConvData
from .peers import cyconv as peer

ALGORITHMS = ("auto", "direct", "im2col")
LAYERS = (
    "resnet 64 56 b1",
    "resnet 256 14 b1",
    "resnet 512 7 b16",
    "vgg 256 56 b1",
    "cifar 16 32 b16",
    "alexnet c2 b1",
    "res2c b1",
    "r50 3b s2 b1",
    "drn d2 b1",
    "lenet c1 b64",
    "lenet c2 b64",
    "resnet c1 b1",
    "dw3 128 56 b1",
    "g32x4 56 b1",
)
THREADS = min(2, len(machine.usable_cpus()))


@functools.cache
def _expected(label: str, direction: str, dtype: str) -> tuple[np.ndarray, ...]:
    layer, data = by_label(label), ConvData.random(by_label(label), dtype)
    if direction == "forward":
        return (oracle.forward(layer, data.x, data.w, data.b),)
    return oracle.backward(layer, data.dy, data.x, data.w)


def prepared(label: str, direction: str, algorithm: str, dtype: str = "float32") -> Callable[[], Any]:
    """A call that does this work once."""
    layer = by_label(label)
    make = functools.partial(getattr(peer, direction), algorithm=algorithm)
    run: Callable[[], Any] = make(layer, ConvData.random(layer, dtype), THREADS)["cyconv"].run
    return run


def checked(label: str, direction: str, algorithm: str, dtype: str = "float32") -> Callable[[], Any]:
    """The same, its answer compared with float64 first."""
    run = prepared(label, direction, algorithm, dtype)
    got = run()
    got = got if isinstance(got, tuple) else (got,)
    error = max(map(oracle.relative_error, got, _expected(label, direction, dtype)))
    if not error <= (2e-5 if dtype == "float32" else 1e-12):
        raise AssertionError(f"{label}, {direction}, {algorithm}: error {error:.1e} against float64")
    return run


class _Suite:
    """Time, and share of the FMA peak, with two threads where there are two cores."""

    params: tuple[tuple[str, ...], ...] = (LAYERS, ALGORITHMS)
    param_names = ("layer", "algorithm")
    direction = "forward"
    dtype = "float32"

    def setup(self, layer: str, algorithm: str) -> None:
        peer.load().set_num_threads(THREADS)
        self.run = checked(layer, self.direction, algorithm, self.dtype)

    def time_call(self, layer: str, algorithm: str) -> None:
        self.run()

    def track_fma_share(self, layer: str, algorithm: str) -> float:
        """Direct-convolution FLOPs over time, in per cent of the peak: best of some calls over half a second."""
        best, stop = float("inf"), time.perf_counter() + 0.5
        while (start := time.perf_counter()) < stop:
            self.run()
            best = min(best, time.perf_counter() - start)
        flops = by_label(layer).flops * (1 if self.direction == "forward" else 2)
        return 100 * flops / best / machine.fma_peak(THREADS, self.dtype)[0]

    track_fma_share.unit = "% of FMA peak"  # type: ignore[attr-defined]


class Forward(_Suite):
    """A layer in eval mode."""


class Backward(_Suite):
    """Gradients for input, weight and bias."""

    direction = "backward"


class ForwardFloat64(_Suite):
    """A layer in eval mode, double precision."""

    params = (("resnet 64 56 b1", "res2c b1"), ALGORITHMS)
    dtype = "float64"


class Memory:
    """Peak memory of the process; nothing but the layer and its arrays is made before."""

    params = (("resnet 256 14 b1", "vgg 256 56 b1", "resnet 512 7 b16"), ALGORITHMS)
    param_names = ("layer", "algorithm")

    def setup(self, layer: str, algorithm: str) -> None:
        peer.load().set_num_threads(THREADS)

    def peakmem_forward(self, layer: str, algorithm: str) -> None:
        prepared(layer, "forward", algorithm)()

    def peakmem_backward(self, layer: str, algorithm: str) -> None:
        prepared(layer, "backward", algorithm)()


class Overhead:
    """A layer so small that the call is what costs; its kernel with nothing around it; and the difference."""

    def setup(self) -> None:
        peer.load().set_num_threads(THREADS)
        data = ConvData.random(CALL, "float32")
        contenders = peer.forward(CALL, data, THREADS) | peer.kernel_alone(CALL, data, THREADS)
        want = oracle.forward(CALL, data.x, data.w, data.b)
        for contender in contenders.values():
            error = oracle.relative_error(contender.answer()[0], want)
            if not error <= 1e-5:
                raise AssertionError(f"{CALL.label}: error {error:.1e} against float64")
        self.layer, self.kernel = contenders["cyconv"].run, contenders["cyconv-kernel"].run

    def time_small_layer(self) -> None:
        self.layer()

    def time_kernel_alone(self) -> None:
        self.kernel()

    def track_python_overhead(self) -> float:
        """Microseconds, least of many turns of each."""
        best = [float("inf")] * 2
        stop = time.perf_counter() + 0.3
        while time.perf_counter() < stop:
            for i, run in enumerate((self.layer, self.kernel)):
                start = time.perf_counter()
                for _ in range(100):
                    run()
                best[i] = min(best[i], (time.perf_counter() - start) / 100)
        return 1e6 * (best[0] - best[1])

    track_python_overhead.unit = "us"  # type: ignore[attr-defined]
