"""Paragraphs, lists and tables are no wider than the terminal, and nothing of them is lost."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from noisycells import _text, speed
from noisycells.cli import main

ROWS = [
    ["", "first", "2nd", "a third one"],
    ["across all columns"],
    ["one", "1.0", "", "1,000"],
    ["two", "22.25", "7", ""],
    ["none", "", "", ""],
]


def lines_at(width: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(width))
    return _text.table(ROWS)


def test_a_table_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lines_at(80, monkeypatch) == [
        "      first  2nd  a third one",
        "across all columns",
        "one     1.0             1,000",
        "two   22.25    7",
        "none",
    ]


def test_columns_that_do_not_fit_stand_below(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lines_at(18, monkeypatch) == [
        "      first  2nd",
        "across all columns",
        "one     1.0",
        "two   22.25    7",
        "none",
        "",
        "      a third one",
        "across all columns",
        "one         1,000",
    ]


@pytest.mark.parametrize("width", range(1, 35))
def test_nothing_is_lost(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = lines_at(width, monkeypatch)
    text = " ".join(" ".join(lines).split())
    assert all(entry in text for row in ROWS for entry in row)
    if width >= 18:
        assert max(map(len, lines)) <= width


def test_left_aligned_and_without_a_limit() -> None:
    rows = [["a", "b", "c"], ["aa", "b" * 200, "cc"]]
    assert _text.table(rows, "<", limit=1000) == [
        "a   b" + " " * 201 + "c",
        "aa  " + "b" * 200 + "  cc",
    ]


def test_width_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    for columns, width in (("40", 40), ("500", 100)):
        monkeypatch.setenv("COLUMNS", columns)
        assert _text.line_width() == width


def test_paragraphs_and_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    assert _text.paragraphs(["some words that go on", "more"], indent="  ") == [
        "  some words that go",
        "  on",
        "  more",
    ]
    assert _text.labeled({"key": "some words that go", "other": ""}, 6) == [
        "key   some words",
        "      that go",
        "other",
    ]


# ----------------------------------------------------------------- what commands print


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    x = np.tile(np.linspace(0, 10, 11), 20)
    file = tmp_path / "cells.csv"
    table = np.stack([x, 0.9 * x + rng.normal(0, 0.1, x.shape)], axis=1)
    np.savetxt(file, table, delimiter=",", header="target,measured", comments="")
    return file


@pytest.mark.parametrize("width", [50, 70, 100])
def test_commands_keep_to_the_terminal(
    width: int, csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    for command in (
        ["devices"],
        ["devices", "show", "pcm_joshi2020"],
        ["devices", "compare", "pcm_joshi2020", "rram_wan2022", "pcm_array"],
        *([["fit", str(csv)]] if find_spec("sklearn") else []),
    ):
        done = CliRunner().invoke(main, command)
        assert done.exit_code == 0, done.output
        longest = max(
            (line for line in done.stdout.splitlines() if " " in line.strip()), key=len
        )  # one word, such as an address, stays whole
        assert width / 2 < len(longest) <= width, longest


def test_the_table_of_speed_keeps_to_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    result = speed.run(threads=[1], shrink=4096, rounds=1)
    for width in (60, 100):
        monkeypatch.setenv("COLUMNS", str(width))
        text = speed.render(result)
        assert max(map(len, text.splitlines())) <= width
        assert all(row["case"] in text for row in result["rows"])
