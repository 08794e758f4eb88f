"""Codes: the core against its definition bit for bit, and against a textbook decoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from core_cases import RNG, THREADS
from numpy.typing import NDArray

import noisycells as nc
from noisycells import _core
from noisycells.reference import ldpc as reference
from noisycells.storage.ldpc import Code, make_code

CODES = [(4, 4, 16, 0.0), (5, 12, 48, 0.0), (8, 40, 32, 0.2), (12, 120, 16, 0.0)]
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


@pytest.mark.parametrize("arguments", [(5, 12, 48), (12, 100, 96), (16, 300, 256)], ids=str)
def test_no_two_checks_share_two_bits(arguments: tuple[int, int, int]) -> None:
    """No cycle of length 4: two rows never have the same difference of shifts in two columns."""
    code = make_code(*arguments)
    seen = set()
    for column in range(code.columns):
        entries = code.edges[code.edges[:, 1] == column]
        for i, (row, _, shift) in enumerate(entries):
            for other, _, beside in entries[i + 1 :]:
                difference = (int(row), int(other), int(shift - beside) % code.lanes)
                assert difference not in seen
                seen.add(difference)


@codes
@pytest.mark.parametrize("level", nc.available_simd_levels())
def test_decoding_is_the_definition(arguments: tuple[int, int, int, float], level: str) -> None:
    code = make_code(*arguments)
    rate = code.information / code.length
    words, llr = noisy(code, 4, 0.75 if rate < 0.6 else 0.55 if rate < 0.9 else 0.4, 2)
    llr[0, :5] = [0.0, -0.0, 1e-30, 500.0, -500.0]
    before = nc.simd_level()
    try:
        assert _core.set_simd_level(level)
        expected = [reference.decode(one, code.edges, code.columns, code.lanes, 12) for one in llr]
        for threads in THREADS:
            decoded, taken = code.decode(llr, 12, num_threads=threads)
            for b, (bits, rounds) in enumerate(expected):
                assert taken[b] == rounds
                assert np.array_equal(decoded[b], bits)
    finally:
        _core.set_simd_level(before)
    assert (taken >= 0).any()
    assert all(np.array_equal(decoded[b], words[b]) for b in np.flatnonzero(taken > 0))


def test_waterfall_is_within_a_tenth_of_a_decibel() -> None:
    """The core fails on no more of the blocks than the textbook decoder does on the same ones
    with 0.1 dB more noise, in the middle of the waterfall."""
    code = make_code(8, 24, 16)
    std = 0.60
    louder, llr = noisy(code, 300, std, 3)
    theirs, _ = reference.sum_product(llr.astype(np.float64), matrix_of(code), 40)
    failed = int((theirs != louder).any(axis=1).sum())
    assert 20 < failed < 200
    words, llr = noisy(code, 300, std * 10 ** (-0.1 / 20), 3)
    ours, _ = code.decode(llr, 40)
    assert 0 < (ours != words).any(axis=1).sum() <= failed


@pytest.mark.parametrize(
    "arguments", [(16, 240, 32, 0.0, 4), (16, 29, 224, 0.18, 3)], ids=["4 levels", "8 levels"]
)
def test_waterfall_is_that_of_another_decoder(arguments: tuple[int, int, int, float, int]) -> None:
    """Codes as blocks in cells of 4 and 8 levels have them: the signal to noise from which on a
    word is decoded, against sum-product belief propagation by J. Roffe's `ldpc`, is the same to
    0.03 dB in the mean of the same words and noise."""
    pytest.importorskip("ldpc")  # of the extra test
    code, rng = make_code(*arguments), RNG(6)
    words = code.encode(rng.integers(0, 2, (5, code.information), np.uint8))
    decoders = (as_the_core_does(code), as_ldpc_does(code))
    thresholds = np.array(
        [
            [least_decibels(decoder, word, noise) for decoder in decoders]
            for word, noise in zip(words, rng.standard_normal(words.shape), strict=True)
        ]
    )
    assert 1.5 < thresholds.min() and thresholds.max() < 8
    assert np.abs(np.diff(thresholds)).max() < 0.1
    assert abs(np.diff(thresholds).mean()) < 0.03


Decoder = Callable[[NDArray[np.float64]], NDArray[np.uint8] | None]
"""The word of log-likelihood ratios, or None."""


def as_the_core_does(code: Code) -> Decoder:
    def decode(llr: NDArray[np.float64]) -> NDArray[np.uint8] | None:
        words, taken = code.decode(llr.astype(np.float32)[None])
        return words[0] if taken[0] >= 0 else None

    return decode


def as_ldpc_does(code: Code) -> Decoder:
    from ldpc import BpDecoder
    from scipy.sparse import csr_matrix

    lanes = np.arange(code.lanes)
    checks, bits = (
        np.concatenate([np.asarray(found) for found in each])
        for each in zip(
            *((r * code.lanes + lanes, c * code.lanes + (lanes + s) % code.lanes)
              for r, c, s in code.edges), strict=True,
        )
    )  # fmt: skip
    shape = (code.rows * code.lanes, code.length)
    matrix = csr_matrix((np.ones(len(checks), np.uint8), (checks, bits)), shape)
    decoder = BpDecoder(
        matrix, error_rate=0.1, max_iter=100, bp_method="product_sum", input_vector_type="syndrome"
    )

    def decode(llr: NDArray[np.float64]) -> NDArray[np.uint8] | None:
        # It looks for the errors of hard decisions, each as likely as its ratio says.
        hard = (llr < 0).astype(np.uint8)
        decoder.update_channel_probs(1 / (1 + np.exp(np.minimum(np.abs(llr), 30))))
        errors = decoder.decode((matrix @ hard & 1).astype(np.uint8))
        return hard ^ errors if decoder.converge else None

    return decode


def least_decibels(decode: Decoder, word: NDArray[np.uint8], noise: NDArray[np.float64]) -> float:
    """The least signal to noise at which a word with just this noise is decoded, to 0.02 dB."""
    low, high = 0.0, 10.0
    while high - low > 0.02:
        middle = (low + high) / 2
        std = 10 ** (-middle / 20)
        found = decode(2 * (1 - 2.0 * word + std * noise) / std**2)
        if found is not None and np.array_equal(found, word):
            high = middle
        else:
            low = middle
    return high


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


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_a_ratio_of_zero_is_a_bit_of_zero(zero: float) -> None:
    code = make_code(4, 4, 16)
    decoded, taken = code.decode(np.full((1, code.length), zero, np.float32))
    assert taken[0] == 0 and not decoded.any()


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
