"""Calls of drawn geometries: what hypothesis draws, and the one check that all of them must pass.

A `Call` is small, shrinks to few and plain arguments, and its repr is the line that repeats it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import strategies as st
from tolerances import assert_close

from cyconv import functional as F
from cyconv import reference
from cyconv._geometry import conv_geometry
from cyconv._transposed_geometry import conv_transpose_geometry

try:
    import torch

    torch.set_num_threads(1)  # arrays this small only wait for threads
except ImportError:
    torch = None  # type: ignore[assignment]

DTYPES = ("float32", "float64")
ORDERS = ("C", "channels-last")
#: Rows of the table of tolerances for the results and for the gradients of a family; of others "sum" for both.
ALGORITHMS = {
    **dict.fromkeys(("max_pool", "adaptive_max_pool", "global_max_pool", "fractional_max_pool"), ("exact", "sum")),
    **dict.fromkeys(("max_unpool", "unfold", "unfold_backward"), ("exact", "sum")),
    **dict.fromkeys(("pixel_shuffle", "pixel_unshuffle", "channel_shuffle"), ("exact", "exact")),
    **dict.fromkeys(("flatten", "unflatten"), ("exact", "exact")),
    **dict.fromkeys(("conv", "conv_transpose"), ("winograd_f4", "winograd_f4")),
    **dict.fromkeys(("linear", "prelu"), ("direct", "direct")),
    **dict.fromkeys(("batch_norm", "group_norm", "instance_norm", "layer_norm"), ("normalization", "normalization")),
}
#: How many calls of each function were compared with torch, which refuses some of what the oracle computes.
compared: Counter[str] = Counter()


def in_order(x: Any, order: str, rank: int) -> Any:
    """Return ``x``, the channels of which stand before ``rank`` spatial dimensions, in that memory order."""
    if order == "C" or x.ndim <= rank or rank < 1:
        return x if x.ndim == 0 else np.ascontiguousarray(x)
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, -rank - 1, -1)), -1, -rank - 1)


def values(shape: tuple[int, ...], kind: Any, dtype: str, seed: int) -> Any:
    """Return an array of that shape.

    `kind` is "normal"; "ties", few values; "positive", "uniform" in (0, 1); a number: integers below that; (n,):
    different ones in each row of pixels; or a tuple whose first is a label.
    """
    rng = np.random.default_rng([seed, *shape])
    if isinstance(kind, int):
        return rng.integers(0, kind, shape)
    if isinstance(kind, tuple):
        (pixels,) = kind
        front, back = shape[:2], shape[2:]
        places = [rng.permutation(pixels)[: int(np.prod(back))] for _ in range(int(np.prod(front)))]
        return np.array(places, np.int64).reshape(shape)
    if kind == "ties":
        return rng.integers(-3, 4, shape).astype(dtype)
    if kind == "uniform":
        return rng.uniform(0.1, 0.9, shape).astype(dtype)
    drawn = rng.standard_normal(shape)
    return np.asarray(np.abs(drawn) + 0.1 if kind == "positive" else drawn, dtype)


@dataclass(frozen=True)
class Call:
    """One call of a function; the arrays follow from it.

    Attributes
    ----------
    name : str
        Function of `cyconv.functional`.
    shapes : dict
        Shape of each array argument by its name, in their order; a gradient is asked for all that are not `fixed`.
    how : dict
        The other arguments.
    kinds : dict
        What `values` makes of an array; those not named are normal.
    rank : int
        Spatial dimensions of the first array, which lies in memory in that `order`.
    theirs : bool
        Whether torch can do it.
    """

    name: str
    shapes: dict[str, tuple[int, ...]]
    how: dict[str, Any] = field(default_factory=dict)
    kinds: dict[str, Any] = field(default_factory=dict)
    fixed: tuple[str, ...] = ()
    rank: int = 0
    dtype: str = "float32"
    order: str = "C"
    theirs: bool = True

    def __repr__(self) -> str:
        """Only what differs from a plain call, as it can be typed."""
        plain = {"how": {}, "kinds": {}, "fixed": (), "rank": 0, "dtype": "float32", "order": "C", "theirs": True}
        rest = (f"{key}={value!r}" for key, value in vars(self).items() if key in plain and value != plain[key])
        return f"Call({', '.join((repr(self.name), repr(self.shapes), *rest))})"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """In one line, where hypothesis would break it."""
        printer.text(repr(self))

    @property
    def family(self) -> str:
        """Name of the function without its rank."""
        return re.sub(r"\dd$", "", self.name)

    def arrays(self) -> dict[str, Any]:
        """Return fresh arrays."""
        found = {
            key: values(shape, self.kinds.get(key, "normal"), self.dtype, seed)
            for seed, (key, shape) in enumerate(self.shapes.items())
        }
        first = next(iter(found))
        found[first] = in_order(found[first], self.order, self.rank)
        return found

    def check(self) -> None:
        """Result, gradients and what is changed in place against the oracle, and torch; the memory order of results."""
        try:
            self._check()
        except Exception as error:
            raise AssertionError(f"{error}\nagain: {self!r}.check()") from error

    def _check(self) -> None:
        forward, backward = ALGORITHMS.get(self.family, ("sum", "sum"))
        ours, oracles = self.arrays(), self.arrays()
        wanted = getattr(reference, self.name)(**oracles, **self.how)
        got = getattr(F, self.name)(**ours, **self.how)
        scale = None if forward == "exact" else max(float(np.abs(wanted).max(initial=0)), 1.0)
        assert_close(got, wanted, algorithm=forward, scale=scale)
        self._assert_same(ours, oracles)
        dy = in_order(values(np.shape(wanted), "normal", self.dtype, 9), self.order, self._rank_of(wanted))
        expected = getattr(reference, f"{self.name}_backward")(dy, **self.arrays(), **self.how)
        gradients = getattr(F, f"{self.name}_backward")(dy, **self.arrays(), **self.how)
        assert len(gradients) == len(expected) == len(self.shapes) - len(self.fixed)
        for mine, other in zip(gradients, expected, strict=True):
            assert_close(mine, other, algorithm=backward, scale=self._scale(other, dy))
        first = next(iter(ours.values()))
        for result in (got, gradients[0]):
            self._assert_order(result, first)
        if torch is not None and self.theirs and 0 not in first.shape:
            self._check_torch(got, ours, dy, gradients)

    def _check_torch(self, got: Any, changed: dict[str, Any], dy: Any, gradients: tuple[Any, ...]) -> None:
        # In C order: of torch's own ways through other orders some are wrong (instance_norm with a bias alone).
        tensors = {key: torch.tensor(x.copy("C")) for key, x in self.arrays().items()}
        for key, tensor in tensors.items():
            tensor.requires_grad_(key not in self.fixed)
        function = THEIRS.get(self.family, _same_name)
        try:
            y = function(self, tensors)
        except RuntimeError as error:
            if re.search(REFUSALS, str(error)):
                return
            raise
        compared[self.family] += 1
        row = "normalization" if self.family not in ("conv", "conv_transpose") else "winograd_f4"
        theirs = y.detach().numpy()
        exact = ALGORITHMS.get(self.family, ("sum",))[0] == "exact"
        # Both have rounding errors; those of torch's float32 are up to ten times ours.
        wider = 10 if y.itemsize == 4 else 1
        scale = max(float(np.abs(theirs).max(initial=0)), 1.0) * wider
        assert_close(got, theirs, algorithm="exact" if exact else row, scale=None if exact else scale)
        self._assert_same(changed, {key: tensor.detach().numpy() for key, tensor in tensors.items()})
        y.backward(torch.tensor(dy.copy("C")))
        found = [tensor.grad.numpy() for key, tensor in tensors.items() if key not in self.fixed]
        for mine, other in zip(gradients, found, strict=True):
            assert_close(mine, other, algorithm=row, scale=self._scale(other, dy) * wider)

    def _rank_of(self, y: Any) -> int:
        return self.rank if np.ndim(y) > self.rank else 0

    def _scale(self, gradient: Any, dy: Any) -> float:
        """Sums of terms that cancel: relative to the largest of the terms, not to what is left of them.

        The terms are products with weights, or quotients by deviations, of ten at the most.
        """
        least = float(np.abs(dy).max(initial=0))
        if self.family in ("conv", "conv_transpose", "linear") or self.family.endswith("_norm"):
            least *= 10
        return max(float(np.abs(gradient).max(initial=0)), least)

    def _assert_same(self, ours: dict[str, Any], theirs: dict[str, Any]) -> None:
        for key in self.fixed:
            if ours[key].dtype == self.dtype:
                assert_close(ours[key], theirs[key], algorithm="normalization")

    def _assert_order(self, result: Any, first: Any) -> None:
        """A result has the memory order of the input, where it can be told from the other one."""
        if (
            self.order == "C"
            or self.rank == 0
            or result.ndim != first.ndim
            or self.family in ("unfold", "fold", "layer_norm")
        ):
            return
        if min((*result.shape[-self.rank - 1 :], *first.shape[-self.rank - 1 :])) > 1 and result.size:
            channels_last = np.moveaxis(result, -self.rank - 1, -1)
            assert channels_last.flags.c_contiguous, f"strides {result.strides} of a result of shape {result.shape}"


# ------------------------------------------------------------------------------------------------------------- torch

#: What torch says of calls that mean something here: of windows that nothing fills, of arrays without elements.
REFUSALS = (
    r"pad should be at most half of|pad should be smaller than or equal to half|Output size is too small"
    r"|smaller than kernel size|Kernel size can't be greater|non-empty|expected .* to have non-zero size"
    r"|fractional_max_pool3d_out\(\): pool \w+ \d+ too large relative to input"
)


def _same_name(call: Call, tensors: dict[str, Any]) -> Any:
    return getattr(torch.nn.functional, call.name)(**tensors, **call.how)


def _flattened(call: Call, tensors: dict[str, Any]) -> Any:
    return getattr(torch, call.name)(**tensors, **call.how)


def _sides(padding: Any) -> list[int]:
    """Return pairs as `torch.nn.functional.pad` wants them: those of the last dimension first."""
    return [side for low_high in reversed(padding) for side in low_high]


def _padded_first(call: Call, tensors: dict[str, Any]) -> Any:
    """A convolution with whatever padding, as torch's users write it."""
    rank, shapes = call.rank, call.shapes
    how = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, "padding_mode": "zeros", **call.how}
    mode = how.pop("padding_mode")
    if mode == "zeros" and how["padding"] in ("valid", 0):
        return _same_name(Call(call.name, shapes, how), tensors)
    order = ("stride", "padding", "dilation", "groups")
    sizes = (shapes["input"], shapes["weight"], None)
    geometry = conv_geometry(call.name, rank, *sizes, *(how[key] for key in order), mode)
    padded = torch.nn.functional.pad(
        tensors["input"], _sides(geometry.padding), mode="constant" if mode == "zeros" else mode
    )
    how["padding"] = 0
    return getattr(torch.nn.functional, call.name)(**{**tensors, "input": padded}, **how)


def _cropped_last(call: Call, tensors: dict[str, Any]) -> Any:
    """A transposed convolution without padding, of which padding takes off, and to which output_padding adds."""
    how = {"stride": 1, "padding": 0, "output_padding": 0, "groups": 1, "dilation": 1, **call.how}
    sizes = (call.shapes["input"], call.shapes["weight"], None)
    order = ("stride", "padding", "output_padding", "groups", "dilation")
    geometry = conv_transpose_geometry(call.name, call.rank, *sizes, *(how[key] for key in order), "zeros", None)
    inner = {key: how[key] for key in ("stride", "groups", "dilation")}
    full = getattr(torch.nn.functional, call.name)(tensors["input"], tensors["weight"], **inner)
    pairs = [
        (-low, more - high)
        for (low, high), more in zip(geometry.convolution.padding, geometry.output_padding, strict=True)
    ]
    y = torch.nn.functional.pad(full, _sides(pairs))
    return y + tensors["bias"].reshape(-1, *[1] * call.rank) if "bias" in tensors else y


THEIRS: dict[str, Callable[[Call, dict[str, Any]], Any]] = {
    "conv": _padded_first,
    "conv_transpose": _cropped_last,
    "flatten": _flattened,
    "unflatten": _flattened,
}

# -------------------------------------------------------------------------------------------------------- strategies

#: What stands before the spatial dimensions: (N, C), or (C,) of one example, or an empty batch.
fronts = st.sampled_from([(2, 3), (1, 17), (3,), (0, 2), (1, 1)])
batches = st.sampled_from([(2,), (1,), (), (0,), (3,)])
memory = st.fixed_dictionaries({"dtype": st.sampled_from(DTYPES), "order": st.sampled_from(ORDERS)})
ranks = st.integers(1, 3)


def each(rank: int, low: int, high: int) -> Any:
    """Draw one number for each dimension."""
    return st.tuples(*[st.integers(low, high)] * rank)


@st.composite
def one_or_each(draw: Any, numbers: tuple[int, ...]) -> Any:
    """Equal numbers as one, or not."""
    return numbers[0] if len(set(numbers)) == 1 and draw(st.booleans()) else numbers


@st.composite
def windows(draw: Any, rank: int, *, dilated: bool, padded: bool = True) -> Any:
    """Draw (spatial sizes, arguments) of windows that fit, with at most half of a window in the padding."""
    kernel, stride = draw(each(rank, 1, 4)), draw(each(rank, 1, 3))
    dilation = draw(each(rank, 1, 2)) if dilated else (1,) * rank
    padding = tuple(draw(st.integers(0, k // 2)) if padded else 0 for k in kernel)
    least = [max(d * (k - 1) + 1 - 2 * p, 1) for k, p, d in zip(kernel, padding, dilation, strict=True)]
    sizes = tuple(n + draw(st.integers(0, 5)) for n in least)
    how = {"kernel_size": kernel, "stride": stride}
    how |= {"padding": padding} if padded else {}
    how |= {"dilation": dilation} if dilated else {}
    return sizes, {key: draw(one_or_each(value)) for key, value in how.items()}
