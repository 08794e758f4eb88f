"""The length of the adaptive code: against coding one by one, and against entropies."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("torch")

from noisycells.torch.training.code_length import BINS, COARSE, PRIOR, REACH, UNARY, code_length


def one_by_one(table: np.ndarray) -> float:
    """The same code, with counts that grow as the entries come; nothing is known beforehand."""
    counts: dict[tuple[int, ...], list[int]] = {}
    bits = 0.0

    def decide(context: tuple[int, ...], decision: bool) -> None:
        nonlocal bits
        seen = counts.setdefault(context, [0, 0])
        bits -= math.log2((seen[decision] + 0.5) / (sum(seen) + 1))
        seen[decision] += 1

    def logit(p: float) -> float:
        p = min(max(p, 1e-6), 1 - 1e-6)
        return math.log(p / (1 - p))

    height, width = table.shape
    for i in range(height):
        for j in range(width):
            density = (np.count_nonzero(table[:i]) + 0.5) / (i * width + 1)
            row = (np.count_nonzero(table[i, :j]) + PRIOR * density) / (j + PRIOR)
            column = (np.count_nonzero(table[:i, j]) + PRIOR * density) / (i + PRIOR)
            place = min(max(logit(row) + logit(column) - logit(density), -REACH), REACH)
            context = min(int((place + REACH) / (2 * REACH) * BINS), BINS - 1)
            magnitude = abs(int(table[i, j]))
            decide((0, context), magnitude > 0)
            bits += magnitude > 0  # the sign
            for least in range(1, min(magnitude, UNARY - 1) + 1):
                decide((least, context * COARSE // BINS), magnitude > least)
            if magnitude >= UNARY:
                bits += 2 * math.floor(math.log2(magnitude - UNARY + 1)) + 1
    return bits


@pytest.mark.parametrize("spread", [0.3, 1.0, 9.0])
def test_is_that_of_a_coder_that_sees_the_past_alone(spread: float) -> None:
    draws = np.random.default_rng(1).laplace(size=(23, 31)) * spread
    table = np.rint(draws * np.linspace(0.1, 2, 31)).astype(int)
    assert code_length(table) == pytest.approx(one_by_one(table), rel=1e-9)
    assert code_length(table.reshape(23, 31, 1, 1)) == code_length(table)


def test_is_near_the_entropy() -> None:
    """Independent entries: at most 1 % above the entropy of their distribution as drawn."""
    table = np.rint(np.random.default_rng(2).laplace(size=(300, 500)) * 0.4).astype(int)
    _, counts = np.unique(table, return_counts=True)
    entropy = -float(np.sum(counts * np.log2(counts / table.size)))
    assert entropy < code_length(table) < 1.01 * entropy


def test_finds_empty_rows_and_columns() -> None:
    """A quarter of rows and columns in use: few bits for the rest, without a mask being sent."""
    generator = np.random.default_rng(3)
    used = np.outer(generator.random(400) < 0.25, generator.random(400) < 0.25)
    table = np.where(used, generator.integers(1, 3, (400, 400)), 0)
    inside = np.count_nonzero(used)
    assert code_length(table) < 2 * inside + 0.05 * table.size


def test_bounds() -> None:
    assert code_length(np.zeros((0, 4), int)) == 0
    assert code_length(np.zeros((100, 100), int)) < 40
    assert code_length([[10**12]]) < 100
    with pytest.raises(TypeError, match=r"indices: expected integers, got"):
        code_length([0.5])
