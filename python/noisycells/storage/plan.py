"""The choices that a codec leaves to the weights: thresholds, cells and write bits."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from .arrays import Source
from .histogram import Extent, Histogram, count_ranges, extent, histogram
from .noise import range_noise, rounding_bits
from .ranges import Range, bounds, make_range
from .redundancy import allocate
from .thresholds import choose_thresholds

if TYPE_CHECKING:
    from .codec import Codec


def plan(codec: Codec, sources: Iterable[Source]) -> tuple[Range, ...]:
    """Choose the mapping that ``sources`` share; goes through them up to three times.

    Returns
    -------
    tuple of Range
        One for each magnitude range.
    """
    size = extent(sources)
    tallied = None
    if _chooses(codec):
        tallied = histogram(sources, size.top, not codec.sign_protection)
    thresholds = _thresholds(codec, size, tallied)
    cells = _cells(codec, sources, size, tallied, thresholds)
    ranges = []
    for (lower, upper), r, bits in zip(
        pairwise((0.0, *thresholds, size.top)),
        cells,
        _write_bits(codec, size, tallied, thresholds, cells),
        strict=True,
    ):
        low, high = bounds(lower, upper, size, codec.sign_protection)
        write = None if bits is None else codec.channel.write_converter(bits)
        interval = (float(low), float(high))
        ranges.append(make_range(upper, interval, codec.learnt.range, r, write))
    return tuple(ranges)


def _chooses(codec: Codec) -> bool:
    """Whether a choice depends on how the weights are distributed."""
    several = codec.ranges > 1
    return codec.write_bits == "auto" or (
        several and (codec.thresholds == "auto" or codec.mean_cells is not None)
    )


def _thresholds(codec: Codec, size: Extent, tallied: Histogram | None) -> tuple[float, ...]:
    if codec.thresholds != "auto":
        return tuple(min(float(np.float32(t)), size.top) for t in codec.thresholds)
    if codec.ranges == 1 or size.top == 0:
        return (size.top,) * (codec.ranges - 1)
    assert tallied is not None
    return choose_thresholds(
        codec.noise, tallied, size, codec.ranges, codec.cells, codec.mean_cells
    )


def _cells(
    codec: Codec,
    sources: Iterable[Source],
    size: Extent,
    tallied: Histogram | None,
    thresholds: tuple[float, ...],
) -> tuple[int, ...]:
    if codec.mean_cells is None:
        return codec.cells
    if codec.ranges == 1:
        return (int(codec.mean_cells),)
    assert tallied is not None
    noise = range_noise(codec.noise, tallied, size, thresholds)
    # Counted anew: the histogram may have weights next to a threshold on its wrong side.
    return allocate(noise.single, count_ranges(sources, thresholds), codec.mean_cells)


def _write_bits(
    codec: Codec,
    size: Extent,
    tallied: Histogram | None,
    thresholds: tuple[float, ...],
    cells: tuple[int, ...],
) -> tuple[int, ...] | tuple[None, ...]:
    if codec.write_bits is None:
        return (None,) * codec.ranges
    if codec.write_bits != "auto":
        return codec.write_bits
    assert tallied is not None
    wanted = rounding_bits(codec.noise, tallied, size, thresholds, cells, codec.channel.branch)
    return tuple(min(bits, codec.channel.write_bits or bits) for bits in wanted)
