"""Whole models on crossbars: conversion in place and back, life cycle, reports."""

from __future__ import annotations

import copy
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from conversion_cases import convert_ideally, images, network  # noqa: E402

import noisycells as nc  # noqa: E402
import noisycells.torch as nct  # noqa: E402

nn = torch.nn
PCM = nc.devices.pcm_joshi2020()
CALIBRATED = nc.CrossbarSpec(dac_range="calibrated", adc_range="calibrated")
IDEAL = nc.CrossbarSpec(rows=20, dac_bits=None, adc_bits=None)
EXACT_READS = nc.CrossbarSpec(read_noise="none")


# --------------------------------------------------------------------------- there and back


def test_there_and_back() -> None:
    model = network()
    reference, x = copy.deepcopy(model), images()
    parameters, children = list(model.parameters()), list(model)
    calls = []
    model[4].register_forward_hook(lambda *a: calls.append(1))
    assert nct.convert(model, nc.devices.ideal(), IDEAL) is model
    assert [type(m).__name__ for m in model][::4] == ["CrossbarConv2d", "CrossbarLinear"]
    assert isinstance(model[4], nn.Linear)
    assert model[0].name == "0" and model[0].analog == nc.devices.ideal()
    torch.testing.assert_close(model(x), reference(x), rtol=1e-4, atol=1e-4)
    nct.program(model, 1)
    assert nct.restore(model) is model
    assert list(model) == children and all(
        a is b for a, b in zip(model.parameters(), parameters, strict=True)
    )
    assert repr(model) == repr(reference)
    assert model.state_dict().keys() == reference.state_dict().keys()
    assert vars(model[4]).keys() == vars(reference[4]).keys()
    model.load_state_dict(reference.state_dict())
    assert torch.equal(model(x), reference(x)) and len(calls) == 2


def test_a_model_that_is_one_layer() -> None:
    layer = nn.Linear(5, 3)
    nct.program(nct.convert(layer, PCM), 1)
    assert isinstance(layer, nct.CrossbarLinear)
    assert layer.name == nc.random.unnamed(layer.weight.detach().numpy())
    assert layer.eval()(torch.ones(5)).shape == (3,)


def test_filter_and_specs() -> None:
    a, b = nc.CrossbarSpec(rows=64), nc.CrossbarSpec(rows=32)
    model = nct.convert(network(), PCM, a, lambda layer, name: name != "4")
    assert type(model[4]) is nn.Linear and model[0].spec == a
    model = nct.convert(network(), PCM, {"4": a})
    assert (model[0].spec, model[4].spec) == (nc.CrossbarSpec(), a)
    model = nct.convert(network(), PCM, {"[0-3]": b, "*": a})
    assert (model[0].spec, model[4].spec) == (b, a)
    model = nct.convert(
        network(), PCM, lambda layer, name: a if isinstance(layer, nn.Conv2d) else b
    )
    assert (model[0].spec, model[4].spec) == (a, b)


def test_shared_layers_and_tied_weights() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(7, 5)
            self.head = nn.Linear(5, 7, bias=False)
            self.head.weight = self.embedding.weight
            self.again = self.head

        def forward(self, ids: Any) -> Any:
            return self.again(self.embedding(ids))

    model = Tied()
    convert_ideally(model)
    assert model.again is model.head and model.head.weight is model.embedding.weight
    model(torch.arange(7)).sum().backward()
    assert len(nct.estimate(model)) == 1


def test_refused_models_are_left_as_they_were() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    nct.magnitude_prune(model)
    with pytest.raises(ValueError, match="model: expected '0' to have an ordinary weight"):
        nct.convert(model, PCM)
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    for bad, error in (({"1": 3}, TypeError), (lambda *_: "x", TypeError)):
        with pytest.raises(error, match="spec: "):
            nct.convert(model, PCM, bad)
        assert all(type(layer) is nn.Linear for layer in model)
    with pytest.raises(TypeError, match="device: "):
        nct.convert(model, nc.devices.pcm_array())
    with pytest.raises(ValueError, match="zero_weights: "):
        nct.convert(model, nc.devices.ideal(), nc.CrossbarSpec(zero_weights="reset"))
    with pytest.raises(ValueError, match="at least one layer to convert"):
        nct.convert(nn.ReLU(), PCM)
    with pytest.raises(ValueError, match="expected crossbar layers, got none"):
        nct.program(model, 1)
    assert all(type(layer) is nn.Linear for layer in model)


def test_what_has_no_crossbar_layer_is_named() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.GRUCell(3, 3), nn.ConvTranspose1d(3, 3, 1))
    with pytest.warns(
        UserWarning, match=r"1 \(GRUCell\), 2 \(ConvTranspose1d\); they stay digital"
    ):
        nct.convert(model, PCM)
    rows = {row["name"]: row for row in nct.estimate(model)}
    assert rows["1"]["tiles"] == 0 and rows["0"]["tiles"] == 1


# --------------------------------------------------------------------------- life cycle


def test_program_and_at() -> None:
    model, x = nct.convert(network(), PCM, EXACT_READS).eval(), images()
    assert nct.program(model, 3) is model
    first = model(x)
    nct.program(model, 4)
    assert not torch.equal(model(x), first)
    nct.program(model, 3)
    assert torch.equal(model(x), first)
    nct.at(model, 1000.0)
    aged = model(x)
    assert not torch.equal(aged, first)
    nct.at(model, 10)
    nct.at(model, 1000)
    assert torch.equal(model(x), aged)
    with pytest.raises(ValueError, match="seconds: "):
        nct.at(model, 1e9)
    assert torch.equal(model(x), aged)
    nct.at(model, 1e9, extrapolate=True)


def test_program_names_layers() -> None:
    model = nn.Sequential(*(nct.CrossbarLinear(4, 4, device=PCM) for _ in range(2)))
    model[1].load_state_dict(model[0].state_dict())
    nct.program(model, 1)
    assert [layer.name for layer in model] == ["0", "1"]
    a, b = (layer.chip_conductances for layer in model)
    assert not torch.equal(a, b)


def test_calibrate() -> None:
    model = nct.convert(network(), PCM, CALIBRATED)
    batches = [images(8)[:4], {"input": images(8)[4:]}, (images(8)[:2],)]
    assert nct.calibrate(model, batches, vectors=10**6) is model
    assert model.training and all(layer.training for layer in model)
    assert model[0].ranges[0, 0] == images(8).abs().max()
    assert (model[0].ranges > 0).all() and (model[4].ranges > 0).all()
    assert "forward" not in vars(model[0])
    model(images()).sum().backward()
    nct.program(model, 1)
    model.eval()
    reference = nct.restore(copy.deepcopy(model))
    y, z = model(images()), reference(images())
    assert 0 < (y - z).std() < 0.2 * z.std()
    few = nct.calibrate(nct.convert(network(), PCM, CALIBRATED), batches, vectors=3)
    assert few[0].ranges[0, 0] < model[0].ranges[0, 0]


def test_calibrate_groups() -> None:
    model = nct.convert(nn.Conv1d(4, 4, 3, groups=2), PCM, CALIBRATED)
    x = torch.randn(2, 4, 9)
    x[:, 2:] *= 10
    nct.calibrate(model, [x])
    want = torch.stack([x[:, :2].abs().max(), x[:, 2:].abs().max()])
    torch.testing.assert_close(model.ranges[:, 0], want)
    nct.program(model, 1)
    nct.calibrate(model, [x])
    model.eval()
    reference = nct.restore(copy.deepcopy(model))
    error, size = model(x) - reference(x), reference(x)
    for group in (slice(0, 2), slice(2, 4)):
        assert error[:, group].std() < 0.2 * size[:, group].std()


def test_calibrate_refuses() -> None:
    model = nct.convert(network(), PCM, CALIBRATED)
    for batches, keywords, message in (
        ([], {}, "batches: expected data that reaches '0'"),
        ([images()], {"quantile": 0.0}, "quantile: "),
        ([images()], {"vectors": 0}, "vectors: "),
    ):
        with pytest.raises(ValueError, match=message):
            nct.calibrate(model, batches, **keywords)
    assert "forward" not in vars(model[0]) and model[0].ranges is None


def test_resume() -> None:
    model, x = nct.convert(network(), PCM, CALIBRATED), images()
    nct.calibrate(model, [x])
    nct.at(nct.program(model, 3), 60)
    other = nct.convert(network(), PCM, CALIBRATED)
    other.load_state_dict(model.state_dict())
    results = []
    for m in (model, other):
        torch.manual_seed(5)
        results.append([m.eval()(x), m.train()(x)])
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


# --------------------------------------------------------------------------- reports


def test_estimate_is_what_conversion_makes() -> None:
    model, spec = network(), nc.CrossbarSpec(rows=64, cols=4, weight_slice_bits=(4, 4))
    rows = nct.estimate(model, spec)
    assert [(r["name"], r["shape"]) for r in rows] == [("0", (1, 8, 27)), ("4", (1, 10, 200))]
    # 2 slices x (1 x 2 and 4 x 3 tiles); 2 slices x 2 polarities a weight.
    assert [r["tiles"] for r in rows] == [4, 24]
    assert [r["cells"] for r in rows] == [4 * 8 * 27, 4 * 10 * 200]
    assert not any(r["programmed"] for r in rows)
    nct.program(nct.convert(model, PCM, spec), 1)
    for row, layer in zip(nct.estimate(model), (model[0], model[4]), strict=True):
        assert row["programmed"] and row["cells"] == layer.chip_conductances.numel()
    nct.restore(model)
    assert nct.estimate(model, spec) == rows
    left = nct.estimate(model, spec, lambda layer, name: name == "0")
    assert [(r["name"], r["tiles"]) for r in left] == [("0", 4), ("4", 0)]


def test_memory_of_read_variances() -> None:
    """One byte a weight, where the device and the spec have noise in reads."""
    sizes = {}
    for device in (PCM, nc.devices.ideal()):
        for kind in ("none", "weight"):
            spec = nc.CrossbarSpec(read_noise=kind, kernel="int16")
            model = nct.convert(nn.Linear(30, 8), device, spec)
            sizes[device.name, kind] = nct.estimate(model)[0]["bytes"]
    assert sizes.pop((PCM.name, "weight")) == min(sizes.values()) + 8 * 30
    assert len(set(sizes.values())) == 1


def test_summary() -> None:
    model = nct.convert(network(), PCM, EXACT_READS, lambda layer, name: name == "0")
    nct.program(model, 1)
    lines = nct.summary(model).splitlines()
    assert lines[0].split() == "layer kind layers arrays weights tiles cells memory".split()
    assert lines[1].split() == "0 CrossbarConv2d 1 8 x 27 9.7 % 1 432 4.5 kB programmed".split()
    assert lines[2].split()[-1] == "digital"
    assert lines[3].split()[:7] == "total 2 9.7 % analog 1 432".split()
    depthwise = nct.summary(nn.Conv1d(4, 4, 3, groups=4))
    assert "4 of 1 x 3" in depthwise


def test_summary_joins_repeated_blocks() -> None:
    def block(size: int) -> nn.Module:
        return nn.ModuleDict({"up": nn.Linear(8, size), "parts": nn.Sequential(
            nn.Linear(size, size), nn.ReLU(), nn.Linear(size, size))})  # fmt: skip

    model = nn.ModuleDict({
        "blocks": nn.ModuleList([block(16), block(16), block(32), block(16)]),
        "0": nn.Linear(8, 16),
    })  # fmt: skip
    lines = nct.summary(model).splitlines()
    assert [line.split()[:5:2] for line in lines[1:-1]] == [
        ["blocks.0-1,3.up", "3", "x"],
        ["blocks.0-1,3.parts.0,2", "6", "x"],
        ["blocks.2.up", "1", "x"],
        ["blocks.2.parts.0,2", "2", "x"],
        ["0", "1", "x"],
    ]
    rows = nct.estimate(model)
    assert len(rows) == 13 and lines[-1].split()[:2] == ["total", "13"]
    cells = sum(int(line.split()[-3].replace(",", "")) for line in lines[1:-1])
    assert cells == sum(row["cells"] for row in rows)
    nct.convert(model, PCM)
    model["blocks"][1]["up"].program(1)  # told apart from those that are not programmed
    assert "blocks.0,3.up" in nct.summary(model)
