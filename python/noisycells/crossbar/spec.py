"""What a crossbar is made of besides its devices: tiles, converters, noise and mapping."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from .. import _arguments
from .._types import INTEGER_DAC_LEVELS, INTEGER_ROWS, LARGEST

__all__ = ["CrossbarSpec"]

MAX_TILE = 1 << 16
MAX_WEIGHT_BITS = 15  # magnitudes of all slices together; float32 holds them exactly


@dataclass(frozen=True)
class CrossbarSpec:
    """The circuit around the devices; every part can be made ideal.

    Units: *full scale* is the largest input magnitude that the DAC drives (without a DAC, the
    input's own largest magnitude), *w_max* the weight that stands for g_max - g_min. Sums are in
    full scale times w_max, so an input at full scale on one weight of w_max gives 1.

    Parameters
    ----------
    rows, cols : int
        Inputs and outputs of a tile. The sums of the tiles of one output are converted one by
        one and added digitally; tiles at the edges are smaller.
    dac_bits, adc_bits : int or None
        2 to 16, sign included: codes from -(2**(bits-1) - 1) to 2**(bits-1) - 1. None: ideal.
    dac_range : "vector", float or "calibrated"
        Full scale of the inputs: the largest magnitude of each input vector (chosen digitally,
        one per vector), a number in the units of the inputs, or the one that
        :meth:`Crossbar.calibrate` finds in example data. Inputs beyond it are clipped.
    adc_range : "weights", float or "calibrated"
        Largest sum that the ADCs of a tile convert, the same for every batch: 4 standard
        deviations of the tile's sums for inputs uniform over full scale, from its conductances
        (see :func:`~noisycells.reference.crossbar.reach`); a number in full scale times
        w_max; or from example data.
    adc_per : "difference" or "polarity"
        Convert the difference of the currents of G+ and G-, or each of them.
    read_noise : "none", "output", "weight" or "both"
        Fresh noise of every read: ``output_noise`` on each sum, the short-term noise of every
        device (exact in distribution; devices whose ``read_variance`` is 0 have none and cost
        nothing), or both.
    output_noise : float
        Standard deviation of the output noise of one read, in full scale times w_max.
    mapping : "tensor", "column" or "row"
        What shares one w_max: all weights, those of an output (rescaled digitally behind the
        ADC), or those of an input (rescaled digitally before the DAC).
        The default is measured in docs/real-networks.md.
    devices_per_polarity : int
        Devices in parallel for each polarity of a weight, all programmed to the same target.
    weight_slice_bits : sequence of int, optional
        Magnitudes are rounded to this many bits and their digits kept in separate tiles, most
        significant first, such as (4, 4); None keeps the analog value in one place.
    input_slice_bits : int, optional
        Bits of the input magnitude driven at a time, each slice a fresh read and conversion;
        1 is bit-serial. None: all at once.
    zero_weights : "programmed" or "reset"
        Whether the devices of weights that are exactly 0 (pruned) are programmed to g_min or
        left in their RESET state.
    wire_resistance_ohm : float
        Resistance of the wire from one cell to the next, along rows and columns.
    ir_drop : "first_order" or "exact"
        What these wires do: to first order in their resistance, which is right to 1 % while they
        take a fifth of the current, or by solving the circuit, in seconds a tile (see
        :mod:`noisycells.crossbar.irdrop`).
    drift_compensation : "none", "global" or "column"
        Rescale the outputs of an aged array digitally by what read-outs of it measure, by one
        factor for all outputs or one for each (see :mod:`noisycells.crossbar.compensation`).
    kernel : "auto", "float32", "int16" or "int8"
        Arithmetic of the simulation. The integer kernels need dac_bits <= 8 and rows <= 512 and
        hold conductances as 16- or 8-bit codes with a scale for each output of each tile, a
        rounding of at most 1/65534 or 1/254 of the largest. "auto" takes int8 where the errors of
        programming dwarf this (see :mod:`noisycells.crossbar.arithmetic`), else int16 where it can.

    Raises
    ------
    TypeError, ValueError
        If a field is not as said above; the message names it.
    """

    rows: int = 256
    cols: int = 256
    dac_bits: int | None = 8
    dac_range: str | float = "vector"
    adc_bits: int | None = 8
    adc_range: str | float = "weights"
    adc_per: str = "difference"
    read_noise: str = "weight"
    output_noise: float = 0.04
    mapping: str = "column"
    devices_per_polarity: int = 1
    weight_slice_bits: tuple[int, ...] | None = None
    input_slice_bits: int | None = None
    zero_weights: str = "programmed"
    wire_resistance_ohm: float = 0.0
    ir_drop: str = "first_order"
    drift_compensation: str = "none"
    kernel: str = "auto"

    def __post_init__(self) -> None:
        for name, least, most in (
            ("rows", 1, MAX_TILE),
            ("cols", 1, MAX_TILE),
            ("devices_per_polarity", 1, 256),
        ):
            self._set(name, _arguments.integer(name, getattr(self, name), least, most))
        for name, least, most in (
            ("dac_bits", 2, 16),
            ("adc_bits", 2, 16),
            ("input_slice_bits", 1, 15),
        ):
            if getattr(self, name) is not None:
                self._set(name, _arguments.integer(name, getattr(self, name), least, most))
        for name, choices in (
            ("adc_per", ("difference", "polarity")),
            ("read_noise", ("none", "output", "weight", "both")),
            ("mapping", ("tensor", "column", "row")),
            ("zero_weights", ("programmed", "reset")),
            ("ir_drop", ("first_order", "exact")),
            ("drift_compensation", ("none", "global", "column")),
            ("kernel", ("auto", "float32", "int16", "int8")),
        ):
            _arguments.choice(name, getattr(self, name), choices)
        for name, choices in (
            ("dac_range", ("vector", "calibrated")),
            ("adc_range", ("weights", "calibrated")),
        ):
            if isinstance(getattr(self, name), str):
                _arguments.choice(name, getattr(self, name), choices)
            else:
                self._set(name, _arguments.scale(name, getattr(self, name)))
        for name in ("output_noise", "wire_resistance_ohm"):
            self._set(name, _arguments.number(name, getattr(self, name), 0, LARGEST))
        self._set("weight_slice_bits", _weight_slices(self.weight_slice_bits))
        if self.input_slice_bits is not None and self.dac_bits is None:
            raise _arguments.wrong_value(
                "input_slice_bits",
                "None with dac_bits=None, whose inputs have no digits",
                self.input_slice_bits,
            )
        if self.ir_drop == "exact" and not self.wire_resistance_ohm:
            raise _arguments.wrong_value(
                "ir_drop", "'first_order' with wires of 0 ohm (wire_resistance_ohm)", "'exact'"
            )
        if self.kernel in ("int16", "int8") and not self._fits_integers:
            raise _arguments.wrong_value(
                "kernel",
                f"'auto' or 'float32' unless dac_bits <= 8 and rows <= {INTEGER_ROWS}",
                f"{self.kernel!r} with dac_bits={self.dac_bits} and rows={self.rows}",
            )

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    # ----------------------------------------------------------------- as the core takes it

    @property
    def dac_levels(self) -> int:
        """Largest input code; 0 for an ideal DAC."""
        return _levels(self.dac_bits)

    @property
    def adc_levels(self) -> int:
        """Largest output code; 0 for an ideal ADC."""
        return _levels(self.adc_bits)

    @property
    def noisy_outputs(self) -> bool:
        """Whether reads have output noise."""
        return self.read_noise in ("output", "both") and self.output_noise > 0

    @property
    def noisy_weights(self) -> bool:
        """Whether reads have the noise of each device."""
        return self.read_noise in ("weight", "both")

    @property
    def polarity_planes(self) -> int:
        """Planes that hold one slice of the weights: their difference, or each polarity."""
        return 2 if self.adc_per == "polarity" else 1

    @property
    def weight_slices(self) -> int:
        """Slices of the weights' digits; 1 where they are not sliced."""
        return len(self.weight_slice_bits or (0,))

    @property
    def input_slices(self) -> int:
        """Slices of the inputs' digits; 1 where they are not sliced."""
        return math.ceil(self.dac_levels.bit_length() / (self.input_slice_bits or 16)) or 1

    def passes(self, inputs: int) -> int:
        """Sums that are read and converted for each output of a layer of so many inputs."""
        tiles = math.ceil(inputs / self.rows)
        return self.input_slices * self.weight_slices * self.polarity_planes * tiles

    @property
    def _fits_integers(self) -> bool:
        return 0 < self.dac_levels <= INTEGER_DAC_LEVELS and self.rows <= INTEGER_ROWS

    @property
    def integer(self) -> bool:
        """Whether products run on integer codes."""
        return self.kernel != "float32" and self._fits_integers

    # ----------------------------------------------------------------- to and from JSON

    def to_dict(self) -> dict[str, Any]:
        """The fields, as plain JSON types."""
        values = asdict(self)
        if self.weight_slice_bits is not None:
            values["weight_slice_bits"] = list(self.weight_slice_bits)
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> CrossbarSpec:
        """The spec of :meth:`to_dict`; fields that are left out have their defaults.

        Raises
        ------
        TypeError, ValueError
            If a field is unknown or not as it has to be.
        """
        unknown = set(values) - {f.name for f in fields(cls)}
        if unknown:
            raise _arguments.wrong_value("values", "fields of CrossbarSpec", sorted(unknown))
        return cls(**values)


def _levels(bits: int | None) -> int:
    return 0 if bits is None else (1 << (bits - 1)) - 1


def _weight_slices(value: Any) -> tuple[int, ...] | None:
    if value is None:
        return None
    if not isinstance(value, Iterable) or isinstance(value, str):
        raise _arguments.wrong_type("weight_slice_bits", "a sequence of integers", value)
    bits = tuple(_arguments.integer("weight_slice_bits", b, 1, 8) for b in value)
    if not bits or sum(bits) > MAX_WEIGHT_BITS:
        raise _arguments.wrong_value(
            "weight_slice_bits", f"1 to {MAX_WEIGHT_BITS} bits together", bits
        )
    return bits
