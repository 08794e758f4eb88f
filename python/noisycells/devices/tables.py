"""A device's model as tables over the conductance, which is what the compiled core takes."""

from __future__ import annotations

import numpy as np

from .. import _arguments, _core
from .._types import F32, F64, LARGEST, Aging, Programming, Stuck
from .model import Model

__all__ = ["HEADROOM", "aging", "bind_aging", "bind_programming", "programming", "stuck"]

HEADROOM = 1.25
"""Tables run from 0 to this times g_max; targets beyond are refused."""
PROGRAMMING_ROWS = 5 * 256 + 1  # a multiple of 5 steps: g_max is one of the rows
AGING_ROWS = 5 * 512 + 1  # nu and the 1/f noise of PCM bend sharply at 1 % of g_max
UNLIMITED = float(np.finfo(np.float32).max)  # nothing but zero limits a conductance


def stuck(probabilities: tuple[float, float], g_min: float, g_max: float) -> Stuck:
    """Devices stuck off at ``g_min`` and on at ``g_max``, as the core takes them."""
    off = round(probabilities[0] * 2**32)
    return Stuck(off, min(round(probabilities[1] * 2**32), 2**32 - off), g_min, g_max)


def programming(model: Model, g_max: float, of_stuck: Stuck) -> Programming:
    """How devices answer to a target, over 0 to 1.25 ``g_max``."""
    grid = np.linspace(0.0, HEADROOM * g_max, PROGRAMMING_ROWS)
    columns = _table(*model.programmed(grid))
    return Programming(columns, 0.0, _inverse_step(grid), 0.0, UNLIMITED, of_stuck)


def aging(model: Model, g_max: float, of_stuck: Stuck, seconds: float) -> Aging | None:
    """What has become of devices after ``seconds``; None where nothing changes with time."""
    if not model.ages:
        return None
    grid = np.linspace(0.0, HEADROOM * g_max, AGING_ROWS)
    within = model.within(grid)
    return Aging(
        None if model.relaxation is None else _table(*model.relaxation(within, seconds)),
        None if model.drift is None else _table(*model.drift(within, seconds)),
        None if model.flicker is None else _table(model.flicker(grid, seconds)),
        0.0,
        _inverse_step(grid),
        0.0,
        UNLIMITED,
        of_stuck,
    )


def bind_programming(p: Programming) -> _core.Programming:
    """The tables as an object of the compiled core."""
    stuck = p.stuck
    return _core.Programming(
        *p[:-1], (stuck.off, stuck.on), (stuck.off_conductance, stuck.on_conductance)
    )


def bind_aging(a: Aging) -> _core.Aging:
    """The tables as an object of the compiled core."""
    stuck = a.stuck
    return _core.Aging(
        *a[:-1], (stuck.off, stuck.on), (stuck.off_conductance, stuck.on_conductance)
    )


def _inverse_step(grid: F64) -> float:
    return (len(grid) - 1) / float(grid[-1] - grid[0])


def _table(*columns: F64) -> F32:
    """Columns (value, next value - value) of each, float32, read-only."""
    parts = []
    for values in columns:
        if not (np.abs(values) <= LARGEST).all():
            top = np.abs(values).max()
            raise _arguments.wrong_value("device", f"curves up to {LARGEST:g}", f"{top:g}")
        rounded = values.astype(np.float32)
        parts += [rounded, np.diff(rounded, append=rounded[-1:])]
    table = np.ascontiguousarray(np.stack(parts, axis=1))
    table.flags.writeable = False
    return table
