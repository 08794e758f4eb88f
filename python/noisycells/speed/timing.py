"""Timing of contenders in turn, round after round, and what they were timed on."""

from __future__ import annotations

import math
import os
import platform
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from .. import _arguments, _core, runtime

__all__ = [
    "blas",
    "check_counts",
    "machine",
    "machine_lines",
    "num_threads",
    "simd_level",
    "times",
    "torch_or_none",
]

Call = Callable[[], Any]
"""Does a job once and returns its result, a buffer that the next call uses again."""

Contenders = dict[str, Call]
"""Who does the job, by name."""

SHORT_SECONDS = 0.005  # shorter calls are measured several at a time
REST_SECONDS = 0.1  # after which the threads of an idle pool sleep

_MOST = {"threads": 4096, "shrink": 4096, "rounds": 10_000}


def torch_or_none() -> ModuleType | None:
    """torch, or None where it is not installed."""
    try:
        import torch
    except ImportError:
        return None
    return torch


def check_counts(*, threads: Sequence[int], shrink: int, rounds: int) -> None:
    """Raise a ValueError where a number of a run is out of range."""
    named = [("shrink", shrink), ("rounds", rounds), *(("threads", count) for count in threads)]
    for name, number in named:
        if not 1 <= number <= _MOST[name]:
            raise _arguments.wrong_value(name, f"1 to {_MOST[name]}", number)


# --------------------------------------------------------------------------- settings and seconds


@contextmanager
def simd_level(level: str | None) -> Iterator[None]:
    """Another SIMD level for a while."""
    before = runtime.simd_level()
    if level is not None:
        runtime.set_simd_level(level)
    try:
        yield
    finally:
        runtime.set_simd_level(before)


@contextmanager
def num_threads(threads: int) -> Iterator[None]:
    """As many threads here, in torch and in numpy's BLAS for a while."""
    torch = torch_or_none()
    ours, theirs = runtime.get_num_threads(), 0 if torch is None else torch.get_num_threads()
    runtime.set_num_threads(0)
    if runtime.get_num_threads() == ours:
        ours = 0  # follow the threading runtime again
    runtime.set_num_threads(threads)
    if torch is not None:
        torch.set_num_threads(threads)
    try:
        with _blas_threads(threads):
            yield
    finally:
        runtime.set_num_threads(ours)
        if torch is not None:
            torch.set_num_threads(theirs)


def _blas_threads(threads: int) -> AbstractContextManager[Any]:
    try:
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
    except ImportError:
        return nullcontext()
    limit: AbstractContextManager[Any] = threadpool_limits(threads, user_api="blas")
    return limit


def times(
    calls: Mapping[str, Call],
    threads: int,
    rounds: int,
    *,
    levels: Mapping[str, str | None] | None = None,
    pools: Collection[str] = (),
) -> dict[str, list[float]]:
    """Seconds that each call took in each round.

    Parameters
    ----------
    calls : mapping of str to callable
    threads, rounds : int
    levels : mapping of str to str, optional
        SIMD levels at which some of the calls run.
    pools : collection of str
        Calls whose library has threads of its own, which it keeps awake for a while: with more
        than one thread, others' are let go to sleep before, theirs after.
    """
    taken: dict[str, list[float]] = {name: [] for name in calls}
    at = {name: (levels or {}).get(name) for name in calls}
    rest = REST_SECONDS if threads > 1 else 0
    repeats = {}
    with num_threads(threads):
        for name, call in calls.items():
            with simd_level(at[name]):
                call()
                once = max(_seconds(call, 1), 1e-6)
                repeats[name] = max(1, min(math.ceil(SHORT_SECONDS / once), 1000))
        for _ in range(rounds):
            for name, call in calls.items():
                with simd_level(at[name]), _alone(rest) if name in pools else nullcontext():
                    # Its data in the caches and its threads awake, as in a loop of its own.
                    _seconds(call, repeats[name])
                    taken[name].append(_seconds(call, repeats[name]))
    return taken


def _seconds(call: Call, repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats


@contextmanager
def _alone(rest: float) -> Iterator[None]:
    time.sleep(rest)
    yield
    time.sleep(rest)


# --------------------------------------------------------------------------- the machine


def machine() -> dict[str, Any]:
    """Processor, settings and versions, as plain values."""
    torch = torch_or_none()
    return {
        "cpu": _cpu(),
        "cores": _cores(),
        "load": os.getloadavg()[0],
        "simd_level": runtime.simd_level(),
        "threading": runtime.threading_backend(),
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY"),
        "compiler": _core.compiler,
        "noisycells": _core.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": None if torch is None else torch.__version__,
        "blas": blas(),
        "openblas_coretype": os.environ.get("OPENBLAS_CORETYPE"),
    }


def machine_lines(m: Mapping[str, Any]) -> list[str]:
    """The values of :func:`machine` for people."""
    return [
        f"{m['cpu']}, {m['cores']} cores, load {m['load']:.1f}; SIMD level {m['simd_level']}, "
        f"{m['compiler']}, {m['threading']}, OMP_WAIT_POLICY {m['omp_wait_policy'] or 'not set'}",
        f"noisycells {m['noisycells']}, Python {m['python']}, numpy {m['numpy']}, "
        f"torch {m['torch'] or 'not installed'}",
        f"numpy multiplies with {m['blas'] or 'a BLAS not known without threadpoolctl'}; "
        f"OPENBLAS_CORETYPE {m['openblas_coretype'] or 'not set'}",
    ]


def blas() -> str | None:
    """What numpy multiplies matrices with, and for which processor; None if that is not known."""
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return None
    found = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    found.sort(key=lambda pool: "numpy" not in pool["filepath"])
    if not found:
        return None
    return f"{found[0]['internal_api']} {found[0]['version']} {found[0].get('architecture', '')}"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
