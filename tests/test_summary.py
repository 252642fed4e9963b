"""The table of a network."""

import numpy as np
import pytest

from cyconv import nn
from cyconv.models import LeNet5
from cyconv.nn import (
    AvgPool2d,
    Concat,
    Conv2d,
    Dropout,
    Flatten,
    Linear,
    MaxPool2d,
    Module,
    ReLU,
    Residual,
    Sequential,
)
from cyconv.summary import Row, summary


def conv(*args, **kwargs):
    return Conv2d(*args, rng=0, **kwargs)


def test_lenet_by_hand():
    table = summary(LeNet5(), (1, 28, 28))
    assert table.rows == [
        Row("0", "Conv2d 5×5", (6, 28, 28), ("(28 + 2·2 − 1·(5−1) − 1)/1 + 1 = 28",), "(1·5·5 + 1)·6 =", 156),
        Row("1", "ReLU", (6, 28, 28)),
        Row("2", "MaxPool2d 2×2", (6, 14, 14), ("(28 + 2·0 − 1·(2−1) − 1)/2 + 1 = 14",)),
        Row("3", "Conv2d 5×5", (16, 10, 10), ("(14 + 2·0 − 1·(5−1) − 1)/1 + 1 = 10",), "(6·5·5 + 1)·16 =", 2416),
        Row("4", "ReLU", (16, 10, 10)),
        Row("5", "MaxPool2d 2×2", (16, 5, 5), ("(10 + 2·0 − 1·(2−1) − 1)/2 + 1 = 5",)),
        Row("6", "Flatten", (400,)),
        Row("7", "Linear", (120,), (), "(400 + 1)·120 =", 48120),
        Row("8", "ReLU", (120,)),
        Row("9", "Linear", (84,), (), "(120 + 1)·84 =", 10164),
        Row("10", "ReLU", (84,)),
        Row("11", "Linear", (10,), (), "(84 + 1)·10 =", 850),
    ]
    assert table.parameters == 61706
    assert table.nbytes == 4 * 61706


def test_the_table_as_text():
    text = str(summary(Sequential(conv(1, 6, 5, padding=2), MaxPool2d(2), Flatten(), Linear(1176, 10)), (1, 28, 28)))
    lines = text.splitlines()
    assert lines[0].split("  ")[0] == "layer"
    assert "(H + 2P − D(K−1) − 1)/S + 1" in lines[0]
    assert (
        " ".join(lines[3].split()) == "0 Conv2d 5×5 6 × 28 × 28 (28 + 2·2 − 1·(5−1) − 1)/1 + 1 = 28 (1·5·5 + 1)·6 = 156"
    )
    assert " ".join(lines[6].split()) == "3 Linear 10 (1176 + 1)·10 = 11,770"
    assert lines[-1].split() == ["total", "47", "KiB", "11,926"]
    # Columns are aligned: every number of parameters ends where the lines end.
    assert len(lines[3]) == len(lines[6]) == len(lines[-1]) == len(lines[-2])


def test_arithmetic_equals_the_parameters():
    """Each row's arithmetic, computed, is the row's number; together they are the model's."""
    model = Sequential(
        conv(4, 8, (3, 2), stride=2, padding=(1, 0), groups=2),
        conv(8, 8, 3, bias=False, padding="same", dilation=2),
        conv(8, 6, 3, groups=2, bias=False, padding=((2, 0), (1, 1))),
        AvgPool2d(3, 2, 1),
        Flatten(),
        Linear(6 * 5 * 6, 7, bias=False),
        Dropout(),
    )
    table = summary(model, (4, 19, 23))
    for row in table.rows:
        if row.arithmetic:
            assert eval(row.arithmetic.rstrip("= ").replace("·", "*")) == row.parameters
        for size in row.size:
            left, right = size.replace("−", "-").replace("·", "*").rsplit(" = ", 1)
            assert eval(left.replace("⌊", "int(").replace("⌋", ")")) == int(right)
    assert sum(row.parameters for row in table.rows) == table.parameters == model.num_parameters()
    assert table.rows[0].layer == "Conv2d 3×2, 2 groups"
    assert table.rows[0].arithmetic == "(4/2·3·2 + 1)·8 ="
    assert table.rows[1].arithmetic == "8·3·3·8 ="


def test_sizes_agree_with_running_the_model():
    model = Sequential(conv(3, 8, 3, stride=(2, 1), padding=1), MaxPool2d(3, 2, ceil_mode=True), conv(8, 4, 1), ReLU())
    rows = summary(model, (3, 17, 18)).rows
    x = np.zeros((1, 3, 17, 18), np.float32)
    for row, layer in zip(rows, model, strict=True):
        x = layer(x)
        assert row.output == x.shape[1:]
    # Height and width differ: one line for each.
    assert len(rows[0].size) == 2


@pytest.mark.parametrize(
    ("length", "pool", "size"),
    [
        (9, MaxPool2d(3, 2), "(9 + 2·0 − 1·(3−1) − 1)/2 + 1 = 4"),
        (8, MaxPool2d(3, 2), "⌊(8 + 2·0 − 1·(3−1) − 1)/2⌋ + 1 = 3"),
        (8, MaxPool2d(3, 2, ceil_mode=True), "⌈(8 + 2·0 − 1·(3−1) − 1)/2⌉ + 1 = 4"),
        # Rounding up would make 4, but that window would start at 6 + 1, behind the input and its padding.
        (5, AvgPool2d(2, 3, 1, ceil_mode=True), "⌊(5 + 2·1 − 1·(2−1) − 1)/3⌋ + 1 = 2"),
        (9, MaxPool2d(3, 2, 1, 2), "(9 + 2·1 − 2·(3−1) − 1)/2 + 1 = 4"),
    ],
)
def test_rounding_is_shown(length, pool, size):
    (row,) = summary(pool, (2, length, length)).rows
    assert row.size == (size,)
    assert row.output == pool(np.zeros((1, 2, length, length), np.float32)).shape[1:]


def test_pools_of_every_kind_and_rank():
    model = Sequential(
        *(nn.AvgPool2d(3, 2, ((0, 1), (1, 0)), dilation=2), nn.LPPool2d(2, 2), nn.AdaptiveMaxPool2d((2, 3))),
        nn.GlobalAvgPool2d(),
    )
    sizes = [(row.layer, row.output, row.size) for row in summary(model, (4, 20, 22)).rows]
    assert sizes == [
        (
            "AvgPool2d 3×3",
            (4, 9, 10),
            ("(20 + 0 + 1 − 2·(3−1) − 1)/2 + 1 = 9", "(22 + 1 + 0 − 2·(3−1) − 1)/2 + 1 = 10"),
        ),
        ("LPPool2d 2×2", (4, 4, 5), ("⌊(9 + 2·0 − 1·(2−1) − 1)/2⌋ + 1 = 4", "(10 + 2·0 − 1·(2−1) − 1)/2 + 1 = 5")),
        ("AdaptiveMaxPool2d", (4, 2, 3), ("4 in 2 windows", "5 in 3 windows")),
        ("GlobalAvgPool2d 2×3", (4, 1, 1), ("(2 + 2·0 − 1·(2−1) − 1)/2 + 1 = 1", "(3 + 2·0 − 1·(3−1) − 1)/3 + 1 = 1")),
    ]
    assert summary(nn.MaxPool1d(2), (3, 9)).rows[0].output == (3, 4)
    assert summary(nn.AvgPool3d(2), (3, 4, 6, 8)).rows[0].output == (3, 2, 3, 4)
    assert summary(nn.FractionalMaxPool2d(2, output_ratio=0.5), (3, 9, 9)).rows[0].output == (3, 4, 4)


def test_nested_containers():
    body = Sequential(conv(4, 4, 3, padding=1), ReLU())
    branches = Concat(conv(4, 2, 1), Sequential(conv(4, 3, 1), conv(3, 5, 3, padding=1)), MaxPool2d(3, 1, 1))
    table = summary(Sequential(Residual(body), branches, Residual(conv(11, 6, 1), conv(11, 6, 1))), (4, 8, 9))
    assert [(row.name, row.layer, row.output) for row in table.rows] == [
        ("0", "Residual", (4, 8, 9)),
        ("0.body", "Sequential", (4, 8, 9)),
        ("0.body.0", "Conv2d 3×3", (4, 8, 9)),
        ("0.body.1", "ReLU", (4, 8, 9)),
        ("1", "Concat", (11, 8, 9)),
        ("1.0", "Conv2d 1×1", (2, 8, 9)),
        ("1.1", "Sequential", (5, 8, 9)),
        ("1.1.0", "Conv2d 1×1", (3, 8, 9)),
        ("1.1.1", "Conv2d 3×3", (5, 8, 9)),
        ("1.2", "MaxPool2d 3×3", (4, 8, 9)),
        ("2", "Residual", (6, 8, 9)),
        ("2.body", "Conv2d 1×1", (6, 8, 9)),
        ("2.shortcut", "Conv2d 1×1", (6, 8, 9)),
    ]
    assert table.rows[4].size == ("2 + 5 + 4 = 11",)
    assert table.rows[0].size == ("body + shortcut",)
    assert sum(row.parameters for row in table.rows) == table.parameters
    assert "    1.1.1" in str(table)


def test_a_single_layer_is_a_network():
    assert [row.name for row in summary(Residual(conv(2, 2, 1)), (2, 3, 3)).rows] == ["", "body"]
    (row,) = summary(Linear(4, 2), (4,)).rows
    assert (row.output, row.parameters) == ((2,), 10)


def test_shared_weights_count_once():
    first, second = Linear(3, 3), Linear(3, 3)
    second.weight = first.weight
    third = Linear(3, 3)
    third.weight, third.bias = first.weight, first.bias
    table = summary(Sequential(first, second, third), (3,))
    assert [(row.arithmetic, row.parameters) for row in table.rows] == [
        ("(3 + 1)·3 =", 12),
        ("3 =", 3),
        ("shared, counted above", 0),
    ]
    assert table.parameters == 15


class Own(Module):
    """A module of one's own, which does with its layers what it likes."""

    def __init__(self):
        self.inner = conv(2, 2, 3, padding=1)
        self.outer = Linear(6, 5, rng=0)

    def forward(self, input):
        return self.outer(self.inner(self.inner(input)))


class Backwards(Sequential):
    def forward(self, input):
        for layer in reversed(list(self)):
            input = layer(input)
        return input


def test_modules_of_ones_own_are_one_row():
    table = summary(Sequential(Own(), Backwards(Linear(4, 3, rng=0), Linear(5, 4, rng=0))), (2, 6, 6))
    assert [(row.layer, row.output, row.parameters) for row in table.rows] == [
        ("Own", (2, 6, 5), 38 + 35),
        ("Backwards", (2, 6, 3), 15 + 24),
    ]
    assert table.rows[0].arithmetic == "2·2·3·3 + 2 + 5·6 + 5 ="


def test_the_model_is_left_as_it_was():
    model = Sequential(conv(1, 2, 3, dtype=np.float64), Dropout(), ReLU())
    model[1].eval()
    before = model.state_dict()
    summary(model, (1, 4, 4))
    assert [module.training for module in model.modules()] == [True, True, False, True]
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize(
    ("model", "shape", "error", "message"),
    [
        (LeNet5(), (3, 28, 28), ValueError, r"layer 0 \(Conv2d\), given one example \(3, 28, 28\): .*channels"),
        (LeNet5(), (1, 40, 40), ValueError, r"layer 7 \(Linear\), given one example \(1024,\): .*400"),
        (
            Sequential(Residual(conv(2, 3, 1))),
            (2, 4, 4),
            ValueError,
            r"0: the body gives \(3, 4, 4\), the shortcut \(2",
        ),
        (Concat(conv(2, 3, 1), conv(2, 3, 2)), (2, 4, 4), ValueError, r"Concat.*\(3, 4, 4\).*\(3, 3, 3\)"),
        (LeNet5(), (1, 0, 28), ValueError, r"lengths of at least 1, got \(1, 0, 28\)"),
        (LeNet5(), (), ValueError, r"got \(\)"),
        (LeNet5(), (1, 28.0, 28), TypeError, r"summary: input_shape must be the shape of one .*, got \(1, 28.0, 28\)"),
        (LeNet5(), 28, TypeError, r"summary: input_shape must be .*, got 28"),
    ],
)
def test_shapes_that_do_not_fit(model, shape, error, message):
    with pytest.raises(error, match=message):
        summary(model, shape)
    assert model.training


def test_what_is_no_network():
    with pytest.raises(TypeError, match=r"summary: model must be a Module, got str"):
        summary("LeNet5", (1, 28, 28))
