"""Arguments that the core refuses: sampling, tables, masks and the codec."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from core_cases import (
    CHANNELS,
    KEYS,
    F,
    bound_channel,
    bound_codec,
    codec,
    core_encode,
    frozen,
    weights,
)
from numpy.typing import NDArray

from noisycells import _core

F32 = NDArray[np.float32]


U8, I32 = (lambda n: np.zeros(n, np.uint8)), np.int32

PLAIN = bound_channel(CHANNELS["plain"])

FLOATS, PACKS = bound_codec(codec(3, True, False)), bound_codec(codec(2, True, True))

NO_INVERSE = np.zeros((2, 2), np.float32)

RANGE = (np.inf, 1.0, 0.0, 1.0, 0.0, 1)

WRITE = (0.0, 1.0, 1.0, 4)


def good_decode(**changed: Any) -> None:
    w = weights(100)
    levels, side = core_encode(w, None, PACKS, True)
    arguments = {
        "levels": levels, "side": side, "mask": None, "out": F(100), "codec": PACKS,
        "channel": PLAIN, "chip": 1, "read": 2, "stream": 3, **changed,
    }  # fmt: skip
    _core.decode(**arguments)


VALUE_ERRORS: list[tuple[str, Callable[[], Any]]] = [
    # sampling
    (r"x: expected 1 dimension, got 2", lambda: _core.sample(F((2, 2)), F(4), 1, PLAIN, *KEYS)),
    (r"out: expected 4 elements, got 5", lambda: _core.sample(F(4), F(5), 1, PLAIN, *KEYS)),
    (r"cells: expected 1 to 65535, got 0", lambda: _core.sample(F(4), F(4), 0, PLAIN, *KEYS)),
    (
        r"cells: expected 1 to 65535, got 65536",
        lambda: _core.sample(F(4), F(4), 65536, PLAIN, *KEYS),
    ),
    (
        r"cells: expected 1 to 65535, got -1 at index 2",
        lambda: _core.sample(F(4), F(4), np.array([1, 1, -1, 1], I32), PLAIN, *KEYS),
    ),
    (
        r"cells: expected 4 elements, got 3",
        lambda: _core.sample(F(4), F(4), np.ones(3, I32), PLAIN, *KEYS),
    ),
    (
        r"cells: expected an int or a contiguous int32 array",
        lambda: _core.sample(F(4), F(4), np.ones(4, np.int64), PLAIN, *KEYS),
    ),
    (
        r"cells: expected an int or a contiguous int32 array",
        lambda: _core.sample(F(4), F(4), np.ones(8, I32)[::2], PLAIN, *KEYS),
    ),
    (r"array is not writeable", lambda: _core.sample(F(4), frozen(4), 1, PLAIN, *KEYS)),
    (r"table: expected shape \(n >= 2, 4\)", lambda: _core.ChannelTables(F((1, 4)), 0, 1)),
    (r"table: expected shape \(n >= 2, 4\)", lambda: _core.ChannelTables(F((2, 3)), 0, 1)),
    (r"table: expected shape \(n >= 2, 4\)", lambda: _core.ChannelTables(F(8), 0, 1)),
    (
        r"read: expected shape \(n >= 2, 2\)",
        lambda: _core.ChannelTables(F((3, 4)), 0, 1, F((3, 4))),
    ),
    (
        r"read: expected as many rows as table",
        lambda: _core.ChannelTables(F((3, 4)), 0, 1, F((2, 2))),
    ),
    (
        r"adc: expected 2 to 2\^24 levels",
        lambda: _core.ChannelTables(F((3, 4)), 0, 1, None, (0.0, 1.0, 1.0, 1)),
    ),
    # codec tables
    (
        r"inverse: expected shape \(n >= 2, 2\)",
        lambda: _core.CodecTables(F((2, 3)), 0, 1, [(*RANGE, None)], True),
    ),
    (
        r"ranges: expected 1 to 8, got 0",
        lambda: _core.CodecTables(NO_INVERSE, 0, 1, [], True),
    ),
    (
        r"ranges: expected 1 to 8, got 9",
        lambda: _core.CodecTables(NO_INVERSE, 0, 1, [(*RANGE, None)] * 9, True),
    ),
    (
        r"cells: expected 1 to 65535, got 0",
        lambda: _core.CodecTables(NO_INVERSE, 0, 1, [(*RANGE[:-1], 0, None)], True),
    ),
    (
        r"ranges: expected a write converter in all of them or in none",
        lambda: _core.CodecTables(NO_INVERSE, 0, 1, [(*RANGE, None), (*RANGE, WRITE)], True),
    ),
    (
        r"write: expected 2 to 2\^16 levels, got 1",
        lambda: _core.CodecTables(NO_INVERSE, 0, 1, [(*RANGE, (*WRITE[:3], 1))], True),
    ),
    (
        r"write: expected 2 to 2\^16 levels, got 65537",
        lambda: _core.CodecTables(NO_INVERSE, 0, 1, [(*RANGE, (*WRITE[:3], 65537))], True),
    ),
    (r"stored: expected >= 0, got -1", lambda: _core.levels_capacity(-1, PACKS)),
    # masks
    (
        r"mask \(packed bits\): expected 2 elements, got 1",
        lambda: _core.scan(weights(9), U8(1)),
    ),
    (
        r"mask: bits past the last weight must be 0",
        lambda: _core.scan(weights(9), np.array([255, 3], np.uint8)),
    ),
    (r"mask \(packed bits\): expected 2 elements", lambda: _core.count_stored(U8(1), 9)),
    (
        r"mask: bits past the last weight must be 0",
        lambda: _core.transmit(
            weights(9), np.array([255, 2], np.uint8), F(9), FLOATS, PLAIN, *KEYS
        ),
    ),
    # encode
    (
        r"side: expected 4 elements, got 3",  # 3 bits each
        lambda: _core.encode(weights(9), None, FLOATS, F(9), U8(3)),
    ),
    (
        r"levels: expected 9 elements, got 8",
        lambda: _core.encode(weights(9), None, FLOATS, F(8), U8(4)),
    ),
    (
        r"levels: expected float32",
        lambda: _core.encode(weights(9), None, FLOATS, U8(9), U8(4)),
    ),
    (r"levels: expected uint8", lambda: _core.encode(weights(9), None, PACKS, F(9), U8(3))),
    (
        r"levels: expected 1410 elements, got 9",  # room for a block of 1024 at 11 bits
        lambda: _core.encode(weights(9), None, PACKS, U8(9), U8(3)),
    ),
    (
        r"out: expected 9 elements, got 8",
        lambda: _core.transmit(weights(9), None, F(8), FLOATS, PLAIN, *KEYS),
    ),
    (
        r"side: expected 4 elements, got 5",
        lambda: _core.side_bits(weights(9), FLOATS, U8(5)),
    ),
    (
        r"bins: expected 1 to 2\^20",
        lambda: _core.magnitude_histogram(weights(9), None, 1.0, 0),
    ),
    # decode
    (r"levels: expected uint8", lambda: good_decode(levels=F(100))),
    (r"levels: expected float32", lambda: good_decode(codec=FLOATS, side=U8(38))),
    (
        r"side: expected 25 bytes for 100 stored weights, got 24",
        lambda: good_decode(side=U8(24)),
    ),
    (
        r"side: expected 25 bytes for 100 stored weights, got 26",
        lambda: good_decode(side=U8(26)),
    ),
    (
        r"levels: expected 38 bytes for 100 stored weights, got 39",  # 100 codes of 3 bits
        lambda: good_decode(levels=U8(39), side=U8(25)),
    ),
    (
        r"levels: expected 38 bytes for 100 stored weights, got 0",
        lambda: good_decode(levels=U8(0), side=U8(25)),
    ),
    (
        r"levels: expected 100 elements for 100 stored weights, got 99",
        lambda: good_decode(codec=FLOATS, levels=F(99), side=U8(38)),
    ),
    (
        r"side: a code names a range that does not exist",
        lambda: good_decode(codec=FLOATS, levels=F(100), side=U8(38) + 255),
    ),
    (
        r"mask \(packed bits\): expected 13 elements, got 12",
        lambda: good_decode(mask=U8(12)),
    ),
    (r"array is not writeable", lambda: good_decode(out=frozen(100))),
]  # fmt: skip


@pytest.mark.parametrize(
    ("message", "call"),
    VALUE_ERRORS,
    ids=[f"{i} {m[:40]}" for i, (m, _) in enumerate(VALUE_ERRORS)],
)
def test_value_errors(message: str, call: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        call()


TYPE_ERRORS: list[Callable[[], Any]] = [
    lambda: _core.sample(np.zeros(4), F(4), 1, PLAIN, *KEYS),
    lambda: _core.sample(F(8)[::2], F(4), 1, PLAIN, *KEYS),
    lambda: _core.sample(F(4), F(8)[::2], 1, PLAIN, *KEYS),
    lambda: _core.sample([0.0], F(1), 1, PLAIN, *KEYS),
    lambda: _core.sample(F(4), F(4), 1, FLOATS, *KEYS),
    lambda: _core.sample(F(4), F(4), 1, PLAIN, -1, 0, 0),
    lambda: _core.sample(F(4), F(4), 1, PLAIN, 2**64, 0, 0),
    lambda: _core.ChannelTables(np.zeros((3, 4)), 0, 1),
    lambda: _core.ChannelTables(np.asfortranarray(F((3, 4))), 0, 1),
    lambda: _core.ChannelTables(F((3, 4)), 0, 1, np.zeros((3, 2))),
    lambda: _core.CodecTables(np.zeros((2, 2)), 0, 1, [(*RANGE, None)], True),
    lambda: _core.CodecTables(NO_INVERSE, 0, 1, [RANGE], True),
    lambda: _core.scan(np.zeros(4, np.float16), None),
    lambda: _core.scan(np.zeros(4, np.int32), None),
    lambda: _core.scan(F(8)[::2], None),
    lambda: _core.scan(F(8), np.ones(8, bool)),
    lambda: _core.encode(F(8)[::2], None, FLOATS, F(4), U8(2)),
    lambda: _core.encode(F(4), None, FLOATS, F(4), np.zeros(2, np.int8)),
    lambda: _core.transmit(F(4), None, np.zeros(4), FLOATS, PLAIN, *KEYS),
    lambda: good_decode(side=np.zeros(25, np.uint16)),
    lambda: good_decode(out=np.zeros(100)),
    lambda: good_decode(mask=[1] * 13),
]


@pytest.mark.parametrize("call", TYPE_ERRORS, ids=range(len(TYPE_ERRORS)))
def test_type_errors(call: Callable[[], Any]) -> None:
    """Nothing is converted or copied silently."""
    with pytest.raises(TypeError, match=r"incompatible (function|constructor) arguments"):
        call()


def test_nothing_is_written_on_error() -> None:
    out = F(100) + 7
    for changed in ({"side": U8(24)}, {"levels": U8(3), "side": U8(25)}, {"mask": U8(12)}):
        with pytest.raises(ValueError):
            good_decode(out=out, **changed)
    bad = U8(38) + 255
    with pytest.raises(ValueError):
        good_decode(codec=FLOATS, levels=F(100), side=bad, out=out)
    assert (out == 7).all()
