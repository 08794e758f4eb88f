"""Storage of weights and models in noisy cells."""

from .codec import Codec
from .cost import Cost
from .ranges import Range
from .redundancy import Redundancy
from .stored import StoredModel, StoredTensor

__all__ = ["Codec", "Cost", "Range", "Redundancy", "StoredModel", "StoredTensor"]
