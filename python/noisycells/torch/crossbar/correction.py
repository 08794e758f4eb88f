"""What one chip gets wrong, undone digitally from its answers to example data: :func:`correct`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ... import _arguments
from ..checks import check_module
from ..inputs import call, each_batch, inputs_of, mask_of, moved
from ..modes import evaluating
from .adapter import LowRankAdapter
from .layers import CrossbarLayer
from .selection import required

__all__ = ["correct"]

PENALTIES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
"""Of the ridge regression, in units of the mean variance of the inputs: those that are tried."""
HELD_OUT = 5  # one part of so many of the vectors is not fitted but chooses the penalty


@torch.inference_mode(False)  # whose tensors could not take part in gradients later
@torch.no_grad()
def correct(model: nn.Module, batches: Any, rank: int = 8) -> nn.Module:
    """Undo digitally what a programmed chip gets wrong, as it is now, without training.

    The data run through the chip once. Each layer gets a :class:`LowRankAdapter`, which adds
    ``U V x + c`` to its products: of all of this rank that one for which the mean square error of
    the layer's outputs is least, against the digital product of the same inputs (reduced-rank
    ridge regression: of the least-squares solution the leading directions of its fitted values;
    Izenman, J. Multivariate Anal. 1975). The penalty is chosen on a fifth of the vectors, the last
    of each batch, which are not fitted; where no correction does better on these, there is none.
    Rank 0 gives offsets alone: means of outputs are estimated anew. Vectors of tokens that an
    ``attention_mask`` leaves out do not count.

    Noise of reads cannot be corrected, errors of programming and drift can. After drift, call it
    again; another chip (:func:`program`) is without it. To measure it over chips::

        nct.evaluate(model, data, times=[1, 86400], prepare=lambda m: nct.correct(m, batches))

    Parameters
    ----------
    model : torch.nn.Module
        Converted and programmed. The parameters that it had do not change.
    batches
        As for :func:`calibrate`; some times as many vectors for each layer as it has inputs.
    rank : int
        At least 0; larger than a layer's inputs and outputs: all directions.

    Returns
    -------
    torch.nn.Module
        ``model``.

    Raises
    ------
    RuntimeError
        If a layer is not programmed.
    TypeError, ValueError
        If the model has no crossbar layers, no or not finite data reach one, or an argument is
        not as said above; the layers are then as they were.
    """
    check_module(model)
    layers = required(model)
    rank = _arguments.count("rank", rank, 0)
    for name, layer in layers.items():
        if layer.chip_seed is None:
            raise _arguments.wrong_state(
                "correct", "a programmed chip", f"none; call program(seed) on {name!r} first"
            )
    before = {layer: layer.adapter for layer in layers.values()}
    moments = {layer: _Moments() for layer in before}
    try:
        for layer in before:
            layer.set_adapter(None)
        _watch_errors(model, batches, moments)
        found = {layer: _adapter(name, layer, moments[layer], rank) for name, layer in
                 layers.items()}  # fmt: skip
    except BaseException:
        for layer, adapter in before.items():
            layer.set_adapter(adapter)
        raise
    for layer, adapter in found.items():
        layer.set_adapter(adapter)
    return model


# --------------------------------------------------------------------------- errors of a chip


class _Sums:
    """Sums over vectors x and errors e of each group, float64."""

    def __init__(self) -> None:
        self.count = 0
        self.x: Any = 0.0  # (groups, in)
        self.e: Any = 0.0  # (groups, out)
        self.xx: Any = 0.0  # (groups, in, in)
        self.xe: Any = 0.0  # (groups, in, out)
        self.ee: Any = 0.0  # (groups,)

    def add(self, x: Tensor, e: Tensor) -> None:
        """``x``: (groups, vectors, in), ``e``: (groups, vectors, out), float32."""
        self.count += x.shape[1]
        self.x = self.x + x.sum(1, dtype=torch.float64)
        self.e = self.e + e.sum(1, dtype=torch.float64)
        self.xx = self.xx + (x.mT @ x).double()
        self.xe = self.xe + (x.mT @ e).double()
        self.ee = self.ee + e.square().sum((1, 2), dtype=torch.float64)


class _Moments:
    """Of the vectors to fit and of those held out, the last fifth of what comes together.

    About a point near the mean of the inputs, the first ones' mean, so that differences of sums
    in float32 are exact enough.
    """

    def __init__(self) -> None:
        self.fitted, self.held_out = _Sums(), _Sums()
        self.about: Any = None  # (groups, in)

    def add(self, x: Tensor, e: Tensor) -> None:
        """As for :meth:`_Sums.add`."""
        if self.about is None:
            self.about = x.mean(1)
        x = x - self.about[:, None]
        first = x.shape[1] - x.shape[1] // HELD_OUT
        self.fitted.add(x[:, :first], e[:, :first])
        self.held_out.add(x[:, first:], e[:, first:])


def _watch_errors(model: nn.Module, batches: Any, moments: Mapping[CrossbarLayer, Any]) -> None:
    """Run data through the chip, and collect what digital products of the same inputs add."""
    device = next(iter(moments)).weight.device
    masks: list[Tensor | None] = [None]
    with evaluating(model), _recording(moments, masks):
        for batch in each_batch("batches", batches):
            inputs = moved(inputs_of("batches", model, batch), device)
            mask = mask_of(inputs)
            masks[0] = None if mask is None else mask != 0
            call(model, inputs)


@contextmanager
def _recording(moments: Mapping[CrossbarLayer, Any], masks: list[Tensor | None]) -> Iterator[None]:
    def recorder(layer: CrossbarLayer) -> Callable[..., Tensor]:
        def forward(x: Tensor, key: Tensor | None = None) -> Tensor:
            y = type(layer).forward(layer, x, key)
            error, mask = layer.digital(x) - y, masks[0]
            if mask is not None and layer.geometry() is None and x.shape[:-1] == mask.shape:
                x, error = x[mask], error[mask]
            for vectors, rows in zip(layer.examples(x), _rows(layer, error), strict=True):
                moments[layer].add(vectors.float(), rows.float())
            return y

        return forward

    with ExitStack() as stack:
        for layer in moments:
            layer.forward = recorder(layer)  # type: ignore[method-assign]
            stack.callback(delattr, layer, "forward")
        yield


def _rows(layer: CrossbarLayer, y: Tensor) -> Iterator[Tensor]:
    """Outputs as (groups, vectors, out), in the order of :meth:`CrossbarLayer.examples`."""
    geometry = layer.geometry()
    if geometry is None:
        yield y.reshape(1, -1, y.shape[-1])
        return
    batch = y if y.ndim == 2 + len(geometry.kernel) else y.unsqueeze(0)
    for image in batch:
        yield image.flatten(1).reshape(layer.arrays, -1, image[0].numel()).mT


# --------------------------------------------------------------------------- regression


class _Solution(NamedTuple):
    """Of one group: e is close to ``up @ down @ x + offset``, x from where moments are about."""

    down: Tensor  # (rank, in)
    up: Tensor  # (out, rank)
    offset: Tensor  # (out,)


def _adapter(name: str, layer: CrossbarLayer, moments: _Moments, rank: int) -> LowRankAdapter:
    if not moments.fitted.count:
        raise _arguments.wrong_value("batches", f"data that reaches {name!r}", "none")
    if not (moments.fitted.ee.isfinite().all() and moments.fitted.xx.isfinite().all()):
        right = f"inputs of {name!r} whose squares float32 holds"
        raise _arguments.wrong_value("batches", right, "others")
    adapter = LowRankAdapter(layer, rank, of_chip=True)
    rank = adapter.up.shape[1]
    found = [_solved(moments, group, rank) for group in range(layer.arrays)]
    adapter.down.copy_(torch.cat([one.down for one in found]).reshape(adapter.down.shape))
    adapter.up.copy_(torch.cat([one.up for one in found]))
    adapter.offset.copy_(torch.cat([one.offset for one in found]))
    return adapter


def _solved(moments: _Moments, group: int, rank: int) -> _Solution:
    """The solution that is best on the vectors held out."""
    held_out = moments.held_out
    sums = moments.fitted
    inputs, outputs = sums.xe[group].shape
    blank = sums.xx.new_zeros
    none = _Solution(blank(rank, inputs), blank(outputs, rank), blank(outputs))
    offset = none._replace(offset=sums.e[group] / sums.count)
    tried = [none, offset]
    if rank and sums.xx[group].any():
        found = (_regression(sums, group, rank, penalty) for penalty in PENALTIES)
        tried += [one for one in found if one is not None]
    if not held_out.count:
        return tried[1]
    best = min(tried, key=lambda one: _squared_error(held_out, group, one))
    about = moments.about[group].to(best.down)
    return best._replace(offset=best.offset - best.up @ (best.down @ about))


def _regression(sums: _Sums, group: int, rank: int, penalty: float) -> _Solution | None:
    """Reduced-rank ridge regression; None where rounding is more than the penalty.

    The offset is not penalized.
    """
    mean, error = sums.x[group] / sums.count, sums.e[group] / sums.count
    covariance = sums.xx[group] / sums.count - torch.outer(mean, mean)
    products = sums.xe[group] / sums.count - torch.outer(mean, error)
    covariance.diagonal().add_(penalty * covariance.diagonal().mean())
    root, failed = torch.linalg.cholesky_ex(covariance)
    if failed:
        return None
    fitted = torch.linalg.solve_triangular(root, products, upper=False)  # of uncorrelated inputs
    if len(fitted) < fitted.shape[1]:
        leading = torch.linalg.eigh(fitted @ fitted.T)[1][:, -rank:]
        up, down = fitted.T @ leading, leading
    else:
        up = torch.linalg.eigh(fitted.T @ fitted)[1][:, -rank:]
        down = fitted @ up
    down = torch.linalg.solve_triangular(root.T, down, upper=True).T
    return _Solution(down, up, error - up @ (down @ mean))


def _squared_error(sums: _Sums, group: int, one: _Solution) -> float:
    """Sum over vectors and outputs of (e - up down x - offset)^2."""
    x, e = sums.x[group], sums.e[group]
    within = one.down @ sums.xx[group] @ one.down.T
    through = one.down @ (sums.xe[group] - torch.outer(x, one.offset))
    total = sums.ee[group] - 2 * e @ one.offset + sums.count * one.offset.square().sum()
    total = total - 2 * (through * one.up.T).sum() + (one.up @ within * one.up).sum()
    return float(total)
