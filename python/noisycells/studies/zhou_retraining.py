"""Networks retrained under noise: Figures 3, 4 and 6 of Zhou et al. (2020), and their abstract."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from . import zhou
from .engine import Entry, Recipe, Settings, Study, Table, Trained, isik_recipe, job
from .measures import CONSISTENCY, ISIK_KD, perturbed
from .zhou import Method

__all__ = ["STUDIES"]

TRAINED, QUICK_TRAINED = (0.057, 0.11, 0.2), (0.11, 0.3)  # mismatched noise
ETAS_4 = (0.02, 0.04, 0.057, 0.08, 0.11, 0.15)  # of 4-bit networks
QUICK_ETAS_4 = (0.057, 0.11, 0.2)
SHOWN = 0.057  # of the paper's Figure 4b
LONGER = 4
CLIP = 2.0  # standard deviations, after Joshi et al. (2020)
BITS = {"weight_bits": 4, "activation_bits": 4}


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


def fig3a(settings: Settings) -> list[Table]:
    """Accuracy against noise, retrained under the noise of the test, by method.

    Besides the paper's methods: consistency of outputs under two draws of noise, or of features
    with those without (Hou et al. 2024); weights clipped to 2 standard deviations, which makes
    their range and so the noise smaller, alone and with noise (Joshi et al. 2020); noise of an eta
    drawn anew each step; and, where there is batch normalization, its statistics measured anew
    under noise.
    """
    networks = zhou.clean(settings, settings.model)
    etas = settings.pick(zhou.ETAS, zhou.QUICK_ETAS)
    methods = {
        **zhou.METHODS,
        zhou.TAUGHT: zhou.always(taught=True),
        **{
            f"noise + consistency of {form}": zhou.matched(
                consistency={"form": form, "weight": weight}
            )
            for form, weight in CONSISTENCY.items()
        },
        "clipping": zhou.always(noise={"eta": 0.0, "clip": CLIP}),
        f"{zhou.NOISE} + clipping": zhou.matched(CLIP),
        f"{zhou.BOTH} + clipping": zhou.matched(CLIP, taught=True),
        **zhou.varied(settings),
    }
    curves = zhou.curves_of(settings, networks, methods, etas)
    if "ResNet" in settings.model:
        row = "no retraining, norm recalibrated"
        curves[row] = zhou.curve(
            settings, row, networks, zhou.METHODS[zhou.NOTHING], etas, recalibrate=True
        )
    table = zhou.accuracy("Matched noise", curves.values(), "At 0, networks before retraining.")
    return [table, zhou.above_noise(table), *zhou.tolerance({"": curves})]


def fig3b(settings: Settings) -> list[Table]:
    """Accuracy at noise levels that differ from the one of retraining.

    The networks of zhou-fig3a.
    """
    networks = zhou.clean(settings, settings.model)
    etas = settings.pick(zhou.ETAS, zhou.QUICK_ETAS)
    methods: dict[str, Method] = {zhou.NOTHING: zhou.METHODS[zhou.NOTHING]}
    for trained in settings.pick(TRAINED, QUICK_TRAINED):
        noise = zhou.noise_of(trained)
        methods[f"{zhou.NOISE}, eta {trained:g}"] = zhou.always(noise=noise)
        methods[f"{zhou.BOTH}, eta {trained:g}"] = zhou.always(noise=noise, taught=True)
    methods |= zhou.varied(settings)
    return [
        zhou.accuracy(
            "Mismatched noise", zhou.curves_of(settings, networks, methods, etas).values()
        )
    ]


def fig4(settings: Settings) -> list[Table]:
    """4-bit weights and activations: accuracy against noise, and during retraining.

    Noise is on the quantized weights, in units of their range, which follows them. The teacher
    has full precision. During retraining, accuracy is on validation images, noise drawn anew.
    """
    networks = zhou.clean(settings, settings.model)
    etas = settings.pick(ETAS_4, QUICK_ETAS_4)

    def matched(**changes: Any) -> Method:
        return lambda clean, eta: zhou.retrained(
            clean,
            quantize=BITS,
            noise={"eta": eta, "norm": "range"} if eta else None,
            **changes,
        )

    methods = {
        "rounding alone": zhou.always(quantize=BITS),
        zhou.NOISE: matched(),
        zhou.TAUGHT: zhou.always(quantize=BITS, taught=True),
        zhou.BOTH: matched(taught=True),
    }
    curves = zhou.curves_of(settings, networks, methods, etas)
    unchanged = [
        Entry(zhou.NOTHING, eta, zhou.jobs_of(settings, quantized, networks, eta, quantize=BITS))
        for eta in (0.0, *etas)
    ]
    epochs = range(zhou.retrained(networks[0]).epochs)
    during = [
        Entry(row, epoch + 1, zhou.noise_free(row, shown).jobs, f"training/accuracies/{epoch}")
        for row in (zhou.NOISE, zhou.BOTH)
        for shown in [[methods[row](network, SHOWN) for network in networks]]
        for epoch in epochs
    ]
    table = zhou.accuracy("Matched noise", [unchanged, *curves.values()])
    return [
        table,
        zhou.above_noise(table),
        Table(
            f"Retraining at eta {SHOWN:g}", "network", "epoch",
            "validation accuracy under noise (%)", tuple(during),
        ),
        *zhou.tolerance({"": curves}),
    ]  # fmt: skip


def fig6(settings: Settings) -> list[Table]:
    """Noise alone and with distillation on LeNet and its variants.

    Wider and narrower: twice and half the filters and hidden units; deeper: two more convolutions.
    """
    networks = {f"{model}, ": zhou.clean(settings, model) for model in zhou.variants(settings)}
    etas = settings.pick(zhou.ETAS, zhou.QUICK_ETAS)
    curves = {
        name: zhou.curves_of(settings, found, zhou.METHODS, etas)
        for name, found in networks.items()
    }
    tables = [zhou.accuracy(name.strip(", "), found.values()) for name, found in curves.items()]
    return [*tables, *map(zhou.above_noise, tables), *zhou.tolerance(curves)]


def distillation(settings: Settings) -> list[Table]:
    """What decides whether distillation adds to noise: temperature, weight, teacher, training.

    Not in the paper, whose hyper-parameters are not in the text at hand. Retraining under the
    noise of the test as in zhou-fig3a; with one change at a time.
    """
    networks = zhou.clean(settings, settings.model)
    etas = settings.pick(zhou.ETAS[3:7], zhou.QUICK_ETAS)
    teacher = settings.teacher

    def other_teacher(clean: Recipe, eta: float) -> Recipe:
        found = zhou.METHODS[zhou.BOTH](clean, eta)
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
        method = zhou.matched(taught=True)
        return lambda clean, eta: (
            replace(method(clean, eta), distillation=zhou.KD | changes) if eta else clean
        )

    curves = {
        "": {
            zhou.NOISE: zhou.METHODS[zhou.NOISE],
            f"{zhou.BOTH}, T = 6": zhou.METHODS[zhou.BOTH],
            **{f"{zhou.BOTH}, T = {t:g}": changed(temperature=t) for t in (1.0, 2.0, 4.0)},
            f"{zhou.BOTH}, alpha = 0.2": changed(alpha=0.2),
            f"{zhou.BOTH}, half each (Isik et al.)": changed(**ISIK_KD),
            f"{zhou.BOTH}, taught by {teacher}": other_teacher,
        },
        f"{LONGER} times as long, ": {
            zhou.NOISE: longer(zhou.METHODS[zhou.NOISE]),
            zhou.BOTH: longer(zhou.METHODS[zhou.BOTH]),
        },
    }
    found = {name: zhou.curves_of(settings, networks, rows, etas) for name, rows in curves.items()}
    tables = [
        zhou.accuracy(title, found[name].values())
        for name, title in zip(found, ("Retrained as usual", "Retrained longer"), strict=True)
    ]
    return [*tables, *map(zhou.above_noise, tables), *zhou.tolerance(found)]


STUDIES = (
    *(
        Study(name, f"{zhou.PAPER}, {source}", tables, model, "LeNet", in_cells=False)
        for name, source, tables, model in (
            ("zhou-fig3a", "Figure 3a, whose text does not name network and data", fig3a, "LeNet"),
            ("zhou-fig3b", "Figure 3b, whose text does not name network and data", fig3b, "LeNet"),
            ("zhou-fig4", "Figure 4: ResNet-18", fig4, "ResNet18"),
            ("zhou-fig6", "Figure 6: LeNet and variants on MNIST", fig6, "LeNet"),
        )
    ),
    Study(
        "zhou-distillation",
        f"{zhou.PAPER}, claim of the abstract: twice the noise",
        distillation,
        "LeNet",
        "LeNet",
        "LeNetWide",
        "LeNetWide",
        in_cells=False,
    ),
)
"""Studies of the paper; NAME is that of the command ``noisycells study NAME``."""
