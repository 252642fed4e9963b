"""Schedules of the learning rate beside torch's, by hand, saved and restored; clipping of gradients."""

import math
import warnings

import numpy as np
import pytest

from cyconv import functional as F
from cyconv import load, nn, save
from cyconv.nn import Parameter
from cyconv.nn.utils import clip_grad_norm_, clip_grad_value_
from cyconv.optim import SGD, Adagrad, Adam, lr_scheduler

SCHEDULES = [
    ("StepLR", {"step_size": 3, "gamma": 0.5}),
    ("MultiStepLR", {"milestones": [2, 5, 5, 9], "gamma": 0.3}),
    ("ExponentialLR", {"gamma": 0.8}),
    ("ConstantLR", {"factor": 0.25, "total_iters": 4}),
    ("LinearLR", {"start_factor": 0.2, "end_factor": 0.9, "total_iters": 7}),
    ("LinearLR", {}),
    ("PolynomialLR", {"total_iters": 6, "power": 2.0}),
    ("CosineAnnealingLR", {"T_max": 8, "eta_min": 0.01}),
    ("CosineAnnealingWarmRestarts", {"T_0": 3, "T_mult": 2, "eta_min": 0.01}),
    ("CosineAnnealingWarmRestarts", {"T_0": 4}),
    ("LambdaLR", {"lr_lambda": lambda t: 1 / (1 + t)}),
]
#: At least twenty steps, which is what the tests take.
CYCLES = [
    {"max_lr": 2.0, "total_steps": 20},
    {"max_lr": [2.0, 0.5], "total_steps": 23, "pct_start": 0.5, "anneal_strategy": "linear", "div_factor": 4.0},
    {"max_lr": 2.0, "epochs": 4, "steps_per_epoch": 6, "three_phase": True, "final_div_factor": 100.0},
    {"max_lr": 1.0, "total_steps": 30, "three_phase": True, "anneal_strategy": "linear", "pct_start": 0.4},
    {"max_lr": 1.0, "total_steps": 20, "base_momentum": [0.5, 0.6], "max_momentum": 0.9},
    {"max_lr": 1.0, "total_steps": 21, "cycle_momentum": False, "pct_start": 0.0},
]


def make_optimizer(**arguments):
    groups = [{"params": [Parameter(np.zeros(2))]}, {"params": [Parameter(np.zeros(3))], "lr": 0.4}]
    return SGD(groups, **{"lr": 1.0, **arguments})


def make_twin(**arguments):
    torch = pytest.importorskip("torch")
    groups = [
        {"params": [torch.nn.Parameter(torch.zeros(2))]},
        {"params": [torch.nn.Parameter(torch.zeros(3))], "lr": 0.4},
    ]
    return torch.optim.lr_scheduler, torch.optim.SGD(groups, lr=1.0, **arguments)


def rates(optimizer):
    return [group["lr"] for group in optimizer.param_groups]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "arguments"), SCHEDULES)
def test_rates_are_those_of_torch(name, arguments):
    module, theirs = make_twin()
    ours = make_optimizer()
    schedule, twin = getattr(lr_scheduler, name)(ours, **arguments), getattr(module, name)(theirs, **arguments)
    for _ in range(20):
        assert rates(ours) == pytest.approx(rates(theirs), rel=1e-9, abs=1e-12)
        assert schedule.get_last_lr() == rates(ours)
        schedule.step()
        twin.step()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("arguments", CYCLES)
def test_one_cycle_is_torchs(arguments):
    module, theirs = make_twin(momentum=0.8)
    ours = make_optimizer(momentum=0.8)
    schedule, twin = lr_scheduler.OneCycleLR(ours, **arguments), module.OneCycleLR(theirs, **arguments)
    for _ in range(20):
        assert rates(ours) == pytest.approx(rates(theirs), rel=1e-9, abs=1e-12)
        momentum = [group["momentum"] for group in ours.param_groups]
        assert momentum == pytest.approx([group["momentum"] for group in theirs.param_groups], rel=1e-9)
        schedule.step()
        twin.step()


def test_one_cycle_changes_adams_first_beta_and_ends():
    optimizer = Adam([Parameter(np.zeros(2))], lr=1.0)
    schedule = lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=4, pct_start=0.5, anneal_strategy="linear")
    seen = []
    for _ in range(4):
        seen.append((optimizer.lr, optimizer.param_groups[0]["beta1"]))
        schedule.step()
    # Up in pct_start * 4 - 1 = 1 step, down in 2 more; the last rate is 0.1 / 25 / 1e4.
    middle = (0.1 + 4e-7) / 2
    assert [rate for rate, _ in seen] == pytest.approx([0.004, 0.1, middle, 4e-7])
    assert [beta for _, beta in seen] == pytest.approx([0.95, 0.85, 0.9, 0.95])
    with pytest.raises(ValueError, match="has 4 steps; step number 5 is one too many"):
        schedule.step()
    assert Adam([Parameter(np.zeros(2))], lr=1.0).param_groups[0]["beta1"] == 0.9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_lr": 1.0}, "give total_steps, or both epochs and steps_per_epoch"),
        ({"max_lr": 1.0, "total_steps": 0}, "total_steps"),
        ({"max_lr": 1.0, "total_steps": 5, "pct_start": 1.5}, "pct_start"),
        ({"max_lr": 1.0, "total_steps": 5, "anneal_strategy": "step"}, "anneal_strategy"),
        ({"max_lr": [1.0], "total_steps": 5}, "expected 2 values of max_lr"),
        ({"max_lr": -1.0, "total_steps": 5}, "max_lr must be at least 0, got -1.0"),
        ({"max_lr": 1.0, "total_steps": 5, "div_factor": 0}, "div_factor must be above 0, got 0"),
    ],
)
def test_errors_of_one_cycle(arguments, message):
    optimizer = make_optimizer()
    before = rates(optimizer)
    with pytest.raises(ValueError, match=message):
        lr_scheduler.OneCycleLR(optimizer, **arguments)
    assert rates(optimizer) == before


def test_one_cycle_wants_a_momentum_to_change():
    optimizer = Adagrad([Parameter(np.zeros(2))], lr=1.0)
    with pytest.raises(ValueError, match="cycle_momentum=False"):
        lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=5)
    lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=5, cycle_momentum=False)


@pytest.mark.filterwarnings("ignore")
def test_one_after_another_as_torch():
    def chain(module, optimizer):
        parts = [
            module.LinearLR(optimizer, 0.1, total_iters=4),
            module.ExponentialLR(optimizer, 0.5),
            module.CosineAnnealingLR(optimizer, 6),
        ]
        return module.SequentialLR(optimizer, parts, [4, 7])

    module, theirs = make_twin()
    ours = make_optimizer()
    schedule, twin = chain(lr_scheduler, ours), chain(module, theirs)
    for _ in range(14):
        assert rates(ours) == pytest.approx(rates(theirs), rel=1e-9, abs=1e-12)
        schedule.step()
        twin.step()


@pytest.mark.parametrize(
    "arguments",
    [
        {"patience": 1},
        {"mode": "max", "patience": 0, "factor": 0.5},
        {"patience": 2, "threshold": 0.3, "threshold_mode": "abs", "factor": 0.5, "min_lr": 0.2},
        {"patience": 1, "cooldown": 3, "factor": 0.5, "min_lr": [0.3, 0.1]},
        {"mode": "max", "patience": 1, "threshold": 0.05, "factor": 0.9, "eps": 0.05},
    ],
)
def test_plateau_is_torchs(arguments):
    module, theirs = make_twin()
    ours = make_optimizer()
    schedule, twin = lr_scheduler.ReduceLROnPlateau(ours, **arguments), module.ReduceLROnPlateau(theirs, **arguments)
    values = np.exp(-np.arange(40) / 10) + np.random.default_rng(0).random(40) / 2
    seen = set()
    for value in values:
        schedule.step(value)
        twin.step(value)
        assert rates(ours) == pytest.approx(rates(theirs), rel=1e-12)
        seen.add(ours.lr)
    assert len(seen) > 1


def test_by_hand():
    optimizer = make_optimizer()
    schedule = lr_scheduler.StepLR(optimizer, 2, 0.5)
    found = []
    for _ in range(5):
        found.append(rates(optimizer))
        schedule.step()
    assert found == [[1, 0.4], [1, 0.4], [0.5, 0.2], [0.5, 0.2], [0.25, 0.1]]
    warm = lr_scheduler.LinearLR(make_optimizer(), 0.5, total_iters=2)
    assert warm.get_last_lr() == [0.5, 0.2]


def test_a_restored_schedule_goes_on(tmp_path):
    for name, arguments in SCHEDULES:
        first = getattr(lr_scheduler, name)(make_optimizer(), **arguments)
        for _ in range(3):
            first.step()
        save(tmp_path / "schedule.npz", first.state_dict())
        second = getattr(lr_scheduler, name)(make_optimizer(), **arguments)
        second.load_state_dict(load(tmp_path / "schedule.npz"))
        for _ in range(4):
            assert second.get_last_lr() == first.get_last_lr()
            first.step()
            second.step()
    plateau = lr_scheduler.ReduceLROnPlateau(make_optimizer(), patience=1)
    for value in (2.0, 1.0, 1.5):
        plateau.step(value)
    again = lr_scheduler.ReduceLROnPlateau(make_optimizer(), patience=1)
    again.load_state_dict(plateau.state_dict())
    again.step(1.2)
    assert again.get_last_lr() == pytest.approx([0.1, 0.04])
    with pytest.raises(ValueError, match=r"StepLR.load_state_dict: expected last_epoch, base_lrs, last_lr, got"):
        lr_scheduler.StepLR(make_optimizer(), 1).load_state_dict(plateau.state_dict())
    with pytest.raises(ValueError, match=r"base_lrs is \(2,\), the state has \(1,\)"):
        first.load_state_dict({"last_epoch": np.array(1), "base_lrs": np.ones(1), "last_lr": np.ones(2)})


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda o: lr_scheduler.StepLR(o, 0), ValueError, "StepLR: step_size must be at least 1, got 0"),
        (lambda o: lr_scheduler.LinearLR(o, 0), ValueError, r"LinearLR: start_factor must be in \(0, 1\], got 0"),
        (lambda o: lr_scheduler.StepLR(3, 1), TypeError, "StepLR: optimizer must be an Optimizer, got int"),
        (lambda o: lr_scheduler.LambdaLR(o, [abs]), ValueError, "expected 2 functions, one for each group, got 1"),
        (lambda o: lr_scheduler.ReduceLROnPlateau(o, "least"), ValueError, "mode must be 'min' or 'max', got 'least'"),
        (lambda o: lr_scheduler.ReduceLROnPlateau(o, min_lr=[1.0]), ValueError, "min_lr must have 2 numbers, got 1"),
        (
            lambda o: lr_scheduler.SequentialLR(o, [lr_scheduler.ReduceLROnPlateau(o)], []),
            TypeError,
            r"SequentialLR: schedulers\[0\] must be a function of t, got ReduceLROnPlateau",
        ),
        (
            lambda o: lr_scheduler.SequentialLR(o, [lr_scheduler.StepLR(o, 1)], [3]),
            ValueError,
            "SequentialLR: milestones must be 0 rising numbers for 1 schedules, got",
        ),
        (
            lambda o: lr_scheduler.SequentialLR(o, [lr_scheduler.StepLR(make_optimizer(), 1)], []),
            ValueError,
            "belongs to another optimiser",
        ),
    ],
)
def test_errors(make, error, message):
    with pytest.raises(error, match=message):
        make(make_optimizer())


# ------------------------------------------------------------------------------------------------------------- clipping


def with_gradients(dtype="float64", scale=1.0):
    rng = np.random.default_rng(0)
    parameters = [Parameter(np.zeros(shape, dtype)) for shape in ((3, 4), (9000,), (2,))]
    for parameter in parameters[:2]:
        parameter.grad = np.asarray(scale * rng.standard_normal(parameter.shape), dtype)
    return parameters


@pytest.mark.parametrize("norm_type", [2.0, 1.0, 3.0, math.inf])
@pytest.mark.parametrize("max_norm", [1e-3, 2.0, 1e6])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_norms_are_clipped_as_in_torch(norm_type, max_norm, dtype):
    torch = pytest.importorskip("torch")
    parameters = with_gradients(dtype)
    twins = [torch.nn.Parameter(torch.from_numpy(p.data.copy())) for p in parameters]
    for parameter, twin in zip(parameters[:2], twins, strict=False):
        twin.grad = torch.from_numpy(parameter.grad.copy())
    arrays = [p.grad for p in parameters[:2]]
    norm = clip_grad_norm_(iter(parameters), max_norm, norm_type)
    theirs = torch.nn.utils.clip_grad_norm_(twins, max_norm, norm_type)
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    assert norm == pytest.approx(float(theirs), rel=tolerance)
    for parameter, twin, array in zip(parameters[:2], twins, arrays, strict=False):
        assert parameter.grad is array
        np.testing.assert_allclose(array, twin.grad.numpy(), rtol=tolerance)
    assert parameters[2].grad is None


def test_norm_by_hand():
    assert F.total_norm([np.array([3.0]), np.array([[4.0]])]) == 5
    assert F.total_norm([]) == 0
    big = np.full(100_000, 1e30, np.float32)  # its squares overflow in float32
    assert F.total_norm([big]) == pytest.approx(1e30 * math.sqrt(100_000), rel=1e-6)
    p = Parameter(np.zeros(2))
    p.grad = np.array([np.nan, 1.0])
    with pytest.raises(RuntimeError, match="the norm of the gradients is nan; nothing was changed"):
        clip_grad_norm_(p, 1.0, error_if_nonfinite=True)
    assert p.grad[1] == 1
    assert math.isnan(clip_grad_norm_(p, 1.0, math.inf))


def test_values_are_clipped():
    parameters = with_gradients(scale=3)
    before = [p.grad.copy() for p in parameters[:2]]
    clip_grad_value_(parameters, 0.5)
    for parameter, gradient in zip(parameters[:2], before, strict=False):
        np.testing.assert_array_equal(parameter.grad, np.clip(gradient, -0.5, 0.5))


def test_errors_of_clipping():
    layer = nn.Linear(2, 2)
    with pytest.raises(TypeError, match=r"clip_grad_norm_: parameters must be parameters, got a layer"):
        clip_grad_norm_(layer, 1.0)
    with pytest.raises(TypeError, match=r"clip_grad_value_: parameters\[0\] must be a Parameter, got ndarray"):
        clip_grad_value_([np.ones(1)], 1.0)
    for arguments, message in (
        ((-1.0,), "max_norm must be at least 0, got -1"),
        ((1.0, 0), "norm_type must be above 0"),
    ):
        with pytest.raises(ValueError, match=message):
            clip_grad_norm_(layer.parameters(), *arguments)
    with pytest.raises(ValueError, match="clip_value must be at least 0, got -1"):
        clip_grad_value_(layer.parameters(), -1)


# ---------------------------------------------------------------------------------------------- going on, and groups

RESUMED = {
    "StepLR": lambda o, **k: lr_scheduler.StepLR(o, 3, 0.5, **k),
    "MultiStepLR": lambda o, **k: lr_scheduler.MultiStepLR(o, [2, 5], 0.5, **k),
    "ExponentialLR": lambda o, **k: lr_scheduler.ExponentialLR(o, 0.9, **k),
    "ConstantLR": lambda o, **k: lr_scheduler.ConstantLR(o, 0.3, 4, **k),
    "LinearLR": lambda o, **k: lr_scheduler.LinearLR(o, 0.3, 0.8, 4, **k),
    "PolynomialLR": lambda o, **k: lr_scheduler.PolynomialLR(o, 6, 2.0, **k),
    "CosineAnnealingLR": lambda o, **k: lr_scheduler.CosineAnnealingLR(o, 6, 0.01, **k),
    "CosineAnnealingWarmRestarts": lambda o, **k: lr_scheduler.CosineAnnealingWarmRestarts(o, 3, 2, **k),
    "LambdaLR": lambda o, **k: lr_scheduler.LambdaLR(o, lambda t: 1 / (1 + t), **k),
    "OneCycleLR": lambda o, **k: lr_scheduler.OneCycleLR(o, 0.5, 12, **k),
}


def settings(optimizer):
    return [(group["lr"], group["momentum"]) for group in optimizer.param_groups]


@pytest.mark.parametrize("name", RESUMED)
def test_last_epoch_goes_on_behind_the_last_t_that_has_been(name):
    def made():
        return SGD([Parameter(np.zeros(1))], 0.1, momentum=0.9)

    first, second = made(), made()
    schedule = RESUMED[name](first)
    for _ in range(4):
        schedule.step()
    second.param_groups[0]["initial_lr"] = first.param_groups[0]["initial_lr"]
    again = RESUMED[name](second, last_epoch=3)
    assert again.last_epoch == schedule.last_epoch == 4
    for _ in range(5):
        assert settings(first) == settings(second)
        schedule.step()
        again.step()


def test_last_epoch_counts_as_in_torch():
    torch = pytest.importorskip("torch")
    ours, theirs = SGD([Parameter(np.zeros(1))], 0.1), torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 0.1)
    for optimizer in (ours, theirs):
        optimizer.param_groups[0]["initial_lr"] = 0.1
    mine = lr_scheduler.StepLR(ours, 3, 0.5, last_epoch=4)
    assert mine.last_epoch == torch.optim.lr_scheduler.StepLR(theirs, 3, 0.5, last_epoch=4).last_epoch


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (3, ValueError, r"last_epoch is 3, but param_groups\[0\] has no 'initial_lr'"),
        (-2, ValueError, "last_epoch must be at least -1, got -2"),
        (1.0, TypeError, "last_epoch must be an int, got 1.0"),
        (None, TypeError, "last_epoch must be an int, got None"),
    ],
)
@pytest.mark.parametrize("name", RESUMED)
def test_a_last_epoch_that_cannot_be(name, value, error, message):
    optimizer = SGD([Parameter(np.zeros(1))], 0.1, momentum=0.9)
    with pytest.raises(error, match=f"^{name}: {message}"):
        RESUMED[name](optimizer, last_epoch=value)


@pytest.mark.parametrize("pair", [("OneCycleLR", "StepLR"), ("StepLR", "OneCycleLR"), ("LinearLR", "ExponentialLR")])
def test_a_sequence_sets_the_momentum_of_a_cycle_as_torch_does(pair):
    torch = pytest.importorskip("torch")
    theirs_of = {
        "OneCycleLR": lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.5, 12),
        "StepLR": lambda o: torch.optim.lr_scheduler.StepLR(o, 3, 0.5),
        "LinearLR": lambda o: torch.optim.lr_scheduler.LinearLR(o, 0.3, 0.8, 4),
        "ExponentialLR": lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.9),
    }
    ours = SGD([Parameter(np.zeros(1))], 0.1, momentum=0.9)
    theirs = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 0.1, momentum=0.9)
    mine = lr_scheduler.SequentialLR(ours, [RESUMED[name](ours) for name in pair], [5])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own call of a deprecated form, and steps without the optimiser's
        other = torch.optim.lr_scheduler.SequentialLR(theirs, [theirs_of[name](theirs) for name in pair], [5])
        for _ in range(14):
            np.testing.assert_allclose(settings(ours), settings(theirs), rtol=1e-12)
            mine.step()
            other.step()


def test_groups_that_come_later_are_named_before_a_step():
    optimizer = SGD([Parameter(np.zeros(1))], 0.1)
    schedule = lr_scheduler.ExponentialLR(optimizer, 0.5)
    optimizer.add_param_group({"params": [Parameter(np.zeros(2))]})
    with pytest.raises(ValueError, match="ExponentialLR: made for 1 groups of parameters, and the optimiser has 2 now"):
        schedule.step()
    with pytest.raises(ValueError, match="ExponentialLR: made for 1 groups"):
        schedule.load_state_dict(schedule.state_dict())
    assert schedule.last_epoch == 0
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.1]


@pytest.mark.parametrize("clip", [lambda p: clip_grad_norm_(p, 0.1), lambda p: clip_grad_value_(p, 0.1)])
def test_clipping_looks_at_all_gradients_before_it_changes_one(clip):
    """Integers were clipped to 0 without a word; a read-only gradient was found when others were scaled already."""
    first, second = Parameter(np.zeros(3)), Parameter(np.zeros(3))
    fixed = np.ones(3)
    fixed.flags.writeable = False
    cases = [
        (fixed, ValueError, "a gradient of .* is read-only"),
        (np.ones(3, int), TypeError, "a gradient must be an array of float32 or float64, got int64"),
        ([1.0, 2.0, 3.0], TypeError, "a gradient must be an array of float32 or float64, got list"),
    ]
    for gradient, error, message in cases:
        first.grad, second.grad = np.full(3, 5.0), gradient
        with pytest.raises(error, match=f"clip_grad_.*_: {message}"):
            clip([first, second])
        np.testing.assert_array_equal(first.grad, np.full(3, 5.0))


@pytest.mark.parametrize("wrong", ["x", None, np.ones(2)])
def test_bounds_of_clipping_are_numbers(wrong):
    parameter = Parameter(np.zeros(1))
    for call, name in (
        (lambda: clip_grad_norm_(parameter, wrong), "clip_grad_norm_: max_norm"),
        (lambda: clip_grad_norm_(parameter, 1.0, wrong), "clip_grad_norm_: norm_type"),
        (lambda: clip_grad_value_(parameter, wrong), "clip_grad_value_: clip_value"),
    ):
        with pytest.raises(TypeError, match=f"{name} must be a number"):
            call()
