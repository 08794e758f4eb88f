"""Contenders for packing 2-bit codes."""

from __future__ import annotations

import numpy as np

from .. import _core
from ..bits import pack_bits
from .contenders import OURS, OWN, U8, Call, Contenders

__all__ = ["numpy_pack", "numpy_unpack", "pack", "pack_call", "unpack"]


def pack(n: int) -> Contenders:
    """``n`` codes to bytes."""
    codes = _codes(n)
    return {OURS: _core_pack(codes), "numpy": numpy_pack(codes), "numpy tuned": _word_pack(codes)}


def pack_call(n: int) -> Contenders:
    """What the checks and the new array of the public call add."""
    codes = _codes(n)
    return {OURS: lambda: pack_bits(codes, 2), OWN + "core": _core_pack(codes)}


def unpack(n: int) -> Contenders:
    """And back."""
    packed = np.random.default_rng(5).integers(0, 256, n // 4, np.uint8)
    out = np.empty(n, np.uint8)

    def ours() -> U8:
        _core.unpack_bits(packed, 2, out)
        return out

    return {OURS: ours, "numpy": numpy_unpack(packed)}


def numpy_pack(codes: U8) -> Call:
    """Shift and or, without temporary arrays; the number of codes is a multiple of 4."""
    out, shifted = np.empty(len(codes) // 4, np.uint8), np.empty(len(codes) // 4, np.uint8)

    def call() -> U8:
        np.copyto(out, codes[::4])
        for k in (1, 2, 3):
            np.left_shift(codes[k::4], 2 * k, out=shifted)
            np.bitwise_or(out, shifted, out=out)
        return out

    return call


def numpy_unpack(packed: U8) -> Call:
    """Shift and mask, without temporary arrays."""
    out, shifted = np.empty(len(packed) * 4, np.uint8), np.empty_like(packed)

    def call() -> U8:
        for k in range(4):
            np.right_shift(packed, 2 * k, out=shifted)
            np.bitwise_and(shifted, 3, out=out[k::4])
        return out

    return call


def _codes(n: int) -> U8:
    return np.random.default_rng(4).integers(0, 4, n, np.uint8)


def _core_pack(codes: U8) -> Call:
    out = np.empty(len(codes) // 4, np.uint8)

    def call() -> U8:
        _core.pack_bits(codes, 2, out)
        return out

    return call


def _word_pack(codes: U8) -> Call:
    """Four codes in a word at once: a product brings them together in its top byte."""
    words = codes.view("<u4")
    product, out = np.empty_like(words), np.empty(len(words), np.uint8)

    def call() -> U8:
        np.multiply(words, np.uint32(1 << 24 | 1 << 18 | 1 << 12 | 1 << 6), out=product)
        np.right_shift(product, 24, out=product)
        np.copyto(out, product, casting="unsafe")
        return out

    return call
