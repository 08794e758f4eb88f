"""One analog cell a weight: programmed in a closed loop, or open loop as a special case."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ... import _arguments
from ..._types import F64, MAX_CELLS
from ...channel import Channel
from ...devices import CellLike, cell
from ..arrays import check_weights, digital_arrays, prepare
from ..frequencies import of_inputs
from ..histogram import extent
from ..selection import assigned
from .loop import Feedback, Programming, feedback
from .maps import CellMap, design, gaussian_source, histogram_source
from .model import AnalogModel, AnalogTensor
from .rotation import Rotation

__all__ = ["Analog", "bias_weight"]

LARGEST_BIAS_WEIGHT = 60.0  # beyond, maps hardly change


class Analog:
    """How weights go into analog cells, one cell each.

    In the closed loop each cell is verified after its pulse, and what it missed is fed to the
    weights of the same row that are not written yet, by the second moments of the layer's inputs.
    The open loop writes each weight once, as it is.

    Parameters
    ----------
    channel : Channel, Device, str or path-like
        With ``read_std``; a device or a name stands for its cell.
    reads : int
        Reads of a cell that are averaged at a read-back.
    pulses : int
        Most pulses of a cell.
    verify_reads : int
        Reads that verify each pulse; 0 is the open loop.
    tolerance : float
        Distance of the verified level from its target, in read standard deviations, within which
        no further pulse is given.
    rotate : bool
        Rotate the inputs of each layer first, so that weights are nearly Gaussian. Layers whose
        weights are rotated are read back in their own coordinates.
    bias : float or None
        Weight of the squared bias against the variance when an open loop's map is made. None
        estimates it by :func:`bias_weight` where there are moments, and else takes 1.
    damping : float
        Share of the mean second moment that is added to each.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as said above.

    Examples
    --------
    >>> import numpy as np, noisycells as nc
    >>> weights = np.random.default_rng(0).standard_normal((8, 64)).astype(np.float32)
    >>> stored = nc.storage.Analog(nc.devices.synthetic_pcm()).encode({"w": weights})
    >>> stored.read(seed=2, chip=1)["w"].shape, stored.cost.data_cells
    ((8, 64), 512)
    """

    NAME = "analog"

    def __init__(
        self,
        channel: CellLike,
        *,
        reads: int = 1,
        pulses: int = 1,
        verify_reads: int = 1,
        tolerance: float = 1.0,
        rotate: bool = True,
        bias: float | None = None,
        damping: float = 0.01,
    ) -> None:
        self.channel = cell(channel, "channel")
        if self.channel.read_std is None:
            raise _arguments.wrong_value(
                "channel",
                "one with read_std, which tells reads from programming",
                repr(self.channel),
            )
        self.how = Programming(
            _arguments.integer("pulses", pulses, 1, MAX_CELLS),
            _arguments.integer("verify_reads", verify_reads, 0, MAX_CELLS),
            _arguments.number("tolerance", tolerance, 0),
            _arguments.integer("reads", reads, 1, MAX_CELLS),
        )
        if self.how.verify_reads == 0 and self.how.pulses > 1:
            raise _arguments.wrong_value("pulses", "1 where nothing is verified", pulses)
        self.rotate = _arguments.flag("rotate", rotate)
        self.bias = None if bias is None else _arguments.number("bias", bias, most=1e6, above=0)
        self.damping = _arguments.number("damping", damping, 0)

    def encode(
        self,
        weights: Mapping[str, ArrayLike],
        mask: Mapping[str, ArrayLike] | str | None = None,
        sensitivity: Mapping[str, ArrayLike] | None = None,
        *,
        moments: Mapping[str, ArrayLike] | None = None,
        overrides: Mapping[str, Any] | None = None,
        digital: Mapping[str, ArrayLike] | None = None,
    ) -> AnalogModel:
        """What is to be written for the tensors of a model; chips are programmed as they are read.

        Parameters
        ----------
        weights : mapping of str to array_like of float16, float32 or float64, shape (rows, ...)
            Each row's numbers are the weights of one output.
        mask, sensitivity : None
            Every weight has its cell, and each weighs as the moments say: these, which other modes
            take, are refused.
        moments : mapping of str to array_like, shape (n, n), optional
            Mean products of the n inputs of each layer (:func:`noisycells.torch.input_moments`).
            How often rows of an embedding are used, (rows,), changes nothing here: all weights have
            one cell.
            Errors of tensors without are not fed forward.
        overrides : mapping of str to Analog, optional
            Codecs of names that match a pattern (``fnmatch``), the first that does.
        digital : mapping of str to array_like, optional
            Tensors to keep digital with the model.

        Raises
        ------
        TypeError
            If weights are not floating-point numbers.
        ValueError
            If a tensor has fewer than two dimensions or no weights, weights are not finite, or
            moments are of another shape, of no tensor, not symmetric or not finite.
        """
        check_weights(weights)
        kept = digital_arrays(digital, weights)
        for name, unused in (("mask", mask), ("sensitivity", sensitivity)):
            if unused is not None:
                raise _arguments.wrong_value(name, "None where all weights have cells", "one")
        given = _arguments.mapping("moments", moments, "names to arrays")
        _arguments.names("moments", given, weights, "names of weights")
        codecs = assigned(weights, _arguments.mapping("overrides", overrides, "codecs"), self)
        return AnalogModel(
            {name: codecs[name]._tensor(name, w, given.get(name)) for name, w in weights.items()},
            kept,
        )

    def _tensor(self, name: str, weights: ArrayLike, moments: ArrayLike | None) -> AnalogTensor:
        source = prepare(name, weights)
        if len(source.shape) < 2 or source.weights.size == 0:
            raise _arguments.wrong_value(name, "two dimensions or more, not empty", source.shape)
        extent([source])  # checks it
        values = source.weights.reshape(source.shape[0], -1).astype(np.float64)
        inputs, _ = of_inputs(name, moments, (values.shape[0], values.shape[1]))
        if self.rotate:
            rotation = Rotation(values.shape[1])
            values = rotation.apply(values)
            inputs = None if inputs is None else rotation.of_moments(inputs)
        scales = np.sqrt(np.mean(values**2, 1)).astype(np.float32)
        scales[scales == 0] = 1
        rounded = (values / scales[:, None]).astype(np.float32)
        values = rounded.astype(np.float64)
        closed = self.how.verify_reads > 0
        to = feedback(inputs, self.damping) if closed and inputs is not None else None
        cell_map = self._map(values, inputs, to)
        return AnalogTensor(
            name, source.shape, self, cell_map, scales, rounded, to, dtype=source.dtype
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """All parameters, the channel included, as JSON knows them."""
        return {"mode": self.NAME, "channel": self.channel.to_dict(), **self.options()}

    def options(self) -> dict[str, Any]:
        """The arguments besides the channel, as JSON knows them."""
        return {
            **self.how._asdict(),
            "rotate": self.rotate,
            "bias": self.bias,
            "damping": self.damping,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Analog:
        """The codec of a :meth:`to_dict`; ValueError, KeyError or TypeError if it is not one."""
        options = {name: v for name, v in values.items() if name not in ("mode", "channel")}
        return cls(Channel.from_dict(values["channel"]), **options)

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in self.options().items())
        return f"Analog({self.channel!r}, {options})"

    def _map(self, values: F64, inputs: F64 | None, to: Feedback | None) -> CellMap:
        """The map for a layer, in its own units."""
        source = None if self.rotate else histogram_source(values)
        if to is not None:
            share = float(f"{to.remaining:.1g}")
            return self._design(source, share, share)
        first = self._design(source, 1.0, self.bias or 1.0)
        if self.bias is not None or inputs is None:
            return first
        return self._design(source, 1.0, bias_weight(first.bias(values), inputs))

    def _design(self, source: tuple[F64, F64] | None, programming: float, bias: float) -> CellMap:
        """A map of a source; those of the Gaussian are the same for many layers."""
        if source is None:
            return _gaussian_map(self.channel, self.how.reads, programming, bias)
        return design(
            self.channel, source, reads=self.how.reads, programming=programming, bias=bias
        )


@lru_cache(maxsize=64)
def _gaussian_map(channel: Channel, reads: int, programming: float, bias: float) -> CellMap:
    return design(channel, gaussian_source(), reads=reads, programming=programming, bias=bias)


def bias_weight(bias: ArrayLike, moments: ArrayLike) -> float:
    """How much more a systematic error of weights costs than an independent one of its size.

    kappa = sum_r b_r H b_r / sum_rj H_jj b_rj^2 for errors b of the rows and second moments H of
    the inputs: 1 where inputs are uncorrelated, or signs of errors are as good as random. It is
    kept in [1, 60], as maps are made for no other.

    Parameters
    ----------
    bias : array_like, shape (rows, n)
        Mean error of each weight.
    moments : array_like, shape (n, n)
    """
    b = np.asarray(_arguments.real("bias", bias), np.float64)
    h = np.asarray(_arguments.real("moments", moments), np.float64)
    alone = float(np.sum(b**2 * np.diag(h)))
    if alone == 0:
        return 1.0
    together = float(np.sum((b @ h) * b))
    return min(max(together / alone, 1.0), LARGEST_BIAS_WEIGHT)
