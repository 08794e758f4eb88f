"""Quantized weights straight in cells of a few levels, without a code."""

from __future__ import annotations

import math
import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ... import _arguments
from ..._types import F64, U8
from ...devices import CellLike
from .. import entropy, feedback
from ..side import SideLevels, design_levels
from .coded import pack_multiples, unpack_multiples
from .mode import Matrix, Mode
from .model import CodedTensor
from .sections import take

VECTOR_STEP = 0.25
"""Step of tensors of one dimension, in their units."""
OCTAVE = 8
"""Scales of one octave."""
MOST_VALUES = 4096
"""Values of a weight."""
SPREADS = np.exp2(np.arange(-24, 25) / OCTAVE)
"""Scales tried, in units of the one that puts the outermost level at two root mean squares."""
_BASE = struct.Struct("<f")


class _Digits(NamedTuple):
    """The digits of a weight, and the levels of their cells."""

    radices: tuple[int, ...]
    levels: tuple[SideLevels, ...]
    first: int  # number of the first level among those of all tensors

    @property
    def values(self) -> F64:
        """What the digits can say, evenly spaced around 0."""
        count = math.prod(self.radices)
        return np.arange(count, dtype=np.float64) - (count - 1) / 2

    @property
    def numbers(self) -> list[range]:
        """The levels of each digit."""
        ends = (self.first + np.cumsum(self.radices)).tolist()
        return [range(end - radix, end) for end, radix in zip(ends, self.radices, strict=True)]

    def write(self, index: NDArray[np.int64]) -> U8:
        """Levels of the cells, one weight's after the other's."""
        digits = np.stack(np.unravel_index(index, self.radices), axis=1)
        start = np.array([numbers[0] for numbers in self.numbers])
        levels: U8 = (digits + start).astype(np.uint8).reshape(-1)
        return levels

    def decide(self, outputs: NDArray[np.float32]) -> F64:
        """The value whose levels are nearest to each weight's outputs."""
        y = outputs.reshape(-1, len(self.radices))
        digits = [np.searchsorted(d.thresholds, y[:, k]) for k, d in enumerate(self.levels)]
        return np.asarray(self.values[np.ravel_multi_index(tuple(digits), self.radices)])


class Levels(Mode):
    """Storage that degrades gracefully: each weight is some digits, each digit the level of a cell.

    Weights are rounded to evenly spaced values, as many as the digits can say, times a scale for
    each row or each block of a row; errors are fed back with the second moments of the layer's
    inputs where these are given (:mod:`noisycells.storage.feedback`). A cell that is misread as
    its neighbor changes a digit by one, which no code corrects. What must not be wrong, the mask,
    the scales and tensors of one dimension, is behind a code as in :class:`Coded`; by its cells,
    once they are decoded, outputs that have moved are moved back.

    Parameters
    ----------
    channel, learnt, levels, noise_margin, failure, reads
        As for :class:`Coded`; the last four of the cells behind the code.
    radices : sequence of int, or mapping of str to such sequences
        Levels, 2 to 8, of the cell of each digit, the most significant first. A mapping has the
        digits of each tensor by its name; those of one dimension, which have none, may be left
        out.
    block : int, optional
        Weights of a row that share a scale. None: the whole row.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not as described; the message names it.
    """

    NAME = "levels"

    def __init__(
        self,
        channel: CellLike,
        learnt: CellLike | None = None,
        *,
        radices: Sequence[int] | Mapping[str, Sequence[int]] = (4,),
        block: int | None = None,
        levels: int | str = "auto",
        noise_margin: float = 1.1,
        failure: float = 1e-3,
        reads: int = 8,
    ) -> None:
        super().__init__(channel, learnt, levels, noise_margin, failure, reads)
        self.radices: tuple[int, ...] | dict[str, tuple[int, ...]] = (
            {name: _checked(f"radices {name!r}", given) for name, given in radices.items()}
            if isinstance(radices, Mapping)
            else _checked("radices", radices)
        )
        self.block = None if block is None else _arguments.count("block", block)

    def can_read(self, other: Levels) -> bool:
        """Whether digits and blocks are the same: they are not in the cells."""
        same = self.radices == other.radices and self.block == other.block
        return same and super().can_read(other)

    @property
    def by_name(self) -> Mapping[str, Collection[str]]:
        """The digits, where they are given by name."""
        return {"radices": self.radices} if isinstance(self.radices, dict) else {}

    @cached_property
    def _systems(self) -> dict[tuple[int, ...], _Digits]:
        """The cells of each set of digits that tensors have; their levels are counted through."""
        given = self.radices.values() if isinstance(self.radices, dict) else (self.radices,)
        found: dict[tuple[int, ...], _Digits] = {}
        first = 0
        for radices in dict.fromkeys(given):
            levels = tuple(design_levels(self.assumed, radix) for radix in radices)
            found[radices] = _Digits(radices, levels, first)
            first += sum(radices)
        if first > 256:
            raise _arguments.wrong_value("radices", "at most 256 levels of all digits", first)
        return found

    def _digits(self, name: str) -> _Digits:
        if not isinstance(self.radices, dict):
            return self._systems[self.radices]
        if name not in self.radices:
            raise _arguments.wrong_value("radices", f"some for {name!r}", "none")
        return self._systems[self.radices[name]]

    @property
    def plain_inputs(self) -> NDArray[np.float32]:
        """The levels of all digits, the most significant one's first."""
        inputs = [d.inputs for digits in self._systems.values() for d in digits.levels]
        return np.concatenate(inputs or [np.zeros(1)]).astype(np.float32)

    def plain_digits(self, tensor: CodedTensor) -> Sequence[range]:
        """The levels of each digit of a weight of a matrix."""
        return self._digits(tensor.name).numbers if len(tensor.shape) > 1 else ()

    def encode_tensor(self, matrix: Matrix, scale: float) -> tuple[list[bytes], U8]:
        """Scales and mask; the digits of what is kept."""
        entry, mask = matrix.entry, matrix.mask
        if not self.plain_cells(entry):
            return pack_multiples(matrix, VECTOR_STEP * scale), np.empty(0, np.uint8)
        digits = self._digits(entry.name)
        base, steps = self._scales(matrix, digits.values)
        sections = [_BASE.pack(base), entropy.encode(steps)]
        if entry.stored < entry.size:
            assert mask is not None
            sections.append(entropy.encode(mask.astype(np.int32), entry.group))
        sizes = self._sizes(base, steps, entry.table[1])
        rounding = feedback.nearest(digits.values, sizes.reshape(-1))
        rounded = feedback.round_matrix(matrix.weights, rounding, matrix.moments, mask)
        index = np.rint(rounded / sizes - digits.values[0]).astype(np.int64)
        return sections, digits.write(index.reshape(-1) if mask is None else index[mask])

    def decode_tensor(
        self, tensor: CodedTensor, sections: Iterator[bytes], outputs: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """The nearest digits of the outputs, times the scales."""
        if not self.plain_cells(tensor):
            return unpack_multiples(tensor, sections)
        (base,) = _BASE.unpack(take(sections, _BASE.size))
        if not 0 <= base < math.inf:
            raise _arguments.wrong_value("scale", "a finite number >= 0", base)
        rows, columns = tensor.table
        steps = entropy.decode(take(sections), (rows, -(-columns // self._width(columns))))
        mask = None
        if tensor.stored < tensor.size:
            mask = entropy.decode(take(sections), tensor.table, tensor.group) != 0
            if (kept := int(mask.sum())) != tensor.stored:
                raise _arguments.wrong_value("mask", f"{tensor.stored} weights", kept)
        if base == 0:
            return np.zeros(tensor.shape, np.float32)
        values = self._digits(tensor.name).decide(outputs)
        out = np.zeros(tensor.table)
        out[np.ones(tensor.table, bool) if mask is None else mask] = values
        return (out * self._sizes(base, steps, columns)).astype(np.float32).reshape(tensor.shape)

    def _width(self, columns: int) -> int:
        """Weights of a row that share a scale."""
        return max(1, min(columns, self.block or columns))

    def _scales(self, matrix: Matrix, values: F64) -> tuple[float, NDArray[np.int32]]:
        """The largest scale, and how many steps each is below it, (rows, blocks)."""
        rows, columns = matrix.entry.table
        width = self._width(columns)
        count = -(-columns // width)
        padded = np.zeros((rows, count * width))
        padded[:, :columns] = matrix.weights
        kept = np.zeros(padded.shape, bool)
        kept[:, :columns] = True if matrix.mask is None else matrix.mask
        blocks = padded.reshape(rows * count, width)
        real = kept.reshape(rows * count, width)
        rms = np.sqrt((blocks**2 * real).sum(axis=1) / np.maximum(real.sum(axis=1), 1))
        unit = 2 * rms / values[-1]
        least = np.full(len(blocks), np.inf)
        best = unit.copy()
        for spread in SPREADS:
            size = np.where(unit > 0, unit * spread, 1.0)[:, None]
            index = feedback.nearest_index(values, blocks / size)
            error = ((values[index] * size - blocks) ** 2 * real).sum(axis=1)
            better = error < least
            least, best = np.where(better, error, least), np.where(better, size[:, 0], best)
        best = np.where(unit > 0, best, 0)
        base = float(np.float32(best.max(initial=0)))
        if base == 0:
            return 0.0, np.zeros((rows, count), np.int32)
        steps = np.rint(-OCTAVE * np.log2(np.maximum(best / base, 2.0**-30)))
        return base, np.maximum(steps, 0).astype(np.int32).reshape(rows, count)

    def _sizes(self, base: float, steps: NDArray[np.int32], columns: int) -> F64:
        """The scale of each weight."""
        sizes = (base or 1.0) * np.exp2(-steps / OCTAVE)
        width = self._width(columns)
        return (
            np.repeat(sizes, width, axis=1)[:, :columns] if columns else np.zeros((len(steps), 0))
        )

    def options(self) -> dict[str, Any]:
        """The arguments besides the channels, as JSON knows them."""
        radices = (
            {name: list(given) for name, given in self.radices.items()}
            if isinstance(self.radices, dict)
            else list(self.radices)
        )
        return {"radices": radices, "block": self.block, **self.code_options()}


def _checked(name: str, radices: Any) -> tuple[int, ...]:
    if not isinstance(radices, Sequence) or isinstance(radices, (str, bytes)):
        raise _arguments.wrong_type(name, "a sequence of numbers", radices)
    found = tuple(_arguments.integer(name, radix, 2, 8) for radix in radices)
    if not found or math.prod(found) > MOST_VALUES:
        expected = f"at least one number, their product at most {MOST_VALUES}"
        raise _arguments.wrong_value(name, expected, found)
    return found
