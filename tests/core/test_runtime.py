"""SIMD levels, threads, the GIL and fork. What must be seen from a fresh process runs in one."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import noisycells as nc
from noisycells import _core

LEVELS = nc.available_simd_levels()


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if k != "NOISYCELLS_SIMD_LEVEL"}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120,
        env={**clean, **environment}, check=False,
    )  # fmt: skip


def output(code: str, **environment: str) -> str:
    done = python(code, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# --------------------------------------------------------------------------- SIMD levels


def test_levels_are_those_of_the_processor() -> None:
    known = ["baseline", "avx2", "avx512", "avx512_vnni", "amx"]
    assert LEVELS == [level for level in known if level in LEVELS]
    assert LEVELS[0] == "baseline"
    info = Path("/proc/cpuinfo")
    if platform.machine() != "x86_64" or not info.exists():
        assert LEVELS == ["baseline"] or sys.platform != "linux"
        return
    flags = set(next(line for line in info.read_text().splitlines() if "flags" in line).split())
    expected = ["baseline"]
    avx2 = {"avx2", "fma", "bmi2", "popcnt"}
    if avx2 <= flags:
        expected.append("avx2")
    avx512 = avx2 | {"avx512f", "avx512bw", "avx512dq", "avx512vl"}
    if avx512 <= flags:
        expected.append("avx512")
    if avx512 | {"avx512_vnni"} <= flags:
        expected.append("avx512_vnni")
    # The system may refuse tiles to a process, so their flags do not promise the level.
    if avx512 | {"avx512_vnni", "amx_tile", "amx_int8"} <= flags and "amx" in LEVELS:
        expected.append("amx")
    assert LEVELS == expected


def test_the_best_level_is_the_default() -> None:
    assert output("import noisycells as nc; print(nc.simd_level())") == LEVELS[-1]


@pytest.mark.parametrize("level", LEVELS)
def test_level_by_environment(level: str) -> None:
    code = "import noisycells as nc; print(nc.simd_level())"
    assert output(code, NOISYCELLS_SIMD_LEVEL=level) == level


def test_unknown_level_by_environment() -> None:
    done = python("import noisycells", NOISYCELLS_SIMD_LEVEL="sse9")
    assert done.returncode != 0
    assert done.stderr.strip().splitlines()[-1] == (
        "ValueError: environment variable NOISYCELLS_SIMD_LEVEL: expected one of "
        f"{', '.join(LEVELS)}, got 'sse9'"
    )


def test_set_level(simd_level: str) -> None:
    assert nc.simd_level() == simd_level


@pytest.mark.parametrize("level", ["sse9", "", "AVX2", None, 2])
def test_set_unknown_level(level: Any) -> None:
    before = nc.simd_level()
    with pytest.raises(ValueError, match=rf"^level: expected one of baseline.*, got {level!r}$"):
        nc.set_simd_level(level)
    assert nc.simd_level() == before


# --------------------------------------------------------------------------- threads


def test_threading_backend() -> None:
    assert nc.threading_backend() in ("openmp", "threads", "serial")


@pytest.mark.usefixtures("thread_setting")
def test_set_num_threads() -> None:
    for n in (1, 3, 4096):
        nc.set_num_threads(n)
        assert nc.get_num_threads() == n
    nc.set_num_threads(0)
    assert nc.get_num_threads() >= 1


@pytest.mark.parametrize(
    ("n", "error", "message"),
    [
        (-1, ValueError, r"^n: expected an int in \[0, 4096\], got -1"),
        (4097, ValueError, r"^n: expected an int in \[0, 4096\], got 4097"),
        (1.5, TypeError, r"^n: expected an int, got 1.5"),
        (None, TypeError, r"^n: expected an int, got None"),
    ],
)
def test_set_num_threads_errors(n: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        nc.set_num_threads(n)


openmp = pytest.mark.skipif(nc.threading_backend() != "openmp", reason="built without OpenMP")


@openmp
def test_default_follows_the_environment() -> None:
    code = "import noisycells as nc; print(nc.get_num_threads())"
    assert output(code, OMP_NUM_THREADS="3") == "3"


@openmp
@pytest.mark.parametrize("first", ["noisycells", "torch"])
def test_default_follows_torch(first: str) -> None:
    """One OpenMP runtime in the process, whichever is imported first."""
    pytest.importorskip("torch", reason="torch not installed")
    second = {"noisycells": "torch", "torch": "noisycells"}[first]
    code = (
        f"import {first}, {second}, noisycells as nc, torch; torch.set_num_threads(3); "
        "print(nc.get_num_threads())"
    )
    assert output(code, OMP_NUM_THREADS="2") == "3"


@openmp
def test_default_follows_threadpoolctl() -> None:
    pytest.importorskip("threadpoolctl", reason="threadpoolctl not installed")
    code = (
        "import noisycells as nc, threadpoolctl\n"
        "with threadpoolctl.threadpool_limits(1): print(nc.get_num_threads())\n"
        "print(nc.get_num_threads())"
    )
    assert output(code, OMP_NUM_THREADS="2").split() == ["1", "2"]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads in /proc")
@openmp
@pytest.mark.parametrize("threads", [1, 3])
def test_threads_are_used(threads: int) -> None:
    """The runtime keeps its workers, so they can be counted."""
    code = (
        "import os, noisycells as nc\n"
        "before = len(os.listdir('/proc/self/task'))\n"
        f"nc.random.standard_normal(10**6, 1, num_threads={threads})\n"
        "print(len(os.listdir('/proc/self/task')) - before)"
    )
    assert output(code) == str(threads - 1)


def test_the_gil_is_released() -> None:
    """Python runs on while the core computes."""
    x = np.zeros(4096, np.float32)
    channel = _core.ChannelTables(np.zeros((2, 4), np.float32), 0.0, 1.0)
    span: list[float] = []

    def compute() -> None:
        out = np.empty_like(x)
        span.append(time.perf_counter())
        _core.sample(x, out, 65535, channel, 1, 2, 3, 0, True, 1)
        span.append(time.perf_counter())

    worker = threading.Thread(target=compute)
    ticks = []
    worker.start()
    while worker.is_alive():
        ticks.append(time.perf_counter())
        time.sleep(0)
    worker.join()
    begin, end = span
    assert end - begin > 0.02  # longer than the interpreter's switch interval of 5 ms
    middle = [t for t in ticks if begin + 0.2 * (end - begin) < t < end - 0.2 * (end - begin)]
    assert middle


def test_callers_on_several_threads_get_their_own_results() -> None:
    expected = [nc.random.standard_normal(200_000, seed) for seed in range(4)]
    got: dict[int, np.ndarray] = {}

    def draw(seed: int) -> None:
        for _ in range(5):
            got[seed] = nc.random.standard_normal(200_000, seed, num_threads=2)

    workers = [threading.Thread(target=draw, args=(seed,)) for seed in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for seed in range(4):
        assert np.array_equal(got[seed], expected[seed])


# --------------------------------------------------------------------------- fork

FORK = """
import os, signal, sys
{before}
import numpy as np, noisycells as nc
whole = nc.random.standard_normal(10**6, 1, num_threads=2)   # the runtime now has workers
child = os.fork()
if child == 0:
    signal.alarm(60)   # a hang would be killed
    same = np.array_equal(nc.random.standard_normal(10**6, 1, num_threads=2), whole)
    one = nc.get_num_threads() == 1
    {in_child}
    os._exit(0 if same and one else 1)
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
still = np.array_equal(nc.random.standard_normal(10**6, 1, num_threads=2), whole)
sys.exit(status if still else 2)
"""

has_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no os.fork here")


@has_fork
def test_a_forked_child_computes() -> None:
    """With libgomp it would hang: its workers do not exist in the child."""
    code = FORK.format(before="", in_child="")
    done = python(code, OMP_NUM_THREADS="2")
    assert done.returncode == 0, (done.returncode, done.stderr)


@has_fork
def test_a_forked_child_computes_beside_torch() -> None:
    pytest.importorskip("torch", reason="torch not installed")
    code = FORK.format(
        before="import torch; a = torch.ones(400, 400); a @ a",
        in_child="same = same and float((a @ a)[0, 0]) == 400.0",
    )
    done = python(code, OMP_NUM_THREADS="2")
    assert done.returncode == 0, (done.returncode, done.stderr)


@has_fork
def test_a_pool_of_forked_workers_computes() -> None:
    code = (
        "import multiprocessing as mp, noisycells as nc\n"
        "def draw(seed): return nc.random.standard_normal(50_000, seed).tobytes()\n"
        "if __name__ == '__main__':\n"
        "    nc.random.standard_normal(10**6, 1, num_threads=2)\n"
        "    with mp.get_context('fork').Pool(2) as pool:\n"
        "        got = pool.map(draw, range(4))\n"
        "    print(got == [draw(s) for s in range(4)])"
    )
    assert output(code) == "True"
