"""Gradients of crossbar layers are those of the product: for digits of inputs, at every scale."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import noisycells as nc  # noqa: E402
import noisycells.torch as nct  # noqa: E402

nn = torch.nn
CLEAN = nc.CrossbarSpec(adc_bits=None, read_noise="none", rows=5)
LAYERS = {
    "linear": (lambda: nn.Linear(7, 6, bias=False), (9, 7)),
    "convolution": (lambda: nn.Conv1d(3, 4, 3, padding=1, bias=False), (5, 3, 6)),
}


def made(kind: str, spec: nc.CrossbarSpec) -> tuple[Any, Any, Any]:
    """A digital layer in float64, the same on crossbars without noise, and inputs."""
    torch.manual_seed(0)
    make, shape = LAYERS[kind]
    digital = nn.Sequential(make())
    analog = nct.convert(nn.Sequential(make()), nc.devices.ideal(), spec)
    analog.load_state_dict(digital.state_dict(), strict=False)
    return digital.double(), analog, torch.randn(shape)


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("dac_range", ["vector", 4.0])
@pytest.mark.parametrize("mapping", ["tensor", "row"])
@pytest.mark.parametrize(("dac_bits", "bits"), [(8, b) for b in range(1, 8)] + [(5, 3), (12, 4)])
def test_digits_of_inputs(
    dac_bits: int, bits: int, mapping: str, dac_range: Any, kind: str
) -> None:
    """The gradient passes straight through the DAC, in however many digits its codes are given."""
    spec = replace(
        CLEAN, dac_bits=dac_bits, input_slice_bits=bits, mapping=mapping, dac_range=dac_range
    )
    digital, analog, x = made(kind, spec)
    for training in (True, False):
        analog.train(training)
        if not training:
            nct.program(analog, 1)
        inputs, right = x.clone().requires_grad_(), x.double().requires_grad_()
        y, want = analog(inputs), digital(right)
        grad = torch.randn(y.shape)
        y.backward(grad)
        want.backward(grad.double())
        torch.testing.assert_close(inputs.grad.double(), right.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("options", [
    {"dac_bits": None}, {}, {"mapping": "row"}, {"input_slice_bits": 3},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("scale", [1e30, 1.0, 1e-20, 1e-36, 1e-38, 1e-41])
def test_inputs_of_every_scale(
    scale: float, options: dict[str, Any], dtype: torch.dtype, kind: str
) -> None:
    """Also where the inverse of a vector's full scale is beyond float32."""
    digital, analog, x = made(kind, replace(CLEAN, **options))
    analog.to(dtype)
    inputs, right = (x * scale).to(dtype).requires_grad_(), (x * scale).double().requires_grad_()
    y, want = analog(inputs), digital(right)
    grad = torch.randn(y.shape)
    y.backward(grad.to(dtype))
    want.backward(grad.double())
    torch.testing.assert_close(inputs.grad.double(), right.grad, rtol=1e-4, atol=1e-4)
    found, weights = analog[0].weight.grad.double(), digital[0].weight.grad
    atol = 2e-2 * weights.abs().max().item() + 8 * 1.4e-45
    torch.testing.assert_close(found, weights, rtol=0, atol=atol)


@pytest.mark.parametrize("size", [1e-41, 1e-36, 1e30])
def test_gradients_of_every_size(size: float) -> None:
    digital, analog, x = made("linear", replace(CLEAN, dac_bits=None))
    inputs, right = x.clone().requires_grad_(), x.double().requires_grad_()
    y, want = analog(inputs), digital(right)
    grad = torch.full(y.shape, size)
    y.backward(grad)
    want.backward(grad.double())
    for found, known in (
        (inputs.grad, right.grad),
        (analog[0].weight.grad, digital[0].weight.grad),
    ):
        atol = 1e-4 * known.abs().max().item() + 16 * 1.4e-45
        torch.testing.assert_close(found.double(), known, rtol=0, atol=atol)
