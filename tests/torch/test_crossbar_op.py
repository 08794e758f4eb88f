"""``noisycells::crossbar_linear``: values, gradients, and how it composes with torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from operator_cases import SPECS, linear  # noqa: E402

import noisycells as nc  # noqa: E402
from noisycells.reference import crossbar as reference  # noqa: E402
from noisycells.torch.crossbar import gradient  # noqa: E402
from noisycells.torch.crossbar.circuit import describe  # noqa: E402
from noisycells.torch.crossbar.operator import fresh_product, programmed_product  # noqa: E402
from noisycells.torch.crossbar.patches import Geometry, patches  # noqa: E402

F = torch.nn.functional
PCM = nc.devices.pcm_joshi2020()
IDEAL = nc.CrossbarSpec(dac_bits=None, adc_bits=None, read_noise="none")
KEY = torch.tensor([3, -4])  # -4: the seed 2**64 - 4
# What torch itself warns about when it compiles.
torch_compiles = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")


def convolve(x: Any, w: Any, spec: Any, geometry: Geometry, groups: int = 1, key: Any = KEY) -> Any:
    circuit = describe(PCM, spec, "", geometry, groups)
    return fresh_product(x, w, None, key, None, circuit)


def seeds() -> tuple[int, int]:
    return 3, 2**64 - 4


# --------------------------------------------------------------------------- values


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_same_bits_as_a_crossbar(spec: nc.CrossbarSpec) -> None:
    torch.manual_seed(0)
    x, w = torch.randn(5, 37), torch.randn(9, 37)
    chip, read = seeds()
    expected = nc.Crossbar(w.numpy(), PCM, spec).program(chip).matmul(x.numpy(), read)
    assert np.array_equal(linear(x, w, spec=spec).numpy(), expected)


def test_ideal_equals_torch() -> None:
    torch.manual_seed(0)
    x, w, b = torch.randn(2, 3, 300), torch.randn(20, 300), torch.randn(20)
    y = linear(x, w, b, IDEAL, device=nc.devices.ideal())
    torch.testing.assert_close(y, F.linear(x, w, b), rtol=1e-5, atol=1e-4)


def test_convolution_is_a_product_of_patches() -> None:
    """Bit for bit, noise included."""
    torch.manual_seed(0)
    x, w = torch.randn(3, 4, 7, 6), torch.randn(5, 4, 3, 2)
    geometry = Geometry((3, 2), (2, 1), (1, 1), (1, 2))
    spec = nc.CrossbarSpec(rows=10, read_noise="both", adc_range=0.8)
    y = convolve(x, w, spec, geometry)
    rows = F.unfold(x, (3, 2), dilation=(1, 2), padding=1, stride=(2, 1)).transpose(1, 2)
    assert torch.equal(patches(x, geometry), rows.reshape(-1, 24))
    expected = linear(rows.reshape(-1, 24), w.flatten(1), spec=spec)
    assert y.shape == (3, 5, 4, 6)
    assert torch.equal(y.movedim(1, -1).reshape(-1, 5), expected)
    assert y.is_contiguous(memory_format=torch.channels_last)


def test_groups_are_arrays_of_their_own() -> None:
    torch.manual_seed(0)
    x, w = torch.randn(2, 6, 9), torch.randn(4, 3, 5)
    spec = nc.CrossbarSpec(rows=10, read_noise="output")
    y = convolve(x, w, spec, Geometry((5,), (1,), (0,), (1,)), groups=2)
    chip, read = seeds()
    for g in range(2):
        array = nc.Crossbar(w[2 * g : 2 * g + 2].flatten(1).numpy(), PCM, spec)
        rows = x[:, 3 * g : 3 * g + 3].unfold(2, 5, 1).transpose(1, 2).flatten(2)
        expected = array.program(chip).matmul(rows.contiguous().numpy(), read)
        assert np.array_equal(y[:, 2 * g : 2 * g + 2].transpose(1, 2).numpy(), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes(dtype: Any) -> None:
    torch.manual_seed(0)
    x, w = torch.randn(5, 37, dtype=dtype), torch.randn(9, 37, dtype=dtype)
    w.requires_grad_()
    y = linear(x, w, spec=IDEAL, device=nc.devices.ideal())
    assert y.dtype is dtype
    tolerance = {torch.bfloat16: 0.1, torch.float16: 0.02, torch.float64: 1e-9}[dtype]
    torch.testing.assert_close(y, F.linear(x, w), rtol=tolerance, atol=tolerance)
    y.sum().backward()
    assert w.grad is not None and w.grad.dtype is dtype


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_empty_batch(dtype: Any) -> None:
    x = torch.zeros(2, 0, 7, dtype=dtype, requires_grad=True)
    w = torch.ones(3, 7, dtype=dtype, requires_grad=True)
    y = linear(x, w)
    assert y.shape == (2, 0, 3)
    y.sum().backward()
    assert x.grad is not None and x.grad.shape == x.shape
    assert w.grad is not None and not w.grad.any()


def test_pure_in_the_key() -> None:
    x, w = torch.randn(4, 10), torch.randn(3, 10)
    spec = nc.CrossbarSpec(read_noise="output")
    same = linear(x, w, spec=spec)
    assert torch.equal(linear(x, w, spec=spec), same)
    assert not torch.equal(linear(x, w, spec=spec, key=torch.tensor([3, 5])), same)
    assert not torch.equal(linear(x, w, spec=spec, key=torch.tensor([2, -4])), same)
    one = linear(x, w, spec=spec, key=torch.tensor([7]))
    assert torch.equal(one, linear(x, w, spec=spec, key=torch.tensor([7, 7])))
    torch.manual_seed(1)
    first, second = (linear(x, w, spec=spec, key=None) for _ in range(2))
    assert not torch.equal(first, second)
    torch.manual_seed(1)
    assert torch.equal(linear(x, w, spec=spec, key=None), first)


# --------------------------------------------------------------------------- gradients


def expected_gradients(
    x: Any, w: Any, grad: Any, spec: nc.CrossbarSpec
) -> tuple[np.ndarray, np.ndarray]:
    """By the definition, pass by pass in float64, with the masks of reference.product."""
    chip, read = seeds()
    array = nc.Crossbar(w, PCM, spec).program(chip)
    packed = array.packed
    row = np.ones(w.shape[1], np.float32) if packed.scales.row is None else packed.scales.row
    planes = list(packed.planes())
    adc = packed.ranges.adc
    steps = np.ones(packed.passes) if adc is None else adc / np.float32(spec.adc_levels or 1)
    how = reference.Spec(
        spec.rows, spec.dac_levels, spec.input_slice_bits or 0, spec.adc_levels,
        steps.astype(np.float32), packed.plane_factors,
        spec.output_noise if spec.noisy_outputs else 0.0, spec.noisy_weights, spec.integer,
        packed.spec.kernel == "int8",
    )  # fmt: skip
    full_scale = reference.input_ranges(x * row, packed.ranges.dac)
    result = reference.product(
        x,
        planes,
        how,
        full_scale,
        packed.scales.output,
        nc.random.key(read, "crossbar read", packed.chip),
        array.stream,
        packed.scales.row,
    )
    codes = reference.dac(x * row, full_scale, spec.dac_levels).astype(np.float64)
    grad_x, grad_w = np.zeros(x.shape), np.zeros(w.shape)
    p = 0
    for shift, digit, factor in reference.input_slices(how):
        part = codes
        if spec.input_slice_bits:
            digits = (np.abs(codes).astype(int) >> shift) & digit
            part = np.sign(codes) * digits * (1 << shift)
        driven = part * full_scale[:, None] / (spec.dac_levels or 1) / row
        passed = factor
        if spec.input_slice_bits:  # the share of the codes' range that these digits cover
            passed = (min(digit, spec.dac_levels >> shift) << shift) / spec.dac_levels
        for q, plane in enumerate(planes):
            share = abs(packed.plane_factors[q]) * np.ones(w.shape)
            if spec.adc_per == "polarity":
                share = share * ((w >= 0) if q % 2 == 0 else (w < 0))
            weights = plane.values * packed.plane_factors[q]
            weights = weights * packed.scales.output[:, None] * row
            for tile in packed.tiles:
                passing = grad * result.inside[p]
                grad_x[:, tile] += passed * passing @ weights[:, tile]
                grad_w[:, tile] += share[:, tile] * (passing.T @ driven[:, tile])
                p += 1
    if spec.dac_levels:
        grad_x[np.abs(x * row) > full_scale[:, None]] = 0
    if spec.adc_bits:  # or the test would say nothing about the masks
        assert not result.inside.all() or spec.wire_resistance_ohm
    return grad_x, grad_w


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_gradients_by_the_definition(spec: nc.CrossbarSpec) -> None:
    torch.manual_seed(0)
    x, w = torch.randn(6, 37, requires_grad=True), torch.randn(11, 37, requires_grad=True)
    b = torch.randn(11, requires_grad=True)
    grad = torch.randn(6, 11)
    found = torch.autograd.grad(linear(x, w, b, spec), [x, w, b], grad)
    numbers = (t.detach().numpy() for t in (x, w, grad))
    for got, want in zip(found, expected_gradients(*numbers, spec), strict=False):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4 * np.abs(want).max())
    torch.testing.assert_close(found[2], grad.sum(0))


GEOMETRIES = {
    "1d": Geometry((5,), (2,), (3,), (1,)),
    "2d": Geometry((3, 2), (2, 1), (1, 0), (1, 2)),
    "3d": Geometry((2, 3, 1), (1, 2, 1), (1, 0, 0), (2, 1, 1)),
}


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_gradients_of_convolutions_are_those_of_patches(
    spec: nc.CrossbarSpec, geometry: Geometry
) -> None:
    torch.manual_seed(0)
    size = (9, 8, 5)[: len(geometry.kernel)]
    x = torch.randn(3, 4, *size, requires_grad=True)
    w = torch.randn(10, 4, *geometry.kernel, requires_grad=True)
    y = convolve(x, w, spec, geometry)
    rows = linear(patches(x, geometry), w.flatten(1), spec=spec)
    assert torch.equal(y.movedim(1, -1).reshape(rows.shape), rows)
    grad = torch.randn_like(y)
    found = torch.autograd.grad(y, [x, w], grad, retain_graph=True)
    # In torch operations, as on other devices.
    by_taps = gradient._weights_by_taps
    with mock.patch.object(gradient, "_weights_by_patches", by_taps):
        others = torch.autograd.grad(y, [x, w], grad)
    want = torch.autograd.grad(rows, [x, w], grad.movedim(1, -1).reshape(rows.shape))
    for got in (found, others):
        for one, expected in zip(got, want, strict=True):
            atol = 1e-5 * expected.abs().max().item()
            torch.testing.assert_close(one, expected, rtol=1e-5, atol=atol)


def test_gradients_that_are_not_needed_are_not_made() -> None:
    x, w = torch.randn(4, 10), torch.randn(3, 10, requires_grad=True)
    (of_w,) = torch.autograd.grad(linear(x, w).sum(), [w])
    x.requires_grad_()
    found = torch.autograd.grad(linear(x, w).sum(), [x, w])
    torch.testing.assert_close(found[1], of_w)
    (of_x,) = torch.autograd.grad(linear(x, w.detach()).sum(), [x])
    torch.testing.assert_close(found[0], of_x)


def test_weights_of_undriven_inputs_can_leave_zero() -> None:
    w = torch.randn(3, 5)
    w[:, 2] = 0
    w.requires_grad_()
    x = torch.rand(4, 5) + 0.5
    spec = nc.CrossbarSpec(mapping="row", adc_bits=None)
    (grad,) = torch.autograd.grad(linear(x, w, spec=spec).sum(), [w])
    torch.testing.assert_close(grad, x.sum(0).expand(3, 5), rtol=0.02, atol=0.02)


@pytest.mark.parametrize("mapping", ["tensor", "column"])
def test_gradcheck(mapping: str) -> None:
    """In float64, that is by torch operations, without what has no derivative."""
    torch.manual_seed(0)
    spec = nc.CrossbarSpec(rows=4, dac_bits=None, adc_bits=None, mapping=mapping)
    x = torch.randn(3, 10, dtype=torch.float64, requires_grad=True)
    w = torch.randn(5, 10, dtype=torch.float64, requires_grad=True)
    b = torch.randn(5, dtype=torch.float64, requires_grad=True)
    ideal = nc.devices.ideal()
    assert torch.autograd.gradcheck(lambda *a: linear(*a, spec, device=ideal), (x, w, b))
    image = torch.randn(2, 4, 5, 4, dtype=torch.float64, requires_grad=True)
    kernel = torch.randn(6, 2, 3, 2, dtype=torch.float64, requires_grad=True)
    circuit = describe(ideal, spec, "", Geometry((3, 2), (2, 1), (1, 1), (1, 2)), 2)
    assert torch.autograd.gradcheck(
        lambda x, w: fresh_product(x, w, None, KEY, None, circuit), (image, kernel)
    )


# --------------------------------------------------------------------------- torch's subsystems


def operator_arguments(save: bool) -> list[tuple[Any, ...]]:
    x = torch.randn(6, 3, 10).transpose(0, 1).requires_grad_(save)
    w = torch.randn(10, 7).T.requires_grad_(save)
    b = torch.randn(7, requires_grad=save)
    image = torch.randn(2, 4, 5, 6).to(memory_format=torch.channels_last).requires_grad_(save)
    kernel = torch.randn(6, 2, 3, 3, requires_grad=save)
    spec = nc.CrossbarSpec(rows=4)
    circuit = describe(PCM, spec, "", Geometry((3, 3), (1, 2), (1, 0), (1, 1)), 2)
    return [
        (x, w, b, KEY, None, describe(PCM, spec), save),
        (x.float(), w, None, KEY, None, describe(PCM, IDEAL), save),
        (image, kernel, None, KEY, None, circuit, save),
    ]


@pytest.mark.parametrize("save", [False, True])
@pytest.mark.parametrize("case", range(3))
def test_opcheck(save: bool, case: int) -> None:
    arguments = operator_arguments(save)[case]
    operator = torch.ops.noisycells.crossbar_linear.default
    torch.library.opcheck(operator, arguments)
    x, w, _, _, _, circuit, _ = arguments
    y, planes, inside = operator(*arguments[:-1], True)
    for needs in ((True, True), (True, False), (False, True)):
        torch.library.opcheck(
            torch.ops.noisycells.crossbar_gradient.default,
            (torch.randn_like(y), x.detach(), planes.detach(), inside, w.detach(), None, None,
             circuit, *needs),
        )  # fmt: skip


@pytest.mark.parametrize("save", [False, True])
@pytest.mark.parametrize("mapping", ["tensor", "row"])
def test_opcheck_of_programmed_arrays(save: bool, mapping: str) -> None:
    spec = nc.CrossbarSpec(rows=4, mapping=mapping)
    packed = nc.Crossbar(torch.randn(7, 10).numpy(), PCM, spec).program(1).packed
    chip = [
        torch.from_numpy(packed.conductances.copy())[None],
        torch.from_numpy(packed.scales.output)[None],
        torch.tensor([[-1.0, *packed.ranges.adc]]),
    ]
    if packed.scales.row is not None:
        chip.append(torch.from_numpy(packed.scales.row)[None])
    x = torch.randn(3, 10, requires_grad=save)
    arguments = (x, chip, None, KEY, describe(PCM, spec), -1, save)
    torch.library.opcheck(torch.ops.noisycells.programmed_linear.default, arguments)
    y = programmed_product(x.detach(), chip, None, KEY, describe(PCM, spec), -1)
    array = nc.Crossbar(packed_weight(packed), PCM, spec)
    assert y.shape == (3, array.weight.shape[0])


def packed_weight(packed: Any) -> np.ndarray:
    return packed.effective_weights()


@torch_compiles
@pytest.mark.parametrize("backend", ["inductor", "aot_eager"])
def test_compile(backend: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 10, requires_grad=True)
    w, b = torch.randn(3, 10, requires_grad=True), torch.randn(3, requires_grad=True)
    spec = nc.CrossbarSpec(rows=4, read_noise="both")

    def run(x: Any, w: Any, b: Any, key: Any) -> Any:
        return linear(x, w, b, spec, key).relu()

    compiled = torch.compile(run, fullgraph=True, backend=backend)
    grad = torch.randn(4, 3)
    for key in (KEY, torch.tensor([1, 2])):
        expected, found = run(x, w, b, key), compiled(x, w, b, key)
        assert torch.equal(expected, found)
        for got, want in zip(
            torch.autograd.grad(found, [x, w, b], grad),
            torch.autograd.grad(expected, [x, w, b], grad),
            strict=True,
        ):
            torch.testing.assert_close(got, want)


@torch_compiles
def test_compile_without_a_key() -> None:
    x, w = torch.randn(4, 10), torch.randn(3, 10)
    spec = nc.CrossbarSpec(read_noise="output")
    compiled = torch.compile(lambda x, w: linear(x, w, spec=spec, key=None), fullgraph=True)
    assert not torch.equal(compiled(x, w), compiled(x, w))


def test_vmap_over_keys_is_a_batch_of_chips() -> None:
    torch.manual_seed(0)
    x, w = torch.randn(4, 10), torch.randn(3, 10, requires_grad=True)
    spec = nc.CrossbarSpec(rows=4, read_noise="both")
    keys = torch.arange(6).reshape(3, 2)
    y = torch.func.vmap(lambda key: linear(x, w, spec=spec, key=key))(keys)
    one_by_one = torch.stack([linear(x, w, spec=spec, key=key) for key in keys])
    assert torch.equal(y, one_by_one)
    (got,) = torch.autograd.grad(y.square().sum(), [w])
    (want,) = torch.autograd.grad(one_by_one.square().sum(), [w])
    torch.testing.assert_close(got, want)


def test_vmap_over_inputs_and_weights() -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 2, 10, requires_grad=True)
    w = torch.randn(10, 2, 3, requires_grad=True)
    keys = torch.arange(4).reshape(2, 2)

    def run(x: Any, w: Any, key: Any) -> Any:
        return linear(x, w.T, key=key)

    y = torch.func.vmap(run, in_dims=(1, 1, 0), out_dims=1)(x, w, keys)
    one_by_one = torch.stack([run(x[:, i], w[:, i], keys[i]) for i in range(2)], 1)
    assert torch.equal(y, one_by_one)
    for got, want in zip(
        torch.autograd.grad(y.square().sum(), [x, w]),
        torch.autograd.grad(one_by_one.square().sum(), [x, w]),
        strict=True,
    ):
        torch.testing.assert_close(got, want)


def test_autocast() -> None:
    x, w = torch.randn(4, 10), torch.randn(3, 10, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        hidden = F.linear(x, torch.eye(10))
        assert hidden.dtype is torch.bfloat16
        y = linear(hidden, w)
    assert y.dtype is torch.bfloat16
    y.float().sum().backward()
    assert w.grad is not None and w.grad.dtype is torch.float32


def test_checkpointing_draws_the_same_noise_again() -> None:
    from torch.utils.checkpoint import checkpoint

    x, w = torch.randn(4, 10), torch.randn(10, 10, requires_grad=True)

    def run(x: Any) -> Any:
        return linear(linear(x, w, key=None).relu(), w, key=None).square().sum()

    grads = []
    for wrapped in (run, lambda x: checkpoint(run, x, use_reentrant=False)):
        torch.manual_seed(2)
        grads.append(torch.autograd.grad(wrapped(x), [w])[0])
    assert torch.equal(grads[0], grads[1])


# --------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x, w: linear(x[:, :3], w), ValueError, r"x: expected shape \(\.\.\., 10\)"),
        (lambda x, w: linear(x.int(), w), TypeError, "x: expected a floating-point"),
        (lambda x, w: linear(x, w.int()), TypeError, "weight: expected a floating-point"),
        (lambda x, w: linear(x, w[0]), ValueError, r"weight: expected shape \(out, in\)"),
        (lambda x, w: linear(x, w[:0]), ValueError, "weight: expected at least one"),
        (lambda x, w: linear(x, w.double()), TypeError, "x: expected the dtype of the weight"),
        (lambda x, w: linear(x, w, torch.ones(2)), ValueError, r"bias: expected shape \(3,\)"),
        (lambda x, w: linear(x, w, key=torch.ones(3)), ValueError, "key: expected an int64"),
        (lambda x, w: linear(x / 0, w), ValueError, "x: "),
        (lambda x, w: linear(x, w / 0), ValueError, "weight: expected finite"),
        (lambda x, w: linear(x.double() / 0, w.double()), ValueError, "x: expected finite"),
        (lambda x, w: linear(x.double(), w.double() / 0), ValueError, "weight: expected finite"),
        (
            lambda x, w: linear(x, w, spec=nc.CrossbarSpec(dac_range="calibrated")),
            ValueError,
            "dac_range: expected calibrate",
        ),
        (
            lambda x, w: linear(
                x.double(), w.double(), spec=nc.CrossbarSpec(adc_range="calibrated")
            ),
            ValueError,
            "adc_range: expected calibrate",
        ),
        (lambda x, w: linear(x, w, device=nc.devices.pcm_array()), TypeError, "device: "),
        (lambda x, w: linear(x, w, spec=8), TypeError, "spec: "),
    ],
)
def test_bad_input(call: Callable[..., Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(torch.ones(2, 10), torch.ones(3, 10))
