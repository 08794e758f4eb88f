"""Devices by the functions that make them, which is how they are written to files."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, ParamSpec

import numpy as np

from .._arguments import near
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
            key: _plain(key, value, "float" in str(signature.parameters[key].annotation))
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
        raise TypeError(f"data: expected the dict of a device, got {type(data).__name__}")
    if set(data) != {"device", "arguments"} or not isinstance(data["arguments"], Mapping):
        raise ValueError(
            "data: expected the keys device and arguments (a dict), got "
            + ", ".join(map(str, data))
        )
    name = data["device"]
    if name not in _MAKERS:
        raise ValueError(
            f"device: expected one of {', '.join(_MAKERS)}, got {name!r}{near(str(name), _MAKERS)}"
        )
    try:
        inspect.signature(_MAKERS[name]).bind(**data["arguments"])
    except TypeError as error:
        raise ValueError(f"arguments: not those of {name}: {error}") from None
    return _MAKERS[name](**data["arguments"])


def _plain(name: str, value: Any, is_float: bool) -> Any:
    """JSON types, numbers as float where the parameter is one: 25 and 25.0 are the same device."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(name, item, is_float) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, (int, float)):
        if not math.isfinite(value):
            raise ValueError(f"{name}: expected finite numbers, got {value!r}")
        return float(value) if is_float else value
    raise TypeError(f"{name}: expected numbers or text, got {type(value).__name__}")
