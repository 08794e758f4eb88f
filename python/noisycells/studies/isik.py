"""The tables and figures of Isik et al. (2020), "Noisy Neural Network Compression for Analog
Storage Devices".

Networks are trained as in the paper's appendix B; what it leaves open is chosen here and said so
where it is. Each function makes the tables of one table or figure of the paper.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import random
from ..channel import Channel
from ..storage import Codec
from . import measures, strategies
from .engine import Settings, Study
from .engine.jobs import Job, about, job
from .engine.recipes import Recipe, isik_recipe, pruned_recipe
from .engine.tables import Entry, Table, differences
from .engine.training import Trained
from .strategies import STRATEGIES, Strategy

__all__ = ["STUDIES"]

PRUNED = 0.8
KD = {"temperature": 1.5, "alpha": 0.5, "form": "isik"}
KD_CELLS = 4
RANGE = (-0.65, 0.75)  # of the paper's channel, its Fig. 2
QUICK_EPOCHS = 15
QUICK_NOISY_EPOCHS = 60  # from nothing, under noise, on few images
CONSISTENCY = {"outputs": 1.0, "features": 0.1}  # weights of the terms
ACCURACY = "test accuracy (%)"
NO_NOISE = "no noise"
EXACT, LEARNT, SIGN, MAPPING, REDUNDANCY = STRATEGIES
SIDE_ERRORS = replace(REDUNDANCY, name="+ errors of side bits", side_errors=True)

CELLS_1 = (30, 20, 10, 5, 3, 2, 1)
PAPER_1 = {
    NO_NOISE: (93.65,) * 7,
    LEARNT.name: (9.46, 10.21, 10.18, 8.76, 9.92, 13.03, 10.08),
    SIGN.name: (90.85, 89.61, 74.97, 20.38, 11.07, 10.11, 9.00),
    MAPPING.name: (93.12, 92.98, 92.41, 91.68, 91.44, 91.42, 84.85),
    REDUNDANCY.name: (93.45, 92.98, 92.96, 93.65, 93.05, 93.32, 93.11),
}
CELLS_8 = (30, 20, 10, 5, 3)
PAPER_8 = {
    NO_NOISE: (98.7,) * 5,
    LEARNT.name: (10.32, 10.3, 10.32, 10.32, 10.32),
    SIGN.name: (98.7, 98.74, 98.66, 98.71, 98.39),
    MAPPING.name: (98.75, 98.77, 98.72, 98.81, 98.65),
    REDUNDANCY.name: (98.75, 98.74, 98.79, 98.73, 98.66),
}
NAIVE_CELLS = (10, 30, 100, 300, 1000, 3000)

STDS_7 = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0)
UNPROTECTED = "noise on the weights"
PAPER_7: dict[str, dict[float, float]] = {
    UNPROTECTED: {0.001: 93.65, 0.005: 92.97, 0.01: 91.42, 0.05: 10.27},
    "protected": {0.001: 93.67, 0.005: 93.67, 0.01: 93.66, 0.05: 93.73, 0.5: 93.55, 1.0: 85.78},
}
"""The entries at 0.1 and, without protection, 0.5 and 1 are not legible in the text at hand; 93.55
is given by the paper's text, and 85.78 is where the broken row most likely has it."""

TEACHER, STUDENT, DISTILLED, NOISY, CHANNEL = (
    "teacher", "student", "KD", "KD + noise", "KD + channel noise"
)  # fmt: skip
PAPER_COLUMNS = (TEACHER, STUDENT, DISTILLED, NOISY, CHANNEL)
NOISE, DIFFERENT, CELLS = "+ noise", "+ different noise", "cells: "
PAPER_2 = {
    NO_NOISE: (95.7, 92.5, 92.9, 93.0),
    NOISE: (85.4, 88.1, 89.2, 90.3),
    DIFFERENT: (10.5, 51.0, 68.4, 76.5),
    CELLS + LEARNT.name: (9.9, 9.4, 9.8, 10.3),
    CELLS + SIGN.name: (40.5, 11.0, 10.6, 15.6),
    CELLS + MAPPING.name: (94.4, 69.0, 62.0, 76.6),
    CELLS + REDUNDANCY.name: (94.7, 89.5, 91.1, 91.7),
}
PAPER_9 = {
    NO_NOISE: (99.2, 97.5, 97.8, 96.3, 97.7),
    NOISE: (73.9, 80.0, 86.0, 94.4, 75.9),
    DIFFERENT: (21.0, 33.5, 27.2, 80.7, 33.8),
    CELLS + LEARNT.name: (11.6, 8.3, 10.1, 9.8, 9.8),
    CELLS + SIGN.name: (99.0, 95.9, 93.6, 95.9, 96.8),
    CELLS + MAPPING.name: (99.2, 96.6, 96.0, 96.1, 97.4),
    CELLS + REDUNDANCY.name: (99.2, 97.3, 97.7, 96.3, 97.6),
}


# --------------------------------------------------------------------------- jobs


@job
def stored(
    trained: Trained,
    *,
    channel: dict[str, Any],
    strategy: dict[str, Any],
    cells: int,
    extra_cells: float,
    reads: int,
    seed: int,
) -> dict[str, Any]:
    """Accuracies (%) of chips that store the network by one strategy, and what that costs."""
    settings = strategies.Settings(cells=(cells,), reads=reads, seed=seed, extra_cells=extra_cells)
    (entry,) = strategies.evaluate_strategies(
        trained, Channel.from_dict(channel), settings, [Strategy(**strategy)]
    )
    return {"accuracies": list(entry.accuracies), "cost": entry.cost}


@job
def response(*, channel: dict[str, Any], points: int, draws: int, seed: int) -> dict[str, Any]:
    """Mean and standard deviation of a cell over its inputs: its tables, and as drawn."""
    cell = Channel.from_dict(channel)
    x = np.linspace(cell.x[0], cell.x[-1], points)
    outputs = cell.sample(np.repeat(x.astype(np.float32)[:, None], draws, axis=1), seed)
    return {
        "x": x.tolist(),
        "mean": cell.mean_at(x).tolist(),
        "std": np.hypot(cell.std_at(x), cell.d2d_std).tolist(),
        **_moments(outputs),
    }


@job
def inverted(
    *, channel: dict[str, Any], cells: int, points: int, draws: int, seed: int
) -> dict[str, Any]:
    """Mean and standard deviation of phi(y) = C(f(y)), an average over cells, over its range."""
    cell = Channel.from_dict(channel)
    y = np.linspace(*cell.range, points)
    inputs = np.repeat(cell.inverse(y, clip=True).astype(np.float32)[:, None], draws, axis=1)
    outputs = cell.sample(inputs, random.fold_in(seed, cells), cells=cells)
    return {"y": y.tolist(), **_moments(outputs)}


def _moments(outputs: npt.NDArray[np.float32]) -> dict[str, list[float]]:
    return {
        "drawn_mean": outputs.mean(1, dtype=np.float64).tolist(),
        "drawn_std": outputs.std(1, ddof=1, dtype=np.float64).tolist(),
    }


@job
def histogram(trained: Trained, *, limit: float, bins: int, small: float) -> dict[str, Any]:
    """Shares (%) of the weights that are not zero in bins over [-limit, limit].

    Weights beyond the limit count in the bins at its ends. ``small`` is the share up to the
    threshold of that name.
    """
    weights = np.concatenate(
        [w.numpy(force=True).ravel() for w in trained.model.parameters() if w.ndim >= 2],
        dtype=np.float64,  # in float32 the limit may come to lie beyond itself
    )
    weights = weights[weights != 0]
    edges = np.linspace(-limit, limit, bins + 1)
    counts, _ = np.histogram(np.clip(weights, -limit, limit), edges)
    return {
        "shares": (100 * counts / len(weights)).tolist(),
        "weights": len(weights),
        "largest": float(np.abs(weights).max()),
        "small": float(100 * np.mean(np.abs(weights) <= small)),
    }


# --------------------------------------------------------------------------- networks


def _network(settings: Settings, model: str, seed: int, quick: int = QUICK_EPOCHS) -> Recipe:
    epochs = settings.epochs or settings.pick(None, quick)
    return isik_recipe(settings.source, model, seed, epochs, **settings.hardware)


def _pruned(settings: Settings, seed: int) -> Recipe:
    return pruned_recipe(_network(settings, settings.model, seed), PRUNED)


def _repeats(settings: Settings) -> int:
    return settings.repeats or settings.pick(10, 5)


def _stored(
    settings: Settings,
    recipe: Recipe,
    strategy: Strategy,
    cells: int,
    extra_cells: float = 0.1,
    channel: Mapping[str, Any] | None = None,
) -> Job:
    return Job(
        stored,
        {
            "channel": dict(channel or settings.channel.to_dict()),
            "strategy": asdict(strategy),
            "cells": cells,
            "extra_cells": extra_cells,
            "reads": _repeats(settings),
            "seed": recipe.seed,
        },
        recipe,
        passes=_repeats(settings),
    )


def _perturbed(settings: Settings, recipe: Recipe, std: float, recalibrate: bool = False) -> Job:
    return Job(
        measures.perturbed,
        {
            "noise": {"eta": std, "norm": "absolute"},
            "repeats": _repeats(settings),
            "seed": recipe.seed,
            "recalibrate": recalibrate,
        },
        recipe,
        passes=_repeats(settings),
    )


# --------------------------------------------------------------------------- pruned networks


def table1(settings: Settings) -> list[Table]:
    """Accuracy of an 80 % pruned network in cells, by strategy and cells a weight.

    Besides the paper's rows: the exact inverse of the channel, the errors that side cells make,
    what everything costs, and how many cells it takes without protection.
    """
    return _strategy_tables(settings, CELLS_1, (10, 3, 1), PAPER_1)


def table8(settings: Settings) -> list[Table]:
    """Accuracy of an 80 % pruned LeNet in cells, by strategy and cells a weight.

    Besides the paper's rows: the exact inverse of the channel, the errors that side cells make,
    what everything costs, and how many cells it takes without protection.
    """
    return _strategy_tables(settings, CELLS_8, (10, 3), PAPER_8)


def _strategy_tables(
    settings: Settings,
    usual: tuple[int, ...],
    quick: tuple[int, ...],
    paper: Mapping[str, Sequence[float]],
) -> list[Table]:
    networks = [_pruned(settings, seed) for seed in settings.training_seeds]
    columns = settings.pick(usual, quick)
    noise_free = tuple(map(about, networks))

    def papers(row: str, cells: int) -> float | None:
        return dict(zip(usual, paper.get(row, ()), strict=False)).get(cells)

    entries = [
        Entry(NO_NOISE, cells, noise_free, "accuracy", papers(NO_NOISE, cells)) for cells in columns
    ]
    costs = []
    for strategy in (*STRATEGIES, SIDE_ERRORS):
        for cells in columns:
            jobs = tuple(_stored(settings, network, strategy, cells) for network in networks)
            name = strategy.name
            entries.append(Entry(name, cells, jobs, paper=papers(name, cells)))
            costs.append(Entry(f"{name}, per stored weight", cells, jobs, "cost/per_stored"))
            costs.append(Entry(f"{name}, per original weight", cells, jobs, "cost/per_original"))
    naive = [Entry(NO_NOISE, cells, noise_free, "accuracy") for cells in NAIVE_CELLS] + [
        Entry(strategy.name, cells, tuple(_stored(settings, n, strategy, cells) for n in networks))
        for strategy in (EXACT, LEARNT)
        for cells in settings.pick(NAIVE_CELLS, NAIVE_CELLS[1::2])
    ]
    label = "data cells per stored weight"
    accuracies = Table(
        "Strategies", "strategy", label, ACCURACY, tuple(entries), log=True,
        note="Redundancy: on average up to 0.1 data cells a weight more than the column says.",
    )  # fmt: skip
    names = [strategy.name for strategy in (*STRATEGIES[1:], SIDE_ERRORS)]
    before = dict(pairwise(reversed(names)))
    return [
        accuracies,
        differences(
            accuracies, "What each step adds", lambda row, cells: (before.get(row, row), cells),
            "To the row before, on the same chips.",
        ),
        Table(
            "Without protection", "strategy", label, ACCURACY, tuple(naive), log=True,
            note="The paper's text: about 1000 cells for the noise-free accuracy.",
        ),
        Table(
            "Cost", "strategy", label, "cells: data, side and index", tuple(costs), log=True,
            note="The paper counts data cells alone.", drawn=False,
        ),
    ]  # fmt: skip


def table7(settings: Settings) -> list[Table]:
    """Accuracy of an 80 % pruned network under Gaussian noise, with and without protection.

    Noise acts on the weights that are kept. In cells, the noise of the given standard deviation
    is that of each cell, whose outputs are in [-0.65, 0.75]; the paper does not say how many
    cells its protected weights have.
    """
    networks = [_pruned(settings, seed) for seed in settings.training_seeds]
    stds = settings.pick(STDS_7, (0.01, 0.05, 0.5))
    noise_free = tuple(map(about, networks))
    entries = [Entry(NO_NOISE, std, noise_free, "accuracy", 93.65) for std in stds]
    entries += [
        Entry(
            UNPROTECTED, std, tuple(_perturbed(settings, network, std) for network in networks),
            paper=PAPER_7[UNPROTECTED].get(std),
        )
        for std in stds
    ]  # fmt: skip
    for name, strategy, cells, paper in (
        ("in cells, unprotected, 1 cell", EXACT, 1, {}),
        ("protected, 1 cell", REDUNDANCY, 1, PAPER_7["protected"]),
        ("protected, 3 cells", REDUNDANCY, 3, {}),
        ("protected, 10 cells", REDUNDANCY, 10, {}),
    ):
        for std in stds:
            cell = Channel(RANGE, RANGE, std, name="gaussian", synthetic=True).to_dict()
            jobs = tuple(
                _stored(settings, network, strategy, cells, channel=cell) for network in networks
            )
            entries.append(Entry(name, std, jobs, paper=paper.get(std)))
    label = "standard deviation of the noise"
    return [Table("Gaussian noise", "protection", label, ACCURACY, tuple(entries), log=True)]


def fig4(settings: Settings) -> list[Table]:
    """Accuracy of an 80 % pruned network (a) in cells and (b) under Gaussian noise.

    The curves of isik-table1 and isik-table7, whose results it shares.
    """
    return [table1(settings)[0], *table7(settings)]


def precision(settings: Settings) -> list[Table]:
    """Accuracy against the bits of the converters that write and read cells.

    The paper leaves open what limited precision costs. Signs are protected, mapping is adaptive,
    and the read converter comes before the average over cells.
    """
    networks = [_pruned(settings, seed) for seed in settings.training_seeds]
    channel = settings.channel.to_dict()
    writes = settings.pick((2, 3, 4, 5, 6, 8, 16), (2, 4, 16))
    reads = settings.pick((2, 3, 4, 5, 6, 8, 16), (2, 4, 16))
    tables = []
    for cells in settings.pick((1, 3, 10), (1, 3)):
        entries = []
        for write in writes:
            for read in reads:
                converters = {**channel, "write_bits": write, "read_bits": read}
                jobs = tuple(
                    _stored(settings, network, MAPPING, cells, channel=converters)
                    for network in networks
                )
                entries.append(Entry(f"write {write} bits", read, jobs))
        name = f"{cells} cell" + "s" * (cells > 1)
        tables.append(Table(name, "write", "bits of the read converter", ACCURACY, tuple(entries)))
    return tables


def fig3(settings: Settings) -> list[Table]:
    """Histogram of the weights before and after pruning 80 % of them.

    Each over the weights that are not zero; weights beyond the axis count at its ends.
    """
    limit, bins, small = 0.3, 60, 0.05
    centers = ((np.arange(bins) + 0.5) * (2 * limit / bins) - limit).round(6).tolist()
    arguments = {"limit": limit, "bins": bins, "small": small}

    def jobs(networks: Sequence[Recipe]) -> tuple[Job, ...]:
        return tuple(Job(histogram, arguments, n) for n in networks)

    pruned = [_pruned(settings, seed) for seed in settings.training_seeds]
    dense = [_network(settings, settings.model, seed) for seed in settings.training_seeds]
    parts = {"before pruning": jobs(dense), "80 % pruned": jobs(pruned)}
    shares = [
        Entry(name, center, found, f"shares/{i}")
        for name, found in parts.items()
        for i, center in enumerate(centers)
    ]
    papers = {("80 % pruned", "small"): 99.75, ("80 % pruned", "largest"): 0.6}
    papers["80 % pruned", "weights"] = 2_214_689
    figures = [
        Entry(name, column, found, value, papers.get((name, value)))
        for name, found in parts.items()
        for column, value in (
            ("weights", "weights"), ("largest magnitude", "largest"),
            (f"up to {small:g} (%)", "small"),
        )
    ]  # fmt: skip
    return [
        Table("Weights", "network", "weight", "share of the weights (%)", tuple(shares)),
        Table("Weights in figures", "network", "of", "see column", tuple(figures), drawn=False),
    ]


# --------------------------------------------------------------------------- the channel


def fig1(settings: Settings) -> list[Table]:
    """Characteristics of the cell: mean and standard deviation of its output.

    The tables of the channel, and 2000 cells drawn at each input.
    """
    arguments = {"channel": settings.channel.to_dict(), "points": 41, "draws": 2000, "seed": 0}
    job = (Job(response, arguments),)
    x = np.linspace(settings.channel.x[0], settings.channel.x[-1], 41).round(6).tolist()
    return [
        Table(
            title,
            "channel",
            "input",
            "output",
            tuple(
                Entry(row, column, job, f"{value}/{i}")
                for row, value in (("table", moment), ("drawn", f"drawn_{moment}"))
                for i, column in enumerate(x)
            ),
        )
        for title, moment in (("Mean", "mean"), ("Standard deviation", "std"))
    ]


def fig2(settings: Settings) -> list[Table]:
    """What is read of what was written through the inverse, for 1, 10 and 500 cells.

    phi = C(f(y)), f the inverse of the mean of the channel C: the identity with noise.
    """
    y = np.linspace(*settings.channel.range, 29).round(6).tolist()
    base = {"channel": settings.channel.to_dict(), "points": 29, "draws": 2000, "seed": 0}
    jobs = {cells: (Job(inverted, {**base, "cells": cells}),) for cells in (1, 10, 500)}
    return [
        Table(
            title,
            "cells",
            "written",
            "read",
            tuple(
                Entry(f"{cells} cell" + "s" * (cells > 1), column, job, f"drawn_{moment}/{i}")
                for cells, job in jobs.items()
                for i, column in enumerate(y)
            ),
        )
        for title, moment in (("Mean", "mean"), ("Standard deviation", "std"))
    ]


# --------------------------------------------------------------------------- distillation


def table2(settings: Settings) -> list[Table]:
    """Distilled residual networks under noise on their weights and in cells.

    N(0, 0.01) in training and test, N(0, 0.02) as the different noise, both standard deviations;
    4 cells a weight. Besides the paper's columns, rivals without a teacher.
    """
    return _distillation_tables(settings, PAPER_2)


def table9(settings: Settings) -> list[Table]:
    """Distilled perceptrons under noise on their weights and in cells.

    N(0, 0.1) in training and test, N(0, 0.2) as the different noise, both standard deviations;
    4 cells a weight. Besides the paper's columns, rivals without a teacher.
    """
    return _distillation_tables(settings, PAPER_9)


def _students(settings: Settings, seed: int, std: float) -> dict[str, Recipe]:
    """The networks of a distillation table by the names of their columns."""
    teacher = _network(settings, settings.teacher, seed, QUICK_NOISY_EPOCHS)
    student = _network(settings, settings.model, seed, QUICK_NOISY_EPOCHS)
    distilled = replace(student, teacher=teacher, distillation=KD)
    noise = {"eta": std, "norm": "absolute"}
    codec = Codec(settings.channel, cells=KD_CELLS, scope="model").to_dict()
    return {
        TEACHER: teacher,
        STUDENT: student,
        DISTILLED: distilled,
        NOISY: replace(distilled, noise=noise),
        CHANNEL: replace(distilled, noise={"codec": codec}),
        "noise, no KD": replace(student, noise=noise),
        "clipping": replace(student, noise={"eta": 0.0, "clip": 2.0}),
        **{
            f"consistency, {form}": replace(
                student, start=student, noise=noise, consistency={"form": form, "weight": weight}
            )
            for form, weight in CONSISTENCY.items()
        },
    }


def _distillation_tables(settings: Settings, paper: Mapping[str, Sequence[float]]) -> list[Table]:
    residual = "ResNet" in settings.model
    std = 0.01 if residual else 0.1
    networks = [_students(settings, seed, std) for seed in settings.training_seeds]
    papers = {
        (row, column): value
        for row, values in paper.items()
        for column, value in zip(PAPER_COLUMNS, values, strict=False)
    }
    conditions: dict[str, Any] = {
        NO_NOISE: about,
        NOISE: lambda recipe: _perturbed(settings, recipe, std),
        DIFFERENT: lambda recipe: _perturbed(settings, recipe, 2 * std),
    }

    def in_cells(strategy: Strategy) -> Any:
        return lambda recipe: _stored(settings, recipe, strategy, KD_CELLS, extra_cells=0.0)

    for strategy in STRATEGIES[1:]:
        conditions[CELLS + strategy.name] = in_cells(strategy)
    entries = [
        Entry(
            row,
            column,
            tuple(job(recipes[column]) for recipes in networks),
            "accuracy" if row == NO_NOISE else "accuracies",
            papers.get((row, column)),
        )
        for row, job in conditions.items()
        for column in networks[0]
    ]
    if residual:
        entries += [
            Entry(
                row,
                "KD, norm recalibrated",
                tuple(_perturbed(settings, r[DISTILLED], by, recalibrate=True) for r in networks),
            )
            for row, by in ((NOISE, std), (DIFFERENT, 2 * std))
        ]
    table = Table(
        "Distillation", "test", "network", ACCURACY, tuple(entries),
        note=f"Noise of standard deviation {std:g}, different noise of {2 * std:g}, on all "
        f"weights but not on biases. Channel noise in training: signs protected, adaptive "
        f"mapping, {KD_CELLS} cells. Consistency: from the trained student, with noise. "
        f"Redundancy: {KD_CELLS} cells on average or less.",
    )  # fmt: skip
    return [
        table,
        differences(
            table, f"Above {NOISY}", lambda row, column: (row, NOISY),
            "Networks of one architecture have the same noise and the same chips.",
        ),
    ]  # fmt: skip


# --------------------------------------------------------------------------- one cell a weight

MEAN_CELLS = (1.0, 1.1, 1.5, 2.1)
SCOPES: tuple[tuple[str, dict[str, Any], bool], ...] = (
    ("scale of the model", {"scope": "model"}, False),
    ("scales of tensors", {"scope": "tensor"}, False),
)
"""Codecs by name, with the options of each and whether sensitivities decide."""
CODECS: tuple[tuple[str, dict[str, Any], bool], ...] = (
    ("scale of the model, by sensitivity", {"scope": "model"}, True),
    ("scales of tensors, by sensitivity", {"scope": "tensor"}, True),
    ("scales of tensors, 4 ranges", {"scope": "tensor", "ranges": 4}, False),
)
"""Those for the network that was fine-tuned as usual only."""


def one_cell(settings: Settings) -> list[Table]:
    """How near to the noise-free accuracy an 80 % pruned network comes with 1 or 2 data cells.

    Besides the paper's one scale and threshold for the network: one for each tensor; thresholds
    and cells chosen by the diagonal Fisher information of the weights; four ranges of magnitude;
    and networks that were fine-tuned four times as long, or under the noise of the cells.
    """
    channel = settings.channel
    networks = [_pruned(settings, seed) for seed in settings.training_seeds]
    noise = {"codec": Codec(channel, scope="model").to_dict()}
    trained = {
        "": networks,
        "4 x fine-tuning, ": [replace(n, epochs=4 * n.epochs) for n in networks],
        "fine-tuned in cells, ": [replace(n, noise=noise) for n in networks],
    }
    entries, costs = [], []
    columns = settings.pick(MEAN_CELLS, MEAN_CELLS[::3])
    for network, found in trained.items():
        noise_free = tuple(map(about, found))
        entries += [
            Entry(f"{network}{NO_NOISE}", cells, noise_free, "accuracy") for cells in columns
        ]
        for name, options, weighted in SCOPES if network else (*SCOPES, *CODECS):
            for cells in columns:
                codec = Codec(channel, mean_cells=cells, **options).to_dict()
                arguments = {"codec": codec, "weighted": weighted, "repeats": _repeats(settings)}
                jobs = tuple(
                    Job(
                        measures.stored,
                        {**arguments, "seed": recipe.seed},
                        recipe,
                        passes=_repeats(settings),
                    )
                    for recipe in found
                )
                row = f"{network}{name}"
                entries.append(Entry(row, cells, jobs))
                costs.append(Entry(f"{row}, per stored weight", cells, jobs, "cost/per_stored"))
                costs.append(Entry(f"{row}, per original weight", cells, jobs, "cost/per_original"))
    label = "mean data cells per stored weight, at most"
    table = Table("Few cells", "codec", label, ACCURACY, tuple(entries))
    return [
        table,
        differences(
            table, "Above noise-free", lambda row, cells: (NO_NOISE, cells),
            "Of the network that was fine-tuned as usual.",
        ),
        Table(
            "Cost", "codec", label, "cells: data, side and index", tuple(costs), drawn=False
        ),
    ]  # fmt: skip


_PAPER = "Isik et al. 2020"
_RESNET = f"{_PAPER}, {{}}: ResNet-18 on CIFAR-10"
STUDIES = (
    Study("isik-table1", _RESNET.format("Table 1"), table1, "ResNet18", "LeNet"),
    Study(
        "isik-table2",
        f"{_PAPER}, Table 2: ResNet-18 and slim ResNet-20 on CIFAR-10",
        table2,
        "SlimResNet20",
        "MLP",
        "ResNet18",
        "LeNet",
    ),
    Study("isik-table7", _RESNET.format("Table 7"), table7, "ResNet18", "LeNet", in_cells=False),
    Study("isik-table8", f"{_PAPER}, Table 8: LeNet on MNIST", table8, "LeNet", "LeNet"),
    Study(
        "isik-table9",
        f"{_PAPER}, Table 9: LeNet and a perceptron on MNIST",
        table9,
        "MLP",
        "MLP",
        "LeNet",
        "LeNet",
    ),
    Study("isik-fig1", f"{_PAPER}, Figure 1: PCM", fig1),
    Study("isik-fig2", f"{_PAPER}, Figure 2: PCM", fig2),
    Study("isik-fig3", _RESNET.format("Figure 3"), fig3, "ResNet18", "LeNet", in_cells=False),
    Study("isik-fig4", _RESNET.format("Figure 4"), fig4, "ResNet18", "LeNet"),
    Study("isik-one-cell", f"{_PAPER}, claim: about 1 cell a weight", one_cell, "LeNet", "LeNet"),
    Study("isik-precision", f"{_PAPER}, open question of section 4", precision, "LeNet", "LeNet"),
)
"""Studies of the paper; NAME is that of the command ``noisycells study NAME``."""
