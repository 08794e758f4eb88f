"""What the reports of the studies share: where they come from, numbers, files."""

from __future__ import annotations

import json
import math
import platform
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ... import __version__, random, runtime
from ...data import Dataset
from ...io import replacing

__all__ = ["about_data", "about_versions", "finite", "write_json"]

NUMBERS = re.compile(r"\[\n(?:\s*(?:[-+.\deE]+|null),?\n)+\s*\]")
"""A list of numbers as ``json.dumps`` indents it; strings have no line breaks in JSON."""


def about_data(dataset: Dataset) -> dict[str, Any]:
    """The data set, as plain JSON types; its name, not its path."""
    return {
        "name": dataset.name,
        "classes": dataset.classes,
        "training_images": len(dataset.train_images),
        "test_images": len(dataset.test_images),
    }


def about_versions() -> dict[str, Any]:
    """The versions that a report depends on, as plain JSON types."""
    import torch

    return {
        "noisycells": __version__,
        "stream_version": random.STREAM_VERSION,
        "numpy": np.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "simd_level": runtime.simd_level(),  # at another, sums in float32 round differently
    }


def finite(values: Iterable[float | None]) -> list[float | None]:
    """The values with None for NaN and infinity, which JSON does not have.

    Losses are such where noise takes the outputs of a network beyond float32.
    """
    return [None if value is None or not math.isfinite(value) else value for value in values]


def write_json(report: dict[str, Any], file: Path) -> None:
    """Write a report as JSON, all of it or nothing; a list of numbers on one line."""
    text = json.dumps(report, indent=1, allow_nan=False) + "\n"
    text = NUMBERS.sub(lambda found: " ".join(found[0].split()), text)
    with replacing(file) as written:
        written.write(text.encode())
