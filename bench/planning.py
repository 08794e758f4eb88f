"""What plans predict beside what is stored and read: the figures of docs/planning.md.

``python -m bench.planning [--data DIRECTORY] [--epochs N] [--device NAME] [--output FILE]``: a
LeNet is trained on images and 80 % of it pruned; settings all along each mode are planned, stored
and read once.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

import noisycells as nc
from noisycells.storage.planning import samples
from noisycells.storage.planning.ladders import LADDERS, Setting
from noisycells.storage.planning.plan import MODES
from noisycells.studies.engine import Source, isik_recipe, pruned_recipe
from noisycells.studies.engine.cache import Cache, default_directory
from noisycells.studies.engine.training import network
from noisycells.studies.frontier_subjects import Classifier

POINTS = 6  # of a mode
COARSEST, FINEST = 160, 320  # of the coded settings: steps of 2 to 1/16 root mean squares
MARGIN = 1.1


def settings(mode: str, planned: list[Any], cell: nc.Channel) -> Iterator[Setting]:
    """Evenly spaced ones of a mode."""
    ladder = LADDERS[mode](planned, cell, MARGIN)
    ends = (COARSEST, FINEST) if mode == "coded" else (0, len(ladder) - 1)
    for number in sorted({round(i) for i in np.linspace(*ends, min(POINTS, len(ladder)))}):
        yield ladder[number]


def measured(setting: Setting, whole: list[Any], given: dict[str, Any], reads: int) -> Any:
    """Cells, and the mean loss of reads of different chips; of coded ones all are the same."""
    codec: Any = setting.codec
    paper = setting.mode == "paper"
    if paper:
        stored = codec.encode(
            given["weights"], given["mask"], given["sensitivity"], overrides=setting.overrides
        )
    else:
        moments = given["moments"] if setting.feedback else None
        stored = codec.encode(given["weights"], given["mask"], moments=moments)
    losses = []
    for seed in range(1 if setting.mode == "coded" else reads):
        read = stored.read(seed, chip=seed, side_errors=paper)
        losses.append(sum(x.loss(_table(read, x)) for x in whole))
    return stored.cost.total_cells, float(np.mean(losses))


def _table(read: Any, sample: samples.Sample) -> Any:
    return read[sample.source.name].reshape(sample.matrix.weights.shape).astype(np.float64)


def main() -> None:
    """Print a line of JSON for each setting."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", default="digits")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="synthetic_pcm")
    parser.add_argument("--reads", type=int, default=8)
    parser.add_argument("--output", type=Path)
    chosen = parser.parse_args()
    cell = nc.devices.cell(chosen.device, "device")
    dense = isik_recipe(Source.of(chosen.data), "LeNet", chosen.seed, chosen.epochs)
    trained = network(pruned_recipe(dense), Cache(default_directory()))
    known = Classifier(trained)
    names = [name for name, p in trained.model.named_parameters() if p.ndim > 1]
    given: dict[str, Any] = {
        "weights": {name: trained.model.get_parameter(name).detach().numpy() for name in names},
        "mask": {name: trained.masks[name] for name in names},
        "sensitivity": {name: known.sensitivity[name] for name in names},
        "moments": {name: known.moments[name] for name in names},
    }
    planned = samples.samples_of(**given)
    with mock.patch.object(samples, "WEIGHTS", 1 << 40):  # all rows
        whole = samples.samples_of(**given)
    found = []
    for mode in MODES:
        if mode == "analog":  # it stores no masks
            continue
        for setting in settings(mode, planned, cell):
            cells, loss = measured(setting, whole, given, chosen.reads)
            row = {
                "mode": mode,
                "settings": setting.settings,
                "per_original": setting.per_original,
                "loss": setting.loss,
                "cells by those stored": setting.cells / cells,
                "loss by that of reads": setting.loss / loss,
            }
            found.append(row)
            print(json.dumps(row), flush=True)
    if chosen.output is not None:
        chosen.output.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
