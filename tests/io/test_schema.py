"""Files whose checksums fit but whose content was changed at random: a named error, or a model.

The changes go through the whole tree of JSON values, so every field is met by every kind of
nonsense; what is read all the same has to be a model that can be used and stored again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden_files import CODED, LEVELS, MODEL, TENSOR, Content
from hypothesis import given
from hypothesis import strategies as st
from json_trees import MANY, VALUES, changed

from noisycells.io import DecodeError, FormatError, parse
from noisycells.storage import CodedModel, StoredModel, load, save

OLD = MODEL.with_name("golden_v1_model.safetensors")
JSON = ("codecs", "codec", "layout", "tensors", "digital", "aliases")


def check(path: Path) -> None:
    """Read the file: one of the two errors, which names it, or a model in order."""
    try:
        found = load(path)
    except (DecodeError, FormatError) as error:
        assert str(path) in str(error) and len(str(error)) < 1000
        return
    try:
        read = found.read(1, 2)
    except DecodeError:  # cells that are too noisy for their code
        assert isinstance(found, CodedModel)
        return
    arrays = read if isinstance(read, dict) else {found.name: read}
    for values in arrays.values():
        assert values.dtype == np.float32 and np.isfinite(values).all()
    assert found.cost.stored_weights >= 0 and repr(found)
    save(path, found)
    again = load(path)
    assert type(again) is type(found) and again.cost == found.cost
    read = again.read(1, 2)
    for name, values in (read if isinstance(read, dict) else {again.name: read}).items():
        assert values.tobytes() == arrays[name].tobytes()
    if isinstance(found, StoredModel) and isinstance(again, StoredModel):
        assert again.aliases == found.aliases and again.digital_dtypes == found.digital_dtypes


def mutate(golden: Path, path: Path, draw: Any) -> None:
    content = Content(golden)
    trees = {key: json.loads(content.metadata[key]) for key in JSON if key in content.metadata}
    for _ in range(draw(st.integers(1, 2))):
        key = draw(st.sampled_from([*trees, "array", "metadata"]))
        if key in trees:
            trees[key] = changed(trees[key], draw)
        elif key == "metadata":
            name = draw(st.sampled_from([*content.metadata, "source_metadata", "more"]))
            content.metadata[name] = draw(st.one_of(st.text(max_size=9), VALUES.map(json.dumps)))
            trees.pop(name, None)
        else:
            name = draw(st.sampled_from(list(content.arrays)))
            array = content.arrays[name]
            raw = bytearray(array.tobytes())
            for _ in range(draw(st.integers(0, 3)) if raw else 0):
                raw[draw(st.integers(0, len(raw) - 1))] = draw(st.integers(0, 255))
            content.arrays[name] = np.frombuffer(bytes(raw), array.dtype).reshape(array.shape)
            if draw(st.booleans()):
                other = draw(st.sampled_from(list(content.arrays)))
                content.arrays[other] = content.arrays[name]
    content.writes_tables = False
    content.metadata |= {key: json.dumps(tree) for key, tree in trees.items()}
    try:
        content.write(path, major=2 if golden is not OLD else 1)
    except UnicodeEncodeError:  # a lone surrogate, which no header can hold
        path.write_bytes(golden.read_bytes())


def any_content(golden: Path, path: Path) -> Any:
    """The test of a function below, which fuzz_files.py runs with coverage as a guide."""

    @MANY
    @given(st.data())
    def run(data: st.DataObject) -> None:
        mutate(golden, path, data.draw)
        check(path)

    return run


@pytest.mark.filterwarnings("ignore:.*of the random streams:UserWarning")
@pytest.mark.parametrize("golden", [MODEL, TENSOR, OLD, CODED, LEVELS], ids=lambda path: path.stem)
def test_any_content_is_an_error_or_a_model(golden: Path, tmp_path: Path) -> None:
    any_content(golden, tmp_path / "changed")()


# ----------------------------------------------------------------- JSON text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected JSON, got another text: "),
        ("[1", "expected JSON, got another text: "),
        ("[" * 100_000, "nests too deeply"),
        ('{"a":' * 100_000, "nests too deeply"),
        ("NaN", "expected finite numbers, got NaN"),
        ("[-Infinity]", "expected finite numbers, got -Infinity"),
        ("1e999", "expected finite numbers, got 1e999"),
        ('{"a":1,"b":2,"a":1}', "expected each member once, got 'a' again"),
        ('[{"a":{"b":1,"b":1}}]', "expected each member once, got 'b' again"),
        ("9" * 5000, "expected JSON, got another text: |integer string conversion"),
    ],
)
def test_text_that_is_no_json(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(text)


def test_text_that_is_json() -> None:
    assert parse(b'{"a":[1,2.5,null,true,"\\u00e9"],"b":{}}') == {
        "a": [1, 2.5, None, True, "é"],
        "b": {},
    }


def test_json_with_many_members_twice_takes_no_long_time() -> None:
    text = "{" + ",".join(f'"{n}":1' for n in range(300_000)) + ',"299999":1}'
    with pytest.raises(ValueError, match="got '299999' again"):
        parse(text)
