"""Batches that calibrate, evaluate and accuracy take; metrics."""

from __future__ import annotations

import math
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

import noisycells as nc  # noqa: E402
import noisycells.torch as nct  # noqa: E402
from noisycells.torch.crossbar.calibration import _Sample  # noqa: E402

nn = torch.nn
PCM = nc.devices.pcm_joshi2020()
CALIBRATED = nc.CrossbarSpec(dac_range="calibrated", adc_range="calibrated")
X = torch.linspace(-3, 5, 40 * 8).reshape(40, 8)
Y = torch.arange(40) % 4


class Named(nn.Module):
    """As of transformers: keyword arguments, and an object with logits."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(8, 4)

    def forward(self, input_ids: Any = None, attention_mask: Any = None, labels: Any = None) -> Any:
        assert labels is None
        return types.SimpleNamespace(logits=self.head(input_ids))


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(8, 4)

    def forward(self, a: Any, b: Any) -> Any:
        return self.head(a + b)


def ranges(model: Any, data: Any, **keywords: Any) -> Any:
    torch.manual_seed(0)
    nct.convert(model, PCM, CALIBRATED)
    nct.calibrate(model, data, **keywords)
    layer = next(m for m in model.modules() if isinstance(m, nct.CrossbarLayer))
    return layer.ranges[0, 0].item()


def as_dicts() -> Any:
    return [{"input_ids": x, "labels": y} for x, y in zip(X.split(8), Y.split(8), strict=True)]


DATA = {
    "tensor": (lambda: nn.Linear(8, 4), lambda: X),
    "array": (lambda: nn.Linear(8, 4), lambda: X.numpy()),
    "batches": (lambda: nn.Sequential(nn.Linear(8, 4)), lambda: X.split(8)),
    "generator": (lambda: nn.Sequential(nn.Linear(8, 4)), lambda: (x for x in X.split(8))),
    "loader": (
        lambda: nn.Sequential(nn.Linear(8, 4)),
        lambda: DataLoader(TensorDataset(X, Y), batch_size=8),
    ),
    "loader of x": (lambda: nn.Linear(8, 4), lambda: DataLoader(TensorDataset(X), batch_size=8)),
    "a layer": (lambda: nn.Linear(8, 4), lambda: DataLoader(TensorDataset(X, Y), batch_size=8)),
    "nct.batches": (lambda: nn.Linear(8, 4), lambda: nct.batches(X, Y, 8)),
    "dict": (Named, lambda: {"input_ids": X, "attention_mask": X}),
    "dicts": (Named, as_dicts),
    "dict and label": (Named, lambda: [({"input_ids": X}, Y)]),
    "arguments": (Two, lambda: [(X, 0 * X)]),
    "arguments and label": (Two, lambda: [(X, 0 * X, Y)]),
}


@pytest.mark.parametrize(("make", "data"), DATA.values(), ids=DATA)
def test_calibrate_takes(make: Any, data: Any) -> None:
    assert ranges(make(), data()) == 5.0


@pytest.mark.parametrize(
    ("make", "data", "error", "message"),
    [
        (Named, [(X, Y)], ValueError, "batches: expected dicts, or batches of inputs alone"),
        (lambda: nn.Linear(8, 4), 3, TypeError, "batches: expected a tensor, or an iterable"),
        (lambda: nn.Linear(8, 4), "abc", TypeError, "batches: expected"),
    ],
)
def test_calibrate_refuses(make: Any, data: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ranges(make(), data)


def test_calibration_streams() -> None:
    """No batch is alive when the next one is made, and of its vectors few are kept."""
    import weakref

    alive: list[Any] = []

    def data() -> Iterator[Any]:
        for _ in range(20):
            x = torch.randn(64, 8)
            assert sum(r() is not None for r in alive) <= 1
            alive.append(weakref.ref(x))
            yield x

    ranges(nn.Linear(8, 4), data(), vectors=100)
    sample = _Sample(100)
    for start in range(0, 7000, 70):
        sample.add(torch.arange(start, start + 70.0).reshape(1, 70, 1))
        assert sample.vectors().shape[1] <= 100
    kept = sample.vectors().flatten()
    assert len(kept) >= 50 and (kept.diff() == sample.stride).all() and kept[0] == 0


def test_calibration_fails_as_a_whole() -> None:
    model = nct.convert(nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 2)), PCM, CALIBRATED)
    nct.calibrate(model, X)
    before = [layer.ranges.clone() for layer in model]
    with torch.no_grad():
        model[0].weight[0, 0] = math.nan
    with pytest.raises(ValueError, match="NaN"):
        nct.calibrate(model, 2 * X)
    assert all(torch.equal(a, b.ranges) for a, b in zip(before, model, strict=True))


# --------------------------------------------------------------------------- metrics


def noisy(model: Any) -> Any:
    nct.inject_noise(model, 0.0, seed=1)
    return model.eval()


def test_metrics_are_those_of_torch() -> None:
    torch.manual_seed(0)
    model = noisy(nn.Linear(8, 3))
    target = torch.randn(40, 3)
    loader = list(zip(X.split(16), target.split(16), strict=True))
    with torch.no_grad():
        y = model(X).double()
    want = {
        "mse": nn.functional.mse_loss(y, target.double()),
        "mae": nn.functional.l1_loss(y, target.double()),
        "cosine": nn.functional.cosine_similarity(y, target.double()).mean(),
    }
    for name, value in want.items():
        found = nct.evaluate(model, loader, 2, metric=name)
        assert found.scores == pytest.approx([value.item()] * 2, rel=1e-6) and found.losses == ()
    found = nct.evaluate(model, loader, 2, metric=lambda a, b: (a - b).abs().max())
    assert found.mean == pytest.approx((y - target).abs().max().item())


def test_regression_onto_a_vector() -> None:
    """(n, 1) against (n,) is one number each, not a matrix of differences."""
    torch.manual_seed(0)
    model = noisy(nn.Linear(8, 1))
    target = torch.randn(40)
    with torch.no_grad():
        want = (model(X)[:, 0].double() - target).square().mean().item()
    assert nct.evaluate(model, [(X, target)], 1, metric="mse").mean == pytest.approx(want)


def test_batches_and_outputs_of_transformers() -> None:
    torch.manual_seed(0)
    model = noisy(Named())
    with torch.no_grad():
        want = 100 * (model.head(X).argmax(1) == Y).double().mean().item()
    assert nct.evaluate(model, as_dicts(), 2).scores == pytest.approx([want] * 2)
    assert nct.accuracy(model, as_dicts()) == pytest.approx(want)


class CausalLMOutput:
    """As transformers' in what is looked at: the class's name and the logits."""

    def __init__(self, logits: Any) -> None:
        self.logits = logits


class Language(nn.Module):
    """Logits for the next of 5 tokens, from the present one."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Linear(5, 5, bias=False)

    def forward(self, input_ids: Any, attention_mask: Any = None) -> Any:
        return CausalLMOutput(self.table(nn.functional.one_hot(input_ids, 5).float()))


def test_causal_language_models() -> None:
    """Perplexity by hand over two batches of unlike lengths; padding does not count."""
    torch.manual_seed(0)
    model = noisy(Language())
    tokens = [torch.tensor([[0, 1, 2, 4], [3, 3, 0, 0]]), torch.tensor([[4, 2]])]
    masks = [torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]), torch.tensor([[1, 1]])]
    following = [(0, 1), (1, 2), (2, 4), (3, 3), (4, 2)]
    with torch.no_grad():
        log = model.table.weight.T.log_softmax(1)
    want = math.exp(-sum(log[a, b].item() for a, b in following) / len(following))
    plain = [{"input_ids": t, "attention_mask": m} for t, m in zip(tokens, masks, strict=True)]
    labeled = [
        {**batch, "labels": batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)}
        for batch in plain
    ]
    for data in (plain, labeled):
        assert nct.evaluate(model, data, 1, metric="perplexity").mean == pytest.approx(want)
    right = sum(int(log[a].argmax()) == b for a, b in following)
    assert nct.evaluate(model, labeled, 1).mean == pytest.approx(100 * right / 5)
    with pytest.raises(ValueError, match="labels: expected one for each token"):
        nct.evaluate(model, [{"input_ids": tokens[0], "labels": torch.zeros(2).long()}], 1)


def test_perplexity_of_plain_logits() -> None:
    """Labels of a model that returns a tensor are those of each output as it is."""
    model = noisy(nn.Linear(8, 4))
    with torch.no_grad():
        want = nn.functional.cross_entropy(model(X), Y).exp().item()
    loader = [(X[:7], Y[:7]), (X[7:], Y[7:])]
    assert nct.evaluate(model, loader, 1, metric="perplexity").mean == pytest.approx(want, rel=1e-5)
    with pytest.raises(ValueError, match="against: expected one of 'labels'"):
        nct.evaluate(model, loader, 1, metric="perplexity", against="clean")


class Encoder(nn.Module):
    """Hidden states of tokens, as an encoder of transformers gives them."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Linear(5, 3)

    def forward(self, input_ids: Any, attention_mask: Any = None) -> Any:
        return {"last_hidden_state": self.table(nn.functional.one_hot(input_ids, 5).float())}


def test_against_the_clean_model() -> None:
    torch.manual_seed(0)
    model = nn.Linear(8, 4)
    with torch.no_grad():
        clean = model(X)
    nct.convert(model, PCM)
    data = [X[:7], X[7:]]  # labels are not needed
    by_hand = nct.evaluate(model, [(X[:7], clean[:7]), (X[7:], clean[7:])], 3, metric="cosine")
    found = nct.evaluate(model, data, 3, metric="cosine", against="clean")
    assert found.scores == pytest.approx(by_hand.scores)
    assert 0.5 < found.mean < 0.99999
    labeled = [(X, torch.zeros(40))]  # nor taken
    assert nct.evaluate(model, labeled, 3, metric="cosine", against="clean").mean < 0.99999
    classes = [(x, y.argmax(1)) for x, y in ((X[:7], clean[:7]), (X[7:], clean[7:]))]
    assert (
        nct.evaluate(model, data, 3, against="clean").scores
        == nct.evaluate(model, classes, 3).scores
    )
    # without noise nothing differs
    assert nct.evaluate(noisy(nn.Linear(8, 4)), data, 1, metric="mae", against="clean").mean == 0


def test_tokens_of_encoders_against_the_clean_model() -> None:
    torch.manual_seed(0)
    model = Encoder()
    tokens, mask = torch.tensor([[0, 1, 2], [4, 3, 0]]), torch.tensor([[1, 1, 1], [1, 1, 0]])
    with torch.no_grad():
        clean = model(tokens)["last_hidden_state"][mask == 1]
    nct.inject_noise(model, 0.2, seed=1)
    seen = []

    def metric(outputs: Any, labels: Any) -> float:
        seen.append((outputs, labels))
        return 0.0

    data = [{"input_ids": tokens, "attention_mask": mask}]
    nct.evaluate(model, data, 1, metric=metric, against="clean")
    ((outputs, labels),) = seen
    assert torch.equal(labels, clean) and outputs.shape == (5, 3)
    assert not torch.equal(outputs, labels)
    ragged = [{"input_ids": tokens}, {"input_ids": tokens[:, :2]}]
    assert 0 < nct.evaluate(model, ragged, 1, metric="cosine", against="clean").mean < 1
    with pytest.raises(ValueError, match="pad them to one length"):
        nct.evaluate(model, ragged, 1, metric=metric, against="clean")
    with pytest.raises(ValueError, match="against: expected 'labels' with metric='accuracy'"):
        nct.evaluate(model, ragged, 1, against="clean")


def test_accuracy_of_a_loader() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 4)).train()
    want = nct.accuracy(model, X, Y)
    assert nct.accuracy(model, DataLoader(TensorDataset(X, Y), batch_size=7)) == want
    assert model.training


def test_tokens_without_a_label_do_not_count() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Linear(4, 4, bias=False)

        def forward(self, x: Any) -> Any:
            return nn.functional.one_hot(x, 4).float()

    labels = torch.tensor([[0, 1, -100], [2, -100, 3]])
    tokens = torch.tensor([[0, 1, 2], [2, 2, 1]])  # three of the four that count
    assert nct.accuracy(Tokens(), [(tokens, labels)]) == 75.0


@pytest.mark.parametrize(
    ("labels", "metric", "error", "message"),
    [
        (torch.zeros(40), "accuracy", TypeError, "metric: expected 'mse'"),
        (torch.zeros(40, 2).long(), "accuracy", ValueError, "labels: expected a class for each"),
        (Y + 1, "accuracy", ValueError, r"labels: expected classes in \[0, 4\), got 1 to 4"),
        (torch.zeros(40, 3), "mse", ValueError, "labels: expected the shape of the outputs"),
        (Y, "acuracy", ValueError, "metric: .*did you mean 'accuracy'"),
        (Y, lambda a, b: a, TypeError, "metric: expected a number"),
        (Y, lambda a, b: math.nan, ValueError, "metric: expected a finite number"),
    ],
)
def test_metrics_refuse(labels: Any, metric: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        nct.evaluate(noisy(nn.Linear(8, 4)), [(X, labels)], 1, metric=metric)


def test_batches_without_labels_are_refused() -> None:
    model = noisy(nn.Linear(8, 4))
    for loader, error in (([X], TypeError), ([{"input": X}], ValueError), (X, TypeError)):
        with pytest.raises(error, match="data: expected"):
            nct.evaluate(model, loader, 1)
    with pytest.raises(TypeError, match="labels: expected"):
        nct.accuracy(model, np.zeros((2, 8), np.float32))
