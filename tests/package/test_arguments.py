"""Arguments are refused in one place and in one sentence; what once slipped through is refused."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import noisycells as nc
from noisycells import _arguments, _types, intervals

PACKAGE = Path(nc.__file__).parent


# ----------------------------------------------------------------- one place


def sentences(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Lines and texts, docstrings apart, that say what was expected."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            node.value.value = None  # a docstring
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if re.search("(^|[:;] )expected ", node.value):
                yield node.lineno, node.value


def test_the_sentence_is_worded_in_one_place() -> None:
    """No module but ``_arguments`` has a text that says "expected", for whatever error."""
    found = [
        f"{path}:{line}: {text}"
        for path in PACKAGE.rglob("*.py")
        if path.name != "_arguments.py"
        for line, text in sentences(ast.parse(path.read_text()))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "bad",
    [
        'raise ValueError(f"{name}: expected one, got {other}")',
        'wrong.append(f"{name}: expected one, got {other}")',
        'raise FormatError("expected one, got none")',
    ],
)
def test_the_search_for_sentences_can_fail(bad: str) -> None:
    assert len(list(sentences(ast.parse(bad)))) == 1
    assert not list(sentences(ast.parse(repr(bad))))


ONCE = {"F32", "F64", "I32", "I64", "U8", "U32", "MAX_CELLS", "MAX_INDEX"}


def test_types_and_limits_are_defined_once() -> None:
    """F64 and the like, 65,535 and 2^46 are assigned in ``_types`` alone."""
    for path in PACKAGE.rglob("*.py"):
        if path.name == "_types.py" or "studies" in path.parts:
            continue
        for node in ast.parse(path.read_text()).body:
            targets = node.targets if isinstance(node, ast.Assign) else []
            names = {t.id for t in targets if isinstance(t, ast.Name)}
            assert not names & ONCE, path
    assert (_types.MAX_CELLS, _types.MAX_INDEX, _types.MAX_SEED) == (65_535, 2**46, 2**64 - 1)


# ----------------------------------------------------------------- the checkers


@pytest.mark.parametrize(
    ("bounds", "inside", "outside", "said"),
    [
        ({}, (0, -1e300), (math.inf, math.nan), "a finite number"),
        ({"least": 0}, (0, 5), (-1e-9, math.inf), "a finite number >= 0"),
        ({"above": 0}, (1e-9,), (0, -1), "a finite number > 0"),
        ({"most": 3}, (3, -7), (3.1, -math.inf), "a finite number <= 3"),
        ({"below": 3}, (2.9,), (3,), "a finite number < 3"),
        ({"least": 0, "most": 1}, (0, 1), (-0.1, 1.1), "a number in [0, 1]"),
        ({"least": 0, "below": 1}, (0, 0.9), (1, -0.1), "a number in [0, 1)"),
        ({"above": 0, "most": 1}, (0.1, 1), (0, 1.1), "a number in (0, 1]"),
        ({"above": 0, "below": 1}, (0.1,), (0, 1), "a number in (0, 1)"),
    ],
)
def test_bounds_of_numbers(bounds: dict[str, float], inside: Any, outside: Any, said: str) -> None:
    for value in inside:
        assert _arguments.number("x", value, **bounds) == value
    for value in outside:
        with pytest.raises(ValueError, match=f"^x: expected {re.escape(said)}, got "):
            _arguments.number("x", value, **bounds)


def test_seeds() -> None:
    assert _arguments.seed("seed", np.uint64(2**64 - 1)) == 2**64 - 1
    for wrong in (1.0, True, None, "1"):
        with pytest.raises(TypeError, match=r"^chip: expected an int in \[0, 2\*\*64\), got "):
            _arguments.seed("chip", wrong)
    for wrong in (-1, 2**64):
        with pytest.raises(ValueError, match=r"^chip: expected an int in \[0, 2\*\*64\), got "):
            _arguments.seed("chip", wrong)


def test_names_and_near_ones() -> None:
    _arguments.names("mask", ["a"], ["a", "b"], "names of weights")
    with pytest.raises(
        ValueError, match=r"^mask: expected names of weights \(alpha, beta\), got 'al"
    ):
        _arguments.names("mask", ["alpa"], ["alpha", "beta"], "names of weights")
    with pytest.raises(TypeError, match=r"^mask: expected a string, got 3"):
        _arguments.names("mask", [3], ["a"], "names of weights")  # type: ignore[list-item]


def test_errors_of_types_show_the_value_if_it_is_short() -> None:
    assert str(_arguments.wrong_type("x", "an int", 1.5)) == "x: expected an int, got 1.5"
    long = str(_arguments.wrong_type("x", "an int", list(range(99))))
    assert long == "x: expected an int, got list"


# ----------------------------------------------------------------- what slipped through

W = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
X = np.ones((2, 4), np.float32)
PCM = nc.devices.pcm_joshi2020()
CELL = nc.Channel.gaussian(0.1)
CODEC = nc.Codec(CELL)
CODED = nc.storage.Coded("synthetic_pcm")
ANALOG = nc.storage.Analog("synthetic_pcm")
MASKED = np.ma.masked_array(W, mask=W > 0)

FLAGS: dict[str, Callable[[Any], Any]] = {
    "sign_protection": lambda v: nc.Codec(CELL, sign_protection=v),
    "adaptive_mapping": lambda v: nc.Codec(CELL, adaptive_mapping=v),
    "collapse": lambda v: CELL.sample([0.0], 1, collapse=v),
    "side_errors": lambda v: CODEC.encode(W).read(1, side_errors=v),
    "synthetic": lambda v: nc.Channel([0, 1], [0, 1], 0.1, synthetic=v),
    "clip": lambda v: CELL.inverse([0.0], clip=v),
    "extrapolate": lambda v: nc.Crossbar(W, PCM).program(1).at(60, extrapolate=v),
    "extrapolate ": lambda v: PCM.program([5.0], 1, extrapolate=v),
    "extrapolate  ": lambda v: nc.devices.pcm_joshi2020(extrapolate=v),
    "robust": lambda v: nc.Channel.fit([0, 1], [0, 1], robust=v),
}


@pytest.mark.parametrize("name", FLAGS)
@pytest.mark.parametrize("value", ["False", 1, 0, None])
def test_flags_are_bools(name: str, value: Any) -> None:
    if name == "collapse" and value is None:
        return  # stands for "where it is exact"
    with pytest.raises(TypeError, match=f"^{name.strip()}: expected True or False, got "):
        FLAGS[name](value)


MASKS: dict[str, Callable[[], Any]] = {
    "weights 'w'": lambda: CODEC.encode(MASKED, name="w"),
    "mask 'w'": lambda: CODEC.encode(W, np.ma.masked_array(W > 0, mask=W > 0), name="w"),
    "sensitivity 'w'": lambda: CODEC.encode(W, None, MASKED, name="w"),
    "weight": lambda: nc.Crossbar(MASKED, PCM),
    "x": lambda: nc.Crossbar(W, PCM).program(1).matmul(MASKED, 1),
    "x ": lambda: CELL.sample(MASKED, 1),
    "y": lambda: CELL.inverse(MASKED),
    "cells": lambda: CELL.sample(W, 1, np.ma.masked_array(np.ones((3, 4), int), mask=W > 0)),
    "target": lambda: PCM.program(MASKED, 1),
    "codes": lambda: nc.pack_bits(np.ma.masked_array([1, 2], mask=[0, 1]), 3),
    "counter": lambda: nc.random.philox4x32(np.ma.masked_array([1, 2, 3, 4]), [1, 2]),
    "x  ": lambda: nc.Channel.fit(MASKED.ravel(), W.ravel()),
    "digital 'd'": lambda: CODEC.encode({"w": W}, digital={"d": MASKED}),
    "digital 'd' ": lambda: CODED.encode({"w": W}, digital={"d": MASKED}),
    "moments": lambda: CODED.encode({"w": W}, moments={"w": np.ma.masked_array(np.eye(4))}),
    "array": lambda: nc.random.content(MASKED),
    "bias": lambda: nc.storage.analog.bias_weight(MASKED, np.eye(4)),
}


@pytest.mark.parametrize("name", MASKS)
def test_masked_arrays_are_refused(name: str) -> None:
    """What is masked would be read as if it were not."""
    said = f"^{name.strip()}: expected an array without a mask, got a masked array"
    with pytest.raises(TypeError, match=said):
        MASKS[name]()


def test_results_are_not_written_to_masked_arrays() -> None:
    out = np.ma.masked_array(np.zeros((3, 4), np.float32), mask=True)
    for call in (
        lambda: CODEC.encode(W).read(1, out=out),
        lambda: CODEC.transmit(W, 1, out=out),
        lambda: CELL.sample(W, 1, out=out),
        lambda: nc.random.standard_normal((3, 4), 1, out=out),
    ):
        with pytest.raises(ValueError, match=r"^out: expected .*, got MaskedArray"):
            call()


SPREADS: dict[str, Callable[[float], Any]] = {
    "std": lambda v: nc.devices.gaussian(v),
    "proportional": lambda v: nc.devices.gaussian(1.0, v),
    "read_std": lambda v: nc.devices.gaussian(1.0, read_std=v),
    "read_std ": lambda v: nc.devices.rram_cmo(read_std=v),
    "read_std  ": lambda v: nc.devices.rram_milo2021(read_std=v),
    "read_std   ": lambda v: nc.devices.rram_wan2022(read_std=v),
    "read_std    ": lambda v: nc.devices.fitted([0, 1], [[0, 1]], [[0.1, 0.1]], read_std=v),
    "d2d_std": lambda v: nc.Channel.gaussian(0.1, d2d_std=v),
    "std ": lambda v: nc.Channel.gaussian(v),
    "reset": lambda v: nc.devices.gaussian(1.0, reset=(1.0, v)),
    "output_noise": lambda v: nc.CrossbarSpec(output_noise=v),
}


@pytest.mark.parametrize("name", SPREADS)
def test_negative_spreads_are_refused(name: str) -> None:
    for value in (-1, -0.5, -(2**70)):
        with pytest.raises(
            ValueError, match=f"^{name.strip()}: expected a (finite )?number (>= 0|in .0, .*), "
        ):
            SPREADS[name](value)


OFFSETS: dict[str, Callable[[Any], Any]] = {
    "standard_normal": lambda v: nc.random.standard_normal(3, 1, offset=v),
    "sample": lambda v: CELL.sample([0.0], 1, offset=v),
    "read": lambda v: PCM.read([5.0], 1, offset=v),
}


@pytest.mark.parametrize("name", OFFSETS)
def test_offsets_are_whole(name: str) -> None:
    for wrong in (np.float16(2.7), np.float32(1.9), 2.0, "2", True):
        with pytest.raises(TypeError, match=r"^offset: expected an int, got "):
            OFFSETS[name](wrong)
    with pytest.raises(ValueError, match=r"^offset: expected offset \+ size <= 2\*\*46, got "):
        OFFSETS[name](2**46)


COUNTS: dict[str, Callable[[Any], Any]] = {
    "batch": lambda v: nc.Crossbar(W, PCM).counters(v),
    "degrees": lambda v: intervals.student_t(0.95, v),
    "count": lambda v: nc.unpack_bits(np.zeros(1, np.uint8), 3, v),
    "width": lambda v: nc.pack_bits([1], v),
    "rounds": lambda v: nc.random.philox4x32([1, 2, 3, 4], [1, 2], v),
    "cells": lambda v: nc.Codec(CELL, cells=v),
    "num_threads": lambda v: CELL.sample([0.0], 1, num_threads=v),
    "rows": lambda v: nc.CrossbarSpec(rows=v),
    "reads": lambda v: nc.storage.Analog("synthetic_pcm", reads=v),
    "reads ": lambda v: ANALOG.encode({"w": W}).program(0).read(1, v),
    "pulses": lambda v: nc.storage.Analog("synthetic_pcm", pulses=v),
    "verify_reads": lambda v: nc.storage.Analog("synthetic_pcm", verify_reads=v),
    "reads  ": lambda v: nc.storage.Coded("synthetic_pcm", reads=v),
}


@pytest.mark.parametrize("name", COUNTS)
def test_counts_have_bounds(name: str) -> None:
    """2**63 repeats would never end, and -1 of anything is none."""
    for wrong in (2**63, 10**30, -1):
        with pytest.raises(
            ValueError, match=rf"^{name.strip()}: expected an int in \[\d, \d+\], got "
        ):
            COUNTS[name](wrong)
    for wrong in (2.5, math.nan, "3", True):
        with pytest.raises(TypeError, match=f"^{name.strip()}: expected an int, got "):
            COUNTS[name](wrong)


def test_seeds_and_names_of_streams() -> None:
    for wrong in (0.5, 2**64, -1):
        with pytest.raises(
            (TypeError, ValueError), match=r"^(seed|data): expected an int in \[0, "
        ):
            nc.random.fold_in(wrong, 1)  # type: ignore[arg-type]
        with pytest.raises(
            (TypeError, ValueError), match=r"^(seed|data): expected an int in \[0, "
        ):
            nc.random.fold_in(1, wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^names: expected a string, got 1"):
        nc.random.stream(1)  # type: ignore[arg-type]


MAPPINGS: dict[str, Callable[[Any], Any]] = {
    "weights": lambda v: ANALOG.encode(v),
    "moments": lambda v: ANALOG.encode({"w": W}, moments=v),
    "weights ": lambda v: CODED.encode(v),
    "mask": lambda v: CODED.encode({"w": W}, v),
    "sensitivity": lambda v: CODED.encode({"w": W}, sensitivity=v),
    "moments ": lambda v: CODED.encode({"w": W}, moments=v),
    "overrides": lambda v: CODED.encode({"w": W}, overrides=v),
    "digital": lambda v: CODED.encode({"w": W}, digital=v),
    "mask ": lambda v: CODEC.encode({"w": W}, v),
    "overrides ": lambda v: CODEC.encode({"w": W}, overrides=v),
    "digital ": lambda v: CODEC.encode({"w": W}, digital=v),
}


@pytest.mark.parametrize("name", MAPPINGS)
@pytest.mark.parametrize("value", [W, [W], 3], ids=["array", "list", "number"])
def test_mappings_are_mappings(name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=f"^{name.strip()}: expected a mapping"):
        MAPPINGS[name](value)
