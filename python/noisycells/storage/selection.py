"""Which tensors of a model belong in cells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import TypeVar

from .. import _arguments

T = TypeVar("T")


def assigned(names: Iterable[str], overrides: Mapping[str, T], default: T) -> dict[str, T]:
    """The codec of each tensor: that of the first pattern that matches its name, or the default.

    Raises
    ------
    TypeError
        If an override is a codec of another class than the default.
    ValueError
        If a pattern matches no name.
    """
    names = list(names)
    _arguments.patterns("overrides", overrides, names, "a tensor")
    found = {}
    for name in names:
        matching = [codec for pattern, codec in overrides.items() if fnmatchcase(name, pattern)]
        codec = matching[0] if matching else default
        found[name] = _arguments.instance("overrides", codec, type(default))
    return found


def is_bias(name: str) -> bool:
    """Whether a parameter's name says that it is a bias: ``fc1.bias``, ``lstm.bias_hh_l0``."""
    last = name.rpartition(".")[2]
    return last.startswith("bias") or last.endswith("bias")


def belongs_in_cells(
    name: str, shapes: Mapping[str, tuple[int, ...]], store_biases: bool = False
) -> bool:
    """Whether a floating-point tensor is stored in cells rather than kept digital.

    Weights of two dimensions or more are, and biases if wanted. Normalization layers are not;
    they are known by their shapes: the weight has one dimension, or the shape of the bias.

    Parameters
    ----------
    name : str
        Name of the tensor in the state dict, ``layer.weight`` and the like.
    shapes : mapping of str to tuple of int
        Shapes of all tensors of the state dict.
    store_biases : bool
        Store biases too.
    """
    layer, dot, _ = name.rpartition(".")
    weight, bias = shapes.get(f"{layer}{dot}weight"), shapes.get(f"{layer}{dot}bias")
    if weight is not None and (len(weight) < 2 or weight == bias):
        return False
    return store_biases if is_bias(name) else len(shapes[name]) >= 2
