"""The benchmarks of operations and of training: their float64 answers, contenders, memory and reports."""

import dataclasses
import json

import numpy as np
import pytest
from benchmarks_package import FOLDER  # first: it makes `benchmarks` importable

from benchmarks import compare, contest, machine, memory, networks, operations, peers, report, timing, training_oracle
from benchmarks.networks import Around, Conv, Dense, Network, Norm, Pool
from benchmarks.operations import Arrays, Operation

TINY = timing.Effort(rounds=2, sample=1e-4, warm=1e-4, settle=0.0, patience=0.0)
UNTIMED = dataclasses.replace(TINY, rounds=0)
SMALL = [
    Operation("max", "pooling", "max_pool", (2, 3, 7, 8), 3, 2, 1),
    Operation("avg", "pooling", "avg_pool", (2, 3, 7, 8), 3, 1, 1),
    Operation("whole", "pooling", "avg_pool", (2, 3, 4, 5)),
    Operation("relu", "activation", "relu", (2, 3, 4, 5)),
    Operation("softmax", "activation", "softmax", (4, 6)),
    Operation("pixels", "activation", "softmax", (2, 3, 4, 5)),
    Operation("bn", "normalization", "batch_norm", (4, 3, 5, 6)),
    Operation("bn relu", "normalization", "batch_norm_relu", (4, 3, 5, 6)),
    Operation("logarithm", "activation", "log_softmax", (4, 6)),
    Operation("loss", "activation", "cross_entropy", (4, 6)),
    Operation("loss of pixels", "activation", "cross_entropy", (2, 3, 4, 5)),
    Operation("dropout", "activation", "dropout", (2, 3, 4, 5)),
    Operation("linear", "linear", "linear", (4, 6), 5),
    Operation("linear relu", "linear", "linear_relu", (4, 6), 5),
    Operation("gelu", "activation", "gelu", (2, 3, 4, 5)),
    Operation("silu", "activation", "silu", (2, 3, 4, 5)),
    Operation("sum", "activation", "add_relu", (2, 3, 4, 5)),
    Operation("gn", "normalization", "group_norm", (2, 6, 4, 5), 3),
    Operation("ln", "normalization", "layer_norm", (4, 3, 10)),
    Operation("shuffle", "moving", "pixel_shuffle", (2, 8, 3, 5), 2),
    Operation("unshuffle", "moving", "pixel_unshuffle", (2, 3, 4, 6), 2),
    Operation("channels", "moving", "channel_shuffle", (2, 6, 3, 4), 3),
    Operation("nearest", "moving", "nearest", (2, 3, 4, 5), 2),
    Operation("bilinear", "moving", "bilinear", (2, 3, 4, 5), 2),
]
each_operation = pytest.mark.parametrize("what", SMALL, ids=lambda what: what.label)


def torch_or_skip():
    modules, _ = peers.load(["cyconv", "torch"])
    if "torch" not in modules:
        pytest.skip("torch is not installed")
    return modules


# ---------------------------------------------------------------------------------------------------------- operations


def test_operations_by_hand():
    labels = [what.label for what in operations.OPERATIONS]
    assert len(set(labels)) == len(labels)
    assert {what.group for what in operations.OPERATIONS} == set(operations.GROUPS)
    pool = SMALL[0]
    assert pool.out_shape == (2, 3, 4, 4)  # (7 + 2 - 3) // 2 + 1, (8 + 2 - 3) // 2 + 1
    assert pool.geometry == "2x3x7x8 3x3 s2 p1"
    assert pool.numbers("forward") == 6 * 56 + 6 * 16
    assert pool.numbers("backward") == 6 * 56 + 6 * 16 + 6 * 4  # dx, dy, and a byte for each maximum
    assert SMALL[2].out_shape == (2, 3, 1, 1)
    assert SMALL[2].numbers("backward") == 6 * 20 + 6  # dy and dx
    assert (SMALL[6].numbers("forward"), SMALL[6].numbers("backward")) == (3 * 360, 5 * 360)
    x = np.array([1.0, 5.0, 2.0, 3.0, 4.0, 0.0]).reshape(1, 1, 2, 3)
    dy = np.array([10.0, 20.0]).reshape(1, 1, 1, 2)
    data = Arrays(x, dy, np.ones(1), np.zeros(1))
    largest, mean = (Operation("", "", kind, (1, 1, 2, 3), 2, 1) for kind in ("max_pool", "avg_pool"))
    assert operations.answer(largest, "forward", data)[0].tolist() == [[[[5, 5]]]]
    assert operations.answer(largest, "backward", data)[0].tolist() == [[[[0, 30, 0], [0, 0, 0]]]]
    assert operations.answer(mean, "forward", data)[0].tolist() == [[[[3.25, 2.75]]]]
    assert operations.answer(mean, "backward", data)[0].tolist() == [[[[2.5, 7.5, 5], [2.5, 7.5, 5]]]]


@each_operation
def test_gradients_of_the_oracle_are_slopes(what):
    data = Arrays.random(what, "float64")
    gradients = operations.answer(what, "backward", data)
    rng = np.random.default_rng(1)
    given = [data.x, data.weight, data.bias][: len(gradients)]
    steps = [1e-6 * rng.standard_normal(a.shape) for a in given]
    # What is answered for dropout forward is what it makes of all elements, were none dropped.
    seen = data.dy * operations.kept(what) if what.kind == "dropout" else data.dy

    def value(sign):
        moved = [a + sign * step for a, step in zip(given, steps, strict=True)]
        x, weight, bias = [*moved, data.weight, data.bias][:3] if len(moved) == 1 else moved
        return (operations.answer(what, "forward", Arrays(x, data.dy, weight, bias))[0] * seen).sum()

    slope = sum(float((g * step).sum()) for g, step in zip(gradients, steps, strict=True))
    assert (value(1) - value(-1)) / 2 == pytest.approx(slope, rel=1e-6)


def test_a_dropout_that_scales_wrongly_or_keeps_too_few_is_found():
    x = np.arange(1.0, 1001)
    y = 2 * x * (x % 2)
    assert [part.tolist() for part in operations.undropped(y, x)] == [(2 * x).tolist(), 1.0]
    assert operations.undropped(x * (x % 2), x)[0].tolist() != (2 * x).tolist()
    assert operations.undropped(2 * x * (x % 4 == 0), x)[1] == 0


@each_operation
@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_contenders_answer_for_operations(what, direction, dtype):
    modules, _ = peers.load(["cyconv", "torch"])
    (row,) = contest.operation(what, direction, dtype, [1], modules, UNTIMED)
    assert row.wrong == {} == row.notes
    layouts = {"", "-cl"} if len(what.shape) == 4 else {""}
    assert set(row.errors) == {f"{name}{layout}" for name in modules for layout in layouts}


def test_channels_last_contenders_get_channels_last():
    data = Arrays.random(SMALL[0], "float32")
    found = peers.load(["cyconv"])[0]["cyconv"].operation(SMALL[0], "forward", data, 1)
    assert found["cyconv"].run().flags.c_contiguous
    assert found["cyconv-cl"].run().transpose(0, 2, 3, 1).flags.c_contiguous


def test_report_of_operations(monkeypatch):
    row = contest.Row("pooling", "max", "", "forward", 1, bytes=300, copying=400.0, kind="operation")
    row.samples = {"cyconv": [1.0] * 3, "cyconv-cl": [4.0] * 3, "torch": [3.0] * 3, "torch-cl": [2.0] * 3}
    assert row.copy_share("cyconv") == 0.75
    assert (row.ratio(report.TORCH), row.ratio(report.TORCH, "cyconv-cl")) == (2.0, 0.5)
    assert row.as_json()["copy shares"]["cyconv-cl"] == 0.1875
    text = report.operation_summary("pooling", [row])
    assert "C-contiguous: x PyTorch mean 2.00, worst 2.00 (ok, goal 1) at max, behind on 0 of 1" in text
    assert "channels last: x PyTorch mean 0.50, worst 0.50 (SHORT, goal 1) at max, behind on 1 of 1" in text
    assert "C-contiguous: share of copying at least 75 % at max, short on 0" in text
    assert "channels last: share of copying at least 19 % at max, short on 1" in text
    row.copying = None
    assert row.copy_share("cyconv") is None
    monkeypatch.setattr(machine, "copy_bandwidth", lambda threads, size: 1e9 * threads)
    modules, _ = peers.load(["cyconv"])
    one, two = contest.operation(SMALL[3], "forward", "float32", [1, 2], modules, TINY)
    assert (one.copying, two.copying, one.bytes) == (1e9, 2e9, 2 * 120 * 4)


# ------------------------------------------------------------------------------------------------------------- training

#: Every kind of part, as small as can be.
MINI = Network(
    "mini",
    (2, 8, 8),
    (
        *(Conv(2, 4, 3, padding=1), Norm(4), networks.RELU, Pool("max", 2)),
        *(Around((Conv(4, 4, 3, padding=1, bias=False),)), networks.RELU),
        *(Around((Conv(4, 6, 3, 2, 1), Norm(6)), (Conv(4, 6, 1, 2, bias=False),)), Pool("avg", 2)),
        *(networks.FLATTEN, Dense(6, 10)),
    ),
)


def mini_batch(size=5):
    rng = np.random.default_rng(2)
    return rng.standard_normal((size, *MINI.image)), rng.integers(0, 10, size)


@pytest.mark.parametrize("network", [networks.LENET, MINI], ids=lambda network: network.name)
def test_reference_network_differentiates(network):
    x, labels = networks.batches(8, 2)[0] if network is networks.LENET else mini_batch()
    state = networks.state(network)
    before, after = (training_oracle.Reference(state, network) for _ in range(2))
    loss = after.step(x, labels)
    gradient = {k: (before.weights[k] - after.weights[k]) / network.lr for k in before.weights}
    rng = np.random.default_rng(0)
    direction = {k: rng.standard_normal(v.shape) for k, v in before.weights.items()}
    slope = sum(float((gradient[k] * direction[k]).sum()) for k in direction)
    moved = []
    for sign in (1, -1):
        shifted = training_oracle.Reference(state, network)
        for k in direction:
            shifted.weights[k] += sign * 1e-6 * direction[k]
        moved.append(shifted.step(x, labels))
    assert (moved[0] - moved[1]) / 2e-6 == pytest.approx(slope, rel=1e-5)
    assert moved[0] != loss
    # The second step has momentum: the velocity of the first is in it.
    rest = {k: v.copy() for k, v in after.velocity.items()}
    after.step(x, labels)
    assert any(np.abs(after.velocity[k] - after.grads[k] - 0.9 * rest[k]).max() < 1e-12 for k in rest)


@pytest.mark.parametrize("network", networks.NETWORKS.values(), ids=lambda network: network.name)
def test_networks_are_the_ones_of_cyconv_and_of_torch(network):
    """The state loads strictly into both, which compares every name and shape, and both give the same loss."""
    modules, _ = peers.load(["cyconv", "torch"])
    small = dataclasses.replace(network, batches=(2,), checked=1)
    row = contest.training(small, 2, 1, modules, UNTIMED)
    assert row.wrong == {} == row.notes
    assert row.errors.keys() >= {"cyconv"}
    assert (row.kind, row.group, row.label) == ("training", network.name, "training b2")


def test_training_steps_of_torch_follow_the_reference():
    modules = torch_or_skip()
    row = contest.training(dataclasses.replace(networks.LENET, checked=4), 4, 1, modules, TINY)
    assert set(row.samples) == {"cyconv", "torch", "torch-cl"}
    assert max(row.errors.values()) < 1e-5


def test_report_of_networks():
    row = contest.Row("vgg11", "training b64", "", "backward", 2, kind="training")
    row.samples = {"cyconv": [1.0], "torch": [3.0], "torch-cl": [1.5]}
    row.memory = {"cyconv": 3_000_000, "torch": 4_000_000, "torch-cl": 2_000_000}
    text = report.network_summary([row])
    assert "vgg11 training b64, 2 threads: 1.50 x PyTorch (SHORT, goal 2)" in text
    assert "peak memory in MB: cyconv 3.0, torch 4.0, torch-cl 2.0 (MORE than PyTorch)" in text
    row.memory["cyconv"] = 1_000_000
    assert "MORE" not in report.network_summary([row])


def test_memory_of_a_fresh_process():
    """LeNet's gradients and velocities alone take half a megabyte; a hundred are the library and not the step."""
    found = memory.measure("cyconv", networks.LENET, 16, 1)
    assert 2 * 61_706 * 4 < found < 100e6
    # A larger batch has larger activations.
    assert memory.measure("cyconv", networks.LENET, 1024, 1) > found + 1008 * 4 * (6 * 28 * 28)
    with pytest.raises(RuntimeError, match="no-such"):
        memory.measure("no-such", networks.LENET, 16, 1)


def test_memory_is_in_the_row_or_a_note_says_why_not(monkeypatch):
    asked = []

    def measure(*arguments):
        asked.append(arguments)
        if len(asked) == 2:
            raise RuntimeError("no room")
        return 5

    monkeypatch.setattr(memory, "measure", measure)
    row = contest.Row("lenet", "training b4", "", "backward", 2, images=4, samples={"cyconv": [1.0], "torch": [2.0]})
    compare.Run(compare._arguments(["--peers", "cyconv"]))._measure_memory(row, networks.LENET)
    assert asked == [("cyconv", networks.LENET, 4, 2), ("torch", networks.LENET, 4, 2)]
    assert (row.memory, row.notes) == ({"cyconv": 5}, {"torch, memory": "no room"})


def test_tiny_run_of_operations_and_a_network(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(timing, "QUICK", TINY)
    monkeypatch.setattr(compare.Run, "look_at_machine", lambda self: "not looked at")
    monkeypatch.setattr(networks, "INFERENCE_BATCHES", (1,))
    monkeypatch.setitem(networks.NETWORKS, "lenet", dataclasses.replace(networks.LENET, batches=(4,)))
    out = tmp_path / "out.json"
    chosen = ["--layers", "64 8|^softmax.*b128", "--threads", "1"]
    arguments = ["--quick", "--groups", "pooling", "activation", "lenet", *chosen]
    code = compare.main([*arguments, "--direction", "both", "--peers", "cyconv", "--json", str(out)])
    printed = capsys.readouterr().out
    assert code == 0, printed
    rows = json.loads(out.read_text())["rows"]
    assert [(r["label"], r["direction"]) for r in rows if r["kind"] == "operation"] == [
        *(("global 64 8 b64", "forward"), ("softmax 1000 b128", "forward")),
        *(("global 64 8 b64", "backward"), ("softmax 1000 b128", "backward")),
    ]
    assert [r["label"] for r in rows if r["group"] == "lenet"] == ["training b4", "inference b1"]
    assert compare.main(["--list", "--groups", "pooling", "upconv"]) == 0
    printed = capsys.readouterr().out
    assert "max 2x2 lenet b64" in printed
    assert "unet up 1024-512 14 b1" in printed
    assert (FOLDER / "memory.py").exists()
