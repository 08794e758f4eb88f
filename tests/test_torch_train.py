"""The training loop: it learns, repeats itself bit for bit, and keeps to its own random numbers."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import noisycells.torch as nct  # noqa: E402
from noisycells import data  # noqa: E402

GENERATOR = np.random.default_rng(5)
IMAGES = GENERATOR.standard_normal((200, 1, 28, 28), dtype=np.float32)
LABELS = np.arange(200) % 10


def same(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def trained(seed: int = 0, images: np.ndarray = IMAGES, **options: object) -> torch.nn.Module:
    model = nct.build(nct.LeNet, seed=7)
    nct.train(model, images, LABELS, seed=seed, **({"epochs": 2} | options))
    return model


def test_lenet_learns_the_digits() -> None:
    digits = data.load_digits()
    train_images, test_images = map(digits.normalise, (digits.train_images, digits.test_images))
    model = nct.build(nct.LeNet, seed=0)
    untrained = nct.accuracy(model, test_images, digits.test_labels)
    record = nct.train(model, train_images, digits.train_labels, epochs=4)
    accuracy = nct.accuracy(model, test_images, digits.test_labels)
    assert untrained < 30 and accuracy > 85  # 92.2 to 96.9 over 20 seeds of everything
    assert record.losses[-1] < record.losses[0]


def test_same_seed_same_bits() -> None:
    assert same(trained(), trained())
    assert not same(trained(), trained(seed=1))
    assert same(nct.build(nct.MLP, seed=3), nct.build(nct.MLP, seed=3))
    assert not same(nct.build(nct.MLP, seed=3), nct.build(nct.MLP, seed=4))


def test_the_callers_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    trained()
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(1)  # and does not decide anything
    assert same(trained(), trained())


def test_the_models_own_draws_follow_the_seed() -> None:
    def dropout_net() -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(), torch.nn.Linear(784, 10))

    models = []
    for _ in range(2):
        models.append(nct.build(dropout_net, seed=0))
        nct.train(models[-1], IMAGES, LABELS, epochs=1)
        torch.rand(1)
    assert same(*models)


def test_validation_images_are_never_trained_on() -> None:
    _, validation = data.stratified_split(LABELS, 0.1, seed=0)
    assert len(validation) == 20
    poisoned, shifted = IMAGES.copy(), IMAGES.copy()
    poisoned[validation] = 1e3
    shifted[0 if 0 not in validation else 1] += 1
    assert same(trained(epochs=1), trained(epochs=1, images=poisoned))
    assert not same(trained(epochs=1), trained(epochs=1, images=shifted))


def test_the_best_epoch_is_kept() -> None:
    model = nct.build(nct.MLP, seed=0)
    states, seen = [], []

    def progress(epoch: int, accuracy: float) -> None:
        states.append({name: value.clone() for name, value in model.state_dict().items()})
        seen.append((epoch, accuracy))

    record = nct.train(model, IMAGES, LABELS, epochs=6, learning_rate=0.02, progress=progress)
    assert seen == list(enumerate(record.accuracies, start=1))
    order = [(a, -b) for a, b in zip(record.accuracies, record.losses, strict=True)]
    assert record.best_epoch == 1 + order.index(max(order))
    assert 1 <= record.best_epoch < 6  # so that keeping the last would fail below
    kept = states[record.best_epoch - 1]
    assert all(torch.equal(value, kept[name]) for name, value in model.state_dict().items())
    assert not model.training


def test_accuracy() -> None:
    class Echo(torch.nn.Module):
        """Answers the class written in the first pixel, and only in eval mode."""

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            assert not self.training
            return torch.nn.functional.one_hot(images[:, 0, 0, 0].long(), 10)

    images = np.zeros((1200, 1, 28, 28), np.float32)
    images[:, 0, 0, 0] = np.arange(1200) % 10
    labels = np.arange(1200) % 10
    labels[:3] = 9
    model = Echo().train()
    assert nct.accuracy(model, images, labels) == 100 * 1197 / 1200
    assert nct.accuracy(model, torch.from_numpy(images), torch.from_numpy(labels)) == 99.75
    assert model.training


def test_errors() -> None:
    model = nct.MLP()
    with pytest.raises(ValueError, match=r"epochs: expected at least 1, got 0"):
        nct.train(model, IMAGES, LABELS, epochs=0)
    with pytest.raises(ValueError, match=r"batch_size: expected at least 1, got 0"):
        nct.train(model, IMAGES, LABELS, batch_size=0)
    with pytest.raises(ValueError, match=r"labels: expected one for each of 200 images, got 199"):
        nct.train(model, IMAGES, LABELS[1:])
    with pytest.raises(ValueError, match=r"fraction: .* got 0"):
        nct.train(model, IMAGES, LABELS, validation_fraction=0)
    with pytest.raises(ValueError, match=r"seed: expected .* got -1"):
        nct.build(nct.MLP, seed=-1)
    with pytest.raises(ValueError, match=r"images: .* got 0 images and 0 labels"):
        nct.accuracy(model, IMAGES[:0], LABELS[:0])
    with pytest.raises(ValueError, match=r"images: .* got 200 images and 199 labels"):
        nct.accuracy(model, IMAGES, LABELS[1:])
