"""Products of vectors and weights on tiles of noisy devices.

:class:`Crossbar` is one layer on one chip; :mod:`.reference` defines what it computes.
"""

from __future__ import annotations

from .packed import Packed, Ranges
from .spec import CrossbarSpec

__all__ = ["CrossbarSpec", "Packed", "Ranges"]
