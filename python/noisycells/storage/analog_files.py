"""Models in analog cells in files; ``docs/format.md`` specifies the format."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import _arguments
from ..io import Reader, Writer, dumps, narrow
from ..io.dtypes import FLOATS
from ..random import STREAM_VERSION
from .analog import Analog, AnalogModel, AnalogTensor, CellMap
from .analog.loop import Feedback
from .fields import (
    Field,
    check_shape,
    computed,
    described_aliases,
    described_digital,
    json_field,
    stream_version,
)
from .model_files import check_arrays, check_names, naming, read_digital, source_metadata_of
from .schema import check_channel

KIND = "analog"
ENCODER, DECODER = ("values", "targets", "mean"), ("outputs", "decoded")
"""Rows of the tables of a map."""


def write_analog(
    writer: Writer, model: AnalogModel, source_metadata: Mapping[str, str] | None = None
) -> None:
    """Put a model into a file that is being written."""
    check_names(model)
    for name, array in model.digital.items():
        dtype = model.digital_dtypes.get(name)
        writer.add(f"{name}.digital", array if dtype is None else narrow(array, dtype), dtype)
    codecs: list[dict[str, Any]] = []
    records = []
    for name, tensor in model.items():
        described = tensor.codec.to_dict()
        if described not in codecs:
            codecs.append(described)
        records.append(
            {
                "name": name,
                "shape": tensor.shape,
                "dtype": tensor.dtype,
                "codec": codecs.index(described),
                "values": len(tensor.cell_map.values),
                "outputs": len(tensor.cell_map.outputs),
                "feedback": tensor.feedback is not None,
            }
        )
        for key, array in _arrays_of(tensor).items():
            writer.add(f"{name}.{key}", array)
    writer.metadata |= {
        "kind": KIND,
        "stream_version": str(STREAM_VERSION),
        "codecs": dumps(codecs),
        "tensors": dumps(records),
        "digital": dumps(list(model.digital)),
        "aliases": dumps(model.aliases),
    }
    if source_metadata:
        writer.metadata["source_metadata"] = dumps(dict(source_metadata))


def _arrays_of(tensor: AnalogTensor) -> dict[str, NDArray[Any]]:
    found: dict[str, NDArray[Any]] = {
        "values": tensor.values,
        "scales": tensor.scales,
        "encoder": np.stack([getattr(tensor.cell_map, row) for row in ENCODER]),
        "decoder": np.stack([getattr(tensor.cell_map, row) for row in DECODER]),
    }
    if tensor.feedback is not None:
        factor = tensor.feedback.factor
        found["order"] = tensor.feedback.order.astype(np.int32)
        found["factor"] = factor[np.triu_indices(len(factor))]
    return found


def is_analog(reader: Reader) -> bool:
    """Whether a file holds a model in analog cells."""
    return reader.metadata.get("kind") == KIND


def read_analog(reader: Reader) -> AnalogModel:
    """The model of an open file, every field checked.

    Raises
    ------
    DecodeError
        If it is damaged or inconsistent.
    """
    with naming(reader):
        found = _describe(reader)
        expected = {
            key: a for record in found.records.values() for key, a in record.arrays().items()
        }
        check_arrays(reader, expected, found.digital)
        arrays, dtypes = read_digital(reader, found.digital)
        tensors = {name: record.tensor(reader) for name, record in found.records.items()}
        return AnalogModel(tensors, arrays, dtypes, found.aliases)


def count_analog(reader: Reader) -> int:
    """Tensors of the model of an open file, in cells or digital; errors as :func:`read_analog`."""
    with naming(reader):
        found = _describe(reader)
        return len(found.records) + len(found.digital)


class _Described(NamedTuple):
    """What the metadata of a file say."""

    records: dict[str, _Record]
    digital: list[str]
    aliases: dict[str, str]


def _describe(reader: Reader) -> _Described:
    own = {"format", "format_version", "header_crc32", "crc32"}
    needed = {"kind", "stream_version", "codecs", "tensors", "digital", "aliases"}
    more = set(reader.metadata) if reader.newer else {"source_metadata"}
    fields = Field("metadata", dict(reader.metadata)).members(needed | own, more)
    stream_version(fields["stream_version"])
    codecs = [_codec(field) for field in json_field(fields["codecs"]).items()]
    records: dict[str, _Record] = {}
    for item in json_field(fields["tensors"]).items():
        record = _Record(item, codecs)
        if record.name in records:
            item.fail(f"a name of its own, got {record.name!r} again")
        records[record.name] = record
    digital = described_digital(json_field(fields["digital"]), records)
    aliases = described_aliases(json_field(fields["aliases"]), {*records, *digital})
    source_metadata_of(reader)
    return _Described(records, digital, aliases)


def _codec(field: Field) -> Analog:
    if not isinstance(field.value, dict):
        field.fail("an object")
    Field(f"{field.place}.mode", field.value.get("mode")).one_of(Analog.NAME)
    fields = field.members({"mode", *inspect.signature(Analog).parameters})
    check_channel(fields["channel"])
    codec = computed(field, lambda: Analog.from_dict(field.value))
    if codec.to_dict() != field.value:
        field.fail("the fields of docs/format.md, as the codec gives them")
    return codec


class _Record:
    """A tensor as the file describes it."""

    def __init__(self, field: Field, codecs: list[Analog]) -> None:
        names = {"name", "shape", "dtype", "codec", "values", "outputs", "feedback"}
        fields = field.members(names)
        self.name = fields["name"].text()
        self.shape = check_shape(fields["shape"])
        if len(self.shape) < 2 or math.prod(self.shape) == 0:
            fields["shape"].fail("two dimensions or more, none of them 0")
        self.dtype = fields["dtype"].one_of(*FLOATS)
        self.codec = codecs[fields["codec"].integer(0, len(codecs) - 1)]
        self.values = fields["values"].integer(2, 1 << 16)
        self.outputs = fields["outputs"].integer(2, 1 << 16)
        self.feedback = fields["feedback"].boolean()
        self.table = self.shape[0], math.prod(self.shape[1:])

    def arrays(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Keys of arrays with dtype and shape."""
        rows, n = self.table
        found: dict[str, tuple[str, tuple[int, ...]]] = {
            "values": ("F32", (rows, n)),
            "scales": ("F32", (rows,)),
            "encoder": ("F64", (len(ENCODER), self.values)),
            "decoder": ("F64", (len(DECODER), self.outputs)),
        }
        if self.feedback:
            found |= {"order": ("I32", (n,)), "factor": ("F32", (n * (n + 1) // 2,))}
        return {f"{self.name}.{key}": array for key, array in found.items()}

    def tensor(self, reader: Reader) -> AnalogTensor:
        """The tensor, its arrays checked."""
        found = {key: reader.read(key) for key in self.arrays()}
        for key, array in found.items():
            if not np.isfinite(array).all():
                raise _arguments.wrong_value(f"array {key!r}", "finite values", "others")
        get = {key.removeprefix(f"{self.name}."): array for key, array in found.items()}
        for key in ("encoder", "decoder"):
            if (np.diff(get[key][0]) <= 0).any():
                raise _arguments.wrong_value(
                    f"array '{self.name}.{key}'", "an increasing first row", "another"
                )
        feedback = self._feedback(get["order"], get["factor"]) if self.feedback else None
        values, targets, mean = get["encoder"]
        outputs, decoded = get["decoder"]
        cell_map = CellMap(values, targets, outputs, decoded, mean)
        return AnalogTensor(
            self.name, self.shape, self.codec, cell_map, get["scales"], get["values"], feedback,
            self.dtype,
        )  # fmt: skip

    def _feedback(self, order: NDArray[np.int32], packed: NDArray[np.float32]) -> Feedback:
        count = len(order)
        if not np.array_equal(np.sort(order), np.arange(count)):
            raise _arguments.wrong_value(f"array '{self.name}.order'", "a permutation", "another")
        factor = np.zeros((count, count), np.float32)
        factor[np.triu_indices(count)] = packed
        if (np.diag(factor) <= 0).any():
            raise _arguments.wrong_value(
                f"array '{self.name}.factor'", "a diagonal above 0", "another"
            )
        return Feedback(order.astype(np.intp), factor)
