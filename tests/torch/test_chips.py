"""Models on chips in files: what comes back is what was saved, or an error."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

torch = pytest.importorskip("torch")

import noisycells as nc  # noqa: E402
import noisycells.torch as nct  # noqa: E402
from noisycells.io import Reader, Writer  # noqa: E402

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


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_compiled_models_are_saved_as_what_they_are_of(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5)).eval()
    fresh, x = copy.deepcopy(model), torch.randn(7, 6)
    nct.program(nct.convert(model, "pcm_joshi2020"), 1)
    nct.save_chip(torch.compile(model), tmp_path / "a.safetensors")
    nct.load_chip(tmp_path / "a.safetensors", fresh)
    assert torch.equal(outputs(fresh, x), outputs(model, x))


def test_other_models_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    model, fresh, _ = deployed("images")
    nct.save_chip(model, file)
    other = nn.Sequential(nn.Linear(6, 5))
    with pytest.raises(ValueError, match=r"model: expected .*a.safetensors, got others for 4, 7"):
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


# ----------------------------------------------------------------- intact but inconsistent


def small() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 2))


def rewritten(path: Path, change: Any) -> None:
    """A file with other metadata and tensors, and the right checksums."""
    with Reader(path) as reader:
        arrays = {key: reader.read(key) for key in reader.entries}
        fields = {key: reader.metadata[key] for key in ("kind", "stream_version")}
        trees = {key: json.loads(reader.metadata[key]) for key in ("layers", "folded")}
    change(fields, trees, arrays)
    with Writer(path) as writer:
        for key, array in arrays.items():
            writer.add(key, array)
        writer.metadata = fields | {key: json.dumps(tree) for key, tree in trees.items()}


def of_layer(**values: Any) -> Any:
    return lambda fields, trees, arrays: trees["layers"]["0"].update(values)


def array(key: str, value: Any) -> Any:
    return lambda fields, trees, arrays: arrays.update({f"0.{key}": value(arrays[f"0.{key}"])})


WRONG_FIELDS = {
    r"stream_version: expected a positive integer": lambda f, t, a: f.update(stream_version="0x"),
    r"stream_version: expected '?2": lambda f, t, a: f.update(stream_version="3"),
    r"metadata: expected the fields .*'more'": lambda f, t, a: f.update(more="1"),
    r"metadata: expected .*no 'folded'": lambda f, t, a: t.pop("folded"),
    r"layers: expected an object": lambda f, t, a: t.update(layers=[1]),
    r"folded: expected an object": lambda f, t, a: t.update(folded=None),
    r"folded\.0: expected true or false": lambda f, t, a: t.update(folded={"0": 1}),
    r"layers\.0: expected an object": lambda f, t, a: t["layers"].update({"0": 1}),
    r"layers\.0: expected .*no 'spec'": lambda f, t, a: t["layers"]["0"].pop("spec"),
    r"layers\.0: expected .*'more'": of_layer(more=1),
    r"layers\.0\.name: expected a string, got \{": of_layer(name={}),
    r"layers\.0\.name: expected a string, got 3": of_layer(name=3),
    r"layers\.0\.device: data: expected": of_layer(device=[]),
    r"layers\.0\.device: device: expected one of": of_layer(
        device={"device": "toy", "arguments": {}}
    ),
    r"layers\.0\.device: device: expected one of .*\[": of_layer(
        device={"device": [], "arguments": {}}
    ),
    r"layers\.0\.device: g_min, g_max": of_layer(
        device={"device": "ideal", "arguments": {"g_max": -1}}
    ),
    r"layers\.0\.device: arguments: expected those of ideal": of_layer(
        device={"device": "ideal", "arguments": {"g": 1}}
    ),
    r"layers\.0\.spec: ": of_layer(spec=3),
    r"layers\.0\.spec: values: expected fields": of_layer(spec={"row": 3}),
    r"layers\.0\.spec: rows: expected an int": of_layer(spec={"rows": 2.5}),
    r"layers\.0\.spec: dac_range: expected": of_layer(spec={"dac_range": []}),
    r"0\.chip_conductances: expected finite": array("chip_conductances", lambda a: a * np.nan),
    r"0\.chip_conductances: expected shape": array("chip_conductances", lambda a: a[0]),
    r"0\.chip_conductances: expected torch\.float32": array(
        "chip_conductances", lambda a: a.astype(np.float64)
    ),
    r"0\.chip_programmed: expected finite": array("chip_programmed", lambda a: a + np.inf),
    r"0\.chip_scale: expected finite": array("chip_scale", lambda a: a * np.inf),
    r"0\.chip_weight: expected finite": array("chip_weight", lambda a: a * np.nan),
    r"0\.chip_ranges: expected finite": array("chip_ranges", lambda a: a * np.nan),
    r"0\.chip_seconds: expected a time, got -1": array("chip_seconds", lambda a: a * 0 - 1),
    r"0\.chip_seconds: expected a time, got inf": array("chip_seconds", lambda a: a + np.inf),
    r"0\.chip_seed: expected torch\.int64": array("chip_seed", lambda a: a.astype(np.int32)),
    r"0\.identity: expected a JSON text": array("identity", lambda a: a[:-1]),
}


@pytest.mark.parametrize("message", WRONG_FIELDS)
def test_every_field_is_checked_and_named(message: str, tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    nct.save_chip(nct.at(nct.program(nct.convert(small(), "pcm_joshi2020"), 1), 60), file)
    rewritten(file, lambda *content: None)
    nct.load_chip(file, small())
    rewritten(file, WRONG_FIELDS[message])
    model = small()
    with pytest.raises(ValueError, match=r"a\.safetensors") as caught:
        nct.load_chip(file, model)
    assert re.search(message, str(caught.value)), caught.value
    assert not message.startswith(("layers", "folded")) or isinstance(caught.value, nc.DecodeError)
    assert type(model[0]) is nn.Linear


def test_a_directory_of_transformers(tmp_path: Path) -> None:
    """Configuration and chip are enough; what save_pretrained writes is the digital model."""
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=16,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.BertModel(config).eval()
    batch = {"input_ids": torch.randint(50, (3, 8))}
    with torch.no_grad():
        want = model(**batch).last_hidden_state
    nct.correct(nct.deploy(model, "pcm_hermes", batch, quiet=True), batch, 2)
    model.config.save_pretrained(tmp_path)
    nct.save_chip(model, tmp_path / "chip.safetensors")
    found = transformers.AutoConfig.from_pretrained(tmp_path)
    again = nct.load_chip(
        tmp_path / "chip.safetensors", transformers.AutoModel.from_config(found).eval()
    )
    torch.manual_seed(1)
    with torch.no_grad():
        one = model(**batch).last_hidden_state
        torch.manual_seed(1)
        assert torch.equal(again(**batch).last_hidden_state, one) and not torch.equal(one, want)
        model.save_pretrained(tmp_path / "digital")
        digital = transformers.AutoModel.from_pretrained(tmp_path / "digital").eval()
        torch.testing.assert_close(digital(**batch).last_hidden_state, want)
