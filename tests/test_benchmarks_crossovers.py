"""The table of crossovers: it runs on a tiny grid, checks answers, and its fit finds the constants of a known model."""

import json
import math
from types import SimpleNamespace

import benchmarks_package  # noqa: F401
import numpy as np
import pytest

from benchmarks import contest, cost_model, crossovers, layers, timing

TINY = timing.Effort(rounds=2, sample=1e-4, warm=1e-4, settle=0.0, patience=0.0)
GRID = ["--quick", "--channels", "8", "--depthwise", "8", "--maps", "6"]


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(timing, "QUICK", TINY)


def _row(weights="new", chosen="direct", **seconds):
    layer = layers.conv("8 6", "3x3", 8, 8, (6, 6), 3, padding=1)
    samples = {name: [value] * 3 for name, value in seconds.items()}
    return crossovers.Row(layer, "nchw", "float32", weights, 1, chosen, None, samples)


def test_tiny_grid(tmp_path, capsys):
    out = tmp_path / "out.json"
    assert crossovers.main([*GRID, "--json", str(out)]) == 0
    printed = capsys.readouterr().out
    found = json.loads(out.read_text())
    assert len(found["rows"]) == printed.count("| 8→8 ") == 8  # dense and depthwise, two orders, packed and new
    for row in found["rows"]:
        dense = row["groups"] == 1
        timed = {"direct", "winograd_f2", "winograd_f4", "im2col"} | (set() if dense else {"depthwise"})
        assert set(row["seconds"]) == timed
        assert row["chosen"] in timed
        assert row["loss"] == row["seconds"][row["chosen"]] / min(row["seconds"].values()) >= 1
    assert "| loss of the choice |" in printed
    assert "| all, with the fitted constants | 8 |" in printed
    assert found["constants"] == cost_model.in_force()
    assert set(found["fits"]["1"]["float32"]["values"]) == set(cost_model.CONSTANTS)
    header, rule, *rows = (x for x in printed.split("| loss of")[0].splitlines() if x.startswith("|"))
    assert {x.count("|") for x in (header, rule, *rows)} == {header.count("|")}


def test_stride_of_two(tmp_path, capsys):
    out = tmp_path / "out.json"
    assert crossovers.main([*GRID, "--stride", "2", "--json", str(out)]) == 0
    assert "; 3x3, stride 2, padding 1; times in ms" in capsys.readouterr().out
    dense = [row for row in json.loads(out.read_text())["rows"] if row["groups"] == 1]
    assert len(dense) == 4
    assert all(set(row["seconds"]) == {"direct", "winograd_f2", "winograd_f4", "im2col"} for row in dense)


def test_weights_that_are_packed_by_nobody_have_one_time():
    rows = crossovers.measure(layers.conv("8 6", "3x3", 8, 8, (6, 6), 3, padding=1), "nhwc", "float64", 1, TINY)
    packed, new = (row.samples for row in rows)
    assert packed["im2col"] == new["im2col"]
    assert packed["direct"] != new["direct"]


def test_wrong_answers_are_shouted_and_not_timed(monkeypatch, capsys):
    monkeypatch.setitem(contest.TOLERANCE, ("float32", "forward"), -1.0)
    assert crossovers.main(GRID) == 1
    printed = capsys.readouterr()
    assert "WRONG winograd_f4, 8-8 6 b1 nchw float32, weights new: error" in printed.err
    assert "| 8→8 " not in printed.out


def test_no_layer_is_an_error(capsys):
    with pytest.raises(SystemExit):
        crossovers.main([*GRID, "--max-gflop", "0"])
    assert "no layer is left" in capsys.readouterr().err


def test_losses_by_hand():
    rows = [_row(direct=2.0, im2col=1.0), _row(direct=3.0, im2col=4.0, chosen="im2col"), _row(direct=1.0)]
    assert [row.loss() for row in rows] == [2.0, 4 / 3, 1.0]
    assert rows[1].loss("direct") == 1.0
    assert rows[0].loss("winograd_f4") == math.inf
    text = crossovers.losses("these", rows, [row.chosen for row in rows])
    assert text == f"| these | 3 | {(8 / 3) ** (1 / 3):.3f} | 2.00 | direct at {rows[0].place} | 2 |"


def _questions(maps=(7, 14, 28)):
    for c, k in ((16, 16), (64, 64), (128, 64), (512, 512)):
        for size in maps:
            layer = layers.conv("x", "3x3", c, k, (size, size), 3, padding=1)
            data = SimpleNamespace(
                w=np.zeros(layer.weight_shape, np.float32), b=np.zeros(k, np.float32), x=np.float32()
            )
            geometry = crossovers.peer.module(layer, data)._conv.geometry(layer.input_shape, layer.weight_shape, (k,))
            for name in ("direct", "winograd_f2", "winograd_f4", "im2col"):
                for fresh in (False, True):
                    yield cost_model.Question(name, geometry, 16, 4, fresh)


def test_fit_finds_the_constants_that_made_the_times():
    true = dict(zip(cost_model.CONSTANTS, (9.0, 5.0, 40.0, 17.0, 25.0, 21.0, 0.4), strict=True))
    before = cost_model.in_force()
    questions = list(_questions())
    with cost_model.constants(true):
        assert cost_model.in_force() == true
        seconds = [question.cost() / 2e11 + 3e-6 for question in questions]
    assert cost_model.in_force() == before
    found = cost_model.fit(questions, seconds)
    assert found.values == pytest.approx(true, rel=1e-5)
    assert (found.rate, found.call) == pytest.approx((2e11, 3e-6), rel=1e-5)
    assert found.error < 1e-6
    assert set(found.ratios) == {"direct", "winograd_f2", "winograd_f4", "im2col"}
    # Without BLAS nothing tells its share, and the choice keeps the one it has.
    pairs = [(q, s) for q, s in zip(questions, seconds, strict=True) if q.algorithm != "im2col"]
    found = cost_model.fit(*zip(*pairs, strict=True))
    assert math.isnan(found.values["BLAS_SHARE"])
    assert "BLAS_SHARE" not in found.usable()
    assert found.values["TRANSFORM"] == pytest.approx(9.0, rel=1e-5)


def test_fit_of_times_that_the_model_does_not_explain():
    questions = list(_questions(maps=(7,)))
    order = np.random.default_rng(0)
    for _ in range(5):  # warnings of NumPy's would be errors here
        found = cost_model.fit(questions, 10.0 ** order.uniform(-6, -3, len(questions)))
        assert all(value > 0 for value in found.usable().values())
        assert crossovers.fit_table({"float32": found}).count("\n") == len(cost_model.CONSTANTS) + 3
    # The same time for all work: everything is the call, and nothing is known of the constants.
    found = cost_model.fit(questions, [1e-6] * len(questions))
    assert found.call == pytest.approx(1e-6)
    assert found.usable() == {}


def test_a_model_that_is_not_linear_is_refused(monkeypatch):
    choice = cost_model._choice()
    cost = choice.cost
    monkeypatch.setattr(choice, "cost", lambda *a: cost(*a) ** 1.1)
    with pytest.raises(ValueError, match="not linear in TRANSFORM"):
        next(iter(_questions())).features()


def test_constants_are_restored_after_an_error():
    before, pack = cost_model.in_force(), cost_model._choice().PACK
    inside = {}

    def fail():
        with cost_model.constants({"PACK[direct]": 1.0, "PACK[winograd_f4]": 2.0}):
            inside.update(cost_model.in_force())
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert (inside["PACK[direct]"], inside["PACK[winograd_f4]"]) == (1.0, 2.0)
    assert cost_model.in_force() == before
    assert cost_model._choice().PACK is pack


@pytest.mark.parametrize("order", crossovers.ORDERS)
def test_the_choice_with_todays_constants_is_todays_choice(order):
    layer = layers.conv("64 14", "3x3", 64, 64, (14, 14), 3, padding=1)
    for row in crossovers.measure(layer, order, "float32", 1, TINY):
        assert crossovers._chosen_with(row, cost_model.in_force()) == row.chosen
        dear = {**cost_model.in_force(), "TRANSFORM": 1e9}
        assert crossovers._chosen_with(row, dear) == "direct"
