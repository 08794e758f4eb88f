"""Cost: every figure against a calculation by hand."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from noisycells import devices
from noisycells.storage import Codec, Cost
from noisycells.storage.cost import index_cost, total

PCM = devices.get("synthetic_pcm")


def test_average_redundancy_of_the_paper() -> None:
    """r_avg of the pruned ResNet-18 (Isik et al. 2020, section 2): N_small and N_large."""
    small, large = 2_209_074, 5_615
    for r_small, r_large, average in (
        (1, 1, 1.0),
        (1, 30, 1.0735),
        (2, 30, 2.0710),
        (5, 30, 5.0634),
    ):
        cost = Cost(small + large, 11_173_962, r_small * small + r_large * large, small + large)
        assert cost.mean_cells == pytest.approx(average, abs=5e-5)
        assert cost.per_stored == cost.mean_cells + 1  # and a side cell
    assert small / (small + large) == pytest.approx(0.9975, abs=5e-5)


def test_of_an_encoded_tensor() -> None:
    w = np.zeros(1000, np.float32)
    w[:200] = np.linspace(0.01, 0.05, 200)
    w[200:210] = -0.6
    stored = Codec(PCM, thresholds=0.05, cells=(2, 30)).encode(w, "nonzero", name="fc.weight")
    cost = stored.cost
    assert stored.counts == (200, 10)
    assert (cost.stored_weights, cost.original_weights) == (210, 1000)
    assert cost.data_cells == 2 * 200 + 30 * 10
    assert cost.mean_cells == pytest.approx(700 / 210)
    assert cost.side_cells == 210  # sign and range in one cell of four levels
    entropy = -0.21 * math.log2(0.21) - 0.79 * math.log2(0.79)
    assert cost.index_bits == math.ceil(1000 * entropy) + 64 and cost.index_code == "entropy"
    assert cost.index_cells == cost.index_bits  # at one bit a cell
    assert cost.total_cells == 700 + 210 + cost.index_bits
    assert cost.per_stored == pytest.approx(cost.total_cells / 210)
    assert cost.per_original == pytest.approx(cost.total_cells / 1000)
    assert cost.parameter_bits == 2 * 3 * 32
    assert not cost.includes_biases and cost.digital_bits == 0


@pytest.mark.parametrize(
    ("sign", "ranges", "cells_a_weight"),
    [
        (False, 1, 0),
        (True, 1, 1),
        (False, 2, 1),
        (True, 2, 1),
        (True, 3, 2),
        (True, 8, 2),
        (False, 4, 1),
    ],
)
def test_side_cells_hold_two_bits(sign: bool, ranges: int, cells_a_weight: int) -> None:
    codec = Codec(
        PCM, sign_protection=sign, adaptive_mapping=ranges > 1, ranges=ranges if ranges > 1 else 2
    )
    assert codec.encode(np.linspace(-1, 1, 50)).cost.side_cells == 50 * cells_a_weight


def test_index_is_the_smaller_code() -> None:
    assert index_cost(1000, 500) == (1000, "bitmap")
    assert index_cost(100, 10) == (100, "bitmap")  # the header decides
    assert index_cost(10**6, 200_000) == (math.ceil(721_928.0949) + 64, "entropy")
    assert index_cost(1000, 0) == index_cost(1000, 1000) == (64, "entropy")
    assert index_cost(0, 0) == (0, "bitmap")
    # 80 % pruned: 0.72 bits a parameter, 3.6 bits a kept weight
    assert index_cost(10**6, 200_000)[0] / 200_000 == pytest.approx(3.61, abs=0.01)


def test_index_at_another_rate() -> None:
    cost = Cost(10, 100, 10, 10, index_bits=99, index_code="bitmap")
    assert cost.index_cells == 99
    coded = cost.at_index_rate(1.88)
    assert coded.index_cells == math.ceil(99 / 1.88) == 53
    assert coded.total_cells == 73 and coded.index_bits == 99
    for rate in (0, -1.0, math.inf, math.nan):
        with pytest.raises(
            ValueError, match=re.escape("bits_per_cell: expected a finite number > 0")
        ):
            cost.at_index_rate(rate)


def test_without_a_mask_there_is_no_index() -> None:
    cost = Codec(PCM).encode(np.ones(10), name="bias").cost
    assert (cost.index_bits, cost.index_code, cost.index_cells) == (0, "none", 0)
    assert cost.includes_biases


def test_of_a_model() -> None:
    weights = {"a.weight": np.eye(40), "b.weight": np.ones((3, 3))}
    digital = {"a.bias": np.zeros(40, np.float32), "steps": np.array(7, np.int64)}
    model = Codec(PCM, cells=3).encode(weights, {"a.weight": np.eye(40) > 0}, digital=digital)
    cost = model.cost
    assert (cost.stored_weights, cost.original_weights) == (49, 1609)
    assert (cost.data_cells, cost.side_cells) == (3 * 49, 49)
    assert cost.index_bits == index_cost(1600, 40)[0] and cost.index_code == "entropy"
    assert (cost.digital_bits, cost.digital_weights) == (40 * 32 + 64, 41)
    assert cost.parameter_bits == 2 * 192 and not cost.includes_biases
    assert cost == total(
        [*(t.cost for t in model.values()), Cost(0, 0, 0, 0, digital_bits=1344, digital_weights=41)]
    )
    with_bias = Codec(PCM).encode({"l.weight": np.eye(2), "l.bias": np.ones(2)})
    assert with_bias.cost.includes_biases
    mixed = total([Cost(1, 1, 1, 1, 5, "bitmap"), Cost(1, 1, 1, 1, 5, "entropy"), Cost(1, 1, 1, 1)])
    assert mixed.index_code == "mixed" and mixed.index_bits == 10


def test_in_words_and_as_a_dict() -> None:
    cost = Cost(200, 1000, 260, 200, 740, "entropy", 2.0, 192, 640, 20, True)
    values = cost.to_dict()
    assert values["index_cells"] == 370 and values["total_cells"] == 830
    assert values["per_stored"] == 4.15 and values["per_original"] == 0.83
    assert values["mean_cells"] == 1.3 and values["includes_biases"] is True
    text = str(cost)
    for part in (
        "200 stored of 1,000",
        "260 (1.300 a stored weight)",
        "370 (740 bits, entropy, at 2 bits a cell)",
        "830 (4.150 a stored, 0.830 an original weight)",
        "640 bits of 20 numbers, 192 bits of scales; biases in cells",
    ):
        assert part in text
