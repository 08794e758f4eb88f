"""All cases of :mod:`noisycells.benchmarks`, by pytest-benchmark."""

from __future__ import annotations

from functools import lru_cache

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from noisycells.benchmarks import CASES, QUICK, Case
from noisycells.benchmarks.contenders import OURS, Contenders
from noisycells.benchmarks.crossbar import CrossbarCase, Field
from noisycells.benchmarks.measure import ROUNDS
from noisycells.benchmarks.measure_crossbar import cases
from noisycells.benchmarks.timing import num_threads
from noisycells.runtime import simd_level


@lru_cache(maxsize=1)
def prepared(case: Case, size: int) -> Contenders:
    return case.prepare(size)


@pytest.mark.parametrize(
    ("case", "name", "threads"),
    [
        pytest.param(case, name, threads, id=f"{case.name}-{threads}-{name}")
        for case in CASES
        for threads in (1, 2)
        for name in (OURS, *case.rivals)
    ],
)
def test_speed(
    benchmark: BenchmarkFixture,
    pytestconfig: pytest.Config,
    case: Case,
    name: str,
    threads: int,
) -> None:
    size = case.size // (QUICK if pytestconfig.getoption("--quick") else 1)
    contenders = prepared(case, size)
    if name not in contenders:
        pytest.skip("torch not installed")
    benchmark.group = f"{case.title}, {threads} thread(s)"
    benchmark.extra_info["elements"] = size
    with num_threads(threads):
        benchmark.pedantic(contenders[name], rounds=ROUNDS, warmup_rounds=1)


@lru_cache(maxsize=1)
def crossbar_field(case: CrossbarCase, shrink: int) -> Field:
    return case.prepare(shrink, [simd_level()])


def crossbar_names(case: CrossbarCase) -> tuple[str, ...]:
    """All who take part, as found out with small sizes."""
    jobs, rivals, _ = crossbar_field(case, 4096)
    return (*(job.name for job in jobs), *rivals)


@pytest.mark.parametrize(
    ("case", "name", "threads"),
    [
        pytest.param(case, name, threads, id=f"{case.name}-{threads}-{name}")
        for case in cases(QUICK)
        for name in crossbar_names(case)
        for threads in (1, 2)
    ],
)
def test_crossbar_speed(
    benchmark: BenchmarkFixture,
    pytestconfig: pytest.Config,
    case: CrossbarCase,
    name: str,
    threads: int,
) -> None:
    field = crossbar_field(case, QUICK if pytestconfig.getoption("--quick") else 1)
    calls = {job.name: job.call for job in field.jobs} | dict(field.rivals)
    benchmark.group = f"{case.title}, {threads} thread(s)"
    with num_threads(threads):
        benchmark.pedantic(calls[name], rounds=ROUNDS, warmup_rounds=1)
