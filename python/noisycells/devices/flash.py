"""Charge-trap flash (SONOS)."""

from __future__ import annotations

import numpy as np

from .._types import F64
from .model import Model
from .moments import polynomial
from .pcm import DAY
from .registry import maker

__all__ = ["sonos_agrawal2022"]

NANOAMPERES = 100.0
"""Current of 1 uS: cells are read at 0.1 V."""

STATES = (
    (19.88665, 176.3115),
    (25.59102, 186.85544),
    (28.72753, 193.56834),
    (31.04318, 198.90332),
    (33.76214, 204.77023),
    (34.57909, 207.34309),
)
"""(A, B) in nA at 0 to 5 days: the spread of currents is A (1 - exp(-I / B)), figure 10a."""

DRIFT = np.array(
    [
        [0.0] * 11,
        [
            *(6.83650e-01, 6.51250e-03, -4.03163e-04, 3.37944e-06, -1.87435e-08, 5.88902e-11),
            *(-1.07685e-13, 1.17751e-16, -7.60016e-20, 2.67255e-23, -3.94954e-27),
        ],
        [
            *(6.60925e-01, 8.60627e-03, -1.72936e-04, 7.44096e-07, -5.94866e-09, 2.36734e-11),
            *(-4.83740e-14, 5.56072e-17, -3.65397e-20, 1.28405e-23, -1.87450e-27),
        ],
        [
            *(1.15821e00, 1.96116e-02, -4.70807e-04, 3.67510e-06, -2.08786e-08, 6.59752e-11),
            *(-1.19499e-13, 1.28435e-16, -8.11574e-20, 2.78802e-23, -4.02057e-27),
        ],
        [
            *(8.72216e-01, 1.70926e-02, -2.23370e-04, 1.57526e-06, -1.32779e-08, 5.08256e-11),
            *(-1.01251e-13, 1.14633e-16, -7.46124e-20, 2.60559e-23, -3.78724e-27),
        ],
        [
            *(1.15294e00, 1.03149e-02, -6.05199e-05, 1.76086e-08, -6.46690e-09, 3.39044e-11),
            *(-7.53872e-14, 8.98185e-17, -6.00346e-20, 2.12615e-23, -3.11099e-27),
        ],
    ]
)
"""Change of the mean current in nA at 0 to 5 days, figure 10b: polynomials of I in nA, lowest
power first."""

READ = (12.58037, 215.36557)
"""(A, B) in nA of one read: std A (1 - exp(-I / B)), figure 11b."""

MEASURED = 14.0
"""Beyond 1400 nA the polynomials turn away from their course, and from one another."""


def saturating(current: F64, a: float, b: float) -> F64:
    """A (1 - exp(-I / B)); nA."""
    return -a * np.expm1(-current / b)


def state(current: F64, days: float) -> tuple[F64, F64]:
    """Mean and standard deviation of currents, in nA, that were programmed to ``current``.

    Linear between days, and on from the last two.
    """
    day = min(int(days), len(STATES) - 2)
    f = days - day
    a, b = ((1 - f) * np.array(STATES[day]) + f * np.array(STATES[day + 1])).tolist()
    mean = current + polynomial(current, (1 - f) * DRIFT[day] + f * DRIFT[day + 1])
    return mean, saturating(np.maximum(mean, 0.0), a, b)


def read_variance() -> tuple[float, float, float]:
    """c1 g + c2 g^2 nearest to the variance of a read, in uS^2, by least squares."""
    g = np.linspace(0.0, MEASURED, 141)
    variance = (saturating(g * NANOAMPERES, *READ) / NANOAMPERES) ** 2
    (c1, c2), *_ = np.linalg.lstsq(np.stack([g, g**2], axis=1), variance, rcond=None)
    return 0.0, float(c1), float(c2)


@maker
def sonos_agrawal2022(
    g_min: float = 0.0,
    g_max: float = MEASURED,
    stuck: float | tuple[float, float] = 0.0,
    reset: tuple[float, float] | None = None,
    extrapolate: bool = False,
) -> Model:
    """SONOS charge-trap memory, 40 nm: spread and drift of the current over 5 days, read noise.

    Currents of Agrawal et al. in nA over 100, which is their conductance in uS at 0.1 V. Spread
    ``STATES``, drift ``DRIFT``, both linear in time between days; what drift and spread gain
    after programming is one draw for each device. The variance of a read follows
    (A (1 - exp(-I / B)))^2, ``READ``, replaced by the nearest parabola through zero.

    Parameters
    ----------
    g_min, g_max : float
        Range of targets, in microsiemens; within 0 to 14 unless ``extrapolate``.
    stuck : float or (float, float)
        Probabilities of devices stuck off and on.
    reset : (float, float), optional
        Mean and standard deviation of an erased device, in microsiemens: not published.
    extrapolate : bool
        Allow g_max beyond what was measured.
    """

    def relaxation(g: F64, seconds: float) -> tuple[F64, F64]:
        current = g * NANOAMPERES
        mean, std = state(current, seconds / DAY)
        before = state(current, 0.0)[1]
        spread = np.sqrt(np.maximum(std**2 - before**2, 0.0))
        return (mean - current) / NANOAMPERES, spread / NANOAMPERES

    return Model(
        source="Agrawal et al., IEDM 2022, 21.7, figures 10 and 11",
        doi="10.1109/IEDM45625.2022.10019564",
        license="figures of the paper cited; coefficients as in Sandia's CrossSim (BSD-3-Clause)",
        g_min=g_min,
        g_max=g_max,
        measured=(0.0, MEASURED),
        time_range=(0.0, 5 * DAY),
        std=lambda g: state(g * NANOAMPERES, 0.0)[1] / NANOAMPERES,
        relaxation=relaxation,
        read_variance=read_variance(),
        stuck=stuck,
        reset=reset,
        extrapolate=extrapolate,
    )
