"""Prints what Triton compiles the fused kernels to, for the GPUs named by argument: PTX.

In a process of its own, since Triton must not be interpreting. Needs no GPU.
"""

from __future__ import annotations

import sys

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from noisycells.torch.crossbar import fused_kernels as kernels

CONVERT = (
    "*fp32 *fp32 *i8 *i8 *i32 *i32 *fp32 *i32 i32 i32 i32 i32 i32 fp32 fp32",
    {"SLICES": 2, "SLICE_BITS": 4, "TILE": 64, "K": 64, "M": 4, "HAS_ROW": True, "FIXED": False,
     "SQUARES": True},
)  # fmt: skip
MULTIPLY = (
    "*i8 *i8 *i32 *i32 *fp32 *i8 *i8 *fp32 *fp32 *fp32 *fp32 *fp32 *fp32 *fp32 *u8"
    " i32 i32 i32 i32 i32 i32 i32 fp32 fp32 fp32 i32 i32 i32 i32",
    {"SLICES": 1, "TILE": 256, "M": 16, "N": 16, "K": 32, "WIDTH": 16, "NARROW": False,
     "OUTPUT_NOISE": True, "WEIGHT_NOISE": True, "ADC": True, "INSIDE": True, "BIAS": True},
)  # fmt: skip

if __name__ == "__main__":
    for architecture in map(int, sys.argv[1:]):
        for kernel, (types, constants) in (
            (kernels.convert, CONVERT),
            (kernels.multiply, MULTIPLY),
        ):
            names = kernel.arg_names
            listed = [*types.split(), *["constexpr"] * len(constants)]
            source = ASTSource(
                fn=kernel,
                signature=dict(zip(names, listed, strict=True)),
                constexprs={(names.index(n),): v for n, v in constants.items()},
            )
            target = GPUTarget("cuda", architecture, 32)
            options = {"num_warps": 4, "enable_fp_fusion": False}
            print(triton.compile(source, target=target, options=options).asm["ptx"])
