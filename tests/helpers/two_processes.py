"""Runs a function in two processes that torch.distributed connects."""

from __future__ import annotations

import faulthandler
import gc
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import torch
from torch import distributed, multiprocessing

LIMIT = 300  # seconds; starting takes most of what is needed, and on a busy machine half a minute


def run(body: Callable[[int, str], None], folder: Path) -> None:
    """``body(rank, folder)`` in both, which get a process group and one thread each.

    Raises what one of them raised, and TimeoutError where they do not end: both are stopped then,
    having said on standard error where they were.
    """
    processes = multiprocessing.spawn(_connected, (body, str(folder)), nprocs=2, join=False)
    end = time.monotonic() + LIMIT
    try:
        while not processes.join(timeout=1):
            if time.monotonic() > end:
                raise TimeoutError(f"{body.__module__}: still running after {LIMIT} seconds")
    finally:
        for process in processes.processes:
            process.kill()


def _connected(rank: int, body: Callable[[int, str], None], folder: str) -> None:
    faulthandler.dump_traceback_later(LIMIT - 20)
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meet",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=LIMIT / 2),
    )
    body(rank, folder)
    # What uses the group must be gone before it: the last user's end closes it under the
    # interpreter's lock, and waits for threads of gloo that may need that lock to drop a tensor.
    gc.collect()
    distributed.destroy_process_group()
    faulthandler.cancel_dump_traceback_later()
