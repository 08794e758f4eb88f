"""Tensors and models in cells, and their noisy read-back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import _arguments, _core, random
from .._types import BLOCK
from ..channel import Channel
from ..runtime import threads_argument
from . import cost, side
from .arrays import CHUNK, positions
from .cost import Cost
from .model import ModelInCells, TensorInCells
from .ranges import Range
from .selection import is_bias

if TYPE_CHECKING:
    from .codec import Codec


@dataclass(frozen=True, eq=False, repr=False)
class StoredTensor(TensorInCells):
    """A tensor in cells, as :meth:`Codec.encode` returns it.

    Attributes
    ----------
    name : str
        Name, which keys the random draws: tensors of one name see the same noise.
    shape : tuple of int
        Shape of the tensor.
    codec : Codec
        How it is stored; :attr:`Codec.channel` is what it is read through.
    ranges : tuple of Range
        Scale, shift and cells of each magnitude range.
    levels : ndarray of float32 or uint8, 1-D
        Cell inputs of the stored weights, or their packed codes where there is a write converter
        (see :func:`noisycells.reference.encode`).
    side : ndarray of uint8, 1-D
        Packed sign and range bits of the stored weights.
    mask : ndarray of uint8 or None
        One bit a weight, least significant first; None where all weights are stored.
    dtype : str
        Dtype of the weights that were encoded, as safetensors calls it ("F32", "BF16", ...):
        :func:`read_file` writes them back in it. :meth:`read` always gives float32.
    """

    codec: Codec
    ranges: tuple[Range, ...]
    levels: NDArray[Any]
    side: NDArray[np.uint8]
    mask: NDArray[np.uint8] | None

    @property
    def stored(self) -> int:
        """Number of weights in cells."""
        return sum(self.counts)

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """Number of stored weights in each range."""
        stored = self.size if self.mask is None else _core.count_stored(self.mask, self.size)
        counts = block_counts(self.side, stored, self.codec.sign_bits, len(self.ranges))
        return tuple(counts.sum(axis=0).tolist())

    @property
    def cost(self) -> Cost:
        """Cells and bits this tensor takes."""
        bits, code = (0, "none") if self.mask is None else cost.index_cost(self.size, self.stored)
        return Cost(
            stored_weights=self.stored,
            original_weights=self.size,
            data_cells=sum(n * r.cells for n, r in zip(self.counts, self.ranges, strict=True)),
            side_cells=self.stored * -(-self.codec.side_bits // side.BITS),
            index_bits=bits,
            index_code=code,
            parameter_bits=96 * len(self.ranges),
            includes_biases=is_bias(self.name),
        )

    def read(
        self,
        seed: int,
        chip: int = 0,
        *,
        side_errors: bool = False,
        out: NDArray[np.float32] | None = None,
        num_threads: int | None = None,
    ) -> NDArray[np.float32]:
        """Read the tensor back once, with noise; pruned weights are 0.

        Parameters
        ----------
        seed : int
            Seed of this read, in [0, 2**64).
        chip : int
            Number of the chip, in [0, 2**64). Where the channel has a ``read_std``, it fixes the
            programming errors, and reading again with another seed does not average them away.
            Without, every seed is a new chip.
        side_errors : bool
            Draw the sign and range bits through the channel too (:mod:`side`), instead of reading
            them without error as in the paper. A misread weight takes the wrong sign or the scale
            of the wrong range; which cells belong to it is known.
        out : ndarray of float32, C-contiguous, of the tensor's shape, optional
            Array to write to.
        num_threads : int, optional
            Threads; None for the package's setting.

        Returns
        -------
        ndarray of float32, of the tensor's shape
            ``out`` where it was given.

        Raises
        ------
        ValueError
            If ``seed`` or ``chip`` is out of range, ``out`` does not fit, or ``side_errors`` needs
            more levels than the channel's write converter has.
        TypeError
            If ``seed`` or ``chip`` is not an integer.
        """
        seed = _arguments.seed("seed", seed)
        chip = _arguments.seed("chip", chip)
        held = [array for array in (self.levels, self.side, self.mask) if array is not None]
        out = _arguments.output(out, self.shape, *held)
        channel = self.codec.channel
        flat = out.reshape(-1)
        _core.decode(
            self.levels,
            self.side,
            self.mask,
            flat,
            self.codec.tables(self.ranges),
            channel.tables,
            *channel.keys(seed, chip),
            random.stream(self.name),
            self.codec.draws_every_cell,
            threads_argument(num_threads),
        )
        if _arguments.flag("side_errors", side_errors):
            self._misread_side(flat, seed, chip, num_threads)
        return out

    def _misread_side(
        self, out: NDArray[np.float32], seed: int, chip: int, num_threads: int | None
    ) -> None:
        """Decode again, in place, the weights whose side bits are misread."""
        sign, width = self.codec.sign_bits, self.codec.side_bits
        stream = random.stream(self.name, "side")
        inv_alpha, shift = np.array([(r.inv_alpha, r.shift) for r in self.ranges]).T
        for before, start, kept in positions(self.size, self.mask):
            stop = min(start + CHUNK, self.size)
            where = np.arange(start, stop) if kept is None else np.flatnonzero(kept) + start
            code = unpack(self.side, width, before, len(where))
            read = np.zeros_like(code)
            for cell, low in enumerate(range(0, width, side.BITS)):
                levels = self.codec.side_levels(min(side.BITS, width - low))
                symbol = (code >> low) & (len(levels.inputs) - 1)
                y = self.codec.channel.sample(
                    levels.write(symbol),
                    seed,
                    chip=chip,
                    stream=stream,
                    offset=cell * self.stored + before,
                    num_threads=num_threads,
                )
                read |= levels.decide(y) << low
            wrong = np.flatnonzero(read != code)
            written = code[wrong] >> sign
            believed = np.minimum(read[wrong] >> sign, len(self.ranges) - 1)
            value = out[where[wrong]].astype(np.float64)
            if sign:
                value = np.where(code[wrong] & 1, -value, value)
            scale = inv_alpha[written]
            y = (value - shift[written]) / np.where(scale > 0, scale, 1)
            value = y * inv_alpha[believed] + shift[believed]
            if sign:
                value = np.where(read[wrong] & 1, -value, value)
            out[where[wrong]] = value

    def __repr__(self) -> str:
        return (
            f"StoredTensor({self.name!r}, {self.shape}, {self.stored:,} of {self.size:,} weights "
            f"in {self.cost.data_cells + self.cost.side_cells:,} cells of "
            f"{self.codec.channel.name!r})"
        )


@dataclass(frozen=True, eq=False, repr=False)
class StoredModel(ModelInCells[StoredTensor]):
    """A model in cells as :class:`Codec` stores it; a mapping of names to stored tensors.

    Attributes are those of :class:`noisycells.storage.ModelInCells`.
    """

    @property
    def channels(self) -> set[Channel]:
        """What the cells are."""
        return {tensor.codec.channel for tensor in self.values()}

    def _costs(self) -> list[Cost]:
        return [tensor.cost for tensor in self.values()]

    def read(
        self,
        seed: int,
        chip: int = 0,
        *,
        side_errors: bool = False,
        num_threads: int | None = None,
    ) -> dict[str, NDArray[np.float32]]:
        """Read every tensor back once (see :meth:`StoredTensor.read`).

        Returns
        -------
        dict of str to ndarray of float32
            The tensors in cells, under all their names; ``digital`` holds the others.
        """
        read = {
            name: tensor.read(seed, chip, side_errors=side_errors, num_threads=num_threads)
            for name, tensor in self.items()
        }
        return self._under_all_names(read)


def unpack(buffer: NDArray[np.uint8], width: int, first: int, count: int) -> NDArray[np.uint8]:
    """``count`` codes of ``width`` bits (0: all zero) from code number ``first`` on."""
    if not width:
        return np.zeros(count, np.uint8)
    skip = first % 8  # 8 codes of any width end on a byte
    out = np.empty(count + skip, np.uint8)
    begin = (first - skip) * width // 8
    end = -(-(first + count) * width // 8)
    _core.unpack_bits(buffer[begin:end], width, out)
    return out[skip:]


def block_counts(
    buffer: NDArray[np.uint8], stored: int, sign_bits: int, ranges: int
) -> NDArray[np.int64]:
    """Weights of each range in each block of packed levels, int64 (blocks, ranges).

    Raises
    ------
    ValueError
        If a side code names a range that there is not.
    """
    width = sign_bits + (ranges - 1).bit_length()
    counts = np.empty((-(-stored // BLOCK), ranges), np.int64)
    for start in range(0, stored, CHUNK):
        number = unpack(buffer, width, start, min(CHUNK, stored - start)) >> sign_bits
        if number.max() >= ranges:
            raise _arguments.wrong_value("side", f"ranges below {ranges}", number.max())
        blocks = np.full((-(-len(number) // BLOCK), BLOCK), ranges, np.uint8)
        blocks.reshape(-1)[: len(number)] = number
        for k in range(ranges):
            counts[start // BLOCK :][: len(blocks), k] = np.count_nonzero(blocks == k, axis=1)
    return counts


def packed_size(
    buffer: NDArray[np.uint8], stored: int, sign_bits: int, write_bits: Sequence[int]
) -> int:
    """Bytes of packed levels: in each block, each range's codes are padded to a byte."""
    counts = block_counts(buffer, stored, sign_bits, len(write_bits))
    return int((-(-counts * np.array(write_bits) // 8)).sum())
