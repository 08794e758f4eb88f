"""Models whose bits are in cells behind an error-correcting code."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ... import _arguments, random
from ..._types import U8
from ...channel import Channel
from ...io import DecodeError
from .. import blocks
from ..blocks import Layout
from ..constellation import Constellation
from ..cost import Cost
from ..model import ModelInCells, TensorInCells, without_side_cells
from ..selection import is_bias
from .sections import split

if TYPE_CHECKING:
    from .mode import Mode


CODED_STREAM, PLAIN_STREAM = "coded cells", "plain cells"


@dataclass(frozen=True)
class CodedTensor(TensorInCells):
    """What is known of a tensor without reading cells.

    Attributes
    ----------
    name : str
    shape : tuple of int
    stored : int
        Weights that are not pruned.
    dtype : str
        Dtype that the weights came in, as safetensors calls it.
    """

    stored: int

    @property
    def table(self) -> tuple[int, int]:
        """Rows and columns as a matrix: one row for each output."""
        if len(self.shape) < 2:
            return 1, self.size
        return self.shape[0], math.prod(self.shape[1:])

    @property
    def group(self) -> int:
        """Columns that belong together: the taps of a filter in one channel."""
        return max(1, math.prod(self.shape[2:]))


@dataclass(frozen=True, eq=False, repr=False)
class CodedModel(ModelInCells[CodedTensor]):
    """A model in cells as :class:`Coded` and :class:`Levels` store it; a mapping of its tensors.

    Attributes, besides those of :class:`noisycells.storage.ModelInCells`
    ----------
    codec : Mode
        How it is stored.
    layout : Layout
        Of the content behind the error-correcting code.
    cells : ndarray of uint8, 1-D
        The level each cell of that is written to, of ``codec.constellation``.
    plain : ndarray of uint8, 1-D
        Levels of the cells without a code; only :class:`Levels` has some.
    """

    _: KW_ONLY
    codec: Mode
    layout: Layout
    cells: U8
    plain: U8

    @property
    def channels(self) -> set[Channel]:
        """What the cells are."""
        return {self.codec.channel}

    @property
    def carried(self) -> float:
        """Bits a cell behind the error-correcting code."""
        return 8 * self.layout.size / max(1, len(self.cells))

    def _costs(self) -> list[Cost]:
        """All cells are data cells, mask and scales in them."""
        cells = Cost(
            stored_weights=sum(tensor.stored for tensor in self.values()),
            original_weights=sum(tensor.size for tensor in self.values()),
            data_cells=len(self.cells) + len(self.plain),
            side_cells=0,
            index_bits=blocks.HEADER_BITS,
            index_code="layout",
            includes_biases=any(is_bias(name) for name in self),
        )
        return [cells]

    def read(
        self,
        seed: int,
        chip: int = 0,
        *,
        side_errors: bool = False,
        num_threads: int | None = None,
    ) -> dict[str, NDArray[np.float32]]:
        """Read every cell, with noise, and decode.

        Parameters
        ----------
        seed, chip : int in [0, 2**64)
            Seed of this read and number of the chip, as for :meth:`noisycells.StoredTensor.read`.
        side_errors : bool
            False: there are no side cells that could be misread.
        num_threads : int, optional
            Threads; None for the package's setting.

        Returns
        -------
        dict of str to ndarray of float32
            The tensors in cells, under all their names; ``digital`` holds the others.

        Raises
        ------
        TypeError, ValueError
            If an argument is not as above.
        DecodeError
            If a block cannot be decoded: where the channel has a ``read_std``, in the mean of
            ``codec.reads`` reads. Its weights are never returned.
        """
        seed, chip = _arguments.seed("seed", seed), _arguments.seed("chip", chip)
        without_side_cells(side_errors)
        channel, constellation = self.codec.channel, self.codec.constellation
        # The decoder assumes the noise that the code is made for: less does not harm it.
        margin = self.codec.noise_margin

        def look(reads: int) -> tuple[NDArray[np.float32], Constellation]:
            total = np.zeros(len(self.cells), np.float32)
            for k in range(reads):
                total += channel.sample(
                    constellation.inputs[self.cells],
                    random.key(seed, "read again", k) if k else seed,
                    chip=chip,
                    stream=random.stream(*self, CODED_STREAM),
                    num_threads=num_threads,
                )
            return total / np.float32(reads), self.codec.seen(constellation, reads, margin)

        # Without read_std nothing says what another read of the same chip would change.
        reads = 1 if channel.read_std is None else self.codec.reads
        name = f"model of {len(self)} tensors in {channel.name!r}"
        content = blocks.read(self.layout, look, reads, name, num_threads=num_threads)
        outputs = channel.sample(
            self.codec.plain_inputs[self.plain],
            seed,
            chip=chip,
            stream=random.stream(*self, PLAIN_STREAM),
            num_threads=num_threads,
        )
        if len(self.plain):
            # Once they are decoded, the cells behind the code show how outputs have moved.
            seen, expected = look(1)
            outputs = expected.restored(outputs, seen, self.cells)
        read = self.decoded(content, outputs)
        return self._under_all_names(read)

    def decoded(
        self, content: bytes, outputs: NDArray[np.float32]
    ) -> dict[str, NDArray[np.float32]]:
        """The tensors of a content behind the code, and of outputs of the plain cells.

        Raises DecodeError where a content is not that of these tensors.
        """
        sections = split(content)
        read, start = {}, 0
        for key, tensor in self.items():
            count = tensor.stored * self.codec.plain_cells(tensor)
            part = outputs[start : start + count]
            try:
                with np.errstate(all="ignore"):  # refused below
                    read[key] = self.codec.decode_tensor(tensor, sections, part)
            except ValueError as error:
                raise DecodeError(f"tensor {key!r}: {error}") from None
            if not np.isfinite(read[key]).all():
                raise DecodeError(
                    f"tensor {key!r}: {_arguments.expectation('finite weights', 'others')}"
                )
            start += count
        if next(sections, None) is not None:
            raise DecodeError(f"sections: {_arguments.expectation('those of the tensors', 'more')}")
        return read
