"""Cells that are written, verified and read in steps of their own, with every step counted."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from ... import _arguments, random
from ..._types import F32, F64
from ...channel import Channel

__all__ = ["CellArray"]


class CellArray:
    """A row of cells of one channel, each written by pulses of its own.

    A pulse writes an input anew: the cell takes mean(x) plus a fresh programming error, and holds
    it. Every read of it has fresh read noise. The channel's offset of a device and whether it is
    stuck stay the same for all pulses. The pulses and reads of the same calls in the same order
    are the same for one ``chip`` and one ``name``.

    Parameters
    ----------
    channel : Channel
        One that has ``read_std``; otherwise a cell's level cannot be told from its reads.
    size : int
        Number of cells.
    chip : int
        Number of the chip, in [0, 2^64).
    name : str
        Of what is stored; part of the key of all draws.

    Attributes
    ----------
    pulses, verified : ndarray of int32, shape (size,)
        Pulses that each cell has had, and reads to verify them.
    """

    def __init__(self, channel: Channel, size: int, chip: int = 0, name: str = "") -> None:
        if channel.read_std is None:
            raise _arguments.wrong_value(
                "channel", "one with read_std, which tells reads from programming", repr(channel)
            )
        self.channel, self.name = channel, _arguments.text("name", name)
        self.size = size = _arguments.integer("size", size, 0)
        self.chip = chip = _arguments.seed("chip", chip)
        self.pulses = np.zeros(size, np.int32)
        self.verified = np.zeros(size, np.int32)
        self._turns = np.zeros(size, np.int32)  # calls that wrote to the cell's run of cells
        self._looks = np.zeros(size, np.int32)  # and that verified it
        self._level = np.zeros(size, np.float32)
        self._read_std = np.zeros(size, np.float32)
        self._offset = channel.d2d_std * self._normals("d2d", 0, 0, size)
        self._stuck = self._stuck_inputs()

    def write(self, x: F64, first: int = 0, where: NDArray[np.bool_] | None = None) -> None:
        """Give a pulse to the cells from ``first`` on, or to those of them that ``where`` says.

        Parameters
        ----------
        x : ndarray of float64, shape (n,)
            Cell inputs, which pass the write converter where there is one.
        first : int
            Number of the first cell.
        where : ndarray of bool, shape (n,), optional
        """
        part = slice(first, first + len(x))
        if where is None:
            where = np.ones(len(x), bool)
        inputs = self.written(x)
        if self._stuck is not None:
            inputs = np.where(np.isnan(self._stuck[part]), inputs, self._stuck[part])
        programmed, read = self.channel.std_parts_at(inputs)
        turn = int(self._turns[part].max(initial=0))
        self._turns[part] = turn + 1
        error = self._normals("pulse", turn, first, len(x)) * programmed
        level = self.channel.mean_at(inputs) + error + self._offset[part]
        self._level[part][where] = level[where]
        self._read_std[part][where] = read[where]
        self.pulses[part] += where

    def written(self, x: F64) -> F64:
        """Inputs as they come out of the write converter; the same where there is none."""
        if self.channel.write_bits is None:
            return x
        converter = self.channel.write_converter(self.channel.write_bits)
        return converter.dequantize(converter.quantize(x.astype(np.float32))).astype(np.float64)

    def verify(self, reads: int, first: int, count: int, where: NDArray[np.bool_]) -> F64:
        """Mean of so many reads of the cells from ``first`` on; only those of ``where`` count."""
        part = slice(first, first + count)
        turn = 1 + int(self._looks[part].max(initial=0))
        self._looks[part] = turn
        seen = self._observe(part, random.key(self.chip, "cell verify", turn), reads)
        self.verified[part] += np.where(where, reads, 0).astype(np.int32)
        return seen

    def read(self, seed: int, reads: int = 1) -> F64:
        """Mean of so many reads of every cell; the draws depend on chip, name and ``seed``."""
        key = random.key(_arguments.seed("seed", seed), "cell read", self.chip)
        return self._observe(slice(0, self.size), key, _arguments.integer("reads", reads, 1))

    def _observe(self, part: slice, key: int, reads: int) -> F64:
        level, std = self._level[part].astype(np.float64), self._read_std[part]
        stream = random.stream(self.name, "cells")
        converter = self.channel._read_converter
        draws = 1 if converter is None else reads  # else the mean of Gaussian reads is one draw
        total = np.zeros(len(level))
        for draw in range(draws):
            noise = random.standard_normal(
                len(level), random.fold_in(key, draw), stream, part.start
            )
            seen = level + std * noise * math.sqrt(draws / reads)
            if converter is not None:
                seen = converter.dequantize(converter.quantize(seen.astype(np.float32)))
            total += seen
        return total / draws

    def _stuck_inputs(self) -> F64 | None:
        """The input that each stuck cell acts as, NaN for the others."""
        low, high = self.channel.stuck
        if low + high == 0:
            return None
        draw = self._normals("stuck", 0, 0, self.size)
        cut = [NormalDist().inv_cdf(p) if 0 < p < 1 else math.copysign(math.inf, p - 0.5)
               for p in (low, 1 - high)]  # fmt: skip
        ends = self.channel.x[0], self.channel.x[-1]
        return np.where(draw < cut[0], ends[0], np.where(draw > cut[1], ends[1], np.nan))

    def _normals(self, purpose: str, turn: int, first: int, count: int) -> F32:
        key = random.key(self.chip, f"cell {purpose}", turn)
        return random.standard_normal(count, key, random.stream(self.name, "cells"), first)
