"""A plain training loop with the MNIST settings of Isik et al. (2020, appendix B.1)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..data import stratified_split
from ..random import check_seed

__all__ = ["TrainingRecord", "accuracy", "build", "train"]


@dataclass(frozen=True)
class TrainingRecord:
    """What :func:`train` saw on the validation images.

    Parameters
    ----------
    accuracies : tuple of float
        Accuracy after each epoch, in percent.
    losses : tuple of float
        Mean cross entropy after each epoch, in nats.
    best_epoch : int
        Epoch whose weights were kept, counted from 1.
    """

    accuracies: tuple[float, ...]
    losses: tuple[float, ...]
    best_epoch: int


def build(factory: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Make a model whose initial weights depend on `seed` alone.

    Parameters
    ----------
    factory : callable
        Makes the model, such as the class ``LeNet``.
    seed : int
        Seed of torch's generator while the model is made; its state is restored afterwards.
    """
    with _seeded(seed):
        return factory()


def train(
    model: nn.Module,
    images: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    *,
    epochs: int = 100,
    seed: int = 0,
    learning_rate: float = 1e-3,
    weight_decay: float = 5e-4,
    batch_size: int = 100,
    validation_fraction: float = 0.1,
    progress: Callable[[int, float], None] | None = None,
) -> TrainingRecord:
    """Train `model` in place with Adam and cross entropy, and keep the best epoch's weights.

    A stratified share of the training images is set aside for validation, never trained on; the
    same `seed` sets aside the same images, so a later call (fine-tuning) does not see them either.
    The best epoch has the highest validation accuracy, and the lowest loss among equals. The same
    arguments give the same bits on one machine with the same number of threads. The state of
    torch's global generators is left as it was.

    Parameters
    ----------
    model : torch.nn.Module
    images : ndarray of float32, shape (n, ...)
        Training images, normalised.
    labels : ndarray of int64, shape (n,)
    epochs : int
        Passes over the training images, at least 1.
    seed : int
        Seed of the validation split, the order of the images and what the model draws on the CPU.
    learning_rate, weight_decay : float
        Of Adam, with betas 0.9 and 0.999 (Isik et al. 2020, appendix B.1).
    batch_size : int
        Images a step, at least 1.
    validation_fraction : float
        Share of the images set aside, in (0, 1).
    progress : callable, optional
        Called after each epoch with its number, from 1, and the validation accuracy in percent.

    Returns
    -------
    TrainingRecord

    Raises
    ------
    ValueError
        If `epochs` or `batch_size` is below 1, the lengths of `images` and `labels` differ, or
        the validation split would be empty.
    """
    if epochs < 1:
        raise ValueError(f"epochs: expected at least 1, got {epochs}")
    if batch_size < 1:
        raise ValueError(f"batch_size: expected at least 1, got {batch_size}")
    if len(images) != len(labels):
        raise ValueError(
            f"labels: expected one for each of {len(images)} images, got {len(labels)}"
        )
    device = _device(model)
    rows, validation_rows = stratified_split(labels, validation_fraction, seed)
    x, y = _tensors(images[rows], labels[rows], device)
    validation_x, validation_y = _tensors(images[validation_rows], labels[validation_rows], device)

    optimiser = torch.optim.Adam(model.parameters(), lr=learning_rate, weight_decay=weight_decay)
    accuracies: list[float] = []
    losses: list[float] = []
    best = (-1.0, 0.0)
    best_epoch, best_state = 0, {}
    with _seeded(seed):
        for epoch in range(1, epochs + 1):
            model.train()
            for batch in torch.randperm(len(x)).to(device).split(batch_size):
                optimiser.zero_grad()
                F.cross_entropy(model(x[batch]), y[batch]).backward()
                optimiser.step()
            logits = _logits(model, validation_x)
            accuracies.append(_accuracy(logits, validation_y))
            losses.append(F.cross_entropy(logits, validation_y).item())
            if (accuracies[-1], -losses[-1]) > best:
                best = (accuracies[-1], -losses[-1])
                best_epoch, best_state = epoch, copy.deepcopy(model.state_dict())
            if progress is not None:
                progress(epoch, accuracies[-1])
    model.load_state_dict(best_state)
    model.eval()
    return TrainingRecord(tuple(accuracies), tuple(losses), best_epoch)


def accuracy(
    model: nn.Module,
    images: npt.NDArray[np.float32] | Tensor,
    labels: npt.NDArray[np.int64] | Tensor,
) -> float:
    """Accuracy of `model` in percent; the model is left as it was.

    Parameters
    ----------
    model : torch.nn.Module
    images : ndarray of float32 or Tensor, shape (n, ...)
        Normalised as for :func:`train`; at least one.
    labels : ndarray of int64 or Tensor, shape (n,)

    Raises
    ------
    ValueError
        If there is no image or the lengths differ.
    """
    if len(images) == 0 or len(images) != len(labels):
        raise ValueError(
            "images: expected at least one, with one label each, "
            f"got {len(images)} images and {len(labels)} labels"
        )
    x, y = _tensors(images, labels, _device(model))
    training = model.training
    try:
        return _accuracy(_logits(model, x), y)
    finally:
        model.train(training)


@torch.inference_mode()
def _logits(model: nn.Module, x: Tensor) -> Tensor:
    model.eval()
    return torch.cat([model(batch) for batch in x.split(500)])


def _accuracy(logits: Tensor, labels: Tensor) -> float:
    return 100 * (logits.argmax(1) == labels).sum().item() / len(labels)


def _device(model: nn.Module) -> torch.device:
    parameter = next(model.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def _tensors(
    images: npt.NDArray[np.float32] | Tensor,
    labels: npt.NDArray[np.int64] | Tensor,
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    return torch.as_tensor(images, device=device), torch.as_tensor(labels, device=device)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed torch's CPU generator for a while; the others are not touched."""
    seed = check_seed("seed", seed)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
