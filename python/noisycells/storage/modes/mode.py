"""What the modes behind an error-correcting code have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ... import _arguments
from ..._types import F64, U8
from ...channel import Channel
from ...devices import CellLike, cell
from .. import blocks
from ..arrays import Source, prepare
from ..constellation import Constellation
from .model import CodedModel, CodedTensor
from .sections import join

SCALES = 8.0
"""Tensors of one dimension, such as biases, have so many times finer steps: they are few."""

_Self = TypeVar("_Self", bound="Mode")


class Matrix(NamedTuple):
    """A tensor on its way into cells, as a matrix."""

    entry: CodedTensor
    weights: F64
    mask: NDArray[np.bool_] | None
    sensitivity: float | None
    moments: F64 | None

    @property
    def rms(self) -> float:
        """Root mean square of the weights that are stored."""
        kept = self.weights if self.mask is None else self.weights[self.mask]
        return float(np.sqrt((kept**2).mean())) if kept.size else 0.0


class Mode(ABC):
    """Storage of a model in cells of some levels, what must not be wrong behind a code.

    Subclasses say how a tensor becomes bytes and levels of plain cells, and back.
    """

    NAME: ClassVar[str]

    def __init__(
        self,
        channel: CellLike,
        learnt: CellLike | None,
        levels: int | str,
        noise_margin: float,
        failure: float,
        reads: int,
    ) -> None:
        self.channel = cell(channel, "channel")
        self.learnt = None if learnt is None else cell(learnt, "learnt")
        self.levels = _arguments.choice("levels", levels, ("auto", 2, 4, 8))
        self.noise_margin = _arguments.number("noise_margin", noise_margin, 1)
        self.failure = _arguments.number("failure", failure, 1e-12, 0.5)
        self.reads = _arguments.integer("reads", reads, 1, 256)

    @property
    def assumed(self) -> Channel:
        """The channel as the encoder knows it."""
        return self.channel if self.learnt is None else self.learnt

    @cached_property
    def constellation(self) -> Constellation:
        """The levels of the cells behind the code."""
        if self.levels != "auto":
            return Constellation.design(self.assumed, int(self.levels))
        most = 8 if self.assumed.write_bits is None else 1 << self.assumed.write_bits
        counts = [count for count in (2, 4, 8) if count <= most]
        return max((Constellation.design(self.assumed, n) for n in counts), key=self._rate)

    def _rate(self, constellation: Constellation) -> float:
        """Bits a cell of a long block."""
        bits = constellation.bits
        each = self.seen(constellation, 1, self.noise_margin).information / bits
        return bits * blocks.best_rate(each, blocks.LONGEST, self.failure)

    def seen(self, constellation: Constellation, reads: int, noise: float = 1.0) -> Constellation:
        """What the levels are expected to read as, in the mean of some reads."""
        inputs = constellation.inputs.astype(np.float64)
        return Constellation.at(self.assumed, inputs, reads, noise)

    def encode(
        self,
        weights: Mapping[str, ArrayLike],
        mask: Mapping[str, ArrayLike] | str | None = None,
        sensitivity: Mapping[str, ArrayLike] | None = None,
        *,
        moments: Mapping[str, ArrayLike] | None = None,
        overrides: Mapping[str, Any] | None = None,
        digital: Mapping[str, ArrayLike] | None = None,
    ) -> CodedModel:
        """Store the tensors of a model.

        Parameters
        ----------
        weights : mapping of str to array_like of float16, float32 or float64
        mask : mapping of str to array_like of bool, or "nonzero", optional
            Weights to store; the others read back as 0.
        sensitivity : mapping of str to array_like, optional
            What a squared error of each weight counts; of each tensor the mean is used.
        moments : mapping of str to ndarray of shape (inputs, inputs), optional
            Second moments of a layer's inputs, such as
            :func:`noisycells.torch.input_moments` returns: rounding errors are fed back with
            them. Tensors without are rounded weight by weight.
        overrides : mapping of str to a codec of this class, optional
            How names that match a pattern (``fnmatch``) are rounded, the first that does; cells
            and code are those of this one.
        digital : mapping of str to array_like, optional
            Tensors to keep digital with the model.

        Raises
        ------
        TypeError
            If weights are not floating-point numbers or masks not boolean.
        ValueError
            If a weight is not finite, shapes disagree, or a name is of no tensor.
        """
        if not isinstance(weights, Mapping):
            raise _arguments.wrong_type("weights", "a mapping of names to arrays", weights)
        if not weights:
            raise _arguments.wrong_value("weights", "at least one tensor", "none")
        kept = {name: np.asarray(value) for name, value in (digital or {}).items()}
        if both := sorted(kept.keys() & weights.keys()):
            raise _arguments.wrong_value("digital", "names that are not in cells", both)
        matrices = _matrices(weights, mask, sensitivity, moments)
        codecs = self._assign(list(weights), overrides or {})
        sections: list[bytes] = []
        plain = []
        for matrix, scale in zip(matrices, _scales(matrices), strict=True):
            made, levels = codecs[matrix.entry.name].encode_tensor(matrix, scale)
            sections += made
            plain.append(levels)
        content = join(sections)
        constellation = self.constellation
        bits = constellation.bits
        each = self.seen(constellation, 1, self.noise_margin).information / bits
        layout = blocks.plan(len(content), each, self.failure)
        return CodedModel(
            {matrix.entry.name: matrix.entry for matrix in matrices},
            self,
            layout,
            blocks.write(content, layout, constellation),
            np.concatenate(plain),
            kept,
        )

    def _assign(self: _Self, names: Sequence[str], overrides: Mapping[str, Any]) -> dict[str, Any]:
        unused = set(overrides)
        found: dict[str, Any] = {}
        for name in names:
            matching = [pattern for pattern in overrides if fnmatchcase(name, pattern)]
            unused -= set(matching)
            found[name] = overrides[matching[0]] if matching else self
            if type(found[name]) is not type(self):
                raise _arguments.wrong_type("overrides", type(self).__name__, found[name])
            if not self.can_read(found[name]):
                raise _arguments.wrong_value("overrides", "cells as of this codec", found[name])
        if unused:
            expected = "patterns that match a tensor"
            raise _arguments.wrong_value("overrides", expected, sorted(unused))
        return found

    @property
    @abstractmethod
    def plain_inputs(self) -> NDArray[np.float32]:
        """Inputs of the levels of cells without a code."""

    @property
    @abstractmethod
    def plain_digits(self) -> Sequence[range]:
        """Which of these levels each of the cells of a weight may have."""

    @abstractmethod
    def plain_cells(self, tensor: CodedTensor) -> int:
        """Cells without a code of each stored weight."""

    @abstractmethod
    def encode_tensor(self, matrix: Matrix, scale: float) -> tuple[list[bytes], U8]:
        """Sections of the content, and levels of plain cells; ``scale`` is the unit of steps."""

    @abstractmethod
    def decode_tensor(
        self, tensor: CodedTensor, sections: Iterator[bytes], outputs: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """The tensor from its sections and the outputs of its plain cells."""

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """The arguments besides the channels, as JSON knows them."""

    def can_read(self, other: Any) -> bool:
        """Whether this codec reads what ``other``, of its class, has encoded."""
        return True

    def code_options(self) -> dict[str, Any]:
        """The arguments of the cells behind the code."""
        return {
            "levels": self.levels,
            "noise_margin": self.noise_margin,
            "failure": self.failure,
            "reads": self.reads,
        }

    def to_dict(self) -> dict[str, Any]:
        """All parameters, channels and levels included, as JSON knows them."""
        return {
            "mode": self.NAME,
            "channel": self.channel.to_dict(),
            "learnt": None if self.learnt is None else self.learnt.to_dict(),
            "inputs": self.constellation.inputs.astype(float).tolist(),
            **self.options(),
        }

    @classmethod
    def from_dict(cls: type[_Self], values: Mapping[str, Any]) -> _Self:
        """The codec of a :meth:`to_dict`; ValueError, KeyError or TypeError if it is not one."""
        learnt = values["learnt"]
        channel = Channel.from_dict(values["channel"])
        others = {"mode", "channel", "learnt", "inputs"}
        options = {name: value for name, value in values.items() if name not in others}
        made = cls(channel, None if learnt is None else Channel.from_dict(learnt), **options)
        inputs = np.array(values["inputs"], np.float64)
        if inputs.ndim != 1 or len(inputs) not in (2, 4, 8) or not np.isfinite(inputs).all():
            raise _arguments.wrong_value("inputs", "2, 4 or 8 numbers", inputs.shape)
        made.constellation = Constellation.at(made.assumed, inputs)
        return made

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in self.options().items())
        learnt = "" if self.learnt is None else f", learnt={self.learnt!r}"
        return f"{type(self).__name__}({self.channel!r}{learnt}, {options})"


def _matrices(
    weights: Mapping[str, ArrayLike],
    mask: Mapping[str, ArrayLike] | str | None,
    sensitivity: Mapping[str, ArrayLike] | None,
    moments: Mapping[str, ArrayLike] | None,
) -> list[Matrix]:
    masks = dict.fromkeys(weights, mask) if isinstance(mask, str) else mask or {}
    for name, given in (("mask", masks), ("sensitivity", sensitivity), ("moments", moments)):
        if unknown := sorted(set(given or ()) - set(weights)):
            raise _arguments.wrong_value(name, "names of weights", unknown)
    found = []
    for name, array in weights.items():
        source = prepare(name, array, masks.get(name), (sensitivity or {}).get(name))
        found.append(_matrix(source, (moments or {}).get(name)))
    return found


def _matrix(source: Source, moments: ArrayLike | None) -> Matrix:
    if not np.isfinite(source.weights).all():
        raise _arguments.wrong_value(f"weights {source.name!r}", "finite values", "NaN or infinity")
    entry = CodedTensor(source.name, source.shape, source.weights.size, source.dtype)
    weights = source.weights.astype(np.float64).reshape(entry.table)
    kept = None
    if source.mask is not None:
        bits = np.unpackbits(source.mask, count=weights.size, bitorder="little")
        kept = bits.astype(bool).reshape(entry.table)
        entry = CodedTensor(entry.name, entry.shape, int(kept.sum()), entry.dtype)
    sensitivity = None if source.sensitivity is None else float(np.mean(source.sensitivity))
    found: F64 | None = None
    if moments is not None:
        found = np.asarray(moments, np.float64)
        inputs = entry.table[1]
        if found.shape != (inputs, inputs) or not np.isfinite(found).all():
            raise _arguments.wrong_value(
                f"moments {entry.name!r}",
                f"finite numbers of shape {(inputs, inputs)}",
                found.shape,
            )
    return Matrix(entry, weights, kept, sensitivity, found)


def _scales(matrices: Sequence[Matrix]) -> list[float]:
    """What each tensor's step is in units of.

    Without sensitivities, the root mean square of its weights. With them the steps make errors
    count the same in all tensors, which spends bits best, and their sum is that of the former.
    """
    sizes = np.array([matrix.entry.stored for matrix in matrices], np.float64)
    rms = np.array([matrix.rms for matrix in matrices])
    known = np.array([matrix.sensitivity or 0.0 for matrix in matrices])
    vectors = np.array([len(matrix.entry.shape) < 2 for matrix in matrices])
    scales = np.where(vectors, rms / SCALES, rms)
    given = (known > 0) & (sizes > 0)
    if given.any():
        mean = (sizes * known * rms**2)[given].sum() / sizes[given].sum()
        scales[given] = np.sqrt(mean / known[given])
    return [float(scale) for scale in scales]
