"""The cases of the benchmark and what each should reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .. import devices
from . import bits, channels, pipeline
from .contenders import OWN, Contenders

__all__ = ["CASES", "Case", "family", "least_share", "least_speedup", "most_time"]


@dataclass(frozen=True)
class Case:
    """One job and all who do it.

    Attributes
    ----------
    name, title : str
        For programs and for people.
    size : int
        Elements in a full run.
    prepare : callable
        Makes the inputs for a number of elements, a multiple of 4, and returns the contenders.
    rivals : tuple of str
        Names of those to be compared with; torch may be missing.
    reads, writes : float
        Bytes an element that the job cannot do without.
    draws : float
        Random words an element.
    """

    name: str
    title: str
    size: int
    prepare: Callable[[int], Contenders]
    rivals: tuple[str, ...]
    reads: float
    writes: float
    draws: float = 0.0


_M = 1 << 20
_PLAIN = ("numpy", "torch")
_ALL = ("numpy", "numpy tuned", "torch", "torch tuned")
_KEPT = pipeline.KEPT
_SIDE, _MASK = 2 / 8, 1 / 8  # bytes of side code a stored weight and of mask a weight

CASES: tuple[Case, ...] = (
    Case("normals", "standard normals", 16 * _M, channels.normals, _PLAIN, 0, 4, 1),
    Case(
        "channel", "channel r=1, 1024 rows", 4 * _M,
        lambda n: channels.sample(channels.smooth_cell(), n), _ALL, 4, 4, 1,
    ),
    Case(
        "pcm_array", "channel r=1, pcm_array", 4 * _M,
        lambda n: channels.sample(devices.pcm_array(), n), _ALL, 4, 4, 1,
    ),
    Case(
        "collapse", "channel r=4, collapsed", 4 * _M,
        lambda n: channels.averages(n, False), (OWN + "r=1",), 4, 4, 1,
    ),
    Case(
        "literal", "channel r=4, every cell", 4 * _M,
        lambda n: channels.averages(n, True), (OWN + "r=1",), 4, 4, 4,
    ),
    Case(
        "transmit", "encode, channel, decode", 4 * _M,
        lambda n: pipeline.contend(n, "transmit"), _ALL, 4 + _MASK, 4, _KEPT,
    ),
    Case(
        "encode", "encode alone", 4 * _M,
        lambda n: pipeline.contend(n, "encode"), _PLAIN, 4 + _MASK, _KEPT * (4 + _SIDE),
    ),
    Case(
        "decode", "channel and decode alone", 4 * _M,
        lambda n: pipeline.contend(n, "decode"), _PLAIN, _KEPT * (4 + _SIDE) + _MASK, 4, _KEPT,
    ),
    Case("pack", "pack 2-bit codes", 64 * _M, bits.pack, ("numpy", "numpy tuned"), 1, 1 / 4),
    Case("unpack", "unpack 2-bit codes", 64 * _M, bits.unpack, ("numpy",), 1 / 4, 1),
    Case("side", "2-bit codes from float32", 16 * _M, pipeline.side, ("numpy",), 4, _SIDE),
    Case(
        "Channel.sample", "Channel.sample, r=1", 4 * _M,
        channels.sample_call, (OWN + "core",), 4, 4, 1,
    ),
    Case(
        "Codec.transmit", "Codec.transmit", 4 * _M,
        pipeline.transmit_call, (OWN + "core",), 4 + _MASK, 4, _KEPT,
    ),
    Case("pack_bits", "pack_bits, 2 bits", 64 * _M, bits.pack_call, (OWN + "core",), 1, 1 / 4),
)  # fmt: skip

# How many times faster than a rival, at least, with 1 and with 2 threads.
_SPEEDUPS: dict[str, dict[tuple[str, str], tuple[float, float]]] = {
    "avx512": {
        ("normals", "numpy"): (15, 30),
        ("normals", "torch"): (4.8, 9.5),
        ("channel", "numpy"): (130, 250),
        ("channel", "torch"): (20, 30),
        ("transmit", "numpy"): (90, 180),
        ("transmit", "torch"): (14, 20),
        ("pack", "numpy"): (10, 20),
        ("unpack", "numpy"): (10, 20),
        ("side", "numpy"): (7.5, 16),
    },
    "avx2": {
        ("normals", "numpy"): (6, 12),
        ("normals", "torch"): (1.9, 3.8),
        ("channel", "numpy"): (65, 130),
        ("channel", "torch"): (10, 16),
        ("transmit", "numpy"): (60, 120),
        ("transmit", "torch"): (9.5, 13),
        ("pack", "numpy"): (10, 20),
        ("unpack", "numpy"): (10, 20),
        ("side", "numpy"): (7.5, 16),
    },
}
# How many times as long as the package's own rival, at most.
_TIMES: dict[str, dict[str, float]] = {
    "avx512": {"collapse": 1.05, "literal": 2.8},
    "avx2": {"collapse": 1.05, "literal": 3.3},
}
# How much of the binding limit, at least.
_SHARES = {"avx512": {"pack": 0.75, "unpack": 0.75}, "avx2": {"pack": 0.75, "unpack": 0.75}}


def family(level: str) -> str:
    """The SIMD level whose goals are those of ``level``."""
    return "avx512" if level in ("avx512_vnni", "amx") else level


def least_speedup(level: str, case: str, rival: str, threads: int) -> float | None:
    """The goal against a rival, at a SIMD level; None where there is none."""
    goals = _SPEEDUPS.get(family(level), {}).get((case, rival))
    return None if goals is None or threads > 2 else goals[threads - 1]


def most_time(level: str, case: str) -> float | None:
    """The goal relative to the package's own rival."""
    return _TIMES.get(family(level), {}).get(case)


def least_share(level: str, case: str) -> float | None:
    """The goal relative to the limit of the machine."""
    return _SHARES.get(family(level), {}).get(case)
