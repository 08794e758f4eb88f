"""Jobs, recipes, the cache of networks, tables: what the studies run on."""

from __future__ import annotations

import csv
import dataclasses
import importlib
import json
import math
import pickle
import re
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
joblib = pytest.importorskip("joblib")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

import noisycells as nc  # noqa: E402
from noisycells.studies import isik_figures, measures  # noqa: E402
from noisycells.studies.engine import figures, html, tables, training  # noqa: E402
from noisycells.studies.engine import study as engine  # noqa: E402
from noisycells.studies.engine.cache import Cache, default_directory  # noqa: E402
from noisycells.studies.engine.jobs import Job, Workers, job, run  # noqa: E402
from noisycells.studies.engine.recipes import (  # noqa: E402
    Recipe,
    Source,
    isik_recipe,
    pruned_recipe,
)
from noisycells.studies.engine.report import write_json  # noqa: E402
from noisycells.studies.engine.study import Settings, Study  # noqa: E402
from noisycells.studies.engine.tables import Entry, Table  # noqa: E402


@pytest.fixture(scope="module")
def source() -> Source:
    return Source.of("digits", 100, 60)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


calls: list[int] = []  # arguments of all calls of square
refused: set[int] = set()  # those that it refuses


@job
def square(number: int) -> dict[str, int]:
    calls.append(number)
    if number in refused:
        raise KeyboardInterrupt
    return {"square": number**2}


@job
def threads() -> list[int]:
    return [torch.get_num_threads(), nc.get_num_threads()]


@job
def nothing() -> None:
    pass


@pytest.fixture
def counted() -> list[int]:
    """Arguments of all calls of ``square``."""
    calls.clear()
    refused.clear()
    return calls


def squares(*numbers: int) -> list[Job]:
    return [Job(square, {"number": number}) for number in numbers]


def mlp(source: Source, seed: int = 0, **changes: Any) -> Recipe:
    return dataclasses.replace(
        isik_recipe(source, "MLP", seed, epochs=1), **{"batch": 30, **changes}
    )


def everything(recipe: Recipe) -> Recipe:
    """A recipe with every kind of ancestor and noise."""
    codec = nc.Codec(nc.devices.pcm_array(), cells=2).to_dict()
    teacher = pruned_recipe(recipe)
    return dataclasses.replace(
        recipe, teacher=teacher, start=recipe, noise={"codec": codec}, distillation={"form": "isik"}
    )


# --------------------------------------------------------------------------- jobs


def test_results_by_key(tmp_path: Path, cache: Cache, counted: list[int]) -> None:
    jobs = squares(2, 5, 2)
    steps = []
    results = run(jobs, tmp_path / "jobs", cache, lambda: steps.append(1))
    assert results == {jobs[0].key: {"square": 4}, jobs[1].key: {"square": 25}}
    assert sorted(counted) == [2, 5] and len(steps) == 2
    written = {file.stem for file in (tmp_path / "jobs").iterdir()}
    assert written == set(results)


def test_interrupted_run_goes_on(tmp_path: Path, cache: Cache, counted: list[int]) -> None:
    jobs = squares(1, 2, 3, 4)
    refused.add(3)
    with pytest.raises(KeyboardInterrupt):
        run(jobs, tmp_path, cache)
    assert counted == [1, 2, 3]
    assert {file.stem for file in tmp_path.glob("*.json")} == {job.key for job in jobs[:2]}
    refused.clear()
    results = run(jobs, tmp_path, cache)
    assert counted == [1, 2, 3, 3, 4]
    assert [results[job.key]["square"] for job in jobs] == [1, 4, 9, 16]
    again = run(jobs, tmp_path, cache)
    assert again == results and len(counted) == 5


def test_damaged_result_is_named(tmp_path: Path, cache: Cache, counted: list[int]) -> None:
    (job,) = squares(2)
    (tmp_path / f"{job.key}.json").write_text("{")
    with pytest.raises(ValueError, match=f"{job.key}.json: expected the result of a job"):
        run([job], tmp_path, cache)
    assert not counted


def test_keys_tell_jobs_apart(source: Source) -> None:
    recipe = mlp(source)
    jobs = [
        Job(nothing, {}, recipe),
        Job(nothing, {"a": 1}, recipe),
        Job(square, {}, recipe),
        Job(nothing, {}, mlp(source, seed=1)),
        Job(nothing, {}),
    ]
    assert len({job.key for job in jobs}) == len(jobs)
    assert dataclasses.replace(jobs[0], passes=9).key == jobs[0].key


def test_only_registered_functions_are_jobs() -> None:
    """What is not at the top of a module, no worker would find."""
    with pytest.raises(ValueError, match="function: expected one registered as a job, got <built"):
        Job(len)
    with pytest.raises(ValueError, match=r"job: expected a function at the top .*<locals>"):
        job(lambda: None)
    script = types.FunctionType((lambda: None).__code__, {"__name__": "__main__"}, "measure")
    script.__qualname__ = "measure"
    with pytest.raises(ValueError, match=r"job: expected .* imported module, got __main__:measure"):
        job(script)
    assert job(square) is square and Job(square).name == f"{__name__}:square"


def test_a_new_process_finds_the_function(tmp_path: Path) -> None:
    """One that has imported nothing but what unpickles the job."""
    file = tmp_path / "job"
    file.write_bytes(pickle.dumps((Job(isik_figures.response, small_response(7)), Cache(tmp_path))))
    code = "import pickle, sys; job, cache = pickle.load(open(sys.argv[1], 'rb'));"
    code += "print(job.name, job.key, job(cache)['mean'][0])"
    done = subprocess.run(
        [sys.executable, "-c", code, file], capture_output=True, text=True, check=True
    )
    same = Job(isik_figures.response, small_response(7))
    expected = isik_figures.response(**small_response(7))["mean"][0]
    assert done.stdout.split() == [
        "noisycells.studies.isik_figures:response",
        same.key,
        str(expected),
    ]


def test_jobs_have_one_thread(cache: Cache, thread_setting: None) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    nc.set_num_threads(2)
    try:
        assert Job(threads)(cache) == [1, 1]
        assert [torch.get_num_threads(), nc.get_num_threads()] == [2, 2]
    finally:
        torch.set_num_threads(before)


def test_error_of_a_worker_is_the_error(tmp_path: Path, cache: Cache) -> None:
    good = Job(isik_figures.response, small_response(7))
    bad = Job(isik_figures.response, {**small_response(7), "points": -1})
    with Workers("loky", 2)(), pytest.raises(ValueError, match="-1"):
        run([good, bad], tmp_path, cache)
    run([good], tmp_path, cache)
    assert (tmp_path / f"{good.key}.json").exists()


def small_response(seed: int) -> dict[str, Any]:
    channel = nc.devices.pcm_array().to_dict()
    return {"channel": channel, "points": 5, "draws": 10, "seed": seed}


def test_unknown_backend_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"backend: .*abacus"), Workers("abacus", 2)():
        pass


def test_ray_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's backend is one of joblib's after a call of ``ray.util.joblib.register_ray``."""
    from joblib._parallel_backends import ThreadingBackend

    module = types.ModuleType("ray.util.joblib")
    module.register_ray = lambda: joblib.register_parallel_backend("ray", ThreadingBackend)  # type: ignore[attr-defined]
    for name in ("ray", "ray.util"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "ray.util.joblib", module)
    try:
        with Workers("ray", 2)():
            assert isinstance(joblib.parallel.get_active_backend()[0], ThreadingBackend)
    finally:
        joblib.parallel.BACKENDS.pop("ray", None)


# --------------------------------------------------------------------------- backends


def two_networks(settings: Settings) -> list[Table]:
    """Two networks in two kinds of cells."""
    entries = []
    for cells in (1, 4):
        codec = nc.Codec(settings.channel, cells=cells).to_dict()
        arguments = {"codec": codec, "repeats": settings.repeats, "seed": 0}
        jobs = tuple(
            Job(
                measures.stored,
                arguments,
                pruned_recipe(mlp(settings.source, seed)),
                passes=2,
            )
            for seed in settings.training_seeds
        )
        entries.append(Entry("stored", cells, jobs))
    return [Table("Table", "row", "cells", "test accuracy (%)", tuple(entries))]


STUDY = Study("two", "no paper", two_networks, "MLP", "MLP")


@pytest.fixture(scope="module")
def settings(source: Source) -> Settings:
    return Settings(source, nc.devices.pcm_array(), seeds=2, repeats=2)


@pytest.fixture(scope="module")
def alone(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The report of one process."""
    out = tmp_path_factory.mktemp("alone")
    return engine.run_study(STUDY, settings, out, Cache(out / "cache"))


def test_loky_gives_the_same_report(
    settings: Settings, alone: dict[str, Any], tmp_path: Path
) -> None:
    steps: list[str] = []

    @engine.contextmanager
    def progress(label: str, length: int) -> Iterator[Callable[[], None]]:
        done: list[None] = []
        yield lambda: done.append(None)
        steps.append(f"{label} {len(done)} of {length}")

    workers = Workers("loky", 2)
    cache = Cache(tmp_path / "cache")
    assert engine.run_study(STUDY, settings, tmp_path, cache, workers, progress) == alone
    assert steps == ["train 4 of 4", "evaluate 8 of 8"]


# The cluster's own warnings and what it leaves open at its end are not what is tested here.
@pytest.mark.filterwarnings("ignore")
def test_dask_gives_the_same_report(
    settings: Settings, alone: dict[str, Any], tmp_path: Path
) -> None:
    distributed = pytest.importorskip("distributed")
    cache = Cache(tmp_path / "cache")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster),
    ):
        workers = Workers("dask", 2, cluster.scheduler_address)
        assert engine.run_study(STUDY, settings, tmp_path, cache, workers) == alone


@pytest.mark.parametrize("streaming", [True, False])
def test_any_registered_backend_gives_the_same_report(
    settings: Settings, alone: dict[str, Any], tmp_path: Path, streaming: bool
) -> None:
    """Also one that gives results only when all are there, and jobs in threads of one process."""
    from joblib._parallel_backends import ThreadingBackend

    class Own(ThreadingBackend):
        supports_return_generator = streaming

    joblib.register_parallel_backend("own", Own)
    try:
        cache = Cache(tmp_path / "cache")
        assert engine.run_study(STUDY, settings, tmp_path, cache, Workers("own", 2)) == alone
    finally:
        joblib.parallel.BACKENDS.pop("own")


def test_finished_study_needs_no_networks(
    settings: Settings, alone: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache(tmp_path / "cache")
    engine.run_study(STUDY, settings, tmp_path, cache)
    for file in cache.directory.iterdir():
        file.unlink()
    monkeypatch.setattr(training, "_train", None)
    assert engine.run_study(STUDY, settings, tmp_path, cache) == alone


def test_no_training_where_results_cannot_be_kept(
    settings: Settings, tmp_path: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").write_text("a file")
    monkeypatch.setattr(training, "_train", None)
    other = dataclasses.replace(settings, seed=77)
    with pytest.raises(OSError, match="out"):
        engine.run_study(STUDY, other, tmp_path / "out", cache)


def test_networks_are_shared_between_studies(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache(tmp_path / "cache")
    engine.run_study(STUDY, settings, tmp_path / "one", cache)
    monkeypatch.setattr(training, "_train", None)
    other = dataclasses.replace(settings, repeats=3)
    report = engine.run_study(STUDY, other, tmp_path / "two", cache)
    assert len(report["tables"][0]["entries"][0]["runs"][0]) == 3


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
from noisycells.cli import main
main(sys.argv[2:], prog_name="noisycells")
"""


def test_a_full_disk_is_one_line_and_the_study_goes_on(tmp_path: Path) -> None:
    """Files that may not grow fail as on a full disk: first a checkpoint, then a figure."""
    tiny = ("--epochs", "1", "--subset", "100", "--test-subset", "50", "--quick")
    options = (*tiny, "--cache", tmp_path / "cache", "-o", tmp_path / "out")
    stopped = []
    for name, limit in (("isik-fig3", 20_000), ("isik-fig1", 20_000), ("isik-fig1", 10**9)):
        command = [sys.executable, "-c", LIMITED, str(limit), "study", name, *map(str, options)]
        command += ["--model", "MLP"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        stopped.append((done.returncode, done.stderr))
    (code, message), (second_code, second), (last_code, last) = stopped
    assert code == second_code == 2
    assert re.fullmatch(r"noisycells: .* too large: '.*cache/\w+\.checkpoint'\n", message), message
    assert re.fullmatch(r"noisycells: .* too large: '.*isik-fig1.*\.png'\n", second), second
    assert last_code == 0 and "Wrote isik-fig1" in last
    assert not list((tmp_path / "cache").iterdir())


# --------------------------------------------------------------------------- networks


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
        ({"model": "VGG"}, "model: expected one of LeNet, .* got 'VGG'"),
        ({"epochs": 0}, "epochs: expected at least 1, got 0"),
        ({"seed": -1}, "seed: expected"),
        ({"schedule": "steps"}, "schedule: expected one of constant, cosine, got 'steps'"),
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


# --------------------------------------------------------------------------- tables


def test_pooled_interval() -> None:
    """By hand: two runs of variance 1 and 4, three values each; t(0.975, 4) = 2.776445."""
    half_width = tables.pooled_interval([[1, 2, 3], [10, 12, 14]])
    assert half_width == pytest.approx(2.776445 * math.sqrt((1 / 3 + 4 / 3) / 4), rel=1e-6)
    assert tables.pooled_interval([[1.0]]) is None
    one = [1.0, 2.0, 4.0]
    assert tables.pooled_interval([one]) == pytest.approx(nc.intervals.mean_and_interval(one)[1])


def test_entries_of_several_networks() -> None:
    jobs = tuple(Job(nothing, {"seed": seed}) for seed in range(2))
    results = {
        jobs[0].key: {"accuracies": [1, 3], "curve": {"x": [5, 6]}, "accuracy": 4},
        jobs[1].key: {"accuracies": [5, 7], "curve": {"x": [8, 9]}, "accuracy": 6},
    }
    table = Table(
        "T", "rows", "columns", "unit",
        (
            Entry("a", 1, jobs, paper=93.65),
            Entry("a", 2, jobs[:1], "accuracy"),
            Entry("b", 1, jobs, "curve/x/1"),
        ),
    )  # fmt: skip
    assembled = tables.assemble(table, results)
    a, single, curve = assembled["entries"]
    assert (a["mean"], a["paper"], a["runs"]) == (4, 93.65, [[1, 3], [5, 7]])
    assert a["spread"] == pytest.approx(math.sqrt(8))
    assert a["half_width"] == tables.pooled_interval([[1, 3], [5, 7]])
    assert (single["mean"], single["half_width"], single["spread"]) == (4, None, None)
    assert (curve["mean"], curve["runs"]) == (7.5, [[6], [9]])
    text = tables.format_tables({"title": "t", "source": "s", "tables": [assembled]})
    lines = [line.split() for line in text.splitlines()]
    assert ["columns", "1", "2"] in lines and ["(paper)", "(93.65)"] in lines
    assert ["b", "7.5"] in lines


def test_small_numbers_have_more_decimals() -> None:
    entry = {"row": "", "column": 1, "spread": 0.00123, "paper": None, "runs": []}
    assert tables.number({**entry, "mean": 0.0573, "half_width": 0.0012}) == "0.0573 ±0.0012"
    assert tables.number({**entry, "mean": 93.654, "half_width": 0.123}) == "93.65 ±0.12"
    table = {"title": "", "unit": "", "columns": "", "note": "",
             "entries": [{**entry, "mean": 0.0573, "half_width": None}]}  # fmt: skip
    assert "s 0.0012" in "".join(html._table(table))


def test_losses_that_are_not_finite(source: Source, cache: Cache) -> None:
    """Of a training that diverges, and of outputs beyond float32: None, as JSON has no NaN."""
    diverged = training.network(mlp(source, optimizer="sgd", learning_rate=1e9), cache)
    assert training.about(diverged)["training"]["losses"] == [None]
    noise = {"eta": 1e30, "norm": "absolute"}
    found = measures.perturbed(training.network(mlp(source), cache), noise=noise, repeats=2, seed=0)
    assert found["losses"] == [None, None] and all(0 <= a <= 100 for a in found["accuracies"])
    job = Job(nothing)
    entries = (Entry("a", 1, (job,), "losses"), Entry("b", 1, (job,)))
    table = tables.assemble(Table("T", "rows", "columns", "unit", entries), {job.key: found})
    lost, kept = table["entries"]
    assert (lost["mean"], lost["half_width"], lost["runs"]) == (None, None, [[None, None]])
    assert kept["mean"] is not None and tables.number(lost) == "not finite"
    report = {"title": "t", "networks": [], "channel": None, "data": {}, "tables": [table]}
    (curve,) = figures.plot(report).axes
    assert [len(line.get_xdata()) for line in curve.lines[:1]] == [0]


def test_report_files(alone: dict[str, Any], tmp_path: Path) -> None:
    file = engine.write(STUDY, alone, tmp_path)
    assert file.name == "two-digits-MLP-pcm_array.json"
    assert json.loads(file.read_text()) == alone
    with file.with_suffix(".csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    entries = alone["tables"][0]["entries"]
    assert [float(row["mean"]) for row in rows] == [entry["mean"] for entry in entries]
    assert {(row["networks"], row["values"]) for row in rows} == {("2", "2")}
    page = html.write_page(tmp_path).read_text()
    assert page.count("data:image/png;base64,") == 1
    assert all(tables.number(entry) in page for entry in entries)


def test_page_escapes_and_shows_the_paper(alone: dict[str, Any], tmp_path: Path) -> None:
    entry = {**alone["tables"][0]["entries"][0], "row": "<b>&", "paper": 93.65}
    table = {**alone["tables"][0], "entries": [entry]}
    page = html.page({tmp_path / "x.json": {**alone, "title": "<i>", "tables": [table]}})
    assert "&lt;b&gt;&amp;" in page and "<b>" not in page and "<i>" not in page
    assert "<span class=paper>93.65</span>" in page


def test_page_passes_over_reports_that_are_being_written(
    alone: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "done.json").write_text(json.dumps(alone))
    (tmp_path / ".0a1b.other.json").write_text('{"study": "ha')
    assert list(html.find_reports(tmp_path)) == [tmp_path / "done.json"]


def test_page_needs_reports(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text('{"speed": 1}')
    with pytest.raises(ValueError, match="expected reports of studies"):
        html.write_page(tmp_path)


def test_plan_trains_nothing(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache(tmp_path / "cache")
    monkeypatch.setattr(training, "_train", None)
    found = engine.plan(STUDY, settings, tmp_path, cache)
    assert (len(found.networks), found.jobs, found.done) == (4, 4, 0)
    assert all(hours > 0 for _, hours in found.networks) and found.hours > 0
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    engine.run_study(STUDY, settings, tmp_path, cache)
    after = engine.plan(STUDY, settings, tmp_path, cache)
    assert (after.networks, after.jobs, after.done, after.hours) == ([], 0, 4, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": 0}, "seeds: expected at least 1, got 0"),
        ({"repeats": 1}, "repeats: expected at least 2, got 1"),
        ({"model": "VGG"}, "model: expected one of LeNet, .* got 'VGG'"),
        ({"seed": -1}, "seed: expected"),
    ],
)
def test_settings_are_checked(settings: Settings, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(settings, **change)
