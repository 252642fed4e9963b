"""The training loop: batches, steps, progress, and a Ctrl-C that leaves whole weights behind."""

from __future__ import annotations

import math
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType, TracebackType
from typing import Any, NamedTuple, Protocol

import numpy as np

from cyconv._geometry import integer
from cyconv.data import Array, Pair, batches
from cyconv.functional._arrays import generator
from cyconv.nn.module import Module

__all__ = ["History", "Score", "cosine", "evaluate", "fit", "predict"]


class Steps(Protocol):
    """What the loop needs of an optimiser."""

    lr: float

    def zero_grad(self) -> None:
        """Forget the gradients."""

    def step(self) -> None:
        """Update the parameters."""


class Score(NamedTuple):
    """Mean loss, and the share of right answers from 0 to 1 (nan if the targets are no classes)."""

    loss: float
    accuracy: float


@dataclass
class History:
    """
    What happened during :func:`fit`: one entry per completed epoch in each list.

    Attributes
    ----------
    loss, accuracy : list of float
        Means over the epoch's training batches, each as the model was when it met the batch. The accuracy is nan if
        the targets are no classes.
    validation_loss, validation_accuracy : list of float
        After the epoch, on the validation data; empty if there was none.
    images_per_second : list of float
        Training only, without validation and callbacks.
    learning_rate : list of float
        Of the epoch's last step.
    step_loss : list of float
        The loss of every single step, those of an unfinished epoch included.
    steps_per_epoch : int
        Batches in a whole epoch.
    interrupted : bool
        True if Ctrl-C ended the training.
    """

    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    validation_accuracy: list[float] = field(default_factory=list)
    images_per_second: list[float] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    step_loss: list[float] = field(default_factory=list)
    steps_per_epoch: int = 0
    interrupted: bool = False

    @property
    def epochs(self) -> int:
        """Number of completed epochs."""
        return len(self.loss)


def cosine(done: float) -> float:
    """
    Return the factor of a learning rate that falls from 1 to 0 along half a cosine.

    Parameters
    ----------
    done : float
        The share of all steps that are done, from 0 to 1.
    """
    return 0.5 * (1 + math.cos(math.pi * done))


# ------------------------------------------------------------------------------------------------ training


def fit(
    model: Module,
    loss: Any,
    optimizer: Steps,
    train: Pair,
    epochs: int,
    batch_size: int = 64,
    validation: Pair | None = None,
    rng: Any = None,
    progress: bool | str = True,
    callbacks: Iterable[Callable[[Module, History], Any]] = (),
    *,
    augment: Callable[[Array, np.random.Generator], Array] | None = None,
    schedule: Callable[[float], float] | None = None,
) -> History:
    """
    Train a model on arrays.

    The first Ctrl-C lets the step that is running finish, so that all weights belong to the same step, and returns
    with ``history.interrupted`` set; a second one raises KeyboardInterrupt at once. (This needs the main thread and
    Python's own handler of the signal. Otherwise the signal is left to whoever handles it.)

    Parameters
    ----------
    model : Module
        Is left in training mode.
    loss : Module
        ``loss(output, target)``, reduced to one number by mean or sum.
    optimizer : Optimizer
        Made with the model's parameters.
    train : (x, y)
        Examples and targets along the first axis.
    epochs, batch_size : int
        Passes over the data, and examples per step; the last batch of an epoch takes what is left.
    validation : (x, y), optional
        Evaluated after each epoch.
    rng : numpy.random.Generator, int or None
        Source of the order of the examples, and of `augment`.
    progress : bool or {"bar", "lines"}
        "bar" draws a progress bar per epoch (needs tqdm), "lines" writes a line per epoch, both to standard error.
        True chooses the bar on a terminal with tqdm, the lines elsewhere.
    callbacks : iterable of callable
        After each epoch ``callback(model, history)``; a true answer ends the training. A checkpoint, for example:
        ``lambda model, history: cyconv.save("latest.npz", model)``.
    augment : callable, optional
        ``augment(x_batch, rng)`` returns the images to train on, as :func:`cyconv.data.random_shift` does.
    schedule : callable, optional
        Before each step the learning rate is set to the one at the start times ``schedule(share of steps done)``,
        as with :func:`cosine`. At the end the rate of the start is restored.

    Returns
    -------
    History

    Raises
    ------
    FloatingPointError
        If the loss is no finite number; weights and running statistics are those before that step.
    ValueError
        If lengths differ, there are no examples, a number is out of range, or the optimiser has no parameter of the
        model.
    TypeError
        If an argument is not of its kind.
    ImportError
        If ``progress="bar"`` and tqdm is missing.
    """
    callbacks = _callbacks(callbacks)
    _check_parts(model, loss, optimizer, augment, schedule)
    x, y = _check_data("fit", "train", train)
    validation = None if validation is None else _check_data("fit", "validation", validation)
    epochs, batch_size = integer("fit", "epochs", epochs, 0), integer("fit", "batch_size", batch_size, 1)
    weigh = _weigh("fit", loss)
    rng = generator("fit", rng)
    show = _progress(progress, epochs, len(x))
    history = History(steps_per_epoch=math.ceil(len(x) / batch_size))
    steps = epochs * history.steps_per_epoch
    start_rates = _rates(optimizer)
    try:
        with _CtrlC() as ctrl_c:
            for epoch in range(epochs):
                model.train()
                loss.train()
                show.begin(epoch)
                meter = _Meter()
                buffers = [buffer for module in model.modules() for _, buffer in module._own_buffers()]
                for x_batch, y_batch in batches(x, y, batch_size, rng):
                    if schedule is not None:
                        factor = _factor(schedule, len(history.step_loss) / steps)
                        _set_rates(optimizer, start_rates, factor)
                    if augment is not None:
                        x_batch = augment(x_batch, rng)
                    output, value = _step(model, loss, optimizer, x_batch, y_batch, history, buffers)
                    meter.add(weigh(value, y_batch), output, y_batch, loss)
                    show.advance(len(x_batch), meter)
                    if ctrl_c.pressed:
                        break
                if meter.seen < len(x):
                    break
                _close_epoch(model, loss, optimizer, validation, meter, history)
                show.end(meter, history)
                stop = [callback(model, history) for callback in callbacks]
                if ctrl_c.pressed or any(stop):
                    break
            history.interrupted = ctrl_c.pressed
    finally:
        show.close()
        if schedule is not None:
            _set_rates(optimizer, start_rates)
    return history


def _check_parts(model: Any, loss: Any, optimizer: Any, augment: Any, schedule: Any) -> None:
    """Raise TypeError for what is not of its kind, ValueError for an optimiser of something else."""
    _check_modules("fit", model=model, loss=loss)
    if not all(hasattr(optimizer, name) for name in ("lr", "zero_grad", "step")):
        raise TypeError(f"fit: optimizer must be an Optimizer, got {type(optimizer).__name__}")
    for name, part in (("augment", augment), ("schedule", schedule)):
        if part is not None and not callable(part):
            raise TypeError(f"fit: {name} must be a function, got {type(part).__name__}")
    mine = {id(parameter) for parameter in (*model.parameters(), *loss.parameters())}
    if mine and hasattr(optimizer, "params") and mine.isdisjoint(map(id, optimizer.params)):
        raise ValueError("fit: optimizer has no parameter of the model, so nothing would be learned")


def _check_modules(owner: str, **parts: Any) -> None:
    for name, part in parts.items():
        if not isinstance(part, Module):
            raise TypeError(f"{owner}: {name} must be a Module, got {type(part).__name__}")


def _callbacks(given: Any) -> tuple[Callable[[Module, History], Any], ...]:
    """Return the callbacks; TypeError for what cannot be called, which would be found only after an epoch."""
    found = (given,) if callable(given) else tuple(given) if isinstance(given, Iterable) else (given,)
    for position, one in enumerate(found):
        if not callable(one):
            raise TypeError(f"fit: callbacks[{position}] must be a function, got {one!r}")
    return found


def _factor(schedule: Callable[[float], float], done: float) -> float:
    """Return the factor of the learning rate; ValueError if it would spoil the weights."""
    factor = schedule(done)
    if not isinstance(factor, (int, float, np.number)) or not 0 <= factor < math.inf:
        raise ValueError(f"fit: schedule must return a number of at least 0, got {factor!r} for {done:.3f}")
    return factor


def _rates(optimizer: Steps) -> list[tuple[Any, float]]:
    """Return each group and its learning rate; of an optimiser without groups its one."""
    groups = getattr(optimizer, "param_groups", None)
    return [(None, optimizer.lr)] if groups is None else [(group, group["lr"]) for group in groups]


def _set_rates(optimizer: Steps, start: list[tuple[Any, float]], factor: float = 1.0) -> None:
    """Set each rate to a factor of what it was at the start; groups that callbacks have added start with theirs."""
    known = {id(group) for group, _ in start}
    start += [(group, rate) for group, rate in _rates(optimizer) if id(group) not in known]
    for group, rate in start:
        if group is None:
            optimizer.lr = rate * factor
        else:
            group["lr"] = rate * factor


def _step(
    model: Module, loss: Any, optimizer: Steps, x: Array, y: Array, history: History, buffers: list[Array]
) -> tuple[Any, float]:
    """Run one step of gradient descent; return the output before it, and the loss."""
    before = [buffer.copy() for buffer in buffers]
    optimizer.zero_grad()
    output = model(x)
    value = float(loss(output, y))
    if not math.isfinite(value):
        for buffer, was in zip(buffers, before, strict=True):
            buffer[...] = was
        raise FloatingPointError(
            f"fit: the loss became {value} in step {len(history.step_loss) + 1}; "
            "if the input is finite and not every target is ignored, a smaller learning rate usually helps"
        )
    # The gradient with respect to the images themselves is of no use, and it would be the largest array of all.
    model.backward(loss.backward(), input_grad=False)
    optimizer.step()
    history.step_loss.append(value)
    return output, value


def _close_epoch(
    model: Module, loss: Any, optimizer: Steps, validation: Pair | None, meter: _Meter, history: History
) -> None:
    history.loss.append(meter.loss)
    history.accuracy.append(meter.accuracy)
    history.images_per_second.append(meter.images_per_second)
    history.learning_rate.append(float(optimizer.lr))
    if validation is not None:
        score = evaluate(model, loss, validation)
        history.validation_loss.append(score.loss)
        history.validation_accuracy.append(score.accuracy)


# ------------------------------------------------------------------------------------------------ evaluation


def evaluate(model: Module, loss: Any, data: Pair, batch_size: int = 256) -> Score:
    """
    Return mean loss and accuracy of a model, in eval mode.

    Parameters
    ----------
    model : Module
        Is put back into the mode that it was in, as is the loss.
    loss : Module
        ``loss(output, target)``, reduced to one number by mean or sum.
    data : (x, y)
        Examples and targets along the first axis.
    batch_size : int
        How many examples go through the model at once.

    Returns
    -------
    Score

    Raises
    ------
    ValueError
        If lengths differ or there are no examples.
    """
    _check_modules("evaluate", model=model, loss=loss)
    batch_size = integer("evaluate", "batch_size", batch_size, 1)
    x, y = _check_data("evaluate", "data", data)
    weigh = _weigh("evaluate", loss)
    meter = _Meter()
    with _eval_mode(model, loss):
        for x_batch, y_batch in batches(x, y, batch_size):
            output = model(x_batch)
            meter.add(weigh(float(loss(output, y_batch)), y_batch), output, y_batch, loss)
    return Score(meter.loss, meter.accuracy)


def predict(model: Module, x: Array, batch_size: int = 256) -> Any:
    """
    Return the outputs of a model for many examples, in eval mode.

    Parameters
    ----------
    model : Module
        Is put back into the mode that it was in.
    x : ndarray
        Examples along the first axis.
    batch_size : int
        How many examples go through the model at once.

    Returns
    -------
    ndarray, or tuple of those
        One output per example; ``predict(model, x).argmax(1)`` gives classes. Of a graph with several outputs a tuple.

    Raises
    ------
    ValueError
        If `batch_size` is not positive.
    TypeError
        If `x` is no array, or `batch_size` no int.
    """
    _check_modules("predict", model=model)
    batch_size = integer("predict", "batch_size", batch_size, 1)
    if not getattr(x, "shape", ()):
        raise TypeError(f"predict: x must be an array, got {type(x).__name__}")
    with _eval_mode(model):
        # With no examples at all, the model still knows the shape of an answer.
        outputs = [model(x_batch) for x_batch, _ in batches(x, x, batch_size)] or [model(x)]
    if len(outputs) == 1:
        return outputs[0]
    if isinstance(outputs[0], tuple):
        return tuple(np.concatenate(parts) for parts in zip(*outputs, strict=True))
    return np.concatenate(outputs)


@contextmanager
def _eval_mode(*models: Module) -> Iterator[None]:
    modes = [(module, module.training) for model in models for module in model.modules()]
    try:
        for model in models:
            model.eval()
        yield
    finally:
        # Parents come before their children, so that a layer frozen in eval mode has the last word.
        for module, mode in modes:
            if module.training != mode:
                module.train(mode)


def _check_data(owner: str, name: str, data: Pair) -> Pair:
    try:
        x, y = data
    except (TypeError, ValueError) as error:
        raise TypeError(f"{owner}: {name} must be a pair (x, y) of arrays, got {type(data).__name__}") from error
    for part in (x, y):
        if not hasattr(part, "dtype") or not getattr(part, "shape", ()):
            raise TypeError(f"{owner}: {name} must be a pair (x, y) of arrays, got {type(part).__name__} in it")
    if len(x) != len(y):
        raise ValueError(f"{owner}: {name} must have as many examples as targets, got {len(x)} and {len(y)}")
    if len(x) == 0:
        raise ValueError(f"{owner}: {name} holds no examples")
    return x, y


def _weigh(owner: str, loss: Any) -> Callable[[float, Array], tuple[float, float]]:
    """Return what makes of the loss of a batch and its targets the sum over them, and by what to divide sums."""
    reduction = getattr(loss, "reduction", "mean")
    if reduction == "none":
        raise ValueError(f"{owner}: loss must be one number, but with reduction='none' there is one per element")
    if reduction == "sum":
        return lambda value, target: (value, len(target))

    def mean(value: float, target: Array) -> tuple[float, float]:
        count = _asked(loss, target)
        return (value * count, count) if count else (0.0, 0.0)

    return mean


def _asked(loss: Any, target: Array) -> float:
    """Return how many targets the mean of a batch is over: some losses leave out classes or give them weights."""
    if not hasattr(loss, "ignore_index") or not np.issubdtype(target.dtype, np.integer):
        return len(target)
    asked = target[target != loss.ignore_index]
    return float(asked.size if loss.weight is None else loss.weight[asked].sum())


class _Meter:
    """Running means of an epoch."""

    def __init__(self) -> None:
        self.seen = 0  # examples
        self._loss = 0.0
        self._weight = 0.0
        self._right = 0
        self._asked = 0  # targets; more than examples where each pixel has one
        self._start = time.perf_counter()
        self._seconds = 0.0

    def add(self, weighed: tuple[float, float], output: Array, target: Array, loss: Any) -> None:
        self._loss += weighed[0]
        self._weight += weighed[1]
        self.seen += len(target)
        if np.issubdtype(target.dtype, np.integer) and output.ndim == target.ndim + 1:
            self._right += int((output.argmax(1) == target).sum())
            # A target to be ignored is no class, so that it never counts as right.
            self._asked += target.size - int((target == getattr(loss, "ignore_index", -100)).sum())
        self._seconds = time.perf_counter() - self._start

    @property
    def loss(self) -> float:
        return self._loss / self._weight if self._weight else math.nan

    @property
    def accuracy(self) -> float:
        return self._right / self._asked if self._asked else math.nan

    @property
    def images_per_second(self) -> float:
        return self.seen / max(self._seconds, 1e-9)

    def __str__(self) -> str:
        accuracy = "" if math.isnan(self.accuracy) else f"accuracy {self.accuracy:.1%}, "
        return f"loss {self.loss:.4f}, {accuracy}{self.images_per_second:,.0f} images/s"


# ------------------------------------------------------------------------------------------------ Ctrl-C


class _CtrlC:
    """Turn the first Ctrl-C into a flag; an exception in the middle of a step would leave half of it done."""

    def __init__(self) -> None:
        self.pressed = False
        # Only Python's own handler is replaced: a program that has its own keeps it.
        self._mine = (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        )

    def __enter__(self) -> _CtrlC:
        if self._mine:
            signal.signal(signal.SIGINT, self._press)
        return self

    def _press(self, number: int, frame: FrameType | None) -> None:
        if self.pressed:
            signal.default_int_handler(number, frame)
        self.pressed = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._mine:
            signal.signal(signal.SIGINT, signal.default_int_handler)


# ------------------------------------------------------------------------------------------------ progress


def _progress(progress: bool | str, epochs: int, examples: int) -> _Silent:
    """Return what shows the progress."""
    if isinstance(progress, np.bool_):
        progress = bool(progress)
    if not (isinstance(progress, bool) or (isinstance(progress, str) and progress in ("bar", "lines"))):
        raise ValueError(f"fit: progress must be True, False, 'bar' or 'lines', got {progress!r}")
    if progress is False:
        return _Silent()
    if progress == "lines" or (progress is True and not sys.stderr.isatty()):
        return _Lines(epochs)
    try:
        from tqdm import tqdm
    except ImportError as error:
        if progress == "bar":
            raise ImportError('fit: a progress bar needs tqdm: pip install "cyconv[progress]"') from error
        return _Lines(epochs)
    return _Bar(tqdm, epochs, examples)


class _Silent:
    """Show nothing."""

    def begin(self, epoch: int) -> None:
        pass

    def advance(self, count: int, meter: _Meter) -> None:
        pass

    def end(self, meter: _Meter, history: History) -> None:
        pass

    def close(self) -> None:
        pass


def _held_out(history: History) -> str:
    if not history.validation_loss:
        return ""
    accuracy = history.validation_accuracy[-1]
    return f", held out {history.validation_loss[-1]:.4f}" if math.isnan(accuracy) else f", held out {accuracy:.1%}"


class _Lines(_Silent):
    """Write a line after each epoch: nothing that a log file or a pipe would garble."""

    def __init__(self, epochs: int) -> None:
        self._epochs = epochs
        self._title = ""

    def begin(self, epoch: int) -> None:
        self._title = f"epoch {epoch + 1:{len(str(self._epochs))}}/{self._epochs}"

    def end(self, meter: _Meter, history: History) -> None:
        print(f"{self._title}: {meter}{_held_out(history)}", file=sys.stderr, flush=True)


class _Bar(_Lines):
    """Draw a bar per epoch, which stays when it is full."""

    def __init__(self, tqdm: Any, epochs: int, examples: int) -> None:
        super().__init__(epochs)
        self._tqdm = tqdm
        self._examples = examples
        self._bar: Any = None

    def begin(self, epoch: int) -> None:
        super().begin(epoch)
        # The standard library has a size for terminals that say they have none (0 × 0), on which tqdm shows nothing.
        columns, lines = shutil.get_terminal_size()
        self._bar = self._tqdm(
            total=self._examples,
            desc=self._title,
            bar_format="{desc} |{bar}|{postfix}",  # tqdm itself puts a comma before the postfix
            ncols=min(columns, 100),
            nrows=lines,
        )

    def advance(self, count: int, meter: _Meter) -> None:
        self._bar.set_postfix_str(str(meter), refresh=False)
        self._bar.update(count)

    def end(self, meter: _Meter, history: History) -> None:
        self._bar.set_postfix_str(f"{meter}{_held_out(history)}", refresh=True)
        self.close()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
