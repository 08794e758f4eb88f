"""Benchmarks of crossbars: rivals do the same job, and goals belong to somebody.

Nothing here looks at a time. Seeds are fixed; the bounds of statistical tests are at five standard
errors or more (p < 1e-6) and there are fewer than 30 of them, so that under other seeds the file
would raise a false alarm less than once in 1e4 times.
"""

from __future__ import annotations

import math
import sys
import types
from typing import Any

import numpy as np
import pytest
from normal_statistics import p_of_standard_normal
from numpy.typing import NDArray

import noisycells as nc
from bench import goals, peers
from bench.cases import CASES, coding, crossbar, layers, storage
from bench.cases.case import Field
from bench.cases.crossbar import MODES, Shape
from noisycells.crossbar import Packed
from noisycells.devices.pcm import JOSHI_STD
from noisycells.reference import crossbar as reference
from noisycells.speed import timing

torch = pytest.importorskip("torch")

F64 = NDArray[np.float64]
TINY = Shape(70, 300, 40)
SIZED = storage.JOBS | coding.JOBS
FIELDS = {
    "batch": lambda levels: crossbar.products(TINY, levels),
    "convolution": lambda levels: crossbar.products(TINY, levels),
    "vector": lambda levels: crossbar.products(TINY._replace(batch=1), levels),
    "fresh": lambda levels: crossbar.fresh(TINY, levels),
    "program": lambda _: crossbar.programming(64, 300),
    "peers": lambda _: layers.products(TINY),
    "training": lambda _: layers.training(2),
    "calls": lambda _: layers.small_calls(),
    "noise": lambda _: layers.noise(2),
    "encoder": lambda _: layers.encoder(2),
}


def result(call: Any) -> F64:
    """What a contender returns, the second time: buffers are in use again."""
    call()
    return np.asarray(call()).astype(np.float64)


def job_results(field: Field) -> dict[str, list[F64]]:
    """By name of the job, at each of its levels."""
    found: dict[str, list[F64]] = {}
    for job in field.jobs:
        with timing.simd_level(job.level):
            found.setdefault(job.name, []).append(result(job.call))
    return found


def rms(x: F64) -> float:
    return float(np.sqrt(np.mean(x * x)))


@pytest.fixture(scope="module")
def products() -> Field:
    """At every level there is."""
    return crossbar.products(TINY, nc.available_simd_levels()[::-1])


@pytest.fixture(scope="module")
def ours(products: Field) -> dict[str, list[F64]]:
    return job_results(products)


def test_noiseless_products_are_those_of_the_rivals(
    products: Field, ours: dict[str, list[F64]]
) -> None:
    linear, blas = result(products.rivals["F.linear"]), result(products.rivals["np.matmul"])
    assert rms(linear - blas) < 1e-5 * rms(linear)
    tiles = result(products.rivals["tile by tile, ADC only"])
    assert rms(tiles - linear) < 0.05 * rms(linear)  # codes of 8 bits
    for kernel, levels in (("int16", len(nc.available_simd_levels())), ("float32", 1), ("int8", 1)):
        found = ours[f"{kernel} ADC only"]
        assert len(found) == levels
        for y in found:
            # Where sums are rounded otherwise, some are on another side of a step.
            assert rms(y - tiles) < (0.03 if kernel == "int8" else 0.003) * rms(linear)


@pytest.mark.parametrize("mode", ["output noise", "weight noise"])
def test_noise_is_that_of_the_rivals(
    products: Field, ours: dict[str, list[F64]], mode: str
) -> None:
    """Root mean squares of 2800 errors each agree within 10 %, 5 standard errors."""
    tiles = result(products.rivals[f"tile by tile, {mode}"])
    error = tiles - result(products.rivals["tile by tile, ADC only"])
    assert abs(error.mean()) < 5 * rms(error) / math.sqrt(error.size)
    converters = rms(
        result(products.rivals["tile by tile, ADC only"]) - result(products.rivals["F.linear"])
    )
    assert rms(error) > 1.5 * converters  # so that noise is what is compared
    for kernel in crossbar.KERNELS:
        for y, clean in zip(ours[f"{kernel} {mode}"], ours[f"{kernel} ADC only"], strict=True):
            assert rms(y - clean) == pytest.approx(rms(error), rel=0.1)


def test_rivals_draw_new_noise_each_time(products: Field) -> None:
    for mode in ("output noise", "weight noise"):
        call = products.rivals[f"tile by tile, {mode}"]
        assert rms(result(call) - result(call)) > 0


def test_programmed_devices_have_the_same_moments() -> None:
    n, k = 64, 300
    field = crossbar.programming(n, k)
    layer, _ = crossbar.conductances(n, k)
    pcm, weights = crossbar.device(), layer.slices[0]
    (job,) = field.jobs
    calls = {"ours": lambda: job.call()[0, 0], **field.rivals}
    assert set(calls) == {"ours", "torch", "torch tuned"}
    at_zero = {}
    for name, call in calls.items():
        g = result(call)
        assert g.shape == (2, n, k) and g.min() >= 0
        assert not np.array_equal(g[0], g[1])
        at_zero[name] = g[1][weights > 0]
        for polarity, sign in ((0, 1), (1, -1)):
            target = reference.targets(weights, layer.inverse[:, None], sign, 0.0, pcm.g_max)
            inside = target > 6  # uS, where nothing is clipped at 0
            r = target[inside].astype(np.float64) / pcm.g_max
            z = (g[polarity][inside] - target[inside]) / np.polyval(JOSHI_STD[::-1], r)
            assert p_of_standard_normal(z) > 1e-7
    for name in ("torch", "torch tuned"):
        a, b = at_zero["ours"], at_zero[name]
        assert abs(a.mean() - b.mean()) < 6 * a.std() * math.sqrt(2 / len(a))


def test_fresh_products_are_those_of_the_weights() -> None:
    field = crossbar.fresh(TINY, nc.available_simd_levels()[-1:])
    linear = result(field.rivals["F.linear"])
    noisy = result(field.rivals["W + s randn"])
    assert 0 < rms(noisy - linear) < 0.5 * rms(linear)
    for found in job_results(field).values():
        for y in found:
            assert 0 < rms(y - linear) < 0.5 * rms(linear)


def test_training_steps_train() -> None:
    field = layers.training(2)
    for call in (field.jobs[0].call, field.rivals["plain torch"]):
        with timing.num_threads(1):
            losses = [float(call()) for _ in range(8)]
        assert all(math.isfinite(loss) for loss in losses) and losses[-1] < losses[0]
    for peer in peers.PEERS[:2]:
        assert (peer in field.rivals) != (peer in field.absent)


def test_noisy_training_steps_train() -> None:
    field = layers.noise(2)
    names = ["Gaussian", "stored", "programmed", "Gaussian, 4 bits"]
    assert [job.name for job in field.jobs] == names
    first = {}
    for name, call in {job.name: job.call for job in field.jobs}.items() | field.rivals.items():
        with timing.num_threads(1):
            losses = [float(call()) for _ in range(8)]
        assert all(math.isfinite(loss) for loss in losses) and losses[-1] < losses[0]
        first[name] = losses[0]
    assert len(set(first.values())) == len(first)  # each with noise of its own, or none


def test_encoders_are_one_on_chips() -> None:
    field = layers.encoder(2)
    assert [job.name.split()[0] for job in field.jobs] == ["auto"] * 3 + ["int16"] * 3
    clean = result(field.rivals["plain torch"])
    found = [result(job.call) for job in field.jobs]
    for y in found:
        assert 0 < rms(y - clean) < 0.5 * rms(clean)
    assert rms(found[0] - found[3]) > 0  # 8 bits and 16, no noise
    assert rms(found[0] - clean) == pytest.approx(rms(found[3] - clean), rel=0.05)


def test_small_calls_are_those_of_one_layer() -> None:
    field = layers.small_calls()
    linear = result(field.rivals["F.linear"])
    assert np.array_equal(result(field.rivals["F.linear and backward"]), linear)
    for job in field.jobs:
        assert 0 < rms(result(job.call) - linear) < rms(linear)


# ----------------------------------------------------------------- other simulators


def test_peers_agree_or_say_why_not() -> None:
    field = layers.products(TINY)
    (y,) = job_results(field)["int16 ADC only"]
    for job in field.jobs:
        for name in job.rivals:
            assert (name in field.rivals) != (name in field.absent)
    for name, call in field.rivals.items():
        assert rms(result(call) - y) < 0.3 * rms(y), name


def test_peers_that_fail_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> Any:
        raise RuntimeError("no such parameter\nand more")

    broken: Any = types.ModuleType("simulator")
    broken.CrossSimParameters = refuse
    monkeypatch.setitem(sys.modules, "simulator", broken)
    for name in ("aihwkit", "aihwkit_lightning"):
        monkeypatch.setitem(sys.modules, name, None)
    layer, g = crossbar.conductances(8, 20)
    packed = Packed(g, crossbar.device(), crossbar.spec_of("int16", "output noise"), layer.scales)
    x = np.ones((2, 20), np.float32)
    found, absent = peers.products(torch, x, packed.effective_weights(), packed)
    assert not found and absent.pop("CrossSim, ADC only") == "failed: no such parameter"
    assert len(absent) == 4 and set(absent.values()) == {"not installed"}


# ----------------------------------------------------------------- goals and limits


@pytest.mark.parametrize("kind", FIELDS)
def test_every_goal_has_its_job_and_rival(kind: str) -> None:
    jobs = FIELDS[kind](nc.available_simd_levels()[-1:]).jobs
    pairs = {(kind, job.name, rival) for job in jobs for rival in job.rivals}
    for table, times in ((goals._TIMES, True), (goals._SPEEDUPS, False)):
        for some in table.values():
            here = {key for key in some if key[0] == kind}
            assert here <= pairs
            assert all(goals.is_time(rival) == times for *_, rival in here)


def test_every_case_has_a_kind_that_is_known() -> None:
    assert {case.kind for case in CASES} == {*FIELDS, *SIZED}
    for table in (goals._TIMES, goals._SPEEDUPS):
        assert {kind for some in table.values() for kind, *_ in some} <= {c.kind for c in CASES}
    names, titles = [case.name for case in CASES], [case.title for case in CASES]
    assert len(set(names)) == len(set(titles)) == len(names)
    for shares in goals._SHARES.values():
        assert {case for case, _ in shares} <= set(names)


@pytest.mark.parametrize("name", SIZED)
def test_every_goal_of_storage_has_its_rival(name: str) -> None:
    for table, times in ((goals._TIMES, True), (goals._SPEEDUPS, False)):
        rivals = {rival for some in table.values() for kind, _, rival in some if kind == name}
        assert rivals <= set(SIZED[name].rivals)
        assert all(goals.is_time(rival) == times for rival in rivals)


def test_work_counts_what_a_product_takes() -> None:
    clean, noisy, exact = (crossbar.work(TINY, "int16", mode) for mode in MODES)
    assert clean.operations == noisy.operations == 2 * 70 * 300 * 40
    assert exact.operations == 2 * clean.operations
    assert (clean.draws, noisy.draws) == (0, 70 * 40 * 2)
    assert clean.reads == 4 * 70 * 300 + 2 * 300 * 40 and clean.writes == 4 * 70 * 40
