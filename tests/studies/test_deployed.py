"""The study of deployed classifiers: what corrections and training are worth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch")
pytest.importorskip("joblib")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

from noisycells.cli import main  # noqa: E402
from noisycells.studies import deployed  # noqa: E402


def run(*arguments: object) -> Any:
    return CliRunner().invoke(main, ["study", "deployed", *map(str, arguments)])


def test_corrections_help(tmp_path: Path) -> None:
    result = run("--quick", "--device", "rram_wan2022", "--device", "rram_milo2021",
                 "--epochs", 4, "--repeats", 4, "-o", tmp_path, "--cache", tmp_path / "cache",
                 "--json")  # fmt: skip
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    chips, above = report["tables"]
    found = {(e["row"], e["column"]): e["mean"] for e in chips["entries"]}
    clean = found["no noise, as trained", "float32"]
    assert {row for row, _ in found} == {
        *(f"no noise, {kind}" for kind in (deployed.CLEAN, deployed.CONTROL, deployed.NOISY)),
        *(f"rram_wan2022, {way}" for way in deployed.WAYS),  # the other was not measured so long
    }
    lost = {way: clean - found[f"rram_wan2022, {way}", "1 day"] for way in deployed.WAYS}
    assert all(entry["mean"] == pytest.approx(found[entry["row"], entry["column"]] - clean)
               for entry in above["entries"])  # fmt: skip
    assert lost["corrected"] < lost["deployed"] and lost["trained-corrected"] < lost["deployed"]
    recipes = {n["recipe"].get("noise") is not None: n["recipe"] for n in report["networks"]}
    assert recipes[True]["epochs"] == 2 and recipes[True]["start"]["model"] == "MLP"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--ways", "retrained"), "ways: expected some of deployed"),
        (("--rank", -1), r"rank: expected an int in [0, "),
        (("--eta", 0), r"eta: expected "),
        (("--examples", 0), r"examples: expected an int in [1, "),
        (("--device", "ideal", "--device", "ideal"), "device: expected devices of different"),
        (("--device", "ideal"), "device, times: expected a device that was measured"),
        (("--device", "rram_milo2021"), "device, times: expected a device that was measured"),
    ],
)
def test_refused(options: tuple[object, ...], message: str, tmp_path: Path) -> None:
    result = run("--quick", *options, "-o", tmp_path / "out", "--cache", tmp_path / "cache")
    assert result.exit_code == 2 and message in result.stderr, result.output
