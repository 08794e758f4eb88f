"""Tables of results: where each entry comes from, what it comes to, and how it is printed."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..._text import paragraphs
from ..._text import table as text_table
from ...intervals import student_t
from ...io import replacing
from .jobs import Job
from .report import finite

__all__ = [
    "Derived",
    "Entry",
    "Table",
    "assemble",
    "differences",
    "format_tables",
    "grid",
    "pooled_interval",
    "write_csv",
]

SHOWN = 16  # columns printed at most
PAPER = "  (paper)"


@dataclass(frozen=True)
class Entry:
    """One entry of a table.

    Parameters
    ----------
    row : str
    column : str or float
    jobs : tuple of Job
        The same for networks of several training seeds.
    value : str
        Where a job's result has the number, or a list of them: keys and indices joined by "/".
    paper : float, optional
        What the paper has here.
    optional : bool
        Whether there is no such entry where a result has no such number.
    """

    row: str
    column: str | float
    jobs: tuple[Job, ...]
    value: str = "accuracies"
    paper: float | None = None
    optional: bool = False

    def runs(self, results: Mapping[str, Any]) -> list[list[float]]:
        """Its values, a list for each training seed."""
        return [_values(results[job.key], self.value) for job in self.jobs]


@dataclass(frozen=True)
class Derived:
    """An entry computed from others, one training seed at a time.

    Parameters
    ----------
    row : str
    column : str or float
    inputs : tuple of Entry or Derived
        All of the same training seeds.
    function : callable
        Values of a list with the values of each input.
    paper : float, optional
        What the paper has here.
    """

    row: str
    column: str | float
    inputs: tuple[Entry | Derived, ...]
    function: Callable[[list[list[float]]], list[float]]
    paper: float | None = None

    @property
    def jobs(self) -> tuple[Job, ...]:
        """Those of all inputs."""
        return tuple(job for entry in self.inputs for job in entry.jobs)

    def runs(self, results: Mapping[str, Any]) -> list[list[float]]:
        """Its values, a list for each training seed."""
        runs = (entry.runs(results) for entry in self.inputs)
        return [self.function(list(seed)) for seed in zip(*runs, strict=True)]


@dataclass(frozen=True)
class Table:
    """A table of a study; its figure has a panel for it.

    Parameters
    ----------
    title : str
    rows, columns : str
        What the rows and the columns are.
    unit : str
        What the entries are, such as "test accuracy (%)".
    entries : tuple of Entry or Derived
    log : bool
        Whether the axis of the columns is logarithmic.
    note : str
        What one has to know to read it.
    drawn : bool
        Whether the figure has it.
    """

    title: str
    rows: str
    columns: str
    unit: str
    entries: tuple[Entry | Derived, ...]
    log: bool = False
    note: str = ""
    drawn: bool = True


def differences(
    table: Table, title: str, reference: Callable[[str, Any], tuple[str, Any]], note: str = ""
) -> Table:
    """How far entries of a table are above others, in pairs.

    Noisy copies and chips of the same number have the same random numbers in all entries of a
    network, so that the interval is that of the mean of their differences.

    Parameters
    ----------
    table : Table
    title : str
    reference : callable
        Row and column of the entry that is subtracted from the one of a row and column. Where
        there is none, or it is the entry itself, there is no difference.
    note : str
    """
    found = {(entry.row, entry.column): entry for entry in table.entries}
    pairs = [
        (entry, found[reference(*place)])
        for place, entry in found.items()
        if reference(*place) in found and reference(*place) != place
    ]
    entries = tuple(Derived(ours.row, ours.column, (ours, other), _less) for ours, other in pairs)
    unit = "points of test accuracy (%)"
    return Table(title, table.rows, table.columns, unit, entries, table.log, note=note, drawn=False)


def _less(runs: list[list[float]]) -> list[float]:
    """The first values less the second ones, of which there may be a single one."""
    ours, others = runs
    return (np.array(ours) - np.array(others)).tolist()  # type: ignore[no-any-return]


def assemble(table: Table, results: Mapping[str, Any]) -> dict[str, Any]:
    """A table with its numbers, as plain JSON types.

    Each entry has the ``mean`` over all values, the ``half_width`` of its 95 % interval over
    chips or reads (:func:`pooled_interval`; None of single values), the ``spread`` over training
    seeds (standard deviation of the means of the networks; None of one), how many ``values`` of
    each network, and the ``paper``'s number or None. All measured values are in ``runs``, a list
    for each network; None of what is derived from them. Where a value is not finite it is None,
    and so is what depends on it.
    """
    entries = []
    for entry in table.entries:
        try:
            runs = entry.runs(results)
        except KeyError:
            if isinstance(entry, Entry) and entry.optional:
                continue
            raise
        means = [float(np.mean(run)) for run in runs]
        spread = float(np.std(means, ddof=1)) if len(means) > 1 else None
        numbers = finite((float(np.mean(means)), pooled_interval(runs), spread))
        entries.append(
            {
                "row": entry.row,
                "column": entry.column,
                **dict(zip(("mean", "half_width", "spread"), numbers, strict=True)),
                "values": [len(run) for run in runs],
                "runs": [finite(run) for run in runs] if isinstance(entry, Entry) else None,
                "paper": entry.paper,
            }
        )
    about = {name: getattr(table, name) for name in ("title", "rows", "columns", "unit", "log")}
    return {**about, "note": table.note, "drawn": table.drawn, "entries": entries}


def _values(result: Any, path: str) -> list[float]:
    for key in path.split("/"):
        result = result[int(key) if isinstance(result, list) else key]
    values = result if isinstance(result, list) else [result]
    return [math.nan if value is None else float(value) for value in values]


def pooled_interval(runs: Sequence[Sequence[float]]) -> float | None:
    """Half width of the 95 % Student-t interval of the mean of the runs' means.

    It covers the draws within runs, not the choice of runs: variances are estimated within each,
    and their degrees of freedom added. None where no run has two values.
    """
    freedom = sum(len(run) - 1 for run in runs)
    if min(len(run) for run in runs) < 2:
        return None
    variance = sum(float(np.var(run, ddof=1)) / len(run) for run in runs) / len(runs) ** 2
    return student_t(0.95, freedom) * math.sqrt(variance)


def grid(
    table: Mapping[str, Any],
) -> tuple[list[str], list[Any], dict[tuple[str, Any], dict[str, Any]]]:
    """Rows and columns of an assembled table in order, and its entries by them."""
    entries = {(entry["row"], entry["column"]): entry for entry in table["entries"]}
    rows, columns = ([*dict.fromkeys(key[i] for key in entries)] for i in (0, 1))
    return rows, columns, entries


def format_tables(report: Mapping[str, Any]) -> str:
    """The tables of a report as text; the paper's numbers stand below ours, in brackets."""
    lines = paragraphs([f"{report['title']} ({report['source']})"])
    for table in report["tables"]:
        lines += ["", *paragraphs([f"{table['title']}: {table['unit']}"])]
        lines += [*_table_lines(table), *paragraphs([table["note"]])]
    return "\n".join(lines)


def _table_lines(table: Mapping[str, Any]) -> list[str]:
    names, columns, entries = grid(table)
    every = -(-len(columns) // SHOWN)
    columns = columns[::every]
    rows = [[table["columns"], *map(column_name, columns)]]
    for name in names:
        found = [entries.get((name, column)) for column in columns]
        rows.append([name, *("" if entry is None else number(entry) for entry in found)])
        papers = ["" if entry is None else paper(entry) for entry in found]
        rows += [[PAPER, *papers]] if any(papers) else []
    left_out = [f"One column of {every}; all are in the CSV file."] if every > 1 else []
    return [*left_out, *text_table(rows)]


def column_name(column: str | float) -> str:
    """A column's heading."""
    return column if isinstance(column, str) else f"{column:.4g}"


def number(entry: Mapping[str, Any]) -> str:
    """An entry as text: its mean, and half its interval where there is one."""
    if entry["mean"] is None:
        return "not finite"
    if entry["half_width"] is None:
        return f"{entry['mean']:.4g}"
    return f"{fixed(entry['mean'], entry)} ±{fixed(entry['half_width'], entry)}"


def paper(entry: Mapping[str, Any]) -> str:
    """What the paper has in place of an entry, as text; "" where it has nothing."""
    return "" if entry["paper"] is None else f"({entry['paper']:g})"


def fixed(value: float, entry: Mapping[str, Any]) -> str:
    """A value of an entry: two decimals for percentages, four where the mean is below 1."""
    return f"{value:.{2 if abs(entry['mean']) >= 1 else 4}f}"


def write_csv(report: Mapping[str, Any], file: Path) -> None:
    """Write the entries of all tables as CSV, one a line, without the single values."""
    names = ("row", "column", "mean", "half_width", "spread", "networks", "values", "paper")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("table", *names))
    for table in report["tables"]:
        for entry in table["entries"]:
            counts = {"networks": len(entry["values"]), "values": entry["values"][0]}
            writer.writerow((table["title"], *({**entry, **counts}[name] for name in names)))
    with replacing(file) as written:
        written.write(text.getvalue().encode())
