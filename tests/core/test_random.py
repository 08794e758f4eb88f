"""Philox and normals: published answers, reference.py, every level, thread count and chunking."""

from __future__ import annotations

import hashlib
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from core_cases import OFFSETS, RNG, THREADS, Guarded, same_bits
from numpy.typing import NDArray

import noisycells as nc
from noisycells import _core, reference

SEED, STREAM = 12345678901234567890, 987654321987654321
SIZES = (1, 3, 5, 64, 1000)
LONG = 150_003  # pieces for 7 threads, with a ragged end

DATA = Path(__file__).parents[1] / "data"
KNOWN = [
    [int(words[0]), *(int(w, 16) for w in words[1:])]
    for line in (DATA / "philox_kat.txt").read_text().splitlines()
    if (words := line.split("#")[0].split())
]


def words(
    count: int, offset: int = 0, seed: int = SEED, stream: int = STREAM, threads: int = 0
) -> NDArray[np.uint32]:
    out = Guarded(count, np.uint32)
    _core.random_words(out.array, seed, stream, offset, threads)
    out.check()
    return out.array


def normals(
    count: int, offset: int = 0, seed: int = SEED, stream: int = STREAM, threads: int = 0
) -> NDArray[np.float32]:
    out = Guarded(count, np.float32)
    _core.standard_normal(out.array, seed, stream, offset, threads)
    out.check()
    return out.array


DRAWS = {"words": (words, reference.random_words), "normals": (normals, reference.standard_normal)}
draws = pytest.mark.parametrize(("draw", "slow"), DRAWS.values(), ids=DRAWS)


# --------------------------------------------------------------------------- Philox


def test_known_answers_file() -> None:
    assert [row[0] for row in KNOWN] == [7, 7, 7, 10, 10, 10]
    assert all(len(row) == 11 for row in KNOWN)


@pytest.mark.parametrize("row", KNOWN, ids=lambda row: f"{row[0]} rounds {row[1]:08x}")
def test_known_answers(simd_level: str, row: list[int]) -> None:
    rounds, counter, key, expected = row[0], row[1:5], row[5:7], row[7:]
    assert nc.random.philox4x32(counter, key, rounds).tolist() == expected
    assert reference.philox4x32(np.array(counter), np.array(key), rounds).tolist() == expected


def philox_in_integers(counter: list[int], key: list[int], rounds: int) -> list[int]:
    """The definition once more, in Python's integers."""
    a, b, c, d = counter
    k0, k1 = key
    for _ in range(rounds):
        p0, p1 = a * 0xD2511F53, c * 0xCD9E8D57
        a, b, c, d = p1 >> 32 ^ b ^ k0, p1 % 2**32, p0 >> 32 ^ d ^ k1, p0 % 2**32
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return [a, b, c, d]


@pytest.mark.parametrize("rounds", [0, 1, 7, 10, 16])
def test_philox_of_random_counters(simd_level: str, rounds: int) -> None:
    g = RNG(rounds)
    counter = g.integers(0, 2**32, (50, 4), np.uint32)
    key = g.integers(0, 2**32, (50, 2), np.uint32)
    expected = [
        philox_in_integers(c, k, rounds)
        for c, k in zip(counter.tolist(), key.tolist(), strict=True)
    ]
    assert nc.random.philox4x32(counter, key, rounds).tolist() == expected


def test_philox_shapes() -> None:
    counter = RNG(0).integers(0, 2**32, (3, 5, 4), np.uint32)
    key = np.array([1, 2])
    whole = nc.random.philox4x32(counter, key)
    assert whole.dtype == np.uint32 and whole.shape == (3, 5, 4)
    same_bits(whole[2, 3], nc.random.philox4x32(counter[2, 3], key))
    same_bits(nc.random.philox4x32(counter[:, ::2], key), np.ascontiguousarray(whole[:, ::2]))
    assert nc.random.philox4x32(np.zeros((0, 4), np.uint32), key).shape == (0, 4)


def test_counter_layout(simd_level: str) -> None:
    """Element 4 block + lane is word ``lane`` of the counter that reference.py's table states."""
    block = 2**43 + 2**33 + 77
    counter = [block % 2**32, block >> 32, STREAM % 2**32, STREAM >> 32]
    expected = philox_in_integers(counter, [SEED % 2**32, SEED >> 32], 10)
    assert words(4, 4 * block).tolist() == expected


# --------------------------------------------------------------------------- draws


@draws
@pytest.mark.parametrize("offset", OFFSETS)
def test_draws_equal_reference(simd_level: str, draw: Any, slow: Any, offset: int) -> None:
    for count in SIZES:
        same_bits(draw(count, offset), slow(count, SEED, STREAM, offset))


@draws
@pytest.mark.parametrize("seed", [0, 2**64 - 1])
@pytest.mark.parametrize("stream", [0, 2**32, 2**64 - 1])
def test_draws_at_extreme_keys(
    simd_level: str, draw: Any, slow: Any, seed: int, stream: int
) -> None:
    same_bits(draw(70, 2**46 - 70, seed, stream), slow(70, seed, stream, 2**46 - 70))


@draws
@pytest.mark.parametrize("offset", [3, 2**34 - LONG // 2])
def test_draws_do_not_depend_on_threads(simd_level: str, draw: Any, slow: Any, offset: int) -> None:
    expected = slow(LONG, SEED, STREAM, offset)
    for threads in THREADS:
        same_bits(draw(LONG, offset, threads=threads), expected)


@draws
def test_draws_do_not_depend_on_chunks(simd_level: str, draw: Any, slow: Any) -> None:
    offset = 2**34 - 1000
    whole = slow(3000, SEED, STREAM, offset)
    cuts = np.sort(RNG(1).integers(0, 3000, 40))
    pieces = [
        draw(int(b - a), offset + int(a)) for a, b in zip([0, *cuts], [*cuts, 3000], strict=True)
    ]
    same_bits(np.concatenate(pieces), whole)


@draws
def test_draws_are_prefix_stable(simd_level: str, draw: Any, slow: Any) -> None:
    longest = draw(300)
    for count in range(300):
        same_bits(draw(count), longest[:count])


def test_box_muller_is_accurate() -> None:
    """Against float64: a few float32 roundings, no more, over radii and angles."""
    g = RNG(2)
    radius = np.append(g.integers(0, 2**32, 100_000, np.uint32), np.uint32([0, 1, 2, 2**32 - 1]))
    angle = np.append(g.integers(0, 2**32, 100_000, np.uint32), np.uint32([0, 2**31, 5, 2**29]))
    with np.errstate(over="ignore"):
        z0, z1 = reference.box_muller(radius, angle)
    u = (radius >> 1).astype(np.float32) * 2.0**-31 + np.float64(2.0**-32)
    r = np.sqrt(-2 * np.log(u.astype(np.float32).astype(np.float64)))
    turn = 2 * np.pi * angle / 2.0**32
    for z, exact in ((z0, r * np.cos(turn)), (z1, r * np.sin(turn))):
        assert (np.abs(z - exact) <= 3e-7 * r).all()
    assert float(np.hypot(z0, z1).max()) == pytest.approx(math.sqrt(64 * math.log(2)), rel=1e-6)


# One value changed here is a new stream: bump reference.STREAM_VERSION, which files record.
GOLDEN_VERSION = 2
GOLDEN_NORMALS = (
    (
        (0, 0, 0),
        ("0x1.fb76660000000p-1", "-0x1.d96d600000000p-1", "-0x1.3c37400000000p-1",
         "-0x1.eda3660000000p-2", "-0x1.3aa6a60000000p-3", "0x1.7254d00000000p-3"),
    ),
    (
        (SEED, STREAM, 2**34 - 3),
        ("0x1.53182c0000000p-2", "0x1.0d5c1a0000000p-1", "-0x1.844f920000000p-1",
         "-0x1.a8b8260000000p+0", "-0x1.08755e0000000p+1", "0x1.93ea2a0000000p-2"),
    ),
)  # fmt: skip
GOLDEN_FOLD_IN = {
    (0, 0): 9354106043170562467,
    (1, 2): 15954754515190563009,
    (2**64 - 1, 2**64 - 1): 4740103540206151533,
}
GOLDEN_STREAMS = {
    (): 13020603013274838756,
    ("conv1.weight",): 16863681728790405971,
    ("conv1.weight", "side"): 2154848178476130384,
}


def test_golden_values(simd_level: str) -> None:
    assert nc.random.STREAM_VERSION == GOLDEN_VERSION
    for (seed, stream, offset), expected in GOLDEN_NORMALS:
        got = nc.random.standard_normal(len(expected), seed, stream, offset)
        assert tuple(float(z).hex() for z in got) == expected
    for (seed, data), folded in GOLDEN_FOLD_IN.items():
        assert nc.random.fold_in(seed, data) == folded
    for names, number in GOLDEN_STREAMS.items():
        assert nc.random.stream(*names) == number


def test_digests_for_other_machines_are_of_the_reference() -> None:
    """What the C++ tests compare on any processor is, for the draws, what reference.py says."""
    text = (DATA / "core_digests.txt").read_text()
    committed = dict(line.split() for line in text.splitlines())
    sizes = [*range(40), *range(40, 300, 37)]
    crc = {"words": 0, "normals": 0}
    for offset in (0, 1, 2, 3, 130, 2**34 - 7, 2**45 + 1):
        for n in sizes:
            w = reference.random_words(n, SEED, STREAM, offset, reference.STUCK, 65535)
            crc["words"] = zlib.crc32(w.tobytes(), crc["words"])
            z = reference.standard_normal(n, SEED, STREAM, offset)
            crc["normals"] = zlib.crc32(z.tobytes(), crc["normals"])
    z = reference.standard_normal(150_003, SEED, STREAM, 2**34 - 70_001)
    crc["normals"] = zlib.crc32(z.tobytes(), crc["normals"])
    for name, value in crc.items():
        assert committed[name] == f"{value:08x}"


# --------------------------------------------------------------------------- the public functions


def test_standard_normal_shapes() -> None:
    flat = nc.random.standard_normal(24, 5)
    for shape in ((24,), (2, 3, 4), (24, 1)):
        z = nc.random.standard_normal(shape, 5)
        assert z.dtype == np.float32
        same_bits(z, flat.reshape(shape))
    same_bits(nc.random.standard_normal((), 5), flat[0].reshape(()))
    for empty in (0, (0,), (3, 0)):
        assert nc.random.standard_normal(empty, 5).size == 0
    same_bits(nc.random.standard_normal(np.int64(4), 5), flat[:4])


def test_standard_normal_into_out() -> None:
    out = np.full((3, 5), np.nan, np.float32)
    assert nc.random.standard_normal((3, 5), SEED, STREAM, 9, out=out) is out
    same_bits(out.ravel(), reference.standard_normal(15, SEED, STREAM, 9))


def test_standard_normal_reaches_the_last_index() -> None:
    same_bits(
        nc.random.standard_normal(6, 1, offset=2**46 - 6),
        reference.standard_normal(6, 1, offset=2**46 - 6),
    )
    with pytest.raises(ValueError, match=r"^offset: expected offset \+ size <= 2\*\*46"):
        nc.random.standard_normal(7, 1, offset=2**46 - 6)


def read_only() -> np.ndarray:
    array = np.empty(4, np.float32)
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"shape": -1}, ValueError, r"^shape: expected an int >= 0, got -1"),
        ({"shape": (2, -3)}, ValueError, r"^shape: expected an int >= 0, got -3"),
        ({"seed": -1}, ValueError, r"^seed: expected an int in \[0, 2\*\*64\), got -1"),
        ({"seed": 2**64}, ValueError, r"^seed: .* got 18446744073709551616"),
        ({"seed": None}, TypeError, r"^seed: expected an int in \[0, 2\*\*64\), got None"),
        ({"seed": 1.0}, TypeError, r"^seed: expected an int .* got 1.0"),
        ({"stream": -1}, ValueError, r"^stream: expected an int .* got -1"),
        ({"stream": "a"}, TypeError, r"^stream: expected an int .* got 'a'"),
        ({"offset": -1}, ValueError, r"^offset: expected .* got -1"),
        ({"offset": 2**46}, ValueError, r"^offset: expected .* got 70368744177664"),
        ({"out": np.empty(4)}, ValueError, r"^out: expected a writeable C-.* got float64 \(4,\)"),
        ({"out": np.empty(5, np.float32)}, ValueError, r"^out: .* shape \(4,\), got .* \(5,\)"),
        ({"out": np.empty(8, np.float32)[::2]}, ValueError, r"^out: expected a writeable C-"),
        ({"out": read_only()}, ValueError, r"^out: expected a writeable"),
        ({"out": [0.0] * 4}, ValueError, r"^out: .* got list"),
        ({"num_threads": 0}, ValueError, r"^num_threads: expected an int in \[1, 4096\], got 0"),
        ({"num_threads": -1}, ValueError, r"^num_threads: expected an int .* got -1"),
        ({"num_threads": 2.0}, TypeError, r"^num_threads: expected an int, got 2.0"),
    ],
)
def test_standard_normal_errors(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        nc.random.standard_normal(**{"shape": 4, "seed": 1, **arguments})


@pytest.mark.parametrize(
    ("counter", "key", "rounds", "error", "message"),
    [
        ([0, 0, 0], [0, 0], 10, ValueError, r"^counter: expected shape \(..., 4\), got \(3,\)"),
        (0, [0, 0], 10, ValueError, r"^counter: expected shape \(..., 4\), got \(\)"),
        ([0] * 4, [0] * 3, 10, ValueError, r"^key: expected shape \(..., 2\), got \(3,\)"),
        ([0, 0, 0, 2**32], [0, 0], 10, ValueError, r"^counter: expected integers in \[0, 2\*\*32"),
        ([0, 0, 0, -1], [0, 0], 10, ValueError, r"^counter: expected integers in \[0, 2\*\*32\)"),
        ([0] * 4, [0.0, 1.0], 10, TypeError, r"^key: expected integers .* got float64"),
        ([0] * 4, [0, 0], -1, ValueError, r"^rounds: expected an int in \[0, 64\], got -1"),
        ([0] * 4, [0, 0], 65, ValueError, r"^rounds: expected an int in \[0, 64\], got 65"),
        ([0] * 4, [0, 0], 1.5, TypeError, r"^rounds: expected an int, got 1.5"),
    ],
)
def test_philox_errors(
    counter: Any, key: Any, rounds: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        nc.random.philox4x32(counter, key, rounds)


def test_stream_is_blake2b_of_the_path() -> None:
    sizes = [n.to_bytes(8, "little") for n in (12, 4)]
    path = sizes[0] + b"conv1.weight" + sizes[1] + b"side"
    digest = hashlib.blake2b(path, digest_size=8).digest()
    assert nc.random.stream("conv1.weight", "side") == int.from_bytes(digest, "little")
    assert nc.random.stream("a", "b") != nc.random.stream("ab") != nc.random.stream("b", "a")


def test_fold_in_spreads() -> None:
    """No two of 2000 neighboring (seed, number) pairs give one seed."""
    seeds = {nc.random.fold_in(s, d) for s in range(40) for d in range(50)}
    assert len(seeds) == 2000
    assert all(0 <= s < 2**64 for s in seeds)
    w = philox_in_integers([7, 0, 2**32 - 1, 2**32 - 1], [3, 0], 10)
    assert nc.random.fold_in(3, 7) == w[0] | w[1] << 32


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 100_003])
def test_digests_of_blocks_are_as_defined(simd_level: str, size: int) -> None:
    rng = np.random.default_rng(size)
    data = rng.integers(0, 256, size + 1, np.uint8)[1:]  # not aligned
    key = rng.integers(-(2**31), 2**31, 1028).astype(np.int32)
    found = np.empty((-(-size // 4096), 2), np.uint64)
    for threads in (1, 3):
        _core.block_digests(data, key, found, threads)
        assert np.array_equal(found, reference.block_digests(data, key))


def test_content_tells_arrays_apart() -> None:
    """By any bit, by the shape and by the dtype; arrays that are equal have equal digests."""
    array = np.random.default_rng(1).standard_normal((50, 41)).astype(np.float32)
    views = [array, array.reshape(41, 50), array.view(np.int32), array.T, array[:-1]]
    found = {nc.random.content(view) for view in views}
    for bit in range(8 * array.nbytes // 61):
        changed = array.copy()
        changed.view(np.uint8).reshape(-1)[bit * 61 // 8] ^= 1 << bit % 8
        found.add(nc.random.content(changed))
    assert len(found) == len(views) + 8 * array.nbytes // 61
    assert nc.random.content(np.asfortranarray(array)) == nc.random.content(array.copy())
