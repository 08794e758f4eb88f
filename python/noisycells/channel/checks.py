"""Checks of the tables that a channel is made of."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _arguments
from .._types import F64, LARGEST

__all__ = ["bits", "branch", "inputs", "part", "per_knot", "spread"]


def inputs(x: npt.ArrayLike) -> F64:
    """Two or more inputs, strictly increasing."""
    found = _arguments.array64("x", x)
    if len(found) < 2:
        raise _arguments.wrong_value("x", "at least 2 inputs", len(found))
    rising = np.diff(found) > 0
    if not rising.all():
        at = int(np.argmin(rising))
        raise _arguments.wrong_value(
            "x",
            "strictly increasing inputs",
            f"{found[at]} and then {found[at + 1]} at {at + 1}",
        )
    _arguments.span("x", float(found[0]), float(found[-1]))
    return found


def per_knot(name: str, values: npt.ArrayLike, n: int) -> F64:
    """A number for each of ``n`` knots."""
    found = _arguments.array64(name, values)
    if len(found) != n:
        raise _arguments.wrong_value(name, f"the length of x, {n}", len(found))
    return found


def spread(name: str, values: npt.ArrayLike, n: int) -> F64:
    """A standard deviation, for each of ``n`` knots or one for all."""
    if np.ndim(values) == 0:
        values = np.full(n, _arguments.number(name, values))
    found = per_knot(name, values, n)
    if found.min() < 0:
        raise _arguments.wrong_value(name, "values >= 0", found.min())
    if found.max() > LARGEST:
        raise _arguments.wrong_value(name, f"values up to {LARGEST:g}", found.max())
    return found


def part(read_std: F64, std: F64, x: F64) -> F64:
    """``read_std``, refused where it is more than ``std``, of which it is a part."""
    if (read_std > std).any():
        at = int(np.argmax(read_std > std))
        raise _arguments.wrong_value(
            "read_std",
            "at most std, of which it is a part",
            f"{read_std[at]} of {std[at]} at x = {x[at]}",
        )
    return read_std


def branch(given: Any, x: F64) -> tuple[float, float]:
    """An interval within the table."""
    if not isinstance(given, (tuple, list, np.ndarray)) or len(given) != 2:
        raise _arguments.wrong_type("branch", "a pair (x_lo, x_hi)", given)
    lo, hi = (_arguments.number("branch", end) for end in given)
    if not x[0] <= lo < hi <= x[-1]:
        raise _arguments.wrong_value("branch", f"an interval within [{x[0]}, {x[-1]}]", repr(given))
    return lo, hi


def bits(name: str, value: Any, most: int) -> int | None:
    """Width of a converter, or None where there is none."""
    return None if value is None else _arguments.integer(name, value, 1, most)
