"""What a crossbar draws against the published formulas, and against drawing it naively.

Every figure is judged at a false-alarm rate of 1e-7 under other seeds; no test has more than 60
of them.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from normal_statistics import p_of_kolmogorov, p_of_normal
from numpy.typing import NDArray

import noisycells as nc

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

P = 1e-7
IDEAL = nc.CrossbarSpec(dac_bits=None, adc_bits=None, read_noise="none", mapping="tensor")


def same_distribution(a: NDArray[Any], b: NDArray[Any]) -> None:
    """Two-sample Kolmogorov-Smirnov."""
    both = np.sort(np.concatenate([a, b]))
    below = [np.searchsorted(np.sort(v), both, side="right") / len(v) for v in (a, b)]
    distance = float(np.abs(below[0] - below[1]).max())
    assert p_of_kolmogorov(distance, round(len(a) * len(b) / (len(a) + len(b)))) > P


def same_moments(a: NDArray[Any], b: NDArray[Any]) -> None:
    """Means and variances of two samples, by their own spread."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    error = sum(v.var() / len(v) for v in (a, b))
    assert p_of_normal((a.mean() - b.mean()) / math.sqrt(error)) > P
    error = sum((np.mean((v - v.mean()) ** 4) - v.var() ** 2) / len(v) for v in (a, b))
    assert p_of_normal((a.var() - b.var()) / math.sqrt(error)) > P


def has_moments(sample: NDArray[Any], mean: float, variance: float) -> None:
    """Mean, and variance by the sample's own fourth moment."""
    values = sample.astype(np.float64) - mean
    n = len(values)
    assert p_of_normal(values.mean() / math.sqrt(variance / n)) > P
    spread = max(float(np.mean(values**4)) - variance**2, variance**2) / n
    assert p_of_normal((float(np.mean(values**2)) - variance) / math.sqrt(spread)) > P


def is_normal(sample: NDArray[Any], mean: float, variance: float) -> None:
    """The four first moments of a normal distribution, and its distribution function."""
    z = (sample.astype(np.float64) - mean) / math.sqrt(variance)
    n = len(z)
    # The means of higher powers are not quite normal themselves: their tails are longer.
    for power, expected, spread, limit in (
        (1, 0, 1, 5.5),
        (2, 1, 2, 6),
        (3, 0, 15, 7),
        (4, 3, 96, 7),
    ):
        assert abs(np.mean(z**power) - expected) < limit * math.sqrt(spread / n), power
    ordered = np.sort(z)
    normal = np.array([0.5 * math.erfc(-v / math.sqrt(2)) for v in ordered])
    distance = np.abs(normal - (np.arange(n) + 0.5) / n).max() + 0.5 / n
    assert p_of_kolmogorov(float(distance), n) > P


def uncorrelated(a: NDArray[Any], b: NDArray[Any]) -> None:
    a, b = (v.astype(np.float64) - v.mean() for v in (a, b))
    r = float((a * b).mean() / (a.std() * b.std()))
    assert p_of_normal(r * math.sqrt(len(a))) > P


# --------------------------------------------------------------------------- programming, drift

LEVELS = np.array([0.0, 0.1, 0.5, 0.8, 1.0])
COPIES = 40_000


def layer() -> F32:
    """Both signs of each level, many times: (2 levels, copies); w_max is 1."""
    return np.repeat(np.concatenate([LEVELS, -LEVELS])[:, None], COPIES, axis=1).astype(np.float32)


def joshi_2020(target: F64, seconds: float | None, g: np.random.Generator) -> F64:
    """PCM, naively from the published formulas (Joshi et al. 2020, Nandakumar et al. 2019)."""

    def normal() -> F64:
        return g.standard_normal(target.shape)

    r = target / 25
    std = 0.26348 + 1.9650 * r - 1.1731 * r**2
    programmed = np.maximum(target + std * normal(), 0)
    if seconds is None:
        return programmed
    log = np.log(np.maximum(r, 1e-7))
    mean_nu = np.clip(-0.0155 * log + 0.0244, 0.049, 0.1)
    std_nu = np.clip(-0.0125 * log - 0.0059, 0.008, 0.045)
    nu = np.abs(mean_nu + std_nu * normal())
    drifted = programmed * ((seconds + 20) / 20) ** -nu
    q = np.minimum(0.0088 / np.maximum((programmed / 25) ** 0.65, 1e-3), 0.2)
    t_read = 250e-9
    accumulated = np.sqrt(np.log((seconds + 20 + t_read) / (2 * t_read)))
    return np.maximum(drifted + drifted * q * accumulated * normal(), 0)


@pytest.mark.parametrize("seconds", [None, 0.0, 3600.0, 86_400.0])
def test_programming_and_drift(seconds: float | None) -> None:
    """Each device of each weight, against the formulas drawn naively."""
    xb = nc.Crossbar(layer(), nc.devices.pcm_joshi2020(), IDEAL).program(1)
    if seconds is not None:
        xb.at(seconds)
    g = np.random.default_rng(2)
    for row, w in enumerate(layer()[:, 0]):
        for polarity, sign in enumerate((1, -1)):
            target = np.full(COPIES, 25 * max(sign * float(w), 0.0))
            naive = joshi_2020(target, seconds, g)
            same_distribution(xb.conductances[0, 0, polarity, row], naive)


def test_programming_moments() -> None:
    """Closed formulas: the polynomial, and the half of a normal that is left of a zero target."""
    xb = nc.Crossbar(layer(), nc.devices.pcm_joshi2020(), IDEAL).program(3)
    half = 0.26348
    for row, r in enumerate(LEVELS):
        std = 0.26348 + 1.9650 * r - 1.1731 * r**2
        plus, minus = xb.conductances[0, 0, :, row]
        zero = (half / math.sqrt(2 * math.pi), half**2 * (0.5 - 1 / (2 * math.pi)))
        has_moments(minus, *zero)
        if r >= 0.5:
            has_moments(plus, 25 * r, std**2)
            pair = xb.effective_weights()[row]
            has_moments(pair, r - zero[0] / 25, (std**2 + zero[1]) / 25**2)
        uncorrelated(plus, minus)
        uncorrelated(plus[1:], plus[:-1])


def test_devices_in_parallel_and_slices() -> None:
    """Variance of a weight: of all its devices, by what each counts for."""
    w = np.full((1, 100_000), 0.5, np.float32)
    w[0, 0] = 1  # w_max
    device = nc.devices.gaussian(0.4, g_min=5.0, g_max=25.0)  # nothing reaches 0
    unit = 2 * 0.4**2 / 20**2
    for devices in (1, 3):
        spec = replace(IDEAL, devices_per_polarity=devices)
        has_moments(
            nc.Crossbar(w, device, spec).program(1).effective_weights()[0, 1:], 0.5, unit / devices
        )
    sliced = nc.Crossbar(w, device, replace(IDEAL, weight_slice_bits=(2, 4))).program(1)
    factors = (3 * 16 / 63, 15 / 63)
    level = round(0.5 * 63) / 63
    has_moments(sliced.effective_weights()[0, 1:], level, unit * sum(f**2 for f in factors))


def test_reset_and_stuck_devices() -> None:
    w = np.zeros((2, 50_000), np.float32)
    w[1] = 0.5
    w[0, 0] = 1
    spec = replace(IDEAL, zero_weights="reset")
    reset = nc.devices.gaussian(0.3, g_min=4.0, reset=(2.0, 0.2))
    chip = nc.Crossbar(w, reset, spec).program(1)
    for polarity, target in enumerate((4 + 0.5 * 21, 4.0)):
        has_moments(chip.conductances[0, 0, polarity, 0, 1:], 2.0, 0.2**2)
        has_moments(chip.conductances[0, 0, polarity, 1], target, 0.3**2)
    stuck = nc.devices.gaussian(0.3, g_min=4.0, stuck=(0.02, 0.01))
    chip = nc.Crossbar(w, stuck, IDEAL).program(1)
    g = chip.conductances[0, 0, 0, 1]
    for value, probability in ((4.0, 0.02), (25.0, 0.01)):
        count = int((g == np.float32(value)).sum())
        expected = len(g) * probability
        assert p_of_normal((count - expected) / math.sqrt(expected * (1 - probability))) > P


# --------------------------------------------------------------------------- reads

READS = 8000


def chip(spec: nc.CrossbarSpec, n: int = 4, k: int = 50) -> nc.Crossbar:
    """An aged PCM layer of random weights."""
    w = np.random.default_rng(11).normal(size=(n, k)).astype(np.float32)
    return nc.Crossbar(w, nc.devices.pcm_joshi2020(), spec, "layer").program(4).at(60.0)


def input_codes(k: int = 50) -> NDArray[np.int64]:
    """One input vector in codes of an 8-bit DAC, full scale among them."""
    codes = np.random.default_rng(12).integers(-127, 128, k)
    codes[0] = 127
    return codes


def reads(xb: nc.Crossbar, codes: NDArray[np.int64], seed: int) -> F32:
    """Many reads with the same input: (READS, out)."""
    x = (codes / 127).astype(np.float32)
    return xb.matmul(np.tile(x, (READS, 1)), seed)


def naive_reads(xb: nc.Crossbar, codes: NDArray[np.int64], g: np.random.Generator) -> F64:
    """Every device resampled for every read of every slice, tile and polarity: (READS, out)."""
    spec, device = xb.spec, xb.device
    c0, c1, c2 = device.read_variance
    conductances = xb.conductances[0, 0].astype(np.float64)
    variance = c0 + c1 * conductances + c2 * conductances**2
    bits = spec.input_slice_bits or 7
    ranges = None if xb.packed.ranges.adc is None else iter(np.asarray(xb.packed.ranges.adc))
    total = np.zeros((READS, len(xb.weight)))
    for shift in range(0, 7, bits):
        digits = np.sign(codes) * ((np.abs(codes) >> shift) & ((1 << bits) - 1))
        top = (1 << bits) - 1
        sums = []
        for sign, mean, var in zip((1, -1), conductances, variance, strict=True):
            for start in range(0, len(codes), spec.rows):
                tile = slice(start, start + spec.rows)
                y = np.empty((READS, len(mean)))
                for j in range(len(mean)):
                    z = g.standard_normal((READS, len(codes[tile])))
                    sample = mean[j, tile] + np.sqrt(var[j, tile]) * z
                    y[:, j] = sign * sample @ (digits[tile] / top) / (device.g_max - device.g_min)
                sums.append(y)
        tiles = len(sums) // 2
        if spec.adc_per == "difference":
            sums = [plus + minus for plus, minus in zip(sums[:tiles], sums[tiles:], strict=True)]
        if ranges is not None:
            adc = 2 ** (spec.adc_bits - 1) - 1  # type: ignore[operator]
            steps = [float(next(ranges)) / adc for _ in sums]
            sums = [
                np.clip(np.rint(y / step), -adc, adc) * step
                for y, step in zip(sums, steps, strict=True)
            ]
        total += sum(sums) * (top << shift) / 127
    return total * np.abs(xb.weight).max()


@pytest.mark.parametrize("kernel", ["float32", "int16"])
def test_weight_noise_is_exact(kernel: str) -> None:
    """One product of squares has the distribution of resampling all devices for every read."""
    spec = nc.CrossbarSpec(
        rows=20, adc_bits=None, mapping="tensor", read_noise="weight", kernel=kernel
    )
    xb, codes = chip(spec), input_codes()
    y = reads(xb, codes, 5)
    naive = naive_reads(xb, codes, np.random.default_rng(6))
    g = xb.conductances[0, 0].astype(np.float64)
    x, top = codes / 127, float(np.abs(xb.weight).max())
    mean = (g[0] - g[1]) @ x / 25 * top
    variance = xb.device.read_variance[1] * (g[0] + g[1]) @ x**2 / 25**2 * top**2
    for j in range(len(mean)):
        is_normal(y[:, j], mean[j], variance[j])
        is_normal(naive[:, j], mean[j], variance[j])
        same_distribution(y[:, j], naive[:, j])


@pytest.mark.parametrize("adc_per", ["difference", "polarity"])
@pytest.mark.parametrize("input_slice_bits", [None, 2])
def test_converted_reads(adc_per: str, input_slice_bits: int | None) -> None:
    """With converters: every slice of the input is a fresh read, converted on its own."""
    spec = nc.CrossbarSpec(
        mapping="tensor",
        rows=30, adc_bits=6, read_noise="weight", adc_per=adc_per,
        input_slice_bits=input_slice_bits, kernel="int16",
    )  # fmt: skip
    xb, codes = chip(spec, n=2), input_codes()
    y = reads(xb, codes, 7)
    naive = naive_reads(xb, codes, np.random.default_rng(8))
    for j in range(2):
        # Sums of codes are discrete; ties in rounding would look like a difference.
        jitter = np.random.default_rng(9).normal(0, 1e-4, (2, READS))
        same_distribution(y[:, j] + jitter[0], naive[:, j] + jitter[1])
        same_moments(y[:, j], naive[:, j])


def test_output_noise() -> None:
    """In units of full scale times w_max, on each of the tiles; both kinds of noise add up."""
    spec = nc.CrossbarSpec(
        rows=20, adc_bits=None, mapping="tensor", read_noise="output", output_noise=0.07,
        kernel="int16",  # 8 bits would round the means
    )  # fmt: skip
    xb, codes = chip(spec), input_codes()
    top, g = float(np.abs(xb.weight).max()), xb.conductances[0, 0].astype(np.float64)
    mean = (g[0] - g[1]) @ (codes / 127) / 25 * top
    scale = 3.0  # of the inputs; full scale follows it
    x = np.tile((scale * codes / 127).astype(np.float32), (READS, 1))
    output = 3 * (0.07 * scale * top) ** 2
    weight = xb.device.read_variance[1] * (g[0] + g[1]) @ (codes / 127) ** 2 / 25**2
    for kind, extra in (("output", 0.0), ("both", 1.0)):
        y = chip(replace(spec, read_noise=kind)).matmul(x, 9)
        for j in range(len(mean)):
            variance = output + extra * weight[j] * (scale * top) ** 2
            is_normal(y[:, j], scale * mean[j], variance)


def test_reads_are_independent() -> None:
    """Of the outputs, of the vectors of a batch, of seeds, and of layers."""
    spec = nc.CrossbarSpec(rows=20, adc_bits=None, mapping="tensor", read_noise="weight")
    xb, codes = chip(spec), input_codes()
    y, other = reads(xb, codes, 1), reads(xb, codes, 2)
    np.testing.assert_array_equal(y, reads(xb, codes, 1))
    for j in range(3):
        uncorrelated(y[:, j], y[:, j + 1])
        uncorrelated(y[:, j], other[:, j])
        uncorrelated(y[1:, j], y[:-1, j])
        uncorrelated(y[2:, j], y[:-2, j])
    xb.stream = nc.random.stream("another", "crossbar")
    xb.packed.stream = xb.stream
    uncorrelated(y[:, 0], reads(xb, codes, 1)[:, 0])


# --------------------------------------------------------------------------- storage and compute


@pytest.mark.parametrize("seconds", [None, 100.0, 86_400.0])
@pytest.mark.parametrize("name", ["pcm_joshi2020", "gaussian"])
def test_storage_and_compute_agree(name: str, seconds: float | None) -> None:
    """A layer stored through ``dev.channel(t)`` and the same one on a crossbar.

    Both as pairs of devices; each weight read once: mean and variance of its errors agree.
    """
    device = (
        nc.devices.pcm_joshi2020()
        if name == "pcm_joshi2020"
        else nc.devices.gaussian(0.5, 0.05, read_std=0.3, g_min=2.0)
    )
    levels = np.concatenate([LEVELS, -LEVELS[1:]]).astype(np.float32)
    w = np.repeat(levels, COPIES)
    spec = replace(IDEAL, read_noise="weight")
    xb = nc.Crossbar(w[:, None], device, spec).program(1)
    if seconds is not None:
        xb.at(seconds)
    # With one input at full scale, a product reads every weight once.
    computed = xb.matmul(np.ones((1, 1), np.float32), 2).reshape(len(levels), COPIES)
    channel = device.channel(seconds)
    sides = [
        channel.sample(2 * np.maximum(sign * w, 0) - 1, 3, stream=stream)
        for stream, sign in enumerate((1, -1))
    ]
    stored = ((sides[0] - sides[1]) / 2).reshape(len(levels), COPIES)
    for a, b in zip(computed, stored, strict=True):
        same_moments(a, b)
