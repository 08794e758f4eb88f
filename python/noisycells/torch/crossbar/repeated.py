"""Layers of repeated blocks, whose names differ only in numbers, as one line of a table."""

from __future__ import annotations

from typing import Any

__all__ = ["repeated"]

Row = dict[str, Any]
_Name = tuple[tuple[str, ...], ...]  # of each part between dots, the texts that it stands for


def repeated(rows: list[Row]) -> list[tuple[str, list[Row]]]:
    """Rows of :func:`~noisycells.torch.estimate`, joined where only a number tells them apart.

    ``encoder.layer.0.fc1`` to ``encoder.layer.5.fc1`` become ``encoder.layer.0-5.fc1``, if kind,
    shape and state are the same; nested blocks are joined by each of their numbers.
    """
    found: list[tuple[_Name, list[Row]]] = [
        (tuple((part,) for part in row["name"].split(".")), [row]) for row in rows
    ]
    for place in range(max((len(name) for name, _ in found), default=0)):
        joined: dict[Any, tuple[_Name, list[Row]]] = {}
        for name, alike in found:
            numbered = place < len(name) and all(text.isdecimal() for text in name[place])
            rest = (*name[:place], *name[place + 1 :]) if numbered else name
            key = (place if numbered else None, rest, _kind(alike[0]))
            if key in joined and numbered:
                before, others = joined[key]
                numbers = before[place] + name[place]
                name = (*name[:place], numbers, *name[place + 1 :])
                alike = others + alike
            joined[key] = name, alike
        found = list(joined.values())
    return [(".".join(map(_written, name)), alike) for name, alike in found]


def _kind(row: Row) -> tuple[Any, ...]:
    return row["kind"], row["shape"], row["weights"], row["tiles"], row["cells"], row["programmed"]


def _written(texts: tuple[str, ...]) -> str:
    """Numbers as ranges, such as 0-5,7."""
    if len(texts) == 1:
        return texts[0]
    numbers = sorted(map(int, texts))
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)
