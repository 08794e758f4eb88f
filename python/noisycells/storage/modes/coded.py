"""Quantized weights, entropy-coded, behind an error-correcting code."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ... import _arguments, _core, random
from ...channel import Channel
from .. import entropy, feedback
from .mode import F64, U8, Matrix, Mode
from .model import CodedTensor

DITHERED = 1
_HEADER = struct.Struct("<fB")


class Coded(Mode):
    """Storage near the capacity of the cells: what is read is what was quantized, or an error.

    Weights are rounded to multiples of a step, errors fed back with the second moments of the
    layer's inputs where these are given (:mod:`noisycells.storage.feedback`), entropy-coded with
    the zeros of pruned weights among them (:mod:`noisycells.storage.entropy`), and written at a
    few levels a cell behind a low-density parity-check code, whose rate follows from the channel
    (:mod:`noisycells.storage.blocks`). Steps, biases if stored and checksums are in cells too.

    Parameters
    ----------
    channel : Channel
        The true channel: cells are written and read through it.
    learnt : Channel, optional
        The channel as it was learnt, which levels, rate and decoder are made for. The true one if
        not given.
    step : float
        Distance of neighboring values, in units of the root mean square of each tensor's weights;
        with sensitivities, of the model's, more where errors count less.
    dither : bool
        Shift the values of each weight by a pseudo-random share of a step, which both sides know
        (L. Roberts, IRE Trans. Inf. Theory 8, 1962): errors of a coarse step no longer depend on
        the weight. Then the mask takes bits of its own.
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
        channel: Channel,
        learnt: Channel | None = None,
        *,
        step: float = 0.25,
        dither: bool = False,
        levels: int | str = "auto",
        noise_margin: float = 1.1,
        failure: float = 1e-3,
        reads: int = 8,
    ) -> None:
        super().__init__(channel, learnt, levels, noise_margin, failure, reads)
        self.step = _arguments.number("step", step, above=0)
        self.dither = _arguments.flag("dither", dither)

    @property
    def plain_inputs(self) -> NDArray[np.float32]:
        """No cell is without a code."""
        return np.zeros(1, np.float32)

    def plain_cells(self, tensor: CodedTensor) -> int:
        """None."""
        return 0

    def encode_tensor(self, matrix: Matrix, scale: float, number: int) -> tuple[list[bytes], U8]:
        """The mask, where it has to be known before; then step and values."""
        step = float(np.float32(self.step * scale))
        shape, group = matrix.entry.table, matrix.entry.group
        shift = _dither(number, shape) if self.dither and step else None
        sections, kept = [_HEADER.pack(step, DITHERED if shift is not None else 0)], matrix.mask
        if step == 0:
            return sections, np.empty(0, np.uint8)

        def rounding(values: F64, at: NDArray[np.intp]) -> F64:
            moved = 0.0 if shift is None else shift.reshape(-1)[at]
            return np.asarray((np.rint(values / step + moved) - moved) * step)

        rounded = feedback.round_matrix(matrix.weights, rounding, matrix.moments, kept)
        values = rounded / step if shift is None else rounded / step + shift
        if kept is not None:
            values = np.where(kept, values, 0)
        if np.abs(values).max(initial=0) > entropy.LARGEST:
            raise _arguments.wrong_value(
                "step", f"one that weights are at most {entropy.LARGEST} times", self.step
            )
        whole = np.rint(values).astype(np.int32)
        if shift is None:
            sections.append(entropy.encode(whole, group))
            return sections, np.empty(0, np.uint8)
        mask = np.ones(shape, bool) if kept is None else kept
        sections.append(entropy.encode(mask.astype(np.int32), group))
        sections.append(entropy.encode(whole, group, mask, _classes(shift)))
        return sections, np.empty(0, np.uint8)

    def decode_tensor(
        self,
        tensor: CodedTensor,
        number: int,
        sections: Iterator[bytes],
        outputs: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        """Multiples of the step."""
        step, flags = _HEADER.unpack(next(sections))
        shape, group = tensor.table, tensor.group
        if step == 0:
            return np.zeros(tensor.shape, np.float32)
        if not flags & DITHERED:
            values = entropy.decode(next(sections), shape, group).astype(np.float64)
            return (values * step).astype(np.float32).reshape(tensor.shape)
        shift = _dither(number, shape)
        kept = entropy.decode(next(sections), shape, group) != 0
        whole = entropy.decode(next(sections), shape, group, kept, _classes(shift))
        read = np.where(kept, (whole - shift) * step, 0.0)
        return read.astype(np.float32).reshape(tensor.shape)

    def options(self) -> dict[str, Any]:
        """The arguments besides the channels, as JSON knows them."""
        return {
            "step": self.step,
            "dither": self.dither,
            "levels": self.levels,
            "noise_margin": self.noise_margin,
            "failure": self.failure,
            "reads": self.reads,
        }


def _dither(number: int, shape: tuple[int, int]) -> F64:
    """Shifts in (-1/2, 1/2) of tensor `number`."""
    words = np.empty(shape[0] * shape[1], np.uint32)
    _core.random_words(words, random.key(number, "dither"), 0, 0)
    return ((words + 0.5) / 2**32 - 0.5).reshape(shape)


def _classes(shift: F64) -> U8:
    return ((shift + 0.5) * 8).astype(np.uint8)
