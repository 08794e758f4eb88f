"""Cells of a few levels, read softly: where levels are written, and what an output says of bits.

Level k carries the Gray code of k, so that neighbors differ in one bit. An output y gives for each
bit the log-likelihood ratio log P(y | 0) / P(y | 1), which a decoder takes (bit-interleaved coded
modulation: G. Caire, G. Taricco, E. Biglieri, IEEE Trans. Inf. Theory 44, 1998).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from .. import _arguments
from .._types import F64, U8
from ..channel import Channel

CHUNK = 1 << 15
SAMPLE = 1 << 16
"""Outputs that levels are estimated from, about."""
PASSES = 10
PRIOR = 30
"""Outputs of a level that count as much as what all levels have in common."""
LEAST = 0.2
"""Standard deviation that levels may be found to have, in those expected."""
SIGNIFICANT = 6.0
"""Standard errors from which on levels have moved: not by chance in 10^8 reads."""
FAR = 30.0
"""Largest magnitude of a log-likelihood ratio, in nats."""

_NODES = np.linspace(-6.5, 6.5, 105)
_WEIGHTS = np.exp(-(_NODES**2) / 2) / np.exp(-(_NODES**2) / 2).sum()
_GRID = 513


@dataclass(frozen=True, eq=False)
class Constellation:
    """The levels of a cell, and what they read as.

    Attributes
    ----------
    inputs : ndarray of float32, shape (levels,)
        Cell input of each level; their mean outputs ascend.
    mean, std : ndarray of float64, shape (levels,)
        Of the output of each level.
    stuck : tuple of (float, float, float)
        Probability, mean and standard deviation of each kind of stuck cell.
    """

    inputs: NDArray[np.float32]
    mean: F64
    std: F64
    stuck: tuple[tuple[float, float, float], ...] = ()

    @classmethod
    def at(cls, channel: Channel, inputs: F64, reads: int = 1, noise: float = 1.0) -> Constellation:
        """Levels at given inputs, in the mean of some reads of one chip.

        The standard deviations are ``noise`` times those of the channel. Reads average the part of
        the noise that the channel's ``read_std`` says is drawn afresh; without it, none.
        """
        order = np.argsort(channel.mean_at(inputs), kind="stable")
        x = np.asarray(inputs, np.float64)[order]
        if channel.write_bits is not None:
            converter = channel.write_converter(channel.write_bits)
            x = converter.dequantize(converter.quantize(x.astype(np.float32))).astype(np.float64)

        def std(at: F64) -> F64:
            total = np.hypot(channel.std_at(at), channel.d2d_std)
            if channel.read_std is not None:
                read2 = np.interp(at, channel.x, channel.read_std) ** 2
                total = np.sqrt(np.maximum(total**2 - read2, 0) + read2 / reads)
            scale = 1e-6 * (channel.range[1] - channel.range[0])  # room where there is no noise
            return np.asarray(np.maximum(noise * total, scale))

        ends = channel.x[[0, -1]]
        stuck = zip(channel.stuck, channel.mean_at(ends), std(ends), strict=True)
        kinds = tuple((p, float(m), float(s)) for p, m, s in stuck if p > 0)
        return cls(x.astype(np.float32), channel.mean_at(x), std(x), kinds)

    @classmethod
    def design(cls, channel: Channel, levels: int) -> Constellation:
        """The levels that carry most bits, each written equally often; see :attr:`information`.

        From levels that are equally many standard deviations apart, each is moved in turn, in ever
        smaller steps, as long as that gains.

        Raises
        ------
        ValueError
            If ``levels`` is not 2, 4 or 8, or the write converter does not have so many.
        """
        levels = _arguments.choice("levels", levels, (2, 4, 8))
        if channel.write_bits is not None and 1 << channel.write_bits < levels:
            raise _arguments.wrong_value(
                "levels", f"at most the write converter's {1 << channel.write_bits}", levels
            )
        return _design(channel, levels)

    @property
    def bits(self) -> int:
        """Bits a cell is labeled with."""
        return len(self.inputs).bit_length() - 1

    @property
    def labels(self) -> NDArray[np.uint8]:
        """The Gray code of each level."""
        k = np.arange(len(self.inputs))
        return (k ^ (k >> 1)).astype(np.uint8)

    @property
    def information(self) -> float:
        """Bits a cell that its soft bits carry one by one, levels being equally likely."""
        missing = 0.0
        everywhere = [(p, m + s * _NODES) for p, m, s in self.stuck]
        healthy = 1 - sum(p for p, _ in everywhere)
        for level, (mean, std) in enumerate(zip(self.mean, self.std, strict=True)):
            for p, y in [(healthy, mean + std * _NODES), *everywhere]:
                signs = 1 - 2.0 * (self.labels[level] >> np.arange(self.bits) & 1)
                llr = self._ratios(y) * signs
                missing += p * float((_WEIGHTS @ np.logaddexp(0, -llr)).sum())
        return self.bits - missing / math.log(2) / len(self.inputs)

    def refit(self, outputs: NDArray[np.float32]) -> Constellation:
        """The levels as some outputs show them, which hold all of them equally often.

        However far outputs have moved, as long as they keep their order: see :meth:`_moved_to`.
        From there means and standard deviations by expectation maximization, as if ``PRIOR`` more
        outputs of each level were where one shift, gain and spread of all levels would have them:
        few outputs say no more than these.
        """
        y = np.sort(outputs[:: max(1, len(outputs) // SAMPLE)].astype(np.float64))
        found = self._moved_to(y)
        for _ in range(PASSES):
            score = found._scores(y)
            share = np.exp(score - score.max(axis=1, keepdims=True))
            share /= share.sum(axis=1, keepdims=True)
            count = share.sum(axis=0) + 1e-9
            mean = (y @ share + 1e-9 * found.mean) / count
            mean = (count * mean + PRIOR * self._line(mean, count)) / (count + PRIOR)
            square = (share * (y[:, None] - mean) ** 2).sum(axis=0)
            spread = (square / self.std**2).sum() / count.sum()
            std = np.sqrt((square + PRIOR * spread * self.std**2) / (count + PRIOR))
            found = replace(found, mean=mean, std=np.maximum(std, LEAST * self.std))
        return found

    def _moved_to(self, y: F64) -> Constellation:
        """The levels where as large a share of outputs, ascending, is below as is expected to be.

        That finds them after any change of outputs that keeps their order, as all levels are
        written equally often.
        """
        below = np.vectorize(NormalDist().cdf)

        def moved(at: F64) -> F64:
            share = below((at[:, None] - self.mean) / self.std).mean(axis=1)
            return np.asarray(np.quantile(y, share))

        std = (moved(self.mean + self.std) - moved(self.mean - self.std)) / 2
        return replace(self, mean=moved(self.mean), std=np.maximum(std, LEAST * self.std))

    def _line(self, mean: F64, count: F64) -> F64:
        """Means by the shift and gain of all levels that are nearest to some, in least squares."""
        weight = count / self.std**2
        center, to = np.average(self.mean, weights=weight), np.average(mean, weights=weight)
        apart = self.mean - center
        gain = (weight * apart * (mean - to)).sum() / (weight * apart**2).sum()
        return np.asarray(to + gain * apart)

    def restored(
        self, outputs: NDArray[np.float32], seen: NDArray[np.float32], levels: U8
    ) -> NDArray[np.float32]:
        """Outputs as they would be had no level moved.

        By what is ``seen`` of cells whose ``levels`` are known, such as those of a decoded block:
        straight lines between the means of levels and on beyond. Where the means agree with what
        is expected, stuck cells included, outputs are left as they are.
        """
        count = np.bincount(levels, minlength=len(self.mean))
        if count.min() == 0:
            return outputs
        each = [seen[levels == k].astype(np.float64) for k in range(len(count))]
        stuck = np.array(self.stuck).reshape(-1, 3)
        healthy = 1 - stuck[:, 0].sum()
        found = (np.array([y.mean() for y in each]) - stuck[:, 0] @ stuck[:, 1]) / healthy
        error = np.array([y.std() for y in each]) / np.sqrt(count)
        moved = np.abs(found - self.mean) > SIGNIFICANT * error
        if not moved.any() or (np.diff(found) <= 0).any():
            return outputs
        return np.interp(outputs, _extended(found), _extended(self.mean)).astype(np.float32)

    def write(self, bits: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Level of each cell from its bits, uint8 (cells, bits)."""
        rank = np.argsort(self.labels).astype(np.uint8)
        code = (bits << np.arange(self.bits, dtype=np.uint8)).sum(axis=1, dtype=np.uint8)
        result: NDArray[np.uint8] = rank[code]
        return result

    def soft_bits(self, y: NDArray[np.float32]) -> NDArray[np.float32]:
        """Log-likelihood ratios, positive for 0, of the bits of each output; (cells, bits)."""
        out = np.empty((len(y), self.bits), np.float32)
        for start in range(0, len(y), CHUNK):
            out[start : start + CHUNK] = self._ratios(y[start : start + CHUNK].astype(np.float64))
        return out

    def decide(self, y: NDArray[np.float32]) -> NDArray[np.uint8]:
        """The most likely level of each output."""
        out = np.empty(len(y), np.uint8)
        for start in range(0, len(y), CHUNK):
            score = self._scores(y[start : start + CHUNK].astype(np.float64))
            out[start : start + CHUNK] = score.argmax(axis=1)
        return out

    def _scores(self, y: F64) -> F64:
        """Log-likelihood of each level, up to a constant; (outputs, levels)."""
        return np.asarray(-(((y[:, None] - self.mean) / self.std) ** 2) / 2 - np.log(self.std))

    def _ratios(self, y: F64) -> F64:
        score = self._scores(y)
        peak = score.max(axis=1, keepdims=True)
        density = np.exp(score - peak)
        floor = np.full((len(y), 1), 1e-300)  # likelihood of y whatever was written
        healthy = 1 - sum(p for p, _, _ in self.stuck)
        for p, mean, std in self.stuck:
            distance = (y[:, None] - mean) / std
            exponent = np.minimum(-(distance**2) / 2 - math.log(std) - peak, 700.0)
            floor = floor + p / healthy * np.exp(exponent) * len(self.inputs) / 2
        ratios = np.empty((len(y), self.bits))
        for bit in range(self.bits):
            one = (self.labels >> bit & 1).astype(bool)
            zeros, ones = density[:, ~one].sum(axis=1), density[:, one].sum(axis=1)
            ratios[:, bit] = np.log(zeros + floor[:, 0]) - np.log(ones + floor[:, 0])
        return np.clip(ratios, -FAR, FAR)


def _extended(ascending: F64) -> F64:
    """Numbers with one far below and one far above, as far apart as the outermost are."""
    low = ascending[0] - 100 * (ascending[1] - ascending[0])
    high = ascending[-1] + 100 * (ascending[-1] - ascending[-2])
    return np.concatenate([[low], ascending, [high]])


@lru_cache(maxsize=64)
def _design(channel: Channel, levels: int) -> Constellation:
    grid = np.linspace(*channel.branch, _GRID)
    scale = 1e-6 * (channel.range[1] - channel.range[0])
    std = np.maximum(np.hypot(channel.std_at(grid), channel.d2d_std), scale)
    steps = np.abs(np.diff(channel.mean_at(grid))) * (1 / std[1:] + 1 / std[:-1])
    apart = np.concatenate([[0.0], np.cumsum(steps)])

    def place(where: F64) -> Constellation:
        return Constellation.at(channel, np.interp(where * apart[-1], apart, grid))

    found = place(_climb(lambda where: place(where).information, levels))
    if len(np.unique(found.inputs)) < levels:  # of a coarse write converter
        found = place(np.linspace(0, 1, levels))
    return found


def _climb(gain: Callable[[F64], float], levels: int) -> F64:
    """Positions in [0, 1], ascending, of the largest gain that single moves lead to."""
    where = np.linspace(0.0, 1.0, levels)
    best, step = gain(where), 0.25 / (levels - 1)
    while step > 1e-4:
        before = best
        for k in range(levels):
            for move in (-step, step):
                tried = where.copy()
                tried[k] = min(max(tried[k] + move, 0.0), 1.0)
                if (np.diff(tried) > 0).all() and (found := gain(tried)) > best:
                    where, best = tried, found
        if best - before < 1e-6:
            step /= 2
    return where
