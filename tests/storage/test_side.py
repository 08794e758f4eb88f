"""Side bits in real cells: level design, symbol errors, misread signs and ranges.

Statistical thresholds are LIMIT standard errors; by chance one comparison in 2e6 passes them.
"""

from __future__ import annotations

import math
import re
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from noisycells import devices
from noisycells.channel import Channel
from noisycells.storage import Codec
from noisycells.storage.side import design_levels

LIMIT = 5.0
PCM = devices.get("synthetic_pcm")
MEASURED = devices.get("pcm_array")


def tail(z: float) -> float:
    return 0.5 * math.erfc(z / math.sqrt(2))


def error_rate(channel: Channel, levels: int = 4) -> float:
    """Symbol error probability of a side cell, averaged over its levels."""
    return float(design_levels(channel, levels).error_rates(channel).mean())


# ----------------------------------------------------------------- levels


def test_levels_of_the_synthetic_channel() -> None:
    """Symbol errors of about 1 % at the outputs found for it by another optimizer."""
    levels = design_levels(PCM, 4)
    assert PCM.mean_at(levels.inputs) == pytest.approx([-0.65, -0.244, 0.352, 0.75], abs=0.015)
    assert error_rate(PCM) == pytest.approx(0.01, abs=5e-4)
    assert error_rate(PCM, 2) < 1e-5


def test_constant_noise_has_known_levels() -> None:
    """Even spacing d over the range and errors 2 (1 - 1/L) Q(d / 2 sigma), as for PAM."""
    for count in (2, 4):
        channel = Channel.gaussian(0.15)
        levels = design_levels(channel, count)
        d = 2 / (count - 1)
        assert levels.inputs == pytest.approx(np.linspace(-1, 1, count), abs=0.01)
        assert levels.thresholds == pytest.approx(levels.inputs[:-1] + d / 2, abs=0.01)
        expected = 2 * (1 - 1 / count) * tail(d / 2 / 0.15)
        assert error_rate(channel, count) == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize("channel", [PCM, MEASURED], ids=repr)
def test_no_other_levels_on_the_grid_are_better(channel: Channel) -> None:
    best = design_levels(channel, 4)
    rng = np.random.default_rng(0)
    lowest = best.error_rates(channel).sum()
    for _ in range(300):
        inputs = np.sort(rng.uniform(*channel.branch, 4))
        if rng.random() < 0.5:
            inputs = np.clip(best.inputs + rng.normal(0, 0.02, 4), *channel.branch)
        mean, std = channel.mean_at(inputs), channel.std_at(inputs)
        t = (mean[:-1] * std[1:] + mean[1:] * std[:-1]) / (std[:-1] + std[1:])
        t += rng.normal(0, 0.01, 3)
        other = type(best)(inputs, np.sort(t))
        assert other.error_rates(channel).sum() > lowest * 0.995


def test_noise_free_levels_are_spread() -> None:
    levels = design_levels(Channel.gaussian(0.0), 4)
    assert levels.inputs == pytest.approx([-1, -1 / 3, 1 / 3, 1], abs=0.01)
    assert error_rate(Channel.gaussian(0.0)) == 0


def test_falling_means() -> None:
    falling = Channel(PCM.x, -PCM.mean, PCM.std)
    assert design_levels(falling, 4).inputs[0] == pytest.approx(1)
    assert error_rate(falling) == pytest.approx(error_rate(PCM), rel=1e-2)


def test_levels_of_a_coarse_write_converter() -> None:
    channel = Channel(PCM.x, PCM.mean, PCM.std, write_bits=2)
    inputs = design_levels(channel, 4).inputs
    assert inputs == pytest.approx(np.linspace(-1, 1, 4))
    coarse = Channel(PCM.x, PCM.mean, PCM.std, write_bits=1)
    assert design_levels(coarse, 2).inputs == pytest.approx([-1, 1])
    with pytest.raises(ValueError, match="side_errors: expected a write converter of at least 4"):
        design_levels(coarse, 4)
    with pytest.raises(ValueError, match=re.escape("side_errors: expected a write converter")):
        Codec(coarse).encode(np.ones(3)).read(0, side_errors=True)


@pytest.mark.parametrize("count", [2, 4])
def test_neighboring_levels_differ_by_one_bit(count: int) -> None:
    levels = design_levels(PCM, count)
    codes = np.arange(count, dtype=np.uint8)
    assert (levels.decide(PCM.mean_at(levels.write(codes))) == codes).all()
    in_order = levels.decide(PCM.mean_at(levels.inputs))
    assert [int(a ^ b).bit_count() for a, b in pairwise(in_order)] == [1] * (count - 1)


@pytest.mark.parametrize("d2d_std", [0.0, 0.05])
def test_symbol_errors_drawn_are_those_of_theory(d2d_std: float) -> None:
    channel = Channel(PCM.x, PCM.mean, PCM.std, d2d_std=d2d_std)
    levels = design_levels(channel, 4)
    n = 100_000
    for code in range(4):
        written = np.full(n, code, np.uint8)
        read = levels.decide(channel.sample(levels.write(written), seed=code))
        rank = int(np.flatnonzero(levels.decide(channel.mean_at(levels.inputs)) == code)[0])
        p = levels.error_rates(channel)[rank]
        assert abs(np.mean(read != code) - p) < LIMIT * math.sqrt(p * (1 - p) / n)


# ----------------------------------------------------------------- reading


def codes_of(w: NDArray[Any], thresholds: list[float], sign: bool) -> NDArray[np.int64]:
    number = (np.abs(w)[:, None] > np.float32(thresholds)).sum(axis=1)
    return (number << 1 | np.signbit(w)) if sign else number


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("sign", "thresholds"), [(True, [0.02]), (True, []), (False, [0.02]), (True, [0.01, 0.04])]
)
def test_misread_side_bits(sign: bool, thresholds: list[float], masked: bool) -> None:
    """Each misread weight takes the sign and scale it is believed to have, no other changes."""
    # Noisy enough for errors in cells of two levels
    channel = Channel(PCM.x, PCM.mean, 6 * PCM.std, 2 * PCM.std)
    rng = np.random.default_rng(5)
    w = (rng.standard_t(4, 200_000) * 0.02).astype(np.float32)
    mask = rng.random(w.size) < 0.5 if masked else np.ones(w.size, bool)
    chosen: dict[str, Any] = {"thresholds": thresholds} if thresholds else {}
    codec = Codec(channel, sign_protection=sign, adaptive_mapping=bool(thresholds), **chosen)
    stored = codec.encode(w, mask if masked else None, name="w")
    right, wrong = stored.read(3, 1)[mask], stored.read(3, 1, side_errors=True)[mask]

    code = codes_of(w[mask], thresholds, sign)
    believed = np.full((code.size, 16), np.nan)
    for other in range(2**codec.side_bits):
        r, s = stored.ranges[min(other >> sign, len(thresholds))], code >> sign
        alpha, beta = (
            np.array([getattr(q, f) for q in stored.ranges])[s] for f in ("alpha", "beta")
        )
        y = alpha * np.where(sign & code & 1, -right, right).astype(np.float64) - beta
        value = (y + r.beta) / r.alpha
        believed[:, other] = -value if sign & other & 1 else value
    distance = np.abs(believed - wrong[:, None])
    read = np.nanargmin(distance, axis=1)
    read = np.where(right == wrong, code, read)
    changed = read != code
    assert np.nanmin(distance, axis=1).max() < 1e-6 * np.abs(right).max()
    assert (right[~changed] == wrong[~changed]).all()

    if len(thresholds) == 2:
        return  # three ranges in two bits: a fourth is taken for the third, so fewer change
    # As many as the error rates of the levels in use say
    survive = np.ones(code.size)
    for low in range(0, codec.side_bits, 2):
        levels = codec.side_levels(min(2, codec.side_bits - low))
        symbol = (code >> low) & (len(levels.inputs) - 1)
        order = levels.decide(channel.mean_at(levels.inputs))
        survive *= 1 - levels.error_rates(channel)[np.argsort(order)][symbol]
    expected, variance = (1 - survive).sum(), (survive * (1 - survive)).sum()
    assert expected > 100
    assert abs(changed.sum() - expected) < LIMIT * math.sqrt(variance)


def test_side_cells_of_a_weight_draw_numbers_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[int, list[range]] = {}
    sample = Channel.sample

    def spy(self: Channel, x: Any, *arguments: Any, **options: Any) -> Any:
        first, stream = options.get("offset", 0), options["stream"]
        drawn.setdefault(stream, []).append(range(first, first + np.size(x)))
        return sample(self, x, *arguments, **options)

    monkeypatch.setattr(Channel, "sample", spy)
    weights = np.random.default_rng(0).standard_normal(200_000).astype(np.float32)
    stored = Codec(PCM, ranges=8).encode(weights)  # sign and range take two cells
    stored.read(1, side_errors=True)
    (pieces,) = drawn.values()
    numbers = np.concatenate(pieces)
    assert len(numbers) == len(np.unique(numbers)) == 2 * weights.size


def test_side_bits_belong_to_the_chip() -> None:
    """With read noise the programmed part of a side cell stays; another name has another."""
    channel = Channel(PCM.x, PCM.mean, 2 * PCM.std, 1e-4)
    w = np.linspace(-1, 1, 20_000).astype(np.float32)
    stored = Codec(channel, cells=1000).encode(w, name="w")
    other = Codec(channel, cells=1000).encode(w, name="v")

    def misread(tensor: Any, seed: int, chip: int) -> NDArray[np.bool_]:
        return tensor.read(seed, chip) != tensor.read(seed, chip, side_errors=True)

    first = misread(stored, 1, 1)
    assert first.sum() > 500
    assert np.mean(misread(stored, 2, 1) == first) > 0.99
    for changed in (misread(stored, 1, 2), misread(other, 1, 1)):
        assert (changed & first).sum() < 0.5 * first.sum()


def test_clean_channels_and_codecs_without_side_bits_are_not_misread() -> None:
    w = np.linspace(-1, 1, 500)
    for codec in (
        Codec(Channel.gaussian(0.01)),
        Codec(PCM, sign_protection=False, adaptive_mapping=False),
        Codec(PCM, adaptive_mapping=False),  # two levels: errors below 1e-40
    ):
        stored = codec.encode(w)
        assert (stored.read(1) == stored.read(1, side_errors=True)).all()
