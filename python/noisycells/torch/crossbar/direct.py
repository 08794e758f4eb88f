"""Products that do not pass torch's dispatcher, which takes longer than a small product does.

Where nothing listens to the dispatcher, the operators of :mod:`.operator` and these compute the
same. Under :func:`torch.compile`, transforms of :mod:`torch.func`, modes, tracing and profilers
there are the operators.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .arrays import fresh_products, plane_weights, programmed_planes, programmed_products
from .backward import bias_gradient, product_gradient

__all__ = ["fresh", "possible", "programmed"]

_PLAIN = (Tensor, torch.nn.Parameter)
_LISTENERS = (
    ("_len_torch_dispatch_stack",),
    ("_len_torch_function_stack",),
    ("_are_functorch_transforms_active",),
    ("_is_tracing",),
    ("_autograd", "_profiler_enabled"),
)
"""Functions of torch's core that say whether something sees each call of an operator."""


def _found(path: Sequence[str]) -> Callable[[], Any]:
    """Such a function; of a torch that does not have it, one that says yes."""
    found: Any = torch._C
    for name in path:
        found = getattr(found, name, None)
    return found if callable(found) else lambda: True


_listening = tuple(map(_found, _LISTENERS))


def possible(x: Tensor, weight: Tensor) -> bool:
    """Whether nothing would see a call of an operator but torch's autograd."""
    return (
        type(x) in _PLAIN
        and type(weight) in _PLAIN
        and not torch.compiler.is_compiling()
        and not any(listens() for listens in _listening)
    )


def fresh(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    key: Tensor,
    ranges: Tensor | None,
    circuit: str,
) -> Tensor:
    """As ``noisycells::crossbar_linear``."""
    if _differentiates(x, weight, bias):
        y: Tensor = _Fresh.apply(x, weight, bias, key, ranges, circuit)  # type: ignore[no-untyped-call]
        return y
    return fresh_products(x, weight, bias, key, ranges, circuit, False)[0]


def programmed(
    x: Tensor, chip: Sequence[Tensor], bias: Tensor | None, key: Tensor, circuit: str, handle: int
) -> Tensor:
    """As ``noisycells::programmed_linear``."""
    if _differentiates(x, bias):
        y: Tensor = _Programmed.apply(x, bias, chip, key, circuit, handle)  # type: ignore[no-untyped-call]
        return y
    return programmed_products(x, chip, bias, key, circuit, handle, False)[0]


def _differentiates(*tensors: Tensor | None) -> bool:
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def _gradient(grad: Tensor, *arguments: Any) -> tuple[Tensor, Tensor]:
    """Of inputs and weights; where it is to be differentiated itself the operator refuses that."""
    if torch.is_grad_enabled() or not possible(grad, grad):
        found: tuple[Tensor, Tensor] = torch.ops.noisycells.crossbar_gradient.default(
            grad, *arguments
        )
        return found
    return product_gradient(grad, *arguments)


class _Fresh(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        key: Tensor,
        ranges: Tensor | None,
        circuit: str,
    ) -> Tensor:
        need = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        y, inside, arrays = fresh_products(x, weight, bias, key, ranges, circuit, need)
        ctx.circuit, ctx.need = circuit, need
        if need:
            ctx.save_for_backward(x, plane_weights(arrays), _mask(inside, x), weight, ranges)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        need_x, need_weight, need_bias, *_ = ctx.needs_input_grad
        of_x = of_weight = None
        if ctx.need:
            x, planes, inside, weight, ranges = ctx.saved_tensors
            of_x, of_weight = _gradient(
                grad, x, planes, inside, weight, None, ranges, ctx.circuit, need_x, need_weight
            )
            of_weight = of_weight.reshape(weight.shape) if need_weight else None
        of_bias = bias_gradient(grad, ctx.circuit) if need_bias else None
        return of_x if need_x else None, of_weight, of_bias, None, None, None


class _Programmed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        bias: Tensor | None,
        chip: Sequence[Tensor],
        key: Tensor,
        circuit: str,
        handle: int,
    ) -> Tensor:
        need = ctx.needs_input_grad[0]
        y, inside, arrays = programmed_products(x, chip, bias, key, circuit, handle, need)
        ctx.circuit = circuit
        if need:
            planes = programmed_planes(arrays, handle)
            ctx.save_for_backward(x, planes, _mask(inside, x), *chip[2:])
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        need_x, need_bias, *_ = ctx.needs_input_grad
        of_x = None
        if need_x:
            x, planes, inside, ranges, *row = ctx.saved_tensors
            of_x, _ = _gradient(
                grad, x, planes, inside, None, row[0] if row else None, ranges, ctx.circuit, True,
                False,
            )  # fmt: skip
        of_bias = bias_gradient(grad, ctx.circuit) if need_bias else None
        return of_x, of_bias, None, None, None, None


def _mask(inside: Tensor | None, x: Tensor) -> Tensor:
    return x.new_empty(0, dtype=torch.uint8) if inside is None else inside
