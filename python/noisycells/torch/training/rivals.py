"""Cheap ways to robustness, to compare training under noise with.

Weight clipping alone needs no function of its own beyond :func:`clip_weights`: training with
``inject_noise(model, eta=0, clip=k)`` keeps the weights clipped and adds nothing to them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from ... import _arguments
from ..checks import Filter, check_module
from ..modes import evaluating
from ..noise.effective import weights_of
from ..noise.inject import active_noise
from .fit import Loader, device_of

__all__ = [
    "clip_weights",
    "consistency_loss",
    "feature_consistency_loss",
    "recalibrate_batchnorm",
]


def recalibrate_batchnorm(model: nn.Module, loader: Loader, passes: int = 1) -> nn.Module:
    """Measure the statistics of batch normalization again under the model's noise, in place.

    Means and variances become the averages, all batches alike, of what the batches have under
    whatever noise the model has: fresh draws for each batch with :func:`inject_noise`, the chip
    as it is with crossbar layers that are programmed. No weight changes, and everything but these
    layers is in ``eval()`` meanwhile. The average is over variances within a batch, so the
    scatter of means from draw to draw is not in it.

    Parameters
    ----------
    model : torch.nn.Module
    loader : iterable of tuple of Tensor
        Batches of training images, the images first; labels are not used.
    passes : int
        Passes over ``loader``, at least 1.

    Returns
    -------
    torch.nn.Module
        ``model``.

    Raises
    ------
    ValueError
        If no layer keeps such statistics, ``passes`` is below 1, or there is no batch; the model is
        then left as it was.

    References
    ----------
    L.-H. Tsai, S.-C. Chang, Y.-T. Chen, J.-Y. Pan, W. Wei, D.-C. Juan, "Robust
    processing-in-memory neural networks via noise-aware normalization", arXiv:2007.03230 (2020).
    """
    check_module(model)
    layers = _with_statistics(model)
    if not layers:
        raise _arguments.wrong_value("model", "batch normalization with running statistics", "none")
    passes = _arguments.count("passes", passes)
    device = device_of(model)
    with evaluating(model), torch.no_grad(), _measuring(layers):
        batches = 0
        for _ in range(passes):
            for images, *_ in loader:
                model(images.to(device))
                batches += 1
        if not batches:
            raise _arguments.wrong_value("loader", "at least one batch", "none")
    return model


def _with_statistics(model: nn.Module) -> list[_BatchNorm]:
    return [
        module
        for module in model.modules()
        if isinstance(module, _BatchNorm) and module.track_running_stats
    ]


@contextmanager
def _measuring(layers: list[_BatchNorm]) -> Iterator[None]:
    """Cumulative averages from nothing; the former statistics come back if that fails."""
    momenta = [layer.momentum for layer in layers]
    before = _copies(layers)
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None
        layer.training = True
    try:
        yield
    except BaseException:
        _put_back(before)
        raise
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum


def _copies(layers: list[_BatchNorm]) -> list[tuple[Tensor, Tensor]]:
    return [(buffer, buffer.clone()) for layer in layers for buffer in layer.buffers()]


def _put_back(before: list[tuple[Tensor, Tensor]]) -> None:
    for buffer, copy in before:
        buffer.copy_(copy)


@torch.no_grad()
def clip_weights(model: nn.Module, k: float, filter_fn: Filter | None = None) -> nn.Module:
    """Clip each weight tensor to ``k`` of its standard deviations about 0, once and in place.

    Fewer outliers let a range of conductances be used better (V. Joshi et al., "Accurate deep
    neural network inference using computational phase-change memory", 2020).

    Parameters
    ----------
    model : torch.nn.Module
    k : float
        Positive.
    filter_fn : callable, optional
        Parameters for which ``filter_fn(module, name)`` is false are left alone, besides those
        that :func:`inject_noise` leaves clean.

    Returns
    -------
    torch.nn.Module
        ``model``.

    Raises
    ------
    ValueError
        If ``k`` is not positive or nothing is to be clipped.
    """
    check_module(model)
    k = _arguments.number("k", k, above=0)
    for slots in weights_of(model, filter_fn).values():
        weight = slots[0].parameter
        bound = k * float(weight.float().std(correction=0))
        weight.clamp_(-bound, bound)
    return model


def consistency_loss(
    logits: Tensor, logits2: Tensor, labels: Tensor, weight: float = 1.0
) -> Tensor:
    """Cross entropy of two forwards of the same images, and how far they are apart.

    ``(CE(p) + CE(q)) / 2 + weight (KL(p || q) + KL(q || p)) / 2``, means over the images, with p
    and q the softmax outputs under two draws of the noise; for :func:`fit`::

        loss=lambda model, x, y: nct.consistency_loss(model(x), model(x), y)

    The regularization of X. Liang et al., "R-Drop: regularized dropout for neural networks"
    (2021), with noise in place of dropout. For that of features see
    :func:`feature_consistency_loss`.

    Parameters
    ----------
    logits, logits2 : Tensor, shape (n, classes)
    labels : Tensor of int64, shape (n,)
    weight : float
        At least 0.

    Returns
    -------
    Tensor
        A scalar, in nats.

    Raises
    ------
    ValueError
        If the shapes of the logits differ or ``weight`` is negative.
    """
    if logits.shape != logits2.shape:
        raise _arguments.wrong_value(
            "logits2", f"shape {tuple(logits.shape)}", tuple(logits2.shape)
        )
    weight = _arguments.number("weight", weight, 0)
    log_p, log_q = logits.log_softmax(1), logits2.log_softmax(1)
    apart = ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(1).mean()
    classification = F.nll_loss(log_p, labels) + F.nll_loss(log_q, labels)
    return classification / 2 + weight * apart / 2


def feature_consistency_loss(
    model: nn.Module, images: Tensor, labels: Tensor, weight: float = 1.0
) -> Tensor:
    """Cross entropy under noise, and how far the layers' outputs are from those without noise.

    ``CE + weight mean_l(|f_l - f0_l|^2 / |f0_l|^2)``, with f_l what a layer with weights gives for
    the batch and f0_l the same of the noise-free network as it is now, a constant; for
    :func:`fit`::

        loss=nct.feature_consistency_loss

    After Hou et al. (2024), who draw the features of intermediate layers to those of the
    noise-free network; which features and which distance is not in the text within our reach, so
    these are ours. Batch normalization keeps the statistics of the noisy forward alone.

    Parameters
    ----------
    model : torch.nn.Module
        With noise (:func:`inject_noise`).
    images : Tensor, shape (n, ...)
    labels : Tensor of int64, shape (n,)
    weight : float
        At least 0.

    Returns
    -------
    Tensor
        A scalar; cross entropy in nats.

    Raises
    ------
    ValueError
        If the model has no noise or ``weight`` is negative.

    References
    ----------
    Y. Hou, Q. Zhang, N. Wang, H. Wu, "Improving model robustness to weight noise via consistency
    regularization", Machine Learning: Science and Technology 5 (2024),
    https://doi.org/10.1088/2632-2153/ad734a.
    """
    check_module(model)
    noise = active_noise(model)
    if noise is None:
        raise _arguments.wrong_value("model", "one with noise (inject_noise)", "one without")
    weight = _arguments.number("weight", weight, 0)
    layers = {slot.module: None for slots in weights_of(model).values() for slot in slots}
    with torch.no_grad(), noise.pause(), _outputs(layers) as clean:
        before = _copies(_with_statistics(model))
        model(images)
        _put_back(before)
    with _outputs(layers) as noisy:
        loss = F.cross_entropy(model(images), labels)
    terms = [
        (f - f0).square().sum() / f0.square().sum() for f, f0 in zip(noisy, clean, strict=True)
    ]
    return loss + weight * torch.stack(terms).mean()


@contextmanager
def _outputs(layers: Iterable[nn.Module]) -> Iterator[list[Tensor]]:
    """Collects the tensors that the layers give, in the order of their calls."""
    found: list[Tensor] = []

    def keep(layer: nn.Module, arguments: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            found.append(output)

    hooks = [layer.register_forward_hook(keep) for layer in layers]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()
