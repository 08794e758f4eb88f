"""Losses and information under noise: Figure 2 of Zhou et al. (2020)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from .. import random
from .._arguments import wrong_value
from . import zhou
from .engine import Derived, Entry, Settings, Study, Table, Trained, job
from .engine.report import finite
from .engine.training import inject
from .measures import test_batches

__all__ = ["STUDIES"]

STDS, QUICK_STDS = (0.25, 0.5, 0.75, 1.0, 1.4, 2.0, 2.8), (0.7, 1.4, 2.8)  # by deviation
SHARES = (0.9, 0.75, 0.5)


@job
def losses(trained: Trained, *, noise: dict[str, Any], repeats: int, seed: int) -> dict[str, Any]:
    """Losses of noisy copies over the test images, in units of the noise-free cross entropy.

    ``labels`` is the cross entropy with the labels; ``outputs`` the divergence KL(p || q) of noisy
    outputs q from those without noise, p. ``to_max`` and ``to_std`` are sigma over the largest
    magnitude and over the standard deviation of a layer's weights, means over the layers.
    """
    import torch
    from torch.nn import functional as F

    from ..torch.measure.evaluate import realizations

    model = trained.model
    device = next(model.parameters()).device
    batches = [(images.to(device), labels.to(device)) for images, labels in test_batches(trained)]
    labels = torch.cat([labels for _, labels in batches])

    def outputs() -> torch.Tensor:
        return torch.cat([model(images) for images, _ in batches]).log_softmax(1)

    found: dict[str, Any] = {"accuracies": [], "labels": [], "outputs": []}
    with inject(model, noise, seed) as injected, realizations(model) as realization:
        with injected.pause():
            clean = outputs()
        loss = F.nll_loss(clean, labels).item()
        for i in range(repeats):
            with realization(random.fold_in(seed, i)):
                noisy = outputs()
            divergence = F.kl_div(noisy, clean, reduction="batchmean", log_target=True)
            right = (noisy.argmax(1) == labels).sum().item()
            found["accuracies"].append(100 * right / len(labels))
            found["labels"].append(F.nll_loss(noisy, labels).item() / loss)
            found["outputs"].append(divergence.item() / loss)
        layers = injected.report()
    found |= {name: finite(values) for name, values in found.items()}
    for name, ratio in (("to_max", "relative"), ("to_std", "to_std")):
        found[name] = float(np.mean([layer[ratio] for layer in layers]))
    return {**found, "loss": loss}


@job
def information(
    trained: Trained,
    *,
    noise: dict[str, Any],
    output: str,
    images: int,
    subsets: int,
    repeats: int,
    seed: int,
) -> dict[str, Any]:
    """Mutual information of a network's input and output, in units of the noise-free one.

    A value for each of some random subsets of the training images: the plug-in estimate, the one
    corrected after Miller and Madow, and ``chance``, the plug-in estimate where nothing is left.
    ``bits`` is that without noise; where it is 0, all are 0.
    """
    from .. import torch as nct

    every = trained.dataset.normalize(trained.dataset.train_images)
    if len(every) < images:
        raise wrong_value("images", f"at most {len(every)}", images)
    found: dict[str, Any] = {"plug_in": [], "corrected": [], "chance": [], "bits": []}
    with inject(trained.model, noise, seed):
        for i in range(subsets):
            key = random.fold_in(seed, i)
            rows = np.random.default_rng(key).choice(len(every), images, replace=False)
            part = nct.mutual_information(
                trained.model, every[rows], repeats, output=output, seed=key
            )
            for name in ("plug_in", "corrected", "chance"):
                bits = getattr(part, name)
                found[name].append(bits / part.noise_free if part.noise_free else 0.0)
            found["bits"].append(part.noise_free)
    return found


def fig2a(settings: Settings) -> list[Table]:
    """Loss terms and accuracy of a network that was trained without noise, against noise.

    Losses over the test images in units of the noise-free cross entropy: the cross entropy with
    the labels, and the divergence from the outputs without noise. Which terms the paper's figure
    has is not in the text at hand.
    """
    networks = zhou.clean(settings, settings.model)
    terms = {"cross entropy with the labels": "labels", "divergence from no noise": "outputs"}
    sizes = {"sigma / largest magnitude": "to_max", "sigma / standard deviation": "to_std"}
    parts: dict[str, list[Entry]] = {"accuracies": [zhou.noise_free(zhou.NOTHING, networks)]}
    for eta in settings.pick(zhou.ETAS, zhou.QUICK_ETAS):
        jobs = zhou.jobs_of(settings, losses, networks, eta)
        parts["accuracies"].append(Entry(zhou.NOTHING, eta, jobs))
        for part in (terms, sizes):
            for row, value in part.items():
                parts.setdefault(value, []).append(Entry(row, eta, jobs, value))
    return [
        Table(
            "Losses", "loss", zhou.ETA, "loss / loss without noise",
            tuple(entry for value in terms.values() for entry in parts[value]),
        ),
        zhou.accuracy("Accuracy", [parts["accuracies"]]),
        Table(
            "Size of the noise", "ratio", zhou.ETA, "ratio, mean over the layers",
            tuple(entry for value in sizes.values() for entry in parts[value]), drawn=False,
        ),
    ]  # fmt: skip


def fig2b(settings: Settings) -> list[Table]:
    """Mutual information between input and output of LeNet and its variants, against noise.

    I(X;Y) = H(Y) - H(Y|X), X one of 200 random training images, in units of the noise-free value.
    Y is the predicted class or, as the paper does not say, a histogram of all softmax outputs
    with two bins each. Intervals are over random choices of the images. Besides, the predicted
    class under noise relative to the standard deviation of a layer's weights: a few large weights
    decide their range.
    """
    # Few copies would leave little but the bias of the estimates.
    settings = replace(settings, repeats=settings.repeats or settings.pick(100, 20))
    models = zhou.variants(settings)
    networks = {model: zhou.clean(settings, model) for model in models}
    images, subsets = settings.pick(200, 100), settings.pick(5, 2)
    passes = images * subsets / len(settings.source.load().test_images)
    ratio = "mutual information / that without noise"
    estimates = {"plug_in": "plug-in", "corrected": "Miller-Madow", "chance": "pure chance"}
    by_range = "range", zhou.ETA, settings.pick(zhou.ETAS, zhou.QUICK_ETAS)
    by_std = "std", "sigma / standard deviation", settings.pick(STDS, QUICK_STDS)
    tables = []
    for output, title, (norm, columns, etas) in (
        ("class", "Predicted class", by_range),
        ("softmax", "Softmax histogram", by_range),
        ("class", "Predicted class by deviation", by_std),
    ):
        jobs = {
            (model, eta): zhou.jobs_of(
                settings,
                information,
                found,
                eta,
                passes,
                norm,
                output=output,
                images=images,
                subsets=subsets,
            )
            for model, found in networks.items()
            for eta in etas
        }
        tables += [
            Table(
                f"{title}, {name}", "network", columns, ratio,
                tuple(Entry(*place, found, value) for place, found in jobs.items()),
                note=f"Intervals are over {subsets} random choices of {images} training images.",
                drawn=value != "chance",
            )
            for value, name in estimates.items()
        ]  # fmt: skip
        tables.append(
            Table(
                f"{title}: where information falls", "network", "to a share of", columns,
                tuple(
                    Derived(
                        model,
                        share,
                        tuple(Entry(model, eta, jobs[model, eta], "corrected") for eta in etas),
                        partial(_falls, (0.0, *etas), share),
                    )
                    for model in models
                    for share in SHARES
                ),
                note="Of the estimates after Miller and Madow, on lines between the etas tested. "
                "What does not fall so far counts with the largest eta.",
                drawn=False,
            )
        )  # fmt: skip
    return tables


def _falls(etas: Sequence[float], share: float, runs: list[list[float]]) -> list[float]:
    """Where each curve falls to a share of its value without noise, which is 1."""
    return [zhou.crossing(etas, (1.0, *curve), share) for curve in zip(*runs, strict=True)]


STUDIES = (
    Study("zhou-fig2a", f"{zhou.PAPER}, Figure 2a: LeNet", fig2a, "LeNet", "LeNet", in_cells=False),
    Study(
        "zhou-fig2b",
        f"{zhou.PAPER}, Figure 2b: LeNet and variants",
        fig2b,
        "LeNet",
        "LeNet",
        in_cells=False,
    ),
)
"""Studies of the paper; NAME is that of the command ``noisycells study NAME``."""
