"""Ranges of converters from example data: by a quantile, or for the least error of the product.

A range that covers all data is coarse where few values are large; a smaller one is finer and cuts
those off. The least square error weighs both, with what each value counts in the outputs: the
errors of an input with the squares of its weights, those of a sum with the square of the digital
scale of its output.
"""

from __future__ import annotations

import numpy as np

from .. import _arguments
from .._types import F32

__all__ = ["SHARES", "check_quantile", "input_range", "sum_range"]

SHARES = 2.0 ** -np.arange(0, 4.01, 0.25)
"""Of the largest magnitude: the ranges that are tried for the least error."""


def check_quantile(quantile: float | str) -> float | str:
    """A number in (0, 1], or "error"."""
    if isinstance(quantile, str):
        if quantile != "error":
            raise _arguments.wrong_value(
                "quantile", "a number in (0, 1] or 'error'", repr(quantile)
            )
        return quantile
    return _arguments.number("quantile", quantile, most=1, above=0)


def input_range(x: F32, quantile: float | str, levels: int, weights: F32) -> float:
    """Full scale of a DAC for inputs ``x`` (batch, in) of ``weights`` (out, in)."""
    if isinstance(quantile, str):
        return _least(x, levels, np.square(weights, dtype=np.float64).sum(axis=0))
    return float(np.quantile(np.abs(x), quantile))


def sum_range(sums: F32, quantile: float | str, levels: int, scale: F32) -> float:
    """Range of the ADCs for ``sums`` (batch, out), which ``scale`` (out,) brings to outputs."""
    if isinstance(quantile, str):
        return _least(sums, levels, np.square(scale, dtype=np.float64))
    return float(np.quantile(np.abs(sums), quantile))


def _least(values: F32, levels: int, weights: F32 | np.ndarray) -> float:
    """The range whose rounding and clipping of (batch, n) has the least error, weighted by (n,)."""
    largest = float(np.abs(values).max())
    if not levels or not largest:
        return largest
    ranges = largest * SHARES
    errors = []
    for reach in ranges:
        step = reach / levels
        converted = np.clip(np.rint(values / step), -levels, levels) * step
        errors.append(float(np.square(converted - values, dtype=np.float64).sum(axis=0) @ weights))
    return float(ranges[int(np.argmin(errors))])
