"""Jobs on crossbars: chips as they age, where the errors of layers come from, what they take."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .. import devices, random
from .._types import F32
from ..crossbar import Crossbar, CrossbarSpec
from .engine import Recipe, Trained, job
from .engine.training import build
from .measures import on_crossbars

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..torch import CrossbarLayer

__all__ = ["budget", "chips", "counts", "layer_inputs", "layer_names"]

BATCH = 250  # images, in what is not a plain evaluation
READS = random.stream("study", "reads")
IDEAL = devices.ideal()
EXACT = CrossbarSpec(dac_bits=None, adc_bits=None)


@job
def chips(
    trained: Trained,
    *,
    device: dict[str, Any],
    spec: dict[str, Any],
    images: int,
    quantile: float,
    seconds: float | None,
    extrapolate: bool,
    repeats: int,
    seed: int,
) -> dict[str, Any]:
    """Accuracies (%) of chips that compute with the network, so long after programming.

    Chip number i has the same seed on every device, and its reads have the same noise with and
    without compensation, so results can be compared in pairs. Converters are calibrated on training
    images and the target conductances: all chips of a device have the same ranges.
    """
    import torch

    from .. import torch as nct

    data = trained.dataset
    tested = torch.from_numpy(data.normalize(data.test_images))
    labels = torch.from_numpy(data.test_labels)
    model = converted(trained, device, spec, images, quantile)
    accuracies = []
    for chip in range(repeats):
        nct.program(model, random.fold_in(seed, chip))
        if seconds is not None:
            nct.at(model, seconds, extrapolate)
        with _read_noise(seed, chip, seconds):
            accuracies.append(nct.accuracy(model, tested, labels))
    return {"accuracies": accuracies}


@job
def budget(
    trained: Trained,
    *,
    device: dict[str, Any],
    spec: dict[str, Any],
    images: int,
    quantile: float,
    seconds: float | None,
    vectors: int,
    seed: int,
) -> dict[str, Any]:
    """Error budgets of the layers on the first chip, by their names.

    The inputs are those that the layers of the noise-free network get for test images, the same
    for every device, at most ``vectors`` for each layer. ``snr_db`` has the signal-to-noise ratio
    with each non-ideality alone and with all, see :meth:`noisycells.Crossbar.error_budget`; None
    where there is no error at all. ``dac_clipping_percent`` and ``adc_saturation_percent`` are of
    the input values and of the conversions.
    """
    from .. import torch as nct

    model = converted(trained, device, spec, images, quantile)
    nct.program(model, random.fold_in(seed, 0))
    if seconds is not None:
        nct.at(model, seconds)
    found = {}
    for name, (inputs, _) in layer_inputs(trained, vectors).items():
        array = _array(model, name)
        outcome = array.report(inputs, seed)
        ratios = array.error_budget(inputs, seed)
        found[name] = {
            "snr_db": {key: v if math.isfinite(v) else None for key, v in ratios.items()},
            "dac_clipping_percent": outcome["dac_clipping_percent"],
            "adc_saturation_percent": outcome["adc_saturation_percent"],
        }
    return found


@job
def counts(trained: Trained, *, spec: dict[str, Any]) -> dict[str, Any]:
    """What each layer has, and what one image takes: :meth:`noisycells.Crossbar.counters`.

    With ``outputs`` and ``inputs`` of the layer, and ``vectors``, its inputs for one image.
    """
    model = converted(trained, IDEAL.to_dict(), spec, images=1, quantile=1.0)
    found = {}
    for name, (_, vectors) in layer_inputs(trained, vectors=1).items():
        array = _array(model, name)
        outputs, inputs = array.weight.shape
        size = {"outputs": outputs, "inputs": inputs, "vectors": vectors}
        found[name] = {**size, **array.counters(vectors)}
    return found


def layer_names(recipe: Recipe) -> list[str]:
    """Layers of a network that crossbars compute; nothing is trained."""
    from .. import torch as nct

    dataset = recipe.source.load()
    model = on_crossbars(build(recipe, dataset).eval(), dataset, IDEAL, EXACT)
    return [name for name, m in model.named_modules() if isinstance(m, nct.CrossbarLayer)]


def converted(
    trained: Trained, device: dict[str, Any], spec: dict[str, Any], images: int, quantile: float
) -> nn.Module:
    """A copy of the network on crossbars, with calibrated converters, not programmed yet."""
    return on_crossbars(
        copy.deepcopy(trained.model),
        trained.dataset,
        devices.from_dict(device),
        CrossbarSpec.from_dict(spec),
        images,
        quantile,
    )


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


def _array(model: nn.Module, name: str) -> Crossbar:
    from .. import torch as nct

    layer = model.get_submodule(name)
    assert isinstance(layer, nct.CrossbarLayer)
    (array,) = layer.crossbars()
    return array


def layer_inputs(trained: Trained, vectors: int) -> dict[str, tuple[F32, int]]:
    """Input vectors (vectors, in) of each layer for test images, and how many an image has."""
    import torch

    from .. import torch as nct

    model = converted(trained, IDEAL.to_dict(), EXACT.to_dict(), images=1, quantile=1.0)
    nct.program(model, 0)
    dataset = trained.dataset
    images = torch.from_numpy(dataset.normalize(dataset.test_images[:BATCH]))
    seen: dict[str, tuple[F32, int]] = {}

    def look_at(name: str, layer: CrossbarLayer) -> None:
        def hook(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            (inputs,) = torch.cat(list(layer.examples(arguments[0])), 1)
            every = -(-len(inputs) // vectors)
            seen[name] = inputs[::every].numpy().copy(), len(inputs) // len(images)

        layer.register_forward_pre_hook(hook)

    for name, module in model.named_modules():
        if isinstance(module, nct.CrossbarLayer):
            look_at(name, module)
    with torch.inference_mode():
        model.eval()(images)
    return seen
