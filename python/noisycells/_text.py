"""Text for people: paragraphs, lists and tables that are no wider than the terminal."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Mapping, Sequence

__all__ = ["labeled", "line_width", "paragraphs", "table"]

WIDTH = 100  # of a line where the terminal is wider, or there is none, in characters
GAP = "  "  # between the columns of a table


def line_width() -> int:
    """Characters of a line: as many as the terminal has, or $COLUMNS says, at most 100."""
    return min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns)


def paragraphs(texts: Iterable[str], indent: str = "") -> list[str]:
    """The lines of texts that each begin a line."""
    return [line for text in texts for line in _wrapped(text, line_width(), indent)]


def _wrapped(text: str, width: int, indent: str = "") -> list[str]:
    return textwrap.wrap(
        text,
        max(width, len(indent) + 1),
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def labeled(texts: Mapping[str, object], label_width: int) -> list[str]:
    """The lines of texts behind their labels."""
    found = []
    for label, text in texts.items():
        lines = paragraphs([str(text)], indent=" " * label_width) or [""]
        found += [f"{label:<{label_width}}{lines[0].lstrip()}".rstrip(), *lines[1:]]
    return found


def table(rows: Sequence[Sequence[str]], align: str = "<>", limit: int | None = None) -> list[str]:
    """The lines of a table; columns that do not fit beside the first are in further tables below.

    Parameters
    ----------
    rows : sequence of sequence of str
        Headings too. A row of one cell is a line across all columns. One without an entry in the
        columns of a further table is not in it.
    align : str
        "<" or ">" for each column; the last stands for those behind it.
    limit : int, optional
        Characters of a line. Default: :func:`line_width`.
    """
    limit = line_width() if limit is None else limit
    full = [row for row in rows if len(row) > 1]
    widths = [max(map(len, column)) for column in zip(*full, strict=True)]
    align = align.ljust(len(widths), align[-1])

    def line(row: Sequence[str], columns: Iterable[int]) -> str:
        return GAP.join(f"{row[i]:{align[i]}{widths[i]}}" for i in (0, *columns)).rstrip()

    lines: list[str] = []
    for number, columns in enumerate(_blocks(widths, limit)):
        lines += [""] if number else []
        for row in rows:
            if len(row) == 1:
                lines += _wrapped(row[0], limit)
            elif any(row[i] for i in columns) or not (number or any(row[1:])):
                lines.append(line(row, columns))
    return lines


def _blocks(widths: Sequence[int], limit: int) -> list[list[int]]:
    """Columns but the first one that stand side by side; one at least."""
    blocks: list[list[int]] = []
    room = 0
    for column, width in enumerate(widths[1:], 1):
        room -= len(GAP) + width
        if not blocks or room < 0:
            blocks.append([])
            room = limit - widths[0] - len(GAP) - width
        blocks[-1].append(column)
    return blocks
