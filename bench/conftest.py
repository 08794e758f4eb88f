"""``pytest bench/test_speed.py``: the cases of ``python -m bench``, one contender after the other.

``--quick`` divides sizes by 16. ``python -m bench`` times contenders in turn and is the one to
take ratios from; pytest-benchmark keeps, compares and plots runs (``--benchmark-autosave``,
``--benchmark-compare``).
"""

from __future__ import annotations

import pytest

from noisycells.speed.timing import machine


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="divide sizes by 16")


def pytest_benchmark_update_machine_info(machine_info: dict[str, object]) -> None:
    machine_info["noisycells"] = machine()
