"""Rounding with error feedback: each weight's rounding error goes into those not yet rounded.

With H = E[a a^T] the second moments of a layer's inputs, an error e of a row of weights changes its
output by e^T H e on average. Rounding one weight after the other, the best change of those still
free (E. Frantar, S. Ashkboos, T. Hoefler, D. Alistarh, "GPTQ", ICLR 2023; B. Hassibi and D. G.
Stork, "Optimal brain surgeon", 1993) is read off H = U D U^T with U upper, its diagonal 1: the sum
of D_k (e_k + sum_{i<k} U_ik e_i)^2 is least where each e_k makes its term 0 (J. Chee, Y. Cai,
V. Kuleshov, C. De Sa, "QuIP", NeurIPS 2023, theorem 6). No inverse is needed.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _arguments
from .._types import F64

Rounding = Callable[[F64, NDArray[np.intp]], F64]
"""Takes values and their flat positions in the matrix, gives what they are rounded to."""

DAMPING = 0.02
"""What is added to the diagonal of the moments, as a share of its mean."""
BLOCK = 64
"""Columns whose errors reach those beyond them together."""
ROOM = 1 << 22
"""Numbers of the factors of the rows that are rounded together."""


def round_matrix(
    weights: F64,
    rounding: Rounding,
    moments: F64 | None = None,
    mask: NDArray[np.bool_] | None = None,
) -> F64:
    """Round a matrix, feeding errors back along each row.

    Parameters
    ----------
    weights : ndarray of float64, shape (rows, columns)
    rounding : callable
        What each weight may become.
    moments : ndarray of float64, shape (columns, columns), optional
        Second moments of the inputs. None: weights are rounded each for itself.
    mask : ndarray of bool, shape (rows, columns), optional
        Weights to round; the others are 0 and stay so.

    Returns
    -------
    ndarray of float64, shape (rows, columns)
    """
    at = np.arange(weights.size).reshape(weights.shape)
    if moments is None:
        rounded = rounding(weights, at)
        return rounded if mask is None else np.where(mask, rounded, 0.0)
    order = np.argsort(-np.diag(moments), kind="stable")
    if mask is None:
        out = np.empty_like(weights)
        factor = _factor(moments[np.ix_(order, order)])
        out[:, order] = _sweep(weights[:, order], at[:, order], factor, rounding)
        return out
    return _round_masked(weights, at, rounding, moments, mask, order)


def checked_moments(name: str, moments: ArrayLike, inputs: int) -> F64:
    """Second moments of the inputs of a tensor's layer, float64 (inputs, inputs), symmetric.

    Raises
    ------
    TypeError, ValueError
        If they are of another shape, not symmetric or not finite.
    """
    array = np.asarray(_arguments.real("moments", moments), np.float64)
    if array.shape != (inputs, inputs):
        raise _arguments.wrong_value(
            "moments", f"shape {(inputs, inputs)} for {name!r}", array.shape
        )
    largest = float(np.abs(array).max(initial=0))
    if not math.isfinite(largest):
        raise _arguments.wrong_value("moments", f"finite values for {name!r}", "NaN or infinity")
    if np.abs(array - array.T).max(initial=0) > 1e-5 * largest:
        raise _arguments.wrong_value("moments", f"a symmetric matrix for {name!r}", "another")
    return np.asarray((array + array.T) / 2)


def share_left(moments: F64) -> float:
    """What feedback leaves of the effect that independent rounding errors have on the outputs.

    Such errors, all of one size, count the trace of the moments without feedback and the sum of D
    with it (Chee et al. 2023), both of the damped moments here; the share is that of the two.
    """
    trace = float(np.trace(moments))
    if not trace > 0:
        return 1.0
    order = np.argsort(-np.diag(moments), kind="stable")
    roots = np.diag(_upper(moments[np.ix_(order, order)]))
    return float((roots**2).sum() / ((1 + DAMPING) * trace))


def _factor(moments: F64) -> F64:
    """The upper U, its diagonal 1, of the damped moments U D U^T; of a matrix or a stack."""
    upper = _upper(moments)
    diagonal = np.arange(moments.shape[-1])
    return np.asarray(upper / upper[..., None, diagonal, diagonal])


def _upper(moments: F64) -> F64:
    """The upper triangle V of the damped moments V V^T."""
    damped = moments.copy()
    count = moments.shape[-1]
    mean = np.trace(moments, axis1=-2, axis2=-1) / max(1, count)
    diagonal = np.arange(count)
    damped[..., diagonal, diagonal] += (DAMPING * mean + 1e-12)[..., None]
    # Cholesky's factor is lower; with rows and columns in reverse order it is an upper one.
    try:
        return np.asarray(np.linalg.cholesky(damped[..., ::-1, ::-1])[..., ::-1, ::-1])
    except np.linalg.LinAlgError:
        raise _arguments.wrong_value(
            "moments", "a positive definite matrix once damped", f"damping {DAMPING:g}"
        ) from None


def _sweep(weights: F64, at: NDArray[np.intp], factor: F64, rounding: Rounding) -> F64:
    """Round column after column; errors reach the columns beyond a block in one product."""
    values, out = weights.copy(), np.empty_like(weights)
    columns = weights.shape[1]
    for start in range(0, columns, BLOCK):
        stop = min(start + BLOCK, columns)
        errors = np.empty((len(weights), stop - start))
        for j in range(start, stop):
            out[:, j] = rounding(values[:, j], at[:, j])
            error = weights[:, j] - out[:, j]
            values[:, j + 1 : stop] += np.outer(error, factor[j, j + 1 : stop])
            errors[:, j - start] = error
        values[:, stop:] += errors @ factor[start:stop, stop:]
    return out


def _round_masked(
    weights: F64,
    at: NDArray[np.intp],
    rounding: Rounding,
    moments: F64,
    mask: NDArray[np.bool_],
    order: NDArray[np.intp],
) -> F64:
    """Each row with the moments of its own weights, some rows of like length at a time."""
    out = np.zeros_like(weights)
    counts = mask.sum(axis=1)
    rows = np.argsort(counts, kind="stable")
    rows = rows[counts[rows] > 0]
    while len(rows):
        longest = int(counts[rows[-1]])
        some, rows = rows[-max(1, ROOM // longest**2) :], rows[: -max(1, ROOM // longest**2)]
        kept = np.argsort(~mask[some][:, order], axis=1, kind="stable")[:, :longest]
        columns = order[kept]
        real = np.take_along_axis(mask[some], columns, axis=1)
        pair = real[:, :, None] & real[:, None, :]
        stack = np.where(pair, moments[columns[:, :, None], columns[:, None, :]], 0.0)
        diagonal = np.arange(longest)
        mean = np.trace(stack, axis1=1, axis2=2) / real.sum(axis=1)  # so fill does not change it
        stack[:, diagonal, diagonal] += np.where(real, 0.0, mean[:, None])
        factor = _factor(stack)
        given = np.take_along_axis(weights[some], columns, axis=1)
        values = given.copy()
        places = np.take_along_axis(at[some], columns, axis=1)
        for j in range(longest):
            rounded = rounding(values[:, j], places[:, j])
            out[some[real[:, j]], columns[real[:, j], j]] = rounded[real[:, j]]
            error = np.where(real[:, j], given[:, j] - rounded, 0.0)
            values[:, j + 1 :] += error[:, None] * factor[:, j, j + 1 :]
    return out


def uniform(step: float) -> Rounding:
    """Multiples of a step."""

    def rounding(values: F64, at: NDArray[np.intp]) -> F64:
        return np.asarray(np.rint(values / step) * step)

    return rounding


def nearest(levels: F64, scale: F64) -> Rounding:
    """The nearest of some ascending levels, times the scale at each position of the matrix."""

    def rounding(values: F64, at: NDArray[np.intp]) -> F64:
        size = scale[at]
        return np.asarray(levels[nearest_index(levels, values / size)] * size)

    return rounding


def nearest_index(levels: F64, values: F64) -> NDArray[np.intp]:
    """Which of some ascending levels is nearest."""
    return np.searchsorted((levels[1:] + levels[:-1]) / 2, values)
