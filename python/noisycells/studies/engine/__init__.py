"""What runs a study: its settings, jobs and tables, and what is trained, kept and written.

A study is a function of :class:`Settings` that returns tables, whose entries are jobs. Plans,
cache, resuming, figure, CSV and the page of the report follow.
"""

from __future__ import annotations

from .jobs import Job, about, job
from .recipes import Recipe, Source, isik_recipe, pruned_recipe, rate_recipe
from .study import Settings, Study
from .tables import Derived, Entry, Table, differences
from .training import Trained

__all__ = [
    "Derived",
    "Entry",
    "Job",
    "Recipe",
    "Settings",
    "Source",
    "Study",
    "Table",
    "Trained",
    "about",
    "differences",
    "isik_recipe",
    "job",
    "pruned_recipe",
    "rate_recipe",
]


def __dir__() -> list[str]:
    return __all__
