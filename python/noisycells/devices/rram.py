"""Multi-level RRAM cells, storage only.

The levels are those of NVMExplorer (github.com/lpentecost/NVMExplorer, commit
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

from functools import cache

import numpy as np

from ..channel import Channel

__all__ = ["rram_mlc_1bit", "rram_mlc_2bit", "rram_mlc_3bit"]

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
        licence="MIT, Copyright (c) 2021 Lillian Pentecost, Alexander Hankin",
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
