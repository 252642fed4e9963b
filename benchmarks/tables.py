"""Markdown tables of a run of compare.py, for docs/performance.md: layers forward and backward, operations, training.

python benchmarks/compare.py --direction both --threads 2 1 --json run.json
python benchmarks/tables.py run.json                        # one line per group of layers; every operation and network
python benchmarks/tables.py run.json more.json              # of several runs, one after the other
python benchmarks/tables.py run.json --groups vgg small     # every layer of these
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

TORCH = ("torch", "torch-cl")
PEERS = {"PyTorch": TORCH, "ONNX Runtime": ("ort",), "OpenVINO": ("openvino",), "ncnn": ("ncnn",)}

Row = dict[str, Any]


def fastest(row: Row, names: Iterable[str]) -> float | None:
    """The least median of these contenders, in seconds."""
    return min((row["medians"][name] for name in names if row["medians"].get(name) is not None), default=None)


def ratio(row: Row, names: Iterable[str], of: str = "cyconv") -> float | None:
    """How many times faster than the fastest of ``names`` a contender is."""
    mine, best = fastest(row, [of]), fastest(row, names)
    return best / mine if mine and best else None


def _mean_and_least(values: Sequence[float]) -> str:
    if not values:
        return "–"
    mean = math.exp(sum(map(math.log, values)) / len(values))
    return f"{mean:.2f} / {min(values):.2f}"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def groups(rows: Sequence[Row]) -> list[str]:
    """One line per group: geometric mean and least ratio to the best peer, to PyTorch, and with new weights."""
    peers = [name for names in PEERS.values() for name in names]
    lines = [
        _line(["group", "layers", "× best peer", "× PyTorch", "new weights × PyTorch", "worst layer"]),
        _line(["---"] * 6),
    ]
    for group in dict.fromkeys(row["group"] for row in rows):
        members = [row for row in rows if row["group"] == group and ratio(row, peers)]
        if not members:
            continue
        cells = [
            _mean_and_least([r for row in members if (r := ratio(row, names, of))])
            for names, of in ((peers, "cyconv"), (TORCH, "cyconv"), (TORCH, "cyconv-fn"))
        ]
        worst = min(members, key=lambda row: ratio(row, peers) or math.inf)["label"]
        lines.append(_line([group, str(len(members)), *cells, worst]))
    return lines


def layers(rows: Sequence[Row]) -> list[str]:
    """One line per layer: milliseconds, and the best peer's time over cyconv's."""
    lines = [_line(["layer", "cyconv", *PEERS, "best peer / cyconv"]), _line(["---"] * (len(PEERS) + 3))]
    for row in rows:
        times = [fastest(row, names) for names in (("cyconv",), *PEERS.values())]
        best = ratio(row, [name for names in PEERS.values() for name in names])
        cells = [f"{1e3 * t:.3g}" if t is not None else "–" for t in times]
        lines.append(_line([row["label"], *cells, f"{best:.2f}" if best else "–"]))
    return lines


def _share(row: Row, name: str) -> str:
    share = row.get("copy shares", {}).get(name)
    return f"{100 * share:.0f} %" if share is not None else "–"


def _cell(value: float | None, form: str = ".2f") -> str:
    return f"{value:{form}}" if value is not None else "–"


def operations(rows: Sequence[Row]) -> list[str]:
    """One line per operation: milliseconds, times PyTorch and share of the speed of copying, in both memory orders."""
    heads = ["operation", "shape", "cyconv", "channels last", "PyTorch", "× PyTorch", "channels last", "of copying"]
    lines = [_line([*heads, "channels last"]), _line(["---"] * (len(heads) + 1))]
    for row in rows:
        times = [fastest(row, names) for names in (("cyconv",), ("cyconv-cl",), TORCH)]
        ratios = [ratio(row, TORCH, of) for of in ("cyconv", "cyconv-cl")]
        shares = [_share(row, name) for name in ("cyconv", "cyconv-cl")]
        milliseconds = [_cell(1e3 * t if t is not None else None, ".3g") for t in times]
        lines.append(_line([row["label"], row["geometry"], *milliseconds, *map(_cell, ratios), *shares]))
    return lines


def networks(rows: Sequence[Row]) -> list[str]:
    """One line per network and batch: milliseconds, times PyTorch, and the peak memory of a training step."""
    heads = ["network", "cyconv", "PyTorch", "× PyTorch", "cyconv MB", "PyTorch MB"]
    lines = [_line(heads), _line(["---"] * len(heads))]
    for row in rows:
        times = [fastest(row, names) for names in (("cyconv",), TORCH)]
        sizes = [[row["memory"][n] for n in names if n in row.get("memory", {})] for names in (("cyconv",), TORCH)]
        cells = [_cell(1e3 * t if t is not None else None, ".3g") for t in times]
        memory = [_cell(min(size) / 1e6 if size else None, ".0f") for size in sizes]
        lines.append(_line([f"{row['group']}, {row['label']}", *cells, _cell(ratio(row, TORCH)), *memory]))
    return lines


def sections(rows: Sequence[Row]) -> list[str]:
    """A table for each kind of work, direction, dtype and number of threads that the run has."""
    makes = {"convolution": groups, "operation": operations, "training": networks, "inference": networks}
    text: list[str] = []
    keys = dict.fromkeys((r["kind"], r["direction"], r["dtype"], r["threads"]) for r in rows if r["kind"] in makes)
    for kind, direction, dtype, threads in sorted(keys, key=lambda key: (list(makes).index(key[0]), *key[1:])):
        some = [
            r
            for r in rows
            if (r["kind"], r["direction"], r["dtype"], r["threads"]) == (kind, direction, dtype, threads)
        ]
        what = f"{kind}, {direction}" if kind in ("convolution", "operation") else kind
        text += [f"**{what}, {dtype}, {threads} thread{'s' if threads > 1 else ''}**", "", *makes[kind](some), ""]
    return text


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables; the exit status is 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="run", help="what compare.py --json wrote")
    parser.add_argument("--groups", nargs="+", metavar="GROUP", help="every layer of these groups")
    args = parser.parse_args(argv)
    rows = [row for run in args.runs for row in json.loads(run.read_text())["rows"]]
    if args.groups:
        rows = [row for row in rows if row["group"] in args.groups]
    print("\n".join(layers(rows) if args.groups else sections(rows)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
