"""Second moments of layer inputs, and models stored with them in the coded modes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

import noisycells as nc  # noqa: E402
import noisycells.torch as nct  # noqa: E402
from noisycells.storage import Coded, CodedModel, Levels, load, save  # noqa: E402

PCM = nc.devices.synthetic_pcm()


def images(*shape: int) -> Any:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def test_linear() -> None:
    model = nn.Sequential(nn.Linear(5, 3), nn.ReLU(), nn.Linear(3, 2))
    x = images(120, 7, 5)
    found = nct.input_moments(model, x)
    assert found.keys() == {"0.weight", "2.weight"}
    rows = x.reshape(-1, 5).double().numpy()
    assert np.allclose(found["0.weight"], rows.T @ rows / len(rows), rtol=1e-5)
    hidden = model[1](model[0](x)).detach().reshape(-1, 3).double().numpy()
    assert np.allclose(found["2.weight"], hidden.T @ hidden / len(hidden), rtol=1e-4)


@pytest.mark.parametrize(
    "options",
    [{}, {"stride": 2}, {"padding": 1}, {"dilation": 2, "padding": "same"}, {"padding": (2, 0)}],
    ids=str,
)
def test_convolution(options: dict[str, Any]) -> None:
    """e^T H e is the mean square of what an error of a filter does to the output."""
    layer = nn.Conv2d(3, 1, (3, 2), bias=False, **options)
    x = images(60, 3, 9, 8)
    h = nct.input_moments(layer, x)["weight"]
    output = layer(x).double()
    e = layer.weight.detach().double().flatten().numpy()
    assert e @ h @ e == pytest.approx(output.square().mean().item(), rel=1e-4)


def test_convolutions_of_one_and_three_dimensions() -> None:
    for layer, x in ((nn.Conv1d(2, 1, 3, bias=False), images(60, 2, 9)),
                     (nn.Conv3d(2, 1, 2, bias=False), images(20, 2, 4, 5, 3))):  # fmt: skip
        h = nct.input_moments(layer, x)["weight"]
        e = layer.weight.detach().double().flatten().numpy()
        assert e @ h @ e == pytest.approx(layer(x).double().square().mean().item(), rel=1e-4)


def test_what_has_no_moments_is_left_out() -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 3, groups=2), nn.Flatten(), nn.Linear(16, 2))
    assert nct.input_moments(model, images(3, 4, 4, 4)).keys() == {"2.weight"}
    with pytest.raises(ValueError, match="images: expected at least one"):
        nct.input_moments(model, images(0, 4, 4, 4))


def test_the_model_is_left_as_it_was() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(), nn.BatchNorm1d(4))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    nct.input_moments(model, images(10, 4))
    assert model.training and not model[0]._forward_pre_hooks
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("codec", [Coded(PCM, step=0.2), Levels(PCM, radices=(4, 4))], ids=repr)
def test_store_and_load(codec: Any, tmp_path: Any) -> None:
    model = nct.build(lambda: nct.LeNet(width=0.2), seed=1)
    masks = nct.magnitude_prune(model, 0.5)
    nct.make_permanent(model)
    x = images(20, 1, 28, 28)
    stored = nct.store(model, codec, masks=masks, moments=nct.input_moments(model, x))
    assert isinstance(stored, CodedModel) and set(stored.digital) >= {"conv1.bias", "fc2.bias"}
    save(tmp_path / "stored", stored)
    found = nct.build(lambda: nct.LeNet(width=0.2), seed=2)
    again = load(tmp_path / "stored")
    assert isinstance(again, CodedModel)
    nct.load(again, found, seed=3)
    for name, value in model.state_dict().items():
        error = (found.state_dict()[name] - value).square().mean().sqrt()
        assert error <= 0.3 * value.square().mean().sqrt()
    distance = F.mse_loss(found(x), model(x)) / model(x).var()
    assert distance < 0.05


def test_biases_normalization_and_tied_weights() -> None:
    model = nn.Sequential(nn.Embedding(9, 4), nn.LayerNorm(4), nn.Linear(4, 9)).to(torch.bfloat16)
    model[2].weight = model[0].weight
    stored = nct.store(model, Coded(PCM), store_biases=True)
    assert set(stored) == {"0.weight", "2.bias"} and stored["0.weight"].dtype == "BF16"
    assert stored.aliases == {"2.weight": "0.weight"} and stored.digital_dtypes["1.bias"] == "BF16"
    nct.load(stored, model, seed=1)
    assert model[2].weight is model[0].weight


def test_a_codec_takes_no_moments() -> None:
    with pytest.raises(TypeError, match="moments: expected none with a Codec"):
        nct.store(nn.Linear(3, 2), nc.Codec(PCM), moments={"weight": np.eye(3)})  # type: ignore[call-overload]


def test_lost_blocks_leave_the_model_as_it_was() -> None:
    model = nn.Linear(60, 40)
    loud = nc.Channel(PCM.x, PCM.mean, 1.5 * PCM.std)
    stored = nct.store(model, Coded(loud, learnt=PCM, step=0.05))
    before = model.weight.detach().clone()
    with pytest.raises(nc.DecodeError):
        nct.load(stored, model, seed=1)
    assert torch.equal(model.weight, before)
