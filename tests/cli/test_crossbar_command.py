"""The command ``noisycells study crossbar``."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from command_line import run

torch = pytest.importorskip("torch")
pytest.importorskip("joblib")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

from noisycells import data, devices  # noqa: E402
from noisycells.studies.crossbar_view import format_crossbars  # noqa: E402


@pytest.fixture(scope="module")
def digits() -> data.Dataset:
    return data.load_digits()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory, digits: data.Dataset) -> Path:
    """Some of the digits as a directory of IDX files."""
    directory = tmp_path_factory.mktemp("images") / "few-digits"
    directory.mkdir()
    for part, kind in (("train", "train"), ("t10k", "test")):
        pixels = np.rint(getattr(digits, f"{kind}_images")[:200, 0] * 255)
        labels = getattr(digits, f"{kind}_labels")[:200]
        for name, array in (("images-idx3", pixels), ("labels-idx1", labels)):
            header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
            content = header + array.astype(np.uint8).tobytes()
            (directory / f"{part}-{name}-ubyte").write_bytes(content)
    return directory


STUDY = ("study", "crossbar", "--epochs", 2, "--repeats", 2, "--times", "1,86400")


def test_command(tmp_path: Path, images: Path) -> None:
    fitted = tmp_path / "mine.json"
    fitted.write_text(devices.gaussian(0.5, 0.02, reset=(0.1, 0.1)).to_json())
    options = [
        *("--data", images, "--model", "mlp", "--prune", 0.5, "--rows", 128, "--cols", 64),
        *("--dac-bits", 6, "--adc-bits", "none", "--dac-range", "vector", "--read-noise", "both"),
        *("--output-noise", 0.01, "--compensation", "none,column", "--seed", 3),
        *("--mapping", "row", "--quantile", 0.99, "--cache", tmp_path / "networks"),
        *("--device", "rram_wan2022", "--device", fitted, "--reset-noise", 1),
    ]
    first, second = tmp_path / "first", tmp_path / "second"
    table = run(*STUDY, *options, "-o", first)
    printed = run(*STUDY, *options, "--output", second, "--json")
    assert (table.exit_code, printed.exit_code) == (0, 0), table.output + printed.output
    stem = "crossbar-few-digits-MLP"
    names = [f"{stem}.csv", f"{stem}.json", f"{stem}.png", "index.html"]
    assert sorted(path.name for path in first.iterdir()) == [*names, "jobs"]
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes()
    report = json.loads(printed.stdout)
    assert report == json.loads((first / f"{stem}.json").read_text())
    assert table.stdout == format_crossbars(report) + "\n"
    settings, spec = report["settings"], report["settings"]["spec"]
    recipe = report["networks"][-1]["recipe"]
    assert (recipe["model"], recipe["seed"], recipe["pruned"]) == ("MLP", 3, 0.5)
    assert settings["seed"] == 3
    assert (settings["compensation"], settings["reset_noise"]) == (["none", "column"], 1)
    assert (spec["mapping"], settings["quantile"]) == ("row", 0.99)
    assert "mapping: row" in " ".join(table.stdout.split())
    assert (spec["rows"], spec["cols"], spec["dac_bits"], spec["adc_bits"]) == (128, 64, 6, None)
    assert (spec["dac_range"], spec["adc_range"]) == ("vector", "calibrated")
    assert (spec["read_noise"], spec["output_noise"]) == ("both", 0.01)
    assert [d["name"] for d in settings["devices"]] == ["ideal", "rram_wan2022", "gaussian"]
    assert report["data"]["name"] == "few-digits"
    columns = {e["column"] for e in report["tables"][0]["entries"]}
    assert columns == {"programmed", "1 s", "1 day"}


def test_list() -> None:
    listed = run("study", "--list")
    assert (listed.exit_code, listed.stdout) == (0, run("study").stdout)
    assert re.match(r"crossbar: Accuracy over time", listed.stdout)
    assert "\nstrategies: Accuracy of a pruned network in cells" in listed.stdout


def test_plan_quick_and_resume(tmp_path: Path, images: Path) -> None:
    """As every study: the plan trains nothing, and what is done is not done again."""
    options = ("--data", images, "--quick", "--seeds", 2, "--device", "rram_milo2021")
    options += ("--cache", tmp_path / "networks", "-o", tmp_path / "out")
    plan = json.loads(run(*STUDY, *options, "--plan", "--json").stdout)
    assert (len(plan["networks"]), plan["done"]) == (2, 0) and not (tmp_path / "out").exists()
    first = run(*STUDY, *options)
    assert first.exit_code == 0, first.output
    for file in (tmp_path / "networks").iterdir():
        file.unlink()
    assert run(*STUDY, *options).stdout == first.stdout
    after = json.loads(run(*STUDY, *options, "--plan", "--json").stdout)
    assert (after["networks"], after["jobs"], after["done"]) == ([], 0, plan["jobs"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "pcm_array"], r"'--device': device: expected a Device, got the channel 'pcm"),
        (["--device", "flash"], r"'--device': .*pcm_joshi2020.* got 'flash'"),
        (["--device", "absent.json"], r"'--device': .*No such file.*absent.json"),
        (["--device", "ideal", *["--device", "pcm_hermes"] * 2], r"device: expected .* different"),
        (["--model", "vgg"], r"'--model': 'vgg' is not one of"),
        (["--repeats", "1"], r"'--repeats': 1 is not in the range 2<=x<="),
        (["--epochs", "0"], r"'--epochs': 0 is not in the range 1<=x<="),
        (["--seeds", "0"], r"'--seeds': 0 is not in the range 1<=x<="),
        (["--seed", "-1"], r"seed: expected an int in .* got -1"),
        (["--prune", "1"], r"pruned: expected a number in \[0, 1\), got 1.0"),
        (["--times", "1,x"], r"'--times': expected numbers separated by commas, got '1,x'"),
        (["--times", "5,1"], r"times: expected increasing seconds >= 0, got \(5.0, 1.0\)"),
        (["--compensation", "slope"], r"compensation: expected .* got \('slope',\)"),
        (["--rows", "0"], r"rows: expected an int in .1, 65536., got 0"),
        (["--cols", "0"], r"cols: expected an int in .1, 65536., got 0"),
        (["--dac-bits", "40"], r"dac_bits: expected an int in .2, 16., got 40"),
        (["--adc-bits", "1"], r"adc_bits: expected an int in .2, 16., got 1"),
        (["--adc-bits", "x"], r"'--adc-bits': expected a whole number or none, got 'x'"),
        (["--dac-range", "weights"], r"'--dac-range': expected a number or vector or calibrated"),
        (["--adc-range", "-1"], r"adc_range: expected a number in .*, got -1.0"),
        (["--quantile", "0"], r"quantile: expected a number in \(0, 1\], got 0.0"),
        (["--quantile", "nan"], r"quantile: expected a number in \(0, 1\], got nan"),
        (["--mapping", "tile"], r"'--mapping': 'tile' is not one of"),
        (["--read-noise", "pink"], r"'--read-noise': 'pink' is not one of"),
        (["--output-noise", "-1"], r"output_noise: expected a number in .*, got -1"),
        (["--reset-noise", "-1"], r"reset_noise: expected a number in \[0, 100\], got -1"),
        (["--data", "cifar"], r"data: expected 'digits', .* got 'cifar'"),
    ],
)
def test_errors_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*STUDY, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("noisycells: ") and result.stderr.count("\n") == 1
    assert re.search(message, result.stderr), result.stderr
    assert not list(tmp_path.iterdir())
