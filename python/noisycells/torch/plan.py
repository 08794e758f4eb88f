"""Choose how to store a model: by cells, by expected loss, or by what literal reads measure."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from .. import _arguments
from ..devices import CellLike
from ..random import fold_in
from ..storage.planning.ladders import Ladder, Setting
from ..storage.planning.plan import Plan, below, fewest, most, search
from ..storage.planning.samples import samples_of
from .checks import check_module
from .metrics import LOWER_IS_BETTER, Metric, answers, metric_named
from .modes import evaluating
from .store import Masks, Numbers, load, store, to_store

__all__ = ["plan"]


def plan(
    model: nn.Module,
    cell: CellLike,
    *,
    budget: float | None = None,
    max_loss: float | None = None,
    max_drop: float | None = None,
    data: Iterable[Any] | None = None,
    metric: Metric = "accuracy",
    repeats: int = 3,
    seed: int = 0,
    mode: str | None = None,
    mask: Masks = None,
    sensitivity: Numbers = None,
    moments: Numbers = None,
    store_biases: bool = False,
    noise_margin: float = 1.1,
    progress: Callable[[str], None] | None = None,
) -> Plan:
    """Choose in each mode how to store a model, and say what that takes and loses.

    As :func:`noisycells.storage.plan`, for the weights that :func:`store` puts into cells. With
    ``max_drop``, settings are stored and read literally, and measured on ``data``; each mode's
    fewest cells are found by bisection. Give data for validation, never those that the result will
    be reported on.

    Parameters
    ----------
    model : torch.nn.Module
        Left as it was.
    cell : Channel, Device, str or path-like
    budget, max_loss : float, optional
        As for :func:`noisycells.storage.plan`.
    max_drop : float, optional
        By how much the metric may be worse than the model's own, at most. One of the three has to
        be given.
    data : iterable of batches, optional
        As for :func:`evaluate`; needed for ``max_drop``. With another target what was chosen is
        measured on it.
    metric : str or callable
        As for :func:`evaluate`. Of a callable, more is better.
    repeats : int
        Reads of different chips whose mean is measured; one in mode coded, where all are the same.
    seed : int
        Of these reads.
    mode, noise_margin, progress
        As for :func:`noisycells.storage.plan`.
    mask, sensitivity, moments, store_biases
        As for :func:`store`.

    Returns
    -------
    Plan
        ``nct.store(model, plan.best.codec, overrides=plan.best.overrides, ...)``, with the same
        mask and with the moments where ``plan.best.feedback``, stores as planned.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.
    """
    check_module(model)
    reader = None if data is None else _Reader(model, data, metric, repeats, seed)
    targets = {"budget": budget, "max_loss": max_loss, "max_drop": max_drop}
    given = {name: value for name, value in targets.items() if value is not None}
    if len(given) != 1:
        raise _arguments.wrong_value(
            ", ".join(targets), "one of the three", ", ".join(given) or "none"
        )
    ((asked, limit),) = given.items()
    limit = _arguments.number(asked, limit, above=0)
    if max_drop is not None and data is None:
        raise _arguments.wrong_value("data", "validation batches, for max_drop", "none")
    samples = samples_of(**to_store(model, store_biases, mask, sensitivity, moments))

    def drop(setting: Setting) -> Setting:
        if setting.drop is None and reader is not None:
            codec: Any = setting.codec
            stored = store(
                model,
                codec,
                mask=mask,
                sensitivity=sensitivity if setting.mode == "paper" else None,
                moments=moments if setting.feedback else None,
                overrides=setting.overrides or None,
                store_biases=store_biases,
            )
            setting.drop = reader.drop(stored, setting.mode)
        return setting

    def choose(ladder: Ladder) -> Setting:
        if budget is not None:
            return drop(most(ladder, limit))
        if max_loss is not None:
            return drop(below(ladder, limit))
        return fewest(
            ladder,
            lambda setting: (drop(setting).drop or 0.0) <= limit,
            lambda setting: f"drops by {setting.drop:.3g} at least",
        )

    return search(samples, cell, choose, asked, limit, mode, noise_margin, progress)


class _Reader:
    """Reads stored models into a copy of a model and measures them."""

    def __init__(
        self, model: nn.Module, data: Iterable[Any], metric: Metric, repeats: int, seed: int
    ) -> None:
        self._copy, self._data = copy.deepcopy(model), data
        self._measure = metric_named(metric)
        self._sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
        self._repeats = _arguments.count("repeats", repeats)
        self._seed = _arguments.seed("seed", seed)
        self._before = self._score()

    def _score(self) -> float:
        with evaluating(self._copy), torch.no_grad():
            return self._sign * self._measure.of(answers(self._copy, self._data))[0]

    def drop(self, stored: Any, mode: str) -> float:
        """By how much the metric is worse, in the mean over chips."""
        total = 0.0
        repeats = 1 if mode == "coded" else self._repeats
        for repeat in range(repeats):
            key = fold_in(self._seed, repeat)
            load(stored, self._copy, key, chip=key, side_errors=mode == "paper")
            total += self._before - self._score()
        return total / repeats
