"""The settings of each mode, from those of fewest cells to those of most.

Where each tensor has a choice, the choices are made for all tensors together, for the least loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..._types import F64
from ...channel import Channel
from ..analog import Analog
from ..blocks import HEADER_BITS
from ..codec import Codec
from ..modes import Coded, Levels
from ..modes.mode import SCALES, Mode
from .predict import Prediction, predict
from .samples import Sample

__all__ = ["LADDERS", "Ladder", "Setting"]

OCTAVE = 32
"""Steps of the mode coded to an octave."""
COARSEST, OCTAVES = 64.0, 16
"""The largest step, in root mean squares of the weights, and octaves down to the smallest."""
RADICES = ((2,), (3,), (4,), (2, 3), (3, 3), (3, 4), (4, 4), (3, 3, 4), (3, 4, 4), (4, 4, 4))
INTEGERS = tuple((radix,) * (bits // per)
    for radix, per in ((4, 2), (2, 1)) for bits in (4, 6, 8))  # fmt: skip
"""Integers of 4, 6 and 8 bits, two bits or one a cell."""
POINTS = 1024
"""Settings of a ladder whose tensors have choices, about."""
MEAN_CELLS = (1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32)
PROGRAMMINGS: tuple[dict[str, Any], ...] = ({}, {"pulses": 4, "verify_reads": 2})


@dataclass(eq=False)
class Setting:
    """A way of storing a model, and what is expected of it.

    Attributes
    ----------
    mode : str
        "paper", "levels", "coded", "analog" or "integers".
    codec : Codec, storage.Coded, storage.Levels or storage.Analog
        For :func:`noisycells.torch.store` or :meth:`encode`.
    overrides : dict of str to Codec
        To give with it; only of mode paper.
    feedback : bool
        Whether the moments are to be given with it.
    settings : str
        In a few words.
    original, stored : int
        Weights, and those that are not pruned.
    cells : int
        All of them: data, signs, mask, scales, checks.
    loss : float
        The quantity that the plan names.
    error : float
        Mean square error of the outputs as a share of their mean square, the mean over all stored
        weights' tensors.
    drop : float or None
        By how much the metric was worse in literal reads, where that was measured.
    """

    mode: str
    codec: Codec | Coded | Levels | Analog
    overrides: dict[str, Codec]
    feedback: bool
    settings: str
    original: int
    stored: int
    cells: int
    loss: float
    error: float
    drop: float | None = None

    @property
    def per_original(self) -> float:
        """Cells an original weight."""
        return self.cells / max(1, self.original)

    @property
    def per_stored(self) -> float:
        """Cells a weight that is not pruned."""
        return self.cells / max(1, self.stored)

    def to_dict(self) -> dict[str, Any]:
        """All figures as JSON types, the codec without the tables of its channels."""
        figures = ("mode", "settings", "feedback", "original", "stored", "cells", "loss", "error")
        return {
            **{name: getattr(self, name) for name in figures},
            "per_original": self.per_original,
            "per_stored": self.per_stored,
            "drop": self.drop,
            "options": _options(self.codec),
            "overrides": {name: _options(codec) for name, codec in self.overrides.items()},
        }


def _options(codec: Codec | Coded | Levels | Analog) -> dict[str, Any]:
    if not isinstance(codec, Codec):
        return codec.options()
    written = codec.to_dict()
    return {name: value for name, value in written.items() if name not in ("channel", "inverse")}


class Ladder:
    """Settings that are made when they are asked for, and kept."""

    def __init__(self, count: int, make: Callable[[int], Setting]) -> None:
        self._count, self._make = count, make
        self._made: dict[int, Setting] = {}

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> Setting:
        if number not in self._made:
            self._made[number] = self._make(number)
        return self._made[number]


def coded(samples: Sequence[Sample], channel: Channel, noise_margin: float) -> Ladder:
    """Ever smaller steps, in such ratios that a bit saves the same loss in all tensors."""
    units = _units(samples, channel)

    def make(number: int) -> Setting:
        size = COARSEST * 2.0 ** (-number / OCTAVE)
        steps = {
            sample.source.name: float(np.float32(size * unit))
            for sample, unit in zip(samples, units, strict=True)
        }
        codec = Coded(channel, step=steps, noise_margin=noise_margin)
        found = [predict(codec, sample) for sample in samples]
        words = f"step {size:.3g} rms"
        return _setting("coded", codec, samples, found, words)

    return Ladder(OCTAVE * OCTAVES, make)


def _units(samples: Sequence[Sample], channel: Channel) -> list[float]:
    """The step of each tensor, of which the loss is the same a weight; about 1 rms in the mean."""
    rms = np.array([sample.rms or 1.0 for sample in samples])
    trial = Coded(channel, step={s.source.name: r / 2 for s, r in zip(samples, rms, strict=True)})
    losses = _losses(samples, [predict(trial, sample) for sample in samples])
    sizes = np.array([sample.stored for sample in samples], np.float64)
    counts = losses > 0
    if not counts.any():
        return [float(r) for r in rms]
    each = losses[counts] / sizes[counts]
    found = rms.copy()
    found[counts] = rms[counts] / np.sqrt(each)
    weight = sizes[counts] / sizes[counts].sum()
    found[counts] *= math.exp(float(weight @ np.log(rms[counts] / found[counts])))
    if not any(sample.source.sensitivity is not None for sample in samples):
        found /= [SCALES if len(sample.source.shape) < 2 else 1.0 for sample in samples]
    return [float(unit) for unit in found]


def levels(samples: Sequence[Sample], channel: Channel, noise_margin: float) -> Ladder:
    """More and larger digits, where these save most."""
    radices = [
        r for r in RADICES if channel.write_bits is None or max(r) <= 1 << channel.write_bits
    ]
    trials = [Levels(channel, radices=r, noise_margin=noise_margin) for r in radices]

    def codec(chosen: Sequence[int]) -> tuple[Levels, dict[str, Codec], str]:
        names = [sample.source.name for sample in samples]
        digits = {name: radices[c] for name, c in zip(names, chosen, strict=True)}
        used = [radices[c] for c in sorted(set(chosen))]
        words = "digits " + " to ".join("x".join(map(str, r)) for r in _ends(used))
        return Levels(channel, radices=digits, noise_margin=noise_margin), {}, words

    return _allotted("levels", samples, trials, codec)


def paper(samples: Sequence[Sample], channel: Channel, noise_margin: float) -> Ladder:
    """More cells for each weight, where these save most; real cells for signs, ranges and mask."""
    trials = [Codec(channel, mean_cells=mean) for mean in MEAN_CELLS]

    def codec(chosen: Sequence[int]) -> tuple[Codec, dict[str, Codec], str]:
        used = _ends([f"{MEAN_CELLS[c]:g}" for c in sorted(set(chosen))])
        each = {
            sample.source.name: trials[c]
            for sample, c in zip(samples, chosen, strict=True)
            if c != chosen[0]
        }
        return trials[chosen[0]], each, f"data cells {' to '.join(used)}"

    return _allotted("paper", samples, trials, codec)


def integers(samples: Sequence[Sample], channel: Channel, noise_margin: float) -> Ladder:
    """Plain integers with a scale a row, in cells of four levels or two."""

    def make(radices: tuple[int, ...]) -> Setting:
        codec = Levels(channel, radices=radices, noise_margin=noise_margin)
        found = [predict(codec, sample, feedback=False) for sample in samples]
        bits = len(radices) * (radices[0].bit_length() - 1)
        words = f"{bits} bits in {len(radices)} cells"
        return _setting("integers", codec, samples, found, words, feedback=False)

    most = 4 if channel.write_bits is None else 1 << channel.write_bits
    return _ascending([make(radices) for radices in INTEGERS if radices[0] <= most])


def analog(samples: Sequence[Sample], channel: Channel, noise_margin: float) -> Ladder:
    """One cell a weight, in a closed loop."""

    def make(options: dict[str, Any]) -> Setting:
        codec = Analog(channel, **options)
        found = [predict(codec, sample) for sample in samples]
        return _setting("analog", codec, samples, found, f"at most {codec.how.pulses} pulses")

    return _ascending([make(options) for options in PROGRAMMINGS])


def _ascending(settings: Sequence[Setting]) -> Ladder:
    """Settings of which each takes more cells than the one before, and loses less."""
    found: list[Setting] = []
    for setting in sorted(settings, key=lambda s: (s.cells, s.loss)):
        if not found or setting.loss < found[-1].loss:
            found.append(setting)
    return Ladder(len(found), found.__getitem__)


LADDERS = {f.__name__: f for f in (coded, levels, analog, paper, integers)}
"""The modes by name."""


def _allotted(
    mode: str,
    samples: Sequence[Sample],
    trials: Sequence[Codec | Levels],
    codec: Callable[[Sequence[int]], tuple[Any, dict[str, Codec], str]],
) -> Ladder:
    table = [[predict(trial, sample) for trial in trials] for sample in samples]
    losses = [
        _losses([sample] * len(trials), row) for sample, row in zip(samples, table, strict=True)
    ]
    # Cells of a byte behind the code, which is the same one for all trials.
    each = 8 / trials[0].bits_per_cell if isinstance(trials[0], Mode) else 0.0
    cells = [np.array([found.cells + found.content * each for found in row]) for row in table]
    chosen = allocations(cells, losses)

    def make(number: int) -> Setting:
        own, overrides, words = codec(chosen[number])
        found = [row[c] for row, c in zip(table, chosen[number], strict=True)]
        return replace(_setting(mode, own, samples, found, words), overrides=overrides)

    return Ladder(len(chosen), make)


def allocations(cells: Sequence[F64], losses: Sequence[F64]) -> list[tuple[int, ...]]:
    """Choices for all tensors: those of which none has less loss for as few cells, ascending.

    By dynamic programming, a tensor at a time; of very many only the best of each share of cells.

    Parameters
    ----------
    cells, losses : sequence of ndarray of float64, shape (choices,)
        Of each tensor.
    """
    share = max(sum(float(n.max()) for n in cells), 1.0) / POINTS
    spent, lost = np.zeros(1), np.zeros(1)
    steps = []
    for n, loss in zip(cells, losses, strict=True):
        total, sums = (spent[:, None] + n).reshape(-1), (lost[:, None] + loss).reshape(-1)
        order = np.lexsort((sums, total))
        least = np.minimum.accumulate(sums[order])
        kept = order[np.append(True, least[1:] < least[:-1])]
        if len(kept) > POINTS:
            number = (total[kept] / share).astype(np.int64)
            last = np.append(number[1:] != number[:-1], True)
            last[0] = True
            kept = kept[last]
        steps.append(np.divmod(kept, len(n)))
        spent, lost = total[kept], sums[kept]
    found = []
    for state in range(len(spent)):
        chosen = []
        for before, choice in reversed(steps):
            chosen.append(int(choice[state]))
            state = before[state]
        found.append(tuple(reversed(chosen)))
    return found


def _code_cells(codec: Mode, size: int) -> int:
    """Cells of so many bytes behind the code."""
    return codec.layout_for(size).cells(codec.constellation.bits) + HEADER_BITS


def _ends(used: Sequence[Any]) -> list[Any]:
    return list(used) if len(used) < 2 else [used[0], used[-1]]


def _losses(samples: Sequence[Sample], found: Sequence[Prediction]) -> F64:
    """Of each tensor; without sensitivities its error times its weights."""
    return np.array(
        [
            p.loss if sample.source.sensitivity is not None else p.error * sample.stored
            for sample, p in zip(samples, found, strict=True)
        ]
    )


def _setting(
    mode: str,
    codec: Any,
    samples: Sequence[Sample],
    found: Sequence[Prediction],
    words: str,
    feedback: bool = True,
) -> Setting:
    """The sum over all tensors."""
    stored = sum(sample.stored for sample in samples)
    cells = sum(p.cells for p in found)
    if isinstance(codec, Mode):
        cells += _code_cells(codec, round(sum(p.content for p in found)))
    error = sum(p.error * s.stored for p, s in zip(found, samples, strict=True)) / max(1, stored)
    loss = float(_losses(samples, found).sum())
    known = any(sample.source.sensitivity is not None for sample in samples)
    given = any(
        sample.matrix.moments is not None or sample.matrix.frequencies is not None
        for sample in samples
    )
    return Setting(
        mode,
        codec,
        {},
        feedback and given and mode != "paper",
        words,
        sum(sample.source.weights.size for sample in samples),
        stored,
        round(cells),
        loss if known else error,
        error,
    )
