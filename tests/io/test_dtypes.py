"""Small floats against torch, and one count of digital bits whatever a model came from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors import safe_open

import noisycells as nc
from noisycells.cli import main
from noisycells.io import bytes_of, dtype_of, narrow, usual_name, widen
from noisycells.io.dtypes import DTYPES, WITHOUT_NUMPY
from noisycells.storage import encode_file, read_file

torch = pytest.importorskip("torch")

import safetensors.torch as st  # noqa: E402

import noisycells.torch as nct  # noqa: E402

SMALL = {name: getattr(torch, usual) for name, usual in WITHOUT_NUMPY.items()}
CODEC = nc.Codec(nc.devices.pcm_array())


@pytest.mark.parametrize("name", SMALL)
def test_all_numbers_are_widened_as_by_torch(name: str) -> None:
    bits = np.arange(1 << 8 * DTYPES[name].itemsize, dtype=DTYPES[name])
    expected = torch.from_numpy(bits).view(SMALL[name]).float().numpy()
    found = widen(bits, name)
    assert found.dtype == np.float32 and np.array_equal(found, expected, equal_nan=True)
    number = ~np.isnan(found)
    assert (narrow(found[number], name) == bits[number]).all()  # signs of zeros, infinities too
    assert np.isnan(widen(narrow(found[~number], name), name)).all()


@pytest.mark.parametrize("name", [*SMALL, "F16", "F32", "F64"])
def test_numbers_are_rounded_as_by_torch(name: str) -> None:
    """Random ones of all magnitudes, ties, and those next to ties."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal(200_000) * 2.0 ** rng.integers(-30, 8, 200_000)
    if name in SMALL:
        table = widen(np.arange(200, dtype=DTYPES[name]) % 120, name).astype(np.float64)
        middle = np.sort(table)[:-1] + np.diff(np.sort(table)) / 2
        middle = middle[np.abs(middle) < 200]
        ties = np.concatenate([middle, np.nextafter(middle, 0), np.nextafter(middle, 300)])
        values = np.concatenate([values, ties, -ties])
    values32 = values.astype(np.float32)
    values32 = values32[np.abs(values32) <= 240]
    if name in SMALL:
        expected = torch.from_numpy(values32).to(SMALL[name]).float().numpy()
        assert np.array_equal(widen(narrow(values32, name), name), expected)
    else:
        assert np.array_equal(narrow(values32, name), values32.astype(DTYPES[name]))


@pytest.mark.parametrize(
    ("name", "largest"),
    [("BF16", 3.3895e38), ("F16", 65_504), ("F8_E4M3", 448), ("F8_E5M2", 57_344)],
)
def test_numbers_beyond_the_range_are_refused(name: str, largest: float) -> None:
    assert narrow(np.array([largest, -largest, np.inf if name != "F8_E4M3" else 0]), name).size == 3
    for value in (1.1 * largest, -1.1 * largest):
        if abs(value) > 3.5e38:
            value = np.copysign(3.4e38, value)
        with pytest.raises(ValueError, match=f"expected numbers within the range of {name}, got"):
            narrow(np.float32([1.0, value]), name)


def test_names_of_dtypes() -> None:
    assert dtype_of(np.zeros(3, ">f4")) == "F32" and dtype_of(np.zeros(3, complex)) is None
    assert dtype_of(np.zeros(3, np.uint16)) == "U16"
    assert [usual_name(name) for name in ("BF16", "F16", "BOOL")] == ["bfloat16", "float16", "bool"]
    assert bytes_of(np.zeros(3, np.float32), "BF16") == 6 and bytes_of(np.zeros(3, bool)) == 3


# ----------------------------------------------------------------- cost

DIGITAL = [
    torch.bfloat16, torch.float16, torch.float32, torch.float64, torch.float8_e4m3fn,
    torch.float8_e5m2, torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64,
    torch.uint16, torch.bool, torch.complex64,
]  # fmt: skip
WEIGHTS = [
    torch.bfloat16, torch.float16, torch.float32, torch.float64, torch.float8_e4m3fn,
    torch.float8_e5m2,
]  # fmt: skip


def run(*arguments: object) -> str:
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.parametrize("dtype", DIGITAL, ids=str)
def test_one_count_of_digital_bits(dtype: torch.dtype, tmp_path: Path) -> None:
    """In memory, from both kinds of files, and as the file of cells says."""
    torch.manual_seed(0)
    kept = torch.randint(0, 2, (37,)).to(dtype)
    state = {"fc.weight": torch.randn(10, 30), "kept": kept, "scalar": kept[0].clone()}
    expected = 8 * dtype.itemsize * 38
    torch.save(state, tmp_path / "model.pt")
    st.save_file(state, tmp_path / "model.safetensors")
    stored = nct.store(state, CODEC)
    assert (stored.cost.digital_bits, stored.cost.digital_weights) == (expected, 38)
    costs = [stored.cost.to_dict()]
    for source in ("model.pt", "model.safetensors"):
        cells, out = tmp_path / f"{source}.cells", tmp_path / f"{source}.out"
        costs.append(json.loads(run("store", tmp_path / source, "-o", cells, "--json")))
        described = json.loads(run("inspect", cells, "--json"))
        costs.append(described["cost"])
        usual = str(dtype).removeprefix("torch.")
        assert [entry["dtype"] for entry in described["digital"]] == [usual, usual]
        loaded = nc.load(cells)
        costs.append(loaded.cost.to_dict())
        nc.save(tmp_path / "again", loaded)
        costs.append(nc.load(tmp_path / "again").cost.to_dict())
        run("read", cells, "-o", out)
        read = st.load_file(out)
        assert read["kept"].dtype == dtype and read["scalar"].shape == ()
        assert torch.equal(read["kept"].view(torch.uint8), kept.view(torch.uint8))
    assert all(cost == costs[0] for cost in costs)


@pytest.mark.parametrize("dtype", WEIGHTS, ids=str)
def test_weights_come_back_in_their_dtype(dtype: torch.dtype, tmp_path: Path) -> None:
    """Through both kinds of files and ``nct.load``; numpy reads float32."""
    torch.manual_seed(0)
    state = {"fc.weight": torch.randn(10, 30).to(dtype), "fc.bias": torch.randn(10).to(dtype)}
    torch.save(state, tmp_path / "model.pt")
    st.save_file(state, tmp_path / "model.safetensors")
    read = []
    for source in ("model.pt", "model.safetensors"):
        cells, out = tmp_path / f"{source}.cells", tmp_path / f"{source}.out"
        run("store", tmp_path / source, "-o", cells)
        run("read", cells, "-o", out, "--seed", 3)
        with safe_open(out, "pt") as file:
            assert file.get_tensor("fc.weight").dtype == dtype
        read.append(st.load_file(out))
        stored = nc.load(cells)
        assert usual_name(stored["fc.weight"].dtype) == str(dtype).removeprefix("torch.")
        assert stored.read(3)["fc.weight"].dtype == np.float32
    for name in state:
        assert torch.equal(read[0][name].float(), read[1][name].float())
    assert torch.equal(read[0]["fc.bias"].float(), state["fc.bias"].float())
    expected = torch.from_numpy(nct.store(state, CODEC).read(3)["fc.weight"]).to(dtype)
    assert torch.equal(read[0]["fc.weight"].float(), expected.float())


def test_weights_beyond_the_range_of_their_dtype(tmp_path: Path) -> None:
    """Noise may take a read-back there; no infinity comes of it unsaid."""
    w = torch.full((40, 40), 65_000.0, dtype=torch.float16)
    st.save_file({"fc.weight": w}, tmp_path / "model")
    encode_file(tmp_path / "model", tmp_path / "cells", nc.Codec(nc.Channel.gaussian(0.2)))
    with pytest.raises(
        ValueError, match=r"tensor 'fc.weight': expected numbers within .* F16, got"
    ):
        read_file(tmp_path / "cells", tmp_path / "read", 1)
    assert not (tmp_path / "read").exists()
    layer = torch.nn.Linear(40, 40, bias=False, dtype=torch.float16)
    model = torch.nn.ModuleDict({"fc": layer})
    before = layer.weight.detach().clone()
    with pytest.raises(ValueError, match=r"model: expected a dtype for 'fc.weight' that holds"):
        nct.load(nc.load(tmp_path / "cells"), model, seed=1)
    assert torch.equal(layer.weight, before)


def test_dtypes_that_no_file_holds(tmp_path: Path) -> None:
    state = {"fc.weight": torch.randn(4, 4), "kept": torch.zeros(3, dtype=torch.complex128)}
    stored = nct.store(state, CODEC)
    assert stored.cost.digital_bits == 3 * 128
    with pytest.raises(
        ValueError, match=r"tensor 'kept\.digital': expected a dtype of safetensors"
    ):
        nc.save(tmp_path / "cells", stored)
    assert not (tmp_path / "cells").exists()
