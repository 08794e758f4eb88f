"""What models in cells have in common, of every mode."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import noisycells as nc
from noisycells.storage import Analog, Codec, Coded, Levels, ModelInCells

PCM = nc.devices.synthetic_pcm()
RNG = np.random.default_rng(5)
WEIGHTS = {name: RNG.standard_normal((20, 30)).astype(np.float32) for name in "ba"}
DIGITAL = {"bias": np.arange(7, dtype=np.float32), "count": np.array(3)}
CODECS: list[Any] = [Codec(PCM), Coded(PCM), Levels(PCM), Analog(PCM)]
codecs = pytest.mark.parametrize("codec", CODECS, ids=lambda codec: type(codec).__name__)


def stored(codec: Any) -> ModelInCells[Any]:
    model = codec.encode(WEIGHTS, digital=DIGITAL)
    assert isinstance(model, ModelInCells)
    return replace(model, aliases={"tied": "a", "also": "bias"})


@codecs
def test_a_mapping_of_names_to_tensors(codec: Any) -> None:
    model = stored(codec)
    assert isinstance(model, Mapping) and list(model) == ["b", "a"] and len(model) == 2
    assert [tensor.name for tensor in model.values()] == ["b", "a"]
    assert {(t.shape, t.size, t.stored, t.dtype) for t in model.values()} == {
        ((20, 30), 600, 600, "F32")
    }
    with pytest.raises(KeyError):
        model["bias"]


@codecs
def test_reads_are_under_all_names_and_costs_of_all_tensors(codec: Any) -> None:
    model = stored(codec)
    read = model.read(1)
    assert list(read) == ["b", "a", "tied"] and read["tied"] is read["a"]
    assert all(array.dtype == np.float32 for array in read.values())
    cost = model.cost
    assert (cost.stored_weights, cost.original_weights) == (1200, 1200)
    assert (cost.digital_weights, cost.digital_bits) == (8, 7 * 32 + 64)


@codecs
def test_dtypes_are_those_that_the_tensors_came_in(codec: Any) -> None:
    model = stored(codec).with_dtypes({"a": "BF16", "bias": "BF16", "count": "I64"})
    assert {name: tensor.dtype for name, tensor in model.items()} == {"b": "F32", "a": "BF16"}
    assert model.digital_dtypes == {"bias": "BF16"} and model.aliases["tied"] == "a"
    assert model.cost.digital_bits == 7 * 16 + 64
    assert np.array_equal(model.read(1)["a"], stored(codec).read(1)["a"])


@codecs
def test_a_model_says_what_it_is_and_what_became_of_it(codec: Any, tmp_path: Path) -> None:
    model = stored(codec)
    cells = model.cost.data_cells + model.cost.side_cells
    assert repr(model) == (
        f"{type(codec.encode(WEIGHTS)).__name__}(2 tensors, 1,200 of 1,200 weights in {cells:,} "
        "cells of 'synthetic_pcm', 2 tensors digital)"
    )
    assert model.channels == {codec.channel}
    assert (model.carried is None) == isinstance(codec, (Codec, Analog))
    audit = model.audit(WEIGHTS, repeats=2)
    assert audit.carried == model.carried and audit.stored == 1200
    nc.save(tmp_path / "m", model)
    assert repr(nc.load(tmp_path / "m")) == repr(model)
    assert nc.storage.count_tensors(tmp_path / "m") == 4


@codecs
def test_names_are_in_cells_or_digital(codec: Any) -> None:
    with pytest.raises(ValueError, match=r"digital: expected names that are not in cells, got"):
        codec.encode(WEIGHTS, digital={"a": np.zeros(3)})


@codecs
def test_an_alias_is_another_name_of_a_tensor(codec: Any, tmp_path: Path) -> None:
    for aliases in ({"a": "b"}, {"x": "y"}):
        with pytest.raises(ValueError, match="aliases: expected further names of tensors, got"):
            nc.save(tmp_path / "m", replace(stored(codec), aliases=aliases))
    assert not (tmp_path / "m").exists()
