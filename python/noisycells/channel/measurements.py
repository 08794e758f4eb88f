"""Measurements of a cell or a device from a file: which columns, in which units, how many rows.

The one reader of measurements. What it takes from the file it says (:meth:`Measurements.summary`);
headings that look like misspelt ones, unknown units and times that would be pooled unasked are
refused.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from .. import _arguments
from .._types import F64
from . import delimited
from .delimited import Table
from .headings import ALIASES, Role, is_time, looks_like, matching, parse, scale_of

__all__ = ["Measurements", "read"]

Kind = Literal["cell", "device"]

NO_TIMES = "none"
_OPTIONS = {"target": "x", "measured": "y", "time": "time"}


@dataclass(frozen=True, eq=False)
class Measurements:
    """Measurements from a file, and what was read as what.

    Attributes
    ----------
    kind : "cell" or "device"
        A cell has inputs and outputs as they are in the file; a device target and measured
        conductance in microsiemens, and times in seconds.
    x, y : float64, shape (rows,)
        Inputs or targets, and outputs or measured conductances.
    seconds : float64, shape (rows,), or None
        Time since programming of each; None for a cell, or where the file has no times.
    columns : dict
        For each of x, y and time that was read, its column in words.
    ignored : list of str
        Columns that were not read.
    rows, skipped : int
        Rows read, and rows left out because a number was missing.
    encoding, delimiter : str
        How the text was read.
    """

    kind: Kind
    x: F64
    y: F64
    seconds: F64 | None
    columns: dict[str, str]
    ignored: list[str] = field(default_factory=list)
    rows: int = 0
    skipped: int = 0
    encoding: str = "UTF-8"
    delimiter: str = ","

    def summary(self) -> dict[str, str]:
        """What was read from which columns, in words; one entry a line of a report."""
        said = {"fitted as": self.kind, **self.columns}
        if self.kind == "device" and self.seconds is None:
            said["time"] = "none, so all rows are of just after programming"
        said["ignored"] = ", ".join(self.ignored) or "no column"
        said["rows"] = f"{self.rows}" + (f", {self.skipped} skipped" if self.skipped else "")
        said["file"] = (
            f"{self.encoding}, {delimited.DELIMITERS.get(self.delimiter, self.delimiter)}"
        )
        return said


def read(
    path: str | os.PathLike[str],
    kind: Literal["auto", "cell", "device"] = "auto",
    x: str | int | None = None,
    y: str | int | None = None,
    time: str | int | None = None,
    *,
    empty: Literal["refuse", "skip"] = "refuse",
    delimiter: str | None = None,
    decimal: str | None = None,
) -> Measurements:
    """Measurements from a text file with one of them a line.

    Headings are matched whatever their case. They may have a unit, as in "target (nS)", "time
    [h]" or "measured_mS": conductances of a device are converted to microsiemens and times to
    seconds, which is what headings without a unit are taken for. Columns of a cell are read as
    they are.

    Parameters
    ----------
    path : path-like
        The file; see :func:`noisycells.channel.delimited.read`.
    kind : "auto", "cell" or "device"
        What was measured. "auto": a device where columns are headed target and measured (one of
        them may be named by ``x`` or ``y`` instead), a cell otherwise.
    x, y : str or int, optional
        Columns of inputs or targets, and of outputs or conductances found: a heading, or a
        position from 0. By default 0 and 1; of a device those headed target and measured, if
        there.
    time : str or int, optional
        Column of times since programming, of a device; "none" takes no column for it. By
        default the one headed time, if there.
    empty : "refuse" or "skip"
        What to do with rows in which one of these columns is empty or says NaN, NA or the like.
    delimiter, decimal : str, optional
        See :func:`noisycells.channel.delimited.read`.

    Raises
    ------
    ValueError
        If a column is not there, twice there, or headed by what looks like a misspelt name; a
        unit is not known; a column may be one of times and nothing is said about it; a field is
        no finite number, or a time or target of a device negative.
    OSError
        If the file cannot be read.
    """
    _arguments.choice("kind", kind, ("auto", "cell", "device"))
    table = delimited.read(path, delimiter, decimal)
    if not table.rows:
        raise ValueError(f"{table.file}: no measurements in it")
    found: Kind = _kind(table, x, y) if kind == "auto" else kind
    wanted: dict[Role, int] = {}
    if found == "device":
        wanted["target"] = _role(table, "target", x, 0)
        wanted["measured"] = _role(table, "measured", y, 1)
    else:
        wanted["target"] = _position(table, 0 if x is None else x)
        wanted["measured"] = _position(table, 1 if y is None else y)
    at = _time(table, found, time, pooled=kind == "cell", used=list(wanted.values()))
    if at is not None:
        wanted["time"] = at
    return _numbers(table, found, wanted, empty)


def _numbers(
    table: Table, kind: Kind, wanted: dict[Role, int], empty: Literal["refuse", "skip"]
) -> Measurements:
    device = kind == "device"
    units = {
        role: scale_of(role, _heading(table, at), f"{table.file}, column {table.label(at)}")
        for role, at in wanted.items()
        if device
    }
    values, lines = table.numbers(list(wanted.values()), empty)
    columns = {}
    for i, (role, at) in enumerate(wanted.items()):
        name = role if device else _OPTIONS[role]
        columns[name] = f"column {at}" + (f", {table.label(at)}" if _heading(table, at) else "")
        if device:
            factor, unit = units[role]
            values[i] = values[i] * factor
            columns[name] += f", in {unit}" + (
                "" if parse(_heading(table, at)).unit else " (no unit stated)"
            )
            if role != "measured" and values[i].min() < 0:
                worst = int(np.argmax(values[i] < 0))
                raise _arguments.wrong_value(
                    table.place(lines[worst], at),
                    f"a {role} >= 0",
                    f"{values[i][worst] / factor:g}",
                )
    width = len(table.header) or len(table.rows[0])
    return Measurements(
        kind,
        values[0],
        values[1],
        values[2] if len(values) > 2 else None,
        columns,
        [table.label(i) for i in range(width) if i not in wanted.values() and _is_used(table, i)],
        len(lines),
        len(table.rows) - len(lines),
        table.encoding,
        table.delimiter,
    )


def _is_used(table: Table, column: int) -> bool:
    """Whether a column is more than what a delimiter at the end of lines leaves."""
    return bool(_heading(table, column)) or any(
        column < len(row) and row[column] for row in table.rows
    )


def _heading(table: Table, column: int) -> str:
    return table.header[column] if column < len(table.header) else ""


# --------------------------------------------------------------------------- which columns


def _kind(table: Table, x: str | int | None, y: str | int | None) -> Kind:
    """A device where target and measured are there by name, one of them maybe by an option."""
    roles: tuple[Role, Role] = ("target", "measured")
    named = {role: bool(matching(role, table.header)) for role in roles}
    given = {"target": x is not None, "measured": y is not None}
    if not any(named.values()):
        for role in named:
            if not given[role]:
                _refuse_near(table, role, "or say --kind cell")
        return "cell"
    for role in named:
        if not (named[role] or given[role]):
            _refuse_near(table, role, "or say --kind cell")
            other = next(r for r in named if named[r])
            raise ValueError(
                f"{table.file}: has a column {other!r} but none {role!r}, only "
                f"{', '.join(table.header)}; name it ({_OPTIONS[role]}, --{_OPTIONS[role]}), or "
                "say --kind cell"
            )
    return "device"


def _role(table: Table, role: Role, given: str | int | None, default: int) -> int:
    """Column of what a device needs: as given, by its heading, or by its usual position."""
    if given is not None:
        return _position(table, given)
    found = matching(role, table.header)
    if not found:
        _refuse_near(table, role, f"or name a column ({_OPTIONS[role]}, --{_OPTIONS[role]})")
        return _position(table, default)
    return _single(table, role, found)


def _time(
    table: Table, kind: Kind, given: str | int | None, pooled: bool, used: list[int]
) -> int | None:
    """Column of times, or None; refused where there may be one and nothing is said about it."""
    if given == NO_TIMES:
        return None
    if given is not None:
        if kind == "cell":
            raise ValueError("time: a cell has no times; with --kind device it is a device")
        return _position(table, given)
    found = [i for i in matching("time", table.header) if i not in used]
    if found and kind == "device":
        return _single(table, "time", found)
    if pooled:
        return None
    if found:
        raise ValueError(
            f"{table.file}: has a column of times, {table.label(found[0])}, which a cell would "
            "pool; say --kind device, or --kind cell to pool them"
        )
    instead = f"or say --time none (time={NO_TIMES!r}) if it is none"
    _refuse_near(table, "time", instead, used)
    for i, heading in enumerate(table.header):
        if i not in used and is_time(heading):
            raise ValueError(
                f"{table.file}: column {heading!r} has a unit of time; name it with --time (time) "
                f"if it is the time since programming, {instead}"
            )
    return None


def _refuse_near(table: Table, role: Role, instead: str, used: list[int] | None = None) -> None:
    for i, heading in enumerate(table.header):
        known = any(parse(heading).name in names for names in ALIASES.values())
        if not known and i not in (used or []) and looks_like(role, heading):
            raise ValueError(
                f"{table.file}: unknown column {heading!r}; did you mean {role!r}? Rename it, "
                f"{instead}"
            )


def _position(table: Table, wanted: str | int) -> int:
    """Position of a column given by heading or position."""
    width = len(table.header) or len(table.rows[0])
    if not isinstance(wanted, str):
        at = _arguments.integer("column", wanted, -(1 << 31))
        if not 0 <= at < width:
            raise ValueError(f"{table.file}: no column {at}, the first line has {width}")
        return at
    if not table.header:
        raise ValueError(f"{table.file}: has no header line to find column {wanted!r} in")
    found = [i for i, heading in enumerate(table.header) if heading == wanted] or [
        i for i, heading in enumerate(table.header) if parse(heading).name == parse(wanted).name
    ]
    if not found:
        raise ValueError(
            f"{table.file}: no column {wanted!r}, the header has {', '.join(table.header)}"
            + _arguments.near(wanted, table.header)
        )
    return _single(table, wanted, found)


def _single(table: Table, wanted: str, found: list[int]) -> int:
    if len(found) > 1:
        where = ", ".join(f"{table.header[i]!r} at {i}" for i in found)
        raise ValueError(
            f"{table.file}: {len(found)} columns may be {wanted!r}: {where}; give a position"
        )
    return found[0]
