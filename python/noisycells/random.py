"""Counter-based random numbers: pure functions of (seed, stream, index), no hidden state.

Philox4x32-10 and Box-Muller as defined in :mod:`noisycells.reference`: the same numbers for
any thread count, chunking and SIMD level; a longer array starts with the shorter one. What a seed
may be, and where one can be left out, is the one rule of ``docs/randomness.md``.
"""

from __future__ import annotations

import hashlib
import math
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _arguments, _core
from ._types import STREAM_VERSION
from .runtime import threads_argument

__all__ = [
    "STREAM_VERSION",
    "content",
    "fold_in",
    "key",
    "philox4x32",
    "standard_normal",
    "stream",
    "unnamed",
]


def __dir__() -> list[str]:
    return __all__


def stream(*names: str) -> int:
    """The 64-bit stream number of a path of names, such as ``stream("conv1.weight", "side")``.

    The first 8 bytes, little-endian, of BLAKE2b over the names in UTF-8, each after its length in
    8 bytes, so that no two paths are hashed alike.
    """
    digest = hashlib.blake2b(digest_size=8)
    for name in names:
        encoded = _arguments.text("names", name).encode()
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return int.from_bytes(digest.digest(), "little")


def key(seed: int, purpose: str, *numbers: int) -> int:
    """The 64-bit seed of one purpose, such as reading a crossbar, from a user's seed.

    ``numbers``, such as that of the chip, are folded in after the purpose, one by one.
    """
    derived = _core.fold_in(_arguments.seed("seed", seed), _purpose(purpose))
    for number in numbers:
        derived = _core.fold_in(derived, _arguments.seed("numbers", number))
    return derived


def unnamed(array: NDArray[Any]) -> str:
    """The name that keys the draws of an array without one; equal arrays have equal ones."""
    return f"unnamed {content(array):016x}"


def content(array: NDArray[Any]) -> int:
    """A 64-bit digest of an array's shape, dtype and bytes: equal arrays have equal ones.

    BLAKE2b over the digests that the core takes of blocks (:func:`reference.block_digests
    <noisycells.reference.block_digests>`), at the rate at which memory is read.
    """
    array = _arguments.array("array", array, "biufc", "numbers")
    data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    blocks = np.empty((-(-data.size // 4096), 2), np.uint64)
    _core.block_digests(data, _content_key(), blocks, threads_argument(None))
    digest = hashlib.blake2b(f"{array.shape} {array.dtype.str}".encode(), digest_size=8)
    digest.update(blocks.astype("<u8", copy=False).data)
    return int.from_bytes(digest.digest(), "little")


@cache
def _content_key() -> NDArray[np.int32]:
    words = np.empty(1028, np.uint32)
    _core.random_words(words, 0, stream("content"), 0)
    return words.view(np.int32)


@cache
def _purpose(name: str) -> int:
    return stream("key", name)


def fold_in(seed: int, data: int) -> int:
    """A new 64-bit seed from a seed and a number, both in [0, 2**64).

    One Philox block of (data, key = seed); :func:`noisycells.reference.fold_in` defines it.
    """
    seed, data = _arguments.seed("seed", seed), _arguments.seed("data", data)
    return _core.fold_in(seed, data)


def philox4x32(counter: ArrayLike, key: ArrayLike, rounds: int = 10) -> NDArray[np.uint32]:
    """Philox4x32 (Salmon et al., SC 2011).

    Parameters
    ----------
    counter : uint32 (..., 4)
    key : uint32 (..., 2), broadcast against ``counter``
    rounds : int
        10 for every draw of this package.

    Returns
    -------
    uint32 (..., 4)

    Raises
    ------
    ValueError
        Where the last axis is not 4 or 2, or the values do not fit in 32 bits.
    """
    c, k = _words("counter", counter, 4), _words("key", key, 2)
    shape = np.broadcast_shapes(c.shape[:-1], k.shape[:-1])
    c = np.ascontiguousarray(np.broadcast_to(c, (*shape, 4)).reshape(-1, 4))
    k = np.ascontiguousarray(np.broadcast_to(k, (*shape, 2)).reshape(-1, 2))
    out = np.empty_like(c)
    _core.philox4x32(c, k, _arguments.integer("rounds", rounds, 0, 64), out)
    return out.reshape(*shape, 4)


def _words(name: str, value: ArrayLike, size: int) -> NDArray[np.uint32]:
    array = _arguments.array(name, value, "iu", "integers in [0, 2**32)")
    if array.ndim == 0 or array.shape[-1] != size:
        raise _arguments.wrong_value(name, f"shape (..., {size})", array.shape)
    if array.size and (int(array.min()) < 0 or int(array.max()) >= 1 << 32):
        raise _arguments.wrong_value(name, "integers in [0, 2**32)", array.dtype)
    return array.astype(np.uint32)


def standard_normal(
    shape: int | tuple[int, ...],
    seed: int,
    stream: int = 0,
    offset: int = 0,
    out: NDArray[np.float32] | None = None,
    *,
    num_threads: int | None = None,
) -> NDArray[np.float32]:
    """float32 standard normals; |z| <= 6.66.

    Parameters
    ----------
    shape : int or tuple of int
        Elements are numbered in C order.
    seed : int in [0, 2**64)
    stream : int in [0, 2**64)
        Independent sequences of one seed; :func:`stream` makes them from names.
    offset : int in [0, 2**46)
        Number of the first element.
    out : float32 array, optional
        C-contiguous, of this shape; written and returned.
    num_threads : int, optional
        Default: the package setting (:func:`noisycells.set_num_threads`).

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what was expected and what came.
    """
    sizes = (shape,) if isinstance(shape, (int, np.integer)) else shape
    shape = tuple(_arguments.integer("shape", n, 0) for n in sizes)
    first = _arguments.offset("offset", offset, math.prod(shape))
    out = _arguments.output(out, shape)
    _core.standard_normal(
        out.reshape(-1), _arguments.seed("seed", seed), _arguments.seed("stream", stream), first,
        threads_argument(num_threads),
    )  # fmt: skip
    return out
