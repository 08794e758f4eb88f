"""Distillation: the losses against their formulas, and a teacher that is only asked."""

from __future__ import annotations

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import noisycells.torch as nct  # noqa: E402
from noisycells import data  # noqa: E402

GENERATOR = torch.Generator().manual_seed(3)
STUDENT, TEACHER = torch.randn(2, 5, 4, generator=GENERATOR, dtype=torch.float64) * 3
LABELS = torch.tensor([0, 3, 1, 1, 2])
IMAGES = torch.randn(60, 1, 28, 28, generator=GENERATOR)
CLASSES = torch.arange(60) % 10


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits)
    return powers / powers.sum(1, keepdims=True)


def formula(form: str, t: float, alpha: float) -> float:
    """The loss from the definitions of cross entropy and divergence, term by term."""
    student, teacher = STUDENT.numpy(), TEACHER.numpy()
    hard = -np.mean([np.log(softmax(student)[i, label]) for i, label in enumerate(LABELS)])
    p, q = softmax(teacher / t), softmax(student / t)
    if form == "isik":
        divergence = np.mean(np.sum(p * (np.log(p) - np.log(q)), 1))
        return float(alpha * hard + (1 - alpha) * t**2 * divergence)
    return float(hard + alpha * t**2 * np.mean(np.sum(-p * np.log(q), 1)))


@pytest.mark.parametrize("form", ["isik", "zhou"])
@pytest.mark.parametrize(("t", "alpha"), [(1.5, 0.5), (6.0, 1.0), (0.7, 0.2), (2.0, 0.0)])
def test_losses_are_their_formulas(form: str, t: float, alpha: float) -> None:
    loss = nct.distillation_loss(STUDENT, TEACHER, LABELS, t, alpha, form)
    assert loss.shape == () and loss.dtype == torch.float64
    assert loss.item() == pytest.approx(formula(form, t, alpha), rel=1e-12)


def test_defaults() -> None:
    found = nct.distillation_loss(STUDENT, TEACHER, LABELS)
    assert found.item() == pytest.approx(formula("isik", 1.5, 0.5), rel=1e-12)
    found = nct.distillation_loss(STUDENT, TEACHER, LABELS, form="zhou")
    assert found.item() == pytest.approx(formula("zhou", 6.0, 1.0), rel=1e-12)


@pytest.mark.parametrize("form", ["isik", "zhou"])
def test_gradients(form: str) -> None:
    """By finite differences for the student; none reaches the teacher."""
    student, teacher = STUDENT.clone().requires_grad_(), TEACHER.clone().requires_grad_()

    def of_student(logits: torch.Tensor) -> torch.Tensor:
        return nct.distillation_loss(logits, TEACHER, LABELS, form=form)

    assert torch.autograd.gradcheck(of_student, student)
    nct.distillation_loss(student, teacher, LABELS, form=form).backward()
    assert teacher.grad is None and student.grad is not None


def test_wrong_arguments_are_named() -> None:
    def loss(**changes: object) -> None:
        nct.distillation_loss(*(STUDENT, TEACHER, LABELS), **changes)

    with pytest.raises(ValueError, match=r"teacher_logits: expected .* \(5, 3\) and \(5, 4\)"):
        nct.distillation_loss(STUDENT, TEACHER[:, 1:], LABELS)
    with pytest.raises(ValueError, match=r"form: expected one of .*'zhou'.* got 'hinton'"):
        loss(form="hinton")
    for t in (0, -1, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=r"temperature: expected a number in"):
            loss(temperature=t)
    for alpha in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=r"alpha: expected a number in \[0, 1\], got"):
            loss(alpha=alpha)
    with pytest.raises(ValueError, match=r"alpha: expected a finite number >= 0, got -1"):
        loss(alpha=-1, form="zhou")
    with pytest.raises(ValueError, match=r"form: expected one of"):
        nct.distill(nct.MLP(), nct.MLP(), [], [], form="hinton", epochs=1)


class Asked(torch.nn.Module):
    """A teacher with dropout that counts what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Dropout(), torch.nn.Linear(784, 10)
        )
        self.images = 0
        self.types: set[torch.dtype] = set()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert not self.training and not torch.is_grad_enabled()
        self.images += len(images)
        answers = self.layers(images)
        self.types.add(answers.dtype)
        return answers


@pytest.mark.parametrize(
    ("loader", "asked"),
    [
        (nct.batches(IMAGES, CLASSES, 25), 60),  # once for all epochs
        (nct.batches(IMAGES, CLASSES, 25, augment="flip"), 120),
        (list(nct.batches(IMAGES, CLASSES, 25, shuffle=False)), 120),
    ],
)
def test_distillation_is_the_loop_written_by_hand(loader: nct.Batches, asked: int) -> None:
    validation = nct.batches(IMAGES[:10], CLASSES[:10], shuffle=False)
    teacher = nct.build(Asked, seed=1).train()
    teacher.layers[2].eval()
    before = copy.deepcopy(teacher.state_dict())
    student, hand = (nct.build(nct.MLP, seed=2) for _ in range(2))
    record = nct.distill(
        *(student, teacher, loader, validation),
        **dict(temperature=2, alpha=0.3, epochs=2, seed=4, optimizer=adam),
    )
    assert teacher.images == asked
    assert [m.training for m in teacher.modules()] == [True, True, True, True, False]
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in teacher.parameters())
    optimizer, states = adam(hand.parameters()), []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        for _ in range(2):
            for images, labels in loader:
                logits = teacher.layers.eval()(images).detach()
                optimizer.zero_grad()
                nct.distillation_loss(hand(images), logits, labels, 2, 0.3).backward()
                optimizer.step()
            states.append(copy.deepcopy(hand.state_dict()))
    kept = states[record.best_epoch - 1]
    # Batches of another size may be summed in another order, in the teacher.
    torch.testing.assert_close(student.state_dict(), kept, rtol=1e-3, atol=1e-5)
    logits = student(IMAGES[:10])
    found = torch.nn.functional.cross_entropy(logits, CLASSES[:10]).item()
    assert record.losses[record.best_epoch - 1] == pytest.approx(found, rel=1e-5)


@pytest.mark.parametrize("augment", [None, "flip"])
def test_mixed_precision_is_that_of_the_teacher_too(augment: str | None) -> None:
    """Whether it answers before the training or during it; results are of float32."""
    validation = nct.batches(IMAGES[:10], CLASSES[:10], shuffle=False)
    for autocast in (None, torch.bfloat16):
        teacher, student = nct.build(Asked, seed=1), nct.build(nct.MLP, seed=2)
        loader = nct.batches(IMAGES, CLASSES, 25, augment=augment)
        nct.distill(student, teacher, loader, validation, epochs=1, autocast=autocast)
        assert teacher.types == {autocast or torch.float32}
        assert student(IMAGES[:2]).dtype == torch.float32


def adam(parameters: object) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=1e-3)


def test_a_noisy_student_of_digits() -> None:
    """A student with noisy weights learns from a teacher alone (alpha 0): labels are shuffled."""
    digits = data.load_digits().subset(600)
    images = digits.normalize(digits.train_images)
    test = digits.normalize(digits.test_images), digits.test_labels
    teacher = nct.build(nct.MLP, seed=0)
    nct.train(teacher, images, digits.train_labels, epochs=8)
    nonsense = np.random.default_rng(1).permutation(digits.train_labels)
    loader = nct.batches(images, nonsense, 50)
    validation = nct.batches(images[:100], digits.train_labels[:100], shuffle=False)
    student = nct.build(nct.MLP, seed=1)
    with nct.inject_noise(student, 0.02, seed=2) as noise:
        nct.distill(student, teacher, loader, validation, alpha=0, epochs=4, optimizer=adam)
        drawn = noise.draw
    assert drawn == 4 * (len(loader) + len(validation))
    # 92.7 and 89.8 over 16 seeds of everything, standard deviations 1.9 and 2.0
    assert nct.accuracy(teacher, *test) > 80 and nct.accuracy(student, *test) > 75
