"""A device: target conductance -> programmed -> as it is at some time -> one read of it.

There is one class. What tells one device from another is a :class:`~.model.Model`: plain
functions of the conductance and figures, made by a function such as
:func:`noisycells.devices.pcm_joshi2020`. Conductances are in microsiemens, times in seconds since
the end of programming.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .. import _arguments, _core, random
from .._types import F32, F64, MAX_CELLS, Aging, Programming, Stuck
from ..channel import Channel
from ..runtime import threads_argument
from . import tables
from .model import Model
from .moments import unstuck_moments

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Device"]

CHANNEL_KNOTS = 513

# Of targets that are given as they are: inverse, sign, g_min and span of reference.targets.
_BARE_TARGETS = (np.ones(1, np.float32), 1, 0.0, 1.0)

_UNIT_READ = _core.ChannelTables(
    np.zeros((2, 4), np.float32), 0.0, 1.0, np.array([[1, 0], [1, 0]], np.float32)
)
"""A cell whose read is one standard normal and nothing else."""


class Device:
    """A kind of analog memory device; made by the functions of :mod:`noisycells.devices`.

    A device does not change. Two are equal if the same function made them with the same
    arguments; :meth:`to_dict` holds just these. ``programming``, ``aging`` and ``read_variance``
    are what crossbars use, :meth:`channel` is what storage uses.

    Attributes
    ----------
    name : str
        The preset, or the name given to a fitted device.
    summary, source, doi, license : str
        What it is, and where its figures come from.
    g_min, g_max : float
        Conductances of the smallest and the largest target, in microsiemens.
    conductance_range : (float, float)
        Conductances that were measured, in microsiemens.
    time_range : (float, float) or None
        First and last time measured, in seconds since programming; (0, 0): only just after
        programming. None: the device does not depend on time.
    read_variance : (float, float, float)
        Variance of one short-term read at conductance g is c0 + c1 g + c2 g^2, in uS^2.
    stuck : (float, float)
        Probabilities of devices stuck off (at g_min) and on (at g_max).
    reset : (float, float) or None
        Mean and standard deviation of a device left in its RESET state, in microsiemens; None
        where that is not known.
    synthetic : bool
        Whether the figures are made up rather than measured.

    Examples
    --------
    >>> import noisycells as nc
    >>> device = nc.devices.pcm_joshi2020()
    >>> g = device.program([5.0, 20.0], seed=1)
    >>> later = device.at(g, [5.0, 20.0], seconds=3600, seed=1)
    >>> bool((later < g).all())
    True
    """

    def __init__(
        self,
        function: str,
        arguments: Mapping[str, Any],
        changed: Mapping[str, Any],
        model: Model,
        summary: str,
    ) -> None:
        self._function = function
        self._arguments = dict(arguments)
        self._changed = dict(changed)  # those that are not the function's defaults
        self._model = model
        self.name = str(self._arguments.get("name", function))
        self.summary = summary
        self.source, self.doi, self.license = model.source, model.doi, model.license
        self.synthetic = model.synthetic
        self.conductance_range = model.measured
        self.time_range = model.time_range
        self.read_variance = model.read_variance
        self.g_min, self.g_max = model.checked_conductances()
        self.stuck = _arguments.probabilities("stuck", model.stuck, "(off, on)")
        self.reset = model.checked_reset()

    # ----------------------------------------------------------------- what the core takes

    @cached_property
    def _stuck_core(self) -> Stuck:
        return tables.stuck(self.stuck, self.g_min, self.g_max)

    @cached_property
    def _programming(self) -> Programming:
        return tables.programming(self._model, self.g_max, self._stuck_core)

    @cached_property
    def _bound_programming(self) -> _core.Programming:
        return tables.bind_programming(self.programming())

    def programming(self) -> Programming:
        """How it answers to a target, as the core takes it: tables over 0 to 1.25 g_max."""
        return self._programming

    def aging(self, seconds: float, extrapolate: bool = False) -> Aging | None:
        """What has become of programmed devices after ``seconds``, as the core takes it.

        None where nothing changes with time.

        Raises
        ------
        ValueError, TypeError
            If ``seconds`` is no number >= 0, or outside ``time_range`` without ``extrapolate``.
        """
        return _aging(self, self._check_seconds(seconds, extrapolate))

    def measured(self, seconds: float) -> bool:
        """Whether the device was measured at that time; the rest is extrapolation."""
        at = self._check_seconds(seconds, True)
        return self.time_range is None or self.time_range[0] <= at <= self.time_range[1]

    def _check_seconds(self, seconds: float, extrapolate: bool) -> float:
        at = _arguments.number("seconds", seconds, 0)
        if _arguments.flag("extrapolate", extrapolate) or self.time_range is None:
            return at
        first, last = self.time_range
        if not first <= at <= last:
            raise _arguments.wrong_value(
                "seconds",
                f"{first:g} to {last:g} s after programming, when {self.name} was measured",
                f"{at:g}; extrapolate=True goes beyond",
            )
        return at

    # ----------------------------------------------------------------- draws

    def program(
        self,
        target: npt.ArrayLike,
        seed: int,
        *,
        stream: int = 0,
        cell: int = 0,
        extrapolate: bool = False,
        out: F32 | None = None,
        num_threads: int | None = None,
    ) -> F32:
        """Conductances of devices programmed to ``target``.

        Parameters
        ----------
        target : array_like
            Target conductances in microsiemens, any shape, within ``conductance_range``, or
            with ``extrapolate`` within 0 to 1.25 g_max.
        seed : int in [0, 2^64)
            The chip: the same seed, stream and cell give the same devices.
        stream : int in [0, 2^64)
            Independent sequences of one seed, such as the layers of a network.
        cell : int in [0, 65535]
            Number of the device among those that share an element, such as the two of a pair.
        extrapolate : bool
            Allow targets outside ``conductance_range``.
        out : float32, target's shape, C-contiguous, optional
            Where to write the result.
        num_threads : int, optional
            Threads to use instead of the package setting.

        Returns
        -------
        float32, target's shape
            In microsiemens, >= 0.

        Raises
        ------
        ValueError, TypeError
            If an argument is not as said above.
        """
        wanted = self._targets("target", target, extrapolate)
        out = _arguments.output(out, wanted.shape, wanted)
        _core.program(
            wanted.reshape(1, -1),
            *_BARE_TARGETS,
            out.reshape(1, -1),
            self._bound_programming,
            *_draw(seed, stream, cell),
            threads_argument(num_threads),
        )
        return out

    def at(
        self,
        programmed: npt.ArrayLike,
        target: npt.ArrayLike,
        seconds: float,
        seed: int,
        *,
        stream: int = 0,
        cell: int = 0,
        extrapolate: bool = False,
        out: F32 | None = None,
        num_threads: int | None = None,
    ) -> F32:
        """Conductances after ``seconds`` of devices that :meth:`program` left at ``programmed``.

        A pure function of its arguments: what happens to a device is drawn from its seed, stream
        and cell once for all times, so asking for 10 s, 1000 s and 10 s again agrees.

        Parameters
        ----------
        programmed, target : array_like
            What :meth:`program` returned, and the targets that it was given.
        seconds : float
            Time since programming, within ``time_range`` unless ``extrapolate``.
        seed, stream, cell : int
            Those given to :meth:`program`.
        extrapolate : bool
            Allow times and targets that were not measured.
        out : float32, target's shape, C-contiguous, optional
            Where to write the result.
        num_threads : int, optional
            Threads to use instead of the package setting.

        Returns
        -------
        float32, target's shape

        Raises
        ------
        ValueError, TypeError
            If an argument is not as said above.
        """
        wanted = self._targets("target", target, extrapolate)
        before = _arguments.array32("programmed", programmed)
        if before.shape != wanted.shape:
            raise _arguments.wrong_value(
                "programmed", f"target's shape {wanted.shape}", before.shape
            )
        aging = _bound_aging(self, self._check_seconds(seconds, extrapolate))
        draw, threads = _draw(seed, stream, cell), threads_argument(num_threads)
        out = _arguments.output(out, wanted.shape, wanted, before)
        if aging is None:
            out[...] = before
            return out
        _core.age(
            wanted.reshape(1, -1),
            *_BARE_TARGETS,
            before.reshape(1, -1),
            out.reshape(1, -1),
            aging,
            *draw,
            threads,
        )
        return out

    def read(
        self,
        conductance: npt.ArrayLike,
        seed: int,
        *,
        stream: int = 0,
        offset: int = 0,
        num_threads: int | None = None,
    ) -> F32:
        """One short-term read of devices: fresh Gaussian noise of variance ``read_variance``.

        Parameters
        ----------
        conductance : array_like
            Conductances now, in microsiemens, any shape.
        seed, stream : int in [0, 2^64)
            Of the read; not those of the chip.
        offset : int
            Index of the first element in the stream, in [0, 2^46).
        num_threads : int, optional
            Threads to use instead of the package setting.

        Returns
        -------
        float32, conductance's shape
            May be negative: a read is a current, not a conductance.
        """
        g = _arguments.array32("conductance", conductance)
        noise = np.empty(g.shape, np.float32)
        key = random.key(_arguments.seed("seed", seed), "device read")
        _core.sample(
            np.zeros(g.size, np.float32),
            noise.reshape(-1),
            1,
            _UNIT_READ,
            key,
            key,
            _arguments.seed("stream", stream),
            _arguments.offset("offset", offset, g.size),
            False,
            threads_argument(num_threads),
        )
        noise *= np.sqrt(self._read_variance_at(g))
        return g + noise

    def _read_variance_at(self, g: Any) -> Any:
        """At float32 or float64 conductances, in their dtype."""
        c0, c1, c2 = self.read_variance
        return np.maximum((c2 * g + c1) * g + c0, 0.0)

    def _targets(self, name: str, values: npt.ArrayLike, extrapolate: bool) -> F32:
        target = _arguments.array32(name, values)
        low, high = self.conductance_range
        if _arguments.flag("extrapolate", extrapolate):
            low, high = 0.0, tables.HEADROOM * self.g_max
        slack = 1e-6 * high  # for the rounding to float32
        if target.size and not low - slack <= target.min() <= target.max() <= high + slack:
            beyond = "" if extrapolate else " (extrapolate=True goes beyond)"
            raise _arguments.wrong_value(
                name,
                f"conductances of {self.name} from {low:g} to {high:g} uS{beyond}",
                f"{target.min():g} to {target.max():g}",
            )
        return target

    # ----------------------------------------------------------------- the device as a channel

    def moments(
        self, target: npt.ArrayLike, seconds: float | None = None, extrapolate: bool = False
    ) -> tuple[F64, F64]:
        """Mean and standard deviation of the conductance of devices with these targets.

        By quadrature over programming, relaxation, drift, 1/f noise, the limit at zero and stuck
        devices; short-term reads come on top (``read_variance``).

        Parameters
        ----------
        target : array_like
            Target conductances, in microsiemens.
        seconds : float, optional
            Time since programming; None: just programmed.
        extrapolate : bool
            Allow times and targets that were not measured.

        Returns
        -------
        mean, std : float64, target's shape
        """
        at = None if seconds is None else self._check_seconds(seconds, extrapolate)
        wanted = self._targets("target", target, extrapolate).astype(np.float64)
        first, second = unstuck_moments(self._model, wanted.ravel(), at)
        off, on = self.stuck
        first = (1 - off - on) * first + off * self.g_min + on * self.g_max
        second = (1 - off - on) * second + off * self.g_min**2 + on * self.g_max**2
        std = np.sqrt(np.maximum(second - first**2, 0.0))
        return first.reshape(wanted.shape), std.reshape(wanted.shape)

    def channel(self, seconds: float | None = None, extrapolate: bool = False) -> Channel:
        """The device as a storage cell: mean and noise of a read over the target.

        Inputs -1 to 1 are the targets g_min to g_max, outputs are conductances scaled likewise.
        What is frozen in a chip (programming, and what time has done to it) is one Gaussian of
        the true mean and variance, though devices that are stuck or at zero are not Gaussian;
        the read noise comes on top, fresh at each read.

        Parameters
        ----------
        seconds : float, optional
            Time since programming; None: just programmed.
        extrapolate : bool
            Allow a time outside ``time_range``; the channel's name says so.
        """
        target = np.linspace(self.g_min, self.g_max, CHANNEL_KNOTS)
        mean, std = self.moments(target, seconds, True if seconds is None else extrapolate)
        # E (c0 + c1 g + c2 g^2) over devices
        read = np.sqrt(np.maximum(self._read_variance_at(mean) + self.read_variance[2] * std**2, 0))
        scale = 2 / (self.g_max - self.g_min)
        name = self.name
        if seconds is not None:
            name += f" at {seconds:g} s" + ("" if self.measured(seconds) else " (extrapolated)")
        return Channel(
            np.linspace(-1.0, 1.0, CHANNEL_KNOTS),
            (mean - self.g_min) * scale - 1,
            np.hypot(std, read) * scale,
            read * scale,
            name=name,
            source=self.source,
            license=self.license,
            synthetic=self.synthetic,
        )

    def plot(
        self,
        seconds: Sequence[float | None] = (None,),
        target: npt.ArrayLike | None = None,
        measured: npt.ArrayLike | None = None,
    ) -> Figure:
        """Error of the conductance over the target: its mean, and one standard deviation of it.

        Parameters
        ----------
        seconds : sequence of float or None
            Times since programming, None for just programmed. Times that were not measured are
            dashed, and the legend says so.
        target, measured : array_like, optional
            Measurements to show as points, in microsiemens.

        Returns
        -------
        matplotlib.figure.Figure
            ``figure.savefig(path)`` writes it.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        from .plot import plot

        return plot(self, seconds, target, measured)

    # ----------------------------------------------------------------- identity

    def to_dict(self) -> dict[str, Any]:
        """The function that made it and its arguments, as plain JSON types."""
        return {"device": self._function, "arguments": json.loads(json.dumps(self._arguments))}

    def to_json(self) -> str:
        """:meth:`to_dict` as JSON text, the same text for equal devices."""
        return self._json

    @cached_property
    def _json(self) -> str:
        return json.dumps(self.to_dict(), sort_keys=True, allow_nan=False)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Device):
            return NotImplemented
        return self._json == other._json

    def __hash__(self) -> int:
        return hash(self._json)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (self.to_dict(),)

    def __repr__(self) -> str:
        changed = [
            f"{key}={value!r}" if len(repr(value)) < 40 else f"{key}=..."
            for key, value in self._changed.items()
        ]
        return f"devices.{self._function}({', '.join(changed)})"


def _rebuilt(data: dict[str, Any]) -> Device:
    from .registry import from_dict  # it imports this module

    return from_dict(data)


@lru_cache(maxsize=64)
def _aging(device: Device, seconds: float) -> Aging | None:
    return tables.aging(device._model, device.g_max, device._stuck_core, seconds)


@lru_cache(maxsize=64)
def _bound_aging(device: Device, seconds: float) -> _core.Aging | None:
    aging = _aging(device, seconds)
    return None if aging is None else tables.bind_aging(aging)


def _draw(seed: int, stream: int, cell: int) -> tuple[int, int, int]:
    number = _arguments.integer("cell", cell, 0, MAX_CELLS)
    chip = random.key(_arguments.seed("seed", seed), "device chip")
    return chip, _arguments.seed("stream", stream), number
