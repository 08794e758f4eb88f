"""A sentence encoder on noisy crossbars: devices, times, and what is done for the chip.

As it comes from :func:`~noisycells.torch.convert`; deployed (:func:`~noisycells.torch.deploy`);
every chip corrected at every time (:func:`~noisycells.torch.correct`); and the correction trained
on the chip from there (:func:`~noisycells.torch.adapt`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import _arguments, devices
from ..devices import Device
from .crossbar_view import DAY, HOUR, time_label
from .engine import Entry, Job, Settings, Study, Table, job
from .measures import moments

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["STUDIES", "WAYS", "Options", "measured", "study"]

WAYS = ("converted", "deployed", "corrected", "trained")
DEFAULT = ("ideal", "pcm_hermes", "rram_wan2022")
CALIBRATION = 32  # sentences
COSINE, NEIGHBORS = "mean cosine", "%"


@dataclass(frozen=True)
class Options:
    """What decides the tables besides the settings that all studies have.

    Parameters
    ----------
    devices : tuple of Device
        Of different names.
    times : tuple of float
        Seconds since programming; those at which a device was not measured are left out.
    ways : tuple of str
        Of ``WAYS``.
    rank : int
        Of the corrections; 0 for offsets alone, where none is trained.
    encoder : Path, optional
        Directory of a sentence encoder of transformers. Default: a tiny random one.
    test, examples : int
        Sentences to measure with, and others to correct and train with; of these the first 32 are
        to calibrate.
    """

    devices: tuple[Device, ...] = tuple(devices.computing(name) for name in DEFAULT)
    times: tuple[float, ...] = (1.0, HOUR, DAY)
    ways: tuple[str, ...] = WAYS
    rank: int = 16
    encoder: Path | None = None
    test: int = 120
    examples: int = 480

    def __post_init__(self) -> None:
        if not self.ways or not set(self.ways) <= set(WAYS):
            raise _arguments.wrong_value("ways", f"some of {', '.join(WAYS)}", self.ways)
        least_rank = 1 if "trained" in self.ways else 0
        for name, least in (("rank", least_rank), ("test", 2), ("examples", CALIBRATION)):
            _arguments.count(name, getattr(self, name), least)
        names = [device.name for device in self.devices]
        if not names or len(set(names)) < len(names):
            raise _arguments.wrong_value("device", "devices of different names", names)

    def source(self) -> dict[str, str] | None:
        """Where the encoder is, and what."""
        from . import encoders

        return encoders.source(self.encoder)

    def to_dict(self) -> dict[str, Any]:
        """The options as plain JSON types; of the directory its name."""
        source = self.source()
        return {
            "devices": [device.to_dict() | {"name": device.name} for device in self.devices],
            "times": list(self.times),
            "ways": list(self.ways),
            "rank": self.rank,
            "encoder": None if self.encoder is None else self.encoder.resolve().name,
            "encoder_digest": None if source is None else source["digest"],
            "test": self.test,
            "examples": self.examples,
        }


@job
def measured(
    *,
    device: dict[str, Any],
    encoder: dict[str, str] | None,
    way: str,
    times: list[float],
    rank: int,
    epochs: int,
    test: int,
    examples: int,
    repeats: int,
    seed: int,
) -> dict[str, Any]:
    """Mean cosines with the clean embeddings, and neighbors that stay (%), of chips at each time.

    Chip number i has the same seed whatever the way.
    """
    from .. import torch as nct
    from . import encoders

    model, batches = encoders.encoder(encoder, test + examples, seed)
    tested, others = encoders.split(batches, test)
    made = devices.from_dict(device)
    if way == "converted":
        nct.convert(model, made)
    else:
        nct.deploy(model, made, encoders.split(others, CALIBRATION)[0], quiet=True)

    def prepare(model: nn.Module) -> None:
        if way in ("corrected", "trained"):
            nct.correct(model, others, rank)
        if way == "trained":
            nct.adapt(model, others, rank=rank, epochs=epochs, seed=seed, quiet=True)

    kept: list[float] = []

    def cosine(found: Tensor, clean: Tensor) -> Tensor:
        kept.append(encoders.neighbors(found, clean))
        return (found * clean).sum(1).mean()

    how: dict[str, Any] = {"metric": cosine, "against": "clean", "seed": seed, "prepare": prepare}
    curve: Any = nct.evaluate(model, tested, repeats, times=times or None, **how)
    found = curve if times else [curve]
    result: dict[str, Any] = {
        time_label(one.seconds): {"cosine": list(one.scores), "kept": kept[i :: len(found)]}
        for i, one in enumerate(found)
    }
    return result


# --------------------------------------------------------------------------- study


def study(options: Options | None = None) -> Study:
    """The study with options of one's own."""
    given = options or Options()

    def tables(settings: Settings) -> list[Table]:
        """A sentence encoder on noisy crossbars over time, untrained, corrected and trained.

        Embeddings are compared with the clean ones by their cosine and by which other sentence is
        nearest. "converted" is a model with all defaults of a crossbar, "deployed" what one call
        of deploy makes of it, "corrected" has the errors of each chip undone at each time by a
        digital branch of low rank, which "trained" trains further on that chip.
        """
        return _tables(_quick(given) if settings.quick else given, settings)

    return Study(
        "transformer",
        "a transformer of one's own on devices of several publications",
        tables,
        in_cells=False,
        options=lambda settings: (_quick(given) if settings.quick else given).to_dict(),
    )


def _quick(options: Options) -> Options:
    return replace(options, devices=options.devices[:2], times=options.times[::2], test=32,
                   examples=96, rank=min(options.rank, 4))  # fmt: skip


def _tables(options: Options, settings: Settings) -> list[Table]:
    found = list(_entries(options, settings))
    about = ("device and what was done", "since programming")
    return [
        Table(
            "Embeddings", *about, COSINE, tuple(entry for entry in found if _is(entry, "cosine")),
            note=f"With the clean ones. Corrections of rank {options.rank}.",
        ),
        Table(
            "Nearest sentences that stay", *about, NEIGHBORS,
            tuple(entry for entry in found if _is(entry, "kept")),
        ),
    ]  # fmt: skip


def _is(entry: Entry, value: str) -> bool:
    return entry.value.endswith(value)


def _entries(options: Options, settings: Settings) -> Iterator[Entry]:
    source = options.source()
    for device in options.devices:
        times = moments(device, options.times)
        for way in options.ways:
            arguments = {
                "device": device.to_dict(),
                "encoder": source,
                "way": way,
                "times": times,
                "rank": options.rank,
                "epochs": settings.epochs or settings.pick(4, 1),
                "test": options.test,
                "examples": options.examples,
                "repeats": settings.repeats or settings.pick(5, 2),
            }
            jobs = tuple(Job(measured, {**arguments, "seed": s}) for s in settings.training_seeds)
            for label in [time_label(t) for t in times] or [time_label(None)]:
                for value in ("cosine", "kept"):
                    yield Entry(f"{device.name}, {way}", label, jobs, f"{label}/{value}")


STUDIES = (study(),)
