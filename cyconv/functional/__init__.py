"""The operations on arrays, in the names, argument order and meaning of ``torch.nn.functional``.

Each has a twin ``<name>_backward(grad_output, <the same arguments>)``, which returns a tuple: the gradients of the
array arguments in their order; an argument given as None has no entry.
"""

from ._activation import (
    log_softmax,
    log_softmax_backward,
    relu,
    relu_backward,
    sigmoid,
    sigmoid_backward,
    softmax,
    softmax_backward,
    tanh,
    tanh_backward,
)
from ._conv import ConvLayer, conv1d, conv1d_backward, conv2d, conv2d_backward, conv3d, conv3d_backward
from ._conv import engine as conv_engine
from ._conv_transpose import (
    ConvTransposeLayer,
    conv_transpose1d,
    conv_transpose1d_backward,
    conv_transpose2d,
    conv_transpose2d_backward,
    conv_transpose3d,
    conv_transpose3d_backward,
)
from ._dropout import dropout, dropout_backward
from ._expected import conv_expected_time
from ._layer_norm import layer_norm, layer_norm_backward, local_response_norm, local_response_norm_backward
from ._linear import linear, linear_backward
from ._loss import cross_entropy, cross_entropy_backward, mse_loss, mse_loss_backward, nll_loss, nll_loss_backward
from ._normalization import (
    batch_norm,
    batch_norm_backward,
    batch_norm_scale_shift,
    group_norm,
    group_norm_backward,
    instance_norm,
    instance_norm_backward,
)
from ._pool import avg_pool2d, avg_pool2d_backward, max_pool2d, max_pool2d_backward
from ._shape import flatten, flatten_backward

__all__ = [
    "ConvLayer",
    "conv1d",
    "conv1d_backward",
    "conv2d",
    "conv2d_backward",
    "conv3d",
    "conv3d_backward",
    "ConvTransposeLayer",
    "conv_transpose1d",
    "conv_transpose1d_backward",
    "conv_transpose2d",
    "conv_transpose2d_backward",
    "conv_transpose3d",
    "conv_transpose3d_backward",
    "conv_engine",
    "conv_expected_time",
    "linear",
    "linear_backward",
    "avg_pool2d",
    "avg_pool2d_backward",
    "max_pool2d",
    "max_pool2d_backward",
    "batch_norm",
    "batch_norm_backward",
    "batch_norm_scale_shift",
    "group_norm",
    "group_norm_backward",
    "instance_norm",
    "instance_norm_backward",
    "layer_norm",
    "layer_norm_backward",
    "local_response_norm",
    "local_response_norm_backward",
    "log_softmax",
    "log_softmax_backward",
    "relu",
    "relu_backward",
    "sigmoid",
    "sigmoid_backward",
    "softmax",
    "softmax_backward",
    "tanh",
    "tanh_backward",
    "dropout",
    "dropout_backward",
    "flatten",
    "flatten_backward",
    "cross_entropy",
    "cross_entropy_backward",
    "mse_loss",
    "mse_loss_backward",
    "nll_loss",
    "nll_loss_backward",
]
