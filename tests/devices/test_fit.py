"""Devices learnt from measurements: known ones recovered, times, files, the command line.

Measurements are drawn from a known device. Means and standard deviations that are learnt from n
of them are compared within 5.5 standard errors, which chance passes with probability 4e-8 each.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import noisycells as nc
from noisycells import devices
from noisycells.channel import measurements
from noisycells.channel.fitting import fit_times
from noisycells.cli import main
from noisycells.devices import Device

pytest.importorskip("sklearn", reason="scikit-learn not installed")

LIMIT = 5.5
DAY = 86_400.0
LEVELS, REPEATS = 17, 400


def measure(device: Device, times: list[float], seed: int = 1) -> np.ndarray:
    """Rows of (target, measured, seconds), shuffled."""
    target = np.repeat(np.linspace(device.g_min, device.g_max, LEVELS), REPEATS)
    programmed = device.program(target, seed)
    rows = [
        np.stack([target, device.at(programmed, target, t, seed), np.full(target.shape, t)], 1)
        for t in times
    ]
    return np.random.default_rng(seed).permutation(np.concatenate(rows))


def agree(learnt: Device, true: Device, seconds: float | None) -> None:
    """At the targets that were measured."""
    target = np.linspace(true.g_min, true.g_max, LEVELS)[1:]  # at 0 the noise is not Gaussian
    mean, std = true.moments(target, seconds, extrapolate=True)
    found, spread = learnt.moments(target, seconds)
    assert (np.abs(found - mean) < LIMIT * std / math.sqrt(REPEATS)).all()
    assert (np.abs(spread / std - 1) < LIMIT / math.sqrt(2 * REPEATS)).all()


def test_a_known_device_is_recovered() -> None:
    true = devices.gaussian(0.8, proportional=0.05, g_max=30.0)
    rows = measure(true, [0.0])
    learnt = devices.fit(rows[:, 0], rows[:, 1], name="ours", source="bench 3")
    agree(learnt, true, None)
    agree(learnt, true, 0.0)
    assert (learnt.name, learnt.source) == ("ours", "bench 3")
    assert (learnt.g_min, learnt.g_max) == learnt.conductance_range == (0.0, 30.0)
    assert learnt.time_range == (0.0, 0.0) and not learnt.synthetic
    with pytest.raises(
        ValueError, match="seconds: expected 0 to 0 s after programming, when ours was measured"
    ):
        learnt.aging(1.0)
    assert learnt.aging(1.0, extrapolate=True) is None
    assert devices.from_dict(json.loads(json.dumps(learnt.to_dict()))) == learnt


def test_times_are_recovered() -> None:
    """Three times of one publication; between them both laws are lines in ln t."""
    true = devices.rram_wan2022()
    rows = measure(true, [2 * DAY, 1.0, DAY])
    learnt = devices.fit(*rows.T)
    assert learnt.time_range == (1.0, 2 * DAY)
    for seconds in (1.0, math.sqrt(DAY), DAY, 2 * DAY):
        agree(learnt, true, seconds)
    target = np.full(3000, 20.0)
    programmed = learnt.program(target, 5)
    assert np.array_equal(learnt.at(programmed, target, 1.0, 5), programmed)
    later = learnt.at(programmed, target, DAY, 5)
    assert later.std() > 1.5 * programmed.std()
    assert np.array_equal(learnt.at(programmed, target, DAY, 5), later)


def test_measurements_just_after_programming_and_later() -> None:
    true = devices.pcm_joshi2020(g_min=2.0)
    rows = measure(true, [0.0, 60.0, DAY])
    learnt = devices.fit(rows[:, 0], rows[:, 1], rows[:, 2])
    for seconds in (0.0, 60.0, DAY):
        agree(learnt, true, seconds)
    assert learnt.time_range == (0.0, DAY)
    target = np.array([20.0])
    means = [float(learnt.moments(target, t)[0][0]) for t in (0.0, 20.0, 60.0, 1e3, DAY)]
    assert means == sorted(means, reverse=True)
    half = (means[0] + means[2]) / 2  # in a straight line before the first time
    assert float(learnt.moments(target, 30.0)[0][0]) == pytest.approx(half, rel=1e-6)


def test_options_of_a_fitted_device() -> None:
    rows = measure(devices.gaussian(0.5), [0.0])
    learnt = devices.fit(
        rows[:, 0], rows[:, 1], g_min=5.0, g_max=20.0, read_std=0.3, stuck=0.01, reset=(0.1, 0.05)
    )
    assert (learnt.g_min, learnt.g_max) == (5.0, 20.0)
    assert learnt.read_variance == pytest.approx((0.09, 0, 0))
    assert learnt.stuck == (0.005, 0.005) and learnt.reset == (0.1, 0.05)
    with pytest.raises(ValueError, match="g_min, g_max: expected within 0 to 25 uS"):
        devices.fit(rows[:, 0], rows[:, 1], g_max=40.0)


def test_bad_measurements_of_devices_are_named() -> None:
    rows = measure(devices.gaussian(0.5), [0.0, 10.0])
    target, measured, seconds = rows.T
    for change, message in (
        ({"seconds": seconds[:-1]}, "seconds: expected one for each x and y"),
        ({"seconds": -seconds}, "seconds: expected finite times >= 0"),
        ({"seconds": seconds * np.nan}, "seconds: expected finite times >= 0"),
        ({"measured": measured * np.nan}, "at 0 s: y: expected finite measurements"),
        ({"measured": measured[:-1], "seconds": seconds}, "seconds: expected one for each x and y"),
        (
            {"seconds": np.arange(len(seconds))},
            "seconds: expected at least 10 measurements at each time",
        ),
        ({"neighbors": 1}, "at 0 s: neighbors: expected an int in"),
    ):
        arguments = {"target": target, "measured": measured, "seconds": seconds, **change}
        with pytest.raises(ValueError, match=message):
            devices.fit(**arguments)
    early = fit_times(target[seconds == 0], measured[seconds == 0])
    late = fit_times(100 + target[seconds > 0], measured[seconds > 0])
    with pytest.raises(ValueError, match="seconds: expected times with targets in common"):
        devices.from_fits({0.0: early[None], 10.0: late[None]})
    with pytest.raises(ValueError, match=r"target: expected at least 2 numbers >= 0"):
        devices.fit(target - 5, measured)


# ----------------------------------------------------------------- files and the command line


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rows = measure(devices.rram_wan2022(), [1.0, DAY])
    lines = ["cell,time,target,measured"]
    lines += [f"{i},{t!r},{x!r},{y!r}" for i, (x, y, t) in enumerate(rows.tolist())]
    (tmp_path / "rram.csv").write_text("\n".join(lines))
    return tmp_path / "rram.csv"


def run(*arguments: object) -> str:
    result = CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_fit_command(tmp_path: Path, table: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib not installed")
    file, picture = tmp_path / "rram.json", tmp_path / "rram.png"
    figures = json.loads(
        run("fit", table, "-o", file, "--plot", picture, "--name", "ours", "--json")
    )
    assert figures["conductance_range"] == [0.0, 40.0]
    assert [row["seconds"] for row in figures["times"]] == [1.0, DAY]
    assert all(row["samples"] == LEVELS * REPEATS for row in figures["times"])
    assert 1 < figures["times"][0]["spread"] < figures["times"][1]["spread"] < 5
    assert picture.read_bytes().startswith(b"\x89PNG")
    learnt = devices.from_json(file.read_text())
    read = measurements.read(table)
    assert learnt == devices.fit(
        read.x, read.y, read.seconds, name="ours", source="fitted to rram.csv"
    )
    # Several figures for each time; columns by name, by number, and without times.
    text = run("fit", table)
    assert text.count("seconds") == 2 and "spread" in text
    by_number = run("fit", table, "--kind", "device", "--x", 2, "--y", 3, "--time", 1)
    assert by_number == text
    table.write_text(table.read_text().replace("time,target", "time,aim"))
    assert run("fit", table, "--kind", "device", "--x", "aim").count("spread") == 2


def test_a_device_is_a_cell_at_some_time(tmp_path: Path, table: Path) -> None:
    file = tmp_path / "rram.json"
    run("fit", table, "-o", file)
    from safetensors.numpy import save_file

    weights = np.random.default_rng(3).standard_normal((20, 30)).astype(np.float32)
    model, stored = tmp_path / "model.safetensors", tmp_path / "stored.safetensors"
    save_file({"fc.weight": weights}, model)
    learnt = devices.from_json(file.read_text())
    assert isinstance(learnt, Device)
    for name, channel in (
        ("pcm_joshi2020", devices.pcm_joshi2020().channel()),
        ("pcm_joshi2020@3600", devices.pcm_joshi2020().channel(3600.0)),
        (f"{file}@86400", learnt.channel(DAY)),
    ):
        run("store", model, "-o", stored, "--force", "--device", name)
        assert nc.load(stored)["fc.weight"].codec.channel == channel
    for name, message in (
        ("pcm_joshi2020@1e9", "expected 0 to 86400 s after programming, when pcm_joshi2020"),
        ("pcm_joshi2020@soon", "expected NAME@SECONDS"),
        ("pcm_array@10", "a cell without times"),
    ):
        result = CliRunner().invoke(
            main, ["store", str(model), "-o", str(stored), "--force", "--device", name]
        )
        assert result.exit_code == 2 and message in result.stderr


def test_a_cell_has_no_times(table: Path) -> None:
    result = CliRunner().invoke(main, ["fit", str(table), "--kind", "cell", "--time", "time"])
    assert result.exit_code == 2 and "time: a cell has no times" in result.stderr
