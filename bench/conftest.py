"""``pytest bench/``: the cases of ``noisycells bench``, one contender after the other.

``--quick`` divides sizes by 16. ``noisycells bench`` times contenders in turn and is the one to
take ratios from; pytest-benchmark keeps, compares and plots runs (``--benchmark-autosave``,
``--benchmark-compare``).
"""

from __future__ import annotations

import os

# Before any OpenMP runtime is loaded: idle threads go to sleep instead of taking the cores from
# another runtime's. A choice for benchmarks, which the library leaves to its user.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest

from noisycells.benchmarks.machine import machine


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="divide sizes by 16")


def pytest_benchmark_update_machine_info(machine_info: dict[str, object]) -> None:
    machine_info["noisycells"] = machine()
