from typing import Any

from numpy.typing import NDArray

def deal(
    wide: NDArray[Any],
    narrow: NDArray[Any],
    at: NDArray[Any],
    n: int,
    split: bool,
    shape: tuple[int, int, int],
    steps: tuple[int, int, int],
    threads: int,
) -> None: ...
