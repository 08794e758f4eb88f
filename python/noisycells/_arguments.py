"""Checks of arguments; what is wrong is always said as "name: expected ..., got ...".

Every function takes the argument's name first, and returns the value in the type that the
package computes with. A wrong type raises TypeError, a wrong value ValueError.
"""

from __future__ import annotations

import difflib
import math
import operator
from collections.abc import Collection, Iterable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._types import (
    F32,
    F64,
    I32,
    LARGEST,
    MAX_CELLS,
    MAX_INDEX,
    MAX_SEED,
    RESOLVED,
    SMALLEST,
)

__all__ = [
    "array32",
    "array64",
    "cells",
    "choice",
    "flag",
    "integer",
    "names",
    "near",
    "number",
    "offset",
    "output",
    "probabilities",
    "real",
    "scale",
    "seed",
    "span",
    "text",
    "wrong_type",
    "wrong_value",
]

T = TypeVar("T")


def wrong_value(name: str, expected: str, got: object) -> ValueError:
    """The error to raise for a value that is not as it has to be."""
    return ValueError(f"{name}: expected {expected}, got {got}")


def wrong_type(name: str, expected: str, got: object) -> TypeError:
    """The error to raise for a value of another type; ``got`` is the value."""
    shown = repr(got)
    if len(shown) > 60 or "\n" in shown:
        shown = type(got).__name__
    return TypeError(f"{name}: expected {expected}, got {shown}")


def near(name: str, known: Iterable[str]) -> str:
    """A hint such as "; did you mean 'target'?", or nothing where no known name is near."""
    found = difflib.get_close_matches(name, list(known), n=1)
    if not found:
        lower = {k.lower(): k for k in known}
        found = [lower[name.lower()]] if name.lower() in lower else []
    return f"; did you mean {found[0]!r}?" if found else ""


# --------------------------------------------------------------------------- single values


def integer(name: str, value: Any, least: int, most: int | None = None) -> int:
    """An int in [least, most]; a bool or a float is none."""
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        found = operator.index(value)
    except TypeError:
        raise wrong_type(name, "an int", value) from None
    if found < least or (most is not None and found > most):
        bounds = f"an int >= {least}" if most is None else f"an int in [{least}, {most}]"
        raise wrong_value(name, bounds, found)
    return found


def number(
    name: str,
    value: Any,
    least: float = -math.inf,
    most: float = math.inf,
    *,
    above: float | None = None,
) -> float:
    """A finite float in [least, most], or in (above, most]; a bool or text is none."""
    if isinstance(value, (bool, np.bool_, str, bytes)) or (
        isinstance(value, np.ndarray) and value.ndim
    ):
        raise wrong_type(name, "a number", value)
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        raise wrong_type(name, "a number", value) from None
    low_enough = found <= most
    high_enough = found >= least if above is None else found > above
    if not (math.isfinite(found) and low_enough and high_enough):
        raise wrong_value(name, _interval(least, most, above), value)
    return found


def _interval(least: float, most: float, above: float | None) -> str:
    if above is not None:
        return f"a finite number > {above:g}" + (f" and <= {most:g}" if most < math.inf else "")
    if least > -math.inf and most < math.inf:
        return f"a number in [{least:g}, {most:g}]"
    if least > -math.inf:
        return f"a finite number >= {least:g}"
    return f"a finite number <= {most:g}" if most < math.inf else "a finite number"


def flag(name: str, value: Any) -> bool:
    """A bool; text such as 'False' is none."""
    if not isinstance(value, (bool, np.bool_)):
        raise wrong_type(name, "True or False", value)
    return bool(value)


def text(name: str, value: Any) -> str:
    """A string."""
    if not isinstance(value, str):
        raise wrong_type(name, "a string", value)
    return value


def choice(name: str, value: T, choices: Collection[T]) -> T:
    """One of ``choices``."""
    if not any(type(value) is type(c) and value == c for c in choices):
        hint = (
            near(value, [c for c in choices if isinstance(c, str)])
            if isinstance(value, str)
            else ""
        )
        raise wrong_value(name, f"one of {', '.join(map(repr, choices))}", f"{value!r}{hint}")
    return value


def names(name: str, given: Iterable[str], known: Iterable[str], what: str) -> None:
    """Refuse names that are not among the known; ``what`` says in a few words what these are."""
    known = list(known)
    unknown = sorted(set(given) - set(known))
    if unknown:
        listed = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
        hint = near(unknown[0], known)
        raise wrong_value(name, f"{what} ({listed})", f"{', '.join(map(repr, unknown))}{hint}")


def seed(name: str, value: Any) -> int:
    """An int in [0, 2**64): a seed, a stream, or the number of a chip."""
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        found = operator.index(value)
    except TypeError:
        raise wrong_type(name, "an int in [0, 2**64)", value) from None
    if not 0 <= found <= MAX_SEED:
        raise wrong_value(name, "an int in [0, 2**64)", found)
    return found


def offset(name: str, value: Any, size: int) -> int:
    """Index of the first of ``size`` elements of a stream."""
    found = integer(name, value, 0)
    if found > MAX_INDEX - size:
        raise wrong_value(name, f"{name} + size <= 2**46", found)
    return found


def probabilities(name: str, value: Any, sides: str) -> tuple[float, float]:
    """A pair of probabilities that sum to at most 1; one number is shared equally.

    ``sides`` names the two, such as "(off, on)".
    """
    if isinstance(value, (list, tuple, np.ndarray)) and np.ndim(value):
        if len(value) != 2:
            raise wrong_value(name, f"a probability or a pair {sides}", repr(value))
        first, second = (number(name, p) for p in value)
    else:
        first = second = number(name, value) / 2
    if first < 0 or second < 0 or first + second > 1:
        raise wrong_value(name, "probabilities that sum to at most 1", repr(value))
    return first, second


def scale(name: str, value: Any) -> float:
    """A number that sets a scale: in [1e-30, 1e30], so that float32 holds it and its inverse."""
    return number(name, value, SMALLEST, LARGEST)


def span(name: str, low: float, high: float) -> None:
    """Refuse an interval that float32 cannot resolve, or whose scale it cannot hold."""
    width, top = high - low, max(abs(low), abs(high))
    if not (SMALLEST <= width and top <= LARGEST and width >= RESOLVED * top):
        raise wrong_value(
            name,
            f"magnitudes up to {LARGEST:g}, and an interval at least {SMALLEST:g} wide and "
            f"{RESOLVED:g} of its ends",
            f"{low:g} to {high:g}",
        )


# --------------------------------------------------------------------------- arrays


def cells(name: str, value: Any, shape: tuple[int, ...]) -> int | I32:
    """Cells of each weight: an int in [1, 65535], or flat int32, one for each of ``shape``."""
    array = np.asarray(value)
    if array.dtype.kind not in "iu":
        raise wrong_type(name, "integers", value)
    if array.size and not (array.min() >= 1 and array.max() <= MAX_CELLS):
        raise wrong_value(name, f"1 to {MAX_CELLS}", f"{array.min()} to {array.max()}")
    if array.ndim == 0:
        return int(array)
    try:
        array = np.broadcast_to(array, shape)
    except ValueError:
        raise wrong_value(name, f"a shape that fits x of shape {shape}", array.shape) from None
    return np.ascontiguousarray(array, np.int32).reshape(-1)


def real(name: str, values: ArrayLike) -> NDArray[Any]:
    """An array of real numbers; masked arrays are refused, as what is masked would be read."""
    if isinstance(values, np.ma.MaskedArray):
        raise TypeError(
            f"{name}: expected an array without a mask, got a masked array (fill it, or select "
            "what is not masked)"
        )
    try:
        array = np.asarray(values)
    except (TypeError, ValueError):
        raise wrong_type(name, "real numbers", values) from None
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name}: expected real numbers, got dtype {array.dtype}")
    return array


def array32(name: str, values: ArrayLike) -> F32:
    """Values finite in float32, C-contiguous, in their shape."""
    given = real(name, values)
    with np.errstate(over="ignore"):  # refused below
        array = np.ascontiguousarray(given, np.float32).reshape(given.shape)
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: expected values finite in float32, got NaN or infinity")
    return array


def array64(name: str, values: ArrayLike) -> F64:
    """Finite values as a float64 array of one dimension: a copy that cannot be written to."""
    array = np.array(real(name, values), np.float64)
    if array.ndim != 1:
        raise ValueError(f"{name}: expected one dimension, got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: expected finite values, got NaN or infinity")
    array.flags.writeable = False
    return array


def output(out: F32 | None, shape: tuple[int, ...], *inputs: NDArray[Any]) -> F32:
    """``out``, or a new array where it is None; refused where it is not one to write to.

    ``inputs`` are arrays that are still read while ``out`` is written: it may share no memory
    with them.
    """
    if out is None:
        return np.empty(shape, np.float32)
    if not (
        isinstance(out, np.ndarray)
        and out.dtype == np.float32
        and out.shape == shape
        and out.flags.c_contiguous
        and out.flags.writeable
    ):
        got = f"{out.dtype} {out.shape}" if isinstance(out, np.ndarray) else type(out).__name__
        raise ValueError(
            f"out: expected a writeable C-contiguous float32 array of shape {shape}, got {got}"
        )
    if any(np.shares_memory(out, array) for array in inputs):
        raise ValueError("out: expected memory of its own, got an array that overlaps an input")
    return out
