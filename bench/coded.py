"""Cells that a pruned network takes in the coded modes: the table of docs/coded.md.

``python -m bench.coded [--data DIRECTORY] [--epochs N] [--seeds N] [--output FILE]``. Networks are
trained and pruned as those of ``noisycells study isik-table1``, and kept in its cache. The step is
chosen on the tenth of the training images that also chose the epoch of the training; the test
images are looked at afterwards.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import noisycells as nc
import noisycells.torch as nct
from noisycells.data import stratified_split
from noisycells.intervals import mean_and_interval
from noisycells.studies.engine import Source, Trained, isik_recipe, pruned_recipe
from noisycells.studies.engine.cache import Cache, default_directory
from noisycells.studies.engine.training import VALIDATION, network

STEPS = (0.08, 0.1, 0.12, 0.14, 0.16, 0.2, 0.25, 0.3, 0.4)
RADICES = ((4,), (3, 4), (4, 4))
DROP = 0.10
"""Points of validation accuracy that the chosen step may cost."""
MOMENTS, SENSITIVITIES = 2000, 1000
"""Training images for each."""


def ways(cell: nc.Channel) -> Iterator[tuple[str, Any]]:
    """What is compared, by name."""
    for margin in (1.0, 1.1):
        for step in STEPS:
            name = f"coded, step {step:g}, margin {margin:g}"
            yield name, nc.storage.Coded(cell, step=step, noise_margin=margin)
    for radices in RADICES:
        name = f"levels, {' x '.join(map(str, radices))}"
        yield name, nc.storage.Levels(cell, radices=radices, noise_margin=1.0)


def parts(trained: Trained) -> dict[str, tuple[Tensor, Tensor]]:
    """Images and labels: trained on, chosen by, and of the test."""
    data = trained.dataset
    images, labels = data.normalize(data.train_images), data.train_labels
    rows, others = stratified_split(labels, VALIDATION, trained.recipe.seed)
    test = data.normalize(data.test_images), data.test_labels
    found = {"train": (images[rows], labels[rows]), "validation": (images[others], labels[others])}
    return {
        name: (torch.as_tensor(x), torch.as_tensor(y))
        for name, (x, y) in (found | {"test": test}).items()
    }


def measured(trained: Trained, reads: int, cell: nc.Channel) -> Iterator[dict[str, Any]]:
    """A row for each way: cells, and accuracies of the validation and the test images."""
    model, images = trained.model.cpu(), parts(trained)
    seen = images["train"][0]
    known: dict[str, Any] = {
        "mask": trained.masks,
        "moments": nct.input_moments(model, seen[:MOMENTS]),
        "sensitivity": nct.sensitivity(model, seen[:SENSITIVITIES]),
    }
    scratch = nct.build(lambda: type(model)(trained.dataset.classes), 0)
    clean = {part: nct.accuracy(model, *images[part]) for part in ("validation", "test")}
    yield {"way": "as trained", "seed": trained.recipe.seed, **clean}
    for name, codec in ways(cell):
        stored = nct.store(model, codec, store_biases=True, **known)
        row = {
            "way": name,
            "seed": trained.recipe.seed,
            "cells": stored.cost.data_cells,
            "per_stored": stored.cost.per_stored,
            "per_original": stored.cost.per_original,
            "digital_bits": stored.cost.digital_bits,
        }
        yield row | accuracies(stored, scratch, images, reads)


def accuracies(
    stored: Any, scratch: nn.Module, images: dict[str, tuple[Tensor, Tensor]], reads: int
) -> dict[str, Any]:
    """Mean accuracies over reads, literally decoded, and how many reads failed."""
    found: dict[str, list[float]] = {"validation": [], "test": []}
    failed, before, known = 0, None, {}
    for read in range(reads):
        try:
            nct.load(stored, scratch, seed=read, chip=read)
        except nc.DecodeError:
            failed += 1
            continue
        now = np.concatenate([p.detach().flatten().numpy() for p in scratch.parameters()])
        if before is None or not np.array_equal(before, now):  # coded reads are the same bits
            known = {part: nct.accuracy(scratch, *images[part]) for part in found}
        before = now
        for part, value in known.items():
            found[part].append(value)
    means = {part: float(np.mean(values)) for part, values in found.items() if values}
    spread = mean_and_interval(found["test"])[1] if len(found["test"]) > 1 else None
    return {**means, "test_half_width": spread, "reads": reads, "failed": failed}


def chosen(rows: list[dict[str, Any]], margin: str) -> list[dict[str, Any]]:
    """Of each seed the coded way of fewest cells that costs the validation images little."""
    found = []
    for seed in sorted({row["seed"] for row in rows}):
        of = [row for row in rows if row["seed"] == seed]
        clean = next(row for row in of if row["way"] == "as trained")
        fit = [
            row
            for row in of
            if row["way"].startswith("coded") and row["way"].endswith(f"margin {margin}")
            if not row["failed"] and row["validation"] >= clean["validation"] - DROP
        ]
        if fit:
            best = min(fit, key=lambda row: row["cells"])
            found.append(best | {"change": best["test"] - clean["test"]})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", default="digits")
    parser.add_argument("--device", default="synthetic_pcm")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--reads", type=int, default=10)
    parser.add_argument("--cache", type=Path, default=default_directory())
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    cell, rows = nc.devices.cell(given.device), []
    for seed in range(given.seeds):
        recipe = pruned_recipe(isik_recipe(Source.of(given.data), "LeNet", seed, given.epochs))
        for row in measured(network(recipe, Cache(given.cache)), given.reads, cell):
            rows.append(row)
            print(json.dumps(row), flush=True)
    report = {
        "data": Path(given.data).name,
        "device": given.device,
        "versions": {"noisycells": nc.__version__, "torch": torch.__version__},
        "recipe": recipe.describe(),
        "rows": rows,
        "chosen": {margin: chosen(rows, margin) for margin in ("1", "1.1")},
    }
    print(json.dumps(report["chosen"], indent=1))
    if given.output is not None:
        given.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
