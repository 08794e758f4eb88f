"""Products that pass torch's dispatcher by: the same as through the operators, to the last bit."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

import noisycells.torch as nct  # noqa: E402
from noisycells.torch.crossbar import direct  # noqa: E402


class Listening(TorchDispatchMode):
    """Sees every operator."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


def layer(kind: str, programmed: bool) -> Any:
    torch.manual_seed(0)
    made: Any = {
        "linear": lambda: torch.nn.Linear(20, 12),
        "convolution": lambda: torch.nn.Conv2d(4, 6, 3, groups=2),
    }[kind]()
    found = nct.convert(torch.nn.Sequential(made), "pcm_hermes")
    if programmed:
        nct.program(found, seed=1)
    return found.train(not programmed)


def gradients(model: Any, kind: str) -> list[torch.Tensor]:
    """Outputs and all gradients of one pass with given random numbers."""
    shape = (5, 20) if kind == "linear" else (2, 4, 6, 6)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1)).requires_grad_()
    torch.manual_seed(3)
    model.zero_grad()
    y = model(x)
    y.square().sum().backward()
    found = [y.detach(), x.grad, *(p.grad for p in model.parameters() if p.grad is not None)]
    return [tensor.clone() for tensor in found if tensor is not None]


@pytest.mark.parametrize("kind", ["linear", "convolution"])
@pytest.mark.parametrize("programmed", [False, True])
def test_outputs_and_gradients(
    monkeypatch: pytest.MonkeyPatch, kind: str, programmed: bool
) -> None:
    model = layer(kind, programmed)
    with Listening() as mode:
        gradients(model, kind)
    assert any("noisycells" in name for name in mode.seen)
    passed_by = gradients(model, kind)
    monkeypatch.setattr(direct, "possible", lambda *_: False)
    through = gradients(model, kind)
    assert len(passed_by) == len(through) >= 2 + (not programmed)
    assert all(torch.equal(a, b) for a, b in zip(passed_by, through, strict=True))


def profiled(call: Callable[[], Any]) -> Any:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]):
        return call()


def traced(call: Callable[[], Any]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of torch 2.13 for its tracing
        return torch.jit.trace(lambda x: (call(), x)[1], torch.zeros(1), check_trace=False)


@pytest.mark.parametrize(
    "listener",
    [
        lambda call: torch.func.vmap(lambda _: call())(torch.zeros(1)),
        traced,
        profiled,
    ],
    ids=["vmap", "trace", "profiler"],
)
def test_where_something_listens_the_operators_are_called(listener: Any) -> None:
    x, seen = torch.zeros(2, 3), []

    def call() -> torch.Tensor:
        seen.append(direct.possible(x, x))
        return torch.zeros(1)

    assert direct.possible(x, x)
    listener(call)
    assert seen and not any(seen)


def test_a_torch_without_such_functions_has_the_operators() -> None:
    assert direct._found(("_no_such_function",))() is True
    assert direct._found(("_no_such_module", "function"))() is True
    assert not any(listens() for listens in direct._listening)
