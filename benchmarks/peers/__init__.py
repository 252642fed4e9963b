"""The contenders: one module each, with the same functions where the library can do the work.

    load()                                   imports the library; ImportError where it is missing
    forward(layer, data, threads)            one convolution, transposed or not
    backward(layer, data, threads)           its gradients for input, weight and bias
    operation(operation, direction, data, threads)   pooling, ReLU, batch norm, softmax, or their gradients
    lenet_inference(state, x, threads)       LeNet-5, logits
    training(network, state, batches, threads)       one optimiser step of a network per call, the loss

Each returns a dict of contenders by name, or raises ``Unsupported`` with the reason; the last four stand only where
the library does such work at all. Inputs are brought into the
library's own best form outside the timing (channels-last tensors, bound buffers, packed weights), and results stay in
that form while the clock runs; ``read`` turns them into NCHW arrays for the check.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from ..layers import Layer
from ..timing import Contender

__all__ = ["NAMES", "PEERS", "Contender", "Contenders", "ConvData", "Unsupported", "load"]

PEERS = ("cyconv", "torch", "onnxruntime", "openvino", "ncnn")
#: Names in tables, in this order; the first is the one that ratios are taken of.
NAMES = ("cyconv", "cyconv-cl", "cyconv-fn", "cyconv-kernel", "torch", "torch-cl", "ort", "openvino", "ncnn")


class Unsupported(Exception):
    """This library cannot do this work; the message says why."""


Contenders = dict[str, Contender]


@dataclass(frozen=True)
class ConvData:
    """Arrays of one layer, C-contiguous NCHW; ``dy`` is the gradient that comes back."""

    x: np.ndarray
    w: np.ndarray
    b: np.ndarray
    dy: np.ndarray

    @classmethod
    def random(cls, layer: Layer, dtype: str, seed: int = 0) -> ConvData:
        """Normal input and gradient, weights that keep the output near unit variance."""
        rng = np.random.default_rng(seed)

        def normal(shape: tuple[int, ...]) -> np.ndarray:
            return rng.standard_normal(shape, dtype=np.float32).astype(dtype, copy=False)

        return cls(
            normal(layer.input_shape),
            normal(layer.weight_shape) * np.dtype(dtype).type(layer.terms**-0.5),
            normal((layer.k,)),
            normal(layer.output_shape),
        )


def load(names: list[str] | None = None) -> tuple[dict[str, ModuleType], dict[str, str]]:
    """The modules of all libraries that import, in the order of PEERS, and why the others are missing."""
    found, missing = {}, {}
    for name in names or PEERS:
        module = importlib.import_module(f"{__name__}.{name}")
        try:
            module.load()
        except ImportError as error:
            missing[name] = str(error)
        else:
            found[name] = module
    return found, missing
