"""Draws of different purposes, layers, chips and paths have no number in common."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np
import pytest
import torch

import noisycells as nc
import noisycells.torch as nct

N = 64
SPEC = nc.CrossbarSpec(dac_bits=None, adc_bits=None, read_noise="weight")
WEIGHTS = np.random.default_rng(1).uniform(0.2, 0.8, (N, N)).astype(np.float32)
PCM = nc.devices.pcm_joshi2020()
LIMIT = 6.5  # standard errors; the largest of 1e4 lags stays below 5 but once in 1e4 fields


def normals(y: np.ndarray) -> np.ndarray:
    """Draws as far as outputs show them: centered, of unit variance, in the order they came."""
    y = np.asarray(y, np.float64).ravel()
    return (y - y.mean()) / y.std()


def draws() -> Iterator[tuple[str, np.ndarray]]:
    for seed in (0, 1, 2):
        yield f"standard_normal {seed}", nc.random.standard_normal(N * N, seed)
        target = np.full((N, N), 10.0, np.float32)
        yield f"Device.program {seed}", PCM.program(target, seed)
        yield f"Device.read {seed}", PCM.read(target, seed)
    cell = nc.Channel([-1, 0, 1], [-1, 0, 1], 0.1, 0.02)
    single = nc.Channel([-1, 0, 1], [-1, 0, 1], 0.1)
    for chip in (1, 2):
        zeros = np.zeros(N * N)
        yield f"frozen cells, chip {chip}", cell.sample(zeros, 5, chip=chip)
        yield f"cells, chip {chip}", single.sample(zeros, 5, chip=chip)
    for name in ("a", "b"):
        for chip in (1, 2):
            xb = nc.Crossbar(WEIGHTS, PCM, SPEC, name).program(chip)
            yield f"crossbar {name}, chip {chip}", xb.effective_weights() - WEIGHTS
            x = np.eye(N, dtype=np.float32)
            yield f"read of {name}, chip {chip}", xb.matmul(x, 1) - xb.effective_weights().T
            yield from layer_draws(name, chip)
    for name in ("a", "b"):
        yield f"stored {name}", nc.Codec(single).encode({name: WEIGHTS}).read(5)[name] - WEIGHTS


def layer_draws(name: str, chip: int) -> Iterator[tuple[str, np.ndarray]]:
    """A layer on the path of torch operations; on that of the core it is the crossbar above."""
    model = torch.nn.ModuleDict({name: torch.nn.Linear(N, N, bias=False)}).double()
    layer = nct.convert(model, PCM, SPEC)[name]
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(WEIGHTS))
        x = torch.eye(N, dtype=torch.float64)
        reads = [layer(x, torch.tensor([chip, read])).numpy().T for read in range(1, 18)]
    mean = np.mean(reads[1:], 0)
    yield f"layer {name}, chip {chip}", mean - WEIGHTS
    yield f"read of layer {name}, chip {chip}", reads[0] - mean


def correlations(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """At every cyclic lag, in standard errors."""
    spectrum = np.fft.rfft(normals(a)) * np.conj(np.fft.rfft(normals(b)))
    return np.fft.irfft(spectrum, a.size) / np.sqrt(a.size)


def test_no_two_draws_share_numbers_at_any_lag() -> None:
    for (one, a), (other, b) in combinations(draws(), 2):
        assert np.abs(correlations(a, b)).max() < LIMIT, (one, other)


def test_numbers_drawn_twice_are_found_at_any_lag() -> None:
    noise = nc.random.standard_normal(3 * N * N, 1).reshape(3, -1)
    for lag in (0, 1, 1000):
        shared = np.roll(noise[0], lag)
        assert np.abs(correlations(noise[0], shared + noise[1])).max() > LIMIT
    assert np.abs(correlations(noise[0], noise[1])).max() < LIMIT


def test_names_do_not_run_together() -> None:
    paths = [("",), ("", ""), ("a\0b",), ("a", "b"), ("ab",), ("a", "", "b")]
    assert len({nc.random.stream(*path) for path in paths}) == len(paths)


def test_unnamed_arrays_draw_by_their_content() -> None:
    one, same, other = (
        nc.Crossbar(w, PCM, SPEC).program(1) for w in (WEIGHTS, WEIGHTS.copy(), WEIGHTS[::-1])
    )
    np.testing.assert_array_equal(one.effective_weights(), same.effective_weights())
    error = one.effective_weights() - one.weight, other.effective_weights() - other.weight
    assert np.abs(correlations(*error)).max() < LIMIT
    codec = nc.Codec(nc.Channel([-1, 0, 1], [-1, 0, 1], 0.1))
    first, second = (codec.encode(w).read(1) - w for w in (WEIGHTS, WEIGHTS[::-1]))
    assert np.abs(correlations(first, second)).max() < LIMIT
    np.testing.assert_array_equal(codec.transmit(WEIGHTS, 1) - WEIGHTS, first)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_programming_and_reading_under_one_seed(dtype: torch.dtype) -> None:
    layer = nct.convert(torch.nn.Sequential(torch.nn.Linear(N, N, bias=False)), PCM, SPEC)[0]
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(WEIGHTS))
    layer.to(dtype)
    x = torch.eye(N, dtype=dtype)

    def product(chip: int, read: int) -> np.ndarray:
        return layer(x, torch.tensor([chip, read])).detach().numpy().T

    chip = np.mean([product(1, read) for read in range(2, 34)], 0)
    error, noise = chip - WEIGHTS, product(1, 1) - chip
    assert np.abs(correlations(error, noise)).max() < LIMIT


def test_parts_converted_one_by_one_are_chips_of_their_own() -> None:
    parts = torch.nn.ModuleList(torch.nn.Sequential(torch.nn.Linear(N, N)) for _ in range(2))
    parts[1].load_state_dict(parts[0].state_dict())
    for part in parts:
        nct.convert(part, PCM)
    nct.program(parts, 1)
    assert [part[0].name for part in parts] == ["0.0", "1.0"]
    errors = [p[0].crossbars()[0].effective_weights() - p[0].weight.detach().numpy() for p in parts]
    assert np.abs(correlations(*errors)).max() < LIMIT
