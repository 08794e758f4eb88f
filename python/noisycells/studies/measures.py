"""What several studies use: jobs that measure a trained network under noise, names and numbers.

The results of the jobs hold test accuracies in percent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..crossbar import CrossbarSpec
from ..data import Dataset
from ..devices import Device
from ..devices import from_dict as device_from_dict
from ..storage import Codec
from .engine import Trained, job
from .engine.report import finite
from .engine.training import inject

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "ACCURACY",
    "CONSISTENCY",
    "ISIK_KD",
    "NO_NOISE",
    "QUICK_EPOCHS",
    "computed",
    "moments",
    "on_crossbars",
    "perturbed",
    "stored",
    "test_batches",
]

BATCH = 250  # images at a time
ACCURACY = "test accuracy (%)"  # the unit of tables of accuracies
NO_NOISE = "no noise"  # the row of networks as they were trained
QUICK_EPOCHS = 15
CONSISTENCY = {"outputs": 1.0, "features": 0.1}  # weights of the terms
ISIK_KD = {"temperature": 1.5, "alpha": 0.5, "form": "isik"}  # of Isik et al. (2020)


@job
def perturbed(
    trained: Trained, *, noise: dict[str, Any], repeats: int, seed: int, recalibrate: bool = False
) -> dict[str, Any]:
    """Noisy copies of the network; pruned weights stay zero.

    Parameters
    ----------
    trained : Trained
    noise : dict
        As of :func:`noisycells.studies.engine.training.inject`.
    repeats : int
        Noisy copies.
    seed : int
    recalibrate : bool
        Measure batch-norm statistics anew before, on training images under noise.
    """
    from .. import torch as nct

    data = trained.dataset
    _hold_zeros(trained)
    with inject(trained.model, noise, seed):
        if recalibrate:
            images = data.normalize(data.train_images)
            loader = nct.batches(images, data.train_labels, 500, shuffle=False)
            nct.recalibrate_batchnorm(trained.model, loader)
        evaluation = nct.evaluate(trained.model, test_batches(trained), repeats, seed=seed)
    return {"accuracies": list(evaluation.scores), "losses": finite(evaluation.losses)}


@job
def stored(
    trained: Trained, *, codec: dict[str, Any], repeats: int, seed: int, weighted: bool = False
) -> dict[str, Any]:
    """Chips that store the network, and what that costs.

    Parameters
    ----------
    trained : Trained
    codec : dict
        As of ``Codec.to_dict()``.
    repeats : int
        Chips.
    seed : int
    weighted : bool
        Choose thresholds and cells by the sensitivity of the weights, measured on 1000 training
        images.
    """
    from .. import torch as nct

    sensitivity = None
    if weighted:
        data = trained.dataset
        images = data.normalize(data.train_images[:1000])
        sensitivity = nct.sensitivity(trained.model, images, seed=seed)
    model = nct.store(
        trained.model, Codec.from_dict(codec), mask=trained.masks, sensitivity=sensitivity
    )
    evaluation = nct.evaluate(
        trained.model, test_batches(trained), repeats, seed=seed, stored=model
    )
    return {
        "accuracies": list(evaluation.scores),
        "losses": finite(evaluation.losses),
        "cost": model.cost.to_dict(),
    }


@job
def computed(
    trained: Trained,
    *,
    device: dict[str, Any],
    spec: dict[str, Any],
    seconds: float | None,
    repeats: int,
    seed: int,
) -> dict[str, Any]:
    """Chips that compute with the network on crossbars.

    Parameters
    ----------
    trained : Trained
    device : dict
        As of ``Device.to_dict()``.
    spec : dict
        Fields of a :class:`noisycells.CrossbarSpec`.
    seconds : float or None
        Since programming; None: right after it.
    repeats : int
        Chips.
    seed : int
    """
    from .. import torch as nct

    model = on_crossbars(
        trained.model, trained.dataset, device_from_dict(device), CrossbarSpec.from_dict(spec)
    )
    nct.program(model, seed)
    if seconds is not None:
        nct.at(model, seconds)
    evaluation = nct.evaluate(model, test_batches(trained), repeats, seed=seed)
    return {"accuracies": list(evaluation.scores), "losses": finite(evaluation.losses)}


def moments(device: Device, times: Sequence[float]) -> list[float]:
    """Of some times since programming (s) those at which a device was measured.

    None of a device that does not change.
    """
    aging = device.aging(1.0, extrapolate=True) is not None
    return [t for t in times if aging and device.measured(t)]


def on_crossbars(
    model: nn.Module,
    dataset: Dataset,
    device: Device,
    spec: CrossbarSpec,
    images: int = 500,
    quantile: float = 1.0,
) -> nn.Module:
    """A network on crossbars, not programmed yet; in place.

    Batch normalization is folded into the weights, and converters are calibrated where the spec
    leaves their ranges to it.

    Parameters
    ----------
    model : torch.nn.Module
    dataset : Dataset
        Its first training images calibrate.
    device : Device
    spec : CrossbarSpec
    images : int
        Training images that calibrate.
    quantile : float
        As for :func:`noisycells.torch.calibrate`.
    """
    import torch

    from .. import torch as nct

    if any(isinstance(m, torch.nn.modules.batchnorm._BatchNorm) for m in model.modules()):
        nct.fold_batchnorm(model, device, spec)
    nct.convert(model, device, spec)
    if "calibrated" in (spec.dac_range, spec.adc_range):
        examples = torch.from_numpy(dataset.normalize(dataset.train_images[:images]))
        nct.calibrate(model, examples.split(BATCH), quantile)
    return model


def test_batches(trained: Trained) -> Any:
    """The test images in order."""
    from .. import torch as nct

    data = trained.dataset
    return nct.batches(data.normalize(data.test_images), data.test_labels, BATCH, shuffle=False)


def _hold_zeros(trained: Trained) -> None:
    """Let noise leave pruned weights alone, as while they are being pruned."""
    import torch
    from torch.nn.utils import prune

    for name, mask in trained.masks.items():
        layer, _, parameter = name.rpartition(".")
        module = trained.model.get_submodule(layer)
        device = module.get_parameter(parameter).device
        prune.custom_from_mask(module, parameter, torch.from_numpy(mask).to(device))
