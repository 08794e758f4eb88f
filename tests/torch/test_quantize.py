"""Quantization: codes, gradients, ranges, and that it goes together with noise and pruning.

Seeds are fixed; nothing here is judged by statistics.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import noisycells as nc
from noisycells.random import fold_in, standard_normal, stream

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn.utils import parametrizations  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402

import noisycells.torch as nct  # noqa: E402
from noisycells.torch.noise.quantize import best_range  # noqa: E402


def network() -> Any:
    """Of inputs (n, 1, 6, 6), which have both signs; those of the last layer have none."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 3)
    )


def images(n: int = 50) -> Any:
    return torch.randn(n, 1, 6, 6, generator=torch.Generator().manual_seed(1))


def seen(model: Any, module: Any, x: Any) -> tuple[Any, Any]:
    """The input and the weight that a module computes with."""
    found = []
    hook = module.register_forward_hook(lambda m, args, _: found.append((args[0], m.weight)))
    with torch.no_grad():
        model(x)
    hook.remove()
    ((inputs, weight),) = found
    return inputs, weight


def rounded(x: Any, step: Any, low: int, high: int) -> Any:
    """The definition; halves to even."""
    return (x / step).round().clamp(low, high) * step


# --------------------------------------------------------------------------- codes


@pytest.mark.parametrize("bits", [2, 3, 4, 8, 12, 16])
@pytest.mark.parametrize("per", ["tensor", "channel"])
def test_codes_of_weights(bits: int, per: str) -> None:
    model = nct.quantize(network(), bits, None, per).eval()
    top = 2 ** (bits - 1) - 1
    for layer in (model[0], model[2], model[4]):
        _, weight = seen(model, layer, images())
        assert layer.weight_range.shape == (len(weight) if per == "channel" else 1,)
        step = (layer.weight_range / top).reshape(-1, *[1] * (weight.ndim - 1))
        codes = weight / step
        torch.testing.assert_close(codes, codes.round(), atol=1e-3, rtol=1e-5)
        assert codes.abs().max() <= top * (1 + 1e-5) and len(codes.round().unique()) > 2
        # Values next to the middle of two codes may fall on either side.
        error = (weight - rounded(layer.weight, step, -top, top)).abs()
        assert (error <= step * 1.001).all() and (error > step * 1e-3).float().mean() < 0.01
        if bits >= 8:
            largest = layer.weight.abs().reshape(len(layer.weight_range), -1).amax(1)
            assert (layer.weight_range > 0.9 * largest).all()


@pytest.mark.parametrize("bits", [2, 4, 8, 16])
def test_codes_of_inputs(bits: int) -> None:
    model = nct.quantize(network(), 8, bits).eval()
    plain = copy.deepcopy(model)
    x = images()
    found, _ = seen(model, model[0], x)
    assert model[0].input_range[0] == -model[0].input_range[1] < 0
    half = 2 ** (bits - 1)
    step = model[0].input_range[1] / (half - 1)
    error = (found - rounded(x, step, -half, half - 1)).abs()
    assert (error <= step * 1.001).all() and (error > step * 1e-3).float().mean() < 0.01
    inputs, _ = seen(model, model[4], x)
    assert model[4].input_range[0] == 0 < model[4].input_range[1]
    codes = inputs / (model[4].input_range[1] / (2 * half - 1))
    torch.testing.assert_close(codes, codes.round(), atol=1e-2, rtol=1e-5)
    assert codes.min() == 0 and codes.max() <= 2 * half - 0.99
    by_keyword = copy.deepcopy(plain[4]).eval()
    hidden = torch.rand(5, 8)
    want = copy.deepcopy(by_keyword)(hidden)
    assert torch.equal(by_keyword(input=hidden), want)


def test_inputs_that_turn_negative() -> None:
    model = nct.quantize(nn.Linear(3, 2), 8, 4)
    model(torch.rand(9, 3))
    assert model.input_range[0] == 0
    model(-torch.rand(9, 3))
    assert model.input_range[0] == -model.input_range[1] < 0
    model(torch.rand(9, 3))
    assert model.input_range[0] < 0


@pytest.mark.parametrize("levels", [1, 7, 15])
def test_the_range_is_the_best_of_its_candidates(levels: int) -> None:
    rows = torch.randn(3, 500, generator=torch.Generator().manual_seed(2)) ** 3
    top = rows.abs().amax(1)
    got = best_range(rows, top, levels)
    for row, highest, value in zip(rows.double().numpy(), top, got, strict=True):
        errors = []
        candidates = float(highest) * np.arange(1, 33) / 32
        for candidate in candidates:
            step = candidate / levels
            codes = np.clip(np.rint(row / step), -levels, levels)
            errors.append(np.square(codes * step - row).sum())
        assert float(value) == pytest.approx(candidates[np.argmin(errors)], rel=1e-6)


@pytest.mark.parametrize(("low", "levels"), [(0.0, 15), (-1.0, 7)])
def test_ranges_of_inputs_are_the_best_of_their_codes(low: float, levels: int) -> None:
    """0 to 15 where no input is negative, else -8 to 7, evenly on both sides of 0."""
    x = (low + (1 - low) * torch.rand(40, 30, generator=torch.Generator().manual_seed(3))) ** 3
    model = nct.quantize(nn.Linear(30, 2), 4, 4)
    model(x)
    (found,) = best_range(x.reshape(1, -1), x.abs().max()[None], levels)
    assert model.input_range[1] == found
    assert found != best_range(x.reshape(1, -1), x.abs().max()[None], levels - 2)[0]


def test_inputs_are_rounded_before_other_hooks_see_them() -> None:
    model, seen = nn.Linear(30, 2), []
    model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    x = torch.rand(40, 30, generator=torch.Generator().manual_seed(3))
    nct.quantize(model, 4, 2)(x)
    assert len(seen[0].unique()) == 4 and not torch.equal(seen[0], x)


def test_zeros() -> None:
    model = nct.quantize(nn.Linear(3, 2), 4, 4)
    with torch.no_grad():
        model.weight.zero_()
    assert torch.equal(model(torch.zeros(5, 3)), model.bias.expand(5, 2))


# --------------------------------------------------------------------------- training


def test_gradients_go_straight_through_and_stop_where_clipped() -> None:
    model = nct.quantize(nn.Linear(40, 30, bias=False), 3, 3).eval()
    nn.init.normal_(model.weight)
    x = torch.randn(20, 40, requires_grad=True)
    y = model(x)
    y.square().sum().backward()
    weight_step, input_step = model.weight_range / 3, model.input_range[1] / 3
    w = rounded(model.weight.detach(), weight_step, -3, 3).requires_grad_()
    v = rounded(x.detach(), input_step, -4, 3).requires_grad_()
    (v @ w.T).square().sum().backward()
    clipped = ((model.weight / weight_step).round().abs() > 3).detach()
    outside = (x / input_step).round()
    beyond = ((outside > 3) | (outside < -4)).detach()
    assert clipped.any() and beyond.any()
    torch.testing.assert_close(model.weight.grad, w.grad.masked_fill(clipped, 0))
    torch.testing.assert_close(x.grad, v.grad.masked_fill(beyond, 0))


def test_ranges_follow_in_training_only() -> None:
    model = nct.quantize(network(), 4, 4)
    model(images())
    first = {name: b.clone() for name, b in model.named_buffers()}
    assert set(first) == {f"{i}.{k}_range" for i in (0, 2, 4) for k in ("weight", "input")}
    assert all(b.any() for b in first.values())
    with torch.no_grad():
        model[2].weight *= 2
    model.eval()
    model(images() * 2)
    assert all(torch.equal(b, first[name]) for name, b in model.named_buffers())
    model.train()
    model(images() * 2)
    torch.testing.assert_close(model[2].weight_range, first["2.weight_range"] * 1.1)
    torch.testing.assert_close(model[0].input_range, first["0.input_range"] * 1.1)


def test_the_first_forward_sets_ranges_also_in_eval() -> None:
    """So that weights can be loaded before."""
    model = nct.quantize(network(), 4, 4).eval()
    trained = network()
    with torch.no_grad():
        trained[2].weight *= 10
    model.load_state_dict(trained.state_dict(), strict=False)
    with torch.inference_mode():
        model(images())
    assert model[2].weight_range > 0.5 * model[2].weight.abs().max()
    other = nct.quantize(network(), 4, 4).eval()
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(images()), model(images()))


def test_retraining_recovers_accuracy() -> None:
    """Of two bits, on points that a random network labels."""
    x = torch.randn(400, 1, 6, 6, generator=torch.Generator().manual_seed(3))
    model = network()
    labels = (x.flatten(1) @ torch.randn(36, 3)).argmax(1)

    def fit(steps: int) -> float:
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(steps):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), labels).backward()
            optimizer.step()
        model.eval()
        accuracy = (model(x).argmax(1) == labels).float().mean().item()
        model.train()
        return accuracy

    clean = fit(100)
    nct.quantize(model, 2, 2)
    before = fit(0)
    after = fit(100)
    assert clean > 0.95 and before < 0.8 and after > before + 0.1


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpoints_compute_with_the_ranges_of_their_forward(reentrant: bool) -> None:
    found = []
    x = images().requires_grad_()
    for use in (False, True):
        model = nct.quantize(network(), 4, 4)
        model(images())
        y = checkpoint(model, 2 * x, use_reentrant=reentrant) if use else model(2 * x)
        y.square().sum().backward()
        found.append([p.grad for p in model.parameters()] + list(model.buffers()))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_compiled_models() -> None:
    torch._dynamo.reset()
    model = nct.quantize(network(), 4, 4)
    other = copy.deepcopy(model)
    compiled = torch.compile(model, backend="aot_eager")
    for training in (True, True, False):
        model.train(training)
        other.train(training)
        y, z = compiled(images()), other(images())
        torch.testing.assert_close(y, z)
        y.square().sum().backward()
        z.square().sum().backward()
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_dtypes_and_autocast(dtype: Any) -> None:
    model = nct.quantize(network(), 4, 4).to(dtype)
    y = model(images().to(dtype))
    y.sum().backward()
    assert y.dtype == dtype and all(p.grad.isfinite().all() for p in model.parameters())
    model = nct.quantize(network(), 4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        y = model(images())
    y.sum().backward()
    assert y.dtype == torch.bfloat16 and all(p.grad.any() for p in model.parameters())


def test_recurrent_layers() -> None:
    """Their weights; not their inputs."""
    model = nct.quantize(nn.LSTM(3, 4), 4, 4).eval()
    x = torch.randn(5, 2, 3)
    y = model(x)[0]
    assert {name for name, _ in model.named_buffers()} == {
        "weight_ih_l0_range", "weight_hh_l0_range"
    }  # fmt: skip
    nct.dequantize(model, rounded=True)
    assert torch.equal(model(x)[0], y) and len(model.weight_ih_l0.unique()) <= 15


# --------------------------------------------------------------------------- with others


@pytest.mark.parametrize("first", [True, False])
def test_noise_is_on_the_quantized_weights(first: bool) -> None:
    model = network().eval()
    if first:
        noise = nct.inject_noise(model, 0.1, seed=7)
    nct.quantize(model, 4, None)
    if not first:
        noise = nct.inject_noise(model, 0.1, seed=7)
    with noise.pause():
        _, clean = seen(model, model[2], images())
    _, noisy = seen(model, model[2], images())
    sigma = np.float32(0.1 * (clean.max().item() - clean.min().item()))
    z = standard_normal((8, 64), fold_in(7, 0), stream("2.weight", "noise"))
    assert len(clean.unique()) <= 15
    assert np.array_equal(noisy.numpy(), clean.numpy() + sigma * z)
    assert noise.report()[1]["sigma"] == pytest.approx(float(sigma), rel=1e-6)
    model(images()).sum().backward()
    assert model[2].weight.grad.any()
    with noise.hold(3):
        y = model(images())
        with torch.inference_mode():
            assert torch.equal(model(images()), y) and torch.equal(model(images()), y)
    nct.dequantize(model)
    with noise.pause():
        _, plain = seen(model, model[2], images())
    assert torch.equal(plain, model[2].weight)
    assert nct.active_noise(model) is noise


def test_reports_change_no_range() -> None:
    model = nct.quantize(network(), 4, 4)
    noise = nct.inject_noise(model, 0.1)
    model(images())
    with torch.no_grad():
        model[2].weight *= 2
    before = [b.clone() for b in model.buffers()]
    noise.report()
    assert all(torch.equal(a, b) for a, b in zip(model.buffers(), before, strict=True))


def test_pruned_weights_stay_away() -> None:
    model = network()
    masks = nct.magnitude_prune(model, 0.6)
    nct.quantize(model, 4, 4)
    model(images()).square().sum().backward()
    inside = {}
    for i in (0, 2, 4):
        _, weight = seen(model, model[i], images())
        mask = torch.from_numpy(masks[f"{i}.weight"])
        inside[i] = weight
        assert not weight[~mask].any() and weight[mask].any()
        assert not model[i].weight_orig.grad[~mask].any()
    model.eval()
    nct.dequantize(model, rounded=True)
    nct.make_permanent(model)
    assert len(model[2].weight.unique()) <= 15


def test_rounded_weights_go_on_to_crossbars_and_cells() -> None:
    model = nct.quantize(network(), 4, None).eval()
    y = model(images())
    nct.dequantize(model, rounded=True)
    assert torch.equal(model(images()), y)
    assert not list(model.buffers()) and not model[2]._forward_pre_hooks
    stored = nct.store(model, nc.Codec(nc.Channel.gaussian(0.0)))
    assert set(stored) == {"0.weight", "2.weight", "4.weight"}
    ideal = nc.CrossbarSpec(dac_bits=None, adc_bits=None, read_noise="none", kernel="float32")
    nct.program(nct.convert(model, nc.devices.ideal(), ideal), 1)
    torch.testing.assert_close(model(images()), y, atol=1e-4, rtol=1e-4)


def test_first_and_last_layer_and_filter() -> None:
    model = nct.quantize(network(), 2, 2, first_last_bits=8).eval()
    counts = [len(seen(model, model[i], images())[1].unique()) for i in (0, 2, 4)]
    assert counts[0] > 3 and counts[1] <= 3 < counts[2]
    assert len(seen(model, model[2], images())[0].unique()) <= 4
    assert len(seen(model, model[0], images())[0].unique()) > 50
    model = nct.quantize(network(), 2, 2, filter_fn=lambda m, name: name == "2.weight")
    assert {name for name, _ in model.named_buffers()} == {"2.weight_range", "2.input_range"}


def test_tied_weights() -> None:
    model = nn.ModuleDict({"embed": nn.Embedding(5, 4), "head": nn.Linear(4, 5, bias=False)})
    model["head"].weight = model["embed"].weight
    nct.quantize(model, 2, None)
    used = model["embed"](torch.arange(5))
    assert len(used.unique()) <= 3
    torch.testing.assert_close(model["head"](torch.eye(4)).T, used)


def test_copies_and_pickles_are_quantized_too() -> None:
    model = nct.quantize(network(), 3, 3).eval()
    y = model(images())
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(images()), y)
        nct.dequantize(other)
        assert not torch.equal(other(images()), y)
    assert torch.equal(model(images()), y)


# --------------------------------------------------------------------------- refusals


def twice() -> Any:
    return nct.quantize(network())


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        (network, {"weight_bits": 1}, "weight_bits: expected an int in .2, 16., got 1"),
        (network, {"activation_bits": 17}, "activation_bits: expected an int in .2, 16."),
        (network, {"first_last_bits": 0}, "first_last_bits: expected an int"),
        (network, {"per": "row"}, "per: expected one of 'tensor', 'channel', got 'row'"),
        (network, {"filter_fn": lambda *_: False}, "model: expected at least one weight"),
        (twice, {}, "model: expected one that is not quantized"),
        (lambda: parametrizations.weight_norm(nn.Linear(3, 3)), {}, "expected ordinary weights"),
    ],
)
def test_bad_arguments(model: Callable[[], Any], arguments: dict[str, Any], message: str) -> None:
    made = model()
    hooks = sum(len(m._forward_pre_hooks) for m in made.modules())
    buffers = len(list(made.buffers()))
    with pytest.raises(ValueError, match=message):
        nct.quantize(made, **arguments)
    assert sum(len(m._forward_pre_hooks) for m in made.modules()) == hooks
    assert len(list(made.buffers())) == buffers


def test_wrong_types() -> None:
    with pytest.raises(TypeError, match="weight_bits: expected an int"):
        nct.quantize(network(), 4.5)
    with pytest.raises(ValueError, match="model: expected a quantized one"):
        nct.dequantize(network())


def test_parts_of_a_quantized_model() -> None:
    model = nct.quantize(network())
    with pytest.raises(ValueError, match="expected the Sequential that is already"):
        nct.inject_noise(model[2], 0.1)
    with pytest.raises(ValueError, match="expected the Sequential that is already"):
        nct.inject_noise(nn.Sequential(model), 0.1)
