"""Parameter groups that a user edits between steps: what is kept for a parameter goes with it; nothing is half done."""

import numpy as np
import numpy_memory
import pytest
from tolerances import assert_close

from cyconv import SGD, Adam, AdamW, Parameter
from cyconv.optim import Adagrad, RMSprop

MAKES = {
    "SGD": lambda p: SGD(p, 0.1, momentum=0.9, dampening=0.5),
    "Adam": lambda p: Adam(p, 0.1, amsgrad=True),
    "AdamW": lambda p: AdamW(p, 0.1, weight_decay=0.1),
    "RMSprop": lambda p: RMSprop(p, 0.1, momentum=0.9, centered=True),
    "Adagrad": lambda p: Adagrad(p, 0.1, lr_decay=0.1, initial_accumulator_value=0.2),
}
TORCH = {
    "SGD": lambda torch, p: torch.optim.SGD(p, 0.1, momentum=0.9, dampening=0.5),
    "Adam": lambda torch, p: torch.optim.Adam(p, 0.1, amsgrad=True),
    "AdamW": lambda torch, p: torch.optim.AdamW(p, 0.1, weight_decay=0.1),
    "RMSprop": lambda torch, p: torch.optim.RMSprop(p, 0.1, momentum=0.9, centered=True),
    "Adagrad": lambda torch, p: torch.optim.Adagrad(p, 0.1, lr_decay=0.1, initial_accumulator_value=0.2),
}
SIZES = [3, 1000, 7, 5000]


def made(*sizes, seed=0):
    rng = np.random.default_rng(seed)
    return [Parameter(rng.standard_normal(size)) for size in sizes]


def step(optimizer, parameters, number):
    for position, parameter in enumerate(parameters):
        rng = np.random.default_rng((number, position))
        parameter.grad = rng.standard_normal(parameter.data.shape)
    optimizer.step()


# Each takes the groups and four parameters, of which the optimiser has the first two.
EDITS = {
    "one more": lambda groups, p: groups[0]["params"].append(p[2]),
    "one more, larger, in front": lambda groups, p: groups[0]["params"].insert(0, p[3]),
    "another, larger, instead": lambda groups, p: groups[0]["params"].__setitem__(0, p[3]),
    "in another order": lambda groups, p: groups[0]["params"].reverse(),
    "one less": lambda groups, p: groups[0]["params"].pop(0),
    "none": lambda groups, p: groups[0]["params"].clear(),
    "one more group": lambda groups, p: groups.append({**groups[0], "params": [p[3], p[2]], "lr": 0.3}),
    "one more group, in front": lambda groups, p: groups.insert(0, {**groups[0], "params": [p[3]], "lr": 0.3}),
    "a tuple": lambda groups, p: groups[0].update(params=(p[1], p[3], p[0])),
}


@pytest.mark.parametrize("name", MAKES)
@pytest.mark.parametrize("edit", EDITS)
def test_edited_groups_do_what_those_of_torch_do(name, edit):
    torch = pytest.importorskip("torch")
    ours = made(*SIZES)
    theirs = [torch.nn.Parameter(torch.from_numpy(p.data.copy())) for p in ours]
    optimizer, twin = MAKES[name](ours[:2]), TORCH[name](torch, theirs[:2])
    for number in range(6):
        if number == 2:
            EDITS[edit](optimizer.param_groups, ours)
            EDITS[edit](twin.param_groups, theirs)
            if name == "Adagrad":  # which makes the state of its parameters when it is made
                for parameter in theirs[2:]:
                    twin.state[parameter] = {"step": torch.tensor(0.0), "sum": torch.full_like(parameter, 0.2)}
        if number == 4:  # back to what it was: the state of those that were away is begun anew
            optimizer.param_groups[:] = [optimizer.param_groups[-1]]
            twin.param_groups[:] = [twin.param_groups[-1]]
        for mine, other in zip(ours, theirs, strict=True):
            mine.grad = np.random.default_rng((number, mine.data.size)).standard_normal(mine.data.shape)
            other.grad = torch.from_numpy(mine.grad.copy())
        optimizer.step()
        twin.step()
    for mine, other in zip(ours, theirs, strict=True):
        assert_close(mine.data, other.detach().numpy(), algorithm="direct", scale=1.0)


@pytest.mark.parametrize("name", MAKES)
def test_a_parameter_that_comes_in_begins_as_in_a_new_optimiser(name):
    old, new, twin = *made(3, 5000), made(3, 5000)[1]
    optimizer, fresh = MAKES[name]([old]), MAKES[name]([twin])
    step(optimizer, [old], 0)
    optimizer.param_groups[0]["params"][0] = new  # longer than what was kept: a kernel would write behind it
    assert optimizer.params == [new]
    step(optimizer, [new], 1)
    step(fresh, [twin], 1)
    np.testing.assert_array_equal(new.data, twin.data)
    assert {value.shape for value in optimizer.state[0].values() if isinstance(value, np.ndarray)} == {(5000,)}


def test_the_saved_state_has_the_order_of_the_groups_as_they_are():
    a, b = made(3, 5)
    optimizer = SGD([a, b], 0.1, momentum=0.9)
    step(optimizer, [a, b], 0)
    optimizer.param_groups[0]["params"].reverse()
    state = optimizer.state_dict()
    assert state["0.momentum_buffer"].shape == (5,)
    again = SGD([b, a], 0.7)
    again.load_state_dict(state)
    np.testing.assert_array_equal(again.state[1]["momentum_buffer"], optimizer.state[1]["momentum_buffer"])
    optimizer.param_groups[0]["params"].append(c := made(2)[0])
    c.grad = np.ones(2)
    optimizer.zero_grad()
    assert c.grad is None


def test_a_generator_of_parameters_is_refused_as_it_can_be_read_once():
    a, b = made(3, 5)
    optimizer = SGD([a], 0.1, momentum=0.9)
    for given in (iter([a, b]), iter([a])):
        optimizer.param_groups[0]["params"] = given
        with pytest.raises(
            TypeError, match=r"SGD: param_groups\[0\]\[.params.\] must be a list or tuple of parameters"
        ):
            optimizer.step()


REFUSED = [
    (lambda o, p: o.param_groups[0]["params"].append(p[0]), ValueError, "holds a parameter twice"),
    (lambda o, p: o.param_groups.append({"params": [p[2]]}), ValueError, r"param_groups\[1\] has no 'lr'; add_param_"),
    (lambda o, p: o.param_groups[0].pop("eps"), ValueError, r"param_groups\[0\] has no 'eps'"),
    (lambda o, p: o.param_groups[0].pop("params"), TypeError, r'param_groups\[0\] must be a dict with "params"'),
    (lambda o, p: o.param_groups.append(p[2]), TypeError, r'param_groups\[1\] must be a dict with "params", got Param'),
    (lambda o, p: o.param_groups[0].update(params=p[2]), TypeError, "must be a list or tuple of parameters, got Param"),
    (lambda o, p: o.param_groups[0].update(params="ab"), TypeError, "must be a list or tuple of parameters, got 'ab'"),
    (
        lambda o, p: o.param_groups[0]["params"].append(p[2].data),
        TypeError,
        r"params\[2\] must be a Parameter, got nda",
    ),
    (lambda o, p: o.param_groups[0]["params"].append(None), TypeError, r"params\[2\] must be a Parameter, got None"),
    (lambda o, p: setattr(o, "param_groups", None), TypeError, "param_groups must be a list of dicts, got None"),
    (lambda o, p: setattr(o, "param_groups", {"params": p}), TypeError, "param_groups must be a list of dicts, got {"),
    (lambda o, p: o.param_groups[0].update(lr="fast"), TypeError, "lr must be a number, got 'fast'"),
    (lambda o, p: o.param_groups[0].update(lr=None), TypeError, "lr must be a number, got None"),
    (lambda o, p: o.param_groups[0].update(lr=np.nan), ValueError, "lr is nan"),
    (lambda o, p: o.param_groups[0].update(lr=-0.1), ValueError, "lr must be at least 0, got -0.1"),
    (lambda o, p: o.param_groups[0].update(beta1=1.0), ValueError, r"betas must be two numbers in \[0, 1\)"),
    (lambda o, p: o.param_groups[0].update(betas=(0.5, 0.5)), ValueError, "has 'betas', which nothing reads; its set"),
]


@pytest.mark.parametrize(("edit", "error", "message"), REFUSED)
def test_edits_that_make_no_sense_are_refused_before_anything_changes(edit, error, message):
    parameters = made(*SIZES)
    optimizer = Adam(parameters[:2], 0.1)
    step(optimizer, parameters[:2], 0)
    before = [parameter.data.copy() for parameter in parameters]
    counts = [state["step"] for state in optimizer.state]
    edit(optimizer, parameters)
    with pytest.raises(error, match=rf"^Adam(\.step)?: .*{message}"):
        step(optimizer, parameters, 1)
    for parameter, data in zip(parameters, before, strict=True):
        np.testing.assert_array_equal(parameter.data, data)
    assert [state["step"] for state in optimizer.state] == counts


def test_a_setting_that_is_an_array_is_looked_at_in_every_step():
    (parameter,) = made(3)
    rate = np.array(0.5)
    optimizer = SGD([parameter], 0.1)
    optimizer.param_groups[0]["lr"] = rate
    step(optimizer, [parameter], 0)
    rate[...] = np.nan
    with pytest.raises(ValueError, match="lr is nan"):
        step(optimizer, [parameter], 1)


@pytest.mark.parametrize("name", MAKES)
def test_a_step_that_gets_no_memory_changes_nothing(name):
    parameters, twins = made(4000, 5000), made(4000, 5000)
    optimizer, usual = MAKES[name](parameters), MAKES[name](twins)
    for parameter in parameters:
        parameter.grad = np.ones(parameter.data.shape)
    failures = 0
    with numpy_memory.watched():
        while True:
            numpy_memory.fail_allocation(failures + 1)
            try:
                optimizer.step()
            except MemoryError:
                failures += 1
                assert optimizer.state == [{}, {}]
            else:
                break
            finally:
                numpy_memory.fail_allocation(0)
    assert failures >= 2  # at least one array for each parameter
    for parameter in twins:
        parameter.grad = np.ones(parameter.data.shape)
    usual.step()
    for parameter, twin in zip(parameters, twins, strict=True):
        np.testing.assert_array_equal(parameter.data, twin.data)
