"""The demo, end to end."""

from __future__ import annotations

import json
import os
import subprocess
import sysconfig
from pathlib import Path

import numpy as np
import pytest
from command_line import succeed

from noisycells import data

DEMO = ("demo", "--cells", "2,1", "--repeats", 2, "--epochs", 1, "--scope", "tensor")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits as a directory of IDX files, a few of them."""
    pytest.importorskip("sklearn")
    directory = tmp_path_factory.mktemp("few-digits")
    digits = data.load_digits()
    for part, kind in (("train", "train"), ("t10k", "test")):
        pixels = np.rint(getattr(digits, f"{kind}_images")[:200, 0] * 255)
        labels = getattr(digits, f"{kind}_labels")[:200]
        for name, array in (("images-idx3", pixels), ("labels-idx1", labels)):
            header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
            content = header + array.astype(np.uint8).tobytes()
            (directory / f"{part}-{name}-ubyte").write_bytes(content)
    return directory


def test_demo(tmp_path: Path, images: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("matplotlib")
    first, second = tmp_path / "first", tmp_path / "second"
    options = ("--data", images, "--cache", tmp_path / "networks")
    table = succeed(*DEMO, *options, "-o", first)
    printed = succeed(*DEMO, *options, "--output", second, "--json")
    assert "LeNet on few-digits" in table and "+ adaptive redundancy" not in table
    assert table.count("redundancy") == 2  # a heading for accuracy and one for cost
    (stem,) = (file.stem for file in first.glob("*.csv"))
    assert stem.startswith("strategies-few-digits") and stem.endswith("-LeNet-pcm_array")
    for name in (f"{stem}.json", f"{stem}.csv", f"{stem}.png", "index.html"):
        assert (first / name).read_bytes() == (second / name).read_bytes()
    report = json.loads(printed)
    assert report == json.loads((first / f"{stem}.json").read_text())
    assert report["settings"]["scope"] == "tensor" and report["channel"]["name"] == "pcm_array"
    entries = [e for e in report["tables"][0]["entries"] if e["row"] != "no noise"]
    assert len(entries) == 2 * 5
    for entry in entries:
        assert f"{entry['mean']:.2f} ±{entry['half_width']:.2f}" in table


def test_demo_on_the_embedded_digits_in_a_process_of_its_own(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    command = Path(sysconfig.get_path("scripts")) / "noisycells"
    done = subprocess.run(
        [command, *map(str, DEMO), "--seed", "3", "--device", "rram_mlc_3bit"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)},
    )
    assert "LeNet on digits, 1347 training and 450 test images." in done.stdout
    assert "seed 3" in done.stdout and "rram_mlc_3bit" in done.stdout
    names = sorted(path.name for path in (tmp_path / "noisycells-demo").iterdir())
    stem = "strategies-digits-LeNet-rram_mlc_3bit"
    assert names == ["index.html", "jobs", f"{stem}.csv", f"{stem}.json", f"{stem}.png"]
