"""Quantized weights, entropy-coded, behind an error-correcting code."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ... import _arguments
from ..._types import U8
from ...devices import CellLike
from .. import entropy, feedback
from .mode import Matrix, Mode
from .model import CodedTensor
from .sections import take

_STEP = struct.Struct("<f")


class Coded(Mode):
    """Storage near the capacity of the cells: what is read is what was quantized, or an error.

    Weights are rounded to multiples of a step, errors fed back with the second moments of the
    layer's inputs where these are given (:mod:`noisycells.storage.feedback`), entropy-coded with
    the zeros of pruned weights among them (:mod:`noisycells.storage.entropy`), and written at a
    few levels a cell behind a low-density parity-check code, whose rate follows from the channel
    (:mod:`noisycells.storage.blocks`). Steps, biases if stored and checksums are in cells too.

    Parameters
    ----------
    channel : Channel, Device, str or path-like
        The true channel: cells are written and read through it. A device or a name stands for
        its cell, as for :class:`noisycells.Codec`.
    learnt : Channel, Device, str or path-like, optional
        The channel as it was learnt, which levels, rate and decoder are made for. The true one if
        not given.
    step : float
        Distance of neighboring values, in units of the root mean square of each tensor's weights;
        with sensitivities, of the model's, more where errors count less.
    levels : {"auto", 2, 4, 8}
        Levels of a cell; "auto" takes what carries most bits.
    noise_margin : float
        The code is made for so many times the learnt noise.
    failure : float
        Probability at that noise that a read fails, about.
    reads : int
        Reads of a chip whose mean is taken, at most, before a block is given up; more than one
        where the channel has a ``read_std``.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not as described; the message names it.

    Examples
    --------
    >>> import numpy as np
    >>> import noisycells as nc
    >>> weights = {"w": np.random.default_rng(0).normal(size=(100, 100)).astype(np.float32)}
    >>> stored = nc.storage.Coded(nc.devices.synthetic_pcm(), step=0.5).encode(weights)
    >>> read = stored.read(seed=1)
    >>> bool(np.abs(read["w"] - weights["w"]).max() <= 0.26)
    True
    """

    NAME = "coded"

    def __init__(
        self,
        channel: CellLike,
        learnt: CellLike | None = None,
        *,
        step: float = 0.25,
        levels: int | str = "auto",
        noise_margin: float = 1.1,
        failure: float = 1e-3,
        reads: int = 8,
    ) -> None:
        super().__init__(channel, learnt, levels, noise_margin, failure, reads)
        self.step = _arguments.number("step", step, above=0)

    @property
    def plain_inputs(self) -> NDArray[np.float32]:
        """No cell is without a code."""
        return np.zeros(1, np.float32)

    @property
    def plain_digits(self) -> Sequence[range]:
        """None."""
        return ()

    def plain_cells(self, tensor: CodedTensor) -> int:
        """None."""
        return 0

    def encode_tensor(self, matrix: Matrix, scale: float) -> tuple[list[bytes], U8]:
        """Multiples of the step."""
        return pack_multiples(matrix, self.step * scale), np.empty(0, np.uint8)

    def decode_tensor(
        self, tensor: CodedTensor, sections: Iterator[bytes], outputs: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Multiples of the step again."""
        return unpack_multiples(tensor, sections)

    def options(self) -> dict[str, Any]:
        """The arguments besides the channels, as JSON knows them."""
        return {"step": self.step, **self.code_options()}


def pack_multiples(matrix: Matrix, step: float) -> list[bytes]:
    """The step as float32, and where it is not 0 the code of the multiples of it."""
    step = float(np.float32(step))
    if step == 0:
        return [_STEP.pack(step)]
    rounding = feedback.uniform(step)
    rounded = feedback.round_matrix(matrix.weights, rounding, matrix.moments, matrix.mask)
    values = np.rint(rounded / step)
    if np.abs(values).max(initial=0) > entropy.LARGEST:
        raise _arguments.wrong_value(
            "step", f"one that weights are at most {entropy.LARGEST} times", step
        )
    return [_STEP.pack(step), entropy.encode(values.astype(np.int32), matrix.entry.group)]


def unpack_multiples(tensor: CodedTensor, sections: Iterator[bytes]) -> NDArray[np.float32]:
    """The tensor of :func:`pack_multiples`."""
    (step,) = _STEP.unpack(take(sections, _STEP.size))
    if not 0 <= step < math.inf:
        raise _arguments.wrong_value("step", "a finite number >= 0", step)
    if step == 0:
        return np.zeros(tensor.shape, np.float32)
    values = entropy.decode(take(sections), tensor.table, tensor.group)
    result: NDArray[np.float32] = (
        (values.astype(np.float64) * step).astype(np.float32).reshape(tensor.shape)
    )
    return result
