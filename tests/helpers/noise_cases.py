"""A network with noise, and what it should compute, by hand."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from noisycells.random import fold_in, standard_normal, stream

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import noisycells.torch as nct  # noqa: E402

F32 = NDArray[np.float32]
SEED = 7


def network() -> Any:
    """Convolution, normalization, linear layers; of inputs (n, 1, 6, 6)."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64, 8),
        nn.LayerNorm(8),
        nn.Linear(8, 3),
    )


def images(n: int = 5) -> Any:
    return torch.randn(n, 1, 6, 6, generator=torch.Generator().manual_seed(1))


def by_hand(name: str, w: F32, number: int, eta: float = 0.1) -> F32:
    """The definition, in numpy."""
    sigma = np.float32(eta * (float(w.max()) - float(w.min())))
    return w + sigma * standard_normal(w.shape, fold_in(SEED, number), stream(name, "noise"))


def noisy_copy(model: Any, number: int, draw: Callable[[str, F32, int], F32] = by_hand) -> Any:
    """A model whose parameters are those of a draw."""
    other = copy.deepcopy(model)
    noise = nct.active_noise(other)
    if noise is not None:
        noise.remove()
    for name, parameter in other.named_parameters():
        if parameter.ndim >= 2:
            noisy = draw(name, parameter.detach().numpy(), number)
            parameter.data = torch.from_numpy(noisy)
    return other


def same(a: Any, b: Any) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def gradients(model: Any) -> list[Any]:
    return [p.grad for p in model.parameters()]


def chip_of_draw(number: int) -> int:
    return fold_in(fold_in(SEED, number), stream("noise"))
