"""Retraining with few bits: weights and inputs of layers rounded in forward, straight through."""

from __future__ import annotations

from collections.abc import Collection, Hashable
from typing import Any

import torch
from torch import Tensor, nn

from ... import _arguments
from ..checks import Filter, check_module
from .effective import Effective, Slot, Weights, find_transform, weights_of

__all__ = ["dequantize", "quantize"]

MOMENTUM = 0.1  # of ranges in training: the share of the newest
SAMPLE = 4096  # values that a range is chosen by, evenly spaced
FRACTIONS = 32  # of the largest magnitude, that a range is chosen from

_LAYERS = (nn.Linear, nn.modules.conv._ConvNd)


def quantize(
    model: nn.Module,
    weight_bits: int = 4,
    activation_bits: int | None = 4,
    per: str = "tensor",
    *,
    first_last_bits: int | None = None,
    filter_fn: Filter | None = None,
) -> nn.Module:
    """Let a model compute with quantized weights and inputs of its layers, in place.

    For retraining (Zhou et al. 2020, figure 4: 4 bits). Parameters keep full precision; forward
    rounds them and gradients go straight through, zero where a value was clipped
    (:func:`torch.fake_quantize_per_tensor_affine`). Noise of :func:`inject_noise` comes on top of
    the quantized weights, whichever was asked for first.

    With range R, weights have the codes -(2**(b-1) - 1) to 2**(b-1) - 1 in steps of
    R / (2**(b-1) - 1). The inputs of linear layers and convolutions have the codes 0 to 2**b - 1
    in steps of R / (2**b - 1) as long as none was negative, and afterwards -2**(b-1) to
    2**(b-1) - 1 in steps of R / (2**(b-1) - 1).

    Each range is the fraction of the largest magnitude whose rounding and clipping have the
    smallest mean squared error, of the values of the first forward; in training it follows those
    of each forward with momentum 0.1. Ranges are buffers of the layers (``weight_range``,
    ``input_range``), 0 before the first forward, so ``state_dict()`` has them.

    Parameters
    ----------
    model : torch.nn.Module
    weight_bits : int
        2 to 16.
    activation_bits : int, optional
        2 to 16; None leaves inputs as they are.
    per : "tensor" or "channel"
        One range for each weight tensor, or for each index of its first dimension.
    first_last_bits : int, optional
        Bits of the first and the last of the weights instead, and of these layers' inputs if
        inputs are quantized.
    filter_fn : callable, optional
        Parameters for which ``filter_fn(module, name)`` is false keep full precision, and so do
        the inputs of their layers.

    Returns
    -------
    torch.nn.Module
        ``model``.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as said above, the model has nothing to quantize or is quantized
        already; the model is then left as it was.
    """
    check_module(model, to_change=True)
    _arguments.choice("per", per, ("tensor", "channel"))
    if find_transform(model, Quantization) is not None:
        raise _arguments.wrong_value(
            "model", "one that is not quantized", "one that is; use dequantize first"
        )
    weight_bits = _check_bits("weight_bits", weight_bits)
    if activation_bits is not None:
        activation_bits = _check_bits("activation_bits", activation_bits)
    weights = weights_of(model, filter_fn)
    bits = dict.fromkeys(weights, (weight_bits, activation_bits))
    if first_last_bits is not None:
        special = _check_bits("first_last_bits", first_last_bits)
        for name in (next(iter(bits)), next(reversed(bits))):
            bits[name] = (special, None if activation_bits is None else special)
    quantization = Quantization(weights, {n: b for n, (b, _) in bits.items()}, per)
    quantization.chain = Effective.attach(model, quantization, weights)
    for name, slots in weights.items():
        quantization.register(slots, bits[name][1])
    return model


def dequantize(model: nn.Module, *, rounded: bool = False) -> nn.Module:
    """Undo :func:`quantize`, in place.

    Parameters
    ----------
    model : torch.nn.Module
    rounded : bool
        Leave the parameters at their quantized values, as for storage or crossbars.

    Returns
    -------
    torch.nn.Module
        ``model``.

    Raises
    ------
    ValueError
        If the model is not quantized.
    """
    check_module(model)
    rounded = _arguments.flag("rounded", rounded)
    quantization: Quantization | None = find_transform(model, Quantization)
    if quantization is None:
        raise _arguments.wrong_value("model", "a quantized one", "one that is not")
    quantization.remove(rounded)
    return model


class Quantization:
    """The weights of a model, quantized: a transform of :class:`Effective`."""

    order = 0

    def __init__(self, weights: Weights, bits: dict[str, int], per: str) -> None:
        self.names: Collection[str] = tuple(weights)
        self.bits = bits
        self.per = per
        self.chain: Effective | None = None
        self._weights = weights
        self._inputs: list[tuple[nn.Module, Any]] = []

    def register(self, slots: list[Slot], input_bits: int | None) -> None:
        """Give the modules of one weight their buffers, and hooks for their inputs."""
        first = slots[0]
        channels = len(first.parameter) if self.per == "channel" else 1
        range_ = first.parameter.new_zeros(channels, dtype=torch.float32, requires_grad=False)
        first.module.register_buffer(f"{first.name}_range", range_)
        for slot in slots:
            if input_bits is not None and isinstance(slot.module, _LAYERS):
                slot.module.register_buffer("input_range", range_.new_zeros(2))
                hook = slot.module.register_forward_pre_hook(
                    _Inputs(input_bits), prepend=True, with_kwargs=True
                )
                self._inputs.append((slot.module, hook))

    @torch.no_grad()
    def remove(self, rounded: bool) -> None:
        """End it; the parameters are left at their quantized values or as they are."""
        assert self.chain is not None
        if rounded:
            weights = self.chain.values(before=self)
            for name, value in self(weights).items():
                self._weights[name][0].parameter.copy_(value)
        self.chain.detach(self)
        for slots in self._weights.values():
            del slots[0].module._buffers[f"{slots[0].name}_range"]
        for module, hook in self._inputs:
            hook.remove()
            del module._buffers["input_range"]

    def begin(self) -> None:
        """Ranges follow the weights in training."""
        if not _computes_again():
            for name, slots in self._weights.items():
                if slots[0].module.training:
                    self._follow(name, slots[0].value.detach())

    def end(self) -> None:
        """Nothing is left to do."""

    def key(self) -> Hashable:
        """What the result depends on besides the weights."""
        ranges = (self._range(name) for name in self.names)
        return tuple((r.data_ptr(), r._version) for r in ranges)

    def __call__(self, weights: dict[str, Tensor], /) -> dict[str, Tensor]:
        """The quantized weights."""
        return {name: self._quantized(name, weight) for name, weight in weights.items()}

    def _range(self, name: str) -> Tensor:
        slot = self._weights[name][0]
        return slot.module.get_buffer(f"{slot.name}_range")

    def _top(self, name: str) -> int:
        """The largest code."""
        return int(2 ** (self.bits[name] - 1) - 1)

    def _follow(self, name: str, weight: Tensor) -> None:
        range_ = self._range(name)
        rows = weight.float().reshape(len(range_), -1)
        _follow(range_, best_range(rows, rows.abs().amax(1), self._top(name)))

    def _quantized(self, name: str, weight: Tensor) -> Tensor:
        range_ = self._range(name)
        if not range_.any():
            self._follow(name, weight.detach())
        top = self._top(name)
        scale = _scale(range_, top)
        if self.per == "tensor":
            zero = torch.zeros((), dtype=torch.int32, device=scale.device)
            return torch.fake_quantize_per_tensor_affine(weight, scale[0], zero, -top, top)
        zero = torch.zeros_like(scale, dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(weight, scale, zero, 0, -top, top)


class _Inputs:
    """Forward pre-hook that quantizes the input of a layer."""

    def __init__(self, bits: int) -> None:
        self.bits = bits

    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if args:
            return (self.quantized(module, args[0]), *args[1:]), kwargs
        return args, kwargs | {"input": self.quantized(module, kwargs["input"])}

    def quantized(self, module: nn.Module, x: Tensor) -> Tensor:
        range_ = module.get_buffer("input_range")  # lowest (0 or -highest), highest
        half = 2 ** (self.bits - 1)
        if (module.training and not _computes_again()) or not range_.any():
            self._calibrate(range_, x.detach().float())
        signed = range_[0] < 0
        scale = torch.where(signed, _scale(range_[1], half - 1), _scale(range_[1], 2 * half - 1))
        zero = torch.where(signed, half, 0).to(torch.int32)
        return torch.fake_quantize_per_tensor_affine(x, scale, zero, 0, 2 * half - 1)

    @torch.no_grad()
    def _calibrate(self, range_: Tensor, x: Tensor) -> None:
        low, high = torch.aminmax(x)
        signed = (low < 0) | (range_[0] < 0)
        rows, top = x.reshape(1, -1), torch.maximum(-low, high)[None]
        half = 2 ** (self.bits - 1)
        found = torch.where(
            signed, best_range(rows, top, half - 1), best_range(rows, top, 2 * half - 1)
        )
        _follow(range_[1:], found)
        range_[0] = torch.where(signed, -range_[1], 0.0)


# --------------------------------------------------------------------------- ranges


def best_range(rows: Tensor, top: Tensor, levels: int) -> Tensor:
    """The range of each row with the smallest squared error on ``levels`` levels besides 0.

    Parameters
    ----------
    rows : Tensor of float32, shape (c, n)
        About 4096 of its values count, of each row at least 64.
    top : Tensor of float32, shape (c,)
        Largest magnitude of each row, of which 32 fractions are tried.
    levels : int

    Returns
    -------
    Tensor of float32, shape (c,)
    """
    count = max(SAMPLE // len(rows), 64)
    step = rows.shape[1] // count | 1  # odd, so that it walks through all pixels of an image
    x = rows[:, ::step].abs()
    fractions = torch.arange(1, FRACTIONS + 1, device=x.device) / FRACTIONS
    ranges = fractions[:, None] * top
    scales = _scale(ranges, levels)[..., None]
    error = ((x / scales).round_().clamp_(max=levels) * scales - x).square_().sum(-1)
    return ranges.gather(0, error.argmin(0, keepdim=True))[0]


def _scale(range_: Tensor, levels: int) -> Tensor:
    """The step; not 0 where everything is 0."""
    return range_.float().clamp(min=torch.finfo(torch.float32).tiny * levels * 2) / levels


def _computes_again() -> bool:
    """Whether a checkpoint does, in backward: with the ranges that its forward left."""
    return not torch.compiler.is_compiling() and torch._C._current_autograd_node() is not None


@torch.no_grad()
def _follow(range_: Tensor, found: Tensor) -> None:
    """Take the range found, or a step towards it if there is one already."""
    found = found.to(range_.dtype)
    range_.copy_(torch.where(range_ == 0, found, torch.lerp(range_, found, MOMENTUM)))


def _check_bits(name: str, bits: Any) -> int:
    return _arguments.integer(name, bits, 2, 16)
