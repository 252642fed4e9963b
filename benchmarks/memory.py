"""How much memory a training step takes: the peak of a fresh process over what it held before its first step.

    python benchmarks/memory.py torch-cl resnet20 64 2          one contender, network, batch and number of threads

prints bytes. What is there before, and so not counted: the library, the weights and the batch. Counted are activations,
gradients, the optimiser's state, workspaces, and what the library loads or compiles when it is first used.
"""

from __future__ import annotations

import importlib.util
import json
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # run as a script: this folder is the package `benchmarks`, and the checkout stays off the path
    _here = Path(__file__).resolve().parent
    _spec = importlib.util.spec_from_file_location(
        "benchmarks", _here / "__init__.py", submodule_search_locations=[str(_here)]
    )
    assert _spec is not None
    sys.modules["benchmarks"] = importlib.util.module_from_spec(_spec)

from benchmarks import networks
from benchmarks.peers import cyconv as cyconv_peer
from benchmarks.peers import torch as torch_peer

NAMES = ("cyconv", "torch", "torch-cl")
STEPS = 3


def _status(name: str) -> int | None:
    """Bytes that /proc tells of this process, where there is one."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), None)


def _forget_peak() -> None:
    """Let the peak start anew from what is held now: importing a library may have taken more for a moment, and a
    process inherits the peak of the one that started it (`ru_maxrss` of a child begins with its parent's)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _held() -> int:
    return _status("VmRSS") or _peak()


def _peak() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return _status("VmHWM") or unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def take(name: str, network: networks.Network, batch: int, threads: int, steps: int = STEPS) -> int:
    """The peak over what was held before, in this process; ValueError for a name that is no contender's."""
    if name not in NAMES:
        raise ValueError(f"memory is taken of {', '.join(NAMES)}, not of {name}")
    state, data = networks.state(network), networks.batches(batch, 1, network=network)
    if name == "cyconv":
        contender = cyconv_peer.training(network, state, data, threads)[name]
    else:
        contender = torch_peer.training(network, state, data, threads, (name,))[name]
    with contender.context():
        _forget_peak()
        before = _held()
        for _ in range(steps):
            contender.run()
        return max(_peak() - before, 0)


def measure(name: str, network: networks.Network, batch: int, threads: int) -> int:
    """The same in a fresh process; RuntimeError with what it said where that fails."""
    command = [sys.executable, str(Path(__file__)), name, network.name, str(batch), str(threads)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if found.returncode:
        raise RuntimeError(found.stderr.strip().splitlines()[-1] if found.stderr.strip() else "it ended early")
    return int(json.loads(found.stdout.splitlines()[-1]))


def main(argv: Sequence[str]) -> int:
    """Print the bytes."""
    name, network, batch, threads = argv
    print(json.dumps(take(name, networks.NETWORKS[network], int(batch), int(threads))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
