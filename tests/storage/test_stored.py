"""Read-back of stored tensors: bits against the reference, statistics against theory, chips.

Statistical thresholds are LIMIT standard errors; by chance one comparison in 2e6 passes them, so
a test of a few comparisons fails one reseeding in 1e5.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from noisycells import devices, random, reference
from noisycells.channel import Channel
from noisycells.storage import Codec, StoredTensor

LIMIT = 5.0
PCM = devices.get("synthetic_pcm")
NEW = Channel(PCM.x, PCM.mean, PCM.std, name="new at every read")
FROZEN = Channel(PCM.x, PCM.mean, PCM.std, 0.6 * PCM.std, name="frozen")


def heavy_tailed(size: int, seed: int = 0) -> NDArray[np.float32]:
    return (np.random.default_rng(seed).standard_t(4, size) * 0.02).astype(np.float32)


def standardized(
    stored: StoredTensor, w: NDArray[np.float32], out: NDArray[np.float32]
) -> list[NDArray[np.float64]]:
    """Errors of each range over the standard deviation that the channel gives them."""
    codec, errors = stored.codec, []
    edges = (-1.0, *(r.threshold for r in stored.ranges))
    for (a, b), r in zip(pairwise(edges), stored.ranges, strict=True):
        inside = (np.abs(w) > a) & (np.abs(w) <= b)
        value = np.abs(w[inside]) if codec.sign_protection else w[inside]
        x = codec.channel.inverse(r.alpha * value.astype(np.float64) - r.beta, clip=True)
        variance = codec.channel.std_at(x) ** 2 / r.cells + codec.channel.d2d_std**2
        error = out[inside].astype(np.float64) - w[inside]
        if codec.sign_protection:
            error = np.where(np.signbit(w[inside]), -error, error)
        errors.append(error * r.alpha / np.sqrt(variance))
    return errors


def assert_standard(z: NDArray[np.float64]) -> None:
    """Mean 0 and variance 1; the cube root of a chi-square is normal (Wilson & Hilferty 1931)."""
    assert abs(z.mean()) * np.sqrt(z.size) < LIMIT
    spread = 2 / (9 * z.size)
    assert abs(np.cbrt((z**2).mean()) - (1 - spread)) < LIMIT * np.sqrt(spread)


# ----------------------------------------------------------------- the noise


@pytest.mark.parametrize("collapse", [None, False])
@pytest.mark.parametrize(
    "chosen",
    [
        {},
        {"cells": (2, 9)},
        {"sign_protection": False, "cells": 4},
        {"adaptive_mapping": False, "cells": 30},
        {"ranges": 4, "cells": (1, 2, 3, 40)},
        {"mean_cells": 1.3},
    ],
    ids=str,
)
@pytest.mark.parametrize("d2d_std", [0.0, 0.07])
def test_bias_and_variance_of_each_range(
    chosen: dict[str, Any], d2d_std: float, collapse: bool | None
) -> None:
    """Unbiased with variance (sigma(f(u))^2 / cells + d2d^2) / alpha^2."""
    channel = Channel(PCM.x, PCM.mean, PCM.std, d2d_std=d2d_std)
    w = heavy_tailed(60_000)
    stored = Codec(channel, collapse=collapse, **chosen).encode(w, name="w")
    errors = standardized(stored, w, stored.read(11))
    assert sum(z.size for z in errors) == w.size
    for z in errors:
        if z.size > 30:  # fewer say little, and Wilson-Hilferty less
            assert_standard(z)


def test_errors_of_neighbors_and_tensors_are_independent() -> None:
    w = heavy_tailed(100_000)
    codec = Codec(NEW, adaptive_mapping=False)
    a, b = (codec.encode(w, name=name) for name in ("a", "b"))
    (za,), (zb,) = standardized(a, w, a.read(1)), standardized(b, w, b.read(1))
    (zc,) = standardized(a, w, a.read(2))
    for pair in (za[1:] * za[:-1], za * zb, za * zc):
        assert abs(pair.mean()) * np.sqrt(pair.size) < LIMIT


def test_reading_twice_through_a_converter_is_literal() -> None:
    """With a read converter every cell is drawn; fine steps leave mean and variance alone."""
    channel = Channel(PCM.x, PCM.mean, PCM.std, read_bits=12)
    codec = Codec(channel, cells=3)
    assert codec.draws_every_cell and not Codec(PCM).draws_every_cell
    w = heavy_tailed(60_000)
    stored = codec.encode(w)
    for z in standardized(stored, w, stored.read(5)):
        assert_standard(z)


# ----------------------------------------------------------------- seeds and chips


def test_a_chip_keeps_its_programming_errors() -> None:
    """Averaging reads of one chip leaves std^2 - read_std^2; averaging chips leaves nothing."""
    w = heavy_tailed(4000)
    stored = Codec(FROZEN, adaptive_mapping=False).encode(w, name="w")
    reads = 100
    same = np.mean([stored.read(seed, chip=3) for seed in range(reads)], axis=0)
    (z,) = standardized(stored, w, same)
    frozen = 1 - 0.6**2
    assert_standard(z / np.sqrt(frozen + 0.6**2 / reads))
    chips = np.mean([stored.read(0, chip=chip) for chip in range(reads)], axis=0)
    (z,) = standardized(stored, w, chips)
    assert_standard(z * np.sqrt(reads))
    # The difference of two reads of a chip is read noise alone
    (z,) = standardized(stored, w, stored.read(1, 3) - stored.read(2, 3) + w)
    assert_standard(z / np.sqrt(2 * 0.6**2))


def test_without_read_noise_every_seed_is_a_new_chip() -> None:
    w = heavy_tailed(4000)
    stored = Codec(NEW, adaptive_mapping=False).encode(w)
    reads = 100
    for mean in (
        np.mean([stored.read(seed) for seed in range(reads)], axis=0),
        np.mean([stored.read(0, chip) for chip in range(reads)], axis=0),
    ):
        (z,) = standardized(stored, w, mean)
        assert_standard(z * np.sqrt(reads))


def test_noise_is_keyed_by_seed_chip_and_name() -> None:
    w = heavy_tailed(500)
    codec = Codec(FROZEN)
    stored = codec.encode(w, name="w")
    first = stored.read(1, 2)
    assert (stored.read(1, 2) == first).all()
    assert (codec.encode(w, name="w").read(1, 2) == first).all()
    for other in (stored.read(2, 2), stored.read(1, 3), codec.encode(w, name="v").read(1, 2)):
        assert np.mean(other == first) < 0.1
    # A weight's noise depends on its number alone, so a longer tensor starts with the shorter.
    longer = np.concatenate([w, -w])
    assert (codec.encode(longer, name="w").read(1, 2)[:500] == first).all()


# ----------------------------------------------------------------- bits


def reference_read(
    stored: StoredTensor, channel: reference.ChannelTables, seed: int, chip: int
) -> NDArray[np.float32]:
    codec = stored.codec
    table, y0, inv_dy = codec.learnt.inverse_table()
    ranges = tuple(reference.Range(*r) for r in stored.ranges)
    tables = reference.CodecTables(
        table, np.float32(y0), np.float32(inv_dy), ranges, codec.sign_protection
    )
    keys = reference.Keys(*codec.channel.keys(seed, chip), random.stream(stored.name))
    mask = stored.mask
    if mask is not None:
        mask = np.unpackbits(mask, count=stored.size, bitorder="little").astype(bool)
    return reference.decode(
        stored.levels, stored.side, mask, stored.size, tables, channel, keys,
        literal=codec.draws_every_cell,
    ).reshape(stored.shape)  # fmt: skip


@pytest.mark.parametrize("write_bits", [None, (2, 3, 5)])
@pytest.mark.parametrize("literal", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_reading_is_that_of_the_reference(masked: bool, literal: bool, write_bits: Any) -> None:
    x = np.linspace(-1, 1, 33)
    mean, std, read_std = np.sin(1.3 * x), 0.1 + 0.05 * x**2, np.full(33, 0.06)
    channel = Channel(x, mean, std, read_std, d2d_std=0.02)

    def columns(values: NDArray[np.float64]) -> NDArray[np.float32]:
        rounded = values.astype(np.float32)
        return np.stack([rounded, np.diff(rounded, append=rounded[-1:])], axis=1)

    tables = reference.ChannelTables(
        np.hstack([columns(mean), columns(np.sqrt(std**2 - read_std**2))]),
        np.float32(-1), np.float32(16), columns(read_std), d2d=np.float32(0.02),
    )  # fmt: skip
    w = heavy_tailed(2500).reshape(50, 50)
    mask = np.abs(w) > 0.005 if masked else None
    codec = Codec(channel, ranges=3, cells=(1, 2, 4), collapse=not literal, write_bits=write_bits)
    stored = codec.encode(w, mask, name="layer.weight")
    out = stored.read(9, chip=4)
    assert (out == reference_read(stored, tables, 9, 4)).all()
    if mask is not None:
        assert not out[~mask].any() and (out[mask] != 0).all()


@pytest.mark.parametrize("write_bits", [None, "auto"])
@pytest.mark.parametrize("collapse", [None, False])
@pytest.mark.parametrize("size", [0, 1, 1023, 1024, 1025, 70_001])
def test_transmit_is_encode_and_read(size: int, collapse: bool | None, write_bits: Any) -> None:
    w = heavy_tailed(size)
    codec = Codec(FROZEN, mean_cells=1.5, collapse=collapse, write_bits=write_bits)
    for mask in (None, np.abs(w) > 0.01):
        stored = codec.encode(w, mask, name="w")
        out = codec.transmit(w, 3, mask, name="w", chip=5)
        assert (stored.read(3, 5) == out).all()
        given = np.full_like(w, np.nan)
        assert codec.transmit(w, 3, mask, name="w", chip=5, out=given) is given
        assert (given == out).all()
        if size:
            with pytest.raises(ValueError, match=r"^out: expected memory of its own"):
                codec.transmit(w, 3, mask, out=w)
        for threads in (1, 2, 7):
            assert (stored.read(3, 5, num_threads=threads) == out).all()
            assert (codec.transmit(w, 3, mask, name="w", chip=5, num_threads=threads) == out).all()


def test_a_model_reads_its_tensors() -> None:
    weights = {"a.weight": heavy_tailed(60).reshape(3, 20), "b.weight": np.float64(heavy_tailed(9))}
    model = Codec(PCM).encode(weights, digital={"a.bias": np.zeros(3)})
    out = model.read(2, chip=1, num_threads=1)
    assert list(out) == list(weights)
    for name, values in out.items():
        assert values.dtype == np.float32 and values.shape == weights[name].shape
        assert (values == model[name].read(2, chip=1)).all()
    with pytest.raises(KeyError):
        model["a.bias"]


# ----------------------------------------------------------------- arguments


def test_reading_into_an_array() -> None:
    stored = Codec(PCM).encode(heavy_tailed(12).reshape(3, 4))
    out = np.zeros((3, 4), np.float32)
    assert stored.read(1, out=out) is out and (out == stored.read(1)).all()
    frozen = out.copy()
    frozen.flags.writeable = False
    for bad in (out.astype(float), out[:2], out.T, np.zeros((3, 8), np.float32)[:, ::2], frozen):
        with pytest.raises(ValueError, match=re.escape("out: expected a writeable C-contiguous")):
            stored.read(1, out=bad)


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (TypeError, "seed: expected an int", {"seed": 1.0}),
        (TypeError, "seed: expected an int", {"seed": None}),
        (ValueError, "seed: expected an int in [0, 2**64), got -1", {"seed": -1}),
        (ValueError, "chip: expected an int in [0, 2**64)", {"chip": 2**64}),
        (TypeError, "chip: expected an int", {"chip": "a"}),
    ],
)
def test_seed_errors(error: type[Exception], message: str, arguments: dict[str, Any]) -> None:
    codec, w = Codec(PCM), heavy_tailed(5)
    with pytest.raises(error, match=re.escape(message)):
        codec.encode(w).read(**({"seed": 0} | arguments))
    with pytest.raises(error, match=re.escape(message)):
        codec.transmit(w, **({"seed": 0} | arguments))
