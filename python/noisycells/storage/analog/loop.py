"""Programming one weight after the other, with the error of each fed to those not yet written.

The feedback of GPTQ (Frantar et al. 2023; before it Hassibi & Stork 1993), which takes the value
that was really programmed, as far as verifying reads know it, in the place of a rounded one.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ... import _arguments
from ..._types import F32, F64
from .cells import CellArray
from .maps import CellMap

__all__ = ["Feedback", "Programming", "feedback", "program"]

BLOCK = 64  # inputs whose errors are fed to later blocks at once


class Programming(NamedTuple):
    """How cells are programmed.

    Attributes
    ----------
    pulses : int
        Most pulses of a cell.
    verify_reads : int
        Reads that are averaged to verify a pulse; 0 is the open loop.
    tolerance : float
        Distance from the target, in read standard deviations of the cell, that ends the pulses.
    reads : int
        Reads that will be averaged when the weights are read back.
    """

    pulses: int
    verify_reads: int
    tolerance: float
    reads: int


class Feedback(NamedTuple):
    """Where errors go: ``order`` of the inputs, and the upper factor U of their inverse moments.

    Of an error e of input j, in that order, e U[j, k] / U[j, j] is taken from every later weight k;
    what is left costs e^2 / U[j, j]^2.
    """

    order: NDArray[np.intp]
    factor: F32

    @property
    def remaining(self) -> float:
        """Cost of an error that is fed forward, as a share of one that is not."""
        factor = self.factor.astype(np.float64)
        left = 1 / np.diag(factor) ** 2
        whole = np.diag(np.linalg.inv(factor.T @ factor))
        return float(left.mean() / whole.mean())


def feedback(moments: F64, damping: float) -> Feedback:
    """The factor for second moments of a layer's inputs, ``damping`` of their mean added to each.

    Raises
    ------
    ValueError
        If the damped moments are not positive definite.
    """
    order = np.argsort(-np.diag(moments), kind="stable")
    damped = moments[np.ix_(order, order)].copy()
    damped[np.diag_indices_from(damped)] += damping * np.diag(moments).mean()
    try:
        # inv(H) = U^T U with U upper: the Cholesky factor of the inverse, transposed.
        lower = np.linalg.cholesky(np.linalg.inv(damped))
    except np.linalg.LinAlgError:
        raise _arguments.wrong_value(
            "moments", "a positive definite matrix once damped", f"damping {damping:g}"
        ) from None
    return Feedback(order, np.ascontiguousarray(lower.T, np.float32))


def program(
    values: F64, cells: CellArray, cell_map: CellMap, how: Programming, to: Feedback | None
) -> F64:
    """Write values into cells, input by input, and return what they are expected to read back as.

    Parameters
    ----------
    values : float64, shape (rows, n)
        In units of the map.
    cells : CellArray
        Cell ``j rows + i`` gets row i of input j.
    cell_map : CellMap
    how : Programming
    to : Feedback or None
        None: each weight is written as it is.

    Returns
    -------
    float64, shape (rows, n)
    """
    if to is None:
        expected = _write(np.ascontiguousarray(values.T).reshape(-1), 0, cells, cell_map, how)
        return np.ascontiguousarray(expected.reshape(values.shape[::-1]).T)
    left = np.ascontiguousarray(values.T[to.order])  # an input a row
    found = np.empty_like(left)
    n, rows = left.shape
    for start in range(0, n, BLOCK):
        stop = min(start + BLOCK, n)
        errors = np.empty((stop - start, rows))
        for j in range(start, stop):
            found[j] = _write(left[j], int(to.order[j]) * rows, cells, cell_map, how)
            error = (left[j] - found[j]) / to.factor[j, j]
            left[j + 1 : stop] -= to.factor[j, j + 1 : stop, None] * error
            errors[j - start] = error
        left[stop:] -= to.factor[start:stop, stop:].T @ errors
    result = np.empty_like(values)
    result[:, to.order] = found.T
    return result


def _write(values: F64, first: int, cells: CellArray, cell_map: CellMap, how: Programming) -> F64:
    """Program a run of cells and return what they are expected to read back as."""
    channel = cells.channel
    x = cells.written(channel.inverse(cell_map.encode(values)))
    targets = channel.mean_at(x)
    programmed, read = channel.std_parts_at(x)
    programmed = np.hypot(programmed, channel.d2d_std)
    level, unsure = targets, programmed
    pending = np.ones(len(values), bool)
    for _ in range(how.pulses):
        cells.write(x, first, pending)
        if how.verify_reads == 0:
            break
        seen = cells.verify(how.verify_reads, first, len(values), pending)
        # The level is N(target, programmed^2) before the reads, whose mean has this variance.
        noise = read**2 / how.verify_reads
        trust = programmed**2 / np.maximum(programmed**2 + noise, 1e-30)
        level = np.where(pending, targets + trust * (seen - targets), level)
        unsure = programmed * np.sqrt(1 - trust)
        pending = pending & (np.abs(level - targets) > how.tolerance * read)
        if not pending.any():
            break
    return cell_map.expected(level, np.hypot(unsure, read / math.sqrt(how.reads)))
