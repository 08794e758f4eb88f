"""Cases in torch: steps of training on crossbars and with noise on weights, small calls, peers."""

from __future__ import annotations

import copy
from types import ModuleType
from typing import Any

import numpy as np

from noisycells import Codec, devices
from noisycells.crossbar import CrossbarSpec, Packed
from noisycells.speed.cases import ROWS
from noisycells.speed.timing import Call, torch_or_none

from .. import peers
from .case import Case, Field, Job
from .crossbar import LARGE, MODES, Shape, conductances, device, product, spec_of

__all__ = ["CASES"]

BATCH = 128
LEAST_BATCH = 2  # of short runs
INPUT_RANGE = 4.0  # full scale of normalized activations
SMALL = 16
ETA = 0.05
BITS = 4
FEATURES, TOKENS = 384, 24  # of MiniLM, and of its sentences
SENTENCES = 120


def training(batch: int) -> Field:
    """One step of ResNet-20 for CIFAR: 8-bit DAC and ADC, output noise, every layer."""
    torch = torch_or_none()
    if torch is None:
        return Field([], {})
    import noisycells.torch as nct

    plain = nct.build(nct.ResNet20, seed=1)
    specs = {
        "input range fixed": CrossbarSpec(
            rows=ROWS, read_noise="output", dac_range=INPUT_RANGE, mapping="tensor"
        ),
        "range of each patch": CrossbarSpec(rows=ROWS, read_noise="output", mapping="tensor"),
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


def noise(batch: int) -> Field:
    """One step of ResNet-20 for CIFAR, SGD with momentum, all weights noisy."""
    torch = torch_or_none()
    if torch is None:
        return Field([], {})
    import noisycells.torch as nct

    plain = nct.build(nct.ResNet20, seed=1)
    source = torch.Generator().manual_seed(1)
    images = torch.randn(batch, 3, 32, 32, generator=source)
    labels = torch.randint(10, (batch,), generator=source)
    kinds: dict[str, dict[str, Any]] = {
        "Gaussian": {"eta": ETA},
        "stored": {"codec": Codec(devices.gaussian_standin())},
        "programmed": {"device": devices.pcm_joshi2020()},
    }
    models = {}
    for name, arguments in kinds.items():
        models[name] = copy.deepcopy(plain)
        nct.inject_noise(models[name], **arguments, seed=1)
    models[f"Gaussian, {BITS} bits"] = nct.quantize(copy.deepcopy(models["Gaussian"]), BITS, BITS)
    rivals = {
        "plain torch": step(torch, copy.deepcopy(plain), images, labels),
        "W + s randn": step(torch, _by_hand(torch, plain), images, labels),
    }
    jobs = [
        Job(name, step(torch, model, images, labels), tuple(rivals))
        for name, model in models.items()
    ]
    return Field(jobs, rivals)


def _by_hand(torch: ModuleType, plain: Any) -> Any:
    """Noise as it is often written: noisy copies of all weights, given to the plain model."""

    class Noisy(torch.nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.plain = copy.deepcopy(plain)

        def forward(self, x: Any) -> Any:
            noisy = {}
            for name, w in self.plain.named_parameters():
                if w.ndim >= 2:
                    sigma = ETA * (w.max() - w.min()).detach()
                    noisy[name] = w + sigma * torch.randn_like(w)
            return torch.func.functional_call(self.plain, noisy, (x,))

    return Noisy()


def encoder(sentences: int) -> Field:
    """A forward of an encoder of MiniLM's sizes, every Linear on programmed crossbars.

    Random weights, 6 layers of 384 features; sentences of 24 tokens in batches of 16. The kernel is
    the one that "auto" chooses for the device, and int16.
    """
    torch = torch_or_none()
    if torch is None:
        return Field([], {})
    import noisycells.torch as nct

    torch.manual_seed(1)
    layer = torch.nn.TransformerEncoderLayer(
        FEATURES, 12, 4 * FEATURES, 0.0, "gelu", batch_first=True
    )
    plain = torch.nn.TransformerEncoder(layer, 6, enable_nested_tensor=False).eval()
    batches = torch.randn(sentences, TOKENS, FEATURES).split(16)

    def forward(model: Any) -> Call:
        def call() -> Any:
            with torch.no_grad():
                return torch.cat([model(x) for x in batches])

        return call

    jobs = []
    for kernel in ("auto", "int16"):
        for mode, reads in MODES.items():
            spec = CrossbarSpec(rows=ROWS, read_noise=reads, kernel=kernel)
            chip = nct.program(nct.convert(copy.deepcopy(plain), device(), spec), 1)
            jobs.append(Job(f"{kernel} {mode}", forward(chip), ("plain torch",)))
    return Field(jobs, {"plain torch": forward(plain)})


def small_calls() -> Field:
    """What a call costs where there is hardly anything to compute."""
    torch = torch_or_none()
    if torch is None:
        return Field([], {})
    import noisycells.torch as nct

    linear = torch.nn.Linear(SMALL, SMALL)
    x = torch.randn(1, SMALL, generator=torch.Generator().manual_seed(1))
    spec = CrossbarSpec(rows=ROWS, read_noise="none", mapping="tensor")
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
    others, absent = peers.products(torch, x, noisy.effective_weights(), noisy)
    jobs = [
        Job(f"int16 {mode}", product(array, x, np.empty((batch, n), np.float32)),
            tuple(f"{peer}, {mode}" for peer in peers.PEERS))
        for mode, array in arrays.items()
    ]  # fmt: skip
    absent["CrossSim, output noise"] = "has none"
    return Field(jobs, others, absent)


CASES: tuple[Case, ...] = (
    Case(
        "peers", f"{LARGE}, other simulators", "peers",
        lambda shrink, _: products(LARGE.shrunk(shrink)),
    ),
    Case(
        "training", f"training step of ResNet-20, batch {BATCH}", "training",
        lambda shrink, _: training(max(BATCH // shrink, LEAST_BATCH)),
    ),
    Case(
        "noise", f"training step of ResNet-20 with noise on weights, batch {BATCH}", "noise",
        lambda shrink, _: noise(max(BATCH // shrink, LEAST_BATCH)),
    ),
    Case(
        "encoder", f"forward of an encoder of MiniLM's sizes, {SENTENCES} sentences", "encoder",
        lambda shrink, _: encoder(max(SENTENCES // shrink, LEAST_BATCH)),
    ),
    Case("calls", f"calls of a layer, 1x{SMALL}x{SMALL}", "calls",
                 lambda *_: small_calls()),
)  # fmt: skip
