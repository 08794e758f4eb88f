"""What :func:`~noisycells.torch.evaluate` measured, as numbers, tables and figures."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from ..._figure import figure as new_figure
from ...intervals import mean_and_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["DriftCurve", "Evaluation"]


@dataclass(frozen=True, repr=False)
class Evaluation:
    """Scores of a network, one for each noisy realization.

    It prints as its mean and interval.

    Parameters
    ----------
    scores : tuple of float
        By the metric: accuracies in percent, or what else it gives.
    losses : tuple of float
        Mean cross entropies, in nats; none with another metric than accuracy.
    confidence : float
        Of the interval.
    metric : str
        What the scores are.
    seconds : float or None
        Since programming, where evaluate was given times.
    """

    scores: tuple[float, ...]
    losses: tuple[float, ...] = ()
    confidence: float = 0.95
    metric: str = "accuracy (%)"
    seconds: float | None = None

    @property
    def mean(self) -> float:
        """Mean score."""
        return float(np.mean(self.scores))

    @property
    def std(self) -> float:
        """Standard deviation of the score of one realization; NaN of a single one."""
        return float(np.std(self.scores, ddof=1)) if len(self.scores) > 1 else math.nan

    @property
    def half_width(self) -> float:
        """Half width of the Student-t interval of the mean; NaN of a single realization.

        It covers the noise of this network alone: not other training seeds, not other images.
        """
        if len(self.scores) < 2:
            return math.nan
        return mean_and_interval(self.scores, self.confidence)[1]

    @property
    def interval(self) -> tuple[float, float]:
        """Ends of the interval of the mean."""
        return self.mean - self.half_width, self.mean + self.half_width

    def __repr__(self) -> str:
        return f"{self.metric} {_said(self)}, {_kind(self)}{_at(self.seconds)}"

    def _repr_html_(self) -> str:
        return _html((self,))

    def to_frame(self) -> Any:
        """A pandas.DataFrame with a row for each realization.

        Columns: ``realization``, ``score``, and where they are known ``loss`` and ``seconds``.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        return _frame((self,))

    def plot(self) -> Figure:
        """A figure of the scores, with mean and interval.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        figure = new_figure("an evaluation")
        axes = figure.add_subplot()
        axes.plot(range(1, len(self.scores) + 1), self.scores, ".", color="0.6")
        axes.axhline(self.mean, color="C0", label=f"mean, {_kind(self)}")
        if len(self.scores) > 1:
            axes.axhspan(*self.interval, color="C0", alpha=0.2, linewidth=0)
        axes.set(xlabel=f"realization{_at(self.seconds)}", ylabel=self.metric)
        axes.legend()
        return figure


@dataclass(frozen=True, repr=False)
class DriftCurve(Sequence[Evaluation]):
    """An :class:`Evaluation` for each of several times, of the same chips at all of them.

    Parameters
    ----------
    evaluations : tuple of Evaluation
        In the order of the times that evaluate was given.
    """

    evaluations: tuple[Evaluation, ...]

    @overload
    def __getitem__(self, index: int) -> Evaluation: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Evaluation, ...]: ...

    def __getitem__(self, index: int | slice) -> Evaluation | tuple[Evaluation, ...]:
        return self.evaluations[index]

    def __len__(self) -> int:
        return len(self.evaluations)

    def __iter__(self) -> Iterator[Evaluation]:
        return iter(self.evaluations)

    @property
    def seconds(self) -> tuple[float, ...]:
        """The times, in seconds since programming."""
        return tuple(one.seconds for one in self if one.seconds is not None)

    @property
    def means(self) -> tuple[float, ...]:
        """The mean score at each time."""
        return tuple(one.mean for one in self)

    @property
    def half_widths(self) -> tuple[float, ...]:
        """Half width of the interval of each mean."""
        return tuple(one.half_width for one in self)

    def __repr__(self) -> str:
        first = self.evaluations[0]
        lines = [f"{first.metric}, {_kind(first)}"]
        width = max(len(_time(one.seconds)) for one in self)
        lines += [f"  {_time(one.seconds):>{width}}  {_said(one)}" for one in self]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return _html(self)

    def to_frame(self) -> Any:
        """A pandas.DataFrame, the rows of :meth:`Evaluation.to_frame` of all times.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        return _frame(self)

    def plot(self) -> Figure:
        """A figure of mean and interval over the time since programming.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        figure = new_figure("an evaluation")
        axes = figure.add_subplot()
        order = sorted(self, key=lambda one: one.seconds or 0.0)
        x = [one.seconds or 0.0 for one in order]
        axes.plot(x, [one.mean for one in order], "o-", color="C0", label=_kind(order[0]))
        if len(order[0].scores) > 1:
            low, high = zip(*(one.interval for one in order), strict=True)
            axes.fill_between(x, low, high, color="C0", alpha=0.2, linewidth=0)
        axes.set_xscale("symlog", linthresh=1.0)
        axes.set(xlabel="seconds since programming", ylabel=order[0].metric)
        axes.legend()
        return figure


def _said(one: Evaluation) -> str:
    """Mean and half width, with the digits that the half width has."""
    if len(one.scores) < 2 or not math.isfinite(one.half_width):
        return f"{one.mean:.6g}"
    width = one.half_width
    digits = min(6, max(0, 1 - math.floor(math.log10(width)))) if width > 0 else 2
    return f"{one.mean:.{digits}f} ± {width:.{digits}f}"


def _kind(one: Evaluation) -> str:
    count = len(one.scores)
    if count < 2:
        return "one realization"
    return f"{100 * one.confidence:g} % interval of {count} realizations"


def _time(seconds: float | None) -> str:
    return "as it is" if seconds is None else f"{seconds:g} s"


def _at(seconds: float | None) -> str:
    return "" if seconds is None else f", {seconds:g} s after programming"


def _html(evaluations: Iterable[Evaluation]) -> str:
    rows = list(evaluations)
    cells = "".join(
        f"<tr><td>{_time(one.seconds)}</td><td>{html.escape(_said(one))}</td></tr>" for one in rows
    )
    return (
        f"<table><caption>{html.escape(_kind(rows[0]))}</caption>"
        f"<tr><th>time</th><th>{html.escape(rows[0].metric)}</th></tr>{cells}</table>"
    )


def _frame(evaluations: Iterable[Evaluation]) -> Any:
    try:
        import pandas  # type: ignore[import-untyped]
    except ImportError as error:
        raise ImportError("to_frame needs pandas: pip install pandas") from error
    rows = []
    for one in evaluations:
        for i, score in enumerate(one.scores):
            row: dict[str, float] = {} if one.seconds is None else {"seconds": one.seconds}
            row |= {"realization": i, "score": score}
            rows.append(row | ({"loss": one.losses[i]} if one.losses else {}))
    return pandas.DataFrame(rows)
