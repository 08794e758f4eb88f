"""Distilled networks: Tables 2 and 9 of Isik et al. (2020)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..storage import Codec
from . import isik
from .engine import Entry, Recipe, Settings, Study, Table, about, differences
from .measures import ACCURACY, CONSISTENCY, ISIK_KD, NO_NOISE
from .strategies import STRATEGIES, Strategy

__all__ = ["STUDIES"]

KD_CELLS = 4
QUICK_EPOCHS = 60  # from nothing, under noise, on few images
_, LEARNT, SIGN, MAPPING, REDUNDANCY = STRATEGIES
TEACHER, STUDENT, DISTILLED, NOISY, CHANNEL = (
    "teacher", "student", "KD", "KD + noise", "KD + channel noise"
)  # fmt: skip
NOISE, DIFFERENT, CELLS = "+ noise", "+ different noise", "cells: "
PAPER_2: dict[str, dict[str, float]] = {
    NO_NOISE: {TEACHER: 95.7, STUDENT: 92.5, DISTILLED: 92.9, NOISY: 93.0},
    NOISE: {TEACHER: 85.4, STUDENT: 88.1, DISTILLED: 89.2, NOISY: 90.3},
    DIFFERENT: {TEACHER: 10.5, STUDENT: 51.0, DISTILLED: 68.4, NOISY: 76.5},
    CELLS + LEARNT.name: {TEACHER: 9.9, STUDENT: 9.4, DISTILLED: 9.8, NOISY: 10.3},
    CELLS + SIGN.name: {TEACHER: 40.5, STUDENT: 11.0, DISTILLED: 10.6, NOISY: 15.6},
    CELLS + MAPPING.name: {TEACHER: 94.4, STUDENT: 69.0, DISTILLED: 62.0, NOISY: 76.6},
    CELLS + REDUNDANCY.name: {TEACHER: 94.7, STUDENT: 89.5, DISTILLED: 91.1, NOISY: 91.7},
}
PAPER_9: dict[str, dict[str, float]] = {
    NO_NOISE: {TEACHER: 99.2, STUDENT: 97.5, DISTILLED: 97.8, NOISY: 96.3, CHANNEL: 97.7},
    NOISE: {TEACHER: 73.9, STUDENT: 80.0, DISTILLED: 86.0, NOISY: 94.4, CHANNEL: 75.9},
    DIFFERENT: {TEACHER: 21.0, STUDENT: 33.5, DISTILLED: 27.2, NOISY: 80.7, CHANNEL: 33.8},
    CELLS + LEARNT.name: {TEACHER: 11.6, STUDENT: 8.3, DISTILLED: 10.1, NOISY: 9.8, CHANNEL: 9.8},
    CELLS + SIGN.name: {TEACHER: 99.0, STUDENT: 95.9, DISTILLED: 93.6, NOISY: 95.9, CHANNEL: 96.8},
    CELLS + MAPPING.name: {
        TEACHER: 99.2,
        STUDENT: 96.6,
        DISTILLED: 96.0,
        NOISY: 96.1,
        CHANNEL: 97.4,
    },
    CELLS + REDUNDANCY.name: {
        TEACHER: 99.2,
        STUDENT: 97.3,
        DISTILLED: 97.7,
        NOISY: 96.3,
        CHANNEL: 97.6,
    },
}


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
    teacher = isik.network(settings, settings.teacher, seed, QUICK_EPOCHS)
    student = isik.network(settings, settings.model, seed, QUICK_EPOCHS)
    distilled = replace(student, teacher=teacher, distillation=ISIK_KD)
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


def _distillation_tables(
    settings: Settings, paper: Mapping[str, Mapping[str, float]]
) -> list[Table]:
    residual = "ResNet" in settings.model
    std = 0.01 if residual else 0.1
    networks = [_students(settings, seed, std) for seed in settings.training_seeds]
    conditions: dict[str, Any] = {
        NO_NOISE: about,
        NOISE: lambda recipe: isik.perturbed(settings, recipe, std),
        DIFFERENT: lambda recipe: isik.perturbed(settings, recipe, 2 * std),
    }

    def in_cells(strategy: Strategy) -> Any:
        return lambda recipe: isik.stored(settings, recipe, strategy, KD_CELLS, extra_cells=0.0)

    for strategy in STRATEGIES[1:]:
        conditions[CELLS + strategy.name] = in_cells(strategy)
    entries = [
        Entry(
            row,
            column,
            tuple(job(recipes[column]) for recipes in networks),
            "accuracy" if row == NO_NOISE else "accuracies",
            paper[row].get(column),
        )
        for row, job in conditions.items()
        for column in networks[0]
    ]
    if residual:
        entries += [
            Entry(
                row,
                "KD, norm recalibrated",
                tuple(
                    isik.perturbed(settings, r[DISTILLED], by, recalibrate=True) for r in networks
                ),
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


STUDIES = (
    Study(
        "isik-table2",
        f"{isik.PAPER}, Table 2: ResNet-18 and slim ResNet-20 on CIFAR-10",
        table2,
        "SlimResNet20",
        "MLP",
        "ResNet18",
        "LeNet",
    ),
    Study(
        "isik-table9",
        f"{isik.PAPER}, Table 9: LeNet and a perceptron on MNIST",
        table9,
        "MLP",
        "MLP",
        "LeNet",
        "LeNet",
    ),
)
"""Studies of the paper; NAME is that of the command ``noisycells study NAME``."""
