"""noisycells for torch: crossbar layers, the papers' networks, training, pruning, storage."""

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

from .batches import Batches, batches
from .convert import at, calibrate, convert, estimate, program, restore, summary
from .crossbar_layers import (
    CrossbarConv1d,
    CrossbarConv2d,
    CrossbarConv3d,
    CrossbarLayer,
    CrossbarLinear,
    CrossbarTransposedLinear,
)
from .crossbar_op import crossbar_linear
from .distill import distill, distillation_loss
from .fold import fold_batchnorm
from .models import (
    MLP,
    LeNet,
    LeNetDeep,
    LeNetNarrow,
    LeNetWide,
    ResNet,
    ResNet18,
    ResNet20,
    ResNet32,
    SlimResNet20,
)
from .noise import Noise, active_noise, inject_noise
from .prune import magnitude_prune, make_permanent
from .store import load, store
from .train import TrainingRecord, accuracy, build, fit, train

__all__ = [
    "MLP",
    "Batches",
    "CrossbarConv1d",
    "CrossbarConv2d",
    "CrossbarConv3d",
    "CrossbarLayer",
    "CrossbarLinear",
    "CrossbarTransposedLinear",
    "LeNet",
    "LeNetDeep",
    "LeNetNarrow",
    "LeNetWide",
    "Noise",
    "ResNet",
    "ResNet18",
    "ResNet20",
    "ResNet32",
    "SlimResNet20",
    "TrainingRecord",
    "accuracy",
    "active_noise",
    "at",
    "batches",
    "build",
    "calibrate",
    "convert",
    "crossbar_linear",
    "distill",
    "distillation_loss",
    "estimate",
    "fit",
    "fold_batchnorm",
    "inject_noise",
    "load",
    "magnitude_prune",
    "make_permanent",
    "program",
    "restore",
    "store",
    "summary",
    "train",
]
