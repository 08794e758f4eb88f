"""Layers inside attention, recurrent layers and transformers on crossbars."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from conversion_cases import convert_ideally, images, network  # noqa: E402

import noisycells as nc  # noqa: E402
import noisycells.torch as nct  # noqa: E402
from noisycells.torch.crossbar import parts  # noqa: E402

nn = torch.nn
PCM = nc.devices.pcm_joshi2020()
IDEAL = nc.CrossbarSpec(rows=20, dac_bits=None, adc_bits=None)
EXACT_READS = nc.CrossbarSpec(read_noise="none")
# torch says so where an encoder meets a padding mask
nested = pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")


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
