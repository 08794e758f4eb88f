"""Codec: the mapping, models, round trips, memory."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from codec_cases import heavy_tailed
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from noisycells import devices, reference
from noisycells.channel import Channel
from noisycells.storage import Codec, StoredModel
from noisycells.storage.ranges import make_range

NOISELESS = Channel.gaussian(0.0)
PCM = devices.get("synthetic_pcm")
STAND_IN = devices.get("gaussian_standin")
# Examples are derived from the test itself, so every run draws the same ones.
repeatable = settings(deadline=None, derandomize=True, max_examples=150)


# ----------------------------------------------------------------- the mapping


def test_no_scale_reaches_beyond_the_outputs() -> None:
    """In float32 as well: it is rounded towards zero, so that the largest weight is not cut off."""
    rng = np.random.default_rng(0)
    for low, width in rng.uniform(-1, 1, (200, 2)):
        exact = 1.4 / abs(width)
        made = make_range(1.0, (low, low + abs(width)), (-0.65, 0.75), 2, None)
        assert exact * (1 - 2.0**-23) <= made.alpha <= exact * (1 + 1e-12)
        assert made.beta == pytest.approx(made.alpha * low + 0.65, abs=1e-5)
        assert made.inv_alpha == np.float32(1 / made.alpha)
    narrow = make_range(1.0, (0.5, 0.5 + 1e-50), (-0.65, 0.75), 2, None)  # one weight alone
    assert narrow == (1.0, 0.0, np.float32(0.65), 0.0, 0.5, 2, None)
    assert make_range(1.0, (0.0, 1e-45), (-0.65, 0.75), 2, None).alpha <= 1e38


def test_scales_of_the_paper() -> None:
    """Weights in [-0.6, 0.6], threshold 0.05, outputs [-0.65, 0.75] (Isik et al. 2020)."""
    w = np.array([-0.6, -0.03, 0.01, 0.2, 0.6], np.float32)
    (signed,) = Codec(STAND_IN, sign_protection=False, adaptive_mapping=False).encode(w).ranges
    assert signed.alpha == pytest.approx(1.4 / 1.2)
    assert signed.beta == pytest.approx(-0.6 * 1.4 / 1.2 + 0.65, abs=1e-6)
    (protected,) = Codec(STAND_IN, adaptive_mapping=False).encode(w).ranges
    assert protected.alpha == pytest.approx(2 * signed.alpha)  # "twice as large"
    assert protected.beta == pytest.approx(0.65)
    small, large = Codec(STAND_IN, thresholds=0.05).encode(w).ranges
    assert small.alpha == pytest.approx(28.0)
    assert large.alpha == pytest.approx(1.4 / 0.55)
    assert large.beta == pytest.approx(0.05 * 1.4 / 0.55 + 0.65)
    assert (small.threshold, large.threshold) == pytest.approx((0.05, 0.6))
    small, large = Codec(STAND_IN, sign_protection=False, thresholds=0.05).encode(w).ranges
    assert small.alpha == pytest.approx(14.0)
    assert large.alpha == pytest.approx(signed.alpha)


def test_no_range_clips_and_all_are_used_fully() -> None:
    w = heavy_tailed(20_000)
    for sign in (True, False):
        codec = Codec(PCM, sign_protection=sign, ranges=3)
        stored = codec.encode(w)
        low, high = PCM.range
        lower = 0.0
        for r in stored.ranges:
            values = w[(np.abs(w) > lower) & (np.abs(w) <= r.threshold)].astype(np.float64)
            u = r.alpha * (np.abs(values) if sign else values) - r.beta
            assert u.min() >= low - 1e-6 and u.max() <= high + 1e-6
            lower = r.threshold
        assert u.max() == pytest.approx(high, abs=1e-5)


@pytest.mark.parametrize("write_bits", [None, 3, (2, 5, 4)])
@pytest.mark.parametrize("sign", [True, False])
def test_encoding_is_that_of_the_reference(sign: bool, write_bits: Any) -> None:
    w = heavy_tailed(5000)
    mask = np.random.default_rng(1).random(5000) < 0.7
    stored = Codec(PCM, sign_protection=sign, ranges=3, write_bits=write_bits).encode(w, mask)
    table, y0, inv_dy = PCM.inverse_table()
    ranges = tuple(reference.Range(*r) for r in stored.ranges)
    tables = reference.CodecTables(table, np.float32(y0), np.float32(inv_dy), ranges, sign)
    levels, side = reference.encode(w, mask, tables)
    assert stored.levels.dtype == levels.dtype and stored.levels.tobytes() == levels.tobytes()
    assert stored.side.tobytes() == side.tobytes()
    assert stored.mask is not None
    assert stored.mask.tobytes() == np.packbits(mask, bitorder="little").tobytes()
    assert stored.counts == tuple(
        int(((np.abs(w[mask]) > a) & (np.abs(w[mask]) <= b)).sum())
        for a, b in pairwise((-1.0, *(r.threshold for r in stored.ranges)))
    )


def test_writing_through_a_learnt_inverse() -> None:
    """Encoded with f of the learnt channel, read with the mean of the true one."""
    x = np.linspace(-1, 1, 257)
    true = Channel(x, np.sin(1.2 * x), 0.0)
    learnt = Channel(x, np.sin(1.2 * x) + 0.03 * np.cos(1.5 * x), 0.0)
    w = heavy_tailed(3000)
    codec = Codec(true, inverse=learnt, adaptive_mapping=False, sign_protection=False)
    stored = codec.encode(w)
    (r,) = stored.ranges
    assert r.alpha * (w.max() - w.min()) == pytest.approx(np.ptp(learnt.range), rel=1e-5)
    expected = (true.mean_at(learnt.inverse(r.alpha * w - r.beta, clip=True)) + r.beta) / r.alpha
    assert np.abs(stored.read(0) - expected).max() < 1e-5 * np.ptp(w)
    assert np.abs(stored.read(0) - w).max() > 1e-2 * np.ptp(w)


# ----------------------------------------------------------------- models


def test_scope_model_shares_the_mapping() -> None:
    weights = {"a": heavy_tailed(5000, 1), "b": 0.3 * heavy_tailed(4000, 2)}
    together = np.concatenate([weights["a"], weights["b"]])
    options: dict[str, Any] = {"mean_cells": 2.3, "write_bits": "auto"}
    model = Codec(PCM, scope="model", **options).encode(weights)
    assert model["a"].ranges == model["b"].ranges == Codec(PCM, **options).encode(together).ranges
    apart = Codec(PCM, scope="tensor", **options).encode(weights)
    assert apart["a"].ranges == Codec(PCM, **options).encode(weights["a"]).ranges
    assert apart["a"].ranges != apart["b"].ranges
    assert model.cost.mean_cells <= 2.3


def test_overrides_masks_sensitivities_by_name() -> None:
    weights = {"c1.weight": heavy_tailed(300), "f1.weight": heavy_tailed(400).reshape(20, 20)}
    shared, other = Codec(PCM, scope="model"), Codec(PCM, cells=5)
    mask = {"f1.weight": np.abs(weights["f1.weight"]) > 0.02}
    model = shared.encode(
        weights, mask, {"c1.weight": 2.0}, overrides={"c?.*": other}, digital={"f1.bias": [1.0, 2]}
    )
    assert list(model) == ["c1.weight", "f1.weight"] and len(model) == 2
    assert model["c1.weight"].codec is other and model["f1.weight"].codec is shared
    assert model["f1.weight"].stored == mask["f1.weight"].sum() and model["c1.weight"].mask is None
    assert model.digital["f1.bias"].tolist() == [1.0, 2.0]
    alone = other.encode(weights["c1.weight"], name="c1.weight")
    assert alone.ranges == model["c1.weight"].ranges
    everywhere = shared.encode(weights, "nonzero")
    assert all(tensor.mask is not None for tensor in everywhere.values())


def test_an_empty_model() -> None:
    model = Codec(PCM).encode({})
    assert isinstance(model, StoredModel) and model.read(0) == {}
    assert model.cost.total_cells == 0 and model.cost.per_stored == 0


# ----------------------------------------------------------------- round trips


@st.composite
def options(draw: st.DrawFn) -> dict[str, Any]:
    adaptive = draw(st.booleans())
    chosen: dict[str, Any] = {
        "sign_protection": draw(st.booleans()),
        "adaptive_mapping": adaptive,
    }
    if adaptive:
        chosen["ranges"] = draw(st.integers(2, 8))
    if draw(st.booleans()):
        chosen["mean_cells"] = draw(st.floats(1, 50))
    return chosen


shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=30)


@repeatable
@given(
    st.data(),
    st.sampled_from([np.float32, np.float64, np.float16]),
    options(),
    st.sampled_from([None, "nonzero", "random"]),
)
def test_noiseless_round_trip(
    data: st.DataObject, dtype: Any, chosen: dict[str, Any], masking: str | None
) -> None:
    top = float(dtype(data.draw(st.sampled_from([1e-3, 1.0, 1e4]))))
    elements = st.floats(-top, top, width=8 * np.dtype(dtype).itemsize)
    w = data.draw(hnp.arrays(dtype, shapes, elements=elements))
    w = np.where(np.abs(w) < 1e-29, 0, w).astype(dtype)  # all smaller ones together are refused
    mask: Any = masking
    kept = np.ones(w.shape, bool)
    if masking == "random":
        mask = kept = data.draw(hnp.arrays(bool, w.shape))
    elif masking == "nonzero":
        kept = w != 0
    codec = Codec(NOISELESS, **chosen)
    stored = codec.encode(w, mask, name="w")
    out = stored.read(7)
    assert out.shape == w.shape and out.dtype == np.float32
    single = w.astype(np.float32)
    assert not out[~kept].any()
    values = single[kept]
    span = float(np.ptp(np.append(values, 0))) if chosen["sign_protection"] else 0.0
    span = max(span, float(np.ptp(values)) if values.size else 0.0)
    error = np.abs(out[kept].astype(np.float64) - values)
    assert (error <= 1e-6 * span + 3e-7 * np.abs(values) + 1e-37).all()
    assert (codec.transmit(w, 7, mask, name="w") == out).all()
    assert stored.stored == kept.sum() == stored.cost.stored_weights
    assert stored.cost.original_weights == w.size


def test_noiseless_round_trip_through_a_curved_channel() -> None:
    quiet = Channel(PCM.x, PCM.mean, 0.0)
    w = heavy_tailed(50_000)
    for sign in (True, False):
        error = Codec(quiet, sign_protection=sign).encode(w).read(0) - w
        assert np.abs(error).max() < 1e-6 * np.ptp(w)


def test_write_bits_round_to_the_nearest_level() -> None:
    w = heavy_tailed(10_000)
    codec = Codec(NOISELESS, adaptive_mapping=False, write_bits=6)
    out = codec.encode(w).read(0)
    step = np.abs(w).max() / 63
    assert np.abs(out - w).max() <= step / 2 * (1 + 1e-5)
    assert len(np.unique(np.rint(np.abs(out) / step))) <= 64


@pytest.mark.parametrize("sign", [True, False])
@pytest.mark.parametrize("chosen", [{}, {"mean_cells": 2.5}, {"ranges": 4, "write_bits": "auto"}])
@pytest.mark.parametrize(
    "weights",
    [
        np.zeros(5),
        np.full(7, 0.3),
        np.full(7, -0.3),
        np.array(2.0),
        np.array([]),
        np.zeros((0, 3)),
        np.array([2e-30, -2e-30], np.float32),
        np.array([1e38, -1e38]),
        np.array([3.0, 3.0 + 2e-7], np.float32),
    ],
    ids=str,
)
def test_degenerate_tensors(weights: Any, chosen: dict[str, Any], sign: bool) -> None:
    stored = Codec(NOISELESS, sign_protection=sign, **chosen).encode(weights)
    out = stored.read(3)
    assert out.shape == weights.shape
    np.testing.assert_allclose(out, weights.astype(np.float32), rtol=1e-6, atol=1e-44)
    assert stored.cost.stored_weights == weights.size


def test_constant_weights_need_no_scale() -> None:
    """All weights equal: the range holds one value, which reads back without any noise."""
    for weights in (np.zeros(9, np.float32), np.full(9, 0.7, np.float32)):
        stored = Codec(PCM, sign_protection=False).encode(weights)
        assert (stored.read(1) == weights).all()
    assert (Codec(PCM).encode(np.zeros(9)).read(1) == 0).all()


def test_a_single_weight_above_the_threshold() -> None:
    w = np.append(np.full(1000, 0.01, np.float32), np.float32(5))
    small, large = Codec(PCM).encode(w).ranges
    assert small.threshold < 0.0125 and large.threshold == 5
    above = Codec(PCM, thresholds=9.0).encode(w)  # no weight is large
    assert above.counts == (1001, 0) and above.ranges[0].threshold == 5


def test_layouts_give_the_same_bits() -> None:
    w = heavy_tailed(60 * 40).reshape(60, 40)
    mask = np.abs(w) > 0.01
    codec = Codec(PCM, mean_cells=1.5)
    plain = codec.encode(w, mask)
    strided, strided_mask = np.zeros((120, 80), np.float32), np.zeros((120, 80), bool)
    strided[::2, ::2], strided_mask[::2, ::2] = w, mask
    frozen = w.copy()
    frozen.flags.writeable = False
    for weights, kept in (
        (strided[::2, ::2], strided_mask[::2, ::2]),
        (np.asfortranarray(w), np.asfortranarray(mask)),
        (frozen, mask),
        (w.astype(np.float64), mask),
        (w.astype(">f4"), mask),
        (w.tolist(), mask),
    ):
        other = codec.encode(weights, kept)
        assert other.levels.tobytes() == plain.levels.tobytes()
        assert other.side.tobytes() == plain.side.tobytes()
        assert other.ranges == plain.ranges and other.shape == (60, 40)


def test_half_precision_is_widened() -> None:
    w = heavy_tailed(100).astype(np.float16)
    assert Codec(PCM).encode(w).read(1).tobytes() == (
        Codec(PCM).encode(w.astype(np.float32)).read(1).tobytes()
    )


# ----------------------------------------------------------------- memory


@pytest.mark.parametrize("mask", [None, "nonzero"])
@pytest.mark.parametrize("chosen", [{}, {"mean_cells": 1.5, "write_bits": 4}])
def test_encode_and_read_allocate_little_beside_their_outputs(
    chosen: dict[str, Any], mask: str | None
) -> None:
    w = heavy_tailed(4_000_000)
    codec = Codec(PCM, **chosen)
    codec.encode(w[:1000]).read(0)  # what is made once
    tracemalloc.start()
    try:
        stored = codec.encode(w, mask)
        # Codes of several widths need room for the widest before their number is known.
        outputs = stored.levels.nbytes + stored.side.nbytes + w.size // 8
        assert tracemalloc.get_traced_memory()[1] < outputs + 4e6
        out = np.empty(w.shape, np.float32)
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        stored.read(1, out=out)
        assert tracemalloc.get_traced_memory()[1] < before + 1e6
        tracemalloc.reset_peak()
        stored.read(1, side_errors=True, out=out)
        assert tracemalloc.get_traced_memory()[1] < before + 8e6
    finally:
        tracemalloc.stop()
