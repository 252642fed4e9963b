"""
Pictures of a training: learning curves, learned filters, feature maps, confusion matrix, and all of them in one.

Each function draws into ``figure`` (a matplotlib Figure or SubFigure) or makes one, and returns it: save it with
``figure.savefig(path)``. pyplot is not touched, so no window opens and no display is needed. matplotlib is imported
when the first picture is drawn.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cyconv._geometry import integer

Array = NDArray[Any]

__all__ = ["confusion_matrix", "feature_maps", "filters", "learning_curves", "mistakes", "training_report"]

_TRAIN, _HELD_OUT = "#4477aa", "#cc3311"  # apart for colour-blind eyes and in grey print
# More classes than a page has pixels for; their counts would fill the memory.
_MOST_CLASSES = 4096


def _figure(figure: Any, width: float, height: float) -> Any:
    if figure is not None:
        return figure
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('a picture needs matplotlib: pip install "cyconv[plot]"') from error
    return Figure(figsize=(width, height), layout="constrained")


def _grid(count: int, columns: int | None) -> tuple[int, int]:
    """Return rows and columns for so many tiles; about twice as wide as high when nobody says."""
    if columns is None:
        # As few columns as these rows allow: six tiles are 3 + 3 and not 4 + 2.
        columns = math.ceil(count / math.ceil(count / math.ceil(math.sqrt(2 * count))))
    columns = min(count, integer("plot", "columns", columns, 1))
    return math.ceil(count / columns), columns


def _tiles(figure: Any, count: int, columns: int | None) -> list[Any]:
    """Return one bare Axes per tile."""
    axes = list(figure.subplots(*_grid(count, columns), squeeze=False).flat)
    for ax in axes:
        ax.set_xticks([])
        ax.set_yticks([])
        for side in ax.spines.values():
            side.set_visible(False)
    for ax in axes[count:]:
        ax.set_visible(False)
    return axes[:count]


# ------------------------------------------------------------------------------------------------ learning


def learning_curves(history: Any, figure: Any = None) -> Any:
    """
    Draw loss and accuracy over the epochs.

    Parameters
    ----------
    history : History
        As :func:`cyconv.training.fit` returns it.
    figure : matplotlib Figure or SubFigure, optional
        Where to draw.

    Returns
    -------
    Figure
        Left the loss on a logarithmic scale: each step faint, each epoch's mean, and the validation. Right the
        accuracy, if the targets were classes.

    Raises
    ------
    ValueError
        If no step was made.
    """
    if not history.step_loss:
        raise ValueError("learning_curves: the history holds no steps")
    figure = _figure(figure, 9, 3.6)
    with_accuracy = any(not math.isnan(value) for value in history.accuracy)
    loss, *rest = figure.subplots(1, 1 + with_accuracy, squeeze=False)[0]
    steps, epochs = np.asarray(history.step_loss), np.arange(1, history.epochs + 1)
    time = np.arange(1, len(steps) + 1) / history.steps_per_epoch
    loss.plot(time, steps, color=_TRAIN, alpha=0.25, linewidth=0.6, label="each step")
    _curve(loss, epochs, history.loss, history.validation_loss)
    # A few lucky batches reach almost 0; the axis belongs to the means.
    floor = 0.5 * min([*history.loss, *history.validation_loss, steps.mean()])
    loss.set_yscale("log")
    if floor > 0:
        loss.set_ylim(bottom=floor)
    loss.set(title="Loss: how wrong, and how sure of it", xlabel="epoch", ylabel="mean loss per image")
    long = history.epochs > 3
    loss.legend(frameon=False, loc="upper right" if long else "best")
    for ax in rest:
        _curve(ax, epochs, [100 * a for a in history.accuracy], [100 * a for a in history.validation_accuracy])
        # The last few per cent are what the epochs are about: of many, the first one may leave at the bottom.
        shown = 100 * np.array([*history.accuracy[long:], *history.validation_accuracy[long:]])
        margin = 0.05 * (shown.max() - shown.min()) + 0.5
        ax.set_ylim(shown.min() - margin, min(shown.max() + margin, 100.5))
        ax.set(title="Accuracy: the share it reads right", xlabel="epoch", ylabel="per cent")
        ax.legend(frameon=False, loc="lower right" if long else "best")
    for ax in (loss, *rest):
        ax.set_xlim(0, 1.02 * time[-1])
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.grid(alpha=0.25, which="major")
        ax.spines[["top", "right"]].set_visible(False)
    return figure


def _curve(ax: Any, epochs: Array, train: list[float], held_out: list[float]) -> None:
    ax.plot(epochs, train, color=_TRAIN, marker="o", markersize=3, label="training")
    if held_out:
        ax.plot(epochs, held_out, color=_HELD_OUT, marker="s", markersize=3, label="held out")


# ------------------------------------------------------------------------------------------------ inside the network


def filters(weight: Array, figure: Any = None, *, columns: int | None = None) -> Any:
    """
    Draw the kernels of a first layer.

    Parameters
    ----------
    weight : ndarray, shape (K, C, R, S)
        Such as ``model[0].weight.data``. With C = 3 the kernels are drawn in colour, else the mean over C.
    figure : matplotlib Figure or SubFigure, optional
        Where to draw.
    columns : int, optional
        Tiles in a row.

    Returns
    -------
    Figure
        One tile per kernel, all on one scale: red adds to the output where the image is bright, blue takes away.

    Raises
    ------
    ValueError
        If `weight` has not four axes or is empty.
    """
    weight = np.asarray(weight)
    if weight.ndim != 4 or not weight.size:
        raise ValueError(f"filters: weight must have the shape (K, C, R, S), got {weight.shape}")
    rows, across = _grid(len(weight), columns)
    figure = _figure(figure, 1.2 * across + 1, 1.3 * rows)
    axes = _tiles(figure, len(weight), columns)
    top = float(abs(weight).max()) or 1.0
    if weight.shape[1] == 3:
        for ax, kernel in zip(axes, weight, strict=True):
            ax.imshow(0.5 + kernel.transpose(1, 2, 0) / (2 * top), interpolation="nearest")
    else:
        shades = [
            ax.imshow(kernel.mean(0), cmap="RdBu_r", vmin=-top, vmax=top, interpolation="nearest")
            for ax, kernel in zip(axes, weight, strict=True)
        ]
        bar = figure.colorbar(shades[0], ax=axes, shrink=0.8, aspect=14, pad=0.03)
        bar.outline.set_visible(False)
        bar.ax.tick_params(labelsize="x-small", length=2)
    for number, ax in enumerate(axes, 1):
        ax.set_title(str(number), fontsize="x-small", pad=2, color="0.4")
    return figure


def feature_maps(maps: Array, figure: Any = None, *, columns: int | None = None) -> Any:
    """
    Draw what a layer makes of one image.

    Parameters
    ----------
    maps : ndarray, shape (K, P, Q)
        The layer's output for one example, such as ``model[:2](x)[0]``.
    figure : matplotlib Figure or SubFigure, optional
        Where to draw.
    columns : int, optional
        Tiles in a row.

    Returns
    -------
    Figure
        One tile per channel, all on one scale, bright where the channel is large.

    Raises
    ------
    ValueError
        If `maps` has not three axes or is empty.
    """
    maps = np.asarray(maps)
    if maps.ndim != 3 or not maps.size:
        raise ValueError(f"feature_maps: maps must have the shape (K, P, Q), got {maps.shape}")
    rows, across = _grid(len(maps), columns)
    figure = _figure(figure, 1.2 * across, 1.3 * rows)
    low, high = float(maps.min()), float(maps.max())
    for number, (ax, plane) in enumerate(zip(_tiles(figure, len(maps), columns), maps, strict=True), 1):
        ax.imshow(plane, cmap="magma", vmin=low, vmax=high, interpolation="nearest")
        ax.set_title(str(number), fontsize="x-small", pad=2, color="0.4")
    return figure


# ------------------------------------------------------------------------------------------------ right and wrong


def confusion_matrix(labels: Array, predictions: Array, figure: Any = None, *, names: Any = None) -> Any:
    """
    Draw how often each class was taken for which.

    Parameters
    ----------
    labels, predictions : ndarray of integers, shape (N,)
        The true classes and those that the model gave, from 0.
    figure : matplotlib Figure or SubFigure, optional
        Where to draw.
    names : sequence of str, optional
        One name for each class; default are the numbers.

    Returns
    -------
    Figure
        A row for each true class and a column for each answer. Right answers are blue, mistakes orange, each on a
        scale of its own: next to a hundred right answers a single mistake would be invisible.

    Raises
    ------
    ValueError
        If the lengths differ, there is nothing to count, or what is given are no classes from 0, for which there are
        names.
    """
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    if labels.shape != predictions.shape or labels.ndim != 1 or not labels.size:
        raise ValueError(
            f"confusion_matrix: labels and predictions must have one shape (N,), N ≥ 1, got {labels.shape} and "
            f"{predictions.shape}"
        )
    if labels.dtype.kind not in "iu" or predictions.dtype.kind not in "iu":
        raise ValueError(
            f"confusion_matrix: labels and predictions must be integers, got {labels.dtype} and {predictions.dtype}"
        )
    low, high = int(min(labels.min(), predictions.min())), int(max(labels.max(), predictions.max()))
    classes = high + 1 if names is None else len(names)
    if low < 0 or high >= min(classes, _MOST_CLASSES):
        most = min(classes, _MOST_CLASSES) - 1
        raise ValueError(f"confusion_matrix: classes must be from 0 to {most}, got some from {low} to {high}")
    names = [str(label) for label in range(classes)] if names is None else names
    counts = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(counts, (labels, predictions), 1)

    figure = _figure(figure, 5, 5)
    ax = figure.subplots()
    right = np.eye(classes, dtype=bool)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    wrong = np.ma.masked_where(right | (counts == 0), counts)
    ax.imshow(np.ma.masked_where(~right, share), cmap="Blues", vmin=0, vmax=1.15)
    ax.imshow(wrong, cmap="Oranges", vmin=-0.5, vmax=max(int(wrong.max() or 0), 4) * 1.7)
    if classes <= 30:
        for row, column in np.argwhere(counts):
            ax.text(
                column,
                row,
                counts[row, column],
                ha="center",
                va="center",
                fontsize="small",
                color="white" if row == column and share[row, column] > 0.5 else "0.15",
            )
    ax.set_xticks(range(classes), names)
    ax.set_yticks(range(classes), names)
    ax.set_xticks(np.arange(1, classes) - 0.5, minor=True)
    ax.set_yticks(np.arange(1, classes) - 0.5, minor=True)
    ax.grid(which="minor", color="0.9", linewidth=0.6)
    ax.tick_params(which="both", length=0)
    ax.spines[:].set_color("0.7")
    hits = int(counts.trace())
    ax.set(xlabel="read as", ylabel="is a", title=f"Confusion: {hits:,} of {labels.size:,} right")
    return figure


def mistakes(
    images: Array, labels: Array, predictions: Array, figure: Any = None, *, count: int = 8, columns: int | None = None
) -> Any:
    """
    Draw examples that were taken for something else.

    Parameters
    ----------
    images : ndarray, shape (N, 1, H, W) or (N, H, W)
    labels, predictions : ndarray of integers, shape (N,)
    figure : matplotlib Figure or SubFigure, optional
        Where to draw.
    count : int
        At most so many; the first ones.
    columns : int, optional
        Tiles in a row.

    Returns
    -------
    Figure
        A tile per mistake with what it is and what it was read as; a line of text if there is none.

    Raises
    ------
    ValueError
        If the lengths differ.
    """
    images = np.asarray(images)
    if not len(images) == len(labels) == len(predictions):
        raise ValueError(
            f"mistakes: images, labels and predictions must have one length, got {len(images)}, {len(labels)} and "
            f"{len(predictions)}"
        )
    wrong = np.flatnonzero(np.asarray(labels) != np.asarray(predictions))[:count]
    rows, across = _grid(max(len(wrong), 1), columns)
    figure = _figure(figure, 1.2 * across, 1.5 * rows)
    if not len(wrong):
        figure.text(0.5, 0.5, "no mistakes", ha="center", va="center", color="0.4")
        return figure
    # As many tiles as asked for, so that few mistakes are not drawn larger than many.
    for ax, index in zip(_tiles(figure, max(count, len(wrong)), columns)[: len(wrong)], wrong, strict=True):
        ax.imshow(images[index].reshape(images.shape[-2:]), cmap="gray", interpolation="nearest")
        ax.set_title(f"{labels[index]}, read {predictions[index]}", fontsize="x-small", pad=2)
    return figure


# ------------------------------------------------------------------------------------------------ all in one


def training_report(
    history: Any,
    weight: Array,
    image: Array,
    maps: list[tuple[str, Array]],
    test: tuple[Array, Array, Array],
    *,
    title: str = "",
) -> Any:
    """
    Draw the story of a trained image classifier on one page.

    Parameters
    ----------
    history : History
        As :func:`cyconv.training.fit` returns it.
    weight : ndarray, shape (K, C, R, S)
        Kernels of the first layer.
    image : ndarray, shape (H, W)
        The example whose feature maps follow.
    maps : list of (str, ndarray of shape (K, P, Q))
        A title, and the feature maps of `image` after some layer; one or two entries.
    test : (images, labels, predictions)
        The held-out examples (N, 1, H, W), their classes and the model's answers, both (N,).
    title : str
        Heading of the page.

    Returns
    -------
    Figure
    """
    figure = _figure(None, 16, 10.2)
    figure.suptitle(title, fontsize="xx-large", fontweight="bold")
    figure.get_layout_engine().set(rect=(0.008, 0.008, 0.984, 0.984))
    top, bottom = figure.subfigures(2, 1, height_ratios=(1.12, 1), hspace=0.03)
    curves, confusion = top.subfigures(1, 2, width_ratios=(1.75, 1))
    learning_curves(history, curves)
    images, labels, predictions = test
    confusion_matrix(labels, predictions, confusion)

    kernels, found, wrong = bottom.subfigures(1, 3, width_ratios=(0.95, 2.2, 1), wspace=0.02)
    size = "×".join(map(str, weight.shape[2:]))
    _headline(
        kernels,
        f"What the first layer looks for: {len(weight)} filters {size}",
        "light counts for it where red, against it where blue",
    )
    filters(weight, kernels, columns=2)
    picture, *layers = found.subfigures(1, 1 + len(maps), width_ratios=(0.62, *(1 for _ in maps)))
    _headline(picture, "One digit …", "the input")
    (ax,) = _tiles(picture, 1, 1)
    ax.imshow(image, cmap="gray", interpolation="nearest")
    for part, (name, planes) in zip(layers, maps, strict=True):
        _headline(part, name, "bright: the filter found its pattern")
        feature_maps(planes, part, columns=max(2, math.isqrt(len(planes))))
    _headline(wrong, "What it gets wrong", "would you have known?")
    mistakes(images, labels, predictions, wrong, count=9, columns=3)
    return figure


def _headline(figure: Any, title: str, subtitle: str) -> None:
    figure.suptitle(f"{title}\n", fontsize="large")
    # The empty second line of the heading keeps this one's place in the layout.
    figure.text(0.5, 0.925, subtitle, ha="center", va="center", fontsize="small", color="0.4")
