"""Training on noisy crossbars by the clean model's outputs, for any model: :func:`adapt`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from ... import _arguments
from ..checks import check_module
from ..crossbar.adapter import LowRankAdapter
from ..crossbar.layers import CrossbarLayer
from ..crossbar.selection import required
from ..inputs import call, each_batch, has_logits, inputs_of, mask_of, moved, tensor_of
from ..measure.evaluate import without_noise
from ..modes import evaluating
from .distill import check_temperature
from .fit import device_of, seeded

__all__ = ["adapt", "hardware_aware", "imitation_loss"]

OUTPUTS = ("classes", "values")
LINES = 10  # that are printed, at most
WARM_UP = 0.05  # of the steps


def adapt(
    model: nn.Module,
    batches: Any,
    teacher: nn.Module | None = None,
    *,
    rank: int | None = None,
    epochs: int = 1,
    outputs: str | None = None,
    temperature: float = 1.0,
    optimizer: Callable[[Iterable[nn.Parameter]], Optimizer] | None = None,
    seed: int = 0,
    quiet: bool = False,
) -> tuple[float, ...]:
    """Train a converted model, in place, to give on noisy crossbars what the clean one gives.

    Without ``rank`` the model's parameters that take gradients are trained, with fresh chips in
    every step, so that any chip will do (hardware-aware training: Joshi et al., Nat. Commun.
    2020); a model with a chip then gets it again, programmed with the new weights by the same seed,
    as old as it was. With ``rank`` all of them are frozen, and each layer gets a
    :class:`LowRankAdapter`, or goes on with the one that it has: trained on the chip where there
    is one, for this chip, else on fresh ones, for any. Full scales of DACs that were calibrated
    are learnt where chips are fresh, see :func:`hardware_aware`.

    Everything but crossbar layers is in ``eval()`` meanwhile. The gradients are those of
    :func:`crossbar_linear`; the learning rate rises for a twentieth of the steps and then falls to
    0. Progress is printed.

    Parameters
    ----------
    model : torch.nn.Module
        Converted, programmed or not.
    batches
        As for :func:`calibrate`; they are kept in memory. Labels are not used.
    teacher : torch.nn.Module, optional
        Gives outputs of the same shape. Default: the model itself as it is now, with digital
        products and without adapters, whose outputs for all batches are kept.
    rank : int, optional
        Of the adapters, at least 1.
    epochs : int
        Passes over the batches, in an order drawn anew for each.
    outputs, temperature
        As for :func:`imitation_loss`.
    optimizer : callable, optional
        Makes the optimizer of the parameters. Default: AdamW without weight decay at 1e-4; at 1e-3
        with ``rank`` where no layer has an adapter yet: it would undo what :func:`correct` found.
    seed : int in [0, 2**64)
        Of the order, the chips and the noise. The state of torch's generators is left as it was.
    quiet : bool
        Print nothing.

    Returns
    -------
    tuple of float
        The loss of each step.

    Raises
    ------
    TypeError, ValueError
        If the model has no crossbar layers, there is nothing to train, or an argument is not as
        said above.
    """
    check_module(model)
    if teacher is not None:
        check_module(teacher, "teacher")
    epochs = _arguments.count("epochs", epochs)
    device = device_of(model)
    data = [
        moved(inputs_of("batches", model, one), device) for one in each_batch("batches", batches)
    ]
    if not data:
        raise _arguments.wrong_value("batches", "at least one batch", "none")
    optimizer = optimizer or _adamw(model, rank)
    losses: list[float] = []
    with ExitStack() as stack:
        stack.enter_context(seeded(seed, device))
        targets = _targets(model, teacher, data)
        parameters = stack.enter_context(hardware_aware(model, rank))
        stack.enter_context(_fresh_chips(model))
        stack.enter_context(torch.enable_grad())
        stepper = optimizer(parameters)
        steps = epochs * len(data)
        schedule = torch.optim.lr_scheduler.LambdaLR(stepper, lambda step: _share(step, steps))
        report = _Report(steps, quiet)
        for _ in range(epochs):
            for i in torch.randperm(len(data)).tolist():
                output, mask = call(model, data[i]), mask_of(data[i])
                loss = imitation_loss(output, targets(i), mask, outputs, temperature)
                stepper.zero_grad()
                loss.backward()
                stepper.step()
                schedule.step()
                losses.append(loss.item())
                report.step(losses)
    return tuple(losses)


def hardware_aware(
    model: nn.Module, rank: int | None = None
) -> AbstractContextManager[list[nn.Parameter]]:
    """Have a converted model ready for training in a loop of one's own; gives what is trained.

    Meanwhile ``requires_grad`` is that of what :func:`adapt` trains: with ``rank`` adapters
    alone, else the parameters that took gradients before; and of calibrated DACs' full scales,
    where chips are fresh, a factor each (straight through the rounding and with the gradient of
    what is clipped: Esser et al., "Learned step size quantization", ICLR 2020). With ``rank``,
    layers with a chip compute with it in ``train()`` too. At the end, that of an error or
    interruption too, factors become part of the ranges, chips whose weights were trained are
    programmed again, and ``requires_grad`` is as before::

        with nct.hardware_aware(model, rank=8) as parameters:
            optimizer = torch.optim.AdamW(parameters, 1e-3)
            ...  # any loop, such as Trainer(model, ..., optimizers=(optimizer, None)).train()

    Parameters
    ----------
    model : torch.nn.Module
        Converted, programmed or not.
    rank : int, optional
        At least 1.

    Returns
    -------
    context manager of list of torch.nn.Parameter

    Raises
    ------
    TypeError, ValueError
        If the model has no crossbar layers, or there is nothing to train.
    """
    check_module(model)
    required(model)
    if rank is not None:
        rank = _arguments.count("rank", rank)
    elif not any(parameter.requires_grad for parameter in model.parameters()):
        raise _arguments.wrong_value("model", "parameters that take gradients", "none")
    return _training(model, rank)


@contextmanager
def _training(model: nn.Module, rank: int | None) -> Iterator[list[nn.Parameter]]:
    layers = required(model)
    before = [(p, p.requires_grad) for p in model.parameters()]
    found = [p for p, needed in before if needed] if rank is None else []
    try:
        if rank is not None:
            for parameter, _ in before:
                parameter.requires_grad_(False)
            for layer in layers.values():
                found += _adapted(layer, rank)
        for layer in layers.values():
            found += _scaled(layer)
        yield found
    finally:
        for layer in layers.values():
            layer.keep_chip = False
            _fold_scale(layer)
        for parameter, needed in before:
            parameter.requires_grad_(needed)
        for layer in layers.values():
            if layer.stale:
                layer.program_again()


def imitation_loss(
    output: Any,
    target: Any,
    mask: Tensor | None = None,
    outputs: str | None = None,
    temperature: float = 1.0,
) -> Tensor:
    """How far a model's output is from the teacher's, whatever it is.

    Of "classes", logits (..., classes), T^2 KL(softmax(target / T) || softmax(output / T)) in nats,
    the mean over all but the last dimension (Hinton et al. 2015). Of "values", embeddings or
    sequences of them, sum (output - target)^2 / sum target^2.

    Parameters
    ----------
    output, target : Tensor or object
        Of one shape; objects with ``logits`` or a ``last_hidden_state``, such as those of
        transformers. None of the gradient goes to the target.
    mask : Tensor, optional
        Of the leading dimensions, such as the ``attention_mask`` (batch, tokens); what is 0 does
        not count. Outputs that do not begin with its shape are taken whole.
    outputs : {"classes", "values"}, optional
        Default: "classes" for objects with logits.
    temperature : float
        T, from 1e-6 to 1e6.

    Returns
    -------
    Tensor
        A scalar.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as said above.
    """
    kind = ("classes" if has_logits(output) else "values") if outputs is None else outputs
    _arguments.choice("outputs", kind, OUTPUTS)
    t = check_temperature(temperature)
    found, wanted = tensor_of(output), tensor_of(target).detach()
    if found.shape != wanted.shape:
        raise _arguments.wrong_value(
            "target", f"the shape of the output, {tuple(found.shape)}", tuple(wanted.shape)
        )
    if mask is not None and found.ndim > mask.ndim and found.shape[: mask.ndim] == mask.shape:
        counted = mask.to(found.device) != 0
        found, wanted = found[counted], wanted[counted]
    if not wanted.numel():
        raise _arguments.wrong_value("target", "something that counts", "none")
    found, wanted = found.float(), wanted.float()
    if kind == "values":
        largest = wanted.abs().max()  # float32 may not hold squares of what it holds
        if largest == 0:
            raise _arguments.wrong_value("target", "values other than 0", "zeros")
        found, wanted = found / largest, wanted / largest
        return (found - wanted).square().sum() / wanted.square().sum()
    log_p, log_q = (wanted / t).log_softmax(-1), (found / t).log_softmax(-1)
    return t**2 * F.kl_div(log_q, log_p, log_target=True, reduction="none").sum(-1).mean()


# --------------------------------------------------------------------------- what is trained


def _adapted(layer: CrossbarLayer, rank: int) -> list[nn.Parameter]:
    """The parameters of the layer's adapter, which is made where there is none of this rank."""
    of_chip = layer.chip_seed is not None
    fresh = LowRankAdapter(layer, rank, of_chip)
    known = layer.adapter
    if known is None or known.up.shape != fresh.up.shape or known.of_chip is not of_chip:
        layer.set_adapter(known := fresh)
    layer.keep_chip = of_chip
    known.requires_grad_()
    return list(known.parameters())


def _scaled(layer: CrossbarLayer) -> list[nn.Parameter]:
    """A factor of the calibrated full scale of the DACs, 1 for now, unless the chip is kept."""
    if layer.keep_chip or layer.ranges is None or layer.spec.dac_range != "calibrated":
        return []
    layer.input_log_scale = nn.Parameter(layer.ranges.new_zeros(()))
    return [layer.input_log_scale]


@torch.no_grad()
def _fold_scale(layer: CrossbarLayer) -> None:
    if layer.input_log_scale is not None:
        assert layer.ranges is not None
        ranges = layer.ranges.clone()
        ranges[:, 0] *= layer.input_log_scale.exp()
        layer.ranges, layer.input_log_scale = ranges, None


# --------------------------------------------------------------------------- the loop


def _targets(
    model: nn.Module, teacher: nn.Module | None, data: list[Any]
) -> Callable[[int], Tensor]:
    """What the teacher gives for each batch; of the model itself, now."""
    if teacher is None:
        with without_noise(model):
            known = [tensor_of(call(model, inputs)) for inputs in data]
        return lambda i: known[i]

    def answer(i: int) -> Tensor:
        with evaluating(teacher), torch.no_grad():
            return tensor_of(call(teacher, moved(data[i], device_of(teacher))))

    return answer


@contextmanager
def _fresh_chips(model: nn.Module) -> Iterator[None]:
    """Crossbar layers in training mode, and everything else in evaluation."""
    with evaluating(model):
        for layer in required(model).values():
            layer.training = True
        yield


def _adamw(model: nn.Module, rank: int | None) -> Callable[[Iterable[nn.Parameter]], Optimizer]:
    fresh = rank is not None and all(layer.adapter is None for layer in required(model).values())
    rate = 1e-3 if fresh else 1e-4
    return lambda parameters: torch.optim.AdamW(parameters, rate, weight_decay=0.0)


def _share(step: int, steps: int) -> float:
    """Of the learning rate."""
    return min((step + 1) / max(1.0, WARM_UP * steps), (steps - step) / steps, 1.0)


class _Report:
    """Lines of progress: step, mean loss since the last line, and the time."""

    def __init__(self, steps: int, quiet: bool) -> None:
        self.steps, self.quiet = steps, _arguments.flag("quiet", quiet)
        self.start, self.seen = time.perf_counter(), 0

    def step(self, losses: list[float]) -> None:
        """One more was taken."""
        step = len(losses)
        if self.quiet or (step * LINES // self.steps) == ((step - 1) * LINES // self.steps):
            return
        new = losses[self.seen :]
        self.seen = step
        passed = time.perf_counter() - self.start
        print(f"step {step} of {self.steps}, loss {sum(new) / len(new):.4g}, {passed:.0f} s")
