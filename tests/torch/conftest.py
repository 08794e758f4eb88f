"""What several tests of noise in training use."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture
def noisy() -> tuple[Any, Any]:
    """A network with noise in training, and the noise."""
    pytest.importorskip("torch")
    from noise_cases import SEED, network

    import noisycells.torch as nct

    model = network()
    return model, nct.inject_noise(model, 0.1, seed=SEED)
