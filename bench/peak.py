"""Multiply-adds in registers: the most that products can reach on this processor.

The kernels are built by CMake on first use (bench/cpp), beside those of the package and with the
same flags; they are no part of the package.
"""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import noisycells as nc

__all__ = ["multiply_adds"]

ROOT = Path(__file__).parents[1]


@cache
def _library() -> ctypes.CDLL:
    build = Path(tempfile.mkdtemp(prefix="noisycells-peak-"))
    options = ["-DNOISYCELLS_BENCH=ON", "-DCMAKE_BUILD_TYPE=Release"]
    for command in (
        ["cmake", "-S", str(ROOT), "-B", str(build), *options],
        ["cmake", "--build", str(build), "--parallel", "--target", "noisycells_peak"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    library = ctypes.CDLL(str(next(build.glob("*noisycells_peak.*"))))
    library.noisycells_multiply_adds.restype = ctypes.c_int64
    library.noisycells_multiply_adds.argtypes = [
        ctypes.c_char_p, ctypes.c_int, ctypes.c_int64, ctypes.c_int,
    ]  # fmt: skip
    return library


def multiply_adds(integer: bool, rounds: int, num_threads: int) -> int:
    """Multiply and add on each thread, at the SIMD level in use; how many operations it was.

    Those of float32, or of integers as products of 16-bit weights take them. A multiply-add is
    two operations.
    """
    level = nc.simd_level().encode()
    count = _library().noisycells_multiply_adds(level, integer, rounds, num_threads)
    if not count:
        raise RuntimeError(f"bench/cpp was not built for {nc.simd_level()}")
    return int(count)
