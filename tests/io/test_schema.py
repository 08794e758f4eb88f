"""Files whose checksums fit but whose content was changed at random: a named error, or a model.

The changes go through the whole tree of JSON values, so every field is met by every kind of
nonsense; what is read all the same has to be a model that can be used and stored again.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden_files import MODEL, TENSOR, Content
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from noisycells.io import DecodeError, FormatError, parse
from noisycells.storage import StoredModel, load, save

OLD = MODEL.with_name("golden_v1_model.safetensors")
JSON = ("codecs", "tensors", "digital", "aliases")

NUMBERS = st.one_of(
    st.integers(-3, 40),
    st.sampled_from([2**31, 2**32, 2**46, 2**53, 2**63, 2**64, -(2**63), 10**30, 10**400, 65_536]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0.5, -0.0, 1e-320, 1e-45, 1.2e-38, 3.4e38, 3.5e38, 1e300]),
)
NAMES = st.sampled_from(
    ["", "conv.weight", "dense.weight", "steps", "scale", "a\0b", "F16", "BF16"]
)
LEAVES = st.one_of(st.none(), st.booleans(), NUMBERS, NAMES, st.text(max_size=5))
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=6,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths to all values of a tree, its own among them."""
    yield path
    if isinstance(value, (dict, list)):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))


def changed(tree: Any, draw: Any) -> Any:
    """A tree with one value replaced, removed, repeated or exchanged for a neighbor."""
    path = draw(st.sampled_from(list(places(tree))))
    if not path:
        return draw(VALUES)
    tree = copy.deepcopy(tree)
    parent = tree
    for key in path[:-1]:
        parent = parent[key]
    key = path[-1]
    kind = draw(st.sampled_from(["replace", "scale", "remove", "repeat", "swap"]))
    if kind == "scale" and type(parent[key]) in (int, float):
        factor = draw(st.sampled_from([-1, 0, 1 + 1e-9, 1.001, 2, 1000, 1e-30, 1e30]))
        parent[key] = type(parent[key])(parent[key] * factor)
    elif kind == "remove":
        del parent[key]
    elif kind == "repeat" and isinstance(parent, list):
        parent.insert(key, copy.deepcopy(parent[key]))
    elif kind == "repeat":
        parent[draw(NAMES)] = copy.deepcopy(parent[key])
    elif kind == "swap":
        keys = list(parent) if isinstance(parent, dict) else list(range(len(parent)))
        other = draw(st.sampled_from(keys))
        parent[key], parent[other] = parent[other], parent[key]
    else:
        parent[key] = draw(VALUES)
    return tree


def check(path: Path) -> None:
    """Read the file: one of the two errors, which names it, or a model in order."""
    try:
        found = load(path)
    except (DecodeError, FormatError) as error:
        assert str(path) in str(error) and len(str(error)) < 1000
        return
    read = found.read(1, 2)
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
            for _ in range(draw(st.integers(0, 3))):
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
    """The test of the next function, which fuzz_files.py runs with coverage as a guide."""

    @settings(
        deadline=None, derandomize=True, max_examples=400,
        suppress_health_check=list(HealthCheck), database=None,
    )  # fmt: skip
    @given(st.data())
    def run(data: st.DataObject) -> None:
        mutate(golden, path, data.draw)
        check(path)

    return run


@pytest.mark.filterwarnings("ignore:.*of the random streams:UserWarning")
@pytest.mark.parametrize("golden", [MODEL, TENSOR, OLD], ids=lambda path: path.stem)
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
