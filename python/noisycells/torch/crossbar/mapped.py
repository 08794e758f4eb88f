"""What the arrays of a layer hold and are driven with: its weights and inputs, moved and cut."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn

from .patches import Geometry, patches

__all__ = ["MappedLayer"]


class MappedLayer(nn.Module):
    """The weights and inputs of a layer as its arrays have them; what kinds of layers differ in.

    Attributes
    ----------
    smoothing : Tensor or None
        Buffer (in channels,): what inputs are divided by and weights multiplied with on their way
        to the arrays; set by :func:`~noisycells.torch.smooth`.
    limits : Tensor or None
        Buffer (out,): largest magnitude of the weights of each output on the arrays, smoothed as
        they are; set by :func:`~noisycells.torch.limit_weights`.
    """

    digital_class: type[nn.Module]
    weight: Tensor
    smoothing: Tensor | None
    limits: Tensor | None

    @property
    def arrays(self) -> int:
        """Arrays that the layer is made of, one for each group."""
        return cast(int, getattr(self, "groups", 1))

    def geometry(self) -> Geometry | None:
        """Of the convolution, or None."""
        return None

    def digital(self, x: Tensor) -> Tensor:
        """The product without noise and converters, by torch."""
        return cast(Tensor, type(self).digital_class.forward(self, x))

    # ----------------------------------------------------------------- weights

    def matrix(self) -> Tensor:
        """The weights, (out, in) of a linear layer, (out, in / groups, ...) of a convolution."""
        return self.weight

    def mapped(self) -> Tensor:
        """The weights as the arrays hold them: :meth:`matrix`, smoothed and limited."""
        matrix = self._smooth_matrix()
        if self._buffers["limits"] is not None:
            limits = self._limits_of(matrix)
            matrix = matrix.clamp(-limits, limits)
        return matrix

    def _smooth_matrix(self) -> Tensor:
        matrix, smoothing = self.matrix(), self._buffers["smoothing"]
        if smoothing is None:
            return matrix
        each = smoothing.to(matrix.dtype).reshape(self.arrays, 1, -1)
        factors = each.expand(-1, len(matrix) // self.arrays, -1).reshape(matrix.shape[:2])
        return matrix * factors.reshape(*factors.shape, *(1,) * (matrix.ndim - 2))

    def _limits_of(self, matrix: Tensor) -> Tensor:
        assert self.limits is not None
        return self.limits.to(matrix.dtype).reshape(-1, *(1,) * (matrix.ndim - 1))

    def limited(self) -> int:
        """How many weights :meth:`mapped` cuts off."""
        if self.limits is None:
            return 0
        matrix = self._smooth_matrix().detach()
        return int((matrix.abs() > self._limits_of(matrix)).sum())

    # ----------------------------------------------------------------- inputs

    def smoothed(self, x: Tensor) -> Tensor:
        """The inputs as the arrays are driven: without what :meth:`mapped` has taken over."""
        smoothing = self._buffers["smoothing"]
        return x if smoothing is None else x / self.each_channel(smoothing.to(x.dtype))

    def each_channel(self, values: Tensor) -> Tensor:
        """``values`` (channels,) in a shape that goes with inputs or outputs."""
        geometry = self.geometry()
        return values.reshape(-1, *(1,) * (0 if geometry is None else len(geometry.kernel)))

    def prepared(self, x: Tensor) -> Tensor:
        """The inputs as the operator takes them."""
        return x

    def examples(self, x: Tensor) -> Iterator[Tensor]:
        """The input vectors of each group, (groups, vectors, in); of images one at a time."""
        geometry, x = self.geometry(), self.smoothed(x.detach())
        if geometry is None:
            yield x.reshape(1, -1, x.shape[-1])
            return
        batch = x if x.ndim == 2 + len(geometry.kernel) else x.unsqueeze(0)
        for image in batch.split(1):
            parts = self.prepared(image).chunk(self.arrays, 1)
            yield torch.stack([patches(part, geometry) for part in parts])
