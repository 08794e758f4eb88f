"""SIMD level and thread count of the compiled core."""

from __future__ import annotations

import os

from . import _arguments, _core

__all__ = [
    "available_simd_levels",
    "get_num_threads",
    "set_num_threads",
    "set_simd_level",
    "simd_level",
    "threading_backend",
]


def __dir__() -> list[str]:
    return __all__


SIMD_VARIABLE = "NOISYCELLS_SIMD_LEVEL"
MAX_THREADS = 4096


def simd_level() -> str:
    """The SIMD level in use: "baseline", "avx2", "avx512", "avx512_vnni" or "amx"."""
    return _core.simd_level()


def available_simd_levels() -> list[str]:
    """The levels that this build has and this processor runs, slowest first."""
    return _core.available_simd_levels()


def set_simd_level(level: str) -> None:
    """Use ``level`` from now on; results do not change, speed does.

    Calls that are running end at the level that they began with, and arrays that are packed for
    another are packed anew for their next product.

    The environment variable ``NOISYCELLS_SIMD_LEVEL`` does the same at import.

    Raises
    ------
    ValueError
        Where the level is not available here.
    """
    _set_level(level, "level")


def _set_level(level: str, name: str) -> None:
    if not isinstance(level, str) or not _core.set_simd_level(level):
        expected = ", ".join(available_simd_levels())
        raise _arguments.wrong_value(name, f"one of {expected}", repr(level))


def threading_backend() -> str:
    """ "openmp", "threads" or "serial", chosen when the core was built."""
    return _core.threading_backend()


def set_num_threads(n: int) -> None:
    """Threads that the core uses; results do not depend on it.

    0, the default, follows the threading runtime: ``OMP_NUM_THREADS``,
    ``torch.set_num_threads`` and ``threadpoolctl``.

    Raises
    ------
    TypeError, ValueError
        Where ``n`` is not an int >= 0.
    """
    _core.set_num_threads(_arguments.integer("n", n, 0, MAX_THREADS))


def get_num_threads() -> int:
    """Threads that a call uses where it is not told otherwise."""
    return _core.get_num_threads()


def threads_argument(num_threads: int | None) -> int:
    """The ``num_threads`` argument of the public functions, as the core takes it."""
    if num_threads is None:
        return 0
    return _arguments.integer("num_threads", num_threads, 1, MAX_THREADS)


def start() -> None:
    """What importing the package sets up: the level from the environment, the fork hook."""
    level = os.environ.get(SIMD_VARIABLE)
    if level:
        _set_level(level, f"environment variable {SIMD_VARIABLE}")
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_core.after_fork_in_child)
