"""What the tests share: the ``--full`` option, and a fixture for every SIMD level."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

import noisycells as nc


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="run the tests marked full as well")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--full"):
        return
    long = [item for item in items if item.get_closest_marker("full")]
    if long:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]


def pytest_report_header() -> str:
    levels = ", ".join(nc.available_simd_levels())
    return (
        f"noisycells {nc.__version__}: SIMD level {nc.simd_level()} of {levels}; "
        f"{nc.get_num_threads()} threads by {nc.threading_backend()}"
    )


@pytest.fixture(scope="session", autouse=True)
def one_thread_of_torch() -> None:
    """Networks are small here: more threads bring little, and on a busy machine take far longer."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(autouse=True)
def width_of_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts do not follow the terminal that the tests run in."""
    monkeypatch.setenv("COLUMNS", "100")


@pytest.fixture(params=nc.available_simd_levels())
def simd_level(request: pytest.FixtureRequest) -> Iterator[str]:
    before = nc.simd_level()
    nc.set_simd_level(request.param)
    yield request.param
    nc.set_simd_level(before)


@pytest.fixture
def thread_setting() -> Iterator[None]:
    """For tests that call ``set_num_threads``: back to the default afterwards."""
    yield
    nc.set_num_threads(0)
