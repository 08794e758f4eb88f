"""Memory that encoding and reading take beyond what they return."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from noisycells.speed.cases import Weights

__all__ = ["MOST_EXTRA_MB", "extra_memory"]

MOST_EXTRA_MB = 4.0
_WARM_UP = 1 << 14


def extra_memory(size: int) -> list[dict[str, Any]]:
    """Peak resident memory of the calls less what was there before and less their outputs.

    Measured in a fresh interpreter, whose allocator holds no freed memory to hand out again, and
    by the kernel, which counts what numpy and the core allocate alike.

    Parameters
    ----------
    size : int
        Weights, at least a million: the figure is good to a few hundred kB.

    Returns
    -------
    list of dict
        ``call``, ``elements``, ``outputs_mb``, ``extra_mb``, ``goal``, ``met``; or ``call`` and
        ``missing``, the reason, where the system does not tell the peak (not Linux).
    """
    done = subprocess.run(
        [sys.executable, "-m", "bench.memory", str(size)], check=True, capture_output=True,
        text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


def measure(size: int) -> list[dict[str, Any]]:
    """The work of :func:`extra_memory`, in the fresh interpreter."""
    calls: dict[str, Callable[[Weights], list[Any]]] = {
        "Codec.encode": _encode,
        "StoredTensor.read": lambda weights: [weights.stored.read(1)],
        "Codec.transmit": lambda weights: [weights.codec.transmit(weights.values, 1, weights.mask)],
    }
    small, weights = Weights.of(_WARM_UP), Weights.of(size)
    for each in (small, weights):
        _ = each.stored  # what StoredTensor.read starts from
    rows: list[dict[str, Any]] = []
    for name, call in calls.items():
        call(small)
        try:
            returned, extra = peak(call, weights)
        except OSError:
            rows.append({"call": name, "missing": "only Linux tells the peak"})
            continue
        rows.append(
            {
                "call": name,
                "elements": size,
                "outputs_mb": returned / 1e6,
                "extra_mb": extra / 1e6,
                "goal": MOST_EXTRA_MB,
                "met": extra / 1e6 <= MOST_EXTRA_MB,
            }
        )
    return rows


def peak(call: Callable[..., list[Any]], *arguments: Any) -> tuple[int, int]:
    """Bytes of the arrays that `call` returns, and of its resident memory beyond them at most.

    Raises
    ------
    OSError
        If this is not Linux.
    """
    Path("/proc/self/clear_refs").write_text("5")  # the peak is now what is there
    before = _status("VmRSS")
    outputs = call(*arguments)
    returned = sum(array.nbytes for array in outputs)
    return returned, max(0, _status("VmHWM") - before - returned)


def _encode(weights: Weights) -> list[Any]:
    stored = weights.codec.encode(weights.values, weights.mask)
    assert stored.mask is not None
    return [stored.levels, stored.side, stored.mask]


def _status(field: str) -> int:
    """Bytes of a field of this process's status."""
    text = Path("/proc/self/status").read_text()
    return int(text.partition(field + ":")[2].split()[0]) * 1024


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]))))
