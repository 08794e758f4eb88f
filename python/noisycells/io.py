"""Safetensors files with checksums: what the formats of this package are written in.

A file is the length of a JSON header (8 bytes, little-endian), the header, and the bytes of the
tensors without gaps (https://github.com/huggingface/safetensors). :class:`Writer` streams tensors
to a temporary file that takes the place of the old one only when it is complete;
:class:`Reader` reads one tensor at a time and refuses what is damaged. ``docs/format.md``
specifies the checked files.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import secrets
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

__all__ = ["DecodeError", "FormatError", "Reader", "Writer", "replacing"]

FORMAT = "noisycells"
MAJOR, MINOR = 1, 0
"""Format version. A reader refuses other majors and ignores what newer minors add."""

DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    "U8": np.dtype("u1"),
    "I8": np.dtype("i1"),
    "U16": np.dtype("<u2"),
    "I16": np.dtype("<i2"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),  # numpy has no bfloat16: the bits, see `widen`
    "U32": np.dtype("<u4"),
    "I32": np.dtype("<i4"),
    "F32": np.dtype("<f4"),
    "U64": np.dtype("<u8"),
    "I64": np.dtype("<i8"),
    "F64": np.dtype("<f8"),
}
_NAMES = {dtype: name for name, dtype in DTYPES.items() if name != "BF16"}

_MAX_HEADER = 100_000_000  # that of the safetensors package
_PIECE = 1 << 20  # bytes read or copied at a time

# The header starts with these bytes, so that the checksum of the header has a fixed place.
_START = re.compile(
    rb'\{"__metadata__":\{"format":"noisycells","format_version":"(\d{1,9})\.(\d{1,9})",'
    rb'"header_crc32":"([0-9a-f]{8})"'
)
_MAGIC = b'{"__metadata__":{"format":"noisycells","format_version":"'


class DecodeError(ValueError):
    """A file of this package that is damaged, cut off or inconsistent."""


class FormatError(ValueError):
    """A file that is not of the expected format, or of a version this package does not know."""


@contextlib.contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A path beside ``file`` to write to, renamed to it at the end; nothing is left of failures.

    It ends as ``file`` does, so that formats are known by it.
    """
    temporary = file.with_name(f".{secrets.token_hex(8)}.{file.name}")
    try:
        yield temporary
        with open(temporary, "rb+") as written:
            os.fsync(written.fileno())
        os.replace(temporary, file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


class Entry(NamedTuple):
    """A tensor in a file: safetensors dtype name, shape, first and one past last data byte."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


_Writer = TypeVar("_Writer", bound="Writer")


class Writer:
    """Writes a safetensors file, tensor by tensor.

    A context manager: on leaving it the file is synced and renamed to `path`; if an exception
    leaves it, nothing remains and what was at `path` stays.

    Parameters
    ----------
    path : path-like
        Where the file will be.
    checked : bool
        Write a file of this package, with its format version and a CRC-32 for every tensor and
        for the header. Otherwise a plain safetensors file.

    Attributes
    ----------
    metadata : dict of str to str
        Metadata of the file; fill it in before leaving.
    """

    def __init__(self, path: str | os.PathLike[str], checked: bool = True) -> None:
        self.path = Path(path)
        self.checked = checked
        self.metadata: dict[str, str] = {}
        self._entries: dict[str, Entry] = {}
        self._checksums: dict[str, str] = {}
        self._size = 0

    def __enter__(self: _Writer) -> _Writer:
        # The header comes first in the file but is known last: the data wait in a nameless file.
        self._data: IO[bytes] = tempfile.TemporaryFile(dir=self.path.parent)
        return self

    def add(self, key: str, array: NDArray[Any], dtype: str | None = None) -> None:
        """Append a tensor; `dtype` names what the numbers are where numpy cannot ("BF16").

        Raises
        ------
        ValueError
            If the key is taken or safetensors has no such dtype.
        """
        if key in self._entries:
            raise ValueError(f"key: expected a new one, got {key!r} again")
        dtype = dtype or _NAMES.get(array.dtype.newbyteorder("<"))
        if dtype is None:
            raise ValueError(f"tensor {key!r}: expected a dtype of safetensors, got {array.dtype}")
        array = np.ascontiguousarray(array, DTYPES[dtype]).reshape(array.shape)
        data = array.reshape(-1).view(np.uint8).data
        self._data.write(data)
        end = self._size + array.nbytes
        self._entries[key] = Entry(dtype, array.shape, self._size, end)
        self._checksums[key] = f"{zlib.crc32(data):08x}"
        self._size = end

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._data:
            if error is None:
                self._finish()

    def _finish(self) -> None:
        with replacing(self.path) as temporary, open(temporary, "xb") as file:
            file.write(self._header())
            self._data.seek(0)
            shutil.copyfileobj(self._data, file, _PIECE)

    def _header(self) -> bytes:
        metadata = self.metadata
        if self.checked:
            metadata = {
                "format": FORMAT,
                "format_version": f"{MAJOR}.{MINOR}",
                "header_crc32": "00000000",
                "crc32": dumps(self._checksums),
                **self.metadata,
            }
        tensors = {
            key: {"dtype": e.dtype, "shape": e.shape, "data_offsets": (e.begin, e.end)}
            for key, e in self._entries.items()
        }
        text = dumps({"__metadata__": metadata} | tensors if metadata else tensors).encode()
        text += b" " * (-len(text) % 8)
        if len(text) > _MAX_HEADER:
            raise ValueError(f"header: expected at most {_MAX_HEADER:,} bytes, got {len(text):,}")
        header = len(text).to_bytes(8, "little") + text
        if self.checked:
            place = _START.match(text)
            assert place is not None
            at = 8 + place.start(3)
            header = header[:at] + _header_checksum(header, at) + header[at + 8 :]
        return header


class Reader:
    """Reads a safetensors file, tensor by tensor; a context manager.

    Every byte is under a checksum: those of the header, its length included, are checked when
    the file is opened, those of a tensor when it is read. The safetensors package checks the
    header as well.

    Parameters
    ----------
    path : path-like
        The file.
    checked : bool
        Expect a file of this package. Otherwise a plain safetensors file.

    Attributes
    ----------
    metadata : dict of str to str
    entries : dict of str to Entry
        The tensors, in the order of their data.

    Raises
    ------
    FormatError
        If the file is not of this format or of another major version.
    DecodeError
        If it is damaged.
    OSError
        If it cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str], checked: bool = True) -> None:
        self.path = Path(path)
        self._checked = checked
        self._file: IO[bytes] = open(self.path, "rb")
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        size = os.fstat(self._file.fileno()).st_size
        header = self._file.read(8 + 256)
        if self._checked:
            start = header[8 : 8 + len(_MAGIC)]
            if start != _MAGIC[: len(start)]:
                raise FormatError(f"{self.path}: not a file of noisycells, or its start is damaged")
        length = int.from_bytes(header[:8], "little")
        if len(header) < 8 or length > min(size - 8, _MAX_HEADER):
            raise self._damaged("cut off or damaged, as its header does not fit in its size")
        self._file.seek(0)
        header = self._file.read(8 + length)
        if self._checked:
            self._check_header(header)
        self._check_structure()
        fields = json.loads(header[8:])
        self.metadata: dict[str, str] = fields.pop("__metadata__", {})
        entries = {
            key: Entry(f["dtype"], tuple(f["shape"]), *f["data_offsets"])
            for key, f in fields.items()
        }
        self.entries = dict(sorted(entries.items(), key=lambda item: item[1].begin))
        self._data_start = 8 + length
        if self._checked:
            try:
                self._checksums = dict(json.loads(self.metadata["crc32"]))
            except (KeyError, TypeError, ValueError) as error:
                raise self._damaged(f"no table of checksums ({error!r})") from None

    def _check_header(self, header: bytes) -> None:
        place = _START.match(header, 8)
        if place is None:
            raise self._damaged("no format version and checksum at its start")
        major, minor = int(place[1]), int(place[2])
        if major != MAJOR:
            raise FormatError(
                f"{self.path}: expected format version {MAJOR}.x, got {major}.{minor} "
                "(a newer noisycells may read it)"
            )
        if _header_checksum(header, place.start(3)) != place[3]:
            raise self._damaged("its header does not match its checksum")

    def _check_structure(self) -> None:
        try:
            with safe_open(self.path, "np"):
                pass
        except SafetensorError as error:
            raise self._damaged(str(error)) from None

    def read(self, key: str) -> NDArray[Any]:
        """One tensor; bfloat16 as uint16 bits, see :func:`widen`.

        Raises
        ------
        DecodeError
            If there is no such tensor or it is damaged.
        FormatError
            If numpy has no such dtype.
        """
        if key not in self.entries:
            raise self._damaged(f"there is no tensor {key!r}")
        dtype, shape, begin, _ = self.entries[key]
        if dtype not in DTYPES:
            raise FormatError(f"{self.path}: tensor {key!r} has dtype {dtype}, not of numpy")
        out = np.empty(math.prod(shape), DTYPES[dtype])
        room = out.view(np.uint8).data
        self._file.seek(self._data_start + begin)
        crc = 0
        for at in range(0, len(room), _PIECE):
            piece = room[at : at + _PIECE]
            if self._file.readinto(piece) != len(piece):  # type: ignore[attr-defined]
                raise self._damaged("the file ends early")
            crc = zlib.crc32(piece, crc)
        if self._checked and self._checksums.get(key) != f"{crc:08x}":
            raise self._damaged(f"tensor {key!r} does not match its checksum")
        tensor: NDArray[Any] = out.reshape(shape)
        return tensor

    def _damaged(self, how: str) -> DecodeError | FormatError:
        if self._checked:
            return DecodeError(f"{self.path}: {how}")
        return FormatError(f"{self.path}: expected a safetensors file: {how}")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def widen(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """bfloat16 bits as float32, which holds them exactly."""
    out = np.empty(bits.shape, np.float32)
    np.left_shift(bits, 16, out=out.view(np.uint32), dtype=np.uint32)
    return out


def _header_checksum(header: bytes, at: int) -> bytes:
    """CRC-32 of length and header, as if the checksum, 8 characters at `at`, were zeros."""
    return b"%08x" % zlib.crc32(header[:at] + b"00000000" + header[at + 8 :])


def dumps(value: Any) -> str:
    """JSON as the files have it: no spaces, no NaN."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)
