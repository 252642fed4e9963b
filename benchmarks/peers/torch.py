"""PyTorch, eager: contiguous ("torch") and channels_last ("torch-cl") tensors; oneDNN or its own kernels beneath."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..layers import Layer
from . import Contender, Contenders, ConvData


def load() -> Any:
    torch = importlib.import_module("torch")
    torch.set_float32_matmul_precision("highest")
    return torch


def _channels_last(tensor: Any) -> Any:
    """The same values with channels last in memory; a signal has no memory format of that name, but the strides."""
    torch = load()
    if tensor.ndim == 3:
        return tensor.movedim(1, -1).contiguous().movedim(-1, 1)
    form = {4: torch.channels_last, 5: torch.channels_last_3d}.get(tensor.ndim, torch.contiguous_format)
    return tensor.contiguous(memory_format=form)


def _tensors(arrays: tuple[np.ndarray, ...], name: str) -> list[Any]:
    """Copies of the arrays in the memory format of this contender."""
    copies = (load().from_numpy(a.copy()) for a in arrays)
    return [_channels_last(t) if name == "torch-cl" else t for t in copies]


@contextmanager
def _context(threads: int, inference: bool) -> Iterator[None]:
    torch = load()
    torch.set_num_threads(threads)
    with torch.inference_mode(inference):
        yield


def _contender(run: Any, threads: int, *, inference: bool = True) -> Contender:
    """``run`` returns one tensor or a tuple of them."""

    def read(result: Any) -> tuple[np.ndarray, ...]:
        results = result if isinstance(result, tuple) else (result,)
        return tuple(t.detach().contiguous().numpy() for t in results)

    return Contender(run, read, functools.partial(_context, threads, inference))


def forward(layer: Layer, data: ConvData, threads: int) -> Contenders:
    """torch.conv2d (1d, 3d) in inference mode, which F.conv2d and nn.Conv2d both end in."""
    function = getattr(load(), f"conv{layer.rank}d")
    contenders = {}
    for name in ("torch", "torch-cl"):
        x, w, b = _tensors((data.x, data.w, data.b), name)
        call = functools.partial(function, x, w, b, layer.stride, layer.padding, layer.dilation, layer.groups)
        contenders[name] = _contender(call, threads)
    return contenders


def backward(layer: Layer, data: ConvData, threads: int) -> Contenders:
    """aten.convolution_backward: what autograd of F.conv2d calls, without autograd's own overhead."""
    torch = load()
    contenders = {}
    for name in ("torch", "torch-cl"):
        dy, x, w = _tensors((data.dy, data.x, data.w), name)
        call = functools.partial(
            torch.ops.aten.convolution_backward,
            dy,
            x,
            w,
            [layer.k],
            list(layer.stride),
            list(layer.padding),
            list(layer.dilation),
            False,
            [0] * layer.rank,
            layer.groups,
            [True, True, True],
        )
        contenders[name] = _contender(call, threads)
    return contenders


def _lenet(state: dict[str, np.ndarray], name: str) -> Any:
    torch = load()
    nn = torch.nn
    model = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, 10),
    )
    model.load_state_dict({key: torch.from_numpy(value.copy()) for key, value in state.items()})
    return model.to(memory_format=torch.channels_last) if name == "torch-cl" else model


def lenet_inference(state: dict[str, np.ndarray], x: np.ndarray, threads: int) -> Contenders:
    contenders = {}
    for name in ("torch", "torch-cl"):
        model = _lenet(state, name).eval()
        call = functools.partial(model, *_tensors((x,), name))
        contenders[name] = _contender(call, threads)
    return contenders


def lenet_training(
    state: dict[str, np.ndarray], batches: list[tuple[np.ndarray, np.ndarray]], lr: float, threads: int
) -> Contenders:
    contenders = {}
    for name in ("torch", "torch-cl"):
        model = _lenet(state, name).train()
        prepared = [tuple(_tensors(batch, name)) for batch in batches]
        contenders[name] = _contender(_stepper(model, prepared, lr), threads, inference=False)
    return contenders


def _stepper(model: Any, batches: list[Any], lr: float) -> Any:
    """A function that takes one step of SGD with momentum on the next batch, and returns the loss before it."""
    torch = load()
    criterion = torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    turn = 0

    def step() -> Any:
        nonlocal turn
        x, labels = batches[turn % len(batches)]
        turn += 1
        optimizer.zero_grad()
        loss = criterion(model(x), labels)
        loss.backward()
        optimizer.step()
        return loss

    return step
