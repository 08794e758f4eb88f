"""The training loop: it learns, repeats itself bit for bit, and keeps to its own random numbers."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import two_processes  # noqa: E402

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
    train_images, test_images = map(digits.normalize, (digits.train_images, digits.test_images))
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


# ------------------------------------------------------------------------------------ fit

TRAINING = nct.batches(IMAGES[:150], LABELS[:150], 40)
VALIDATION = nct.batches(IMAGES[150:], LABELS[150:], 30, shuffle=False)


def net() -> torch.nn.Module:
    """A network with a state of its own (batch normalization) and draws of its own (dropout)."""
    nn = torch.nn
    layers = (nn.Conv2d(1, 4, 5, stride=3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
    return nn.Sequential(*layers, nn.Dropout(0.2), nn.Linear(256, 10))


def sgd(parameters: Iterator[torch.nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=5e-4)


def one_cycle(optimizer: torch.optim.Optimizer, steps: int) -> object:
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=steps)


@pytest.mark.parametrize("precision", [None, torch.bfloat16])
def test_fit_is_the_loop_written_by_hand(precision: torch.dtype | None) -> None:
    """Two epochs of SGD with a schedule and clipped gradients, step by step."""
    model, hand = (nct.build(net, seed=1) for _ in range(2))
    record = nct.fit(
        *(model, TRAINING, VALIDATION),
        **dict(epochs=2, seed=3, optimizer=sgd, scheduler=one_cycle, clip_gradient=0.5),
        autocast=precision,
    )
    optimizer = sgd(hand.parameters())
    schedule = one_cycle(optimizer, 8)
    accuracies, states = [], []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        for _ in range(2):
            hand.train()
            for rows in torch.randperm(150).split(40):
                optimizer.zero_grad()
                x, y = torch.from_numpy(IMAGES)[rows], torch.from_numpy(LABELS)[rows]
                with torch.autocast("cpu", precision, enabled=precision is not None):
                    loss = torch.nn.functional.cross_entropy(hand(x), y)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(hand.parameters(), 0.5)
                optimizer.step()
                schedule.step()
            accuracies.append(nct.accuracy(hand, IMAGES[150:], LABELS[150:]))
            states.append({name: value.clone() for name, value in hand.state_dict().items()})
    assert record.accuracies == tuple(accuracies)
    kept = states[record.best_epoch - 1]
    assert all(torch.equal(value, kept[name]) for name, value in model.state_dict().items())
    assert not model.training
    assert all(value.dtype != torch.bfloat16 for value in model.state_dict().values())


def test_weights_that_vanish_are_zero() -> None:
    """Before they are subnormal, which processors are slow at; others are as they were."""
    model = nct.build(net, seed=1)
    weight = model[-1].weight
    with torch.no_grad():
        weight[0, :4] = torch.tensor([1e-31, -1e-40, 1e-29, -2.0])
    before = weight.detach().clone()
    still = dict(epochs=1, optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.0))
    nct.fit(model, TRAINING, VALIDATION, **still)
    assert weight[0, :4].tolist() == [0.0, 0.0, before[0, 2], -2.0]
    assert torch.equal(weight[1:], before[1:])


class Stopped(Exception):
    """Interrupts a training."""


@pytest.mark.parametrize("stop", [1, 3])
@pytest.mark.parametrize("noise", [{}, {"eta": 0.1, "clip": "initial"}])
def test_resumed_training_ends_with_the_same_bits(
    tmp_path: Path, stop: int, noise: dict[str, object]
) -> None:
    file = tmp_path / "state"
    seen: list[tuple[int, float]] = []

    def run(interrupt: int, **options: object) -> tuple[torch.nn.Module, nct.TrainingRecord]:
        def progress(epoch: int, accuracy: float) -> None:
            seen.append((epoch, accuracy))
            if epoch == interrupt:
                raise Stopped

        model = nct.build(net, seed=1)
        loader = nct.batches(IMAGES[:150], LABELS[:150], 40, augment="crop-flip")
        if noise:
            nct.inject_noise(model, **noise, seed=5)
        arguments = dict(epochs=4, seed=3, optimizer=sgd, scheduler=one_cycle, progress=progress)
        return model, nct.fit(model, loader, VALIDATION, **arguments, **options)

    whole, record = run(0)
    with pytest.raises(Stopped):
        run(stop, checkpoint=file)
    seen.clear()
    torch.rand(1)
    resumed, again = run(0, checkpoint=str(file))
    assert same(whole, resumed) and record == again
    assert seen == list(enumerate(record.accuracies, start=1))
    done, last = run(0, checkpoint=file)  # nothing is left to do
    assert same(whole, done) and record == last
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_what_a_checkpoint_does_not_fit(tmp_path: Path) -> None:
    file = tmp_path / "state"

    def run(model: torch.nn.Module, **options: object) -> None:
        arguments = {"epochs": 1, "seed": 3, "optimizer": sgd, "checkpoint": file} | options
        nct.fit(model, TRAINING, VALIDATION, **arguments)

    run(net())
    content = file.read_bytes()
    with pytest.raises(ValueError, match=r"a training with seed 4, got 3 in .*state"):
        run(net(), seed=4)
    with pytest.raises(ValueError, match=r"with optimizer Adam, got SGD"):
        run(net(), optimizer=None)
    with pytest.raises(ValueError, match=r"with steps 4, got 0"):
        run(net(), scheduler=one_cycle)
    with pytest.raises(ValueError, match=r"with noise True, got False"):
        noisy = net()
        nct.inject_noise(noisy, 0.1, seed=1)
        run(noisy)
    longer = tmp_path / "longer"
    run(net(), epochs=2, checkpoint=longer)
    with pytest.raises(ValueError, match=r"expected at most 1 epochs, got 2 in .*longer"):
        run(net(), checkpoint=longer)
    with pytest.raises(
        ValueError, match=r"checkpoint: expected one of this model, got .*state of another: .* MLP"
    ):
        run(nct.MLP())
    for length in (0, 1, 100, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"checkpoint: expected .*state to be intact, got "):
            run(net())
    weights = torch.load(io.BytesIO(content), weights_only=True)["model"]["5.weight"]
    flipped = bytearray(content)
    flipped[content.index(weights.numpy().tobytes()) + 999] ^= 1
    file.write_bytes(flipped)
    with pytest.raises(ValueError, match=r"state to be intact, got a wrong checksum of .*data/"):
        run(net())
    torch.save([1], file)
    with pytest.raises(ValueError, match=r"checkpoint: expected .*state to hold a training"):
        run(net())
    torch.save(Path("x"), file)  # anything but tensors and plain containers
    with pytest.raises(ValueError, match=r"checkpoint: expected .*state to be intact, got "):
        run(net())


def test_a_checkpoint_is_whole_or_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "state"
    nct.fit(net(), TRAINING, VALIDATION, epochs=1, checkpoint=file)
    content = file.read_bytes()

    def full(state: object, target: object) -> None:
        target.write(b"begun")  # type: ignore[attr-defined]
        raise OSError("no space left")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="no space left"):
        nct.fit(net(), TRAINING, VALIDATION, epochs=2, checkpoint=file)
    assert file.read_bytes() == content and list(tmp_path.iterdir()) == [file]


def test_patience(tmp_path: Path) -> None:
    scores = [50.0, 60.0, 60.0, 55.0, 60.0, 70.0]
    calls: list[bool] = []

    def validate(model: torch.nn.Module, validation: object) -> tuple[float, float]:
        assert validation is VALIDATION
        calls.append(model.training)
        return scores[len(calls) - 1], 1.0

    arguments = dict(epochs=6, validate=validate, checkpoint=tmp_path / "state")
    record = nct.fit(net(), TRAINING, VALIDATION, patience=3, **arguments)
    assert record == nct.TrainingRecord(tuple(scores[:5]), (1.0,) * 5, 2)
    assert nct.fit(net(), TRAINING, VALIDATION, patience=3, **arguments) == record
    assert calls == [False] * 5
    # without patience the same training goes on
    record = nct.fit(net(), TRAINING, VALIDATION, **arguments)
    assert record.accuracies == tuple(scores) and record.best_epoch == 6


def test_losses_decide_between_equal_accuracies() -> None:
    losses = iter([3.0, 1.0, 2.0])
    record = nct.fit(
        *(net(), TRAINING, VALIDATION), epochs=3, validate=lambda *_: (50.0, next(losses))
    )
    assert record.best_epoch == 2


def test_loaders_and_losses_of_ones_own() -> None:
    class Told(list):
        def set_epoch(self, epoch: int) -> None:
            epochs.append(epoch)

    epochs: list[int] = []
    shapes: list[tuple[int, ...]] = []

    def loss(model: torch.nn.Module, *batch: torch.Tensor) -> torch.Tensor:
        shapes.append(tuple(map(len, batch)))
        images, labels, weights = batch
        losses = torch.nn.functional.cross_entropy(model(images), labels, reduction="none")
        return (weights * losses).mean()

    weighted = TRAINING.with_target(torch.ones(150))
    nct.fit(net(), Told(weighted), VALIDATION, epochs=2, loss=loss)
    assert epochs == [1, 2] and shapes == 2 * [(40,) * 3, (40,) * 3, (40,) * 3, (30,) * 3]
    sampler = Told(range(150))
    dataset = torch.utils.data.TensorDataset(TRAINING.images, *TRAINING.targets)
    loader = torch.utils.data.DataLoader(dataset, batch_size=50, sampler=sampler)
    nct.fit(net(), loader, VALIDATION, epochs=1)
    assert epochs == [1, 2, 1]


def test_noise_acts_in_training_and_validation() -> None:
    model = nct.build(net, seed=1)
    noise = nct.inject_noise(model, 0.05, seed=5)
    nct.fit(model, TRAINING, VALIDATION, epochs=2, seed=3)
    assert noise.draw == 2 * (len(TRAINING) + len(VALIDATION)) == 2 * (4 + 2)
    clean = nct.build(net, seed=1)
    nct.fit(clean, TRAINING, VALIDATION, epochs=2, seed=3)
    assert not same(model, clean)


def train_in_parallel(epochs: int, checkpoint: Path | None) -> tuple[object, ...]:
    model = nct.build(nct.MLP, seed=1)
    record = nct.fit(
        torch.nn.parallel.DistributedDataParallel(model),
        nct.batches(IMAGES[:150], LABELS[:150], 15),
        nct.batches(IMAGES[150:], LABELS[150:], 30, shuffle=False),
        **dict(epochs=epochs, seed=3, optimizer=sgd, checkpoint=checkpoint),
    )
    return model.state_dict(), record.accuracies, record.losses


def distributed_training(rank: int, folder: str) -> None:
    results = [train_in_parallel(3, None)]
    train_in_parallel(2, Path(folder, "state"))
    results.append(train_in_parallel(3, Path(folder, "state")))
    share = nct.batches(IMAGES[150:], LABELS[150:], 30, shuffle=False)
    torch.save((results, torch.cat([labels for _, labels in share])), f"{folder}/{rank}.pt")


def test_two_processes_train_as_one_with_their_batches_together(tmp_path: Path) -> None:
    two_processes.run(distributed_training, tmp_path)
    (one, first), (two, second) = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert torch.equal(torch.stack([first, second], 1).ravel(), VALIDATION.targets[0])
    alone = nct.build(nct.MLP, seed=1)
    loader = nct.batches(IMAGES[:150], LABELS[:150], 30)
    record = nct.fit(alone, loader, VALIDATION, epochs=3, seed=3, optimizer=sgd)
    for state, accuracies, losses in (*one, *two):
        assert accuracies == one[0][1] and losses == one[0][2]  # in both, resumed or not
        assert all(torch.equal(value, one[0][0][name]) for name, value in state.items())
        torch.testing.assert_close(state, dict(alone.state_dict()), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(losses, record.losses, rtol=1e-4, atol=1e-5)


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
    with pytest.raises(ValueError, match=r"epochs: expected an int in .*, got 0"):
        nct.train(model, IMAGES, LABELS, epochs=0)
    with pytest.raises(ValueError, match=r"batch_size: expected an int in .*, got 0"):
        nct.train(model, IMAGES, LABELS, batch_size=0)
    with pytest.raises(ValueError, match=r"labels: expected one for each of 200 images, got 199"):
        nct.train(model, IMAGES, LABELS[1:])
    with pytest.raises(ValueError, match=r"fraction: .* got 0"):
        nct.train(model, IMAGES, LABELS, validation_fraction=0)
    with pytest.raises(ValueError, match=r"seed: expected .* got -1"):
        nct.build(nct.MLP, seed=-1)
    with pytest.raises(ValueError, match=r"patience: expected an int in .*, got 0"):
        nct.fit(net(), TRAINING, VALIDATION, epochs=1, patience=0)
    for norm in (0, math.nan):
        with pytest.raises(ValueError, match=r"clip_gradient: expected a finite number > 0, got"):
            nct.fit(net(), TRAINING, VALIDATION, epochs=1, clip_gradient=norm)
    with pytest.raises(ValueError, match=r"autocast: expected .* no scaling, got float16"):
        nct.fit(net(), TRAINING, VALIDATION, epochs=1, autocast=torch.float16)
    with pytest.raises(ValueError, match=r"validation: expected at least one batch, got none"):
        nct.fit(net(), TRAINING, [], epochs=1)
    with pytest.raises(ValueError, match=r"loader: expected batches in every epoch, .* in 2"):
        nct.fit(net(), iter(TRAINING), VALIDATION, epochs=2)
    with pytest.raises(TypeError, match=r"loader: expected one with a length, .*<generator"):
        nct.fit(net(), iter(TRAINING), VALIDATION, epochs=1, scheduler=one_cycle)
    with pytest.raises(ValueError, match=r"images: .* got 0 images and 0 labels"):
        nct.accuracy(model, IMAGES[:0], LABELS[:0])
    with pytest.raises(ValueError, match=r"images: .* got 200 images and 199 labels"):
        nct.accuracy(model, IMAGES, LABELS[1:])
