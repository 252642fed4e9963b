"""Layers that learn from their first input how many channels it has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from cyconv.nn._learning import learning
from cyconv.nn.conv import Conv1d, Conv2d, Conv3d
from cyconv.nn.conv_transpose import ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from cyconv.nn.linear import Linear
from cyconv.nn.module import Module, Parameter, UninitializedParameter
from cyconv.nn.normalization import BatchNorm1d, BatchNorm2d, BatchNorm3d

Shape = tuple[int, ...]


class _Lazy(Module):
    """What lazy layers share. With its sizes known, the object becomes a plain layer: its class changes."""

    _becomes: Any  # the class of the plain layer
    _size: str  # the argument that is not known yet
    _arguments: dict[str, Any]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        for base in cls.__mro__[1:]:
            if "_becomes" in vars(base) and "_becomes" not in vars(cls):
                plain = base._becomes.__name__  # type: ignore[attr-defined]
                raise TypeError(
                    f"{cls.__name__}: a lazy layer becomes a {plain} with its first call, and what a class of your own "
                    f"adds would be gone; derive it from {plain}"
                )
        super().__init_subclass__(**kwargs)

    def _start(self, probe: int, **arguments: Any) -> None:
        """Keep the other arguments, checked by a small layer whose unknown size is ``probe``."""
        checked = {name: 0 if name == "rng" else value for name, value in arguments.items()}
        plain = self._becomes(**{self._size: probe}, **checked)
        vars(self).update(vars(plain))
        unknown = [name for name, _ in (*plain._own_parameters(), *plain._own_buffers())]
        for name in unknown:
            setattr(self, name, UninitializedParameter() if isinstance(getattr(plain, name), Parameter) else None)
        vars(self)[self._size] = 0
        self._arguments = arguments
        self._unknown = tuple(unknown)

    def _size_of_input(self, shape: Shape) -> int:
        raise NotImplementedError

    def _size_in_state(self, shapes: dict[str, Shape]) -> int | None:
        raise NotImplementedError

    def _learn(self, size: int) -> Callable[[], None]:
        """Become a plain layer of that size; return a function that undoes it."""
        rng = self._arguments.get("rng")
        drawn = rng.bit_generator.state if isinstance(rng, np.random.Generator) else {}
        before = dict(vars(self))
        lazy = type(self)
        materialized: list[Parameter] = []

        def undo() -> None:
            self.__class__ = lazy
            vars(self).clear()
            vars(self).update(before)
            for parameter in materialized:
                UninitializedParameter.forget(parameter)
            if isinstance(rng, np.random.Generator):
                rng.bit_generator.state = drawn

        try:
            plain = vars(self._becomes(**{self._size: size}, **self._arguments))
            vars(self)[self._size] = plain[self._size]
            for name in self._unknown:
                mine = before[name]
                if isinstance(mine, UninitializedParameter):
                    mine.materialize(plain[name].data)
                    materialized.append(mine)
                elif mine is None and not isinstance(plain[name], Parameter):
                    vars(self)[name] = plain[name]
                # What is neither was put there by the user: a parameter of another layer, or None for a bias.
            del self._arguments, self._unknown
            self.__class__ = self._becomes
        except BaseException:
            undo()
            raise
        return undo

    def _learn_from(self, shapes: dict[str, Shape]) -> list[Callable[[], None]]:
        size = self._size_in_state(shapes)
        return [] if size is None else [self._learn(size)]

    def forward(self, input: Any, *more: Any) -> Any:
        """Learn the sizes from the input, become a plain layer, and run it; if that fails, stay lazy."""
        with learning() as undo:
            _meet(self, input, undo)
            return self.forward(input, *more)  # the class has changed, and with it the method


def _meet(layer: Module, input: Any, undo: list[Callable[[], None]]) -> None:
    """Learn from an input; nothing is left to do where a container still calls the lazy method of a plain layer."""
    if isinstance(layer, _Lazy):
        undo.append(layer._learn(layer._size_of_input(np.shape(input))))


class _LazyProduct(_Lazy):
    """Lazy layers whose ReLU can be applied while the output is at hand."""

    def _forward_rectified(self, input: Any) -> Any:
        with learning() as undo:
            _meet(self, input, undo)
            return self._forward_rectified(input)


class _LazyChannels(_LazyProduct):
    """Lazy convolutions."""

    _size = "in_channels"
    _rank: int

    def _size_of_input(self, shape: Shape) -> int:
        if len(shape) not in (self._rank + 1, self._rank + 2):
            raise ValueError(
                f"{type(self).__name__}: input must have {self._rank + 1} or {self._rank + 2} axes, got shape {shape}"
            )
        return shape[-self._rank - 1]


class _LazyConv(_LazyChannels):
    groups: int

    def __init__(
        self,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        algorithm: str = "auto",
        dtype: DTypeLike = np.float32,
        rng: Any = None,
    ) -> None:
        self._start(
            groups, out_channels=out_channels, kernel_size=kernel_size, stride=stride, padding=padding,
            dilation=dilation, groups=groups, bias=bias, padding_mode=padding_mode, algorithm=algorithm, dtype=dtype,
            rng=rng,
        )  # fmt: skip

    def _size_in_state(self, shapes: dict[str, Shape]) -> int | None:
        weight = shapes.get("weight")
        return None if weight is None else self.groups * (weight[1] if len(weight) > 1 else 1)


class _LazyConvTranspose(_LazyChannels):
    groups: int

    def __init__(
        self,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        padding_mode: str = "zeros",
        *,
        algorithm: str = "auto",
        dtype: DTypeLike = np.float32,
        rng: Any = None,
    ) -> None:
        self._start(
            groups, out_channels=out_channels, kernel_size=kernel_size, stride=stride, padding=padding,
            output_padding=output_padding, groups=groups, bias=bias, dilation=dilation, padding_mode=padding_mode,
            algorithm=algorithm, dtype=dtype, rng=rng,
        )  # fmt: skip

    def _size_in_state(self, shapes: dict[str, Shape]) -> int | None:
        weight = shapes.get("weight")
        return None if weight is None else weight[0] if weight else self.groups


_LAZY = """
    {what} whose {size} is that of the first input.

    Parameters
    ----------
    {arguments}
        As in :class:`{plain}`.

    Raises
    ------
    TypeError, ValueError
        As :class:`{plain}`; in the first call if the input has other than {axes} axes.
    RuntimeError
        The values, shape or dtype of a parameter, or ``state_dict()``, are asked for before the first call.

    Notes
    -----
    With the first call that succeeds, or when ``load_state_dict`` brings the weight, the object becomes a
    :class:`{plain}`, and its parameters, which are the same objects before and after, get their values. Make an
    optimiser after that. If a call fails, the layer is lazy as before, and so are all lazy layers of a container whose
    call fails. A class of your own whose ``forward`` calls several layers keeps those that learnt before one failed.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import Lazy{plain}
    >>> layer = Lazy{plain}({example})
    >>> layer(np.zeros({shape}, np.float32)).shape
    {result}
    >>> type(layer).__name__
    '{plain}'
"""
_CONV = "out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode, algorithm, dtype, rng"
_TRANSPOSE = (
    "out_channels, kernel_size, stride, padding, output_padding, groups, bias, dilation, padding_mode, algorithm, "
    "dtype, rng"
)


def _document(rank: int, plain: str, arguments: str) -> str:
    what = "A transposed convolution" if "Transpose" in plain else "A convolution"
    axes = f"{rank + 1} or {rank + 2}"
    shape, result = (2, 3, *[8] * rank), (2, 4, *[10 if "Transpose" in plain else 6] * rank)
    return _LAZY.format(
        what=what,
        size="number of input channels",
        arguments=arguments,
        plain=plain,
        axes=axes,
        example="4, 3",
        shape=shape,
        result=result,
    )


class LazyConv1d(_LazyConv, Conv1d):
    __doc__ = _document(1, "Conv1d", _CONV)
    _becomes = Conv1d


class LazyConv2d(_LazyConv, Conv2d):
    __doc__ = _document(2, "Conv2d", _CONV)
    _becomes = Conv2d


class LazyConv3d(_LazyConv, Conv3d):
    __doc__ = _document(3, "Conv3d", _CONV)
    _becomes = Conv3d


class LazyConvTranspose1d(_LazyConvTranspose, ConvTranspose1d):
    __doc__ = _document(1, "ConvTranspose1d", _TRANSPOSE)
    _becomes = ConvTranspose1d


class LazyConvTranspose2d(_LazyConvTranspose, ConvTranspose2d):
    __doc__ = _document(2, "ConvTranspose2d", _TRANSPOSE)
    _becomes = ConvTranspose2d


class LazyConvTranspose3d(_LazyConvTranspose, ConvTranspose3d):
    __doc__ = _document(3, "ConvTranspose3d", _TRANSPOSE)
    _becomes = ConvTranspose3d


class LazyLinear(_LazyProduct, Linear):
    __doc__ = _LAZY.format(
        what="A fully connected layer",
        size="length of the last axis",
        arguments="out_features, bias, dtype, rng",
        plain="Linear",
        axes="1 or more",
        example="10",
        shape=(2, 16),
        result=(2, 10),
    )
    _becomes = Linear
    _size = "in_features"

    def __init__(self, out_features: int, bias: bool = True, *, dtype: DTypeLike = np.float32, rng: Any = None) -> None:
        self._start(1, out_features=out_features, bias=bias, dtype=dtype, rng=rng)

    def _size_of_input(self, shape: Shape) -> int:
        if not shape:
            raise ValueError("LazyLinear: input must have an axis, got a single number")
        return shape[-1]

    def _size_in_state(self, shapes: dict[str, Shape]) -> int | None:
        weight = shapes.get("weight")
        return None if weight is None else weight[1] if len(weight) > 1 else 1


class _LazyBatchNorm(_Lazy):
    _size = "num_features"

    def __init__(
        self,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        dtype: DTypeLike = np.float32,
        bias: bool = True,
    ) -> None:
        self._start(
            1,
            eps=eps,
            momentum=momentum,
            affine=affine,
            track_running_stats=track_running_stats,
            dtype=dtype,
            bias=bias,
        )

    def _size_of_input(self, shape: Shape) -> int:
        legal = self._becomes._ranks
        if len(shape) not in legal:
            ranks = " or ".join(map(str, legal))
            raise ValueError(f"{type(self).__name__}: input must have {ranks} axes, got shape {shape}")
        return shape[1]

    def _size_in_state(self, shapes: dict[str, Shape]) -> int | None:
        return next((shape[0] for name, shape in shapes.items() if name != "num_batches_tracked" and shape), None)


_NORM = "eps, momentum, affine, track_running_stats, dtype, bias"


def _document_norm(plain: str, axes: str) -> str:
    shape = (2, 3, *[4] * int(plain[-2]))
    return _LAZY.format(
        what="Batch normalisation",
        size="number of channels",
        arguments=_NORM,
        plain=plain,
        axes=axes,
        example="",
        shape=shape,
        result=shape,
    )


class LazyBatchNorm1d(_LazyBatchNorm, BatchNorm1d):
    __doc__ = _document_norm("BatchNorm1d", "2 or 3")
    _becomes = BatchNorm1d


class LazyBatchNorm2d(_LazyBatchNorm, BatchNorm2d):
    __doc__ = _document_norm("BatchNorm2d", "4")
    _becomes = BatchNorm2d


class LazyBatchNorm3d(_LazyBatchNorm, BatchNorm3d):
    __doc__ = _document_norm("BatchNorm3d", "5")
    _becomes = BatchNorm3d
