"""Stored models in files, whole or tensor by tensor; ``docs/format.md`` specifies the format."""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .._types import Converter
from ..io import FORMAT, DecodeError, FormatError, Reader, Writer, dumps, widen
from ..random import STREAM_VERSION
from .arrays import Source, prepare
from .codec import Codec
from .cost import Cost, total
from .cost import digital as digital_cost
from .ranges import Range
from .selection import belongs_in_cells
from .stored import StoredModel, StoredTensor, packed_size

PathLike = str | os.PathLike[str]
Progress = Callable[[str], object]

FLOATS = ("F16", "BF16", "F32", "F64")


def save(path: PathLike, stored: StoredTensor | StoredModel) -> None:
    """Write a stored tensor or model to a file; equal bytes for equal content.

    The file is written beside `path` and renamed, so no half-written one is ever at `path`.

    Raises
    ------
    TypeError
        If `stored` is neither.
    ValueError
        If safetensors has no dtype for a digital tensor.
    OSError
        If the file cannot be written.
    """
    if not isinstance(stored, (StoredTensor, StoredModel)):
        raise TypeError(
            f"stored: expected a StoredTensor or a StoredModel, got {type(stored).__name__}"
        )
    with _StoredWriter(path) as writer:
        if isinstance(stored, StoredTensor):
            writer.kind = "tensor"
            writer.store(stored)
        else:
            for name, array in stored.digital.items():
                writer.keep(name, array)
            for tensor in stored.values():
                writer.store(tensor)


def load(path: PathLike) -> StoredTensor | StoredModel:
    """Read what :func:`save` or :func:`encode_file` wrote; every byte is checked.

    Digital tensors in bfloat16, which numpy does not know, become float32.

    Warns
    -----
    UserWarning
        If the file was written with another version of the random streams: it holds the same
        cells, but a seed gives other noise than it gave then.

    Raises
    ------
    FormatError
        If the file is not one of this package, or of another major version.
    DecodeError
        If it is damaged, cut off or inconsistent.
    OSError
        If it cannot be read.
    """
    with StoredFile(path) as file:
        tensors = {name: file.tensor(name) for name in file.names}
        if file.kind == "tensor":
            return next(iter(tensors.values()))
        return StoredModel(tensors, {name: file.digital(name) for name in file.digital_names})


def encode_file(
    source: PathLike,
    path: PathLike,
    codec: Codec,
    *,
    mask: Literal["nonzero"] | None = None,
    overrides: Mapping[str, Codec] | None = None,
    digital: Sequence[str] = (),
    store_biases: bool = False,
    progress: Progress | None = None,
) -> Cost:
    """Store the model of a safetensors file in cells, tensor by tensor.

    Memory use peaks at about twice the largest tensor (in float32). Integers, and what
    :func:`belongs_in_cells` excludes, stay digital: biases, normalisation.

    Parameters
    ----------
    source : path-like
        Weights in float16, bfloat16, float32 or float64.
    path : path-like
        File to write, as :func:`save` does.
    codec, mask, overrides
        As for :meth:`Codec.encode`.
    digital : sequence of str
        Patterns (``fnmatch``) of names to keep digital too.
    store_biases : bool
        Store biases in cells.
    progress : callable, optional
        Called with the name of each tensor when it has been written.

    Returns
    -------
    Cost
        What the model costs.

    Raises
    ------
    FormatError
        If `source` is not a safetensors file of supported dtypes.
    ValueError
        If a weight is NaN or infinite, no tensor is to be stored, `source` is encoded already,
        or a pattern of `overrides` matches none.
    OSError
        If a file cannot be read or written.
    """
    if isinstance(digital, str):
        raise TypeError(f"digital: expected a sequence of patterns, got {digital!r}")
    with Reader(source, checked=False) as reader, _StoredWriter(path) as writer:
        if reader.metadata.get("format") == FORMAT:
            raise ValueError(f"{source}: expected the weights of a model, got one in cells")
        shapes = {name: entry.shape for name, entry in reader.entries.items()}
        names = [
            name
            for name, entry in reader.entries.items()
            if entry.dtype in FLOATS
            and belongs_in_cells(name, shapes, store_biases)
            and not any(fnmatchcase(name, pattern) for pattern in digital)
        ]
        if not names:
            raise ValueError(f"{source}: expected a tensor to store in cells, got none")

        def load_source(name: str) -> Source:
            array = reader.read(name)
            if reader.entries[name].dtype == "BF16":
                array = widen(array)
            return prepare(name, array, mask)

        for name, entry in reader.entries.items():
            if name not in names:
                writer.keep(name, reader.read(name), entry.dtype)
                _report(progress, name)
        for stored in codec.encode_each(load_source, names, overrides):
            writer.store(stored)
            _report(progress, stored.name)
            del stored  # before the next one is loaded
        if reader.metadata:
            writer.metadata["source_metadata"] = json.dumps(reader.metadata)
        return writer.cost


def read_file(
    source: PathLike,
    path: PathLike,
    seed: int,
    chip: int = 0,
    *,
    side_errors: bool = False,
    progress: Progress | None = None,
) -> None:
    """Read a stored model back once, with noise, into a plain safetensors file.

    Memory use peaks at about twice the largest tensor. Tensors in cells come back in float32,
    digital ones as they were.

    Parameters
    ----------
    source : path-like
        What :func:`encode_file` or :func:`save` wrote.
    path : path-like
        File to write.
    seed, chip, side_errors
        As for :meth:`StoredTensor.read`.
    progress : callable, optional
        Called with the name of each tensor when it has been written.

    Raises
    ------
    FormatError, DecodeError, OSError
        As :func:`load`.
    TypeError, ValueError
        As :meth:`StoredTensor.read`.
    """
    with StoredFile(source) as file, Writer(path, checked=False) as writer:
        for name in file.digital_names:
            writer.add(name, *file.digital_bits(name))
            _report(progress, name)
        for name in file.names:
            writer.add(name, file.tensor(name).read(seed, chip, side_errors))
            _report(progress, name)
        writer.metadata.update(file.source_metadata)


class StoredFile:
    """An open file of a stored model, read tensor by tensor; a context manager.

    Parameters
    ----------
    path : path-like
        The file.

    Attributes
    ----------
    kind : "tensor" or "model"
        What was saved.
    names, digital_names : list of str
        Tensors in cells, and those kept digital.
    stream_version : int
        Version of the random streams when the file was written.
    source_metadata : dict of str to str
        Metadata of the safetensors file the model came from.

    Raises
    ------
    FormatError, DecodeError, OSError
        See :func:`load`, also for the warning.
    """

    def __init__(self, path: PathLike) -> None:
        self.path = Path(path)
        self._reader = Reader(path)
        try:
            with self._consistent():
                self._parse(self._reader.metadata)
        except BaseException:
            self.close()
            raise
        if self.stream_version != STREAM_VERSION:
            warnings.warn(
                f"{path}: written with version {self.stream_version} of the random streams and "
                f"read with {STREAM_VERSION}; a seed gives other noise than it gave then",
                stacklevel=3,
            )

    def _parse(self, metadata: Mapping[str, str]) -> None:
        self.kind = metadata["kind"]
        self.stream_version = int(metadata["stream_version"])
        self.source_metadata: dict[str, str] = json.loads(metadata.get("source_metadata", "{}"))
        self.digital_names: list[str] = json.loads(metadata["digital"])
        self._codecs = [Codec.from_dict(values) for values in json.loads(metadata["codecs"])]
        records = json.loads(metadata["tensors"])
        self._records = {record["name"]: record for record in records}
        self.names = list(self._records)
        _require(len(self.names) == len(records), "two tensors of one name")
        one = len(self.names) == 1 and not self.digital_names
        _require(self.kind == "model" or (self.kind == "tensor" and one), f"kind {self.kind!r}")

    def tensor(self, name: str) -> StoredTensor:
        """One tensor in cells.

        Raises
        ------
        KeyError
            If there is no such tensor.
        DecodeError
            If it is damaged or inconsistent.
        """
        record = self._records[name]
        read = self._reader.read
        with self._consistent(name):
            codec = dict(enumerate(self._codecs))[record["codec"]]
            shape = tuple(int(n) for n in record["shape"])
            np.broadcast_to(np.float32(0), shape)  # a shape that an array can have
            size = math.prod(shape)
            ranges = tuple(_range_from(values) for values in record["ranges"])
            _require(len(ranges) == codec.ranges, "another number of ranges than its codec")
            codec.tables(ranges)
            stored, mask = size, None
            if record["masked"]:
                mask = _vector(read(f"{name}.mask"), np.uint8, (size + 7) // 8)
                _require(not size % 8 or mask[-1] >> size % 8 == 0, "a mask that is too long")
                stored = _core.count_stored(mask, size)
            _require(stored == record["stored"], "another number of stored weights")
            side = np.empty(0, np.uint8)
            if codec.side_bits:
                side = read(f"{name}.side")
            side = _vector(side, np.uint8, (stored * codec.side_bits + 7) // 8)
            if ranges[0].write is None:
                levels = _vector(read(f"{name}.levels"), np.float32, stored)
            else:
                bits = [r.write_bits or 0 for r in ranges]
                room = packed_size(side, stored, codec.sign_bits, bits)
                levels = _vector(read(f"{name}.levels"), np.uint8, room)
            tensor = StoredTensor(name, shape, codec, ranges, levels, side, mask)
            _require(sum(tensor.counts) == stored, "side codes of another number of weights")
            return tensor

    def digital(self, name: str) -> NDArray[Any]:
        """One tensor that is kept digital; bfloat16 as float32."""
        bits, dtype = self.digital_bits(name)
        return widen(bits) if dtype == "BF16" else bits

    def digital_bits(self, name: str) -> tuple[NDArray[Any], str]:
        """One tensor that is kept digital as it is in the file, and its safetensors dtype."""
        key = f"{name}.digital"
        array = self._reader.read(key)
        return array, self._reader.entries[key].dtype

    @contextmanager
    def _consistent(self, name: str | None = None) -> Iterator[None]:
        """Content that is not as specified is a DecodeError, whatever trips over it."""
        try:
            yield
        except (DecodeError, FormatError):
            raise
        except (
            AttributeError,
            LookupError,
            OverflowError,
            RecursionError,
            TypeError,
            ValueError,
        ) as error:
            what = "its description" if name is None else f"tensor {name!r}"
            raise DecodeError(f"{self.path}: {what} is inconsistent: {error}") from error

    def close(self) -> None:
        """Close the file."""
        self._reader.close()

    def __enter__(self) -> StoredFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _StoredWriter(Writer):
    """Writes tensors in cells and digital ones, and the metadata that describe them."""

    def __init__(self, path: PathLike) -> None:
        super().__init__(path)
        self.kind = "model"
        self.cost = total(())
        self._codecs: dict[Codec, int] = {}
        self._records: list[dict[str, Any]] = []
        self._digital: list[str] = []

    def store(self, tensor: StoredTensor) -> None:
        """Append a tensor in cells."""
        self.add(f"{tensor.name}.levels", tensor.levels)
        if tensor.codec.side_bits:
            self.add(f"{tensor.name}.side", tensor.side)
        if tensor.mask is not None:
            self.add(f"{tensor.name}.mask", tensor.mask)
        self._records.append(
            {
                "name": tensor.name,
                "shape": tensor.shape,
                "stored": tensor.stored,
                "masked": tensor.mask is not None,
                "codec": self._codecs.setdefault(tensor.codec, len(self._codecs)),
                "ranges": tensor.ranges,
            }
        )
        self.cost = total([self.cost, tensor.cost])

    def keep(self, name: str, array: NDArray[Any], dtype: str | None = None) -> None:
        """Append a digital tensor."""
        self.add(f"{name}.digital", array, dtype)
        self._digital.append(name)
        self.cost = total([self.cost, digital_cost(array)])

    def _finish(self) -> None:
        described = {
            "kind": self.kind,
            "stream_version": STREAM_VERSION,
            "codecs": [codec.to_dict() for codec in self._codecs],
            "tensors": self._records,
            "digital": self._digital,
        }
        self.metadata |= {
            key: value if isinstance(value, str) else dumps(value)
            for key, value in described.items()
        }
        super()._finish()


def _range_from(values: Sequence[Any]) -> Range:
    threshold, alpha, beta, inv_alpha, shift, cells, write = values
    scales = (threshold, alpha, beta, inv_alpha, shift)
    _require(all(math.isfinite(scale) for scale in scales), "a scale that is not finite")
    converter = None if write is None else Converter(*write)
    return Range(threshold, alpha, beta, inv_alpha, shift, cells, converter)


def _vector(array: NDArray[Any], dtype: type[np.generic], size: int) -> NDArray[Any]:
    _require(
        array.dtype == dtype and array.shape == (size,),
        f"expected {np.dtype(dtype)} of shape ({size},), got {array.dtype} of {array.shape}",
    )
    return array


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise ValueError(what)


def _report(progress: Progress | None, name: str) -> None:
    if progress is not None:
        progress(name)
