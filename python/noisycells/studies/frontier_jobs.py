"""Jobs of the study ``frontier``: a network in cells, by one way to store it.

Each returns ``points``, one for each setting: the cells that everything takes, an original and a
stored weight, and figures of what is read, such as accuracies in percent on the validation and on
the test images. Bits that a way keeps digital (index, scales, biases, normalization) count as
cells, at the bits a cell that the error-correcting code of :class:`noisycells.storage.Coded` has
for the device. A read that fails counts as an accuracy or a cosine of 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import random
from ..channel import Channel
from ..io import DecodeError
from ..storage import Analog, Codec, Coded, Cost, Levels, entropy
from ..storage.cost import index_cost
from ..storage.side import design_levels
from .engine import Trained, job
from .frontier_subjects import Subject, Weights, subject

__all__ = ["integers", "limit", "noise_free", "stored"]

MODES: dict[str, Callable[..., Any]] = {
    "paper": Codec, "coded": Coded, "levels": Levels, "analog": Analog,
}  # fmt: skip
SCALE_BITS = 16  # of a row's or block's scale of integers
Encoder = Mapping[str, Any]


@job
def noise_free(trained: Trained | None = None, *, encoder: Encoder | None = None) -> dict[str, Any]:
    """Figures of the network as it was trained."""
    return subject(trained, encoder).figures({})


@job
def stored(
    trained: Trained | None = None,
    *,
    encoder: Encoder | None = None,
    channel: dict[str, Any],
    settings: list[dict[str, Any]],
    repeats: int,
    learnt: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The network in cells of each of some codecs.

    Parameters
    ----------
    trained, encoder
        One of them: a trained network, or arguments of ``frontier_subjects.Encoded``.
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

    cell, network = Channel.from_dict(channel), subject(trained, encoder)
    assumed = cell if learnt is None else Channel.from_dict(learnt)
    points = []
    for setting in settings:
        options = dict(setting)
        mode, side_errors = options.pop("mode"), options.pop("side_errors", False)
        known = {name: getattr(network, name) for name in NEEDS[mode]}
        if options.get("step") == "learnt":  # the weights are on their grids already
            options["step"], known = network.steps, {}
        if "planned" in options:
            options = _planned_levels(network, assumed, **options)
        if learnt is not None:
            options["inverse" if mode == "paper" else "learnt"] = assumed
        if mode in MASKED:
            known["mask"] = dict(network.masks) or None
        model = nct.store(
            network.model, MODES[mode](cell, **options), store_biases=mode in BIASES, **known
        )
        point = _counted(model.cost, assumed)
        if mode == "coded":
            point["at_capacity"] = 8 * model.layout.size / assumed.capacity() / point["weights"]
        seeds = (random.fold_in(network.seed, k) for k in range(repeats))
        found = network.reads(_read(model, seed, side_errors) for seed in seeds)
        points.append({**point, **found})
    return {"points": points}


NEEDS: dict[str, tuple[str, ...]] = {
    "paper": (),
    "coded": ("moments", "sensitivity"),
    "levels": ("moments",),
    "analog": ("moments",),
}
"""What a mode takes besides the weights and the mask."""
MASKED = ("paper", "coded", "levels")
BIASES = ("coded", "levels")
"""Modes that have biases in cells."""


def _planned_levels(
    network: Subject,
    cell: Channel,
    *,
    planned: float,
    noise_margin: float,
) -> dict[str, Any]:
    """Arguments of the mode levels that a plan with training images chooses."""
    from .. import torch as nct

    given: dict[str, Any] = {
        "mask": dict(network.masks) or None, "moments": network.moments, "store_biases": True,
    }  # fmt: skip
    one = Levels(cell, radices=(4,), noise_margin=noise_margin)
    budget = planned * nct.store(network.model, one, **given).cost.per_original
    found = nct.plan(
        network.model, cell, budget=budget, mode="levels", sensitivity=network.sensitivity,
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
    trained: Trained | None = None,
    *,
    encoder: Encoder | None = None,
    channel: dict[str, Any],
    settings: list[dict[str, Any]],
    masked: bool,
    repeats: int,
) -> dict[str, Any]:
    """Weights as integers, digit by digit in cells that are misread now and then.

    Parameters
    ----------
    trained, encoder, channel
        As for :func:`stored`.
    settings : list of dict
        ``bits`` of each integer, ``levels`` of a cell, and ``block``: weights of a row that share
        a scale, their largest magnitude by that of the integers; None: all.
    masked : bool
        Whether zeros of pruned weights are not in cells and a mask is kept.
    repeats : int
        Chips.
    """
    cell, network = Channel.from_dict(channel), subject(trained, encoder)
    weights = {n: p.numpy(force=True) for n, p in network.model.named_parameters() if p.ndim > 1}
    masks = {name: network.masks[name] for name in weights} if masked else {}
    points = []
    for setting in settings:
        cells, bits = 0, 32 * (network.weights - sum(w.size for w in weights.values()))
        for name, w in weights.items():
            kept = int(masks[name].sum()) if masked else w.size
            cells += kept * _digits(setting["bits"], setting["levels"])
            bits += SCALE_BITS * _blocked(w, setting["block"]).shape[0]
            bits += index_cost(w.size, kept)[0] if masked else 0
        cost = Cost(
            sum(int(m.sum()) for m in masks.values()) if masked else network.weights,
            network.weights, cells, 0, digital_bits=bits,
        )  # fmt: skip

        def read(chip: int, setting: Mapping[str, Any] = setting) -> Weights:
            found = {n: _read_integers(n, w, cell, chip, **setting) for n, w in weights.items()}
            return {n: np.where(masks[n], w, 0) if masked else w for n, w in found.items()}

        chips = (random.fold_in(network.seed, k) for k in range(repeats))
        points.append({**_counted(cost, cell), **network.reads(map(read, chips))})
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
    trained: Trained | None = None,
    *,
    encoder: Encoder | None = None,
    channel: dict[str, Any],
    steps: list[float],
    repeats: int,
) -> dict[str, Any]:
    """What Shannon's limit asks for where errors of weights are independent and Gaussian.

    Each weight w that is kept becomes w + N(0, d^2), whose cells are the mutual information of the
    two over the capacity of a cell; d is that of rounding to multiples of ``step``, in units of
    :class:`noisycells.storage.Coded`, by the sensitivity of each tensor. The mask takes the bits
    of the range coder, others 32 bits.
    """
    cell, network = Channel.from_dict(channel), subject(trained, encoder)
    kept, bits, units, masks = {}, 0.0, {}, {}
    for name, parameter in network.model.named_parameters():
        if parameter.ndim < 2:
            bits += 32 * parameter.numel()
            continue
        if not network.sensitivity[name].any():  # such as a layer that outputs do not come from
            continue
        weights = parameter.numpy(force=True)
        mask = network.masks.get(name, np.ones(weights.shape, bool))
        table = mask.reshape(len(mask), -1).astype(np.int32)
        bits += 8 * len(entropy.encode(table, max(1, int(np.prod(mask.shape[2:])))))
        kept[name], masks[name] = weights[mask], mask
        units[name] = float(network.sensitivity[name].mean())
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

        chips = (random.fold_in(network.seed, k) for k in range(repeats))
        cells = total / cell.capacity()
        counted = {"per_original": cells / network.weights, "per_stored": cells / stored_weights}
        points.append({**counted, **network.reads(map(read, chips))})
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
