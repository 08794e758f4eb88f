"""The README and the pages: Python blocks run, outputs agree, commands and links exist.

Blocks of a page run in order, with one set of names a page. A block marked ``text`` right behind
a Python block is its output; marked ``text within N``, numbers may be off by N, and nothing else.
The code of docs/contributing.md is run by test_recipes.py.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
if not (ROOT / "README.md").exists():
    pytest.skip("the pages are in the source tree", allow_module_level=True)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.M | re.S)
NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?")
RUN = [p for p in PAGES if p.name != "contributing.md" and "```python" in p.read_text()]


def blocks(page: Path) -> list[tuple[str, str, bool]]:
    """Kind, text, and whether the block stands right behind the one before."""
    text, found, end = page.read_text(encoding="utf-8"), [], -1
    for match in BLOCK.finditer(text):
        behind = end >= 0 and not text[end : match.start()].strip()
        found.append((match[1], match[2], behind))
        end = match.end()
    return found


def agree(printed: str, shown: str, within: float) -> bool:
    if NUMBER.sub("#", printed) != NUMBER.sub("#", shown):
        return False
    pairs = zip(NUMBER.findall(printed), NUMBER.findall(shown), strict=True)
    return all(abs(float(a) - float(b)) <= within for a, b in pairs)


def test_agree_can_fail() -> None:
    assert agree("a 1.0 ± 2", "a 1.5 ± 2", 0.5)
    assert not agree("a 1.0", "a 1.5", 0)
    assert not agree("a 1.0", "b 1.0", 9)


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.name)
def test_python_blocks(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "noisycells.torch" in page.read_text():
        pytest.importorskip("torch")
        pytest.importorskip("sklearn")  # has the digits
    if "from transformers" in page.read_text():
        pytest.importorskip("transformers")
    monkeypatch.chdir(tmp_path)
    measurements()
    names: dict[str, Any] = {"__name__": page.stem}
    printed = ""
    compared = 0
    for kind, text, behind in blocks(page):
        if kind == "python":
            output = io.StringIO()
            with contextlib.redirect_stdout(output):
                exec(compile(text, f"{page.name}: {text.splitlines()[0]}", "exec"), names)
            printed = output.getvalue()
        elif kind.startswith("text") and behind and printed:
            within = float(kind.split()[2]) if kind != "text" else 0.0
            assert agree(printed, text, within), printed
            printed, compared = "", compared + 1
        assert kind != "", "say what a block is: python, sh, text"
        if kind != "python":
            assert not (printed and not behind), f"output not shown: {printed}"
    assert compared


def measurements() -> None:
    """cells.csv, the file of a user: a device that loses a fifth in a day."""
    rng = np.random.default_rng(0)
    target = np.repeat(np.linspace(0.5, 20, 20), 50)
    rows = [
        np.stack(
            [target, left * target + rng.normal(0, 0.3, target.shape), np.full_like(target, t)]
        )
        for t, left in ((1.0, 1.0), (3600.0, 0.9), (86_400.0, 0.8))
    ]
    table = np.concatenate(rows, axis=1).T
    np.savetxt("cells.csv", table, delimiter=",", header="target,measured,time", comments="")


def commands() -> list[tuple[str, str]]:
    """Commands of the pages: lines of shell blocks and code in the text."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        lines = [
            line for kind, body, _ in blocks(page) if kind == "sh" for line in body.split("\n")
        ]
        code = re.findall(r"`([^`]+)`", BLOCK.sub("", text))
        for line in (*lines, *(" ".join(c.split()) for c in code)):
            if match := re.search(r"(?<![\w./'-])(?:\S*/)?noisycells ([a-z].*)", line):
                found.append((page.name, match[1]))
    return found


def test_commands_have_the_options_shown() -> None:
    click = pytest.importorskip("click")
    from noisycells.cli import main

    assert len(commands()) > 10
    for page, line in commands():
        if "{" in line:  # the JSON of a sweep
            continue
        command: Any = main
        context = click.Context(main)
        for word in shlex.split(line):
            if isinstance(command, click.Group) and not word.startswith("-"):
                inner = command.get_command(context, word)
                if inner is None and word.isupper():
                    break  # noisycells study NAME
                assert inner is not None, f"{page}: no command {word!r} in {line!r}"
                command = inner
            elif word.startswith("-") and not re.fullmatch(r"-[\d.]+", word):
                options = {o for p in command.params for o in (*p.opts, *p.secondary_opts)}
                options.add("--help")
                assert word.partition("=")[0] in options, f"{page}: no option {word} in {line!r}"


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda page: page.name)
def test_links(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    heads = {
        re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-")
        for head in re.findall(r"^#+ (.*)$", text, re.M)
    }
    for target in re.findall(r"\]\(([^)\s]+)\)", BLOCK.sub("", text)):
        if target.startswith("#"):
            assert target[1:] in heads, target
        elif "://" not in target:
            assert (page.parent / target.partition("#")[0]).exists(), target


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 130
