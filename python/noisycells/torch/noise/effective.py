"""What a model computes with in place of its weights: transforms of named parameters.

Noise and quantization are chains of functions from a parameter to the tensor that forward uses.
For the duration of the outermost forward these tensors stand in the ``__dict__`` of the modules,
where Python finds them before the parameters; ``parameters()``, ``state_dict()``, optimizers and
gradient hooks know the clean parameters alone.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Hashable, Iterator
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from ... import _arguments
from ...storage.selection import belongs_in_cells
from ..checks import Filter, check_filter
from ..crossbar.adapter import LowRankAdapter
from ..crossbar.layers import CrossbarLayer

__all__ = ["Effective", "Slot", "Transform", "Weights", "find_transform", "weights_of"]

_DIGITAL = (
    nn.Embedding,
    nn.EmbeddingBag,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.modules.batchnorm._NormBase,
    LowRankAdapter,
)
_CALL = nn.Module._call_impl.__code__


class Slot(NamedTuple):
    """Where a parameter is: an attribute of a module.

    While :mod:`torch.nn.utils.prune` prunes it, it is kept under another name.
    """

    module: nn.Module
    name: str

    @property
    def attribute(self) -> str:
        """The name under which the module has the parameter now."""
        return self.name if self.name in self.module._parameters else f"{self.name}_orig"

    @property
    def parameter(self) -> nn.Parameter:
        """The clean parameter, whatever stands in its place now.

        Raises
        ------
        RuntimeError
            If it is no longer there.
        """
        parameter = self.module._parameters.get(self.attribute)
        if parameter is None:
            raise _arguments.wrong_state(
                "model",
                f"{type(self.module).__name__} to have its parameter {self.name!r} as when "
                "noise or quantization began",
                "none",
            )
        return parameter

    @property
    def value(self) -> Tensor:
        """The parameter, with the mask of a pruning in progress."""
        if self.attribute == self.name:
            return self.parameter
        return self.parameter * self.module.get_buffer(f"{self.name}_mask")


Weights = dict[str, list[Slot]]
"""Parameters by name, each with all the slots that it is in: tied weights have several."""


class Transform(Protocol):
    """One link of the chain."""

    order: int
    """Links apply in this order, whatever the order in which they were attached."""
    names: Collection[str]
    """The parameters that it is for."""

    def begin(self) -> None:
        """An outermost forward begins."""

    def end(self) -> None:
        """It ended."""

    def key(self) -> Hashable | None:
        """Equal where the same weights give the same tensors; None: never to be used again."""

    def __call__(self, weights: dict[str, Tensor], /) -> dict[str, Tensor]:
        """The tensors to use in place of ``weights``, differentiable."""


def weights_of(model: nn.Module, filter_fn: Filter | None = None) -> Weights:
    """The parameters that belong in cells, with all the modules that use them.

    Of two dimensions or more (:func:`~noisycells.storage.selection.belongs_in_cells`), other than
    those that only normalization and embedding layers hold; first and last layer included. Tied
    parameters go by their first name, those of a pruning in progress by the name that they have
    afterwards.

    Parameters
    ----------
    model : torch.nn.Module
    filter_fn : callable, optional
        Parameters for which ``filter_fn(module, name)`` is false are left out, tied ones where it
        is for all their modules.

    Raises
    ------
    ValueError
        If nothing is left, or a weight is parametrized or computed on a crossbar.
    """
    check_filter(filter_fn)
    slots: dict[int, tuple[str, list[Slot]]] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for path, module in model.named_modules():
        for attribute, parameter in module._parameters.items():
            if parameter is None:
                continue
            last = attribute.removesuffix("_orig")
            if f"{last}_mask" not in module._buffers:
                last = attribute
            name = f"{path}.{last}" if path else last
            shapes[name] = tuple(parameter.shape)
            if parameter.is_floating_point():
                slots.setdefault(id(parameter), (name, []))[1].append(Slot(module, last))
    found = {
        name: held
        for name, held in slots.values()
        if belongs_in_cells(name, shapes)
        and not all(isinstance(slot.module, _DIGITAL) for slot in held)
        and (filter_fn is None or any(filter_fn(slot.module, name) for slot in held))
    }
    if not found:
        wanted = "" if filter_fn is None else " that filter_fn wants"
        raise _arguments.wrong_value(
            "model", f"at least one weight of two dimensions or more{wanted}", "none"
        )
    for name, held in found.items():
        for slot in held:
            if isinstance(slot.module, (ParametrizationList, CrossbarLayer)):
                raise _arguments.wrong_value(
                    "model",
                    "ordinary weights",
                    f"{name!r} of a {type(slot.module).__name__}; undo that first, or leave it "
                    "out by filter_fn",
                )
    return found


class Effective:
    """The chain of transforms of one model; there while a transform is attached.

    It opens with the outermost call of any module of the model and closes when that ends, also by
    an exception. It lives in the hooks of the modules, so it is copied and pickled with them.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.transforms: list[Transform] = []
        self._weights: Weights = {}
        self._calls: list[nn.Module] = []  # under way, outermost first; none: closed
        self._before: list[tuple[dict[str, Any], str, list[Any]]] = []  # to put back at the end
        self._kept: tuple[Hashable, dict[str, Tensor]] | None = None
        self._hooks = [
            hook
            for module in model.modules()
            for hook in (
                module.register_forward_pre_hook(self._enter, prepend=True),
                module.register_forward_hook(self._leave, always_call=True),
            )
        ]

    @classmethod
    def attach(cls, model: nn.Module, transform: Transform, weights: Weights) -> Effective:
        """Put a transform of ``weights`` (of this model) into the model's chain.

        Raises
        ------
        ValueError
            If the model is a part of one that has a chain, or contains one.
        """
        found = next(_chains(model), None)
        if found is not None and found.model is not model:
            raise _arguments.wrong_value(
                "model",
                f"the {type(found.model).__name__} that is already noisy or quantized",
                f"{type(model).__name__}, which contains it or is a part of it",
            )
        chain = cls(model) if found is None else found
        chain._weights |= weights
        chain.transforms = sorted([*chain.transforms, transform], key=lambda link: link.order)
        chain.forget()
        return chain

    def detach(self, transform: Transform) -> None:
        """Take a transform out of the chain; nothing happens if it is not in it."""
        self.transforms = [link for link in self.transforms if link is not transform]
        names = {name for link in self.transforms for name in link.names}
        self._weights = {name: held for name, held in self._weights.items() if name in names}
        self.forget()
        if not self.transforms:
            self._close()
            while self._hooks:
                self._hooks.pop().remove()

    def forget(self) -> None:
        """Drop the tensors that were kept for the next forward."""
        self._kept = None

    def values(self, before: Transform | None = None) -> dict[str, Tensor]:
        """What stands for each weight behind all links, or behind those before one of them."""
        values = {name: held[0].value for name, held in self._weights.items()}
        for link in self.transforms:
            if link is before:
                return {name: values[name] for name in link.names}
            values |= link({name: values[name] for name in link.names})
        return values

    # ----------------------------------------------------------------- calls

    def _enter(self, module: nn.Module, args: Any) -> None:
        if not (torch.compiler.is_compiling() and self._calls):  # inner calls are of no account
            self._entered(module)

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        if not (torch.compiler.is_compiling() and self._calls and self._calls[0] is not module):
            self._left(module)

    @torch.compiler.disable  # type: ignore[untyped-decorator, unused-ignore]
    def _entered(self, module: nn.Module) -> None:
        if self._calls and self._calls[0] is module and not _is_running(module):
            self._close()  # an interrupt (no Exception) ended the last call, past its hooks
        if not self._calls:
            self._open()
        self._calls.append(module)

    @torch.compiler.disable  # type: ignore[untyped-decorator, unused-ignore]
    def _left(self, module: nn.Module) -> None:
        if module in self._calls:  # not where opening failed
            while self._calls.pop() is not module:
                pass
            if not self._calls:
                for link in self.transforms:
                    link.end()
                self._close()

    def _open(self) -> None:
        for link in self.transforms:
            link.begin()
        values = self._values_now()
        try:
            for name, value in values.items():
                for slot in self._weights[name]:
                    if value is not slot.parameter:
                        self._stand_in(slot, value)
        except BaseException:
            self._close()
            raise

    def _values_now(self) -> dict[str, Tensor]:
        """What stands for each weight now: the last tensors where they would be the same again."""
        parameters = {name: held[0].parameter for name, held in self._weights.items()}
        keys = tuple(link.key() for link in self.transforms)
        # Tensors with a gradient belong to one graph.
        known = not torch.is_grad_enabled() and None not in keys
        state = keys, tuple((p.data_ptr(), p._version) for p in parameters.values())
        if known and self._kept is not None and self._kept[0] == state:
            return self._kept[1]
        self.forget()
        values = self.values()
        if known:
            self._kept = state, values
        return values

    def _stand_in(self, slot: Slot, value: Tensor) -> None:
        attributes = vars(slot.module)
        self._put(attributes, slot.attribute, value)
        if isinstance(slot.module, nn.RNNBase):  # its forward reads a list of its parameters
            names = slot.module._flat_weights_names
            flat = list(attributes["_flat_weights"])
            if slot.attribute in names:
                flat[names.index(slot.attribute)] = value
            self._put(attributes, "_flat_weights", flat)

    def _put(self, attributes: dict[str, Any], name: str, value: Any) -> None:
        self._before.append((attributes, name, [attributes[name]] if name in attributes else []))
        attributes[name] = value

    def _close(self) -> None:
        self._calls.clear()
        while self._before:
            attributes, name, before = self._before.pop()
            attributes.pop(name, None)
            if before:
                attributes[name] = before[0]

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_calls": [], "_before": [], "_kept": None}


def find_transform(model: nn.Module, kind: type) -> Any:
    """The transform of that class in the chain of ``model``, or of what it is a part of; or None.

    Wrappers such as DistributedDataParallel and those of ``torch.compile`` are looked into.
    """
    for chain in _chains(model):
        for link in chain.transforms:
            if isinstance(link, kind):
                return link
    return None


def _chains(model: nn.Module) -> Iterator[Effective]:
    for module in model.modules():
        for hook in module._forward_pre_hooks.values():
            chain = getattr(hook, "__self__", None)
            if isinstance(chain, Effective):
                yield chain


def _is_running(module: nn.Module) -> bool:
    """Whether this call of ``module`` is inside another one (as of a tree that calls itself)."""
    frame, calls = sys._getframe(), 0
    while frame is not None:
        calls += frame.f_code is _CALL and frame.f_locals.get("self") is module
        frame = frame.f_back  # type: ignore[assignment]
    return calls > 1
