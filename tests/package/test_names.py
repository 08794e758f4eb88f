"""What tab completion shows, and names that mean one thing wherever they stand."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import click
import pytest

import noisycells as nc

PACKAGES = ["noisycells"] + [
    found.name for found in pkgutil.walk_packages(nc.__path__, "noisycells.") if found.ispkg
]


def imported(name: str) -> ModuleType:
    if name.startswith(("noisycells.torch", "noisycells.studies")):
        pytest.importorskip("torch")
    return importlib.import_module(name)


MODULES = [f"noisycells.{name}" for name in ("bits", "intervals", "random", "runtime")]


@pytest.mark.parametrize("name", [*PACKAGES, *MODULES])
def test_tab_completion_shows_public_names_and_submodules(name: str) -> None:
    """No numpy, no future annotations, no helper that a module happens to import."""
    module = imported(name)
    submodules = {found.name for found in pkgutil.iter_modules(getattr(module, "__path__", []))}
    public = set(getattr(module, "__all__", []))
    shown = {n for n in dir(module) if not n.startswith("_")}
    assert shown <= public | submodules, sorted(shown - public - submodules)
    assert public <= set(dir(module))
    assert shown or not public


# ----------------------------------------------------------------- one name for one thing


def functions() -> Iterator[tuple[str, Any]]:
    """Public functions and methods of everything that is listed in an ``__all__``."""
    for name in PACKAGES:
        if name.startswith(("noisycells.studies", "noisycells.cli", "noisycells.reference")):
            continue  # the reference has the names of the core
        module = imported(name)
        for key in getattr(module, "__all__", []):
            thing = getattr(module, key)
            if inspect.isfunction(thing):
                yield f"{name}.{key}", thing
            elif inspect.isclass(thing) and thing.__module__.startswith("noisycells"):
                for member, value in vars(thing).items():
                    raw = getattr(value, "__func__", value)
                    if inspect.isfunction(raw) and not member.startswith("_"):
                        yield f"{name}.{key}.{member}", raw
                yield f"{name}.{key}", thing.__init__


def parameters() -> list[tuple[str, inspect.Parameter]]:
    found = []
    for name, function in functions():
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError):  # of a class made by others, such as an enumeration
            continue
        found += [(name, parameter) for parameter in signature.parameters.values()]
    return found


def test_one_name_for_one_thing() -> None:
    named = parameters()
    assert {"num_threads", "repeats", "mask", "collapse", "seed"} <= {p.name for _, p in named}
    for name, parameter in named:
        if parameter.name == "num_threads":
            assert parameter.kind is inspect.Parameter.KEYWORD_ONLY, name
        synonyms = {"n_threads", "threads", "masks", "literal", "chips", "reads", "n_repeats"}
        averaged = parameter.name == "reads" and ".storage." in name  # of one cell, for their mean
        if not name.startswith("noisycells.speed") and not averaged:
            assert parameter.name not in synonyms, f"{name}({parameter.name})"


def test_encode_and_transmit_have_one_order() -> None:
    encode, transmit = (
        list(inspect.signature(f).parameters) for f in (nc.Codec.encode, nc.Codec.transmit)
    )
    transmit.remove("seed")
    assert encode[:5] == transmit[:5] == ["self", "weights", "mask", "sensitivity", "name"]


def test_effective_weights_stand_beside_the_weights() -> None:
    array = nc.Crossbar([[0.5, -1.0]], "ideal")
    assert array.effective_weights().shape == array.weight.shape
    assert not hasattr(array, "weights")


# ----------------------------------------------------------------- the command line


def options() -> Iterator[tuple[str, click.Option]]:
    from noisycells.cli import main

    def walk(name: str, command: click.Command) -> Iterator[tuple[str, click.Option]]:
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                yield name, parameter
        if isinstance(command, click.Group):
            for key, inner in command.commands.items():
                yield from walk(f"{name} {key}", inner)

    return walk("noisycells", main)


def test_options_have_one_name() -> None:
    pytest.importorskip("torch")
    found = list(options())
    assert sum("--output" in option.opts for _, option in found) > 6
    for name, option in found:
        assert ("--output" in option.opts) == ("-o" in option.opts), name
        assert not {"--out", "--reads", "--chips", "--directory"} & set(option.opts), name
