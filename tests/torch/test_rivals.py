"""Rivals of training under noise: batch-norm statistics, clipping, consistency."""

from __future__ import annotations

import copy

import pytest

torch = pytest.importorskip("torch")

import noisycells as nc  # noqa: E402
import noisycells.torch as nct  # noqa: E402

GENERATOR = torch.Generator().manual_seed(5)
X = torch.randn(96, 6, generator=GENERATOR)
Y = torch.randint(3, (96,), generator=GENERATOR)
LOADER = nct.batches(X, Y, 32, shuffle=False)


def normed() -> torch.nn.Sequential:
    def factory() -> torch.nn.Module:
        return torch.nn.Sequential(
            torch.nn.Linear(6, 8),
            torch.nn.Dropout(),
            torch.nn.BatchNorm1d(8, momentum=0.3),
            torch.nn.Linear(8, 3),
        )

    return nct.build(factory, seed=1)


def statistics(model: torch.nn.Sequential) -> list[torch.Tensor]:
    return [model[2].running_mean, model[2].running_var]


def test_statistics_are_those_under_the_noise() -> None:
    model = normed()
    clean = copy.deepcopy(model)
    noise = nct.inject_noise(model, 0.5, "absolute", seed=3)
    assert nct.recalibrate_batchnorm(model, LOADER, passes=2) is model
    assert noise.draw == 6
    means, variances = [], []
    with torch.no_grad():
        for number, x in enumerate([*X.split(32), *X.split(32)]):
            with noise.hold(number):
                model.eval()
                seen = []
                hook = model[0].register_forward_hook(lambda _, args, out, s=seen: s.append(out))
                model(x)
                hook.remove()
            means.append(seen[0].mean(0))
            variances.append(seen[0].var(0))
    expected = [torch.stack(means).mean(0), torch.stack(variances).mean(0)]
    torch.testing.assert_close(statistics(model), expected)
    assert (expected[1] > 1.2 * clean[0](X).var(0)).any()  # clean statistics would be seen
    torch.testing.assert_close(
        [p for name, p in model.named_parameters()], [p for name, p in clean.named_parameters()]
    )


def test_modes_and_momentum_stay() -> None:
    model = normed().train()
    model[3].eval()
    nct.recalibrate_batchnorm(model, LOADER)
    assert [module.training for module in model] == [True, True, True, False]
    assert model[2].momentum == 0.3
    assert model[2].num_batches_tracked == 3
    with torch.no_grad():
        means = torch.stack([model[0](x).mean(0) for x in X.split(32)]).mean(0)
    torch.testing.assert_close(model[2].running_mean, means)  # no dropout before it


def test_a_programmed_chip_is_measured_as_it_is() -> None:
    model = normed()
    nct.convert(model, nc.devices.pcm_joshi2020(), nc.CrossbarSpec(read_noise="none"))
    nct.program(model, 7)
    nct.recalibrate_batchnorm(model, LOADER)
    model.eval()
    with torch.no_grad():
        means = torch.stack([model[0](x).mean(0) for x in X.split(32)]).mean(0)
    torch.testing.assert_close(model[2].running_mean, means)


def test_recalibration_failures_change_nothing() -> None:
    model = normed().eval()
    with torch.no_grad():
        model[2].running_mean.fill_(2)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=r"loader: expected at least one batch, got none"):
        nct.recalibrate_batchnorm(model, [])
    with pytest.raises(RuntimeError):
        nct.recalibrate_batchnorm(model, [(X, Y), (X[:, :2], Y)])
    with pytest.raises(ValueError, match=r"passes: expected an int in .*, got 0"):
        nct.recalibrate_batchnorm(model, LOADER, passes=0)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not model[2].training and model[2].momentum == 0.3
    for layer in (torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2, track_running_stats=False)):
        with pytest.raises(ValueError, match=r"model: expected batch normalization .* got none"):
            nct.recalibrate_batchnorm(layer, LOADER)


def test_clip_weights() -> None:
    model = normed()
    before = copy.deepcopy(model)
    assert nct.clip_weights(model, 1.5, lambda _, name: not name.startswith("3")) is model
    bound = 1.5 * before[0].weight.std(correction=0)
    assert (before[0].weight.abs() > bound).any()
    assert torch.equal(model[0].weight, before[0].weight.clamp(-bound, bound))
    before[0].weight.data.copy_(model[0].weight)
    assert all(
        torch.equal(value, before.state_dict()[name]) for name, value in model.state_dict().items()
    )
    with pytest.raises(ValueError, match=r"k: expected a finite number > 0, got 0"):
        nct.clip_weights(model, 0)


def test_clipping_alone_is_noise_of_strength_zero() -> None:
    model = torch.nn.Linear(6, 3)
    with nct.inject_noise(model, 0, clip=1.0):
        bound = model.weight.std(correction=0).item()
        y = model(X)
        assert model.weight.abs().max().item() == pytest.approx(bound)
        assert torch.equal(y, torch.nn.functional.linear(X, model.weight, model.bias))


def test_consistency_loss_is_its_formula() -> None:
    logits, logits2 = (3 * torch.randn(7, 4, generator=GENERATOR) for _ in range(2))
    labels = torch.arange(7) % 4
    f = torch.nn.functional
    log_p, log_q = logits.log_softmax(1), logits2.log_softmax(1)
    kl = [
        f.kl_div(a, b, reduction="batchmean", log_target=True)
        for a, b in ((log_q, log_p), (log_p, log_q))
    ]
    ce = [f.cross_entropy(a, labels) for a in (logits, logits2)]
    expected = sum(ce) / 2 + 0.7 * sum(kl) / 2
    torch.testing.assert_close(nct.consistency_loss(logits, logits2, labels, 0.7), expected)
    torch.testing.assert_close(nct.consistency_loss(logits, logits, labels, 9.0), ce[0])
    with pytest.raises(ValueError, match=r"logits2: expected shape \(7, 4\), got \(6, 4\)"):
        nct.consistency_loss(logits, logits2[1:], labels)
    with pytest.raises(ValueError, match=r"weight: expected .* got -1"):
        nct.consistency_loss(logits, logits2, labels, -1)


def test_consistency_loss_of_two_draws_trains() -> None:
    model = torch.nn.Linear(6, 3)

    def loss(model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return nct.consistency_loss(model(x), model(x), y)

    with nct.inject_noise(model, 0.2, "absolute", seed=3) as noise:
        found = loss(model, X, Y)
        with noise.hold(0):
            logits = model(X)
        with noise.hold(1):
            logits2 = model(X)
        torch.testing.assert_close(found, nct.consistency_loss(logits, logits2, Y))
        found.backward()
        assert model.weight.grad.abs().min() > 0
        nct.fit(model, LOADER, LOADER, epochs=1, loss=loss)
        assert noise.draw == 2 + 2 * 3 + 3  # two a step, one a batch of the validation


def test_feature_consistency_loss_is_its_formula() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    with nct.inject_noise(model, 0.3, "absolute", seed=3) as noise:
        found = nct.feature_consistency_loss(model, X, Y, 0.7)
        assert noise.draw == 1
        with noise.pause(), torch.no_grad():
            clean = [model[0](X), model(X)]
        with noise.hold(0):
            noisy = [model[0](X), model(X)]
        terms = [(a - b).norm() ** 2 / b.norm() ** 2 for a, b in zip(noisy, clean, strict=True)]
        expected = torch.nn.functional.cross_entropy(noisy[1], Y) + 0.7 * sum(terms) / 2
        torch.testing.assert_close(found, expected)
        weights = tuple(model.parameters())
        gradients = [torch.autograd.grad(loss, weights) for loss in (found, expected)]
        torch.testing.assert_close(*gradients)
        with noise.pause():
            alone = nct.feature_consistency_loss(model, X, Y, 9.0)
            torch.testing.assert_close(alone, torch.nn.functional.cross_entropy(model(X), Y))
        with pytest.raises(ValueError, match=r"weight: expected .* got -1"):
            nct.feature_consistency_loss(model, X, Y, -1)
    assert not any(module._forward_hooks for module in model.modules())
    with pytest.raises(ValueError, match=r"model: expected one with noise"):
        nct.feature_consistency_loss(model, X, Y)


def test_feature_consistency_keeps_the_statistics_of_the_noisy_forward() -> None:
    model, expected = normed().train(), normed().train()
    for one in (model, expected):
        one[1].p = 0.0
        nct.inject_noise(one, 0.5, "absolute", seed=3)
    nct.feature_consistency_loss(model, X, Y)
    expected(X)
    torch.testing.assert_close(dict(model.named_buffers()), dict(expected.named_buffers()))
    nct.fit(model, LOADER, LOADER, epochs=1, loss=nct.feature_consistency_loss)
