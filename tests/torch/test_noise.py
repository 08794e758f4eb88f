"""Noise on weights: draws and gradients against loops by hand, the handle, what is refused.

Seeds are fixed. The only statistical tests are marked by their bounds, six standard errors
(p < 2e-9 each).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import noisycells as nc
from noisycells.random import fold_in

torch = pytest.importorskip("torch")

from noise_cases import by_hand, chip_of_draw, gradients, images, network, noisy_copy, same  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn.utils import parametrizations  # noqa: E402

import noisycells.torch as nct  # noqa: E402

F32 = NDArray[np.float32]
SEED = 7
STANDIN = nc.Channel.gaussian(0.1)


def weights(model: Any) -> dict[str, F32]:
    return {n: p.detach().numpy() for n, p in model.named_parameters() if p.ndim >= 2}


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


# --------------------------------------------------------------------------- refusals


def weight_normed() -> Any:
    return parametrizations.weight_norm(nn.Linear(3, 3))


def crossbar() -> Any:
    return nct.convert(nn.Sequential(nn.Linear(3, 3)), nc.devices.ideal())


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        (network, {"eta": -0.1}, r"eta: expected a number of at least 0.*got -0\.1"),
        (network, {"eta": math.inf}, "eta: expected"),
        (network, {"eta": (0.2, 0.1)}, r"eta: expected .*\(0\.2, 0\.1\)"),
        (network, {"eta": "much"}, "eta: expected"),
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
