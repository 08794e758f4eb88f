"""Crossbar layers: their life cycle, state, and how they behave as modules."""

from __future__ import annotations

import copy
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import two_processes  # noqa: E402

import noisycells as nc  # noqa: E402
import noisycells.torch as nct  # noqa: E402

nn = torch.nn
PCM = nc.devices.pcm_joshi2020()
IDEAL = nc.CrossbarSpec(rows=20, dac_bits=None, adc_bits=None)
NOISY = nc.CrossbarSpec(rows=20, read_noise="both")
KEY = torch.tensor([7])

torch_compiles = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")


def layer(spec: nc.CrossbarSpec = NOISY, name: str = "fc", **keywords: Any) -> Any:
    torch.manual_seed(0)
    return nct.CrossbarLinear(30, 8, device=PCM, spec=spec, name=name, **keywords)


def inputs() -> Any:
    return torch.randn(5, 30, generator=torch.Generator().manual_seed(1))


# --------------------------------------------------------------------------- values

CONVOLUTIONS = [
    (nct.CrossbarConv1d, nn.Conv1d),
    (nct.CrossbarConv2d, nn.Conv2d),
    (nct.CrossbarConv3d, nn.Conv3d),
]


@pytest.mark.parametrize(("kind", "digital"), CONVOLUTIONS)
@pytest.mark.parametrize(
    "keywords",
    [
        {},
        {"stride": 2, "padding": 1, "bias": False},
        {"dilation": 2, "padding": "same"},
        {"padding": "valid"},
        {"padding": 2, "padding_mode": "circular"},
        {"padding": 1, "padding_mode": "reflect"},
        {"padding": "same", "padding_mode": "replicate"},
        {"groups": 2, "padding": 1},
        {"groups": 4},
    ],
)
def test_ideal_convolutions_equal_torch(kind: Any, digital: Any, keywords: dict[str, Any]) -> None:
    torch.manual_seed(0)
    size = (2, 3, 4)[: CONVOLUTIONS.index((kind, digital)) + 1]
    a = kind(4, 8, size, device=nc.devices.ideal(), spec=IDEAL, **keywords)
    b = digital(4, 8, size, **keywords)
    b.load_state_dict(a.state_dict())
    x = torch.randn(3, 4, *(9, 8, 7)[: len(size)], requires_grad=True)
    y, z = a(x), b(x)
    torch.testing.assert_close(y, z, rtol=1e-5, atol=1e-5)
    grad = torch.randn_like(z)
    want = torch.autograd.grad(z, [x, *b.parameters()], grad)
    for g, h in zip(torch.autograd.grad(y, [x, *a.parameters()], grad), want, strict=True):
        torch.testing.assert_close(g, h, rtol=1e-4, atol=1e-5 * h.abs().max().item())
    torch.testing.assert_close(a(x[0]), b(x[0]), rtol=1e-5, atol=1e-5)
    a.program(1)
    a.eval()
    torch.testing.assert_close(a(x), z, rtol=1e-5, atol=1e-5)
    (g,) = torch.autograd.grad(a(x), [x], grad)
    torch.testing.assert_close(g, want[0], rtol=1e-4, atol=1e-5 * want[0].abs().max().item())


def test_asymmetric_padding() -> None:
    """'same' with an even kernel pads one more behind; torch warns that it copies."""
    a = nct.CrossbarConv1d(2, 3, 4, padding="same", device=nc.devices.ideal(), spec=IDEAL)
    x = torch.randn(2, 2, 9)
    want = nn.functional.conv1d(nn.functional.pad(x, (1, 2)), a.weight, a.bias)
    torch.testing.assert_close(a(x), want, rtol=1e-5, atol=1e-5)


# --------------------------------------------------------------------------- life cycle


def test_train_draws_a_chip_each_forward_and_eval_keeps_one() -> None:
    a, x = layer(nc.CrossbarSpec(read_noise="none")), inputs()
    assert not torch.equal(a(x), a(x))
    a.program(3)
    assert not torch.equal(a(x), a(x))
    a.eval()
    assert torch.equal(a(x), a(x))
    noisy = layer()
    noisy.program(3)
    noisy.eval()
    assert not torch.equal(noisy(x), noisy(x))
    assert torch.equal(noisy(x, KEY), noisy(x, KEY))


@pytest.mark.parametrize("spec", [
    NOISY,
    nc.CrossbarSpec(mapping="row", drift_compensation="column"),
    nc.CrossbarSpec(weight_slice_bits=(4, 4), input_slice_bits=4, devices_per_polarity=2),
])  # fmt: skip
def test_eval_is_the_crossbar(spec: nc.CrossbarSpec) -> None:
    a, x = layer(spec, bias=False), inputs()
    array = nc.Crossbar(a.weight.detach().numpy(), PCM, spec, "fc")
    a.eval()
    for step in (
        lambda c: c.program(5), lambda c: c.at(3600.0), lambda c: c.at(10.0),
        lambda c: c.program(2**64 - 1),
    ):  # fmt: skip
        step(a)
        step(array)
        expected = array.matmul(x.numpy(), 7)
        assert np.array_equal(a(x, KEY).detach().numpy(), expected)
        (again,) = a.crossbars()
        assert np.array_equal(again.matmul(x.numpy(), 7), expected)
        assert (again.seed, again.seconds) == (array.seed, array.seconds)


def test_at_is_pure_in_time() -> None:
    a, x = layer(), inputs()
    a.program(5)
    a.eval()
    found = []
    for seconds in (10, 1000, 10):
        a.at(seconds)
        found.append(a(x, KEY))
    assert torch.equal(found[0], found[2]) and not torch.equal(found[0], found[1])


def test_gradients_in_eval_reach_inputs_and_bias() -> None:
    a, x = layer(nc.CrossbarSpec(adc_bits=None, dac_bits=None)), inputs().requires_grad_()
    a.program(5)
    a.eval()
    a(x).sum().backward()
    want = torch.from_numpy(a.crossbars()[0].effective_weights()).sum(0).expand(5, 30)
    torch.testing.assert_close(x.grad, want, rtol=1e-4, atol=1e-5)
    assert a.weight.grad is None
    torch.testing.assert_close(a.bias.grad, torch.full((8,), 5.0))


def test_repr_tells_the_life() -> None:
    a = layer()
    assert "NOT PROGRAMMED" in repr(a)
    a.program(2**64 - 1)
    assert "programmed with seed 18446744073709551615)" in repr(a)
    a.at(60)
    assert re.search("seed 18446744073709551615, 60 s ago", repr(a))


def test_warns_once_before_programming() -> None:
    a = layer()
    a.eval()
    with pytest.warns(UserWarning, match=r"fc: used in eval\(\) before program"):
        a(inputs())
    a(inputs())


def test_warns_where_weights_changed() -> None:
    a = layer()
    a.program(1)
    a.eval()
    a.train()
    with torch.no_grad():
        a.weight[0, 0] += 1
    with pytest.warns(UserWarning, match="weights have changed since the chip was programmed"):
        a.eval()
    a.train()
    a.program(1)
    a.eval()


def test_calibration() -> None:
    spec = nc.CrossbarSpec(dac_range="calibrated", adc_range="calibrated")
    a, x = layer(spec), inputs()
    for call in (lambda: a(x), lambda: (a.program(1), a.eval(), a(x))):
        with pytest.raises(ValueError, match="dac_range: expected calibrate"):
            call()
    a.calibrate([x])
    assert a.ranges[0, 0] == x.abs().max()
    first = a(x, KEY)
    a.train()
    assert a(x).isfinite().all()
    a.program(1)
    a.eval()
    assert torch.equal(a(x, KEY), first)
    array = nc.Crossbar(a.weight.detach().numpy(), PCM, spec, "fc").program(1).calibrate(x.numpy())
    want = torch.from_numpy(array.matmul(x.numpy(), 7)) + a.bias
    torch.testing.assert_close(first, want)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda a: a.at(10), RuntimeError, "at: expected a programmed layer"),
        (lambda a: a.program(-1), ValueError, "seed: "),
        (lambda a: a.program(None), TypeError, "seed: "),
        (lambda a: (a.program(1), a.at(-1)), ValueError, "seconds: "),
        (lambda a: (a.program(1), a.at(1e9)), ValueError, "seconds: "),
        (lambda a: a(torch.zeros(3, 7)), ValueError, "x: expected shape"),
        (lambda a: nct.CrossbarLinear(2, 2, device="cpu"), ValueError, "device: "),
        (lambda a: nct.CrossbarLinear(2, 2, device=PCM, name=3), TypeError, "name: "),
        (
            lambda a: nct.CrossbarConv2d(2, 2, 3, device=PCM)(torch.zeros(2, 3, 5, 5)),
            ValueError,
            r"x: expected shape \(batch, 2, size, size\)",
        ),
    ],
)
def test_bad_input(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(layer())


# --------------------------------------------------------------------------- state


def aged() -> Any:
    a = layer(nc.CrossbarSpec(mapping="row", drift_compensation="global", read_noise="both"))
    a.program(2**63 + 5)
    a.at(3600)
    return a.eval()


def test_state_dict_resumes_bit_exact(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    a, x = aged(), inputs()
    save_file(a.state_dict(), tmp_path / "a.safetensors")
    b = nct.CrossbarLinear(30, 8, device=PCM, spec=a.spec, name="fc").eval()
    b.load_state_dict(load_file(tmp_path / "a.safetensors"))
    assert torch.equal(a(x, KEY), b(x, KEY))
    for c in (a, b):
        c.at(100)
    assert torch.equal(a(x, KEY), b(x, KEY))
    assert not any("pack" in name for name in a.state_dict())
    fresh = layer(a.spec)  # whose state has no chip
    with pytest.raises(RuntimeError, match=r"Missing key.*chip_conductances"):
        b.load_state_dict(fresh.state_dict())
    b.load_state_dict(fresh.state_dict(), strict=False)
    assert torch.equal(a(x, KEY), b(x, KEY))


def test_state_loaded_in_place_is_packed_again() -> None:
    a, b, x = aged(), aged(), inputs()
    b.program(8)
    b.at(3600)
    assert not torch.equal(a(x, KEY), b(x, KEY))
    pointer = b.chip_conductances.data_ptr()
    b.load_state_dict(a.state_dict())
    assert b.chip_conductances.data_ptr() == pointer
    assert torch.equal(a(x, KEY), b(x, KEY))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a))])
def test_copies_have_their_own_arrays(copied: Any) -> None:
    a, x = aged(), inputs()
    y = a(x, KEY)
    b = copied(a)
    assert torch.equal(b(x, KEY), y)
    b.program(4)
    assert not torch.equal(b(x, KEY), y)
    assert torch.equal(a(x, KEY), y)


def test_conductances_stay_float32() -> None:
    a, x = aged(), inputs()
    y = a(x, KEY)
    a.to(torch.bfloat16)
    assert a.weight.dtype is torch.bfloat16
    assert a.chip_conductances.dtype is torch.float32
    z = a(x.bfloat16(), KEY)
    assert z.dtype is torch.bfloat16
    torch.testing.assert_close(z.float(), y, rtol=0.1, atol=0.1)
    a.train()
    assert a(x.bfloat16()).dtype is torch.bfloat16
    a.program(3)


def test_simd_level_may_change(simd_level: str) -> None:
    a, x = aged(), inputs()
    before = nc.simd_level()
    y = a(x, KEY)
    for level in nc.available_simd_levels():
        nc.set_simd_level(level)
        torch.testing.assert_close(a(x, KEY), y, rtol=1e-4, atol=1e-4)
    nc.set_simd_level(before)


def test_inference_mode() -> None:
    with torch.inference_mode():
        a = layer()
        b = copy.deepcopy(a)
        y = b(inputs(), torch.tensor([1]))
    c, x = layer(), inputs()
    assert torch.equal(c(x, torch.tensor([1])), y)
    with torch.inference_mode():
        c.program(1)
        y = c.eval()(x, KEY)
    assert torch.equal(c(x, KEY), y)
    c(x.requires_grad_()).sum().backward()


# --------------------------------------------------------------------------- torch's subsystems


@torch_compiles
@pytest.mark.parametrize("training", [True, False])
def test_compile(training: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nct.CrossbarConv2d(3, 8, 3, padding=1, groups=1, device=PCM, spec=NOISY),
        nn.ReLU(),
        nn.Flatten(),
        nct.CrossbarLinear(8 * 25, 5, device=PCM, spec=NOISY),
    )
    nct.program(model, 1)
    model.train(training)
    compiled = torch.compile(model, fullgraph=True)
    x = torch.randn(4, 3, 5, 5)
    assert not torch.equal(compiled(x), compiled(x))
    conv = torch.compile(model[0], fullgraph=True)
    key = torch.tensor([1, 2])
    assert torch.equal(conv(x, key), model[0](x, key))
    if training:
        compiled(x).sum().backward()
        assert all(p.grad is not None for p in model.parameters())
        return
    model[0].at(100)
    assert torch.equal(conv(x, key), model[0](x, key))


def test_vmap_over_reads() -> None:
    a, x = aged(), inputs()
    keys = torch.arange(3)[:, None]
    y = torch.func.vmap(lambda key: a(x, key))(keys)
    assert torch.equal(y, torch.stack([a(x, key) for key in keys]))


@pytest.mark.parametrize("optimizer", ["SGD", "Adam", "AdamW", "RMSprop", "LBFGS"])
def test_trains_with_any_optimizer(optimizer: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(64, 30)
    t = (x[:, 0] > 0).long()
    a = nct.CrossbarLinear(30, 2, device=PCM)
    steps = {"SGD": 1.0, "LBFGS": 0.1}
    optim = getattr(torch.optim, optimizer)(a.parameters(), lr=steps.get(optimizer, 0.05))

    def closure() -> Any:
        optim.zero_grad()
        loss = nn.functional.cross_entropy(a(x), t)
        loss.backward()
        return loss

    first = closure().item()
    for _ in range(20):
        optim.step(closure)
    assert closure().item() < 0.7 * first


class Products(torch.utils.data.Dataset):
    """Products in the workers of a data loader."""

    def __init__(self) -> None:
        self.layer = aged()

    def __len__(self) -> int:
        return 6

    def __getitem__(self, i: int) -> Any:
        with torch.no_grad():
            return self.layer(inputs(), torch.tensor([i]))


@pytest.mark.parametrize("start", ["fork", "spawn"])
# Python 3.12 and later: fork beside threads
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_data_loader_workers(start: str) -> None:
    data = Products()
    want = torch.stack([data[i] for i in range(6)])
    loader = torch.utils.data.DataLoader(
        data, batch_size=3, num_workers=2, multiprocessing_context=start
    )
    assert torch.equal(torch.cat(list(loader)), want)


def distributed_training(rank: int, folder: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nct.CrossbarLinear(6, 5, device=PCM), nct.CrossbarLinear(5, 2, device=PCM)
    )
    parallel = nn.parallel.DistributedDataParallel(model)
    nct.program(model, 3)
    optim = torch.optim.SGD(parallel.parameters(), lr=0.1)
    torch.manual_seed(rank)  # noise and data of its own
    for _ in range(3):
        optim.zero_grad()
        parallel(torch.randn(4, 6)).square().sum().backward()
        optim.step()
    nct.program(model, 3)
    model.eval()
    y = model[0](torch.ones(1, 6), KEY)
    torch.save((model.state_dict(), y), f"{folder}/{rank}.pt")


def test_distributed_data_parallel(tmp_path: Path) -> None:
    two_processes.run(distributed_training, tmp_path)
    (one, y), (two, z) = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert one.keys() == two.keys() and torch.equal(y, z)
    for name, tensor in one.items():
        assert torch.equal(tensor.nan_to_num(), two[name].nan_to_num()), name


def test_autocast() -> None:
    a = nn.Sequential(nn.Linear(30, 30), layer())
    with torch.autocast("cpu", torch.bfloat16):
        y = a(inputs())
    assert y.dtype is torch.bfloat16
    y.float().sum().backward()
    assert a[0].weight.grad.isfinite().all() and a[1].weight.grad.any()


def test_default_dtype_does_not_matter() -> None:
    a, x = layer(nc.CrossbarSpec(dac_range="calibrated", read_noise="both")), inputs()
    a.calibrate([x])
    want = a(x, KEY)
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(a(x, KEY), want)
        a.calibrate([x])
        a.program(1)
        assert a.eval()(x, KEY).dtype is torch.float32
    finally:
        torch.set_default_dtype(torch.float32)
