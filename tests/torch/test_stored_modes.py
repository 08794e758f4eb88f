"""Every mode through store, load and evaluate, and what each refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import noisycells as nc  # noqa: E402
import noisycells.torch as nct  # noqa: E402
from noisycells import data, storage  # noqa: E402

CELL = nc.devices.synthetic_pcm()
CODECS = {
    "paper": nc.Codec(CELL),
    "coded": storage.Coded(CELL, step=0.3),
    "levels": storage.Levels(CELL, radices=(4, 4)),
    "analog": storage.Analog(CELL, verify_reads=2),
}
DIGITS = data.load_digits()
IMAGES, LABELS = DIGITS.normalize(DIGITS.train_images), DIGITS.train_labels


@pytest.fixture(scope="module")
def model() -> Any:
    found = nct.build(nct.MLP, seed=1)
    train = nct.batches(IMAGES[:1200], LABELS[:1200])
    nct.fit(found, train, nct.batches(IMAGES[1200:], LABELS[1200:]), epochs=3)
    return found


@pytest.mark.parametrize("mode", CODECS)
def test_store_load_evaluate_and_files(mode: str, model: Any, tmp_path: Path) -> None:
    moments = None if mode == "paper" else nct.input_moments(model, IMAGES[:300])
    stored = nct.store(model, CODECS[mode], moments=moments)
    assert stored.keys() == {"fc1.weight", "fc2.weight", "fc3.weight"}
    other = nct.load(stored, nct.build(nct.MLP, seed=2), seed=3, chip=4)
    read = stored.read(3, 4)
    for name in stored:
        assert np.array_equal(other.get_parameter(name).detach().numpy(), read[name])
    assert torch.equal(other.fc1.bias, model.fc1.bias)
    loader = nct.batches(IMAGES[1200:], LABELS[1200:], shuffle=False)
    clean = nct.accuracy(model, IMAGES[1200:], LABELS[1200:])
    assert nct.evaluate(model, loader, 2, stored=stored).mean > clean - 4
    nc.save(tmp_path / "a", stored)
    again = nc.load(tmp_path / "a").read(3, chip=4)
    assert all(np.array_equal(again[name], read[name]) for name in read)
    assert stored.cost.original_weights == sum(model.get_parameter(n).numel() for n in stored)


def test_analog_takes_no_masks_no_sensitivities_and_no_biases(model: Any) -> None:
    analog = CODECS["analog"]
    mask = {"fc1.weight": np.ones((100, 784), bool)}
    with pytest.raises(ValueError, match="mask: expected None where all weights have cells"):
        nct.store(model, analog, mask=mask)
    with pytest.raises(ValueError, match="sensitivity: expected None"):
        nct.store(model, analog, sensitivity=nct.sensitivity(model, IMAGES[:10]))
    with pytest.raises(ValueError, match=r"fc1\.bias: expected two dimensions or more"):
        nct.store(model, analog, store_biases=True)


def test_a_chip_is_programmed_once(model: Any) -> None:
    """Other reads of it keep its programming errors; another chip has others."""
    stored = nct.store(model, CODECS["analog"])
    first, second = (stored.read(seed, 1)["fc1.weight"] for seed in (1, 2))
    other = stored.read(1, 2)["fc1.weight"]
    weight = model.fc1.weight.detach().numpy()
    same = np.corrcoef((first - weight).ravel(), (second - weight).ravel())[0, 1]
    apart = np.corrcoef((first - weight).ravel(), (other - weight).ravel())[0, 1]
    assert same > apart + 0.2
    assert np.array_equal(stored.read(1, 1)["fc1.weight"], first)
