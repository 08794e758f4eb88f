"""One HTML page of the reports in a directory, the paper's numbers beside ours."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

from ..._arguments import wrong_value
from ...io import replacing
from .figures import about
from .tables import column_name, fixed, grid, number

__all__ = ["find_reports", "page", "write_page"]

STYLE = """
body { font: 15px/1.45 sans-serif; max-width: 75em; margin: 2em auto; padding: 0 1em; }
table { border-collapse: collapse; margin: .7em 0; display: block; overflow-x: auto; }
th, td { border: 1px solid #ccc; padding: .25em .6em; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
img { max-width: 100%; }
.paper { color: #04c; font-size: 85%; display: block; }
.small { color: #666; font-size: 85%; }
"""


def find_reports(directory: Path) -> dict[Path, dict[str, Any]]:
    """The studies' reports among the JSON files of a directory, by their files.

    Raises
    ------
    ValueError
        If there is none.
    """
    found = {}
    for file in sorted(directory.glob("[!.]*.json")):  # others are still being written
        try:
            report = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise wrong_value(file, "JSON", f"another text: {error}") from error
        if isinstance(report, dict) and {"study", "tables"} <= report.keys():
            found[file] = report
    if not found:
        raise wrong_value(directory, "reports of studies (.json)", "none")
    return found


def write_page(directory: Path) -> Path:
    """Write ``index.html`` about all reports in a directory; the file."""
    file = directory / "index.html"
    text = page(find_reports(directory))
    with replacing(file) as written:
        written.write(text.encode())
    return file


def page(reports: Mapping[Path, Mapping[str, Any]]) -> str:
    """The page; figures that stand beside the reports are in it."""
    contents = "".join(
        f'<li><a href="#{escape(file.stem)}">{escape(report["study"])}</a>: '
        f"{escape(report['title'])} <span class=small>{escape(about(report))}</span></li>\n"
        for file, report in reports.items()
    )
    sections = "\n".join(
        part for file, report in reports.items() for part in _section(file, report)
    )
    return (
        "<!DOCTYPE html>\n<html lang=en>\n<head><meta charset=utf-8>"
        f"<title>noisycells: studies</title><style>{STYLE}</style></head>\n<body>\n"
        "<h1>Studies</h1>\n<p>Means and their 95&nbsp;% intervals over chips or noisy copies; "
        "the spread over training seeds, where there are several, apart. "
        "<span class=paper>The paper's numbers, on the paper's network and data.</span></p>\n"
        f"<ul>\n{contents}</ul>\n{sections}\n</body>\n</html>\n"
    )


def _section(file: Path, report: Mapping[str, Any]) -> Iterator[str]:
    yield f'<h2 id="{escape(file.stem)}">{escape(report["study"])}: {escape(report["title"])}</h2>'
    yield f"<p>{escape(report['source'])}. Here: {escape(about(report))}.</p>"
    picture = file.with_suffix(".png")
    if picture.exists():
        data = base64.b64encode(picture.read_bytes()).decode()
        yield f'<p><img alt="{escape(report["title"])}" src="data:image/png;base64,{data}"></p>'
    for table in report["tables"]:
        yield from _table(table)
    if report["networks"]:
        yield "<details><summary>Networks</summary><ul>"
        yield from (f"<li>{escape(_network(network))}</li>" for network in report["networks"])
        yield "</ul></details>"
    yield "<details><summary>Settings</summary><pre>"
    names = ("settings", "data", "versions", "channel")
    yield escape(json.dumps({name: report[name] for name in names}, indent=1))
    yield "</pre></details>"


def _table(table: Mapping[str, Any]) -> Iterator[str]:
    rows, columns, entries = grid(table)
    wide = len(columns) > 24  # a curve: its figure says more
    yield "<details>" if wide else ""
    yield f"<{'summary' if wide else 'h3'}>{escape(table['title'])}: {escape(table['unit'])}"
    yield f"</{'summary' if wide else 'h3'}>"
    heads = "".join(f"<th>{escape(column_name(column))}</th>" for column in columns)
    yield f"<table><tr><th>{escape(table['columns'])}</th>{heads}</tr>"
    for row in rows:
        cells = "".join(_cell(entries.get((row, column))) for column in columns)
        yield f"<tr><td>{escape(row)}</td>{cells}</tr>"
    yield "</table>"
    if table["note"]:
        yield f"<p class=small>{escape(table['note'])}</p>"
    yield "</details>" if wide else ""


def _cell(entry: Mapping[str, Any] | None) -> str:
    if entry is None:
        return "<td></td>"
    spread, paper = "", ""
    if entry["spread"] is not None:
        spread = f" <span class=small>s {fixed(entry['spread'], entry)}</span>"
    if entry["paper"] is not None:
        paper = f"<span class=paper>{entry['paper']:g}</span>"
    return f"<td>{escape(number(entry))}{spread}{paper}</td>"


def _network(network: Mapping[str, Any]) -> str:
    """A network in a line."""
    recipe, training = network["recipe"], network["training"]
    options = {
        name: value["model"] if name in ("start", "teacher") else value
        for name, value in recipe.items()
        if name not in ("source", "model") and value not in (0, None)
    }
    if isinstance(options.get("noise"), dict) and "codec" in options["noise"]:
        options["noise"] = "of cells"
    return (
        f"{network['name']}: {network['accuracy']:.2f} % without noise, epoch "
        f"{training['best_epoch']} of {len(training['accuracies'])}; "
        + ", ".join(f"{name} {value}" for name, value in options.items())
    )
