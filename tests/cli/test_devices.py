"""The commands about cells and devices: list, show, compare."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import run, succeed

import noisycells as nc
from noisycells.devices.comparison import describe


def test_devices() -> None:
    text, rows = " ".join(succeed("devices").split()), json.loads(succeed("devices", "--json"))
    assert rows == nc.devices.table()
    for row in rows:
        assert f"{row['name']}: {row['summary']}" in text and row["license"] in text


def test_devices_show(tmp_path: Path) -> None:
    device = nc.devices.pcm_joshi2020()
    row = json.loads(succeed("devices", "show", "pcm_joshi2020", "--json"))
    assert row == json.loads(json.dumps(describe(device)))
    assert [one["seconds"] for one in row["times"]] == [None, 1, 3600, 86_400]
    hour = row["times"][2]
    mean, std = device.moments([12.5], 3600)
    want = {"target": 12.5, "mean": mean[0], "std": std[0]}
    assert hour["errors"][2] == pytest.approx(want, rel=1e-9)
    assert hour["left"] == pytest.approx(mean[0] / device.moments([12.5])[0][0], rel=1e-9)
    assert hour["capacity"] == device.channel(3600).capacity()
    grid = np.linspace(0, 25, 257)
    spread = np.sqrt(np.mean(device.moments(grid, 3600)[1] ** 2)) / 25
    assert hour["error"] == pytest.approx(100 * spread)
    text = succeed("devices", "show", "pcm_joshi2020")
    assert device.doi in text and "valid    0 to 25 uS, 0 to 86400 s" in text
    assert f"{hour['error']:.2f} %" in text and "3600 s" in text
    # a file, and times that were not measured
    file = tmp_path / "mine.json"
    file.write_text(device.to_json())
    assert succeed("devices", "show", file) == text
    year = json.loads(succeed("devices", "show", file, "--times", 3e7, "--extrapolate", "--json"))
    assert [one["extrapolated"] for one in year["times"]] == [False, True]
    assert "3e+07 s*" in succeed("devices", "show", file, "--times", 3e7, "--extrapolate")
    assert "3e+07 s" not in succeed("devices", "show", file, "--times", 3e7)
    cell = json.loads(succeed("devices", "show", "pcm_array", "--json"))
    assert (cell["kind"], cell["times"]) == ("cell", [])
    assert cell["capacity"] == nc.devices.pcm_array().capacity()
    assert f"cell, {cell['capacity']:.2f} bits" in succeed("devices", "show", "pcm_array")


def test_devices_compare(tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text(nc.devices.gaussian(0.5, g_max=20.0).to_json())
    names = ("pcm_hermes", file, "pcm_array", "rram_milo2021")
    rows = json.loads(succeed("devices", "compare", *names, "--json"))
    assert [row["name"] for row in rows] == ["pcm_hermes", "gaussian", "pcm_array", "rram_milo2021"]
    assert [len(row["times"]) for row in rows] == [4, 4, 0, 1]  # the last just programmed
    text = succeed("devices", "compare", *names)
    assert all(row["name"] in text for row in rows)
    assert len(text.partition("bits: ")[0].splitlines()) == 1 + 4 + 4 + 1 + 1


@pytest.mark.parametrize("command", ["show", "compare"])
def test_devices_plot(command: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "a.png"
    succeed("devices", command, "pcm_hermes", "--plot", picture)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert run("devices", command, "pcm_hermes", "--plot", picture).exit_code == 2  # is there
    succeed("devices", command, "pcm_hermes", "--plot", picture, "--force")


def test_devices_errors() -> None:
    for arguments, message in (
        (("show", "pcm_herms"), "did you mean 'pcm_hermes'"),
        (("show",), "Missing argument"),
        (("compare",), "Missing argument"),
        (("compare", "pcm_hermes", "none.json"), "none.json"),
        (("show", "pcm_hermes", "--times", "-1"), "seconds: expected"),
        (("compare", "pcm_array", "--plot", "x.png"), "expected at least one device"),
        (("--json", "show", "pcm_hermes"), "--json: expected a place behind the command"),
    ):
        result = run("devices", *arguments)
        assert result.exit_code == 2 and message in result.stderr, arguments
