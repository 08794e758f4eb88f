"""The report of the study of crossbars: as JSON, as text, as a figure."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("joblib")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

import noisycells as nc  # noqa: E402
from noisycells import devices  # noqa: E402
from noisycells.io import replacing  # noqa: E402
from noisycells.studies import crossbar, crossbar_view  # noqa: E402
from noisycells.studies.crossbar import Options  # noqa: E402
from noisycells.studies.crossbar_view import BUDGET, DAY, HOUR, MONTH, YEAR, layer_row  # noqa: E402
from noisycells.studies.engine import Settings, Source, html  # noqa: E402
from noisycells.studies.engine import study as engine  # noqa: E402
from noisycells.studies.engine.cache import Cache  # noqa: E402
from noisycells.studies.engine.report import write_json  # noqa: E402
from noisycells.studies.engine.tables import grid  # noqa: E402

PCM, MILO = devices.pcm_joshi2020(), devices.rram_milo2021()
DEVICES = (PCM, MILO)
OPTIONS = Options(DEVICES, pruned=0.5, times=(1.0, DAY, YEAR), extrapolate=True)
STUDY = crossbar.study(OPTIONS)
SETTINGS = Settings(Source.of("digits", 300, 100), model="MLP", epochs=2, repeats=3)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("out")
    return engine.run_study(STUDY, SETTINGS, out, Cache(out / "cache"))


def without(report: dict[str, Any], *titles: str) -> dict[str, Any]:
    return {**report, "tables": [t for t in report["tables"] if t["title"] not in titles]}


def test_report_is_json(report: dict[str, Any], tmp_path: Path) -> None:
    file = engine.write(STUDY, report, tmp_path)
    assert file.name == "crossbar-digits-MLP.json"
    loaded = json.loads(file.read_text())
    assert loaded == report
    settings = loaded["settings"]
    assert nc.CrossbarSpec.from_dict(settings["spec"]) == OPTIONS.spec
    for field in dataclasses.fields(Options):
        if field.name not in ("spec", "devices"):
            given = getattr(OPTIONS, field.name)
            assert settings[field.name] == (list(given) if isinstance(given, tuple) else given)
    made = [{key: row[key] for key in ("device", "arguments")} for row in settings["devices"]]
    assert [devices.from_dict(row) for row in made] == [devices.ideal(), *DEVICES]
    assert STUDY.text(loaded) == STUDY.text(report)
    page = html.write_page(tmp_path).read_text()
    assert f'id="{file.stem}"' in page and "pcm_joshi2020, global, zero weights RESET" in page
    assert "Extrapolated" in page and "Signal-to-noise ratio" in page


@pytest.mark.parametrize("width", [40, 80, 200])
def test_text(report: dict[str, Any], width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    text = STUDY.text(report)
    longest = max(map(len, text.splitlines()))
    assert min(width, 100) - 10 < longest <= min(width, 100)
    entries = crossbar_view._entries(report)
    for entry in entries:
        digits = 2 if entry["half_width"] < 10 else 1
        assert f"{entry['mean']:.2f}±{entry['half_width']:.{digits}f}" in text
    assert text.count("*") == 1 + sum(entry["extrapolated"] for entry in entries)
    assert "extrapolated: the device was not measured" in " ".join(text.split())
    assert "0.5 % of g_max - g_min" in " ".join(text.split())
    (table,) = (table for table in report["tables"] if table["title"] == "Signal-to-noise ratio")
    ratios = grid(table)[2]
    for layer in ("fc1", "fc2", "fc3"):
        assert f"{ratios[layer_row(PCM.name, DAY, layer), 'all']['mean']:.1f}" in text
    if width > 40:
        heads = next(line for line in text.splitlines() if line.endswith("clip  sat."))
        assert heads.split()[:-2] == [
            BUDGET[name] for name in BUDGET if any(column == name for _, column in ratios)
        ]


def test_text_says_what_is_left_out(report: dict[str, Any]) -> None:
    text = STUDY.text(without(report, "Extrapolated"))
    assert "*" not in text and "(--extrapolate)" in text and "1 year" not in text
    rows = [line for line in text.splitlines() if line.startswith("  none ")]
    assert rows[0].split()[2:] == ["-", "-"]  # ideal
    alone = without(report, "Extrapolated")
    (ideal, *_) = report["settings"]["devices"]
    alone["settings"] = {**report["settings"], "times": [], "devices": [ideal]}
    assert "--extrapolate" not in STUDY.text(alone)


def test_figure(report: dict[str, Any]) -> None:
    figure = STUDY.draw(report)
    panels = {axes.get_title(): axes for axes in figure.axes if axes.get_visible()}
    assert list(panels) == [device.name for device in DEVICES]
    labels = panels[PCM.name].get_legend_handles_labels()[1]
    kinds = [f"compensation: {kind}" for kind in OPTIONS.compensation]
    assert labels == [
        *kinds, *(f"{kind}, zero weights RESET" for kind in kinds), "float32", "ideal devices"
    ]  # fmt: skip
    dashed = [line for line in panels[PCM.name].lines if line.get_linestyle() == "--"]
    assert len(dashed) == 4  # to the one extrapolated time
    open_markers = [
        np.isfinite(line.get_ydata()).sum()
        for line in panels[PCM.name].lines
        if line.get_markerfacecolor() == "white"
    ]
    assert open_markers == [1] * 4


def test_figure_of_ideal_devices_alone(report: dict[str, Any]) -> None:
    (ideal, *_) = report["settings"]["devices"]
    settings = {**report["settings"], "devices": [ideal]}
    figure = STUDY.draw({**report, "settings": settings})
    assert not any(axes.get_visible() for axes in figure.axes)


@pytest.mark.parametrize(
    ("seconds", "label"),
    [
        (None, "programmed"),
        (0.0, "0 s"),
        (0.5, "0.5 s"),
        (1.0, "1 s"),
        (90.0, "90 s"),
        (120.0, "2 min"),
        (HOUR, "1 h"),
        (2 * DAY, "2 days"),
        (MONTH, "1 month"),
        (YEAR, "1 year"),
        (10 * YEAR, "10 years"),
    ],
)
def test_time_label(seconds: float | None, label: str) -> None:
    assert crossbar_view.time_label(seconds) == label


def test_files_are_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    write_json({"a": 1}, file)
    with pytest.raises(ValueError, match="JSON"):
        write_json({"a": float("nan")}, file)
    with pytest.raises(KeyboardInterrupt), replacing(file) as temporary:
        temporary.write(b"half")
        raise KeyboardInterrupt
    assert json.loads(file.read_text()) == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]
