from numpy.typing import NDArray

def deal(
    wide: NDArray,
    narrow: NDArray,
    at: NDArray,
    n: int,
    split: bool,
    shape: tuple[int, int, int],
    steps: tuple[int, int, int],
    threads: int,
) -> None: ...
