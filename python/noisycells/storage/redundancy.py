"""How many cells hold a weight of each range."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._types import MAX_CELLS


class Redundancy(NamedTuple):
    """Cells for each small and each large weight.

    The average r_avg = (small N_small + large N_large) / (N_small + N_large) counts them
    (Isik et al. 2020, section 2, "Adaptive Redundancy").
    """

    small: int = 1
    large: int = 1


def allocate(
    noise: NDArray[np.float64], counts: NDArray[np.int64], mean_cells: float
) -> tuple[int, ...]:
    """Cells of each range that minimize sum noise / cells, at ``mean_cells`` or fewer on average.

    Every pair of ranges is solved exactly, by going through all splits of what the other ranges
    leave of the budget, until nothing changes: exact for two ranges.

    Parameters
    ----------
    noise : ndarray of float64, shape (ranges,)
        Summed noise variance of each range at one cell a weight.
    counts : ndarray of int64, shape (ranges,)
        Weights in each range.
    mean_cells : float
        Largest average number of cells a weight, at least 1.
    """
    cells = [1] * len(counts)
    used = [k for k, count in enumerate(counts) if count]
    budget = int(np.floor(mean_cells * float(counts.sum()) * (1 + 1e-12)))
    if len(used) == 1 and noise[used[0]] > 0:
        cells[used[0]] = min(MAX_CELLS, budget // int(counts[used[0]]))
    pairs = [(i, j) for i in used for j in used if i < j]
    for _ in range(100):
        before = list(cells)
        for i, j in pairs:
            others = sum(int(counts[k]) * cells[k] for k in used if k not in (i, j))
            rest = budget - others
            most = min(MAX_CELLS, (rest - int(counts[j])) // int(counts[i]))
            first = np.arange(1, most + 1) if noise[i] > 0 else np.ones(1, np.int64)
            second = np.minimum(MAX_CELLS, (rest - int(counts[i]) * first) // int(counts[j]))
            if not noise[j] > 0:
                second = np.ones_like(first)
            best = int(np.argmin(noise[i] / first + noise[j] / second))
            cells[i], cells[j] = int(first[best]), int(second[best])
        if cells == before:
            break
    return tuple(cells)
