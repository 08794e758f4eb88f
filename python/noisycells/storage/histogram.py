"""What is known of the weights before their mapping is chosen: extent, histogram, counts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import _arguments, _core
from .._types import SMALLEST
from .arrays import Source

LARGEST = 1e38
"""Larger magnitudes would overflow float32 when they are scaled."""

BINS = 1 << 12
"""Uniform magnitude bins: thresholds are resolved over 12 octaves below the largest weight."""


class Extent(NamedTuple):
    """Number, smallest and largest of the stored weights; the last two are 0 where none are."""

    stored: int = 0
    low: float = 0.0
    high: float = 0.0

    @property
    def top(self) -> float:
        """Largest magnitude."""
        return max(abs(self.low), abs(self.high))


def extent(sources: Iterable[Source]) -> Extent:
    """Extent of all stored weights of ``sources``, rounded to float32.

    Raises
    ------
    ValueError
        If a stored weight is NaN, infinite or not 0 and outside of 1e-30 to 1e38 in
        magnitude, all of them together.
    """
    stored, low, high = 0, np.inf, -np.inf
    for source in sources:
        count, smallest, largest, finite = _core.scan(source.weights, source.mask)
        if not finite:
            raise _arguments.wrong_value(
                f"weights {source.name!r}",
                "finite numbers",
                "NaN or infinity among the stored weights",
            )
        top = max(-smallest, largest) if count else 0.0
        if top > LARGEST:
            raise _arguments.wrong_value(
                f"weights {source.name!r}", f"magnitudes up to {LARGEST:g}", f"{top:g}"
            )
        if count:
            stored, low, high = stored + count, min(low, smallest), max(high, largest)
    if not stored:
        return Extent()
    if 0 < max(-low, high) < SMALLEST:
        limits = f"a largest magnitude of 0 or at least {SMALLEST:g}"
        raise _arguments.wrong_value(f"weights {source.name!r}", limits, f"{max(-low, high):g}")
    return Extent(stored, float(np.float32(low)), float(np.float32(high)))


@dataclass(frozen=True, eq=False)
class Histogram:
    """Stored weights by magnitude, on ``BINS`` uniform bins over [0, top].

    Attributes
    ----------
    top : float
        Largest magnitude.
    counts : ndarray of int64, shape (BINS,)
        Number of weights of either sign.
    values : ndarray of float64, shape (signs, BINS)
        Bin centers. One row of magnitudes where signs are protected; otherwise two, the second
        negative.
    mass : ndarray of float64, shape (signs, BINS)
        Sum of the sensitivities; the counts where no sensitivity is given.
    """

    top: float
    counts: NDArray[np.int64]
    values: NDArray[np.float64]
    mass: NDArray[np.float64]


def histogram(sources: Iterable[Source], top: float, signed: bool) -> Histogram:
    """Histogram of all stored weights of ``sources``; ``signed`` keeps negative ones apart.

    Raises
    ------
    ValueError
        If some of several sources have sensitivities and others have none.
    """
    counts = np.zeros(BINS, np.int64)
    mass = np.zeros((2 if signed else 1, BINS))
    without, given = "", ""
    for source in sources:
        if source.sensitivity is None:
            without = without or source.name
        else:
            given = given or source.name
        if without and given:
            raise _arguments.wrong_value(
                "sensitivity",
                "for all tensors that share a mapping or for none",
                f"one for {given!r} and none for {without!r}",
            )
        bins = _core.magnitude_histogram(source.weights, source.mask, top, BINS)
        counts += bins
        if not signed and not isinstance(source.sensitivity, np.ndarray):
            mass[0] += bins * (1.0 if source.sensitivity is None else source.sensitivity)
            continue
        for weights, sensitivity in source.stored():
            number = _bin_numbers(np.abs(weights), top)
            if signed:
                number += BINS * (weights < 0)
            each = np.broadcast_to(np.asarray(sensitivity, np.float64), weights.shape)
            mass += np.bincount(number, each, mass.size).reshape(mass.shape)
    centers = (np.arange(BINS) + 0.5) * (top / BINS)
    values = np.stack([centers, -centers] if signed else [centers])
    if not mass.any():  # all sensitivities zero: every weight counts the same
        mass = np.broadcast_to(counts / mass.shape[0], mass.shape)
    return Histogram(top, counts, values, mass)


def _bin_numbers(magnitudes: NDArray[np.float32], top: float) -> NDArray[np.int64]:
    """Bin of each magnitude, as ``_core.magnitude_histogram`` counts them."""
    with np.errstate(over="ignore", invalid="ignore"):
        scale = np.float32(BINS) / np.float32(top) if top > 0 else np.float32(0)
        position = magnitudes * scale
    return np.where(position < BINS, position, BINS - 1).astype(np.int64)


def count_ranges(sources: Iterable[Source], thresholds: Sequence[float]) -> NDArray[np.int64]:
    """Exact number of stored weights in each range, int64 (len(thresholds) + 1,)."""
    above = np.zeros(len(thresholds), np.int64)
    total = 0
    for source in sources:
        for weights, _ in source.stored():
            magnitudes = np.abs(weights)
            total += weights.size
            above += [np.count_nonzero(magnitudes > np.float32(t)) for t in thresholds]
    return -np.diff(np.concatenate([[total], above, [0]]))
