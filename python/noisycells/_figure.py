"""Figures of matplotlib, which is imported when one is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["figure"]


def figure(of: str, width: float = 6, height: float = 4) -> Figure:
    """An empty figure, in inches, to plot ``of``.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            f"plotting {of} needs matplotlib: pip install 'noisycells[plot]'"
        ) from error
    return Figure(figsize=(width, height), layout="constrained")
