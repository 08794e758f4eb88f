"""Byte strings one after the other, each behind its length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ... import _arguments


def join(sections: Iterable[bytes]) -> bytes:
    """One string of all; lengths are 7 bits a byte, the lowest first, the last below 128."""
    out = bytearray()
    for section in sections:
        length = len(section)
        while length >= 128:
            out.append(length % 128 + 128)
            length //= 128
        out.append(length)
        out += section
    return bytes(out)


def take(sections: Iterator[bytes], size: int | None = None) -> bytes:
    """The next string; ValueError where there is none, or one of another size."""
    found = next(sections, None)
    if found is None:
        raise _arguments.wrong_value("sections", "another one", "the end")
    if size is not None and len(found) != size:
        raise _arguments.wrong_value("sections", f"one of {size} bytes", len(found))
    return found


def split(content: bytes) -> Iterator[bytes]:
    """The strings again.

    Raises
    ------
    ValueError
        If a length is beyond the end.
    """
    at = 0
    while at < len(content):
        length = shift = 0
        while True:
            if at >= len(content):
                raise _arguments.wrong_value("sections", "a length", "the end")
            byte = content[at]
            at += 1
            length += byte % 128 << shift
            shift += 7
            if byte < 128:
                break
        if at + length > len(content):
            raise _arguments.wrong_value("sections", f"{length} bytes", len(content) - at)
        yield content[at : at + length]
        at += length
