"""Quantized weights straight in cells of a few levels, without a code."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any

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
SPREADS = np.exp2(np.arange(-24, 25) / OCTAVE)
"""Scales tried, in units of the one that puts the outermost level at two root mean squares."""
_BASE = struct.Struct("<f")


class Levels(Mode):
    """Storage that degrades gracefully: each weight is some digits, each digit the level of a cell.

    Weights are rounded to evenly spaced values, as many as the digits can say, times a scale for
    each row or each block of a row; errors are fed back with the second moments of the layer's
    inputs where these are given (:mod:`noisycells.storage.feedback`). A cell that is misread as
    its neighbor changes a digit by one, which no code corrects. What must not be wrong, the mask,
    the scales and tensors of one dimension, is behind a code as in :class:`Coded`.

    Parameters
    ----------
    channel, learnt, levels, noise_margin, failure, reads
        As for :class:`Coded`; the last four of the cells behind the code.
    radices : sequence of int
        Levels, 2 to 8, of the cell of each digit, the most significant first.
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
        radices: Sequence[int] = (4,),
        block: int | None = None,
        levels: int | str = "auto",
        noise_margin: float = 1.1,
        failure: float = 1e-3,
        reads: int = 8,
    ) -> None:
        super().__init__(channel, learnt, levels, noise_margin, failure, reads)
        if isinstance(radices, (str, bytes)) or not isinstance(radices, Iterable):
            raise _arguments.wrong_type("radices", "1 to 4 numbers", radices)
        self.radices = tuple(_arguments.integer("radices", r, 2, 8) for r in radices)
        if not 1 <= len(self.radices) <= 4:
            raise _arguments.wrong_value("radices", "1 to 4 numbers", radices)
        self.block = None if block is None else _arguments.integer("block", block, 1)

    def can_read(self, other: Levels) -> bool:
        """Whether digits and blocks are the same: they are not in the cells."""
        return self.radices == other.radices and self.block == other.block

    @cached_property
    def _digits(self) -> tuple[SideLevels, ...]:
        return tuple(design_levels(self.assumed, radix) for radix in self.radices)

    @property
    def plain_inputs(self) -> NDArray[np.float32]:
        """The levels of all digits, the most significant one's first."""
        return np.concatenate([digit.inputs for digit in self._digits]).astype(np.float32)

    @property
    def plain_digits(self) -> Sequence[range]:
        """The levels of each digit."""
        ends = np.cumsum(self.radices).tolist()
        return [range(end - radix, end) for end, radix in zip(ends, self.radices, strict=True)]

    def plain_cells(self, tensor: CodedTensor) -> int:
        """One for each digit of a weight of a matrix."""
        return len(self.radices) if len(tensor.shape) > 1 else 0

    @property
    def _values(self) -> F64:
        count = math.prod(self.radices)
        return np.arange(count, dtype=np.float64) - (count - 1) / 2

    def encode_tensor(self, matrix: Matrix, scale: float) -> tuple[list[bytes], U8]:
        """Scales and mask; the digits of what is kept."""
        entry, mask = matrix.entry, matrix.mask
        if not self.plain_cells(entry):
            return pack_multiples(matrix, VECTOR_STEP * scale), np.empty(0, np.uint8)
        base, steps = self._scales(matrix)
        sections = [_BASE.pack(base), entropy.encode(steps)]
        if entry.stored < entry.size:
            assert mask is not None
            sections.append(entropy.encode(mask.astype(np.int32), entry.group))
        sizes = self._sizes(base, steps, entry.table[1])
        rounding = feedback.nearest(self._values, sizes.reshape(-1))
        rounded = feedback.round_matrix(matrix.weights, rounding, matrix.moments, mask)
        index = np.rint(rounded / sizes - self._values[0]).astype(np.int64)
        kept = index.reshape(-1) if mask is None else index[mask]
        digits = np.stack(np.unravel_index(kept, self.radices), axis=1)
        first = np.array([digit[0] for digit in self.plain_digits])
        return sections, (digits + first).astype(np.uint8).reshape(-1)

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
        width = columns if self.block is None else self.block
        steps = entropy.decode(take(sections), (rows, -(-columns // max(1, width))))
        mask = None
        if tensor.stored < tensor.size:
            mask = entropy.decode(take(sections), tensor.table, tensor.group) != 0
            if (kept := int(mask.sum())) != tensor.stored:
                raise _arguments.wrong_value("mask", f"{tensor.stored} weights", kept)
        if base == 0:
            return np.zeros(tensor.shape, np.float32)
        y = outputs.reshape(tensor.stored, len(self.radices))
        digits = [np.searchsorted(d.thresholds, y[:, k]) for k, d in enumerate(self._digits)]
        values = self._values[np.ravel_multi_index(tuple(digits), self.radices)]
        out = np.zeros(tensor.table)
        out[np.ones(tensor.table, bool) if mask is None else mask] = values
        return (out * self._sizes(base, steps, columns)).astype(np.float32).reshape(tensor.shape)

    def _scales(self, matrix: Matrix) -> tuple[float, NDArray[np.int32]]:
        """The largest scale, and how many steps each is below it, (rows, blocks)."""
        rows, columns = matrix.entry.table
        width = max(1, columns if self.block is None else self.block)
        count = -(-columns // width)
        padded = np.zeros((rows, count * width))
        padded[:, :columns] = matrix.weights
        kept = np.zeros(padded.shape, bool)
        kept[:, :columns] = True if matrix.mask is None else matrix.mask
        blocks = padded.reshape(rows * count, width)
        real = kept.reshape(rows * count, width)
        rms = np.sqrt((blocks**2 * real).sum(axis=1) / np.maximum(real.sum(axis=1), 1))
        unit = 2 * rms / self._values[-1]
        least = np.full(len(blocks), np.inf)
        best = unit.copy()
        for spread in SPREADS:
            size = np.where(unit > 0, unit * spread, 1.0)[:, None]
            index = feedback.nearest_index(self._values, blocks / size)
            error = ((self._values[index] * size - blocks) ** 2 * real).sum(axis=1)
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
        width = max(1, columns if self.block is None else self.block)
        return (
            np.repeat(sizes, width, axis=1)[:, :columns] if columns else np.zeros((len(steps), 0))
        )

    def options(self) -> dict[str, Any]:
        """The arguments besides the channels, as JSON knows them."""
        return {"radices": list(self.radices), "block": self.block, **self.code_options()}
