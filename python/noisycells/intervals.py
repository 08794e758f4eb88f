"""Means with their confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from . import _arguments

__all__ = ["mean_and_interval", "student_t"]


def __dir__() -> list[str]:
    return __all__


def mean_and_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Mean and half width of its Student-t interval.

    Parameters
    ----------
    values : sequence of float
        At least two, taken as independent and normally distributed.
    confidence : float
        Probability that the interval covers the true mean, in (0, 1).

    Raises
    ------
    ValueError
        If there are fewer than two values or ``confidence`` is out of range.
    """
    if len(values) < 2:
        raise _arguments.wrong_value("values", "at least two for an interval", len(values))
    error = np.std(values, ddof=1) / np.sqrt(len(values))
    return float(np.mean(values)), student_t(confidence, len(values) - 1) * float(error)


def student_t(confidence: float, degrees: int) -> float:
    """Bound within which ``|t|`` of Student's distribution stays with probability ``confidence``.

    By bisection of Abramowitz and Stegun, "Handbook of Mathematical Functions" (1964), 26.7.3 and
    26.7.4, finite sums for whole degrees of freedom.

    Parameters
    ----------
    confidence : float
        In (0, 1).
    degrees : int
        Degrees of freedom, at least 1.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    confidence = _arguments.number("confidence", confidence, above=0, below=1)
    degrees = _arguments.count("degrees", degrees)
    low, high = 0.0, math.pi / 2
    while low < (middle := (low + high) / 2) < high:
        if _within(middle, degrees) < confidence:
            low = middle
        else:
            high = middle
    return math.sqrt(degrees) * math.tan(high)


def _within(angle: float, degrees: int) -> float:
    """Probability that ``|t| < sqrt(degrees) tan(angle)``."""
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = degrees % 2
    term = cosine if odd else 1.0
    total = 0.0 if degrees == 1 else term
    for k in range(2 + odd, degrees - 1, 2):
        term *= cosine**2 * ((k - 1) / k)
        total += term
    return 2 / math.pi * (angle + sine * total) if odd else sine * total
