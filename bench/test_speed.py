"""All cases, by pytest-benchmark."""

from __future__ import annotations

from functools import lru_cache

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from noisycells.runtime import simd_level
from noisycells.speed import QUICK, ROUNDS
from noisycells.speed.timing import num_threads

from . import cases
from .cases.case import Case, Field


@lru_cache(maxsize=1)
def prepared(case: Case, shrink: int) -> Field:
    return case.prepare(shrink, [simd_level()])


def contenders() -> list[object]:
    """All who take part, as found out with small sizes."""
    return [
        pytest.param(case, name, threads, id=f"{case.name}-{threads}-{name}")
        for case in cases.of_run(QUICK)
        for name in prepared(case, 4096).calls
        for threads in (1, 2)
    ]


@pytest.mark.parametrize(("case", "name", "threads"), contenders())
def test_speed(
    benchmark: BenchmarkFixture,
    pytestconfig: pytest.Config,
    case: Case,
    name: str,
    threads: int,
) -> None:
    field = prepared(case, QUICK if pytestconfig.getoption("--quick") else 1)
    benchmark.group = f"{case.title}, {threads} thread(s)"
    if field.elements:
        benchmark.extra_info["elements"] = field.elements
    with num_threads(threads):
        benchmark.pedantic(field.calls[name], rounds=ROUNDS, warmup_rounds=1)
