"""Phase change memory, storage only: a measured array and two stand-ins.

The moments of the measured array are derived from data of the CAEs repository
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

from functools import cache

import numpy as np

from ..channel import Channel

__all__ = ["gaussian_standin", "pcm_array", "synthetic_pcm"]

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
        licence="BSD-2-Clause, Copyright (c) 2017, rzarcone",
    )


@cache
def synthetic_pcm() -> Channel:
    """Made-up smooth PCM-like cell, in the place of the unpublished one of Isik et al. (2020).

    mean(x) = C + A tanh(2.4 (x + 0.08)), with A and C such that it spans the paper's [-0.65, 0.75];
    std(x)^2 = 0.05^2 + (0.075 mean'(x))^2: read noise of 0.05, and programming noise of 0.075 in
    the input seen through the slope. Its 2.2 bits agree with the paper's two bits in one cell.
    """
    slope, centre = 2.4, -0.08
    x = np.linspace(-1, 1, 513)
    tanh = np.tanh(slope * (x - centre))
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
        licence="MIT, as the package",
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
        licence="MIT, as the package",
        synthetic=True,
    )
