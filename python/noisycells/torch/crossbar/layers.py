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
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from ... import _arguments
from ...crossbar import Crossbar, CrossbarSpec
from ...crossbar.state import STATE_VERSION
from ...devices import Device, DeviceLike, computing
from ...random import STREAM_VERSION, unnamed
from . import identity
from .adapter import LowRankAdapter
from .arrays import Handle
from .circuit import array_name, describe
from .mapped import MappedLayer
from .operator import check_product, fresh_product, new_key, programmed_product

__all__ = ["CrossbarLayer"]

_CHIP = ("chip_conductances", "chip_scale", "chip_ranges", "chip_row")
_LIFE = ("chip_weight", "chip_programmed", "chip_seed", "chip_seconds")
_STATE = (*_CHIP, *_LIFE, "ranges", "smoothing", "limits", "identity")
_OPTIONAL = ("chip_row", "chip_programmed")  # a chip may be without
_ATTRIBUTES = ("analog", "spec", "name", "circuit", "adapter", "input_log_scale", "keep_chip")
_NONE = -1.0  # in place of a range that there is none of


class CrossbarLayer(MappedLayer):
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
    adapter : LowRankAdapter or None
        What is added to the products digitally; a part of the chip's state.
    input_log_scale : Parameter or None
        Natural logarithm of a factor of the DACs' full scale, while that is learnt.
    keep_chip : bool
        Compute with the programmed chip in ``train()`` as well. False unless it is set.
    identity : Tensor or None
        Buffer uint8: JSON text that says which device, spec, name and versions a chip or ranges
        are of. A state of others is refused.
    """

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
    identity: Tensor | None
    adapter: LowRankAdapter | None
    input_log_scale: Tensor | None

    # ----------------------------------------------------------------- making

    def become(self, device: DeviceLike, spec: CrossbarSpec | None, name: str) -> None:
        """Set up a module of the digital class as a layer of this one."""
        analog = computing(device)
        describe(analog, CrossbarSpec() if spec is None else spec, name)  # checks the three
        self.analog, self.spec = analog, CrossbarSpec() if spec is None else spec
        self._handle = Handle()
        self._warned = self.keep_chip = False
        self.adapter = None
        self.register_parameter("input_log_scale", None)
        for buffer in _STATE:
            self.register_buffer(buffer, None)
        self.rename(name)

    def release(self) -> None:
        """Become a module of the digital class again, in place, without the chip."""
        for buffer in _STATE:
            delattr(self, buffer)
        digital = self.digital_class
        for attribute in (*_ATTRIBUTES, "_handle", "_warned"):
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
        bias, log_scale = self.bias, self._parameters["input_log_scale"]
        check_product(x, self.matrix(), bias)
        x = self.prepared(self.smoothed(x))
        if log_scale is None:
            y = self._product(x, bias, key)
        else:  # a larger full scale of the DACs, with a gradient for it
            scale = log_scale.exp()
            y = self._product(x / scale, None, key) * scale
            y = y if bias is None else y + self.each_channel(bias)
        return y if self.adapter is None else y + self.adapter(x)

    def _product(self, x: Tensor, bias: Tensor | None, key: Tensor | None) -> Tensor:
        """Of the chip, or of fresh arrays."""
        buffers = self._buffers  # found in a tenth of the time that an attribute takes
        if buffers["chip_conductances"] is not None and (self.keep_chip or not self.training):
            chip = [buffers[name] for name in _CHIP]
            if chip[-1] is None:  # no scales of the inputs
                chip.pop()
            return programmed_product(
                x,
                cast("list[Tensor]", chip),
                bias,
                new_key() if key is None else key,
                self.circuit,
                self._handle.number,
            )
        if not self.training and not torch.compiler.is_compiling() and not self._warned:
            self._warned = True
            warnings.warn(
                f"{self.name or type(self).__name__}: used in eval() before program(seed); every "
                "forward programs fresh arrays, as in train()",
                stacklevel=3,
            )
        return fresh_product(x, self.mapped(), bias, key, buffers["ranges"], self.circuit)

    # ----------------------------------------------------------------- life cycle

    @torch.inference_mode(False)  # whose tensors could not take part in gradients later
    @torch.no_grad()
    def program(self, seed: int) -> None:
        """Program the weights as they are on a chip, a pure function of ``seed``.

        An adapter that corrects one chip (:func:`~noisycells.torch.correct`) goes with the chip.

        Parameters
        ----------
        seed : int in [0, 2**64)
        """
        seed = _arguments.seed("seed", seed)
        if not self.name:
            self.rename(unnamed(self.mapped().detach().cpu().numpy()))
        self._keep([array.program(seed) for array in self._unprogrammed()])
        if self.adapter is not None and self.adapter.of_chip:
            self.set_adapter(None)

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

    def program_again(self) -> None:
        """Program the present weights with the chip's seed, and let it be as old as it is."""
        assert self.chip_seed is not None and self.chip_seconds is not None
        seconds = self.chip_seconds.item()
        self.program(_unsigned(self.chip_seed))
        if not math.isnan(seconds):
            self.at(seconds, extrapolate=True)

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
        self.chip_scale = stacked([p.output_scale for p in packed])
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
        wrong = identity.differences(self, given) if given else []
        wrong += identity.correction_alone(given, state_dict.get(f"{prefix}adapter.chip"))
        if wrong:
            errors.extend(f"{prefix}{error}" for error in wrong)
            if self.adapter is not None:  # which is loaded next: with what it has
                state_dict.update(self.adapter.state_dict(prefix=f"{prefix}adapter."))
            return
        if given:
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
            up = state_dict.get(f"{prefix}adapter.up")
            if up is not None or "chip_seed" in given:
                self._take_adapter(up)
        super()._load_from_state_dict(
            state_dict, prefix, metadata, strict, missing, unexpected, errors
        )

    def set_adapter(self, adapter: LowRankAdapter | None) -> None:
        """Have this adapter, or none: then nothing of that name is among the layer's modules."""
        del self.adapter
        self.adapter = adapter

    def _take_adapter(self, up: Tensor | None) -> None:
        """Have an adapter for the state that is being loaded, or none."""
        if up is None:
            self.set_adapter(None)
        elif self.adapter is None or self.adapter.up.shape != up.shape:
            self.set_adapter(LowRankAdapter(self, up.shape[-1], of_chip=False))

    def chip_state(self) -> tuple[dict[str, Tensor | None], LowRankAdapter | None]:
        """Chip, calibration and adapter as they are, for :meth:`put_back`."""
        return {name: self._buffers[name] for name in _STATE}, self.adapter

    def put_back(self, state: tuple[dict[str, Tensor | None], LowRankAdapter | None]) -> None:
        """Have again what an earlier :meth:`chip_state` had."""
        buffers, adapter = state
        self._buffers.update(buffers)
        self.set_adapter(adapter)

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
