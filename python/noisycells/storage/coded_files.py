"""Models of the coded modes in files; ``docs/format.md`` specifies the format."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import _arguments
from ..bits import pack_bits, unpack_bits
from ..io import DTYPES, DecodeError, Reader, Writer, dumps, narrow, widen
from ..io.dtypes import FLOATS, WITHOUT_NUMPY
from ..random import STREAM_VERSION
from . import blocks
from .blocks import MAX_ROWS, Layout
from .fields import (
    Field,
    check_shape,
    computed,
    described_aliases,
    described_digital,
    described_texts,
    json_field,
    stream_version,
)
from .ldpc import LANES, MAX_DEGREE
from .modes import Coded, CodedModel, CodedTensor, Levels
from .modes.mode import Mode
from .schema import check_channel
from .stored import StoredTensor

KIND = "coded"
MODES: dict[str, type[Mode]] = {mode.NAME: mode for mode in (Coded, Levels)}


def write_coded(
    writer: Writer, model: CodedModel, source_metadata: Mapping[str, str] | None = None
) -> None:
    """Put a model into a file that is being written."""
    names = {*model, *model.digital}
    for alias, name in model.aliases.items():
        if alias in names or name not in names:
            raise _arguments.wrong_value(
                "aliases",
                "further names of tensors",
                f"{alias!r} for {name!r}",
            )
    for name, array in model.digital.items():
        dtype = model.digital_dtypes.get(name)
        writer.add(f"{name}.digital", array if dtype is None else narrow(array, dtype), dtype)
    writer.add("cells", pack_bits(model.cells, model.codec.constellation.bits))
    writer.add("plain", model.plain)
    writer.metadata |= {
        "kind": KIND,
        "stream_version": str(STREAM_VERSION),
        "codec": dumps(model.codec.to_dict()),
        "layout": dumps(list(model.layout)),
        "tensors": dumps(
            [
                {"name": t.name, "shape": t.shape, "stored": t.stored, "dtype": t.dtype}
                for t in model.values()
            ]
        ),
        "digital": dumps(list(model.digital)),
        "aliases": dumps(model.aliases),
    }
    if source_metadata:
        writer.metadata["source_metadata"] = dumps(dict(source_metadata))


def is_coded(reader: Reader) -> bool:
    """Whether a file holds a model of the coded modes."""
    return reader.metadata.get("kind") == KIND


def source_metadata_of(reader: Reader) -> dict[str, str]:
    """Metadata of the file that the model came from."""
    text = reader.metadata.get("source_metadata")
    if text is None:
        return {}
    return described_texts(json_field(Field("metadata.source_metadata", text)))


def read_coded(reader: Reader) -> CodedModel:
    """The model of an open file, every field checked.

    Raises
    ------
    DecodeError
        If it is damaged or inconsistent.
    """
    with _naming(reader):
        return _read(reader)


class _Described(NamedTuple):
    """What the metadata of a file say."""

    codec: Mode
    layout: Layout
    tensors: dict[str, CodedTensor]
    digital: list[str]
    aliases: dict[str, str]


def count_coded(reader: Reader) -> int:
    """Tensors of the model of an open file, in cells or digital; errors as :func:`read_coded`."""
    with _naming(reader):
        found = _describe(reader)
        return len(found.tensors) + len(found.digital)


@contextmanager
def _naming(reader: Reader) -> Iterator[None]:
    """Errors are DecodeErrors that name the file."""
    try:
        yield
    except ValueError as error:
        if str(reader.path) in str(error):
            raise
        raise DecodeError(f"{reader.path}: {error}") from None


def _describe(reader: Reader) -> _Described:
    own = {"format", "format_version", "header_crc32", "crc32"}
    needed = {"kind", "stream_version", "codec", "layout", "tensors", "digital", "aliases"}
    more = set(reader.metadata) if reader.newer else {"source_metadata"}
    fields = Field("metadata", dict(reader.metadata)).members(needed | own, more)
    stream_version(fields["stream_version"])
    codec = _codec(json_field(fields["codec"]))
    layout = _layout(json_field(fields["layout"]))
    tensors: dict[str, CodedTensor] = {}
    for item in json_field(fields["tensors"]).items():
        tensor = _tensor(item)
        if tensor.name in tensors:
            item.fail(f"a name of its own, got {tensor.name!r} again")
        tensors[tensor.name] = tensor
    digital = described_digital(json_field(fields["digital"]), tensors)
    aliases = described_aliases(json_field(fields["aliases"]), {*tensors, *digital})
    source_metadata_of(reader)
    return _Described(codec, layout, tensors, digital, aliases)


def _read(reader: Reader) -> CodedModel:
    codec, layout, tensors, digital, aliases = _describe(reader)
    bits = codec.constellation.bits
    count = layout.cells(bits)
    plain = sum(tensor.stored * codec.plain_cells(tensor) for tensor in tensors.values())
    sizes = {"cells": -(-count * bits // 8), "plain": plain}
    expected = {*sizes, *(f"{name}.digital" for name in digital)}
    found = reader.entries.keys()
    if not expected <= found or (expected < found and not reader.newer):
        raise _arguments.wrong_value("arrays", str(sorted(expected)), sorted(found))
    for key, size in sizes.items():
        entry = reader.entries[key]
        if entry.dtype != "U8" or entry.shape != (size,):
            raise _arguments.wrong_value(
                f"array {key!r}",
                f"U8 of shape ({size},)",
                f"{entry.dtype} of {entry.shape}",
            )
    levels = reader.read("plain")
    for k, digit in enumerate(codec.plain_digits):
        part = levels[k :: len(codec.plain_digits)]
        if part.size and not (digit[0] <= part.min() and part.max() <= digit[-1]):
            raise _arguments.wrong_value(
                "plain",
                f"levels {digit[0]} to {digit[-1]} of digit {k}",
                f"{part.min()} to {part.max()}",
            )
    arrays, dtypes = {}, {}
    for name in digital:
        arrays[name], dtype = _digital(reader, f"{name}.digital")
        if dtype in WITHOUT_NUMPY:
            dtypes[name] = dtype
    packed = reader.read("cells")
    if used := count * bits % 8:
        if packed[-1] >> used:
            raise _arguments.wrong_value("cells", "zeros beyond the last cell", "others")
    cells = unpack_bits(packed, bits, count).astype(np.uint8)
    model = CodedModel(tensors, codec, layout, cells, levels, arrays, dtypes, aliases)
    _check_content(model)
    return model


def _check_content(model: CodedModel) -> None:
    """Check that the cells hold the tensors that are described: they are read without noise."""
    codec, layout = model.codec, model.layout
    computed(Field("layout", list(layout)), layout.code)
    content = blocks.content(model.cells, layout, codec.constellation)
    outputs = codec.channel.mean_at(codec.plain_inputs[model.plain]).astype(np.float32)
    model.decoded(content, outputs)


def _digital(reader: Reader, key: str) -> tuple[NDArray[Any], str]:
    dtype = reader.entries[key].dtype
    if dtype not in DTYPES:
        raise _arguments.wrong_value(f"array {key!r}", "a dtype of numpy", dtype)
    bits = reader.read(key)
    return (widen(bits, dtype) if dtype in WITHOUT_NUMPY else bits), dtype


def _codec(field: Field) -> Mode:
    if not isinstance(field.value, dict):
        field.fail("an object")
    mode = Field(f"{field.place}.mode", field.value.get("mode")).one_of(*MODES)
    names = {"mode", "inputs", *inspect.signature(MODES[mode]).parameters}
    fields = field.members(names)
    check_channel(fields["channel"])
    fields["learnt"].or_null(check_channel)
    codec = computed(field, lambda: MODES[mode].from_dict(field.value))
    if codec.to_dict() != field.value:
        field.fail("the fields of docs/format.md, as the codec gives them")
    return codec


def _layout(field: Field) -> Layout:
    size, blocks, rows, information, lanes = field.items(5)
    found = Layout(
        size.integer(0, 1 << 46),
        blocks.integer(1, 1 << 40),
        rows.integer(4, MAX_ROWS),
        information.integer(1, MAX_ROWS * MAX_DEGREE),
        lanes.integer(LANES, 1 << 16),
    )
    if found.lanes % LANES or not 0 <= found.information * found.lanes - found.used < found.lanes:
        field.fail("a code of the size of its blocks")
    return found


def _tensor(field: Field) -> CodedTensor:
    fields = field.members({"name", "shape", "stored", "dtype"})
    shape = check_shape(fields["shape"])
    stored = fields["stored"].integer(0, math.prod(shape))
    return CodedTensor(fields["name"].text(), shape, stored, fields["dtype"].one_of(*FLOATS))


def as_it_came(tensor: CodedTensor | StoredTensor, read: NDArray[np.float32]) -> NDArray[Any]:
    """What was read, in the dtype that was stored."""
    if tensor.dtype == "F32":
        return read
    try:
        return narrow(read, tensor.dtype)
    except ValueError as error:
        raise ValueError(f"tensor {tensor.name!r}: {error}; nc.load reads it in float32") from None
