"""Cases of the coded mode: all contenders do the same."""

from __future__ import annotations

import lzma

import numpy as np
import pytest

from bench.cases import coding
from noisycells.speed.cases import OURS


@pytest.mark.parametrize("name", coding.CODES)
def test_decoders_find_the_words(name: str) -> None:
    pytest.importorskip("ldpc")  # of the extra test
    words = coding.ldpc_encode(30_000, name)[OURS]()
    calls = coding.ldpc_decode(30_000, name)
    found, taken = calls[OURS]()
    assert (taken > 0).all() and np.array_equal(found, words)
    assert np.array_equal(calls[coding.SUM_PRODUCT](), words)
    assert (calls[coding.MIN_SUM]() == words).all(axis=1).any()


def test_integers_come_back() -> None:
    encoded, decoded = coding.entropy_encode(4096), coding.entropy_decode(4096)
    values = decoded[OURS]()
    assert np.abs(values).max() > 8 and 0.7 < (values == 0).mean() < 0.9
    assert np.array_equal(np.frombuffer(decoded["lzma"](), np.int8), values.ravel())
    assert len(encoded[OURS]()) < len(encoded["lzma"]())
    assert np.array_equal(
        np.frombuffer(lzma.decompress(encoded["lzma"]()), np.int8), values.ravel()
    )


def test_feedback_rounds_to_multiples() -> None:
    rounded = coding.feed_back(2048)[OURS]()
    assert rounded.shape == (4, coding.INPUTS) and np.array_equal(rounded * 4, np.rint(rounded * 4))
