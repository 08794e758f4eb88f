"""Cases of training with noise on the weights: a step, beside the same step without."""

from __future__ import annotations

import copy
from types import ModuleType
from typing import Any

from .. import devices
from ..storage import Codec
from .contenders import torch_or_none
from .crossbar import CrossbarCase, Field, Job
from .layers import BATCH, LEAST_BATCH, step

__all__ = ["CASES"]

ETA = 0.05
BITS = 4


def noise(batch: int) -> Field:
    """One step of ResNet-20 for CIFAR, SGD with momentum, all weights noisy."""
    torch = torch_or_none()
    if torch is None:
        return Field([], {})
    from .. import torch as nct

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
    models[f"Gaussian, {BITS} bits"] = nct.quantise(copy.deepcopy(models["Gaussian"]), BITS, BITS)
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


CASES: tuple[CrossbarCase, ...] = (
    CrossbarCase(
        "noise", f"training step of ResNet-20 with noise on weights, batch {BATCH}", "noise",
        lambda shrink, _: noise(max(BATCH // shrink, LEAST_BATCH)),
    ),
)  # fmt: skip
