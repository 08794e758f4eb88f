"""Energy by layer, against the counters of single arrays."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

import noisycells as nc  # noqa: E402
import noisycells.torch as nct  # noqa: E402

nn = torch.nn
PJ = {"dac_conversions": 0.1, "adc_conversions": 1.5, "cell_reads": 0.001}


def test_energy_of_each_layer() -> None:
    model = nn.Sequential(
        nn.Conv2d(4, 8, 3, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 10)
    ).eval()
    spec = nc.CrossbarSpec(rows=50)
    nct.convert(model, nc.devices.pcm_hermes(), spec)
    x = torch.randn(7, 4, 6, 6)
    conv, linear = nct.energy(model, [x[:3], x[3:]], PJ)
    array = nc.Crossbar(torch.randn(10, 128).numpy(), nc.devices.pcm_hermes(), spec)
    assert linear["vectors"] == 7 and linear["picojoules"] == array.energy(7, PJ)
    assert all(linear[key] == value for key, value in array.counters(7).items())
    group = nc.Crossbar(torch.randn(4, 18).numpy(), nc.devices.pcm_hermes(), spec)
    patches = 7 * 4 * 4
    assert conv["vectors"] == patches and conv["cells"] == 2 * group.counters(1)["cells"]
    assert conv["picojoules"]["total"] == pytest.approx(2 * group.energy(patches, PJ)["total"])
    total = conv["picojoules"]["total"] + linear["picojoules"]["total"]
    assert conv["share"] == pytest.approx(conv["picojoules"]["total"] / total)
    assert conv["share"] + linear["share"] == pytest.approx(1)


def test_energy_refuses() -> None:
    model = nct.convert(nn.Sequential(nn.Linear(4, 3)), nc.devices.pcm_hermes())
    with pytest.raises(ValueError, match="picojoules: expected names of"):
        nct.energy(model, torch.randn(2, 4), {"adc": 1.0})
    (row,) = nct.energy(model, [], PJ)  # nothing came in
    assert row["vectors"] == 0 and row["share"] == 0.0 and row["cells"] == 24
    with pytest.raises(ValueError, match="model: expected crossbar layers"):
        nct.energy(nn.Linear(4, 3), torch.randn(2, 4), PJ)
