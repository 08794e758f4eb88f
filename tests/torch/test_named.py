"""Devices by name wherever the torch side takes one; loaders that tell each other apart."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import noisycells as nc
import noisycells.torch as nct

PCM = nc.devices.pcm_joshi2020()
CELL = nc.devices.pcm_array()


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))


@pytest.fixture(params=["preset", "file"])
def name(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of ``PCM``."""
    if request.param == "preset":
        return "pcm_joshi2020"
    path = tmp_path / "mine.json"
    path.write_text(PCM.to_json())
    return str(path)


def test_a_product_on_a_device_by_name(name: str) -> None:
    x, w, key = torch.randn(4, 6), torch.randn(3, 6), torch.tensor([5])
    wanted = nct.crossbar_linear(x, w, device=PCM, key=key)
    torch.testing.assert_close(
        nct.crossbar_linear(x, w, device=name, key=key), wanted, rtol=0, atol=0
    )


def test_layers_on_a_device_by_name(name: str) -> None:
    assert nct.CrossbarLinear(6, 3, device=name).analog == PCM
    assert nct.CrossbarConv2d(2, 3, 3, device=name).analog == PCM
    model = nct.convert(network(), name)
    assert [layer.analog for layer in (model[0], model[2])] == [PCM, PCM]


def test_noise_and_folding_by_name(name: str) -> None:
    model, x = network(), torch.randn(4, 6)
    with nct.inject_noise(model, device=PCM, seconds=60.0, seed=1):
        wanted = model(x)
    with nct.inject_noise(model, device=name, seconds=60.0, seed=1):
        torch.testing.assert_close(model(x), wanted, rtol=0, atol=0)
    folded = [
        nct.fold_batchnorm(nn.Sequential(network()[0], nn.BatchNorm1d(5)).eval(), device)
        for device in (PCM, name)
    ]
    assert folded[0] == folded[1]


def test_what_is_no_device_is_refused_by_name() -> None:
    x, w = torch.randn(4, 6), torch.randn(3, 6)
    asks: list[Any] = [
        lambda d: nct.convert(network(), d),
        lambda d: nct.crossbar_linear(x, w, device=d),
        lambda d: nct.CrossbarLinear(6, 3, device=d),
        lambda d: nct.inject_noise(network(), device=d),
        lambda d: nct.fold_batchnorm(network(), d),
    ]
    for ask in asks:
        with pytest.raises(ValueError, match=r"^device: .*; did you mean 'pcm_joshi2020'?"):
            ask("pcm_joshi202")
        with pytest.raises(TypeError, match=r"^device: expected a Device, got the channel 'pcm_ar"):
            ask("pcm_array")
        with pytest.raises(TypeError, match=r"^device: expected a Device, got the channel 'pcm_ar"):
            ask(CELL)


@pytest.mark.parametrize("ask", ["store", "inject_noise"])
def test_a_codec_is_no_name(ask: str) -> None:
    with pytest.raises(TypeError, match=r"^codec: expected a Codec.*, got 'pcm_array'"):
        if ask == "store":
            nct.store(network(), "pcm_array")  # type: ignore[arg-type]
        else:
            nct.inject_noise(network(), codec="pcm_array")  # type: ignore[arg-type]


# ----------------------------------------------------------------- the two that load


def test_each_load_names_the_other(tmp_path: Path) -> None:
    stored, model = nct.store(network(), nc.Codec(CELL)), network()
    right = re.escape("noisycells.torch.load(stored, model, seed)")
    for arguments in ((stored,), (stored, model, 1), (tmp_path / "m", model, 1)):
        with pytest.raises(TypeError, match=f"^path: expected a path and nothing more; {right}"):
            nc.load(*arguments)  # type: ignore[arg-type]
    for path in ("m.safetensors", tmp_path / "m.safetensors"):
        with pytest.raises(
            TypeError, match=r"^stored: expected a stored model, .*; noisycells.load\(path\) reads"
        ):
            nct.load(path, model, 1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^model: expected a torch.nn.Module, got 'm'"):
        nct.load(stored, "m", 1)  # type: ignore[arg-type]


# ----------------------------------------------------------------- what a sensitivity speaks of


def test_a_sensitivity_of_no_parameter_is_refused() -> None:
    model, codec = network(), nc.Codec(CELL)
    with pytest.raises(ValueError, match=r"^sensitivity: .*, got '0.weigth'; did you mean '0.wei"):
        nct.store(model, codec, sensitivity={"0.weigth": torch.ones(5, 6).numpy()})
    for wrong in ("abc", [1, 2], torch.ones(3)):
        with pytest.raises(TypeError, match=r"^sensitivity: expected a mapping of parameter names"):
            nct.store(model, codec, sensitivity=wrong)  # type: ignore[arg-type]


def test_a_sensitivity_may_speak_of_digital_and_tied_parameters() -> None:
    """Of biases, as nct.sensitivity does, and of weights under their other names."""
    model, codec = network(), nc.Codec(CELL, cells=(1, 4))
    weights = {"0.weight": torch.rand(5, 6).numpy() ** 8, "2.weight": torch.rand(3, 5).numpy()}
    wanted = nct.store(model, codec, sensitivity=weights)
    found = nct.store(model, codec, sensitivity={**weights, "0.bias": torch.ones(5).numpy()})
    assert [t.ranges for t in found.values()] == [t.ranges for t in wanted.values()]
    assert nct.store(model, codec)["0.weight"].ranges != wanted["0.weight"].ranges
    tied = network()
    tied.add_module("3", tied[0])
    named = nct.store(tied, codec, sensitivity={"3.weight": weights["0.weight"]})
    assert named["0.weight"].ranges == wanted["0.weight"].ranges
