"""The operations on arrays, in the names, argument order and meaning of ``torch.nn.functional``.

Each has a twin ``<name>_backward(grad_output, <the same arguments>)``, which returns a tuple: the gradients of the array
arguments in their order; an argument given as None has no entry.
"""

from ._conv import ConvLayer, conv2d, conv2d_backward
from ._linear import linear, linear_backward

__all__ = [
    "ConvLayer",
    "conv2d",
    "conv2d_backward",
    "linear",
    "linear_backward",
]
