"""Accuracy over many noisy realisations of a network."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ...intervals import mean_and_interval, student_t
from ...random import check_seed, fold_in
from ...storage import StoredModel
from ..crossbar.convert import program
from ..crossbar.layers import CrossbarLayer
from ..modes import evaluating
from ..noise.inject import active_noise
from ..store import load
from ..training.batches import channels_last
from ..training.fit import Loader, device_of, measure

__all__ = ["Evaluation", "evaluate", "realisations", "without_noise"]

Realisation = Callable[[int], AbstractContextManager[None]]


@dataclass(frozen=True)
class Evaluation:
    """What :func:`evaluate` measured, a value for each noisy realisation.

    Parameters
    ----------
    accuracies : tuple of float
        In percent.
    losses : tuple of float
        Mean cross entropy, in nats.
    confidence : float
        Of the interval.
    """

    accuracies: tuple[float, ...]
    losses: tuple[float, ...]
    confidence: float = 0.95

    @property
    def mean(self) -> float:
        """Mean accuracy, in percent."""
        return float(np.mean(self.accuracies))

    @property
    def std(self) -> float:
        """Standard deviation of the accuracy of one realisation; NaN of a single one."""
        return float(np.std(self.accuracies, ddof=1)) if len(self.accuracies) > 1 else math.nan

    @property
    def half_width(self) -> float:
        """Half width of the Student-t interval of the mean; NaN of a single realisation.

        It covers the noise of this network alone: not other training seeds, not other images.
        """
        if len(self.accuracies) < 2:
            return math.nan
        return mean_and_interval(self.accuracies, self.confidence)[1]


def evaluate(
    model: nn.Module,
    loader: Loader,
    repeats: int = 100,
    *,
    seed: int = 0,
    confidence: float = 0.95,
    stored: StoredModel | None = None,
) -> Evaluation:
    """Measure a network on fresh noisy realisations, each one kept for a whole pass.

    The noise is that of the model: what :func:`inject_noise` gave it, the devices of its crossbar
    layers, programmed anew for each realisation (and aged as they are now), or both where some
    layers have the one and some the other; or else what comes of reading `stored` weights. The
    realisations are a pure function of `seed` and the seed of the noise: with both the same, they
    are the same for every model of this architecture. Their numbers are none that training uses.
    The model is left as it was, in its weights, chips, modes and draws, and so are torch's global
    generators.

    Images on the CPU are laid out channels last where the model takes them so: the same values,
    other rounding, and LeNet needs less than half the time.

    Parameters
    ----------
    model : torch.nn.Module
        Gives logits of shape (n, classes).
    loader : iterable of (images, labels)
        Batches, such as ``batches(images, labels, 250, shuffle=False)``; passed over once for
        each realisation. What else is in a batch is ignored. Under torch.distributed every
        process measures the batches that it is given.
    repeats : int
        Realisations, at least 1.
    seed : int
        In [0, 2**64).
    confidence : float
        Of the interval of the mean, in (0, 1).
    stored : StoredModel, optional
        Read for each realisation from another chip and put into the model (:func:`load`).

    Returns
    -------
    Evaluation

    Raises
    ------
    ValueError
        If the model has no noise, or some beside `stored`; the loader gives no image, or only
        one pass; or an argument is out of range.
    """
    if repeats < 1:
        raise ValueError(f"repeats: expected at least 1, got {repeats}")
    student_t(confidence, 1)  # checks it
    seed = check_seed("seed", seed)
    if iter(loader) is loader:
        raise ValueError(
            "loader: expected batches that can be passed over again, such as a list, "
            f"got one pass of a {type(loader).__name__}"
        )
    measured = []
    with realisations(model, stored) as realisation:
        first = next(iter(loader), None)
        if first is None:
            raise ValueError("loader: expected at least one batch, got none")
        with without_noise(model):
            arrange = _arrangement(model, first[0])
        for i in range(repeats):
            with realisation(fold_in(seed, i)):
                measured.append(measure(model, ((arrange(x), y) for x, y, *_ in loader)))
    accuracies, losses = zip(*measured, strict=True)
    return Evaluation(accuracies, losses, confidence)


@contextmanager
def realisations(model: nn.Module, stored: StoredModel | None = None) -> Iterator[Realisation]:
    """Gives a function: within ``with realisation(seed):`` the model has one draw of its noise.

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
        raise ValueError(
            "model: expected noise (inject_noise, convert) or stored weights, got neither; "
            "accuracy() is for models without"
        )
    if stored is not None and (noise is not None or layers):
        raise ValueError("stored: expected a model without noise or crossbar layers of its own")

    @contextmanager
    def realisation(seed: int) -> Iterator[None]:
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
        yield realisation


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


def _arrangement(model: nn.Module, images: Tensor) -> Callable[[Tensor], Tensor]:
    """How images are best laid out for the model; some of them to find out with."""
    if images.ndim == 4 and device_of(model).type == "cpu":
        try:
            model(channels_last(images[:1]))
            return channels_last
        except RuntimeError:  # the model has a view() that only the usual layout allows
            pass
    return lambda images: images
