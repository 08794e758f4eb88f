"""Estimates of mutual information on cases whose value is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import noisycells.torch as nct  # noqa: E402
from noisycells.torch.measure.information import count_outputs, entropy, information  # noqa: E402


def binary_entropy(p: float) -> float:
    return -p * math.log2(p) - (1 - p) * math.log2(1 - p)


def test_entropy() -> None:
    counts = np.array([[4, 4, 4, 4], [16, 0, 0, 0], [8, 4, 2, 2]])
    np.testing.assert_allclose(entropy(counts), [2, 0, 1.75])
    occupied = np.array([4, 1, 4])
    corrected = [2, 0, 1.75] + (occupied - 1) / (2 * 16 * math.log(2))
    np.testing.assert_allclose(entropy(counts, corrected=True), corrected)


def test_information_of_known_channels() -> None:
    assert information(np.eye(8) * 5) == pytest.approx(3)  # noiseless
    assert information(np.ones((5, 7))) == pytest.approx(0)  # useless
    assert information([[89, 11], [11, 89]]) == pytest.approx(1 - binary_entropy(0.11))
    erasure = np.array([[3, 0, 1], [0, 3, 1]])  # capacity 1 - 1/4
    assert information(erasure) == pytest.approx(0.75)
    skewed = np.array([[30, 0], [0, 10]])  # inputs are weighted by their draws
    assert information(skewed) == pytest.approx(binary_entropy(0.25))


def test_the_correction_takes_the_bias_away() -> None:
    """Outputs independent of the input, so that the truth is 0; 200 inputs, 100 draws each."""
    generator = np.random.default_rng(4)
    shares = np.array([0.2, 0.15, 0.15, 0.1, 0.1, 0.1, 0.05, 0.05, 0.05, 0.05])
    counts = [generator.multinomial(100, shares, 200) for _ in range(100)]
    plug_in = [information(c) for c in counts]
    corrected = [information(c, corrected=True) for c in counts]
    bias = 9 * 199 / (2 * 200 * 100 * math.log(2))
    # Standard deviation of a plug-in value: sqrt(2 * 9 * 199) / (2 * 20000 ln 2) = 0.0022, of a
    # mean of 100 0.34 % of the bias. Symbols that are missed and the next order leave 2.7 % of it:
    # 9 standard deviations below the threshold.
    assert np.mean(plug_in) == pytest.approx(bias, rel=0.06)
    assert abs(np.mean(corrected)) < 0.06 * bias


def test_symbols_are_all_parts_together() -> None:
    outputs = np.array([[[0, 1], [1, 0]], [[0, 1], [1, 1]], [[0, 1], [1, 0]]])
    assert count_outputs(outputs).tolist() == [[3, 0, 0], [0, 2, 1]]


def coin() -> torch.nn.Module:
    """Class 0 for inputs of 1, class 1 for inputs of -1, by a difference of 2 of the weights."""
    model = torch.nn.Linear(1, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0], [-1.0]]))
    return model


def test_a_network_that_is_a_binary_symmetric_channel() -> None:
    """A draw swaps the classes where the noise of two weights is below -2: a deviation of 2 / z."""
    model, images = coin(), torch.tensor([[1.0], [-1.0]] * 3)
    for z, repeats in ((1.0, 1500), (0.2, 400)):
        swapped = 0.5 * math.erfc(z / math.sqrt(2))
        with nct.inject_noise(model, math.sqrt(2) / z, "absolute", seed=6):
            found = nct.mutual_information(model, images, repeats)
        truth = 1 - binary_entropy(swapped)
        slope = math.log2((1 - swapped) / swapped)
        error = slope * math.sqrt(swapped * (1 - swapped) / repeats)
        assert abs(found.plug_in - truth) < 5 * error + 1 / repeats  # 6e-7 by chance
        assert found.noise_free == pytest.approx(1)
        assert found.symbols == 2
        assert found.normalized == pytest.approx(found.plug_in)
        assert found.plug_in > found.corrected
        bias = 5 / (12 * repeats * math.log(2))
        assert found.plug_in - found.corrected == pytest.approx(bias)
        assert found.chance < 8 * bias  # 5 degrees of freedom: chi2 > 40 has 1.5e-7


@pytest.mark.parametrize("output", ["class", "softmax"])
def test_without_noise_all_of_it_is_left(output: str) -> None:
    model = nct.build(nct.MLP, seed=1)
    images = 3 * torch.randn(40, 1, 28, 28, generator=torch.Generator().manual_seed(3))
    with nct.inject_noise(model, 0.0):
        found = nct.mutual_information(model, images, 3, output=output, bins=16)
    if output == "class":
        shares = np.bincount(model(images).argmax(1).numpy()) / 40
        h = -sum(p * math.log2(p) for p in shares if p)
        assert found.noise_free == pytest.approx(h)
    assert 1 < found.noise_free <= math.log2(40)
    assert found.normalized == pytest.approx(1)
    assert found.corrected >= found.plug_in
    assert 0 < found.chance < found.plug_in


def test_softmax_bins() -> None:
    """Outputs of p and 1 - p for p = 0.05, 0.15, ... 0.95, and of 1 and 0 beyond the last bin."""
    model = torch.nn.Linear(1, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0], [0.0]]))
    p = torch.arange(0.05, 1, 0.1)
    images = torch.cat([torch.log(p / (1 - p)), torch.tensor([1000.0])])[:, None]
    with nct.inject_noise(model, 0.0):
        for bins, sizes in ((10, [1] * 9 + [2]), (2, [5, 6]), (5, [2, 2, 2, 2, 3])):
            found = nct.mutual_information(model, images, 1, output="softmax", bins=bins)
            assert found.symbols == len(sizes)
            assert found.noise_free == pytest.approx(entropy(np.array(sizes)).item())


def test_noise_takes_information_away_and_seeds_decide() -> None:
    model = nct.build(nct.LeNet, seed=1)
    images = 3 * torch.randn(40, 1, 28, 28, generator=torch.Generator().manual_seed(3))
    with nct.inject_noise(model, 0.3, seed=3) as noise:
        found = [nct.mutual_information(model, images.numpy(), 10, seed=seed) for seed in (1, 1, 2)]
        assert noise.draw == 0
    assert found[0] == found[1] != found[2]
    assert found[0].noise_free == found[2].noise_free
    assert found[0].normalized < 1


def test_a_network_of_one_answer_has_no_ratio() -> None:
    model = torch.nn.Linear(1, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0], [0.0]]))
    with nct.inject_noise(model, 0.0):
        found = nct.mutual_information(model, torch.ones(3, 1), 2)
    assert found.noise_free == found.plug_in == found.chance == 0
    assert math.isnan(found.normalized) and math.isnan(found.normalized_corrected)


def test_errors() -> None:
    model, images = coin(), torch.ones(2, 1)
    with pytest.raises(ValueError, match=r"model: expected noise"):
        nct.mutual_information(model, images)
    with pytest.raises(ValueError, match=r"images: expected at least one, got 0"):
        nct.mutual_information(model, images[:0])
    with pytest.raises(ValueError, match=r"repeats: expected an int in .*, got 0"):
        nct.mutual_information(model, images, 0)
    with pytest.raises(
        ValueError, match=r"output: expected one of 'class', 'softmax', got 'logits'"
    ):
        nct.mutual_information(model, images, output="logits")
    with pytest.raises(ValueError, match=r"bins: expected an int in .2, 256., got 1"):
        nct.mutual_information(model, images, bins=1)
