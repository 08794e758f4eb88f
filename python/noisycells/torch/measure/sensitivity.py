"""How much errors of each weight matter: the diagonal of the Fisher information."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ... import _arguments
from ..checks import check_module
from ..inputs import logits_of
from ..modes import evaluating
from ..training.fit import device_of

__all__ = ["sensitivity"]

BATCH = 25  # images whose gradients are held at a time


def sensitivity(
    model: nn.Module, images: npt.NDArray[np.float32] | Tensor, *, seed: int = 0
) -> dict[str, npt.NDArray[np.float32]]:
    """Diagonal of the Fisher information of a classifier's parameters.

    h_i = E_x E_{y ~ p(y|x)} (d log p(y|x) / d w_i)^2, over the images and a class drawn for each.
    Small independent errors e_i of the weights move the outputs by a Kullback-Leibler divergence
    of sum h_i e_i^2 / 2, in nats (S. Amari, "Natural gradient works efficiently in learning",
    1998, section 2).

    Parameters
    ----------
    model : torch.nn.Module
        Gives logits of shape (n, classes); in ``eval()`` meanwhile, and left as it was.
    images : ndarray of float32 or Tensor, shape (n, ...)
        Normalized as for training; at least one.
    seed : int
        Of the classes drawn.

    Returns
    -------
    dict of str to ndarray of float32
        By parameter name, in its shape.

    Raises
    ------
    ValueError
        If there is no image.
    """
    check_module(model)
    seed = _arguments.seed("seed", seed)
    if len(images) == 0:
        raise _arguments.wrong_value("images", "at least one", "none")
    device = device_of(model)
    parameters = {name: value.detach() for name, value in model.named_parameters()}
    buffers = dict(model.named_buffers())

    def loss(parameters: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        output = torch.func.functional_call(model, (parameters, buffers), (image[None],))
        logits = logits_of(output)
        return F.cross_entropy(logits, label[None])

    gradients = torch.func.vmap(torch.func.grad(loss), (None, 0, 0))
    found = {name: torch.zeros_like(value) for name, value in parameters.items()}
    generator = torch.Generator().manual_seed(seed)
    with evaluating(model):
        for part in torch.as_tensor(images).split(BATCH):
            x = part.to(device)
            with torch.no_grad():
                odds = logits_of(model(x)).softmax(1).cpu()
            labels = torch.multinomial(odds, 1, generator=generator)[:, 0].to(device)
            for name, gradient in gradients(parameters, x, labels).items():
                found[name] += gradient.square().sum(0)
    return {name: (total / len(images)).numpy(force=True) for name, total in found.items()}
