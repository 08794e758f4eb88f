"""A device: target conductance -> programmed -> as it is at some time -> one read of it.

There is one class. What tells one device from another is a :class:`Model`: plain functions of the
conductance and figures, made by a function such as :func:`noisycells.devices.pcm_joshi2020`.
Conductances are in microsiemens, times in seconds since the end of programming.
"""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, wraps
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np
import numpy.typing as npt

from .. import _core, random
from ..channel import Channel
from ..reference.crossbar import Ageing, Programming, Stuck
from ..runtime import threads_argument
from .moments import exponential_moments, rectified_moments

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Device", "Model", "bind_ageing", "bind_programming", "from_dict", "maker"]

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Curve = Callable[[F64], F64]
P = ParamSpec("P")

HEADROOM = 1.25
"""Tables run from 0 to this times g_max; targets beyond are refused."""
PROGRAMMING_ROWS = 5 * 256 + 1  # a multiple of 5 steps: g_max is one of the rows
AGEING_ROWS = 5 * 512 + 1  # nu and the 1/f noise of PCM bend sharply at 1 % of g_max
CHANNEL_KNOTS = 513
MAX_CELL = 65_535  # see the counter layout in noisycells.reference
LARGEST = float(np.finfo(np.float32).max)  # nothing but zero limits a conductance


@dataclass(frozen=True, kw_only=True)
class Model:
    """What a device is made of. Curves take and give float64 arrays, in microsiemens.

    Attributes
    ----------
    source, doi, licence : str
        Where the figures come from, the DOIs, and the terms that they come under.
    g_min, g_max : float
        Conductances that the smallest and the largest target stand for.
    measured : (float, float)
        Range of conductances that was measured; g_min and g_max beyond it are refused unless
        ``extrapolate``.
    time_range : (float, float) or None
        First and last time measured; None where the device does not depend on time.
    std, mean : Curve
        Standard deviation and mean of the programmed conductance over the target. Without
        ``mean`` it is the target.
    relaxation : callable, optional
        (target, seconds) -> (shift, standard deviation) of a change of the conductance since
        programming, drawn once for each device.
    drift : callable, optional
        (target, seconds) -> mean and standard deviation of x in a fall to exp(-|x|) of the
        conductance, drawn once for each device; x is Gaussian.
    flicker : callable, optional
        (programmed conductance, seconds) -> standard deviation of the 1/f noise accumulated,
        as a fraction of the conductance; drawn once for each device.
    read_variance : (float, float, float)
        Variance of one short-term read at conductance g: c0 + c1 g + c2 g^2.
    stuck : float or (float, float)
        Probabilities of a device stuck off (at g_min) and on (at g_max); one number is shared
        equally.
    reset : (float, float), optional
        Mean and standard deviation of a device left in its RESET state.
    synthetic : bool
        Whether the figures are made up rather than measured.
    extrapolate : bool
        Allow g_min and g_max outside ``measured``.
    """

    source: str
    doi: str
    licence: str
    g_min: float
    g_max: float
    measured: tuple[float, float]
    std: Curve
    time_range: tuple[float, float] | None
    mean: Curve | None = None
    relaxation: Callable[[F64, float], tuple[F64, F64]] | None = None
    drift: Callable[[F64, float], tuple[F64, F64]] | None = None
    flicker: Callable[[F64, float], F64] | None = None
    read_variance: tuple[float, float, float] = (0.0, 0.0, 0.0)
    stuck: float | tuple[float, float] = 0.0
    reset: tuple[float, float] | None = None
    synthetic: bool = False
    extrapolate: bool = False

    def within(self, target: F64) -> F64:
        """Targets to take curves at: noise beyond what was measured is that at the end of it."""
        return np.clip(target, *self.measured)


class Device:
    """A kind of analog memory device; made by the functions of :mod:`noisycells.devices`.

    A device does not change. Two are equal if the same function made them with the same
    arguments; :meth:`to_dict` holds just these. ``programming``, ``ageing`` and ``read_variance``
    are what crossbars use, :meth:`channel` is what storage uses.

    Attributes
    ----------
    name : str
        The preset, or the name given to a fitted device.
    summary, source, doi, licence : str
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
        self, function: str, arguments: Mapping[str, Any], model: Model, summary: str
    ) -> None:
        self._function = function
        self._arguments = dict(arguments)
        self._model = model
        self.name = str(self._arguments.get("name", function))
        self.summary = summary
        self.source, self.doi, self.licence = model.source, model.doi, model.licence
        self.synthetic = model.synthetic
        self.conductance_range = model.measured
        self.time_range = model.time_range
        self.read_variance = model.read_variance
        self.g_min, self.g_max = _conductances(model)
        self.stuck = _stuck(model.stuck)
        self.reset = _reset(model.reset)

    # ----------------------------------------------------------------- what the core takes

    @cached_property
    def _grid(self) -> F64:
        return np.linspace(0.0, HEADROOM * self.g_max, PROGRAMMING_ROWS)

    @cached_property
    def _stuck_core(self) -> Stuck:
        off = round(self.stuck[0] * 2**32)
        return Stuck(off, min(round(self.stuck[1] * 2**32), 2**32 - off), self.g_min, self.g_max)

    def _programmed(self, target: F64) -> tuple[F64, F64]:
        within = self._model.within(target)
        mean = target if self._model.mean is None else self._model.mean(within)
        return mean, np.maximum(self._model.std(within), 0.0)

    @cached_property
    def _programming(self) -> Programming:
        return Programming(
            _table(*self._programmed(self._grid)),
            0.0,
            _inverse_step(self._grid),
            0.0,
            LARGEST,
            self._stuck_core,
        )

    @cached_property
    def _bound_programming(self) -> _core.Programming:
        return bind_programming(self.programming())

    def programming(self) -> Programming:
        """How it answers to a target, as the core takes it: tables over 0 to 1.25 g_max."""
        return self._programming

    def ageing(self, seconds: float, extrapolate: bool = False) -> Ageing | None:
        """What has become of programmed devices after ``seconds``, as the core takes it.

        None where nothing changes with time.

        Raises
        ------
        ValueError, TypeError
            If ``seconds`` is no number >= 0, or outside ``time_range`` without ``extrapolate``.
        """
        return _ageing(self, self._check_seconds(seconds, extrapolate))

    def measured(self, seconds: float) -> bool:
        """Whether the device was measured at that time; the rest is extrapolation."""
        at = self._check_seconds(seconds, True)
        return self.time_range is None or self.time_range[0] <= at <= self.time_range[1]

    def _check_seconds(self, seconds: float, extrapolate: bool) -> float:
        at = _number("seconds", seconds)
        if at < 0:
            raise ValueError(f"seconds: expected a time >= 0 after programming, got {seconds!r}")
        if extrapolate or self.time_range is None:
            return at
        first, last = self.time_range
        if not first <= at <= last:
            raise ValueError(
                f"seconds: {self.name} was measured from {first:g} to {last:g} s after "
                f"programming, got {at:g}; extrapolate=True goes beyond"
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
        out = random.output_array(out, wanted.shape)
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
        before = _finite("programmed", programmed)
        if before.shape != wanted.shape:
            raise ValueError(
                f"programmed: expected target's shape {wanted.shape}, got {before.shape}"
            )
        ageing = _bound_ageing(self, self._check_seconds(seconds, extrapolate))
        draw, threads = _draw(seed, stream, cell), threads_argument(num_threads)
        out = random.output_array(out, wanted.shape)
        if ageing is None:
            out[...] = before
            return out
        _core.age(
            wanted.reshape(1, -1),
            *_BARE_TARGETS,
            before.reshape(1, -1),
            out.reshape(1, -1),
            ageing,
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
        g = _finite("conductance", conductance)
        if not 0 <= offset <= (1 << 46) - g.size:
            raise ValueError(f"offset: expected offset + size <= 2**46 and >= 0, got {offset}")
        noise = np.empty(g.shape, np.float32)
        key = random.check_seed("seed", seed)
        _core.sample(
            np.zeros(g.size, np.float32),
            noise.reshape(-1),
            1,
            _UNIT_READ,
            key,
            key,
            random.check_seed("stream", stream),
            offset,
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
        target = _finite(name, values)
        low, high = self.conductance_range
        if extrapolate:
            low, high = 0.0, HEADROOM * self.g_max
        slack = 1e-6 * high  # for the rounding to float32
        if target.size and not low - slack <= target.min() <= target.max() <= high + slack:
            raise ValueError(
                f"{name}: expected conductances of {self.name} from {low:g} to {high:g} uS"
                + ("" if extrapolate else " (extrapolate=True goes beyond)")
                + f", got {target.min():g} to {target.max():g}"
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
        first, second = self._raw_moments(wanted.ravel(), at)
        off, on = self.stuck
        first = (1 - off - on) * first + off * self.g_min + on * self.g_max
        second = (1 - off - on) * second + off * self.g_min**2 + on * self.g_max**2
        std = np.sqrt(np.maximum(second - first**2, 0.0))
        return first.reshape(wanted.shape), std.reshape(wanted.shape)

    def _raw_moments(self, target: F64, seconds: float | None) -> tuple[F64, F64]:
        """E g and E g^2 of devices that are not stuck; target (n,)."""
        model = self._model
        mean, std = self._programmed(target)
        if seconds is None or self.time_range is None:
            return rectified_moments(mean, std)
        z = np.linspace(-8.0, 8.0, 801)
        weight = np.exp(-(z**2) / 2)
        weight /= weight.sum()
        programmed = np.maximum(mean[:, None] + std[:, None] * z, 0.0)
        first, second = programmed, programmed**2
        if model.relaxation is not None:
            shift, spread = model.relaxation(model.within(target), seconds)
            first, second = rectified_moments(programmed + shift[:, None], spread[:, None])
        if model.flicker is not None:
            fraction = model.flicker(programmed, seconds)
            factor, square = rectified_moments(np.ones_like(fraction), fraction)
            first, second = first * factor, second * square
        first, second = first @ weight, second @ weight
        if model.drift is not None:
            factor, square = exponential_moments(*model.drift(model.within(target), seconds))
            first, second = first * factor, second * square
        return first, second

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
            licence=self.licence,
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
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError(
                "plotting a device needs matplotlib: pip install 'noisycells[plot]'"
            ) from error
        if (target is None) != (measured is None):
            raise ValueError("target, measured: expected both or neither")
        grid = np.linspace(self.g_min, self.g_max, CHANNEL_KNOTS)
        figure = Figure(figsize=(6, 4), layout="constrained")
        axes = figure.add_subplot()
        if target is not None and measured is not None:
            wanted = np.asarray(target, np.float64)
            off = np.asarray(measured, np.float64) - wanted
            axes.plot(wanted, off, ".", color="0.6", markersize=2, zorder=0, label="measurements")
        for i, at in enumerate(seconds):
            mean, std = self.moments(grid, at, extrapolate=True)
            label, style = "just programmed", "-"
            if at is not None:
                label = f"{at:g} s"
                if not self.measured(at):
                    label, style = label + ", extrapolated", "--"
            axes.plot(grid, mean - grid, style, color=f"C{i}", label=label)
            axes.fill_between(
                grid, mean - std - grid, mean + std - grid, alpha=0.2, color=f"C{i}", linewidth=0
            )
        axes.set(
            xlabel="target conductance (uS)",
            ylabel="conductance - target (uS)",
            title=f"{self.name}: mean and one standard deviation",
        )
        axes.legend()
        return figure

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
        return from_dict, (self.to_dict(),)

    def __repr__(self) -> str:
        defaults = inspect.signature(_MAKERS[self._function]).parameters
        changed = [
            f"{key}={value!r}" if len(repr(value)) < 40 else f"{key}=..."
            for key, value in self._arguments.items()
            if value != defaults[key].default
        ]
        return f"devices.{self._function}({', '.join(changed)})"


_MAKERS: dict[str, Callable[..., Device]] = {}


def maker(function: Callable[P, Model]) -> Callable[P, Device]:
    """Make of a function that returns a model one that returns a device.

    The device is known by the function's name and arguments, which have to be plain JSON types,
    tuples or numpy arrays.
    """
    signature = inspect.signature(function)
    summary = (function.__doc__ or "").partition("\n")[0]

    @wraps(function)
    def make(*args: P.args, **kwargs: P.kwargs) -> Device:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        arguments = {
            key: _plain(key, value, "float" in str(signature.parameters[key].annotation))
            for key, value in bound.arguments.items()
        }
        return Device(function.__name__, arguments, function(**arguments), summary)  # type: ignore[call-arg]

    _MAKERS[function.__name__] = make
    return make


def from_dict(data: Mapping[str, Any]) -> Device:
    """The device of :meth:`Device.to_dict`.

    Raises
    ------
    TypeError, ValueError
        If ``data`` is not such a dict, or the device does not exist or take these arguments.
    """
    if not isinstance(data, Mapping):
        raise TypeError(f"data: expected the dict of a device, got {type(data).__name__}")
    if set(data) != {"device", "arguments"} or not isinstance(data["arguments"], Mapping):
        raise ValueError(
            "data: expected the keys device and arguments (a dict), got "
            + ", ".join(map(str, data))
        )
    name = data["device"]
    if name not in _MAKERS:
        raise ValueError(f"device: expected one of {', '.join(_MAKERS)}, got {name!r}")
    try:
        inspect.signature(_MAKERS[name]).bind(**data["arguments"])
    except TypeError as error:
        raise ValueError(f"arguments: not those of {name}: {error}") from None
    return _MAKERS[name](**data["arguments"])


# --------------------------------------------------------------------------- helpers


@lru_cache(maxsize=64)
def _ageing(device: Device, seconds: float) -> Ageing | None:
    model = device._model
    if model.relaxation is None and model.drift is None and model.flicker is None:
        return None
    grid = np.linspace(0.0, HEADROOM * device.g_max, AGEING_ROWS)
    within = model.within(grid)
    return Ageing(
        None if model.relaxation is None else _table(*model.relaxation(within, seconds)),
        None if model.drift is None else _table(*model.drift(within, seconds)),
        None if model.flicker is None else _table(model.flicker(grid, seconds)),
        0.0,
        _inverse_step(grid),
        0.0,
        LARGEST,
        device._stuck_core,
    )


@lru_cache(maxsize=64)
def _bound_ageing(device: Device, seconds: float) -> _core.Ageing | None:
    ageing = _ageing(device, seconds)
    return None if ageing is None else bind_ageing(ageing)


def bind_programming(p: Programming) -> _core.Programming:
    """The tables as an object of the compiled core."""
    stuck = p.stuck
    return _core.Programming(
        *p[:-1], (stuck.off, stuck.on), (stuck.off_conductance, stuck.on_conductance)
    )


def bind_ageing(a: Ageing) -> _core.Ageing:
    """The tables as an object of the compiled core."""
    stuck = a.stuck
    return _core.Ageing(
        *a[:-1], (stuck.off, stuck.on), (stuck.off_conductance, stuck.on_conductance)
    )


# Of targets that are given as they are: inverse, sign, g_min and span of reference.targets.
_BARE_TARGETS = (np.ones(1, np.float32), 1, 0.0, 1.0)


def _inverse_step(grid: F64) -> float:
    return (len(grid) - 1) / float(grid[-1] - grid[0])


def _table(*columns: F64) -> F32:
    """Columns (value, next value - value) of each, float32, read-only."""
    parts = []
    for values in columns:
        rounded = values.astype(np.float32)
        parts += [rounded, np.diff(rounded, append=rounded[-1:])]
    table = np.ascontiguousarray(np.stack(parts, axis=1))
    table.flags.writeable = False
    return table


_UNIT_READ = _core.ChannelTables(
    np.zeros((2, 4), np.float32), 0.0, 1.0, np.array([[1, 0], [1, 0]], np.float32)
)
"""A cell whose read is one standard normal and nothing else."""


def _plain(name: str, value: Any, is_float: bool) -> Any:
    """JSON types, numbers as float where the parameter is one: 25 and 25.0 are the same device."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(name, item, is_float) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, (int, float)):
        if not math.isfinite(value):
            raise ValueError(f"{name}: expected finite numbers, got {value!r}")
        return float(value) if is_float else value
    raise TypeError(f"{name}: expected numbers or text, got {type(value).__name__}")


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name}: expected a number, got {value!r}")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{name}: expected a finite number, got {value!r}")
    return number


def _conductances(model: Model) -> tuple[float, float]:
    low, high = _number("g_min", model.g_min), _number("g_max", model.g_max)
    if not 0 <= low < high:
        raise ValueError(f"g_min, g_max: expected 0 <= g_min < g_max, got {low:g} and {high:g}")
    first, last = model.measured
    if not model.extrapolate and (low < first or high > last):
        raise ValueError(
            f"g_min, g_max: expected within {first:g} to {last:g} uS, which was measured, got "
            f"{low:g} and {high:g}; extrapolate=True goes beyond"
        )
    return low, high


def _stuck(stuck: float | tuple[float, float]) -> tuple[float, float]:
    if isinstance(stuck, (list, tuple)):
        if len(stuck) != 2:
            raise ValueError(f"stuck: expected a probability or a pair (off, on), got {stuck!r}")
        off, on = (_number("stuck", p) for p in stuck)
    else:
        off = on = _number("stuck", stuck) / 2
    if off < 0 or on < 0 or off + on > 1:
        raise ValueError(f"stuck: expected probabilities that sum to at most 1, got {stuck!r}")
    return off, on


def _reset(reset: tuple[float, float] | None) -> tuple[float, float] | None:
    if reset is None:
        return None
    if not isinstance(reset, (list, tuple)) or len(reset) != 2:
        raise ValueError(f"reset: expected a pair (mean, standard deviation) in uS, got {reset!r}")
    mean, std = (_number("reset", value) for value in reset)
    if mean < 0 or std < 0:
        raise ValueError(f"reset: expected values >= 0, got {reset!r}")
    return mean, std


def _finite(name: str, values: npt.ArrayLike) -> F32:
    array = np.asarray(values)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name}: expected real numbers, got dtype {array.dtype}")
    with np.errstate(over="ignore"):  # refused below
        array = np.ascontiguousarray(array, np.float32).reshape(array.shape)
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: expected values finite in float32, got NaN or infinity")
    return array


def _draw(seed: int, stream: int, cell: int) -> tuple[int, int, int]:
    number = random.check_seed("cell", cell)
    if number > MAX_CELL:
        raise ValueError(f"cell: expected an int in [0, {MAX_CELL}], got {number}")
    return random.check_seed("seed", seed), random.check_seed("stream", stream), number
