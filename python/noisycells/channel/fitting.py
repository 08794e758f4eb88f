"""Learning the mean and spread of cells and devices from measurements, by nearest neighbors.

Isik et al. (2020, section 2) learn the mean "via a k-nearest neighbor" fit on the measured
responses; this module does that, and what it takes to make an inverse of the result.
"""

from __future__ import annotations

import itertools
import math
import warnings
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _arguments
from .._types import F64
from .outliers import FAR, outliers

__all__ = ["Fit", "Goodness", "fit", "fit_times", "scale"]

Index = npt.NDArray[np.intp]

MIN_SAMPLES = 10
GRID = 257  # knots of the fitted table where the inputs do not repeat
TURNING_POINT = 5.0  # standard errors by which the mean must turn back to end a branch
AUTO_SMALLEST, AUTO_LARGEST = 2, 1024  # neighbors considered by the automatic choice
AUTO_REPEATS = 30  # of every input, from which the choice is to keep inputs apart
AUTO_LEFT_OUT = 16_384  # measurements left out, one by one, by it
MATTERS = 1.1  # times the spread without outliers: what is worth a warning


@dataclass(frozen=True)
class Goodness:
    """How well a fitted channel describes the measurements it was fitted to.

    ``z`` is (y - mean(x)) / std(x); a Gaussian channel that is fitted well has z mean 0, z std 1,
    68.3 % within 1 and 95.4 % within 2, skewness and excess kurtosis 0.

    Attributes
    ----------
    samples, neighbors : int
        Measurements, and the k of the fit.
    mean_error : float
        Root mean square, over the knots of the branch, of the standard error of the learnt mean.
        This error is the same for every weight at a level: averaging cells does not reduce it.
    residual_rms : float
        Root mean square of y - mean(x).
    z_mean, z_std : float
        Mean and standard deviation of z.
    within_1, within_2 : float
        Fraction of the measurements within one and two standard deviations of the mean.
    skewness, excess_kurtosis : float
        Third and fourth standardized moment of z, less their Gaussian values.
    normality : float
        p-value of the Jarque-Bera test of z: small where the noise is not Gaussian.
    outliers : int
        Measurements far from the median of their neighbors; a robust fit has left them out.
    """

    samples: int
    neighbors: int
    mean_error: float
    residual_rms: float
    z_mean: float
    z_std: float
    within_1: float
    within_2: float
    skewness: float
    excess_kurtosis: float
    normality: float
    outliers: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The figures by name."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Fit:
    """Table of a fitted channel: float64 arrays of one length, and the invertible stretch."""

    x: F64
    mean: F64
    std: F64
    branch: tuple[float, float]
    goodness: Goodness


def fit(
    x: npt.ArrayLike, y: npt.ArrayLike, neighbors: int | None = None, *, robust: bool = False
) -> Fit:
    """Mean and standard deviation of ``y`` given ``x`` by k nearest neighbors.

    At each knot the k measurements of nearest input, and all that tie with the k-th of them (so
    the order of the measurements does not matter), give the mean; the standard deviation is the
    root mean square of their distance from the mean curve. Knots are the distinct inputs where
    these repeat, at least twice each on average, and 257 uniform ones otherwise.

    The branch is the longest rise or fall, in output, between turning points of the mean. A
    turning point counts if the mean turns back by more than 5 standard errors, so noise in the
    learnt mean does not break a branch. On it, monotone regression makes the mean strictly
    monotone: levels that it pools become one point, joined by lines to the next.

    Parameters
    ----------
    x, y : array_like
        Cell inputs and outputs of each measurement, the same number of each, in any order and
        unit; inputs may repeat.
    neighbors : int, optional
        k. By default, where every input repeats at least 30 times, the fewest repeats, so that
        each input is learnt from its own measurements alone; otherwise the one of 2, 3, 4, 6, 8,
        11, 16, ... (up to half the measurements, at most 1024) that predicts measurements left
        out one by one with the smallest squared error.
    robust : bool
        Leave out measurements that are far from the median of their neighbors, in units of the
        median absolute deviation; see :func:`noisycells.channel.outliers.outliers`. Otherwise
        they are kept, and a warning says so where they widen the spread by a tenth.

    Raises
    ------
    ValueError, TypeError
        If the measurements are too few, not finite, not paired, or show no dependence on x.
    ImportError
        If scikit-learn is not installed.
    """
    return _fit(x, y, neighbors, _arguments.flag("robust", robust), "")


def _fit(
    x: npt.ArrayLike, y: npt.ArrayLike, neighbors: int | None, robust: bool, label: str
) -> Fit:
    """:func:`fit`; ``label`` opens the warning of outliers."""
    inputs, outputs = _measurements(x, y)
    order = np.argsort(inputs, kind="stable")
    inputs, outputs = inputs[order], outputs[order]
    repeats = int(np.unique(inputs, return_counts=True)[1].min())
    far = outliers(inputs, outputs)
    kept = ~far if robust else np.ones_like(far)
    inputs, outputs = inputs[kept], outputs[kept]
    knots, lo, hi, neighbors = _neighborhoods(inputs, outputs, neighbors, repeats)
    count = (hi - lo).astype(np.float64)
    mean, stretch, branch = _mean_curve(outputs, knots, lo, hi)

    residual = outputs - np.interp(inputs, knots, mean)
    variance = np.maximum(_average(residual**2, lo, hi), 0) * count / (count - 1)
    std = np.sqrt(variance)
    z = np.interp(inputs, knots, std)
    z = np.divide(residual, z, out=np.zeros_like(residual), where=z > 0)
    mean_error = float(np.sqrt(np.mean(variance[stretch] / count[stretch])))
    goodness = _goodness(residual, z, neighbors, mean_error, int(far.sum()))
    fitted = Fit(knots, mean, std, branch, goodness)
    if robust:
        return fitted
    rest = math.sqrt(np.mean(residual[~far] ** 2))
    if goodness.residual_rms > MATTERS * rest:
        warnings.warn(
            f"{label}{goodness.outliers} of {goodness.samples} measurements are more than {FAR:g} "
            f"robust standard deviations from the median of their neighbors: the spread is "
            f"{goodness.residual_rms:.3g} with them and about {rest:.3g} without; a robust fit "
            "leaves them out",
            stacklevel=3,
        )
    return fitted


def _neighborhoods(
    inputs: F64, outputs: F64, neighbors: int | None, repeats: int
) -> tuple[F64, Index, Index, int]:
    """Knots, the neighbors of each (first and past the last, ``inputs`` sorted), and k.

    ``repeats`` is how often the rarest input was measured.
    """
    try:
        from sklearn.neighbors import NearestNeighbors  # type: ignore[import-untyped]
    except ImportError as error:
        raise ImportError(_NO_SKLEARN) from error
    levels, counts = np.unique(inputs, return_counts=True)
    search = NearestNeighbors(algorithm="kd_tree").fit(inputs[:, None])
    if neighbors is None:
        enough = repeats >= AUTO_REPEATS
        k = int(counts.min()) if enough else _best_neighbors(search, inputs, outputs)
    else:
        k = _arguments.integer("neighbors", neighbors, 2, len(inputs))
    repeated = 2 * len(levels) <= len(inputs)
    knots = levels if repeated else np.linspace(levels[0], levels[-1], GRID)
    radius = search.kneighbors(knots[:, None], k)[0][:, -1]
    return knots, *_window(inputs, knots, radius), k


def _mean_curve(
    outputs: F64, knots: F64, lo: Index, hi: Index
) -> tuple[F64, slice, tuple[float, float]]:
    """Mean at each knot, the stretch of knots on which it is monotone, and the branch."""
    try:
        from sklearn.isotonic import isotonic_regression  # type: ignore[import-untyped]
    except ImportError as error:
        raise ImportError(_NO_SKLEARN) from error
    count = (hi - lo).astype(np.float64)
    mean = _average(outputs, lo, hi)
    # Of the neighbors about their common mean: with the slope of the mean in it, so a little
    # large, which serves here; the standard deviation of the fit is taken from the residuals.
    center = outputs.mean()
    spread = _average((outputs - center) ** 2, lo, hi) - (mean - center) ** 2
    spread = np.sqrt(np.maximum(spread, 0))
    first, last = _longest_stretch(mean, spread / np.sqrt(count))
    stretch = slice(first, last + 1)
    monotone = isotonic_regression(
        mean[stretch], sample_weight=count[stretch], increasing=bool(mean[last] > mean[first])
    )
    x_pooled, y_pooled = _pool(knots[stretch], monotone, count[stretch])
    mean[stretch] = np.interp(knots[stretch], x_pooled, y_pooled)
    branch = knots[(knots >= x_pooled[0]) & (knots <= x_pooled[-1])]
    if len(branch) < 2:
        raise ValueError(_FLAT)
    return mean, stretch, (float(branch[0]), float(branch[-1]))


def fit_times(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    seconds: npt.ArrayLike | None = None,
    neighbors: int | None = None,
    *,
    robust: bool = False,
) -> dict[float | None, Fit]:
    """:func:`fit` for the measurements of each time, the first time first.

    Parameters
    ----------
    x, y : array_like
        Inputs and outputs of each measurement.
    seconds : array_like, optional
        Time of each, >= 0. Without it there is one fit, at None.
    neighbors : int, optional
        See :func:`fit`.
    robust : bool
        See :func:`fit`.

    Raises
    ------
    ValueError, TypeError
        As :func:`fit`, naming the time; or if a time is not finite or negative.
    """
    robust = _arguments.flag("robust", robust)
    if seconds is None:
        return {None: _fit(x, y, neighbors, robust, "")}
    inputs, outputs, times = (
        np.asarray(_arguments.real(name, v), np.float64).ravel()
        for name, v in (("x", x), ("y", y), ("seconds", seconds))
    )
    if not len(inputs) == len(outputs) == len(times):
        raise _arguments.wrong_value(
            "seconds", f"one for each x and y, {len(inputs)} and {len(outputs)}", len(times)
        )
    if not np.isfinite(times).all() or times.min(initial=0.0) < 0:
        raise _arguments.wrong_value("seconds", "finite times >= 0", "others")
    fits: dict[float | None, Fit] = {}
    distinct, counts = np.unique(times, return_counts=True)
    for time, count in zip(distinct.tolist(), counts.tolist(), strict=True):
        if count < MIN_SAMPLES:
            raise _arguments.wrong_value(
                "seconds",
                f"at least {MIN_SAMPLES} measurements at each time",
                f"{count} at {time:g} s, one of {len(distinct)} times; each time is fitted "
                "on its own, so round times that belong together",
            )
        at = times == time
        try:
            fits[time] = _fit(inputs[at], outputs[at], neighbors, robust, f"at {time:g} s: ")
        except ValueError as error:
            raise ValueError(f"at {time:g} s: {error}") from None
    return fits


_FLAT = "y: does not depend on x beyond its noise, so there is nothing to invert"
_NO_SKLEARN = "fitting a channel needs scikit-learn: pip install 'noisycells[sklearn]'"


def _measurements(x: npt.ArrayLike, y: npt.ArrayLike) -> tuple[F64, F64]:
    arrays = []
    for name, values in (("x", x), ("y", y)):
        array = np.asarray(_arguments.real(name, values), np.float64).ravel()
        bad = np.flatnonzero(~np.isfinite(array))
        if len(bad):
            raise _arguments.wrong_value(
                name, "finite measurements", f"{array[bad[0]]} at {bad[0]}"
            )
        arrays.append(array)
    inputs, outputs = arrays
    if len(inputs) != len(outputs):
        raise _arguments.wrong_value("y", f"one for each x, {len(inputs)}", len(outputs))
    if len(inputs) < MIN_SAMPLES:
        raise _arguments.wrong_value("x", f"at least {MIN_SAMPLES} measurements", len(inputs))
    if inputs.min() == inputs.max():
        raise _arguments.wrong_value("x", "at least two distinct inputs", f"only {inputs[0]}")
    return inputs, outputs


def _window(x: F64, at: F64, radius: F64) -> tuple[Index, Index]:
    """First and past-the-last of the sorted ``x`` within ``radius`` of each ``at``.

    In one dimension the neighbors of a point are such a window; it includes all ties.
    """
    radius = radius + 1e-12 * (radius + np.abs(at))  # rounding must not lose the k-th
    return (
        np.searchsorted(x, at - radius, side="left"),
        np.searchsorted(x, at + radius, side="right"),
    )


def _average(values: F64, lo: Index, hi: Index) -> F64:
    """Mean of ``values[lo:hi]`` for each pair."""
    center = float(values.mean())  # small sums lose fewer digits
    sums = np.concatenate([[0.0], np.cumsum(values - center)])
    average: F64 = center + (sums[hi] - sums[lo]) / (hi - lo)
    return average


def _best_neighbors(search: Any, x: F64, y: F64) -> int:
    """The k with the smallest squared leave-one-out error; ``search`` is a NearestNeighbors."""
    largest = min(len(x) // 2, AUTO_LARGEST)
    steps = int(2 * math.log2(largest / AUTO_SMALLEST)) + 1
    candidates = [round(AUTO_SMALLEST * 2 ** (i / 2)) for i in range(steps)]
    left_out = np.unique(np.linspace(0, len(x) - 1, AUTO_LEFT_OUT).astype(np.intp))
    at, back = np.unique(x[left_out], return_inverse=True)
    # Column k of the distances is that of the k-th neighbor besides the point itself.
    chunks = np.array_split(at, -(-len(at) // 1024))
    distances = np.concatenate(
        [search.kneighbors(c[:, None], candidates[-1] + 1)[0][:, candidates] for c in chunks]
    )
    errors = []
    for radius in distances.T:
        lo, hi = _window(x, at, radius)
        count = (hi - lo)[back]
        average = _average(y, lo, hi)[back]
        # Without the point itself: y - (count average - y) / (count - 1).
        error = (y[left_out] - average) * count / (count - 1)
        errors.append(float(np.mean(error**2)))
    return candidates[int(np.argmin(errors))]


def _longest_stretch(mean: F64, error: F64) -> tuple[int, int]:
    """First and last knot of the stretch between turning points that spans the most output."""

    def differ(i: int, j: int) -> bool:
        return bool(abs(mean[i] - mean[j]) > TURNING_POINT * math.hypot(error[i], error[j]))

    turns = [0]
    low = high = direction = 0  # lowest and highest knot since the last turning point
    for i in range(1, len(mean)):
        low = i if mean[i] < mean[low] else low
        high = i if mean[i] > mean[high] else high
        if direction <= 0 and mean[i] > mean[low] and differ(i, low):
            turns.append(low)
            high, direction = i, 1
        elif direction >= 0 and mean[i] < mean[high] and differ(i, high):
            turns.append(high)
            low, direction = i, -1
    turns.append(len(mean) - 1)
    first, last = max(itertools.pairwise(turns), key=lambda s: abs(mean[s[1]] - mean[s[0]]))
    if not differ(first, last):
        raise ValueError(_FLAT)
    return first, last


def _pool(x: F64, y: F64, weight: F64) -> tuple[F64, F64]:
    """Runs of equal ``y``, but for rounding, made one point at their weighted mean ``x``."""
    steps = np.abs(np.diff(y)) > 1e-9 * np.ptp(y)
    starts = np.flatnonzero(np.concatenate([[True], steps]))
    return np.add.reduceat(x * weight, starts) / np.add.reduceat(weight, starts), y[starts]


def _goodness(residual: F64, z: F64, neighbors: int, mean_error: float, far: int) -> Goodness:
    n, spread = len(z), float(z.std())
    unit = (z - z.mean()) / (spread if spread > 0 else 1.0)
    skewness = float(np.mean(unit**3))
    kurtosis = float(np.mean(unit**4)) - 3 if spread > 0 else 0.0
    jarque_bera = n / 6 * (skewness**2 + kurtosis**2 / 4)
    return Goodness(
        samples=n,
        neighbors=neighbors,
        mean_error=mean_error,
        residual_rms=float(np.sqrt(np.mean(residual**2))),
        z_mean=float(z.mean()),
        z_std=spread,
        within_1=float(np.mean(np.abs(z) <= 1)),
        within_2=float(np.mean(np.abs(z) <= 2)),
        skewness=skewness,
        excess_kurtosis=kurtosis,
        normality=math.exp(-jarque_bera / 2),  # chi-square with 2 degrees of freedom
        outliers=far,
    )


def scale(values: npt.ArrayLike, log: bool = False) -> F64:
    """Values, or their decimal logarithm, mapped linearly so that they span [-1, 1].

    The normalization of the papers' channels: resistances are scaled by logarithm.

    Raises
    ------
    ValueError
        If the values are not finite, all equal, or not positive where ``log``.
    """
    v = np.asarray(_arguments.real("values", values), np.float64)
    if v.size == 0 or not np.isfinite(v).all():
        raise _arguments.wrong_value(
            "values", "finite numbers, at least one", "none" if v.size == 0 else "NaN or infinity"
        )
    if _arguments.flag("log", log):
        if v.min() <= 0:
            raise _arguments.wrong_value("values", "positive ones for a logarithmic scale", v.min())
        v = np.log10(v)
    lo, hi = v.min(), v.max()
    if lo == hi:
        raise _arguments.wrong_value("values", "ones that differ", f"only {lo}")
    scaled: F64 = 2 * (v - lo) / (hi - lo) - 1
    return scaled
