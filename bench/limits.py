"""What the machine can do at best."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from noisycells import _core
from noisycells.speed.timing import Call

from .peak import multiply_adds

__all__ = ["Limit", "limits", "peak"]


class Limit(NamedTuple):
    """``call`` does ``amount`` units of something as fast as the machine can."""

    call: Call
    amount: float
    unit: str


def limits(*, reads: float, writes: float, draws: float, threads: int) -> dict[str, Limit]:
    """The limits of a job: its memory traffic and its random words.

    Parameters
    ----------
    reads, writes, draws : float
        Bytes read and written, and random words.
    threads : int
        Threads that share copying and filling; the words take the package's setting.

    Returns
    -------
    dict
        ``memcpy`` copies half as many bytes as the job reads and writes; ``fill``, for a job that
        only writes; ``Philox``, where there are draws.
    """
    moved = int(reads + writes)
    found = {}
    if reads:
        found["memcpy"] = Limit(_copy(moved // 2, threads), moved / 1e9, "GB/s")
    elif writes:
        found["fill"] = Limit(_fill(moved, threads), moved / 1e9, "GB/s")
    if draws:
        words = np.empty(int(draws), np.uint32)
        found["Philox"] = Limit(
            lambda: _core.random_words(words, 1, 0, 0), len(words) / 1e9, "Gwords/s"
        )
    return found


def peak(integer: bool, threads: int, least_seconds: float = 0.002) -> Limit:
    """Multiply-adds in registers, at the SIMD level in use.

    ``integer``: those of 16-bit integers, else of float32.
    """
    rounds, seconds = 1000, 0.0
    while seconds < least_seconds:
        rounds *= 2
        start = time.perf_counter()
        operations = multiply_adds(integer, rounds, threads)
        seconds = time.perf_counter() - start
    return Limit(lambda: multiply_adds(integer, rounds, threads), operations / 1e9, "Gop/s")


def _copy(size: int, threads: int) -> Call:
    source, target = np.ones(size, np.uint8), np.empty(size, np.uint8)
    return _shared(np.copyto, threads, target, source)


def _fill(size: int, threads: int) -> Call:
    return _shared(lambda part: part.fill(1), threads, np.empty(size, np.uint8))


def _shared(job: Callable[..., None], threads: int, *arrays: Any) -> Call:
    """A numpy job that lets go of the interpreter, on equal parts of some arrays."""
    if threads == 1:
        return lambda: job(*arrays)
    pool = ThreadPoolExecutor(threads)
    parts = [np.array_split(array, threads) for array in arrays]
    return lambda: list(pool.map(job, *parts))
