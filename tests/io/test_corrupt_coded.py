"""Files of the coded modes whose checksums fit: every field that is wrong is named."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden_files import CODED, LEVELS, ROWS, Content

from noisycells import io
from noisycells.io import DecodeError, Reader, Writer
from noisycells.storage import CodedModel, blocks, entropy, load, save
from noisycells.storage.files import count_tensors
from noisycells.storage.modes.sections import join, split

Change = Callable[[Content], object]


def text(key: str, value: str | None) -> Change:
    def change(content: Content) -> None:
        content.metadata.pop(key)
        if value is not None:
            content.metadata[key] = value

    return change


def tree(key: str, edit: Callable[[Any], Any]) -> Change:
    """`edit` changes the JSON of a field in place, or returns another one."""

    def change(content: Content) -> None:
        value = json.loads(content.metadata[key])
        found = edit(value)
        content.metadata[key] = json.dumps(value if found is None else found)

    return change


def codec(**values: Any) -> Change:
    return tree("codec", lambda c: c.update(values))


def channel(**values: Any) -> Change:
    return tree("codec", lambda c: c["channel"].update(values))


def tensor(**values: Any) -> Change:
    return tree("tensors", lambda t: t[0].update(values))


def array(key: str, edit: Callable[[Any], Any]) -> Change:
    return lambda content: content.arrays.update({key: edit(content.arrays[key])})


def flipped(at: int) -> Callable[[Any], Any]:
    return lambda a: np.where(np.arange(a.size) == at, a ^ 1, a)


BOTH: dict[str, tuple[Change, str]] = {
    "stream-version": (text("stream_version", "two"), r"stream_version: expected a positive"),
    "unknown": (lambda c: c.metadata.update(more="1"), r"metadata: expected the fields .*'more'"),
    **{
        f"no-{key}": (text(key, None), rf"metadata: expected the fields .*no '{key}'")
        for key in ("stream_version", "codec", "layout", "tensors", "digital", "aliases")
    },
    "codec-no-json": (text("codec", "{"), r"codec: expected JSON"),
    "codec-list": (text("codec", "[]"), r"codec: expected an object"),
    "codec-deep": (text("codec", "[" * 100_000), r"codec: .* too deeply"),
    "mode": (codec(mode="analog"), r"codec\.mode: expected 'coded' or 'levels', got 'analog'"),
    "mode-list": (codec(mode=["coded"]), r"codec\.mode: expected"),
    "no-learnt": (tree("codec", lambda c: c.pop("learnt") and None), r"codec: .*no 'learnt'"),
    "codec-more": (codec(more=1), r"codec: expected the fields .*'more'"),
    "channel-null": (codec(channel=None), r"codec\.channel: expected an object"),
    "channel-x": (channel(x=["-1", 0, 1]), r"codec\.channel\.x\[0\]: expected a number, got '-1'"),
    "channel-std": (channel(std=[1e39] * 5), r"codec\.channel\.std\[0\]: expected a number from"),
    "channel-name": (channel(name=3), r"codec\.channel\.name: expected a string"),
    "channel-d2d": (channel(d2d_std=-1), r"codec\.channel\.d2d_std: expected a number from 0"),
    "channel-fall": (tree("codec", lambda c: c["channel"]["x"].reverse()), r"codec\.channel: x: e"),
    "channel-stuck": (channel(stuck=[0.7, 0.7]), r"codec\.channel: stuck"),
    "learnt-list": (codec(learnt=[]), r"codec\.learnt: expected an object"),
    "noise-margin": (codec(noise_margin=0.5), r"codec: noise_margin: expected"),
    "noise-margin-text": (codec(noise_margin="1.1"), r"codec: noise_margin: expected a number"),
    "noise-margin-true": (codec(noise_margin=True), r"codec: noise_margin: expected a number"),
    "failure": (codec(failure=0.9), r"codec: failure: expected"),
    "reads-half": (codec(reads=1.5), r"codec: reads: expected an int"),
    "reads-many": (codec(reads=10**9), r"codec: reads: expected an int in"),
    "cell-levels": (codec(levels=3), r"codec: levels: expected one of"),
    "cell-levels-list": (codec(levels=[]), r"codec: levels: expected one of"),
    "inputs-three": (codec(inputs=[0, 0.5, 1]), r"codec: inputs: expected 2, 4 or 8"),
    "inputs-text": (codec(inputs=["a", "b"]), r"codec: could not convert"),
    "inputs-nan": (text("codec", '{"inputs":[NaN]}'), r"codec: expected finite numbers"),
    "inputs-nested": (codec(inputs=[[0, 1]]), r"codec: inputs: expected 2, 4 or 8"),
    "inputs-turned": (tree("codec", lambda c: c["inputs"].reverse()), r"codec: expected the"),
    "layout-null": (text("layout", "null"), r"layout: expected a list of 5"),
    "layout-short": (tree("layout", lambda v: v[:4]), r"layout: expected a list of 5"),
    "layout-text": (tree("layout", lambda v: ["1", *v[1:]]), r"layout\[0\]: expected an integer"),
    "layout-half": (tree("layout", lambda v: [*v[:3], 4.5, v[4]]), r"layout\[3\]: expected an int"),
    "layout-true": (tree("layout", lambda v: [v[0], True, *v[2:]]), r"layout\[1\]: expected an in"),
    "layout-blocks": (tree("layout", lambda v: [v[0], 0, *v[2:]]), r"layout\[1\]: expected an int"),
    "layout-rows": (tree("layout", lambda v: [*v[:2], 64, *v[3:]]), r"layout\[2\]: expected an i"),
    "layout-lanes": (tree("layout", lambda v: [*v[:4], v[4] + 1]), r"layout: expected a code of"),
    "layout-size": (tree("layout", lambda v: [9 * v[0], *v[1:]]), r"layout: expected a code of"),
    "layout-less": (tree("layout", lambda v: [v[0] - 1, *v[1:]]), r"layout: expected a code of"),
    "layout-huge": (text("layout", f"[{1 << 40},1,32,{32 * 256},65536]"), r"layout: expected a c"),
    "tensors-null": (text("tensors", "null"), r"tensors: expected a list"),
    "tensors-twice": (tree("tensors", lambda t: [*t, t[0]]), r"tensors\[\d\]: expected a name of"),
    "tensors-none": (text("tensors", "[]"), r"array 'plain'|aliases: expected further"),
    "tensors-more": (
        tree("tensors", lambda t: [*t, dict(t[0], name="more", shape=[3], stored=3)]),
        r"tensor 'more': sections: expected another one, got the end",
    ),
    "record-null": (tree("tensors", lambda t: [None]), r"tensors\[0\]: expected an object"),
    "record-more": (tensor(more=1), r"tensors\[0\]: expected the fields .*'more'"),
    "name": (tensor(name=7), r"tensors\[0\]\.name: expected a string"),
    "dtype": (tensor(dtype="I8"), r"tensors\[0\]\.dtype: expected"),
    "shape-half": (tensor(shape=[30.7, 41]), r"tensors\[0\]\.shape\[0\]: .* got 30.7"),
    "shape-true": (tensor(shape=[True, 30]), r"tensors\[0\]\.shape\[0\]: .* got True"),
    "shape-negative": (tensor(shape=[-4, -2, 3, 3]), r"tensors\[0\]\.shape\[0\]: expected an int"),
    "shape-65": (tensor(shape=[1] * 65), r"tensors\[0\]\.shape: expected the shape of"),
    "shape-huge": (tensor(shape=[2**45, 4]), r"tensors\[0\]\.shape: expected at most"),
    "stored-more": (tensor(stored=10**6), r"tensors\[0\]\.stored: expected an integer from 0"),
    "stored-true": (tensor(stored=True), r"tensors\[0\]\.stored: expected an integer"),
    "digital-null": (text("digital", "null"), r"digital: expected a list"),
    "digital-more": (text("digital", '["none"]'), r"arrays: expected .*'none.digital'"),
    "digital-twice": (text("digital", '["a","a"]'), r"digital\[1\]: expected a name that no other"),
    "alias-of-none": (text("aliases", '{"a":"b"}'), r"aliases: expected further names of tensors"),
    "aliases-list": (text("aliases", "[]"), r"aliases: expected an object"),
    "cells-gone": (lambda c: c.arrays.pop("cells") is None, r"arrays: expected .*'cells'"),
    "cells-long": (array("cells", lambda a: np.append(a, a[:1])), r"array 'cells': expected U8 of"),
    "cells-type": (array("cells", lambda a: a.view(np.int8)), r"array 'cells': expected U8 of"),
    "cells-first": (array("cells", flipped(0)), r"cells: expected words of the code"),
    "cells-twentieth": (array("cells", flipped(20)), r"cells: expected words of the code"),
    "more": (lambda c: c.arrays.update(more=np.zeros(3)), r"arrays: expected .*'more'"),
    "plain-long": (
        array("plain", lambda a: np.append(a, np.uint8(0))), r"array 'plain': expected U8 of"
    ),
}  # fmt: skip

OF_CODED: dict[str, tuple[Change, str]] = {
    "step": (codec(step=0), r"codec: step: expected"),
    "step-null": (codec(step=None), r"codec: step: expected a number, got None"),
    "levels-of-another": (codec(radices=[4]), r"codec: expected the fields .*'radices'"),
    "of-another-mode": (codec(mode="levels"), r"codec: expected the fields .*no 'radices'"),
    "shape-smaller": (tensor(shape=[1, 2], stored=2), r"tensor 'conv.weight': code: expected"),
    "digital-of-no-dtype": (
        lambda c: c.arrays.pop("steps.digital") is None, r"arrays: expected .*'steps.digital'"
    ),
}  # fmt: skip

OF_LEVELS: dict[str, tuple[Change, str]] = {
    "radices": (codec(radices=[1]), r"codec: radices: expected an int in"),
    "radices-none": (codec(radices=[]), r"codec: radices: expected at least one number"),
    "radices-text": (codec(radices="23"), r"codec: radices: expected a sequence of numbers"),
    "radices-number": (codec(radices=3), r"codec: radices: expected a sequence of numbers"),
    "radices-object": (codec(radices={"2": 3}), r"codec: radices '2': expected a sequence"),
    "radices-other": (codec(radices=[2]), r"array 'plain': expected U8 of shape \(35,\)"),
    "block": (codec(block=0), r"codec: block: expected an int"),
    "plain-short": (array("plain", lambda a: a[:-1]), r"array 'plain': expected U8 of"),
    "plain-level": (
        array("plain", lambda a: a + 9),
        r"plain: expected levels 0 to 1 of digit 0, got",
    ),
    "plain-digit": (
        array("plain", lambda a: a * 0),
        r"plain: expected levels 2 to 4 of digit 1, got 0 to 0",
    ),
    "stored-less": (tensor(stored=34), r"array 'plain': expected U8 of shape \(68,\)"),
    "shape-larger": (tensor(shape=[5, 8]), r"tensor 'dense.weight': (sections|code): expected"),
}


def refused(change: Change, message: str, golden: Path, path: Path) -> None:
    content = Content(golden)
    content.writes_tables = False
    content.write(path)
    load(path)
    change(content)
    content.write(path)
    with pytest.raises(DecodeError, match=rf"wrong: .*{message}"):
        load(path)


@pytest.mark.parametrize("golden", [CODED, LEVELS], ids=lambda path: path.stem)
@pytest.mark.parametrize("name", BOTH)
def test_fields_of_both_modes(golden: Path, name: str, tmp_path: Path) -> None:
    refused(*BOTH[name], golden, tmp_path / "wrong")


@pytest.mark.parametrize("name", OF_CODED)
def test_fields_of_coded(name: str, tmp_path: Path) -> None:
    refused(*OF_CODED[name], CODED, tmp_path / "wrong")


@pytest.mark.parametrize("name", OF_LEVELS)
def test_fields_of_levels(name: str, tmp_path: Path) -> None:
    refused(*OF_LEVELS[name], LEVELS, tmp_path / "wrong")


def other_content(golden: Path, change: Callable[[list[bytes]], list[bytes]]) -> CodedModel:
    """A model in whose cells other sections are, of the same length together."""
    model = load(golden)
    assert isinstance(model, CodedModel)
    layout, constellation = model.layout, model.codec.constellation
    sections = list(split(blocks.content(model.cells, layout, constellation)))
    content = join(change(sections))
    assert len(content) <= layout.size
    layout = layout._replace(size=len(content), information=0)
    layout = layout._replace(information=-(-layout.used // layout.lanes))
    return replace(model, layout=layout, cells=blocks.write(content, layout, constellation))


def first(value: float) -> Callable[[list[bytes]], list[bytes]]:
    return lambda sections: [struct.pack("<f", value), *sections[1:]]


@pytest.mark.parametrize(
    ("golden", "change", "message"),
    [
        (CODED, first(float("nan")), "tensor 'conv.weight': step: expected a finite number, got"),
        (CODED, first(float("inf")), "tensor 'conv.weight': step: expected a finite number, got"),
        (CODED, first(-1.0), "tensor 'conv.weight': (step|code|sections): expected"),
        (ROWS, first(0.5), "tensor 'fc.weight': sections: expected one of 4 bytes, got"),
        (ROWS, lambda s: [s[0], *s[2:]], "tensor 'table': (step|code|sections): expected"),
        (
            ROWS, lambda s: [s[0], entropy.encode(np.full((12, 1), 81, np.int32)), s[2][:-8]],
            "tensor 'table': step: expected at most 80 half octaves for each row, got 81",
        ),
        (ROWS, first(-3e38), "tensor 'table': expected finite weights"),
        (CODED, first(3e38), "tensor 'conv.weight': expected finite weights"),
        (CODED, lambda s: [b"abc", *s[1:]], "tensor 'conv.weight': sections: .* 4 bytes, got 3"),
        (CODED, lambda s: s[:-1], "tensor 'dense.bias': sections: expected another one"),
        (CODED, lambda s: [*s[:-1], b""], ""),
        (CODED, lambda s: [s[0], s[1][:-2] + b"\1\1", *s[2:]], ""),
        (LEVELS, first(float("nan")), "tensor 'dense.weight': scale: expected a finite number"),
        (LEVELS, first(-2.0), "tensor 'dense.weight': scale: expected a finite number >= 0"),
        (LEVELS, first(3e38), "tensor 'dense.weight': expected finite weights"),
        (LEVELS, lambda s: s[:1], "tensor 'dense.weight': sections: expected another one"),
        (LEVELS, lambda s: [s[0][:3], s[1]], "tensor 'dense.weight': sections: .* 4 bytes, got 3"),
    ],
)  # fmt: skip
def test_what_is_in_the_cells(golden: Path, change: Any, message: str, tmp_path: Path) -> None:
    """An empty message: nothing that could be told from other weights."""
    save(tmp_path / "wrong", other_content(golden, change))
    if not message:
        load(tmp_path / "wrong")
        return
    with pytest.raises(DecodeError, match=rf"wrong: {message}"):
        load(tmp_path / "wrong")


def test_more_sections_than_tensors(tmp_path: Path) -> None:
    model = other_content(CODED, lambda sections: sections)
    kept = {name: model.tensors[name] for name in list(model)[:-1]}
    save(tmp_path / "wrong", replace(model, tensors=kept))
    with pytest.raises(DecodeError, match="sections: expected those of the tensors, got more"):
        load(tmp_path / "wrong")


def test_a_mask_of_other_weights(tmp_path: Path) -> None:
    from noisycells.storage import Levels

    weights = np.random.default_rng(0).standard_normal((6, 7)).astype(np.float32)
    stored = Levels("synthetic_pcm").encode({"w": weights}, {"w": weights > 0})
    entry = stored.tensors["w"]
    save(tmp_path / "right", stored)
    load(tmp_path / "right")
    wrong = replace(entry, stored=entry.stored - 1)
    save(tmp_path / "wrong", replace(stored, tensors={"w": wrong}, plain=stored.plain[:-1]))
    message = rf"wrong: tensor 'w': mask: expected {entry.stored - 1} weights, got {entry.stored}"
    with pytest.raises(DecodeError, match=message):
        load(tmp_path / "wrong")


@pytest.mark.parametrize("golden", [CODED, LEVELS, ROWS], ids=lambda path: path.stem)
def test_what_a_newer_minor_version_adds_is_ignored(
    golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = Content(golden)
    monkeypatch.setattr(io.files, "MINOR", 12)
    with Writer(tmp_path / "newer") as writer:
        for key, values in content.arrays.items():
            writer.add(key, values, "BF16" if key == "scale.digital" else None)
        writer.add("more", np.zeros(3, np.float32))
        writer.metadata = content.metadata | {"more": "1"}
    newer, model = load(tmp_path / "newer"), load(golden)
    assert isinstance(newer, CodedModel) and isinstance(model, CodedModel)
    found, known = newer.read(1), model.read(1)
    assert found.keys() == known.keys() and all((found[n] == known[n]).all() for n in known)


def test_tensors_are_counted_without_their_content(tmp_path: Path) -> None:
    assert count_tensors(CODED) == 5 and count_tensors(LEVELS) == 1
    content = Content(CODED)
    content.writes_tables = False
    text("layout", "[]")(content)
    content.write(tmp_path / "wrong")
    with pytest.raises(DecodeError, match="wrong: layout: expected a list of 5"):
        count_tensors(tmp_path / "wrong")
    with Reader(CODED) as reader:
        assert not reader.newer
