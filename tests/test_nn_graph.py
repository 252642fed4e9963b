"""Graphs of named nodes, and the joins: wiring, order, gradients over any fan-out, state, memory."""

import copy
import gc
import pickle
import weakref

import numpy as np
import pytest
from tolerances import assert_close

from cyconv import functional as F
from cyconv import nn
from cyconv.summary import summary


def normal(*shape, dtype="float64", seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def conv(*args, seed=0, dtype="float64", **kwargs):
    return nn.Conv2d(*args, dtype=dtype, rng=seed, **kwargs)


def diamond(dtype="float64"):
    """A value that four nodes read, a join of three, broadcasting, and nodes that are not written in their order."""
    return nn.Graph(
        ("sum", nn.Add(), "left", "right", "stem"),
        ("stem", conv(2, 3, 3, padding=1, dtype=dtype), "image"),
        ("right", nn.Sequential(nn.Tanh(), conv(3, 3, 1, seed=2, dtype=dtype)), "stem"),
        ("left", conv(3, 3, 3, padding=1, seed=1, dtype=dtype), "stem"),
        ("gate", nn.Sequential(nn.AvgPool2d(4), nn.Sigmoid()), "stem"),
        ("scaled", nn.Multiply(), "sum", "gate"),
        ("joined", nn.Concatenate(), "scaled", "image"),
        inputs="image",
    )


def by_hand(graph, x):
    stem = graph.stem(x)
    total = graph.left(stem) + graph.right(stem) + stem
    return np.concatenate([total * graph.gate(stem), x], 1)


def assert_gradients(module, inputs, seed=7):
    """Directional differences in float64 of <module(inputs), dy>, along inputs and parameters."""
    rng = np.random.default_rng(seed)
    output = module(*inputs)
    outputs = output if isinstance(output, tuple) else (output,)
    dys = tuple(rng.standard_normal(y.shape) for y in outputs)
    module.zero_grad()
    found = module.backward(dys if isinstance(output, tuple) else dys[0])
    gradients = [*(found if len(inputs) > 1 else (found,)), *(p.grad for p in module.parameters())]
    places = [*inputs, *(p.data for p in module.parameters())]
    directions = [rng.standard_normal(place.shape) for place in places]
    expected = sum(np.vdot(g, d) for g, d in zip(gradients, directions, strict=True))

    def value(step):
        for place, direction in zip(places, directions, strict=True):
            place += step * direction
        result = module(*inputs)
        for place, direction in zip(places, directions, strict=True):
            place -= step * direction
        return sum(
            np.vdot(y, dy) for y, dy in zip(result if isinstance(result, tuple) else (result,), dys, strict=True)
        )

    step = 1e-6
    assert (value(step) - value(-step)) / (2 * step) == pytest.approx(expected, rel=1e-7)


# ---------------------------------------------------------------------------------------------- forward and backward


def test_a_graph_computes_what_its_layers_do_by_hand():
    graph, x = diamond(), normal(2, 2, 4, 4)
    assert_close(graph(x), by_hand(graph, x), algorithm="pointwise")
    assert graph.order == ("stem", "right", "left", "sum", "gate", "scaled", "joined")
    assert graph.input_names == ("image",)
    assert graph.output_names == ("joined",)
    assert graph.sources("sum") == ("left", "right", "stem")


def test_gradients_add_up_over_any_fan_out():
    assert_gradients(diamond(), [normal(2, 2, 4, 4)])


def test_several_inputs_and_outputs():
    graph = nn.Graph(
        ("a", nn.Linear(3, 4, dtype="float64", rng=0), "x"),
        ("b", nn.Linear(5, 4, dtype="float64", rng=1), "y"),
        ("sum", nn.Add(), "a", "b", "a"),
        ("product", nn.Multiply(), "a", "b", "b"),
        inputs=["x", "y"],
        outputs=["sum", "product", "a"],
    )
    x, y = normal(2, 3), normal(2, 5, seed=1)
    a, b = graph.a(x), graph.b(y)
    for found, expected in zip(graph(x, y), (a + b + a, a * b * b, a), strict=True):
        assert_close(found, expected, algorithm="pointwise")
    assert_gradients(graph, [x, y])
    # An output without a gradient, and an input that none reaches.
    graph(x, y)
    dx, dy = graph.backward((None, None, np.ones((2, 4))))
    assert_close(dx, np.ones((2, 4)) @ graph.a.weight.data, algorithm="pointwise")
    assert dy is None
    with pytest.raises(TypeError, match=r"grad_output must be a tuple of 3 gradients \(sum, product, a\)"):
        graph.backward(np.ones((2, 4)))
    with pytest.raises(TypeError, match=r"forward takes 2 inputs \(x, y\), got 1"):
        graph(x)


def test_results_are_the_same_bit_for_bit():
    graph, x = diamond("float32"), normal(2, 2, 4, 4, dtype="float32")
    runs = []
    for _ in range(3):
        graph.zero_grad()
        y = graph(x)
        runs.append([y, graph.backward(y), *(p.grad for p in graph.parameters())])
    for run in runs[1:]:
        for found, expected in zip(run, runs[0], strict=True):
            np.testing.assert_array_equal(found, expected)


def test_nothing_is_computed_before_the_first_parameters():
    class Counted(nn.Identity):
        calls = 0

        def _backward(self, grad_output, pending, input_grad):
            self.calls += 1
            return grad_output

    before, beside = Counted(), Counted()
    graph = nn.Graph(
        ("before", before, "x"),
        ("conv", conv(2, 2, 1), "before"),
        ("beside", beside, "before"),
        ("sum", nn.Add(), "conv", "beside"),
        inputs="x",
    )
    x = normal(1, 2, 3, 3)
    y = graph(x)
    assert graph.backward(y, input_grad=False) is None
    assert (before.calls, beside.calls) == (0, 0)
    expected = graph.conv.weight.grad
    graph.zero_grad()
    assert graph.backward(y).shape == x.shape
    assert (before.calls, beside.calls) == (1, 1)
    np.testing.assert_array_equal(graph.conv.weight.grad, expected)


def test_nothing_is_added_if_anything_fails():
    class Breaks(nn.Identity):
        def _backward(self, grad_output, pending, input_grad):
            raise MemoryError("in the middle")

    graph = nn.Graph(("breaks", Breaks(), "input"), ("conv", conv(2, 2, 1), "breaks"))
    y = graph(normal(1, 2, 3, 3))
    with pytest.raises(MemoryError):
        graph.backward(y)
    assert graph.conv.weight.grad is None


def test_grad_output_is_not_written_into():
    graph = nn.Graph(("a", nn.Identity(), "input"), ("sum", nn.Add(), "a", "input", "a", "input"))
    x = np.ones((2, 3))
    graph(x)
    dy = normal(2, 3)
    before = dy.copy()
    np.testing.assert_array_equal(graph.backward(dy), 4 * before)
    np.testing.assert_array_equal(dy, before)


# ---------------------------------------------------------------------------------------------- nesting, modes, state


def test_a_graph_inside_other_containers_and_they_inside_it():
    inner = nn.Graph(("a", conv(2, 2, 3, padding=1), "x"), ("sum", nn.Add(), "a", "x"), inputs="x")
    net = nn.Sequential(nn.Residual(inner), nn.Graph(("net", diamond(), "input")))
    assert_gradients(net, [normal(1, 2, 4, 4)])
    assert list(net.state_dict())[:2] == ["0.body.a.weight", "0.body.a.bias"]


def test_names_are_those_of_the_nodes_in_the_order_in_which_they_are_written():
    assert list(diamond().state_dict()) == [
        *("stem.weight", "stem.bias", "right.1.weight", "right.1.bias", "left.weight", "left.bias")
    ]
    graph = diamond()
    assert graph["left"] is graph.left
    assert graph[1] is graph.stem
    assert len(graph) == 7
    other = diamond()
    other.stem.weight.data += 1
    graph.load_state_dict(other.state_dict())
    x = normal(1, 2, 4, 4)
    np.testing.assert_array_equal(graph(x), other(x))


def test_modes_reach_all_nodes_and_eval_remembers_nothing():
    graph = diamond()
    graph.eval()
    assert not any(module.training for module in graph.modules())
    graph(normal(1, 2, 4, 4))
    with pytest.raises(RuntimeError, match="in eval mode forward remembers nothing"):
        graph.backward(np.ones((1, 5, 4, 4)))
    with pytest.raises(RuntimeError, match="there was none"):
        diamond().backward(np.ones((1, 5, 4, 4)))


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda graph: pickle.loads(pickle.dumps(graph))])
def test_copies(duplicate):
    graph, x = diamond(), normal(1, 2, 4, 4)
    expected = graph(x)
    twin = duplicate(graph)
    np.testing.assert_array_equal(twin(x), expected)
    twin.stem.bias.data += 1
    assert not np.array_equal(twin(x), graph(x))


class Note(nn.Module):
    """Passes a copy on, and notes at every call which of the arrays that it gave before are still alive."""

    def __init__(self):
        self.given = []
        self.alive = []

    def forward(self, input):
        gc.collect()
        self.alive.append([reference() is not None for reference in self.given])
        output = input.copy()
        self.given.append(weakref.ref(output))
        return output


def test_an_activation_is_freed_when_its_last_reader_has_run():
    notes = [Note() for _ in range(4)]
    log = notes[0]
    for note in notes[1:]:
        note.given, note.alive = log.given, log.alive
    graph = nn.Graph(
        ("a", notes[0], "input"),
        ("b", notes[1], "a"),
        ("c", notes[2], "b"),
        ("d", notes[3], "c"),
        ("sum", nn.Add(), "d", "b"),
    ).eval()
    graph(np.ones(3))
    # When c runs, a is gone; when d runs, b still waits for the sum.
    assert log.alive == [[], [True], [False, True], [False, True, True]]
    gc.collect()
    assert [reference() is not None for reference in log.given] == [False] * 4


def test_a_relu_behind_a_layer_that_others_read_sees_the_layer_as_it_is():
    x = normal(2, 2, 5, 5)
    for outputs in ("sum", ["sum", "conv"]):
        graph = nn.Graph(
            ("conv", conv(2, 2, 3, padding=1), "input"),
            ("relu", nn.ReLU(), "conv"),
            ("again", nn.ReLU(), "relu"),
            ("sum", nn.Add(), "again", "input") if outputs == "sum" else ("sum", nn.Add(), "again", "conv"),
            outputs=outputs,
        )
        y = graph.conv(x)
        z = graph(x)
        if outputs == "sum":
            assert len(graph._arrange()) == 3  # conv and relu are one step
            assert_close(z, np.maximum(y, 0) + x, algorithm="pointwise")
        else:
            assert_close(z[0], np.maximum(y, 0) + y, algorithm="pointwise")
            np.testing.assert_array_equal(z[1], y)
        assert_gradients(graph, [x])


def test_another_layer_can_be_put_at_a_node():
    graph, x = diamond(), normal(1, 2, 4, 4)
    before = graph(x)
    graph["left"] = conv(3, 3, 1, seed=5)
    assert not np.array_equal(graph(x), before)
    graph.left = nn.Identity()
    assert_close(graph(x), by_hand(graph, x), algorithm="pointwise")
    with pytest.raises(ValueError, match="the same Identity object stands at"):
        graph["right"] = graph.left
    with pytest.raises(AttributeError, match="'more' is none of the nodes"):
        graph.more = nn.ReLU()
    with pytest.raises(AttributeError, match="'left' is a node"):
        del graph.left
    with pytest.raises(TypeError, match="node 'left' must be a layer, got int"):
        graph.left = 3
    with pytest.raises(KeyError, match="there is no node 'middle'"):
        graph["middle"]
    with pytest.raises(TypeError, match="a part of a graph needs wires"):
        graph[:2]


def test_repr_shows_the_wires():
    graph = nn.Graph({"a": (nn.ReLU(), "x"), "b": (nn.Add(), "a", "y")}, inputs=["x", "y"])
    assert repr(graph).split("\n") == [
        "Graph(",
        "  inputs=x, y; outputs=b",
        "  (a ← x): ReLU()",
        "  (b ← a, y): Add()",
        ")",
    ]


# ---------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("nodes", "options", "error", "message"),
    [
        ([], {}, ValueError, "at least one node is needed"),
        (["a"], {}, TypeError, r"node 0 must be a tuple \(name, layer, source, ...\), got 'a'"),
        ([(1, "relu")], {}, TypeError, "a name must be a string, got 1"),
        ([("a",)], {}, TypeError, "its layer is nothing"),
        ([("a", "relu", "input")], {}, TypeError, "its layer is str"),
        ([("a", "RELU")], {}, ValueError, r"node 'a' \(ReLU\) has no source"),
        ([("a", "RELU", 0)], {}, TypeError, "a source must be the name of a node, got 0"),
        ([("a", "RELU", "image")], {}, ValueError, "reads 'image', which is no node and no input; there are input, a"),
        ([("a", "RELU", "input"), ("a", "RELU", "input")], {}, ValueError, "the name 'a' occurs 2 times"),
        ([("input", "RELU", "input")], {}, ValueError, "the name 'input' occurs 2 times; the inputs have names"),
        ([("a", "RELU", "a")], {}, ValueError, "in a circle: a ← a"),
        ([("a", "RELU", "b"), ("b", "RELU", "a")], {}, ValueError, "in a circle: a ← b ← a"),
        (
            [("x", "RELU", "input"), ("c", "RELU", "b"), ("a", "ADD", "c", "x"), ("b", "RELU", "a")],
            {"outputs": "x"},
            ValueError,
            "in a circle: c ← b ← a ← c",
        ),
        ([("a", "RELU", "input"), ("b", "RELU", "input")], {}, ValueError, "the nodes a, b are read by no other"),
        (
            [("a", "RELU", "input"), ("b", "RELU", "a")],
            {"outputs": "a"},
            ValueError,
            "no output depends on b; name it in outputs or leave it out",
        ),
        ([("a", "RELU", "x")], {"inputs": ["x", "y"]}, ValueError, "no node reads the input y"),
        ([("a", "RELU", "x")], {"inputs": ["x", "x"]}, ValueError, "the name 'x' occurs 2 times"),
        ([("a", "RELU", "x")], {"inputs": 3}, TypeError, "inputs must be a name or a list of names, got 3"),
        ([("a", "RELU", "input")], {"outputs": []}, TypeError, "outputs must be a name or a list of names"),
        (
            [("a", "RELU", "input")],
            {"outputs": "b"},
            ValueError,
            "names 'b', which is no node; there are a",
        ),
        ([("a", "RELU", "input")], {"outputs": "input"}, ValueError, "'input', which is an input, not a node"),
        ([("a", "RELU", "input")], {"outputs": ["a", "a"]}, ValueError, "outputs names 'a' 2 times"),
        ([("a", "RELU", "input", "input")], {}, TypeError, "node 'a': ReLU does not take 2 inputs"),
        ([("a.b", "RELU", "input")], {}, ValueError, "without a dot, got 'a.b'"),
        ([("forward", "RELU", "input")], {}, ValueError, "a name must be new"),
    ],
)
def test_mistakes_are_found_at_construction(nodes, options, error, message):
    layers = {"RELU": nn.ReLU, "ADD": nn.Add}
    made = [
        tuple(layers[part]() if isinstance(part, str) and part in layers else part for part in node)
        if isinstance(node, tuple)
        else node
        for node in nodes
    ]
    with pytest.raises(error, match=message):
        nn.Graph(*made, **options)


def test_one_layer_at_two_nodes_and_a_node_of_two_values():
    relu = nn.ReLU()
    with pytest.raises(ValueError, match="the same ReLU object stands at 'a' and at 'b'"):
        nn.Graph(("a", relu, "input"), ("b", relu, "a"))
    two = nn.Graph(("a", nn.ReLU(), "input"), ("b", nn.ReLU(), "a"), outputs=["a", "b"])
    with pytest.raises(TypeError, match="node 'two' gives 2 values"):
        nn.Graph(("two", two, "input"))(np.ones(3))


def test_a_layer_of_two_inputs_must_give_two_gradients_back():
    class Difference(nn.Module):
        def forward(self, a, b):
            return a - b

        def _backward(self, grad_output, pending, input_grad):
            return grad_output

    graph = nn.Graph(("d", Difference(), "a", "b"), inputs=["a", "b"])
    graph(np.ones(3), np.ones(3))
    with pytest.raises(TypeError, match="node 'd' has 2 sources, so its backward must return a tuple of 2"):
        graph.backward(np.ones(3))


# ---------------------------------------------------------------------------------------------- summary


def test_summary_of_a_graph():
    table = summary(diamond(), (2, 4, 4))
    assert [(row.name, row.layer, row.output, row.size[:1]) for row in table.rows if "." not in row.name] == [
        ("stem", "Conv2d 3×3 ← image", (3, 4, 4), ("(4 + 2·1 − 1·(3−1) − 1)/1 + 1 = 4",)),
        ("right", "Sequential ← stem", (3, 4, 4), ()),
        ("left", "Conv2d 3×3 ← stem", (3, 4, 4), ("(4 + 2·1 − 1·(3−1) − 1)/1 + 1 = 4",)),
        ("sum", "Add ← left, right, stem", (3, 4, 4), ()),
        ("gate", "Sequential ← stem", (3, 1, 1), ()),
        ("scaled", "Multiply ← sum, gate", (3, 4, 4), ("(3 × 4 × 4) · (3 × 1 × 1)",)),
        ("joined", "Concatenate ← scaled, image", (5, 4, 4), ("3 + 2 = 5",)),
    ]
    assert table.parameters == diamond().num_parameters()
    assert "scaled" in str(table)


def test_summary_of_a_graph_with_several_inputs_alone_and_as_a_node():
    def inner():
        return nn.Graph(("a", nn.Linear(3, 4), "x"), ("sum", nn.Add(), "a", "y"), inputs=["x", "y"])

    table = summary(inner(), [(3,), (4,)])
    assert table.input == ((3,), (4,))
    assert [(row.name, row.output) for row in table.rows] == [("a", (4,)), ("sum", (4,))]
    assert str(table).count("input") == 2
    outer = nn.Graph(("l", nn.Linear(3, 4), "input"), ("g", inner(), "input", "l"))
    rows = [(row.name, row.layer, row.output) for row in summary(outer, (3,)).rows]
    assert rows[1:3] == [("g", "Graph ← input, l", (4,)), ("g.a", "Linear ← x", (4,))]
    with pytest.raises(ValueError, match="the graph has the inputs x, y, got shapes"):
        summary(inner(), [(3,)])
    with pytest.raises(ValueError, match=r"layer sum \(Add\), given examples \(4,\), \(5,\)"):
        summary(inner(), [(3,), (5,)])


# ---------------------------------------------------------------------------------------------- the joins


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shapes", [[(2, 3, 4, 5)] * 2, [(2, 3, 4, 5), (2, 3, 1, 1), (5,)], [(3, 1), (4,)], [(2, 2)]])
def test_sum_and_product(dtype, shapes):
    inputs = [normal(*shape, dtype=dtype, seed=i) for i, shape in enumerate(shapes)]
    total, product = inputs[0], inputs[0]
    for x in inputs[1:]:
        total, product = total + x, product * x
    assert_close(F.add(*inputs), total, algorithm="pointwise")
    assert_close(F.multiply(*inputs), product, algorithm="pointwise")
    assert F.add(*inputs).dtype == dtype
    assert F.add(*inputs) is not inputs[0]
    dy = normal(*total.shape, dtype=dtype, seed=9)
    for i, (found, x) in enumerate(zip(F.multiply_backward(dy, *inputs), inputs, strict=True)):
        # The product is linear in each input: <d, x> = <dy, product>.
        assert found.shape == x.shape
        assert found.dtype == dtype
        assert np.vdot(found, x) == pytest.approx(np.vdot(dy, product), rel=1e-4 if dtype == "float32" else 1e-10), i
    for found, x in zip(F.add_backward(dy, *inputs), inputs, strict=True):
        assert found.shape == x.shape
        assert np.vdot(found, x) == pytest.approx(np.vdot(dy, np.broadcast_to(x, dy.shape)), rel=1e-4)
        assert found is dy if x.shape == dy.shape else found.dtype == dtype


def test_joins_keep_the_memory_order_of_the_first_input():
    last = np.moveaxis(normal(2, 4, 5, 3), -1, 1)
    plain = np.ascontiguousarray(last)
    for join in (F.add, F.multiply, lambda *inputs: F.cat(inputs, 1)):
        assert np.moveaxis(join(last, plain), 1, -1).flags.c_contiguous
        assert join(plain, last).flags.c_contiguous
        np.testing.assert_array_equal(join(last, plain), join(plain, last))
    assert np.moveaxis(F.multiply(normal(2, 3, 1, 1), last), 1, -1).flags.c_contiguous


def test_cat_and_its_gradient():
    parts = [normal(2, n, 3, seed=n) for n in (1, 0, 4)]
    joined = F.cat(parts, dim=-2)
    np.testing.assert_array_equal(joined, np.concatenate(parts, 1))
    for found, x in zip(F.cat_backward(joined, parts, 1), parts, strict=True):
        np.testing.assert_array_equal(found, x)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: F.add(), TypeError, "add: at least one input is needed"),
        (lambda: F.add(np.ones(2), np.ones(3)), ValueError, r"add: the inputs have shapes \(2,\), \(3,\)"),
        (lambda: F.add(np.ones(2), np.ones(2, "f")), TypeError, "mixed dtypes: input 0 float64, input 1 float32"),
        (lambda: F.multiply(np.ones(2, int)), TypeError, "multiply: input 0 has dtype int64"),
        (lambda: F.add_backward(np.ones(3), np.ones(2)), ValueError, r"must have shape \(2,\), got \(3,\)"),
        (lambda: F.multiply_backward(np.ones(3), np.ones(2)), ValueError, r"must have shape \(2,\), got \(3,\)"),
        (lambda: F.multiply_backward(np.ones(2, "f"), np.ones(2)), TypeError, "mixed dtypes"),
        (lambda: F.cat(np.ones((2, 2))), TypeError, "cat: inputs must be a list or tuple of arrays, got ndarray"),
        (lambda: F.cat([np.ones((2, 2)), np.ones((2, 3))]), ValueError, "may differ along axis 0 only"),
        (lambda: F.cat([np.ones(2)], 1), ValueError, r"dim must be in \[-1, 1\) for shape \(2,\), got 1"),
        (lambda: F.cat([np.ones(2)], 0.5), TypeError, "dim must be an int, got 0.5"),
        (lambda: F.cat_backward(np.ones(3), [np.ones(2)]), ValueError, r"must have shape \(2,\), got \(3,\)"),
    ],
)
def test_joins_refuse(call, error, message):
    with pytest.raises(error, match=message):
        call()
