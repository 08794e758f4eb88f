"""Accuracy over time of networks that compute on noisy crossbars, device by device.

One network is trained; for each device its layers are converted, programmed on many chips and
evaluated as the chips age, with and without drift compensation. Of a pruned network, the devices
of zero weights are programmed to g_min, and, on other chips, left RESET.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from .. import devices, random, runtime
from .._types import F32
from ..crossbar import Crossbar, CrossbarSpec
from ..intervals import mean_and_interval
from .engine.recipes import Recipe
from .engine.report import about_data, about_versions
from .engine.training import Trained, about
from .measures import on_crossbars

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..torch import CrossbarLayer

__all__ = [
    "Entry",
    "LayerReport",
    "Settings",
    "columns",
    "evaluate_devices",
    "layer_counts",
    "layer_reports",
    "published_devices",
    "report",
    "steps",
]

HOUR, DAY = 3600.0, 86_400.0
MONTH, YEAR = 30 * DAY, 365 * DAY
COMPENSATIONS = ("none", "global", "column")
ZERO_WEIGHTS = ("programmed", "reset")
BATCH = 250  # images, in what is not a plain evaluation
READS = random.stream("study", "reads")
IDEAL = devices.ideal()


@dataclass(frozen=True)
class Settings:
    """Everything that decides the table, besides the network and the devices.

    Parameters
    ----------
    chips : int
        Programmed for each entry, at least 2.
    seed : int
        Seed of the chips and their reads.
    times : tuple of float
        Seconds since programming, increasing; chips are evaluated right after programming, too.
    compensation : tuple of {"none", "global", "column"}
        Kinds of drift compensation, each for the same chips.
    spec : CrossbarSpec
        The circuit; its ``drift_compensation`` and ``zero_weights`` are those of each entry.
    extrapolate : bool
        Go on to times at which a device was not measured; such entries say so.
    calibration_images : int
        Training images that set the ranges of calibrated converters.
    quantile : float
        Of the magnitudes of inputs and sums that calibrated ranges cover, in (0, 1].
    reset_noise : float
        Standard deviation of devices left RESET about g_min, in percent of g_max - g_min, assumed
        of devices whose RESET state is not published.
    report_vectors : int
        Input vectors of each layer, from test images, that :func:`layer_reports` looks at.
    """

    chips: int = 10
    seed: int = 0
    times: tuple[float, ...] = (1.0, HOUR, DAY, MONTH, YEAR)
    compensation: tuple[str, ...] = ("none", "global")
    spec: CrossbarSpec = field(
        default_factory=lambda: CrossbarSpec(
            dac_range="calibrated", adc_range="calibrated", read_noise="weight"
        )
    )
    extrapolate: bool = False
    calibration_images: int = 500
    quantile: float = 1.0
    reset_noise: float = 0.5
    report_vectors: int = 1024

    def __post_init__(self) -> None:
        random.check_seed("seed", self.seed)
        for name, least in (
            ("chips", 2),
            ("calibration_images", 1),
            ("report_vectors", 1),
        ):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: expected at least {least}, got {getattr(self, name)}")
        if not 0 < self.quantile <= 1:
            raise ValueError(f"quantile: expected a number in (0, 1], got {self.quantile}")
        if not 0 <= self.reset_noise <= 100:
            raise ValueError(f"reset_noise: expected 0 to 100, got {self.reset_noise}")
        if not all(math.isfinite(t) and t >= 0 for t in self.times) or any(
            later <= earlier for earlier, later in itertools.pairwise(self.times)
        ):
            raise ValueError(f"times: expected increasing seconds >= 0, got {self.times}")
        if (
            not self.compensation
            or not set(self.compensation) <= set(COMPENSATIONS)
            or len(set(self.compensation)) < len(self.compensation)
        ):
            raise ValueError(
                f"compensation: expected different ones of {', '.join(COMPENSATIONS)}, got "
                f"{self.compensation}"
            )

    def to_dict(self) -> dict[str, Any]:
        """The settings, as plain JSON types."""
        return {**asdict(self), "spec": self.spec.to_dict()}


@dataclass(frozen=True)
class Entry:
    """One entry of the table.

    Parameters
    ----------
    device : str
        Name of the device.
    zero_weights : {"programmed", "reset"}
    compensation : {"none", "global", "column"} or None
        None right after programming, when there is nothing to compensate.
    seconds : float or None
        Since programming; None: right after it.
    extrapolated : bool
        Whether the device was not measured at that time.
    accuracies : tuple of float
        Test accuracy of each chip, in percent.
    mean, half_width : float
        Their mean and the half width of its 95 % Student-t interval.
    """

    device: str
    zero_weights: str
    compensation: str | None
    seconds: float | None
    extrapolated: bool
    accuracies: tuple[float, ...]
    mean: float
    half_width: float


@dataclass(frozen=True)
class LayerReport:
    """Where the errors of one layer on one chip come from, and what the layer takes.

    Parameters
    ----------
    device, layer : str
    seconds : float or None
        Age of the chip.
    compensation : str
    snr_db : dict of float or None
        Signal-to-noise ratio with each non-ideality alone and with all, see
        :meth:`noisycells.Crossbar.error_budget`; None where there is no error at all.
    dac_clipping_percent, adc_saturation_percent : float
        Of the input values and of the conversions.
    """

    device: str
    layer: str
    seconds: float | None
    compensation: str
    snr_db: dict[str, float | None]
    dac_clipping_percent: float
    adc_saturation_percent: float


# --------------------------------------------------------------------------- devices and times


def published_devices() -> list[devices.Device]:
    """The presets that are models of measured devices, as they come."""
    presets = (devices.get(name) for name in devices.names())
    return [d for d in presets if isinstance(d, devices.Device) and not d.synthetic]


def columns(device: devices.Device, settings: Settings) -> list[float | None]:
    """Times at which ``device`` is evaluated; None, right after programming, comes first.

    Those at which it was not measured are left out, unless they are to be extrapolated to and the
    device has a model of what time does.
    """

    def known(seconds: float) -> bool:
        changes = device.aging(seconds, extrapolate=True) is not None
        return changes and (settings.extrapolate or device.measured(seconds))

    return [None, *filter(known, settings.times)]


def steps(found: Sequence[devices.Device], settings: Settings, recipe: Recipe) -> int:
    """How often :func:`evaluate_devices` reports progress."""
    return settings.chips * sum(
        len(_variants(device, settings, recipe))
        * (1 + (len(columns(device, settings)) - 1) * len(settings.compensation))
        for device in _with_ideal(found)
    )


def _with_ideal(found: Sequence[devices.Device]) -> list[devices.Device]:
    """The ideal device, which shows what the converters do alone, and ``found``."""
    everything = [IDEAL, *(device for device in found if device != IDEAL)]
    names = [device.name for device in everything]
    if len(set(names)) < len(names):
        raise ValueError(f"device: expected devices of different names, got {', '.join(names)}")
    return everything


def _variants(
    device: devices.Device, settings: Settings, recipe: Recipe
) -> dict[str, devices.Device]:
    """The device by what becomes of zero weights, with a RESET state where it is needed."""
    found = {"programmed": device}
    arguments = device.to_dict()["arguments"]
    if recipe.pruned and "reset" in arguments:
        if device.reset is None:
            std = settings.reset_noise / 100 * (device.g_max - device.g_min)
            arguments["reset"] = [device.g_min, std]
        found["reset"] = devices.from_dict({**device.to_dict(), "arguments": arguments})
    return found


# --------------------------------------------------------------------------- evaluation


def evaluate_devices(
    trained: Trained,
    found: Sequence[devices.Device],
    settings: Settings,
    progress: Callable[[], None] | None = None,
) -> list[Entry]:
    """Compute with the network on chips of every device, at every time.

    Chip number i has the same seed on every device, and its reads have the same noise with and
    without compensation, so entries can be compared in pairs. Converters are calibrated on
    training images and the target conductances: all chips of a device have the same ranges.

    Parameters
    ----------
    trained : Trained
        The training images calibrate, the test images are evaluated.
    found : sequence of Device
        The ideal device comes before them.
    settings : Settings
    progress : callable, optional
        Called after each of :func:`steps` evaluations.

    Raises
    ------
    ValueError
        If two devices have the same name.
    """
    import torch

    from .. import torch as nct

    dataset = trained.dataset
    images = torch.from_numpy(dataset.normalize(dataset.test_images))
    labels = torch.from_numpy(dataset.test_labels)
    entries = []
    for device in _with_ideal(found):
        for zero_weights, variant in _variants(device, settings, trained.recipe).items():
            models = {
                compensation: _converted(trained, variant, settings, zero_weights, compensation)
                for compensation in settings.compensation
            }
            accuracies: dict[tuple[str | None, float | None], list[float]] = {}
            for chip in range(settings.chips):
                for model in models.values():
                    nct.program(model, random.fold_in(settings.seed, chip))
                for seconds in columns(device, settings):
                    kinds = models if seconds is not None else {None: next(iter(models.values()))}
                    for kind, model in kinds.items():
                        if seconds is not None:
                            nct.at(model, seconds, settings.extrapolate)
                        with _read_noise(settings.seed, chip, seconds):
                            accuracy = nct.accuracy(model, images, labels)
                        accuracies.setdefault((kind, seconds), []).append(accuracy)
                        if progress is not None:
                            progress()
            entries += [
                Entry(
                    device.name,
                    zero_weights,
                    kind,
                    seconds,
                    seconds is not None and not device.measured(seconds),
                    tuple(values),
                    *mean_and_interval(values),
                )
                for (kind, seconds), values in accuracies.items()
            ]
    return entries


def _converted(
    trained: Trained,
    device: devices.Device,
    settings: Settings,
    zero_weights: str,
    compensation: str,
) -> nn.Module:
    """A copy of the network on crossbars, with calibrated converters, not programmed yet."""
    spec = replace(settings.spec, zero_weights=zero_weights, drift_compensation=compensation)
    return on_crossbars(
        copy.deepcopy(trained.model), trained.dataset, device, spec,
        settings.calibration_images, settings.quantile,
    )  # fmt: skip


@contextmanager
def _read_noise(seed: int, chip: int, seconds: float | None) -> Iterator[None]:
    """Let torch's generator, which keys the reads, depend on these alone for a while."""
    import torch

    age = 0 if seconds is None else 1 + round(seconds)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(
            random.fold_in(random.fold_in(random.fold_in(seed, chip), age), READS)
        )
        yield


# --------------------------------------------------------------------------- layers


def layer_reports(
    trained: Trained, found: Sequence[devices.Device], settings: Settings
) -> list[LayerReport]:
    """Error budgets of the layers on the first chip of each device.

    The inputs are those that the layers of the noise-free network get for test images, the same
    for every device; zero weights are programmed, and what they do to the products if they are
    left RESET has an entry. The chip is as old as the device was measured, or as the last of the
    settings' times before that, and compensated by the last kind.
    """
    from .. import torch as nct

    compensation = settings.compensation[-1]
    inputs = _layer_inputs(trained, settings)
    reports = []
    for device in _with_ideal(found):
        seconds = columns(device, replace(settings, extrapolate=False))[-1]
        variant = _variants(device, settings, trained.recipe).get("reset", device)
        model = _converted(trained, variant, settings, "programmed", compensation)
        nct.program(model, random.fold_in(settings.seed, 0))
        if seconds is not None:
            nct.at(model, seconds)
        for name, (vectors, _) in inputs.items():
            array = _array(model, name)
            outcome = array.report(vectors, settings.seed)
            budget = array.error_budget(vectors, settings.seed)
            reports.append(
                LayerReport(
                    device.name,
                    name,
                    seconds,
                    compensation,
                    {key: v if math.isfinite(v) else None for key, v in budget.items()},
                    outcome["dac_clipping_percent"],
                    outcome["adc_saturation_percent"],
                )
            )
    return reports


def layer_counts(trained: Trained, settings: Settings) -> list[dict[str, Any]]:
    """What each layer has, and what one image takes: :meth:`noisycells.Crossbar.counters`.

    With the keys ``layer``, ``shape`` (out, in) and ``vectors``, inputs of the layer for an image.
    """
    rows = []
    model = _converted(trained, IDEAL, settings, "programmed", "none")
    for name, (_, vectors) in _layer_inputs(trained, settings).items():
        array = _array(model, name)
        row = {"layer": name, "shape": list(array.weight.shape), "vectors": vectors}
        rows.append({**row, **array.counters(vectors)})
    return rows


def _array(model: nn.Module, name: str) -> Crossbar:
    from .. import torch as nct

    layer = model.get_submodule(name)
    assert isinstance(layer, nct.CrossbarLayer)
    (array,) = layer.crossbars()
    return array


def _layer_inputs(trained: Trained, settings: Settings) -> dict[str, tuple[F32, int]]:
    """Input vectors (vectors, in) of each layer for test images, and how many an image has."""
    import torch

    from .. import torch as nct

    plain = replace(settings, spec=CrossbarSpec(dac_bits=None, adc_bits=None))
    model = nct.program(_converted(trained, IDEAL, plain, "programmed", "none"), 0)
    dataset = trained.dataset
    images = torch.from_numpy(dataset.normalize(dataset.test_images[:BATCH]))
    seen: dict[str, tuple[F32, int]] = {}

    def look_at(name: str, layer: CrossbarLayer) -> None:
        def hook(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            (vectors,) = torch.cat(list(layer.examples(arguments[0])), 1)
            every = -(-len(vectors) // settings.report_vectors)
            seen[name] = vectors[::every].numpy().copy(), len(vectors) // len(images)

        layer.register_forward_pre_hook(hook)

    for name, module in model.named_modules():
        if isinstance(module, nct.CrossbarLayer):
            look_at(name, module)
    with torch.inference_mode():
        model.eval()(images)
    return seen


# --------------------------------------------------------------------------- report


def report(
    dense: Trained,
    trained: Trained,
    found: Sequence[devices.Device],
    settings: Settings,
    entries: Sequence[Entry],
    layers: Sequence[LayerReport],
    counts: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Everything the files and the table show, as plain JSON types.

    `dense` is the network before pruning, or `trained` where nothing was pruned. The report holds
    every setting, seed, version and single accuracy, no time and no path: on one machine, the same
    settings give the same report.
    """
    import torch

    return {
        "study": "crossbar",
        "data": about_data(trained.dataset),
        "settings": settings.to_dict(),
        "devices": [_about(device, settings, trained.recipe) for device in _with_ideal(found)],
        "versions": about_versions(),
        "threads": torch.get_num_threads(),  # sums may round differently with another number
        "simd_level": runtime.simd_level(),  # products in float32 round differently at another
        "dense": {**about(dense), "recipe": dense.recipe.describe()},
        "network": {**about(trained), "recipe": trained.recipe.describe()},
        "entries": [asdict(entry) for entry in entries],
        "layers": [asdict(layer) for layer in layers],
        "counts": [dict(row) for row in counts],
    }


def _about(device: devices.Device, settings: Settings, recipe: Recipe) -> dict[str, Any]:
    reset = _variants(device, settings, recipe).get("reset")
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
