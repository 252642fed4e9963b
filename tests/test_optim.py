"""Optimisers: worked by hand, step for step beside torch, and frugal."""

import math
import tracemalloc

import numpy as np
import pytest
from tolerances import assert_close

import cyconv
from cyconv import _settings, nn
from cyconv.nn import Parameter
from cyconv.optim import SGD, Adagrad, Adam, AdamW, RMSprop

DTYPES = ["float32", "float64"]

# Every formula of every optimiser, by the arguments that lead to it.
CONFIGURATIONS = [
    (SGD, {"lr": 0.1}),
    (SGD, {"lr": 0.1, "weight_decay": 0.3}),
    (SGD, {"lr": 0.1, "momentum": 0.9}),
    (SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.4}),
    (SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.3}),
    (SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.4, "weight_decay": 0.3}),
    (SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    (SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.3}),
    (Adam, {}),
    (Adam, {"lr": 0.05, "betas": (0.7, 0.9), "eps": 1e-3}),
    (Adam, {"lr": 0.05, "weight_decay": 0.3}),
    (Adam, {"lr": 0.05, "amsgrad": True}),
    (Adam, {"lr": 0.05, "amsgrad": True, "weight_decay": 0.3}),
    (AdamW, {}),
    (AdamW, {"lr": 0.05, "weight_decay": 0.3}),
    (AdamW, {"lr": 0.05, "weight_decay": 0.3, "amsgrad": True, "betas": (0.0, 0.5)}),
    (SGD, {"lr": 0.1, "momentum": 0.9, "maximize": True}),
    (Adam, {"maximize": True}),
    (RMSprop, {}),
    (RMSprop, {"weight_decay": 0.3, "alpha": 0.9, "eps": 1e-3}),
    (RMSprop, {"momentum": 0.9}),
    (RMSprop, {"centered": True, "maximize": True}),
    (RMSprop, {"centered": True, "momentum": 0.5, "weight_decay": 0.1}),
    (Adagrad, {}),
    (Adagrad, {"lr": 0.3, "lr_decay": 0.2, "weight_decay": 0.3, "initial_accumulator_value": 0.5, "maximize": True}),
]
SHAPES = [(5, 3, 2), (1,), (), (7, 4)]


def label(value):
    if isinstance(value, dict):
        return " ".join(f"{name}={v}" for name, v in value.items()) or "defaults"
    return getattr(value, "__name__", None)


def make_parameters(dtype="float64", seed=0):
    rng = np.random.default_rng(seed)
    return [Parameter(np.asarray(rng.standard_normal(shape), dtype)) for shape in SHAPES]


def gradients(step, dtype="float64"):
    """Gradients of a step: shrinking, so that amsgrad's maximum matters, and one parameter is left out at times."""
    rng = np.random.default_rng(100 + step)
    arrays = [np.asarray(rng.standard_normal(shape) / (1 + step), dtype) for shape in SHAPES]
    return [None if position == 1 and step in (0, 4) else array for position, array in enumerate(arrays)]


def run(optimizer, steps, dtype="float64"):
    for step in steps:
        for parameter, gradient in zip(optimizer.params, gradients(step, dtype), strict=True):
            parameter.grad = gradient
        optimizer.step()


# ---------------------------------------------------------------------------------------------- formulas


@pytest.mark.parametrize(
    ("arguments", "values"),
    [
        # p = 1, gradients 2, then 1; lr 0.5: 1 - 0.5·2 = 0, 0 - 0.5·1
        ({}, [0, -0.5]),
        # decay 0.5: g = 2 + 0.5·1 = 2.5, p = -0.25; g = 1 + 0.5·(-0.25) = 0.875, p = -0.6875
        ({"weight_decay": 0.5}, [-0.25, -0.6875]),
        # momentum 0.5: v = 2, p = 0; v = 0.5·2 + 1 = 2, p = -1
        ({"momentum": 0.5}, [0, -1]),
        # the first v is undampened: v = 2, p = 0; v = 0.5·2 + 0.25·1 = 1.25, p = -0.625
        ({"momentum": 0.5, "dampening": 0.75}, [0, -0.625]),
        # v = 2, step 2 + 0.5·2 = 3, p = -0.5; v = 2, step 1 + 0.5·2 = 2, p = -1.5
        ({"momentum": 0.5, "nesterov": True}, [-0.5, -1.5]),
    ],
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_sgd_by_hand(arguments, values, dtype):
    parameter = Parameter(np.ones(1, dtype))
    optimizer = SGD([parameter], lr=0.5, **arguments)
    for gradient, value in zip((2, 1), values, strict=True):
        parameter.grad = np.full(1, gradient, dtype)
        optimizer.step()
        assert parameter.data == [value]
        assert parameter.dtype == dtype


def test_adam_by_hand():
    # betas 1/2, 3/4; eps 1; lr 1; p = 0. Step 1: g = 4, m = 2, v = 4, m̂ = 4, v̂ = 16: p = -4 / (4 + 1) = -0.8.
    # Step 2: g = 0, m = 1, v = 3, m̂ = 1 / (3/4) = 4/3, v̂ = 3 / (7/16) = 48/7.
    parameter = Parameter(np.zeros(1))
    optimizer = Adam([parameter], lr=1, betas=(0.5, 0.75), eps=1)
    parameter.grad = np.array([4.0])
    optimizer.step()
    np.testing.assert_allclose(parameter.data, [-0.8], rtol=1e-15)
    parameter.grad = np.array([0.0])
    optimizer.step()
    np.testing.assert_allclose(parameter.data, [-0.8 - (4 / 3) / ((48 / 7) ** 0.5 + 1)], rtol=1e-15)


def test_adamw_shrinks_apart_from_the_gradient():
    for optimizer_class, value in ((Adam, 1 - 0.5), (AdamW, 1 * (1 - 0.5 * 0.2))):
        parameter = Parameter(np.ones(1))
        parameter.grad = np.zeros(1)
        # with g = 0, Adam divides the decay by itself (eps 0): a whole step; AdamW only shrinks
        optimizer_class([parameter], lr=0.5, weight_decay=0.2, eps=0 if optimizer_class is Adam else 1).step()
        np.testing.assert_allclose(parameter.data, [value], rtol=1e-15)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("optimizer_class", "arguments"), CONFIGURATIONS, ids=label)
def test_ten_steps_are_those_of_torch(optimizer_class, arguments, dtype):
    torch = pytest.importorskip("torch")
    parameters = make_parameters(dtype)
    twins = [torch.nn.Parameter(torch.from_numpy(p.data.copy())) for p in parameters]
    ours = optimizer_class(parameters, **arguments)
    theirs = getattr(torch.optim, optimizer_class.__name__)(twins, **arguments)
    start = [p.data.copy() for p in parameters]
    for step in range(10):
        for parameter, twin, gradient in zip(parameters, twins, gradients(step, dtype), strict=True):
            parameter.grad = gradient
            twin.grad = None if gradient is None else torch.from_numpy(gradient.copy())
        if step == 6:
            ours.lr *= 0.5
            theirs.param_groups[0]["lr"] *= 0.5
        ours.step()
        theirs.step()
        for parameter, twin in zip(parameters, twins, strict=True):
            # ten steps' roundings, relative to values of about 1
            assert_close(parameter.data, twin.detach().numpy(), algorithm="direct", scale=1.0)
    assert all((p.data != s).all() for p, s in zip(parameters, start, strict=True))


def test_defaults_are_those_of_torch():
    torch = pytest.importorskip("torch")
    twin = torch.nn.Parameter(torch.zeros(1))
    for optimizer_class in (SGD, Adam, AdamW, RMSprop, Adagrad):
        optimizer = optimizer_class([Parameter(np.zeros(1))])
        for name, value in getattr(torch.optim, optimizer_class.__name__)([twin]).defaults.items():
            if name == "betas":
                assert (optimizer.beta1, optimizer.beta2) == value
            elif hasattr(optimizer, name):
                assert getattr(optimizer, name) == value


@pytest.mark.parametrize(("optimizer_class", "arguments"), CONFIGURATIONS, ids=label)
def test_a_step_writes_in_place_and_leaves_gradients_alone(optimizer_class, arguments):
    parameters = make_parameters()
    optimizer = optimizer_class(iter(parameters), **arguments)
    arrays = [p.data for p in parameters]
    for step in range(3):
        given = gradients(step)
        for parameter, gradient in zip(parameters, given, strict=True):
            parameter.grad = gradient
        kept = [None if gradient is None else gradient.copy() for gradient in given]
        left_out = arrays[1].copy()
        optimizer.step()
        for parameter, array, gradient, before in zip(parameters, arrays, given, kept, strict=True):
            assert parameter.data is array
            assert parameter.grad is gradient
            if before is not None:
                np.testing.assert_array_equal(gradient, before)
        if given[1] is None:
            np.testing.assert_array_equal(arrays[1], left_out)


@pytest.mark.parametrize(("optimizer_class", "arguments"), CONFIGURATIONS, ids=label)
def test_nothing_is_allocated_after_the_first_step(optimizer_class, arguments):
    parameters = [Parameter(np.ones((200, 500), "float32")), Parameter(np.ones((100, 500), "float32"))]
    for parameter in parameters:
        parameter.grad = np.full(parameter.shape, 0.5, "float32")
    optimizer = optimizer_class(parameters, **arguments)
    optimizer.step()
    tracemalloc.start()
    try:
        optimizer.step()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20_000  # the smaller parameter has 200,000 bytes


def test_memory_order_and_replaced_arrays_do_not_matter():
    plain, last = Parameter(np.ones((2, 3, 4, 5))), Parameter(np.ones((2, 4, 5, 3)).transpose(0, 3, 1, 2))
    gradient = np.random.default_rng(0).standard_normal((2, 3, 4, 5))
    optimizer = Adam([plain, last], lr=0.1)
    for _ in range(2):
        plain.grad, last.grad = gradient, gradient.copy(order="F")
        optimizer.step()
    assert_close(last.data, plain.data, algorithm="exact")
    sgd = SGD([plain, last], lr=1)
    sgd.step()
    plain.data, plain.grad = np.ones((6, 50), "float32"), np.ones((6, 50), "float32")
    sgd.step()
    assert_close(plain.data, np.zeros((6, 50), "float32"), algorithm="exact")


def test_both_dtypes_in_one_optimiser():
    parameters = [Parameter(np.ones(3, dtype)) for dtype in DTYPES]
    for parameter in parameters:
        parameter.grad = np.full(3, 0.1, parameter.dtype)
    Adam(parameters, lr=0.1, eps=0.1).step()
    assert [p.dtype.name for p in parameters] == DTYPES
    assert_close(parameters[0].data, np.full(3, 0.95, "float32"), algorithm="pointwise")
    assert_close(parameters[1].data, np.full(3, 0.95), algorithm="pointwise")


def test_zero_grad():
    parameters = make_parameters()
    optimizer = SGD(parameters)
    parameters[0].grad = array = np.ones((5, 3, 2))
    optimizer.zero_grad(set_to_none=False)
    assert parameters[0].grad is array
    assert not array.any()
    assert parameters[1].grad is None
    optimizer.zero_grad()
    assert parameters[0].grad is None


def test_an_optimiser_trains():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((64, 3))
    target = x @ np.array([[1.0, -2, 3]]).T + 0.5
    for make in (
        lambda p: SGD(p, 0.1, momentum=0.9, nesterov=True),
        lambda p: Adam(p, 0.1),
        lambda p: AdamW(p, 0.1),
        lambda p: RMSprop(p, 0.02),
        lambda p: Adagrad(p, 0.5),
    ):
        layer, loss = nn.Linear(3, 1, dtype="float64", rng=0), nn.MSELoss()
        optimizer = make(layer.parameters())
        for _ in range(400):
            loss(layer(x), target)
            optimizer.zero_grad()
            layer.backward(loss.backward(), input_grad=False)
            optimizer.step()
        np.testing.assert_allclose(layer.weight.data, [[1, -2, 3]], atol=0.02)
        np.testing.assert_allclose(layer.bias.data, [0.5], atol=0.02)


def test_by_hand_rmsprop_and_adagrad():
    # v = 3/4 · 0 + 1/4 · 16 = 4, step 4 / (2 + 2) = 1; with the mean 1: v - m² = 3
    for arguments, value in (({}, -0.5), ({"centered": True}, -0.5 * 4 / (3**0.5 + 2))):
        parameter = Parameter(np.zeros(1))
        parameter.grad = np.array([4.0])
        RMSprop([parameter], lr=0.5, alpha=0.75, eps=2, **arguments).step()
        np.testing.assert_allclose(parameter.data, [value], rtol=1e-15)
    parameter = Parameter(np.zeros(1))
    optimizer = Adagrad([parameter], lr=1, lr_decay=1, eps=1)
    for gradient, value in ((3.0, -3 / 4), (4.0, -3 / 4 - 0.5 * 4 / 6)):
        parameter.grad = np.array([gradient])
        optimizer.step()
        np.testing.assert_allclose(parameter.data, [value], rtol=1e-15)


@pytest.mark.parametrize("dtype", DTYPES)
def test_sizes_around_a_vector_and_a_chunk_and_any_number_of_threads(monkeypatch, dtype):
    monkeypatch.setattr(_settings, "SERIAL_WORK", 0)
    rng = np.random.default_rng(0)
    for size in (7, 8, 15, 17, 8191, 8193, 20_000):
        start, gradient, found = rng.standard_normal(size), rng.standard_normal(size).astype(dtype), []
        for threads in (1, 2, 3):
            with cyconv.threads(threads):
                parameter = Parameter(start.astype(dtype))
                optimizer = Adam([parameter], lr=0.1, eps=0, amsgrad=True)
                for _ in range(2):
                    parameter.grad = gradient
                    optimizer.step()
                found.append(parameter.data)
        for other in found[1:]:
            np.testing.assert_array_equal(other, found[0])
        # two equal gradients: m / sqrt(v) is their sign
        assert_close(found[0], np.asarray(start - 0.2 * np.sign(gradient), dtype), algorithm="direct", scale=1.0)


def test_what_lies_in_no_dense_memory_is_updated_too():
    whole = np.ones((6, 8))
    view, plain = Parameter(np.zeros((3, 4))), Parameter(np.ones((3, 4)))
    view.data = whole[::2, ::2]
    optimizer = SGD([view, plain], lr=0.5, momentum=0.5)
    for _ in range(3):
        for parameter in (view, plain):
            parameter.grad = np.arange(12.0).reshape(3, 4)
        optimizer.step()
    np.testing.assert_array_equal(whole[::2, ::2], plain.data)
    assert (whole[1::2] == 1).all()


# ---------------------------------------------------------------------------------------------- groups


def test_groups_have_settings_of_their_own():
    torch = pytest.importorskip("torch")
    parameters = make_parameters()
    twins = [torch.nn.Parameter(torch.from_numpy(p.data.copy())) for p in parameters]

    def groups(p):
        return [{"params": p[:2]}, {"params": p[2], "lr": 0.5, "weight_decay": 0.0}]

    ours = AdamW(groups(parameters), lr=0.1, weight_decay=0.2)
    theirs = torch.optim.AdamW(groups(twins), lr=0.1, weight_decay=0.2)
    for optimizer, p in ((ours, parameters), (theirs, twins)):
        optimizer.add_param_group({"params": [p[3]], "betas": (0.5, 0.6)})
    for step in range(10):
        for parameter, twin, gradient in zip(parameters, twins, gradients(step), strict=True):
            parameter.grad, twin.grad = gradient, None if gradient is None else torch.from_numpy(gradient.copy())
        ours.param_groups[1]["lr"] *= 0.9
        theirs.param_groups[1]["lr"] *= 0.9
        ours.step()
        theirs.step()
    for parameter, twin in zip(parameters, twins, strict=True):
        assert_close(parameter.data, twin.detach().numpy(), algorithm="direct", scale=1.0)
    state = ours.state_dict()
    assert state["group1.lr"] == ours.param_groups[1]["lr"]
    again = AdamW([*groups(parameters), {"params": parameters[3]}], lr=7.0)
    again.load_state_dict(state)
    assert repr(again) == repr(ours)
    assert repr(ours).startswith("AdamW(\n  2 parameters, lr=0.1, ")
    with pytest.raises(ValueError, match=r"surplus: group1\.lr"):
        AdamW(parameters).load_state_dict(state)
    ours.lr = 0.25
    assert [group["lr"] for group in ours.param_groups] == [0.25] * 3
    assert ours.lr == 0.25


def test_groups_that_are_none():
    a, b = Parameter(np.zeros(1)), Parameter(np.zeros(1))
    with pytest.raises(ValueError, match="SGD: a group has no setting 'speed', only lr, momentum"):
        SGD([{"params": [a], "speed": 1}])
    with pytest.raises(ValueError, match="SGD: lr must be at least 0, got -1"):
        SGD([{"params": [a], "lr": -1}])
    with pytest.raises(ValueError, match="holds a parameter twice"):
        SGD([{"params": [a, b]}, {"params": b}])
    with pytest.raises(TypeError, match='a group must be a dict with "params"'):
        SGD([{"lr": 1}])
    with pytest.raises(ValueError, match="params is empty"):
        SGD([a]).add_param_group({"params": []})


# ---------------------------------------------------------------------------------------------- state


@pytest.mark.parametrize(("optimizer_class", "arguments"), CONFIGURATIONS, ids=label)
def test_a_restored_optimiser_goes_on_as_the_first(optimizer_class, arguments):
    parameters = make_parameters()
    first = optimizer_class(parameters, **arguments)
    run(first, range(1))  # parameter 1 has no gradient yet, and no state
    state = first.state_dict()
    others = [Parameter(p.data.copy()) for p in parameters]
    second = optimizer_class(others, lr=123.0)
    second.load_state_dict(state)
    run(first, range(1, 4))
    run(second, range(1, 4))
    for one, two in zip(parameters, others, strict=True):
        assert_close(two.data, one.data, algorithm="exact")
    assert repr(second) == repr(first)


def test_state_dict_is_flat_and_copied():
    parameters = make_parameters()
    optimizer = Adam(parameters, lr=0.25, amsgrad=True)
    run(optimizer, range(1))
    state = optimizer.state_dict()
    names = ["step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq"]
    assert list(state) == [
        *("lr", "beta1", "beta2", "eps", "weight_decay", "amsgrad", "maximize"),
        *(f"{position}.{name}" for position in (0, 2, 3) for name in names),
    ]
    assert state["lr"] == 0.25
    assert state["0.step"] == 1
    assert all(isinstance(array, np.ndarray) and array.dtype != object for array in state.values())
    before = state["0.exp_avg"].copy()
    run(optimizer, range(1, 2))
    np.testing.assert_array_equal(state["0.exp_avg"], before)
    assert repr(optimizer) == (
        "Adam(4 parameters, lr=0.25, beta1=0.9, beta2=0.999, eps=1e-08, weight_decay=0.0, amsgrad=True, maximize=False)"
    )


def test_load_state_dict_lists_all_that_does_not_fit_and_changes_nothing():
    optimizer = Adam(make_parameters(), lr=0.25)
    run(optimizer, range(1))
    before = optimizer.state_dict()
    state = {**before, "lr": np.array(9.0)}
    del state["beta1"], state["0.step"]
    state["2.exp_avg"] = np.zeros(3)
    state["eps"] = np.array("small")
    state["4.exp_avg"] = state["momentum"] = state["0.momentum_buffer"] = np.zeros(3)
    with pytest.raises(ValueError, match=r"Adam.load_state_dict: .* nothing was changed") as caught:
        optimizer.load_state_dict(state)
    lines = str(caught.value).split("\n")[1:]
    assert lines[0] == "  missing: beta1, 0.step, 2.exp_avg"
    assert lines[1].startswith("  not convertible: eps is float64, the state has <U")
    assert lines[2] == "  misshapen: 2.exp_avg is (), the state has (3,)"
    assert lines[3] == "  surplus: 4.exp_avg, momentum, 0.momentum_buffer"
    for name, array in optimizer.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
    with pytest.raises(ValueError, match=r"SGD.load_state_dict"):
        SGD(make_parameters()).load_state_dict(before)
    with pytest.raises(TypeError, match="expected a mapping of names to arrays, got list"):
        optimizer.load_state_dict([1])


# ---------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("optimizer_class", "arguments", "message"),
    [
        (SGD, {"lr": -0.1}, "SGD: lr must be at least 0, got -0.1"),
        (SGD, {"lr": float("nan")}, "SGD: lr must be at least 0, got nan"),
        (SGD, {"momentum": -1}, "SGD: momentum must be at least 0, got -1"),
        (SGD, {"weight_decay": -1}, "SGD: weight_decay must be at least 0, got -1"),
        (SGD, {"nesterov": True}, "SGD: nesterov needs momentum > 0 and dampening = 0, got momentum=0.0"),
        (SGD, {"nesterov": True, "momentum": 0.9, "dampening": 0.1}, "nesterov needs .* dampening=0.1"),
        (Adam, {"lr": -0.1}, "Adam: lr must be at least 0, got -0.1"),
        (Adam, {"betas": (0.9, 1.0)}, r"Adam: betas must be two numbers in \[0, 1\), got \(0.9, 1.0\)"),
        (Adam, {"betas": (0.9,)}, "Adam: betas must be two numbers"),
        (Adam, {"eps": -1e-8}, "Adam: eps must be at least 0"),
        (AdamW, {"weight_decay": -1}, "AdamW: weight_decay must be at least 0, got -1"),
        (RMSprop, {"alpha": -1}, "RMSprop: alpha must be at least 0, got -1"),
        (RMSprop, {"momentum": -1}, "RMSprop: momentum must be at least 0, got -1"),
        (Adagrad, {"lr_decay": -1}, "Adagrad: lr_decay must be at least 0, got -1"),
        (Adagrad, {"initial_accumulator_value": -1}, "Adagrad: initial_accumulator_value must be at least 0, got -1"),
    ],
)
def test_numbers_out_of_range(optimizer_class, arguments, message):
    with pytest.raises(ValueError, match=message):
        optimizer_class(make_parameters(), **arguments)


def test_what_is_no_list_of_parameters():
    layer = nn.Linear(2, 2)
    with pytest.raises(TypeError, match=r"SGD: params must be parameters, got a layer; pass layer.parameters\(\)"):
        SGD(layer)
    with pytest.raises(TypeError, match="put the one parameter into a list"):
        SGD(layer.weight)
    with pytest.raises(TypeError, match=r"params\[1\] must be a Parameter, got ndarray"):
        Adam([layer.weight, layer.bias.data])
    with pytest.raises(ValueError, match="AdamW: params is empty"):
        AdamW([])
    with pytest.raises(ValueError, match="SGD: params holds a parameter twice"):
        SGD([layer.weight, layer.weight])


def test_a_gradient_that_does_not_fit_changes_no_parameter():
    """All parameters step together, after all of them have been looked at."""
    params = [Parameter(np.ones(size, np.float32)) for size in (3, 0, 5)]
    for parameter in params:
        parameter.grad = np.ones_like(parameter.data)
    params[2].grad = np.ones(4, np.float32)
    with pytest.raises(ValueError, match=r"step: a parameter of \(5,\), float32 has a gradient of \(4,\), float32"):
        SGD(params, 0.5).step()
    assert all((parameter.data == 1).all() for parameter in params)
    params[2].grad = np.ones(5, np.float32)
    SGD(params, 0.5).step()
    assert all((parameter.data == 0.5).all() for parameter in params)


ALL = [
    lambda p: SGD(p, lr=0.1, momentum=0.9),
    lambda p: Adam(p, amsgrad=True),
    lambda p: RMSprop(p, momentum=0.9, centered=True),
    lambda p: Adagrad(p),
]


def ready(shape, dtype=np.float32):
    parameter = Parameter(np.ones(shape, dtype))
    parameter.grad = np.ones(shape, dtype)
    return parameter


@pytest.mark.parametrize("make", ALL)
@pytest.mark.parametrize("now", [np.ones(50_000, np.float32), np.ones((2, 3), np.float32), np.ones(6)])
def test_a_parameter_of_another_shape_or_dtype_than_before_is_refused(make, now):
    """The state has the old size: a step would write far behind it."""
    parameter = ready(6)
    optimizer = make([parameter])
    optimizer.step()
    parameter.data, parameter.grad = now, np.ones_like(now)
    with pytest.raises(ValueError, match=r"\.step: a parameter of .* was of \(6,\), float32 in the steps before"):
        optimizer.step()
    assert (now == 1).all()


@pytest.mark.parametrize("make", ALL)
def test_a_failed_step_changes_nothing_at_all(make):
    """Neither the parameters of another group nor any state: not even the number of steps."""
    first, second = ready(5), ready(5)
    optimizer = make([{"params": [first], "lr": 0.5}, {"params": [second], "lr": 0.1}])
    optimizer.step()
    state, data = optimizer.state_dict(), first.data.copy()
    right = second.grad
    for wrong, error in ((np.ones(3, np.float32), ValueError), (np.ones(5, int), TypeError), ("x", TypeError)):
        second.grad = wrong
        with pytest.raises(error, match=f"^{type(optimizer).__name__}.step: "):
            optimizer.step()
    second.grad = right
    optimizer.param_groups[1]["lr"] = "0.1"
    with pytest.raises(TypeError, match=r"\.step: lr must be a number, got '0.1'"):
        optimizer.step()
    optimizer.param_groups[1]["lr"] = 0.1
    optimizer.lr = math.nan
    with pytest.raises(ValueError, match=r"\.step: lr is nan"):
        optimizer.step()
    for group, rate in zip(optimizer.param_groups, (0.5, 0.1), strict=True):
        group["lr"] = rate
    np.testing.assert_array_equal(first.data, data)
    assert optimizer.state_dict().keys() == state.keys()
    for name, value in optimizer.state_dict().items():
        np.testing.assert_array_equal(value, state[name])


@pytest.mark.parametrize("make", ALL)
def test_a_step_does_not_write_what_is_read_only(make):
    """In eval mode a convolution keeps a packed form of its weight, which would go on as it was."""
    layer, x = nn.Conv2d(2, 3, 3, rng=0), np.ones((1, 2, 5, 5), np.float32)
    layer.backward(layer(x))
    optimizer = make(layer.parameters())
    before = layer.eval()(x)
    with pytest.raises(ValueError, match=r"\.step: a parameter of \(3, 2, 3, 3\), float32 is read-only, .* train\(\)"):
        optimizer.step()
    np.testing.assert_array_equal(layer(x), before)
    layer.train()
    optimizer.step()
    assert (layer.eval()(x) != before).all()


@pytest.mark.parametrize(
    ("make", "entry", "message"),
    [
        (SGD, {"lr": -1.0}, "out of range: lr must be at least 0, got -1.0"),
        (SGD, {"momentum": math.nan}, "out of range: momentum must be at least 0, got nan"),
        (Adam, {"beta1": 2.0}, r"out of range: betas must be two numbers in \[0, 1\), got \(2.0, 0.999\)"),
        (Adam, {"0.step": np.array(-1)}, "out of range: 0.step must be at least 1, got -1"),
    ],
)
def test_a_state_with_numbers_out_of_range_changes_nothing(make, entry, message):
    parameter = ready(3)
    optimizer = make([parameter])
    optimizer.step()
    before = optimizer.state_dict()
    with pytest.raises(ValueError, match=f"nothing was changed\n  {message}"):
        optimizer.load_state_dict({**before, **entry})
    for name, value in optimizer.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda p: SGD(p, lr="0.1"), TypeError, "^SGD: lr must be a number, got '0.1'"),
        (lambda p: SGD(p, lr=np.ones(2)), TypeError, "^SGD: lr must be a number"),
        (lambda p: Adam(p, betas=0.9), ValueError, "^Adam: betas must be two numbers"),
        (lambda p: Adam(p, betas=("a", 0.9)), TypeError, "^Adam: each of betas must be a number, got 'a'"),
        (lambda p: SGD(None), TypeError, "^SGD: params must be an iterable of parameters, got None"),
    ],
)
def test_settings_that_are_no_numbers(make, error, message):
    with pytest.raises(error, match=message):
        make([ready(2)])


def test_an_optimiser_may_be_made_before_lazy_parameters_have_values():
    model = nn.Sequential(nn.LazyLinear(3, rng=0))
    optimizer = SGD(model.parameters(), lr=0.1)
    optimizer.zero_grad()
    optimizer.step()
    model.backward(model(np.ones((2, 8), np.float32)))
    before = model[0].weight.data.copy()
    optimizer.step()
    assert (model[0].weight.data != before).any()
