"""Linear interpolation in tables, as the rivals do it."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from .contenders import F32, F64

__all__ = ["by_interp", "by_numpy", "by_torch", "by_torch_plainly"]

Lookup = Callable[[Any], list[Any]]
"""New arrays of the values of some tables, which share their knots, at given inputs."""


def by_interp(knots: F64, *tables: F64) -> Lookup:
    """``np.interp``; float64."""
    return lambda x: [np.interp(x, knots, table) for table in tables]


def by_numpy(knots: F64, *tables: F64) -> Lookup:
    """For uniform knots, in float32: the place in the table is found once for all tables."""
    low, per_unit = np.float32(knots[0]), np.float32(_per_unit(knots))
    values = [table.astype(np.float32) for table in tables]
    steps = [np.append(np.diff(value), np.float32(0)) for value in values]

    def look_up(x: F32) -> list[F32]:
        place = (x - low) * per_unit
        row = place.astype(np.intp)
        place -= row.astype(np.float32)
        found = []
        for value, step in zip(values, steps, strict=True):
            y = step.take(row, mode="clip")
            y *= place
            y += value.take(row, mode="clip")
            found.append(y)
        return found

    return look_up


def by_torch_plainly(torch: ModuleType, knots: F64, *tables: F64) -> Lookup:
    """For uniform knots: index, and ``torch.lerp`` between neighbours."""
    low, per_unit, last = float(knots[0]), _per_unit(knots), len(knots) - 2
    values = [torch.from_numpy(table.astype(np.float32)) for table in tables]

    def look_up(x: Any) -> list[Any]:
        place = (x - low) * per_unit
        row = place.long().clamp_(0, last)
        fraction = place - row
        return [torch.lerp(value[row], value[row + 1], fraction) for value in values]

    return look_up


def by_torch(torch: ModuleType, knots: F64, *tables: F64) -> Lookup:
    """The same with tables of steps and ``index_select``, the fastest of torch's gathers."""
    low, per_unit, last = float(knots[0]), _per_unit(knots), len(knots) - 1
    values = [torch.from_numpy(table.astype(np.float32)) for table in tables]
    steps = [torch.diff(value, append=value[-1:]) for value in values]

    def look_up(x: Any) -> list[Any]:
        place = (x - low).mul_(per_unit)
        row = place.int().clamp_(0, last)
        place.sub_(row)
        return [
            torch.index_select(value, 0, row).addcmul_(place, torch.index_select(step, 0, row))
            for value, step in zip(values, steps, strict=True)
        ]

    return look_up


def _per_unit(knots: F64) -> float:
    return (len(knots) - 1) / float(np.ptp(knots))
