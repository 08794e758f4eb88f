"""How much errors of each weight matter: the diagonal of the Fisher information."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from ... import _arguments
from ..checks import check_module
from ..inputs import call, each_batch, inputs_of, logits_of, moved
from ..modes import evaluating
from ..training.fit import device_of

__all__ = ["sensitivity"]

BATCH = 25  # examples whose gradients are held at a time
LARGE = 1 << 22  # parameters from which on each example is taken by itself
OUTPUTS = ("classes", "values")

Parameters = dict[str, Tensor]
Gradient = Callable[[Parameters, Any, Tensor], Parameters]


def sensitivity(
    model: nn.Module, examples: Any, *, outputs: str = "classes", seed: int = 0
) -> dict[str, npt.NDArray[np.float32]]:
    """Diagonal of the Fisher information of a model's parameters.

    h_i = E_x E_{y ~ p(y|x)} (d log p(y|x) / d w_i)^2, over the examples and a y drawn for each.
    Small independent errors e_i of the weights move the outputs by a Kullback-Leibler divergence
    of sum h_i e_i^2 / 2, in nats (S. Amari, "Natural gradient works efficiently in learning",
    1998, section 2).

    Examples run through the model a few at a time, and of none anything is kept but sums.

    Parameters
    ----------
    model : torch.nn.Module
        In ``eval()`` meanwhile, and left as it was. Each example must get the outputs that it
        would get alone.
    examples : Tensor, mapping or iterable
        At least one example: one tensor or dict, or batches of them, such as a ``DataLoader``, with
        labels, which are not used, or without. The first dimension of all tensors is that of
        examples.
    outputs : {"classes", "values"}
        What the model gives: logits of shape (n, classes), of which a class is drawn; or values of
        any shape (n, ...), such as embeddings, taken as means of Gaussians with variance 1: errors
        then move them by a mean square of sum h_i e_i^2.
    seed : int
        Of what is drawn.

    Returns
    -------
    dict of str to ndarray of float32
        By parameter name, in its shape.

    Raises
    ------
    ValueError, TypeError
        If there is no example, or an argument is not as above.
    """
    check_module(model)
    _arguments.choice("outputs", outputs, OUTPUTS)
    generator = torch.Generator().manual_seed(_arguments.seed("seed", seed))
    parameters = {name: value.detach() for name, value in model.named_parameters()}
    found = {name: torch.zeros_like(value) for name, value in parameters.items()}
    size = sum(value.numel() for value in parameters.values())
    gradient = _gradient(model, outputs)
    together = size <= LARGE
    many: Gradient = torch.func.vmap(gradient, (None, 0, 0)) if together else gradient
    device, count = device_of(model), 0
    # The other kernels of attention have no rule for several examples at a time.
    attention = sdpa_kernel(SDPBackend.MATH) if together else nullcontext()
    with evaluating(model), attention:
        for inputs in _parts(model, examples, BATCH if together else 1, device):
            with torch.no_grad():
                drawn = _drawn(logits_of(call(model, inputs)), outputs, generator).to(device)
            if not together:
                inputs, drawn = _rows(inputs, 0), drawn[0]
            for name, found_here in many(parameters, inputs, drawn).items():
                squares = found_here.square()
                found[name] += squares.sum(0) if together else squares
            count += len(drawn) if together else 1
    if not count:
        raise _arguments.wrong_value("examples", "at least one", "none")
    return {name: (total / count).numpy(force=True) for name, total in found.items()}


def _gradient(model: nn.Module, outputs: str) -> Gradient:
    """The gradient of log p(y|x), but for its sign, of one example and its y."""
    buffers = dict(model.named_buffers())

    def loss(parameters: Parameters, inputs: Any, drawn: Tensor) -> Tensor:
        one = _rows(inputs, None)
        given, named = ((), one) if isinstance(one, dict) else (one, {})
        output = torch.func.functional_call(model, (parameters, buffers), given, named)
        found = logits_of(output)
        if outputs == "classes":
            return F.cross_entropy(found, drawn[None])
        return (found[0] * drawn).sum()

    gradient: Gradient = torch.func.grad(loss)
    return gradient


def _drawn(found: Tensor, outputs: str, generator: torch.Generator) -> Tensor:
    """A class for each example, or y - mean of a Gaussian of each value."""
    if outputs == "values":
        return torch.randn(found.shape, generator=generator, dtype=found.dtype)
    if found.ndim != 2:
        raise _arguments.wrong_value(
            "model", "logits of shape (n, classes); see outputs='values'", tuple(found.shape)
        )
    return torch.multinomial(found.softmax(1).cpu(), 1, generator=generator)[:, 0]


def _parts(model: nn.Module, examples: Any, size: int, device: torch.device) -> Iterator[Any]:
    """The inputs of the examples, at most ``size`` of them at a time."""
    for batch in each_batch("examples", examples):
        inputs = moved(inputs_of("examples", model, batch), device)
        tensors = _leaves(inputs)
        if not all(isinstance(tensor, Tensor) and tensor.ndim for tensor in tensors):
            raise _arguments.wrong_type("examples", "tensors with a dimension of examples", batch)
        counts = {len(tensor) for tensor in tensors}
        if len(counts) != 1:
            raise _arguments.wrong_value("examples", "as many in all tensors", sorted(counts))
        for start in range(0, counts.pop(), size):
            yield _rows(inputs, slice(start, start + size))


def _leaves(inputs: Any) -> list[Any]:
    if isinstance(inputs, Mapping):
        return list(inputs.values())
    return list(inputs) if isinstance(inputs, tuple) else [inputs]


def _rows(inputs: Any, index: int | slice | None) -> Any:
    """Each tensor of the inputs, indexed."""
    if isinstance(inputs, Mapping):
        return {name: tensor[index] for name, tensor in inputs.items()}
    if isinstance(inputs, tuple):
        return tuple(tensor[index] for tensor in inputs)
    return inputs[index]
