"""The command ``noisycells plan``, and planning by ``noisycells store``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click
from click.core import ParameterSource

from .. import _arguments, storage
from ..channel import Channel
from ..io import is_weights, replacing
from ..storage.files import read_weights
from ..storage.planning.plan import MODES
from ..studies.engine.recipes import MODELS
from .options import (
    OUT_FILE,
    data_option,
    device_option,
    force_option,
    json_option,
    noise_margin_option,
    nonzero_option,
    progress,
    seed_option,
    store_biases_option,
    to_json,
)
from .weights import read_state

if TYPE_CHECKING:
    from torch import nn

__all__ = ["plan", "planned", "planning_options"]

DEFAULT_LOSS = 0.01
CALIBRATION, SENSITIVITY = 2000, 500
"""Training images for the moments of layers' inputs, and for sensitivities."""

_TARGETS = (
    click.option(
        "--budget", type=float, metavar="X", help="Cells an original weight, all counted, at most."
    ),
    click.option(
        "--max-loss",
        type=float,
        metavar="X",
        help="Expected loss at most: the share of the weights' mean square; with --network, nats.",
    ),
    click.option(
        "--max-drop",
        type=float,
        metavar="POINTS",
        help="Accuracy lost at most, measured by reading on validation images; needs --network.",
    ),
)
_NETWORK = (
    click.option(
        "--network",
        type=click.Choice([*MODELS], case_sensitive=False),
        metavar="NAME",
        help=f"What the weights are of, to plan with its images: {', '.join(MODELS)}.",
    ),
    data_option,
    seed_option("Seed of everything random."),
)


def planning_options(function: Callable[..., None]) -> Callable[..., None]:
    """The target of a plan, and the network and images to measure it with."""
    for option in reversed((*_TARGETS, *_NETWORK)):
        function = option(function)
    return function


class _Network(NamedTuple):
    """A network with its weights, and images that were not trained on.

    Attributes
    ----------
    model : torch.nn.Module
    validation : batches
    moments, sensitivity : mapping of str to ndarray
        Of training images.
    """

    model: nn.Module
    validation: Any
    moments: dict[str, Any]
    sensitivity: dict[str, Any]


def _network(file: Path, name: str, data: str, seed: int) -> _Network:
    """The network of a file of weights.

    The validation images are those that a training of this package with that seed leaves out.

    Raises
    ------
    ValueError
        If the file does not hold the weights of that network for these images.
    """
    import torch

    from .. import torch as nct
    from ..data import stratified_split
    from ..studies.engine.recipes import Recipe, Source
    from ..studies.engine.training import VALIDATION, build

    source = Source.of(data)
    dataset = source.load()
    model = build(Recipe(source, name, seed, epochs=1), dataset)
    state = read_state(file)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise _arguments.wrong_value(file, f"the weights of {name} for {data}", reason) from None
    images, labels = dataset.normalize(dataset.train_images), dataset.train_labels
    rows, others = stratified_split(labels, VALIDATION, seed)
    return _Network(
        model,
        nct.batches(images[others], labels[others], 500, shuffle=False),
        nct.input_moments(model, torch.as_tensor(images[rows[:CALIBRATION]])),
        nct.sensitivity(model, torch.as_tensor(images[rows[:SENSITIVITY]])),
    )


def _plan(
    file: Path,
    channel: Channel,
    network: _Network | None,
    targets: dict[str, float | None],
    **options: Any,
) -> storage.Plan:
    """The plan for a file of weights; ``options`` are of :func:`noisycells.storage.plan`."""
    mask = "nonzero" if options.pop("nonzero") else None
    biases = options.pop("store_biases")
    given = {name: value for name, value in targets.items() if value is not None}
    if len(given) > 1:
        raise _arguments.wrong_value("--budget, --max-loss, --max-drop", "one", len(given))
    if "max_drop" in given and network is None:
        raise _arguments.wrong_value("--network", "a name with --max-drop", "none")
    count = len(MODES) if options.get("mode") is None else 1
    with progress("plan", count) as step:
        options |= {**(given or {"max_loss": DEFAULT_LOSS}), "progress": lambda mode: step()}
        if network is not None:
            from .. import torch as nct

            return nct.plan(
                network.model,
                channel,
                data=network.validation,
                mask=mask,
                moments=network.moments,
                sensitivity=network.sensitivity,
                store_biases=biases,
                **options,
            )
        if is_weights(file):
            weights = read_weights(file, biases)
        else:
            from ..torch.store import to_store

            weights = to_store(read_state(file), biases, None, None, None)["weights"]
        return storage.plan(weights, channel, mask=mask, **options)


class Chosen(NamedTuple):
    """What a plan says of how to store a model.

    Attributes
    ----------
    mode, settings : str
    codec, overrides, moments
        For :func:`noisycells.torch.store`.
    network : _Network or None
        The model, where it was planned with images.
    """

    mode: str
    settings: str
    codec: Any
    overrides: dict[str, Any] | None
    moments: dict[str, Any] | None
    network: _Network | None


def planned(
    file: Path,
    channel: Channel,
    mode: str,
    nonzero: bool,
    store_biases: bool,
    options: dict[str, Any],
) -> Chosen | None:
    """The best of a plan for ``noisycells store``; None where no target was given.

    Takes from ``options`` what :func:`planning_options` adds to the others.
    """
    context = click.get_current_context()

    def default(name: str) -> bool:
        return context.get_parameter_source(name) is ParameterSource.DEFAULT

    targets = {name: options.pop(name) for name in ("budget", "max_loss", "max_drop")}
    network, data, seed = (options.pop(name) for name in ("network", "data", "seed"))
    if not any(target is not None for target in targets.values()):
        for name in ("network", "data", "seed"):
            if not default(name):
                wanted = "none without --budget, --max-loss or --max-drop"
                raise _arguments.wrong_value(f"--{name}", wanted, context.params[name])
        return None
    for name in options:
        if name != "noise_margin" and not default(name):
            option = f"--{name.replace('_', '-')}"
            raise _arguments.wrong_value(option, "none where settings are planned", options[name])
    known = None if network is None else _network(file, network, data, seed)
    best = _plan(
        file,
        channel,
        known,
        targets,
        mode=None if default("mode") else mode,
        nonzero=nonzero,
        store_biases=store_biases,
        noise_margin=options["noise_margin"],
    ).best
    moments = known.moments if known is not None and best.feedback else None
    return Chosen(best.mode, best.settings, best.codec, best.overrides or None, moments, known)


@click.command()
@click.argument("model", type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--output", type=OUT_FILE, help="Write the plan here, as JSON.")
@device_option
@click.option("--mode", type=click.Choice(MODES), help="Plan this mode alone.")
@planning_options
@noise_margin_option
@nonzero_option
@store_biases_option
@force_option
@json_option
def plan(
    model: Path,
    output: Path | None,
    channel: Channel,
    network: str | None,
    data: str,
    seed: int,
    as_json: bool,
    budget: float | None,
    max_loss: float | None,
    max_drop: float | None,
    **options: Any,
) -> None:
    """Say how many cells a network needs on a device, in each mode.

    MODEL is a file of weights as for `noisycells store`. Nothing is stored. Without a target, the
    expected loss may be 0.01. With --network, layers' inputs and sensitivities are found with
    training images, and what is planned is read and measured on validation images.
    """
    targets = {"budget": budget, "max_loss": max_loss, "max_drop": max_drop}
    known = None if network is None else _network(model, network, data, seed)
    found = _plan(model, channel, known, targets, **options)
    if output is not None:
        with replacing(output) as file:
            file.write(f"{to_json(found.to_dict())}\n".encode())
    click.echo(to_json(found.to_dict()) if as_json else found)
