"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import numpy as np

from .. import _core, runtime
from .contenders import torch_or_none

__all__ = ["blas", "machine"]


def machine() -> dict[str, Any]:
    """Processor, settings and versions, as plain values."""
    torch = torch_or_none()
    return {
        "cpu": _cpu(),
        "cores": _cores(),
        "load": os.getloadavg()[0],
        "simd_level": runtime.simd_level(),
        "threading": runtime.threading_backend(),
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY"),
        "compiler": _core.compiler,
        "noisycells": _core.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": None if torch is None else torch.__version__,
        "blas": blas(),
        "openblas_coretype": os.environ.get("OPENBLAS_CORETYPE"),
    }


def blas() -> str | None:
    """What numpy multiplies matrices with, and for which processor; None if that is not known."""
    try:
        from threadpoolctl import threadpool_info  # type: ignore[import-untyped]
    except ImportError:
        return None
    found = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    found.sort(key=lambda pool: "numpy" not in pool["filepath"])
    if not found:
        return None
    return f"{found[0]['internal_api']} {found[0]['version']} {found[0].get('architecture', '')}"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
