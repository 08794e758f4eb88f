"""Weights on a learnt grid, and how many bits their places on it take.

While a model is on grids, each weight w is used as round(w / step) step, with a step for each
tensor that is learnt with the weights; gradients pass the rounding as if it were not there (Bengio
et al. 2013; learnt steps: Esser et al. 2020). The rate is that of a mixture of logistic
distributions on w / step, with uniform noise in the place of the rounding (Balle et al. 2017).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ... import _arguments
from ...storage.selection import belongs_in_cells
from ..checks import check_filter, check_module
from .code_length import code_length

__all__ = ["Grid", "Grids"]

SCALES = (0.15, 1.0, 3.0)  # of the logistic distributions at first, in steps
FLOOR = 1e-9  # least probability, so that the rate of an outlier is finite
SAMPLE = 1 << 17  # weights of a tensor whose rate is computed at a time
STEP, BIAS_STEP = 0.4, 0.1  # steps at first, in standard deviations of the tensor
HEADER_BITS = 64  # of each tensor: its step, and the number of its bits


class Grid(nn.Module):
    """The grid of one tensor, and the distribution of its places on the grid.

    Parameters
    ----------
    weight : Tensor
        As it is before training.
    step : float
        Distance of neighbors on the grid at first.
    """

    def __init__(self, weight: Tensor, step: float) -> None:
        super().__init__()

        def new(values: object) -> nn.Parameter:
            return nn.Parameter(torch.as_tensor(values, dtype=torch.float32, device=weight.device))

        self.log_step = new(math.log(step))
        self.log_scales = new([math.log(scale) for scale in SCALES])
        self.mixture = new([0.0] * len(SCALES))
        # Rows and columns that hold less are cheaper, as an adaptive coder finds them.
        table = weight.ndim > 1
        self.rows = new(torch.zeros(len(weight), 1)) if table else None
        self.columns = new(torch.zeros(1, weight[0].numel())) if table else None

    @property
    def step(self) -> Tensor:
        """Distance of neighbors on the grid."""
        return self.log_step.exp()

    def forward(self, weight: Tensor) -> Tensor:
        """The nearest points of the grid; their gradient with respect to ``weight`` is 1."""
        place = weight / self.step.to(weight.dtype)
        rounded = place + (place.round() - place).detach()
        return rounded * self.step.to(weight.dtype)

    def bits(self, weight: Tensor) -> Tensor:
        """A draw of the rate of the tensor: in the mean over draws, the bits of its places."""
        table = weight.float().flatten(1) if weight.ndim > 1 else weight.float()[None]
        height = max(1, SAMPLE // max(1, table.shape[1]))
        blocks = -(-len(table) // height)
        first = 0 if blocks == 1 else int(torch.randint(blocks, (1,))) * height
        part = slice(first, first + height)
        place = table[part] / self.step
        place = (place + torch.rand_like(place) - 0.5).abs()
        probability = torch.zeros_like(place)
        for share, log_scale in zip(self.mixture.softmax(0), self.log_scales, strict=True):
            if self.rows is not None and self.columns is not None:
                log_scale = log_scale + self.rows[part] + self.columns
            width = log_scale.exp()
            inside = torch.sigmoid((0.5 - place) / width) - torch.sigmoid((-0.5 - place) / width)
            probability = probability + share * inside
        return -blocks * torch.log2(probability + FLOOR).sum()

    def indices(self, weight: Tensor) -> NDArray[np.int64]:
        """Places on the grid, in the shape of ``weight``."""
        places = (weight.detach() / self.step.detach().to(weight.dtype)).round()
        return places.cpu().numpy().astype(np.int64)


class Grids:
    """The grids of a model's weights, while they are there.

    Weights of two dimensions or more and biases get grids, those of normalization layers do not.
    The parameters of the grids are among those of the model meanwhile.

    Parameters
    ----------
    model : torch.nn.Module
    filter_fn : callable, optional
        ``filter_fn(module, name)`` with the name of the module: False leaves its tensors as they
        are.

    Raises
    ------
    ValueError
        If there is no such tensor, or one is tied, parametrized or being pruned, or not finite.
    """

    def __init__(
        self, model: nn.Module, filter_fn: Callable[[nn.Module, str], bool] | None = None
    ) -> None:
        check_module(model, to_change=True)
        check_filter(filter_fn)
        self.model = model
        self.places: dict[str, tuple[nn.Module, str]] = {}
        self._grids: dict[str, Grid] = {}
        for name, module, attribute in _tensors(model, filter_fn):
            weight = module._parameters[attribute]
            assert weight is not None
            self._grids[name] = Grid(weight, _first_step(name, weight))
            self.places[name] = (module, attribute)
        if not self.places:
            raise _arguments.wrong_value("model", "weights to train", "none")
        for name, (module, attribute) in self.places.items():
            parametrize.register_parametrization(module, attribute, self._grids[name])

    @property
    def size(self) -> int:
        """Number of weights on grids."""
        return sum(self._original(name).numel() for name in self.places)

    @property
    def steps(self) -> dict[str, float]:
        """The step of each tensor, exact in the dtype of its weights."""
        return {
            name: grid.step.to(self._original(name).dtype).item()
            for name, grid in self._grids.items()
        }

    def groups(self, learning_rate: float) -> list[dict[str, object]]:
        """Parameters for an optimizer: steps learn twice as fast as weights, rates ten times."""
        inside = {id(p) for grid in self._grids.values() for p in grid.parameters()}
        steps = [grid.log_step for grid in self._grids.values()]
        known = {id(p) for p in steps}
        rates = [p for g in self._grids.values() for p in g.parameters() if id(p) not in known]
        weights = [p for p in self.model.parameters() if id(p) not in inside]
        return [
            {"params": weights, "lr": learning_rate},
            {"params": steps, "lr": 2 * learning_rate},
            {"params": rates, "lr": 10 * learning_rate},
        ]

    def bits_per_weight(self) -> Tensor:
        """A draw of the rate of all tensors, with gradients."""
        total = torch.stack(
            [grid.bits(self._original(name)) for name, grid in self._grids.items()]
        ).sum()
        return total / self.size

    def indices(self) -> dict[str, NDArray[np.int64]]:
        """Places of all weights on their grids."""
        return {name: grid.indices(self._original(name)) for name, grid in self._grids.items()}

    def bits(self) -> dict[str, float]:
        """Bits of an adaptive code of each tensor's places, headers included."""
        return {name: code_length(places) + HEADER_BITS for name, places in self.indices().items()}

    def remove(self) -> None:
        """Leave the weights on their grids, as plain parameters."""
        for module, attribute in self.places.values():
            parametrize.remove_parametrizations(module, attribute, leave_parametrized=True)

    def _original(self, name: str) -> Tensor:
        module, attribute = self.places[name]
        found: Tensor = module.parametrizations[attribute].original  # type: ignore[index,union-attr]
        return found


def _tensors(
    model: nn.Module, filter_fn: Callable[[nn.Module, str], bool] | None
) -> Iterator[tuple[str, nn.Module, str]]:
    """Names, modules and attributes of the tensors that are to have grids."""
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters(remove_duplicate=False)}
    seen: dict[int, str] = {}
    for prefix, module in model.named_modules():
        if parametrize.is_parametrized(module):
            raise _arguments.wrong_value("model", "plain parameters", f"{prefix!r} parametrized")
        for attribute, parameter in module._parameters.items():
            name = f"{prefix}.{attribute}".removeprefix(".")
            if parameter is None or not parameter.is_floating_point():
                continue
            if attribute.endswith("_orig"):
                raise _arguments.wrong_value("model", "finished weights", f"{name!r}, being pruned")
            if not belongs_in_cells(name, shapes, True):
                continue
            if filter_fn is not None and not filter_fn(module, prefix):
                continue
            if id(parameter) in seen:
                tied = f"{seen[id(parameter)]!r} and {name!r} tied"
                raise _arguments.wrong_value("model", "a tensor for each name", tied)
            seen[id(parameter)] = name
            yield name, module, attribute


def _first_step(name: str, weight: Tensor) -> float:
    values = weight.detach().double()
    if not values.isfinite().all():
        raise _arguments.wrong_value("model", "finite weights", f"NaN or infinity in {name!r}")
    spread = values.square().mean().sqrt().item()
    share = STEP if weight.ndim > 1 else BIAS_STEP
    return share * spread if spread > 0 else share / math.sqrt(max(1, weight.numel()))
