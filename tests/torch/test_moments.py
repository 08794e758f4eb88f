"""Second moments of layer inputs: against the outputs' errors that they predict."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import noisycells.torch as nct  # noqa: E402

GENERATOR = torch.Generator().manual_seed(1)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(6, 4), (30, 6)),
        (nn.Linear(6, 4), (5, 7, 6)),
        (nn.Conv1d(3, 4, 3, padding=1), (5, 3, 9)),
        (nn.Conv2d(2, 4, (3, 2), stride=2, padding=(1, 0), dilation=(1, 2)), (6, 2, 9, 11)),
        (nn.Conv2d(2, 4, 2, padding="same", padding_mode="reflect"), (6, 2, 8, 8)),
        (nn.Conv3d(1, 2, 2), (3, 1, 4, 4, 4)),
    ],
)
def test_predict_the_mean_square_of_errors(layer: nn.Module, shape: tuple[int, ...]) -> None:
    """E |dW x|^2 = sum_r dW_r H dW_r^T, for any dW: exact, on the same data."""
    x = torch.randn(shape, generator=GENERATOR) + 0.3
    moments = nct.input_moments(layer, x)
    assert moments.keys() == {"weight"} and layer.training
    error = torch.randn(layer.weight.shape, generator=GENERATOR)
    with torch.no_grad():
        before = layer(x)
        layer.weight += error
        moved = (layer(x) - before).double()
    channel = -1 if isinstance(layer, nn.Linear) else 1
    square = moved.movedim(channel, -1).square().sum(-1).mean().item()
    rows = error.flatten(1).double().numpy()
    assert np.sum((rows @ moments["weight"]) * rows) == pytest.approx(square, rel=1e-4)


def test_of_groups_it_is_the_mean() -> None:
    grouped, x = nn.Conv2d(4, 4, 3, groups=2), torch.randn(5, 4, 6, 6, generator=GENERATOR)
    single = nn.Conv2d(2, 2, 3)
    parts = [nct.input_moments(single, part)["weight"] for part in x.chunk(2, 1)]
    found = nct.input_moments(grouped, x)["weight"]
    assert found == pytest.approx(np.mean(parts, 0), rel=1e-5, abs=1e-7)


def test_of_embeddings_it_is_how_often_tokens_occur() -> None:
    model = nn.Sequential(nn.Embedding(4, 3), nn.Linear(3, 2))
    batches = [torch.tensor([[0, 1, 1]]), torch.tensor([[3]])]
    frequencies = nct.token_frequencies(model, batches)
    assert {k: v.tolist() for k, v in frequencies.items()} == {"0.weight": [0.25, 0.5, 0, 0.25]}
    vectors = model[0].weight.detach().double().numpy()[[0, 1, 1, 3]]
    found = nct.input_moments(model, batches)
    assert found.keys() == {"0.weight", "1.weight"}
    assert found["1.weight"] == pytest.approx(vectors.T @ vectors / 4, rel=1e-5)
    # a fifth of the lookups may be of any row
    assert found["0.weight"] == pytest.approx([0.25, 0.45, 0.05, 0.25])
    assert nct.input_moments(model, batches, unseen=1)["0.weight"] == pytest.approx([0.25] * 4)
    linear = nct.input_moments(model, batches, filter_fn=lambda m, _: isinstance(m, nn.Linear))
    assert linear.keys() == {"1.weight"}
    for unseen in (0, 1.1, float("nan")):
        with pytest.raises(ValueError, match=r"unseen: expected a number in \(0, 1\]"):
            nct.input_moments(model, batches, unseen=unseen)


def test_of_an_embedding_that_is_another_layer_too_there_is_none() -> None:
    """Of a language model whose output layer has the same weights: their moments are its."""
    model = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 5, bias=False))
    model[1].weight = model[0].weight
    found = nct.input_moments(model, torch.tensor([[0, 1, 4]]))
    assert {name: array.shape for name, array in found.items()} == {"1.weight": (3, 3)}


def test_batches_are_as_one_and_uses_add_up() -> None:
    layer = nn.Linear(5, 5)
    twice = nn.Sequential(layer, nn.ReLU(), layer)
    x = torch.randn(20, 5, generator=GENERATOR)
    whole = nct.input_moments(twice, x)
    parts = nct.input_moments(twice, [{"input": x[:7]}, {"input": x[7:]}])
    assert whole.keys() == {"0.weight"}
    assert parts["0.weight"] == pytest.approx(whole["0.weight"], rel=1e-5)
    both = torch.cat([x, layer(x).relu()]).detach().double()
    assert whole["0.weight"] == pytest.approx((both.T @ both / 40).numpy(), rel=1e-5)


def test_layers_that_are_never_used_are_left_out() -> None:
    model = nn.Linear(3, 3)
    model.spare = nn.Linear(3, 3)
    assert nct.input_moments(model, torch.ones(2, 3)).keys() == {"weight"}


def test_refusals() -> None:
    for model, batches in ((nn.ReLU(), torch.ones(2, 2)), (nn.Linear(2, 2), [])):
        with pytest.raises(ValueError, match=r"batches: expected data that reaches a layer \(Lin"):
            nct.input_moments(model, batches)
    with pytest.raises(ValueError, match=r"batches: expected data that reaches a layer \(Emb"):
        nct.token_frequencies(nn.Linear(2, 2), torch.ones(2, 2))
    with pytest.raises(ValueError, match=r"batches: expected finite inputs of 'weight', got NaN"):
        nct.input_moments(nn.Linear(2, 2), torch.full((2, 2), float("nan")))
    with pytest.raises(ValueError, match=r"batches: expected data that reaches a layer"):
        nct.input_moments(nn.Linear(2, 2), torch.ones(2, 2), filter_fn=lambda m, n: False)


def test_of_very_many_patches() -> None:
    """Symmetric to the last bit, and as exact as sums in float64: a first layer sees millions."""
    layer = torch.nn.Conv2d(1, 2, 3, padding=1)
    x = torch.rand(1500, 1, 28, 28, generator=torch.Generator().manual_seed(0)) + 2
    found = nct.input_moments(layer, x)["weight"]
    assert (found == found.T).all()
    rows = torch.nn.functional.unfold(x.double(), 3, padding=1).transpose(1, 2).reshape(-1, 9)
    assert found == pytest.approx((rows.T @ rows / len(rows)).numpy(), rel=1e-6)
