"""Scores of a model's outputs for given labels, over a whole pass of a loader."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import _arguments
from .inputs import call, logits_of, moved, split_batch

__all__ = ["Metric", "answers", "cross_entropy", "metric_named", "percent"]

Metric = str | Callable[[Tensor, Tensor], Any]

IGNORED = -100  # labels that do not count, as for torch's cross entropy


@torch.no_grad()
def answers(
    model: nn.Module,
    loader: Iterable[Any],
    arrange: Callable[[Any], Any] = lambda x: x,
    name: str = "loader",
) -> tuple[Tensor, Tensor]:
    """Outputs and labels of all batches of a loader; ``arrange`` lays out the inputs.

    ``name`` is that of the loader in errors.
    """
    parameter = next(model.parameters(), None)
    device = torch.device("cpu") if parameter is None else parameter.device
    pairs = []
    for batch in loader:
        inputs, labels = split_batch(name, batch)
        output = call(model, moved(arrange(inputs), device))
        if "CausalLM" in type(output).__name__:
            raise _arguments.wrong_value(
                "model",
                "one output for each label",
                "those of a causal language model, which are for the next token; wrap it "
                "in a module that shifts them",
            )
        pairs.append((logits_of(output), labels.to(device)))
    if not pairs:
        raise _arguments.wrong_value(name, "at least one batch", "none")
    return torch.cat([output for output, _ in pairs]), torch.cat([labels for _, labels in pairs])


def metric_named(metric: Metric) -> Callable[[Tensor, Tensor], float]:
    """The function of a metric, which gives a finite float."""
    if not callable(metric):
        return METRICS[_arguments.choice("metric", metric, list(METRICS))]
    own = metric

    def score(outputs: Tensor, labels: Tensor) -> float:
        found = own(outputs, labels)
        if isinstance(found, Tensor):
            found = found.item() if found.numel() == 1 else found
        return _arguments.number("metric", found)

    return score


def percent(outputs: Tensor, labels: Tensor) -> float:
    """Accuracy in percent; labels of -100 do not count."""
    logits, classes = _classes(outputs, labels)
    return 100 * (logits.argmax(1) == classes).sum().item() / len(classes)


def cross_entropy(outputs: Tensor, labels: Tensor) -> float:
    """Mean cross entropy in nats."""
    return F.cross_entropy(*_classes(outputs, labels)).item()


def _classes(outputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (n, classes) and the class of each, of images, tokens or pixels."""
    if labels.is_floating_point() or labels.is_complex() or labels.dtype is torch.bool:
        raise _arguments.wrong_type(
            "metric", "'mse', 'cosine' or a callable for labels that are no classes", "accuracy"
        )
    if outputs.ndim == labels.ndim + 1 and outputs.shape[:-1] == labels.shape:
        logits = outputs.flatten(0, -2)
    elif outputs.ndim == labels.ndim + 1 and outputs.movedim(1, -1).shape[:-1] == labels.shape:
        logits = outputs.movedim(1, -1).flatten(0, -2)
    else:
        raise _arguments.wrong_value(
            "labels",
            "a class for each output, (n,) for outputs (n, classes)",
            f"{tuple(labels.shape)} for {tuple(outputs.shape)}",
        )
    counted = labels.flatten() != IGNORED
    logits, classes = logits[counted], labels.flatten()[counted].long()
    if not len(classes):
        raise _arguments.wrong_value("labels", "at least one that counts", "none")
    if classes.min() < 0 or classes.max() >= logits.shape[1]:
        raise _arguments.wrong_value(
            "labels",
            f"classes in [0, {logits.shape[1]})",
            f"{classes.min().item()} to {classes.max().item()}",
        )
    return logits, classes


def _pair(outputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Both in float64, of one shape; (n,) and (n, 1) are the same."""
    if outputs.numel() == labels.numel() and outputs.shape[:1] == labels.shape[:1]:
        outputs = outputs.reshape(labels.shape) if 1 in (outputs.ndim, labels.ndim) else outputs
    if outputs.shape != labels.shape:
        raise _arguments.wrong_value(
            "labels", f"the shape of the outputs, {tuple(outputs.shape)}", tuple(labels.shape)
        )
    return outputs.double(), labels.double()


def _mse(outputs: Tensor, labels: Tensor) -> float:
    return F.mse_loss(*_pair(outputs, labels)).item()


def _mae(outputs: Tensor, labels: Tensor) -> float:
    return F.l1_loss(*_pair(outputs, labels)).item()


def _cosine(outputs: Tensor, labels: Tensor) -> float:
    a, b = (t.reshape(len(t), -1) for t in _pair(outputs, labels))
    found = F.cosine_similarity(a, b).mean().item()
    return found if math.isfinite(found) else 0.0


METRICS: dict[str, Callable[[Tensor, Tensor], float]] = {
    "accuracy": percent,
    "mse": _mse,
    "mae": _mae,
    "cosine": _cosine,
}
