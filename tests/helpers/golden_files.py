"""The golden files, and a stored model taken apart, to be put together with other content."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from noisycells import io
from noisycells.io import Reader, Writer

DATA = Path(__file__).parents[1] / "data"
MODEL = DATA / "golden_v2_model.safetensors"
TENSOR = DATA / "golden_v2_tensor.safetensors"
CODED = DATA / "golden_v2_coded.safetensors"
ROWS = DATA / "golden_v2_rows.safetensors"
LEVELS = DATA / "golden_v2_levels.safetensors"


class Content:
    """A stored model taken apart: what a file with right checksums can hold."""

    def __init__(self, path: Path) -> None:
        with Reader(path) as reader:
            self.arrays = {key: reader.read(key) for key in reader.entries}
            self.metadata = {
                key: value
                for key, value in reader.metadata.items()
                if key not in ("format", "format_version", "header_crc32", "crc32")
            }
        self.tensors: list[dict[str, Any]] = json.loads(self.metadata["tensors"])
        self.codecs: list[dict[str, Any]] = json.loads(self.metadata.get("codecs", "[]"))
        self.writes_tables = True

    def write(self, path: Path, major: int = io.MAJOR) -> None:
        if self.writes_tables:
            self.metadata |= {
                "tensors": json.dumps(self.tensors),
                "codecs": json.dumps(self.codecs),
            }
        with pytest.MonkeyPatch.context() as patch, Writer(path) as writer:
            patch.setattr(io.files, "MAJOR", major)
            for key, array in self.arrays.items():
                brain = key == "scale.digital" and array.dtype == np.uint16
                writer.add(key, array, "BF16" if brain else None)
            writer.metadata = self.metadata
