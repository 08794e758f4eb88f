"""IR drop: what the resistance of the wires makes of a tile's conductances.

A passive tile is a linear network, so its outputs are those of *effective* conductances that do
not depend on the inputs. To first order in the wire resistance R they are

    G_eff = G / (1 + R (row + column))

where ``row`` is the drop along the driven row if every cell of it saw the full voltage, and
``column`` the rise along the column if every cell of it did, both per unit of voltage: the sum
over the segments that current crosses of the current in each. Terms of second order in R are
left out: of 96 x 96 normal weights on devices of 25 uS with 1 ohm a segment, wires take 7 % of
the current, and the effective conductances are off by 0.06 % of their mean (rms, against a nodal
solve), 0.5 % with 3 ohm, where wires take 20 %.

``ir_drop="exact"`` solves Kirchhoff's laws instead, column after column from the far end: with
Y the admittance of all that lies beyond the nodes of the rows at one column (rows x rows), the
voltages there are (1 + R Y)^-1 times those at the column before. That is one inverse of a matrix
of rows x rows a column. Sneak currents are in: the current of a row returns to others through
cells that nobody reads, and effective conductances of cells that are off are above 0.

Layout of a tile: rows are driven at their first column, columns are held at ground behind
their last row; G+ and G- of a weight have neighboring columns. Devices in parallel count as one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from .._types import F64, tiles
from .spec import CrossbarSpec

__all__ = ["wired"]

_Real = TypeVar("_Real", np.float32, np.float64)


def wired(pair: NDArray[_Real], spec: CrossbarSpec) -> tuple[NDArray[_Real], NDArray[_Real]]:
    """Effective conductances, uS, and the share of its own current that each cell delivers.

    The share, at most 1, is what read noise is multiplied by: the current of a cell's noise goes
    through the same wires.

    Parameters
    ----------
    pair : float32 or float64 (2, out, in)
        Conductances of the two polarities, uS.
    spec : CrossbarSpec
        For the size of tiles, ``wire_resistance_ohm`` and ``ir_drop``.

    Returns
    -------
    effective, share : (2, out, in), of the dtype of ``pair``
    """
    effective, share = np.empty_like(pair), np.empty_like(pair)
    _, n, k = pair.shape
    for outputs in tiles(n, spec.cols):
        for inputs in tiles(k, spec.rows):
            block = pair[:, outputs, inputs]
            # Columns in their order on the tile: + and - of each output; (2 outputs, rows).
            cells = block.astype(np.float64).transpose(1, 0, 2).reshape(-1, block.shape[2])
            if spec.ir_drop == "exact":
                found = _solved(cells, 1e6 / spec.wire_resistance_ohm)
                part = np.minimum(found, cells) / np.maximum(cells, np.finfo(np.float64).tiny)
                effective[:, outputs, inputs] = _pairs(found)
                share[:, outputs, inputs] = _pairs(part)
            else:
                part = _first_order(cells, 1e-6 * spec.wire_resistance_ohm)
                share[:, outputs, inputs] = _pairs(part)
                effective[:, outputs, inputs] = block * share[:, outputs, inputs]
    return effective, share


def _pairs(cells: F64) -> F64:
    """(2 outputs, rows) -> (2, outputs, rows)."""
    pairs: F64 = cells.reshape(-1, 2, cells.shape[1]).transpose(1, 0, 2)
    return pairs


def _first_order(cells: F64, resistance: float) -> F64:
    """G_eff / G; ``resistance`` of a segment in the inverse of the unit of ``cells``."""
    beyond = np.cumsum(cells[::-1], axis=0)[::-1]  # current in each segment of a row
    before = np.cumsum(cells, axis=1)  # current in each segment of a column
    drop = np.cumsum(beyond, axis=0) + np.cumsum(before[:, ::-1], axis=1)[:, ::-1]
    share: F64 = 1 / (1 + resistance * drop)
    return share


def _solved(cells: F64, wire: float) -> F64:
    """Current out of each column per volt on each row; ``wire`` is a segment's conductance."""
    columns, rows = cells.shape
    beyond = np.zeros((rows, rows))  # admittance of the columns that come after
    found = np.empty_like(cells)
    inverses = _column_inverses(cells[::-1], wire)
    for c, inverse in zip(reversed(range(columns)), inverses, strict=True):
        g = cells[c]
        beyond += np.diag(g) - g[:, None] * inverse * g
        found[c] = wire * inverse[-1] * g  # the current to ground, by the voltages at the rows
        onward = np.linalg.inv(np.eye(rows) + beyond / wire)
        found[c:] = found[c:] @ onward
        beyond = beyond @ onward
        beyond = (beyond + beyond.T) / 2  # as it is, but for rounding
    return found


def _column_inverses(cells: F64, wire: float) -> Iterator[F64]:
    """Of each column alone: voltages of its nodes per current into them, (rows, rows).

    The column is a chain with a cell from each node to its row, here held at 0, and a segment to
    ground behind the last one: a tridiagonal matrix, whose inverse is known by the admittances
    seen from each node upwards and downwards.
    """
    rows = cells.shape[1]
    above = np.empty_like(cells)  # admittance of a node's cell and of all above it
    above[:, 0] = cells[:, 0]
    for i in range(1, rows):
        above[:, i] = cells[:, i] + wire * above[:, i - 1] / (wire + above[:, i - 1])
    below = np.empty_like(cells)  # of all below it
    below[:, -1] = wire
    for i in reversed(range(rows - 1)):
        both = below[:, i + 1] + cells[:, i + 1]
        below[:, i] = wire * both / (wire + both)
    own = 1 / (above + below)
    # A voltage falls, on its way up, by wire / (wire + above) at each node.
    fall = np.cumsum(np.log1p(above / wire), axis=1)
    fall = np.concatenate([np.zeros((len(cells), 1)), fall[:, :-1]], axis=1)
    lower = np.maximum.outer(np.arange(rows), np.arange(rows))
    for i in range(len(cells)):
        yield np.exp(-np.abs(fall[i][:, None] - fall[i])) * own[i][lower]
