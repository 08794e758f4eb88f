"""What the cases share: the types of contenders, and torch where it is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["F32", "F64", "OURS", "OWN", "U8", "chunks", "torch_or_none"]

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]

Call = Callable[[], Any]
"""Does a job once and returns its result, a buffer that the next call uses again."""

Contenders = dict[str, Call]
"""Who does the job, by name; :data:`OURS` and its rivals."""

OURS = "noisycells"
OWN = "own "
"""Start of the names of rivals that are calls of this package too."""


def torch_or_none() -> ModuleType | None:
    """torch, or None where it is not installed."""
    try:
        import torch
    except ImportError:
        return None
    return torch


def chunks(n: int, tuned: bool) -> Iterator[slice]:
    """All of ``n`` elements: at once or, tuned, in parts whose temporaries stay in the caches."""
    size = 1 << 17 if tuned else max(n, 1)
    return (slice(start, min(start + size, n)) for start in range(0, n, size))
