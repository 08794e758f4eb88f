"""Whole models on crossbars: conversion in place and back, life cycle, reports, folding."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import noisycells as nc  # noqa: E402
import noisycells.torch as nct  # noqa: E402
from noisycells.torch.crossbar import parts  # noqa: E402

nn = torch.nn
PCM = nc.devices.pcm_joshi2020()
CALIBRATED = nc.CrossbarSpec(dac_range="calibrated", adc_range="calibrated")
IDEAL = nc.CrossbarSpec(rows=20, dac_bits=None, adc_bits=None)
EXACT_READS = nc.CrossbarSpec(read_noise="none")

# torch says so where an encoder meets a padding mask
nested = pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")


def network() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Flatten(), nn.Linear(8 * 25, 10),
    )  # fmt: skip


def images(n: int = 4) -> Any:
    return torch.randn(n, 3, 5, 5, generator=torch.Generator().manual_seed(1))


def convert_ideally(model: Any) -> Any:
    return nct.convert(model, nc.devices.ideal(), IDEAL)


# --------------------------------------------------------------------------- there and back


def test_there_and_back() -> None:
    model = network()
    reference, x = copy.deepcopy(model), images()
    parameters, children = list(model.parameters()), list(model)
    calls = []
    model[4].register_forward_hook(lambda *a: calls.append(1))
    assert nct.convert(model, nc.devices.ideal(), IDEAL) is model
    assert [type(m).__name__ for m in model][::4] == ["CrossbarConv2d", "CrossbarLinear"]
    assert isinstance(model[4], nn.Linear)
    assert model[0].name == "0" and model[0].analog == nc.devices.ideal()
    torch.testing.assert_close(model(x), reference(x), rtol=1e-4, atol=1e-4)
    nct.program(model, 1)
    assert nct.restore(model) is model
    assert list(model) == children and all(
        a is b for a, b in zip(model.parameters(), parameters, strict=True)
    )
    assert repr(model) == repr(reference)
    assert model.state_dict().keys() == reference.state_dict().keys()
    assert vars(model[4]).keys() == vars(reference[4]).keys()
    model.load_state_dict(reference.state_dict())
    assert torch.equal(model(x), reference(x)) and len(calls) == 2


def test_a_model_that_is_one_layer() -> None:
    layer = nn.Linear(5, 3)
    nct.program(nct.convert(layer, PCM), 1)
    assert isinstance(layer, nct.CrossbarLinear)
    assert layer.name == nc.random.unnamed(layer.weight.detach().numpy())
    assert layer.eval()(torch.ones(5)).shape == (3,)


def test_filter_and_specs() -> None:
    a, b = nc.CrossbarSpec(rows=64), nc.CrossbarSpec(rows=32)
    model = nct.convert(network(), PCM, a, lambda layer, name: name != "4")
    assert type(model[4]) is nn.Linear and model[0].spec == a
    model = nct.convert(network(), PCM, {"4": a})
    assert (model[0].spec, model[4].spec) == (nc.CrossbarSpec(), a)
    model = nct.convert(network(), PCM, {"[0-3]": b, "*": a})
    assert (model[0].spec, model[4].spec) == (b, a)
    model = nct.convert(
        network(), PCM, lambda layer, name: a if isinstance(layer, nn.Conv2d) else b
    )
    assert (model[0].spec, model[4].spec) == (a, b)


def test_shared_layers_and_tied_weights() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(7, 5)
            self.head = nn.Linear(5, 7, bias=False)
            self.head.weight = self.embedding.weight
            self.again = self.head

        def forward(self, ids: Any) -> Any:
            return self.again(self.embedding(ids))

    model = Tied()
    convert_ideally(model)
    assert model.again is model.head and model.head.weight is model.embedding.weight
    model(torch.arange(7)).sum().backward()
    assert len(nct.estimate(model)) == 1


def test_refused_models_are_left_as_they_were() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    nct.magnitude_prune(model)
    with pytest.raises(ValueError, match="model: expected '0' to have an ordinary weight"):
        nct.convert(model, PCM)
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    for bad, error in (({"1": 3}, TypeError), (lambda *_: "x", TypeError)):
        with pytest.raises(error, match="spec: "):
            nct.convert(model, PCM, bad)
        assert all(type(layer) is nn.Linear for layer in model)
    with pytest.raises(TypeError, match="device: "):
        nct.convert(model, nc.devices.pcm_array())
    with pytest.raises(ValueError, match="zero_weights: "):
        nct.convert(model, nc.devices.ideal(), nc.CrossbarSpec(zero_weights="reset"))
    with pytest.raises(ValueError, match="at least one layer to convert"):
        nct.convert(nn.ReLU(), PCM)
    with pytest.raises(ValueError, match="expected crossbar layers, got none"):
        nct.program(model, 1)
    assert all(type(layer) is nn.Linear for layer in model)


def test_what_has_no_crossbar_layer_is_named() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.GRUCell(3, 3), nn.ConvTranspose1d(3, 3, 1))
    with pytest.warns(
        UserWarning, match=r"1 \(GRUCell\), 2 \(ConvTranspose1d\); they stay digital"
    ):
        nct.convert(model, PCM)
    rows = {row["name"]: row for row in nct.estimate(model)}
    assert rows["1"]["tiles"] == 0 and rows["0"]["tiles"] == 1


# --------------------------------------------------------------------------- attention, recurrence

RECURRENT: list[tuple[Any, dict[str, Any]]] = [
    (kind, keywords)
    for kind in (nn.LSTM, nn.GRU, nn.RNN)
    for keywords in (
        {}, {"num_layers": 2, "bidirectional": True, "batch_first": True}, {"bias": False},
    )
]  # fmt: skip
RECURRENT += [(nn.RNN, {"nonlinearity": "relu"})]


@pytest.mark.parametrize(("kind", "keywords"), RECURRENT)
def test_recurrent_layers(kind: Any, keywords: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = kind(5, 7, **keywords)
    reference = copy.deepcopy(model)
    parameters = list(model.parameters())
    convert_ideally(model)
    assert {id(p) for p in model.parameters()} == {id(p) for p in parameters}
    for x in (torch.randn(4, 3, 5), torch.randn(4, 5)):
        (y, state), (z, final) = model(x), reference(x)
        torch.testing.assert_close(y, z, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(state, final, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(model(x, final)[0], reference(x, final)[0], rtol=1e-5, atol=1e-5)
    model(x)[0].sum().backward()
    packed = nn.utils.rnn.pack_sequence([torch.randn(4, 5)])
    with pytest.raises(TypeError, match="input: expected a Tensor, got PackedSequence"):
        model(packed)
    nct.restore(model)
    assert type(model) is kind
    assert list(model.state_dict()) == list(reference.state_dict())
    assert torch.equal(model(x)[0], reference(x)[0])


def test_projections_of_lstm() -> None:
    """By its linear parts alone: the fused layer of torch warns about itself."""
    model = nn.LSTM(5, 7, proj_size=3)
    parts.take_apart(model)
    y, (h, c) = model(torch.randn(4, 2, 5))
    assert (y.shape, h.shape, c.shape) == ((4, 2, 3), (1, 2, 3), (1, 2, 7))
    assert torch.equal(y[-1], h[0])
    (w,) = (p for n, p in model.named_parameters() if n == "projection_l0.weight")
    assert w.shape == (3, 7)


def test_recurrence_keeps_its_chip_over_the_steps() -> None:
    """In train(): with the same input and a state that does not change, so do the outputs."""
    model = nn.RNN(5, 7, bias=False)
    nn.init.zeros_(model.weight_ih_l0)
    nct.convert(model, PCM, nc.CrossbarSpec(adc_bits=None, read_noise="none"))
    hidden = torch.randn(1, 1, 7)
    seen = []
    model.hidden_l0.register_forward_hook(lambda m, args, y: seen.append((args[0], y)))
    model(torch.zeros(3, 1, 5), hidden)
    layer = model.hidden_l0
    first = torch.linalg.lstsq(torch.cat([x for x, _ in seen]), torch.cat([y for _, y in seen]))
    assert first.residuals.numel() == 0 and len(seen) == 3
    key = torch.tensor([1, 2])
    assert torch.equal(layer(hidden[0], key), layer(hidden[0], torch.tensor([1, 3])))


@pytest.mark.parametrize("keywords", [
    {}, {"batch_first": True}, {"bias": False}, {"kdim": 6, "vdim": 4, "batch_first": True},
])  # fmt: skip
def test_attention(keywords: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = nn.MultiheadAttention(8, 2, **keywords)
    reference = copy.deepcopy(model)
    convert_ideally(model)
    q = torch.randn(3, 5, 8)
    k, v = (torch.randn(3, 5, keywords.get(name, 8)) for name in ("kdim", "vdim"))
    batch, length = (3, 5) if keywords.get("batch_first") else (5, 3)
    padding = torch.zeros(batch, length, dtype=torch.bool)
    padding[1, 2] = True
    inputs = [(q, k, v)] if "kdim" in keywords else [(q, k, v), (q, q, q), (q, k, k)]
    for options in (
        {}, {"need_weights": False}, {"key_padding_mask": padding},
        {"attn_mask": torch.randn(length, length), "average_attn_weights": False},
        {"attn_mask": torch.randn(2 * batch, length, length), "need_weights": False},
        {"attn_mask": torch.ones(length, length).triu(1) > 0, "is_causal": True,
         "need_weights": False},
    ):  # fmt: skip
        for x in inputs:
            (y, a), (z, b) = model(*x, **options), reference(*x, **options)
            torch.testing.assert_close(y, z, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    y, a = model(q[0], k[0], v[0])
    z, b = reference(q[0], k[0], v[0])
    torch.testing.assert_close(y, z, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    nct.restore(model)
    assert type(model) is nn.MultiheadAttention
    assert list(model.state_dict()) == list(reference.state_dict())
    assert torch.equal(model(q, k, v)[0], reference(q, k, v)[0])


def test_attention_that_is_refused() -> None:
    with pytest.raises(ValueError, match="add_bias_kv=False"):
        nct.convert(nn.MultiheadAttention(8, 2, add_bias_kv=True), PCM)
    model = convert_ideally(nn.MultiheadAttention(8, 2))
    with pytest.raises(ValueError, match="attn_mask: expected a mask"):
        model(*[torch.randn(3, 1, 8)] * 3, is_causal=True)


@nested
@pytest.mark.parametrize("only", ["", "linear"])
def test_transformer_leaves_the_fused_path(only: str) -> None:
    """In eval() torch's encoder takes weights past the modules; noise must still come through."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, dropout=0.0)
    model = nn.TransformerEncoder(layer, 2).eval()
    reference = copy.deepcopy(model)
    x = torch.randn(2, 5, 16)
    padding = torch.zeros(2, 5, dtype=torch.bool)
    padding[0, 3:] = True
    nct.convert(model, nc.devices.ideal(), IDEAL, lambda _, name: only in name)
    nct.program(model, 1)
    with torch.no_grad():
        for mask in (None, padding):
            y, z = (m(x, src_key_padding_mask=mask) for m in (model, reference))
            rows = slice(None) if mask is None else ~mask
            torch.testing.assert_close(y[rows], z[rows], rtol=1e-4, atol=1e-5)
        nct.restore(model)
        assert torch.equal(model(x), reference(x))
        nct.convert(model, PCM, None, lambda _, name: only in name)
        nct.program(model, 1)
        assert not torch.allclose(model(x), reference(x), rtol=1e-3, atol=1e-3)


# --------------------------------------------------------------------------- life cycle


def test_program_and_at() -> None:
    model, x = nct.convert(network(), PCM, EXACT_READS).eval(), images()
    assert nct.program(model, 3) is model
    first = model(x)
    nct.program(model, 4)
    assert not torch.equal(model(x), first)
    nct.program(model, 3)
    assert torch.equal(model(x), first)
    nct.at(model, 1000.0)
    aged = model(x)
    assert not torch.equal(aged, first)
    nct.at(model, 10)
    nct.at(model, 1000)
    assert torch.equal(model(x), aged)
    with pytest.raises(ValueError, match="seconds: "):
        nct.at(model, 1e9)
    assert torch.equal(model(x), aged)
    nct.at(model, 1e9, extrapolate=True)


def test_program_names_layers() -> None:
    model = nn.Sequential(*(nct.CrossbarLinear(4, 4, device=PCM) for _ in range(2)))
    model[1].load_state_dict(model[0].state_dict())
    nct.program(model, 1)
    assert [layer.name for layer in model] == ["0", "1"]
    a, b = (layer.chip_conductances for layer in model)
    assert not torch.equal(a, b)


def test_calibrate() -> None:
    model = nct.convert(network(), PCM, CALIBRATED)
    batches = [images(8)[:4], {"input": images(8)[4:]}, (images(8)[:2],)]
    assert nct.calibrate(model, batches, vectors=10**6) is model
    assert model.training and all(layer.training for layer in model)
    assert model[0].ranges[0, 0] == images(8).abs().max()
    assert (model[0].ranges > 0).all() and (model[4].ranges > 0).all()
    assert "forward" not in vars(model[0])
    model(images()).sum().backward()
    nct.program(model, 1)
    model.eval()
    reference = nct.restore(copy.deepcopy(model))
    y, z = model(images()), reference(images())
    assert 0 < (y - z).std() < 0.2 * z.std()
    few = nct.calibrate(nct.convert(network(), PCM, CALIBRATED), batches, vectors=3)
    assert few[0].ranges[0, 0] < model[0].ranges[0, 0]


def test_calibrate_groups() -> None:
    model = nct.convert(nn.Conv1d(4, 4, 3, groups=2), PCM, CALIBRATED)
    x = torch.randn(2, 4, 9)
    x[:, 2:] *= 10
    nct.calibrate(model, [x])
    want = torch.stack([x[:, :2].abs().max(), x[:, 2:].abs().max()])
    torch.testing.assert_close(model.ranges[:, 0], want)
    nct.program(model, 1)
    nct.calibrate(model, [x])
    model.eval()
    reference = nct.restore(copy.deepcopy(model))
    error, size = model(x) - reference(x), reference(x)
    for group in (slice(0, 2), slice(2, 4)):
        assert error[:, group].std() < 0.2 * size[:, group].std()


def test_calibrate_refuses() -> None:
    model = nct.convert(network(), PCM, CALIBRATED)
    for batches, keywords, message in (
        ([], {}, "batches: expected data that reaches '0'"),
        ([images()], {"quantile": 0.0}, "quantile: "),
        ([images()], {"vectors": 0}, "vectors: "),
    ):
        with pytest.raises(ValueError, match=message):
            nct.calibrate(model, batches, **keywords)
    assert "forward" not in vars(model[0]) and model[0].ranges is None


def test_resume() -> None:
    model, x = nct.convert(network(), PCM, CALIBRATED), images()
    nct.calibrate(model, [x])
    nct.at(nct.program(model, 3), 60)
    other = nct.convert(network(), PCM, CALIBRATED)
    other.load_state_dict(model.state_dict())
    results = []
    for m in (model, other):
        torch.manual_seed(5)
        results.append([m.eval()(x), m.train()(x)])
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


# --------------------------------------------------------------------------- reports


def test_estimate_is_what_conversion_makes() -> None:
    model, spec = network(), nc.CrossbarSpec(rows=64, cols=4, weight_slice_bits=(4, 4))
    rows = nct.estimate(model, spec)
    assert [(r["name"], r["shape"]) for r in rows] == [("0", (1, 8, 27)), ("4", (1, 10, 200))]
    # 2 slices x (1 x 2 and 4 x 3 tiles); 2 slices x 2 polarities a weight.
    assert [r["tiles"] for r in rows] == [4, 24]
    assert [r["cells"] for r in rows] == [4 * 8 * 27, 4 * 10 * 200]
    assert not any(r["programmed"] for r in rows)
    nct.program(nct.convert(model, PCM, spec), 1)
    for row, layer in zip(nct.estimate(model), (model[0], model[4]), strict=True):
        assert row["programmed"] and row["cells"] == layer.chip_conductances.numel()
    nct.restore(model)
    assert nct.estimate(model, spec) == rows
    left = nct.estimate(model, spec, lambda layer, name: name == "0")
    assert [(r["name"], r["tiles"]) for r in left] == [("0", 4), ("4", 0)]


def test_memory_of_read_variances() -> None:
    """One byte a weight, where the device and the spec have noise in reads."""
    sizes = {}
    for device in (PCM, nc.devices.ideal()):
        for kind in ("none", "weight"):
            model = nct.convert(nn.Linear(30, 8), device, nc.CrossbarSpec(read_noise=kind))
            sizes[device.name, kind] = nct.estimate(model)[0]["bytes"]
    assert sizes.pop((PCM.name, "weight")) == min(sizes.values()) + 8 * 30
    assert len(set(sizes.values())) == 1


def test_summary() -> None:
    model = nct.convert(network(), PCM, EXACT_READS, lambda layer, name: name == "0")
    nct.program(model, 1)
    lines = nct.summary(model).splitlines()
    assert lines[0].split() == "layer kind layers arrays weights tiles cells memory".split()
    assert lines[1].split() == "0 CrossbarConv2d 1 8 x 27 9.7 % 1 432 4.8 kB programmed".split()
    assert lines[2].split()[-1] == "digital"
    assert lines[3].split()[:7] == "total 2 9.7 % analog 1 432".split()
    depthwise = nct.summary(nn.Conv1d(4, 4, 3, groups=4))
    assert "4 of 1 x 3" in depthwise


def test_summary_joins_repeated_blocks() -> None:
    def block(size: int) -> nn.Module:
        return nn.ModuleDict({"up": nn.Linear(8, size), "parts": nn.Sequential(
            nn.Linear(size, size), nn.ReLU(), nn.Linear(size, size))})  # fmt: skip

    model = nn.ModuleDict({
        "blocks": nn.ModuleList([block(16), block(16), block(32), block(16)]),
        "0": nn.Linear(8, 16),
    })  # fmt: skip
    lines = nct.summary(model).splitlines()
    assert [line.split()[:5:2] for line in lines[1:-1]] == [
        ["blocks.0-1,3.up", "3", "x"],
        ["blocks.0-1,3.parts.0,2", "6", "x"],
        ["blocks.2.up", "1", "x"],
        ["blocks.2.parts.0,2", "2", "x"],
        ["0", "1", "x"],
    ]
    rows = nct.estimate(model)
    assert len(rows) == 13 and lines[-1].split()[:2] == ["total", "13"]
    cells = sum(int(line.split()[-3].replace(",", "")) for line in lines[1:-1])
    assert cells == sum(row["cells"] for row in rows)
    nct.convert(model, PCM)
    model["blocks"][1]["up"].program(1)  # told apart from those that are not programmed
    assert "blocks.0,3.up" in nct.summary(model)


# --------------------------------------------------------------------------- folding


def test_fold_batchnorm() -> None:
    model = network()
    with torch.no_grad():
        model[1].weight.copy_(torch.logspace(-1, 1, 8))
        model[1].running_var.copy_(torch.logspace(1, -1, 8))
        model[1].running_mean.normal_()
        model[1].bias.normal_()
    model.eval()
    want = model(images())
    weight = model[0].weight
    (row,) = nct.fold_batchnorm(model, PCM)
    assert (row["layer"], row["batchnorm"]) == ("0", "1")
    assert isinstance(model[1], nn.Identity) and model[0].weight is weight
    torch.testing.assert_close(model(images()), want, rtol=1e-4, atol=1e-4)
    # Channels now differ in size by up to 1000 and share one w_max: the small ones drown.
    channels = [
        nc.Crossbar(weight.detach().flatten(1).numpy(), PCM, name="0")
        .program(0)
        .effective_weights(),
        weight.detach().flatten(1).numpy(),
    ]
    error, size = channels[0] - channels[1], channels[1]
    assert row["noise_after"] == pytest.approx((error**2).mean() ** 0.5 / (size**2).mean() ** 0.5)
    assert row["noise_before"] > 0
    column = nct.fold_batchnorm(network(), PCM, nc.CrossbarSpec(mapping="column"))
    assert column[0]["noise_after"] == pytest.approx(column[0]["noise_before"], rel=1e-3)


def test_fold_only_what_is_used_once() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 4, bias=False), nn.Linear(4, 4)
            self.na, self.nb = nn.BatchNorm1d(4), nn.BatchNorm1d(4)

        def forward(self, x: Any) -> Any:
            y = self.a(x)
            return self.nb(self.b(y.relu())) + y + self.na(y)

    model = Branching().eval()
    x = torch.randn(3, 4)
    want = model(x)
    assert [row["layer"] for row in nct.fold_batchnorm(model, PCM)] == ["b"]
    torch.testing.assert_close(model(x), want)


def test_fold_refuses() -> None:
    class Untraceable(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.n = nn.Linear(4, 4, bias=False), nn.BatchNorm1d(4)

        def forward(self, x: Any) -> Any:
            return self.n(self.a(x)) if x.sum() > 0 else x

    model = Untraceable().eval()
    with pytest.raises(ValueError, match=r"model: expected one that torch\.fx can trace"):
        nct.fold_batchnorm(model, PCM)
    assert len(nct.fold_batchnorm(model, PCM, pairs=[("a", "n")])) == 1
    assert model.a.bias is not None
    with pytest.raises(ValueError, match="pairs: expected 'n' to be a batch normalization"):
        nct.fold_batchnorm(model, PCM, pairs=[("a", "n")])
    converted = nct.convert(network(), PCM)
    with pytest.raises(ValueError, match="pairs: expected '0' to be a digital"):
        nct.fold_batchnorm(converted, PCM, pairs=[("0", "1")])
    assert isinstance(converted[1], nn.BatchNorm2d)


# --------------------------------------------------------------------------- transformers


@pytest.fixture(params=["bert", "gpt2"])
def language_model(request: pytest.FixtureRequest) -> Any:
    transformers = pytest.importorskip("transformers", reason="needs the test extra")
    torch.manual_seed(0)
    if request.param == "bert":
        config = transformers.BertConfig(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
            vocab_size=50, max_position_embeddings=32,
        )  # fmt: skip
        return transformers.BertModel(config).eval()
    config = transformers.GPT2Config(
        n_embd=32, n_layer=2, n_head=2, vocab_size=50, n_positions=32, bos_token_id=0,
        eos_token_id=0,
    )  # fmt: skip
    return transformers.GPT2LMHeadModel(config).eval()


def test_transformers(language_model: Any) -> None:
    model, ids = language_model, torch.randint(0, 50, (2, 7))
    want = model(ids)[0]
    state = list(model.state_dict())
    multiplied = sum(row["cells"] for row in nct.estimate(model))
    names = {row["name"] for row in nct.estimate(model)}
    convert_ideally(model)
    nct.program(model, 1)
    torch.testing.assert_close(model(ids)[0], want, rtol=1e-4, atol=1e-4)
    assert multiplied == sum(row["cells"] for row in nct.estimate(model))
    assert names == {n for n, m in model.named_modules() if isinstance(m, nct.CrossbarLayer)}
    assert not any(type(m) is nn.Linear or type(m).__name__ == "Conv1D" for m in model.modules())
    copied = copy.deepcopy(model)
    model.train()
    model(ids)[0].sum().backward()
    without = [n for n, p in model.named_parameters() if p.ndim == 2 and p.grad is None]
    assert without in ([], ["pooler.dense.weight"])  # which this output does not depend on
    nct.restore(model.eval())
    assert list(model.state_dict()) == state
    assert torch.equal(model(ids)[0], want)
    torch.testing.assert_close(copied(ids)[0], want, rtol=1e-4, atol=1e-4)


def test_transformers_noise(language_model: Any) -> None:
    model, ids = language_model, torch.randint(0, 50, (2, 7))
    want = model(ids)[0]
    nct.at(nct.program(nct.convert(model, PCM), 1), 60)
    error = (model(ids)[0] - want).std() / want.std()
    assert 0.001 < error < 1


def test_converted_models_are_copied_moved_and_pickled() -> None:
    torch.manual_seed(0)
    for model, inputs in (
        (network(), (images(),)),
        (nn.LSTM(5, 7, num_layers=2), (torch.randn(4, 3, 5),)),
        (nn.MultiheadAttention(8, 2), [torch.randn(3, 2, 8)] * 3),
    ):
        nct.at(nct.program(nct.convert(model, PCM, EXACT_READS), 1), 60)
        model.eval()
        want = model(*inputs)
        for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            got = copied(*inputs)
            torch.testing.assert_close(got, want, rtol=0, atol=0)
            nct.restore(copied)
            assert not any(isinstance(m, nct.CrossbarLayer) for m in copied.modules())
        model.to(torch.bfloat16)
        moved = model(*(x.bfloat16() for x in inputs))
        first = [r[0] if isinstance(r, tuple) else r for r in (moved, want)]
        assert first[0].dtype is torch.bfloat16
        torch.testing.assert_close(first[0].float(), first[1], rtol=0.2, atol=0.2)
