"""Draws of different purposes, layers, chips and paths have no number in common."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch

import noisycells as nc
import noisycells.torch as nct
from noisycells.crossbar import compensation

N = 64
SPEC = nc.CrossbarSpec(dac_bits=None, adc_bits=None, read_noise="weight")
WEIGHTS = np.random.default_rng(1).uniform(0.2, 0.8, (N, N)).astype(np.float32)
PCM = nc.devices.pcm_joshi2020()
CELL = nc.Channel([-1, 0, 1], [-1, 0, 1], 0.1, 0.06)
SINGLE = nc.Channel([-1, 0, 1], [-1, 0, 1], 0.1)
LIMIT = 7.0  # standard errors; of 1e8 lags of independent fields once in 4000 times


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
        yield f"relaxation {seed}", nc.devices.rram_cmo().at(target, target, 60.0, seed, stream=1)
        yield f"drift {seed}", PCM.at(target, target, 3600.0, seed)
    for chip in (1, 2):
        zeros = np.zeros(N * N)
        yield f"frozen cells, chip {chip}", CELL.sample(zeros, 5, chip=chip)
        yield f"cells, chip {chip}", SINGLE.sample(zeros, 5, chip=chip)
        for name in ("a", "b"):
            yield from crossbar_draws(name, chip)
            yield from layer_draws(name, chip)
            yield from storage_draws(name, chip)
            yield from analog_draws(name, chip)
    yield from training_draws()


def crossbar_draws(name: str, chip: int) -> Iterator[tuple[str, np.ndarray]]:
    """Programming, reading, aging, and the read-outs by which drift is compensated."""
    spec = nc.CrossbarSpec(
        dac_bits=None, adc_bits=None, read_noise="weight", drift_compensation="global"
    )
    xb = nc.Crossbar(WEIGHTS, PCM, spec, name).program(chip)
    fresh = xb.effective_weights()
    yield f"crossbar {name}, chip {chip}", fresh - WEIGHTS
    yield f"read of {name}, chip {chip}", xb.matmul(np.eye(N, dtype=np.float32), 1) - fresh.T
    clean = nc.Crossbar(WEIGHTS, PCM, nc.CrossbarSpec(
        dac_bits=None, adc_bits=None, read_noise="none", drift_compensation="global"
    ), name).program(chip)  # fmt: skip
    with recorded(compensation, "measure") as noisy:
        xb.at(3600).at(86_400)
    with recorded(compensation, "measure") as known:
        clean.at(3600).at(86_400)
    for (_, y), (_, right), what in zip(
        noisy, known, ("first", "second", "3600 s", "day"), strict=True
    ):
        yield f"read-outs of {name}, chip {chip}, {what}", (y - right).ravel()[: N * N]
    aged = clean.at(3600).programmed, clean.conductances
    yield f"drift of {name}, chip {chip}", np.log(aged[1][0, 0, 0] / aged[0][0, 0, 0])


def storage_draws(name: str, chip: int) -> Iterator[tuple[str, np.ndarray]]:
    """What cells give beside their means: of data and side cells, and in the coded modes."""
    codec = nc.Codec(CELL, ranges=4)
    codecs = {
        "stored": (codec, {"side_errors": True}),
        "coded": (nc.storage.Coded(CELL, levels=2), {}),
        "levels": (nc.storage.Levels(CELL, levels=2), {}),
    }
    for mode, (made, options) in codecs.items():
        stored = made.encode({name: WEIGHTS})
        with recorded(nc.Channel, "sample") as calls:
            stored.read(5, chip, **options)
        if mode == "stored":
            yield f"stored {name}, chip {chip}", stored.read(5, chip)[name] - WEIGHTS
        for k, ((cell, x, *_), y) in enumerate(calls):
            if y.size >= N * N:
                noise = (y - cell.mean_at(x)) / cell.std_at(x)
                yield f"cells {k} of {mode} {name}, chip {chip}", noise.ravel()[: N * N]


def analog_draws(name: str, chip: int) -> Iterator[tuple[str, np.ndarray]]:
    """Pulses of analog cells, looks that verify them, and reads."""
    cells = nc.storage.analog.CellArray(CELL, N * N, chip, name)
    for turn in (0, 1):
        cells.write(np.zeros(N * N))
        level = cells._level.astype(np.float64)
        yield f"pulse {turn} of {name}, chip {chip}", level
        for look in (0, 1):
            seen = cells.verify(1, 0, N * N, np.ones(N * N, bool))
            yield f"look {turn} {look} at {name}, chip {chip}", seen - level
        yield f"read {turn} of cells {name}, chip {chip}", cells.read(turn) - level


def training_draws() -> Iterator[tuple[str, np.ndarray]]:
    """Noise of weights in training, of all kinds, and that of the rate."""
    kinds: dict[str, dict[str, Any]] = {
        "eta": {"eta": 0.1, "norm": "absolute"},
        "codec": {"codec": nc.Codec(SINGLE)},
        "device": {"device": PCM},
    }
    x = torch.eye(N)
    for kind, options in kinds.items():
        model = torch.nn.ModuleDict({n: torch.nn.Linear(N, N, bias=False) for n in ("a", "b")})
        with torch.no_grad():
            for layer in model.values():
                layer.weight.copy_(torch.from_numpy(WEIGHTS))
            nct.inject_noise(model, seed=1, **options)
            for draw in (0, 1):
                for name, layer in model.items():
                    noise = layer(x).numpy().T - WEIGHTS
                    yield f"noise {kind} of {name}, draw {2 * draw}", noise
    torch.manual_seed(1)
    net = torch.nn.Sequential(torch.nn.Linear(N, N, bias=False), torch.nn.Linear(N, 2))
    batches = nct.batches(torch.randn(64, N), torch.randint(2, (64,)), 32)
    with recorded(torch, "rand_like") as calls:
        nct.rate_train(net, batches, batches, rate_weight=1e-4, epochs=2)
    shown = [y.numpy() for _, y in calls if y.numel() == N * N]
    assert len(shown) > 2
    for step, y in enumerate(shown):
        yield f"rate, step {step}", y


@contextmanager
def recorded(owner: Any, name: str) -> Iterator[list[tuple[tuple[Any, ...], Any]]]:
    """The arguments and results of a function's calls meanwhile."""
    called: list[tuple[tuple[Any, ...], Any]] = []
    original = getattr(owner, name)

    def call(*args: Any, **keywords: Any) -> Any:
        result = original(*args, **keywords)
        called.append((args, result))
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, call)
        yield called


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
    found = {name: np.fft.rfft(normals(y)) for name, y in draws()}
    assert len(found) > 110
    for (one, a), (other, b) in combinations(found.items(), 2):
        shared = np.fft.irfft(a * np.conj(b), N * N) / N
        assert np.abs(shared).max() < LIMIT, (one, other)


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
