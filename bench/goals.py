"""What the cases should reach.

Goals of speed are with 1 and with 2 threads. They go by the kind of a case, the job and the rival,
and were set on processors with AVX-512 and with AVX2.
"""

from __future__ import annotations

from noisycells.speed.cases import OURS

from .cases.case import OWN

__all__ = ["is_time", "least_share", "least_speedup", "most_time"]

NOISELESS = ("F.linear", "F.linear and backward", "np.matmul", "plain torch")
"""Rivals on crossbars without noise or converters: what counts is our time over theirs."""

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
_PACKING: _Goals = {
    ("pack", OURS, "numpy"): (10, 20),
    ("unpack", OURS, "numpy"): (10, 20),
    ("side", OURS, "numpy"): (7.5, 16),
}
_AVERAGES = "own r=1"
_PROGRAMMING: _Goals = {("program", "two devices a weight", "torch"): (8, 8)}

# How many times as long as a rival, at most, by kind of case, job and rival.
_TIMES: dict[str, _Goals] = {
    "avx512": {
        ("collapse", OURS, _AVERAGES): (1.05, 1.05),
        ("literal", OURS, _AVERAGES): (2.8, 2.8),
        **_each("batch", "int16", "F.linear", *_both(0.35, 0.45, 0.75)),
        **_each("batch", "float32", "F.linear", *_both(0.60, 0.70, 1.3)),
        **_each("batch", "int16", "np.matmul", *_both(0.65, 0.80, 1.3)),
        **_each("convolution", "int16", "F.linear", *_both(0.40, 0.50, 0.80)),
        **_each("vector", "int16", "F.linear", *_both(0.45, 0.55, 1.0)),
        ("fresh", "int16 ADC only", "F.linear"): (0.40, 0.40),
        **_each("encoder", "auto", "plain torch", *_both(0.55, 0.70, 0.95)),
        **_TRAINING,
    },
    "avx2": {
        ("collapse", OURS, _AVERAGES): (1.05, 1.05),
        ("literal", OURS, _AVERAGES): (3.3, 3.3),
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
        ("normals", OURS, "numpy"): (15, 30),
        ("normals", OURS, "torch"): (4.8, 9.5),
        ("channel", OURS, "numpy"): (130, 250),
        ("channel", OURS, "torch"): (20, 30),
        ("transmit", OURS, "numpy"): (90, 180),
        ("transmit", OURS, "torch"): (14, 20),
        **_PACKING,
        **_each("batch", "int16", _TILES, *_both(3.2, 3.7, 3.7)),
        **_each("convolution", "int16", _TILES, *_both(3.2, 3.7, 3.7)),
        **_PROGRAMMING,
    },
    "avx2": {
        ("normals", OURS, "numpy"): (6, 12),
        ("normals", OURS, "torch"): (1.9, 3.8),
        ("channel", OURS, "numpy"): (65, 130),
        ("channel", OURS, "torch"): (10, 16),
        ("transmit", OURS, "numpy"): (60, 120),
        ("transmit", OURS, "torch"): (9.5, 13),
        **_PACKING,
        **_each("batch", "int16", _TILES, (0.9,), (1.05,), (1.05,)),
        **_each("convolution", "int16", _TILES, (0.9,), (1.05,), (1.05,)),
        **_PROGRAMMING,
    },
}
# Share of the limit, at least, by case and job; of products, of the processor's peak.
_SHARES: dict[str, dict[tuple[str, str], float]] = {
    "avx512": {
        ("pack", OURS): 0.75,
        ("unpack", OURS): 0.75,
        ("512x1024x1024", "float32 ADC only"): 0.75,
        ("512x1024x1024", "int16 ADC only"): 0.70,
    },
    "avx2": {
        ("pack", OURS): 0.75,
        ("unpack", OURS): 0.75,
        ("512x1024x1024", "float32 ADC only"): 0.70,
    },
}


def is_time(rival: str) -> bool:
    """Whether what counts is our time over the rival's, and not its time over ours."""
    return rival.startswith(OWN) or rival in NOISELESS


def most_time(level: str, kind: str, job: str, rival: str, threads: int) -> float | None:
    """The goal for our time over a rival's, at a SIMD level; None where there is none."""
    return _find(_TIMES, level, (kind, job, rival), threads)


def least_speedup(level: str, kind: str, job: str, rival: str, threads: int) -> float | None:
    """The goal for a rival's time over ours."""
    return _find(_SPEEDUPS, level, (kind, job, rival), threads)


def least_share(level: str, case: str, job: str) -> float | None:
    """The goal for the share of the limit."""
    return _SHARES.get(_family(level), {}).get((case, job))


def _find(
    table: dict[str, _Goals], level: str, key: tuple[str, str, str], threads: int
) -> float | None:
    goals = table.get(_family(level), {}).get(key, ())
    return goals[threads - 1] if threads <= len(goals) else None


def _family(level: str) -> str:
    """The SIMD level whose goals are those of ``level``."""
    return "avx512" if level in ("avx512_vnni", "amx") else level
