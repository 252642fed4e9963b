"""PyTorch, eager: contiguous ("torch") and channels_last ("torch-cl") tensors; oneDNN or its own kernels beneath."""

from __future__ import annotations

import dataclasses
import functools
import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from .. import operations
from ..layers import Layer
from ..networks import LENET, MOMENTUM, Around, Batch, Conv, Dense, Network, Norm, Part, Pool
from ..operations import EPS, LINEAR, MOVES, RESIZES, Arrays, Operation
from . import Contender, Contenders, ConvData

TRANSPOSES = True


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
    """torch.conv2d (1d, 3d, transposed) in inference mode, which F.conv2d and nn.Conv2d both end in."""
    function = getattr(load(), f"conv{'_transpose' if layer.transposed else ''}{layer.rank}d")
    more = {"output_padding": layer.output_padding or 0} if layer.transposed else {}
    sizes = {name: getattr(layer, name) for name in ("stride", "padding", "dilation", "groups")}
    contenders = {}
    for name in ("torch", "torch-cl"):
        x, w, b = _tensors((data.x, data.w, data.b), name)
        call = functools.partial(function, x, w, b, **sizes, **more)
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
            layer.transposed,
            list(layer.output_padding or (0,) * layer.rank),
            layer.groups,
            [True, True, True],
        )
        contenders[name] = _contender(call, threads)
    return contenders


def _call(operation: Operation, direction: str, tensors: list[Any]) -> Any:
    """One call of what autograd would call, without its overhead; what a forward pass keeps for it is at hand."""
    torch = load()
    aten, (x, dy, w, b) = torch.ops.aten, tensors
    forward: Any
    if operation.kind == "max_pool":
        sizes = [list(operation.window), [operation.stride] * 2, [operation.padding] * 2, [1, 1], False]
        if direction == "forward":
            return functools.partial(torch.max_pool2d, x, *sizes)
        _, indices = aten.max_pool2d_with_indices(x, *sizes)
        return functools.partial(aten.max_pool2d_with_indices_backward, dy, x, *sizes, indices)
    if operation.kind == "avg_pool" and operation.kernel == 0:
        if direction == "forward":
            return functools.partial(torch.nn.functional.adaptive_avg_pool2d, x, 1)
        return lambda: dy.expand(x.shape) / (x.shape[2] * x.shape[3])
    if operation.kind == "avg_pool":
        sizes = [list(operation.window), [operation.stride] * 2, [operation.padding] * 2, False, True, None]
        if direction == "forward":
            return functools.partial(torch.nn.functional.avg_pool2d, x, *sizes)
        return functools.partial(aten.avg_pool2d_backward, dy, x, *sizes)
    if operation.kind in (*LINEAR, "cross_entropy", "dropout", "log_softmax"):
        return _top(operation, direction, tensors)
    if operation.kind in ("batch_norm", "batch_norm_relu"):
        rectified = operation.kind == "batch_norm_relu"
        running = [torch.zeros_like(w), torch.ones_like(w)]
        forward = functools.partial(torch.native_batch_norm, x, w, b, *running, True, 0.1, EPS)
        if direction == "forward":
            return lambda: torch.relu_(forward()[0]) if rectified else forward()[0]
        y, *statistics = forward()
        given = (*running, *statistics, True, EPS, [True] * 3)
        if rectified:
            return lambda: aten.native_batch_norm_backward(aten.threshold_backward(dy, y, 0), x, w, *given)
        return functools.partial(aten.native_batch_norm_backward, dy, x, w, *given)
    if operation.kind in (*MOVES, *RESIZES, "group_norm", "layer_norm", "gelu", "silu"):
        return _newer(operation, direction, tensors)
    if operation.kind == "add_relu":
        if direction == "forward":
            return lambda: torch.relu_(x + dy)
        return functools.partial(aten.threshold_backward, dy, torch.relu(x + dy), 0)
    if operation.kind == "relu":
        if direction == "forward":
            return functools.partial(torch.relu, x)
        return functools.partial(aten.threshold_backward, dy, torch.relu(x), 0)
    if direction == "forward":
        return functools.partial(torch.softmax, x, 1)
    return functools.partial(aten._softmax_backward_data, dy, torch.softmax(x, 1), 1, x.dtype)


def _newer(operation: Operation, direction: str, tensors: list[Any]) -> Any:
    """The same for norms of one sample, activations of one formula, shuffles and resizing."""
    torch = load()
    aten, f, (x, dy, w, b) = torch.ops.aten, torch.nn.functional, tensors
    number, kind, back = operation.kernel, operation.kind, direction == "backward"
    if kind == "group_norm":
        n, c, *space = x.shape
        sizes = (n, c, space[0] * space[1], number)
        if not back:
            return functools.partial(f.group_norm, x, number, w, b, EPS)
        statistics = torch.native_group_norm(x, w, b, *sizes, EPS)[1:]
        return functools.partial(aten.native_group_norm_backward, dy, x, *statistics, w, *sizes, [True] * 3)
    if kind == "layer_norm":
        if not back:
            return functools.partial(f.layer_norm, x, w.shape, w, b, EPS)
        statistics = torch.native_layer_norm(x, w.shape, w, b, EPS)[1:]
        return functools.partial(aten.native_layer_norm_backward, dy, x, w.shape, *statistics, w, b, [True] * 3)
    if kind in RESIZES:
        more = {} if kind == "nearest" else {"align_corners": False}
        if not back:
            return functools.partial(f.interpolate, x, scale_factor=number, mode=kind, **more)
        twin = getattr(aten, f"upsample_{kind}2d_backward")
        corners = [] if kind == "nearest" else [False]
        return functools.partial(twin, dy, dy.shape[2:], x.shape, *corners, None, None)
    if kind in MOVES:
        if not back:
            return functools.partial(getattr(f, kind), x, number)
        if kind == "channel_shuffle":
            return functools.partial(f.channel_shuffle, dy, x.shape[1] // number)
        return functools.partial(f.pixel_unshuffle if kind == "pixel_shuffle" else f.pixel_shuffle, dy, number)
    if not back:
        return functools.partial(getattr(f, kind), x)
    return functools.partial(getattr(aten, f"{kind}_backward"), dy, x)


def _top(operation: Operation, direction: str, tensors: list[Any]) -> Any:
    """The same for what stands at the end of a network."""
    torch = load()
    aten, f, (x, dy, w, b) = torch.ops.aten, torch.nn.functional, tensors
    kind, back = operation.kind, direction == "backward"
    if kind == "dropout":
        if not back:
            return lambda: aten.native_dropout(x, operations.DROPPED, True)[0]
        mask = torch.empty_like(x, dtype=torch.bool).copy_(torch.from_numpy(operations.kept(operation)))
        return functools.partial(aten.native_dropout_backward, dy, mask, 1 / (1 - operations.DROPPED))
    logarithm = torch.log_softmax(x, 1) if kind not in LINEAR else None
    if kind == "log_softmax":
        if not back:
            return functools.partial(torch.log_softmax, x, 1)
        return functools.partial(aten._log_softmax_backward_data, dy, logarithm, 1, x.dtype)
    if kind == "cross_entropy":
        labels = torch.from_numpy(operations.labels(operation))
        if not back:
            return functools.partial(f.cross_entropy, x, labels)
        twin = aten.nll_loss_backward if x.ndim == 2 else aten.nll_loss2d_backward
        total = torch.tensor(float(labels.numel()), dtype=x.dtype)

        def gradient() -> Any:
            of_logarithm = twin(dy, logarithm, labels, None, 1, -100, total)
            return aten._log_softmax_backward_data(of_logarithm, logarithm, 1, x.dtype)

        return gradient
    if not back:
        return lambda: torch.relu_(f.linear(x, w, b)) if kind == "linear_relu" else f.linear(x, w, b)
    y = torch.relu(f.linear(x, w, b))

    def gradients() -> Any:
        g = aten.threshold_backward(dy, y, 0) if kind == "linear_relu" else dy
        return g.mm(w), g.t().mm(x), g.sum(0)

    return gradients


def _undropped(x: np.ndarray, y: Any) -> tuple[np.ndarray, ...]:
    return operations.undropped(y.contiguous().numpy(), x)


def operation(operation: Operation, direction: str, data: Arrays, threads: int) -> Contenders:
    """Pooling, ReLU, batch norm (in training) or softmax, or the aten function that gives its gradients."""
    contenders = {}
    for name in ("torch", "torch-cl") if data.x.ndim == 4 else ("torch",):
        tensors = _tensors((data.x, data.dy, data.weight, data.bias), name)
        with _context(threads, True):
            call = _call(operation, direction, tensors)
        contenders[name] = _contender(call, threads)
        if operation.kind == "dropout" and direction == "forward":
            read = functools.partial(_undropped, data.x)
            contenders[name] = dataclasses.replace(contenders[name], read=read)
    return contenders


def _sequential(parts: tuple[Part, ...]) -> Any:
    """The parts of a network as torch modules; names of the state are those of ``networks.state``."""
    nn = load().nn

    class Residual(nn.Module):  # type: ignore[name-defined, misc]
        def __init__(self, part: Around) -> None:
            super().__init__()
            self.body = _sequential(part.body)
            self.shortcut = nn.Identity() if part.shortcut is None else _sequential(part.shortcut)

        def forward(self, x: Any) -> Any:
            return self.body(x) + self.shortcut(x)

    def module(part: Part) -> Any:
        if isinstance(part, Conv):
            return nn.Conv2d(part.c, part.k, part.kernel, part.stride, part.padding, bias=part.bias)
        if isinstance(part, Dense):
            return nn.Linear(part.c, part.k)
        if isinstance(part, Norm):
            return nn.BatchNorm2d(part.c)
        if isinstance(part, Pool):
            return (nn.MaxPool2d if part.kind == "max" else nn.AvgPool2d)(part.kernel)
        if isinstance(part, Around):
            return Residual(part)
        return nn.ReLU() if part.kind == "relu" else nn.Flatten()

    return nn.Sequential(*map(module, parts))


def model(network: Network, state: dict[str, np.ndarray], name: str = "torch") -> Any:
    """A network with these weights, in the memory format of this contender."""
    torch = load()
    made = _sequential(network.parts)
    made.load_state_dict({key: torch.from_numpy(value.copy()) for key, value in state.items()})
    return made.to(memory_format=torch.channels_last) if name == "torch-cl" else made


def lenet_inference(state: dict[str, np.ndarray], x: np.ndarray, threads: int) -> Contenders:
    contenders = {}
    for name in ("torch", "torch-cl"):
        call = functools.partial(model(LENET, state, name).eval(), *_tensors((x,), name))
        contenders[name] = _contender(call, threads)
    return contenders


def training(
    network: Network,
    state: dict[str, np.ndarray],
    batches: list[Batch],
    threads: int,
    names: tuple[str, ...] = ("torch", "torch-cl"),
) -> Contenders:
    """Eager mode, in both memory formats."""
    contenders = {}
    for name in names:
        prepared = [tuple(_tensors(batch, name)) for batch in batches]
        step = _stepper(model(network, state, name).train(), prepared, network.lr)
        contenders[name] = _contender(step, threads, inference=False)
    return contenders


def _stepper(model: Any, batches: list[Any], lr: float) -> Any:
    """A function that takes one step of SGD with momentum on the next batch, and returns the loss before it."""
    torch = load()
    criterion = torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=MOMENTUM)
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
