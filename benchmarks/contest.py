"""One contest: every contender is prepared for the same work, its answer checked against float64, and then timed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from types import ModuleType
from typing import Any

import numpy as np

from . import layers, machine, networks, operations, oracle, training_oracle
from .layers import Layer
from .networks import Network
from .operations import Arrays, Operation
from .peers import NAMES, Contenders, ConvData, Unsupported
from .timing import Effort, measure

# Largest error allowed, relative to the largest value of the answer. For peers wide enough for Winograd F(6,3) and too
# narrow for bfloat16 or float16; for cyconv what it promises (gradients add up over more terms than outputs do).
TOLERANCE = {
    ("float32", "peer"): 1e-4,
    ("float32", "forward"): 1e-5,
    ("float32", "backward"): 2e-5,
    ("float64", "peer"): 1e-12,
    ("float64", "forward"): 1e-13,
    ("float64", "backward"): 1e-12,
}


@dataclass
class Row:
    """The result of one contest: seconds per call in each round, errors, and why who is missing.

    ``kind``: "convolution", "operation", "training", "inference" or "overhead".
    """

    group: str
    label: str
    geometry: str
    direction: str
    threads: int
    dtype: str = "float32"
    flops: int = 0
    bytes: int = 0  # of input, output and weights, each once
    images: int = 0
    kind: str = "convolution"
    copying: float | None = None  # bytes a second of a copy of as many bytes, measured beside this contest
    memory: dict[str, int] = field(default_factory=dict)  # bytes that a training step takes, in a process of its own
    samples: dict[str, list[float]] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    disturbed: int = 0  # samples that other processes spoilt
    wrong: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    def time(self, name: str) -> float | None:
        """Median seconds per call."""
        return float(np.median(self.samples[name])) if name in self.samples else None

    def best(self, names: Sequence[str]) -> tuple[str, float] | None:
        """The fastest of these contenders, and its time."""
        times = [(t, name) for name in names if (t := self.time(name)) is not None]
        return min(times)[::-1] if times else None

    def ratio(self, names: Sequence[str], of: str = "cyconv") -> float | None:
        """How many times faster than the fastest of ``names`` this contender is."""
        mine, best = self.time(of), self.best([n for n in names if not n.startswith("cyconv")])
        return best[1] / mine if mine is not None and best is not None else None

    def excess(self, name: str, over: str) -> float | None:
        """The median over the rounds of how many seconds more one contender takes than the other."""
        if name not in self.samples or over not in self.samples:
            return None
        return float(np.median(np.subtract(self.samples[name], self.samples[over])))

    @property
    def noise(self) -> float:
        """The interquartile range relative to the median, of cyconv or of the best peer, whichever is wider."""
        best = self.best([n for n in self.samples if not n.startswith("cyconv")])
        names = {"cyconv", best[0] if best else "cyconv"} & set(self.samples)
        spreads = [np.subtract(*np.percentile(self.samples[n], [75, 25])) / np.median(self.samples[n]) for n in names]
        return float(max(spreads, default=0.0))

    def copy_share(self, name: str) -> float | None:
        """What share of the speed of copying as many bytes a contender reached."""
        seconds = self.time(name)
        return self.bytes / seconds / self.copying if seconds is not None and self.copying else None

    def as_json(self) -> dict[str, Any]:
        medians = {name: self.time(name) for name in self.samples}
        shares = {name: self.copy_share(name) for name in self.samples} if self.copying else {}
        return asdict(self) | {"medians": medians, "noise": self.noise, "copy shares": shares}


Prepare = Callable[[ModuleType], Contenders]
Answers = Callable[[Any], tuple[np.ndarray, ...]]


def _single(contender: Any) -> tuple[np.ndarray, ...]:
    answer: tuple[np.ndarray, ...] = contender.answer()
    return answer


def hold(
    row: Row,
    modules: dict[str, ModuleType],
    prepare: Prepare,
    want: tuple[np.ndarray, ...],
    effort: Effort,
    answers: Answers = _single,
) -> Row:
    """Fill the row. What a contender says (``answers``) must be ``want``, else it is in ``row.wrong`` and not timed."""
    right: Contenders = {}
    for peer, module in modules.items():
        try:
            contenders = prepare(module)
        except Unsupported as reason:
            row.notes[peer] = str(reason)
            continue
        except Exception as error:  # whatever a foreign library throws must not end the run
            (row.wrong if peer == "cyconv" else row.notes)[peer] = f"{type(error).__name__}: {error}"
            continue
        for name, contender in contenders.items():
            tolerance = TOLERANCE[row.dtype, row.direction if peer == "cyconv" else "peer"]
            try:
                pairs = zip(answers(contender), want, strict=True)
                row.errors[name] = max(oracle.relative_error(got, exact) for got, exact in pairs)
            except Exception as error:
                (row.wrong if peer == "cyconv" else row.notes)[name] = f"{type(error).__name__}: {error}"
                continue
            if row.errors[name] <= tolerance:
                right[name] = contender
            else:
                row.wrong[name] = f"error {row.errors[name]:.1e} against float64, {tolerance:.0e} allowed"
    if not effort.rounds:
        return row
    timed = measure({n: right[n] for n in NAMES if n in right}, effort, settle=row.threads > 1)
    row.samples.update(timed.samples)
    row.disturbed = timed.disturbed
    return row


def _prepare_conv(
    direction: str, layer: Layer, data: ConvData, threads: int, algorithm: str, module: ModuleType
) -> Contenders:
    forced = {"algorithm": algorithm} if module.__name__.endswith(".cyconv") else {}
    if layer.transposed and not hasattr(module, "TRANSPOSES"):
        raise Unsupported("transposed convolutions are measured beside PyTorch alone")
    contenders: Contenders = _of(module, direction)(layer, data, threads, **forced)
    return contenders


def _of(module: ModuleType, work: str) -> Any:
    """The function of a peer that does this work."""
    if not hasattr(module, work):
        raise Unsupported(f"it has no {work} here")
    return getattr(module, work)


def conv(
    layer: Layer,
    direction: str,
    dtype: str,
    threads: Sequence[int],
    modules: dict[str, ModuleType],
    effort: Effort,
    algorithm: str = "auto",
) -> list[Row]:
    """A row for each number of threads; ``algorithm`` is cyconv's."""
    data = ConvData.random(layer, dtype)
    if direction == "forward":
        want: tuple[np.ndarray, ...] = (oracle.forward(layer, data.x, data.w, data.b),)
    else:
        want = oracle.backward(layer, data.dy, data.x, data.w)
    flops = layer.flops * (1 if direction == "forward" else 2)
    moved = layer.numbers(direction) * data.x.itemsize
    rows = []
    for count in threads:
        row = Row(layer.group, layer.label, layer.geometry, direction, count, dtype, flops, moved, layer.n)
        prepare = functools.partial(_prepare_conv, direction, layer, data, count, algorithm)
        rows.append(hold(row, modules, prepare, want, effort))
    return rows


def overhead(dtype: str, threads: int, modules: dict[str, ModuleType], effort: Effort, algorithm: str = "auto") -> Row:
    """A call of a layer so small that the call is what costs, and cyconv's kernel without the call around it."""
    layer = layers.CALL
    data = ConvData.random(layer, dtype)

    def prepare(module: ModuleType) -> Contenders:
        contenders = _prepare_conv("forward", layer, data, threads, algorithm, module)
        if module.__name__.endswith(".cyconv"):
            contenders |= module.kernel_alone(layer, data, threads, algorithm=algorithm)
        return contenders

    moved = layer.numbers("forward") * data.x.itemsize
    row = Row(layer.group, layer.label, layer.geometry, "forward", threads, dtype, layer.flops, moved, layer.n)
    row.kind = "overhead"
    return hold(row, modules, prepare, (oracle.forward(layer, data.x, data.w, data.b),), effort)


def operation(
    what: Operation, direction: str, dtype: str, threads: Sequence[int], modules: dict[str, ModuleType], effort: Effort
) -> list[Row]:
    """A row for each number of threads, with the speed of copying as many bytes, before or after, whichever is more."""
    data = Arrays.random(what, dtype)
    want = operations.answer(what, direction, data)
    moved = what.numbers(direction) * data.x.itemsize
    rows = []
    for count in threads:
        row = Row(what.group, what.label, what.geometry, direction, count, dtype, bytes=moved, kind="operation")
        before = machine.copy_bandwidth(count, moved) if effort.rounds else None
        prepare = functools.partial(_prepare_operation, what, direction, data, count)
        rows.append(hold(row, modules, prepare, want, effort))
        after = machine.copy_bandwidth(count, moved) if effort.rounds else None
        row.copying = max((x for x in (before, after) if x is not None), default=None)
    return rows


def _prepare_operation(what: Operation, direction: str, data: Arrays, threads: int, module: ModuleType) -> Contenders:
    contenders: Contenders = _of(module, "operation")(what, direction, data, threads)
    return contenders


def lenet_inference(batch: int, threads: int, modules: dict[str, ModuleType], effort: Effort) -> Row:
    state, x = networks.state(), networks.batches(batch, 1)[0][0]
    row = Row("lenet", f"inference b{batch}", "logits of 1x28x28", "forward", threads, images=batch, kind="inference")
    want = (training_oracle.Reference(state).logits(x),)
    return hold(row, modules, lambda m: _of(m, "lenet_inference")(state, x, threads), want, effort)


@functools.cache
def _losses(network: Network, batch: int) -> np.ndarray:
    """The losses of the first steps in float64; the same for every number of threads."""
    return training_oracle.Reference(networks.state(network), network).losses(networks.batches(batch, network=network))


def training(network: Network, batch: int, threads: int, modules: dict[str, ModuleType], effort: Effort) -> Row:
    """A training step; the losses of the first steps are the answer that is checked."""
    state, data = networks.state(network), networks.batches(batch, network=network)
    row = Row(
        network.name, f"training b{batch}", "SGD step, momentum", "backward", threads, images=batch, kind="training"
    )

    def losses(contender: Any) -> tuple[np.ndarray, ...]:
        return (np.array([float(contender.answer()[0]) for _ in range(network.checked)]),)

    want = (_losses(network, batch),)
    return hold(row, modules, lambda m: _of(m, "training")(network, state, data, threads), want, effort, losses)
