"""Quantized weights, entropy-coded, behind an error-correcting code."""

from __future__ import annotations

import math
import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ... import _arguments
from ..._types import LARGEST, SMALLEST, U8
from ...devices import CellLike
from .. import entropy, feedback, frequencies
from .mode import Matrix, Mode
from .model import CodedTensor
from .sections import take

_STEP = struct.Struct("<f")
LEAST_STEP, MOST_STEP = 1e-6, 1e3
"""Limits of a step, in root mean squares: all weights are then 0, or beyond what is coded."""


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
    step : float or mapping of str to float
        Distance of neighboring values, in units of the root mean square of each tensor's weights;
        with sensitivities, of the model's, more where errors count less. A mapping has the
        distance itself for each tensor by its name, such as ``RateRecord.steps`` of
        :func:`noisycells.torch.rate_train`, whose weights are then stored as they are.
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
        step: float | Mapping[str, float] = 0.25,
        levels: int | str = "auto",
        noise_margin: float = 1.1,
        failure: float = 1e-3,
        reads: int = 8,
    ) -> None:
        super().__init__(channel, learnt, levels, noise_margin, failure, reads)
        self.step = (
            {
                name: _arguments.number(f"step {name!r}", given, SMALLEST, LARGEST)
                for name, given in step.items()
            }
            if isinstance(step, Mapping)
            else _arguments.number("step", step, LEAST_STEP, MOST_STEP)
        )

    @property
    def by_name(self) -> Mapping[str, Collection[str]]:
        """The steps, where they are given by name."""
        return {"step": self.step} if isinstance(self.step, dict) else {}

    @property
    def plain_inputs(self) -> NDArray[np.float32]:
        """No cell is without a code."""
        return np.zeros(1, np.float32)

    def plain_digits(self, tensor: CodedTensor) -> Sequence[range]:
        """None."""
        return ()

    def encode_tensor(self, matrix: Matrix, scale: float) -> tuple[list[bytes], U8]:
        """Multiples of the step."""
        if not isinstance(self.step, dict):
            return pack_multiples(matrix, self.step * scale), np.empty(0, np.uint8)
        name = matrix.entry.name
        if name not in self.step:
            raise _arguments.wrong_value("step", f"one for {name!r}", f"{len(self.step)} others")
        return pack_multiples(matrix, self.step[name]), np.empty(0, np.uint8)

    def decode_tensor(
        self, tensor: CodedTensor, sections: Iterator[bytes], outputs: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Multiples of the step again."""
        return unpack_multiples(tensor, sections)

    def options(self) -> dict[str, Any]:
        """The arguments besides the channels, as JSON knows them."""
        return {"step": self.step, **self.code_options()}


def pack_multiples(matrix: Matrix, step: float) -> list[bytes]:
    """The step as float32, and where it is not 0 the code of the multiples of it.

    Where rows have steps of their own the step is negative, and the code of these, in half octaves,
    is before that of the multiples.
    """
    step = float(np.float32(step))
    if step == 0:
        return [_STEP.pack(step)]
    if matrix.frequencies is None:
        head = [_STEP.pack(step)]
        rounding = feedback.uniform(step)
        rounded = feedback.round_matrix(matrix.weights, rounding, matrix.moments, matrix.mask)
        values = np.rint(rounded / step)
    else:
        halves = frequencies.half_octaves(matrix.frequencies)
        head = [_STEP.pack(-step), entropy.encode(halves[:, None])]
        values = np.rint(matrix.weights / frequencies.row_steps(step, halves))
        if matrix.mask is not None:
            values *= matrix.mask
    if np.abs(values).max(initial=0) > entropy.LARGEST:
        raise _arguments.wrong_value(
            "step", f"one that weights are at most {entropy.LARGEST} times", step
        )
    return [*head, entropy.encode(values.astype(np.int32), matrix.entry.group)]


def unpack_multiples(tensor: CodedTensor, sections: Iterator[bytes]) -> NDArray[np.float32]:
    """The tensor of :func:`pack_multiples`."""
    (step,) = _STEP.unpack(take(sections, _STEP.size))
    if not math.isfinite(step):
        raise _arguments.wrong_value("step", "a finite number", step)
    if step == 0:
        return np.zeros(tensor.shape, np.float32)
    steps: NDArray[np.float64] = np.full((1, 1), step)
    if step < 0:
        halves = entropy.decode(take(sections), (tensor.table[0], 1))[:, 0]
        if np.abs(halves).max(initial=0) > frequencies.MOST_HALVES:
            right = f"at most {frequencies.MOST_HALVES} half octaves for each row"
            raise _arguments.wrong_value("step", right, f"{np.abs(halves).max()}")
        steps = frequencies.row_steps(-step, halves)
    values = entropy.decode(take(sections), tensor.table, tensor.group)
    result: NDArray[np.float32] = (values * steps).astype(np.float32).reshape(tensor.shape)
    return result
