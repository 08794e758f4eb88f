"""Classifiers that one call puts on chips of every device, days later, and what is done for them.

As trained (:func:`~noisycells.torch.deploy`); every chip corrected at every time
(:func:`~noisycells.torch.correct`); trained on with noise on the weights, the same for all devices,
beside a control that is trained on as long without.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from .. import _arguments, devices
from ..devices import Device
from .crossbar import published_devices
from .crossbar_view import DAY, time_label
from .engine import Entry, Job, Recipe, Settings, Study, Table, Trained, isik_recipe, job
from .engine.jobs import about
from .engine.tables import differences
from .measures import ACCURACY, NO_NOISE, QUICK_EPOCHS, moments, test_batches

if TYPE_CHECKING:
    from torch import nn

__all__ = ["STUDIES", "WAYS", "Options", "aged", "study"]

CLEAN, CONTROL, NOISY = "as trained", "trained on without noise", "trained on with noise"
WAYS = {
    "deployed": (CLEAN, False),
    "corrected": (CLEAN, True),
    "control": (CONTROL, False),
    "trained": (NOISY, False),
    "trained-corrected": (NOISY, True),
}
"""Which network, and whether its chips are corrected."""
FLOAT = "float32"
BATCH = 100  # images to calibrate and correct with


@dataclass(frozen=True)
class Options:
    """What decides the tables besides the settings that all studies have.

    Parameters
    ----------
    devices : tuple of Device
        Of different names. Default: those that are published.
    times : tuple of float
        Seconds since programming; those at which a device was not measured are left out, and so
        are devices without any.
    ways : tuple of str
        Of ``WAYS``.
    rank : int
        Of the corrections; 0: of means alone.
    eta : float
        Standard deviation of the noise in training, of each layer's largest weight.
    examples : int
        Training images to calibrate and correct with.
    """

    devices: tuple[Device, ...] = field(default_factory=published_devices)
    times: tuple[float, ...] = (DAY,)
    ways: tuple[str, ...] = tuple(WAYS)
    rank: int = 4
    eta: float = 0.05
    examples: int = 500

    def __post_init__(self) -> None:
        if not self.ways or not set(self.ways) <= set(WAYS):
            raise _arguments.wrong_value("ways", f"some of {', '.join(WAYS)}", self.ways)
        _arguments.count("rank", self.rank, 0)
        _arguments.count("examples", self.examples)
        _arguments.number("eta", self.eta, above=0)
        names = [device.name for device in self.devices]
        if len(set(names)) < len(names):
            raise _arguments.wrong_value("device", "devices of different names", names)
        if not any(moments(device, self.times) for device in self.devices):
            raise _arguments.wrong_value(
                "device, times", "a device that was measured at one of the times", "none"
            )

    def to_dict(self) -> dict[str, Any]:
        """The options as plain JSON types."""
        return {
            "devices": [device.to_dict() | {"name": device.name} for device in self.devices],
            "times": list(self.times),
            "ways": list(self.ways),
            "rank": self.rank,
            "eta": self.eta,
            "examples": self.examples,
        }


@job
def aged(
    trained: Trained,
    *,
    device: dict[str, Any],
    times: list[float],
    rank: int | None,
    examples: int,
    repeats: int,
    seed: int,
) -> dict[str, list[float]]:
    """Accuracies (%) of chips at each time, by its label.

    Chip number i has the same seed whatever the device and the way. With a ``rank`` each is
    corrected at each time.
    """
    import torch

    from .. import torch as nct

    data = trained.dataset
    images = torch.from_numpy(data.normalize(data.train_images[:examples])).split(BATCH)
    model = nct.deploy(trained.model, devices.from_dict(device), images, quiet=True)

    def prepare(model: nn.Module) -> None:
        if rank is not None:
            nct.correct(model, images, rank)

    tested = test_batches(trained)
    curve = nct.evaluate(model, tested, repeats, times=times, seed=seed, prepare=prepare)
    return {time_label(one.seconds): list(one.scores) for one in curve}


# --------------------------------------------------------------------------- study


def study(options: Options | None = None) -> Study:
    """The study with options of one's own."""
    given = options or Options()

    def tables(settings: Settings) -> list[Table]:
        """Accuracy of a deployed classifier on every device: untrained, corrected, trained.

        "deployed" is what one call of deploy makes of a trained network, "corrected" has the
        errors of each chip undone at each time by a digital branch of low rank. "trained" is
        trained on with noise on the weights and then deployed, "control" as long without noise.
        """
        return _tables(_quick(given) if settings.quick else given, settings)

    return Study(
        "deployed",
        "devices of several publications",
        tables,
        "LeNet",
        "MLP",
        in_cells=False,
        options=lambda settings: (_quick(given) if settings.quick else given).to_dict(),
    )


def _quick(options: Options) -> Options:
    return replace(options, devices=options.devices[:2], examples=min(options.examples, 100))


def _tables(options: Options, settings: Settings) -> list[Table]:
    networks = {
        kind: [_recipe(kind, options, settings, seed) for seed in settings.training_seeds]
        for kind in dict.fromkeys((CLEAN, *(WAYS[way][0] for way in options.ways)))
    }
    digital = (
        Entry(f"{NO_NOISE}, {kind}", FLOAT, tuple(about(recipe) for recipe in recipes), "accuracy")
        for kind, recipes in networks.items()
    )
    table = Table(
        "On chips", "device and what was done", "since programming", ACCURACY,
        (*digital, *_entries(options, settings, networks)),
        note=f"Corrections of rank {options.rank}, noise of eta {options.eta:g} in training.",
    )  # fmt: skip
    reference = f"{NO_NOISE}, {CLEAN}", FLOAT
    return [table, differences(table, "Above float32 as trained", lambda *place: reference)]


def _recipe(kind: str, options: Options, settings: Settings, seed: int) -> Recipe:
    """A network, trained on half as long again, with SGD at a tenth of the learning rate."""
    epochs = settings.epochs or settings.pick(20, QUICK_EPOCHS)
    clean = isik_recipe(settings.source, settings.model, seed, epochs, **settings.hardware)
    if kind == CLEAN:
        return clean
    noise = {"eta": options.eta, "norm": "absmax", "clip": "initial"}
    return replace(
        clean,
        start=clean,
        epochs=(epochs + 1) // 2,
        learning_rate=clean.learning_rate / (10 if clean.optimizer == "sgd" else 1),
        schedule="cosine",
        noise=noise if kind == NOISY else None,
    )


def _entries(
    options: Options, settings: Settings, networks: dict[str, list[Recipe]]
) -> Iterator[Entry]:
    repeats = settings.repeats or settings.pick(5, 2)
    for device in options.devices:
        times = moments(device, options.times)
        for way in options.ways if times else ():
            kind, corrected = WAYS[way]
            arguments = {
                "device": device.to_dict(),
                "times": times,
                "rank": options.rank if corrected else None,
                "examples": options.examples,
                "repeats": repeats,
            }
            passes = repeats * len(times)
            jobs = tuple(
                Job(aged, {**arguments, "seed": recipe.seed}, recipe, passes)
                for recipe in networks[kind]
            )
            for label in map(time_label, times):
                yield Entry(f"{device.name}, {way}", label, jobs, label)


STUDIES = (study(),)
