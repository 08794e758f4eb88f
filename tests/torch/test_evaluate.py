"""Accuracy over noisy realizations: which noise, which draws, and what is left behind."""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import noisycells as nc  # noqa: E402
import noisycells.torch as nct  # noqa: E402
from noisycells import random  # noqa: E402
from noisycells.intervals import student_t  # noqa: E402

GENERATOR = torch.Generator().manual_seed(5)
IMAGES = torch.randn(60, 1, 28, 28, generator=GENERATOR)
LABELS = torch.randint(10, (60,), generator=GENERATOR)
LOADER = nct.batches(IMAGES, LABELS, 25, shuffle=False)


def by_hand(model: torch.nn.Module) -> tuple[float, float]:
    logits = model(IMAGES)
    loss = torch.nn.functional.cross_entropy(logits, LABELS).item()
    return 100 * (logits.argmax(1) == LABELS).float().mean().item(), loss


def agrees(evaluation: nct.Evaluation, expected: list[tuple[float, float]]) -> None:
    accuracies, losses = zip(*expected, strict=True)
    assert evaluation.scores == pytest.approx(accuracies, rel=1e-6)
    assert evaluation.losses == pytest.approx(losses, rel=1e-4)
    assert len(set(losses)) == len(losses)  # so that a draw of another number would be seen


@pytest.mark.parametrize("factory", [nct.MLP, nct.LeNet])
def test_injected_noise_against_weights_made_noisy_by_hand(factory: type) -> None:
    model = nct.build(factory, seed=1)
    with nct.inject_noise(model, 0.05, "absolute", seed=3):
        found = nct.evaluate(model, LOADER, 4, seed=9)
    expected = []
    for i in range(4):
        key = random.fold_in(3, random.fold_in(9, i))
        noisy = copy.deepcopy(model)
        with torch.no_grad():
            for name, p in noisy.named_parameters():
                if p.ndim > 1:
                    z = random.standard_normal(tuple(p.shape), key, random.stream(name, "noise"))
                    p += 0.05 * torch.from_numpy(z)
            expected.append(by_hand(noisy))
    agrees(found, expected)


def test_chips_of_converted_models_keep_their_age() -> None:
    model = nct.build(nct.MLP, seed=1).eval()
    nct.convert(model, nc.devices.pcm_joshi2020(), nc.CrossbarSpec(read_noise="none"))

    def chips() -> list[tuple[float, float]]:
        expected = []
        for i in range(3):
            nct.program(model, random.fold_in(9, i))
            if seconds is not None:
                nct.at(model, seconds)
            with torch.no_grad():
                expected.append(by_hand(model))
        return expected

    for seconds in (None, 8e4):
        nct.program(model, 0)
        if seconds is not None:
            nct.at(model, seconds)
        found = nct.evaluate(model, LOADER, 3, seed=9)
        agrees(found, chips())


def test_reads_of_chips_follow_the_seed() -> None:
    model = nct.convert(nct.build(nct.MLP, seed=1), nc.devices.pcm_joshi2020())
    found = [nct.evaluate(model, LOADER, 2, seed=seed) for seed in (1, 1, 2)]
    assert found[0] == found[1]
    assert found[0].losses != found[2].losses


def test_stored_models_are_read_from_fresh_chips() -> None:
    model = nct.build(nct.MLP, seed=1).eval()
    stored = nct.store(model, nc.Codec(nc.Channel.gaussian(0.1)))
    found = nct.evaluate(model, LOADER, 3, seed=9, stored=stored)
    expected = []
    for i in range(3):
        key = random.fold_in(9, i)
        with torch.no_grad():
            expected.append(by_hand(nct.load(stored, copy.deepcopy(model), key, chip=key)))
    agrees(found, expected)


def test_noise_beside_crossbars() -> None:
    """One layer on a crossbar without noise, the noise on the others."""
    model = nct.build(nct.MLP, seed=1)
    noise = nct.inject_noise(
        model, 0.05, "absolute", filter_fn=lambda _, name: "fc1" not in name, seed=3
    )
    expected = nct.evaluate(model, LOADER, 3)
    spec = nc.CrossbarSpec(dac_bits=None, adc_bits=None)
    nct.convert(model, nc.devices.ideal(), spec, filter_fn=lambda _, name: name == "fc1")
    agrees(nct.evaluate(model, LOADER, 3), list(zip(expected.scores, expected.losses, strict=True)))
    assert noise.draw == 0


def test_a_realization_lasts_for_a_pass() -> None:
    model = nct.build(nct.LeNet, seed=1)
    with nct.inject_noise(model, 0.1, seed=3):
        found = [
            nct.evaluate(model, list(zip(IMAGES.split(size), LABELS.split(size), strict=True)), 3)
            for size in (7, 60)
        ]
    assert found[0].losses == pytest.approx(found[1].losses, rel=1e-5)


def test_the_accuracy_of_a_coin_of_known_bias() -> None:
    """Two weights 1 and 0 with noise of deviation 1: the first is larger in Phi(1 / sqrt(2))."""
    model = torch.nn.Linear(1, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0], [0.0]]))
    loader = [(torch.ones(1, 1), torch.zeros(1, dtype=torch.int64))]
    repeats = 2000
    with nct.inject_noise(model, 1.0, "absolute", seed=2):
        found = nct.evaluate(model, loader, repeats)
    p = 0.5 * (1 + math.erf(0.5))
    assert set(found.scores) == {0.0, 100.0}
    error = 100 * math.sqrt(p * (1 - p) / repeats)
    assert abs(found.mean - 100 * p) < 5 * error  # 6e-7 by chance
    assert found.std == pytest.approx(np.std(found.scores, ddof=1))
    assert found.half_width == pytest.approx(
        student_t(0.95, repeats - 1) * found.std / math.sqrt(repeats)
    )
    assert 1.8 * error < found.half_width < 2.1 * error


def test_the_interval_has_the_confidence_asked_for() -> None:
    model = nct.build(nct.MLP, seed=1)
    with nct.inject_noise(model, 0.1, seed=3):
        wide, narrow = (nct.evaluate(model, LOADER, 5, confidence=c) for c in (0.99, 0.5))
        single = nct.evaluate(model, LOADER, 1)
    assert wide.half_width / narrow.half_width == pytest.approx(4.604095 / 0.740697)  # tables, 4
    assert math.isnan(single.std) and math.isnan(single.half_width)
    assert single.mean == wide.scores[0]


@pytest.mark.parametrize("source", ["noise", "crossbar", "stored"])
def test_everything_is_left_as_it_was(source: str) -> None:
    model = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(784, 10), torch.nn.BatchNorm1d(10), torch.nn.Dropout()
    ).train()
    model[2].eval()
    stored = noise = None
    if source == "noise":
        noise = nct.inject_noise(model, 0.1, seed=3)
    elif source == "stored":
        stored = nct.store(model, nc.Codec(nc.Channel.gaussian(0.1)))
    else:
        nct.convert(model, nc.devices.pcm_joshi2020())
        nct.program(model, 7)
        nct.at(model, 100.0)
    before = copy.deepcopy(model.state_dict())
    generator = torch.get_rng_state()

    def loader() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        yield IMAGES, LABELS
        raise KeyboardInterrupt

    class Interrupted:
        def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
            return loader()

    nct.evaluate(model, nct.batches(IMAGES, LABELS, 25, shuffle=True), 2, stored=stored)
    with pytest.raises(KeyboardInterrupt):
        nct.evaluate(model, Interrupted(), 2, stored=stored)
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert [module.training for module in model] == [True, True, False, True]
    assert torch.equal(torch.get_rng_state(), generator)
    assert torch.is_grad_enabled()
    if noise is not None:
        assert noise.draw == 0
        with noise.hold(0):
            held = model(IMAGES)
            assert not torch.equal(held, model(IMAGES))  # dropout is on, the draw is not kept
            assert held.requires_grad


def test_models_that_need_the_usual_layout() -> None:
    class View(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lenet = nct.build(nct.LeNet, seed=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.lenet.conv1(x)
            return self.lenet.fc2(x.view(len(x), -1)[:, :500])

    model = View()
    with nct.inject_noise(model, 0.1, seed=3) as noise:
        found = nct.evaluate(model, LOADER, 2)
        with torch.no_grad():
            expected = []
            for i in range(2):
                with noise.hold(random.fold_in(0, i)):
                    expected.append(by_hand(model))
    agrees(found, expected)


def curve(**options: Any) -> nct.DriftCurve:
    model = nct.build(nct.MLP, seed=1).eval()
    nct.convert(model, nc.devices.pcm_joshi2020(), nc.CrossbarSpec())
    return nct.evaluate(model, LOADER, 3, seed=9, **options)


def test_drift_in_one_call() -> None:
    """At each time the chips are those of that time alone."""
    times = (86_400.0, 20.0)
    found = curve(times=times)
    assert found.seconds == times and len(found) == 2
    alone = [curve(times=[t])[0] for t in times]
    assert list(found) == alone
    model = nct.build(nct.MLP, seed=1).eval()
    nct.convert(model, nc.devices.pcm_joshi2020(), nc.CrossbarSpec())
    nct.program(model, 0)
    nct.at(model, times[0])
    by_hand = nct.evaluate(model, LOADER, 3, seed=9)
    assert by_hand.losses == pytest.approx(alone[0].losses, rel=1e-6)
    assert found.means == tuple(one.mean for one in alone)
    assert found.half_widths == tuple(one.half_width for one in alone)
    assert alone[0].losses != alone[1].losses
    with pytest.raises(ValueError, match=r"seconds: expected 0 to 86400 s"):
        curve(times=[1e9])
    assert curve(times=[1e9], extrapolate=True).seconds == (1e9,)


def test_recurrent_networks_against_themselves() -> None:
    """Of ideal devices: the steps of an LSTM without noise are those of torch."""
    torch.manual_seed(0)

    class Last(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = torch.nn.LSTM(6, 5, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.lstm(x)[0][:, -1]

    model, x = Last().eval(), torch.randn(7, 4, 6)
    with torch.no_grad():
        want = model(x)
    spec = nc.CrossbarSpec(dac_bits=None, adc_bits=None)
    nct.convert(model, nc.devices.ideal(), spec)
    found = nct.evaluate(model, [x], 2, metric="mse", against="clean")
    assert found.mean < 1e-10
    assert nct.evaluate(model, [(x, want)], 2, metric="mse").mean < 1e-10


def test_evaluations_as_text() -> None:
    found = nct.Evaluation((91.0, 92.0, 93.0), (0.3, 0.2, 0.1))
    assert repr(found) == "accuracy (%) 92.0 ± 2.5, 95 % interval of 3 realizations"
    assert found.interval == pytest.approx((92 - 2.484138, 92 + 2.484138))  # t = 4.302653, 2
    assert repr(nct.Evaluation((0.98765432,), metric="cosine")) == (
        "cosine 0.987654, one realization"
    )
    assert repr(nct.Evaluation((0.5, 0.5), metric="cosine")) == (
        "cosine 0.50 ± 0.00, 95 % interval of 2 realizations"
    )
    many = nct.Evaluation(tuple(float(i % 7) for i in range(1000)))
    assert len(repr(many)) < 80
    later = nct.Evaluation((0.5, 0.7), (), 0.9, "<lambda>", 3600.0)
    assert repr(later).endswith("90 % interval of 2 realizations, 3600 s after programming")
    drift = nct.DriftCurve((later, nct.Evaluation((0.1, 0.3), (), 0.9, "<lambda>", 86_400.0)))
    assert repr(drift).splitlines() == [
        "<lambda>, 90 % interval of 2 realizations",
        "   3600 s  0.60 ± 0.63",
        "  86400 s  0.20 ± 0.63",
    ]
    for one in (found, drift):
        assert one._repr_html_().startswith("<table>") and "<lambda>" not in one._repr_html_()
    assert drift._repr_html_().count("<tr>") == 3


def test_evaluations_as_tables() -> None:
    pandas = pytest.importorskip("pandas")
    found = nct.Evaluation((91.0, 92.0), (0.3, 0.2)).to_frame()
    assert isinstance(found, pandas.DataFrame)
    assert found.to_dict("list") == {
        "realization": [0, 1], "score": [91.0, 92.0], "loss": [0.3, 0.2],
    }  # fmt: skip
    parts = [nct.Evaluation((0.1, 0.2), metric="cosine", seconds=t) for t in (1.0, 60.0)]
    assert nct.DriftCurve(tuple(parts)).to_frame().to_dict("list") == {
        "seconds": [1.0, 1.0, 60.0, 60.0], "realization": [0, 1, 0, 1],
        "score": [0.1, 0.2, 0.1, 0.2],
    }  # fmt: skip


@pytest.mark.parametrize("missing", ["pandas", "matplotlib"])
def test_tables_and_figures_say_what_they_need(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [missing, *(n for n in sys.modules if n.startswith(f"{missing}."))]:
        monkeypatch.setitem(sys.modules, name, None)
    found = nct.Evaluation((91.0, 92.0), seconds=1.0)
    for one in (found, nct.DriftCurve((found,))):
        with pytest.raises(ImportError, match=f"needs {missing}: pip install"):
            one.to_frame() if missing == "pandas" else one.plot()


def test_evaluations_as_figures() -> None:
    pytest.importorskip("matplotlib")
    parts = [nct.Evaluation((0.1, 0.3), metric="cosine", seconds=t) for t in (60.0, 1.0)]
    (axes,) = parts[0].plot().axes
    assert axes.get_ylabel() == "cosine"
    assert axes.lines[0].get_ydata() == pytest.approx([0.1, 0.3])
    assert axes.lines[1].get_ydata() == pytest.approx([0.2, 0.2])
    (axes,) = nct.DriftCurve(tuple(parts)).plot().axes
    assert list(axes.lines[0].get_xdata()) == [1.0, 60.0]
    assert axes.lines[0].get_ydata() == pytest.approx([0.2, 0.2])
    assert len(axes.collections) == 1  # the interval
    nct.Evaluation((0.1,)).plot()


def test_errors() -> None:
    model = nct.MLP()
    with pytest.raises(ValueError, match=r"model: expected noise .* got neither"):
        nct.evaluate(model, LOADER)
    stored = nct.store(model, nc.Codec(nc.Channel.gaussian(0.1)))
    nct.inject_noise(model, 0.1)
    with pytest.raises(ValueError, match=r"stored: expected a model without noise"):
        nct.evaluate(model, LOADER, stored=stored)
    with pytest.raises(ValueError, match=r"repeats: expected an int in .*, got 0"):
        nct.evaluate(model, LOADER, 0)
    with pytest.raises(ValueError, match=r"confidence: .* got 95"):
        nct.evaluate(model, LOADER, confidence=95)
    with pytest.raises(ValueError, match=r"seed: expected .* got -1"):
        nct.evaluate(model, LOADER, seed=-1)
    with pytest.raises(ValueError, match=r"data: .* passed over again.* got one pass of a gen"):
        nct.evaluate(model, (batch for batch in LOADER))
    with pytest.raises(ValueError, match=r"against: expected one of 'labels', 'clean'"):
        nct.evaluate(model, LOADER, against="labls")
    for times, message in (
        ([1.0], "times: expected a model with crossbar layers"),
        ([], "times: expected at least one"),
        ([-1.0], "times: expected a finite number >= 0"),
    ):
        with pytest.raises(ValueError, match=message):
            nct.evaluate(model, LOADER, times=times)
    with pytest.raises(TypeError, match="times: expected a sequence of seconds"):
        nct.evaluate(model, LOADER, times=3.0)
    with pytest.raises(ValueError, match=r"data: expected at least one batch, got none"):
        nct.evaluate(model, [])
