"""Devices without a technology: ideal, Gaussian noise of one's own choice, and measured tables."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .. import _arguments
from .._types import F64
from .model import MOST, Model, constant_read
from .registry import maker
from .tables import HEADROOM

__all__ = ["fitted", "gaussian", "ideal"]

_SYNTHETIC = "synthetic: no measurements"
_LICENSE = "MIT, as the package"


@maker
def ideal(
    g_min: float = 0.0, g_max: float = 25.0, stuck: float | tuple[float, float] = 0.0
) -> Model:
    """Every device takes its target exactly, keeps it, and is read without noise.

    ``g_min``, ``g_max`` in microsiemens; ``stuck`` probabilities of devices stuck off and on.
    """
    return Model(
        source=_SYNTHETIC,
        doi="",
        license=_LICENSE,
        g_min=g_min,
        g_max=g_max,
        measured=(0.0, HEADROOM * g_max),
        time_range=None,
        std=np.zeros_like,
        stuck=stuck,
        synthetic=True,
    )


@maker
def gaussian(
    std: float,
    proportional: float = 0.0,
    read_std: float = 0.0,
    g_min: float = 0.0,
    g_max: float = 25.0,
    stuck: float | tuple[float, float] = 0.0,
    reset: tuple[float, float] | None = None,
) -> Model:
    """Gaussian programming noise, constant and proportional to the target, and Gaussian reads.

    The variance at target g is std^2 + (proportional g)^2. Conductances cannot be negative, so
    targets within a few std of zero end up a little higher on average.

    Parameters
    ----------
    std, read_std : float
        Standard deviation of programming and of one read, in microsiemens.
    proportional : float
        Standard deviation of programming as a fraction of the target.
    g_min, g_max : float
        Range of targets, in microsiemens.
    stuck : float or (float, float)
        Probabilities of devices stuck off and on.
    reset : (float, float), optional
        Mean and standard deviation of a device left RESET, in microsiemens.
    """
    for name, value in (("std", std), ("proportional", proportional)):
        _arguments.number(name, value, 0, MOST)

    def deviation(g: F64) -> F64:
        return np.hypot(std, proportional * g)

    return Model(
        source=_SYNTHETIC,
        doi="",
        license=_LICENSE,
        g_min=g_min,
        g_max=g_max,
        measured=(0.0, HEADROOM * g_max),
        time_range=None,
        std=deviation,
        read_variance=constant_read(read_std),
        stuck=stuck,
        reset=reset,
        synthetic=True,
    )


@maker
def fitted(
    target: list[float],
    mean: list[list[float]],
    std: list[list[float]],
    seconds: list[float] | None = None,
    read_std: float = 0.0,
    g_min: float | None = None,
    g_max: float | None = None,
    stuck: float | tuple[float, float] = 0.0,
    reset: tuple[float, float] | None = None,
    name: str = "fitted",
    source: str = "",
    extrapolate: bool = False,
) -> Model:
    """A device known by tables of the mean and spread of its conductance over the target.

    :func:`noisycells.devices.fit` makes them of measurements. Between targets, mean and standard
    deviation are linear; between times, both are linear in ln t (in t before the first time that
    is not 0). Devices are programmed with the spread at the first time. Later they fall by the
    factor by which the mean falls or the spread, whichever falls more, and are then shifted and
    spread, by one draw for each device, to the mean and spread of that time.

    Parameters
    ----------
    target : list of float, shape (n,), n >= 2
        Target conductances in microsiemens, strictly increasing.
    mean, std : list of list of float, shape (times, n)
        Mean and standard deviation of the conductance, in microsiemens, at each time.
    seconds : list of float, shape (times,), optional
        Times since programming, strictly increasing. None: one time, just after programming;
        later ones are refused unless extrapolated, and then show no change.
    read_std : float
        Part of the standard deviation that is drawn afresh at each read, in microsiemens, on top
        of ``std``.
    g_min, g_max : float
        Range of targets to use; by default all of them.
    stuck : float or (float, float)
        Probabilities of devices stuck off and on.
    reset : (float, float), optional
        Mean and standard deviation of a device left RESET, in microsiemens.
    name, source : str
        What the device is and where its measurements come from.
    extrapolate : bool
        Allow g_min and g_max beyond the table.
    """
    at, times = _axis("target", target, 2), _axis("seconds", seconds or [0.0], 1)
    shape = (len(times), len(at))
    means, stds = _moments("mean", mean, shape), _moments("std", std, shape)
    if stds.min() < 0:
        raise _arguments.wrong_value("std", "values >= 0", stds.min())
    table, aging = _Table(at, times, means, stds), len(times) > 1
    return Model(
        source=source or "measurements of the user",
        doi="",
        license="that of the measurements",
        g_min=max(float(at[0]), 0.0) if g_min is None else g_min,
        g_max=float(at[-1]) if g_max is None else g_max,
        measured=(float(at[0]), float(at[-1])),
        time_range=(float(times[0]), float(times[-1])),
        mean=lambda g: np.interp(g, at, means[0]),
        std=lambda g: np.interp(g, at, stds[0]),
        relaxation=table.relaxation if aging else None,
        drift=table.drift if aging else None,
        read_variance=constant_read(read_std),
        stuck=stuck,
        reset=reset,
        extrapolate=extrapolate,
    )


@dataclass(frozen=True)
class _Table:
    """Means and spreads (times, targets) of conductances in microsiemens, and what lies between."""

    targets: F64
    times: F64
    means: F64
    stds: F64

    def drift(self, g: F64, seconds: float) -> tuple[F64, F64]:
        """Mean and spread of -ln of what is left of a conductance."""
        return -np.log(self._left(g, seconds)), np.zeros_like(g)

    def relaxation(self, g: F64, seconds: float) -> tuple[F64, F64]:
        """Mean and spread of the shift that follows the fall."""
        left = self._left(g, seconds)
        (first, before), (later, after) = self._state(g, self.times[0]), self._state(g, seconds)
        gained = np.maximum((after / left) ** 2 - before**2, 0.0)
        return later / left - first, np.sqrt(gained)

    def _left(self, g: F64, seconds: float) -> F64:
        """What is left of conductances: the part of the change that all of them share."""
        (first, before), (later, after) = self._state(g, self.times[0]), self._state(g, seconds)
        ratios = [
            np.divide(a, b, out=np.ones_like(a), where=b > 0)
            for a, b in ((later, first), (after, before))
        ]
        return np.clip(np.minimum(*ratios), 0.01, 1.0)

    def _state(self, g: F64, seconds: float) -> tuple[F64, F64]:
        """Mean and standard deviation at a time."""
        moments = _position(self.times, self.times)
        where = _position(np.array([seconds]), self.times)[0]
        before = int(np.searchsorted(moments, where, side="right")) - 1
        i = int(np.clip(before, 0, len(self.times) - 2))
        f = (where - moments[i]) / (moments[i + 1] - moments[i])
        mean, std = ((1 - f) * t[i] + f * t[i + 1] for t in (self.means, self.stds))
        return np.interp(g, self.targets, mean), np.interp(g, self.targets, np.maximum(std, 0.0))


def _moments(name: str, values: list[list[float]], shape: tuple[int, int]) -> F64:
    table = np.asarray(_arguments.real(name, values), np.float64)
    if table.shape != shape:
        raise _arguments.wrong_value(name, f"shape (times, targets) = {shape}", table.shape)
    return table


def _axis(name: str, values: list[float], least: int) -> F64:
    axis = np.asarray(_arguments.real(name, values), np.float64)
    if axis.ndim != 1 or len(axis) < least or (np.diff(axis) <= 0).any() or axis[0] < 0:
        raise _arguments.wrong_value(
            name, f"at least {least} numbers >= 0, strictly increasing", repr(values)
        )
    return axis


def _position(seconds: F64, times: F64) -> F64:
    """ln t, continued in a straight line to t = 0 from the first of ``times`` that is not 0."""
    start = times[times > 0][0] if times[-1] > 0 else 1.0
    return np.where(
        seconds < start, seconds / start, 1 + np.log(np.maximum(seconds, start) / start)
    )
