"""Input smoothing: the same products, smaller errors, and a state that stays together."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import noisycells as nc  # noqa: E402
import noisycells.torch as nct  # noqa: E402

nn = torch.nn
PCM = nc.devices.pcm_joshi2020()
EXACT = nc.CrossbarSpec(dac_bits=None, adc_bits=None)
KINDS = {
    "linear": (lambda: nn.Linear(12, 5), (40, 12)),
    "conv": (lambda: nn.Conv2d(6, 8, 3, padding=1), (4, 6, 7, 7)),
    "groups": (lambda: nn.Conv1d(6, 4, 3, groups=2), (4, 6, 9)),
    "depthwise": (lambda: nn.Conv2d(6, 6, 3, groups=6), (4, 6, 7, 7)),
    "lstm": (lambda: nn.LSTM(12, 5, batch_first=True), (4, 6, 12)),
    "attention": (lambda: nn.TransformerEncoderLayer(12, 3, 16, batch_first=True), (4, 6, 12)),
}


def outliers(shape: tuple[int, ...], axis: int) -> Any:
    """Inputs of which some channels are far larger."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    sizes = torch.logspace(-2, 2, shape[axis])
    return x * sizes.reshape(-1, *(1,) * (len(shape) - axis - 1))


def case(name: str) -> tuple[Any, Any]:
    torch.manual_seed(0)
    make, shape = KINDS[name]
    x = outliers(shape, 1 if "conv" in name or name in ("groups", "depthwise") else len(shape) - 1)
    return nn.Sequential(make()).eval(), x


def first(found: Any) -> Any:
    return found[0] if isinstance(found, tuple) else found


@pytest.mark.parametrize("name", KINDS)
def test_products_stay_the_same(name: str) -> None:
    """Of ideal devices and converters; parameters do not change."""
    model, x = case(name)
    with torch.no_grad():
        want = first(model(x))
        parameters = copy.deepcopy(model.state_dict())
        nct.convert(model, nc.devices.ideal(), EXACT)
        nct.smooth(model, x)
        layers = [m for m in model.modules() if isinstance(m, nct.CrossbarLayer)]
        assert any((layer.smoothing != 1).any() for layer in layers)
        nct.program(model, 1)
        scale = want.abs().max().item()
        torch.testing.assert_close(first(model(x)), want, rtol=1e-5, atol=1e-5 * scale)
        nct.restore(model)
        assert torch.equal(first(model(x)), want)
    assert all(torch.equal(model.state_dict()[k], v) for k, v in parameters.items())


def test_factors_are_those_of_the_paper() -> None:
    """max|x|^a / max|w|^(1 - a), relative to the geometric mean."""
    model = nn.Sequential(nn.Linear(3, 2, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 0.5, 0.0], [-2.0, 0.25, 0.0]]))
    nct.convert(model, PCM)
    x = torch.tensor([[8.0, -1.0, 5.0], [-32.0, 0.5, 0.0]])
    for strength in (0.5, 1.0, 0.0):
        nct.smooth(model, [x[:1], x[1:]], strength)
        raw = [32**strength / 2 ** (1 - strength), 1 / 0.5 ** (1 - strength)]
        mean = math.sqrt(raw[0] * raw[1])
        want = [raw[0] / mean, raw[1] / mean, 1.0]
        assert model[0].smoothing.tolist() == pytest.approx(want)


@pytest.mark.parametrize("name", ["linear", "conv"])
def test_smaller_errors(name: str) -> None:
    """Channels that a DAC of 6 bits rounds away come through; and gradients with them."""
    model, x = case(name)
    spec = nc.CrossbarSpec(dac_bits=6, adc_bits=None, mapping="column", read_noise="none")
    with torch.no_grad():
        model[0].weight /= (
            x.abs().amax([d for d in range(x.ndim) if d != 1]).reshape(-1, *(1,) * (x.ndim - 2))
        )  # all channels count
        want = model(x)
    nct.convert(model, nc.devices.ideal(), spec)
    plain = copy.deepcopy(model)
    nct.smooth(model, x)
    errors = []
    for one in (plain, model):
        nct.program(one, 1)
        with torch.no_grad():
            errors.append((one(x) - want).square().mean().item())
    assert errors[1] < errors[0] / 4
    model.train()
    x.requires_grad_()
    model(x).square().sum().backward()
    grad = model[0].weight.grad.clone()
    model.zero_grad()
    digital = nct.restore(copy.deepcopy(model))
    digital(x).square().sum().backward()
    cosine = nn.functional.cosine_similarity(grad.flatten(), digital[0].weight.grad.flatten(), 0)
    assert cosine > 0.99


def test_state_travels_as_a_whole() -> None:
    model, x = case("linear")
    nct.convert(model, PCM, nc.CrossbarSpec(adc_range="calibrated"))
    plain = copy.deepcopy(model)
    nct.calibrate(nct.smooth(model, x), x)
    nct.program(model, 1)
    fresh = copy.deepcopy(plain)
    fresh.load_state_dict(model.state_dict())
    torch.manual_seed(3)
    want = model(x)
    torch.manual_seed(3)
    assert torch.equal(fresh(x), want) and torch.equal(fresh[0].smoothing, model[0].smoothing)
    # a chip without smoothing takes the place of one with
    nct.calibrate(plain, x)
    nct.program(plain, 2)
    fresh.load_state_dict(plain.state_dict(), strict=False)
    assert fresh[0].smoothing is None
    # of another chip's inputs
    smoothed = {k: v for k, v in model.state_dict().items() if "chip" not in k}
    with pytest.raises(RuntimeError, match="smoothing, limits: expected those of the chip"):
        plain.load_state_dict(smoothed, strict=False)
    half = copy.deepcopy(model).half()
    assert half[0].smoothing.dtype is torch.float32


def test_smooth_refuses() -> None:
    model, x = case("linear")
    with pytest.raises(ValueError, match="model: expected crossbar layers"):
        nct.smooth(model, x)
    nct.convert(model, PCM)
    nct.smooth(model, x)
    before = model[0].smoothing
    with pytest.raises(ValueError, match="strength: expected a number in"):
        nct.smooth(model, x, 1.5)
    with pytest.raises(ValueError, match="batches: expected data that reaches '0'"):
        nct.smooth(model, [])
    with pytest.raises(ValueError, match="batches: expected finite inputs of '0'"):
        nct.smooth(model, x * torch.tensor(math.inf))
    assert model[0].smoothing is before
    nct.program(model, 1)
    with pytest.raises(ValueError, match="model: expected layers that are not programmed"):
        nct.smooth(model, x)
