"""The table of a network: every layer with its output size and its parameters, and the arithmetic of both."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cyconv._geometry import ConvGeometry
from cyconv._pool_geometry import AdaptiveGeometry, PoolGeometry, adaptive_geometry, pool_geometry
from cyconv._transposed_geometry import ConvTransposeGeometry
from cyconv.nn import (
    Add,
    Concat,
    Concatenate,
    Graph,
    Linear,
    Module,
    Multiply,
    Residual,
    Sequential,
)
from cyconv.nn.adaptive_pooling import CoveringPool
from cyconv.nn.conv import Convolution
from cyconv.nn.pooling import WindowPool

__all__ = ["Row", "Summary", "summary"]

Shape = tuple[int, ...]
Geometry = ConvGeometry | ConvTransposeGeometry | PoolGeometry | AdaptiveGeometry
Inside = Callable[[Any, str, Shape], tuple[Shape, tuple[str, ...]]]


@dataclass(frozen=True)
class Row:
    """
    One layer of a :class:`Summary`.

    Attributes
    ----------
    name : str
        Dotted, as in ``state_dict``.
    layer : str
        Its class, and the size of its kernel; for a node of a graph what it reads, too.
    output : tuple of int
        Shape of its output for one example.
    size : tuple of str
        How height and width came about, (H + 2P − D(K−1) − 1)/S + 1 with numbers; one entry if both agree, none if
        the layer leaves them alone.
    arithmetic : str
        How the number of parameters came about, such as "(1·5·5 + 1)·6"; empty without parameters.
    parameters : int
        Their number; 0 for those of a container, whose layers have rows of their own, and for shared ones that a row
        above has counted.
    """

    name: str
    layer: str
    output: Shape
    size: tuple[str, ...] = ()
    arithmetic: str = ""
    parameters: int = 0


@dataclass(frozen=True)
class Summary:
    """
    A network as a table; ``print`` shows it.

    Attributes
    ----------
    input : tuple of int, or tuple of those
        Shape of one example; of each input, for a graph with several.
    rows : list of Row
        The layers in the order in which data meets them, containers before what they hold.
    parameters : int
        Total number of parameters.
    nbytes : int
        What they take in memory.
    """

    input: Shape | tuple[Shape, ...]
    rows: list[Row]
    parameters: int
    nbytes: int

    def __str__(self) -> str:
        lines = [("layer", "", "output", "(H + 2P − D(K−1) − 1)/S + 1", "parameters", "")]
        for shape in _examples(self.input):
            lines.append(("", "input", _times(shape), "", "", ""))
        for row in self.rows:
            indent = "  " * row.name.count(".")
            size = row.size or ("",)
            count = f"{row.parameters:,}" if row.arithmetic else ""
            lines.append((indent + row.name, indent + row.layer, _times(row.output), size[0], row.arithmetic, count))
            lines.extend(("", "", "", more, "", "") for more in size[1:])
        memory = f"{self.nbytes / 1024:,.0f} KiB" if self.nbytes < 2**20 else f"{self.nbytes / 2**20:,.1f} MiB"
        total = ("", "total", memory, "", "", f"{self.parameters:,}")
        widths = [max(map(len, column)) for column in zip(*lines, total, strict=True)]
        rule = "─" * (sum(widths) + 2 * len(widths) - 2)
        text = [_line(line, widths) for line in lines]
        return "\n".join([text[0], rule, *text[1:], rule, _line(total, widths)])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [cell.ljust(width) for cell, width in zip(cells[:-1], widths, strict=False)]
    return "  ".join([*padded, cells[-1].rjust(widths[-1])]).rstrip()


def _examples(shapes: Any) -> tuple[Shape, ...]:
    """Return the shapes of all inputs, where one stands for itself."""
    return tuple(shapes) if shapes and isinstance(shapes[0], tuple) else (shapes,)


def _times(numbers: Sequence[int]) -> str:
    return " × ".join(map(str, numbers))


# ------------------------------------------------------------------------------------------------ the walk


def summary(model: Module, input_shape: Sequence[int]) -> Summary:
    """
    Follow one example through a network and note sizes and parameters.

    Convolutions and pools are not run, only computed with; any other layer gets zeros in the shape that reaches it,
    in eval mode. A module of one's own that is made of layers is one row. Do not call this between
    ``forward`` and ``backward``: the layers forget what they remembered. Of a network with lazy layers that have not
    seen an input a copy is made, in which they learn from the example; they themselves stay lazy.

    Parameters
    ----------
    model : Module
        Any nesting of layers. Its mode, parameters and buffers stay as they are.
    input_shape : sequence of int, or for a graph with several inputs a sequence of those
        Shape of one example, without the batch: (C, H, W) for images.

    Returns
    -------
    Summary

    Raises
    ------
    TypeError
        If `model` is no layer or `input_shape` no shape.
    ValueError
        If the shape that reaches a layer does not fit it; the message names the layer.

    Examples
    --------
    >>> from cyconv.models import LeNet5
    >>> from cyconv.summary import summary
    >>> table = summary(LeNet5(), (1, 28, 28))
    >>> table.parameters
    61706
    >>> print(table.rows[0].arithmetic, table.rows[0].parameters)
    (1·5·5 + 1)·6 = 156
    """
    if not isinstance(model, Module):
        raise TypeError(f"summary: model must be a Module, got {type(model).__name__}")
    several = isinstance(model, Graph) and len(model.input_names) > 1
    shapes = tuple(_checked(shape) for shape in (input_shape if several else (input_shape,)))
    if isinstance(model, Graph) and len(shapes) != len(model.input_names):
        raise ValueError(f"summary: the graph has the inputs {', '.join(model.input_names)}, got shapes {shapes}")
    if any(module._unknown for module in model.modules()):
        model = copy.deepcopy(model).eval()
        model(*(np.zeros((1, *shape), _dtype(model)) for shape in shapes))
    parameters = list(model.parameters())
    walk = _Walk(parameters[0].dtype if parameters else np.dtype(np.float32))
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        if several and isinstance(model, Graph):
            walk.graph(model, "", shapes)
        else:
            walk.visit(model, "", shapes[0])
    finally:
        for module, mode in modes:
            if module.training != mode:
                module.train(mode)
    return Summary(
        shapes if several else shapes[0], walk.rows, model.num_parameters(), sum(p.data.nbytes for p in parameters)
    )


def _checked(shape: Any) -> Shape:
    try:
        lengths = tuple(operator.index(length) for length in shape)
    except TypeError:
        raise TypeError(
            f"summary: input_shape must be the shape of one example, such as (1, 28, 28), got {shape!r}"
        ) from None
    if min(lengths, default=0) < 1:
        raise ValueError(f"summary: input_shape must be that of one example, lengths of at least 1, got {lengths}")
    return lengths


def _dtype(model: Module) -> Any:
    """Return the dtype of a network's parameters, known or still to be made."""
    for module in model.modules():
        if module._unknown:
            return module._arguments["dtype"]  # type: ignore[attr-defined]
        for _, parameter in module._own_parameters():
            return parameter.dtype
    return np.dtype(np.float32)


class _Walk:
    """The rows so far, and whose parameters they hold."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.rows: list[Row] = []
        self._dtype = dtype
        self._counted: set[int] = set()

    def visit(self, module: Module, name: str, shape: Shape) -> Shape:
        """Add the rows of a module that gets an example of this shape; return the shape of what it gives."""
        # A subclass with a forward of its own may do anything with its children.
        forward = type(module).forward
        if isinstance(module, Sequential) and forward is Sequential.forward:
            return self._container(module, name, shape, self._chain)
        if isinstance(module, Concat) and forward is Concat.forward:
            return self._container(module, name, shape, self._branches)
        if isinstance(module, Residual) and forward is Residual.forward:
            return self._container(module, name, shape, self._sum)
        if isinstance(module, Graph) and forward is Graph.forward:
            return self._container(module, name, shape, self._single)
        return self._layer(module, name, shape)

    def _container(self, module: Any, name: str, shape: Shape, inside: Inside) -> Shape:
        position = len(self.rows)
        output, size = inside(module, name, shape)
        # The network itself needs no row, unless it joins something.
        if name or size:
            self.rows.insert(position, Row(name, type(module).__name__, output, size))
        return output

    def _chain(self, module: Sequential, name: str, shape: Shape) -> tuple[Shape, tuple[str, ...]]:
        for part, child in module.named_children():
            shape = self.visit(child, _join(name, part), shape)
        return shape, ()

    def _branches(self, module: Concat, name: str, shape: Shape) -> tuple[Shape, tuple[str, ...]]:
        outputs = [self.visit(child, _join(name, part), shape) for part, child in module.named_children()]
        first = outputs[0]
        axis = module.dim - 1 if module.dim >= 0 else module.dim + len(first)
        for output in outputs:
            if len(output) != len(first) or any(
                a != b for i, (a, b) in enumerate(zip(output, first, strict=True)) if i != axis
            ):
                shapes = ", ".join(map(str, outputs))
                raise ValueError(f"summary: {name or 'Concat'}: the branches give {shapes}; they do not join")
        sizes = [output[axis] for output in outputs]
        joined = (*first[:axis], sum(sizes), *first[axis + 1 :])
        return joined, (f"{' + '.join(map(str, sizes))} = {sum(sizes)}",)

    def _single(self, module: Graph, name: str, shape: Shape) -> tuple[Shape, tuple[str, ...]]:
        return self.graph(module, name, (shape,)), ()

    def graph(self, module: Graph, name: str, shapes: tuple[Shape, ...]) -> Shape:
        """Add the rows of a graph's nodes in the order in which they run; return the shape of its first output."""
        known = dict(zip(module.input_names, shapes, strict=True))
        for node in module.order:
            layer, sources = module[node], module.sources(node)
            position = len(self.rows)
            inputs = tuple(known[source] for source in sources)
            path = _join(name, node)
            known[node] = self.visit(layer, path, inputs[0]) if len(sources) == 1 else self._joined(layer, path, inputs)
            if position < len(self.rows) and self.rows[position].name == path:
                row = self.rows[position]
                self.rows[position] = replace(row, layer=f"{row.layer} ← {', '.join(sources)}")
        return known[module.output_names[0]]

    def _joined(self, module: Module, name: str, shapes: tuple[Shape, ...]) -> Shape:
        if isinstance(module, Graph):
            self.rows.append(Row(name, type(module).__name__, ()))
            place = len(self.rows) - 1
            given = self.graph(module, name, shapes)
            self.rows[place] = replace(self.rows[place], output=given)
            return given
        kind = type(module).__name__
        try:
            output: Shape = np.shape(module(*(np.zeros((1, *shape), self._dtype) for shape in shapes)))[1:]
        except ValueError as error:
            listed = ", ".join(map(str, shapes))
            raise ValueError(f"summary: layer {name} ({kind}), given examples {listed}: {error}") from error
        size: tuple[str, ...] = ()
        if isinstance(module, Concatenate):
            sizes = [shape[module.dim - 1 if module.dim > 0 else module.dim] for shape in shapes]
            size = (f"{' + '.join(map(str, sizes))} = {sum(sizes)}",)
        elif isinstance(module, Add | Multiply):
            size = ((" + " if isinstance(module, Add) else " · ").join(f"({_times(shape)})" for shape in shapes),)
            size = () if len(set(shapes)) == 1 else size
        self.rows.append(Row(name, kind, output, size, *self._count(module)))
        return output

    def _sum(self, module: Residual, name: str, shape: Shape) -> tuple[Shape, tuple[str, ...]]:
        body = self.visit(module.body, _join(name, "body"), shape)
        short = shape if module.shortcut is None else self.visit(module.shortcut, _join(name, "shortcut"), shape)
        if body != short:
            raise ValueError(f"summary: {name or 'Residual'}: the body gives {body}, the shortcut {short}")
        return body, ("body + shortcut",)

    def _layer(self, module: Module, name: str, shape: Shape) -> Shape:
        kind = type(module).__name__
        try:
            geometry = _geometry(module, (1, *shape))
            if geometry is not None:
                output = geometry.output_shape[1:]
            else:
                output = np.shape(module(np.zeros((1, *shape), self._dtype)))[1:]
        except ValueError as error:
            raise ValueError(f"summary: layer {name} ({kind}), given one example {shape}: {error}") from error
        size: tuple[str, ...] = ()
        if geometry is not None:
            if not isinstance(geometry, AdaptiveGeometry):
                kind += f" {'×'.join(map(str, geometry.kernel))}"
            size = tuple(dict.fromkeys(_formula(geometry, axis) for axis in range(geometry.rank)))
        if isinstance(module, Convolution) and module.groups > 1:
            kind += f", {module.groups} groups"
        if isinstance(module, Convolution) and module.padding_mode != "zeros":
            kind += f", {module.padding_mode}"
        self.rows.append(Row(name, kind, output, size, *self._count(module)))
        return output

    def _count(self, module: Module) -> tuple[str, int]:
        mine = list(module.parameters())
        fresh = [parameter for parameter in mine if id(parameter) not in self._counted]
        self._counted.update(map(id, fresh))
        if mine and not fresh:
            return "shared, counted above", 0
        count = sum(parameter.size for parameter in fresh)
        if isinstance(module, Convolution | Linear) and len(fresh) == len(mine):
            outputs = module.out_channels if isinstance(module, Convolution) else module.out_features
            return f"{_per_output(module)}·{outputs} =", count
        return (" + ".join("·".join(map(str, p.shape)) for p in fresh) + " =" if mine else ""), count


def _join(name: str, part: str) -> str:
    return f"{name}.{part}" if name else part


def _per_output(module: Convolution | Linear) -> str:
    """Return the weights of one output as a product, and its bias."""
    weights = "·".join(map(str, module.weight.shape[1:]))
    if isinstance(module, Convolution):
        inputs = f"{module.in_channels}/{module.groups}" if module.groups > 1 else f"{module.in_channels}"
        weights = "·".join([inputs, *map(str, module.kernel_size)])
    return weights if module.bias is None else f"({weights} + 1)"


def _formula(geometry: Geometry, axis: int) -> str:
    """Write down (H + 2P − D(K−1) − 1)/S + 1 in numbers; brackets say which way a division was rounded. The transposed
    convolution solves it for H."""
    if isinstance(geometry, ConvTransposeGeometry | AdaptiveGeometry):
        return geometry.formula(axis)
    length, (low, high), stride = geometry.input[axis], geometry.padding[axis], geometry.stride[axis]
    if isinstance(geometry, ConvGeometry):
        stride = geometry.asked[axis]
    dilation, kernel, output = geometry.dilation[axis], geometry.kernel[axis], geometry.output[axis]
    padding = f"2·{low}" if low == high else f"{low} + {high}"
    quotient = f"({length} + {padding} − {dilation}·({kernel}−1) − 1)/{stride}"
    whole, rest = divmod(length + low + high - dilation * (kernel - 1) - 1, stride)
    if rest:
        # Rounded up, a pool may lose its last window again: the one that would start behind the input.
        quotient = f"⌊{quotient}⌋" if output == whole + 1 else f"⌈{quotient}⌉"
    return f"{quotient} + 1 = {output}"


def _geometry(module: Module, shape: Shape) -> Geometry | None:
    """Return the sizes of a layer with a window; None for any other."""
    if isinstance(module, Convolution):
        return module._conv.geometry(shape, module.weight.shape, None if module.bias is None else module.bias.shape)
    if isinstance(module, WindowPool):
        return pool_geometry(
            "pool",
            module._rank,
            shape,
            module.kernel_size,
            module.stride,
            module.padding,
            module.dilation,
            module.ceil_mode,
        )
    if isinstance(module, CoveringPool):
        return adaptive_geometry("pool", module._rank, shape, module.output_size)
    return None
