"""Devices of crossbars: tables, what happens to conductances, and both as the core takes them."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
from core_cases import steps
from numpy.typing import NDArray

from noisycells import _core, _types

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]


SPAN, G_MIN = 24.5, 0.5

GRID = np.linspace(0, 31, 1025)

INV_DX = float(np.float32(1024 / 31))

STUCK = _types.Stuck(2**30, 2**29, 0.25, 23.0)


def table(*columns: NDArray[np.float64]) -> F32:
    return np.ascontiguousarray(np.hstack([steps(c) for c in columns]))


PROGRAM_TABLE = table(GRID + 0.3 * np.sin(GRID), 0.26 + 1.9 * GRID / 25 - 1.1 * (GRID / 25) ** 2)

RELAX_TABLE = table(-0.1 * GRID / 31, 0.3 + 0.02 * GRID)

DRIFT_TABLE = table(0.35 - 0.005 * GRID, 0.14 + 0.001 * GRID)

FLICKER_TABLE = table(np.minimum(0.0088 / np.maximum(GRID / 25, 1e-3) ** 0.65, 0.2))

PROGRAMMING = {
    "plain": _types.Programming(PROGRAM_TABLE, 0.0, INV_DX, 0.0, 40.0),
    "stuck": _types.Programming(PROGRAM_TABLE, 0.0, INV_DX, 0.0, 40.0, STUCK),
    "clipped": _types.Programming(PROGRAM_TABLE, 0.0, INV_DX, 5.0, 12.0),
    "2 rows": _types.Programming(PROGRAM_TABLE[[0, -1]], 3.0, 0.125, 0.0, 40.0),
    "all stuck": _types.Programming(
        PROGRAM_TABLE, 0.0, INV_DX, 0.0, 40.0, _types.Stuck(2**31, 2**32, 1.0, 2.0)
    ),
    "stuck on": _types.Programming(
        PROGRAM_TABLE, -1.0, INV_DX, 0.0, 40.0, _types.Stuck(0, 2**31, 1.0, 2.0)
    ),
}

AGING_TABLES = {"relaxation": RELAX_TABLE, "drift": DRIFT_TABLE, "flicker": FLICKER_TABLE}


def aging(*happens: str, **changed: Any) -> _types.Aging:
    tables = {name: t if name in happens else None for name, t in AGING_TABLES.items()}
    limits = {"x0": 0.0, "inv_dx": INV_DX, "low": 0.0, "high": 40.0}
    return _types.Aging(**{**tables, **limits, **changed})


AGING = {
    " ".join(happens) or "nothing": aging(*happens)
    for count in range(4)
    for happens in combinations(AGING_TABLES, count)
}

AGING["stuck"] = aging(*AGING_TABLES, stuck=STUCK, high=10.0, low=1.0)

# Tables of different lengths over one grid.
AGING["short tables"] = aging(
    "relaxation", drift=DRIFT_TABLE[:700].copy(), flicker=FLICKER_TABLE[:400].copy()
)

# Exponents to beyond 87, where the exponential ends, and relaxation to below 0.
AGING["old"] = aging(
    "relaxation", "drift", relaxation=table(-0.5 * GRID, 0.4 * GRID),
    drift=table(5 * GRID, GRID), low=-40.0,
)  # fmt: skip


def bound_programming(p: _types.Programming) -> _core.Programming:
    ends = (p.stuck.off_conductance, p.stuck.on_conductance)
    return _core.Programming(p.table, p.x0, p.inv_dx, p.low, p.high, p.stuck[:2], ends)


def bound_aging(a: _types.Aging) -> _core.Aging:
    ends = (a.stuck.off_conductance, a.stuck.on_conductance)
    return _core.Aging(
        a.relaxation, a.drift, a.flicker, a.x0, a.inv_dx, a.low, a.high, a.stuck[:2], ends
    )
