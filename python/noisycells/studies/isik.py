"""What the studies of Isik et al. (2020), "Noisy Neural Network Compression for Analog Storage
Devices", share: their networks and how these are stored and perturbed.

Networks are trained as in the paper's appendix B; what it leaves open is chosen here and said so
where it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import measures, strategies
from .engine import Job, Recipe, Settings, isik_recipe, pruned_recipe
from .measures import QUICK_EPOCHS
from .strategies import Strategy

__all__ = ["PAPER", "network", "perturbed", "pruned", "repeats", "stored"]

PAPER = "Isik et al. 2020"
PRUNED = 0.8


def network(settings: Settings, model: str, seed: int, quick: int = QUICK_EPOCHS) -> Recipe:
    """The network of a training seed."""
    epochs = settings.epochs or settings.pick(None, quick)
    return isik_recipe(settings.source, model, seed, epochs, **settings.hardware)


def pruned(settings: Settings, seed: int) -> Recipe:
    """That network, 80 % pruned."""
    return pruned_recipe(network(settings, settings.model, seed), PRUNED)


def repeats(settings: Settings) -> int:
    """Chips or noisy copies for each entry."""
    return settings.repeats or settings.pick(10, 5)


def stored(
    settings: Settings,
    recipe: Recipe,
    strategy: Strategy,
    cells: int,
    extra_cells: float = 0.1,
    channel: Mapping[str, Any] | None = None,
) -> Job:
    """The job that stores a network by one strategy."""
    return strategies.stored_job(
        recipe,
        strategy,
        channel=dict(channel or settings.channel.to_dict()),
        cells=cells,
        extra_cells=extra_cells,
        repeats=repeats(settings),
    )


def perturbed(settings: Settings, recipe: Recipe, std: float, recalibrate: bool = False) -> Job:
    """The job that puts Gaussian noise on the weights of a network."""
    return Job(
        measures.perturbed,
        {
            "noise": {"eta": std, "norm": "absolute"},
            "repeats": repeats(settings),
            "seed": recipe.seed,
            "recalibrate": recalibrate,
        },
        recipe,
        passes=repeats(settings),
    )
