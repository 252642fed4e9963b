"""The house: imports point down only, optional packages are imported where they are used, kernels keep their rules.

The table of rooms is the architecture. A new module must be given its place here.
"""

import ast
import re
import sys
from pathlib import Path

import pytest

import cyconv

CHECKOUT = Path(__file__).resolve().parents[1] / "cyconv"
#: The sources beside the tests; where only tests and an installed package are at hand, those of the package.
PACKAGE = CHECKOUT if CHECKOUT.is_dir() else Path(cyconv.__path__[0])

#: Rooms from the top down, with the modules in them (a package stands for all its modules) and the rooms below that
#: each may import from. Modules of one room may import each other, as long as that goes round in no circle.
ROOMS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "front door": (
        ("cyconv", "cyconv.__main__"),
        ("models", "training", "tools", "nn", "functional", "configuration", "settings", "start"),
    ),
    "models": (("cyconv.models",), ("nn", "functional")),
    "training": (("cyconv.training", "cyconv.estimator"), ("tools", "nn", "functional", "settings", "geometry")),
    "tools": (
        (
            "cyconv.optim",
            "cyconv.data",
            "cyconv.summary",
            "cyconv._explain",
            "cyconv.plot",
            "cyconv.onnx",
            "cyconv._serialization",
        ),
        ("nn", "functional", "plans", "geometry", "settings"),
    ),
    "nn": (("cyconv.nn",), ("functional", "geometry")),
    "functional": (("cyconv.functional",), ("plans", "geometry", "settings", "reference", "kernels")),
    "configuration": (("cyconv._config",), ("settings", "kernels", "start")),
    "settings": (("cyconv._settings",), ("geometry", "kernels")),
    "plans": (("cyconv._plan",), ("geometry",)),
    "geometry": (
        (
            "cyconv._geometry",
            "cyconv._fold_geometry",
            "cyconv._padding_geometry",
            "cyconv._pool_geometry",
            "cyconv._resize_geometry",
            "cyconv._transposed_geometry",
        ),
        (),
    ),
    "reference": (("cyconv.reference",), ()),
    "kernels": (("cyconv.kernels",), ()),
    "start": (("cyconv._locate", "cyconv._version"), ()),
}

#: Packages from elsewhere that a room may import when it is imported. SciPy's BLAS is looked up when first needed.
OUTSIDE = {room: set() if room in ("geometry", "plans", "kernels", "start") else {"numpy"} for room in ROOMS}

#: What layers take from NumPy: arrays, not arithmetic, but for the sum and the joining of branches.
NN_NUMPY = {
    *("ndarray", "dtype", "float32", "float64", "int64", "bool_", "generic", "random", "newaxis"),
    *(
        "asanyarray",
        "asarray",
        "ascontiguousarray",
        "empty",
        "copyto",
        "can_cast",
        "shape",
        "add",
        "concatenate",
        "typing",
    ),
}


def room_of(module: str) -> str:
    """Return the room of a module; AssertionError where it has none."""
    for room, (modules, _) in ROOMS.items():
        # The package itself holds all others, and stands for its own file alone.
        if module in modules or any(module.startswith(f"{name}.") for name in modules if name != "cyconv"):
            return room
    raise AssertionError(f"{module} has no room: give it a place in ROOMS of {Path(__file__).name}")


def sources() -> dict[str, tuple[str, bool]]:
    """Return {module: (source, whether it is a package)} of everything in the package."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = ["cyconv", *path.relative_to(PACKAGE).with_suffix("").parts]
        package = parts[-1] == "__init__"
        found[".".join(parts[:-1] if package else parts)] = (path.read_text(encoding="utf-8"), package)
    return found


def imports(module: str, source: str, package: bool, modules: set[str]) -> list[tuple[str, bool]]:
    """Return (imported module, whether on import of this one) of every import, lazy ones and those for types too."""
    tree = ast.parse(source)
    for_types = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test)
        for node in ast.walk(block)
    }
    at_once = {id(node) for node in ast.walk(tree)} - for_types
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            at_once -= {id(node) for node in ast.walk(function)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) in at_once) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = module.split(".")
                above = above[: len(above) - node.level + package]
                base = ".".join([*above, base] if base else above)
            for alias in node.names:
                name = f"{base}.{alias.name}"
                # A name may be a module of the package, a compiled one among them, or something in it.
                submodule = name in modules or (base == "cyconv.kernels" and alias.name.startswith("_"))
                found.append((name if submodule else base, id(node) in at_once))
    return found


def violations(files: dict[str, tuple[str, bool]]) -> list[str]:
    """Return what is wrong with the imports, a line each."""
    wrong = []
    for module, (source, package) in files.items():
        room = room_of(module)
        for imported, at_once in imports(module, source, package, set(files)):
            top = imported.partition(".")[0]
            if top == "cyconv":
                other = room_of(imported)
                if other != room and other not in ROOMS[room][1]:
                    wrong.append(f"{module} ({room}) imports {imported} ({other})")
            elif top not in sys.stdlib_module_names and top not in OUTSIDE[room] and at_once:
                wrong.append(f"{module} ({room}) imports {imported} when it is imported")
    return wrong


def circles(files: dict[str, tuple[str, bool]]) -> list[str]:
    """Return modules that import each other round in a circle when they are imported."""
    graph = {
        module: {name for name, at_once in imports(module, *file, set(files)) if at_once and name in files} - {module}
        for module, file in files.items()
    }
    # A package's own file imports its parts, and they may import the package: `from . import x` names it only.
    while free := [module for module, below in graph.items() if not below]:
        for module in free:
            del graph[module]
        for below in graph.values():
            below.difference_update(free)
    return sorted(graph)


def test_imports_point_down():
    assert violations(sources()) == []


def test_nothing_imports_itself_round_a_circle():
    files = {
        module: file for module, file in sources().items() if not file[1] or room_of(module) not in ("front door",)
    }
    assert circles(files) == []


def test_the_rooms_are_in_order():
    order = list(ROOMS)
    for room, (_, below) in ROOMS.items():
        assert all(order.index(other) > order.index(room) for other in below), room


@pytest.mark.parametrize(
    ("module", "source", "message"),
    [
        ("cyconv._geometry", "from . import functional", "(geometry) imports cyconv.functional (functional)"),
        ("cyconv._geometry", "from . import conv2d", "cyconv._geometry (geometry) imports cyconv (front door)"),
        ("cyconv._geometry", "from .functional import conv2d", "(geometry) imports cyconv.functional (functional)"),
        ("cyconv._geometry", "import numpy as np", "(geometry) imports numpy when it is imported"),
        ("cyconv.functional._pool", "from ..nn.conv import Conv2d", "imports cyconv.nn.conv (nn)"),
        ("cyconv.functional._pool", "import cyconv", "(functional) imports cyconv (front door)"),
        ("cyconv.nn.conv", "from cyconv.kernels import load", "(nn) imports cyconv.kernels (kernels)"),
        ("cyconv.nn.conv", "def f():\n    from ..kernels import load", "(nn) imports cyconv.kernels (kernels)"),
        ("cyconv.reference._conv", "from .. import _geometry", "imports cyconv._geometry (geometry)"),
        ("cyconv.reference._conv", "import scipy.signal", "imports scipy.signal when it is imported"),
        ("cyconv.plot", "if True:\n    from matplotlib import pyplot", "imports matplotlib when it is imported"),
        ("cyconv.plot", "from .training import fit", "cyconv.plot (tools) imports cyconv.training (training)"),
    ],
)
def test_a_wrong_import_is_noticed(module, source, message):
    files = dict.fromkeys(sources(), ("", False)) | {module: (source, False)}
    files["cyconv"] = ("", True)
    (found,) = violations(files)
    assert message in found


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("cyconv.functional._pool", "from .. import _plan, _settings, kernels\nfrom .._geometry import check_total"),
        ("cyconv.functional._pool", "from cyconv import _geometry\nfrom ._arrays import array"),
        ("cyconv.plot", "import numpy as np\ndef draw():\n    import matplotlib\n    from tqdm import tqdm"),
        ("cyconv.plot", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import matplotlib"),
        ("cyconv._settings", "from .kernels import _threads\nimport os, math"),
    ],
)
def test_a_right_import_passes(module, source):
    files = {name: ("", name in ("cyconv", "cyconv.kernels")) for name in sources()} | {module: (source, False)}
    assert violations(files) == []


def test_a_circle_and_a_module_without_a_room_are_noticed():
    files = {"cyconv._plan.a": ("from .b import x", False), "cyconv._plan.b": ("from . import a", False)}
    assert circles(files) == ["cyconv._plan.a", "cyconv._plan.b"]
    with pytest.raises(AssertionError, match=r"cyconv\.novelty has no room"):
        violations({"cyconv.novelty": ("", False)})


def test_layers_leave_arithmetic_to_functional():
    """nn holds state. What it does with arrays beyond that is listed here."""
    seen = set()
    for module, (source, _) in sources().items():
        if room_of(module) != "nn":
            continue
        for node in ast.walk(ast.parse(source)):
            assert not isinstance(node, ast.MatMult), f"{module} multiplies matrices"
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "np":
                seen.add(node.attr)
                assert node.attr in NN_NUMPY, f"{module}, line {node.lineno}: np.{node.attr}"
    assert "ndarray" in seen  # it is np that NumPy is called


def test_the_formula_of_the_output_size_stands_in_one_place():
    """(length + padding - dilation * (kernel - 1) - 1) // stride + 1: in output_size; summary writes it in words."""
    formula = re.compile(r"\(\s*\w*k\w*(\[\w+\])? - 1\s*\) - 1\b")
    found = {
        module
        for module, (source, _) in sources().items()
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.BinOp) and formula.search(ast.unparse(node))
    }
    assert found - {"cyconv.summary"} == {"cyconv._geometry"}


# ------------------------------------------------------------------------------------------------------------- kernels

KERNELS = sorted((CHECKOUT / "kernels").glob("*.pyx"))
needs_sources = pytest.mark.skipif(not KERNELS, reason="no kernel sources beside the tests")


def code(path: Path) -> str:
    """Return a Cython source without comments and docstrings."""
    text = re.sub(r'"""(?s:.*?)"""', '""', path.read_text(encoding="utf-8"))
    return re.sub(r"#.*", "", text)


@needs_sources
def test_every_kernel_is_loaded_by_somebody():
    """A kernel that nobody runs is dead; one that is loaded by a name must exist. The probe is for measuring."""
    loaded: dict[str, set[str]] = {}
    for module, (source, _) in sources().items():
        for node in ast.walk(ast.parse(source)):
            # load("direct"), and made(geometry, "direct", ...)
            place = (
                {"load": 0, "made": 1}.get(ast.unparse(node.func).split(".")[-1])
                if isinstance(node, ast.Call)
                else None
            )
            if place is not None and len(node.args) > place:
                name = node.args[place]
                if isinstance(name, ast.Constant) and room_of(module) in ("functional", "configuration"):
                    loaded.setdefault(str(name.value), set()).add(room_of(module))
    existing = {path.stem for path in KERNELS if not path.stem.startswith("_")}
    assert set(loaded) == existing
    assert loaded.pop("probe") == {"configuration", "functional"}
    assert all(rooms == {"functional"} for rooms in loaded.values())


@needs_sources
@pytest.mark.parametrize("path", KERNELS, ids=lambda path: path.stem)
def test_rules_of_kernels(path):
    text = code(path)
    assert "with gil" not in text, "a kernel does not take the interpreter's lock"
    assert not re.search(r"\bexcept\s*:\s*$\s*pass", text, re.MULTILINE)
    # Each task that lets denormals be flushed restores what was before.
    assert len(re.findall(r"= flush_denormals\(\)", text)) == len(re.findall(r"\brestore_denormals\(\w+\)", text))
    # A function that runs without the lock cannot raise.
    for signature in re.findall(r"^cdef [^\n]*\([^:]*?\)[^\n:]*\bnogil\b[^\n]*:", text, re.MULTILINE):
        assert "noexcept" in signature, signature
    # Memory is taken before threads start, not inside a loop that they share.
    for block in re.findall(r"^( *)for \w+ in prange\([^\n]*\n((?:\1 +[^\n]*\n|\s*\n)+)", text, re.MULTILINE):
        assert not re.search(r"\b(malloc|calloc|realloc|posix_memalign|take)\(", block[1])


@needs_sources
def test_kernels_are_written_once_for_both_types():
    """One fused body per kernel: no function comes in a copy for each type."""
    for path in KERNELS:
        names = re.findall(r"^(?:cdef|def|cpdef)[^\n(=]*?(\w+)\(", code(path), re.MULTILINE)
        stems = [re.sub(r"_?(f32|f64|float|double|single|float32|float64)$", "", name) for name in names]
        assert len(set(zip(names, stems, strict=True))) == len(set(stems)), path.stem
