"""A digital branch of low rank beside the arrays of a layer: :class:`LowRankAdapter`."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .mapped import MappedLayer
from .patches import Geometry

__all__ = ["LowRankAdapter"]

_CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


class LowRankAdapter(nn.Module):
    """What is added digitally to the products of a layer's arrays: ``up (down x) + offset``.

    The x of the arrays, smoothed; r inputs and outputs of each group in the middle (LoRA, Hu et
    al., ICLR 2022). A new one is zero and adds nothing: ``down`` is drawn from torch's generator as
    the weights of :class:`torch.nn.Linear` are, ``up`` and ``offset`` are 0.

    Parameters
    ----------
    layer : CrossbarLayer
        Whose products it is for.
    rank : int
        r; 0 leaves the offsets. Layers with fewer inputs or outputs take as many as they have.
    of_chip : bool
        Whether it corrects one chip: programming another one takes it away.
    """

    def __init__(self, layer: MappedLayer, rank: int, of_chip: bool) -> None:
        super().__init__()
        matrix = layer.matrix().detach()
        groups, geometry = layer.arrays, layer.geometry()
        outputs, inputs = len(matrix), matrix[0].numel()
        rank = min(rank, inputs, outputs // groups)
        down = matrix.new_empty(groups * rank, *matrix.shape[1:])
        if rank:
            nn.init.uniform_(down, -(inputs**-0.5), inputs**-0.5)
        self.groups, self.geometry = groups, geometry
        self.down = nn.Parameter(down)
        self.up = nn.Parameter(matrix.new_zeros(outputs, rank))
        self.offset = nn.Parameter(matrix.new_zeros(outputs))
        chip = torch.tensor([of_chip], dtype=torch.uint8, device=matrix.device)
        self.register_buffer("chip", chip)
        self.train(layer.training)

    @property
    def of_chip(self) -> bool:
        """Whether it corrects one chip."""
        return bool(self.get_buffer("chip").item())

    def forward(self, x: Tensor) -> Tensor:
        """What is added for ``x``, the inputs as the arrays get them."""
        if self.geometry is None:
            return F.linear(F.linear(x, self.down), self.up, self.offset)
        return self._convolved(x, self.geometry)

    def _convolved(self, x: Tensor, geometry: Geometry) -> Tensor:
        if not len(self.down):
            size = geometry.output_size(tuple(x.shape[2:]))
            return self.offset.reshape(-1, *(1,) * len(size)).expand(len(x), -1, *size)
        convolution = _CONVOLUTIONS[len(geometry.kernel)]
        middle = convolution(
            x, self.down, None, geometry.stride, geometry.padding, geometry.dilation, self.groups
        )
        up = self.up.reshape(*self.up.shape, *(1,) * len(geometry.kernel))
        return convolution(middle, up, self.offset, groups=self.groups)

    def extra_repr(self) -> str:
        """Its rank, and whose it is."""
        return f"rank {self.up.shape[1]}" + (", of one chip" if self.of_chip else "")
