"""Tables of a run: one line per contest, a summary per group with its goals, and a word on who is missing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from . import layers
from .contest import Row
from .layers import FLOAT64, IMAGE_GOALS, Goal
from .peers import NAMES
from .roofline import Roofline, Shares

TORCH, ORDERS = ("torch", "torch-cl"), ("cyconv", "cyconv-cl")
#: x PyTorch, by network and the work's first word, or by the whole label.
NETWORK_GOALS = {
    ("lenet", "training"): 3.0,
    ("lenet", "inference b1"): 4.0,
    ("lenet", "inference b128"): 2.5,
    ("resnet20", "training"): 2.0,
    ("vgg11", "training"): 2.0,
    ("vgg11-bn", "training"): 2.0,
}
#: Of operations, such as pooling, activations and norms: x PyTorch, and share of the speed of copying, each at least.
OPERATION_GOAL, COPY_GOAL = 1.0, 0.7
OVERHEAD_GOAL = 5.0  # microseconds
SCALING_FLOPS, SCALING_GOAL = 50e6, 1.85  # one thread's time over that of two, above this much work


def _number(value: float | None, form: str = ".2f", width: int = 6) -> str:
    return f"{value:{width}{form}}" if value is not None else "-".rjust(width)


def _percent(share: float | None) -> str:
    return f"{100 * share:5.0f}%" if share is not None else "-".rjust(6)


def _milliseconds(seconds: float | None) -> str:
    if seconds is None:
        return "-".rjust(10)
    digits = 1 if seconds >= 1 else 3 if seconds >= 1e-3 else 4
    return f"{seconds * 1e3:10.{digits}f}"


def present(modules: Iterable[str]) -> list[str]:
    """Names of the contenders that these modules may bring, in the tables' order."""
    brings = {"cyconv": ("cyconv", "cyconv-fn"), "torch": TORCH, "onnxruntime": ("ort",)}
    names = {name for module in modules for name in brings.get(module, (module,))}
    return [name for name in NAMES if name in names]


def geometry_width(geometries: Iterable[str]) -> int:
    """How wide the second column must be."""
    return max(26, *map(len, geometries)) + 1


def header(names: Sequence[str], width: int = 27, network: bool = False) -> str:
    times = "".join(f"{name:>10}" for name in names)
    work = " images/s" if network else "    GF/s   fma   mem  limit "
    return (
        f"{'layer':<27}{'geometry':<{width}}{'' if network else '   GFLOP'}{times}{work}  {'best':<9}{'x best':>6}"
        f"{'x torch':>8}{'' if network else '  fn x t'}{'noise':>7}   (ms)"
    )


def line(row: Row, names: Sequence[str], roofline: Roofline | None = None, width: int = 27) -> str:
    """One contest. ``x best``: how many times the fastest peer cyconv is; ``fn x t``: cyconv-fn to PyTorch."""
    network = row.kind in ("training", "inference")
    peers = [n for n in names if not n.startswith("cyconv")]
    best = row.best(peers)
    leader = "cyconv" if "cyconv" in row.samples else best[0] if best else ""
    time = row.time(leader)
    if network:
        work = _number(row.images / time if time else None, ".0f", 9)
    else:
        shares = roofline.shares(row, leader) if roofline is not None else Shares()
        work = _number(row.flops / time / 1e9 if time else None, ".1f", 8) + _percent(shares.fma)
        work += f"{_percent(shares.memory)}{'*' if shares.cached and shares.memory is not None else ' '}"
        work += f" {shares.limit or '-':<6}"
    text = f"{row.label:<27}{row.geometry:<{width}}" + ("" if network else f"{row.flops / 1e9:8.3g}")
    text += "".join(_milliseconds(row.time(n)) for n in names) + work + f"  {best[0] if best else '-':<9}"
    text += _number(row.ratio(peers)) + _number(row.ratio(TORCH), ".2f", 8)
    text += "" if network else _number(row.ratio(TORCH, "cyconv-fn"), ".2f", 8)
    text += f"{100 * row.noise:6.0f}%" + (f"  ! {row.disturbed} samples disturbed" if row.disturbed else "")
    return text + "".join(f"\n  WRONG {name}: {reason}" for name, reason in row.wrong.items())


def _mean(values: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


def _ratios(rows: Sequence[Row], names: Sequence[str], of: str = "cyconv") -> list[tuple[float, str]]:
    return [(ratio, row.label) for row in rows if (ratio := row.ratio(names, of)) is not None]


def _verdict(value: float, goal: float | None) -> str:
    return "" if goal is None else f" ({'ok' if value >= goal else 'SHORT'}, goal {goal:g})"


def summary(title: str, rows: Sequence[Row], goal: Goal | None, roofline: Roofline | None = None) -> str:
    """Geometric means and worst cases of these contests."""
    text = [f"{title}: {len(rows)} contests"]
    peers = [n for n in NAMES if not n.startswith("cyconv")]
    kinds = [
        ("x best peer", _ratios(rows, peers), goal.mean if goal else None, goal.worst if goal else None),
        ("x PyTorch", _ratios(rows, TORCH), goal.torch_mean if goal else None, goal.torch if goal else None),
        ("functional x PyTorch", _ratios(rows, TORCH, "cyconv-fn"), None, goal.functional if goal else None),
    ]
    for kind, ratios, mean_goal, worst_goal in kinds:
        if ratios:
            mean, (worst, where) = _mean([r for r, _ in ratios]), min(ratios)
            text.append(
                f"  {kind:<21} mean {mean:5.2f}{_verdict(mean, mean_goal)}, worst {worst:5.2f}"
                f"{_verdict(worst, worst_goal)} at {where}, behind on {sum(r < 1 for r, _ in ratios)}"
            )
    shares = [(roofline.shares(row), row.label) for row in rows] if roofline is not None else []
    for kind, found in (
        ("share of FMA peak", [(100 * s.fma, where) for s, where in shares if s.fma is not None]),
        ("share of the limit", [(100 * s.share, f"{where} ({s.limit})") for s, where in shares if s.share is not None]),
    ):
        if found:
            mean, (least, where) = _mean([s for s, _ in found]), min(found)
            text.append(f"  {kind:<21} mean {mean:5.0f} %, least {least:.0f} % at {where}")
    if found:
        text[-1] += f"; memory is the limit of {sum(s.limit == 'memory' for s, _ in shares)} of {len(found)}"
    return "\n".join(text)


def overhead(row: Row, names: Sequence[str]) -> str:
    """Microseconds of each contender for a call, and how many of cyconv's are spent outside its kernel."""
    text = [f"{row.label}  {row.geometry}, {row.dtype}, {row.threads} threads: microseconds a call"]
    for name in names:
        seconds = row.time(name)
        if seconds is not None:
            text.append(f"  {name:<14}{1e6 * seconds:8.2f}")
    outside = row.excess("cyconv", "cyconv-kernel")
    if outside is not None:
        verdict = "ok" if 1e6 * outside < OVERHEAD_GOAL else "LONG"
        text.append(f"  Python around the kernel: {1e6 * outside:.2f} us ({verdict}, goal under {OVERHEAD_GOAL:g})")
    if row.disturbed:
        text.append(f"  ! {row.disturbed} samples disturbed")
    return "\n".join([*text, *(f"  WRONG {name}: {reason}" for name, reason in row.wrong.items())])


def network_summary(rows: Sequence[Row]) -> str:
    """Ratios to PyTorch, and the memory that a training step takes."""
    lines = []
    for row in rows:
        ratio = row.ratio(TORCH)
        goals = (NETWORK_GOALS.get((row.group, key)) for key in (row.label, row.label.split()[0]))
        goal = next((g for g in goals if g is not None), None)
        title = f"  {row.group} {row.label}, {row.threads} threads:"
        if ratio is not None:
            lines.append(f"{title} {ratio:.2f} x PyTorch{_verdict(ratio, goal)}")
        if row.memory:
            each = ", ".join(f"{name} {size / 1e6:.1f}" for name, size in row.memory.items())
            theirs = [size for name, size in row.memory.items() if name in TORCH]
            more = "cyconv" in row.memory and bool(theirs) and row.memory["cyconv"] > min(theirs)
            lines.append(f"{title} peak memory in MB: {each}" + (" (MORE than PyTorch)" if more else ""))
    return "\n".join(lines)


OPERATION_NAMES = (*ORDERS, *TORCH)


def operation_header(width: int) -> str:
    """``copy``: the speed of copying as many bytes; ``mem``: what share of it cyconv reaches; ``x``: times PyTorch."""
    times = "".join(f"{name:>10}" for name in OPERATION_NAMES)
    return f"{'operation':<25}{'shape':<{width}}{times}  copy GB/s   mem mem-cl     x  x-cl  noise   (ms)"


def operation_line(row: Row, width: int) -> str:
    """One operation in both memory orders, each beside the faster of PyTorch's two."""
    text = f"{row.label:<25}{row.geometry:<{width}}" + "".join(_milliseconds(row.time(n)) for n in OPERATION_NAMES)
    text += _number(row.copying / 1e9 if row.copying else None, ".1f", 11)
    text += "".join(_percent(row.copy_share(name)) for name in ORDERS)
    text += "".join(_number(row.ratio(TORCH, name)) for name in ORDERS) + f"{100 * row.noise:6.0f}%"
    text += f"  ! {row.disturbed} samples disturbed" if row.disturbed else ""
    return text + "".join(f"\n  WRONG {name}: {reason}" for name, reason in row.wrong.items())


def operation_summary(title: str, rows: Sequence[Row]) -> str:
    """Geometric mean and worst of the ratios to PyTorch, and the least share of the speed of copying, by order."""
    text = [f"{title}: {len(rows)} contests"]
    for name, order in zip(ORDERS, ("C-contiguous", "channels last"), strict=True):
        ratios = _ratios(rows, TORCH, name)
        if ratios:
            mean, (worst, where) = _mean([r for r, _ in ratios]), min(ratios)
            behind = sum(r < OPERATION_GOAL for r, _ in ratios)
            text.append(
                f"  {order}: x PyTorch mean {mean:.2f}, worst {worst:.2f}{_verdict(worst, OPERATION_GOAL)} at {where}, "
                f"behind on {behind} of {len(ratios)}"
            )
        shares = [(share, row.label) for row in rows if (share := row.copy_share(name)) is not None]
        if shares:
            least, where = min(shares)
            short = sum(share < COPY_GOAL for share, _ in shares)
            text.append(f"  {order}: share of copying at least {100 * least:.0f} % at {where}, short on {short}")
    return "\n".join(text)


@dataclass(frozen=True)
class Scaling:
    """cyconv's seconds on one layer with few threads and with more."""

    label: str
    direction: str
    threads: tuple[int, int]
    seconds: tuple[float, float]

    @property
    def ratio(self) -> float:
        return self.seconds[0] / self.seconds[1]


def scaling(rows: Sequence[Row]) -> list[Scaling]:
    """The fewest threads of the run beside every other count, for work above
    SCALING_FLOPS, least gain first."""
    times = {(r.label, r.direction, r.threads): t for r in rows if r.flops >= SCALING_FLOPS and (t := r.time("cyconv"))}
    counts = sorted({threads for _, _, threads in times})
    found = [
        Scaling(label, direction, (counts[0], more), (few, times[label, direction, more]))
        for (label, direction, threads), few in times.items()
        for more in counts[1:]
        if threads == counts[0] and (label, direction, more) in times
    ]
    return sorted(found, key=lambda s: (s.threads, s.direction, s.ratio))


def scaling_summary(found: Sequence[Scaling]) -> str:
    """Every layer, least gain first, and the means; the goal is that of twice as many threads."""
    text = []
    for few, more in dict.fromkeys(s.threads for s in found):
        some = [s for s in found if s.threads == (few, more)]
        goal = SCALING_GOAL if more == 2 * few else None
        text.append(f"{f'{few} over {more} threads':<27}{'':<10}{f'{few} thr':>10}{f'{more} thr':>10}   ratio   (ms)")
        for s in some:
            times = "".join(map(_milliseconds, s.seconds))
            mark = " <" if goal is not None and s.ratio < goal else ""
            text.append(f"{s.label:<27}{s.direction:<10}{times}{s.ratio:8.2f}{mark}")
        mean, least = _mean([s.ratio for s in some]), min(some, key=lambda s: s.ratio)
        text.append(
            f"{more} threads over {few}, {len(some)} contests above {SCALING_FLOPS / 1e6:.0f} MFLOP: mean {mean:.2f}, "
            f"least {least.ratio:.2f}{_verdict(least.ratio, goal)} at {least.label}"
        )
    return "\n".join(text)


#: Contests that one summary at the end takes together: its name, its goals by direction, and whether a row is of them.
TOGETHER: tuple[tuple[str, dict[str, Goal], Callable[[Row], bool]], ...] = (
    (
        "all layers of images",
        {"forward": layers.OVERALL, "backward": layers.BACKWARD_OVERALL},
        lambda row: row.group in IMAGE_GOALS,
    ),
    ("first layers of images", {"backward": layers.BACKWARD_FIRST}, lambda row: row.label in layers.FIRST),
    (
        "all layers of signals and volumes",
        dict.fromkeys(("forward", "backward"), layers.OTHER_RANKS),
        lambda row: row.group in layers.RANK_GROUPS,
    ),
    (
        "all transposed convolutions",
        dict.fromkeys(("forward", "backward"), layers.TRANSPOSED),
        lambda row: row.group in layers.TRANSPOSED_GROUPS,
    ),
)


def goal_in_force(goal: Goal, dtype: str, algorithm: str) -> Goal | None:
    """Goals are for the algorithm of cyconv's choice; in float64 there is one for all layers."""
    if algorithm != "auto":
        return None
    return goal if dtype == "float32" else FLOAT64


def missing(rows: Sequence[Row]) -> str:
    """Each reason for an empty place in the tables, once, with the number of contests."""
    counts: dict[tuple[str, str], int] = {}
    for row in rows:
        for item in row.notes.items():
            counts[item] = counts.get(item, 0) + 1
    return "\n".join(f"  {name} sat out {count}: {reason}" for (name, reason), count in counts.items())
