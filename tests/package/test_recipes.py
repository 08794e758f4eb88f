"""The four recipes of docs/contributing.md: each adds a toy one, as written there."""

from __future__ import annotations

import importlib
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import noisycells as nc
from noisycells.devices import registry

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "contributing.md"
if not PAGE.exists():
    pytest.skip("the recipes are in the source tree", allow_module_level=True)


def recipe(title: str) -> list[str]:
    """The code blocks of a section."""
    section = PAGE.read_text(encoding="utf-8").split(f"\n## {title}\n")[1].split("\n## ")[0]
    blocks: list[str] = re.findall(r"^```\w+\n(.*?)^```$", section, re.M | re.S)
    assert blocks, title
    return blocks


def run(code: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "recipe"}
    exec(compile(code, str(PAGE), "exec"), names)
    return names


def test_files_of_the_recipes_exist() -> None:
    named = set(re.findall(r"`((?:python|cpp|tests|docs|bench)/[\w./-]+)`", PAGE.read_text()))
    made = {"cpp/kernels/levels/toy-inl.h", "cpp/kernels/levels/NAME-inl.h"}
    assert len(named) > 6
    assert [name for name in named - made if not (ROOT / name).exists()] == []


def test_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_MAKERS", dict(registry._MAKERS))
    (code,) = recipe("A device")
    device = run(code)["toy"](g_max=10.0)
    assert nc.devices.from_json(device.to_json()).to_dict() == device.to_dict()
    programmed = device.program(np.full(100_000, 5.0), 1)
    assert programmed.mean() == pytest.approx(5.0, abs=0.005)
    assert programmed.std() == pytest.approx(0.2, rel=0.02)
    weights = np.eye(64, dtype=np.float32)
    spec = nc.CrossbarSpec(dac_bits=None, adc_bits=None)
    array = nc.Crossbar(weights, device, spec).program(seed=1)
    left = [array.at(t).matmul(weights, seed=2).trace() / 64 for t in (0.0, 86_400.0)]
    assert left[1] / left[0] == pytest.approx(np.exp(-0.1), rel=1e-3)


def test_a_codec_strategy() -> None:
    (code,) = recipe("A codec strategy")
    weights = np.random.default_rng(0).standard_normal(20_000).astype(np.float32)
    cell = nc.devices.pcm_array()
    codec = run(code)["by_quantiles"](cell, weights)
    stored = codec.encode(weights)
    assert stored.cost.mean_cells == pytest.approx(2.5, abs=0.01)
    plain = nc.Codec(cell, cells=3, adaptive_mapping=False).encode(weights)
    errors = [np.square(s.read(seed=1) - weights).mean() for s in (stored, plain)]
    assert errors[0] < errors[1]


def test_a_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("matplotlib")
    from noisycells.studies.engine import study as engine
    from noisycells.studies.engine.cache import Cache
    from noisycells.studies.engine.recipes import Source

    (code,) = recipe("A study")
    (tmp_path / "toy_study.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    try:
        study = importlib.import_module("toy_study").STUDY
        pytest.importorskip("sklearn")  # has the digits
        settings = engine.Settings(Source.of("digits"), nc.Channel.gaussian(0.2), seeds=2)
        report = engine.run_study(study, settings, tmp_path / "out", Cache(tmp_path / "cache"))
        means = [entry["mean"] for entry in report["tables"][0]["entries"]]
        assert means == pytest.approx([0.2, 0.1, 0.05], rel=0.05)
        file = engine.write(study, report, tmp_path / "out")
        assert {file.with_suffix(s).exists() for s in (".json", ".csv", ".png")} == {True}
    finally:
        sys.modules.pop("toy_study", None)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the toy level has AVX2's vectors")
def test_a_simd_level(tmp_path: Path) -> None:
    """CMake takes it up, its kernels compile, and the dispatcher knows it."""
    if not (shutil.which("cmake") and shutil.which("c++")):
        pytest.skip("needs cmake and a C++ compiler")
    source, build = tmp_path / "source", tmp_path / "build"
    shutil.copytree(ROOT / "cpp", source / "cpp")
    level, line = recipe("A SIMD level")
    (source / "cpp/kernels/levels/toy-inl.h").write_text(level)
    cmake = (ROOT / "CMakeLists.txt").read_text()
    avx2 = "  noisycells_level(avx2 ${avx2})\n"
    assert cmake.count(avx2) == 1
    (source / "CMakeLists.txt").write_text(cmake.replace(avx2, avx2 + line))
    quiet = {"check": True, "capture_output": True, "text": True}
    subprocess.run(["cmake", "-S", source, "-B", build], **quiet)  # type: ignore[call-overload]
    assert re.search(r"LEVEL\(avx2\) +LEVEL\(toy\)", (build / "levels.inc").read_text())
    compile_only = ["c++", "-std=c++17", "-fsyntax-only", f"-I{source}/cpp/include"]
    compile_only += [f"-I{source}/cpp/kernels", f"-I{build}"]
    flags = ["-mavx2", "-mfma", "-mbmi2", "-mpopcnt", "-mprfchw", "-msse4.2"]
    file = '-DNOISYCELLS_LEVEL_FILE="levels/toy-inl.h"'
    for command in (
        [*compile_only, *flags, file, source / "cpp/kernels/table.cpp"],
        [*compile_only, source / "cpp/src/dispatch.cpp"],
    ):
        subprocess.run(command, **quiet)  # type: ignore[call-overload]
