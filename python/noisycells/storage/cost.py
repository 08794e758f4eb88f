"""What a stored tensor or model costs, in full."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from numpy.typing import NDArray

from .. import _arguments
from ..io import bytes_of

INDEX_HEADER_BITS = 64
"""An entropy-coded mask also has to say how many weights it keeps."""


@dataclass(frozen=True)
class Cost:
    """Cells and bits that a stored tensor or model takes.

    Attributes
    ----------
    stored_weights, original_weights : int
        Weights in cells, and those before pruning; weights kept digital are in neither.
    data_cells : int
        Cells that hold values, sum of cells times weights over the ranges.
    side_cells : int
        Cells that hold signs and range numbers: up to 2 bits in a cell of 2 or 4 levels.
    index_bits : int
        Bits that say which weights are stored: the mask as a bitmap, or entropy-coded (N H2(p)
        for N weights of which a share p is kept, and a 64-bit count), whichever is smaller.
    index_code : str
        ``"none"``, ``"bitmap"``, ``"entropy"``, or ``"mixed"`` where tensors differ.
    index_bits_per_cell : float
        Rate at which index bits are turned into cells.
    parameter_bits : int
        Thresholds, scales and shifts, three float32 a range of every tensor, kept digital.
    digital_bits : int
        Tensors kept digital, such as biases and normalization, in the dtype that they came in:
        16 bits for a bfloat16, 8 for a bool. A tensor of several names is counted once.
    digital_weights : int
        Numbers in those tensors.
    includes_biases : bool
        Whether tensors named ``bias`` are among those in cells.
    """

    stored_weights: int
    original_weights: int
    data_cells: int
    side_cells: int
    index_bits: int = 0
    index_code: str = "none"
    index_bits_per_cell: float = 1.0
    parameter_bits: int = 0
    digital_bits: int = 0
    digital_weights: int = 0
    includes_biases: bool = False

    @property
    def index_cells(self) -> int:
        """Cells the index bits take at ``index_bits_per_cell``."""
        return math.ceil(self.index_bits / self.index_bits_per_cell)

    @property
    def total_cells(self) -> int:
        """Data, side and index cells."""
        return self.data_cells + self.side_cells + self.index_cells

    @property
    def mean_cells(self) -> float:
        """Data cells a stored weight: r_avg of Isik et al. (2020), who count no others."""
        return _ratio(self.data_cells, self.stored_weights)

    @property
    def per_stored(self) -> float:
        """Total cells a stored weight."""
        return _ratio(self.total_cells, self.stored_weights)

    @property
    def per_original(self) -> float:
        """Total cells an original weight."""
        return _ratio(self.total_cells, self.original_weights)

    def at_index_rate(self, bits_per_cell: float) -> Cost:
        """The same cost with the index stored at another rate, in bits a cell.

        Raises
        ------
        ValueError
            If the rate is not positive.
        """
        rate = _arguments.number("bits_per_cell", bits_per_cell, above=0)
        return replace(self, index_bits_per_cell=rate)

    def to_dict(self) -> dict[str, Any]:
        """All fields and all derived figures, by name."""
        derived = ("index_cells", "total_cells", "mean_cells", "per_stored", "per_original")
        return asdict(self) | {name: getattr(self, name) for name in derived}

    def __str__(self) -> str:
        biases = "in cells" if self.includes_biases else "not in cells"
        return "\n".join(
            [
                f"weights        {self.stored_weights:,} stored of {self.original_weights:,}",
                f"data cells     {self.data_cells:,} ({self.mean_cells:.3f} a stored weight)",
                f"side cells     {self.side_cells:,} (sign and range)",
                f"index cells    {self.index_cells:,} ({self.index_bits:,} bits, "
                f"{self.index_code}, at {self.index_bits_per_cell:g} bits a cell)",
                f"total cells    {self.total_cells:,} ({self.per_stored:.3f} a stored, "
                f"{self.per_original:.3f} an original weight)",
                f"kept digital   {self.digital_bits:,} bits of {self.digital_weights:,} numbers, "
                f"{self.parameter_bits:,} bits of scales; biases {biases}",
            ]
        )


def index_cost(size: int, stored: int) -> tuple[int, str]:
    """Bits of a mask that keeps ``stored`` of ``size`` weights, and the code that needs so few."""
    p = stored / size if size else 0.0
    entropy = sum(-q * math.log2(q) for q in (p, 1 - p) if q > 0)
    coded = math.ceil(size * entropy) + INDEX_HEADER_BITS
    return (coded, "entropy") if coded < size else (size, "bitmap")


def total(costs: Iterable[Cost]) -> Cost:
    """Sum of the costs of a model's tensors."""
    costs = list(costs)
    codes = {cost.index_code for cost in costs} - {"none"}
    return Cost(
        stored_weights=sum(c.stored_weights for c in costs),
        original_weights=sum(c.original_weights for c in costs),
        data_cells=sum(c.data_cells for c in costs),
        side_cells=sum(c.side_cells for c in costs),
        index_bits=sum(c.index_bits for c in costs),
        index_code="none" if not codes else codes.pop() if len(codes) == 1 else "mixed",
        parameter_bits=sum(c.parameter_bits for c in costs),
        digital_bits=sum(c.digital_bits for c in costs),
        digital_weights=sum(c.digital_weights for c in costs),
        includes_biases=any(c.includes_biases for c in costs),
    )


def digital(array: NDArray[Any], dtype: str | None = None) -> Cost:
    """Cost of a tensor that is kept digital; ``dtype`` says what it is where numpy cannot."""
    bits = 8 * bytes_of(array, dtype)
    return Cost(0, 0, 0, 0, digital_bits=bits, digital_weights=array.size)


def _ratio(cells: int, weights: int) -> float:
    return cells / weights if weights else 0.0
