"""Magnitude pruning: which weights go, and that they stay away while training."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import noisycells.torch as nct  # noqa: E402


def weights(model: torch.nn.Module) -> dict[str, np.ndarray]:
    state = model.state_dict()
    return {n: v.numpy() for n, v in state.items() if n.endswith("weight")}


def test_global_pruning_keeps_the_largest() -> None:
    model = nct.build(nct.LeNet, seed=0)
    before = {name: value.copy() for name, value in weights(model).items()}
    biases = [p.detach().clone() for n, p in model.named_parameters() if n.endswith("bias")]
    masks = nct.magnitude_prune(model, 0.8)
    nct.make_permanent(model)
    after = weights(model)
    assert masks.keys() == after.keys() == before.keys()
    kept = np.concatenate([np.abs(before[n][masks[n]]) for n in before])
    gone = np.concatenate([np.abs(before[n][~masks[n]]) for n in before])
    assert len(gone) == round(0.8 * 430_500) and kept.min() >= gone.max()
    for name, mask in masks.items():
        assert mask.dtype == np.bool_
        assert np.array_equal(after[name], np.where(mask, before[name], 0))
    now = [p for n, p in model.named_parameters() if n.endswith("bias")]
    assert all(torch.equal(a, b) for a, b in zip(biases, now, strict=True))


def test_pruning_per_layer() -> None:
    model = nct.build(nct.LeNet, seed=0)
    for name, mask in nct.magnitude_prune(model, 0.5, scope="layer").items():
        assert mask.sum() == mask.size / 2, name


def test_pruned_weights_stay_zero_while_training() -> None:
    model = nct.build(nct.MLP, seed=0)
    images = np.random.default_rng(3).random((40, 1, 28, 28), dtype=np.float32)
    labels = np.arange(40) % 10
    masks = nct.magnitude_prune(model, 0.8)
    before = model.fc1.weight.detach().clone()
    nct.train(model, images, labels, epochs=2, validation_fraction=0.25)
    nct.make_permanent(model)
    assert not torch.equal(model.fc1.weight, before)
    for name, value in weights(model).items():
        assert not value[~masks[name]].any()
    assert "fc1.weight" in dict(model.named_parameters()) and not model.fc1._forward_pre_hooks


def test_a_bare_layer_and_other_layers() -> None:
    layer = torch.nn.Linear(4, 5)
    assert nct.magnitude_prune(layer, 0.25)["weight"].sum() == 15
    model = torch.nn.Sequential(torch.nn.Conv1d(2, 4, 3), torch.nn.BatchNorm1d(4))
    assert list(nct.magnitude_prune(model, 0.0)) == ["0.weight"]


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"quantile: expected a number in \[0, 1\), got 1"):
        nct.magnitude_prune(nct.MLP(), 1)
    with pytest.raises(ValueError, match=r"scope: expected one of 'global', 'layer', got 'all'"):
        nct.magnitude_prune(nct.MLP(), 0.5, scope="all")
    with pytest.raises(ValueError, match=r"model: expected at least one linear or convolution"):
        nct.magnitude_prune(torch.nn.ReLU())
    model = nct.MLP()
    nct.magnitude_prune(model)
    with pytest.raises(ValueError, match=r"model: .*pruning in progress"):
        nct.magnitude_prune(model)
