"""
Blur, emboss and outline a photograph: three convolutions whose kernels nobody had to learn.

    pip install ".[examples]"
    python examples/image_kernels.py                   # the portrait of Grace Hopper that comes with matplotlib
    python examples/image_kernels.py --image FILE      # a picture of your own
    python examples/image_kernels.py --out FILE.png

A kernel is a small table of numbers. It slides over the picture; at each place the pixels under it are multiplied with
its numbers and added up, and that sum is the new pixel. Every number is checked against scipy.ndimage.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from scipy import ndimage

from cyconv.functional import conv2d


def gaussian(size: int = 9, sigma: float = 2.0) -> np.ndarray:
    """Return a bell of so many rows and columns whose sum is 1: each pixel becomes a mean of its neighbours."""
    bell = np.exp(-0.5 * ((np.arange(size) - size // 2) / sigma) ** 2)
    kernel = np.outer(bell, bell)
    return kernel / kernel.sum()


KERNELS = {
    "blur": gaussian(),
    # One corner minus the other: what is bright seems to stand out, lit from the upper left.
    "emboss": np.array([[-2, -1, 0], [-1, 0, 1], [0, 1, 2]]),
    # Eight times a pixel minus its eight neighbours: 0 wherever the picture is flat.
    "outline": np.array([[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]]),
}
TEACHES = {
    "blur": "a weighted mean of the neighbours\n(the dark rim: beyond the picture all is 0)",
    "emboss": "one corner minus the other, plus a half:\nslopes turn into light and shadow",
    "outline": "the centre minus its neighbours:\nnothing is left where the picture is flat",
}


def apply(kernel: np.ndarray, image: np.ndarray) -> np.ndarray:
    """
    Slide a kernel over a picture (H, W, C), each colour on its own, and return one of the same shape.

    The arrays in a network are (N, C, H, W). A transposed view is enough: the pixels stay where they are in memory.
    """
    channels = image.shape[2]
    x = image.transpose(2, 0, 1)[np.newaxis]
    weight = np.tile(kernel.astype(image.dtype), (channels, 1, 1, 1))
    # groups = channels: every colour has a kernel of its own, and colours do not mix.
    y = conv2d(x, weight, padding="same", groups=channels)
    return y[0].transpose(1, 2, 0)


def check(kernel: np.ndarray, image: np.ndarray, result: np.ndarray) -> float:
    """Return the largest difference from what SciPy computes in float64."""
    expected = ndimage.correlate(image.astype(np.float64), kernel[:, :, np.newaxis].astype(np.float64), mode="constant")
    return float(abs(result - expected).max())


def load(path: Path | None) -> np.ndarray:
    """Return a picture as float32 (H, W, C) from 0 to 1, C = 1 or 3."""
    from matplotlib import cbook, image

    pixels = image.imread(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False) if path is None else path)
    if pixels.dtype == np.uint8:
        pixels = pixels / 255
    pixels = pixels[:, :, np.newaxis] if pixels.ndim == 2 else pixels[:, :, :3]
    return np.ascontiguousarray(pixels, dtype=np.float32)


def shown(name: str, result: np.ndarray) -> np.ndarray:
    """Bring a result into 0 … 1 for the eye."""
    if name == "emboss":
        result = 0.5 + 0.5 * result.mean(axis=2, keepdims=True)
    if name == "outline":
        # Dark lines on white paper, over all colours.
        result = 1 - abs(result).mean(axis=2, keepdims=True)
    return np.clip(result, 0, 1)


def draw(image: np.ndarray, results: dict[str, np.ndarray]) -> object:
    """Draw the pictures in a row, and under each the kernel that made it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 8.4), layout="constrained")
    figure.suptitle("A convolution is a small table that slides over a picture", fontsize="xx-large", fontweight="bold")
    pictures, tables = figure.subplots(2, 1 + len(results), height_ratios=(2.1, 1))
    titles = [f"the picture: {' × '.join(map(str, image.shape))}", *results]
    for ax, title, pixels in zip(
        pictures, titles, [image, *(shown(name, result) for name, result in results.items())], strict=True
    ):
        ax.imshow(pixels, cmap="gray", vmin=0, vmax=1)
        ax.set_title(title, fontsize="x-large")
    for ax, name in zip(tables[1:], results, strict=True):
        kernel = KERNELS[name]
        top = abs(kernel).max()
        ax.imshow(kernel, cmap="RdBu_r", vmin=-1.4 * top, vmax=1.4 * top)
        for (row, column), number in np.ndenumerate(kernel):
            text = f"{number:d}" if kernel.dtype.kind == "i" else f"{1000 * number:.0f}"
            ax.text(column, row, text, ha="center", va="center", fontsize=16 if len(kernel) < 5 else 7)
        ax.set_title(f"{'×'.join(map(str, kernel.shape))}{'' if kernel.dtype.kind == 'i' else ', in thousandths'}")
        ax.set_xlabel(TEACHES[name], labelpad=8)
    tables[0].text(
        0.5,
        0.5,
        "Each kernel is laid over the picture;\npixel times number, summed up,\nis the new pixel. Then one step on.\n\n"
        "LeNet's kernels work the same way,\nbut it learns their numbers from examples.",
        ha="center",
        va="center",
        fontsize="large",
        color="0.25",
        transform=tables[0].transAxes,
    )
    for ax in (*pictures, *tables):
        ax.set_xticks([])
        ax.set_yticks([])
        ax.spines[:].set_visible(False)
    return figure


def main(argv: list[str] | None = None) -> int:
    """Run the example; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", type=Path, help="a picture to use instead of the portrait")
    parser.add_argument("--out", type=Path, default=Path("image-kernels.png"), help="file to write (%(default)s)")
    args = parser.parse_args(argv)
    try:
        image = load(args.image)
    except ModuleNotFoundError:
        print('image_kernels: the pictures need matplotlib: pip install "cyconv[examples]"', file=sys.stderr)
        return 1
    except (OSError, SyntaxError) as error:  # what Pillow raises for a file that is no PNG
        print(f"image_kernels: {args.image}: {error}", file=sys.stderr)
        return 1
    results = {}
    for name, kernel in KERNELS.items():
        results[name] = apply(kernel, image)
        difference = check(kernel, image, results[name])
        print(f"{name:8} {'×'.join(map(str, kernel.shape))}  differs from SciPy by {difference:.1e}")
    draw(image, results).savefig(args.out, dpi=110)
    print(f"picture: {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
