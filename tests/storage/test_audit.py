"""Audits against what is known in closed form."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

import noisycells as nc
from noisycells.storage import Codec, Coded, Levels
from noisycells.storage.audit import capacities

PCM = nc.devices.synthetic_pcm()
GAUSSIAN = np.random.default_rng(5).standard_normal((300, 400)).astype(np.float32)


def test_coded_models_lose_what_rounding_loses() -> None:
    stored = Coded(PCM, step=0.2).encode({"w": GAUSSIAN})
    found = stored.audit({"w": GAUSSIAN}, repeats=2)
    (tensor,) = found.tensors
    assert tensor.variance == 0 and tensor.bias == pytest.approx(0.2**2 / 12, rel=0.02)
    assert tensor.gaussian_bits == pytest.approx(-0.5 * math.log2(0.2**2 / 12), abs=0.02)
    assert tensor.source_bits == pytest.approx(tensor.gaussian_bits, abs=0.02)
    # Uniform rounding takes 1/2 log2(2 pi e / 12) = 0.254 bits more than Shannon's bound.
    content = 8 * stored.layout.size / GAUSSIAN.size
    assert content == pytest.approx(tensor.gaussian_bits + 0.254, abs=0.03)
    assert found.carried == pytest.approx(8 * stored.layout.size / len(stored.cells))
    lost = (found.capacity["nominal"] - found.carried) * len(stored.cells) / GAUSSIAN.size
    assert found.distance() == pytest.approx(lost + content - tensor.source_bits, abs=0.01)
    assert stored.audit().tensors[0].bias is None and stored.audit().distance() is None


def test_analog_noise_is_that_of_the_cells() -> None:
    channel = nc.Channel.gaussian(0.1)
    codec = Codec(channel, adaptive_mapping=False, sign_protection=False, cells=3)
    stored = codec.encode({"w": GAUSSIAN})
    found = stored.audit({"w": GAUSSIAN}, repeats=6)
    (tensor,) = found.tensors
    alpha = stored["w"].ranges[0].alpha
    assert tensor.variance * GAUSSIAN.var() == pytest.approx(0.1**2 / 3 / alpha**2, rel=0.01)
    assert tensor.bias < 0.01 * tensor.variance
    assert tensor.decibels == pytest.approx(-10 * math.log10(tensor.variance + tensor.bias))
    assert found.carried is None and found.capacity.keys() == {"nominal"}
    assert found.needed() < found.capacity["nominal"] and found.distance() > 0


def test_bias_is_told_from_variance() -> None:
    """A channel that was learnt wrong shifts what is read."""
    wrong = nc.Channel(PCM.x, PCM.mean + 0.05, PCM.std, read_std=PCM.read_std)
    codec = Codec(PCM, wrong, adaptive_mapping=False, sign_protection=False)
    found = codec.encode({"w": GAUSSIAN}).audit({"w": GAUSSIAN})
    alpha = codec.encode({"w": GAUSSIAN})["w"].ranges[0].alpha
    expected = (0.05 / alpha) ** 2 / GAUSSIAN.var()
    assert found.tensors[0].bias == pytest.approx(expected, rel=0.1)


def test_sources_differ_by_their_entropy() -> None:
    """A uniform source needs 0.254 bits less than a Gaussian one of its variance."""
    uniform = np.random.default_rng(6).uniform(-1, 1, (300, 400)).astype(np.float32)
    (tensor,) = Coded(PCM, step=0.1).encode({"w": uniform}).audit({"w": uniform}, repeats=2).tensors
    gap = 0.5 * math.log2(math.pi * math.e / 6)
    assert tensor.gaussian_bits - tensor.source_bits == pytest.approx(gap, abs=0.02)


@pytest.mark.parametrize("codec", [Codec(PCM), Coded(PCM, step=0.3), Levels(PCM)], ids=repr)
def test_nobody_is_beyond_the_limit(codec: Any) -> None:
    mask = np.abs(GAUSSIAN) > 1.3
    weights = {"w": np.where(mask, GAUSSIAN, 0), "v": GAUSSIAN[:20]}
    found = codec.encode(weights, {"w": mask}).audit(weights, repeats=3)
    assert [tensor.stored for tensor in found.tensors] == [mask.sum(), weights["v"].size]
    assert found.needed("gaussian_bits") < found.capacity["nominal"]
    distances = [found.distance(setting) for setting in found.capacity]
    assert distances == sorted(distances) and distances[0] > 0
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["cells"] == found.cells
    assert "stored weight from the limit" in str(found)


def test_capacities() -> None:
    """As another program computed them."""
    expected = {"nominal": 2.196, "reads": 2.461, "verified": 2.603, "both": 3.042}
    assert capacities(PCM) == pytest.approx(expected, abs=2e-3)
    assert capacities(nc.Channel.gaussian(0.0)) == {"nominal": None}


def test_arguments() -> None:
    stored = Coded(PCM).encode({"w": GAUSSIAN})
    with pytest.raises(ValueError, match="weights: expected those of 'w' too"):
        stored.audit({})
    with pytest.raises(ValueError, match=r"weights 'w': expected shape \(300, 400\)"):
        stored.audit({"w": GAUSSIAN[0]})
    with pytest.raises(ValueError, match="repeats: expected an int in"):
        stored.audit(repeats=1)
    two = Codec(PCM).encode({"w": GAUSSIAN, "v": GAUSSIAN}, overrides={"v": Codec("pcm_array")})
    with pytest.raises(ValueError, match="model: expected cells of one kind"):
        two.audit()
