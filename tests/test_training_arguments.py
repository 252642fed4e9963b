"""Arguments of the loop that are looked at before anything is trained, and training that is taken up again."""

import numpy as np
import pytest

import cyconv
from cyconv import SGD, Adam, nn
from cyconv.optim import lr_scheduler
from cyconv.training import evaluate, fit, predict


def make_data(n=10):
    rng = np.random.default_rng(0)
    return rng.standard_normal((n, 1, 4, 4)).astype(np.float32), rng.integers(0, 3, n)


def make_network():
    return nn.Sequential(nn.Conv2d(1, 2, 3, rng=0), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3, rng=0))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"callbacks": [3]}, TypeError, r"fit: callbacks\[0\] must be a function, got 3"),
        ({"callbacks": None}, TypeError, r"fit: callbacks\[0\] must be a function, got None"),
        ({"callbacks": [print, "save"]}, TypeError, r"fit: callbacks\[1\] must be a function, got 'save'"),
        ({"progress": 0}, ValueError, "fit: progress must be True, False, 'bar' or 'lines', got 0"),
        ({"progress": np.ones(2)}, ValueError, "fit: progress must be True, False, 'bar' or 'lines'"),
    ],
)
def test_what_cannot_be_called_or_shown_is_refused_before_the_first_step(arguments, error, message):
    model = make_network()
    before = model.state_dict()
    with pytest.raises(error, match=message):
        fit(
            model,
            nn.CrossEntropyLoss(),
            SGD(model.parameters(), 0.1),
            make_data(),
            1,
            **{"progress": False, **arguments},
        )
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_progress_may_be_a_truth_value_of_numpy(capsys):
    model = make_network()
    fit(model, nn.CrossEntropyLoss(), SGD(model.parameters(), 0.1), make_data(), 1, progress=np.bool_(False))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda m, x, y: evaluate(3, nn.CrossEntropyLoss(), (x, y)),
            TypeError,
            "evaluate: model must be a Module, got int",
        ),
        (lambda m, x, y: evaluate(m, 3, (x, y)), TypeError, "evaluate: loss must be a Module, got int"),
        (lambda m, x, y: evaluate(m, nn.CrossEntropyLoss(), (x, y), 0), ValueError, "evaluate: batch_size must be"),
        (lambda m, x, y: evaluate(m, nn.CrossEntropyLoss(), (x, y), 2.5), TypeError, "evaluate: batch_size must be an"),
        (lambda m, x, y: predict(None, x), TypeError, "predict: model must be a Module, got NoneType"),
    ],
)
def test_evaluate_and_predict_name_themselves(call, error, message):
    with pytest.raises(error, match=message):
        call(make_network(), *make_data())


def test_a_callback_may_add_a_group_while_a_schedule_sets_the_rates():
    """As one does who lets more layers learn after the first epoch."""
    model = make_network()
    optimizer = SGD(model[0].parameters(), 0.1)
    seen = []

    def add(model, history):
        seen.append([group["lr"] for group in optimizer.param_groups])
        if history.epochs == 1:
            optimizer.add_param_group({"params": list(model[4].parameters()), "lr": 0.01})

    fit(
        model, nn.CrossEntropyLoss(), optimizer, make_data(), 2, 5, rng=0, progress=False, callbacks=add,
        schedule=lambda done: 0.5,
    )  # fmt: skip
    assert seen == [[0.05], [0.05, 0.005]]
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.01]


def test_training_that_is_saved_and_taken_up_again_gives_the_same_bits(tmp_path):
    data, loss = make_data(), nn.CrossEntropyLoss()

    def made():
        model = make_network()
        optimizer = Adam(model.parameters(), 0.05, amsgrad=True)
        first, second = lr_scheduler.LinearLR(optimizer, 0.5, total_iters=2), lr_scheduler.StepLR(optimizer, 1, 0.5)
        return model, optimizer, lr_scheduler.SequentialLR(optimizer, [first, second], [2])

    def train(parts, epochs, rng):
        model, optimizer, schedule = parts
        fit(model, loss, optimizer, data, epochs, 3, rng=rng, progress=False, callbacks=lambda m, h: schedule.step())

    whole, half, again = made(), made(), made()
    train(whole, 5, np.random.default_rng(7))
    rng = np.random.default_rng(7)
    train(half, 3, rng)
    for part, name in zip(half, ("model", "optimizer", "schedule"), strict=True):
        cyconv.save(tmp_path / name, part)
    for part, name in zip(again, ("model", "optimizer", "schedule"), strict=True):
        part.load_state_dict(cyconv.load(tmp_path / name))
    train(again, 2, rng)
    for one, other in zip(whole, again, strict=True):
        state = other.state_dict()
        for name, value in one.state_dict().items():
            np.testing.assert_array_equal(state[name], value)
