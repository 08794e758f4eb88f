"""What decides a trained network: the data, the model and how it is trained, as plain JSON types.

Networks are cached by the key of their recipe and shared between studies; a recipe that starts
from another network, or has a teacher, holds the recipe of that one.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from ... import __version__, _arguments, data, random

__all__ = ["MODELS", "Recipe", "Source", "content_key", "isik_recipe", "pruned_recipe"]

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    **{
        name: (name, {})
        for name in (
            "LeNet", "LeNetWide", "LeNetNarrow", "LeNetDeep", "MLP",
            "ResNet18", "ResNet20", "ResNet32", "SlimResNet20",
        )
    },
    "SlimResNet14": ("SlimResNet20", {"blocks": 2}),
}  # fmt: skip
"""Networks by name: a function of ``noisycells.torch`` and its arguments. SlimResNet14 is the
"slim ResNet-20" as Table 6 of Isik et al. (2020) shows it, with 2 blocks a stage."""


def content_key(*parts: Any) -> str:
    """32 hexadecimal digits that name ``parts``, of JSON types, and the versions they ran on.

    The versions are those of this package, of its random streams and of torch, whose builds for
    different processors count as the same. Code is named by its version alone: who changes what a
    function computes, and not the version, has to delete the results and networks kept before.
    """
    versions = [__version__, random.STREAM_VERSION, _torch_version()]
    text = json.dumps([versions, *parts], sort_keys=True, allow_nan=False)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


@lru_cache
def _torch_version() -> str:
    return importlib.metadata.version("torch").partition("+")[0]


@dataclass(frozen=True)
class Source:
    """Which images: where they are, what they are, and how many of them are used.

    Parameters
    ----------
    name : str
        As :func:`noisycells.data.load` takes it.
    digest : str
        Of all images and labels; :meth:`load` refuses others. It counts in keys, ``name`` does not.
    subset : int, optional
        Training images used, of each class its share. Default: all.
    test_subset : int, optional
        Test images used, the first ones. Default: all.
    """

    name: str
    digest: str
    subset: int | None = None
    test_subset: int | None = None

    @classmethod
    def of(cls, name: str, subset: int | None = None, test_subset: int | None = None) -> Source:
        """The images of that name as they are now."""
        return cls(name, _load(name)[1], subset, test_subset)

    def load(self) -> data.Dataset:
        """The images.

        Raises
        ------
        ValueError
            If the images of that name are not the ones of the digest, as may happen on another
            machine.
        """
        return _part(self)

    def _load(self) -> data.Dataset:
        dataset, digest = _load(self.name)
        if digest != self.digest:
            raise _arguments.wrong_value(
                "data", f"{self.name} with the digest {self.digest}", f"one with {digest}"
            )
        if self.subset is not None:
            dataset = dataset.subset(self.subset, seed=0)
        if self.test_subset is not None:
            dataset = replace(
                dataset,
                test_images=dataset.test_images[: self.test_subset],
                test_labels=dataset.test_labels[: self.test_subset],
            )
        return dataset


@lru_cache(maxsize=2)
def _part(source: Source) -> data.Dataset:
    """The images of a source; kept, for one job after another is about the same ones."""
    return source._load()


@lru_cache(maxsize=1)
def _load(name: str) -> tuple[data.Dataset, str]:
    """A data set and its digest."""
    dataset = data.load(name, seed=0)
    digest = hashlib.blake2b(digest_size=16)
    for part in ("train_images", "train_labels", "test_images", "test_labels"):
        array = np.ascontiguousarray(getattr(dataset, part))
        digest.update(f"{part} {array.dtype} {array.shape}".encode())
        digest.update(array.data)
    return dataset, digest.hexdigest()


@dataclass(frozen=True)
class Recipe:
    """How a network is made.

    Parameters
    ----------
    source : Source
    model : str
        One of ``MODELS``.
    seed : int
        Seed of the initial weights, the validation split, the order of the images and the noise.
    epochs : int
        Passes over the training images; the epoch that is best on the validation images is kept.
    optimizer : {"adam", "sgd"}
        Adam, or stochastic gradient descent with a momentum of 0.9.
    learning_rate, weight_decay : float
    schedule : {"constant", "cosine"}
        Of the learning rate; cosine falls to 0 with the last step.
    batch : int
        Images a step.
    augment : {"flip", "crop-flip"} or None
        See :func:`noisycells.torch.batches`.
    start : Recipe, optional
        The network whose weights training starts from.
    pruned : float
        Share of the weights set to zero before training, by magnitude over the whole network,
        and held there.
    teacher : Recipe, optional
        The network to distil from.
    distillation : dict, optional
        ``temperature``, ``alpha`` and ``form`` of :func:`noisycells.torch.distill`.
    noise : dict, optional
        Arguments of :func:`noisycells.torch.inject_noise` during training, without the seed; a
        codec as its ``to_dict()``. An eta of 0 with a clip is clipping alone.
    quantize : dict, optional
        Arguments of :func:`noisycells.torch.quantize`.
    consistency : dict, optional
        ``form``, "features" (:func:`noisycells.torch.feature_consistency_loss`, Hou et al. 2024)
        or "outputs" (:func:`noisycells.torch.consistency_loss`), and ``weight``.
    compute : {"cpu", "cuda"}
        What it is trained on, which decides how sums are rounded.
    precision : {"float32", "bfloat16"}
        Of products in training; with bfloat16, weights, noise and tests are still of float32.
    """

    source: Source
    model: str
    seed: int
    epochs: int
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    weight_decay: float = 5e-4
    schedule: str = "constant"
    batch: int = 100
    augment: str | None = None
    start: Recipe | None = None
    pruned: float = 0.0
    teacher: Recipe | None = None
    distillation: dict[str, Any] | None = None
    noise: dict[str, Any] | None = None
    quantize: dict[str, Any] | None = None
    consistency: dict[str, Any] | None = None
    compute: str = "cpu"
    precision: str = "float32"

    def __post_init__(self) -> None:
        _arguments.seed("seed", self.seed)
        for name, value, known in (
            ("model", self.model, MODELS),
            ("optimizer", self.optimizer, ("adam", "sgd")),
            ("schedule", self.schedule, ("constant", "cosine")),
            ("compute", self.compute, ("cpu", "cuda")),
            ("precision", self.precision, ("float32", "bfloat16")),
        ):
            _arguments.choice(name, value, known)
        _arguments.count("epochs", self.epochs)
        _arguments.number("pruned", self.pruned, 0, below=1)

    def parents(self) -> Iterator[Recipe]:
        """The networks this one needs."""
        yield from (recipe for recipe in (self.start, self.teacher) if recipe is not None)

    def lineage(self) -> Iterator[Recipe]:
        """The networks it needs, and those that they need, each before it is needed; and itself."""
        for parent in self.parents():
            yield from parent.lineage()
        yield self

    @property
    def depth(self) -> int:
        """How many networks have to be trained one after another for this one, itself included."""
        return 1 + max((parent.depth for parent in self.parents()), default=0)

    @cached_property
    def key(self) -> str:
        """Names the network in the cache."""
        return content_key(self._identity())

    def describe(self) -> dict[str, Any]:
        """What a report says of it, as plain JSON types: nothing that is not used, and no paths.

        Of the networks it needs, model and key.
        """
        parents = {
            name: {"model": parent.model, "key": parent.key}
            for name, parent in (("start", self.start), ("teacher", self.teacher))
            if parent is not None
        }
        values = {**self._identity(), **parents}
        return {name: value for name, value in values.items() if value is not None}

    def _identity(self) -> dict[str, Any]:
        """All that decides the network; not where the images were found."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        source = {**asdict(self.source)}
        del source["name"]
        nested = {
            name: None if values[name] is None else values[name]._identity()
            for name in ("start", "teacher")
        }
        return {**values, **nested, "source": source}


def isik_recipe(
    source: Source, model: str, seed: int, epochs: int | None = None, **changes: Any
) -> Recipe:
    """The training of Isik et al. (2020, appendix B); ``changes`` are of other fields.

    LeNets and the perceptron: Adam with a learning rate of 0.001, weight decay 5e-4, batches of
    100, 100 epochs. Residual networks: SGD with a learning rate of 0.1, momentum 0.9, weight decay
    5e-4, batches of 128, 350 epochs, flips of color images. The paper does not say how the
    learning rate falls there; here it is a cosine.
    """
    if "ResNet" not in model:
        return Recipe(source, model, seed, 100 if epochs is None else epochs, **changes)
    color = source.load().train_images.shape[1] == 3
    return Recipe(
        source,
        model,
        seed,
        350 if epochs is None else epochs,
        optimizer="sgd",
        learning_rate=0.1,
        schedule="cosine",
        batch=128,
        augment="flip" if color else None,
        **changes,
    )


def pruned_recipe(dense: Recipe, share: float = 0.8) -> Recipe:
    """A network with that share of its weights pruned, then trained half as long again.

    Isik et al. (2020) do not say how they fine-tune; with SGD it is at a tenth of the learning
    rate.
    """
    rate = dense.learning_rate / (10 if dense.optimizer == "sgd" else 1)
    epochs = (dense.epochs + 1) // 2
    return replace(dense, start=dense, pruned=share, epochs=epochs, learning_rate=rate)
