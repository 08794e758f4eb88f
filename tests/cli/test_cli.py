"""The command line, end to end: help, store, read, inspect, fit, errors."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest
from command_line import run, succeed
from safetensors.numpy import load_file, save_file

import noisycells as nc
from noisycells.cli import main
from noisycells.cli.options import progress

WEIGHTS = {
    "fc.weight": np.random.default_rng(0).standard_normal((40, 30)).astype(np.float32),
    "fc.bias": np.arange(40, dtype=np.float32),
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    save_file(WEIGHTS, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


@pytest.fixture
def stored(tmp_path: Path, model: Path) -> Path:
    succeed("store", model, "-o", tmp_path / "stored.safetensors", "--cells", "1,4")
    return tmp_path / "stored.safetensors"


def test_help_and_version() -> None:
    assert succeed() == succeed("--help")
    assert succeed("--version") == f"noisycells {nc.__version__}\n"
    for command in main.commands:
        assert f"Usage: noisycells {command}" in succeed(command, "--help")


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from noisycells.cli import main\n"
        "try: main(['demo', '--help'])\n"
        "finally: print(sorted({'torch', 'sklearn', 'scipy', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_installed_command() -> None:
    """The command as a user runs it, in a process of its own."""
    command = Path(sysconfig.get_path("scripts")) / "noisycells"
    good = subprocess.run([command, "devices", "--json"], capture_output=True, check=True)
    assert [row["name"] for row in json.loads(good.stdout)] == nc.devices.names()
    bad = subprocess.run(
        [command, "inspect", os.devnull], capture_output=True, text=True, check=False
    )
    assert (bad.returncode, bad.stdout, bad.stderr.count("\n")) == (2, "", 1)


def test_store_and_read(tmp_path: Path, model: Path, stored: Path) -> None:
    codec = nc.Codec(nc.devices.pcm_array(), cells=(1, 4))
    expected = codec.encode({"fc.weight": WEIGHTS["fc.weight"]})
    output = tmp_path / "read.safetensors"
    for seed, chip in ((0, 0), (7, 3)):
        succeed("read", stored, "-o", output, "--force", "--seed", seed, "--chip", chip)
        read = load_file(output)
        assert read.keys() == WEIGHTS.keys()
        assert np.array_equal(read["fc.weight"], expected["fc.weight"].read(seed, chip=chip))
        assert np.array_equal(read["fc.bias"], WEIGHTS["fc.bias"])
    succeed("read", stored, "-o", output, "--force", "--side-errors")
    read = load_file(output)["fc.weight"]
    assert np.array_equal(read, expected["fc.weight"].read(0, side_errors=True))


def test_store_prints_the_cost(tmp_path: Path, model: Path) -> None:
    output = tmp_path / "stored.safetensors"
    cost = json.loads(succeed("store", model, "-o", output, "--mean-cells", 1.5, "--json"))
    stored = nc.load(output)
    assert cost == json.loads(json.dumps(stored.cost.to_dict()))
    assert 1 < cost["mean_cells"] <= 1.5
    again = succeed("store", model, "-o", output, "--mean-cells", 1.5, "--force")
    assert again == f"{stored.cost}\n"


def test_store_options(tmp_path: Path) -> None:
    pruned = WEIGHTS["fc.weight"] * (np.abs(WEIGHTS["fc.weight"]) > 1)
    save_file({**WEIGHTS, "fc.weight": pruned}, tmp_path / "model.safetensors")
    output = tmp_path / "stored.safetensors"
    options = ["--no-sign-protection", "--thresholds", "1.5,2", "--scope", "model"]
    options += ["--device", "synthetic_pcm", "--write-bits", "auto", "--nonzero", "--store-biases"]
    succeed("store", tmp_path / "model.safetensors", "-o", output, *options, "--cells", "1,2,3")
    stored = nc.load(output)
    codec = nc.Codec(
        nc.devices.synthetic_pcm(),
        sign_protection=False,
        thresholds=(1.5, 2),
        cells=(1, 2, 3),
        scope="model",
        write_bits="auto",
    )
    expected = codec.encode({"fc.weight": pruned, "fc.bias": WEIGHTS["fc.bias"]}, "nonzero")
    assert stored.keys() == expected.keys() and not stored.digital
    for name, tensor in expected.items():
        assert stored[name].codec.to_dict() == codec.to_dict()
        assert np.array_equal(stored[name].read(1), tensor.read(1))
    options = ["--force", "--no-adaptive-mapping"]
    succeed("store", tmp_path / "model.safetensors", "-o", output, *options)
    assert nc.load(output)["fc.weight"].codec.ranges == 1
    succeed("store", tmp_path / "model.safetensors", "-o", output, "--force", "--write-bits", 5)
    assert nc.load(output)["fc.weight"].codec.write_bits == (5, 5)


@pytest.mark.parametrize("mode", ["coded", "levels"])
def test_coded_modes(mode: str, tmp_path: Path, model: Path) -> None:
    stored, output = tmp_path / "stored.safetensors", tmp_path / "read.safetensors"
    own = ["--step", 0.1] if mode == "coded" else ["--radices", "4,4"]
    options = ["--mode", mode, *own, "--noise-margin", 1.2, "--device", "synthetic_pcm"]
    cost = json.loads(succeed("store", model, "-o", stored, *options, "--json"))
    loaded = nc.load(stored)
    assert isinstance(loaded, nc.storage.CodedModel) and loaded.codec.noise_margin == 1.2
    assert cost["total_cells"] == loaded.cost.total_cells
    succeed("read", stored, "-o", output, "--seed", 5)
    read = load_file(output)
    assert np.array_equal(read["fc.weight"], loaded.read(5)["fc.weight"])
    assert np.array_equal(read["fc.bias"], WEIGHTS["fc.bias"])
    text = succeed("inspect", stored)
    assert f"mode {mode}, synthetic_pcm" in text and text.endswith(f"{loaded.cost}\n")
    described = json.loads(succeed("inspect", stored, "--json"))
    assert described["mode"] == mode and described["tensors"]["fc.weight"]["shape"] == [40, 30]
    for wrong in (
        ["--radices", "4"] if mode == "coded" else ["--step", "0.25"],
        *(["--cells", "1"], ["--mean-cells", "2"], ["--thresholds", "1"], ["--write-bits", "4"]),
        *(["--no-sign-protection"], ["--adaptive-mapping"], ["--scope", "tensor"]),
    ):
        result = run("store", model, "-o", stored, "--force", "--mode", mode, *wrong)
        assert result.exit_code == 2 and f"expected none with --mode {mode}" in result.output
    result = run("store", model, "-o", stored, "--force", "--step", 1)
    assert result.exit_code == 2 and "--step: expected none with --mode paper" in result.output
    result = run("read", stored, "-o", tmp_path / "other", "--side-errors")
    assert result.exit_code == 2 and "side_errors: expected False" in result.output
    assert not (tmp_path / "other").exists()


def test_store_a_torch_state_dict(tmp_path: Path, stored: Path) -> None:
    torch = pytest.importorskip("torch")
    state = {name: torch.from_numpy(value) for name, value in WEIGHTS.items()}
    torch.save(state, tmp_path / "model.pt")
    output = tmp_path / "from_torch.safetensors"
    succeed("store", tmp_path / "model.pt", "-o", output, "--cells", "1,4")
    assert output.read_bytes() == stored.read_bytes()


def test_files_are_not_written_over(
    tmp_path: Path, model: Path, stored: Path, measurements: Path
) -> None:
    """Without --force; a source never; a pipe, a device or a directory never, and at once."""
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    taken = tmp_path / "taken.png"
    os.mkfifo(tmp_path / "pipe")
    commands = (
        ("store", model, "-o"),
        ("read", stored, "-o"),
        ("fit", measurements, "--x", "pulse", "--y", "read", "-o"),
        ("fit", measurements, "--x", "pulse", "--y", "read", "--plot"),
    )
    for command in commands:
        taken.write_bytes(b"taken")
        result = run(*command, taken)
        assert result.exit_code == 2 and result.stderr.count("\n") == 1
        assert re.search(r"taken.png exists; --force writes over it", result.stderr)
        assert taken.read_bytes() == b"taken"
        for forced in ((), ("--force",)):
            result = run(*command, tmp_path / "pipe", *forced)
            assert result.exit_code == 2, result.output
            assert "pipe: expected a regular file to write, got a FIFO" in result.stderr
            assert run(*command, tmp_path, *forced).exit_code == 2
        succeed(*command, taken, "--force")
        assert taken.read_bytes() != b"taken"
    for command, source in (("store", model), ("read", stored)):
        before = source.read_bytes()
        result = run(command, source, "-o", source, "--force")
        assert result.exit_code == 2 and "which is read" in result.stderr
        assert source.read_bytes() == before


def test_a_torch_file_is_not_written_over(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save({"fc.weight": torch.eye(3)}, tmp_path / "model.pt")
    before = (tmp_path / "model.pt").read_bytes()
    (tmp_path / "link").symlink_to("model.pt")
    for name in ("model.pt", "link"):
        result = run("store", tmp_path / "model.pt", "-o", tmp_path / name, "--force")
        assert result.exit_code == 2 and "which is read" in result.stderr
    assert (tmp_path / "model.pt").read_bytes() == before


def test_tied_weights_keep_their_names(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    weight = torch.randn(20, 8)
    torch.save({"emb.weight": weight, "head.weight": weight}, tmp_path / "lm.pt")
    cells, output = tmp_path / "cells", tmp_path / "read"
    cost = json.loads(succeed("store", tmp_path / "lm.pt", "-o", cells, "--json"))
    assert cost["stored_weights"] == 160
    assert "head.weight: the same as emb.weight\n" in succeed("inspect", cells)
    described = json.loads(succeed("inspect", cells, "--json"))
    assert described["aliases"] == {"head.weight": "emb.weight"}
    succeed("read", cells, "-o", output)
    read = load_file(output)
    assert read.keys() == {"emb.weight", "head.weight"}
    assert np.array_equal(read["emb.weight"], read["head.weight"])


def test_inspect(stored: Path) -> None:
    model = nc.load(stored)
    text = succeed("inspect", stored)
    assert "fc.weight: 40 x 30, pcm_array, cells a weight: 1 up to" in text
    assert "fc.bias: 40, digital" in text and text.endswith(f"{model.cost}\n")
    described = json.loads(succeed("inspect", stored, "--json"))
    (tensor,) = described["tensors"]
    assert (tensor["name"], tensor["shape"]) == ("fc.weight", [40, 30])
    assert tensor["codec"]["channel"] == "pcm_array" and tensor["codec"]["cells"] == [1, 4]
    assert [r["weights"] for r in tensor["ranges"]] == list(model["fc.weight"].counts)
    assert described["digital"] == [{"name": "fc.bias", "shape": [40], "dtype": "float32"}]
    assert described["cost"]["total_cells"] == model.cost.total_cells


def test_inspect_a_single_tensor(tmp_path: Path) -> None:
    tensor = nc.Codec(nc.devices.pcm_array()).encode(WEIGHTS["fc.weight"], name="w")
    nc.save(tmp_path / "w.safetensors", tensor)
    assert succeed("inspect", tmp_path / "w.safetensors").startswith("w: 40 x 30, pcm_array")


@pytest.fixture
def measurements(tmp_path: Path) -> Path:
    x = np.linspace(-1, 1, 400)
    y = nc.devices.synthetic_pcm().sample(x, seed=1)
    lines = ["level,pulse,read", *(f"0,{a},{b}" for a, b in zip(x, y, strict=True))]
    (tmp_path / "cells.csv").write_text("\n".join(lines))
    return tmp_path / "cells.csv"


def test_fit(tmp_path: Path, measurements: Path, model: Path) -> None:
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    cell, picture = tmp_path / "cell.json", tmp_path / "cell.png"
    by_name = succeed(
        *("fit", measurements, "--x", "pulse", "--y", "read", "--neighbors", 20),
        *("--name", "ours", "-o", cell, "--plot", picture, "--json"),
    )
    figures = json.loads(by_name)
    channel = nc.Channel.from_json(cell.read_text())
    assert channel.name == "ours" and figures["range"] == list(channel.range)
    assert (figures["samples"], figures["neighbors"]) == (400, 20)
    assert picture.read_bytes().startswith(b"\x89PNG")
    by_number = succeed("fit", measurements, "--x", 1, "--y", 2, "--neighbors", 20)
    assert f"samples         {400}\n" in by_number

    output = tmp_path / "stored.safetensors"
    succeed("store", model, "-o", output, "--device", cell)
    assert nc.load(output)["fc.weight"].codec.channel == channel


def test_fit_of_a_cell_without_noise(tmp_path: Path) -> None:
    """Of unlimited capacity, which is null in JSON."""
    pytest.importorskip("sklearn")
    file = tmp_path / "exact.csv"
    file.write_text("".join(f"{i // 5},{i // 5}\n" for i in range(100)))
    figures = json.loads(succeed("fit", file, "--json"), parse_constant=pytest.fail)
    assert figures["capacity"] is None
    assert "capacity        any number\n" in succeed("fit", file)


def test_bench(monkeypatch: pytest.MonkeyPatch) -> None:
    """The measurement itself is tested in test_speed.py; here, that it is asked for."""
    from noisycells import speed

    asked = {}

    def measure(**options: object) -> dict[str, object]:
        asked.update(options)
        return {"rows": []}

    monkeypatch.setattr(speed, "run", measure)
    monkeypatch.setattr(speed, "render", lambda result: f"table of {result}")
    assert json.loads(succeed("bench", "--threads", "1,3", "--quick", "--json")) == {"rows": []}
    assert asked.pop("progress") and asked == {
        "threads": (1, 3),
        "level": None,
        "shrink": speed.QUICK,
    }
    assert succeed("bench", "--level", "baseline") == "table of {'rows': []}\n"
    assert (asked["level"], asked["shrink"]) == ("baseline", 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["frobnicate"], r"No such command 'frobnicate'"),
        (["store", "MODEL"], r"Missing option '-o' / '--output'"),
        (["store", "absent.safetensors", "-o", "OUT"], r"'absent.safetensors' does not exist"),
        (["store", "MODEL", "-o", "OUT", "--cells", "x"], r"expected whole numbers .* got 'x'"),
        (
            ["store", "MODEL", "-o", "OUT", "--cells", "0"],
            r"cells: expected an int in \[1, 65535\], got 0",
        ),
        (["store", "MODEL", "-o", "OUT", "--cells", "1,2,3"], r"cells: expected one number, or"),
        (["store", "MODEL", "-o", "OUT", "--write-bits", "x"], r"number of bits or auto, got 'x'"),
        (
            ["store", "MODEL", "-o", "OUT", "--device", "flash"],
            r"'--device': .*pcm_array.* got 'flash'",
        ),
        (
            ["store", "MODEL", "-o", "OUT", "--device", "absent.json"],
            r"'--device': .*No such file.*absent.json",
        ),
        (["store", "MODEL", "-o", "OUT", "--device", "EMPTY"], r"JSON"),
        (["store", "MODEL", "-o", "absent/out"], r"No such file or directory: .*absent"),
        (["store", "NAN", "-o", "OUT"], r"fc.weight.* NaN"),
        (["store", "EMPTY.safetensors", "-o", "OUT"], r"expected a safetensors file"),
        (["store", "EMPTY.pt", "-o", "OUT"], r"expected safetensors or a torch state dict"),
        (["store", "PICKLE.pt", "-o", "OUT"], r"expected safetensors or a torch state dict"),
        (["store", "LIST.pt", "-o", "OUT"], r"expected a torch state dict \(names and tensors\)"),
        (["store", "SPARSE.pt", "-o", "OUT"], r"sparse.pt: model: expected dense tensors .*'x'"),
        (["store", "MODEL", "-o", "MODEL"], r"model.safetensors exists; --force writes over it"),
        (["store", "MODEL", "-o", "MODEL", "--force"], r"model.safetensors: expected another file"),
        (["read", "MODEL", "-o", "OUT"], r"not a file of noisycells"),
        (["read", "STORED", "-o", "OUT", "--seed", "-1"], r"seed: expected an int in .* got -1"),
        (["read", "CUT", "-o", "OUT"], r"cut.safetensors: .*"),
        (["inspect", "MODEL"], r"not a file of noisycells"),
        (["fit", "EMPTY"], r"no measurements"),
        (["fit", "CSV", "--x", "volt"], r"volt"),
        (["fit", "CSV", "--x", "1", "--y", "2", "--neighbors", "1"], r"neighbors: .* got 1"),
        (["demo", "--data", "cifar"], r"data: expected 'digits', .* got 'cifar'"),
        (["demo", "--data", "."], r"expected a file train-images-idx3-ubyte"),
        (["demo", "--device", "flash"], r"'--device': .*pcm_array.* got 'flash'"),
        (["demo", "--repeats", "1"], r"'--repeats': 1 is not in the range 2<=x<="),
        (["demo", "--cells", "3,0"], r"cells: expected numbers of at least 1, got \(3, 0\)"),
        (["demo", "--seed", "-1"], r"seed: expected an int in .* got -1"),
        (["demo", "--scope", "layer"], r"'layer' is not one of 'model', 'tensor'"),
        (["bench", "--level", "mmx"], r"level: expected one of .* got 'mmx'"),
        (["bench", "--threads", "0"], r"threads: expected .* got 0"),
    ],
)
def test_errors_are_one_line(
    tmp_path: Path,
    model: Path,
    stored: Path,
    measurements: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    for name in ("empty.json", "empty.safetensors", "empty.pt"):
        (tmp_path / name).touch()
    (tmp_path / "cut.safetensors").write_bytes(stored.read_bytes()[:-1])
    save_file({"fc.weight": np.full((4, 4), np.nan, np.float32)}, tmp_path / "nan.safetensors")
    torch.save([torch.zeros(2)], tmp_path / "list.pt")
    torch.save({"w": torch.eye(3), "x": torch.eye(3).to_sparse()}, tmp_path / "sparse.pt")
    torch.save(Path("code"), tmp_path / "pickle.pt")  # an object that only code can build
    places = {
        "MODEL": model.name,
        "STORED": stored.name,
        "CSV": measurements.name,
        "OUT": "out.safetensors",
        "NAN": "nan.safetensors",
        "CUT": "cut.safetensors",
        "EMPTY": "empty.json",
        **{f"{name.upper()}.pt": f"{name}.pt" for name in ("empty", "list", "pickle", "sparse")},
        "EMPTY.safetensors": "empty.safetensors",
    }
    result = run(*(places.get(argument, argument) for argument in arguments))
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("noisycells: ") and result.stderr.count("\n") == 1
    assert re.search(message, result.stderr), result.stderr
    assert not (tmp_path / "out.safetensors").exists()


def test_progress_is_shown_to_a_person(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for stream, shown in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", stream)
        with progress("train", 4) as step:
            for _ in range(4):
                step()
        assert ("train" in stream.getvalue() and "100%" in stream.getvalue()) == shown
        assert bool(stream.getvalue()) == shown


def test_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    result = run("demo")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1 and "pip install 'noisycells[all]'" in result.stderr
