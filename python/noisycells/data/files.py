"""Reading the files of image data: IDX, and the pickles of CIFAR-10 without running their code."""

from __future__ import annotations

import gzip
import io
import math
import pickle
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _arguments

__all__ = ["find", "read_cifar", "read_idx"]

CIFAR_SHAPE = (3, 32, 32)

Labels = npt.NDArray[np.int64]


def find(directory: Path, name: str) -> Path:
    """The file of that name, plain or with ``.gz``; ValueError where there is neither."""
    for file in (directory / name, directory / f"{name}.gz"):
        if file.is_file():
            return file
    raise _arguments.wrong_value(directory, f"a file {name} or {name}.gz", "neither")


def read_idx(file: Path, item_shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """Unsigned bytes of shape (n, *item_shape), n >= 1, of one IDX file."""
    try:
        content = gzip.open(file).read() if file.suffix == ".gz" else file.read_bytes()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise _arguments.wrong_value(file, "an intact gzip file", error) from error
    dimensions = 1 + len(item_shape)
    magic = bytes([0, 0, 8, dimensions])
    if content[:4] != magic:
        raise _arguments.wrong_value(
            file,
            f"an IDX file of unsigned bytes in {dimensions} dimension(s), magic number "
            f"{magic.hex()}",
            content[:4].hex() or "an empty file",
        )
    start = 4 + 4 * dimensions
    if len(content) < start:
        raise _arguments.wrong_value(file, f"a header of {start} bytes", f"{len(content)} bytes")
    shape = struct.unpack(f">{dimensions}I", content[4:start])
    if shape[1:] != item_shape or shape[0] == 0:
        wanted = ", ".join(["n >= 1", *map(str, item_shape)])
        raise _arguments.wrong_value(file, f"shape ({wanted})", shape)
    expected = start + math.prod(shape)
    if len(content) != expected:
        raise _arguments.wrong_value(
            file, f"{expected} bytes for shape {shape}", f"{len(content)} bytes"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def read_cifar(file: Path) -> tuple[npt.NDArray[np.uint8], Labels]:
    """Pixels of shape (n, 3, 32, 32) and labels of shape (n,), n >= 1, of one CIFAR-10 file."""
    if not file.is_file():
        raise _arguments.wrong_value(file.parent, f"a file {file.name}", "none")
    try:
        content = _CifarUnpickler(io.BytesIO(file.read_bytes()), encoding="latin1").load()
    except Exception as error:  # damaged pickles fail in every way there is
        raise _arguments.wrong_value(file, "an intact CIFAR-10 batch", error) from error
    data, labels = (
        (content.get(name) for name in ("data", "labels"))
        if isinstance(content, dict)
        else (None, None)
    )
    if not isinstance(data, _Array) or not isinstance(labels, list):
        raise _arguments.wrong_value(
            file, "a dict with the array 'data' and the list 'labels'", "another object"
        )
    pixels = data.decode()
    if pixels is None or pixels.shape[1:] != (math.prod(CIFAR_SHAPE),) or not len(pixels):
        raise _arguments.wrong_value(
            file, f"data of uint8 of shape (n, {math.prod(CIFAR_SHAPE)}), n >= 1", data
        )
    if len(labels) != len(pixels) or not all(type(x) is int and 0 <= x < 10 for x in labels):
        raise _arguments.wrong_value(
            file,
            f"{len(pixels)} labels, ints from 0 to 9, one for each image",
            f"{len(labels)} of {sorted(set(map(repr, labels)))[:12]}",
        )
    return pixels.reshape(-1, *CIFAR_SHAPE), np.array(labels, np.int64)


class _Array:
    """What a pickle says of a numpy array, taken down without numpy's taking part."""

    def __init__(self) -> None:
        self.shape: tuple[int, ...] = ()
        self.dtype: Any = None
        self.fortran: Any = False
        self.content: Any = b""

    def __setstate__(self, state: Any) -> None:
        _, self.shape, self.dtype, self.fortran, self.content = state
        if isinstance(self.content, str):  # a string of Python 2
            self.content = self.content.encode("latin1")
        if not isinstance(self.shape, tuple) or not isinstance(self.content, bytes):
            raise pickle.UnpicklingError("an array without shape or content")

    def decode(self) -> npt.NDArray[np.uint8] | None:
        """The array, if it is of bytes and complete."""
        if str(self.dtype) != "u1" or math.prod(self.shape) != len(self.content):
            return None
        pixels = np.frombuffer(self.content, np.uint8)
        return np.reshape(pixels, self.shape, order="F" if self.fortran else "C")

    def __repr__(self) -> str:
        return f"{self.dtype} of shape {self.shape}, {len(self.content)} bytes"


class _Dtype:
    """What a pickle says of a numpy dtype."""

    def __init__(self, *arguments: Any) -> None:
        self.name = arguments[0]

    def __setstate__(self, state: Any) -> None:
        """Byte order and fields, of which single bytes have none."""

    def __repr__(self) -> str:
        return str(self.name)


class _CifarUnpickler(pickle.Unpickler):
    """Knows the few names that pickled arrays need, each replaced by something inert."""

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in of a name; UnpicklingError for all others."""
        names: dict[str, Any] = {
            "numpy.core.multiarray._reconstruct": lambda *arguments: _Array(),
            "numpy._core.multiarray._reconstruct": lambda *arguments: _Array(),
            "numpy.ndarray": _Array,
            "numpy.dtype": _Dtype,
            "_codecs.encode": lambda text, encoding: text.encode("latin1"),
        }
        if f"{module}.{name}" not in names:
            raise pickle.UnpicklingError(f"the name {module}.{name}")
        return names[f"{module}.{name}"]
