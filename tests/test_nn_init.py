"""Starting values: what is no number or no array is refused before anything is written."""

import math

import numpy as np
import pytest

from cyconv.nn import Parameter, init


@pytest.mark.parametrize(
    ("fill", "error", "message"),
    [
        (lambda t: init.uniform_(t, "x"), TypeError, "uniform_: a must be a number, got 'x'"),
        (lambda t: init.uniform_(t, 0.0, None), TypeError, "uniform_: b must be a number, got None"),
        (lambda t: init.uniform_(t, 1.0, 0.0), ValueError, "uniform_: a must be at most b, got a=1.0 and b=0.0"),
        (lambda t: init.uniform_(t, math.nan), ValueError, "uniform_: a must be at most b, got a=nan"),
        (lambda t: init.normal_(t, "x"), TypeError, "normal_: mean must be a number, got 'x'"),
        (lambda t: init.normal_(t, 0.0, "x"), TypeError, "normal_: std must be a number, got 'x'"),
        (lambda t: init.normal_(t, 0.0, -1.0), ValueError, "normal_: std must be at least 0, got -1.0"),
        (lambda t: init.constant_(t, None), TypeError, "constant_: val must be a number, got None"),
        (lambda t: init.xavier_normal_(t, "x"), TypeError, "xavier_normal_: gain must be a number, got 'x'"),
        (lambda t: init.xavier_uniform_(t, None), TypeError, "xavier_uniform_: gain must be a number, got None"),
        (lambda t: init.kaiming_normal_(t, "x"), TypeError, "calculate_gain: the slope of leaky_relu must be a number"),
    ],
)
def test_what_is_no_number_writes_nothing(fill, error, message):
    parameter = Parameter(np.full((3, 4), 7.0, np.float32))
    with pytest.raises(error, match=message):
        fill(parameter)
    np.testing.assert_array_equal(parameter.data, np.full((3, 4), 7.0))


@pytest.mark.parametrize("tensor", [[1.0], np.zeros((2, 2), int), np.zeros((2, 2), np.float16)])
@pytest.mark.parametrize("fill", [init.uniform_, init.normal_, lambda t: init.constant_(t, 1.5)])
def test_only_arrays_of_real_numbers_are_filled(fill, tensor):
    with pytest.raises(TypeError, match="init: expected a Parameter or an array of float32 or float64, got"):
        fill(tensor)
