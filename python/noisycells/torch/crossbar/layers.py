"""What linear layers and convolutions on noisy crossbars share: the life and state of a chip.

In ``train()`` every forward programs fresh arrays, so training sees a new chip each step; in
``eval()`` the chip of :meth:`CrossbarLayer.program` computes, at the time of
:meth:`CrossbarLayer.at`, with fresh read noise for each forward. The weights stay an ordinary
parameter. The chip is part of the layer's ``state_dict``; packed arrays are not.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from ... import _arguments
from ...crossbar import Crossbar, CrossbarSpec
from ...crossbar.state import STATE_VERSION
from ...devices import Device, DeviceLike, computing
from ...random import STREAM_VERSION, unnamed
from . import identity
from .arrays import Handle
from .circuit import array_name, describe
from .operator import check_product, fresh_product, new_key, programmed_product
from .patches import Geometry, patches

__all__ = ["CrossbarLayer"]

_CHIP = ("chip_conductances", "chip_scale", "chip_ranges", "chip_row")
_LIFE = ("chip_weight", "chip_programmed", "chip_seed", "chip_seconds")
_STATE = (*_CHIP, *_LIFE, "ranges", "smoothing", "limits", "identity")
_OPTIONAL = ("chip_row", "chip_programmed")  # a chip may be without
_NONE = -1.0  # in place of a range that there is none of


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
    smoothing : Tensor or None
        Buffer (in channels,): what inputs are divided by and weights multiplied with on their way
        to the arrays; set by :func:`~noisycells.torch.smooth`.
    limits : Tensor or None
        Buffer (out,): largest magnitude of the weights of each output on the arrays, smoothed as
        they are; set by :func:`~noisycells.torch.limit_weights`.
    identity : Tensor or None
        Buffer uint8: JSON text that says which device, spec, name and versions a chip or ranges
        are of. A state of others is refused.
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
    smoothing: Tensor | None
    limits: Tensor | None
    identity: Tensor | None

    # ----------------------------------------------------------------- what layers differ in

    def matrix(self) -> Tensor:
        """The weights, (out, in) of a linear layer, (out, in / groups, ...) of a convolution."""
        return self.weight

    def mapped(self) -> Tensor:
        """The weights as the arrays hold them: :meth:`matrix`, smoothed and limited."""
        matrix = self._smooth_matrix()
        if self.limits is not None:
            limits = self._limits_of(matrix)
            matrix = matrix.clamp(-limits, limits)
        return matrix

    def _smooth_matrix(self) -> Tensor:
        matrix = self.matrix()
        if self.smoothing is None:
            return matrix
        each = self.smoothing.to(matrix.dtype).reshape(self.arrays, 1, -1)
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

    def smoothed(self, x: Tensor) -> Tensor:
        """The inputs as the arrays are driven: without what :meth:`mapped` has taken over."""
        if self.smoothing is None:
            return x
        geometry = self.geometry()
        after = 0 if geometry is None else len(geometry.kernel)
        return x / self.smoothing.to(x.dtype).reshape(-1, *(1,) * after)

    def geometry(self) -> Geometry | None:
        """Of the convolution, or None."""
        return None

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

    def digital(self, x: Tensor) -> Tensor:
        """The product without noise and converters, by torch."""
        return cast(Tensor, type(self).digital_class.forward(self, x))

    @property
    def arrays(self) -> int:
        """Arrays that the layer is made of, one for each group."""
        return cast(int, getattr(self, "groups", 1))

    # ----------------------------------------------------------------- making

    def become(self, device: DeviceLike, spec: CrossbarSpec | None, name: str) -> None:
        """Set up a module of the digital class as a layer of this one."""
        analog = computing(device)
        describe(analog, CrossbarSpec() if spec is None else spec, name)  # checks the three
        self.analog, self.spec = analog, CrossbarSpec() if spec is None else spec
        self._handle = Handle()
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
        check_product(x, self.matrix(), self.bias)
        x = self.prepared(self.smoothed(x))
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
        return fresh_product(x, self.mapped(), self.bias, key, self.ranges, self.circuit)

    # ----------------------------------------------------------------- life cycle

    @torch.inference_mode(False)  # whose tensors could not take part in gradients later
    @torch.no_grad()
    def program(self, seed: int) -> None:
        """Program the weights as they are on a chip, a pure function of ``seed``.

        Parameters
        ----------
        seed : int in [0, 2**64)
        """
        seed = _arguments.seed("seed", seed)
        if not self.name:
            self.rename(unnamed(self.mapped().detach().cpu().numpy()))
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
            raise _arguments.wrong_state(
                "at",
                "a programmed layer",
                f"one that is not; call program(seed) on {self.name!r} first",
            )
        self.analog.aging(seconds, extrapolate)

    @torch.inference_mode(False)  # whose tensors could not take part in gradients later
    @torch.no_grad()
    def calibrate(self, x: list[Tensor], quantile: float | str = 1.0) -> None:
        """Set the converter ranges that the spec leaves to calibration.

        Parameters
        ----------
        x : list of Tensor, (vectors, in)
            Example input vectors of each group.
        quantile : float or "error"
            As for :meth:`noisycells.Crossbar.calibrate`.
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
        self.identity = identity.written(self).to(self.weight.device)
        if self.chip_seed is not None:
            self._keep(found)

    def check_unprogrammed(self, name: str) -> None:
        """Refuse a layer whose weights are on a chip already; ``name`` is that in the model."""
        if self.chip_seed is not None:
            raise _arguments.wrong_value(
                "model",
                "layers that are not programmed",
                f"{name!r} with a chip, which stays as it is",
            )

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
        matrix = self.mapped().detach().flatten(1).float().cpu().contiguous().numpy()
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
        self.identity = identity.written(self).to(where)
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
        matrix = self.mapped().detach().flatten(1)
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
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, tensor in before.items():
            after = self._buffers[name]
            if tensor is not None and after is not None and after.dtype is not tensor.dtype:
                self._buffers[name] = tensor.to(after.device)
        return self

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        metadata: Any,
        strict: bool,
        missing: list[str],
        unexpected: list[str],
        errors: list[str],
    ) -> None:
        """Also of a chip that this layer does not have yet; one that is absent stays as it is."""
        given = {n: state_dict[prefix + n] for n in _STATE if prefix + n in state_dict}
        if given:
            wrong = identity.differences(self, given)
            if wrong:
                errors.extend(f"{prefix}{error}" for error in wrong)
                return
            if "chip_seed" in given:
                for name in _OPTIONAL:
                    self._buffers[name] = None
            if not identity.same_weights(self, given):  # ranges are those of others
                self.smoothing = self.limits = self.ranges = None
            for name, tensor in given.items():
                before = self._buffers[name]
                if before is None or before.shape != tensor.shape:
                    self._buffers[name] = torch.empty_like(tensor, device=self.weight.device)
            self.rename(identity.read(given["identity"])["name"])
        super()._load_from_state_dict(
            state_dict, prefix, metadata, strict, missing, unexpected, errors
        )

    def chip_state(self) -> dict[str, Tensor | None]:
        """The buffers of chip and calibration as they are, for :meth:`put_back`."""
        return {name: self._buffers[name] for name in _STATE}

    def put_back(self, state: dict[str, Tensor | None]) -> None:
        """Have again the chip and the calibration of an earlier :meth:`chip_state`."""
        self._buffers.update(state)

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
