"""Tables of results and what is written of them."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest
from two_networks import STUDY, mlp

torch = pytest.importorskip("torch")
joblib = pytest.importorskip("joblib")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

import noisycells as nc  # noqa: E402
from noisycells.studies import measures  # noqa: E402
from noisycells.studies.engine import figures, html, tables, training  # noqa: E402
from noisycells.studies.engine import study as engine  # noqa: E402
from noisycells.studies.engine.cache import Cache  # noqa: E402
from noisycells.studies.engine.jobs import Job, job  # noqa: E402
from noisycells.studies.engine.recipes import (  # noqa: E402
    Source,
)
from noisycells.studies.engine.tables import Entry, Table  # noqa: E402


@job
def nothing() -> None:
    pass


def test_pooled_interval() -> None:
    """By hand: two runs of variance 1 and 4, three values each; t(0.975, 4) = 2.776445."""
    half_width = tables.pooled_interval([[1, 2, 3], [10, 12, 14]])
    assert half_width == pytest.approx(2.776445 * math.sqrt((1 / 3 + 4 / 3) / 4), rel=1e-6)
    assert tables.pooled_interval([[1.0]]) is None
    one = [1.0, 2.0, 4.0]
    assert tables.pooled_interval([one]) == pytest.approx(nc.intervals.mean_and_interval(one)[1])


def test_entries_of_several_networks() -> None:
    jobs = tuple(Job(nothing, {"seed": seed}) for seed in range(2))
    results = {
        jobs[0].key: {"accuracies": [1, 3], "curve": {"x": [5, 6]}, "accuracy": 4},
        jobs[1].key: {"accuracies": [5, 7], "curve": {"x": [8, 9]}, "accuracy": 6},
    }
    table = Table(
        "T", "rows", "columns", "unit",
        (
            Entry("a", 1, jobs, paper=93.65),
            Entry("a", 2, jobs[:1], "accuracy"),
            Entry("b", 1, jobs, "curve/x/1"),
        ),
    )  # fmt: skip
    assembled = tables.assemble(table, results)
    a, single, curve = assembled["entries"]
    assert (a["mean"], a["paper"], a["runs"]) == (4, 93.65, [[1, 3], [5, 7]])
    assert a["spread"] == pytest.approx(math.sqrt(8))
    assert a["half_width"] == tables.pooled_interval([[1, 3], [5, 7]])
    assert (single["mean"], single["half_width"], single["spread"]) == (4, None, None)
    assert (curve["mean"], curve["runs"]) == (7.5, [[6], [9]])
    text = tables.format_tables({"title": "t", "source": "s", "tables": [assembled]})
    lines = [line.split() for line in text.splitlines()]
    assert ["columns", "1", "2"] in lines and ["(paper)", "(93.65)"] in lines
    assert ["b", "7.5"] in lines


def test_text_is_as_wide_as_the_terminal(
    alone: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most: every column is there, in blocks that fit."""
    entry = {**alone["tables"][0]["entries"][0]}
    entries = [{**entry, "column": float(column)} for column in range(8)]
    table = {**alone["tables"][0], "entries": entries, "note": "words " * 30}
    widths = {}
    for width in (40, 60, 500):
        monkeypatch.setenv("COLUMNS", str(width))
        lines = tables.format_tables({**alone, "tables": [table]}).splitlines()
        widths[width] = max(map(len, lines))
        assert sum(line.count(tables.number(entry)) for line in lines) == 8
    assert widths[40] <= 40 < widths[60] <= 60 < widths[500] <= 100


def test_small_numbers_have_more_decimals() -> None:
    entry = {"row": "", "column": 1, "spread": 0.00123, "paper": None, "runs": []}
    assert tables.number({**entry, "mean": 0.0573, "half_width": 0.0012}) == "0.0573 ±0.0012"
    assert tables.number({**entry, "mean": 93.654, "half_width": 0.123}) == "93.65 ±0.12"
    table = {"title": "", "unit": "", "columns": "", "note": "",
             "entries": [{**entry, "mean": 0.0573, "half_width": None}]}  # fmt: skip
    assert "s 0.0012" in "".join(html._table(table))


def test_losses_that_are_not_finite(source: Source, cache: Cache) -> None:
    """Of a training that diverges, and of outputs beyond float32: None, as JSON has no NaN."""
    diverged = training.network(mlp(source, optimizer="sgd", learning_rate=1e9), cache)
    assert training.about(diverged)["training"]["losses"] == [None]
    noise = {"eta": 1e30, "norm": "absolute"}
    found = measures.perturbed(training.network(mlp(source), cache), noise=noise, repeats=2, seed=0)
    assert found["losses"] == [None, None] and all(0 <= a <= 100 for a in found["accuracies"])
    job = Job(nothing)
    entries = (Entry("a", 1, (job,), "losses"), Entry("b", 1, (job,)))
    table = tables.assemble(Table("T", "rows", "columns", "unit", entries), {job.key: found})
    lost, kept = table["entries"]
    assert (lost["mean"], lost["half_width"], lost["runs"]) == (None, None, [[None, None]])
    assert kept["mean"] is not None and tables.number(lost) == "not finite"
    report = {"title": "t", "networks": [], "channel": None, "data": {}, "tables": [table]}
    (curve,) = figures.plot(report).axes
    assert [len(line.get_xdata()) for line in curve.lines[:1]] == [0]


def test_report_files(alone: dict[str, Any], tmp_path: Path) -> None:
    file = engine.write(STUDY, alone, tmp_path)
    assert file.name == "two-digits-MLP-pcm_array.json"
    assert json.loads(file.read_text()) == alone
    with file.with_suffix(".csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    entries = alone["tables"][0]["entries"]
    assert [float(row["mean"]) for row in rows] == [entry["mean"] for entry in entries]
    assert {(row["networks"], row["values"]) for row in rows} == {("2", "2")}
    page = html.write_page(tmp_path).read_text()
    assert page.count("data:image/png;base64,") == 1
    assert all(tables.number(entry) in page for entry in entries)


def test_page_escapes_and_shows_the_paper(alone: dict[str, Any], tmp_path: Path) -> None:
    entry = {**alone["tables"][0]["entries"][0], "row": "<b>&", "paper": 93.65}
    table = {**alone["tables"][0], "entries": [entry]}
    page = html.page({tmp_path / "x.json": {**alone, "title": "<i>", "tables": [table]}})
    assert "&lt;b&gt;&amp;" in page and "<b>" not in page and "<i>" not in page
    assert "<span class=paper>93.65</span>" in page


def test_page_passes_over_reports_that_are_being_written(
    alone: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "done.json").write_text(json.dumps(alone))
    (tmp_path / ".0a1b.other.json").write_text('{"study": "ha')
    assert list(html.find_reports(tmp_path)) == [tmp_path / "done.json"]


def test_page_needs_reports(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text('{"speed": 1}')
    with pytest.raises(ValueError, match="expected reports of studies"):
        html.write_page(tmp_path)
