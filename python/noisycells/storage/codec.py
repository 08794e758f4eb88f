"""The storage codec: how weights are turned into cells and back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _arguments, _core, random
from .._types import MAX_CELLS
from ..channel import Channel
from ..devices import CellLike, cell
from ..runtime import threads_argument
from .arrays import Source, Sources, digital_arrays, prepare
from .mapping import choose_ranges
from .noise import NoiseCurve
from .ranges import Range
from .selection import assigned
from .side import SideLevels, design_levels
from .stored import StoredModel, StoredTensor

MAX_RANGES = 8


class Codec:
    """Storage of weights in noisy cells (Isik et al. 2020, section 2).

    A weight w is written as u = alpha w - beta through the inverse f of the channel's mean, and
    read as w_out = (y + beta) / alpha, where y averages the outputs of its cells. Every
    protection can be switched off; what is not given is chosen from the weights:

    - *Scale and shift.* alpha = span / (w_hi - w_lo), the largest that does not clip, and
      beta = alpha w_lo - y_lo, for the channel's range of outputs [y_lo, y_lo + span].
    - *Thresholds* minimize the expected squared error of the read-back times the cells spent:
      the error is the sum over a magnitude histogram of sigma(f(u))^2 / (cells alpha^2), the
      channel's own noise where each weight falls, weighted by the sensitivities where they are
      given.
    - *Cells.* With ``mean_cells``, the numbers of cells of all ranges minimize the error alone with
      r_avg <= ``mean_cells``, together with the thresholds where these are automatic.
    - *Write bits.* ``"auto"`` is the smallest converter width whose rounding adds less than a
      tenth to the noise variance of its range, averaged over the cells.

    Converters at read and stuck cells are left out of these choices.

    Parameters
    ----------
    channel : Channel, Device, str or path-like
        The true channel: cells are written and read through it. A name such as ``"pcm_array"``,
        ``"pcm_joshi2020@3600"`` or ``"mine.json"`` does (see :func:`noisycells.devices.cell`).
    inverse : Channel, Device, str or path-like, optional
        The channel as it was learnt: its inverse, range and noise are used for encoding and for
        all choices above. The true channel if not given.
    sign_protection : bool
        Keep signs in the side cells and magnitudes in the data cells, so alpha is twice as
        large. Otherwise weights are mapped with their sign, the small ones from [-T, T] and the
        large ones from [w_min, w_max].
    adaptive_mapping : bool
        Give small and large weights (two or more magnitude ranges) an alpha each, and keep the
        number of the range in the side cells.
    thresholds : "auto", float or sequence of float
        Magnitudes that end all ranges but the last, in ascending order; a weight on a threshold
        is below it.
    ranges : int
        Number of magnitude ranges where thresholds are automatic, 2 to 8.
    cells : int or sequence of int
        Cells for each weight, or for each weight of each range: (small, large).
    mean_cells : float, optional
        Choose ``cells`` for this average or less.
    scope : "tensor" or "model"
        Whether thresholds, scales and cells are chosen for every tensor or, as in the paper, for
        all tensors of a model together.
    write_bits : int, sequence of int, "auto" or None
        Width of the write converter (of each range), 1 to 16: levels are rounded to it and kept
        packed. None takes the channel's; where it has none, levels are float32.
    collapse : bool, optional
        As for :meth:`Channel.sample`. None: one draw for the average of the cells, where that is
        exact. True: insist on it. False: draw every cell.

    Attributes
    ----------
    thresholds : "auto" or tuple of float
    ranges : int
    cells : tuple of int
        One number for each range.
    write_bits : tuple of int, "auto" or None
        One number for each range. The other parameters are attributes as they were given.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not as described; the message names it.
    """

    thresholds: Literal["auto"] | tuple[float, ...]
    write_bits: Literal["auto"] | tuple[int, ...] | None

    def __init__(
        self,
        channel: CellLike,
        inverse: CellLike | None = None,
        *,
        sign_protection: bool = True,
        adaptive_mapping: bool = True,
        thresholds: Literal["auto"] | float | Sequence[float] = "auto",
        ranges: int = 2,
        cells: int | Sequence[int] = 1,
        mean_cells: float | None = None,
        scope: Literal["tensor", "model"] = "tensor",
        write_bits: int | Sequence[int] | Literal["auto"] | None = None,
        collapse: bool | None = None,
    ) -> None:
        self.channel = cell(channel, "channel")
        self.inverse = None if inverse is None else cell(inverse, "inverse")
        self.sign_protection = _arguments.flag("sign_protection", sign_protection)
        self.adaptive_mapping = _arguments.flag("adaptive_mapping", adaptive_mapping)
        self.thresholds = _check_thresholds(thresholds, self.adaptive_mapping)
        self.ranges = _check_ranges(ranges, self.thresholds, self.adaptive_mapping)
        self.cells = _per_range("cells", cells, self.ranges, MAX_CELLS)
        self.mean_cells = _check_mean_cells(mean_cells, self.cells)
        self.scope = _arguments.choice("scope", scope, ("tensor", "model"))
        self.write_bits = _check_write_bits(write_bits, self.ranges, self.channel)
        self.collapse = self.channel.check_collapse(collapse)

    @property
    def learnt(self) -> Channel:
        """The channel the encoder knows: ``inverse``, or the true one."""
        return self.channel if self.inverse is None else self.inverse

    @property
    def draws_every_cell(self) -> bool:
        """Whether reading draws every cell rather than their average."""
        return not (self.channel.collapses if self.collapse is None else self.collapse)

    @property
    def sign_bits(self) -> int:
        """Side bits for the sign."""
        return int(self.sign_protection)

    @property
    def side_bits(self) -> int:
        """Side bits a stored weight: the sign, then the number of the range."""
        return self.sign_bits + (self.ranges - 1).bit_length()

    def side_levels(self, bits: int) -> SideLevels:
        """Levels of a side cell that holds 1 or 2 bits, designed for the learnt channel."""
        return self._side_levels_2 if bits == 2 else self._side_levels_1

    @cached_property
    def _side_levels_1(self) -> SideLevels:
        return design_levels(self.learnt, 2)

    @cached_property
    def _side_levels_2(self) -> SideLevels:
        return design_levels(self.learnt, 4)

    @cached_property
    def noise(self) -> NoiseCurve:
        """The noise of the learnt channel, which all choices minimize."""
        return NoiseCurve.of(self.learnt)

    @cached_property
    def _inverse_table(self) -> tuple[NDArray[np.float32], float, float]:
        return self.learnt.inverse_table()

    @overload
    def encode(
        self,
        weights: Mapping[str, ArrayLike],
        mask: Mapping[str, ArrayLike] | str | None = None,
        sensitivity: Mapping[str, ArrayLike] | None = None,
        *,
        name: str = "",
        overrides: Mapping[str, Codec] | None = None,
        digital: Mapping[str, ArrayLike] | None = None,
    ) -> StoredModel: ...

    @overload
    def encode(
        self,
        weights: ArrayLike,
        mask: ArrayLike | None = None,
        sensitivity: ArrayLike | None = None,
        *,
        name: str = "",
    ) -> StoredTensor: ...

    def encode(
        self,
        weights: Any,
        mask: Any = None,
        sensitivity: Any = None,
        *,
        name: str = "",
        overrides: Mapping[str, Codec] | None = None,
        digital: Mapping[str, ArrayLike] | None = None,
    ) -> StoredTensor | StoredModel:
        """Put an array, or a mapping of names to arrays, into cells.

        Parameters
        ----------
        weights : array_like of float, any shape, or mapping of str to array_like
            float16, float32 or float64; encoded in float32, and read back in it.
        mask : array_like of bool, of the weights' shape, or "nonzero", optional
            The weights to store; the others read back as 0. ``"nonzero"`` stores what is not
            zero. For a mapping: ``"nonzero"``, or a mapping that may leave names out.
        sensitivity : float or array_like of float, of the weights' shape, optional
            What a squared error in each weight counts in the choice of thresholds and
            redundancy, for instance the Fisher information. For a mapping: a mapping.
        name : str
            Name of an array; its noise is keyed by it.
        overrides : mapping of str to Codec, optional
            For a mapping: codecs for names that match a pattern (``fnmatch``), the first that
            does.
        digital : mapping of str to array_like, optional
            For a mapping: tensors to keep digital with the model, such as biases.

        Returns
        -------
        StoredTensor, or StoredModel for a mapping

        Raises
        ------
        TypeError
            If weights are not floating-point numbers or masks not boolean.
        ValueError
            If a stored weight is NaN or infinite, shapes disagree, a mask, a sensitivity or a
            pattern matches no tensor, or a name is both in cells and digital.
        """
        if not isinstance(weights, Mapping):
            if overrides is not None or digital is not None:
                raise _arguments.wrong_kind(
                    "overrides, digital", "a mapping of weights with them", "one array"
                )
            source = prepare(name, weights, mask, sensitivity)
            return self.encode_source(source)
        if name:
            raise _arguments.wrong_type("name", "none with a mapping of weights", name)
        kept = digital_arrays(digital, weights)
        load = _source_loader(weights, mask, sensitivity)
        encoded = self.encode_each(load, list(weights), overrides)
        return StoredModel({stored.name: stored for stored in encoded}, kept)

    def encode_each(
        self,
        load: Callable[[str], Source],
        names: Sequence[str],
        overrides: Mapping[str, Codec] | None = None,
    ) -> Iterator[StoredTensor]:
        """Encode the tensors of a model one by one, loading each when its turn comes.

        Tensors whose codec has the scope of the model are loaded up to three times more before.
        """
        groups = self._assign(names, _arguments.mapping("overrides", overrides, "codecs"))
        shared = {
            codec: choose_ranges(codec, Sources(load, group))
            for codec, group in groups.items()
            if codec.scope == "model"
        }
        codecs = {name: codec for codec, group in groups.items() for name in group}
        for name in names:
            # No variable here keeps the weights while the next ones are loaded.
            yield codecs[name].encode_source(load(name), shared.get(codecs[name]))

    def transmit(
        self,
        weights: ArrayLike,
        seed: int,
        mask: ArrayLike | None = None,
        sensitivity: ArrayLike | None = None,
        *,
        name: str = "",
        chip: int = 0,
        out: NDArray[np.float32] | None = None,
        num_threads: int | None = None,
    ) -> NDArray[np.float32]:
        """Encode and read back in one pass: the same bits as ``encode(...).read(seed, chip)``.

        Parameters, in the order of :meth:`encode`, returned array and errors are those of
        :meth:`encode` and :meth:`StoredTensor.read`.
        """
        seed = _arguments.seed("seed", seed)
        chip = _arguments.seed("chip", chip)
        source = prepare(name, weights, mask, sensitivity)
        held = (source.weights,) if source.mask is None else (source.weights, source.mask)
        out = _arguments.output(out, source.shape, *held)
        _core.transmit(
            source.weights,
            source.mask,
            out.reshape(-1),
            self.tables(choose_ranges(self, [source])),
            self.channel.tables,
            *self.channel.keys(seed, chip),
            random.stream(source.name),
            self.draws_every_cell,
            threads_argument(num_threads),
        )
        return out

    def _assign(
        self, names: Sequence[str], overrides: Mapping[str, Codec]
    ) -> dict[Codec, list[str]]:
        """Each codec's tensors: of the first override whose pattern matches, or of this one."""
        groups: dict[Codec, list[str]] = {}
        for name, codec in assigned(names, overrides, self).items():
            groups.setdefault(codec, []).append(name)
        return groups

    def tables(self, ranges: tuple[Range, ...]) -> _core.CodecTables:
        """The codec with these ranges, for the compiled core."""
        return _core.CodecTables(*self._inverse_table, ranges, self.sign_protection)

    def encode_source(
        self, source: Source, ranges: tuple[Range, ...] | None = None
    ) -> StoredTensor:
        """Encode one tensor with ranges from :func:`choose_ranges`, or with a plan of its own."""
        if ranges is None:
            ranges = choose_ranges(self, [source])
        tables = self.tables(ranges)
        stored = source.weights.size
        if source.mask is not None:
            stored = _core.count_stored(source.mask, stored)
        side = np.empty(-(-stored * tables.side_width // 8), np.uint8)
        levels: NDArray[Any]
        if ranges[0].write is None:
            levels = np.empty(stored, np.float32)
        else:
            levels = np.empty(_core.levels_capacity(stored, tables), np.uint8)
        used = _core.encode(source.weights, source.mask, tables, levels, side)
        levels.resize(used, refcheck=False)  # in place: no second copy
        return StoredTensor(
            source.name, source.shape, self, ranges, levels, side, source.mask, dtype=source.dtype
        )

    def to_dict(self) -> dict[str, Any]:
        """All parameters, channels included, as JSON knows them."""
        return {
            "channel": self.channel.to_dict(),
            "inverse": None if self.inverse is None else self.inverse.to_dict(),
            **self._written_options(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Codec:
        """The codec of a :meth:`to_dict`.

        Raises
        ------
        KeyError, TypeError, ValueError
            If a parameter is missing or not as described.
        """
        inverse = values["inverse"]
        channel = Channel.from_dict(values["channel"])
        learnt = None if inverse is None else Channel.from_dict(inverse)
        options = {name: values[name] for name in cls(channel)._written_options()}
        literal = options.pop("literal")
        return cls(channel, learnt, **options, collapse=None if literal is None else not literal)

    def _options(self) -> dict[str, Any]:
        return {
            "sign_protection": self.sign_protection,
            "adaptive_mapping": self.adaptive_mapping,
            "thresholds": _listed(self.thresholds),
            "ranges": self.ranges,
            "cells": 1 if self.mean_cells is not None else list(self.cells),
            "mean_cells": self.mean_cells,
            "scope": self.scope,
            "write_bits": _listed(self.write_bits),
            "collapse": self.collapse,
        }

    def _written_options(self) -> dict[str, Any]:
        """The options as files have them, which say whether every cell is drawn: "literal"."""
        options = self._options()
        collapse = options.pop("collapse")
        return {**options, "literal": None if collapse is None else not collapse}

    def __repr__(self) -> str:
        inverse = "" if self.inverse is None else f", inverse={self.inverse!r}"
        options = ", ".join(f"{name}={value!r}" for name, value in self._options().items())
        return f"Codec({self.channel!r}{inverse}, {options})"


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _source_loader(
    weights: Mapping[str, Any], mask: Any, sensitivity: Any
) -> Callable[[str], Source]:
    """Prepare the tensor of a name, with what masks and sensitivities say of it."""
    if isinstance(mask, str):
        mask = dict.fromkeys(weights, mask)
    for name, given in (("mask", mask), ("sensitivity", sensitivity)):
        if not isinstance(given, (Mapping, type(None))):
            raise _arguments.wrong_type(name, "a mapping of names, as the weights are one", given)
        _arguments.names(name, given or (), weights, "names of weights")
    masks, sensitivities = mask or {}, sensitivity or {}
    return lambda name: prepare(name, weights[name], masks.get(name), sensitivities.get(name))


def _per_range(name: str, value: Any, ranges: int, most: int) -> tuple[int, ...]:
    if not isinstance(value, Iterable) or isinstance(value, str):
        return (_arguments.integer(name, value, 1, most),) * ranges
    numbers = tuple(_arguments.integer(name, number, 1, most) for number in value)
    if len(numbers) != ranges:
        raise _arguments.wrong_value(
            name, f"one number, or one for each of {ranges} ranges", len(numbers)
        )
    return numbers


def _check_thresholds(value: Any, adaptive: bool) -> Literal["auto"] | tuple[float, ...]:
    if isinstance(value, str):
        if value != "auto":
            raise _arguments.wrong_value("thresholds", "'auto' or numbers", repr(value))
        return "auto"
    if not adaptive:
        raise _arguments.wrong_value("thresholds", "'auto' without adaptive_mapping", repr(value))
    listed = value if isinstance(value, Iterable) else [value]
    given = tuple(_arguments.number("thresholds", t) for t in listed)
    rising = all(a < b for a, b in zip((0.0, *given), (*given, np.inf), strict=True))
    if not rising or not 1 <= len(given) < MAX_RANGES:
        raise _arguments.wrong_value(
            "thresholds",
            f"1 to {MAX_RANGES - 1} positive finite numbers in ascending order",
            repr(value),
        )
    return given


def _check_ranges(
    value: Any, thresholds: Literal["auto"] | tuple[float, ...], adaptive: bool
) -> int:
    if not adaptive:
        _arguments.integer("ranges", value, 1, MAX_RANGES)
        return 1
    ranges = _arguments.integer("ranges", value, 2, MAX_RANGES)
    if thresholds == "auto":
        return ranges
    if ranges not in (2, len(thresholds) + 1):
        raise _arguments.wrong_value(
            "ranges", f"{len(thresholds) + 1} for {len(thresholds)} thresholds", ranges
        )
    return len(thresholds) + 1


def _check_mean_cells(value: Any, cells: tuple[int, ...]) -> float | None:
    if value is None:
        return None
    if any(number != 1 for number in cells):
        raise _arguments.wrong_value(
            "mean_cells", "cells not to be given as well", f"cells={cells}"
        )
    return _arguments.number("mean_cells", value, 1, MAX_CELLS)


def _check_write_bits(
    value: Any, ranges: int, channel: Channel
) -> Literal["auto"] | tuple[int, ...] | None:
    if value is None:
        return None if channel.write_bits is None else (channel.write_bits,) * ranges
    if isinstance(value, str):
        if value != "auto":
            raise _arguments.wrong_value("write_bits", "a number, 'auto' or None", repr(value))
        return "auto"
    return _per_range("write_bits", value, ranges, channel.write_bits or 16)
