"""Studies: which tables they make of which settings, how they are run, and what they write."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ... import _arguments, devices
from ...channel import Channel
from ...io import replacing
from .cache import Cache
from .figures import plot
from .jobs import Job, Workers, about, in_parallel, one_thread, run
from .recipes import MODELS, Recipe, Source
from .report import about_data, about_versions, write_json
from .tables import Table, assemble, format_tables, write_csv

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Plan", "Settings", "Study", "plan", "run_study", "write"]

T = TypeVar("T")
Progress = Callable[[str, int], AbstractContextManager[Callable[[], None]]]


@dataclass(frozen=True)
class Settings:
    """Everything that decides a study's report.

    Parameters
    ----------
    source : Source
        The images.
    channel : Channel
        The cells, of studies that store weights. Default: ``pcm_array``.
    model, teacher : str
        The networks. Default: the study's.
    seed : int
        The first training seed.
    seeds : int
        Networks trained, each with a seed of its own; their spread is reported.
    epochs : int, optional
        Default: the paper's.
    repeats : int, optional
        Chips or noisy copies for each entry, at least 2. Default: the study's.
    quick : bool
        Small networks, few epochs and fewer entries: a first impression.
    compute : {"cpu", "cuda"}
        What networks are trained on.
    precision : {"float32", "bfloat16"}
        Of products in training.
    """

    source: Source
    channel: Channel = field(default_factory=devices.pcm_array)
    model: str = ""
    teacher: str = ""
    seed: int = 0
    seeds: int = 1
    epochs: int | None = None
    repeats: int | None = None
    quick: bool = False
    compute: str = "cpu"
    precision: str = "float32"

    def __post_init__(self) -> None:
        _arguments.seed("seed", self.seed)
        for name, least in (("seeds", 1), ("epochs", 1), ("repeats", 2)):
            value = getattr(self, name)
            if value is not None:
                _arguments.count(name, value, least)
        for name in ("model", "teacher"):
            value = getattr(self, name)
            if value:
                _arguments.choice(name, value, MODELS)

    @property
    def training_seeds(self) -> range:
        """Seeds of the networks."""
        return range(self.seed, self.seed + self.seeds)

    @property
    def hardware(self) -> dict[str, str]:
        """What networks are trained on, and how exactly: fields of their recipes."""
        return {"compute": self.compute, "precision": self.precision}

    def pick(self, usual: T, quick: T) -> T:
        """One of two, by whether it is to be quick."""
        return quick if self.quick else usual

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain JSON types; neither the channel nor any path."""
        names = ("model", "teacher", "seed", "seeds", "epochs", "repeats", "quick")
        return {
            **{name: getattr(self, name) for name in names},
            **self.hardware,
            "digest": self.source.digest,
            "subset": self.source.subset,
            "test_subset": self.source.test_subset,
        }


def no_options(settings: Settings) -> dict[str, Any]:
    """What a study without options of its own reports of them."""
    return {}


@dataclass(frozen=True)
class Study:
    """A table or figure of a paper.

    Parameters
    ----------
    name : str
    source : str
        Where the paper has it, and on which network and data.
    tables : callable
        Tables of settings. The first line of its docstring is the title.
    model, quick_model : str
        The network, as in the paper and where it is to be quick; "": none.
    teacher, quick_teacher : str
        The network to distil from, if there is one.
    in_cells : bool
        Whether the cells of the settings count.
    options : callable
        What else decides the tables of some settings, as plain JSON types; stands with the
        settings in the report.
    text, draw : callable
        The report as text and as a figure. Default: as every table is printed and drawn.
    """

    name: str
    source: str
    tables: Callable[[Settings], list[Table]]
    model: str = ""
    quick_model: str = ""
    teacher: str = ""
    quick_teacher: str = ""
    in_cells: bool = True
    options: Callable[[Settings], dict[str, Any]] = no_options
    text: Callable[[Mapping[str, Any]], str] = format_tables
    draw: Callable[[Mapping[str, Any]], Figure] = plot

    @property
    def title(self) -> str:
        """What it shows, in a line."""
        return self.help.partition("\n")[0].rstrip(".")

    @property
    def help(self) -> str:
        """What it shows, in full."""
        return inspect.cleandoc(self.tables.__doc__ or "")

    def complete(self, settings: Settings) -> Settings:
        """The settings with the networks of this study where none are given."""
        return replace(
            settings,
            model=settings.model or settings.pick(self.model, self.quick_model),
            teacher=settings.teacher or settings.pick(self.teacher, self.quick_teacher),
        )


@contextmanager
def _quietly(label: str, length: int) -> Iterator[Callable[[], None]]:
    yield lambda: None


def run_study(
    study: Study,
    settings: Settings,
    out: Path,
    cache: Cache,
    workers: Workers | None = None,
    progress: Progress = _quietly,
) -> dict[str, Any]:
    """Train the networks of a study, run its jobs, and put its tables together.

    Parameters
    ----------
    study : Study
    settings : Settings
    out : path
        Results of jobs are kept in its directory ``jobs``, shared by all studies.
    cache : Cache
        Of trained networks.
    workers : Workers, optional
        Default: this process.
    progress : callable, optional
        ``progress(label, steps)`` is a context of a function called after each step.

    Returns
    -------
    dict
        The report, as plain JSON types: every setting, seed and version, no time and no path.
    """
    settings = study.complete(settings)
    tables = study.tables(settings)
    jobs = _jobs(tables)
    kept = out / "jobs"
    kept.mkdir(parents=True, exist_ok=True)  # better refused now than after the training
    stages = _stages(jobs, kept, cache)
    recipes = _networks(jobs)
    networks = {key: about(recipe) for key, recipe in recipes.items()}
    everything = {job.key: job for job in (*networks.values(), *jobs)}
    with workers() if workers is not None else nullcontext():
        with progress("train", sum(map(len, stages))) as step:
            for stage in stages:
                for _ in in_parallel({r.key: about(r) for r in stage}, cache):
                    step()
        with progress("evaluate", len(everything)) as step:
            results = run(list(everything.values()), kept, cache, step)
    return {
        "study": study.name,
        "title": study.title,
        "source": study.source,
        "data": about_data(settings.source.load()),
        "channel": settings.channel.to_dict() if study.in_cells else None,
        "settings": {**settings.to_dict(), **study.options(settings)},
        "versions": about_versions(),
        "networks": [
            {"key": key, **results[job.key], "recipe": recipes[key].describe()}
            for key, job in networks.items()
        ],
        "tables": [assemble(table, results) for table in tables],
    }


def _jobs(tables: Iterable[Table]) -> list[Job]:
    """All different jobs."""
    found = (job for table in tables for entry in table.entries for job in entry.jobs)
    return [*{job.key: job for job in found}.values()]


def _networks(jobs: Iterable[Job]) -> dict[str, Recipe]:
    """All different networks, by their keys, each after those it needs."""
    recipes = (job.recipe for job in jobs if job.recipe is not None)
    return {recipe.key: recipe for last in recipes for recipe in last.lineage()}


def _stages(jobs: Iterable[Job], kept: Path, cache: Cache) -> list[list[Recipe]]:
    """Networks to train for jobs that have no result yet; each stage needs those before it."""
    needed: dict[str, Recipe] = {}

    def need(recipe: Recipe) -> None:
        if recipe.key not in cache and recipe.key not in needed:
            needed[recipe.key] = recipe
            for parent in recipe.parents():
                need(parent)

    for job in jobs:
        if job.recipe is not None and not (kept / f"{job.key}.json").exists():
            need(job.recipe)
    depths = sorted({recipe.depth for recipe in needed.values()})
    return [[r for r in needed.values() if r.depth == depth] for depth in depths]


def write(study: Study, report: dict[str, Any], out: Path) -> Path:
    """Write the report of a study as JSON, CSV and PNG; the JSON file.

    They are named by the study, by data, model, teacher and cells where these count, and by
    whether it was quick.
    """
    out.mkdir(parents=True, exist_ok=True)
    names = [report["study"]]
    if report["networks"]:
        settings = report["settings"]
        names += [report["data"]["name"], settings["model"], settings["teacher"]]
    if report["channel"] is not None:
        names.append(report["channel"]["name"])
    if report["settings"]["quick"]:
        names.append("quick")
    file = out / ("-".join(filter(None, names)) + ".json")
    with replacing(file.with_suffix(".png")) as picture:
        study.draw(report).savefig(picture, format="png", dpi=110)
    write_csv(report, file.with_suffix(".csv"))
    write_json(report, file)
    return file


# --------------------------------------------------------------------------- planning


@dataclass(frozen=True)
class Plan:
    """What is left to do.

    Parameters
    ----------
    networks : list of (str, float)
        Networks to train and hours of one processor core for each.
    jobs : int
        Jobs to run.
    done : int
        Jobs that have a result already.
    hours : float
        Of one core, for the jobs.
    """

    networks: list[tuple[str, float]]
    jobs: int
    done: int
    hours: float

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain JSON types."""
        return {**asdict(self), "networks": [list(network) for network in self.networks]}

    def __str__(self) -> str:
        lines = [f"{'hours':>8}  to do, on one core; estimated by a few steps of training"]
        lines += [f"{hours:8.3f}  train {name}" for name, hours in self.networks]
        lines.append(f"{self.hours:8.3f}  run {self.jobs} jobs, besides {self.done} done")
        total = self.hours + sum(hours for _, hours in self.networks)
        lines.append(f"{total:8.3f}  in all")
        return "\n".join(lines)


def plan(study: Study, settings: Settings, out: Path, cache: Cache) -> Plan:
    """Jobs and hours of a study; measures a few training steps of each model, trains nothing.

    A pass over test images is counted as a third of training on as many; noise, a second forward
    for consistency and the steps of optimizers as nothing.
    """
    from .training import VALIDATION, step_seconds

    settings = study.complete(settings)
    jobs = _jobs(study.tables(settings))
    kept = out / "jobs"
    todo = [job for job in jobs if not (kept / f"{job.key}.json").exists()]
    dataset = settings.source.load()
    steps: dict[tuple[str, int], float] = {}

    def image_seconds(recipe: Recipe) -> float:
        key = recipe.model, recipe.batch
        if key not in steps:
            with one_thread():
                steps[key] = step_seconds(recipe)
        return steps[key] / recipe.batch

    def training_hours(recipe: Recipe) -> float:
        seconds = image_seconds(recipe) * recipe.epochs
        if recipe.teacher is not None:  # it answers once where images are not augmented
            answers = 1 if recipe.augment is None else recipe.epochs
            seconds += image_seconds(recipe.teacher) / 3 * answers
        return (1 - VALIDATION) * len(dataset.train_images) * seconds / 3600

    stages = _stages(jobs, kept, cache)
    return Plan(
        [(_label(r), training_hours(r)) for stage in stages for r in stage],
        len(todo),
        len(jobs) - len(todo),
        sum(
            job.passes * len(dataset.test_images) * image_seconds(job.recipe) / 3 / 3600
            for job in todo
            if job.recipe is not None
        ),
    )


def _label(recipe: Recipe) -> str:
    """Which network, in a few words."""
    found = [
        f"{recipe.model}, seed {recipe.seed}, {recipe.epochs} epochs",
        f"{100 * recipe.pruned:g} % pruned" if recipe.pruned else "",
        "from a trained one" if recipe.start is not None else "",
        f"taught by {recipe.teacher.model}" if recipe.teacher is not None else "",
        "with noise" if recipe.noise is not None else "",
        "quantized" if recipe.quantize is not None else "",
    ]
    return ", ".join(filter(None, found))
