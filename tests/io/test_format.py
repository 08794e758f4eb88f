"""The file format: golden files, determinism, the safetensors package, streaming writer."""

from __future__ import annotations

import json
import os
import stat
import zlib
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden_files import DATA
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save_file

from noisycells import devices, io
from noisycells.channel import Channel
from noisycells.io import DecodeError, FormatError, Reader, Writer
from noisycells.io.dtypes import WITHOUT_NUMPY
from noisycells.storage import (
    AnalogModel,
    Codec,
    CodedModel,
    StoredFile,
    StoredModel,
    StoredTensor,
    load,
    read_file,
    save,
)

GOLDEN = [p for p in sorted(DATA.glob("golden_v*.safetensors")) if ".read." not in p.name]
PCM = devices.get("synthetic_pcm")


def small_model(**chosen: Any) -> StoredModel:
    rng = np.random.default_rng(0)
    weights = {"a.weight": rng.standard_normal((20, 30)), "b.weight": rng.standard_normal(40)}
    digital = {"a.bias": np.arange(20, dtype=np.float32), "flag": np.array(True)}
    return Codec(PCM, **chosen).encode(weights, {"b.weight": np.arange(40) > 7}, digital=digital)


def assert_same(a: StoredTensor, b: StoredTensor) -> None:
    assert (a.name, a.shape, a.ranges, a.counts) == (b.name, b.shape, b.ranges, b.counts)
    assert a.codec.to_dict() == b.codec.to_dict() and a.cost == b.cost
    assert a.levels.dtype == b.levels.dtype and a.levels.tobytes() == b.levels.tobytes()
    assert a.side.tobytes() == b.side.tobytes()
    assert (a.mask is None) == (b.mask is None)
    assert a.mask is None or b.mask is None or a.mask.tobytes() == b.mask.tobytes()


# ----------------------------------------------------------------- golden files


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden_files_read_back_the_same(path: Path, tmp_path: Path) -> None:
    """Files of every version stay readable, bit for bit, with the draws of today's streams."""
    expected = path.with_suffix(".read.safetensors")
    old = pytest.warns(UserWarning, match="version 1 of the random streams and read with 2")
    with old if "_v1_" in path.name else nullcontext():
        read_file(path, tmp_path / "out", 7, 3)
    assert (tmp_path / "out").read_bytes() == expected.read_bytes()
    with old if "_v1_" in path.name else nullcontext():
        stored = load(path)
    if isinstance(stored, (CodedModel, AnalogModel)):
        with Reader(expected, checked=False) as reader:
            for name, array in stored.read(7, chip=3).items():
                dtype = reader.entries[name].dtype
                assert (reader.read(name) == io.narrow(array, dtype)).all()
        return
    tensors = stored if isinstance(stored, StoredModel) else {stored.name: stored}
    with Reader(expected, checked=False) as reader:
        for name, tensor in tensors.items():
            assert reader.entries[name].dtype == tensor.dtype
            found = io.narrow(tensor.read(7, chip=3), tensor.dtype)
            assert (reader.read(name) == found).all()


def test_there_are_golden_files() -> None:
    assert [path.name for path in GOLDEN] == [
        "golden_v1_model.safetensors",
        "golden_v1_tensor.safetensors",
        "golden_v2_analog.safetensors",
        "golden_v2_coded.safetensors",
        "golden_v2_levels.safetensors",
        "golden_v2_model.safetensors",
        "golden_v2_rows.safetensors",
        "golden_v2_tensor.safetensors",
    ]


def test_a_golden_file_has_every_feature() -> None:
    model = load(DATA / "golden_v2_model.safetensors")
    assert isinstance(model, StoredModel)
    assert model.aliases == {"head.weight": "half.weight", "last.bias": "dense.bias"}
    assert [tensor.dtype for tensor in model.values()] == ["BF16", "F64", "F16"]
    assert model.digital_dtypes == {"scale": "BF16"} and model.digital["scale"][1] == -3
    assert model.digital["phase"].dtype == np.complex64 and model["conv.weight"].mask is not None
    assert model["conv.weight"].ranges[0].write and not model["dense.weight"].ranges[0].write


@pytest.mark.parametrize("path", GOLDEN[2:], ids=lambda path: path.stem)
def test_golden_files_of_this_version_are_written_the_same(path: Path, tmp_path: Path) -> None:
    save(tmp_path / "again", load(path))
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


# ----------------------------------------------------------------- round trips


@pytest.mark.parametrize(
    "chosen",
    [
        {},
        {"write_bits": (3, 6)},
        {"sign_protection": False, "adaptive_mapping": False},
        {"ranges": 5, "mean_cells": 2.5, "scope": "model", "write_bits": "auto"},
        {"inverse": Channel(PCM.x, PCM.mean + 0.01, PCM.std), "thresholds": 0.5, "collapse": False},
    ],
    ids=str,
)
def test_model_round_trip(chosen: dict[str, Any], tmp_path: Path) -> None:
    model = small_model(**chosen)
    path = tmp_path / "model.safetensors"
    save(path, model)
    again = load(path)
    assert isinstance(again, StoredModel) and list(again) == list(model)
    for name in model:
        assert_same(model[name], again[name])
    assert list(again.digital) == list(model.digital)
    for name, array in model.digital.items():
        assert again.digital[name].dtype == array.dtype
        assert (again.digital[name] == array).all() and again.digital[name].shape == array.shape
    assert again.cost == model.cost
    assert all((again.read(3)[name] == values).all() for name, values in model.read(3).items())
    save(tmp_path / "twice", again)
    assert (tmp_path / "twice").read_bytes() == path.read_bytes()


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    st.text(max_size=20).filter(lambda s: s.isprintable()),
    st.lists(st.integers(0, 9), max_size=4),
    st.booleans(),
    st.sampled_from([None, 1, 7]),
)
def test_tensor_round_trip(
    tmp_path_factory: pytest.TempPathFactory, name: str, shape: list[int], masked: bool, bits: Any
) -> None:
    w = np.random.default_rng(len(shape)).standard_normal(shape)
    stored = Codec(PCM, write_bits=bits).encode(w, w > 0 if masked else None, name=name)
    path = tmp_path_factory.getbasetemp() / "tensor"
    save(path, stored)
    again = load(path)
    assert isinstance(again, StoredTensor)
    assert_same(stored, again)
    assert again.read(1).tobytes() == stored.read(1).tobytes()


def test_the_file_shrinks_with_the_write_converter(tmp_path: Path) -> None:
    w = np.random.default_rng(0).standard_normal(64 * 1024)
    sizes = []
    for bits in (None, 8, 4, 2):
        save(tmp_path / "w", Codec(PCM, write_bits=bits).encode(w, name="w"))
        with Reader(tmp_path / "w") as reader:
            entry = reader.entries["w.levels"]
            sizes.append((entry.end - entry.begin) / w.size)
    assert sizes[0] == 4
    for size, width in zip(sizes[1:], (8, 4, 2), strict=True):
        assert width / 8 <= size <= width / 8 + 2 / 1024  # a byte a block of 1024 and range


def test_float_dtypes_stay_what_they_are(tmp_path: Path) -> None:
    digital = {
        dtype.name: np.ones(3, dtype)
        for key, dtype in io.DTYPES.items()
        if key not in WITHOUT_NUMPY
    } | {"big": np.arange(3, dtype=">i2")}
    save(tmp_path / "m", Codec(PCM).encode({}, digital=digital))
    again = load(tmp_path / "m")
    assert isinstance(again, StoredModel)
    assert {k: v.dtype for k, v in again.digital.items()} == {
        k: v.dtype.newbyteorder("<") for k, v in digital.items()
    }
    assert again.digital["big"].tolist() == [0, 1, 2]


# ----------------------------------------------------------------- the format itself


def test_valid_safetensors_with_checksums(tmp_path: Path) -> None:
    path = tmp_path / "model"
    save(path, small_model())
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    assert length % 8 == 0
    with safe_open(path, "np") as file:
        assert sorted(file.keys()) == [
            "a.bias.digital", "a.weight.levels", "a.weight.side",
            "b.weight.levels", "b.weight.mask", "b.weight.side", "flag.digital",
        ]  # fmt: skip
        metadata = file.metadata()
        assert metadata["format"] == "noisycells" and metadata["format_version"] == "2.0"
        assert metadata["kind"] == "model" and metadata["stream_version"] == "2"
        checksums = json.loads(metadata["crc32"])
        assert sorted(checksums) == sorted(file.keys())
        for key, checksum in checksums.items():
            assert f"{zlib.crc32(file.get_tensor(key).tobytes()):08x}" == checksum
        assert file.get_tensor("a.weight.levels").dtype == np.float32
        assert file.get_tensor("b.weight.side").tolist()[:1] != []
    blank = raw[: 8 + length].replace(metadata["header_crc32"].encode(), b"00000000", 1)
    assert f"{zlib.crc32(blank):08x}" == metadata["header_crc32"]


def test_files_are_streamed(tmp_path: Path) -> None:
    save(tmp_path / "m", small_model())
    with StoredFile(tmp_path / "m") as file:
        assert file.kind == "model" and file.stream_version == 2 and file.source_metadata == {}
        assert file.names == ["a.weight", "b.weight"] and file.digital_names == ["a.bias", "flag"]
        assert_same(file.tensor("b.weight"), small_model()["b.weight"])
        assert file.digital("a.bias").tolist() == list(range(20))
        with pytest.raises(KeyError):
            file.tensor("c.weight")


def test_other_minor_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a newer minor version adds is ignored."""
    monkeypatch.setattr(io.files, "MINOR", 12)
    with Writer(tmp_path / "newer") as writer:
        with Reader(DATA / "golden_v2_model.safetensors") as old:
            for key in old.entries:
                writer.add(key, old.read(key))
            writer.add("news", np.zeros(3))
            given = ("format", "format_version", "header_crc32", "crc32")
            writer.metadata = {k: v for k, v in old.metadata.items() if k not in given}
            writer.metadata["more"] = "news"
    newer, old_model = load(tmp_path / "newer"), load(DATA / "golden_v2_model.safetensors")
    assert isinstance(newer, StoredModel) and isinstance(old_model, StoredModel)
    for name in old_model:
        assert (newer[name].read(1) == old_model[name].read(1)).all()


@pytest.mark.parametrize("major", [0, 3, 10])
def test_other_major_versions_are_refused(
    major: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(io.files, "MAJOR", major)
    save(tmp_path / "m", small_model())
    with pytest.raises(FormatError, match=rf"expected format version 1\.x or 2\.x, got {major}\.0"):
        load(tmp_path / "m")


def test_another_stream_version_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("noisycells.storage.model_files.STREAM_VERSION", 1)
    save(tmp_path / "m", small_model())
    monkeypatch.undo()
    with pytest.warns(UserWarning, match="version 1 of the random streams and read with 2"):
        again = load(tmp_path / "m")
    assert_same(again["a.weight"], small_model()["a.weight"])  # type: ignore[index, arg-type]


# ----------------------------------------------------------------- writing


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m"
    path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), Writer(path) as writer:
        writer.add("a", np.ones(1000))
        raise ZeroDivisionError

    def fail(descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        save(path, small_model())
    assert os.listdir(tmp_path) == ["m"] and path.read_bytes() == b"old"
    monkeypatch.undo()
    save(path, small_model())
    assert os.listdir(tmp_path) == ["m"] and path.read_bytes() != b"old"


def test_files_get_the_usual_permissions(tmp_path: Path) -> None:
    save(tmp_path / "m", small_model())
    (tmp_path / "usual").write_bytes(b"")
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("m", "usual")}
    assert len(modes) == 1


def test_writer_errors(tmp_path: Path) -> None:
    with Writer(tmp_path / "m") as writer:
        writer.add("a", np.ones(3))
        with pytest.raises(ValueError, match="key: expected a new one, got 'a' again"):
            writer.add("a", np.ones(3))
        with pytest.raises(ValueError, match="tensor 'c': expected a dtype of safetensors, got c"):
            writer.add("c", np.ones(3, np.complex128))
    with pytest.raises(FileNotFoundError):
        save(tmp_path / "none" / "m", small_model())
    with pytest.raises(TypeError, match="stored: expected a StoredTensor or a stored model"):
        save(tmp_path / "m", {})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"tensor 'x\.digital': expected a dtype of safetensors"):
        save(tmp_path / "n", Codec(PCM).encode({}, digital={"x": np.ones(2, np.longdouble)}))
    with pytest.raises(TypeError, match=r"digital 'x': expected numbers, got <U4"):
        Codec(PCM).encode({}, digital={"x": np.array(["text"])})
    assert not (tmp_path / "n").exists()


def test_a_header_that_no_reader_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(io.files, "_MAX_HEADER", 1000)
    with pytest.raises(ValueError, match="header: expected at most 1,000 bytes"):
        save(tmp_path / "m", small_model())
    assert not os.listdir(tmp_path)


def test_a_file_cut_off_while_it_is_read(tmp_path: Path) -> None:
    save(tmp_path / "m", small_model())
    with StoredFile(tmp_path / "m") as file:
        os.truncate(tmp_path / "m", (tmp_path / "m").stat().st_size - 1)
        with pytest.raises(DecodeError, match="the file ends early"):
            file.tensor("b.weight")


def test_plain_files(tmp_path: Path) -> None:
    arrays = {"x": np.arange(6.0).reshape(2, 3), "empty": np.zeros((0, 4), np.float32)}
    with Writer(tmp_path / "plain", checked=False) as writer:
        for name, array in arrays.items():
            writer.add(name, array)
        writer.add("b", np.array([0x3F80, 0xC000], np.uint16), "BF16")
    loaded = safe_open(tmp_path / "plain", "np")
    assert loaded.metadata() is None and (loaded.get_tensor("x") == arrays["x"]).all()
    with Reader(tmp_path / "plain", checked=False) as reader:
        assert reader.read("empty").shape == (0, 4) and reader.entries["b"].dtype == "BF16"
        assert io.widen(reader.read("b"), "BF16").tolist() == [1.0, -2.0]
        with pytest.raises(FormatError, match="there is no tensor 'y'"):
            reader.read("y")
    with pytest.raises(FormatError, match="not a file of noisycells"):
        load(tmp_path / "plain")


@pytest.mark.parametrize(
    "content",
    [b"", b"short", b"not a model but some text", b"PK\x03\x04" + bytes(100), bytes(50)],
)
def test_other_files_are_refused_by_name(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(content)
    with pytest.raises((FormatError, DecodeError), match=r"model\.bin"):
        load(path)
    with pytest.raises(FormatError, match=r"model\.bin: expected a safetensors file"):
        Reader(path, checked=False)
    with pytest.raises(OSError):
        load(tmp_path)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "missing")


def test_a_plain_file_may_hold_what_numpy_does_not_know(tmp_path: Path) -> None:
    header = b'{"e":{"dtype":"F8_E8M0","shape":[2],"data_offsets":[0,2]}}'
    path = tmp_path / "eight"
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"ab")
    with Reader(path, checked=False) as reader:
        with pytest.raises(FormatError, match="tensor 'e' has dtype F8_E8M0, not of numpy"):
            reader.read("e")
    save_file({"x": np.ones(2)}, tmp_path / "x")
    with Reader(tmp_path / "x", checked=False) as reader:
        assert reader.metadata == {} and reader.read("x").tolist() == [1.0, 1.0]
