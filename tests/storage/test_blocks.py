"""Bytes through noisy cells: exact, at the rates that were promised, or a named error."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

import noisycells as nc
from noisycells.storage import blocks
from noisycells.storage.blocks import Layout
from noisycells.storage.constellation import Constellation

PCM = nc.devices.synthetic_pcm()


def content(size: int) -> bytes:
    return np.random.default_rng(size).integers(0, 256, size, np.uint8).tobytes()


def plan(size: int, levels: int, margin: float = 1.0) -> tuple[Layout, Constellation]:
    found = Constellation.design(PCM, levels)
    noisy = Constellation.at(PCM, found.inputs.astype(np.float64), noise=margin)
    each = noisy.information / found.bits
    return blocks.layout_for(size, each, 1e-3), found


def through(
    layout: Layout, found: Constellation, data: bytes, seed: int, noise: float = 1.0
) -> bytes:
    levels = blocks.write(data, layout, found)
    cell = PCM if noise == 1 else nc.Channel(PCM.x, PCM.mean, noise * PCM.std)
    y = cell.sample(found.inputs[levels], seed)
    return blocks.read(layout, lambda reads: (y, found), 1, "test")


@pytest.mark.parametrize("levels", [2, 4, 8])
@pytest.mark.parametrize("size", [0, 1, 3, 31, 100, 999, 8000, 20_000])
def test_every_size(levels: int, size: int) -> None:
    layout, found = plan(size, levels, 1.1)
    for seed in range(3):
        assert through(layout, found, content(size), seed) == content(size)


@pytest.mark.parametrize(("levels", "rate"), [(4, 1.88), (8, 1.98)], ids=["4", "8"])
def test_rate_at_nominal_noise(levels: int, rate: float) -> None:
    """The goals: everything counted, checksums and fill included, from 8 kB on."""
    for size in (8_000, 47_000, 400_000):
        layout, found = plan(size, levels)
        assert 8 * size / layout.cells(found.bits) >= rate
    layout, found = plan(47_000, levels)
    for seed in range(5):
        assert through(layout, found, content(47_000), seed) == content(47_000)


def test_small_contents_lose_little() -> None:
    """Blocks are as long as what they hold: 1 kB has 97 % of the rate of 400 kB."""
    rates = []
    for size in (1_000, 400_000):
        layout, found = plan(size, 4)
        rates.append(8 * size / layout.cells(found.bits))
    assert rates[0] > 0.97 * rates[1]


def test_more_noise_than_the_margin_is_an_error_with_the_block() -> None:
    layout, found = plan(30_000, 4)
    assert layout.blocks == 4
    with pytest.raises(nc.DecodeError, match=r"test: block [0-3] of 4 cannot be decoded after 1"):
        through(layout, found, content(30_000), 1, noise=1.3)


def test_a_margin_survives_its_noise() -> None:
    layout, found = plan(8_000, 4, 1.1)
    for seed in range(20):
        assert through(layout, found, content(8_000), seed, noise=1.1) == content(8_000)


@pytest.mark.parametrize("noise", [1.05, 1.12, 1.2, 1.5, 3.0])
def test_never_wrong(noise: float) -> None:
    """Whatever the noise: what was written, or an error."""
    layout, found = plan(500, 4)
    wrong = 0
    for seed in range(40):
        try:
            assert through(layout, found, content(500), seed, noise) == content(500)
        except nc.DecodeError:
            wrong += 1
    assert wrong >= (0 if noise < 1.2 else 20)


def test_reads_are_repeated_until_all_blocks_are_there() -> None:
    layout, found = plan(8_000, 4)
    levels = blocks.write(content(8_000), layout, found)
    asked: list[int] = []

    def look(reads: int) -> tuple[NDArray[np.float32], Constellation]:
        asked.append(reads)
        cell = nc.Channel(PCM.x, PCM.mean, 1.6 * PCM.std / reads**0.5)
        return cell.sample(found.inputs[levels], reads), found

    assert blocks.read(layout, look, 8, "test") == content(8_000)
    assert asked in ([1, 2], [1, 2, 4])
    asked.clear()
    with pytest.raises(nc.DecodeError, match="after 1 read "):
        blocks.read(layout, look, 1, "test")


def test_levels_that_have_moved_are_found() -> None:
    layout, found = plan(8_000, 4, 1.1)
    levels = blocks.write(content(8_000), layout, found)
    moved = PCM.mean + 0.09 * np.cos(np.pi * (PCM.mean - 0.05) / 1.4)
    y = nc.Channel(PCM.x, moved, PCM.std).sample(found.inputs[levels], 1)
    assert blocks.read(layout, lambda reads: (y, found), 1, "test") == content(8_000)


@pytest.mark.parametrize("levels", [4, 8])
@pytest.mark.parametrize("size", [60, 2_000])
def test_levels_that_have_moved_far_are_found(size: int, levels: int) -> None:
    """By more than the distance of two levels, in a block of 300 cells too."""
    layout, found = plan(size, levels, 1.1)
    written = blocks.write(content(size), layout, found)
    failed = 0
    for shift, gain in ((0.5, 1.0), (-0.6, 0.8)):
        cell = nc.Channel(PCM.x, shift + gain * PCM.mean, gain * PCM.std)
        for seed in range(10):
            outputs = cell.sample(found.inputs[written], seed)
            try:
                read = blocks.read(layout, lambda reads, y=outputs: (y, found), 1, "test")
                assert read == content(size)
            except nc.DecodeError:
                failed += 1
    assert failed <= 2


def test_all_levels_are_written_equally_often() -> None:
    layout, found = plan(20_000, 8)
    levels = blocks.write(bytes(20_000), layout, found)
    share = np.bincount(levels, minlength=8) / len(levels)
    assert np.abs(share - 1 / 8).max() < 5 * (1 / 8 / len(levels)) ** 0.5


def test_too_noisy_a_channel_is_refused() -> None:
    with pytest.raises(ValueError, match="channel: expected noise"):
        blocks.layout_for(1000, 0.1, 1e-3)
