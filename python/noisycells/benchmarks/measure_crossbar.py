"""Timing of the cases on crossbars."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from .. import runtime
from .crossbar import CASES as PRODUCTS
from .crossbar import CrossbarCase, Field, Job, Work
from .crossbar_goals import NOISELESS, least_peak, least_speedup, most_time
from .layers import CASES as LAYERS
from .limits import Limit, limits, peak
from .timing import simd_level, times
from .training import CASES as TRAINING

__all__ = ["CASES", "cases", "rows"]

CASES: tuple[CrossbarCase, ...] = PRODUCTS + LAYERS + TRAINING


def cases(shrink: int) -> list[CrossbarCase]:
    """Those of a run whose sizes are divided by ``shrink``."""
    return [case for case in CASES if shrink == 1 or not case.full]


def rows(case: CrossbarCase, shrink: int, threads: int, rounds: int) -> list[dict[str, Any]]:
    """One case with one number of threads: a row for each of its jobs."""
    field = case.prepare(shrink, _levels())
    if not field.jobs:
        return []
    jobs = {f"{job.name}, {job.level}": job for job in field.jobs}
    levels = {name: job.level for name, job in jobs.items() if job.level}
    bounds = _limits(field.jobs, threads)
    calls = {name: job.call for name, job in jobs.items()} | dict(field.rivals)
    calls |= {name: bound.call for name, bound in bounds.items()}
    levels |= {name: name.rpartition(" at ")[2] for name in bounds if " at " in name}
    taken = times(calls, threads, rounds, levels=levels, pools=("numpy",) if threads > 1 else ())
    rates = {n: b.amount / statistics.median(taken[n]) for n, b in bounds.items()}
    return [_row(case, field, job, name, taken, rates, threads) for name, job in jobs.items()]


def _levels() -> list[str]:
    """The SIMD level in use, and AVX-512 with VNNI below AMX."""
    level = runtime.simd_level()
    return [level, "avx512_vnni"] if level == "amx" else [level]


def _limits(jobs: Sequence[Job], threads: int) -> dict[str, Limit]:
    """What the machine can do of what the jobs take; those of a level are named "... at level"."""
    works = [job.work for job in jobs if job.work]
    found: dict[str, Limit] = {}
    if works:
        reads, writes = (max(getattr(w, name) for w in works) for name in ("reads", "writes"))
        draws = max(w.draws for w in works)
        found |= limits(1, reads=reads, writes=writes, draws=draws, threads=threads)
    for job in jobs:
        if job.work and job.work.kernel:
            level = job.level or runtime.simd_level()
            name = f"{_arithmetic(job.work)} at {level}"
            if name not in found:
                with simd_level(level):
                    found[name] = peak(job.work.kernel != "float32", threads)
    return found


def _arithmetic(work: Work) -> str:
    return "float32" if work.kernel == "float32" else "integer"


def _row(
    case: CrossbarCase,
    field: Field,
    job: Job,
    name: str,
    taken: Mapping[str, list[float]],
    rates: Mapping[str, float],
    threads: int,
) -> dict[str, Any]:
    level = job.level or runtime.simd_level()
    ours = statistics.median(taken[name])

    def rival(name: str) -> dict[str, Any]:
        if name not in taken:
            return {"name": name, "missing": field.absent.get(name, "torch not installed")}
        theirs, key = statistics.median(taken[name]), (level, case.kind, job.name, name, threads)
        found = {"name": name, **_figures(taken[name])}
        if name in NOISELESS:
            goal, time = most_time(*key), ours / theirs
            return found | {"time": time, "goal": goal, "met": goal and time <= goal}
        goal, speedup = least_speedup(*key), theirs / ours
        return found | {"speedup": speedup, "goal": goal, "met": goal and speedup >= goal}

    return {
        "case": case.name,
        "title": case.title,
        "job": job.name,
        "level": level,
        "threads": threads,
        "ours": _figures(taken[name]),
        "rivals": [rival(name) for name in job.rivals],
        "limit": _limit(case, job, level, ours, rates) if job.work else None,
    }


def _figures(seconds: list[float]) -> dict[str, float]:
    return {"median_ms": 1e3 * statistics.median(seconds), "min_ms": 1e3 * min(seconds)}


def _limit(
    case: CrossbarCase, job: Job, level: str, ours: float, rates: Mapping[str, float]
) -> dict[str, Any]:
    """The limit that takes longest, or the processor's peak where there is a goal for it."""
    work, goal = job.work, least_peak(level, case.name, job.name)
    assert work is not None
    amounts = {"memcpy": work.reads + work.writes, "Philox": work.draws}
    if work.kernel:
        # AMX has 8-bit products, of which a 16-bit weight takes two.
        narrow = level == "amx" and work.kernel == "int8"
        arithmetic = f"{_arithmetic(work)} at {level}"
        amounts[arithmetic] = work.operations / (2 if narrow else 1)
    seconds = {name: amount / 1e9 / rates[name] for name, amount in amounts.items() if amount}
    binding = arithmetic if goal else max(seconds, key=lambda name: seconds[name])
    share = seconds[binding] / ours
    return {
        "name": binding.partition(" ")[0],
        "rate": rates[binding],
        "share": share,
        "goal": goal,
        "met": goal and share >= goal,
    }
