"""Where one algorithm overtakes another: the table from which cyconv/_plan/choice.py takes its constants.

    python benchmarks/crossovers.py                               the whole grid, one thread, some 12 minutes
    python benchmarks/crossovers.py --quick                       a coarse grid, under a minute
    python benchmarks/crossovers.py --channels 64 128-256 --maps 14 28 --threads 1 2 --json out.json

Over a grid of 3x3 convolutions (channels, map size, batch, memory order, dtype; stride 1, or that of ``--stride``) it
times every algorithm that can run, with weights packed before and with weights that are new on every call, and prints a
Markdown table: the times, the fastest, what ``auto`` takes, and the loss of that choice (its time over the fastest).
Then the mean and the worst loss, and the constants of the cost model as least squares of these times beside those in
choice.py, with the losses that the choice would have with them. Each answer is checked against float64 first; the exit
status is 1 when one was wrong, else 0.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import importlib.util
import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

if not __package__:  # run as a script: this folder is the package `benchmarks`, and the checkout stays off the path
    _here = Path(__file__).resolve().parent
    _spec = importlib.util.spec_from_file_location(
        "benchmarks", _here / "__init__.py", submodule_search_locations=[str(_here)]
    )
    assert _spec is not None
    sys.modules["benchmarks"] = importlib.util.module_from_spec(_spec)

from benchmarks import contest, cost_model, layers, machine, oracle, timing
from benchmarks.peers import ConvData
from benchmarks.peers import cyconv as peer

ALGORITHMS = ("direct", "winograd_f2", "winograd_f4", "im2col", "depthwise")
ORDERS = {"nchw": False, "nhwc": True}
WEIGHTS = {"packed": False, "new": True}


@dataclass(frozen=True)
class Grid:
    """What the options leave open."""

    channels: tuple[tuple[int, int], ...]
    depthwise: tuple[int, ...]
    maps: tuple[int, ...]
    batches: tuple[int, ...]
    dtypes: tuple[str, ...]


FULL = Grid(
    ((3, 64), (16, 16), (32, 32), (64, 64), (64, 128), (128, 128), (256, 256), (512, 512), (512, 64)),
    (32, 128, 512),
    (7, 14, 28, 56, 112),
    (1, 16),
    ("float32", "float64"),
)
QUICK = Grid(((16, 16), (64, 64), (256, 256)), (128,), (7, 14, 28, 56), (1,), ("float32",))


@dataclass
class Row:
    """The times of one layer with packed or with new weights, in seconds by algorithm, and what ``auto`` takes."""

    layer: layers.Layer
    order: str
    dtype: str
    weights: str
    threads: int
    chosen: str
    geometry: Any
    samples: dict[str, list[float]]
    disturbed: int = 0
    wrong: dict[str, str] = field(default_factory=dict)

    @property
    def seconds(self) -> dict[str, float]:
        return {name: float(np.median(samples)) for name, samples in self.samples.items()}

    @property
    def fastest(self) -> str:
        times = self.seconds
        return min(times, key=lambda name: times[name])

    def loss(self, chosen: str | None = None) -> float:
        """Time of this algorithm, or of the chosen one, over that of the fastest; infinite where it was not timed."""
        times = self.seconds
        return times.get(chosen or self.chosen, math.inf) / times[self.fastest]

    @property
    def noise(self) -> float:
        """The wider of the interquartile ranges of the chosen and the fastest algorithm, over the median."""
        samples = [self.samples[name] for name in {self.chosen, self.fastest} if name in self.samples]
        return max(float(np.subtract(*np.percentile(s, [75, 25])) / np.median(s)) for s in samples)

    @property
    def place(self) -> str:
        return f"{self.layer.label} {self.order} {self.dtype}, weights {self.weights}"

    def as_markdown(self) -> str:
        layer, times = self.layer, self.seconds
        cells = [
            f"{layer.c}→{layer.k}" + (" depthwise" if layer.groups > 1 else ""),
            *map(str, (layer.size[0], layer.n, self.order, self.dtype, self.weights)),
            *(f"{1e3 * times[name]:.4g}" if name in times else "-" for name in ALGORITHMS),
            self.fastest,
            self.chosen,
            f"{self.loss():.2f}",
            f"{100 * self.noise:.0f} %" + (" !" if self.disturbed else ""),
        ]
        return f"| {' | '.join(cells)} |"

    def as_json(self) -> dict[str, Any]:
        kept = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in ("layer", "geometry")}
        about = {"c": self.layer.c, "k": self.layer.k, "map": self.layer.size[0], "batch": self.layer.n}
        found = {"seconds": self.seconds, "fastest": self.fastest, "loss": self.loss(), "noise": self.noise}
        return about | {"groups": self.layer.groups} | kept | found


HEADER = "\n".join(
    (
        f"| C→K | map | batch | order | dtype | weights | {' | '.join(ALGORITHMS)} | fastest | auto | loss | noise |",
        f"|---|---|---|---|---|---|{'---|' * len(ALGORITHMS)}---|---|---|---|",
    )
)


def _ordered(x: np.ndarray, channels_last: bool) -> np.ndarray:
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1) if channels_last else x


def _engines(geometry: Any, dtype: np.dtype[Any], last: bool) -> Iterator[tuple[str, Any]]:
    """Every algorithm that can compute this, by name."""
    for name in ALGORITHMS:
        try:
            yield name, peer.load().functional.conv_engine(geometry, dtype, last, name)
        except ValueError:
            continue


def measure(layer: layers.Layer, order: str, dtype: str, threads: int, effort: timing.Effort) -> list[Row]:
    """Two rows, weights packed and new; algorithms that answered wrongly are not timed, but named."""
    cyconv, last = peer.load(), ORDERS[order]
    data = ConvData.random(layer, dtype)
    x, w, b = _ordered(data.x, last), data.w, data.b
    conv = peer.module(layer, data)
    geometry = conv._conv.geometry(x.shape, w.shape, conv.bias.shape)
    want = oracle.forward(layer, x, w, b)
    contenders, wrong, alike = {}, {}, set()
    for name, work in _engines(geometry, x.dtype, last):
        packed = work.pack(w)
        error = oracle.relative_error(work.forward(x, w, b, packed), want)
        if not error <= contest.TOLERANCE[dtype, "forward"]:
            wrong[name] = f"error {error:.1e} against float64"
            continue
        for weights, kept in (("packed", packed), ("new", None)):
            if kept is w:  # nothing is packed: one time for both
                alike.add(name)
                continue
            contenders[name, weights] = timing.Contender(
                lambda work=work, kept=kept: work.forward(x, w, b, kept), lambda y: (y,)
            )
    with cyconv.threads(threads):
        timed = timing.measure(contenders, effort, settle=threads > 1)
    rows = []
    for weights, fresh in WEIGHTS.items():
        chosen = cyconv.functional.conv_engine(geometry, x.dtype, last, "auto", fresh).name
        samples = {
            name: timed.samples[name, "new" if name in alike else weights]
            for name in ALGORITHMS
            if (name, "new") in timed.samples
        }
        rows.append(Row(layer, order, dtype, weights, threads, chosen, geometry, samples, timed.disturbed, wrong))
    return rows


def cases(args: argparse.Namespace) -> Iterator[tuple[layers.Layer, str, str]]:
    """(layer, memory order, dtype) over the grid, up to the largest work."""
    pairs = [(c, k, 1) for c, k in args.channels] + [(c, c, c) for c in args.depthwise]
    for dtype in args.dtypes:
        for order in args.orders:
            for c, k, groups in pairs:
                for size in args.maps:
                    for n in args.batches:
                        name = f"{c}-{k} {size}" + (" depthwise" if groups > 1 else "")
                        name += f" s{args.stride}" if args.stride > 1 else ""
                        layer = layers.conv(
                            name, "3x3", c, k, (size, size), 3, stride=args.stride, padding=1, groups=groups, n=n
                        )
                        if layer.flops <= 1e9 * args.max_gflop:
                            yield layer, order, dtype


def _question(row: Row, name: str) -> cost_model.Question:
    lanes = importlib.import_module("cyconv.kernels").load("direct").LANES[np.dtype(row.dtype).char]
    return cost_model.Question(name, row.geometry, lanes, np.dtype(row.dtype).itemsize, WEIGHTS[row.weights])


def fitted(rows: Sequence[Row]) -> cost_model.Fit | None:
    """The constants from all times of these rows that the model has a cost with constants for."""
    pairs = [
        (_question(row, name), seconds)
        for row in rows
        if row.layer.groups == 1
        for name, seconds in row.seconds.items()
    ]
    # Fewer times than unknowns explain nothing.
    if len(pairs) <= len(cost_model.CONSTANTS) + 2:
        return None
    return cost_model.fit(*zip(*pairs, strict=True))


def _chosen_with(row: Row, values: dict[str, float]) -> str:
    """What ``auto`` would take with these constants."""
    plan = importlib.import_module("cyconv._plan")
    question = _question(row, "direct")
    code, last, fresh = np.dtype(row.dtype).char, ORDERS[row.order], question.fresh
    with cost_model.constants(values):
        name: str = plan.choose(row.geometry, code, question.lanes, "high", last, fresh)[0]
    return name


def losses(title: str, rows: Sequence[Row], chosen: Sequence[str]) -> str:
    """Geometric mean and worst of the losses of these choices."""
    found = [(row.loss(name), f"{name} at {row.place}") for row, name in zip(rows, chosen, strict=True)]
    mean, (worst, where) = math.exp(sum(math.log(x) for x, _ in found) / len(found)), max(found)
    return f"| {title} | {len(found)} | {mean:.3f} | {worst:.2f} | {where} | {sum(x > 1.1 for x, _ in found)} |"


def summary(rows: Sequence[Row], fits: dict[str, cost_model.Fit]) -> str:
    """Mean and worst losses: of the choice as it is, and as it would be with the fitted constants."""
    text = ["| loss of the choice | rows | mean | worst | where | above 1.1 |", "|---|---|---|---|---|---|"]
    for weights in WEIGHTS:
        for dtype in dict.fromkeys(row.dtype for row in rows):
            some = [row for row in rows if (row.weights, row.dtype) == (weights, dtype)]
            text.append(losses(f"{dtype}, weights {weights}", some, [row.chosen for row in some]))
    text.append(losses("all", rows, [row.chosen for row in rows]))
    some = [row for row in rows if row.dtype in fits]
    if some:
        names = [_chosen_with(row, fits[row.dtype].usable()) for row in some]
        text.append(losses("all, with the fitted constants", some, names))
    return "\n".join(text)


def _value(x: float) -> str:
    return "not seen" if math.isnan(x) else f"{x:.3g}"


def fit_table(fits: dict[str, cost_model.Fit]) -> str:
    """Each constant: in choice.py, fitted, and the 10 to 90 % of resampled cases."""
    text = [f"| constant | choice.py | {' | '.join(fits)} |", f"|---|---|{'---|' * len(fits)}"]
    for name, value in cost_model.in_force().items():
        cells = [
            f"{_value(f.values[name])} ({_value(f.spread[name][0])} to {_value(f.spread[name][1])})"
            for f in fits.values()
        ]
        text.append(f"| {name} | {value:g} | {' | '.join(cells)} |")
    text.append("")
    for dtype, f in fits.items():
        ratios = ", ".join(f"{name} {ratio:.2f}" for name, ratio in f.ratios.items())
        text.append(
            f"{dtype}: {f.rate / 1e9:.1f} G multiply-adds a second, {1e6 * f.call:.2g} us a call; "
            f"expected times are off by {100 * f.error:.0f} % (root mean square); measured over expected: {ratios}"
        )
    return "\n".join(text)


def _pair(text: str) -> tuple[int, int]:
    c, _, k = text.partition("-")
    return int(c), int(k or c)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", type=_pair, nargs="*", metavar="C[-K]", help="input and output channels")
    parser.add_argument("--depthwise", type=int, nargs="*", metavar="C", help="channels of depthwise layers")
    parser.add_argument("--maps", type=int, nargs="+", metavar="H", help="rows and columns of the input")
    parser.add_argument("--batches", type=int, nargs="+", metavar="N")
    parser.add_argument("--stride", type=int, choices=(1, 2), default=1, help="of all layers (default: 1)")
    parser.add_argument("--orders", nargs="+", choices=tuple(ORDERS), default=tuple(ORDERS))
    parser.add_argument("--dtypes", nargs="+", choices=("float32", "float64"))
    parser.add_argument("--threads", type=int, nargs="+", default=[1], help="a table for each count (default: 1)")
    parser.add_argument("--max-gflop", type=float, default=4.0, help="leave out layers of more work (default: 4)")
    parser.add_argument("--quick", action="store_true", help="a coarse grid, three short rounds")
    parser.add_argument("--rounds", type=int, help="how many rounds (default: 7, quick: 3)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write everything measured, and the machine")
    args = parser.parse_args(argv)
    grid = QUICK if args.quick else FULL
    for name, value in vars(grid).items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    sizes = [*args.threads, *args.maps, *args.batches, *args.depthwise, *(x for pair in args.channels for x in pair)]
    if min(sizes) < 1 or (args.rounds is not None and args.rounds < 1):
        parser.error("threads, rounds and sizes must be at least 1")
    if next(cases(args), None) is None:
        parser.error("no layer is left: name --channels or --depthwise, and look at --max-gflop")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    args = _arguments(argv)
    effort = timing.QUICK if args.quick else timing.FULL
    effort = effort if args.rounds is None else dataclasses.replace(effort, rounds=args.rounds)
    about = machine.describe()
    print(f"{about['cpu']['model']}, {len(about['cpus'])} CPUs, cyconv {about['versions'].get('cyconv', '?')}")
    isa = importlib.import_module("cyconv.kernels").ISA
    print(f"kernels for {isa}; 3x3, stride {args.stride}, padding 1; times in ms")
    everything: list[Row] = []
    tables = {}
    for threads in args.threads:
        print(f"\n{threads} threads\n\n{HEADER}", flush=True)
        rows: list[Row] = []
        for layer, order, dtype in cases(args):
            for row in measure(layer, order, dtype, threads, effort):
                if row.samples:
                    print(row.as_markdown(), flush=True)
                rows.append(row)
        everything += rows
        timed = [row for row in rows if row.samples]
        found = {dtype: fitted([row for row in timed if row.dtype == dtype]) for dtype in args.dtypes}
        fits = {dtype: fit for dtype, fit in found.items() if fit is not None}
        tables[threads] = {dtype: dataclasses.asdict(fit) for dtype, fit in fits.items()}
        if timed:
            print(f"\n{summary(timed, fits)}")
        print(f"\n{fit_table(fits)}" if fits else "\ntoo few times for a fit of the constants")
    if args.json:
        settings = {k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items()}
        rows_json = [row.as_json() for row in everything if row.samples]
        written = {"machine": about, "settings": settings, "rows": rows_json, "constants": cost_model.in_force()}
        args.json.write_text(json.dumps(written | {"fits": tables}, indent=1))
        print(f"\nwritten: {args.json}")
    wrong = {(row.place, *item) for row in everything for item in row.wrong.items()}
    for place, name, reason in sorted(wrong):
        print(f"WRONG {name}, {place}: {reason}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
