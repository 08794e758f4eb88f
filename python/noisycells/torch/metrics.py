"""Scores of a model's outputs for given labels, over a whole pass of its data."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import _arguments
from .inputs import call, is_causal, moved, split_batch, tensor_of

__all__ = [
    "IGNORED",
    "METRICS",
    "Measure",
    "Metric",
    "accuracy_and_loss",
    "answers",
    "metric_named",
]

Metric = str | Callable[[Tensor, Tensor], Any]
Pairs = Iterator[tuple[Tensor, Tensor]]
"""Outputs and labels, a batch at a time."""

IGNORED = -100  # labels that do not count, as for torch's cross entropy


class Measure(NamedTuple):
    """What a metric makes of the outputs and labels of a pass: a score, and maybe a loss."""

    name: str
    of: Callable[[Pairs], tuple[float, ...]]


@torch.no_grad()
def answers(
    model: nn.Module,
    data: Iterable[Any],
    arrange: Callable[[Any], Any] = lambda x: x,
    name: str = "data",
) -> Pairs:
    """Outputs and labels of each batch; ``arrange`` lays out the inputs.

    Labels of a causal language model are its tokens, each of which the output before it predicts;
    they are shifted to that output. ``name`` is that of the data in errors.
    """
    parameter = next(model.parameters(), None)
    device = torch.device("cpu") if parameter is None else parameter.device
    empty = True
    for batch in data:
        empty = False
        inputs, labels = split_batch(name, batch)
        output = call(model, moved(arrange(inputs), device))
        found, labels = tensor_of(output), labels.to(device)
        if is_causal(output):
            if found.ndim != 3 or found.shape[:2] != labels.shape:
                raise _arguments.wrong_value(
                    "labels",
                    f"one for each token that went in, {tuple(found.shape[:2])}",
                    tuple(labels.shape),
                )
            found, labels = found[:, :-1], labels[:, 1:]
        yield found, labels
    if empty:
        raise _arguments.wrong_value(name, "at least one batch", "none")


def metric_named(metric: Metric) -> Measure:
    """The measure of a metric; scores of callables are finite floats."""
    if not callable(metric):
        return METRICS[_arguments.choice("metric", metric, list(METRICS))]
    own = metric

    def score(pairs: Pairs) -> tuple[float, ...]:
        outputs, labels = zip(*pairs, strict=True)
        if len({t.shape[1:] for t in outputs}) > 1 or len({t.shape[1:] for t in labels}) > 1:
            raise _arguments.wrong_value(
                "metric",
                "batches whose outputs and labels are of one shape beside the first dimension, for "
                "a callable, which takes those of a whole pass",
                "several; pad them to one length",
            )
        found = own(torch.cat(outputs), torch.cat(labels))
        if isinstance(found, Tensor):
            found = found.item() if found.numel() == 1 else found
        return (_arguments.number("metric", found),)

    return Measure(getattr(metric, "__name__", type(metric).__name__), score)


# --------------------------------------------------------------------------- means over samples


def _means(pairs: Pairs, *terms: Callable[[Tensor, Tensor], Tensor]) -> tuple[float, ...]:
    """Means over all samples of a pass; each of ``terms`` gives a number for each of a batch."""
    totals, count = [0.0] * len(terms), 0
    for outputs, labels in pairs:
        found = [term(outputs, labels) for term in terms]
        count += found[0].numel()
        for i, values in enumerate(found):
            totals[i] += values.sum(dtype=torch.float64).item()
    if not count:
        raise _arguments.wrong_value("labels", "at least one that counts", "none")
    return tuple(total / count for total in totals)


def accuracy_and_loss(pairs: Pairs) -> tuple[float, ...]:
    """Accuracy in percent and mean cross entropy in nats; labels of -100 do not count."""
    right, loss = _means(pairs, _right, _cross_entropy)
    return 100 * right, loss


def _perplexity(pairs: Pairs) -> tuple[float, ...]:
    (loss,) = _means(pairs, _cross_entropy)
    try:
        return (math.exp(loss),)
    except OverflowError:
        return (math.inf,)


def _mean_of(term: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Pairs], tuple[float, ...]]:
    return lambda pairs: _means(pairs, term)


def _right(outputs: Tensor, labels: Tensor) -> Tensor:
    logits, classes = _classes(outputs, labels)
    return (logits.argmax(1) == classes).double()


def _cross_entropy(outputs: Tensor, labels: Tensor) -> Tensor:
    logits, classes = _classes(outputs, labels)
    logits = logits if logits.is_floating_point() else logits.float()
    return F.cross_entropy(logits, classes, reduction="none")


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
    if len(classes) and (classes.min() < 0 or classes.max() >= logits.shape[1]):
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


def _squares(outputs: Tensor, labels: Tensor) -> Tensor:
    return torch.sub(*_pair(outputs, labels)).square()


def _magnitudes(outputs: Tensor, labels: Tensor) -> Tensor:
    return torch.sub(*_pair(outputs, labels)).abs()


def _cosines(outputs: Tensor, labels: Tensor) -> Tensor:
    """0 where one of the two is not finite, or nothing."""
    a, b = (t.reshape(len(t), -1) for t in _pair(outputs, labels))
    return F.cosine_similarity(a, b).nan_to_num(0.0)


LOWER_IS_BETTER = ("mse", "mae", "perplexity")
METRICS: dict[str, Measure] = {
    "accuracy": Measure("accuracy (%)", accuracy_and_loss),
    "mse": Measure("mean square error", _mean_of(_squares)),
    "mae": Measure("mean absolute error", _mean_of(_magnitudes)),
    "cosine": Measure("cosine", _mean_of(_cosines)),
    "perplexity": Measure("perplexity", _perplexity),
}
