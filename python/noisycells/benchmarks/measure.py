"""All cases, their limits and their goals."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

from .. import runtime
from .cases import CASES, Case, least_share, least_speedup, most_time
from .contenders import OURS, OWN
from .limits import limits
from .machine import machine
from .measure_crossbar import cases as crossbar_cases
from .measure_crossbar import rows as crossbar_rows
from .memory import extra_memory
from .timing import simd_level, times

__all__ = ["QUICK", "ROUNDS", "run", "steps"]

ROUNDS = 7

QUICK = 16
"""What to divide sizes by for a first impression."""

_LIMIT_SIZE = 16 << 20
_MEMORY_SIZE, _LEAST_MEMORY_SIZE = 16 << 20, 1 << 20
_MOST_SHRINK = 4096


def run(
    *,
    threads: Sequence[int] = (1, 2),
    level: str | None = None,
    shrink: int = 1,
    rounds: int = ROUNDS,
    progress: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Measure all cases.

    Parameters
    ----------
    threads : sequence of int
        Numbers of threads to measure with, one after the other.
    level : str, optional
        SIMD level to measure at; the one in use if not given.
    shrink : int
        Divide sizes by this, 1 to 4096; small arrays fit in the processor's caches.
    rounds : int
        Times that each contender runs.
    progress : callable
        Called :func:`steps` times.

    Returns
    -------
    dict
        Of plain values, for JSON: ``machine``, ``shrink``, ``rounds``, ``limits`` (one for each
        number of threads), ``rows`` (one for each case and number of threads), ``crossbar`` (rows
        for each case, number of threads and way to do it) and ``memory``.

    Raises
    ------
    ValueError
        If a number is out of range, or the level not available.
    """
    for name, number, most in (
        *(("threads", count, 4096) for count in threads),
        ("shrink", shrink, _MOST_SHRINK),
        ("rounds", rounds, 10_000),
    ):
        if not 1 <= number <= most:
            raise ValueError(f"{name}: expected 1 to {most}, got {number}")
    with simd_level(level):
        result: dict[str, Any] = {
            "machine": machine(),
            "shrink": shrink,
            "rounds": rounds,
            "limits": [],
            "rows": [],
            "crossbar": [],
        }
        for count in threads:
            result["limits"].append(_limits_row(_LIMIT_SIZE // shrink, count, rounds))
            for case in CASES:
                size = case.size // shrink // 4 * 4
                result["rows"].append(_row(case, size, count, rounds))
                progress()
            for crossbar_case in crossbar_cases(shrink):
                result["crossbar"] += crossbar_rows(crossbar_case, shrink, count, rounds)
                progress()
        result["memory"] = extra_memory(max(_MEMORY_SIZE // shrink, _LEAST_MEMORY_SIZE))
        progress()
    return result


def steps(threads: int, shrink: int) -> int:
    """Of the progress of a run with so many numbers of threads."""
    return threads * (len(CASES) + len(crossbar_cases(shrink))) + 1


def _limits_row(size: int, threads: int, rounds: int) -> dict[str, Any]:
    """What the machine can do: copying, filling, random words; no cases."""
    found = limits(size, reads=4, writes=4, draws=1, threads=threads)
    found |= limits(size, reads=0, writes=4, draws=0, threads=threads)
    taken = times({name: limit.call for name, limit in found.items()}, threads, rounds)
    rates = {
        name: {"rate": limit.amount / statistics.median(taken[name]), "unit": limit.unit}
        for name, limit in found.items()
    }
    return {"threads": threads, **rates}


def _row(case: Case, size: int, threads: int, rounds: int) -> dict[str, Any]:
    """One case with one number of threads."""
    level = runtime.simd_level()
    bounds = limits(size, reads=case.reads, writes=case.writes, draws=case.draws, threads=threads)
    contenders = case.prepare(size)
    calls = contenders | {name: bound.call for name, bound in bounds.items()}
    taken = times(calls, threads, rounds)
    median = {name: statistics.median(seconds) for name, seconds in taken.items()}

    def figures(name: str) -> dict[str, Any]:
        nanoseconds = 1e9 / size
        return {
            "name": name,
            "median_ns": median[name] * nanoseconds,
            "min_ns": min(taken[name]) * nanoseconds,
        }

    def rival(name: str) -> dict[str, Any]:
        if name not in contenders:
            return {"name": name, "missing": f"{name.split()[0]} not installed"}
        if name.startswith(OWN):
            goal = most_time(level, case.name)
            time = median[OURS] / median[name]
            return figures(name) | {"time": time, "goal": goal, "met": goal and time <= goal}
        goal = least_speedup(level, case.name, name, threads)
        speedup = median[name] / median[OURS]
        return figures(name) | {"speedup": speedup, "goal": goal, "met": goal and speedup >= goal}

    binding = max(bounds, key=lambda name: median[name])
    share, goal = median[binding] / median[OURS], least_share(level, case.name)
    return {
        "case": case.name,
        "title": case.title,
        "elements": size,
        "threads": threads,
        "ours": figures(OURS),
        "rivals": [rival(name) for name in case.rivals],
        "limit": {
            **figures(binding),
            "rate": bounds[binding].amount / median[binding],
            "unit": bounds[binding].unit,
            "share": share,
            "goal": goal,
            "met": goal and share >= goal,
        },
    }
