"""Pruned networks in cells: Tables 1, 7 and 8 and Figure 4 of Isik et al. (2020), and more.

Each function makes the tables of one table or figure of the paper.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

from ..channel import Channel
from ..storage import Codec
from . import isik, measures
from .engine import Entry, Job, Settings, Study, Table, about, differences
from .measures import ACCURACY, NO_NOISE
from .strategies import STRATEGIES

__all__ = ["STUDIES"]

RANGE = (-0.65, 0.75)  # of the paper's channel, its Fig. 2
EXACT, LEARNT, SIGN, MAPPING, REDUNDANCY = STRATEGIES
SIDE_ERRORS = replace(REDUNDANCY, name="+ errors of side bits", side_errors=True)

CELLS_1 = (30, 20, 10, 5, 3, 2, 1)
PAPER_1: dict[str, dict[int, float]] = {
    NO_NOISE: {30: 93.65, 20: 93.65, 10: 93.65, 5: 93.65, 3: 93.65, 2: 93.65, 1: 93.65},
    LEARNT.name: {30: 9.46, 20: 10.21, 10: 10.18, 5: 8.76, 3: 9.92, 2: 13.03, 1: 10.08},
    SIGN.name: {30: 90.85, 20: 89.61, 10: 74.97, 5: 20.38, 3: 11.07, 2: 10.11, 1: 9.0},
    MAPPING.name: {30: 93.12, 20: 92.98, 10: 92.41, 5: 91.68, 3: 91.44, 2: 91.42, 1: 84.85},
    REDUNDANCY.name: {30: 93.45, 20: 92.98, 10: 92.96, 5: 93.65, 3: 93.05, 2: 93.32, 1: 93.11},
}
CELLS_8 = (30, 20, 10, 5, 3)
PAPER_8: dict[str, dict[int, float]] = {
    NO_NOISE: {30: 98.7, 20: 98.7, 10: 98.7, 5: 98.7, 3: 98.7},
    LEARNT.name: {30: 10.32, 20: 10.3, 10: 10.32, 5: 10.32, 3: 10.32},
    SIGN.name: {30: 98.7, 20: 98.74, 10: 98.66, 5: 98.71, 3: 98.39},
    MAPPING.name: {30: 98.75, 20: 98.77, 10: 98.72, 5: 98.81, 3: 98.65},
    REDUNDANCY.name: {30: 98.75, 20: 98.74, 10: 98.79, 5: 98.73, 3: 98.66},
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
    paper: Mapping[str, Mapping[int, float]],
) -> list[Table]:
    networks = [isik.pruned(settings, seed) for seed in settings.training_seeds]
    columns = settings.pick(usual, quick)
    noise_free = tuple(map(about, networks))

    def papers(row: str, cells: int) -> float | None:
        return paper.get(row, {}).get(cells)

    entries = [
        Entry(NO_NOISE, cells, noise_free, "accuracy", papers(NO_NOISE, cells)) for cells in columns
    ]
    costs = []
    for strategy in (*STRATEGIES, SIDE_ERRORS):
        for cells in columns:
            jobs = tuple(isik.stored(settings, network, strategy, cells) for network in networks)
            name = strategy.name
            entries.append(Entry(name, cells, jobs, paper=papers(name, cells)))
            costs.append(Entry(f"{name}, per stored weight", cells, jobs, "cost/per_stored"))
            costs.append(Entry(f"{name}, per original weight", cells, jobs, "cost/per_original"))
    naive = [Entry(NO_NOISE, cells, noise_free, "accuracy") for cells in NAIVE_CELLS] + [
        Entry(
            strategy.name, cells, tuple(isik.stored(settings, n, strategy, cells) for n in networks)
        )
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
    networks = [isik.pruned(settings, seed) for seed in settings.training_seeds]
    stds = settings.pick(STDS_7, (0.01, 0.05, 0.5))
    noise_free = tuple(map(about, networks))
    entries = [Entry(NO_NOISE, std, noise_free, "accuracy", 93.65) for std in stds]
    entries += [
        Entry(
            UNPROTECTED, std, tuple(isik.perturbed(settings, network, std) for network in networks),
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
                isik.stored(settings, network, strategy, cells, channel=cell)
                for network in networks
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
    networks = [isik.pruned(settings, seed) for seed in settings.training_seeds]
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
                    isik.stored(settings, network, MAPPING, cells, channel=converters)
                    for network in networks
                )
                entries.append(Entry(f"write {write} bits", read, jobs))
        name = f"{cells} cell" + "s" * (cells > 1)
        tables.append(Table(name, "write", "bits of the read converter", ACCURACY, tuple(entries)))
    return tables


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
    networks = [isik.pruned(settings, seed) for seed in settings.training_seeds]
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
                arguments = {
                    "codec": codec,
                    "weighted": weighted,
                    "repeats": isik.repeats(settings),
                }
                jobs = tuple(
                    Job(
                        measures.stored,
                        {**arguments, "seed": recipe.seed},
                        recipe,
                        passes=isik.repeats(settings),
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


_PAPER = isik.PAPER
_RESNET = f"{_PAPER}, {{}}: ResNet-18 on CIFAR-10"
STUDIES = (
    Study("isik-table1", _RESNET.format("Table 1"), table1, "ResNet18", "LeNet"),
    Study("isik-table7", _RESNET.format("Table 7"), table7, "ResNet18", "LeNet", in_cells=False),
    Study("isik-table8", f"{_PAPER}, Table 8: LeNet on MNIST", table8, "LeNet", "LeNet"),
    Study("isik-fig4", _RESNET.format("Figure 4"), fig4, "ResNet18", "LeNet"),
    Study("isik-one-cell", f"{_PAPER}, claim: about 1 cell a weight", one_cell, "LeNet", "LeNet"),
    Study("isik-precision", f"{_PAPER}, open question of section 4", precision, "LeNet", "LeNet"),
)
"""Studies of the paper; NAME is that of the command ``noisycells study NAME``."""
