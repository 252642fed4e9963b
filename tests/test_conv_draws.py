"""Convolutions of drawn geometries, in one to three dimensions, in every padding mode, and transposed: against the
oracle, and torch on the same draws."""

import itertools

import numpy as np
import pytest
from conv_cases import MODES
from draws import Call, batches, compared, each, memory, one_or_each, ranks
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cyconv import functional as F
from cyconv._geometry import conv_geometry
from cyconv._transposed_geometry import conv_transpose_geometry


@st.composite
def channels(draw, depthwise=True):
    """Draw (inputs, outputs, groups)."""
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    if depthwise and draw(st.sampled_from([False, False, True])):
        groups = draw(st.integers(1, 9))
        return groups, groups * draw(st.integers(1, 2)), groups
    return groups * draw(st.integers(1, 4)), groups * draw(st.integers(1, 6)), groups


@st.composite
def paddings(draw, rank):
    pairs = st.tuples(*[st.tuples(st.integers(0, 3), st.integers(0, 3))] * rank)
    return draw(st.one_of(st.integers(0, 2), st.sampled_from(["same", "same_lower", "valid"]), each(rank, 0, 2), pairs))


@st.composite
def convolutions(draw, modes=("zeros", *MODES), transposed=False):
    """Draw a convolution that fits."""
    rank = draw(ranks)
    c, k, groups = draw(channels())
    kernel = draw(each(rank, 1, 4 if rank < 3 else 3))
    how = {
        "stride": draw(one_or_each(draw(each(rank, 1, 3)))),
        "padding": draw(paddings(rank)),
        "dilation": draw(one_or_each(draw(each(rank, 1, 3)))),
        "groups": groups,
        "padding_mode": draw(st.sampled_from(modes)),
    }
    weight = (c, k // groups, *kernel) if transposed else (k, c // groups, *kernel)
    sizes = list(draw(each(rank, 1, 9 if rank < 3 else 5)))
    if draw(st.integers(0, 3)) == 3:  # walks along a row differ by where strips, windows and their ends meet
        sizes[draw(st.integers(0, rank - 1))] = draw(st.integers(10, 70))
    shapes = {"input": (*draw(batches), c, *sizes), "weight": weight}
    if draw(st.booleans()):
        shapes["bias"] = (k,)
    name = f"conv_transpose{rank}d" if transposed else f"conv{rank}d"
    if transposed:
        low, high = ((how[key],) * rank if isinstance(how[key], int) else how[key] for key in ("stride", "dilation"))
        largest = [max(s, d) - 1 for s, d in zip(low, high, strict=True)]
        how["output_padding"] = tuple(draw(st.integers(0, n)) for n in largest)
        order = ("stride", "padding", "output_padding", "groups", "dilation", "padding_mode")
    else:
        order = ("stride", "padding", "dilation", "groups", "padding_mode")
    geometry = conv_transpose_geometry if transposed else conv_geometry
    sizes = (shapes["input"], weight, None)
    try:
        geometry(name, rank, *sizes, *(how[key] for key in order), *([None] if transposed else []))
    except ValueError:
        assume(False)
    theirs = not transposed or how["padding_mode"] == "zeros"
    return Call(name, shapes, how, rank=rank, theirs=theirs, **draw(memory))


FAMILIES = {
    "zeros": convolutions(("zeros",)),
    "modes": convolutions(MODES),
    "transposed": convolutions(("zeros",), transposed=True),
    "transposed, modes": convolutions(MODES, transposed=True),
}


@pytest.mark.parametrize("family", FAMILIES)
@given(st.data())
def test_drawn_calls(family, data):
    data.draw(FAMILIES[family]).check()


@pytest.mark.parametrize("family", ["zeros", "modes", "transposed"])
def test_most_draws_are_compared_with_torch(family):
    pytest.importorskip("torch")
    compared.clear()

    @settings(max_examples=20)
    @given(FAMILIES[family])
    def look(call):
        call.check()

    look()
    assert compared.total() >= 6


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("transposed", [False, True], ids=["", "transposed"])
def test_every_form_of_padding_in_every_mode(rank, transposed):
    """All six, by every form that the argument has, in all modes: none of the pairs is left to a draw."""
    name = f"conv_transpose{rank}d" if transposed else f"conv{rank}d"
    forms = [0, 1, (1,) * rank, (2, 1, 0)[:rank], ((1, 2), (2, 0), (0, 1))[:rank], "valid", "same", "same_lower"]
    weight = (4, 2, 3, 2, 3)[: 2 + rank]
    for padding, mode, stride in itertools.product(forms, ("zeros", *MODES), (1, 2)):
        call = Call(
            name,
            {"input": (2, 4, 6, 5, 4)[: 2 + rank], "weight": weight, "bias": (4,)},
            {"padding": padding, "padding_mode": mode, "stride": stride, "groups": 2},
            rank=rank,
            dtype="float64",
            order="channels-last" if stride == 2 else "C",
            theirs=not transposed or mode == "zeros",
        )
        call.check()


@given(convolutions(transposed=True, modes=("zeros",)))
def test_the_gradients_of_a_transposed_convolution_are_adjoint(call):
    """<f(x), y> = <x, f'(y)> for each array, f being linear in it."""
    call = Call(call.name, call.shapes, call.how, rank=call.rank, dtype="float64", order=call.order)
    arrays = {key: value for key, value in call.arrays().items() if key != "bias"}
    y = getattr(F, call.name)(**arrays, **call.how)
    dy = np.random.default_rng(2).standard_normal(y.shape)
    bound = max(float(np.abs(y * dy).sum()), 1.0)
    gradients = getattr(F, f"{call.name}_backward")(dy, **arrays, **call.how)
    for array, gradient in zip(arrays.values(), gradients, strict=True):
        assert abs((array * gradient).sum() - (y * dy).sum()) <= 1e-12 * bound, f"again: {call!r}"
