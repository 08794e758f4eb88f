"""What the description in a file of a stored model may say, and how it has to fit together.

``docs/format.md`` has the same in words. Every field is checked before anything is computed from
it; an error is a ValueError that names the field, what was expected and what came.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from .. import _core
from .._arguments import wrong_value
from .._types import MAX_CELLS, Converter
from ..channel import Channel
from ..channel.text import spelled
from ..io import Reader
from ..io.dtypes import FLOATS
from .codec import MAX_RANGES, Codec
from .fields import (
    F32_MAX,
    Field,
    brief,
    check_shape,
    computed,
    described_aliases,
    described_digital,
    described_source,
    described_tensors,
    json_field,
    metadata_fields,
    stream_version,
)
from .ranges import Range
from .stored import StoredTensor, packed_size

CLOSE = 1e-5  # relative: how far numbers may differ that follow from each other in float32


@dataclass(frozen=True)
class Record:
    """A tensor in cells, as a file describes it; see :class:`StoredTensor`."""

    name: str
    shape: tuple[int, ...]
    stored: int
    masked: bool
    codec: Codec
    ranges: tuple[Range, ...]
    dtype: str

    @property
    def size(self) -> int:
        """Number of weights, pruned ones included."""
        return math.prod(self.shape)

    def arrays(self) -> dict[str, tuple[str, tuple[int | None, ...]]]:
        """Keys, dtypes and shapes of the arrays in the file; None where side codes decide."""
        bits = self.codec.side_bits
        exact = self.ranges[0].write is None
        found: dict[str, tuple[str, tuple[int | None, ...]]] = {
            f"{self.name}.levels": ("F32", (self.stored,)) if exact else ("U8", (None,))
        }
        if bits:
            found[f"{self.name}.side"] = ("U8", (-(-self.stored * bits // 8),))
        if self.masked:
            found[f"{self.name}.mask"] = ("U8", (-(-self.size // 8),))
        return found


@dataclass(frozen=True)
class Description:
    """What a file holds.

    Attributes
    ----------
    kind : "tensor" or "model"
    stream_version : int
        Of the random streams when the file was written.
    records : dict of str to Record
        Tensors in cells.
    digital : list of str
        Tensors that are kept digital.
    aliases : dict of str to str
        Further names of tensors.
    source_metadata : dict of str to str
        Metadata of the safetensors file that the model came from.
    """

    kind: str
    stream_version: int
    records: dict[str, Record]
    digital: list[str]
    aliases: dict[str, str]
    source_metadata: dict[str, str]

    def arrays(self) -> dict[str, tuple[str, tuple[int | None, ...]]]:
        """Keys of the arrays of tensors in cells, with dtype and shape, as for check_arrays."""
        return {key: a for record in self.records.values() for key, a in record.arrays().items()}


def describe(reader: Reader) -> Description:
    """Check and take apart the metadata of a file."""
    major = reader.version[0]
    needed = {"kind", "stream_version", "codecs", "tensors", "digital"}
    if major > 1:
        needed |= {"aliases"}
    fields = metadata_fields(reader, needed, {"source_metadata"})
    codecs = [_codec(field) for field in json_field(fields["codecs"]).items()]
    kind = fields["kind"].one_of("tensor", "model")
    records = described_tensors(
        json_field(fields["tensors"]), lambda field: _record(field, codecs, major)
    )
    digital = described_digital(json_field(fields["digital"]), records)
    if kind == "tensor" and (len(records) != 1 or digital):
        fields["kind"].fail("'model' where there is not one tensor in cells alone")
    names = {*records, *digital}
    return Description(
        kind,
        stream_version(fields["stream_version"]),
        records,
        digital,
        described_aliases(json_field(fields["aliases"]), names) if "aliases" in fields else {},
        described_source(fields),
    )


# --------------------------------------------------------------------------- tensors in cells


def _record(field: Field, codecs: list[Codec], major: int) -> Record:
    names = {"name", "shape", "stored", "masked", "codec", "ranges"}
    fields = field.members(names | {"dtype"} if major > 1 else names)
    shape = check_shape(fields["shape"])
    masked = fields["masked"].boolean()
    size = math.prod(shape)
    codec = codecs[fields["codec"].integer(0, len(codecs) - 1)]
    return Record(
        fields["name"].text(),
        shape,
        fields["stored"].integer(0 if masked else size, size),
        masked,
        codec,
        _ranges(fields["ranges"], codec),
        fields["dtype"].one_of(*FLOATS) if "dtype" in fields else "F32",
    )


def _ranges(field: Field, codec: Codec) -> tuple[Range, ...]:
    items = field.items(codec.ranges)
    ranges = tuple(_range(item) for item in items)
    for k, r in enumerate(ranges):
        if codec.mean_cells is None and r.cells != codec.cells[k]:
            items[k].fail(f"the codec's {codec.cells[k]} cells")
        _check_converter(items[k], r.write, codec, k)
    if any(a.threshold > b.threshold for a, b in pairwise(ranges)):
        field.fail("thresholds in ascending order")
    computed(field, lambda: codec.tables(ranges))
    return ranges


def _range(field: Field) -> Range:
    items = field.items(7)
    threshold, alpha = (item.number(0, F32_MAX) for item in items[:2])
    beta, inv_alpha, shift = (item.number(-F32_MAX, F32_MAX) for item in items[2:5])
    if alpha == 0:
        agree = inv_alpha == 0
    else:
        agree = math.isclose(alpha * inv_alpha, 1, rel_tol=CLOSE) and math.isclose(
            shift, beta / alpha, rel_tol=CLOSE, abs_tol=1e-40
        )
    if not agree:
        field.fail("inv_alpha = 1 / alpha and shift = beta / alpha, or both alphas 0")
    return Range(
        threshold,
        alpha,
        beta,
        inv_alpha,
        shift,
        items[5].integer(1, MAX_CELLS),
        items[6].or_null(_converter),
    )


def _converter(field: Field) -> Converter:
    low, step, inv_step, levels = field.items(4)
    return Converter(
        low.number(-F32_MAX, F32_MAX),
        step.number(0, F32_MAX),
        inv_step.number(0, F32_MAX),
        levels.integer(2, 1 << 16),
    )


def _check_converter(field: Field, write: Converter | None, codec: Codec, k: int) -> None:
    """Check that the write converter of range ``k`` is one of the codec's channel."""
    if (write is None) != (codec.write_bits is None):
        field.fail("a write converter where the codec has one")
    if write is None or codec.write_bits is None:
        return
    bits = write.levels.bit_length() - 1
    most = codec.channel.write_bits or 16
    if write.levels != 1 << bits or bits > most:
        field.fail(f"2 to {1 << most} levels, a power of two")
    if codec.write_bits != "auto" and bits != codec.write_bits[k]:
        field.fail(f"the codec's {codec.write_bits[k]} write bits")
    expected = codec.channel.write_converter(bits)
    slack = CLOSE * expected.step * write.levels
    if not (
        math.isclose(write.lo, expected.lo, abs_tol=slack)
        and math.isclose(write.step, expected.step, rel_tol=CLOSE)
        and math.isclose(write.inv_step, expected.inv_step, rel_tol=CLOSE)
    ):
        field.fail(f"the write converter of the channel, {tuple(expected)}")


def check_content(tensor: StoredTensor, stored: int) -> None:
    """Check that the arrays of a tensor hold ``stored`` weights, in codes and inputs that are.

    ValueError if they do not. Dtypes and lengths are as :meth:`Record.arrays` says.
    """
    mask, side, codec = tensor.mask, tensor.side, tensor.codec
    if mask is not None:
        if tensor.size % 8 and mask[-1] >> tensor.size % 8:
            raise wrong_value("mask", "zeros beyond the last weight", "others")
        if (found := _core.count_stored(mask, tensor.size)) != stored:
            raise wrong_value("mask", f"{stored} weights", found)
    used = stored * codec.side_bits % 8
    if used and side[-1] >> used:
        raise wrong_value("side", "zeros beyond the last code", "others")
    if sum(tensor.counts) != stored:  # of codes that name no range, a ValueError
        raise wrong_value("side", f"codes of {stored} weights", sum(tensor.counts))
    if tensor.ranges[0].write is not None:
        bits = [r.write_bits or 0 for r in tensor.ranges]
        length = packed_size(side, stored, codec.sign_bits, bits)
        if len(tensor.levels) != length:
            raise wrong_value("levels", f"{length} bytes", len(tensor.levels))
    elif stored:
        low, high = codec.learnt.branch
        slack = CLOSE * (high - low)
        least, most = float(tensor.levels.min()), float(tensor.levels.max())
        if not low - slack <= least <= most <= high + slack:
            inside = f"inputs from {low:g} to {high:g}"
            raise wrong_value("levels", inside, f"{least:g} to {most:g}")


# --------------------------------------------------------------------------- codecs


def _codec(field: Field) -> Codec:
    fields = field.members(
        {
            "channel", "inverse", "sign_protection", "adaptive_mapping", "thresholds", "ranges",
            "cells", "mean_cells", "scope", "write_bits", "literal",
        }
    )  # fmt: skip
    check_channel(fields["channel"])
    fields["inverse"].or_null(check_channel)
    for name in ("sign_protection", "adaptive_mapping"):
        fields[name].boolean()
    fields["literal"].or_null(Field.boolean)
    fields["scope"].one_of("tensor", "model")
    fields["ranges"].integer(1, MAX_RANGES)
    if fields["thresholds"].value != "auto":
        for item in fields["thresholds"].items():
            item.number(0)
    if fields["mean_cells"].or_null(lambda mean: mean.number(1, MAX_CELLS)) is None:
        for item in fields["cells"].items():
            item.integer(1, MAX_CELLS)
    else:
        fields["cells"].integer(1, 1)
    if fields["write_bits"].value != "auto":
        fields["write_bits"].or_null(lambda bits: [n.integer(1, 16) for n in bits.items()])
    codec = computed(field, lambda: Codec.from_dict(_arguments(fields)))
    _check_unchanged(fields, codec.to_dict(), {"channel", "inverse"})
    return codec


def _arguments(fields: Mapping[str, Field]) -> dict[str, Any]:
    """Arguments of a codec; it sets the number of ranges itself where mapping is not adaptive."""
    values = {name: field.value for name, field in fields.items()}
    if not values["adaptive_mapping"] and values["ranges"] != 1:
        fields["ranges"].fail("1 where there is no adaptive mapping")
    return values


def check_channel(field: Field) -> None:
    """Check that a field is a channel as :meth:`Channel.to_dict` gives it."""
    lists = {"x", "mean", "std"}
    texts = {"name", "source", "license"}
    numbers = {"branch", "stuck", "d2d_std"}
    others = {"read_std", "write_bits", "read_bits", "synthetic", "goodness"}
    if isinstance(field.value, dict):
        field = Field(field.place, spelled(field.value))
    fields = field.members(lists | texts | numbers | others)
    for name in lists:
        _numbers(fields[name])
    fields["read_std"].or_null(_numbers)
    for name in texts:
        fields[name].text()
    fields["synthetic"].boolean()
    fields["branch"].or_null(lambda branch: [end.number() for end in branch.items(2)])
    for part in fields["stuck"].items(2):
        part.number(0, 1)
    fields["d2d_std"].number(0, F32_MAX)
    for name in ("write_bits", "read_bits"):
        fields[name].or_null(lambda bits: bits.integer(1, 16))
    fields["goodness"].or_null(_goodness)
    channel = computed(field, lambda: Channel.from_dict(field.value))
    computed(field, lambda: (channel.tables, channel.inverse_table()))
    _check_unchanged(fields, channel.to_dict(), set())


def _numbers(field: Field) -> None:
    for item in field.items():
        item.number(-F32_MAX, F32_MAX)


def _goodness(field: Field) -> None:
    if not isinstance(field.value, dict):
        field.fail("an object")
    for key, value in field.value.items():
        Field(f"{field.place}.{key}", value).or_null(Field.number)


def _check_unchanged(fields: Mapping[str, Field], made: Mapping[str, Any], but: set[str]) -> None:
    """Check that an object made of fields has their values, and not others that it prefers."""
    for name in fields.keys() - but:
        if made[name] != fields[name].value:
            fields[name].fail(f"{brief.repr(made[name])} with the other fields")
