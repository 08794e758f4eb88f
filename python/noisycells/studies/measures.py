"""Jobs that measure a trained network under noise; their results hold test accuracies in %."""

from __future__ import annotations

from typing import Any

from ..storage import Codec
from .report import finite
from .training import Trained, inject

__all__ = ["perturbed", "stored", "test_batches"]


def perturbed(
    trained: Trained, *, noise: dict[str, Any], repeats: int, seed: int, recalibrate: bool = False
) -> dict[str, Any]:
    """Noisy copies of the network; pruned weights stay zero.

    Parameters
    ----------
    trained : Trained
    noise : dict
        As of :func:`noisycells.studies.training.inject`.
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
            images = data.normalise(data.train_images)
            loader = nct.batches(images, data.train_labels, 500, shuffle=False)
            nct.recalibrate_batchnorm(trained.model, loader)
        evaluation = nct.evaluate(trained.model, test_batches(trained), repeats, seed=seed)
    return {"accuracies": list(evaluation.accuracies), "losses": finite(evaluation.losses)}


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
        images = data.normalise(data.train_images[:1000])
        sensitivity = nct.sensitivity(trained.model, images, seed=seed)
    model = nct.store(
        trained.model, Codec.from_dict(codec), masks=trained.masks, sensitivity=sensitivity
    )
    evaluation = nct.evaluate(
        trained.model, test_batches(trained), repeats, seed=seed, stored=model
    )
    return {
        "accuracies": list(evaluation.accuracies),
        "losses": finite(evaluation.losses),
        "cost": model.cost.to_dict(),
    }


def test_batches(trained: Trained) -> Any:
    """The test images in order."""
    from .. import torch as nct

    data = trained.dataset
    return nct.batches(data.normalise(data.test_images), data.test_labels, 250, shuffle=False)


def _hold_zeros(trained: Trained) -> None:
    """Let noise leave pruned weights alone, as while they are being pruned."""
    import torch
    from torch.nn.utils import prune

    for name, mask in trained.masks.items():
        layer, _, parameter = name.rpartition(".")
        module = trained.model.get_submodule(layer)
        device = module.get_parameter(parameter).device
        prune.custom_from_mask(module, parameter, torch.from_numpy(mask).to(device))
