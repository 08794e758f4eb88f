"""Accuracy over time of networks that compute on noisy crossbars, device by device.

One network is trained; for each device its layers are converted, programmed on many chips and
evaluated as the chips age, with and without drift compensation. Of a pruned network, the devices
of zero weights are programmed to g_min, and, on other chips, left RESET.
"""

from __future__ import annotations

import copy
import itertools
import math
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from .. import devices, random, runtime
from ..crossbar import Crossbar, CrossbarSpec
from ..data import Dataset
from ..intervals import mean_and_interval
from ..reference import F32
from .measures import on_crossbars
from .network import MODELS, Network
from .report import about_data, about_versions

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import Tensor, nn

    from ..torch import CrossbarLayer

__all__ = [
    "Entry",
    "LayerReport",
    "Settings",
    "columns",
    "evaluate_devices",
    "format_table",
    "layer_counts",
    "layer_reports",
    "plot",
    "published_devices",
    "report",
    "steps",
    "time_label",
]

HOUR, DAY = 3600.0, 86_400.0
MONTH, YEAR = 30 * DAY, 365 * DAY
UNITS = (("year", YEAR), ("month", MONTH), ("day", DAY), ("h", HOUR), ("min", 60.0), ("s", 1.0))
COMPENSATIONS = ("none", "global", "column")
ZERO_WEIGHTS = ("programmed", "reset")
BATCH = 250  # images, in what is not a plain evaluation
WIDTH = 80  # of the table, in characters
READS = random.stream("study", "reads")
IDEAL = devices.ideal()
BUDGET = {
    "weight_slices": "round",
    "programming": "write",
    "zero_weights_programmed": "zeros",
    "zero_weights_reset": "RESET",
    "drift": "drift",
    "drift_compensated": "comp.",
    "ir_drop": "wires",
    "weight_noise": "reads",
    "output_noise": "out",
    "dac": "DAC",
    "adc": "ADC",
    "all": "all",
}
"""Headings of the error budget."""


@dataclass(frozen=True)
class Settings:
    """Everything that decides the table, besides the data set and the devices.

    Parameters
    ----------
    model : {"LeNet", "MLP", "ResNet20"}
    chips : int
        Programmed for each entry, at least 2.
    seed : int
        Seed of the training, the chips and their reads.
    epochs, finetune_epochs : int
        Epochs before and after pruning.
    pruned : float
        Share of the weights pruned, in [0, 1).
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

    model: str = "LeNet"
    chips: int = 10
    seed: int = 0
    epochs: int = 20
    finetune_epochs: int = 10
    pruned: float = 0.0
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
        if self.model not in MODELS:
            raise ValueError(f"model: expected one of {', '.join(MODELS)}, got {self.model!r}")
        for name, least in (
            ("chips", 2),
            ("epochs", 1),
            ("finetune_epochs", 1),
            ("calibration_images", 1),
            ("report_vectors", 1),
        ):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: expected at least {least}, got {getattr(self, name)}")
        if not 0 <= self.pruned < 1:
            raise ValueError(f"pruned: expected a share in [0, 1), got {self.pruned}")
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
        changes = device.ageing(seconds, extrapolate=True) is not None
        return changes and (settings.extrapolate or device.measured(seconds))

    return [None, *filter(known, settings.times)]


def steps(found: Sequence[devices.Device], settings: Settings) -> int:
    """How often :func:`evaluate_devices` reports progress."""
    return settings.chips * sum(
        len(_variants(device, settings))
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


def _variants(device: devices.Device, settings: Settings) -> dict[str, devices.Device]:
    """The device by what becomes of zero weights, with a RESET state where it is needed."""
    found = {"programmed": device}
    arguments = device.to_dict()["arguments"]
    if settings.pruned and "reset" in arguments:
        if device.reset is None:
            std = settings.reset_noise / 100 * (device.g_max - device.g_min)
            arguments["reset"] = [device.g_min, std]
        found["reset"] = devices.from_dict({**device.to_dict(), "arguments": arguments})
    return found


# --------------------------------------------------------------------------- evaluation


def evaluate_devices(
    network: Network,
    dataset: Dataset,
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
    network : Network
    dataset : Dataset
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

    images = torch.from_numpy(dataset.normalise(dataset.test_images))
    labels = torch.from_numpy(dataset.test_labels)
    entries = []
    for device in _with_ideal(found):
        for zero_weights, variant in _variants(device, settings).items():
            models = {
                compensation: _converted(
                    network, dataset, variant, settings, zero_weights, compensation
                )
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
    network: Network,
    dataset: Dataset,
    device: devices.Device,
    settings: Settings,
    zero_weights: str,
    compensation: str,
) -> nn.Module:
    """A copy of the network on crossbars, with calibrated converters, not programmed yet."""
    spec = replace(settings.spec, zero_weights=zero_weights, drift_compensation=compensation)
    return on_crossbars(
        copy.deepcopy(network.model), dataset, device, spec,
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
    network: Network, dataset: Dataset, found: Sequence[devices.Device], settings: Settings
) -> list[LayerReport]:
    """Error budgets of the layers on the first chip of each device.

    The inputs are those that the layers of the noise-free network get for test images, the same
    for every device; zero weights are programmed, and what they do to the products if they are
    left RESET has an entry. The chip is as old as the device was measured, or as the last of the
    settings' times before that, and compensated by the last kind.
    """
    from .. import torch as nct

    compensation = settings.compensation[-1]
    inputs = _layer_inputs(network, dataset, settings)
    reports = []
    for device in _with_ideal(found):
        seconds = columns(device, replace(settings, extrapolate=False))[-1]
        variant = _variants(device, settings).get("reset", device)
        model = _converted(network, dataset, variant, settings, "programmed", compensation)
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


def layer_counts(network: Network, dataset: Dataset, settings: Settings) -> list[dict[str, Any]]:
    """What each layer has, and what one image takes: :meth:`noisycells.Crossbar.counters`.

    With the keys ``layer``, ``shape`` (out, in) and ``vectors``, inputs of the layer for an image.
    """
    rows = []
    model = _converted(network, dataset, IDEAL, settings, "programmed", "none")
    for name, (_, vectors) in _layer_inputs(network, dataset, settings).items():
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


def _layer_inputs(
    network: Network, dataset: Dataset, settings: Settings
) -> dict[str, tuple[F32, int]]:
    """Input vectors (vectors, in) of each layer for test images, and how many an image has."""
    import torch

    from .. import torch as nct

    plain = replace(settings, spec=CrossbarSpec(dac_bits=None, adc_bits=None))
    model = nct.program(_converted(network, dataset, IDEAL, plain, "programmed", "none"), 0)
    images = torch.from_numpy(dataset.normalise(dataset.test_images[:BATCH]))
    seen: dict[str, tuple[F32, int]] = {}

    def look_at(name: str, layer: CrossbarLayer) -> None:
        def hook(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            (vectors,) = layer.vectors(arguments[0])
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
    network: Network,
    dataset: Dataset,
    found: Sequence[devices.Device],
    settings: Settings,
    entries: Sequence[Entry],
    layers: Sequence[LayerReport],
    counts: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Everything the files and the table show, as plain JSON types.

    It holds every setting, seed, version and single accuracy, no time and no path: on one machine,
    the same settings give the same report.
    """
    import torch

    return {
        "study": "crossbar",
        "data": about_data(dataset),
        "settings": settings.to_dict(),
        "devices": [_about(device, settings) for device in _with_ideal(found)],
        "versions": about_versions(),
        "threads": torch.get_num_threads(),  # training rounds differently with another number
        "simd_level": runtime.simd_level(),  # products in float32 round differently at another
        "network": network.to_dict(),
        "entries": [asdict(entry) for entry in entries],
        "layers": [asdict(layer) for layer in layers],
        "counts": [dict(row) for row in counts],
    }


def _about(device: devices.Device, settings: Settings) -> dict[str, Any]:
    reset = _variants(device, settings).get("reset")
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


def time_label(seconds: float | None) -> str:
    """Such as "1 h" or "2 days"; of None, "programmed"."""
    if seconds is None:
        return "programmed"
    for unit, length in UNITS:
        number = seconds / length
        if number >= 1 and number == round(number):
            return f"{number:g} {unit}" + "s" * (number > 1 and unit in ("day", "month", "year"))
    return f"{seconds:g} s"


def format_table(report: dict[str, Any]) -> str:
    """The report as text: accuracies over time, error budgets of the layers, counters."""
    return "\n".join(
        [
            *(textwrap.fill(paragraph, WIDTH) for paragraph in _paragraphs(report)),
            *_accuracy_lines(report),
            *_layer_lines(report),
            *_count_lines(report),
        ]
    )


def _paragraphs(report: dict[str, Any]) -> list[str]:
    data, network, settings = report["data"], report["network"], report["settings"]
    spec = settings["spec"]
    accuracy = f"float32 accuracy {network['pruned_accuracy']:.2f} %"
    if settings["pruned"]:
        accuracy += (
            f" with {100 * settings['pruned']:g} % of the weights pruned, "
            f"{network['dense_accuracy']:.2f} % before"
        )

    def converter(name: str) -> str:
        bits = spec[f"{name}_bits"]
        if bits is None:
            return f"ideal {name.upper()}"
        source = spec[f"{name}_range"]
        if source == "calibrated" and settings["quantile"] < 1:
            source = f"calibrated, quantile {settings['quantile']:g}"
        return f"{bits}-bit {name.upper()} (range: {source})"

    found = [
        f"{network['name']} on {data['name']}, {data['training_images']} training and "
        f"{data['test_images']} test images: {accuracy}.",
        f"Tiles of {spec['rows']} x {spec['cols']}, {converter('dac')}, {converter('adc')}, read "
        f"noise: {spec['read_noise']}, mapping: {spec['mapping']}; {settings['chips']} chips an "
        f"entry, seed {settings['seed']}. Biases stay digital.",
    ]
    if any(entry["extrapolated"] for entry in report["entries"]):
        found.append("* extrapolated: the device was not measured at that time.")
    elif len(_times(report)) - 1 < len(settings["times"]) or _gaps(report):
        found.append("Times at which a device was not measured are left out (--extrapolate).")
    assumed = [device for device in report["devices"] if device["reset_assumed"]]
    if assumed:
        found.append(
            "RESET: devices of zero weights are left RESET instead of programmed to g_min. "
            f"Published for none of {', '.join(d['name'] for d in assumed)}; assumed: g_min with "
            f"a standard deviation of {settings['reset_noise']:g} % of g_max - g_min."
        )
    return found


def _times(report: dict[str, Any]) -> list[float | None]:
    """Times of all entries in order, None first."""
    found = {entry["seconds"] for entry in report["entries"]}
    return sorted(found, key=lambda t: -1 if t is None else t)


def _gaps(report: dict[str, Any]) -> bool:
    times = len(_times(report))
    return any(len({e["seconds"] for e in row}) < times for _, row in _devices(report)[1:])


def _devices(report: dict[str, Any]) -> list[tuple[tuple[str, str], list[dict[str, Any]]]]:
    """Entries of each (device, zero weights), in order."""

    def of(entry: dict[str, Any]) -> tuple[str, str]:
        return entry["device"], entry["zero_weights"]

    return [(key, list(row)) for key, row in itertools.groupby(report["entries"], of)]


def _accuracy_lines(report: dict[str, Any]) -> list[str]:
    times = _times(report)
    lines = ["", "Test accuracy in %, mean and 95 % interval, by drift compensation:"]
    lines.append(" " * 8 + "".join(f"{time_label(t):>12}" for t in times))
    for (device, zero_weights), row in _devices(report):
        lines.append(f"{device}, zero weights RESET" if zero_weights == "reset" else device)
        at = {(entry["compensation"], entry["seconds"]): entry for entry in row}
        for kind in report["settings"]["compensation"]:
            cells = [at.get((None if t is None else kind, t)) for t in times]
            lines.append(f"  {kind:<6}" + "".join(f"{_accuracy(cell):>12}" for cell in cells))
            if set(at) == {(None, None)}:
                break  # nothing happens that could be compensated
    return lines


def _accuracy(entry: dict[str, Any] | None) -> str:
    if entry is None:
        return "-"
    half_width = entry["half_width"]
    digits = 2 if half_width < 10 else 1
    return f"{entry['mean']:.2f}±{half_width:.{digits}f}" + "*" * entry["extrapolated"]


def _layer_lines(report: dict[str, Any]) -> list[str]:
    layers = report["layers"]
    kinds = [kind for kind in BUDGET if any(kind in layer["snr_db"] for layer in layers)]
    width = max(len(layer["layer"]) for layer in layers) + 2
    lines = ["", "Signal-to-noise ratio of each layer in dB, each error alone and all together,"]
    lines.append("input values clipped by the DAC and conversions saturated in %, of one chip:")
    lines.append(" " * width + "".join(f"{BUDGET[kind]:>6}" for kind in kinds) + "  clip  sat.")
    for device, row in itertools.groupby(layers, lambda layer: layer["device"]):
        for i, layer in enumerate(row):
            if not i:
                age = time_label(layer["seconds"])
                lines.append(f"{device}, {age}, compensation: {layer['compensation']}")
            values = (layer["snr_db"].get(kind, math.nan) for kind in kinds)
            cells = (
                "none" if v is None else "" if math.isnan(v) else f"{min(v, 99.9):.1f}"
                for v in values
            )
            lines.append(
                f"  {layer['layer']:<{width - 2}}" + "".join(f"{cell:>6}" for cell in cells)
                + f"{layer['dac_clipping_percent']:>6.2f}{layer['adc_saturation_percent']:>6.2f}"
            )  # fmt: skip
    return lines


def _count_lines(report: dict[str, Any]) -> list[str]:
    counts = report["counts"]
    lines = ["", "Tiles, cells and, for one image, reads of tiles and conversions:"]
    names = ("tiles", "cells", "vectors", "reads", "dac_conversions", "adc_conversions")
    headings = ("tiles", "cells", "vectors", "reads", "DAC", "ADC")
    width = max(len("total"), *(len(row["layer"]) for row in counts)) + 2
    lines.append(" " * width + "".join(f"{heading:>12}" for heading in headings))
    for row in (*counts, {"layer": "total", **{n: sum(c[n] for c in counts) for n in names}}):
        lines.append(f"{row['layer']:<{width}}" + "".join(f"{row[n]:>12,}" for n in names))
    return lines


def plot(report: dict[str, Any]) -> Figure:
    """Accuracy over time, a panel for each device; open markers and dashes are extrapolated."""
    from matplotlib.figure import Figure

    panels: dict[str, list[dict[str, Any]]] = {}
    ideal: list[float] = []
    for entry in report["entries"]:
        if entry["device"] == IDEAL.name:
            ideal.append(entry["mean"])
        else:
            panels.setdefault(entry["device"], []).append(entry)
    across = min(3, max(1, len(panels)))
    down = max(1, math.ceil(len(panels) / across))
    figure = Figure(figsize=(4 * across + 1, 3.2 * down + 0.6), layout="constrained")
    grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    times = _times(report)
    for axes, (device, entries) in zip(grid.flat, panels.items(), strict=False):
        _panel(axes, entries, report["settings"]["compensation"], times)
        axes.axhline(report["network"]["pruned_accuracy"], color="grey", ls=":", label="float32")
        axes.axhline(ideal[0], color="grey", ls="-.", lw=0.8, label="ideal devices")
        axes.set_title(device, fontsize=10)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    first = grid.flat[0]
    first.set_xscale("log")
    first.set_xticks([_position(t, times) for t in times], [time_label(t) for t in times])
    first.set_xticks([], minor=True)
    first.set_ylim(*_shown(report))
    for axes in grid.flat:
        axes.tick_params(labelsize=7)
        axes.tick_params("x", rotation=30)
    handles = {
        label: handle
        for axes in grid.flat
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, fontsize=8)
    figure.supylabel("test accuracy (%)", fontsize=10)
    network, data = report["network"]["name"], report["data"]["name"]
    figure.suptitle(
        f"{network} on {data}, computed on noisy crossbars: mean and 95 % interval of "
        f"{report['settings']['chips']} chips",
        fontsize=11,
    )
    return figure


def _panel(
    axes: Axes,
    entries: list[dict[str, Any]],
    kinds: Sequence[str],
    times: Sequence[float | None],
) -> None:
    for zero_weights, (i, kind) in itertools.product(ZERO_WEIGHTS, enumerate(kinds)):
        row = [
            e for e in entries
            if e["zero_weights"] == zero_weights and e["compensation"] in (None, kind)
        ]  # fmt: skip
        if not row:
            continue
        reset = zero_weights == "reset"
        color = f"C{i + len(kinds) * reset}"
        # Often on top of one another: those left RESET are larger, and behind.
        marker, size, layer = ("s", 8, 1) if reset else ("o", 4, 3)
        x = [_position(e["seconds"], times) for e in row]
        y = [e["mean"] for e in row]
        axes.errorbar(x, y, [e["half_width"] for e in row], fmt="none", ecolor=color, capsize=2)
        for known, style, fill in ((True, "-", color), (False, "--", "white")):
            points = [e["extrapolated"] != known for e in row]
            name = f"compensation: {kind}" + ", zero weights RESET" * reset
            axes.plot(
                x, [v if shown else math.nan for v, shown in zip(y, points, strict=True)],
                marker=marker, ms=size, color=color, mfc=fill, ls="none",
                label=name if known else None, zorder=layer,
            )  # fmt: skip
            for j, shown in enumerate(points[1:]):
                if shown:
                    axes.plot(x[j : j + 2], y[j : j + 2], color=color, ls=style, lw=1)
    axes.grid(alpha=0.3)


def _shown(report: dict[str, Any]) -> tuple[float, float]:
    """Range of accuracies: all that was measured, and what is extrapolated unless far below."""
    noise_free = report["network"]["pruned_accuracy"]

    def ends(entries: list[dict[str, Any]]) -> tuple[float, float]:
        low = min(noise_free, *(e["mean"] - e["half_width"] for e in entries))
        return low, max(noise_free, *(e["mean"] + e["half_width"] for e in entries))

    low, high = ends([e for e in report["entries"] if not e["extrapolated"]])
    lowest, highest = ends(report["entries"])
    low = max(lowest, low - 3 * (high - low))
    margin = 0.05 * (highest - low) or 1.0
    return low - margin, highest + margin


def _position(seconds: float | None, times: Sequence[float | None]) -> float:
    """Where a time stands on a logarithmic axis, which has no place for the moment of writing."""
    first = next((t for t in times if t), 1.0)
    return seconds or first / 30
