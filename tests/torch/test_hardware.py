"""Training on noisy crossbars for what the clean model gives, in our loop and in others."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import noisycells as nc  # noqa: E402
import noisycells.torch as nct  # noqa: E402
from noisycells.torch.measure.evaluate import without_noise  # noqa: E402

nn = torch.nn
CALIBRATED = nc.CrossbarSpec(
    mapping="column", dac_range="calibrated", adc_range="calibrated", dac_bits=5
)


class Encoder(nn.Module):
    """Tokens in, an object with a sequence of embeddings out, as models of transformers give."""

    def __init__(self, logits: bool = False) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
        self.embedding, self.layers = (
            nn.Embedding(20, 16),
            nn.TransformerEncoder(layer, 1, enable_nested_tensor=False),
        )
        self.head = nn.Linear(16, 5) if logits else None

    def forward(self, input_ids: Any, attention_mask: Any) -> Any:
        y = self.layers(self.embedding(input_ids), src_key_padding_mask=attention_mask == 0)
        if self.head is None:
            return SimpleNamespace(last_hidden_state=y)
        return SimpleNamespace(logits=self.head(y))


def tokens(count: int) -> list[dict[str, Any]]:
    torch.manual_seed(1)
    mask = (torch.arange(6)[None] < torch.tensor([[6], [4], [5], [3]])).long()
    return [{"input_ids": torch.randint(20, (4, 6)), "attention_mask": mask} for _ in range(count)]


def case(kind: str) -> tuple[Any, Any]:
    torch.manual_seed(0)
    if kind == "images":
        model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 4))
        return model.eval(), list(torch.randn(80, 3, 6, 6).split(8))
    return Encoder(kind == "logits").eval(), tokens(10)


def error(model: Any, batches: Any) -> float:
    """The loss on one chip, or on 8 fresh ones where there is none."""
    total = 0.0
    with without_noise(model):
        want = [nct_output(model, b) for b in batches]
    torch.manual_seed(9)
    with torch.no_grad():
        for _ in range(8):
            for batch, target in zip(batches, want, strict=True):
                mask = batch["attention_mask"] if isinstance(batch, dict) else None
                total += nct.imitation_loss(nct_output(model, batch), target, mask).item()
    return total


def nct_output(model: Any, batch: Any) -> Any:
    return model(**batch) if isinstance(batch, dict) else model(batch)


@pytest.mark.parametrize("kind", ["images", "sequences", "logits"])
def test_adapters_learn_one_chip(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    model, data = case(kind)
    nct.deploy(model, "pcm_hermes", data, quiet=True)
    weights = {name: p.clone() for name, p in model.named_parameters()}
    before = error(model, data)
    losses = nct.adapt(model, data, rank=4, epochs=8)
    assert len(losses) == 80 and error(model, data) < 0.75 * before
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10 and lines[-1].startswith("step 80 of 80, loss ")
    for name, parameter in model.named_parameters():
        if name in weights:
            assert torch.equal(parameter, weights[name]) and parameter.requires_grad
    layers = [m for m in model.modules() if isinstance(m, nct.CrossbarLayer)]
    assert all(layer.adapter.of_chip and not layer.keep_chip for layer in layers)
    assert not any(module.training for module in model.modules())


def test_the_learning_rate_rises_and_falls_to_0() -> None:
    model, data = case("images")
    nct.convert(model, "ideal", nc.CrossbarSpec(mapping="column"))
    rates: list[float] = []

    class Recording(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            rates.append(self.param_groups[0]["lr"])
            return super().step(closure)

    def optimizer(parameters: Any) -> Any:
        return Recording(parameters, 1e-3)

    assert len(nct.adapt(model, data, quiet=True)) == 10  # one pass
    nct.adapt(model, data, epochs=4, quiet=True, optimizer=optimizer)
    want = [0.5, *((40 - step) / 40 for step in range(1, 40))]
    assert rates == pytest.approx([1e-3 * share for share in want])


def test_adapters_go_on_after_a_correction() -> None:
    model, data = case("images")
    nct.deploy(model, "pcm_hermes", data, quiet=True)
    nct.correct(model, data, 4)
    adapter, before = model[0].adapter, error(model, data)
    nct.adapt(model, data, rank=4, epochs=4, quiet=True)
    assert model[0].adapter is adapter and error(model, data) < before


def test_what_was_found_learns_ten_times_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights and corrections at 1e-4, adapters that are new at 1e-3."""
    model, data = case("images")
    nct.deploy(model, "pcm_hermes", data, quiet=True)
    rates: list[float] = []
    plain = torch.optim.AdamW

    def recorded(parameters: Any, lr: float, **options: Any) -> Any:
        rates.append(lr)
        return plain(parameters, lr, **options)

    monkeypatch.setattr(torch.optim, "AdamW", recorded)
    nct.adapt(model, data, rank=4, quiet=True)
    nct.adapt(model, data, rank=4, quiet=True)
    nct.deploy(nct.restore(model), "pcm_hermes", data, quiet=True)
    nct.correct(model, data, 4)
    nct.adapt(model, data, rank=4, quiet=True)
    nct.adapt(nct.convert(nct.restore(model), "pcm_hermes"), data, quiet=True)
    assert rates == [1e-3, 1e-4, 1e-4, 1e-4]


def test_weights_learn_for_any_chip() -> None:
    model, data = case("images")
    clean = copy.deepcopy(model)
    spec = nc.CrossbarSpec(mapping="column", dac_bits=3, adc_range="calibrated")
    nct.deploy(model, "rram_wan2022", data, spec=spec, seed=4, seconds=1.0, quiet=True)
    plain = copy.deepcopy(model)
    nct.adapt(model, data, epochs=12, quiet=True, optimizer=lambda p: torch.optim.Adam(p, 2e-3))
    layer = model[0]
    assert not layer.stale and layer.chip_seed.item() == 4 and layer.chip_seconds.item() == 1.0
    assert not torch.equal(layer.weight, clean[0].weight)

    def apart(m: Any) -> float:
        with torch.no_grad():
            data_of = [(x, clean(x)) for x in data]
        return nct.evaluate(m, data_of, 20, metric="mse").mean

    assert apart(model) < 0.9 * apart(plain)


def test_the_teacher_may_be_another() -> None:
    model, data = case("images")
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(108, 4)).train()
    nct.convert(model, "ideal", nc.CrossbarSpec(mapping="column"))
    losses = nct.adapt(
        model, data, teacher, epochs=30, quiet=True, optimizer=lambda p: torch.optim.Adam(p, 3e-3)
    )
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10]) and teacher.training


def test_a_training_that_is_interrupted_leaves_a_chip_of_its_weights() -> None:
    model, data = case("images")
    nct.deploy(model, "pcm_hermes", data, seed=4, quiet=True)
    before = model[0].weight.clone()
    with pytest.raises(KeyboardInterrupt), nct.hardware_aware(model) as parameters:
        with torch.no_grad():
            parameters[0].add_(0.1)
        raise KeyboardInterrupt
    assert not torch.equal(model[0].weight, before) and not model[0].stale
    assert model[0].chip_seed.item() == 4


def test_full_scales_are_learnt() -> None:
    """One too wide for a DAC of 5 bits becomes narrower, by the gradient of the rounding error."""
    model, data = case("images")
    nct.calibrate(nct.convert(model, "ideal", CALIBRATED), data).train()
    model[3].ranges[:, 0] *= 4
    wide, before = model[3].ranges[0, 0].item(), error(model, data)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    with pytest.raises(ValueError, match="parameters that take gradients"):
        nct.adapt(model, data, quiet=True)
    model[3].bias.requires_grad_()
    nct.adapt(model, data, epochs=20, quiet=True, optimizer=lambda p: torch.optim.Adam(p, 2e-2))
    assert model[3].ranges[0, 0] < 0.6 * wide and model[3].input_log_scale is None
    assert error(model, data) < 0.5 * before


def test_a_factor_of_one_changes_nothing() -> None:
    model, data = case("images")
    nct.calibrate(nct.convert(model, "pcm_hermes", CALIBRATED), data).train()
    key = torch.tensor([1, 2])
    x = data[0]
    before = model[0](x, key)
    with nct.hardware_aware(model) as parameters:
        scale = model[0].input_log_scale
        assert any(p is scale for p in parameters)
        torch.testing.assert_close(model[0](x, key), before, atol=1e-6, rtol=0)
        with torch.no_grad():
            scale.fill_(0.25)
        widened = model[0](x, key)
    torch.testing.assert_close(model[0](x, key), widened, atol=1e-5, rtol=0)
    assert not torch.allclose(before, widened)


def test_in_a_loop_of_ones_own() -> None:
    """train(), accumulated gradients and bfloat16; the chip computes all the same."""
    model, data = case("sequences")
    nct.deploy(model, "pcm_hermes", data, quiet=True)
    model.layers.layers[0].dropout.p = 0.0
    with without_noise(model):
        targets = [nct_output(model, batch) for batch in data]
    before = error(model, data)
    with nct.hardware_aware(model, rank=4) as parameters:
        optimizer = torch.optim.AdamW(parameters, 2e-3)
        model.train()
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        for _ in range(8):
            for i, (batch, target) in enumerate(zip(data, targets, strict=True)):
                with torch.autocast("cpu", torch.bfloat16):
                    output = model(**batch)
                nct.imitation_loss(output, target, batch["attention_mask"]).backward()
                if i % 2:
                    optimizer.step()
                    optimizer.zero_grad()
        assert all(p.grad is None for p in model.embedding.parameters())
    model.eval()
    assert error(model, data) < 0.8 * before


def test_trainer_of_transformers(tmp_path: Any) -> None:
    pytest.importorskip("accelerate")
    transformers = pytest.importorskip("transformers")
    model, data = case("logits")
    nct.deploy(model, "pcm_hermes", data, quiet=True)
    rows = [
        {"input_ids": ids, "attention_mask": mask}
        for batch in data
        for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)
    ]
    teacher = copy.deepcopy(model)

    class Student(transformers.Trainer):  # type: ignore[misc, name-defined]
        def compute_loss(self, model: Any, inputs: Any, **_: Any) -> Any:
            with without_noise(teacher):
                target = teacher(**inputs)
            return nct.imitation_loss(model(**inputs), target, inputs["attention_mask"])

    arguments = transformers.TrainingArguments(
        str(tmp_path), num_train_epochs=4, learning_rate=2e-3, report_to=[], save_strategy="no",
        per_device_train_batch_size=4, use_cpu=True, disable_tqdm=True, logging_strategy="no",
    )  # fmt: skip
    before = error(model, data)
    with nct.hardware_aware(model, rank=4):
        Student(model=model, args=arguments, train_dataset=rows).train()
    assert error(model.eval(), data) < 0.8 * before


def test_losses() -> None:
    torch.manual_seed(0)
    a, b = torch.randn(2, 3, 5), torch.randn(2, 3, 5)
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    want = (a - b)[mask == 1].square().sum() / b[mask == 1].square().sum()
    torch.testing.assert_close(nct.imitation_loss(a, b, mask), want)
    hidden = SimpleNamespace(last_hidden_state=a)
    torch.testing.assert_close(nct.imitation_loss(hidden, b, mask), want)
    p, q = (b[0, :1] / 2).softmax(-1), (a[0, :1] / 2).softmax(-1)
    want = 4 * (p * (p / q).log()).sum()
    logits = {"logits": a[:1, :1]}
    torch.testing.assert_close(nct.imitation_loss(logits, b[:1, :1], temperature=2.0), want)
    assert nct.imitation_loss(a, a) == 0 and nct.imitation_loss(a, a, outputs="classes") < 1e-6
    pooled = nct.imitation_loss(a[:, 0], b[:, 0], mask)  # the mask is not of these
    torch.testing.assert_close(pooled, nct.imitation_loss(a[:, 0], b[:, 0]))
    for large in (1e-30, 1e30):  # whose squares float32 does not hold
        found = nct.imitation_loss(large * a, large * b, mask)
        torch.testing.assert_close(found, nct.imitation_loss(a, b, mask))
    b.requires_grad_()
    assert not nct.imitation_loss(a, b).requires_grad
    for change, message in [
        ({"outputs": "logits"}, "outputs: "),
        ({"temperature": 0}, "temperature: "),
        ({"temperature": 1e-320}, r"temperature: expected a number in \[1e-06, 1e\+06\]"),
        ({"temperature": 1e300, "outputs": "classes"}, "temperature: "),
        ({"target": b[:1]}, "target: expected the shape"),
        ({"target": 0 * b}, "target: expected values other than 0"),
        ({"target": b, "mask": 0 * mask}, "target: expected something that counts"),
        ({"target": b, "mask": 0 * mask, "outputs": "classes"}, "something that counts"),
    ]:
        with pytest.raises(ValueError, match=message):
            nct.imitation_loss(a, **({"target": b} | change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rank": 0}, "rank: "),
        ({"epochs": 0}, "epochs: "),
        ({"batches": []}, "batches: expected at least one"),
        ({"teacher": "clean"}, "teacher: expected"),
        ({"outputs": "tokens"}, "outputs: "),
        ({"temperature": 1e-320}, "temperature: "),  # where it is not needed, too
    ],
)
def test_refused(change: dict[str, Any], message: str) -> None:
    model, data = case("images")
    nct.convert(model, "ideal")
    before = model.state_dict().keys()
    with pytest.raises((TypeError, ValueError), match=message):
        nct.adapt(model, **({"batches": data, "quiet": True} | change))
    assert model.state_dict().keys() == before
    assert all(p.requires_grad for p in model.parameters())
    with pytest.raises(ValueError, match="crossbar layers"):
        nct.adapt(nct.restore(model), data)
