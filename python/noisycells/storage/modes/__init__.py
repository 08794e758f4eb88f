"""Ways to store a model in cells besides that of :class:`noisycells.Codec`."""

from .coded import Coded
from .levels import Levels
from .model import CodedModel, CodedTensor

__all__ = ["Coded", "CodedModel", "CodedTensor", "Levels"]
