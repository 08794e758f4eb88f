"""All studies by their names."""

from __future__ import annotations

from . import (
    crossbar,
    deployed,
    frontier,
    isik_distillation,
    isik_figures,
    isik_storage,
    strategies,
    transformer,
    zhou_losses,
    zhou_retraining,
)
from .engine import Study

__all__ = ["STUDIES"]

STUDIES: dict[str, Study] = {
    study.name: study
    for study in (
        *strategies.STUDIES,
        *frontier.STUDIES,
        *crossbar.STUDIES,
        *deployed.STUDIES,
        *transformer.STUDIES,
        *isik_storage.STUDIES,
        *isik_distillation.STUDIES,
        *isik_figures.STUDIES,
        *zhou_losses.STUDIES,
        *zhou_retraining.STUDIES,
    )
}
"""Those of the papers, and of the demo, crossbars, deployed classifiers and a transformer."""
