"""Files of weights on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .. import _arguments
from ..io import Weights, is_weights

__all__ = ["read_state", "state_dict"]


def read_state(file: Path) -> dict[str, Any]:
    """Names and tensors of safetensors files or of a torch state dict, as torch has them."""
    import torch

    if not is_weights(file):
        return state_dict(file)
    with Weights(file) as weights:
        return {name: torch.from_numpy(weights.read(name).copy()) for name in weights.entries}


def state_dict(file: Path) -> dict[str, Any]:
    """A torch state dict, loaded without running any code it may contain."""
    import pickle

    import torch

    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = str(error).partition("\n")[0]
        raise _arguments.wrong_value(file, "safetensors or a torch state dict", reason) from error
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and (isinstance(value, torch.Tensor) or key.endswith("_extra_state"))
        for key, value in state.items()
    ):
        raise _arguments.wrong_value(
            file, "a torch state dict (names and tensors)", "another object"
        )
    return state
