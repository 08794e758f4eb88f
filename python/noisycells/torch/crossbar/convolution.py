"""Convolutions on noisy crossbars, an array for each group."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor, nn
from torch.nn import functional as F

from ... import _arguments
from ...crossbar import CrossbarSpec
from ...devices import DeviceLike
from .layers import CrossbarLayer
from .patches import Geometry

__all__ = ["CrossbarConv1d", "CrossbarConv2d", "CrossbarConv3d"]


class _CrossbarConv(CrossbarLayer):
    """What convolutions share."""

    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: str | tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    padding_mode: Any
    _reversed_padding_repeated_twice: list[int]

    def __init__(
        self,
        *arguments: Any,
        device: DeviceLike,
        spec: CrossbarSpec | None = None,
        name: str = "",
        **keywords: Any,
    ) -> None:
        cast(Any, self.digital_class).__init__(self, *arguments, **keywords)
        self.become(device, spec, name)

    def _pads_before(self) -> bool:
        """Whether the operator, which pads with zeros on both sides alike, cannot pad."""
        both = self._reversed_padding_repeated_twice
        return self.padding_mode != "zeros" or both[::2] != both[1::2]

    def geometry(self) -> Geometry:
        """Of the convolution."""
        both = self._reversed_padding_repeated_twice
        padding = tuple(reversed(both[::2]))
        if self._pads_before():
            padding = (0,) * len(padding)
        return Geometry(tuple(self.kernel_size), tuple(self.stride), padding, tuple(self.dilation))

    def forward(self, x: Tensor, key: Tensor | None = None) -> Tensor:
        """The layer's outputs for ``x``, (batch, channels, ...) or without the batch."""
        sizes = len(self.kernel_size)
        if x.ndim == sizes + 1:
            return super().forward(x.unsqueeze(0), key).squeeze(0)
        channels = self.weight.shape[1] * self.groups
        if x.ndim != sizes + 2 or x.shape[1] != channels:
            wanted = ", ".join(["size"] * sizes)
            raise _arguments.wrong_value(
                "x", f"shape (batch, {channels}, {wanted})", tuple(x.shape)
            )
        return super().forward(x, key)

    def prepared(self, x: Tensor) -> Tensor:
        """The inputs, padded where the operator cannot; refused where no kernel fits in them."""
        if self._pads_before():
            mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
            x = F.pad(x, self._reversed_padding_repeated_twice, mode)
        geometry, size = self.geometry(), tuple(x.shape[2:])
        if min(geometry.output_size(size)) < 1:
            steps = zip(geometry.dilation, geometry.kernel, strict=True)
            reach = tuple(d * (k - 1) + 1 for d, k in steps)
            padded = tuple(n + 2 * p for n, p in zip(size, geometry.padding, strict=True))
            raise _arguments.wrong_value("x", f"{reach} or more pixels with padding", padded)
        return x


class CrossbarConv1d(_CrossbarConv, nn.Conv1d):
    """:class:`torch.nn.Conv1d` on noisy crossbars, one for each group.

    Its arguments are those of :class:`torch.nn.Conv1d`, but ``device``, ``spec`` and ``name``,
    which are those of :class:`CrossbarLinear`.
    """

    digital_class = nn.Conv1d


class CrossbarConv2d(_CrossbarConv, nn.Conv2d):
    """:class:`torch.nn.Conv2d` on noisy crossbars, one for each group.

    Its arguments are those of :class:`torch.nn.Conv2d`, but ``device``, ``spec`` and ``name``,
    which are those of :class:`CrossbarLinear`.
    """

    digital_class = nn.Conv2d


class CrossbarConv3d(_CrossbarConv, nn.Conv3d):
    """:class:`torch.nn.Conv3d` on noisy crossbars, one for each group.

    Its arguments are those of :class:`torch.nn.Conv3d`, but ``device``, ``spec`` and ``name``,
    which are those of :class:`CrossbarLinear`.
    """

    digital_class = nn.Conv3d
