"""
Files of named arrays.

A file is an ordinary ``.npz`` (a zip of ``.npy`` entries, readable with ``numpy.load``) with one entry more: the
version of the format and the number of arrays, as zipfile does not notice when the end of its directory is gone.
Nothing is ever unpickled, so a foreign file cannot run code.
"""

from __future__ import annotations

import contextlib
import errno
import lzma
import math
import os
import secrets
import stat
import struct
import zipfile
import zlib
from collections.abc import Mapping
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

_VERSION_ENTRY = "__cyconv_format__"
_VERSION = 1
# What zipfile, zlib and NumPy raise on bytes that are not what they should be; OSError is a seek to a place before 0.
_DAMAGE = (
    ValueError, EOFError, OverflowError, RuntimeError, OSError, zipfile.BadZipFile, zlib.error, lzma.LZMAError,
    struct.error,
)  # fmt: skip
#: Kinds of dtypes that a file holds: numbers.
_KINDS = "biufc"
# More than this many bytes do not come out of one: the limit of deflate, the only compression that NumPy writes.
_DEFLATE_MOST = 1032


def save(path: str | os.PathLike[str], module_or_state_dict: Any) -> None:
    """
    Write a state to a file.

    The file appears under its name only when it is complete: a crash in between leaves the old file as it was. The
    permissions are those of the old file, or what the umask leaves. A process that is killed while it writes leaves a
    ``.cyconv-*.tmp`` beside it, which nobody reads and you may delete.

    Parameters
    ----------
    path : str or path
        Name of the file, taken as it is (no suffix is added); ``.npz`` is customary.
    module_or_state_dict : Module, optimiser, or mapping of str to array
        What has a ``state_dict()``, or a dictionary of arrays.

    Raises
    ------
    TypeError
        If it is neither, or an entry is no array of numbers.
    ValueError
        If a name cannot stand in the file.
    OSError
        If the file cannot be written, or `path` is there and no ordinary file.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from cyconv import Linear, load, save
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(Path(folder) / "layer.npz", Linear(2, 1))
    ...     sorted(load(Path(folder) / "layer.npz"))
    ['bias', 'weight']
    """
    arrays = _named_arrays(module_or_state_dict)
    target = os.path.realpath(os.fsdecode(path))  # behind a symbolic link, so that the link stays one
    folder, mode = os.path.dirname(target), _mode(target)
    temporary = os.path.join(folder, f".cyconv-{secrets.token_hex(8)}.tmp")
    try:
        # Not tempfile: its files are readable by the owner only, and the rename would keep that.
        with open(temporary, "xb") as file:
            if mode is not None and hasattr(os, "fchmod"):
                os.fchmod(file.fileno(), mode)
            _write(file, arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException as error:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.unlink(temporary)
        if isinstance(error, OSError) and error.filename == temporary:  # which nobody asked for
            raise type(error)(error.errno, error.strerror, target) from None
        raise
    if os.name == "posix":  # the new name itself is on disk only when the folder is
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _mode(target: str) -> int | None:
    """Return the permissions of the file that is there, None if there is none; OSError if it is no ordinary file.

    A rename would put a file in the place of a device or a pipe.
    """
    try:
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "save: this is a directory, give the name of a file", target)
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "save: this is no ordinary file", target)
    return stat.S_IMODE(mode)


def load(path: str | os.PathLike[str]) -> dict[str, NDArray[Any]]:
    """
    Read a file that ``save`` wrote.

    Parameters
    ----------
    path : str or path
        Name of the file.

    Returns
    -------
    dict of str to ndarray
        What was saved, in the same order; goes into ``load_state_dict``.

    Raises
    ------
    ValueError
        If the file is damaged, incomplete, of another kind, or of a later format.
    FileNotFoundError
        If there is none.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from cyconv import load, save
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(Path(folder) / "net.npz", {"weight": np.ones(2)})
    ...     load(Path(folder) / "net.npz")
    {'weight': array([1., 1.])}
    """
    name = os.fspath(path)
    with open(name, "rb") as file:
        try:
            arrays = _read(file)
        except _DAMAGE as error:
            raise ValueError(f"load: {name} is no complete cyconv file: {error}") from error
    if _VERSION_ENTRY not in arrays:
        raise ValueError(
            f"load: {name} was not written by cyconv.save (it has no entry {_VERSION_ENTRY}); "
            "numpy.load reads other .npz files"
        )
    version, *count = np.ravel(arrays.pop(_VERSION_ENTRY)).tolist() or [0]
    if version != _VERSION:
        raise ValueError(f"load: {name} has format version {version}, this cyconv reads {_VERSION}; try a later one")
    if count != [len(arrays)]:
        raise ValueError(f"load: {name} is no complete cyconv file: it holds {len(arrays)} arrays instead of {count}")
    return arrays


def _named_arrays(source: Any) -> dict[str, NDArray[Any]]:
    """Return what is to be written, every entry checked before a file is touched."""
    state = source.state_dict() if hasattr(source, "state_dict") else source
    if not isinstance(state, Mapping):
        raise TypeError(f"save: expected a layer, an optimiser or a mapping to arrays, got {type(state).__name__}")
    arrays: dict[str, NDArray[Any]] = {_VERSION_ENTRY: np.array([_VERSION, len(state)])}
    for name, value in state.items():
        if not isinstance(name, str):
            raise TypeError(f"save: a name must be a string, got {name!r}")
        encoded = name.encode(errors="replace")
        if not name or "\0" in name or name == _VERSION_ENTRY or len(encoded) > 0xFFF0 or encoded.decode() != name:
            raise ValueError(f"save: the name {name!r} cannot stand in a file")
        if isinstance(value, np.ma.MaskedArray):
            raise TypeError(f"save: {name!r} is a masked array; fill it first, the mask is not kept")
        try:
            array = np.asarray(value)
        except ValueError as error:
            raise TypeError(f"save: {name!r} cannot be made an array: {error}") from None
        if array.dtype.kind not in _KINDS:
            raise TypeError(f"save: {name!r} must be an array of numbers, got {type(value).__name__} ({array.dtype})")
        arrays[name] = array
    return arrays


def _write(file: IO[bytes], arrays: Mapping[str, NDArray[Any]]) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            # A fixed date: equal states make equal files.
            entry = zipfile.ZipInfo(name + ".npy", date_time=(1980, 1, 1, 0, 0, 0))
            with archive.open(entry, "w", force_zip64=True) as stream:
                npy.write_array(stream, array, allow_pickle=False)


def _read(file: IO[bytes]) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {}
    length = os.fstat(file.fileno()).st_size
    with zipfile.ZipFile(file) as archive:
        for entry in archive.infolist():
            most = length if entry.compress_type == zipfile.ZIP_STORED else _DEFLATE_MOST * length
            if entry.file_size > most:
                raise ValueError(f"{entry.filename!r} promises {entry.file_size} bytes; the file has {length}")
            if not entry.filename.endswith(".npy"):
                raise ValueError(f"the entry {entry.filename!r} is no array")
            with archive.open(entry) as stream:
                _check_size(entry, stream)
            with archive.open(entry) as stream:
                arrays[entry.filename[: -len(".npy")]] = npy.read_array(stream, allow_pickle=False)
    return arrays


def _check_size(entry: zipfile.ZipInfo, stream: IO[bytes]) -> None:
    """Compare the size that the entry's header promises with what is there, before memory is asked for."""
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    version = npy.read_magic(stream)
    if version not in readers:
        raise ValueError(f"the entry {entry.filename!r} has the unknown .npy version {version}")
    shape, _, dtype = readers[version](stream)
    if dtype.kind not in _KINDS:
        raise ValueError(f"the entry {entry.filename!r} holds {dtype}, no numbers")
    if math.prod(shape) * dtype.itemsize != entry.file_size - stream.tell():
        raise ValueError(f"the entry {entry.filename!r} does not hold the {shape} {dtype} values that it promises")
