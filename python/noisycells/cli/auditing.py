"""``noisycells inspect --audit``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .. import storage
from ..io import Weights, is_weights
from ..io.dtypes import numbers
from .weights import state_dict

__all__ = ["audit_of"]


def audit_of(loaded: Any, weights: Path | None) -> storage.Audit:
    """The audit of what was loaded, against the weights of a file where there is one."""
    if isinstance(loaded, storage.StoredTensor):
        loaded = storage.StoredModel({loaded.name: loaded})
    given = None if weights is None else _numbers(weights, set(loaded))
    found: storage.Audit = loaded.audit(given)
    return found


def _numbers(file: Path, names: set[str]) -> dict[str, Any]:
    """The tensors of these names."""
    if not is_weights(file):
        state = state_dict(file)
        return {name: state[name].float().numpy() for name in names & state.keys()}
    found = {}
    with Weights(file) as reader:
        for name in names & reader.entries.keys():
            found[name] = numbers(reader.read(name), reader.entries[name].dtype)
    return found
