"""Layer objects, in the names and meaning of ``torch.nn``."""

from cyconv.nn import init
from cyconv.nn.activation import (
    ELU,
    GELU,
    SELU,
    Hardsigmoid,
    Hardswish,
    Hardtanh,
    LeakyReLU,
    LogSoftmax,
    Mish,
    PReLU,
    ReLU,
    ReLU6,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Softsign,
    Tanh,
)
from cyconv.nn.container import Concat, Residual, Sequential
from cyconv.nn.conv import Conv1d, Conv2d, Conv3d
from cyconv.nn.conv_transpose import ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from cyconv.nn.dropout import Dropout
from cyconv.nn.flatten import Flatten, Identity
from cyconv.nn.linear import Linear
from cyconv.nn.loss import CrossEntropyLoss, MSELoss, NLLLoss
from cyconv.nn.module import Module, Parameter
from cyconv.nn.normalization import (
    BatchNorm1d,
    BatchNorm2d,
    BatchNorm3d,
    GroupNorm,
    InstanceNorm1d,
    InstanceNorm2d,
    InstanceNorm3d,
    LayerNorm,
    LocalResponseNorm,
)
from cyconv.nn.pooling import AvgPool2d, MaxPool2d
from cyconv.nn.unfold import Fold, Unfold

__all__ = [
    "Module",
    "Parameter",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "Linear",
    "MaxPool2d",
    "Unfold",
    "Fold",
    "AvgPool2d",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "GroupNorm",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "LayerNorm",
    "LocalResponseNorm",
    "ReLU",
    "ReLU6",
    "LeakyReLU",
    "ELU",
    "SELU",
    "GELU",
    "SiLU",
    "Mish",
    "Hardswish",
    "Hardsigmoid",
    "Hardtanh",
    "Softplus",
    "Softsign",
    "PReLU",
    "Sigmoid",
    "Tanh",
    "Softmax",
    "LogSoftmax",
    "Flatten",
    "Dropout",
    "Identity",
    "Sequential",
    "Residual",
    "Concat",
    "CrossEntropyLoss",
    "NLLLoss",
    "MSELoss",
    "init",
]
