"""A channel with curves, and channels like it."""

from __future__ import annotations

from typing import Any

import numpy as np

from noisycells.channel import Channel

X = np.linspace(-1, 1, 9)
MEAN = np.array([-0.7, -0.66, -0.5, -0.2, 0.1, 0.4, 0.6, 0.68, 0.7])
STD = np.array([0.05, 0.06, 0.09, 0.12, 0.13, 0.12, 0.09, 0.06, 0.05])


def make(**options: Any) -> Channel:
    return Channel(X, MEAN, STD, **options)
