"""A tiny run of every study, what its report holds, and its command."""

from __future__ import annotations

import csv
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

torch = pytest.importorskip("torch")
pytest.importorskip("joblib")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

import noisycells as nc  # noqa: E402
from noisycells._text import WIDTH  # noqa: E402
from noisycells.cli import main  # noqa: E402
from noisycells.studies import isik_figures, measures  # noqa: E402
from noisycells.studies.catalogue import STUDIES  # noqa: E402
from noisycells.studies.engine import study as engine  # noqa: E402
from noisycells.studies.engine.recipes import Source  # noqa: E402
from noisycells.studies.engine.study import Settings  # noqa: E402

TINY = ("--quick", "--epochs", 1, "--subset", 100, "--test-subset", 50, "--repeats", 2,
        "--model", "MLP", "--teacher", "MLP")  # fmt: skip


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> tuple[object, ...]:
    """Options of a directory for results and one for networks, which all studies share."""
    directory = tmp_path_factory.mktemp("studies")
    return ("--output", directory / "out", "--cache", directory / "cache")


def report_of(name: str, shared: tuple[object, ...], *options: object) -> dict[str, Any]:
    result = run("study", name, *TINY, *shared, *options, "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_names_are_those_of_the_papers() -> None:
    found = {name for name in STUDIES if name.startswith("isik-")}
    assert found == {
        "isik-table1", "isik-table2", "isik-table7", "isik-table8", "isik-table9", "isik-fig1",
        "isik-fig2", "isik-fig3", "isik-fig4", "isik-precision", "isik-one-cell",
    }  # fmt: skip
    listed = run("study", "--list").stdout.splitlines()
    assert [line.partition(":")[0] for line in listed] == sorted(STUDIES)
    for name, study in STUDIES.items():
        assert study.title in " ".join(run("study", name, "--help").stdout.split())


@pytest.mark.parametrize("name", STUDIES)
def test_tiny_run(name: str, shared: tuple[object, ...]) -> None:
    report = report_of(name, shared)
    study = STUDIES[name]
    assert (report["study"], report["title"]) == (name, study.title)
    assert report["data"] == {
        "name": "digits", "classes": 10, "training_images": 100, "test_images": 50
    }  # fmt: skip
    assert report["versions"]["noisycells"] == nc.__version__
    settings = report["settings"]
    assert (settings["epochs"], settings["subset"], settings["quick"]) == (1, 100, True)
    assert (report["channel"] is not None) == study.in_cells
    if report["channel"] is not None:
        assert nc.Channel.from_dict(report["channel"]) == nc.devices.pcm_array()
    for network in report["networks"]:
        assert 0 <= network["accuracy"] <= 100 and network["recipe"]["seed"] == 0
    assert str(Path.home()) not in json.dumps(report)
    for table in report["tables"]:
        assert table["entries"]
        for entry in table["entries"]:
            if entry["runs"] is None:  # derived from others
                assert math.isfinite(entry["mean"]) and len(entry["values"]) == 1
                continue
            values = [value for run in entry["runs"] for value in run]
            assert all(map(math.isfinite, values)) and entry["values"] == [len(values)]
            assert entry["mean"] == pytest.approx(np.mean(values))
            if table["unit"] == measures.ACCURACY:
                assert all(0 <= value <= 100 for value in values)
    out = Path(str(shared[1]))
    (file,) = out.glob(f"{name}*.json")
    assert json.loads(file.read_text()) == report
    with file.with_suffix(".csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == sum(len(table["entries"]) for table in report["tables"])
    assert file.with_suffix(".png").stat().st_size > 10_000
    page = (out / "index.html").read_text()
    assert f'id="{file.stem}"' in page
    papers = {e["paper"] for t in report["tables"] for e in t["entries"]} - {None}
    assert all(f"<span class=paper>{paper:g}</span>" in page for paper in papers)


def test_text_is_not_too_wide(shared: tuple[object, ...]) -> None:
    for name in ("isik-table9", "isik-fig1"):
        text = run("study", name, *TINY, *shared).stdout
        assert max(map(len, text.splitlines())) <= WIDTH
        assert STUDIES[name].source in " ".join(text.split())


def test_plan(tmp_path: Path) -> None:
    options = ("--output", tmp_path / "out", "--cache", tmp_path / "cache", "--plan")
    result = run("study", "isik-table9", *TINY, *options)
    assert result.exit_code == 0, result.output
    assert "taught by MLP" in result.stdout and "in all" in result.stdout
    plan = json.loads(run("study", "isik-table9", *TINY, *options, "--json").stdout)
    # The teacher is the student's network here; without noise, with it, in cells, by its rivals.
    assert len(plan["networks"]) == 8 and plan["done"] == 0
    assert not list(tmp_path.iterdir())


def test_seeds_are_networks_and_spread(shared: tuple[object, ...]) -> None:
    report = report_of("isik-fig3", shared, "--seeds", 2, "--seed", 5)
    seeds = [network["recipe"]["seed"] for network in report["networks"]]
    assert sorted(seeds) == [5, 5, 6, 6]
    keys = [network["key"] for network in report["networks"]]
    starts = [network["recipe"].get("start") for network in report["networks"]]
    assert len({*keys}) == 4 and all(s is None or s["key"] in keys for s in starts)
    entries = [entry for table in report["tables"] for entry in table["entries"]]
    assert all(len(entry["runs"]) == 2 and entry["spread"] is not None for entry in entries)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("isik-table1", "--data", "nowhere"), "nowhere"),
        (("isik-table1", "--subset", 5), r"size: expected an int in \[10, "),
        (("isik-table1", "--model", "VGG"), "VGG"),
        (("isik-table1", "--backend", "abacus", "--jobs", 2), "backend: .*abacus"),
        (("isik-table1", "--jobs", 0), "jobs: expected at least 1"),
        (("isik-table1", "--scheduler", "tcp://here:1"), "scheduler: expected it with dask"),
        (("isik-table1", "--seed", -1), "seed: expected"),
    ],
)
def test_errors_are_one_line(
    arguments: tuple[object, ...], message: str, shared: tuple[object, ...]
) -> None:
    result = run("study", arguments[0], *TINY, *shared, *arguments[1:])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1 and re.search(message, result.stderr), result.stderr


def test_report_command(shared: tuple[object, ...], tmp_path: Path) -> None:
    report_of("isik-fig1", shared)
    out = Path(str(shared[1]))
    (out / "index.html").unlink()
    result = run("report", out)
    assert (result.exit_code, result.stdout) == (0, f"{out / 'index.html'}\n")
    assert "isik-fig1" in (out / "index.html").read_text()
    assert run("report", tmp_path).exit_code == 2


RECORDED = Path(__file__).parents[2] / "bench" / "results" / "studies"


@pytest.mark.skipif(not RECORDED.exists(), reason="recorded results are in the source tree")
def test_recorded_results_have_their_pages() -> None:
    """Those of strategies and crossbars, too; and their text is made of them."""
    from noisycells.studies.engine import html

    reports = html.find_reports(RECORDED / "fashion-mnist")
    page = html.page(reports)
    studies = [report["study"] for report in reports.values()]
    assert studies.count("strategies") == 3 and studies.count("crossbar") == 1
    assert all(f'id="{file.stem}"' in page for file in reports)
    for report in reports.values():
        if report["study"] in ("strategies", "crossbar"):
            text = STUDIES[report["study"]].text(report)
            assert "with 80 % of the weights pruned" in " ".join(text.split())
    (crossbar,) = (r for r in reports.values() if r["study"] == "crossbar")
    text = STUDIES["crossbar"].text(crossbar)
    assert "90.43±0.26 90.14±0.34 89.82±0.40* 89.54±0.51*" in " ".join(text.split())


# --------------------------------------------------------------------------- Isik et al.


@pytest.fixture(scope="module")
def settings() -> Settings:
    return Settings(Source.of("digits", 100, 50), nc.devices.pcm_array(), repeats=2)


def paper_of(name: str, settings: Settings) -> dict[tuple[str, Any], float | None]:
    study = STUDIES[name]
    table = study.tables(study.complete(settings))[0]
    return {(entry.row, entry.column): entry.paper for entry in table.entries}


def test_papers_numbers_stand_where_they_belong(settings: Settings) -> None:
    """A few of each table, typed from the paper."""
    table1 = paper_of("isik-table1", settings)
    assert table1["+ adaptive redundancy", 1] == 93.11
    assert table1["inversion (k-NN)", 2] == 13.03 and table1["inversion (exact)", 2] is None
    assert table1["+ sign protection", 5] == 20.38 and table1["+ adaptive mapping", 30] == 93.12
    table8 = paper_of("isik-table8", settings)
    assert table8["+ sign protection", 3] == 98.39 and table8["+ adaptive mapping", 5] == 98.81
    table7 = paper_of("isik-table7", settings)
    assert table7["noise on the weights", 0.05] == 10.27
    assert table7["noise on the weights", 0.5] is None
    assert table7["protected, 1 cell", 0.5] == 93.55
    table2 = paper_of("isik-table2", settings)
    assert table2["+ different noise", "KD + noise"] == 76.5
    assert table2["cells: + sign protection", "teacher"] == 40.5
    assert table2["no noise", "KD + channel noise"] is None
    table9 = paper_of("isik-table9", settings)
    assert table9["+ noise", "KD + noise"] == 94.4
    assert table9["cells: + adaptive redundancy", "KD + channel noise"] == 97.6


def test_one_cell_changes_one_thing_at_a_time(settings: Settings) -> None:
    """What is stored how, and what every accuracy is compared with."""
    study = STUDIES["isik-one-cell"]
    table, above, _ = study.tables(study.complete(settings))
    jobs = {(e.row, e.column): e.jobs[0] for e in table.entries}
    usual = jobs["scale of the model", 1.0]
    assert usual.recipe is not None and usual.arguments["codec"]["mean_cells"] == 1.0
    longer = jobs["4 x fine-tuning, scales of tensors", 1.0]
    assert longer.recipe is not None and longer.recipe.epochs == 4 * usual.recipe.epochs
    assert longer.arguments["codec"]["scope"] == "tensor"
    in_cells = jobs["fine-tuned in cells, scale of the model", 2.1].recipe
    assert in_cells is not None and in_cells.noise is not None
    assert in_cells.noise["codec"]["cells"] == [1, 1]
    weighted = {row for (row, _), job in jobs.items() if job.arguments.get("weighted")}
    assert weighted == {"scale of the model, by sensitivity", "scales of tensors, by sensitivity"}
    noise_free = jobs[measures.NO_NOISE, 1.0]
    assert all(entry.inputs[1].jobs == (noise_free,) for entry in above.entries)


def test_protected_magnitudes_are_of_the_papers_range(settings: Settings) -> None:
    """Table 7's cells: alpha of magnitudes up to 0.6 is 2.33, twice that of signed weights."""
    job = STUDIES["isik-table7"].tables(STUDIES["isik-table7"].complete(settings))[0].entries[-1]
    channel = nc.Channel.from_dict(job.jobs[0].arguments["channel"])
    low, high = channel.range
    assert (high - low) / 0.6 == pytest.approx(2.33, abs=0.01)
    assert channel.std_at(0.0) == pytest.approx(1.0)  # of the last column


def test_noise_leaves_pruned_weights_alone(settings: Settings, tmp_path: Path) -> None:
    """By hand: W + 0.1 N(0, 1) on the weights kept, zeros on the others."""
    import noisycells.torch as nct
    from noisycells.studies import measures
    from noisycells.studies.engine import training
    from noisycells.studies.engine.cache import Cache
    from noisycells.studies.engine.recipes import isik_recipe, pruned_recipe

    recipe = pruned_recipe(isik_recipe(settings.source, "MLP", 0, epochs=1))
    trained = training.network(recipe, Cache(tmp_path))
    clean = {n: p.detach().numpy().copy() for n, p in trained.model.named_parameters()}
    seen: list[Any] = []

    def look(module: Any, arguments: Any, output: Any) -> None:
        seen.append(module.weight.detach().numpy().copy())

    trained.model.get_submodule("fc1").register_forward_hook(look)
    noise = {"eta": 0.1, "norm": "absolute"}
    found = measures.perturbed(trained, noise=noise, repeats=2, seed=3)
    assert len(found["accuracies"]) == len(found["losses"]) == 2
    mask = trained.masks["fc1.weight"]
    first, second = seen[-2:]
    assert not first[~mask].any() and not np.array_equal(first, second)
    difference = (first - clean["fc1.weight"])[mask]
    # About 10,000 weights: 4.5 standard errors of a standard deviation are 3.2 %.
    assert difference.size > 8000 and difference.std() == pytest.approx(0.1, rel=0.036)
    assert nct.active_noise(trained.model) is None


def test_response_and_inverse() -> None:
    """Drawn moments agree with the tables; 5 standard errors of 2000 draws at 21 points."""
    channel = nc.devices.pcm_array()
    base = {"channel": channel.to_dict(), "points": 21, "draws": 2000, "seed": 1}
    found = {key: np.array(value) for key, value in isik_figures.response(**base).items()}
    error = found["std"] / math.sqrt(2000)
    assert np.all(np.abs(found["drawn_mean"] - found["mean"]) < 5 * error)
    assert np.all(np.abs(found["drawn_std"] - found["std"]) < 5 * error / math.sqrt(2))
    spread = {}
    for cells in (1, 10):
        read = {k: np.array(v) for k, v in isik_figures.inverted(**base, cells=cells).items()}
        error = read["drawn_std"] / math.sqrt(2000)
        assert np.all(np.abs(read["drawn_mean"] - read["y"]) < 5 * error)
        spread[cells] = read["drawn_std"]
    assert np.all(np.abs(spread[1] / spread[10] / math.sqrt(10) - 1) < 0.12)


def test_histogram_is_of_the_weights(settings: Settings, tmp_path: Path) -> None:
    from noisycells.studies.engine import training
    from noisycells.studies.engine.cache import Cache
    from noisycells.studies.engine.recipes import isik_recipe

    trained = training.network(isik_recipe(settings.source, "MLP", 0, epochs=1), Cache(tmp_path))
    found = isik_figures.histogram(trained, limit=0.1, bins=4, small=0.03)
    weights = np.concatenate(
        [p.detach().numpy().ravel() for p in trained.model.parameters() if p.ndim > 1]
    )
    assert found["weights"] == weights.size and found["largest"] == np.abs(weights).max()
    assert sum(found["shares"]) == pytest.approx(100)
    assert found["shares"][0] == pytest.approx(100 * np.mean(weights < -0.05))
    assert found["small"] == pytest.approx(100 * np.mean(np.abs(weights) <= 0.03))


# --------------------------------------------------------------------------- sweeps

GRID = {
    "data": "digits", "subset": 100, "test_subset": 50, "seeds": [0, 1], "repeats": 2,
    "devices": ["pcm_array", "rram_wan2022@3600"],
    "network": {"model": "MLP", "epochs": 1},
    "codec": {"cells": [1, 4], "adaptive_mapping": False},
}  # fmt: skip
TOML = """
data = "digits"
subset = 100
test_subset = 50
seeds = [0, 1]
repeats = 2
devices = ["pcm_array", "rram_wan2022@3600"]
[network]
model = "MLP"
epochs = 1
[codec]
cells = [1, 4]
adaptive_mapping = false
"""


def sweep_of(file: Path, *options: object) -> dict[str, Any]:
    result = run("sweep", file, "--output", file.parent / "out", "--cache", file.parent / "cache",
                 *options, "--json")  # fmt: skip
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_sweep(tmp_path: Path) -> None:
    (tmp_path / "grid.json").write_text(json.dumps(GRID))
    report = sweep_of(tmp_path / "grid.json")
    places = [(e["row"], e["column"]) for e in report["tables"][0]["entries"]]
    assert places == [
        ("cells 1", "pcm_array"), ("cells 1", "rram_wan2022@3600"),
        ("cells 4", "pcm_array"), ("cells 4", "rram_wan2022@3600"),
    ]  # fmt: skip
    assert [len(e["runs"]) for e in report["tables"][0]["entries"]] == [2] * 4
    assert "adaptive_mapping False" in report["tables"][0]["note"]
    costs = {(e["row"], e["column"]): e["mean"] for e in report["tables"][1]["entries"]}
    assert costs["cells 4", "pcm_array"] == pytest.approx(costs["cells 1", "pcm_array"] + 3)
    assert (tmp_path / "out" / "sweep-grid-digits.csv").exists()


def test_sweep_from_toml_is_the_same(tmp_path: Path) -> None:
    pytest.importorskip("tomllib" if __import__("sys").version_info >= (3, 11) else "tomli")
    from noisycells.studies.sweep import read_grid

    (tmp_path / "grid.json").write_text(json.dumps(GRID))
    (tmp_path / "grid.toml").write_text(TOML)
    assert read_grid(tmp_path / "grid.toml") == read_grid(tmp_path / "grid.json")


def test_sweep_of_noise(tmp_path: Path) -> None:
    grid = {name: GRID[name] for name in ("data", "subset", "test_subset", "repeats", "network")}
    noise = {"eta": [0.0, 0.02], "norm": "range"}
    (tmp_path / "noise.json").write_text(json.dumps({**grid, "noise": noise}))
    report = sweep_of(tmp_path / "noise.json")
    quiet, noisy = report["tables"][0]["entries"]
    assert (quiet["row"], quiet["column"], noisy["column"]) == ("all", 0.0, 0.02)
    accuracy = report["networks"][0]["accuracy"]
    assert quiet["runs"] == [[pytest.approx(accuracy)] * 2]
    assert len(report["tables"]) == 1
    assert "pcm_array" not in report["tables"][0]["note"]  # no cells are in it


def test_sweep_of_crossbars(tmp_path: Path) -> None:
    """Chips compute as a hand-written loop says; what is not given is right after programming."""
    import noisycells.torch as nct
    from noisycells.studies.engine import training
    from noisycells.studies.engine.cache import Cache
    from noisycells.studies.engine.recipes import isik_recipe

    grid = {name: GRID[name] for name in ("data", "subset", "test_subset", "repeats", "network")}
    crossbar = {"rows": 64, "adc_bits": [4, 8], "seconds": 3600.0, "adc_range": "calibrated"}
    given = {**grid, "devices": ["rram_wan2022", "ideal"], "crossbar": crossbar}
    (tmp_path / "chips.json").write_text(json.dumps(given))
    report = sweep_of(tmp_path / "chips.json")
    entries = {(e["row"], e["column"]): e for e in report["tables"][0]["entries"]}
    assert len(report["tables"]) == 1 and set(entries) == {
        (f"adc_bits {bits}", device) for bits in (4, 8) for device in ("rram_wan2022", "ideal")
    }
    source = Source.of("digits", 100, 50)
    trained = training.network(isik_recipe(source, "MLP", 0, epochs=1), Cache(tmp_path / "cache"))
    data = trained.dataset
    spec = nc.CrossbarSpec(rows=64, adc_bits=4, adc_range="calibrated")
    nct.convert(trained.model, nc.devices.rram_wan2022(), spec)
    nct.calibrate(trained.model, [torch.from_numpy(data.normalize(data.train_images))])
    nct.at(nct.program(trained.model, 0), 3600.0)
    loader = nct.batches(data.normalize(data.test_images), data.test_labels, 250, shuffle=False)
    expected = nct.evaluate(trained.model, loader, 2, seed=0)
    assert entries["adc_bits 4", "rram_wan2022"]["runs"] == [list(expected.scores)]
    fresh = {**grid, "crossbar": {}}
    (tmp_path / "fresh.json").write_text(json.dumps(fresh))
    assert sweep_of(tmp_path / "fresh.json")["tables"][0]["note"].endswith("devices pcm_joshi2020")


@pytest.mark.parametrize(
    "noise", [{"eta": -1}, {"eta": 0.1, "nrom": "std"}, {"eta": {"conv*": 0.1}}, {"norm": "std"}]
)
def test_sweep_refuses_noise(noise: dict[str, Any], tmp_path: Path) -> None:
    grid = {name: GRID[name] for name in ("data", "subset", "test_subset", "repeats", "network")}
    (tmp_path / "noise.json").write_text(json.dumps({**grid, "noise": noise}))
    result = run("sweep", tmp_path / "noise.json", "--output", tmp_path / "out")
    assert result.exit_code == 2 and re.search("noise.json.*(eta|nrom)", result.stderr)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depth": 3}, "expected keys of name, .*, got depth"),
        ({"noise": {"eta": 0.1}}, "expected one of codec, noise, crossbar, got codec and noise"),
        ({"crossbar": {}}, "expected one of codec, noise, crossbar, got codec and crossbar"),
        ({"devices": []}, "devices: expected at least one value"),
        ({"devices": "flash"}, "flash"),
        ({"columns": "codec.bits"}, "columns: expected one of 'network.model'"),
        ({"codec": {"cells": 0}}, "cells"),
        ({"codec": {"color": 1}}, "color"),
        ({"network": {"model": "VGG"}}, "model: expected one of"),
        ({"repeats": 1}, r"repeats: expected an int in \[2, "),
        ({"data": "nowhere"}, "nowhere"),
        ({"seeds": []}, "seeds: expected whole numbers, at least one"),
        ({"network": "MLP"}, "network: expected a table, got 'MLP'"),
        ({"network": {"pruned": 1.5}}, r"pruned: expected a number in \[0, 1\)"),
        ({"name": "a/b"}, "name: expected one that a file may have, got 'a/b'"),
    ],
)
def test_sweep_refuses(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    file = tmp_path / "grid.json"
    given = {name: value for name, value in {**GRID, **change}.items() if value is not None}
    file.write_text(json.dumps(given))
    result = run("sweep", file, "--output", tmp_path / "out")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1 and re.search(message, result.stderr), result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"noise": {"eta": 0.1}}, "expected noise, or devices and codec, got both"),
        ({"crossbar": {}}, "expected one that computes, got pcm_array"),
        ({"crossbar": {"tiles": 3}, "devices": "ideal"}, "fields of CrossbarSpec, got .*tiles"),
        ({"crossbar": {"adc_bits": 1}, "devices": "ideal"}, "adc_bits"),
        ({"crossbar": {"seconds": 1e12}, "devices": "rram_wan2022"}, "seconds: .* got 1e"),
    ],
)
def test_sweep_refuses_what_is_not_stored(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    test_sweep_refuses({"codec": None, **change}, message, tmp_path)


def test_sweep_names_a_file_that_is_not_toml(tmp_path: Path) -> None:
    (tmp_path / "grid.toml").write_text("cells = [1,")
    result = run("sweep", tmp_path / "grid.toml")
    assert result.exit_code == 2 and "grid.toml" in result.stderr


def test_quick_settings_are_smaller(settings: Settings) -> None:
    """Of every study, quick settings have no more entries, and small networks."""
    from dataclasses import replace

    for study in STUDIES.values():
        sizes = {}
        for quick in (False, True):
            chosen = study.complete(replace(settings, quick=quick))
            tables = study.tables(chosen)
            jobs = {job.key: job for t in tables for e in t.entries for job in e.jobs}
            sizes[quick] = len(jobs)
            if quick:
                models = {job.recipe.model for job in jobs.values() if job.recipe is not None}
                assert all("ResNet" not in model for model in models)
        assert sizes[True] <= sizes[False]
    assert engine.Settings(settings.source, settings.channel, quick=True).pick(2, 1) == 1
