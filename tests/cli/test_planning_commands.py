"""``noisycells plan``, ``store --budget`` and ``inspect --audit``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import fail, succeed
from safetensors.numpy import save_file

import noisycells as nc

WEIGHTS = {
    "fc.weight": np.random.default_rng(0).standard_normal((80, 90)).astype(np.float32),
    "fc.bias": np.arange(80, dtype=np.float32),
}
PCM = ("--device", "synthetic_pcm")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    save_file(WEIGHTS, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def test_plan(tmp_path: Path, model: Path) -> None:
    text = succeed("plan", model, *PCM, "-o", tmp_path / "plan.json")
    expected = nc.storage.plan({"fc.weight": WEIGHTS["fc.weight"]}, "synthetic_pcm", max_loss=0.01)
    assert text == f"{expected}\n"
    assert json.loads((tmp_path / "plan.json").read_text()) == expected.to_dict()


def test_plan_of_a_file_of_torch(tmp_path: Path, model: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save({name: torch.as_tensor(w) for name, w in WEIGHTS.items()}, tmp_path / "model.pt")
    options = ("--budget", 3, "--mode", "levels", "--json")
    of_torch, of_file = (
        json.loads(succeed("plan", file, *PCM, *options)) for file in (tmp_path / "model.pt", model)
    )
    assert of_torch == of_file and of_file["settings"][0]["per_original"] <= 3


def test_a_device_of_ones_own(tmp_path: Path, model: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text(nc.devices.get("rram_mlc_2bit").to_json())
    assert "coded" in succeed("plan", model, "--device", file, "--max-loss", 0.05)


@pytest.mark.parametrize(
    "given", [["--budget", 2.2], ["--max-loss", 0.02], ["--budget", 2.5, "--mode", "levels"]]
)
def test_store_as_planned(tmp_path: Path, model: Path, given: list[object]) -> None:
    stored = tmp_path / "stored.safetensors"
    text = succeed("store", model, "-o", stored, *PCM, *given)
    best = json.loads(succeed("plan", model, *PCM, *given, "--json"))["settings"][0]
    assert text.startswith(f"mode {best['mode']}, {best['settings']}\n")
    assert nc.load(stored).cost.total_cells == pytest.approx(best["cells"], rel=0.03)


def test_refusals(tmp_path: Path, model: Path) -> None:
    output = ("-o", tmp_path / "stored.safetensors")
    for wrong, message in (
        (["--max-drop", 1], "--network: expected a name with --max-drop, got none"),
        (["--budget", 1, "--max-loss", 1], "--budget, --max-loss, --max-drop: expected one"),
        (["--budget", 1, "--step", 0.5], "--step: expected none where settings are planned"),
        (["--network", "LeNet"], "--network: expected none without --budget"),
        (["--budget", 1e-6], "plan: expected a mode for cells an original weight: at most 1e-06"),
    ):
        assert message in fail("store", model, *output, *PCM, *wrong)
    assert not output[1].exists()


def test_weights_of_another_network_are_refused(tmp_path: Path, model: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")  # has the digits
    output = tmp_path / "stored.safetensors"
    text = fail("store", model, "-o", output, *PCM, "--budget", 1, "--network", "MLP")
    assert "expected the weights of MLP for digits" in text
    assert not output.exists()


def test_planned_by_validation_images(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("sklearn")  # has the digits
    import noisycells.torch as nct
    from noisycells.studies.engine.recipes import Recipe, Source
    from noisycells.studies.engine.training import _loaders, build

    recipe = Recipe(Source.of("digits"), "MLP", 0, 2)
    dataset = recipe.source.load()
    network = build(recipe, dataset)
    train, validation = _loaders(recipe, dataset)
    nct.fit(network, train, validation, epochs=3)
    file, stored = tmp_path / "mlp.pt", tmp_path / "stored.safetensors"
    torch.save(network.state_dict(), file)
    options = ("--max-drop", 5, "--network", "mlp", "--mode", "coded", *PCM)
    best = json.loads(succeed("plan", file, *options, "--json"))["settings"][0]
    assert best["drop"] <= 5 and best["feedback"]
    succeed("store", file, "-o", stored, *options)
    loaded = nc.load(stored)
    assert loaded.cost.total_cells == pytest.approx(best["cells"], rel=0.03)
    before = nct.evaluate(network, validation, 1, stored=loaded).mean
    clean = nct.accuracy(
        network,
        torch.cat([images for images, _ in validation]),
        torch.cat([labels for _, labels in validation]),
    )
    assert clean - before == pytest.approx(best["drop"], abs=1e-6)


@pytest.mark.parametrize("mode", ["paper", "coded", "levels", "analog"])
def test_audit(tmp_path: Path, model: Path, mode: str) -> None:
    stored = tmp_path / "stored.safetensors"
    succeed("store", model, "-o", stored, *PCM, "--mode", mode)
    given = {"fc.weight": WEIGHTS["fc.weight"]}
    expected = nc.load(stored).audit(given)
    assert succeed("inspect", stored, "--audit", "--weights", model) == f"{expected}\n"
    described = json.loads(succeed("inspect", stored, "--audit", "--json"))
    assert described["tensors"][0]["bias"] is None and "nominal" in described["capacity"]
    assert "--weights: expected none without --audit" in fail("inspect", stored, "--weights", model)
