"""Checks of arguments; what is wrong is always said as "name: expected ..., got ...".

Every function takes the argument's name first, and returns the value in the type that the
package computes with. A wrong type raises TypeError, a wrong value ValueError.
"""

from __future__ import annotations

import difflib
import json
import math
import operator
from collections.abc import Collection, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _core
from ._types import (
    F32,
    F64,
    I32,
    LARGEST,
    MAX_CELLS,
    MAX_COUNT,
    MAX_INDEX,
    MAX_SEED,
    RESOLVED,
    SMALLEST,
)

__all__ = [
    "array",
    "array32",
    "array64",
    "cells",
    "choice",
    "count",
    "expectation",
    "flag",
    "instance",
    "integer",
    "mapping",
    "names",
    "near",
    "number",
    "offset",
    "output",
    "patterns",
    "probabilities",
    "real",
    "scale",
    "seed",
    "span",
    "text",
    "wrong_kind",
    "wrong_state",
    "wrong_type",
    "wrong_value",
]

T = TypeVar("T")


def expectation(expected: str, got: object) -> str:
    """What all errors say behind a name; for those that the functions below do not make."""
    return f"expected {expected}, got {got}"


def wrong_value(name: object, expected: str, got: object) -> ValueError:
    """The error to raise for a value that is not as it has to be; ``name`` may be a file."""
    return ValueError(f"{name}: {expectation(expected, got)}")


def wrong_kind(name: str, expected: str, got: object) -> TypeError:
    """The error to raise for a value of another type; ``got`` says what is wrong with it."""
    return TypeError(f"{name}: {expectation(expected, got)}")


def wrong_type(name: str, expected: str, got: object) -> TypeError:
    """As :func:`wrong_kind`; ``got`` is the value itself, shown if it is short, else its type."""
    shown = repr(got)
    if len(shown) > 60 or "\n" in shown:
        shown = type(got).__name__
    return wrong_kind(name, expected, shown)


def wrong_state(name: str, expected: str, got: object) -> RuntimeError:
    """The error to raise for what cannot be done now, but could be later."""
    return RuntimeError(f"{name}: {expectation(expected, got)}")


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


def count(name: str, value: Any, least: int = 1) -> int:
    """An int from ``least`` to ``MAX_COUNT``: repeats, epochs and what else is counted."""
    return integer(name, value, least, MAX_COUNT)


def number(
    name: str,
    value: Any,
    least: float = -math.inf,
    most: float = math.inf,
    *,
    above: float | None = None,
    below: float | None = None,
) -> float:
    """A finite float in [least, most]; ``above`` and ``below`` are bounds that it may not reach."""
    if isinstance(value, (bool, np.bool_, str, bytes)) or (
        isinstance(value, np.ndarray) and value.ndim
    ):
        raise wrong_type(name, "a number", value)
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        raise wrong_type(name, "a number", value) from None
    low_enough = found <= most if below is None else found < below
    high_enough = found >= least if above is None else found > above
    if not (math.isfinite(found) and low_enough and high_enough):
        raise wrong_value(name, _interval(least, most, above, below), value)
    return found


def _interval(least: float, most: float, above: float | None, below: float | None) -> str:
    low = f"[{least:g}" if above is None else f"({above:g}"
    high = f"{most:g}]" if below is None else f"{below:g})"
    if "inf" not in low + high:
        return f"a number in {low}, {high}"
    if "inf" not in low:
        return f"a finite number {'>=' if above is None else '>'} {low[1:]}"
    if "inf" not in high:
        return f"a finite number {'<=' if below is None else '<'} {high[:-1]}"
    return "a finite number"


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


def instance(name: str, value: Any, kind: type[T]) -> T:
    """An object of a class; the class itself is none."""
    if not isinstance(value, kind):
        article = "an" if kind.__name__[0] in "AEIOU" else "a"
        raise wrong_type(name, f"{article} {kind.__name__}", value)
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


def mapping(name: str, value: Any, of: str) -> Mapping[str, Any]:
    """A mapping of what ``of`` says; None is an empty one."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise wrong_type(name, f"a mapping of {of}", value)
    return value


def json_object(name: str, text: str, of: str) -> dict[str, Any]:
    """The members of an object in JSON text, which is ``of``."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:  # no JSON, numbers or brackets without end
        raise wrong_value(name, f"{of} as JSON", error) from None
    if not isinstance(found, dict):
        raise wrong_value(name, "a JSON object", type(found).__name__)
    return found


def names(name: str, given: Iterable[str], known: Iterable[str], what: str) -> None:
    """Refuse names that are not among the known; ``what`` says in a few words what these are."""
    known = list(known)
    unknown = sorted({text(name, one) for one in given} - set(known))
    if unknown:
        listed = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
        hint = near(unknown[0], known)
        raise wrong_value(name, f"{what} ({listed})", f"{', '.join(map(repr, unknown))}{hint}")


def patterns(name: str, given: Iterable[str], known: Iterable[str], what: str) -> None:
    """Refuse shell patterns of which one matches none of the known names; of ``what`` they are."""
    known = list(known)
    for pattern in given:
        if not any(fnmatchcase(k, text(name, pattern)) for k in known):
            names(name, [pattern], known, f"patterns that match {what}")


def seed(name: str, value: Any) -> int:
    """An int in [0, 2**64): a seed, a stream, or the number of a chip.

    ``docs/randomness.md`` has the rule.
    """
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
    found = array(name, value, "iu", "integers")
    if found.size and not (found.min() >= 1 and found.max() <= MAX_CELLS):
        raise wrong_value(name, f"1 to {MAX_CELLS}", f"{found.min()} to {found.max()}")
    if found.ndim == 0:
        return int(found)
    try:
        found = np.broadcast_to(found, shape)
    except ValueError:
        raise wrong_value(name, f"a shape that fits x of shape {shape}", found.shape) from None
    return np.ascontiguousarray(found, np.int32).reshape(-1)


def array(name: str, values: ArrayLike, kinds: str, expected: str) -> NDArray[Any]:
    """An array whose dtype is of one of the ``kinds``, such as "fiu" for ``expected`` real numbers.

    Masked arrays are refused, as what is masked would be read.
    """
    if isinstance(values, np.ma.MaskedArray):
        raise wrong_kind(
            name,
            "an array without a mask",
            "a masked array (fill it, or select what is not masked)",
        )
    try:
        found = np.asarray(values)
    except (TypeError, ValueError):
        raise wrong_type(name, expected, values) from None
    if found.dtype.kind not in kinds:
        raise wrong_kind(name, expected, found.dtype)
    return found


def real(name: str, values: ArrayLike) -> NDArray[Any]:
    """An array of real numbers."""
    return array(name, values, "fiu", "real numbers")


def array32(name: str, values: ArrayLike) -> F32:
    """Values finite in float32, C-contiguous, in their shape."""
    given = real(name, values)
    with np.errstate(over="ignore"):  # refused below
        found = np.ascontiguousarray(given, np.float32).reshape(given.shape)
    *_, finite = _core.scan(found.reshape(-1), None)  # in parallel, without an array of bools
    if not finite:
        raise wrong_value(name, "values finite in float32", "NaN or infinity")
    return found


def array64(name: str, values: ArrayLike) -> F64:
    """Finite values as a float64 array of one dimension: a copy that cannot be written to."""
    found = np.array(real(name, values), np.float64)
    if found.ndim != 1:
        raise wrong_value(name, "one dimension", f"shape {found.shape}")
    if not np.isfinite(found).all():
        raise wrong_value(name, "finite values", "NaN or infinity")
    found.flags.writeable = False
    return found


def output(
    out: NDArray[Any] | None,
    shape: tuple[int, ...],
    *inputs: NDArray[Any],
    dtype: type[np.generic] = np.float32,
) -> NDArray[Any]:
    """``out``, or a new array where it is None; refused where it is not one to write to.

    ``inputs`` are arrays that are still read while ``out`` is written: it may share no memory
    with them.
    """
    if out is None:
        return np.empty(shape, dtype)
    if not (
        isinstance(out, np.ndarray)
        and not isinstance(out, np.ma.MaskedArray)
        and out.dtype == dtype
        and out.shape == shape
        and out.flags.c_contiguous
        and out.flags.writeable
    ):
        got = type(out).__name__
        if type(out) is np.ndarray:
            got = f"{out.dtype} {out.shape}"
        name = np.dtype(dtype).name
        raise wrong_value("out", f"a writeable C-contiguous {name} array of shape {shape}", got)
    if any(np.shares_memory(out, array) for array in inputs):
        raise wrong_value("out", "memory of its own", "an array that overlaps an input")
    return out
