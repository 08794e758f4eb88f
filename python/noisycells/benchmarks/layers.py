"""Cases of the torch layers: a step of training, calls with small inputs, the peers' layers."""

from __future__ import annotations

import copy
from types import ModuleType
from typing import Any

import numpy as np

from ..crossbar import CrossbarSpec, Packed
from . import peers
from .contenders import Call, torch_or_none
from .crossbar import (
    LARGE,
    ROWS,
    CrossbarCase,
    Field,
    Job,
    Shape,
    conductances,
    device,
    product,
    spec_of,
)

__all__ = ["BATCH", "CASES", "LEAST_BATCH", "step"]

BATCH = 128
LEAST_BATCH = 2  # of short runs
INPUT_RANGE = 4.0  # full scale of normalised activations
SMALL = 16


def training(batch: int) -> Field:
    """One step of ResNet-20 for CIFAR: 8-bit DAC and ADC, output noise, every layer."""
    torch = torch_or_none()
    if torch is None:
        return Field([], {})
    from .. import torch as nct

    plain = nct.build(nct.ResNet20, seed=1)
    specs = {
        "input range fixed": CrossbarSpec(rows=ROWS, read_noise="output", dac_range=INPUT_RANGE),
        "range of each patch": CrossbarSpec(rows=ROWS, read_noise="output"),
    }
    others, absent = peers.training(plain, ROWS, CrossbarSpec.output_noise)
    source = torch.Generator().manual_seed(1)
    images = torch.randn(batch, 3, 32, 32, generator=source)
    labels = torch.randint(10, (batch,), generator=source)
    steps = {
        name: step(torch, model, images, labels)
        for name, model in {"plain torch": plain, **others}.items()
    }
    jobs = [
        Job(name, step(torch, nct.convert(copy.deepcopy(plain), device(), spec), images, labels),
            ("plain torch", "aihwkit-lightning", "aihwkit"))
        for name, spec in specs.items()
    ]  # fmt: skip
    return Field(jobs, steps, absent)


def step(torch: ModuleType, model: Any, images: Any, labels: Any) -> Call:
    """Forward, backward, update; returns the loss."""
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    def call() -> Any:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return call


def small_calls() -> Field:
    """What a call costs where there is hardly anything to compute."""
    torch = torch_or_none()
    if torch is None:
        return Field([], {})
    from .. import torch as nct

    linear = torch.nn.Linear(SMALL, SMALL)
    x = torch.randn(1, SMALL, generator=torch.Generator().manual_seed(1))
    spec = CrossbarSpec(rows=ROWS, read_noise="none")
    fresh = nct.CrossbarLinear(SMALL, SMALL, device=device(), spec=spec)
    fresh.load_state_dict(linear.state_dict())
    programmed = copy.deepcopy(fresh)
    programmed.program(1)
    programmed.eval()

    def without_gradient(module: Any) -> Call:
        def call() -> Any:
            with torch.no_grad():
                return module(x)

        return call

    jobs = [
        Job("programmed", without_gradient(programmed), ("F.linear",)),
        Job("programs first", without_gradient(fresh), ("F.linear",)),
        Job("and backward", _backward(fresh, x), ("F.linear and backward",)),
    ]
    return Field(jobs, {
        "F.linear": without_gradient(linear), "F.linear and backward": _backward(linear, x),
    })  # fmt: skip


def _backward(module: Any, x: Any) -> Call:
    def call() -> Any:
        module.zero_grad()
        y = module(x)
        y.sum().backward()
        return y.detach()

    return call


def products(shape: Shape) -> Field:
    """Beside the peers' products."""
    torch = torch_or_none()
    if torch is None:
        return Field([], {})
    batch, k, n = shape
    x = np.random.default_rng(7).standard_normal((batch, k), np.float32)
    layer, g = conductances(n, k)
    arrays = {
        mode: Packed(g, device(), spec_of("int16", mode), layer.scales)
        for mode in ("ADC only", "output noise")
    }
    noisy = arrays["output noise"]
    others, absent = peers.products(torch, x, noisy.weights(), noisy)
    jobs = [
        Job(f"int16 {mode}", product(array, x, np.empty((batch, n), np.float32)),
            tuple(f"{peer}, {mode}" for peer in peers.PEERS))
        for mode, array in arrays.items()
    ]  # fmt: skip
    absent["CrossSim, output noise"] = "has none"
    return Field(jobs, others, absent)


CASES: tuple[CrossbarCase, ...] = (
    CrossbarCase(
        "peers", f"{LARGE}, other simulators", "peers",
        lambda shrink, _: products(LARGE.shrunk(shrink)),
    ),
    CrossbarCase(
        "training", f"training step of ResNet-20, batch {BATCH}", "training",
        lambda shrink, _: training(max(BATCH // shrink, LEAST_BATCH)),
    ),
    CrossbarCase("calls", f"calls of a layer, 1x{SMALL}x{SMALL}", "calls",
                 lambda *_: small_calls()),
)  # fmt: skip
