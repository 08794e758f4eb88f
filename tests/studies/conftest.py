"""What several tests of the engine use; a test module may have its own of the same name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from two_networks import STUDY

from noisycells.studies.engine import Settings, Source
from noisycells.studies.engine import study as engine
from noisycells.studies.engine.cache import Cache


@pytest.fixture(scope="module")
def source() -> Source:
    return Source.of("digits", 100, 60)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture(scope="module")
def settings(source: Source) -> Settings:
    return Settings(source, seeds=2, repeats=2)


@pytest.fixture(scope="module")
def alone(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The report of one process."""
    out = tmp_path_factory.mktemp("alone")
    return engine.run_study(STUDY, settings, out, Cache(out / "cache"))
