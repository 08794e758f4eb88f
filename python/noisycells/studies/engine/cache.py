"""Trained networks on disk, by the key of their recipe."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..._arguments import wrong_value
from ...io import replacing

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Cache", "default_directory"]


def default_directory() -> Path:
    """``noisycells`` in the user's directory for caches: $XDG_CACHE_HOME, or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "noisycells"


class Cache:
    """A directory of trained networks, each a safetensors file with its record as metadata.

    Files are written under another name and renamed, so several processes may share a cache.

    Parameters
    ----------
    directory : path
        Made when something is put there.
    """

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)

    def __contains__(self, key: str) -> bool:
        return self.file(key).exists()

    def file(self, key: str) -> Path:
        """Where the network of that key is, or would be."""
        return self.directory / f"{key}.safetensors"

    def get(self, key: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The state dict and the record of that key, or None.

        Raises
        ------
        ValueError
            If the file is damaged.
        """
        from safetensors import SafetensorError, safe_open

        if key not in self:
            return None
        try:
            with safe_open(self.file(key), "pt") as file:
                record = json.loads(file.metadata()["record"])
                return {name: file.get_tensor(name) for name in file.keys()}, record
        except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
            got = f"a damaged file ({error}); delete it to train again"
            raise wrong_value(self.file(key), "a trained network", got) from error

    def put(self, key: str, state: dict[str, Tensor], record: dict[str, Any]) -> None:
        """Keep a state dict and its record, of JSON types."""
        from safetensors.torch import save

        self.directory.mkdir(parents=True, exist_ok=True)
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
        with replacing(self.file(key)) as file:
            file.write(save(tensors, {"record": json.dumps(record, allow_nan=False)}))
