"""Networks by their recipe: keys, the cache, training that goes on."""

from __future__ import annotations

import dataclasses
import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from two_networks import mlp

torch = pytest.importorskip("torch")
joblib = pytest.importorskip("joblib")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

import noisycells as nc  # noqa: E402
from noisycells.studies.engine import training  # noqa: E402
from noisycells.studies.engine.cache import Cache, default_directory  # noqa: E402
from noisycells.studies.engine.recipes import (  # noqa: E402
    Recipe,
    Source,
    isik_recipe,
    pruned_recipe,
)
from noisycells.studies.engine.report import write_json  # noqa: E402


def everything(recipe: Recipe) -> Recipe:
    """A recipe with every kind of ancestor and noise."""
    codec = nc.Codec(nc.devices.pcm_array(), cells=2).to_dict()
    teacher = pruned_recipe(recipe)
    return dataclasses.replace(
        recipe, teacher=teacher, start=recipe, noise={"codec": codec}, distillation={"form": "isik"}
    )


def test_recipes_of_recipes(source: Source) -> None:
    recipe = everything(mlp(source))
    assert recipe.depth == 3
    assert [parent.pruned for parent in recipe.parents()] == [0, 0.8]


def test_recipe_key_is_of_all_that_decides(source: Source) -> None:
    recipe = mlp(source)
    changes: list[dict[str, Any]] = [
        {"model": "LeNet"}, {"seed": 1}, {"epochs": 2}, {"optimizer": "sgd"},
        {"learning_rate": 0.1}, {"weight_decay": 0.0}, {"schedule": "cosine"}, {"batch": 50},
        {"augment": "flip"}, {"start": recipe}, {"pruned": 0.5}, {"teacher": recipe},
        {"distillation": {"form": "zhou"}}, {"noise": {"eta": 0.1}}, {"quantize": {}},
        {"consistency": {"form": "outputs"}}, {"compute": "cuda"},
        {"precision": "bfloat16"}, {"source": Source.of("digits", 90, 60)},
        {"source": dataclasses.replace(source, digest="0")},
    ]  # fmt: skip
    assert {name for change in changes for name in change} == set(Recipe.__dataclass_fields__)
    keys = {dataclasses.replace(recipe, **change).key for change in changes}
    assert len(keys) == len(changes) and recipe.key not in keys
    moved = dataclasses.replace(source, name="elsewhere")
    assert dataclasses.replace(everything(recipe), source=moved).key == everything(recipe).key


def test_reports_hold_no_path(source: Source) -> None:
    recipe = everything(mlp(dataclasses.replace(source, name="/some/where")))
    assert "/some/where" not in json.dumps(recipe.describe())


def test_reports_have_a_list_of_numbers_on_a_line(tmp_path: Path) -> None:
    report = {"a": [], "b": [1, None, -2e-9], "c": ["[\n1\n]", 2], "d": [[1.5, 2], [{}]]}
    write_json(report, tmp_path / "report.json")
    text = (tmp_path / "report.json").read_text()
    assert json.loads(text) == report
    assert "[ 1, null, -2e-09 ]" in text and "[ 1.5, 2 ]" in text and text.count("\n") == 14


def test_source_refuses_other_images(source: Source) -> None:
    dataset = source.load()
    assert (len(dataset.train_images), len(dataset.test_images)) == (100, 60)
    with pytest.raises(ValueError, match=r"expected digits with the digest 12ab, got"):
        dataclasses.replace(source, digest="12ab").load()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "VGG"}, "model: expected one of 'LeNet', .* got 'VGG'"),
        ({"epochs": 0}, r"epochs: expected an int in \[1, \d+\], got 0"),
        ({"seed": -1}, "seed: expected"),
        ({"schedule": "steps"}, "schedule: expected one of 'constant', 'cosine', got 'steps'"),
    ],
)
def test_recipe_is_checked(source: Source, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mlp(source, **change)


def test_papers_recipes(source: Source) -> None:
    """Isik et al. 2020, appendix B."""
    small, residual = (isik_recipe(source, model, 0) for model in ("LeNet", "ResNet18"))
    assert (small.optimizer, small.learning_rate, small.batch, small.epochs) == (
        "adam", 0.001, 100, 100
    )  # fmt: skip
    assert (residual.optimizer, residual.learning_rate, residual.batch, residual.epochs) == (
        "sgd", 0.1, 128, 350
    )  # fmt: skip
    assert small.weight_decay == residual.weight_decay == 5e-4
    assert residual.augment is None  # gray images


def test_network_is_trained_once(
    source: Source, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = pruned_recipe(mlp(source))
    first = training.network(recipe, cache)
    assert {f"{r.key}.safetensors" for r in (recipe, recipe.start) if r is not None} == {
        file.name for file in cache.directory.iterdir()
    }
    monkeypatch.setattr(training, "_train", None)
    second = training.network(recipe, cache)
    pairs = zip(first.model.parameters(), second.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    kept = sum(mask.sum() for mask in second.masks.values())
    assert kept == round(0.2 * sum(mask.size for mask in second.masks.values()))
    about = training.about(second)
    assert about == training.about(first) and "seconds" not in about
    data = source.load()
    accuracy = 100 * np.mean(
        second.model(torch.from_numpy(data.normalize(data.test_images))).argmax(1).numpy()
        == data.test_labels
    )
    assert about["accuracy"] == pytest.approx(accuracy)


def test_training_goes_on_from_its_checkpoint(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = importlib.import_module("noisycells.torch.training.fit")
    recipe = mlp(source, epochs=4, noise={"eta": 0.05})
    whole = training.network(recipe, Cache(tmp_path / "whole"))
    parts = Cache(tmp_path / "parts")
    save = loop.TrainingState.save

    def stopping(self: Any, file: Path) -> None:
        save(self, file)
        if len(self.accuracies) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop.TrainingState, "save", stopping)
        with pytest.raises(KeyboardInterrupt):
            training.network(recipe, parts)
    assert [file.name for file in parts.directory.iterdir()] == [f"{recipe.key}.checkpoint"]
    resumed = training.network(recipe, parts)
    assert training.about(resumed) == training.about(whole)
    pairs = zip(whole.model.parameters(), resumed.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert [file.name for file in parts.directory.iterdir()] == [f"{recipe.key}.safetensors"]


def test_every_kind_of_training_counts(source: Source, cache: Cache) -> None:
    """Teacher, start, noise, channel noise, clipping, consistency, schedule: none is ignored."""
    plain = mlp(source)
    codec = nc.Codec(nc.devices.pcm_array()).to_dict()
    recipes = {
        "plain": plain,
        "start": mlp(source, start=plain),
        "teacher": mlp(source, teacher=pruned_recipe(plain), distillation={"form": "isik"}),
        "zhou": mlp(source, teacher=pruned_recipe(plain), distillation={"form": "zhou"}),
        "noise": mlp(source, noise={"eta": 0.02}),
        "random noise": mlp(source, noise={"eta": [0.0, 0.04]}),
        "cells": mlp(source, noise={"codec": codec}),
        "clipping": mlp(source, noise={"eta": 0.0, "clip": 1.5}),
        "features": mlp(
            source, noise={"eta": 0.02}, consistency={"form": "features", "weight": 1.0}
        ),
        "outputs": mlp(source, noise={"eta": 0.02}, consistency={"form": "outputs", "weight": 1.0}),
        "quantized": mlp(source, quantize={"weight_bits": 4}),
        "quantized start": mlp(source, start=plain, quantize={"weight_bits": 4}),
        "cosine": mlp(source, schedule="cosine"),
        "sgd": mlp(source, optimizer="sgd", learning_rate=0.01),
        "augmented": mlp(source, augment="flip"),
    }
    weights = {
        name: training.network(recipe, cache).model.get_parameter("fc1.weight").detach().numpy()
        for name, recipe in recipes.items()
    }
    digests = {name: array.tobytes() for name, array in weights.items()}
    assert len(set(digests.values())) == len(recipes)
    clipped = weights["clipping"]
    assert np.abs(clipped).max() < np.abs(weights["plain"]).max()


def test_cache_names_damaged_files(cache: Cache) -> None:
    cache.put("key", {"w": torch.arange(3.0)}, {"accuracy": 1.5})
    state, record = cache.get("key")  # type: ignore[misc]
    assert torch.equal(state["w"], torch.arange(3.0)) and record == {"accuracy": 1.5}
    assert cache.get("other") is None and "other" not in cache
    file = cache.file("key")
    file.write_bytes(file.read_bytes()[:20])
    with pytest.raises(ValueError, match=r"key\.safetensors: expected a trained network"):
        cache.get("key")
    assert len(list(cache.directory.iterdir())) == 1


def test_default_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_directory() == tmp_path / "noisycells"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_directory() == tmp_path / ".cache" / "noisycells"
