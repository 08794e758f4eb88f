"""Noise on the weights of a model while it trains or is tested: :func:`inject_noise`."""

from __future__ import annotations

import math
import operator
from collections import deque
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ... import _arguments, random
from ...crossbar import CrossbarSpec
from ...devices import DeviceLike
from ...storage import Codec
from ..checks import Filter, check_module
from .effective import Effective, Weights, find_transform, weights_of
from .kinds import Bounds, Eta, Gaussian, Kind, Programmed, Stored, extent, std

__all__ = ["Noise", "active_noise", "inject_noise"]

_REMEMBERED = 1024  # draws whose forward may still be computed again by a checkpoint


def inject_noise(
    model: nn.Module,
    eta: Eta | Mapping[str, Eta] | None = None,
    norm: str = "range",
    *,
    codec: Codec | None = None,
    device: DeviceLike | None = None,
    spec: CrossbarSpec | None = None,
    seconds: float | None = None,
    filter_fn: Filter | None = None,
    clip: str | float | None = None,
    seed: int | None = None,
) -> Noise:
    """Let a model compute with noisy weights, in place, in train() and eval() alike.

    Each outermost call of the model, or of a part of it, uses one draw of all noisy weights, the
    same in its backward and in what a checkpoint computes again; parameters stay clean, and
    gradients at the noisy weights are theirs (Zhou et al. 2020; none through sigma). The noise is
    one of three:

    - *Gaussian*, of strength ``eta``: ``w + sigma * standard_normal(w.shape, key, stream(name,
      "noise"))``, of :mod:`noisycells.random`, for the parameter ``name``; off the CPU other
      numbers of the same distribution.
    - *Stored* with a ``codec``: written and read back, on a new chip each draw,
      ``codec.transmit(w, chip, w != 0, name=name, chip=chip)``; zeros (pruned) are not stored. A
      codec of scope "model" chooses for all of these parameters together.
    - *Programmed* on a ``device``: what ``Crossbar(w, device, spec, name).program(chip)`` holds, a
      new chip each draw, and ``at(seconds)`` where given. Converters and the noise of reads are
      not in it; :func:`convert` has them.

    The key of draw ``number``, counted from 0, is ``fold_in(seed, number)``, and the chip
    ``fold_in(key, stream("noise"))``, none of those that :func:`evaluate` takes. Processes with the
    same seed have the same draws: give each ``fold_in(seed, rank)`` for draws of its own. Any
    model, optimizer and training loop does; what is made of the model later (``copy.deepcopy``,
    pickle, DistributedDataParallel, ``torch.compile``) is noisy too. Threads must not share it.

    Parameters
    ----------
    model : torch.nn.Module
        Layers added to it later stay clean.
    eta : float, (low, high), callable, or mapping of str to these
        Strength of Gaussian noise, at least 0; uniform in [low, high], or ``eta(key)``, anew for
        every draw (variance-aware training); or one for each parameter by the first pattern (as
        of a shell) that its name matches, the others staying clean.
    norm : {"range", "absmax", "std", "absolute"}
        What eta is relative to, of each parameter as forward uses it: sigma is eta times W_max -
        W_min (Zhou et al. 2020), max |W| (Joshi et al. 2020), the standard deviation of W, or 1
        (the N(0, s) of Isik et al. 2020 has eta s).
    codec : Codec
    device : Device or str
        A device, or its name or JSON file.
    spec : CrossbarSpec, optional
        With ``device``; its mapping, devices for each weight and drift compensation count.
    seconds : float, optional
        Since programming, with ``device``.
    filter_fn : callable, optional
        Parameters for which ``filter_fn(module, name)`` is false stay clean.
    clip : "initial", float or None
        Clip the clean weights, in place, as a draw begins with gradients enabled, that is after
        the optimizer's last step: to their range as of now, which then also gives the sigma of
        norms "range" and "absmax", so that sigma is fixed (Zhou et al. 2020); or to so many
        standard deviations (Joshi et al. 2020).
    seed : int in [0, 2**64), optional
        None: one from torch's generator.

    Returns
    -------
    Noise
        To hold, pause or remove it; also a context manager that removes it at its end.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as said above, the model has nothing to make noisy or has noise
        already; the model is then left as it was.
    """
    check_module(model, to_change=True)
    _check_one_kind(eta, codec, device, spec, seconds)
    if active_noise(model) is not None:
        raise _arguments.wrong_value("model", "one without noise", "a noisy one; remove() it first")
    clip = _check_clip(clip)
    weights = weights_of(model, filter_fn)
    bounds: Bounds = {}
    if clip == "initial":
        bounds |= {name: extent(name, held[0].value) for name, held in weights.items()}
    kind: Kind
    if codec is not None:
        kind = Stored(codec)
    elif device is not None:
        kind = Programmed(device, spec, seconds)
    else:
        assert eta is not None
        kind = Gaussian(eta, norm, weights, bounds)
        weights = {name: weights[name] for name in kind.etas}
    if seed is None:
        seed = int(torch.randint(2**63 - 1, ()).item())
    noise = Noise(kind, weights, clip, bounds, _arguments.seed("seed", seed))
    noise._chain = Effective.attach(model, noise, weights)
    return noise


def active_noise(model: nn.Module) -> Noise | None:
    """The noise of a model, of a part of one, or inside a wrapper of it; None where there is none.

    Parameters
    ----------
    model : torch.nn.Module
    """
    check_module(model)
    found: Noise | None = find_transform(model, Noise)
    return found


class Noise:
    """Handle of the noise of a model; made by :func:`inject_noise`.

    Attributes
    ----------
    seed : int
    draw : int
        Number of the next draw.
    """

    order = 1

    def __init__(
        self,
        kind: Kind,
        weights: Weights,
        clip: str | float | None,
        bounds: Bounds,
        seed: int,
    ) -> None:
        self.kind = kind
        self.names: Collection[str] = tuple(weights)
        self._weights = weights
        self._clip = clip
        self._bounds = bounds  # shared with Gaussian noise
        self.seed = seed
        self.draw = 0
        self._chain: Effective | None = None
        self._paused = False
        self._held: list[int | None] | None = None  # the number; None: of the first forward
        self._number: int | None = None  # of the present forward; None: clean
        self._past: deque[tuple[int, int | None]] = deque(maxlen=_REMEMBERED)  # (end, number)

    # ----------------------------------------------------------------- use

    @contextmanager
    def hold(self, key: int | None = None) -> Iterator[Noise]:
        """The same draw for every forward inside, as over gradient accumulation.

        Parameters
        ----------
        key : int in [0, 2**64), optional
            Number of the draw, which is not counted. Training has the draws from 0 on, so tests
            should take other numbers, such as ``fold_in(seed, i)``. None: the next draw.
        """
        before = self._held
        self._held = [None if key is None else _arguments.seed("key", key)]
        try:
            yield self
        finally:
            self._held = before
            self._forget()

    @contextmanager
    def pause(self) -> Iterator[Noise]:
        """Clean weights inside; no draws are counted."""
        before, self._paused = self._paused, True
        try:
            yield self
        finally:
            self._paused = before

    def remove(self) -> None:
        """End the noise; the parameters are as the optimizer left them.

        What is left to compute again by a checkpoint would be without it: backward comes first.
        """
        if self._chain is not None:
            self._chain.detach(self)
            self._chain = None

    def __enter__(self) -> Noise:
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()

    def report(self) -> list[dict[str, Any]]:
        """The noise of each parameter as it is now.

        Returns
        -------
        list of dict
            ``name``; ``eta`` (of the last draw where it is random, None where there is none);
            ``sigma`` (of other than Gaussian noise: root mean square of the last draw);
            ``relative``, sigma / max |W|; ``to_std``, sigma / standard deviation of W. Weights
            are as they are before the noise, quantized where they are.
        """
        key = random.fold_in(self.seed, max(self.draw - 1, 0))
        rows = []
        with torch.no_grad():
            for name, weight in self._inputs().items():
                eta, sigma = self.kind.strength(name, weight, key)
                low, high = extent(name, weight)
                rows.append({
                    "name": name,
                    "eta": eta,
                    "sigma": sigma,
                    "relative": _ratio(sigma, max(-low, high)),
                    "to_std": _ratio(sigma, std(weight)),
                })  # fmt: skip
        return rows

    def state_dict(self) -> dict[str, Any]:
        """The seed, the number of the next draw and the ranges of ``clip="initial"``."""
        return {"seed": self.seed, "draw": self.draw, "bounds": dict(self._bounds)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on, bit by bit, where :meth:`state_dict` was taken.

        Raises
        ------
        KeyError, TypeError, ValueError
            If ``state`` is not one of noise on the same parameters with the same clipping.
        """
        bounds = {name: (float(lo), float(hi)) for name, (lo, hi) in state["bounds"].items()}
        if bounds.keys() != self._bounds.keys():
            raise _arguments.wrong_value(
                "state", f"bounds of {sorted(self._bounds)}", sorted(bounds)
            )
        seed, draw = _arguments.seed("seed", state["seed"]), operator.index(state["draw"])
        self.seed, self.draw = seed, draw
        self._bounds.update(bounds)
        self._forget()

    # ----------------------------------------------------------------- as a transform

    def begin(self) -> None:
        """Choose the draw of the forward that begins."""
        node = torch._C._current_autograd_node()
        if node is not None:
            self._number = self._number_of(node._sequence_nr())
            return
        if self._paused:
            self._number = None
        elif self._held is None:
            self._number = self._next()
        else:
            if self._held[0] is None:
                self._held[0] = self._next()
            self._number = self._held[0]

    def end(self) -> None:
        """Remember the draw for a checkpoint that computes this forward again."""
        if torch._C._current_autograd_node() is None:
            self._past.append((torch.autograd._get_sequence_nr(), self._number))  # type: ignore[attr-defined]

    def key(self) -> Hashable | None:
        """Only held draws come again."""
        return None if self._paused or self._held is None else (self.seed, self._number)

    def __call__(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """The noisy weights of the present draw."""
        if self._number is None:
            return weights
        with torch.inference_mode(False), torch.no_grad():
            noisy = self.kind.draw(weights, random.fold_in(self.seed, self._number))
        instead: Callable[[Tensor, Tensor], Tensor] = _Instead.apply
        return {name: instead(weights[name], value) for name, value in noisy.items()}

    def _next(self) -> int:
        number = self.draw
        self.draw += 1
        if torch.is_grad_enabled():
            self._clip_weights()
        return number

    def _number_of(self, sequence: int) -> int | None:
        """The draw of the forward that made the node of autograd with that sequence number.

        Nodes are numbered as they are made, so it is the first to end after this one; if none did,
        the node is of the forward under way.
        """
        return next((number for end, number in self._past if sequence < end), self._number)

    @torch.no_grad()
    def _clip_weights(self) -> None:
        if self._clip is None:
            return
        for name, held in self._weights.items():
            weight = held[0].parameter
            if isinstance(self._clip, float):
                bound = self._clip * std(held[0].value)
                weight.clamp_(-bound, bound)
            else:
                weight.clamp_(*self._bounds[name])

    def _inputs(self) -> dict[str, Tensor]:
        """Weights as they are before the noise."""
        if self._chain is None:
            raise _arguments.wrong_state("noise", "one that is in use", "one that was removed")
        return self._chain.values(before=self)

    def _forget(self) -> None:
        if self._chain is not None:
            self._chain.forget()

    def __getstate__(self) -> dict[str, Any]:
        """A copy is neither held nor paused, and has no forward to compute again."""
        fresh = deque[Any](maxlen=_REMEMBERED)
        return vars(self) | {"_held": None, "_paused": False, "_past": fresh}

    def __repr__(self) -> str:
        return (
            f"Noise({type(self.kind).__name__}, {len(self.names)} parameters, seed={self.seed}, "
            f"draw={self.draw})"
        )


class _Instead(torch.autograd.Function):
    """Another tensor in place of a weight, whose gradient is the weight's."""

    @staticmethod
    def forward(weight: Tensor, value: Tensor) -> Tensor:
        return value.detach()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


def _ratio(a: float, b: float) -> float:
    return a / b if b else math.inf if a else 0.0


def _check_one_kind(eta: Any, codec: Any, device: Any, spec: Any, seconds: Any) -> None:
    given = [argument for argument in (eta, codec, device) if argument is not None]
    if len(given) != 1:
        raise _arguments.wrong_kind("eta, codec, device", "one of them", len(given))
    if device is None and (spec is not None or seconds is not None):
        raise _arguments.wrong_kind("spec, seconds", "them with device only", "no device")


def _check_clip(clip: Any) -> str | float | None:
    if clip is None or clip == "initial":
        found: str | None = clip
        return found
    if isinstance(clip, str):
        raise _arguments.wrong_value(
            "clip", "'initial', a positive number of standard deviations or None", repr(clip)
        )
    return _arguments.number("clip", clip, above=0)
