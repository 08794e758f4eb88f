"""All studies by their names."""

from __future__ import annotations

from . import isik, zhou
from .engine import Study

__all__ = ["STUDIES"]

STUDIES: dict[str, Study] = {study.name: study for study in (*isik.STUDIES, *zhou.STUDIES)}
