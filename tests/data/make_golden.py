"""Writes the golden files of the current format version; run once for each version.

    python tests/data/make_golden.py

``golden_vX_*.safetensors`` are stored models, ``golden_vX_*.read.safetensors`` one read-back of
each (seed 7, chip 3) by the present version of the random streams, which are written again when it
rises. Files of versions that were published are never written again.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from noisycells.channel import Channel
from noisycells.io import MAJOR
from noisycells.storage import (
    Analog,
    Codec,
    Coded,
    CodedModel,
    Levels,
    StoredModel,
    read_file,
    save,
)

SEED, CHIP = 7, 3
HERE = Path(__file__).parent


def main() -> None:
    x = np.linspace(-1, 1, 5)
    mean, std = [-0.7, -0.3, 0.1, 0.5, 0.8], [0.05, 0.1, 0.15, 0.1, 0.05]
    cell = Channel(x, mean, std, 0.03, d2d_std=0.01, name="golden")
    learnt = Channel(x, np.add(mean, 0.02), std, name="learnt")
    rng = np.random.default_rng(2020)
    conv = rng.standard_t(4, (4, 2, 3, 3)).astype(np.float32)
    dense = rng.standard_t(4, (5, 7))
    half = rng.standard_t(4, (3, 3)).astype(np.float16)

    packed = Codec(cell, thresholds=0.8, cells=(1, 30), write_bits=(3, 5))
    exact = Codec(cell, inverse=learnt, sign_protection=False, adaptive_mapping=False, cells=2)
    encoded = packed.encode(
        {"conv.weight": conv, "dense.weight": dense, "half.weight": half},
        {"conv.weight": np.abs(conv) > 0.6},
        overrides={"dense.*": exact},
        digital={
            "dense.bias": np.arange(5, dtype=np.float16),
            "steps": np.array(12),
            "phase": np.array([1 + 2j], np.complex64),
            "scale": np.array([1.5, -3.0], np.float32),
        },
    )
    brain = replace(encoded["conv.weight"], dtype="BF16")
    aliases = {"head.weight": "half.weight", "last.bias": "dense.bias"}
    model = StoredModel(
        encoded.tensors | {"conv.weight": brain}, encoded.digital, {"scale": "BF16"}, aliases
    )
    tensor = Codec(cell, thresholds=(0.5, 1.5), cells=(1, 2, 3)).encode(dense, name="dense")
    coded = Coded(cell, learnt=learnt, step=0.3, noise_margin=1.2).encode(
        {"conv.weight": conv, "half.weight": half, "dense.bias": dense[0]},
        {"conv.weight": np.abs(conv) > 0.6},
        digital={"steps": np.array(12), "scale": np.array([1.5, -3.0], np.float32)},
    )
    coded = replace(
        coded.with_dtypes({"conv.weight": "BF16", "scale": "BF16"}),
        aliases={"head.weight": "half.weight"},
    )
    levels = Levels(cell, radices=(2, 3), block=3).encode({"dense.weight": dense})
    inputs = rng.standard_normal((30, 7)) @ rng.standard_normal((7, 7))
    analog = Analog(cell, reads=2, pulses=3, verify_reads=2).encode(
        {"conv.weight": conv, "dense.weight": dense, "half.weight": half},
        moments={"dense.weight": inputs.T @ inputs / 30},
        overrides={"half.*": Analog(cell, verify_reads=0, rotate=False)},
        digital={"steps": np.array(12), "scale": np.array([1.5, -3.0], np.float32)},
    )
    analog = replace(
        analog.with_dtypes({"conv.weight": "BF16", "scale": "BF16"}),
        aliases={"head.weight": "half.weight"},
    )
    made = {
        "model": model, "tensor": tensor, "coded": coded, "levels": levels, "analog": analog,
        "rows": _rows(cell, rng, dense),
    }  # fmt: skip
    for kind, stored in made.items():
        save(HERE / f"golden_v{MAJOR}_{kind}.safetensors", stored)
    for path in HERE.glob("golden_v?_*.safetensors"):
        if ".read." not in path.name:
            read_file(path, path.with_suffix(".read.safetensors"), SEED, CHIP)


def _rows(cell: Channel, rng: np.random.Generator, dense: np.ndarray) -> CodedModel:
    """A table whose rows are not used alike."""
    table = rng.standard_normal((12, 6)).astype(np.float32)
    used = 1 / np.arange(1.0, 13)
    return Coded(cell, step=0.2).encode(
        {"table": table, "fc.weight": dense}, moments={"table": used}
    )


if __name__ == "__main__":
    main()
