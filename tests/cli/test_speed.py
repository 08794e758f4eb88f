"""``noisycells bench``: contenders do the same job, in turn, and the figures say what they should.

Nothing here looks at a time. Statistical tests judge p-values of fixed seeds against 1e-7; there
are fewer than 20 of them.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import pytest
from normal_statistics import p_of_standard_normal

import noisycells as nc
from noisycells import speed
from noisycells.speed import cases, timing
from noisycells.speed.cases import OURS, Weights

N = 20_000
LIMIT = 1e-7


def result(call: Any) -> Any:
    """What a contender returns, the second time: buffers are in use again."""
    call()
    return np.asarray(call()).copy()


@pytest.mark.parametrize("case", cases.CASES, ids=lambda case: case.title)
def test_contenders(case: cases.Case, monkeypatch: pytest.MonkeyPatch) -> None:
    others = {"torch"} if timing.torch_or_none() else set()
    assert set(case.prepare(64)) == {OURS, "numpy"} | others
    monkeypatch.setitem(sys.modules, "torch", None)
    assert set(case.prepare(64)) == {OURS, "numpy"}


def test_normals_are_standard() -> None:
    for call in cases.normals(N).values():
        z = result(call)
        assert z.dtype == np.float32 and z.shape == (N,)
        assert p_of_standard_normal(z.astype(np.float64)) > LIMIT


def test_samples_have_the_channels_moments() -> None:
    cell = cases.smooth_cell()
    x = cases.cell_inputs(cell, N)
    assert x.min() < -0.999 and x.max() > 0.999
    for call in cases.sample(N).values():
        y = result(call)
        assert y.dtype == np.float32
        assert p_of_standard_normal((y - cell.mean_at(x)) / cell.std_at(x)) > LIMIT


def test_weights_are_read_back_with_the_codecs_moments() -> None:
    weights = Weights.of(N)
    magnitude = np.abs(weights.values.astype(np.float64))
    assert not weights.mask.all() and weights.mask.mean() > 0.85
    for who, call in cases.transmit(N).items():
        w = result(call)
        assert w.dtype == np.float32 and not w[~weights.mask].any(), who
        for r, inside in zip(
            weights.stored.ranges, (magnitude <= 0.05, magnitude > 0.05), strict=True
        ):
            some = inside & weights.mask
            x = weights.cell.inverse(r.alpha * magnitude[some] - r.beta, clip=True)
            expected = weights.cell.std_at(x) * r.inv_alpha / r.cells**0.5
            error = np.sign(weights.values[some]) * (w[some] - weights.values[some])
            assert p_of_standard_normal(error / expected) > LIMIT, who


def test_products_are_those_of_the_rivals_and_noise() -> None:
    calls = cases.product(32)
    ours, exact = result(calls.pop(OURS)), result(calls["numpy"])
    assert ours.shape == exact.shape == (32, cases.OUTPUTS)
    for call in calls.values():
        np.testing.assert_allclose(result(call), exact, atol=1e-3)
    error = np.std(ours - exact) / np.std(exact)
    assert 0.01 < error < 0.5


# ----------------------------------------------------------------- a whole run


def test_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "SHORT_SECONDS", 0)
    monkeypatch.setattr(timing, "REST_SECONDS", 0)
    steps: list[None] = []
    found = speed.run(
        threads=(1, 2), shrink=4096, rounds=3, progress=lambda: steps.append(None)
    )  # fmt: skip
    assert len(steps) == speed.steps(2) == len(found["rows"]) == 8
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    machine = found["machine"]
    assert machine["simd_level"] == nc.simd_level() and machine["noisycells"] == nc.__version__
    assert machine["numpy"] == np.__version__ and machine["cpu"] and machine["cores"] >= 1
    text = speed.render(found)
    assert machine["cpu"] in text and "Sizes divided by 4096" in text and "\n2 threads " in text
    assert all(len(line) <= 110 for line in text.splitlines())
    for row in found["rows"]:
        ours = row["contenders"][OURS]
        assert ours["ratio"] == 1
        for figures in row["contenders"].values():
            assert 0 < figures["min_ms"] <= figures["median_ms"]
            assert figures["ratio"] == pytest.approx(figures["median_ms"] / ours["median_ms"])
            assert f"{figures['median_ms']:.3g}" in text
    for case in cases.CASES:
        assert text.count(f"\n{case.title} ") == 2


def test_a_run_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr(speed, "CASES", cases.CASES[:1])
    found = speed.run(threads=[1], shrink=4096, rounds=1)
    assert found["machine"]["torch"] is None
    assert speed.render(found).count("not installed") == 2


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"threads": [1, 0]}, "threads: expected 1 to 4096, got 0"),
        ({"shrink": 4097}, "shrink: expected 1 to 4096, got 4097"),
        ({"rounds": 0}, "rounds: expected 1 to 10000, got 0"),
        ({"level": "mmx"}, "level: expected one of .*, got 'mmx'"),
    ],
)
def test_bad_arguments(chosen: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        speed.run(**chosen)


# ----------------------------------------------------------------- timing


def test_calls_run_in_turn_at_their_level_and_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, str, int]] = []
    naps: list[float] = []
    monkeypatch.setattr(timing.time, "sleep", naps.append)
    monkeypatch.setattr(timing, "SHORT_SECONDS", 0)
    lowest, highest = nc.available_simd_levels()[0], nc.simd_level()

    def call(name: str) -> Any:
        return lambda: seen.append((name, nc.simd_level(), nc.get_num_threads()))

    taken = timing.times({"a": call("a"), "b": call("b")}, 2, 2, levels={"a": lowest}, pools=["b"])
    a, b = ("a", lowest, 2), ("b", highest, 2)
    assert seen == [a, a, b, b] + 2 * [a, a, b, b] and nc.simd_level() == highest
    assert {name: len(seconds) for name, seconds in taken.items()} == {"a": 2, "b": 2}
    assert naps == 4 * [timing.REST_SECONDS]


def test_short_calls_are_measured_several_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]

    def one_millisecond() -> None:
        clock[0] += 0.001

    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])
    (seconds,) = timing.times({"a": one_millisecond}, 1, 1)["a"]
    assert seconds == pytest.approx(0.001)
    assert clock[0] == pytest.approx(0.001 * (2 + 2 * 5))  # 5 of them are 5 ms


def test_following_the_runtime_is_as_before(thread_setting: None) -> None:
    threadpoolctl = pytest.importorskip("threadpoolctl")
    nc.set_num_threads(0)
    with timing.num_threads(3):
        assert nc.get_num_threads() == 3
    with threadpoolctl.threadpool_limits(1):
        assert nc.threading_backend() != "openmp" or nc.get_num_threads() == 1
