"""cyconv itself: a layer in eval mode ("cyconv"), and the functional face, weights new on every call ("cyconv-fn")."""

from __future__ import annotations

import functools
import importlib
from typing import Any

import numpy as np

from .. import operations
from ..layers import Layer
from ..networks import LENET, MOMENTUM, Batch, Network
from ..operations import EPS, LINEAR, MOVES, RESIZES, Arrays, Operation
from . import Contender, Contenders, ConvData, Unsupported

TRANSPOSES = True


def load() -> Any:
    package = importlib.import_module("cyconv")
    importlib.import_module("cyconv.functional")  # a bare source folder imports as well: ask for what is compiled
    return package


def _context(threads: int) -> Any:
    return functools.partial(load().threads, threads)


def _arguments(layer: Layer) -> dict[str, Any]:
    """What a layer and a function take beside the sizes."""
    sizes: dict[str, Any] = {name: getattr(layer, name) for name in ("stride", "padding", "dilation", "groups")}
    return sizes | ({"output_padding": layer.output_padding or 0} if layer.transposed else {})


def _function(layer: Layer, twin: str = "") -> Any:
    kind = "conv_transpose" if layer.transposed else "conv"
    return getattr(load().functional, f"{kind}{layer.rank}d{twin}")


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
    kind = getattr(load(), f"Conv{'Transpose' if layer.transposed else ''}{layer.rank}d")
    conv = kind(layer.c, layer.k, layer.kernel, **_arguments(layer), algorithm=algorithm, dtype=data.x.dtype)
    conv.load_state_dict({"weight": data.w, "bias": data.b})
    return conv.eval()


def forward(layer: Layer, data: ConvData, threads: int, *, algorithm: str = "auto") -> Contenders:
    conv, x = module(layer, data, algorithm), data.x
    call = functools.partial(_function(layer), x, data.w, data.b, **_arguments(layer), algorithm=algorithm)
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
    geometry = conv._conv.geometry(x.shape, data.w.shape, conv.bias.shape)
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
    function = _function(layer, "_backward")
    call = functools.partial(function, data.dy, data.x, data.w, data.b, **_arguments(layer), algorithm=algorithm)
    _try(call, algorithm)
    return {"cyconv": Contender(call, lambda grads: grads, _context(threads))}


def _channels_last(array: np.ndarray) -> np.ndarray:
    """The same values with channels last in memory; those of a loss have no channels."""
    if array.ndim < 3:
        return array
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(array, 1, -1)), -1, 1)


def _call(operation: Operation, direction: str, data: Arrays) -> Any:
    """One call of the functional face, with what a layer in training remembers at hand."""
    functional, x, dy = load().functional, data.x, data.dy
    if operation.kind.endswith("_pool"):
        sizes = (operation.window, operation.stride, operation.padding)
        if direction == "forward":
            return functools.partial(getattr(functional, f"{operation.kind}2d"), x, *sizes)
        if operation.kind == "max_pool":
            kept = functional.keep_maxima("max_pool2d", x, *sizes)[1]
            return lambda: (kept.backward(dy),)
        return functools.partial(getattr(functional, f"{operation.kind}2d_backward"), dy, x, *sizes)
    if operation.kind in ("batch_norm", "batch_norm_relu"):
        running = [np.zeros_like(data.weight), np.ones_like(data.weight)]
        given = (data.weight, data.bias, True, 0.1, EPS)
        more = {"rectified": operation.kind == "batch_norm_relu"}
        forward = functools.partial(functional.batch_norm, x, *running, *given, return_statistics=True, **more)
        if direction == "forward":
            return lambda: forward()[0]
        more |= {"statistics": forward()[1]}
        return functools.partial(functional.batch_norm_backward, dy, x, None, None, *given, **more)
    if operation.kind in ("group_norm", "layer_norm"):
        number = operation.kernel if operation.kind == "group_norm" else x.shape[-1]
        norm, norm_backward = (getattr(functional, operation.kind + twin) for twin in ("", "_backward"))
        forward = functools.partial(norm, x, number, data.weight, data.bias, EPS, return_statistics=True)
        if direction == "forward":
            return lambda: forward()[0]
        return functools.partial(norm_backward, dy, x, number, data.weight, data.bias, EPS, statistics=forward()[1])
    if operation.kind in RESIZES:
        more = {"scale_factor": operation.kernel, "mode": operation.kind}
        if direction == "forward":
            return functools.partial(functional.interpolate, x, **more)
        return functools.partial(functional.interpolate_backward, dy, x, **more)
    if operation.kind in ("gelu", "silu", *MOVES):
        number = (operation.kernel,) if operation.kind in MOVES else ()
        if direction == "forward":
            return functools.partial(getattr(functional, operation.kind), x, *number)
        return functools.partial(getattr(functional, f"{operation.kind}_backward"), dy, x, *number)
    if operation.kind in (*LINEAR, "cross_entropy", "dropout"):
        return _top(operation, direction, data)
    if operation.kind == "add_relu":
        if direction == "forward":
            return functools.partial(functional.add_relu, x, dy)
        return functools.partial(functional.relu_backward, dy, None, output=functional.add_relu(x, dy))
    dim = (1,) if operation.kind.endswith("softmax") else ()
    forward = functools.partial(getattr(functional, operation.kind), x, *dim)
    if direction == "forward":
        return forward
    return functools.partial(getattr(functional, f"{operation.kind}_backward"), dy, None, *dim, output=forward())


def _top(operation: Operation, direction: str, data: Arrays) -> Any:
    """The same for what stands at the end of a network."""
    functional, x, dy = load().functional, data.x, data.dy
    if operation.kind == "dropout":
        if direction == "forward":
            return functools.partial(functional.dropout, x, operations.DROPPED, rng=np.random.default_rng(1))
        mask = operations.kept(operation)
        mask = mask if x.flags.c_contiguous else _channels_last(mask)
        return functools.partial(functional.dropout_backward, dy, x, operations.DROPPED, mask=mask)
    if operation.kind == "cross_entropy":
        labels = operations.labels(operation)
        if direction == "forward":
            return functools.partial(functional.cross_entropy, x, labels)
        return functools.partial(functional.cross_entropy_backward, dy, x, labels)
    linear = functools.partial(functional.linear, x, data.weight, data.bias, rectified=operation.kind == "linear_relu")
    if direction == "forward":
        return linear
    if operation.kind == "linear":
        return functools.partial(functional.linear_backward, dy, x, data.weight, data.bias)
    y = linear()
    return lambda: functional.linear_backward(
        functional.relu_backward(dy, None, output=y)[0], x, data.weight, data.bias
    )


def operation(operation: Operation, direction: str, data: Arrays, threads: int) -> Contenders:
    """The functional face on C-contiguous arrays ("cyconv") and, of images, with channels last ("cyconv-cl")."""
    contenders = {}
    for name in ("cyconv", "cyconv-cl") if data.x.ndim == 4 else ("cyconv",):
        turn = _channels_last if name == "cyconv-cl" else np.asarray  # random arrays are C-contiguous
        call = _call(operation, direction, Arrays(turn(data.x), turn(data.dy), data.weight, data.bias))
        read = (lambda y: (np.asarray(y),)) if direction == "forward" else (lambda gradients: gradients)
        if operation.kind == "dropout" and direction == "forward":
            read = functools.partial(operations.undropped, x=data.x)
        contenders[name] = Contender(call, read, _context(threads))
    return contenders


def model(network: Network, state: dict[str, np.ndarray]) -> Any:
    """A network of cyconv.models with these weights."""
    models = importlib.import_module("cyconv.models")
    kinds = {"lenet": models.LeNet5, "resnet20": models.ResNet20, "vgg11": models.VGG11}
    kinds["vgg11-bn"] = functools.partial(models.VGG11, batch_norm=True)
    made = kinds[network.name]()
    made.load_state_dict(state)
    return made


def lenet_inference(state: dict[str, np.ndarray], x: np.ndarray, threads: int) -> Contenders:
    lenet = model(LENET, state)
    lenet.eval()
    return {"cyconv": Contender(lambda: lenet(x), lambda y: (y,), _context(threads))}


def training(network: Network, state: dict[str, np.ndarray], batches: list[Batch], threads: int) -> Contenders:
    cyconv = load()
    trained = model(network, state)
    trained.train()
    criterion = cyconv.CrossEntropyLoss()
    optimizer = cyconv.SGD(trained.parameters(), lr=network.lr, momentum=MOMENTUM)
    turn = 0

    def step() -> Any:
        nonlocal turn
        x, labels = batches[turn % len(batches)]
        turn += 1
        optimizer.zero_grad()
        loss = criterion(trained(x), labels)
        trained.backward(criterion.backward(), input_grad=False)
        optimizer.step()
        return loss

    return {"cyconv": Contender(step, lambda loss: (np.asarray(loss),), _context(threads))}
