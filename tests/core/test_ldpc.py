"""Codes: the core against its definition bit for bit, and against a textbook decoder."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from core_cases import RNG, THREADS
from numpy.typing import NDArray

import noisycells as nc
from noisycells import _core
from noisycells.reference import ldpc as reference
from noisycells.storage.ldpc import Code, make_code

CODES = [(4, 4, 16, 0.0), (5, 12, 48, 0.0), (8, 40, 32, 0.2), (16, 250, 16, 0.0)]
codes = pytest.mark.parametrize("arguments", CODES, ids=str)


def matrix_of(code: Code) -> NDArray[np.uint8]:
    return reference.parity_matrix(code.edges, code.rows, code.columns, code.lanes)


def noisy(code: Code, blocks: int, std: float, seed: int) -> tuple[Any, NDArray[np.float32]]:
    """Words sent as +1 and -1 with Gaussian noise, and their log-likelihood ratios."""
    rng = RNG(seed)
    words = code.encode(rng.integers(0, 2, (blocks, code.information), np.uint8))
    y = 1 - 2.0 * words + std * rng.standard_normal(words.shape)
    return words, (2 * y / std**2).astype(np.float32)


@codes
def test_encoding(arguments: tuple[int, int, int, float]) -> None:
    code = make_code(*arguments)
    matrix = matrix_of(code)
    information = RNG(1).integers(0, 2, (3, code.information), np.uint8)
    words = code.encode(information)
    assert np.array_equal(words[:, : code.information], information)
    assert not (words @ matrix.T.astype(np.int32) & 1).any()
    if code.length < 2000:
        assert np.array_equal(words[0], reference.encode(information[0], matrix))


@codes
def test_no_two_checks_share_two_bits(arguments: tuple[int, int, int, float]) -> None:
    """Where there is room for it, that is: the smallest table is too full."""
    if arguments[3] or arguments[1] * 3 > arguments[0] * (arguments[0] - 1) / 2 * arguments[2] / 3:
        pytest.skip("too full to be free of short cycles")
    matrix = matrix_of(make_code(*arguments)).astype(np.float32)
    shared = matrix @ matrix.T
    np.fill_diagonal(shared, 0)
    assert shared.max() <= 1


@codes
@pytest.mark.parametrize("level", nc.available_simd_levels())
def test_decoding_is_the_definition(arguments: tuple[int, int, int, float], level: str) -> None:
    code = make_code(*arguments)
    rate = code.information / code.length
    words, llr = noisy(code, 6, 0.75 if rate < 0.6 else 0.55 if rate < 0.9 else 0.4, 2)
    llr[0, :5] = [0.0, -0.0, 1e-30, 500.0, -500.0]
    before = nc.simd_level()
    try:
        assert _core.set_simd_level(level)
        for threads in THREADS:
            decoded, taken = code.decode(llr, 12, threads)
            for b in range(len(llr)):
                bits, rounds = reference.decode(llr[b], code.edges, code.columns, code.lanes, 12)
                assert taken[b] == rounds
                assert np.array_equal(decoded[b], bits)
    finally:
        _core.set_simd_level(before)
    assert (taken >= 0).any()
    assert all(np.array_equal(decoded[b], words[b]) for b in np.flatnonzero(taken > 0))


@cache
def failures(std: float) -> tuple[int, int]:
    """Blocks of 400 that the core and the textbook decoder fail on."""
    code = make_code(8, 24, 64)
    words, llr = noisy(code, 400, std, 3)
    ours, _ = code.decode(llr, 60)
    theirs, _ = reference.sum_product(llr.astype(np.float64), matrix_of(code), 60)
    return int((ours != words).any(axis=1).sum()), int((theirs != words).any(axis=1).sum())


def test_waterfall_is_within_a_tenth_of_a_decibel() -> None:
    """At 0.1 dB less noise the core fails no more often than the textbook decoder did; at 0.1 dB
    more, no less often. Between the two the rate of failures changes by a factor of about two."""
    std = 0.515
    _, theirs = failures(std)
    assert 20 < theirs < 200
    assert failures(std * 10 ** (-0.1 / 20))[0] <= theirs
    assert failures(std * 10 ** (0.1 / 20))[0] >= theirs


def test_what_cannot_be_decoded_is_said() -> None:
    code = make_code(8, 24, 64)
    words, llr = noisy(code, 5, 0.9, 4)
    decoded, taken = code.decode(llr, 20)
    assert (taken == -1).all()
    assert (decoded != words).any(axis=1).all()


def test_clean_words_take_no_round() -> None:
    code = make_code(8, 24, 64)
    words, llr = noisy(code, 5, 0.1, 5)
    decoded, taken = code.decode(llr)
    assert (taken == 0).all() and np.array_equal(decoded, words)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lanes": 24}, "lanes"),
        ({"middle": 0}, "middle"),
        ({"rows": 2}, "rows"),
        ({"edges": np.zeros((2, 3), np.int32)}, "each row and column once"),
        ({"edges": np.array([[0, 0, 16]], np.int32)}, "shifts of the code"),
    ],
)
def test_core_refuses_wrong_codes(change: dict[str, Any], message: str) -> None:
    code = make_code(4, 4, 16)
    given = {"rows": 4, "columns": 8, "lanes": 16, "middle": 2, "edges": code.edges} | change
    with pytest.raises(ValueError, match=message):
        _core.LdpcCode(**given)


def test_core_refuses_parity_it_cannot_encode() -> None:
    edges = make_code(4, 4, 16).edges.copy()
    edges[(edges[:, 1] == 6) & (edges[:, 0] == 1), 2] = 3
    with pytest.raises(ValueError, match="two diagonals"):
        _core.LdpcCode(4, 8, 16, 2, edges)


def test_arguments() -> None:
    with pytest.raises(ValueError, match="lanes"):
        make_code(4, 4, 20)
    with pytest.raises(ValueError, match="rows"):
        make_code(3, 4, 16)
    with pytest.raises(ValueError, match="llr"):
        make_code(4, 4, 16).decode(np.full((1, 128), np.nan, np.float32))
