"""Models in analog cells in files: what is kept, and damage of every kind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden_files import DATA, Content
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

import noisycells as nc
from noisycells.io import DecodeError, FormatError
from noisycells.storage import Analog, AnalogModel, count_tensors, encode_file, read_file

GOLDEN = DATA / "golden_v2_analog.safetensors"
RNG = np.random.default_rng(3)
WEIGHTS: dict[str, NDArray[Any]] = {
    "conv.weight": RNG.standard_normal((4, 3, 3, 3)).astype(np.float16),
    "fc.weight": RNG.standard_normal((8, 20)).astype(np.float32),
    "fc.bias": RNG.standard_normal(8).astype(np.float32),
}


def loaded(path: Path) -> AnalogModel:
    found = nc.load(path)
    assert isinstance(found, AnalogModel)
    return found


def test_a_file_is_the_model(tmp_path: Path) -> None:
    inputs = RNG.standard_normal((50, 20))
    weights = {name: WEIGHTS[name] for name in ("conv.weight", "fc.weight")}
    codec = Analog("synthetic_pcm", pulses=3, verify_reads=2, reads=4)
    stored = codec.encode(
        weights,
        moments={"fc.weight": inputs.T @ inputs / 50},
        overrides={"conv*": Analog("synthetic_pcm", verify_reads=0, rotate=False)},
        digital={"fc.bias": WEIGHTS["fc.bias"]},
    )
    nc.save(tmp_path / "a", stored)
    again = loaded(tmp_path / "a")
    assert again.cost == stored.cost and again["fc.weight"].feedback is not None
    assert [t.codec.to_dict() for t in again.values()] == [
        t.codec.to_dict() for t in stored.values()
    ]
    for seed, chip in ((1, 0), (2, 0), (1, 5)):
        found, expected = again.read(seed, chip), stored.read(seed, chip)
        assert all(np.array_equal(found[name], expected[name]) for name in weights)
    assert again.program(5).cost == stored.program(5).cost
    nc.save(tmp_path / "b", again)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_files_of_weights(tmp_path: Path) -> None:
    save_file(WEIGHTS, tmp_path / "model", {"author": "x"})
    cost = encode_file(tmp_path / "model", tmp_path / "stored", Analog("synthetic_pcm"))
    assert cost.data_cells == 108 + 160 and cost.digital_bits == 8 * 32
    assert cost.parameter_bits == 32 * (4 + 8 + 2 * 161)
    assert count_tensors(tmp_path / "stored") == 3
    read_file(tmp_path / "stored", tmp_path / "read", seed=1, chip=2)
    read = load_file(tmp_path / "read")
    assert {n: a.dtype for n, a in read.items()} == {n: a.dtype for n, a in WEIGHTS.items()}
    assert np.array_equal(read["fc.weight"], loaded(tmp_path / "stored").read(1, 2)["fc.weight"])
    assert np.array_equal(read["fc.bias"], WEIGHTS["fc.bias"])
    for wrong, message in (({"mask": "nonzero"}, "mask"), ({"store_biases": True}, "fc.bias")):
        with pytest.raises(ValueError, match=f"{message}: expected"):
            encode_file(tmp_path / "model", tmp_path / "no", Analog("synthetic_pcm"), **wrong)
        assert not (tmp_path / "no").exists()
    with pytest.raises(ValueError, match="side_errors: expected False"):
        read_file(tmp_path / "stored", tmp_path / "no", seed=1, side_errors=True)


def test_damage_is_refused(tmp_path: Path) -> None:
    raw, path = GOLDEN.read_bytes(), tmp_path / "a"
    for at in np.linspace(0, len(raw) - 1, 400).astype(int):
        for damaged in (raw[:at], raw[:at] + bytes([raw[at] ^ 4]) + raw[at + 1 :]):
            path.write_bytes(damaged)
            with pytest.raises((DecodeError, FormatError)):
                nc.load(path)


# ----------------------------------------------------------------- intact but inconsistent

Change = Callable[[Content], None]


def in_tensor(index: int, key: str, value: Any) -> Change:
    def change(content: Content) -> None:
        content.tensors[index][key] = value

    return change


def in_codec(key: str, value: Any) -> Change:
    def change(content: Content) -> None:
        content.codecs[0][key] = value

    return change


def in_array(key: str, make: Callable[[NDArray[Any]], NDArray[Any]] | None) -> Change:
    def change(content: Content) -> None:
        array = content.arrays.pop(key)
        if make is not None:
            content.arrays[key] = make(array)

    return change


def in_metadata(key: str, value: Any) -> Change:
    def change(content: Content) -> None:
        content.metadata[key] = json.dumps(value)

    return change


CHANGES: dict[str, tuple[Change, str]] = {
    "another shape": (in_tensor(1, "shape", [7, 5]), "array 'dense.weight.values'"),
    "a vector": (in_tensor(1, "shape", [35]), "expected two dimensions or more"),
    "nothing": (in_tensor(1, "shape", [0, 7]), "expected two dimensions or more"),
    "no such codec": (in_tensor(0, "codec", 2), r"tensors\[0\].codec"),
    "no such dtype": (in_tensor(0, "dtype", "F4"), r"tensors\[0\].dtype"),
    "the same name": (in_tensor(1, "name", "conv.weight"), "a name of its own"),
    "a map too short": (in_tensor(0, "values", 1), r"tensors\[0\].values"),
    "a map of another length": (in_tensor(0, "outputs", 5), "array 'conv.weight.decoder'"),
    "feedback that is not there": (in_tensor(0, "feedback", True), "arrays: expected"),
    "one field more": (in_tensor(0, "color", 1), "'color'"),
    "another mode": (in_codec("mode", "coded"), r"codecs\[0\].mode"),
    "no pulses": (in_codec("pulses", 0), r"codecs\[0\]: pulses"),
    "fractional reads": (in_codec("reads", 1.5), r"codecs\[0\]: reads"),
    "a codec's color": (in_codec("color", 1), r"codecs\[0\]: .*color"),
    "digital in cells": (in_metadata("digital", ["conv.weight"]), "no other tensor"),
    "an alias of none": (in_metadata("aliases", {"a": "b"}), "further names"),
    "no values": (in_array("conv.weight.values", None), "arrays: expected"),
    "NaN": (in_array("dense.weight.values", lambda a: a * np.float32(np.nan)), "finite values"),
    "infinite scales": (
        in_array("dense.weight.scales", lambda a: a + np.float32(np.inf)),
        "finite",
    ),
    "doubles": (in_array("dense.weight.scales", lambda a: a.astype(np.float64)), "expected F32"),
    "outputs that fall": (in_array("conv.weight.decoder", lambda a: a[:, ::-1]), "increasing"),
    "an order of one": (in_array("dense.weight.order", lambda a: 0 * a), "expected a permutation"),
    "a factor of zeros": (in_array("dense.weight.factor", lambda a: 0 * a), "a diagonal above 0"),
}


@pytest.mark.parametrize(("change", "message"), CHANGES.values(), ids=[*CHANGES])
def test_what_does_not_fit_is_refused(change: Change, message: str, tmp_path: Path) -> None:
    content = Content(GOLDEN)
    change(content)
    content.write(tmp_path / "a")
    with pytest.raises(DecodeError, match=message) as caught:
        nc.load(tmp_path / "a")
    assert str(tmp_path / "a") in str(caught.value)


def test_the_parts_together_are_a_model(tmp_path: Path) -> None:
    Content(GOLDEN).write(tmp_path / "a")
    assert loaded(tmp_path / "a").aliases == {"head.weight": "half.weight"}
