"""What a device does whatever its model: draws, moments, channels, ranges, identity, plots.

Statistical thresholds are 5.5 standard errors, as in test_models.py.
"""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import noisycells as nc
from noisycells import devices, reference
from noisycells.channel import Channel
from noisycells.devices import Device
from noisycells.random import key
from noisycells.reference import crossbar as crossbar_reference

LIMIT = 5.5
DAY, YEAR = 86_400.0, 3.156e7
RNG = np.random.default_rng
PRESETS: list[Device] = [
    devices.ideal(),
    devices.gaussian(0.8, proportional=0.03, read_std=0.2),
    devices.pcm_joshi2020(),
    devices.pcm_hermes(1),
    devices.pcm_hermes(2),
    devices.rram_wan2022(),
    devices.rram_milo2021(),
    devices.rram_cmo(),
    devices.rram_cmo(acceptance=0.2),
    devices.sonos_agrawal2022(),
    devices.fitted(
        [0.0, 10.0, 30.0],
        [[1.0, 10.5, 29.0], [0.5, 9.0, 28.0], [0.4, 8.0, 26.0]],
        [[0.5, 1.0, 0.7], [0.6, 1.4, 1.0], [0.8, 1.5, 0.9]],
        [0.0, 100.0, 1e4],
        read_std=0.3,
        name="table",
    ),
]
each = pytest.mark.parametrize("device", PRESETS, ids=repr)


def times_of(device: Device) -> list[float]:
    """First, some inner and last time that a device was measured at."""
    first, last = device.time_range or (0.0, YEAR)
    return sorted({first, min(max(first, 50.0), last), first + 0.3 * (last - first), last})


# ----------------------------------------------------------------- draws


@each
def test_draws_are_those_of_the_reference(device: Device) -> None:
    target = RNG(8).uniform(device.g_min, device.g_max, (5, 7)).astype(np.float32)
    draw = crossbar_reference.Draw(key(11, "device chip"), 12, 13)
    programmed = device.program(target, 11, stream=12, cell=13)
    expected = crossbar_reference.program(target, device.programming(), draw)
    assert np.array_equal(programmed, expected)
    for seconds in times_of(device):
        later = device.at(programmed, target, seconds, 11, stream=12, cell=13)
        aging = device.aging(seconds)
        if aging is None:
            assert np.array_equal(later, programmed)
        else:
            assert np.array_equal(later, crossbar_reference.age(target, programmed, aging, draw))


@each
def test_what_happens_to_a_device_is_drawn_once(device: Device) -> None:
    target = RNG(9).uniform(device.g_min, device.g_max, 300)
    times = times_of(device)
    first, last = times[0], times[-1]
    programmed = device.program(target, 1)
    before = device.at(programmed, target, first, 1)
    later = device.at(programmed, target, last, 1)
    assert np.array_equal(device.at(programmed, target, first, 1), before)
    assert np.array_equal(device.at(programmed, target, last, 1), later)
    moves = device.aging(last) is not None and first < last
    assert np.array_equal(before, later) != moves
    if device.program(target, 2).std() != programmed.std():  # all but the ideal one
        assert not np.array_equal(device.program(target, 1, cell=1), programmed)
        assert not np.array_equal(device.program(target, 1, stream=1), programmed)


def test_one_normal_for_all_times() -> None:
    """RRAM relaxes by one number times a spread that grows; nu of PCM does not change."""
    wan = devices.rram_wan2022()
    target = np.full(200, 30.0)
    programmed = wan.program(target, 1).astype(np.float64)
    moved = [wan.at(programmed, target, t, 1) - programmed for t in (DAY, 2 * DAY)]
    np.testing.assert_allclose(moved[0] / moved[0].std(), moved[1] / moved[1].std(), rtol=1e-3)
    pcm = devices.pcm_joshi2020()
    target = np.full(20_000, 25.0)
    programmed = pcm.program(target, 1).astype(np.float64)
    fallen = [-np.log(pcm.at(programmed, target, t, 1) / programmed) for t in (3600.0, DAY)]
    assert np.corrcoef(fallen)[0, 1] > 0.95  # 0.36 if the 1/f noise were drawn at each time


def test_shapes_threads_and_out() -> None:
    device = devices.pcm_joshi2020(stuck=0.01)
    target = RNG(10).uniform(0, 25, (300, 40)).astype(np.float32)
    programmed = device.program(target, 5, num_threads=1)
    assert programmed.dtype == np.float32
    assert np.array_equal(device.program(target, 5, num_threads=2), programmed)
    assert np.array_equal(device.program(target[:10], 5), programmed[:10])  # prefix-stable
    view = np.asfortranarray(target.astype(np.float64))
    assert np.array_equal(device.program(view, 5), programmed)
    out = np.empty_like(programmed)
    assert device.program(target, 5, out=out) is out and np.array_equal(out, programmed)
    later = device.at(programmed, target, 100.0, 5)
    assert device.at(programmed, target, 100.0, 5, out=out, num_threads=2) is out
    assert np.array_equal(out, later)
    assert device.program(3.0, 5).shape == () and device.at(1.0, 3.0, 5.0, 5).shape == ()
    assert device.program(np.zeros((0, 4)), 5).shape == (0, 4)
    assert device.at(np.zeros(0), np.zeros(0), 5.0, 5).shape == (0,)
    assert device.read([], 5).shape == (0,)


def test_same_draws_at_every_simd_level(simd_level: str) -> None:
    device = devices.rram_cmo(stuck=0.05)
    target = np.linspace(9, 88, 1000)
    programmed = device.program(target, 21)
    total = programmed.sum(dtype=np.float64) + device.at(programmed, target, 60.0, 21).sum(
        dtype=np.float64
    )
    draw = crossbar_reference.Draw(key(21, "device chip"), 0, 0)
    wanted = target.astype(np.float32)
    expected = crossbar_reference.program(wanted, device.programming(), draw)
    aging = device.aging(60.0)
    assert aging is not None
    aged = crossbar_reference.age(wanted, expected, aging, draw)
    assert total == expected.sum(dtype=np.float64) + aged.sum(dtype=np.float64)


def test_reads() -> None:
    n = 100_000
    for device, g in (
        (devices.pcm_joshi2020(), 16.0),
        (devices.gaussian(0.5, read_std=0.3), 0.0),
        (devices.sonos_agrawal2022(), 7.0),
    ):
        c0, c1, c2 = device.read_variance
        std = math.sqrt(c0 + c1 * g + c2 * g**2)
        y = device.read(np.full(n, g), seed=1).astype(np.float64)
        assert abs(y.mean() - g) < LIMIT * std / math.sqrt(n)
        assert abs(y.std() / std - 1) < LIMIT / math.sqrt(2 * n)
    again = device.read(np.full(n, g), seed=1)
    assert np.array_equal(again, y) and not np.array_equal(device.read(np.full(n, g), 2), y)
    part = device.read(np.full(50, g), seed=1, offset=100)
    assert np.array_equal(part, again[100:150])
    z = reference.standard_normal(4, key(5, "device read"), 6, 0, reference.READ)
    noisy = devices.gaussian(0.0, read_std=1.0).read(np.zeros(4), 5, stream=6)
    assert np.array_equal(noisy, z)


# ----------------------------------------------------------------- moments and channels


@each
def test_channel_has_the_moments_of_the_device(device: Device) -> None:
    """By Monte-Carlo: conductances of a device, and one read of them, over targets and times."""
    n = 60_000
    scale = 2 / (device.g_max - device.g_min)
    for time in (None, *times_of(device)):
        channel = device.channel(time)
        for x in (-1.0, -0.98, -0.5, 0.2, 1.0):
            target = np.full(n, device.g_min + (x + 1) / scale, np.float32)
            g = device.program(target, 31)
            if time is not None:
                g = device.at(g, target, time, 31)
            mean, std = device.moments(target[:1], time)
            check(g, mean[0], std[0])
            read = (device.read(g, 32) - device.g_min) * scale - 1
            check(read, channel.mean_at(x), channel.std_at(x))


def check(values: Any, mean: float, std: float) -> None:
    """Mean and variance within LIMIT standard errors, plus what tables and rounding may do."""
    y = np.asarray(values, np.float64)
    n, slack = len(y), 2e-6 * max(1.0, abs(mean))
    deviation = (y - y.mean()) ** 2
    assert abs(y.mean() - mean) < LIMIT * std / math.sqrt(n) + slack + 5e-4 * std
    error = LIMIT * deviation.std() / math.sqrt(n)
    assert abs(deviation.mean() - std**2) < error + slack * std + 2e-3 * std**2 + 1e-11


def test_channel_of_stuck_devices() -> None:
    device = devices.pcm_joshi2020(stuck=(0.03, 0.02))
    n = 200_000
    target = np.full(n, 10.0, np.float32)
    g = device.at(device.program(target, 1), target, 3600.0, 1)
    mean, std = device.moments([10.0], 3600.0)
    check(g, mean[0], std[0])
    good = devices.pcm_joshi2020().moments([10.0], 3600.0)[0][0]
    assert mean[0] == pytest.approx(0.95 * good + 0.03 * 0 + 0.02 * 25)
    assert std[0] > 2 * devices.pcm_joshi2020().moments([10.0], 3600.0)[1][0]


def test_channel_splits_programming_and_read() -> None:
    device = devices.gaussian(1.0, read_std=0.5, g_min=10.0, g_max=30.0)
    channel = device.channel()
    assert channel.read_std is not None
    np.testing.assert_allclose(channel.read_std, 0.05)
    np.testing.assert_allclose(channel.std, math.hypot(0.1, 0.05), rtol=1e-6)
    np.testing.assert_allclose(channel.mean, channel.x, atol=1e-9)
    assert channel.range == pytest.approx((-1, 1))
    milo = devices.rram_milo2021().channel()
    assert milo.read_std is not None and not milo.read_std.any()  # frozen with the chip
    assert np.array_equal(milo.sample([0.1], 1, chip=5), milo.sample([0.1], 2, chip=5))


@each
def test_every_device_stores(device: Device) -> None:
    weights = RNG(12).standard_normal((40, 30)).astype(np.float32)
    channel = device.channel(times_of(device)[-1])
    assert Channel.from_json(channel.to_json()) == channel
    stored = nc.Codec(channel, cells=4).encode(weights)
    error = stored.read(1, chip=2) - weights
    assert np.sqrt(np.mean(error**2)) < 0.4 * weights.std()
    assert channel.source == device.source and channel.synthetic == device.synthetic


# ----------------------------------------------------------------- what was measured

RANGES = {
    "pcm_joshi2020": (0.0, DAY),
    "pcm_hermes": (0.0, DAY),
    "rram_wan2022": (1.0, 2 * DAY),
    "rram_milo2021": (0.0, 0.0),
    "rram_cmo": (1.0, DAY),
    "sonos_agrawal2022": (0.0, 5 * DAY),
}


@pytest.mark.parametrize("name", RANGES)
def test_times_that_were_not_measured(name: str) -> None:
    device = devices.get(name)
    assert isinstance(device, Device) and device.time_range == RANGES[name]
    first, last = RANGES[name]
    target = np.full(3, device.g_max, np.float32)
    programmed = device.program(target, 1)
    outside = [last * 1.001 + 1, YEAR] + ([first / 2] if first else [])
    for seconds in outside:
        message = rf"seconds: expected .*, when {name} was measured, got .* extrapolate=True"
        for ask in (
            lambda t: device.aging(t),
            lambda t: device.at(programmed, target, t, 1),
            lambda t: device.channel(t),
            lambda t: device.moments(target, t),
        ):
            with pytest.raises(ValueError, match=message):
                ask(seconds)
        assert not device.measured(seconds)
        later = device.at(programmed, target, seconds, 1, extrapolate=True)
        assert np.isfinite(later).all() and (later >= 0).all()
        assert device.channel(seconds, extrapolate=True).name.endswith("(extrapolated)")
    for seconds in (first, last):
        assert device.measured(seconds)
        assert device.channel(seconds).name == f"{name} at {seconds:g} s"


def test_conductances_that_were_not_measured() -> None:
    for make, bad in (
        (devices.pcm_joshi2020, {"g_max": 30.0}),
        (devices.pcm_hermes, {"g_max": 21.0}),
        (devices.rram_wan2022, {"g_max": 41.0}),
        (devices.rram_milo2021, {"g_min": 0.0}),
        (devices.rram_cmo, {"g_max": 100.0}),
        (devices.sonos_agrawal2022, {"g_max": 16.0}),
    ):
        with pytest.raises(ValueError, match=r"g_min, g_max: expected within .* uS, which was"):
            make(**bad)
        beyond = make(**bad, extrapolate=True)
        assert beyond.to_dict()["arguments"]["extrapolate"] is True
        assert np.isfinite(beyond.program(np.full(9, beyond.g_max), 1, extrapolate=True)).all()
    device = devices.rram_milo2021()
    with pytest.raises(ValueError, match=r"target: expected conductances .* from 50 to 225 uS"):
        device.program([49.0], 1)
    assert device.program([49.0], 1, extrapolate=True) > 0
    with pytest.raises(ValueError, match=r"target: expected conductances .* from 0 to 281.25 uS"):
        device.program([282.0], 1, extrapolate=True)
    # Noise beyond what was measured is that at the end of it.
    wide = devices.rram_wan2022(g_max=50.0, extrapolate=True)
    assert wide.moments([50.0], extrapolate=True)[1][0] == pytest.approx(1.103)


def test_no_time_dependence() -> None:
    for device in (devices.ideal(), devices.gaussian(1.0)):
        assert device.time_range is None and device.measured(YEAR)
        assert device.aging(YEAR) is None
        assert np.array_equal(device.channel(YEAR).std, device.channel().std)


BAD: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: devices.pcm_joshi2020().aging(-1.0), ValueError, "seconds: expected .* >= 0"),
    (lambda: devices.pcm_joshi2020().aging(math.nan), ValueError, "seconds: expected a finite"),
    (lambda: devices.pcm_joshi2020().aging(math.inf, True), ValueError, "seconds: .* finite"),
    (lambda: devices.pcm_joshi2020().aging("1"), TypeError, "seconds: expected a number, got '1'"),
    (lambda: devices.ideal().program([math.nan], 1), ValueError, "target: expected values finite"),
    (lambda: devices.ideal().program(["a"], 1), TypeError, "target: expected real numbers"),
    (lambda: devices.ideal().program([-1.0], 1), ValueError, "target: expected conductances"),
    (lambda: devices.ideal().program([1.0], -1), ValueError, "seed: expected an int"),
    (lambda: devices.ideal().program([1.0], None), TypeError, "seed: expected an int"),
    (lambda: devices.ideal().program([1.0], 1, cell=65_536), ValueError, "cell: expected an int"),
    (lambda: devices.ideal().program([1.0], 1, stream=-1), ValueError, "stream: expected"),
    (lambda: devices.ideal().program([1.0], 1, num_threads=0), ValueError, "num_threads"),
    (
        lambda: devices.ideal().program([1.0], 1, out=np.empty(1)),
        ValueError,
        "out: expected a writeable C-contiguous float32 array",
    ),
    (lambda: devices.ideal().at([1.0], [1.0, 2.0], 0, 1), ValueError, "programmed: expected"),
    (lambda: devices.ideal().at([math.inf], [1.0], 0, 1), ValueError, "programmed: .* finite"),
    (lambda: devices.ideal().read([math.inf], 1), ValueError, "conductance: .* finite"),
    (lambda: devices.ideal().read([1.0], 1, offset=-1), ValueError, "offset: expected"),
    (lambda: devices.gaussian(-1.0), ValueError, "std: expected a finite number >= 0"),
    (lambda: devices.gaussian(math.nan), ValueError, "std: expected a finite number"),
    (lambda: devices.gaussian(object()), TypeError, "std: expected a number"),
    (lambda: devices.gaussian(1.0, stuck=(0.7, 0.6)), ValueError, "stuck: expected prob"),
    (lambda: devices.gaussian(1.0, stuck=(0.1, 0.1, 0.1)), ValueError, "stuck: expected a prob"),
    (lambda: devices.gaussian(1.0, reset=(1.0,)), ValueError, "reset: expected a pair"),
    (
        lambda: devices.gaussian(1.0, reset=(1.0, -1.0)),
        ValueError,
        "reset: expected a finite number >= 0",
    ),
    (lambda: devices.gaussian(1.0, g_min=5.0, g_max=5.0), ValueError, "g_min, g_max: expected 0"),
    (lambda: devices.pcm_hermes(devices=3), ValueError, "devices: expected 1 or 2, got 3"),
    (lambda: devices.rram_cmo(acceptance=1.0), ValueError, "acceptance: expected 0.2 or 2"),
    (lambda: devices.fitted([0.0], [[0.0]], [[0.0]]), ValueError, "target: expected at least 2"),
    (lambda: devices.fitted([1, 0], [[0, 1]], [[1, 1]]), ValueError, "target: .* increasing"),
    (lambda: devices.fitted([0, 1], [[0, 1]], [[1, 1]], [1, 2]), ValueError, "mean: expected sh"),
    (lambda: devices.fitted([0, 1], [[0, 1]], [[1, -1]]), ValueError, "std: expected values >= 0"),
    (
        lambda: devices.fitted([0, 1], [[0, 1]], [[1, 1]], read_std=-1),
        ValueError,
        "read_std: expected",
    ),
    (lambda: devices.from_dict({"device": "x"}), ValueError, "data: expected the keys device and"),
    (
        lambda: devices.from_dict({"device": "x", "arguments": {}}),
        ValueError,
        "device: expected one of .*ideal.*, got 'x'",
    ),
    (
        lambda: devices.from_dict({"device": "ideal", "arguments": {"g": 1}}),
        ValueError,
        "arguments: expected those of ideal, got .*'g'",
    ),
    (lambda: devices.from_dict([]), TypeError, "data: expected the dict of a device, got .."),
    (lambda: devices.from_json("{"), ValueError, "text: expected a cell or a device as JSON"),
    (lambda: devices.from_json("[]"), ValueError, "text: expected a JSON object, got list"),
]


@pytest.mark.parametrize(("ask", "error", "message"), BAD, ids=[message for *_, message in BAD])
def test_bad_input_is_named(ask: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ask()


# ----------------------------------------------------------------- identity


@each
def test_identity(device: Device) -> None:
    data = device.to_dict()
    assert data.keys() == {"device", "arguments"}
    text = json.dumps(data, allow_nan=False)
    for again in (
        devices.from_dict(json.loads(text)),
        devices.from_json(device.to_json()),
        pickle.loads(pickle.dumps(device)),
    ):
        assert again == device and hash(again) == hash(device)
        assert again.to_json() == device.to_json() and repr(again) == repr(device)
        target = np.linspace(device.g_min, device.g_max, 10)
        assert np.array_equal(again.program(target, 1), device.program(target, 1))
    assert sum(other == device for other in PRESETS) == 1
    assert device != "device"
    data["arguments"]["g_min"] = 7.0  # a copy
    assert device.to_dict() != data


def test_arguments_are_the_identity() -> None:
    assert devices.pcm_joshi2020(g_max=20) == devices.pcm_joshi2020(g_max=20.0)
    assert devices.pcm_joshi2020(g_max=np.float32(20)).to_json() == (
        devices.pcm_joshi2020(0.0, 20).to_json()
    )
    assert devices.pcm_joshi2020() != devices.pcm_joshi2020(g_max=20)
    assert devices.gaussian(1, stuck=(0, 0.1)) == devices.gaussian(1.0, stuck=[0.0, 0.1])
    assert repr(devices.pcm_hermes(devices=1)) == "devices.pcm_hermes(devices=1)"
    assert repr(devices.gaussian(0.5, reset=(1, 2))) == (
        "devices.gaussian(std=0.5, reset=[1.0, 2.0])"
    )
    assert devices.gaussian(0.5, reset=(1, 2)).reset == (1.0, 2.0)
    assert devices.pcm_joshi2020().reset is None
    table = devices.fitted(np.array([0, 1]), np.array([[0, 1]]), np.array([[1, 1]]), name="ours")
    assert table.name == "ours" and devices.from_dict(table.to_dict()) == table


def test_tables_are_shared_and_read_only() -> None:
    device = devices.pcm_joshi2020()
    assert device.programming() is device.programming()
    assert device.aging(7.0) is devices.pcm_joshi2020().aging(7.0)
    with pytest.raises(ValueError, match="read-only"):
        device.programming().table[0, 0] = 1


# ----------------------------------------------------------------- plots


def test_plot_marks_extrapolation() -> None:
    pytest.importorskip("matplotlib", reason="matplotlib not installed")
    device = devices.rram_wan2022()
    figure = device.plot([None, 3600.0, YEAR], [10.0, 20.0], [11.0, 19.0])
    lines = {str(line.get_label()): line.get_linestyle() for line in figure.axes[0].get_lines()}
    assert lines["just programmed"] == lines["3600 s"] == "-"
    assert lines["3.156e+07 s, extrapolated"] == "--"
    assert "measurements" in lines
    with pytest.raises(ValueError, match="target, measured: expected both or neither"):
        device.plot(target=[1.0])
