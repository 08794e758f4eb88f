"""Polynomials, and moments of the random variables a conductance is made of; float64."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.polynomial.polynomial import polyval

from .._types import F64
from .model import Model

__all__ = ["exponential_moments", "polynomial", "rectified_moments", "unstuck_moments"]


def polynomial(x: F64, coefficients: Sequence[float] | F64) -> F64:
    """Of ``coefficients``, lowest power first, at ``x``."""
    return np.asarray(polyval(x, np.asarray(coefficients, np.float64)), np.float64)


_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def rectified_moments(mean: F64, std: F64) -> tuple[F64, F64]:
    """E max(X, 0) and E max(X, 0)^2 for X ~ N(mean, std^2); std 0 allowed, shapes broadcast.

    With t = mean / std: std (t Phi(t) + phi(t)) and std^2 ((t^2 + 1) Phi(t) + t phi(t)).
    """
    mean, std = np.broadcast_arrays(mean, std)
    sure = np.maximum(mean, 0.0)
    t = np.divide(mean, std, out=np.full(mean.shape, np.inf), where=std > 0)
    near = np.abs(t) < 9  # beyond, nothing of the distribution is on the other side of zero
    first, second = sure.copy(), sure**2 + np.where(mean > 0, std**2, 0.0)
    t, s = t[near], std[near]
    below, density = _erfc(-t / math.sqrt(2)) / 2, np.exp(-(t**2) / 2) / math.sqrt(2 * math.pi)
    first[near] = s * (t * below + density)
    second[near] = s**2 * ((t**2 + 1) * below + t * density)
    return first, second


def exponential_moments(mean: F64, std: F64) -> tuple[F64, F64]:
    """E exp(-|X|) and E exp(-2 |X|) for X ~ N(mean, std^2); float64 (n,)."""
    z = np.linspace(-8.0, 8.0, 801)
    weight = np.exp(-(z**2) / 2)
    weight /= weight.sum()
    factor = np.exp(-np.abs(mean[:, None] + std[:, None] * z))
    return factor @ weight, factor**2 @ weight


def unstuck_moments(model: Model, target: F64, seconds: float | None) -> tuple[F64, F64]:
    """E g and E g^2 of devices that are not stuck; target (n,)."""
    mean, std = model.programmed(target)
    if seconds is None or model.time_range is None:
        return rectified_moments(mean, std)
    z = np.linspace(-8.0, 8.0, 801)
    weight = np.exp(-(z**2) / 2)
    weight /= weight.sum()
    programmed = np.maximum(mean[:, None] + std[:, None] * z, 0.0)
    first, second = programmed, programmed**2
    if model.relaxation is not None:
        shift, spread = model.relaxation(model.within(target), seconds)
        first, second = rectified_moments(programmed + shift[:, None], spread[:, None])
    if model.flicker is not None:
        fraction = model.flicker(programmed, seconds)
        factor, square = rectified_moments(np.ones_like(fraction), fraction)
        first, second = first * factor, second * square
    first, second = first @ weight, second @ weight
    if model.drift is not None:
        factor, square = exponential_moments(*model.drift(model.within(target), seconds))
        first, second = first * factor, second * square
    return first, second
