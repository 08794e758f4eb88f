"""Independent jobs on any joblib backend, each run once: results are kept and found again.

A job is a function and arguments of JSON types; its result is of JSON types and depends on nothing
else. Every job has one thread of torch and of the compiled core, and a process has one job at a
time, so results do not depend on the backend or the number of workers.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from ... import runtime
from ..._arguments import wrong_value
from .cache import Cache
from .recipes import Recipe, content_key
from .report import write_json
from .training import Trained, network
from .training import about as about_network

__all__ = ["Job", "Workers", "about", "job", "one_thread", "run"]

Function = TypeVar("Function", bound=Callable[..., Any])

_one_at_a_time = threading.Lock()
_names: dict[Callable[..., Any], str] = {}  # of all functions that are jobs


def job(function: Function) -> Function:
    """Register a function as one that jobs call; a decorator, which leaves it as it is.

    Workers find it by its module and name, and results are kept under them, so it has to stand at
    the top of a module that can be imported.

    Raises
    ------
    ValueError
        If it stands elsewhere.
    """
    name = f"{function.__module__}:{function.__qualname__}"
    if not name.partition(":")[2].isidentifier() or function.__module__ == "__main__":
        raise wrong_value("job", "a function at the top of an imported module", name)
    _names[function] = name
    return function


@dataclass(frozen=True)
class Job:
    """A call of a function.

    Parameters
    ----------
    function : callable
        One that is registered with :func:`job`. It is called with the network of ``recipe``, where
        there is one, and with ``arguments`` as keywords.
    arguments : dict
        Of JSON types.
    recipe : Recipe, optional
        The network it looks at.
    passes : float
        How often it goes over the test images, for estimates of its time; not a part of what it
        is.
    """

    function: Callable[..., Any]
    arguments: dict[str, Any] = field(default_factory=dict)
    recipe: Recipe | None = None
    passes: float = 0.0

    def __post_init__(self) -> None:
        if self.function not in _names:
            raise wrong_value("function", "one registered as a job", repr(self.function))

    @property
    def name(self) -> str:
        """Module and name of the function, such as ``noisycells.studies.measures:stored``."""
        return _names[self.function]

    @cached_property
    def key(self) -> str:
        """Names the result."""
        network = None if self.recipe is None else self.recipe.key
        return content_key(self.name, self.arguments, network)

    def __call__(self, cache: Cache) -> Any:
        """Run it here, in one thread; other threads of this process wait."""
        with _one_at_a_time, one_thread():
            trained = () if self.recipe is None else (network(self.recipe, cache),)
            return self.function(*trained, **self.arguments)


@job
def noise_free(trained: Trained) -> dict[str, Any]:
    """How a network was trained, and its accuracy without noise in percent."""
    return about_network(trained)


def about(recipe: Recipe) -> Job:
    """The job whose result says how a network was trained and how good it is without noise."""
    return Job(noise_free, recipe=recipe)


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread of torch and of the compiled core, for a while."""
    import torch

    before = torch.get_num_threads(), runtime.get_num_threads()
    torch.set_num_threads(1)
    runtime.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        runtime.set_num_threads(before[1])


@dataclass(frozen=True)
class Workers:
    """Who runs the jobs: a context for :func:`run`.

    Parameters
    ----------
    backend : str
        Name of a joblib backend: ``"loky"`` (processes of this machine), ``"dask"`` or any other
        that is registered with joblib. Workers on other machines need the images under the same
        name, and share the cache of networks only if they see the same directory; otherwise each
        trains what it needs.
    number : int
        Workers at a time, at least 1; -1: as many as the backend has.
    scheduler : str, optional
        Address of a running Dask cluster. Without it the backend ``"dask"`` takes the client of
        this process, or starts a cluster of ``number`` processes on this machine.
    """

    backend: str = "loky"
    number: int = 1
    scheduler: str | None = None

    def __post_init__(self) -> None:
        if self.scheduler is not None and self.backend != "dask":
            raise wrong_value("scheduler", "it with dask", f"backend {self.backend!r}")
        if self.number < 1 and self.number != -1:
            raise wrong_value("jobs", "at least 1, or -1", self.number)

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Let jobs be run by them for a while."""
        import joblib  # type: ignore[import-untyped]

        with self._client():
            try:
                config = joblib.parallel_config(self.backend, n_jobs=self.number)
            except (ValueError, ImportError) as error:
                raise ValueError(f"backend: {error}") from error
            with config:
                yield

    def _client(self) -> AbstractContextManager[Any]:
        if self.backend == "ray":
            # Ray's own name for its backend is only known once it has been registered.
            from ray.util.joblib import register_ray  # type: ignore[import-not-found]

            register_ray()
        if self.backend != "dask":
            return nullcontext()
        from distributed import Client, get_client

        if self.scheduler is not None:
            return Client(self.scheduler)
        try:
            get_client()
        except ValueError:
            number = None if self.number == -1 else self.number
            return Client(n_workers=number, threads_per_worker=1)
        return nullcontext()


def run(
    jobs: Sequence[Job],
    directory: Path,
    cache: Cache,
    progress: Callable[[], None] | None = None,
) -> dict[str, Any]:
    """Results of all jobs by their keys; those in ``directory`` are not run again.

    They run in this process, or as the context of :class:`Workers` (or of joblib) says. Each
    result is written as soon as it is there, so that an interrupted run goes on from what it
    finished. The first error ends the run.

    Parameters
    ----------
    jobs : sequence of Job
        In any order; equal ones are run once.
    directory : path
        For the results, one file each, ``KEY.json``.
    cache : Cache
        Trained networks. One that is missing there is trained by the job that needs it.
    progress : callable, optional
        Called after each of the different jobs, those found included.
    """
    results = {}
    missing = {}
    for key, job in {job.key: job for job in jobs}.items():
        file = directory / f"{key}.json"
        if file.exists():
            results[key] = _read(file)
            if progress is not None:
                progress()
        else:
            missing[key] = job
    if missing:
        directory.mkdir(parents=True, exist_ok=True)
    for key, result in in_parallel(missing, cache):
        write_json(result, directory / f"{key}.json")
        results[key] = result["result"]
        if progress is not None:
            progress()
    return results


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))["result"]
    except (ValueError, KeyError, TypeError) as error:
        got = "a damaged file; delete it to run the job again"
        raise wrong_value(file, "the result of a job", got) from error


def in_parallel(jobs: dict[str, Job], cache: Cache) -> Iterator[tuple[str, dict[str, Any]]]:
    """Run jobs; keys and results as they come, with the seconds each took."""
    import joblib

    if not jobs:
        return
    try:
        parallel = joblib.Parallel(return_as="generator_unordered", batch_size=1)
        portion = len(jobs)
    except ValueError:  # a backend that gives results only when all are there
        parallel = joblib.Parallel(batch_size=1)
        portion = 4 * max(1, parallel.n_jobs or 1)
    calls = [joblib.delayed(_timed)(key, job, cache) for key, job in jobs.items()]
    for start in range(0, len(calls), portion):
        yield from parallel(calls[start : start + portion])


def _timed(key: str, job: Job, cache: Cache) -> tuple[str, dict[str, Any]]:
    start = time.perf_counter()
    result = job(cache)
    about = {"function": job.name, "arguments": job.arguments}
    return key, {**about, "result": result, "seconds": time.perf_counter() - start}
