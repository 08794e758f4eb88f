"""Files of models; what they have in common, whatever the mode."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from .. import _arguments
from ..io import DTYPES, DecodeError, Reader, Writer, dumps, narrow
from ..io.dtypes import WITHOUT_NUMPY, numbers
from ..random import STREAM_VERSION
from .fields import (
    Field,
    brief,
    described_aliases,
    described_digital,
    described_source,
    described_tensors,
    json_field,
    metadata_fields,
    stream_version,
)
from .model import ModelInCells, TensorInCells

__all__ = [
    "ModelFile",
    "as_it_came",
    "check_aliases",
    "check_arrays",
    "described",
    "digital_bits",
    "naming",
    "read_digital",
]

_Model = TypeVar("_Model", bound=ModelInCells[Any])


class ModelFile(ABC, Generic[_Model]):
    """An open file of a model that is read as a whole; its description is checked.

    Attributes
    ----------
    tensors : dict of str to object
        Tensors in cells, as they are described.
    digital : list of str
        Names of the tensors that are kept digital.
    aliases : dict of str to str
        Further names of tensors.
    source_metadata : dict of str to str
        Metadata of the safetensors file that the model came from.

    Raises
    ------
    DecodeError
        If the file is damaged or inconsistent.
    """

    KIND: ClassVar[str]
    """What the metadata call it."""
    MODEL: ClassVar[type[ModelInCells[Any]]]
    OWN: ClassVar[tuple[str, ...]]
    """Fields of the metadata that other kinds do not have."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        with naming(reader):
            needed = {"kind", "stream_version", "tensors", "digital", "aliases", *self.OWN}
            fields = metadata_fields(reader, needed, {"source_metadata"})
            stream_version(fields["stream_version"])
            self._describe(*(json_field(fields[name]) for name in self.OWN))
            self.tensors = described_tensors(json_field(fields["tensors"]), self._tensor)
            self.digital = described_digital(json_field(fields["digital"]), self.tensors)
            names = {*self.tensors, *self.digital}
            self.aliases = described_aliases(json_field(fields["aliases"]), names)
            self.source_metadata = described_source(fields)

    def __len__(self) -> int:
        return len(self.tensors) + len(self.digital)

    def model(self) -> _Model:
        """The model, every array checked; DecodeError if it is not as described."""
        with naming(self.reader):
            check_arrays(self.reader, self._arrays(), self.digital)
            return self._model(*read_digital(self.reader, self.digital))

    @classmethod
    def write(
        cls, writer: Writer, model: _Model, source_metadata: Mapping[str, str] | None = None
    ) -> None:
        """Put a model into a file that is being written."""
        check_aliases(model.aliases, {*model, *model.digital})
        for name, bits, dtype in digital_bits(model):
            writer.add(f"{name}.digital", bits, dtype)
        own, tensors = cls._add(writer, model)
        writer.metadata |= described(cls.KIND, own, tensors, list(model.digital), model.aliases)
        if source_metadata:
            writer.metadata["source_metadata"] = dumps(dict(source_metadata))

    @abstractmethod
    def _describe(self, *own: Field) -> None:
        """Check and keep the fields that other kinds do not have."""

    @abstractmethod
    def _tensor(self, field: Field) -> Any:
        """A tensor as it is described; has its ``name``."""

    @abstractmethod
    def _arrays(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Keys of the arrays of tensors in cells, with dtype and shape."""

    @abstractmethod
    def _model(self, digital: dict[str, NDArray[Any]], dtypes: dict[str, str]) -> _Model:
        """The model, with digital tensors and the dtypes of those that numpy does not have."""

    @classmethod
    @abstractmethod
    def _add(cls, writer: Writer, model: _Model) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Append the arrays; the fields of ``OWN``, and what the tensors are described as."""


def described(
    kind: str,
    own: Mapping[str, Any],
    tensors: Sequence[Mapping[str, Any]],
    digital: Sequence[str],
    aliases: Mapping[str, str],
) -> dict[str, str]:
    """Metadata of a file, but for those of its source."""
    return {
        "kind": kind,
        "stream_version": str(STREAM_VERSION),
        **{name: dumps(value) for name, value in own.items()},
        "tensors": dumps(tensors),
        "digital": dumps(digital),
        "aliases": dumps(aliases),
    }


def check_aliases(aliases: Mapping[str, str], names: Collection[str]) -> None:
    """Refuse aliases of no tensor, or with the name of one."""
    for alias, name in aliases.items():
        if alias in names or name not in names:
            raise _arguments.wrong_value(
                "aliases", "further names of tensors", f"{alias!r} for {name!r}"
            )


@contextmanager
def naming(reader: Reader, place: str = "") -> Iterator[None]:
    """Errors are DecodeErrors that name the file, and a place in it."""
    try:
        yield
    except ValueError as error:
        if str(reader.path) in str(error):
            raise
        raise DecodeError(f"{reader.path}: {place}{error}") from None


def check_arrays(
    reader: Reader,
    expected: Mapping[str, tuple[str, tuple[int | None, ...]]],
    digital: Sequence[str],
) -> None:
    """Check that the arrays of a file are those expected, and digital ones.

    ``expected`` has dtype and shape, None for a length that only what is in the file decides.
    """
    keys = {*expected, *(f"{name}.digital" for name in digital)}
    missing = sorted(keys - reader.entries.keys())
    unknown = [] if reader.newer else sorted(reader.entries.keys() - keys)
    if missing or unknown:
        wrong = f"missing: {brief.repr(missing)}, unknown: {brief.repr(unknown)}"
        raise _arguments.wrong_value("arrays", "those that are described", wrong)
    for name in digital:
        key = f"{name}.digital"
        if (dtype := reader.entries[key].dtype) not in DTYPES:
            raise _arguments.wrong_value(f"array {key!r}", "a dtype of numpy", dtype)
    for key, (dtype, shape) in expected.items():
        found = reader.entries[key]
        same = len(found.shape) == len(shape) and all(
            length in (None, of) for length, of in zip(shape, found.shape, strict=True)
        )
        if found.dtype != dtype or not same:
            right = str(shape).replace("None", "n")
            raise _arguments.wrong_value(
                f"array {key!r}", f"{dtype} of shape {right}", f"{found.dtype} of {found.shape}"
            )


def digital_bits(model: ModelInCells[Any]) -> Iterator[tuple[str, NDArray[Any], str | None]]:
    """Names of the tensors kept digital, what files have of them, and dtypes not of numpy."""
    for name, array in model.digital.items():
        dtype = model.digital_dtypes.get(name)
        yield name, array if dtype is None else narrow(array, dtype), dtype


def read_digital(
    reader: Reader, names: Sequence[str]
) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Tensors kept digital, and the dtypes of those whose dtype numpy does not have."""
    arrays: dict[str, NDArray[Any]] = {}
    dtypes = {}
    for name in names:
        key = f"{name}.digital"
        dtype = reader.entries[key].dtype
        arrays[name] = numbers(reader.read(key), dtype)
        if dtype in WITHOUT_NUMPY:
            dtypes[name] = dtype
    return arrays, dtypes


def as_it_came(tensor: TensorInCells, read: NDArray[np.float32]) -> NDArray[Any]:
    """What was read, in the dtype that was stored."""
    if tensor.dtype == "F32":
        return read
    try:
        return narrow(read, tensor.dtype)
    except ValueError as error:
        raise ValueError(f"tensor {tensor.name!r}: {error}; nc.load reads it in float32") from None
