"""Some rows of each tensor, which stand for all of them, and what their errors count."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ... import _arguments
from ..._types import F64
from ..arrays import Source, check_weights, prepare
from ..frequencies import of_inputs
from ..modes.mode import Matrix, matrix_of
from ..modes.model import CodedTensor

WEIGHTS = 1 << 17
"""Weights of a sample, about: rows are taken evenly until there are so many."""


@dataclass(frozen=True, eq=False)
class Sample:
    """A tensor and some of its rows.

    Attributes
    ----------
    source : Source
        The whole tensor.
    part : Source
        The rows of the sample, as a tensor of their own.
    matrix : Matrix
        The same rows, with the second moments of the layer's inputs.
    even : Matrix
        As many rows, evenly spaced by how much of them is kept: what the tensor takes behind a code
        is seen from these, for rows that count much are pruned less.
    factor : float
        How many rows there are for each of the sample.
    share : ndarray of float64, shape (rows of the sample,)
        For how many rows of the tensor each stands.
    stored : int
        Weights that are not pruned, of the whole tensor.
    rms : float
        Root mean square of these.
    rows : ndarray of float64, shape (rows of the sample,)
        What an output error of each row counts; all the same without sensitivities.
    total : float
        The sum of that over the rows of the whole tensor.
    """

    source: Source
    part: Source
    matrix: Matrix
    even: Matrix
    factor: float
    share: F64
    stored: int
    rms: float
    rows: F64
    total: float

    def outputs(self, values: F64) -> F64:
        """Mean square output of each row for the layer's inputs: v H v^T, or v v^T without H."""
        moments = self.matrix.moments
        through = values if moments is None else values @ moments
        return np.asarray((through * values).sum(axis=1))

    def error(self, read: F64) -> float:
        """Mean square error of the outputs, as a share of their mean square."""
        used = self.matrix.frequencies
        share = self.share if used is None else self.share * used
        power = share @ self.outputs(self.matrix.weights)
        wrong = share @ self.outputs(read - self.matrix.weights)
        return float(wrong / power) if power > 0 else 0.0

    def loss(self, read: F64) -> float:
        """What the errors of the whole tensor count, 1/2 sum over rows of g_r d_r H d_r^T.

        The mean over the sample, in which rows weigh as in that sum, is taken for all rows.
        """
        weights = self.share * self.rows
        if not weights.sum() > 0:
            return 0.0
        each = self.outputs(read - self.matrix.weights)
        return 0.5 * self.total * float(weights @ each / weights.sum())


def samples_of(
    weights: Mapping[str, ArrayLike],
    mask: Mapping[str, ArrayLike] | str | None,
    sensitivity: Mapping[str, ArrayLike] | None,
    moments: Mapping[str, ArrayLike] | None,
) -> list[Sample]:
    """The samples of a model's tensors; arguments and errors are those of :func:`plan`."""
    check_weights(weights)
    masks = dict.fromkeys(weights, mask) if isinstance(mask, str) else mask or {}
    for key, given in (("mask", masks), ("sensitivity", sensitivity), ("moments", moments)):
        _arguments.names(key, given or (), weights, "names of weights")
    if sensitivity is not None and (missing := sorted(set(weights) - set(sensitivity))):
        raise _arguments.wrong_value("sensitivity", "one for every tensor", f"none for {missing}")
    found = []
    for name, array in weights.items():
        source = prepare(name, array, masks.get(name), (sensitivity or {}).get(name))
        found.append(_sample(source, (moments or {}).get(name)))
    return found


def _sample(source: Source, moments: ArrayLike | None) -> Sample:
    table = CodedTensor(source.name, source.shape, source.weights.size).table
    kept = None
    if source.mask is not None:
        bits = np.unpackbits(source.mask, count=source.weights.size, bitorder="little")
        kept = bits.astype(bool).reshape(table)
    given, used = of_inputs(source.name, moments, table)
    weigh = _row_weights(source.sensitivity, table, kept, given, used)
    chosen, share = _rows(weigh, table[1])

    def rows(numbers: NDArray[np.intp]) -> Matrix:
        matrix = _pruned(matrix_of(_part(source, table, kept, numbers), given))
        return matrix if used is None else matrix._replace(frequencies=used[numbers])

    matrix = even = rows(chosen)
    evenly = _evenly(table[0], len(chosen))
    # By how much of them is kept, or how often they are used: that decides what rows take.
    by = used if kept is None else kept.sum(axis=1)
    if by is not None:
        evenly = np.sort(np.argsort(by, kind="stable")[evenly])
    if not np.array_equal(chosen, evenly):
        even = rows(evenly)
    stored, square = 0, 0.0
    for values, _ in source.stored():
        stored += len(values)
        square += float(np.square(values, dtype=np.float64).sum())
    return Sample(
        source,
        _part(source, table, kept, chosen),
        matrix,
        even,
        table[0] / max(1, len(chosen)),
        share,
        stored,
        float(np.sqrt(square / max(1, stored))),
        weigh[chosen],
        float(weigh.sum()),
    )


def _rows(weights: F64, columns: int) -> tuple[NDArray[np.intp], F64]:
    """Numbers of the rows of the sample, ascending, and for how many rows each stands.

    A row that counts more than the sum of all by the rows of the sample is in it for certain, up
    to half of the sample; the others are evenly spaced (a take-all stratum, C.-E. Sarndal, B.
    Swensson and J. Wretman, "Model assisted survey sampling", 1992). Of a table of tokens few rows
    are most of the loss.
    """
    count = min(len(weights), max(1, -(-WEIGHTS // max(1, columns))))
    order = np.argsort(-weights, kind="stable")[: count // 2]
    certain = order[weights[order] * count > weights.sum()]
    others = np.setdiff1d(np.arange(len(weights)), certain)
    free = count - len(certain)
    spaced = others[_evenly(len(others), free)]
    chosen = np.concatenate([certain, spaced])
    share = np.repeat([1.0, len(others) / max(1, free)], [len(certain), free])
    ascending = np.argsort(chosen)
    return chosen[ascending], share[ascending]


def _evenly(rows: int, count: int) -> NDArray[np.intp]:
    """Numbers of ``count`` of the rows: the middle one of each of so many parts."""
    return (2 * np.arange(count) + 1) * rows // max(1, 2 * count)


def _pruned(matrix: Matrix) -> Matrix:
    """With zeros for the weights that are not stored."""
    return matrix if matrix.mask is None else matrix._replace(weights=matrix.weights * matrix.mask)


def _part(
    source: Source,
    table: tuple[int, int],
    kept: NDArray[np.bool_] | None,
    chosen: NDArray[np.intp],
) -> Source:
    """Rows of a tensor as a tensor of their own."""
    vector = len(source.shape) < 2
    sensitivity = source.sensitivity
    if isinstance(sensitivity, np.ndarray):
        sensitivity = np.ascontiguousarray(sensitivity.reshape(table)[chosen]).reshape(-1)
    return Source(
        source.name,
        source.shape if vector else (len(chosen), *source.shape[1:]),
        np.ascontiguousarray(source.weights.reshape(table)[chosen]).reshape(-1),
        None if kept is None else np.packbits(kept[chosen].reshape(-1), bitorder="little"),
        sensitivity,
        source.dtype,
    )


def _row_weights(
    sensitivity: float | NDArray[np.floating] | None,
    shape: tuple[int, ...],
    kept: NDArray[np.bool_] | None,
    moments: F64 | None,
    used: F64 | None,
) -> F64:
    """What an output error of each row counts: its sensitivities as multiples of the moments.

    A Fisher information f_rj = g_r H_jj is that of independent output errors and inputs (Martens &
    Grosse, "Optimizing neural networks with Kronecker-factored approximate curvature", 2015). Where
    it is known how often rows are used, in proportion to that: of few examples' sensitivities most
    rows of an embedding have none.
    """
    if used is not None:
        mean = 1.0 if sensitivity is None else float(np.mean(sensitivity))
        return used * mean if kept is None else used * mean * kept.any(axis=1)
    power = np.ones(shape[1]) if moments is None else np.diag(moments).copy()
    if sensitivity is None or isinstance(sensitivity, float):
        each = np.ones(shape[0]) if kept is None else kept.any(axis=1).astype(np.float64)
        value = 1.0 if sensitivity is None else sensitivity
        return np.asarray(each * value / max(float(power.mean()), 1e-30))
    table = sensitivity.reshape(shape)
    if kept is None:
        return np.asarray(table.sum(axis=1, dtype=np.float64) / max(float(power.sum()), 1e-30))
    of_kept = kept @ power
    return np.asarray((table * kept).sum(axis=1, dtype=np.float64) / np.maximum(of_kept, 1e-30))
