"""Knowledge distillation (Hinton, Vinyals & Dean 2015) with the losses of both papers."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ... import _arguments
from ..checks import check_module
from ..modes import evaluating
from .batches import Batches
from .fit import EVALUATION_BATCH, Loader, TrainingRecord, device_of, fit, mixed_precision

__all__ = ["distill", "distillation_loss"]

FORMS = {"isik": (1.5, 0.5), "zhou": (6.0, 1.0)}
"""Default temperature and alpha of each form of the loss."""


def distillation_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    temperature: float | None = None,
    alpha: float | None = None,
    form: str = "isik",
) -> Tensor:
    """Cross entropy with the labels, and how far the student is from the teacher.

    With p = softmax(teacher / T) and q = softmax(student / T), in nats and averaged over images:

    - ``"isik"``: alpha CE(student, labels) + (1 - alpha) T^2 KL(p || q) (Isik et al. 2020,
      appendix B.1: "equally weight", T = 1.5, alpha = 0.5);
    - ``"zhou"``: CE(student, labels) + alpha T^2 CE(p, q) (Zhou et al. 2020). T = 6 and alpha = 1
      are those of a later code for noise on activations that names this method
      (github.com/vvs07/noisyphotonicDNNs); the paper's text at hand does not give them.

    T^2 keeps the gradients of both parts on one scale. None flows into the teacher's logits.

    Parameters
    ----------
    student_logits, teacher_logits : Tensor, shape (n, classes)
    labels : Tensor of int64, shape (n,)
    temperature, alpha : float, optional
        T, above 0, and the weight above; 1.5 and 0.5 by default, 6 and 1 for ``"zhou"``.
    form : {"isik", "zhou"}

    Returns
    -------
    Tensor
        A scalar.

    Raises
    ------
    ValueError
        If an argument is not as above.
    """
    if teacher_logits.shape != student_logits.shape or student_logits.ndim != 2:
        raise _arguments.wrong_value(
            "teacher_logits",
            "shape (n, classes), that of the student's",
            f"{tuple(teacher_logits.shape)} and {tuple(student_logits.shape)}",
        )
    t, weight = _checked(temperature, alpha, form)
    hard = F.cross_entropy(student_logits, labels)
    teacher = F.softmax(teacher_logits.detach() / t, 1)
    student = student_logits / t
    if form == "zhou":
        return hard + weight * t**2 * F.cross_entropy(student, teacher)
    soft = F.kl_div(F.log_softmax(student, 1), teacher, reduction="batchmean")
    return weight * hard + (1 - weight) * t**2 * soft


def distill(
    student: nn.Module,
    teacher: nn.Module,
    loader: Loader,
    validation: Loader,
    *,
    temperature: float | None = None,
    alpha: float | None = None,
    form: str = "isik",
    **options: Any,
) -> TrainingRecord:
    """Train ``student`` in place with the answers of ``teacher``, as :func:`fit` does with labels.

    Noise on the student acts as in any training; the noisy student of Isik et al. is a smaller
    network, that of Zhou et al. a copy of the teacher.

    Parameters
    ----------
    student : torch.nn.Module
    teacher : torch.nn.Module
        Gives logits of the student's shape, in eval mode and without gradients; left as it was.
        Of :func:`batches` that are not augmented, it sees each image once for all epochs. With
        ``autocast`` it answers in that precision, too.
    loader, validation : iterable of tuple of Tensor
        Batches (images, labels), as for :func:`fit`.
    temperature, alpha, form
        As for :func:`distillation_loss`.
    **options
        Those of :func:`fit`, except ``loss``.

    Returns
    -------
    TrainingRecord
        Of the student on the validation images; its losses are cross entropies with the labels.

    Raises
    ------
    ValueError, TypeError
        As :func:`distillation_loss` and :func:`fit`.
    """
    check_module(student, "student")
    check_module(teacher, "teacher")
    _checked(temperature, alpha, form)

    def loss(model: nn.Module, images: Tensor, labels: Tensor, *known: Tensor) -> Tensor:
        return distillation_loss(
            model(images), answers_of(teacher, images, known), labels, temperature, alpha, form
        )

    with evaluating(teacher):
        loader = taught(loader, teacher, options.get("autocast"))
        return fit(student, loader, validation, loss=loss, **options)


def taught(loader: Loader, teacher: nn.Module, autocast: torch.dtype | None = None) -> Loader:
    """The same batches with the answers of the teacher, where these can be had beforehand."""
    if not isinstance(loader, Batches) or loader.augment is not None:
        return loader
    device = device_of(teacher)
    with mixed_precision(device, autocast):
        answers = [
            _answers(teacher, loader.prepare(images).to(device)).to(loader.images.device)
            for images in loader.images.split(EVALUATION_BATCH)
        ]
    return loader.with_target(torch.cat(answers))


def answers_of(teacher: nn.Module, images: Tensor, known: tuple[Tensor, ...]) -> Tensor:
    """What the teacher says of the images of a batch of :func:`taught`."""
    return known[0] if known else _answers(teacher, images)


@torch.no_grad()
def _answers(teacher: nn.Module, images: Tensor) -> Tensor:
    logits: Tensor = teacher(images)
    return logits


def _checked(temperature: float | None, alpha: float | None, form: str) -> tuple[float, float]:
    defaults = FORMS[_arguments.choice("form", form, FORMS)]
    t = defaults[0] if temperature is None else temperature
    weight = defaults[1] if alpha is None else alpha
    most = 1 if form == "isik" else math.inf
    return (
        check_temperature(t),
        _arguments.number("alpha", weight, 0, most),
    )


def check_temperature(value: float) -> float:
    """A temperature that logits of float32 can be divided by."""
    return _arguments.number("temperature", value, 1e-6, 1e6)
