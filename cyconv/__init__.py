"""Convolutional networks on NumPy arrays, on the CPU.

Layers have the names and meaning of ``torch.nn``, functions those of ``torch.nn.functional``; arrays are NumPy's.
"""

from pathlib import Path as _Path

from ._locate import compiled_package as _compiled_package
from ._version import __version__

# Where the checkout hides the installed package, go on with the installed one.
__path__ = [str(_compiled_package(_Path(__file__).parent, __version__))]

from . import functional
from ._config import show_config
from ._settings import configure, get_num_threads, set_num_threads, threads

__all__ = [
    "__version__",
    "configure",
    "functional",
    "get_num_threads",
    "set_num_threads",
    "show_config",
    "threads",
]
