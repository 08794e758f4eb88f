"""What the commands that run studies share: their options, and running one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from .._types import MAX_COUNT
from ..channel import Channel
from ..studies.engine.cache import Cache, default_directory
from ..studies.engine.jobs import Workers
from ..studies.engine.recipes import MODELS, Source
from ..studies.engine.study import Settings, Study
from .options import (
    cache_option,
    data_option,
    device_option,
    json_option,
    progress,
    repeats_option,
    seed_option,
    to_json,
)

__all__ = ["run", "running_options", "study_command", "with_options"]

Option = Callable[[Any], Any]

_DIRECTORY = click.Path(file_okay=False, path_type=Path)

_RUNNING: tuple[Option, ...] = (
    click.option(
        "--compute",
        type=click.Choice(["cpu", "cuda"]),
        default="cpu",
        show_default=True,
        help="What networks are trained on.",
    ),
    click.option(
        "--precision",
        type=click.Choice(["float32", "bfloat16"]),
        default="float32",
        show_default=True,
        help="Of products in training; bfloat16 is faster where the processor has it.",
    ),
    click.option(
        "--backend",
        default="loky",
        show_default=True,
        metavar="NAME",
        help="Who runs the jobs: loky, processes of this machine; dask; or another backend of "
        "joblib.",
    ),
    click.option(
        "--jobs",
        type=click.IntRange(-1, MAX_COUNT),
        default=1,
        show_default=True,
        metavar="N",
        help="Jobs at a time, each on one core; -1: as many as the backend has workers.",
    ),
    click.option(
        "--scheduler",
        metavar="ADDRESS",
        help="A running Dask cluster. Default: one on this machine, of --jobs processes.",
    ),
    cache_option,
    click.option(
        "--plan", "only_plan", is_flag=True, help="Print the jobs and the estimated hours."
    ),
    json_option,
)
_MODEL = click.Choice([*MODELS], case_sensitive=False)
SETTINGS: tuple[Option, ...] = (
    data_option,
    click.option(
        "--model",
        type=_MODEL,
        metavar="NAME",
        help=f"The network: {', '.join(MODELS)}. Default: the study's; with --quick a small one.",
    ),
    click.option(
        "--teacher",
        type=_MODEL,
        metavar="NAME",
        help="The network to distil from. Default: the study's; with --quick a small one.",
    ),
    seed_option("First training seed."),
    click.option(
        "--seeds",
        type=click.IntRange(1, MAX_COUNT),
        metavar="N",
        default=1,
        show_default=True,
        help="Networks trained, each with a seed of its own.",
    ),
    click.option(
        "--epochs",
        type=click.IntRange(1, MAX_COUNT),
        metavar="N",
        help="Passes over the training images. Default: the study's; with --quick a few.",
    ),
    repeats_option("Chips or noisy copies for each entry. Default: of the study."),
    click.option(
        "--subset",
        type=click.IntRange(1, MAX_COUNT),
        metavar="N",
        help="Use so many training images.",
    ),
    click.option(
        "--test-subset",
        type=click.IntRange(1, MAX_COUNT),
        metavar="N",
        help="Use so many test images.",
    ),
    click.option(
        "--quick",
        is_flag=True,
        help="Small networks, few epochs and fewer entries: a first impression.",
    ),
)  # fmt: skip


def running_options(directory: str = "noisycells-studies") -> tuple[Option, ...]:
    """Options of how a study is run, and of the directory for its report."""
    output = click.option(
        "-o",
        "--output",
        "out",
        type=_DIRECTORY,
        default=directory,
        show_default=True,
        help="Directory for reports and the results of jobs, which all studies share.",
    )
    return (*_RUNNING[:-3], output, *_RUNNING[-3:])


def with_options(options: Sequence[Option], function: Callable[..., None]) -> Callable[..., None]:
    """A function with these options, in their order."""
    for option in reversed(options):
        function = option(function)
    return function


def require_packages() -> None:
    """Import all that a study needs: better missed now than after the training."""
    import joblib  # type: ignore[import-untyped]  # noqa: F401
    import matplotlib  # noqa: F401
    import torch  # noqa: F401


def run(
    chosen: Study,
    settings: Settings,
    backend: str,
    jobs: int,
    scheduler: str | None,
    out: Path,
    cache: Path | None,
    only_plan: bool,
    as_json: bool,
) -> None:
    """Run a study, write its report and say what came out; or only plan it."""
    from ..studies.engine import html, study

    workers = Workers(backend, jobs, scheduler)
    trained = Cache(cache or default_directory())
    if only_plan:
        plan = study.plan(chosen, settings, out, trained)
        click.echo(to_json(plan.to_dict()) if as_json else plan)
        return
    report = study.run_study(chosen, settings, out, trained, workers, progress)
    file = study.write(chosen, report, out)
    click.echo(to_json(report) if as_json else chosen.text(report))
    html.write_page(out)
    click.echo(f"Wrote {file.stem}.json, .csv and .png and index.html to {out}", err=True)


def study_command(
    about: Study,
    name: str | None = None,
    make: Callable[..., Study] | None = None,
    own: Sequence[Option] = (),
    description: str | None = None,
    directory: str = "noisycells-studies",
) -> click.Command:
    """The command that runs a study.

    Parameters
    ----------
    about : Study
        What the command says of itself, and what it runs without `make`.
    name, description : str, optional
        Default: the study's.
    make : callable, optional
        The study with the values of its own options, by name.
    own : sequence of options
        Besides those of all studies.
    directory : str
        Where reports go unless the user says otherwise.
    """
    cells = () if make is not None and not about.in_cells else (device_option,)

    def command(
        data: str,
        subset: int | None,
        test_subset: int | None,
        model: str | None,
        teacher: str | None,
        seed: int,
        seeds: int,
        epochs: int | None,
        repeats: int | None,
        quick: bool,
        compute: str,
        precision: str,
        channel: Channel | None = None,
        **others: Any,
    ) -> None:
        require_packages()
        running = {key: others.pop(key) for key in _NAMES}
        chosen = make(**others) if make is not None else about
        settings = Settings(
            Source.of(data, subset, test_subset),
            model=model or "",
            teacher=teacher or "",
            seed=seed,
            seeds=seeds,
            epochs=epochs,
            repeats=repeats,
            quick=quick,
            compute=compute,
            precision=precision,
            **({} if channel is None else {"channel": channel}),
        )
        run(chosen, settings, **running)

    command.__doc__ = description or f"{about.help}\n\n{about.source}."
    options = (*SETTINGS[:1], *cells, *SETTINGS[1:], *own, *running_options(directory))
    return click.command(name or about.name)(with_options(options, command))


_NAMES = ("backend", "jobs", "scheduler", "out", "cache", "only_plan", "as_json")
