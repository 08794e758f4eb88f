"""A study of two small networks in two kinds of cells, for tests of what studies run on."""

from __future__ import annotations

import dataclasses
from typing import Any

import noisycells as nc
from noisycells.studies import measures
from noisycells.studies.engine import (
    Entry,
    Job,
    Recipe,
    Settings,
    Source,
    Study,
    Table,
    isik_recipe,
    pruned_recipe,
)


def mlp(source: Source, seed: int = 0, **changes: Any) -> Recipe:
    return dataclasses.replace(
        isik_recipe(source, "MLP", seed, epochs=1), **{"batch": 30, **changes}
    )


def two_networks(settings: Settings) -> list[Table]:
    """Two networks in two kinds of cells."""
    entries = []
    for cells in (1, 4):
        codec = nc.Codec(settings.channel, cells=cells).to_dict()
        arguments = {"codec": codec, "repeats": settings.repeats, "seed": 0}
        jobs = tuple(
            Job(
                measures.stored,
                arguments,
                pruned_recipe(mlp(settings.source, seed)),
                passes=2,
            )
            for seed in settings.training_seeds
        )
        entries.append(Entry("stored", cells, jobs))
    return [Table("Table", "row", "cells", "test accuracy (%)", tuple(entries))]


STUDY = Study("two", "no paper", two_networks, "MLP", "MLP")
