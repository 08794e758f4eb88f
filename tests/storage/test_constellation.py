"""Levels and soft bits: against integration, and against what sampling gives."""

from __future__ import annotations

import numpy as np
import pytest

import noisycells as nc
from noisycells.storage.constellation import Constellation

PCM = nc.devices.synthetic_pcm()


@pytest.mark.parametrize(
    ("levels", "least"), [(2, 0.9999), (4, 1.954), (8, 2.160)], ids=["2", "4", "8"]
)
def test_information_of_the_nominal_cell(levels: int, least: float) -> None:
    """The prototypes' figures (1.955 b at 4 levels, 2.162 b at 8), below the cell's capacity."""
    found = Constellation.design(PCM, levels)
    assert least < found.information < PCM.capacity() and found.bits == np.log2(levels)
    assert (np.diff(found.mean) > 0).all()


def test_information_is_what_samples_carry() -> None:
    """The mean of 1 - log2(1 + exp(-llr)) over what is written, by sampling the channel."""
    cell = nc.Channel(PCM.x, PCM.mean, 1.3 * PCM.std, stuck=0.02)
    found = Constellation.design(cell, 4)
    bits = np.random.default_rng(1).integers(0, 2, (400_000, 2), np.uint8)
    y = cell.sample(found.inputs[found.write(bits)], seed=1)
    llr = found.soft_bits(y) * (1 - 2.0 * bits)
    sampled = (1 - np.logaddexp(0, -llr) / np.log(2)).sum(axis=1)
    assert abs(sampled.mean() - found.information) < 5 * sampled.std() / len(y) ** 0.5


def test_soft_bits_are_log_likelihood_ratios() -> None:
    found = Constellation.design(PCM, 8)
    y = np.linspace(-0.9, 1.0, 50, dtype=np.float32)
    density = np.exp(-(((y[:, None] - found.mean) / found.std) ** 2) / 2) / found.std
    for bit in range(3):
        one = (found.labels >> bit & 1).astype(bool)
        expected = np.log(density[:, ~one].sum(axis=1) / density[:, one].sum(axis=1))
        assert np.allclose(found.soft_bits(y)[:, bit], np.clip(expected, -30, 30), rtol=1e-4)


def test_neighbors_differ_in_one_bit() -> None:
    found = Constellation.design(PCM, 8)
    bits = (found.labels[:, None] >> np.arange(3) & 1).astype(np.uint8)
    assert (np.abs(np.diff(bits.astype(int), axis=0)).sum(axis=1) == 1).all()
    assert np.array_equal(found.write(bits), np.arange(8))


def test_reads_average_what_is_drawn_afresh() -> None:
    assert PCM.read_std is not None
    found = Constellation.design(PCM, 4)
    inputs = found.inputs.astype(np.float64)
    many = Constellation.at(PCM, inputs, reads=10**9)
    read = np.interp(inputs, PCM.x, PCM.read_std)
    assert np.allclose(many.std**2, found.std**2 - read**2, rtol=1e-3, atol=1e-5)
    frozen = nc.Channel(PCM.x, PCM.mean, PCM.std)
    assert np.allclose(Constellation.at(frozen, inputs, 16).std, found.std, rtol=1e-4)


def test_levels_are_those_of_the_write_converter() -> None:
    cell = nc.Channel(PCM.x, PCM.mean, PCM.std, write_bits=3)
    found = Constellation.design(cell, 4)
    step = 2 / 7
    assert np.allclose(np.rint((found.inputs + 1) / step) * step - 1, found.inputs, atol=1e-6)
    with pytest.raises(ValueError, match=r"levels: expected at most the write converter's 4"):
        Constellation.design(nc.Channel(PCM.x, PCM.mean, PCM.std, write_bits=2), 8)


def test_a_falling_channel_is_as_good() -> None:
    falling = nc.Channel(PCM.x, -PCM.mean, PCM.std)
    found = Constellation.design(falling, 4)
    assert abs(found.information - Constellation.design(PCM, 4).information) < 1e-3
    assert (np.diff(found.mean) > 0).all() and (np.diff(found.inputs) < 0).all()


def test_refit_finds_moved_levels() -> None:
    found = Constellation.design(PCM, 4)
    rng = np.random.default_rng(2)
    level = rng.integers(0, 4, 100_000)
    moved = found.mean + np.array([0.03, 0.05, -0.05, 0.02])
    y = moved[level] + 1.2 * found.std[level] * rng.standard_normal(len(level))
    refit = found.refit(y.astype(np.float32))
    assert np.allclose(refit.mean, moved, atol=0.01)
    assert np.allclose(refit.std, 1.2 * found.std, rtol=0.05)


@pytest.mark.parametrize(
    ("shift", "gain", "bend"), [(0.6, 1, 0), (-0.3, 0.6, 0), (0.1, 1, 0.2)], ids=str
)
@pytest.mark.parametrize(("cells", "within"), [(320, 0.6), (50_000, 0.12)])
def test_refit_finds_levels_far_away(
    cells: int, within: float, shift: float, gain: float, bend: float
) -> None:
    """Within a share of their standard deviations, from few cells too; levels are 3 to 4 apart."""
    found = Constellation.design(PCM, 4)
    moved = shift + gain * found.mean + bend * found.mean**2
    std = 1.1 * gain * found.std
    rng = np.random.default_rng(cells)
    for _ in range(5):
        level = rng.integers(0, 4, cells)
        y = moved[level] + std[level] * rng.standard_normal(cells)
        refit = found.refit(y.astype(np.float32))
        assert (np.abs(refit.mean - moved) < within * std).all()
        assert (np.abs(refit.std / std - 1) < within).all()


def test_what_agrees_is_left_and_what_moved_is_restored() -> None:
    found = Constellation.design(PCM, 4)
    levels = np.random.default_rng(3).integers(0, 4, 2000, np.uint8)
    outputs = PCM.sample(np.linspace(-1, 1, 100, dtype=np.float32), 1)
    for seed in range(50):
        seen = PCM.sample(found.inputs[levels], seed)
        assert found.restored(outputs, seen, levels) is outputs
    restored = found.restored(0.3 + 0.7 * outputs, 0.3 + 0.7 * seen, levels)
    assert np.abs(restored - outputs).max() < 0.05
    assert found.restored(outputs, seen[:0], levels[:0]) is outputs


def test_stuck_cells_are_not_taken_for_moved_levels() -> None:
    cell = nc.Channel(PCM.x, PCM.mean, PCM.std, stuck=(0.05, 0.0))
    found = Constellation.design(cell, 4)
    levels = np.random.default_rng(4).integers(0, 4, 5000, np.uint8)
    outputs = np.linspace(-0.6, 0.7, 20, dtype=np.float32)
    for seed in range(20):
        seen = cell.sample(found.inputs[levels], seed)
        assert found.restored(outputs, seen, levels) is outputs
    restored = found.restored(outputs + 0.2, seen + 0.2, levels)
    assert np.abs(restored - outputs).max() < 0.03


def test_without_noise() -> None:
    assert Constellation.design(nc.Channel.gaussian(0.0), 8).information == pytest.approx(3)
