"""Accuracy against cells for the storage strategies of Isik et al. (2020, Tables 1 and 8).

The weights of a pruned network are stored in analog cells by each strategy of the paper's tables in
turn, then read back many times. This is what ``noisycells demo`` shows.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from .. import random
from .._arguments import wrong_value
from ..channel import Channel
from ..storage import Codec
from .engine import (
    Entry,
    Job,
    Recipe,
    Settings,
    Study,
    Table,
    Trained,
    about,
    isik_recipe,
    job,
    pruned_recipe,
)
from .engine.report import finite
from .measures import ACCURACY, NO_NOISE, QUICK_EPOCHS
from .strategies_view import (
    ACCURACIES,
    CAPACITY,
    COST,
    cost_row,
    format_strategies,
    plot_strategies,
)

__all__ = [
    "STRATEGIES",
    "STUDIES",
    "Options",
    "Strategy",
    "capacity",
    "stored",
    "stored_job",
    "study",
]

PRUNED = 0.8
COSTS = ("stored_weights", "original_weights", "data_cells", "side_cells", "index_bits",
         "index_bits_per_cell", "index_cells", "total_cells", "mean_cells", "per_stored",
         "per_original", "parameter_bits", "digital_bits", "digital_weights")  # fmt: skip
"""Figures of :class:`noisycells.Cost`."""


@dataclass(frozen=True)
class Strategy:
    """One row of the table; each switch is one of :class:`noisycells.Codec`.

    Parameters
    ----------
    name : str
    sign_protection, adaptive_mapping : bool
    adaptive_redundancy : bool
        More cells for large weights than for small ones.
    learnt_inverse : bool
        Invert the channel as learnt from measurements instead of the true one.
    side_errors : bool
        Misread signs and ranges now and then; in the paper side cells are read without error.
    """

    name: str
    sign_protection: bool = False
    adaptive_mapping: bool = False
    adaptive_redundancy: bool = False
    learnt_inverse: bool = False
    side_errors: bool = False


STRATEGIES = (
    Strategy("inversion (exact)"),
    Strategy("inversion (k-NN)", learnt_inverse=True),
    Strategy("+ sign protection", True),
    Strategy("+ adaptive mapping", True, True),
    Strategy("+ adaptive redundancy", True, True, True),
)


@dataclass(frozen=True)
class Options:
    """What decides the tables besides the settings that all studies have.

    Parameters
    ----------
    cells : tuple of int
        Cells per weight, one column each. Adaptive redundancy uses ``extra_cells`` more on average.
    scope : {"model", "tensor"}
        One scale and threshold for the whole network, as in the paper, or for each tensor.
    measurements, neighbors : int
        The learnt inverse: cells measured, evenly spread over the inputs, and neighbors averaged.
    extra_cells : float
        With adaptive redundancy, mean cells per weight above the column's: at 1 cell nothing
        could be given to large weights otherwise.
    """

    cells: tuple[int, ...] = (30, 20, 10, 5, 3, 2, 1)
    scope: Literal["model", "tensor"] = "model"
    measurements: int = 200
    neighbors: int = 10
    extra_cells: float = 0.1

    def __post_init__(self) -> None:
        if not self.cells or min(self.cells) < 1:
            raise wrong_value("cells", "numbers of at least 1", self.cells)

    def of(self, settings: Settings) -> Options:
        """These options, with fewer columns where it is to be quick."""
        return replace(self, cells=settings.pick(self.cells, self.cells[::3]))

    def to_dict(self) -> dict[str, Any]:
        """The options as plain JSON types."""
        return {**asdict(self), "cells": list(self.cells)}


# --------------------------------------------------------------------------- jobs


@job
def stored(
    trained: Trained,
    *,
    channel: dict[str, Any],
    strategy: dict[str, Any],
    cells: int,
    repeats: int,
    seed: int,
    scope: Literal["model", "tensor"] = "model",
    measurements: int = 200,
    neighbors: int = 10,
    extra_cells: float = 0.1,
) -> dict[str, Any]:
    """Accuracies (%) of chips that store the network by one strategy, and what that costs.

    Chip number i is the same one with the same seed whatever the strategy and the cells, so
    results can be compared in pairs. The learnt inverse is learnt anew for each chip, so that the
    luck of the measurements shows in the spread.
    """
    import torch

    from .. import torch as nct

    data, cell, chosen = trained.dataset, Channel.from_dict(channel), Strategy(**strategy)
    # Convolution and pooling are faster in this layout; the copy keeps it when loaded.
    images = torch.from_numpy(data.normalize(data.test_images))
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.from_numpy(data.test_labels)
    scratch = copy.deepcopy(trained.model)
    scratch.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    chips = [random.fold_in(seed, repeat) for repeat in range(repeats)]
    inverses = (
        [_learn(cell, measurements, neighbors, seed, chip) for chip in chips]
        if chosen.learnt_inverse
        else [None]
    )
    models = [
        nct.store(
            trained.model,
            _codec(chosen, cell, inverse, cells, scope, extra_cells),
            mask=trained.masks,
        )
        for inverse in inverses
    ]
    accuracies = []
    for i, chip in enumerate(chips):
        model = models[i % len(models)]
        nct.load(model, scratch, seed, chip=chip, side_errors=chosen.side_errors)
        accuracies.append(nct.accuracy(scratch, images, labels))
    return {"accuracies": accuracies, "cost": models[0].cost.to_dict()}


def _learn(channel: Channel, measurements: int, neighbors: int, seed: int, chip: int) -> Channel:
    """The channel as a k-nearest-neighbor fit of single-cell measurements sees it."""
    inputs = np.linspace(*channel.branch, measurements, dtype=np.float32)
    stream = random.stream("measurements")
    outputs = channel.sample(inputs, seed, chip=chip, stream=stream)
    return Channel.fit(inputs, outputs, neighbors=neighbors)


def _codec(
    strategy: Strategy,
    channel: Channel,
    inverse: Channel | None,
    cells: int,
    scope: Literal["model", "tensor"],
    extra_cells: float,
) -> Codec:
    redundancy: dict[str, Any] = (
        {"mean_cells": cells + extra_cells} if strategy.adaptive_redundancy else {"cells": cells}
    )
    return Codec(
        channel,
        inverse,
        sign_protection=strategy.sign_protection,
        adaptive_mapping=strategy.adaptive_mapping,
        scope=scope,
        **redundancy,
    )


@job
def capacity(*, channel: dict[str, Any]) -> dict[str, float | None]:
    """Bits that a cell holds at most; None where it is exact, and there is no limit."""
    (bits,) = finite([Channel.from_dict(channel).capacity()])
    return {"bits": bits}


def stored_job(
    recipe: Recipe, strategy: Strategy, channel: Mapping[str, Any], repeats: int, **options: Any
) -> Job:
    """The job that stores a network by a strategy; ``options`` are further ones of its function."""
    arguments = {
        "channel": dict(channel),
        "strategy": asdict(strategy),
        "repeats": repeats,
        "seed": recipe.seed,
        **options,
    }
    return Job(stored, arguments, recipe, passes=repeats)


# --------------------------------------------------------------------------- study


def study(options: Options | None = None) -> Study:
    """The study with options of one's own."""
    given = options or Options()

    def tables(settings: Settings) -> list[Table]:
        """Accuracy of a pruned network in cells, by storage strategy and cells a weight.

        Tables 1 and 8 of the paper on a network of one's own: 80 % of its weights are pruned, and
        the rest is stored by each strategy with fewer and fewer cells a weight.
        """
        return _tables(given.of(settings), settings)

    return Study(
        "strategies",
        "the strategies of Isik et al. 2020, Tables 1 and 8",
        tables,
        "LeNet",
        "LeNet",
        options=lambda settings: given.of(settings).to_dict(),
        text=format_strategies,
        draw=plot_strategies,
    )


def _tables(options: Options, settings: Settings) -> list[Table]:
    epochs = settings.epochs or settings.pick(30, QUICK_EPOCHS)
    repeats = settings.repeats or settings.pick(10, 5)
    networks = [
        pruned_recipe(
            isik_recipe(settings.source, settings.model, seed, epochs, **settings.hardware), PRUNED
        )
        for seed in settings.training_seeds
    ]
    noise_free = tuple(map(about, networks))
    channel = settings.channel.to_dict()
    chosen = options.to_dict()
    del chosen["cells"]
    accuracies = [Entry(NO_NOISE, cells, noise_free, "accuracy") for cells in options.cells]
    costs = []
    for strategy in STRATEGIES:
        for cells in options.cells:
            jobs = tuple(
                stored_job(network, strategy, channel, repeats, cells=cells, **chosen)
                for network in networks
            )
            accuracies.append(Entry(strategy.name, cells, jobs))
            row = cost_row(strategy.name, cells)
            costs += [Entry(row, name, jobs, f"cost/{name}") for name in COSTS]
    bits = Job(capacity, {"channel": channel})
    return [
        Table(
            ACCURACIES, "strategy", "data cells per stored weight", ACCURACY, tuple(accuracies),
            log=True, note=f"Redundancy: on average up to {options.extra_cells:g} data cells a "
            "weight more than the column says.",
        ),
        Table(COST, "strategy", "figure", "see column", tuple(costs), drawn=False),
        Table(
            CAPACITY, "cell", "of", "bits a cell",
            (Entry(settings.channel.name, "capacity", (bits,), "bits"),), drawn=False,
        ),
    ]  # fmt: skip


STUDIES = (study(),)
