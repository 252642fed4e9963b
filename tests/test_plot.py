"""Pictures: what is drawn, not how it looks."""

import io
import subprocess
import sys
import warnings

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from cyconv.plot import confusion_matrix, feature_maps, filters, learning_curves, mistakes, training_report
from cyconv.training import History

RNG = np.random.default_rng(0)


def history(epochs=3, validation=True):
    falling = [2.0 / (1 + i) for i in range(epochs)]
    rising = [0.5 + 0.1 * i for i in range(epochs)]
    return History(
        loss=falling,
        accuracy=rising,
        validation_loss=falling if validation else [],
        validation_accuracy=rising if validation else [],
        images_per_second=[1e3] * epochs,
        learning_rate=[0.1] * epochs,
        step_loss=list(np.repeat(falling, 4)) or [2.3, 2.2],
        steps_per_epoch=4,
    )


def drawn(figure):
    """Render; a layout that does not work out is a warning, and a warning an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        png = io.BytesIO()
        figure.savefig(png, format="png", dpi=40)
    assert png.getvalue().startswith(b"\x89PNG")
    return figure


def visible(figure):
    return [ax for ax in figure.axes if ax.get_visible()]


def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_learning_curves_show_steps_means_and_validation():
    loss, accuracy = drawn(learning_curves(history())).axes
    steps, train, held_out = loss.lines
    np.testing.assert_allclose(steps.get_xdata(), np.arange(1, 13) / 4)
    np.testing.assert_allclose(train.get_xydata(), [[1, 2], [2, 1], [3, 2 / 3]])
    np.testing.assert_allclose(held_out.get_ydata(), train.get_ydata())
    np.testing.assert_allclose(accuracy.lines[0].get_ydata(), [50, 60, 70])
    assert [text.get_text() for text in loss.get_legend().get_texts()] == ["each step", "training", "held out"]


def test_the_accuracy_axis_shows_all_epochs_of_few_and_all_but_the_first_of_many():
    assert learning_curves(history(3)).axes[1].get_ylim()[0] < 50
    assert 50 < learning_curves(history(5)).axes[1].get_ylim()[0] < 60


def test_learning_curves_without_validation_accuracy_or_a_whole_epoch():
    assert len(drawn(learning_curves(history(validation=False))).axes[0].lines) == 2
    regression = history()
    regression.accuracy = regression.validation_accuracy = [float("nan")] * 3
    assert len(drawn(learning_curves(regression)).axes) == 1
    (loss,) = drawn(learning_curves(history(0))).axes
    np.testing.assert_allclose(loss.lines[0].get_xdata(), [0.25, 0.5])
    with pytest.raises(ValueError, match="no steps"):
        learning_curves(History())


def test_filters_share_a_scale_around_zero():
    weight = RNG.standard_normal((6, 1, 5, 5)).astype(np.float32)
    figure = drawn(filters(weight, columns=4))
    tiles = [ax for ax in visible(figure) if ax.get_title().isdigit()]
    assert [ax.get_title() for ax in tiles] == list("123456")
    for ax, kernel in zip(tiles, weight, strict=True):
        (image,) = ax.images
        np.testing.assert_array_equal(image.get_array(), kernel[0])
        assert image.get_clim() == (-abs(weight).max(), abs(weight).max())


def test_filters_of_colours_and_of_zeros():
    weight = RNG.standard_normal((4, 3, 7, 7))
    image = visible(drawn(filters(weight)))[2].images[0].get_array()
    assert image.shape == (7, 7, 3)
    assert image.min() >= 0
    assert image.max() <= 1
    np.testing.assert_allclose(image, 0.5 + weight[2].transpose(1, 2, 0) / (2 * abs(weight).max()))
    drawn(filters(np.zeros((2, 1, 3, 3))))
    with pytest.raises(ValueError, match=r"\(K, C, R, S\), got \(3, 3\)"):
        filters(np.zeros((3, 3)))


def test_feature_maps_share_a_scale():
    maps = RNG.random((5, 8, 9))
    tiles = visible(drawn(feature_maps(maps, columns=3)))
    assert len(tiles) == 5
    for ax, plane in zip(tiles, maps, strict=True):
        np.testing.assert_array_equal(ax.images[0].get_array(), plane)
        assert ax.images[0].get_clim() == (maps.min(), maps.max())
    with pytest.raises(ValueError, match=r"\(K, P, Q\), got \(1, 5, 8, 9\)"):
        feature_maps(maps[np.newaxis])


def test_confusion_matrix_counts():
    labels, predictions = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 2, 1, 0, 2])
    (ax,) = drawn(confusion_matrix(labels, predictions)).axes
    cells = {text.get_position(): text.get_text() for text in ax.texts}
    # (column, row): what it was read as, what it is.
    assert cells == {(0, 0): "2", (2, 0): "1", (0, 1): "1", (1, 1): "1", (2, 2): "1"}
    assert ax.get_title() == "Confusion: 4 of 6 right"
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0", "1", "2"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("read as", "is a")


def test_confusion_matrix_names_and_classes_that_do_not_occur():
    (ax,) = drawn(confusion_matrix([1, 1], [1, 1], names=["cat", "dog", "owl"])).axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["cat", "dog", "owl"]
    assert texts(ax) == ["2"]


@pytest.mark.parametrize(("labels", "predictions"), [([0, 1], [0]), ([], []), ([[0]], [[0]])])
def test_confusion_matrix_refuses(labels, predictions):
    with pytest.raises(ValueError, match=r"one shape \(N,\), N ≥ 1"):
        confusion_matrix(np.array(labels, int), np.array(predictions, int))


@pytest.mark.parametrize(
    ("labels", "predictions", "names", "message"),
    [
        ([0, -100], [0, 1], None, "classes must be from 0 to 1, got some from -100 to 1"),
        ([0, 5], [0, 1], ["a", "b"], "classes must be from 0 to 1, got some from 0 to 5"),
        ([0, 10**9], [0, 1], None, "classes must be from 0 to 4095, got some from 0 to 1000000000"),
        ([0.0, 1.0], [0, 1], None, "must be integers, got float64 and int64"),
    ],
)
def test_confusion_matrix_refuses_what_are_no_classes(labels, predictions, names, message):
    """A target that is ignored would have counted for the last class, a huge one would take all memory."""
    with pytest.raises(ValueError, match=f"^confusion_matrix: .*{message}$"):
        confusion_matrix(labels, predictions, names=names)


def test_nothing_to_draw():
    with pytest.raises(ValueError, match=r"filters: weight must have the shape .*, got \(0, 1, 3, 3\)"):
        filters(np.ones((0, 1, 3, 3)))
    with pytest.raises(ValueError, match=r"feature_maps: maps must have the shape .*, got \(0, 3, 3\)"):
        feature_maps(np.ones((0, 3, 3)))
    with pytest.raises(
        ValueError, match="mistakes: images, labels and predictions must have one length, got 3, 3 and 2"
    ):
        mistakes(np.ones((3, 8, 8)), [0, 1, 2], [0, 0])


def test_mistakes_show_the_wrong_ones_only():
    images = RNG.random((6, 1, 4, 4))
    figure = drawn(mistakes(images, np.arange(6), np.array([0, 9, 2, 8, 4, 7]), count=2))
    tiles = visible(figure)
    assert [ax.get_title() for ax in tiles] == ["1, read 9", "3, read 8"]
    np.testing.assert_array_equal(tiles[1].images[0].get_array(), images[3, 0])
    figure = drawn(mistakes(images, np.arange(6), np.arange(6)))
    assert not figure.axes
    assert texts(figure) == ["no mistakes"]


@pytest.mark.parametrize(("epochs", "wrong"), [(0, 0), (1, 30), (15, 1)])
def test_training_report_has_every_part(epochs, wrong):
    labels = np.arange(60) % 10
    read = labels.copy()
    read[:wrong] = (read[:wrong] + 1) % 10
    figure = training_report(
        history(epochs),
        RNG.standard_normal((6, 1, 5, 5)),
        RNG.random((28, 28)),
        [("first", RNG.random((6, 28, 28))), ("second", RNG.random((16, 10, 10)))],
        (RNG.random((60, 1, 28, 28)), labels, read),
        title="a page",
    )
    drawn(figure)
    titles = [ax.get_title() for ax in visible(figure)]
    assert f"Confusion: {60 - wrong} of 60 right" in titles
    assert "Loss: how wrong, and how sure of it" in titles
    assert sum(", read " in title for title in titles) == min(wrong, 9)
    assert sum(title.isdigit() for title in titles) == 6 + 6 + 16


def test_no_window_and_no_import_before_the_first_picture():
    code = (
        "import sys, numpy, cyconv.plot; assert 'matplotlib' not in sys.modules; "
        "cyconv.plot.feature_maps(numpy.ones((2, 3, 3))); "
        "assert 'matplotlib' in sys.modules and 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_missing_matplotlib_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'pip install "cyconv\[plot\]"'):
        feature_maps(np.ones((1, 2, 2)))


@pytest.mark.parametrize(("columns", "error"), [(0, ValueError), (-1, ValueError), (2.5, TypeError), ("x", TypeError)])
def test_columns_are_a_positive_int(columns, error):
    with pytest.raises(error, match="plot: columns must be"):
        filters(np.ones((2, 1, 3, 3)), columns=columns)
