"""Normalisation layers, in the names, arguments and state of ``torch.nn``."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from cyconv import functional as F
from cyconv._geometry import integer
from cyconv.functional._arrays import any_array
from cyconv.nn._attributes import Buffer, Learned
from cyconv.nn.init import float_dtype
from cyconv.nn.module import Array, Module, Parameter, Pending


def _parameter(shape: Any, dtype: np.dtype[Any], value: float) -> Parameter:
    parameter = Parameter(np.empty(shape, dtype))
    parameter.data.fill(value)
    return parameter


def _data(parameter: Parameter | None) -> Array | None:
    return None if parameter is None else parameter.data


class _Affine(Module):
    """What all of them share: a weight and a bias, or None, and gradients in that order."""

    _makes_gradients = True
    weight: Any = Learned(optional=True)
    bias: Any = Learned(optional=True)

    def _lacking_bias(self) -> str:
        """Return what ``repr`` shows of a layer that has a weight alone."""
        return ", bias=False" if self.bias is None and self.weight is not None else ""

    def _add(self, gradients: tuple[Any, ...], pending: Pending) -> Any:
        found = list(gradients)
        for parameter in (self.bias, self.weight):
            if parameter is not None:
                pending.append((parameter, found.pop()))
        return found[0]


class _ChannelNorm(_Affine):
    """Batch and instance norm: running statistics, and which ranks of input there are."""

    _buffer_names = ("running_mean", "running_var", "num_batches_tracked")
    _ranks: tuple[int, ...] = ()

    running_mean: Any = Buffer(1)
    running_var: Any = Buffer(1)
    num_batches_tracked: Any = Buffer(0)

    def __init__(
        self,
        num_features: int,
        eps: float,
        momentum: float | None,
        affine: bool,
        track_running_stats: bool,
        dtype: DTypeLike,
        bias: bool,
    ) -> None:
        owner = type(self).__name__
        kind = float_dtype(dtype, owner)
        self.num_features = integer(owner, "num_features", num_features, 0)
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        self.weight = _parameter(num_features, kind, 1.0) if affine else None
        self.bias = _parameter(num_features, kind, 0.0) if affine and bias else None
        self.running_mean = self.running_var = self.num_batches_tracked = None
        if track_running_stats:
            self.running_mean = np.empty(num_features, kind)
            self.running_var = np.empty(num_features, kind)
            self.num_batches_tracked = np.empty((), np.int64)
            self.reset_running_stats()

    def reset_running_stats(self) -> None:
        """Set the running mean to 0, the running variance to 1 and the number of batches to 0."""
        for buffer, value in ((self.running_mean, 0), (self.running_var, 1), (self.num_batches_tracked, 0)):
            if buffer is not None:
                buffer.fill(value)

    def _check_rank(self, shape: tuple[int, ...]) -> None:
        if len(shape) not in self._ranks:
            ranks = " or ".join(map(str, self._ranks))
            raise ValueError(f"{type(self).__name__}: input must have {ranks} axes, got shape {shape}")

    def extra_repr(self) -> str:
        """Return the arguments to show in ``repr``."""
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"track_running_stats={self.track_running_stats}{self._lacking_bias()}"
        )


class _BatchNorm(_ChannelNorm):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        dtype: DTypeLike = np.float32,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, dtype, bias)

    def forward(self, input: Any) -> Any:
        """Return the normalised input; in training mode update the running statistics."""
        return self._normalize(input, False)

    def _forward_rectified(self, input: Any) -> Any:
        return self._normalize(input, True)

    def _forward_added(self, input: Any, other: Any, rectified: bool) -> Any:
        """Return the normalised input plus another array, through a ReLU if `rectified`, in one pass over memory."""
        return self._normalize(input, rectified, other)

    def _normalize(self, input: Any, rectified: bool, other: Any = None) -> Any:
        owner = type(self).__name__
        self._check_rank((input if isinstance(input, np.ndarray) else any_array(input, owner, "input")).shape)
        batches = self.num_batches_tracked
        # Without running statistics the batch's are used in eval mode too.
        batch = self.training or self.running_mean is None
        momentum = self.momentum if self.momentum is not None else 0.0
        if self.training and batches is not None and self.momentum is None:
            momentum = 1 / (int(batches) + 1)  # the mean over all batches so far
        output, statistics = F.batch_norm(
            input, self.running_mean, self.running_var, _data(self.weight), _data(self.bias), batch, momentum, self.eps,
            return_statistics=True, rectified=rectified, other=other,
        )  # fmt: skip
        if self.training and batches is not None:
            batches += 1
        # What a ReLU gave that nothing stands before: its gradient and ours are found in one pass.
        joined = (output, self._values()) if rectified and other is None else None
        self._saved = (input, statistics, joined) if self.training else None
        return output

    def _values(self) -> tuple[bytes | None, ...]:
        return tuple(None if p is None else p.data.tobytes() for p in (self.weight, self.bias))

    def _rectified(self, relu: Any) -> bool:
        """Whether what the ReLU remembers is what the last forward pass gave, and would give again, through it."""
        if self._saved is None or self._saved[2] is None or self._saved[2][0] is not relu._saved:
            return False
        return bool(self._saved[2][1] == self._values())

    def _backward(self, grad_output: Any, pending: Pending, input_grad: bool) -> Any:
        return self._differentiate(grad_output, pending, input_grad)

    def _differentiate(
        self, grad_output: Any, pending: Pending, input_grad: bool, rectified: bool = False, ours: bool = False
    ) -> Any:
        """Like `_backward`, of the ReLU behind as well if `rectified`; a gradient that is `ours` is written over."""
        if self._saved is None:
            raise self._nothing_remembered()
        input, statistics, _ = self._saved
        gradients = F.batch_norm_backward(
            grad_output, input, None, None, _data(self.weight), _data(self.bias), True, 0.0, self.eps,
            statistics=statistics, input_grad=input_grad, rectified=rectified, out=grad_output if ours else None,
        )  # fmt: skip
        return self._add(gradients, pending)


_BATCH_NORM = """
    Normalise each channel over the batch and {space}: y = (x - mean) / sqrt(variance + eps) · weight + bias.

    In training mode mean and variance are the batch's, in eval mode the running ones (Ioffe & Szegedy 2015).

    Parameters
    ----------
    num_features : int
        Number of channels.
    eps : float
    momentum : float or None
        How far the running statistics move towards the batch's; None: they are the mean over all batches.
    affine : bool
        False leaves out weight and bias, which are None then.
    track_running_stats : bool
        False: there are none, and the batch's are used in eval mode too.
    dtype : dtype
        float32 or float64.
    bias : bool
        False leaves out the bias alone.

    Attributes
    ----------
    weight, bias : Parameter or None
        Shape (num_features,), first 1 and 0.
    running_mean, running_var, num_batches_tracked : ndarray or None
        State that is not learned. The running variance is the unbiased one.

    Raises
    ------
    ValueError
        In forward: the input has no {shape}, or in training mode one value per channel.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import {name}
    >>> x = 5 + np.random.default_rng(0).standard_normal({example})
    >>> bool(abs({name}(3, dtype="float64")(x).mean()) < 1e-12)
    True
"""


class BatchNorm1d(_BatchNorm):
    __doc__ = _BATCH_NORM.format(
        name="BatchNorm1d", example="(2, 3, 8)", space="the length", shape="shape (N, C) or (N, C, L)"
    )
    _ranks = (2, 3)


class BatchNorm2d(_BatchNorm):
    __doc__ = _BATCH_NORM.format(
        name="BatchNorm2d", example="(2, 3, 8, 8)", space="the pixels", shape="shape (N, C, H, W)"
    )
    _ranks = (4,)


class BatchNorm3d(_BatchNorm):
    __doc__ = _BATCH_NORM.format(
        name="BatchNorm3d", example="(2, 3, 4, 8, 8)", space="the voxels", shape="shape (N, C, D, H, W)"
    )
    _ranks = (5,)


class _InstanceNorm(_ChannelNorm):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        *,
        dtype: DTypeLike = np.float32,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, dtype, bias)

    def forward(self, input: Any) -> Any:
        """Return the normalised input; in training mode update the running statistics, if there are any."""
        x = input if isinstance(input, np.ndarray) else any_array(input, type(self).__name__, "input")
        self._check_rank(x.shape)
        single = x.ndim == self._ranks[0]
        x = x[np.newaxis] if single else x
        self._check_channels(x.shape)
        own = self.training or self.running_mean is None
        output, statistics = F.instance_norm(
            x, self.running_mean, self.running_var, _data(self.weight), _data(self.bias), own,
            0.0 if self.momentum is None else self.momentum, self.eps, return_statistics=True,
        )  # fmt: skip
        self._saved = (x, statistics, single) if self.training else None
        return output[0] if single else output

    def _check_channels(self, shape: tuple[int, ...]) -> None:
        if shape[1] == self.num_features:
            return
        message = f"{type(self).__name__}: input has {shape[1]} channels, num_features is {self.num_features}"
        if self.affine or self.track_running_stats:
            raise ValueError(message)
        warnings.warn(f"{message}; it is not used without affine and track_running_stats", stacklevel=4)

    def _backward(self, grad_output: Any, pending: Pending, input_grad: bool) -> Any:
        if self._saved is None:
            raise self._nothing_remembered()
        x, statistics, single = self._saved
        dy = np.asanyarray(grad_output)
        gradients = F.instance_norm_backward(
            dy[np.newaxis] if single else dy, x, None, None, _data(self.weight), _data(self.bias), True, 0.0, self.eps,
            statistics=statistics, input_grad=input_grad,
        )  # fmt: skip
        dx = self._add(gradients, pending)
        return dx[0] if single and dx is not None else dx


_INSTANCE_NORM = """
    Normalise each channel of each sample over {space}: y = (x - mean) / sqrt(variance + eps) · weight + bias.

    Ulyanov, Vedaldi & Lempitsky 2016.

    Parameters
    ----------
    num_features : int
        Number of channels.
    eps : float
    momentum : float or None
        How far the running statistics move; None: not at all, as in torch.
    affine : bool
        True: with weight and bias.
    track_running_stats : bool
        True: with running statistics, which eval mode uses.
    dtype : dtype
        float32 or float64.
    bias : bool
        False leaves out the bias alone.

    Attributes
    ----------
    weight, bias : Parameter or None
        Shape (num_features,), first 1 and 0.
    running_mean, running_var, num_batches_tracked : ndarray or None
        State that is not learned; the number of batches stays 0, as in torch.

    Raises
    ------
    ValueError
        In forward: the input has no {shape}, or one spatial element.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import {name}
    >>> x = 5 + np.random.default_rng(0).standard_normal({example})
    >>> bool(abs({name}(3, dtype="float64")(x).mean()) < 1e-12)
    True
"""


class InstanceNorm1d(_InstanceNorm):
    __doc__ = _INSTANCE_NORM.format(
        name="InstanceNorm1d", example="(2, 3, 8)", space="its length", shape="shape (N, C, L) or (C, L)"
    )
    _ranks = (2, 3)


class InstanceNorm2d(_InstanceNorm):
    __doc__ = _INSTANCE_NORM.format(
        name="InstanceNorm2d", example="(2, 3, 8, 8)", space="its pixels", shape="shape (N, C, H, W) or (C, H, W)"
    )
    _ranks = (3, 4)


class InstanceNorm3d(_InstanceNorm):
    __doc__ = _INSTANCE_NORM.format(
        name="InstanceNorm3d",
        example="(2, 3, 4, 8, 8)",
        space="its voxels",
        shape="shape (N, C, D, H, W) or (C, D, H, W)",
    )
    _ranks = (4, 5)


class GroupNorm(_Affine):
    """
    Normalise each group of neighbouring channels of each sample (Wu & He 2018).

    Parameters
    ----------
    num_groups : int
        Divides `num_channels`.
    num_channels : int
    eps : float
    affine : bool
        False leaves out weight and bias, which are None then.
    dtype : dtype
        float32 or float64.
    bias : bool
        False leaves out the bias alone.

    Attributes
    ----------
    weight, bias : Parameter or None
        Shape (num_channels,), first 1 and 0.

    Raises
    ------
    ValueError
        If `num_groups` does not divide `num_channels`; in forward, if the input has another number of channels.

    Examples
    --------
    >>> GroupNorm(2, 4)(np.ones((1, 4, 3, 3), np.float32)).shape
    (1, 4, 3, 3)
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        *,
        dtype: DTypeLike = np.float32,
        bias: bool = True,
    ) -> None:
        kind = float_dtype(dtype, "GroupNorm")
        self.num_groups = integer("GroupNorm", "num_groups", num_groups, 1)
        self.num_channels = integer("GroupNorm", "num_channels", num_channels, 1)
        if num_channels % num_groups:
            raise ValueError(f"GroupNorm: num_groups must divide num_channels, {num_channels}, got {num_groups}")
        self.eps = eps
        self.affine = affine
        self.weight = _parameter(num_channels, kind, 1.0) if affine else None
        self.bias = _parameter(num_channels, kind, 0.0) if affine and bias else None

    def forward(self, input: Any) -> Any:
        """Return the normalised input."""
        output, statistics = F.group_norm(
            input, self.num_groups, _data(self.weight), _data(self.bias), self.eps, return_statistics=True
        )
        self._saved = (input, statistics) if self.training else None
        return output

    def _backward(self, grad_output: Any, pending: Pending, input_grad: bool) -> Any:
        if self._saved is None:
            raise self._nothing_remembered()
        input, statistics = self._saved
        gradients = F.group_norm_backward(
            grad_output, input, self.num_groups, _data(self.weight), _data(self.bias), self.eps,
            statistics=statistics, input_grad=input_grad,
        )  # fmt: skip
        return self._add(gradients, pending)

    def extra_repr(self) -> str:
        """Return the arguments to show in ``repr``."""
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}{self._lacking_bias()}"


class LayerNorm(_Affine):
    """
    Normalise over the last axes (Ba, Kiros & Hinton 2016).

    Parameters
    ----------
    normalized_shape : int or sequence of int
        Sizes of the last axes.
    eps : float
    elementwise_affine : bool
        False leaves out weight and bias, which are None then.
    bias : bool
        False leaves out the bias.
    dtype : dtype
        float32 or float64.

    Attributes
    ----------
    weight, bias : Parameter or None
        In the normalized shape, first 1 and 0.

    Raises
    ------
    ValueError
        In forward: the input does not end in the normalized shape.

    Examples
    --------
    >>> LayerNorm((3, 3))(np.ones((1, 4, 3, 3), np.float32)).shape
    (1, 4, 3, 3)
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        *,
        dtype: DTypeLike = np.float32,
    ) -> None:
        kind = float_dtype(dtype, "LayerNorm")
        sizes = tuple(normalized_shape) if isinstance(normalized_shape, Sequence) else (normalized_shape,)
        self.normalized_shape = tuple(integer("LayerNorm", "normalized_shape", size, 1) for size in sizes)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        self.weight = _parameter(self.normalized_shape, kind, 1.0) if elementwise_affine else None
        self.bias = _parameter(self.normalized_shape, kind, 0.0) if elementwise_affine and bias else None

    def forward(self, input: Any) -> Any:
        """Return the normalised input."""
        output, statistics = F.layer_norm(
            input, self.normalized_shape, _data(self.weight), _data(self.bias), self.eps, return_statistics=True
        )
        self._saved = (input, statistics) if self.training else None
        return output

    def _backward(self, grad_output: Any, pending: Pending, input_grad: bool) -> Any:
        if self._saved is None:
            raise self._nothing_remembered()
        input, statistics = self._saved
        gradients = F.layer_norm_backward(
            grad_output, input, self.normalized_shape, _data(self.weight), _data(self.bias), self.eps,
            statistics=statistics, input_grad=input_grad,
        )  # fmt: skip
        return self._add(gradients, pending)

    def extra_repr(self) -> str:
        """Return the arguments to show in ``repr``."""
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class LocalResponseNorm(Module):
    """
    Divide each value by what it and its neighbours in the channels are (Krizhevsky, Sutskever & Hinton 2012).

    Parameters
    ----------
    size : int
        Channels of the sum.
    alpha, beta, k : float
        As in :func:`cyconv.functional.local_response_norm`.

    Raises
    ------
    TypeError, ValueError
        On a call, as :func:`cyconv.functional.local_response_norm`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import LocalResponseNorm
    >>> LocalResponseNorm(3, alpha=3.0, beta=1.0)(np.ones((1, 4, 1))).ravel().round(4).tolist()
    [0.3333, 0.25, 0.25, 0.3333]
    """

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        self.size = integer("LocalResponseNorm", "size", size, 1)
        self.alpha = alpha
        self.beta = beta
        self.k = k

    def forward(self, input: Any) -> Any:
        """Return the normalised input."""
        output = F.local_response_norm(input, self.size, self.alpha, self.beta, self.k)
        self._saved = input if self.training else None
        return output

    def _backward(self, grad_output: Any, pending: Pending, input_grad: bool) -> Any:
        if self._saved is None:
            raise self._nothing_remembered()
        if not input_grad:
            return None
        return F.local_response_norm_backward(grad_output, self._saved, self.size, self.alpha, self.beta, self.k)[0]

    def extra_repr(self) -> str:
        """Return the arguments to show in ``repr``."""
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"
