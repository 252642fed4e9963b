"""What must and must not be in an sdist and in the wheel that was built from it.

python check_dist.py CHECKOUT SDIST WHEEL
"""

from __future__ import annotations

import struct
import sys
import tarfile
import zipfile
from pathlib import Path

LARGEST = 5_000_000


def debug_sections(elf: bytes) -> list[str]:
    """Return the names of the debugging sections of a 64-bit ELF file, and of its full symbol table."""
    if elf[:4] != b"\x7fELF" or elf[4] != 2:
        return []
    (table,) = struct.unpack_from("<Q", elf, 0x28)
    size, count, names = struct.unpack_from("<HHH", elf, 0x3A)
    sections = [struct.unpack_from("<IIQQQQ", elf, table + i * size) for i in range(count)]
    start = sections[names][4]
    found = [elf[start + s[0] : elf.index(b"\0", start + s[0])].decode() for s in sections]
    return [name for name in found if name.startswith((".debug", ".zdebug", ".symtab"))]


def check_sdist(checkout: Path, sdist: Path) -> list[str]:
    """Return what is wrong: everything that the checkout has must be there, and nothing that was built."""
    with tarfile.open(sdist) as archive:
        there = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {str(path.relative_to(checkout)) for path in checkout.rglob("*") if path.is_file()}
    left_out = {
        name for name in wanted if name.startswith((".ci/", ".git")) or "egg-info" in name or name[:6] == "build/"
    }
    wrong = [f"{sdist.name} lacks {name}" for name in sorted(wanted - left_out - there)]
    built = {name for name in there if name.endswith((".so", ".pyd", ".o", ".pyc", ".npz"))}
    built |= {name for name in there if name.startswith("cyconv/") and name.endswith(".c")}
    return wrong + [f"{sdist.name} has {name}" for name in sorted(built)]


def check_wheel(checkout: Path, wheel: Path) -> list[str]:
    """Return what is wrong: all Python files and compiled kernels, no sources but the public face, stripped, small."""
    wrong = []
    if wheel.stat().st_size > LARGEST:
        wrong.append(f"{wheel.name} has {wheel.stat().st_size} bytes, more than {LARGEST}")
    with zipfile.ZipFile(wheel) as archive:
        there = {name for name in archive.namelist() if ".dist-info/" not in name}
        for name in sorted(there):
            sections = debug_sections(archive.read(name)) if name.endswith(".so") else []
            if sections:
                wrong.append(f"{name} is not stripped: {', '.join(sections)}")
    sources = [path.relative_to(checkout) for path in (checkout / "cyconv").rglob("*") if path.is_file()]
    wanted = {str(path) for path in sources if path.suffix in (".py", ".pyi", ".typed")} | {"cyconv/cython.pxd"}
    wrong += [f"{wheel.name} lacks {name}" for name in sorted(wanted - there)]
    compiled = {name.rpartition("/")[2].split(".")[0] for name in there - wanted if name.endswith(".so")}
    wrong += [f"{wheel.name} has {name}" for name in sorted(there - wanted) if not name.endswith(".so")]
    kernels = {path.stem for path in sources if path.suffix == ".pyx"}
    sets = {name.removeprefix("direct_") for name in compiled if name.startswith("direct_")}
    once = {name for name in kernels if name.startswith("_") or name == "cython"}
    expected = once | {f"{name}_{isa}" for name in kernels - once for isa in sets}
    wrong += [f"{wheel.name} lacks the kernel {name}" for name in sorted(expected - compiled)]
    wrong += [f"{wheel.name} has the kernel {name}, which has no source" for name in sorted(compiled - expected)]
    megabytes = wheel.stat().st_size / 1e6
    print(f"{wheel.name}: {megabytes:.2f} MB, {len(compiled)} compiled modules for {', '.join(sorted(sets))}")
    return wrong if sets else [*wrong, f"{wheel.name} has no kernels"]


def main() -> int:
    """Print what is wrong; 1 if anything is."""
    checkout, sdist, wheel = map(Path, sys.argv[1:])
    wrong = check_sdist(checkout, sdist) + check_wheel(checkout, wheel)
    print(*wrong, sep="\n", file=sys.stderr)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
