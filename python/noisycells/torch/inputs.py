"""What a batch holds: the inputs of a model and the labels; and what a model returns."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .. import _arguments

__all__ = [
    "LABELS",
    "call",
    "each_batch",
    "has_logits",
    "inputs_of",
    "is_causal",
    "logits_of",
    "mask_of",
    "moved",
    "several_passes",
    "split_batch",
    "tensor_of",
]

LABELS = ("labels", "label", "targets", "target")
"""Keys under which batches that are dicts have their labels, such as those of transformers."""


def each_batch(name: str, data: Any) -> Iterator[Any]:
    """The batches of ``data``; a tensor, an array or a dict is a single one."""
    if isinstance(data, (Tensor, np.ndarray, Mapping)):
        return iter((data,))
    if isinstance(data, (str, bytes)) or not isinstance(data, Iterable):
        raise _arguments.wrong_type(name, "a tensor, or an iterable of batches", data)
    return iter(data)


def several_passes(name: str, data: Any) -> None:
    """Refuse batches that can be gone through once only."""
    if isinstance(data, Iterator):
        raise _arguments.wrong_value(
            name,
            "batches that can be passed over again, such as a list",
            f"one pass of a {type(data).__name__}",
        )


def moved(value: Any, device: torch.device) -> Any:
    """Tensors and arrays on ``device``, also those inside of tuples and mappings."""
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(value)
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, Mapping):
        return {key: moved(part, device) for key, part in value.items()}
    if isinstance(value, (tuple, list)):
        return tuple(moved(part, device) for part in value)
    return value


def call(model: nn.Module, inputs: Any) -> Any:
    """What ``model`` returns; a mapping is keyword arguments, a tuple positional ones."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


def inputs_of(name: str, model: nn.Module, batch: Any) -> Any:
    """The inputs in a batch that may hold labels as well, as :func:`call` takes them.

    Of a tuple, as many of the first entries as the model's ``forward`` has to have; the rest are
    labels where forward takes no more arguments.

    Raises
    ------
    ValueError
        If the rest could be arguments as well as labels.
    """
    if isinstance(batch, Mapping):
        return _without_labels(model, batch)
    if not isinstance(batch, (tuple, list)):
        return batch
    if batch and isinstance(batch[0], Mapping):
        return _without_labels(model, batch[0])
    least, most = _positions(model)
    if len(batch) > 1 and least < len(batch) <= most:
        raise _arguments.wrong_value(
            name,
            "dicts, or batches of inputs alone, for a model whose forward has optional arguments",
            f"{len(batch)} tensors a batch, of which some may be labels",
        )
    return tuple(batch[: max(1, least)]) if len(batch) > most else tuple(batch)


def split_batch(name: str, batch: Any) -> tuple[Any, Tensor]:
    """Inputs and labels of a batch (inputs, labels, ...) or of a dict with labels in it."""
    if isinstance(batch, Mapping):
        key = next((key for key in LABELS if key in batch), None)
        if key is None:
            raise _arguments.wrong_value(
                name, f"dicts with one of the keys {', '.join(LABELS)}", f"{sorted(batch)}"
            )
        return {k: v for k, v in batch.items() if k != key}, torch.as_tensor(batch[key])
    if not isinstance(batch, (tuple, list)) or len(batch) < 2:
        raise _arguments.wrong_type(name, "batches (inputs, labels) or dicts", batch)
    return batch[0], torch.as_tensor(batch[1])


def logits_of(output: Any) -> Tensor:
    """The tensor that a model returned, or the ``logits`` of an object or dict that it returned."""
    return _tensor(output, "logits")


def tensor_of(output: Any) -> Tensor:
    """As :func:`logits_of`; of an encoder's output without logits its ``last_hidden_state``."""
    return _tensor(output, "logits", "last_hidden_state")


def has_logits(output: Any) -> bool:
    """Whether it is an object or dict with ``logits``."""
    return not isinstance(output, Tensor) and isinstance(_part(output, "logits"), Tensor)


def mask_of(inputs: Any) -> Tensor | None:
    """The ``attention_mask`` (batch, tokens) of inputs that have one."""
    mask = inputs.get("attention_mask") if isinstance(inputs, Mapping) else None
    return mask if isinstance(mask, Tensor) and mask.ndim == 2 else None


def _part(output: Any, name: str) -> Any:
    return output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)


def _tensor(output: Any, *names: str) -> Tensor:
    if isinstance(output, Tensor):
        return output
    for name in names:
        found = _part(output, name)
        if isinstance(found, Tensor):
            return found
    raise _arguments.wrong_type(
        "model", f"one that returns a tensor, or an object with {' or '.join(names)}", output
    )


def is_causal(output: Any) -> bool:
    """Whether transformers has made the output with a model that predicts the next token."""
    return "CausalLM" in type(output).__name__


def _without_labels(model: nn.Module, batch: Mapping[str, Any]) -> dict[str, Any]:
    """Labels are no inputs, unless ``forward`` must have them."""
    required = {p.name for p in _parameters(model) if p.default is p.empty}
    return {k: v for k, v in batch.items() if k not in LABELS or k in required}


def _positions(model: nn.Module) -> tuple[int, float]:
    """How many positional arguments ``forward`` must have, and can have."""
    kinds = inspect.Parameter
    parameters = _parameters(model)
    positional = [
        p for p in parameters if p.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)
    ]
    least = sum(p.default is p.empty for p in positional)
    more = any(p.kind is kinds.VAR_POSITIONAL for p in parameters)
    return least, float("inf") if more else len(positional)


def _parameters(model: nn.Module) -> list[inspect.Parameter]:
    """Of ``forward``, without self; of a crossbar layer those of the digital layer."""
    forward = getattr(model, "digital_class", type(model)).forward
    return list(inspect.signature(forward).parameters.values())[1:]
