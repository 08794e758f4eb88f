"""Delimited text as instruments and spreadsheets write it: a header and columns of numbers.

Encoding, delimiter and decimal mark are found out from the file; what could be read in two ways
is refused, and every complaint names the file, the line and the column.
"""

from __future__ import annotations

import codecs
import csv
import io
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from .. import _arguments
from .._types import F64

__all__ = ["Table", "read"]

SAMPLE = 50  # lines that tell the delimiter
MOSTLY = 0.8  # of them have to have it: others may be broken
DELIMITERS = {"\t": "tabs", ";": "semicolons", ",": "commas", " ": "spaces"}
MISSING = frozenset(("", "nan", "na", "n/a", "null", "none", "-"))

_NUMBERLIKE = re.compile(
    r"[+-]?[\d.,'\s]*\d[\d.,'\s]*([eE][+-]?\d+)?|[+-]?(nan|inf|infinity)", re.I
)
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+")


@dataclass(frozen=True, eq=False)
class Table:
    """Fields of a delimited text file.

    Attributes
    ----------
    file : str
        Path of the file, for messages.
    header : list of str
        Names of the columns; empty where the file has none.
    rows : list of list of str
        Fields of each row, without surrounding spaces.
    lines : list of int
        Line of the file that each row ends on, from 1.
    encoding, delimiter : str
        How the text was read.
    decimal : str, optional
        The decimal mark that was asked for; None: found out from the numbers.
    """

    file: str
    header: list[str]
    rows: list[list[str]]
    lines: list[int]
    encoding: str
    delimiter: str
    decimal: str | None

    def label(self, column: int) -> str:
        """A column for messages: its heading, or its position."""
        named = column < len(self.header) and self.header[column]
        return repr(self.header[column]) if named else str(column)

    def numbers(
        self, columns: Sequence[int], empty: Literal["refuse", "skip"] = "refuse"
    ) -> tuple[list[F64], list[int]]:
        """The numbers in some columns, and the line of each row that was read.

        Parameters
        ----------
        columns : sequence of int
            Positions, from 0.
        empty : "refuse" or "skip"
            What to do with rows where one of the columns is empty or says NaN, NA or the like.

        Raises
        ------
        ValueError
            If a row ends before a column, a field is no finite number, the decimal marks of the
            file disagree or could be thousands separators, or no row is left.
        """
        _arguments.choice("empty", empty, ("refuse", "skip"))
        fields: list[list[str]] = []
        lines: list[int] = []
        for line, row in zip(self.lines, self.rows, strict=True):
            taken = [row[c] if c < len(row) else "" for c in columns]
            if "" in taken or not MISSING.isdisjoint(map(str.lower, taken)):
                self._check_empty(line, row, columns, empty)
                continue
            fields.append(taken)
            lines.append(line)
        if not fields:
            raise ValueError(f"{self.file}: no measurements in it")
        decimal = self._decimal_mark(fields, lines, columns)
        texts = [[row[i] for row in fields] for i in range(len(columns))]
        return [
            self._floats(text, column, lines, decimal)
            for text, column in zip(texts, columns, strict=True)
        ], lines

    def _check_empty(self, line: int, row: list[str], columns: Sequence[int], empty: str) -> None:
        for column in columns:
            if column >= len(row) and any(row):
                raise ValueError(
                    f"{self.file}, line {line}: no column {self.label(column)}, the line has "
                    f"{len(row)}"
                )
            if empty == "refuse" and (column >= len(row) or row[column].lower() in MISSING):
                text = row[column] if column < len(row) else ""
                raise ValueError(
                    f"{self.place(line, column)}: {text!r} is no finite number; such rows are left "
                    "out with --empty skip (empty='skip')"
                )

    def place(self, line: int, column: int) -> str:
        """File, line and column of a field, for messages."""
        return f"{self.file}, line {line}, column {self.label(column)}"

    def _decimal_mark(
        self, fields: list[list[str]], lines: list[int], columns: Sequence[int]
    ) -> str:
        """Point or comma, which all numbers have to agree on."""
        if self.decimal is not None:
            return self.decimal
        commas = [
            (i, j) for i, row in enumerate(fields) for j, text in enumerate(row) if "," in text
        ]
        if not commas:
            return "."
        i, j = commas[0]
        first = f"{self.place(lines[i], columns[j])}: {fields[i][j]!r}"
        for i, j in commas:
            text = fields[i][j]
            if "." in text or text.count(",") > 1:
                raise ValueError(
                    f"{self.place(lines[i], columns[j])}: {text!r} has separators of thousands; "
                    "write numbers without"
                )
        for line, row in zip(lines, fields, strict=True):
            for column, text in zip(columns, row, strict=True):
                if "." in text:
                    raise ValueError(
                        f"{first} has a decimal comma and {text!r} in line {line}, column "
                        f"{self.label(column)}, a point; use one of them"
                    )
        if all(_THOUSANDS.fullmatch(fields[i][j]) for i, j in commas):
            raise ValueError(
                f"{first} may be a decimal comma or a separator of thousands; say --decimal , "
                "(decimal=',') or write numbers without separators"
            )
        return ","

    def _floats(self, texts: list[str], column: int, lines: list[int], decimal: str) -> F64:
        try:
            values = np.array([_float(text, decimal) for text in texts])
            bad = np.flatnonzero(~np.isfinite(values))
        except ValueError:
            bad = np.array([next(i for i, t in enumerate(texts) if _is_bad(t, decimal))])
        if len(bad):
            line, text = lines[bad[0]], texts[bad[0]]
            hint = "; a header has names only" if line == self.lines[0] and not self.header else ""
            raise ValueError(f"{self.place(line, column)}: {text!r} is no finite number{hint}")
        return values


def read(
    path: str | os.PathLike[str], delimiter: str | None = None, decimal: str | None = None
) -> Table:
    """The fields of a delimited text file.

    Text is UTF-8, UTF-16 with its mark at the start, or else Latin-1. Lines that are blank or
    start with ``#`` are skipped. The first line is a header if there is no number in it.

    Parameters
    ----------
    path : path-like
        The file.
    delimiter : str, optional
        Tab, semicolon, comma or space; by default the first of these that splits the lines.
    decimal : "." or ",", optional
        Decimal mark; by default the one in the numbers, which has to be one.

    Raises
    ------
    ValueError
        If the file is no text, is badly quoted, or a row is longer than the first.
    OSError
        If it cannot be read.
    """
    if delimiter is not None:
        _arguments.choice("delimiter", delimiter, tuple(DELIMITERS))
    if decimal is not None:
        _arguments.choice("decimal", decimal, (".", ","))
    name = os.fspath(path)
    text, encoding = _decode(Path(path).read_bytes(), name)
    # Remarks become blank lines: quotes in them must not join lines, and lines keep their numbers.
    raw = ["\n" if s.lstrip().startswith("#") else s for s in io.StringIO(text, newline="")]
    if raw and (stated := re.fullmatch(r"sep=(.)\s*", raw[0])):  # as spreadsheets write it
        raw[0] = "\n"
        delimiter = delimiter or stated[1]
    delimiter = delimiter or _delimiter(raw)
    rows, lines = _rows(raw, delimiter, name)
    header = rows[0] if rows and not any(_NUMBERLIKE.fullmatch(f) for f in rows[0]) else []
    start = 1 if header else 0
    return Table(name, header, rows[start:], lines[start:], encoding, delimiter, decimal)


def _rows(raw: list[str], delimiter: str, name: str) -> tuple[list[list[str]], list[int]]:
    """Fields and last line of each row that is neither blank nor a remark."""
    rows: list[list[str]] = []
    lines: list[int] = []
    reader = csv.reader(raw, delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        for row in reader:
            fields = [field.strip() for field in row]
            blank = not any(fields) and (len(fields) < 2 or not rows)
            if blank or fields[0].startswith("#"):
                continue
            if rows and any(fields[len(rows[0]) :]):
                raise ValueError(
                    f"{name}, line {reader.line_num}: {len(fields)} fields, the first line has "
                    f"{len(rows[0])}; decimal commas need another delimiter"
                )
            rows.append(fields)
            lines.append(reader.line_num)
    except csv.Error as error:
        raise ValueError(f"{name}, line {reader.line_num}: {error}") from None
    return rows, lines


def _decode(data: bytes, name: str) -> tuple[str, str]:
    """The text, and the name of its encoding."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            text, encoding = data.decode("utf-16"), "UTF-16"
        except UnicodeDecodeError as error:
            raise _arguments.wrong_value(name, "UTF-16, as its first bytes say", error) from None
    else:
        try:
            text, encoding = data.decode("utf-8-sig"), "UTF-8"
        except UnicodeDecodeError:
            text, encoding = data.decode("latin-1"), "Latin-1"
    if "\0" in text:
        raise _arguments.wrong_value(
            name,
            "text in UTF-8, Latin-1 or UTF-16 with its mark",
            "zero bytes; save spreadsheets as CSV",
        )
    return text, encoding


def _delimiter(lines: list[str]) -> str:
    """The first delimiter that splits the first line and most of the others."""
    sample = [line for line in lines[: 20 * SAMPLE] if line.strip()][:SAMPLE]
    for delimiter in DELIMITERS:
        widths = [
            len(row) for row in csv.reader(sample, delimiter=delimiter, skipinitialspace=True)
        ]
        if widths and widths[0] > 1 and np.mean([width > 1 for width in widths]) >= MOSTLY:
            return delimiter
    return ","


def _float(text: str, decimal: str) -> float:
    if decimal == "," and "," in text:
        text = text.replace(",", ".")
    elif decimal == "," and "." in text:
        return math.nan
    return math.nan if "_" in text else float(text)


def _is_bad(text: str, decimal: str) -> bool:
    try:
        return not math.isfinite(_float(text, decimal))
    except ValueError:
        return True
