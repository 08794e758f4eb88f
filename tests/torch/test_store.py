"""Whole models in cells: what is stored, what stays digital, and loading it back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file  # noqa: E402

import noisycells as nc  # noqa: E402
import noisycells.torch as nct  # noqa: E402
from noisycells.storage import read_file  # noqa: E402

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
        nct.store(model, CODEC, mask=masks)
    nct.make_permanent(model)
    stored = nct.store(model, CODEC, mask=masks)
    assert stored.cost.stored_weights == round(0.2 * 430_500)
    for name, tensor in stored.items():
        read = tensor.read(1)
        assert not read[~masks[name]].any() and read[masks[name]].all()
    nonzero = nct.store(model, CODEC, mask="nonzero")
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
    with pytest.raises(ValueError, match=r"mask: expected names of weights .*, got 'fc1'"):
        nct.store(lenet(), CODEC, mask={"fc1": np.ones((500, 800), bool)})
    broken = lenet()
    broken.fc2.weight.data[0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"fc2.weight"):
        nct.store(broken, CODEC)


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (
            nct.MLP,
            r"expected the parameters .* without .*'conv1.bias', .* with \['fc3.bias', 'fc3.wei",
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


# ----------------------------------------------------------------- tied tensors


class Tied(torch.nn.Module):
    """Weights, a bias and a norm under several names."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(20, 8)
        self.first = torch.nn.Linear(8, 8)
        self.second = torch.nn.Linear(8, 8)
        self.head = torch.nn.Linear(8, 20, bias=False)
        self.head.weight = self.embedding.weight
        self.second.bias = self.first.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.second(self.first(self.embedding(x))))


ALIASES = {"second.bias": "first.bias", "head.weight": "embedding.weight"}


def test_tied_tensors_are_stored_once_under_all_names(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Tied()
    stored = nct.store(model, CODEC)
    assert stored.aliases == ALIASES
    assert stored.cost.stored_weights == 20 * 8 + 2 * 64
    assert (stored.cost.digital_bits, stored.cost.digital_weights) == (8 * 32, 8)
    nc.save(tmp_path / "cells", stored)
    for found in (stored, nc.load(tmp_path / "cells")):
        assert found.aliases == ALIASES and found.cost == stored.cost
        read = found.read(3)
        assert read.keys() == {*stored, "head.weight"}
        assert np.array_equal(read["head.weight"], read["embedding.weight"])
        target = Tied()
        nct.load(found, target, seed=3)
        assert target.head.weight is target.embedding.weight
        assert np.array_equal(target.head.weight.detach().numpy(), read["head.weight"])
        assert torch.equal(target.second.bias, model.first.bias)


def test_all_names_come_back_from_a_file(tmp_path: Path) -> None:
    model = Tied().half()
    nc.save(tmp_path / "cells", nct.store(model, CODEC))
    read_file(tmp_path / "cells", tmp_path / "read", 3)
    read = load_file(tmp_path / "read")
    assert read.keys() == model.state_dict().keys()
    assert {tensor.dtype for tensor in read.values()} == {torch.float16}
    assert torch.equal(read["head.weight"], read["embedding.weight"])
    Tied().half().load_state_dict(read)


def test_what_is_stored_apart_is_not_tied_on_loading() -> None:
    torch.manual_seed(0)
    model = Tied()
    apart = {name: value.clone() for name, value in model.state_dict().items()}
    stored = nct.store(apart, CODEC)
    assert not stored.aliases
    before = arrays(model)
    with pytest.raises(ValueError, match=r"model: expected \['embedding.weight', 'head.weight'\]"):
        nct.load(stored, model, seed=1)
    assert all(np.array_equal(value, before[name]) for name, value in arrays(model).items())


def test_a_model_may_untie_what_is_stored_once() -> None:
    torch.manual_seed(0)
    stored = nct.store(Tied(), CODEC)
    target = Tied()
    target.head.weight = torch.nn.Parameter(target.head.weight.detach().clone())
    nct.load(stored, target, seed=1)
    assert target.head.weight is not target.embedding.weight
    assert torch.equal(target.head.weight, target.embedding.weight)


def test_a_stored_model_may_lack_the_further_names() -> None:
    """As files of ``safetensors.torch.save_model`` do."""
    torch.manual_seed(0)
    model = Tied()
    state = {name: value for name, value in model.state_dict().items() if name not in ALIASES}
    stored = nct.store(state, CODEC)
    nct.load(stored, model, seed=1)
    assert np.array_equal(model.head.weight.detach().numpy(), stored.read(1)["embedding.weight"])


def test_views_of_one_memory_are_not_tied() -> None:
    table = torch.randn(4, 4)
    state = {
        "a": table,
        "transposed": table.T,
        "part": table[:2],
        "bits": table.view(torch.int32),
        "empty": torch.empty(0, 3),
        "void": torch.empty(0, 3),
    }
    assert nct.store(state, CODEC).aliases == {}


def test_aliases_have_to_be_further_names(tmp_path: Path) -> None:
    stored = nct.store(Tied(), CODEC)
    for aliases in ({"a": "b"}, {"first.bias": "first.bias"}, {"first.weight": "first.bias"}):
        wrong = nc.StoredModel(stored.tensors, stored.digital, {}, aliases)
        with pytest.raises(ValueError, match="aliases: expected further names of tensors, got"):
            nc.save(tmp_path / "cells", wrong)
    assert not (tmp_path / "cells").exists()


# ----------------------------------------------------------------- chips


def small() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))


@pytest.mark.parametrize("life", ["converted", "programmed", "aged", "calibrated"])
def test_a_chip_is_not_stored(life: str) -> None:
    """Only the weights are: bits, names and reads are those of the digital model."""
    model = small()
    clean = nct.store(model, CODEC)
    assert clean.cost.digital_bits == 2368
    spec = nc.CrossbarSpec(adc_range="calibrated", dac_range="calibrated")
    nct.convert(model, nc.devices.pcm_joshi2020(), spec if life == "calibrated" else None)
    if life == "calibrated":
        nct.calibrate(model, torch.randn(20, 64))
    if life != "converted":
        nct.program(model, 1)
    if life == "aged":
        nct.at(model, 3600)
    found = nct.store(model, CODEC)
    assert found.cost == clean.cost and list(found.digital) == list(clean.digital)
    assert all(np.array_equal(found.read(2)[name], clean.read(2)[name]) for name in clean)
    if life != "converted":
        from_state = nct.store(model.state_dict(), CODEC)
        assert from_state.cost == clean.cost and list(from_state.digital) == list(clean.digital)
    plain = nct.load(found, small(), seed=5)
    nct.load(clean, model, seed=5)
    for name, value in plain.state_dict().items():
        assert torch.equal(model.state_dict()[name], value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.eye(3).to_sparse(), r"expected dense tensors .* sparse or quantized: 'odd'"),
        (torch.empty(3, device="meta"), r"expected dense tensors .* meta device: 'odd'"),
        ({"a": 1}, r"expected tensors, got dict for 'odd'"),
    ],
    ids=["sparse", "meta", "dict"],
)
def test_tensors_without_numbers_are_refused(value: object, message: str) -> None:
    with pytest.raises(TypeError, match=f"model: {message}"):
        nct.store({"fc.weight": torch.eye(3), "odd": value}, CODEC)
