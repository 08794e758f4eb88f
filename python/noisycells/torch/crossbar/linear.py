"""Linear layers on noisy crossbars."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...crossbar import CrossbarSpec
from ...devices import DeviceLike
from .layers import CrossbarLayer

__all__ = ["CrossbarLinear", "CrossbarTransposedLinear"]


class CrossbarLinear(CrossbarLayer, nn.Linear):  # type: ignore[misc]
    """:class:`torch.nn.Linear` on a noisy crossbar; see :class:`CrossbarLayer`.

    Parameters
    ----------
    in_features, out_features : int
    bias : bool
        A digital bias.
    device : Device or str
        The kind of analog memory device, or its name or JSON file (the layer is made on torch's
        default device).
    spec : CrossbarSpec, optional
        Default: ``CrossbarSpec()``.
    name : str
        Of the layer; :func:`~noisycells.torch.program` names layers that have none.
    dtype : torch.dtype, optional
        Of the weights.
    """

    digital_class = nn.Linear

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        device: DeviceLike,
        spec: CrossbarSpec | None = None,
        name: str = "",
        dtype: torch.dtype | None = None,
    ) -> None:
        nn.Linear.__init__(self, in_features, out_features, bias, dtype=dtype)
        self.become(device, spec, name)


class CrossbarTransposedLinear(CrossbarLayer):
    """A linear layer whose weight is (in, out), such as ``transformers.pytorch_utils.Conv1D``.

    Made by :func:`~noisycells.torch.convert` only.
    """

    def matrix(self) -> Tensor:
        """The weights as (out, in)."""
        return self.weight.T

    def digital(self, x: Tensor) -> Tensor:
        """The product without noise and converters, by torch."""
        return F.linear(x, self.weight.T, self.bias)

    def extra_repr(self) -> str:
        """Features, and the life of the chip."""
        return CrossbarLinear.extra_repr(self)

    @property
    def in_features(self) -> int:
        """Number of inputs."""
        return self.weight.shape[0]

    @property
    def out_features(self) -> int:
        """Number of outputs."""
        return self.weight.shape[1]

    digital_class = nn.Linear
