"""What the modes behind an error-correcting code have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ... import _arguments
from ..._types import F64, U8
from ...channel import Channel
from ...devices import CellLike, cell
from .. import blocks
from ..arrays import Source, check_weights, digital_arrays, prepare
from ..constellation import Constellation
from ..feedback import share_left
from ..frequencies import of_inputs
from ..histogram import extent
from ..selection import assigned
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
    frequencies: F64 | None = None

    @property
    def rms(self) -> float:
        """Root mean square of the weights that are stored."""
        kept = self.weights if self.mask is None else self.weights[self.mask]
        return float(np.sqrt((kept**2).mean())) if kept.size else 0.0

    @property
    def counts(self) -> float:
        """What a squared rounding error counts once it is fed back; 0 where that is not known."""
        if not self.sensitivity or self.moments is None:
            return self.sensitivity or 0.0
        return self.sensitivity * share_left(self.moments)


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

    @property
    def bits_per_cell(self) -> float:
        """Bits of content that a cell of a long block carries, about."""
        return self._rate(self.constellation)

    def _rate(self, constellation: Constellation) -> float:
        bits = constellation.bits
        each = self.seen(constellation, 1, self.noise_margin).information / bits
        return bits * blocks.best_rate(each, blocks.LONGEST, self.failure)

    def layout_for(self, size: int) -> blocks.Layout:
        """How so many bytes lie in cells behind the code."""
        each = self.seen(self.constellation, 1, self.noise_margin).information
        return blocks.layout_for(size, each / self.constellation.bits, self.failure)

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
        moments : mapping of str to ndarray of shape (inputs, inputs) or (rows,), optional
            Second moments of a layer's inputs, such as
            :func:`noisycells.torch.input_moments` returns: rounding errors are fed back with
            them. Tensors without are rounded weight by weight. Of an embedding how often each row
            is looked up: the mode coded has finer steps for rows that are used often
            (:mod:`noisycells.storage.frequencies`).
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
        check_weights(weights)
        kept = digital_arrays(digital, weights)
        matrices = _matrices(weights, mask, sensitivity, moments)
        for option, names in self.by_name.items():
            _arguments.names(option, names, weights, "names of weights to store")
        codecs = assigned(weights, _arguments.mapping("overrides", overrides, "codecs"), self)
        for codec in codecs.values():
            if not self.can_read(codec):
                raise _arguments.wrong_value("overrides", "cells as of this codec", codec)
        sections: list[bytes] = []
        plain = []
        for matrix, scale in zip(matrices, _scales(matrices), strict=True):
            made, levels = codecs[matrix.entry.name].encode_tensor(matrix, scale)
            sections += made
            plain.append(levels)
        content = join(sections)
        layout = self.layout_for(len(content))
        return CodedModel(
            {matrix.entry.name: matrix.entry for matrix in matrices},
            kept,
            codec=self,
            layout=layout,
            cells=blocks.write(content, layout, self.constellation),
            plain=np.concatenate(plain),
        )

    @property
    def by_name(self) -> Mapping[str, Collection[str]]:
        """Options that have a value for each of some tensors, and the names of these."""
        return {}

    @property
    @abstractmethod
    def plain_inputs(self) -> NDArray[np.float32]:
        """Inputs of the levels of cells without a code."""

    @abstractmethod
    def plain_digits(self, tensor: CodedTensor) -> Sequence[range]:
        """Which of these levels each of the cells of a weight may have."""

    def plain_cells(self, tensor: CodedTensor) -> int:
        """Cells without a code of each stored weight."""
        return len(self.plain_digits(tensor))

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
        """Whether this codec reads what ``other``, of its class, has encoded.

        Cells and code are those of one codec, so another one would not have its way with them.
        """
        return (self.channel, self.learnt, self.code_options()) == (
            other.channel, other.learnt, other.code_options()
        )  # fmt: skip

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
    if isinstance(mask, str):
        mask = dict.fromkeys(weights, mask)
    known = {
        name: _arguments.mapping(name, given, "names to arrays")
        for name, given in (("mask", mask), ("sensitivity", sensitivity), ("moments", moments))
    }
    for name, given in known.items():
        _arguments.names(name, given, weights, "names of weights")
    found = []
    for name, array in weights.items():
        source = prepare(name, array, known["mask"].get(name), known["sensitivity"].get(name))
        found.append(matrix_of(source, known["moments"].get(name)))
    return found


def matrix_of(source: Source, moments: ArrayLike | None) -> Matrix:
    """A tensor as a matrix, with the second moments of its inputs; checks both."""
    extent([source])  # checks it
    entry = CodedTensor(source.name, source.shape, source.weights.size, dtype=source.dtype)
    weights = source.weights.astype(np.float64).reshape(entry.table)
    kept = None
    if source.mask is not None:
        bits = np.unpackbits(source.mask, count=weights.size, bitorder="little")
        kept = bits.astype(bool).reshape(entry.table)
        entry = replace(entry, stored=int(kept.sum()))
        if entry.stored == entry.size:
            kept = None  # which is faster
    sensitivity = None if source.sensitivity is None else float(np.mean(source.sensitivity))
    return Matrix(entry, weights, kept, sensitivity, *of_inputs(entry.name, moments, entry.table))


def _scales(matrices: Sequence[Matrix]) -> list[float]:
    """What each tensor's step is in units of.

    Without sensitivities, the root mean square of its weights. With them the steps make errors
    count the same in all tensors, after feedback where there are moments, which spends bits best;
    what all weights count in units of their steps is as without.
    """
    sizes = np.array([matrix.entry.stored for matrix in matrices], np.float64)
    rms = np.array([matrix.rms for matrix in matrices])
    known = np.array([matrix.counts for matrix in matrices])
    vectors = np.array([len(matrix.entry.shape) < 2 for matrix in matrices])
    scales = np.where(vectors, rms / SCALES, rms)
    given = (known > 0) & (sizes > 0)
    if given.any():
        mean = (sizes * known * rms**2)[given].sum() / sizes[given].sum()
        scales[given] = np.sqrt(mean / known[given])
    return [float(scale) for scale in scales]
