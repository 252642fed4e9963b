"""ONNX models, in memory, for the peers that read them."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from ..layers import Layer

# LeNet-5 as (operator, attributes, key of its weights in the state); the names are those of a Sequential.
LENET: tuple[tuple[str, dict[str, Any], str | None], ...] = (
    ("Conv", {"kernel_shape": [5, 5], "pads": [2] * 4}, "0"),
    ("Relu", {}, None),
    ("MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2]}, None),
    ("Conv", {"kernel_shape": [5, 5]}, "3"),
    ("Relu", {}, None),
    ("MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2]}, None),
    ("Flatten", {}, None),
    ("Gemm", {"transB": 1}, "7"),
    ("Relu", {}, None),
    ("Gemm", {"transB": 1}, "9"),
    ("Relu", {}, None),
    ("Gemm", {"transB": 1}, "11"),
)


def load() -> Any:
    return importlib.import_module("onnx")


def _model(
    nodes: list[Any], weights: dict[str, np.ndarray], x_shape: tuple[int, ...], y_shape: tuple[int, ...]
) -> bytes:
    onnx = load()
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", kind, x_shape)],
        [helper.make_tensor_value_info("y", kind, y_shape)],
        [onnx.numpy_helper.from_array(value, key) for key, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return bytes(model.SerializeToString())


def conv(layer: Layer, w: np.ndarray, b: np.ndarray) -> bytes:
    """One Conv node from x to y."""
    node = load().helper.make_node(
        "Conv",
        ["x", "w", "b"],
        ["y"],
        kernel_shape=list(layer.kernel),
        strides=list(layer.stride),
        pads=[*layer.padding, *layer.padding],
        dilations=list(layer.dilation),
        group=layer.groups,
    )
    return _model([node], {"w": w, "b": b}, layer.input_shape, layer.output_shape)


def lenet(state: dict[str, np.ndarray], batch: int) -> bytes:
    """LeNet-5 from x (batch, 1, 28, 28) to y (batch, 10)."""
    helper = load().helper
    nodes = []
    for i, (operator, attributes, key) in enumerate(LENET):
        source, target = "x" if i == 0 else f"t{i}", "y" if i == len(LENET) - 1 else f"t{i + 1}"
        weights = [f"{key}.weight", f"{key}.bias"] if key is not None else []
        nodes.append(helper.make_node(operator, [source, *weights], [target], **attributes))
    return _model(nodes, state, (batch, 1, 28, 28), (batch, 10))
