"""Checks of arguments that only the torch side has; errors read as those of _arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from .. import _arguments

__all__ = ["check_filter", "check_module"]

Filter = Callable[[nn.Module, str], bool]


def check_module(model: Any, name: str = "model", *, to_change: bool = False) -> None:
    """Refuse what is no module; with ``to_change`` also what torch.compile made of one.

    A compiled model keeps the code of what it was compiled from, so layers, hooks and noise come
    before.
    """
    if not isinstance(model, nn.Module) or isinstance(model, type):
        raise _arguments.wrong_type(name, "a torch.nn.Module", model)
    # By its name: importing the compiler to ask for its class takes seconds.
    if to_change and any(type(module).__name__ == "OptimizedModule" for module in model.modules()):
        raise _arguments.wrong_value(
            name,
            "a model that is not compiled yet (compile after: torch.compile(model) of the result)",
            "one that torch.compile returned",
        )


def check_filter(filter_fn: Any) -> None:
    """A callable or None."""
    if filter_fn is not None and not callable(filter_fn):
        raise _arguments.wrong_type("filter_fn", "a callable (module, name) or None", filter_fn)
