"""The figures of Zhou et al. (2020), "Noisy Machines: Understanding Noisy Neural Networks and
Enhancing Robustness to Analog Hardware Errors Using Distillation" (arXiv:2001.04974).

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

from .. import random
from .engine import Settings, Study
from .engine.jobs import Job, about, job
from .engine.recipes import Recipe, isik_recipe
from .engine.report import finite
from .engine.tables import Derived, Entry, Table, differences
from .engine.training import Trained, inject
from .isik import ACCURACY, CONSISTENCY, QUICK_EPOCHS
from .isik import KD as ISIK_KD
from .measures import perturbed, test_batches

__all__ = ["STUDIES"]

ETA = "eta"
ETAS = (0.02, 0.04, 0.057, 0.08, 0.11, 0.15, 0.2, 0.3)
QUICK_ETAS = (0.11, 0.2, 0.3, 0.4)
STDS, QUICK_STDS = (0.25, 0.5, 0.75, 1.0, 1.4, 2.0, 2.8), (0.7, 1.4, 2.8)  # by deviation
TRAINED, QUICK_TRAINED = (0.057, 0.11, 0.2), (0.11, 0.3)  # mismatched noise
LARGEST, QUICK_LARGEST = 0.15, 0.3  # of random eta
ETAS_4 = (0.02, 0.04, 0.057, 0.08, 0.11, 0.15)  # of 4-bit networks
QUICK_ETAS_4 = (0.057, 0.11, 0.2)
SHOWN = 0.057  # of the paper's Figure 4b
DROPS = (1.0, 2.0, 5.0, 10.0, 20.0)
SHARES = (0.9, 0.75, 0.5)
KD = {"temperature": 6.0, "alpha": 1.0, "form": "zhou"}
LONGER = 4
CLIP = 2.0  # standard deviations, after Joshi et al. (2020)
BITS = {"weight_bits": 4, "activation_bits": 4}
VARIANTS = ("LeNet", "LeNetWide", "LeNetNarrow", "LeNetDeep")

NOTHING, NOISE, TAUGHT, BOTH = (
    "no retraining", "noise", "distillation", "noise + distillation"
)  # fmt: skip
RANDOM = "noise of random eta"

Method = Callable[[Recipe, float], Recipe]
"""The network that is tested at some eta, from the one trained without noise."""


# --------------------------------------------------------------------------- jobs


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
        raise ValueError(f"images: expected at most {len(every)}, got {images}")
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


@job
def quantized(
    trained: Trained, *, quantize: dict[str, Any], noise: dict[str, Any], repeats: int, seed: int
) -> dict[str, Any]:
    """Noisy copies of the network, quantized as it is; ranges are of 500 training images."""
    import torch

    from .. import torch as nct

    data = trained.dataset
    device = next(trained.model.parameters()).device
    nct.quantize(trained.model, **quantize)
    with torch.no_grad():
        trained.model(torch.from_numpy(data.normalize(data.train_images[:500])).to(device))
    return perturbed(trained, noise=noise, repeats=repeats, seed=seed)


# --------------------------------------------------------------------------- networks


def _clean(settings: Settings, model: str) -> list[Recipe]:
    """Networks trained without noise, of all training seeds."""
    epochs = settings.epochs or settings.pick(None, QUICK_EPOCHS)
    return [
        isik_recipe(settings.source, model, seed, epochs, **settings.hardware)
        for seed in settings.training_seeds
    ]


def _retrained(clean: Recipe, taught: bool = False, **changes: Any) -> Recipe:
    """A copy of a network, retrained; `changes` are of the recipe."""
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


def _always(**changes: Any) -> Method:
    """One network for all eta."""
    return lambda clean, eta: _retrained(clean, **changes)


def _matched(clip: str | float = "initial", **changes: Any) -> Method:
    """A network for each eta, retrained under the noise of the test."""

    def method(clean: Recipe, eta: float) -> Recipe:
        return _retrained(clean, noise=_noise(eta, clip), **changes) if eta else clean

    return method


def _noise(eta: float | list[float], clip: str | float = "initial") -> dict[str, Any]:
    return {"eta": eta, "norm": "range", "clip": clip}


METHODS: dict[str, Method] = {
    NOTHING: lambda clean, eta: clean,
    NOISE: _matched(),
    BOTH: _matched(taught=True),
}


def _varied(settings: Settings) -> dict[str, Method]:
    """Retrained under noise of an eta that is drawn anew for each step."""
    noise = _noise([0.0, settings.pick(LARGEST, QUICK_LARGEST)])
    return {
        RANDOM: _always(noise=noise),
        f"{RANDOM} + distillation": _always(noise=noise, taught=True),
    }


# --------------------------------------------------------------------------- curves


def _jobs(
    settings: Settings,
    function: Callable[..., Any],
    networks: Iterable[Recipe],
    eta: float,
    passes: float = 1.0,
    norm: str = "range",
    **arguments: Any,
) -> tuple[Job, ...]:
    """Jobs on noisy copies of networks; `passes` over the test images for each copy."""
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


def _noise_free(row: str, networks: Iterable[Recipe]) -> Entry:
    """Accuracies without noise."""
    jobs = tuple(map(about, networks))
    return Entry(row, 0.0, jobs, "accuracy")


def _curve(
    settings: Settings,
    row: str,
    networks: Sequence[Recipe],
    method: Method,
    etas: Iterable[float],
    **arguments: Any,
) -> list[Entry]:
    """Accuracies of a method without noise and at all etas."""
    entries = [_noise_free(row, [method(network, 0.0) for network in networks])]
    for eta in etas:
        tested = [method(network, eta) for network in networks]
        jobs = _jobs(settings, perturbed, tested, eta, **arguments)
        entries.append(Entry(row, eta, jobs))
    return entries


def _curves(
    settings: Settings,
    networks: Sequence[Recipe],
    methods: dict[str, Method],
    etas: Iterable[float],
) -> dict[str, list[Entry]]:
    etas = tuple(etas)
    return {row: _curve(settings, row, networks, method, etas) for row, method in methods.items()}


def _accuracy(title: str, curves: Iterable[list[Entry]], note: str = "") -> Table:
    entries = tuple(entry for curve in curves for entry in curve)
    return Table(title, "network", ETA, ACCURACY, entries, note=note)


def _above_noise(table: Table) -> Table:
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
        Of an array as `sample`, with any number of copies.
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

    `runs` are the noise-free accuracy and the accuracies at each eta, at 0 a single one.
    """
    (noise_free,), (start,), *noisy = runs
    return pseudo_values(
        lambda sample: crossing(etas, [start, *sample.mean(1)], noise_free - drop), np.array(noisy)
    )


def _gain(etas: Sequence[float], drop: float, runs: list[list[float]]) -> list[float]:
    """What a curve tolerates over what noise alone does, as pseudo-values.

    `runs` are the accuracies of a curve, and those of noise alone, which begins noise-free. Copies
    of the same number have the same random numbers everywhere.
    """
    (start,), *noisy = runs[: len(etas)]
    (noise_free,), *alone = runs[len(etas) :]

    def ratio(sample: npt.NDArray[np.float64]) -> float:
        ours, theirs = np.split(sample.mean(1), 2)
        level = noise_free - drop
        return crossing(etas, [start, *ours], level) / crossing(etas, [noise_free, *theirs], level)

    return pseudo_values(ratio, np.array([*noisy, *alone]))


def _tolerance(curves: dict[str, dict[str, list[Entry]]]) -> list[Table]:
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


# --------------------------------------------------------------------------- figures


def fig2a(settings: Settings) -> list[Table]:
    """Loss terms and accuracy of a network that was trained without noise, against noise.

    Losses over the test images in units of the noise-free cross entropy: the cross entropy with
    the labels, and the divergence from the outputs without noise. Which terms the paper's figure
    has is not in the text at hand.
    """
    networks = _clean(settings, settings.model)
    terms = {"cross entropy with the labels": "labels", "divergence from no noise": "outputs"}
    sizes = {"sigma / largest magnitude": "to_max", "sigma / standard deviation": "to_std"}
    parts: dict[str, list[Entry]] = {"accuracies": [_noise_free(NOTHING, networks)]}
    for eta in settings.pick(ETAS, QUICK_ETAS):
        jobs = _jobs(settings, losses, networks, eta)
        parts["accuracies"].append(Entry(NOTHING, eta, jobs))
        for part in (terms, sizes):
            for row, value in part.items():
                parts.setdefault(value, []).append(Entry(row, eta, jobs, value))
    return [
        Table(
            "Losses", "loss", ETA, "loss / loss without noise",
            tuple(entry for value in terms.values() for entry in parts[value]),
        ),
        _accuracy("Accuracy", [parts["accuracies"]]),
        Table(
            "Size of the noise", "ratio", ETA, "ratio, mean over the layers",
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
    variants = _variants(settings)
    networks = {model: _clean(settings, model) for model in variants}
    images, subsets = settings.pick(200, 100), settings.pick(5, 2)
    passes = images * subsets / len(settings.source.load().test_images)
    sample = {"images": images, "subsets": subsets}
    ratio = "mutual information / that without noise"
    estimates = {"plug_in": "plug-in", "corrected": "Miller-Madow", "chance": "pure chance"}
    by_range = "range", ETA, settings.pick(ETAS, QUICK_ETAS)
    by_std = "std", "sigma / standard deviation", settings.pick(STDS, QUICK_STDS)
    tables = []
    for output, title, (norm, columns, etas) in (
        ("class", "Predicted class", by_range),
        ("softmax", "Softmax histogram", by_range),
        ("class", "Predicted class by deviation", by_std),
    ):
        jobs = {
            (model, eta): _jobs(
                settings, information, found, eta, passes, norm, output=output, **sample
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
                    for model in variants
                    for share in SHARES
                ),
                note="Of the estimates after Miller and Madow, on lines between the etas tested. "
                "What does not fall so far counts with the largest eta.",
                drawn=False,
            )
        )  # fmt: skip
    return tables


def _variants(settings: Settings) -> tuple[str, ...]:
    """LeNet with its variants, or another model alone."""
    return VARIANTS if settings.model == VARIANTS[0] else (settings.model,)


def _falls(etas: Sequence[float], share: float, runs: list[list[float]]) -> list[float]:
    """Where each curve falls to a share of its value without noise, which is 1."""
    return [crossing(etas, (1.0, *curve), share) for curve in zip(*runs, strict=True)]


def fig3a(settings: Settings) -> list[Table]:
    """Accuracy against noise, retrained under the noise of the test, by method.

    Besides the paper's methods: consistency of outputs under two draws of noise, or of features
    with those without (Hou et al. 2024); weights clipped to 2 standard deviations, which makes
    their range and so the noise smaller, alone and with noise (Joshi et al. 2020); noise of an eta
    drawn anew each step; and, where there is batch normalization, its statistics measured anew
    under noise.
    """
    networks = _clean(settings, settings.model)
    etas = settings.pick(ETAS, QUICK_ETAS)
    methods = {
        **METHODS,
        TAUGHT: _always(taught=True),
        **{
            f"noise + consistency of {form}": _matched(consistency={"form": form, "weight": weight})
            for form, weight in CONSISTENCY.items()
        },
        "clipping": _always(noise={"eta": 0.0, "clip": CLIP}),
        f"{NOISE} + clipping": _matched(CLIP),
        f"{BOTH} + clipping": _matched(CLIP, taught=True),
        **_varied(settings),
    }
    curves = _curves(settings, networks, methods, etas)
    if "ResNet" in settings.model:
        row = "no retraining, norm recalibrated"
        curves[row] = _curve(settings, row, networks, METHODS[NOTHING], etas, recalibrate=True)
    table = _accuracy("Matched noise", curves.values(), "At 0, networks before retraining.")
    return [table, _above_noise(table), *_tolerance({"": curves})]


def fig3b(settings: Settings) -> list[Table]:
    """Accuracy at noise levels that differ from the one of retraining.

    The networks of zhou-fig3a.
    """
    networks = _clean(settings, settings.model)
    etas = settings.pick(ETAS, QUICK_ETAS)
    methods: dict[str, Method] = {NOTHING: METHODS[NOTHING]}
    for trained in settings.pick(TRAINED, QUICK_TRAINED):
        noise = _noise(trained)
        methods[f"{NOISE}, eta {trained:g}"] = _always(noise=noise)
        methods[f"{BOTH}, eta {trained:g}"] = _always(noise=noise, taught=True)
    methods |= _varied(settings)
    return [_accuracy("Mismatched noise", _curves(settings, networks, methods, etas).values())]


def fig4(settings: Settings) -> list[Table]:
    """4-bit weights and activations: accuracy against noise, and during retraining.

    Noise is on the quantized weights, in units of their range, which follows them. The teacher
    has full precision. During retraining, accuracy is on validation images, noise drawn anew.
    """
    networks = _clean(settings, settings.model)
    etas = settings.pick(ETAS_4, QUICK_ETAS_4)

    def matched(**changes: Any) -> Method:
        return lambda clean, eta: _retrained(
            clean,
            quantize=BITS,
            noise={"eta": eta, "norm": "range"} if eta else None,
            **changes,
        )

    methods = {
        "rounding alone": _always(quantize=BITS),
        NOISE: matched(),
        TAUGHT: _always(quantize=BITS, taught=True),
        BOTH: matched(taught=True),
    }
    curves = _curves(settings, networks, methods, etas)
    unchanged = [
        Entry(NOTHING, eta, _jobs(settings, quantized, networks, eta, quantize=BITS))
        for eta in (0.0, *etas)
    ]
    epochs = range(_retrained(networks[0]).epochs)
    during = [
        Entry(row, epoch + 1, _noise_free(row, shown).jobs, f"training/accuracies/{epoch}")
        for row in (NOISE, BOTH)
        for shown in [[methods[row](network, SHOWN) for network in networks]]
        for epoch in epochs
    ]
    table = _accuracy("Matched noise", [unchanged, *curves.values()])
    return [
        table,
        _above_noise(table),
        Table(
            f"Retraining at eta {SHOWN:g}", "network", "epoch",
            "validation accuracy under noise (%)", tuple(during),
        ),
        *_tolerance({"": curves}),
    ]  # fmt: skip


def fig6(settings: Settings) -> list[Table]:
    """Noise alone and with distillation on LeNet and its variants.

    Wider and narrower: twice and half the filters and hidden units; deeper: two more convolutions.
    """
    networks = {f"{model}, ": _clean(settings, model) for model in _variants(settings)}
    etas = settings.pick(ETAS, QUICK_ETAS)
    curves = {name: _curves(settings, found, METHODS, etas) for name, found in networks.items()}
    tables = [_accuracy(name.strip(", "), found.values()) for name, found in curves.items()]
    return [*tables, *map(_above_noise, tables), *_tolerance(curves)]


def distillation(settings: Settings) -> list[Table]:
    """What decides whether distillation adds to noise: temperature, weight, teacher, training.

    Not in the paper, whose hyper-parameters are not in the text at hand. Retraining under the
    noise of the test as in zhou-fig3a; with one change at a time.
    """
    networks = _clean(settings, settings.model)
    etas = settings.pick(ETAS[3:7], QUICK_ETAS)
    teacher = settings.teacher

    def other_teacher(clean: Recipe, eta: float) -> Recipe:
        found = METHODS[BOTH](clean, eta)
        model = isik_recipe(
            clean.source, teacher, clean.seed, clean.epochs, **settings.hardware
        )  # fmt: skip
        return replace(found, teacher=model) if eta else clean

    def longer(method: Method) -> Method:
        def of(clean: Recipe, eta: float) -> Recipe:
            found = method(clean, eta)
            return replace(found, epochs=LONGER * found.epochs) if eta else clean

        return of

    def changed(**changes: Any) -> Method:
        method = _matched(taught=True)
        return lambda clean, eta: (
            replace(method(clean, eta), distillation=KD | changes) if eta else clean
        )

    curves = {
        "": {
            NOISE: METHODS[NOISE],
            f"{BOTH}, T = 6": METHODS[BOTH],
            **{f"{BOTH}, T = {t:g}": changed(temperature=t) for t in (1.0, 2.0, 4.0)},
            f"{BOTH}, alpha = 0.2": changed(alpha=0.2),
            f"{BOTH}, half each (Isik et al.)": changed(**ISIK_KD),
            f"{BOTH}, taught by {teacher}": other_teacher,
        },
        f"{LONGER} times as long, ": {
            NOISE: longer(METHODS[NOISE]),
            BOTH: longer(METHODS[BOTH]),
        },
    }
    found = {name: _curves(settings, networks, rows, etas) for name, rows in curves.items()}
    tables = [
        _accuracy(title, found[name].values())
        for name, title in zip(found, ("Retrained as usual", "Retrained longer"), strict=True)
    ]
    return [*tables, *map(_above_noise, tables), *_tolerance(found)]


_PAPER = "Zhou et al. 2020"
STUDIES = (
    *(
        Study(name, f"{_PAPER}, {source}", tables, model, "LeNet", in_cells=False)
        for name, source, tables, model in (
            ("zhou-fig2a", "Figure 2a: LeNet", fig2a, "LeNet"),
            ("zhou-fig2b", "Figure 2b: LeNet and variants", fig2b, "LeNet"),
            ("zhou-fig3a", "Figure 3a, whose text does not name network and data", fig3a, "LeNet"),
            ("zhou-fig3b", "Figure 3b, whose text does not name network and data", fig3b, "LeNet"),
            ("zhou-fig4", "Figure 4: ResNet-18", fig4, "ResNet18"),
            ("zhou-fig6", "Figure 6: LeNet and variants on MNIST", fig6, "LeNet"),
        )
    ),
    Study(
        "zhou-distillation",
        f"{_PAPER}, claim of the abstract: twice the noise",
        distillation,
        "LeNet",
        "LeNet",
        "LeNetWide",
        "LeNetWide",
        in_cells=False,
    ),
)
"""Studies of the paper; NAME is that of the command ``noisycells study NAME``."""
