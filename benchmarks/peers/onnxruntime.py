"""ONNX Runtime, CPU provider (MLAS), all graph optimisations, input and output bound to fixed buffers."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from ..layers import Layer
from . import Contender, Contenders, ConvData, Unsupported, onnx_models


def load() -> Any:
    onnx_models.load()
    return importlib.import_module("onnxruntime")


def _session(model: bytes, x: np.ndarray, y_shape: tuple[int, ...], threads: int) -> Contenders:
    if x.dtype != np.float32:
        raise Unsupported("its CPU convolution is float32 only")
    ort = load()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    source = ort.OrtValue.ortvalue_from_numpy(x)
    target = ort.OrtValue.ortvalue_from_shape_and_type(y_shape, np.float32)
    binding.bind_ortvalue_input("x", source)
    binding.bind_ortvalue_output("y", target)

    def run() -> Any:
        session.run_with_iobinding(binding)
        return target

    return {"ort": Contender(run, lambda y: (y.numpy(),))}


def forward(layer: Layer, data: ConvData, threads: int) -> Contenders:
    return _session(onnx_models.conv(layer, data.w, data.b), data.x, layer.output_shape, threads)


def lenet_inference(state: dict[str, np.ndarray], x: np.ndarray, threads: int) -> Contenders:
    return _session(onnx_models.lenet(state, len(x)), x, (len(x), 10), threads)
