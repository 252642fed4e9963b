"""The assertions must be able to fail: each way in which two arrays can differ has a test that it is noticed."""

import numpy as np
import pytest
from tolerances import TOLERANCES, assert_close, relative_error, tolerance

DTYPES = ["float32", "float64"]


def example(dtype):
    return np.array([[1.0, -4.0, 0.0], [0.25, 2.0, 3.0]], dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("algorithm", sorted(TOLERANCES))
def test_equal_arrays_pass_and_an_error_beyond_the_table_fails(algorithm, dtype):
    expected, actual = example(dtype), example(dtype)
    assert_close(actual, expected, algorithm=algorithm)
    limit = max(tolerance(algorithm, dtype), np.finfo(dtype).eps / 4)
    actual[0, 2] = 4 * limit * 1.01  # the place is 0: the error is seen beside the largest value, 4
    with pytest.raises(AssertionError, match=r"worst at index \(0, 2\)"):
        assert_close(actual, expected, algorithm=algorithm)
    if tolerance(algorithm, dtype):
        actual[0, 2] = 4 * limit * 0.99
        assert_close(actual, expected, algorithm=algorithm)


def test_the_direct_and_winograd_rows_are_what_the_design_promises():
    assert tolerance("direct", "float32") == tolerance("im2col", "float32") == 4e-6
    assert tolerance("direct", "float64") == tolerance("im2col", "float64") == 1e-14
    assert (tolerance("winograd_f2", "float32"), tolerance("winograd_f4", "float32")) == (4e-6, 1e-5)


def test_a_row_without_reason_or_out_of_order_is_noticed():
    for name, row in TOLERANCES.items():
        assert len(row.reason) > 20, name
        assert 0 <= row.float64 <= row.float32 <= 1e-5, name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.astype(np.float64), "dtype float64, expected float32"),
        (lambda a: a[:1], r"shape \(1, 3\), expected \(2, 3\)"),
        (lambda a: a.T, "shape"),
        (lambda a: a[np.newaxis], "shape"),
        (lambda a: a.tolist(), "actual is no array but a list"),
        (lambda a: None, "actual is no array but a NoneType"),
        (lambda a: np.where(a == 2, np.float32(np.nan), a), r"NaN differs at 1 of 6 places, first at index \(1, 1\)"),
        (lambda a: np.where(a == 2, np.float32(np.inf), a), r"\+inf differs"),
        (lambda a: np.where(a == 2, np.float32(-np.inf), a), r"-inf differs"),
        (lambda a: -a, "error"),
        (lambda a: a[:, ::-1], "error"),
        (lambda a: np.zeros_like(a), r"error 1\.00e\+00"),
    ],
)
def test_a_difference_fails(change, message):
    expected = example("float32")
    with pytest.raises(AssertionError, match=message):
        assert_close(change(expected), expected)


def test_a_broadcast_would_not_pass():
    with pytest.raises(AssertionError, match="shape"):
        assert_close(np.ones((), np.float32), np.ones(3, np.float32))


@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
def test_special_values_must_stand_in_the_same_places(special):
    expected = example("float64")
    expected[0, 0] = special
    assert_close(expected.copy(), expected)
    with pytest.raises(AssertionError, match="differs at 1 of 6"):
        assert_close(example("float64"), expected)
    moved = example("float64")
    moved[1, 0] = special
    with pytest.raises(AssertionError, match="differs at 2 of 6"):
        assert_close(moved, expected)


def test_infinities_of_different_sign_fail():
    with pytest.raises(AssertionError, match="inf differs"):
        assert_close(np.array([np.inf, 1.0]), np.array([-np.inf, 1.0]))


def test_an_error_beside_a_nan_is_still_seen():
    with pytest.raises(AssertionError, match=r"worst at index \(1,\)"):
        assert_close(np.array([np.nan, 1.1]), np.array([np.nan, 1.0]))
    with pytest.raises(AssertionError, match=r"worst at index \(1,\)"):
        assert_close(np.array([np.inf, 1.1, -np.inf]), np.array([np.inf, 1.0, -np.inf]))


def test_expected_zeros_allow_nothing_unless_a_scale_is_given():
    zeros, tiny = np.zeros(3), np.full(3, 1e-300)
    assert_close(zeros, zeros)
    with pytest.raises(AssertionError, match="error inf"):
        assert_close(tiny, zeros)
    assert_close(tiny, zeros, scale=1.0)
    with pytest.raises(AssertionError):
        assert_close(np.full(3, 1e-3), zeros, scale=1.0)


def test_the_scale_is_the_largest_value_not_each():
    expected = np.array([1000.0, 1.0])
    actual = np.array([1000.0, 1.001])
    assert relative_error(actual, expected) == pytest.approx(1e-6)


def test_empty_arrays_agree_if_their_shapes_do():
    assert_close(np.zeros((0, 3)), np.zeros((0, 3)))
    with pytest.raises(AssertionError, match="shape"):
        assert_close(np.zeros((0, 3)), np.zeros((0, 4)))


def test_scalars_of_numpy_are_compared_and_of_python_refused():
    assert_close(np.float32(1.5), np.asarray(1.5, np.float32))
    with pytest.raises(AssertionError, match="expected is no array but a float"):
        assert_close(np.float64(1.5), 1.5)


def test_unknown_algorithm_and_dtype_without_tolerance():
    with pytest.raises(KeyError):
        assert_close(np.ones(2), np.ones(2), algorithm="guess")
    with pytest.raises(ValueError, match="int64"):
        assert_close(np.ones(2, int), np.ones(2, int))
