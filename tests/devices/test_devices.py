"""The presets, and the figures, draws, sources and data of the cells that only store.

Devices have ``test_devices_models.py``.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from noisycells import devices
from noisycells.channel import Channel
from noisycells.channel.fitting import scale
from noisycells.devices import pcm, rram

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 5.5  # standard errors; passed by chance with probability 4e-8

NAMES = [
    "pcm_array",
    "synthetic_pcm",
    "gaussian_standin",
    "rram_mlc_1bit",
    "rram_mlc_2bit",
    "rram_mlc_3bit",
]
DEVICES = [
    "ideal",
    "pcm_joshi2020",
    "pcm_hermes",
    "rram_wan2022",
    "rram_milo2021",
    "rram_cmo",
    "sonos_agrawal2022",
]


def cell(name: str) -> Channel:
    channel = devices.get(name)
    assert isinstance(channel, Channel)
    return channel


def test_names_and_get() -> None:
    assert devices.names() == NAMES + DEVICES
    for name in NAMES:
        assert cell(name).name == name
        assert getattr(devices, name)() is cell(name)
        assert name in devices.__all__
    for name in DEVICES:
        device = devices.get(name)
        assert isinstance(device, devices.Device) and device.name == name
        assert getattr(devices, name)() == device
        assert name in devices.__all__
    assert devices.get("pcm_hermes", devices=1) == devices.pcm_hermes(devices=1)
    with pytest.raises(ValueError, match=r"name: expected one of 'pcm_array', .*, got 'pcm'"):
        devices.get("pcm")


def test_table() -> None:
    rows = devices.table()
    assert [row["name"] for row in rows] == NAMES + DEVICES
    json.dumps(rows, allow_nan=False)
    for row in rows:
        assert row["summary"].endswith(".") and row["source"] and row["license"]
        assert row["synthetic"] == row["source"].startswith("synthetic:")
        assert 0 < row["branch_capacity"]
        assert row["capacity"] is None or row["branch_capacity"] < row["capacity"] + 1e-3
        assert row["kind"] == ("cell" if row["name"] in NAMES else "device")
        assert (row["conductance_range"] is None) == (row["kind"] == "cell")
        assert row["doi"] or row["kind"] == "cell" or row["synthetic"]
    noiseless = [row["name"] for row in rows if row["capacity"] is None]
    assert noiseless == ["ideal", "sonos_agrawal2022"]  # an erased SONOS cell has no spread
    rows[0]["name"] = "changed"
    assert devices.table()[0]["name"] == "pcm_array"


@pytest.mark.parametrize("name", NAMES)
def test_presets_survive_json(name: str) -> None:
    channel = cell(name)
    assert Channel.from_json(channel.to_json()) == channel
    assert devices.from_json(channel.to_json()) == channel


@pytest.mark.parametrize("name", NAMES)
def test_draws_have_the_moments_of_the_table(name: str) -> None:
    """At most 40 levels, mean and variance each within LIMIT standard errors."""
    channel = cell(name)
    n = 20_000
    at = channel.x if len(channel.x) <= 40 else channel.x[::16]
    y = channel.sample(np.repeat(at, n), seed=1).reshape(-1, n).astype(np.float64)
    mean, std = channel.mean_at(at), channel.std_at(at)
    assert np.abs((y.mean(axis=1) - mean) / std).max() < LIMIT / math.sqrt(n)
    assert np.abs(y.var(axis=1) / std**2 - 1).max() < LIMIT * math.sqrt(2 / n)


# ----------------------------------------------------------------- PCM


def test_pcm_array() -> None:
    channel = devices.pcm_array()
    volts, mean, std = np.array(pcm.PARTIAL_RESET_PCM).T
    np.testing.assert_allclose(volts, np.linspace(1.0, 2.95, 40), atol=1e-12)
    assert channel.mean.tolist() == mean.tolist() and channel.std.tolist() == std.tolist()
    branch = 1 + 1.95 * (np.array(channel.branch) + 1) / 2
    assert branch == pytest.approx([2.20, 2.95])
    assert channel.range == (-0.254253, 0.902956)
    assert not channel.synthetic and channel.collapses


def test_synthetic_pcm() -> None:
    channel = devices.synthetic_pcm()
    u = np.linspace(-1, 1, 2001)
    slope, center = 2.4, -0.08
    span = math.tanh(slope * (1 - center)) - math.tanh(slope * (-1 - center))
    a = 1.4 / span
    c = 0.75 - a * math.tanh(slope * (1 - center))
    mean = c + a * np.tanh(slope * (u - center))
    std = np.sqrt(0.05**2 + (0.075 * a * slope / np.cosh(slope * (u - center)) ** 2) ** 2)
    np.testing.assert_allclose(channel.mean_at(u), mean, atol=1e-5)
    np.testing.assert_allclose(channel.std_at(u), std, atol=1e-5)
    assert channel.range == pytest.approx((-0.65, 0.75), abs=1e-15)
    assert channel.std[0] == pytest.approx(0.050, abs=5e-4)
    assert channel.std.max() == pytest.approx(0.138, abs=5e-4)
    assert channel.read_std is not None and set(channel.read_std.tolist()) == {0.05}
    assert channel.synthetic


def test_gaussian_standin() -> None:
    channel = devices.gaussian_standin()
    assert channel.range == channel.branch == (-0.65, 0.75)
    assert channel.inverse([-0.65, 0.1, 0.75]) == pytest.approx([-0.65, 0.1, 0.75])
    assert channel.std.tolist() == [0.18, 0.18] and channel.synthetic


# ----------------------------------------------------------------- RRAM


@pytest.mark.parametrize("bits", [1, 2, 3])
def test_rram(bits: int) -> None:
    channel = cell(f"rram_mlc_{bits}bit")
    levels = np.array(rram.MLC_LEVELS[bits])
    assert channel.write_bits == bits and len(channel.x) == 2**bits
    np.testing.assert_allclose(channel.mean, 2 * levels[:, 0] - 1)
    np.testing.assert_allclose(channel.std, 2 * levels[:, 1])
    assert channel.branch == channel.range == (-1, 1)
    # Whatever is written, the cell is put at one of its levels.
    quiet = Channel(channel.x, channel.mean, 0.0, write_bits=bits)
    y = quiet.sample(np.linspace(-1.1, 1.1, 999), 1)
    np.testing.assert_allclose(np.unique(y.round(5)), channel.mean, atol=1e-5)


# ----------------------------------------------------------------- sources and licenses


def test_notices_travel_with_the_figures() -> None:
    for module, line in (
        (pcm, "Copyright (c) 2017, rzarcone"),
        (rram, "Copyright (c) 2021 Lillian Pentecost, Alexander Hankin"),
    ):
        assert module.__doc__ is not None and line in module.__doc__
    assert "Redistributions of source code must retain" in (pcm.__doc__ or "")
    assert "The above copyright notice and this permission notice" in (rram.__doc__ or "")
    page = ROOT / "docs" / "devices.md"
    if not page.exists():
        pytest.skip("docs/ is not part of this installation")
    text = page.read_text(encoding="utf-8")
    for name in NAMES:
        assert f"`{name}`" in text
        assert cell(name).license.split(",")[-1].strip() in text
    for row in devices.table()[len(NAMES) :]:
        assert f"`{row['name']}`" in text
        for doi in filter(None, row["doi"].split(", ")):
            assert doi in text


# ----------------------------------------------------------------- the data themselves


def shared(*parts: str) -> Path:
    path = ROOT.parent.joinpath("shared", "data", *parts)
    if not path.exists():
        pytest.skip("the original data are not part of the repository")
    return path


def test_moments_are_those_of_the_measurements() -> None:
    raw = np.loadtxt(
        shared("rzarcone_CAEs", "partial_reset_pcm_raw.csv"), delimiter=",", skiprows=1
    )
    volts, y = raw[:, 1], scale(raw[:, 2], log=True)
    for at, mean, std in pcm.PARTIAL_RESET_PCM:
        level = y[np.isclose(volts, at)]
        assert len(level) == 380
        assert level.mean() == pytest.approx(mean, abs=1.1e-6)
        assert level.std() == pytest.approx(std, abs=1.1e-6)


def test_fit_of_the_measurements_is_the_preset() -> None:
    pytest.importorskip("sklearn", reason="scikit-learn not installed")
    raw = np.loadtxt(
        shared("rzarcone_CAEs", "partial_reset_pcm_raw.csv"), delimiter=",", skiprows=1
    )
    fitted = Channel.fit(scale(raw[:, 1]), scale(raw[:, 2], log=True))
    true = devices.pcm_array()
    np.testing.assert_allclose(fitted.mean, true.mean, atol=2e-6)
    np.testing.assert_allclose(fitted.std, true.std, rtol=2e-3)  # 379 degrees of freedom
    assert fitted.branch == pytest.approx(true.branch)
    assert fitted.goodness is not None
    assert fitted.goodness.skewness < -1 and fitted.goodness.normality < 1e-9


def test_levels_are_those_of_the_source() -> None:
    path = shared("nvmexplorer_mlc_rram", "mlc_rram_levels.json")
    for bits, levels in enumerate(json.loads(path.read_text()), start=1):
        assert [list(level) for level in rram.MLC_LEVELS[bits]] == levels
