"""Training for few bits: a network whose weights lie on grids and cost little to store.

The loss is that of distillation plus ``rate_weight`` times the bits a weight of an entropy coder
(entropy-penalized reparametrization: Oktay et al. 2020; learnt steps and distillation besides).
Weights that are not worth their bits become zero, so sparsity needs no pruning.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from ... import _arguments
from ..checks import check_module
from ..modes import evaluating
from .distill import answers_of, distillation_loss, taught
from .fit import Loader, TrainingRecord, device_of, fit
from .grids import Grids

__all__ = ["RateRecord", "rate_control", "rate_train"]

WARM_UP = 0.05  # share of the steps in which the learning rate rises
LAST_RATE = 0.01  # of the learning rate, at the end of its cosine
RAMP = 0.4  # share of the steps in which the weight of the rate rises
OTHER_BITS = 32  # of a parameter without a grid


@dataclass(frozen=True)
class RateRecord:
    """What :func:`rate_train` made of a model.

    Parameters
    ----------
    training : TrainingRecord
        Its ``losses`` are the whole loss on the validation batches after each epoch, its
        ``accuracies`` minus that, as the epoch with the least loss is kept.
    steps : dict of str to float
        Step of the grid of each tensor: weight = index times step in float32.
    bits : dict of str to float
        Bits of the indices of each tensor (:func:`code_length`, with a header of 64 bits).
    weights : int
        Numbers on grids.
    other_weights : int
        Parameters without a grid, such as those of normalization; 32 bits each.
    """

    training: TrainingRecord
    steps: dict[str, float]
    bits: dict[str, float]
    weights: int
    other_weights: int

    @property
    def bits_per_weight(self) -> float:
        """Bits of all parameters, by their number."""
        bits = sum(self.bits.values()) + OTHER_BITS * self.other_weights
        return bits / (self.weights + self.other_weights)

    def indices(self, model: nn.Module) -> dict[str, NDArray[np.int64]]:
        """Places of the model's weights on the grids, for a lossless code.

        Raises
        ------
        ValueError
            If a weight is not on its grid, to the last bit.
        """
        found = {}
        for name, step in self.steps.items():
            weight = model.get_parameter(name).detach()
            places = (weight / step).round()
            if not torch.equal(places * step, weight):
                raise _arguments.wrong_value("model", f"{name!r} on its grid", "other weights")
            found[name] = places.cpu().numpy().astype(np.int64)
        return found


def rate_train(
    model: nn.Module,
    loader: Loader,
    validation: Loader,
    *,
    rate_weight: float,
    epochs: int,
    teacher: nn.Module | None = None,
    temperature: float = 2.0,
    alpha: float = 0.5,
    learning_rate: float = 1e-3,
    filter_fn: Callable[[nn.Module, str], bool] | None = None,
    **options: Any,
) -> RateRecord:
    """Fine-tune ``model`` in place until its weights take few bits, and leave them on grids.

    The loss is alpha CE + (1 - alpha) T^2 KL of :func:`distillation_loss` plus ``rate_weight``
    times the mean bits of a weight. Adam's learning rate rises for 5 % of the steps and falls with
    a cosine to 1 %; the weight of the rate rises over the first 40 %. The epoch with the least loss
    on the validation batches is kept, all with the full weight of the rate.

    Parameters
    ----------
    model : torch.nn.Module
        Trained already. Its weights and biases get grids, normalization stays as it is.
    loader, validation : iterable of tuple of Tensor
        Batches (images, labels), as for :func:`fit`; ``loader`` has a length.
    rate_weight : float
        Nats of loss that a bit a weight is worth, 0 or more: larger ones give smaller networks.
    epochs : int
    teacher : torch.nn.Module, optional
        By default a copy of ``model`` as it comes.
    temperature, alpha : float
        As for :func:`distillation_loss`; ``alpha=1`` trains with the labels alone.
    learning_rate : float
        Largest one of the weights; steps of grids learn at twice, rates at ten times of it.
    filter_fn : callable, optional
        ``filter_fn(module, name)``: False for modules whose tensors get no grids.
    **options
        Those of :func:`fit`, except ``loss``, ``optimizer``, ``scheduler`` and ``validate``.

    Returns
    -------
    RateRecord

    Raises
    ------
    ValueError, TypeError
        If an argument is not as above or as :func:`fit` wants it, or a weight is tied,
        parametrized, being pruned or not finite. ``model`` is then as it was before.
    """
    check_module(model, to_change=True)
    rate_weight = _arguments.number("rate_weight", rate_weight, 0)
    teacher = copy.deepcopy(model) if teacher is None else teacher
    before = copy.deepcopy(model.state_dict())
    grids = Grids(model, filter_fn)
    try:
        training = _tune(
            model, loader, validation, grids, rate_weight,
            teacher=teacher, temperature=temperature, alpha=alpha, epochs=epochs,
            learning_rate=learning_rate, **options,
        )  # fmt: skip
    except BaseException:
        grids.remove()
        model.load_state_dict(before)
        raise
    steps, bits, size = grids.steps, grids.bits(), grids.size
    grids.remove()
    others = sum(p.numel() for p in model.parameters()) - size
    return RateRecord(training, steps, bits, size, others)


def rate_control(
    model: nn.Module,
    loader: Loader,
    validation: Loader,
    *,
    epochs: int,
    teacher: nn.Module | None = None,
    temperature: float = 2.0,
    alpha: float = 0.5,
    learning_rate: float = 1e-3,
    **options: Any,
) -> TrainingRecord:
    """Fine-tune ``model`` in place as :func:`rate_train` does, without grids and rate.

    What the further epochs alone do to a network; what is lost to few bits is against this.
    Arguments and errors are those of :func:`rate_train`.
    """
    check_module(model, to_change=True)
    teacher = copy.deepcopy(model) if teacher is None else teacher
    return _tune(
        model, loader, validation, None, 0.0,
        teacher=teacher, temperature=temperature, alpha=alpha, epochs=epochs,
        learning_rate=learning_rate, **options,
    )  # fmt: skip


def _tune(
    model: nn.Module,
    loader: Loader,
    validation: Loader,
    grids: Grids | None,
    rate_weight: float,
    *,
    teacher: nn.Module,
    temperature: float,
    alpha: float,
    learning_rate: float,
    **options: Any,
) -> TrainingRecord:
    """The training of both; without grids nothing is rounded."""
    _arguments.number("learning_rate", learning_rate, above=0)
    check_module(teacher, "teacher")
    schedules: list[LambdaLR] = []
    lengths: list[int] = []

    def optimizer(parameters: Iterable[nn.Parameter]) -> Optimizer:
        groups: Any = parameters if grids is None else grids.groups(learning_rate)
        return torch.optim.Adam(groups, lr=learning_rate)

    def scheduler(optimizer: Optimizer, steps: int) -> LambdaLR:
        schedules.append(LambdaLR(optimizer, lambda step: _learning_rate(step / steps)))
        lengths.append(steps)
        return schedules[0]

    def task(model: nn.Module, images: Tensor, labels: Tensor, *known: Tensor) -> Tensor:
        answers = answers_of(teacher, images, known)
        return distillation_loss(model(images), answers, labels, temperature, alpha)

    def loss(model: nn.Module, images: Tensor, labels: Tensor, *known: Tensor) -> Tensor:
        value = task(model, images, labels, *known)
        if grids is None or rate_weight == 0:
            return value
        ramp = min(1.0, schedules[0].last_epoch / (RAMP * lengths[0]))
        return value + rate_weight * ramp * grids.bits_per_weight()

    def validate(model: nn.Module, loader: Loader) -> tuple[float, float]:
        value = _mean_loss(task, model, loader)
        if grids is not None:
            value += rate_weight * sum(grids.bits().values()) / grids.size
        return -value, value

    with evaluating(teacher):
        return fit(
            model,
            taught(loader, teacher, options.get("autocast")),
            taught(validation, teacher),
            loss=loss, optimizer=optimizer, scheduler=scheduler, validate=validate, **options,
        )  # fmt: skip


@torch.no_grad()
def _mean_loss(task: Callable[..., Tensor], model: nn.Module, loader: Loader) -> float:
    """Mean loss over all images of a loader."""
    device, total, count = device_of(model), 0.0, 0
    for batch in loader:
        parts = [part.to(device) for part in batch]
        total += task(model, *parts).item() * len(parts[0])
        count += len(parts[0])
    if not count:
        raise _arguments.wrong_value("validation", "at least one batch", "none")
    return total / count


def _learning_rate(time: float) -> float:
    """Share of the largest learning rate at a time in [0, 1]."""
    return max(LAST_RATE, min(1.0, time / WARM_UP) * 0.5 * (1 + math.cos(math.pi * time)))
