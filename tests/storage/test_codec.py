"""Codec: mapping, automatic choices against brute force, round trips, errors."""

from __future__ import annotations

import json
import math
import re
import tracemalloc
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from noisycells import devices, reference
from noisycells.channel import Channel
from noisycells.storage import Codec, Redundancy, StoredModel, StoredTensor, thresholds
from noisycells.storage.redundancy import allocate

NOISELESS = Channel.gaussian(0.0)
PCM = devices.get("synthetic_pcm")
STAND_IN = devices.get("gaussian_standin")
D2D = Channel(PCM.x, PCM.mean, PCM.std, d2d_std=0.05)

# Examples are derived from the test itself, so every run draws the same ones.
repeatable = settings(deadline=None, derandomize=True, max_examples=150)


def heavy_tailed(size: int, seed: int = 0) -> NDArray[np.float32]:
    return (np.random.default_rng(seed).standard_t(4, size) * 0.02).astype(np.float32)


# ----------------------------------------------------------------- the mapping


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


# ----------------------------------------------------------------- automatic choices


def squared_error(
    channel: Channel,
    w: NDArray[Any],
    thresholds: tuple[float, ...],
    cells: tuple[int, ...],
    sensitivity: NDArray[Any] | float = 1.0,
    sign: bool = True,
) -> float:
    """Expected sum of squared errors, weight by weight."""
    low, high = channel.range
    magnitude, total = np.abs(w.astype(np.float64)), 0.0
    for (a, b), r in zip(pairwise((0.0, *thresholds, magnitude.max())), cells, strict=True):
        inside = (magnitude > a) & (magnitude <= b)
        bottom, top = (a, b) if sign else (max(-b, w.min()), min(b, w.max()))
        value = magnitude[inside] if sign else w[inside]
        alpha = (high - low) / (top - bottom)
        sigma2 = channel.std_at(channel.inverse(alpha * (value - bottom) + low, clip=True)) ** 2
        h = np.broadcast_to(sensitivity, w.shape)[inside]
        total += float((h * (sigma2 / r + channel.d2d_std**2)).sum()) / alpha**2
    return total


@pytest.mark.parametrize("channel", [PCM, STAND_IN, D2D], ids=lambda c: f"{c.name}-{c.d2d_std}")
@pytest.mark.parametrize("sign", [True, False])
@pytest.mark.parametrize("shape", ["student", "normal", "uniform", "pruned"])
def test_threshold_is_within_two_percent_of_the_best(
    channel: Channel, sign: bool, shape: str
) -> None:
    rng = np.random.default_rng(3)
    w = {
        "student": rng.standard_t(4, 5000),
        "normal": rng.standard_normal(5000) + 0.1,
        "uniform": rng.uniform(-1, 1, 5000),
        "pruned": (lambda v: v[np.abs(v) > 1])(rng.laplace(size=15_000)),
    }[shape].astype(np.float32)
    stored = Codec(channel, sign_protection=sign, cells=(2, 3)).encode(w)

    def objective(threshold: float) -> float:
        cells = np.where(np.abs(w) <= threshold, 2, 3).mean()
        return cells * squared_error(channel, w, (threshold,), (2, 3), sign=sign)

    best = min(objective(t) for t in np.abs(w).max() * np.linspace(0.01, 0.99, 200))
    assert objective(stored.ranges[0].threshold) <= 1.02 * best


def test_discrete_weights_get_a_threshold_at_a_value() -> None:
    rng = np.random.default_rng(0)
    w = rng.choice(np.float32([0.25, 0.5, -0.25, -8, 8]), 1000, p=[0.3, 0.2, 0.3, 0.1, 0.1])
    small, large = Codec(PCM).encode(w).ranges
    assert 0.5 <= small.threshold < 0.51 and large.threshold == 8


@pytest.mark.parametrize("ranges", [3, 4, 8])
def test_more_ranges_reduce_the_error(ranges: int) -> None:
    w = heavy_tailed(20_000)
    errors = []
    for n in (2, ranges):
        stored = Codec(PCM, ranges=n).encode(w)
        thresholds = [r.threshold for r in stored.ranges]
        assert thresholds == sorted(thresholds) and len(thresholds) == n
        errors.append(squared_error(PCM, w, tuple(thresholds[:-1]), (1,) * n))
    assert errors[1] < 0.6 * errors[0]


def test_three_thresholds_against_all_pairs() -> None:
    w = heavy_tailed(4000)
    stored = Codec(PCM, ranges=3).encode(w)
    chosen = squared_error(PCM, w, tuple(r.threshold for r in stored.ranges[:-1]), (1, 1, 1))
    grid = np.abs(w).max() * np.geomspace(0.01, 0.95, 40)
    best = min(
        squared_error(PCM, w, (float(a), float(b)), (1, 1, 1)) for a in grid for b in grid if a < b
    )
    assert chosen <= 1.02 * best


@pytest.mark.parametrize("ranges, sign", [(2, True), (4, True), (3, False)])
@pytest.mark.parametrize("mean_cells", [1.07, 2.0, 5.3])
def test_bounds_spare_work_and_change_nothing(
    monkeypatch: pytest.MonkeyPatch, ranges: int, sign: bool, mean_cells: float
) -> None:
    """The thresholds are those of evaluating every trial, and far fewer are evaluated."""
    w = np.random.default_rng(ranges).laplace(0, 0.05, 5000).astype(np.float32)
    codec = Codec(PCM, ranges=ranges, mean_cells=mean_cells, sign_protection=sign)
    calls = []

    def counted(*arguments: Any) -> tuple[int, ...]:
        calls.append(arguments)
        return allocate(*arguments)

    monkeypatch.setattr(thresholds, "allocate", counted)
    pruned = codec.encode(w).ranges
    few = len(calls)
    monkeypatch.setattr(thresholds, "_least", lambda table, cuts, mean: np.zeros(len(cuts)))
    assert codec.encode(w).ranges == pruned
    assert few < (len(calls) - few) / 3


def test_sensitivity_moves_the_threshold() -> None:
    w = heavy_tailed(20_000)
    h = np.where(np.abs(w) < 0.02, 1.0, 1e-6)
    plain, weighted = (Codec(PCM).encode(w, sensitivity=s).ranges[0].threshold for s in (None, h))
    assert weighted < 0.7 * plain
    best = min(
        squared_error(PCM, w, (t,), (1, 1), h)
        for t in np.abs(w).max() * np.geomspace(1e-3, 0.9, 200)
    )
    assert squared_error(PCM, w, (weighted,), (1, 1), h) <= 1.05 * best
    for same in (3.0, np.zeros(w.shape), np.ones(w.shape)):  # none of these says which matter
        assert Codec(PCM).encode(w, sensitivity=same).ranges[0].threshold == plain
        signed = Codec(PCM, sign_protection=False)
        assert signed.encode(w, sensitivity=same).ranges == signed.encode(w).ranges


@pytest.mark.parametrize("mean_cells", [1, 1.07, 2, 3.5, 10, 30.0])
@pytest.mark.parametrize("sign", [True, False])
def test_mean_cells_is_kept_and_used(mean_cells: float, sign: bool) -> None:
    w = heavy_tailed(30_000)
    stored = Codec(PCM, mean_cells=mean_cells, sign_protection=sign).encode(w)
    assert stored.cost.mean_cells <= mean_cells
    unused = mean_cells - stored.cost.mean_cells
    assert unused < stored.counts[1] / w.size + 1e-9  # not enough for one more cell
    (small, large) = stored.ranges
    if mean_cells > 1:
        assert large.cells > small.cells  # their noise is larger in weight units


@pytest.mark.parametrize("mean_cells", [1.07, 2.0, 5.3])
def test_mean_cells_against_brute_force(mean_cells: float) -> None:
    w = heavy_tailed(20_000)
    magnitude = np.abs(w)

    def best_cells(threshold: float) -> float:
        """Least squared error of all pairs of cells that keep the average."""
        single = [
            squared_error(PCM, np.where(part, w, 0), (threshold,), (1, 1), part)
            for part in (magnitude <= threshold, magnitude > threshold)
        ]
        n_small = int((magnitude <= threshold).sum())
        n_large = w.size - n_small
        budget = mean_cells * w.size
        pairs = [
            (r, int((budget - r * n_small) // n_large))
            for r in range(1, int(mean_cells * w.size / n_small) + 1)
        ]
        return min(single[0] / a + single[1] / b for a, b in pairs if b >= 1)

    # With the threshold given
    ranges = Codec(PCM, thresholds=0.08, mean_cells=mean_cells).encode(w).ranges
    cells = tuple(r.cells for r in ranges)
    assert squared_error(PCM, w, (ranges[0].threshold,), cells) <= 1.001 * best_cells(0.08)
    # And together with it
    ranges = Codec(PCM, mean_cells=mean_cells).encode(w).ranges
    chosen = squared_error(PCM, w, (ranges[0].threshold,), tuple(r.cells for r in ranges))
    grid = magnitude.max() * np.geomspace(0.01, 0.8, 60)
    assert chosen <= 1.03 * min(best_cells(float(t)) for t in grid)


def test_allocation_is_exact_for_two_ranges() -> None:
    rng = np.random.default_rng(8)
    r, s = np.arange(1, 361)[:, None], np.arange(1, 361)
    for _ in range(200):
        noise, counts = rng.exponential(size=2), rng.integers(1, 40, 2)
        mean = float(rng.uniform(1, 9))
        a, b = allocate(noise, counts, mean)
        budget = mean * counts.sum()
        assert a * counts[0] + b * counts[1] <= budget + 1e-6
        within = r * counts[0] + s * counts[1] <= budget
        best = np.where(within, noise[0] / r + noise[1] / s, np.inf).min()
        assert noise[0] / a + noise[1] / b == pytest.approx(best, rel=1e-12)


def test_allocation_without_noise_or_weights_takes_one_cell() -> None:
    assert allocate(np.zeros(2), np.array([5, 5]), 4.0) == (1, 1)
    assert allocate(np.array([1.0, 0.0]), np.array([5, 0]), 4.5) == (4, 1)
    assert allocate(np.array([1.0, 0.0]), np.array([5, 5]), 4.0) == (7, 1)
    assert allocate(np.zeros(2), np.zeros(2, np.int64), 4.0) == (1, 1)
    assert allocate(np.array([1.0, 1.0]), np.array([1, 10**9]), 1.5) == (65_535, 1)


@pytest.mark.parametrize("channel", [PCM, STAND_IN, devices.get("pcm_array")], ids=repr)
@pytest.mark.parametrize("cells", [(1, 1), (4, 30)])
def test_automatic_write_bits(channel: Channel, cells: tuple[int, int]) -> None:
    """Less than a tenth of the noise variance; one bit less would be more."""
    w = heavy_tailed(40_000)
    stored = Codec(channel, cells=cells, write_bits="auto").encode(w)
    edges = (0.0, *(r.threshold for r in stored.ranges))
    for (a, b), r in zip(pairwise(edges), stored.ranges, strict=True):
        value = np.abs(w[(np.abs(w) > a) & (np.abs(w) <= b)]).astype(np.float64)
        x = channel.inverse(r.alpha * value - r.beta, clip=True)
        noise = np.mean(channel.std_at(x) ** 2) / r.cells

        def rounding(bits: int, x: NDArray[np.float64] = x) -> float:
            lo, step, _, _ = channel.write_converter(bits)
            rounded = lo + np.rint((x - lo) / step) * step
            return float(np.mean((channel.mean_at(rounded) - channel.mean_at(x)) ** 2))

        assert r.write_bits is not None
        # step^2 / 12 is what an even spread gives; the spread over few levels is not even.
        assert rounding(r.write_bits) < 1.3 * noise / 10
        assert rounding(r.write_bits - 1) > 0.7 * noise / 10
    assert stored.levels.dtype == np.uint8


def test_write_bits_of_the_channel() -> None:
    coarse = Channel(PCM.x, PCM.mean, PCM.std, write_bits=3)
    w = heavy_tailed(9000)
    assert [r.write_bits for r in Codec(coarse).encode(w).ranges] == [3, 3]
    assert [r.write_bits for r in Codec(coarse, write_bits=(1, 2)).encode(w).ranges] == [1, 2]
    automatic = Codec(coarse, cells=100, write_bits="auto").encode(w)
    assert [r.write_bits for r in automatic.ranges] == [3, 3]
    assert 9000 * 3 / 8 <= automatic.levels.size <= 9000 * 3 / 8 + 2 * 9  # a byte a block and range


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


# ----------------------------------------------------------------- parameters


def test_redundancy_is_a_pair() -> None:
    assert Redundancy(2, 30) == (2, 30)
    assert (
        Codec(PCM, cells=Redundancy(large=30)).cells == Codec(PCM, cells=[1, 30]).cells == (1, 30)
    )
    assert Codec(PCM, cells=np.int64(4)).cells == (4, 4)


@pytest.mark.parametrize(
    "chosen",
    [
        {},
        {"sign_protection": False, "adaptive_mapping": False, "cells": 3, "collapse": False},
        {"thresholds": (0.01, 0.1), "cells": (1, 2, 30), "write_bits": (3, 4, 5)},
        {"ranges": 4, "mean_cells": 1.25, "scope": "model", "write_bits": "auto"},
        {"inverse": STAND_IN, "thresholds": 0.05, "write_bits": 2},
    ],
)
def test_dict_round_trip(chosen: dict[str, Any]) -> None:
    codec = Codec(D2D, **chosen)
    again = Codec.from_dict(json.loads(json.dumps(codec.to_dict())))
    assert again.to_dict() == codec.to_dict()
    assert again.channel == D2D and again.inverse == chosen.get("inverse")
    w = heavy_tailed(500)
    assert again.encode(w).read(5).tobytes() == codec.encode(w).read(5).tobytes()
    assert all(f"{key}=" in repr(codec) for key in chosen)


ADC = Channel(PCM.x, PCM.mean, PCM.std, read_bits=6)
DAC = Channel(PCM.x, PCM.mean, PCM.std, write_bits=4)


@pytest.mark.parametrize(
    ("error", "message", "chosen"),
    [
        (ValueError, "channel: expected a file that ends in .json, or one of", {"channel": "pcm"}),
        (TypeError, "channel: expected a Channel, a Device or the name", {"channel": PCM.mean}),
        (TypeError, "inverse: expected a Channel, a Device or the name", {"inverse": {}}),
        (TypeError, "sign_protection: expected True or False, got 1", {"sign_protection": 1}),
        (
            TypeError,
            "adaptive_mapping: expected True or False, got None",
            {"adaptive_mapping": None},
        ),
        (ValueError, "scope: expected one of 'tensor', 'model', got 'layer'", {"scope": "layer"}),
        (TypeError, "collapse: expected True or False, got 'no'", {"collapse": "no"}),
        (
            ValueError,
            "collapse: expected False or None for a channel",
            {"channel": ADC, "collapse": True},
        ),
        (ValueError, "thresholds: expected 'auto' or numbers, got 'best'", {"thresholds": "best"}),
        (ValueError, "thresholds: expected 1 to 7 positive finite", {"thresholds": 0.0}),
        (ValueError, "thresholds: expected 1 to 7 positive finite", {"thresholds": math.nan}),
        (ValueError, "thresholds: expected 1 to 7 positive finite", {"thresholds": math.inf}),
        (ValueError, "thresholds: expected 1 to 7 positive finite", {"thresholds": (0.2, 0.1)}),
        (ValueError, "thresholds: expected 1 to 7 positive finite", {"thresholds": ()}),
        (ValueError, "thresholds: expected 1 to 7", {"thresholds": range(1, 9)}),
        (
            ValueError,
            "thresholds: expected 'auto' without",
            {"thresholds": 1.0, "adaptive_mapping": False},
        ),
        (ValueError, "ranges: expected an int in [2, 8], got 1", {"ranges": 1}),
        (ValueError, "ranges: expected an int in [2, 8], got 9", {"ranges": 9}),
        (TypeError, "ranges: expected an int, got 2.5", {"ranges": 2.5}),
        (
            ValueError,
            "ranges: expected 2 for 1 thresholds, got 3",
            {"ranges": 3, "thresholds": 0.1},
        ),
        (ValueError, "cells: expected an int in [1, 65535], got 0", {"cells": 0}),
        (ValueError, "cells: expected an int in [1, 65535], got 65536", {"cells": (1, 65536)}),
        (TypeError, "cells: expected an int, got 1.5", {"cells": 1.5}),
        (TypeError, "cells: expected an int, got 'many'", {"cells": "many"}),
        (
            ValueError,
            "cells: expected one number, or one for each of 2 ranges, got 3",
            {"cells": (1, 2, 3)},
        ),
        (
            ValueError,
            "cells: expected one number, or one for each of 1",
            {"cells": (1, 2), "adaptive_mapping": False},
        ),
        (ValueError, "mean_cells: expected a number in [1, 65535], got 0.5", {"mean_cells": 0.5}),
        (
            ValueError,
            "mean_cells: expected a number in [1, 65535], got nan",
            {"mean_cells": math.nan},
        ),
        (
            ValueError,
            "mean_cells: expected cells not to be given as well",
            {"mean_cells": 2, "cells": 2},
        ),
        (ValueError, "write_bits: expected a number, 'auto' or None", {"write_bits": "few"}),
        (ValueError, "write_bits: expected an int in [1, 16], got 17", {"write_bits": 17}),
        (
            ValueError,
            "write_bits: expected an int in [1, 4], got 5",
            {"channel": DAC, "write_bits": 5},
        ),
        (ValueError, "write_bits: expected one number, or one for each", {"write_bits": (3, 4, 5)}),
    ],
)
def test_parameter_errors(error: type[Exception], message: str, chosen: dict[str, Any]) -> None:
    with pytest.raises(error, match=re.escape(message)):
        Codec(**({"channel": PCM} | chosen))


W = np.ones((2, 3), np.float32)


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (
            TypeError,
            "weights 'w': expected float16, float32 or float64, got int64",
            {"weights": np.ones(3, np.int64)},
        ),
        (
            TypeError,
            "weights 'w': expected float16, float32 or float64, got complex128",
            {"weights": [1j]},
        ),
        (
            TypeError,
            "weights 'w': expected float16, float32 or float64, got bool",
            {"weights": [True]},
        ),
        (
            ValueError,
            "weights 'w': expected finite numbers, got NaN or infinity",
            {"weights": [1.0, math.nan]},
        ),
        (
            ValueError,
            "weights 'w': expected finite numbers, got NaN or infinity",
            {"weights": [1.0, -math.inf]},
        ),
        (
            ValueError,
            "weights 'w': expected magnitudes up to 1e+38, got 2e+38",
            {"weights": [-2e38]},
        ),
        (TypeError, "mask 'w': expected bool, got float64", {"mask": np.ones((2, 3))}),
        (
            ValueError,
            "mask 'w': expected the weights' shape (2, 3), got (3, 2)",
            {"mask": np.ones((3, 2), bool)},
        ),
        (ValueError, "mask 'w': expected an array or 'nonzero', got 'zero'", {"mask": "zero"}),
        (
            TypeError,
            "sensitivity 'w': expected numbers, got bool",
            {"sensitivity": np.ones((2, 3), bool)},
        ),
        (
            ValueError,
            "sensitivity 'w': expected one number or the weights' shape (2, 3), got (6,)",
            {"sensitivity": np.ones(6)},
        ),
        (ValueError, "sensitivity 'w': expected finite numbers of at least 0", {"sensitivity": -W}),
        (
            ValueError,
            "sensitivity 'w': expected finite numbers of at least 0",
            {"sensitivity": math.nan},
        ),
        (TypeError, "name: expected a string, got 3", {"name": 3}),
        (TypeError, "overrides, digital: expected a mapping of weights", {"digital": {}}),
        (TypeError, "overrides, digital: expected a mapping of weights", {"overrides": {}}),
    ],
)
def test_weight_errors(error: type[Exception], message: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(error, match=re.escape(message)):
        Codec(PCM).encode(**({"weights": W, "name": "w"} | arguments))


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (TypeError, "name: expected none with a mapping", {"name": "w"}),
        (TypeError, "mask: expected a mapping of names", {"mask": np.ones((2, 3), bool)}),
        (TypeError, "sensitivity: expected a mapping of names", {"sensitivity": 1.0}),
        (ValueError, "mask: expected names of weights (a, b), got 'c'", {"mask": {"c": W > 0}}),
        (
            ValueError,
            "sensitivity: expected names of weights (a, b), got 'c'",
            {"sensitivity": {"c": 1.0}},
        ),
        (ValueError, "mask 'b': expected the weights' shape", {"mask": {"b": np.ones(5, bool)}}),
        (
            ValueError,
            "digital: expected names that are not in cells, got ['a']",
            {"digital": {"a": W}},
        ),
        (
            ValueError,
            "overrides: expected patterns that match a tensor (a, b), got 'c*'",
            {"overrides": {"c*": Codec(PCM)}},
        ),
        (
            ValueError,
            "for all tensors that share a mapping or for none, got one for 'a' and none for 'b'",
            {"sensitivity": {"a": 1.0}},
        ),
    ],
)
def test_model_errors(error: type[Exception], message: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(error, match=re.escape(message)):
        Codec(PCM, scope="model").encode({"a": W, "b": 2 * W}, **arguments)


def test_pruned_weights_may_be_anything() -> None:
    w = np.array([math.nan, 1.0, math.inf, -2.0])
    out = Codec(NOISELESS).encode(w, np.isfinite(w)).read(0)
    np.testing.assert_allclose(out, [0, 1, 0, -2], rtol=1e-6)


def test_a_stored_tensor_says_what_it_is() -> None:
    stored = Codec(PCM).encode(np.eye(30), "nonzero", name="eye")
    assert isinstance(stored, StoredTensor)
    assert repr(stored) == (
        "StoredTensor('eye', (30, 30), 30 of 900 weights in 60 cells of 'synthetic_pcm')"
    )
    model = Codec(PCM).encode({"eye": np.eye(30)}, digital={"b": np.zeros(3)})
    assert (
        repr(model)
        == "StoredModel(1 tensors, 900 of 900 weights in 1,800 cells, 1 tensors digital)"
    )
