"""Second moments of the inputs of a model's layers: how errors of weights act together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ... import _arguments
from ..checks import check_filter, check_module
from ..crossbar.patches import Geometry, patches
from ..inputs import call, each_batch, inputs_of, moved
from ..modes import evaluating
from ..training.fit import device_of

__all__ = ["input_moments", "token_frequencies"]

DENSE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
ELEMENTS = 1 << 24  # of the patches of a convolution at a time
ROWS = 1 << 14  # of which products are summed in float32

Kinds = tuple[type[nn.Module], ...]


UNSEEN = 0.2
"""Share of lookups that may be of any row."""


def input_moments(
    model: nn.Module,
    batches: Any,
    *,
    filter_fn: Callable[[nn.Module, str], bool] | None = None,
    unseen: float = UNSEEN,
) -> dict[str, npt.NDArray[np.float64]]:
    """Mean products of the inputs of each layer, H = E[x x^T], by the name of its weight.

    Errors E of the rows of a weight, flattened from its second dimension on, move the layer's
    outputs by a mean square of sum_r E_r H E_r^T. The data runs through the model in ``eval()``,
    one batch at a time; of no batch anything is kept but these sums.

    Of a linear layer x is the input vector; of a convolution a patch, in the order of
    ``weight.flatten(1)``, and with groups H is the mean over these. Of an embedding x has a one
    where the token is, H is diagonal, and the diagonal is given: how often each row is looked up,
    as a share (:func:`token_frequencies`), of which ``unseen`` is dealt out to all rows alike, for
    batches lack most tokens. An embedding whose weight is another layer's too is left out. Padded
    tokens count like others: give batches without.

    Parameters
    ----------
    model : torch.nn.Module
        Left as it was.
    batches : Tensor, mapping or iterable
        Inputs of the model: one tensor or dict; or batches of them, such as a ``DataLoader``, with
        labels or without.
    filter_fn : callable, optional
        ``filter_fn(module, name)``: False for layers to leave out.
    unseen : float
        In (0, 1]: the more, the less rare rows are trusted to be rare.

    Returns
    -------
    dict of str to ndarray of float64, shape (inputs, inputs), of embeddings (num_embeddings,)
        A layer used several times has the mean over all uses; one that is never used is left out.

    Raises
    ------
    TypeError, ValueError
        If no such layer saw data, or one not finite ones; or ``unseen`` is out of range.
    """
    unseen = _arguments.number("unseen", unseen, above=0, most=1)
    check_module(model)
    check_filter(filter_fn)
    uses = Counter(id(getattr(module, "weight", None)) for module in model.modules())

    def wanted(module: nn.Module, name: str) -> bool:
        tied = isinstance(module, nn.Embedding) and uses[id(module.weight)] > 1
        return not tied and (filter_fn is None or filter_fn(module, name))

    found = _means(model, batches, (*DENSE, nn.Embedding), wanted)
    for name, moments in found.items():
        if moments.ndim == 1:
            found[name] = (1 - unseen) * moments + unseen / len(moments)
    return found


def token_frequencies(model: nn.Module, batches: Any) -> dict[str, npt.NDArray[np.float64]]:
    """How often each row of an embedding is looked up, as a share, by the name of its weight.

    The second moments of the embedding's input, which has a one where the token is: they are
    diagonal, and this is the diagonal. Errors E of the rows move the outputs by a mean square of
    sum_t p_t |E_t|^2.

    Parameters
    ----------
    model, batches
        As for :func:`input_moments`.

    Returns
    -------
    dict of str to ndarray of float64, shape (num_embeddings,)

    Raises
    ------
    TypeError, ValueError
        If no embedding saw data.
    """
    return _means(model, batches, (nn.Embedding,), None)


def _means(
    model: nn.Module,
    batches: Any,
    kinds: Kinds,
    filter_fn: Callable[[nn.Module, str], bool] | None,
) -> dict[str, npt.NDArray[np.float64]]:
    check_module(model)
    check_filter(filter_fn)
    sums: dict[nn.Module, _Sum] = {
        module: _Sum(f"{name}.weight".removeprefix("."))
        for name, module in model.named_modules()
        if isinstance(module, kinds) and (filter_fn is None or filter_fn(module, name))
    }
    device = device_of(model)
    with evaluating(model), torch.no_grad(), _watching(sums):
        for batch in each_batch("batches", batches):
            call(model, moved(inputs_of("batches", model, batch), device))
    found = {total.name: total.mean() for total in sums.values() if total.count}
    if not found:
        what = " or ".join(kind.__name__ for kind in kinds)
        raise _arguments.wrong_value("batches", f"data that reaches a layer ({what})", "none")
    return found


class _Sum:
    """The sum of the products of a layer's inputs."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.count = 0
        self.total: Tensor | None = None

    def add(self, products: Tensor, count: int) -> None:
        """Of so many vectors."""
        if self.total is None:
            self.total = products.double()
        else:
            self.total += products  # in place: it may be large, and batches many
        self.count += count

    def mean(self) -> npt.NDArray[np.float64]:
        """Over all vectors."""
        assert self.total is not None
        found: npt.NDArray[np.float64] = (self.total / self.count).numpy(force=True)
        if found.ndim == 2:
            found = (found + found.T) / 2  # sums of the same products may differ in the last bits
        if not np.isfinite(found).all():
            raise _arguments.wrong_value(
                "batches", f"finite inputs of {self.name!r}", "NaN or infinity"
            )
        return found


@contextmanager
def _watching(sums: dict[nn.Module, _Sum]) -> Iterator[None]:
    def look(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        _add(module, inputs[0].detach(), sums[module])

    handles = [module.register_forward_pre_hook(look) for module in sums]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _add(module: nn.Module, x: Tensor, total: _Sum) -> None:
    """Add the products of the inputs of one call."""
    if x.numel() == 0:
        return
    if isinstance(module, nn.Embedding):
        total.add(torch.bincount(x.flatten(), minlength=module.num_embeddings), x.numel())
        return
    if isinstance(module, nn.Linear):
        _add_rows(x.float().reshape(-1, x.shape[-1]), total)
        return
    assert isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d))
    if x.ndim == len(module.kernel_size) + 1:
        x = x[None]
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    around = F.pad(x.float(), module._reversed_padding_repeated_twice, mode=mode)
    none = (0,) * len(module.kernel_size)
    geometry = Geometry(module.kernel_size, module.stride, none, module.dilation)
    height = around[0].numel() * geometry.taps
    for part in around.split(max(1, ELEMENTS // max(1, height))):
        for group in part.chunk(module.groups, 1):
            _add_rows(patches(group, geometry), total)


def _add_rows(rows: Tensor, total: _Sum) -> None:
    """So many at a time that sums in float32 lose nothing that matters."""
    for part in rows.split(ROWS):
        total.add(part.T @ part, len(part))
