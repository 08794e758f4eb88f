"""A user's own grid of networks, cells or crossbars, and seeds, from a file."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .. import _arguments, devices
from .._arguments import wrong_value
from ..crossbar import CrossbarSpec
from ..storage import Codec
from . import measures
from .engine import Settings, Study
from .engine.jobs import Job
from .engine.recipes import Source, isik_recipe, pruned_recipe
from .engine.tables import Entry, Table
from .engine.training import build, inject

__all__ = ["Grid", "read_grid"]

KINDS = ("codec", "noise", "crossbar")
"""What is done with a network: stored in cells, noise put on its weights, or computed with."""
KEYS = ("name", "data", "subset", "test_subset", "seeds", "repeats", "network", "devices", *KINDS,
        "columns")  # fmt: skip


@dataclass(frozen=True)
class Grid:
    """What a file of a sweep says.

    Parameters
    ----------
    name : str
    source : Source
    seeds : tuple of int
    repeats : int
    kind : {"codec", "noise", "crossbar"}
    axes : dict of str to list
        Values of every setting by its dotted name, such as ``codec.cells``; one value where it
        does not vary.
    columns : str
        The setting that the columns of the table are; the others make its rows.
    """

    name: str
    source: Source
    seeds: tuple[int, ...]
    repeats: int
    kind: str
    axes: dict[str, list[Any]]
    columns: str

    @property
    def study(self) -> Study:
        """The grid as a study; its networks, cells and seeds are its own."""

        def tables(settings: Settings) -> list[Table]:
            return self.tables(settings.hardware)

        tables.__doc__ = f"Sweep: {self.name}."
        return Study(f"sweep-{self.name}", "a grid of one's own", tables, in_cells=False)

    def settings(self, **hardware: Any) -> Settings:
        """Settings for :func:`noisycells.studies.engine.study.run_study`.

        ``hardware`` is its ``compute`` and ``precision``.
        """
        stored = self.kind == "codec"
        channel = devices.cell(self.axes["devices"][0] if stored else "pcm_array")  # else not used
        return Settings(
            self.source, channel, seed=self.seeds[0], seeds=len(self.seeds),
            repeats=self.repeats, **hardware,
        )  # fmt: skip

    def tables(self, hardware: Mapping[str, str]) -> list[Table]:
        """The table of the grid."""
        varied = [name for name, values in self.axes.items() if len(values) > 1]
        entries, costs = [], []
        for values in itertools.product(*self.axes.values()):
            point = dict(zip(self.axes, values, strict=True))
            row = ", ".join(
                f"{name.rpartition('.')[2]} {point[name]}"
                for name in varied
                if name != self.columns
            )
            column = point[self.columns]
            if not isinstance(column, (int, float)) or isinstance(column, bool):
                column = str(column)
            jobs = tuple(self._job(point, seed, hardware) for seed in self.seeds)
            entries.append(Entry(row or "all", column, jobs))
            if self.kind == "codec":
                costs.append(Entry(row or "all", column, jobs, "cost/per_stored"))
        fixed = {name: values[0] for name, values in self.axes.items() if len(values) == 1}
        note = ", ".join(f"{name} {value}" for name, value in fixed.items() if value is not None)
        about = ("settings", self.columns, "test accuracy (%)")
        tables = [Table("Sweep", *about, tuple(entries), note=note)]
        if costs:
            tables.append(
                Table(
                    "Cost", "settings", self.columns, "cells per stored weight: data, side, index",
                    tuple(costs), drawn=False,
                )
            )  # fmt: skip
        return tables

    def _job(self, point: Mapping[str, Any], seed: int, hardware: Mapping[str, str]) -> Job:
        network = dict(_part(point, "network"))
        model, epochs, pruned = (network.pop(key, None) for key in ("model", "epochs", "pruned"))
        recipe = isik_recipe(self.source, model or "LeNet", seed, epochs, **hardware)
        recipe = replace(recipe, **network)
        if pruned:
            recipe = pruned_recipe(recipe, pruned)
        common = {"repeats": self.repeats, "seed": seed}
        settings = dict(_part(point, self.kind))
        if self.kind == "noise":
            return Job(measures.perturbed, {"noise": settings, **common}, recipe, self.repeats)
        if self.kind == "codec":
            codec = Codec(devices.cell(point["devices"]), **settings).to_dict()
            return Job(measures.stored, {"codec": codec, **common}, recipe, self.repeats)
        device, seconds = _device(point["devices"]), settings.pop("seconds")
        if seconds is not None:
            device.aging(seconds)  # refuses times at which it was not measured
        chips = {"device": device.to_dict(), "seconds": seconds}
        spec = CrossbarSpec.from_dict(settings).to_dict()
        return Job(measures.computed, {**chips, "spec": spec, **common}, recipe, self.repeats)


def _device(name: str) -> devices.Device:
    found = devices.find(name)
    if not isinstance(found, devices.Device):
        raise wrong_value("devices", "one that computes", f"{name}, a cell that stores")
    return found


def _part(point: Mapping[str, Any], part: str) -> Iterator[tuple[str, Any]]:
    """Settings of one part by their names without it."""
    for name, value in point.items():
        head, _, key = name.partition(".")
        if key and head == part:
            yield key, value


def read_grid(file: Path) -> Grid:
    """Read a grid from a TOML or JSON file.

    Keys: ``data``, ``subset``, ``test_subset``, ``name`` (default: of the file), ``seeds``,
    ``repeats``, ``devices`` and ``columns``; the tables ``network`` (``model``, ``epochs``,
    ``pruned`` and other fields of a :class:`~noisycells.studies.engine.recipes.Recipe`), ``codec``
    (arguments of :class:`noisycells.Codec`). In place of codec, ``crossbar`` (fields of
    :class:`noisycells.CrossbarSpec` and ``seconds`` since programming); in place of devices and
    codec, ``noise`` (arguments of :func:`noisycells.torch.inject_noise`). Every list of values in
    these tables and in ``devices`` is an axis of the grid; a list within a list is one value.

    Raises
    ------
    ValueError
        If the file is not valid, has a key that is not known, or a setting that is refused.
    ModuleNotFoundError
        If it is TOML, Python is older than 3.11 and tomli is not installed.
    """
    values = _read(file)
    unknown = sorted(set(values) - set(KEYS))
    if unknown:
        raise wrong_value(file, f"keys of {', '.join(KEYS)}", ", ".join(unknown))
    for part in ("network", *KINDS):
        if not isinstance(values.get(part, {}), dict):
            raise wrong_value(f"{file}: {part}", "a table", repr(values[part]))
    kinds = [kind for kind in KINDS if kind in values] or ["codec"]
    if len(kinds) > 1:
        raise wrong_value(file, f"one of {', '.join(KINDS)}", " and ".join(kinds))
    (kind,) = kinds
    if kind == "noise" and "devices" in values:
        raise wrong_value(file, "noise, or devices and codec", "both")
    axes = _axes(file, values, kind)
    varied = [name for name, axis in axes.items() if len(axis) > 1]
    columns = values.get("columns", varied[-1] if varied else [*axes][-1])
    _arguments.choice(f"{file}: columns", columns, list(axes))
    seeds = values.get("seeds", [0])
    seeds = seeds if isinstance(seeds, list) else [seeds]
    if not seeds or not all(isinstance(seed, int) for seed in seeds):
        raise wrong_value(f"{file}: seeds", "whole numbers, at least one", seeds)
    source = Source.of(
        values.get("data", "digits"), values.get("subset"), values.get("test_subset")
    )
    name = str(values.get("name", file.stem))
    if name != Path(name).name:
        raise wrong_value(f"{file}: name", "one that a file may have", repr(name))
    grid = Grid(
        name, source, tuple(seeds),
        values.get("repeats", 10), kind, axes, columns,
    )  # fmt: skip
    try:  # what codecs, recipes and noise refuse is refused before anything is trained
        grid.settings()
        for entry in grid.tables({})[0].entries:
            job = entry.jobs[0]
            if kind == "noise" and job.recipe is not None:
                inject(build(job.recipe, source.load()), job.arguments["noise"], seed=0)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{file}: {error}") from error
    return grid


def _axes(file: Path, values: Mapping[str, Any], kind: str) -> dict[str, list[Any]]:
    """Values of every setting by its dotted name."""
    axes = {
        f"{part}.{name}": value if isinstance(value, list) else [value]
        for part in ("network", kind)
        for name, value in values.get(part, {}).items()
    }
    if kind == "noise" and "noise.eta" not in axes:
        raise wrong_value(f"{file}: noise", "a setting eta", ", ".join(values["noise"]))
    if kind == "crossbar":
        axes.setdefault("crossbar.seconds", [None])
    if kind != "noise":
        found = values.get("devices", "pcm_array" if kind == "codec" else "pcm_joshi2020")
        axes["devices"] = found if isinstance(found, list) else [found]
    empty = [name for name, axis in axes.items() if not axis]
    if empty:
        raise wrong_value(f"{file}: {empty[0]}", "at least one value", "none")
    return axes


def _read(file: Path) -> dict[str, Any]:
    text = file.read_text(encoding="utf-8")
    try:
        if file.suffix == ".json":
            values = json.loads(text)
        else:
            values = _toml()(text)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    if not isinstance(values, dict):
        raise wrong_value(file, "a JSON object", type(values).__name__)
    return values


def _toml() -> Any:
    """The parser that came with Python in 3.11, or the package it came from."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib  # type: ignore[import-not-found]
    return tomllib.loads
