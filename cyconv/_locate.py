"""Find the compiled package when Python was started in the checkout, whose ``cyconv`` folder has no kernels.

After ``pip install .`` the folder ``cyconv`` of the checkout would hide the installed package from every ``python``
started beside it. So a ``cyconv`` without kernels looks for another one on ``sys.path`` and hands over to it.
"""

import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path


def has_kernels(package: Path) -> bool:
    """Whether the folder of a package has compiled kernels for this Python."""
    kernels = package / "kernels"
    return any((kernels / f"_cpu{suffix}").is_file() for suffix in EXTENSION_SUFFIXES)


def compiled_package(source: Path, version: str) -> Path:
    """Return ``source`` if its kernels are compiled, else the folder of the installed package.

    Raises
    ------
    ImportError
        There is none, or it has another version; the message says what to run.
    """
    if has_kernels(source):
        return source
    for entry in sys.path:
        package = Path(entry or ".").resolve() / "cyconv"
        if package != source.resolve() and has_kernels(package):
            installed = _version(package)
            if installed != version:
                raise ImportError(
                    f"cyconv {version} in {source} is not compiled, and the installed cyconv is {installed}: "
                    f"run `pip install .` there, or start Python in another folder"
                )
            return package
    raise ImportError(
        f"the kernels of cyconv are not compiled for this Python ({sys.version.split()[0]}): "
        f"run `pip install .` (or `pip install -e .` to work on it) in {source.parent}"
    )


def _version(package: Path) -> str:
    text = (package / "_version.py").read_text(encoding="utf-8")
    return text.split('"')[1]
