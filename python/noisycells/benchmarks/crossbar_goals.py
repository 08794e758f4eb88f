"""What computing on crossbars should reach."""

from __future__ import annotations

from .cases import family

__all__ = ["NOISELESS", "least_peak", "least_speedup", "most_time"]

NOISELESS = ("F.linear", "F.linear and backward", "numpy", "plain torch")
"""Rivals without noise or converters: what counts is our time over theirs."""

_MODES = ("ADC only", "output noise", "weight noise")
_Goals = dict[tuple[str, str, str], tuple[float, ...]]


def _each(kind: str, kernel: str, rival: str, *goals: tuple[float, ...]) -> _Goals:
    """One goal for each kind of noise: with 1 and with 2 threads."""
    return {
        (kind, f"{kernel} {mode}", rival.format(mode)): threads
        for mode, threads in zip(_MODES, goals, strict=True)
    }


def _both(*goals: float) -> list[tuple[float, ...]]:
    """The same with 1 and with 2 threads."""
    return [(goal, goal) for goal in goals]


_TILES = "tile by tile, {}"
_TRAINING: _Goals = {
    ("training", "input range fixed", "plain torch"): (2.5, 2.5),
    ("training", "range of each patch", "plain torch"): (2.5, 2.5),
    ("noise", "Gaussian", "plain torch"): (1.10, 1.10),
}
_PROGRAMMING: _Goals = {("program", "two devices a weight", "torch"): (8, 8)}

# How many times as long as a rival, at most, by kind of case, job and rival.
_TIMES: dict[str, _Goals] = {
    "avx512": {
        **_each("batch", "int16", "F.linear", *_both(0.35, 0.45, 0.75)),
        **_each("batch", "float32", "F.linear", *_both(0.60, 0.70, 1.3)),
        **_each("batch", "int16", "numpy", *_both(0.65, 0.80, 1.3)),
        **_each("convolution", "int16", "F.linear", *_both(0.40, 0.50, 0.80)),
        **_each("vector", "int16", "F.linear", *_both(0.45, 0.55, 1.0)),
        ("fresh", "int16 ADC only", "F.linear"): (0.40, 0.40),
        **_TRAINING,
    },
    "avx2": {
        **_each("batch", "int16", "F.linear", *_both(1.2, 1.5, 2.6)),
        **_each("batch", "float32", "F.linear", *_both(1.2, 1.5, 2.6)),
        **_each("convolution", "int16", "F.linear", *_both(1.1, 1.35, 2.2)),
        **_each("vector", "int16", "F.linear", (0.5, 0.3), (0.8, 0.45), (1.25, 0.7)),
        **_TRAINING,
    },
}
# How many times faster than a rival, at least.
_SPEEDUPS: dict[str, _Goals] = {
    "avx512": {
        **_each("batch", "int16", _TILES, *_both(3.2, 3.7, 3.7)),
        **_each("convolution", "int16", _TILES, *_both(3.2, 3.7, 3.7)),
        **_PROGRAMMING,
    },
    "avx2": {
        **_each("batch", "int16", _TILES, (0.9,), (1.05,), (1.05,)),
        **_each("convolution", "int16", _TILES, (0.9,), (1.05,), (1.05,)),
        **_PROGRAMMING,
    },
}
# Share of the processor's peak, at least, of one case.
_PEAKS = {
    "avx512": {
        ("512x1024x1024", "float32 ADC only"): 0.75,
        ("512x1024x1024", "int16 ADC only"): 0.70,
    },
    "avx2": {("512x1024x1024", "float32 ADC only"): 0.70},
}


def _find(
    table: dict[str, _Goals], level: str, key: tuple[str, str, str], threads: int
) -> float | None:
    goals = table.get(family(level), {}).get(key, ())
    return goals[threads - 1] if threads <= len(goals) else None


def most_time(level: str, kind: str, job: str, rival: str, threads: int) -> float | None:
    """The goal for our time over a rival's, at a SIMD level; None where there is none."""
    return _find(_TIMES, level, (kind, job, rival), threads)


def least_speedup(level: str, kind: str, job: str, rival: str, threads: int) -> float | None:
    """The goal for a rival's time over ours."""
    return _find(_SPEEDUPS, level, (kind, job, rival), threads)


def least_peak(level: str, case: str, job: str) -> float | None:
    """The goal for the share of the peak."""
    return _PEAKS.get(family(level), {}).get((case, job))
