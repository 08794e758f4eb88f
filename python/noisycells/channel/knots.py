"""The working table of a channel: uniform knots, and the branch that weights are stored on."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .. import _arguments
from .._types import F32, F64

__all__ = ["Knots", "find_branch", "given_branch", "steps", "working_knots"]

UNIFORM = 1e-6  # of the spacing: how far knots may be from uniform to be used as they are
RESAMPLED = 4096  # segments of the working table otherwise


class Knots(NamedTuple):
    """Uniform inputs ``x``, and there mean, program std and read std; float64 (n,)."""

    x: F64
    mean: F64
    program: F64
    read: F64


def working_knots(x: F64, mean: F64, std: F64, read_std: F64 | None) -> Knots:
    """The table at uniform inputs: as given where ``x`` is uniform, or else resampled."""
    read = np.zeros_like(std) if read_std is None else read_std
    knots = np.linspace(x[0], x[-1], len(x))
    if np.abs(knots - x).max() > UNIFORM * (knots[1] - knots[0]):
        knots = np.linspace(x[0], x[-1], RESAMPLED + 1)
        mean, std, read = (np.interp(knots, x, v) for v in (mean, std, read))
    return Knots(knots, mean, np.sqrt(np.maximum(std**2 - read**2, 0.0)), read)


def find_branch(knots: Knots) -> tuple[F64, F64]:
    """Inputs and means of the strictly monotone stretch that spans the most output."""
    mean = knots.mean
    turns = np.flatnonzero(np.diff(np.sign(np.diff(mean)))) + 1
    ends = [0, *turns.tolist(), len(mean) - 1]
    spans = np.abs(np.diff(mean[ends]))
    if spans.max() == 0:
        raise _arguments.wrong_value("mean", "one that depends on x", f"{mean[0]} at every knot")
    longest = int(np.argmax(spans))
    part = slice(ends[longest], ends[longest + 1] + 1)
    return knots.x[part], mean[part]


def given_branch(branch: tuple[float, float], knots: Knots, resampled: bool) -> tuple[F64, F64]:
    """Inputs and strictly monotone means along a branch that the user chose."""
    lo, hi = branch
    near = UNIFORM * (knots.x[1] - knots.x[0])  # an end may be a knot but for rounding
    if resampled:
        # Not beyond the working knots: the segment across an end that is a turning point of the
        # user's table may run the wrong way.
        along = knots.x[(knots.x >= lo - near) & (knots.x <= hi + near)]
    else:
        inner = knots.x[(knots.x > lo + near) & (knots.x < hi - near)]
        along = np.concatenate([[lo], inner, [hi]])
    means = np.interp(along, knots.x, knots.mean)
    if set(np.sign(np.diff(means)).tolist()) not in ({1.0}, {-1.0}):
        raise _arguments.wrong_value(
            "branch", "an interval on which the mean is strictly monotone", repr(branch)
        )
    return along, means


def steps(values: F64) -> F32:
    """Columns of ``values`` and of the next value - value, last 0, in float32."""
    rounded = values.astype(np.float32)
    difference = np.diff(rounded.astype(np.float64), append=float(rounded[-1]))
    return np.stack([rounded, difference.astype(np.float32)], axis=1)
