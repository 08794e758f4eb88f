"""Accuracy over time of networks that compute on noisy crossbars, device by device.

For each device the layers of a network are converted, programmed on many chips and evaluated as the
chips age, with and without drift compensation. Of a pruned network, the devices of zero weights are
programmed to g_min, and, on other chips, left RESET.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from .. import _arguments, devices
from .._arguments import wrong_value
from ..crossbar import CrossbarSpec
from ..devices import Device
from .crossbar_jobs import budget, chips, counts, layer_names
from .crossbar_view import (
    ACCURACIES,
    BUDGET,
    COUNTERS,
    COUNTS,
    DAY,
    EXTRAPOLATED,
    HOUR,
    LOSSES,
    MONTH,
    NOISE,
    PERCENT,
    YEAR,
    accuracy_row,
    format_crossbars,
    layer_row,
    plot_crossbars,
    time_label,
)
from .engine import Entry, Job, Recipe, Settings, Study, Table, isik_recipe, pruned_recipe
from .measures import ACCURACY, QUICK_EPOCHS

__all__ = ["STUDIES", "Options", "columns", "published_devices", "study"]

COMPENSATIONS = ("none", "global", "column")
IDEAL = devices.ideal()


def published_devices() -> tuple[Device, ...]:
    """The presets that are models of measured devices, as they come."""
    presets = (devices.get(name) for name in devices.names())
    return tuple(d for d in presets if isinstance(d, Device) and not d.synthetic)


@dataclass(frozen=True)
class Options:
    """What decides the tables besides the settings that all studies have.

    Parameters
    ----------
    devices : tuple of Device
        Of different names. The ideal device, which shows what the converters do alone, comes
        before them. Default: those that are published.
    pruned : float
        Share of the weights set to zero, by magnitude.
    times : tuple of float
        Seconds since programming, increasing; chips are evaluated right after programming, too.
    compensation : tuple of {"none", "global", "column"}
        Kinds of drift compensation, each for the same chips.
    spec : CrossbarSpec
        The circuit; its ``drift_compensation`` and ``zero_weights`` are those of each entry.
    extrapolate : bool
        Go on to times at which a device was not measured; such entries are in a table of their own.
    calibration_images : int
        Training images that set the ranges of calibrated converters.
    quantile : float
        Of the magnitudes of inputs and sums that calibrated ranges cover, in (0, 1].
    reset_noise : float
        Standard deviation of devices left RESET about g_min, in percent of g_max - g_min, assumed
        of devices whose RESET state is not published.
    report_vectors : int
        Input vectors of each layer, from test images, that its error budget is of.
    """

    devices: tuple[Device, ...] = field(default_factory=published_devices)
    pruned: float = 0.0
    times: tuple[float, ...] = (1.0, HOUR, DAY, MONTH, YEAR)
    compensation: tuple[str, ...] = ("none", "global")
    spec: CrossbarSpec = field(
        default_factory=lambda: CrossbarSpec(
            dac_range="calibrated", adc_range="calibrated", mapping="tensor"
        )
    )
    extrapolate: bool = False
    calibration_images: int = 500
    quantile: float = 1.0
    reset_noise: float = 0.5
    report_vectors: int = 1024

    def __post_init__(self) -> None:
        for name in ("calibration_images", "report_vectors"):
            _arguments.count(name, getattr(self, name))
        _arguments.number("pruned", self.pruned, 0, below=1)
        _arguments.number("quantile", self.quantile, above=0, most=1)
        _arguments.number("reset_noise", self.reset_noise, 0, 100)
        if not all(math.isfinite(t) and t >= 0 for t in self.times) or any(
            later <= earlier for earlier, later in itertools.pairwise(self.times)
        ):
            raise wrong_value("times", "increasing seconds >= 0", self.times)
        if len({time_label(t) for t in self.times}) < len(self.times):
            raise wrong_value("times", "ones that differ in 6 digits", self.times)
        if (
            not self.compensation
            or not set(self.compensation) <= set(COMPENSATIONS)
            or len(set(self.compensation)) < len(self.compensation)
        ):
            known = f"different ones of {', '.join(COMPENSATIONS)}"
            raise wrong_value("compensation", known, self.compensation)
        names = [device.name for device in self.all_devices]
        if len(set(names)) < len(names):
            raise wrong_value("device", "devices of different names", ", ".join(names))

    @property
    def all_devices(self) -> list[Device]:
        """The ideal device, and the others."""
        return [IDEAL, *(device for device in self.devices if device != IDEAL)]

    def of(self, settings: Settings) -> Options:
        """These options, with fewer devices and times where it is to be quick."""
        if not settings.quick:
            return self
        return replace(self, devices=self.devices[:2], times=self.times[::2])

    def to_dict(self) -> dict[str, Any]:
        """The options as plain JSON types, with what is to be known of the devices."""
        plain = ("pruned", "extrapolate", "calibration_images", "quantile", "reset_noise",
                 "report_vectors")  # fmt: skip
        return {
            "devices": [self._about(device) for device in self.all_devices],
            "times": list(self.times),
            "compensation": list(self.compensation),
            "spec": self.spec.to_dict(),
            **{name: getattr(self, name) for name in plain},
        }

    def _about(self, device: Device) -> dict[str, Any]:
        reset = variants(device, self).get("reset")
        return {
            **device.to_dict(),
            "name": device.name,
            "source": device.source,
            "doi": device.doi,
            "synthetic": device.synthetic,
            "g_min": device.g_min,
            "g_max": device.g_max,
            "time_range": None if device.time_range is None else list(device.time_range),
            "reset": None if reset is None or reset.reset is None else list(reset.reset),
            "reset_assumed": reset is not None and device.reset is None,
        }


def columns(device: Device, options: Options) -> list[float | None]:
    """Times at which ``device`` is evaluated; None, right after programming, comes first.

    Those at which it was not measured are left out, unless they are to be extrapolated to and the
    device has a model of what time does.
    """

    def known(seconds: float) -> bool:
        changes = device.aging(seconds, extrapolate=True) is not None
        return changes and (options.extrapolate or device.measured(seconds))

    return [None, *filter(known, options.times)]


def variants(device: Device, options: Options) -> dict[str, Device]:
    """The device by what becomes of zero weights, with a RESET state where it is needed."""
    found = {"programmed": device}
    arguments = device.to_dict()["arguments"]
    if options.pruned and "reset" in arguments:
        if device.reset is None:
            std = options.reset_noise / 100 * (device.g_max - device.g_min)
            arguments["reset"] = [device.g_min, std]
        found["reset"] = devices.from_dict({**device.to_dict(), "arguments": arguments})
    return found


# --------------------------------------------------------------------------- study


def study(options: Options | None = None) -> Study:
    """The study with options of one's own."""
    given = options or Options()

    def tables(settings: Settings) -> list[Table]:
        """Accuracy over time of a network that computes on noisy crossbars.

        The network is trained once. For each device it is converted, programmed on many chips and
        evaluated right after programming and later, with and without drift compensation;
        converters are calibrated on training images. Error budgets of the layers and counters
        follow.
        """
        return _tables(given.of(settings), settings)

    return Study(
        "crossbar",
        "devices of several publications",
        tables,
        "LeNet",
        "MLP",
        in_cells=False,
        options=lambda settings: given.of(settings).to_dict(),
        text=format_crossbars,
        draw=plot_crossbars,
    )


def _tables(options: Options, settings: Settings) -> list[Table]:
    networks = [_network(options, settings, seed) for seed in settings.training_seeds]
    layers = layer_names(networks[0])
    measured: list[Entry] = []
    extrapolated: list[Entry] = []
    for device, entry in _accuracies(options, settings, networks):
        seconds = {time_label(t): t for t in options.times}.get(str(entry.column))
        known = seconds is None or device.measured(seconds)
        (measured if known else extrapolated).append(entry)
    about = ("device and drift compensation", "since programming", ACCURACY)
    budgets = [*_budgets(options, networks, layers)]
    compensated = f"Of one chip, inputs from test images; compensation: {options.compensation[-1]}."
    taken = Job(counts, {"spec": options.spec.to_dict()}, networks[0])
    found = [
        Table(
            ACCURACIES, *about, tuple(measured),
            note="'ideal' shows what the converters do alone.",
        ),
        Table(
            EXTRAPOLATED, *about, tuple(extrapolated),
            note="The devices were not measured at these times; their models go on.",
        ),
        Table(
            NOISE, "layer", "with this error alone, or all", "dB",
            tuple(entry for entry in budgets if entry.column not in PERCENT),
            note=compensated, drawn=False,
        ),
        Table(
            LOSSES, "layer", "of", "%",
            tuple(entry for entry in budgets if entry.column in PERCENT),
            note=compensated, drawn=False,
        ),
        Table(
            COUNTS, "layer", "number", "in all, and for one image",
            tuple(
                Entry(layer, name, (taken,), f"{layer}/{name}")
                for layer in layers
                for name in COUNTERS
            ),
            drawn=False,
        ),
    ]  # fmt: skip
    return [table for table in found if table.entries]


def _network(options: Options, settings: Settings, seed: int) -> Recipe:
    epochs = settings.epochs or settings.pick(20, QUICK_EPOCHS)
    recipe = isik_recipe(settings.source, settings.model, seed, epochs, **settings.hardware)
    return pruned_recipe(recipe, options.pruned) if options.pruned else recipe


def _job_arguments(
    options: Options, device: Device, zero_weights: str, compensation: str
) -> dict[str, Any]:
    """What all jobs on the chips of a device need to know."""
    spec = replace(options.spec, zero_weights=zero_weights, drift_compensation=compensation)
    return {
        "device": device.to_dict(),
        "spec": spec.to_dict(),
        "images": options.calibration_images,
        "quantile": options.quantile,
    }


def _accuracies(
    options: Options, settings: Settings, networks: list[Recipe]
) -> Iterator[tuple[Device, Entry]]:
    """Entries of all devices, with what becomes of zero weights, compensations and times."""
    repeats = settings.repeats or settings.pick(10, 3)
    for device in options.all_devices:
        times = columns(device, options)
        kinds = options.compensation if len(times) > 1 else options.compensation[:1]
        for zero_weights, variant in variants(device, options).items():
            for kind, seconds in itertools.product(kinds, times):
                # Right after programming there is nothing to compensate.
                used = options.compensation[0] if seconds is None else kind
                arguments = {
                    **_job_arguments(options, variant, zero_weights, used),
                    "seconds": seconds,
                    "extrapolate": options.extrapolate,
                    "repeats": repeats,
                }
                jobs = tuple(
                    Job(chips, {**arguments, "seed": network.seed}, network, repeats)
                    for network in networks
                )
                row = accuracy_row(device.name, kind, zero_weights)
                yield device, Entry(row, time_label(seconds), jobs)


def _budgets(options: Options, networks: list[Recipe], layers: list[str]) -> Iterator[Entry]:
    """Error budgets of the layers on the first chip of each device.

    Zero weights are programmed, and what they do to the products if they are left RESET has an
    entry. The chip is as old as the device was measured, or as the last of the times before that,
    and compensated by the last kind.
    """
    for device in options.all_devices:
        seconds = columns(device, replace(options, extrapolate=False))[-1]
        variant = variants(device, options).get("reset") or device
        arguments = {
            **_job_arguments(options, variant, "programmed", options.compensation[-1]),
            "seconds": seconds,
            "vectors": options.report_vectors,
        }
        jobs = tuple(Job(budget, {**arguments, "seed": n.seed}, n) for n in networks)
        for layer in layers:
            row = layer_row(device.name, seconds, layer)
            for name in BUDGET:
                yield Entry(row, name, jobs, f"{layer}/snr_db/{name}", optional=True)
            for name in PERCENT:
                yield Entry(row, name, jobs, f"{layer}/{name}")


STUDIES = (study(),)
