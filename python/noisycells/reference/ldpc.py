"""Definition of the error-correcting codes: encoding and two decoders, in plain numpy.

:func:`decode` is what the core does, bit for bit: rows of the code's table one after the other
(layered belief propagation: D. E. Hocevar, SiPS 2004), with log(1 + exp(-x)) approximated.
:func:`sum_product` is belief propagation as in the textbook (T. Richardson and R. Urbanke, "Modern
Coding Theory", 2008, section 2.5), in float64 and all checks at once: the decoder of the tests that
knows nothing of the first.

A code is an int32 array of entries (row, column, shift): check z of the row is the sum of the bits
(z + shift) mod lanes of its columns. ``rows`` and ``columns`` are numbers of the table.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .._types import F32, F64, I32, U8

_SLOPE = np.float32(1 / 8.3177662)
_LOG2 = np.float32(0.69314718)


def parity_matrix(edges: I32, rows: int, columns: int, lanes: int) -> U8:
    """The parity checks one by one, uint8 (rows lanes, columns lanes)."""
    found = np.zeros((rows, lanes, columns, lanes), np.uint8)
    z = np.arange(lanes)
    for row, column, shift in edges:
        found[row, z, column, (z + shift) % lanes] = 1
    return found.reshape(rows * lanes, columns * lanes)


def encode(information: U8, matrix: U8) -> U8:
    """The word of the code that starts with these bits, by elimination modulo 2."""
    checks, length = matrix.shape
    system = np.concatenate(
        [matrix[:, length - checks :], (matrix[:, : length - checks] @ information % 2)[:, None]],
        axis=1,
    ).astype(np.uint8)
    for k in range(checks):
        pivot = k + int(np.argmax(system[k:, k]))
        system[[k, pivot]] = system[[pivot, k]]
        others = system[:, k].astype(bool)
        others[k] = False
        system[others] ^= system[k]
    return np.concatenate([information, system[:, -1]])


def log_one_plus_exp(x: F32) -> F32:
    """log(1 + exp(-x)) for x >= 0, to 0.008."""
    t = np.maximum(np.float32(1) - x * _SLOPE, np.float32(0))
    square = t * t
    return np.asarray(square * square * square * _LOG2, np.float32)


def box_plus(a: F32, b: F32) -> F32:
    """Log-likelihood ratio of the sum of two bits: 2 artanh(tanh(a / 2) tanh(b / 2)), about."""
    x, y = np.abs(a), np.abs(b)
    low, high = np.minimum(x, y), np.maximum(x, y)
    value = low + log_one_plus_exp(x + y) - log_one_plus_exp(high - low)
    negative = np.signbit(a) ^ np.signbit(b)
    magnitude = np.maximum(value, np.float32(0))
    return np.asarray(np.where(negative, -magnitude, magnitude), np.float32)


def check_nodes(values: F32, messages: F32) -> tuple[F32, F32]:
    """New values and messages of one row of the table, each float32 (entries, lanes).

    Each message is the box-plus of the others' values less their old messages: those before it
    from the first on, those behind it from the last on, then both.
    """
    extrinsic = values - messages
    before, after = [extrinsic[0]], [extrinsic[-1]]
    for k in range(1, len(values) - 1):
        before.append(box_plus(before[-1], extrinsic[k]))
        after.append(box_plus(after[-1], extrinsic[-1 - k]))
    after.reverse()
    inner = [box_plus(before[k - 1], after[k]) for k in range(1, len(values) - 1)]
    found = np.stack([after[0], *inner, before[-1]])
    return extrinsic + found, found


def decode(llr: F32, edges: I32, columns: int, lanes: int, most: int) -> tuple[U8, int]:
    """One block: its bits, and the rounds it took, or -1."""
    values = llr.astype(np.float32).reshape(columns, lanes)
    rows = [edges[edges[:, 0] == row] for row in range(edges[:, 0].max() + 1)]
    places = [(row[:, 1:2], (np.arange(lanes) + row[:, 2:3]) % lanes) for row in rows]
    messages = [np.zeros((len(row), lanes), np.float32) for row in rows]
    for taken in range(most + 1):
        bits = values < 0
        if not any((bits[place].sum(axis=0) & 1).any() for place in places):
            return bits.reshape(-1).astype(np.uint8), taken
        if taken < most:
            for k, place in enumerate(places):
                values[place], messages[k] = check_nodes(values[place], messages[k])
    return bits.reshape(-1).astype(np.uint8), -1


def sum_product(llr: F64, matrix: U8, most: int) -> tuple[U8, NDArray[np.bool_]]:
    """Belief propagation of some blocks, (blocks, length): bits, and which are words."""
    check, bit = np.nonzero(matrix)
    starts = np.searchsorted(check, np.arange(len(matrix)))
    by_bit = np.argsort(bit, kind="stable")
    bit_starts = np.searchsorted(bit[by_bit], np.arange(matrix.shape[1]))
    to_bit = np.zeros((len(llr), len(check)))
    for _ in range(most):
        total = llr + np.add.reduceat(to_bit[:, by_bit], bit_starts, axis=1)
        t = np.tanh((total[:, bit] - to_bit) / 2)
        t = np.where(np.abs(t) < 1e-12, 1e-12, t)
        negative = np.add.reduceat((t < 0).astype(np.int64), starts, axis=1)[:, check] - (t < 0)
        log_t = np.log(np.abs(t))
        rest = np.add.reduceat(log_t, starts, axis=1)[:, check] - log_t
        others = np.minimum(np.exp(rest), 1 - 1e-15) * (1 - 2 * (negative & 1))
        to_bit = 2 * np.arctanh(others)
    total = llr + np.add.reduceat(to_bit[:, by_bit], bit_starts, axis=1)
    bits = (total < 0).astype(np.uint8)
    return bits, ~((bits @ matrix.T.astype(np.int32)) & 1).any(axis=1)
