"""What is no module, no bool and no count is refused by every function of noisycells.torch."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import noisycells as nc
import noisycells.torch as nct

CODEC = nc.Codec("pcm_array")
TAKES_MODEL = [
    name
    for name in nct.__all__
    if inspect.isfunction(getattr(nct, name))
    and "model" in inspect.signature(getattr(nct, name)).parameters
]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))


X = torch.rand(8, 6, generator=torch.Generator().manual_seed(0))


def deploy(**options: Any) -> nn.Module:
    return nct.deploy(network(), "pcm_joshi2020", [X], **{"quiet": True} | options)


def converted(**spec: Any) -> nn.Module:
    return nct.convert(network(), "pcm_joshi2020", nc.CrossbarSpec(**spec))


@pytest.mark.parametrize("name", TAKES_MODEL)
@pytest.mark.parametrize("model", [3, "model", None, nn.Linear, torch.ones(2)], ids=str)
def test_what_is_no_module_is_refused(name: str, model: Any) -> None:
    """Before anything else: the other arguments here are no good either."""
    function = getattr(nct, name)
    given: dict[str, Any] = {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name == "model":
            given["model"] = model
        elif parameter.name == "codec":
            given["codec"] = CODEC
        elif parameter.name == "stored" and parameter.default is inspect.Parameter.empty:
            given["stored"] = nct.store(network(), CODEC)
        elif parameter.default is inspect.Parameter.empty:
            given[parameter.name] = np.zeros(2, np.float32)
    with pytest.raises(TypeError, match=r"^model: expected a torch\.nn\.Module"):
        function(**given)


def test_all_that_takes_a_model_is_tried() -> None:
    assert len(TAKES_MODEL) > 20 and {"train", "fit", "store", "load", "convert"} <= {*TAKES_MODEL}


FLAGS: dict[str, Callable[[Any], Any]] = {
    "store_biases": lambda v: nct.store(network(), CODEC, store_biases=v),
    "side_errors": lambda v: nct.load(nct.store(network(), CODEC), network(), 1, side_errors=v),
    "shuffle": lambda v: nct.batches(torch.ones(4, 2), torch.zeros(4).long(), shuffle=v),
    "rounded": lambda v: nct.dequantize(nct.quantize(network()), rounded=v),
    "extrapolate": lambda v: nct.at(nct.convert(network(), "ideal"), 1.0, extrapolate=v),
    "extrapolate ": lambda v: deploy(extrapolate=v),
    "quiet": lambda v: deploy(quiet=v),
    "limit": lambda v: deploy(limit=v),
    "projection": lambda v: nct.ResNet(projection=v),
}


@pytest.mark.parametrize("name", FLAGS)
@pytest.mark.parametrize("value", ["False", 1, None])
def test_flags_are_bools(name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=f"^{name.strip()}: expected True or False, got "):
        FLAGS[name](value)


NUMBERS: dict[str, Callable[[Any], Any]] = {
    "repeats": lambda v: nct.evaluate(network(), [], v),
    "repeats ": lambda v: nct.mutual_information(network(), torch.ones(2, 6), v),
    "epochs": lambda v: nct.fit(network(), [], [], epochs=v),
    "patience": lambda v: nct.fit(network(), [], [], epochs=1, patience=v),
    "batch_size": lambda v: nct.batches(torch.ones(4, 2), torch.zeros(4).long(), v),
    "passes": lambda v: nct.recalibrate_batchnorm(nn.BatchNorm1d(3), [], passes=v),
    "depth": lambda v: nct.LeNet(depth=v),
    "classes": lambda v: nct.LeNet(v),
    "classes ": lambda v: nct.ResNet(v),
    "in_channels": lambda v: nct.ResNet(in_channels=v),
    "blocks": lambda v: nct.ResNet(blocks=v),
    "stages": lambda v: nct.ResNet(stages=v),
    "classes  ": lambda v: nct.MLP(v),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_counts_end(name: str) -> None:
    for wrong in (2**63, 2**31, -1):
        with pytest.raises(ValueError, match=rf"^{name.strip()}: expected an int in \[[01], 2147"):
            NUMBERS[name](wrong)
    for wrong in (1.5, "1", True):
        with pytest.raises(TypeError, match=f"^{name.strip()}: expected an int, got "):
            NUMBERS[name](wrong)


NOTHING: dict[str, Callable[[], Any]] = {
    "quantile: expected 1 where no range": lambda: deploy(quantile="error", spec=nc.CrossbarSpec()),
    "spec: expected patterns": lambda: deploy(spec={"nope*": nc.CrossbarSpec()}),
    "model: expected at least one layer to convert": lambda: deploy(filter_fn=lambda m, n: False),
    "model: expected .* range is 'calibrated', got none": lambda: nct.calibrate(converted(), [X]),
    "norm: expected one of 'range', got 'std'": lambda: nct.inject_noise(
        network(), codec=CODEC, norm="std"
    ),
    "norm: expected one of 'range', got 'absmax'": lambda: nct.inject_noise(
        network(), device="pcm_joshi2020", norm="absmax"
    ),
}


@pytest.mark.parametrize("message", NOTHING)
def test_options_that_match_nothing(message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{message}"):
        NOTHING[message]()


def test_deploy_without_weights_to_limit() -> None:
    """What is asked for by default need not be there."""
    model = deploy(spec=nc.CrossbarSpec(mapping="row", adc_range="calibrated"))
    assert model[0].limits is None and model[0].chip_seed is not None


@pytest.mark.parametrize("wrong", [True, "0.1", (0.1, True), ("0", "1"), {"0.weight": "0.1"}])
def test_eta_is_a_number(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"^eta: expected a number"):
        nct.inject_noise(network(), wrong)


@pytest.mark.parametrize("wrong", [-0.1, float("nan"), 1e31, (0.2, 0.1), (0.1, 0.2, 0.3)])
def test_eta_is_in_range(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"^eta: expected "):
        nct.inject_noise(network(), wrong)
    if isinstance(wrong, float):
        model = network()
        nct.inject_noise(model, lambda key: wrong)
        with pytest.raises(ValueError, match=r"^eta: expected a number in \[0, 1e\+30\]"):
            model(X)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_limits_of_data_that_is_not_finite(value: float) -> None:
    model = converted()
    if value == 1e30:
        assert nct.limit_weights(model, [X * value])[0].limits.isfinite().all()
        return
    with pytest.raises(
        ValueError, match=r"^batches: expected finite inputs of '0', got NaN or inf"
    ):
        nct.limit_weights(model, [X * value])
    assert model[0].limits is None


def test_deploy_passes_over_the_data_more_than_once() -> None:
    model = network()
    with pytest.raises(ValueError, match=r"^calibration: expected batches that can be passed over"):
        nct.deploy(model, "pcm_joshi2020", (x for x in [X]), quiet=True)
    assert type(model[0]) is nn.Linear
