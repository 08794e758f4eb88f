"""The cases: sampling and storage, coding, products of crossbars, layers of torch."""

from __future__ import annotations

from . import coding, crossbar, layers, storage
from .case import Case

__all__ = ["CASES", "of_run"]

CASES: tuple[Case, ...] = storage.CASES + coding.CASES + crossbar.CASES + layers.CASES


def of_run(shrink: int) -> list[Case]:
    """The cases of a run whose sizes are divided by ``shrink``."""
    return [case for case in CASES if shrink == 1 or not case.full]
