"""All cases measured: times, ratios to rivals, shares of the machine's limits, goals met."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from noisycells import runtime
from noisycells.speed import ROUNDS
from noisycells.speed.timing import check_counts, machine, simd_level, times

from . import cases
from .cases.case import Case, Field, Job, Work, job_key
from .goals import is_time, least_share, least_speedup, most_time
from .limits import Limit, limits, peak
from .memory import extra_memory

__all__ = ["rows", "run", "steps"]

_LIMIT_SIZE = 16 << 20
_MEMORY_SIZE, _LEAST_MEMORY_SIZE = 16 << 20, 1 << 20

Times = Mapping[str, list[float]]
"""Seconds of each call in each round."""


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
        number of threads), ``rows`` (cases that take so much an element, one for each case and
        number of threads), ``crossbar`` (rows for each other case, number of threads and way to
        do it) and ``memory``.

    Raises
    ------
    ValueError
        If a number is out of range, or the level not available.
    """
    check_counts(threads=threads, shrink=shrink, rounds=rounds)
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
            for case in cases.of_run(shrink):
                for row in rows(case, shrink, count, rounds):
                    result["rows" if "elements" in row else "crossbar"].append(row)
                progress()
        result["memory"] = extra_memory(max(_MEMORY_SIZE // shrink, _LEAST_MEMORY_SIZE))
        progress()
    return result


def steps(threads: int, shrink: int) -> int:
    """Of the progress of a run with so many numbers of threads."""
    return threads * len(cases.of_run(shrink)) + 1


def _limits_row(size: int, threads: int, rounds: int) -> dict[str, Any]:
    """What the machine can do: copying, filling, random words; no cases."""
    found = limits(reads=4 * size, writes=4 * size, draws=size, threads=threads)
    found |= limits(reads=0, writes=4 * size, draws=0, threads=threads)
    taken = times({name: limit.call for name, limit in found.items()}, threads, rounds)
    rates = {
        name: {"rate": limit.amount / statistics.median(taken[name]), "unit": limit.unit}
        for name, limit in found.items()
    }
    return {"threads": threads, **rates}


def rows(case: Case, shrink: int, threads: int, rounds: int) -> list[dict[str, Any]]:
    """One case with one number of threads: a row for each of its jobs."""
    field = case.prepare(shrink, _levels())
    if not field.jobs:
        return []
    bounds = _limits(field.jobs, threads)
    levels = {job_key(job): job.level for job in field.jobs}
    levels |= {name: name.rpartition(" at ")[2] for name in bounds if " at " in name}
    calls = field.calls | {name: bound.call for name, bound in bounds.items()}
    taken = times(calls, threads, rounds, levels=levels, pools=field.pools)
    return [_row(case, field, job, taken, bounds, threads) for job in field.jobs]


def _levels() -> list[str]:
    """The SIMD level in use, and AVX-512 with VNNI below AMX."""
    level = runtime.simd_level()
    return [level, "avx512_vnni"] if level == "amx" else [level]


def _limits(jobs: Sequence[Job], threads: int) -> dict[str, Limit]:
    """What the machine can do of what the jobs take; those of a level are named "... at level"."""
    works = [job.work for job in jobs if job.work]
    found: dict[str, Limit] = {}
    if works:
        most = {key: max(getattr(w, key) for w in works) for key in ("reads", "writes", "draws")}
        found |= limits(**most, threads=threads)
    for job in jobs:
        if job.work and job.work.kernel:
            level = _level(job)
            name = f"{_arithmetic(job.work)} at {level}"
            if name not in found:
                with simd_level(level):
                    found[name] = peak(job.work.kernel != "float32", threads)
    return found


def _level(job: Job) -> str:
    return job.level or runtime.simd_level()


def _arithmetic(work: Work) -> str:
    return "float32" if work.kernel == "float32" else "integer"


def _row(
    case: Case, field: Field, job: Job, taken: Times, bounds: Mapping[str, Limit], threads: int
) -> dict[str, Any]:
    """One way of doing a case."""
    level, seconds = _level(job), taken[job_key(job)]
    ours = statistics.median(seconds)

    def rival(name: str) -> dict[str, Any]:
        if name not in taken:
            return {"name": name, "missing": field.absent.get(name, "torch not installed")}
        found = {"name": name, **_figures(taken[name], field.elements)}
        theirs, key = statistics.median(taken[name]), (level, case.kind, job.name, name, threads)
        if is_time(name):
            goal, time = most_time(*key), ours / theirs
            return found | {"time": time, "goal": goal, "met": goal and time <= goal}
        goal, speedup = least_speedup(*key), theirs / ours
        return found | {"speedup": speedup, "goal": goal, "met": goal and speedup >= goal}

    row = {
        "case": case.name,
        "title": case.title,
        "job": job.name,
        "level": level,
        "threads": threads,
        "ours": _figures(seconds, field.elements),
        "rivals": [rival(name) for name in job.rivals],
        "limit": _limit(case, job, ours, taken, bounds) if job.work else None,
    }
    return row | {"elements": field.elements} if field.elements else row


def _figures(seconds: list[float], elements: int) -> dict[str, float]:
    """Nanoseconds an element, or milliseconds."""
    unit, per = ("ns", 1e9 / elements) if elements else ("ms", 1e3)
    return {
        f"median_{unit}": per * statistics.median(seconds),
        f"min_{unit}": per * min(seconds),
    }


def _limit(
    case: Case, job: Job, ours: float, taken: Times, bounds: Mapping[str, Limit]
) -> dict[str, Any]:
    """The limit that takes longest, or the processor's peak of a product with a goal for it."""
    work, goal = job.work, least_share(_level(job), case.name, job.name)
    assert work is not None
    rates = {name: b.amount / statistics.median(taken[name]) for name, b in bounds.items()}
    moved = work.reads + work.writes
    amounts = {"memcpy" if "memcpy" in bounds else "fill": moved, "Philox": work.draws}
    arithmetic = f"{_arithmetic(work)} at {_level(job)}"
    if work.kernel:
        # AMX has 8-bit products, of which a 16-bit weight takes two.
        narrow = _level(job) == "amx" and work.kernel == "int8"
        amounts[arithmetic] = work.operations / (2 if narrow else 1)
    seconds = {name: amount / 1e9 / rates[name] for name, amount in amounts.items() if amount}
    binding = max(seconds, key=lambda name: seconds[name])
    if goal and work.kernel:
        binding = arithmetic
    share = seconds[binding] / ours
    return {
        "name": binding.partition(" ")[0],
        "rate": rates[binding],
        "unit": bounds[binding].unit,
        "share": share,
        "goal": goal,
        "met": goal and share >= goal,
    }
