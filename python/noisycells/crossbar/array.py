"""One layer on one chip: :class:`Crossbar`."""

from __future__ import annotations

import math
import struct
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _arguments, random
from .._types import F32, F64
from ..devices import DeviceLike
from . import compensation, mapping, report, state
from .calibration import check_quantile
from .checks import check_finite, checked_device, checked_spec, checked_weight
from .packed import Packed, Ranges
from .spec import CrossbarSpec

__all__ = ["Crossbar"]


class Crossbar:
    """A matrix of weights on tiles of noisy devices (Zhou et al. 2020, figure 1).

    Each weight is a pair of conductances, G+ = g_min + (g_max - g_min) max(w, 0) / w_max and G-
    the same with max(-w, 0), on tiles whose inputs a DAC drives and whose summed currents an ADC
    converts; the sums of the tiles of an output are added digitally.

    :meth:`program` makes a chip, :meth:`at` lets it age, :meth:`matmul` reads it. Before it is
    programmed, products use the target conductances and warn once.

    Parameters
    ----------
    weight : array_like of float, shape (out, in)
        float16, float32 or float64, finite; kept in float32.
    device : Device or str
        Such as ``nc.devices.pcm_joshi2020()``, its name or a JSON file of one (see
        :func:`noisycells.devices.computing`). A cell that is known only as a storage channel
        cannot compute.
    spec : CrossbarSpec, optional
        Default: ``CrossbarSpec()``.
    name : str
        Of the layer; its noise is keyed by it, or by a digest of the weights where there is none.

    Attributes
    ----------
    weight : float32 (out, in)
    device, spec, name
        As given.
    layer : Layer
        The weights as they are mapped to devices.
    stream : int
        That random numbers of this layer are drawn from.
    programmed : float32 (slices, devices, 2, out, in) or None
        Conductances as they were programmed, uS.
    seed, seconds
        Of :meth:`program` and :meth:`at`; None before.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as said above; the message names it.

    Examples
    --------
    >>> import numpy as np
    >>> import noisycells as nc
    >>> w = np.eye(3, dtype=np.float32)
    >>> xb = nc.Crossbar(w, nc.devices.pcm_joshi2020(), nc.CrossbarSpec(read_noise="weight"))
    >>> y = xb.program(seed=1).at(3600).matmul(np.ones((2, 3), np.float32), seed=2)
    >>> y.shape
    (2, 3)
    """

    def __init__(
        self,
        weight: ArrayLike,
        device: DeviceLike,
        spec: CrossbarSpec | None = None,
        name: str = "",
    ) -> None:
        self.weight = checked_weight(weight)
        self.spec = checked_spec(spec)
        self.device = checked_device(device, self.spec)
        self.name = _arguments.text("name", name)
        self.stream = random.stream(name or random.unnamed(self.weight), "crossbar")
        self.layer = mapping.Layer.of(self.weight, self.spec)
        self.programmed: F32 | None = None
        self.seed: int | None = None
        self.seconds: float | None = None
        self._calibration = Ranges()
        self._packed: Packed | None = None
        self._reference: tuple[F64, F64] | None = None  # with:
        self._spacing = 1
        self._warned = False

    # ----------------------------------------------------------------- life cycle

    def program(self, seed: int, *, num_threads: int | None = None) -> Crossbar:
        """Program the devices: one chip, a pure function of ``seed``.

        The array is then as it was written; :meth:`at` says what it is later.

        Parameters
        ----------
        seed : int in [0, 2**64)
        num_threads : int, optional
            Default: the package setting.

        Returns
        -------
        Crossbar
            This one.
        """
        seed = _arguments.seed("seed", seed)
        self.programmed = mapping.program(
            self.layer, self.device, self.spec, seed, self.stream, num_threads=num_threads
        )
        self.seed, self.seconds = seed, None
        self._reference = None
        self._packed = self._pack(self.programmed, self._calibration, num_threads=num_threads)
        return self

    def at(
        self, seconds: float, extrapolate: bool = False, *, num_threads: int | None = None
    ) -> Crossbar:
        """The chip at a time after programming, before or after the present one.

        Drift exponents and 1/f noise are frozen with the chip, so the same time always gives the
        same conductances; with drift compensation, the read-outs of a time have their own fixed
        noise.

        Parameters
        ----------
        seconds : float
            Since programming, >= 0.
        extrapolate : bool
            Allow times beyond those at which the device was measured.
        num_threads : int, optional
            Default: the package setting.

        Returns
        -------
        Crossbar
            This one.

        Raises
        ------
        RuntimeError
            If the array has not been programmed.
        ValueError
            If ``seconds`` is not a time at which the device is known, or the spec wants drift
            compensation with ranges that have not been calibrated.
        """
        if self.programmed is None or self.seed is None:
            raise _arguments.wrong_state(
                "at", "a programmed array", "one that is not; call program(seed) first"
            )
        assert self._packed is not None
        aged = mapping.age(
            self.layer, self.device, self.programmed, seconds, self.seed, self.stream,
            extrapolate=extrapolate, num_threads=num_threads,
        )  # fmt: skip
        packed = self._pack(aged, self._packed.ranges, num_threads=num_threads)
        seconds = float(seconds)
        if self.spec.drift_compensation != "none":
            packed.gain = self._gain(packed, seconds, num_threads)
        self.seconds, self._packed = seconds, packed
        return self

    def _pack(self, conductances: F32, ranges: Ranges, *, num_threads: int | None = None) -> Packed:
        conductances.flags.writeable = False
        return Packed(
            conductances, self.device, self.spec, self.layer.scales, ranges, stream=self.stream,
            num_threads=num_threads,
        )  # fmt: skip

    def _gain(self, packed: Packed, seconds: float, num_threads: int | None) -> F32 | None:
        assert self.programmed is not None and self.seed is not None
        if self._reference is None:
            fresh = self._pack(self.programmed, packed.ranges, num_threads=num_threads)
            seed = random.key(self.seed, "drift compensation", _time_bits(None))
            self._spacing = compensation.spacing(fresh)
            first, second = (
                compensation.measure(
                    fresh, random.fold_in(seed, i), self._spacing, num_threads=num_threads
                )
                for i in range(2)
            )
            self._reference = first, second
        seed = random.key(self.seed, "drift compensation", _time_bits(seconds))
        now = compensation.measure(packed, seed, self._spacing, num_threads=num_threads)
        return compensation.gain(self._reference, now, self.spec)

    def calibrate(self, x: ArrayLike, quantile: float | str = 1.0) -> Crossbar:
        """Set the converter ranges that the spec leaves to calibration.

        They stay until the next calibration, over programming and aging, the same for every
        batch. Reads are noiseless here; conductances are those of the present moment.

        Parameters
        ----------
        x : array_like of float, shape (..., in)
            Example inputs.
        quantile : float or "error"
            Of the magnitudes that a range covers, in (0, 1], 1 for the largest; "error" takes the
            ranges with the least square error of the product (see
            :mod:`noisycells.crossbar.calibration`).

        Returns
        -------
        Crossbar
            This one.
        """
        quantile = check_quantile(quantile)
        vectors, _ = self._vectors(x)
        check_finite("x", vectors)
        packed, spec = self.packed, self.spec
        dac, adc = spec.dac_range == "calibrated", spec.adc_range == "calibrated"
        before = packed.ranges
        packed.ranges = Ranges(None if dac else before.dac, None if adc else before.adc)
        try:
            found = packed.calibrated(vectors, quantile)
        except BaseException:
            packed.ranges = before
            raise
        packed.ranges = found
        self._calibration = Ranges(found.dac if dac else None, found.adc if adc else None)
        self._reference = None
        if self.seconds is not None and spec.drift_compensation != "none":
            packed.gain = self._gain(packed, self.seconds, None)
        return self

    @property
    def packed(self) -> Packed:
        """The present conductances, ready for products; the targets before programming."""
        if self._packed is None:
            targets = mapping.targets(self.layer, self.device, self.spec)
            self._packed = self._pack(targets, self._calibration)
        return self._packed

    # ----------------------------------------------------------------- use

    def matmul(self, x: ArrayLike, seed: int, *, num_threads: int | None = None) -> F32:
        """x @ weight.T as the chip computes it.

        Parameters
        ----------
        x : array_like of float, shape (..., in)
            float16, float32 or float64, finite.
        seed : int in [0, 2**64)
            Of the noise of this read.
        num_threads : int, optional
            Default: the package setting.

        Returns
        -------
        float32 (..., out)

        Raises
        ------
        TypeError, ValueError
            If an argument is not as said above; the message names it.
        """
        seed = _arguments.seed("seed", seed)
        vectors, shape = self._vectors(x, empty=True)
        self._warn_once()
        y = np.empty((len(vectors), len(self.weight)), np.float32)
        if y.size:
            self.packed.product(vectors, y, seed, num_threads=num_threads)
        return y.reshape(*shape, len(self.weight))

    @property
    def conductances(self) -> F32:
        """Present conductances, uS; float32 (slices, devices, 2, out, in), G+ before G-."""
        return self.packed.conductances

    def effective_weights(self) -> F32:
        """The weights that the present conductances stand for, with all digital factors.

        Returns
        -------
        float32 (out, in)
        """
        return self.packed.effective_weights()

    def _vectors(self, x: ArrayLike, empty: bool = False) -> tuple[F32, tuple[int, ...]]:
        """``x`` as float32 (batch, in), C-contiguous, and its shape without the last axis.

        A batch without vectors is refused unless ``empty``.
        """
        array = _arguments.array("x", x, "f", "floating-point numbers")
        k = self.weight.shape[1]
        if array.ndim == 0 or array.shape[-1] != k:
            raise _arguments.wrong_value("x", f"shape (..., {k})", array.shape)
        if array.size == 0 and not empty:
            raise _arguments.wrong_value("x", "at least one input vector", f"shape {array.shape}")
        with np.errstate(over="ignore"):  # the core refuses infinity
            vectors = np.ascontiguousarray(array.reshape(-1, k), np.float32)
        return vectors, array.shape[:-1]

    def _warn_once(self) -> None:
        if self.programmed is None and not self._warned:
            self._warned = True
            warnings.warn(
                f"{self!r}: used before program(seed), with target conductances and without "
                "programming errors",
                stacklevel=3,
            )

    # ----------------------------------------------------------------- reports

    def report(self, x: ArrayLike, seed: int = 0) -> dict[str, Any]:
        """How well the chip computes on ``x``, in plain JSON types.

        Parameters
        ----------
        x : array_like of float, shape (..., in)
        seed : int in [0, 2**64)
            Of the read noise.

        Returns
        -------
        dict
            ``name``, ``device``, ``shape``, ``programmed``, ``seconds``, ``extrapolated``;
            ``snr_db`` of the outputs, None where there is no error or no signal at all;
            ``dac_clipping_percent`` of the inputs and ``adc_saturation_percent`` of the
            conversions; and :meth:`counters` for ``x``.
        """
        seed = _arguments.seed("seed", seed)
        vectors, _ = self._vectors(x)
        self._warn_once()
        packed = self.packed
        y = np.empty((len(vectors), packed.n), np.float32)
        inside = packed.inside(len(vectors))
        clipped = packed.product(vectors, y, seed, inside=inside)
        within = np.unpackbits(inside, axis=-1, count=packed.n, bitorder="little")
        snr = report.snr_db(vectors @ self.weight.T, y)
        return {
            "name": self.name,
            "device": self.device.name,
            "shape": list(self.weight.shape),
            "programmed": self.programmed is not None,
            "seconds": self.seconds,
            "extrapolated": self.extrapolated,
            "snr_db": snr if math.isfinite(snr) else None,
            "dac_clipping_percent": 100 * clipped / vectors.size,
            "adc_saturation_percent": 100 * (1 - float(within.mean(dtype=np.float64))),
            **self.counters(len(vectors)),
        }

    def error_budget(self, x: ArrayLike, seed: int = 0) -> dict[str, float]:
        """Signal-to-noise ratio in dB with each non-ideality alone, and with all of them.

        See :func:`~noisycells.crossbar.report.error_budget` for the entries.

        Parameters
        ----------
        x : array_like of float, shape (..., in)
        seed : int in [0, 2**64)
            Of the read noise.

        Returns
        -------
        dict of float
            inf where there is no error at all, -inf where there is no signal.
        """
        seed = _arguments.seed("seed", seed)
        vectors, _ = self._vectors(x)
        check_finite("x", vectors)
        self._warn_once()
        return report.error_budget(self, vectors, seed)

    def counters(self, batch: int) -> dict[str, int]:
        """Tiles and cells, and reads and conversions for ``batch`` input vectors.

        See :func:`~noisycells.crossbar.report.counters` for the entries.

        Parameters
        ----------
        batch : int
        """
        return report.counters(self.weight.shape, self.spec, _arguments.count("batch", batch))

    def energy(self, batch: int, picojoules: Mapping[str, float]) -> dict[str, float]:
        """Energy in pJ of the product of ``batch`` input vectors.

        Parameters
        ----------
        batch : int
        picojoules : mapping of str to float
            pJ for one of each of the :meth:`counters` that take energy, from whoever knows.

        Returns
        -------
        dict of float
            Item by item, and ``total``.
        """
        return report.energy(self.counters(batch), picojoules)

    # ----------------------------------------------------------------- state

    @property
    def extrapolated(self) -> bool:
        """Whether the present time is outside the range that the device was measured in."""
        if self.seconds is None or self.device.time_range is None:
            return False
        first, last = self.device.time_range
        return not first <= self.seconds <= last

    def state(self) -> tuple[dict[str, NDArray[Any]], str]:
        """Everything that makes this array, as plain arrays and a JSON text.

        ``safetensors.numpy.save_file(arrays, path, {"crossbar": config})`` writes both to a file.

        Returns
        -------
        arrays : dict of arrays
        config : str
        """
        return state.of(self)

    @classmethod
    def from_state(cls, arrays: Mapping[str, NDArray[Any]], config: str) -> Crossbar:
        """The array of :meth:`state`: the same products bit for bit, and the same life from here.

        Raises
        ------
        ValueError
            If an array is missing or not as it has to be, or the version is unknown.
        """
        found = state.read(arrays, config)
        array = cls(found.weight, found.device, found.spec, found.name)
        array._calibration = found.calibration
        array.seed, array.seconds, array.programmed = found.seed, found.seconds, found.programmed
        array._packed = array._pack(found.conductances, found.ranges)
        array._packed.gain = found.gain if found.gain is not None else array._packed.gain
        return array

    def __reduce__(self) -> tuple[Any, ...]:
        return Crossbar.from_state, self.state()

    def __repr__(self) -> str:
        n, k = self.weight.shape
        if self.programmed is None:
            life = "NOT PROGRAMMED"
        else:
            life = f"programmed with seed {self.seed}"
            if self.seconds is not None:
                life += f", {self.seconds:g} s ago" + " (extrapolated)" * self.extrapolated
        return f"<Crossbar {self.name!r} {n} x {k} on {self.device.name}, {life}>"


def _time_bits(seconds: float | None) -> int:
    """A number for each time; None, right after programming, differs from all of them."""
    if seconds is None:
        return (1 << 64) - 1
    return int.from_bytes(struct.pack("<d", seconds), "little")
