"""The study ``frontier``: what is stored, counted and chosen, and networks trained for few bits."""

from __future__ import annotations

import copy
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

import noisycells as nc  # noqa: E402
import noisycells.torch as nct  # noqa: E402
from noisycells.storage import Coded, Levels  # noqa: E402
from noisycells.storage.cost import index_cost  # noqa: E402
from noisycells.studies import (  # noqa: E402
    frontier,
    frontier_jobs,
    frontier_subjects,
    frontier_view,
    frontier_ways,
)
from noisycells.studies.engine import (  # noqa: E402
    Settings,
    Source,
    Trained,
    isik_recipe,
    pruned_recipe,
    rate_recipe,
)
from noisycells.studies.engine.cache import Cache  # noqa: E402
from noisycells.studies.engine.training import network, parts  # noqa: E402

CELL = nc.devices.synthetic_pcm()
X = np.linspace(-1, 1, 9)
EXACT = nc.Channel(X, X, 1e-9, name="exact")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def dense(cache: Cache) -> Trained:
    return network(isik_recipe(Source.of("digits", 600, 200), "MLP", 0, 6), cache)


@pytest.fixture(scope="module")
def pruned(cache: Cache, dense: Trained) -> Trained:
    return network(pruned_recipe(dense.recipe), cache)


def points(job: Any, trained: Trained, **arguments: Any) -> list[dict[str, Any]]:
    given = {"channel": CELL.to_dict(), "repeats": 2, **arguments}
    found: list[dict[str, Any]] = job(trained, **given)["points"]
    return found


# --------------------------------------------------------------------------- few bits


def test_networks_for_few_bits_are_stored_as_they_are(cache: Cache, dense: Trained) -> None:
    """Accuracy is that without noise, and cells are the estimated bits by those of a cell."""
    recipe = rate_recipe(dense.recipe, 0.3, epochs=30)
    trained = network(recipe, cache)
    assert trained.record["bits_per_weight"] < 2 and trained.recipe.rate == 0.3
    for name, step in trained.record["steps"].items():
        weight = trained.model.get_parameter(name)
        assert torch.equal((weight / step).round() * step, weight)
    setting = {"mode": "coded", "step": "learnt", "noise_margin": 1.0}
    (point,) = points(frontier_jobs.stored, copy.deepcopy(trained), settings=[setting])
    clean = frontier_jobs.noise_free(trained)
    assert point["test"] == [clean["test"]] * 2 and point["failed"] == 0
    bits = trained.record["bits_per_weight"]
    assert point["per_original"] * Coded(CELL).bits_per_cell == pytest.approx(bits, rel=0.15)
    assert point["at_capacity"] == pytest.approx(bits / CELL.capacity(), rel=0.03)


def test_control_is_the_same_training_without(cache: Cache, dense: Trained) -> None:
    trained = network(rate_recipe(dense.recipe, 0.0, epochs=2), cache)
    assert "steps" not in trained.record
    weight = trained.model.get_parameter("fc1.weight").detach()
    assert not torch.equal(weight, dense.model.get_parameter("fc1.weight").detach())
    assert len(torch.unique(weight)) > 0.9 * weight.numel()


def test_rate_training_has_steps_enough(dense: Trained) -> None:
    """15 epochs of many images, 800 steps of few."""
    assert rate_recipe(dense.recipe, 0.3).epochs == math.ceil(800 / 6)
    with pytest.raises(ValueError, match="rate: expected a finite number >= 0"):
        rate_recipe(dense.recipe, -1.0)


# --------------------------------------------------------------------------- other ways


def test_coded_counts_all_cells(pruned: Trained) -> None:
    step = {"mode": "coded", "noise_margin": 1.0}
    fine, coarse = points(
        frontier_jobs.stored, pruned, settings=[step | {"step": 0.1}, step | {"step": 0.8}]
    )
    assert fine["per_original"] > 1.5 * coarse["per_original"]
    assert fine["weights"] == sum(p.numel() for p in pruned.model.parameters())
    images = parts(pruned.dataset, 0)
    known = {
        "mask": pruned.masks,
        "moments": nct.input_moments(pruned.model, torch.as_tensor(images["train"][0])),
        "sensitivity": nct.sensitivity(pruned.model, torch.as_tensor(images["train"][0])),
    }
    by_hand = nct.store(
        pruned.model, Coded(CELL, step=0.1, noise_margin=1.0), store_biases=True, **known
    )
    cells = len(by_hand.cells) + 96 / Coded(CELL).bits_per_cell
    assert fine["per_original"] == pytest.approx(cells / fine["weights"])
    other = nct.load(by_hand, copy.deepcopy(pruned.model), seed=1)
    assert fine["test"] == [nct.accuracy(other, *images["test"])] * 2
    assert fine["validation"] == [nct.accuracy(other, *images["validation"])] * 2


def test_reads_that_fail_count_as_nothing(pruned: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any, **options: Any) -> Any:
        raise nc.DecodeError("lost")

    monkeypatch.setattr(nc.storage.CodedModel, "read", fail)
    setting = {"mode": "coded", "step": 0.3, "noise_margin": 1.0}
    (point,) = points(frontier_jobs.stored, pruned, settings=[setting])
    assert point["failed"] == 2 and point["test"] == point["validation"] == [0.0, 0.0]


def test_digits_are_planned_for_their_cells(pruned: Trained) -> None:
    """What nct.plan chooses for so many times the cells of one 4-level cell."""
    common = {"mode": "levels", "noise_margin": 1.1}
    one, planned, too_few = points(
        frontier_jobs.stored, pruned,
        settings=[{**common, "radices": [4]}, *({**common, "planned": p} for p in (1.25, 0.5))],
    )  # fmt: skip
    assert too_few == one  # what no plan can do is one 4-level cell
    images = parts(pruned.dataset, 0)
    x = torch.as_tensor(images["train"][0])
    given = {"mask": pruned.masks, "moments": nct.input_moments(pruned.model, x)}
    first = nct.store(pruned.model, Levels(CELL, radices=(4,)), store_biases=True, **given)
    best = nct.plan(
        pruned.model, CELL, budget=1.25 * first.cost.per_original, mode="levels",
        sensitivity=nct.sensitivity(pruned.model, x), store_biases=True, **given,
    ).best  # fmt: skip
    by_hand = nct.store(pruned.model, best.codec, store_biases=True, **given)
    assert one["per_original"] < planned["per_original"] < 1.27 * one["per_original"]
    assert len(by_hand.plain) > len(first.plain)
    chips = [nc.random.fold_in(0, k) for k in range(2)]
    read = [
        nct.accuracy(nct.load(by_hand, copy.deepcopy(pruned.model), k, chip=k), *images["test"])
        for k in chips
    ]
    assert planned["test"] == read


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("bits", "levels", "block", "digits"), [(8, 4, None, 4), (5, 4, 32, 3), (4, 2, None, 4)]
)
def test_integers(
    masked: bool, bits: int, levels: int, block: int | None, digits: int, pruned: Trained
) -> None:
    """In exact cells they are the nearest integers; cells, scales, biases and masks are counted."""
    setting = {"bits": bits, "levels": levels, "block": block}
    weight = pruned.model.fc1.weight.detach().numpy()
    read = frontier_jobs._read_integers("fc1.weight", weight, EXACT, 1, **setting)
    rows = frontier_jobs._blocked(weight, block)
    scale = np.abs(rows).max(1) / ((1 << (bits - 1)) - 1)
    error = np.abs(frontier_jobs._blocked(read - weight, block)).max(1)
    assert (error <= 0.502 * scale + 1e-9).all()
    assert (read[weight == 0] == 0).all()
    (point,) = points(frontier_jobs.integers, pruned, settings=[setting], masked=masked)
    weights = {n: p.detach().numpy() for n, p in pruned.model.named_parameters() if p.ndim > 1}
    stored = {n: int(pruned.masks[n].sum()) if masked else w.size for n, w in weights.items()}
    kept = sum(stored.values())
    digital = 16 * sum(len(frontier_jobs._blocked(w, block)) for w in weights.values()) + 32 * 210
    if masked:
        digital += sum(index_cost(w.size, stored[name])[0] for name, w in weights.items())
    cells = digits * kept + digital / Coded(CELL).bits_per_cell
    assert point["per_original"] * point["weights"] == pytest.approx(cells)


def test_mutual_information_of_gaussians() -> None:
    """0.5 log2(1 + 1 / s^2); 40,000 weights tell it to about 0.02 bits."""
    weights = np.random.default_rng(0).standard_normal(40_000).astype(np.float32)
    for std in (0.1, 0.5, 2.0):
        expected = 0.5 * math.log2(1 + 1 / std**2)
        assert frontier_jobs.mutual_information(weights, std) == pytest.approx(expected, abs=0.03)


def test_limit_falls_with_the_noise(pruned: Trained) -> None:
    fine, coarse = points(frontier_jobs.limit, pruned, steps=[0.05, 0.8])
    assert fine["per_original"] > 1.5 * coarse["per_original"]
    clean = frontier_jobs.noise_free(pruned)["test"]
    assert abs(np.mean(fine["test"]) - clean) < 3


def test_accuracies_leave_nothing_behind(pruned: Trained) -> None:
    network = frontier_subjects.Classifier(pruned)
    clean = network.figures({})
    wrong = {"fc1.weight": np.zeros((100, 784), np.float32)}
    assert network.figures(wrong)["test"] < clean["test"] - 30
    assert network.figures({}) == clean


# --------------------------------------------------------------------------- the tables


def test_choice_is_by_validation_images_and_cells() -> None:
    """Reference, validations, cells and figures of three settings."""
    runs = [[90.0], [89.95, 89.97], [89.8], [89.7], [0.5], [0.3], [0.2], [1.0], [2.0], [3.0]]
    for most, expected in ((0.1, 1.0), (0.25, 2.0), (0.5, 3.0), (0.01, 1.0)):
        assert frontier_ways._choose(most, runs) == [expected]


def test_ways_and_networks() -> None:
    settings = Settings(Source.of("digits", 100, 50), CELL, model="MLP", seeds=2)
    tables = {table.title: table for table in frontier.study().tables(settings)}
    assert "analog, 1 cell" in tables
    without = Settings(settings.source, nc.devices.pcm_array(), model="MLP")
    assert "analog, 1 cell" not in {table.title for table in frontier.study().tables(without)}
    trained = tables["rate-trained, margin 1"].entries[0].jobs[0].recipe
    assert trained is not None and trained.rate == frontier.RATES[0] and trained.pruned == 0
    assert trained.start is not None and trained.start.rate is None
    coded = tables["coded, margin 1.1"].entries[0]
    assert [job.recipe.seed for job in coded.jobs if job.recipe is not None] == [0, 1]
    assert all(job.recipe.pruned == 0.8 for job in coded.jobs if job.recipe is not None)


def test_chosen_ways_alone() -> None:
    """Nothing is trained, stored or drawn that was not asked for."""
    settings = Settings(Source.of("digits", 100, 50), CELL, model="MLP")

    def tables(*ways: str, **others: Any) -> dict[str, Any]:
        options = frontier.Options(ways, **others)
        return {table.title: table for table in frontier.study(options).tables(settings)}

    trained = tables("trained", rates=(0.2, 0.7))
    assert [t for t in trained if t.startswith("rate")] == [
        "rate-trained, margin 1", "rate-trained, margin 1.1",
    ]  # fmt: skip
    rates = {job.recipe.rate for t in trained.values() for e in t.entries for job in e.jobs
             if job.recipe is not None}  # fmt: skip
    assert rates == {None, 0.0, 0.2, 0.7}
    assert not any(
        job.recipe.pruned for t in trained.values() for e in t.entries for job in e.jobs
        if job.recipe is not None
    )  # fmt: skip
    coded = tables("coded", "disturbed")
    assert "Shannon limit, independent errors" in coded and "Cells other than learnt" in coded
    assert {e.row.partition(",")[0] for e in coded["Cells other than learnt"].entries} == {"coded"}
    assert "Cells other than learnt" not in tables("coded")


def test_below_the_control() -> None:
    """Beside what is lost to the dense network, what is lost to one trained as long."""
    options = frontier.Options(("trained",))
    settings = Settings(Source.of("digits", 100, 50), CELL, model="MLP")
    tables = {table.title: table for table in frontier.study(options).tables(settings)}
    found = {e.column: e for e in tables["rate-trained, margin 1"].entries if "0.3" in e.row}
    results = {job.key: {"test": 90.0, "points": [{"test": [88.0, 89.0]}]}
               for column in found for job in found[column].jobs}  # fmt: skip
    dense = found["drop"].jobs[0]
    results[dense.key] = {"test": 87.0}
    assert found["below control"].runs(results) == [[1.5]]
    assert found["drop"].runs(results) == [[-1.5]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ways": ("code",)}, "ways: expected some of paper, integers,"),
        ({"ways": ()}, "ways: expected some of paper"),
        ({"ways": ("disturbed",)}, "ways: expected disturbed with one of paper, levels, coded"),
        ({"ways": ("analog", "integers", "disturbed")}, "ways: expected disturbed with one of"),
        ({"ways": ("trained",), "encoder": "tiny"}, "ways: expected some of paper, integers,"),
        ({"rates": (0.1,), "ways": ("coded",)}, "rates: expected none without trained"),
        ({"rates": (0.1,), "encoder": "tiny"}, "rates: expected none without trained"),
        ({"rates": (0.1, 0.1)}, "rates: expected different numbers"),
        ({"rates": ()}, "rates: expected different numbers"),
        ({"rates": (-1.0,)}, "rates: expected a finite number > 0"),
        ({"test": 5}, "test: expected none without an encoder, got 5"),
        ({"test": 0, "encoder": "tiny"}, "test: expected an int in [1, "),
        ({"validation": 24, "encoder": "tiny"}, "validation: expected a multiple of 16, got 24"),
        ({"encoder": "nowhere"}, "encoder: expected a directory of a model of transformers"),
    ],
)
def test_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        frontier.Options(**options)


def test_cells_other_than_learnt(pruned: Trained) -> None:
    """What the codec knows is the learnt cell; what is read is the true one."""
    known = CELL.to_dict()
    setting = {"mode": "coded", "step": 0.5, "noise_margin": 1.0}
    drifted, louder = (frontier.DISTURBANCES[n](known) for n in ("5 % drift", "1.2 x noise"))
    low, high = min(known["mean"]), max(known["mean"])
    assert min(drifted["mean"]) == low
    assert max(drifted["mean"]) == pytest.approx(high - 0.05 * (high - low))
    assert louder["std"] == pytest.approx([1.2 * std for std in known["std"]])
    assert louder["read_std"] == pytest.approx([1.2 * std for std in known["read_std"]])
    assert nc.Channel.from_dict(frontier.DISTURBANCES["0.1 % stuck"](known)).stuck == (5e-4, 5e-4)
    given = {"settings": [setting], "learnt": known}
    (usual,) = points(frontier_jobs.stored, pruned, **given)
    (other,) = points(frontier_jobs.stored, pruned, channel=louder, **given)
    assert usual["per_original"] == other["per_original"] and usual["failed"] == 0
    silent = frontier._noisier(3.0, known)
    (lost,) = points(frontier_jobs.stored, pruned, channel=silent, **given)
    assert lost["failed"] == 2 and lost["test"] == [0.0, 0.0]


def test_figure_has_every_way(tmp_path: Path) -> None:
    from noisycells.studies.engine import study as engine
    from noisycells.studies.frontier_view import plot_frontier

    settings = Settings(
        Source.of("digits", 100, 50), CELL, model="MLP", epochs=1, repeats=2, quick=True
    )
    (study,) = frontier.STUDIES
    report = engine.run_study(study, settings, tmp_path, Cache(tmp_path / "cache"))
    (axes,) = plot_frontier(report).axes
    legend = axes.get_legend()
    assert legend is not None
    shown = {text.get_text() for text in legend.get_texts()}
    assert {table["title"] for table in report["tables"] if table["drawn"]} <= shown
    chosen = report["tables"][-1]
    ways = {entry["row"].rpartition(",")[0] for entry in chosen["entries"]}
    assert ways == {
        t["title"] for t in report["tables"] if t["drawn"] and "limit" not in t["title"]
    }


# --------------------------------------------------------------------------- encoders


ENCODER = {"source": None, "test": 32, "validation": 16, "examples": 64, "seed": 3}


def test_an_encoder_in_cells() -> None:
    """Finer steps take more cells and leave embeddings nearer; moments and sensitivities help."""
    settings = [{"mode": "coded", "step": step} for step in (0.1, 0.3, 0.9)]
    given: dict[str, Any] = {"encoder": ENCODER, "channel": CELL.to_dict(), "repeats": 2}
    found = frontier_jobs.stored(**given, settings=settings)["points"]
    left = [1 - np.mean(point["test"]) for point in found]
    assert found[0]["per_original"] > found[1]["per_original"] > found[2]["per_original"]
    assert left[0] < 0.3 * left[1] < 0.1 * left[2] and left[2] < 0.3
    assert all(point["failed"] == 0 and len(point["neighbors"]) == 2 for point in found)
    clean = frontier_jobs.noise_free(encoder=ENCODER)
    assert clean == {"validation": pytest.approx(1), "test": pytest.approx(1), "neighbors": 100}
    network = frontier_subjects.Encoded(**ENCODER)
    codec = Coded(CELL, step=0.3)
    plain = nct.store(network.model, codec, store_biases=True)
    tuned = nct.store(network.model, codec, store_biases=True, moments=network.moments,
                      sensitivity=network.sensitivity)  # fmt: skip
    assert 0.8 < tuned.cost.per_original / plain.cost.per_original < 1.01
    without, with_them = (1 - network.figures(m.read(1))["test"] for m in (plain, tuned))
    assert with_them < 0.9 * without


@pytest.mark.parametrize(("name", "value"), [("model", "MLP"), ("teacher", "MLP"), ("epochs", 3)])
def test_settings_of_classifiers_are_refused(name: str, value: Any) -> None:
    study = frontier.study(frontier.Options(encoder="tiny"))
    given: dict[str, Any] = {name: value}
    settings = study.complete(Settings(Source.of("digits", 100, 50), CELL, **given))
    with pytest.raises(ValueError, match=f"^{name}: expected none with an encoder, got '?{value}"):
        study.tables(settings)


def test_the_limit_takes_nothing_for_what_outputs_do_not_come_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: dict[str, Any] = {"channel": CELL.to_dict(), "steps": [0.3], "repeats": 2}
    (usual,) = frontier_jobs.limit(encoder=ENCODER, **given)["points"]
    known = frontier_subjects.Encoded(**ENCODER).sensitivity
    name = "layers.layers.0.linear1.weight"
    size = known[name].size
    known[name] = np.zeros_like(known[name])
    monkeypatch.setattr(frontier_subjects.Encoded, "sensitivity", known)
    (found,) = frontier_jobs.limit(encoder=ENCODER, **given)["points"]
    assert np.isfinite(found["test"]).all()
    saved = usual["per_original"] - found["per_original"]
    share = size / frontier_subjects.Encoded(**ENCODER).weights
    assert saved == pytest.approx(usual["per_original"] * share, rel=0.5)


def test_sentences_are_for_one_thing_only() -> None:
    """Those to measure, to choose and to calibrate with; calibration has no padding."""
    network = frontier_subjects.Encoded(**ENCODER)
    kinds = [*network.sentences.values(), network.examples]
    rows = [
        {tuple(ids[kept.bool()].tolist()) for b in kind
         for ids, kept in zip(b["input_ids"], b["attention_mask"], strict=True)}
        for kind in kinds
    ]  # fmt: skip
    assert [len(found) for found in rows] == [32, 16, 64]
    assert not rows[0] & rows[1] and not rows[0] & rows[2] and not rows[1] & rows[2]
    assert all(batch["attention_mask"].all() for batch in network.examples)


def test_frontier_of_an_encoder(tmp_path: Path) -> None:
    """From the command line: every way but those that train, and the figure by distances."""
    pytest.importorskip("joblib")
    from click.testing import CliRunner

    from noisycells.cli import main

    options = ("--encoder", "tiny", "--quick", "--device", "synthetic_pcm", "--test", 32,
               "--validation", 16, "--examples", 64, "--repeats", 2,
               "--ways", "integers,levels,coded", "-o", tmp_path, "--json")  # fmt: skip
    result = CliRunner().invoke(main, ["study", "frontier", *map(str, options)])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["settings"]["encoder"] == "tiny" and report["settings"]["test"] == 32
    titles = [table["title"] for table in report["tables"]]
    assert "Without noise" not in titles and "integers and mask, 1-bit cells" not in titles
    chosen = {(e["row"], e["column"]): e["mean"] for e in report["tables"][-1]["entries"]}
    drop = chosen["coded, margin 1, 0.1", "drop"]
    assert 0 < drop <= 0.11 and 0 <= chosen["coded, margin 1, 0.1", "neighbors"] <= 100
    assert chosen["coded, margin 1, 0.1", "cells/original"] < 2
    (axes,) = frontier_view.plot_frontier(report).axes
    assert axes.get_yscale() == "log" and "cosine" in axes.get_ylabel()
