"""Prints what Triton compiles products to, as PTX, for the GPUs named by argument.

In a process of its own, since Triton must not be interpreting. Needs no GPU: launches are caught,
and their kernels compiled for the arguments that they have.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from noisycells.reference.crossbar import Plane
from noisycells.torch.crossbar import fused
from noisycells.torch.crossbar import fused_kernels as kernels

TYPES = {
    torch.float32: "*fp32", torch.int32: "*i32", torch.int8: "*i8", torch.uint8: "*u8",
    int: "i32", float: "fp32",
}  # fmt: skip
OPTIONS = ("enable_fp_fusion", "num_warps")


class Compiled:
    """Takes launches of a kernel, and prints its PTX instead."""

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        return self.launch

    def launch(self, *arguments: Any, **named: Any) -> None:
        names = self.kernel.arg_names
        options = {name: named.pop(name) for name in OPTIONS if name in named}
        given = dict(zip(names, arguments, strict=False)) | named
        types = {
            name: "constexpr" if name.isupper() else TYPES[getattr(v, "dtype", type(v))]
            for name, v in given.items()
        }
        source = ASTSource(
            fn=self.kernel,
            signature={name: types[name] for name in names},
            constexprs={(names.index(n),): v for n, v in given.items() if n.isupper()},
        )
        for architecture in map(int, sys.argv[1:]):
            target = GPUTarget("cuda", architecture, 32)
            print(triton.compile(source, target=target, options=options).asm["ptx"])


class Kernels:
    convert = Compiled(kernels.convert)
    multiply = Compiled(kernels.multiply)


def multiply(noise: float, weight_noise: bool, slice_bits: int, int8: bool) -> None:
    """A small product."""
    ones = np.ones((5, 40), np.float32)
    settings = fused.Settings(
        64, 127, slice_bits, 31 * weight_noise, np.ones(4 if slice_bits else 1, np.float32),
        np.ones(1, np.float32), noise, weight_noise, int8, None if weight_noise else 1.0,
        ones[:, 0], ones[0] if weight_noise else None,
    )  # fmt: skip
    array = fused.Array([Plane(ones, ones)], settings, torch.device("cpu"))
    x, bias = torch.zeros(16, 40), torch.zeros(5) if weight_noise else None
    fused._multiply(fused._convert(x, array), array, bias, fused.Draw(1, 2), *outputs(array))


def outputs(array: fused.Array) -> tuple[torch.Tensor, torch.Tensor | None]:
    inside = torch.empty(array.passes, 16, 1, dtype=torch.uint8)
    return torch.empty(16, 5), inside if array.settings.adc_levels else None


if __name__ == "__main__":
    fused._kernels = lambda: Kernels  # type: ignore[assignment, return-value]
    multiply(0.04, True, 2, False)
    multiply(0.04, False, 0, True)
