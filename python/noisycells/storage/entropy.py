"""Entropy coding of integers in a table, such as quantized weights: adaptive range coding.

Every value is coded as a row of decisions (is it 0, its sign, is it beyond 1, beyond 2, ...), each
at a probability that adapts: estimates by row, column, group of columns and neighbors are mixed.
Nothing about the statistics has to be stored. ``cpp/src/entropy.cpp`` has the method.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .. import _core

LARGEST = 1 << 20
"""Largest magnitude of a value."""


def encode(values: NDArray[np.int32], group: int = 1) -> bytes:
    """The code of a table.

    Parameters
    ----------
    values : ndarray of int32, shape (rows, columns)
        Magnitudes up to ``LARGEST``.
    group : int
        Columns that follow one another and are alike: the taps of a filter in a channel.
    """
    rows, columns = values.shape
    flat = np.ascontiguousarray(values, np.int32).reshape(-1)
    return _core.entropy_encode(flat, rows, columns, group)


def decode(code: bytes, shape: tuple[int, int], group: int = 1) -> NDArray[np.int32]:
    """The table of a code: of another shape or group it is another one.

    Raises ValueError where the code is longer than such a table's.
    """
    values = np.empty(shape, np.int32)
    _core.entropy_decode(np.frombuffer(code, np.uint8), *shape, group, values.reshape(-1))
    return values
