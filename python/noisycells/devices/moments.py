"""Polynomials, and moments of the random variables a conductance is made of; float64."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from numpy.polynomial.polynomial import polyval

__all__ = ["exponential_moments", "polynomial", "rectified_moments"]

F64 = npt.NDArray[np.float64]


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
