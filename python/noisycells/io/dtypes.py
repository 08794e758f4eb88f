"""Dtypes of safetensors, and the small floats among them that numpy does not have."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._arguments import expectation

DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    "U8": np.dtype("u1"),
    "I8": np.dtype("i1"),
    "F8_E4M3": np.dtype("u1"),
    "F8_E5M2": np.dtype("u1"),
    "U16": np.dtype("<u2"),
    "I16": np.dtype("<i2"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "U32": np.dtype("<u4"),
    "I32": np.dtype("<i4"),
    "F32": np.dtype("<f4"),
    "U64": np.dtype("<u8"),
    "I64": np.dtype("<i8"),
    "F64": np.dtype("<f8"),
    "C64": np.dtype("<c8"),
}
"""What a safetensors dtype is read into; of :data:`WITHOUT_NUMPY` the bits, see :func:`widen`."""

WITHOUT_NUMPY = {"BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"}
"""Dtypes of safetensors that numpy does not have, and their usual names."""
FLOATS = ("F64", "F32", "F16", *WITHOUT_NUMPY)

_CHUNK = 1 << 16  # numbers converted at a time, for little memory
_NAMES = {dtype: name for name, dtype in DTYPES.items() if name not in WITHOUT_NUMPY}


def dtype_of(array: NDArray[Any]) -> str | None:
    """The name that safetensors has for an array's dtype; None where it has none."""
    return _NAMES.get(array.dtype.newbyteorder("<"))


def usual_name(dtype: str) -> str:
    """What numpy and others call a dtype of safetensors: float32, bfloat16."""
    return WITHOUT_NUMPY.get(dtype) or DTYPES[dtype].name


def bytes_of(array: NDArray[Any], dtype: str | None = None) -> int:
    """The bytes that a tensor takes; ``dtype`` says what it is where numpy cannot."""
    return array.size * (array if dtype is None else DTYPES[dtype]).itemsize


def widen(bits: NDArray[Any], dtype: str) -> NDArray[np.float32]:
    """The bits of a dtype of :data:`WITHOUT_NUMPY` as float32, which holds them exactly."""
    if dtype != "BF16":
        result: NDArray[np.float32] = _eight_bits(dtype)[bits]
        return result
    out = np.empty(bits.shape, np.float32)
    np.left_shift(bits, 16, out=out.view(np.uint32), dtype=np.uint32)
    return out


def numbers(bits: NDArray[Any], dtype: str) -> NDArray[Any]:
    """What was read of a dtype, as numpy has it: of :data:`WITHOUT_NUMPY` float32."""
    return widen(bits, dtype) if dtype in WITHOUT_NUMPY else bits


def narrow(values: NDArray[Any], dtype: str) -> NDArray[Any]:
    """Numbers rounded to the nearest of another dtype of :data:`FLOATS`, ties to even.

    Returns
    -------
    ndarray of ``DTYPES[dtype]``
        Of :data:`WITHOUT_NUMPY` the bits.

    Raises
    ------
    ValueError
        If a finite number becomes infinite.
    """
    flat = np.ascontiguousarray(values).reshape(-1)
    out = np.empty(flat.size, DTYPES[dtype])
    for start in range(0, flat.size, _CHUNK):
        chunk = flat[start : start + _CHUNK]
        rounded = _rounded(chunk, dtype)
        lost = np.isfinite(chunk) & ~np.isfinite(numbers(rounded, dtype))
        if lost.any():
            inside = f"numbers within the range of {dtype}"
            raise ValueError(expectation(inside, f"{chunk[lost][0]:g}"))
        out[start : start + _CHUNK] = rounded
    return out.reshape(values.shape)


def _rounded(values: NDArray[Any], dtype: str) -> NDArray[Any]:
    if dtype == "BF16":
        return _to_bfloat16(values)
    if dtype in WITHOUT_NUMPY:
        return _to_eight_bits(values, dtype)
    with np.errstate(over="ignore"):  # refused by the caller
        return values.astype(DTYPES[dtype])


def _to_bfloat16(values: NDArray[Any]) -> NDArray[np.uint16]:
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + (bits >> 16 & 1)
    nan = np.uint32(0x400000) | bits  # a quiet one, whose payload may not round to infinity
    out: NDArray[np.uint16] = (np.where(np.isnan(values), nan, rounded) >> 16).astype(np.uint16)
    return out


@cache
def _eight_bits(dtype: str) -> NDArray[np.float32]:
    """All numbers of an 8-bit float, by code (Micikevicius et al. 2022, arXiv:2209.05433)."""
    code = np.arange(256, dtype=np.uint16)
    if dtype == "F8_E5M2":  # the upper byte of a float16
        with np.errstate(invalid="ignore"):  # some NaNs are signaling ones
            table = np.left_shift(code, 8).view(np.float16).astype(np.float32)
        return np.where(np.isnan(table), np.copysign(np.float32(np.nan), table), table)
    mantissa, exponent = code % 8, (code // 8 % 16).astype(np.float64)
    normal, small = (8 + mantissa) * 2.0 ** (exponent - 10), mantissa * 2.0**-9
    magnitude = np.where(exponent > 0, normal, small)
    magnitude[code % 128 == 127] = np.nan
    return np.copysign(magnitude, np.where(code < 128, 1.0, -1.0)).astype(np.float32)


def _to_eight_bits(values: NDArray[Any], dtype: str) -> NDArray[np.uint8]:
    table = _eight_bits(dtype)[:128].astype(np.float64)
    finite = table[np.isfinite(table)]
    # Beyond half a step above the largest number: infinity, or NaN where there is none.
    edge = finite[-1] + (finite[-1] - finite[-2]) / 2
    middle = np.append((finite[1:] + finite[:-1]) / 2, edge)
    magnitude = np.abs(values.astype(np.float64))
    code = np.searchsorted(middle, magnitude)  # a tie: the smaller one
    tie = middle[np.minimum(code, len(middle) - 1)] == magnitude
    code += tie & (code % 2 == 1)
    code[np.isnan(magnitude)] = 127
    result: NDArray[np.uint8] = (code | np.signbit(values) * 128).astype(np.uint8)
    return result
