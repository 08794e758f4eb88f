"""The studies of Zhou et al.: which networks they compare, and what their jobs measure."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("joblib")
pytest.importorskip("sklearn")

import noisycells as nc  # noqa: E402
import noisycells.torch as nct  # noqa: E402
from noisycells import random  # noqa: E402
from noisycells.intervals import student_t  # noqa: E402
from noisycells.studies import measures, zhou, zhou_losses, zhou_retraining  # noqa: E402
from noisycells.studies.engine import training  # noqa: E402
from noisycells.studies.engine.cache import Cache  # noqa: E402
from noisycells.studies.engine.jobs import Job, about, job  # noqa: E402
from noisycells.studies.engine.recipes import Recipe, Source, isik_recipe  # noqa: E402
from noisycells.studies.engine.study import Settings  # noqa: E402
from noisycells.studies.engine.tables import (  # noqa: E402
    Derived,
    Entry,
    Table,
    assemble,
    differences,
)
from noisycells.studies.engine.training import Trained  # noqa: E402

STUDIES = {study.name: study for study in (*zhou_losses.STUDIES, *zhou_retraining.STUDIES)}


@job
def nothing() -> None:
    pass


@pytest.fixture(scope="module")
def settings() -> Settings:
    return Settings(Source.of("digits", 300, 100), nc.devices.pcm_array(), repeats=2)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache(tmp_path_factory.mktemp("networks"))


@pytest.fixture
def trained(settings: Settings, cache: Cache) -> Trained:
    """A perceptron that has learnt something."""
    return training.network(isik_recipe(settings.source, "MLP", 0, epochs=8), cache)


def tables_of(name: str, settings: Settings) -> list[Table]:
    study = STUDIES[f"zhou-{name}"]
    return study.tables(study.complete(settings))


def recipes_of(table: Table) -> dict[tuple[str, Any], Recipe]:
    """The network of each entry of one seed."""
    found = {}
    for entry in table.entries:
        (job,) = entry.jobs
        assert job.recipe is not None
        found[entry.row, entry.column] = job.recipe
    return found


# --------------------------------------------------------------------------- curves


@pytest.mark.parametrize(
    ("level", "expected"),
    [(95, 0.0), (90, 0.0), (85, 0.05), (80, 0.1), (50, 0.25), (20, 0.4), (10, 0.4)],
)
def test_crossing(level: float, expected: float) -> None:
    """90 at 0, 80 at 0.1, 20 at 0.4, on lines; its ends where the level is outside."""
    assert zhou.crossing((0, 0.1, 0.4), (90, 80, 20), level) == pytest.approx(expected)


def test_crossing_is_the_first() -> None:
    assert zhou.crossing((0, 1, 2, 3), (90, 70, 90, 0), 80) == pytest.approx(0.5)


def test_pseudo_values() -> None:
    """Of a mean they are the values; of a variance by n their mean is the unbiased variance."""
    sample = np.array([[3.0, 1.0, 4.0, 1.5]])
    assert zhou.pseudo_values(lambda x: float(x.mean()), sample) == pytest.approx(sample[0])
    found = zhou.pseudo_values(lambda x: float(x.var()), sample)
    assert np.mean(found) == pytest.approx(sample.var(ddof=1))


def test_tolerated_noise_and_gain_by_hand() -> None:
    """Mean curves 90, 85, 75 and 90, 80, 60: 10 points below 90 at 0.15 and at 0.1."""
    etas = (0.0, 0.1, 0.2)
    ours, alone = [[90.0], [84.0, 86.0], [75.0, 75.0]], [[90.0], [80.0, 80.0], [60.0, 60.0]]
    # Without copy 1: 86 and 75, crossing at 0.1 + 0.1 * 6 / 11; without copy 2 at 0.1 * 4 / 9.
    without = np.array([0.1 + 0.1 * 6 / 11, 0.1 + 0.1 * 4 / 9])
    found = zhou._tolerated(etas, 10.0, [[90.0], *ours])
    assert found == pytest.approx(2 * 0.15 - without)
    assert zhou._gain(etas, 10.0, [*ours, *alone]) == pytest.approx(2 * 1.5 - without / 0.1)


def test_derived_entries_take_one_seed_at_a_time() -> None:
    jobs = [Job(nothing, {"n": n}) for n in range(4)]
    results = {job.key: {"accuracies": [n, n + 1.0]} for n, job in enumerate(jobs)}
    first, second = Entry("a", 0, tuple(jobs[:2])), Entry("a", 1, tuple(jobs[2:]))
    product = Derived(
        "b", 2, (first, second), lambda runs: [a * b for a, b in zip(*runs, strict=True)]
    )
    assert list(product.jobs) == jobs
    (entry,) = assemble(Table("t", "r", "c", "u", (product,)), results)["entries"]
    assert product.runs(results) == [[0.0, 3.0], [3.0, 8.0]]
    assert entry["runs"] is None and entry["values"] == [2, 2]
    assert (entry["row"], entry["column"], entry["mean"]) == ("b", 2, 3.5)
    assert entry["spread"] == pytest.approx(4 / math.sqrt(2))


def test_differences_are_in_pairs() -> None:
    """Each entry less another, value by value; the other may have a single one."""
    jobs = {name: Job(nothing, {"name": name}) for name in "abc"}
    values = {"a": [90.0, 80.0, 70.0], "b": [91.0, 79.0, 72.0], "c": [75.0]}
    results = {jobs[name].key: {"accuracies": found} for name, found in values.items()}
    entries = tuple(Entry(name, 1, (job,)) for name, job in jobs.items())
    table = Table("t", "rows", "columns", "u", (*entries, Entry("alone", 2, (jobs["a"],))))
    for reference, expected in (
        ("a", {"b": [1.0, -1.0, 2.0], "c": [-15.0, -5.0, 5.0]}),
        ("c", {"a": [15.0, 5.0, -5.0], "b": [16.0, 4.0, -3.0]}),
    ):
        found = differences(table, "less", lambda row, column, to=reference: (to, column))
        assert {entry.row: entry.runs(results) for entry in found.entries} == {
            row: [values] for row, values in expected.items()
        }
        assert all(entry.column == 1 for entry in found.entries)
    less = assemble(differences(table, "less", lambda row, column: ("a", 1)), results)
    by_hand = student_t(0.95, 2) * np.std([1, -1, 2], ddof=1) / math.sqrt(3)
    assert less["entries"][0]["half_width"] == pytest.approx(by_hand)


# --------------------------------------------------------------------------- jobs


def test_losses_by_hand(trained: Trained) -> None:
    """One noisy copy: W + eta (W_max - W_min) N(0, 1), cross entropies by their formulas."""
    seed, eta = 3, 0.1
    noise = {"eta": eta, "norm": "range"}
    found = zhou_losses.losses(trained, noise=noise, repeats=2, seed=seed)
    images = torch.from_numpy(trained.dataset.normalize(trained.dataset.test_images))
    labels = torch.from_numpy(trained.dataset.test_labels)
    with torch.no_grad():
        clean = trained.model(images).double().log_softmax(1)
        key = random.fold_in(seed, random.fold_in(seed, 0))  # draw fold_in(seed, 0) of that seed
        ratios = []
        for name, weight in trained.model.named_parameters():
            if weight.ndim < 2:
                continue
            sigma = eta * (weight.max() - weight.min())
            ratios.append((sigma / weight.abs().max(), sigma / weight.std(correction=0)))
            z = random.standard_normal(tuple(weight.shape), key, random.stream(name, "noise"))
            weight.add_(sigma * torch.from_numpy(z))
        noisy = trained.model(images).double().log_softmax(1)
    rows = torch.arange(len(labels))
    loss = -clean[rows, labels].mean()
    assert found["loss"] == pytest.approx(float(loss), rel=1e-4)
    assert found["labels"][0] == pytest.approx(float(-noisy[rows, labels].mean() / loss), rel=1e-3)
    divergence = (clean.exp() * (clean - noisy)).sum(1).mean() / loss
    assert found["outputs"][0] == pytest.approx(float(divergence), rel=1e-3)
    right = (noisy.argmax(1) == labels).double().mean()
    assert found["accuracies"][0] == pytest.approx(100 * float(right))
    assert len(found["accuracies"]) == len(found["labels"]) == len(found["outputs"]) == 2
    means = np.mean(np.array(ratios), 0)
    assert (found["to_max"], found["to_std"]) == pytest.approx(tuple(means), rel=1e-4)


def test_losses_without_noise(trained: Trained) -> None:
    found = zhou_losses.losses(trained, noise={"eta": 0.0, "norm": "range"}, repeats=2, seed=0)
    assert found["labels"] == [1.0, 1.0]
    assert found["outputs"] == pytest.approx([0.0, 0.0], abs=1e-6)
    assert found["accuracies"] == [pytest.approx(trained.record["accuracy"])] * 2
    assert nct.active_noise(trained.model) is None


@pytest.mark.parametrize("output", ["class", "softmax"])
def test_information_without_noise_and_in_noise(trained: Trained, output: str) -> None:
    """All of it without noise; where noise has drowned the weights, no more than chance.

    At eta = 5, of 4 seeds, the plug-in estimates are 0.07 to 0.1 and the corrected ones within
    0.014 of 0, standard deviation 0.008; 0.2 and 0.06 are demanded.
    """
    options = {"output": output, "images": 100, "subsets": 2, "repeats": 20, "seed": 1}
    quiet = zhou_losses.information(trained, noise={"eta": 0.0, "norm": "range"}, **options)
    assert quiet["plug_in"] == pytest.approx([1.0, 1.0])
    assert quiet["bits"][0] != quiet["bits"][1]  # of other images
    assert all(0 < bits <= math.log2(100) for bits in quiet["bits"])
    loud = zhou_losses.information(trained, noise={"eta": 5.0, "norm": "range"}, **options)
    assert loud["bits"] == quiet["bits"]
    assert all(0 < share < 0.2 for share in loud["plug_in"])
    assert all(abs(share) < 0.06 for share in loud["corrected"])
    with pytest.raises(ValueError, match="images: expected at most 300, got 301"):
        zhou_losses.information(trained, noise={"eta": 0.0}, **{**options, "images": 301})


def test_quantized_without_retraining(settings: Settings, cache: Cache) -> None:
    """Weights on 15 levels, and the accuracy that quantize() gives by itself."""
    recipe = isik_recipe(settings.source, "MLP", 0, epochs=8)
    found = zhou_retraining.quantized(
        training.network(recipe, cache), quantize=zhou_retraining.BITS,
        noise={"eta": 0.0, "norm": "range"}, repeats=2, seed=0,
    )  # fmt: skip
    again = training.network(recipe, cache)
    data = again.dataset
    nct.quantize(again.model, 4, 4)
    with torch.no_grad():
        again.model(torch.from_numpy(data.normalize(data.train_images)))
    accuracy = nct.accuracy(again.model, data.normalize(data.test_images), data.test_labels)
    assert found["accuracies"] == [pytest.approx(accuracy)] * 2
    nct.dequantize(again.model, rounded=True)
    for weight in (p for p in again.model.parameters() if p.ndim == 2):
        assert len(weight.unique()) <= 15


# --------------------------------------------------------------------------- networks


def test_matched_noise(settings: Settings) -> None:
    """Each network is tested under the noise it was retrained with, a copy of its teacher."""
    (entries, *_) = tables_of("fig3a", settings)
    recipes = recipes_of(entries)
    etas = sorted({column for _, column in recipes} - {0.0})
    assert etas == sorted(zhou.ETAS)
    clean = recipes[zhou.NOTHING, 0.0]
    assert clean.noise is clean.start is clean.teacher is None and clean.epochs == 100
    for entry in entries.entries:
        (job,) = entry.jobs
        recipe = recipes[entry.row, entry.column]
        if entry.column == 0.0:
            assert job == about(recipe)
            continue
        assert job.arguments["noise"] == {"eta": entry.column, "norm": "range"}
        if entry.row == zhou.NOTHING:
            assert recipe == clean
            continue
        assert recipe.start == clean and recipe.epochs == 50
        assert recipe.teacher == (clean if "distillation" in entry.row else None)
        if entry.row in (zhou.NOISE, zhou.BOTH) or "consistency" in entry.row:
            assert (recipe.consistency is not None) == ("consistency" in entry.row)
            assert recipe.noise == {"eta": entry.column, "norm": "range", "clip": "initial"}
        elif entry.row.startswith(zhou.RANDOM):
            assert recipe.noise is not None and recipe.noise["eta"] == [0.0, 0.15]
        elif entry.row in ("noise + clipping", "noise + distillation + clipping"):
            assert recipe.noise == {"eta": entry.column, "norm": "range", "clip": 2.0}
        elif entry.row == "clipping":
            assert recipe.noise == {"eta": 0.0, "clip": 2.0}
        else:
            assert (entry.row, recipe.noise) == (zhou.TAUGHT, None)
    recalibrated = tables_of("fig3a", replace(settings, model="ResNet32"))[0].entries[-1].jobs[0]
    assert recalibrated.arguments["recalibrate"] and recalibrated.recipe.learning_rate == 0.1


def test_other_figures_share_the_networks_of_fig3a(settings: Settings) -> None:
    for quick in (False, True):
        chosen = replace(settings, quick=quick)
        known = {recipe.key for recipe in recipes_of(tables_of("fig3a", chosen)[0]).values()}
        for name, model in (("fig2a", "LeNet"), ("fig3b", "LeNet"), ("fig6", "LeNet")):
            recipes = {
                recipe.key
                for table in tables_of(name, chosen)[:2]
                if not any(isinstance(entry, Derived) for entry in table.entries)
                for recipe in recipes_of(table).values()
                if recipe.model == model
            }
            assert recipes and recipes <= known, name


def test_mismatched_noise(settings: Settings) -> None:
    (entries,) = tables_of("fig3b", settings)
    for (row, _), recipe in recipes_of(entries).items():
        if ", eta " in row:
            assert recipe.noise is not None
            assert f"{recipe.noise['eta']:g}" == row.rpartition(" ")[2]
            assert recipe == recipes_of(entries)[row, 0.0]
    assert {column for _, column in recipes_of(entries)} == {0.0, *zhou.ETAS}


def test_four_bits(settings: Settings) -> None:
    """Students are quantized, the teacher is not; noise is relative to the quantized weights."""
    tables = tables_of("fig4", replace(settings, quick=True, epochs=4))
    for (row, eta), recipe in recipes_of(tables[0]).items():
        if row == zhou.NOTHING:
            assert recipe.quantize is None
            continue
        assert recipe.quantize == {"weight_bits": 4, "activation_bits": 4}
        assert recipe.start is not None and recipe.start.quantize is None
        if recipe.teacher is not None:
            assert recipe.teacher == recipe.start
        if row in (zhou.NOISE, zhou.BOTH):
            assert recipe.noise == ({"eta": eta, "norm": "range"} if eta else None)
    during = recipes_of(tables[2])
    assert {row for row, _ in during} == {zhou.NOISE, zhou.BOTH}
    assert {epoch for _, epoch in during} == {1, 2}
    assert all(recipe.noise == {"eta": 0.057, "norm": "range"} for recipe in during.values())


def test_what_decides_about_distillation(settings: Settings) -> None:
    """One change at a time: temperature, weight, form, teacher, or the length of retraining."""
    from noisycells.studies.engine.recipes import isik_recipe

    usual, longer, *_ = tables_of("distillation", replace(settings, epochs=6))
    recipes = recipes_of(usual)
    assert sorted({eta for _, eta in recipes}) == [0.0, 0.08, 0.11, 0.15, 0.2]
    both = recipes["noise + distillation, T = 6", 0.2]
    assert both == zhou.METHODS[zhou.BOTH](recipes[zhou.NOISE, 0.0], 0.2)
    changes = {
        "noise + distillation, T = 2": {"temperature": 2.0, "alpha": 1.0, "form": "zhou"},
        "noise + distillation, alpha = 0.2": {"temperature": 6.0, "alpha": 0.2, "form": "zhou"},
        "noise + distillation, half each (Isik et al.)": {
            "temperature": 1.5, "alpha": 0.5, "form": "isik",
        },
    }  # fmt: skip
    for row, expected in changes.items():
        assert recipes[row, 0.2] == replace(both, distillation=expected)
    wide = isik_recipe(settings.source, "LeNetWide", 0, 6)
    row = "noise + distillation, taught by LeNetWide"
    assert recipes[row, 0.2] == replace(both, teacher=wide)
    for name in (zhou.NOISE, zhou.BOTH):
        usually = zhou.METHODS[name](recipes[zhou.NOISE, 0.0], 0.2)
        assert usually.epochs == 3
        assert recipes_of(longer)[name, 0.2] == replace(usually, epochs=12)


def test_variants(settings: Settings) -> None:
    """LeNet's variants, each its own teacher; or another model alone."""
    tables = tables_of("fig6", settings)
    above = [f"{model}: above noise alone" for model in zhou.VARIANTS]
    assert [table.title for table in tables[:-2]] == [*zhou.VARIANTS, *above]
    for table in tables[:4]:
        recipes = [*recipes_of(table).values()]
        assert {recipe.model for recipe in recipes} == {table.title}
        assert all(recipe.teacher in (None, recipes[0]) for recipe in recipes)
    rows = {entry.row for entry in tables[-2].entries}
    assert "LeNetDeep, noise + distillation" in rows and len(rows) == 12
    alone = tables_of("fig2b", replace(settings, model="MLP"))
    norms = {
        (table.title.partition(",")[0], job.arguments["noise"]["norm"])
        for table in alone
        for entry in table.entries
        if isinstance(entry, Entry)
        for job in entry.jobs
    }
    assert norms == {
        ("Predicted class", "range"), ("Softmax histogram", "range"),
        ("Predicted class by deviation", "std"),
    }  # fmt: skip
    assert {entry.row for table in alone for entry in table.entries} == {"MLP"}


def test_retraining_under_noise_pays(settings: Settings, cache: Cache) -> None:
    """Weights are clipped to their former range, and accuracy under noise is higher.

    At eta = 0.25, of 4 seeds, 9 to 15 points more than without retraining; 4 are demanded.
    """
    clean = isik_recipe(Source.of("digits"), "MLP", 0, epochs=10)
    noisy = training.network(zhou.METHODS[zhou.BOTH](clean, 0.25), cache)
    before = training.network(clean, cache)
    for name, weight in noisy.model.named_parameters():
        if weight.ndim == 2:
            start = before.model.get_parameter(name)
            slack = 1e-3  # of the optimizer's last step, after the last clip
            assert weight.max() <= start.max() + slack and weight.min() >= start.min() - slack
    noise: dict[str, Any] = {"noise": {"eta": 0.25, "norm": "range"}, "repeats": 20, "seed": 0}
    accuracies = [
        np.mean(measures.perturbed(found, **noise)["accuracies"]) for found in (noisy, before)
    ]
    assert accuracies[0] > accuracies[1] + 4
