"""Speed of the compiled core beside numpy and torch doing the same job in the same run.

``noisycells bench`` prints the table, ``pytest bench/`` runs the same cases one by one.

In each round all contenders of a case run in turn, in one process, so that a change of clock or
load hits all of them alike, each once unmeasured and once measured; figures are medians and
minima over the rounds, after a warm-up. The limits of the machine run in the same rounds: a copy
of as many bytes (``np.copyto``; bytes read and written both count), or a fill where a case only
writes, and the raw words of Philox that the case draws. The limit that takes longest binds, and
the share of it that a case reaches is printed.

Rivals do the same job in float32 where their library can, with tables made beforehand and large
buffers reused; torch with as many threads as we have (numpy has one). "numpy" and "torch" are the
plain ways: ``np.interp``, ``index``, ``lerp``, ``where``, shift and or. The goals are set against
these. "tuned" is what more work gets out of the library: float32 tables with steps, the fastest
of its gathers, four codes in a word, and parts that stay in the caches.

On crossbars the rivals are products without noise, torch's ``F.linear`` and numpy's BLAS with as
many threads as we have; the same noisy job written tile by tile in torch; torch's own step of
training; and other simulators, where they are installed. Short calls are measured several at a
time. The limits are, besides memory and Philox, multiply-adds in registers, of float32 and of
integers as the SIMD level has them.
"""

from .cases import CASES, Case
from .measure import QUICK, run, steps
from .report import render

__all__ = ["CASES", "QUICK", "Case", "render", "run", "steps"]
