"""Crossbars on a GPU beside plain networks: bits, products and steps, in less than 8 minutes.

``python -m bench.gpu [--output FILE]`` prints a line of JSON for each figure. Needs CUDA, a GPU of
compute capability 8.0 or later, and Triton. Times are medians, in milliseconds; "over" is the ratio
to what the line names. Products of programmed chips run in the fused kernels; training programs
fresh arrays for every step, in torch operations.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import noisycells as nc
import noisycells.torch as nct
from noisycells.torch.crossbar import fused

DEVICE = "pcm_joshi2020"
NOISES = ("none", "output", "weight")
KERNELS = ("int16", "int8")
SHAPES = ((512, 1024, 1024), (4096, 4096, 4096))  # vectors, inputs, outputs
LIMIT = 480.0  # seconds, beyond which nothing new is begun
Row = dict[str, Any]


def missing() -> str | None:
    """What this machine lacks, or None."""
    if not torch.cuda.is_available():
        return "a GPU with CUDA, and torch built for it"
    if not fused.takes(torch.empty(0, device="cuda"), nc.CrossbarSpec()):
        return "compute capability 8.0 or later, and Triton"
    return None


def milliseconds(call: Callable[[], object], seconds: float = 2.0, most: int = 50) -> float:
    """Median time of a call, by the GPU's clock, after three to warm up."""
    for _ in range(3):
        call()
    times: list[float] = []
    end = time.monotonic() + seconds
    while len(times) < 5 or (len(times) < most and time.monotonic() < end):
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()  # type: ignore[no-untyped-call, unused-ignore]
        call()
        stop.record()  # type: ignore[no-untyped-call, unused-ignore]
        torch.cuda.synchronize()
        times.append(start.elapsed_time(stop))  # type: ignore[no-untyped-call, unused-ignore]
    return statistics.median(times)


def programmed(inputs: int, outputs: int, noise: str, kernel: str) -> nct.CrossbarLinear:
    """A layer of random weights on a chip, on the CPU."""
    torch.manual_seed(0)
    spec = nc.CrossbarSpec(read_noise=noise, kernel=kernel)
    layer = nct.CrossbarLinear(inputs, outputs, device=DEVICE, spec=spec, name="layer")
    layer.program(1)
    layer.at(3600.0)
    layer.eval()
    return layer


@torch.no_grad()
def bits() -> Iterator[Row]:
    """How many outputs have other bits than those of the CPU."""
    batch, inputs, outputs = 300, 1000, 1100
    key = torch.tensor([1, 2])
    for kernel in KERNELS:
        for noise in NOISES:
            layer = programmed(inputs, outputs, noise, kernel)
            x = torch.randn(batch, inputs)
            wanted = layer(x, key)
            differ = int((layer.cuda()(x.cuda(), key).cpu() != wanted).sum())
            yield {"bits": kernel, "noise": noise, "differ": differ, "of": wanted.numel()}
    convolution = nct.CrossbarConv2d(64, 96, 3, padding=1, device=DEVICE, name="layer")
    convolution.program(1)
    convolution.eval()
    x = torch.randn(16, 64, 32, 32)
    wanted = convolution(x, key)
    differ = int((convolution.cuda()(x.cuda(), key).cpu() != wanted).sum())
    yield {"bits": "int16 convolution", "noise": "weight", "differ": differ, "of": wanted.numel()}


@torch.no_grad()
def products() -> Iterator[Row]:
    """A layer's product over cuBLAS in bfloat16."""
    key = torch.tensor([1, 2])
    for batch, inputs, outputs in SHAPES:
        x = torch.randn(batch, inputs, device="cuda")
        plain, weight = x.bfloat16(), torch.randn(outputs, inputs, device="cuda").bfloat16()
        cublas = milliseconds(partial(F.linear, plain, weight))
        for kernel in KERNELS:
            for noise in NOISES:
                layer = programmed(inputs, outputs, noise, kernel).cuda()
                found = milliseconds(partial(layer, x, key))
                yield {
                    "product": [batch, inputs, outputs], "kernel": kernel, "noise": noise,
                    "ms": found, "cuBLAS bf16": cublas, "over": found / cublas,
                }  # fmt: skip


class Encoder(nn.Module):
    """Layers of BERT-base's sizes, 85 M weights, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            768, 12, 3072, dropout=0.0, activation="gelu", batch_first=True
        )
        self.layers = nn.TransformerEncoder(layer, 12, enable_nested_tensor=False)
        self.classes = nn.Linear(768, 10)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, 10) from (batch, tokens, 768)."""
        result: Tensor = self.classes(self.layers(x).mean(1))
        return result


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "ResNet-20": (nct.ResNet20, (128, 3, 32, 32)),
    "BERT-base": (Encoder, (32, 128, 768)),
}


def networks() -> Iterator[Row]:
    """Steps of training and forwards of a chip, over those of the plain network in float32."""
    for name, (make, shape) in NETWORKS.items():
        torch.manual_seed(0)
        x, y = torch.randn(shape, device="cuda"), torch.randint(10, shape[:1], device="cuda")
        plain = make().cuda()
        noisy = nct.convert(make(), DEVICE)
        nct.program(noisy, seed=1)
        noisy.cuda()
        for what, timed in (("forward", _forward), ("step", _step)):
            base, found = (milliseconds(timed(m, x, y), 10.0, 20) for m in (plain, noisy))
            yield {
                "network": name, "of": what, "ms": found, "plain float32": base,
                "over": found / base,
            }  # fmt: skip


def _forward(model: nn.Module, x: Tensor, y: Tensor) -> Callable[[], object]:
    model.eval()

    def call() -> object:
        with torch.no_grad():
            return model(x)

    return call


def _step(model: nn.Module, x: Tensor, y: Tensor) -> Callable[[], object]:
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)

    def call() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()

    return call


def main() -> None:
    """Print what is measured, and write all of it at the end."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    lacks = missing()
    if lacks is not None:
        sys.exit(f"bench.gpu: expected {lacks}; nothing was measured")
    machine = {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__}
    print(json.dumps(machine), flush=True)
    rows, start = [], time.monotonic()
    for row in (row for part in (bits, products, networks) for row in part()):
        rows.append(row)
        print(json.dumps(row), flush=True)
        if time.monotonic() - start > LIMIT:
            print(f"bench.gpu: stopped after {LIMIT:g} seconds", file=sys.stderr)
            break
    if given.output is not None:
        given.output.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
