"""The network that a study starts from: trained, and pruned where the study asks for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from ..data import Dataset

if TYPE_CHECKING:
    from torch import nn

    from ..torch import TrainingRecord

__all__ = ["MODELS", "Network", "Training", "train_network"]

MODELS: dict[str, dict[str, Any]] = {"LeNet": {}, "MLP": {}, "ResNet20": {"in_channels": 1}}
"""Networks for grey images of 28x28: models of ``noisycells.torch`` and their arguments."""


class Training(Protocol):
    """What decides a network, besides its class and the data; a part of a study's settings."""

    @property
    def seed(self) -> int:
        """Seed of the initial weights and the training."""

    @property
    def epochs(self) -> int:
        """Epochs before pruning."""

    @property
    def finetune_epochs(self) -> int:
        """Epochs after pruning."""

    @property
    def pruned(self) -> float:
        """Share of the weights pruned, by magnitude over the whole network; 0: no pruning."""


@dataclass(frozen=True)
class Network:
    """A trained network, pruned and fine-tuned where it was asked for.

    Parameters
    ----------
    name : str
        One of ``MODELS``.
    model : torch.nn.Module
    masks : dict of str to ndarray of bool
        The weights kept, by parameter name; empty where nothing was pruned.
    dense_accuracy, pruned_accuracy : float
        Noise-free accuracy on the test images, in percent, before and after pruning.
    training : TrainingRecord
    finetuning : TrainingRecord or None
    """

    name: str
    model: nn.Module
    masks: dict[str, npt.NDArray[np.bool_]]
    dense_accuracy: float
    pruned_accuracy: float
    training: TrainingRecord
    finetuning: TrainingRecord | None

    def to_dict(self) -> dict[str, Any]:
        """What a report says of it, as plain JSON types."""
        return {
            "name": self.name,
            "dense_accuracy": self.dense_accuracy,
            "pruned_accuracy": self.pruned_accuracy,
            "training": asdict(self.training),
            "finetuning": None if self.finetuning is None else asdict(self.finetuning),
        }


def train_network(
    dataset: Dataset,
    settings: Training,
    progress: Callable[[], None] | None = None,
    model_name: str = "LeNet",
) -> Network:
    """Train a network, prune it where asked for, and fine-tune what is left.

    Parameters
    ----------
    dataset : Dataset
        Training and validation are on the training images; the test images only measure.
    settings : Training
    progress : callable, optional
        Called after each of ``epochs + finetune_epochs`` epochs.
    model_name : str
        One of ``MODELS``.
    """
    from .. import torch as nct

    def after_epoch(epoch: int, accuracy: float) -> None:
        if progress is not None:
            progress()

    images, labels = dataset.normalise(dataset.train_images), dataset.train_labels
    test_images, test_labels = dataset.normalise(dataset.test_images), dataset.test_labels
    model = nct.build(
        lambda: getattr(nct, model_name)(dataset.classes, **MODELS[model_name]), settings.seed
    )

    def fit(epochs: int) -> TrainingRecord:
        return nct.train(
            model, images, labels, epochs=epochs, seed=settings.seed, progress=after_epoch
        )

    training = fit(settings.epochs)
    dense_accuracy = nct.accuracy(model, test_images, test_labels)
    if not settings.pruned:
        return Network(model_name, model, {}, dense_accuracy, dense_accuracy, training, None)
    masks = nct.magnitude_prune(model, settings.pruned)
    finetuning = fit(settings.finetune_epochs)
    nct.make_permanent(model)
    pruned_accuracy = nct.accuracy(model, test_images, test_labels)
    return Network(
        model_name, model, masks, dense_accuracy, pruned_accuracy, training, finetuning
    )
