"""What a case is: jobs, what they take of the machine, and their rivals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from noisycells.speed.timing import Call, Contenders

__all__ = ["OWN", "Case", "Field", "Job", "Work", "job_key"]

OWN = "own "
"""Start of the names of rivals that are calls of this package too."""


class Work(NamedTuple):
    """What a job cannot do without: operations of a kernel, bytes, random words.

    ``kernel`` is empty where there are no products.
    """

    kernel: str
    operations: float
    reads: float
    writes: float
    draws: float


class Job(NamedTuple):
    """One way of doing a case, and its rivals, of which some may be missing.

    ``level``: SIMD level to run at; None for that in use.
    """

    name: str
    call: Call
    rivals: tuple[str, ...]
    level: str | None = None
    work: Work | None = None


class Field(NamedTuple):
    """All who take part in a case.

    ``absent``: why a rival does not, where that is not for want of torch. ``elements``: for cases
    that are measured in time an element. ``pools``: rivals whose library has threads of its own.
    """

    jobs: Sequence[Job]
    rivals: Contenders
    absent: Mapping[str, str] = MappingProxyType({})
    elements: int = 0
    pools: tuple[str, ...] = ()

    @property
    def calls(self) -> Contenders:
        """Jobs, by :func:`job_key`, and rivals."""
        return {job_key(job): job.call for job in self.jobs} | self.rivals


def job_key(job: Job) -> str:
    """Name of a job at its level."""
    return f"{job.name}, {job.level}" if job.level else job.name


@dataclass(frozen=True)
class Case:
    """One case.

    Attributes
    ----------
    name, title, kind : str
        For programs, for people, and what goals go by.
    prepare : callable
        Of what to divide the size by, and of the SIMD levels to measure.
    full : bool
        Left out of short runs.
    """

    name: str
    title: str
    kind: str
    prepare: Callable[[int, Sequence[str]], Field]
    full: bool = False
