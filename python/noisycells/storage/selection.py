"""Which tensors of a model belong in cells."""

from __future__ import annotations

from collections.abc import Mapping


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
