"""Fused kernels under Triton's interpreter: the bits of the compiled core."""

from __future__ import annotations

import os

import pytest

torch = pytest.importorskip("torch")
