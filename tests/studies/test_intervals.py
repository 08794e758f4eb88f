"""Student-t intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest

from noisycells.intervals import mean_and_interval, student_t


def test_student_t_closed_forms() -> None:
    for confidence in (0.1, 0.5, 0.95, 0.999):
        assert student_t(confidence, 1) == pytest.approx(math.tan(math.pi / 2 * confidence))
        exact = confidence * math.sqrt(2 / (1 - confidence**2))
        assert student_t(confidence, 2) == pytest.approx(exact)


def test_student_t_is_scipys() -> None:
    special = pytest.importorskip("scipy.special")
    for degrees in (1, 2, 3, 4, 5, 9, 24, 99, 1000):
        for confidence in (0.5, 0.9, 0.95, 0.9999):
            expected = special.stdtrit(degrees, (1 + confidence) / 2)
            assert student_t(confidence, degrees) == pytest.approx(expected, rel=1e-10)


def test_mean_and_interval() -> None:
    mean, half_width = mean_and_interval([1, 2, 3, 4])
    assert mean == 2.5
    assert half_width == pytest.approx(3.182446305 * np.sqrt(5 / 3) / 2)  # t(0.975, 3)
    assert mean_and_interval([1, 2, 3, 4], 0.5)[1] < half_width / 3


def test_mean_and_interval_covers() -> None:
    """95 % of 4000 intervals hold the true mean; 0.0155 is 4.5 standard errors (1e-5)."""
    draws = np.random.default_rng(8).standard_normal((4000, 5))
    covered = [abs(m) <= h for m, h in map(mean_and_interval, draws)]
    assert abs(np.mean(covered) - 0.95) < 0.0155


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"values: expected at least two .* got 1"):
        mean_and_interval([1.0])
    with pytest.raises(ValueError, match=r"confidence: .* got 1"):
        mean_and_interval([1.0, 2.0], 1)
    with pytest.raises(ValueError, match=r"degrees: expected an int in .1, 2147483647., got 0"):
        student_t(0.95, 0)
