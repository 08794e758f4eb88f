"""Bits a weight of rate-trained LeNets beside a control: the table of docs/rate-training.md.

``python -m bench.rate [--data mnist5k|DIRECTORY] [--seeds N] [--epochs N] [--output FILE]``. Each
seed trains a dense network; from it come the control and a network for each weight of the rate,
which have the same epochs. Epochs are chosen on a tenth of the training images. Indices are coded
by the range coder of the coded storage and decoded back.
"""

from __future__ import annotations

import argparse
import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import noisycells as nc
import noisycells.torch as nct
from noisycells import data
from noisycells.storage import entropy

WEIGHTS = (0.5, 1.5)
LEARNING_RATE = 3e-3
STEP_BITS = 32  # of a tensor, beside its indices


def coded_bits(indices: dict[str, Any]) -> int:
    """Bits of all indices as the coded storage codes them, steps included."""
    bits = 0
    for array in indices.values():
        table = array.reshape(len(array), -1).astype(np.int32)
        group = max(1, int(np.prod(array.shape[2:])))
        code = entropy.encode(table, group)
        assert np.array_equal(entropy.decode(code, table.shape, group), table)
        bits += 8 * len(code) + STEP_BITS
    return bits


def right(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """100 for each image that is classified right, 0 for others."""
    with torch.no_grad():
        found = torch.cat([model(part).argmax(1) for part in images.split(500)])
    return 100 * (found == labels).double()


def rows(given: argparse.Namespace, seed: int) -> Any:
    """What one seed gives: dense, control, rate-trained."""
    images = data.load(given.data)
    x, y = images.normalize(images.train_images), images.train_labels
    first, others = data.stratified_split(y, 0.1, seed)
    train = nct.batches(x[first], y[first], 64, layout="channels_last")
    validation = nct.batches(x[others], y[others], 500, shuffle=False, layout="channels_last")
    test = (
        torch.as_tensor(images.normalize(images.test_images)),
        torch.as_tensor(images.test_labels),
    )
    dense = nct.build(lambda: nct.LeNet(images.classes), seed)
    nct.fit(dense, train, validation, epochs=given.dense_epochs, seed=seed)
    before = right(dense, *test)
    yield {"seed": seed, "way": "dense", "accuracy": before.mean().item()}
    how = {"epochs": given.epochs, "seed": seed, "learning_rate": LEARNING_RATE}
    for weight in (None, *WEIGHTS):
        model = copy.deepcopy(dense)
        row: dict[str, Any] = {
            "seed": seed,
            "way": "control" if weight is None else f"rate {weight}",
        }
        if weight is None:
            nct.rate_control(model, train, validation, **how)
        else:
            record = nct.rate_train(model, train, validation, rate_weight=weight, **how)
            indices = record.indices(model)
            row["estimated_bits"] = record.bits_per_weight
            row["bits"] = coded_bits(indices) / record.weights
            row["nonzero"] = sum(int((i != 0).sum()) for i in indices.values()) / record.weights
        drop = before - (after := right(model, *test))
        error = drop.std().item() / len(drop) ** 0.5
        yield row | {"accuracy": after.mean().item(), "drop": drop.mean().item(), "error": error}


def main() -> None:
    """Print a line of JSON for each network."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", default="mnist5k")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--dense-epochs", type=int, default=12)
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    found = []
    for seed in range(given.seeds):
        for row in rows(given, seed):
            found.append(row)
            print(json.dumps(row), flush=True)
    if given.output is not None:
        versions = {"noisycells": nc.__version__, "torch": torch.__version__}
        report = {**vars(given), "output": None, "versions": versions, "rows": found}
        report["data"] = Path(given.data).name
        given.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
