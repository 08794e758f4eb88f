"""Attention and recurrent layers as modules of linear layers, which crossbars can then compute.

:class:`torch.nn.MultiheadAttention`, :class:`torch.nn.LSTM`, :class:`torch.nn.GRU` and
:class:`torch.nn.RNN` hold their weights themselves and multiply with them in one fused call.
:func:`take_apart` gives them linear layers instead, with the same parameters, in place, and
:func:`put_together` undoes it. What they compute stays the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ... import _arguments
from .layers import CrossbarLayer
from .operator import new_key

__all__ = ["AttentionOfLinears", "RecurrenceOfLinears", "parts", "put_together", "take_apart"]


def parts(module: nn.Module) -> dict[str, tuple[str, str | None]]:
    """For the name of each linear layer that ``module`` can have, its weight's and bias's names.

    Empty for other modules than those named above.
    """
    if type(module) is nn.MultiheadAttention:
        if module.in_proj_weight is not None:
            return {"in_proj": ("in_proj_weight", None)}
        return {f"{p}_proj": (f"{p}_proj_weight", None) for p in "qkv"}
    if type(module) in (nn.LSTM, nn.GRU, nn.RNN):
        found = {}
        for part in _suffixes(cast(nn.RNNBase, module)):
            for name, weight, bias in (
                ("input", "weight_ih", "bias_ih"),
                ("hidden", "weight_hh", "bias_hh"),
            ):
                found[name + part] = (weight + part, bias + part if module.bias else None)
            if cast(nn.RNNBase, module).proj_size:
                found["projection" + part] = ("weight_hr" + part, None)
        return found
    return {}


def check(module: nn.Module) -> None:
    """Refuse a module that uses what :func:`take_apart` does not know."""
    if isinstance(module, nn.MultiheadAttention) and (
        module.bias_k is not None or module.add_zero_attn
    ):
        raise _arguments.wrong_value(
            "model",
            "nn.MultiheadAttention with add_bias_kv=False and add_zero_attn=False",
            "one with one of them",
        )


def linear_part(module: nn.Module, weight: str, bias: str | None) -> nn.Linear:
    """A linear layer of two of the module's parameters."""
    w = getattr(module, weight)
    linear = nn.Linear(w.shape[1], w.shape[0], bias is not None, device="meta")
    linear.weight = w
    if bias is not None:
        linear.bias = getattr(module, bias)
    return linear.train(module.training)


def take_apart(module: nn.Module) -> None:
    """Give ``module`` linear layers of its own parameters, in place."""
    for name, (weight, bias) in parts(module).items():
        module.add_module(name, linear_part(module, weight, bias))
        setattr(module, weight, None)
        if bias is not None:
            setattr(module, bias, None)
    if isinstance(module, nn.MultiheadAttention):
        # Not a plain Linear there, but one in all that it does.
        cast(Any, module.out_proj).__class__ = nn.Linear
        cast(Any, module).__class__ = AttentionOfLinears
    else:
        cast(Any, module).mode_of_linears = cast(nn.RNNBase, module).mode
        module.__class__ = RecurrenceOfLinears


def put_together(module: nn.Module) -> None:
    """Undo :func:`take_apart`; the linear layers must be digital again."""
    if isinstance(module, AttentionOfLinears):
        cast(Any, module).__class__ = nn.MultiheadAttention
        module.out_proj.__class__ = nn.modules.linear.NonDynamicallyQuantizableLinear
        names = ["in_proj"] if hasattr(module, "in_proj") else ["q_proj", "k_proj", "v_proj"]
        for name in names:
            setattr(module, name + "_weight", getattr(module, name).weight)
            delattr(module, name)
    elif isinstance(module, RecurrenceOfLinears):
        classes = {"LSTM": nn.LSTM, "GRU": nn.GRU}
        module.__class__ = classes.get(module.mode, nn.RNN)
        for name, (weight, bias) in parts(module).items():
            linear = getattr(module, name)
            delattr(module, name)
            setattr(module, weight, linear.weight)
            if bias is not None:
                setattr(module, bias, linear.bias)
        del module.mode_of_linears
        module.flatten_parameters()


# --------------------------------------------------------------------------- attention


class AttentionOfLinears(nn.MultiheadAttention):
    """:class:`torch.nn.MultiheadAttention` whose products are those of its linear layers."""

    in_proj: nn.Linear
    q_proj: nn.Linear
    k_proj: nn.Linear
    v_proj: nn.Linear

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As :meth:`torch.nn.MultiheadAttention.forward`."""
        if is_causal and attn_mask is None:
            raise _arguments.wrong_value("attn_mask", "a mask with is_causal=True", "None")
        batched = query.ndim == 3
        same, same_value = query is key and key is value, key is value
        axis = 0 if self.batch_first or not batched else 1

        def batch_first(t: Tensor) -> Tensor:
            return t.unsqueeze(0) if not batched else t.movedim(axis, 0)

        q = batch_first(query)
        k = q if same else batch_first(key)
        v = k if same_value else batch_first(value)
        q, k, v = (
            p.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for p in self._projected(q, k, v)
        )
        mask = self._mask(q, attn_mask, key_padding_mask, batched)
        dropout = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            scores = q @ k.mT * self.head_dim**-0.5
            weights = (scores if mask is None else scores + mask).softmax(-1)
            weights = F.dropout(weights, dropout)
            y = weights @ v
            weights = weights.mean(1) if average_attn_weights else weights
            weights = weights if batched else weights.squeeze(0)
        else:
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        y = self.out_proj(y.transpose(1, 2).flatten(2))
        return (y.movedim(0, axis) if batched else y.squeeze(0)), weights

    def _projected(self, q: Tensor, k: Tensor, v: Tensor) -> list[Tensor]:
        if not hasattr(self, "in_proj"):
            found = [self.q_proj(q), self.k_proj(k), self.v_proj(v)]
        else:  # outputs that an input is not for are not read
            of_q = self.in_proj(q).chunk(3, -1)
            of_k = of_q if k is q else self.in_proj(k).chunk(3, -1)
            of_v = of_k if v is k else self.in_proj(v).chunk(3, -1)
            found = [of_q[0], of_k[1], of_v[2]]
        if self.in_proj_bias is None:
            return found
        biases = self.in_proj_bias.chunk(3)
        return [y + bias for y, bias in zip(found, biases, strict=True)]

    def _mask(
        self, q: Tensor, attn_mask: Tensor | None, padding: Tensor | None, batched: bool
    ) -> Tensor | None:
        """Both masks as one that is added, broadcasting over (batch, heads, queries, keys)."""

        def added(mask: Tensor) -> Tensor:
            if mask.dtype is not torch.bool:
                return mask.to(q.dtype)
            return torch.zeros_like(mask, dtype=q.dtype).masked_fill_(mask, float("-inf"))

        total = None
        if attn_mask is not None:
            total = added(attn_mask)
            if total.ndim == 3:
                total = total.unflatten(0, (q.shape[0], self.num_heads))
        if padding is not None:
            keys = added(padding if batched else padding.unsqueeze(0))[:, None, None]
            total = keys if total is None else total + keys
        return total


# --------------------------------------------------------------------------- recurrence


def _suffixes(module: nn.RNNBase) -> list[str]:
    directions = ("", "_reverse") if module.bidirectional else ("",)
    return [f"_l{layer}{d}" for layer in range(module.num_layers) for d in directions]


class RecurrenceOfLinears(nn.RNNBase):
    """:class:`torch.nn.LSTM`, GRU or RNN whose products are those of its linear layers.

    All steps of a forward use the same chip, also in ``train()``, where each is programmed again
    and its noisy weights are kept for the gradient.
    """

    mode_of_linears: str

    def flatten_parameters(self) -> None:
        """Nothing to do."""

    def forward(self, input: Tensor, hx: Any = None) -> tuple[Tensor, Any]:
        """As :meth:`torch.nn.LSTM.forward`, GRU and RNN; packed sequences are refused."""
        if not isinstance(input, Tensor):
            raise _arguments.wrong_type("input", "a Tensor", input)
        batched = input.ndim == 3
        if not batched:
            x = input.unsqueeze(1)
        else:
            x = input.transpose(0, 1) if self.batch_first else input
        if not len(x):
            raise _arguments.wrong_value(
                "input", "a sequence of at least one step", f"shape {tuple(input.shape)}"
            )
        states = self._states(x, hx, batched)
        last = []
        suffixes = _suffixes(self)
        directions = 2 if self.bidirectional else 1
        for layer in range(self.num_layers):
            outputs = []
            for d in range(directions):
                i = layer * directions + d
                steps, state = self._run(x, [s[i] for s in states], suffixes[i], reverse=d == 1)
                outputs.append(steps)
                last.append(state)
            x = torch.cat(outputs, -1)
            if layer < self.num_layers - 1:
                x = F.dropout(x, self.dropout, self.training)
        finals = [torch.stack(parts) for parts in zip(*last, strict=True)]
        if not batched:
            x, finals = x.squeeze(1), [f.squeeze(1) for f in finals]
        elif self.batch_first:
            x = x.transpose(0, 1)
        return x, tuple(finals) if self.mode == "LSTM" else finals[0]

    def _states(self, x: Tensor, hx: Any, batched: bool) -> list[Tensor]:
        """Initial states, (layers * directions, batch, size) each."""
        if hx is not None:
            given = list(hx) if self.mode == "LSTM" else [hx]
            return given if batched else [h.unsqueeze(1) for h in given]
        lead = (self.num_layers * (2 if self.bidirectional else 1), x.shape[1])
        sizes = [self.proj_size or self.hidden_size]
        if self.mode == "LSTM":
            sizes.append(self.hidden_size)
        return [x.new_zeros(*lead, size) for size in sizes]

    def _run(
        self, x: Tensor, state: list[Tensor], suffix: str, *, reverse: bool
    ) -> tuple[Tensor, list[Tensor]]:
        """All steps of one layer in one direction, and the last state."""
        driven = getattr(self, "input" + suffix)(x)
        hidden = self._stepper("hidden" + suffix)
        projection = self._stepper("projection" + suffix) if self.proj_size else None
        order = range(len(x))
        steps: list[Tensor] = []
        for t in reversed(order) if reverse else order:
            state = self._step(driven[t], hidden(state[0]), state)
            if projection is not None:
                state[0] = projection(state[0])
            steps.append(state[0])
        return torch.stack(steps[::-1] if reverse else steps), state

    def _step(self, driven: Tensor, fed_back: Tensor, state: list[Tensor]) -> list[Tensor]:
        if self.mode == "LSTM":
            i, f, g, o = (driven + fed_back).chunk(4, -1)
            c = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
            return [o.sigmoid() * c.tanh(), c]
        if self.mode == "GRU":
            (r, z, n), (hr, hz, hn) = driven.chunk(3, -1), fed_back.chunk(3, -1)
            update = (z + hz).sigmoid()
            new = (n + (r + hr).sigmoid() * hn).tanh()
            return [new + update * (state[0] - new)]
        total = driven + fed_back
        return [total.tanh() if self.mode == "RNN_TANH" else total.relu()]

    def _stepper(self, name: str) -> Callable[[Tensor], Tensor]:
        """One of the linear layers, of the same chip in every step."""
        linear = getattr(self, name)
        if not isinstance(linear, CrossbarLayer):
            return cast("Callable[[Tensor], Tensor]", linear)
        chip = new_key()[:1]
        return lambda h: cast(Tensor, linear(h, torch.cat([chip, new_key()[:1]])))


APART = (AttentionOfLinears, RecurrenceOfLinears)
"""Classes of modules that were taken apart."""
