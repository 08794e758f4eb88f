"""Energy of a model's products, layer by layer: :func:`energy`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ...crossbar import report
from ..checks import check_module
from .calibration import watch
from .layers import CrossbarLayer
from .selection import required

__all__ = ["energy"]


def energy(model: nn.Module, batches: Any, picojoules: Mapping[str, float]) -> list[dict[str, Any]]:
    """What the products of all crossbar layers do for some data, and the energy that it takes.

    What one conversion or one read takes depends on circuits that are not simulated: it comes
    from whoever knows. What stays digital is not counted.

    Parameters
    ----------
    model : torch.nn.Module
        Converted, programmed or not.
    batches
        As for :func:`calibrate`.
    picojoules : mapping of str to float
        pJ for one of each of the counters that take energy, such as ``dac_conversions``,
        ``adc_conversions`` and ``cell_reads`` (see :func:`noisycells.crossbar.report.counters`).

    Returns
    -------
    list of dict
        For each layer ``name``, ``vectors`` (input vectors, of a convolution patches), the
        counters of :meth:`noisycells.Crossbar.counters` for all data, ``picojoules`` (item by item
        and ``total``), and ``share`` of the total of all layers, in [0, 1]. A layer that the data
        do not reach has zeros.

    Raises
    ------
    TypeError, ValueError
        If the model has no crossbar layers, or an argument is not as said above.
    """
    check_module(model)
    layers = required(model)
    seen = {layer: _Vectors() for layer in layers.values()}
    watch(model, batches, seen)
    rows = [_row(name, layer, seen[layer].count, picojoules) for name, layer in layers.items()]
    total = sum(row["picojoules"]["total"] for row in rows)
    for row in rows:
        row["share"] = row["picojoules"]["total"] / total if total else 0.0
    return rows


class _Vectors:
    """Input vectors of a layer."""

    count = 0

    def add(self, rows: Tensor) -> None:
        """``rows``: (groups, vectors, in)."""
        self.count += rows.shape[1]


def _row(
    name: str, layer: CrossbarLayer, vectors: int, picojoules: Mapping[str, float]
) -> dict[str, Any]:
    matrix = layer.matrix()
    shape = (len(matrix) // layer.arrays, matrix[0].numel())
    counts = report.counters(shape, layer.spec, vectors)
    counts = {key: layer.arrays * value for key, value in counts.items()}
    taken = report.energy(counts, picojoules)
    return {"name": name, "vectors": vectors, **counts, "picojoules": taken}
