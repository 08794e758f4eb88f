"""Benchmarks: all contenders of a case do the same job, and the result says what it should.

Nothing here looks at a time. Statistical tests judge p-values of fixed seeds against 1e-7; there
are fewer than 100 of them, so that under other seeds the file would raise a false alarm less than
once in 1e5 times.
"""

from __future__ import annotations

import json
import mmap
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from normal_statistics import p_of_kolmogorov, upper_tail
from numpy.typing import NDArray

import noisycells as nc
from noisycells import _core, benchmarks, reference
from noisycells.benchmarks import (
    CASES,
    Case,
    channels,
    crossbar,
    layers,
    measure,
    measure_crossbar,
    memory,
    timing,
)
from noisycells.benchmarks.cases import least_share, least_speedup, most_time
from noisycells.benchmarks.contenders import OURS, Contenders, chunks
from noisycells.benchmarks.limits import limits, peak
from noisycells.benchmarks.pipeline import Job

F64 = NDArray[np.float64]

N = 20_000
TINY = crossbar.Shape(70, 300, 40)
LIMIT = 1e-7
BY_NAME = {case.name: case for case in CASES}
NAMES = list(BY_NAME)


def prepared(name: str, n: int = N) -> Contenders:
    return BY_NAME[name].prepare(n)


def result(call: Any) -> Any:
    """What a contender returns, the second time: buffers are in use again."""
    call()
    value = call()
    if isinstance(value, tuple):
        return tuple(np.asarray(part).copy() for part in value)
    return np.asarray(value).copy()


def judge_normal(z: F64) -> None:
    """Kolmogorov's test that ``z`` is standard normal."""
    assert np.isfinite(z).all() and len(z) > 1000
    exact = np.array([1 - upper_tail(v) for v in np.sort(z)])
    steps = np.arange(len(z) + 1) / len(z)
    distance = max(np.abs(exact - steps[:-1]).max(), np.abs(exact - steps[1:]).max())
    assert p_of_kolmogorov(float(distance), len(z)) > LIMIT


# ----------------------------------------------------------------- who takes part


@pytest.mark.parametrize("name", NAMES)
def test_contenders_are_those_announced(name: str) -> None:
    pytest.importorskip("torch")
    assert set(prepared(name, 1000)) == {OURS, *BY_NAME[name].rivals}


@pytest.mark.parametrize("name", NAMES)
def test_without_torch(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    expected = {OURS, *(r for r in BY_NAME[name].rivals if not r.startswith("torch"))}
    assert set(prepared(name, 1000)) == expected


def test_names_are_unique() -> None:
    assert len(BY_NAME) == len(CASES) == len({case.title for case in CASES})


@pytest.mark.parametrize("tuned", [False, True])
@pytest.mark.parametrize("n", [0, 1, (1 << 17) - 1, 1 << 17, 400_000])
def test_chunks_cover_everything_once(n: int, tuned: bool) -> None:
    parts = [np.arange(n)[part] for part in chunks(n, tuned)]
    assert (np.concatenate([np.arange(0), *parts]) == np.arange(n)).all()
    assert len(parts) == (-(-n // (1 << 17)) if tuned else min(n, 1))


# ----------------------------------------------------------------- they do the same job


def test_normals_are_standard() -> None:
    for call in prepared("normals").values():
        z = result(call)
        assert z.dtype == np.float32 and z.shape == (N,)
        judge_normal(z.astype(np.float64))


@pytest.mark.parametrize(
    ("name", "cells"), [("channel", 1), ("pcm_array", 1), ("collapse", 4), ("literal", 4)]
)
def test_samples_have_the_channels_moments(name: str, cells: int) -> None:
    cell = nc.devices.pcm_array() if name == "pcm_array" else channels.smooth_cell()
    x = channels.inputs(cell, N)
    assert x.min() < -0.999 and x.max() > 0.999
    for who, call in prepared(name).items():
        y = result(call)
        assert y.dtype == np.float32
        averaged = 1 if who == "own r=1" else cells
        judge_normal((y - cell.mean_at(x)) / cell.std_at(x) * averaged**0.5)


def test_parts_of_tuned_samples_are_all_different() -> None:
    """Every part of the work draws its own noise and fills its own part of the result."""
    n = 300_000
    cell = channels.smooth_cell()
    x = channels.inputs(cell, n)
    for who, call in channels.sample(cell, n).items():
        if "tuned" in who:
            z = (result(call) - cell.mean_at(x)) / cell.std_at(x)
            assert len(np.unique(z)) > 0.9 * n
            judge_normal(z)


@pytest.mark.parametrize("name", ["transmit", "decode"])
def test_read_back_has_the_codecs_moments(name: str) -> None:
    job = Job.of(N)
    magnitude = np.abs(job.weights.astype(np.float64))
    small, large = job.stored.ranges
    assert (small.cells, large.cells) == (4, 1)
    expected = np.zeros(N)
    for r, inside in ((small, magnitude <= small.threshold), (large, magnitude > small.threshold)):
        x = job.cell.inverse(r.alpha * magnitude - r.beta, clip=True)
        expected[inside] = (job.cell.std_at(x) * r.inv_alpha / r.cells**0.5)[inside]
    sign = np.where(job.weights < 0, -1, 1)
    for who, call in prepared(name).items():
        w = result(call)
        assert w.dtype == np.float32, who
        assert not w[~job.mask].any(), who
        z = sign * (w - job.weights.astype(np.float64)) / expected
        for group in (magnitude <= small.threshold, magnitude > small.threshold):
            judge_normal(z[job.mask & group])


def test_encodings_agree() -> None:
    job = Job.of(N)
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
    job = Job.of(4096)
    codes = reference.unpack_bits(result(prepared("side", 4096)[OURS]), 2, 4096)
    assert np.array_equal(codes & 1, job.weights < 0)
    assert np.array_equal(codes >> 1, np.abs(job.weights) > job.stored.ranges[0].threshold)


@pytest.mark.parametrize("name", ["Channel.sample", "Codec.transmit"])
def test_public_calls_give_the_bits_of_the_core(name: str) -> None:
    ours, core = (result(call) for call in prepared(name).values())
    assert ours.tobytes() == core.tobytes()


def test_limits_do_what_they_say() -> None:
    for threads in (1, 3):
        copy = limits(1000, reads=3, writes=1, draws=0.5, threads=threads)
        assert set(copy) == {"memcpy", "Philox"}
        assert copy["memcpy"].amount == 4e-6 and copy["Philox"].amount == 5e-7
        fill = limits(1000, reads=0, writes=4, draws=0, threads=threads)
        assert set(fill) == {"fill"} and fill["fill"].amount == 4e-6
        for limit in (*copy.values(), *fill.values()):
            limit.call()


@pytest.mark.parametrize("integer", [False, True])
def test_peaks_count_their_operations(integer: bool) -> None:
    before = nc.simd_level()
    for level in nc.available_simd_levels():
        nc.set_simd_level(level)
        try:
            one = _core.multiply_adds(integer, 10, 1)
            assert one > 0 and _core.multiply_adds(integer, 30, 1) == 3 * one
            assert _core.multiply_adds(integer, 10, 3) in (3 * one, one)  # one: the serial backend
            limit = peak(integer, 1)
            assert limit.amount > one / 1e9 and limit.call() == round(limit.amount * 1e9)
        finally:
            nc.set_simd_level(before)


# ----------------------------------------------------------------- goals


def test_goals() -> None:
    assert least_speedup("avx512", "normals", "numpy", 1) == 15
    assert least_speedup("avx512", "normals", "torch", 2) == 9.5
    assert least_speedup("avx512", "transmit", "numpy", 2) == 180
    assert least_speedup("avx2", "channel", "torch", 1) == 10
    assert least_speedup("avx512", "normals", "numpy", 3) is None
    assert least_speedup("baseline", "normals", "numpy", 1) is None
    assert least_speedup("avx512", "channel", "numpy tuned", 1) is None
    assert (most_time("avx512", "collapse"), most_time("avx512", "literal")) == (1.05, 2.8)
    assert most_time("avx512", "Channel.sample") is None
    for level in ("avx512_vnni", "amx"):
        assert least_speedup(level, "normals", "numpy", 1) == 15
        assert (most_time(level, "literal"), least_share(level, "unpack")) == (2.8, 0.75)
    assert least_share("avx512", "pack") == 0.75 and least_share("baseline", "pack") is None


def test_every_goal_belongs_to_a_rival() -> None:
    for level in nc.available_simd_levels():
        for case in CASES:
            for rival in ("numpy", "torch"):
                if least_speedup(level, case.name, rival, 1) is not None:
                    assert rival in case.rivals
            if most_time(level, case.name) is not None:
                assert case.rivals == ("own r=1",)


# ----------------------------------------------------------------- a whole run


@pytest.fixture(scope="module")
def whole_run() -> dict[str, Any]:
    steps: list[None] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timing, "_SHORT", 0)
        patch.setattr(timing, "_REST", 0)
        found = benchmarks.run(
            threads=(1, 2), shrink=4096, rounds=2, progress=lambda: steps.append(None)
        )
    assert len(steps) == benchmarks.steps(2, 4096)
    return found


def test_result_is_json(whole_run: dict[str, Any]) -> None:
    assert json.loads(json.dumps(whole_run, allow_nan=False)) == whole_run


def test_machine_line(whole_run: dict[str, Any]) -> None:
    m = whole_run["machine"]
    assert m["simd_level"] == nc.simd_level() and m["noisycells"] == nc.__version__
    assert m["numpy"] == np.__version__ and m["cpu"] and m["cores"] >= 1


def test_rows(whole_run: dict[str, Any]) -> None:
    assert [limit["threads"] for limit in whole_run["limits"]] == [1, 2]
    for limit in whole_run["limits"]:
        assert set(limit) == {"threads", "memcpy", "fill", "Philox"}
    rows = whole_run["rows"]
    assert [(r["threads"], r["case"]) for r in rows] == [(t, n) for t in (1, 2) for n in NAMES]
    for row in rows:
        case = BY_NAME[row["case"]]
        assert row["elements"] == case.size // 4096
        assert [rival["name"] for rival in row["rivals"]] == list(case.rivals)
        check_row(row)


def check_row(row: dict[str, Any]) -> None:
    """Ratios and verdicts follow from the figures."""
    level, ours = nc.simd_level(), row["ours"]
    assert ours["name"] == OURS and 0 < ours["min_ns"] <= ours["median_ns"]
    limit = row["limit"]
    assert limit["name"] in ("memcpy", "fill", "Philox")
    assert limit["share"] == pytest.approx(limit["median_ns"] / ours["median_ns"])
    assert limit["goal"] == least_share(level, row["case"])
    check_verdict(limit, limit["share"] >= (limit["goal"] or 0))
    for rival in row["rivals"]:
        if "missing" in rival:
            assert rival["missing"] == "torch not installed"
        elif rival["name"].startswith("own "):
            assert rival["time"] == pytest.approx(ours["median_ns"] / rival["median_ns"])
            assert rival["goal"] == most_time(level, row["case"])
            check_verdict(rival, rival["time"] <= (rival["goal"] or 0))
        else:
            assert rival["speedup"] == pytest.approx(rival["median_ns"] / ours["median_ns"])
            expected = least_speedup(level, row["case"], rival["name"], row["threads"])
            assert rival["goal"] == expected
            check_verdict(rival, rival["speedup"] >= (rival["goal"] or 0))


def check_verdict(figures: dict[str, Any], met: bool) -> None:
    assert figures["met"] is (None if figures["goal"] is None else met)


def test_crossbar_rows(whole_run: dict[str, Any]) -> None:
    torch_cases = {"peers", "training", "calls", "noise"}
    expected = [case.name for case in measure_crossbar.cases(4096)]
    rows = whole_run["crossbar"]
    for threads in (1, 2):
        some = [row for row in rows if row["threads"] == threads]
        assert list(dict.fromkeys(row["case"] for row in some)) == expected
        jobs = [(row["level"], row["job"]) for row in some if row["case"] == "512x1024x1024"]
        best = nc.simd_level()
        assert {(best, f"{k} {m}") for k in crossbar.KERNELS for m in crossbar.MODES} <= set(jobs)
        if best == "amx":
            assert ("avx512_vnni", "int16 weight noise") in jobs
    for row in rows:
        check_crossbar_row(row)
        assert (row["limit"] is None) == (row["case"] in torch_cases)


def check_crossbar_row(row: dict[str, Any]) -> None:
    """Ratios and verdicts follow from the figures."""
    ours = row["ours"]["median_ms"]
    assert 0 < row["ours"]["min_ms"] <= ours
    if limit := row["limit"]:
        assert limit["name"] in ("memcpy", "Philox", "integer", "float32")
        check_verdict(limit, limit["share"] >= (limit["goal"] or 0))
        assert limit["share"] > 0 and limit["rate"] > 0
    for rival in row["rivals"]:
        if "missing" in rival:
            assert rival["missing"].endswith("not installed") or rival["missing"] == "has none"
        elif "time" in rival:
            assert rival["time"] == pytest.approx(ours / rival["median_ms"])
            check_verdict(rival, rival["time"] <= (rival["goal"] or 0))
        else:
            assert rival["speedup"] == pytest.approx(rival["median_ms"] / ours)
            check_verdict(rival, rival["speedup"] >= (rival["goal"] or 0))


def test_table(whole_run: dict[str, Any]) -> None:
    text = benchmarks.render(whole_run)
    assert "Sizes divided by 4096" in text and "2 threads: memcpy" in text
    assert f"numpy multiplies with {whole_run['machine']['blas'] or 'a BLAS'}" in text
    assert text.count("Peaks, Gop/s: ") == 2
    assert all(len(line) <= 132 for line in text.splitlines())
    for case in CASES:
        assert sum(line.startswith(case.title + " ") for line in text.splitlines()) == 2
    rows = whole_run["rows"] + whole_run["crossbar"]
    rivals = [rival for row in rows for rival in row["rivals"]]
    limits = [row["limit"] for row in rows if row["limit"]]
    judged = [*rivals, *limits, *whole_run["memory"]]
    for case in measure_crossbar.cases(4096):
        assert f"\n{case.title}, {nc.simd_level()}\n" in text
    assert text.count(" MISSED") == sum(figures.get("met") is False for figures in judged)
    assert text.count(" met") == sum(figures.get("met") is True for figures in judged)


def test_table_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr(measure, "CASES", (BY_NAME["normals"],))
    levels = ["baseline"]
    small = crossbar.CrossbarCase("a", "a", "batch", lambda *_: crossbar.products(TINY, levels))
    monkeypatch.setattr(measure_crossbar, "CASES", (small, *layers.CASES))
    found = benchmarks.run(threads=[1], shrink=4096, rounds=1)
    assert found["machine"]["torch"] is None
    assert found["rows"][0]["rivals"][1] == {"name": "torch", "missing": "torch not installed"}
    assert {row["case"] for row in found["crossbar"]} == {"a"}
    for row in found["crossbar"]:
        linear, _, tiles = row["rivals"]
        assert linear["missing"] == tiles["missing"] == "torch not installed"
    assert "torch not installed" in benchmarks.render(found)


def test_settings_are_as_before(thread_setting: None, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def prepare(n: int) -> Contenders:
        return {OURS: lambda: seen.append((nc.simd_level(), nc.get_num_threads(), torch_threads()))}

    def torch_threads() -> int:
        torch = sys.modules.get("torch")
        return 3 if torch is None else torch.get_num_threads()

    monkeypatch.setattr(measure, "CASES", (Case("a", "a", 1 << 16, prepare, (), 1, 1),))
    monkeypatch.setattr(measure_crossbar, "CASES", ())
    nc.set_num_threads(5)
    before = (nc.simd_level(), nc.get_num_threads(), torch_threads())
    lowest = nc.available_simd_levels()[0]
    found = benchmarks.run(threads=[3], level=lowest, shrink=4096, rounds=2)
    assert seen and set(seen) == {(lowest, 3, 3)}
    assert found["machine"]["simd_level"] == lowest
    assert (nc.simd_level(), nc.get_num_threads(), torch_threads()) == before


def test_following_the_runtime_is_as_before(thread_setting: None) -> None:
    threadpoolctl = pytest.importorskip("threadpoolctl")
    nc.set_num_threads(0)
    with timing.num_threads(3):
        assert nc.get_num_threads() == 3
    with threadpoolctl.threadpool_limits(1):
        assert nc.threading_backend() != "openmp" or nc.get_num_threads() == 1


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"threads": [1, 0]}, "threads: expected 1 to 4096, got 0"),
        ({"shrink": 0}, "shrink: expected 1 to 4096, got 0"),
        ({"shrink": 4097}, "shrink: expected 1 to 4096, got 4097"),
        ({"rounds": 0}, "rounds: expected 1 to 10000, got 0"),
        ({"level": "mmx"}, "level: expected one of .*, got 'mmx'"),
    ],
)
def test_bad_arguments(chosen: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        benchmarks.run(**chosen)


# ----------------------------------------------------------------- memory

linux = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="only Linux tells the peak"
)


@linux
def test_peak_sees_what_is_not_returned() -> None:
    size = 64_000_000

    def ones() -> Any:
        """Not from memory that the allocator still holds."""
        array = np.frombuffer(mmap.mmap(-1, size), np.uint8)
        array.fill(1)
        return array

    returned, extra = memory.peak(lambda: [ones()])
    assert returned == size and extra < 2e6

    def with_a_temporary() -> list[Any]:
        temporary, result = ones(), ones()
        result += temporary
        return [result]

    returned, extra = memory.peak(with_a_temporary)
    assert returned == size and abs(extra - size) < 2e6


@linux
def test_encoding_and_reading_take_little_more_than_they_return() -> None:
    rows = memory.extra_memory(4_000_000)
    assert [row["call"] for row in rows] == ["Codec.encode", "StoredTensor.read", "Codec.transmit"]
    for row in rows:
        assert row["outputs_mb"] > 15 and row["met"], row


def test_where_the_system_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise FileNotFoundError

    monkeypatch.setattr(memory, "peak", refuse)
    rows = memory.measure(1000)
    assert [set(row) for row in rows] == [{"call", "missing"}] * 3
