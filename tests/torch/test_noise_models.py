"""Noise in training, of models of any kind: shared, recurrent, attention, pruned, broken ones."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import noisycells as nc
from noisycells.random import fold_in, standard_normal, stream

torch = pytest.importorskip("torch")

from noise_cases import by_hand, chip_of_draw, gradients, images, network, noisy_copy, same  # noqa: E402
from torch import nn  # noqa: E402

import noisycells.torch as nct  # noqa: E402

F32 = NDArray[np.float32]
SEED = 7
STANDIN = nc.Channel.gaussian(0.1)


def test_first_and_last_layer_are_noisy_and_the_rest_is_clean() -> None:
    model = nct.build(nct.ResNet20, seed=0)
    noise = nct.inject_noise(model, 0.1)
    assert set(noise.names) == {n for n, p in model.named_parameters() if p.ndim >= 2}
    mixed = nn.ModuleDict({"embed": nn.Embedding(5, 4), "norm": nn.LayerNorm((2, 4)),
                           "head": nn.Linear(4, 5)})  # fmt: skip
    assert nct.inject_noise(mixed, 0.1).names == ("head.weight",)


def test_filter() -> None:
    model = network()

    def choose(module: Any, name: str) -> bool:
        assert getattr(module, name.split(".")[1]).ndim >= 2
        return isinstance(module, nn.Linear) and name != "6.weight"

    assert nct.inject_noise(model, 0.1, filter_fn=choose).names == ("4.weight",)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 4)
        self.head = nn.Linear(4, 5, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x: Any) -> Any:
        return self.head(self.embed(x))


def test_tied_weights_have_one_draw() -> None:
    model = Tied()
    noise = nct.inject_noise(model, 0.1, seed=SEED)
    assert noise.names == ("embed.weight",)
    noise.remove()
    linear = nct.inject_noise(model, 0.1, filter_fn=lambda m, _: isinstance(m, nn.Linear))
    assert linear.names == noise.names
    linear.remove()
    noise = nct.inject_noise(model, 0.1, seed=SEED)
    x = torch.arange(5)
    w = torch.from_numpy(by_hand("embed.weight", model.embed.weight.detach().numpy(), 0))
    w.requires_grad_()
    y = model(x)
    torch.testing.assert_close(y, w @ w.T)
    y.square().sum().backward()
    (w @ w.T).square().sum().backward()
    torch.testing.assert_close(model.embed.weight.grad, w.grad)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers(kind: Any) -> None:
    model = kind(3, 4, num_layers=2, bidirectional=True)
    x = torch.randn(6, 2, 3)
    clean = model(x)[0]
    noise = nct.inject_noise(model, 0.1, seed=SEED)
    assert len(noise.names) == 8
    want = noisy_copy(model, 0)
    y, z = model(x)[0], want(x)[0]
    assert torch.equal(y, z)
    y.square().sum().backward()
    z.square().sum().backward()
    assert same(gradients(model), gradients(want))
    with noise.pause():
        assert torch.equal(model(x)[0], clean)
    noise.remove()
    assert torch.equal(model(x)[0], clean)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("sizes", [{}, {"kdim": 6, "vdim": 6}])
def test_attention(sizes: dict[str, int], training: bool) -> None:
    model = nn.MultiheadAttention(4, 2, batch_first=True, **sizes).train(training)
    q = torch.randn(2, 3, 4)
    k = torch.randn(2, 3, sizes.get("kdim", 4))
    nct.inject_noise(model, 0.1, seed=SEED)
    want = noisy_copy(model, 0)
    with torch.set_grad_enabled(training):
        torch.testing.assert_close(model(q, k, k)[0], want(q, k, k)[0])


@pytest.mark.parametrize("training", [True, False])
def test_transformer(training: bool) -> None:
    """Also by the fused path of torch in eval()."""
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).train(training)
    x = torch.randn(2, 3, 8)
    nct.inject_noise(model, 0.1, seed=SEED)
    want = noisy_copy(model, 0)
    with torch.set_grad_enabled(training):
        torch.testing.assert_close(model(x), want(x))


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("first", [True, False])
def test_pruning_in_progress(first: bool, whole: bool) -> None:
    """Begun before the noise, and after."""
    model = network()
    if first:
        masks = nct.magnitude_prune(model, 0.5)
    noise = nct.inject_noise(model, 0.1, seed=SEED)
    if not first:
        masks = nct.magnitude_prune(model, 0.5)
    assert set(noise.names) == set(masks)
    finished = network()
    nct.magnitude_prune(finished, 0.5)
    nct.make_permanent(finished)
    want = noisy_copy(finished, 0, lambda n, w, k: by_hand(n, w, k) * masks[n])
    if whole:
        y, z = model(images()), want(images())
    else:  # the pruned layer itself is called
        y, z = model[4](torch.ones(2, 64)), want[4](torch.ones(2, 64))
    assert torch.equal(y, z)
    y.square().sum().backward()
    gradient = model[4].weight_orig.grad
    assert gradient.any() and not gradient[torch.from_numpy(~masks["4.weight"])].any()
    nct.make_permanent(model)
    assert same(model.parameters(), finished.parameters())
    assert torch.equal(model(images()), noisy_copy(finished, 1)(images()))


def test_pruned_weights_are_not_stored() -> None:
    model = network()
    masks = nct.magnitude_prune(model, 0.5)
    codec = nc.Codec(STANDIN)
    nct.inject_noise(model, codec=codec, seed=SEED)
    finished = network()
    nct.magnitude_prune(finished, 0.5)
    nct.make_permanent(finished)
    chip = chip_of_draw(0)
    want = noisy_copy(
        finished, 0, lambda name, w, _: codec.transmit(w, chip, masks[name], name=name, chip=chip)
    )
    assert torch.equal(model(images()), want(images()))


def test_parts_called_by_themselves_draw(noisy: tuple[Any, Any]) -> None:
    model, noise = noisy
    x = torch.ones(1, 8)
    assert not torch.equal(model[6](x), model[6](x)) and noise.draw == 2


class Tree(nn.Module):
    """Calls itself."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)

    def forward(self, x: Any, depth: int = 3) -> Any:
        return self.linear(self(x, depth - 1)) if depth else x


def test_models_that_call_themselves_have_one_draw() -> None:
    model = Tree()
    noise = nct.inject_noise(model, 0.1, seed=SEED)
    x = torch.ones(1, 3)
    assert torch.equal(model(x), noisy_copy(model, 0)(x)) and noise.draw == 1


class Fragile(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 3)
        self.error: BaseException | None = None

    def forward(self, x: Any) -> Any:
        y = self.inner(x)
        if self.error is not None:
            raise self.error
        return y


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_errors_end_a_draw(error: type[BaseException]) -> None:
    model = nn.Sequential(Fragile())
    noise = nct.inject_noise(model, 0.1, seed=SEED)
    model[0].error = error()
    x = torch.ones(1, 3)
    with pytest.raises(error):
        model(x)
    model[0].error = None
    assert torch.equal(model(x), noisy_copy(model, 1)(x)) and noise.draw == 2
    assert "weight" not in vars(model[0].inner)


def test_errors_of_the_noise_itself_leave_the_model_as_it_was(noisy: tuple[Any, Any]) -> None:
    model, _ = noisy
    with torch.no_grad():
        model[6].weight[0, 0] = math.nan
    with pytest.raises(ValueError, match=r"NaN or infinity in '6\.weight'"):
        model(images())
    assert all("weight" not in vars(module) for module in model.modules())
    with torch.no_grad():
        model[6].weight[0, 0] = 0
    assert model(images()).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_dtypes(dtype: Any) -> None:
    model = nn.Linear(20, 30).to(dtype)
    noise = nct.inject_noise(model, 0.1, seed=SEED)
    y = model(torch.eye(20, dtype=dtype))
    y.sum().backward()
    assert y.dtype == model.weight.grad.dtype == dtype
    w = model.weight.detach().double().numpy()
    z = standard_normal((30, 20), fold_in(SEED, 0), stream("weight", "noise"))
    got = (y - model.bias).detach().double().numpy().T
    tolerance = 4 * torch.finfo(dtype).eps if dtype != torch.float64 else 1e-7
    assert np.allclose(got, w + noise.report()[0]["sigma"] * z, atol=tolerance)


def test_channels_last_weights_stay_so() -> None:
    model = nn.Conv2d(4, 8, 3).to(memory_format=torch.channels_last)
    nct.inject_noise(model, 0.1, seed=SEED)
    strides = []
    x = torch.randn(1, 4, 5, 5)
    want = noisy_copy(model, 0)(x)
    model.register_forward_hook(lambda module, *_: strides.append(module.weight.stride()))
    torch.testing.assert_close(model(x), want)
    assert strides == [model.weight.stride()] and strides[0][1] == 1
