"""Rounding with error feedback against its definition, weight by weight."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from noisycells.storage import feedback

F64 = NDArray[np.float64]


def moments(inputs: int, seed: int) -> F64:
    a = np.random.default_rng(seed).standard_normal((3 * inputs, inputs))
    a @= np.random.default_rng(seed + 1).standard_normal((inputs, inputs))
    return np.asarray(a.T @ a / len(a))


def definition(row: F64, step: float, h: F64) -> F64:
    """Round the first free weight, then move the others to where the damped error is least."""
    order = np.argsort(-np.diag(h), kind="stable")
    damped = h + feedback.DAMPING * np.diag(h).mean() * np.eye(len(h))
    values, free = row.copy(), list(order)
    while free:
        first, free = free[0], free[1:]
        rounded = np.rint(values[first] / step) * step
        error = values[first] - rounded
        values[first] = rounded
        if free:
            inner = damped[np.ix_(free, free)]
            values[free] += np.linalg.solve(inner, damped[free, first]) * error
    return values


@pytest.mark.parametrize("inputs", [1, 5, 70, 130])
def test_definition(inputs: int) -> None:
    weights = np.random.default_rng(1).standard_normal((3, inputs))
    h = moments(inputs, 2)
    found = feedback.round_matrix(weights, feedback.uniform(0.3), h)
    for row, expected in zip(found, weights, strict=True):
        assert np.allclose(row, definition(expected, 0.3, h))


def test_masked_rows_are_rounded_among_their_own_weights() -> None:
    rng = np.random.default_rng(3)
    weights, h = rng.standard_normal((40, 30)), np.diag(rng.uniform(1, 2, 30))
    h = h + 0.3 * np.outer(np.ones(30), np.ones(30))
    mask = rng.random((40, 30)) < rng.random((40, 1))
    mask[5], mask[6] = False, True
    found = feedback.round_matrix(weights, feedback.uniform(0.4), h, mask)
    assert (found[~mask] == 0).all()
    for row in range(40):
        kept = np.flatnonzero(mask[row])
        if len(kept):
            expected = definition(weights[row, kept], 0.4, h[np.ix_(kept, kept)])
            assert np.allclose(found[row, kept], expected)


def test_errors_of_outputs_shrink() -> None:
    weights, h = np.random.default_rng(4).standard_normal((50, 80)), moments(80, 5)
    errors = []
    for given in (None, h):
        e = feedback.round_matrix(weights, feedback.uniform(0.5), given) - weights
        errors.append(float(np.einsum("ri,ij,rj->", e, h, e)))
    assert errors[1] < 0.5 * errors[0]


def test_without_moments_each_weight_is_rounded_alone() -> None:
    weights = np.random.default_rng(6).standard_normal((4, 9))
    found = feedback.round_matrix(weights, feedback.uniform(0.25))
    assert np.array_equal(found, np.rint(weights / 0.25) * 0.25)


def test_given_levels() -> None:
    levels, scale = np.array([-1.5, -0.5, 0.5, 1.5]), np.full(10, 2.0)
    weights = np.linspace(-5, 5, 10)[None]
    found = feedback.round_matrix(weights, feedback.nearest(levels, scale))
    assert np.array_equal(found[0], [-3, -3, -3, -1, -1, 1, 1, 3, 3, 3])


def test_share_of_errors_that_feedback_leaves() -> None:
    """As it is measured; 1 of inputs that have nothing to do with each other."""
    h = moments(40, 8)
    damped = h + feedback.DAMPING * np.diag(h).mean() * np.eye(40)
    weights = np.random.default_rng(9).standard_normal((2000, 40))
    lost = []
    for given in (None, h):
        e = feedback.round_matrix(weights, feedback.uniform(0.05), given) - weights
        lost.append(float(np.einsum("ri,ij,rj->", e, damped, e)))
    assert feedback.share_left(h) == pytest.approx(lost[1] / lost[0], rel=0.05)
    assert feedback.share_left(h) < 0.5
    assert feedback.share_left(np.eye(7)) == pytest.approx(1)
    assert feedback.share_left(np.zeros((3, 3))) == 1
