"""What files of whole models have in common, whatever their mode."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _arguments
from ..io import DTYPES, DecodeError, Reader, narrow, widen
from ..io.dtypes import WITHOUT_NUMPY
from .analog import AnalogModel, AnalogTensor
from .fields import Field, described_texts, json_field
from .modes import CodedModel, CodedTensor
from .stored import StoredTensor


def check_names(model: CodedModel | AnalogModel) -> None:
    """Refuse aliases of no tensor, or with the name of one."""
    names = {*model, *model.digital}
    for alias, name in model.aliases.items():
        if alias in names or name not in names:
            raise _arguments.wrong_value(
                "aliases", "further names of tensors", f"{alias!r} for {name!r}"
            )


@contextmanager
def naming(reader: Reader) -> Iterator[None]:
    """Errors are DecodeErrors that name the file."""
    try:
        yield
    except ValueError as error:
        if str(reader.path) in str(error):
            raise
        raise DecodeError(f"{reader.path}: {error}") from None


def source_metadata_of(reader: Reader) -> dict[str, str]:
    """Metadata of the file that the model came from."""
    text = reader.metadata.get("source_metadata")
    if text is None:
        return {}
    return described_texts(json_field(Field("metadata.source_metadata", text)))


def check_arrays(
    reader: Reader, expected: Mapping[str, tuple[str, tuple[int, ...]]], digital: Sequence[str]
) -> None:
    """Check that the arrays of a file are those expected, with dtypes and shapes, and digital."""
    keys = {*expected, *(f"{name}.digital" for name in digital)}
    found = reader.entries.keys()
    if not keys <= found or (keys < found and not reader.newer):
        raise _arguments.wrong_value("arrays", str(sorted(keys)), sorted(found))
    for key, (dtype, shape) in expected.items():
        entry = reader.entries[key]
        if entry.dtype != dtype or entry.shape != shape:
            raise _arguments.wrong_value(
                f"array {key!r}", f"{dtype} of shape {shape}", f"{entry.dtype} of {entry.shape}"
            )


def read_digital(
    reader: Reader, names: Sequence[str]
) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Tensors kept digital, and the dtypes of those whose dtype numpy does not have."""
    arrays: dict[str, NDArray[Any]] = {}
    dtypes = {}
    for name in names:
        key = f"{name}.digital"
        dtype = reader.entries[key].dtype
        if dtype not in DTYPES:
            raise _arguments.wrong_value(f"array {key!r}", "a dtype of numpy", dtype)
        bits = reader.read(key)
        arrays[name] = widen(bits, dtype) if dtype in WITHOUT_NUMPY else bits
        if dtype in WITHOUT_NUMPY:
            dtypes[name] = dtype
    return arrays, dtypes


def as_it_came(
    tensor: CodedTensor | StoredTensor | AnalogTensor, read: NDArray[np.float32]
) -> NDArray[Any]:
    """What was read, in the dtype that was stored."""
    if tensor.dtype == "F32":
        return read
    try:
        return narrow(read, tensor.dtype)
    except ValueError as error:
        raise ValueError(f"tensor {tensor.name!r}: {error}; nc.load reads it in float32") from None
