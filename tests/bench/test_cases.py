"""Cases of sampling and storage: all contenders do the same job.

Nothing here looks at a time. Statistical tests judge p-values of fixed seeds against 1e-7; there
are fewer than 100 of them, so that under other seeds the file would raise a false alarm less than
once in 1e5 times.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from normal_statistics import p_of_standard_normal

import noisycells as nc
from bench.cases import storage
from bench.cases.storage import JOBS
from bench.rivals import CHUNK, chunks
from noisycells import reference
from noisycells.speed.cases import OURS, Weights, cell_inputs, smooth_cell
from noisycells.speed.timing import Contenders

N = 20_000
LIMIT = 1e-7


def prepared(name: str, n: int = N) -> Contenders:
    return JOBS[name].contend(n)


def result(call: Any) -> Any:
    """What a contender returns, the second time: buffers are in use again."""
    call()
    value = call()
    if isinstance(value, tuple):
        return tuple(np.asarray(part).copy() for part in value)
    return np.asarray(value).copy()


# ----------------------------------------------------------------- who takes part


@pytest.mark.parametrize("name", JOBS)
def test_contenders_are_those_announced(name: str) -> None:
    pytest.importorskip("torch")
    assert set(prepared(name, 1000)) == {OURS, *JOBS[name].rivals}


@pytest.mark.parametrize("name", JOBS)
def test_without_torch(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    expected = {OURS, *(r for r in JOBS[name].rivals if not r.startswith("torch"))}
    assert set(prepared(name, 1000)) == expected


@pytest.mark.parametrize("n", [0, 1, CHUNK - 1, CHUNK, 400_000])
def test_chunks_cover_everything_once(n: int) -> None:
    parts = [np.arange(n)[part] for part in chunks(n)]
    assert (np.concatenate([np.arange(0), *parts]) == np.arange(n)).all()
    assert len(parts) == -(-n // CHUNK)


def test_a_field_says_what_the_job_takes() -> None:
    field = JOBS["encode"].field(64, [])
    n = JOBS["encode"].size // 64
    (job,) = field.jobs
    assert job.work is not None
    assert field.elements == n and OURS not in field.rivals and job.name == OURS
    # float32 in and out of nine in ten, a bit of mask each, two bits of side code each stored.
    assert job.work.reads == n * 4.125 and job.work.writes == pytest.approx(n * 0.9 * 4.25)


# ----------------------------------------------------------------- they do the same job


def test_normals_are_standard() -> None:
    for call in prepared("normals").values():
        z = result(call)
        assert z.dtype == np.float32 and z.shape == (N,)
        assert p_of_standard_normal(z.astype(np.float64)) > LIMIT


@pytest.mark.parametrize(
    ("name", "cells"), [("channel", 1), ("pcm_array", 1), ("collapse", 4), ("literal", 4)]
)
def test_samples_have_the_channels_moments(name: str, cells: int) -> None:
    cell = nc.devices.pcm_array() if name == "pcm_array" else smooth_cell()
    x = cell_inputs(cell, N)
    assert x.min() < -0.999 and x.max() > 0.999
    for who, call in prepared(name).items():
        y = result(call)
        assert y.dtype == np.float32
        averaged = 1 if who == "own r=1" else cells
        assert p_of_standard_normal((y - cell.mean_at(x)) / cell.std_at(x) * averaged**0.5) > LIMIT


def test_parts_of_tuned_samples_are_all_different() -> None:
    """Every part of the work draws its own noise and fills its own part of the result."""
    n = 300_000
    cell = smooth_cell()
    x = cell_inputs(cell, n)
    for who, call in storage.sample(cell, n).items():
        if "tuned" in who:
            z = (result(call) - cell.mean_at(x)) / cell.std_at(x)
            assert len(np.unique(z)) > 0.9 * n
            assert p_of_standard_normal(z) > LIMIT


@pytest.mark.parametrize("name", ["transmit", "decode"])
def test_read_back_has_the_codecs_moments(name: str) -> None:
    job = Weights.of(N)
    magnitude = np.abs(job.values.astype(np.float64))
    small, large = job.stored.ranges
    assert (small.cells, large.cells) == (4, 1)
    expected = np.zeros(N)
    for r, inside in ((small, magnitude <= small.threshold), (large, magnitude > small.threshold)):
        x = job.cell.inverse(r.alpha * magnitude - r.beta, clip=True)
        expected[inside] = (job.cell.std_at(x) * r.inv_alpha / r.cells**0.5)[inside]
    sign = np.where(job.values < 0, -1, 1)
    for who, call in prepared(name).items():
        w = result(call)
        assert w.dtype == np.float32, who
        assert not w[~job.mask].any(), who
        z = sign * (w - job.values.astype(np.float64)) / expected
        for group in (magnitude <= small.threshold, magnitude > small.threshold):
            assert p_of_standard_normal(z[job.mask & group]) > LIMIT


def test_encodings_agree() -> None:
    job = Weights.of(N)
    calls = prepared("encode")
    levels, side = result(calls.pop(OURS))
    assert np.array_equal(levels, job.stored.levels) and np.array_equal(side, job.stored.side)
    for who, call in calls.items():
        x, codes = result(call)
        assert np.array_equal(codes, side), who
        # Where the mean is flat its inverse is steep, and the tables' knots differ.
        np.testing.assert_allclose(job.cell.mean_at(x), job.cell.mean_at(levels), atol=5e-6)
        np.testing.assert_allclose(x, levels, atol=2e-3)


@pytest.mark.parametrize("name", ["pack", "unpack", "side", "pack_bits"])
def test_codes_agree_exactly(name: str) -> None:
    calls = prepared(name)
    ours = result(calls.pop(OURS))
    assert ours.dtype == np.uint8 and len(np.unique(ours)) >= 4
    for who, call in calls.items():
        assert np.array_equal(result(call), ours), who


def test_packing_is_that_of_the_reference() -> None:
    codes = result(prepared("unpack", 4096)[OURS])
    packed = result(prepared("pack", 4096)[OURS])
    assert np.array_equal(reference.pack_bits(reference.unpack_bits(packed, 2, 4096), 2), packed)
    assert codes.shape == (4096,) and codes.max() == 3


def test_side_codes_are_those_of_all_weights() -> None:
    job = Weights.of(4096)
    codes = reference.unpack_bits(result(prepared("side", 4096)[OURS]), 2, 4096)
    assert np.array_equal(codes & 1, job.values < 0)
    assert np.array_equal(codes >> 1, np.abs(job.values) > job.stored.ranges[0].threshold)


@pytest.mark.parametrize("name", ["Channel.sample", "Codec.transmit"])
def test_public_calls_give_the_bits_of_the_core(name: str) -> None:
    ours, core = (result(call) for call in prepared(name).values())
    assert ours.tobytes() == core.tobytes()
