"""Noise in training of any kind: checkpoints, optimizers, autocast, compilation, processes."""

from __future__ import annotations

import contextlib
import copy
import gc
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from noisycells.random import fold_in

torch = pytest.importorskip("torch")

import two_processes  # noqa: E402
from noise_cases import gradients, images, network, noisy_copy, same  # noqa: E402
from torch import nn  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402

import noisycells.torch as nct  # noqa: E402

F32 = NDArray[np.float32]
SEED = 7


class Checkpointed(nn.Module):
    def __init__(self, reentrant: bool | None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(5, 6)
        self.rest = nn.Sequential(nn.Linear(6, 7), nn.Tanh(), nn.Linear(7, 3))
        self.reentrant = reentrant

    def forward(self, x: Any) -> Any:
        h = torch.tanh(self.first(x))
        if self.reentrant is None:
            return self.rest(h)
        return checkpoint(self.rest, h, use_reentrant=self.reentrant)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("whole", [True, False])
def test_checkpoints_compute_with_the_draw_of_their_forward(reentrant: bool, whole: bool) -> None:
    """Also where two forwards with a draw each come before the backward."""
    found = []
    x = torch.ones(8, 5, requires_grad=True)
    for use in (None, reentrant):
        model = Checkpointed(None if whole else use)
        noise = nct.inject_noise(model, 0.2, seed=SEED)

        def run(x: Any, model: Any = model, use: bool | None = use) -> Any:
            if use is None or not whole:
                return model(x)
            return checkpoint(model, x, use_reentrant=use)

        loss = run(x).square().sum() * run(x).exp().sum()
        with noise.pause():
            loss = loss * run(x).sum()
        with torch.no_grad():
            model(x)
        loss.backward()
        assert noise.draw == 3
        found.append(gradients(model))
    assert same(*found)


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("paused", [True, False])
def test_checkpoints_before_a_forward_without_gradients(reentrant: bool, paused: bool) -> None:
    """As where outputs are compared with those without noise: no node comes in between."""
    model = Checkpointed(None)
    noise = nct.inject_noise(model, 0.2, seed=SEED)
    x = torch.ones(8, 5, requires_grad=True)
    y = checkpoint(model, x, use_reentrant=reentrant)
    with torch.no_grad(), noise.pause() if paused else contextlib.nullcontext():
        model(x)
    y.square().sum().backward()
    found = gradients(model)
    model.zero_grad()
    with noise.hold(0):
        model(x).square().sum().backward()
    assert same(found, gradients(model))


def test_accumulated_gradients(noisy: tuple[Any, Any]) -> None:
    """Of halves of a batch under one draw: those of the batch."""
    model, noise = noisy
    model.eval()
    want = noisy_copy(model, 0)
    x = images(8)
    with noise.hold():
        for half in x.split(4):
            model(half).sum().backward()
    want(x).sum().backward()
    for a, b in zip(gradients(model), gradients(want), strict=True):
        torch.testing.assert_close(a, b)


def test_two_forwards_before_one_backward(noisy: tuple[Any, Any]) -> None:
    model, _ = noisy
    model.eval()
    one, two = noisy_copy(model, 0), noisy_copy(model, 1)
    (model(images()) * model(images())).sum().backward()
    (one(images()) * two(images())).sum().backward()
    for got, a, b in zip(gradients(model), gradients(one), gradients(two), strict=True):
        torch.testing.assert_close(got, a + b)


@pytest.mark.parametrize("kind", ["SGD", "Adam", "AdamW", "LBFGS"])
def test_optimizers(kind: str) -> None:
    model = network()
    nct.inject_noise(model, 0.02, seed=SEED)
    optimizer = getattr(torch.optim, kind)(model.parameters(), lr=0.02)
    x, labels = images(16), torch.arange(16) % 3
    losses = []

    def step() -> Any:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), labels)
        loss.backward()
        losses.append(loss.item())
        return loss

    for _ in range(20 if kind != "LBFGS" else 2):  # of 20 evaluations each
        optimizer.step(step)
    assert np.mean(losses[-3:]) < 0.9 * losses[0]


def test_autocast() -> None:
    model = network().eval()
    nct.inject_noise(model, 0.1, seed=SEED)
    want = noisy_copy(model, 0)
    with torch.autocast("cpu", torch.bfloat16):
        y, z = model(images()), want(images())
    assert y.dtype == torch.bfloat16 and torch.equal(y, z)
    y.float().sum().backward()
    z.float().sum().backward()
    assert same(gradients(model), gradients(want))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_models(backend: str) -> None:
    torch._dynamo.reset()
    model = network()
    nct.inject_noise(model, 0.1, seed=SEED)
    other = copy.deepcopy(model)
    compiled = torch.compile(model, backend=backend)
    for _ in range(3):
        y, z = compiled(images()), other(images())
        torch.testing.assert_close(y, z)
        y.square().sum().backward()
        z.square().sum().backward()
        for a, b in zip(gradients(model), gradients(other), strict=True):
            torch.testing.assert_close(a, b)
    noise = nct.active_noise(compiled)
    assert noise is nct.active_noise(model) and noise.draw == 3
    assert "weight" not in vars(model[0])
    with noise.hold(9), torch.no_grad():
        torch.testing.assert_close(compiled.eval()(images()), noisy_copy(model, 9).eval()(images()))


def test_copies_and_pickles_are_noisy_too(noisy: tuple[Any, Any], tmp_path: Path) -> None:
    model, noise = noisy
    model.eval()
    model(images())
    with noise.hold():  # copies are not held
        copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    torch.save(model, tmp_path / "model.pt")
    copies.append(torch.load(tmp_path / "model.pt", weights_only=False))
    want = [model(images()), model(images())]
    for other in copies:
        assert nct.active_noise(other) is not noise
        assert same([other(images()), other(images())], want)
        nct.active_noise(other).remove()
    assert noise.draw == 3 and nct.active_noise(model) is noise


def test_memory_is_one_more_copy_of_the_weights(noisy: tuple[Any, Any]) -> None:
    """Tensors that are alive during a forward, and none after it."""

    def count(shape: Any) -> int:
        gc.collect()
        pointers = {
            o.data_ptr()
            for o in gc.get_objects()
            if type(o) in (torch.Tensor, nn.Parameter) and o.shape == shape
        }
        return len(pointers)

    model, _ = noisy
    shape = model[4].weight.shape
    inside = []
    model.register_forward_hook(lambda *_: inside.append(count(shape)))
    before = count(shape)
    model(images()).sum().backward()
    assert inside == [before + 1]
    model.zero_grad()
    with torch.no_grad():
        model(images())
    assert count(shape) == before


def distributed_noise(rank: int, folder: str) -> None:
    results = []
    for seed in (SEED, fold_in(SEED, rank)):  # the same draws, and each its own
        model = network().eval()
        nct.inject_noise(model, 0.1, seed=seed)
        parallel = nn.parallel.DistributedDataParallel(model)
        assert nct.active_noise(parallel) is nct.active_noise(model)
        outputs = parallel(images())
        parallel(images(4 + rank)).square().sum().backward()
        torch.optim.SGD(model.parameters(), lr=0.01).step()
        results.append((outputs.detach(), gradients(model), model.state_dict()))
    torch.save(results, f"{folder}/{rank}.pt")


def test_distributed_data_parallel(tmp_path: Path) -> None:
    two_processes.run(distributed_noise, tmp_path)
    one, two = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    for i, equal in enumerate([True, False]):
        assert torch.equal(one[i][0], two[i][0]) == equal
        assert same(one[i][1], two[i][1])
        assert same(one[i][2].values(), two[i][2].values())
    model = network().eval()
    nct.inject_noise(model, 0.1, seed=SEED)
    model(images())
    a, b = noisy_copy(model, 1), noisy_copy(model, 1)
    a(images(4)).square().sum().backward()
    b(images(5)).square().sum().backward()
    for got, x, y in zip(one[0][1], gradients(a), gradients(b), strict=True):
        torch.testing.assert_close(got, (x + y) / 2)
