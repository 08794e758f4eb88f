"""A memory cell as a noisy channel: the channel, its capacity, and fitting it to measurements."""

from __future__ import annotations

from .channel import Channel

__all__ = ["Channel"]


def __dir__() -> list[str]:
    return __all__
