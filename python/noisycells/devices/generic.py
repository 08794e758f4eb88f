"""Devices without a technology: ideal, and Gaussian noise of one's own choice."""

from __future__ import annotations

import numpy as np

from .device import F64, HEADROOM, Model, maker

__all__ = ["gaussian", "ideal"]

_SYNTHETIC = "synthetic: no measurements"
_LICENCE = "MIT, as the package"


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
        licence=_LICENCE,
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
    for name, value in (("std", std), ("proportional", proportional), ("read_std", read_std)):
        if value < 0:
            raise ValueError(f"{name}: expected a value >= 0, got {value}")

    def deviation(g: F64) -> F64:
        return np.hypot(std, proportional * g)

    return Model(
        source=_SYNTHETIC,
        doi="",
        licence=_LICENCE,
        g_min=g_min,
        g_max=g_max,
        measured=(0.0, HEADROOM * g_max),
        time_range=None,
        std=deviation,
        read_variance=(read_std**2, 0.0, 0.0),
        stuck=stuck,
        reset=reset,
        synthetic=True,
    )
