"""Weights in single analog cells, programmed in a closed loop."""

from __future__ import annotations

from .analog import Analog, bias_weight
from .cells import CellArray
from .maps import CellMap, design, gaussian_source, histogram_source
from .model import AnalogCost, AnalogModel, AnalogTensor, ProgrammedModel, ProgrammedTensor
from .rotation import Rotation

__all__ = [
    "Analog",
    "AnalogCost",
    "AnalogModel",
    "AnalogTensor",
    "CellArray",
    "CellMap",
    "ProgrammedModel",
    "ProgrammedTensor",
    "Rotation",
    "bias_weight",
    "design",
    "gaussian_source",
    "histogram_source",
]


def __dir__() -> list[str]:
    return __all__
