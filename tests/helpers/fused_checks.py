"""The fused kernels against the core, on a GPU or under Triton's interpreter.

The interpreter has to be chosen before Triton is imported (TRITON_INTERPRET=1), so
tests/torch/test_fused.py runs these in a process of their own.
"""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
triton = pytest.importorskip("triton")

import triton.language as tl  # noqa: E402
from core_cases import same_bits  # noqa: E402
from product_cases import (  # noqa: E402
    INTEGER,
    NOISES,
    SEED,
    STREAM,
    Case,
    Layer,
    inputs,
    layer,
)

import noisycells as nc  # noqa: E402
import noisycells.torch as nct  # noqa: E402
from noisycells import reference  # noqa: E402
from noisycells.reference import crossbar as crossbar_reference  # noqa: E402
from noisycells.torch.crossbar import arrays, fused  # noqa: E402
from noisycells.torch.crossbar import fused_kernels as kernels  # noqa: E402

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
THERE = torch.device("cpu" if INTERPRETED else "cuda")
PCM = nc.devices.pcm_hermes()


def there(array: Any) -> Any:
    return torch.from_numpy(array).to(THERE)


def back(tensor: Any) -> Any:
    assert tensor.device.type == THERE.type
    return tensor.cpu().numpy()


def test_it_is_as_it_was_chosen() -> None:
    interpreted = type(kernels.multiply) is not triton.runtime.JITFunction
    assert interpreted is INTERPRETED


# --------------------------------------------------------------------------- random numbers

BLOCKS = 512


@triton.jit
def draw(
    out, normal, block, cell, stream_low, stream_high, seed_low, seed_high,
    PURPOSE: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """Words and normals of the blocks from ``block`` on."""
    i = tl.arange(0, N)
    w0, w1, w2, w3 = kernels.words(
        tl.load(block) + i, tl.load(cell), PURPOSE, stream_low, stream_high, seed_low, seed_high
    )
    z0, z1 = kernels.normals(w0, w1)
    z2, z3 = kernels.normals(w2, w3)
    tl.store(out + 4 * i, w0.to(tl.int32, bitcast=True))
    tl.store(out + 4 * i + 1, w1.to(tl.int32, bitcast=True))
    tl.store(out + 4 * i + 2, w2.to(tl.int32, bitcast=True))
    tl.store(out + 4 * i + 3, w3.to(tl.int32, bitcast=True))
    tl.store(normal + 4 * i, z0)
    tl.store(normal + 4 * i + 1, z1)
    tl.store(normal + 4 * i + 2, z2)
    tl.store(normal + 4 * i + 3, z3)


@triton.jit
def transform(radius_word, angle_word, first, second, N: tl.constexpr):
    i = tl.arange(0, N)
    radius = tl.load(radius_word + i).to(tl.uint32, bitcast=True)
    z0, z1 = kernels.normals(radius, tl.load(angle_word + i).to(tl.uint32, bitcast=True))
    tl.store(first + i, z0)
    tl.store(second + i, z1)


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1, 2**63 + 5, 2**64 - 1])
@pytest.mark.parametrize("offset", [0, 4096, 2**33 - 1024, 2**34 - 1024, 2**45, 2**46 - 4 * BLOCKS])
def test_words_and_normals_are_those_of_the_definition(seed: int, offset: int) -> None:
    for stream, purpose, cell in ((0, 0, 0), (2**32 - 1, 4, 1), (seed, 7, 65_535)):
        words = torch.empty(4 * BLOCKS, dtype=torch.int32, device=THERE)
        normals = torch.empty(4 * BLOCKS, device=THERE)
        draw[(1,)](
            words, normals, there(np.array([offset // 4])), there(np.array([cell], np.int32)),
            **fused.Draw(seed, stream).words(), PURPOSE=purpose, N=BLOCKS,
        )  # fmt: skip
        arguments = (4 * BLOCKS, seed, stream, offset, purpose, cell)
        same_bits(back(words).view(np.uint32), reference.random_words(*arguments))
        same_bits(back(normals), reference.standard_normal(*arguments))


def test_normals_of_the_core() -> None:
    normals = torch.empty(4 * BLOCKS, device=THERE)
    zero = torch.zeros(1, dtype=torch.int32, device=THERE)
    draw[(1,)](
        zero.expand(4 * BLOCKS).contiguous(), normals, zero.long(), zero,
        **fused.Draw(17, 3).words(), PURPOSE=0, N=BLOCKS,
    )  # fmt: skip
    same_bits(back(normals), nc.random.standard_normal(4 * BLOCKS, seed=17, stream=3))


def test_normals_of_words_at_every_edge() -> None:
    """Of the radius, of exponents and of quadrants; and 65,536 words in between."""
    edges = [0, 1, 2, 3, 2**32 - 1, 2**32 - 2]
    edges += [(top + e) % 2**32 for top in (1 << np.arange(32)).tolist() for e in (-2, -1, 0, 1, 2)]
    edges += [2 * 0x3504F3 << s for s in range(9)] + [
        k * 2**29 + e for k in range(8) for e in (0, 1)
    ]
    between = np.random.default_rng(0).integers(0, 2**32, 2**16 - len(edges) ** 2 % 2**16)
    pairs = np.array([*product(edges, edges)], np.uint64)
    words = [np.concatenate([pairs[:, i], np.roll(between, i)]).astype(np.uint32) for i in (0, 1)]
    count = len(words[0])
    assert count & (count - 1) == 0
    first, second = torch.empty(2, count, device=THERE)
    transform[(1,)](*(there(w.view(np.int32)) for w in words), first, second, N=count)
    wanted = reference.box_muller(*words)
    same_bits(back(first), wanted[0])
    same_bits(back(second), wanted[1])


# --------------------------------------------------------------------------- products


def array_of(case: Case, made: Layer | None = None) -> fused.Array:
    made = layer(case) if made is None else made
    s = made.spec
    planes = [
        crossbar_reference.Plane(
            crossbar_reference.plane_values(*made.polarities(p), made.inverse_span),
            made.variance[p] if s.weight_noise else None,
        )
        for p in range(len(case.planes))
    ]
    settings = fused.Settings(
        s.rows, s.dac_levels, s.slice_bits, s.adc_levels, s.steps, s.plane_factors,
        s.output_noise, s.weight_noise, s.int8, case.fixed, made.scale, made.row_scale,
    )  # fmt: skip
    return fused.Array(planes, settings, THERE)


def check(case: Case, x: Any = None, made: Layer | None = None) -> None:
    """Outputs and masks are those of the core."""
    made = layer(case) if made is None else made
    x = inputs(case) if x is None else x
    bias = None if made.bias is None else there(made.bias)
    y, inside = fused.product(
        there(x), array_of(case, made), bias, fused.Draw(SEED, STREAM), save=True
    )
    wanted_y, wanted_inside, _ = made.product(made.pack(), x)
    same_bits(back(y), wanted_y)
    if case.adc:
        assert inside is not None
        same_bits(back(inside), wanted_inside)
    else:
        assert inside is None


@pytest.mark.parametrize("kernel", INTEGER)
@pytest.mark.parametrize("noise", NOISES)
def test_outputs_of_every_width_of_noise(kernel: str, noise: str) -> None:
    """1, 16, 17, 32, 33 and 64 outputs end patches of normals; 130 are three blocks of them.

    Even ones have no ADC, behind which no rounding can hide.
    """
    for n in (1, 16, 17, 32, 33, 64, 130):
        check(Case(kernel, 5, n, 40, 16, adc=31 * (n % 2), noise=noise, bias=n % 3 == 1))


@pytest.mark.parametrize("kernel", INTEGER)
def test_more_vectors_than_a_program_takes(kernel: str) -> None:
    for batch, n in ((1, 3), (17, 20), (131, 66)):
        check(Case(kernel, batch, n, 7, 4, adc=31, noise="both"))


@pytest.mark.parametrize("kernel", INTEGER)
def test_tiles_of_many_heights(kernel: str) -> None:
    for rows, k in ((1, 3), (31, 64), (33, 67), (63, 65), (64, 200), (65, 131), (512, 513)):
        check(Case(kernel, 2, 3, k, rows, noise="weight", adc=127))


@pytest.mark.parametrize("kernel", INTEGER)
def test_the_largest_sums(kernel: str) -> None:
    """Equal inputs and weights over 512 rows: codes times 32767 or 127, squares times 255."""
    case = Case(kernel, 3, 2, 512, 512, noise="weight")
    ones = np.ones((1, 2, 512), np.float32)
    made = replace(layer(case), positive=ones, negative=0 * ones, variance=ones / 100)
    check(case, np.full((3, 512), [[1], [-1], [0.5]], np.float32), made)


@pytest.mark.parametrize("kernel", INTEGER)
def test_numbers_between_two_codes_round_to_even(kernel: str) -> None:
    """Inputs at all multiples of half a step of the DAC, and sums at those of the ADC."""
    case = Case(kernel, 41, 1, 1, 1, dac=64, adc=7, fixed=1.0)
    one = np.ones((1, 1, 1), np.float32)
    made = replace(
        layer(case), positive=one, negative=0 * one, inverse_span=1.0, scale=one[0, 0],
        steps=np.float32([2.0**-3]),
    )  # fmt: skip
    numbers = np.arange(-20, 21, dtype=np.float32)[:, None]
    check(case, numbers / 16, made)
    check(case._replace(adc=0), numbers / 128, replace(made, case=case._replace(adc=0)))


@pytest.mark.parametrize("kernel", INTEGER)
def test_converters(kernel: str) -> None:
    """DACs of every width, in slices and not, fixed and not; ADCs of several widths and none."""
    for bits, slice_bits in ((2, 0), (3, 1), (4, 3), (5, 4), (6, 5), (7, 3), (8, 0), (8, 1)):
        fixed = 1.5 if bits % 2 else None
        case = Case(kernel, 3, 5, 20, 11, 2 ** (bits - 1) - 1, slice_bits, 127, fixed=fixed)
        check(case._replace(noise=NOISES[bits % 4], row_scale=bits % 3 == 0))
    for adc in (0, 1, 3, 127, 32_767):
        check(Case(kernel, 9, 20, 33, 20, adc=adc, noise="both"))


@pytest.mark.parametrize("noise", ["none", "both"])
def test_planes_and_slices(noise: str) -> None:
    planes = ("+", "-", "+-")
    check(Case("int16", 5, 12, 40, 16, 127, 4, 63, noise, planes, row_scale=True, bias=True))
    check(Case("int8", 5, 12, 40, 16, 127, 0, 63, noise, planes, fixed=0.7))


def test_inputs_of_every_size() -> None:
    """Those whose full scale is tiny are enlarged; the smallest have few bits."""
    case = Case("int16", 9, 10, 40, 16, adc=31, noise="both", row_scale=True)
    for exponent in (-149, -140, -126, -97, -96, -95, 0, 100, 126):
        check(case, np.ldexp(inputs(case), exponent - 6).astype(np.float32))


def test_part_of_a_batch_has_the_noise_of_its_vectors() -> None:
    case = Case("int16", 40, 20, 40, 16, adc=31, noise="both")
    array, x = array_of(case), there(inputs(case))
    whole, inside = fused.product(x, array, None, fused.Draw(SEED, STREAM), save=True)
    part, marks = fused.product(x[13:], array, None, fused.Draw(SEED, STREAM, 13), save=True)
    assert inside is not None and marks is not None
    assert torch.equal(part, whole[13:]) and torch.equal(marks, inside[:, 13:])


def test_no_vectors() -> None:
    case = Case("int16", 3, 10, 40, 16, adc=31, noise="both")
    x = torch.empty(0, 40, device=THERE)
    y, inside = fused.product(x, array_of(case), None, fused.Draw(1, 2), save=True)
    assert y.shape == (0, 10)
    assert inside is not None and inside.shape == (3, 0, 2)


@pytest.mark.filterwarnings("ignore:invalid value")  # of numpy, which interprets
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("fixed", [None, 1.5])
def test_inputs_that_are_not_finite_are_refused(value: float, fixed: float | None) -> None:
    case = Case("int16", 5, 10, 40, 16, adc=31, fixed=fixed)
    x = there(inputs(case).copy())
    x[4, 39] = value
    with pytest.raises(ValueError, match=r"^x: expected finite values, got NaN or infinity"):
        fused.product(x, array_of(case), None, fused.Draw(1, 2), save=False)


# --------------------------------------------------------------------------- layers

SPECS = {
    "default": nc.CrossbarSpec(rows=16),
    "output noise": nc.CrossbarSpec(rows=16, read_noise="both", kernel="int8"),
    "polarity, slices": nc.CrossbarSpec(
        rows=16, adc_per="polarity", weight_slice_bits=(4, 4), input_slice_bits=4, mapping="row",
        adc_bits=4,
    ),
    "column, no ADC": nc.CrossbarSpec(
        rows=16, mapping="column", adc_bits=None, dac_range=0.8, read_noise="none",
        drift_compensation="column",
    ),
}  # fmt: skip
LAYERS = {
    "linear": (nct.CrossbarLinear, (37, 11), {}, (2, 3, 37)),
    "groups": (nct.CrossbarConv2d, (4, 6, 3), {"padding": 1, "groups": 2}, (2, 4, 3, 4)),
    "strides": (nct.CrossbarConv1d, (3, 5, 4), {"stride": 2, "dilation": 2}, (2, 3, 19)),
}


@pytest.fixture
def moved(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Moves a module to where the kernels take it; patches of one image at a time."""

    def move(module: Any) -> Any:
        monkeypatch.setattr(fused, "PATCH_ELEMENTS", 1)
        if INTERPRETED:  # for which tensors on the CPU pass as those of a GPU
            monkeypatch.setattr(arrays, "_core_takes", lambda x: False)
            monkeypatch.setattr(fused, "takes", lambda x, spec: spec.integer)
        return module.to(THERE)

    return move


@pytest.mark.parametrize("kind, sizes, options, shape", LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_layers_give_the_bits_of_the_core(
    kind: Any, sizes: Any, options: Any, shape: Any, spec: nc.CrossbarSpec, moved: Any
) -> None:
    """Of a programmed and aged chip: outputs and gradients of the inputs."""
    torch.manual_seed(0)
    module = kind(*sizes, device=PCM, spec=spec, name="a", **options)
    module.program(5)
    module.at(3600.0)
    module.eval()
    x = torch.randn(shape)
    wanted = outputs_and_gradients(module, x)
    found = outputs_and_gradients(moved(module), x.to(THERE))
    assert torch.equal(found[0], wanted[0])
    torch.testing.assert_close(found[1], wanted[1], rtol=1e-5, atol=1e-5)
    assert wanted[1].any()


def outputs_and_gradients(module: Any, x: Any) -> tuple[Any, Any]:
    x.requires_grad_()
    y = module(x, torch.tensor([3, -4]))
    y.square().sum().backward()
    return y.detach().cpu(), x.grad.cpu()


def test_calibrated_ranges_are_needed(moved: Any) -> None:
    spec = nc.CrossbarSpec(rows=16, adc_range="calibrated")
    module = nct.CrossbarLinear(37, 11, device=PCM, spec=spec, name="a")
    module.program(5)
    module.eval()
    with pytest.raises(ValueError, match=r"^adc_range: expected calibrate"):
        moved(module)(torch.randn(2, 37, device=THERE))
