"""One analog cell a weight: programmed in a closed loop, or open loop as a special case."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ... import _arguments
from ..._types import F64, MAX_CELLS
from ...channel import Channel
from ...devices import CellLike, cell
from ..arrays import prepare
from ..feedback import checked_moments
from ..histogram import extent
from .cells import CellArray
from .loop import Feedback, Programming, feedback, program
from .maps import CellMap, design, gaussian_source, histogram_source
from .rotation import Rotation

__all__ = ["Analog", "AnalogCost", "ProgrammedModel", "ProgrammedTensor", "bias_weight"]

LARGEST_BIAS_WEIGHT = 60.0  # beyond, maps hardly change


@dataclass(frozen=True)
class AnalogCost:
    """Resources of weights in analog cells.

    Attributes
    ----------
    weights, cells : int
        One cell a weight.
    pulses, verify_reads : int
        Of all cells together, while they were programmed.
    reads : int
        Of each cell at a read-back.
    parameter_bits : int
        Scales of rows and tables of the decoder, in 32 bits each, kept digital.
    """

    weights: int
    cells: int
    pulses: int
    verify_reads: int
    reads: int
    parameter_bits: int

    def __str__(self) -> str:
        per = 1 / max(1, self.cells)
        return (
            f"{self.cells:,} cells for {self.weights:,} weights, {self.pulses * per:.2f} pulses "
            f"and {self.verify_reads * per:.2f} verifying reads a cell, {self.reads} reads at a "
            f"read-back, {self.parameter_bits:,} bits of parameters"
        )


@dataclass(frozen=True, eq=False, repr=False)
class ProgrammedTensor:
    """A tensor in programmed cells, as :meth:`Analog.program` returns it.

    Attributes
    ----------
    shape : tuple of int
    cells : CellArray
    cell_map : CellMap
    scales : ndarray of float32, shape (rows,)
    rotation : Rotation or None
    reads : int
        Reads that the map was made for.
    """

    shape: tuple[int, ...]
    cells: CellArray
    cell_map: CellMap
    scales: NDArray[np.float32]
    rotation: Rotation | None
    reads: int

    @property
    def cost(self) -> AnalogCost:
        """What it took to program, and what a read-back takes."""
        n = self.cells.size
        numbers = len(self.scales) + len(self.cell_map.outputs)
        pulses, verified = int(self.cells.pulses.sum()), int(self.cells.verified.sum())
        return AnalogCost(n, n, pulses, verified, self.reads, 32 * numbers)

    def read(self, seed: int, reads: int | None = None) -> NDArray[np.float32]:
        """Read every cell and decode; the chip is the one that was programmed.

        Parameters
        ----------
        seed : int
            Of the noise of these reads.
        reads : int, optional
            Reads that are averaged; by default as many as the map was made for.
        """
        seen = self.cells.read(seed, self.reads if reads is None else reads)
        values = self.cell_map.decode(seen).reshape(-1, len(self.scales)).T * self.scales[:, None]
        if self.rotation is not None:
            values = self.rotation.undo(values)
        return np.asarray(values, np.float32).reshape(self.shape)


class ProgrammedModel(Mapping[str, ProgrammedTensor]):
    """Tensors in programmed cells, by name."""

    def __init__(self, tensors: Mapping[str, ProgrammedTensor]) -> None:
        self._tensors = dict(tensors)

    def __getitem__(self, name: str) -> ProgrammedTensor:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def read(self, seed: int, reads: int | None = None) -> dict[str, NDArray[np.float32]]:
        """Read all tensors; each has draws of its own."""
        return {name: tensor.read(seed, reads) for name, tensor in self.items()}

    @property
    def cost(self) -> AnalogCost:
        """Of all tensors together."""
        costs = [tensor.cost for tensor in self.values()]
        names = ("weights", "cells", "pulses", "verify_reads", "parameter_bits")
        sums = {name: sum(getattr(cost, name) for cost in costs) for name in names}
        return AnalogCost(reads=max((c.reads for c in costs), default=0), **sums)


class Analog:
    """How weights go into analog cells, one cell each.

    In the closed loop each cell is verified after its pulse, and what it missed is fed to the
    weights of the same row that are not written yet, by the second moments of the layer's inputs.
    The open loop writes each weight once, as it is.

    Parameters
    ----------
    channel : Channel, Device, str or path-like
        With ``read_std``; a device or a name stands for its cell.
    reads : int
        Reads of a cell that are averaged at a read-back.
    pulses : int
        Most pulses of a cell.
    verify_reads : int
        Reads that verify each pulse; 0 is the open loop.
    tolerance : float
        Distance of the verified level from its target, in read standard deviations, within which
        no further pulse is given.
    rotate : bool
        Rotate the inputs of each layer first, so that weights are nearly Gaussian. Layers whose
        weights are rotated are read back in their own coordinates.
    bias : float or None
        Weight of the squared bias against the variance when an open loop's map is made. None
        estimates it by :func:`bias_weight` where there are moments, and else takes 1.
    damping : float
        Share of the mean second moment that is added to each.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as said above.

    Examples
    --------
    >>> import numpy as np, noisycells as nc
    >>> weights = np.random.default_rng(0).standard_normal((8, 64)).astype(np.float32)
    >>> programmed = nc.storage.Analog(nc.devices.synthetic_pcm()).program({"w": weights}, chip=1)
    >>> programmed.read(seed=2)["w"].shape, programmed.cost.cells
    ((8, 64), 512)
    """

    def __init__(
        self,
        channel: CellLike,
        *,
        reads: int = 1,
        pulses: int = 1,
        verify_reads: int = 1,
        tolerance: float = 1.0,
        rotate: bool = True,
        bias: float | None = None,
        damping: float = 0.01,
    ) -> None:
        self.channel = cell(channel, "channel")
        self.how = Programming(
            _arguments.integer("pulses", pulses, 1, MAX_CELLS),
            _arguments.integer("verify_reads", verify_reads, 0, MAX_CELLS),
            _arguments.number("tolerance", tolerance, 0),
            _arguments.integer("reads", reads, 1, MAX_CELLS),
        )
        if self.how.verify_reads == 0 and self.how.pulses > 1:
            raise _arguments.wrong_value("pulses", "1 where nothing is verified", pulses)
        self.rotate = _arguments.flag("rotate", rotate)
        self.bias = None if bias is None else _arguments.number("bias", bias, most=1e6, above=0)
        self.damping = _arguments.number("damping", damping, 0)

    def program(
        self,
        weights: Mapping[str, ArrayLike],
        moments: Mapping[str, ArrayLike] | None = None,
        *,
        chip: int = 0,
    ) -> ProgrammedModel:
        """Program weights into the cells of a chip.

        Parameters
        ----------
        weights : mapping of str to array_like, shape (rows, ...)
            Each row's numbers are the weights of one output.
        moments : mapping of str to array_like, shape (n, n), optional
            Mean products of the n inputs of each layer (:func:`noisycells.torch.input_moments`).
            Errors of tensors without are not fed forward.
        chip : int
            Number of the chip, which fixes its programming errors.

        Raises
        ------
        TypeError, ValueError
            If weights are not finite, or moments are of another shape, of no tensor, not
            symmetric or not finite.
        """
        if not isinstance(weights, Mapping):
            raise _arguments.wrong_type("weights", "a mapping of names to arrays", weights)
        if not weights:
            raise _arguments.wrong_value("weights", "at least one tensor", "none")
        given = _arguments.mapping("moments", moments, "names to arrays")
        _arguments.names("moments", given, weights, "names of weights")
        chip = _arguments.seed("chip", chip)
        return ProgrammedModel(
            {name: self._tensor(name, w, given.get(name), chip) for name, w in weights.items()}
        )

    def _tensor(
        self, name: str, weights: ArrayLike, moments: ArrayLike | None, chip: int
    ) -> ProgrammedTensor:
        array = _arguments.array32(name, weights)
        if array.ndim < 2 or array.size == 0:
            raise _arguments.wrong_value(name, "two dimensions or more, not empty", array.shape)
        extent([prepare(name, array)])  # checks it
        values = array.reshape(len(array), -1).astype(np.float64)
        inputs = None if moments is None else checked_moments(name, moments, values.shape[1])
        rotation = Rotation(values.shape[1]) if self.rotate else None
        if rotation is not None:
            values = rotation.apply(values)
            inputs = None if inputs is None else rotation.of_moments(inputs)
        scales = np.sqrt(np.mean(values**2, 1)).astype(np.float32)
        scales[scales == 0] = 1
        values /= scales[:, None]
        closed = self.how.verify_reads > 0
        to = feedback(inputs, self.damping) if closed and inputs is not None else None
        cell_map = self._map(values, inputs, to)
        cells = CellArray(self.channel, values.size, chip, name)
        program(values, cells, cell_map, self.how, to)
        return ProgrammedTensor(array.shape, cells, cell_map, scales, rotation, self.how.reads)

    def _map(self, values: F64, inputs: F64 | None, to: Feedback | None) -> CellMap:
        """The map for a layer, in its own units."""
        source = None if self.rotate else histogram_source(values)
        if to is not None:
            share = float(f"{to.remaining:.1g}")
            return self._design(source, share, share)
        first = self._design(source, 1.0, self.bias or 1.0)
        if self.bias is not None or inputs is None:
            return first
        return self._design(source, 1.0, bias_weight(first.bias(values), inputs))

    def _design(self, source: tuple[F64, F64] | None, programming: float, bias: float) -> CellMap:
        """A map of a source; those of the Gaussian are the same for many layers."""
        if source is None:
            return _gaussian_map(self.channel, self.how.reads, programming, bias)
        return design(
            self.channel, source, reads=self.how.reads, programming=programming, bias=bias
        )


@lru_cache(maxsize=64)
def _gaussian_map(channel: Channel, reads: int, programming: float, bias: float) -> CellMap:
    return design(channel, gaussian_source(), reads=reads, programming=programming, bias=bias)


def bias_weight(bias: ArrayLike, moments: ArrayLike) -> float:
    """How much more a systematic error of weights costs than an independent one of its size.

    kappa = sum_r b_r H b_r / sum_rj H_jj b_rj^2 for errors b of the rows and second moments H of
    the inputs: 1 where inputs are uncorrelated, or signs of errors are as good as random. It is
    kept in [1, 60], as maps are made for no other.

    Parameters
    ----------
    bias : array_like, shape (rows, n)
        Mean error of each weight.
    moments : array_like, shape (n, n)
    """
    b = np.asarray(_arguments.real("bias", bias), np.float64)
    h = np.asarray(_arguments.real("moments", moments), np.float64)
    alone = float(np.sum(b**2 * np.diag(h)))
    if alone == 0:
        return 1.0
    together = float(np.sum((b @ h) * b))
    return min(max(together / alone, 1.0), LARGEST_BIAS_WEIGHT)
