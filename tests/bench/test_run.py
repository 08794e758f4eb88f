"""The whole benchmark: figures, ratios, shares of limits, goals, and the memory that calls take.

Nothing here looks at a time.
"""

from __future__ import annotations

import json
import mmap
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bench
import noisycells as nc
from bench import cases, measure, memory
from bench.cases import coding, crossbar, layers, storage
from bench.cases.case import Case, Field, Job, Work
from bench.goals import is_time, least_share, least_speedup, most_time
from bench.limits import limits, peak
from bench.peak import multiply_adds
from bench.report import render
from noisycells.speed import timing
from noisycells.speed.cases import OURS

ROOT = Path(bench.__file__).parents[1]
TINY = crossbar.Shape(70, 300, 40)
SIZED = storage.JOBS | coding.JOBS
NAMES = list(SIZED)


def test_limits_do_what_they_say() -> None:
    for threads in (1, 3):
        copy = limits(reads=3000, writes=1000, draws=500, threads=threads)
        assert set(copy) == {"memcpy", "Philox"}
        assert copy["memcpy"].amount == 4e-6 and copy["Philox"].amount == 5e-7
        fill = limits(reads=0, writes=4000, draws=0, threads=threads)
        assert set(fill) == {"fill"} and fill["fill"].amount == 4e-6
        for limit in (*copy.values(), *fill.values()):
            limit.call()


@pytest.mark.parametrize("integer", [False, True])
def test_peaks_count_their_operations(integer: bool) -> None:
    before = nc.simd_level()
    for level in nc.available_simd_levels():
        nc.set_simd_level(level)
        try:
            one = multiply_adds(integer, 10, 1)
            assert one > 0 and multiply_adds(integer, 30, 1) == 3 * one
            assert multiply_adds(integer, 10, 3) in (3 * one, one)  # one: the serial backend
            limit = peak(integer, 1)
            assert limit.amount > one / 1e9 and limit.call() == round(limit.amount * 1e9)
        finally:
            nc.set_simd_level(before)


# ----------------------------------------------------------------- goals


def test_goals_of_storage() -> None:
    for level in ("avx512", "avx512_vnni", "amx"):
        assert least_speedup(level, "normals", OURS, "numpy", 1) == 15
        assert least_speedup(level, "normals", OURS, "torch", 2) == 9.5
        assert least_speedup(level, "transmit", OURS, "numpy", 2) == 180
        assert most_time(level, "collapse", OURS, "own r=1", 1) == 1.05
        assert most_time(level, "literal", OURS, "own r=1", 2) == 2.8
        assert least_share(level, "pack", OURS) == least_share(level, "unpack", OURS) == 0.75
    assert least_speedup("avx2", "channel", OURS, "torch", 1) == 10
    assert least_speedup("avx512", "normals", OURS, "numpy", 3) is None
    assert least_speedup("baseline", "normals", OURS, "numpy", 1) is None
    assert least_speedup("avx512", "channel", OURS, "numpy tuned", 1) is None
    assert most_time("avx512", "Channel.sample", OURS, "own core", 1) is None
    assert least_share("baseline", "pack", OURS) is None


def test_goals_of_crossbars() -> None:
    most, least = most_time, least_speedup
    for level in ("avx512", "avx512_vnni", "amx"):
        assert most(level, "batch", "int16 ADC only", "F.linear", 1) == 0.35
        assert most(level, "batch", "float32 weight noise", "F.linear", 2) == 1.3
        assert most(level, "batch", "int16 output noise", "np.matmul", 2) == 0.80
        assert most(level, "fresh", "int16 ADC only", "F.linear", 1) == 0.40
        tiles = "tile by tile, output noise"
        assert least(level, "convolution", "int16 output noise", tiles, 1) == 3.7
        assert least_share(level, "512x1024x1024", "int16 ADC only") == 0.70
    assert most("avx2", "vector", "int16 weight noise", "F.linear", 2) == 0.7
    assert least("avx2", "batch", "int16 ADC only", "tile by tile, ADC only", 2) is None
    assert most("baseline", "batch", "int16 ADC only", "F.linear", 1) is None
    assert most("avx512", "batch", "int8 ADC only", "F.linear", 1) is None
    assert most("avx512", "batch", "int16 ADC only", "F.linear", 3) is None
    assert most("avx512", "training", "input range fixed", "plain torch", 1) == 2.5
    assert most("avx2", "noise", "Gaussian", "plain torch", 2) == 1.10
    assert least("avx512", "program", "two devices a weight", "torch", 2) == 8


def test_what_counts_against_a_rival() -> None:
    assert all(map(is_time, ("own r=1", "F.linear", "np.matmul", "plain torch")))
    assert not any(map(is_time, ("numpy", "torch", "torch tuned", "aihwkit", "W + s randn")))


# ----------------------------------------------------------------- a whole run


@pytest.fixture(scope="module")
def whole_run() -> dict[str, Any]:
    steps: list[None] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timing, "SHORT_SECONDS", 0)
        patch.setattr(timing, "REST_SECONDS", 0)
        found = measure.run(
            threads=(1, 2), shrink=4096, rounds=2, progress=lambda: steps.append(None)
        )
    assert len(steps) == measure.steps(2, 4096)
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
        case = SIZED[row["case"]]
        assert row["elements"] == case.size // 4096 and row["title"] == case.title
        assert [rival["name"] for rival in row["rivals"]] == list(case.rivals)
        check_row(row)


def check_row(row: dict[str, Any]) -> None:
    """Ratios and verdicts follow from the figures."""
    level, unit = row["level"], "ns" if "elements" in row else "ms"
    ours = row["ours"][f"median_{unit}"]
    assert 0 < row["ours"][f"min_{unit}"] <= ours
    if limit := row["limit"]:
        assert limit["name"] in ("memcpy", "fill", "Philox", "integer", "float32")
        assert limit["share"] > 0 and limit["rate"] > 0
        assert limit["goal"] == least_share(level, row["case"], row["job"])
        check_verdict(limit, limit["share"] >= (limit["goal"] or 0))
    (kind,) = {case.kind for case in cases.CASES if case.name == row["case"]}
    for rival in row["rivals"]:
        key = (level, kind, row["job"], rival["name"], row["threads"])
        if "missing" in rival:
            assert rival["missing"].endswith("not installed") or rival["missing"] == "has none"
        elif is_time(rival["name"]):
            assert rival["time"] == pytest.approx(ours / rival[f"median_{unit}"])
            assert rival["goal"] == most_time(*key)
            check_verdict(rival, rival["time"] <= (rival["goal"] or 0))
        else:
            assert rival["speedup"] == pytest.approx(rival[f"median_{unit}"] / ours)
            assert rival["goal"] == least_speedup(*key)
            check_verdict(rival, rival["speedup"] >= (rival["goal"] or 0))


def check_verdict(figures: dict[str, Any], met: bool) -> None:
    assert figures["met"] is (None if figures["goal"] is None else met)


def crossbar_cases() -> list[Case]:
    return [case for case in cases.of_run(4096) if case.name not in SIZED]


def test_crossbar_rows(whole_run: dict[str, Any]) -> None:
    torch_cases = {"peers", "training", "calls", "noise", "encoder"}
    expected = [case.name for case in crossbar_cases()]
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
        check_row(row)
        assert (row["limit"] is None) == (row["case"] in torch_cases)


def test_table(whole_run: dict[str, Any]) -> None:
    text = render(whole_run)
    assert "Sizes divided by 4096" in text and "2 threads: memcpy" in text
    assert f"numpy multiplies with {whole_run['machine']['blas'] or 'a BLAS'}" in text
    assert text.count("Peaks, Gop/s: ") == 2
    assert all(len(line) <= 132 for line in text.splitlines())
    for case in (*storage.CASES, *coding.CASES):
        assert sum(line.startswith(case.title + " ") for line in text.splitlines()) == 2
    rows = whole_run["rows"] + whole_run["crossbar"]
    rivals = [rival for row in rows for rival in row["rivals"]]
    limits = [row["limit"] for row in rows if row["limit"]]
    judged = [*rivals, *limits, *whole_run["memory"]]
    for case in crossbar_cases():
        assert f"\n{case.title}, {nc.simd_level()}\n" in text
    assert text.count(" MISSED") == sum(figures.get("met") is False for figures in judged)
    assert text.count(" met") == sum(figures.get("met") is True for figures in judged)


@pytest.mark.parametrize("name", ["speed.json", "speed-avx2.json", "speed-zen5.json"])
def test_recorded_runs_are_read(name: str) -> None:
    found = ROOT / "bench" / "results" / name
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--show", str(found)],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    recorded = json.loads(found.read_text())
    assert done.stdout == render(recorded) + "\n"
    assert recorded["machine"]["cpu"] in done.stdout
    rows = recorded["rows"] + recorded["crossbar"]
    judged = [rival for row in rows for rival in row["rivals"]] + recorded["memory"]
    judged += [row["limit"] for row in rows if row["limit"]]
    assert len(rows) > 100 and done.stdout.count(" MISSED") == sum(
        figures.get("met") is False for figures in judged
    )


def test_share_of_the_limit_that_takes_longest() -> None:
    """2 ms for what takes 1 ms by memcpy, 0.5 ms by Philox and 0.8 ms by arithmetic."""
    taken = {"memcpy": [1.0], "Philox": [0.5], "integer at avx2": [0.8]}
    bounds = {name: measure.Limit(lambda: None, 2.0, "G/s") for name in taken}
    case = Case("a", "a", "a", lambda *_: Field([], {}))
    work = Work("int16", operations=2e6, reads=1e6, writes=1e6, draws=2e6)
    job = Job("b", lambda: None, (), "avx2", work)
    assert measure._limit(case, job, 2e-3, taken, bounds) == {
        "name": "memcpy", "rate": 2.0, "unit": "G/s", "share": pytest.approx(0.5), "goal": None,
        "met": None,
    }  # fmt: skip
    only_writes = {"fill": bounds["memcpy"], "Philox": bounds["Philox"]}
    taken["fill"] = [1.0]
    job = job._replace(work=Work("", 0, 0, 1e6, 4e6))
    found = measure._limit(case, job, 2e-3, taken, only_writes)
    assert (found["name"], found["share"]) == ("Philox", pytest.approx(0.5))


def test_table_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    (normals,) = (case for case in storage.CASES if case.name == "normals")
    small = Case("a", "a", "batch", lambda *_: crossbar.products(TINY, ["baseline"]))
    monkeypatch.setattr(cases, "CASES", (normals, small, *layers.CASES))
    found = measure.run(threads=[1], shrink=4096, rounds=1)
    assert found["machine"]["torch"] is None
    assert found["rows"][0]["rivals"][1] == {"name": "torch", "missing": "torch not installed"}
    assert {row["case"] for row in found["crossbar"]} == {"a"}
    for row in found["crossbar"]:
        linear, _, tiles = row["rivals"]
        assert linear["missing"] == tiles["missing"] == "torch not installed"
    assert "torch not installed" in render(found)


def test_settings_are_as_before(thread_setting: None, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def torch_threads() -> int:
        torch = sys.modules.get("torch")
        return 3 if torch is None else torch.get_num_threads()

    def settings() -> tuple[str, int, int]:
        return nc.simd_level(), nc.get_num_threads(), torch_threads()

    field = Field([Job(OURS, lambda: seen.append(settings()), ())], {}, elements=1)
    monkeypatch.setattr(cases, "CASES", (Case("a", "a", "a", lambda *_: field),))
    nc.set_num_threads(5)
    before = settings()
    lowest = nc.available_simd_levels()[0]
    found = measure.run(threads=[3], level=lowest, shrink=4096, rounds=2)
    assert seen and set(seen) == {(lowest, 3, 3)}
    assert found["machine"]["simd_level"] == lowest
    assert settings() == before


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
        measure.run(**chosen)


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
