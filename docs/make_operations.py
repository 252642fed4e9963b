"""Write docs/operations.md: every operation and layer of cyconv, beside what others call it.

    python docs/make_operations.py           # writes the file
    python docs/make_operations.py --check   # says what is missing, writes nothing

The names of cyconv are read from the code, the other columns are kept here by hand. A name of cyconv that stands in no
row is an error; a row whose names are not in the code is left out. ``{1,2,3}`` stands for three names.
"""

from __future__ import annotations

import itertools
import re
import sys
from pathlib import Path
from typing import NamedTuple

import cyconv
from cyconv import functional, nn

TARGET = Path(__file__).with_name("operations.md")


class Row(NamedTuple):
    """One row: names of cyconv.functional and of cyconv.nn, and what others have; "–" where they have nothing."""

    functions: str
    layers: str
    torch: str
    keras: str
    mlx: str
    jax: str
    onnx: str


HEADER = Row(
    "`cyconv.functional`",
    "`cyconv.nn`",
    "torch (`F` is `torch.nn.functional`, `nn` is `torch.nn`)",
    "Keras 3",
    "MLX (`nn` is `mlx.nn`, `mx` is `mlx.core`)",
    "JAX (`nn` is `flax.linen`)",
    "ONNX",
)

SECTIONS: dict[str, list[Row]] = {
    "Convolution": [
        Row("conv{1,2,3}d", "Conv{1,2,3}d", "F.conv{1,2,3}d nn.Conv{1,2,3}d", "layers.Conv{1,2,3}D",
            "nn.Conv{1,2,3}d", "lax.conv_general_dilated nn.Conv", "Conv"),
        Row("conv_transpose{1,2,3}d", "ConvTranspose{1,2,3}d", "F.conv_transpose{1,2,3}d nn.ConvTranspose{1,2,3}d",
            "layers.Conv{1,2,3}DTranspose", "nn.ConvTranspose{1,2,3}d", "lax.conv_transpose nn.ConvTranspose",
            "ConvTranspose"),
        Row("", "SeparableConv{1,2}d", "–", "layers.SeparableConv{1,2}D", "–", "–", "–"),
        Row("", "SeparableConv3d", "–", "–", "–", "–", "–"),
        Row("", "LazyConv{1,2,3}d", "nn.LazyConv{1,2,3}d", "layers.Conv{1,2,3}D", "–", "nn.Conv", "–"),
        Row("", "LazyConvTranspose{1,2,3}d", "nn.LazyConvTranspose{1,2,3}d", "layers.Conv{1,2,3}DTranspose", "–",
            "nn.ConvTranspose", "–"),
        Row("unfold", "Unfold", "F.unfold nn.Unfold", "ops.image.extract_patches", "–",
            "lax.conv_general_dilated_patches", "–"),
        Row("fold", "Fold", "F.fold nn.Fold", "–", "–", "–", "Col2Im"),
    ],
    "Fully connected": [
        Row("linear", "Linear", "F.linear nn.Linear", "layers.Dense", "nn.Linear", "nn.Dense", "Gemm"),
        Row("", "LazyLinear", "nn.LazyLinear", "layers.Dense", "–", "nn.Dense", "–"),
    ],
    "Pooling": [
        Row("max_pool{1,2,3}d", "MaxPool{1,2,3}d", "F.max_pool{1,2,3}d nn.MaxPool{1,2,3}d",
            "layers.MaxPooling{1,2,3}D", "nn.MaxPool{1,2,3}d", "nn.max_pool lax.reduce_window", "MaxPool"),
        Row("avg_pool{1,2,3}d", "AvgPool{1,2,3}d", "F.avg_pool{1,2,3}d nn.AvgPool{1,2,3}d",
            "layers.AveragePooling{1,2,3}D", "nn.AvgPool{1,2,3}d", "nn.avg_pool lax.reduce_window", "AveragePool"),
        Row("lp_pool{1,2,3}d", "LPPool{1,2,3}d", "F.lp_pool{1,2,3}d nn.LPPool{1,2,3}d", "–", "–", "–", "LpPool"),
        Row("adaptive_avg_pool{1,2,3}d", "AdaptiveAvgPool{1,2,3}d",
            "F.adaptive_avg_pool{1,2,3}d nn.AdaptiveAvgPool{1,2,3}d", "layers.AdaptiveAveragePooling{1,2,3}D", "–",
            "–", "–"),
        Row("adaptive_max_pool{1,2,3}d", "AdaptiveMaxPool{1,2,3}d",
            "F.adaptive_max_pool{1,2,3}d nn.AdaptiveMaxPool{1,2,3}d", "layers.AdaptiveMaxPooling{1,2,3}D", "–", "–",
            "–"),
        Row("global_avg_pool{1,2,3}d", "GlobalAvgPool{1,2,3}d", "–", "layers.GlobalAveragePooling{1,2,3}D",
            "mx.mean", "jnp.mean", "GlobalAveragePool"),
        Row("global_max_pool{1,2,3}d", "GlobalMaxPool{1,2,3}d", "–", "layers.GlobalMaxPooling{1,2,3}D", "mx.max",
            "jnp.max", "GlobalMaxPool"),
        Row("fractional_max_pool{2,3}d", "FractionalMaxPool{2,3}d",
            "F.fractional_max_pool{2,3}d nn.FractionalMaxPool{2,3}d", "–", "–", "–", "–"),
        Row("max_unpool{1,2,3}d", "MaxUnpool{1,2,3}d", "F.max_unpool{1,2,3}d nn.MaxUnpool{1,2,3}d", "–", "–", "–",
            "MaxUnpool"),
    ],
    "Resizing and rearranging": [
        Row("interpolate", "Upsample", "F.interpolate nn.Upsample", "ops.image.resize layers.UpSampling{1,2,3}D",
            "nn.Upsample", "jax.image.resize", "Resize"),
        Row("", "UpsamplingNearest2d", "nn.UpsamplingNearest2d", "layers.UpSampling2D", "nn.Upsample",
            "jax.image.resize", "Resize"),
        Row("", "UpsamplingBilinear2d", "nn.UpsamplingBilinear2d", "–", "nn.Upsample", "–", "Resize"),
        Row("pixel_shuffle", "PixelShuffle", "F.pixel_shuffle nn.PixelShuffle", "ops.depth_to_space", "–", "–",
            "DepthToSpace"),
        Row("pixel_unshuffle", "PixelUnshuffle", "F.pixel_unshuffle nn.PixelUnshuffle", "ops.space_to_depth", "–",
            "–", "SpaceToDepth"),
        Row("channel_shuffle", "ChannelShuffle", "F.channel_shuffle nn.ChannelShuffle", "–", "–", "–", "–"),
        Row("flatten", "Flatten", "flatten nn.Flatten", "layers.Flatten", "mx.flatten", "jnp.reshape", "Flatten"),
        Row("unflatten", "Unflatten", "unflatten nn.Unflatten", "layers.Reshape", "mx.unflatten", "jnp.reshape",
            "Reshape"),
        Row("pad", "", "F.pad", "ops.pad", "mx.pad", "jnp.pad", "Pad"),
        Row("", "ZeroPad{1,2,3}d", "nn.ZeroPad{1,2,3}d", "layers.ZeroPadding{1,2,3}D", "mx.pad", "jnp.pad", "Pad"),
        Row("", "ConstantPad{1,2,3}d", "nn.ConstantPad{1,2,3}d", "ops.pad", "mx.pad", "jnp.pad", "Pad"),
        Row("", "ReflectionPad{1,2,3}d", "nn.ReflectionPad{1,2,3}d", "ops.pad", "–", "jnp.pad", "Pad"),
        Row("", "ReplicationPad{1,2,3}d", "nn.ReplicationPad{1,2,3}d", "–", "mx.pad", "jnp.pad", "Pad"),
        Row("", "CircularPad{1,2,3}d", "nn.CircularPad{1,2,3}d", "–", "–", "jnp.pad", "Pad"),
    ],
    "Normalisation": [
        Row("batch_norm", "BatchNorm{1,2,3}d", "F.batch_norm nn.BatchNorm{1,2,3}d", "layers.BatchNormalization",
            "nn.BatchNorm", "nn.BatchNorm", "BatchNormalization"),
        Row("", "LazyBatchNorm{1,2,3}d", "nn.LazyBatchNorm{1,2,3}d", "layers.BatchNormalization", "–",
            "nn.BatchNorm", "–"),
        Row("instance_norm", "InstanceNorm{1,2,3}d", "F.instance_norm nn.InstanceNorm{1,2,3}d",
            "layers.GroupNormalization", "nn.InstanceNorm", "nn.InstanceNorm", "InstanceNormalization"),
        Row("group_norm", "GroupNorm", "F.group_norm nn.GroupNorm", "layers.GroupNormalization", "nn.GroupNorm",
            "nn.GroupNorm", "GroupNormalization"),
        Row("layer_norm", "LayerNorm", "F.layer_norm nn.LayerNorm", "layers.LayerNormalization", "nn.LayerNorm",
            "nn.LayerNorm", "LayerNormalization"),
        Row("local_response_norm", "LocalResponseNorm", "F.local_response_norm nn.LocalResponseNorm", "–", "–", "–",
            "LRN"),
    ],
    "Activations": [
        Row("relu", "ReLU", "F.relu nn.ReLU", "layers.ReLU", "nn.relu nn.ReLU", "jax.nn.relu", "Relu"),
        Row("relu6", "ReLU6", "F.relu6 nn.ReLU6", "activations.relu6", "nn.relu6 nn.ReLU6", "jax.nn.relu6", "Clip"),
        Row("leaky_relu", "LeakyReLU", "F.leaky_relu nn.LeakyReLU", "layers.LeakyReLU", "nn.leaky_relu nn.LeakyReLU",
            "jax.nn.leaky_relu", "LeakyRelu"),
        Row("prelu", "PReLU", "F.prelu nn.PReLU", "layers.PReLU", "nn.prelu nn.PReLU", "nn.PReLU", "PRelu"),
        Row("elu", "ELU", "F.elu nn.ELU", "layers.ELU", "nn.elu nn.ELU", "jax.nn.elu", "Elu"),
        Row("selu", "SELU", "F.selu nn.SELU", "activations.selu", "nn.selu nn.SELU", "jax.nn.selu", "Selu"),
        Row("gelu", "GELU", "F.gelu nn.GELU", "activations.gelu", "nn.gelu nn.GELU", "jax.nn.gelu", "Gelu"),
        Row("silu", "SiLU", "F.silu nn.SiLU", "activations.silu", "nn.silu nn.SiLU", "jax.nn.silu", "Swish"),
        Row("mish", "Mish", "F.mish nn.Mish", "activations.mish", "nn.mish nn.Mish", "jax.nn.mish", "Mish"),
        Row("hardswish", "Hardswish", "F.hardswish nn.Hardswish", "activations.hard_silu",
            "nn.hardswish nn.Hardswish", "jax.nn.hard_swish", "HardSwish"),
        Row("hardsigmoid", "Hardsigmoid", "F.hardsigmoid nn.Hardsigmoid", "activations.hard_sigmoid", "–",
            "jax.nn.hard_sigmoid", "HardSigmoid"),
        Row("hardtanh", "Hardtanh", "F.hardtanh nn.Hardtanh", "ops.hard_tanh", "nn.hard_tanh nn.HardTanh",
            "jax.nn.hard_tanh", "Clip"),
        Row("softplus", "Softplus", "F.softplus nn.Softplus", "activations.softplus", "nn.softplus nn.Softplus",
            "jax.nn.softplus", "Softplus"),
        Row("softsign", "Softsign", "F.softsign nn.Softsign", "activations.softsign", "nn.softsign nn.Softsign",
            "jax.nn.soft_sign", "Softsign"),
        Row("sigmoid", "Sigmoid", "F.sigmoid nn.Sigmoid", "activations.sigmoid", "nn.sigmoid nn.Sigmoid",
            "jax.nn.sigmoid", "Sigmoid"),
        Row("tanh", "Tanh", "F.tanh nn.Tanh", "activations.tanh", "nn.tanh nn.Tanh", "jax.nn.tanh", "Tanh"),
        Row("softmax", "Softmax", "F.softmax nn.Softmax", "layers.Softmax", "nn.softmax nn.Softmax",
            "jax.nn.softmax", "Softmax"),
        Row("log_softmax", "LogSoftmax", "F.log_softmax nn.LogSoftmax", "activations.log_softmax",
            "nn.log_softmax nn.LogSoftmax", "jax.nn.log_softmax", "LogSoftmax"),
    ],
    "Dropout": [
        Row("dropout", "Dropout", "F.dropout nn.Dropout", "layers.Dropout", "nn.Dropout", "nn.Dropout", "Dropout"),
        Row("dropout1d", "Dropout1d", "F.dropout1d nn.Dropout1d", "layers.SpatialDropout1D", "–", "nn.Dropout", "–"),
        Row("dropout{2,3}d", "Dropout{2,3}d", "F.dropout{2,3}d nn.Dropout{2,3}d", "layers.SpatialDropout{2,3}D",
            "nn.Dropout{2,3}d", "nn.Dropout", "–"),
        Row("alpha_dropout", "AlphaDropout", "F.alpha_dropout nn.AlphaDropout", "layers.AlphaDropout", "–", "–", "–"),
        Row("feature_alpha_dropout", "FeatureAlphaDropout", "F.feature_alpha_dropout nn.FeatureAlphaDropout", "–",
            "–", "–", "–"),
    ],
    "Losses": [
        Row("cross_entropy", "CrossEntropyLoss", "F.cross_entropy nn.CrossEntropyLoss",
            "losses.CategoricalCrossentropy losses.SparseCategoricalCrossentropy", "nn.losses.cross_entropy",
            "optax.softmax_cross_entropy", "SoftmaxCrossEntropyLoss"),
        Row("nll_loss", "NLLLoss", "F.nll_loss nn.NLLLoss", "–", "nn.losses.nll_loss", "–",
            "NegativeLogLikelihoodLoss"),
        Row("mse_loss", "MSELoss", "F.mse_loss nn.MSELoss", "losses.MeanSquaredError", "nn.losses.mse_loss",
            "optax.squared_error", "–"),
        Row("l1_loss", "L1Loss", "F.l1_loss nn.L1Loss", "losses.MeanAbsoluteError", "nn.losses.l1_loss", "–", "–"),
        Row("smooth_l1_loss", "SmoothL1Loss", "F.smooth_l1_loss nn.SmoothL1Loss", "–", "nn.losses.smooth_l1_loss",
            "–", "–"),
        Row("huber_loss", "HuberLoss", "F.huber_loss nn.HuberLoss", "losses.Huber", "nn.losses.huber_loss",
            "optax.huber_loss", "–"),
        Row("binary_cross_entropy", "BCELoss", "F.binary_cross_entropy nn.BCELoss", "losses.BinaryCrossentropy",
            "nn.losses.binary_cross_entropy", "–", "–"),
        Row("binary_cross_entropy_with_logits", "BCEWithLogitsLoss",
            "F.binary_cross_entropy_with_logits nn.BCEWithLogitsLoss", "losses.BinaryCrossentropy",
            "nn.losses.binary_cross_entropy", "optax.sigmoid_binary_cross_entropy", "–"),
        Row("kl_div", "KLDivLoss", "F.kl_div nn.KLDivLoss", "losses.KLDivergence", "nn.losses.kl_div_loss",
            "optax.kl_divergence", "–"),
    ],
    "Joining and nesting": [
        Row("add", "Add", "add", "layers.Add", "mx.add", "jnp.add", "Add Sum"),
        Row("multiply", "Multiply", "multiply", "layers.Multiply", "mx.multiply", "jnp.multiply", "Mul"),
        Row("cat", "Concatenate", "cat", "layers.Concatenate", "mx.concatenate", "jnp.concatenate", "Concat"),
        Row("", "Identity", "nn.Identity", "layers.Identity", "nn.Identity", "–", "Identity"),
        Row("", "Sequential", "nn.Sequential", "Sequential", "nn.Sequential", "nn.Sequential", "–"),
        Row("", "Graph", "fx.GraphModule", "Model", "–", "–", "–"),
        Row("", "Residual", "–", "–", "–", "–", "–"),
        Row("", "Concat", "–", "–", "–", "–", "–"),
    ],
}  # fmt: skip


class Feature(NamedTuple):
    """What some have and others lack; the calls of cyconv and torch are made by the tests, in which "–" must fail."""

    what: str
    cyconv: str
    torch: str
    keras: str
    mlx: str
    jax: str
    onnx: str


#: In the calls x is an image (2, 4, 6, 6), w a kernel (4, 4, 3, 3), F and nn the rooms of cyconv, or of torch.
FEATURES = [
    Feature("a gradient by name, without a tape", "F.conv2d_backward(F.conv2d(x, w), x, w)", "–", "–", "–", "–", "–"),
    Feature("examples without a batch dimension", "F.max_pool2d(x[0], 2)", "F.max_pool2d(x[0], 2)", "–", "–",
            "most layers", "–"),
    Feature("convolution, padding by sides", "F.conv2d(x, w, padding=((1, 0), (2, 1)))", "–", "–",
            "`mx.conv_general`", "yes", "yes"),
    Feature('convolution, "same" with any stride', 'F.conv2d(x, w, stride=2, padding="same")', "–", "yes", "–", "yes",
            "yes"),
    Feature('convolution, "same" with the odd pixel first', 'F.conv2d(x, w, padding="same_lower")', "–", "–", "–",
            "`lax`", "yes"),
    Feature("convolution, padding modes", 'nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")',
            'nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")', "–", "–", "circular, reflect", "–"),
    Feature("transposed convolution, padding modes",
            'nn.ConvTranspose2d(4, 4, 3, padding=1, padding_mode="circular")', "–", "–", "–", "circular", "–"),
    Feature("transposed convolution, output_size",
            "nn.ConvTranspose2d(4, 4, 3, stride=2, dtype=x.dtype)(x, output_size=(14, 14))",
            "nn.ConvTranspose2d(4, 4, 3, stride=2, dtype=x.dtype)(x, output_size=(14, 14))", "–", "–", "–",
            "yes"),
    Feature("the algorithm of a convolution by name", 'F.conv2d(x, w, algorithm="direct")', "–", "–", "–", "–", "–"),
    Feature("unfold and fold of signals and volumes", "F.unfold(x[:, :, 0], (2,))", "–", "–", "–", "unfold", "fold"),
    Feature('pooling, "same"', 'F.max_pool2d(x, 3, 2, "same")', "–", "yes", "–", "yes", "yes"),
    Feature("pooling, ceil_mode", "F.max_pool2d(x, 4, 3, ceil_mode=True)", "F.max_pool2d(x, 4, 3, ceil_mode=True)",
            "–", "–", "–", "yes"),
    Feature("pooling, dilated averages", "F.avg_pool2d(x, 2, dilation=2)", "–", "–", "–", "`lax`", "yes"),
    Feature("pooling, the places of maxima", "F.max_pool2d(x, 2, return_indices=True)",
            "F.max_pool2d(x, 2, return_indices=True)", "–", "–", "–", "yes"),
    Feature("pad, negative widths", "F.pad(x, (-1, 2))", "F.pad(x, (-1, 2))", "–", "–", "`lax`", "yes"),
    Feature("resizing, antialiased", 'F.interpolate(x, size=(3, 3), mode="bilinear", antialias=True)',
            'F.interpolate(x, size=(3, 3), mode="bilinear", antialias=True)', "yes", "–", "yes", "yes"),
    Feature("cross-entropy of class probabilities, label smoothing",
            "F.cross_entropy(x[0, 0], x[0, 1], label_smoothing=0.1)",
            "F.cross_entropy(x[0, 0], x[0, 1], label_smoothing=0.1)", "yes", "yes", "yes", "–"),
]  # fmt: skip

INTRODUCTION = """\
# Operations

Every operation of cyconv that has a gradient, and every layer, beside what torch, Keras, MLX, JAX (with Flax, and Optax
for losses) and ONNX have for it. "–" says that there is nothing of its own: most can be composed of other operations.
Made by `python docs/make_operations.py`, which reads the names of cyconv from its code.

Names in one row do the same in principle, not in every argument: padding modes, rounding of sizes and defaults differ.
All operations take float32 and float64, in C-contiguous and in channels-last memory, and have a twin
`<name>_backward`.

- torch: containers other than `Sequential` are written as classes with a `forward`; `Graph` is what `torch.fx` traces.
- Keras: every layer learns its input sizes from the first call, as do Flax's modules; instance normalisation is group
  normalisation with `groups=-1`; `depth_to_space` may order the channels of a block otherwise. Data are channels-last
  by default.
- MLX and JAX: data are channels-last by default; pads and pools over all pixels are functions of arrays.
- ONNX: operators of the default domain; `DepthToSpace` in mode CRD, `SpaceToDepth` orders channels
  otherwise, `Dropout` for inference. Average pooling counts
  no padding by default; before opset 19 the last window of `ceil_mode` was divided by the whole kernel.

Names, argument order, defaults and results of cyconv are torch's. What is not: arguments that only say where a result
is kept or how it is computed (`inplace`, `device`, `foreach`, `fused`) and what torch itself gave up (`size_average`,
`reduce`) do not exist; dtypes are not converted and shapes of losses not broadcast, but refused; `softmax` needs its
`dim`; `dropout2d` takes (C, H, W) for one image, where torch takes it for a batch of signals;
GELU, SiLU, Mish, Hardswish and Softsign of ±∞ are their limits, where torch has NaN (from ∞ · 0), and of NaN the
gradients of ELU and Hardswish are NaN, where torch has those of large numbers.
"""

BEYOND = """\
## What some have and others lack

Padding, memory and arguments where libraries differ most. "yes" and "–" of torch are tried out in the tests.
"""


def expand(names: str) -> list[str]:
    """Return the names in a cell, ``{1,2,3}`` written out."""
    found = []
    for name in names.split():
        parts = re.split(r"\{([^}]*)\}", name)
        choices = [part.split(",") if i % 2 else [part] for i, part in enumerate(parts)]
        found += ["".join(choice) for choice in itertools.product(*choices)]
    return found


def functions() -> set[str]:
    """Return the names of all operations in the code: those that have a gradient."""
    names = set(functional.__all__)
    return {name for name in names if f"{name}_backward" in names}


def layers() -> set[str]:
    """Return the names of all layers in the code."""
    classes = {name: getattr(nn, name) for name in nn.__all__}
    return {
        name
        for name, value in classes.items()
        if isinstance(value, type) and issubclass(value, cyconv.Module) and value is not cyconv.Module
    }


def rows() -> list[Row]:
    """Return all rows that are kept by hand."""
    return [row for section in SECTIONS.values() for row in section]


def missing() -> list[str]:
    """Return the names in the code that stand in no row."""
    kept = {name for row in rows() for name in expand(row.functions) + expand(row.layers)}
    return sorted((functions() | layers()) - kept)


def _cell(names: list[str]) -> str:
    return ", ".join(name if name == "–" else f"`{name}`" for name in names)


def table() -> str:
    """Return the text of the file."""
    lines = [INTRODUCTION]
    have, layered = functions(), layers()
    for section, kept in SECTIONS.items():
        printed = []
        for row in kept:
            mine = [name for name in expand(row.functions) if name in have]
            objects = [name for name in expand(row.layers) if name in layered]
            if mine or objects:
                printed.append([mine, objects, *(expand(cell) for cell in row[2:])])
        if printed:
            lines += [f"## {section}\n", "| " + " | ".join(HEADER) + " |", "|" + " --- |" * len(HEADER)]
            lines += ["| " + " | ".join(_cell(cell) for cell in cells) + " |" for cells in printed]
            lines.append("")
    header = ("", "cyconv", "torch", *(name.partition(" (")[0] for name in HEADER[3:]))
    lines += [BEYOND, "| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    for feature in FEATURES:
        answers = (f"`{feature.cyconv}`", "–" if feature.torch == "–" else "yes", *feature[3:])
        lines.append("| " + " | ".join((feature.what, *answers)) + " |")
    lines.append("")
    return "\n".join(lines)


def main() -> int:
    """Write the file, or only check it."""
    absent = missing()
    if absent:
        print(f"no row in {Path(__file__).name} for: {', '.join(absent)}")
        return 1
    text = table()
    if "--check" in sys.argv[1:]:
        fresh = TARGET.is_file() and TARGET.read_text(encoding="utf-8") == text
        print("up to date" if fresh else f"{TARGET.name} is out of date: run python docs/make_operations.py")
        return 0 if fresh else 1
    TARGET.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
