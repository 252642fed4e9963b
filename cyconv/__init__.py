"""Convolutional networks on NumPy arrays, on the CPU.

Layers have the names and meaning of ``torch.nn``, functions those of ``torch.nn.functional``; arrays are NumPy's.
"""

from pathlib import Path as _Path

from ._locate import compiled_package as _compiled_package
from ._version import __version__

# Where the checkout hides the installed package, go on with the installed one.
__path__ = [str(_compiled_package(_Path(__file__).parent, __version__))]

from . import functional, models, nn, optim
from ._config import show_config
from ._explain import explain
from ._serialization import load, save
from ._settings import configure, get_num_threads, set_num_threads, threads
from .nn import (
    ELU,
    GELU,
    SELU,
    AvgPool2d,
    BatchNorm1d,
    BatchNorm2d,
    BatchNorm3d,
    Concat,
    Conv1d,
    Conv2d,
    Conv3d,
    ConvTranspose1d,
    ConvTranspose2d,
    ConvTranspose3d,
    CrossEntropyLoss,
    Dropout,
    Flatten,
    Fold,
    GroupNorm,
    Hardsigmoid,
    Hardswish,
    Hardtanh,
    Identity,
    InstanceNorm1d,
    InstanceNorm2d,
    InstanceNorm3d,
    LayerNorm,
    LeakyReLU,
    Linear,
    LocalResponseNorm,
    LogSoftmax,
    MaxPool2d,
    Mish,
    Module,
    MSELoss,
    NLLLoss,
    Parameter,
    PReLU,
    ReLU,
    ReLU6,
    Residual,
    Sequential,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Softsign,
    Tanh,
    Unfold,
)
from .optim import SGD, Adam, AdamW

__all__ = [
    "__version__",
    # layers
    "AvgPool2d",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "Concat",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "Dropout",
    "ELU",
    "Flatten",
    "GELU",
    "GroupNorm",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "Identity",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LocalResponseNorm",
    "LogSoftmax",
    "MaxPool2d",
    "Unfold",
    "Fold",
    "Mish",
    "Module",
    "PReLU",
    "Parameter",
    "ReLU",
    "ReLU6",
    "Residual",
    "SELU",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Softsign",
    "Tanh",
    # losses
    "CrossEntropyLoss",
    "MSELoss",
    "NLLLoss",
    # optimisers
    "Adam",
    "AdamW",
    "SGD",
    # files
    "load",
    "save",
    # settings
    "configure",
    "explain",
    "get_num_threads",
    "set_num_threads",
    "show_config",
    "threads",
    # rooms
    "functional",
    "models",
    "nn",
    "optim",
]
