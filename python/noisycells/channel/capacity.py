"""Capacity of a memory cell, in bits, by the Blahut-Arimoto algorithm.

Blahut, "Computation of channel capacity and rate-distortion functions", and Arimoto, "An algorithm
for computing the capacity of arbitrary discrete memoryless channels", both IEEE Trans. Inf. Theory
18 (1972).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from .. import _arguments
from .._types import F64, Converter

if TYPE_CHECKING:
    from .channel import Channel

__all__ = ["Capacity", "blahut_arimoto", "channel_capacity", "gaussian_transition", "input_grid"]

TOLERANCE = 1e-3  # bits between the two bounds at which the iteration stops
MAX_INPUTS = 1024  # input levels of a free capacity; two sd apart they still lose < 1e-4 bits
MAX_ENTRIES = 1 << 24  # of a transition matrix: 128 MiB of float64


class Capacity(NamedTuple):
    """Result of :func:`blahut_arimoto`.

    ``bits`` is what ``probabilities`` (float64, one per input) achieve, a lower bound of the
    capacity; ``upper`` is an upper bound of it.
    """

    bits: float
    upper: float
    probabilities: F64
    iterations: int


def blahut_arimoto(
    transition: npt.ArrayLike, tolerance: float = TOLERANCE, max_iterations: int = 100_000
) -> Capacity:
    """Capacity of a discrete memoryless channel.

    With ``D_i`` the divergence of row i from the output distribution, ``sum_i p_i D_i`` is the
    mutual information of the current input distribution and ``max_i D_i`` bounds the capacity
    from above (Blahut 1972, theorem 1); the iteration stops when the two are ``tolerance`` apart.

    Parameters
    ----------
    transition : array_like, shape (inputs, outputs)
        Probability of each output given each input; rows sum to 1.
    tolerance : float
        Largest allowed distance of the two bounds, in bits.
    max_iterations : int
        Iterations after which to give up.

    Raises
    ------
    ValueError
        If the rows are no probability distributions or ``tolerance`` is not positive.
    RuntimeError
        If the bounds are further apart after ``max_iterations``.
    """
    w = np.asarray(_arguments.real("transition", transition), np.float64)
    if w.ndim != 2 or w.size == 0:
        raise _arguments.wrong_value("transition", "a non-empty matrix", f"shape {w.shape}")
    if not (w >= 0).all() or not np.allclose(w.sum(axis=1), 1, rtol=0, atol=1e-9):
        raise _arguments.wrong_value("transition", "probabilities", "rows that do not sum to 1")
    tolerance = _arguments.number("tolerance", tolerance, above=0)
    tiny = np.finfo(np.float64).tiny
    minus_entropy = np.sum(w * np.log2(np.maximum(w, tiny)), axis=1)
    p = np.full(len(w), 1 / len(w))
    for iteration in range(1, max_iterations + 1):
        divergence = minus_entropy - w @ np.log2(np.maximum(p @ w, tiny))
        lower, upper = float(p @ divergence), float(divergence.max())
        if upper - lower <= tolerance:
            return Capacity(max(lower, 0.0), max(upper, 0.0), p, iteration)
        p = p * np.exp2(divergence - upper)
        p /= p.sum()
    raise RuntimeError(
        f"Blahut-Arimoto: bounds {lower:.6g} and {upper:.6g} bits still more than {tolerance:g} "
        f"apart after {max_iterations} iterations"
    )


def input_grid(x: F64, mean: F64, std: F64) -> F64:
    """Inputs fine enough to stand for all of ``[x[0], x[-1]]``.

    They are spaced a quarter apart in the Fisher-Rao length of the outputs,
    ``ds^2 = (dmean^2 + 2 dstd^2) / std^2``, in which one unit is about one standard deviation
    (Rao 1945), but never more than ``MAX_INPUTS``.

    Parameters
    ----------
    x, mean, std : float64, shape (n,)
        A finely sampled curve of outputs; ``std`` positive.
    """
    middle = (std[1:] + std[:-1]) / 2
    length = np.cumsum(np.hypot(np.diff(mean), np.sqrt(2) * np.diff(std)) / middle)
    length = np.concatenate([[0.0], length])
    count = int(np.clip(4 * length[-1], 33, MAX_INPUTS))
    return np.interp(np.linspace(0, length[-1], count), length, x)


def gaussian_transition(mean: F64, std: F64, converter: Converter | None = None) -> F64:
    """Transition matrix of ``y | i ~ N(mean[i], std[i]^2)``.

    Without ``converter`` the outputs are densities on a uniform grid of half the smallest ``std``:
    the trapezoidal rule, whose error for Gaussians at that step is far below 1e-9. With it they
    are its codes, each integrated over by the midpoint rule in steps of a quarter ``std`` or less;
    the end codes take what lies beyond them. A converter whose step is below an eighth of the
    smallest ``std`` costs less than 1e-3 bits and is left out. A ``std`` below 1/32 of the
    smallest distance of two means, or of the converter's step, is raised to that: it tells the
    levels apart all the same.

    Returns
    -------
    float64, shape (len(mean), outputs)

    Raises
    ------
    ValueError
        If the noise is so small beside the span of the means that the matrix would not fit.
    """
    if converter is not None and converter.step < std.min() / 8:
        converter = None
    gaps = np.diff(np.unique(mean))
    given = std.min()
    std = np.maximum(std, (gaps.min(initial=1.0) if converter is None else converter.step) / 32)
    lo, hi = float((mean - 8 * std).min()), float((mean + 8 * std).max())
    finest = float(std.min())
    below = above = 0
    if converter is None:
        step = finest / 2
        start = lo
        columns = int(np.ceil((hi - lo) / step)) + 1
    else:
        parts = int(np.ceil(4 * converter.step / finest))
        step = converter.step / parts
        below = max(0, int(np.ceil((converter.lo - lo) / converter.step)))
        above = max(0, int(np.ceil((hi - converter.lo) / converter.step)) - converter.levels + 1)
        start = converter.lo - (below + 0.5) * converter.step + 0.5 * step
        columns = (below + converter.levels + above) * parts
    if len(mean) * columns > MAX_ENTRIES:
        raise ValueError(
            f"std: {given:.3g} is too small beside the output span, {hi - lo:.3g}, for a "
            f"capacity over {len(mean)} levels; give fewer levels"
        )
    z = (start + step * np.arange(columns) - mean[:, None]) / std[:, None]
    w = np.exp(-0.5 * z**2)
    if converter is not None:
        codes = w.reshape(len(mean), -1, parts).sum(axis=2)
        w = codes[:, below : below + converter.levels]
        w[:, 0] += codes[:, :below].sum(axis=1)
        w[:, -1] += codes[:, below + converter.levels :].sum(axis=1)
    w /= w.sum(axis=1, keepdims=True)
    return w


def channel_capacity(channel: Channel, levels: npt.ArrayLike | None, tolerance: float) -> float:
    """Bits per cell of a channel as configured; see :meth:`noisycells.Channel.capacity`."""
    inputs = _written(channel, levels)
    if inputs is None:
        return math.inf
    # The two ends of the table, which stuck cells act as, come last.
    at = np.concatenate([inputs, channel.x[[0, -1]]])
    std = np.hypot(channel.std_at(at), channel.d2d_std)
    transition = gaussian_transition(channel.mean_at(at), std, channel._read_converter)
    low, high = channel.stuck
    transition = (1 - low - high) * transition[:-2] + low * transition[-2] + high * transition[-1]
    return blahut_arimoto(transition, tolerance).bits


def _written(channel: Channel, levels: npt.ArrayLike | None) -> F64 | None:
    """Inputs that may be written; None where they are free and noiseless at some."""
    if levels is not None:
        inputs = np.unique(_arguments.array64("levels", levels))
        if channel.write_bits is not None:
            converter = channel.write_converter(channel.write_bits)
            codes = converter.quantize(inputs.astype(np.float32))
            inputs = np.unique(converter.dequantize(codes)).astype(np.float64)
    elif channel._write_levels is not None:
        inputs = channel._write_levels.astype(np.float64)
    else:
        fine = np.union1d(np.linspace(channel.x[0], channel.x[-1], 4097), channel._knots[0])
        std = np.hypot(channel.std_at(fine), channel.d2d_std)
        if channel.read_bits is None and std.min() == 0 and sum(channel.stuck) < 1:
            return None
        grid = input_grid(fine, channel.mean_at(fine), np.maximum(std, 1e-3 * np.ptp(channel.mean)))
        return np.union1d(grid, channel.x if len(channel.x) <= len(grid) else [])
    return inputs
