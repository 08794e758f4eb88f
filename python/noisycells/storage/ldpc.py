"""Low-density parity-check codes of any size and rate, made when they are needed.

A code is quasi-cyclic: a small table of rows and columns whose entries stand for cyclic shifts of
``lanes`` bits (M. P. C. Fossorier, IEEE Trans. Inf. Theory 50, 2004). Its parity columns form two
diagonals, so that encoding is one pass (as in IEEE 802.11n). The table is drawn with the package's
own generator and chosen shift by shift so that no two checks share two bits: the code has no cycle
of length 4. :mod:`noisycells.reference.ldpc` defines encoding and decoding.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import _arguments, _core, random
from .._types import I32
from ..runtime import threads_argument

LANES = 16
"""Lanes are a multiple of this."""
ROUNDS = 60
"""Passes over all checks until a block is given up."""
MAX_DEGREE = 256

_TRIES = 64


class Code(NamedTuple):
    """A quasi-cyclic code.

    Attributes
    ----------
    rows, columns : int
        Of the table; the last ``rows`` columns are parity.
    lanes : int
        Bits that an entry of the table stands for.
    edges : ndarray of int32, shape (entries, 3)
        Row, column and shift of each entry: check z of the row adds bit (z + shift) mod lanes of
        the column.
    """

    rows: int
    columns: int
    lanes: int
    edges: I32

    @property
    def information(self) -> int:
        """Bits of information in a word."""
        return (self.columns - self.rows) * self.lanes

    @property
    def length(self) -> int:
        """Bits of a word, parity included."""
        return self.columns * self.lanes

    @property
    def middle(self) -> int:
        """The row that has the first parity column without a shift."""
        return self.rows // 2

    def encode(
        self, information: NDArray[np.uint8], *, num_threads: int | None = None
    ) -> NDArray[np.uint8]:
        """Words of bits (0 or 1, uint8): (blocks, information) -> (blocks, length)."""
        blocks = len(information)
        words = np.empty((blocks, self.length), np.uint8)
        flat = np.ascontiguousarray(information, np.uint8).reshape(-1)
        _compiled(self).encode(flat, words.reshape(-1), threads_argument(num_threads))
        return words

    def decode(
        self, llr: NDArray[np.float32], rounds: int = ROUNDS, *, num_threads: int | None = None
    ) -> tuple[NDArray[np.uint8], I32]:
        """Belief propagation.

        Parameters
        ----------
        llr : ndarray of float32, shape (blocks, length)
            Log-likelihood ratios, positive for 0; finite.
        rounds : int
            Most passes over all checks.

        Returns
        -------
        words : ndarray of uint8, shape (blocks, length)
            What was decided of each bit; a word of the code where ``taken`` is not -1.
        taken : ndarray of int32, shape (blocks,)
            Passes that each block took, -1 where it cannot be decoded.
        """
        flat = _arguments.array32("llr", llr).reshape(-1)
        words = np.empty((len(flat) // self.length, self.length), np.uint8)
        taken = np.empty(len(words), np.int32)
        threads = threads_argument(num_threads)
        _compiled(self).decode(flat, rounds, words.reshape(-1), taken, threads)
        return words, taken


@lru_cache(maxsize=32)
def make_code(rows: int, information: int, lanes: int, heavy: float = 0.0, light: int = 3) -> Code:
    """A code of ``rows`` parity and ``information`` further columns, the same every time.

    Information columns have 3 entries; a share ``heavy`` of them has more, up to 12, which helps
    codes of lower rate (T. Richardson, A. Shokrollahi, R. Urbanke, IEEE Trans. Inf. Theory 47,
    2001).

    Raises
    ------
    ValueError
        If there are fewer than 4 rows, no information, or too many entries in a row.
    """
    rows = _arguments.integer("rows", rows, 4)
    information = _arguments.integer("information", information, 1)
    if lanes < LANES or lanes % LANES:
        raise _arguments.wrong_value("lanes", f"a multiple of {LANES}", lanes)
    table = _Table(rows, lanes, random.key(lanes, "ldpc code", rows, information))
    table.add_parity(information)
    many = min(12, rows)
    for column in range(information):
        degree = many if column < round(heavy * information) else light
        table.add(column, degree)
    edges = np.array(sorted(table.edges), np.int32)
    if np.bincount(edges[:, 0]).max() > MAX_DEGREE:
        raise _arguments.wrong_value("information", f"at most {MAX_DEGREE} a row", information)
    return Code(rows, rows + information, lanes, edges)


class _Table:
    """A table in the making."""

    def __init__(self, rows: int, lanes: int, seed: int) -> None:
        self.rows, self.lanes, self._seed = rows, lanes, seed
        self.edges: list[tuple[int, int, int]] = []
        self._filled = np.zeros(rows, np.int64)
        # Differences of the shifts that two rows have in one column: the same in two columns
        # would be a cycle of length 4.
        self._taken = np.zeros((rows, rows, lanes), np.int64)

    def add_parity(self, first: int) -> None:
        """The parity columns, from number ``first`` on: two diagonals and one of three entries."""
        last, middle = self.rows - 1, self.rows // 2
        self._put(first, [0, middle, last], [1, 0, 1])
        for row in range(last):
            self._put(first + 1 + row, [row, row + 1], [0, 0])

    def add(self, column: int, degree: int) -> None:
        """A column with entries in the rows that have fewest, where shifts close least cycles."""
        words = self._draw(column, self.rows + _TRIES * degree)
        order = np.lexsort((words[: self.rows], self._filled))
        rows = np.sort(order[:degree])
        shifts = (words[self.rows :].reshape(_TRIES, degree) % self.lanes).astype(np.int64)
        low, high = np.triu_indices(degree, 1)
        apart = (shifts[:, low] - shifts[:, high]) % self.lanes
        cycles = self._taken[rows[low], rows[high], apart].sum(axis=1)
        self._put(column, rows.tolist(), shifts[int(np.argmin(cycles))].tolist())

    def _draw(self, column: int, count: int) -> NDArray[np.uint32]:
        words = np.empty(count, np.uint32)
        _core.random_words(words, self._seed, column, 0)
        return words

    def _put(self, column: int, rows: list[int], shifts: list[int]) -> None:
        for i, (row, shift) in enumerate(zip(rows, shifts, strict=True)):
            self.edges.append((row, column, shift))
            self._filled[row] += 1
            for other, beside in zip(rows[i + 1 :], shifts[i + 1 :], strict=True):
                self._taken[row, other, (shift - beside) % self.lanes] += 1


@lru_cache(maxsize=32)
def _core_code(rows: int, columns: int, lanes: int, edges: bytes) -> _core.LdpcCode:
    table = np.frombuffer(edges, np.int32).reshape(-1, 3)
    return _core.LdpcCode(rows, columns, lanes, rows // 2, table)


def _compiled(code: Code) -> _core.LdpcCode:
    return _core_code(code.rows, code.columns, code.lanes, code.edges.tobytes())
