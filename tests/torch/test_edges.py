"""What users hit at the edges of torch: gradients, empty batches, states, wrappers, options."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import noisycells as nc  # noqa: E402
import noisycells.torch as nct  # noqa: E402

nn = torch.nn
PCM = nc.devices.pcm_joshi2020()
CALIBRATED = nc.CrossbarSpec(dac_range="calibrated", adc_range="calibrated")
SPECS = [
    nc.CrossbarSpec(),
    nc.CrossbarSpec(mapping="row", dac_range=1.0, read_noise="both"),
    nc.CrossbarSpec(adc_per="polarity", weight_slice_bits=(4, 4)),
]


def converted(model: Any, spec: Any = None, seed: int = 1) -> Any:
    return nct.program(nct.convert(model, PCM, spec), seed)


# --------------------------------------------------------------------------- gradients, shapes


@pytest.mark.parametrize("training", [True, False])
def test_second_order_gradients_are_refused(training: bool) -> None:
    model = converted(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))).train(training)
    x = torch.randn(6, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
    assert gradient.isfinite().all()  # of first order they are there
    with pytest.raises(NotImplementedError, match="expected first-order gradients"):
        gradient.square().sum().backward()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_one_vector_has_the_gradients_of_a_batch_of_one(
    training: bool, bias: bool, dtype: Any
) -> None:
    spec = nc.CrossbarSpec(dac_bits=None, adc_bits=None, read_noise="none")
    model = converted(nn.Linear(3, 4, bias=bias).to(dtype), spec).train(training)
    key = torch.tensor([7])
    found = []
    for x in (torch.tensor([[10.0, 20, 30]], dtype=dtype), torch.tensor([10.0, 20, 30]).to(dtype)):
        x.requires_grad_()
        model.zero_grad()
        y = model(x, key)
        y.sum().backward()
        parameters = [p.grad for p in model.parameters() if p.grad is not None]
        found.append([y.detach().flatten(), x.grad.flatten(), *parameters])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)
    if bias:
        assert torch.equal(model.bias.grad, torch.ones(4, dtype=dtype))


EMPTY = {
    "linear": (lambda: nn.Linear(6, 4), (0, 6)),
    "tokens": (lambda: nn.Linear(6, 4), (2, 0, 6)),
    "conv1d": (lambda: nn.Conv1d(4, 6, 3, groups=2), (0, 4, 9)),
    "conv2d": (lambda: nn.Conv2d(4, 6, 3, padding=1), (0, 4, 9, 9)),
    "conv3d": (lambda: nn.Conv3d(4, 6, 3), (0, 4, 5, 5, 5)),
    "reflected": (lambda: nn.Conv1d(4, 6, 3, padding=2, padding_mode="reflect"), (0, 4, 9)),
    "lstm": (lambda: nn.LSTM(6, 4), (5, 0, 6)),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("case", EMPTY.values(), ids=EMPTY)
def test_empty_batches_are_those_of_torch(case: Any, spec: nc.CrossbarSpec, dtype: Any) -> None:
    make, shape = case

    def shapes(model: Any) -> Any:
        x = torch.zeros(shape, dtype=dtype, requires_grad=True)
        y = model(x)
        y = y[0] if isinstance(y, tuple) else y
        y.sum().backward()
        return y.shape, x.grad.shape

    want = shapes(make().to(dtype))
    model = converted(make().to(dtype), spec)
    for training in (True, False):
        model.train(training).zero_grad()
        assert shapes(model) == want
        assert all(not p.grad.any() for p in model.parameters() if p.grad is not None)


def test_empty_batches_of_an_array() -> None:
    array = nc.Crossbar(np.ones((3, 6), np.float32), PCM).program(1)
    for shape in ((0, 6), (2, 0, 6), (6,)):
        found = array.matmul(np.ones(shape, np.float32), 1)
        assert found.shape == (*shape[:-1], 3) and found.dtype == np.float32
    with pytest.raises(ValueError, match="x: expected at least one input vector"):
        array.report(np.ones((0, 6), np.float32))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(2, 4, 2), (0, 4, 2), (4, 2), (2, 4, 0)])
def test_images_smaller_than_the_kernel(training: bool, shape: tuple[int, ...]) -> None:
    model = converted(nn.Conv1d(4, 6, 3)).train(training)
    with pytest.raises(ValueError, match=r"x: expected \(3,\) or more pixels with padding, got"):
        model(torch.zeros(shape))
    assert converted(nn.Conv1d(4, 6, 3, padding=1))(torch.zeros(2, 4, 2)).shape == (2, 6, 2)


def test_a_recurrence_needs_a_step() -> None:
    with pytest.raises(ValueError, match="input: expected a sequence of at least one step"):
        converted(nn.LSTM(3, 4))(torch.zeros(0, 2, 3))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (torch.zeros(2, 6).double(), TypeError, r"x: expected the dtype of the weight, torch\.fl"),
        (torch.zeros(2, 6).long(), TypeError, r"x: expected a floating-point tensor"),
        (torch.zeros(2, 7), ValueError, r"x: expected shape \(\.\.\., 6\), got \(2, 7\)"),
        (torch.tensor(1.0), ValueError, r"x: expected shape \(\.\.\., 6\), got \(\)"),
        (np.zeros((2, 6), np.float32), TypeError, "x: expected a Tensor"),
    ],
)
def test_inputs_are_checked_alike_in_train_and_eval(
    x: Any, error: type[Exception], message: str, training: bool
) -> None:
    with pytest.raises(error, match=message):
        converted(nn.Linear(6, 4)).train(training)(x)


# --------------------------------------------------------------------------- state


def wide(device: Any = PCM, spec: Any = None) -> Any:
    torch.manual_seed(0)
    return nct.convert(nn.Sequential(nn.Linear(30, 8)), device, spec or nc.CrossbarSpec(rows=16))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda: wide(nc.devices.rram_cmo()), "expected device 'rram_cmo', got 'pcm_joshi2020'"),
        (lambda: wide(nc.devices.pcm_joshi2020(g_max=20.0)), "expected device .*g_max"),
        (lambda: wide(spec=nc.CrossbarSpec(rows=8)), "expected spec with rows 8, got 16"),
        (lambda: wide(spec=nc.CrossbarSpec(rows=16, mapping="row")), "expected spec .*mapping"),
    ],
)
def test_a_chip_of_another_device_is_refused(other: Any, message: str) -> None:
    source, target = nct.program(wide(), 1), nct.program(other(), 2)
    before = copy.deepcopy(target.state_dict())
    for strict in (True, False):
        with pytest.raises(RuntimeError, match=f"0.identity: {message}"):
            target.load_state_dict(source.state_dict(), strict=strict)
    torch.testing.assert_close(
        dict(target.state_dict()), dict(before), rtol=0, atol=0, equal_nan=True
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("0.identity"), "identity: expected the device and spec"),
        (lambda s: s.pop("0.chip_seed"), "chip_seed: expected it with the rest of the chip"),
        (lambda s: s.update({"0.identity": torch.tensor([1, 2])}), "identity: expected a JSON"),
        (lambda s: s.update({"0.chip_seed": torch.zeros(3)}), r"chip_seed: expected shape \(1,\)"),
    ],
)
def test_half_a_chip_is_refused(change: Any, message: str) -> None:
    state = nct.program(wide(), 1).state_dict()
    change(state)
    target = wide()
    with pytest.raises(RuntimeError, match=message):
        target.load_state_dict(state)
    assert target[0].chip_seed is None


def test_a_chip_keeps_its_name() -> None:
    """Aging and reads are keyed by the name, which another model may not have."""
    source = nct.program(wide(), 1)
    torch.manual_seed(0)
    target = nct.convert(nn.Sequential(nn.ModuleDict({"a": nn.Linear(30, 8)})), PCM,
                         nc.CrossbarSpec(rows=16))[0]["a"]  # fmt: skip
    target.load_state_dict(source[0].state_dict())
    assert target.name == "0"
    x, key = torch.randn(2, 30), torch.tensor([3])
    for layer in (source[0], target):
        layer.eval()
        layer.at(1000.0)
    assert torch.equal(source[0](x, key), target(x, key))


def test_what_a_state_does_not_mention_stays() -> None:
    model = nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16), nn.Linear(16, 4))
    nct.convert(model, PCM, CALIBRATED)
    nct.calibrate(model, torch.randn(64, 8))
    nct.at(nct.program(model, 1), 3600).eval()
    before = copy.deepcopy(model.state_dict())
    part = {"1.weight": torch.full((16,), 2.0)}
    assert not model.load_state_dict(part, strict=False).unexpected_keys
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[n], (before | part)[n]) for n in before)
    model(torch.randn(2, 8))
    with pytest.raises(RuntimeError, match=r"Missing key.*chip_conductances"):
        model.load_state_dict(part)


# --------------------------------------------------------------------------- options


class Adapter(nn.Linear):
    def __init__(self) -> None:
        super().__init__(64, 100)
        self.up = nn.Linear(64, 2)

    def forward(self, x: Any) -> Any:
        return super().forward(x)


def test_digital_layers_are_named_once_with_their_share() -> None:
    model = nn.Sequential(nn.Linear(64, 64), Adapter(), nn.LazyLinear(10))
    with pytest.warns(UserWarning) as seen:
        nct.convert(model, PCM)
    (warning,) = [w for w in seen if "model:" in str(w.message)]
    assert "no crossbar layers for 1 (Adapter), 2 (LazyLinear)" in str(warning.message)
    assert "6,400 of 10,624 weights" in str(warning.message)
    rows = {row["name"]: row for row in nct.estimate(model)}
    assert list(rows) == ["0", "1", "1.up", "2"]
    assert rows["1"]["tiles"] == 0 and rows["1"]["share"] == pytest.approx(6400 / 10624)
    assert rows["2"]["weights"] == 0 and rows["0"]["weights"] == 4096
    text = nct.summary(model)
    assert "60.2 %" in text and "digital, not initialized" in text


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda m: nct.convert(m, PCM, {"1*": nc.CrossbarSpec(), "hed": nc.CrossbarSpec()}),
            ValueError,
            r"spec: expected patterns that match a layer \(.*\), got '1\*'",
        ),
        (
            lambda m: nct.estimate(m, {"hed": nc.CrossbarSpec()}),
            ValueError,
            "got 'hed'; did you mean 'head'",
        ),
        (lambda m: nct.inject_noise(m, {"head.weigt": 0.1}), ValueError, "did you mean 'head.weig"),
        (lambda m: nct.convert(m, PCM, "x"), TypeError, "spec: expected a CrossbarSpec"),
        (lambda m: nct.convert(m, PCM, filter_fn=3), TypeError, "filter_fn: expected a callable"),
        (lambda m: nct.inject_noise(m, 0.1, filter_fn=3), TypeError, "filter_fn: expected"),
        (
            lambda m: nct.convert(m, PCM, filter_fn=lambda layer, name: False),
            ValueError,
            "layer to convert that filter_fn wants, got none",
        ),
        (
            lambda m: nct.convert(torch.compile(m, backend="eager"), PCM),
            ValueError,
            "model: .*compile after",
        ),
        (
            lambda m: nct.inject_noise(torch.compile(m, backend="eager"), 0.1),
            ValueError,
            "model: .*compile after",
        ),
        (
            lambda m: nct.quantize(torch.compile(m, backend="eager")),
            ValueError,
            "model: .*compile after",
        ),
        (lambda m: nct.convert(3, PCM), TypeError, r"model: expected a torch\.nn\.Module, got 3"),
        (lambda m: nct.convert(nn.Linear, PCM), TypeError, "model: expected a torch"),
        (lambda m: nct.program("m", 1), TypeError, "model: expected a torch"),
        (lambda m: nct.evaluate(None, []), TypeError, "model: expected a torch"),
        (lambda m: nct.accuracy([], [], []), TypeError, "model: expected a torch"),
        (lambda m: nct.summary({}), TypeError, "model: expected a torch"),
        (lambda m: nct.distill(m, 3, [], [], epochs=1), TypeError, "teacher: expected a torch"),
        (lambda m: nct.at(nct.convert(m, PCM), 1, "False"), TypeError, "extrapolate: expected Tr"),
        (lambda m: nct.dequantize(nct.quantize(m), rounded=1), TypeError, "rounded: expected True"),
        (
            lambda m: nct.batches(torch.zeros(2, 3), torch.zeros(2), shuffle="no"),
            TypeError,
            "shuffle: expected True or False",
        ),
        (lambda m: nct.evaluate(m, [], 2**63), ValueError, "repeats: expected an int in"),
        (lambda m: nct.fit(m, [], [], epochs=2**63), ValueError, "epochs: expected an int in"),
        (lambda m: nct.fit(m, [], [], epochs=1.5), TypeError, "epochs: expected an int"),
    ],
)
def test_refused_by_name(call: Any, error: type[Exception], message: str) -> None:
    model = nn.Sequential()
    model.add_module("head", nn.Linear(4, 4))
    with pytest.raises(error, match=message):
        call(model)


def test_a_filter_is_asked_before_the_checks() -> None:
    model = nn.ModuleDict({
        "attention": nn.MultiheadAttention(4, 2, add_bias_kv=True),
        "pruned": nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)),
        "masked": nn.Linear(4, 4),
        "head": nn.Linear(4, 4),
    })  # fmt: skip
    nn.utils.prune.l1_unstructured(model["masked"], "weight", 0.5)
    with pytest.raises(ValueError, match="add_bias_kv"):
        nct.convert(model, PCM)
    nct.convert(model, PCM, filter_fn=lambda layer, name: name == "head")
    assert isinstance(model["head"], nct.CrossbarLinear)


@pytest.mark.parametrize("tokens", [4, 5])
def test_folding_tokens_is_refused(tokens: int) -> None:
    """Where tokens are as many as features, the first input tells."""
    model = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(tokens)).eval()
    with pytest.raises(ValueError, match=r"tokens|second dimension"):
        nct.fold_batchnorm(model, PCM)
        model(torch.randn(3, tokens, 6))
    if tokens == 5:
        want = nn.functional.linear(x := torch.randn(3, 6), model[0].weight, model[0].bias)
        torch.testing.assert_close(model(x), want)
