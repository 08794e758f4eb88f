"""Resistive memory: devices of three publications, and multi-level cells for storage only.

The levels of the cells are those of NVMExplorer (github.com/lpentecost/NVMExplorer, commit
16eb289096b69bbe0b88d51cfabd7927c5f9349b, nvmexplorer_src/nvmFI/nvm_data/mlc_rram_args.p), which
carries this notice:

MIT License

Copyright (c) 2021 Lillian Pentecost, Alexander Hankin

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from .. import _arguments
from .._types import F64
from ..channel import Channel
from .model import Model, constant_read
from .moments import polynomial
from .pcm import DAY, FIGURES, accumulated
from .registry import maker

__all__ = [
    "rram_cmo",
    "rram_milo2021",
    "rram_mlc_1bit",
    "rram_mlc_2bit",
    "rram_mlc_3bit",
    "rram_wan2022",
]

WAN_STD = {
    1.0: (0.348, 16.030, -43.853, 45.393, -16.815),
    DAY: (0.701, 22.086, -50.773, 47.095, -16.458),
    2 * DAY: (0.782, 20.274, -43.507, 37.062, -11.934),
}
"""By seconds since programming: std in uS over r = g / 40 uS, lowest power first."""


@maker
def rram_wan2022(
    g_min: float = 0.0,
    g_max: float = 40.0,
    read_std: float = 0.4 / math.sqrt(2),
    stuck: float | tuple[float, float] = 0.0,
    reset: tuple[float, float] | None = None,
    extrapolate: bool = False,
) -> Model:
    """RRAM of the NeuRRAM chip: spread over the target at 1 s, 1 day and 2 days.

    Wan et al., Extended Data Fig. 3, fitted by polynomials of r = g / 40 uS, ``WAN_STD``; between
    the three times the standard deviation is linear in ln t. Devices are programmed with the
    spread at 1 s; what the spread gains later is drawn once for each device. The mean does not
    move. Extrapolated beyond 2 days along the line in ln t from 1 s to 2 days.

    Parameters
    ----------
    g_min, g_max : float
        Range of targets, in microsiemens; within 0 to 40 unless ``extrapolate``.
    read_std : float
        Standard deviation of one read, in microsiemens. By default 1 % of 40 uS for a pair, the
        estimate of aihwkit: it was not measured.
    stuck : float or (float, float)
        Probabilities of devices stuck off and on.
    reset : (float, float), optional
        Mean and standard deviation of a device left RESET, in microsiemens: not published.
    extrapolate : bool
        Allow g_max beyond what was measured.
    """
    full = 40.0
    times = np.log(list(WAN_STD))

    def std(g: F64, seconds: float) -> F64:
        first, middle, last = (polynomial(g / full, c) for c in WAN_STD.values())
        at = math.log(max(seconds, 1.0))
        total: F64
        if at > times[2]:
            total = last + (last - first) * (at / times[2] - 1)
        elif at > times[1]:
            total = middle + (last - middle) * (at - times[1]) / (times[2] - times[1])
        else:
            total = first + (middle - first) * at / times[1]
        return total

    def relaxation(g: F64, seconds: float) -> tuple[F64, F64]:
        gained = std(g, seconds) ** 2 - std(g, 1.0) ** 2
        return np.zeros_like(g), np.sqrt(np.maximum(gained, 0.0))

    return Model(
        source="Wan et al., Nature 608, 504 (2022), Extended Data Fig. 3",
        doi="10.1038/s41586-022-04992-8",
        license=FIGURES,
        g_min=g_min,
        g_max=g_max,
        measured=(0.0, full),
        time_range=(1.0, 2 * DAY),
        std=lambda g: std(g, 1.0),
        relaxation=relaxation,
        read_variance=constant_read(read_std),
        stuck=stuck,
        reset=reset,
        extrapolate=extrapolate,
    )


@maker
def rram_milo2021(
    g_min: float = 50.0,
    g_max: float = 225.0,
    read_std: float = 0.0,
    stuck: float | tuple[float, float] = 0.0,
    reset: tuple[float, float] | None = None,
    extrapolate: bool = False,
) -> Model:
    """HfO2 RRAM just after programming by incremental gate voltages with verification.

    Milo et al., figure 4 (IGVVA-100): std = 4.782321 - 0.009107 g uS, at least 0. Neither what
    happens later nor read noise was measured; currents that are not linear in the voltage are
    left out.

    Parameters
    ----------
    g_min, g_max : float
        Range of targets, in microsiemens; within 50 to 225 unless ``extrapolate``.
    read_std : float
        Standard deviation of one read, in microsiemens.
    stuck : float or (float, float)
        Probabilities of devices stuck off and on.
    reset : (float, float), optional
        Mean and standard deviation of a device left RESET, in microsiemens: not published.
    extrapolate : bool
        Allow g_min and g_max beyond what was measured.
    """
    return Model(
        source="Milo et al., IRPS 2021, figure 4",
        doi="10.1109/IRPS46558.2021.9405119",
        license="figures of the paper cited; fit as in Sandia's CrossSim (BSD-3-Clause)",
        g_min=g_min,
        g_max=g_max,
        measured=(50.0, 225.0),
        time_range=(0.0, 0.0),
        std=lambda g: 4.782321 - 0.009107 * g,
        read_variance=constant_read(read_std),
        stuck=stuck,
        reset=reset,
        extrapolate=extrapolate,
    )


CMO_STD = {0.2: (0.00081107, 0.00106879), 2.0: (0.0112185391, 0.01129027418)}
"""By acceptance in percent: std in uS over g in uS, lowest power first."""


@maker
def rram_cmo(
    acceptance: float = 2.0,
    g_min: float = 9.0,
    g_max: float = 88.199997,
    read_std: float = 0.396,
    stuck: float | tuple[float, float] = 0.0,
    reset: tuple[float, float] | None = None,
    extrapolate: bool = False,
) -> Model:
    """Analog RRAM of conductive metal oxide on HfOx: programming, relaxation, 1/f noise.

    - programming: std linear in the target, ``CMO_STD``;
    - relaxation, for t >= 1 s: mean -0.08900206 ln t uS, std 0.04201137 ln t + 0.41183342 uS,
      the same at every conductance;
    - 1/f and telegraph noise: std = 0.0277316483 log10(g / uS) sqrt(ln((t + t_read) /
      (2 t_read))) uS, t_read = 1 us, g as programmed.

    The noise of later times was extracted at 50 uS. Up to when is not stated in the sources,
    which apply the model up to 10 years; one day is assumed.

    Parameters
    ----------
    acceptance : {0.2, 2.0}
        Error that programming stops at, in percent of the target.
    g_min, g_max : float
        Range of targets, in microsiemens; within 8 to 90 unless ``extrapolate``.
    read_std : float
        Standard deviation of one read, in microsiemens. By default 1 % of half the range, the
        estimate of aihwkit: it was not measured.
    stuck : float or (float, float)
        Probabilities of devices stuck off and on.
    reset : (float, float), optional
        Mean and standard deviation of a device left RESET, in microsiemens: not published.
    extrapolate : bool
        Allow g_min and g_max beyond what was measured.
    """
    if acceptance not in CMO_STD:
        raise _arguments.wrong_value("acceptance", "0.2 or 2 (percent)", repr(acceptance))

    def relaxation(g: F64, seconds: float) -> tuple[F64, F64]:
        time = math.log(max(seconds, 1.0))
        ones = np.ones_like(g)
        return -0.08900206 * time * ones, (0.04201137 * time + 0.41183342) * ones

    def fraction(g: F64, seconds: float) -> F64:
        at = np.maximum(g, 1.0)  # where the logarithm passes zero
        return 0.0277316483 * np.log10(at) / at * accumulated(max(seconds, 1.0), 1e-6)

    return Model(
        source="Falcone et al., Advanced Functional Materials (2025), arXiv:2502.04524; Lombardo "
        "et al., DRC 2024",
        doi="10.48550/arXiv.2502.04524, 10.1109/DRC61706.2024.10643760",
        license=FIGURES,
        g_min=g_min,
        g_max=g_max,
        measured=(8.0, 90.0),
        time_range=(1.0, DAY),
        std=lambda g: polynomial(g, CMO_STD[acceptance]),
        relaxation=relaxation,
        flicker=fraction,
        read_variance=constant_read(read_std),
        stuck=stuck,
        reset=reset,
        extrapolate=extrapolate,
    )


# (mean, standard deviation) of the read current of each level, the lowest level scaled to 0 and
# the highest to 1; by bits per cell.
MLC_LEVELS = {
    1: (
        (0.0, 0.00864567),
        (1.0, 0.00339958),
    ),
    2: (
        (0.0, 0.00864567),
        (0.38464387, 0.03351085),
        (0.72165694, 0.02741654),
        (1.0, 0.00339958),
    ),
    3: (
        (0.0, 0.00864567),
        (0.07826194, 0.01345795),
        (0.20381963, 0.030416),
        (0.38464387, 0.03351085),
        (0.54212002, 0.02482939),
        (0.72165694, 0.02741654),
        (0.88611635, 0.03719118),
        (1.0, 0.00339958),
    ),
}


def _levels(bits: int) -> Channel:
    mean, std = np.array(MLC_LEVELS[bits]).T
    return Channel(
        np.linspace(-1, 1, len(mean)),
        2 * mean - 1,
        2 * std,
        write_bits=bits,
        name=f"rram_mlc_{bits}bit",
        source="github.com/lpentecost/NVMExplorer, mlc_rram_args.p; Pentecost et al., "
        "NVMExplorer, 2021",
        license="MIT, Copyright (c) 2021 Lillian Pentecost, Alexander Hankin",
    )


@cache
def rram_mlc_1bit() -> Channel:
    """RRAM cell written at 2 levels; read current scaled to [-1, 1]."""
    return _levels(1)


@cache
def rram_mlc_2bit() -> Channel:
    """RRAM cell written at 4 levels; read current scaled to [-1, 1]."""
    return _levels(2)


@cache
def rram_mlc_3bit() -> Channel:
    """RRAM cell written at 8 levels; read current scaled to [-1, 1]."""
    return _levels(3)
