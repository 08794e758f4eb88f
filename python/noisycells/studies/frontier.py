"""Accuracy against cells of every way to store one network: the study ``frontier``.

A network is trained, and a copy of it pruned by 80 %. That copy is stored by the strategies of Isik
et al. (2020), as plain integers, as levels, coded, and in single analog cells; further copies of
the dense network are trained for few bits and stored coded, and one is trained as long for accuracy
alone. Which setting of a way is taken is decided by the validation images, which are training
images that only choose epochs and settings. A sentence encoder comes trained, and is neither pruned
nor trained on; its figure is the cosine of its embeddings with those without noise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .. import _arguments
from .engine import (
    Derived,
    Entry,
    Settings,
    Study,
    Table,
    isik_recipe,
    pruned_recipe,
    rate_recipe,
)
from .frontier_jobs import integers, limit, noise_free, stored
from .frontier_view import CHOSEN, NOISE_FREE, plot_frontier
from .frontier_ways import Network, Point, Way, mean_drop
from .measures import ACCURACY, QUICK_EPOCHS

__all__ = ["STUDIES", "WAYS", "Options", "study"]

WAYS = ("paper", "integers", "analog", "levels", "coded", "trained", "disturbed")
"""The last: those before it in cells other than learnt."""
OF_PRUNED = ("paper", "integers", "levels", "coded")
"""Ways that store the pruned network."""
OF_CLASSIFIERS = ("trained",)
CONTROL = "dense, trained as long as those for few bits"
MEAN_CELLS = (1.1, 2.1, 3.1)
BITS = (8, 6, 5, 4)
BLOCK = 32
RADICES = ((4,), (3, 4), (4, 4), (3, 3))
PLANNED = (1.05, 1.15, 1.3)
"""Cells for digits by tensor, in those of one 4-level cell for all weights."""
ANALOG = ((1, 1, 1), (1, 4, 2), (4, 4, 2))
"""Reads, most pulses and verifying reads of each."""
STEPS = (0.08, 0.12, 0.16, 0.2, 0.25, 0.3, 0.4, 0.55, 0.8)
MARGINS = (1.0, 1.1)
RATES = (0.08, 0.15, 0.3, 0.6)
DROPS = (0.1, 0.25, 0.5, 1.0)
"""Points of accuracy."""
TINY = "tiny"
SENTENCES = {"test": 256, "validation": 128, "examples": 512}
DISTANCES = (0.01, 0.02, 0.04, 0.1)
"""Of embeddings: 1 - cosine."""
CHOSEN_FIGURES = ("cells/original", "cells/stored", "test")
UNITS = "cells, accuracies in %, drops in points"
UNITS_ENCODED = "cells, cosines, drops from 1, neighbors in %"

NOTE = (
    "The setting of fewest cells whose validation accuracy is at most so many points below that "
    "without noise; where there is none, the one of the best validation accuracy. Drops are points "
    "of test accuracy below the pruned network, or the dense one where it was trained for few bits "
    "or is in analog cells."
)
NOTE_ENCODED = (
    "The setting of fewest cells whose embeddings of validation sentences are at most so far from "
    "those without noise; where there is none, the nearest. Distance: 1 - cosine."
)


@dataclass(frozen=True)
class Options:
    """What decides the tables besides the settings that all studies have.

    Parameters
    ----------
    ways : tuple of str, optional
        Of ``WAYS``. Default: all that there are for the network.
    encoder : str, optional
        A sentence encoder to store in the place of a classifier: a directory of transformers, or
        "tiny" for a tiny random one.
    rates : tuple of float, optional
        Weights of the rate of networks that are trained for few bits. Default: ``RATES``.
    test, validation, examples : int, optional
        Sentences to measure with, to choose settings with and to calibrate with, multiples of 16.
        Default: 256, 128 and 512.
    """

    ways: tuple[str, ...] | None = None
    encoder: str | None = None
    rates: tuple[float, ...] | None = None
    test: int | None = None
    validation: int | None = None
    examples: int | None = None

    def __post_init__(self) -> None:
        if self.ways is not None:
            known = [w for w in WAYS if not self.encoded or w not in OF_CLASSIFIERS]
            if not self.ways or not set(self.ways) <= set(known):
                raise _arguments.wrong_value("ways", f"some of {', '.join(known)}", self.ways)
            modes = dict.fromkeys(setting["mode"] for setting in ROBUST.values())
            if "disturbed" in self.ways and not modes.keys() & set(self.ways):
                expected = f"disturbed with one of {', '.join(modes)}"
                raise _arguments.wrong_value("ways", expected, self.ways)
        if self.rates is not None:
            if "trained" not in self.compared:
                raise _arguments.wrong_value("rates", "none without trained", self.rates)
            if not self.rates or len(set(self.rates)) < len(self.rates):
                raise _arguments.wrong_value("rates", "different numbers", self.rates)
            for rate in self.rates:
                _arguments.number("rates", rate, above=0)
        if self.encoded:
            self._check_encoder()
            return
        for name in SENTENCES:
            if getattr(self, name) is not None:
                raise _arguments.wrong_value(name, "none without an encoder", getattr(self, name))

    def _check_encoder(self) -> None:
        """That it is there, and that no batch of sentences is of two kinds."""
        from .encoders import BATCH

        self.source()
        for name, count in self.sentences().items():
            if _arguments.count(name, count) % BATCH:
                raise _arguments.wrong_value(name, f"a multiple of {BATCH}", count)

    @property
    def encoded(self) -> bool:
        """Whether what is stored is an encoder."""
        return self.encoder is not None

    @property
    def compared(self) -> tuple[str, ...]:
        """The ways there are."""
        if self.ways is not None:
            return self.ways
        return tuple(w for w in WAYS if not self.encoded or w not in OF_CLASSIFIERS)

    def source(self) -> dict[str, str] | None:
        """Where the encoder is, and what."""
        from . import encoders

        return encoders.source(None if self.encoder in (None, TINY) else Path(self.encoder))

    def sentences(self) -> dict[str, int]:
        """How many of each kind."""
        given = {name: getattr(self, name) for name in SENTENCES}
        return {n: usual if given[n] is None else given[n] for n, usual in SENTENCES.items()}

    def to_dict(self) -> dict[str, Any]:
        """The options as plain JSON types; of the directory its name."""
        if not self.encoded:
            rates = {} if self.rates is None else {"rates": list(self.rates)}
            return {"ways": list(self.compared), **rates}
        source = self.source()
        return {
            "ways": list(self.compared),
            "encoder": TINY if source is None else Path(source["directory"]).resolve().name,
            "encoder_digest": None if source is None else source["digest"],
            **self.sentences(),
        }


ROBUST: dict[str, dict[str, Any]] = {
    "paper, 1.1 data cells, real side cells": {
        "mode": "paper", "mean_cells": 1.1, "side_errors": True,
    },
    "levels, 3 x 4": {"mode": "levels", "radices": [3, 4], "noise_margin": 1.1},
    **{
        f"coded, step 0.12, margin {margin:g}": {
            "mode": "coded", "step": 0.12, "noise_margin": margin,
        }
        for margin in MARGINS
    },
}  # fmt: skip


def _noisier(factor: float, cell: dict[str, Any]) -> dict[str, Any]:
    """Cells whose noise is so many times the learnt one."""
    changed = {name: cell[name] for name in ("std", "read_std") if cell[name] is not None}
    return {**cell, **{n: (factor * np.array(values)).tolist() for n, values in changed.items()}}


def _drifted(share: float, cell: dict[str, Any]) -> dict[str, Any]:
    """Cells whose mean outputs have moved by a share of the way to the lowest."""
    mean = np.array(cell["mean"])
    return {**cell, "mean": (mean - share * (mean - mean.min())).tolist()}


DISTURBANCES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "as learnt": partial(_noisier, 1.0),
    "1.1 x noise": partial(_noisier, 1.1),
    "1.2 x noise": partial(_noisier, 1.2),
    "2 % drift": partial(_drifted, 0.02),
    "5 % drift": partial(_drifted, 0.05),
    "0.1 % stuck": lambda cell: {**cell, "stuck": [5e-4, 5e-4]},
}
"""How the true cells differ from those that codecs know."""


# --------------------------------------------------------------------------- ways


@dataclass(frozen=True)
class _Plan:
    """What all ways need: which there are, settings, and the networks of all training seeds."""

    options: Options
    settings: Settings
    dense: tuple[Network, ...]
    pruned: tuple[Network, ...]

    @property
    def common(self) -> dict[str, Any]:
        repeats = self.settings.repeats or self.settings.pick(10, 5)
        return {"channel": self.settings.channel.to_dict(), "repeats": repeats}

    @property
    def units(self) -> str:
        return UNITS_ENCODED if self.options.encoded else UNITS

    def way(
        self, name: str, function: Any, names: Sequence[str], networks: Sequence[Network],
        **arguments: Any,
    ) -> Way:  # fmt: skip
        """A way whose settings are all of one job."""
        passes = self.common["repeats"] * len(names)
        jobs = tuple(n.job(function, {**self.common, **arguments}, passes) for n in networks)
        reference = tuple(network.job(noise_free) for network in networks)
        points = tuple(Point(n, jobs, i) for i, n in enumerate(names))
        return Way(name, reference, points, self.units)

    def papers(self) -> list[Way]:
        """The strategies of the paper, sign and range bits read without error or as cells are."""
        found = []
        for errors in (False, True):
            chosen = [
                {"mode": "paper", "mean_cells": cells, "side_errors": errors}
                for cells in self.settings.pick(MEAN_CELLS, MEAN_CELLS[:1])
            ]
            name = "paper, real side cells" if errors else "paper, ideal side cells"
            names = [f"{c['mean_cells']:g} data cells" for c in chosen]
            found.append(self.way(name, stored, names, self.pruned, settings=chosen))
        return found

    def integers(self) -> list[Way]:
        """Plain ones in 1- and 2-bit cells, of all weights and of those kept beside a mask."""
        found = []
        for masked in (False,) if self.options.encoded else (False, True):
            for levels in (2, 4):
                chosen = [
                    {"bits": bits, "levels": levels, "block": block}
                    for block in (None, BLOCK)
                    for bits in self.settings.pick(BITS, BITS[::3])
                ]
                names = [
                    f"{c['bits']} bits, " + (f"blocks of {BLOCK}" if c["block"] else "rows")
                    for c in chosen
                ]
                name = f"integers{' and mask' * masked}, {levels.bit_length() - 1}-bit cells"
                own = {"settings": chosen, "masked": masked}
                found.append(self.way(name, integers, names, self.pruned, **own))
        return found

    def levels(self) -> list[Way]:
        """Digits straight in cells, the same for all tensors or as planned for each."""
        radices = self.settings.pick(RADICES, RADICES[:1])
        planned = self.settings.pick(PLANNED, PLANNED[1:2])
        common = {"mode": "levels", "noise_margin": 1.1}
        chosen: list[dict[str, Any]] = [{**common, "radices": list(r)} for r in radices]
        chosen += [{**common, "planned": factor} for factor in planned]
        names = [" x ".join(map(str, r)) for r in radices]
        names += [f"planned for {factor:g} x the cells of 4" for factor in planned]
        return [self.way("levels", stored, names, self.pruned, settings=chosen)]

    def analog(self) -> list[Way]:
        """One cell a weight in a closed loop, where the device's reads are known apart."""
        if self.settings.channel.read_std is None:
            return []
        chosen = [
            {"mode": "analog", "reads": reads, "pulses": pulses, "verify_reads": verified}
            for reads, pulses, verified in self.settings.pick(ANALOG, ANALOG[:1])
        ]
        names = [
            f"{c['reads']} reads, {c['pulses']} pulses, {c['verify_reads']} verifying"
            for c in chosen
        ]
        return [self.way("analog, 1 cell", stored, names, self.dense, settings=chosen)]

    def coded(self) -> list[Way]:
        """Behind a code made for the nominal noise, and for a tenth more."""
        steps = self.settings.pick(STEPS, STEPS[::4])
        return [
            self.way(
                f"coded, margin {margin:g}", stored, [f"step {step:g}" for step in steps],
                self.pruned,
                settings=[{"mode": "coded", "step": s, "noise_margin": margin} for s in steps],
            )
            for margin in MARGINS
        ]  # fmt: skip

    def trained_for_bits(self) -> list[Way]:
        """Networks trained for few bits, coded; drops are against the dense network."""
        reference = tuple(network.job(noise_free) for network in self.dense)
        control = tuple(network.job(noise_free) for network in self.trained(0.0))
        found = []
        for margin in MARGINS:
            points = []
            for weight in self.rates:
                chosen = [{"mode": "coded", "step": "learnt", "noise_margin": margin}]
                jobs = tuple(
                    network.job(stored, {**self.common, "settings": chosen})
                    for network in self.trained(weight)
                )
                points.append(Point(f"rate weight {weight:g}", jobs))
            name = f"rate-trained, margin {margin:g}"
            found.append(Way(name, reference, tuple(points), self.units, control))
        return found

    def limit(self) -> Way:
        """Shannon's, for independent errors."""
        steps = self.settings.pick(STEPS, STEPS[::4])
        return self.way(
            "Shannon limit, independent errors", limit, [f"step {step:g}" for step in steps],
            self.pruned, steps=list(steps),
        )  # fmt: skip

    def robustness(self) -> list[Table]:
        """Cells that are not as they were learnt: accuracies, and reads that fail."""
        known = self.settings.channel.to_dict()
        entries: dict[str, list[Entry | Derived]] = {"test": [], "failed": []}
        chosen = {way: s for way, s in ROBUST.items() if s["mode"] in self.options.compared}
        for way, setting in chosen.items():
            for disturbance, change in DISTURBANCES.items():
                cells = {"channel": change(known), "learnt": known}
                arguments = {**self.common, **cells, "settings": [setting]}
                jobs = tuple(n.job(stored, arguments, arguments["repeats"]) for n in self.pruned)
                point = Point(way, jobs)
                for figure, found in entries.items():
                    found.append(point.entry(disturbance, figure))
        note = "A failed read counts as 0."
        figures = "mean cosine" if self.options.encoded else ACCURACY
        titles = {"test": "Cells other than learnt", "failed": "Reads that fail in such cells"}
        return [
            Table(
                titles[figure], "way", "cells", figures if figure == "test" else "reads",
                tuple(found), note=note, drawn=False,
            )
            for figure, found in entries.items()
        ]  # fmt: skip

    @property
    def of_pruned(self) -> bool:
        """Whether there is a way that stores the pruned network."""
        return any(way in OF_PRUNED for way in self.options.compared)

    @property
    def rates(self) -> tuple[float, ...]:
        return self.options.rates or self.settings.pick(RATES, RATES[2:3])

    def trained(self, weight: float) -> list[Network]:
        """The dense networks trained further, for few bits or with a weight of 0 for accuracy."""
        epochs = self.settings.epochs if self.settings.quick else None
        recipes = (network.recipe for network in self.dense)
        return [Network(rate_recipe(recipe, weight, epochs)) for recipe in recipes if recipe]

    def noise_free(self) -> Table:
        """Networks as they were trained."""
        named: dict[str, Sequence[Network]] = {"dense": self.dense}
        if "trained" in self.options.compared:
            named[CONTROL] = self.trained(0.0)
        if self.of_pruned:
            named["pruned"] = self.pruned
        if "trained" in self.options.compared:
            for weight in self.rates:
                named[f"trained for few bits, rate weight {weight:g}"] = self.trained(weight)
        entries: list[Entry | Derived] = []
        for row, networks in named.items():
            jobs = tuple(network.job(noise_free) for network in networks)
            found = [Entry(row, f"{part} accuracy", jobs, part) for part in ("validation", "test")]
            dense = Entry("", "", tuple(network.job(noise_free) for network in self.dense), "test")
            entries += [*found, Derived(row, "drop", (dense, found[1]), mean_drop)]
        return Table(NOISE_FREE, "network", "figure", "%", tuple(entries), drawn=False)

    def all(self) -> list[Way]:
        """Every way there is."""
        found: dict[str, Callable[[], list[Way]]] = {
            "paper": self.papers,
            "integers": self.integers,
            "analog": self.analog,
            "levels": self.levels,
            "coded": self.coded,
            "trained": self.trained_for_bits,
        }
        compared = self.options.compared
        return [way for name, make in found.items() if name in compared for way in make()]


def study(options: Options | None = None) -> Study:
    """The study with options of one's own."""
    given = options or Options()

    def tables(settings: Settings) -> list[Table]:
        """Accuracy against all cells of an original weight, for every way to store a network.

        One network, 80 % pruned: the strategies of Isik et al. (2020) with side cells that are read
        without and with errors, plain integers, levels, coded, and what Shannon's limit asks for.
        The dense network: one analog cell a weight, and trained for few bits, then coded, beside a
        copy trained as long for accuracy alone. Everything is counted in cells: mask, signs,
        scales, biases, checksums. A sentence encoder (--encoder) is stored as it is, neither pruned
        nor trained; cosines of its embeddings stand for accuracies.
        """
        return _tables(given, settings)

    model = "" if given.encoded else "LeNet"
    return Study(
        "frontier", "fewest cells for a network, everything counted", tables, model, model,
        options=lambda settings: given.to_dict(), draw=plot_frontier,
    )  # fmt: skip


def _tables(options: Options, settings: Settings) -> list[Table]:
    plan = _plan(options, settings)
    ways = plan.all()
    figures = (*CHOSEN_FIGURES, *(("neighbors",) if options.encoded else ()))
    drops = DISTANCES if options.encoded else DROPS
    chosen = [entry for way in ways for most in drops for entry in way.chosen(most, figures)]
    return [
        *([] if options.encoded else [plan.noise_free()]),
        *(way.table() for way in ways),
        *([plan.limit().table()] if plan.of_pruned else []),
        *(plan.robustness() if "disturbed" in options.compared else []),
        Table(
            CHOSEN, "way, at most", "figure", "see column", tuple(chosen),
            note=NOTE_ENCODED if options.encoded else NOTE, drawn=False,
        ),
    ]  # fmt: skip


def _plan(options: Options, settings: Settings) -> _Plan:
    if options.encoded:
        for name in ("model", "teacher", "epochs"):
            if value := getattr(settings, name):
                raise _arguments.wrong_value(name, "none with an encoder", value)
        named = {"source": options.source(), **options.sentences()}
        encoders = tuple(Network(None, {**named, "seed": s}) for s in settings.training_seeds)
        return _Plan(options, settings, encoders, encoders)
    epochs = settings.epochs or settings.pick(30, QUICK_EPOCHS)
    dense = [
        isik_recipe(settings.source, settings.model, seed, epochs, **settings.hardware)
        for seed in settings.training_seeds
    ]
    pruned = map(pruned_recipe, dense)
    return _Plan(options, settings, tuple(map(Network, dense)), tuple(map(Network, pruned)))


STUDIES = (study(),)
"""NAME is that of the command ``noisycells study NAME``."""
