"""Labels for data that have none: the clean model's outputs, or a language model's own tokens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ... import _arguments
from ..inputs import LABELS, call, inputs_of, moved, tensor_of
from ..metrics import IGNORED
from ..training.fit import device_of

__all__ = ["OfRealTokens", "TokenLabels", "with_clean_labels"]


class TokenLabels:
    """Batches whose labels are their ``input_ids``, where they have none; padding does not count.

    Parameters
    ----------
    data : iterable
        May be passed over many times.
    """

    def __init__(self, data: Iterable[Any]) -> None:
        self.data = data

    def __iter__(self) -> Iterator[Any]:
        for batch in self.data:
            if (
                isinstance(batch, Mapping)
                and "input_ids" in batch
                and not any(key in batch for key in LABELS)
            ):
                labels = torch.as_tensor(batch["input_ids"])
                if batch.get("attention_mask") is not None:
                    padding = torch.as_tensor(batch["attention_mask"]) == 0
                    labels = labels.masked_fill(padding, IGNORED)
                batch = {**batch, "labels": labels}
            yield batch


class OfRealTokens(nn.Module):
    """What a model gives for tokens, without those that the ``attention_mask`` leaves out.

    Outputs (batch, tokens, ...) become (tokens, ...); others stay as they are.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: Any, **named: Any) -> Tensor:
        """The outputs that count."""
        found = tensor_of(self.model(*inputs, **named))
        mask = named.get("attention_mask")
        if isinstance(mask, Tensor) and found.ndim > 2 and found.shape[:2] == mask.shape:
            found = found[mask.to(found.device) != 0]
        return found


def with_clean_labels(model: nn.Module, data: Iterable[Any], classes: bool) -> list[Any]:
    """All batches as (inputs, what ``model`` gives for them), or the classes that it chooses."""
    device, found = device_of(model), []
    for batch in data:
        inputs = inputs_of("data", model, batch)
        output = call(OfRealTokens(model), moved(inputs, device))
        if classes:
            if output.ndim != 2:
                raise _arguments.wrong_value(
                    "against",
                    "'labels' with metric='accuracy' for outputs that are not (n, classes)",
                    f"'clean' for outputs of shape {tuple(output.shape)}",
                )
            output = output.argmax(1)
        found.append((inputs, output))
    return found
