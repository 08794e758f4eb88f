"""Products of crossbars against reference.product: tiles, edges, slices, codes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import noisycells as nc
from noisycells import _core
from noisycells.reference import crossbar as reference

F32 = NDArray[np.float32]

DEVICE = nc.devices.gaussian(0.4, 0.03, read_std=0.5, g_min=1.0, g_max=20.0)


def arrays(n: int, k: int, batch: int, seed: int) -> tuple[F32, F32]:
    """Weights with some zeros and inputs with some zeros, of both signs."""
    g = np.random.default_rng(seed)
    w = g.normal(size=(n, k)) * (g.random((n, k)) > 0.1)
    x = g.normal(size=(batch, k)) * (g.random((batch, k)) > 0.1)
    return w.astype(np.float32), x.astype(np.float32)


def reference_spec(xb: nc.Crossbar) -> reference.Spec:
    """What reference.product is told, written down from the spec's documentation."""
    spec, ranges = xb.spec, xb.packed.ranges
    dac = 0 if spec.dac_bits is None else 2 ** (spec.dac_bits - 1) - 1
    adc = 0 if spec.adc_bits is None else 2 ** (spec.adc_bits - 1) - 1
    factors = []
    bits = spec.weight_slice_bits or (0,)
    for i, b in enumerate(bits):
        below = sum(bits[i + 1 :])
        factor = 1.0 if b == 0 else (2**b - 1) * 2**below / (2 ** sum(bits) - 1)
        factors += [factor] * (2 if spec.adc_per == "polarity" else 1)
    passes = xb.packed.passes
    return reference.Spec(
        rows=spec.rows,
        dac_levels=dac,
        slice_bits=spec.input_slice_bits or 0,
        adc_levels=adc,
        steps=np.ones(passes, np.float32) if ranges.adc is None else ranges.adc / np.float32(adc),
        plane_factors=np.array(factors, np.float32),
        output_noise=spec.output_noise if spec.read_noise in ("output", "both") else 0.0,
        weight_noise=spec.read_noise in ("weight", "both"),
        integer=spec.kernel != "float32" and 0 < dac <= 127 and spec.rows <= 512,
        int8=xb.packed.spec.kernel == "int8",
    )


def reference_planes(xb: nc.Crossbar) -> list[reference.Plane]:
    """From the conductances: summed over devices, as differences or each polarity."""
    spec, device = xb.spec, xb.device
    g = xb.conductances.sum(axis=1)
    span = spec.devices_per_polarity * (device.g_max - device.g_min)
    variance = np.float32(spec.devices_per_polarity * 0.5**2 / span**2)
    planes = []
    for plus, minus in g:
        if spec.adc_per == "polarity":
            values, count = [(plus, None), (None, minus)], 1
        else:
            values, count = [(plus, minus)], 2
        for sides in values:
            v = np.full(plus.shape, count * variance)
            planes.append(reference.Plane(reference.plane_values(*sides, 1 / span), v))
    return planes


def reference_result(xb: nc.Crossbar, x: F32, seed: int) -> reference.Result:
    scales = xb.layer.scales
    weighted = x if scales.row is None else x * scales.row
    ranges = reference.input_ranges(weighted, xb.packed.ranges.dac)
    return reference.product(
        x, reference_planes(xb), reference_spec(xb), ranges, scales.output,
        nc.random.key(seed, "crossbar read", xb.packed.chip), xb.stream, scales.row,
    )  # fmt: skip


@st.composite
def cases(draw: Any) -> tuple[nc.CrossbarSpec, int, int, int, int]:
    dac_bits = draw(st.sampled_from([None, 2, 5, 8, 11]))
    rows = draw(st.integers(1, 90))
    kernels = ["auto", "float32"]
    if dac_bits is not None and dac_bits <= 8:
        kernels += ["int16", "int8"]
    spec = nc.CrossbarSpec(
        rows=rows,
        dac_bits=dac_bits,
        dac_range=draw(st.sampled_from(["vector", 1.5, "calibrated"])),
        adc_bits=draw(st.sampled_from([None, 3, 8, 16])),
        adc_range=draw(st.sampled_from(["weights", 2.0, "calibrated"])),
        adc_per=draw(st.sampled_from(["difference", "polarity"])),
        read_noise=draw(st.sampled_from(["none", "output", "weight", "both"])),
        output_noise=draw(st.sampled_from([0.0, 0.1])),
        mapping=draw(st.sampled_from(["tensor", "column", "row"])),
        devices_per_polarity=draw(st.integers(1, 2)),
        weight_slice_bits=draw(st.sampled_from([None, (4, 4), (1, 3, 2)])),
        input_slice_bits=None if dac_bits is None else draw(st.sampled_from([None, 1, 3])),
        kernel=draw(st.sampled_from(kernels)),
    )
    n = draw(st.one_of(st.integers(1, 20), st.sampled_from([63, 64, 65, 130])))
    k = draw(st.one_of(st.integers(1, 200), st.sampled_from([rows, 2 * rows, 2 * rows + 1])))
    return spec, n, k, draw(st.integers(1, 5)), draw(st.integers(0, 2**32 - 1))


def programmed(spec: nc.CrossbarSpec, w: F32, seed: int) -> nc.Crossbar:
    xb = nc.Crossbar(w, DEVICE, spec, f"layer {seed}").program(seed)
    _, example = arrays(1, w.shape[1], 3, seed + 1)
    return xb.calibrate(example)


@settings(max_examples=120, deadline=None, derandomize=True)
@given(case=cases())
def test_products_are_those_of_the_reference(case: Any) -> None:
    """Exactly on the integer path; in float32 within rounding, or one step of each ADC."""
    spec, n, k, batch, seed = case
    w, x = arrays(n, k, batch, seed)
    xb = programmed(spec, w, seed)
    expected = reference_result(xb, x, seed ^ 5)
    y = xb.matmul(x, seed ^ 5)
    how = reference_spec(xb)
    if how.integer or nc.simd_level() not in ("baseline", "amx"):  # see reference.tile_sums
        np.testing.assert_array_equal(y, expected.y)
        report = xb.report(x, seed ^ 5)
        assert report["dac_clipping_percent"] == pytest.approx(100 * expected.clipped / x.size)
        assert report["adc_saturation_percent"] == pytest.approx(100 * (1 - expected.inside.mean()))
        return
    top = np.abs(x).max(axis=1) if xb.packed.ranges.dac is None else xb.packed.ranges.dac
    steps = float(how.steps.sum()) if how.adc_levels else 1e-5 * k
    assert np.abs(y - expected.y).max() <= 1.01 * float(np.max(top)) * steps * np.abs(w).max()


@pytest.mark.parametrize("read_noise", ["none", "both"])
@pytest.mark.parametrize("kernel", ["float32", "int16", "int8"])
def test_simd_levels(simd_level: str, kernel: str, read_noise: str) -> None:
    """Integer products have the same bits at every level; float32 ones differ by rounding."""
    w, x = arrays(70, 130, 9, 1)
    spec = nc.CrossbarSpec(
        rows=50, kernel=kernel, read_noise=read_noise, adc_bits=None if kernel == "float32" else 8
    )
    xb = programmed(spec, w, 3)
    expected = reference_result(xb, x, 4).y
    y = xb.matmul(x, 4)
    if kernel != "float32":
        np.testing.assert_array_equal(y, expected)
    else:
        np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_a_change_of_level_is_noticed() -> None:
    """Panels are laid out for one level; the array follows when it changes."""
    w, x = arrays(20, 30, 4, 1)
    xb = programmed(nc.CrossbarSpec(read_noise="both"), w, 3)
    before, first = nc.simd_level(), xb.matmul(x, 1)
    try:
        for level in nc.available_simd_levels():
            nc.set_simd_level(level)
            np.testing.assert_array_equal(xb.matmul(x, 1), first)
    finally:
        nc.set_simd_level(before)


@pytest.mark.parametrize("read_noise", ["none", "output", "weight"])
@pytest.mark.parametrize("kernel", ["float32", "int16"])
def test_threads_do_not_matter(kernel: str, read_noise: str) -> None:
    w, x = arrays(200, 300, 70, 1)
    spec = nc.CrossbarSpec(kernel=kernel, read_noise=read_noise)
    chips = [nc.Crossbar(w, DEVICE, spec).program(2, num_threads=t) for t in (1, 3)]
    np.testing.assert_array_equal(chips[0].conductances, chips[1].conductances)
    products = [chips[0].matmul(x, 1, num_threads=t) for t in (1, 2, 5)]
    np.testing.assert_array_equal(products[0], products[1])
    np.testing.assert_array_equal(products[0], products[2])


@pytest.mark.parametrize("slices", [None, 2])
@pytest.mark.parametrize("dac_range", ["vector", 2.0])
def test_convolution_is_a_product_of_patches(dac_range: Any, slices: int | None) -> None:
    """The same draws, ranges and masks as the product of the patches written out."""
    g = np.random.default_rng(0)
    w = g.normal(size=(9, 3, 2, 3)).astype(np.float32)
    x = g.normal(size=(2, 3, 7, 8)).astype(np.float32)
    stride, padding, dilation = (2, 1), (1, 2), (1, 2)
    height = (7 + 2 - 1 - 1) // 2 + 1
    width = 8 + 4 - 2 * 2
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (2, 2)))
    patches = np.empty((2, height, width, 3, 2, 3), np.float32)
    for i in range(height):
        for j in range(width):
            patches[:, i, j] = padded[:, :, 2 * i : 2 * i + 2, j : j + 5 : 2]
    spec = nc.CrossbarSpec(
        rows=7, read_noise="both", dac_range=dac_range, adc_bits=5, input_slice_bits=slices
    )
    packed = nc.Crossbar(w.reshape(9, 18), DEVICE, spec).program(1).packed
    bias = g.normal(size=9).astype(np.float32)
    flat = patches.reshape(-1, 18)
    expected, y = np.empty((len(flat), 9), np.float32), np.empty((2, 1, height, width, 9), "f")
    masks = packed.inside(len(flat)), packed.inside(len(flat))
    clipped = packed.product(flat, expected, 3, bias, masks[0])
    three = [(1, *kernel) for kernel in ((2, 3), stride)] + [(0, *padding), (1, *dilation)]
    convolution = _core.Convolution(*three)  # type: ignore[arg-type]
    found = packed.product(x[:, :, None], y, 3, bias, masks[1], convolution)
    np.testing.assert_array_equal(y.reshape(-1, 9), expected)
    np.testing.assert_array_equal(masks[0], masks[1])
    assert (found == clipped) and (clipped > 0) == (dac_range == 2.0)


# --------------------------------------------------------------------------- ideal


@pytest.mark.parametrize("mapping", ["tensor", "column", "row"])
@pytest.mark.parametrize("adc_per", ["difference", "polarity"])
@pytest.mark.parametrize("devices", [1, 3])
@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (65, 700), (300, 513)])
def test_ideal_is_the_product(
    shape: tuple[int, int], devices: int, adc_per: str, mapping: str
) -> None:
    w, x = arrays(*shape, 11, 6)
    spec = nc.CrossbarSpec(
        dac_bits=None, adc_bits=None, mapping=mapping, adc_per=adc_per,
        devices_per_polarity=devices,
    )  # fmt: skip
    xb = nc.Crossbar(w, nc.devices.ideal(), spec).program(1)
    exact = x.astype(np.float64) @ w.T.astype(np.float64)
    # Rounding of weights, of inputs and of sums of that many terms.
    bound = (np.abs(x).astype(np.float64) @ np.abs(w).T) * 2.0**-24 * (4 + np.sqrt(shape[1]))
    if mapping == "row" or adc_per == "polarity":
        bound += 2.0**-22 * np.abs(x).max(axis=1, keepdims=True) * np.abs(w).sum(axis=1)
    assert (np.abs(xb.matmul(x, 1) - exact) <= bound + 1e-30).all()
    np.testing.assert_allclose(xb.effective_weights(), w, rtol=1e-6, atol=1e-7 * np.abs(w).max())


def test_int8_rounds_as_stated() -> None:
    """By at most 1/254 of the largest conductance of an output's tile, a weight."""
    w, x = arrays(30, 100, 20, 2)
    spec = nc.CrossbarSpec(kernel="float32", adc_bits=None)
    exact, rounded = (
        nc.Crossbar(w, nc.devices.ideal(), replace(spec, kernel=kernel)).program(1).matmul(x, 1)
        for kernel in ("float32", "int8")
    )
    bound = np.abs(x).sum(axis=1, keepdims=True) * np.abs(w).max(axis=1) / 254
    error = np.abs(rounded - exact)
    assert (error <= 1.05 * bound).all()
    assert error.max() > 0.02 * bound.max()


# --------------------------------------------------------------------------- converters


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_codes(bits: int) -> None:
    """Outputs are integer codes times one step; the codes are those of exact integer sums."""
    g = np.random.default_rng(0)
    codes = g.integers(-32767, 32768, (6, 40))
    codes[:, 0] = 32767  # the largest of each output, so that packing keeps all codes
    w = (codes / 32767).astype(np.float32)
    inputs = g.integers(-127, 128, (50, 40))
    inputs[:, 1] = 127
    x = (inputs / 127).astype(np.float32)
    spec = nc.CrossbarSpec(rows=64, dac_bits=8, adc_bits=bits, adc_range=4.0)
    y = nc.Crossbar(w, nc.devices.ideal(), spec).program(1).matmul(x, 1)
    top = 2 ** (bits - 1) - 1
    sums = (inputs @ codes.T) / (127 * 32767)
    found = np.rint(y * top / 4.0)
    np.testing.assert_allclose(y, found * 4.0 / top, rtol=1e-6)
    exact = np.clip(sums * top / 4.0, -top, top)
    near_half = np.abs(np.abs(exact - np.floor(exact)) - 0.5) < 1e-3
    assert (found == np.rint(exact))[~near_half].all()
    assert np.abs(found).max() == top  # some saturate


def test_dac_clips_and_rounds() -> None:
    w = np.eye(4, dtype=np.float32)
    spec = nc.CrossbarSpec(dac_bits=3, dac_range=1.5, adc_bits=None, kernel="float32")
    xb = nc.Crossbar(w, nc.devices.ideal(), spec).program(1)
    x = np.array([[0.2, 0.3, -0.8, 9.0]], np.float32)
    np.testing.assert_allclose(xb.matmul(x, 1), [[0.0, 0.5, -1.0, 1.5]], atol=1e-6)
    assert xb.report(x)["dac_clipping_percent"] == 25


def test_range_of_each_vector() -> None:
    """The largest magnitude of each vector is full scale, so scaling it scales the product."""
    w, x = arrays(5, 40, 3, 1)
    xb = nc.Crossbar(w, DEVICE).program(1)
    np.testing.assert_array_equal(xb.matmul(4 * x, 1), 4 * xb.matmul(x, 1))
    assert xb.report(x)["dac_clipping_percent"] == 0


@pytest.mark.parametrize("adc_range", ["weights", 3.0, "calibrated"])
@pytest.mark.parametrize("dac_range", ["vector", 2.0, "calibrated"])
def test_ranges_do_not_depend_on_the_batch(adc_range: Any, dac_range: Any) -> None:
    """A vector's product does not change with the other vectors of its batch."""
    w, x = arrays(9, 70, 12, 1)
    spec = nc.CrossbarSpec(
        rows=32, adc_bits=4, adc_range=adc_range, dac_range=dac_range, read_noise="none"
    )
    xb = programmed(spec, w, 1)
    together = xb.matmul(x, 1)
    for i in range(len(x)):
        np.testing.assert_array_equal(xb.matmul(x[i], 1), together[i])


@pytest.mark.parametrize("slices", [None, 1, 2])
def test_calibration(slices: int | None) -> None:
    """Ranges are the largest of the example data, which then neither clips nor saturates."""
    w, x = arrays(9, 70, 40, 1)
    spec = nc.CrossbarSpec(
        rows=32, dac_range="calibrated", adc_range="calibrated", input_slice_bits=slices,
        kernel="float32",
    )  # fmt: skip
    xb = nc.Crossbar(w, DEVICE, spec).program(1)
    with pytest.raises(ValueError, match="dac_range: expected calibrate"):
        xb.matmul(x, 1)
    report = xb.calibrate(x).report(x)
    assert report["dac_clipping_percent"] == 0
    # Rounding apart, the largest sum of each pass is on the range itself.
    assert report["adc_saturation_percent"] <= 100 / (40 * 9)
    assert xb.packed.ranges.dac == np.abs(x).max()
    if slices is None:
        codes = np.rint(x / np.abs(x).max() * 127) / 127
        (plane,) = xb.packed.planes()
        for tile, found in zip(xb.packed.tiles, np.asarray(xb.packed.ranges.adc), strict=True):
            sums = codes[:, tile] @ plane.values[:, tile].T
            assert found == pytest.approx(np.abs(sums).max(), rel=1e-5)
    narrow = xb.calibrate(x, quantile=0.9).report(x)
    assert narrow["dac_clipping_percent"] == pytest.approx(10, abs=0.2)
    assert narrow["adc_saturation_percent"] > 1
    assert xb.program(2).packed.ranges.dac == np.quantile(np.abs(x), 0.9)  # stays


def test_range_from_weights() -> None:
    """4 standard deviations about the mean for uniform inputs; rarely and not never exceeded."""
    w, _ = arrays(40, 200, 1, 1)
    spec = nc.CrossbarSpec(rows=64, dac_bits=None, dac_range=1.0)
    g = np.random.default_rng(2)
    for adc_per in ("difference", "polarity"):
        xb = nc.Crossbar(w, DEVICE, replace(spec, adc_per=adc_per)).program(1)
        found = np.asarray(xb.packed.ranges.adc)
        expected = []
        for plane in xb.packed.planes():
            for tile in xb.packed.tiles:
                v = plane.values[:, tile].astype(np.float64)
                both = 4 * np.sqrt((v**2).sum(axis=1) / 3)
                positive = np.abs(v.sum(axis=1)) / 2 + 4 * np.sqrt((v**2).sum(axis=1) / 12)
                expected.append(max(both.max(), positive.max()))
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        for low in (-1, 0):
            x = g.uniform(low, 1, (2000, 200)).astype(np.float32)
            assert xb.report(x)["adc_saturation_percent"] < 0.05


def test_bit_serial_inputs_without_adc_are_the_whole() -> None:
    """Slices of the input add up to the input."""
    w, x = arrays(12, 90, 6, 1)
    spec = nc.CrossbarSpec(adc_bits=None, kernel="float32", read_noise="none")
    whole = nc.Crossbar(w, DEVICE, spec).program(1).matmul(x, 1)
    for bits in (1, 2, 3, 4, 7):
        sliced = replace(spec, input_slice_bits=bits)
        y = nc.Crossbar(w, DEVICE, sliced).program(1).matmul(x, 1)
        np.testing.assert_allclose(y, whole, atol=1e-5 * np.abs(whole).max())
