"""All cases of :mod:`noisycells.benchmarks`, by pytest-benchmark."""

from __future__ import annotations

from functools import lru_cache

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from noisycells.benchmarks import CASES, QUICK, Case
from noisycells.benchmarks.contenders import OURS, Contenders
from noisycells.benchmarks.measure import ROUNDS, num_threads


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
