"""Whole model files, tensor by tensor: encode_file and read_file."""

from __future__ import annotations

import os
import re
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

from noisycells import devices
from noisycells.io import DecodeError, FormatError, Reader, Writer, narrow
from noisycells.storage import (
    Codec,
    Coded,
    StoredFile,
    StoredModel,
    belongs_in_cells,
    encode_file,
    load,
    read_file,
    save,
)

PCM = devices.get("synthetic_pcm")


def bfloat16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    return (values.view(np.uint32) >> 16).astype(np.uint16)


@pytest.fixture
def model(tmp_path: Path) -> dict[str, NDArray[Any]]:
    """A model of all float types, with biases, normalization and a counter, in ``model``."""
    rng = np.random.default_rng(0)
    arrays: dict[str, NDArray[Any]] = {
        "conv.weight": rng.standard_normal((4, 3, 3, 3)).astype(np.float32),
        "conv.bias": rng.standard_normal(4).astype(np.float32),
        "norm.weight": rng.standard_normal(4).astype(np.float32),
        "norm.bias": rng.standard_normal(4).astype(np.float32),
        "norm.num_batches_tracked": np.array(100),
        "fc.weight": rng.standard_normal((10, 36)),
        "fc.bias": rng.standard_normal(10).astype(np.float16),
        "half.weight": rng.standard_normal((8, 10)).astype(np.float16),
        "brain.weight": rng.standard_normal((8, 8)).astype(np.float32),
    }
    arrays["brain.weight"].view(np.uint32)[:] &= 0xFFFF0000  # what bfloat16 can hold
    arrays["conv.weight"][np.abs(arrays["conv.weight"]) < 0.5] = 0
    with Writer(tmp_path / "model", checked=False) as writer:
        for name, array in arrays.items():
            if name == "brain.weight":
                writer.add(name, bfloat16(array), "BF16")
            else:
                writer.add(name, array)
        writer.metadata["format"] = "pt"
    return arrays


IN_CELLS = ["conv.weight", "fc.weight", "half.weight", "brain.weight"]


@pytest.mark.parametrize(
    "chosen",
    [{}, {"scope": "model", "mean_cells": 1.5, "write_bits": "auto"}, {"sign_protection": False}],
    ids=str,
)
def test_as_encoding_in_memory(
    chosen: dict[str, Any], model: dict[str, NDArray[Any]], tmp_path: Path
) -> None:
    codec, other = Codec(PCM, **chosen), Codec(PCM, cells=7)
    seen: list[str] = []
    cost = encode_file(
        tmp_path / "model", tmp_path / "cells", codec, mask="nonzero", overrides={"fc.*": other},
        progress=seen.append,
    )  # fmt: skip
    expected = codec.encode(
        {name: model[name] for name in IN_CELLS}, "nonzero", overrides={"fc.*": other},
        digital={name: array for name, array in model.items() if name not in IN_CELLS},
    )  # fmt: skip
    stored = load(tmp_path / "cells")
    assert isinstance(stored, StoredModel)
    assert sorted(seen) == sorted(model) and list(stored) == IN_CELLS
    assert cost == stored.cost == expected.cost
    for name, tensor in expected.items():
        assert stored[name].ranges == tensor.ranges
        assert (stored[name].read(3, 1) == tensor.read(3, 1)).all()
    for name, array in expected.digital.items():
        assert (stored.digital[name] == array).all()
        assert stored.digital[name].dtype == array.dtype

    read_file(tmp_path / "cells", tmp_path / "read", 3, 1, progress=seen.append)
    assert seen.count("fc.bias") == 2
    with Reader(tmp_path / "model", checked=False) as source:
        dtypes = {name: entry.dtype for name, entry in source.entries.items()}
    with Reader(tmp_path / "read", checked=False) as reader:
        assert {name: entry.dtype for name, entry in reader.entries.items()} == dtypes
        for name in model:
            if name in expected:
                wanted = narrow(expected[name].read(3, 1), dtypes[name])
                assert (reader.read(name) == wanted).all()
            else:
                assert (reader.read(name) == model[name]).all()
    with safe_open(tmp_path / "read", "np") as file:
        assert file.metadata() == {"format": "pt"}
    read_file(tmp_path / "cells", tmp_path / "worse", 3, 1, side_errors=True)
    with Reader(tmp_path / "worse", checked=False) as reader:
        for name, tensor in expected.items():
            wanted = narrow(tensor.read(3, 1, side_errors=True), dtypes[name])
            assert (reader.read(name) == wanted).all()


def test_two_runs_write_the_same_bytes(model: dict[str, NDArray[Any]], tmp_path: Path) -> None:
    for name in ("a", "b"):
        encode_file(tmp_path / "model", tmp_path / name, Codec(PCM))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_what_is_kept_digital(model: dict[str, NDArray[Any]], tmp_path: Path) -> None:
    def digital(**chosen: Any) -> set[str]:
        encode_file(tmp_path / "model", tmp_path / "cells", Codec(PCM), **chosen)
        with StoredFile(tmp_path / "cells") as file:
            assert set(file.names) | set(file.digital_names) == set(model)
            return set(file.digital_names)

    usual = set(model) - set(IN_CELLS)
    assert digital() == usual
    assert digital(store_biases=True) == usual - {"conv.bias", "fc.bias"}
    assert digital(digital=["conv.*", "br*"]) == usual | {"conv.weight", "brain.weight"}
    stored = load(tmp_path / "cells")
    assert isinstance(stored, StoredModel) and stored.digital["brain.weight"].dtype == np.float32
    assert (stored.digital["brain.weight"] == model["brain.weight"]).all()
    read_file(tmp_path / "cells", tmp_path / "read", 0)
    with Reader(tmp_path / "read", checked=False) as reader:
        assert reader.entries["brain.weight"].dtype == "BF16"
        assert (reader.read("brain.weight") == bfloat16(model["brain.weight"])).all()


def test_weights_and_biases_are_told_by_name_and_shape() -> None:
    shapes = {
        "conv.weight": (4, 3, 3, 3), "conv.bias": (4,), "norm.weight": (4,), "norm.bias": (4,),
        "layernorm.weight": (4, 5), "layernorm.bias": (4, 5), "weight": (3, 3), "bias": (3,),
        "lstm.weight_ih_l0": (8, 4), "lstm.bias_ih_l0": (8,), "scale": (), "embedding": (10, 4),
    }  # fmt: skip
    weights = {"conv.weight", "weight", "lstm.weight_ih_l0", "embedding"}
    biases = {"conv.bias", "bias", "lstm.bias_ih_l0"}
    assert {name for name in shapes if belongs_in_cells(name, shapes)} == weights
    assert {name for name in shapes if belongs_in_cells(name, shapes, True)} == weights | biases


# ----------------------------------------------------------------- memory


@pytest.mark.parametrize("chosen", [{}, {"scope": "model", "mean_cells": 1.2, "write_bits": 8}])
def test_memory_is_twice_the_largest_tensor(chosen: dict[str, Any], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    size = 4 << 20
    save_file(
        {f"{i}.weight": rng.standard_normal((1024, size // 4096), np.float32) for i in range(5)},
        tmp_path / "model",
    )
    encode_file(tmp_path / "model", tmp_path / "cells", Codec(PCM, **chosen))
    for run in (
        lambda: encode_file(tmp_path / "model", tmp_path / "cells", Codec(PCM, **chosen)),
        lambda: read_file(tmp_path / "cells", tmp_path / "read", 0),
    ):
        tracemalloc.start()
        try:
            run()
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 2.2 * size + 3e6


# ----------------------------------------------------------------- errors


def test_encode_file_errors(model: dict[str, NDArray[Any]], tmp_path: Path) -> None:
    source, path, codec = tmp_path / "model", tmp_path / "cells", Codec(PCM)
    with pytest.raises(TypeError, match="digital: expected a sequence of patterns, got 'conv'"):
        encode_file(source, path, codec, digital="conv")
    with pytest.raises(ValueError, match=r"overrides: expected patterns that match a tensor"):
        encode_file(source, path, codec, overrides={"linear.*": codec})
    with pytest.raises(ValueError, match=r"mask 'conv\.weight': expected an array or 'nonzero'"):
        encode_file(source, path, codec, mask="zero")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected a tensor to store in cells, got none"):
        encode_file(source, path, codec, digital=["*"])
    with pytest.raises(FileNotFoundError):
        encode_file(tmp_path / "none", path, codec)
    (tmp_path / "text").write_text("weights: 1, 2, 3")
    with pytest.raises(FormatError, match="text: expected a safetensors file"):
        encode_file(tmp_path / "text", path, codec)
    model["fc.weight"][3, 3] = np.nan
    save_file({"fc.weight": model["fc.weight"]}, tmp_path / "broken")
    with pytest.raises(ValueError, match=re.escape("weights 'fc.weight': expected finite")):
        encode_file(tmp_path / "broken", path, codec)
    assert sorted(os.listdir(tmp_path)) == ["broken", "model", "text"]  # nothing half-written
    encode_file(source, path, codec)
    with pytest.raises(ValueError, match="expected the weights of a model, got one in cells"):
        encode_file(path, tmp_path / "twice", codec)


def test_read_file_errors(tmp_path: Path) -> None:
    w = np.random.default_rng(0).standard_normal((30, 30))
    save(tmp_path / "cells", Codec(PCM).encode({"a.weight": w, "b.weight": w}))
    with pytest.raises(TypeError, match="seed: expected an int"):
        read_file(tmp_path / "cells", tmp_path / "read", 1.5)  # type: ignore[arg-type]
    with pytest.raises(FormatError):
        read_file(__file__, tmp_path / "read", 1)
    raw = bytearray((tmp_path / "cells").read_bytes())
    raw[-1] ^= 1  # in the last tensor, after the first has been written
    (tmp_path / "damaged").write_bytes(raw)
    with pytest.raises(DecodeError, match=r"tensor 'b\.weight\.side' does not match its checksum"):
        read_file(tmp_path / "damaged", tmp_path / "read", 1)
    assert sorted(os.listdir(tmp_path)) == ["cells", "damaged"]


@pytest.mark.parametrize("kind", ["name", "symlink", "link"])
def test_a_source_is_not_written_over(
    kind: str, model: dict[str, NDArray[Any]], tmp_path: Path
) -> None:
    """Whatever it is called: its weights would be lost."""
    encode_file(tmp_path / "model", tmp_path / "cells", Codec(PCM))
    for name in ("model", "cells"):
        path = other = tmp_path / name
        if kind != "name":
            other = tmp_path / f"other-{name}"
            (other.symlink_to if kind == "symlink" else other.hardlink_to)(path)
        before = path.read_bytes()
        with pytest.raises(ValueError, match=rf"{other.name}: expected another file to write than"):
            if name == "model":
                encode_file(path, other, Codec(PCM))
            else:
                read_file(path, other, 1)
        assert path.read_bytes() == before


@pytest.mark.parametrize("aliases", [{"w": "w"}, {"b": "w"}, {"v": "u"}, {"v": "v"}], ids=str)
def test_aliases_that_are_no_further_names_are_not_saved(
    aliases: dict[str, str], tmp_path: Path
) -> None:
    weights, digital = {"w": np.eye(3, dtype=np.float32)}, {"b": np.ones(2)}
    paper = Codec("pcm_array").encode(weights, digital=digital)
    coded = Coded("synthetic_pcm").encode(weights, digital=digital)
    for stored in (paper, coded):
        with pytest.raises(ValueError, match=r"^aliases: expected further names of tensors, got"):
            save(tmp_path / "x", replace(stored, aliases=aliases))
        assert not (tmp_path / "x").exists()
        save(tmp_path / "y", replace(stored, aliases={"v": "w", "c": "b"}))
        assert load(tmp_path / "y").aliases == {"v": "w", "c": "b"}  # type: ignore[union-attr]
