"""The table that people read."""

from __future__ import annotations

from typing import Any

from noisycells.speed.timing import machine_lines

__all__ = ["render"]

_CROSSBAR = "{:<20}{:>8} {:<24} {:<25} {:<25} {}"
_ROW = "{:<25} {:>5}  {:<16} {:<15}  {:<13} {:<16} {:>7}  {}"


def render(result: dict[str, Any]) -> str:
    """The result of :func:`bench.measure.run` as text."""
    lines = [
        *machine_lines(result["machine"]),
        f"ns an element, median (minimum) of {result['rounds']} rounds; limit: share of what the "
        "machine can do, measured in the same rounds",
    ]
    if result["shrink"] > 1:
        lines.append(f"Sizes divided by {result['shrink']}; the goals are meant for the full ones.")
    for limits in result["limits"]:
        threads = limits["threads"]
        rates = ", ".join(
            f"{name} {limit['rate']:.3g} {limit['unit']}"
            for name, limit in limits.items()
            if name != "threads"
        )
        lines += ["", f"{threads} thread{'s' if threads > 1 else ''}: {rates}"]
        lines.append(_ROW.format("", "size", "noisycells", "limit", "rival", "", "ratio", "goal"))
        for row in result["rows"]:
            if row["threads"] == threads:
                lines += _lines(row)
        lines += _crossbar([row for row in result["crossbar"] if row["threads"] == threads])
    lines += ["", "Memory beyond what is returned:"]
    lines += map(_memory, result["memory"])
    return "\n".join(lines)


def _crossbar(rows: list[dict[str, Any]]) -> list[str]:
    """A table for each case and SIMD level."""
    if not rows:
        return []
    lines = [
        "",
        "Crossbars: ms, medians; for a rival without noise our time over its, else the reverse",
        f"Peaks, Gop/s: {_peaks(rows)}",
    ]
    key = None
    for row in rows:
        if (row["title"], row["level"]) != key:
            key = row["title"], row["level"]
            names = [rival["name"].partition(",")[0] for rival in row["rivals"]]
            lines += ["", f"{row['title']}, {row['level']}"]
            lines.append(_CROSSBAR.format("", "", "limit", *_three(names)).rstrip())
        ours = f"{row['ours']['median_ms']:.3g}"
        cells = _three([_crossbar_rival(rival) for rival in row["rivals"]])
        lines.append(_CROSSBAR.format(row["job"], ours, _limit(row["limit"]), *cells).rstrip())
    return lines


def _peaks(rows: list[dict[str, Any]]) -> str:
    """The fastest multiply-adds seen beside any case."""
    found: dict[str, float] = {}
    for row in rows:
        if row["limit"] and row["limit"]["name"] in ("float32", "integer"):
            name = f"{row['limit']['name']} at {row['level']}"
            found[name] = max(found.get(name, 0), row["limit"]["rate"])
    return ", ".join(f"{name} {rate:.4g}" for name, rate in found.items()) or "not measured"


def _three(cells: list[str]) -> list[str]:
    return (cells + [""] * 3)[:3]


def _limit(limit: dict[str, Any] | None) -> str:
    if limit is None:
        return ""
    share, goal = f"{limit['share']:.0%} {limit['name']}", limit["goal"]
    return share if goal is None else f"{share} " + _goal(f">={goal:.0%}", limit["met"])


def _crossbar_rival(rival: dict[str, Any]) -> str:
    if "missing" in rival:
        return str(rival["missing"])[:25]
    sign, ratio = ("<=", f"{rival['time']:.2f}") if "time" in rival else (">=", _times(rival))
    figures, goal = f"{rival['median_ms']:.3g}: {ratio}", rival["goal"]
    return figures if goal is None else f"{figures} " + _goal(f"{sign}{goal:g}", rival["met"])


def _lines(row: dict[str, Any]) -> list[str]:
    limit = row["limit"]
    share = f"{limit['share']:.0%}"
    left = [row["title"], _size(row["elements"]), _figure(row["ours"]), f"{share} {limit['name']}"]
    right = [_rival(rival) for rival in row["rivals"]]
    if limit["goal"] is not None:
        goal = _goal(f">= {limit['goal']:.0%}", limit["met"])
        right.append(
            [limit["name"], f"{limit['share'] * row['ours']['median_ns']:.3g}", share, goal]
        )
    return [
        _ROW.format(*(left if first else [""] * 4), *cells).rstrip()
        for first, cells in zip([True] + [False] * len(right), right or [[""] * 4], strict=False)
    ]


def _rival(rival: dict[str, Any]) -> list[str]:
    if "missing" in rival:
        return [rival["missing"], "", "", ""]
    sign, ratio = ("<=", f"{rival['time']:.2f}") if "time" in rival else (">=", _times(rival))
    goal = "" if rival["goal"] is None else _goal(f"{sign} {rival['goal']:g}", rival["met"])
    return [rival["name"], _figure(rival), ratio, goal]


def _times(rival: dict[str, Any]) -> str:
    return f"{rival['speedup']:.1f}x"


def _goal(text: str, met: bool) -> str:
    return f"{text} {'met' if met else 'MISSED'}"


def _figure(timing: dict[str, Any]) -> str:
    return f"{timing['median_ns']:.3g} ({timing['min_ns']:.3g})"


def _size(elements: int) -> str:
    return f"{elements / 2**20:.3g}M"


def _memory(row: dict[str, Any]) -> str:
    if "missing" in row:
        return f"  {row['call']:<18} {row['missing']}"
    return (
        f"  {row['call']:<18} {_size(row['elements'])} weights, {row['outputs_mb']:.0f} MB "
        f"returned, {row['extra_mb']:.1f} MB more, goal " + _goal(f"<= {row['goal']:g}", row["met"])
    )
