"""docs/operations.md: complete, as its script makes it, and true where the others are installed."""

import importlib
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from cyconv import functional, nn

SCRIPT = Path(__file__).resolve().parents[1] / "docs" / "make_operations.py"
if not SCRIPT.is_file():
    pytest.skip("no docs beside the tests", allow_module_level=True)

spec = importlib.util.spec_from_file_location("make_operations", SCRIPT)
make_operations = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make_operations)


def names(column):
    """Return the names in a column, without those that are not there."""
    return [
        name for row in make_operations.rows() for name in make_operations.expand(getattr(row, column)) if name != "–"
    ]


def test_every_operation_and_layer_has_a_row():
    absent = make_operations.missing()
    assert not absent, f"add a row to SECTIONS in docs/make_operations.py for: {', '.join(absent)}"
    assert {"conv2d", "interpolate", "prelu", "cat"} <= make_operations.functions()
    assert {"Conv2d", "Graph", "LazyLinear", "MSELoss"} <= make_operations.layers()
    assert "conv_engine" not in make_operations.functions()
    assert "Module" not in make_operations.layers()


def test_a_missing_row_is_named(monkeypatch, capsys):
    monkeypatch.setitem(make_operations.SECTIONS, "Fully connected", [])
    assert make_operations.missing() == ["LazyLinear", "Linear", "linear"]
    assert make_operations.main() == 1
    assert "no row in make_operations.py for: LazyLinear, Linear, linear" in capsys.readouterr().out


def test_no_name_stands_in_two_rows_and_no_cell_is_empty():
    for column in ("functions", "layers"):
        found = names(column)
        assert len(found) == len(set(found)), sorted(name for name in found if found.count(name) > 1)
    for row in make_operations.rows():
        assert row.functions or row.layers
        assert all(row[2:]), row


def test_the_file_is_what_the_script_makes():
    committed = make_operations.TARGET.read_text(encoding="utf-8")
    assert committed == make_operations.table(), "run python docs/make_operations.py"


def test_names_are_written_out():
    assert make_operations.expand("F.a{1,2}d b –") == ["F.a1d", "F.a2d", "b", "–"]


def test_the_names_of_torch_exist():
    torch = pytest.importorskip("torch")
    places = {"F": torch.nn.functional, "nn": torch.nn, "fx": importlib.import_module("torch.fx")}
    for name in names("torch"):
        place, _, last = name.rpartition(".")
        assert hasattr(places.get(place, torch), last), f"torch has no {name}"
    # What torch has under our name stands in the row.
    for row in make_operations.rows():
        given = make_operations.expand(row.torch)
        for mine, place, prefix in ((row.functions, torch.nn.functional, "F."), (row.layers, torch.nn, "nn.")):
            for name in make_operations.expand(mine):
                assert not hasattr(place, name) or prefix + name in given or name in given, name


def test_the_names_of_onnx_exist():
    onnx = pytest.importorskip("onnx")
    operators = {schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == ""}
    assert set(names("onnx")) - operators == set()


@pytest.mark.parametrize("feature", make_operations.FEATURES, ids=lambda feature: feature.what)
def test_what_some_have_and_others_lack(feature):
    x, w = np.random.default_rng(0).random((2, 4, 6, 6)), np.ones((4, 4, 3, 3))
    given = {"F": functional, "nn": nn, "x": x, "w": w}
    eval(feature.cyconv, given)
    torch = pytest.importorskip("torch")
    given = {"F": torch.nn.functional, "nn": torch.nn, "x": torch.from_numpy(x), "w": torch.from_numpy(w)}
    if feature.torch != "–":
        eval(feature.torch, given)
        return
    with pytest.raises((AttributeError, TypeError, RuntimeError, ValueError, NotImplementedError)):
        eval(feature.cyconv, given)
