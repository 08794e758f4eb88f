"""Devices by the functions that make them, which is how they are written to files."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, ParamSpec

import numpy as np

from .. import _arguments
from .device import Device
from .model import Model

__all__ = ["from_dict", "maker"]

P = ParamSpec("P")

_MAKERS: dict[str, Callable[..., Device]] = {}


def maker(function: Callable[P, Model]) -> Callable[P, Device]:
    """Make of a function that returns a model one that returns a device.

    The device is known by the function's name and arguments, which have to be plain JSON types,
    tuples or numpy arrays.
    """
    signature = inspect.signature(function)
    summary = (function.__doc__ or "").partition("\n")[0]

    @wraps(function)
    def make(*args: P.args, **kwargs: P.kwargs) -> Device:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        arguments = {
            key: _argument(signature.parameters[key], value)
            for key, value in bound.arguments.items()
        }
        changed = {k: v for k, v in arguments.items() if v != signature.parameters[k].default}
        model = function(**arguments)  # type: ignore[call-arg]
        return Device(function.__name__, arguments, changed, model, summary)

    _MAKERS[function.__name__] = make
    return make


def from_dict(data: Mapping[str, Any]) -> Device:
    """The device of :meth:`Device.to_dict`.

    Raises
    ------
    TypeError, ValueError
        If ``data`` is not such a dict, or the device does not exist or take these arguments.
    """
    if not isinstance(data, Mapping):
        raise _arguments.wrong_type("data", "the dict of a device", data)
    if set(data) != {"device", "arguments"} or not isinstance(data["arguments"], Mapping):
        raise _arguments.wrong_value(
            "data", "the keys device and arguments (a dict)", ", ".join(map(str, data))
        )
    name = data["device"]
    if not isinstance(name, str) or name not in _MAKERS:
        raise _arguments.wrong_value(
            "device",
            f"one of {', '.join(_MAKERS)}",
            f"{name!r}{_arguments.near(str(name), _MAKERS)}",
        )
    try:
        inspect.signature(_MAKERS[name]).bind(**data["arguments"])
    except TypeError as error:
        raise _arguments.wrong_value("arguments", f"those of {name}", error) from None
    return _MAKERS[name](**data["arguments"])


def _argument(parameter: inspect.Parameter, value: Any) -> Any:
    """A value as a maker takes it and a file holds it; spreads are not negative."""
    name, kind = parameter.name, str(parameter.annotation)
    if kind == "bool":
        return _arguments.flag(name, value)
    if kind == "str":
        return _arguments.text(name, value)
    if kind == "float" or (kind == "float | None" and value is not None):
        spread = name.endswith("std") or name == "proportional"
        return _arguments.number(name, value, 0 if spread else -math.inf)
    return _plain(name, value, "float" in kind)


def _plain(name: str, value: Any, is_float: bool) -> Any:
    """JSON types, numbers as float where the parameter is one: 25 and 25.0 are the same device."""
    if isinstance(value, np.ndarray):
        value = _arguments.real(name, value).tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(name, item, is_float) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if value is None:
        return value
    if is_float and isinstance(value, (bool, str)):
        raise _arguments.wrong_type(name, "a number", value)
    if isinstance(value, (bool, str)):
        return value
    if isinstance(value, (int, float)):
        found = _arguments.number(name, value)
        return found if is_float else value
    raise _arguments.wrong_type(name, "numbers or text", value)
