"""Accuracy against cells of every way to store one network: the study ``frontier``.

A network is trained, and a copy of it pruned by 80 %. That copy is stored by the strategies of Isik
et al. (2020), as plain integers, as levels, coded, and in single analog cells; further copies of
the dense network are trained for few bits and stored coded, and one is trained as long for accuracy
alone. Which setting of a way is taken is decided by the validation images, which are training
images that only choose epochs and settings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from .engine import (
    Derived,
    Entry,
    Job,
    Recipe,
    Settings,
    Study,
    Table,
    isik_recipe,
    pruned_recipe,
    rate_recipe,
)
from .frontier_jobs import integers, limit, noise_free, stored
from .frontier_view import CHOSEN, COLUMNS, NOISE_FREE, plot_frontier
from .measures import ACCURACY, QUICK_EPOCHS

__all__ = ["STUDIES"]

MEAN_CELLS = (1.1, 2.1, 3.1)
BITS = (8, 6, 5, 4)
BLOCK = 32
RADICES = ((4,), (3, 4), (4, 4), (3, 3))
PLANNED = (1.05, 1.15, 1.3)
"""Cells for digits by tensor, in those of one 4-level cell for all weights."""
ANALOG = ((1, 1, 1), (1, 4, 2), (4, 4, 2))
"""Reads, most pulses and verifying reads of each."""
STEPS = (0.08, 0.12, 0.16, 0.2, 0.25, 0.3, 0.4, 0.55, 0.8)
MARGINS = (1.0, 1.1)
RATES = (0.15, 0.3, 0.6)
DROPS = (0.1, 0.25, 0.5, 1.0)
CHOSEN_FIGURES = ("cells/original", "cells/stored", "test")
UNITS = "cells, accuracies in %, drops in points"


ROBUST: dict[str, dict[str, Any]] = {
    "paper, 1.1 data cells, real side cells": {
        "mode": "paper", "mean_cells": 1.1, "side_errors": True,
    },
    "levels, 3 x 4": {"mode": "levels", "radices": [3, 4], "noise_margin": 1.1},
    **{
        f"coded, step 0.12, margin {margin:g}": {
            "mode": "coded", "step": 0.12, "noise_margin": margin,
        }
        for margin in MARGINS
    },
}  # fmt: skip


def _noisier(factor: float, cell: dict[str, Any]) -> dict[str, Any]:
    """Cells whose noise is so many times the learnt one."""
    changed = {name: cell[name] for name in ("std", "read_std") if cell[name] is not None}
    return {**cell, **{n: (factor * np.array(values)).tolist() for n, values in changed.items()}}


def _drifted(share: float, cell: dict[str, Any]) -> dict[str, Any]:
    """Cells whose mean outputs have moved by a share of the way to the lowest."""
    mean = np.array(cell["mean"])
    return {**cell, "mean": (mean - share * (mean - mean.min())).tolist()}


DISTURBANCES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "as learnt": partial(_noisier, 1.0),
    "1.1 x noise": partial(_noisier, 1.1),
    "1.2 x noise": partial(_noisier, 1.2),
    "2 % drift": partial(_drifted, 0.02),
    "5 % drift": partial(_drifted, 0.05),
    "0.1 % stuck": lambda cell: {**cell, "stuck": [5e-4, 5e-4]},
}
"""How the true cells differ from those that codecs know."""


@dataclass(frozen=True)
class Point:
    """One setting of a way: the jobs of all training seeds, and which of their points it is."""

    name: str
    jobs: tuple[Job, ...]
    index: int = 0

    def entry(self, column: str, figure: str) -> Entry:
        """One figure of it."""
        return Entry(self.name, column, self.jobs, f"points/{self.index}/{figure}", optional=True)


@dataclass(frozen=True)
class Way:
    """One way to store a network: a curve of the figure.

    Parameters
    ----------
    name : str
    reference : tuple of Job
        Accuracies without noise that drops are against, one for each training seed.
    points : tuple of Point
    """

    name: str
    reference: tuple[Job, ...]
    points: tuple[Point, ...]

    def drop(self, point: Point) -> Derived:
        """Points of test accuracy below the network without noise."""
        inputs = (self.noise_free("test"), point.entry("", "test"))
        return Derived(point.name, "drop", inputs, _mean_drop)

    def noise_free(self, part: str) -> Entry:
        """Accuracy of the network that drops are against."""
        return Entry("", "", self.reference, part)

    def table(self) -> Table:
        """All its settings."""
        entries: list[Entry | Derived] = []
        for point in self.points:
            entries += [point.entry(column, figure) for column, figure in COLUMNS.items()]
            entries.append(self.drop(point))
        return Table(self.name, "setting", "figure", UNITS, tuple(entries))

    def chosen(self, most: float) -> list[Derived]:
        """Figures of the setting that the validation images choose."""
        validation = [point.entry("", "validation") for point in self.points]
        cells = [point.entry("", "per_original") for point in self.points]
        row, reference = f"{self.name}, {most:g}", self.noise_free("validation")
        wanted: dict[str, list[Entry] | list[Derived]] = {
            column: [point.entry("", COLUMNS[column]) for point in self.points]
            for column in CHOSEN_FIGURES
        }
        wanted["drop"] = [self.drop(point) for point in self.points]
        choose = partial(_choose, most)
        return [
            Derived(row, column, (reference, *validation, *cells, *figures), choose)
            for column, figures in wanted.items()
        ]


def _mean_drop(runs: list[list[float]]) -> list[float]:
    noise_free, test = runs
    return [float(np.mean(noise_free) - np.mean(test))]


def _choose(most: float, runs: list[list[float]]) -> list[float]:
    """The figure of the setting of fewest cells that costs the validation images at most so much.

    Where there is none, of the one that is best for them.
    """
    reference, means = float(np.mean(runs[0])), [float(np.mean(run)) for run in runs[1:]]
    count = len(means) // 3
    validation, cells, wanted = (means[i : i + count] for i in range(0, 3 * count, count))
    good = [i for i in range(count) if validation[i] >= reference - most]
    best = min(good, key=cells.__getitem__) if good else int(np.argmax(validation))
    return [wanted[best]]


# --------------------------------------------------------------------------- ways


@dataclass(frozen=True)
class _Plan:
    """What all ways need: settings, and the networks of all training seeds."""

    settings: Settings
    dense: tuple[Recipe, ...]
    pruned: tuple[Recipe, ...]

    @property
    def common(self) -> dict[str, Any]:
        repeats = self.settings.repeats or self.settings.pick(10, 5)
        return {"channel": self.settings.channel.to_dict(), "repeats": repeats}

    def way(
        self, name: str, function: Any, names: Sequence[str], recipes: Sequence[Recipe],
        **arguments: Any,
    ) -> Way:  # fmt: skip
        """A way whose settings are all of one job."""
        passes = self.common["repeats"] * len(names)
        jobs = tuple(Job(function, {**self.common, **arguments}, r, passes) for r in recipes)
        reference = tuple(Job(noise_free, recipe=recipe) for recipe in recipes)
        return Way(name, reference, tuple(Point(n, jobs, i) for i, n in enumerate(names)))

    def papers(self) -> list[Way]:
        """The strategies of the paper, sign and range bits read without error or as cells are."""
        found = []
        for errors in (False, True):
            chosen = [
                {"mode": "paper", "mean_cells": cells, "side_errors": errors}
                for cells in self.settings.pick(MEAN_CELLS, MEAN_CELLS[:1])
            ]
            name = "paper, real side cells" if errors else "paper, ideal side cells"
            names = [f"{c['mean_cells']:g} data cells" for c in chosen]
            found.append(self.way(name, stored, names, self.pruned, settings=chosen))
        return found

    def integers(self) -> list[Way]:
        """Plain ones in 1- and 2-bit cells, of all weights and of those kept beside a mask."""
        found = []
        for masked in (False, True):
            for levels in (2, 4):
                chosen = [
                    {"bits": bits, "levels": levels, "block": block}
                    for block in (None, BLOCK)
                    for bits in self.settings.pick(BITS, BITS[::3])
                ]
                names = [
                    f"{c['bits']} bits, " + (f"blocks of {BLOCK}" if c["block"] else "rows")
                    for c in chosen
                ]
                name = f"integers{' and mask' * masked}, {levels.bit_length() - 1}-bit cells"
                own = {"settings": chosen, "masked": masked}
                found.append(self.way(name, integers, names, self.pruned, **own))
        return found

    def levels(self) -> Way:
        """Digits straight in cells, the same for all tensors or as planned for each."""
        radices = self.settings.pick(RADICES, RADICES[:1])
        planned = self.settings.pick(PLANNED, PLANNED[1:2])
        common = {"mode": "levels", "noise_margin": 1.1}
        chosen: list[dict[str, Any]] = [{**common, "radices": list(r)} for r in radices]
        chosen += [{**common, "planned": factor} for factor in planned]
        names = [" x ".join(map(str, r)) for r in radices]
        names += [f"planned for {factor:g} x the cells of 4" for factor in planned]
        return self.way("levels", stored, names, self.pruned, settings=chosen)

    def analog(self) -> list[Way]:
        """One cell a weight in a closed loop, where the device's reads are known apart."""
        if self.settings.channel.read_std is None:
            return []
        chosen = [
            {"mode": "analog", "reads": reads, "pulses": pulses, "verify_reads": verified}
            for reads, pulses, verified in self.settings.pick(ANALOG, ANALOG[:1])
        ]
        names = [
            f"{c['reads']} reads, {c['pulses']} pulses, {c['verify_reads']} verifying"
            for c in chosen
        ]
        return [self.way("analog, 1 cell", stored, names, self.dense, settings=chosen)]

    def coded(self) -> list[Way]:
        """Behind a code made for the nominal noise, and for a tenth more."""
        steps = self.settings.pick(STEPS, STEPS[::4])
        return [
            self.way(
                f"coded, margin {margin:g}", stored, [f"step {step:g}" for step in steps],
                self.pruned,
                settings=[{"mode": "coded", "step": s, "noise_margin": margin} for s in steps],
            )
            for margin in MARGINS
        ]  # fmt: skip

    def trained_for_bits(self) -> list[Way]:
        """Networks trained for few bits, coded; drops are against the dense network."""
        reference = tuple(Job(noise_free, recipe=recipe) for recipe in self.dense)
        found = []
        for margin in MARGINS:
            points = []
            for weight in self.rates:
                chosen = [{"mode": "coded", "step": "learnt", "noise_margin": margin}]
                jobs = tuple(
                    Job(stored, {**self.common, "settings": chosen}, self.rate(r, weight), 1)
                    for r in self.dense
                )
                points.append(Point(f"rate weight {weight:g}", jobs))
            found.append(Way(f"rate-trained, margin {margin:g}", reference, tuple(points)))
        return found

    def limit(self) -> Way:
        """Shannon's, for independent errors."""
        steps = self.settings.pick(STEPS, STEPS[::4])
        return self.way(
            "Shannon limit, independent errors", limit, [f"step {step:g}" for step in steps],
            self.pruned, steps=list(steps),
        )  # fmt: skip

    def robustness(self) -> list[Table]:
        """Cells that are not as they were learnt: accuracies, and reads that fail."""
        known = self.settings.channel.to_dict()
        entries: dict[str, list[Entry | Derived]] = {"test": [], "failed": []}
        for way, setting in ROBUST.items():
            for disturbance, change in DISTURBANCES.items():
                cells = {"channel": change(known), "learnt": known}
                arguments = {**self.common, **cells, "settings": [setting]}
                jobs = tuple(Job(stored, arguments, r, arguments["repeats"]) for r in self.pruned)
                point = Point(way, jobs)
                for figure, found in entries.items():
                    found.append(point.entry(disturbance, figure))
        note = "A failed read counts as 0 %."
        titles = {"test": "Cells other than learnt", "failed": "Reads that fail in such cells"}
        return [
            Table(
                titles[figure], "way", "cells", ACCURACY if figure == "test" else "reads",
                tuple(found), note=note, drawn=False,
            )
            for figure, found in entries.items()
        ]  # fmt: skip

    @property
    def rates(self) -> tuple[float, ...]:
        return self.settings.pick(RATES, RATES[1:2])

    def rate(self, dense: Recipe, weight: float) -> Recipe:
        """A dense network trained further."""
        return rate_recipe(dense, weight, self.settings.epochs if self.settings.quick else None)

    def noise_free(self) -> Table:
        """Networks as they were trained."""
        named = {
            "dense": self.dense,
            "dense, trained as long as those for few bits": [self.rate(r, 0.0) for r in self.dense],
            "pruned": self.pruned,
            **{
                f"trained for few bits, rate weight {w:g}": [self.rate(r, w) for r in self.dense]
                for w in self.rates
            },
        }
        entries: list[Entry | Derived] = []
        for row, recipes in named.items():
            jobs = tuple(Job(noise_free, recipe=recipe, passes=1) for recipe in recipes)
            found = [Entry(row, f"{part} accuracy", jobs, part) for part in ("validation", "test")]
            dense = Entry("", "", tuple(Job(noise_free, recipe=r) for r in self.dense), "test")
            entries += [*found, Derived(row, "drop", (dense, found[1]), _mean_drop)]
        return Table(NOISE_FREE, "network", "figure", "%", tuple(entries), drawn=False)


def tables(settings: Settings) -> list[Table]:
    """Accuracy against all cells of an original weight, for every way to store a network.

    One network, 80 % pruned: the strategies of Isik et al. (2020) with side cells that are read
    without and with errors, plain integers, levels, coded, and what Shannon's limit asks for. The
    dense network: one analog cell a weight, and trained for few bits, then coded, beside a copy
    trained as long for accuracy alone. Everything is counted in cells: mask, signs, scales,
    biases, checksums.
    """
    epochs = settings.epochs or settings.pick(30, QUICK_EPOCHS)
    dense = tuple(
        isik_recipe(settings.source, settings.model, seed, epochs, **settings.hardware)
        for seed in settings.training_seeds
    )
    plan = _Plan(settings, dense, tuple(map(pruned_recipe, dense)))
    ways = [
        *plan.papers(), *plan.integers(), *plan.analog(), plan.levels(), *plan.coded(),
        *plan.trained_for_bits(),
    ]  # fmt: skip
    chosen = [entry for way in ways for most in DROPS for entry in way.chosen(most)]
    note = (
        "The setting of fewest cells whose validation accuracy is at most so many points below "
        "that without noise; where there is none, the one of the best validation accuracy. Drops "
        "are points of test accuracy below the pruned network, or the dense one where it was "
        "trained for few bits or is in analog cells."
    )
    return [
        plan.noise_free(),
        *(way.table() for way in (*ways, plan.limit())),
        *plan.robustness(),
        Table(
            CHOSEN, "way, at most", "figure", "see column", tuple(chosen), note=note, drawn=False
        ),
    ]


STUDIES = (
    Study(
        "frontier", "fewest cells for a network, everything counted", tables, "LeNet", "LeNet",
        draw=plot_frontier,
    ),
)  # fmt: skip
"""NAME is that of the command ``noisycells study NAME``."""
