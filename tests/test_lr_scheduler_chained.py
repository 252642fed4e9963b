"""Several schedules of one optimiser, one in another, and what is refused: step for step beside torch."""

import itertools
import math

import numpy as np
import pytest

from cyconv.nn import Parameter
from cyconv.optim import SGD, lr_scheduler

FACTORS = {
    "step": lambda m, o: m.StepLR(o, 3, 0.5),
    "milestones": lambda m, o: m.MultiStepLR(o, [2, 5]),
    "exponential": lambda m, o: m.ExponentialLR(o, 0.9),
    "constant": lambda m, o: m.ConstantLR(o, 0.5, 4),
    "linear": lambda m, o: m.LinearLR(o, 0.2, total_iters=5),
    "polynomial": lambda m, o: m.PolynomialLR(o, 30, 2.0),
    "cosine": lambda m, o: m.CosineAnnealingLR(o, 8, 0.01),
    "function": lambda m, o: m.LambdaLR(o, lambda t: 1 / (1 + t)),
}


def cycle(module, optimizer, steps=10):
    return module.OneCycleLR(optimizer, 2.0, total_steps=steps)


def reversed_order(module, optimizer):
    second = module.ExponentialLR(optimizer, 0.5)
    return module.SequentialLR(optimizer, [cycle(module, optimizer), second], [8])


def sequence(milestones, *parts):
    return lambda m, o: m.SequentialLR(o, [part(m, o) for part in parts], milestones)


SEQUENCES = {
    "warm-up, then a cycle": sequence([4], FACTORS["linear"], cycle),
    "a cycle first": sequence([8], cycle, FACTORS["exponential"]),
    "a cycle first, but made last": reversed_order,
    "a cycle in the middle": sequence([3, 9], FACTORS["constant"], cycle, FACTORS["step"]),
    "a function, then a cycle": sequence([3], FACTORS["function"], cycle),
    "polynomial, linear, milestones": sequence([3, 7], FACTORS["polynomial"], FACTORS["linear"], FACTORS["milestones"]),
    "two at one milestone": sequence([3, 3], FACTORS["constant"], FACTORS["step"], FACTORS["exponential"]),
    "a milestone at once": sequence([0], FACTORS["constant"], FACTORS["step"]),
}


def groups(parameter):
    return [{"params": [parameter(2)]}, {"params": [parameter(3)], "lr": 0.4}]


def make_optimizer():
    return SGD(groups(lambda size: Parameter(np.zeros(size))), lr=1.0, momentum=0.8)


def make_twin():
    torch = pytest.importorskip("torch")
    made = groups(lambda size: torch.nn.Parameter(torch.zeros(size)))
    return torch.optim.lr_scheduler, torch.optim.SGD(made, lr=1.0, momentum=0.8)


def settings(optimizer):
    return [(float(group["lr"]), group["momentum"]) for group in optimizer.param_groups]


def assert_same(ours, theirs):
    np.testing.assert_allclose(settings(ours), settings(theirs), rtol=1e-9, atol=1e-12)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("pair", list(itertools.permutations(FACTORS, 2)), ids="+".join)
def test_several_schedules_multiply_as_in_torch(pair):
    module, theirs = make_twin()
    ours = make_optimizer()
    schedules = [FACTORS[name](lr_scheduler, ours) for name in pair]
    twins = [FACTORS[name](module, theirs) for name in pair]
    for _ in range(8):
        assert_same(ours, theirs)
        for schedule, twin in zip(schedules, twins, strict=True):
            schedule.step()
            twin.step()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FACTORS)
def test_a_rate_that_the_user_set_is_gone_on_from_as_in_torch(name):
    module, theirs = make_twin()
    ours = make_optimizer()
    schedule, twin = FACTORS[name](lr_scheduler, ours), FACTORS[name](module, theirs)
    for t in range(7):
        if t == 3:
            ours.param_groups[1]["lr"] = theirs.param_groups[1]["lr"] = 0.07
        schedule.step()
        twin.step()
        assert_same(ours, theirs)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SEQUENCES)
def test_sequences_set_rates_and_momentum_as_in_torch(name):
    module, theirs = make_twin()
    ours = make_optimizer()
    schedule, twin = SEQUENCES[name](lr_scheduler, ours), SEQUENCES[name](module, theirs)
    for _ in range(13):
        assert_same(ours, theirs)
        schedule.step()
        twin.step()


def test_a_cycle_that_is_over_is_refused_within_a_sequence_too():
    optimizer = make_optimizer()
    schedule = sequence([8], lambda m, o: cycle(m, o, 5), FACTORS["step"])(lr_scheduler, optimizer)
    for _ in range(5):
        schedule.step()
    before, state = settings(optimizer), schedule.state_dict()
    for _ in range(2):
        with pytest.raises(ValueError, match="OneCycleLR: the cycle has 5 steps; step number 6 is one too many"):
            schedule.step()
    assert settings(optimizer) == before
    assert schedule.last_epoch == 5 == state["last_epoch"]


def nested(optimizer):
    inner = lr_scheduler.SequentialLR(
        optimizer, [lr_scheduler.StepLR(optimizer, 2), cycle(lr_scheduler, optimizer)], [3]
    )
    return lr_scheduler.SequentialLR(optimizer, [lr_scheduler.LinearLR(optimizer, 0.1, total_iters=3), inner], [3])


@pytest.mark.parametrize("steps", [0, 2, 4, 8])
@pytest.mark.parametrize("rate", [1.0, 0.3])
def test_a_sequence_in_a_sequence_is_restored(steps, rate):
    """Also where the optimiser of the new process begins with another rate, as when its state was loaded before."""
    first, second = make_optimizer(), make_optimizer()
    second.lr = rate
    schedule, again = nested(first), nested(second)
    for _ in range(steps):
        schedule.step()
    again.load_state_dict(schedule.state_dict())
    for _ in range(6):
        assert settings(first) == settings(second)
        schedule.step()
        again.step()


def test_chained_schedules_are_restored():
    first, second = make_optimizer(), make_optimizer()
    pairs = [[FACTORS[name](lr_scheduler, o) for name in ("linear", "cosine")] for o in (first, second)]
    for _ in range(3):
        for schedule in pairs[0]:
            schedule.step()
    for schedule, again in zip(*pairs, strict=True):
        again.load_state_dict(schedule.state_dict())
    for _ in range(3):
        assert settings(first) == settings(second)
        for schedule in itertools.chain(*pairs):
            schedule.step()


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"last_epoch": -3}, "last_epoch must be at least 0, got -3"),
        ({"last_epoch": "x"}, "last_epoch must be integers, got 'x'"),
        ({"last_epoch": 2.5}, "last_epoch must be integers, got 2.5"),
        ({"last_epoch": None}, "last_epoch must be integers, got None"),
        ({"last_epoch": 99}, "the cycle has 10 steps"),
        ({"base_lrs": ["a", "b"]}, "base_lrs must be numbers"),
        ({"base_lrs": [math.nan, 1.0]}, "base_lrs must be at least 0"),
    ],
)
def test_states_of_what_is_no_number_change_nothing(entry, message):
    optimizer = make_optimizer()
    schedule = cycle(lr_scheduler, optimizer)
    before, state = settings(optimizer), schedule.state_dict()
    with pytest.raises(ValueError, match=message):
        schedule.load_state_dict({**state, **entry})
    assert settings(optimizer) == before
    assert {name: value.tolist() for name, value in schedule.state_dict().items()} == {
        name: value.tolist() for name, value in state.items()
    }


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda m, o: m.OneCycleLR(o, 1.0, total_steps=2.5),
            TypeError,
            "OneCycleLR: total_steps must be an int, got 2.5",
        ),
        (lambda m, o: m.OneCycleLR(o, None, 5), TypeError, "OneCycleLR: max_lr must be a number, got None"),
        (lambda m, o: m.OneCycleLR(o, 1.0, 5, base_momentum=-1), ValueError, "OneCycleLR: base_momentum must be in"),
        (lambda m, o: m.OneCycleLR(o, 1.0, 5, max_momentum=math.nan), ValueError, "OneCycleLR: max_momentum must be"),
        (lambda m, o: m.StepLR(o, 2.5), TypeError, "StepLR: step_size must be an int, got 2.5"),
        (lambda m, o: m.StepLR(o, 2, gamma=math.nan), ValueError, "StepLR: gamma must be a number, got nan"),
        (lambda m, o: m.MultiStepLR(o, [2.5]), TypeError, "MultiStepLR: milestones must be an int, got 2.5"),
        (lambda m, o: m.MultiStepLR(o, "ab"), TypeError, "MultiStepLR: milestones must be a list of ints, got 'ab'"),
        (lambda m, o: m.ExponentialLR(o, "x"), TypeError, "ExponentialLR: gamma must be a number, got 'x'"),
        (lambda m, o: m.ConstantLR(o, 0.5, "x"), TypeError, "ConstantLR: total_iters must be an int, got 'x'"),
        (lambda m, o: m.LinearLR(o, total_iters=0.5), TypeError, "LinearLR: total_iters must be an int, got 0.5"),
        (lambda m, o: m.PolynomialLR(o, 5, "x"), TypeError, "PolynomialLR: power must be a number, got 'x'"),
        (
            lambda m, o: m.CosineAnnealingLR(o, 5, "x"),
            TypeError,
            "CosineAnnealingLR: eta_min must be a number, got 'x'",
        ),
        (lambda m, o: m.CosineAnnealingWarmRestarts(o, 2, 1.5), TypeError, "T_mult must be an int, got 1.5"),
        (
            lambda m, o: m.LambdaLR(o, [1, 2]),
            TypeError,
            "LambdaLR: lr_lambda must be a function or a list of functions",
        ),
        (lambda m, o: m.LambdaLR(o, lambda t: None), TypeError, "LambdaLR: the factor of step 0 must be a number"),
        (
            lambda m, o: m.LambdaLR(o, lambda t: math.nan),
            ValueError,
            "LambdaLR: the rate of each step must be a number",
        ),
        (lambda m, o: m.SequentialLR(o, [], []), ValueError, "SequentialLR: schedulers must be a list of at least one"),
        (lambda m, o: m.SequentialLR(o, [m.StepLR(o, 1)], None), TypeError, "SequentialLR: milestones must be a list"),
        (lambda m, o: m.ReduceLROnPlateau(o, patience="x"), TypeError, "ReduceLROnPlateau: patience must be an int"),
        (lambda m, o: m.ReduceLROnPlateau(o).step(None), TypeError, "ReduceLROnPlateau.step: metrics must be a number"),
    ],
)
def test_arguments_that_are_no_numbers_change_nothing(make, error, message):
    optimizer = make_optimizer()
    with pytest.raises(error, match=message):
        make(lr_scheduler, optimizer)
    assert settings(optimizer) == [(1.0, 0.8), (0.4, 0.8)]


def test_plateau_takes_groups_that_come_later():
    optimizer = make_optimizer()
    one, each = (lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, min_lr=m) for m in (0.05, [0.1, 0.1]))
    one.step(1.0)
    optimizer.add_param_group({"params": [Parameter(np.zeros(1))], "lr": 2.0})
    one.step(2.0)
    assert [rate for rate, _ in settings(optimizer)] == pytest.approx([0.1, 0.05, 0.2])
    with pytest.raises(ValueError, match="ReduceLROnPlateau: min_lr must have 3 numbers, got 2"):
        each.step(1.0)
    assert each.last_epoch == 0
