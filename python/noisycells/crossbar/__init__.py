"""Products of vectors and weights on tiles of noisy devices.

:class:`Crossbar` is one layer on one chip; :mod:`.reference` defines what it computes.
"""

from __future__ import annotations

from .array import Crossbar
from .packed import Packed, Ranges
from .spec import CrossbarSpec

__all__ = ["Crossbar", "CrossbarSpec", "Packed", "Ranges"]


def __dir__() -> list[str]:
    return __all__
