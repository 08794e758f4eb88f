"""What a tensor takes in a way of storing it, and what its errors come to, from some of its rows.

The rows are rounded, written and read as all would be: by the codec itself, with noise that is
drawn.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ... import random
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

SEEDS = tuple(0x706C616E + number for number in range(4))
"""Of the reads whose losses are averaged: a digit is seldom misread, and then much is lost."""


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


def _of(
    sample: Sample, reads: Iterable[NDArray[np.float32]], cells: float, content: float = 0.0
) -> Prediction:
    shape = sample.matrix.weights.shape
    found = []
    for read in reads:
        values = read.reshape(shape).astype(np.float64)
        found.append((sample.error(values), sample.loss(values)))
    error, loss = np.mean(found, axis=0).tolist()
    return Prediction(cells, content, error, loss)


def _with_levels(codec: Mode, sample: Sample, feedback: bool) -> Prediction:
    matrix, even = (
        rows if feedback else rows._replace(moments=None, frequencies=None)
        for rows in (sample.matrix, sample.even)
    )
    scale = sample.rms / (SCALES if len(sample.source.shape) < 2 else 1.0)
    sections, plain = codec.encode_tensor(matrix, scale)
    inputs, stream = codec.plain_inputs[plain], random.stream(sample.source.name)
    reads = (
        codec.decode_tensor(
            matrix.entry, iter(sections), codec.channel.sample(inputs, seed, stream=stream)
        )
        for seed in (SEEDS if plain.size else SEEDS[:1])
    )
    same = sample.even is sample.matrix
    content = len(join(sections if same else codec.encode_tensor(even, scale)[0]))
    cells = sample.stored * codec.plain_cells(matrix.entry)
    return _of(sample, reads, cells, content * sample.factor)


def _with_ranges(codec: Codec, sample: Sample) -> Prediction:
    """The ranges are those of the whole tensor, and their weights are counted in it."""
    source = sample.source
    ranges = choose_ranges(codec, [source])
    counts = count_ranges([source], [r.threshold for r in ranges[:-1]])
    cells = sum(int(n) * r.cells for n, r in zip(counts, ranges, strict=True))
    cells += sample.stored * -(-codec.side_bits // BITS)
    if source.mask is not None:
        cells += index_cost(source.weights.size, sample.stored)[0]
    stored = codec.encode_source(sample.part, ranges)
    return _of(sample, (stored.read(seed, side_errors=True) for seed in SEEDS), cells)


def _analog(codec: Analog, sample: Sample) -> Prediction:
    matrix, name = sample.matrix, sample.source.name
    moments = None if matrix.moments is None else {name: matrix.moments}
    stored = codec.encode({name: matrix.weights}, moments=moments)
    read = stored.read(SEEDS[0], chip=SEEDS[0])[name]
    return _of(sample, [read], sample.source.weights.size)
