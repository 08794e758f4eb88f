"""Rows that are not used alike, such as those of an embedding: steps by how often each is used.

An embedding is a linear layer whose input has a one where the token is, so that the second moments
of this input are diagonal: how often each row is looked up, p_r. Errors E of the rows move the
outputs by a mean square of sum_r p_r |E_r|^2. Bits are spent best where each row adds as much to
that, so steps go as p_r^-1/2 ("reverse water-filling", T. Cover and J. Thomas, "Elements of
information theory", 2006, section 10.3). They are rounded to half octaves and stored.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _arguments
from .._types import F64
from .feedback import checked_moments

MOST_HALVES = 80
"""Half octaves that the step of a row is finer or coarser than the tensor's, at most."""


def of_inputs(
    name: str, moments: ArrayLike | None, table: tuple[int, int]
) -> tuple[F64 | None, F64 | None]:
    """Second moments of a tensor's inputs, or how often its rows are used; or neither.

    Parameters
    ----------
    name : str
        Of the tensor, for messages.
    moments : array_like, optional
        Of shape (columns, columns), or (rows,): shares of uses, up to a factor.
    table : (int, int)
        Rows and columns.

    Returns
    -------
    moments : ndarray of float64, shape (columns, columns), or None
    frequencies : ndarray of float64, shape (rows,), or None
        Their mean is 1.

    Raises
    ------
    TypeError, ValueError
        If they are of another shape, not finite, not symmetric, or a row is never used.
    """
    if moments is None:
        return None, None
    if np.ndim(moments) == 1 and table[0] > 1:
        return None, _checked(name, moments, table[0])
    return checked_moments(name, moments, table[1]), None


def _checked(name: str, given: ArrayLike, rows: int) -> F64:
    array = np.asarray(_arguments.real("moments", given), np.float64)
    if array.shape != (rows,):
        right = f"shape ({rows},), how often each row of {name!r} is used, or a matrix"
        raise _arguments.wrong_value("moments", right, array.shape)
    if not (np.isfinite(array).all() and array.min() > 0):
        right = f"numbers above 0 for each row of {name!r}"
        raise _arguments.wrong_value("moments", right, f"{array.min():g} to {array.max():g}")
    return np.asarray(array / array.mean())


def half_octaves(frequencies: F64) -> NDArray[np.int32]:
    """By how many half octaves the step of each row is finer than the tensor's; int32 (rows,)."""
    found = np.rint(np.log2(frequencies))
    return np.clip(found, -MOST_HALVES, MOST_HALVES).astype(np.int32)


def row_steps(step: float, halves: NDArray[np.int32]) -> F64:
    """The step of each row, (rows, 1): exact but for one factor sqrt(2), so alike everywhere."""
    odd = np.where(halves & 1, math.sqrt(2), 1.0)
    return np.asarray(np.ldexp(step * odd, -(halves + (halves & 1)) // 2)[:, None])
