"""The rule for ratios of times must be able to fail, and repeats no more than it has to."""

import time

import pytest
import timing


def measured(*ratios):
    """A measurement that finds these, one by one, and after them the last; and how often it was asked."""
    asked = []

    def measure():
        asked.append(ratios[min(len(asked), len(ratios) - 1)])
        return asked[-1]

    return measure, asked


@pytest.fixture(params=["", "strict"])
def mode(request, monkeypatch):
    monkeypatch.setenv("CYCONV_TIMING", request.param)
    return request.param


def test_it_ends_with_the_first_ratio_within_the_bound(mode):
    measure, asked = measured(60, 3, 1.1, 60)
    timing.assert_ratio(measure, 1.2, "calls")
    assert asked == [60, 3, 1.1]


@pytest.mark.parametrize("found", [60, 1.21])
def test_more_than_the_bound_fails_after_so_many_attempts(found, mode):
    measure, asked = measured(70, found)
    with pytest.raises(AssertionError, match=rf"calls: {found:.2f} times as much, at most 1\.20"):
        timing.assert_ratio(measure, 1.2, "calls")
    assert len(asked) == timing.ATTEMPTS


def test_a_limit_is_the_bound_where_that_is_asked_for_and_always_below_the_failure(mode):
    assert timing.limit(1.2, 60) == (1.2 if mode == "strict" else pytest.approx(8.485, abs=1e-3))


def test_another_word_is_refused(monkeypatch):
    monkeypatch.setenv("CYCONV_TIMING", "loose")
    with pytest.raises(AssertionError, match="'strict' or not set, not 'loose'"):
        timing.strict()


def test_calls_that_take_turns_are_told_apart():
    prepared = []

    def sleeper(duration):
        prepared.append(duration)
        return lambda: time.sleep(duration)

    assert timing.ratio_in_turns(lambda: sleeper(0.004), lambda: sleeper(0.0005), 3) > 1
    assert prepared == [0.004, 0.0005] * 3
