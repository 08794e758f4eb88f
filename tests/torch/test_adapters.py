"""Digital branches beside the arrays: they are zero at first, correct a chip, and stay with it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import noisycells.torch as nct  # noqa: E402
from noisycells.torch.crossbar.correction import PENALTIES, _Moments, _regression, _solved  # noqa: E402
from noisycells.torch.measure.evaluate import without_noise  # noqa: E402

nn = torch.nn
KINDS = ["linear", "grouped", "convolution", "lstm", "tokens"]


class Last(nn.Module):
    """An LSTM's last output."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(6, 16, batch_first=True)

    def forward(self, x: Any) -> Any:
        return self.lstm(x)[0][:, -1]


class Tokens(nn.Module):
    """A layer for each token; those that are masked are far away."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(24, 12)

    def forward(self, x: Any, attention_mask: Any) -> Any:
        return self.layer(x + 100 * (1 - attention_mask)[..., None]) * attention_mask[..., None]


def case(kind: str) -> tuple[Any, Any, Any]:
    """A model, example batches and others."""
    torch.manual_seed(0)
    if kind == "linear":
        model, x = nn.Sequential(nn.Linear(24, 12)), torch.randn(900, 24) + 1
    elif kind == "grouped":
        model, x = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1, groups=2)), torch.randn(60, 4, 6, 6)
    elif kind == "convolution":
        layer = nn.Conv1d(4, 6, 3, stride=2, padding=2, padding_mode="circular")
        model, x = nn.Sequential(layer, nn.ReLU(), nn.Flatten(), nn.Linear(30, 4)), None
        x = torch.randn(200, 4, 7) + 0.5
    elif kind == "lstm":
        model, x = Last(), torch.randn(300, 5, 6)
    else:
        model, x = Tokens(), torch.randn(100, 8, 24) + 1
        mask = (torch.arange(8)[None] < torch.randint(3, 9, (100, 1))).float()
        batches = [
            {"x": x[i : i + 20], "attention_mask": mask[i : i + 20]} for i in range(0, 100, 20)
        ]
        return model.eval(), batches[:4], batches[4:]
    parts = list(x.split(len(x) // 6))
    return model.eval(), parts[:5], parts[5:]


def deployed(kind: str) -> tuple[Any, Any, Any]:
    model, examples, others = case(kind)
    calibration = examples if kind != "tokens" else examples[:1]
    return nct.deploy(model, "pcm_hermes", calibration, quiet=True, seed=2), examples, others


@torch.no_grad()
def error(model: Any, batches: Any) -> float:
    """Relative square error against digital products."""
    torch.manual_seed(5)
    call = [lambda b=b: model(**b) if isinstance(b, dict) else model(b) for b in batches]
    found = torch.cat([one() for one in call])
    with without_noise(model):
        want = torch.cat([one() for one in call])
    return ((found - want).square().sum() / want.square().sum()).item()


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_adapter_changes_nothing(kind: str) -> None:
    model, examples, _ = deployed(kind)
    batch = examples[0]

    def outputs() -> Any:
        torch.manual_seed(1)
        return model(**batch) if isinstance(batch, dict) else model(batch)

    with torch.no_grad():
        before = outputs()
        for rank in (0, 3):
            for layer in layers_of(model).values():
                layer.set_adapter(nct.LowRankAdapter(layer, rank, of_chip=False))
            assert torch.equal(outputs(), before)


def layers_of(model: Any) -> dict[str, Any]:
    return {n: m for n, m in model.named_modules() if isinstance(m, nct.CrossbarLayer)}


@pytest.mark.parametrize("kind", KINDS)
def test_errors_fall_with_the_rank(kind: str) -> None:
    model, examples, others = deployed(kind)
    found = [error(model, others)]
    for rank in (0, 2, 1000):
        assert nct.correct(model, examples, rank) is model
        found.append(error(model, others))
    assert found[1] <= 1.02 * found[0] and found[2] < found[1] and found[3] < 0.5 * found[0]


def test_it_is_the_least_squares_solution() -> None:
    """Of full rank, and cut to two directions."""
    torch.manual_seed(0)
    x = torch.randn(400, 5, dtype=torch.float64) * torch.tensor([3.0, 1, 1, 1, 2]) + 1
    true = torch.randn(4, 5, dtype=torch.float64)
    e = x @ true.T + 0.01 * torch.randn(400, 4, dtype=torch.float64) + 2
    moments = _Moments()
    moments.add(x[None], e[None])
    full = _solved(moments, 0, 4)
    torch.testing.assert_close(full.up @ full.down, true, atol=0.01, rtol=0)
    torch.testing.assert_close(full.offset, torch.full((4,), 2.0).double(), atol=0.02, rtol=0)
    two = _solved(moments, 0, 2)
    x, e = x[:320], e[:320]  # of which it is fitted
    x, e = x - x.mean(0), e - e.mean(0)
    left = (torch.linalg.svdvals(e)[2:] ** 2).sum()  # of any matrix of rank 2 (Eckart-Young)
    found = (e - x @ (two.up @ two.down).T).square().sum()
    assert left < found < 1.01 * left


def test_inputs_that_are_alike_or_never_change() -> None:
    """The least penalty is below the rounding of float32, with which nothing can be solved."""
    torch.manual_seed(0)
    x = torch.zeros(1, 500, 2000)
    x[..., :200] = torch.randn(1, 500, 4) @ torch.randn(4, 200)
    e = x[..., :200] @ torch.randn(200, 3)
    moments = _Moments()
    for part, error in zip(x.split(100, 1), e.split(100, 1), strict=True):
        moments.add(part, error)
    assert _regression(moments.fitted, 0, 3, PENALTIES[0]) is None
    one = _solved(moments, 0, 3)
    found = x[0].double() @ (one.up @ one.down).T + one.offset
    assert (found - e[0]).std() < 0.01 * e.std()


def test_no_correction_where_none_helps() -> None:
    """Errors that have nothing to do with the inputs, and few vectors."""
    torch.manual_seed(0)
    moments = _Moments()
    moments.add(torch.randn(1, 40, 30), torch.randn(1, 40, 8))  # unrelated
    one = _solved(moments, 0, 8)
    assert not one.up.any() and not one.down.any()


def test_masked_tokens_do_not_count() -> None:
    model, examples, others = deployed("tokens")
    nct.correct(model, examples, 12)
    counted = error(model, others)
    nct.correct(model, [(b["x"], b["attention_mask"]) for b in examples], 12)
    assert counted < 0.8 * error(model, others)


def test_a_correction_goes_with_its_chip() -> None:
    model, examples, others = deployed("linear")
    nct.correct(model, examples, 2)
    assert model[0].adapter.of_chip
    nct.at(model, 3600.0)
    assert model[0].adapter is not None
    with pytest.raises(ValueError, match=r"prepare: expected what corrects each chip"):
        nct.evaluate(model, [(x,) for x in others], 2, metric="mse", against="clean")
    nct.program(model, 3)
    assert model[0].adapter is None
    model[0].set_adapter(nct.LowRankAdapter(model[0], 2, of_chip=False))
    nct.program(model, 4)
    assert model[0].adapter is not None


def test_every_chip_is_prepared_at_every_time() -> None:
    model, examples, others = deployed("linear")
    nct.correct(model, examples, 1)
    mine = model[0].adapter
    data, calls = [(x,) for x in others], []

    def prepare(m: Any) -> None:
        calls.append((m[0].chip_seed.item(), m[0].chip_seconds.item()))
        nct.correct(m, examples, 12)

    how: dict[str, Any] = {"metric": "mse", "against": "clean", "times": [1.0, 3600.0]}
    curve = nct.evaluate(model, data, 2, prepare=prepare, **how)
    assert len(set(calls)) == 4 and model[0].adapter is mine
    again = nct.evaluate(model, data, 2, prepare=prepare, **(how | {"times": [3600.0]}))
    assert again[0].scores == curve[1].scores
    raw = nct.evaluate(nct.program(model, 0), data, 2, **how)
    assert all(a < 0.5 * b for a, b in zip(curve.means, raw.means, strict=True))
    with pytest.raises(TypeError, match="prepare: expected a callable"):
        nct.evaluate(model, data, 2, prepare="correct", **how)


@pytest.mark.parametrize("kind", ["linear", "grouped", "lstm"])
def test_files_have_the_adapter(kind: str, tmp_path: Path) -> None:
    model, examples, others = deployed(kind)
    nct.correct(model, examples, 2)
    nct.save_chip(model, tmp_path / "chip.safetensors")
    again = nct.load_chip(tmp_path / "chip.safetensors", case(kind)[0]).eval()
    assert error(again, others) == error(model, others)
    assert all(layer.adapter.of_chip for layer in layers_of(again).values())
    nct.program(model, 2)  # a state without
    again.load_state_dict(model.state_dict())
    assert all(layer.adapter is None for layer in layers_of(again).values())


def states(model: Any, part: str) -> dict[str, Any]:
    return {name: tensor for name, tensor in model.state_dict().items() if part in name}


def test_a_correction_is_loaded_with_its_chip_alone() -> None:
    """What corrects one chip makes another one worse."""
    model, examples, _ = deployed("linear")
    nct.correct(model, examples, 2)
    other = nct.correct(nct.program(copy.deepcopy(model), 3), examples, 2)
    kept = copy.deepcopy(other.state_dict())
    with pytest.raises(RuntimeError, match=r"0\.adapter\.chip: expected it with the chip that it"):
        other.load_state_dict(states(model, "adapter"), strict=False)
    with pytest.raises(RuntimeError, match="rram_wan2022"):  # with a chip that is refused
        foreign = nct.deploy(case("linear")[0], "rram_wan2022", examples, quiet=True)
        other.load_state_dict(nct.correct(foreign, examples, 2).state_dict())
    exactly = {"atol": 0, "rtol": 0, "equal_nan": True}
    torch.testing.assert_close(dict(other.state_dict()), dict(kept), **exactly)
    for adapter in (model[0].adapter, other[0].adapter):
        adapter.chip.zero_()  # of any chip
    other.load_state_dict(states(model, "adapter"), strict=False)
    assert torch.equal(other[0].adapter.up, model[0].adapter.up)


def test_ranges_leave_a_correction_alone() -> None:
    model, examples, _ = deployed("linear")
    nct.correct(model, examples, 2)
    kept = model[0].adapter
    part = states(model, "ranges") | states(model, "identity")
    part = {name: tensor for name, tensor in part.items() if "chip" not in name}
    model.load_state_dict(part | states(model, "smoothing") | states(model, "limits"), strict=False)
    assert model[0].adapter is kept


def test_digital_numbers_are_counted() -> None:
    model, examples, _ = deployed("linear")
    nct.correct(model, examples, 2)
    rows = {row["name"]: row for row in nct.estimate(model)}
    assert rows["0.adapter"]["weights"] == 2 * (24 + 12) and rows["0.adapter"]["tiles"] == 0
    assert rows["0"]["share"] == 288 / 360
    assert "LowRankAdapter" in nct.summary(model)
    assert list(nct.restore(model).state_dict()) == ["0.weight", "0.bias"]


def test_smoothing_takes_adapters_away() -> None:
    model, examples, _ = case("linear")
    nct.convert(model, "pcm_hermes")
    model[0].set_adapter(nct.LowRankAdapter(model[0], 2, of_chip=False))
    assert nct.smooth(model, examples)[0].adapter is None


@pytest.mark.parametrize(
    ("rank", "data", "error_type", "message"),
    [
        (-1, None, ValueError, "rank: expected"),
        (2, [], ValueError, "batches: expected data that reaches '0'"),
        (2, [torch.full((20, 24), float("nan"))], ValueError, "NaN"),
        (2, [torch.full((20, 24), 1e30)], ValueError, "inputs of '0' whose squares float32 holds"),
    ],
)
def test_refused(rank: int, data: Any, error_type: Any, message: str) -> None:
    model, examples, _ = deployed("linear")
    nct.correct(model, examples, 1)
    before = model[0].adapter
    with pytest.raises(error_type, match=message):
        nct.correct(model, examples if data is None else data, rank)
    assert model[0].adapter is before
    fresh = nct.convert(copy.deepcopy(case("linear")[0]), "pcm_hermes")
    with pytest.raises(RuntimeError, match="programmed chip"):
        nct.correct(fresh, examples)
