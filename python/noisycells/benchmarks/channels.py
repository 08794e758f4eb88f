"""Contenders for random normals and noisy cells."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from .. import _core, devices, random
from ..channel import Channel
from .contenders import F32, OURS, OWN, Call, Contenders, chunks, torch_or_none
from .lookup import by_interp, by_numpy, by_torch, by_torch_plainly

__all__ = ["averages", "normals", "sample", "sample_call", "smooth_cell"]


def smooth_cell() -> Channel:
    """The cell of most cases: ``synthetic_pcm`` in a table of 1024 rows, all noise at once."""
    pcm = devices.synthetic_pcm()
    x = np.linspace(-1, 1, 1024)
    return Channel(x, pcm.mean_at(x), pcm.std_at(x), name="synthetic_pcm, 1024 rows")


def normals(n: int) -> Contenders:
    """Fill an array with standard normals."""
    out, numpy_out = np.empty(n, np.float32), np.empty(n, np.float32)
    generator = np.random.default_rng(1)
    calls: Contenders = {
        OURS: lambda: random.standard_normal(n, 1, out=out),
        "numpy": lambda: generator.standard_normal(dtype=np.float32, out=numpy_out),
    }
    if torch := torch_or_none():
        tensor, source = torch.empty(n), torch.Generator().manual_seed(1)
        calls["torch"] = lambda: tensor.normal_(generator=source)
    return calls


def inputs(channel: Channel, n: int) -> F32:
    """Cell inputs over the whole table."""
    x = np.random.default_rng(2).random(n, np.float32)
    x *= np.float32(np.ptp(channel.x))
    x += np.float32(channel.x[0])
    return x


def sample(channel: Channel, n: int) -> Contenders:
    """One cell each; all contenders read the same inputs."""
    calls = {
        OURS: _core_sample(channel, n),
        "numpy": _numpy_sample(channel, n, tuned=False),
        "numpy tuned": _numpy_sample(channel, n, tuned=True),
    }
    if torch := torch_or_none():
        calls["torch"] = _torch_sample(torch, channel, n, tuned=False)
        calls["torch tuned"] = _torch_sample(torch, channel, n, tuned=True)
    return calls


def averages(n: int, literal: bool) -> Contenders:
    """The mean of four cells, against one cell."""
    cell = smooth_cell()
    return {OURS: _core_sample(cell, n, 4, literal), OWN + "r=1": _core_sample(cell, n)}


def sample_call(n: int) -> Contenders:
    """What the checks of the public call add."""
    cell = smooth_cell()
    x, out = inputs(cell, n), np.empty(n, np.float32)
    return {
        OURS: lambda: cell.sample(x, 1, out=out),
        OWN + "core": _core_sample(cell, n),
    }


def _core_sample(channel: Channel, n: int, cells: int = 1, literal: bool = False) -> Call:
    x, out = inputs(channel, n), np.empty(n, np.float32)
    tables, keys = channel.tables, channel.keys(1)

    def call() -> F32:
        _core.sample(x, out, cells, tables, *keys, 0, 0, literal)
        return out

    return call


def _numpy_sample(channel: Channel, n: int, tuned: bool) -> Call:
    x, out = inputs(channel, n), np.empty(n, np.float32)
    look_up = (by_numpy if tuned else by_interp)(channel.x, channel.mean, channel.std)
    generator = np.random.default_rng(1)

    def call() -> F32:
        for part in chunks(n, tuned):
            mean, std = look_up(x[part])
            std *= generator.standard_normal(len(std), np.float32)
            std += mean
            out[part] = std
        return out

    return call


def _torch_sample(torch: ModuleType, channel: Channel, n: int, tuned: bool) -> Call:
    x, out = torch.from_numpy(inputs(channel, n)), torch.empty(n)
    look_up = (by_torch if tuned else by_torch_plainly)(torch, channel.x, channel.mean, channel.std)
    source = torch.Generator().manual_seed(1)

    def call() -> Any:
        for part in chunks(n, tuned):
            mean, std = look_up(x[part])
            torch.addcmul(mean, std, torch.randn(len(std), generator=source), out=out[part])
        return out

    return call
