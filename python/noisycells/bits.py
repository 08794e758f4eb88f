"""Codes of 1 to 16 bits packed to bytes, least significant bit first, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _arguments, _core
from ._types import MAX_INDEX
from .runtime import threads_argument

__all__ = ["pack_bits", "unpack_bits"]


def __dir__() -> list[str]:
    return __all__


MAX_WIDTH = 16


def pack_bits(
    codes: ArrayLike,
    width: int,
    *,
    out: NDArray[np.uint8] | None = None,
    num_threads: int | None = None,
) -> NDArray[np.uint8]:
    """Packs integer codes: code i takes bits i * width to (i + 1) * width - 1 of the result.

    Parameters
    ----------
    codes : integers of any shape and stride, in C order, each in [0, 2**width)
    width : int
        Bits a code, 1 to 16.
    out : uint8 array of ceil(codes.size * width / 8) bytes, C-contiguous, optional
        Where to write the result.
    num_threads : int, optional
        Default: the package setting.

    Returns
    -------
    uint8 array of ceil(codes.size * width / 8) bytes; unused bits of the last one are 0.

    Raises
    ------
    TypeError, ValueError
        Where ``codes`` are not integers, one does not fit (``out`` has been written to by then),
        ``width`` is out of range, or ``out`` is not as above or overlaps ``codes``.
    """
    width = _arguments.integer("width", width, 1, MAX_WIDTH)
    array = _arguments.array("codes", codes, "biu", "integers")
    if array.dtype == bool:
        array = array.astype(np.uint8)
    narrow = np.uint8 if width <= 8 else np.uint16
    if array.dtype != narrow and array.size:  # else the core tells whether all fit
        low, high = int(array.min()), int(array.max())
        if low < 0 or high >= 1 << width:
            raise _out_of_range(low if low < 0 else high, width)
    flat = np.ascontiguousarray(array, narrow).reshape(-1)
    out = _arguments.output(out, ((flat.size * width + 7) // 8,), array, dtype=np.uint8)
    if not _core.pack_bits(flat, width, out, threads_argument(num_threads)):
        raise _out_of_range(int(flat.max()), width)
    return out


def _out_of_range(wrong: int, width: int) -> ValueError:
    return _arguments.wrong_value("codes", f"values in [0, {1 << width})", wrong)


def unpack_bits(
    buffer: ArrayLike,
    width: int,
    count: int,
    *,
    out: NDArray[Any] | None = None,
    num_threads: int | None = None,
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """The ``count`` codes of :func:`pack_bits`; uint8 up to 8 bits, uint16 above.

    Parameters
    ----------
    buffer : uint8 array of ceil(count * width / 8) bytes
    width : int
        Bits a code, 1 to 16.
    count : int
        Number of codes.
    out : array of shape (count,) of the dtype of the result, C-contiguous, optional
        Where to write the result.
    num_threads : int, optional
        Default: the package setting.

    Raises
    ------
    TypeError, ValueError
        Where ``buffer`` is not uint8 or not of that size, ``width`` is out of range, or ``out`` is
        not as above or overlaps ``buffer``.
    """
    width = _arguments.integer("width", width, 1, MAX_WIDTH)
    count = _arguments.integer("count", count, 0, MAX_INDEX)
    packed = _arguments.array("buffer", buffer, "u", "uint8")
    if packed.dtype != np.uint8:
        raise _arguments.wrong_kind("buffer", "uint8", packed.dtype)
    expected = (count * width + 7) // 8
    if packed.size != expected:
        raise _arguments.wrong_value(
            "buffer", f"{expected} bytes for {count} codes of {width} bits", packed.size
        )
    flat = np.ascontiguousarray(packed).reshape(-1)
    threads = threads_argument(num_threads)
    if width <= 8:
        narrow = _arguments.output(out, (count,), packed, dtype=np.uint8)
        _core.unpack_bits(flat, width, narrow, threads)
        return narrow
    wide = _arguments.output(out, (count,), packed, dtype=np.uint16)
    _core.unpack_bits(flat, width, wide, threads)
    return wide
