"""A channel as plain JSON types, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import _arguments
from .fitting import Goodness

if TYPE_CHECKING:
    from .channel import Channel

__all__ = ["from_dict", "from_json", "spelled", "to_dict"]

KEYS = frozenset(
    "name source license synthetic x mean std read_std branch write_bits read_bits d2d_std stuck "
    "goodness".split()
)


def to_dict(channel: Channel) -> dict[str, Any]:
    """Everything the channel is made of; exact."""
    return {
        "name": channel.name,
        "source": channel.source,
        "license": channel.license,
        "synthetic": channel.synthetic,
        "x": channel.x.tolist(),
        "mean": channel.mean.tolist(),
        "std": channel.std.tolist(),
        "read_std": None if channel.read_std is None else channel.read_std.tolist(),
        "branch": None if channel._given_branch is None else list(channel._given_branch),
        "write_bits": channel.write_bits,
        "read_bits": channel.read_bits,
        "d2d_std": channel.d2d_std,
        "stuck": list(channel.stuck),
        "goodness": None if channel.goodness is None else channel.goodness.to_dict(),
    }


def spelled(data: dict[str, Any]) -> dict[str, Any]:
    """The dict of a channel, the key ``licence`` of files of version 1 as it is spelled now."""
    return {"license" if key == "licence" else key: value for key, value in data.items()}


def from_dict(cls: type[Channel], data: dict[str, Any]) -> Channel:
    """The channel of :func:`to_dict`; ValueError if a key is missing or unknown."""
    if not isinstance(data, dict):
        raise _arguments.wrong_type("data", "the dict of a channel", data)
    data = spelled(data)
    unknown = sorted(set(data) - KEYS)
    missing = sorted({"x", "mean", "std"} - set(data))
    if unknown or missing:
        wrong = [f"without {key!r}" for key in missing] + [f"with {key!r}" for key in unknown]
        raise _arguments.wrong_value("data", "the keys of a channel", ", ".join(wrong))
    arguments = {key: value for key, value in data.items() if key != "goodness"}
    channel = cls(**arguments)
    if data.get("goodness") is not None:
        try:
            channel.goodness = Goodness(**data["goodness"])
        except TypeError as error:
            raise _arguments.wrong_value("goodness", "that of a fitted channel", error) from None
    return channel


def from_json(cls: type[Channel], text: str) -> Channel:
    """The channel of JSON text; ValueError if the text is not one."""
    return from_dict(cls, _arguments.json_object("text", text, "a channel"))
