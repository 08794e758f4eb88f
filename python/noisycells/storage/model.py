"""What tensors and models in cells have in common, whatever their mode."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any, Generic, TypeVar

from numpy.typing import ArrayLike, NDArray

from .. import _arguments
from .._types import F32
from ..channel import Channel
from ..io.dtypes import WITHOUT_NUMPY
from . import cost
from .audit import Audit, audit
from .cost import Cost

__all__ = ["ByName", "ModelInCells", "TensorInCells", "without_side_cells"]

_Item = TypeVar("_Item")
_Model = TypeVar("_Model", bound="ModelInCells[Any]")


@dataclass(frozen=True, eq=False, repr=False)
class TensorInCells:
    """A tensor in cells.

    Attributes
    ----------
    name : str
    shape : tuple of int
    dtype : str
        Dtype that the weights came in, as safetensors calls it ("F32", "BF16", ...).
    """

    name: str
    shape: tuple[int, ...]
    _: KW_ONLY
    dtype: str = "F32"

    @property
    def size(self) -> int:
        """Number of weights, pruned ones included."""
        return math.prod(self.shape)


_Tensor = TypeVar("_Tensor", bound=TensorInCells)


@dataclass(frozen=True, eq=False, repr=False)
class ByName(Mapping[str, _Item]):
    """A mapping of names to tensors, which are in ``tensors``."""

    tensors: dict[str, _Item]

    def __getitem__(self, name: str) -> _Item:
        return self.tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)


@dataclass(frozen=True, eq=False, repr=False)
class ModelInCells(ByName[_Tensor], Generic[_Tensor]):
    """A model in cells: a mapping of names to tensors in cells.

    Attributes
    ----------
    tensors : dict of str to a tensor in cells
    digital : dict of str to ndarray
        Tensors that are kept digital, such as biases and normalization; counted in ``cost``.
    digital_dtypes : dict of str to str
        What digital tensors are whose dtype numpy does not have: "BF16", "F8_E4M3" or "F8_E5M2".
        ``digital`` has their numbers in float32.
    aliases : dict of str to str
        Further names of tensors, in cells or digital: weights that are tied.
    """

    digital: dict[str, NDArray[Any]] = field(default_factory=dict)
    digital_dtypes: dict[str, str] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)

    @abstractmethod
    def read(self, seed: int, chip: int = 0, *, side_errors: bool = False) -> dict[str, F32]:
        """Read every cell, with noise: the tensors in cells, under all their names, float32."""

    @property
    @abstractmethod
    def channels(self) -> set[Channel]:
        """What the cells are."""

    @property
    def carried(self) -> float | None:
        """Bits a cell behind an error-correcting code; None without one."""
        return None

    @abstractmethod
    def _costs(self) -> list[Cost]:
        """Of what is in cells."""

    @property
    def cost(self) -> Cost:
        """Cells and bits the model takes."""
        digital = [
            cost.digital(a, self.digital_dtypes.get(name)) for name, a in self.digital.items()
        ]
        return cost.total([*self._costs(), *digital])

    def with_dtypes(self: _Model, dtypes: Mapping[str, str]) -> _Model:
        """The same model with the dtypes that its tensors came in, as safetensors calls them."""
        tensors = {
            name: replace(tensor, dtype=dtypes.get(name, tensor.dtype))
            for name, tensor in self.items()
        }
        digital = {n: d for n, d in dtypes.items() if n in self.digital and d in WITHOUT_NUMPY}
        return replace(self, tensors=tensors, digital_dtypes=digital)

    def audit(
        self, weights: Mapping[str, ArrayLike] | None = None, *, repeats: int = 8, seed: int = 0
    ) -> Audit:
        """Read the model some times and compare it with Shannon's limits.

        Parameters
        ----------
        weights : mapping of str to array_like, optional
            What was stored, pruned weights being 0. Without it, errors are those of reads about
            their mean.
        repeats : int
            Reads, each of another chip, at least 2.
        seed : int
            Of these reads.

        Raises
        ------
        TypeError, ValueError
            If weights of tensors are missing or have other shapes, a number is not as above, or
            the cells are of several kinds.
        """
        return audit(self, weights, repeats, seed)

    def _under_all_names(self, read: dict[str, F32]) -> dict[str, F32]:
        return read | {a: read[name] for a, name in self.aliases.items() if name in read}

    def __repr__(self) -> str:
        total = self.cost
        kinds = ", ".join(sorted(repr(channel.name) for channel in self.channels))
        return (
            f"{type(self).__name__}({len(self)} tensors, {total.stored_weights:,} of "
            f"{total.original_weights:,} weights in {total.data_cells + total.side_cells:,} cells "
            f"of {kinds}, {len(self.digital)} tensors digital)"
        )


def without_side_cells(side_errors: bool) -> None:
    """Refuse errors of side cells where there are none."""
    if _arguments.flag("side_errors", side_errors):
        raise _arguments.wrong_value("side_errors", "False where no cells are side cells", True)
