"""How many bits an adaptive entropy coder needs for the integers of a tensor, in plain numpy.

Nothing is encoded: of a code that adapts to what it has already coded, the length follows from
counts alone. It is what a real coder comes within a percent of.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ... import _arguments

__all__ = ["code_length"]

UNARY = 15  # magnitudes up to here have a decision for each step; larger ones an Elias-gamma tail
BINS = 24  # contexts of the decision "zero or not"
COARSE = 4  # contexts of the decisions about magnitudes
REACH = 6.0  # logits beyond this share the outer contexts
PRIOR = 2.0  # weight, in symbols, of the density so far against that of a row or column


def code_length(indices: ArrayLike) -> float:
    """Bits of an adaptive binary code of integers, zero or not, sign, then magnitude in unary.

    Each decision is coded with the frequencies of its context so far (Krichevsky & Trofimov 1981:
    counts begin at 1/2). The contexts of "zero or not" are classes of a density that is expected
    from the row's and the column's zeros so far; so no table is sent. Rows are the first dimension.

    Parameters
    ----------
    indices : array_like of int
        Any shape, coded in C order; one dimension is a single row.

    Returns
    -------
    float
        Bits, not rounded; 0 for no integers.

    Raises
    ------
    TypeError
        If they are not integers.
    """
    given = np.asarray(indices)
    if given.dtype.kind not in "iu":
        raise _arguments.wrong_type("indices", "integers", indices)
    if given.size == 0:
        return 0.0
    rows = np.abs(given.astype(np.int64).reshape(len(given) if given.ndim > 1 else 1, -1))
    contexts = _contexts(rows > 0)
    magnitudes, coarse = rows.reshape(-1), contexts.reshape(-1) * COARSE // BINS
    bits = _adaptive(contexts.reshape(-1), magnitudes > 0, BINS)
    bits += float(np.count_nonzero(magnitudes))  # signs
    for least in range(1, UNARY):
        reached = magnitudes >= least
        bits += _adaptive(coarse[reached], magnitudes[reached] > least, COARSE)
    tail = magnitudes[magnitudes >= UNARY] - (UNARY - 1)
    return bits + float(np.sum(2 * np.floor(np.log2(tail)) + 1))


def _contexts(nonzero: NDArray[np.bool_]) -> NDArray[np.intp]:
    """A class, in [0, BINS), of each entry, from the entries before it in C order alone."""
    height, width = nonzero.shape
    ones = nonzero.astype(np.float64)
    in_row, in_column = np.cumsum(ones, 1) - ones, np.cumsum(ones, 0) - ones
    row_number, column_number = np.arange(height)[:, None], np.arange(width)[None, :]
    # of the rows before this one, so that it is the same for the whole row
    before = np.concatenate([[0.0], np.cumsum(ones.sum(1))[:-1]])[:, None]
    density = (before + 0.5) / (row_number * width + 1.0)
    of_row = (in_row + PRIOR * density) / (column_number + PRIOR)
    of_column = (in_column + PRIOR * density) / (row_number + PRIOR)
    logit = _logit(of_row) + _logit(of_column) - _logit(density)
    place = (np.clip(logit, -REACH, REACH) + REACH) / (2 * REACH) * BINS
    return np.minimum(place.astype(np.intp), BINS - 1)


def _logit(p: NDArray[np.float64]) -> NDArray[np.float64]:
    p = np.clip(p, 1e-6, 1 - 1e-6)
    return np.asarray(np.log(p / (1 - p)))


def _adaptive(contexts: NDArray[np.intp], decisions: NDArray[np.bool_], classes: int) -> float:
    """Bits of binary decisions, each with the frequencies of its context so far."""
    taken = np.bincount(contexts[decisions], minlength=classes)
    counts = np.bincount(contexts, minlength=classes)
    nats = 0.0
    for ones, count in zip(taken.tolist(), counts.tolist(), strict=True):
        nats += math.lgamma(count + 1) - math.lgamma(ones + 0.5) - math.lgamma(count - ones + 0.5)
        nats += math.log(math.pi)
    return nats / math.log(2)
