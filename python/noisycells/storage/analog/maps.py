"""From a weight to the output aimed at in one cell, and from the output read back to a weight.

Both are tables, found in turns: the best decoder for the encoder, the best encoder for the decoder.
Best is the least mean of

    Var_read + programming Var_programmed + bias Bias^2

where Var_read is of reads of a given programmed cell, Var_programmed of the mean of these over
programmings, and Bias what is left in the mean. With all weights 1 that is the mean squared error;
``bias`` well above 1 makes the map unbiased; a closed loop, which knows and undoes most of a
programming error, has ``programming`` and ``bias`` below 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ... import _arguments
from ..._types import F64
from ...channel import Channel

__all__ = ["CellMap", "design", "gaussian_source", "histogram_source"]

TARGETS, LEVELS, OUTPUTS = 129, 161, 161  # points of the grids
REACH = 4.5  # standard deviations of Gaussians that are kept
ANNEALING = (2.0, 1.4, 1.0)  # factors of the noise, so that the turns end in a good optimum
TURNS, CLOSE = 40, 1e-6
NODES, SHARES = np.polynomial.hermite_e.hermegauss(7)
SHARES = SHARES / SHARES.sum()


@dataclass(frozen=True, eq=False)
class CellMap:
    """Tables of an encoder and a decoder, linear between their points.

    Parameters
    ----------
    values : float64, shape (n,)
        Weights in units of their scale, increasing.
    targets : float64, shape (n,)
        Mean output to aim at for each.
    outputs : float64, shape (m,)
        Cell outputs, increasing and uniform.
    decoded : float64, shape (m,)
        The weight that each stands for.
    mean : float64, shape (n,)
        Mean of what each value reads back as.
    """

    values: F64
    targets: F64
    outputs: F64
    decoded: F64
    mean: F64

    def encode(self, values: F64) -> F64:
        """Mean outputs to aim at; values beyond the table are those of its ends."""
        return np.interp(values, self.values, self.targets)

    def decode(self, outputs: F64) -> F64:
        """Weights, in units of their scale, for cell outputs."""
        return np.interp(outputs, self.outputs, self.decoded)

    def expected(self, mean: F64, std: F64) -> F64:
        """Mean of :meth:`decode` over outputs N(mean, std^2), by quadrature."""
        total = np.zeros_like(mean)
        for node, share in zip(NODES, SHARES, strict=True):
            total += share * self.decode(mean + std * node)
        return total

    def bias(self, values: F64) -> F64:
        """Mean error of what values read back as, in an open loop."""
        return np.interp(values, self.values, self.mean) - values


def gaussian_source(std: float = 1.0) -> tuple[F64, F64]:
    """Values and probabilities of a Gaussian, cut at 4.5 standard deviations."""
    z = np.linspace(-REACH, REACH, TARGETS)
    p = np.exp(-(z**2) / 2)
    return std * z, p / p.sum()


def histogram_source(values: F64) -> tuple[F64, F64]:
    """Values and probabilities of given numbers: means of 200 bins, narrow where these are many.

    Raises
    ------
    ValueError
        If all numbers are one.
    """
    flat = np.sort(values.reshape(-1))
    if flat[0] == flat[-1]:
        raise _arguments.wrong_value("values", "numbers that differ", "one number")
    quantiles = flat[np.linspace(0, len(flat) - 1, 101).round().astype(np.intp)]
    edges = np.unique(np.concatenate([quantiles, np.linspace(flat[0], flat[-1], 101)]))
    place = np.clip(np.searchsorted(edges, flat, side="right") - 1, 0, len(edges) - 2)
    counts = np.bincount(place, minlength=len(edges) - 1)
    sums = np.bincount(place, weights=flat, minlength=len(edges) - 1)
    used = counts > 0
    return sums[used] / counts[used], counts[used] / counts.sum()


def design(
    channel: Channel,
    source: tuple[F64, F64],
    *,
    reads: int = 1,
    programming: float = 1.0,
    bias: float = 1.0,
) -> CellMap:
    """The best map of a source onto a cell that is read ``reads`` times.

    Parameters
    ----------
    channel : Channel
        The cell; without ``read_std`` all noise counts as programming noise.
    source : (float64, float64), each of shape (n,)
        Increasing values in units of their scale, and their probabilities.
    reads : int
        Reads that are averaged.
    programming, bias : float
        Weights of the programming variance and the squared bias, above 0, against the variance of
        reads.
    """
    programming = _arguments.number("programming", programming, above=0)
    bias = _arguments.number("bias", bias, above=0)
    values, p = source
    targets = np.linspace(*channel.range, TARGETS)
    std, read = channel.std_parts_at(channel.inverse(targets))
    std, read = np.hypot(std, channel.d2d_std), read / math.sqrt(reads)
    place = np.rint((values - values[0]) / np.ptp(values) * (TARGETS - 1)).astype(np.intp)
    for factor in ANNEALING:
        levels = _around(targets, factor * std, LEVELS)
        outputs = _around(levels, factor * np.interp(levels, targets, read), OUTPUTS)
        to_level = _transition(targets, factor * std, levels)
        to_output = _transition(levels, factor * np.interp(levels, targets, read), outputs)
        through = to_level @ to_output
        last = math.inf
        for _ in range(TURNS):
            decoded = _decoder(p, values, to_level[place], to_output, programming, bias)
            place, cost, mean = _encoder(
                values, decoded, to_level, to_output, through, programming, bias
            )
            now = float(p @ cost)
            if last - now < CLOSE * abs(now):
                break
            last = now
    return CellMap(values, targets[place], outputs, decoded, mean)


def _decoder(
    p: F64, values: F64, to_level: F64, to_output: F64, programming: float, bias: float
) -> F64:
    """The minimum of a quadratic form; rows of ``to_level`` are those of the encoded values."""
    through = to_level @ to_output
    second = np.diag(p @ through)
    of_level = (to_output.T * (p @ to_level)) @ to_output
    of_value = (through.T * p) @ through
    form = second - (1 - programming) * of_level + (bias - programming) * of_value
    form[np.diag_indices_from(form)] += 1e-9  # outputs that hardly happen
    return np.linalg.solve(form, bias * (p * values) @ through)


def _encoder(
    values: F64, decoded: F64, to_level: F64, to_output: F64, through: F64,
    programming: float, bias: float,
) -> tuple[np.ndarray[tuple[int], np.dtype[np.intp]], F64, F64]:  # fmt: skip
    """For each value the best target, its cost, and the mean it reads back as."""
    mean = through @ decoded
    of_level = to_level @ (to_output @ decoded) ** 2
    fixed = through @ decoded**2 - (1 - programming) * of_level + (bias - programming) * mean**2
    cost = fixed - 2 * bias * values[:, None] * mean + bias * values[:, None] ** 2
    place = cost.argmin(1)
    return place, cost[np.arange(len(values)), place], mean[place]


def _around(points: F64, std: F64, count: int) -> F64:
    """A uniform grid over all that Gaussians around increasing points reach."""
    return np.linspace((points - REACH * std).min(), (points + REACH * std).max(), count)


def _transition(mean: F64, std: F64, outputs: F64) -> F64:
    """Probabilities of the points of a grid; a std far below the grid's step goes to neighbors."""
    std = np.maximum(std, 0.5 * (outputs[1] - outputs[0]))
    density = np.exp(-0.5 * ((outputs - mean[:, None]) / std[:, None]) ** 2)
    return np.asarray(density / density.sum(1, keepdims=True))
