"""Speed of the main paths beside numpy and torch, on the machine at hand.

In each round all contenders of a case run in turn, in one process, so that a change of clock or
load hits all of them alike, each once unmeasured and once measured. Rivals work in the plain way
of their library, in float32 where it can, with tables made beforehand and large buffers reused;
torch and numpy's BLAS use as many threads as the package. Products of rivals have neither noise
nor converters.

The source tree's ``python -m bench`` builds on this package and adds more cases, rivals that are
tuned by hand, goals, other simulators, and the limits of the machine.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from .._text import paragraphs, table
from .cases import CASES, OURS, Case
from .timing import check_counts, machine, machine_lines, simd_level, times

__all__ = ["QUICK", "ROUNDS", "render", "run", "steps"]


def __dir__() -> list[str]:
    return __all__


ROUNDS = 7

QUICK = 16
"""What to divide sizes by for a first impression."""


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
        Of plain values, for JSON: ``machine``, ``shrink``, ``rounds`` and ``rows``, one for each
        case and number of threads, with milliseconds of all contenders.

    Raises
    ------
    ValueError
        If a number is out of range, or the level not available.
    """
    check_counts(threads=threads, shrink=shrink, rounds=rounds)
    with simd_level(level):
        rows = []
        for count in threads:
            for case in CASES:
                rows.append(_row(case, max(case.size // shrink, 1), count, rounds))
                progress()
        return {"machine": machine(), "shrink": shrink, "rounds": rounds, "rows": rows}


def steps(threads: int) -> int:
    """Of the progress of a run with so many numbers of threads."""
    return threads * len(CASES)


def _row(case: Case, size: int, threads: int, rounds: int) -> dict[str, Any]:
    taken = times(case.prepare(size), threads, rounds, pools=case.pools)
    ours = statistics.median(taken[OURS])
    contenders = {
        name: {
            "median_ms": 1e3 * statistics.median(seconds),
            "min_ms": 1e3 * min(seconds),
            "ratio": statistics.median(seconds) / ours,
        }
        for name, seconds in taken.items()
    }
    return {"case": case.title, "elements": size, "threads": threads, "contenders": contenders}


def render(result: dict[str, Any]) -> str:
    """The result of :func:`run` as a table of text."""
    about = machine_lines(result["machine"])
    about.append(f"ms, medians of {result['rounds']} rounds, and how many times ours they are")
    if result["shrink"] > 1:
        about.append(f"Sizes divided by {result['shrink']}: in the caches, or mostly overhead.")
    lines = paragraphs(about)
    for threads, rows in itertools.groupby(result["rows"], lambda row: row["threads"]):
        title = f"{threads} thread{'s' if threads > 1 else ''}"
        heads = [title, "size", OURS, "numpy", "torch"]
        lines += ["", *table([heads, *map(_cells, rows)])]
    lines += ["", *paragraphs(["Products of numpy and torch have neither noise nor converters."])]
    return "\n".join(lines)


def _cells(row: dict[str, Any]) -> list[str]:
    """A case, its size, and the times of all contenders."""
    contenders = row["contenders"]
    rivals = (
        f"{found['median_ms']:.3g} ({found['ratio']:.3g}x)" if found else "not installed"
        for found in (contenders.get("numpy"), contenders.get("torch"))
    )
    ours = f"{contenders[OURS]['median_ms']:.3g}"
    return [row["case"], str(row["elements"]), ours, *rivals]
