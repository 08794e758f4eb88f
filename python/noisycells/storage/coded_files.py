"""Models of the coded modes in files; ``docs/format.md`` specifies the format."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from .. import _arguments
from ..bits import pack_bits, unpack_bits
from ..io import Reader, Writer, dumps, narrow
from ..io.dtypes import FLOATS
from ..random import STREAM_VERSION
from .blocks import Layout
from .fields import (
    Field,
    check_shape,
    computed,
    described_aliases,
    described_digital,
    json_field,
    stream_version,
)
from .ldpc import LANES, MAX_DEGREE
from .model_files import check_arrays, check_names, read_digital, source_metadata_of, wrapped
from .modes import Coded, CodedModel, CodedTensor, Levels
from .modes.mode import Mode

KIND = "coded"
MODES: dict[str, type[Mode]] = {mode.NAME: mode for mode in (Coded, Levels)}


def write_coded(
    writer: Writer, model: CodedModel, source_metadata: Mapping[str, str] | None = None
) -> None:
    """Put a model into a file that is being written."""
    check_names(model)
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


def read_coded(reader: Reader) -> CodedModel:
    """The model of an open file, every field checked.

    Raises
    ------
    DecodeError
        If it is damaged or inconsistent.
    """
    return wrapped(reader, _read)


def _read(reader: Reader) -> CodedModel:
    own = {"format", "format_version", "header_crc32", "crc32"}
    needed = {"kind", "stream_version", "codec", "layout", "tensors", "digital", "aliases"}
    fields = Field("metadata", dict(reader.metadata)).members(needed | own, {"source_metadata"})
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
    bits = codec.constellation.bits
    count = layout.cells(bits)
    plain = sum(tensor.stored * codec.plain_cells(tensor) for tensor in tensors.values())
    sizes = {"cells": -(-count * bits // 8), "plain": plain}
    check_arrays(reader, {key: ("U8", (size,)) for key, size in sizes.items()}, digital)
    levels = reader.read("plain")
    if levels.size and levels.max() >= len(codec.plain_inputs):
        raise _arguments.wrong_value(
            "plain",
            f"levels below {len(codec.plain_inputs)}",
            levels.max(),
        )
    arrays, dtypes = read_digital(reader, digital)
    cells = unpack_bits(reader.read("cells"), bits, count).astype(np.uint8)
    return CodedModel(tensors, codec, layout, cells, levels, arrays, dtypes, aliases)


def _codec(field: Field) -> Mode:
    if not isinstance(field.value, dict):
        field.fail("an object")
    mode = Field(f"{field.place}.mode", field.value.get("mode")).one_of(*MODES)
    codec = computed(field, lambda: MODES[mode].from_dict(field.value))
    if codec.to_dict() != field.value:
        field.fail("the fields of docs/format.md, as the codec gives them")
    return codec


def _layout(field: Field) -> Layout:
    size, blocks, rows, information, lanes = field.items(5)
    found = Layout(
        size.integer(0, 1 << 46),
        blocks.integer(1, 1 << 40),
        rows.integer(4, 64),
        information.integer(1, 64 * MAX_DEGREE),
        lanes.integer(LANES, 1 << 16),
    )
    if found.lanes % LANES or not 0 <= found.information * found.lanes - found.used < found.lanes:
        field.fail("a code of the size of its blocks")
    computed(field, found.code)
    return found


def _tensor(field: Field) -> CodedTensor:
    fields = field.members({"name", "shape", "stored", "dtype"})
    shape = check_shape(fields["shape"])
    stored = fields["stored"].integer(0, math.prod(shape))
    return CodedTensor(fields["name"].text(), shape, stored, fields["dtype"].one_of(*FLOATS))
