"""Converter ranges from example data: :func:`calibrate`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ... import _arguments
from ...crossbar.calibration import check_quantile
from ..checks import check_module
from ..inputs import call, each_batch, inputs_of, moved
from ..modes import evaluating
from .layers import CrossbarLayer
from .selection import required

__all__ = ["Watcher", "calibrate", "watch"]


def calibrate(
    model: nn.Module, batches: Any, quantile: float | str = 1.0, vectors: int = 4096
) -> nn.Module:
    """Set the converter ranges that specs leave to calibration, from example data.

    The data runs through the model in ``eval()`` with digital products, one batch at a time. Of
    the inputs of each layer, evenly spaced ones are looked at.

    Parameters
    ----------
    model : torch.nn.Module
    batches : Tensor, mapping or iterable
        Inputs of the model: one tensor or dict; or batches of them, such as a ``DataLoader``. A
        batch is a tensor, a dict of arguments, or a tuple whose first entries are the arguments
        that the model must have; labels behind them are not used.
    quantile : float or "error"
        Of the magnitudes that a range covers, in (0, 1]; "error" takes the ranges with the least
        square error of the product.
    vectors : int
        Input vectors (of a convolution: patches) of each layer to look at, at most; at least
        half of them where there are as many.

    Returns
    -------
    torch.nn.Module
        ``model``.

    Raises
    ------
    TypeError, ValueError
        If the model has no crossbar layers, none with a range to calibrate, a layer saw no data, or
        an argument is not as said above; the ranges are then as they were.
    """
    check_module(model)
    layers = required(model)
    vectors = _arguments.count("vectors", vectors)
    quantile = check_quantile(quantile)
    if not any("calibrated" in (x.spec.dac_range, x.spec.adc_range) for x in layers.values()):
        raise _arguments.wrong_value("model", "layers of which a range is 'calibrated'", "none")
    samples = {layer: _Sample(vectors) for layer in layers.values()}
    watch(model, batches, samples)
    for name, layer in layers.items():
        if not samples[layer].seen:
            raise _arguments.wrong_value("batches", f"data that reaches {name!r}", "none")
    before = {layer: layer.chip_state() for layer in samples}
    try:
        for layer, sample in samples.items():
            layer.calibrate(list(sample.vectors()), quantile)
    except BaseException:
        for layer, state in before.items():
            layer.put_back(state)
        raise
    return model


class _Sample:
    """Evenly spaced input vectors of a layer, of a stream whose length is not known.

    Every ``stride``-th is kept; when there are too many, every other one goes and the stride
    doubles.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.stride = 1
        self.seen = 0
        self._kept: list[Tensor] = []  # (groups, vectors, in) each

    def add(self, rows: Tensor) -> None:
        """``rows``: (groups, vectors, in)."""
        self._kept.append(rows[:, -self.seen % self.stride :: self.stride].clone())
        self.seen += rows.shape[1]
        while -(-self.seen // self.stride) > self.size:
            self._kept = [self.vectors()[:, ::2].clone()]
            self.stride *= 2

    def vectors(self) -> Tensor:
        """What is kept, (groups, vectors, in)."""
        return torch.cat(self._kept, 1)


class Watcher(Protocol):
    """What is shown the input vectors of a layer, (groups, vectors, in) at a time."""

    def add(self, rows: Tensor) -> None:
        """``rows``: more of them."""


@torch.no_grad()
def watch(model: nn.Module, batches: Any, watchers: Mapping[CrossbarLayer, Watcher]) -> None:
    """Run data through a model with digital products, and show layers' inputs to ``watchers``."""
    with evaluating(model), _recording(watchers):
        for batch in each_batch("batches", batches):
            inputs = inputs_of("batches", model, batch)
            call(model, moved(inputs, next(iter(watchers)).weight.device))


@contextmanager
def _recording(watchers: Mapping[CrossbarLayer, Watcher]) -> Iterator[None]:
    """Digital products, whose inputs are shown."""

    def recorder(layer: CrossbarLayer) -> Callable[..., Tensor]:
        def forward(x: Tensor, key: Tensor | None = None) -> Tensor:
            for part in layer.examples(x):
                watchers[layer].add(part)
            return layer.digital(x)

        return forward

    for layer in watchers:
        layer.forward = recorder(layer)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in watchers:
            del layer.forward
