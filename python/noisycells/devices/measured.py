"""Devices learnt from measurements of target and measured conductance, at one or more times."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _arguments
from ..channel.fitting import Fit, fit_times
from .device import Device
from .generic import fitted

__all__ = ["fit", "from_fits"]


def fit(
    target: npt.ArrayLike,
    measured: npt.ArrayLike,
    seconds: npt.ArrayLike | None = None,
    neighbors: int | None = None,
    *,
    robust: bool = False,
    **options: Any,
) -> Device:
    """A device learnt from measurements, each time by k nearest neighbors.

    Parameters
    ----------
    target, measured : array_like
        Target conductance and conductance found, in microsiemens, of each measurement.
    seconds : array_like, optional
        Time since programming of each measurement; without it all are of just after programming.
    neighbors : int, optional
        See :func:`noisycells.channel.fitting.fit`.
    robust : bool
        Leave out measurements that are far from the median of their neighbors; otherwise they
        are kept, with a warning.
    **options
        ``name``, ``source`` and others of :func:`noisycells.devices.fitted`.

    Raises
    ------
    ValueError, TypeError
        If the measurements are too few at some time, not finite, not paired, or negative where
        they may not be.
    ImportError
        If scikit-learn is not installed.
    """
    return from_fits(fit_times(target, measured, seconds, neighbors, robust=robust), **options)


def from_fits(fits: Mapping[float | None, Fit], **options: Any) -> Device:
    """The device of :func:`noisycells.channel.fitting.fit_times`; ``options`` as in :func:`fit`.

    Its targets are the knots of the fits that lie within the range of every one of them.
    """
    low = max(f.x[0] for f in fits.values())
    high = min(f.x[-1] for f in fits.values())
    knots = np.unique(np.concatenate([f.x for f in fits.values()]))
    knots = knots[(knots >= low) & (knots <= high)]
    if len(knots) < 2:
        raise _arguments.wrong_value("seconds", "times with targets in common", "none")
    times = [time for time in fits if time is not None]
    return fitted(
        knots.tolist(),
        [np.interp(knots, f.x, f.mean).tolist() for f in fits.values()],
        [np.interp(knots, f.x, f.std).tolist() for f in fits.values()],
        times or None,
        **options,
    )
