"""Ctrl-C in calls of the core, and the SIMD level changing while others compute."""

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import noisycells as nc
from noisycells.runtime import available_simd_levels, set_simd_level, simd_level

PREPARE = """
import signal
import numpy as np
import noisycells as nc

signal.signal(signal.SIGINT, signal.default_int_handler)
nc.set_num_threads({threads})
weights = np.random.default_rng(0).standard_normal((256, 1024)).astype(np.float32)
cell = nc.Channel.gaussian(0.1, stuck=0.1)  # every cell is drawn
bits = nc.CrossbarSpec(input_slice_bits=1, weight_slice_bits=(1,) * 15, kernel="float32")
array = nc.Crossbar(weights, nc.devices.pcm_joshi2020(), bits).program(1)
x = np.ones((1 << 15, 1024), np.float32)
print("ready", flush=True)
try:
    {call}
    print("finished", flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
first = array.matmul(x[:3], 2)
nc.set_num_threads(1)
assert np.array_equal(first, array.matmul(x[:3], 2))
print("fine", flush=True)
"""
# Each takes a minute or more.
CALLS = {
    "sample": "cell.sample(np.zeros(1 << 22), 1, 60_000)",
    "read": "nc.Codec(cell, cells=60_000).encode(weights.repeat(16, 0)).read(1)",
    "matmul": "array.matmul(x, 1)",
}


@pytest.mark.parametrize(
    ("call", "threads"), [("sample", 1), ("sample", 2), ("read", 2), ("matmul", 1), ("matmul", 2)]
)
def test_ctrl_c_ends_a_call(call: str, threads: int) -> None:
    code = PREPARE.format(call=CALLS[call], threads=threads)
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.7)
        sent = time.monotonic()
        os.kill(process.pid, signal.SIGINT)
        assert process.stdout.readline() == "interrupted\n"
        waited = time.monotonic() - sent
        assert process.stdout.read() == "fine\n"
    assert process.returncode == 0
    assert waited < 5  # 0.1 to 0.4 s on an idle machine; the calls take minutes


def test_a_handler_that_raises_nothing_changes_nothing() -> None:
    seen = []
    before = signal.signal(signal.SIGALRM, lambda *_: seen.append(nc.random.standard_normal(3, 1)))
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
    try:
        cell = nc.Channel.gaussian(0.1, stuck=0.1)
        start = time.monotonic()
        found = cell.sample(np.zeros(1 << 14), 1, 4000)
        took = time.monotonic() - start
        in_time = len(seen)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert np.array_equal(found, cell.sample(np.zeros(1 << 14), 1, 4000))
    # The handlers of one call run in the midst of it, and may call the core themselves.
    assert took < 0.4 or in_time >= 2
    assert all(np.array_equal(z, nc.random.standard_normal(3, 1)) for z in seen)


def test_the_simd_level_changes_while_others_compute() -> None:
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((70, 300)).astype(np.float32)
    x = rng.standard_normal((50, 300)).astype(np.float32)
    device, codec = nc.devices.pcm_joshi2020(), nc.Codec(nc.devices.pcm_array(), ranges=3)

    def results() -> list[np.ndarray]:
        array = nc.Crossbar(weights, device).program(1)
        return [array.matmul(x, 2), array.at(100).matmul(x, 3), codec.encode(weights).read(4)]

    level, expected = simd_level(), results()
    wrong: list[BaseException | str] = []
    done = threading.Event()

    def compute() -> None:
        try:
            for _ in range(30):
                if not all(map(np.array_equal, results(), expected)):
                    wrong.append("other numbers")
        except BaseException as error:
            wrong.append(error)

    def change() -> None:
        while not done.is_set():
            for name in available_simd_levels():
                set_simd_level(name)

    workers = [threading.Thread(target=compute) for _ in range(3)]
    changer = threading.Thread(target=change)
    try:
        for thread in (changer, *workers):
            thread.start()
        for thread in workers:
            thread.join()
    finally:
        done.set()
        changer.join()
        set_simd_level(level)
    assert not wrong, wrong[0]
