"""Fresh Python processes for tests of what happens at import, under other environments, or when a process dies."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cyconv

#: The folder from which this process has the compiled package, wherever the tests were started.
INSTALLED = Path(cyconv.__path__[0]).parent
#: What free-threaded Python warns of at import, which is as it should be.
TAKES_ITS_LOCK = "ignore:The global interpreter lock:RuntimeWarning"


def run_python(
    *arguments: str,
    cwd: Path | str = "/",
    timeout: float = 120,
    path: Path | None = INSTALLED,
    **environment: str | None,
) -> subprocess.CompletedProcess[str]:
    """Run Python with the arguments, the package on its path and ``environment`` added (None: taken out).

    Warnings are errors there, as they are here, but for one. A process that hangs ends in
    ``subprocess.TimeoutExpired``.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("CYCONV_", "OMP_"))}
    usual = {"PYTHONPATH": str(path) if path else None, "OPENBLAS_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    changed = usual | environment
    for name, value in changed.items():
        inherited.pop(name, None)
        if value is not None:
            inherited[name] = value
    return subprocess.run(
        [sys.executable, "-W", "error", "-W", TAKES_ITS_LOCK, *arguments],
        cwd=cwd,
        env=inherited,
        timeout=timeout,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def output_of(*arguments: str, **options: object) -> str:
    """Return what Python prints with these arguments; its errors are part of the assertion when it fails."""
    done = run_python(*arguments, **options)  # type: ignore[arg-type]
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout.strip()
