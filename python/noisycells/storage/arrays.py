"""Weights at the border: arrays of any shape, stride and float type become flat buffers."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _arguments, random
from ..io import dtype_of

CHUNK = 1 << 16
"""Elements a numpy pass works on at a time so that it needs a few MB at most. A multiple of
reference.BLOCK."""


@dataclass(frozen=True, eq=False)
class Source:
    """One tensor on its way into cells.

    Attributes
    ----------
    name : str
        Name of the tensor; its random draws are keyed by it.
    shape : tuple of int
        Shape of the array that came in.
    weights : ndarray of float32 or float64, 1-D, C-contiguous
        All weights, pruned ones included.
    mask : ndarray of uint8 or None
        One bit a weight, least significant first: set where the weight is stored.
    sensitivity : float or ndarray of float, 1-D
        Weight of each weight's squared error in the choice of thresholds and redundancy.
    dtype : str
        Dtype that the weights came in, as safetensors calls it.
    """

    name: str
    shape: tuple[int, ...]
    weights: NDArray[Any]
    mask: NDArray[np.uint8] | None = None
    sensitivity: float | NDArray[Any] | None = None
    dtype: str = "F32"

    def stored(self) -> Iterator[tuple[NDArray[np.float32], float | NDArray[Any]]]:
        """Stored weights as float32 and their sensitivities, in chunks."""
        for _, start, kept in positions(self.weights.size, self.mask):
            stop = min(start + CHUNK, self.weights.size)
            weights = self.weights[start:stop]
            weights = np.asarray(weights if kept is None else weights[kept], np.float32)
            if self.sensitivity is None:
                yield weights, 1.0
            elif isinstance(self.sensitivity, float):
                yield weights, self.sensitivity
            else:
                chunk = self.sensitivity[start:stop]
                yield weights, chunk if kept is None else chunk[kept]


@dataclass(frozen=True, eq=False)
class Sources:
    """Tensors that are loaded one at a time, every time they are gone through."""

    load: Callable[[str], Source]
    names: Sequence[str]

    def __iter__(self) -> Iterator[Source]:
        return map(self.load, self.names)


def prepare(
    name: str,
    weights: ArrayLike,
    mask: ArrayLike | None = None,
    sensitivity: ArrayLike | None = None,
    dtype: str | None = None,
) -> Source:
    """Check one tensor and flatten it; copies only where it is not contiguous or is float16.

    ``dtype`` says what the weights came in, where they have been widened on the way.

    Raises
    ------
    TypeError
        If ``weights`` are not floating-point numbers, ``mask`` is not boolean or ``name`` not a
        string.
    ValueError
        If shapes disagree, or sensitivities are negative or not finite.
    """
    if not isinstance(name, str):
        raise _arguments.wrong_type("name", "a string", name)
    expected = "float16, float32 or float64"
    array = _arguments.array(f"weights {name!r}", weights, "f", expected)
    if array.dtype.itemsize > 8:
        raise _arguments.wrong_kind(f"weights {name!r}", "float16, float32 or float64", array.dtype)
    kind = np.float64 if array.dtype.itemsize == 8 else np.float32
    flat = np.ascontiguousarray(array, kind).reshape(-1)
    return Source(
        name or random.unnamed(flat.reshape(array.shape)),
        array.shape,
        flat,
        None if mask is None else _pack_mask(name, array.shape, flat, mask),
        None if sensitivity is None else _sensitivity(name, array.shape, sensitivity),
        dtype or dtype_of(array) or "F32",
    )


def digital_arrays(
    given: Mapping[str, ArrayLike] | None, weights: Collection[str]
) -> dict[str, NDArray[Any]]:
    """Tensors to keep digital, as arrays of numbers or bools; none has the name of a weight."""
    kept = {
        name: _arguments.array(f"digital {name!r}", value, "biufc", "numbers")
        for name, value in _arguments.mapping("digital", given, "names to arrays").items()
    }
    if both := sorted(kept.keys() & set(weights)):
        raise _arguments.wrong_value("digital", "names that are not in cells", both)
    return kept


def check_weights(weights: Mapping[str, ArrayLike]) -> None:
    """Refuse what is no mapping of names to at least one array."""
    if not isinstance(weights, Mapping):
        raise _arguments.wrong_type("weights", "a mapping of names to arrays", weights)
    if not weights:
        raise _arguments.wrong_value("weights", "at least one tensor", "none")


def positions(
    size: int, mask: NDArray[np.uint8] | None
) -> Iterator[tuple[int, int, NDArray[np.bool_] | None]]:
    """Walk over ``size`` weights in chunks of ``CHUNK``.

    Yields the number of stored weights before the chunk, the chunk's first weight, and which
    weights of the chunk are stored (None: all).
    """
    before = 0
    for start in range(0, size, CHUNK):
        if mask is None:
            yield start, start, None
            continue
        count = min(CHUNK, size - start)
        bits = np.unpackbits(mask[start // 8 :][: (count + 7) // 8], count=count, bitorder="little")
        kept = bits.view(np.bool_)
        yield before, start, kept
        before += int(np.count_nonzero(kept))


def _pack_mask(
    name: str, shape: tuple[int, ...], weights: NDArray[Any], mask: ArrayLike
) -> NDArray[np.uint8]:
    if isinstance(mask, str):
        if mask != "nonzero":
            raise _arguments.wrong_value(f"mask {name!r}", "an array or 'nonzero'", repr(mask))
        packed = np.empty((weights.size + 7) // 8, np.uint8)
        for start in range(0, weights.size, CHUNK):
            kept = weights[start : start + CHUNK] != 0
            packed[start // 8 :][: (kept.size + 7) // 8] = np.packbits(kept, bitorder="little")
        return packed
    array = _arguments.array(f"mask {name!r}", mask, "b", "bool")
    if array.shape != shape:
        raise _arguments.wrong_value(f"mask {name!r}", f"the weights' shape {shape}", array.shape)
    return np.packbits(np.ascontiguousarray(array).reshape(-1), bitorder="little")


def _sensitivity(
    name: str, shape: tuple[int, ...], sensitivity: ArrayLike
) -> float | NDArray[np.float64]:
    array = _arguments.array(f"sensitivity {name!r}", sensitivity, "fiu", "numbers")
    if array.shape not in ((), shape):
        raise _arguments.wrong_value(
            f"sensitivity {name!r}", f"one number or the weights' shape {shape}", array.shape
        )
    flat = np.ascontiguousarray(array).reshape(-1)
    for start in range(0, flat.size, CHUNK):
        chunk = flat[start : start + CHUNK]
        if not (np.isfinite(chunk) & (chunk >= 0)).all():
            raise _arguments.wrong_value(
                f"sensitivity {name!r}", "finite numbers of at least 0", "others"
            )
    if array.shape == () and math.prod(shape) != 1:
        return float(array)
    return flat
