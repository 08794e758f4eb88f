"""The operators ``noisycells::crossbar_linear`` and ``noisycells::programmed_linear``.

Both are pure functions of their tensors, of which one is the key of the random numbers, and of
the string that :func:`~noisycells.torch.crossbar.circuit.describe` makes of device and spec.
``crossbar_linear`` programs its weights on fresh arrays first; ``programmed_linear`` reads arrays
that were programmed before. Where the circuit names a convolution, they act on the patches of
images, whose outputs have their channels last in memory.

float32 tensors on the CPU are taken by the compiled core without a copy, those on CUDA by kernels
with the core's bits (:mod:`.fused`) where a chip was programmed and its sums are integers, and the
others by torch operations (:mod:`.fallback`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ... import _arguments
from ...crossbar import CrossbarSpec
from ...devices import DeviceLike, computing
from . import direct
from .arrays import Products, fresh_products, plane_weights, programmed_products
from .backward import bias_gradient, product_gradient
from .circuit import describe, parse

__all__ = ["check_product", "crossbar_linear", "fresh_product", "new_key", "programmed_product"]

_library = torch.library.Library("noisycells", "FRAGMENT")

_library.define(
    "crossbar_linear(Tensor x, Tensor weight, Tensor? bias, Tensor key, Tensor? ranges, "
    "str circuit, bool save) -> (Tensor y, Tensor planes, Tensor inside)"
)
_library.define(
    "programmed_linear(Tensor x, Tensor[] chip, Tensor? bias, Tensor key, str circuit, "
    "int handle, bool save) -> (Tensor y, Tensor planes, Tensor inside)"
)
_library.define(
    "crossbar_gradient(Tensor grad, Tensor x, Tensor planes, Tensor inside, Tensor? weight, "
    "Tensor? row, Tensor? ranges, str circuit, bool need_x, bool need_weight) "
    "-> (Tensor x, Tensor weight)"
)


# --------------------------------------------------------------------------- for users


def new_key() -> Tensor:
    """A key drawn from torch's default generator: the seeds of programming and of reading."""
    return torch.randint(-(1 << 63), (1 << 63) - 1, (2,), dtype=torch.int64)


def crossbar_linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    device: DeviceLike,
    spec: CrossbarSpec | None = None,
    key: Tensor | None = None,
) -> Tensor:
    """:func:`torch.nn.functional.linear` on freshly programmed noisy arrays.

    Gradients are those at the noisy weights, straight through converters inside their ranges and
    zero outside; none flow through scales, ranges and the strength of the noise. Under
    :func:`torch.func.vmap`, a batch of keys is a batch of chips. :func:`torch.func.grad` does not
    take operators that are registered through :mod:`torch.library`; ``backward`` does.

    Parameters
    ----------
    x : Tensor, shape (..., in)
        bfloat16 and float16 are computed in float32, and float64 by operations of torch.
    weight : Tensor, shape (out, in)
    bias : Tensor, shape (out,), optional
        Added digitally.
    device : Device or str
        A device, or its name or JSON file.
    spec : CrossbarSpec, optional
        Default: ``CrossbarSpec()``.
    key : Tensor of int64, shape (1,) or (2,), on the CPU, optional
        The bits of the seeds of programming and of reading; one is used for both. The result is
        a pure function of the other arguments and it. None draws one from torch's generator.

    Returns
    -------
    Tensor, shape (..., out)
        Of the dtype of ``x``.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as said above, or is not finite.

    Examples
    --------
    >>> import noisycells as nc, noisycells.torch as nct
    >>> x, w = torch.randn(8, 32), torch.randn(4, 32, requires_grad=True)
    >>> y = nct.crossbar_linear(x, w, device=nc.devices.pcm_joshi2020())
    >>> y.sum().backward()
    >>> w.grad.shape
    torch.Size([4, 32])
    """
    if weight.ndim != 2:
        raise _arguments.wrong_value("weight", "shape (out, in)", tuple(weight.shape))
    circuit = _described(device, CrossbarSpec() if spec is None else spec)
    check_product(x, weight, bias)
    return fresh_product(x, weight, bias, key, None, circuit)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator, unused-ignore]
def _described(device: DeviceLike, spec: CrossbarSpec) -> str:
    return describe(computing(device), spec)


def fresh_product(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    key: Tensor | None,
    ranges: Tensor | None,
    circuit: str,
) -> Tensor:
    """Of ``x`` and weights programmed for it alone; ``ranges`` as in :func:`programmed_product`."""
    dtype = x.dtype
    if dtype is not torch.float32 or weight.dtype is not torch.float32:
        computed = _computed(dtype)
        x, weight = x.to(computed), weight.to(computed)
        bias = None if bias is None else bias.to(computed)
    key = new_key() if key is None else _check_key(key)
    if direct.possible(x, weight):
        y = direct.fresh(x, weight, bias, key, ranges, circuit)
    else:
        save = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
        operator = torch.ops.noisycells.crossbar_linear.default
        y = operator(x, weight, bias, key, ranges, circuit, save)[0]
    return y if y.dtype is dtype else y.to(dtype)


def programmed_product(
    x: Tensor, chip: Sequence[Tensor], bias: Tensor | None, key: Tensor, circuit: str, handle: int
) -> Tensor:
    """Of ``x`` and programmed arrays.

    Parameters
    ----------
    chip : sequence of Tensor, float32
        conductances (groups, slices, devices, 2, out, in), uS; digital scales (groups, out);
        ranges (groups, 1 + passes), those of the DAC and of the ADCs, -1 where there is none;
        and with ``mapping="row"`` the scales of the inputs (groups, in).
    handle : int
        Number under which the packed arrays are kept until the tensors change.
    """
    dtype = x.dtype
    if dtype is not torch.float32:
        x = x.to(_computed(dtype))
    if bias is not None and bias.dtype is not x.dtype:
        bias = bias.to(x.dtype)
    key = _check_key(key)
    if direct.possible(x, chip[0]):
        y = direct.programmed(x, chip, bias, key, circuit, handle)
    else:
        save = torch.is_grad_enabled() and x.requires_grad
        operator = torch.ops.noisycells.programmed_linear.default
        y = operator(x, chip, bias, key, circuit, handle, save)[0]
    return y if y.dtype is dtype else y.to(dtype)


def check_product(x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    """Refuse what does not fit together, before a product on fresh or programmed arrays."""
    for name, tensor in (("x", x), ("weight", weight)):
        if not isinstance(tensor, Tensor):
            raise _arguments.wrong_type(name, "a Tensor", tensor)
        if not tensor.is_floating_point():
            raise _arguments.wrong_kind(name, "a floating-point tensor", tensor.dtype)
    size = weight.shape
    if len(size) == 2 and (x.ndim < 1 or x.shape[-1] != size[1]):
        raise _arguments.wrong_value("x", f"shape (..., {size[1]})", tuple(x.shape))
    if not weight.numel():
        raise _arguments.wrong_value("weight", "at least one weight", tuple(size))
    if bias is not None and (bias.ndim != 1 or bias.shape[0] != size[0]):
        raise _arguments.wrong_value("bias", f"shape ({size[0]},)", tuple(bias.shape))
    if (x.dtype is torch.float64) != (weight.dtype is torch.float64):
        raise _arguments.wrong_kind("x", f"the dtype of the weight, {weight.dtype}", x.dtype)


def _check_key(key: Tensor) -> Tensor:
    if key.dtype is not torch.int64 or key.ndim != 1 or key.shape[0] not in (1, 2):
        raise _arguments.wrong_value(
            "key",
            "an int64 tensor of shape (1,) or (2,)",
            f"{key.dtype} of shape {tuple(key.shape)}",
        )
    return key


def _computed(dtype: torch.dtype) -> torch.dtype:
    """The type in which a product of inputs of that type is computed."""
    return torch.float64 if dtype is torch.float64 else torch.float32


# --------------------------------------------------------------------------- the operators


def _crossbar_linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    key: Tensor,
    ranges: Tensor | None,
    circuit: str,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    return _outputs(x, fresh_products(x, weight, bias, key, ranges, circuit, save), save)


def _programmed_linear(
    x: Tensor,
    chip: Sequence[Tensor],
    bias: Tensor | None,
    key: Tensor,
    circuit: str,
    handle: int,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    return _outputs(x, programmed_products(x, chip, bias, key, circuit, handle, save), save)


def _outputs(x: Tensor, found: Products, save: bool) -> tuple[Tensor, Tensor, Tensor]:
    """y, the planes and the packed masks, which are empty where there is none."""
    y, inside, arrays = found
    none = torch.empty(0, dtype=torch.uint8, device=x.device)
    planes = plane_weights(arrays) if save else torch.empty(0, dtype=x.dtype, device=x.device)
    return y, planes, none if inside is None else inside


def _shapes(x: Tensor, n: int, k: int, circuit: str, save: bool) -> tuple[Tensor, Tensor, Tensor]:
    """What the operators return, without values; ``n`` outputs in all, ``k`` inputs a group."""
    what = parse(circuit)
    if what.geometry is None:
        y = x.new_empty(*x.shape[:-1], n)
    else:
        size = what.geometry.output_size(tuple(x.shape[2:]))
        y = x.new_empty(len(x), *size, n).movedim(-1, 1)
    if not save:
        return y, x.new_empty(0), x.new_empty(0, dtype=torch.uint8)
    planes = x.new_empty(what.planes, n, k)
    if what.spec.adc_bits is None:
        return y, planes, x.new_empty(0, dtype=torch.uint8)
    passes, width = what.groups * what.passes(k), (n // what.groups + 7) // 8
    return y, planes, x.new_empty(passes, y.numel() // n, width, dtype=torch.uint8)


def _crossbar_linear_fake(
    x: Tensor, weight: Tensor, bias: Any, key: Tensor, ranges: Any, circuit: str, save: bool
) -> tuple[Tensor, Tensor, Tensor]:
    return _shapes(x, len(weight), math.prod(weight.shape[1:]), circuit, save)


def _programmed_linear_fake(
    x: Tensor, chip: Sequence[Tensor], bias: Any, key: Tensor, circuit: str, handle: int, save: bool
) -> tuple[Tensor, Tensor, Tensor]:
    groups, *_, n, k = chip[0].shape
    return _shapes(x, groups * n, k, circuit, save)


# --------------------------------------------------------------------------- gradients


def _crossbar_gradient_fake(
    grad: Tensor, x: Tensor, planes: Tensor, inside: Tensor, weight: Any, row: Any, ranges: Any,
    circuit: str, need_x: bool, need_weight: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    return (
        torch.empty_like(x) if need_x else x.new_empty(0),
        x.new_empty(planes.shape[1:]) if need_weight else x.new_empty(0),
    )


def _gradient(
    ctx: Any, grad: Tensor, saved: Sequence[Tensor], weight: Tensor | None, row: Tensor | None,
    ranges: Tensor | None,
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:  # fmt: skip
    """Of the inputs, the weights where they are given, and the bias."""
    need_x, need_weight = ctx.needs_input_grad[0], weight is not None and ctx.needs_input_grad[1]
    of_x = of_weight = of_bias = None
    if need_x or need_weight:
        of_x, of_weight = torch.ops.noisycells.crossbar_gradient.default(
            grad, *saved, weight, row, ranges, ctx.circuit, need_x, need_weight
        )
    if ctx.needs_input_grad[2]:
        of_bias = bias_gradient(grad, ctx.circuit)
    return of_x if need_x else None, of_weight if need_weight else None, of_bias


# Saved tensors are taken once in a backward: checkpointing allows no more.


def _save_fresh(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, weight, _, _, ranges, ctx.circuit, _ = inputs
    ctx.mark_non_differentiable(*output[1:])
    ctx.save_for_backward(x, *output[1:], weight, ranges)


def _fresh_backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Any, ...]:
    *saved, weight, ranges = ctx.saved_tensors
    of_x, of_weight, of_bias = _gradient(ctx, grad, saved, weight, None, ranges)
    if of_weight is not None:
        of_weight = of_weight.reshape(weight.shape)
    return of_x, of_weight, of_bias, None, None, None, None


def _save_programmed(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, chip, _, _, ctx.circuit, _, _ = inputs
    ctx.mark_non_differentiable(*output[1:])
    ctx.save_for_backward(x, *output[1:], *chip[2:])
    ctx.chip_tensors = len(chip)


def _programmed_backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Any, ...]:
    x, planes, inside, ranges, *row = ctx.saved_tensors
    of_x, _weight, of_bias = _gradient(
        ctx, grad, (x, planes, inside), None, row[0] if row else None, ranges
    )
    return of_x, [None] * ctx.chip_tensors, of_bias, None, None, None, None


def _no_second_order(ctx: Any, *_: Any) -> None:
    got = (
        "a backward through a gradient (create_graph=True, as for gradient penalties and "
        "Hessians); the gradients of noisy products pass straight through converters and cannot "
        "be differentiated again"
    )
    said = _arguments.expectation("first-order gradients", got)
    raise NotImplementedError(f"crossbar layers: {said}")


def _save_nothing(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    """The second derivative is refused."""


# --------------------------------------------------------------------------- vmap


def _one_by_one(name: str) -> Any:
    """A rule for :func:`torch.func.vmap` that calls the operator for each element in turn.

    So a batch of keys gives the same bits as a loop over them.
    """

    def rule(info: Any, dims: tuple[Any, ...], *arguments: Any) -> tuple[Any, Any]:
        operator = getattr(torch.ops.noisycells, name).default
        found = []
        for i in range(info.batch_size):
            one = [_element(a, d, i) for a, d in zip(arguments, dims, strict=True)]
            if name != "crossbar_gradient":  # batched tensors do not tell that they need gradients
                need = any(isinstance(a, Tensor) and a.requires_grad for a in one)
                one[-1] = one[-1] or (need and torch.is_grad_enabled())
            found.append(operator(*one))
        outputs = tuple(torch.stack(part) for part in zip(*found, strict=True))
        return outputs, (0,) * len(outputs)

    return rule


def _element(argument: Any, dim: Any, i: int) -> Any:
    if isinstance(argument, (list, tuple)):
        dims = dim if isinstance(dim, (list, tuple)) else [dim] * len(argument)
        return [_element(a, d, i) for a, d in zip(argument, dims, strict=True)]
    return argument if dim is None else argument.select(dim, i)


for _name, _kernel, _fake in (
    ("crossbar_linear", _crossbar_linear, _crossbar_linear_fake),
    ("programmed_linear", _programmed_linear, _programmed_linear_fake),
    ("crossbar_gradient", product_gradient, _crossbar_gradient_fake),
):
    for _key in ("CPU", "CUDA"):
        _library.impl(_name, _kernel, _key)
    torch.library.register_fake(f"noisycells::{_name}", _fake, lib=_library)
    torch.library.register_vmap(f"noisycells::{_name}", _one_by_one(_name), lib=_library)
for _name, _backward, _save in (
    ("crossbar_linear", _fresh_backward, _save_fresh),
    ("programmed_linear", _programmed_backward, _save_programmed),
    ("crossbar_gradient", _no_second_order, _save_nothing),
):
    torch.library.register_autograd(
        f"noisycells::{_name}", _backward, setup_context=_save, lib=_library
    )
