"""Storage of weights and models in noisy cells."""

from .analog import (
    Analog,
    AnalogCost,
    AnalogModel,
    AnalogTensor,
    ProgrammedModel,
    ProgrammedTensor,
)
from .audit import Audit, TensorAudit
from .codec import Codec
from .cost import Cost
from .files import count_tensors, encode_file, load, read_file, save
from .model import ModelInCells
from .modes import Coded, CodedModel, CodedTensor, Levels
from .planning import Plan, Setting, plan
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
    "Audit",
    "Codec",
    "Coded",
    "CodedModel",
    "CodedTensor",
    "Cost",
    "Levels",
    "ModelInCells",
    "Plan",
    "ProgrammedModel",
    "ProgrammedTensor",
    "Range",
    "Redundancy",
    "Setting",
    "StoredFile",
    "StoredModel",
    "StoredTensor",
    "TensorAudit",
    "belongs_in_cells",
    "count_tensors",
    "encode_file",
    "load",
    "plan",
    "read_file",
    "save",
]


def __dir__() -> list[str]:
    return __all__
