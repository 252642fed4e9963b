OPENMP: int
FORK_SAFE: bool
COMPILER: str

def gather(threads: int) -> int: ...
