"""The state of a training: kept in a file after each epoch, and taken up from it."""

from __future__ import annotations

import copy
import io
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ... import _arguments
from ...io import replacing
from ..noise.inject import active_noise
from .batches import process

__all__ = ["TrainingState"]


class TrainingState:
    """Everything the next epoch depends on, and what the epochs before have shown.

    Parameters
    ----------
    model : torch.nn.Module
        Without the wrapper of DistributedDataParallel.
    optimizer : torch.optim.Optimizer
    scheduler : LRScheduler or None
    device : torch.device
        Its generator is part of the state, beside the CPU's.
    settings : dict
        Plain values that must be the same in a training that goes on.

    Attributes
    ----------
    accuracies, losses : list of float
        On the validation images, after each epoch.
    best_epoch : int
        Epoch of highest accuracy, and lowest loss among equals, from 1; 0 before the first.
    best_model : dict of str to Tensor
        The model's state after it.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        scheduler: LRScheduler | None,
        device: torch.device,
        settings: dict[str, Any],
    ) -> None:
        self.model, self.optimizer, self.scheduler = model, optimizer, scheduler
        self.device = device
        self.settings: dict[str, Any] = settings | {
            "optimizer": type(optimizer).__name__,
            "scheduler": type(scheduler).__name__,
            "noise": active_noise(model) is not None,
            "processes": process()[1],
        }
        self.accuracies: list[float] = []
        self.losses: list[float] = []
        self.best_epoch = 0
        self.best_model: dict[str, Tensor] = {}

    def record(self, accuracy: float, loss: float) -> None:
        """Note how an epoch validated, and the model if there was none better."""
        best = self.best_epoch - 1
        if best < 0 or (accuracy, -loss) > (self.accuracies[best], -self.losses[best]):
            self.best_epoch = len(self.accuracies) + 1
            self.best_model = copy.deepcopy(self.model.state_dict())
        self.accuracies.append(accuracy)
        self.losses.append(loss)

    def save(self, path: Path) -> None:
        """Write the state; the file takes the old one's place only when it is complete."""
        rank, processes = process()
        drawn = [self._drawn()] * processes
        if processes > 1:
            distributed.all_gather_object(drawn, self._drawn())
        if rank != 0:
            return
        state = {
            "settings": self.settings,
            "accuracies": self.accuracies,
            "losses": self.losses,
            "best_epoch": self.best_epoch,
            "best_model": self.best_model,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            "drawn": drawn,
        }
        content = io.BytesIO()  # torch's own writing would hide that the disk is full
        torch.save(state, content)
        with replacing(path) as file:
            file.write(content.getbuffer())

    def resume(self, path: Path, epochs: int) -> None:
        """Take up the state of the file, if there is one.

        Raises
        ------
        ValueError
            If the file is damaged, of a training of another model or other settings, or of more
            than ``epochs`` epochs.
        """
        rank, processes = process()
        found = [_read(path) if rank == 0 and path.exists() else None]
        if processes > 1:
            distributed.broadcast_object_list(found)
        (state,) = found
        if state is None:
            return
        for name, value in self.settings.items():
            if state["settings"].get(name) != value:
                raise _arguments.wrong_value(
                    "checkpoint",
                    f"a training with {name} {value}",
                    f"{state['settings'].get(name)} in {path}",
                )
        done = len(state["accuracies"])
        if done > epochs:
            raise _arguments.wrong_value(
                "checkpoint", f"at most {epochs} epochs", f"{done} in {path}"
            )
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError) as error:
            raise _arguments.wrong_value(
                "checkpoint", "one of this model", f"{path} of another: {error}"
            ) from error
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        self.accuracies, self.losses = state["accuracies"], state["losses"]
        self.best_epoch, self.best_model = state["best_epoch"], state["best_model"]
        drawn = state["drawn"][rank]
        torch.set_rng_state(drawn["cpu"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(drawn["cuda"], self.device)
        noise = active_noise(self.model)
        if noise is not None:
            noise.load_state_dict(drawn["noise"])

    def _drawn(self) -> dict[str, Any]:
        """How far this process's generators have come."""
        noise = active_noise(self.model)
        cuda = self.device.type == "cuda"
        return {
            "cpu": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state(self.device) if cuda else None,
            "noise": None if noise is None else noise.state_dict(),
        }


def _read(path: Path) -> dict[str, Any]:
    """What a checkpoint holds, on the CPU; nothing but tensors and plain containers is loaded."""
    content = io.BytesIO(path.read_bytes())
    try:
        broken = zipfile.ZipFile(content).testzip()  # torch.load does not look at the checksums
        if broken is not None:
            raise ValueError(f"a wrong checksum of {broken}")
        content.seek(0)
        state = torch.load(content, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files fail in every way there is
        raise _arguments.wrong_value("checkpoint", f"{path} to be intact", error) from error
    if not isinstance(state, dict) or "settings" not in state:
        raise _arguments.wrong_value("checkpoint", f"{path} to hold a training", "another object")
    return state
