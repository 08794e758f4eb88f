"""Safetensors files with checksums: what the formats of this package are written in.

A file is the length of a JSON header (8 bytes, little-endian), the header, and the bytes of the
tensors without gaps (https://github.com/huggingface/safetensors). :class:`Writer` takes tensors one
at a time, and the file is there only when it is complete; :class:`Reader` reads one tensor at a
time and refuses what is damaged. ``docs/format.md`` specifies the checked files.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import zlib
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from .._arguments import expectation, wrong_value
from .closing import Closing
from .dtypes import DTYPES, dtype_of
from .writing import PIECE, replacing, scratch

FORMAT = "noisycells"
MAJOR, MINOR = 2, 0
"""Format version that is written."""
READ = {1: 0, 2: 0}
"""Major versions that are read, and their newest minor one; what newer ones add is ignored."""

_MAX_HEADER = 100_000_000  # that of the safetensors package

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


class Entry(NamedTuple):
    """A tensor in a file: safetensors dtype name, shape, first and one past last data byte."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


_Writer = TypeVar("_Writer", bound="Writer")


class Writer:
    """Writes a safetensors file, tensor by tensor.

    A context manager: on leaving it the file is synced and put at ``path``; if an exception leaves
    it, nothing remains and what was at ``path`` stays (see :func:`replacing`, also for errors).

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
        with ExitStack() as stack:
            self._file = stack.enter_context(replacing(self.path))
            # The header comes first in the file but is known last: the data wait in another one.
            self._data = stack.enter_context(scratch(self.path))
            self._stack = stack.pop_all()
        return self

    def add(self, key: str, array: NDArray[Any], dtype: str | None = None) -> None:
        """Append a tensor; ``dtype`` names what the numbers are where numpy cannot ("BF16").

        Raises
        ------
        ValueError
            If the key is taken or safetensors has no such dtype.
        """
        if key in self._entries:
            raise wrong_value("key", "a new one", f"{key!r} again")
        dtype = dtype or dtype_of(array)
        if dtype is None:
            raise wrong_value(f"tensor {key!r}", "a dtype of safetensors", array.dtype)
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
        if error is not None:
            self._stack.__exit__(kind, error, trace)
            return
        with self._stack:
            self._finish()

    def _finish(self) -> None:
        self._file.write(self._header())
        self._data.seek(0)
        shutil.copyfileobj(self._data, self._file, PIECE)

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
            raise wrong_value("header", f"at most {_MAX_HEADER:,} bytes", f"{len(text):,}")
        header = len(text).to_bytes(8, "little") + text
        if self.checked:
            place = _START.match(text)
            assert place is not None
            at = 8 + place.start(3)
            header = header[:at] + _header_checksum(header, at) + header[at + 8 :]
        return header


class Reader(Closing):
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
    version : (int, int)
        Format version of a checked file.

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
        self._file = open(self.path, "rb")
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
        try:
            fields = parse(header[8:])
        except ValueError as error:
            raise self._damaged(f"header: {error}") from None
        self.metadata: dict[str, str] = fields.pop("__metadata__", None) or {}
        entries = {
            key: Entry(f["dtype"], tuple(f["shape"]), *f["data_offsets"])
            for key, f in fields.items()
        }
        self.entries: dict[str, Entry] = dict(
            sorted(entries.items(), key=lambda item: item[1].begin)
        )
        for key, entry in entries.items():
            try:
                np.broadcast_to(np.uint8(0), entry.shape)
            except ValueError as error:
                raise self._damaged(f"tensor {key!r} has a shape beyond numpy: {error}") from None
        self._data_start = 8 + length
        if self._checked:
            self._checksums = self._read_checksums()

    def _read_checksums(self) -> dict[str, str]:
        try:
            checksums = parse(self.metadata.get("crc32", "null"))
        except ValueError as error:
            raise self._damaged(f"crc32: {error}") from None
        if not isinstance(checksums, dict) or checksums.keys() != self.entries.keys():
            raise self._damaged(f"crc32: {expectation('a checksum for each tensor', 'others')}")
        return checksums

    def _check_header(self, header: bytes) -> None:
        place = _START.match(header, 8)
        if place is None:
            raise self._damaged("no format version and checksum at its start")
        major, minor = int(place[1]), int(place[2])
        if major not in READ:
            known = f"format version {' or '.join(f'{m}.x' for m in READ)}"
            got = f"{major}.{minor} (a newer noisycells may read it)"
            raise FormatError(f"{self.path}: {expectation(known, got)}")
        self.version = major, minor
        if _header_checksum(header, place.start(3)) != place[3]:
            raise self._damaged("its header does not match its checksum")

    def _check_structure(self) -> None:
        try:
            with safe_open(self.path, "np"):
                pass
        except SafetensorError as error:
            raise self._damaged(str(error)) from None

    def read(self, key: str) -> NDArray[Any]:
        """One tensor; of a dtype that numpy does not have the bits, see :func:`widen`.

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
        for at in range(0, len(room), PIECE):
            piece = room[at : at + PIECE]
            if self._file.readinto(piece) != len(piece):
                raise self._damaged("the file ends early")
            crc = zlib.crc32(piece, crc)
        if self._checked and self._checksums[key] != f"{crc:08x}":
            raise self._damaged(f"tensor {key!r} does not match its checksum")
        tensor: NDArray[Any] = out.reshape(shape)
        return tensor

    @property
    def newer(self) -> bool:
        """Whether a checked file is of a newer minor version, and may hold more, to ignore."""
        major, minor = self.version
        return minor > READ[major]

    def _damaged(self, how: str) -> DecodeError | FormatError:
        if self._checked:
            return DecodeError(f"{self.path}: {how}")
        got = f"another or a damaged one: {how}"
        return FormatError(f"{self.path}: {expectation('a safetensors file', got)}")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _header_checksum(header: bytes, at: int) -> bytes:
    """CRC-32 of length and header, as if the checksum, 8 characters at ``at``, were zeros."""
    return b"%08x" % zlib.crc32(header[:at] + b"00000000" + header[at + 8 :])


def dumps(value: Any) -> str:
    """JSON as the files have it: no spaces, no NaN."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def parse(text: str | bytes) -> Any:
    """The content of JSON text.

    Raises
    ------
    ValueError
        If it is none, nests too deeply, names a member twice, or has a number that float64 does
        not: NaN, infinity, 1e999.
    """
    try:
        return json.loads(
            text, object_pairs_hook=_members, parse_constant=_finite, parse_float=_finite
        )
    except RecursionError:
        raise ValueError(expectation("JSON", "text that nests too deeply")) from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{expectation('JSON', 'another text')}: {error}") from None


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        ((twice, _),) = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(expectation("each member once", f"{twice!r} again"))
    return members


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(expectation("finite numbers", text))
    return number
