"""OpenVINO, CPU plugin: one stream, latency hint, float32 arithmetic (bfloat16 is its default where the CPU has it)."""

from __future__ import annotations

import functools
import importlib
import os
from typing import Any

import numpy as np

from ..layers import Layer
from . import Contender, Contenders, ConvData, Unsupported, onnx_models


def load() -> Any:
    onnx_models.load()
    os.environ.setdefault("OPENVINO_TELEMETRY_DISABLED", "1")
    return importlib.import_module("openvino")


@functools.cache
def _core() -> Any:
    return load().Core()


def _request(model: bytes, x: np.ndarray, threads: int) -> Contenders:
    if x.dtype != np.float32:
        raise Unsupported("its CPU plugin computes in float32 only")
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
    }
    request = _core().compile_model(_core().read_model(model), "CPU", settings).create_infer_request()
    # Its own buffers, aligned as the plugin wants them.
    request.get_input_tensor().data[:] = x

    def run() -> Any:
        request.infer()
        return request

    return {"openvino": Contender(run, lambda r: (r.get_output_tensor().data.copy(),))}


def forward(layer: Layer, data: ConvData, threads: int) -> Contenders:
    return _request(onnx_models.conv(layer, data.w, data.b), data.x, threads)


def lenet_inference(state: dict[str, np.ndarray], x: np.ndarray, threads: int) -> Contenders:
    return _request(onnx_models.lenet(state, len(x)), x, threads)
