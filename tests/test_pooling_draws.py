"""Pools, their way back, unfold and fold of drawn geometries: against the oracle, and torch on the same draws."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from draws import Call, compared, each, fronts, memory, ranks, windows
from hypothesis import given, settings
from hypothesis import strategies as st
from tolerances import assert_close

from cyconv import functional as F
from cyconv import reference

ties = {"input": "ties"}


def tuple_of(value, rank):
    return (value,) * rank if isinstance(value, int) else value


@st.composite
def maxima(draw, rank=None):
    rank = draw(ranks) if rank is None else rank
    sizes, how = draw(windows(rank, dilated=True))
    how["ceil_mode"] = draw(st.booleans())
    # Where a window's taps step over all pixels torch's gradient goes to an index that may lie outside of the array.
    theirs = all(n >= d for n, d in zip(sizes, tuple_of(how["dilation"], rank), strict=True))
    call = Call(f"max_pool{rank}d", {"input": (*draw(fronts), *sizes)}, how, ties, rank=rank, **draw(memory))
    return replace(call, theirs=theirs)


@st.composite
def means(draw):
    rank = draw(ranks)
    sizes, how = draw(windows(rank, dilated=False))
    how |= {"ceil_mode": draw(st.booleans()), "count_include_pad": draw(st.booleans())}
    if rank > 1 and draw(st.booleans()):  # torch's avg_pool1d has no divisor
        how["divisor_override"] = draw(st.integers(1, 5))
    return Call(f"avg_pool{rank}d", {"input": (*draw(fronts), *sizes)}, how, rank=rank, **draw(memory))


@st.composite
def sides(draw, kernel):
    """Draw padding that torch's pools do not have; of pairs at most one side less than a window, and in all one."""
    pairs = st.tuples(*[st.sampled_from([(0, 0), (1, 0), (0, 1), (2, 1)][: 1 if k < 2 else k]) for k in kernel])
    return draw(st.one_of(st.sampled_from(["same", "same_lower", "valid"]), pairs))


@st.composite
def beyond_torch(draw):
    """Dilated means and powers, "same", and padding by sides."""
    rank = draw(ranks)
    sizes, how = draw(windows(rank, dilated=True, padded=False))
    how["padding"] = draw(sides(tuple_of(how["kernel_size"], rank)))
    kind = draw(st.sampled_from(["max", "avg", "lp"]))
    if kind == "lp":
        how["norm_type"] = draw(st.sampled_from([1.0, 2.0, 3.5]))
    elif not isinstance(how["padding"], str):
        how["ceil_mode"] = draw(st.booleans())
    least = 3 if isinstance(how["padding"], tuple) else 0  # windows of padding alone have no mean
    shape = (*draw(fronts), *(n + least for n in sizes))
    kinds = {"input": "positive" if kind == "lp" else "ties"}
    return Call(f"{kind}_pool{rank}d", {"input": shape}, how, kinds, rank=rank, theirs=False, **draw(memory))


@st.composite
def powers(draw):
    rank = draw(ranks)
    sizes, how = draw(windows(rank, dilated=False, padded=False))
    if rank == 1:  # torch wants a number there
        how = {key: value if isinstance(value, int) else value[0] for key, value in how.items()}
    how |= {"norm_type": draw(st.sampled_from([1.0, 2.0, 3.0, 2.5])), "ceil_mode": draw(st.booleans())}
    shape = (*draw(fronts), *sizes)
    return Call(f"lp_pool{rank}d", {"input": shape}, how, {"input": "positive"}, rank=rank, **draw(memory))


@st.composite
def adaptive(draw):
    rank = draw(ranks)
    sizes = draw(each(rank, 1, 9))
    wanted = tuple(draw(st.one_of(st.none(), st.integers(1, 6))) for _ in range(rank))
    if rank == 1:
        wanted = (wanted[0] or sizes[0],)  # torch knows None from two dimensions on
    name, shape = draw(st.sampled_from(["adaptive_avg_pool", "adaptive_max_pool"])), (*draw(fronts), *sizes)
    return Call(f"{name}{rank}d", {"input": shape}, {"output_size": wanted}, ties, rank=rank, **draw(memory))


@st.composite
def all_pixels(draw):
    rank = draw(ranks)
    name, shape = (
        draw(st.sampled_from(["global_avg_pool", "global_max_pool"])),
        (*draw(fronts), *draw(each(rank, 1, 9))),
    )
    return Call(f"{name}{rank}d", {"input": shape}, kinds=ties, rank=rank, theirs=False, **draw(memory))


@st.composite
def fractional(draw):
    rank = draw(st.integers(2, 3))
    kernel, wanted = draw(each(rank, 1, 3)), draw(each(rank, 1, 5))
    sizes = tuple(k + p - 1 + draw(st.integers(0, 6)) for k, p in zip(kernel, wanted, strict=True))
    front = draw(fronts)
    shapes = {"input": (*front, *sizes), "_random_samples": (*((1, *front) if len(front) == 1 else front), rank)}
    how = {"kernel_size": kernel, "output_size": wanted}
    return Call(
        f"fractional_max_pool{rank}d",
        shapes,
        how,
        {**ties, "_random_samples": "uniform"},
        ("_random_samples",),
        rank,
        **draw(memory),
    )


@st.composite
def unpools(draw):
    rank = draw(ranks)
    sizes, kernel = draw(each(rank, 1, 4)), draw(each(rank, 1, 3))
    stride = tuple(draw(st.integers(k, 3)) for k in kernel)
    full = tuple((n - 1) * s + k for n, s, k in zip(sizes, stride, kernel, strict=True))
    how = {"kernel_size": kernel, "stride": stride}
    if draw(st.booleans()):
        full = tuple(n + draw(st.integers(0, s - 1)) for n, s in zip(full, stride, strict=True))
        how["output_size"] = full
    front = draw(fronts)
    shape = (*front, *sizes)
    # Different places in each plane: of two numbers for one place torch's threads keep any.
    kinds = {"indices": (int(np.prod(full)),)}
    shapes = {"input": shape, "indices": shape}
    return Call(f"max_unpool{rank}d", shapes, how, kinds, ("indices",), rank, **draw(memory))


@st.composite
def columns(draw):
    """Unfold, or fold, which torch has for images and the same padding on both sides."""
    rank = draw(ranks)
    sizes, how = draw(windows(rank, dilated=True))
    front = draw(fronts)
    if draw(st.booleans()):
        how["padding"] = draw(sides(tuple_of(how["kernel_size"], rank)))
        sizes = tuple(n + 3 for n in sizes)
    tuples = {key: tuple_of(value, rank) for key, value in how.items()}
    theirs = rank == 2 and isinstance(tuples["padding"][0], int)
    if draw(st.booleans()):
        # Of one spatial dimension only a tuple tells how many there are.
        shown = tuples if rank != 2 else how
        return Call("unfold", {"input": (*front, *sizes)}, shown, rank=rank, theirs=theirs, **draw(memory))
    shape = reference.unfold(np.empty((*front, *sizes)), **tuples).shape
    how = {"output_size": sizes, **tuples}
    return Call("fold", {"input": shape}, how, rank=0, theirs=theirs, **draw(memory))


FAMILIES = {
    "max": maxima(),
    "mean": means(),
    "beyond torch": beyond_torch(),
    "power": powers(),
    "adaptive": adaptive(),
    "all pixels": all_pixels(),
    "fractional": fractional(),
    "unpool": unpools(),
    "unfold": columns(),
}


@pytest.mark.parametrize("family", FAMILIES)
@given(st.data())
def test_drawn_calls(family, data):
    data.draw(FAMILIES[family]).check()


@given(maxima())
def test_indices_are_where_the_maxima_stand(call):
    (x,) = call.arrays().values()
    how = {**call.how, "return_indices": True}
    values, places = getattr(F, call.name)(x, **how)
    wanted, theirs = getattr(reference, call.name)(x, **how)
    assert_close(values, wanted, algorithm="exact")
    np.testing.assert_array_equal(places, theirs, err_msg=f"again: {call!r}")
    front = x.shape[: x.ndim - call.rank]
    flat = x.reshape(*front, int(np.prod(x.shape[x.ndim - call.rank :])))
    rows = places.reshape(*front, int(np.prod(places.shape[x.ndim - call.rank :])))
    found = np.take_along_axis(flat, np.maximum(rows, 0), -1).reshape(values.shape)
    # A window whose taps step over all pixels has no place.
    np.testing.assert_array_equal(np.where(places < 0, -np.inf, found), values, err_msg=f"again: {call!r}")


@pytest.mark.parametrize("front", [(0, 3), (2, 0)])
@pytest.mark.parametrize("rank", [2, 3])
def test_batches_and_images_without_any_numbers(rank, front):
    shape, dtype = (*front, 6, 5, 4)[: 2 + rank], {"rank": rank, "dtype": "float64"}
    sample, small = {"_random_samples": "uniform"}, (*front, *[2] * rank)
    for call in (
        Call(f"max_pool{rank}d", {"input": shape}, {"kernel_size": 2}, **dtype),
        Call(f"avg_pool{rank}d", {"input": shape}, {"kernel_size": 2}, **dtype),
        Call(f"lp_pool{rank}d", {"input": shape}, {"kernel_size": 2, "norm_type": 2.0}, **dtype),
        Call(f"adaptive_max_pool{rank}d", {"input": shape}, {"output_size": 2}, **dtype),
        Call(f"adaptive_avg_pool{rank}d", {"input": shape}, {"output_size": 2}, **dtype),
        Call(f"global_max_pool{rank}d", {"input": shape}, **dtype),
        Call(
            f"fractional_max_pool{rank}d",
            {"input": shape, "_random_samples": (*front, rank)},
            {"kernel_size": 2, "output_size": 2},
            sample,
            ("_random_samples",),
            **dtype,
        ),
        Call(
            f"max_unpool{rank}d",
            {"input": small, "indices": small},
            {"kernel_size": 2},
            {"indices": 4},
            ("indices",),
            **dtype,
        ),
    ):
        call.check()


@given(columns())
def test_fold_is_the_adjoint_of_unfold(call):
    """<unfold(x), y> = <x, fold(y)>."""
    how = dict(call.how)
    size = how.pop("output_size", None)
    if size is None:
        x = call.arrays()["input"].astype("float64")
        size = x.shape[x.ndim - call.rank :]
    else:
        front = call.shapes["input"][:-2]
        channels = call.shapes["input"][-2] // int(np.prod(how["kernel_size"]))
        x = np.random.default_rng(0).standard_normal((*front, channels, *size))
    unfolded = F.unfold(x, **how)
    y = np.random.default_rng(1).standard_normal(unfolded.shape)
    bound = max(float(np.abs(unfolded * y).sum()), 1.0)
    rank = len(size)
    tuples = {key: tuple_of(value, rank) for key, value in how.items()}
    assert abs((unfolded * y).sum() - (x * F.fold(y, size, **tuples)).sum()) <= 1e-13 * bound


def test_the_draws_reach_every_rank_and_both_kinds_of_batch():
    """What the strategies are made of, counted: no branch of them is dead."""
    seen = set()

    @settings(max_examples=300)
    @given(maxima())
    def look(call):
        seen.add((call.rank, len(call.shapes["input"]) - call.rank))
        seen.update((name, isinstance(value, int)) for name, value in call.how.items())

    look()
    names = ("kernel_size", "stride", "padding", "dilation")
    assert seen >= {*itertools.product((1, 2, 3), (1, 2)), *itertools.product(names, (True, False))}


@pytest.mark.parametrize("family", [family for family in FAMILIES if family not in ("beyond torch", "all pixels")])
def test_most_draws_are_compared_with_torch(family):
    pytest.importorskip("torch")
    compared.clear()

    @settings(max_examples=20)
    @given(FAMILIES[family])
    def look(call):
        call.check()

    look()
    assert compared.total() >= (4 if family == "unfold" else 6)


def test_a_wrong_result_is_told_with_the_call_that_repeats_it(monkeypatch):
    call = Call("max_pool1d", {"input": (2, 3, 5)}, {"kernel_size": 2}, rank=1, dtype="float64")
    call.check()
    right = F.max_pool1d
    monkeypatch.setattr(F, "max_pool1d", lambda *args, **kwargs: right(*args, **kwargs) + 1)
    again = r"again: Call\('max_pool1d', \{'input': \(2, 3, 5\)\}, how=\{'kernel_size': 2\}, rank=1, dtype='float64'\)"
    with pytest.raises(AssertionError, match=again):
        call.check()
    assert eval(repr(call)) == call
