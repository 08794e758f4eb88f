"""Weights in several files: indices, directories, and what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file, save_file

import noisycells as nc
from noisycells import storage
from noisycells.cli import main
from noisycells.io import FormatError, Weights, Writer

RNG = np.random.default_rng(0)
TENSORS = {
    "a.weight": RNG.standard_normal((30, 20)).astype(np.float32),
    "a.bias": np.arange(30, dtype=np.float32),
    "b.weight": RNG.standard_normal((10, 30)).astype(np.float16),
}
FIRST, SECOND = (f"model-0000{i}-of-00002.safetensors" for i in (1, 2))
FILES = {"a.weight": FIRST, "a.bias": FIRST, "b.weight": SECOND}
CODEC = nc.Codec(nc.devices.pcm_array())


def shards(folder: Path, **changes: Any) -> Path:
    """A directory as transformers writes it."""
    for file in set(FILES.values()):
        here = {name: TENSORS[name] for name, where in FILES.items() if where == file}
        save_file(here, folder / file, {"format": "pt"})
    index = {"metadata": {"total_size": 1}, "weight_map": FILES, **changes}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


@pytest.mark.parametrize("by", ["", "model.safetensors.index.json"])
def test_models_in_several_files(by: str, tmp_path: Path) -> None:
    source, one = shards(tmp_path) / by, tmp_path / "other" / "one.safetensors"
    one.parent.mkdir()
    save_file(TENSORS, one)
    with Weights(source) as weights:
        assert set(weights.entries) == set(TENSORS) and weights.metadata == {"format": "pt"}
        assert all(np.array_equal(weights.read(name), TENSORS[name]) for name in TENSORS)
    stored = [tmp_path / "other" / name for name in ("a.nc", "b.nc")]
    cost = storage.encode_file(source, stored[0], CODEC)
    assert cost == storage.encode_file(one, stored[1], CODEC)
    reads = []
    for file in stored:
        storage.read_file(file, tmp_path / "other" / "read.safetensors", seed=1)
        reads.append(load_file(tmp_path / "other" / "read.safetensors"))
    assert reads[0].keys() == TENSORS.keys()
    assert all(np.array_equal(reads[0][name], reads[1][name]) for name in TENSORS)
    assert reads[0]["b.weight"].dtype == np.float16


def test_the_command_takes_directories(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    shards(folder)
    arguments = ["store", str(folder), "-o", str(tmp_path / "a.nc"), "--json"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    assert isinstance(nc.load(tmp_path / "a.nc"), storage.StoredModel)
    inside = str(folder / FILES["b.weight"])
    done = CliRunner().invoke(main, ["store", str(folder), "-o", inside, "--force"])
    assert done.exit_code == 2 and "which is read" in done.stderr
    assert load_file(inside).keys() == {"b.weight"}


def test_directories_with_one_file(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"expected one model\.safetensors .* got none"):
        Weights(tmp_path)
    save_file(TENSORS, tmp_path / "weights.safetensors")
    with Weights(tmp_path) as weights:
        assert len(weights.entries) == 3
    save_file(TENSORS, tmp_path / "adapter.safetensors")
    with pytest.raises(FormatError, match=r"got adapter\.safetensors, weights\.safetensors"):
        Weights(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weight_map": {}}, "expected an index with a weight_map"),
        ({"weight_map": {**FILES, "a.weight": "../a.safetensors"}}, "beside the index"),
        ({"weight_map": {**FILES, "a.weight": "a\0.safetensors"}}, "beside the index"),
        ({"weight_map": {**FILES, "c": FILES["a.bias"]}}, "expected tensor 'c' in model-00001"),
        ({"weight_map": {"a.bias": FILES["a.bias"]}}, "tensor 'a.weight' is not there"),
    ],
)
def test_indices_are_checked(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=message):
        Weights(shards(tmp_path, **changes))


def test_missing_and_broken_files(tmp_path: Path) -> None:
    index = shards(tmp_path) / "model.safetensors.index.json"
    (tmp_path / FILES["b.weight"]).unlink()
    with pytest.raises(OSError, match="model-00002"):
        Weights(index)
    index.write_text("{")
    with pytest.raises(FormatError, match="expected an index of safetensors files"):
        Weights(index)


def test_scales_of_float8_weights_stay_digital(tmp_path: Path) -> None:
    """Their weights are stored as the numbers that the codes stand for."""
    source, stored = tmp_path / "a.safetensors", tmp_path / "a.nc"
    codes = RNG.integers(0, 120, (40, 30), dtype=np.uint8)
    with Writer(source, checked=False) as writer:
        writer.add("w.weight", codes, "F8_E4M3")
        writer.add("w.weight_scale_inv", np.ones((4, 3), np.float32))
        writer.add("v.weight", RNG.standard_normal((40, 30)).astype(np.float32))
        writer.add("v.weight_scale", np.ones((4, 3), np.float32))  # of no float8 weights
    storage.encode_file(source, stored, CODEC)
    found = nc.load(stored)
    assert isinstance(found, storage.StoredModel)
    assert set(found.digital) == {"w.weight_scale_inv"}
    assert set(found) == {"w.weight", "v.weight", "v.weight_scale"}
    assert found["w.weight"].dtype == "F8_E4M3"
