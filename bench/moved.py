"""Reads of coded models from cells that are not as learnt: the table of docs/coded.md.

``python -m bench.moved [--chips N] [--weights N]``: how many chips decode in one read, and in at
most 8, of whose cells outputs have moved since they were learnt.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np

import noisycells as nc
from noisycells.devices import cell

PCM = nc.devices.synthetic_pcm()
RANGE = float(PCM.mean.max() - PCM.mean.min())


def moved(shift: float = 0.0, drift: float = 0.0, noise: float = 1.0) -> nc.Channel:
    """``synthetic_pcm`` with its outputs shifted by a share of their range, drifted, noisier."""
    mean = PCM.mean - drift * (PCM.mean - PCM.mean.min()) + shift * RANGE
    assert PCM.read_std is not None
    return nc.Channel(PCM.x, mean, noise * PCM.std, read_std=noise * PCM.read_std)


def cases() -> list[tuple[str, nc.Channel, nc.Channel, int, float]]:
    """What is read, the channel, the one that was learnt, levels and ``noise_margin``."""
    found = []
    for name, true in {
        "shift of 5 %": moved(shift=0.05),
        "shift of 20 %": moved(shift=0.2),
        "drift of 10 %": moved(drift=0.1),
        "drift of 20 %": moved(drift=0.2),
        "1.2 x noise": moved(noise=1.2),
        "1.5 x noise": moved(noise=1.5),
        "drift and shift of 10 %, 1.2 x noise": moved(0.1, 0.1, 1.2),
    }.items():
        found += [(name, true, PCM, levels, 1.1) for levels in (4, 8)]
    for device, at, learnt, levels, margin in (
        ("pcm_joshi2020", 86_400, "pcm_joshi2020@1", 4, 1.1),
        ("pcm_joshi2020", 86_400, "pcm_joshi2020@1", 8, 1.3),
        ("pcm_hermes", 86_400, "pcm_hermes@1", 8, 1.3),
        ("sonos_agrawal2022", 432_000, "sonos_agrawal2022", 4, 1.5),
        ("rram_wan2022", 86_400, "rram_wan2022@1", 4, 1.5),
    ):
        found.append((f"{device}@{at}", cell(f"{device}@{at}"), cell(learnt), levels, margin))
    return found


def decoded(codec: nc.storage.Coded, weights: dict[str, Any], chips: int) -> int:
    """Chips whose model is read."""
    stored, right = codec.encode(weights), 0
    for chip in range(chips):
        try:
            stored.read(chip, chip=chip)
        except nc.DecodeError:
            continue
        right += 1
    return right


def main() -> None:
    """Print a line of JSON for each case."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--chips", type=int, default=20)
    parser.add_argument("--weights", type=int, default=2000)
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    weights = {"w": rng.standard_normal((given.weights // 20, 20)).astype(np.float32)}
    for name, true, learnt, levels, margin in cases():
        options: dict[str, Any] = {"levels": levels, "noise_margin": margin, "step": 0.3}
        row: dict[str, Any] = {"cells": name, "levels": levels, "noise_margin": margin}
        for reads in (1, 8):
            codec = nc.storage.Coded(true, learnt, reads=reads, **options)
            row[f"reads {reads}"] = decoded(codec, weights, given.chips)
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
