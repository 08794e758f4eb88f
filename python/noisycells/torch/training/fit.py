"""Training: a plain loop for any model, loss and optimizer, with the papers' settings as defaults.

:func:`fit` takes batches; :func:`train` takes arrays, with the MNIST settings of Isik et al. (2020,
appendix B.1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ... import _arguments
from ...data import stratified_split
from ..checks import check_module
from ..metrics import accuracy_and_loss, answers
from ..modes import evaluating
from .batches import batches, process
from .checkpoint import TrainingState

__all__ = ["TrainingRecord", "accuracy", "build", "fit", "train"]

Loader = Iterable[tuple[Tensor, ...]]
"""Batches: images, labels, and what else the loss needs of each image."""

EVALUATION_BATCH = 500
VANISHED = 1e-30
CPU = torch.device("cpu")


@dataclass(frozen=True)
class TrainingRecord:
    """What :func:`fit` saw on the validation images.

    Parameters
    ----------
    accuracies : tuple of float
        Accuracy after each epoch, in percent (or another score, the higher the better).
    losses : tuple of float
        Loss after each epoch: mean cross entropy in nats, unless ``validate`` measured another.
    best_epoch : int
        Epoch whose weights were kept, counted from 1.
    """

    accuracies: tuple[float, ...]
    losses: tuple[float, ...]
    best_epoch: int


def build(factory: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Make a model whose initial weights depend on ``seed`` alone.

    Parameters
    ----------
    factory : callable
        Makes the model, such as the class ``LeNet``.
    seed : int
        Seed of torch's generator while the model is made; its state is restored afterwards.
    """
    with seeded(seed):
        return factory()


def fit(
    model: nn.Module,
    loader: Loader,
    validation: Loader,
    *,
    epochs: int,
    seed: int = 0,
    loss: Callable[..., Tensor] | None = None,
    optimizer: Callable[[Iterable[nn.Parameter]], Optimizer] | None = None,
    scheduler: Callable[[Optimizer, int], LRScheduler] | None = None,
    clip_gradient: float | None = None,
    autocast: torch.dtype | None = None,
    patience: int | None = None,
    validate: Callable[[nn.Module, Loader], tuple[float, float]] | None = None,
    checkpoint: str | Path | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> TrainingRecord:
    """Train ``model`` in place and keep the weights of the epoch that validates best.

    The best epoch has the highest validation accuracy, and the lowest loss among equals. Noise
    from :func:`inject_noise` acts while training and while validating, a fresh draw each time the
    model is called. The same arguments give the same bits on one machine with the same number of
    threads (on a GPU as far as its kernels do); the state of torch's generators is left as it was.

    Parameters
    ----------
    model : torch.nn.Module
        Under torch.distributed, wrapped in DistributedDataParallel by the caller.
    loader, validation : iterable of tuple of Tensor
        Batches (images, labels) such as :func:`batches` or a torch ``DataLoader``; more tensors
        in a batch go to ``loss``. What has a ``set_epoch`` method (or a sampler with one) is told
        the epoch, from 1. The validation batches must hold nothing of the test set.
    epochs : int
        Passes over ``loader``, at least 1.
    seed : int
        Seed of torch's generators (the CPU's and that of the model's device) during the training:
        of the order of the batches, dropout and what else draws from them.
    loss : callable, optional
        ``loss(model, images, labels, ...)``, one scalar; by default the cross entropy of
        ``model(images)``.
    optimizer : callable, optional
        Makes the optimizer of the parameters; by default Adam at 1e-3 with weight decay 5e-4
        (Isik et al. 2020, appendix B.1).
    scheduler : callable, optional
        ``scheduler(optimizer, steps)`` makes a learning-rate schedule that is stepped after each
        of ``steps`` batches; ``loader`` must then have a length.
    clip_gradient : float, optional
        Largest norm of the gradient of all parameters.
    autocast : torch.dtype, optional
        Mixed precision: the loss under ``torch.autocast`` of this type. Weights, their noise, the
        optimizer and validation stay as they are. Not float16, whose gradients need scaling.
    patience : int, optional
        Stop after so many epochs without a better one.
    validate : callable, optional
        ``validate(model, validation)`` returns (accuracy, loss) on a model in eval mode; for
        example one that pauses the noise, or averages over several draws.
    checkpoint : str or Path, optional
        File that holds the state after each epoch: weights, optimizer, schedule, generators, the
        noise's draw number, the best weights. Where it exists, training goes on from it and ends
        with the same bits as without the interruption, unless something draws from other
        generators (numpy's). An interrupted epoch begins anew.
    progress : callable, optional
        Called after each epoch with its number, from 1, and the validation accuracy in percent;
        at once for those found in ``checkpoint``.

    Returns
    -------
    TrainingRecord
        The same in every process: validation is averaged over processes.

    Raises
    ------
    ValueError
        If ``epochs`` or ``patience`` is below 1, ``clip_gradient`` not above 0, ``autocast``
        float16, a loader is empty, or ``checkpoint`` is damaged, of another training or of more
        epochs.
    TypeError
        If there is a ``scheduler`` and ``loader`` has no length.

    Notes
    -----
    On a CPU, weights that decay below 1e-30 are set to zero: those of dead units get there within a
    few epochs of Adam with weight decay, and processors take up to 100 times as long for numbers
    below 1e-38 (measured: five times for a step of LeNet after 8 epochs).

    Under torch.distributed, all processes draw from generators of the same seed, process 0 writes
    the checkpoint, and its batch-normalization statistics are kept.
    """
    epochs, patience = _checked(model, loader, epochs, patience, clip_gradient, scheduler, autocast)
    loss = loss or _cross_entropy
    validate = validate or measure
    stepper = (optimizer or _adam)(model.parameters())
    steps = epochs * len(loader) if scheduler is not None else 0  # type: ignore[arg-type]
    schedule = None if scheduler is None else scheduler(stepper, steps)
    device = device_of(model)
    inner = model.module if isinstance(model, DistributedDataParallel) else model
    settings = {"seed": _arguments.seed("seed", seed), "steps": steps, "autocast": str(autocast)}
    state = TrainingState(inner, stepper, schedule, device, settings)
    file = None if checkpoint is None else Path(checkpoint)

    learn = _learning(model, loss, stepper, schedule, clip_gradient, device, autocast)
    with seeded(seed, device):
        if file is not None:
            state.resume(file, epochs)
        if progress is not None:
            for epoch, score in enumerate(state.accuracies, start=1):
                progress(epoch, score)
        for epoch in range(len(state.accuracies) + 1, epochs + 1):
            if patience is not None and epoch - state.best_epoch > patience:
                break
            _epoch(model, loader, epoch, device, learn)
            _share_buffers(inner)
            inner.eval()
            state.record(*_mean_over_processes(validate(inner, validation), device))
            if file is not None:
                state.save(file)
            if progress is not None:
                progress(epoch, state.accuracies[-1])
    inner.load_state_dict(state.best_model)
    model.eval()
    return TrainingRecord(tuple(state.accuracies), tuple(state.losses), state.best_epoch)


def _checked(
    model: nn.Module,
    loader: Loader,
    epochs: int,
    patience: int | None,
    clip_gradient: float | None,
    scheduler: object,
    autocast: torch.dtype | None,
) -> tuple[int, int | None]:
    """Epochs and patience, where all arguments are as they should be."""
    check_module(model)
    epochs = _arguments.count("epochs", epochs)
    patience = None if patience is None else _arguments.count("patience", patience)
    if clip_gradient is not None:
        _arguments.number("clip_gradient", clip_gradient, above=0)
    if scheduler is not None and not hasattr(loader, "__len__"):
        raise _arguments.wrong_type("loader", "one with a length, for the scheduler", loader)
    if autocast == torch.float16:
        raise _arguments.wrong_value(
            "autocast", "a type whose gradients need no scaling", "float16"
        )
    return epochs, patience


def _learning(
    model: nn.Module,
    loss: Callable[..., Tensor],
    optimizer: Optimizer,
    schedule: LRScheduler | None,
    clip_gradient: float | None,
    device: torch.device,
    autocast: torch.dtype | None,
) -> Callable[..., None]:
    """What learns from one batch."""

    def learn(*batch: Tensor) -> None:
        optimizer.zero_grad()
        with mixed_precision(device, autocast):
            value = loss(model, *batch)
        value.backward()
        if clip_gradient is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip_gradient)
        optimizer.step()
        if schedule is not None:
            schedule.step()

    return learn


def _epoch(
    model: nn.Module,
    loader: Loader,
    epoch: int,
    device: torch.device,
    learn: Callable[..., None],
) -> None:
    """One pass over the loader in ``train()``."""
    _set_epoch(loader, epoch)
    model.train()
    batch = None
    for step, batch in enumerate(loader):
        learn(*(part.to(device) for part in batch))
        if device.type == "cpu" and step % 16 == 0:
            _clear_vanished(model)
    if batch is None:
        raise _arguments.wrong_value("loader", "batches in every epoch", f"none in {epoch}")


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
    """Train ``model`` in place with Adam and cross entropy, and keep the best epoch's weights.

    A stratified share of the training images is set aside for validation, never trained on; the
    same ``seed`` sets aside the same images, so a later call (fine-tuning) does not see them
    either. The best epoch has the highest validation accuracy, and the lowest loss among equals.
    The same arguments give the same bits on one machine with the same number of threads. The state
    of torch's global generators is left as it was.

    Parameters
    ----------
    model : torch.nn.Module
    images : ndarray of float32, shape (n, ...)
        Training images, normalized.
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
        If ``epochs`` or ``batch_size`` is below 1, the lengths of ``images`` and ``labels`` differ,
        or the validation split would be empty.
    """
    check_module(model)
    if len(images) != len(labels):
        raise _arguments.wrong_value("labels", f"one for each of {len(images)} images", len(labels))
    device = device_of(model)
    rows, others = stratified_split(labels, validation_fraction, seed)
    return fit(
        model,
        batches(images[rows], labels[rows], batch_size, device=device),
        batches(images[others], labels[others], EVALUATION_BATCH, shuffle=False, device=device),
        epochs=epochs,
        seed=seed,
        optimizer=lambda p: torch.optim.Adam(p, lr=learning_rate, weight_decay=weight_decay),
        progress=progress,
    )


def accuracy(
    model: nn.Module,
    images: npt.NDArray[np.float32] | Tensor | Iterable[Any],
    labels: npt.NDArray[np.int64] | Tensor | None = None,
) -> float:
    """Accuracy of ``model`` in percent; the model is left as it was.

    Under torch.distributed it is that of this process's share of the images.

    Parameters
    ----------
    model : torch.nn.Module
    images : ndarray of float32 or Tensor, shape (n, ...), or iterable of batches
        Normalized as for :func:`train`; at least one. Without ``labels``, batches as for
        :func:`evaluate`, such as a ``DataLoader``.
    labels : ndarray of int64 or Tensor, shape (n,), optional

    Raises
    ------
    TypeError, ValueError
        If there is no image or the lengths differ.
    """
    check_module(model)
    loader: Iterable[Any] = images
    if labels is not None:
        found = len(images)  # type: ignore[arg-type]
        if found == 0 or found != len(labels):
            raise _arguments.wrong_value(
                "images",
                "at least one, with one label each",
                f"{found} images and {len(labels)} labels",
            )
        loader = batches(
            images,  # type: ignore[arg-type]
            labels, EVALUATION_BATCH, shuffle=False, device=device_of(model),
        )  # fmt: skip
    elif isinstance(images, (np.ndarray, Tensor)):
        raise _arguments.wrong_kind("labels", "one for each image", "None")
    with evaluating(model):
        return accuracy_and_loss(answers(model, loader, name="images"))[0]


def measure(model: nn.Module, loader: Iterable[Any]) -> tuple[float, float]:
    """Accuracy in percent and mean cross entropy in nats of all images of a loader."""
    found, loss = accuracy_and_loss(answers(model, loader, name="validation"))
    return found, loss


def mixed_precision(device: torch.device, dtype: torch.dtype | None) -> torch.autocast:
    """A context of ``torch.autocast``, or of nothing without a type."""
    return torch.autocast(device.type, dtype, enabled=dtype is not None)


def _cross_entropy(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(model(images), labels)


def _adam(parameters: Iterable[nn.Parameter]) -> Optimizer:
    return torch.optim.Adam(parameters, lr=1e-3, weight_decay=5e-4)


def device_of(model: nn.Module) -> torch.device:
    """Where the parameters of a model are; the CPU where there are none."""
    parameter = next(model.parameters(), None)
    return CPU if parameter is None else parameter.device


def _set_epoch(loader: Loader, epoch: int) -> None:
    for part in (loader, getattr(loader, "sampler", None)):
        tell = getattr(part, "set_epoch", None)
        if tell is not None:
            tell(epoch)


@torch.no_grad()
def _clear_vanished(model: nn.Module) -> None:
    """Set weights to zero that are too small to count, before they are subnormal."""
    for parameter in model.parameters():
        parameter.masked_fill_(parameter.abs() < VANISHED, 0)


def _share_buffers(model: nn.Module) -> None:
    """Give every process the buffers of process 0, as it would get at the next training step."""
    if process()[1] > 1:
        for buffer in model.buffers():
            distributed.broadcast(buffer, 0)


def _mean_over_processes(
    validated: tuple[float, float], device: torch.device
) -> tuple[float, float]:
    processes = process()[1]
    if processes == 1:
        return validated
    values = torch.tensor(validated, dtype=torch.float64, device=device)
    distributed.all_reduce(values)
    accuracy, loss = (values / processes).tolist()
    return accuracy, loss


@contextmanager
def seeded(seed: int, device: torch.device = CPU) -> Iterator[None]:
    """Seed torch's generators of the CPU and of ``device`` for a while; no other is touched."""
    seed = _arguments.seed("seed", seed)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
