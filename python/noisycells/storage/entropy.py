"""Entropy coding of integers in a table, such as quantized weights: adaptive range coding.

Every value is coded as a row of decisions (is it 0, its sign, is it beyond 1, beyond 2, ...), each
at a probability that adapts: estimates by row, column, group of columns, neighbors and class are
mixed. Nothing about the statistics has to be stored. ``cpp/src/entropy.cpp`` has the method.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .. import _core

U8 = NDArray[np.uint8]

LARGEST = 1 << 20
"""Largest magnitude of a value."""


def encode(
    values: NDArray[np.int32],
    group: int = 1,
    kept: NDArray[np.bool_] | None = None,
    classes: U8 | None = None,
) -> bytes:
    """The code of a table.

    Parameters
    ----------
    values : ndarray of int32, shape (rows, columns)
        Magnitudes up to ``LARGEST``.
    group : int
        Columns that follow one another and are alike: the taps of a filter in a channel.
    kept : ndarray of bool, shape (rows, columns), optional
        Which have a value; the others count as 0 and take no bits. The decoder has to know.
    classes : ndarray of uint8 below 8, shape (rows, columns), optional
        What else the decoder knows that says something of each value.
    """
    rows, columns = values.shape
    flat = np.ascontiguousarray(values, np.int32).reshape(-1)
    return _core.entropy_encode(flat, rows, columns, group, _flat(kept), _flat(classes))


def decode(
    code: bytes,
    shape: tuple[int, int],
    group: int = 1,
    kept: NDArray[np.bool_] | None = None,
    classes: U8 | None = None,
) -> NDArray[np.int32]:
    """The table of a code, with what the encoder was given besides."""
    values = np.empty(shape, np.int32)
    buffer = np.frombuffer(code, np.uint8)
    _core.entropy_decode(
        buffer, *shape, group, _flat(kept), _flat(classes), values.reshape(-1)
    )
    return values


def _flat(array: NDArray[np.bool_] | U8 | None) -> U8 | None:
    return None if array is None else np.ascontiguousarray(array, np.uint8).reshape(-1)
