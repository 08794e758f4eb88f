"""The full benchmark: all cases, tuned rivals, other simulators, goals, limits of the machine.

``python -m bench`` in the source tree prints the table, ``pytest bench/test_speed.py`` runs the
same cases one by one. Built on :mod:`noisycells.speed`, which times the main paths for everybody;
its plain rivals and its way of timing are used here.

"numpy" and "torch" are the plain ways: ``np.interp``, ``index``, ``lerp``, ``where``, shift and
or. The goals are set against these. "tuned" is what more work gets out of the library: float32
tables with steps, the fastest of its gathers, four codes in a word, and parts that stay in the
caches. On crossbars the rivals are products without noise, torch's ``F.linear`` and numpy's BLAS;
the same noisy job written tile by tile in torch; torch's own step of training; and other
simulators, where they are installed.

The limits of the machine run in the same rounds as the contenders: a copy of as many bytes
(``np.copyto``; bytes read and written both count), or a fill where a case only writes; the raw
words of Philox that the case draws; and multiply-adds in registers, of float32 and of integers as
the SIMD level has them. The limit that takes longest binds, and the share of it that a case
reaches is printed.
"""

import os

# Before any OpenMP runtime is loaded: idle threads go to sleep instead of taking the cores from
# another runtime's. A choice for benchmarks, which the library leaves to its user.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
