"""Files: what is saved is loaded, a file is whole or not there, and a bad one says so."""

import io
import os
import stat
import subprocess
import sys
import tempfile
import zipfile

import numpy as np
import pytest

import cyconv._serialization as serialization
from cyconv import nn, optim
from cyconv._serialization import load, save
from cyconv.models import LeNet5


def arrays():
    return {
        "0.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
        "0.bias": np.array([np.nan, np.inf, -0.0]),
        "counter": np.array(7),
        "empty": np.zeros((0, 5)),
        "channels last": np.arange(24.0).reshape(2, 3, 4).transpose(0, 2, 1),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "größe/π": np.array([True, False]),
    }


def assert_same(actual, expected):
    assert list(actual) == list(expected)
    for name, array in expected.items():
        assert actual[name].dtype == array.dtype
        assert actual[name].shape == array.shape
        np.testing.assert_array_equal(actual[name], array)


def test_a_dictionary_comes_back_in_order_with_dtypes_and_shapes(tmp_path):
    path = tmp_path / "state.npz"
    save(path, arrays())
    loaded = load(path)
    assert_same(loaded, arrays())
    assert all(array.flags.writeable for array in loaded.values())
    assert np.signbit(loaded["0.bias"][2])


@pytest.mark.parametrize("name", ["weights", "weights.npz", "weights.bin", ".weights", "a b.ü"])
@pytest.mark.parametrize("kind", [str, lambda path: path])
def test_the_path_is_taken_as_it_is(tmp_path, name, kind):
    save(kind(tmp_path / name), {"a": np.ones(2)})
    assert os.listdir(tmp_path) == [name]
    assert_same(load(kind(tmp_path / name)), {"a": np.ones(2)})


def test_a_relative_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save("here.npz", {"a": np.ones(2)})
    assert os.listdir(tmp_path) == ["here.npz"]
    assert_same(load("here.npz"), {"a": np.ones(2)})


def test_models_and_optimisers(tmp_path):
    model, other = LeNet5(rng=0), LeNet5(rng=1)
    save(tmp_path / "model.npz", model)
    other.load_state_dict(load(tmp_path / "model.npz"))
    assert_same(other.state_dict(), model.state_dict())
    parameter = nn.Parameter(np.ones(3))
    parameter.grad = np.ones(3)
    adam = optim.Adam([parameter])
    adam.step()
    save(tmp_path / "adam.npz", adam)
    again = optim.Adam([parameter], lr=5)
    again.load_state_dict(load(tmp_path / "adam.npz"))
    assert_same(again.state_dict(), adam.state_dict())


def test_numpy_reads_the_file_too(tmp_path):
    save(tmp_path / "state.npz", arrays())
    with np.load(tmp_path / "state.npz", allow_pickle=False) as file:
        assert file["__cyconv_format__"].tolist() == [1, 7]
        np.testing.assert_array_equal(file["0.weight"], arrays()["0.weight"])


def test_equal_states_make_equal_files(tmp_path):
    save(tmp_path / "a", arrays())
    save(tmp_path / "b", arrays())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


# ---------------------------------------------------------------------------------------------- whole or not at all


@pytest.mark.parametrize("failing", ["_write", "os.fsync", "os.replace"])
@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, failing, error):
    path = tmp_path / "state.npz"
    save(path, {"a": np.ones(2)})
    before = path.read_bytes()

    def fail(*args, **kwargs):
        if failing == "_write":
            args[0].write(b"half of it")
        raise error("disk full")

    with monkeypatch.context() as patch:
        if failing.startswith("os."):
            patch.setattr(os, failing[3:], fail)
        else:
            patch.setattr(serialization, failing, fail)
        with pytest.raises(error, match="disk full"):
            save(path, {"a": np.zeros(2)})
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["state.npz"]


def test_the_data_are_on_disk_before_the_name_is(tmp_path, monkeypatch):
    path = tmp_path / "state.npz"
    events = []
    fsync, replace = os.fsync, os.replace

    def note_fsync(descriptor):
        kind = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        events.append((kind, os.fstat(descriptor).st_size if kind == "file" else None))
        fsync(descriptor)

    def note_replace(source, target):
        assert os.path.dirname(source) == os.path.dirname(target)
        events.append(("replace", None))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_replace)
    save(path, arrays())
    expected = [("file", path.stat().st_size), ("replace", None)]
    assert events == ([*expected, ("folder", None)] if os.name == "posix" else expected)


@pytest.mark.skipif(os.name != "posix", reason="permissions and links of POSIX")
def test_permissions_follow_the_umask_and_links_stay_links(tmp_path):
    real, link = tmp_path / "real.npz", tmp_path / "link.npz"
    old = os.umask(0o027)
    try:
        save(real, {"a": np.ones(2)})
    finally:
        os.umask(old)
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    link.symlink_to(real)
    save(link, {"a": np.zeros(3)})
    assert link.is_symlink()
    assert_same(load(real), {"a": np.zeros(3)})


def test_what_cannot_be_saved_touches_no_file(tmp_path):
    path = tmp_path / "state.npz"
    layer = nn.Linear(2, 2)
    for value, error, message in [
        ([1, 2], TypeError, "save: expected a layer, an optimiser or a mapping to arrays, got list"),
        ({"a": None}, TypeError, "'a' must be an array of numbers, got NoneType"),
        ({"a": layer.weight}, TypeError, "'a' must be an array of numbers, got Parameter"),
        ({"a": layer.state_dict()}, TypeError, "'a' must be an array of numbers, got dict"),
        ({"a": "text"}, TypeError, "'a' must be an array of numbers, got str"),
        ({3: np.ones(2)}, TypeError, "a name must be a string, got 3"),
        ({"": np.ones(2)}, ValueError, "the name '' cannot stand in a file"),
        ({"a\0b": np.ones(2)}, ValueError, "cannot stand in a file"),
        ({"__cyconv_format__": np.ones(2)}, ValueError, "'__cyconv_format__' cannot stand in a file"),
    ]:
        with pytest.raises(error, match=message):
            save(path, value)
    assert os.listdir(tmp_path) == []
    with pytest.raises(FileNotFoundError):
        save(tmp_path / "nowhere" / "state.npz", {"a": np.ones(2)})


# ---------------------------------------------------------------------------------------------- bad files


def test_a_truncated_file_says_so(tmp_path):
    path = tmp_path / "state.npz"
    save(path, arrays())
    whole = path.read_bytes()
    for length in [0, 1, 10, *range(50, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"load: .*state\.npz is no complete cyconv file: "):
            load(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_flipped_bit_never_passes_for_the_data(tmp_path):
    path = tmp_path / "state.npz"
    state = {"a": np.arange(20.0), "b": np.ones(3)}
    save(path, state)
    whole = bytearray(path.read_bytes())
    caught = 0
    for position in range(len(whole)):
        damaged = whole.copy()
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        try:
            loaded = load(path)
        except ValueError:
            caught += 1
        else:  # in fields of the zip that say nothing about the data: dates, systems, permissions
            assert_same(loaded, state)
    assert caught > 0.7 * len(whole)


@pytest.mark.parametrize("content", [b"no zip at all", b"PK\x03\x04 looks like one", b"\x93NUMPY\x01\x00v\x00{'descr'"])
def test_a_file_of_another_kind_says_so(tmp_path, content):
    path = tmp_path / "other"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="other is no complete cyconv file"):
        load(path)


def test_foreign_archives_say_so(tmp_path):
    path = tmp_path / "foreign.npz"
    np.savez(path, a=np.ones(3))
    with pytest.raises(ValueError, match=r"not written by cyconv.save .* numpy.load reads other"):
        load(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(ValueError, match=r"the entry 'readme.txt' is no array"):
        load(path)
    np.savez(path, __cyconv_format__=np.array([2, 1, 0]), a=np.ones(3))
    with pytest.raises(ValueError, match="has format version 2, this cyconv reads 1; try a later one"):
        load(path)
    for entry, message in (
        ([], "format version 0"),
        (1, "1 arrays instead of"),
        ([1, 2], r"1 arrays instead of \[2\]"),
    ):
        np.savez(path, __cyconv_format__=np.array(entry, dtype=int), a=np.ones(3))
        with pytest.raises(ValueError, match=message):
            load(path)
    np.savez_compressed(path, __cyconv_format__=np.array([1, 1]), a=np.ones(3))
    np.testing.assert_array_equal(load(path)["a"], np.ones(3))


def test_nothing_is_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    path = tmp_path / "trap.npz"
    np.savez(path, __cyconv_format__=np.array([1, 1]), a=np.array([Trap()], dtype=object))
    with pytest.raises(ValueError, match=r"trap\.npz is no complete cyconv file"):
        load(path)


def test_a_header_that_promises_too_much_asks_for_no_memory(tmp_path):
    path = tmp_path / "huge.npz"
    save(path, {"a": np.ones((2, 3))})
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    promise = contents["a.npy"].replace(b"'shape': (2, 3), }" + b" " * 14, b"'shape': (2, 300000000000000), }")
    assert promise != contents["a.npy"]
    assert len(promise) == len(contents["a.npy"])
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {**contents, "a.npy": promise}.items():
            archive.writestr(name, content)
    with pytest.raises(ValueError, match=r"'a.npy' does not hold the \(2, 300000000000000\) float64 values"):
        load(path)


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.npz")


@pytest.mark.skipif(os.name != "posix", reason="kill -9")
def test_a_process_killed_while_saving_leaves_the_old_file(tmp_path):
    path = tmp_path / "state.npz"
    save(path, {"a": np.ones(2)})
    program = (
        "import os, sys, numpy as np, cyconv._serialization as s\n"
        "write = s.npy.write_array\n"
        "def once(*args, **kwargs):\n"
        "    write(*args, **kwargs)\n"
        "    args[0].flush()\n"
        "    os.kill(os.getpid(), 9)\n"
        "s.npy.write_array = once\n"
        "s.save(sys.argv[1], {'a': np.zeros(5)})\n"
    )
    assert subprocess.run([sys.executable, "-c", program, str(path)], check=False).returncode == -9
    assert_same(load(path), {"a": np.ones(2)})


# ---------------------------------------------------------------------------------------------- odd targets and files


@pytest.mark.skipif(os.name != "posix", reason="permissions, links and pipes of POSIX")
def test_a_file_keeps_its_permissions():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "state.npz")
        save(path, {"a": np.ones(2)})
        os.chmod(path, 0o600)
        save(path, {"a": np.zeros(2)})
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


@pytest.mark.skipif(os.name != "posix", reason="permissions, links and pipes of POSIX")
def test_what_is_no_ordinary_file_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "one").symlink_to(tmp_path / "two")
    (tmp_path / "two").symlink_to(tmp_path / "one")
    for target, message in (("pipe", "no ordinary file"), ("one", "symbolic links"), ("", "this is a directory")):
        with pytest.raises(OSError, match=message):
            save(tmp_path / target, {"a": np.ones(2)})
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert (tmp_path / "one").is_symlink()
    assert sorted(os.listdir(tmp_path)) == ["one", "pipe", "two"]


def test_errors_name_the_file_that_was_asked_for(tmp_path):
    for target in (tmp_path / "none" / "state.npz", tmp_path / ("n" * 300)):
        with pytest.raises(OSError) as error:
            save(target, {"a": np.ones(2)})
        assert error.value.filename == str(target)
    save(os.fsencode(tmp_path / "bytes"), {"a": np.ones(2)})
    assert os.listdir(tmp_path) == ["bytes"]


@pytest.mark.skipif(sys.platform != "linux", reason="a limit of Linux")
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path):
    import resource

    path = tmp_path / "state.npz"
    save(path, {"a": np.ones(2)})
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            save(path, {"a": np.ones(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["state.npz"]


@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        ({"x" * 70_000: np.ones(2)}, ValueError, "cannot stand in a file"),
        ({"\udc80": np.ones(2)}, ValueError, "cannot stand in a file"),
        ({"a": np.ma.masked_array([1.0, 2.0], [True, False])}, TypeError, "'a' is a masked array; fill it first"),
        ({"a": [[1], [2, 3]]}, TypeError, "^save: 'a' cannot be made an array: "),
    ],
)
def test_names_and_values_that_cannot_be_saved(tmp_path, state, error, message):
    with pytest.raises(error, match=message):
        save(tmp_path / "state.npz", state)
    assert os.listdir(tmp_path) == []


def test_a_directory_of_a_file_that_promises_too_much_asks_for_no_memory(tmp_path):
    path = tmp_path / "huge.npz"
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**12,)})
    for kind in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(path, "w", kind) as archive:
            archive.writestr("a.npy", header.getvalue())
            archive.infolist()[0].file_size = len(header.getvalue()) + 8 * 10**12
        with pytest.raises(
            ValueError, match=r"no complete cyconv file: 'a.npy' promises 8\d+ bytes; the file has \d\d\d"
        ):
            load(path)


def test_damage_of_any_compression_says_so(tmp_path):
    path = tmp_path / "packed.npz"
    save(path, {"a": np.arange(300.0)})
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    for kind in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        with zipfile.ZipFile(path, "w", kind) as archive:
            for name, content in contents.items():
                archive.writestr(name, content)
        assert_same(load(path), {"a": np.arange(300.0)})
        whole = path.read_bytes()
        middle = whole.index(b"a.npy") + 60
        path.write_bytes(whole[:middle] + bytes(8) + whole[middle + 8 :])
        with pytest.raises(ValueError, match=r"packed\.npz is no complete cyconv file"):
            load(path)


def test_arrays_of_other_things_than_numbers_say_so(tmp_path):
    for array in (np.array(["a"]), np.zeros(2, [("x", "f4")]), np.array(["2020"], "M8[D]")):
        np.savez(tmp_path / "other.npz", __cyconv_format__=np.array([1, 1]), a=array)
        with pytest.raises(ValueError, match=r"'a.npy' holds .*, no numbers"):
            load(tmp_path / "other.npz")
