"""Measure cyconv beside PyTorch, ONNX Runtime, OpenVINO and ncnn in one run, answers checked first.

    python benchmarks/compare.py                               everything but gradients of layers; two threads
    python benchmarks/compare.py --groups vgg small --quick    a first look
    python benchmarks/compare.py --layers 'resnet.* b1$' --direction both --threads 2 1 --json out.json

Contenders take turns: in every round each of them, in an order drawn anew, is left to settle, warmed up and timed over
some 20 ms of calls; the table shows medians over the rounds. Each library gets its input in the form it likes best and
may leave its result in its own; cyconv takes and gives plain NCHW arrays. A library that is not installed is left out.
The exit status is 1 when any answer differed from the float64 computation (that contender is not timed), else 0.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if not __package__:  # run as a script: this folder is the package `benchmarks`, and the checkout stays off the path
    _here = Path(__file__).resolve().parent
    _spec = importlib.util.spec_from_file_location(
        "benchmarks", _here / "__init__.py", submodule_search_locations=[str(_here)]
    )
    assert _spec is not None
    sys.modules["benchmarks"] = importlib.util.module_from_spec(_spec)

from benchmarks import contest, layers, machine, memory, networks, operations, peers, report, roofline, timing

OVERHEAD = layers.CALL.group
OTHERS = (OVERHEAD, *operations.GROUPS, *networks.NETWORKS)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    about = __doc__ or ""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", metavar="REGEX", help="only layers and operations whose name matches")
    parser.add_argument(
        "--groups",
        nargs="+",
        metavar="GROUP",
        choices=[*layers.GROUPS, *OTHERS],
        help=f"only these: {', '.join((*layers.GROUPS, *OTHERS))} (default: all)",
    )
    parser.add_argument("--direction", choices=("forward", "backward", "both"), default="forward")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--threads", type=int, nargs="+", default=[2], help="for every contender (default: 2)")
    parser.add_argument("--algorithm", default="auto", help="force cyconv's algorithm (default: auto)")
    parser.add_argument("--peers", nargs="+", choices=peers.PEERS, help="only these libraries")
    parser.add_argument("--quick", action="store_true", help="three short rounds")
    parser.add_argument("--rounds", type=int, help="how many rounds (default: 7, quick: 3; 0: check the answers only)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write everything measured, and the machine")
    parser.add_argument("--list", action="store_true", help="print the layers and stop")
    args = parser.parse_args(argv)
    if min(args.threads) < 1 or (args.rounds is not None and args.rounds < 0):
        parser.error("--threads must be at least 1, --rounds at least 0")
    return args


class Run:
    """One run: what it measures with, and the rows so far."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        effort = timing.QUICK if args.quick else timing.FULL
        self.effort = effort if args.rounds is None else dataclasses.replace(effort, rounds=args.rounds)
        self.modules, self.missing = peers.load(args.peers)
        self.names = report.present(self.modules)
        self.roofline = roofline.Roofline(args.dtype)
        self.handovers: list[float] = []
        self.rows: list[contest.Row] = []

    def look_at_machine(self) -> str:
        """FMA peak and speed of copying (the highest seen so far count), and hand-over time now."""
        text = [self.roofline.look(threads) for threads in self.args.threads]
        handover = machine.handover_ns()
        if handover is not None:
            self.handovers.append(handover)
            text.append(f"a cache line passes from core to core in {handover:.0f} ns")
        busy = machine.busy_elsewhere()
        if busy is not None and busy > 0.1:
            text.append(f"WARNING: other processes keep {busy:.1f} CPUs busy, which spoils the figures")
        return "; ".join(text)

    def group(self, group: str, chosen: list[layers.Layer], direction: str) -> None:
        args = self.args
        print(f"\n== {group}, {direction}, {args.dtype}\n   {self.look_at_machine()}", flush=True)
        known = self.names if direction == "forward" else ["cyconv", *report.TORCH]
        if args.dtype == "float64":  # the other peers compute in float32 only
            known = [n for n in known if n.startswith("cyconv") or n in report.TORCH]
        names = [n for n in self.names if n in known]
        many = len(args.threads) > 1
        width = report.geometry_width(layer.geometry for layer in chosen)
        print(("thr " if many else "") + report.header(names, width))
        rows = []
        for layer in chosen:
            for row in contest.conv(
                layer, direction, args.dtype, args.threads, self.modules, self.effort, args.algorithm
            ):
                prefix = f"{row.threads:<4}" if many else ""
                print(prefix + report.line(row, names, self.roofline, width), flush=True)
                rows.append(row)
        self.rows += rows
        self._summarise(group, rows, layers.goal(group, direction), direction)

    def _summarise(self, title: str, rows: list[contest.Row], goal: layers.Goal | None, direction: str) -> None:
        for threads in self.args.threads:
            in_force = goal and report.goal_in_force(goal, self.args.dtype, self.args.algorithm)
            some = [r for r in rows if r.threads == threads]
            print(report.summary(f"{title}, {direction}, {threads} threads", some, in_force, self.roofline))

    def operations(self, group: str, chosen: list[operations.Operation], direction: str) -> None:
        args = self.args
        print(f"\n== {group}, {direction}, {args.dtype}\n   {self.look_at_machine()}", flush=True)
        many = len(args.threads) > 1
        width = report.geometry_width(what.geometry for what in chosen)
        print(("thr " if many else "") + report.operation_header(width))
        rows = []
        for what in chosen:
            for row in contest.operation(what, direction, args.dtype, args.threads, self.modules, self.effort):
                print((f"{row.threads:<4}" if many else "") + report.operation_line(row, width), flush=True)
                rows.append(row)
        self.rows += rows
        for threads in args.threads:
            some = [row for row in rows if row.threads == threads]
            print(report.operation_summary(f"{group}, {direction}, {threads} threads", some))

    def network(self, network: networks.Network) -> None:
        """Training steps, their memory (unless this is a quick look), and LeNet-5's inference."""
        print(f"\n== {network.name}, float32\n   {self.look_at_machine()}")
        train, infers = ("cyconv", *report.TORCH), network.name == networks.LENET.name
        names = [n for n in self.names if n in train or (infers and not n.startswith("cyconv"))]
        for threads in self.args.threads:
            print(f"{threads} threads\n{report.header(names, network=True)}", flush=True)
            rows = []
            for batch in network.batches:
                row = contest.training(network, batch, threads, self.modules, self.effort)
                if self.effort.rounds >= timing.FULL.rounds:
                    self._measure_memory(row, network)
                rows.append(row)
                print(report.line(row, names), flush=True)
            for batch in networks.INFERENCE_BATCHES if infers else ():
                rows.append(contest.lenet_inference(batch, threads, self.modules, self.effort))
                print(report.line(rows[-1], names), flush=True)
            self.rows += rows
            print(report.network_summary(rows))

    def _measure_memory(self, row: contest.Row, network: networks.Network) -> None:
        for name in row.samples:
            try:
                row.memory[name] = memory.measure(name, network, row.images, row.threads)
            except (RuntimeError, OSError, subprocess.SubprocessError) as error:
                row.notes[f"{name}, memory"] = str(error)

    def overhead(self) -> None:
        args = self.args
        print(f"\n== {OVERHEAD}, {args.dtype}\n   {self.look_at_machine()}", flush=True)
        for threads in args.threads:
            row = contest.overhead(args.dtype, threads, self.modules, self.effort, args.algorithm)
            print(report.overhead(row, peers.NAMES), flush=True)
            self.rows.append(row)

    def finish(self) -> int:
        """The summary over all layers; 1 where an answer was wrong."""
        print("\n== all")
        for direction in ("forward", "backward"):
            rows = [r for r in self.rows if r.direction == direction and r.kind == "convolution"]
            for title, goals, belongs in report.TOGETHER:
                some = [r for r in rows if belongs(r)]
                if some:
                    self._summarise(title, some, goals.get(direction), direction)
        scaling = report.scaling_summary(report.scaling(self.rows))
        print("\n".join(x for x in (scaling, report.missing(self.rows)) if x))
        if self.handovers:
            low, high = min(self.handovers), max(self.handovers)
            print(
                f"hand-over between cores: {low:.0f} to {high:.0f} ns over the run; where it changes several-fold,"
                " two-thread figures of different groups do not compare"
            )
        if self.args.json:
            self.args.json.write_text(json.dumps(self.as_json(), indent=1))
            print(f"written: {self.args.json}")
        wrong = [(row.label, *item) for row in self.rows for item in row.wrong.items()]
        if wrong:
            print(f"\n{len(wrong)} WRONG ANSWERS", file=sys.stderr)
            for label, name, reason in wrong:
                print(f"  {name}, {label}: {reason}", file=sys.stderr)
        return 1 if wrong else 0

    def as_json(self) -> dict[str, Any]:
        settings = {k: str(v) if isinstance(v, Path) else v for k, v in vars(self.args).items()}
        return {
            "machine": machine.describe(),
            "settings": settings,
            "missing": self.missing,
            "roofline": self.roofline.as_json(),
            "handover ns": self.handovers,
            "rows": [row.as_json() | self.roofline.shares(row).as_json() for row in self.rows],
            "scaling": [dataclasses.asdict(s) | {"ratio": s.ratio} for s in report.scaling(self.rows)],
            "python overhead us": {
                row.threads: 1e6 * outside
                for row in self.rows
                if row.group == OVERHEAD and (outside := row.excess("cyconv", "cyconv-kernel")) is not None
            },
        }


def _list(groups: list[str], chosen: list[layers.Layer], pattern: str | None) -> None:
    for layer in chosen:
        print(f"{layer.group:<13} {layer.label:<27} {layer.geometry:<31} {layer.flops / 1e9:8.3f} GFLOP")
    for group in groups:
        for what in operations.select(pattern, group) if group in operations.GROUPS else ():
            print(f"{group:<13} {what.label:<27} {what.geometry}")


def main(argv: Sequence[str] | None = None) -> int:
    args = _arguments(argv)
    named: list[str] = args.groups or [*layers.GROUPS, *(() if args.layers else OTHERS)]
    of_layers = [g for g in named if g in layers.GROUPS]
    chosen = layers.select(args.layers, of_layers) if of_layers else []
    if args.list:
        _list(named, chosen, args.layers)
        return 0
    run = Run(args)
    about = machine.describe()
    print(f"{about['cpu']['model']}, {len(about['cpus'])} CPUs, {about['cpu'].get('vector extensions', '')}")
    print(", ".join(f"{name} {version}" for name, version in about["versions"].items()))
    for name, reason in run.missing.items():
        print(f"without {name}: {reason}")
    for direction in ("forward", "backward") if args.direction == "both" else (args.direction,):
        for group in named:
            some = [layer for layer in chosen if layer.group == group]
            if some:
                run.group(group, some, direction)
            elif group in operations.GROUPS and (found := operations.select(args.layers, group)):
                run.operations(group, found, direction)
    if OVERHEAD in named:
        run.overhead()
    for name in named if args.dtype == "float32" else ():
        if name in networks.NETWORKS:
            run.network(networks.NETWORKS[name])
    return run.finish()


if __name__ == "__main__":
    sys.exit(main())
