"""Training for few bits: weights end on grids, few bits follow, and what is refused."""

from __future__ import annotations

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn.utils import parametrize  # noqa: E402

import noisycells as nc  # noqa: E402
import noisycells.torch as nct  # noqa: E402
from noisycells import data  # noqa: E402
from noisycells.torch.training.code_length import code_length  # noqa: E402
from noisycells.torch.training.grids import Grid, Grids  # noqa: E402

DIGITS = data.load_digits()
IMAGES, LABELS = DIGITS.normalize(DIGITS.train_images), DIGITS.train_labels
TRAIN = nct.batches(IMAGES[:1100], LABELS[:1100])
VALIDATION = nct.batches(IMAGES[1100:], LABELS[1100:], 250, shuffle=False)


@pytest.fixture(scope="module")
def dense() -> nn.Module:
    model = nct.build(nct.MLP, seed=1)
    nct.fit(model, TRAIN, VALIDATION, epochs=4)
    return model


def small_loaders() -> tuple[nct.Batches, nct.Batches]:
    return nct.batches(IMAGES[:100], LABELS[:100]), nct.batches(IMAGES[1300:], LABELS[1300:])


# --------------------------------------------------------------------------- one grid


def test_rounds_to_the_grid_and_passes_the_gradient() -> None:
    weight = torch.randn(40, 30, generator=torch.Generator().manual_seed(0)).requires_grad_()
    grid = Grid(weight, 0.3)
    rounded = grid(weight)
    step = grid.step.item()
    assert torch.equal(rounded, (weight / step).round() * step)
    outward = torch.randn(40, 30, generator=torch.Generator().manual_seed(1))
    (rounded * outward).sum().backward()
    assert torch.allclose(weight.grad, outward)
    # Esser et al. 2020, equation 3, times the step for its logarithm
    of_step = ((rounded / step - weight / step) * outward).sum() * step
    assert grid.log_step.grad.item() == pytest.approx(of_step.item(), rel=1e-3)


def test_rate_is_the_entropy_once_learnt() -> None:
    """Of independent Laplacian places; the noise in the place of rounding costs 3 % here."""
    generator = torch.Generator().manual_seed(2)
    weight = torch.distributions.Laplace(0.0, 1.0).icdf(
        torch.rand(120, 100, generator=generator) * 0.9998 + 0.0001
    )
    grid = Grid(weight, 1.0)
    optimizer = torch.optim.Adam([grid.log_scales, grid.mixture], lr=0.03)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for _ in range(200):
            optimizer.zero_grad()
            bits = grid.bits(weight)
            bits.backward()
            optimizer.step()
    assert bits.item() == pytest.approx(code_length(grid.indices(weight)), rel=0.06)


def test_rate_of_a_large_tensor_is_drawn_from_its_rows() -> None:
    """In the mean over draws, the rate of all rows: 8 standard errors of 200 draws."""
    weight = torch.randn(700, 400, generator=torch.Generator().manual_seed(3))
    grid = Grid(weight, 0.5)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(1)
        draws = torch.stack([grid.bits(weight) for _ in range(200)]).double()
        whole = sum(Grid(part, 0.5).bits(part).item() for part in weight.split(100))
    assert draws.mean().item() == pytest.approx(whole, abs=8 * draws.std().item() / 200**0.5)


# --------------------------------------------------------------------------- training


def test_coded_storage_keeps_the_trained_places(dense: nn.Module) -> None:
    """Bit for bit, through a file as well, at the rate that the training reports within 3 %."""
    model = copy.deepcopy(dense)
    record = nct.rate_train(model, TRAIN, VALIDATION, rate_weight=0.2, epochs=3, learning_rate=5e-3)
    codec = nc.storage.Coded("synthetic_pcm", step=record.steps)
    stored = nct.store(model, codec, store_biases=True)
    empty = nct.load(stored, nct.build(nct.MLP, seed=2), seed=1)
    for name, weight in model.named_parameters():
        assert torch.equal(empty.get_parameter(name), weight), name
    assert 8 * stored.layout.size == pytest.approx(sum(record.bits.values()), rel=0.03)
    with pytest.raises(ValueError, match=r"step: expected names of weights to store .*fc1\.bias"):
        nct.store(model, codec)
    some = {name: step for name, step in record.steps.items() if name != "fc2.weight"}
    with pytest.raises(ValueError, match=r"step: expected one for 'fc2\.weight', got 5 others"):
        nct.store(model, nc.storage.Coded("synthetic_pcm", step=some), store_biases=True)
    others = {"fc2.weight": nc.storage.Coded("synthetic_pcm", step=0.5)}
    mixed = nc.storage.Coded("synthetic_pcm", step=some)
    read = nct.store(model, mixed, overrides=others, store_biases=True).read(seed=1)
    assert np.array_equal(read["fc1.weight"], model.fc1.weight.detach().numpy())
    assert len(np.unique(read["fc2.weight"])) > 3


def test_fewer_bits_for_a_larger_weight_of_the_rate(dense: nn.Module) -> None:
    found = []
    for weight in (0.01, 1.0):
        model = copy.deepcopy(dense)
        record = nct.rate_train(
            model, TRAIN, VALIDATION, rate_weight=weight, epochs=6, learning_rate=5e-3
        )
        accuracy = nct.accuracy(model, IMAGES[1100:], LABELS[1100:])
        found.append((record, accuracy, model))
    (rich, high, _), (poor, low, model) = found
    assert poor.bits_per_weight < 0.6 * rich.bits_per_weight
    assert high > 85 and low > 80
    indices = poor.indices(model)
    assert set(indices) == set(poor.bits) == set(dict(model.named_parameters()))
    for name, places in indices.items():
        assert places.shape == model.get_parameter(name).shape
        assert poor.bits[name] == code_length(places) + 64
        weights = places.astype(np.float32) * np.float32(poor.steps[name])
        assert np.array_equal(weights, model.get_parameter(name).detach().numpy())
    assert not any(parametrize.is_parametrized(module) for module in model.modules())
    assert poor.weights == sum(p.numel() for p in model.parameters())
    with torch.no_grad():
        model.fc1.weight[0, 0] += 1e-4
    with pytest.raises(ValueError, match=r"model: expected 'fc1.weight' on its grid"):
        poor.indices(model)


def test_same_seed_same_bits(dense: nn.Module) -> None:
    first, second = copy.deepcopy(dense), copy.deepcopy(dense)
    for model in (first, second):
        nct.rate_train(model, *small_loaders(), rate_weight=0.3, epochs=2, seed=4)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_an_interrupted_training_goes_on_to_the_same_bits(dense: nn.Module, tmp_path) -> None:
    class Stop(Exception):
        pass

    def stop(epoch: int, score: float) -> None:
        if epoch == 1:
            raise Stop

    options = {"rate_weight": 0.3, "epochs": 3, "checkpoint": tmp_path / "state"}
    whole, parts = copy.deepcopy(dense), copy.deepcopy(dense)
    nct.rate_train(whole, *small_loaders(), rate_weight=0.3, epochs=3)
    with pytest.raises(Stop):
        nct.rate_train(parts, *small_loaders(), progress=stop, **options)
    for a, b in zip(parts.parameters(), dense.parameters(), strict=True):
        assert torch.equal(a, b)  # as it was before
    nct.rate_train(parts, *small_loaders(), **options)
    for a, b in zip(parts.parameters(), whole.parameters(), strict=True):
        assert torch.equal(a, b)


def test_normalization_and_filtered_layers_keep_their_weights() -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 4, 5, stride=4), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10)
    )
    record = nct.rate_train(
        model, *small_loaders(), rate_weight=0.1, epochs=1,
        filter_fn=lambda module, name: name != "4",
    )  # fmt: skip
    assert set(record.steps) == {"0.weight", "0.bias"}
    assert record.other_weights == 8 + 1450
    expected = (sum(record.bits.values()) + 32 * 1458) / (104 + 1458)
    assert record.bits_per_weight == pytest.approx(expected)


def test_control_is_the_same_training_without_grids(dense: nn.Module) -> None:
    model = copy.deepcopy(dense)
    record = nct.rate_control(model, TRAIN, VALIDATION, epochs=2)
    assert len(record.losses) == 2 and record.losses[-1] > 0
    assert nct.accuracy(model, IMAGES[1100:], LABELS[1100:]) > 85
    assert not torch.equal(model.fc1.weight, dense.fc1.weight)


# --------------------------------------------------------------------------- what is refused


def test_refusals(dense: nn.Module) -> None:
    loaders = small_loaders()
    with pytest.raises(ValueError, match=r"rate_weight: expected a finite number >= 0, got -1"):
        nct.rate_train(dense, *loaders, rate_weight=-1, epochs=1)
    with pytest.raises(ValueError, match=r"model: expected weights to train, got none"):
        nct.rate_train(nn.ReLU(), *loaders, rate_weight=1, epochs=1)
    with pytest.raises(ValueError, match=r"learning_rate: expected a finite number > 0, got 0"):
        nct.rate_train(dense, *loaders, rate_weight=1, epochs=1, learning_rate=0)
    tied = nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 5))
    tied[1].weight = tied[0].weight
    with pytest.raises(ValueError, match=r"model: expected a tensor for each name, got '0.weight'"):
        Grids(tied)
    with pytest.raises(ValueError, match=r"model: expected plain parameters, got '' parametrized"):
        Grids(nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)))
    broken = nn.Linear(3, 3)
    broken.weight.data[0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"model: expected finite weights, got NaN or infinity"):
        Grids(broken)
