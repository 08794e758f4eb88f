"""Damaged files: every truncation, every single-bit flip, random damage, crafted nonsense."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden_files import MODEL, TENSOR, Content
from numpy.typing import NDArray

from noisycells.io import DecodeError, FormatError
from noisycells.storage import load

BOTH = pytest.mark.parametrize("golden", [MODEL, TENSOR], ids=lambda path: path.stem)


def assert_refused(path: Path) -> None:
    with pytest.raises((DecodeError, FormatError)):
        load(path)


@BOTH
def test_every_truncation(golden: Path, tmp_path: Path) -> None:
    raw, path = golden.read_bytes(), tmp_path / "cut"
    path.write_bytes(raw)
    for length in reversed(range(len(raw))):
        os.truncate(path, length)
        assert_refused(path)
    for extra in (b"\0", b" ", raw[-1:], raw):
        path.write_bytes(raw + extra)
        assert_refused(path)


@BOTH
def test_every_flipped_bit(golden: Path, tmp_path: Path) -> None:
    """One at a time, all bits of the file: length, header, padding, checksums, data."""
    raw, path = golden.read_bytes(), tmp_path / "flipped"
    path.write_bytes(raw)
    with open(path, "r+b", buffering=0) as file:
        for at, byte in enumerate(raw):
            for bit in range(8):
                os.pwrite(file.fileno(), bytes([byte ^ 1 << bit]), at)
                assert_refused(path)
            os.pwrite(file.fileno(), bytes([byte]), at)
    load(path)


def test_random_damage(tmp_path: Path) -> None:
    """Overwritten, deleted, inserted, exchanged and zeroed stretches; CRC-32 misses 1 in 4e9."""
    raw = MODEL.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(1000):
        a, b = sorted(int(n) for n in rng.integers(0, len(raw) + 1, 2))
        piece = rng.bytes(int(rng.integers(1, 40)))
        damaged = [
            raw[:a] + piece + raw[a + len(piece) :],
            raw[:a] + piece + raw[a:],
            raw[:a] + raw[b:],
            raw[:a] + bytes(b - a) + raw[b:],
            raw[:a] + raw[b:] + raw[a:b],
        ][int(rng.integers(5))]
        if damaged != raw:
            (tmp_path / "damaged").write_bytes(damaged)
            assert_refused(tmp_path / "damaged")


# ----------------------------------------------------------------- intact but inconsistent


def set_metadata(key: str, value: str | None) -> Callable[[Content], None]:
    def change(content: Content) -> None:
        content.writes_tables = False
        if value is None:
            del content.metadata[key]
        else:
            content.metadata[key] = value

    return change


def set_record(index: int, key: str, value: Any) -> Callable[[Content], None]:
    return lambda content: content.tensors[index].__setitem__(key, value)


def set_range(field: int, value: Any) -> Callable[[Content], None]:
    return lambda content: content.tensors[0]["ranges"][0].__setitem__(field, value)


def set_codec(key: str, value: Any) -> Callable[[Content], None]:
    return lambda content: content.codecs[0].__setitem__(key, value)


def set_array(key: str, change: Callable[[NDArray[Any]], Any] | None) -> Callable[[Content], None]:
    def apply(content: Content) -> None:
        array = content.arrays.pop(key)
        if change is not None:
            content.arrays[key] = np.asarray(change(array))

    return apply


def flip(bit: int) -> Callable[[NDArray[Any]], NDArray[Any]]:
    def change(array: NDArray[Any]) -> NDArray[Any]:
        array = array.copy()
        array[bit // 8] ^= 1 << bit % 8
        return array

    return change


NONSENSE = {
    "no-kind": set_metadata("kind", None),
    "unknown-kind": set_metadata("kind", "zoo"),
    "a-tensor-that-is-two": set_metadata("kind", "tensor"),
    "no-stream-version": set_metadata("stream_version", None),
    "stream-version-in-words": set_metadata("stream_version", "one"),
    "no-tensors": set_metadata("tensors", None),
    "tensors-not-json": set_metadata("tensors", "[{"),
    "tensors-not-a-list": set_metadata("tensors", "7"),
    "tensors-of-numbers": set_metadata("tensors", "[1]"),
    "no-codecs": set_metadata("codecs", "[]"),
    "deep-json": set_metadata("digital", "[" * 100_000),
    "digital-missing": set_metadata("digital", '["dense.bias", "steps", "more"]'),
    "digital-of-numbers": set_metadata("digital", "[3]"),
    "codec-out-of-range": set_record(0, "codec", 2),
    "codec-negative": set_record(0, "codec", -1),
    "codec-in-words": set_record(0, "codec", "first"),
    "other-shape": set_record(0, "shape", [4, 2, 3, 4]),
    "negative-shape": set_record(0, "shape", [-4, -2, 3, 3]),
    "huge-shape": set_record(1, "shape", [2**62, 2**62]),
    "huge-empty-shape": set_record(0, "shape", [0, 2**70]),
    "shape-of-words": set_record(0, "shape", ["four"]),
    "shape-none": set_record(0, "shape", None),
    "other-count": set_record(0, "stored", 45),
    "not-masked": set_record(0, "masked", False),
    "masked": set_record(1, "masked", True),
    "two-of-one-name": set_record(1, "name", "conv.weight"),
    "unknown-name": set_record(1, "name", "dense"),
    "name-a-list": set_record(1, "name", ["dense.weight"]),
    "no-ranges": set_record(0, "ranges", []),
    "one-range": lambda c: c.tensors[0]["ranges"].pop(),
    "range-too-short": lambda c: c.tensors[0]["ranges"][0].pop(),
    "range-nan": set_range(1, float("nan")),
    "range-words": set_range(2, "wide"),
    "no-cells": set_range(5, 0),
    "too-many-cells": set_range(5, 65_536),
    "half-a-cell": set_range(5, 1.5),
    "one-converter": set_range(6, None),
    "wider-converter": set_range(6, [-1.0, 0.1, 10.0, 16]),
    "converter-without-levels": set_range(6, [-1.0, 0.1, 10.0, 0]),
    "converter-with-huge-levels": set_range(6, [-1.0, 0.1, 10.0, 2**40]),
    "converter-too-short": set_range(6, [-1.0]),
    "channel-of-one-knot": lambda c: c.codecs[0]["channel"].update(x=[0.0], mean=[0.0], std=[0.0]),
    "channel-missing": lambda c: c.codecs[0].pop("channel"),
    "channel-a-number": set_codec("channel", 3),
    "scope-unknown": set_codec("scope", "universe"),
    "codec-without-option": lambda c: c.codecs[0].pop("literal"),
    "codec-of-more-ranges": set_codec("thresholds", [0.1, 0.2]),
    "levels-missing": set_array("conv.weight.levels", None),
    "side-missing": set_array("conv.weight.side", None),
    "mask-missing": set_array("conv.weight.mask", None),
    "levels-too-short": set_array("conv.weight.levels", lambda a: a[:-1]),
    "levels-too-long": set_array("conv.weight.levels", lambda a: np.append(a, a[:1])),
    "levels-two-dimensional": set_array("conv.weight.levels", lambda a: a[None]),
    "levels-of-another-type": set_array("dense.weight.levels", lambda a: a.astype(np.float64)),
    "floats-too-short": set_array("dense.weight.levels", lambda a: a[:-1]),
    "side-too-short": set_array("conv.weight.side", lambda a: a[:-1]),
    "side-of-another-type": set_array("conv.weight.side", lambda a: a.view(np.int8)),
    "side-of-another-range": set_array("conv.weight.side", flip(1)),
    "mask-too-long": set_array("conv.weight.mask", lambda a: np.append(a, a[:1])),
    "mask-of-other-weights": set_array("conv.weight.mask", flip(5)),
}


# What was accepted before every field was checked, or ended in another error, and its place.
WRONG_FIELDS = {
    "digital-null": (set_metadata("digital", "null"), r"digital: expected a list"),
    "digital-a-number": (set_metadata("digital", "3"), r"digital: expected a list"),
    "digital-a-string": (set_metadata("digital", '"steps"'), r"digital: expected a list"),
    "digital-twice": (
        set_metadata("digital", '["dense.bias","steps","phase","scale","steps"]'),
        r"digital\[4\]: expected a name that no other tensor has, got 'steps'",
    ),
    "digital-and-in-cells": (
        set_metadata("digital", '["dense.bias","steps","phase","scale","conv.weight"]'),
        r"digital\[4\]: expected a name that no other",
    ),
    "digital-dropped": (
        set_metadata("digital", '["dense.bias","steps","phase"]'),
        r"arrays: .* unknown: \['scale.digital'\]",
    ),
    "digital-deep": (set_metadata("digital", "[" * 100_000), r"digital: .* too deeply"),
    "tensors-deep": (set_metadata("tensors", '{"a":' * 100_000), r"tensors: .* too deeply"),
    "source-deep": (set_metadata("source_metadata", "[" * 100_000), r"source_metadata: .* too dee"),
    "source-a-list": (set_metadata("source_metadata", "[1]"), r"source_metadata: expected an obj"),
    "source-a-number": (set_metadata("source_metadata", '{"a":1}'), r"source_metadata\.a: .*stri"),
    "surrogate": (set_metadata("source_metadata", '{"a":"\\ud800"}'), r"source_metadata\.a: .*Uni"),
    "stream-version-long": (set_metadata("stream_version", "9" * 5000), r"stream_version: exp"),
    "stream-version-zero": (set_metadata("stream_version", "0"), r"stream_version: expected a pos"),
    "stream-version-spaced": (set_metadata("stream_version", " 1_0 "), r"stream_version: expecte"),
    "stream-version-arabic": (set_metadata("stream_version", "\u0661"), r"stream_version: exp"),
    "unknown-metadata": (set_metadata("more", "1"), r"metadata: expected the fields .*'more'"),
    "aliases-missing": (set_metadata("aliases", None), r"metadata: .*no 'aliases'"),
    "aliases-a-list": (set_metadata("aliases", "[]"), r"aliases: expected an object"),
    "alias-of-nothing": (set_metadata("aliases", '{"a":"b"}'), r"aliases: expected further names"),
    "alias-of-itself": (set_metadata("aliases", '{"steps":"steps"}'), r"aliases: expected further"),
    "alias-of-an-alias": (set_metadata("aliases", '{"a":"steps","b":"a"}'), r"aliases: expected f"),
    "alias-a-number": (set_metadata("aliases", '{"a":1}'), r"aliases\.a: expected a string, got 1"),
    "member-twice": (set_metadata("aliases", '{"a":"steps","a":"steps"}'), r"aliases: .*'a' again"),
    "shape-half": (set_record(0, "shape", [30.7, 41]), r"tensors\[0\]\.shape\[0\]: .* got 30.7"),
    "shape-true": (set_record(0, "shape", [True, 72]), r"tensors\[0\]\.shape\[0\]: .* got True"),
    "shape-string": (set_record(0, "shape", ["4", 18]), r"tensors\[0\]\.shape\[0\]: expected an i"),
    "shape-float": (set_record(0, "shape", [4.0, 2, 3, 3]), r"tensors\[0\]\.shape\[0\]: expected"),
    "shape-of-65": (set_record(0, "shape", [1] * 65), r"tensors\[0\]\.shape: expected the shape o"),
    "shape-huge": (set_record(0, "shape", [2**45, 4]), r"tensors\[0\]\.shape: expected at most"),
    "dtype-unknown": (set_record(0, "dtype", "I8"), r"tensors\[0\]\.dtype: expected 'F64' or"),
    "dtype-a-list": (set_record(0, "dtype", []), r"tensors\[0\]\.dtype: expected"),
    "stored-huge": (set_record(0, "stored", 10**30), r"tensors\[0\]\.stored: expected an integer"),
    "stored-true": (set_record(0, "stored", True), r"tensors\[0\]\.stored: expected an integer"),
    "stored-negative": (set_record(0, "stored", -1), r"tensors\[0\]\.stored: expected an integer"),
    "masked-one": (set_record(0, "masked", 1), r"tensors\[0\]\.masked: expected true or false"),
    "codec-true": (set_record(0, "codec", True), r"tensors\[0\]\.codec: expected an integer"),
    "name-twice": (
        lambda c: c.tensors.append(c.tensors[0]), r"tensors\[3\]: expected a name of its own"
    ),
    "unknown-in-record": (set_record(0, "more", 1), r"tensors\[0\]: expected the fields .*'more'"),
    "name-null": (set_record(0, "name", None), r"tensors\[0\]\.name: expected a string"),
    "record-null": (lambda c: c.tensors.__setitem__(0, None), r"tensors\[0\]: expected an object"),
    "inv-alpha-huge": (set_range(3, 1e300), r"ranges\[0\]\[3\]: expected a number from"),
    "inv-alpha-wrong": (set_range(3, -1.0), r"ranges\[0\]: expected inv_alpha = 1 / alpha"),
    "inv-alpha-large": (set_range(3, 3e38), r"ranges\[0\]: expected inv_alpha = 1 / alpha"),
    "shift-large": (set_range(4, 3e38), r"ranges\[0\]: expected inv_alpha = 1 / alpha and shift"),
    "alpha-negative": (set_range(1, -1.0), r"ranges\[0\]\[1\]: expected a number from 0"),
    "alpha-true": (set_range(1, True), r"ranges\[0\]\[1\]: expected a number, got True"),
    "threshold-huge-integer": (
        set_codec("thresholds", [10**400]),
        r"thresholds\[0\]: expected a number from",
    ),
    "beta-huge-integer": (set_range(2, 10**400), r"ranges\[0\]\[2\]: expected a number from"),
    "threshold-negative": (set_range(0, -1.0), r"ranges\[0\]\[0\]: expected a number from 0"),
    "thresholds-descend": (set_range(0, 1e3), r"ranges: expected thresholds in ascending order"),
    "cells-of-70000": (set_range(5, 70_000), r"ranges\[0\]\[5\]: expected an integer from 1"),
    "cells-of-another-codec": (set_range(5, 2), r"ranges\[0\]: expected the codec's 1 cells"),
    "cells-true": (set_range(5, True), r"ranges\[0\]\[5\]: expected an integer"),
    "converter-other": (
        set_range(6, [-1.0, 0.3, 1 / 0.3, 8]), r"ranges\[0\]: expected the write converter of"
    ),
    "converter-of-15": (set_range(6, [-1.0, 0.1, 10.0, 15]), r"ranges\[0\]: .* a power of two"),
    "converter-zero": (set_range(6, [0, 0, 0, 8]), r"ranges\[0\]: expected the write converter"),
    "converter-huge": (set_range(6, [1e39, 1, 1, 8]), r"ranges\[0\]\[6\]\[0\]: expected a number"),
    "codec-unknown-field": (set_codec("more", 1), r"codecs\[0\]: expected the fields .*'more'"),
    "codec-sign-one": (set_codec("sign_protection", 1), r"codecs\[0\]\.sign_protection: expected"),
    "codec-thresholds-fall": (set_codec("thresholds", [-0.8]), r"codecs\[0\]\.thresholds\[0\]: ex"),
    "codec-thresholds-word": (set_codec("thresholds", "some"), r"codecs\[0\]\.thresholds: expecte"),
    "codec-cells-float": (set_codec("cells", [1.0, 30]), r"codecs\[0\]\.cells\[0\]: expected an i"),
    "codec-cells-short": (set_codec("cells", [1]), r"codecs\[0\]: cells: expected one number, or"),
    "codec-mean-cells": (set_codec("mean_cells", 0.5), r"codecs\[0\]\.mean_cells: expected a numb"),
    "codec-ranges": (set_codec("ranges", 3), r"codecs\[0\]"),
    "codec-write-bits": (set_codec("write_bits", [3, 17]), r"codecs\[0\]\.write_bits\[1\]: expect"),
    "codec-literal": (set_codec("literal", 0), r"codecs\[0\]\.literal: expected true or false"),
    "codec-null": (lambda c: c.codecs.__setitem__(0, None), r"codecs\[0\]: expected an object"),
    "channel-strings": (
        lambda c: c.codecs[0]["channel"].update(x=["-1", "0", "1"]),
        r"codecs\[0\]\.channel\.x\[0\]: expected a number, got '-1'",
    ),
    "channel-true": (
        lambda c: c.codecs[0]["channel"]["mean"].__setitem__(4, True),
        r"codecs\[0\]\.channel\.mean\[4\]: expected a number, got True",
    ),
    "channel-overflow": (
        lambda c: c.codecs[0]["channel"]["std"].__setitem__(4, 1e39),
        r"codecs\[0\]\.channel\.std\[4\]: expected a number from",
    ),
    "channel-name": (
        lambda c: c.codecs[0]["channel"].update(name=None),
        r"codecs\[0\]\.channel\.name: expected a string",
    ),
    "channel-falling-x": (
        lambda c: c.codecs[0]["channel"]["x"].reverse(), r"codecs\[0\]\.channel: x: expected stri"
    ),
    "channel-write-bits": (
        lambda c: c.codecs[0]["channel"].update(write_bits=17), r"channel\.write_bits: expected"
    ),
    "channel-read-bits": (
        lambda c: c.codecs[0]["channel"].update(read_bits="4"), r"channel\.read_bits: expected"
    ),
    "channel-read-std": (
        lambda c: c.codecs[0]["channel"].update(read_std=[True]), r"channel\.read_std\[0\]: exp"
    ),
    "channel-d2d": (
        lambda c: c.codecs[0]["channel"].update(d2d_std=-1), r"channel\.d2d_std: expected"
    ),
    "channel-synthetic": (
        lambda c: c.codecs[0]["channel"].update(synthetic=1), r"channel\.synthetic: expected"
    ),
    "channel-source": (
        lambda c: c.codecs[0]["channel"].update(source=1), r"channel\.source: expected a string"
    ),
    "channel-more": (
        lambda c: c.codecs[0]["channel"].update(more=1), r"channel: expected the fields .*'more'"
    ),
    "channel-stuck": (
        lambda c: c.codecs[0]["channel"].update(stuck=[0.7, 0.7]), r"codecs\[0\]\.channel: stuck"
    ),
    "channel-branch": (
        lambda c: c.codecs[0]["channel"].update(branch=[0]), r"codecs\[0\]\.channel\.branch: exp"
    ),
    "goodness": (
        lambda c: c.codecs[0]["channel"].update(goodness={"z_mean": 1}), r"codecs\[0\]\.channel"
    ),
    "goodness-a-list": (
        lambda c: c.codecs[0]["channel"].update(goodness=[1]), r"channel\.goodness: expected an obj"
    ),
    "levels-nan": (
        set_array("dense.weight.levels", lambda a: np.where(np.arange(35) == 7, np.nan, a)),
        r"tensor 'dense.weight': levels: expected inputs from -1 to 1, got nan to nan",
    ),
    "levels-infinite": (
        set_array("dense.weight.levels", lambda a: np.where(np.arange(35) == 7, np.inf, a)),
        r"tensor 'dense.weight': levels: expected inputs from -1 to 1, got .* to inf",
    ),
    "levels-beyond": (
        set_array("dense.weight.levels", lambda a: np.where(np.arange(35) == 7, 1e30, a)),
        r"tensor 'dense.weight': levels: expected inputs from -1 to 1, got .* to 1e\+30",
    ),
    "array-too-many": (
        lambda c: c.arrays.update(more=np.zeros(3)), r"arrays: .* unknown: \['more'\]"
    ),
    "side-padding": (
        set_array("half.weight.side", flip(23)), r"tensor 'half.weight': side: expected zeros"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG_FIELDS)
def test_every_field_is_checked_and_named(name: str, tmp_path: Path) -> None:
    change, message = WRONG_FIELDS[name]
    content = Content(MODEL)
    change(content)
    content.write(tmp_path / "wrong")
    with pytest.raises(DecodeError, match=rf"wrong: .*{message}"):
        load(tmp_path / "wrong")


@pytest.mark.parametrize("name", NONSENSE)
def test_inconsistent_content(name: str, tmp_path: Path) -> None:
    content = Content(MODEL)
    NONSENSE[name](content)
    content.write(tmp_path / "nonsense")
    with pytest.raises(DecodeError, match=r"nonsense: "):
        load(tmp_path / "nonsense")


def test_unchanged_content_is_read(tmp_path: Path) -> None:
    """What the changes above start from is in order."""
    Content(MODEL).write(tmp_path / "m")
    again, model = load(tmp_path / "m"), load(MODEL)
    assert isinstance(again, dict) or again.cost == model.cost


def test_a_range_that_there_is_not(tmp_path: Path) -> None:
    """Three ranges take two bits, which can name a fourth."""
    content = Content(TENSOR)
    content.arrays["dense.side"][0] = 0xFF
    content.write(tmp_path / "m")
    with pytest.raises(DecodeError, match="expected ranges below 3, got 3"):
        load(tmp_path / "m")


def test_a_mask_with_bits_beyond_its_end(tmp_path: Path) -> None:
    content = Content(TENSOR)
    mask = np.packbits(np.ones(35, bool), bitorder="little")
    content.tensors[0]["masked"] = True
    content.arrays["dense.mask"] = mask
    content.write(tmp_path / "m")
    load(tmp_path / "m")
    content.arrays["dense.mask"] = np.append(mask[:-1], mask[-1] | 0x80)
    content.write(tmp_path / "m")
    with pytest.raises(DecodeError, match="mask"):
        load(tmp_path / "m")


def test_without_a_table_of_checksums(tmp_path: Path) -> None:
    content = Content(MODEL)
    for table in ("[", "7", '{"conv.weight.levels": "00000000"}'):
        content.metadata["crc32"] = table
        content.write(tmp_path / "m")
        with pytest.raises(DecodeError):
            load(tmp_path / "m")


def test_the_message_says_what_is_wrong(tmp_path: Path) -> None:
    raw = bytearray(MODEL.read_bytes())
    path = tmp_path / "m.safetensors"
    for at, message in (
        (len(raw) - 1, "tensor 'half.weight.side' does not match its checksum"),
        (400, "its header does not match its checksum"),
        (12, "not a file of noisycells, or its start is damaged"),
        (6, "cut off or damaged, as its header does not fit in its size"),
    ):
        damaged = bytearray(raw)
        damaged[at] ^= 4
        path.write_bytes(damaged)
        with pytest.raises((DecodeError, FormatError), match=f"m.safetensors: {message}"):
            load(path)
    path.write_bytes(raw[:-10])
    with pytest.raises(DecodeError, match=r"m\.safetensors: "):
        load(path)
