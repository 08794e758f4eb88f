"""A way to store a network in the study ``frontier``: its settings, and which of them is chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from .engine import Derived, Entry, Job, Recipe, Table
from .frontier_view import COLUMNS

__all__ = ["Network", "Point", "Way", "mean_drop"]


@dataclass(frozen=True)
class Network:
    """A network of jobs: the recipe of a classifier, or what names an encoder.

    Parameters
    ----------
    recipe : Recipe, optional
    encoder : mapping, optional
        Arguments of :class:`noisycells.studies.frontier_subjects.Encoded`.
    """

    recipe: Recipe | None = None
    encoder: Mapping[str, Any] | None = None

    def job(
        self, function: Callable[..., Any], arguments: Mapping[str, Any] | None = None,
        passes: int = 1,
    ) -> Job:  # fmt: skip
        """A job with this network."""
        named = {} if self.encoder is None else {"encoder": self.encoder}
        return Job(function, {**(arguments or {}), **named}, self.recipe, passes)


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
        Figures without noise that drops are against, one for each training seed.
    points : tuple of Point
    units : str
        Of the figures.
    control : tuple of Job, optional
        Accuracies without noise of networks trained as long as these, for accuracy alone.
    """

    name: str
    reference: tuple[Job, ...]
    points: tuple[Point, ...]
    units: str
    control: tuple[Job, ...] | None = None

    def drop(self, point: Point) -> Derived:
        """By how much the test figure is below that of the network without noise."""
        inputs = (self.noise_free("test"), point.entry("", "test"))
        return Derived(point.name, "drop", inputs, mean_drop)

    def noise_free(self, part: str) -> Entry:
        """The figure of the network that drops are against."""
        return Entry("", "", self.reference, part)

    def table(self) -> Table:
        """All its settings."""
        entries: list[Entry | Derived] = []
        for point in self.points:
            entries += [point.entry(column, figure) for column, figure in COLUMNS.items()]
            entries.append(self.drop(point))
            if self.control is not None:
                inputs = (Entry("", "", self.control, "test"), point.entry("", "test"))
                entries.append(Derived(point.name, "below control", inputs, mean_drop))
        return Table(self.name, "setting", "figure", self.units, tuple(entries))

    def chosen(self, most: float, columns: Sequence[str]) -> list[Derived]:
        """Some columns, and the drop, of the setting that the validation data choose."""
        validation = [point.entry("", "validation") for point in self.points]
        cells = [point.entry("", "per_original") for point in self.points]
        row, reference = f"{self.name}, {most:g}", self.noise_free("validation")
        wanted: dict[str, list[Entry] | list[Derived]] = {
            column: [point.entry("", COLUMNS[column]) for point in self.points]
            for column in columns
        }
        wanted["drop"] = [self.drop(point) for point in self.points]
        choose = partial(_choose, most)
        return [
            Derived(row, column, (reference, *validation, *cells, *figures), choose)
            for column, figures in wanted.items()
        ]


def mean_drop(runs: list[list[float]]) -> list[float]:
    """By how much the second is below the first, in the mean."""
    noise_free, test = runs
    return [float(np.mean(noise_free) - np.mean(test))]


def _choose(most: float, runs: list[list[float]]) -> list[float]:
    """The figure of the setting of fewest cells that costs the validation data at most so much.

    Where there is none, of the one that is best for them.
    """
    reference, means = float(np.mean(runs[0])), [float(np.mean(run)) for run in runs[1:]]
    count = len(means) // 3
    validation, cells, wanted = (means[i : i + count] for i in range(0, 3 * count, count))
    good = [i for i in range(count) if validation[i] >= reference - most]
    best = min(good, key=cells.__getitem__) if good else int(np.argmax(validation))
    return [wanted[best]]
