"""What a tensor takes in a way of storing it, and what its errors come to, from some of its rows.

The rows are rounded, written and read as all would be: by the codec itself, with noise that is
drawn.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ... import random
from ..._types import F64
from ..analog import Analog
from ..codec import Codec
from ..cost import index_cost
from ..histogram import count_ranges
from ..mapping import choose_ranges
from ..modes.mode import SCALES, Mode
from ..modes.sections import join
from ..side import BITS
from .samples import Sample

__all__ = ["Prediction", "predict"]

SEED = 0x706C616E
"""Of the noise that samples are read with."""


class Prediction(NamedTuple):
    """A tensor in cells.

    Attributes
    ----------
    cells : float
        Without those behind an error-correcting code.
    content : float
        Bytes behind the code.
    error : float
        Mean square error of the outputs, as a share of their mean square.
    loss : float
        What errors count with the tensor's sensitivities (:meth:`Sample.loss`).
    """

    cells: float
    content: float
    error: float
    loss: float


def predict(codec: Codec | Mode | Analog, sample: Sample, feedback: bool = True) -> Prediction:
    """What the tensor of a sample takes and loses; with or without feedback of rounding errors."""
    if not sample.stored:
        return Prediction(0.0, 1.0 if isinstance(codec, Mode) else 0.0, 0.0, 0.0)
    if isinstance(codec, Mode):
        return _with_levels(codec, sample, feedback)
    if isinstance(codec, Codec):
        return _with_ranges(codec, sample)
    return _analog(codec, sample)


def _of(sample: Sample, read: F64, cells: float, content: float = 0.0) -> Prediction:
    read = read.reshape(sample.matrix.weights.shape)
    return Prediction(cells, content, sample.error(read), sample.loss(read))


def _with_levels(codec: Mode, sample: Sample, feedback: bool) -> Prediction:
    matrix = sample.matrix if feedback else sample.matrix._replace(moments=None)
    scale = sample.rms / (SCALES if len(sample.source.shape) < 2 else 1.0)
    sections, plain = codec.encode_tensor(matrix, scale)
    outputs = codec.channel.sample(
        codec.plain_inputs[plain], SEED, stream=random.stream(sample.source.name)
    )
    read = codec.decode_tensor(matrix.entry, iter(sections), outputs)
    cells = sample.stored * codec.plain_cells(matrix.entry)
    return _of(sample, read.astype(np.float64), cells, len(join(sections)) * sample.factor)


def _with_ranges(codec: Codec, sample: Sample) -> Prediction:
    """The ranges are those of the whole tensor, and their weights are counted in it."""
    source = sample.source
    ranges = choose_ranges(codec, [source])
    counts = count_ranges([source], [r.threshold for r in ranges[:-1]])
    cells = sum(int(n) * r.cells for n, r in zip(counts, ranges, strict=True))
    cells += sample.stored * -(-codec.side_bits // BITS)
    if source.mask is not None:
        cells += index_cost(source.weights.size, sample.stored)[0]
    read = codec.encode_source(sample.part, ranges).read(SEED, side_errors=True)
    return _of(sample, read.astype(np.float64), cells)


def _analog(codec: Analog, sample: Sample) -> Prediction:
    matrix, name = sample.matrix, sample.source.name
    moments = None if matrix.moments is None else {name: matrix.moments}
    stored = codec.encode({name: matrix.weights}, moments=moments)
    read = stored.read(SEED, chip=SEED)[name]
    return _of(sample, read.astype(np.float64), sample.source.weights.size)
