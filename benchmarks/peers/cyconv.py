"""cyconv itself: a layer in eval mode ("cyconv"), and the functional face, weights new on every call ("cyconv-fn")."""

from __future__ import annotations

import functools
import importlib
from typing import Any

import numpy as np

from ..layers import Layer
from . import Contender, Contenders, ConvData, Unsupported


def load() -> Any:
    package = importlib.import_module("cyconv")
    importlib.import_module("cyconv.functional")  # a bare source folder imports as well: ask for what is compiled
    return package


def _context(threads: int) -> Any:
    return functools.partial(load().threads, threads)


def _arguments(layer: Layer) -> tuple[Any, ...]:
    """stride, padding, dilation, groups."""
    return layer.stride, layer.padding, layer.dilation, layer.groups


def _try(call: Any, algorithm: str) -> None:
    """A forced algorithm that refuses the geometry is no failure of the run."""
    try:
        call()
    except ValueError as error:
        if algorithm == "auto":
            raise
        raise Unsupported(str(error)) from error


def module(layer: Layer, data: ConvData, algorithm: str = "auto") -> Any:
    """A layer object in eval mode, with these weights."""
    kind = getattr(load(), f"Conv{layer.rank}d")
    conv = kind(layer.c, layer.k, layer.kernel, *_arguments(layer), algorithm=algorithm, dtype=data.x.dtype)
    conv.load_state_dict({"weight": data.w, "bias": data.b})
    return conv.eval()


def forward(layer: Layer, data: ConvData, threads: int, *, algorithm: str = "auto") -> Contenders:
    conv, x = module(layer, data, algorithm), data.x
    function = getattr(load().functional, f"conv{layer.rank}d")
    call = functools.partial(function, x, data.w, data.b, *_arguments(layer), algorithm=algorithm)
    _try(call, algorithm)
    return {
        "cyconv": Contender(lambda: conv(x), lambda y: (y,), _context(threads)),
        "cyconv-fn": Contender(call, lambda y: (y,), _context(threads)),
    }


def kernel_alone(layer: Layer, data: ConvData, threads: int, *, algorithm: str = "auto") -> Contenders:
    """The compiled part of a call of the layer, with nothing around it: weights packed and output allocated before."""
    cyconv = load()
    conv, x = module(layer, data, algorithm), data.x
    # The layer's own work object: engines are found by their arguments, and these are what the layer asks with.
    geometry = conv._conv.geometry(x.shape, data.w.shape, True)
    work = cyconv.functional.conv_engine(geometry, x.dtype, False, algorithm, fresh=False)
    if not hasattr(work, "forward_walk"):
        raise Unsupported(f"algorithm {work.name} has no kernel of its own")
    images, kernel = work.forward_walk()
    y = np.empty(layer.output_shape, x.dtype)
    with _context(threads)():
        count = cyconv._settings.threads_for(layer.flops)
    call = functools.partial(kernel.run, y, x, work.pack(data.w), data.b, images, count)
    return {"cyconv-kernel": Contender(call, lambda _: (y,), _context(threads))}


def backward(layer: Layer, data: ConvData, threads: int, *, algorithm: str = "auto") -> Contenders:
    """functional.conv2d_backward: the arithmetic that layer.backward does, without adding up the gradients."""
    function = getattr(load().functional, f"conv{layer.rank}d_backward")
    call = functools.partial(function, data.dy, data.x, data.w, data.b, *_arguments(layer), algorithm=algorithm)
    _try(call, algorithm)
    return {"cyconv": Contender(call, lambda grads: grads, _context(threads))}


def _lenet(state: dict[str, np.ndarray]) -> Any:
    model = importlib.import_module("cyconv.models").LeNet5()
    model.load_state_dict(state)
    return model


def lenet_inference(state: dict[str, np.ndarray], x: np.ndarray, threads: int) -> Contenders:
    model = _lenet(state)
    model.eval()
    return {"cyconv": Contender(lambda: model(x), lambda y: (y,), _context(threads))}


def lenet_training(
    state: dict[str, np.ndarray], batches: list[tuple[np.ndarray, np.ndarray]], lr: float, threads: int
) -> Contenders:
    cyconv = load()
    model = _lenet(state)
    model.train()
    criterion = cyconv.CrossEntropyLoss()
    optimizer = cyconv.SGD(model.parameters(), lr=lr, momentum=0.9)
    turn = 0

    def step() -> Any:
        nonlocal turn
        x, labels = batches[turn % len(batches)]
        turn += 1
        optimizer.zero_grad()
        loss = criterion(model(x), labels)
        model.backward(criterion.backward(), input_grad=False)
        optimizer.step()
        return loss

    return {"cyconv": Contender(step, lambda loss: (np.asarray(loss),), _context(threads))}
