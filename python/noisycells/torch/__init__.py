"""noisycells for torch: the papers' networks, training, pruning, storage of whole models."""

from __future__ import annotations

try:
    import torch as _torch  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    raise ModuleNotFoundError(
        "noisycells.torch needs torch, which is not installed: pip install 'noisycells[torch]'",
        name="torch",
    ) from error

from .models import MLP, LeNet
from .prune import magnitude_prune, make_permanent
from .store import load, store
from .train import TrainingRecord, build, evaluate, train

__all__ = [
    "MLP",
    "LeNet",
    "TrainingRecord",
    "build",
    "evaluate",
    "load",
    "magnitude_prune",
    "make_permanent",
    "store",
    "train",
]
