"""Cases of computing on crossbars: products, programming, both together.

Products are those of :class:`~noisycells.crossbar.packed.Packed` with tiles of 256 rows, 8-bit
DAC and ADC: without noise ("ADC only"), with noise of the outputs, and with the exact noise of
every device in every read. They are measured at the SIMD level in use and, where that has
instructions of its own for integer products, at AVX-512 too, for which the goals are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from noisycells import devices
from noisycells._types import F32
from noisycells.crossbar import CrossbarSpec, Packed, Ranges, mapping
from noisycells.random import stream
from noisycells.speed.cases import ROWS, linear, matmul
from noisycells.speed.timing import Call, Contenders, blas, torch_or_none

from .. import rivals
from .case import Case, Field, Job, Work

__all__ = ["CASES", "Shape"]

MODES = {"ADC only": "none", "output noise": "output", "weight noise": "weight"}
KERNELS = ("int16", "float32", "int8")
LEAST_BATCH = 64  # what short runs shrink batches to
RESNET18 = (4096, 2734)  # as many weights as ResNet-18 has, 11.2 M
STREAM = stream("bench", "crossbar")


class Shape(NamedTuple):
    """Of a product."""

    batch: int
    inputs: int
    outputs: int

    def shrunk(self, by: int) -> Shape:
        """With a smaller batch."""
        return self._replace(batch=max(self.batch // by, min(self.batch, LEAST_BATCH)))

    def __str__(self) -> str:
        return "x".join(map(str, self))


# --------------------------------------------------------------------------- products


def conductances(n: int, k: int) -> tuple[mapping.Layer, F32]:
    """Normal weights (n, k), mapped, and the conductances of one chip of PCM."""
    weights = np.random.default_rng(6).standard_normal((n, k), np.float32)
    spec = CrossbarSpec(rows=ROWS, mapping="tensor")
    layer = mapping.Layer.of(weights, spec)
    return layer, mapping.program(layer, device(), spec, 1, STREAM)


def device() -> devices.Device:
    """Of all cases: PCM, with read noise."""
    return devices.pcm_joshi2020()


def spec_of(kernel: str, mode: str) -> CrossbarSpec:
    """8-bit converters, tiles of 256 rows, one scale, which is what the rivals do."""
    return CrossbarSpec(rows=ROWS, kernel=kernel, read_noise=MODES[mode], mapping="tensor")


def products(shape: Shape, levels: Sequence[str]) -> Field:
    """All kernels and modes, torch, numpy, and the same job tile by tile in torch."""
    batch, k, n = shape
    x = np.random.default_rng(7).standard_normal((batch, k), np.float32)
    layer, g = conductances(n, k)
    ranges = Ranges()
    jobs: list[Job] = []
    others: Contenders = {}

    def packed(kernel: str, mode: str) -> Packed:
        return Packed(g, device(), spec_of(kernel, mode), layer.scales, ranges, stream=STREAM)

    ideal = packed("float32", "ADC only")
    ranges = ideal.ranges  # found once for all
    weights = ideal.effective_weights()
    for level, kernel, mode in _ways(levels):
        array, y = packed(kernel, mode), np.empty((batch, n), np.float32)
        jobs.append(Job(
            f"{kernel} {mode}", product(array, x, y),
            ("F.linear", "np.matmul", f"tile by tile, {mode}"), level, work(shape, kernel, mode),
        ))  # fmt: skip
    if torch := torch_or_none():
        others["F.linear"] = linear(torch, x, weights)
        for mode in MODES:
            array = packed("float32", mode)
            others[f"tile by tile, {mode}"] = rivals.tile_by_tile(torch, x, array)
    if blas() is None:
        return Field(jobs, others, {"np.matmul": "threadpoolctl not installed"})
    return Field(jobs, others | {"np.matmul": matmul(x, weights)}, pools=("np.matmul",))


def _ways(levels: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """(level, kernel, mode): all at the first level, int16 alone at others."""
    for level in levels:
        for kernel in KERNELS if level == levels[0] else KERNELS[:1]:
            for mode in MODES:
                yield level, kernel, mode


def product(array: Packed, x: F32, y: F32) -> Call:
    """Always with the same noise."""

    def call() -> F32:
        array.product(x, y, 1)
        return y

    return call


def work(shape: Shape, kernel: str, mode: str) -> Work:
    """Of one product; weight noise takes a second one, of squares."""
    batch, k, n = shape
    size = {"int16": 2, "float32": 4, "int8": 1}[kernel]
    exact = mode == "weight noise"
    variances = (4 if kernel == "float32" else 2) if exact else 0
    return Work(
        kernel,
        operations=2 * batch * k * n * (2 if exact else 1),
        reads=4 * batch * k + (size + variances) * k * n,
        writes=4 * batch * n,
        draws=0 if mode == "ADC only" else batch * n * math.ceil(k / ROWS),
    )


# --------------------------------------------------------------------------- programming


def programming(n: int, k: int) -> Field:
    """Both devices of each weight."""
    layer, g = conductances(n, k)
    pcm, spec = device(), CrossbarSpec(rows=ROWS, mapping="tensor")

    def ours() -> F32:
        return mapping.program(layer, pcm, spec, 1, STREAM, out=g)

    others: Contenders = {}
    if torch := torch_or_none():
        weights, inverse = layer.slices[0], float(layer.inverse[0])
        for name, tuned in (("torch", False), ("torch tuned", True)):
            others[name] = rivals.programming(torch, weights, inverse, pcm.g_max, tuned)
    size = n * k
    limit = Work("", 0, reads=4 * size, writes=8 * size, draws=2 * size)
    return Field([Job("two devices a weight", ours, ("torch", "torch tuned"), work=limit)], others)


def fresh(shape: Shape, levels: Sequence[str]) -> Field:
    """Program, pack and multiply, as every step of training does."""
    batch, k, n = shape
    x = np.random.default_rng(7).standard_normal((batch, k), np.float32)
    layer, g = conductances(n, k)
    pcm, y = device(), np.empty((batch, n), np.float32)

    def call(spec: CrossbarSpec) -> Call:
        def ours() -> F32:
            mapping.program(layer, pcm, spec, 1, STREAM, out=g)
            Packed(g, pcm, spec, layer.scales, stream=STREAM).product(x, y, 1)
            return y

        return ours

    others: Contenders = {}
    if torch := torch_or_none():
        others["F.linear"] = linear(torch, x, layer.slices[0])
        others["W + s randn"] = rivals.noisy_linear(torch, x, layer.slices[0])
    jobs = [
        Job(f"{kernel} ADC only", call(spec_of(kernel, "ADC only")),
            ("F.linear", "W + s randn"), level, fresh_work(shape, kernel))
        for level in levels
        for kernel in (KERNELS if level == levels[0] else KERNELS[:1])
    ]  # fmt: skip
    return Field(jobs, others)


def fresh_work(shape: Shape, kernel: str) -> Work:
    """Of one product with new devices."""
    once, size = work(shape, kernel, "ADC only"), shape.inputs * shape.outputs
    return once._replace(reads=once.reads + 4 * size, writes=once.writes + 8 * size, draws=2 * size)


def _case(shape: Shape, kind: str, title: str = "", full: bool = False) -> Case:
    return Case(
        str(shape), title or str(shape), kind,
        lambda shrink, levels: products(shape.shrunk(shrink), levels), full,
    )  # fmt: skip


LARGE = Shape(512, 1024, 1024)  # of the guard
CASES: tuple[Case, ...] = (
    _case(Shape(64, 512, 512), "batch"),
    _case(LARGE, "batch"),
    _case(Shape(512, 4096, 4096), "batch", full=True),
    _case(Shape(100_352, 576, 64), "convolution", "100352x576x64 (conv)"),
    _case(Shape(1, 1024, 1024), "vector"),
    _case(Shape(1, 4096, 4096), "vector", full=True),
    Case(
        "fresh", f"program, pack, {LARGE}", "fresh",
        lambda shrink, levels: fresh(LARGE.shrunk(shrink), levels),
    ),
    Case(
        "program", "program 11.2 M weights", "program",
        lambda shrink, _: programming(max(RESNET18[0] // shrink, 1), RESNET18[1]),
    ),
)  # fmt: skip
