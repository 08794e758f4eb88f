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

from .chips import load_chip, save_chip
from .crossbar.adapter import LowRankAdapter
from .crossbar.calibration import calibrate
from .crossbar.convert import at, convert, program, restore
from .crossbar.convolution import CrossbarConv1d, CrossbarConv2d, CrossbarConv3d
from .crossbar.correction import correct
from .crossbar.energy import energy
from .crossbar.fold import fold_batchnorm
from .crossbar.layers import CrossbarLayer
from .crossbar.limits import limit_weights
from .crossbar.linear import CrossbarLinear, CrossbarTransposedLinear
from .crossbar.operator import crossbar_linear
from .crossbar.report import estimate, summary
from .crossbar.smoothing import smooth
from .deploy import deploy
from .measure.evaluate import evaluate
from .measure.information import MutualInformation, mutual_information
from .measure.moments import input_moments, token_frequencies
from .measure.results import DriftCurve, Evaluation
from .measure.sensitivity import sensitivity
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
from .noise.inject import Noise, active_noise, inject_noise
from .noise.quantize import dequantize, quantize
from .plan import plan
from .pretrained import from_pretrained, save_pretrained
from .prune import magnitude_prune, make_permanent
from .store import load, store
from .training.batches import Batches, batches
from .training.distill import distill, distillation_loss
from .training.fit import TrainingRecord, accuracy, build, fit, train
from .training.hardware import adapt, hardware_aware, imitation_loss
from .training.rate import RateRecord, rate_control, rate_train
from .training.rivals import (
    clip_weights,
    consistency_loss,
    feature_consistency_loss,
    recalibrate_batchnorm,
)

__all__ = [
    "MLP",
    "Batches",
    "CrossbarConv1d",
    "CrossbarConv2d",
    "CrossbarConv3d",
    "CrossbarLayer",
    "CrossbarLinear",
    "CrossbarTransposedLinear",
    "DriftCurve",
    "Evaluation",
    "LeNet",
    "LeNetDeep",
    "LeNetNarrow",
    "LeNetWide",
    "LowRankAdapter",
    "MutualInformation",
    "Noise",
    "RateRecord",
    "ResNet",
    "ResNet18",
    "ResNet20",
    "ResNet32",
    "SlimResNet20",
    "TrainingRecord",
    "accuracy",
    "active_noise",
    "adapt",
    "at",
    "batches",
    "build",
    "calibrate",
    "clip_weights",
    "consistency_loss",
    "convert",
    "correct",
    "crossbar_linear",
    "deploy",
    "dequantize",
    "distill",
    "distillation_loss",
    "energy",
    "estimate",
    "evaluate",
    "feature_consistency_loss",
    "fit",
    "fold_batchnorm",
    "from_pretrained",
    "hardware_aware",
    "imitation_loss",
    "inject_noise",
    "input_moments",
    "limit_weights",
    "load",
    "load_chip",
    "magnitude_prune",
    "make_permanent",
    "mutual_information",
    "plan",
    "program",
    "quantize",
    "rate_control",
    "rate_train",
    "recalibrate_batchnorm",
    "restore",
    "save_chip",
    "save_pretrained",
    "sensitivity",
    "smooth",
    "store",
    "summary",
    "token_frequencies",
    "train",
]


def __dir__() -> list[str]:
    return __all__
