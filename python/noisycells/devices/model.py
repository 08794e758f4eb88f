"""What a device is made of: functions of the conductance, and figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .. import _arguments
from .._types import F64, RESOLVED

__all__ = ["MOST", "Model", "constant_read"]

Curve = Callable[[F64], F64]

LEAST, MOST = 1e-9, 1e9
"""Conductances that devices may have, uS: float32 holds their squares and their inverses'."""


def constant_read(std: float) -> tuple[float, float, float]:
    """The ``read_variance`` of a read of the same standard deviation, uS, at every conductance."""
    return _arguments.number("read_std", std, 0, MOST) ** 2, 0.0, 0.0


@dataclass(frozen=True, kw_only=True)
class Model:
    """What a device is made of. Curves take and give float64 arrays, in microsiemens.

    Attributes
    ----------
    source, doi, license : str
        Where the figures come from, the DOIs, and the terms that they come under.
    g_min, g_max : float
        Conductances that the smallest and the largest target stand for.
    measured : (float, float)
        Range of conductances that was measured; g_min and g_max beyond it are refused unless
        ``extrapolate``.
    time_range : (float, float) or None
        First and last time measured; None where the device does not depend on time.
    std, mean : Curve
        Standard deviation and mean of the programmed conductance over the target. Without
        ``mean`` it is the target.
    relaxation : callable, optional
        (target, seconds) -> (shift, standard deviation) of a change of the conductance since
        programming, drawn once for each device.
    drift : callable, optional
        (target, seconds) -> mean and standard deviation of x in a fall to exp(-|x|) of the
        conductance, drawn once for each device; x is Gaussian.
    flicker : callable, optional
        (programmed conductance, seconds) -> standard deviation of the 1/f noise accumulated,
        as a fraction of the conductance; drawn once for each device.
    read_variance : (float, float, float)
        Variance of one short-term read at conductance g: c0 + c1 g + c2 g^2.
    stuck : float or (float, float)
        Probabilities of a device stuck off (at g_min) and on (at g_max); one number is shared
        equally.
    reset : (float, float), optional
        Mean and standard deviation of a device left in its RESET state.
    synthetic : bool
        Whether the figures are made up rather than measured.
    extrapolate : bool
        Allow g_min and g_max outside ``measured``.
    """

    source: str
    doi: str
    license: str
    g_min: float
    g_max: float
    measured: tuple[float, float]
    std: Curve
    time_range: tuple[float, float] | None
    mean: Curve | None = None
    relaxation: Callable[[F64, float], tuple[F64, F64]] | None = None
    drift: Callable[[F64, float], tuple[F64, F64]] | None = None
    flicker: Callable[[F64, float], F64] | None = None
    read_variance: tuple[float, float, float] = (0.0, 0.0, 0.0)
    stuck: float | tuple[float, float] = 0.0
    reset: tuple[float, float] | None = None
    synthetic: bool = False
    extrapolate: bool = False

    def within(self, target: F64) -> F64:
        """Targets to take curves at: noise beyond what was measured is that at the end of it."""
        return np.clip(target, *self.measured)

    def programmed(self, target: F64) -> tuple[F64, F64]:
        """Mean and standard deviation of the conductance programmed to each target."""
        within = self.within(target)
        mean = target if self.mean is None else self.mean(within)
        return mean, np.maximum(self.std(within), 0.0)

    @property
    def ages(self) -> bool:
        """Whether anything changes with time."""
        return any(part is not None for part in (self.relaxation, self.drift, self.flicker))

    def checked_conductances(self) -> tuple[float, float]:
        """(g_min, g_max); refused where they are not ascending, or were not measured."""
        low, high = (
            _arguments.number(f"g_{end}", getattr(self, f"g_{end}")) for end in ("min", "max")
        )
        if not 0 <= low < high:
            raise _arguments.wrong_value(
                "g_min, g_max", "0 <= g_min < g_max", f"{low:g} and {high:g}"
            )
        if high > MOST or high - low < max(LEAST, RESOLVED * high):
            raise _arguments.wrong_value(
                "g_min, g_max",
                f"at most {MOST:g} uS, and {LEAST:g} uS and {RESOLVED:g} of g_max apart",
                f"{low:g} and {high:g}",
            )
        first, last = self.measured
        if not self.extrapolate and (low < first or high > last):
            raise _arguments.wrong_value(
                "g_min, g_max",
                f"within {first:g} to {last:g} uS, which was measured",
                f"{low:g} and {high:g}; extrapolate=True goes beyond",
            )
        return low, high

    def checked_reset(self) -> tuple[float, float] | None:
        """``reset``, refused where it is no pair of numbers >= 0."""
        reset = self.reset
        if reset is None:
            return None
        if not isinstance(reset, (list, tuple)) or len(reset) != 2:
            raise _arguments.wrong_value(
                "reset", "a pair (mean, standard deviation) in uS", repr(reset)
            )
        mean, std = (_arguments.number("reset", value, 0) for value in reset)
        return mean, std
