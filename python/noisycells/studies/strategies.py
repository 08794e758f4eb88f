"""Accuracy against cells for the storage strategies of Isik et al. (2020, Tables 1 and 8).

The weights of a network, pruned or not, are stored in analog cells by each strategy of the paper's
tables in turn, then read back many times.
"""

from __future__ import annotations

import copy
import csv
import itertools
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .. import random
from ..channel import Channel
from ..intervals import mean_and_interval
from ..storage import Codec
from .engine.report import about_data, about_versions, write_json
from .engine.training import Trained, about

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "STRATEGIES",
    "Entry",
    "Settings",
    "Strategy",
    "evaluate_strategies",
    "format_table",
    "plot",
    "report",
    "write_csv",
    "write_json",
]


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
class Settings:
    """Everything that decides the table, besides the network and the channel.

    Parameters
    ----------
    cells : tuple of int
        Cells per weight, one column each. Adaptive redundancy uses `extra_cells` more on average.
    reads : int
        Chips programmed and read for each entry, at least 2.
    seed : int
        Seed of every draw of the cells.
    scope : {"model", "tensor"}
        One scale and threshold for the whole network, as in the paper, or for each tensor.
    measurements, neighbors : int
        The learnt inverse: cells measured, evenly spread over the inputs, and neighbors averaged.
    extra_cells : float
        With adaptive redundancy, mean cells per weight above the column's: at 1 cell nothing
        could be given to large weights otherwise.
    """

    cells: tuple[int, ...] = (30, 20, 10, 5, 3, 2, 1)
    reads: int = 10
    seed: int = 0
    scope: Literal["model", "tensor"] = "model"
    measurements: int = 200
    neighbors: int = 10
    extra_cells: float = 0.1

    def __post_init__(self) -> None:
        random.check_seed("seed", self.seed)
        if self.reads < 2:
            raise ValueError(f"reads: expected at least 2 for an interval, got {self.reads}")
        if not self.cells or min(self.cells) < 1:
            raise ValueError(f"cells: expected numbers of at least 1, got {self.cells}")


@dataclass(frozen=True)
class Entry:
    """One entry of the table.

    Parameters
    ----------
    strategy : str
        Name of the strategy.
    cells : int
        The column.
    accuracies : tuple of float
        Test accuracy of each read, in percent.
    mean, half_width : float
        Their mean and the half width of its 95 % Student-t interval.
    cost : dict
        Full cost, see :class:`noisycells.Cost`.
    """

    strategy: str
    cells: int
    accuracies: tuple[float, ...]
    mean: float
    half_width: float
    cost: dict[str, Any]


def evaluate_strategies(
    trained: Trained,
    channel: Channel,
    settings: Settings,
    strategies: Sequence[Strategy] = STRATEGIES,
    progress: Callable[[], None] | None = None,
) -> list[Entry]:
    """Store the network by every strategy at every number of cells, and read it back.

    Each read is of a chip of its own; read number i uses the same chip and the same seed in every
    entry, so entries can be compared in pairs. The learnt inverse is learnt anew for each read,
    so its interval covers the luck of the measurements.

    Parameters
    ----------
    trained : Trained
        The test images are used.
    channel : Channel
        The cells.
    settings : Settings
    strategies : sequence of Strategy
    progress : callable, optional
        Called after each of ``len(strategies) * len(settings.cells) * settings.reads`` reads.
    """
    import torch

    from .. import torch as nct

    dataset = trained.dataset
    images = torch.from_numpy(dataset.normalize(dataset.test_images))
    labels = torch.from_numpy(dataset.test_labels)
    chips = [random.fold_in(settings.seed, read) for read in range(settings.reads)]
    learnt = (
        [_learn(channel, settings, chip) for chip in chips]
        if any(strategy.learnt_inverse for strategy in strategies)
        else []
    )
    # Convolution and pooling are faster in this layout; the copy keeps it when loaded.
    images = images.contiguous(memory_format=torch.channels_last)
    scratch = copy.deepcopy(trained.model)
    scratch.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    entries = []
    for strategy in strategies:
        for cells in settings.cells:
            stored = [
                nct.store(
                    trained.model,
                    _codec(strategy, channel, inverse, cells, settings),
                    masks=trained.masks,
                )
                for inverse in (learnt if strategy.learnt_inverse else [None])
            ]
            accuracies = []
            for read, chip in enumerate(chips):
                nct.load(
                    stored[read % len(stored)],
                    scratch,
                    settings.seed,
                    chip=chip,
                    side_errors=strategy.side_errors,
                )
                accuracies.append(nct.accuracy(scratch, images, labels))
                if progress is not None:
                    progress()
            mean, half_width = mean_and_interval(accuracies)
            cost = stored[0].cost.to_dict()
            entries.append(Entry(strategy.name, cells, tuple(accuracies), mean, half_width, cost))
    return entries


def _learn(channel: Channel, settings: Settings, chip: int) -> Channel:
    """The channel as a k-nearest-neighbor fit of single-cell measurements sees it."""
    inputs = np.linspace(*channel.branch, settings.measurements, dtype=np.float32)
    stream = random.stream("measurements")
    outputs = channel.sample(inputs, settings.seed, chip=chip, stream=stream)
    return Channel.fit(inputs, outputs, neighbors=settings.neighbors)


def _codec(
    strategy: Strategy,
    channel: Channel,
    inverse: Channel | None,
    cells: int,
    settings: Settings,
) -> Codec:
    redundancy: dict[str, Any] = (
        {"mean_cells": cells + settings.extra_cells}
        if strategy.adaptive_redundancy
        else {"cells": cells}
    )
    return Codec(
        channel,
        inverse,
        sign_protection=strategy.sign_protection,
        adaptive_mapping=strategy.adaptive_mapping,
        scope=settings.scope,
        **redundancy,
    )


def report(
    dense: Trained,
    pruned: Trained,
    channel: Channel,
    settings: Settings,
    entries: Sequence[Entry],
) -> dict[str, Any]:
    """Everything the files and the table show of a network that was pruned and stored.

    As plain JSON types; `dense` is the network before pruning.
    It holds every setting, seed and version, no time and no path: on one machine, the same
    settings give the same report.
    """
    import torch

    return {
        "study": "strategies",
        "data": about_data(pruned.dataset),
        "channel": channel.to_dict(),
        "capacity": channel.capacity(),
        "settings": asdict(settings),
        "versions": about_versions(),
        "threads": torch.get_num_threads(),  # sums may round differently with another number
        "dense": {**about(dense), "recipe": dense.recipe.describe()},
        "network": {**about(pruned), "recipe": pruned.recipe.describe()},
        "entries": [asdict(entry) for entry in entries],
    }


def write_csv(report: dict[str, Any], file: Path) -> None:
    """Write the entries of a report as CSV, one a line, without the single reads."""
    with file.open("w", newline="", encoding="utf-8") as stream:
        rows = [
            {
                "strategy": entry["strategy"],
                "cells": entry["cells"],
                "reads": len(entry["accuracies"]),
                "mean_accuracy": entry["mean"],
                "half_width_95": entry["half_width"],
                **entry["cost"],
            }
            for entry in report["entries"]
        ]
        writer = csv.DictWriter(stream, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def format_table(report: dict[str, Any]) -> str:
    """The report as text of 80 columns; a line of each block is one number of cells."""
    data, network, settings = report["data"], report["network"], report["settings"]
    pruned = network["recipe"]["pruned"]
    entries = {(entry["cells"], entry["strategy"]): entry for entry in report["entries"]}
    strategies = list(dict.fromkeys(strategy for _, strategy in entries))
    headings = [textwrap.wrap(strategy, 13) for strategy in strategies]

    def line(first: object, rest: Iterable[str]) -> str:
        return f"{first:>5}" + "".join(f"{text:>14}" for text in rest)

    def block(title: str, text: Callable[[dict[str, Any]], str]) -> list[str]:
        heads = itertools.zip_longest(*headings, fillvalue="")
        lines = [line(first, words) for first, words in zip(("", "cells"), heads, strict=False)]
        for cells in settings["cells"]:
            lines.append(line(cells, (text(entries[cells, name]) for name in strategies)))
        return ["", title, *lines]

    def accuracy(entry: dict[str, Any]) -> str:
        return f"{entry['mean']:.2f} ±{entry['half_width']:.2f}"

    def cost(entry: dict[str, Any]) -> str:
        return f"{entry['cost']['per_stored']:.2f} / {entry['cost']['per_original']:.2f}"

    channel = report["channel"]
    synthetic = " (synthetic)" if channel["synthetic"] else ""
    paragraphs = [
        f"{network['name']} on {data['name']}, {data['training_images']} training and "
        f"{data['test_images']} test images. Noise-free accuracy "
        f"{report['dense']['accuracy']:.2f} %, with {100 * pruned:g} % of the weights pruned "
        f"{network['accuracy']:.2f} %.",
        f"Cells: {channel['name']}{synthetic}, up to {report['capacity']:.2f} bits each; "
        f"{settings['reads']} chips an entry, seed {settings['seed']}, scale per "
        f"{settings['scope']}. Biases stay digital. k-NN: learnt inverse, the mean of "
        f"{settings['neighbors']} neighbors among {settings['measurements']} measured cells, "
        "measured anew for each chip. Redundancy: on average up to "
        f"{settings['extra_cells']:g} data cells a weight more.",
    ]
    return "\n".join(
        [
            *(textwrap.fill(paragraph, 80) for paragraph in paragraphs),
            *block("Test accuracy in %, mean and 95 % interval:", accuracy),
            *block("Cells in all (data, side, index) per stored / per original weight:", cost),
        ]
    )


def plot(report: dict[str, Any]) -> Figure:
    """Accuracy against the cells of the column, as the paper counts, and against all cells."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import ScalarFormatter

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    entries = report["entries"]
    for name in dict.fromkeys(entry["strategy"] for entry in entries):
        row = [entry for entry in entries if entry["strategy"] == name]
        for axis, count in zip(axes, ("mean_cells", "per_stored"), strict=True):
            axis.errorbar(
                [entry["cost"][count] for entry in row],
                [entry["mean"] for entry in row],
                [entry["half_width"] for entry in row],
                marker="o",
                capsize=3,
                label=name,
            )
    for axis in axes:
        axis.axhline(report["network"]["accuracy"], color="gray", ls=":", label="noise-free")
        axis.set_xscale("log")
        axis.set_xticks([1, 2, 3, 5, 10, 20, 30, 50, 100], minor=False)
        axis.set_xticks([], minor=True)
        axis.xaxis.set_major_formatter(ScalarFormatter())
        axis.set_xlim(*axis.dataLim.intervalx * [0.9, 1.1])
        axis.grid(alpha=0.3)
    axes[0].set(xlabel="data cells per stored weight", ylabel="test accuracy (%)")
    axes[1].set_xlabel("all cells per stored weight: data, side and index")
    axes[0].legend()
    figure.suptitle(
        f"{report['network']['name']} on {report['data']['name']} in {report['channel']['name']} "
        f"cells, mean and 95 % interval of {report['settings']['reads']} chips"
    )
    return figure
