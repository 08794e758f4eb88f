"""Jobs of the study ``frontier``: a trained network in cells, by one way to store it.

Each returns ``points``, one for each setting: the cells that everything takes, an original and a
stored weight, and accuracies in percent on the validation and on the test images. Bits that a way
keeps digital (index, scales, biases, normalization) count as cells, at the bits a cell that the
error-correcting code of :class:`noisycells.storage.Coded` has for the device. A read that fails
counts as an accuracy of 0.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .. import random
from ..channel import Channel
from ..io import DecodeError
from ..storage import Analog, Codec, Coded, Cost, Levels, entropy
from ..storage.cost import index_cost
from ..storage.side import design_levels
from .engine import Trained, job
from .engine.training import parts

if TYPE_CHECKING:
    from torch import nn

__all__ = ["integers", "limit", "noise_free", "stored"]

MOMENTS, SENSITIVITIES = 2000, 1000  # training images for each
MODES: dict[str, Callable[..., Any]] = {
    "paper": Codec, "coded": Coded, "levels": Levels, "analog": Analog,
}  # fmt: skip
SCALE_BITS = 16  # of a row's or block's scale of integers
Weights = dict[str, npt.NDArray[np.float32]]


@job
def noise_free(trained: Trained) -> dict[str, Any]:
    """Accuracies of the network as it was trained."""
    return _Measure(trained).accuracies({})


@job
def stored(
    trained: Trained,
    *,
    channel: dict[str, Any],
    settings: list[dict[str, Any]],
    repeats: int,
    learnt: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The network in cells of each of some codecs.

    Parameters
    ----------
    trained : Trained
    channel : dict
        As of ``Channel.to_dict()``.
    settings : list of dict
        Arguments of codecs, with ``mode``, one of ``MODES``, and for the paper's ``side_errors``.
        A step of ``"learnt"`` is that of training for few bits. ``planned`` in the place of
        radices: digits of each tensor as :func:`noisycells.torch.plan` chooses them, for so many
        times the cells that one cell of 4 levels for all weights takes.
    repeats : int
        Chips.
    learnt : dict, optional
        The cells as codecs know them, where that is not the true channel.
    """
    from .. import torch as nct

    cell, measure = Channel.from_dict(channel), _Measure(trained)
    assumed = cell if learnt is None else Channel.from_dict(learnt)
    train = measure.images["train"][0]
    known: dict[str, Any] = {"mask": dict(trained.masks) or None}
    if any(s["mode"] != "paper" and s.get("step") != "learnt" for s in settings):
        known["moments"] = nct.input_moments(trained.model, train[:MOMENTS])
    if any("planned" in s or s.get("step", "learnt") != "learnt" for s in settings):
        known["sensitivity"] = nct.sensitivity(trained.model, train[:SENSITIVITIES])
    points = []
    for setting in settings:
        options = dict(setting)
        mode, side_errors = options.pop("mode"), options.pop("side_errors", False)
        given = {name: known.get(name) for name in NEEDS[mode]}
        if options.get("step") == "learnt":
            options["step"] = trained.record["steps"]
        if "planned" in options:
            options = _planned_levels(trained, assumed, known, **options)
        if learnt is not None:
            options["inverse" if mode == "paper" else "learnt"] = assumed
        model = nct.store(
            trained.model, MODES[mode](cell, **options), store_biases=mode in BIASES, **given
        )
        point = _counted(model.cost, assumed)
        if mode == "coded":
            point["at_capacity"] = 8 * model.layout.size / assumed.capacity() / point["weights"]
        seeds = (random.fold_in(trained.recipe.seed, k) for k in range(repeats))
        found = measure.reads(_read(model, seed, side_errors) for seed in seeds)
        points.append({**point, **found})
    return {"points": points}


NEEDS: dict[str, tuple[str, ...]] = {
    "paper": ("mask",),
    "coded": ("mask", "moments", "sensitivity"),
    "levels": ("mask", "moments"),
    "analog": ("moments",),
}
"""What a mode takes besides the weights."""
BIASES = ("coded", "levels")
"""Modes that have biases in cells."""


def _planned_levels(
    trained: Trained,
    cell: Channel,
    known: Mapping[str, Any],
    *,
    planned: float,
    noise_margin: float,
) -> dict[str, Any]:
    """Arguments of the mode levels that a plan with training images chooses."""
    from .. import torch as nct

    given = {"mask": known["mask"], "moments": known["moments"], "store_biases": True}
    one = Levels(cell, radices=(4,), noise_margin=noise_margin)
    budget = planned * nct.store(trained.model, one, **given).cost.per_original
    found = nct.plan(
        trained.model, cell, budget=budget, mode="levels", sensitivity=known["sensitivity"],
        noise_margin=noise_margin, **given,
    )  # fmt: skip
    # What a plan expects may be a little more than is there: then it may have nothing for so few.
    codec = found.best.codec if found.settings else one
    assert isinstance(codec, Levels)
    return codec.options()


def _read(model: Any, seed: int, side_errors: bool) -> Weights | None:
    try:
        read: Weights = model.read(seed, seed, side_errors=side_errors)
    except DecodeError:
        return None
    return read


@job
def integers(
    trained: Trained,
    *,
    channel: dict[str, Any],
    settings: list[dict[str, Any]],
    masked: bool,
    repeats: int,
) -> dict[str, Any]:
    """Weights as integers, digit by digit in cells that are misread now and then.

    Parameters
    ----------
    trained : Trained
    channel : dict
    settings : list of dict
        ``bits`` of each integer, ``levels`` of a cell, and ``block``: weights of a row that share
        a scale, their largest magnitude by that of the integers; None: all.
    masked : bool
        Whether zeros of pruned weights are not in cells and a mask is kept.
    repeats : int
        Chips.
    """
    cell, measure = Channel.from_dict(channel), _Measure(trained)
    weights = {n: p.numpy(force=True) for n, p in trained.model.named_parameters() if p.ndim > 1}
    masks = {name: trained.masks[name] for name in weights} if masked else {}
    points = []
    for setting in settings:
        cells, bits = 0, 32 * (measure.weights - sum(w.size for w in weights.values()))
        for name, w in weights.items():
            kept = int(masks[name].sum()) if masked else w.size
            cells += kept * _digits(setting["bits"], setting["levels"])
            bits += SCALE_BITS * _blocked(w, setting["block"]).shape[0]
            bits += index_cost(w.size, kept)[0] if masked else 0
        cost = Cost(
            sum(int(m.sum()) for m in masks.values()) if masked else measure.weights,
            measure.weights, cells, 0, digital_bits=bits,
        )  # fmt: skip

        def read(chip: int, setting: Mapping[str, Any] = setting) -> Weights:
            found = {n: _read_integers(n, w, cell, chip, **setting) for n, w in weights.items()}
            return {n: np.where(masks[n], w, 0) if masked else w for n, w in found.items()}

        chips = (random.fold_in(trained.recipe.seed, k) for k in range(repeats))
        points.append({**_counted(cost, cell), **measure.reads(map(read, chips))})
    return {"points": points}


def _digits(bits: int, levels: int) -> int:
    """Cells of an integer."""
    return -(-bits // (levels.bit_length() - 1))


def _blocked(weights: npt.NDArray[Any], block: int | None) -> npt.NDArray[Any]:
    """A row for each scale, filled up with zeros."""
    rows = weights.reshape(len(weights), -1)
    width = rows.shape[1] if block is None else block
    count = -(-rows.shape[1] // width)
    padded = np.zeros((len(rows), count * width), np.float32)
    padded[:, : rows.shape[1]] = rows
    return padded.reshape(-1, width)


def _read_integers(
    name: str, weights: npt.NDArray[Any], cell: Channel, chip: int, *,
    bits: int, levels: int, block: int | None,
) -> npt.NDArray[np.float32]:  # fmt: skip
    """Weights as they come back from cells of a chip."""
    rows, largest = _blocked(weights, block), (1 << (bits - 1)) - 1
    scale = (np.abs(rows).max(1, keepdims=True) / largest).astype(np.float16).astype(np.float32)
    codes = np.rint(rows / np.where(scale > 0, scale, 1)).clip(-largest, largest).astype(np.int64)
    codes += largest
    digits = design_levels(cell, levels)
    back = np.zeros_like(codes)
    for place in range(_digits(bits, levels)):
        written = digits.inputs[codes // levels**place % levels].astype(np.float32)
        stream = random.stream(name, f"digit {place}")
        y = cell.sample(written.reshape(-1), chip, chip=chip, stream=stream).reshape(codes.shape)
        back += np.searchsorted(digits.thresholds, y) * levels**place
    columns = weights.size // len(weights)
    read = ((back - largest) * scale).astype(np.float32).reshape(len(weights), -1)[:, :columns]
    return np.asarray(read.reshape(weights.shape))


@job
def limit(
    trained: Trained, *, channel: dict[str, Any], steps: list[float], repeats: int
) -> dict[str, Any]:
    """What Shannon's limit asks for where errors of weights are independent and Gaussian.

    Each weight w that is kept becomes w + N(0, d^2), whose cells are the mutual information of the
    two over the capacity of a cell; d is that of rounding to multiples of ``step``, in units of
    :class:`noisycells.storage.Coded`, by the sensitivity of each tensor. The mask takes the bits
    of the range coder, others 32 bits.
    """
    from .. import torch as nct

    cell, measure = Channel.from_dict(channel), _Measure(trained)
    images = measure.images["train"][0][:SENSITIVITIES]
    sensitivity = nct.sensitivity(trained.model, images)
    kept, bits, units, masks = {}, 0.0, {}, {}
    for name, parameter in trained.model.named_parameters():
        if parameter.ndim < 2:
            bits += 32 * parameter.numel()
            continue
        weights = parameter.numpy(force=True)
        mask = trained.masks.get(name, np.ones(weights.shape, bool))
        table = mask.reshape(len(mask), -1).astype(np.int32)
        bits += 8 * len(entropy.encode(table, max(1, int(np.prod(mask.shape[2:])))))
        kept[name], masks[name] = weights[mask], mask
        units[name] = float(sensitivity[name].mean())
    stored_weights = sum(w.size for w in kept.values())
    power = sum(units[n] * float((w.astype(np.float64) ** 2).sum()) for n, w in kept.items())
    units = {n: (power / stored_weights / u) ** 0.5 for n, u in units.items()}
    points = []
    for step in steps:
        stds = {name: step * unit / 12**0.5 for name, unit in units.items()}
        total = bits + sum(w.size * mutual_information(w, stds[n]) for n, w in kept.items())

        def read(chip: int, stds: Mapping[str, float] = stds) -> Weights:
            found = {}
            for name, w in kept.items():
                noise = random.standard_normal(w.size, chip, random.stream(name, "limit"))
                found[name] = np.zeros(masks[name].shape, np.float32)
                found[name][masks[name]] = w + np.float32(stds[name]) * noise
            return found

        chips = (random.fold_in(trained.recipe.seed, k) for k in range(repeats))
        cells = total / cell.capacity()
        counted = {"per_original": cells / measure.weights, "per_stored": cells / stored_weights}
        points.append({**counted, **measure.reads(map(read, chips))})
    return {"points": points}


def mutual_information(weights: npt.NDArray[np.float32], std: float) -> float:
    """Bits between weights drawn at random and the same with noise N(0, std^2), on a grid."""
    step = std / 6
    low, high = float(weights.min()) - 6 * std, float(weights.max()) + 6 * std
    count = max(16, int(np.ceil((high - low) / step)))
    shares = np.histogram(weights, count, (low, low + count * step))[0] / weights.size
    kernel = np.exp(-(np.arange(-36, 37) ** 2) / 72.0)
    density = np.convolve(shares, kernel / kernel.sum(), "same") / step
    of_sum = -float((density * np.log2(np.maximum(density, 1e-300))).sum()) * step
    return max(0.0, of_sum - 0.5 * math.log2(2 * math.pi * math.e * std**2))


# --------------------------------------------------------------------------- measuring


class _Measure:
    """Accuracies of a network with other weights."""

    def __init__(self, trained: Trained) -> None:
        import torch

        from ..torch.training.batches import channels_last

        self.images: dict[str, tuple[Any, Any]] = {
            name: (channels_last(torch.as_tensor(x)), torch.as_tensor(y))
            for name, (x, y) in parts(trained.dataset, trained.recipe.seed).items()
        }
        # Convolutions are faster in this layout.
        self.model: nn.Module = copy.deepcopy(trained.model).cpu()
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.state = {n: tensor.clone() for n, tensor in self.model.state_dict().items()}
        self.weights = sum(p.numel() for p in self.model.parameters())

    def accuracies(self, weights: Weights) -> dict[str, float]:
        """With these parameters in the place of the network's own."""
        import torch

        from .. import torch as nct

        self.model.load_state_dict(self.state)
        with torch.no_grad():
            for name, value in weights.items():
                self.model.get_parameter(name).copy_(torch.from_numpy(value))
        return {
            part: nct.accuracy(self.model, *self.images[part]) for part in ("validation", "test")
        }

    def reads(self, weights: Iterator[Weights | None]) -> dict[str, list[float] | int]:
        """Of each read; weights that are those of the read before are not measured again."""
        found: dict[str, list[float]] = {"validation": [], "test": []}
        before: Weights | None = None
        known, failed = {"validation": 0.0, "test": 0.0}, 0
        for read in weights:
            values = {"validation": 0.0, "test": 0.0}
            if read is None:
                failed += 1
            elif before is not None and all(np.array_equal(read[n], before[n]) for n in read):
                values = known
            else:
                before, known = read, self.accuracies(read)
                values = known
            for part, value in values.items():
                found[part].append(value)
        return {**found, "failed": failed}


def _counted(cost: Cost, cell: Channel) -> dict[str, float]:
    """All cells, what is kept digital among them."""
    digital = cost.index_bits + cost.parameter_bits + cost.digital_bits
    cells = cost.data_cells + cost.side_cells + digital / Coded(cell).bits_per_cell
    weights = cost.original_weights + cost.digital_weights
    return {
        "per_original": cells / weights,
        "per_stored": cells / (cost.stored_weights + cost.digital_weights),
        "weights": weights,
    }
