"""Noise on weights: draws and gradients against loops by hand, and that any training goes on.

Seeds are fixed. The only statistical tests are marked by their bounds, six standard errors
(p < 2e-9 each).
"""

from __future__ import annotations

import contextlib
import copy
import gc
import math
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import noisycells as nc
from noisycells.random import fold_in, standard_normal, stream

torch = pytest.importorskip("torch")

import two_processes  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn.utils import parametrizations  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402

import noisycells.torch as nct  # noqa: E402

F32 = NDArray[np.float32]
SEED = 7
STANDIN = nc.Channel.gaussian(0.1)


def network() -> Any:
    """Convolution, normalization, linear layers; of inputs (n, 1, 6, 6)."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64, 8),
        nn.LayerNorm(8),
        nn.Linear(8, 3),
    )


def images(n: int = 5) -> Any:
    return torch.randn(n, 1, 6, 6, generator=torch.Generator().manual_seed(1))


def weights(model: Any) -> dict[str, F32]:
    return {n: p.detach().numpy() for n, p in model.named_parameters() if p.ndim >= 2}


def by_hand(name: str, w: F32, number: int, eta: float = 0.1) -> F32:
    """The definition, in numpy."""
    sigma = np.float32(eta * (float(w.max()) - float(w.min())))
    return w + sigma * standard_normal(w.shape, fold_in(SEED, number), stream(name, "noise"))


def noisy_copy(model: Any, number: int, draw: Callable[[str, F32, int], F32] = by_hand) -> Any:
    """A model whose parameters are those of a draw."""
    other = copy.deepcopy(model)
    noise = nct.active_noise(other)
    if noise is not None:
        noise.remove()
    for name, parameter in other.named_parameters():
        if parameter.ndim >= 2:
            noisy = draw(name, parameter.detach().numpy(), number)
            parameter.data = torch.from_numpy(noisy)
    return other


def same(a: Any, b: Any) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def gradients(model: Any) -> list[Any]:
    return [p.grad for p in model.parameters()]


@pytest.fixture
def noisy() -> Iterator[tuple[Any, Any]]:
    model = network()
    yield model, nct.inject_noise(model, 0.1, seed=SEED)


# --------------------------------------------------------------------------- definition


@pytest.mark.parametrize("training", [True, False])
def test_draws_and_gradients_are_those_of_the_loop_by_hand(
    noisy: tuple[Any, Any], training: bool
) -> None:
    model, noise = noisy
    model.train(training)
    for number in range(3):
        want = noisy_copy(model, number)
        model.zero_grad()
        y, z = model(images()), want(images())
        assert torch.equal(y, z)
        y.square().sum().backward()
        z.square().sum().backward()
        assert same(gradients(model), gradients(want))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 0.1 * parameter.grad
    assert noise.draw == 3


def test_parameters_stay_clean(noisy: tuple[Any, Any]) -> None:
    model, _ = noisy
    before = {name: value.clone() for name, value in model.state_dict().items()}
    inside = {}

    def look(module: Any, args: Any, output: Any) -> None:
        inside["state"] = module.state_dict()["weight"].clone()
        inside["parameter"] = next(module.parameters()).clone()
        inside["used"] = module.weight

    model.eval()
    model[4].register_forward_hook(look)
    model(images())
    assert torch.equal(inside["state"], before["4.weight"])
    assert torch.equal(inside["parameter"], before["4.weight"])
    assert not torch.equal(inside["used"], before["4.weight"])
    assert isinstance(model[4].weight, nn.Parameter) and "weight" not in vars(model[4])
    assert same(model.state_dict().values(), before.values())


@pytest.mark.parametrize("norm", ["range", "absmax", "std", "absolute"])
def test_norms_and_report(norm: str) -> None:
    model = network()
    noise = nct.inject_noise(model, 0.1, norm, seed=SEED)
    model(images())
    rows = noise.report()
    assert [row["name"] for row in rows] == ["0.weight", "4.weight", "6.weight"]
    for row, w in zip(rows, weights(model).values(), strict=True):
        unit = {
            "range": float(w.max()) - float(w.min()),
            "absmax": np.abs(w).max(),
            "std": w.std(dtype=np.float64),
            "absolute": 1.0,
        }[norm]
        assert row["eta"] == 0.1
        assert row["sigma"] == pytest.approx(0.1 * unit, rel=1e-5)
        assert row["relative"] == pytest.approx(row["sigma"] / np.abs(w).max(), rel=1e-5)
        assert row["to_std"] == pytest.approx(row["sigma"] / w.std(dtype=np.float64), rel=1e-5)


def test_statistics_of_the_noise() -> None:
    model = nn.Linear(1000, 1000, bias=False)
    noise = nct.inject_noise(model, 0.05, seed=SEED)
    x = torch.eye(1000)
    with torch.no_grad():
        errors = [(model(x).T - model.weight).double() for _ in range(2)]
    sigma = noise.report()[0]["sigma"]
    for error in errors:
        z = error / sigma
        assert abs(z.mean()) < 6e-3 and abs(z.std() - 1) < 6e-3 / math.sqrt(2)
    correlation = (errors[0] * errors[1]).mean() / sigma**2
    assert abs(correlation) < 6e-3


def test_eta_of_each_parameter() -> None:
    model = network()
    noise = nct.inject_noise(model, {"0.*": 0.2, "*.weight": (0.1, 0.1)}, seed=SEED)
    assert [row["eta"] for row in noise.report()] == [0.2, 0.1, 0.1]
    want = noisy_copy(model, 0, lambda n, w, k: by_hand(n, w, k, 0.2 if n[0] == "0" else 0.1))
    assert torch.equal(model(images()), want(images()))
    noise.remove()
    noise = nct.inject_noise(model, {"4.weight": 0.1}, seed=SEED)
    want = noisy_copy(model, 0, lambda n, w, k: by_hand(n, w, k) if n[0] == "4" else w)
    assert torch.equal(model(images()), want(images()))


def test_random_eta() -> None:
    model = network()
    noise = nct.inject_noise(model, (0.1, 0.3), seed=SEED)
    found = []
    for number in range(200):
        with noise.hold(number), torch.no_grad():
            model(images(1))
        noise.draw = number + 1  # what report() speaks of
        etas = {row["eta"] for row in noise.report()}
        assert len(etas) == 1  # one for the whole model
        found.append(etas.pop())
    assert all(0.1 <= eta <= 0.3 for eta in found)
    # Of 200 uniform numbers: mean within six standard errors.
    assert abs(np.mean(found) - 0.2) < 6 * 0.2 / math.sqrt(12 * 200) and len(set(found)) == 200
    noise.remove()
    keys = []

    def eta(key: int) -> float:
        keys.append(key)
        return 0.1

    nct.inject_noise(model, eta, seed=SEED)
    assert torch.equal(model(images()), noisy_copy(model, 0)(images()))
    assert set(keys) == {fold_in(SEED, 0)}


def test_no_noise_is_the_plain_network() -> None:
    model = network()
    plain = copy.deepcopy(model)
    with nct.inject_noise(model, 0.0):
        assert torch.equal(model(images()), plain(images()))


def test_seed_from_torch() -> None:
    model = network()
    seeds = []
    for _ in range(2):
        torch.manual_seed(3)
        with nct.inject_noise(model, 0.1) as noise:
            seeds.append(noise.seed)
    with nct.inject_noise(model, 0.1) as noise:
        assert seeds[0] == seeds[1] != noise.seed


# --------------------------------------------------------------------------- other noise


def chip_of_draw(number: int) -> int:
    return fold_in(fold_in(SEED, number), stream("noise"))


@pytest.mark.parametrize("scope", ["tensor", "model"])
def test_storage_noise_is_what_the_codec_reads(scope: Any) -> None:
    model = network()
    with torch.no_grad():
        model[4].weight[model[4].weight.abs() < 0.05] = 0
    zeros = model[4].weight == 0
    codec = nc.Codec(STANDIN, cells=(1, 3), scope=scope)
    noise = nct.inject_noise(model, codec=codec, seed=SEED)
    stored = codec.encode(weights(model), "nonzero")
    for number in range(2):
        chip = chip_of_draw(number)
        read = stored.read(chip, chip=chip)
        want = noisy_copy(model, number, lambda name, w, _, read=read: read[name])
        y, z = model(images()), want(images())
        assert torch.equal(y, z)
        assert (want[4].weight[zeros] == 0).all()
    y.sum().backward()
    z.sum().backward()
    assert same(gradients(model), gradients(want))
    if scope == "tensor":
        for row, w in zip(noise.report(), weights(model).values(), strict=True):
            error = codec.transmit(w, chip, w != 0, name=row["name"], chip=chip) - w
            assert row["sigma"] == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-5)
            assert row["eta"] is None


def test_chips_of_training_are_not_those_of_tests() -> None:
    """Of one seed, with cells whose programming errors depend on the chip alone."""
    cell = nc.Channel([-1, 1], [-1, 1], 0.1, read_std=0.01)
    model = network()
    codec = nc.Codec(cell)
    stored = nct.store(model, codec)
    noise = nct.inject_noise(model, codec=codec, seed=SEED)
    clean = weights(model)["4.weight"]
    (noisy,) = noise.kind.draw({"4.weight": model[4].weight}, fold_in(SEED, 0)).values()
    chips = [stored.read(SEED, chip=fold_in(SEED, i))["4.weight"] - clean for i in range(3)]
    training = noisy.numpy() - clean
    assert abs(np.corrcoef(training.ravel(), [c.ravel() for c in chips])[0, 1:]).max() < 0.5
    again = stored.read(SEED + 1, chip=fold_in(SEED, 0))["4.weight"] - clean
    assert np.corrcoef(again.ravel(), chips[0].ravel())[0, 1] > 0.9


@pytest.mark.parametrize("seconds", [None, 3600.0])
@pytest.mark.parametrize("mapping", ["tensor", "column"])
def test_device_noise_is_that_of_a_fresh_crossbar(seconds: float | None, mapping: str) -> None:
    model = network()
    pcm = nc.devices.pcm_joshi2020()
    spec = nc.CrossbarSpec(mapping=mapping, drift_compensation="global")
    nct.inject_noise(model, device=pcm, spec=spec, seconds=seconds, seed=SEED)

    def chip(name: str, w: F32, number: int) -> F32:
        crossbar = nc.Crossbar(w.reshape(len(w), -1), pcm, spec, name)
        crossbar.program(chip_of_draw(number))
        if seconds is not None:
            crossbar.at(seconds)
        return crossbar.effective_weights().reshape(w.shape)

    for number in range(2):
        assert torch.equal(model(images()), noisy_copy(model, number, chip)(images()))


# --------------------------------------------------------------------------- the handle


def test_hold_and_pause(noisy: tuple[Any, Any]) -> None:
    model, noise = noisy
    model.eval()
    clean = copy.deepcopy(model)
    nct.active_noise(clean).remove()
    x = images()
    draws = [noisy_copy(model, number)(x) for number in (0, 1, 99)]
    with noise.hold():
        assert torch.equal(model(x), draws[0]) and torch.equal(model(x), draws[0])
        with noise.hold(99):
            assert torch.equal(model(x), draws[2])
        with noise.pause():
            assert torch.equal(model(x), clean(x))
        with torch.no_grad():
            assert torch.equal(model(x), draws[0]) and torch.equal(model(x), draws[0])
        with torch.inference_mode():
            assert torch.equal(model(x), draws[0])
        y = model(x)
        y.sum().backward()
        assert torch.equal(y, draws[0]) and model[4].weight.grad is not None
    assert noise.draw == 1 and torch.equal(model(x), draws[1])


def test_held_draws_follow_the_weights(noisy: tuple[Any, Any]) -> None:
    model, noise = noisy
    model.eval()
    with noise.hold(5), torch.no_grad():
        before = model(images())
        model[6].weight *= 2
        after = model(images())
        assert not torch.equal(before, after)
        assert torch.equal(after, noisy_copy(model, 5)(images()))
        model.load_state_dict({k: v + 1 for k, v in model.state_dict().items()})
        assert torch.equal(model(images()), noisy_copy(model, 5)(images()))


def test_state_goes_on_bit_by_bit(noisy: tuple[Any, Any]) -> None:
    model, noise = noisy
    model.eval()
    model(images())
    state = noise.state_dict()
    want = model(images())
    other = network().eval()
    resumed = nct.inject_noise(other, 0.1, seed=1)
    resumed.load_state_dict(state)
    assert torch.equal(other(images()), want)
    clipped = nct.inject_noise(network(), 0.1, clip="initial")
    with pytest.raises(ValueError, match="state: expected bounds"):
        clipped.load_state_dict(state)


def test_remove_and_context() -> None:
    model = network()
    plain = copy.deepcopy(model)
    with nct.inject_noise(model, 0.1) as noise:
        assert nct.active_noise(model) is noise and nct.active_noise(model[4]) is noise
        assert not torch.equal(model(images()), plain(images()))
    assert nct.active_noise(model) is None
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert torch.equal(model(images()), plain(images()))
    noise.remove()  # again: nothing
    with pytest.raises(RuntimeError, match="removed"):
        noise.report()
    assert repr(noise).startswith("Noise(Gaussian, 3 parameters")


def test_clip_initial() -> None:
    model = network()
    first = {name: (w.min(), w.max()) for name, w in weights(model).items()}
    noise = nct.inject_noise(model, 0.1, clip="initial", seed=SEED)
    sigmas = [row["sigma"] for row in noise.report()]
    with torch.no_grad():
        model[0].weight *= 3
        model(images())  # without gradients: nothing is changed
        assert weights(model)["0.weight"].max() > first["0.weight"][1]
    model(images())
    for name, w in weights(model).items():
        assert (w.min(), w.max()) == first[name]
    with torch.no_grad():
        model[0].weight *= 0.5
    assert [row["sigma"] for row in noise.report()] == sigmas  # of the range at the start


def test_clip_by_standard_deviations() -> None:
    model = network()
    before = {name: w.copy() for name, w in weights(model).items()}
    nct.inject_noise(model, 0.1, clip=1.5)
    model(images())
    for name, w in weights(model).items():
        bound = 1.5 * before[name].std(dtype=np.float64)
        assert np.allclose(w, np.clip(before[name], -bound, bound), rtol=1e-6)
        assert np.abs(before[name]).max() > bound


# --------------------------------------------------------------------------- any model


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


# --------------------------------------------------------------------------- any training


class Checkpointed(nn.Module):
    def __init__(self, reentrant: bool | None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(5, 6)
        self.rest = nn.Sequential(nn.Linear(6, 7), nn.Tanh(), nn.Linear(7, 3))
        self.reentrant = reentrant

    def forward(self, x: Any) -> Any:
        h = torch.tanh(self.first(x))
        if self.reentrant is None:
            return self.rest(h)
        return checkpoint(self.rest, h, use_reentrant=self.reentrant)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("whole", [True, False])
def test_checkpoints_compute_with_the_draw_of_their_forward(reentrant: bool, whole: bool) -> None:
    """Also where two forwards with a draw each come before the backward."""
    found = []
    x = torch.ones(8, 5, requires_grad=True)
    for use in (None, reentrant):
        model = Checkpointed(None if whole else use)
        noise = nct.inject_noise(model, 0.2, seed=SEED)

        def run(x: Any, model: Any = model, use: bool | None = use) -> Any:
            if use is None or not whole:
                return model(x)
            return checkpoint(model, x, use_reentrant=use)

        loss = run(x).square().sum() * run(x).exp().sum()
        with noise.pause():
            loss = loss * run(x).sum()
        with torch.no_grad():
            model(x)
        loss.backward()
        assert noise.draw == 3
        found.append(gradients(model))
    assert same(*found)


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("paused", [True, False])
def test_checkpoints_before_a_forward_without_gradients(reentrant: bool, paused: bool) -> None:
    """As where outputs are compared with those without noise: no node comes in between."""
    model = Checkpointed(None)
    noise = nct.inject_noise(model, 0.2, seed=SEED)
    x = torch.ones(8, 5, requires_grad=True)
    y = checkpoint(model, x, use_reentrant=reentrant)
    with torch.no_grad(), noise.pause() if paused else contextlib.nullcontext():
        model(x)
    y.square().sum().backward()
    found = gradients(model)
    model.zero_grad()
    with noise.hold(0):
        model(x).square().sum().backward()
    assert same(found, gradients(model))


def test_accumulated_gradients(noisy: tuple[Any, Any]) -> None:
    """Of halves of a batch under one draw: those of the batch."""
    model, noise = noisy
    model.eval()
    want = noisy_copy(model, 0)
    x = images(8)
    with noise.hold():
        for half in x.split(4):
            model(half).sum().backward()
    want(x).sum().backward()
    for a, b in zip(gradients(model), gradients(want), strict=True):
        torch.testing.assert_close(a, b)


def test_two_forwards_before_one_backward(noisy: tuple[Any, Any]) -> None:
    model, _ = noisy
    model.eval()
    one, two = noisy_copy(model, 0), noisy_copy(model, 1)
    (model(images()) * model(images())).sum().backward()
    (one(images()) * two(images())).sum().backward()
    for got, a, b in zip(gradients(model), gradients(one), gradients(two), strict=True):
        torch.testing.assert_close(got, a + b)


@pytest.mark.parametrize("kind", ["SGD", "Adam", "AdamW", "LBFGS"])
def test_optimizers(kind: str) -> None:
    model = network()
    nct.inject_noise(model, 0.02, seed=SEED)
    optimizer = getattr(torch.optim, kind)(model.parameters(), lr=0.02)
    x, labels = images(16), torch.arange(16) % 3
    losses = []

    def step() -> Any:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), labels)
        loss.backward()
        losses.append(loss.item())
        return loss

    for _ in range(20 if kind != "LBFGS" else 2):  # of 20 evaluations each
        optimizer.step(step)
    assert np.mean(losses[-3:]) < 0.9 * losses[0]


def test_autocast() -> None:
    model = network().eval()
    nct.inject_noise(model, 0.1, seed=SEED)
    want = noisy_copy(model, 0)
    with torch.autocast("cpu", torch.bfloat16):
        y, z = model(images()), want(images())
    assert y.dtype == torch.bfloat16 and torch.equal(y, z)
    y.float().sum().backward()
    z.float().sum().backward()
    assert same(gradients(model), gradients(want))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_models(backend: str) -> None:
    torch._dynamo.reset()
    model = network()
    nct.inject_noise(model, 0.1, seed=SEED)
    other = copy.deepcopy(model)
    compiled = torch.compile(model, backend=backend)
    for _ in range(3):
        y, z = compiled(images()), other(images())
        torch.testing.assert_close(y, z)
        y.square().sum().backward()
        z.square().sum().backward()
        for a, b in zip(gradients(model), gradients(other), strict=True):
            torch.testing.assert_close(a, b)
    noise = nct.active_noise(compiled)
    assert noise is nct.active_noise(model) and noise.draw == 3
    assert "weight" not in vars(model[0])
    with noise.hold(9), torch.no_grad():
        torch.testing.assert_close(compiled.eval()(images()), noisy_copy(model, 9).eval()(images()))


def test_copies_and_pickles_are_noisy_too(noisy: tuple[Any, Any], tmp_path: Path) -> None:
    model, noise = noisy
    model.eval()
    model(images())
    with noise.hold():  # copies are not held
        copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    torch.save(model, tmp_path / "model.pt")
    copies.append(torch.load(tmp_path / "model.pt", weights_only=False))
    want = [model(images()), model(images())]
    for other in copies:
        assert nct.active_noise(other) is not noise
        assert same([other(images()), other(images())], want)
        nct.active_noise(other).remove()
    assert noise.draw == 3 and nct.active_noise(model) is noise


def test_memory_is_one_more_copy_of_the_weights(noisy: tuple[Any, Any]) -> None:
    """Tensors that are alive during a forward, and none after it."""

    def count(shape: Any) -> int:
        gc.collect()
        pointers = {
            o.data_ptr()
            for o in gc.get_objects()
            if type(o) in (torch.Tensor, nn.Parameter) and o.shape == shape
        }
        return len(pointers)

    model, _ = noisy
    shape = model[4].weight.shape
    inside = []
    model.register_forward_hook(lambda *_: inside.append(count(shape)))
    before = count(shape)
    model(images()).sum().backward()
    assert inside == [before + 1]
    model.zero_grad()
    with torch.no_grad():
        model(images())
    assert count(shape) == before


def distributed_noise(rank: int, folder: str) -> None:
    results = []
    for seed in (SEED, fold_in(SEED, rank)):  # the same draws, and each its own
        model = network().eval()
        nct.inject_noise(model, 0.1, seed=seed)
        parallel = nn.parallel.DistributedDataParallel(model)
        assert nct.active_noise(parallel) is nct.active_noise(model)
        outputs = parallel(images())
        parallel(images(4 + rank)).square().sum().backward()
        torch.optim.SGD(model.parameters(), lr=0.01).step()
        results.append((outputs.detach(), gradients(model), model.state_dict()))
    torch.save(results, f"{folder}/{rank}.pt")


def test_distributed_data_parallel(tmp_path: Path) -> None:
    two_processes.run(distributed_noise, tmp_path)
    one, two = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    for i, equal in enumerate([True, False]):
        assert torch.equal(one[i][0], two[i][0]) == equal
        assert same(one[i][1], two[i][1])
        assert same(one[i][2].values(), two[i][2].values())
    model = network().eval()
    nct.inject_noise(model, 0.1, seed=SEED)
    model(images())
    a, b = noisy_copy(model, 1), noisy_copy(model, 1)
    a(images(4)).square().sum().backward()
    b(images(5)).square().sum().backward()
    for got, x, y in zip(one[0][1], gradients(a), gradients(b), strict=True):
        torch.testing.assert_close(got, (x + y) / 2)


# --------------------------------------------------------------------------- refusals


def weight_normed() -> Any:
    return parametrizations.weight_norm(nn.Linear(3, 3))


def crossbar() -> Any:
    return nct.convert(nn.Sequential(nn.Linear(3, 3)), nc.devices.ideal())


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        (network, {"eta": -0.1}, r"eta: expected a number in \[0, 1e\+30\], got -0\.1"),
        (network, {"eta": math.inf}, "eta: expected"),
        (network, {"eta": (0.2, 0.1)}, r"eta: expected .*\(0\.2, 0\.1\)"),
        (network, {"eta": 1e31}, "eta: expected"),
        (network, {"eta": {"conv*": 0.1}}, r"eta: expected patterns.*conv\*"),
        (network, {"eta": {}}, "eta: expected patterns"),
        (network, {"eta": 0.1, "norm": "max"}, "norm: expected one of 'range', .*'max'"),
        (network, {"eta": 0.1, "clip": "now"}, "clip: expected 'initial'"),
        (network, {"eta": 0.1, "clip": -1}, "clip: expected a finite number > 0, got -1"),
        (network, {"eta": 0.1, "seed": -1}, "seed: expected"),
        (network, {"eta": 0.1, "filter_fn": lambda *_: False}, "model: expected at least one"),
        (lambda: nn.LayerNorm(3), {"eta": 0.1}, "model: expected at least one"),
        (weight_normed, {"eta": 0.1}, "model: expected ordinary weights.*Parametrization"),
        (crossbar, {"eta": 0.1}, "model: expected ordinary weights.*CrossbarLinear"),
        (network, {"device": nc.devices.pcm_joshi2020(), "seconds": -1.0}, "seconds"),
    ],
)
def test_bad_arguments(model: Callable[[], Any], arguments: dict[str, Any], message: str) -> None:
    made = model()
    hooks = sum(len(m._forward_pre_hooks) for m in made.modules())
    with pytest.raises(ValueError, match=message):
        nct.inject_noise(made, **arguments)
    assert sum(len(m._forward_pre_hooks) for m in made.modules()) == hooks
    assert nct.active_noise(made) is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "eta, codec, device: expected one of them, got 0"),
        ({"eta": 0.1, "codec": nc.Codec(STANDIN)}, "expected one of them, got 2"),
        ({"eta": 0.1, "seconds": 3.0}, "spec, seconds: expected them with device"),
        ({"codec": 3}, "codec: expected a Codec"),
        ({"device": STANDIN}, "device"),
        ({"eta": 0.1, "seed": 1.5}, "seed: expected an int"),
    ],
)
def test_wrong_types(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        nct.inject_noise(network(), **arguments)


def test_one_noise_a_model() -> None:
    model = network()
    nct.inject_noise(model[4], 0.1)
    for other in (model, model[4]):
        with pytest.raises(ValueError, match="model: expected one without noise"):
            nct.inject_noise(other, 0.1)


def test_layers_that_changed_meanwhile() -> None:
    model = network()
    nct.inject_noise(model, 0.1, seed=SEED)
    parametrizations.weight_norm(model[4])
    with pytest.raises(RuntimeError, match="to have its parameter 'weight' as when"):
        model(images())
