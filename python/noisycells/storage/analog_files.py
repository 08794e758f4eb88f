"""Models in analog cells in files; ``docs/format.md`` specifies the format."""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _arguments
from ..io import Reader, Writer
from ..io.dtypes import FLOATS
from .analog import Analog, AnalogModel, AnalogTensor, CellMap
from .analog.loop import Feedback
from .fields import Field, check_shape, computed
from .model_files import ModelFile
from .schema import check_channel

__all__ = ["AnalogFile"]

ENCODER, DECODER = ("values", "targets", "mean"), ("outputs", "decoded")
"""Rows of the tables of a map."""


class AnalogFile(ModelFile[AnalogModel]):
    """An open file of a model in analog cells."""

    KIND = "analog"
    MODEL = AnalogModel
    OWN = ("codecs",)

    def _describe(self, *own: Field) -> None:
        (codecs,) = own
        self.codecs = [_codec(field) for field in codecs.items()]

    def _tensor(self, field: Field) -> _Record:
        return _Record(field, self.codecs)

    def _arrays(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        return {key: a for record in self.tensors.values() for key, a in record.arrays().items()}

    def _model(self, digital: dict[str, NDArray[Any]], dtypes: dict[str, str]) -> AnalogModel:
        tensors = {name: record.tensor(self.reader) for name, record in self.tensors.items()}
        return AnalogModel(tensors, digital, dtypes, self.aliases)

    @classmethod
    def _add(
        cls, writer: Writer, model: AnalogModel
    ) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        codecs: list[dict[str, Any]] = []
        records = []
        for name, tensor in model.items():
            codec = tensor.codec.to_dict()
            if codec not in codecs:
                codecs.append(codec)
            records.append(
                {
                    "name": name,
                    "shape": tensor.shape,
                    "dtype": tensor.dtype,
                    "codec": codecs.index(codec),
                    "values": len(tensor.cell_map.values),
                    "outputs": len(tensor.cell_map.outputs),
                    "feedback": tensor.feedback is not None,
                }
            )
            for key, array in _arrays_of(tensor).items():
                writer.add(f"{name}.{key}", array)
        return {"codecs": codecs}, records


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
            dtype=self.dtype,
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
