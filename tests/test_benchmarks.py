"""The benchmarks measure what they say: layer table, float64 oracle, and that wrong answers are caught, not timed."""

import dataclasses
import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from benchmarks_package import FOLDER  # first: it makes `benchmarks` importable

from benchmarks import (
    compare,
    contest,
    layers,
    machine,
    networks,
    oracle,
    peers,
    report,
    roofline,
    tables,
    timing,
)

TINY = timing.Effort(rounds=2, sample=1e-4, warm=1e-4, settle=0.0, patience=0.0)
AWKWARD = layers.conv("awkward", "odd", 4, 6, (7, 6), (3, 2), stride=2, padding=(2, 1), dilation=2, groups=2, n=2)
SIGNAL = layers.conv("signal", "conv1d", 4, 6, (13,), 3, stride=2, padding=3, dilation=2, groups=2, n=2)
VOLUME = layers.conv(
    "volume", "conv3d", 2, 3, (4, 5, 6), (2, 3, 1), stride=(2, 1, 2), padding=(1, 2, 0), dilation=(2, 1, 1)
)
TRANSPOSED = dataclasses.replace(
    layers.conv("up", "upconv", 4, 6, (6, 7), (2, 3), stride=(2, 1), padding=(2, 1), dilation=2, groups=2, n=2),
    transposed=True,
    output_padding=(1, 0),
)


def test_layer_table_is_consistent():
    labels = [layer.label for layer in layers.LAYERS]
    assert len(set(labels)) == len(labels)
    assert {layer.group for layer in layers.LAYERS} == set(layers.GROUPS)
    for layer in layers.LAYERS:
        assert layer.c % layer.groups == 0 == layer.k % layer.groups, layer
        assert layer.rank == {"1d": 1, "3d": 3}.get(layer.group[-2:], 2), layer
        along = zip(layer.size, layer.kernel, layer.stride, layer.padding, layer.dilation, layer.out_size, strict=True)
        if layer.transposed:
            assert layer.group in layers.TRANSPOSED_GROUPS
            assert layer.mirror.out_size == layer.size, layer  # the mirror takes the output back to the input's size
            assert (layer.mirror.weight_shape, layer.mirror.flops) == (layer.weight_shape, layer.flops)
            continue
        for h, r, step, pad, dil, p in along:
            assert p == len(range(0, h + 2 * pad - dil * (r - 1), step)) > 0, layer
        if layer.group in ("resnet3x3", "vgg", "unet", "cifar"):
            assert (layer.kernel, layer.stride, layer.groups) == ((3, 3), (1, 1), 1)
            assert min(layer.c, layer.k) >= 16


def test_resnet_layer_by_hand():
    layer = layers.by_label("resnet 64 56 b1")
    assert layer.output_shape == (1, 64, 56, 56)
    assert layer.flops == 2 * 64 * 56 * 56 * 64 * 9 == 231211008
    assert layer.geometry == "64->64 3x3 56x56 p1"


def test_layers_of_other_ranks_by_hand():
    assert SIGNAL.output_shape == (2, 6, 8)  # (13 + 2·3 − 2·2 − 1)/2 + 1
    assert SIGNAL.flops == 2 * 2 * 6 * 8 * 2 * 3
    assert SIGNAL.geometry == "4->6 3 13 s2 p3 d2 g2"
    assert VOLUME.output_shape == (1, 3, 2, 7, 3)
    assert VOLUME.geometry == "2->3 2x3x1 4x5x6 s2,1,2 p1,2,0 d2,1,1"
    assert VOLUME.numbers("forward") == 2 * 120 + 3 * 2 * 6 + 3 * 42
    assert VOLUME.numbers("backward") == 2 * (2 * 120 + 3 * 2 * 6) + 3 * 42
    assert layers.by_label("r3d 1 s1,2,2 b1").output_shape == (1, 64, 16, 56, 56)


def test_transposed_layer_by_hand():
    layer = layers.by_label("dcgan 1024-512 4 b1")
    assert layer.output_shape == (1, 512, 8, 8)  # (4 - 1) * 2 - 2 * 1 + 4
    assert layer.weight_shape == (1024, 512, 4, 4)
    assert layer.flops == 2 * 16 * 1024 * 512 * 16  # each input pixel meets the whole kernel
    assert layer.terms == 1024 * 16 // 4  # and each output pixel a quarter of it
    assert layer.geometry == "1024->512 4x4 4x4 s2 p1"
    wave = layers.by_label("wavegan 256-128 k25 s4 b1")
    assert (wave.output_shape, wave.geometry) == ((1, 128, 1024), "256->128 25 256 s4 p11 o1")


def test_oracle_of_transposed_layers_is_the_adjoint():
    """Each input number puts a kernel, scaled by it, at its place of the output."""
    data = peers.ConvData.random(TRANSPOSED, "float64")
    assert TRANSPOSED.output_shape == (2, 6, 10, 9)
    want = np.zeros(TRANSPOSED.output_shape) + data.b.reshape(-1, 1, 1)
    dx, dw = np.zeros_like(data.x), np.zeros_like(data.w)
    for n, c, h, w, k, r, s in np.ndindex(*data.x.shape, *data.w.shape[1:]):
        p, q = h * 2 + r * 2 - 2, w * 1 + s * 2 - 1
        if 0 <= p < 10 and 0 <= q < 9:
            out = (n, c // 2 * 3 + k, p, q)
            want[out] += data.x[n, c, h, w] * data.w[c, k, r, s]
            dx[n, c, h, w] += data.dy[out] * data.w[c, k, r, s]
            dw[c, k, r, s] += data.dy[out] * data.x[n, c, h, w]
    np.testing.assert_allclose(oracle.forward(TRANSPOSED, data.x, data.w, data.b), want, atol=1e-12)
    expected = (dx, dw, data.dy.sum((0, 2, 3)))
    for got, exact in zip(oracle.backward(TRANSPOSED, data.dy, data.x, data.w), expected, strict=True):
        np.testing.assert_allclose(got, exact, atol=1e-12)


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_contenders_answer_for_transposed_layers(direction):
    modules, _ = peers.load()
    (row,) = contest.conv(TRANSPOSED, direction, "float32", [1], modules, dataclasses.replace(TINY, rounds=0))
    assert row.wrong == {}
    assert row.errors.keys() >= {"cyconv"}
    assert set(row.errors) <= {"cyconv", "cyconv-fn", *report.TORCH}
    assert all("PyTorch alone" in reason for reason in row.notes.values())


@pytest.mark.parametrize("layer", [AWKWARD, SIGNAL, VOLUME], ids=lambda layer: layer.name)
@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("name", peers.PEERS)
def test_contenders_answer_for_every_rank(name, direction, layer):
    modules, _ = peers.load([name])
    if not modules:
        pytest.skip(f"{name} is not installed")
    one = dataclasses.replace(layer, n=1)
    (row,) = contest.conv(one, direction, "float32", [1], modules, dataclasses.replace(TINY, rounds=0))
    assert row.wrong == {}
    if name in ("cyconv", "torch"):
        assert row.errors.keys() >= {name}
    else:  # they compute no gradients, and ncnn's networks are made of images
        assert bool(row.errors) == (direction == "forward" and (name != "ncnn" or layer is AWKWARD)), row.notes


def test_select_filters_and_names_unknown_groups():
    assert [x.label for x in layers.select("c1 b1$", ["small"])] == [
        "lenet c1 b1",
        "alexnet c1 b1",
        "resnet c1 b1",
        "vgg c1 b1",
        "cifar c1 b1",
    ]
    with pytest.raises(ValueError, match="unknown groups nonsense"):
        layers.select(groups=["nonsense"])


@pytest.mark.parametrize("block", [64 << 20, 1])
@pytest.mark.parametrize("layer", [AWKWARD, SIGNAL, VOLUME], ids=lambda layer: layer.name)
def test_oracle_against_loops(layer, block, monkeypatch):
    monkeypatch.setattr(oracle, "_BLOCK_BYTES", block)
    data = peers.ConvData.random(layer, "float64")
    rank, share = layer.rank, layer.c // layer.groups
    want = np.zeros(layer.output_shape) + data.b.reshape(-1, *(1,) * rank)
    dx, dw = np.zeros_like(data.x), np.zeros_like(data.w)
    for b, o, *at in np.ndindex(*layer.output_shape, *layer.weight_shape[1:]):
        pixel, c, tap = at[:rank], at[rank], at[rank + 1 :]
        along = zip(pixel, tap, layer.stride, layer.dilation, layer.padding, strict=True)
        place = [p * step + i * dil - pad for p, i, step, dil, pad in along]
        if all(0 <= h < size for h, size in zip(place, layer.size, strict=True)):
            y, x = (b, o, *pixel), (b, o // (layer.k // layer.groups) * share + c, *place)
            want[y] += data.x[x] * data.w[(o, c, *tap)]
            dx[x] += data.dy[y] * data.w[(o, c, *tap)]
            dw[(o, c, *tap)] += data.dy[y] * data.x[x]
    np.testing.assert_allclose(oracle.forward(layer, data.x, data.w, data.b), want, atol=1e-12)
    db = data.dy.sum((0, *range(2, rank + 2)))
    for got, exact in zip(oracle.backward(layer, data.dy, data.x, data.w), (dx, dw, db), strict=True):
        np.testing.assert_allclose(got, exact, atol=1e-12)


def test_relative_error_hides_nothing():
    want = np.array([1.0, -4.0])
    assert oracle.relative_error(np.array([1.0, -4.4]), want) == pytest.approx(0.1)
    assert oracle.relative_error(np.array([1.0, np.nan]), want) == float("inf")
    assert oracle.relative_error(want[None], want) == float("inf")


def _module(error=0.0, fail=False):
    """A library whose answers are off by this much."""

    def forward(layer, data, threads, algorithm="auto"):
        if fail:
            raise RuntimeError("broken")
        y = oracle.forward(layer, data.x, data.w, data.b)
        y[..., -1] += error
        return {forward.tag: peers.Contender(lambda: y, lambda r: (r,))}

    return SimpleNamespace(forward=forward, __name__="peer")


def test_wrong_answers_are_reported_and_not_timed():
    modules = {"torch": _module(), "onnxruntime": _module(error=0.01), "openvino": _module(fail=True)}
    for name, tag in (("torch", "torch"), ("onnxruntime", "ort"), ("openvino", "openvino")):
        modules[name].forward.tag = tag
    (row,) = contest.conv(AWKWARD, "forward", "float32", [1], modules, TINY)
    assert list(row.samples) == ["torch"]
    assert len(row.samples["torch"]) == TINY.rounds
    assert list(row.wrong) == ["ort"]
    assert row.notes == {"openvino": "RuntimeError: broken"}
    assert "WRONG ort" in report.line(row, ["torch", "ort"])


def test_ratios_and_goals():
    row = contest.Row(
        "vgg",
        "a",
        "",
        "forward",
        2,
        flops=100,
        samples={
            "cyconv": [1.0, 2.0, 3.0],
            "cyconv-fn": [4.0] * 3,
            "torch": [6.0] * 3,
            "torch-cl": [5.0] * 3,
            "ncnn": [3.0] * 3,
        },
    )
    assert row.best(["torch", "ncnn"]) == ("ncnn", 3.0)
    assert row.ratio(["torch", "torch-cl", "ncnn"]) == 1.5
    assert row.ratio(report.TORCH) == 2.5
    assert row.ratio(report.TORCH, "cyconv-fn") == 1.25
    limits = roofline.Roofline("float32")
    limits.peak[2] = 100.0
    text = report.summary("vgg", [row], layers.GOALS["vgg"], limits)
    assert "x best peer           mean  1.50 (SHORT, goal 1.7), worst  1.50 (ok, goal 1.4)" in text
    assert "share of FMA peak     mean    50 %, least 50 % at a" in text


def test_roofline_takes_the_limit_that_binds(monkeypatch):
    asked = []

    def copies(threads, size):
        asked.append((threads, size))
        return 400.0 if size <= 1 << 20 else 100.0

    monkeypatch.setattr(machine, "copy_bandwidth", copies)
    monkeypatch.setattr(machine, "last_level_cache", lambda: 1 << 20)
    limits = roofline.Roofline("float32")
    limits.peak[1] = 1000.0

    def shares(flops, moved):
        row = contest.Row("vgg", "a", "", "forward", 1, flops=flops, bytes=moved, samples={"cyconv": [10.0**4]})
        return limits.shares(row)

    # 5e6 FLOP in 1e4 seconds are half of the peak; 6e5 bytes lie in the cache and could be copied at 400 bytes/s.
    near = shares(5 * 10**6, 600_000)
    assert (near.fma, near.memory, near.cached, near.limit, near.share) == (0.5, 0.15, True, "fma", 0.5)
    far = shares(5 * 10**5, 1 << 21)
    assert (far.cached, far.limit) == (False, "memory")
    assert far.as_json()["limit share"] == far.share == pytest.approx((1 << 21) / 1e4 / 100)
    assert far.as_json()["memory share is of"] == "memory"
    assert near.as_json()["memory share is of"] == "cache"
    shares(1, 600_001)  # the same power of two, not measured again
    assert asked == [(1, 1 << 20), (1, 1 << 22)]
    assert limits.shares(contest.Row("vgg", "a", "", "forward", 1)) == roofline.Shares()


def test_copying_is_measured():
    near = machine.copy_bandwidth(1, 1 << 15, 0.005)
    if near is None:
        pytest.skip("no C compiler")
    assert 1e8 < near < 1e13
    assert machine.copy_bandwidth(2, 1 << 15, 0.005) > 1e8
    assert machine.copy_bandwidth(1000, 1 << 15, 0.005) is None
    assert 1 << 18 <= machine.last_level_cache() < 1 << 34


def test_goals_by_direction_and_dtype():
    goal = layers.GOALS["vgg"]
    assert report.goal_in_force(goal, "float32", "auto") is goal
    assert report.goal_in_force(goal, "float32", "im2col") is None
    assert report.goal_in_force(goal, "float64", "auto") == layers.Goal(None, None, 2.5)
    assert layers.goal("vgg", "forward") is goal
    assert layers.goal("vgg", "backward") == layers.Goal(torch=1.2)
    assert layers.goal("depthwise", "backward").torch == 2.5
    assert {layers.goal(group, "backward").torch_mean for group in layers.TRANSPOSED_GROUPS} == {1.5}
    assert {"resnet c1 b16", "lenet c1 b64"} <= layers.FIRST
    assert not {"lenet c2 b64", "k3 3x3 b1", "encodec in b1"} & layers.FIRST
    # In float64 each layer is held to PyTorch alone; the mean has no goal.
    samples = {"cyconv": [2.0], "torch": [6.0], "torch-cl": [4.0]}
    row = contest.Row("vgg", "a", "", "forward", 1, "float64", flops=100, samples=samples)
    text = report.summary("vgg", [row], layers.FLOAT64)
    assert "x PyTorch             mean  2.00, worst  2.00 (SHORT, goal 2.5) at a" in text


def test_float64_row_beside_torch():
    modules, _ = peers.load(["cyconv", "torch", "onnxruntime"])
    if "torch" not in modules:
        pytest.skip("torch is not installed")
    (row,) = contest.conv(layers.by_label("lenet c2 b1"), "forward", "float64", [1], modules, TINY)
    assert set(row.samples) == {"cyconv", "cyconv-fn", "torch", "torch-cl"}
    assert row.wrong == {}
    assert max(row.errors.values()) < 1e-13


def test_scaling_takes_large_layers_and_any_two_counts():
    def row(label, threads, seconds, flops=60e6):
        return contest.Row("vgg", label, "", "forward", threads, flops=int(flops), samples={"cyconv": [seconds]})

    rows = [row("a", 2, 1.0), row("a", 1, 1.9), row("b", 2, 1.0), row("b", 1, 1.6), row("tiny", 1, 1.0, 40e6)]
    rows += [row("tiny", 2, 1.0, 40e6), row("once", 2, 1.0), contest.Row("vgg", "wrong", "", "forward", 1, flops=10**9)]
    found = report.scaling(rows)
    assert [(s.label, s.threads, s.ratio) for s in found] == [("b", (1, 2), 1.6), ("a", (1, 2), 1.9)]
    text = report.scaling_summary(found)
    assert "2 threads over 1, 2 contests above 50 MFLOP: mean 1.74, least 1.60 (SHORT, goal 1.85) at b" in text
    assert [line.endswith("<") for line in text.splitlines()[1:3]] == [True, False]
    assert report.scaling(rows[:1] + rows[2:3]) == []
    # Three threads have no goal here, four beside two have.
    assert "goal" not in report.scaling_summary(report.scaling([row("a", 3, 1.0), row("a", 2, 1.1)]))
    assert "(ok, goal 1.85)" in report.scaling_summary(report.scaling([row("a", 4, 1.0), row("a", 2, 1.9)]))


def test_overhead_is_the_difference_round_by_round():
    samples = {"cyconv": [7e-6, 9e-6, 8e-6], "cyconv-kernel": [3e-6, 4e-6, 1e-6], "torch": [9e-6] * 3}
    row = contest.Row("overhead", "call", "", "forward", 1, samples=samples)
    assert row.excess("cyconv", "cyconv-kernel") == pytest.approx(5e-6)
    assert row.excess("cyconv", "ort") is None
    text = report.overhead(row, peers.NAMES)
    assert "Python around the kernel: 5.00 us (LONG, goal under 5)" in text
    assert "torch             9.00" in text
    row.samples["cyconv"] = [4e-6] * 3
    assert "1.00 us (ok" in report.overhead(row, peers.NAMES)
    # A kernel alone is no peer.
    assert row.best([n for n in peers.NAMES if not n.startswith("cyconv")]) == ("torch", pytest.approx(9e-6))


def test_kernel_alone_is_the_one_that_the_layer_runs(monkeypatch):
    from cyconv.functional import _conv_layer

    asked = []
    engine = _conv_layer.engine
    monkeypatch.setattr(_conv_layer, "engine", lambda *a, **k: asked.append(engine(*a, **k)) or asked[-1])
    data = peers.ConvData.random(layers.CALL, "float32")
    module = peers.load(["cyconv"])[0]["cyconv"]
    module.forward(layers.CALL, data, 1)["cyconv"].run()
    alone = module.kernel_alone(layers.CALL, data, 1)["cyconv-kernel"]
    _, kernel = asked[-1].forward_walk()
    assert alone.run.func.__self__ is kernel
    want = oracle.forward(layers.CALL, data.x, data.w, data.b)
    assert oracle.relative_error(alone.answer()[0], want) < 1e-6


def test_tiny_run_without_peers(monkeypatch, tmp_path, capsys):
    for name in ("torch", "onnx", "onnxruntime", "openvino", "ncnn"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(timing, "QUICK", TINY)
    monkeypatch.setattr(machine, "last_level_cache", lambda: 1 << 20)  # larger arrays take a while to fill
    lenet = dataclasses.replace(networks.LENET, batches=(4,))
    monkeypatch.setattr(networks, "LENET", lenet)
    monkeypatch.setitem(networks.NETWORKS, "lenet", lenet)
    monkeypatch.setattr(networks, "INFERENCE_BATCHES", (1,))
    out = tmp_path / "out.json"
    code = compare.main(
        [
            "--quick",
            "--layers",
            "lenet c[12] b1$",
            "--groups",
            "small",
            "overhead",
            "lenet",
            "--threads",
            "1",
            "--json",
            str(out),
            "--direction",
            "both",
        ]
    )
    printed = capsys.readouterr().out
    assert code == 0, printed
    assert "without torch" in printed
    rows = json.loads(out.read_text())["rows"]
    assert "Python around the kernel: " in printed
    (call,) = (r for r in rows if r["group"] == "overhead")
    assert {"cyconv", "cyconv-kernel"} <= set(call["medians"])
    rows.remove(call)
    assert [r["label"] for r in rows if r["group"] == "small"] == ["lenet c1 b1", "lenet c2 b1"] * 2
    assert all(r["limit"] in ("fma", "memory") and r["fma share"] > 0 for r in rows if r["group"] == "small")
    assert all(set(r["medians"]) <= {"cyconv", "cyconv-fn"} and "cyconv" in r["medians"] for r in rows)


def test_script_runs_from_anywhere(tmp_path):
    run = subprocess.run(
        [sys.executable, str(FOLDER / "compare.py"), "--list", "--groups", "vgg"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.splitlines()[0].split()[:3] == ["vgg", "vgg", "64"]
    assert len(run.stdout.splitlines()) == len(layers.select(groups=["vgg"]))


def test_tables_of_a_run(tmp_path, capsys):
    row = {"group": "vgg", "label": "one b1", "medians": {"cyconv": 2e-3, "torch": 4e-3, "ort": 3e-3, "torch-cl": 5e-3}}
    row |= {"kind": "convolution", "direction": "forward", "dtype": "float32", "threads": 2}
    path = tmp_path / "run.json"
    two = {**row, "label": "two b1", "medians": {"cyconv": 1e-3, "ort": 6e-3}}
    path.write_text(json.dumps({"rows": [row, two, {**row, "direction": "backward"}]}))
    assert tables.main([str(path)]) == 0
    printed = capsys.readouterr().out
    assert "**convolution, forward, float32, 2 threads**" in printed
    # 1.5 and 6 times the best peer; only the first has PyTorch, and neither new weights.
    assert "| vgg | 2 | 3.00 / 1.50 | 2.00 / 2.00 | – | one b1 |" in printed
    assert "**convolution, backward, float32, 2 threads**" in printed
    assert "| vgg | 1 | 1.50 / 1.50 | 2.00 / 2.00 | – | one b1 |" in printed
    assert tables.main([str(path), "--groups", "vgg"]) == 0
    assert "| one b1 | 2 | 4 | 3 | – | – | 1.50 |" in capsys.readouterr().out


def test_tables_of_operations_and_networks(tmp_path, capsys):
    both = {"dtype": "float32", "threads": 1}
    pool = {"group": "pooling", "label": "max", "geometry": "1x2x4x4", "kind": "operation", "direction": "forward"}
    pool |= {
        "medians": {"cyconv": 1e-3, "cyconv-cl": 4e-3, "torch": 2e-3},
        "copy shares": {"cyconv": 0.8, "torch": 0.4},
    }
    net = {"group": "lenet", "label": "training b64", "kind": "training", "direction": "backward"}
    net |= {"medians": {"cyconv": 1e-3, "torch": 3e-3, "torch-cl": 2e-3}}
    sizes = {"cyconv": 10_000_000, "torch": 40_000_000, "torch-cl": 30_000_000}
    path = tmp_path / "run.json"
    path.write_text(json.dumps({"rows": [pool | both, net | both | {"memory": sizes}]}))
    assert tables.main([str(path)]) == 0
    printed = capsys.readouterr().out
    assert "| max | 1x2x4x4 | 1 | 4 | 2 | 2.00 | 0.50 | 80 % | – |" in printed
    assert "| lenet, training b64 | 1 | 2 | 2.00 | 10 | 30 |" in printed
