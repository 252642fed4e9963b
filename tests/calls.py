"""A small valid call of every public operation, for tests that bend one argument after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from cyconv import functional as F


@dataclass(frozen=True)
class Call:
    """A function of ``cyconv.functional`` with arguments that it takes; arrays are made anew for each call."""

    name: str
    arguments: dict[str, Any]

    @property
    def function(self) -> Callable[..., Any]:
        return getattr(F, self.name)

    def fresh(self) -> dict[str, Any]:
        """Return the arguments with arrays of their own."""
        return {name: _fresh(value) for name, value in self.arguments.items()}

    def __call__(self, **changed: Any) -> Any:
        return self.function(**(self.fresh() | changed))


def _fresh(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.copy()
    return [_fresh(item) for item in value] if isinstance(value, list) else value


def _array(*shape: int, seed: int = 0, dtype: Any = np.float32) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.1, 0.9, shape).astype(dtype)


def _images(rank: int, channels: int = 4) -> np.ndarray:
    return _array(2, channels, *(6, 5, 4)[:rank])


def _of_rank(rank: int) -> Iterator[Call]:
    x, size = _images(rank), (6, 5, 4)[:rank]
    pool = {"kernel_size": 2, "stride": 2, "padding": 0}
    kernel = _array(6, 2, *(3, 3, 3)[:rank], seed=1)
    yield Call(
        f"conv{rank}d",
        {"input": x, "weight": kernel, "bias": _array(6), "stride": 1, "padding": 1, "dilation": 1, "groups": 2}
        | {"padding_mode": "zeros", "algorithm": "auto"},
    )
    yield Call(
        f"conv_transpose{rank}d",
        {"input": x, "weight": _array(4, 3, *(3, 3, 3)[:rank], seed=1), "bias": _array(6), "stride": 2, "padding": 1}
        | {"output_padding": 1, "groups": 2, "dilation": 1, "padding_mode": "zeros", "algorithm": "auto"}
        | {"output_size": None},
    )
    yield Call(f"max_pool{rank}d", {"input": x, **pool, "dilation": 1, "ceil_mode": False, "return_indices": False})
    yield Call(
        f"avg_pool{rank}d",
        {"input": x, **pool, "ceil_mode": False, "count_include_pad": True, "divisor_override": None, "dilation": 1},
    )
    yield Call(f"lp_pool{rank}d", {"input": x, "norm_type": 2.0, **pool, "ceil_mode": False, "dilation": 1})
    y, indices = getattr(F, f"max_pool{rank}d")(x, 2, return_indices=True)
    yield Call(f"max_unpool{rank}d", {"input": y, "indices": indices, **pool, "output_size": size})
    yield Call(f"adaptive_avg_pool{rank}d", {"input": x, "output_size": 3})
    yield Call(f"adaptive_max_pool{rank}d", {"input": x, "output_size": 3, "return_indices": False})
    yield Call(f"global_avg_pool{rank}d", {"input": x})
    yield Call(f"global_max_pool{rank}d", {"input": x, "return_indices": False})
    yield Call(f"dropout{rank}d", {"input": x, "p": 0.5, "training": True, "rng": 1})
    if rank > 1:
        yield Call(f"fractional_max_pool{rank}d", {"input": x, "kernel_size": 2, "output_size": 2, "rng": 1})
    windows = (2,) * rank  # whose length is the rank
    columns = F.unfold(x, windows)
    shared = {"kernel_size": windows, "dilation": 1, "padding": 0, "stride": 1}
    yield Call("unfold", {"input": x, **shared})
    yield Call("fold", {"input": columns, "output_size": size, **shared})
    yield Call("pad", {"input": x, "pad": (1, 2) * rank, "mode": "reflect"})
    yield Call("interpolate", {"input": x, "size": (3, 7, 2)[:rank], "mode": "nearest"})
    linear = ("linear", "bilinear", "trilinear")[rank - 1]
    yield Call("interpolate", {"input": x, "scale_factor": 1.5, "mode": linear, "align_corners": False})


def _normalisation() -> Iterator[Call]:
    x, of_channels = _images(2), {"weight": _array(4, seed=2), "bias": _array(4, seed=3)}
    running = {"running_mean": _array(4, seed=4), "running_var": _array(4, seed=5)}
    numbers = {"momentum": 0.1, "eps": 1e-5}
    yield Call("batch_norm", {"input": x, **running, **of_channels, "training": True, **numbers})
    yield Call("instance_norm", {"input": x, **running, **of_channels, "use_input_stats": True, **numbers})
    yield Call("group_norm", {"input": x, "num_groups": 2, **of_channels, "eps": 1e-5})
    of_rows = {"weight": _array(5, seed=2), "bias": _array(5, seed=3)}
    yield Call("layer_norm", {"input": x, "normalized_shape": (5,), **of_rows, "eps": 1e-5})
    yield Call("local_response_norm", {"input": x, "size": 3, "alpha": 1e-4, "beta": 0.75, "k": 1.0})


def _pointwise() -> Iterator[Call]:
    x = _images(2)
    for name in ("relu", "relu6", "selu", "silu", "mish", "hardswish", "hardsigmoid", "softsign", "sigmoid", "tanh"):
        yield Call(name, {"input": x})
    yield Call("leaky_relu", {"input": x, "negative_slope": 0.1})
    yield Call("prelu", {"input": x, "weight": _array(4)})
    yield Call("elu", {"input": x, "alpha": 1.5})
    yield Call("gelu", {"input": x, "approximate": "tanh"})
    yield Call("hardtanh", {"input": x, "min_val": -1.0, "max_val": 1.0})
    yield Call("softplus", {"input": x, "beta": 1.0, "threshold": 20.0})
    yield Call("softmax", {"input": x, "dim": 1})
    yield Call("log_softmax", {"input": x, "dim": -1})
    for name in ("dropout", "alpha_dropout", "feature_alpha_dropout"):
        yield Call(name, {"input": x, "p": 0.5, "training": True, "rng": 1})


def _glue() -> Iterator[Call]:
    x = _images(2)
    yield Call("linear", {"input": _array(3, 5), "weight": _array(4, 5), "bias": _array(4)})
    yield Call("flatten", {"input": x, "start_dim": 1, "end_dim": -1})
    yield Call("unflatten", {"input": x, "dim": 1, "sizes": (2, 2)})
    yield Call("pixel_shuffle", {"input": x, "upscale_factor": 2})
    yield Call("pixel_unshuffle", {"input": _array(2, 3, 4, 6), "downscale_factor": 2})
    yield Call("channel_shuffle", {"input": x, "groups": 2})
    yield Call("add_relu", {"input": x, "other": _images(2)})
    yield Call("join_gradients", {"gradient": x, "other": _images(2), "output": _images(2)})
    yield Call("cat", {"inputs": [x, _images(2)], "dim": 1})


def _losses() -> Iterator[Call]:
    logits, labels, one = _array(3, 5), np.array([0, 4, 2]), _array(3, 5, seed=9)
    classes = {"target": labels, "weight": _array(5), "ignore_index": -100, "reduction": "mean"}
    yield Call("cross_entropy", {"input": logits, **classes, "label_smoothing": 0.1})
    yield Call("nll_loss", {"input": F.log_softmax(logits, 1), **classes})
    both = {"input": logits, "target": one, "reduction": "mean"}
    for name in ("mse_loss", "l1_loss", "binary_cross_entropy"):
        yield Call(name, {**both, "weight": _array(3, 5)})
    yield Call("binary_cross_entropy_with_logits", {**both, "weight": _array(3, 5), "pos_weight": _array(5)})
    yield Call("huber_loss", {**both, "delta": 1.0, "weight": _array(3, 5)})
    yield Call("smooth_l1_loss", {**both, "beta": 1.0})
    yield Call("kl_div", {**both, "log_target": False})


#: At least one for every operation of ``cyconv.functional`` that takes a network's arrays.
CALLS = [*_of_rank(1), *_of_rank(2), *_of_rank(3), *_normalisation(), *_pointwise(), *_glue(), *_losses()]
