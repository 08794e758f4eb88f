"""Limited weights: the least expected error of a device, and a state that stays together."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import noisycells as nc  # noqa: E402
import noisycells.torch as nct  # noqa: E402

nn = torch.nn
HERMES = nc.devices.pcm_hermes()
COLUMN = nc.CrossbarSpec(mapping="column", dac_bits=None, adc_bits=None)


def case(mapping: str = "column", device: Any = HERMES) -> tuple[Any, Any]:
    """Weights with outliers in half of the outputs, and inputs of unlike size."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 24))
    with torch.no_grad():
        model[0].weight[::2, ::16] *= 4
    x = torch.randn(300, 64) * torch.logspace(-0.5, 0.5, 64)
    spec = nc.CrossbarSpec(mapping=mapping, dac_bits=None, adc_bits=None)
    return nct.convert(model, device, spec).eval(), x


def error(model: Any, x: Any, chips: int = 40) -> float:
    """Mean square error of the products over chips."""
    want, total = model[0].digital(x), 0.0
    with torch.no_grad():
        for chip in range(chips):
            nct.program(model, chip)
            total += (model(x) - want).square().mean().item()
    return total / chips


@pytest.mark.parametrize("mapping", ["tensor", "column"])
def test_errors_are_the_least(mapping: str) -> None:
    """On chips: less than without limits, and than with half or all of the way to other limits."""
    model, x = case(mapping)
    plain = copy.deepcopy(model)
    nct.limit_weights(model, x)
    limits = model[0].limits.clone()
    largest = model[0].weight.detach().abs().amax(1)
    assert (limits < largest).any() and (limits <= largest.max()).all()
    found = error(model, x)
    assert found < 0.97 * error(plain, x)
    for factor in (0.6, 1.6):
        other = copy.deepcopy(plain)
        other[0].limits = limits * factor
        assert found < error(other, x)


def test_the_expected_error_is_that_of_chips() -> None:
    """The sum over weights of the formula, against 40 chips, for one of the limits."""
    from noisycells.torch.crossbar.limits import _variances

    model, x = case()
    limits = 0.7 * model[0].weight.detach().abs().amax(1)
    model[0].limits = limits
    weights = model[0].weight.detach().abs().double().numpy()
    top = limits.double().numpy()[:, None]
    at, variance = _variances(HERMES, COLUMN)
    kept = np.minimum(weights, top)
    noise = np.interp(kept / top, at, variance) + variance[0]
    energy = x.double().square().mean(0).numpy()
    signs = model[0].weight.detach().double().numpy()
    cut = (np.sign(signs) * (weights - kept)) @ x.double().numpy().T  # of these inputs, exactly
    want = np.square(cut).mean() + ((top**2 * noise) @ energy).mean()
    assert error(model, x) == pytest.approx(want, rel=0.1)


def test_exact_devices_keep_all_weights() -> None:
    model, x = case(device=nc.devices.ideal())
    nct.limit_weights(model, x)
    assert torch.equal(model[0].mapped(), model[0].weight)


@pytest.mark.parametrize("spec", [{"mapping": "row"}, {"weight_slice_bits": (4, 4)}])
def test_layers_that_are_left_alone(spec: dict[str, Any]) -> None:
    model = nct.convert(nn.Sequential(nn.Linear(8, 4)), HERMES, nc.CrossbarSpec(**spec))
    nct.limit_weights(model, torch.randn(10, 8))
    assert model[0].limits is None


def test_groups_and_empty_outputs() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(6, 8, 3, groups=2))
    with torch.no_grad():
        model[0].weight[3] = 0
    x = torch.randn(3, 6, 8, 8)
    nct.convert(model, HERMES, COLUMN)
    nct.limit_weights(nct.smooth(model, x), x)
    assert model[0].limits.shape == (8,) and model[0].limits[3] == 0
    assert (model[0].mapped().abs().amax((1, 2, 3)) <= model[0].limits).all()
    nct.program(model, 1)
    with torch.no_grad():
        assert model.eval()(x).isfinite().all()


def test_state_travels_with_the_chip() -> None:
    model, x = case()
    fresh = copy.deepcopy(model)
    nct.limit_weights(model, x)
    nct.program(model, 1)
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh[0].limits, model[0].limits) and not fresh[0].stale
    digital = nct.restore(copy.deepcopy(model))
    assert torch.equal(digital[0].weight, model[0].weight)
    with pytest.raises(ValueError, match="model: expected layers that are not programmed"):
        nct.limit_weights(model, x)
    with pytest.raises(ValueError, match="batches: expected data that reaches '0'"):
        nct.limit_weights(case()[0], [])
