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
}


@pytest.mark.parametrize("name", FLAGS)
@pytest.mark.parametrize("value", ["False", 1, None])
def test_flags_are_bools(name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=f"^{name}: expected True or False, got "):
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
}


@pytest.mark.parametrize("name", NUMBERS)
def test_counts_end(name: str) -> None:
    for wrong in (2**63, 2**31, -1):
        with pytest.raises(ValueError, match=rf"^{name.strip()}: expected an int in \[[01], 2147"):
            NUMBERS[name](wrong)
    for wrong in (1.5, "1", True):
        with pytest.raises(TypeError, match=f"^{name.strip()}: expected an int, got "):
            NUMBERS[name](wrong)
