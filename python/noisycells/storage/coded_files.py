"""Models of the coded modes in files; ``docs/format.md`` specifies the format."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _arguments
from .._types import U8
from ..bits import pack_bits, unpack_bits
from ..io import Writer
from ..io.dtypes import FLOATS
from . import blocks
from .blocks import MAX_ROWS, Layout
from .fields import Field, check_shape, computed
from .ldpc import LANES, MAX_DEGREE
from .model_files import ModelFile
from .modes import Coded, CodedModel, CodedTensor, Levels
from .modes.mode import Mode
from .schema import check_channel

__all__ = ["CodedFile"]

MODES: dict[str, type[Mode]] = {mode.NAME: mode for mode in (Coded, Levels)}


class CodedFile(ModelFile[CodedModel]):
    """An open file of a model of the coded modes."""

    KIND = "coded"
    MODEL = CodedModel
    OWN = ("codec", "layout")

    def _describe(self, *own: Field) -> None:
        codec, layout = own
        self.codec, self.layout = _codec(codec), _layout(layout)

    def _tensor(self, field: Field) -> CodedTensor:
        fields = field.members({"name", "shape", "stored", "dtype"})
        shape = check_shape(fields["shape"])
        stored = fields["stored"].integer(0, math.prod(shape))
        dtype = fields["dtype"].one_of(*FLOATS)
        return CodedTensor(fields["name"].text(), shape, stored, dtype=dtype)

    def _arrays(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        bits = self.codec.constellation.bits
        packed = -(-self.layout.cells(bits) * bits // 8)
        plain = sum(t.stored * self.codec.plain_cells(t) for t in self.tensors.values())
        return {"cells": ("U8", (packed,)), "plain": ("U8", (plain,))}

    def _model(self, digital: dict[str, NDArray[Any]], dtypes: dict[str, str]) -> CodedModel:
        codec, layout = self.codec, self.layout
        plain = self.reader.read("plain")
        _check_plain(plain, codec, self.tensors)
        bits = codec.constellation.bits
        count = layout.cells(bits)
        packed = self.reader.read("cells")
        if (used := count * bits % 8) and packed[-1] >> used:
            raise _arguments.wrong_value("cells", "zeros beyond the last cell", "others")
        cells = unpack_bits(packed, bits, count).astype(np.uint8)
        model = CodedModel(
            self.tensors, digital, dtypes, self.aliases,
            codec=codec, layout=layout, cells=cells, plain=plain,
        )  # fmt: skip
        _check_content(model)
        return model

    @classmethod
    def _add(cls, writer: Writer, model: CodedModel) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        writer.add("cells", pack_bits(model.cells, model.codec.constellation.bits))
        writer.add("plain", model.plain)
        tensors = [
            {"name": t.name, "shape": t.shape, "stored": t.stored, "dtype": t.dtype}
            for t in model.values()
        ]
        return {"codec": model.codec.to_dict(), "layout": list(model.layout)}, tensors


def _check_plain(levels: U8, codec: Mode, tensors: Mapping[str, CodedTensor]) -> None:
    """Check that each plain cell has a level of its digit."""
    start = 0
    for tensor in tensors.values():
        digits = codec.plain_digits(tensor)
        count = tensor.stored * len(digits)
        for k, digit in enumerate(digits):
            part = levels[start + k : start + count : len(digits)]
            if part.size and not (digit[0] <= part.min() and part.max() <= digit[-1]):
                raise _arguments.wrong_value(
                    "plain",
                    f"levels {digit[0]} to {digit[-1]} of digit {k}",
                    f"{part.min()} to {part.max()}",
                )
        start += count


def _check_content(model: CodedModel) -> None:
    """Check that the cells hold the tensors that are described: they are read without noise."""
    codec, layout = model.codec, model.layout
    computed(Field("layout", list(layout)), layout.code)
    content = blocks.content(model.cells, layout, codec.constellation)
    outputs = codec.channel.mean_at(codec.plain_inputs[model.plain]).astype(np.float32)
    model.decoded(content, outputs)


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
