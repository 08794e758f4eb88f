"""Cases of the coded mode: error feedback, entropy coding, and the error-correcting code."""

from __future__ import annotations

import importlib
import lzma
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisycells.speed.cases import OURS
from noisycells.speed.timing import Call, Contenders
from noisycells.storage import entropy, feedback
from noisycells.storage.ldpc import Code, make_code

from .case import Case
from .storage import Sized

__all__ = ["CASES", "JOBS"]

SUM_PRODUCT, MIN_SUM = "ldpc exact", "ldpc min-sum"
"""Decoders of J. Roffe's package `ldpc`, of sum-product and scaled min-sum, in one thread."""
INPUTS = 512  # of a layer
CODES = {"4 levels": (16, 240, 32, 0.0, 4), "8 levels": (16, 29, 256, 0.18, 3)}
DECIBELS = {"4 levels": 7.4, "8 levels": 2.8}
"""Codes as blocks of cells of 4 and 8 levels have them, and signals to noise they are made for."""


def feed_back(n: int) -> Contenders:
    """Multiples of a step, errors fed back within rows of 512."""
    weights, moments = _weights(n), _moments()
    rounding = feedback.uniform(0.25)
    return {OURS: lambda: feedback.round_matrix(weights, rounding, moments, None)}


def entropy_encode(n: int) -> Contenders:
    """Multiples of a step of which 80 % are 0."""
    values = _multiples(n)
    return {OURS: lambda: entropy.encode(values), "lzma": _lzma(values)}


def entropy_decode(n: int) -> Contenders:
    """And back."""
    values = _multiples(n)
    code, packed = entropy.encode(values), _lzma(values)()
    return {
        OURS: lambda: entropy.decode(code, values.shape),
        "lzma": lambda: lzma.decompress(packed),
    }


def ldpc_encode(n: int, name: str) -> Contenders:
    """``n`` bits of information, in whole words."""
    code = make_code(*CODES[name])
    bits = _bits(n, code)
    return {OURS: lambda: code.encode(bits)}


def ldpc_decode(n: int, name: str) -> Contenders:
    """Words as they come from cells of the noise that the code is made for."""
    code = make_code(*CODES[name])
    words = code.encode(_bits(n, code))
    std = 10 ** (-DECIBELS[name] / 20)
    y = 1 - 2.0 * words + std * np.random.default_rng(8).standard_normal(words.shape)
    llr = (2 * y / std**2).astype(np.float32)
    calls: Contenders = {OURS: lambda: code.decode(llr)}
    for rival, method in ((SUM_PRODUCT, "product_sum"), (MIN_SUM, "minimum_sum")):
        if (call := _theirs(code, llr, method)) is not None:
            calls[rival] = call
    return calls


def _theirs(code: Code, llr: NDArray[np.float32], method: str) -> Call | None:
    """Belief propagation by `ldpc`, which looks for the errors of hard decisions."""
    try:
        ldpc = importlib.import_module("ldpc")
        sparse = importlib.import_module("scipy.sparse")
    except ImportError:
        return None
    row, column, shift = code.edges.T
    lanes = np.arange(code.lanes)
    checks = (row[:, None] * code.lanes + lanes).ravel()
    bits = (column[:, None] * code.lanes + (lanes + shift[:, None]) % code.lanes).ravel()
    matrix = sparse.csr_matrix((np.ones(checks.size, np.uint8), (checks, bits)))
    decoder = ldpc.BpDecoder(
        matrix, error_rate=0.1, max_iter=100, bp_method=method, ms_scaling_factor=0.75,
        input_vector_type="syndrome",
    )  # fmt: skip
    hard = (llr < 0).astype(np.uint8)
    chances = 1 / (1 + np.exp(np.minimum(np.abs(llr.astype(np.float64)), 30)))
    syndromes = (matrix @ hard.T & 1).astype(np.uint8).T

    def call() -> Any:
        found = np.empty_like(hard)
        for k in range(len(hard)):
            decoder.update_channel_probs(chances[k])
            found[k] = hard[k] ^ decoder.decode(syndromes[k])
        return found

    return call


def _bits(n: int, code: Code) -> NDArray[np.uint8]:
    words = max(1, n // code.information)
    return np.random.default_rng(7).integers(0, 2, (words, code.information), np.uint8)


def _weights(n: int) -> NDArray[np.float64]:
    rows = max(1, n // INPUTS)
    return np.random.default_rng(9).standard_normal((rows, INPUTS))


def _multiples(n: int) -> NDArray[np.int32]:
    weights = _weights(n)
    return np.where(np.abs(weights) > 1.2816, np.rint(weights / 0.25), 0).astype(np.int32)


def _moments() -> NDArray[np.float64]:
    inputs = np.random.default_rng(10).standard_normal((2 * INPUTS, INPUTS)).clip(min=0)
    moments: NDArray[np.float64] = inputs.T @ inputs / len(inputs)
    return moments


def _lzma(values: NDArray[np.int32]) -> Call:
    small = values.astype(np.int8).tobytes()
    return lambda: lzma.compress(small)


_M = 1 << 20
_RIVALS = (SUM_PRODUCT, MIN_SUM)

JOBS: dict[str, Sized] = {
    "feedback": Sized("rounding with feedback", _M, feed_back, (), 8, 8),
    "entropy encode": Sized("entropy coding", 4 * _M, entropy_encode, ("lzma",), 4, 0),
    "entropy decode": Sized("entropy decoding", 4 * _M, entropy_decode, ("lzma",), 0, 4),
    **{
        f"code {name}": Sized(f"parity, {name}", _M, partial(ldpc_encode, name=name), (), 1, 1)
        for name in CODES
    },
    **{
        f"decode {name}": Sized(
            f"decoding, {name}", _M // 2, partial(ldpc_decode, name=name), _RIVALS, 4, 1,
        )
        for name in CODES
    },
}  # fmt: skip

CASES: tuple[Case, ...] = tuple(
    Case(name, sized.title, name, sized.field) for name, sized in JOBS.items()
)
