"""Timing: contenders in turn, round after round."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from .. import runtime
from .contenders import Call, torch_or_none

__all__ = ["num_threads", "simd_level", "times"]

_SHORT = 0.005  # seconds; shorter calls are measured several at a time
_REST = 0.1  # seconds after which the threads of an idle pool sleep


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
        Calls whose library has threads of its own: others' are let go to sleep before, theirs
        after.
    """
    taken: dict[str, list[float]] = {name: [] for name in calls}
    at = {name: (levels or {}).get(name) for name in calls}
    repeats = {}
    with num_threads(threads):
        for name, call in calls.items():
            with simd_level(at[name]):
                call()
                repeats[name] = max(1, min(math.ceil(_SHORT / max(_seconds(call, 1), 1e-6)), 1000))
        for _ in range(rounds):
            for name, call in calls.items():
                with simd_level(at[name]), _alone() if name in pools else nullcontext():
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
def _alone() -> Iterator[None]:
    time.sleep(_REST)
    yield
    time.sleep(_REST)
