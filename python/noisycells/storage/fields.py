"""Values in files and the checks of them; an error is a ValueError that names the place."""

from __future__ import annotations

import math
import re
import reprlib
import sys
from collections.abc import Callable, Collection, Mapping
from typing import Any, NoReturn, Protocol, TypeVar

import numpy as np

from .._arguments import wrong_value
from .._types import MAX_INDEX
from ..io import Reader, parse

F32_MAX = float(np.finfo(np.float32).max)

brief = reprlib.Repr()
brief.maxstring = brief.maxlong = brief.maxother = 60

_T = TypeVar("_T")


class _Named(Protocol):
    @property
    def name(self) -> str: ...


_N = TypeVar("_N", bound=_Named)


class Field:
    """A value in a file, and the name of its place for errors."""

    def __init__(self, place: str, value: Any) -> None:
        self.place, self.value = place, value

    def fail(self, expected: str, got: str | None = None) -> NoReturn:
        """Raise the ValueError that the value is not as expected; ``got`` says what is wrong."""
        raise wrong_value(self.place, expected, got or brief.repr(self.value))

    def text(self) -> str:
        """A string that UTF-8 can hold."""
        if not isinstance(self.value, str):
            self.fail("a string")
        try:
            self.value.encode()
        except UnicodeEncodeError:
            self.fail("a string of Unicode characters")
        return self.value

    def one_of(self, *words: str) -> str:
        """One of some strings."""
        if not isinstance(self.value, str) or self.value not in words:
            self.fail(" or ".join(map(repr, words)))
        return self.value

    def boolean(self) -> bool:
        """True or false."""
        if not isinstance(self.value, bool):
            self.fail("true or false")
        return self.value

    def integer(self, least: int, most: int) -> int:
        """An integer of an interval, written as one."""
        whole = isinstance(self.value, int) and not isinstance(self.value, bool)
        if not whole or not least <= self.value <= most:
            self.fail(f"an integer from {least} to {most}")
        return int(self.value)

    def number(self, least: float = -math.inf, most: float = math.inf) -> float:
        """A finite number of an interval."""
        if isinstance(self.value, bool) or not isinstance(self.value, (int, float)):
            self.fail("a number")
        if not least <= self.value <= most or abs(self.value) > sys.float_info.max:
            self.fail(f"a number from {least:g} to {most:g}")
        return float(self.value)

    def items(self, count: int | None = None) -> list[Field]:
        """The items of a list."""
        if not isinstance(self.value, list) or count not in (None, len(self.value)):
            self.fail("a list" if count is None else f"a list of {count}")
        return [Field(f"{self.place}[{i}]", value) for i, value in enumerate(self.value)]

    def members(self, required: set[str], optional: set[str] | None = None) -> dict[str, Field]:
        """The members of an object that has all that are required and no unknown ones."""
        if not isinstance(self.value, dict):
            self.fail("an object")
        missing = sorted(required - self.value.keys())
        unknown = sorted(self.value.keys() - required - (optional or set()))
        if missing or unknown:
            wrong = [f"no {name!r}" for name in missing] + [f"{name!r}" for name in unknown]
            self.fail("the fields of docs/format.md", brief.repr(", ".join(wrong)))
        return {key: Field(f"{self.place}.{key}", value) for key, value in self.value.items()}

    def or_null(self, check: Callable[[Field], _T]) -> _T | None:
        """Null, or what ``check`` takes."""
        return None if self.value is None else check(self)


def json_field(field: Field) -> Field:
    """The content of a field of the metadata that holds JSON text."""
    place = field.place.removeprefix("metadata.")
    try:
        return Field(place, parse(field.text()))
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None


def metadata_fields(
    reader: Reader, needed: Collection[str], optional: Collection[str] = ()
) -> dict[str, Field]:
    """The metadata of a file, checked: unknown fields may be there only in one that is newer."""
    own = {"format", "format_version", "header_crc32", "crc32"}
    more = {*optional, *(reader.metadata if reader.newer else ())}
    return Field("metadata", dict(reader.metadata)).members({*needed, *own}, more)


def stream_version(field: Field) -> int:
    """The version of the random streams."""
    if not re.fullmatch("[1-9][0-9]{0,8}", field.text(), re.ASCII):
        field.fail("a positive integer of at most 9 digits")
    return int(field.value)


def described_texts(field: Field) -> dict[str, str]:
    """An object of strings."""
    if not isinstance(field.value, dict):
        field.fail("an object")
    return {
        Field(f"{field.place}: a name", key).text(): Field(f"{field.place}.{key}", value).text()
        for key, value in field.value.items()
    }


def described_source(fields: Mapping[str, Field]) -> dict[str, str]:
    """Metadata of the file that a model came from."""
    field = fields.get("source_metadata")
    return {} if field is None else described_texts(json_field(field))


def described_tensors(field: Field, make: Callable[[Field], _N]) -> dict[str, _N]:
    """Tensors in cells, as ``make`` takes them, by their names, which differ."""
    found: dict[str, _N] = {}
    for item in field.items():
        tensor = make(item)
        if tensor.name in found:
            item.fail("a name of its own", f"{tensor.name!r} again")
        found[tensor.name] = tensor
    return found


def described_digital(field: Field, records: Collection[str]) -> list[str]:
    """Names of digital tensors, which none of those in cells has."""
    names: dict[str, None] = {}
    for item in field.items():
        if item.text() in names or item.value in records:
            item.fail("a name that no other tensor has")
        names[item.value] = None
    return list(names)


def described_aliases(field: Field, names: set[str]) -> dict[str, str]:
    """Further names of tensors."""
    found = described_texts(field)
    for alias, name in found.items():
        if alias in names or name not in names:
            field.fail("further names of tensors", f"{alias!r} for {name!r}")
    return found


def check_shape(field: Field) -> tuple[int, ...]:
    """The shape of a tensor that an array can have."""
    shape = tuple(item.integer(0, MAX_INDEX) for item in field.items())
    if math.prod(shape) > MAX_INDEX:
        field.fail(f"at most {MAX_INDEX} weights")
    try:
        np.broadcast_to(np.float32(0), shape)
    except ValueError as error:
        field.fail(f"the shape of an array: {error}")
    return shape


def computed(field: Field, compute: Callable[[], _T]) -> _T:
    """What is made of a field whose parts are in order but may not go together."""
    try:
        with np.errstate(all="ignore"):
            return compute()
    except (ArithmeticError, LookupError, MemoryError, TypeError, ValueError) as error:
        raise ValueError(f"{field.place}: {error}") from None
