"""One call from a trained model to a programmed chip."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import noisycells as nc  # noqa: E402
import noisycells.torch as nct  # noqa: E402

nn = torch.nn


class Recurrent(nn.Module):
    """An LSTM and a layer for its last output."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(6, 16, batch_first=True), nn.Linear(16, 4)
        self.unused = nn.Linear(6, 6)

    def forward(self, x: Any) -> Any:
        return self.head(self.lstm(x)[0][:, -1])


def encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
    return nn.Sequential(nn.Linear(6, 16), nn.TransformerEncoder(layer, 2), nn.Linear(16, 4))


def images() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.BatchNorm2d(8), nn.Flatten(),
        nn.Linear(8 * 36, 4),
    )  # fmt: skip


MODELS = {
    "lstm": (Recurrent, (30, 5, 6)),
    "transformer": (encoder, (30, 5, 6)),
    "convolutions": (images, (30, 3, 8, 8)),
}


def case(name: str) -> tuple[Any, Any]:
    torch.manual_seed(0)
    make, shape = MODELS[name]
    model, x = make(), torch.randn(shape)
    model.train()(x)  # batch normalization has seen something
    return model.eval(), x


@pytest.mark.parametrize("name", MODELS)
def test_every_kind_of_model(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    model, x = case(name)
    with torch.no_grad():
        want = model(x)
        assert nct.deploy(model, "pcm_joshi2020", [x[:20], x[20:]], seconds=3600.0) is model
        found = model(x)
    cosine = nn.functional.cosine_similarity(found.flatten(), want.flatten(), 0).item()
    assert 0.9 < cosine < 0.99999
    layers = {n: m for n, m in model.named_modules() if isinstance(m, nct.CrossbarLayer)}
    assert layers
    for layer in layers.values():
        assert layer.chip_seconds.item() == 3600 and layer.ranges is not None
        assert layer.smoothing is not None and layer.spec.mapping == "column"
        assert layer.spec.drift_compensation == "global"
    text = capsys.readouterr().out
    for said in ("pcm_joshi2020 (measured)", "8-bit DAC", "drift compensation global",
                 "3600 s old", "tiles of 256 x 256", "a scale for each column"):  # fmt: skip
        assert said in text
    if name == "lstm":
        assert "unused" not in layers and "unused" in text
    if name == "convolutions":  # the second has no layer before it
        assert "folded      1 of 2 batch normalizations" in text and "digital: 3" in text


def test_it_is_the_calls_by_hand() -> None:
    model, x = case("convolutions")
    by_hand = copy.deepcopy(model)
    device = nc.devices.pcm_hermes()
    nct.deploy(model, device, x, seed=5, quantile="error", quiet=True)
    spec = nc.CrossbarSpec(mapping="column", adc_range="calibrated", drift_compensation="global")
    nct.fold_batchnorm(by_hand, device)
    nct.convert(by_hand, device, spec)
    nct.calibrate(nct.limit_weights(nct.smooth(by_hand, x), x), x, "error")
    nct.program(by_hand, 5)
    ours, theirs = (m.state_dict() for m in (model, by_hand))
    for name in [n for n in ours if n.endswith("chip_seconds")]:
        assert ours.pop(name).isnan() and theirs.pop(name).isnan()
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def test_what_is_asked_for_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    model, x = case("transformer")
    spec = {"0": nc.CrossbarSpec(adc_bits=None), "*": nc.CrossbarSpec(dac_bits=6)}
    nct.deploy(model, "ideal", x, spec=spec, strength=0, filter_fn=lambda _, n: n != "2")
    assert type(model[2]) is nn.Linear and model[0].smoothing is None
    assert model[0].spec.adc_bits is None and model[1].layers[0].linear1.spec.dac_bits == 6
    text = capsys.readouterr().out
    for said in ("ideal ADC", "6-bit DAC", "smoothed    nothing", "calibrated  nothing", "digital"):
        assert said in text
    with torch.no_grad():
        model(x)


def test_norms_of_tokens_stay_digital(capsys: pytest.CaptureFixture[str]) -> None:
    """As many tokens as features: only the data tell that it is no norm of the features."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))
    x = torch.randn(40, 6, 6)
    model.train()(x)
    with torch.no_grad():
        want = model.eval()(x)
        nct.deploy(model, "ideal", x)
        found = model(x)
    assert isinstance(model[1], nn.BatchNorm1d)
    assert "folded      0 of 1 batch normalizations" in capsys.readouterr().out
    torch.testing.assert_close(found, want, atol=0.1, rtol=0)


def test_weights_beyond_limits_are_counted() -> None:
    model, x = case("transformer")
    nct.smooth(nct.convert(model, "rram_wan2022"), x)
    layers = {n: m for n, m in model.named_modules() if isinstance(m, nct.CrossbarLayer)}
    whole = {name: layer.mapped().detach() for name, layer in layers.items()}
    nct.limit_weights(model, x)
    changed = {name: int((layers[name].mapped() != w).sum()) for name, w in whole.items()}
    assert {name: layer.limited() for name, layer in layers.items()} == changed
    assert sum(changed.values()) > 0


def test_files_are_devices(tmp_path: Path) -> None:
    model, x = case("lstm")
    file = tmp_path / "mine.json"
    file.write_text(nc.devices.pcm_hermes().to_json())
    nct.deploy(model, str(file), x, quiet=True)
    assert model.head.analog == nc.devices.pcm_hermes()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"device": "pcm_herms"}, ValueError, "device: .*did you mean"),
        ({"device": "pcm_array"}, TypeError, "device: expected a Device, got the channel"),
        ({"device": 3}, TypeError, "device: expected a Device or the name of one"),
        ({"calibration": []}, ValueError, "calibration: expected data that reach a layer"),
        ({"calibration": torch.zeros(2, 5)}, RuntimeError, "Expected 3D.*or 4D"),
        ({"strength": 2.0}, ValueError, "strength: expected"),
        ({"quantile": 0.0}, ValueError, "quantile: expected"),
        ({"seconds": 1e9}, ValueError, "seconds: expected .* was measured"),
        ({"spec": {"x*": nc.CrossbarSpec()}}, ValueError, "spec: expected patterns"),
        ({"filter_fn": lambda layer, name: False}, ValueError, "model: expected at least one"),
    ],
)
def test_errors_leave_the_model(change: dict[str, Any], error: Any, message: str) -> None:
    model, x = case("convolutions")
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(error, match=message):
        nct.deploy(model, **{"device": "pcm_hermes", "calibration": x, **change})
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_late_errors_leave_a_digital_model() -> None:
    model, x = case("convolutions")
    with torch.no_grad():
        want = model(x)

    class Twice:
        """Batches that are not there the third time."""

        passes = 0

        def __iter__(self) -> Any:
            self.passes += 1
            yield x if self.passes < 3 else x * torch.nan

    with pytest.raises(ValueError, match="NaN"):
        nct.deploy(model, "pcm_hermes", Twice(), quiet=True)
    assert not any(isinstance(m, nct.CrossbarLayer) for m in model.modules())
    with torch.no_grad():
        torch.testing.assert_close(model(x), want, rtol=1e-4, atol=1e-5)
