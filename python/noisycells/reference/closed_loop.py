"""The slow definition of programming input after input, with the errors fed to those left."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .._types import F64

__all__ = ["closed_loop"]


def closed_loop(weights: F64, moments: F64, write: Callable[[int, F64], F64]) -> tuple[F64, F64]:
    """Write the inputs' weights in order; before each, move what is left to where it is best.

    The best values of the unwritten weights f of a row, given the errors e of the written ones w,
    make the error of the outputs e^T H e least: they are off by -inv(H_ff) H_fw e_w.

    Parameters
    ----------
    weights : float64, shape (rows, n)
    moments : float64, shape (n, n)
        H, positive definite.
    write : callable
        ``write(j, values)`` writes input j of all rows and says what they will read back as.

    Returns
    -------
    asked, found : float64, shape (rows, n)
        What ``write`` was given, and what it returned.
    """
    asked, found = np.zeros_like(weights), np.zeros_like(weights)
    n = weights.shape[1]
    for j in range(n):
        written, left = slice(0, j), slice(j, n)
        errors = found[:, written] - weights[:, written]
        shift = -np.linalg.solve(moments[left, left], moments[left, written] @ errors.T)
        asked[:, j] = weights[:, j] + shift[0]
        found[:, j] = write(j, asked[:, j])
    return asked, found
