"""A network as a graph of named nodes."""

from __future__ import annotations

import heapq
import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

import numpy as np

from cyconv.nn._learning import lazy_inside, learning
from cyconv.nn.activation import ReLU
from cyconv.nn.container import _Children, _rectified_step, _refuse_repeats, takes_relu
from cyconv.nn.module import Module, Pending


class _Node(NamedTuple):
    name: str
    layer: Any
    sources: tuple[str, ...]


class _Step(NamedTuple):
    """What forward does for a node. Values have numbers: first the inputs, then the nodes in their order."""

    run: Callable[..., Any]
    sources: tuple[int, ...]
    target: int
    finished: tuple[int, ...]  # values that nobody reads after this


def _names(owner: str, argument: str, value: Any) -> tuple[str, ...]:
    names = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, (list, tuple)) else ()
    if not names or not all(isinstance(name, str) and name for name in names):
        raise TypeError(f"{owner}: {argument} must be a name or a list of names, got {value!r}")
    return names


class Graph(_Children):
    """
    Run layers that are wired by name: any fan-out, several inputs, several outputs.

    Parameters
    ----------
    *nodes : (name, layer, source, ...)
        One tuple for each node: its name, its layer, and the names of the nodes or inputs that the layer is given, in
        the order of its arguments. Nodes may come in any order. Or one dictionary ``{name: (layer, source, ...)}``.
        :class:`Add`, :class:`Multiply` and :class:`Concatenate` join several sources.
    inputs : str or list of str
        Names of the arguments of ``forward``, in their order.
    outputs : str or list of str, optional
        What ``forward`` returns: the value of one node, or for a list a tuple. By default the one node that no other
        reads.

    Raises
    ------
    TypeError
        If a node is no such tuple, a name no string, a layer no layer, or one that does not take so many inputs.
    ValueError
        If a name occurs twice, is unknown or cannot be used, nodes wait for each other in a circle, an input or a node
        is used by nobody, or one layer object stands in two places.

    Notes
    -----
    The names of nodes are the prefixes in ``state_dict``, as in torch. Nodes run in an order in which sources come
    first, and of those that could run next the one that was written first; gradients that meet are added in the
    opposite order, so results are the same bit for bit however often they are computed. What a node gave is forgotten
    as soon as its last reader has run, unless a layer remembers it for ``backward``.

    ``backward`` of a graph with several outputs takes a tuple of gradients, None for an output that has none, and one
    with several inputs returns a tuple, with None for an input that no gradient reaches.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.nn import Add, Conv2d, Graph, ReLU
    >>> block = Graph(
    ...     ("conv1", Conv2d(8, 8, 3, padding=1), "image"),
    ...     ("relu", ReLU(), "conv1"),
    ...     ("conv2", Conv2d(8, 8, 3, padding=1), "relu"),
    ...     ("sum", Add(), "conv2", "image"),
    ...     inputs="image",
    ... )
    >>> block(np.zeros((1, 8, 6, 6), np.float32)).shape
    (1, 8, 6, 6)
    >>> list(block.state_dict())
    ['conv1.weight', 'conv1.bias', 'conv2.weight', 'conv2.bias']
    """

    _inputs: tuple[str, ...] = ()
    _outputs: tuple[str, ...] = ()
    _single_output: bool = True
    _sources: Mapping[str, tuple[str, ...]] = {}
    # Nodes in the order in which they run.
    _order: tuple[str, ...] = ()

    def __init__(self, *nodes: Any, inputs: Any = "input", outputs: Any = None) -> None:
        owner = type(self).__name__
        self._inputs = _names(owner, "inputs", inputs)
        listed = self._listed(nodes)
        self._check_names(listed)
        self._sources = {node.name: node.sources for node in listed}
        self._check_wires(listed)
        self._set_outputs(outputs)
        self._order = self._sorted()
        self._check_use()
        for node in listed:
            self._insert(node.name, node.layer)
        _refuse_repeats(self)

    # ---------------------------------------------------------------- construction

    def _listed(self, nodes: tuple[Any, ...]) -> list[_Node]:
        owner = type(self).__name__
        if len(nodes) == 1 and isinstance(nodes[0], Mapping):
            given: Iterable[Any] = [
                (name, *(node if isinstance(node, (list, tuple)) else (node,))) for name, node in nodes[0].items()
            ]
        else:
            given = nodes
        listed = []
        for position, node in enumerate(given):
            if not isinstance(node, (list, tuple)) or not node:
                raise TypeError(f"{owner}: node {position} must be a tuple (name, layer, source, ...), got {node!r}")
            name, *rest = node
            if not isinstance(name, str):
                raise TypeError(f"{owner}: a name must be a string, got {name!r}")
            if not rest or not isinstance(rest[0], Module):
                got = type(rest[0]).__name__ if rest else "nothing"
                raise TypeError(f"{owner}: node {name!r} must be (name, layer, source, ...), but its layer is {got}")
            for source in rest[1:]:
                if not isinstance(source, str):
                    raise TypeError(f"{owner}: node {name!r}: a source must be the name of a node, got {source!r}")
            listed.append(_Node(name, rest[0], tuple(rest[1:])))
        if not listed:
            raise ValueError(f"{owner}: at least one node is needed")
        return listed

    def _check_names(self, listed: Sequence[_Node]) -> None:
        owner = type(self).__name__
        counts = Counter([*self._inputs, *(node.name for node in listed)])
        for name, count in counts.items():
            if count > 1:
                among = "; the inputs have names of their own" if name in self._inputs else ""
                raise ValueError(f"{owner}: the name {name!r} occurs {count} times{among}")

    def _check_wires(self, listed: Sequence[_Node]) -> None:
        owner = type(self).__name__
        known = {*self._inputs, *self._sources}
        for node in listed:
            kind = type(node.layer).__name__
            if not node.sources:
                raise ValueError(f"{owner}: node {node.name!r} ({kind}) has no source; name what the layer is given")
            for source in node.sources:
                if source not in known:
                    raise ValueError(
                        f"{owner}: node {node.name!r} reads {source!r}, which is no node and no input; "
                        f"there are {', '.join([*self._inputs, *self._sources])}"
                    )
            try:
                inspect.signature(node.layer.forward).bind(*node.sources)
            except TypeError as error:
                raise TypeError(
                    f"{owner}: node {node.name!r}: {kind} does not take {len(node.sources)} inputs "
                    f"({', '.join(node.sources)}): {error}"
                ) from None

    def _set_outputs(self, outputs: Any) -> None:
        owner = type(self).__name__
        if outputs is None:
            read = {source for sources in self._sources.values() for source in sources}
            ends = [name for name in self._sources if name not in read]
            if not ends:
                self._refuse_circle(self._sources)
            if len(ends) > 1:
                raise ValueError(
                    f"{owner}: the nodes {', '.join(ends)} are read by no other; name those that forward "
                    "returns in outputs, and leave out the rest"
                )
            outputs = ends[0]
        self._single_output = isinstance(outputs, str)
        self._outputs = _names(owner, "outputs", outputs)
        for name, count in Counter(self._outputs).items():
            if name not in self._sources:
                kind = "an input, not a node" if name in self._inputs else "no node"
                raise ValueError(
                    f"{owner}: outputs names {name!r}, which is {kind}; there are {', '.join(self._sources)}"
                )
            if count > 1:
                raise ValueError(f"{owner}: outputs names {name!r} {count} times")

    def _sorted(self) -> tuple[str, ...]:
        """Return the nodes so that sources come first; among those that could run, as they were written."""
        written = list(self._sources)
        waiting = {name: {s for s in sources if s in self._sources} for name, sources in self._sources.items()}
        readers: dict[str, list[int]] = {name: [] for name in written}
        for place, name in enumerate(written):
            for source in waiting[name]:
                readers[source].append(place)
        ready = [place for place, name in enumerate(written) if not waiting[name]]
        order = []
        while ready:
            name = written[heapq.heappop(ready)]
            order.append(name)
            for place in readers[name]:
                waiting[written[place]].discard(name)
                if not waiting[written[place]]:
                    heapq.heappush(ready, place)
        if len(order) < len(written):
            self._refuse_circle(name for name in written if waiting[name])
        return tuple(order)

    def _refuse_circle(self, among: Iterable[str]) -> NoReturn:
        """Raise an error that walks round a circle; each of these nodes has a source that is one of them."""
        left = set(among)
        path: list[str] = []
        name = next(name for name in self._sources if name in left)
        while name not in path:
            path.append(name)
            name = next(source for source in self._sources[name] if source in left)
        circle = [*path[path.index(name) :], name]
        raise ValueError(f"{type(self).__name__}: the nodes wait for each other in a circle: {' ← '.join(circle)}")

    def _check_use(self) -> None:
        owner = type(self).__name__
        used = set(self._outputs)
        for name in reversed(self._order):
            if name in used:
                used.update(self._sources[name])
        unused = [name for name in self._sources if name not in used]
        if unused:
            raise ValueError(f"{owner}: no output depends on {', '.join(unused)}; name it in outputs or leave it out")
        unread = [name for name in self._inputs if name not in used]
        if unread:
            raise ValueError(f"{owner}: no node reads the input {', '.join(unread)}")

    # ---------------------------------------------------------------- what is inside

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the arguments of ``forward``."""
        return self._inputs

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the nodes whose values ``forward`` returns."""
        return self._outputs

    @property
    def order(self) -> tuple[str, ...]:
        """Names of the nodes in the order in which they run."""
        return self._order

    def sources(self, name: str) -> tuple[str, ...]:
        """Return the names of what a node reads."""
        if name not in self._sources:
            raise KeyError(f"{type(self).__name__}: there is no node {name!r}")
        return self._sources[name]

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Module) and name not in self._sources:
            raise AttributeError(f"{type(self).__name__}: {name!r} is none of the nodes; make a new Graph with it")
        if name in self._sources and not isinstance(value, Module):
            raise TypeError(f"{type(self).__name__}: node {name!r} must be a layer, got {type(value).__name__}")
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        if name in self._sources:
            raise AttributeError(f"{type(self).__name__}: {name!r} is a node; make a new Graph without it")
        super().__delattr__(name)

    def __getitem__(self, index: Any) -> Any:
        """Return the layer of a node, by its name or by its place among the nodes as they were written."""
        if isinstance(index, str):
            self.sources(index)
            return getattr(self, index)
        if isinstance(index, slice):
            raise TypeError(f"{type(self).__name__}: a part of a graph needs wires of its own; make a new Graph")
        return super().__getitem__(index)

    def __setitem__(self, index: Any, module: Any) -> None:
        """Put another layer at a node, given by its name or by its place."""
        if isinstance(index, str):
            self.sources(index)
            index = list(self._sources).index(index)
        super().__setitem__(index, module)

    def __repr__(self) -> str:
        lines = [f"inputs={', '.join(self._inputs)}; outputs={', '.join(self._outputs)}"]
        for name, child in self.named_children():
            lines.append(f"({name} ← {', '.join(self._sources[name])}): " + repr(child).replace("\n", "\n  "))
        return f"{type(self).__name__}(\n  " + "\n  ".join(lines) + "\n)"

    # ---------------------------------------------------------------- forward and backward

    def _arrange(self) -> tuple[_Step, ...]:
        """Return what forward does, node by node; a ReLU behind a layer that nobody else reads joins its step."""
        place = {name: number for number, name in enumerate((*self._inputs, *self._order))}
        readers = Counter(source for sources in self._sources.values() for source in sources)
        steps: list[_Step] = []
        at: dict[str, int] = {}
        for name in self._order:
            layer, sources = getattr(self, name), self._sources[name]
            before = sources[0]
            alone = len(sources) == 1 and before in at and readers[before] == 1 and before not in self._outputs
            if type(layer) is ReLU and alone and takes_relu(getattr(self, before)):
                index = at[before]
                joined = _rectified_step(getattr(self, before), layer)
                steps[index] = steps[index]._replace(run=joined, target=place[name])
            else:
                index = len(steps)
                steps.append(_Step(layer.forward, tuple(place[source] for source in sources), place[name], ()))
            at[name] = index
        last = {source: number for number, step in enumerate(steps) for source in step.sources}
        kept = {place[name] for name in self._outputs}
        return tuple(
            step._replace(finished=tuple(s for s in dict.fromkeys(step.sources) if last[s] == number and s not in kept))
            for number, step in enumerate(steps)
        )

    def forward(self, *inputs: Any) -> Any:
        """Return the value of the output node, or a tuple for several outputs; one argument for each input."""
        if len(inputs) != len(self._inputs):
            raise TypeError(
                f"{type(self).__name__}: forward takes {len(self._inputs)} inputs ({', '.join(self._inputs)}), "
                f"got {len(inputs)}"
            )
        try:
            if self._steps is None:
                if lazy_inside(self):
                    with learning():
                        return self._run(self._arrange(), inputs)
                self._steps = self._arrange()
            return self._run(self._steps, inputs)
        except BaseException:
            self._forget()
            raise

    def _run(self, steps: tuple[_Step, ...], inputs: tuple[Any, ...]) -> Any:
        values: list[Any] = [*inputs, *[None] * len(self._order)]
        for run, sources, target, finished in steps:
            value = run(*[values[source] for source in sources])
            if isinstance(value, tuple):
                name = self._order[target - len(inputs)]
                raise TypeError(
                    f"{type(self).__name__}: node {name!r} gives {len(value)} values; a node gives one array"
                )
            for source in finished:
                values[source] = None
            values[target] = value
        self._saved = True if self.training else None
        first = len(inputs)
        if self._single_output:
            return values[first + self._order.index(self._outputs[0])]
        return tuple(values[first + self._order.index(name)] for name in self._outputs)

    def _wanted(self, input_grad: bool) -> set[str]:
        """Return the nodes and inputs whose gradients lead to a parameter or are asked for."""
        wanted = set(self._inputs) if input_grad else set()
        for name in self._order:
            if not wanted.isdisjoint(self._sources[name]) or any(True for _ in getattr(self, name).parameters()):
                wanted.add(name)
        return wanted

    def _output_gradients(self, grad_output: Any) -> tuple[Any, ...]:
        if self._single_output:
            return (grad_output,)
        if not isinstance(grad_output, (list, tuple)) or len(grad_output) != len(self._outputs):
            raise TypeError(
                f"{type(self).__name__}: grad_output must be a tuple of {len(self._outputs)} gradients "
                f"({', '.join(self._outputs)}), None for an output without one"
            )
        return tuple(grad_output)

    def _backward(self, grad_output: Any, pending: Pending, input_grad: bool) -> Any:
        if self._saved is None:
            raise self._nothing_remembered()
        gradients: dict[str, Any] = {}
        owned: set[str] = set()

        def arrive(name: str, gradient: Any) -> None:
            if name not in gradients:
                gradients[name] = gradient
                return
            # The first sum is a new array: what arrived may be grad_output itself, or go to several sources.
            gradients[name] = np.add(gradients[name], gradient, out=gradients[name] if name in owned else None)
            owned.add(name)

        for name, gradient in zip(self._outputs, self._output_gradients(grad_output), strict=True):
            if gradient is not None:
                arrive(name, gradient)
        wanted = self._wanted(input_grad)
        for name in reversed(self._order):
            if name not in gradients or name not in wanted:
                continue
            sources = self._sources[name]
            deeper = not wanted.isdisjoint(sources)
            found = getattr(self, name)._backward(gradients.pop(name), pending, deeper)
            if not deeper:
                continue
            parts = (found,) if len(sources) == 1 else found
            if not isinstance(parts, tuple) or len(parts) != len(sources):
                raise TypeError(
                    f"{type(self).__name__}: node {name!r} has {len(sources)} sources, so its backward must return a "
                    f"tuple of {len(sources)} gradients"
                )
            for source, part in zip(sources, parts, strict=True):
                if source in wanted and part is not None:
                    arrive(source, part)
        if not input_grad:
            return None
        results = tuple(gradients.get(name) for name in self._inputs)
        return results[0] if len(results) == 1 else results
