"""The range coder: exact round trips, rates near the entropy, no crash from damaged codes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from core_cases import RNG
from numpy.typing import NDArray

from noisycells import _core
from noisycells.storage import entropy


def bits_of(values: NDArray[Any]) -> float:
    """Empirical entropy, in bits, of all values."""
    share = np.unique(values, return_counts=True)[1] / values.size
    return float(-(share * np.log2(share)).sum() * values.size)


@pytest.mark.parametrize("shape", [(1, 1), (1, 20), (20, 1), (7, 13), (0, 5), (5, 0), (64, 65)])
@pytest.mark.parametrize("spread", [0.0, 0.2, 3.0, 300.0])
def test_round_trip(shape: tuple[int, int], spread: float) -> None:
    values = np.rint(spread * RNG(1).standard_normal(shape)).astype(np.int32)
    for group in (1, 3, 100):
        code = entropy.encode(values, group)
        assert np.array_equal(entropy.decode(code, shape, group), values)


def test_round_trip_of_extremes() -> None:
    largest = entropy.LARGEST
    values = np.array([[largest, -largest, 0, 1, -1, largest - 1, 15, 16, -17, 14]], np.int32)
    values = np.tile(values, (3, 50))
    assert np.array_equal(entropy.decode(entropy.encode(values), values.shape), values)


@pytest.mark.parametrize("spread", [0.3, 0.5, 1.0, 2.0, 8.0])
def test_rate_is_within_two_percent_of_the_entropy(spread: float) -> None:
    values = np.rint(spread * RNG(2).standard_normal((400, 500))).astype(np.int32)
    assert 8 * len(entropy.encode(values)) < 1.02 * bits_of(values)


def test_rows_and_columns_that_differ_are_learnt() -> None:
    """A mask of density r_i c_j: below the entropy that knows only the mean, near the true one."""
    rng = RNG(3)
    density = np.clip(np.outer(rng.beta(1, 3, 400), rng.uniform(0, 2, 500)), 0.001, 0.999)
    mask = (rng.random(density.shape) < density).astype(np.int32)
    true = -(density * np.log2(density) + (1 - density) * np.log2(1 - density)).sum()
    found = 8 * len(entropy.encode(mask))
    assert found < 1.10 * true
    assert found < 0.9 * bits_of(mask)


def test_zeros_take_almost_nothing() -> None:
    assert len(entropy.encode(np.zeros((1000, 1000), np.int32))) < 1000


def test_code_is_the_same_on_every_machine() -> None:
    """Bytes as they were when the format was made: decoders of other machines read them."""
    values = np.rint(2 * RNG(4).standard_normal((6, 10))).astype(np.int32)
    code = entropy.encode(values, 2)
    assert code.hex() == EXPECTED


EXPECTED = "3d5dace2001fd69dd283eaf5d28669a2c1da29a48435df1d67c3"


@pytest.mark.parametrize("cut", [0, 1, 10, 99])
def test_damaged_codes_decode_to_something_else(cut: int) -> None:
    values = np.rint(3 * RNG(5).standard_normal((20, 30))).astype(np.int32)
    code = entropy.encode(values)
    found = entropy.decode(code[:cut], values.shape)
    assert found.shape == values.shape and not np.array_equal(found, values)
    wrong = RNG(6).integers(0, 256, 500, np.uint8).tobytes()
    assert np.abs(entropy.decode(wrong[:4], (50, 60))).max() < 1 << 26
    with pytest.raises(ValueError, match="code: expected 4 bytes, got 500"):
        entropy.decode(wrong, (50, 60))


def test_core_refuses_what_does_not_fit() -> None:
    values = np.zeros(6, np.int32)
    with pytest.raises(ValueError, match="values: expected 5 elements"):
        _core.entropy_encode(values, 1, 5, 1)
    with pytest.raises(ValueError, match="group"):
        _core.entropy_encode(values, 2, 3, 0)
    values[0] = entropy.LARGEST + 1
    with pytest.raises(ValueError, match="magnitudes"):
        _core.entropy_encode(values, 2, 3, 1)
    with pytest.raises(ValueError, match="rows"):
        _core.entropy_decode(np.empty(0, np.uint8), 1 << 40, 1 << 20, 1, values)
