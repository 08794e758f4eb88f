"""Noise on the weights of a model while it trains or is tested: :func:`inject_noise`."""

from __future__ import annotations

import math
import operator
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from .. import random
from .effective import Effective, Filter, Weights, find_transform, weights_of

__all__ = ["Noise", "active_noise", "inject_noise"]

Eta = float | tuple[float, float] | Callable[[int], float]

_NORMS = ("range", "absmax", "std", "absolute")
_REMEMBERED = 1024  # draws whose forward may still be computed again by a checkpoint


def inject_noise(
    model: nn.Module,
    eta: Eta | Mapping[str, Eta] | None = None,
    norm: str = "range",
    *,
    filter_fn: Filter | None = None,
    clip: str | float | None = None,
    seed: int | None = None,
) -> Noise:
    """Let a model compute with noisy weights, in place, in train() and eval() alike.

    Each outermost forward uses one draw of all noisy weights, the same in its backward and in
    what a checkpoint computes again; parameters stay clean, and gradients at the noisy weights
    are theirs (Zhou et al. 2020; none through sigma). Gaussian noise is
    ``w + sigma * standard_normal(w.shape, fold_in(seed, number), stream(name, "noise"))``
    (of :mod:`noisycells.random`) for draw ``number``, counted from 0, of the parameter ``name``;
    off the CPU other numbers of the same distribution. Any model, optimizer and training loop
    does. What is made of the model later (``copy.deepcopy``, pickle, DistributedDataParallel,
    ``torch.compile``) has the noise too; processes with the same seed have the same draws, so give
    each ``fold_in(seed, rank)`` for draws of its own. Threads must not share a model.

    Parameters
    ----------
    model : torch.nn.Module
        Layers added to it later stay clean.
    eta : float, (low, high), callable, or mapping of str to these
        Strength of the noise, at least 0; uniform in [low, high], or ``eta(seed of the draw)``,
        anew for every draw (variance-aware training); or one for each parameter by the first
        pattern (as of a shell) that its name matches, the others staying clean.
    norm : {"range", "absmax", "std", "absolute"}
        What eta is relative to, of each parameter as forward uses it: sigma is eta times W_max -
        W_min (Zhou et al. 2020), max |W| (Joshi et al. 2020), the standard deviation of W, or 1
        (the N(0, s) of Isik et al. 2020 has eta s).
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
    noise = Noise(model, eta, norm, filter_fn, clip, seed)
    noise._chain = Effective.attach(model, noise, noise._weights)
    return noise


def active_noise(model: nn.Module) -> Noise | None:
    """The noise of a model, of a part of one, or inside a wrapper of it; None where there is none.

    Parameters
    ----------
    model : torch.nn.Module
    """
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
        model: nn.Module,
        eta: Eta | Mapping[str, Eta] | None,
        norm: str,
        filter_fn: Filter | None,
        clip: str | float | None,
        seed: int | None,
    ) -> None:
        if norm not in _NORMS:
            raise ValueError(f"norm: expected one of {', '.join(_NORMS)}, got {norm!r}")
        if active_noise(model) is not None:
            raise ValueError("model: expected one without noise, got a noisy one; remove() it")
        self.norm = norm
        weights = weights_of(model, filter_fn)
        self._eta = _etas(eta, weights)
        self._weights: Weights = {name: weights[name] for name in self._eta}
        self.names = tuple(self._weights)
        self._clip = _check_clip(clip)
        self._bounds = {
            name: _extent(name, held[0].parameter.detach())
            for name, held in self._weights.items()
            if clip == "initial"
        }
        if seed is None:
            seed = int(torch.randint(2**63 - 1, ()).item())
        self.seed = random.check_seed("seed", seed)
        self.draw = 0
        self._chain: Effective | None = None
        self._paused = False
        self._held: list[int | None] | None = None  # the number; None: of the first forward
        self._number: int | None = None  # of the present forward; None: clean
        self._past: deque[tuple[int, int | None]] = deque(maxlen=_REMEMBERED)

    # ----------------------------------------------------------------- use

    @contextmanager
    def hold(self, key: int | None = None) -> Iterator[Noise]:
        """The same draw for every forward inside, as over gradient accumulation.

        Parameters
        ----------
        key : int in [0, 2**64), optional
            Number of the draw; forwards without it are counted on as if there were none inside.
            Training has the draws from 0 on: tests should take large numbers, such as
            ``fold_in(seed, i)``. None: the next draw.
        """
        before = self._held
        self._held = [None if key is None else random.check_seed("key", key)]
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
        """End the noise; the parameters are as the optimizer left them."""
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
            ``name``; ``eta`` (of the last draw where it is random); ``sigma``; ``relative``,
            sigma / max |W|; ``to_std``, sigma / standard deviation of W. Weights are as they are
            before the noise, quantised where they are.
        """
        key = random.fold_in(self.seed, max(self.draw - 1, 0))
        rows = []
        for name, weight in self._inputs().items():
            eta = _resolve(self._eta[name], key)
            sigma = eta * self._unit(name, weight)
            low, high = _extent(name, weight)
            rows.append({
                "name": name,
                "eta": eta,
                "sigma": sigma,
                "relative": _ratio(sigma, max(-low, high)),
                "to_std": _ratio(sigma, _std(weight)),
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
            raise ValueError(
                f"state: expected bounds of {sorted(self._bounds)}, got {sorted(bounds)}"
            )
        seed, draw = random.check_seed("seed", state["seed"]), operator.index(state["draw"])
        self.seed, self.draw, self._bounds = seed, draw, bounds
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
        # A node of autograd that is already there runs this forward if gradients are off.
        first = torch.autograd._get_sequence_nr() - (not torch.is_grad_enabled())
        self._past.append((first, self._number))

    def key(self) -> Hashable | None:
        """Only held draws come again."""
        return None if self._paused or self._held is None else (self.seed, self._number)

    def __call__(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """The noisy weights of the present draw."""
        if self._number is None:
            return weights
        with torch.inference_mode(False), torch.no_grad():
            noisy = self._draw(weights, random.fold_in(self.seed, self._number))
        return {name: _Instead.apply(weights[name], value) for name, value in noisy.items()}

    def _next(self) -> int:
        number = self.draw
        self.draw += 1
        if torch.is_grad_enabled():
            self._clip_weights()
        return number

    def _number_of(self, sequence: int) -> int | None:
        """The draw of the forward that made the node of autograd with that sequence number."""
        numbers = (number for first, number in reversed(self._past) if first <= sequence)
        return next(numbers, self._number)

    def _draw(self, weights: dict[str, Tensor], key: int) -> dict[str, Tensor]:
        noisy = {}
        for name, weight in weights.items():
            sigma = _resolve(self._eta[name], key) * self._unit(name, weight)
            z = _standard_normal(weight, key, random.stream(name, "noise"))
            noisy[name] = z.mul_(sigma).add_(weight).to(weight.dtype)
        return noisy

    def _unit(self, name: str, weight: Tensor) -> float:
        """Sigma for eta = 1."""
        if self.norm == "absolute":
            return 1.0
        if self.norm == "std":
            return _std(weight)
        low, high = self._bounds.get(name) or _extent(name, weight)
        return high - low if self.norm == "range" else max(-low, high)

    @torch.no_grad()
    def _clip_weights(self) -> None:
        if self._clip is None:
            return
        for name, held in self._weights.items():
            weight = held[0].parameter
            if isinstance(self._clip, float):
                bound = self._clip * _std(weight)
                weight.clamp_(-bound, bound)
            else:
                weight.clamp_(*self._bounds[name])

    def _inputs(self) -> dict[str, Tensor]:
        """Weights as they are before the noise."""
        if self._chain is None:
            raise RuntimeError("noise: expected one that is in use, got one that was removed")
        with torch.no_grad():
            return self._chain.values(before=self)

    def _forget(self) -> None:
        if self._chain is not None:
            self._chain.forget()

    def __repr__(self) -> str:
        return (
            f"Noise({len(self.names)} parameters, norm={self.norm!r}, seed={self.seed}, "
            f"draw={self.draw})"
        )


class _Instead(torch.autograd.Function):
    """Another tensor in place of a weight, whose gradient is the weight's."""

    @staticmethod
    def forward(weight: Tensor, value: Tensor) -> Tensor:  # type: ignore[override]
        return value.detach()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return gradient, None


# --------------------------------------------------------------------------- numbers


def _standard_normal(like: Tensor, key: int, stream: int) -> Tensor:
    """Standard normals of the shape, device and strides of ``like``; float32, or float64."""
    dtype = torch.promote_types(like.dtype, torch.float32)
    if like.device.type == "cpu":
        z = torch.empty(like.shape)
        random.standard_normal(tuple(like.shape), key, stream, out=z.numpy())
        if like.is_contiguous() and dtype == torch.float32:
            return z
        return torch.empty_like(like, dtype=dtype).copy_(z)
    generator = torch.Generator(like.device).manual_seed(random.fold_in(key, stream))
    return torch.empty_like(like, dtype=dtype).normal_(generator=generator)


def _extent(name: str, weight: Tensor) -> tuple[float, float]:
    """Smallest and largest weight.

    Raises
    ------
    ValueError
        If a weight is NaN or infinite.
    """
    low, high = (float(value) for value in torch.aminmax(weight))
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"model: expected finite weights, got NaN or infinity in {name!r}")
    return low, high


def _std(weight: Tensor) -> float:
    return float(weight.float().std(correction=0))


def _ratio(a: float, b: float) -> float:
    return a / b if b else math.inf if a else 0.0


# --------------------------------------------------------------------------- arguments


def _etas(eta: Eta | Mapping[str, Eta] | None, weights: Weights) -> dict[str, Eta]:
    """By name of the parameter; those that no pattern matches are left out."""
    if not isinstance(eta, Mapping):
        return dict.fromkeys(weights, _check_eta(eta))
    found = {}
    unused = set(eta)
    for name in weights:
        matching = [pattern for pattern in eta if fnmatchcase(name, pattern)]
        unused -= set(matching)
        if matching:
            found[name] = _check_eta(eta[matching[0]])
    if unused or not found:
        raise ValueError(f"eta: expected patterns that match a weight, got {sorted(unused)}")
    return found


def _check_eta(eta: Any) -> Eta:
    if callable(eta):
        return eta  # type: ignore[no-any-return]
    try:
        values = tuple(float(value) for value in (eta if isinstance(eta, tuple) else (eta,)))
    except TypeError:
        values = ()
    if len(values) not in (1, 2) or not 0 <= values[0] <= values[-1] < math.inf:
        raise ValueError(
            "eta: expected a number of at least 0, a pair (low, high) of them in ascending order, "
            f"or a callable, got {eta!r}"
        )
    return values[0] if len(values) == 1 else values


def _resolve(eta: Eta, key: int) -> float:
    """Eta of the draw with that seed."""
    if callable(eta):
        return float(eta(key))
    if isinstance(eta, tuple):
        low, high = eta
        return low + (high - low) * random.fold_in(key, random.stream("eta")) / 2**64
    return eta


def _check_clip(clip: Any) -> str | float | None:
    if clip is None or clip == "initial":
        return clip  # type: ignore[no-any-return]
    if isinstance(clip, str) or not 0 < float(clip) < math.inf:
        raise ValueError(
            f"clip: expected 'initial', a positive number of standard deviations or None, "
            f"got {clip!r}"
        )
    return float(clip)
