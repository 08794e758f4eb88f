"""Linear layers and convolutions on noisy crossbars.

In ``train()`` every forward programs fresh arrays, so training sees a new chip each step; in
``eval()`` the chip of :meth:`CrossbarLayer.program` computes, at the time of
:meth:`CrossbarLayer.at`, with fresh read noise for each forward. The weights stay an ordinary
parameter. The chip is part of the layer's ``state_dict``; packed arrays are not.
"""

from __future__ import annotations

import json
import math
import warnings
import weakref
from collections.abc import Callable
from itertools import count
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...crossbar import Crossbar, CrossbarSpec
from ...crossbar.array import STATE_VERSION
from ...devices import Device
from ...random import STREAM_VERSION, check_seed, unnamed
from .arrays import forget
from .circuit import array_name, describe
from .operator import fresh_product, new_key, programmed_product
from .patches import Geometry, patches

__all__ = [
    "CrossbarConv1d",
    "CrossbarConv2d",
    "CrossbarConv3d",
    "CrossbarLayer",
    "CrossbarLinear",
    "CrossbarTransposedLinear",
]

_CHIP = ("chip_conductances", "chip_scale", "chip_ranges", "chip_row")
_STATE = (*_CHIP, "chip_weight", "chip_programmed", "chip_seed", "chip_seconds", "ranges")
_NONE = -1.0  # in place of a range that there is none of
_numbers = count()


class _Handle:
    """A number for the packed arrays of one layer; a copy of a layer has its own."""

    def __init__(self) -> None:
        self.number = next(_numbers)
        weakref.finalize(self, forget, self.number)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Handle:
        return _Handle()

    def __reduce__(self) -> tuple[type[_Handle], tuple[()]]:
        return _Handle, ()


class CrossbarLayer(nn.Module):
    """What the layers share: the life of their chip. Not a layer by itself.

    Attributes
    ----------
    analog : Device
        The kind of analog memory device.
    spec : CrossbarSpec
    name : str
        Of the layer; its random numbers are keyed by it.
    chip_conductances, chip_programmed, chip_weight, chip_seed, chip_seconds, ...
        Buffers, None before :meth:`program`: present conductances, uS, (groups, slices, devices,
        2, out, in); those at programming where they are others; the weights that were programmed;
        the bits of the seed; the time in seconds, NaN right after programming.
    ranges : Tensor or None
        Buffer (groups, 1 + passes): calibrated ranges of the DAC and of the ADCs, -1 for none.
    """

    digital_class: type[nn.Module]
    weight: Tensor
    bias: Tensor | None
    analog: Device
    spec: CrossbarSpec
    name: str
    training: bool
    chip_conductances: Tensor | None
    chip_programmed: Tensor | None
    chip_weight: Tensor | None
    chip_scale: Tensor | None
    chip_ranges: Tensor | None
    chip_row: Tensor | None
    chip_seed: Tensor | None
    chip_seconds: Tensor | None
    ranges: Tensor | None

    # ----------------------------------------------------------------- what layers differ in

    def matrix(self) -> Tensor:
        """The weights, (out, in) of a linear layer, (out, in / groups, ...) of a convolution."""
        return self.weight

    def geometry(self) -> Geometry | None:
        """Of the convolution, or None."""
        return None

    def prepared(self, x: Tensor) -> Tensor:
        """The inputs as the operator takes them."""
        return x

    def vectors(self, x: Tensor) -> list[Tensor]:
        """The input vectors of each group, (vectors, in)."""
        geometry = self.geometry()
        x = self.prepared(x.detach())
        if geometry is None:
            return [x.reshape(-1, x.shape[-1])]
        return [patches(part, geometry) for part in x.chunk(self.arrays, 1)]

    def digital(self, x: Tensor) -> Tensor:
        """The product without noise and converters, by torch."""
        return cast(Tensor, type(self).digital_class.forward(self, x))

    @property
    def arrays(self) -> int:
        """Arrays that the layer is made of, one for each group."""
        return cast(int, getattr(self, "groups", 1))

    # ----------------------------------------------------------------- making

    def become(self, analog: Device, spec: CrossbarSpec | None, name: str) -> None:
        """Set up a module of the digital class as a layer of this one."""
        describe(analog, CrossbarSpec() if spec is None else spec, name)  # checks the three
        self.analog, self.spec = analog, CrossbarSpec() if spec is None else spec
        self._handle = _Handle()
        self._warned = False
        for buffer in _STATE:
            self.register_buffer(buffer, None)
        self.rename(name)

    def release(self) -> None:
        """Become a module of the digital class again, in place, without the chip."""
        for buffer in _STATE:
            delattr(self, buffer)
        digital = self.digital_class
        for attribute in ("analog", "spec", "name", "circuit", "_handle", "_warned"):
            delattr(self, attribute)
        vars(self).pop("digital_class", None)
        self.__class__ = digital  # type: ignore[assignment]

    def rename(self, name: str) -> None:
        """Key the random numbers of chips programmed from now on by another name."""
        self.name = name
        self.circuit = describe(self.analog, self.spec, name, self.geometry(), self.arrays)

    # ----------------------------------------------------------------- products

    def forward(self, x: Tensor, key: Tensor | None = None) -> Tensor:
        """The layer's outputs for ``x``.

        ``key`` holds the seeds of programming and reading, as for
        :func:`~noisycells.torch.crossbar_linear`; None draws one from torch's generator.
        """
        x = self.prepared(x)
        if not self.training and self.chip_conductances is not None:
            chip = [self.chip_conductances, self.chip_scale, self.chip_ranges]
            if self.chip_row is not None:
                chip.append(self.chip_row)
            return programmed_product(
                x,
                cast("list[Tensor]", chip),
                self.bias,
                new_key() if key is None else key,
                self.circuit,
                self._handle.number,
            )
        if not self.training and not torch.compiler.is_compiling() and not self._warned:
            self._warned = True
            warnings.warn(
                f"{self.name or type(self).__name__}: used in eval() before program(seed); every "
                "forward programs fresh arrays, as in train()",
                stacklevel=2,
            )
        return fresh_product(x, self.matrix(), self.bias, key, self.ranges, self.circuit)

    # ----------------------------------------------------------------- life cycle

    @torch.inference_mode(False)  # whose tensors could not take part in gradients later
    @torch.no_grad()
    def program(self, seed: int) -> None:
        """Program the weights as they are on a chip, a pure function of ``seed``.

        Parameters
        ----------
        seed : int in [0, 2**64)
        """
        seed = check_seed("seed", seed)
        if not self.name:
            self.rename(unnamed(self.matrix().detach().cpu().numpy()))
        self._keep([array.program(seed) for array in self._unprogrammed()])

    @torch.inference_mode(False)  # whose tensors could not take part in gradients later
    @torch.no_grad()
    def at(self, seconds: float, extrapolate: bool = False) -> None:
        """Let the chip be as it is at a time after programming; see :meth:`Crossbar.at`.

        Parameters
        ----------
        seconds : float
        extrapolate : bool
            Allow times beyond those at which the device was measured.

        Raises
        ------
        RuntimeError
            If the layer has not been programmed.
        ValueError
            If the device is not known at that time.
        """
        self.check_at(seconds, extrapolate)
        self._keep([array.at(seconds, extrapolate) for array in self.crossbars()])

    def check_at(self, seconds: float, extrapolate: bool) -> None:
        """Raise what :meth:`at` would."""
        if self.chip_seed is None:
            raise RuntimeError(
                f"at: expected a programmed layer; call program(seed) on {self.name!r} first"
            )
        self.analog.ageing(seconds, extrapolate)

    @torch.inference_mode(False)  # whose tensors could not take part in gradients later
    @torch.no_grad()
    def calibrate(self, x: list[Tensor], quantile: float = 1.0) -> None:
        """Set the converter ranges that the spec leaves to calibration.

        Parameters
        ----------
        x : list of Tensor, (vectors, in)
            Example input vectors of each group.
        quantile : float
            Of the magnitudes that a range covers, in (0, 1].
        """
        found = self.crossbars()
        for array, vectors in zip(found, x, strict=True):
            array.calibrate(vectors.float().cpu().numpy(), quantile)
        rows = []
        for array in found:
            dac, adc = array.packed.ranges
            rows.append(self._range_row(
                dac if self.spec.dac_range == "calibrated" else None,
                adc if self.spec.adc_range == "calibrated" else None,
                array.packed.passes,
            ))  # fmt: skip
        self.ranges = torch.stack(rows).to(self.weight.device)
        if self.chip_seed is not None:
            self._keep(found)

    def crossbars(self) -> list[Crossbar]:
        """The arrays of the layer as they are, for reports; copies, one for each group."""
        if self.chip_seed is None:
            return self._unprogrammed()
        present, programmed, chip_ranges, scale, weights = (
            None if t is None else t.detach().cpu().numpy()
            for t in (
                self.chip_conductances, self.chip_programmed, self.chip_ranges, self.chip_scale,
                self.chip_weight,
            )
        )  # fmt: skip
        assert present is not None and chip_ranges is not None and weights is not None
        assert scale is not None and self.chip_seconds is not None
        seconds: float | None = self.chip_seconds.item()
        if math.isnan(cast(float, seconds)):
            seconds = None
        found = []
        for g, weight in enumerate(np.split(weights, self.arrays)):
            arrays = {"weight": weight, "programmed": present[g]}
            if seconds is not None:
                assert programmed is not None
                arrays |= {"programmed": programmed[g], "conductances": present[g]}
            if chip_ranges[g, -1] != _NONE:
                arrays["adc_range"] = chip_ranges[g, 1:]
            array = self._from_state(
                g, arrays, _unsigned(self.chip_seed), seconds, chip_ranges[g, 0]
            )
            if seconds is not None and self.spec.drift_compensation != "none":
                array.at(seconds, extrapolate=True)  # measures the compensation again, the same
            found.append(array)
        return found

    def _from_state(
        self, group: int, arrays: dict[str, Any], seed: int | None, seconds: float | None, dac: Any
    ) -> Crossbar:
        config = {
            "version": STATE_VERSION,
            "stream_version": STREAM_VERSION,
            "name": array_name(self.name, group, self.arrays),
            "device": self.analog.to_dict(),
            "spec": self.spec.to_dict(),
            "seed": seed,
            "seconds": seconds,
            "dac_range": None if dac == _NONE else float(dac),
        }
        return Crossbar.from_state(arrays, json.dumps(config, allow_nan=False))

    def _unprogrammed(self) -> list[Crossbar]:
        matrix = self.matrix().detach().flatten(1).float().cpu().contiguous().numpy()
        found = []
        for g, weight in enumerate(np.split(matrix, self.arrays)):
            if self.ranges is None:
                name = array_name(self.name, g, self.arrays)
                found.append(Crossbar(weight.copy(), self.analog, self.spec, name))
                continue
            ranges = self.ranges[g].cpu().numpy()
            arrays = {"weight": weight}
            if ranges[-1] != _NONE:
                arrays["adc_range"] = ranges[1:]
            found.append(self._from_state(g, arrays, None, None, ranges[0]))
        return found

    @staticmethod
    def _range_row(dac: float | None, adc: Any, passes: int) -> Tensor:
        row = torch.full((1 + passes,), _NONE, dtype=torch.float32, device="cpu")
        if dac is not None:
            row[0] = dac
        if adc is not None:
            row[1:] = torch.from_numpy(adc.copy())
        return row

    def _keep(self, arrays: list[Crossbar]) -> None:
        """Take the chip's state from its arrays."""
        where = self.weight.device
        first = arrays[0]

        def stacked(values: list[Any]) -> Tensor:
            return torch.from_numpy(np.stack(values)).to(where)

        packed = [array.packed for array in arrays]
        self.chip_conductances = stacked([p.conductances for p in packed])
        self.chip_programmed = None
        if first.seconds is not None:
            self.chip_programmed = stacked([array.programmed for array in arrays])
        self.chip_weight = torch.from_numpy(np.concatenate([array.weight for array in arrays])).to(
            where
        )
        self.chip_scale = stacked([
            p.scales.output if p.gain is None else p.scales.output * p.gain for p in packed
        ])  # fmt: skip
        self.chip_row = None
        if first.packed.scales.row is not None:
            self.chip_row = stacked([p.scales.row for p in packed])
        self.chip_ranges = torch.stack([self._range_row(*p.ranges, p.passes) for p in packed]).to(
            where
        )
        assert first.seed is not None
        seed = first.seed - (1 << 64 if first.seed >> 63 else 0)
        self.chip_seed = torch.tensor([seed], dtype=torch.int64, device=where)
        seconds = math.nan if first.seconds is None else first.seconds
        self.chip_seconds = torch.tensor([seconds], dtype=torch.float64, device=where)

    @property
    def stale(self) -> bool:
        """Whether the weights are others than those that were programmed."""
        if self.chip_weight is None:
            return False
        matrix = self.matrix().detach().flatten(1)
        return not torch.equal(matrix.to(self.chip_weight), self.chip_weight)

    # ----------------------------------------------------------------- as a module

    def train(self, mode: bool = True) -> Any:
        """As of any module; on the way to ``eval()`` warns where weights differ from the chip's."""
        if self.training and not mode and self.stale:
            warnings.warn(
                f"{self.name or type(self).__name__}: the weights have changed since the chip was "
                "programmed; eval() uses the chip",
                stacklevel=3,
            )
        return super().train(mode)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Conductances stay float32 where a model changes its dtype."""
        before = {name: self._buffers[name] for name in _STATE}
        super()._apply(fn, recurse)
        for name, tensor in before.items():
            after = self._buffers[name]
            if tensor is not None and after is not None and after.dtype is not tensor.dtype:
                self._buffers[name] = tensor.to(after.device)
        return self

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *arguments: Any
    ) -> None:
        """Also of a chip that this layer does not have yet, or no longer."""
        for name in _STATE:
            tensor = state_dict.get(prefix + name)
            before = self._buffers[name]
            if tensor is None:
                self._buffers[name] = None
            elif before is None or before.shape != tensor.shape:
                self._buffers[name] = torch.empty_like(tensor, device=self.weight.device)
        super()._load_from_state_dict(state_dict, prefix, *arguments)  # type: ignore[no-untyped-call]

    def extra_repr(self) -> str:
        """Of the digital layer, and the life of the chip."""
        if self.chip_seed is None or self.chip_seconds is None:
            life = "NOT PROGRAMMED"
        else:
            life = f"programmed with seed {_unsigned(self.chip_seed)}"
            if not math.isnan(seconds := self.chip_seconds.item()):
                life += f", {seconds:g} s ago"
        digital = type(self).digital_class.extra_repr(self)
        return f"{digital}, {self.analog.name}, {life}"


def _unsigned(seed: Tensor) -> int:
    return int(seed.item()) & (1 << 64) - 1


class CrossbarLinear(CrossbarLayer, nn.Linear):  # type: ignore[misc]
    """:class:`torch.nn.Linear` on a noisy crossbar; see :class:`CrossbarLayer`.

    Parameters
    ----------
    in_features, out_features : int
    bias : bool
        A digital bias.
    device : Device
        The kind of analog memory device (the layer is made on torch's default device).
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
        device: Device,
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
        return CrossbarLinear.extra_repr(self)  # type: ignore[arg-type]

    @property
    def in_features(self) -> int:
        """Number of inputs."""
        return self.weight.shape[0]

    @property
    def out_features(self) -> int:
        """Number of outputs."""
        return self.weight.shape[1]

    digital_class = nn.Linear


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
        device: Device,
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

    def prepared(self, x: Tensor) -> Tensor:
        """The inputs, padded where the operator cannot."""
        if self._pads_before():
            mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
            return F.pad(x, self._reversed_padding_repeated_twice, mode)
        return x

    def forward(self, x: Tensor, key: Tensor | None = None) -> Tensor:
        """The layer's outputs for ``x``, (batch, channels, ...) or without the batch."""
        sizes = len(self.kernel_size)
        if x.ndim == sizes + 1:
            return super().forward(x.unsqueeze(0), key).squeeze(0)
        channels = self.weight.shape[1] * self.groups
        if x.ndim != sizes + 2 or x.shape[1] != channels:
            raise ValueError(
                f"x: expected shape (batch, {channels}, {', '.join(['size'] * sizes)}), "
                f"got {tuple(x.shape)}"
            )
        return super().forward(x, key)


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
