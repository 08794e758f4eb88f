"""Whole models in cells: what is stored, what stays digital, and loading it back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import noisycells as nc  # noqa: E402
import noisycells.torch as nct  # noqa: E402

CELL = nc.Channel.gaussian(0.05)
CODEC = nc.Codec(CELL)


def lenet() -> torch.nn.Module:
    return nct.build(nct.LeNet, seed=1)


def arrays(model: torch.nn.Module) -> dict[str, np.ndarray]:
    return {name: value.numpy(force=True).copy() for name, value in model.state_dict().items()}


def test_sensitivity_decides_as_it_does_in_the_codec() -> None:
    """Thresholds and cells are those of :meth:`Codec.encode`; what is no weight is ignored."""
    model = lenet()
    codec = nc.Codec(CELL, mean_cells=2.5)
    given = {name: value**4 for name, value in arrays(model).items()}
    weights = {name: value for name, value in arrays(model).items() if value.ndim > 1}
    expected = codec.encode(weights, None, {name: given[name] for name in weights})
    found = nct.store(model, codec, sensitivity=given)
    usual = nct.store(model, codec)
    assert [t.ranges for t in found.values()] == [t.ranges for t in expected.values()]
    assert [t.ranges for t in found.values()] != [t.ranges for t in usual.values()]


class Mixed(torch.nn.Module):
    """One of each kind of tensor that is treated in its own way."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(6, 4)
        self.batch_norm = torch.nn.BatchNorm1d(4)
        self.layer_norm = torch.nn.LayerNorm((3, 4))
        self.embedding = torch.nn.Embedding(5, 4)
        self.head = torch.nn.Linear(4, 5, bias=False)
        self.head.weight = self.embedding.weight  # tied
        self.scale = torch.nn.Parameter(torch.tensor(2.0))
        self.register_buffer("table", torch.ones(3, 3))
        self.register_buffer("scratch", torch.ones(3, 3), persistent=False)


def test_weights_go_to_cells_and_the_rest_stays_digital() -> None:
    stored = nct.store(lenet(), CODEC)
    layers = ("conv1", "conv2", "fc1", "fc2")
    assert list(stored) == [f"{layer}.weight" for layer in layers]
    assert list(stored.digital) == [f"{layer}.bias" for layer in layers]
    cost = stored.cost
    assert (cost.stored_weights, cost.digital_weights) == (430_500, 580)
    assert not cost.includes_biases


def test_kinds_of_layers() -> None:
    torch.manual_seed(0)
    stored = nct.store(Mixed(), CODEC)
    assert set(stored) == {"linear.weight", "embedding.weight"}
    assert set(stored.digital) == {
        "linear.bias",
        "scale",
        "table",
        *(f"layer_norm.{name}" for name in ("weight", "bias")),
        *(f"batch_norm.{name}" for name in ("weight", "bias", "running_mean", "running_var")),
        "batch_norm.num_batches_tracked",
    }


def test_state_dicts_are_stored_alike() -> None:
    model = Mixed()
    from_model, from_state = nct.store(model, CODEC), nct.store(model.state_dict(), CODEC)
    assert set(from_state) == {*from_model, "table"}  # a buffer nobody can tell from a weight
    for name, tensor in from_model.items():
        assert np.array_equal(tensor.read(3), from_state[name].read(3))


def test_load_puts_the_read_back_in_place() -> None:
    model, target = lenet(), nct.build(nct.LeNet, seed=2)
    stored = nct.store(model, CODEC)
    weight = target.fc1.weight
    assert nct.load(stored, target, seed=5, chip=6) is target
    assert target.fc1.weight is weight
    loaded, clean = arrays(target), arrays(model)
    for name, tensor in stored.items():
        assert np.array_equal(loaded[name], tensor.read(5, chip=6))
        assert not np.array_equal(loaded[name], clean[name])
    for name in stored.digital:
        assert np.array_equal(loaded[name], clean[name])
    assert all(parameter.requires_grad for parameter in target.parameters())


def test_tied_weights_stay_tied() -> None:
    model = Mixed()
    stored = nct.store(model, CODEC)
    nct.load(stored, model, seed=1)
    assert model.head.weight is model.embedding.weight
    assert np.array_equal(model.head.weight.detach().numpy(), stored["embedding.weight"].read(1))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_dtypes(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = torch.nn.Linear(30, 20).to(dtype)
    weight, bias = model.weight.detach().clone(), model.bias.detach().clone()
    stored = nct.store(model, nc.Codec(nc.Channel.gaussian(1e-6)))
    nct.load(stored, model, seed=1)
    assert model.weight.dtype == dtype and torch.equal(model.bias, bias)
    error = (model.weight.double() - weight.double()).abs().max().item()
    assert error <= 1e-5 + torch.finfo(dtype).eps * weight.abs().max().item()


def test_masks_of_a_pruned_model() -> None:
    model = lenet()
    masks = nct.magnitude_prune(model, 0.8)
    with pytest.raises(ValueError, match=r"'conv1.weight_orig'.*; call .*make_permanent"):
        nct.store(model, CODEC, masks=masks)
    nct.make_permanent(model)
    stored = nct.store(model, CODEC, masks=masks)
    assert stored.cost.stored_weights == round(0.2 * 430_500)
    for name, tensor in stored.items():
        read = tensor.read(1)
        assert not read[~masks[name]].any() and read[masks[name]].all()
    nonzero = nct.store(model, CODEC, masks="nonzero")
    assert all(np.array_equal(nonzero[name].mask, stored[name].mask) for name in stored)


def test_biases_can_be_stored() -> None:
    torch.manual_seed(0)
    stored = nct.store(Mixed(), CODEC, store_biases=True)
    assert set(stored) == {"linear.weight", "linear.bias", "embedding.weight"}
    assert stored.cost.includes_biases


def test_overrides_by_name() -> None:
    careful = nc.Codec(CELL, cells=7)
    stored = nct.store(lenet(), CODEC, overrides={"conv*": careful})
    cells = {name: tensor.cost.mean_cells for name, tensor in stored.items()}
    assert cells == {"conv1.weight": 7, "conv2.weight": 7, "fc1.weight": 1, "fc2.weight": 1}


def test_what_is_stored_does_not_change_with_the_model() -> None:
    model = lenet()
    stored = nct.store(model, CODEC)
    before = {**stored.read(1), **{name: value.copy() for name, value in stored.digital.items()}}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    after = {**stored.read(1), **stored.digital}
    assert all(np.array_equal(after[name], value) for name, value in before.items())


def test_through_a_file(tmp_path: Path) -> None:
    model, target = Mixed(), Mixed()
    stored = nct.store(model, CODEC)
    nc.save(tmp_path / "model.safetensors", stored)
    nct.load(nc.load(tmp_path / "model.safetensors"), target, seed=9)
    expected = arrays(nct.load(stored, model, seed=9))
    loaded = arrays(target)
    assert loaded.keys() == expected.keys()
    assert all(np.array_equal(loaded[name], value) for name, value in expected.items())


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"model: expected at least one weight to store"):
        nct.store(torch.nn.BatchNorm1d(3), CODEC)
    with pytest.raises(ValueError, match=r"mask: .*\['fc1'\]"):
        nct.store(lenet(), CODEC, masks={"fc1": np.ones((500, 800), bool)})
    broken = lenet()
    broken.fc2.weight.data[0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"fc2.weight"):
        nct.store(broken, CODEC)


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (
            nct.MLP,
            r"expected the parameters .*'conv1.bias', .* not stored \['fc3.bias', 'fc3.weight'\]",
        ),
        (lambda: nct.LeNet(7), r"expected shape \(10, 500\) for 'fc2.weight', got \(7, 500\)"),
    ],
)
def test_a_model_that_does_not_fit_is_left_alone(factory: object, message: str) -> None:
    stored = nct.store(lenet(), CODEC)
    model = factory()
    before = arrays(model)
    with pytest.raises(ValueError, match=f"model: {message}"):
        nct.load(stored, model, seed=1)
    assert all(np.array_equal(value, before[name]) for name, value in arrays(model).items())
