"""Storage of weights and models in noisy cells."""

from .analog import (
    Analog,
    AnalogCost,
    AnalogModel,
    AnalogTensor,
    ProgrammedModel,
    ProgrammedTensor,
)
from .codec import Codec
from .cost import Cost
from .files import count_tensors, encode_file, load, read_file, save
from .modes import Coded, CodedModel, CodedTensor, Levels
from .ranges import Range
from .redundancy import Redundancy
from .selection import belongs_in_cells
from .stored import StoredModel, StoredTensor
from .stored_file import StoredFile

__all__ = [
    "Analog",
    "AnalogCost",
    "AnalogModel",
    "AnalogTensor",
    "Codec",
    "Coded",
    "CodedModel",
    "CodedTensor",
    "Cost",
    "Levels",
    "ProgrammedModel",
    "ProgrammedTensor",
    "Range",
    "Redundancy",
    "StoredFile",
    "StoredModel",
    "StoredTensor",
    "belongs_in_cells",
    "count_tensors",
    "encode_file",
    "load",
    "read_file",
    "save",
]


def __dir__() -> list[str]:
    return __all__
