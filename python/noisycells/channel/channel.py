"""A memory cell as a channel: writing ``x`` reads back ``y | x ~ N(mean(x), std(x)^2)``.

The model of Isik et al. (2020, section 2 and appendix A): a conditional Gaussian whose mean and
standard deviation depend on the input, both learnt from measurements.
"""

from __future__ import annotations

import json
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .. import _arguments, _core, random
from .._types import F32, F64, LARGEST, Converter
from ..runtime import threads_argument
from . import checks
from .capacity import TOLERANCE as CAPACITY_TOLERANCE
from .capacity import channel_capacity
from .fitting import Goodness, fit
from .knots import find_branch, given_branch, steps, working_knots
from .text import from_dict, from_json, to_dict

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Channel"]

MAX_BITS = 16


class Channel:
    """One cell type: a table of the mean and the standard deviation of its output.

    Between knots both are linear; inputs outside the table act as its nearest end. Tables with
    uniformly spaced knots (to 1e-6 of the spacing) are used as they are, others are resampled by
    linear interpolation to 4096 uniform segments. A channel does not change.

    Parameters
    ----------
    x : array_like, shape (n,), n >= 2
        Cell inputs, strictly increasing; [-1, 1] by convention.
    mean : array_like, shape (n,)
        Mean output at each input; its longest monotone stretch is what weights are stored on.
    std : float or array_like, shape (n,)
        Standard deviation of one cell's output, programming and read noise together.
    read_std : float or array_like, shape (n,), optional
        The part of ``std`` that is drawn afresh at each read; the rest is frozen when the chip
        is programmed. Without it every seed is a new chip: nothing is frozen over reads.
    branch : (float, float), optional
        Interval of inputs to store weights on; the mean must be strictly monotone on it. By
        default the strictly monotone stretch of the mean that spans the most output.
    write_bits, read_bits : int, optional
        Bits, 1 to 16, of the converter that writes a cell (uniform over ``branch``), and of the
        one that reads it (uniform from the smallest mean - 3 std to the largest mean + 3 std).
        None: ideal.
    d2d_std : float
        Standard deviation of a device-to-device offset that comes on top of ``std``: frozen with
        the chip and common to the cells of one weight, so averaging cells does not reduce it.
    stuck : float or (float, float)
        Probabilities of a cell that acts as if the first or the last input of the table had been
        written; one number is shared equally between the two.
    name, source, license : str
        What the cell is, where its figures come from, and under which terms.
    synthetic : bool
        Whether the figures are made up rather than measured.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as said above; the message names it.

    Examples
    --------
    >>> import noisycells as nc
    >>> cell = nc.Channel([-1, 0, 1], [-0.7, 0.1, 0.8], 0.1)
    >>> cell.range
    (-0.7, 0.8)
    >>> cell.sample([-1.0, 1.0], seed=1, cells=10).shape
    (2,)
    """

    def __init__(
        self,
        x: npt.ArrayLike,
        mean: npt.ArrayLike,
        std: npt.ArrayLike,
        read_std: npt.ArrayLike | None = None,
        *,
        branch: tuple[float, float] | None = None,
        write_bits: int | None = None,
        read_bits: int | None = None,
        d2d_std: float = 0.0,
        stuck: float | tuple[float, float] = 0.0,
        name: str = "channel",
        source: str = "",
        license: str = "",
        synthetic: bool = False,
    ) -> None:
        self.x = checks.inputs(x)
        n = len(self.x)
        self.mean = checks.per_knot("mean", mean, n)
        self.std = checks.spread("std", std, n)
        self.read_std = (
            None
            if read_std is None
            else checks.part(checks.spread("read_std", read_std, n), self.std, self.x)
        )
        self.write_bits = checks.bits("write_bits", write_bits, MAX_BITS)
        self.read_bits = checks.bits("read_bits", read_bits, MAX_BITS)
        self.d2d_std = _arguments.number("d2d_std", d2d_std, 0, LARGEST)
        self.stuck = _arguments.probabilities("stuck", stuck, "(low, high)")
        self.name = _arguments.text("name", name)
        self.source = _arguments.text("source", source)
        self.license = _arguments.text("license", license)
        self.synthetic = _arguments.flag("synthetic", synthetic)
        self.goodness: Goodness | None = None
        self._knots = working_knots(self.x, self.mean, self.std, self.read_std)
        self._given_branch = None if branch is None else checks.branch(branch, self.x)
        if self._given_branch is None:
            self._branch_knots = find_branch(self._knots)
        else:
            resampled = len(self._knots.x) != n
            self._branch_knots = given_branch(self._given_branch, self._knots, resampled)
        if np.abs(self.mean).max() > LARGEST:
            top = np.abs(self.mean).max()
            raise _arguments.wrong_value("mean", f"magnitudes up to {LARGEST:g}", top)
        _arguments.span("branch", *self.branch)
        _arguments.span("mean", *self.range)

    # ----------------------------------------------------------------- constructors

    @classmethod
    def gaussian(cls, std: float, **options: Any) -> Channel:
        """The identity on [-1, 1] with Gaussian noise of one standard deviation.

        ``options`` are those of :class:`Channel`.
        """
        options.setdefault("name", "gaussian")
        return cls([-1.0, 1.0], [-1.0, 1.0], _arguments.number("std", std, 0), **options)

    @classmethod
    def fit(
        cls,
        x: npt.ArrayLike,
        y: npt.ArrayLike,
        neighbors: int | None = None,
        *,
        robust: bool = False,
        **options: Any,
    ) -> Channel:
        """A channel learnt from measured (x, y) by k nearest neighbors (Isik et al. 2020).

        See :func:`noisycells.channel.fitting.fit` for the method and the automatic choice of
        ``neighbors``. ``goodness`` of the result says how well it describes the measurements.

        Parameters
        ----------
        x, y : array_like
            Inputs and outputs of each measurement, in any order; inputs may repeat.
        neighbors : int, optional
            k. By default chosen by leave-one-out error.
        robust : bool
            Leave out measurements that are far from the median of their neighbors; otherwise
            they are kept, with a warning.
        **options
            Those of :class:`Channel`. A given ``branch`` replaces the one the fit chooses.
        """
        fitted = fit(x, y, neighbors, robust=robust)
        options.setdefault("branch", fitted.branch)
        options.setdefault("name", "fitted")
        channel = cls(fitted.x, fitted.mean, fitted.std, **options)
        channel.goodness = fitted.goodness
        return channel

    # ----------------------------------------------------------------- the working table

    def mean_at(self, x: npt.ArrayLike) -> F64:
        """Mean output at inputs ``x``; float64, x's shape."""
        knots, mean, _, _ = self._knots
        return np.interp(np.asarray(_arguments.real("x", x), np.float64), knots, mean)

    def std_at(self, x: npt.ArrayLike) -> F64:
        """Standard deviation of one cell at inputs ``x``, less ``d2d_std``; float64, x's shape."""
        return np.hypot(*self.std_parts_at(x))

    def std_parts_at(self, x: npt.ArrayLike) -> tuple[F64, F64]:
        """The parts of :meth:`std_at` that are drawn when a cell is programmed, and at each read.

        Without ``read_std`` all is programming.
        """
        knots, _, program, read = self._knots
        at = np.asarray(_arguments.real("x", x), np.float64)
        return np.interp(at, knots, program), np.interp(at, knots, read)

    @cached_property
    def tables(self) -> _core.ChannelTables:
        """The channel as the compiled core takes it, see ``reference.ChannelTables``."""
        knots, mean, program, read = self._knots
        low = min(round(self.stuck[0] * 2**32), 2**32 - 1)
        return _core.ChannelTables(
            np.hstack([steps(mean), steps(program)]),
            float(knots[0]),
            (len(knots) - 1) / float(knots[-1] - knots[0]),
            None if self.read_std is None else steps(read),
            self._read_converter,
            self.d2d_std,
            (low, min(round(self.stuck[1] * 2**32), 2**32 - 1 - low)),
        )

    # ----------------------------------------------------------------- the inverse

    @property
    def branch(self) -> tuple[float, float]:
        """Interval of inputs that weights are stored on; :meth:`inverse` maps onto it."""
        along, _ = self._branch_knots
        return float(along[0]), float(along[-1])

    @property
    def range(self) -> tuple[float, float]:
        """Interval of mean outputs on the branch: where :meth:`inverse` is valid."""
        _, means = self._branch_knots
        return float(means.min()), float(means.max())

    def inverse(self, y: npt.ArrayLike, clip: bool = False) -> F64:
        """The input whose mean output is ``y``: f = mean^-1 on the branch.

        Parameters
        ----------
        y : array_like
            Outputs within ``range``, give or take 1e-6 of its width for rounding.
        clip : bool
            Take outputs outside ``range`` for its nearest end.

        Returns
        -------
        float64, y's shape

        Raises
        ------
        ValueError
            If an output is not finite, or outside ``range`` and not to be clipped.
        """
        values = np.asarray(_arguments.real("y", y), np.float64)
        if not np.isfinite(values).all():
            raise _arguments.wrong_value("y", "finite values", "NaN or infinity")
        lo, hi = self.range
        slack = 1e-6 * (hi - lo)
        clip = _arguments.flag("clip", clip)
        if not clip and values.size and (values.min() < lo - slack or values.max() > hi + slack):
            raise _arguments.wrong_value(
                "y",
                f"values in the channel's range [{lo:.6g}, {hi:.6g}]",
                f"{values.min():.6g} to {values.max():.6g}",
            )
        along, means = self._branch_knots
        order = slice(None) if means[0] < means[-1] else slice(None, None, -1)
        return np.interp(values, means[order], along[order])

    def inverse_table(self, n: int = 4096) -> tuple[F32, float, float]:
        """The inverse at ``n`` outputs uniform over ``range``, see ``reference.CodecTables``.

        Returns
        -------
        table : float32, shape (n, 2)
            Rows of x and next x - x; the last difference is 0.
        y0, inv_dy : float
            First output, and outputs per unit.
        """
        n = _arguments.count("n", n, 2)
        lo, hi = self.range
        return steps(self.inverse(np.linspace(lo, hi, n))), lo, (n - 1) / (hi - lo)

    # ----------------------------------------------------------------- converters

    def write_converter(self, bits: int) -> Converter:
        """The converter of ``bits`` bits that writes cells, uniform over ``branch``."""
        return Converter.over(*self.branch, _arguments.integer("bits", bits, 1, MAX_BITS))

    @cached_property
    def _read_converter(self) -> Converter | None:
        if self.read_bits is None:
            return None
        lo = float((self.mean - 3 * self.std).min())
        hi = float((self.mean + 3 * self.std).max())
        return Converter.over(lo, hi, self.read_bits)

    @cached_property
    def _write_levels(self) -> F32 | None:
        """The inputs that the write converter can write."""
        if self.write_bits is None:
            return None
        codes = np.arange(1 << self.write_bits, dtype=np.int32)
        return self.write_converter(self.write_bits).dequantize(codes)

    # ----------------------------------------------------------------- sampling

    @property
    def collapses(self) -> bool:
        """Whether one draw has exactly the distribution of an average of cells.

        Not so with a read converter or stuck cells; a device-to-device offset, common to the
        cells of a weight, leaves the average Gaussian.
        """
        return self.read_bits is None and not any(self.stuck)

    def check_collapse(self, collapse: bool | None) -> bool | None:
        """``collapse`` as :meth:`sample` takes it; ValueError where True is not exact."""
        if collapse is None:
            return None
        wanted = _arguments.flag("collapse", collapse)
        if wanted and not self.collapses:
            raise _arguments.wrong_value(
                "collapse",
                "False or None for a channel whose read converter or stuck cells act on every "
                "cell before the average",
                wanted,
            )
        return wanted

    def keys(self, seed: int, chip: int = 0) -> tuple[int, int]:
        """The seeds of what is frozen with ``chip`` and of what is drawn at a read.

        With ``read_std`` the first depends on ``chip`` alone. Without it nothing is frozen and
        both depend on ``seed`` and ``chip``.
        """
        seed = _arguments.seed("seed", seed)
        chip = _arguments.seed("chip", chip)
        read = random.key(seed, "channel read", chip)
        return (read if self.read_std is None else random.key(chip, "channel chip")), read

    def sample(
        self,
        x: npt.ArrayLike,
        seed: int,
        cells: int | npt.ArrayLike = 1,
        collapse: bool | None = None,
        *,
        chip: int = 0,
        stream: int = 0,
        offset: int = 0,
        out: F32 | None = None,
        num_threads: int | None = None,
    ) -> F32:
        """Mean of ``cells`` noisy cells written with each ``x``.

        Where no converter or stuck cell stands between a cell and the average, that is
        N(mean(x), std(x)^2 / cells) exactly (plus the device-to-device offset): one draw.

        Parameters
        ----------
        x : array_like of real numbers
            Inputs, any shape. They pass the write converter first where ``write_bits`` is set.
        seed, chip : int in [0, 2^64)
            Seed of the read, and the chip that was programmed; see :meth:`keys`.
        cells : int or array_like of int
            Cells averaged, 1 to 65,535; an array broadcasts to x's shape.
        collapse : bool, optional
            None: one draw where exact. True: insist on it. False: draw every cell.
        stream, offset : int
            Stream of random numbers, in [0, 2^64), and index of the first element within it, in
            [0, 2^46).
        out : float32, x's shape, C-contiguous, optional
            Where to write the result.
        num_threads : int, optional
            Threads to use instead of the package setting.

        Returns
        -------
        float32, x's shape

        Raises
        ------
        ValueError, TypeError
            If an argument is not as said above, or ``collapse=True`` is not exact.
        """
        inputs = _arguments.array32("x", x)
        values = inputs.reshape(-1)
        if self.write_bits is not None:
            converter = self.write_converter(self.write_bits)
            assert self._write_levels is not None
            values = self._write_levels[converter.quantize(values)]
        collapse = self.check_collapse(collapse)
        out = _arguments.output(out, inputs.shape, inputs)
        chip_key, read_key = self.keys(seed, chip)
        _core.sample(
            values,
            out.reshape(-1),
            _arguments.cells("cells", cells, inputs.shape),
            self.tables,
            chip_key,
            read_key,
            _arguments.seed("stream", stream),
            _arguments.offset("offset", offset, inputs.size),
            not (self.collapses if collapse is None else collapse),
            threads_argument(num_threads),
        )
        return out

    # ----------------------------------------------------------------- figures and plots

    def capacity(
        self, levels: npt.ArrayLike | None = None, tolerance: float = CAPACITY_TOLERANCE
    ) -> float:
        """Bits that one cell can hold, by the Blahut-Arimoto algorithm.

        The cell as configured: converters, stuck cells and the device-to-device offset included,
        the last as noise of its own for every cell.

        Parameters
        ----------
        levels : array_like, optional
            Inputs that may be written. By default those of the write converter where there is
            one, else the whole table: its knots and a grid that stands for all between.
        tolerance : float
            Bits between the rate returned, which is achieved, and a bound of the capacity.

        Returns
        -------
        float
            Bits per cell; infinite where the noise vanishes and levels are free.
        """
        return channel_capacity(self, levels, tolerance)

    def plot(self, x: npt.ArrayLike | None = None, y: npt.ArrayLike | None = None) -> Figure:
        """Mean, one and two standard deviations and the branch, over measurements if given.

        Parameters
        ----------
        x, y : array_like, optional
            Measurements to show as points.

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

        return plot(self, x, y)

    # ----------------------------------------------------------------- text forms

    def to_dict(self) -> dict[str, Any]:
        """Everything the channel is made of, as plain JSON types; exact."""
        return to_dict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Channel:
        """The channel of :meth:`to_dict`; ValueError if a key is missing or unknown."""
        return from_dict(cls, data)

    def to_json(self) -> str:
        """:meth:`to_dict` as JSON text; numbers keep every bit."""
        return json.dumps(self.to_dict(), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Channel:
        """The channel of :meth:`to_json`; ValueError if the text is not one."""
        return from_json(cls, text)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Channel):
            return NotImplemented
        return self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash(self.to_json())

    def __reduce__(self) -> tuple[Any, ...]:
        return Channel.from_dict, (self.to_dict(),)

    def __repr__(self) -> str:
        lo, hi = self.range
        options = [f"{len(self.x)} knots", f"range [{lo:.4g}, {hi:.4g}]"]
        options += [f"{k}={v!r}" for k in ("write_bits", "read_bits") if (v := getattr(self, k))]
        options += [f"d2d_std={self.d2d_std:g}"] if self.d2d_std else []
        options += [f"stuck={self.stuck}"] if any(self.stuck) else []
        options += ["synthetic"] if self.synthetic else []
        return f"<Channel {self.name}: {', '.join(options)}>"
