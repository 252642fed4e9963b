"""Denormal numbers cost no more than others, and what kernels set for that in the processor nobody else notices."""

from __future__ import annotations

import ctypes
import os
import shlex
import shutil
import subprocess
import sysconfig
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from calls import CALLS
from test_foreign_arrays import computed
from timing import assert_ratio, ratio_in_turns

import cyconv
from cyconv import _settings, kernels, optim
from cyconv import functional as F
from cyconv.kernels import _threads

# ------------------------------------------------------------------------------------ the floating-point environment

#: The control registers of the threads of a team, and of the calling thread; x86's without the flags that stick.
PROBE = """
#include <omp.h>
#if defined(__SSE2__)
#include <immintrin.h>
unsigned long get(void) { return _mm_getcsr() & 0xffc0u; }
static void set(unsigned long to) { _mm_setcsr((unsigned int)to); }
#elif defined(__aarch64__)
unsigned long get(void) { unsigned long v; __asm__ __volatile__("mrs %0, fpcr" : "=r"(v)); return v; }
static void set(unsigned long to) { __asm__ __volatile__("msr fpcr, %0" : : "r"(to)); }
#else
#error
#endif
int get_team(int threads, unsigned long *found) {
    int n = 0;
    #pragma omp parallel num_threads(threads) reduction(+:n)
    { found[omp_get_thread_num()] = get(); n += 1; }
    return n;
}
void set_team(int threads, unsigned long to) {
    #pragma omp parallel num_threads(threads)
    set(to);
}
"""
TEAM = 3
#: x86's exception masks; the bits for rounding; those that flush denormals. Of arm64, the same.
MODES = {
    "x86": {"as usual": 0x1F80, "rounding up": 0x5F80, "flushed": 0x9FC0, "to zero, results flushed": 0xFF80},
    "arm": {"as usual": 0, "rounding up": 1 << 22, "flushed": 1 << 24, "to zero, results flushed": 7 << 22},
}["arm" if "aarch64" in sysconfig.get_platform() or "arm64" in sysconfig.get_platform() else "x86"]


@pytest.fixture(scope="module")
def probe(tmp_path_factory):
    """The probe, compiled."""
    words = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    if not words or shutil.which(words[0]) is None or not _threads.OPENMP:
        pytest.skip("needs a C compiler and OpenMP")
    folder = tmp_path_factory.mktemp("probe")
    (folder / "probe.c").write_text(PROBE)
    command = [words[0], "-O1", "-shared", "-fPIC", "-fopenmp", "probe.c", "-o", "probe.so"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"the probe is not compiled: {done.stderr[-300:]}")
    library = ctypes.CDLL(str(folder / "probe.so"))
    library.get.restype = ctypes.c_ulong
    library.set_team.argtypes = [ctypes.c_int, ctypes.c_ulong]
    before = library.get()
    yield library
    library.set_team(TEAM, before)


def team_of(probe: ctypes.CDLL) -> list[int]:
    found = (ctypes.c_ulong * TEAM)()
    assert probe.get_team(TEAM, found) == TEAM
    return list(found)


@pytest.mark.parametrize("mode", MODES)
def test_no_thread_keeps_what_a_kernel_set(probe, monkeypatch, mode):
    """Neither the one that called nor the pool's, which serve other libraries, too: after every operation."""
    monkeypatch.setattr(_settings, "SERIAL_WORK", 0)
    before, wanted = probe.get(), [MODES[mode]] * TEAM
    gradients: dict[int, Any] = {}
    try:
        with cyconv.threads(TEAM):
            for i, call in enumerate(CALLS):
                gradients[i] = computed(call, call.fresh())
            probe.set_team(TEAM, MODES[mode])
            for call in CALLS:
                computed(call, call.fresh())
                found, team = probe.get(), team_of(probe)
                assert (found, team) == (wanted[0], wanted), call.name
    finally:
        probe.set_team(TEAM, before)


def test_the_probe_sees_each_thread_of_the_team(probe):
    """The test above can fail."""
    before = probe.get()
    try:
        probe.set_team(TEAM, MODES["flushed"])
        assert team_of(probe) == [MODES["flushed"]] * TEAM
        probe.set_team(1, before)
        assert team_of(probe)[0] == before
    finally:
        probe.set_team(TEAM, before)


# -------------------------------------------------------------------------------------------------- what denormals cost

#: Denormal in each dtype; and a number whose square is.
TINY = {"float32": (1e-40, 3e-21), "float64": (1e-310, 3e-156)}
ALGORITHMS = ("direct", "im2col", "winograd_f2", "winograd_f4", "depthwise")
#: Of the time of usual numbers: what denormals may cost.
MOST = 1.3


def assert_cheap(tiny: Callable[[], Any], usual: Callable[[], Any]) -> None:
    """Where denormals cost something, they do so always; each call is prepared by one that returns it."""
    tiny()(), usual()()
    assert_ratio(partial(ratio_in_turns, tiny, usual, 15), MOST, "denormals")


@pytest.fixture
def one_thread():
    if kernels.ISA == "generic":
        pytest.skip("no header names the processor: nobody knows how denormals are flushed")
    with cyconv.threads(1):
        yield


def arrays(dtype: str, *shapes: tuple[int, ...]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.uniform(0.5, 1, shape).astype(dtype) * rng.choice([-1, 1], shape).astype(dtype) for shape in shapes]


def tiny_forms(usual: list[np.ndarray], dtype: str) -> dict[str, list[np.ndarray]]:
    """Return the arrays with each of them denormal, then with products that are."""
    small, root = (np.dtype(dtype).type(value) for value in TINY[dtype])
    forms = {f"array {i}": [x * small if i == j else x for j, x in enumerate(usual)] for i in range(len(usual))}
    forms["products"] = [x * root for x in usual]
    for form in forms.values():
        assert all((x != 0).all() for x in form)
    return forms


def check_forms(function: Callable[..., Any], dtype: str, *shapes: tuple[int, ...]) -> None:
    """Time the function on either kind of numbers in the same memory: where an array lies makes a difference, too."""
    usual = arrays(dtype, *shapes)
    held = [x.copy() for x in usual]

    def prepared(values: list[np.ndarray]) -> Callable[[], Any]:
        for array, value in zip(held, values, strict=True):
            array[...] = value
        return lambda: function(*held)

    for form in tiny_forms(usual, dtype).values():
        assert_cheap(partial(prepared, form), partial(prepared, usual))


def test_a_cost_would_be_noticed():
    """NumPy does not flush: there quotients of denormals cost, at least twice as much on the processors known."""
    (x,) = arrays("float32", (40_000,))
    small, number = x * np.float32(1e-40), np.float32(1.5)
    assert (small != 0).all()
    calls = (lambda: lambda: small / number), (lambda: lambda: x / number)
    if min(ratio_in_turns(*calls, 15) for _ in range(12)) < 1.6:
        pytest.skip("denormals cost next to nothing on this processor")
    with pytest.raises(AssertionError, match=r"denormals: .* times as much"):
        assert_cheap(*calls)


def outputs(result: Any) -> list[np.ndarray]:
    return [part for part in (result if isinstance(result, tuple) else (result,)) if part is not None]


@pytest.mark.parametrize("dtype", TINY)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_kernel_takes_denormals_for_zero(one_thread, algorithm, dtype):
    """On any processor, whatever they cost there: sums of denormals, and of products that are denormal, are zero."""
    groups = 24 if algorithm == "depthwise" else 1
    how = {"padding": 1, "groups": groups, "algorithm": algorithm}
    conv = arrays(dtype, (2, 24, 20, 20), (24, 24 // groups, 3, 3), (2, 24, 20, 20))
    dense = arrays(dtype, (64, 200), (150, 200), (64, 150))
    for threads in (1, 2):
        with cyconv.threads(threads):
            for name, (x, w, dy), kind in (("conv2d", conv, how), ("linear", dense, {})):
                forward, backward = getattr(F, name), getattr(F, f"{name}_backward")
                for form in tiny_forms([x, w], dtype).values():
                    assert not forward(*form, **kind).any()
                for form in tiny_forms([dy, x, w], dtype).values():
                    touched = [one is not other for one, other in zip(form, (dy, x, w), strict=True)]
                    zero = [not part.any() for part in outputs(backward(*form, **kind))]
                    assert zero == [touched[0] or touched[2], touched[0] or touched[1]]


@pytest.mark.parametrize("dtype", TINY)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_convolution(one_thread, algorithm, dtype):
    groups = 24 if algorithm == "depthwise" else 1
    how = {"padding": 1, "groups": groups, "algorithm": algorithm}
    x, w, dy = (2, 24, 20, 20), (24, 24 // groups, 3, 3), (2, 24, 20, 20)
    check_forms(lambda x, w: F.conv2d(x, w, **how), dtype, x, w)
    check_forms(lambda dy, x, w: F.conv2d_backward(dy, x, w, **how), dtype, dy, x, w)


@pytest.mark.parametrize("dtype", TINY)
def test_a_strided_and_a_transposed_convolution(one_thread, dtype):
    how = {"stride": 2, "padding": 1}
    check_forms(lambda x, w: F.conv2d(x, w, **how), dtype, (2, 24, 20, 20), (24, 24, 3, 3))
    check_forms(lambda x, w: F.conv_transpose2d(x, w, **how), dtype, (2, 24, 10, 10), (24, 24, 3, 3))
    shapes = (2, 24, 10, 10), (2, 24, 20, 20), (24, 24, 3, 3)
    check_forms(lambda dy, x, w: F.conv2d_backward(dy, x, w, **how), dtype, *shapes)


@pytest.mark.parametrize("dtype", TINY)
def test_linear(one_thread, dtype):
    check_forms(F.linear, dtype, (64, 200), (150, 200))
    check_forms(F.linear_backward, dtype, (64, 150), (64, 200), (150, 200))


@pytest.mark.parametrize("dtype", TINY)
@pytest.mark.parametrize("name", ["max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "global_avg_pool2d"])
def test_pooling(one_thread, name, dtype):
    size = () if name.startswith("global") else (2,)
    of = {"max_pool2d": 20, "avg_pool2d": 20, "adaptive_avg_pool2d": 2}.get(name, 1)
    check_forms(lambda x: getattr(F, name)(x, *size), dtype, (4, 24, 40, 40))
    backward = getattr(F, f"{name}_backward")
    check_forms(lambda dy, x: backward(dy, x, *size), dtype, (4, 24, of, of), (4, 24, 40, 40))


NORMS = {
    "batch_norm": (lambda w, b: (None, None, w, b, True), 24),
    "batch_norm, eval": (lambda w, b: (b * b, w * w + 1, w, b, False), 24),
    "group_norm": (lambda w, b: (4, w, b), 24),
    "instance_norm": (lambda w, b: (None, None, w, b), 24),
    "layer_norm": (lambda w, b: ((20,), w, b), 20),
}


@pytest.mark.parametrize("dtype", TINY)
@pytest.mark.parametrize("name", NORMS)
def test_normalization(one_thread, name, dtype):
    arguments, size = NORMS[name]
    function, backward = getattr(F, name.split(",")[0]), getattr(F, f"{name.split(',')[0]}_backward")
    x = (4, 24, 20, 20)
    check_forms(lambda x, w, b: function(x, *arguments(w, b)), dtype, x, (size,), (size,))
    check_forms(lambda dy, x, w, b: backward(dy, x, *arguments(w, b)), dtype, x, x, (size,), (size,))


ELEMENTWISE = ("relu", "relu6", "leaky_relu", "elu", "selu", "gelu", "silu", "mish", "hardswish", "hardsigmoid")
ELEMENTWISE += ("hardtanh", "softplus", "softsign", "sigmoid", "tanh", "softmax", "log_softmax")


@pytest.mark.parametrize("dtype", TINY)
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_activations(one_thread, name, dtype):
    how = {"dim": 1} if "softmax" in name else {}
    x = (4, 24, 20, 20)
    check_forms(lambda x: getattr(F, name)(x, **how), dtype, x)
    check_forms(lambda dy, x: getattr(F, f"{name}_backward")(dy, x, **how), dtype, x, x)


@pytest.mark.parametrize("dtype", TINY)
@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "huber_loss", "smooth_l1_loss"])
def test_losses(one_thread, name, dtype):
    x = (200, 200)
    check_forms(getattr(F, name), dtype, x, x)
    check_forms(partial(getattr(F, f"{name}_backward"), 1.0), dtype, x, x)


@pytest.mark.parametrize("dtype", TINY)
def test_what_moves_and_adds(one_thread, dtype):
    x = (4, 24, 20, 20)
    check_forms(F.add_relu, dtype, x, x)
    check_forms(lambda x: F.interpolate(x, size=30, mode="bilinear"), dtype, x)
    check_forms(lambda x: F.local_response_norm(x, 3), dtype, x)
    check_forms(lambda x: F.dropout(x, 0.5, rng=1), dtype, x)
    check_forms(lambda x, w: F.prelu(x, w), dtype, x, (24,))
    check_forms(lambda x: F.fold(x, 20, 3, padding=1), dtype, (4, 24 * 9, 400))


@pytest.mark.parametrize("dtype", TINY)
@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "RMSprop", "Adagrad"])
def test_optimizers(one_thread, name, dtype):
    """Gradients that fade away are what makes numbers denormal in training."""
    how = {"momentum": 0.9} if name == "SGD" else {}

    def step_of(value: np.ndarray, gradient: np.ndarray) -> Callable[[], Any]:
        parameter = cyconv.Parameter(value.copy())
        parameter.grad = gradient.copy()
        return getattr(optim, name)([parameter], lr=1e-3, **how).step

    usual = arrays(dtype, (200, 200), (200, 200))
    for form in tiny_forms(usual, dtype).values():
        tiny, other = step_of(*form), step_of(*usual)
        assert_cheap(lambda: tiny, lambda: other)  # noqa: B023
