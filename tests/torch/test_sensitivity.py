"""Diagonal Fisher information: against a loop, a closed form, and what it says of the outputs."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional as F  # noqa: E402

import noisycells.torch as nct  # noqa: E402

IMAGES = np.random.default_rng(3).standard_normal((60, 1, 28, 28), dtype=np.float32)


def test_is_a_mean_over_images_of_squared_gradients() -> None:
    model = nct.build(nct.LeNet, seed=1).train()
    found = nct.sensitivity(model, IMAGES, seed=5)
    assert model.training and all(p.grad is None for p in model.parameters())
    model.eval()
    generator = torch.Generator().manual_seed(5)
    expected = {name: np.zeros(p.shape) for name, p in model.named_parameters()}
    for part in torch.from_numpy(IMAGES).split(25):
        labels = torch.multinomial(model(part).softmax(1), 1, generator=generator)
        for image, label in zip(part, labels, strict=True):
            model.zero_grad()
            F.cross_entropy(model(image[None]), label).backward()
            for name, parameter in model.named_parameters():
                expected[name] += parameter.grad.numpy().astype(np.float64) ** 2 / len(IMAGES)
    assert found.keys() == expected.keys()
    for name, value in found.items():
        assert value == pytest.approx(expected[name], rel=1e-3, abs=1e-9), name


def test_of_a_softmax_layer_it_is_known() -> None:
    """h = p (1 - p) x^2 for one input x; 5 standard errors over the classes drawn."""
    layer = nct.build(lambda: torch.nn.Linear(4, 3), seed=2)
    x = torch.tensor([0.5, -1.0, 2.0, 0.3])
    draws = 20_000
    found = nct.sensitivity(layer, x.repeat(draws, 1), seed=1)["weight"]
    with torch.no_grad():
        p = layer(x).softmax(0).double().numpy()
    # (1[y = c] - p_c)^2 is (1 - p)^2 with probability p, else p^2.
    error = np.abs(1 - 2 * p) * np.sqrt(p * (1 - p) / draws)
    squares = x.double().numpy() ** 2
    assert np.all(np.abs(found / squares - (p * (1 - p))[:, None]) < 5 * error[:, None] + 1e-6)


def test_small_errors_move_the_outputs_by_it() -> None:
    """KL(p || q) = sum h e^2 / 2 for independent errors e, on average over them.

    Over 200 draws of errors that are not quite small the ratio is 0.94 to 0.98 for 12 seeds of
    everything, with a standard deviation of 0.01; 0.1 are allowed.
    """
    model = nct.build(nct.MLP, seed=4).eval()
    images = torch.from_numpy(IMAGES)
    h = nct.sensitivity(model, images.repeat(8, 1, 1, 1), seed=0)
    generator, std = torch.Generator().manual_seed(0), 3e-3
    weights = {name: p.detach() for name, p in model.named_parameters()}
    with torch.no_grad():
        clean = model(images).log_softmax(1)
        total = 0.0
        for _ in range(200):
            noisy = {
                name: w + std * torch.randn(w.shape, generator=generator)
                for name, w in weights.items()
            }
            outputs = torch.func.functional_call(model, noisy, (images,)).log_softmax(1)
            total += F.kl_div(outputs, clean, reduction="batchmean", log_target=True).item()
    expected = sum(float(value.sum()) for value in h.values()) * std**2 / 2
    assert total / 200 / expected == pytest.approx(1, abs=0.1)


def test_no_images() -> None:
    with pytest.raises(ValueError, match=r"examples: expected at least one, got none"):
        nct.sensitivity(nct.MLP(), IMAGES[:0])
    with pytest.raises(ValueError, match=r"examples: expected at least one, got none"):
        nct.sensitivity(nct.MLP(), [])


class Tokens(torch.nn.Module):
    """A mean of embeddings, then a linear layer; called with names."""

    def __init__(self) -> None:
        super().__init__()
        self.words = torch.nn.Embedding(7, 5)
        self.last = torch.nn.Linear(5, 3)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        kept = mask[..., None] * self.words(ids)
        return self.last(kept.sum(1) / mask.sum(1, keepdim=True))


def token_batches() -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(8)
    return [
        {
            "ids": torch.randint(7, (n, 4), generator=generator),
            "mask": torch.tensor([[1.0, 1.0, 1.0, 0.0]]).repeat(n, 1),
            "labels": torch.zeros(n, dtype=torch.long),
        }
        for n in (30, 2)
    ]


@pytest.mark.parametrize("large", [False, True])
def test_of_values_it_is_their_mean_square(large: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """h = E sum_k (d f_k / d w)^2: for the last layer E x^2, for every row of its weight.

    Directions are random; 6 standard errors of a mean of squares of normals. Examples one by one,
    as for large models, draw the same.
    """
    module = importlib.import_module("noisycells.torch.measure.sensitivity")
    monkeypatch.setattr(module, "LARGE", 0 if large else 1 << 20)
    model = nct.build(Tokens, seed=3)
    batches = token_batches() * 100
    found = nct.sensitivity(model, batches, outputs="values", seed=1)
    with torch.no_grad():
        x = torch.cat([
            (model.words(b["ids"]) * b["mask"][..., None]).sum(1) / 3 for b in token_batches()
        ])  # fmt: skip
    expected = x.double().square().mean(0).numpy()
    bound = 6 * np.sqrt(2 * x.double().pow(4).mean(0).numpy() / 3200)
    assert (np.abs(found["last.weight"] - expected) < bound).all()
    assert np.abs(found["last.bias"] - 1).max() < 6 * np.sqrt(2 / 3200)
    assert found["words.weight"].shape == (7, 5) and (found["words.weight"] > 0).all()


def test_batches_are_as_one() -> None:
    model = nct.build(nct.MLP, seed=4)
    images = torch.from_numpy(IMAGES[:50])
    whole = nct.sensitivity(model, images, seed=2)
    parts = nct.sensitivity(model, [(images[:25], None), (images[25:], None)], seed=2)
    for name, value in whole.items():
        assert np.array_equal(value, parts[name]), name


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"outputs: expected one of 'classes', 'values', got 'x'"):
        nct.sensitivity(nct.MLP(), IMAGES, outputs="x")
    with pytest.raises(ValueError, match=r"model: expected logits of shape \(n, classes\)"):
        nct.sensitivity(torch.nn.Conv2d(1, 2, 3), IMAGES)
    uneven = {"ids": torch.zeros(3, 4, dtype=torch.long), "mask": torch.ones(2, 4)}
    with pytest.raises(
        ValueError, match=r"examples: expected as many in all tensors, got \[2, 3\]"
    ):
        nct.sensitivity(Tokens(), uneven)


def test_of_attention() -> None:
    """Several examples at a time give what one at a time does, without a warning of torch."""
    layer = nct.build(
        lambda: torch.nn.TransformerEncoderLayer(16, 2, 32, 0.0, batch_first=True), seed=3
    )
    examples = torch.randn(12, 5, 16, generator=torch.Generator().manual_seed(1))
    together = nct.sensitivity(layer, examples, outputs="values", seed=4)
    generator = torch.Generator().manual_seed(4)
    drawn = torch.randn(12, 5, 16, generator=generator)
    expected = {name: np.zeros(p.shape) for name, p in layer.named_parameters()}
    for example, y in zip(examples, drawn, strict=True):
        layer.zero_grad()
        (layer(example[None])[0] * y).sum().backward()
        for name, parameter in layer.named_parameters():
            expected[name] += parameter.grad.numpy().astype(np.float64) ** 2 / len(examples)
    for name, value in together.items():
        assert value == pytest.approx(expected[name], rel=1e-3, abs=1e-6), name
