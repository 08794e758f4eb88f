"""Headings of columns of measurements: what a column holds, and in which unit."""

from __future__ import annotations

import difflib
import re
from typing import Literal, NamedTuple

from .. import _arguments

__all__ = [
    "ALIASES",
    "Heading",
    "is_time",
    "looks_like",
    "matching",
    "parse",
    "scale_of",
]

Role = Literal["target", "measured", "time"]

ALIASES: dict[Role, tuple[str, ...]] = {
    "target": ("target", "g target", "target g", "target conductance"),
    "measured": ("measured", "g measured", "measured g", "measured conductance"),
    "time": ("time", "elapsed", "elapsed time", "time since programming"),
}

_SIEMENS = {"S": 1e6, "mS": 1e3, "uS": 1.0, "nS": 1e-3, "pS": 1e-6}  # in uS
_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86_400.0
_SECONDS = {
    **{"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "sec": 1.0, "second": 1.0, "seconds": 1.0},
    **{"min": _MINUTE, "minute": _MINUTE, "minutes": _MINUTE},
    **{"h": _HOUR, "hr": _HOUR, "hour": _HOUR, "hours": _HOUR},
    **{"d": _DAY, "day": _DAY, "days": _DAY},
}
UNITS = {"target": _SIEMENS, "measured": _SIEMENS, "time": _SECONDS}
SHOWN = {
    "target": "S, mS, uS, nS, pS",
    "measured": "S, mS, uS, nS, pS",
    "time": "ns to s, min, h, day",
}

NEAR = 0.75  # similarity from which a heading is taken for a misspelt name


class Heading(NamedTuple):
    """The name in a heading, in lower case with single spaces, and its unit as written or None."""

    name: str
    unit: str | None


def parse(heading: str) -> Heading:
    """Name and unit of "target (uS)", "time [s]", "target / uS", "target_uS" or "hours".

    Only in brackets may a unit be one that is not known.
    """
    text = heading.strip().replace("\u00b5", "u").replace("\u03bc", "u")  # two signs for micro
    if bracketed := re.fullmatch(r"(.*?)[\s_]*[(\[]\s*(.*?)\s*[)\]]", text):
        return Heading(_plain(bracketed[1]), bracketed[2])
    if suffixed := re.fullmatch(r"(.*\S)\s*[\s_/.\-]\s*(\w+)", text):
        if suffixed[2] in _SIEMENS or suffixed[2] in _SECONDS:
            return Heading(_plain(suffixed[1]), suffixed[2])
    if text.lower() in _SECONDS and len(text) > 3:  # seconds, hours
        return Heading("time", text.lower())
    return Heading(_plain(text), None)


def _plain(name: str) -> str:
    return re.sub(r"[\s_/.\-]+", " ", name).strip().casefold()


def matching(role: Role, headings: list[str]) -> list[int]:
    """Columns that hold ``role`` by their headings: those of the plain name, or else of others."""
    exact = [i for i, heading in enumerate(headings) if heading == role]
    return exact or [
        i for i, heading in enumerate(headings) if parse(heading).name in ALIASES[role]
    ]


def looks_like(role: Role, heading: str) -> bool:
    """Whether a heading is near to a name of ``role`` without being one."""
    name = parse(heading).name
    if any(name.startswith(alias + " ") for alias in ALIASES[role]):  # such as target_kS
        return True
    return bool(difflib.get_close_matches(name, ALIASES[role], n=1, cutoff=NEAR))


def is_time(heading: str) -> bool:
    """Whether a heading has a unit of time."""
    return parse(heading).unit in _SECONDS


def scale_of(role: Role, heading: str, label: str) -> tuple[float, str]:
    """Factor to microsiemens or seconds, and the unit: that of the heading, or uS or s.

    Raises
    ------
    ValueError
        If the unit is not known or not one of ``role``; ``label`` is the column for the message.
    """
    unit = parse(heading).unit
    if unit is None:
        return 1.0, "s" if role == "time" else "uS"
    units = UNITS[role]
    if unit in units:
        return units[unit], unit
    near = [known for known in units if known.lower() == unit.lower()]
    hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
    raise _arguments.wrong_value(label, f"a unit of {role} ({SHOWN[role]})", f"{unit!r}{hint}")
