"""An orthogonal transform that makes the weights of a dense layer nearly Gaussian."""

from __future__ import annotations

import math

import numpy as np

from ... import random
from ..._types import F64

__all__ = ["Rotation"]


class Rotation:
    """Random signs, then a Hadamard transform, of vectors of n numbers.

    For n = 2^k m with odd m the transform is the Kronecker product of the Hadamard matrix of
    Sylvester (1867) of order 2^k and the cosine transform DCT-II of order m (Ahmed et al. 1974),
    both orthonormal. It takes n (k + m) operations and nothing is stored of it but the seed.

    Parameters
    ----------
    n : int
        Length of the vectors.
    seed : int
        Of the signs.
    """

    def __init__(self, n: int, seed: int = 0) -> None:
        self.n = n
        self.power = n & -n if n else 1
        odd = max(1, n // self.power)
        key = random.key(seed, "rotation")
        self.signs = np.where(random.standard_normal(n, key) < 0, -1.0, 1.0)
        rows, columns = np.arange(odd)[:, None], np.arange(odd)[None, :]
        cosine = np.cos(math.pi * (columns + 0.5) * rows / odd) * math.sqrt(2 / odd)
        cosine[0] /= math.sqrt(2)
        self.cosine = cosine

    def apply(self, vectors: F64) -> F64:
        """The transform of each vector along the last dimension."""
        return self._transform(vectors * self.signs, self.cosine)

    def undo(self, vectors: F64) -> F64:
        """The inverse of :meth:`apply`."""
        return np.asarray(self._transform(vectors, self.cosine.T) * self.signs)

    def of_moments(self, moments: F64) -> F64:
        """Second moments of transformed inputs, from those of the inputs."""
        return np.asarray(self.apply(self.apply(moments).T).T)

    def _transform(self, vectors: F64, cosine: F64) -> F64:
        out = vectors.reshape(*vectors.shape[:-1], self.power, len(cosine)) @ cosine.T
        half = 1
        while half < self.power:
            pairs = out.reshape(
                *vectors.shape[:-1], self.power // (2 * half), 2, half * len(cosine)
            )
            a, b = pairs[..., 0, :], pairs[..., 1, :]
            out = np.stack([a + b, a - b], axis=-2)
            half *= 2
        return np.asarray(out.reshape(vectors.shape) / math.sqrt(self.power))
