"""Networks by their recipe: from the cache, or trained and put there."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ... import devices
from ..._arguments import wrong_value
from ...data import Dataset, stratified_split
from ...storage import Codec
from .cache import Cache
from .recipes import MODELS, Recipe
from .report import finite

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

__all__ = ["Trained", "about", "build", "inject", "network", "step_seconds"]

VALIDATION = 0.1  # share of the training images that chooses the epoch


@dataclass(frozen=True)
class Trained:
    """A trained network and the images it was trained for.

    Parameters
    ----------
    model : torch.nn.Module
        In evaluation mode, the caller's to change.
    masks : dict of str to ndarray of bool
        The weights kept, by parameter name; empty where nothing was pruned.
    dataset : Dataset
    recipe : Recipe
    record : dict
        What :func:`about` gives.
    """

    model: nn.Module
    masks: dict[str, npt.NDArray[np.bool_]]
    dataset: Dataset
    recipe: Recipe
    record: dict[str, Any]


def network(recipe: Recipe, cache: Cache, progress: Callable[[], None] | None = None) -> Trained:
    """The network of a recipe, trained now if the cache has none.

    ``progress`` is called after each epoch of training, that of networks it needs included. The
    network is on the processor it was trained on, or on the CPU where that is not there; noise is
    then of other numbers.
    """
    dataset = recipe.source.load()
    if recipe.key not in cache:
        cache.put(recipe.key, *_train(recipe, dataset, cache, progress))
    # Not the model that was trained: the order of its parameters and types in its record differ.
    found = cache.get(recipe.key)
    assert found is not None
    state, record = found
    model = build(recipe, dataset)
    model.load_state_dict(state)
    masks = {}
    if recipe.pruned:
        masks = {
            name: weight.numpy(force=True) != 0
            for name, weight in model.named_parameters()
            if weight.ndim >= 2
        }
    return Trained(model.to(_device(recipe)).eval(), masks, dataset, recipe, record)


def about(trained: Trained) -> dict[str, Any]:
    """A network in a report: its noise-free test accuracy in percent, and its training."""
    unwanted = ("seconds", "recipe")
    return {name: value for name, value in trained.record.items() if name not in unwanted}


def build(recipe: Recipe, dataset: Dataset) -> nn.Module:
    """The untrained network of a recipe, on the CPU."""
    from ... import torch as nct

    function, arguments = MODELS[recipe.model]
    shape = dataset.train_images.shape[1:]
    size = {"in_channels": shape[0]} if "ResNet" in function else {"shape": shape}
    model = nct.build(
        lambda: getattr(nct, function)(dataset.classes, **size, **arguments), recipe.seed
    )
    if recipe.quantize is not None:
        nct.quantize(model, **recipe.quantize)
    return model


def inject(model: nn.Module, noise: dict[str, Any], seed: int) -> Any:
    """:func:`noisycells.torch.inject_noise` with arguments of JSON types.

    A codec or device is its ``to_dict()``; a list as eta is a pair (low, high).
    """
    from ... import torch as nct

    arguments = dict(noise)
    if "codec" in arguments:
        arguments["codec"] = Codec.from_dict(arguments["codec"])
    if "device" in arguments:
        arguments["device"] = devices.from_dict(arguments["device"])
    if isinstance(arguments.get("eta"), list):
        arguments["eta"] = tuple(arguments["eta"])
    return nct.inject_noise(model, **arguments, seed=seed)


def _device(recipe: Recipe) -> str:
    import torch

    return recipe.compute if recipe.compute != "cuda" or torch.cuda.is_available() else "cpu"


def _train(
    recipe: Recipe, dataset: Dataset, cache: Cache, progress: Callable[[], None] | None
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The state of the trained model and its record; goes on from a checkpoint if there is one."""
    import torch

    from ... import torch as nct

    begin = time.perf_counter()
    if recipe.compute == "cuda" and not torch.cuda.is_available():
        needed = f"a cache with this {recipe.model} or a GPU to train it on"
        raise wrong_value("compute", needed, "neither")
    model = build(recipe, dataset)
    if recipe.start is not None:
        start = network(recipe.start, cache, progress).model
        # Ranges of quantization begin anew where the start had none.
        model.load_state_dict(start.state_dict(), strict=recipe.quantize == recipe.start.quantize)
    model.to(recipe.compute)
    loader, validation = _loaders(recipe, dataset)
    cache.directory.mkdir(parents=True, exist_ok=True)
    checkpoint = cache.directory / f"{recipe.key}.checkpoint"
    arguments: dict[str, Any] = {
        "epochs": recipe.epochs,
        "seed": recipe.seed,
        "optimizer": _optimizer(recipe),
        "scheduler": _scheduler(recipe),
        "autocast": None if recipe.precision == "float32" else torch.bfloat16,
        "checkpoint": checkpoint,
        "progress": None if progress is None else lambda epoch, accuracy: progress(),
    }
    with ExitStack() as stack:
        if recipe.pruned:
            nct.magnitude_prune(model, recipe.pruned)
        if recipe.noise is not None:
            stack.enter_context(inject(model, recipe.noise, recipe.seed))
        if recipe.teacher is not None:
            teacher = network(recipe.teacher, cache, progress).model.to(recipe.compute)
            training = nct.distill(
                model, teacher, loader, validation, **(recipe.distillation or {}), **arguments
            )
        else:
            loss = None if recipe.consistency is None else _consistency(**recipe.consistency)
            training = nct.fit(model, loader, validation, loss=loss, **arguments)
    if recipe.pruned:
        nct.make_permanent(model)
    checkpoint.unlink(missing_ok=True)
    accuracy = nct.accuracy(model, dataset.normalize(dataset.test_images), dataset.test_labels)
    return model.state_dict(), {
        "name": recipe.model,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "accuracy": accuracy,
        "training": {**asdict(training), "losses": finite(training.losses)},
        "recipe": recipe.describe(),
        "seconds": time.perf_counter() - begin,
    }


def _loaders(recipe: Recipe, dataset: Dataset) -> tuple[Any, Any]:
    """Batches to train on and to choose the epoch by."""
    from ... import torch as nct

    images, labels = dataset.normalize(dataset.train_images), dataset.train_labels
    rows, others = stratified_split(labels, VALIDATION, recipe.seed)
    layout: Any = "channels_last"
    return (
        nct.batches(
            images[rows], labels[rows], recipe.batch, augment=recipe.augment, layout=layout
        ),
        nct.batches(images[others], labels[others], 500, shuffle=False, layout=layout),
    )


def _consistency(form: str, weight: float) -> Callable[[nn.Module, Tensor, Tensor], Tensor]:
    from ... import torch as nct

    if form == "features":
        return lambda model, x, y: nct.feature_consistency_loss(model, x, y, weight)
    return lambda model, x, y: nct.consistency_loss(model(x), model(x), y, weight)


def _optimizer(recipe: Recipe) -> Callable[[Any], torch.optim.Optimizer]:
    import torch

    options: dict[str, Any] = {"lr": recipe.learning_rate, "weight_decay": recipe.weight_decay}
    if recipe.optimizer == "adam":
        return lambda parameters: torch.optim.Adam(parameters, **options)
    return lambda parameters: torch.optim.SGD(parameters, momentum=0.9, **options)


def _scheduler(recipe: Recipe) -> Callable[[torch.optim.Optimizer, int], Any] | None:
    import torch

    if recipe.schedule == "constant":
        return None
    return lambda optimizer, steps: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)


def step_seconds(recipe: Recipe, repeats: int = 5) -> float:
    """Seconds of one training step, the shortest of a few; nothing is trained."""
    import torch
    from torch.nn import functional as F

    from ...torch.training.batches import channels_last

    dataset = recipe.source.load()
    model = build(recipe, dataset).to(_device(recipe)).train()
    shape = (recipe.batch, *dataset.train_images.shape[1:])
    images = channels_last(torch.zeros(shape, device=_device(recipe)))
    labels = torch.zeros(recipe.batch, dtype=torch.int64, device=_device(recipe))
    times = []
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        with torch.autocast(
            images.device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"
        ):
            loss = F.cross_entropy(model(images), labels)
        loss.backward()
        if images.is_cuda:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    return min(times)
