"""Cells and weights as they are: Figures 1 to 3 of Isik et al. (2020)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import random
from ..channel import Channel
from . import isik
from .engine import Entry, Job, Recipe, Settings, Study, Table, Trained, job

__all__ = ["STUDIES"]


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


def fig3(settings: Settings) -> list[Table]:
    """Histogram of the weights before and after pruning 80 % of them.

    Each over the weights that are not zero; weights beyond the axis count at its ends.
    """
    limit, bins, small = 0.3, 60, 0.05
    centers = ((np.arange(bins) + 0.5) * (2 * limit / bins) - limit).round(6).tolist()
    arguments = {"limit": limit, "bins": bins, "small": small}

    def jobs(networks: Sequence[Recipe]) -> tuple[Job, ...]:
        return tuple(Job(histogram, arguments, n) for n in networks)

    pruned = [isik.pruned(settings, seed) for seed in settings.training_seeds]
    dense = [isik.network(settings, settings.model, seed) for seed in settings.training_seeds]
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


STUDIES = (
    Study("isik-fig1", f"{isik.PAPER}, Figure 1: PCM", fig1),
    Study("isik-fig2", f"{isik.PAPER}, Figure 2: PCM", fig2),
    Study(
        "isik-fig3",
        f"{isik.PAPER}, Figure 3: ResNet-18 on CIFAR-10",
        fig3,
        "ResNet18",
        "LeNet",
        in_cells=False,
    ),
)
"""Studies of the paper; NAME is that of the command ``noisycells study NAME``."""
