"""Models in analog cells: what is to be written, and chips that it has been written to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ... import _arguments
from ...channel import Channel
from ..cost import Cost
from ..model import ByName, ModelInCells, TensorInCells, without_side_cells
from .cells import CellArray
from .loop import Feedback, program
from .maps import CellMap
from .rotation import Rotation

if TYPE_CHECKING:
    from .analog import Analog

__all__ = ["AnalogCost", "AnalogModel", "AnalogTensor", "ProgrammedModel", "ProgrammedTensor"]


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
    """A tensor in programmed cells, as :meth:`AnalogTensor.program` returns it.

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


@dataclass(frozen=True, eq=False, repr=False)
class ProgrammedModel(ByName[ProgrammedTensor]):
    """Tensors in programmed cells, by name."""

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


@dataclass(frozen=True, eq=False, repr=False)
class AnalogTensor(TensorInCells):
    """A tensor to be written to analog cells, as :meth:`Analog.encode` returns it.

    Attributes
    ----------
    name : str
        Keys the random draws.
    shape : tuple of int
    codec : Analog
    cell_map : CellMap
    scales : ndarray of float32, shape (rows,)
    values : ndarray of float32, shape (rows, n)
        Weights in units of the map: rotated where the codec says so, each row by its scale.
    feedback : Feedback or None
        Where errors of verified cells go; None where nothing is verified or no moments are known.
    dtype : str
        Dtype that the weights came in, as safetensors calls it.
    """

    codec: Analog
    cell_map: CellMap
    scales: NDArray[np.float32]
    values: NDArray[np.float32]
    feedback: Feedback | None

    @property
    def stored(self) -> int:
        """All of them."""
        return self.size

    @property
    def cost(self) -> Cost:
        """Cells, and the bits of scales and of the decoder's table."""
        bits = 32 * (len(self.scales) + len(self.cell_map.outputs))
        return Cost(self.size, self.size, self.size, 0, parameter_bits=bits)

    def program(self, chip: int) -> ProgrammedTensor:
        """Write it to the cells of a chip."""
        codec = self.codec
        cells = CellArray(codec.channel, self.size, chip, self.name)
        values = self.values.astype(np.float64)
        program(values, cells, self.cell_map, codec.how, self.feedback)
        rotation = Rotation(values.shape[1]) if codec.rotate else None
        return ProgrammedTensor(
            self.shape, cells, self.cell_map, self.scales, rotation, codec.how.reads
        )


@dataclass(frozen=True, eq=False, repr=False)
class AnalogModel(ModelInCells[AnalogTensor]):
    """A model in analog cells; a mapping of its tensors.

    Attributes are those of :class:`noisycells.storage.ModelInCells`. ``cost`` has cells and bits;
    :attr:`ProgrammedModel.cost` has the pulses and reads of a chip.
    """

    _chips: dict[int, ProgrammedModel] = field(default_factory=dict, init=False)

    @property
    def channels(self) -> set[Channel]:
        """What the cells are."""
        return {tensor.codec.channel for tensor in self.values()}

    def _costs(self) -> list[Cost]:
        return [tensor.cost for tensor in self.values()]

    def program(self, chip: int = 0) -> ProgrammedModel:
        """Write all tensors to the cells of a chip, which fixes the errors; the last one is kept.

        Parameters
        ----------
        chip : int
            Number of the chip, in [0, 2**64).
        """
        chip = _arguments.seed("chip", chip)
        if chip not in self._chips:
            self._chips.clear()
            self._chips[chip] = ProgrammedModel({n: t.program(chip) for n, t in self.items()})
        return self._chips[chip]

    def read(
        self, seed: int, chip: int = 0, *, side_errors: bool = False
    ) -> dict[str, NDArray[np.float32]]:
        """Program a chip, unless it is the last one that was, and read every cell back.

        Parameters
        ----------
        seed, chip : int in [0, 2**64)
            Seed of this read and number of the chip, as for :meth:`noisycells.StoredTensor.read`.
        side_errors : bool
            False: there are no side cells that could be misread.

        Returns
        -------
        dict of str to ndarray of float32
            The tensors in cells, under all their names; ``digital`` holds the others.
        """
        without_side_cells(side_errors)
        read = self.program(chip).read(_arguments.seed("seed", seed))
        return self._under_all_names(read)
