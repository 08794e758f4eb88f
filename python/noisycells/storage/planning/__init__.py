"""How many cells a model needs, in each mode, before anything is stored."""

from .ladders import Setting
from .plan import Plan, plan

__all__ = ["Plan", "Setting", "plan"]
