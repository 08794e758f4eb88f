"""The main job: a small run of the strategies study, its statistics and its files."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

import noisycells as nc  # noqa: E402
import noisycells.torch as nct  # noqa: E402
from noisycells import data  # noqa: E402
from noisycells.intervals import mean_and_interval  # noqa: E402
from noisycells.studies import strategies  # noqa: E402
from noisycells.studies.engine.cache import Cache  # noqa: E402
from noisycells.studies.engine.recipes import Source, isik_recipe, pruned_recipe  # noqa: E402
from noisycells.studies.engine.training import Trained  # noqa: E402
from noisycells.studies.engine.training import network as network_of  # noqa: E402
from noisycells.studies.strategies import STRATEGIES, Entry, Settings  # noqa: E402

SETTINGS = Settings(cells=(4, 1), reads=3)
NOISY = nc.Channel.gaussian(0.25)


@pytest.fixture(scope="module")
def digits() -> data.Dataset:
    return data.load_digits()


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache(tmp_path_factory.mktemp("networks"))


@pytest.fixture(scope="module")
def network(cache: Cache) -> Trained:
    return network_of(pruned_recipe(isik_recipe(Source.of("digits"), "LeNet", 0, 4)), cache)


@pytest.fixture(scope="module")
def entries(network: Trained) -> list[Entry]:
    return strategies.evaluate_strategies(network, NOISY, SETTINGS)


@pytest.fixture(scope="module")
def report(network: Trained, cache: Cache, entries: list[Entry]) -> dict[str, object]:
    dense = network_of(network.recipe.start, cache)
    return strategies.report(dense, network, NOISY, SETTINGS, entries)


def test_network_is_trained_and_pruned(
    network: Trained, digits: data.Dataset, cache: Cache
) -> None:
    kept = sum(mask.sum() for mask in network.masks.values())
    assert kept == round(0.2 * 430_500)
    for name, mask in network.masks.items():
        assert not network.model.state_dict()[name].numpy()[~mask].any()
    accuracy = nct.accuracy(network.model, digits.normalize(digits.test_images), digits.test_labels)
    assert accuracy == network.record["accuracy"] > 80
    assert len(network.record["training"]["accuracies"]) == 2
    before = network_of(network.recipe.start, cache).record
    assert before["accuracy"] > 80 and len(before["training"]["accuracies"]) == 4


def test_entries_and_their_order(entries: list[Entry]) -> None:
    places = [(entry.strategy, entry.cells) for entry in entries]
    assert places == [(s.name, cells) for s in STRATEGIES for cells in (4, 1)]
    for entry in entries:
        assert len(entry.accuracies) == 3
        expected = mean_and_interval(entry.accuracies)
        assert (entry.mean, entry.half_width) == expected


def test_protection_protects(network: Trained) -> None:
    """In very noisy cells the network is lost without protection.

    Over 20 chips the difference was 59 with a standard deviation of 10, so that the mean of 3
    is 8 of its standard deviations above 10.
    """
    noisy = nc.Channel.gaussian(0.5)
    pair = [STRATEGIES[0], STRATEGIES[3]]
    one_cell = dataclasses.replace(SETTINGS, cells=(1,))
    bare, mapped = strategies.evaluate_strategies(network, noisy, one_cell, pair)
    assert bare.strategy == "inversion (exact)" and mapped.strategy == "+ adaptive mapping"
    assert bare.mean < mapped.mean - 10


def test_cost_is_counted_in_full(entries: list[Entry]) -> None:
    stored = round(0.2 * 430_500)
    for entry in entries:
        cost = entry.cost
        assert (cost["stored_weights"], cost["original_weights"]) == (stored, 430_500)
        side = 0 if entry.strategy.startswith("inversion") else stored
        assert cost["side_cells"] == side
        assert 0.7 * 430_500 < cost["index_bits"] < 430_500  # H(0.2) = 0.72 over all layers
        total = cost["data_cells"] + side + cost["index_cells"]
        assert cost["per_stored"] == pytest.approx(total / stored)
        assert cost["per_original"] == pytest.approx(total / 430_500)
        if entry.strategy == "+ adaptive redundancy":
            assert entry.cells - 0.5 < cost["mean_cells"] <= entry.cells + SETTINGS.extra_cells
        else:
            assert cost["mean_cells"] == entry.cells


def test_same_seed_same_entries(network: Trained, entries: list[Entry]) -> None:
    again = strategies.evaluate_strategies(network, NOISY, SETTINGS)
    assert again == entries
    other = dataclasses.replace(SETTINGS, seed=1)
    assert strategies.evaluate_strategies(network, NOISY, other) != entries


def test_noiseless_cells_change_nothing(network: Trained) -> None:
    exact = [strategy for strategy in STRATEGIES if not strategy.learnt_inverse]
    noiseless = nc.Channel.gaussian(0.0)
    for entry in strategies.evaluate_strategies(network, noiseless, SETTINGS, exact):
        assert entry.accuracies == (network.record["accuracy"],) * 3 and entry.half_width == 0


def test_error_of_the_learnt_inverse_is_not_averaged_away(network: Trained) -> None:
    """With very many cells the noise is gone, and what is left is the luck of the measurements.

    Half of the learnt inverses lost more than 2 of 100; that 20 of them lose less than 1 on
    average takes 19 or more lucky ones.
    """
    many = dataclasses.replace(SETTINGS, cells=(60_000,), reads=20, measurements=40)
    exact, learnt = strategies.evaluate_strategies(network, NOISY, many, STRATEGIES[:2])
    assert max(abs(a - network.record["accuracy"]) for a in exact.accuracies) < 1
    assert learnt.mean < exact.mean - 1
    assert len(set(learnt.accuracies)) > 1  # each read has measurements of its own


def test_progress_is_told_of_every_step(tmp_path: Path) -> None:
    steps = []
    recipe = pruned_recipe(isik_recipe(Source.of("digits", 150, 50), "LeNet", 0, 3))
    network = network_of(recipe, Cache(tmp_path), lambda: steps.append("epoch"))
    strategies.evaluate_strategies(
        network, NOISY, SETTINGS, STRATEGIES[:1], lambda: steps.append("read")
    )
    assert steps == ["epoch"] * (3 + 2) + ["read"] * 6


def test_scope(network: Trained, entries: list[Entry]) -> None:
    own = dataclasses.replace(SETTINGS, scope="tensor")
    assert strategies.evaluate_strategies(network, NOISY, own, STRATEGIES[3:4]) != [
        entry for entry in entries if entry.strategy == STRATEGIES[3].name
    ]


def test_report_is_json(report: dict[str, object], tmp_path: Path) -> None:
    strategies.write_json(report, tmp_path / "report.json")
    loaded = json.loads((tmp_path / "report.json").read_text())
    assert loaded["settings"] == {**dataclasses.asdict(SETTINGS), "cells": [4, 1]}
    assert loaded["versions"]["noisycells"] == nc.__version__
    assert loaded["network"]["recipe"]["pruned"] == 0.8
    assert loaded["network"]["recipe"]["start"]["key"] and loaded["dense"]["recipe"]["epochs"] == 4
    assert loaded["threads"] == torch.get_num_threads()
    assert nc.Channel.from_dict(loaded["channel"]) == NOISY
    assert strategies.format_table(loaded) == strategies.format_table(report)


def test_csv(report: dict[str, object], entries: list[Entry], tmp_path: Path) -> None:
    strategies.write_csv(report, tmp_path / "report.csv")
    with (tmp_path / "report.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(entries)
    for row, entry in zip(rows, entries, strict=True):
        assert (row["strategy"], int(row["cells"])) == (entry.strategy, entry.cells)
        assert float(row["mean_accuracy"]) == entry.mean
        assert float(row["per_original"]) == entry.cost["per_original"]


def test_table(report: dict[str, object], entries: list[Entry]) -> None:
    table = strategies.format_table(report)
    assert max(map(len, table.splitlines())) <= 80
    for entry in entries:
        assert f"{entry.mean:.2f} ±{entry.half_width:.2f}" in table
        assert f"{entry.cost['per_stored']:.2f} / {entry.cost['per_original']:.2f}" in table
    lines = [line.split() for line in table.splitlines()]
    assert sum(line[:1] == ["4"] for line in lines) == 2  # accuracy and cost


def test_plot(report: dict[str, object]) -> None:
    figure = strategies.plot(report)
    for axes in figure.axes:
        assert axes.get_legend_handles_labels()[1] == ["noise-free", *(s.name for s in STRATEGIES)]


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match=r"reads: expected at least 2 .* got 1"):
        Settings(reads=1)
    with pytest.raises(ValueError, match=r"cells: expected numbers of at least 1, got \(3, 0\)"):
        Settings(cells=(3, 0))
