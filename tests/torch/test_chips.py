"""Models on chips in files: what comes back is what was saved, or an error."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

torch = pytest.importorskip("torch")

import noisycells as nc  # noqa: E402
import noisycells.torch as nct  # noqa: E402

nn = torch.nn


class Tied(nn.Module):
    """A transformer layer and an LSTM, with a head that shares its weights with an embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(11, 8)
        self.mix = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.lstm = nn.LSTM(8, 8, batch_first=True)
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.table.weight

    def forward(self, x: Any) -> Any:
        return self.head(self.lstm(self.mix(self.table(x)))[0])


def images() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(),
        nn.Linear(8 * 36, 16), nn.BatchNorm1d(16), nn.Identity(), nn.Linear(16, 4),
    )  # fmt: skip


CASES = {
    "tied": (Tied, lambda: torch.randint(11, (6, 5))),
    "images": (images, lambda: torch.randn(6, 3, 8, 8)),
}


def deployed(name: str, seconds: float | None = 3600.0) -> tuple[Any, Any, Any]:
    """A model on a chip, a fresh one of the same architecture, and inputs."""
    torch.manual_seed(0)
    make, inputs = CASES[name]
    model, x = make(), inputs()
    model.train()(x)
    model.eval()
    nct.deploy(model, "pcm_hermes", [x], seconds=seconds, quiet=True)
    return model, make().eval(), x


def outputs(model: Any, x: Any) -> Any:
    torch.manual_seed(7)
    with torch.no_grad():
        return model(x)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("seconds", [None, 3600.0])
def test_models_come_back(name: str, seconds: float | None, tmp_path: Path) -> None:
    model, fresh, x = deployed(name, seconds)
    nct.save_chip(model, tmp_path / "chip.safetensors")
    assert nct.load_chip(tmp_path / "chip.safetensors", fresh) is fresh
    assert torch.equal(outputs(fresh, x), outputs(model, x))
    # its life goes on as that of the other
    for one in (model, fresh):
        nct.at(one, 86_400.0)
    assert torch.equal(outputs(fresh, x), outputs(model, x))
    # into one that is converted already, with other chips
    other = copy.deepcopy(model)
    nct.program(other, 9)
    nct.save_chip(model, tmp_path / "chip.safetensors")
    nct.load_chip(tmp_path / "chip.safetensors", other)
    assert torch.equal(outputs(other, x), outputs(model, x))
    with safe_open(tmp_path / "chip.safetensors", "pt") as file:  # others read it, too
        keys = set(file.keys())
    assert keys == set(model.state_dict())


def test_several_devices_and_specs(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.Linear(4, 3)).eval()
    fresh, x = copy.deepcopy(model), torch.randn(7, 6)
    nct.convert(model, nc.devices.pcm_hermes(), nc.CrossbarSpec(rows=3), lambda _, n: n == "0")
    nct.convert(model, nc.devices.rram_cmo(), filter_fn=lambda _, n: n == "2")
    nct.program(model, 1)
    nct.save_chip(model, tmp_path / "a.safetensors")
    nct.load_chip(tmp_path / "a.safetensors", fresh)
    assert type(fresh[3]) is nn.Linear and fresh[0].spec.rows == 3
    assert fresh[2].analog == nc.devices.rram_cmo()
    assert torch.equal(outputs(fresh, x), outputs(model, x))


def test_before_programming_and_in_half_precision(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5)).bfloat16().eval()
    fresh = copy.deepcopy(model)
    nct.convert(model, nc.devices.pcm_hermes())
    nct.save_chip(model, tmp_path / "a.safetensors")
    with torch.no_grad():
        fresh[0].weight.zero_()
    nct.load_chip(tmp_path / "a.safetensors", fresh)
    assert fresh[0].weight.dtype is torch.bfloat16
    assert torch.equal(fresh[0].weight, model[0].weight) and fresh[0].chip_seed is None


def test_other_models_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    model, fresh, _ = deployed("images")
    nct.save_chip(model, file)
    other = nn.Sequential(nn.Linear(6, 5))
    with pytest.raises(ValueError, match="model: expected"):
        nct.load_chip(file, other)
    assert type(other[0]) is nn.Linear
    wide = images()
    wide[7] = nn.Linear(16, 5)
    with pytest.raises(ValueError, match=r"model: expected that of .*a.safetensors"):
        nct.load_chip(file, wide)
    assert not any(isinstance(m, nct.CrossbarLayer) for m in wide.modules())
    converted = nct.convert(copy.deepcopy(nct.restore(copy.deepcopy(model))), nc.devices.rram_cmo())
    with pytest.raises(ValueError, match=r"devices and specs of .*, got others for 0, 4, 7"):
        nct.load_chip(file, converted)
    with pytest.raises(ValueError, match="model: expected crossbar layers"):
        nct.save_chip(fresh, file)


def test_other_files_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    model = nn.Sequential(nn.Linear(6, 5))
    nc.save(file, nct.store(model, nc.Codec(nc.Channel.gaussian(0.1))))
    with pytest.raises(ValueError, match="expected a model on a chip"):
        nct.load_chip(file, model)
    nct.convert(model, nc.devices.pcm_hermes())
    nct.save_chip(model, file)
    with pytest.raises(ValueError, match=r"a\.safetensors: "):
        nc.load(file)
    whole = file.read_bytes()
    for damaged in (whole[:-1], whole[:-4] + bytes(4)):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"a\.safetensors: "):
            nct.load_chip(file, nn.Sequential(nn.Linear(6, 5)))
