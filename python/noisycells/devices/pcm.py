"""Phase change memory: devices of two chips, and cells for storage only.

The devices have the figures of IBM's 90 nm array (Nandakumar et al., ICECS 2019; Joshi et al.,
Nature Communications 2020) and of the HERMES chip (Le Gallo et al., Nature Electronics 2023).

The moments of the measured array, a cell for storage, are derived from data of the CAEs repository
(github.com/rzarcone/CAEs, commit f8ceb20705307f3376bf0b65f818a7a912eb66b1,
data/Partial_Reset_PCM.pkl), which carries this notice:

BSD 2-Clause License

Copyright (c) 2017, rzarcone
All rights reserved.

Redistribution and use in source and binary forms, with or without
modification, are permitted provided that the following conditions are met:

* Redistributions of source code must retain the above copyright notice, this
  list of conditions and the following disclaimer.

* Redistributions in binary form must reproduce the above copyright notice,
  this list of conditions and the following disclaimer in the documentation
  and/or other materials provided with the distribution.

THIS SOFTWARE IS PROVIDED BY THE COPYRIGHT HOLDERS AND CONTRIBUTORS "AS IS"
AND ANY EXPRESS OR IMPLIED WARRANTIES, INCLUDING, BUT NOT LIMITED TO, THE
IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS FOR A PARTICULAR PURPOSE ARE
DISCLAIMED. IN NO EVENT SHALL THE COPYRIGHT HOLDER OR CONTRIBUTORS BE LIABLE
FOR ANY DIRECT, INDIRECT, INCIDENTAL, SPECIAL, EXEMPLARY, OR CONSEQUENTIAL
DAMAGES (INCLUDING, BUT NOT LIMITED TO, PROCUREMENT OF SUBSTITUTE GOODS OR
SERVICES; LOSS OF USE, DATA, OR PROFITS; OR BUSINESS INTERRUPTION) HOWEVER
CAUSED AND ON ANY THEORY OF LIABILITY, WHETHER IN CONTRACT, STRICT LIABILITY,
OR TORT (INCLUDING NEGLIGENCE OR OTHERWISE) ARISING IN ANY WAY OUT OF THE USE
OF THIS SOFTWARE, EVEN IF ADVISED OF THE POSSIBILITY OF SUCH DAMAGE.
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import numpy as np

from .. import _arguments
from .._types import F64
from ..channel import Channel
from .model import Model
from .moments import polynomial
from .registry import maker

__all__ = ["gaussian_standin", "pcm_array", "pcm_hermes", "pcm_joshi2020", "synthetic_pcm"]

DAY = 86_400.0
FIGURES = "figures of the papers cited; coefficients as in IBM's aihwkit (MIT)"
SHORT_READ = 0.0175
"""Short-term read noise of a device at g_max over g_max; it grows as sqrt(g). Rasch et al., Nature
Communications 14, 5282 (2023), 10.1038/s41467-023-40770-4."""
JOSHI_STD = (0.26348, 1.9650, -1.1731)
"""Programming noise in uS over r = g / 25 uS, lowest power first."""


def _log(r: F64) -> F64:
    return np.log(np.maximum(r, 1e-7))


def accumulated(seconds: float, read: float) -> float:
    """sqrt(ln((t + t_read) / (2 t_read))): 1/f noise accumulated since programming over Q_s.

    Nandakumar et al. (2019); both in seconds.
    """
    return math.sqrt(math.log((seconds + read) / (2 * read)))


@maker
def pcm_joshi2020(
    g_min: float = 0.0,
    g_max: float = 25.0,
    stuck: float | tuple[float, float] = 0.0,
    reset: tuple[float, float] | None = None,
    extrapolate: bool = False,
) -> Model:
    """PCM, IBM's 90 nm array of doped GST: programming, drift, 1/f and short-term read noise.

    With r = g / 25 uS and natural logarithms:

    - programming: std = 0.26348 + 1.9650 r - 1.1731 r^2 uS (Joshi et al., figure 3b);
    - drift: ((t + 20 s) / 20 s)^-nu, nu = |N(mean, std^2)|, mean -0.0155 ln r + 0.0244 within
      [0.049, 0.1], std -0.0125 ln r - 0.0059 within [0.008, 0.045] (Nandakumar et al.);
    - 1/f noise: std / g = Q sqrt(ln((t + 20 s + t_read) / (2 t_read))), t_read = 250 ns,
      Q = 0.0088 / r^0.65, at most 0.2, r of the programmed conductance;
    - one short-term read: variance (0.0175 25 uS)^2 r (Rasch et al. 2023).

    Measured for a day. ``g_max`` chooses how much of the range is used; it does not rescale the
    noise.

    Parameters
    ----------
    g_min, g_max : float
        Range of targets, in microsiemens; within 0 to 25 unless ``extrapolate``.
    stuck : float or (float, float)
        Probabilities of devices stuck off and on.
    reset : (float, float), optional
        Mean and standard deviation of a device left RESET, in microsiemens: not published.
    extrapolate : bool
        Allow g_max beyond what was measured.
    """
    full, start, read = 25.0, 20.0, 250e-9

    def drift(g: F64, seconds: float) -> tuple[F64, F64]:
        ln, time = _log(g / full), math.log1p(seconds / start)
        mean = np.clip(-0.0155 * ln + 0.0244, 0.049, 0.1)
        return mean * time, np.clip(-0.0125 * ln - 0.0059, 0.008, 0.045) * time

    def fraction(g: F64, seconds: float) -> F64:
        q = 0.0088 / np.maximum((np.abs(g) / full) ** 0.65, 1e-3)
        return np.minimum(q, 0.2) * accumulated(seconds + start, read)

    return Model(
        source="Nandakumar et al., ICECS 2019; Joshi et al., Nature Communications 11, 2473 "
        "(2020), figure 3; read noise of Rasch et al., Nature Communications 14, 5282 (2023)",
        doi="10.1109/ICECS46596.2019.8964852, 10.1038/s41467-020-16108-9, "
        "10.1038/s41467-023-40770-4",
        license=FIGURES,
        g_min=g_min,
        g_max=g_max,
        measured=(0.0, full),
        time_range=(0.0, DAY),
        std=lambda g: polynomial(g / full, JOSHI_STD),
        drift=drift,
        flicker=fraction,
        read_variance=(0.0, SHORT_READ**2 * full, 0.0),
        stuck=stuck,
        reset=reset,
        extrapolate=extrapolate,
    )


class _Hermes(NamedTuple):
    """Figures for one number of devices a cell; polynomials in r, lowest power first."""

    full: float  # uS, r = 1
    start: float  # s
    std: tuple[float, ...]  # uS
    nu_std: tuple[float, ...]  # below the split: a ln r + b within [c, d]; above: a polynomial
    nu_std_split: float
    nu_std_above: tuple[float, ...]
    q: tuple[float, ...]
    q_split: float
    q_above: tuple[float, ...]


HERMES_NU_MEAN = (-0.0387, -0.0182, 0.0720, 0.13), 0.0945, (0.0736, -0.0126, -0.0436)
HERMES = {
    1: _Hermes(
        10.35,
        200.0,
        (0.15781817, 2.32443916, -2.16310839, 0.68841818),
        (-0.0120, -0.0023, 0.0124, 0.04),
        0.3039,
        (0.0104, 0.0116, -0.0165),
        (-0.0078, 0.0038, 0.0179, 0.04),
        0.1591,
        (0.0088, 0.0768, -0.1352, 0.0664),
    ),
    2: _Hermes(
        20.7,
        300.0,
        (0.16603222, 4.71806468, -8.48101252, 4.68961419),
        (-0.0117, -0.0057, 0.0091, 0.04),
        0.3055,
        (0.0073, 0.0093, -0.0118),
        (-0.0117, -0.0069, 0.015, 0.04),
        0.16,
        (0.0123, 0.0211, -0.0280, 0.0069),
    ),
}


def _branches(r: F64, below: tuple[float, ...], split: float, above: tuple[float, ...]) -> F64:
    slope, offset, low, high = below
    logarithmic = np.clip(slope * _log(r) + offset, low, high)
    return np.where(r < split, logarithmic, polynomial(r, above))


@maker
def pcm_hermes(
    devices: int = 2,
    g_min: float = 0.0,
    g_max: float | None = None,
    stuck: float | tuple[float, float] = 0.0,
    reset: tuple[float, float] | None = None,
    extrapolate: bool = False,
) -> Model:
    """PCM of IBM's HERMES chip, 14 nm, one or two parallel devices a cell.

    The same kind of model as :func:`pcm_joshi2020`, with r = g over 10.35 uS (one device) or
    20.7 uS (two), t_0 = 200 or 300 s, t_read = 512 ns; the curves are ``HERMES``; nu has
    the mean -0.0387 ln r - 0.0182 within [0.072, 0.13] for r < 0.0945 and
    -0.0436 r^2 - 0.0126 r + 0.0736 above. Two devices are programmed by the method of
    Vasilopoulos et al. and treated as one of twice the conductance.

    Up to when it was measured is not stated in the sources; one day is assumed. Short-term read
    noise is that of the 90 nm array, relative to the largest conductance.

    Parameters
    ----------
    devices : {1, 2}
        Devices in parallel that make one conductance.
    g_min, g_max : float
        Range of targets, in microsiemens; by default all that was measured.
    stuck : float or (float, float)
        Probabilities of cells stuck off and on.
    reset : (float, float), optional
        Mean and standard deviation of a cell left RESET, in microsiemens: not published.
    extrapolate : bool
        Allow g_max beyond what was measured.
    """
    if devices not in HERMES:
        raise _arguments.wrong_value("devices", "1 or 2", repr(devices))
    h = HERMES[devices]

    def drift(g: F64, seconds: float) -> tuple[F64, F64]:
        r, time = g / h.full, math.log1p(seconds / h.start)
        mean = _branches(r, *HERMES_NU_MEAN)
        return mean * time, _branches(r, h.nu_std, h.nu_std_split, h.nu_std_above) * time

    def fraction(g: F64, seconds: float) -> F64:
        q = _branches(g / h.full, h.q, h.q_split, h.q_above)
        return q * accumulated(seconds + h.start, 512e-9)

    return Model(
        source="Le Gallo et al., Nature Electronics 6, 680 (2023); Khaddam-Aljameh et al., IEEE "
        "JSSC 57, 1027 (2022); Vasilopoulos et al., IEEE Trans. Electron Devices (2023), "
        "ieeexplore.ieee.org/document/10281389",
        doi="10.1038/s41928-023-01010-1, 10.1109/JSSC.2022.3140414",
        license=FIGURES,
        g_min=g_min,
        g_max=h.full if g_max is None else g_max,
        measured=(0.0, h.full),
        time_range=(0.0, DAY),
        std=lambda g: polynomial(g / h.full, h.std),
        drift=drift,
        flicker=fraction,
        read_variance=(0.0, SHORT_READ**2 * h.full, 0.0),
        stuck=stuck,
        reset=reset,
        extrapolate=extrapolate,
    )


# (pulse amplitude in V, mean, standard deviation) of y over 380 measurements each, where y is
# log10 of the resistance, scaled so that all measurements span [-1, 1]:
# y = 2 (log10 R - 4.025422) / 2.474511 - 1.
PARTIAL_RESET_PCM = (
    (1.00, -0.529752, 0.060392),
    (1.05, -0.522561, 0.051805),
    (1.10, -0.515019, 0.052199),
    (1.15, -0.482724, 0.066767),
    (1.20, -0.439639, 0.070406),
    (1.25, -0.374986, 0.071969),
    (1.30, -0.326911, 0.083256),
    (1.35, -0.284038, 0.081060),
    (1.40, -0.230588, 0.071590),
    (1.45, -0.203227, 0.050785),
    (1.50, -0.203135, 0.041811),
    (1.55, -0.207992, 0.037831),
    (1.60, -0.215436, 0.025149),
    (1.65, -0.224288, 0.027790),
    (1.70, -0.230719, 0.024935),
    (1.75, -0.235651, 0.025219),
    (1.80, -0.238028, 0.023318),
    (1.85, -0.240833, 0.027414),
    (1.90, -0.242419, 0.024639),
    (1.95, -0.242777, 0.018532),
    (2.00, -0.242956, 0.018083),
    (2.05, -0.244953, 0.019078),
    (2.10, -0.248064, 0.018581),
    (2.15, -0.251428, 0.017486),
    (2.20, -0.254253, 0.017999),
    (2.25, -0.253050, 0.015111),
    (2.30, -0.250154, 0.014974),
    (2.35, -0.243576, 0.016609),
    (2.40, -0.222691, 0.027221),
    (2.45, -0.126590, 0.087507),
    (2.50, 0.043741, 0.141096),
    (2.55, 0.193913, 0.124482),
    (2.60, 0.367650, 0.098271),
    (2.65, 0.466203, 0.074096),
    (2.70, 0.557013, 0.063448),
    (2.75, 0.625384, 0.061046),
    (2.80, 0.716908, 0.059575),
    (2.85, 0.775313, 0.052517),
    (2.90, 0.832300, 0.051420),
    (2.95, 0.902956, 0.043819),
)


@cache
def pcm_array() -> Channel:
    """Measured PCM array: partial-reset pulses of 1.00 to 2.95 V, 380 measurements at each of 40.

    The input is the pulse amplitude, 1.00 to 2.95 V scaled to [-1, 1], the output the logarithm of
    the resistance scaled likewise. The mean is not monotone; weights are stored on its rise from
    2.20 to 2.95 V, on which outputs span -0.254 to 0.903. The noise is skewed (skewness -2.5 to
    1.1 on that branch), so the Gaussian with the measured moments is an approximation. How much
    of it is read noise is not known.
    """
    volts, mean, std = np.array(PARTIAL_RESET_PCM).T
    return Channel(
        2 * (volts - 1) / 1.95 - 1,
        mean,
        std,
        name="pcm_array",
        source="github.com/rzarcone/CAEs, data/Partial_Reset_PCM.pkl, moments at each pulse "
        "amplitude; data of Zarcone et al., Data Compression Conference 2018",
        license="BSD-2-Clause, Copyright (c) 2017, rzarcone",
    )


@cache
def synthetic_pcm() -> Channel:
    """Made-up smooth PCM-like cell, in the place of the unpublished one of Isik et al. (2020).

    mean(x) = C + A tanh(2.4 (x + 0.08)), with A and C such that it spans the paper's [-0.65, 0.75];
    std(x)^2 = 0.05^2 + (0.075 mean'(x))^2: read noise of 0.05, and programming noise of 0.075 in
    the input seen through the slope. Its 2.2 bits agree with the paper's two bits in one cell.
    """
    slope, center = 2.4, -0.08
    x = np.linspace(-1, 1, 513)
    tanh = np.tanh(slope * (x - center))
    amplitude = 1.40 / (tanh[-1] - tanh[0])
    mean = 0.75 + amplitude * (tanh - tanh[-1])
    programming = 0.075 * amplitude * slope * (1 - tanh**2)
    return Channel(
        x,
        mean,
        np.hypot(0.05, programming),
        read_std=0.05,
        name="synthetic_pcm",
        source="synthetic: no measurements; range and capacity as in Isik et al., NeurIPS "
        "workshop 2020",
        license="MIT, as the package",
        synthetic=True,
    )


@cache
def gaussian_standin() -> Channel:
    """Identity on [-0.65, 0.75] with Gaussian noise of 0.18, in the place of the same cell.

    The range is the paper's; the noise is what its accuracies under plain Gaussian noise (Table 7)
    imply for its accuracies in cells (Table 1), between 0.15 and 0.22.
    """
    ends = [-0.65, 0.75]
    return Channel(
        ends,
        ends,
        0.18,
        name="gaussian_standin",
        source="synthetic: range of Isik et al., NeurIPS workshop 2020, figure 2; noise derived "
        "from its tables 1 and 7",
        license="MIT, as the package",
        synthetic=True,
    )
