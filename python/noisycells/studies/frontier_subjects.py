"""What is stored in the study ``frontier``: a trained classifier, or a sentence encoder.

A subject knows its weights, what its mode of storage may need, and how good it is with other
weights in the place of its own.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from .engine import Trained
from .engine.training import parts

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["Classifier", "Encoded", "Subject", "Weights", "subject"]

MOMENTS, SENSITIVITIES = 2000, 1000  # training images for each
SENTENCES = 128  # for sensitivities
Weights = dict[str, npt.NDArray[np.float32]]


class Subject(ABC):
    """A network, and figures of it with other weights.

    Parameters
    ----------
    model : torch.nn.Module
        In evaluation mode; a copy of it is what is measured.
    seed : int
        Of chips.
    """

    LOST: ClassVar[dict[str, float]]
    """Figures of a read that fails."""

    def __init__(self, model: nn.Module, seed: int) -> None:
        self.model, self.seed = model, seed
        self.masks: Mapping[str, npt.NDArray[np.bool_]] = {}
        self.steps: Mapping[str, float] = {}  # of a network that was trained for few bits
        self.weights = sum(p.numel() for p in model.parameters())

    @cached_property
    @abstractmethod
    def moments(self) -> dict[str, Any]:
        """Second moments of inputs, by the name of the weight."""

    @cached_property
    @abstractmethod
    def sensitivity(self) -> dict[str, Any]:
        """What a squared error of each weight counts."""

    @abstractmethod
    def measure(self, model: nn.Module) -> dict[str, float]:
        """Figures of a network, ``validation`` and ``test`` among them."""

    @cached_property
    def _measured(self) -> nn.Module:
        return copy.deepcopy(self.model).cpu()

    @cached_property
    def _state(self) -> dict[str, Tensor]:
        return {name: tensor.clone() for name, tensor in self._measured.state_dict().items()}

    def figures(self, weights: Weights) -> dict[str, float]:
        """With these parameters in the place of the network's own."""
        import torch

        self._measured.load_state_dict(self._state)
        with torch.no_grad():
            for name, value in weights.items():
                self._measured.get_parameter(name).copy_(torch.from_numpy(value))
        return self.measure(self._measured)

    def reads(self, weights: Iterator[Weights | None]) -> dict[str, list[float] | int]:
        """Of each read; weights that are those of the read before are not measured again."""
        found: dict[str, list[float]] = {name: [] for name in self.LOST}
        before: Weights | None = None
        known, failed = self.LOST, 0
        for read in weights:
            values = self.LOST
            if read is None:
                failed += 1
            elif before is not None and all(np.array_equal(read[n], before[n]) for n in read):
                values = known
            else:
                before, known = read, self.figures(read)
                values = known
            for name, value in values.items():
                found[name].append(value)
        return {**found, "failed": failed}


class Classifier(Subject):
    """A trained network; accuracies in percent on the validation and on the test images."""

    LOST: ClassVar = {"validation": 0.0, "test": 0.0}

    def __init__(self, trained: Trained) -> None:
        import torch

        from ..torch.training.batches import channels_last

        super().__init__(trained.model, trained.recipe.seed)
        self.masks, self.steps = trained.masks, trained.record.get("steps", {})
        self.images: dict[str, tuple[Any, Any]] = {
            name: (channels_last(torch.as_tensor(x)), torch.as_tensor(y))
            for name, (x, y) in parts(trained.dataset, trained.recipe.seed).items()
        }
        # Convolutions are faster in this layout.
        self._measured.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @cached_property
    def moments(self) -> dict[str, Any]:
        """With training images."""
        from .. import torch as nct

        return nct.input_moments(self.model, self.images["train"][0][:MOMENTS])

    @cached_property
    def sensitivity(self) -> dict[str, Any]:
        """With training images."""
        from .. import torch as nct

        return nct.sensitivity(self.model, self.images["train"][0][:SENSITIVITIES])

    def measure(self, model: nn.Module) -> dict[str, float]:
        """Accuracies."""
        from .. import torch as nct

        return {part: nct.accuracy(model, *self.images[part]) for part in self.LOST}


class Encoded(Subject):
    """A sentence encoder; mean cosines with its own embeddings, and nearest ones that stay (%).

    Parameters
    ----------
    source : mapping, optional
        Of :func:`noisycells.studies.encoders.source`.
    test, validation, examples : int
        Sentences to measure with, to choose settings with, and to calibrate with.
    seed : int
        Of chips, and of a tiny encoder.
    """

    LOST: ClassVar = {"validation": 0.0, "test": 0.0, "neighbors": 0.0}

    def __init__(
        self, source: Mapping[str, str] | None, test: int, validation: int, examples: int, seed: int
    ) -> None:
        from . import encoders

        model, batches = encoders.encoder(source, test + validation + examples, seed)
        super().__init__(model, seed)
        self.sentences: dict[str, list[dict[str, Tensor]]] = {}
        for part, count in (("test", test), ("validation", validation)):
            self.sentences[part], batches = encoders.split(batches, count)
        self.examples = encoders.unpadded(batches)
        self.clean = {name: encoders.embedded(model, b) for name, b in self.sentences.items()}

    @cached_property
    def moments(self) -> dict[str, Any]:
        """With sentences that are for nothing else."""
        from .. import torch as nct

        return nct.input_moments(self.model, self.examples)

    @cached_property
    def sensitivity(self) -> dict[str, Any]:
        """With every so many of these sentences."""
        from .. import torch as nct

        examples = _thinned(self.examples, SENTENCES)
        return nct.sensitivity(self.model, examples, outputs="values")

    def measure(self, model: nn.Module) -> dict[str, float]:
        """Cosines, and neighbors among the test sentences."""
        from . import encoders

        found = {name: encoders.embedded(model, b) for name, b in self.sentences.items()}
        kept = encoders.neighbors(found["test"], self.clean["test"])
        cosines = {n: float((found[n] * clean).sum(1).mean()) for n, clean in self.clean.items()}
        return {**cosines, "neighbors": kept}


def _thinned(batches: list[dict[str, Tensor]], count: int) -> list[dict[str, Tensor]]:
    """About so many sentences, of each batch its share."""
    step = max(1, sum(len(batch["input_ids"]) for batch in batches) // count)
    return [{name: rows[::step] for name, rows in batch.items()} for batch in batches]


def subject(trained: Trained | None, encoder: Mapping[str, Any] | None) -> Subject:
    """A classifier, or the encoder that these arguments of :class:`Encoded` name."""
    if trained is not None:
        return Classifier(trained)
    assert encoder is not None
    return Encoded(**encoder)
