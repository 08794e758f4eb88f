"""A small network to convert, and its inputs."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

import noisycells as nc  # noqa: E402
import noisycells.torch as nct  # noqa: E402

nn = torch.nn
IDEAL = nc.CrossbarSpec(rows=20, dac_bits=None, adc_bits=None)


def network() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Flatten(), nn.Linear(8 * 25, 10),
    )  # fmt: skip


def images(n: int = 4) -> Any:
    return torch.randn(n, 3, 5, 5, generator=torch.Generator().manual_seed(1))


def convert_ideally(model: Any) -> Any:
    return nct.convert(model, nc.devices.ideal(), IDEAL)
