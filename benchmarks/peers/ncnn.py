"""ncnn: float32 storage and arithmetic, one image at a time (it has no batch axis)."""

from __future__ import annotations

import functools
import importlib
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from ..layers import Layer, Sizes
from . import Contender, Contenders, ConvData, Unsupported

_MAGIC = 7767517


def load() -> Any:
    return importlib.import_module("ncnn")


def _network(layers: list[str], blobs: int, arrays: list[np.ndarray], threads: int) -> Any:
    """A network from lines of its text format and the arrays of its binary format, in which every first array of a
    layer (the weights) carries a tag of four zero bytes: plain float32."""
    ncnn = load()
    net = ncnn.Net()
    for option in dir(net.opt):
        if any(word in option for word in ("fp16", "bf16", "int8", "vulkan_compute")):
            setattr(net.opt, option, False)
    net.opt.num_threads = threads
    text = f"{_MAGIC}\n{len(layers) + 1} {blobs}\nInput x 0 1 x\n" + "\n".join(layers) + "\n"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "weights.bin")
        path.write_bytes(b"".join((b"\0" * 4 if i % 2 == 0 else b"") + a.tobytes() for i, a in enumerate(arrays)))
        if net.load_param_mem(text) != 0 or net.load_model(str(path)) != 0:
            raise RuntimeError("ncnn does not read the network made for it")
    return net


def _run(net: Any, source: Any) -> Any:
    extractor = net.create_extractor()
    extractor.input("x", source)
    return extractor.extract("y")


def _contender(net: Any, image: np.ndarray) -> Contenders:
    ncnn = load()
    source = ncnn.Mat(image).clone()
    return {"ncnn": Contender(functools.partial(_run, net, source), lambda r: (np.array(r[1])[None],))}


def _conv_line(
    name: str,
    source: str,
    target: str,
    weight: np.ndarray,
    *,
    stride: Sizes = (1, 1),
    dilation: Sizes = (1, 1),
    padding: Sizes = (0, 0),
    groups: int = 1,
) -> str:
    k, _, r, s = weight.shape
    keys = {
        0: k,
        1: s,
        11: r,
        2: dilation[1],
        12: dilation[0],
        3: stride[1],
        13: stride[0],
        4: padding[1],
        14: padding[0],
        15: padding[1],
        16: padding[0],
        5: 1,
        6: weight.size,
    }
    kind = "Convolution"
    if groups > 1:
        keys[7], kind = groups, "ConvolutionDepthWise"
    return f"{kind} {name} 1 1 {source} {target} " + " ".join(f"{key}={value}" for key, value in keys.items())


def forward(layer: Layer, data: ConvData, threads: int) -> Contenders:
    if data.x.dtype != np.float32:
        raise Unsupported("it computes in float32 only")
    if layer.rank != 2:
        raise Unsupported("its networks here are made of images only")
    if layer.n != 1:
        raise Unsupported("it takes one image at a time")
    line = _conv_line(
        "conv",
        "x",
        "y",
        data.w,
        stride=layer.stride,
        dilation=layer.dilation,
        padding=layer.padding,
        groups=layer.groups,
    )
    return _contender(_network([line], 2, [data.w, data.b], threads), data.x[0])


def lenet_inference(state: dict[str, np.ndarray], x: np.ndarray, threads: int) -> Contenders:
    if len(x) != 1:
        raise Unsupported("it takes one image at a time")
    arrays = [state[f"{key}.{part}"] for key in (0, 3, 7, 9, 11) for part in ("weight", "bias")]
    w1, w2, dense = arrays[0], arrays[2], arrays[4::2]
    lines = [
        _conv_line("c1", "x", "a", w1, padding=(2, 2)),
        "ReLU r1 1 1 a b",
        "Pooling p1 1 1 b c 0=0 1=2 2=2",
        _conv_line("c2", "c", "d", w2),
        "ReLU r2 1 1 d e",
        "Pooling p2 1 1 e f 0=0 1=2 2=2",
    ]
    for i, (source, middle, target) in enumerate((("f", "g", "h"), ("h", "i", "j"), ("j", "y", ""))):
        w = dense[i]
        lines.append(f"InnerProduct f{i} 1 1 {source} {middle} 0={len(w)} 1=1 2={w.size}")
        lines += [f"ReLU s{i} 1 1 {middle} {target}"] if target else []
    return _contender(_network(lines, len(lines) + 1, arrays, threads), x[0])
