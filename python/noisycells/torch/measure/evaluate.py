"""Accuracy over many noisy realizations of a network."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ... import _arguments
from ...intervals import mean_and_interval, student_t
from ...random import fold_in
from ...storage import StoredModel
from ..checks import check_module
from ..crossbar.convert import program
from ..crossbar.layers import CrossbarLayer
from ..inputs import split_batch
from ..metrics import Metric, answers, cross_entropy, metric_named
from ..modes import evaluating
from ..noise.inject import active_noise
from ..store import load
from ..training.batches import channels_last
from ..training.fit import device_of

__all__ = ["Evaluation", "evaluate", "realizations", "without_noise"]

Realization = Callable[[int], AbstractContextManager[None]]


@dataclass(frozen=True)
class Evaluation:
    """What :func:`evaluate` measured, a value for each noisy realization.

    Parameters
    ----------
    scores : tuple of float
        By the metric: accuracies in percent, or what else it gives.
    losses : tuple of float
        Mean cross entropy, in nats; none with another metric than accuracy.
    confidence : float
        Of the interval.
    """

    scores: tuple[float, ...]
    losses: tuple[float, ...] = ()
    confidence: float = 0.95

    @property
    def mean(self) -> float:
        """Mean score."""
        return float(np.mean(self.scores))

    @property
    def std(self) -> float:
        """Standard deviation of the score of one realization; NaN of a single one."""
        return float(np.std(self.scores, ddof=1)) if len(self.scores) > 1 else math.nan

    @property
    def half_width(self) -> float:
        """Half width of the Student-t interval of the mean; NaN of a single realization.

        It covers the noise of this network alone: not other training seeds, not other images.
        """
        if len(self.scores) < 2:
            return math.nan
        return mean_and_interval(self.scores, self.confidence)[1]


def evaluate(
    model: nn.Module,
    loader: Iterable[Any],
    repeats: int = 100,
    *,
    metric: Metric = "accuracy",
    seed: int = 0,
    confidence: float = 0.95,
    stored: StoredModel | None = None,
) -> Evaluation:
    """Measure a network on fresh noisy realizations, each one kept for a whole pass.

    The noise is that of the model (:func:`inject_noise`, crossbar layers, which are programmed
    anew and aged as they are now) or what comes of reading `stored` weights. Realizations are a
    pure function of `seed` and the seed of the noise, none that training uses. The model and
    torch's global generators are left as they were. Images on the CPU are laid out channels last
    where the model takes them so: the same values, other rounding, less time.

    Parameters
    ----------
    model : torch.nn.Module
        Gives a tensor, or an object with ``logits`` such as models of transformers do.
    loader : iterable of (inputs, labels) or of dict
        Batches, passed over once for each realization; what else is in a tuple is ignored. Dicts
        are keyword arguments of the model, and labels. Under torch.distributed every process
        measures the batches that it is given.
    repeats : int
        Realizations, at least 1.
    metric : {"accuracy", "mse", "mae", "cosine"} or callable
        Accuracy in percent of logits (n, classes); mean square or absolute error; mean cosine of
        outputs and labels, (n, ...) each; or ``metric(outputs, labels)`` of a whole pass.
    seed : int in [0, 2**64)
    confidence : float
        Of the interval of the mean, in (0, 1).
    stored : StoredModel, optional
        Read for each realization from another chip and put into the model (:func:`load`).

    Returns
    -------
    Evaluation

    Raises
    ------
    TypeError, ValueError
        If the model has no noise, or some beside `stored`; the loader gives no image, or only
        one pass; labels are not what the metric takes; or an argument is out of range.
    """
    check_module(model)
    repeats = _arguments.count("repeats", repeats)
    score = metric_named(metric)
    student_t(confidence, 1)  # checks it
    seed = _arguments.seed("seed", seed)
    measured = []
    with realizations(model, stored) as realization:
        first = _first_batch(loader)
        with without_noise(model):
            arrange = _arrangement(model, split_batch("loader", first)[0])
        for i in range(repeats):
            with realization(fold_in(seed, i)):
                outputs, labels = answers(model, loader, arrange)
                measured.append((score(outputs, labels), *_losses(metric, outputs, labels)))
    scores, *losses = zip(*measured, strict=True)
    return Evaluation(scores, losses[0] if losses else (), confidence)


def _first_batch(loader: Iterable[Any]) -> Any:
    if isinstance(loader, Tensor) or not isinstance(loader, Iterable):
        raise _arguments.wrong_type("loader", "an iterable of batches", loader)
    if iter(loader) is loader:
        raise _arguments.wrong_value(
            "loader",
            "batches that can be passed over again, such as a list",
            f"one pass of a {type(loader).__name__}",
        )
    first = next(iter(loader), None)
    if first is None:
        raise _arguments.wrong_value("loader", "at least one batch", "none")
    return first


def _losses(metric: Metric, outputs: Tensor, labels: Tensor) -> tuple[float, ...]:
    return (cross_entropy(outputs, labels),) if metric == "accuracy" else ()


@contextmanager
def realizations(model: nn.Module, stored: StoredModel | None = None) -> Iterator[Realization]:
    """Gives a function: within ``with realization(seed):`` the model has one draw of its noise.

    Meanwhile the model is in ``eval()`` and without gradients; afterwards it is as it was.

    Parameters
    ----------
    model : torch.nn.Module
    stored : StoredModel, optional
        As for :func:`evaluate`.

    Raises
    ------
    ValueError
        If there is no noise, or some of the model beside `stored`.
    """
    noise = active_noise(model)
    layers = [module for module in model.modules() if isinstance(module, CrossbarLayer)]
    if stored is None and noise is None and not layers:
        raise _arguments.wrong_value(
            "model",
            "noise (inject_noise, convert) or stored weights",
            "neither; accuracy() is for models without",
        )
    if stored is not None and (noise is not None or layers):
        raise _arguments.wrong_value(
            "stored", "a model without noise or crossbar layers of its own", "one with them"
        )

    @contextmanager
    def realization(seed: int) -> Iterator[None]:
        torch.default_generator.manual_seed(seed)  # for reads, and what else a forward draws
        with ExitStack() as stack:
            if stored is not None:
                load(stored, model, seed, chip=seed)
            if layers:
                program(model, seed)
                for layer, age in zip(layers, ages, strict=True):
                    if age is not None and not math.isnan(age):
                        layer.at(age, extrapolate=True)
            if noise is not None:
                stack.enter_context(noise.hold(seed))
            yield

    ages = [None if layer.chip_seconds is None else layer.chip_seconds.item() for layer in layers]
    with ExitStack() as stack:
        stack.enter_context(evaluating(model))
        stack.enter_context(torch.no_grad())
        stack.enter_context(torch.random.fork_rng(devices=[]))
        if stored is not None:
            stack.enter_context(_kept_state(model))
        for layer in layers:
            stack.callback(layer.put_back, layer.chip_state())
        yield realization


@contextmanager
def without_noise(model: nn.Module) -> Iterator[None]:
    """The model with its clean weights and digital products, in ``eval()``, without gradients."""
    noise = active_noise(model)
    layers = [module for module in model.modules() if isinstance(module, CrossbarLayer)]
    with ExitStack() as stack:
        stack.enter_context(evaluating(model))
        stack.enter_context(torch.no_grad())
        if noise is not None:
            stack.enter_context(noise.pause())
        for layer in layers:
            layer.forward = layer.digital  # type: ignore[method-assign, assignment]
            stack.callback(delattr, layer, "forward")
        yield


@contextmanager
def _kept_state(model: nn.Module) -> Iterator[None]:
    before = copy.deepcopy(model.state_dict())
    try:
        yield
    finally:
        model.load_state_dict(before)


def _arrangement(model: nn.Module, images: Any) -> Callable[[Any], Any]:
    """How images are best laid out for the model; some of them to find out with."""
    if isinstance(images, Tensor) and images.ndim == 4 and device_of(model).type == "cpu":
        try:
            model(channels_last(images[:1]))
            return channels_last
        except RuntimeError:  # the model has a view() that only the usual layout allows
            pass
    return lambda images: images
