"""Networks on crossbars over time: what the study computes, and its statistics."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("joblib")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

import noisycells as nc  # noqa: E402
import noisycells.torch as nct  # noqa: E402
from noisycells import data, devices  # noqa: E402
from noisycells.intervals import mean_and_interval  # noqa: E402
from noisycells.studies import crossbar, crossbar_jobs  # noqa: E402
from noisycells.studies.crossbar import Options  # noqa: E402
from noisycells.studies.crossbar_view import (  # noqa: E402
    BUDGET,
    DAY,
    HOUR,
    MONTH,
    PERCENT,
    YEAR,
    _entries,
    accuracy_row,
    layer_row,
    time_label,
)
from noisycells.studies.engine import (  # noqa: E402
    Recipe,
    Settings,
    Source,
    Trained,
    isik_recipe,
    pruned_recipe,
)
from noisycells.studies.engine import study as engine  # noqa: E402
from noisycells.studies.engine.cache import Cache  # noqa: E402
from noisycells.studies.engine.tables import grid  # noqa: E402
from noisycells.studies.engine.training import network as network_of  # noqa: E402

PCM, MILO = devices.pcm_joshi2020(), devices.rram_milo2021()
OPTIONS = Options(
    (PCM, MILO),
    pruned=0.5,
    times=(1.0, DAY, YEAR),
    extrapolate=True,
    calibration_images=200,
)
STUDY = crossbar.study(OPTIONS)
CHIPS = 3
SETTINGS = Settings(Source.of("digits"), model="MLP", epochs=4, repeats=CHIPS)


@pytest.fixture(scope="module")
def digits() -> data.Dataset:
    return data.load_digits()


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache(tmp_path_factory.mktemp("networks"))


def recipe(model: str = "MLP", epochs: int = 4, **changes: Any) -> Recipe:
    return isik_recipe(Source.of("digits", **changes), model, 0, epochs)


@pytest.fixture(scope="module")
def dense(cache: Cache) -> Trained:
    return network_of(recipe(), cache)


@pytest.fixture(scope="module")
def network(dense: Trained, cache: Cache) -> Trained:
    return network_of(pruned_recipe(dense.recipe, 0.5), cache)


@pytest.fixture(scope="module")
def report(cache: Cache, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return engine.run_study(STUDY, SETTINGS, tmp_path_factory.mktemp("out"), cache)


def untrained(model: Any, dataset: data.Dataset) -> Trained:
    return Trained(model, {}, dataset, recipe(), {})


def circuit(
    device: nc.devices.Device, zero_weights: str = "programmed", compensation: str = "none",
    options: Options = OPTIONS,
) -> dict[str, Any]:  # fmt: skip
    """Arguments of jobs on the chips of a device."""
    variant = crossbar.variants(device, options)[zero_weights]
    return crossbar._job_arguments(options, variant, zero_weights, compensation)


def accuracies(
    network: Trained, arguments: dict[str, Any], seconds: float | None = None, seed: int = 0
) -> list[float]:
    found = crossbar_jobs.chips(
        network, **arguments, seconds=seconds, extrapolate=True, repeats=CHIPS, seed=seed
    )["accuracies"]
    assert len(found) == CHIPS
    return list(found)


def of(report: dict[str, Any], title: str) -> dict[tuple[str, Any], dict[str, Any]]:
    (table,) = (table for table in report["tables"] if table["title"] == title)
    return grid(table)[2]


# --------------------------------------------------------------------------- devices and times


def test_published_devices() -> None:
    names = [device.name for device in crossbar.published_devices()]
    assert names == [
        *("pcm_joshi2020", "pcm_hermes", "rram_wan2022"),
        *("rram_milo2021", "rram_cmo", "sonos_agrawal2022"),
    ]
    assert all(device.doi for device in crossbar.published_devices())


def test_times_that_were_not_measured_are_left_out() -> None:
    all_times = [None, 1.0, HOUR, DAY, MONTH, YEAR]
    measured, beyond = Options(), Options(extrapolate=True)
    assert crossbar.columns(PCM, measured) == [None, 1.0, HOUR, DAY]
    assert crossbar.columns(PCM, beyond) == all_times
    rram = devices.rram_wan2022()
    at_once = Options(times=(0.5, 1.0, 2 * DAY, 3 * DAY))
    assert crossbar.columns(rram, at_once) == [None, 1.0, 2 * DAY]
    for device in (MILO, devices.ideal()):  # no model of what time does
        assert crossbar.columns(device, measured) == crossbar.columns(device, beyond) == [None]


def test_entries_and_their_order(report: dict[str, Any]) -> None:
    later = [(t, kind) for t in OPTIONS.times for kind in OPTIONS.compensation]
    expected: list[Any] = [("ideal", "programmed", None, None)]
    for zero_weights in ("programmed", "reset"):
        expected += [(PCM.name, zero_weights, *place) for place in [(None, None), *later]]
    expected += [(MILO.name, zero_weights, None, None) for zero_weights in ("programmed", "reset")]
    entries = _entries(report)
    places = [(e["device"], e["zero_weights"], e["seconds"], e["compensation"]) for e in entries]
    assert places == expected
    for entry in entries:
        (run,) = entry["runs"]
        assert len(run) == CHIPS
        found = (entry["mean"], entry["half_width"])
        assert found == pytest.approx(mean_and_interval(run), abs=1e-9)
        assert entry["extrapolated"] == (entry["seconds"] == YEAR)


def test_chips_right_after_programming_stand_in_every_row(report: dict[str, Any]) -> None:
    """There is nothing to compensate yet: one job, an entry for each kind of compensation."""
    found = of(report, "Accuracy over time")
    rows = [accuracy_row(PCM.name, kind, "reset") for kind in OPTIONS.compensation]
    first, second = (found[row, "programmed"] for row in rows)
    assert first["runs"] == second["runs"]
    jobs = {job.key for t in STUDY.tables(STUDY.complete(SETTINGS))[:2] for e in t.entries
            for job in e.jobs}  # fmt: skip
    assert len(jobs) == len(_entries(report))


def test_devices_have_names_of_their_own() -> None:
    with pytest.raises(ValueError, match=r"different names, got ideal, pcm_hermes, pcm_hermes"):
        Options((devices.pcm_hermes(), devices.pcm_hermes(devices=1)))
    with_ideal = Options((devices.ideal(), PCM)).all_devices
    assert with_ideal == Options((PCM,)).all_devices == [devices.ideal(), PCM]


def test_quick_has_fewer_devices_and_times() -> None:
    quick = dataclasses.replace(SETTINGS, quick=True)
    assert OPTIONS.of(SETTINGS) is OPTIONS
    assert OPTIONS.of(quick).times == (1.0, YEAR)
    assert [d.name for d in Options().of(quick).devices] == [PCM.name, "pcm_hermes"]


# --------------------------------------------------------------------------- what it computes


def test_ideal_devices_and_converters_change_nothing(network: Trained) -> None:
    """Sums in another order may turn one image whose two best logits are equal, not more."""
    spec = nc.CrossbarSpec(dac_bits=None, adc_bits=None)
    options = dataclasses.replace(OPTIONS, spec=spec)
    found = accuracies(network, circuit(devices.ideal(), options=options))
    assert np.abs(np.array(found) - network.record["accuracy"]).max() < 0.3
    assert len(set(found)) == 1


def test_converters_of_8_bits_cost_little_and_of_2_bits_much(
    network: Trained, report: dict[str, Any]
) -> None:
    """Only rounding in the training is not fixed. Of 8 seeds, 8 bits turned one image of 450 at
    most, 2 bits took 81 % or more."""
    assert abs(_entries(report)[0]["mean"] - network.record["accuracy"]) < 2
    spec = dataclasses.replace(OPTIONS.spec, dac_bits=2, adc_bits=2)
    options = dataclasses.replace(OPTIONS, spec=spec)
    coarse = accuracies(network, circuit(devices.ideal(), options=options))
    assert np.mean(coarse) < network.record["accuracy"] - 30


def test_compensation_takes_back_drift(report: dict[str, Any]) -> None:
    """A third of the conductance is lost in a day: 9.5 dB. What is left is the spread of drift.

    Over 8 seeds of the training and the chips, drift cost 9.2 to 9.7 dB, compensation gave back
    13.4 or more, the other errors cost 3.5 or more, ideal devices had 37 or more, and 0.24 % was
    clipped at most.
    """
    ratios, losses = of(report, "Signal-to-noise ratio"), of(report, "Clipping and saturation")
    layers = ["fc1", "fc2", "fc3"]
    for device, seconds in ((PCM.name, DAY), (MILO.name, None), ("ideal", None)):
        for layer in layers:
            row = layer_row(device, seconds, layer)
            budget = {name: ratios[row, name]["mean"] for name in BUDGET if (row, name) in ratios}
            if device == PCM.name:
                assert budget["drift"] == pytest.approx(20 * np.log10(3), abs=2)
                assert budget["drift_compensated"] > budget["drift"] + 5
                assert budget["all"] < budget["programming"] < budget["zero_weights_programmed"]
                assert "zero_weights_reset" in budget
            else:
                assert "drift" not in budget
            if device == "ideal":
                assert "weight_noise" not in budget  # its reads are exact
                assert budget["all"] > 25
            assert all(losses[row, name]["mean"] < 1 for name in PERCENT)
    rows = {row for row, _ in ratios}
    assert len(rows) == 3 * len(layers)
    notes = {table["note"] for table in report["tables"] if table["title"].startswith("Signal")}
    assert notes == {"Of one chip, inputs from test images; compensation: global."}


def test_same_seed_same_accuracies(network: Trained, report: dict[str, Any]) -> None:
    """Whatever torch's generator has drawn before, and whichever times are asked for."""
    found = {
        **of(report, "Accuracy over time"), **of(report, "Extrapolated")
    }  # fmt: skip
    before = torch.get_rng_state()
    for kind in OPTIONS.compensation:
        for seconds in (DAY, YEAR):
            again = accuracies(network, circuit(PCM, "reset", kind), seconds)
            entry = found[accuracy_row(PCM.name, kind, "reset"), time_label(seconds)]
            assert entry["runs"] == [again]
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(int(before[0]) + 1)
    again = accuracies(network, circuit(PCM), DAY)
    torch.set_rng_state(before)
    assert found[accuracy_row(PCM.name, "none", "programmed"), "1 day"]["runs"] == [again]
    assert accuracies(network, circuit(PCM), DAY, seed=1) != again


def test_test_images_take_no_part_in_training_and_calibration(
    digits: data.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Networks and converter ranges are the same whatever the test images are."""
    models = []
    for number, (images, labels) in enumerate(
        [(digits.test_images, digits.test_labels), (1 - digits.test_images, digits.test_labels * 0)]
    ):
        other = dataclasses.replace(digits, test_images=images, test_labels=labels)
        monkeypatch.setattr(Source, "load", lambda self, other=other: other)
        network = network_of(recipe(epochs=1), Cache(tmp_path / str(number)))
        models.append(crossbar_jobs.converted(network, **circuit(PCM)))
    first, second = (model.state_dict() for model in models)
    assert first.keys() == second.keys() and "fc1.ranges" in first
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_reset_is_assumed_where_it_is_not_published() -> None:
    own = devices.gaussian(0.1, reset=(0.05, 0.2))
    options = Options((PCM, own), pruned=0.5, reset_noise=2.0)
    rows = options.to_dict()["devices"]
    assert [(row["name"], row["reset"], row["reset_assumed"]) for row in rows] == [
        ("ideal", None, False),
        (PCM.name, [0.0, 0.5], True),  # 2 % of 25 uS
        (own.name, [0.05, 0.2], False),
    ]
    assert "reset" not in crossbar.variants(PCM, Options())


def test_zero_weights_left_reset(network: Trained) -> None:
    """Wild RESET devices drown the weights; programmed ones do not care.

    Over 8 seeds the difference was 84.5 with a standard deviation of 2.3.
    """
    wild = devices.gaussian(0.0, reset=(0.0, 1000.0))
    programmed, reset = (
        np.mean(accuracies(network, circuit(wild, zero_weights)))
        for zero_weights in ("programmed", "reset")
    )
    assert reset < programmed - 30


def test_network_without_pruning(cache: Cache, tmp_path: Path) -> None:
    study = crossbar.study(Options((MILO,)))
    found = engine.run_study(study, SETTINGS, tmp_path, cache)
    assert [entry["zero_weights"] for entry in _entries(found)] == ["programmed"] * 2
    assert [network["recipe"]["pruned"] for network in found["networks"]] == [0]
    assert "pruned" not in study.text(found)


def test_batch_normalization_is_folded(digits: data.Dataset) -> None:
    """The converted network computes what the network with batch normalization does."""
    few = data.Dataset(
        "few",
        digits.train_images[:20],
        digits.train_labels[:20],
        digits.test_images[:20],
        digits.test_labels[:20],
    )
    model = nct.build(lambda: nct.ResNet(10, 1, width=4, blocks=1), 0).eval()
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
    network = untrained(model, few)
    options = Options(spec=nc.CrossbarSpec(dac_bits=None, adc_bits=None), calibration_images=20)
    converted = crossbar_jobs.converted(network, **circuit(devices.ideal(), options=options))
    nct.program(converted, 0).eval()
    images = torch.from_numpy(few.normalize(few.test_images))
    with torch.no_grad():
        torch.testing.assert_close(converted(images), model(images), rtol=1e-3, atol=1e-4)
    counts = crossbar_jobs.counts(network, spec=options.spec.to_dict())
    assert len(counts) == 8 and next(iter(counts)) == "conv" and counts["conv"]["vectors"] == 28**2


def test_layers_are_known_before_training() -> None:
    for model in ("LeNet", "SlimResNet14"):
        small = recipe(model, subset=20, test_subset=20)
        network = Trained(crossbar_jobs.build(small, small.source.load()).eval(), {},
                          small.source.load(), small, {})  # fmt: skip
        counts = crossbar_jobs.counts(network, spec=OPTIONS.spec.to_dict())
        assert crossbar_jobs.layer_names(small) == list(counts)


def test_counts_of_lenet(digits: data.Dataset) -> None:
    """By hand: filters of 25 and 500 inputs, tiles of 256 x 256, pairs of devices."""
    network = untrained(nct.build(nct.LeNet, 0), digits)
    counts = crossbar_jobs.counts(network, spec=Options().spec.to_dict())
    keys = ("vectors", "tiles", "cells", "dac_conversions", "adc_conversions")
    assert {name: tuple(row[key] for key in keys) for name, row in counts.items()} == {
        "conv1": (24 * 24, 1, 2 * 25 * 20, 24 * 24 * 25, 24 * 24 * 20),
        "conv2": (8 * 8, 2, 2 * 500 * 50, 8 * 8 * 500, 8 * 8 * 2 * 50),
        "fc1": (1, 4 * 2, 2 * 800 * 500, 2 * 800, 4 * 500),
        "fc2": (1, 2, 2 * 500 * 10, 500, 2 * 10),
    }
    assert (counts["fc1"]["outputs"], counts["fc1"]["inputs"]) == (500, 800)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"calibration_images": 0}, r"calibration_images: expected an int in \[1, \d+\], got 0"),
        ({"quantile": 0.0}, r"quantile: expected a number in \(0, 1\], got 0.0"),
        ({"reset_noise": -1.0}, r"reset_noise: expected a number in \[0, 100\], got -1.0"),
        ({"reset_noise": float("nan")}, r"reset_noise: expected a number in \[0, 100\], got nan"),
        ({"times": (2.0, 1.0)}, r"times: expected increasing seconds >= 0, got \(2.0, 1.0\)"),
        ({"times": (-1.0,)}, r"times: expected increasing seconds >= 0, got \(-1.0,\)"),
        ({"times": (float("nan"),)}, r"times: expected increasing seconds"),
        ({"compensation": ()}, r"compensation: expected different ones of none, .* got \(\)"),
        ({"compensation": ("none", "none")}, r"compensation: expected different ones"),
        ({"times": (1e6, 1e6 + 0.1)}, r"times: expected ones that differ in 6 digits"),
        ({"pruned": 1.0}, r"pruned: expected a number in \[0, 1\), got 1.0"),
        ({"compensation": ("slope",)}, r"compensation: .* got \('slope',\)"),
    ],
)
def test_options_are_checked(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Options(**arguments)
