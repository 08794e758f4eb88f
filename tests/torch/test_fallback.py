"""Crossbar operators made of torch operations: the statistics and errors of the core's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from operator_cases import SPECS, linear  # noqa: E402

import noisycells as nc  # noqa: E402
import noisycells.torch as nct  # noqa: E402

PCM = nc.devices.pcm_joshi2020()
KEY = torch.tensor([3, -4])  # -4: the seed 2**64 - 4


# --------------------------------------------------------------------------- torch operations

NOISY = nc.devices.gaussian(0.4, 0.1, read_std=0.5, stuck=(0.05, 0.02), reset=(1.0, 0.3))
STATISTICS = {
    "weight noise": (PCM, nc.CrossbarSpec(rows=12, read_noise="weight")),
    "both noises": (NOISY, nc.CrossbarSpec(rows=12, read_noise="both", devices_per_polarity=2)),
    "polarity, row": (
        NOISY,
        nc.CrossbarSpec(rows=12, adc_per="polarity", mapping="row", read_noise="output"),
    ),
    "slices, reset": (
        NOISY,
        nc.CrossbarSpec(
            rows=12, weight_slice_bits=(3, 2), input_slice_bits=4, zero_weights="reset",
            read_noise="weight", adc_bits=10,
        ),
    ),
    "wires, column, int8": (
        NOISY,
        nc.CrossbarSpec(
            rows=12, mapping="column", wire_resistance_ohm=20.0, kernel="int8", read_noise="none"
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", STATISTICS.values(), ids=STATISTICS)
def test_torch_operations_have_the_statistics_of_the_core(
    case: tuple[nc.devices.Device, nc.CrossbarSpec],
) -> None:
    """Mean and variance of 24 outputs over 1500 chips and reads of each.

    The means differ by less than 6 standard errors (1e-9 each). Logarithms of variances differ
    by less than 6 standard errors as well, which are found from the fourth moments; so the false
    alarms of all five cases together stay below 1e-6.
    """
    device, spec = case
    torch.manual_seed(0)
    x, w = torch.randn(4, 20), torch.randn(6, 20)
    w[:, 3] = 0
    count = 1500

    def samples(dtype: Any, first: int) -> np.ndarray:
        a, b = x.to(dtype), w.to(dtype)
        return np.stack([
            linear(a, b, spec=spec, device=device, key=torch.tensor([i, i + 1])).numpy()
            for i in range(first, first + count)
        ]).astype(np.float64)  # fmt: skip

    core, operations = samples(torch.float32, 0), samples(torch.float64, 10**6)
    error = np.sqrt((core.var(0) + operations.var(0)) / count)
    assert (np.abs(core.mean(0) - operations.mean(0)) < 6 * error).all()

    def log_variance(s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        squares = np.square(s - s.mean(0))
        return np.log(squares.mean(0)), squares.var(0) / squares.mean(0) ** 2 / count

    (a, u), (b, v) = log_variance(core), log_variance(operations)
    assert (np.abs(a - b) < 6 * np.sqrt(u + v)).all()


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_torch_operations_equal_the_core_without_noise(spec: nc.CrossbarSpec) -> None:
    """Values and gradients on the same conductances; what lies at a rounding step is left out."""
    torch.manual_seed(0)
    spec = nc.CrossbarSpec.from_dict(
        spec.to_dict() | {"read_noise": "none", "dac_bits": None, "input_slice_bits": None,
                          "kernel": "float32", "adc_bits": spec.adc_bits and 16}
    )  # fmt: skip
    device = nc.devices.ideal(g_min=1.0)
    x, w = torch.randn(6, 37), torch.randn(11, 37)
    results = []
    for dtype in (torch.float32, torch.float64):
        a, b = (t.to(dtype).requires_grad_() for t in (x, w))
        y = linear(a, b, spec=spec, device=device)
        results.append([y.detach(), *torch.autograd.grad(y.square().sum(), [a, b])])
    for got, want in zip(*results, strict=True):
        atol = 2e-3 * want.abs().max().item()
        torch.testing.assert_close(got.double(), want, rtol=2e-3, atol=atol)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_torch_operations_err_as_the_core(spec: nc.CrossbarSpec) -> None:
    """Size of the errors, over 32,768 outputs of one chip each; other devices take this path too.

    Chips differ: 6 chips of each give spreads of the errors' size that 10 % are far outside of.
    """
    torch.manual_seed(0)
    x, w = torch.randn(512, 300), torch.randn(64, 300)
    exact = (x @ w.T).double()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    there = [t.to(device, torch.float64).requires_grad_() for t in (x, w)]
    y = linear(*there, spec=spec)
    errors = [(z.detach().cpu().double() - exact).std() for z in (linear(x, w, spec=spec), y)]
    torch.testing.assert_close(errors[0], errors[1], rtol=0.1, atol=0)
    y.sum().backward()
    assert all(t.grad.isfinite().all() and t.grad.any() for t in there)


# --------------------------------------------------------------------------- reads in operations


def read_twice(spec: nc.CrossbarSpec, dtype: Any, device: Any, count: int = 4000) -> Any:
    """Outputs of one chip for the same inputs, read again and again; and the chip."""
    torch.manual_seed(0)
    layer = nct.CrossbarLinear(30, 8, bias=False, device=device, spec=spec, name="fc")
    layer.program(3)
    x = torch.rand(30)
    layer.to(dtype).eval()
    return x, layer(x.expand(count, 30).to(dtype)), layer.crossbars()[0]


def test_read_noise_of_torch_operations_has_its_variance() -> None:
    """Of one chip whose reads alone are random: sum of a^2 times the variances of the pairs.

    Variances of 4000 reads of 8 outputs together are known to 0.8 %; 5 % are 6 of that.
    """
    spec = nc.CrossbarSpec(dac_bits=None, adc_bits=None, read_noise="weight", kernel="float32")
    x, y, array = read_twice(spec, torch.float64, PCM)
    (plane,) = array.packed.planes()
    scale = array.packed.scales.output.astype(np.float64)
    a = x.double().numpy() / x.max().item()
    want = np.square(a) @ plane.variance.astype(np.float64).T * np.square(scale * x.max().item())
    found = y.var(0).numpy()
    assert abs(np.mean(found / want) - 1) < 0.05
    core = read_twice(spec, torch.float32, PCM)[1].double().var(0).numpy()
    assert abs(np.mean(core / want) - 1) < 0.05


def test_int8_weights_of_torch_operations_have_127_levels() -> None:
    """Rows of the identity, which an 8-bit DAC drives exactly, read the weights one by one."""
    spec = nc.CrossbarSpec(adc_bits=None, read_noise="none", kernel="int8")
    torch.manual_seed(0)
    w = torch.randn(6, 20, dtype=torch.float64)
    eye = torch.eye(20, dtype=torch.float64)
    found = linear(eye, w, spec=spec, device=nc.devices.ideal()).T
    peak = w.abs().amax(1, keepdim=True)
    torch.testing.assert_close(found / peak * 127, (w / peak * 127).round(), rtol=0, atol=1e-3)
