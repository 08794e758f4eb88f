"""The fewest cells for a loss, or the least loss for some cells, in every mode."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import ArrayLike

from ... import _arguments
from ...devices import CellLike
from ...devices import cell as cell_of
from .ladders import LADDERS, Ladder, Setting
from .samples import Sample, samples_of

__all__ = ["MODES", "Plan", "Refused", "below", "fewest", "most", "plan", "search"]

MODES = tuple(LADDERS)
"""In the order in which they are planned."""

LEAST, MOST = 1e-20, 1e20  # rms of weights of which float32 holds all steps that are tried
TARGETS = {
    "budget": "cells an original weight: at most",
    "max_loss": "loss: at most",
    "max_drop": "drop: at most",
}
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """How a model is stored in each mode, the best first.

    Attributes
    ----------
    quantity : str
        What ``loss`` is.
    target : str
        What was asked for.
    settings : tuple of Setting
        Of each mode that can do it; by cells where a loss was asked for, else by loss.
    refused : dict of str to str
        The other modes, and why not.
    """

    quantity: str
    target: str
    settings: tuple[Setting, ...]
    refused: dict[str, str]

    @property
    def best(self) -> Setting:
        """The first of the settings.

        Raises
        ------
        ValueError
            If no mode can do what was asked for; with all reasons.
        """
        if not self.settings:
            reasons = "; ".join(f"{mode} {why}" for mode, why in self.refused.items())
            raise _arguments.wrong_value("plan", f"a mode for {self.target}", reasons)
        return self.settings[0]

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON types."""
        return {
            "quantity": self.quantity,
            "target": self.target,
            "settings": [setting.to_dict() for setting in self.settings],
            "refused": self.refused,
        }

    def __str__(self) -> str:
        measured = any(setting.drop is not None for setting in self.settings)
        head = ["mode", "settings", "cells", "an original", "a stored", "loss", "error"]
        rows = [head + ["drop"] * measured]
        for s in self.settings:
            row = [s.mode, s.settings, f"{s.cells:,}", f"{s.per_original:.3f}"]
            row += [f"{s.per_stored:.3f}", f"{s.loss:.3g}", f"{100 * s.error:.3g} %"]
            rows.append(row + ["-" if s.drop is None else f"{s.drop:.3g}"] * measured)
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [f"{self.target}; loss: {self.quantity}"]
        for row in rows:
            left = [text.ljust(width) for text, width in zip(row[:2], widths, strict=False)]
            right = [text.rjust(width) for text, width in zip(row[2:], widths[2:], strict=True)]
            lines.append("  ".join([*left, *right]))
        lines += [f"{mode.ljust(widths[0])}  {why}" for mode, why in self.refused.items()]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<Plan: {self}>"


def plan(
    weights: Mapping[str, ArrayLike],
    cell: CellLike,
    *,
    budget: float | None = None,
    max_loss: float | None = None,
    mode: str | None = None,
    mask: Mapping[str, ArrayLike] | str | None = None,
    sensitivity: Mapping[str, ArrayLike] | None = None,
    moments: Mapping[str, ArrayLike] | None = None,
    noise_margin: float = 1.1,
    progress: Progress | None = None,
) -> Plan:
    """Choose how to store a model: in each mode the settings, and what they are expected to give.

    With a ``budget``, the least loss for it; with ``max_loss``, the fewest cells. All cells count:
    data, signs and ranges, mask, scales, parity and checksums. Nothing is stored; expectations
    come of rounding, writing and reading about 131,000 weights of each tensor. Choices are made
    for all tensors together, cells going where one saves most loss.

    *Loss.* With sensitivities, the rise of the task's loss by the Fisher information, in nats:
    1/2 sum_r g_r d_r H d_r^T over the rows r of all tensors, for errors d of a row, second moments
    H of its inputs (the identity where there are none), and g_r the sum of the row's sensitivities
    over that of the diagonal of H. Without sensitivities, the mean square error of the outputs as
    a share of their mean square, the mean over tensors weighted by their weights.

    Parameters
    ----------
    weights : mapping of str to array_like of float
        What is to be stored; :func:`noisycells.torch.plan` plans for a model.
    cell : Channel, Device, str or path-like
        The cells.
    budget : float, optional
        Cells an original weight, at most.
    max_loss : float, optional
        Loss, at most. One of the two has to be given.
    mode : {"coded", "levels", "analog", "paper", "integers"}, optional
        The only one to plan. "integers" are plain integers of 4, 6 or 8 bits with a scale a row,
        for comparison. Signs, ranges and the mask of mode "paper" are in real cells, which are
        misread now and then; the mask at one bit a cell.
    mask : mapping of str to array_like of bool, or "nonzero", optional
        The weights to store; the others are zero and cost what the mask costs.
    sensitivity : mapping of str to array_like, optional
        What a squared error of each weight counts, such as :func:`noisycells.torch.sensitivity`;
        for every tensor or for none.
    moments : mapping of str to array_like of shape (inputs, inputs) or (rows,), optional
        Second moments of layers' inputs, and of embeddings how often rows are looked up, such as
        :func:`noisycells.torch.input_moments` returns.
    noise_margin : float
        As for :class:`noisycells.storage.Coded`.
    progress : callable, optional
        Called with the name of each mode when it has been planned.

    Returns
    -------
    Plan
        ``plan.best.codec`` stores the model as planned, with ``plan.best.overrides``, and with the
        moments where ``plan.best.feedback`` says so.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described; the message names it.

    Examples
    --------
    >>> import numpy as np, noisycells as nc
    >>> weights = {"w": np.random.default_rng(0).normal(size=(200, 300)).astype(np.float32)}
    >>> found = nc.storage.plan(weights, "synthetic_pcm", max_loss=0.01)
    >>> found.best.mode, round(found.best.per_original, 1)
    ('coded', 2.0)
    """
    if (budget is None) == (max_loss is None):
        raise _arguments.wrong_value("budget, max_loss", "one of the two", "both or none")
    samples = samples_of(weights, mask, sensitivity, moments)
    if budget is not None:
        limit = _arguments.number("budget", budget, above=0)
        return search(
            samples, cell, lambda ladder: most(ladder, limit), "budget", limit,
            mode, noise_margin, progress,
        )  # fmt: skip
    limit = _arguments.number("max_loss", max_loss, above=0)
    return search(
        samples, cell, lambda ladder: below(ladder, limit), "max_loss", limit,
        mode, noise_margin, progress,
    )  # fmt: skip


def search(
    samples: Sequence[Sample],
    cell: CellLike,
    choose: Callable[[Ladder], Setting],
    asked: str,
    limit: float,
    mode: str | None,
    noise_margin: float,
    progress: Progress | None,
) -> Plan:
    """What is chosen of each mode, sorted by loss where a budget was asked for, else by cells."""
    modes = MODES if mode is None else (_arguments.choice("mode", mode, MODES),)
    found, refused = [], {}
    for name in modes:
        try:
            found.append(choose(_ladder(name, samples, cell, noise_margin)))
        except Refused as reason:
            refused[name] = str(reason)
        if progress is not None:
            progress(name)
    found.sort(key=lambda s: (s.loss, s.cells) if asked == "budget" else (s.cells, s.loss))
    return Plan(_quantity(samples), f"{TARGETS[asked]} {limit:g}", tuple(found), refused)


class Refused(Exception):
    """A mode that cannot do what is asked for, and why."""


def _quantity(samples: Sequence[Sample]) -> str:
    """What the loss of a plan is."""
    if any(sample.source.sensitivity is not None for sample in samples):
        return "rise of the task's loss by the Fisher information, nats"
    return "mean square error of outputs, a share of their mean square"


def _ladder(mode: str, samples: Sequence[Sample], cell: CellLike, noise_margin: float) -> Ladder:
    """The settings of a mode; Refused where it does not suit the model or the cells."""
    channel = cell_of(cell, "cell")
    if mode == "coded" and any(not LEAST <= sample.rms <= MOST for sample in samples if sample.rms):
        raise Refused(f"takes weights whose root mean square is from {LEAST:g} to {MOST:g}")
    if mode == "analog":
        if any(len(sample.source.shape) < 2 or not sample.stored for sample in samples):
            raise Refused("stores no tensors of one dimension or without weights")
        if any(sample.stored < sample.source.weights.size for sample in samples):
            raise Refused("stores no masks: every weight has a cell")
        if channel.read_std is None:
            raise Refused(f"needs cells with read_std, which {channel.name!r} does not have")
    return LADDERS[mode](samples, channel, noise_margin)


def most(ladder: Ladder, budget: float) -> Setting:
    """The last setting that the budget allows."""
    count = bisect_left(
        range(len(ladder)), True, key=lambda number: ladder[number].per_original > budget
    )
    if not count:
        raise Refused(f"takes {ladder[0].per_original:.3g} cells an original weight at least")
    return ladder[count - 1]


def fewest(
    ladder: Ladder, enough: Callable[[Setting], bool], why: Callable[[Setting], str]
) -> Setting:
    """The first setting that is enough; ``why`` says of the last one why it is not."""
    first = bisect_left(range(len(ladder)), True, key=lambda number: enough(ladder[number]))
    if first == len(ladder):
        raise Refused(why(ladder[first - 1]))
    return ladder[first]


def below(ladder: Ladder, max_loss: float) -> Setting:
    """The first setting with no more loss."""
    return fewest(
        ladder, lambda s: s.loss <= max_loss, lambda s: f"has a loss of {s.loss:.3g} at least"
    )
