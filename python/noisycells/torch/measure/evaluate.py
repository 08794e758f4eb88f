"""Scores of a network over many noisy realizations, at one time or over the life of its chips."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, overload

import torch
from torch import Tensor, nn

from ... import _arguments
from ...intervals import student_t
from ...random import fold_in
from ...storage import AnalogModel, CodedModel, StoredModel
from ..checks import check_module
from ..crossbar.adapter import LowRankAdapter
from ..crossbar.convert import at, program
from ..crossbar.layers import CrossbarLayer
from ..inputs import several_passes, split_batch
from ..metrics import Metric, answers, metric_named
from ..modes import evaluating
from ..noise.inject import active_noise
from ..store import load
from ..training.batches import channels_last
from ..training.fit import device_of
from .labels import OfRealTokens, TokenLabels, with_clean_labels
from .results import DriftCurve, Evaluation

__all__ = ["evaluate", "realizations", "without_noise"]

Realization = Callable[[int], AbstractContextManager[None]]


@overload
def evaluate(
    model: nn.Module,
    data: Iterable[Any],
    repeats: int = 100,
    *,
    metric: Metric = "accuracy",
    against: str = "labels",
    times: None = None,
    extrapolate: bool = False,
    seed: int = 0,
    confidence: float = 0.95,
    stored: StoredModel | CodedModel | AnalogModel | None = None,
    prepare: Callable[[nn.Module], Any] | None = None,
) -> Evaluation: ...


@overload
def evaluate(
    model: nn.Module,
    data: Iterable[Any],
    repeats: int = 100,
    *,
    metric: Metric = "accuracy",
    against: str = "labels",
    times: Sequence[float],
    extrapolate: bool = False,
    seed: int = 0,
    confidence: float = 0.95,
    stored: StoredModel | CodedModel | AnalogModel | None = None,
    prepare: Callable[[nn.Module], Any] | None = None,
) -> DriftCurve: ...


def evaluate(
    model: nn.Module,
    data: Iterable[Any],
    repeats: int = 100,
    *,
    metric: Metric = "accuracy",
    against: str = "labels",
    times: Sequence[float] | None = None,
    extrapolate: bool = False,
    seed: int = 0,
    confidence: float = 0.95,
    stored: StoredModel | CodedModel | AnalogModel | None = None,
    prepare: Callable[[nn.Module], Any] | None = None,
) -> Evaluation | DriftCurve:
    """Measure a network on fresh noisy realizations, each one kept for a whole pass.

    The noise is that of the model (:func:`inject_noise`, crossbar layers, which are programmed
    anew and aged as they are now) or what comes of reading ``stored`` weights. Realizations are a
    pure function of ``seed`` and the seed of the noise, none that training uses; what is measured
    at one of ``times`` does not depend on the others. The model and torch's global generators are
    left as they were. Images on the CPU are laid out channels last where the model takes them so:
    the same values, other rounding, less time.

    Parameters
    ----------
    model : torch.nn.Module
        Gives a tensor, or an object with ``logits`` or a ``last_hidden_state`` such as models of
        transformers do.
    data : iterable of (inputs, labels) or of dict
        Batches, passed over once for each realization; what else is in a tuple is ignored. Dicts
        are keyword arguments of the model, and labels. Under torch.distributed every process
        measures the batches that it is given.
    repeats : int
        Realizations, at least 1: chips, or draws of the noise.
    metric : {"accuracy", "mse", "mae", "cosine", "perplexity"} or callable
        Accuracy in percent of logits (n, classes); mean square or absolute error; mean cosine of
        outputs and labels, (n, ...) each; perplexity of tokens, e to their mean cross entropy; or
        ``metric(outputs, labels)`` of a whole pass. Labels of causal language models of
        transformers are the tokens themselves, shifted here; without labels, perplexity takes the
        ``input_ids``.
    against : {"labels", "clean"}
        "clean" takes for labels what the model gives without noise (as digital products of its
        present weights), so data need none, and those that there are do not count. Batches are
        then kept in memory. Of accuracy, the classes that the clean model chooses; of outputs for
        tokens, each that the ``attention_mask`` does not leave out is one to compare.
    times : sequence of float, optional
        Seconds since programming, for a model with crossbar layers: every chip is measured at each.
    extrapolate : bool
        Allow times beyond those at which a device was measured.
    seed : int in [0, 2**64)
    confidence : float
        Of the interval of the mean, in (0, 1).
    stored : StoredModel, CodedModel or AnalogModel, optional
        Read for each realization from another chip and put into the model (:func:`load`).
    prepare : callable, optional
        ``prepare(model)`` is called before each measurement, with the chip as it is then: what is
        to be done to every chip, such as ``lambda model: correct(model, batches)``.

    Returns
    -------
    Evaluation, or with ``times`` a DriftCurve of one for each

    Raises
    ------
    TypeError, ValueError
        If the model has no noise, or some beside ``stored``, or a correction of one chip and no
        ``prepare``; the data give no batch, or only one pass; labels are not what the metric takes;
        or an argument is out of range.
    """
    check_module(model)
    repeats = _arguments.count("repeats", repeats)
    measure = metric_named(metric)
    _arguments.choice("against", against, ("labels", "clean"))
    student_t(confidence, 1)  # checks it
    seed = _arguments.seed("seed", seed)
    extrapolate = _arguments.flag("extrapolate", extrapolate)
    moments = _moments(model, times)
    _check_prepare(model, prepare)
    if metric == "perplexity":
        _arguments.choice("against", against, ("labels",))
    reader = model if against == "labels" else OfRealTokens(model)
    measured: list[list[tuple[float, ...]]] = [[] for _ in moments]
    with realizations(model, stored) as realization:
        first = _first_batch(data)
        with without_noise(model):
            if against == "clean":
                data = with_clean_labels(model, data, classes=metric == "accuracy")
                first = data[0]
            elif metric == "perplexity":
                data = TokenLabels(data)
                first = next(iter(data))
            arrange = _arrangement(model, split_batch("data", first)[0])
        for i in range(repeats):
            key = fold_in(seed, i)
            with realization(key):
                for moment, scores in zip(moments, measured, strict=True):
                    if moment is not None:
                        at(model, moment, extrapolate)
                        torch.default_generator.manual_seed(key)
                    if prepare is not None:
                        prepare(model)
                        torch.default_generator.manual_seed(key)
                    scores.append(measure.of(answers(reader, data, arrange)))
    found = [
        Evaluation(*_columns(scores), confidence, measure.name, moment)
        for moment, scores in zip(moments, measured, strict=True)
    ]
    return found[0] if times is None else DriftCurve(tuple(found))


def _moments(model: nn.Module, times: Any) -> list[float | None]:
    """The times to measure at; None for the present state."""
    if times is None:
        return [None]
    if isinstance(times, (str, bytes)) or not isinstance(times, Iterable):
        raise _arguments.wrong_type("times", "a sequence of seconds", times)
    found: list[float | None] = [_arguments.number("times", t, 0) for t in times]
    if not found:
        raise _arguments.wrong_value("times", "at least one", "none")
    if not any(isinstance(module, CrossbarLayer) for module in model.modules()):
        raise _arguments.wrong_value(
            "times",
            "a model with crossbar layers (convert), whose chips age",
            "one without",
        )
    return found


def _check_prepare(model: nn.Module, prepare: Any) -> None:
    """Callable or None; a correction is one of a chip that none of the measured ones is."""
    if prepare is not None:
        if not callable(prepare):
            raise _arguments.wrong_type("prepare", "a callable that takes the model", prepare)
        return
    adapters = [m for m in model.modules() if isinstance(m, LowRankAdapter)]
    if any(adapter.of_chip for adapter in adapters):
        raise _arguments.wrong_value(
            "prepare",
            "what corrects each chip, such as lambda model: correct(model, batches), for a model "
            "with a correction of its own chip",
            "None",
        )


def _columns(scores: list[tuple[float, ...]]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Scores, and losses where there are any."""
    first, *losses = zip(*scores, strict=True)
    return first, losses[0] if losses else ()


def _first_batch(data: Iterable[Any]) -> Any:
    if isinstance(data, Tensor) or not isinstance(data, Iterable):
        raise _arguments.wrong_type("data", "an iterable of batches", data)
    several_passes("data", data)
    first = next(iter(data), None)
    if first is None:
        raise _arguments.wrong_value("data", "at least one batch", "none")
    return first


@contextmanager
def realizations(
    model: nn.Module, stored: StoredModel | CodedModel | AnalogModel | None = None
) -> Iterator[Realization]:
    """Gives a function: within ``with realization(seed):`` the model has one draw of its noise.

    Meanwhile the model is in ``eval()`` and without gradients; afterwards it is as it was.

    Parameters
    ----------
    model : torch.nn.Module
    stored : StoredModel, CodedModel or AnalogModel, optional
        As for :func:`evaluate`.

    Raises
    ------
    ValueError
        If there is no noise, or some of the model beside ``stored``.
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
            layer.forward = _digital(layer)  # type: ignore[method-assign]
            stack.callback(delattr, layer, "forward")
        yield


def _digital(layer: CrossbarLayer) -> Callable[..., Tensor]:
    """Its product without noise; LSTMs call their layers with keys, which are not used."""
    return lambda x, key=None: layer.digital(x)


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
