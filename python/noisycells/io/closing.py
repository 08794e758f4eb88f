"""What is closed where a ``with`` statement ends."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TypeVar

__all__ = ["Closing"]

_Self = TypeVar("_Self", bound="Closing")


class Closing(ABC):
    """A context manager that ends with :meth:`close`, however it ends."""

    @abstractmethod
    def close(self) -> None:
        """Close what is open."""

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()
