"""Batch normalization folded into the layer before it."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from conversion_cases import images, network  # noqa: E402

import noisycells as nc  # noqa: E402
import noisycells.torch as nct  # noqa: E402

nn = torch.nn
PCM = nc.devices.pcm_joshi2020()


def test_fold_batchnorm() -> None:
    model = network()
    with torch.no_grad():
        model[1].weight.copy_(torch.logspace(-1, 1, 8))
        model[1].running_var.copy_(torch.logspace(1, -1, 8))
        model[1].running_mean.normal_()
        model[1].bias.normal_()
    model.eval()
    want = model(images())
    weight = model[0].weight
    (row,) = nct.fold_batchnorm(model, PCM)
    assert (row["layer"], row["batchnorm"]) == ("0", "1")
    assert isinstance(model[1], nn.Identity) and model[0].weight is weight
    torch.testing.assert_close(model(images()), want, rtol=1e-4, atol=1e-4)
    # Channels now differ in size by up to 1000 and share one w_max: the small ones drown.
    channels = [
        nc.Crossbar(weight.detach().flatten(1).numpy(), PCM, name="0")
        .program(0)
        .effective_weights(),
        weight.detach().flatten(1).numpy(),
    ]
    error, size = channels[0] - channels[1], channels[1]
    assert row["noise_after"] == pytest.approx((error**2).mean() ** 0.5 / (size**2).mean() ** 0.5)
    assert row["noise_before"] > 0
    column = nct.fold_batchnorm(network(), PCM, nc.CrossbarSpec(mapping="column"))
    assert column[0]["noise_after"] == pytest.approx(column[0]["noise_before"], rel=1e-3)


def test_fold_only_what_is_used_once() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 4, bias=False), nn.Linear(4, 4)
            self.na, self.nb = nn.BatchNorm1d(4), nn.BatchNorm1d(4)

        def forward(self, x: Any) -> Any:
            y = self.a(x)
            return self.nb(self.b(y.relu())) + y + self.na(y)

    model = Branching().eval()
    x = torch.randn(3, 4)
    want = model(x)
    assert [row["layer"] for row in nct.fold_batchnorm(model, PCM)] == ["b"]
    torch.testing.assert_close(model(x), want)


def test_fold_refuses() -> None:
    class Untraceable(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.n = nn.Linear(4, 4, bias=False), nn.BatchNorm1d(4)

        def forward(self, x: Any) -> Any:
            return self.n(self.a(x)) if x.sum() > 0 else x

    model = Untraceable().eval()
    with pytest.raises(ValueError, match=r"model: expected one that torch\.fx can trace"):
        nct.fold_batchnorm(model, PCM)
    assert len(nct.fold_batchnorm(model, PCM, pairs=[("a", "n")])) == 1
    assert model.a.bias is not None
    with pytest.raises(ValueError, match="pairs: expected 'n' to be a batch normalization"):
        nct.fold_batchnorm(model, PCM, pairs=[("a", "n")])
    converted = nct.convert(network(), PCM)
    with pytest.raises(ValueError, match="pairs: expected '0' to be a digital"):
        nct.fold_batchnorm(converted, PCM, pairs=[("0", "1")])
    assert isinstance(converted[1], nn.BatchNorm2d)
