"""What `import cyconv` costs and loads, and from where: beside a checkout without kernels, and where there are none."""

import shutil
import statistics
import sys
from pathlib import Path

import pytest
from processes import INSTALLED, output_of, run_python

import cyconv
from cyconv import _locate, kernels

#: Packages that nobody should have to wait for who does not use them.
LATER = ("scipy", "matplotlib", "tqdm", "mlxtend", "torch", "PIL", "pandas", "sklearn", "onnx", "multiprocessing")


def copy_sources(to: Path, version: str | None = None) -> Path:
    """Copy the package without its compiled modules, as a checkout has it; return the copy."""
    package = to / "cyconv"
    shutil.copytree(
        INSTALLED / "cyconv", package, ignore=shutil.ignore_patterns("*.so", "*.pyd", "__pycache__", "*.c", "*.o")
    )
    if version:
        (package / "_version.py").write_text(f'__version__ = "{version}"\n', encoding="utf-8")
    return package


def test_import_is_quick(tmp_path):
    """Under 0.1 s beyond NumPy: of the processor's time, which a busy machine does not stretch much."""
    code = "import numpy, time; t = time.process_time(); import cyconv; print(time.process_time() - t)"
    # As pip leaves an installed package: compiled to bytecode, which the first run does here.
    compiled = {"PYTHONPYCACHEPREFIX": str(tmp_path), "PYTHONDONTWRITEBYTECODE": None}
    output_of("-c", code, **compiled)
    assert statistics.median(float(output_of("-c", code, **compiled)) for _ in range(5)) < 0.1


def test_import_loads_nothing_that_is_not_needed_yet():
    code = f"import sys, cyconv; print(sorted(set({LATER}) & set(sys.modules)))"
    assert output_of("-c", code) == "[]"
    every = "import " + ", ".join(
        f"cyconv.{name}" for name in ["nn", "optim", "models", "training", "data", "plot", "summary"]
    )
    assert output_of("-c", f"import sys; {every}; print(sorted(set({LATER}) & set(sys.modules)))") == "[]"


def test_blas_is_loaded_when_it_is_first_needed():
    code = (
        "import sys, numpy as np; from cyconv import functional as F;"
        "x, blas = np.ones((1, 1, 3, 3)), 'scipy.linalg.cython_blas';"
        "F.conv2d(x, x, algorithm='direct'); print(blas in sys.modules);"
        "F.conv2d(x, x, algorithm='im2col'); print(blas in sys.modules)"
    )
    assert output_of("-c", code).split() == ["False", "True"]


def test_import_prints_and_warns_nothing():
    done = run_python("-X", "dev", "-c", "import cyconv; cyconv.functional.conv2d")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_public_names_are_there_and_documented():
    for name in cyconv.__all__:
        assert hasattr(cyconv, name)
        if callable(getattr(cyconv, name)):
            assert getattr(cyconv, name).__doc__, name
    assert len(set(cyconv.__all__)) == len(cyconv.__all__)
    for name in cyconv.functional.__all__:
        assert getattr(cyconv.functional, name).__doc__, name


def test_the_package_is_typed():
    assert (INSTALLED / "cyconv" / "py.typed").is_file()


# ----------------------------------------------------------------------------------------- beside a checkout's sources

WHERE = (
    "import cyconv, numpy as np; from cyconv import functional as F, kernels; x = np.ones((1, 1, 3, 3));"
    "print(cyconv.__file__, kernels.load('direct').__file__, F.__file__, F.conv2d(x, x).item(), sep='\\n')"
)


def test_sources_without_kernels_hand_over_to_the_installed_package(tmp_path):
    package = copy_sources(tmp_path)
    init, kernel, functional, value = output_of("-c", WHERE, cwd=tmp_path).splitlines()
    assert Path(init).parent.samefile(package)  # the checkout came first, and was asked
    assert Path(kernel).parent.samefile(INSTALLED / "cyconv" / "kernels")
    assert Path(functional).parent.samefile(INSTALLED / "cyconv" / "functional")
    assert float(value) == 9


def test_a_script_and_a_module_beside_the_sources_work_too(tmp_path):
    copy_sources(tmp_path)
    (tmp_path / "script.py").write_text(WHERE, encoding="utf-8")
    assert output_of("script.py", cwd=tmp_path).splitlines()[-1] == "9.0"
    assert output_of("-m", "script", cwd=tmp_path).splitlines()[-1] == "9.0"


@pytest.mark.parametrize("command", [("-c", "import cyconv"), ("-c", "from cyconv.nn import Conv2d")], ids=str)
def test_where_nothing_is_compiled_the_error_says_what_to_run(tmp_path, command):
    copy_sources(tmp_path)
    done = run_python("-S", *command, cwd=tmp_path, path=None)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last == (
        f"ImportError: the kernels of cyconv are not compiled for this Python ({sys.version.split()[0]}): "
        f"run `pip install .` (or `pip install -e .` to work on it) in {tmp_path}"
    )


def test_an_installed_package_of_another_version_is_not_mixed_in(tmp_path):
    package = copy_sources(tmp_path, version="9.9.9")
    done = run_python("-c", "import cyconv", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == (
        f"ImportError: cyconv 9.9.9 in {package} is not compiled, and the installed cyconv is {cyconv.__version__}: "
        "run `pip install .` there, or start Python in another folder"
    )


def test_paths_that_are_no_folders_are_passed_over(tmp_path, monkeypatch):
    package = copy_sources(tmp_path)
    for entries in (["", str(tmp_path)], [str(tmp_path / "missing"), str(tmp_path / "a.zip")], []):
        monkeypatch.setattr(sys, "path", entries)
        monkeypatch.chdir(tmp_path)
        with pytest.raises(ImportError, match=r"run `pip install \.`"):
            _locate.compiled_package(package, cyconv.__version__)
        monkeypatch.setattr(sys, "path", [*entries, str(INSTALLED)])
        assert _locate.compiled_package(package, cyconv.__version__).samefile(INSTALLED / "cyconv")
    assert _locate.compiled_package(INSTALLED / "cyconv", "other").samefile(INSTALLED / "cyconv")


def test_a_kernel_that_is_missing_says_what_to_run():
    """After an update of an editable checkout: the Python files are new, the compiled ones are not."""
    with pytest.raises(ImportError, match=rf"kernel 'novel' is not compiled for {kernels.ISA}: run `pip install \.`"):
        kernels.load("novel")
