"""Planning for a model: literal reads, targets, arguments."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import noisycells.torch as nct
from noisycells import data
from noisycells.storage import Plan

DIGITS = data.load_digits()
IMAGES, LABELS = DIGITS.normalize(DIGITS.train_images), DIGITS.train_labels
VALIDATION = nct.batches(IMAGES[1100:], LABELS[1100:], shuffle=False)


def network() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.AvgPool1d(4), nn.Linear(196, 40), nn.ReLU(), nn.Linear(40, 10)
    )


@pytest.fixture(scope="module")
def trained() -> tuple[nn.Module, dict[str, Any]]:
    model = nct.build(network, seed=0)
    train = nct.batches(IMAGES[:1100], LABELS[:1100])
    nct.fit(model, train, VALIDATION, epochs=8)
    sensitivity = nct.sensitivity(model, torch.as_tensor(IMAGES[:200]))
    moments = nct.input_moments(model, torch.as_tensor(IMAGES[:1000]))
    return model, {"sensitivity": sensitivity, "moments": moments}


def put(model: nn.Module, found: Plan, given: dict[str, Any]) -> Any:
    best = found.best
    codec: Any = best.codec
    return nct.store(
        model,
        codec,
        sensitivity=given["sensitivity"] if best.mode == "paper" else None,
        moments=given["moments"] if best.feedback else None,
        overrides=best.overrides or None,
    )


@pytest.mark.parametrize("mode", ["coded", "levels", "analog", "paper", "integers"])
def test_the_best_is_stored_as_planned(mode: str, trained: tuple[nn.Module, Any]) -> None:
    model, given = trained
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = nct.plan(model, "synthetic_pcm", budget=4.5, mode=mode, data=VALIDATION, **given)
    best = found.best
    assert best.mode == mode and best.per_original <= 4.5 and best.drop is not None
    assert put(model, found, given).cost.total_cells == pytest.approx(best.cells, rel=0.03)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_drop_is_measured_and_kept(trained: tuple[nn.Module, Any]) -> None:
    model, given = trained
    found = nct.plan(model, "synthetic_pcm", max_drop=2.0, data=VALIDATION, **given)
    assert {"coded", "levels"} <= {setting.mode for setting in found.settings}
    for setting in found.settings:
        assert setting.drop is not None and setting.drop <= 2.0
    assert "drop" in str(found).splitlines()[1]
    clean = nct.accuracy(model, IMAGES[1100:], LABELS[1100:])
    stored = put(model, found, given)
    read = nct.evaluate(model, VALIDATION, repeats=1, stored=stored)
    assert found.best.mode == "coded" and clean - read.mean == pytest.approx(found.best.drop)


def test_fewer_points_take_more_cells(trained: tuple[nn.Module, Any]) -> None:
    model, given = trained
    cells = [
        nct.plan(
            model, "synthetic_pcm", max_drop=drop, data=VALIDATION, mode="coded", **given
        ).best.cells
        for drop in (20.0, 0.5)
    ]
    assert cells[0] < cells[1]


def test_metrics_of_which_less_is_better(trained: tuple[nn.Module, Any]) -> None:
    model, given = trained
    with torch.no_grad():
        outputs = model(torch.as_tensor(IMAGES[1100:]))
    batches = [(torch.as_tensor(IMAGES[1100:]), outputs)]
    found = nct.plan(
        model, "synthetic_pcm", max_drop=0.05, data=batches, metric="mse", mode="coded", **given
    )
    assert 0 < found.best.drop <= 0.05


def test_losses_are_in_nats(trained: tuple[nn.Module, Any]) -> None:
    """The expected divergence is within 2 of that of a literal read."""
    model, given = trained
    found = nct.plan(model, "synthetic_pcm", max_loss=0.01, mode="coded", **given)
    images = torch.as_tensor(IMAGES[:200])
    noisy = nct.build(network, seed=1)
    nct.load(put(model, found, given), noisy, seed=1)
    with torch.no_grad():
        clean, read = (m.eval()(images).log_softmax(1) for m in (model, noisy))
    divergence = float((clean.exp() * (clean - read)).sum(1).mean())
    assert 1 / 2 < found.best.loss / divergence < 2


@pytest.mark.parametrize(
    "options, message",
    [
        ({}, "budget, max_loss, max_drop: expected one of the three, got none"),
        ({"budget": 1, "max_drop": 1}, "expected one of the three, got budget, max_drop"),
        ({"max_drop": 1}, "data: expected validation batches, for max_drop, got none"),
        ({"max_loss": 0}, "max_loss: expected a finite number > 0"),
        ({"budget": 1, "moments": {"x": np.eye(2)}}, "moments: expected names of parameters"),
        ({"max_drop": 1, "data": VALIDATION, "repeats": 0}, "repeats: expected an int"),
    ],
)
def test_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        nct.plan(network(), "synthetic_pcm", **options)
