"""What the studies of Zhou et al. (2020), "Noisy Machines: Understanding Noisy Neural Networks and
Enhancing Robustness to Analog Hardware Errors Using Distillation" (arXiv:2001.04974), share.

A network is trained without noise, and copies of it are retrained; the teacher is the network they
are copies of. Noise is ``W + N(0, sigma^2)`` on all weights, sigma = eta (W_max - W_min) of their
layer.

The text at hand has neither hyper-parameters nor the numbers of the figures. Chosen here: networks
are trained as in :func:`~noisycells.studies.engine.recipes.isik_recipe` and retrained half as long
by the same optimizer (SGD at a tenth of the learning rate), without weight decay, at a learning
rate that falls to 0 as a cosine; under noise, weights are clipped to their range before
retraining, so that sigma stays what it is; T = 6 and alpha = 1 in distillation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from .engine import Derived, Entry, Job, Recipe, Settings, Table, about, differences, isik_recipe
from .measures import ACCURACY, QUICK_EPOCHS, perturbed

__all__ = [
    "BOTH",
    "ETA",
    "ETAS",
    "KD",
    "METHODS",
    "NOISE",
    "NOTHING",
    "PAPER",
    "QUICK_ETAS",
    "TAUGHT",
    "VARIANTS",
    "above_noise",
    "accuracy",
    "always",
    "clean",
    "crossing",
    "curve",
    "curves_of",
    "jobs_of",
    "matched",
    "noise_free",
    "noise_of",
    "pseudo_values",
    "retrained",
    "tolerance",
    "variants",
    "varied",
]

PAPER = "Zhou et al. 2020"
ETA = "eta"
ETAS = (0.02, 0.04, 0.057, 0.08, 0.11, 0.15, 0.2, 0.3)
QUICK_ETAS = (0.11, 0.2, 0.3, 0.4)
VARIANTS = ("LeNet", "LeNetWide", "LeNetNarrow", "LeNetDeep")
LARGEST, QUICK_LARGEST = 0.15, 0.3  # of random eta
DROPS = (1.0, 2.0, 5.0, 10.0, 20.0)
KD = {"temperature": 6.0, "alpha": 1.0, "form": "zhou"}

NOTHING, NOISE, TAUGHT, BOTH = (
    "no retraining", "noise", "distillation", "noise + distillation"
)  # fmt: skip
RANDOM = "noise of random eta"

Method = Callable[[Recipe, float], Recipe]
"""The network that is tested at some eta, from the one trained without noise."""


def clean(settings: Settings, model: str) -> list[Recipe]:
    """Networks trained without noise, of all training seeds."""
    epochs = settings.epochs or settings.pick(None, QUICK_EPOCHS)
    return [
        isik_recipe(settings.source, model, seed, epochs, **settings.hardware)
        for seed in settings.training_seeds
    ]


def retrained(clean: Recipe, taught: bool = False, **changes: Any) -> Recipe:
    """A copy of a network, retrained; ``changes`` are of the recipe."""
    return replace(
        clean,
        start=clean,
        teacher=clean if taught else None,
        distillation=KD if taught else None,
        epochs=(clean.epochs + 1) // 2,
        learning_rate=clean.learning_rate / (10 if clean.optimizer == "sgd" else 1),
        weight_decay=0.0,
        schedule="cosine",
        **changes,
    )


def always(**changes: Any) -> Method:
    """One network for all eta."""
    return lambda clean, eta: retrained(clean, **changes)


def matched(clip: str | float = "initial", **changes: Any) -> Method:
    """A network for each eta, retrained under the noise of the test."""

    def method(clean: Recipe, eta: float) -> Recipe:
        return retrained(clean, noise=noise_of(eta, clip), **changes) if eta else clean

    return method


def noise_of(eta: float | list[float], clip: str | float = "initial") -> dict[str, Any]:
    """Noise relative to the range of a layer's weights, as recipes have it."""
    return {"eta": eta, "norm": "range", "clip": clip}


METHODS: dict[str, Method] = {
    NOTHING: lambda clean, eta: clean,
    NOISE: matched(),
    BOTH: matched(taught=True),
}


def variants(settings: Settings) -> tuple[str, ...]:
    """LeNet with its variants, or another model alone."""
    return VARIANTS if settings.model == VARIANTS[0] else (settings.model,)


def varied(settings: Settings) -> dict[str, Method]:
    """Retrained under noise of an eta that is drawn anew for each step."""
    noise = noise_of([0.0, settings.pick(LARGEST, QUICK_LARGEST)])
    return {
        RANDOM: always(noise=noise),
        f"{RANDOM} + distillation": always(noise=noise, taught=True),
    }


def jobs_of(
    settings: Settings,
    function: Callable[..., Any],
    networks: Iterable[Recipe],
    eta: float,
    passes: float = 1.0,
    norm: str = "range",
    **arguments: Any,
) -> tuple[Job, ...]:
    """Jobs on noisy copies of networks; ``passes`` over the test images for each copy."""
    repeats = settings.repeats or settings.pick(100, 5)
    noise = {"noise": {"eta": eta, "norm": norm}, "repeats": repeats}
    return tuple(
        Job(
            function,
            {**noise, "seed": network.seed, **arguments},
            network,
            repeats * passes,
        )
        for network in networks
    )


def noise_free(row: str, networks: Iterable[Recipe]) -> Entry:
    """Accuracies without noise."""
    jobs = tuple(map(about, networks))
    return Entry(row, 0.0, jobs, "accuracy")


def curve(
    settings: Settings,
    row: str,
    networks: Sequence[Recipe],
    method: Method,
    etas: Iterable[float],
    **arguments: Any,
) -> list[Entry]:
    """Accuracies of a method without noise and at all etas."""
    entries = [noise_free(row, [method(network, 0.0) for network in networks])]
    for eta in etas:
        tested = [method(network, eta) for network in networks]
        jobs = jobs_of(settings, perturbed, tested, eta, **arguments)
        entries.append(Entry(row, eta, jobs))
    return entries


def curves_of(
    settings: Settings,
    networks: Sequence[Recipe],
    methods: dict[str, Method],
    etas: Iterable[float],
) -> dict[str, list[Entry]]:
    """The curves of several methods by their names."""
    etas = tuple(etas)
    return {row: curve(settings, row, networks, method, etas) for row, method in methods.items()}


def accuracy(title: str, curves: Iterable[list[Entry]], note: str = "") -> Table:
    """The table of accuracies of some curves."""
    entries = tuple(entry for curve in curves for entry in curve)
    return Table(title, "network", ETA, ACCURACY, entries, note=note)


def above_noise(table: Table) -> Table:
    """By how many points the rows of a table are above the one of noise alone."""
    return differences(
        table, f"{table.title}: above noise alone", lambda row, eta: (NOISE, eta),
        "Copies of one number have the same random numbers.",
    )  # fmt: skip


def crossing(x: Sequence[float], y: Sequence[float], level: float) -> float:
    """Where a curve first falls below a level, on lines between its points; else its end.

    Parameters
    ----------
    x, y : sequence of float
        Points of the curve, x rising.
    level : float
    """
    if y[0] < level:
        return x[0]
    for (x0, x1), (y0, y1) in zip(pairwise(x), pairwise(y), strict=True):
        if y1 < level:
            return x0 + (x1 - x0) * (y0 - level) / (y0 - y1)
    return x[-1]


def pseudo_values(
    statistic: Callable[[npt.NDArray[np.float64]], float], sample: npt.NDArray[np.float64]
) -> list[float]:
    """Jackknife pseudo-values of a statistic of noisy copies: ``n s - (n - 1) s_without_i``.

    Their mean is the statistic corrected for bias, and their spread gives its interval (J. W.
    Tukey, "Bias and confidence in not quite large samples", 1958).

    Parameters
    ----------
    statistic : callable
        Of an array as ``sample``, with any number of copies.
    sample : ndarray of float64, shape (points, copies)
        At least two copies.
    """
    copies = sample.shape[1]
    of_all = statistic(sample)
    return [
        copies * of_all - (copies - 1) * statistic(np.delete(sample, i, axis=1))
        for i in range(copies)
    ]


def _tolerated(etas: Sequence[float], drop: float, runs: list[list[float]]) -> list[float]:
    """The eta at which the mean accuracy is so far below the noise-free one, as pseudo-values.

    ``runs`` are the noise-free accuracy and the accuracies at each eta, at 0 a single one.
    """
    (noise_free,), (start,), *noisy = runs
    return pseudo_values(
        lambda sample: crossing(etas, [start, *sample.mean(1)], noise_free - drop), np.array(noisy)
    )


def _gain(etas: Sequence[float], drop: float, runs: list[list[float]]) -> list[float]:
    """What a curve tolerates over what noise alone does, as pseudo-values.

    ``runs`` are the accuracies of a curve, and those of noise alone, which begins noise-free.
    Copies of the same number have the same random numbers everywhere.
    """
    (start,), *noisy = runs[: len(etas)]
    (noise_free,), *alone = runs[len(etas) :]

    def ratio(sample: npt.NDArray[np.float64]) -> float:
        ours, theirs = np.split(sample.mean(1), 2)
        level = noise_free - drop
        return crossing(etas, [start, *ours], level) / crossing(etas, [noise_free, *theirs], level)

    return pseudo_values(ratio, np.array([*noisy, *alone]))


def tolerance(curves: dict[str, dict[str, list[Entry]]]) -> list[Table]:
    """How much noise is tolerated, and how much more than by retraining under noise alone.

    Parameters
    ----------
    curves : dict of str to dict of str to list of Entry
        By what the names of their rows are to begin with, and the rest of them; there is a NOISE,
        which starts at the noise-free accuracy that counts. All are of the same etas.
    """
    tolerated, gains = [], []
    for name, found in curves.items():
        alone = found[NOISE]
        etas = [float(entry.column) for entry in alone]
        for row, curve in found.items():
            for drop in DROPS:
                place = f"{name}{row}", drop
                function = partial(_tolerated, etas, drop)
                tolerated.append(Derived(*place, (alone[0], *curve), function))
                if row != NOISE:
                    gains.append(Derived(*place, (*curve, *alone), partial(_gain, etas, drop)))
    points = "points below noise-free accuracy"
    return [
        Table(
            "Tolerated noise", "network", points, "eta", tuple(tolerated),
            note=f"Of mean accuracies on lines between the etas tested; noise-free: '{NOISE}' at "
            "0. What does not fall so far counts with the largest eta. Means and intervals are "
            "of a jackknife over noisy copies.",
        ),
        Table(
            "Gain", "network", points, "tolerated eta / that of noise alone", tuple(gains),
            note="The paper's abstract: with distillation as much as twice the noise that the "
            "best other ways tolerate.", drawn=False,
        ),
    ]  # fmt: skip
